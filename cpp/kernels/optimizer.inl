// Optimiser updates, element by element.
#pragma once

#include "packing.inl"

namespace fastmlp {
namespace {

// Where the new values go as products take them in mixed_bfloat16, see Parameters::operand: nowhere, or there, through
// the caches or past them.
enum class Operands { kNone, kCached, kStreamed };

// Writes them line after line.
template <Operands kWhere>
class OperandWriter {
 public:
    explicit FASTMLP_INLINE OperandWriter(float* operand) : next_(operand) {}

#if defined(FASTMLP_PAIR_PRODUCTS)
    FASTMLP_INLINE void put(const Line& value) {
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
        check_.see_bfloat16(value);
        store_line<kStreams>(next_, rounded(value, Rounding::kBfloat16));
        next_ += kPanel;
    }
    FASTMLP_INLINE void finish() {}

 private:
#endif
    static constexpr bool kStreams = kWhere == Operands::kStreamed;
    FiniteCheck check_;
    float* next_;

 public:
    FASTMLP_INLINE bool all_finite() const { return check_.all_finite(); }
};

template <>
class OperandWriter<Operands::kNone> {
 public:
    explicit FASTMLP_INLINE OperandWriter(float*) {}
    FASTMLP_INLINE void put(const Line&) {}
    FASTMLP_INLINE void finish() {}
    FASTMLP_INLINE bool all_finite() const { return true; }
};

// Whether a line is begun before the one ahead of it is finished, so that the square root of one and the division of
// the other, which take long, do not wait for one another. Where a line is many vectors, these do not either.
constexpr bool kBeginsAhead = kVecs == 1;

template <bool kStreamsValues, Operands kOperands, class Begin, class Finish>
FASTMLP_INLINE bool update_lines(float* values, float* operands, std::size_t count, Begin begin, Finish finish) {
    if (count == 0) return true;
    FiniteCheck check;
    OperandWriter<kOperands> operand(operands);
    const auto end = [&](std::size_t at, const Line& first, const Line& second) __attribute__((always_inline)) {
        const Line value = finish(at, first, second, check);
        store_line<kStreamsValues>(values + at, value);
        operand.put(value);
    };
    Line first, second;
    if constexpr (kBeginsAhead) {
        begin(0, first, second);
        for (std::size_t next = kPanel; next < count; next += kPanel) {
            Line next_first, next_second;
            begin(next, next_first, next_second);
            end(next - kPanel, first, second);
            first = next_first;
            second = next_second;
        }
        end(count - kPanel, first, second);
    } else {
        for (std::size_t at = 0; at < count; at += kPanel) {
            begin(at, first, second);
            end(at, first, second);
        }
    }
    operand.finish();
    if (kStreamsValues || kOperands == Operands::kStreamed) finish_streams();
    return check.all_finite() && operand.all_finite();
}

// begin(at, first, second) updates the moments of the line at this offset and makes two lines of them, of which
// finish(at, first, second, check) returns its parameters, having shown to check what must be finite.
template <class Begin, class Finish>
FASTMLP_INLINE bool update_parameters(const Update& u, const Parameters& p, std::size_t count, Begin begin,
                                      Finish finish) {
    if (p.operand == nullptr)
        return u.streams ? update_lines<true, Operands::kNone>(p.value, nullptr, count, begin, finish)
                         : update_lines<false, Operands::kNone>(p.value, nullptr, count, begin, finish);
    return u.streams ? update_lines<false, Operands::kStreamed>(p.value, p.operand, count, begin, finish)
                     : update_lines<false, Operands::kCached>(p.value, p.operand, count, begin, finish);
}

// Each variant is compiled on its own, so that the plain updates carry nothing of the others. What u and p hold is
// copied first: for all that the compiler knows, a store of parameters might change it.
enum class Decay { kNone, kIntoGradient, kDecoupled };

// kHalf: see Update::half; only for sets that have halves.
template <Decay kDecay, bool kHalf>
bool adam_with(const Update& u, const float* gradient, const Parameters& p, std::size_t count) {
    float *const values = p.value, *const first_moments = p.first_moment, *const second_moments = p.second_moment;
    const std::ptrdiff_t ahead = u.prefetch;
    const Line scale = splat_line(u.gradient_scale);
    const Line minus_rate = splat_line(-u.rate);
    const Line beta_1 = splat_line(u.beta_1), one_minus_beta_1 = splat_line(u.one_minus_beta_1);
    const Line beta_2 = splat_line(u.beta_2), one_minus_beta_2 = splat_line(u.one_minus_beta_2);
    const Line correction = splat_line(u.second_correction), epsilon = splat_line(u.epsilon);
    [[maybe_unused]] const Line decay = splat_line(kDecay == Decay::kIntoGradient ? u.l2 : -u.decoupled_decay);
    const auto begin = [&](std::size_t at, Line& moment, Line& root) __attribute__((always_inline)) {
        prefetch_to_write(values + at, ahead);
        prefetch_to_write(first_moments + at, ahead);
        prefetch_to_write(second_moments + at, ahead);
        Line g = scale * load_line(gradient + at);
        if constexpr (kDecay == Decay::kIntoGradient) g = fma(decay, load_line(values + at), g);
        const Line m = fma(beta_1, load_line(first_moments + at), one_minus_beta_1 * g);
        const Line v = fma(beta_2, load_line(second_moments + at), one_minus_beta_2 * g * g);
        store_line(first_moments + at, m);
        store_line(second_moments + at, v);
        moment = m;
        root = map([](Vec x) { return kHalf ? square_root_lower(x) : square_root(x); }, correction * v);
    };
    const auto finish = [&](std::size_t at, const Line& moment, const Line& root,
                            FiniteCheck& check) __attribute__((always_inline)) {
        const Line w = load_line(values + at);
        const Line direction =
            map([](Vec x, Vec y) { return kHalf ? divide_lower(x, y) : x / y; }, moment, root + epsilon);
        const Line value =
            kDecay == Decay::kDecoupled ? w + fma(minus_rate, direction, decay * w) : fma(minus_rate, direction, w);
        check.see(value + root);  // an infinite root would make steps of 0 for ever, unnoticed
        return value;
    };
    return update_parameters(u, p, count, begin, finish);
}

template <bool kHalf>
bool adam_of(const Update& u, const float* gradient, const Parameters& p, std::size_t count) {
    if (u.decoupled_decay != 0.0f) return adam_with<Decay::kDecoupled, kHalf>(u, gradient, p, count);
    if (u.l2 != 0.0f) return adam_with<Decay::kIntoGradient, kHalf>(u, gradient, p, count);
    return adam_with<Decay::kNone, kHalf>(u, gradient, p, count);
}

bool adam(const Update& u, const float* gradient, const Parameters& p, std::size_t count) {
    return kHasHalves && u.half ? adam_of<kHasHalves>(u, gradient, p, count) : adam_of<false>(u, gradient, p, count);
}

template <bool kDecays, bool kNesterov>
bool sgd_with(const Update& u, const float* gradient, const Parameters& p, std::size_t count) {
    float *const values = p.value, *const moments = p.first_moment;
    const std::ptrdiff_t ahead = u.prefetch;
    const Line scale = splat_line(u.gradient_scale);
    const Line rate = splat_line(u.rate);
    const Line momentum = splat_line(u.beta_1);
    [[maybe_unused]] const Line l2 = splat_line(u.l2);
    const auto begin = [&](std::size_t at, Line& w, Line& step) __attribute__((always_inline)) {
        prefetch_to_write(values + at, ahead);
        prefetch_to_write(moments + at, ahead);
        w = load_line(values + at);
        Line g = scale * load_line(gradient + at);
        if constexpr (kDecays) g = fma(l2, w, g);
        const Line v = fma(momentum, load_line(moments + at), g);
        store_line(moments + at, v);
        step = kNesterov ? fma(momentum, v, g) : v;
    };
    auto finish = [&](std::size_t, const Line& w, const Line& step, FiniteCheck& check) __attribute__((always_inline)) {
        const Line value = w - rate * step;
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
    OperandWriter<Operands::kCached> writer(operand);
    for (std::size_t row = 0; row < rows; ++row) writer.put(load_line(value + row * kPanel));
    writer.finish();
}

}  // namespace
}  // namespace fastmlp
