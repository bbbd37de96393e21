#include "loss.h"

namespace fastmlp {

namespace {

double weight_of(const Targets& targets, std::int64_t sample) {
    return targets.weights == nullptr ? 1.0 : static_cast<double>(targets.weights[sample]);
}

}  // namespace

double total_weight(const Targets& targets, const std::int64_t* samples, std::size_t n_samples) {
    if (targets.weights == nullptr) return static_cast<double>(n_samples);
    double sum = 0.0;
    for (std::size_t i = 0; i < n_samples; ++i) sum += weight_of(targets, samples[i]);
    return sum;
}

float mean_loss(const Targets& targets, const std::int64_t* samples, std::size_t n_samples, double total_weight,
                const float* losses) {
    double sum = 0.0;
    for (std::size_t i = 0; i < n_samples; ++i) sum += weight_of(targets, samples[i]) * static_cast<double>(losses[i]);
    return total_weight > 0.0 ? static_cast<float>(sum / total_weight) : 0.0f;
}

float weight_right(const Targets& targets, const std::int64_t* samples, std::size_t n_samples,
                   const std::uint8_t* right) {
    double sum = 0.0;
    for (std::size_t i = 0; i < n_samples; ++i)
        if (right[i] != 0) sum += weight_of(targets, samples[i]);
    return static_cast<float>(sum);
}

void take_losses(const Network& network, const OutputRows& rows, const Targets& targets, float delta_scale,
                 Rounding rounding, float* losses, std::uint8_t* right) {
    const RowLosses args{.outputs = rows.outputs.data,
                         .panel_stride = rows.outputs.stride,
                         .rows = rows.rows,
                         .n_outputs = network.n_outputs(),
                         .labels = targets.labels,
                         .targets = targets.values,
                         .index = rows.index,
                         .delta_scale = delta_scale,
                         .rounding = rounding,
                         .losses = losses,
                         .weights = targets.weights,
                         .label_smoothing = targets.label_smoothing,
                         .right = right};
    switch (network.loss()) {
        case Loss::kSoftmaxCrossEntropy:
            return network.kernels().softmax_cross_entropy(args);
        case Loss::kSigmoidCrossEntropy:
            return network.kernels().sigmoid_cross_entropy(args);
        case Loss::kSquaredError:
            return network.kernels().squared_error(args);
    }
}

}  // namespace fastmlp
