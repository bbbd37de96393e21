// The matrix products. A tile of the result stays in registers while the summed dimension runs; rows and panels
// that do not divide into full tiles are shared out evenly, so that no tile is left too small to hide latency.
#pragma once

#include <type_traits>

#include "tuning.h"
#include "with_constant.inl"
#include "words.inl"

namespace fastmlp {
namespace {

// How the left operand a is read. By rows: tile row i is row i of a, k runs along its columns. Transposed: tile row
// i is column i of one panel of a, k runs down its rows.
enum class LeftOperand { kByRows, kTransposed };

// The same address, which the compiler may neither put together from others nor work out ahead: Intel's processors take
// a multiply-add that loads from an address with an index for two operations (Intel 64 Optimization Reference Manual,
// "Unlamination"), and more addresses than there are registers for go to the stack.
template <class Element>
FASTMLP_INLINE Element* in_one_register(Element* p) {
    asm("" : "+r"(p));
    return p;
}

// kRows rows of the result, kWidth vectors wide, of which the first is part kFirst of a panel's lines.
template <class Word, int kRows, int kWidth, int kFirst = 0>
struct Tile {
    static_assert(kWidth <= 32, "loops over vectors must be unrolled, for sums to be in registers");
    Vec sum[kRows][kWidth];

    // The address of vector j in the row whose first one is at p.
    static FASTMLP_INLINE const float* at(const float* p, int j, std::size_t panel_stride) {
        return p + (kFirst + j) / kVecs * panel_stride + (kFirst + j) % kVecs * kLanes - kFirst * kLanes;
    }

    // Calls f(j, at(p, j, panel_stride)) for each of them, in turn, with one register for the address.
    template <class Element, class F>
    static FASTMLP_INLINE void for_each_vec(Element* p, std::size_t panel_stride, F f) {
        p = in_one_register(p);
#pragma GCC unroll 32
        for (int j = 0; j < kWidth; ++j) {
            f(j, p);
            const bool ends_line = (kFirst + j + 1) % kVecs == 0;
            p = ends_line ? in_one_register(p + panel_stride - (kVecs - 1) * kLanes) : p + kLanes;
        }
    }

    FASTMLP_INLINE void start(bool accumulate, const float* c, std::size_t c_panel_stride) {
        for_each_vec(c, c_panel_stride, [&](int j, const float* p) __attribute__((always_inline)) {
#pragma GCC unroll 16
            for (int i = 0; i < kRows; ++i) sum[i][j] = accumulate ? load(p + i * kPanel) : splat(0.0f);
        });
    }

    // Adds column k of the left operand (one element per tile row, `stride` apart) times row k of the right one. half:
    // without the upper half of its last vector; known to the compiler.
    FASTMLP_INLINE void add(const float* a, std::size_t stride, const float* b, std::size_t b_panel_stride,
                            bool half = false) {
        Vec right[kWidth];
#pragma GCC unroll 32
        for (int j = 0; j < kWidth; ++j) {
            const float* p = at(b, j, b_panel_stride);
            right[j] = half && j + 1 == kWidth ? load_lower(p) : load(p);
        }
#pragma GCC unroll 16
        for (int i = 0; i < kRows; ++i) {
            const Vec left = splat(a[i * stride]);
#pragma GCC unroll 32
            for (int j = 0; j < kWidth; ++j)
                sum[i][j] = Word::multiply_add(left, right[j], sum[i][j], half && j + 1 == kWidth);
        }
    }

    FASTMLP_INLINE void finish(float* c, std::size_t c_panel_stride) const {
        for_each_vec(c, c_panel_stride, [&](int j, float* p) __attribute__((always_inline)) {
#pragma GCC unroll 16
            for (int i = 0; i < kRows; ++i) store(p + i * kPanel, sum[i][j]);
        });
    }
};

// a, b and c point at the tile's own first elements.
template <class Word, LeftOperand kLeft, int kRows, int kPanels, bool kHalf>
void multiply_tile(const Product& p, const float* a, const float* b, float* c) {
    Tile<Word, kRows, kPanels * kVecs> tile;
    tile.start(p.accumulate, c, p.c_panel_stride);
    if constexpr (kLeft == LeftOperand::kTransposed) {
#pragma GCC unroll 2
        for (std::size_t k = 0; k < p.depth; ++k) tile.add(a + k * kPanel, 1, b + k * kPanel, p.b_panel_stride, kHalf);
    } else {
        for (std::size_t k = 0; k < p.depth; k += kPanel, a += p.a_panel_stride) {
            const std::size_t columns = p.depth - k < kPanel ? p.depth - k : kPanel;
#pragma GCC unroll 2
            for (std::size_t kk = 0; kk < columns; ++kk, b += kPanel)
                tile.add(a + kk, kPanel, b, p.b_panel_stride, kHalf);
        }
    }
    tile.finish(c, p.c_panel_stride);
}

// Calls f(begin, size) for as few parts of [0, n) as parts of at most kMost allow, as even as they come.
template <int kMost, class F>
FASTMLP_INLINE void for_even_parts(std::size_t n, F f) {
    const std::size_t parts = (n + kMost - 1) / kMost;
    for (std::size_t part = 0, begin = 0; part < parts; ++part) {
        const std::size_t size = n / parts + (part < n % parts ? 1 : 0);
        f(begin, size);
        begin += size;
    }
}

// Calls f(panel, n, half) for tiles of at most kMost panels: their first, how many as a constant, and as another one
// whether half of the last one is left out.
template <int kMost, class F>
FASTMLP_INLINE void for_tiles_of_panels(std::size_t columns, F f) {
    const std::size_t all = n_panels(columns);
    for_even_parts<kMost>(all, [&](std::size_t panel, std::size_t panels) {
        with_constant<kMost>(panels, [&](auto n) __attribute__((always_inline)) {
            if constexpr (kHasHalves)
                if (panel + panels == all && ends_in_half(columns)) return f(panel, n, std::true_type{});
            f(panel, n, std::false_type{});
        });
    });
}

template <class Word>
void multiply(const Product& p) {
    for_tiles_of_panels<kTilePanels>(p.columns, [&](std::size_t panel, auto n, auto half) {
        const float* b = p.b + panel * p.b_panel_stride;
        float* c = p.c + panel * p.c_panel_stride;
        for_even_parts<kTileRows>(p.rows, [&](std::size_t row, std::size_t rows) {
            with_constant<kTileRows>(rows, [&](auto n_rows) {
                multiply_tile<Word, LeftOperand::kByRows, n_rows, n, half>(p, p.a + row * kPanel, b, c + row * kPanel);
            });
        });
    });
}

template <class Word>
void multiply_transposed(const Product& p) {
    for (std::size_t first = 0; first < p.rows; first += kPanel) {
        const float* a = p.a + first / kPanel * p.a_panel_stride;
        const std::size_t rows_here = p.rows - first < kPanel ? p.rows - first : kPanel;
        for_tiles_of_panels<kTilePanels>(p.columns, [&](std::size_t panel, auto n, auto half) {
            const float* b = p.b + panel * p.b_panel_stride;
            float* c = p.c + panel * p.c_panel_stride + first * kPanel;
            for_even_parts<kTileRows>(rows_here, [&](std::size_t row, std::size_t rows) {
                with_constant<kTileRows>(rows, [&](auto n_rows) {
                    multiply_tile<Word, LeftOperand::kTransposed, n_rows, n, half>(p, a + row, b, c + row * kPanel);
                });
            });
        });
    }
}

// kPanels side by side: the next sum of one panel waits for its last.
template <class Word, int kPanels>
FASTMLP_INLINE void sum_rows_of(const float* line, std::size_t panel_stride, std::size_t rows, float* sums) {
    Line sum[kPanels];
#pragma GCC unroll 4
    for (int j = 0; j < kPanels; ++j) sum[j] = splat_line(0.0f);
    for (std::size_t row = 0; row < rows; ++row, line += kPanel)
#pragma GCC unroll 4
        for (int j = 0; j < kPanels; ++j) sum[j] = Word::add(sum[j], load_line(line + j * panel_stride));
#pragma GCC unroll 4
    for (int j = 0; j < kPanels; ++j) store_line(sums + j * kPanel, sum[j]);
}

template <class Word>
void sum_rows(const float* matrix, std::size_t matrix_panel_stride, std::size_t rows, std::size_t panels, float* sums) {
    constexpr std::size_t kSideBySide = 4;
    std::size_t panel = 0;
    for (; panel + kSideBySide <= panels; panel += kSideBySide)
        sum_rows_of<Word, kSideBySide>(matrix + panel * matrix_panel_stride, matrix_panel_stride, rows,
                                       sums + panel * kPanel);
    for (; panel < panels; ++panel)
        sum_rows_of<Word, 1>(matrix + panel * matrix_panel_stride, matrix_panel_stride, rows, sums + panel * kPanel);
}

}  // namespace
}  // namespace fastmlp
