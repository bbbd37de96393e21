// Softmax and cross-entropy, fused: losses, probabilities and the gradient of the logits while a row is in registers
// or the L1 cache. The largest logit is subtracted first, so no exponential overflows.
#pragma once

#include <type_traits>

#include "elementary.inl"
#include "packing.inl"
#include "transpose.inl"

namespace fastmlp {
namespace {

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

// Up to 16 rows of at most 16 classes, turned: line j holds class j of all rows, so that each operation serves them all
// where a row alone would leave lanes empty and wait for the sum of its lanes. Sums are made in the order of sum_lanes:
// the bits are those of a row alone.
struct TurnedRows {
    alignas(64) float lines[kPanel * kPanel];
    std::size_t n_classes;

    FASTMLP_INLINE TurnedRows(const float* rows, std::size_t count, std::size_t classes) : n_classes(classes) {
        if (count == kPanel) {
            transpose_floats(rows, lines);
        } else {
            alignas(64) float padded[kPanel * kPanel];
            for (std::size_t i = 0; i < kPanel; ++i)
                store_line(padded + i * kPanel, i < count ? load_line(rows + i * kPanel) : splat_line(0.0f));
            transpose_floats(padded, lines);
        }
    }

    FASTMLP_INLINE Line get(std::size_t j) const { return load_line(lines + j * kPanel); }
    FASTMLP_INLINE void set(std::size_t j, const Line& x) { store_line(lines + j * kPanel, x); }

    // Writes them back, padding as 0.
    FASTMLP_INLINE void turn_back(float* rows, std::size_t count) {
        for (std::size_t j = n_classes; j < kPanel; ++j) set(j, splat_line(0.0f));
        if (count == kPanel) return transpose_floats(lines, rows);
        alignas(64) float padded[kPanel * kPanel];
        transpose_floats(lines, padded);
        for (std::size_t i = 0; i < count; ++i) store_line(rows + i * kPanel, load_line(padded + i * kPanel));
    }

    // f over line_of(0), line_of(1), ... as reduce_lanes takes the lanes of one line: where there is no class, f gives
    // its other argument.
    template <class LineOf, class F>
    FASTMLP_INLINE Line reduce(LineOf line_of, F f) const {
        Line some[kPanel];
        for (std::size_t j = 0; j < n_classes; ++j) some[j] = line_of(j);
        for (std::size_t half = kPanel / 2; half > 0; half /= 2)
            for (std::size_t j = 0; j < half && j + half < n_classes; ++j) some[j] = f(some[j], some[j + half]);
        return some[0];
    }
    template <class LineOf>
    FASTMLP_INLINE Line sum(LineOf line_of) const {
        return reduce(line_of, [](const Line& x, const Line& y) { return x + y; });
    }

    FASTMLP_INLINE Line max() const {
        return reduce([&](std::size_t j) { return get(j); },
                      [](const Line& x, const Line& y) { return max_keep_nan(x, y); });
    }
    // 0, or NaN if any logit of the row is not finite.
    FASTMLP_INLINE Line not_finite() const {
        const Line zero = splat_line(0.0f);
        Line product = zero;
        for (std::size_t j = 0; j < n_classes; ++j) product = fma(get(j), zero, product);
        return product;
    }
    // Replaces the logits by exp(logit - max); returns the sums.
    FASTMLP_INLINE Line exponentiate(const Line& max) {
        for (std::size_t j = 0; j < n_classes; ++j)
            set(j, map([](Vec x, Vec m) { return exp_nonpositive(x - m); }, get(j), max));
        return sum([&](std::size_t j) { return get(j); });
    }
};

// Fewer rows than these are not worth turning.
constexpr std::size_t kLeastTurned = 4;

// Calls f(first, count) for blocks of rows that can be turned and are worth it; returns how many rows these are.
template <class F>
FASTMLP_INLINE std::size_t for_turned_rows(std::size_t rows, std::size_t n_classes, F f) {
    std::size_t first = 0;
    while (n_classes <= kPanel && rows - first >= kLeastTurned) {
        const std::size_t count = rows - first < kPanel ? rows - first : kPanel;
        f(first, count);
        first += count;
    }
    return first;
}

void softmax(float* logits, std::size_t logits_panel_stride, std::size_t rows, std::size_t n_classes) {
    const std::size_t n_turned = for_turned_rows(rows, n_classes, [&](std::size_t first, std::size_t count) {
        TurnedRows turned(logits + first * kPanel, count, n_classes);
        const Line not_finite = turned.not_finite();
        const Line sum = turned.exponentiate(turned.max()) + not_finite;
        for (std::size_t j = 0; j < n_classes; ++j) turned.set(j, turned.get(j) / sum);
        turned.turn_back(logits + first * kPanel, count);
    });
    for (std::size_t i = n_turned; i < rows; ++i) {
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

// Rows first to first + count - 1, which have labels and can be turned.
template <class Read>
FASTMLP_INLINE void turned_cross_entropy(const RowLosses& args, Read read, std::size_t first, std::size_t count) {
    constexpr bool kSmoothed = std::is_same_v<Read, Smoothed>;
    alignas(64) float label[kPanel] = {}, delta_scale[kPanel] = {}, lane[kPanel];
    for (std::size_t i = 0; i < count; ++i) {
        const std::size_t sample = source_row(args.index, first + i);
        label[i] = static_cast<float>(args.labels[sample]);
        delta_scale[i] = delta_scale_of(args, sample);
    }
    const Line labels = load_line(label), zero = splat_line(0.0f);
    const auto where_true = [&](std::size_t j, const Line& yes, const Line& no) {
        const Vec number = splat(static_cast<float>(j));
        return map([&](Vec l, Vec y, Vec n) { return where_less(absolute(l - number), splat(0.5f), y, n); }, labels,
                   yes, no);
    };

    TurnedRows turned(args.outputs + first * kPanel, count, args.n_outputs);
    const Line max = turned.max(), not_finite = turned.not_finite();
    if (args.right != nullptr) {
        Line first_of_largest = zero;
        for (std::size_t j = args.n_outputs; j-- > 0;)
            first_of_largest =
                map([&](Vec z, Vec m, Vec n) { return where_less(z, m, n, splat(static_cast<float>(j))); },
                    turned.get(j), max, first_of_largest);
        store_line(lane, first_of_largest);
        for (std::size_t i = 0; i < count; ++i) args.right[first + i] = lane[i] == label[i] ? 1 : 0;
    }
    Line true_logit = zero;
    for (std::size_t j = 0; j < args.n_outputs; ++j) true_logit = where_true(j, turned.get(j), true_logit);
    Line loss = max - true_logit;
    if constexpr (kSmoothed) {
        const Line below_max = turned.sum([&](std::size_t j) { return max - turned.get(j); });
        loss = splat_line(read.kept) * loss + splat_line(read.uniform) * below_max;
    }
    const Line sum = turned.exponentiate(max);
    loss = loss + not_finite + map([](Vec x) { return log_at_least_one(x); }, sum);
    store_line(lane, loss);
    for (std::size_t i = 0; i < count; ++i) args.losses[first + i] = lane[i];

    const Line scale = load_line(delta_scale);
    Line hot = splat_line(1.0f);
    if constexpr (kSmoothed) hot = splat_line(read.kept);
    for (std::size_t j = 0; j < args.n_outputs; ++j) {
        Line delta = turned.get(j) / sum;
        if constexpr (kSmoothed) delta = delta - splat_line(read.uniform);
        turned.set(j, rounded((delta - where_true(j, hot, zero)) * scale, args.rounding));
    }
    turned.turn_back(args.outputs + first * kPanel, count);
}

template <class Read>
FASTMLP_INLINE void softmax_cross_entropy_with(const RowLosses& args, Read read) {
    constexpr bool kSmoothed = std::is_same_v<Read, Smoothed>;
    float sums[kPanel], weights[kPanel];  // of the exponentials and the targets of up to 16 rows
    std::size_t n_turned = 0;
    if (args.labels != nullptr)
        n_turned = for_turned_rows(args.rows, args.n_outputs, [&](std::size_t first, std::size_t count) {
            turned_cross_entropy(args, read, first, count);
        });
    for (std::size_t i = n_turned; i < args.rows; ++i) {
        const Row row{args.outputs + i * kPanel, args.panel_stride, args.n_outputs};
        const std::size_t sample = source_row(args.index, i);
        const Extent extent = extent_of(row);
        float& sum = sums[i % kPanel];
        float& weight = weights[i % kPanel];
        if (args.labels != nullptr) {
            // Read once: it is an address, and another thread may change it.
            const std::int64_t given = static_cast<const volatile std::int64_t*>(args.labels)[sample];
            const auto number = static_cast<std::size_t>(given);
            const std::size_t label = number < args.n_outputs ? number : 0;
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
