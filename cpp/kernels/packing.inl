// Between row-major arrays and panel matrices.
#pragma once

#include "elementary.inl"

namespace fastmlp {
namespace {

FASTMLP_INLINE std::size_t source_row(const std::int64_t* index, std::size_t row) {
    return index == nullptr ? row : static_cast<std::size_t>(index[row]);
}

// Columns whole panels cover, and those left for a last, padded one.
struct Columns {
    std::size_t whole;
    std::size_t rest;
};

FASTMLP_INLINE Columns split_columns(std::size_t columns) { return {columns / kPanel * kPanel, columns % kPanel}; }

FASTMLP_INLINE Line load_padded(const float* source, std::size_t count) {
    alignas(64) float padded[kPanel] = {};
    for (std::size_t i = 0; i < count; ++i) padded[i] = source[i];
    return load_line(padded);
}
FASTMLP_INLINE Line load_padded(const std::uint8_t* source, std::size_t count) {
    std::uint8_t padded[kPanel] = {};
    for (std::size_t i = 0; i < count; ++i) padded[i] = source[i];
    return load_line_uint8(padded);
}
FASTMLP_INLINE Line load_whole(const float* source) { return load_line_unaligned(source); }
FASTMLP_INLINE Line load_whole(const std::uint8_t* source) { return load_line_uint8(source); }

template <class Element>
FASTMLP_INLINE Packed pack(const Element* data, std::size_t row_stride, const std::int64_t* index, std::size_t rows,
                           std::size_t columns, Rounding rounding, float* out, std::size_t out_panel_stride) {
    const Columns split = split_columns(columns);
    const Line zero = splat_line(0.0f);
    Line not_finite = zero;  // x * 0 is 0 for a finite x and NaN for any other, and NaN stays
    std::size_t nonzeros = 0;
    const auto put = [&](float* line, const Line& x) {
        not_finite = fma(x, zero, not_finite);
        nonzeros += static_cast<unsigned>(__builtin_popcount(nonzero_mask(x)));
        store_line(line, rounded(x, rounding));
    };
    for (std::size_t row = 0; row < rows; ++row) {
        const Element* source = data + source_row(index, row) * row_stride;
        float* line = out + row * kPanel;
        for (std::size_t column = 0; column < split.whole; column += kPanel, line += out_panel_stride)
            put(line, load_whole(source + column));
        if (split.rest > 0) put(line, load_padded(source + split.whole, split.rest));
    }
    return {nonzeros, sum_lanes(not_finite) == 0.0f};
}

Packed pack_uint8(const std::uint8_t* data, std::size_t row_stride, const std::int64_t* index, std::size_t rows,
                  std::size_t columns, float* out, std::size_t out_panel_stride) {
    return pack(data, row_stride, index, rows, columns, Rounding::kNone, out, out_panel_stride);
}

Packed pack_float(const float* data, std::size_t row_stride, const std::int64_t* index, std::size_t rows,
                  std::size_t columns, Rounding rounding, float* out, std::size_t out_panel_stride) {
    return pack(data, row_stride, index, rows, columns, rounding, out, out_panel_stride);
}

void unpack(const float* panels, std::size_t in_panel_stride, std::size_t rows, std::size_t columns, float* out,
            std::size_t row_stride) {
    const Columns split = split_columns(columns);
    for (std::size_t row = 0; row < rows; ++row) {
        float* target = out + row * row_stride;
        const float* line = panels + row * kPanel;
        for (std::size_t column = 0; column < split.whole; column += kPanel, line += in_panel_stride)
            store_line_unaligned(target + column, load_line(line));
        for (std::size_t i = 0; i < split.rest; ++i) target[split.whole + i] = line[i];
    }
}

void transpose_panel(const float* w, std::size_t w_panel_stride, std::size_t rows, std::size_t columns, float* out) {
    for (std::size_t first = 0; first < columns; first += kPanel, w += w_panel_stride) {
        const std::size_t count = columns - first < kPanel ? columns - first : kPanel;
        for (std::size_t j = 0; j < count; ++j, out += kPanel) {
            for (std::size_t i = 0; i < rows; ++i) out[i] = w[i * kPanel + j];
            for (std::size_t i = rows; i < kPanel; ++i) out[i] = 0.0f;
        }
    }
}

}  // namespace
}  // namespace fastmlp
