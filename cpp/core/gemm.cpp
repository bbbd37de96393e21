#include "gemm.h"

#include <algorithm>
#include <cstdint>

namespace fastmlp {

namespace {

// Calls f(begin, size) for blocks of [0, depth), a multiple of kPanel long each (but the last), as even as possible.
template <class F>
void for_depth_blocks(std::size_t depth, std::size_t depth_block, F f) {
    const std::size_t blocks = (depth + depth_block - 1) / depth_block;
    const std::size_t size = blocks == 0 ? 0 : n_panels((depth + blocks - 1) / blocks) * kPanel;
    for (std::size_t begin = 0; begin < depth; begin += size) f(begin, std::min(size, depth - begin));
}

// Lists hold offsets of 32 bits.
bool lists_reach(const KernelTable& kernels, ConstPanels a) {
    return a.stride <= UINT32_MAX / (kernels.depth_block / kPanel + 1);
}

}  // namespace

void multiply(const KernelTable& kernels, ConstPanels a, ConstPanels b, Panels c, Range rows, Range panels,
              std::size_t depth, NonZero* skip_lists) {
    for_depth_blocks(depth, kernels.depth_block, [&](std::size_t k, std::size_t size) {
        const Product product{a.at(rows.begin, k / kPanel),
                              a.stride,
                              b.at(k, panels.begin),
                              b.stride,
                              c.at(rows.begin, panels.begin),
                              c.stride,
                              rows.size(),
                              panels.size(),
                              size,
                              k > 0};
        if (skip_lists == nullptr || !lists_reach(kernels, a))
            kernels.multiply(product);
        else
            kernels.multiply_skipping_zeros(product, skip_lists);
    });
}

void multiply_by_transposed(const KernelTable& kernels, ConstPanels a, ConstPanels w, std::size_t w_rows, Panels c,
                            Range rows, Range panels, std::size_t depth, float* scratch) {
    for (std::size_t first = panels.begin; first < panels.end; first += kTransposedPanels) {
        const std::size_t count = std::min(kTransposedPanels, panels.end - first);
        for_depth_blocks(depth, kernels.depth_block, [&](std::size_t k, std::size_t size) {
            const std::size_t stride = size * kPanel;
            for (std::size_t panel = 0; panel < count; ++panel) {
                const std::size_t row = (first + panel) * kPanel;
                kernels.transpose_panel(w.at(row, k / kPanel), w.stride, std::min(kPanel, w_rows - row), size,
                                        scratch + panel * stride);
            }
            for (std::size_t row = rows.begin; row < rows.end; row += kernels.row_block)
                kernels.multiply({a.at(row, k / kPanel), a.stride, scratch, stride, c.at(row, first), c.stride,
                                  std::min(kernels.row_block, rows.end - row), count, size, k > 0});
        });
    }
}

void multiply_transposed(const KernelTable& kernels, ConstPanels a, ConstPanels b, Panels c, Range a_panels,
                         Range b_panels, std::size_t w_rows, std::size_t depth, NonZero* skip_lists) {
    const std::size_t rows = std::min(w_rows, a_panels.end * kPanel) - a_panels.begin * kPanel;
    for_depth_blocks(depth, kernels.depth_block, [&](std::size_t k, std::size_t size) {
        const Product product{a.at(k, a_panels.begin),
                              a.stride,
                              b.at(k, b_panels.begin),
                              b.stride,
                              c.data,
                              c.stride,
                              rows,
                              b_panels.size(),
                              size,
                              k > 0};
        if (skip_lists == nullptr)
            kernels.multiply_transposed(product);
        else
            kernels.multiply_transposed_skipping_zeros(product, skip_lists);
    });
}

}  // namespace fastmlp
