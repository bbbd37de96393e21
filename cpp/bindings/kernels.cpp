// Single kernels of a chosen instruction set, for tests: row-major arrays in, row-major arrays out.

#include "../kernels/kernel_table.h"

#include <pybind11/stl.h>

#include "../core/aligned_buffer.h"
#include "../core/floating_point.h"
#include "../core/gemm.h"
#include "../core/optimizer.h"
#include "../dispatch/dispatch.h"
#include "bindings.h"

namespace fastmlp::bindings {

namespace {

// The kernels of one set, and the floating-point state they expect while this lives.
struct Kernels {
    explicit Kernels(const std::string& name) : table(instruction_set_named(name, "instruction_set")), scope(table) {}
    const KernelTable& table;
    FloatingPointScope scope;
};

struct PanelMatrix {
    PanelMatrix(std::size_t n_rows, std::size_t n_columns)
        : rows(n_rows),
          columns(n_columns),
          stride(panel_stride(n_rows)),
          buffer(panel_matrix_size(n_rows, n_columns)) {}
    PanelMatrix(const KernelTable& table, const py::array& array)
        : PanelMatrix(extent_of(array, 0), extent_of(array, 1)) {
        table.pack_float(in_place<float>(array, 2, "a matrix"), columns, nullptr, rows, columns, Rounding::kNone,
                         buffer.data(), stride);
    }
    py::array_t<float> to_array(const KernelTable& table) const {
        auto out = new_array<float>({rows, columns});
        table.unpack(buffer.data(), stride, rows, columns, out.mutable_data(), columns);
        return out;
    }
    Panels panels() { return {buffer.data(), stride}; }
    ConstPanels panels() const { return {buffer.data(), stride}; }
    float* data() { return buffer.data(); }
    std::size_t n_panels_of_columns() const { return n_panels(columns); }

    std::size_t rows, columns, stride;
    AlignedBuffer buffer;

 private:
    static std::size_t extent_of(const py::array& array, py::ssize_t dim) {
        if (array.ndim() != 2) throw py::value_error("a matrix has two dimensions");
        return extent(array, dim);
    }
};

void require(bool condition, const char* message) {
    if (!condition) throw py::value_error(message);
}

Rounding rounding_of(bool to_bfloat16) { return to_bfloat16 ? Rounding::kBfloat16 : Rounding::kNone; }

// Lists for a product that skips zeros, or null.
struct SkipLists {
    SkipLists(const KernelTable& table, bool wanted) : entries(wanted ? skip_lists_size(table) : 0) {}
    NonZero* data() { return entries.empty() ? nullptr : entries.data(); }
    std::vector<NonZero> entries;
};

py::array_t<float> call_multiply(const std::string& set, const py::array& a, const py::array& b, bool skip_zeros) {
    const Kernels k(set);
    const PanelMatrix left(k.table, a), right(k.table, b);
    require(left.columns == right.rows, "inner dimensions differ");
    PanelMatrix c(left.rows, right.columns);
    SkipLists lists(k.table, skip_zeros);
    for (std::size_t row = 0; row < c.rows; row += k.table.row_block)
        multiply(k.table, left.panels(), right.panels(), c.panels(), {row, std::min(row + k.table.row_block, c.rows)},
                 {0, c.n_panels_of_columns()}, left.columns, lists.data());
    return c.to_array(k.table);
}

py::array_t<float> call_multiply_transposed(const std::string& set, const py::array& a, const py::array& b,
                                            bool skip_zeros) {
    const Kernels k(set);
    const PanelMatrix left(k.table, a), right(k.table, b);
    require(left.rows == right.rows, "inner dimensions differ");
    PanelMatrix c(left.columns, right.columns);
    multiply_transposed(k.table, left.panels(), right.panels(), c.panels(), {0, left.n_panels_of_columns()},
                        {0, right.n_panels_of_columns()}, left.columns, left.rows,
                        SkipLists(k.table, skip_zeros).data());
    return c.to_array(k.table);
}

py::array_t<float> call_multiply_by_transposed(const std::string& set, const py::array& a, const py::array& w) {
    const Kernels k(set);
    const PanelMatrix left(k.table, a), right(k.table, w);
    require(left.columns == right.columns, "inner dimensions differ");
    PanelMatrix c(left.rows, right.rows);
    AlignedBuffer scratch(transposed_scratch_size(k.table));
    multiply_by_transposed(k.table, left.panels(), right.panels(), right.rows, c.panels(), {0, c.rows},
                           {0, c.n_panels_of_columns()}, left.columns, scratch.data());
    return c.to_array(k.table);
}

py::array_t<float> call_sum_rows(const std::string& set, const py::array& a) {
    const Kernels k(set);
    const PanelMatrix matrix(k.table, a);
    PanelMatrix sums(1, matrix.columns);
    // One row of a panel matrix has its panels one line apart, as the kernel writes them.
    k.table.sum_rows(matrix.buffer.data(), matrix.stride, matrix.rows, matrix.n_panels_of_columns(), sums.data());
    return sums.to_array(k.table);
}

py::array_t<float> call_pack_uint8(const std::string& set, const py::array& a, const py::array& index) {
    const Kernels k(set);
    const auto* data = in_place<std::uint8_t>(a, 2, "a matrix");
    const std::vector<std::int64_t> rows = checked_indices(index, extent(a, 0), "index");
    PanelMatrix out(extent(index, 0), extent(a, 1));
    k.table.pack_uint8(data, out.columns, rows.data(), out.rows, out.columns, out.data(), out.stride);
    return out.to_array(k.table);
}

// The matrix after packing, and whether all of it is finite.
std::pair<py::array_t<float>, bool> call_pack_float(const std::string& set, const py::array& a, bool to_bfloat16) {
    const Kernels k(set);
    const auto* data = in_place<float>(a, 2, "a matrix");
    PanelMatrix out(extent(a, 0), extent(a, 1));
    const Packed packed = k.table.pack_float(data, out.columns, nullptr, out.rows, out.columns,
                                             rounding_of(to_bfloat16), out.data(), out.stride);
    return {out.to_array(k.table), packed.finite};
}

// The activation of scale * z + bias, and scale * z + bias itself.
std::pair<py::array_t<float>, py::array_t<float>> call_bias_activation(const std::string& set,
                                                                       const std::string& activation,
                                                                       const py::array& z, const py::array& bias,
                                                                       float scale, bool to_bfloat16) {
    const Kernels k(set);
    PanelMatrix value(k.table, z);
    const PanelMatrix line(k.table, bias);
    require(line.rows == 1 && line.columns == value.columns, "bias must be one row as wide as z");
    PanelMatrix saved(value.rows, value.columns);
    k.table.bias_activation({value.data(), value.stride, value.rows, value.n_panels_of_columns(), line.buffer.data(),
                             scale, activation_named(activation), rounding_of(to_bfloat16), saved.data()});
    return {value.to_array(k.table), saved.to_array(k.table)};
}

py::array_t<float> call_activation_backward(const std::string& set, const std::string& activation,
                                            const py::array& delta, const py::array& saved, bool to_bfloat16) {
    const Kernels k(set);
    PanelMatrix result(k.table, delta);
    const PanelMatrix forward(k.table, saved);
    require(forward.rows == result.rows && forward.columns == result.columns, "shapes differ");
    k.table.activation_backward({result.data(), forward.buffer.data(), result.stride, result.rows,
                                 result.n_panels_of_columns(), activation_named(activation), rounding_of(to_bfloat16)});
    return result.to_array(k.table);
}

using InPlace = decltype(KernelTable::softmax);

template <InPlace KernelTable::* kernel>
py::array_t<float> call_in_place(const std::string& set, const py::array& outputs) {
    const Kernels k(set);
    PanelMatrix matrix(k.table, outputs);
    if (matrix.columns > 0) (k.table.*kernel)(matrix.data(), matrix.stride, matrix.rows, matrix.columns);
    return matrix.to_array(k.table);
}

using LossKernel = decltype(KernelTable::softmax_cross_entropy);

// Losses of the rows, and the gradient of the outputs times delta_scale.
template <LossKernel KernelTable::* kernel, Loss loss>
std::pair<py::array_t<float>, py::array_t<float>> call_loss(const std::string& set, const py::array& outputs,
                                                            const py::array& targets, float delta_scale,
                                                            bool to_bfloat16, const std::optional<py::array>& weights,
                                                            float label_smoothing) {
    const Kernels k(set);
    PanelMatrix matrix(k.table, outputs);
    require(matrix.columns > 0, "at least one output");
    const CheckedTargets checked(targets, matrix.rows, matrix.columns, loss, weights, label_smoothing);
    auto losses = new_array<float>({matrix.rows});
    (k.table.*kernel)({matrix.data(), matrix.stride, matrix.rows, matrix.columns, checked.view.labels,
                       checked.view.values, nullptr, delta_scale, rounding_of(to_bfloat16), losses.mutable_data(),
                       checked.view.weights, checked.view.label_smoothing});
    return {losses, matrix.to_array(k.table)};
}

template <LossKernel KernelTable::* kernel, Loss loss>
void bind_loss(py::module_& kernels, const char* name) {
    using namespace pybind11::literals;
    kernels.def(name, &call_loss<kernel, loss>, "instruction_set"_a, "outputs"_a, "targets"_a, "delta_scale"_a,
                "to_bfloat16"_a, "weights"_a = py::none(), "label_smoothing"_a = 0.0f,
                "Losses, and the gradient of the outputs times delta_scale.");
}

// Parameters and moments after one update; count a multiple of 16.
using Updated = std::tuple<py::array_t<float>, py::array_t<float>, py::array_t<float>>;

Updated apply_update(const Kernels& k, bool is_adam, const Update& update, const py::array& gradient,
                     const py::array& value, const py::array& first, const py::array& second) {
    const std::size_t count = extent(gradient, 0);
    require(count % kPanel == 0, "the length must be a multiple of 16");
    std::vector<AlignedBuffer> buffers;
    for (const py::array* array : {&gradient, &value, &first, &second}) {
        const float* data = in_place<float>(*array, 1, "an argument");
        require(extent(*array, 0) == count, "lengths differ");
        std::copy(data, data + count, buffers.emplace_back(count).data());
    }
    (is_adam ? k.table.adam : k.table.sgd)(update, buffers[0].data(),
                                           {buffers[1].data(), buffers[2].data(), buffers[3].data(), nullptr}, count);
    const auto out = [&](std::size_t i) {
        return py::array_t<float>(static_cast<py::ssize_t>(count), buffers[i].data());
    };
    return {out(1), out(2), out(3)};
}

}  // namespace

void bind_kernels(py::module_& m) {
    using namespace pybind11::literals;
    py::module_ kernels = m.def_submodule("kernels", "Single kernels of a chosen instruction set, for tests.");
    kernels.def("multiply", &call_multiply, "instruction_set"_a, "a"_a, "b"_a, "skip_zeros"_a = false, "a @ b.");
    kernels.def("multiply_transposed", &call_multiply_transposed, "instruction_set"_a, "a"_a, "b"_a,
                "skip_zeros"_a = false, "a.T @ b.");
    kernels.def("multiply_by_transposed", &call_multiply_by_transposed, "instruction_set"_a, "a"_a, "w"_a, "a @ w.T.");
    kernels.def("sum_rows", &call_sum_rows, "instruction_set"_a, "a"_a, "Sums of the columns, as one row.");
    kernels.def("pack_uint8", &call_pack_uint8, "instruction_set"_a, "a"_a, "index"_a, "a[index] as float32.");
    kernels.def("pack_float", &call_pack_float, "instruction_set"_a, "a"_a, "to_bfloat16"_a,
                "a, rounded if asked for, and whether all of it is finite.");
    kernels.def("bias_activation", &call_bias_activation, "instruction_set"_a, "activation"_a, "z"_a, "bias"_a,
                "scale"_a, "to_bfloat16"_a, "The activation f(scale * z + bias), and its argument.");
    kernels.def("activation_backward", &call_activation_backward, "instruction_set"_a, "activation"_a, "delta"_a,
                "saved"_a, "to_bfloat16"_a, "delta times the slope at the saved activation (gelu: its argument).");
    kernels.def("softmax", &call_in_place<&KernelTable::softmax>, "instruction_set"_a, "outputs"_a,
                "Class probabilities.");
    kernels.def("sigmoid", &call_in_place<&KernelTable::sigmoid>, "instruction_set"_a, "outputs"_a,
                "Probabilities of independent outputs.");
    bind_loss<&KernelTable::softmax_cross_entropy, Loss::kSoftmaxCrossEntropy>(kernels, "softmax_cross_entropy");
    bind_loss<&KernelTable::sigmoid_cross_entropy, Loss::kSigmoidCrossEntropy>(kernels, "sigmoid_cross_entropy");
    bind_loss<&KernelTable::squared_error, Loss::kSquaredError>(kernels, "squared_error");
    kernels.def(
        "adam",
        [](const std::string& set, const py::array& gradient, const py::array& value, const py::array& first_moment,
           const py::array& second_moment, int step, double learning_rate, double beta_1, double beta_2, double epsilon,
           double weight_decay, bool decoupled) {
            const Kernels k(set);
            const OptimizerSettings settings{.beta_1 = beta_1,
                                             .beta_2 = beta_2,
                                             .epsilon = epsilon,
                                             .weight_decay = weight_decay,
                                             .decoupled = decoupled};
            StepCount count;
            for (int i = 0; i < step; ++i) count.advance(settings);
            return apply_update(k, true, make_update(settings, count, learning_rate), gradient, value, first_moment,
                                second_moment);
        },
        "instruction_set"_a, "gradient"_a, "value"_a, "first_moment"_a, "second_moment"_a, "step"_a, "learning_rate"_a,
        "beta_1"_a, "beta_2"_a, "epsilon"_a, "weight_decay"_a = 0.0, "decoupled"_a = false,
        "Value and moments after step number `step`, from 1.");
    kernels.def(
        "sgd",
        [](const std::string& set, const py::array& gradient, const py::array& value, const py::array& velocity,
           double learning_rate, double momentum, bool nesterov, double weight_decay) {
            const Kernels k(set);
            const OptimizerSettings settings{.kind = OptimizerSettings::Kind::kSgd,
                                             .momentum = momentum,
                                             .nesterov = nesterov,
                                             .weight_decay = weight_decay};
            const Updated updated =
                apply_update(k, false, make_update(settings, {}, learning_rate), gradient, value, velocity, velocity);
            return std::make_pair(std::get<0>(updated), std::get<1>(updated));
        },
        "instruction_set"_a, "gradient"_a, "value"_a, "velocity"_a, "learning_rate"_a, "momentum"_a,
        "nesterov"_a = false, "weight_decay"_a = 0.0, "Value and velocity after one step.");
}

}  // namespace fastmlp::bindings
