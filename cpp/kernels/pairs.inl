// Numbers as bfloat16 pairs, on sets that multiply these.
#pragma once

#include "packing.inl"
#include "words.inl"

#if defined(FASTMLP_PAIR_PRODUCTS)

namespace fastmlp {
namespace {

// Lines ahead of what is written.
constexpr std::size_t kPairsAhead = 8 * kPanel;

// Puts two neighbouring rows of one panel, the first of which is even, into both halves of `out`.
FASTMLP_INLINE void put_pairs(const PairedMatrix& out, std::size_t row, std::size_t panel, const Line& first,
                              const Line& second) {
    if (out.by_rows != nullptr) {
        float* rows = out.by_rows + panel * out.by_rows_stride + row / 2 * kPanel;
        prefetch_to_write(rows, kPairsAhead);
        store_line(rows, pairs_of_rows(first, second));
    }
    if (out.by_columns == nullptr) return;
    float* columns = out.by_columns + panel / 2 * out.by_columns_stride + row * kPanel + panel % 2 * (kPanel / 2);
    store_pairs_of_columns(columns, first);
    store_pairs_of_columns(columns + kPanel, second);
}

// A last row without a partner.
FASTMLP_INLINE void put_single(const PairedMatrix& out, std::size_t row, std::size_t panel, const Line& x) {
    if (out.by_rows != nullptr)
        store_line(out.by_rows + panel * out.by_rows_stride + row / 2 * kPanel, pairs_of_rows(x, splat_line(0.0f)));
    if (out.by_columns == nullptr) return;
    store_pairs_of_columns(out.by_columns + panel / 2 * out.by_columns_stride + row * kPanel + panel % 2 * (kPanel / 2),
                           x);
}

// An odd number of panels leaves half a panel of pairs of columns open.
FASTMLP_INLINE void clear_rest(const PairedMatrix& out, std::size_t rows, std::size_t panels) {
    if (out.by_columns == nullptr || panels % 2 == 0) return;
    float* rest = out.by_columns + panels / 2 * out.by_columns_stride + kPanel / 2;
    for (std::size_t row = 0; row < rows; ++row, rest += kPanel) store_pairs_of_columns(rest, splat_line(0.0f));
}

template <class Element>
FASTMLP_INLINE Line load_row(const Element* source, std::size_t column, std::size_t columns) {
    return columns - column < kPanel ? load_padded(source + column, columns - column) : load_whole(source + column);
}

template <class Element>
FASTMLP_INLINE bool pack_pairs(const RowsOf<Element>& from, const PairedMatrix& out) {
    FiniteCheck check;
    const std::size_t rows = from.rows, columns = from.columns;
    for (std::size_t row = 0; row < rows; row += 2) {
        const Element* const first = row_of(from, row);
        const Element* const second = row + 1 < rows ? row_of(from, row + 1) : nullptr;
        const Element* const next[] = {next_row_of(from, row), next_row_of(from, row + 1)};
        for (std::size_t column = 0; column < columns; column += kPanel) {
            prefetch_next(next[0], column);
            prefetch_next(next[1], column);
            const Line a = load_row(first, column, columns);
            check.see_bfloat16(a);
            if (second == nullptr) {
                put_single(out, row, column / kPanel, a);
            } else {
                const Line b = load_row(second, column, columns);
                check.see_bfloat16(b);
                put_pairs(out, row, column / kPanel, a, b);
            }
        }
    }
    clear_rest(out, rows, n_panels(columns));
    return check.all_finite();
}

void pack_uint8_pairs(const PixelRows& from, const PairedMatrix& out) { pack_pairs(from, out); }
bool pack_float_pairs(const FloatRows& from, const PairedMatrix& out) { return pack_pairs(from, out); }

void pair(const float* matrix, std::size_t matrix_panel_stride, std::size_t rows, std::size_t panels,
          const PairedMatrix& out) {
    for (std::size_t panel = 0; panel < panels; ++panel) {
        const float* line = matrix + panel * matrix_panel_stride;
        std::size_t row = 0;
        for (; row + 1 < rows; row += 2, line += 2 * kPanel)
            put_pairs(out, row, panel, load_line(line), load_line(line + kPanel));
        if (row < rows) put_single(out, row, panel, load_line(line));
    }
    clear_rest(out, rows, panels);
}

}  // namespace
}  // namespace fastmlp

#endif
