// Bias and activation, forward and backward. One functor per activation; the loops are shared.
#pragma once

#include "elementary.inl"

namespace fastmlp {
namespace {

struct Identity {
    static FASTMLP_INLINE Vec value(Vec z) { return z; }
    static FASTMLP_INLINE Vec slope(Vec) { return splat(1.0f); }
};
struct Relu {
    // Adding 0 turns -0 into 0: max_keep_nan leaves the sign of zero open.
    static FASTMLP_INLINE Vec value(Vec z) { return max_keep_nan(splat(0.0f), z) + splat(0.0f); }
    static FASTMLP_INLINE Vec slope(Vec a) { return where_less(splat(0.0f), a, splat(1.0f), splat(0.0f)); }
};
struct LeakyRelu {
    static FASTMLP_INLINE Vec value(Vec z) { return where_less(z, splat(0.0f), splat(kLeakySlope) * z, z); }
    static FASTMLP_INLINE Vec slope(Vec a) { return where_less(splat(0.0f), a, splat(1.0f), splat(kLeakySlope)); }
};
struct Tanh {
    static FASTMLP_INLINE Vec value(Vec z) { return hyperbolic_tangent(z); }
    static FASTMLP_INLINE Vec slope(Vec a) { return fma(splat(0.0f) - a, a, splat(1.0f)); }
};
struct Sigmoid {
    static FASTMLP_INLINE Vec value(Vec z) { return sigmoid(z); }
    static FASTMLP_INLINE Vec slope(Vec a) { return a * (splat(1.0f) - a); }
};
// Hendrycks & Gimpel (2016), the exact form z * Phi(z). Its slope is a function of z, not of the value.
struct Gelu {
    static FASTMLP_INLINE Vec value(Vec z) { return z * normal_distribution(z).cumulative; }
    static FASTMLP_INLINE Vec slope(Vec z) {
        const Normal normal = normal_distribution(z);
        return fma(z, normal.density, normal.cumulative);
    }
};

template <class F>
FASTMLP_INLINE void with_activation(Activation activation, F f) {
    switch (activation) {
        case Activation::kIdentity:
            f(Identity{});
            break;
        case Activation::kRelu:
            f(Relu{});
            break;
        case Activation::kLeakyRelu:
            f(LeakyRelu{});
            break;
        case Activation::kTanh:
            f(Tanh{});
            break;
        case Activation::kSigmoid:
            f(Sigmoid{});
            break;
        case Activation::kGelu:
            f(Gelu{});
            break;
    }
}

// Both copy their arguments, which stores might change, for all that the compiler knows.
void bias_activation(const BiasActivation& given) {
    const BiasActivation args = given;
    with_activation(args.activation, [&](auto function) {
        for (std::size_t panel = 0; panel < args.panels; ++panel) {
            Line scale = splat_line(args.scale);
            if (args.scales != nullptr) scale = scale * load_line(args.scales + panel * kPanel);
            const Line bias = load_line(args.bias + panel * kPanel);
            const std::size_t first = panel * args.panel_stride;
            for (std::size_t at = first; at < first + args.rows * kPanel; at += kPanel) {
                const Line z = fma(scale, load_line(args.z + at), bias);
                if (args.saved != nullptr) store_line(args.saved + at, z);
                const Line value = map([&](Vec x) { return function.value(x); }, z);
                store_line(args.z + at, rounded(value, args.rounding));
            }
        }
    });
}

void activation_backward(const ActivationBackward& given) {
    const ActivationBackward args = given;
    with_activation(args.activation, [&](auto function) {
        for (std::size_t panel = 0; panel < args.panels; ++panel) {
            const std::size_t first = panel * args.panel_stride;
            for (std::size_t at = first; at < first + args.rows * kPanel; at += kPanel) {
                const Line slope = map([&](Vec x) { return function.slope(x); }, load_line(args.saved + at));
                store_line(args.delta + at, rounded(load_line(args.delta + at) * slope, args.rounding));
            }
        }
    });
}

}  // namespace
}  // namespace fastmlp
