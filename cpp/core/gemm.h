// Blocked matrix products on panel matrices: the loops around the kernels. One thread each; callers divide the
// result between threads.
#pragma once

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

// c[rows, panels] = a b, where a has `depth` columns. c's other elements stay.
void multiply(const KernelTable& kernels, ConstPanels a, ConstPanels b, Panels c, Range rows, Range panels,
              std::size_t depth);

// Panels of the right operand that multiply_by_transposed transposes at a time.
inline constexpr std::size_t kTransposedPanels = 6;
inline std::size_t transposed_scratch_size(const KernelTable& kernels) {
    return kTransposedPanels * kernels.depth_block * kPanel;
}

// c[rows, panels] = a w', where w is (w_rows x depth). scratch holds transposed_scratch_size floats.
void multiply_by_transposed(const KernelTable& kernels, ConstPanels a, ConstPanels w, std::size_t w_rows, Panels c,
                            Range rows, Range panels, std::size_t depth, float* scratch);

// c = a[:, a_panels]' b[:, b_panels], summed over `depth` rows. c is (16 a_panels x 16 b_panels) and starts at its
// own first element; w_rows is the number of columns of a, where its last panel ends.
void multiply_transposed(const KernelTable& kernels, ConstPanels a, ConstPanels b, Panels c, Range a_panels,
                         Range b_panels, std::size_t w_rows, std::size_t depth);

}  // namespace fastmlp
