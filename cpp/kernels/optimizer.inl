// Optimiser updates, element by element.
#pragma once

#include "elementary.inl"

namespace fastmlp {
namespace {

// Adds to not_finite 0 for each finite value and NaN for any other.
FASTMLP_INLINE void store_parameter(const Parameters& p, std::size_t at, const Line& value, Line& not_finite) {
    not_finite = fma(value, splat_line(0.0f), not_finite);
    store_line(p.value + at, value);
    if (p.operand != nullptr) store_line(p.operand + at, rounded(value, Rounding::kBfloat16));
}

// Each variant is compiled on its own, so that the plain updates carry nothing of the others.
enum class Decay { kNone, kIntoGradient, kDecoupled };

template <Decay kDecay>
bool adam_with(const Update& u, const float* gradient, const Parameters& p, std::size_t count) {
    const Line scale = splat_line(u.gradient_scale);
    const Line rate = splat_line(u.rate);
    const Line beta_1 = splat_line(u.beta_1), one_minus_beta_1 = splat_line(u.one_minus_beta_1);
    const Line beta_2 = splat_line(u.beta_2), one_minus_beta_2 = splat_line(u.one_minus_beta_2);
    const Line correction = splat_line(u.second_correction), epsilon = splat_line(u.epsilon);
    [[maybe_unused]] const Line decay = splat_line(kDecay == Decay::kIntoGradient ? u.l2 : u.decoupled_decay);
    Line not_finite = splat_line(0.0f);
    for (std::size_t at = 0; at < count; at += kPanel) {
        const Line w = load_line(p.value + at);
        Line g = scale * load_line(gradient + at);
        if constexpr (kDecay == Decay::kIntoGradient) g = fma(decay, w, g);
        const Line m = fma(beta_1, load_line(p.first_moment + at), one_minus_beta_1 * g);
        const Line v = fma(beta_2, load_line(p.second_moment + at), one_minus_beta_2 * g * g);
        const Line root = map([](Vec x) { return square_root(x); }, correction * v);
        store_line(p.first_moment + at, m);
        store_line(p.second_moment + at, v);
        Line step = rate * m / (root + epsilon);
        if constexpr (kDecay == Decay::kDecoupled) step = fma(decay, w, step);
        store_parameter(p, at, w - step, not_finite);
    }
    return sum_lanes(not_finite) == 0.0f;
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
    Line not_finite = splat_line(0.0f);
    for (std::size_t at = 0; at < count; at += kPanel) {
        const Line w = load_line(p.value + at);
        Line g = scale * load_line(gradient + at);
        if constexpr (kDecays) g = fma(l2, w, g);
        const Line v = fma(momentum, load_line(p.first_moment + at), g);
        store_line(p.first_moment + at, v);
        const Line step = kNesterov ? fma(momentum, v, g) : v;
        store_parameter(p, at, w - rate * step, not_finite);
    }
    return sum_lanes(not_finite) == 0.0f;
}

bool sgd(const Update& u, const float* gradient, const Parameters& p, std::size_t count) {
    const bool decays = u.l2 != 0.0f;
    const auto update = u.nesterov ? (decays ? sgd_with<true, true> : sgd_with<false, true>)
                                   : (decays ? sgd_with<true, false> : sgd_with<false, false>);
    return update(u, gradient, p, count);
}

void round_to_bfloat16(const float* value, float* operand, std::size_t count) {
    for (std::size_t at = 0; at < count; at += kPanel)
        store_line(operand + at, rounded(load_line(value + at), Rounding::kBfloat16));
}

}  // namespace
}  // namespace fastmlp
