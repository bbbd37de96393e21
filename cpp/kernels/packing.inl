// Between row-major arrays and panel matrices.
#pragma once

#include "elementary.inl"

namespace fastmlp {
namespace {

FASTMLP_INLINE std::size_t source_row(const std::int64_t* index, std::size_t row) {
    return index == nullptr ? row : static_cast<std::size_t>(index[row]);
}

template <class Element>
FASTMLP_INLINE const Element* row_of(const RowsOf<Element>& from, std::size_t row) {
    return from.data + source_row(from.index, row) * from.row_stride;
}

// The row that is to be fetched while this one is gone over, or null.
template <class Element>
FASTMLP_INLINE const Element* next_row_of(const RowsOf<Element>& from, std::size_t row) {
    return row < from.next ? row_of(from, from.rows + row) : nullptr;
}

// Fetches its line at this column, to be called for rising ones that are multiples of kPanel.
template <class Element>
FASTMLP_INLINE void prefetch_next(const Element* next_row, std::size_t column) {
    constexpr std::size_t kColumnsOfLine = 64 / sizeof(Element);
    if (next_row != nullptr && column % kColumnsOfLine == 0) __builtin_prefetch(next_row + column);
}

// Columns whole panels cover, and those left for a last, padded one.
struct Columns {
    std::size_t whole;
    std::size_t rest;
};

FASTMLP_INLINE Columns split_columns(std::size_t columns) { return {columns / kPanel * kPanel, columns % kPanel}; }

// As load_padded in simd.h.
FASTMLP_INLINE Line load_padded(const std::uint8_t* source, std::size_t count) {
    std::uint8_t padded[kPanel] = {};
    for (std::size_t i = 0; i < count; ++i) padded[i] = source[i];
    return load_line_uint8(padded);
}
FASTMLP_INLINE Line load_whole(const float* source) { return load_line_unaligned(source); }
FASTMLP_INLINE Line load_whole(const std::uint8_t* source) { return load_line_uint8(source); }

// Calls put(panel, line) for each panel of one row.
template <class Element, class Put>
FASTMLP_INLINE void for_each_line(const Element* source, std::size_t columns, Put put) {
    const Columns split = split_columns(columns);
    for (std::size_t column = 0; column < split.whole; column += kPanel)
        put(column / kPanel, load_whole(source + column));
    if (split.rest > 0) put(split.whole / kPanel, load_padded(source + split.whole, split.rest));
}

// Takes notice of numbers that are not finite: x * 0 is 0 for a finite x and NaN for any other, and NaN stays.
struct FiniteCheck {
    Line sum = splat_line(0.0f);
    FASTMLP_INLINE void see(const Line& x) { sum = fma(x, splat_line(0.0f), sum); }
    // The same, for numbers that will be rounded: those from kBfloat16Overflow on are not finite then. For just these
    // floats the product overflows.
    FASTMLP_INLINE void see_bfloat16(const Line& x) { see(x * splat_line(0x1.00804p+0f)); }
    FASTMLP_INLINE bool all_finite() const { return sum_lanes(sum) == 0.0f; }
};

// Calls put(row, panel, line) for each panel of each row.
template <class Element, class Put>
FASTMLP_INLINE void for_each_line(const RowsOf<Element>& from, Put put) {
    for (std::size_t row = 0; row < from.rows; ++row) {
        const Element* const next = next_row_of(from, row);
        for_each_line(row_of(from, row), from.columns, [&](std::size_t panel, const Line& x) {
            prefetch_next(next, panel * kPanel);
            put(row, panel, x);
        });
    }
}

void pack_uint8(const PixelRows& from, float* out, std::size_t out_panel_stride) {
    for_each_line(from, [&](std::size_t row, std::size_t panel, const Line& x) {
        store_line(out + panel * out_panel_stride + row * kPanel, x);
    });
}

bool pack_float(const FloatRows& from, Rounding rounding, float* out, std::size_t out_panel_stride) {
    FiniteCheck check;
    for_each_line(from, [&](std::size_t row, std::size_t panel, const Line& x) {
        rounding == Rounding::kNone ? check.see(x) : check.see_bfloat16(x);
        store_line(out + panel * out_panel_stride + row * kPanel, rounded(x, rounding));
    });
    return check.all_finite();
}

template <class Element>
FASTMLP_INLINE std::size_t count_nonzeros(const Element* row, std::size_t columns, std::size_t together) {
    static_assert(kListedColumns == 4);
    std::size_t count = 0;
    for_each_line(row, columns, [&](std::size_t, const Line& x) {
        unsigned mask = nonzero_mask(x);
        if (together == kListedColumns) {
            mask |= mask >> 1;
            mask = (mask | mask >> 2) & 0x1111;  // the lowest of each four tells of them all
        }
        count += static_cast<unsigned>(__builtin_popcount(mask));
    });
    return count;
}
std::size_t count_nonzeros_uint8(const std::uint8_t* row, std::size_t columns, std::size_t together) {
    return count_nonzeros(row, columns, together);
}
std::size_t count_nonzeros_float(const float* row, std::size_t columns, std::size_t together) {
    return count_nonzeros(row, columns, together);
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

}  // namespace
}  // namespace fastmlp
