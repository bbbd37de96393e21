// Softmax and cross-entropy, fused: losses, probabilities and the gradient of the logits while a row is in registers
// or the L1 cache. The largest logit is subtracted first, so no exponential overflows.
#pragma once

#include <type_traits>

#include "elementary.inl"
#include "packing.inl"

namespace fastmlp {
namespace {

alignas(64) constexpr float kLaneIndex[kPanel] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};

FASTMLP_INLINE std::size_t classes_in_panel(std::size_t panel, std::size_t n_classes) {
    const std::size_t rest = n_classes - panel * kPanel;
    return rest < kPanel ? rest : kPanel;
}

// Lanes that hold classes stay, padding becomes `fill`.
FASTMLP_INLINE Line keep_classes(const Line& a, std::size_t panel, std::size_t n_classes, float fill) {
    const Vec end = splat(static_cast<float>(classes_in_panel(panel, n_classes)));
    return map([&](Vec lane, Vec x) { return where_less(lane, end, x, splat(fill)); }, load_line(kLaneIndex), a);
}

// One row of logits, n_classes wide, lines `stride` apart.
struct Row {
    float* first;
    std::size_t stride;
    std::size_t n_classes;

    std::size_t panels() const { return n_panels(n_classes); }
    float* line(std::size_t panel) const { return first + panel * stride; }
    float* element(std::size_t column) const { return line(column / kPanel) + column % kPanel; }
};

struct Extent {
    float max;
    float not_finite;  // 0, or NaN if any logit is not finite
};

FASTMLP_INLINE Extent extent_of(const Row& row) {
    const Line zero = splat_line(0.0f);
    Line max = splat_line(-__builtin_inff());
    Line not_finite = zero;
    for (std::size_t panel = 0; panel < row.panels(); ++panel) {
        const Line z = load_line(row.line(panel));
        not_finite = fma(keep_classes(z, panel, row.n_classes, 0.0f), zero, not_finite);
        max = max_keep_nan(max, keep_classes(z, panel, row.n_classes, -__builtin_inff()));
    }
    return {max_lane(max), sum_lanes(not_finite)};
}

// Replaces the logits by exp(logit - max), padding by 0; returns the sum.
FASTMLP_INLINE float exponentiate(const Row& row, float max) {
    const Line shift = splat_line(max);
    Line sum = splat_line(0.0f);
    for (std::size_t panel = 0; panel < row.panels(); ++panel) {
        const Line z = load_line(row.line(panel)) - shift;
        const Line e = map([](Vec x) { return exp_nonpositive(x); }, z);
        const Line kept = keep_classes(e, panel, row.n_classes, 0.0f);
        sum = sum + kept;
        store_line(row.line(panel), kept);
    }
    return sum_lanes(sum);
}

void softmax(float* logits, std::size_t logits_panel_stride, std::size_t rows, std::size_t n_classes) {
    for (std::size_t i = 0; i < rows; ++i) {
        const Row row{logits + i * kPanel, logits_panel_stride, n_classes};
        const Extent extent = extent_of(row);
        const Line sum = splat_line(exponentiate(row, extent.max) + extent.not_finite);
        for (std::size_t panel = 0; panel < row.panels(); ++panel) {
            const Line probability = load_line(row.line(panel)) / sum;
            store_line(row.line(panel), keep_classes(probability, panel, n_classes, 0.0f));
        }
    }
}

FASTMLP_INLINE Line target_line(const float* target, std::size_t panel, std::size_t n_classes) {
    return load_padded(target + panel * kPanel, classes_in_panel(panel, n_classes));
}

FASTMLP_INLINE float delta_scale_of(const RowLosses& args, std::size_t sample) {
    return args.weights == nullptr ? args.delta_scale : args.delta_scale * args.weights[sample];
}

// How targets are read: as they are, or smoothed.
struct AsGiven {
    FASTMLP_INLINE Line operator()(const float* target, std::size_t panel, std::size_t n_classes) const {
        return target_line(target, panel, n_classes);
    }
};
struct Smoothed {
    float kept;     // of each target
    float uniform;  // added to each

    explicit Smoothed(const RowLosses& args)
        : kept(1.0f - args.label_smoothing), uniform(args.label_smoothing / static_cast<float>(args.n_outputs)) {}
    FASTMLP_INLINE Line operator()(const float* target, std::size_t panel, std::size_t n_classes) const {
        const Line t = fma(splat_line(kept), target_line(target, panel, n_classes), splat_line(uniform));
        return keep_classes(t, panel, n_classes, 0.0f);
    }
};

// The first of the columns that hold the largest number of a row; line_of(panel) has its lines.
template <class LineOf>
FASTMLP_INLINE std::size_t first_of_largest(std::size_t n_columns, float largest, LineOf line_of) {
    for (std::size_t panel = 0; panel < n_panels(n_columns); ++panel) {
        const Line others =
            map([&](Vec x) { return where_less(x, splat(largest), splat(0.0f), splat(1.0f)); }, line_of(panel));
        const unsigned found = nonzero_mask(others) & ((1u << classes_in_panel(panel, n_columns)) - 1u);
        if (found != 0) return panel * kPanel + static_cast<std::size_t>(__builtin_ctz(found));
    }
    return n_columns;
}

FASTMLP_INLINE bool is_right(const Row& row, float max, std::size_t target) {
    return first_of_largest(row.n_classes, max, [&](std::size_t panel) { return load_line(row.line(panel)); }) ==
           target;
}

FASTMLP_INLINE std::size_t target_class(const float* target, std::size_t n_classes) {
    Line max = splat_line(-__builtin_inff());
    for (std::size_t panel = 0; panel < n_panels(n_classes); ++panel)
        max =
            max_keep_nan(max, keep_classes(target_line(target, panel, n_classes), panel, n_classes, -__builtin_inff()));
    return first_of_largest(n_classes, max_lane(max),
                            [&](std::size_t panel) { return target_line(target, panel, n_classes); });
}

// sum of target * (max - logit). The loss is this plus sum(target) * log(sum exp(logit - max)).
template <class Read>
FASTMLP_INLINE float linear_loss(const Row& row, const float* target, Read read, float max) {
    Line sum = splat_line(0.0f);
    for (std::size_t panel = 0; panel < row.panels(); ++panel) {
        const Line z = keep_classes(load_line(row.line(panel)), panel, row.n_classes, max);
        sum = fma(read(target, panel, row.n_classes), splat_line(max) - z, sum);
    }
    return sum_lanes(sum);
}

template <class Read>
FASTMLP_INLINE float sum_of_target(const Row& row, const float* target, Read read) {
    Line sum = splat_line(0.0f);
    for (std::size_t panel = 0; panel < row.panels(); ++panel) sum = sum + read(target, panel, row.n_classes);
    return sum_lanes(sum);
}

// sum of (max - logit)
FASTMLP_INLINE float sum_below_max(const Row& row, float max) {
    Line sum = splat_line(0.0f);
    for (std::size_t panel = 0; panel < row.panels(); ++panel)
        sum = sum + keep_classes(splat_line(max) - load_line(row.line(panel)), panel, row.n_classes, 0.0f);
    return sum_lanes(sum);
}

// losses[i] += weights[i] * log(sums[i]), 16 rows at once.
FASTMLP_INLINE void add_logs(const float* sums, const float* weights, std::size_t count, float* losses) {
    alignas(64) float lane[kPanel];
    for (std::size_t i = 0; i < kPanel; ++i) lane[i] = i < count ? sums[i] : 1.0f;
    store_line(lane, map([](Vec x) { return log_at_least_one(x); }, load_line(lane)));
    for (std::size_t i = 0; i < count; ++i) losses[i] += weights[i] * lane[i];
}

template <class Read>
FASTMLP_INLINE void softmax_cross_entropy_with(const RowLosses& args, Read read) {
    constexpr bool kSmoothed = std::is_same_v<Read, Smoothed>;
    float sums[kPanel], weights[kPanel];  // of the exponentials and the targets of up to 16 rows
    for (std::size_t i = 0; i < args.rows; ++i) {
        const Row row{args.outputs + i * kPanel, args.panel_stride, args.n_outputs};
        const std::size_t sample = source_row(args.index, i);
        const Extent extent = extent_of(row);
        float& sum = sums[i % kPanel];
        float& weight = weights[i % kPanel];
        if (args.labels != nullptr) {
            const auto label = static_cast<std::size_t>(args.labels[sample]);
            if (args.right != nullptr) args.right[i] = is_right(row, extent.max, label) ? 1 : 0;
            float* true_class = row.element(label);
            float linear = extent.max - *true_class;
            if constexpr (kSmoothed) linear = read.kept * linear + read.uniform * sum_below_max(row, extent.max);
            args.losses[i] = linear + extent.not_finite;
            weight = 1.0f;
            sum = exponentiate(row, extent.max);
            for (std::size_t panel = 0; panel < row.panels(); ++panel) {
                Line delta = load_line(row.line(panel)) / splat_line(sum);
                if constexpr (kSmoothed)
                    delta = keep_classes(delta - splat_line(read.uniform), panel, args.n_outputs, 0.0f);
                store_line(row.line(panel), delta);
            }
            if constexpr (kSmoothed)
                *true_class -= read.kept;
            else
                *true_class -= 1.0f;
        } else {
            const float* target = args.targets + sample * args.n_outputs;
            if (args.right != nullptr)
                args.right[i] = is_right(row, extent.max, target_class(target, row.n_classes)) ? 1 : 0;
            args.losses[i] = linear_loss(row, target, read, extent.max) + extent.not_finite;
            weight = sum_of_target(row, target, read);
            sum = exponentiate(row, extent.max);
            const Line to_probability = splat_line(weight / sum);
            for (std::size_t panel = 0; panel < row.panels(); ++panel)
                store_line(row.line(panel),
                           load_line(row.line(panel)) * to_probability - read(target, panel, row.n_classes));
        }
        const Line delta_scale = splat_line(delta_scale_of(args, sample));
        for (std::size_t panel = 0; panel < row.panels(); ++panel)
            store_line(row.line(panel), rounded(load_line(row.line(panel)) * delta_scale, args.rounding));
        if (i % kPanel == kPanel - 1 || i + 1 == args.rows)
            add_logs(sums, weights, i % kPanel + 1, args.losses + i / kPanel * kPanel);
    }
}

void softmax_cross_entropy(const RowLosses& args) {
    if (args.label_smoothing == 0.0f)
        softmax_cross_entropy_with(args, AsGiven{});
    else
        softmax_cross_entropy_with(args, Smoothed(args));
}

}  // namespace
}  // namespace fastmlp
