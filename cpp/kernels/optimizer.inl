// Optimiser updates, element by element.
#pragma once

#include "packing.inl"

namespace fastmlp {
namespace {

// Writes new values as products take them in mixed_bfloat16, line after line: see Parameters::operand.
class OperandWriter {
 public:
    explicit FASTMLP_INLINE OperandWriter(float* operand) : next_(operand) {}

#if defined(FASTMLP_PAIR_PRODUCTS)
    FASTMLP_INLINE void put(const Line& value) {
        if (next_ == nullptr) return;
        if (has_first_) {
            store_pairs_of_rows(next_, first_, value);
            next_ += kPanel;
        }
        first_ = value;
        has_first_ = !has_first_;
    }
    FASTMLP_INLINE void finish() {
        if (has_first_) store_pairs_of_rows(next_, first_, splat_line(0.0f));
    }

 private:
    Line first_ = splat_line(0.0f);
    bool has_first_ = false;
#else
    FASTMLP_INLINE void put(const Line& value) {
        if (next_ == nullptr) return;
        store_line(next_, rounded(value, Rounding::kBfloat16));
        next_ += kPanel;
    }
    FASTMLP_INLINE void finish() {}

 private:
#endif
    float* next_;
};

// new_value(at) updates the moments of the line at this offset and returns its parameters.
template <class NewValue>
FASTMLP_INLINE bool update_parameters(const Parameters& p, std::size_t count, NewValue new_value) {
    FiniteCheck check;
    OperandWriter operand(p.operand);
    for (std::size_t at = 0; at < count; at += kPanel) {
        const Line value = new_value(at);
        check.see(value);
        store_line(p.value + at, value);
        operand.put(value);
    }
    operand.finish();
    return check.all_finite();
}

bool adam(const Update& u, const float* gradient, const Parameters& p, std::size_t count) {
    const Line scale = splat_line(u.gradient_scale);
    const Line rate = splat_line(u.rate);
    const Line beta_1 = splat_line(u.beta_1), one_minus_beta_1 = splat_line(u.one_minus_beta_1);
    const Line beta_2 = splat_line(u.beta_2), one_minus_beta_2 = splat_line(u.one_minus_beta_2);
    const Line correction = splat_line(u.second_correction), epsilon = splat_line(u.epsilon);
    return update_parameters(p, count, [&](std::size_t at) {
        prefetch_to_write(p.value + at, u.prefetch);
        prefetch_to_write(p.first_moment + at, u.prefetch);
        prefetch_to_write(p.second_moment + at, u.prefetch);
        const Line g = scale * load_line(gradient + at);
        const Line m = fma(beta_1, load_line(p.first_moment + at), one_minus_beta_1 * g);
        const Line v = fma(beta_2, load_line(p.second_moment + at), one_minus_beta_2 * g * g);
        const Line root = map([](Vec x) { return square_root(x); }, correction * v);
        store_line(p.first_moment + at, m);
        store_line(p.second_moment + at, v);
        return load_line(p.value + at) - rate * m / (root + epsilon);
    });
}

bool sgd(const Update& u, const float* gradient, const Parameters& p, std::size_t count) {
    const Line scale = splat_line(u.gradient_scale);
    const Line rate = splat_line(u.rate);
    const Line momentum = splat_line(u.beta_1);
    return update_parameters(p, count, [&](std::size_t at) {
        prefetch_to_write(p.value + at, u.prefetch);
        prefetch_to_write(p.first_moment + at, u.prefetch);
        const Line g = scale * load_line(gradient + at);
        const Line v = fma(momentum, load_line(p.first_moment + at), g);
        store_line(p.first_moment + at, v);
        return load_line(p.value + at) - rate * v;
    });
}

void write_operand(const float* value, float* operand, std::size_t rows) {
    OperandWriter writer(operand);
    for (std::size_t row = 0; row < rows; ++row) writer.put(load_line(value + row * kPanel));
    writer.finish();
}

}  // namespace
}  // namespace fastmlp
