// Optimiser updates, element by element.
#pragma once

#include "packing.inl"

namespace fastmlp {
namespace {

// Writes new values as products take them in mixed_bfloat16, line after line: see Parameters::operand.
template <bool kStreams>
class OperandWriter {
 public:
    explicit FASTMLP_INLINE OperandWriter(float* operand) : next_(operand) {}

#if defined(FASTMLP_PAIR_PRODUCTS)
    FASTMLP_INLINE void put(const Line& value) {
        if (next_ == nullptr) return;
        check_.see_bfloat16(value);
        if (has_first_) {
            store_line<kStreams>(next_, pairs_of_rows(first_, value));
            next_ += kPanel;
        }
        first_ = value;
        has_first_ = !has_first_;
    }
    FASTMLP_INLINE void finish() {
        if (has_first_) store_line<kStreams>(next_, pairs_of_rows(first_, splat_line(0.0f)));
    }

 private:
    Line first_ = splat_line(0.0f);
    bool has_first_ = false;
#else
    FASTMLP_INLINE void put(const Line& value) {
        if (next_ == nullptr) return;
        check_.see_bfloat16(value);
        store_line<kStreams>(next_, rounded(value, Rounding::kBfloat16));
        next_ += kPanel;
    }
    FASTMLP_INLINE void finish() {}

 private:
#endif
    FiniteCheck check_;
    float* next_;

 public:
    FASTMLP_INLINE bool all_finite() const { return check_.all_finite(); }
};

// Whether a line is begun before the one ahead of it is finished, so that the square root of one and the division of
// the other, which take long, do not wait for one another. Where a line is many vectors, these do not either.
constexpr bool kBeginsAhead = kVecs == 1;

template <bool kStreamsValues, bool kStreamsOperand, class Begin, class Finish>
FASTMLP_INLINE bool update_lines(const Parameters& p, std::size_t count, Begin begin, Finish finish) {
    if (count == 0) return true;
    FiniteCheck check;
    OperandWriter<kStreamsOperand> operand(p.operand);
    const auto end = [&](std::size_t at, const auto& begun) __attribute__((always_inline)) {
        const Line value = finish(at, begun, check);
        store_line<kStreamsValues>(p.value + at, value);
        operand.put(value);
    };
    if constexpr (kBeginsAhead) {
        auto begun = begin(0);
        for (std::size_t next = kPanel; next < count; next += kPanel) {
            const auto ahead = begin(next);
            end(next - kPanel, begun);
            begun = ahead;
        }
        end(count - kPanel, begun);
    } else {
        for (std::size_t at = 0; at < count; at += kPanel) end(at, begin(at));
    }
    operand.finish();
    if (kStreamsValues || kStreamsOperand) finish_streams();
    return check.all_finite() && operand.all_finite();
}

// begin(at) updates the moments of the line at this offset; finish(at, what begin returned, check) returns its
// parameters, having shown to check what must be finite.
template <class Begin, class Finish>
FASTMLP_INLINE bool update_parameters(const Update& u, const Parameters& p, std::size_t count, Begin begin,
                                      Finish finish) {
    if (!u.streams) return update_lines<false, false>(p, count, begin, finish);
    return p.operand == nullptr ? update_lines<true, false>(p, count, begin, finish)
                                : update_lines<false, true>(p, count, begin, finish);
}

// Each variant is compiled on its own, so that the plain updates carry nothing of the others.
enum class Decay { kNone, kIntoGradient, kDecoupled };

template <Decay kDecay>
bool adam_with(const Update& u, const float* gradient, const Parameters& p, std::size_t count) {
    const Line scale = splat_line(u.gradient_scale);
    const Line minus_rate = splat_line(-u.rate);
    const Line beta_1 = splat_line(u.beta_1), one_minus_beta_1 = splat_line(u.one_minus_beta_1);
    const Line beta_2 = splat_line(u.beta_2), one_minus_beta_2 = splat_line(u.one_minus_beta_2);
    const Line correction = splat_line(u.second_correction), epsilon = splat_line(u.epsilon);
    [[maybe_unused]] const Line decay = splat_line(kDecay == Decay::kIntoGradient ? u.l2 : -u.decoupled_decay);
    struct Begun {
        Line moment, root;
    };
    const auto begin = [&](std::size_t at) __attribute__((always_inline)) {
        prefetch_to_write(p.value + at, u.prefetch);
        prefetch_to_write(p.first_moment + at, u.prefetch);
        prefetch_to_write(p.second_moment + at, u.prefetch);
        Line g = scale * load_line(gradient + at);
        if constexpr (kDecay == Decay::kIntoGradient) g = fma(decay, load_line(p.value + at), g);
        const Line m = fma(beta_1, load_line(p.first_moment + at), one_minus_beta_1 * g);
        const Line v = fma(beta_2, load_line(p.second_moment + at), one_minus_beta_2 * g * g);
        store_line(p.first_moment + at, m);
        store_line(p.second_moment + at, v);
        return Begun{m, map([](Vec x) { return square_root(x); }, correction * v)};
    };
    const auto finish = [&](std::size_t at, const Begun& begun, FiniteCheck& check) __attribute__((always_inline)) {
        const Line w = load_line(p.value + at);
        const Line direction = begun.moment / (begun.root + epsilon);
        const Line value =
            kDecay == Decay::kDecoupled ? w + fma(minus_rate, direction, decay * w) : fma(minus_rate, direction, w);
        check.see(value + begun.root);  // an infinite root would make steps of 0 for ever, unnoticed
        return value;
    };
    return update_parameters(u, p, count, begin, finish);
}

bool adam(const Update& u, const float* gradient, const Parameters& p, std::size_t count) {
    if (u.decoupled_decay != 0.0f) return adam_with<Decay::kDecoupled>(u, gradient, p, count);
    if (u.l2 != 0.0f) return adam_with<Decay::kIntoGradient>(u, gradient, p, count);
    return adam_with<Decay::kNone>(u, gradient, p, count);
}

template <bool kDecays, bool kNesterov>
bool sgd_with(const Update& u, const float* gradient, const Parameters& p, std::size_t count) {
    const Line scale = splat_line(u.gradient_scale);
    const Line rate = splat_line(u.rate);
    const Line momentum = splat_line(u.beta_1);
    [[maybe_unused]] const Line l2 = splat_line(u.l2);
    struct Begun {
        Line value, step;
    };
    const auto begin = [&](std::size_t at) __attribute__((always_inline)) {
        prefetch_to_write(p.value + at, u.prefetch);
        prefetch_to_write(p.first_moment + at, u.prefetch);
        const Line w = load_line(p.value + at);
        Line g = scale * load_line(gradient + at);
        if constexpr (kDecays) g = fma(l2, w, g);
        const Line v = fma(momentum, load_line(p.first_moment + at), g);
        store_line(p.first_moment + at, v);
        return Begun{w, kNesterov ? fma(momentum, v, g) : v};
    };
    const auto finish = [&](std::size_t, const Begun& begun, FiniteCheck& check) __attribute__((always_inline)) {
        const Line value = begun.value - rate * begun.step;
        check.see(value);
        return value;
    };
    return update_parameters(u, p, count, begin, finish);
}

bool sgd(const Update& u, const float* gradient, const Parameters& p, std::size_t count) {
    const bool decays = u.l2 != 0.0f;
    const auto update = u.nesterov ? (decays ? sgd_with<true, true> : sgd_with<false, true>)
                                   : (decays ? sgd_with<true, false> : sgd_with<false, false>);
    return update(u, gradient, p, count);
}

bool average(float* averages, const float* value, float part, std::size_t count) {
    FiniteCheck check;
    const Line parts = splat_line(part);
    for (std::size_t at = 0; at < count; at += kPanel) {
        Line a = load_line(value + at);
        if (part != 1.0f) {
            const Line before = load_line(averages + at);
            a = fma(parts, a - before, before);
        }
        check.see(a);
        store_line(averages + at, a);
    }
    return check.all_finite();
}

void write_operand(const float* value, float* operand, std::size_t rows) {
    OperandWriter<false> writer(operand);
    for (std::size_t row = 0; row < rows; ++row) writer.put(load_line(value + row * kPanel));
    writer.finish();
}

}  // namespace
}  // namespace fastmlp
