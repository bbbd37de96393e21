#include "gemm.h"

#include <algorithm>

namespace fastmlp {

namespace {

// Calls f(begin, size) for the blocks of [0, depth).
template <class F>
void for_depth_blocks(const KernelTable& kernels, std::size_t depth, F f) {
    const std::size_t size = depth_block_size(kernels.depth_block, depth);
    for (std::size_t begin = 0; begin < depth; begin += size) f(begin, std::min(size, depth - begin));
}

}  // namespace

std::size_t depth_block_size(std::size_t most, std::size_t depth) {
    const std::size_t blocks = std::max<std::size_t>((depth + most - 1) / most, 1);
    return n_panels((depth + blocks - 1) / blocks) * kPanel;
}

void multiply(const KernelTable& kernels, Words words, ConstPanels a, ConstPanels b, std::size_t n_columns, Panels c,
              Range rows, Range panels, std::size_t depth) {
    for_depth_blocks(kernels, depth, [&](std::size_t k, std::size_t size) {
        products_of(kernels, words)
            .multiply({a.at(rows.begin, k / kPanel), a.stride, b.at(k, panels.begin), b.stride,
                       c.at(rows.begin, panels.begin), c.stride, rows.size(), columns_in(panels, n_columns), size,
                       k > 0});
    });
}

// Words are moved, not looked at: floats and pairs alike.
void multiply_narrow(const KernelTable& kernels, Words words, ConstPanels a, ConstPanels b, std::size_t n_columns,
                     Panels c, Range rows, std::size_t depth, float* scratch) {
    const auto transpose = kernels.float_products.transpose_panel;
    const Panels c_transposed{scratch + kNarrowRows * kernels.depth_block, panel_stride(kNarrow)};
    for (std::size_t row = rows.begin; row < rows.end; row += kNarrowRows) {
        const std::size_t n_rows = std::min(kNarrowRows, rows.end - row);
        for_depth_blocks(kernels, depth, [&](std::size_t k, std::size_t size) {
            const Panels a_transposed{scratch, size * kPanel};
            for (std::size_t first = 0; first < n_rows; first += kPanel)
                transpose(a.at(row + first, k / kPanel), a.stride, std::min(kPanel, n_rows - first), size,
                          a_transposed.at(0, first / kPanel));
            products_of(kernels, words)
                .multiply_transposed({b.at(k, 0), b.stride, a_transposed.data, a_transposed.stride, c_transposed.data,
                                      c_transposed.stride, n_columns, n_rows, size, k > 0});
        });
        transpose(c_transposed.data, c_transposed.stride, n_columns, n_rows, c.at(row, 0));
    }
}

void multiply_transposed_narrow(const KernelTable& kernels, Words words, ConstPanels a, ConstPanels b, Panels c,
                                Range a_panels, std::size_t n_outputs, std::size_t n_columns, std::size_t depth) {
    constexpr std::size_t kPanelsAtATime = 2;
    constexpr std::size_t kStride = panel_stride(kNarrowGradient);
    alignas(64) float c_transposed[kPanelsAtATime * kStride];
    for (std::size_t panel = a_panels.begin; panel < a_panels.end; panel += kPanelsAtATime) {
        const std::size_t columns = columns_in({panel, std::min(panel + kPanelsAtATime, a_panels.end)}, n_columns);
        for_depth_blocks(kernels, depth, [&](std::size_t k, std::size_t size) {
            products_of(kernels, words)
                .multiply_transposed({b.at(k, 0), b.stride, a.at(k, panel), a.stride, c_transposed, kStride, n_outputs,
                                      columns, size, k > 0});
        });
        kernels.float_products.transpose_panel(c_transposed, kStride, n_outputs, columns,
                                               c.at((panel - a_panels.begin) * kPanel, 0));
    }
}

void multiply_by_transposed(const KernelTable& kernels, Words words, ConstPanels a, ConstPanels w, std::size_t n_inputs,
                            std::size_t n_outputs, Panels c, Range rows, Range panels, float* scratch) {
    const Products& products = products_of(kernels, words);
    const std::size_t numbers_in_word = words == Words::kFloats ? 1 : 2;
    for (std::size_t first = panels.begin; first < panels.end; first += kTransposedPanels) {
        const std::size_t count = std::min(kTransposedPanels, panels.end - first);
        for_depth_blocks(kernels, n_words(words, n_outputs), [&](std::size_t k, std::size_t size) {
            const std::size_t stride = size * kPanel;
            const std::size_t column = k * numbers_in_word;
            const std::size_t columns = std::min(size * numbers_in_word, n_outputs - column);
            for (std::size_t panel = 0; panel < count; ++panel) {
                const std::size_t row = (first + panel) * kPanel;
                products.transpose_panel(w.at(row / numbers_in_word, column / kPanel), w.stride,
                                         std::min(kPanel, n_inputs - row), columns, scratch + panel * stride);
            }
            for (std::size_t row = rows.begin; row < rows.end; row += kernels.row_block)
                products.multiply({a.at(row, k / kPanel), a.stride, scratch, stride, c.at(row, first), c.stride,
                                   std::min(kernels.row_block, rows.end - row),
                                   columns_in({first, first + count}, n_inputs), size, k > 0});
        });
    }
}

void multiply_transposed(const KernelTable& kernels, Words words, ConstPanels a, ConstPanels b, Panels c,
                         Range a_panels, Range b_panels, std::size_t n_outputs, std::size_t n_columns, Range depths,
                         bool accumulate) {
    const std::size_t rows = columns_in(a_panels, n_columns);
    for_depth_blocks(kernels, depths.size(), [&](std::size_t offset, std::size_t size) {
        const std::size_t k = depths.begin + offset;
        products_of(kernels, words)
            .multiply_transposed({a.at(k, a_panels.begin), a.stride, b.at(k, b_panels.begin), b.stride, c.data,
                                  c.stride, rows, columns_in(b_panels, n_outputs), size, accumulate || offset > 0});
    });
}

}  // namespace fastmlp
