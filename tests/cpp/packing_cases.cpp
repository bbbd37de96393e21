// Between row-major arrays and panel matrices.
#include <limits>
#include <string>
#include <vector>

#include "../../cpp/core/floating_point.h"
#include "kernel_cases.h"
#include "matrix.h"

namespace fastmlp::test {
namespace {

constexpr std::size_t kColumns[] = {0, 1, 2, 15, 16, 17, 31, 33, 100};

class PackingCases : KernelCases {
 public:
    using KernelCases::KernelCases;

    void run() {
        packing();
        transposing();
    }

 private:
    void packing() {
        for (const std::size_t columns : kColumns)
            for (const std::size_t rows : {std::size_t{0}, std::size_t{1}, std::size_t{7}})
                for (const bool indexed : {false, true}) {
                    pack_uint8(rows, columns, indexed);
                    for (const Rounding rounding : {Rounding::kNone, Rounding::kBfloat16})
                        pack_float(rows, columns, indexed, rounding);
                    if (!indexed) unpack(rows, columns);
                }
        pack_not_finite();
    }

    void pack_uint8(std::size_t rows, std::size_t columns, bool indexed) {
        Item item(set_, indexed ? "pack_uint8_indexed " + shape(rows, columns) : "pack_uint8 " + shape(rows, columns));
        const std::size_t row_stride = columns + 3;
        std::vector<std::uint8_t> data(row_stride * rows);
        for (auto& value : data) value = static_cast<std::uint8_t>(random_.below(256));
        const std::vector<std::int64_t> index = random_.permutation(rows);
        Matrix out(rows, columns);
        Packed packed;
        {
            const FloatingPointScope scope(table_);
            packed = table_.pack_uint8(data.data(), row_stride, indexed ? index.data() : nullptr, rows, columns,
                                       out.data(), out.stride());
        }
        for (std::size_t i = 0; i < rows; ++i)
            for (std::size_t j = 0; j < columns; ++j)
                item.expect_exactly(out.at(i, j), data[row_stride * (indexed ? at(index, i) : i) + j]);
        require_counted(item, packed, out);
        item.require(out.padding_is_zero(), "padding is not zero");
        item.require(out.frame_is_untouched(), "wrote outside the result");
    }

    void pack_float(std::size_t rows, std::size_t columns, bool indexed, Rounding rounding) {
        Item item(set_, std::string("pack_float") + (indexed ? "_indexed" : "") + name_of(rounding) + " " +
                            shape(rows, columns));
        const std::size_t row_stride = columns + 3;
        std::vector<float> data(row_stride * rows);
        for (auto& value : data) value = random_.symmetric();
        for (std::size_t i = 0; i < data.size(); i += 3) data[i] = 0.0f;
        if (!data.empty()) data[0] = -std::numeric_limits<float>::max() / 2;
        const std::vector<std::int64_t> index = random_.permutation(rows);
        Matrix out(rows, columns);
        Packed packed;
        {
            const FloatingPointScope scope(table_);
            packed = table_.pack_float(data.data(), row_stride, indexed ? index.data() : nullptr, rows, columns,
                                       rounding, out.data(), out.stride());
        }
        for (std::size_t i = 0; i < rows; ++i)
            for (std::size_t j = 0; j < columns; ++j) {
                const float value = data[row_stride * (indexed ? at(index, i) : i) + j];
                item.expect_exactly(out.at(i, j), rounding == Rounding::kNone ? value : bfloat16(value));
            }
        require_counted(item, packed, out);
        item.require(out.padding_is_zero(), "padding is not zero");
        item.require(out.frame_is_untouched(), "wrote outside the result");
    }

    static void require_counted(Item& item, const Packed& packed, const Matrix& out) {
        std::size_t nonzeros = 0;
        for (std::size_t i = 0; i < out.rows(); ++i)
            for (std::size_t j = 0; j < out.columns(); ++j) nonzeros += out.at(i, j) != 0.0f ? 1 : 0;
        item.require(packed.nonzeros == nonzeros, "miscounted the elements that are not 0");
        item.require(packed.finite, "finite numbers were taken for others");
    }

    // One bad number, in any column of any row, is noticed; one outside the rows and columns asked for is not.
    void pack_not_finite() {
        Item item(set_, "pack_float_not_finite");
        constexpr std::size_t rows = 3, columns = 21, row_stride = 22;
        for (const float bad : {kInfinity, -kInfinity, kNan})
            for (std::size_t place = 0; place < (rows + 1) * row_stride; ++place) {
                std::vector<float> data((rows + 1) * row_stride, 1.0f);
                data[place] = bad;
                Matrix out(rows, columns);
                const FloatingPointScope scope(table_);
                const bool finite = table_
                                        .pack_float(data.data(), row_stride, nullptr, rows, columns, Rounding::kNone,
                                                    out.data(), out.stride())
                                        .finite;
                const bool outside = place / row_stride >= rows || place % row_stride >= columns;
                item.require(finite == outside, "a number that is not finite was missed, or seen where none is");
            }
    }

    void unpack(std::size_t rows, std::size_t columns) {
        Item item(set_, "unpack " + shape(rows, columns));
        const std::size_t row_stride = columns + 5;
        Matrix matrix(rows, columns);
        matrix.fill_randomly(random_);
        std::vector<float> out(row_stride * rows, 7.0f);
        {
            const FloatingPointScope scope(table_);
            table_.unpack(matrix.data(), matrix.stride(), rows, columns, out.data(), row_stride);
        }
        for (std::size_t i = 0; i < rows; ++i)
            for (std::size_t j = 0; j < row_stride; ++j)
                item.expect_exactly(out[row_stride * i + j], j < columns ? matrix.at(i, j) : 7.0f);
    }

    void transposing() {
        for (const std::size_t rows : {0, 1, 3, 15, 16})
            for (const std::size_t columns : kColumns) {
                Item item(set_, "transpose_panel " + shape(rows, columns));
                Matrix w(rows, columns);
                w.fill_randomly(random_);
                Floats out(columns * kPanel);
                {
                    const FloatingPointScope scope(table_);
                    table_.transpose_panel(w.data(), w.stride(), rows, columns, out.data());
                }
                for (std::size_t j = 0; j < columns; ++j)
                    for (std::size_t i = 0; i < kPanel; ++i)
                        item.expect_exactly(out[kPanel * j + i], i < rows ? w.at(i, j) : 0.0f);
            }
    }
};

}  // namespace

void check_packing(const KernelTable& table) { PackingCases(table).run(); }

}  // namespace fastmlp::test
