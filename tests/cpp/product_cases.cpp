// The matrix products, around the sizes of their tiles; and the floating-point state that all kernels run in.
#include <cfenv>
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "../../cpp/core/floating_point.h"
#include "kernel_cases.h"
#include "matrix.h"

namespace fastmlp::test {
namespace {

// Around every tile height (at most 8 rows), tile width (at most 3 panels), panel (16) and the blocks of summed depth.
constexpr std::size_t kRows[] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 11, 13, 15, 16, 17, 33, 50};
struct PanelsAndDepth {
    std::size_t panels, depth;
};
constexpr PanelsAndDepth kPanelsAndDepths[] = {{0, 5},  {1, 0},  {1, 1}, {1, 15}, {2, 16},  {3, 17},
                                               {4, 33}, {5, 31}, {6, 7}, {7, 3},  {2, 255}, {1, 257}};

const std::pair<std::string, unsigned> kSparsities[] = {
    {"_of_none", 0}, {"_of_half", 4}, {"_of_most", 7}, {"_of_all", 8}};

class ProductCases : KernelCases {
 public:
    using KernelCases::KernelCases;

    void run() {
        floating_point_state();
        products();
        sums_of_rows();
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
        const Kernel multiply = [&](const Product& p) { table_.multiply(p); };
        const Kernel multiply_transposed = [&](const Product& p) { table_.multiply_transposed(p); };
        const Kernel skipping = [&](const Product& p) {
            const std::size_t tiles = (p.rows + table_.skip_rows - 1) / table_.skip_rows;
            std::vector<NonZero> scratch(tiles * (p.depth + 1));
            table_.multiply_skipping_zeros(p, scratch.data());
        };
        const Kernel skipping_transposed = [&](const Product& p) {
            std::vector<NonZero> scratch(kSkipLists * (p.depth + 1));
            table_.multiply_transposed_skipping_zeros(p, scratch.data());
        };
        for (const std::size_t rows : kRows)
            for (const auto [panels, depth] : kPanelsAndDepths)
                for (const bool accumulate : {false, true}) {
                    product("multiply", multiply, multiply, false, 0, {rows, panels, depth, accumulate});
                    product("multiply_transposed", multiply_transposed, multiply_transposed, true, 0,
                            {rows, panels, depth, accumulate});
                    for (const auto& [zeros, eighths] : kSparsities) {
                        product("multiply_skipping_zeros" + zeros, skipping, multiply, false, eighths,
                                {rows, panels, depth, accumulate});
                        product("multiply_transposed_skipping_zeros" + zeros, skipping_transposed, multiply_transposed,
                                true, eighths, {rows, panels, depth, accumulate});
                    }
                }
    }

    struct Extent {
        std::size_t rows, panels, depth;
        bool accumulate;
    };
    using Kernel = std::function<void(const Product&)>;

    // The kernel gives what `same_as` gives. Of the left operand, so many eighths are zero, in patches of four.
    void product(const std::string& name, const Kernel& kernel, const Kernel& same_as, bool transposed,
                 unsigned zero_eighths, const Extent& extent) {
        const auto [rows, panels, depth, accumulate] = extent;
        Item item(set_, name + (accumulate ? "_accumulate " : " ") + shape(rows, panels, depth));
        Matrix a = transposed ? Matrix(depth, rows) : Matrix(rows, depth);
        Matrix b(depth, panels * kPanel), c(rows, panels * kPanel);
        std::uint64_t draw = 0;
        a.fill([&](std::size_t, std::size_t j) {
            if (j % 4 == 0) draw = random_.below(8);
            return draw < zero_eighths ? 0.0f : random_.symmetric();
        });
        b.fill_randomly(random_);
        if (accumulate) c.fill_randomly(random_);
        const Matrix before = c;
        Matrix same = c;
        {
            const FloatingPointScope scope(table_);
            kernel({a.data(), a.stride(), b.data(), b.stride(), c.data(), c.stride(), rows, panels, depth, accumulate});
            same_as({a.data(), a.stride(), b.data(), b.stride(), same.data(), same.stride(), rows, panels, depth,
                     accumulate});
        }
        for (std::size_t i = 0; i < rows; ++i)
            for (std::size_t j = 0; j < panels * kPanel; ++j) {
                double sum = accumulate ? before.at(i, j) : 0.0;
                double magnitude = std::fabs(sum);
                for (std::size_t k = 0; k < depth; ++k) {
                    const double term = static_cast<double>(transposed ? a.at(k, i) : a.at(i, k)) * b.at(k, j);
                    sum += term;
                    magnitude += std::fabs(term);
                }
                item.expect(c.at(i, j), {sum, (fused_ ? 1.0 : 2.0) * static_cast<double>(depth) * kU * magnitude});
                item.require(c.at(i, j) == same.at(i, j), "skipping zeros changed the result");
            }
        item.require(c.frame_is_untouched(), "wrote outside the result");
    }

    void sums_of_rows() {
        for (const std::size_t rows : kRows)
            for (const std::size_t panels : {std::size_t{0}, std::size_t{1}, std::size_t{3}}) {
                Item item(set_, "sum_rows " + shape(rows, panels));
                Matrix matrix(rows, panels * kPanel);
                matrix.fill_randomly(random_);
                Floats sums(panels * kPanel);
                {
                    const FloatingPointScope scope(table_);
                    table_.sum_rows(matrix.data(), matrix.stride(), rows, panels, sums.data());
                }
                for (std::size_t j = 0; j < panels * kPanel; ++j) {
                    double sum = 0.0, magnitude = 0.0;
                    for (std::size_t i = 0; i < rows; ++i) {
                        sum += matrix.at(i, j);
                        magnitude += std::fabs(matrix.at(i, j));
                    }
                    item.expect(sums[j], {sum, static_cast<double>(rows) * kU * magnitude});
                }
            }
    }
};

}  // namespace

void check_products(const KernelTable& table) { ProductCases(table).run(); }

}  // namespace fastmlp::test
