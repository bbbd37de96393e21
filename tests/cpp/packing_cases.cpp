// Between row-major arrays and panel matrices.
#include <cmath>
#include <iterator>
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
                    for (const bool with_rows : {false, true})
                        if (has_pairs()) pack_pairs(rows, columns, indexed, with_rows);
                }
        for (const std::size_t columns : kColumns) count_nonzeros(columns);
        for (const std::size_t rows : {0, 1, 2, 7, 8}) {
            write_operand(rows);
            for (const std::size_t panels : {0, 1, 2, 5})
                for (const bool with_rows : {false, true})
                    if (has_pairs()) pair(rows, panels, with_rows);
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
        {
            const FloatingPointScope scope(table_);
            table_.pack_uint8(data.data(), row_stride, indexed ? index.data() : nullptr, rows, columns, out.data(),
                              out.stride());
        }
        for (std::size_t i = 0; i < rows; ++i)
            for (std::size_t j = 0; j < columns; ++j)
                item.expect_exactly(out.at(i, j), data[row_stride * (indexed ? at(index, i) : i) + j]);
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
        {
            const FloatingPointScope scope(table_);
            item.require(table_.pack_float(data.data(), row_stride, indexed ? index.data() : nullptr, rows, columns,
                                           rounding, out.data(), out.stride()),
                         "finite numbers were taken for others");
        }
        for (std::size_t i = 0; i < rows; ++i)
            for (std::size_t j = 0; j < columns; ++j) {
                const float value = data[row_stride * (indexed ? at(index, i) : i) + j];
                item.expect_exactly(out.at(i, j), rounding == Rounding::kNone ? value : bfloat16(value));
            }
        item.require(out.padding_is_zero(), "padding is not zero");
        item.require(out.frame_is_untouched(), "wrote outside the result");
    }

    void count_nonzeros(std::size_t columns) {
        Item item(set_, "count_nonzeros " + shape(columns));
        std::vector<std::uint8_t> pixels(columns);
        std::vector<float> values(columns);
        std::size_t n_pixels = 0, n_values = 0;
        for (std::size_t j = 0; j < columns; ++j) {
            pixels[j] = static_cast<std::uint8_t>(random_.below(2) * random_.below(256));
            n_pixels += pixels[j] != 0 ? 1 : 0;
            constexpr float kinds[] = {0.0f, -0.0f, 1.0f, 0x1p-126f, -0x1p-149f, kInfinity};  // denormals are 0
            const std::size_t kind = random_.below(std::size(kinds));
            values[j] = kinds[kind];
            n_values += kind == 2 || kind == 3 || kind == 5 ? 1 : 0;
        }
        const FloatingPointScope scope(table_);
        item.require(table_.count_nonzeros_uint8(pixels.data(), columns) == n_pixels, "miscounted pixels");
        item.require(table_.count_nonzeros_float(values.data(), columns) == n_values, "miscounted numbers");
    }

    // Numbers in pairs, both ways, and all around them untouched.
    struct Pairs {
        Pairs(std::size_t rows, std::size_t columns)
            : n_rows(rows), n_columns(columns), by_columns(rows, (columns + 1) / 2), by_rows((rows + 1) / 2, columns) {}

        PairedMatrix view(bool with_rows) {
            return {by_columns.data(), by_columns.stride(), with_rows ? by_rows.data() : nullptr, by_rows.stride()};
        }
        template <class Number>
        void expect(Item& item, bool with_rows, Number number) const {
            const auto padded = [&](std::size_t i, std::size_t j) {
                return i < n_rows && j < n_columns ? bfloat16(number(i, j)) : 0.0f;
            };
            for (std::size_t i = 0; i < by_columns.rows(); ++i)
                for (std::size_t j = 0; j < by_columns.columns(); ++j)
                    for (std::size_t half = 0; half < 2; ++half)
                        item.expect_exactly(half_of(by_columns.at(i, j), half), padded(i, 2 * j + half));
            for (std::size_t i = 0; with_rows && i < by_rows.rows(); ++i)
                for (std::size_t j = 0; j < by_rows.columns(); ++j)
                    for (std::size_t half = 0; half < 2; ++half)
                        item.expect_exactly(half_of(by_rows.at(i, j), half), padded(2 * i + half, j));
            item.require(by_columns.padding_is_zero() && (!with_rows || by_rows.padding_is_zero()),
                         "padding is not zero");
            item.require(by_columns.frame_is_untouched() && by_rows.frame_is_untouched(), "wrote outside the result");
        }

        std::size_t n_rows, n_columns;
        Matrix by_columns, by_rows;
    };

    void pack_pairs(std::size_t rows, std::size_t columns, bool indexed, bool with_rows) {
        const std::string kind = std::string(indexed ? "_indexed" : "") + (with_rows ? " " : "_by_columns ");
        const std::size_t row_stride = columns + 3;
        std::vector<std::uint8_t> pixels(row_stride * rows);
        std::vector<float> values(row_stride * rows);
        for (auto& pixel : pixels) pixel = static_cast<std::uint8_t>(pairs_random_.below(256));
        for (auto& value : values) value = pairs_random_.below(4) == 0 ? 0x1p-140f : pairs_random_.symmetric();
        const std::vector<std::int64_t> order = pairs_random_.permutation(rows);
        const std::int64_t* index = indexed ? order.data() : nullptr;
        const auto place = [&](std::size_t i, std::size_t j) { return row_stride * (indexed ? at(order, i) : i) + j; };
        const auto flushed = [](float x) { return std::fabs(x) < 0x1p-126f ? 0.0f : x; };
        {
            Item item(set_, "pairs_pack_uint8" + kind + shape(rows, columns));
            Pairs out(rows, columns);
            {
                const FloatingPointScope scope(table_);
                table_.pack_uint8_pairs(pixels.data(), row_stride, index, rows, columns, out.view(with_rows));
            }
            out.expect(item, with_rows, [&](std::size_t i, std::size_t j) { return pixels[place(i, j)]; });
        }
        Item item(set_, "pairs_pack_float" + kind + shape(rows, columns));
        Pairs out(rows, columns);
        {
            const FloatingPointScope scope(table_);
            item.require(table_.pack_float_pairs(values.data(), row_stride, index, rows, columns, out.view(with_rows)),
                         "finite numbers were taken for others");
        }
        out.expect(item, with_rows, [&](std::size_t i, std::size_t j) { return flushed(values[place(i, j)]); });
    }

    // `pair` sees whole panels.
    void pair(std::size_t rows, std::size_t panels, bool with_rows) {
        Item item(set_, std::string("pairs_pair") + (with_rows ? " " : "_by_columns ") + shape(rows, panels));
        Matrix matrix(rows, panels * kPanel);
        matrix.fill_randomly(pairs_random_);
        Pairs out(rows, panels * kPanel);
        {
            const FloatingPointScope scope(table_);
            table_.pair(matrix.data(), matrix.stride(), rows, panels, out.view(with_rows));
        }
        out.expect(item, with_rows, [&](std::size_t i, std::size_t j) { return matrix.at(i, j); });
    }

    void write_operand(std::size_t rows) {
        Item item(set_, "write_operand " + shape(rows));
        const std::size_t words = has_pairs() ? (rows + 1) / 2 : rows;
        Matrix value(rows, kPanel), operand(words, kPanel);
        value.fill_randomly(random_);
        {
            const FloatingPointScope scope(table_);
            table_.write_operand(value.data(), operand.data(), rows);
        }
        for (std::size_t i = 0; i < rows; ++i)
            for (std::size_t j = 0; j < kPanel; ++j)
                item.expect_exactly(has_pairs() ? half_of(operand.at(i / 2, j), i % 2) : operand.at(i, j),
                                    bfloat16(value.at(i, j)));
        for (std::size_t j = 0; has_pairs() && rows % 2 == 1 && j < kPanel; ++j)
            item.require(half_of(operand.at(words - 1, j), 1) == 0.0f, "the partner of an odd last row is not 0");
        item.require(operand.frame_is_untouched(), "wrote outside the result");
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
                Pairs pairs(rows, columns);
                const FloatingPointScope scope(table_);
                const bool finite = table_.pack_float(data.data(), row_stride, nullptr, rows, columns, Rounding::kNone,
                                                      out.data(), out.stride());
                const bool outside = place / row_stride >= rows || place % row_stride >= columns;
                item.require(finite == outside, "a number that is not finite was missed, or seen where none is");
                if (has_pairs())
                    item.require(table_.pack_float_pairs(data.data(), row_stride, nullptr, rows, columns,
                                                         pairs.view(true)) == outside,
                                 "pairs: a number that is not finite was missed, or seen where none is");
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
        for (const std::size_t rows : {0, 1, 2, 3, 15, 16})
            for (const std::size_t columns : kColumns) {
                Matrix w(rows, columns);
                w.fill([&](std::size_t, std::size_t) { return bfloat16(random_.symmetric()); });
                transpose_floats(w);
                if (has_pairs()) transpose_pairs(w);
            }
    }

    void transpose_floats(const Matrix& w) {
        Item item(set_, "transpose_panel " + shape(w.rows(), w.columns()));
        Floats out(w.columns() * kPanel);
        {
            const FloatingPointScope scope(table_);
            table_.float_products.transpose_panel(w.data(), w.stride(), w.rows(), w.columns(), out.data());
        }
        for (std::size_t j = 0; j < w.columns(); ++j)
            for (std::size_t i = 0; i < kPanel; ++i)
                item.expect_exactly(out[kPanel * j + i], i < w.rows() ? w.at(i, j) : 0.0f);
    }

    // Pairs of rows of w to pairs of rows of its transpose; as in weights, padding is zero.
    void transpose_pairs(const Matrix& w) {
        Item item(set_, "pairs_transpose_panel " + shape(w.rows(), w.columns()));
        const auto number = [&](std::size_t i, std::size_t j) {
            return i < w.rows() && j < w.columns() ? w.at(i, j) : 0.0f;
        };
        Matrix words((w.rows() + 1) / 2, w.columns());
        words.fill([&](std::size_t i, std::size_t j) { return pair_of(number(2 * i, j), number(2 * i + 1, j)); });
        words.clear_padding();
        const std::size_t lines = (w.columns() + 1) / 2;
        Floats out(lines * kPanel);
        {
            const FloatingPointScope scope(table_);
            table_.pair_products.transpose_panel(words.data(), words.stride(), w.rows(), w.columns(), out.data());
        }
        for (std::size_t j = 0; j < lines; ++j)
            for (std::size_t i = 0; i < kPanel; ++i)
                for (std::size_t half = 0; half < 2; ++half)
                    item.expect_exactly(half_of(out[kPanel * j + i], half), number(i, 2 * j + half));
    }
};

}  // namespace

void check_packing(const KernelTable& table) { PackingCases(table).run(); }

}  // namespace fastmlp::test
