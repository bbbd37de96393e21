// A net's shape and parameters.
#pragma once

#include <cstddef>
#include <cstdint>
#include <limits>
#include <mutex>
#include <shared_mutex>
#include <vector>

#include "../kernels/kernel_table.h"
#include "aligned_buffer.h"
#include "fair_shared_mutex.h"
#include "panels.h"

namespace fastmlp {

// What the units of a layer have besides weights: a bias, or, if batch normalisation comes between weights and
// activation, all of these. They lie in rows of one line per panel, of which the optimiser updates the first or the
// first two.
inline constexpr std::size_t kShift = 0, kScale = 1, kMean = 2, kVariance = 3, kBiasRowsOfBatchNorm = 4;

// Parameters and moments lie in arenas that each update walks side by side: see AlignedBuffer.
inline constexpr std::size_t kLineOfParameters = AlignedBuffer::kLinesOfPage / 4,
                             kLineOfFirstMoment = 2 * kLineOfParameters, kLineOfSecondMoment = 3 * kLineOfParameters;

// Where a layer lies in an arena. Weights are an (n_inputs x n_outputs) panel matrix. Their rounded copy has as many
// rows as n_inputs make words.
struct Layer {
    std::size_t n_inputs;
    std::size_t n_outputs;
    Activation activation;  // identity for the last layer: it ends in logits
    bool batch_norm;        // never in the last layer
    std::size_t weights;    // offsets
    std::size_t biases;
    std::size_t operand;  // offset of the rounded weights in their own arena
    std::size_t operand_rows;

    std::size_t panels() const { return n_panels(n_outputs); }
    std::size_t n_bias_rows() const { return batch_norm ? kBiasRowsOfBatchNorm : 1; }
    std::size_t n_trained_bias_rows() const { return batch_norm ? 2 : 1; }
    std::size_t bias_row(std::size_t row) const { return biases + row * panels() * kPanel; }
    std::size_t weights_stride() const { return panel_stride(n_inputs); }
};

class Network {
 public:
    // Parameters, and their weights as products take them where these are other numbers.
    struct Values {
        AlignedBuffer parameters;
        AlignedBuffer operands;
    };

    // activations and batch_norm: one per hidden layer; the latter may be empty for none. Sizes are at least 1; throws
    // std::bad_alloc or std::length_error if the parameters do not fit into memory.
    Network(const std::vector<std::size_t>& layer_sizes, const std::vector<Activation>& activations, Rounding rounding,
            const KernelTable& kernels, Loss loss = Loss::kSoftmaxCrossEntropy,
            const std::vector<bool>& batch_norm = {});

    const KernelTable& kernels() const { return kernels_; }
    // Of no other network of this process, now or later.
    std::uint64_t id() const { return id_; }
    const std::vector<Layer>& layers() const { return layers_; }
    Rounding rounding() const { return rounding_; }
    Loss loss() const { return loss_; }
    std::size_t n_features() const { return layers_.front().n_inputs; }
    std::size_t n_outputs() const { return layers_.back().n_outputs; }
    std::size_t arena_size() const { return parameters_.size(); }
    // Multiply-adds of one sample's forward pass.
    double forward_work() const;

    AlignedBuffer& parameters() { return parameters_; }
    const AlignedBuffer& parameters() const { return parameters_; }

    // What products take: floats (rounded ones in mixed_bfloat16), or pairs where the kernels have products of these.
    Words words() const { return words_; }
    // The weights as a right operand of such products.
    ConstPanels weight_operand(const Layer& layer) const {
        if (rounding_ == Rounding::kNone) return {parameters_.data() + layer.weights, layer.weights_stride()};
        return {operands_.data() + layer.operand, panel_stride(layer.operand_rows)};
    }
    // Where an update of weights from this row and panel on must write them as operands; null if they serve as they
    // are. The row is even.
    float* updated_operand(const Layer& layer, std::size_t row, std::size_t panel) {
        if (rounding_ == Rounding::kNone) return nullptr;
        return Panels{operands_.data() + layer.operand, panel_stride(layer.operand_rows)}.at(n_words(words_, row),
                                                                                             panel);
    }
    void refresh_operands();
    void refresh_operand(const Layer& layer, std::size_t panel);

    // Others, of the same layout, take the place of the parameters; no number is copied.
    void exchange(Values& values) {
        std::swap(parameters_, values.parameters);
        std::swap(operands_, values.operands);
    }
    Values copy_of_values() const { return {parameters_, operands_}; }
    void copy_values_to(Values& values) const {
        values.parameters.copy_from(parameters_);
        values.operands.copy_from(operands_);
    }

    // What inputs and weights must be below in magnitude to be finite as operands.
    float operand_limit() const {
        return rounding_ == Rounding::kNone ? std::numeric_limits<float>::infinity() : kBfloat16Overflow;
    }
    // Whether all of an arena in the layout of the parameters are finite, and weights so as operands.
    bool all_finite(const AlignedBuffer& arena) const;

    // Whether all parameters are finite, as far as those who wrote them have said. A net that is not can't be trained.
    bool is_finite() const { return finite_; }
    void set_finite(bool finite) { finite_ = finite; }

    // Row-major, unaligned; from and to the parameters, or another arena of their layout. Biases have n_bias_rows.
    void read_weights(const Layer& layer, float* weights) const { read_weights(parameters_, layer, weights); }
    void read_biases(const Layer& layer, float* biases) const { read_biases(parameters_, layer, biases); }
    void write_layer(const Layer& layer, const float* weights, const float* biases) {
        write_layer(parameters_, layer, weights, biases);
    }
    void read_weights(const AlignedBuffer& arena, const Layer& layer, float* weights) const;
    void read_biases(const AlignedBuffer& arena, const Layer& layer, float* biases) const;
    void write_layer(AlignedBuffer& arena, const Layer& layer, const float* weights, const float* biases) const;

    // Held while parameters are read.
    std::shared_lock<std::shared_mutex> lock_for_reading() const { return mutex_.lock_for_reading(); }
    // Does not wait: the lock may not be held.
    std::shared_lock<std::shared_mutex> try_lock_for_reading() const { return mutex_.try_lock_for_reading(); }
    // Held while they are written.
    std::unique_lock<std::shared_mutex> lock_for_writing() const { return mutex_.lock_for_writing(); }

 private:
    const KernelTable& kernels_;
    std::uint64_t id_;
    Rounding rounding_;
    Loss loss_;
    Words words_;
    std::vector<Layer> layers_;
    AlignedBuffer parameters_;
    AlignedBuffer operands_;  // weights rounded to bfloat16; empty in float32
    bool finite_ = true;
    mutable FairSharedMutex mutex_;
};

}  // namespace fastmlp
