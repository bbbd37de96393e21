// Views of the caller's arrays. Nothing here owns memory.
#pragma once

#include <cstddef>
#include <cstdint>
#include <stdexcept>

namespace fastmlp {

class Augmentation;

// How training distorts its images.
struct AugmentedEpoch {
    const Augmentation* augmentation = nullptr;  // null: not at all
    std::uint32_t epoch = 0;
    const std::int64_t* ids = nullptr;  // the number that each sample's distortion depends on; null: its index
};

// Row-major (n_samples, n_features): pixels (p / 255) or floats; exactly one pointer is set.
struct Inputs {
    const std::uint8_t* pixels = nullptr;
    const float* values = nullptr;
    std::size_t n_samples = 0;
    std::size_t n_features = 0;
    AugmentedEpoch augmented{};  // for training alone, on pixels

    // The samples from this one on.
    Inputs from(std::size_t sample) const {
        const std::size_t offset = sample * n_features;
        return {pixels == nullptr ? nullptr : pixels + offset, values == nullptr ? nullptr : values + offset,
                n_samples - sample, n_features};
    }

    // What a product of the stored numbers must be multiplied by.
    float scale() const { return pixels != nullptr ? 1.0f / 255.0f : 1.0f; }
};

// What the net should make of each sample, and how much that counts. Of labels and values exactly one is set.
struct Targets {
    const std::int64_t* labels = nullptr;  // class indices (n_samples,), for softmax cross-entropy
    const float* values = nullptr;         // row-major (n_samples, n_outputs): class probabilities or outputs
    const float* weights = nullptr;        // (n_samples,), at least 0; null: all 1
    float label_smoothing = 0.0f;          // see RowLosses

    // Those of the samples from this one on.
    Targets from(std::size_t sample, std::size_t n_outputs) const {
        Targets rest = *this;
        if (labels != nullptr) rest.labels += sample;
        if (values != nullptr) rest.values += sample * n_outputs;
        if (weights != nullptr) rest.weights += sample;
        return rest;
    }
};

class NonFiniteInput : public std::runtime_error {
 public:
    explicit NonFiniteInput(std::size_t sample) : std::runtime_error("X holds a non-finite value"), sample(sample) {}
    std::size_t sample;
};

class NonFiniteOutput : public std::runtime_error {
 public:
    explicit NonFiniteOutput(std::size_t sample) : std::runtime_error("an output is not finite"), sample(sample) {}
    std::size_t sample;
};

// Index of the first of these samples (all if index is null) that holds a value whose magnitude is not below the limit;
// the last one if none does: another thread may have changed it.
std::size_t first_non_finite(const Inputs& inputs, float limit, const std::int64_t* index, std::size_t count);

}  // namespace fastmlp
