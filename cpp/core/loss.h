// What the loss of a net makes of a batch's outputs.
#pragma once

#include <cstddef>
#include <cstdint>

#include "data.h"
#include "gemm.h"
#include "network.h"

namespace fastmlp {

// Some rows of the last layer's output: row i is that of sample index[i], or of sample i if index is null.
struct OutputRows {
    Panels outputs;
    std::size_t rows;
    const std::int64_t* index;
};

// The sum of these samples' weights.
double total_weight(const Targets& targets, const std::int64_t* samples, std::size_t n_samples);

// sum(weight loss) / total_weight over these samples; 0 if that is 0.
float mean_loss(const Targets& targets, const std::int64_t* samples, std::size_t n_samples, double total_weight,
                const float* losses);

// What the gradient of a sum of losses is to be multiplied by to get that of mean_loss.
inline float mean_scale(double total_weight) {
    return total_weight > 0.0 ? static_cast<float>(1.0 / total_weight) : 0.0f;
}

// The sum of the weights of those of these samples whose `right` is 1.
float weight_right(const Targets& targets, const std::int64_t* samples, std::size_t n_samples,
                   const std::uint8_t* right);

// Writes the loss of each row and, unless null, whether it is predicted rightly (see RowLosses), and makes of the
// outputs their delta: the weighted loss's gradient times delta_scale.
void take_losses(const Network& network, const OutputRows& rows, const Targets& targets, float delta_scale,
                 Rounding rounding, float* losses, std::uint8_t* right = nullptr);

}  // namespace fastmlp
