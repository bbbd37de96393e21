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

// Writes the loss of each row, and makes of the outputs their delta: the loss's gradient times delta_scale.
void take_losses(const Network& network, const OutputRows& rows, const Targets& targets, float delta_scale,
                 Rounding rounding, float* losses);

}  // namespace fastmlp
