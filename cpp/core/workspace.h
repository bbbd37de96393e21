// What a training step works in: the buffers of a batch and of each thread, and its list of phases.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "aligned_buffer.h"
#include "division.h"
#include "dropout.h"
#include "evict.h"
#include "gemm.h"
#include "input_batch.h"
#include "network.h"

namespace fastmlp {

// A matrix of the batch as it enters products: the floats themselves, or these as pairs beside them.
struct Operand {
    // sums_over_columns: there will be products that do.
    Operand(Words words, std::size_t rows, std::size_t panels, bool sums_over_columns = true)
        : stride(panel_stride(rows)), floats(panels * stride), words(words) {
        if (words == Words::kFloats) return;
        rows_stride = panel_stride(n_words(words, rows));
        if (sums_over_columns) by_columns = AlignedBuffer((panels + 1) / 2 * stride);
        by_rows = AlignedBuffer(panels * rows_stride);
    }

    Panels matrix() { return {floats.data(), stride}; }
    // For products that sum over its columns, and over its rows.
    ConstPanels summed_over_columns() const {
        return {words == Words::kFloats ? floats.data() : by_columns.data(), stride};
    }
    ConstPanels summed_over_rows() const {
        return words == Words::kFloats ? ConstPanels{floats.data(), stride} : ConstPanels{by_rows.data(), rows_stride};
    }
    // To be called when the floats in these lines have changed, which are of these rows; see Step::lines_of. Rows and
    // panels begin with an even number.
    void refresh(const KernelTable& kernels, Range lines, Range rows, Range panels) {
        if (words == Words::kFloats) return;
        float* const columns =
            by_columns.size() == 0 ? nullptr : Panels{by_columns.data(), stride}.at(lines.begin, panels.begin / 2);
        kernels.pair(
            matrix().at(lines.begin, panels.begin), stride, rows.size(), panels.size(),
            {columns, stride, Panels{by_rows.data(), rows_stride}.at(rows.begin / 2, panels.begin), rows_stride});
    }

    // Rows and panels as above.
    void evict_read(FarReads reads, Range rows, Range panels) {
        if (reads == FarReads::kNothing) return;
        const bool reads_all = reads == FarReads::kAll;
        if (words == Words::kFloats || reads_all) evict({floats.data(), stride}, rows, panels);
        if (words == Words::kFloats) return;
        if (by_columns.size() > 0 && reads_all)
            evict({by_columns.data(), stride}, rows, {panels.begin / 2, (panels.end + 1) / 2});
        evict({by_rows.data(), rows_stride}, {rows.begin / 2, n_words(words, rows.end)}, panels);
    }

    std::size_t stride;
    AlignedBuffer floats;
    Words words;
    std::size_t rows_stride = 0;
    AlignedBuffer by_columns, by_rows;
};

// What batch normalisation of a layer keeps from a batch's way forward for its way back and for the update.
struct BatchStatistics {
    BatchStatistics(std::size_t panels, std::size_t stride)
        : panels(panels), normalized(panels * stride), lines(kLines * panels * kPanel) {}

    enum Line { kBatchMean, kBatchVariance, kUnbiasedVariance, kShiftGradient, kScaleGradient, kLines };
    float* line(Line line, std::size_t panel) { return lines.data() + (line * panels + panel) * kPanel; }

    std::size_t panels;
    AlignedBuffer normalized;  // panels * stride
    AlignedBuffer lines;       // of each kind one per panel
};

// A phase of a step before its update, for one layer; packing and losses belong to none.
struct Phase {
    enum class Kind { kPack, kForward, kNormalize, kLoss, kBackward, kNormalizeBackward };
    Kind kind;
    std::size_t layer = 0;
};

// Each layer's outputs, the losses, and the deltas of each layer's inputs, from the last layer to the second.
inline std::vector<Phase> phases_of(const std::vector<Layer>& layers) {
    using enum Phase::Kind;
    std::vector<Phase> phases{{kPack}};
    for (std::size_t l = 0; l < layers.size(); ++l) {
        phases.push_back({kForward, l});
        if (layers[l].batch_norm) phases.push_back({kNormalize, l});
    }
    phases.push_back({kLoss});
    for (std::size_t l = layers.size() - 1; l > 0; --l) {
        phases.push_back({kBackward, l});
        if (layers[l - 1].batch_norm) phases.push_back({kNormalizeBackward, l - 1});
    }
    return phases;
}

// Whether an activation's slope needs more than the output that the next layer sees: gelu's is a function of z, and
// where units are dropped, those of tanh and sigmoid need what there was before.
inline bool slope_needs_more(Activation activation, bool drops) {
    if (activation == Activation::kTanh || activation == Activation::kSigmoid) return drops;
    return activation == Activation::kGelu;
}

// The buffers of one batch, and of each thread.
class Workspace {
 public:
    Workspace(const Network& network, const Augmentation* augmentation, const Dropout& dropout, std::size_t batch_size,
              std::size_t threads)
        : batch_size(batch_size),
          n_threads(threads),
          losses(batch_size),
          right(network.loss() == Loss::kSoftmaxCrossEntropy ? batch_size : 0),
          phases(phases_of(network.layers())) {
        const std::size_t n_inputs = may_pack_alone(network.layers().front(), batch_size) ? threads : 1;
        for (std::size_t i = 0; i < n_inputs; ++i)
            inputs.emplace_back(network, batch_size, most_row_parts(batch_size), true);
        for (const Layer& layer : network.layers()) {
            const bool hidden = &layer != &network.layers().back();
            outputs.emplace_back(network.words(), batch_size, layer.panels());
            const bool first = &layer == &network.layers().front();  // no deltas are made of its own
            deltas.emplace_back(network.words(), hidden ? batch_size : 0, layer.panels(), !first);
            const bool drops = dropout.drops(outputs.size());
            kept.emplace_back(drops ? batch_size : 0, layer.panels());
            saved.emplace_back(slope_needs_more(layer.activation, drops) ? layer.panels() * outputs.back().stride : 0);
            statistics.emplace_back(layer.batch_norm ? layer.panels() : 0, outputs.back().stride);
        }
        const std::size_t gradient_tile = kGradientOutputPanels * gradient_stride(most_input_panels(network.kernels()));
        scratch_size =
            std::max({transposed_scratch_size(network.kernels()), narrow_scratch_size(network.kernels()), gradient_tile,
                      InputBatch::pack_scratch_size(network, augmentation, dropout.drops(0))});
        for (std::size_t thread = 0; thread < threads; ++thread) scratch.emplace_back(scratch_size);
    }

    std::size_t batch_size, n_threads, scratch_size;
    std::vector<InputBatch> inputs;           // one, or where they may pack alone one for each thread
    std::vector<Operand> outputs;             // of each layer: the activation; of the last one logits, then their delta
    std::vector<Operand> deltas;              // of each hidden layer: d loss / d z
    std::vector<AlignedBuffer> saved;         // of some layers: what the slope of the activation is a function of
    std::vector<BatchStatistics> statistics;  // of each layer; empty ones where nothing is normalized
    std::vector<KeptUnits> kept;              // of layers with dropout
    std::vector<float> losses;                // of each sample
    std::vector<std::uint8_t> right;          // of each sample, whether it is predicted rightly; or empty
    std::vector<Phase> phases;
    std::vector<AlignedBuffer> scratch;  // of each thread
};

}  // namespace fastmlp
