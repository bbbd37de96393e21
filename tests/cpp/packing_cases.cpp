// Between row-major arrays and panel matrices.
#include <algorithm>
#include <bit>
#include <cmath>
#include <iterator>
#include <limits>
#include <set>
#include <string>
#include <vector>

#include "../../cpp/core/floating_point.h"
#include "../../cpp/core/panels.h"
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
        lists_of_pixels();
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
            for (const std::size_t panels : {0, 1, 2, 5}) {
                if (!has_pairs()) continue;
                pair(rows, panels, true, true);
                pair(rows, panels, false, true);
                pair(rows, panels, true, false);
            }
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
            table_.pack_uint8({data.data(), row_stride, indexed ? index.data() : nullptr, rows, columns}, out.data(),
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
            item.require(table_.pack_float({data.data(), row_stride, indexed ? index.data() : nullptr, rows, columns},
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
        std::set<std::size_t> pixel_groups, value_groups;
        for (std::size_t j = 0; j < columns; ++j) {
            pixels[j] = static_cast<std::uint8_t>(random_.below(2) * random_.below(256));
            if (pixels[j] != 0) {
                ++n_pixels;
                pixel_groups.insert(j / kListedColumns);
            }
            constexpr float kinds[] = {0.0f, -0.0f, 1.0f, 0x1p-126f, -0x1p-149f, kInfinity};  // denormals are 0
            const std::size_t kind = random_.below(std::size(kinds));
            values[j] = kinds[kind];
            if (kind == 2 || kind == 3 || kind == 5) {
                ++n_values;
                value_groups.insert(j / kListedColumns);
            }
        }
        const FloatingPointScope scope(table_);
        item.require(table_.count_nonzeros_uint8(pixels.data(), columns, 1) == n_pixels, "miscounted pixels");
        item.require(table_.count_nonzeros_float(values.data(), columns, 1) == n_values, "miscounted numbers");
        item.require(table_.count_nonzeros_uint8(pixels.data(), columns, kListedColumns) == pixel_groups.size(),
                     "miscounted groups of pixels");
        item.require(table_.count_nonzeros_float(values.data(), columns, kListedColumns) == value_groups.size(),
                     "miscounted groups of numbers");
    }

    // Numbers in pairs, both ways, and all around them untouched.
    struct Pairs {
        Pairs(std::size_t rows, std::size_t columns)
            : n_rows(rows), n_columns(columns), by_columns(rows, (columns + 1) / 2), by_rows((rows + 1) / 2, columns) {}

        PairedMatrix view(bool with_rows, bool with_columns = true) {
            return {with_columns ? by_columns.data() : nullptr, by_columns.stride(),
                    with_rows ? by_rows.data() : nullptr, by_rows.stride()};
        }
        template <class Number>
        void expect(Item& item, bool with_rows, Number number, bool with_columns = true) const {
            const auto padded = [&](std::size_t i, std::size_t j) {
                return i < n_rows && j < n_columns ? bfloat16(number(i, j)) : 0.0f;
            };
            for (std::size_t i = 0; with_columns && i < by_columns.rows(); ++i)
                for (std::size_t j = 0; j < by_columns.columns(); ++j)
                    for (std::size_t half = 0; half < 2; ++half)
                        item.expect_exactly(half_of(by_columns.at(i, j), half), padded(i, 2 * j + half));
            for (std::size_t i = 0; with_rows && i < by_rows.rows(); ++i)
                for (std::size_t j = 0; j < by_rows.columns(); ++j)
                    for (std::size_t half = 0; half < 2; ++half)
                        item.expect_exactly(half_of(by_rows.at(i, j), half), padded(2 * i + half, j));
            item.require((!with_columns || by_columns.padding_is_zero()) && (!with_rows || by_rows.padding_is_zero()),
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
                table_.pack_uint8_pairs({pixels.data(), row_stride, index, rows, columns}, out.view(with_rows));
            }
            out.expect(item, with_rows, [&](std::size_t i, std::size_t j) { return pixels[place(i, j)]; });
        }
        Item item(set_, "pairs_pack_float" + kind + shape(rows, columns));
        Pairs out(rows, columns);
        {
            const FloatingPointScope scope(table_);
            item.require(
                table_.pack_float_pairs({values.data(), row_stride, index, rows, columns}, out.view(with_rows)),
                "finite numbers were taken for others");
        }
        out.expect(item, with_rows, [&](std::size_t i, std::size_t j) { return flushed(values[place(i, j)]); });
    }

    // `pair` sees whole panels.
    void pair(std::size_t rows, std::size_t panels, bool with_rows, bool with_columns) {
        const char* const kind = !with_rows ? "_by_columns " : with_columns ? " " : "_by_rows ";
        Item item(set_, std::string("pairs_pair") + kind + shape(rows, panels));
        Matrix matrix(rows, panels * kPanel);
        matrix.fill_randomly(pairs_random_);
        Pairs out(rows, panels * kPanel);
        {
            const FloatingPointScope scope(table_);
            table_.pair(matrix.data(), matrix.stride(), rows, panels, out.view(with_rows, with_columns));
        }
        out.expect(item, with_rows, [&](std::size_t i, std::size_t j) { return matrix.at(i, j); }, with_columns);
    }

    void lists_of_pixels() {
        // The widest have two blocks of kMostListedDepth pixels, or pairs.
        for (const std::size_t columns : {1, 2, 15, 16, 17, 31, 33, 100, 330, 512, 1024}) {
            for (const std::size_t rows : {1, 2, 3, 8, 15, 16})
                for (const unsigned zero_eighths : {0, 6, 8}) {
                    if (columns <= 2 * kMostListedDepth)
                        list_pixels(Words::kFloats, "", random_, rows, columns, zero_eighths);
                    if (has_pairs())
                        list_pixels(Words::kBfloat16Pairs, "pairs_", pairs_random_, rows, columns, zero_eighths);
                }
        }
    }

    // Of two blocks of columns and twice as many rows, every other of the pixels' rows, in two calls. Sets without
    // kernels for that make the lists by way of a matrix, as InputBatch does.
    void list_pixels(Words words, const std::string& prefix, Random& random, std::size_t rows, std::size_t columns,
                     unsigned zero_eighths) {
        Item item(set_, prefix + "list_pixels " + shape(rows, columns, zero_eighths));
        constexpr std::size_t kFirstRow = 6;  // of the listed rows, in words
        const std::size_t numbers = words == Words::kFloats ? 1 : 2, row_stride = columns + 3;
        std::vector<std::uint8_t> data(4 * rows * row_stride);
        for (auto& pixel : data)
            pixel = random.below(8) < zero_eighths ? std::uint8_t{0} : static_cast<std::uint8_t>(1 + random.below(255));
        std::vector<std::int64_t> index;
        for (std::size_t row = 0; row < 2 * rows; ++row) index.push_back(static_cast<std::int64_t>(2 * row + 1));
        const auto pixel = [&](std::size_t row, std::size_t column) {
            return row < 2 * rows && column < columns ? static_cast<float>(data[(2 * row + 1) * row_stride + column])
                                                      : 0.0f;
        };
        const auto word = [&](float first, float second) {
            return words == Words::kFloats ? first : pair_of(first, second);
        };

        const std::size_t depth = n_words(words, columns), first_block = n_panels(depth) / 2 * kPanel;
        const std::size_t most_words = 2 * rows * depth, words_of_rows = n_words(words, rows);
        const std::size_t n_groups = (columns + kListedColumns - 1) / kListedColumns;
        const std::size_t capacity = 2 * words_of_rows + kGroupSlack;
        std::vector<float> listed(most_words + kRowSlack);
        std::vector<std::uint32_t> places(listed.size()), ends(2 * rows), counts(n_groups);
        std::vector<ListedWords> entries(n_groups * capacity);
        const ListedGroups groups{entries.data(), counts.data(), capacity};
        for (const Range block : {Range{0, first_block}, Range{first_block, depth}}) {
            for (std::size_t call = 0; call < 2; ++call) {
                const PixelRows from{data.data(), row_stride, index.data() + call * rows,
                                     rows,        columns,    call == 0 ? rows : 0};
                list_some_pixels(words, from, block, call == 0 ? 0 : ends[rows - 1],
                                 {listed.data(), places.data(), ends.data() + call * rows},
                                 kFirstRow + call * words_of_rows, block.end == depth ? &groups : nullptr);
            }
            std::size_t end = 0;
            for (std::size_t row = 0; row < 2 * rows; ++row) {
                for (std::size_t k = block.begin; k < block.end; ++k) {
                    const float expected = word(pixel(row, numbers * k), pixel(row, numbers * k + 1));
                    if (std::bit_cast<std::uint32_t>(expected) == 0) continue;
                    item.expect_exactly(listed.at(end), expected);
                    item.require(places[end] == kPanel * (k - block.begin), "a word is at another place");
                    ++end;
                }
                item.require(ends[row] == end, "a row ends elsewhere");
            }
        }
        for (std::size_t group = 0; group < n_groups; ++group) {
            std::size_t count = 0;
            for (std::size_t i = 0; i < 2 * words_of_rows; ++i) {
                // An odd number of rows in a call ends in half a word.
                const std::size_t call = i / words_of_rows, row = call * rows + i % words_of_rows * numbers;
                const bool paired = i % words_of_rows * numbers + 1 < rows;
                float expected[kListedColumns];
                bool any = false;
                for (std::size_t j = 0; j < kListedColumns; ++j) {
                    const std::size_t column = kListedColumns * group + j;
                    expected[j] = word(pixel(row, column), paired ? pixel(row + 1, column) : 0.0f);
                    any |= std::bit_cast<std::uint32_t>(expected[j]) != 0;
                }
                if (!any) continue;
                const ListedWords& entry = entries[group * capacity + count++];
                item.require(entry.place == kPanel * (kFirstRow + i), "a row of a group is at another place");
                for (std::size_t j = 0; j < kListedColumns; ++j) item.expect_exactly(entry.words[j], expected[j]);
            }
            item.require(counts[group] == count, "a group has another number of rows");
        }
    }

    void list_some_pixels(Words words, const PixelRows& from, Range block, std::uint32_t listed, ListedRows rows,
                          std::size_t first_row, const ListedGroups* groups) {
        const Products& products = words == Words::kFloats ? table_.float_products : table_.pair_products;
        const FloatingPointScope scope(table_);
        if (products.list_pixel_rows != nullptr) {
            const std::size_t numbers = words == Words::kFloats ? 1 : 2, first = block.begin * numbers;
            products.list_pixel_rows(from, first, std::min(block.size() * numbers, from.columns - first), listed, rows);
            if (groups != nullptr) products.list_pixel_groups(from, first_row, *groups);
            return;
        }
        Matrix by_columns(from.rows, n_words(words, from.columns)), by_rows(n_words(words, from.rows), from.columns);
        if (words == Words::kFloats)
            table_.pack_uint8(from, by_columns.data(), by_columns.stride());
        else
            table_.pack_uint8_pairs(from, {by_columns.data(), by_columns.stride(), by_rows.data(), by_rows.stride()});
        products.list_rows(by_columns.data() + block.begin / kPanel * by_columns.stride(), by_columns.stride(),
                           from.rows, block.size(), listed, rows);
        const Matrix& matrix = words == Words::kFloats ? by_columns : by_rows;
        if (groups != nullptr)
            products.list_groups(matrix.data(), matrix.stride(), n_words(words, from.rows), from.columns, first_row,
                                 *groups);
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
                const bool finite = table_.pack_float({data.data(), row_stride, nullptr, rows, columns},
                                                      Rounding::kNone, out.data(), out.stride());
                const bool outside = place / row_stride >= rows || place % row_stride >= columns;
                item.require(finite == outside, "a number that is not finite was missed, or seen where none is");
                if (has_pairs())
                    item.require(table_.pack_float_pairs({data.data(), row_stride, nullptr, rows, columns},
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
