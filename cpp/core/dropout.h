// Dropout: which of the input and of each hidden layer's outputs are set to 0 in training.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "../kernels/kernel_table.h"
#include "panels.h"

namespace fastmlp {

// Where a batch stands in training: the epoch, and the number of its first sample in the epoch's order. Masks depend on
// this and the seed alone.
struct EpochPlace {
    std::uint32_t epoch = 0;
    std::uint64_t sample = 0;
    std::uint64_t samples_per_epoch = 0;  // 0: the epoch has no end

    // So many samples later.
    EpochPlace after(std::uint64_t n_samples) const {
        const std::uint64_t number = sample + n_samples;
        if (samples_per_epoch == 0) return {epoch, number, 0};
        return {epoch + static_cast<std::uint32_t>(number / samples_per_epoch), number % samples_per_epoch,
                samples_per_epoch};
    }
};

class Dropout {
 public:
    Dropout() = default;
    // rates: of the input and of each hidden layer, in [0, 1); they are rounded to multiples of 2^-16.
    Dropout(std::uint64_t seed, const std::vector<double>& rates);

    // Whether layer l's inputs are dropped: for l = 0 those of the net, else the outputs of layer l - 1.
    bool drops(std::size_t l) const { return l < thresholds_.size() && thresholds_[l] > 0; }
    // What kept ones are multiplied by: 1 / the probability to be kept.
    float scale(std::size_t l) const;
    // first_row: of the batch. The mask of batch rows from there on.
    DropoutMask mask(std::size_t l, const EpochPlace& batch, std::size_t first_row) const;

 private:
    std::uint64_t seed_ = 0;
    std::vector<std::uint32_t> thresholds_;
};

// Which units of a batch are kept, of one layer.
class KeptUnits {
 public:
    KeptUnits(std::size_t rows, std::size_t panels) : rows_(rows), bits_(rows * panels) {}
    std::uint16_t* at(std::size_t row, std::size_t panel) { return bits_.data() + panel * rows_ + row; }
    std::size_t stride() const { return rows_; }

 private:
    std::size_t rows_;
    std::vector<std::uint16_t> bits_;
};

}  // namespace fastmlp
