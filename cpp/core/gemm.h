// Blocked matrix products on panel matrices: the loops around the kernels. One thread each; callers divide the
// result between threads.
#pragma once

#include <algorithm>
#include <cstddef>

#include "../kernels/kernel_table.h"

namespace fastmlp {

// [begin, end): rows, panels, features or tasks.
struct Range {
    std::size_t begin;
    std::size_t end;
    std::size_t size() const { return end - begin; }
};

// Part `part` of `parts` nearly equal ones of [0, n).
inline Range even_part(std::size_t n, std::size_t part, std::size_t parts) {
    return {n * part / parts, n * (part + 1) / parts};
}

template <class Element>
struct PanelsOf {
    Element* data;
    std::size_t stride;  // between panels

    Element* at(std::size_t row, std::size_t panel) const { return data + panel * stride + row * kPanel; }
};
using Panels = PanelsOf<float>;
using ConstPanels = PanelsOf<const float>;

// Room for the lists of a product that skips zeros of its left operand, if that has at most row_block rows.
inline std::size_t skip_lists_size(const KernelTable& kernels) {
    const std::size_t tiles = (kernels.row_block + kernels.skip_rows - 1) / kernels.skip_rows;
    return std::max(tiles, kSkipLists) * (kernels.depth_block + 1);
}

// Whether skipping zeros may be worth it. With fewer of them, few columns are zero in a whole tile.
inline bool is_sparse(std::size_t nonzeros, std::size_t rows, std::size_t columns) {
    return nonzeros < rows * columns / 2;
}

// c[rows, panels] = a b, where a has `depth` columns, at least 1. c's other elements stay. Zeros of a are skipped if
// skip_lists, with room for skip_lists_size elements, is not null.
void multiply(const KernelTable& kernels, ConstPanels a, ConstPanels b, Panels c, Range rows, Range panels,
              std::size_t depth, NonZero* skip_lists = nullptr);

// Panels of the right operand that multiply_by_transposed transposes at a time.
inline constexpr std::size_t kTransposedPanels = 6;
inline std::size_t transposed_scratch_size(const KernelTable& kernels) {
    return kTransposedPanels * kernels.depth_block * kPanel;
}

// c[rows, panels] = a w', where w is (w_rows x depth). scratch holds transposed_scratch_size floats.
void multiply_by_transposed(const KernelTable& kernels, ConstPanels a, ConstPanels w, std::size_t w_rows, Panels c,
                            Range rows, Range panels, std::size_t depth, float* scratch);

// c = a[:, a_panels]' b[:, b_panels], summed over `depth` rows. c is (16 a_panels x 16 b_panels) and starts at its
// own first element; w_rows is the number of columns of a, where its last panel ends. skip_lists as in multiply.
void multiply_transposed(const KernelTable& kernels, ConstPanels a, ConstPanels b, Panels c, Range a_panels,
                         Range b_panels, std::size_t w_rows, std::size_t depth, NonZero* skip_lists = nullptr);

}  // namespace fastmlp
