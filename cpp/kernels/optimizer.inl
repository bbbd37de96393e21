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

bool adam(const Update& u, const float* gradient, const Parameters& p, std::size_t count) {
    const Line scale = splat_line(u.gradient_scale);
    const Line rate = splat_line(u.rate);
    const Line beta_1 = splat_line(u.beta_1), one_minus_beta_1 = splat_line(u.one_minus_beta_1);
    const Line beta_2 = splat_line(u.beta_2), one_minus_beta_2 = splat_line(u.one_minus_beta_2);
    const Line correction = splat_line(u.second_correction), epsilon = splat_line(u.epsilon);
    Line not_finite = splat_line(0.0f);
    for (std::size_t at = 0; at < count; at += kPanel) {
        const Line g = scale * load_line(gradient + at);
        const Line m = fma(beta_1, load_line(p.first_moment + at), one_minus_beta_1 * g);
        const Line v = fma(beta_2, load_line(p.second_moment + at), one_minus_beta_2 * g * g);
        const Line root = map([](Vec x) { return square_root(x); }, correction * v);
        store_line(p.first_moment + at, m);
        store_line(p.second_moment + at, v);
        store_parameter(p, at, load_line(p.value + at) - rate * m / (root + epsilon), not_finite);
    }
    return sum_lanes(not_finite) == 0.0f;
}

bool sgd(const Update& u, const float* gradient, const Parameters& p, std::size_t count) {
    const Line scale = splat_line(u.gradient_scale);
    const Line rate = splat_line(u.rate);
    const Line momentum = splat_line(u.beta_1);
    Line not_finite = splat_line(0.0f);
    for (std::size_t at = 0; at < count; at += kPanel) {
        const Line g = scale * load_line(gradient + at);
        const Line v = fma(momentum, load_line(p.first_moment + at), g);
        store_line(p.first_moment + at, v);
        store_parameter(p, at, load_line(p.value + at) - rate * v, not_finite);
    }
    return sum_lanes(not_finite) == 0.0f;
}

void round_to_bfloat16(const float* value, float* operand, std::size_t count) {
    for (std::size_t at = 0; at < count; at += kPanel)
        store_line(operand + at, rounded(load_line(value + at), Rounding::kBfloat16));
}

}  // namespace
}  // namespace fastmlp
