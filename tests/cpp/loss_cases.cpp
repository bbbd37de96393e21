// Losses of outputs that are independent of one another, and sigmoid.
#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

#include "../../cpp/core/floating_point.h"
#include "kernel_cases.h"
#include "matrix.h"

namespace fastmlp::test {
namespace {

class LossCases : KernelCases {
 public:
    using KernelCases::KernelCases;

    void run() {
        for (const std::size_t n_outputs : {1, 2, 10, 15, 16, 17, 33, 100})
            for (const std::size_t rows : {0, 1, 5, 16, 33}) {
                sigmoid(rows, n_outputs);
                for (const Rounding rounding : {Rounding::kNone, Rounding::kBfloat16})
                    for (const bool indexed : {false, true})
                        for (const bool weighted : {false, true}) {
                            loss("sigmoid_cross_entropy", table_.sigmoid_cross_entropy, cross_entropy_of, rows,
                                 n_outputs, indexed, weighted, rounding, weighted ? 0.125f : 0.0f);
                            loss("squared_error", table_.squared_error, square_of, rows, n_outputs, indexed, weighted,
                                 rounding, 0.0f);
                        }
            }
        not_finite("sigmoid_cross_entropy_not_finite", table_.sigmoid_cross_entropy);
        not_finite("squared_error_not_finite", table_.squared_error);
    }

 private:
    using LossKernel = void (*)(const RowLosses&);

    // Of one output z and its target t.
    struct ExactLoss {
        Expected loss;
        Expected slope;
    };

    // exp is right to 4 u, the logarithm to as much; the linear part is one product and two sums; sigmoid as in
    // elementwise_cases.
    static ExactLoss cross_entropy_of(double z, double t) {
        const double e = std::exp(-std::fabs(z));
        const double linear = std::max(z, 0.0) - t * z;
        const double size = std::fabs(z) * (1 + t) + std::log1p(e);
        return {{linear + std::log1p(e), 9 * kU * size + 0x1p-125}, {1 / (1 + std::exp(-z)) - t, 10 * kU}};
    }
    static ExactLoss square_of(double z, double t) {
        const double difference = z - t;
        return {{difference * difference, 3 * kU * difference * difference},
                {2 * difference, 2 * kU * std::fabs(difference)}};
    }

    Matrix some_outputs(std::size_t rows, std::size_t n_outputs) {
        Matrix outputs(rows, n_outputs);
        outputs.fill([&](std::size_t i, std::size_t) { return (i % 4 == 3 ? 1e4f : 5.0f) * random_.symmetric(); });
        return outputs;
    }

    void sigmoid(std::size_t rows, std::size_t n_outputs) {
        Item item(set_, "sigmoid " + shape(rows, n_outputs));
        Matrix matrix = some_outputs(rows, n_outputs);
        const Matrix outputs = matrix;
        {
            const FloatingPointScope scope(table_);
            table_.sigmoid(matrix.data(), matrix.stride(), rows, n_outputs);
        }
        for (std::size_t i = 0; i < rows; ++i)
            for (std::size_t j = 0; j < n_outputs; ++j)
                item.expect(matrix.at(i, j), {1 / (1 + std::exp(-static_cast<double>(outputs.at(i, j)))), 8 * kU});
        item.require(matrix.padding_is_zero(), "padding is not zero");
        item.require(matrix.frame_is_untouched(), "wrote outside the result");
    }

    void loss(const std::string& name, LossKernel kernel, ExactLoss (*exact_of)(double, double), std::size_t rows,
              std::size_t n_outputs, bool indexed, bool weighted, Rounding rounding, float smoothing) {
        Item item(set_, name + (indexed ? "_indexed" : "") + (weighted ? "_weighted" : "") +
                            (smoothing != 0.0f ? "_smoothed" : "") + name_of(rounding) + " " + shape(rows, n_outputs));
        constexpr float delta_scale = 1.0f / 77.0f;
        Matrix matrix = some_outputs(rows, n_outputs);
        const Matrix outputs = matrix;
        const std::vector<std::int64_t> index = random_.permutation(rows);
        std::vector<float> targets(rows * n_outputs), losses(rows, kNan), weights(rows);
        for (float& weight : weights) weight = std::fabs(random_.symmetric());
        for (float& t : targets) t = std::fabs(random_.symmetric());
        {
            const FloatingPointScope scope(table_);
            kernel({matrix.data(), matrix.stride(), rows, n_outputs, nullptr, targets.data(),
                    indexed ? index.data() : nullptr, delta_scale, rounding, losses.data(),
                    weighted ? weights.data() : nullptr, smoothing});
        }
        const double n = static_cast<double>(n_outputs);
        for (std::size_t i = 0; i < rows; ++i) {
            const std::size_t sample = indexed ? at(index, i) : i;
            Expected mean{0, 0};
            for (std::size_t j = 0; j < n_outputs; ++j) {
                const double given = targets[sample * n_outputs + j];
                const double target = (1.0 - smoothing) * given + 0.5 * smoothing;
                ExactLoss exact = exact_of(outputs.at(i, j), target);
                if (smoothing != 0.0f) {  // the target is rounded, and counts with the logit in the loss
                    exact.loss.tolerance += 2 * kU * std::fabs(outputs.at(i, j));
                    exact.slope.tolerance += 2 * kU;
                }
                mean.value += exact.loss.value / n;
                mean.tolerance += exact.loss.tolerance / n;
                // The factor is rounded three times at most, and its product with the slope once.
                const double scale = delta_scale / n * (weighted ? static_cast<double>(weights[sample]) : 1.0);
                const Expected delta{
                    scale * exact.slope.value,
                    scale * (exact.slope.tolerance + 5 * kU * std::fabs(exact.slope.value)) + 0x1p-125};
                item.expect(matrix.at(i, j), rounded(delta, rounding));
            }
            item.expect(losses[i], {mean.value, mean.tolerance + (n / 16 + 6) * kU * mean.value});
        }
        item.require(matrix.padding_is_zero(), "padding is not zero");
        item.require(matrix.frame_is_untouched(), "wrote outside the result");
    }

    void not_finite(const std::string& name, LossKernel kernel) {
        Item item(set_, name);
        constexpr std::size_t rows = 3, n_outputs = 21;
        for (const float bad : {kInfinity, -kInfinity, kNan})
            for (const float target : {0.0f, 0.5f, 1.0f})
                for (std::size_t place = 0; place < n_outputs; ++place) {
                    Matrix matrix = some_outputs(rows, n_outputs);
                    matrix.at(1, place) = bad;
                    const std::vector<float> targets(rows * n_outputs, target);
                    float losses[rows];
                    const FloatingPointScope scope(table_);
                    kernel({matrix.data(), matrix.stride(), rows, n_outputs, nullptr, targets.data(), nullptr, 1.0f,
                            Rounding::kNone, losses});
                    item.require(!std::isfinite(losses[1]), "an output that is not finite gave a finite loss");
                    item.require(std::isfinite(losses[0]) && std::isfinite(losses[2]),
                                 "spoilt the loss of another row");
                }
    }
};

}  // namespace

void check_losses(const KernelTable& table) { LossCases(table).run(); }

}  // namespace fastmlp::test
