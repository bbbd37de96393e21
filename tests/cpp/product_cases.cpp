// The matrix products, around the sizes of their tiles; and the floating-point state that all kernels run in.
#include <algorithm>
#include <bit>
#include <cfenv>
#include <iterator>
#include <string>
#include <utility>
#include <vector>

#include "../../cpp/core/floating_point.h"
#include "../../cpp/core/gemm.h"
#include "../../cpp/core/panels.h"
#include "kernel_cases.h"
#include "matrix.h"

namespace fastmlp::test {
namespace {

// Around every tile height (at most 8 rows), tile width (at most 3 panels), panel (16) and the blocks of summed depth.
constexpr std::size_t kRows[] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 11, 13, 15, 16, 17, 33, 50};
struct PanelsAndDepth {
    std::size_t panels, depth;
};
constexpr PanelsAndDepth kPanelsAndDepths[] = {{0, 5},  {1, 0}, {1, 1}, {1, 15},  {2, 16},  {3, 17},  {4, 33},
                                               {5, 31}, {6, 7}, {7, 3}, {2, 255}, {1, 257}, {3, 128}, {2, 129}};

// Around the rows of a group of listed columns (4). Of the left operand, so many eighths are zero, in patches of four.
constexpr std::size_t kListedRows[] = {0, 1, 3, 4, 5, 16, 17, 33};
const std::pair<std::string, unsigned> kSparsities[] = {{"_of_none", 0}, {"_of_most", 6}, {"_of_all", 8}};
// Columns that the last panel of a product lacks, in turn: around half of it. Each meets each sparsity and number of
// rows, as 3 and 8 have no factor in common with 5, nor have the turns of a shape.
constexpr std::size_t kLacking[] = {0, 7, 8, 9, 15};
static_assert(std::size(kLacking) == 5 && std::size(kSparsities) == 3 && std::size(kListedRows) == 8 &&
              (std::size(kRows) + 3 * 8) % 5 != 0);

// Rows that lists are made of in one call; more calls go on where it ended.
constexpr std::size_t kRowsListed = 5;

class ProductCases : KernelCases {
 public:
    using KernelCases::KernelCases;

    void run() {
        floating_point_state();
        products();
        narrow_products(Words::kFloats, "");
        if (has_pairs()) narrow_products(Words::kBfloat16Pairs, "pairs_");
        sums_of_rows(Words::kFloats, "");
        if (has_pairs()) sums_of_rows(Words::kBfloat16Pairs, "pairs_");
    }

 private:
    void floating_point_state() {
        Item item(set_, "enter_leave");
        std::fesetround(FE_UPWARD);
        const std::uint64_t state = table_.enter();
        volatile float denormal = 0x1p-140f, small = 0x1p-70f, one = 1.0f;
        const float operand_flushed = denormal * one;
        const float result_flushed = small * small;
        const float nearest = one + 0x1p-26f;
        table_.leave(state);
        const float kept = denormal * one;
        const int rounding = std::fegetround();
        std::fesetround(FE_TONEAREST);
        item.expect_exactly(operand_flushed, 0.0f);
        item.expect_exactly(result_flushed, 0.0f);
        item.expect_exactly(nearest, 1.0f);
        item.expect_exactly(kept, 0x1p-140f);
        item.require(rounding == FE_UPWARD, "leave did not restore the direction of rounding");
    }

    void products() {
        products(Words::kFloats, "");
        if (has_pairs()) products(Words::kBfloat16Pairs, "pairs_");
    }

    void products(Words words, const std::string& prefix) {
        std::size_t turn = 0;
        for (const auto [panels, depth] : kPanelsAndDepths) {
            const auto next_lacking = [&] { return panels == 0 ? 0 : kLacking[turn++ % std::size(kLacking)]; };
            for (const bool accumulate : {false, true}) {
                for (const std::size_t rows : kRows) {
                    const Extent extent{rows, panels, depth, accumulate, next_lacking()};
                    product(prefix + "multiply", words, false, 0, extent);
                    product(prefix + "multiply_transposed", words, true, 0, extent);
                }
                for (const std::size_t rows : kListedRows)
                    for (const auto& [zeros, eighths] : kSparsities) {
                        const Extent extent{rows, panels, depth, accumulate, next_lacking()};
                        listed_product(prefix + "multiply_listed" + zeros, words, false, eighths, extent);
                        listed_product(prefix + "multiply_transposed_listed" + zeros, words, true, eighths, extent);
                    }
            }
        }
    }

    struct Extent {
        std::size_t rows, panels, depth;
        bool accumulate;
        std::size_t lacking = 0;
        std::size_t columns() const { return panels * kPanel - lacking; }
    };

    // The operands of one product: as numbers, and as the words that kernels see.
    struct Operands {
        Operands(Random& random, Words words, bool transposed, unsigned zero_eighths, const Extent& extent)
            : left(extent.rows, extent.depth),
              right(extent.depth, extent.columns()),
              depth(n_words(words, extent.depth)),
              a(transposed ? Matrix(depth, extent.rows) : Matrix(extent.rows, depth)),
              b(depth, extent.columns()),
              c(extent.rows, extent.columns()) {
            std::uint64_t draw = 0;
            const auto number = [&] {
                const float x = random.symmetric();
                return words == Words::kFloats ? x : bfloat16(x);
            };
            left.fill([&](std::size_t i, std::size_t k) {
                if ((transposed ? i : k) % 4 == 0) draw = random.below(8);
                return draw < zero_eighths ? (k % 3 == 0 ? -0.0f : 0.0f) : number();
            });
            right.fill([&](std::size_t, std::size_t) { return number(); });
            const auto left_word = [&](std::size_t i, std::size_t k) {
                return word(words, extent.depth, k, [&](std::size_t at) { return left.at(i, at); });
            };
            a.fill([&](std::size_t i, std::size_t j) { return transposed ? left_word(j, i) : left_word(i, j); });
            a.clear_padding();  // lists are made of whole lines
            b.fill([&](std::size_t k, std::size_t j) {
                return word(words, extent.depth, k, [&](std::size_t at) { return right.at(at, j); });
            });
            b.clear_padding();
            if (extent.accumulate) {
                c.fill_randomly(random);
                c.clear_padding();
            }
        }

        std::size_t nonzero_words() const {
            std::size_t count = 0;
            for (std::size_t i = 0; i < a.rows(); ++i)
                for (std::size_t j = 0; j < a.columns(); ++j)
                    count += (std::bit_cast<std::uint32_t>(a.at(i, j)) & 0x7fff7fffu) != 0 ? 1 : 0;
            return count;
        }

        Matrix left, right;  // rows x depth, depth x columns
        std::size_t depth;   // in words
        Matrix a, b, c;

     private:
        template <class At>
        static float word(Words words, std::size_t n, std::size_t k, At at) {
            if (words == Words::kFloats) return at(k);
            return pair_of(at(2 * k), 2 * k + 1 < n ? at(2 * k + 1) : 0.0f);
        }
    };

    Random& random_for(Words words) { return words == Words::kFloats ? random_ : pairs_random_; }

    const Products& products_of(Words words) const {
        return words == Words::kFloats ? table_.float_products : table_.pair_products;
    }

    void multiply_densely(Words words, bool transposed, const Extent& extent, const Operands& of, Matrix& c) {
        const Product product{of.a.data(), of.a.stride(), of.b.data(),      of.b.stride(), c.data(),
                              c.stride(),  extent.rows,   extent.columns(), of.depth,      extent.accumulate};
        const FloatingPointScope scope(table_);
        (transposed ? products_of(words).multiply_transposed : products_of(words).multiply)(product);
    }

    void product(const std::string& name, Words words, bool transposed, unsigned zero_eighths, const Extent& extent) {
        Item item(set_, name + suffix(extent));
        Operands operands(random_for(words), words, transposed, zero_eighths, extent);
        const Matrix before = operands.c;
        multiply_densely(words, transposed, extent, operands, operands.c);
        expect_product(item, words, extent, operands, before);
    }

    void listed_product(const std::string& name, Words words, bool transposed, unsigned zero_eighths,
                        const Extent& extent) {
        Item item(set_, name + suffix(extent));
        Operands operands(random_for(words), words, transposed, zero_eighths, extent);
        const Matrix before = operands.c;
        Matrix dense = operands.c;
        multiply_densely(words, transposed, extent, operands, dense);
        if (transposed)
            multiply_groups(products_of(words), extent, operands);
        else
            multiply_rows(item, products_of(words), extent, operands);
        if (!transposed && !extent.accumulate && products_of(words).multiply_grouped != nullptr) {
            Matrix grouped = before;
            multiply_grouped(products_of(words), extent, operands, grouped);
            for (std::size_t i = 0; i < extent.rows; ++i)
                for (std::size_t j = 0; j < extent.columns(); ++j)
                    item.require(grouped.at(i, j) == operands.c.at(i, j), "groups give another result than rows");
            item.require(grouped.frame_is_untouched(), "wrote outside the result");
            item.require(grouped.padding_is_zero(), "padding is not zero");
        }
        expect_product(item, words, extent, operands, before);
        for (std::size_t i = 0; i < extent.rows; ++i)
            for (std::size_t j = 0; j < extent.columns(); ++j)
                item.require(operands.c.at(i, j) == dense.at(i, j), "skipping zeros changed the result");
    }

    void multiply_rows(Item& item, const Products& products, const Extent& extent, Operands& of) {
        const std::size_t nonzeros = of.nonzero_words();
        std::vector<float> words(nonzeros + kPanel);
        std::vector<std::uint32_t> places(nonzeros + kPanel), ends(extent.rows);
        const FloatingPointScope scope(table_);
        for (std::size_t row = 0; row < extent.rows; row += kRowsListed)
            products.list_rows(of.a.data() + row * kPanel, of.a.stride(), std::min(kRowsListed, extent.rows - row),
                               of.depth, row == 0 ? 0 : ends[row - 1],
                               {words.data(), places.data(), ends.data() + row});
        item.require(extent.rows == 0 || ends.back() == nonzeros, "listed other words than those that are not 0");
        products.multiply_listed({{words.data(), places.data(), ends.data()},
                                  of.b.data(),
                                  of.b.stride(),
                                  of.c.data(),
                                  of.c.stride(),
                                  extent.rows,
                                  extent.columns(),
                                  extent.accumulate});
    }

    // A matrix's columns in groups, listed in three parts of its rows, the first of which is empty where there are few.
    struct Groups {
        Groups(const Products& products, const Matrix& a) {
            const std::size_t n_groups = (a.columns() + kListedColumns - 1) / kListedColumns;
            for (std::size_t part = 0; part < 3; ++part) {
                const std::size_t begin = a.rows() * part / 3, end = a.rows() * (part + 1) / 3;
                first_rows.push_back(begin);
                entries.emplace_back((end - begin + kGroupSlack) * n_groups);
                counts.emplace_back(n_groups);
                parts.push_back({entries.back().data(), counts.back().data(), end - begin + kGroupSlack});
                for (std::size_t row = begin; row < end; row += kRowsListed)
                    products.list_groups(a.data() + row * kPanel, a.stride(), std::min(kRowsListed, end - row),
                                         a.columns(), row, parts.back());
            }
            first_rows.push_back(a.rows());
        }

        std::vector<std::size_t> first_rows;
        std::vector<std::vector<ListedWords>> entries;
        std::vector<std::vector<std::uint32_t>> counts;
        std::vector<ListedGroups> parts;
    };

    void multiply_grouped(const Products& products, const Extent& extent, const Operands& of, Matrix& c) {
        const FloatingPointScope scope(table_);
        const Groups groups(products, of.a);
        for (std::size_t part = 0; part < groups.parts.size(); ++part)
            products.multiply_grouped({groups.parts[part], of.b.data(), of.b.stride(), c.data(), c.stride(),
                                       groups.first_rows[part], groups.first_rows[part + 1] - groups.first_rows[part],
                                       extent.columns(), of.depth});
    }

    // A call per panel of a.
    void multiply_groups(const Products& products, const Extent& extent, Operands& of) {
        const FloatingPointScope scope(table_);
        const Groups groups(products, of.a);
        const std::vector<ListedGroups>& parts = groups.parts;
        for (std::size_t first = 0; first < extent.rows; first += kPanel)
            products.multiply_transposed_listed({parts.data(), parts.size(), first / kListedColumns, of.b.data(),
                                                 of.b.stride(), of.c.data() + first * kPanel, of.c.stride(),
                                                 std::min(kPanel, extent.rows - first), extent.columns(),
                                                 extent.accumulate});
    }

    // A number of one term is rounded once where multiply-adds are fused and twice where they are not. A pair is
    // rounded twice: to nearest on x86, to odd, which is off by up to twice as much, on aarch64 (Arm ARM, BFDOT).
    double roundings(Words words, std::size_t depth) const {
        if (words == Words::kFloats) return (fused_ ? 1.0 : 2.0) * static_cast<double>(depth);
        return 2.0 * static_cast<double>(n_words(words, depth)) * (set_ == "neon_bf16" ? 2.0 : 1.0);
    }

    void expect_product(Item& item, Words words, const Extent& extent, const Operands& of, const Matrix& before) {
        for (std::size_t i = 0; i < extent.rows; ++i)
            for (std::size_t j = 0; j < extent.columns(); ++j) {
                double sum = extent.accumulate ? before.at(i, j) : 0.0;
                double magnitude = std::fabs(sum);
                for (std::size_t k = 0; k < extent.depth; ++k) {
                    const double term = static_cast<double>(of.left.at(i, k)) * of.right.at(k, j);
                    sum += term;
                    magnitude += std::fabs(term);
                }
                item.expect(of.c.at(i, j), {sum, roundings(words, extent.depth) * kU * magnitude});
            }
        item.require(of.c.frame_is_untouched(), "wrote outside the result");
        item.require(of.c.padding_is_zero(), "padding is not zero");
    }

    static std::string suffix(const Extent& extent) {
        return (extent.accumulate ? "_accumulate " : " ") + shape(extent.rows, extent.columns(), extent.depth);
    }

    // The bits of the wide products; rows around a panel and three, depths around a panel and a block.
    void narrow_products(Words words, const std::string& prefix) {
        for (const std::size_t depth : {1, 15, 16, 17, 100, 128, 129, 257, 300})
            for (const std::size_t rows : {1, 5, 16, 17, 48, 50, 97}) {
                for (const std::size_t columns : {std::size_t{1}, std::size_t{2}, std::size_t{7}, kNarrow})
                    narrow_product(prefix, words, rows, depth, columns);
                for (const std::size_t columns : {std::size_t{1}, std::size_t{2}, std::size_t{9}, kNarrowGradient})
                    narrow_transposed_product(prefix, words, rows, depth, columns);
            }
    }

    Matrix random_words(Words words, std::size_t rows, std::size_t columns) {
        Random& random = random_for(words);
        Matrix matrix(rows, columns);
        matrix.fill([&](std::size_t, std::size_t) {
            const float x = random.symmetric();
            return words == Words::kFloats ? x : pair_of(bfloat16(x), bfloat16(random.symmetric()));
        });
        matrix.clear_padding();  // as in weights and deltas
        return matrix;
    }

    void narrow_product(const std::string& prefix, Words words, std::size_t rows, std::size_t depth,
                        std::size_t columns) {
        Item item(set_, prefix + "multiply_narrow " + shape(rows, depth, columns));
        const Matrix a = random_words(words, rows, depth), b = random_words(words, depth, columns);
        Matrix wide(rows, columns), narrow(rows, columns);
        Floats scratch(narrow_scratch_size(table_));
        const FloatingPointScope scope(table_);
        multiply(table_, words, read(a), read(b), columns, written(wide), {0, rows}, {0, 1}, depth);
        multiply_narrow(table_, words, read(a), read(b), columns, written(narrow), {0, rows}, depth, scratch.data());
        expect_same(item, narrow, wide);
    }

    void narrow_transposed_product(const std::string& prefix, Words words, std::size_t rows, std::size_t depth,
                                   std::size_t columns) {
        Item item(set_, prefix + "multiply_transposed_narrow " + shape(rows, depth, columns));
        const Matrix a = random_words(words, depth, rows), b = random_words(words, depth, columns);
        Matrix wide(rows, columns), narrow(rows, columns);
        const Range panels{0, n_panels(rows)};
        const FloatingPointScope scope(table_);
        multiply_transposed(table_, words, read(a), read(b), written(wide), panels, {0, 1}, columns, rows, {0, depth},
                            false);
        multiply_transposed_narrow(table_, words, read(a), read(b), written(narrow), panels, columns, rows, depth);
        expect_same(item, narrow, wide);
    }

    static Panels written(Matrix& matrix) { return {matrix.data(), matrix.stride()}; }
    static ConstPanels read(const Matrix& matrix) { return {matrix.data(), matrix.stride()}; }

    void expect_same(Item& item, const Matrix& narrow, const Matrix& wide) {
        for (std::size_t i = 0; i < wide.rows(); ++i)
            for (std::size_t j = 0; j < wide.columns(); ++j) item.expect_exactly(narrow.at(i, j), wide.at(i, j));
        item.require(narrow.padding_is_zero(), "padding is not zero");
        item.require(narrow.frame_is_untouched(), "wrote outside the result");
    }

    void sums_of_rows(Words words, const std::string& prefix) {
        const std::size_t numbers = words == Words::kFloats ? 1 : 2;
        for (const std::size_t rows : kRows)
            for (const std::size_t panels : {0, 1, 3, 4, 5, 9}) {
                Item item(set_, prefix + "sum_rows " + shape(rows, panels));
                const Matrix matrix = random_words(words, rows, panels * kPanel);
                Floats sums(panels * kPanel);
                {
                    const FloatingPointScope scope(table_);
                    products_of(words).sum_rows(matrix.data(), matrix.stride(), rows, panels, sums.data());
                }
                for (std::size_t j = 0; j < panels * kPanel; ++j) {
                    double sum = 0.0, magnitude = 0.0;
                    for (std::size_t i = 0; i < numbers * rows; ++i) {
                        const float word = matrix.at(i / numbers, j);
                        const float x = words == Words::kFloats ? word : half_of(word, i % 2);
                        sum += x;
                        magnitude += std::fabs(x);
                    }
                    item.expect(sums[j], {sum, static_cast<double>(numbers * rows) * kU * magnitude});
                }
            }
    }
};

}  // namespace

void check_products(const KernelTable& table) { ProductCases(table).run(); }

}  // namespace fastmlp::test
