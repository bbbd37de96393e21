// Single kernels of a chosen instruction set, for tests: row-major arrays in, row-major arrays out.

#include "../kernels/kernel_table.h"

#include <pybind11/stl.h>

#include <algorithm>
#include <bit>
#include <cstdint>
#include <cstring>
#include <optional>

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
        : rows(checked_rows(n_rows)),
          columns(n_columns),
          stride(panel_stride(rows)),
          buffer(panel_matrix_size(rows, n_columns)) {}
    PanelMatrix(const KernelTable& table, const py::array& array)
        : PanelMatrix(extent_of(array, 0), extent_of(array, 1)) {
        table.pack_float({in_place<float>(array, 2, "a matrix"), columns, nullptr, rows, columns}, Rounding::kNone,
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
    // Loops go over rows that have no columns, too, of which an array can have any number.
    static std::size_t checked_rows(std::size_t rows) {
        if (rows > std::size_t{1} << 24) throw py::value_error("a matrix has at most 2**24 rows");
        return rows;
    }
    static std::size_t extent_of(const py::array& array, py::ssize_t dim) {
        if (array.ndim() != 2) throw py::value_error("a matrix has two dimensions");
        return extent(array, dim);
    }
};

void require(bool condition, const char* message) {
    if (!condition) throw py::value_error(message);
}

Rounding rounding_of(bool to_bfloat16) { return to_bfloat16 ? Rounding::kBfloat16 : Rounding::kNone; }

bool has_pairs(const KernelTable& table) { return table.pair_products.multiply != nullptr; }

Words words_of(const KernelTable& table, bool pairs) {
    require(!pairs || has_pairs(table), "this instruction set has no products of bfloat16 pairs");
    return pairs ? Words::kBfloat16Pairs : Words::kFloats;
}

// Words of pairs as the numbers they hold: rows x columns words of neighbouring columns, 2 columns wide for each; or
// of neighbouring rows, 2 rows high.
py::array_t<float> numbers_in(const KernelTable& table, const PanelMatrix& words, bool neighbours_are_rows) {
    const py::array_t<float> flat = words.to_array(table);
    auto out = neighbours_are_rows ? new_array<float>({2 * words.rows, words.columns})
                                   : new_array<float>({words.rows, 2 * words.columns});
    float* numbers = out.mutable_data();
    for (std::size_t i = 0; i < words.rows; ++i)
        for (std::size_t j = 0; j < words.columns; ++j) {
            std::uint16_t halves[2];
            std::memcpy(halves, flat.data() + i * words.columns + j, sizeof halves);
            for (std::size_t half = 0; half < 2; ++half) {
                const std::size_t at =
                    neighbours_are_rows ? (2 * i + half) * words.columns + j : i * 2 * words.columns + 2 * j + half;
                numbers[at] = std::bit_cast<float>(std::uint32_t{halves[half]} << 16);
            }
        }
    return out;
}

// A matrix in pairs, both ways.
struct Pairs {
    Pairs(std::size_t rows, std::size_t columns)
        : by_columns(rows, n_words(Words::kBfloat16Pairs, columns)),
          by_rows(n_words(Words::kBfloat16Pairs, rows), columns) {}
    PairedMatrix view() { return {by_columns.data(), by_columns.stride, by_rows.data(), by_rows.stride}; }
    std::pair<py::array_t<float>, py::array_t<float>> to_arrays(const KernelTable& table) const {
        return {numbers_in(table, by_columns, false), numbers_in(table, by_rows, true)};
    }
    PanelMatrix by_columns, by_rows;
};

// An operand of products in either kind of words.
struct Operand {
    Operand(const KernelTable& table, const py::array& array, Words kind) : floats(table, array), words(kind) {
        if (kind == Words::kFloats) return;
        pairs.emplace(floats.rows, floats.columns);
        table.pair(floats.data(), floats.stride, floats.rows, floats.n_panels_of_columns(), pairs->view());
    }
    // For products that sum over its columns, and over its rows.
    const PanelMatrix& over_columns() const { return pairs ? pairs->by_columns : floats; }
    const PanelMatrix& over_rows() const { return pairs ? pairs->by_rows : floats; }

    PanelMatrix floats;
    Words words;
    std::optional<Pairs> pairs;
};

py::array_t<float> call_multiply(const std::string& set, const py::array& a, const py::array& b, bool pairs) {
    const Kernels k(set);
    const Words words = words_of(k.table, pairs);
    const Operand left(k.table, a, words), right(k.table, b, words);
    require(left.floats.columns == right.floats.rows, "inner dimensions differ");
    PanelMatrix c(left.floats.rows, right.floats.columns);
    for (std::size_t row = 0; row < c.rows; row += k.table.row_block)
        multiply(k.table, words, left.over_columns().panels(), right.over_rows().panels(), c.columns, c.panels(),
                 {row, std::min(row + k.table.row_block, c.rows)}, {0, c.n_panels_of_columns()},
                 left.over_columns().columns);
    return c.to_array(k.table);
}

py::array_t<float> call_multiply_transposed(const std::string& set, const py::array& a, const py::array& b,
                                            bool pairs) {
    const Kernels k(set);
    const Words words = words_of(k.table, pairs);
    const Operand left(k.table, a, words), right(k.table, b, words);
    require(left.floats.rows == right.floats.rows, "inner dimensions differ");
    PanelMatrix c(left.floats.columns, right.floats.columns);
    multiply_transposed(k.table, words, left.over_rows().panels(), right.over_rows().panels(), c.panels(),
                        {0, left.floats.n_panels_of_columns()}, {0, c.n_panels_of_columns()}, c.columns, c.rows,
                        {0, left.over_rows().rows}, false);
    return c.to_array(k.table);
}

py::array_t<float> call_multiply_by_transposed(const std::string& set, const py::array& a, const py::array& w,
                                               bool pairs) {
    const Kernels k(set);
    const Words words = words_of(k.table, pairs);
    const Operand left(k.table, a, words), right(k.table, w, words);
    require(left.floats.columns == right.floats.columns, "inner dimensions differ");
    PanelMatrix c(left.floats.rows, right.floats.rows);
    AlignedBuffer scratch(transposed_scratch_size(k.table));
    multiply_by_transposed(k.table, words, left.over_columns().panels(), right.over_rows().panels(), right.floats.rows,
                           right.floats.columns, c.panels(), {0, c.rows}, {0, c.n_panels_of_columns()}, scratch.data());
    return c.to_array(k.table);
}

// Rows that are listed in one call; more calls go on where it ended.
constexpr std::size_t kRowsListed = 8;

constexpr std::size_t kMostParts = 1024;

// Lists count words, and 16 times rows, in 32 bits.
void require_listable(const PanelMatrix& matrix) {
    constexpr std::size_t kLimit = UINT32_MAX / (2 * kPanel);
    require(matrix.rows < kLimit && matrix.columns < kLimit && matrix.rows * matrix.columns < UINT32_MAX,
            "the matrix is too large for lists");
}

// In two blocks of depth, so that the second adds to the first.
py::array_t<float> call_multiply_listed(const std::string& set, const py::array& a, const py::array& b, bool pairs) {
    const Kernels k(set);
    const Words words = words_of(k.table, pairs);
    const Products& products = products_of(k.table, words);
    const Operand left(k.table, a, words), right(k.table, b, words);
    require(left.floats.columns == right.floats.rows, "inner dimensions differ");
    const PanelMatrix& matrix = left.over_columns();
    require_listable(matrix);
    PanelMatrix c(matrix.rows, right.floats.columns);
    std::vector<float> listed(matrix.rows * matrix.columns + kPanel);
    std::vector<std::uint32_t> places(listed.size()), ends(matrix.rows);
    const std::size_t first_block = n_panels(matrix.columns) / 2 * kPanel;
    for (const Range block : {Range{0, first_block}, Range{first_block, matrix.columns}}) {
        for (std::size_t row = 0; row < matrix.rows; row += kRowsListed)
            products.list_rows(matrix.panels().at(row, block.begin / kPanel), matrix.stride,
                               std::min(kRowsListed, matrix.rows - row), block.size(), row == 0 ? 0 : ends[row - 1],
                               {listed.data(), places.data(), ends.data() + row});
        products.multiply_listed({{listed.data(), places.data(), ends.data()},
                                  right.over_rows().panels().at(block.begin, 0),
                                  right.over_rows().stride,
                                  c.data(),
                                  c.stride,
                                  c.rows,
                                  c.columns,
                                  block.begin > 0});
    }
    return c.to_array(k.table);
}

// The lists of a matrix by groups of its columns, in parts of its rows.
struct GroupLists {
    GroupLists(const Products& products, const PanelMatrix& matrix, std::size_t n_parts)
        : entries(n_parts), counts(n_parts) {
        const std::size_t n_groups = (matrix.columns + kListedColumns - 1) / kListedColumns;
        for (std::size_t part = 0; part < n_parts; ++part) {
            const Range rows = even_part(matrix.rows, part, n_parts);
            entries[part].resize((rows.size() + kGroupSlack) * n_groups);
            counts[part].resize(n_groups);
            parts.push_back({entries[part].data(), counts[part].data(), rows.size() + kGroupSlack});
            for (std::size_t row = rows.begin; row < rows.end; row += kRowsListed)
                products.list_groups(matrix.panels().at(row, 0), matrix.stride, std::min(kRowsListed, rows.end - row),
                                     matrix.columns, row, parts.back());
        }
    }

    std::vector<std::vector<ListedWords>> entries;
    std::vector<std::vector<std::uint32_t>> counts;
    std::vector<ListedGroups> parts;
};

py::array_t<float> call_multiply_grouped(const std::string& set, const py::array& a, const py::array& b,
                                         std::size_t n_parts) {
    const Kernels k(set);
    const Products& products = k.table.float_products;
    require(products.multiply_grouped != nullptr, "this instruction set multiplies rows that are listed, not groups");
    require(n_parts >= 1 && n_parts <= kMostParts, "the number of parts must be 1 to 1,024");
    const PanelMatrix left(k.table, a), right(k.table, b);
    require(left.columns == right.rows, "inner dimensions differ");
    require_listable(left);
    const GroupLists lists(products, left, n_parts);
    PanelMatrix c(left.rows, right.columns);
    for (std::size_t part = 0; part < n_parts; ++part) {
        const Range rows = even_part(left.rows, part, n_parts);
        products.multiply_grouped({lists.parts[part], right.panels().data, right.stride, c.data(), c.stride, rows.begin,
                                   rows.size(), c.columns, left.columns});
    }
    return c.to_array(k.table);
}

py::array_t<float> call_multiply_transposed_listed(const std::string& set, const py::array& a, const py::array& b,
                                                   std::size_t n_parts, bool pairs) {
    const Kernels k(set);
    const Words words = words_of(k.table, pairs);
    const Products& products = products_of(k.table, words);
    require(n_parts >= 1 && n_parts <= kMostParts, "the number of parts must be 1 to 1,024");
    const Operand left(k.table, a, words), right(k.table, b, words);
    require(left.floats.rows == right.floats.rows, "inner dimensions differ");
    const PanelMatrix& matrix = left.over_rows();
    require_listable(matrix);
    PanelMatrix c(matrix.columns, right.floats.columns);
    const GroupLists lists(products, matrix, n_parts);
    products.multiply_transposed_listed({lists.parts.data(), n_parts, 0, right.over_rows().panels().data,
                                         right.over_rows().stride, c.data(), c.stride, c.rows, c.columns, false});
    return c.to_array(k.table);
}

py::array_t<float> call_sum_rows(const std::string& set, const py::array& a, bool pairs) {
    const Kernels k(set);
    const Words words = words_of(k.table, pairs);
    const Operand operand(k.table, a, words);
    const PanelMatrix& matrix = operand.over_rows();
    PanelMatrix sums(1, matrix.columns);
    // One row of a panel matrix has its panels one line apart, as the kernel writes them.
    products_of(k.table, words)
        .sum_rows(matrix.buffer.data(), matrix.stride, matrix.rows, matrix.n_panels_of_columns(), sums.data());
    return sums.to_array(k.table);
}

py::array_t<float> call_pack_uint8(const std::string& set, const py::array& a, const py::array& index) {
    const Kernels k(set);
    const auto* data = in_place<std::uint8_t>(a, 2, "a matrix");
    const std::vector<std::int64_t> rows = checked_indices(index, extent(a, 0), "index");
    PanelMatrix out(extent(index, 0), extent(a, 1));
    k.table.pack_uint8({data, out.columns, rows.data(), out.rows, out.columns}, out.data(), out.stride);
    return out.to_array(k.table);
}

// The matrix after packing, and whether all of it is finite.
std::pair<py::array_t<float>, bool> call_pack_float(const std::string& set, const py::array& a, bool to_bfloat16) {
    const Kernels k(set);
    const auto* data = in_place<float>(a, 2, "a matrix");
    PanelMatrix out(extent(a, 0), extent(a, 1));
    const bool finite = k.table.pack_float({data, out.columns, nullptr, out.rows, out.columns},
                                           rounding_of(to_bfloat16), out.data(), out.stride);
    return {out.to_array(k.table), finite};
}

std::pair<py::array_t<float>, py::array_t<float>> call_pack_uint8_pairs(const std::string& set, const py::array& a,
                                                                        const py::array& index) {
    const Kernels k(set);
    words_of(k.table, true);
    const auto* data = in_place<std::uint8_t>(a, 2, "a matrix");
    const std::vector<std::int64_t> rows = checked_indices(index, extent(a, 0), "index");
    Pairs out(rows.size(), extent(a, 1));
    k.table.pack_uint8_pairs({data, extent(a, 1), rows.data(), rows.size(), extent(a, 1)}, out.view());
    return out.to_arrays(k.table);
}

std::tuple<py::array_t<float>, py::array_t<float>, bool> call_pack_float_pairs(const std::string& set,
                                                                               const py::array& a,
                                                                               const py::array& index) {
    const Kernels k(set);
    words_of(k.table, true);
    const auto* data = in_place<float>(a, 2, "a matrix");
    const std::vector<std::int64_t> rows = checked_indices(index, extent(a, 0), "index");
    Pairs out(rows.size(), extent(a, 1));
    const bool finite =
        k.table.pack_float_pairs({data, extent(a, 1), rows.data(), rows.size(), extent(a, 1)}, out.view());
    const auto [by_columns, by_rows] = out.to_arrays(k.table);
    return {by_columns, by_rows, finite};
}

std::pair<py::array_t<float>, py::array_t<float>> call_pair(const std::string& set, const py::array& a) {
    const Kernels k(set);
    return Operand(k.table, a, words_of(k.table, true)).pairs->to_arrays(k.table);
}

py::array_t<std::int64_t> call_count_nonzeros(const std::string& set, const py::array& a, std::size_t together) {
    const Kernels k(set);
    require(a.ndim() == 2, "a matrix has two dimensions");
    require(together == 1 || together == kListedColumns, "columns count alone or in groups of 4");
    const std::size_t rows = extent(a, 0), columns = extent(a, 1);
    auto counts = new_array<std::int64_t>({rows});
    const bool pixels = py::isinstance<py::array_t<std::uint8_t>>(a);
    for (std::size_t row = 0; row < rows; ++row)
        counts.mutable_data()[row] = static_cast<std::int64_t>(
            pixels ? k.table.count_nonzeros_uint8(in_place<std::uint8_t>(a, 2, "a") + row * columns, columns, together)
                   : k.table.count_nonzeros_float(in_place<float>(a, 2, "a") + row * columns, columns, together));
    return counts;
}

// The numbers in an operand that was written for `rows` rows of one panel or more.
py::array_t<float> operand_numbers(const KernelTable& table, const PanelMatrix& operand) {
    return has_pairs(table) ? numbers_in(table, operand, true) : operand.to_array(table);
}
std::size_t operand_rows(const KernelTable& table, std::size_t rows) {
    return n_words(has_pairs(table) ? Words::kBfloat16Pairs : Words::kFloats, rows);
}

py::array_t<float> call_write_operand(const std::string& set, const py::array& value) {
    const Kernels k(set);
    const PanelMatrix matrix(k.table, value);
    PanelMatrix operand(operand_rows(k.table, matrix.rows), matrix.columns);
    for (std::size_t panel = 0; panel < matrix.n_panels_of_columns(); ++panel)
        k.table.write_operand(matrix.panels().at(0, panel), operand.panels().at(0, panel), matrix.rows);
    return operand_numbers(k.table, operand);
}

// Averages after a step towards a value, and whether they are finite; for a whole number of panels.
std::pair<py::array_t<float>, bool> call_average(const std::string& set, const py::array& averages,
                                                 const py::array& value, float part) {
    const Kernels k(set);
    PanelMatrix average(k.table, averages);
    const PanelMatrix towards(k.table, value);
    require(average.rows == towards.rows && average.columns == towards.columns, "shapes differ");
    const bool finite = k.table.average(average.data(), towards.buffer.data(), part, average.buffer.size());
    return {average.to_array(k.table), finite};
}

py::array_t<double> call_add_squares(const std::string& set, const py::array& a) {
    const Kernels k(set);
    const PanelMatrix matrix(k.table, a);
    std::vector<double> sums(matrix.n_panels_of_columns() * kPanel);
    for (std::size_t panel = 0; panel < matrix.n_panels_of_columns(); ++panel)
        k.table.add_squares(matrix.panels().at(0, panel), matrix.rows, sums.data() + panel * kPanel);
    return py::array_t<double>(static_cast<py::ssize_t>(matrix.columns), sums.data());
}

py::array_t<float> call_scale_columns(const std::string& set, const py::array& a, const py::array& factors) {
    const Kernels k(set);
    PanelMatrix matrix(k.table, a);
    const PanelMatrix line(k.table, factors);
    require(line.rows == 1 && line.columns == matrix.columns, "factors must be one row as wide as a");
    for (std::size_t panel = 0; panel < matrix.n_panels_of_columns(); ++panel)
        k.table.scale_columns(matrix.panels().at(0, panel), matrix.rows, line.panels().at(0, panel));
    return matrix.to_array(k.table);
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
    const Targets wanted = targets_of(targets, matrix.rows, matrix.columns, loss, weights, label_smoothing);
    auto losses = new_array<float>({matrix.rows});
    (k.table.*kernel)({matrix.data(), matrix.stride, matrix.rows, matrix.columns, wanted.labels, wanted.values, nullptr,
                       delta_scale, rounding_of(to_bfloat16), losses.mutable_data(), wanted.weights,
                       wanted.label_smoothing});
    return {losses, matrix.to_array(k.table)};
}

template <LossKernel KernelTable::* kernel, Loss loss>
void bind_loss(py::module_& kernels, const char* name) {
    using namespace pybind11::literals;
    kernels.def(name, &call_loss<kernel, loss>, "instruction_set"_a, "outputs"_a, "targets"_a, "delta_scale"_a,
                "to_bfloat16"_a, "weights"_a = py::none(), "label_smoothing"_a = 0.0f,
                "Losses, and the gradient of the outputs times delta_scale.");
}

// Parameters and moments after one update, and the parameters as an operand of products in mixed_bfloat16; count a
// multiple of 16.
using Updated = std::tuple<py::array_t<float>, py::array_t<float>, py::array_t<float>, py::array_t<float>>;

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
    PanelMatrix operand(operand_rows(k.table, count / kPanel), kPanel);
    (is_adam ? k.table.adam : k.table.sgd)(
        update, buffers[0].data(), {buffers[1].data(), buffers[2].data(), buffers[3].data(), operand.data()}, count);
    const auto out = [&](std::size_t i) {
        return py::array_t<float>(static_cast<py::ssize_t>(count), buffers[i].data());
    };
    return {out(1), out(2), out(3), operand_numbers(k.table, operand)};
}

using Planes = std::pair<py::array_t<float>, py::array_t<float>>;

Planes call_random_fields(const std::string& set, std::uint64_t seed, std::uint32_t purpose, std::uint32_t stream,
                          std::uint64_t first_counter, float scale, const py::array& taps, std::size_t height,
                          std::size_t width) {
    const Kernels k(set);
    const auto* tap = in_place<std::int16_t>(taps, 1, "taps");
    const std::size_t n_taps = extent(taps, 0), radius = n_taps / 2;
    require(n_taps % 2 == 1, "the number of taps must be odd");
    require(height <= kMaxImageSide && width <= kMaxImageSide, "the image is too large");
    std::vector<std::uint16_t> padded(n_tap_pairs(radius) + 1);
    std::copy(tap, tap + n_taps, padded.begin() + kTapMargin);
    std::vector<float> pairs(n_tap_pairs(radius));
    for (std::size_t i = 0; i < pairs.size(); ++i)
        pairs[i] = std::bit_cast<float>(std::uint32_t{padded[i]} << 16 | padded[i + 1]);
    AlignedBuffer x(plane_size(height, width)), y(x.size()), scratch(random_fields_scratch_size(height, width));
    k.table.random_fields({seed, purpose, stream, first_counter, scale, pairs.data(), radius, height, width, x.data(),
                           y.data(), scratch.data()});
    const auto out = [&](const float* rows) {
        auto array = new_array<float>({height, width});
        for (std::size_t row = 0; row < height; ++row, rows += n_panels(width) * kPanel)
            std::copy(rows, rows + width, array.mutable_data() + row * width);
        return array;
    };
    return {out(x.data()), out(y.data())};
}

// coefficients: column_x, row_x, offset_x, column_y, row_y, offset_y.
py::array_t<std::uint8_t> call_resample(const std::string& set, const py::array& image, const py::array& coefficients,
                                        const std::optional<std::pair<py::array, py::array>>& displacement) {
    const Kernels k(set);
    const auto* pixels = in_place<std::uint8_t>(image, 2, "image");
    const auto* c = in_place<float>(coefficients, 1, "coefficients");
    const std::size_t height = extent(image, 0), width = extent(image, 1);
    require(height >= 1 && width >= 1 && height <= kMaxImageSide && width <= kMaxImageSide, "the image has a bad size");
    require(extent(coefficients, 0) == 6, "there must be 6 coefficients");
    AlignedBuffer planes[2];
    if (displacement) {
        const py::array* fields[] = {&displacement->first, &displacement->second};
        for (int i = 0; i < 2; ++i) {
            const auto* rows = in_place<float>(*fields[i], 2, "displacement");
            require(extent(*fields[i], 0) == height && extent(*fields[i], 1) == width, "shapes differ");
            planes[i] = AlignedBuffer(plane_size(height, width));
            for (std::size_t row = 0; row < height; ++row, rows += width)
                std::copy(rows, rows + width, planes[i].data() + row * n_panels(width) * kPanel);
        }
    }
    AlignedBuffer scratch(resampling_scratch_size(height, width));
    auto out = new_array<std::uint8_t>({height, width});
    k.table.resample({pixels, height, width, c[0], c[1], c[2], c[3], c[4], c[5], planes[0].data(), planes[1].data(),
                      out.mutable_data(), scratch.data()});
    return out;
}

}  // namespace

void bind_kernels(py::module_& m) {
    using namespace pybind11::literals;
    py::module_ kernels = m.def_submodule("kernels", "Single kernels of a chosen instruction set, for tests.");
    kernels.def(
        "has_pair_products", [](const std::string& set) { return has_pairs(Kernels(set).table); }, "instruction_set"_a,
        "Whether the set has products of bfloat16 pairs.");
    kernels.def("multiply", &call_multiply, "instruction_set"_a, "a"_a, "b"_a, "pairs"_a = false, "a @ b.");
    kernels.def("multiply_transposed", &call_multiply_transposed, "instruction_set"_a, "a"_a, "b"_a, "pairs"_a = false,
                "a.T @ b.");
    kernels.def("multiply_by_transposed", &call_multiply_by_transposed, "instruction_set"_a, "a"_a, "w"_a,
                "pairs"_a = false, "a @ w.T.");
    kernels.def("multiply_listed", &call_multiply_listed, "instruction_set"_a, "a"_a, "b"_a, "pairs"_a = false,
                "a @ b, without the words of a that are 0.");
    kernels.def(
        "has_grouped_product",
        [](const std::string& set) { return Kernels(set).table.float_products.multiply_grouped != nullptr; },
        "instruction_set"_a, "Whether the set has multiply_grouped.");
    kernels.def("multiply_grouped", &call_multiply_grouped, "instruction_set"_a, "a"_a, "b"_a, "n_parts"_a = 1,
                "a @ b, without the groups of words of a that are 0; listed in n_parts parts of its rows.");
    kernels.def("multiply_transposed_listed", &call_multiply_transposed_listed, "instruction_set"_a, "a"_a, "b"_a,
                "n_parts"_a = 1, "pairs"_a = false,
                "a.T @ b, without the words of a that are 0; its rows are listed in n_parts parts.");
    kernels.def("sum_rows", &call_sum_rows, "instruction_set"_a, "a"_a, "pairs"_a = false,
                "Sums of the columns, as one row.");
    kernels.def("pack_uint8", &call_pack_uint8, "instruction_set"_a, "a"_a, "index"_a, "a[index] as float32.");
    kernels.def("pack_float", &call_pack_float, "instruction_set"_a, "a"_a, "to_bfloat16"_a,
                "a, rounded if asked for, and whether all of it is finite.");
    kernels.def("pack_uint8_pairs", &call_pack_uint8_pairs, "instruction_set"_a, "a"_a, "index"_a,
                "a[index] in pairs of columns and of rows; an odd last one is paired with zeros.");
    kernels.def("pack_float_pairs", &call_pack_float_pairs, "instruction_set"_a, "a"_a, "index"_a,
                "a[index] in pairs of columns and of rows, rounded, and whether all of it is finite.");
    kernels.def("pair", &call_pair, "instruction_set"_a, "a"_a, "a in pairs of columns and of rows, rounded.");
    kernels.def("count_nonzeros", &call_count_nonzeros, "instruction_set"_a, "a"_a, "together"_a = 1,
                "Non-zeros of each row, or with together=4 groups of columns that have any.");
    kernels.def("write_operand", &call_write_operand, "instruction_set"_a, "value"_a,
                "value as products take it in mixed_bfloat16; in pairs, an odd last row is followed by zeros.");
    kernels.def("average", &call_average, "instruction_set"_a, "averages"_a, "value"_a, "part"_a,
                "averages + part * (value - averages), and whether all of it is finite.");
    kernels.def("add_squares", &call_add_squares, "instruction_set"_a, "a"_a, "Sums of the columns' squares.");
    kernels.def("scale_columns", &call_scale_columns, "instruction_set"_a, "a"_a, "factors"_a, "a * factors.");
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
        "Value and moments after step number `step`, from 1, and the value as write_operand gives it.");
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
            return std::make_tuple(std::get<0>(updated), std::get<1>(updated), std::get<3>(updated));
        },
        "instruction_set"_a, "gradient"_a, "value"_a, "velocity"_a, "learning_rate"_a, "momentum"_a,
        "nesterov"_a = false, "weight_decay"_a = 0.0,
        "Value and velocity after one step, and the value as write_operand gives it.");
    kernels.def("random_fields", &call_random_fields, "instruction_set"_a, "seed"_a, "purpose"_a, "stream"_a,
                "first_counter"_a, "scale"_a, "taps"_a, "height"_a, "width"_a, "Two smooth random fields.");
    kernels.def("resample", &call_resample, "instruction_set"_a, "image"_a, "coefficients"_a,
                "displacement"_a = py::none(), "The image at other places than its pixels.");
}

}  // namespace fastmlp::bindings
