// Batch normalisation: Ioffe & Szegedy (2015), Algorithm 1 and the gradients of section 3. Sums over the rows of a
// batch are taken in chunks of a fixed size, so that they do not lose precision in large batches.
#pragma once

#include "elementary.inl"

namespace fastmlp {
namespace {

constexpr std::size_t kChunkRows = 64;

// The sum of f(row's line number times kPanel) over rows.
template <class F>
FASTMLP_INLINE Line sum_in_chunks(std::size_t rows, F f) {
    Line sum = splat_line(0.0f);
    for (std::size_t first = 0; first < rows; first += kChunkRows) {
        const std::size_t end = rows - first < kChunkRows ? rows : first + kChunkRows;
        Line chunk = splat_line(0.0f);
        for (std::size_t row = first; row < end; ++row) chunk = f(row * kPanel, chunk);
        sum = sum + chunk;
    }
    return sum;
}

FASTMLP_INLINE Line inverse_deviation(const Line& variance) {
    const Line root = map([](Vec x) { return square_root(x); }, variance + splat_line(kBatchNormEpsilon));
    return splat_line(1.0f) / root;
}

void batch_normalize(const BatchNormalize& args) {
    const Line n = splat_line(static_cast<float>(args.rows)), scale = splat_line(args.scale);
    const Line unbiased =
        splat_line(static_cast<float>(args.rows) / static_cast<float>(args.rows > 1 ? args.rows - 1 : 1));
    for (std::size_t panel = 0; panel < args.panels; ++panel) {
        float* z = args.z + panel * args.panel_stride;
        float* normalized = args.normalized + panel * args.panel_stride;
        const Line sum =
            sum_in_chunks(args.rows, [&](std::size_t at, const Line& chunk) { return chunk + load_line(z + at); });
        const Line mean = scale * sum / n;
        const Line minus_mean = splat_line(0.0f) - mean;
        const Line squares = sum_in_chunks(args.rows, [&](std::size_t at, const Line& chunk) {
            const Line centred = fma(scale, load_line(z + at), minus_mean);
            return fma(centred, centred, chunk);
        });
        const Line variance = squares / n;
        const Line inverse = inverse_deviation(variance);
        for (std::size_t at = 0; at < args.rows * kPanel; at += kPanel) {
            const Line x = fma(scale, load_line(z + at), minus_mean) * inverse;
            store_line(z + at, x);
            store_line(normalized + at, x);
        }
        store_line(args.mean + panel * kPanel, mean);
        store_line(args.variance + panel * kPanel, variance);
        store_line(args.unbiased_variance + panel * kPanel, variance * unbiased);
    }
}

void batch_normalize_backward(const BatchNormalizeBackward& args) {
    const Line n = splat_line(static_cast<float>(args.rows));
    for (std::size_t panel = 0; panel < args.panels; ++panel) {
        float* delta = args.delta + panel * args.panel_stride;
        const float* normalized = args.normalized + panel * args.panel_stride;
        const Line d_shift =
            sum_in_chunks(args.rows, [&](std::size_t at, const Line& chunk) { return chunk + load_line(delta + at); });
        const Line d_scale = sum_in_chunks(args.rows, [&](std::size_t at, const Line& chunk) {
            return fma(load_line(delta + at), load_line(normalized + at), chunk);
        });
        const Line factor =
            load_line(args.scale + panel * kPanel) * inverse_deviation(load_line(args.variance + panel * kPanel));
        const Line minus_mean = splat_line(0.0f) - d_shift / n, minus_slope = splat_line(0.0f) - d_scale / n;
        for (std::size_t at = 0; at < args.rows * kPanel; at += kPanel) {
            const Line centred = fma(minus_slope, load_line(normalized + at), load_line(delta + at) + minus_mean);
            store_line(delta + at, rounded(factor * centred, args.rounding));
        }
        store_line(args.d_shift + panel * kPanel, d_shift);
        store_line(args.d_scale + panel * kPanel, d_scale);
    }
}

void fold_batch_norm(const float* shift, const float* scale, const float* mean, const float* variance,
                     std::size_t panels, float* folded_shift, float* folded_scale) {
    for (std::size_t at = 0; at < panels * kPanel; at += kPanel) {
        const Line factor = load_line(scale + at) * inverse_deviation(load_line(variance + at));
        store_line(folded_scale + at, factor);
        store_line(folded_shift + at, fma(splat_line(0.0f) - load_line(mean + at), factor, load_line(shift + at)));
    }
}

}  // namespace
}  // namespace fastmlp
