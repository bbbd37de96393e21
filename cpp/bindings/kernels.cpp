// Single kernels of a chosen instruction set, for tests: row-major arrays in, row-major arrays out.

#include "../kernels/kernel_table.h"

#include "../core/aligned_buffer.h"
#include "../core/floating_point.h"
#include "../core/gemm.h"
#include "../dispatch/dispatch.h"
#include "bindings.h"

namespace fastmlp::bindings {

namespace {

// A panel matrix made of a row-major array.
struct PanelMatrix {
    PanelMatrix(std::size_t rows, std::size_t columns)
        : rows(rows), columns(columns), stride(panel_stride(rows)), buffer(panel_matrix_size(rows, columns)) {}
    PanelMatrix(const KernelTable& kernels, const py::array& array)
        : PanelMatrix(extent(array, 0), extent(array, 1)) {
        kernels.pack_float(in_place<float>(array, 2, "matrix"), columns, nullptr, rows, columns, Rounding::kNone,
                           buffer.data(), stride);
    }
    py::array_t<float> to_array(const KernelTable& kernels) const {
        auto out = new_array<float>({rows, columns});
        kernels.unpack(buffer.data(), stride, rows, columns, out.mutable_data(), columns);
        return out;
    }
    Panels panels() { return {buffer.data(), stride}; }
    ConstPanels panels() const { return {buffer.data(), stride}; }

    std::size_t rows, columns, stride;
    AlignedBuffer buffer;
};

const KernelTable& table(const std::string& name) { return instruction_set_named(name, "instruction_set"); }

}  // namespace

void bind_kernels(py::module_& m) {
    using namespace pybind11::literals;
    py::module_ kernels = m.def_submodule("kernels", "Single kernels of a chosen instruction set, for tests.");

    kernels.def(
        "multiply",
        [](const std::string& set, const py::array& a, const py::array& b) {
            const KernelTable& k = table(set);
            const FloatingPointScope scope(k);
            const PanelMatrix left(k, a), right(k, b);
            if (left.columns != right.rows) throw py::value_error("inner dimensions differ");
            PanelMatrix c(left.rows, right.columns);
            multiply(k, left.panels(), right.panels(), c.panels(), {0, c.rows}, {0, n_panels(c.columns)},
                     left.columns);
            return c.to_array(k);
        },
        "instruction_set"_a, "a"_a, "b"_a, "a @ b for float32 matrices.");
    kernels.def(
        "multiply_transposed",
        [](const std::string& set, const py::array& a, const py::array& b) {
            const KernelTable& k = table(set);
            const FloatingPointScope scope(k);
            const PanelMatrix left(k, a), right(k, b);
            if (left.rows != right.rows) throw py::value_error("inner dimensions differ");
            PanelMatrix c(left.columns, right.columns);
            multiply_transposed(k, left.panels(), right.panels(), c.panels(), {0, n_panels(left.columns)},
                                {0, n_panels(right.columns)}, left.columns, left.rows);
            return c.to_array(k);
        },
        "instruction_set"_a, "a"_a, "b"_a, "a.T @ b for float32 matrices.");
    kernels.def(
        "multiply_by_transposed",
        [](const std::string& set, const py::array& a, const py::array& w) {
            const KernelTable& k = table(set);
            const FloatingPointScope scope(k);
            const PanelMatrix left(k, a), right(k, w);
            if (left.columns != right.columns) throw py::value_error("inner dimensions differ");
            PanelMatrix c(left.rows, right.rows);
            AlignedBuffer scratch(transposed_scratch_size(k));
            multiply_by_transposed(k, left.panels(), right.panels(), right.rows, c.panels(), {0, c.rows},
                                   {0, n_panels(c.columns)}, left.columns, scratch.data());
            return c.to_array(k);
        },
        "instruction_set"_a, "a"_a, "w"_a, "a @ w.T for float32 matrices.");
    kernels.def(
        "sum_rows",
        [](const std::string& set, const py::array& a) {
            const KernelTable& k = table(set);
            const FloatingPointScope scope(k);
            const PanelMatrix matrix(k, a);
            PanelMatrix sums(1, matrix.columns);
            k.sum_rows(matrix.buffer.data(), matrix.stride, matrix.rows, n_panels(matrix.columns), sums.buffer.data());
            return sums.to_array(k);
        },
        "instruction_set"_a, "a"_a, "Sums of the columns of a float32 matrix, as one row.");
}

}  // namespace fastmlp::bindings
