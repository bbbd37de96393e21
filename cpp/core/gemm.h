// Blocked matrix products on panel matrices: the loops around the kernels. One thread each; callers divide the
// result between threads. Rows and depths of operands count words, see `Words`.
#pragma once

#include <cstddef>

#include "../kernels/kernel_table.h"
#include "panels.h"

namespace fastmlp {

// Length of the blocks of at most `most` words into which a sum over `depth` words is cut, all but the last; a multiple
// of kPanel, as `most` is.
std::size_t depth_block_size(std::size_t most, std::size_t depth);

// c[rows, panels] = a b, where a has `depth` columns, at least 1, and b and c have n_columns. c's other elements stay.
void multiply(const KernelTable& kernels, Words words, ConstPanels a, ConstPanels b, std::size_t n_columns, Panels c,
              Range rows, Range panels, std::size_t depth);

// A result of few columns leaves most lanes of its only panel empty. Its transpose leaves none: these make that first.
// The bits are those of multiply and multiply_transposed. With more columns, or fewer rows of a batch than a panel has
// lanes, transposing does not pay.
inline constexpr std::size_t kNarrow = 8;
inline constexpr std::size_t kNarrowGradient = 12;
static_assert(kNarrow <= kPanel && kNarrowGradient <= kPanel);  // one panel

// As multiply, c having n_columns columns, at most kNarrow. scratch holds narrow_scratch_size floats.
void multiply_narrow(const KernelTable& kernels, Words words, ConstPanels a, ConstPanels b, std::size_t n_columns,
                     Panels c, Range rows, std::size_t depth, float* scratch);
// Rows of c that it makes at a time: three panels of its transpose.
inline constexpr std::size_t kNarrowRows = 3 * kPanel;
inline std::size_t narrow_scratch_size(const KernelTable& kernels) {
    return kNarrowRows * kernels.depth_block + panel_matrix_size(kNarrow, kNarrowRows);
}

// As multiply_transposed, c having n_outputs columns, at most kNarrowGradient.
void multiply_transposed_narrow(const KernelTable& kernels, Words words, ConstPanels a, ConstPanels b, Panels c,
                                Range a_panels, std::size_t n_outputs, std::size_t n_columns, std::size_t depth);

// Panels of the right operand that multiply_by_transposed transposes at a time.
inline constexpr std::size_t kTransposedPanels = 6;
inline std::size_t transposed_scratch_size(const KernelTable& kernels) {
    return kTransposedPanels * kernels.depth_block * kPanel;
}

// c[rows, panels] = a w', where a has `depth` columns, and w is the right operand of a product that sums over the
// n_inputs numbers of c's columns. scratch holds transposed_scratch_size floats.
void multiply_by_transposed(const KernelTable& kernels, Words words, ConstPanels a, ConstPanels w, std::size_t n_inputs,
                            std::size_t n_outputs, Panels c, Range rows, Range panels, float* scratch);

// c = [c +] a[depths, a_panels]' b[depths, b_panels]. c is (16 a_panels x 16 b_panels) and starts at its own first
// element; n_columns and n_outputs are the numbers of columns of a and b, where their last panels end.
void multiply_transposed(const KernelTable& kernels, Words words, ConstPanels a, ConstPanels b, Panels c,
                         Range a_panels, Range b_panels, std::size_t n_outputs, std::size_t n_columns, Range depths,
                         bool accumulate);

inline const Products& products_of(const KernelTable& kernels, Words words) {
    return words == Words::kFloats ? kernels.float_products : kernels.pair_products;
}

}  // namespace fastmlp
