// Losses of outputs that are independent of one another: the mean over the outputs of a loss of each.
#pragma once

#include "elementary.inl"
#include "packing.inl"
#include "softmax.inl"

namespace fastmlp {
namespace {

struct LossAndSlope {
    Line loss;
    Line slope;  // d loss / d output
};

// f(output, target) gives the loss of each lane's output, and a slope that is to be multiplied by slope_factor.
template <class F>
FASTMLP_INLINE void mean_losses(const RowLosses& args, float slope_factor, F f) {
    const float n_outputs = static_cast<float>(args.n_outputs);
    const float factor = slope_factor / n_outputs;
    for (std::size_t i = 0; i < args.rows; ++i) {
        const Row row{args.outputs + i * kPanel, args.panel_stride, args.n_outputs};
        const std::size_t sample = source_row(args.index, i);
        const float* target = args.targets + sample * args.n_outputs;
        const Line delta_scale = splat_line(delta_scale_of(args, sample) * factor);
        Line sum = splat_line(0.0f);
        for (std::size_t panel = 0; panel < row.panels(); ++panel) {
            const Line t = target_line(target, panel, args.n_outputs);
            const LossAndSlope l = f(load_line(row.line(panel)), t);
            sum = sum + keep_classes(l.loss, panel, args.n_outputs, 0.0f);
            const Line delta = keep_classes(l.slope, panel, args.n_outputs, 0.0f) * delta_scale;
            store_line(row.line(panel), rounded(delta, args.rounding));
        }
        args.losses[i] = sum_lanes(sum) / n_outputs;
    }
}

// With e = exp(-|z|): the loss is max(z, 0) - t z + log(1 + e), and none of its terms overflows. An infinite z gives
// NaN or infinity, whatever t.
void sigmoid_cross_entropy(const RowLosses& args) {
    const Line kept = splat_line(1.0f - args.label_smoothing), uniform = splat_line(0.5f * args.label_smoothing);
    mean_losses(args, 1.0f, [&](const Line& outputs, const Line& given) {
        const Line targets = fma(kept, given, uniform);
        const Line e = map([](Vec z) { return exp_nonpositive(splat(0.0f) - absolute(z)); }, outputs);
        const Line loss = map(
            [](Vec z, Vec t, Vec x) {
                const Vec linear = fma(splat(0.0f) - t, z, max_keep_nan(splat(0.0f), z));
                return linear + log_one_plus(x);
            },
            outputs, targets, e);
        const Line slope = map([](Vec z, Vec t, Vec x) { return sigmoid_from(z, x) - t; }, outputs, targets, e);
        return LossAndSlope{loss, slope};
    });
}

void squared_error(const RowLosses& args) {
    mean_losses(args, 2.0f, [](const Line& outputs, const Line& targets) {
        const Line difference = outputs - targets;
        return LossAndSlope{difference * difference, difference};
    });
}

void sigmoid(float* outputs, std::size_t outputs_panel_stride, std::size_t rows, std::size_t n_outputs) {
    for (std::size_t i = 0; i < rows; ++i) {
        const Row row{outputs + i * kPanel, outputs_panel_stride, n_outputs};
        for (std::size_t panel = 0; panel < row.panels(); ++panel) {
            const Line p = map([](Vec z) { return sigmoid(z); }, load_line(row.line(panel)));
            store_line(row.line(panel), keep_classes(p, panel, n_outputs, 0.0f));
        }
    }
}

}  // namespace
}  // namespace fastmlp
