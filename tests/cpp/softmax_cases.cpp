// Softmax and cross-entropy.
#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

#include "../../cpp/core/floating_point.h"
#include "kernel_cases.h"
#include "matrix.h"

namespace fastmlp::test {
namespace {

class SoftmaxCases : KernelCases {
 public:
    using KernelCases::KernelCases;

    void run() { softmaxes(); }

 private:
    void softmaxes() {
        for (const std::size_t n_classes : {1, 2, 10, 15, 16, 17, 33, 100})
            for (const std::size_t rows : {0, 1, 3, 4, 5, 15, 16, 17, 19, 33}) {
                softmax(rows, n_classes);
                for (const Rounding rounding : {Rounding::kNone, Rounding::kBfloat16})
                    for (const bool indexed : {false, true})
                        for (const bool labelled : {true, false}) {
                            cross_entropy(rows, n_classes, labelled, indexed, rounding, 0.0f);
                            cross_entropy(rows, n_classes, labelled, indexed, rounding, 0.125f);
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
        const Matrix logits = matrix;
        {
            const FloatingPointScope scope(table_);
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

    // Smoothed labels come with weights, which scale the delta.
    void cross_entropy(std::size_t rows, std::size_t n_classes, bool labelled, bool indexed, Rounding rounding,
                       float smoothing) {
        Item item(set_, std::string("softmax_cross_entropy") + (labelled ? "_labels" : "_probabilities") +
                            (indexed ? "_indexed" : "") + (smoothing != 0.0f ? "_smoothed_weighted" : "") +
                            name_of(rounding) + " " + shape(rows, n_classes));
        constexpr float delta_scale = 1.0f / 77.0f;
        Matrix matrix = some_logits(rows, n_classes);
        const Matrix logits = matrix;
        std::vector<std::int64_t> labels(rows);
        for (auto& label : labels) label = static_cast<std::int64_t>(random_.below(n_classes));
        const std::vector<std::int64_t> index = random_.permutation(rows);
        const std::vector<float> probabilities = some_targets(rows, n_classes);
        std::vector<float> weights(rows);
        for (float& weight : weights) weight = std::fabs(random_.symmetric());
        std::vector<float> losses(rows, kNan);
        {
            const FloatingPointScope scope(table_);
            table_.softmax_cross_entropy({matrix.data(), matrix.stride(), rows, n_classes,
                                          labelled ? labels.data() : nullptr, probabilities.data(),
                                          indexed ? index.data() : nullptr, delta_scale, rounding, losses.data(),
                                          smoothing != 0.0f ? weights.data() : nullptr, smoothing});
        }
        for (std::size_t i = 0; i < rows; ++i) {
            const std::size_t sample = indexed ? at(index, i) : i;
            const Distribution exact = distribution_of(logits, i);
            const auto target = [&](std::size_t j) -> double {
                const double given = labelled ? (at(labels, sample) == j ? 1.0 : 0.0)
                                              : static_cast<double>(probabilities[sample * n_classes + j]);
                return (1.0 - smoothing) * given + smoothing / static_cast<double>(n_classes);
            };
            const double scale = delta_scale * (smoothing != 0.0f ? static_cast<double>(weights[sample]) : 1.0);
            double target_sum = 0.0, linear = 0.0;
            for (std::size_t j = 0; j < n_classes; ++j) {
                target_sum += target(j);
                linear += target(j) * (exact.max - static_cast<double>(logits.at(i, j)));
            }
            const double n = static_cast<double>(n_classes);
            // The logarithm is right to 8 u of itself and turns the sum's relative error into an absolute one.
            const double loss = linear + target_sum * exact.log_sum;
            // A smoothed target carries three roundings more.
            item.expect(losses[i], {loss, (n / 16 + 11) * kU * loss + relative_error(n_classes)});
            for (std::size_t j = 0; j < n_classes; ++j) {
                const double p = exact.probability[j] * target_sum;
                const Expected delta{scale * (p - target(j)),
                                     scale * ((relative_error(n_classes) + n * kU) * p + 8 * kU) + 0x1p-125};
                item.expect(matrix.at(i, j), rounded(delta, rounding));
            }
        }
        item.require(matrix.padding_is_zero(), "padding is not zero");
        item.require(matrix.frame_is_untouched(), "wrote outside the result");
    }

    // Probabilities, but for every fourth row, which sums to a half.
    std::vector<float> some_targets(std::size_t rows, std::size_t n_classes) {
        std::vector<float> targets(rows * n_classes);
        for (std::size_t i = 0; i < rows; ++i) {
            float* row = targets.data() + i * n_classes;
            double sum = 0.0;
            for (std::size_t j = 0; j < n_classes; ++j) sum += row[j] = 1.0f + random_.symmetric() + 0x1p-20f;
            if (i % 4 == 2) sum *= 2;
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
                const FloatingPointScope scope(table_);
                table_.softmax_cross_entropy({matrix.data(), matrix.stride(), rows, n_classes, labels.data(), nullptr,
                                              nullptr, 1.0f, Rounding::kNone, losses});
                item.require(!std::isfinite(losses[1]), "a logit that is not finite gave a finite loss");
                item.require(std::isfinite(losses[0]) && std::isfinite(losses[2]), "spoilt the loss of another row");
            }
    }
};

}  // namespace

void check_softmax(const KernelTable& table) { SoftmaxCases(table).run(); }

}  // namespace fastmlp::test
