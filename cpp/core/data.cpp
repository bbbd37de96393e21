#include "data.h"

#include <cmath>

namespace fastmlp {

std::size_t first_non_finite(const Inputs& inputs, float limit, const std::int64_t* index, std::size_t count) {
    if (inputs.values == nullptr) return count - 1;
    for (std::size_t i = 0; i < count; ++i) {
        const std::size_t sample = index == nullptr ? i : static_cast<std::size_t>(index[i]);
        const float* row = inputs.values + sample * inputs.n_features;
        for (std::size_t j = 0; j < inputs.n_features; ++j)
            if (!(std::abs(row[j]) < limit)) return i;
    }
    return count - 1;
}

}  // namespace fastmlp
