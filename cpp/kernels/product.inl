// The matrix products. A tile of the result stays in registers while the summed dimension runs; rows and panels
// that do not divide into full tiles are shared out evenly, so that no tile is left too small to hide latency.
#pragma once

#include "simd.h"
#include "tuning.h"

namespace fastmlp {
namespace {

// How the left operand a is read. By rows: tile row i is row i of a, k runs along its columns. Transposed: tile row
// i is column i of one panel of a, k runs down its rows.
enum class LeftOperand { kByRows, kTransposed };

template <int kRows, int kPanels>
struct Tile {
    Line sum[kRows][kPanels];

    FASTMLP_INLINE void start(const Product& p, const float* c) {
#pragma GCC unroll 16
        for (int i = 0; i < kRows; ++i)
#pragma GCC unroll 4
            for (int j = 0; j < kPanels; ++j)
                sum[i][j] = p.accumulate ? load_line(c + j * p.c_panel_stride + i * kPanel) : splat_line(0.0f);
    }

    // Adds column k of the left operand (one element per tile row, `stride` apart) times row k of the right one.
    FASTMLP_INLINE void add(const float* a, std::size_t stride, const float* b, std::size_t b_panel_stride) {
        Line right[kPanels];
#pragma GCC unroll 4
        for (int j = 0; j < kPanels; ++j) right[j] = load_line(b + j * b_panel_stride);
#pragma GCC unroll 16
        for (int i = 0; i < kRows; ++i) {
            const Vec left = splat(a[i * stride]);
#pragma GCC unroll 4
            for (int j = 0; j < kPanels; ++j)
#pragma GCC unroll 4
                for (int v = 0; v < kVecs; ++v) sum[i][j].part[v] = fma(left, right[j].part[v], sum[i][j].part[v]);
        }
    }

    FASTMLP_INLINE void finish(const Product& p, float* c) const {
#pragma GCC unroll 16
        for (int i = 0; i < kRows; ++i)
#pragma GCC unroll 4
            for (int j = 0; j < kPanels; ++j) store_line(c + j * p.c_panel_stride + i * kPanel, sum[i][j]);
    }
};

// a, b and c point at the tile's own first elements.
template <LeftOperand kLeft, int kRows, int kPanels>
void multiply_tile(const Product& p, const float* a, const float* b, float* c) {
    Tile<kRows, kPanels> tile;
    tile.start(p, c);
    if constexpr (kLeft == LeftOperand::kTransposed) {
        for (std::size_t k = 0; k < p.depth; ++k) tile.add(a + k * kPanel, 1, b + k * kPanel, p.b_panel_stride);
    } else {
        for (std::size_t k = 0; k < p.depth; k += kPanel, a += p.a_panel_stride) {
            const std::size_t columns = p.depth - k < kPanel ? p.depth - k : kPanel;
            for (std::size_t kk = 0; kk < columns; ++kk, b += kPanel) tile.add(a + kk, kPanel, b, p.b_panel_stride);
        }
    }
    tile.finish(p, c);
}

// Calls multiply_tile<kLeft, rows, panels> for run-time rows and panels, at most kRows and kPanels.
template <LeftOperand kLeft, int kRows, int kPanels>
FASTMLP_INLINE void multiply_tile_of(std::size_t rows, std::size_t panels, const Product& p, const float* a,
                                     const float* b, float* c) {
    if (panels < kPanels) {
        if constexpr (kPanels > 1) multiply_tile_of<kLeft, kRows, kPanels - 1>(rows, panels, p, a, b, c);
    } else if (rows < kRows) {
        if constexpr (kRows > 1) multiply_tile_of<kLeft, kRows - 1, kPanels>(rows, panels, p, a, b, c);
    } else {
        multiply_tile<kLeft, kRows, kPanels>(p, a, b, c);
    }
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

void multiply(const Product& p) {
    for_even_parts<kTilePanels>(p.panels, [&](std::size_t panel, std::size_t panels) {
        const float* b = p.b + panel * p.b_panel_stride;
        float* c = p.c + panel * p.c_panel_stride;
        for_even_parts<kTileRows>(p.rows, [&](std::size_t row, std::size_t rows) {
            multiply_tile_of<LeftOperand::kByRows, kTileRows, kTilePanels>(rows, panels, p, p.a + row * kPanel, b,
                                                                           c + row * kPanel);
        });
    });
}

void multiply_transposed(const Product& p) {
    for (std::size_t first = 0; first < p.rows; first += kPanel) {
        const float* a = p.a + first / kPanel * p.a_panel_stride;
        const std::size_t rows_here = p.rows - first < kPanel ? p.rows - first : kPanel;
        for_even_parts<kTilePanels>(p.panels, [&](std::size_t panel, std::size_t panels) {
            const float* b = p.b + panel * p.b_panel_stride;
            float* c = p.c + panel * p.c_panel_stride + first * kPanel;
            for_even_parts<kTileRows>(rows_here, [&](std::size_t row, std::size_t rows) {
                multiply_tile_of<LeftOperand::kTransposed, kTileRows, kTilePanels>(rows, panels, p, a + row, b,
                                                                                   c + row * kPanel);
            });
        });
    }
}

// Products that skip zeros of the left operand. A list names the k that count for a tile: those at which any of its
// rows is not 0. Where zeros come in patches, as in images, that is a fraction of all; the more rows a tile has, the
// more often each line of b serves, but the longer its list.

// As multiply_tile, for the listed k alone.
template <LeftOperand kLeft, int kRows, int kPanels>
void multiply_listed_tile(const Product& p, const NonZero* list, std::size_t count, const float* a, const float* b,
                          float* c) {
    Tile<kRows, kPanels> tile;
    tile.start(p, c);
    for (std::size_t i = 0; i < count; ++i)
        tile.add(a + list[i].a, kLeft == LeftOperand::kTransposed ? 1 : kPanel, b + list[i].b, p.b_panel_stride);
    tile.finish(p, c);
}

// Calls multiply_listed_tile<kLeft, rows, panels>; or multiply_tile, if the list leaves out too little to be worth it.
template <LeftOperand kLeft, int kRows, int kPanels>
FASTMLP_INLINE void multiply_listed_tile_of(std::size_t rows, std::size_t panels, const Product& p, const NonZero* list,
                                            std::size_t count, const float* a, const float* b, float* c) {
    if (panels < kPanels) {
        if constexpr (kPanels > 1)
            multiply_listed_tile_of<kLeft, kRows, kPanels - 1>(rows, panels, p, list, count, a, b, c);
    } else if (rows < kRows) {
        if constexpr (kRows > 1)
            multiply_listed_tile_of<kLeft, kRows - 1, kPanels>(rows, panels, p, list, count, a, b, c);
    } else if (count > p.depth - p.depth / 4) {
        multiply_tile<kLeft, kRows, kPanels>(p, a, b, c);
    } else {
        multiply_listed_tile<kLeft, kRows, kPanels>(p, list, count, a, b, c);
    }
}

// Lists the k at which any of these rows of a is not 0.
FASTMLP_INLINE std::size_t list_columns(const Product& p, const float* a, std::size_t rows, NonZero* list) {
    std::size_t count = 0;
    for (std::size_t k = 0; k < p.depth; k += kPanel) {
        const std::size_t panel = k / kPanel * p.a_panel_stride;
        unsigned mask = 0;
        for (std::size_t row = 0; row < rows; ++row) mask |= nonzero_mask(load_line(a + panel + row * kPanel));
        if (p.depth - k < kPanel) mask &= (1u << (p.depth - k)) - 1u;
        for (; mask != 0; mask &= mask - 1) {
            const auto column = static_cast<unsigned>(__builtin_ctz(mask));
            list[count++] = {static_cast<std::uint32_t>(panel + column),
                             static_cast<std::uint32_t>((k + column) * kPanel)};
        }
    }
    return count;
}

void multiply_skipping_zeros(const Product& p, NonZero* scratch) {
    // The first element of each list holds its length.
    const auto list_of = [&](std::size_t row) { return scratch + row * (p.depth + 1); };
    std::size_t tile = 0;
    for_even_parts<kSkipRows>(p.rows, [&](std::size_t row, std::size_t rows) {
        NonZero* list = list_of(tile++);
        list->a = static_cast<std::uint32_t>(list_columns(p, p.a + row * kPanel, rows, list + 1));
    });
    for_even_parts<kSkipPanels>(p.panels, [&](std::size_t panel, std::size_t panels) {
        const float* b = p.b + panel * p.b_panel_stride;
        float* c = p.c + panel * p.c_panel_stride;
        tile = 0;
        for_even_parts<kSkipRows>(p.rows, [&](std::size_t row, std::size_t rows) {
            const NonZero* list = list_of(tile++);
            multiply_listed_tile_of<LeftOperand::kByRows, kSkipRows, kSkipPanels>(
                rows, panels, p, list + 1, list->a, p.a + row * kPanel, b, c + row * kPanel);
        });
    });
}

// Lists, for each group of columns of one panel of a, the rows k at which any of them is not 0.
FASTMLP_INLINE void list_rows(const Product& p, const float* a, NonZero* const (&lists)[kSkipLists],
                              std::size_t (&counts)[kSkipLists]) {
    constexpr unsigned kGroup = kPanel / kSkipLists;
    for (std::size_t k = 0; k < p.depth; ++k) {
        const auto at = static_cast<std::uint32_t>(k * kPanel);
        const unsigned mask = nonzero_mask(load_line(a + at));
#pragma GCC unroll 4
        for (unsigned group = 0; group < kSkipLists; ++group) {
            lists[group][counts[group]] = {at, at};  // stays only if it counts
            counts[group] += (mask >> (group * kGroup) & ((1u << kGroup) - 1u)) != 0 ? 1 : 0;
        }
    }
}

void multiply_transposed_skipping_zeros(const Product& p, NonZero* scratch) {
    constexpr std::size_t kGroup = kPanel / kSkipLists;
    for (std::size_t first = 0; first < p.rows; first += kPanel) {
        const float* a = p.a + first / kPanel * p.a_panel_stride;
        const std::size_t rows_here = p.rows - first < kPanel ? p.rows - first : kPanel;
        NonZero* lists[kSkipLists];
        std::size_t counts[kSkipLists] = {};
        for (std::size_t group = 0; group < kSkipLists; ++group) lists[group] = scratch + group * (p.depth + 1);
        list_rows(p, a, lists, counts);
        for_even_parts<kSkipPanels>(p.panels, [&](std::size_t panel, std::size_t panels) {
            const float* b = p.b + panel * p.b_panel_stride;
            float* c = p.c + panel * p.c_panel_stride + first * kPanel;
            for (std::size_t row = 0; row < rows_here; row += kGroup)
                multiply_listed_tile_of<LeftOperand::kTransposed, kGroup, kSkipPanels>(
                    rows_here - row < kGroup ? rows_here - row : kGroup, panels, p, lists[row / kGroup],
                    counts[row / kGroup], a + row, b, c + row * kPanel);
        });
    }
}

void sum_rows(const float* matrix, std::size_t matrix_panel_stride, std::size_t rows, std::size_t panels, float* sums) {
    for (std::size_t panel = 0; panel < panels; ++panel) {
        const float* line = matrix + panel * matrix_panel_stride;
        Line sum = splat_line(0.0f);
        for (std::size_t row = 0; row < rows; ++row, line += kPanel) sum = sum + load_line(line);
        store_line(sums + panel * kPanel, sum);
    }
}

}  // namespace
}  // namespace fastmlp
