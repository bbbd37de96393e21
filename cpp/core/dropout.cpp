#include "dropout.h"

#include <algorithm>
#include <cmath>

#include "random.h"

namespace fastmlp {

namespace {

constexpr std::uint32_t kOne = 1u << 16;  // a threshold that would drop all

}  // namespace

Dropout::Dropout(std::uint64_t seed, const std::vector<double>& rates) : seed_(seed) {
    for (const double rate : rates)
        thresholds_.push_back(std::min(kOne - 1, static_cast<std::uint32_t>(std::floor(rate * kOne + 0.5))));
}

float Dropout::scale(std::size_t l) const {
    return drops(l) ? static_cast<float>(kOne) / static_cast<float>(kOne - thresholds_[l]) : 1.0f;
}

DropoutMask Dropout::mask(std::size_t l, const EpochPlace& batch, std::size_t first_row) const {
    return {seed_, kPurposeDropout + (static_cast<std::uint32_t>(l) << 16), batch.epoch, batch.sample + first_row,
            thresholds_[l]};
}

}  // namespace fastmlp
