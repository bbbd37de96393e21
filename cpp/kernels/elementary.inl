// Elementary functions on vectors: our own, so that every instruction set gives the same bits. Absolute and
// relative errors are bounded in tests/test_kernels.py.
#pragma once

#include "simd.h"

namespace fastmlp {
namespace {

// 2^n and expm1(r) with exp(x) = 2^n (1 + expm1(r)), |r| <= ln(2) / 2, for -87 <= x <= 0. Cody and Waite's two-part
// ln 2 makes r accurate also without a fused multiply-add; the polynomial is the Taylor series to r^7 (rest 5e-9).
struct ScaledExp {
    Vec scale;
    Vec expm1_r;
};

FASTMLP_INLINE ScaledExp scaled_exp(Vec x) {
    // Adding 1.5 * 2^23 rounds to an integer, ties to even; the low bits then hold n + 127, the exponent of 2^n.
    const Vec round_and_bias = splat(12582912.0f + 127.0f);
    const Vec t = fma(x, splat(1.44269504f), round_and_bias);
    const Vec n = t - round_and_bias;
    const Vec scale = from_bits(shift_left<23>(bits(t)));
    Vec r = fma(n, splat(-0.693359375f), x);
    r = fma(n, splat(2.12194440e-4f), r);
    Vec p = splat(1.0f / 5040.0f);
    p = fma(p, r, splat(1.0f / 720.0f));
    p = fma(p, r, splat(1.0f / 120.0f));
    p = fma(p, r, splat(1.0f / 24.0f));
    p = fma(p, r, splat(1.0f / 6.0f));
    p = fma(p, r, splat(0.5f));
    p = fma(p * r, r, r);
    return {scale, p};
}

// exp(x) for x <= 0. Below -87, where the result would leave the normal numbers, it is 0. NaN stays NaN.
FASTMLP_INLINE Vec exp_nonpositive(Vec x) {
    const Vec lowest = splat(-87.0f);
    const ScaledExp e = scaled_exp(max_keep_nan(lowest, x));
    return where_less(x, lowest, splat(0.0f), fma(e.scale, e.expm1_r, e.scale));
}

FASTMLP_INLINE Vec absolute(Vec x) { return from_bits(bits(x) & splat_bits(0x7fffffff)); }
FASTMLP_INLINE Vec with_sign_of(Vec magnitude, Vec x) {
    return from_bits(bits(magnitude) | (bits(x) & splat_bits(0x80000000u)));
}

// 1 / (1 + exp(-x)), from e = exp(-|x|) on both sides.
FASTMLP_INLINE Vec sigmoid_from(Vec x, Vec e) {
    const Vec one = splat(1.0f);
    return where_less(x, splat(0.0f), e, one) / (one + e);
}
FASTMLP_INLINE Vec sigmoid(Vec x) { return sigmoid_from(x, exp_nonpositive(splat(0.0f) - absolute(x))); }

// -expm1(-2 |x|) / (2 + expm1(-2 |x|)), with the sign of x; accurate in relative terms near 0.
FASTMLP_INLINE Vec hyperbolic_tangent(Vec x) {
    const Vec y = splat(-2.0f) * absolute(x);
    const ScaledExp e = scaled_exp(max_keep_nan(splat(-87.0f), y));
    const Vec expm1 = fma(e.scale, e.expm1_r, e.scale - splat(1.0f));
    return with_sign_of((splat(0.0f) - expm1) / (splat(2.0f) + expm1), x);
}

// Standard normal cumulative distribution and density, for gelu. The first is 1 - q or q with
// q = P(t) exp(-x^2 / 2) / 2, t = 1 / (1 + 0.3275911 |x| / sqrt(2)): Abramowitz & Stegun (1964), 7.1.26, whose
// absolute error is below 0.75e-7.
struct Normal {
    Vec cumulative;
    Vec density;
};

FASTMLP_INLINE Normal normal_distribution(Vec x) {
    const Vec half = splat(0.5f);
    const Vec e = exp_nonpositive(splat(-0.5f) * x * x);
    const Vec t = splat(1.0f) / fma(absolute(x), splat(0.3275911f * 0.70710678f), splat(1.0f));
    Vec p = splat(1.061405429f);
    p = fma(p, t, splat(-1.453152027f));
    p = fma(p, t, splat(1.421413741f));
    p = fma(p, t, splat(-0.284496736f));
    p = fma(p, t, splat(0.254829592f));
    const Vec q = half * (p * t) * e;
    return {where_less(x, splat(0.0f), q, splat(1.0f) - q), splat(0.39894228f) * e};
}

// log(x) for finite x >= 1: x = 2^n m, sqrt(1/2) <= m < sqrt(2), log(m) = 2 atanh((m - 1) / (m + 1)) by its Taylor
// series to the ninth power (rest 1e-9). NaN and infinity give no number that matters: callers add their own NaN.
FASTMLP_INLINE Vec log_at_least_one(Vec x) {
    const IntVec sqrt_half = splat_bits(0x3f3504f3);
    const IntVec exponent = shift_right<23>(bits(x) - sqrt_half);
    const Vec m = from_bits(bits(x) - shift_left<23>(exponent));
    const Vec f = m - splat(1.0f);
    const Vec s = f / (f + splat(2.0f));
    const Vec s2 = s * s;
    Vec p = splat(2.0f / 9.0f);
    p = fma(p, s2, splat(2.0f / 7.0f));
    p = fma(p, s2, splat(2.0f / 5.0f));
    p = fma(p, s2, splat(2.0f / 3.0f));
    p = fma(p, s2, splat(2.0f));
    const Vec n = to_float(exponent);
    return fma(n, splat(0.693359375f), fma(p, s, n * splat(-2.12194440e-4f)));
}

// log(1 + x) for 0 <= x <= 1: 2 atanh(s) with s = x / (2 + x) <= 1/3, by its Taylor series to s^17 (rest 2e-10 of it);
// accurate in relative terms near 0. NaN stays NaN.
FASTMLP_INLINE Vec log_one_plus(Vec x) {
    const Vec s = x / (x + splat(2.0f));
    const Vec s2 = s * s;
    Vec p = splat(2.0f / 17.0f);
    p = fma(p, s2, splat(2.0f / 15.0f));
    p = fma(p, s2, splat(2.0f / 13.0f));
    p = fma(p, s2, splat(2.0f / 11.0f));
    p = fma(p, s2, splat(2.0f / 9.0f));
    p = fma(p, s2, splat(2.0f / 7.0f));
    p = fma(p, s2, splat(2.0f / 5.0f));
    p = fma(p, s2, splat(2.0f / 3.0f));
    p = fma(p, s2, splat(2.0f));
    return p * s;
}

FASTMLP_INLINE Vec round_bfloat16(Vec x) {
    const IntVec u = bits(x);
    const IntVec odd = shift_right<16>(u) & splat_bits(1);
    return from_bits((u + odd + splat_bits(0x7fff)) & splat_bits(0xffff0000u));
}

FASTMLP_INLINE Line rounded(const Line& a, Rounding rounding) {
    return rounding == Rounding::kNone ? a : map([](Vec x) { return round_bfloat16(x); }, a);
}

}  // namespace
}  // namespace fastmlp
