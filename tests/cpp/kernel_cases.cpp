// Every kernel of a table against the plainest double-precision statement of what it does.
//
// u = 2^-24 is the error of one float32 rounding. A sum of n products, each rounded into the running sum, is wrong by
// at most n u times the sum of the magnitudes where multiply-adds are fused, and twice that where they are not.
#include "kernel_cases.h"

#include <algorithm>
#include <bit>
#include <cfenv>
#include <functional>
#include <limits>
#include <numeric>
#include <string>
#include <utility>
#include <vector>

#include "matrix.h"

namespace fastmlp::test {
namespace {

constexpr double kU = 0x1p-24;
constexpr float kInfinity = std::numeric_limits<float>::infinity();

// Around every tile height (at most 8 rows), tile width (at most 3 panels), panel (16) and the blocks of summed depth.
constexpr std::size_t kRows[] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 11, 13, 15, 16, 17, 33, 50};
struct PanelsAndDepth {
    std::size_t panels, depth;
};
constexpr PanelsAndDepth kPanelsAndDepths[] = {{0, 5},  {1, 0},  {1, 1}, {1, 15}, {2, 16},  {3, 17},
                                               {4, 33}, {5, 31}, {6, 7}, {7, 3},  {2, 255}, {1, 257}};
constexpr std::size_t kColumns[] = {0, 1, 2, 15, 16, 17, 31, 33, 100};

const std::pair<std::string, unsigned> kSparsities[] = {
    {"_of_none", 0}, {"_of_half", 4}, {"_of_most", 7}, {"_of_all", 8}};

constexpr Activation kActivations[] = {Activation::kIdentity, Activation::kRelu,    Activation::kLeakyRelu,
                                       Activation::kTanh,     Activation::kSigmoid, Activation::kGelu};
constexpr const char* kActivationNames[] = {"identity", "relu", "leaky_relu", "tanh", "sigmoid", "gelu"};

// The floating-point state that kernels run in.
class Entered {
 public:
    explicit Entered(const KernelTable& table) : table_(table), state_(table.enter()) {}
    Entered(const Entered&) = delete;
    Entered& operator=(const Entered&) = delete;
    ~Entered() { table_.leave(state_); }

 private:
    const KernelTable& table_;
    std::uint64_t state_;
};

class Cases {
 public:
    explicit Cases(const KernelTable& table)
        : table_(table), set_(table.name), fused_(set_ != "baseline"), random_(2026) {}

    void run() {
        floating_point_state();
        products();
        sums_of_rows();
        packing();
        transposing();
        activations();
        softmaxes();
        updates();
        rounding();
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
        const Matrix before = copy(c);
        Matrix same = copy(c);
        {
            const Entered entered(table_);
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
                    const Entered entered(table_);
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
        const std::vector<std::int64_t> index = shuffled(rows);
        Matrix out(rows, columns);
        Packed packed;
        {
            const Entered entered(table_);
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
        const std::vector<std::int64_t> index = shuffled(rows);
        Matrix out(rows, columns);
        Packed packed;
        {
            const Entered entered(table_);
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
                const Entered entered(table_);
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
            const Entered entered(table_);
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
                    const Entered entered(table_);
                    table_.transpose_panel(w.data(), w.stride(), rows, columns, out.data());
                }
                for (std::size_t j = 0; j < columns; ++j)
                    for (std::size_t i = 0; i < kPanel; ++i)
                        item.expect_exactly(out[kPanel * j + i], i < rows ? w.at(i, j) : 0.0f);
            }
    }

    void activations() {
        for (const Activation activation : kActivations)
            for (const Rounding rounding : {Rounding::kNone, Rounding::kBfloat16})
                for (const std::size_t rows : {0, 1, 5, 16})
                    for (const std::size_t panels : {0, 1, 3}) {
                        forward(activation, rounding, rows, panels, rows % 2 == 1);
                        backward(activation, rounding, rows, panels);
                    }
    }

    void forward(Activation activation, Rounding rounding, std::size_t rows, std::size_t panels, bool save) {
        Item item(set_, "bias_activation_" + name_of(activation) + name_of(rounding) + " " + shape(rows, panels));
        constexpr float scale = 1.0f / 255.0f;
        Matrix z(rows, panels * kPanel), saved(rows, panels * kPanel);
        z.fill([&](std::size_t i, std::size_t j) { return wide_number(i + j) / scale; });
        Floats bias(panels * kPanel);
        for (std::size_t j = 0; j < bias.size(); ++j) bias[j] = j % 3 == 0 ? 0.0f : random_.symmetric();
        const Matrix before = copy(z);
        {
            const Entered entered(table_);
            table_.bias_activation({z.data(), z.stride(), rows, panels, bias.data(), scale, activation, rounding,
                                    save ? saved.data() : nullptr});
        }
        for (std::size_t i = 0; i < rows; ++i)
            for (std::size_t j = 0; j < panels * kPanel; ++j) {
                const double product = static_cast<double>(scale) * before.at(i, j);
                const double exact = product + bias[j];
                // The product, where it is rounded on its own, and the sum.
                const double z_error = 2 * kU * (std::fabs(product) + std::fabs(bias[j]));
                if (save) item.expect(saved.at(i, j), {exact, z_error});
                item.expect(z.at(i, j), rounded(value_of(activation, exact, z_error), rounding));
            }
        item.require(z.frame_is_untouched() && saved.frame_is_untouched(), "wrote outside the result");
    }

    void backward(Activation activation, Rounding rounding, std::size_t rows, std::size_t panels) {
        Item item(set_, "activation_backward_" + name_of(activation) + name_of(rounding) + " " + shape(rows, panels));
        Matrix delta(rows, panels * kPanel), saved(rows, panels * kPanel);
        delta.fill_randomly(random_);
        saved.fill([&](std::size_t i, std::size_t j) {
            if (activation == Activation::kTanh) return random_.symmetric();
            if (activation == Activation::kSigmoid) return std::fabs(random_.symmetric());
            return wide_number(i + j);
        });
        const Matrix before = copy(delta);
        {
            const Entered entered(table_);
            table_.activation_backward(
                {delta.data(), saved.data(), delta.stride(), rows, panels, activation, rounding});
        }
        for (std::size_t i = 0; i < rows; ++i)
            for (std::size_t j = 0; j < panels * kPanel; ++j) {
                const Expected slope = slope_of(activation, saved.at(i, j));
                const double d = before.at(i, j);
                const Expected exact{d * slope.value,
                                     std::fabs(d) * (slope.tolerance + 2 * kU * std::fabs(slope.value))};
                item.expect(delta.at(i, j), rounded(exact, rounding));
            }
        item.require(delta.frame_is_untouched(), "wrote outside the result");
    }

    // f(z) where z itself is known to within z_error; no slope exceeds 1.13. exp is right to 4 u, and three more
    // operations with it make 8 u; gelu's normal distribution is right to 0.75e-7 beside that.
    static Expected value_of(Activation activation, double z, double z_error) {
        const double slope_error = 1.13 * z_error + 0x1p-126;  // what is denormal may become 0
        const double error_8u = slope_error + 8 * kU;
        switch (activation) {
            case Activation::kIdentity:
                return {z, slope_error};
            case Activation::kRelu:
                return {std::max(z, 0.0), slope_error};
            case Activation::kLeakyRelu:
                return {z < 0 ? kLeakySlope * z : z, slope_error + kU * std::fabs(z)};
            case Activation::kTanh:
                return {std::tanh(z), slope_error + 8 * kU * std::fabs(std::tanh(z))};
            case Activation::kSigmoid:
                return {1 / (1 + std::exp(-z)), error_8u};
            case Activation::kGelu:
                return {z * normal_cumulative(z), slope_error + std::fabs(z) * (0.75e-7 + 8 * kU)};
        }
        return {kNan, 0};
    }

    // As backward defines it: of the activation, for gelu of z.
    static Expected slope_of(Activation activation, double saved) {
        const double density = std::exp(-saved * saved / 2) / std::sqrt(2 * std::acos(-1.0));
        switch (activation) {
            case Activation::kIdentity:
                return {1, 0};
            case Activation::kRelu:
                return {saved > 0 ? 1.0 : 0.0, 0};
            case Activation::kLeakyRelu:
                return {saved > 0 ? 1.0 : static_cast<double>(kLeakySlope), 0};
            case Activation::kTanh:
                return {1 - saved * saved, 2 * kU};
            case Activation::kSigmoid:
                return {saved * (1 - saved), 2 * kU};
            case Activation::kGelu:
                return {normal_cumulative(saved) + saved * density, 0.75e-7 + 16 * kU};
        }
        return {kNan, 0};
    }

    static double normal_cumulative(double z) { return 0.5 * std::erfc(-z / std::sqrt(2.0)); }

    void softmaxes() {
        for (const std::size_t n_classes : {1, 2, 10, 15, 16, 17, 33, 100})
            for (const std::size_t rows : {0, 1, 5, 15, 16, 17, 33}) {
                softmax(rows, n_classes);
                for (const Rounding rounding : {Rounding::kNone, Rounding::kBfloat16})
                    for (const bool indexed : {false, true}) {
                        cross_entropy(rows, n_classes, true, indexed, rounding);
                        cross_entropy(rows, n_classes, false, indexed, rounding);
                    }
            }
        not_finite_logits();
    }

    // Rows of logits as they come, one of them so far apart that exponentials would overflow.
    Matrix some_logits(std::size_t rows, std::size_t n_classes) {
        Matrix logits(rows, n_classes);
        logits.fill([&](std::size_t i, std::size_t) { return (i % 4 == 3 ? 1e4f : 5.0f) * random_.symmetric(); });
        return logits;
    }

    struct Distribution {
        std::vector<double> probability;
        double max;
        double log_sum;  // of exp(logit - max)
    };
    static Distribution distribution_of(const Matrix& logits, std::size_t row) {
        Distribution d{std::vector<double>(logits.columns()), -kInfinity, 0.0};
        for (std::size_t j = 0; j < logits.columns(); ++j)
            d.max = std::max(d.max, static_cast<double>(logits.at(row, j)));
        double sum = 0.0;
        for (std::size_t j = 0; j < logits.columns(); ++j)
            sum += d.probability[j] = std::exp(static_cast<double>(logits.at(row, j)) - d.max);
        for (double& p : d.probability) p /= sum;
        d.log_sum = std::log(sum);
        return d;
    }

    // Of a probability, relative to it: logit - max is rounded once, so exp is wrong by u |logit - max| and its own
    // 4 u, the sum's error is that of its largest terms and of n / 16 + 4 additions, and then comes the division.
    // |logit - max| exceeds 87 only where the result is 0.
    static double relative_error(std::size_t n_classes) {
        return (2 * 87 + 8 + 4 + static_cast<double>(n_classes) / 16 + 2) * kU;
    }

    void softmax(std::size_t rows, std::size_t n_classes) {
        Item item(set_, "softmax " + shape(rows, n_classes));
        Matrix matrix = some_logits(rows, n_classes);
        const Matrix logits = copy(matrix);
        {
            const Entered entered(table_);
            table_.softmax(matrix.data(), matrix.stride(), rows, n_classes);
        }
        for (std::size_t i = 0; i < rows; ++i) {
            const Distribution exact = distribution_of(logits, i);
            for (std::size_t j = 0; j < n_classes; ++j)
                item.expect(matrix.at(i, j),
                            {exact.probability[j], relative_error(n_classes) * exact.probability[j] + 0x1p-125});
        }
        item.require(matrix.padding_is_zero(), "padding is not zero");
        item.require(matrix.frame_is_untouched(), "wrote outside the result");
    }

    void cross_entropy(std::size_t rows, std::size_t n_classes, bool labelled, bool indexed, Rounding rounding) {
        Item item(set_, std::string("softmax_cross_entropy") + (labelled ? "_labels" : "_probabilities") +
                            (indexed ? "_indexed" : "") + name_of(rounding) + " " + shape(rows, n_classes));
        constexpr float delta_scale = 1.0f / 77.0f;
        Matrix matrix = some_logits(rows, n_classes);
        const Matrix logits = copy(matrix);
        std::vector<std::int64_t> labels(rows);
        for (auto& label : labels) label = static_cast<std::int64_t>(random_.below(n_classes));
        const std::vector<std::int64_t> index = shuffled(rows);
        const std::vector<float> probabilities = some_targets(rows, n_classes);
        std::vector<float> losses(rows, kNan);
        {
            const Entered entered(table_);
            table_.softmax_cross_entropy({matrix.data(), matrix.stride(), rows, n_classes,
                                          labelled ? labels.data() : nullptr, probabilities.data(),
                                          indexed ? index.data() : nullptr, delta_scale, rounding, losses.data()});
        }
        for (std::size_t i = 0; i < rows; ++i) {
            const std::size_t sample = indexed ? at(index, i) : i;
            const Distribution exact = distribution_of(logits, i);
            const auto target = [&](std::size_t j) -> double {
                if (labelled) return at(labels, sample) == j ? 1.0 : 0.0;
                return probabilities[sample * n_classes + j];
            };
            double target_sum = 0.0, linear = 0.0;
            for (std::size_t j = 0; j < n_classes; ++j) {
                target_sum += target(j);
                linear += target(j) * (exact.max - static_cast<double>(logits.at(i, j)));
            }
            const double n = static_cast<double>(n_classes);
            // Targets sum to 1 within n u, which log_sum takes no notice of; the logarithm is right to 8 u of
            // itself and turns the sum's relative error into an absolute one.
            const double loss_error =
                (n / 16 + 8) * kU * (linear + exact.log_sum) + relative_error(n_classes) + n * kU * exact.log_sum;
            item.expect(losses[i], {linear + exact.log_sum, loss_error});
            for (std::size_t j = 0; j < n_classes; ++j) {
                const double p = exact.probability[j] * target_sum;
                const Expected delta{delta_scale * (p - target(j)),
                                     delta_scale * ((relative_error(n_classes) + n * kU) * p + 4 * kU) + 0x1p-125};
                item.expect(matrix.at(i, j), rounded(delta, rounding));
            }
        }
        item.require(matrix.padding_is_zero(), "padding is not zero");
        item.require(matrix.frame_is_untouched(), "wrote outside the result");
    }

    std::vector<float> some_targets(std::size_t rows, std::size_t n_classes) {
        std::vector<float> targets(rows * n_classes);
        for (std::size_t i = 0; i < rows; ++i) {
            float* row = targets.data() + i * n_classes;
            double sum = 0.0;
            for (std::size_t j = 0; j < n_classes; ++j) sum += row[j] = 1.0f + random_.symmetric() + 0x1p-20f;
            for (std::size_t j = 0; j < n_classes; ++j) row[j] = static_cast<float>(row[j] / sum);
        }
        return targets;
    }

    void not_finite_logits() {
        Item item(set_, "softmax_cross_entropy_not_finite");
        constexpr std::size_t rows = 3, n_classes = 21;
        for (const float bad : {kInfinity, -kInfinity, kNan})
            for (std::size_t place = 0; place < n_classes; ++place) {
                Matrix matrix = some_logits(rows, n_classes);
                matrix.at(1, place) = bad;
                const std::vector<std::int64_t> labels{0, 5, 20};
                float losses[rows];
                const Entered entered(table_);
                table_.softmax_cross_entropy({matrix.data(), matrix.stride(), rows, n_classes, labels.data(), nullptr,
                                              nullptr, 1.0f, Rounding::kNone, losses});
                item.require(!std::isfinite(losses[1]), "a logit that is not finite gave a finite loss");
                item.require(std::isfinite(losses[0]) && std::isfinite(losses[2]), "spoilt the loss of another row");
            }
    }

    void updates() {
        for (const std::size_t count : {0, 16, 48, 160})
            for (const bool with_operand : {false, true}) {
                update("adam", table_.adam, true, count, with_operand);
                update("sgd", table_.sgd, false, count, with_operand);
            }
    }

    void update(const std::string& name, void (*kernel)(const Update&, const float*, const Parameters&, std::size_t),
                bool adam, std::size_t count, bool with_operand) {
        Item item(set_, name + (with_operand ? "_operand " : " ") + shape(count));
        const Update u{.gradient_scale = 1.0f / 255.0f,
                       .rate = 0.0123f,
                       .beta_1 = 0.9f,
                       .beta_2 = 0.999f,
                       .one_minus_beta_1 = 0.1f,
                       .one_minus_beta_2 = 0.001f,
                       .second_correction = 333.5f,
                       .epsilon = 1e-8f};
        Floats gradient(count), value(count), first(count), second(count), operand(count);
        for (std::size_t i = 0; i < count; ++i) {
            gradient[i] = i % 5 == 0 ? 0.0f : 100 * random_.symmetric();
            value[i] = random_.symmetric();
            first[i] = i % 10 == 0 ? 0.0f : random_.symmetric();
            second[i] = i % 10 == 0 ? 0.0f : std::fabs(random_.symmetric());
        }
        const std::vector<float> w0 = contents(value), m0 = contents(first), v0 = contents(second);
        {
            const Entered entered(table_);
            kernel(
                u, gradient.data(),
                {value.data(), first.data(), adam ? second.data() : nullptr, with_operand ? operand.data() : nullptr},
                count);
        }
        for (std::size_t i = 0; i < count; ++i) {
            const double g = static_cast<double>(u.gradient_scale) * gradient[i];
            // Each term carries at most 4 roundings before it is added, and the sum one more.
            double m, m_error, step, step_error;
            if (adam) {
                m = static_cast<double>(u.beta_1) * m0[i] + u.one_minus_beta_1 * g;
                m_error = 5 * kU * (std::fabs(u.beta_1 * m0[i]) + std::fabs(u.one_minus_beta_1 * g));
                const double v = static_cast<double>(u.beta_2) * v0[i] + u.one_minus_beta_2 * g * g;
                const double root = std::sqrt(u.second_correction * v) + u.epsilon;
                item.expect(second[i], {v, 6 * kU * v});
                step = u.rate * m / root;
                step_error = u.rate * m_error / root + 8 * kU * std::fabs(step);
            } else {
                m = static_cast<double>(u.beta_1) * m0[i] + g;
                m_error = 5 * kU * (std::fabs(u.beta_1 * m0[i]) + std::fabs(g));
                step = u.rate * m;
                step_error = u.rate * m_error + 2 * kU * std::fabs(step);
                item.expect_exactly(second[i], v0[i]);
            }
            item.expect(first[i], {m, m_error});
            item.expect(value[i], {w0[i] - step, step_error + kU * (std::fabs(w0[i]) + std::fabs(step))});
            if (with_operand) item.expect_exactly(operand[i], bfloat16(value[i]));
        }
    }

    void rounding() {
        Item item(set_, "round_to_bfloat16");
        std::vector<float> values{
            0.0f,          -0.0f,      1.0f,          0x1.01p0f, 0x1.03p0f,
            0x1.010002p0f, -0x1.01p0f, 0x1.fffffep0f, 0x1p-126f, std::numeric_limits<float>::max(),
            kInfinity,     -kInfinity};
        while (values.size() % kPanel != 0) values.push_back(1e3f * random_.symmetric());
        for (int i = 0; i < 1024; ++i) values.push_back(std::ldexp(random_.symmetric(), i % 200 - 100));
        Floats value(values.size()), operand(values.size());
        std::copy(values.begin(), values.end(), value.data());
        {
            const Entered entered(table_);
            table_.round_to_bfloat16(value.data(), operand.data(), 0);
            item.require(std::isnan(operand[0]), "a count of 0 wrote something");
            table_.round_to_bfloat16(value.data(), operand.data(), values.size());
        }
        for (std::size_t i = 0; i < values.size(); ++i) item.expect_exactly(operand[i], bfloat16(values[i]));
    }

    // To nearest, ties to even, on the number itself: the upper 16 bits of the pattern are a bfloat16.
    static float bfloat16(float x) {
        const auto pattern = std::bit_cast<std::uint32_t>(x);
        const std::uint32_t lower = pattern & 0xffffu, upper = pattern >> 16;
        const bool up = lower > 0x8000u || (lower == 0x8000u && upper % 2 == 1);
        return std::bit_cast<float>((upper + (up ? 1u : 0u)) << 16);
    }
    // A number rounded to bfloat16 is off by half a unit of its eight bits more.
    static Expected rounded(Expected exact, Rounding rounding) {
        if (rounding == Rounding::kNone) return exact;
        return {exact.value, exact.tolerance + 0x1p-8 * (std::fabs(exact.value) + exact.tolerance)};
    }

    // Zeros of both signs, moderate numbers, and a few that drive every activation into saturation.
    float wide_number(std::size_t i) {
        constexpr float special[] = {0.0f, -0.0f, 1e-30f, -1e-30f, 50.0f, -50.0f, 200.0f, -200.0f, 1e-4f, -1e-4f};
        return i % 3 == 0 ? special[i / 3 % std::size(special)] : 6 * random_.symmetric();
    }

    std::vector<std::int64_t> shuffled(std::size_t n) {
        std::vector<std::int64_t> order(n);
        std::iota(order.begin(), order.end(), 0);
        for (std::size_t i = n; i > 1; --i) std::swap(order[i - 1], order[random_.below(i)]);
        return order;
    }
    static std::size_t at(const std::vector<std::int64_t>& numbers, std::size_t i) {
        return static_cast<std::size_t>(numbers[i]);
    }
    static std::vector<float> contents(const Floats& floats) { return {floats.data(), floats.data() + floats.size()}; }
    static Matrix copy(const Matrix& from) {
        Matrix to(from.rows(), from.columns());
        to.fill([&](std::size_t i, std::size_t j) { return from.at(i, j); });
        return to;
    }
    static std::string name_of(Activation activation) { return kActivationNames[static_cast<int>(activation)]; }
    static std::string name_of(Rounding rounding) { return rounding == Rounding::kNone ? "" : "_bfloat16"; }

    const KernelTable& table_;
    std::string set_;
    bool fused_;
    Random random_;
};

}  // namespace

void check_kernels(const KernelTable& table) { Cases(table).run(); }

}  // namespace fastmlp::test
