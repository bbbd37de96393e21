#include "trainer.h"

#include <algorithm>
#include <atomic>
#include <stdexcept>
#include <string>
#include <utility>

#include "division.h"
#include "floating_point.h"
#include "parallel.h"
#include "step.h"
#include "update.h"
#include "workspace.h"

namespace fastmlp {

<<<<<<< HEAD
namespace {

// A task of the gradient phase makes the gradient of this many panels of a layer's inputs times this many of its
// outputs: large enough to use each operand line often, small enough to lie in the L2 cache with its operands.
constexpr std::size_t kGradientInputPanels = 2;
constexpr std::size_t kGradientOutputPanels = 16;
constexpr std::size_t kGradientRows = kGradientInputPanels * kPanel;
constexpr std::size_t kGradientStride = kGradientRows * kPanel;

// In batches of fewer rows, tasks are bound to threads where weights outweigh activations: whoever takes over a task
// fetches its weights from another thread's cache, and next time they are fetched back.
constexpr std::size_t kRowsToBind = 128;

std::size_t input_parts(const Layer& layer) {
    return (n_panels(layer.n_inputs) + kGradientInputPanels - 1) / kGradientInputPanels;
}

// Rows that a task should have at least, so that each line of weights it loads serves several tiles.
constexpr std::size_t kLeastRows = 16;

// Rows and panels are divided in pairs: bfloat16 products take rows together, and columns of two panels in one.
constexpr std::size_t kRowUnit = 2;
constexpr std::size_t kPanelUnit = 2;

std::size_t most_row_parts(std::size_t rows) { return std::max<std::size_t>(rows / kLeastRows, 1); }

// A phase's result is divided into row_parts x panel_parts tasks.
struct Grid {
    std::size_t row_parts;
    std::size_t panel_parts;
    bool bound = false;
    std::size_t size() const { return row_parts * panel_parts; }
    bool operator==(const Grid&) const = default;
};

// Whether each thread should have panels of a layer of its own in the forward phase and the update. It pays where
// weights outweigh activations, since weights would wander from the cache of the thread that updates them to others'.
bool weights_stay(std::size_t rows, std::size_t n_inputs, std::size_t panels, std::size_t team) {
    return n_inputs > rows && panels >= kPanelUnit * team;
}

// Of a forward phase. By rows, so that a task can go on with its rows alone, unless weights are to stay or there are
// too few rows for the team.
Grid divide_forward(std::size_t rows, std::size_t n_inputs, std::size_t panels, std::size_t row_block,
                    std::size_t team) {
    const std::size_t wanted = team * ((rows + row_block * team - 1) / (row_block * team));
    const std::size_t row_parts = std::min(most_row_parts(rows), wanted);
    if (weights_stay(rows, n_inputs, panels, team)) return {row_parts, team, rows < kRowsToBind};
    const std::size_t most_panel_parts = (panels + kPanelUnit - 1) / kPanelUnit;
    return {row_parts, std::min(most_panel_parts, (team + row_parts - 1) / row_parts)};
}

// Of a backward phase. By rows, so that deltas stay in their thread's cache: in the forward phases' parts, unless these
// are so many that transposing the weights for each of them costs more than to wait for the other threads. But by
// panels where weights outweigh deltas, so that no two tasks transpose the same weights.
Grid divide_backward(std::size_t rows, std::size_t n_outputs, std::size_t panels, std::size_t forward_parts,
                     std::size_t team) {
    if (n_outputs <= rows) {
        const bool cheap = forward_parts <= 2 * team || n_outputs <= kPanel;
        const std::size_t row_parts = cheap ? forward_parts : std::min(most_row_parts(rows), 2 * team);
        if (row_parts >= team) return {row_parts, 1};
    }
    const std::size_t most_parts = (panels + kTransposedPanels - 1) / kTransposedPanels;
    const std::size_t panel_parts = std::min((panels + kPanelUnit - 1) / kPanelUnit, std::max(most_parts, 2 * team));
    return {std::min(most_row_parts(rows), (team + panel_parts - 1) / panel_parts), panel_parts};
}

// Whether an activation's slope needs more than the output that the next layer sees: gelu's is a function of z, and
// where units are dropped, those of tanh and sigmoid need what there was before.
bool slope_needs_more(Activation activation, bool drops) {
    if (activation == Activation::kTanh || activation == Activation::kSigmoid) return drops;
    return activation == Activation::kGelu;
}

}  // namespace

// A matrix of the batch as it enters products: the floats themselves, or these as pairs beside them.
struct Operand {
    Operand(Words words, std::size_t rows, std::size_t panels)
        : stride(panel_stride(rows)), floats(panels * stride), words(words) {
        if (words == Words::kFloats) return;
        rows_stride = panel_stride(n_words(words, rows));
        by_columns = AlignedBuffer((panels + 1) / 2 * stride);
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
    // To be called when these floats have changed. Rows and panels begin with an even number.
    void refresh(const KernelTable& kernels, Range rows, Range panels) {
        if (words == Words::kFloats) return;
        kernels.pair(matrix().at(rows.begin, panels.begin), stride, rows.size(), panels.size(),
                     {Panels{by_columns.data(), stride}.at(rows.begin, panels.begin / 2), stride,
                      Panels{by_rows.data(), rows_stride}.at(rows.begin / 2, panels.begin), rows_stride});
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
std::vector<Phase> phases_of(const std::vector<Layer>& layers) {
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

// The buffers of one batch, and of each thread.
class Workspace {
 public:
    Workspace(const Network& network, const Augmentation* augmentation, const Dropout& dropout, std::size_t batch_size,
              std::size_t threads)
        : batch_size(batch_size),
          n_threads(threads),
          input(network, batch_size, most_row_parts(batch_size), true),
          losses(batch_size),
          right(network.loss() == Loss::kSoftmaxCrossEntropy ? batch_size : 0),
          phases(phases_of(network.layers())) {
        for (const Layer& layer : network.layers()) {
            const bool hidden = &layer != &network.layers().back();
            outputs.emplace_back(network.words(), batch_size, layer.panels());
            deltas.emplace_back(network.words(), hidden ? batch_size : 0, layer.panels());
            const bool drops = dropout.drops(outputs.size());
            kept.emplace_back(drops ? batch_size : 0, layer.panels());
            saved.emplace_back(slope_needs_more(layer.activation, drops) ? layer.panels() * outputs.back().stride : 0);
            statistics.emplace_back(layer.batch_norm ? layer.panels() : 0, outputs.back().stride);
        }
        const std::size_t gradient_tile = kGradientOutputPanels * kGradientStride;
        scratch_size = std::max({transposed_scratch_size(network.kernels()), gradient_tile,
                                 InputBatch::pack_scratch_size(network, augmentation, dropout.drops(0))});
        for (std::size_t thread = 0; thread < threads; ++thread) scratch.emplace_back(scratch_size);
    }

    std::size_t batch_size, n_threads, scratch_size;
    InputBatch input;
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

namespace {

// Calls body(l, panel) for each panel of each layer's outputs.
template <class Body>
void for_each_panel(const Network& network, Team& team, std::size_t rank, const Body& body) {
    std::size_t n_tasks = 0;
    for (const Layer& layer : network.layers()) n_tasks += layer.panels();
    team.for_each(rank, n_tasks, [&](std::size_t panel) {
        std::size_t l = 0;
        for (; panel >= network.layers()[l].panels(); ++l) panel -= network.layers()[l].panels();
        body(l, panel);
    });
}

// One batch, seen by one thread of the team. The methods are the phases of a step; every thread calls each of them.
class Step {
 public:
    Step(Network& network, const Dropout& dropout, Workspace& workspace, Team& team, std::size_t rank,
         const Inputs& inputs, const Targets& targets, const std::int64_t* samples, std::size_t n_samples,
         const EpochPlace& place)
        : network_(network),
          kernels_(network.kernels()),
          dropout_(dropout),
          workspace_(workspace),
          team_(team),
          rank_(rank),
          inputs_(inputs),
          targets_(targets),
          samples_(samples),
          rows_(n_samples),
          place_(place),
          total_weight_(total_weight(targets, samples, n_samples)) {}

    // Packs the batch and computes activations, losses and the deltas of all layers. Sets the flags to false where
    // that is so.
    void forward_and_backward(std::atomic<bool>& input_finite, std::atomic<bool>& loss_finite) {
        const std::vector<Phase>& phases = workspace_.phases;
        for (std::size_t first = 0, end; first < phases.size(); first = end) {
            // Phases that have the same whole rows for their tasks go on with them, and need not wait for one another.
            const Grid grid = grid_of(phases[first]);
            end = first + 1;
            if (grid.panel_parts == 1)
                while (end < phases.size() && grid_of(phases[end]) == grid) ++end;
            const auto run_all = [&](std::size_t task) {
                for (std::size_t i = first; i < end; ++i) run(phases[i], grid, task, input_finite, loss_finite);
            };
            team_.for_each(rank_, grid.size(), run_all, grid.bound);
        }
    }

    // Gradients of all layers, each tile of parameters updated as soon as its gradient is there. Sets parameters_finite
    // to false where that is so.
    void update(ParameterUpdate& update, std::atomic<bool>& parameters_finite) {
        for_each_gradient_tile([&](std::size_t l, std::size_t, Range in, Range out) {
            const Panels gradient{scratch(), kGradientStride};
            weights_gradient(l, in, out, gradient);
            const Range rows = rows_of_weights(l, in);
            bool finite = true;
            for (std::size_t panel = out.begin; panel < out.end; ++panel)
                finite &= update.update_weights(layer(l), rows.begin, rows.size(), panel,
                                                gradient.at(0, panel - out.begin), input_scale(l));
            if (in.begin == 0) {
                for (std::size_t row = 0; row < layer(l).n_trained_bias_rows(); ++row) {
                    biases_gradient(l, row, out, scratch());
                    finite &= update.update_biases(layer(l), row, out.begin, out.size(), scratch(), 1.0f);
                }
                finite &= update_statistics(l, out, update);
            }
            if (!finite) parameters_finite.store(false, std::memory_order_relaxed);
        });
    }

    // The same in two phases: the update of a parameter may depend on the whole gradient.
    void update_from(WholeGradient& whole, ParameterUpdate& update, std::atomic<bool>& parameters_finite) {
        for_each_gradient_tile([&](std::size_t l, std::size_t in_part, Range in, Range out) {
            const Panels gradient{whole.data() + layer(l).weights, layer(l).weights_stride()};
            const Range rows = rows_of_weights(l, in);
            weights_gradient(l, in, out, {gradient.at(rows.begin, out.begin), gradient.stride});
            if (in.begin == 0)
                for (std::size_t row = 0; row < layer(l).n_trained_bias_rows(); ++row)
                    biases_gradient(l, row, out, whole.data() + layer(l).bias_row(row) + out.begin * kPanel);
            if (!update.clips()) return;
            for (std::size_t panel = out.begin; panel < out.end; ++panel) {
                whole.take_squares_of_weights(l, in_part, rows, panel, input_scale(l));
                if (in.begin == 0) whole.take_squares_of_biases(l, panel);
            }
        });
        const float scale = update.clips() ? update.clip_scale(whole) : 1.0f;
        for_each_panel(network_, team_, rank_, [&](std::size_t l, std::size_t panel) {
            bool finite = update.update_panel(layer(l), panel, whole, input_scale(l) * scale, scale);
            finite &= update_statistics(l, {panel, panel + 1}, update);
            if (!finite) parameters_finite.store(false, std::memory_order_relaxed);
        });
    }

    float mean_loss() const {
        return fastmlp::mean_loss(targets_, samples_, rows_, total_weight_, workspace_.losses.data());
    }
    float weight_right() const { return fastmlp::weight_right(targets_, samples_, rows_, workspace_.right.data()); }

 private:
    std::size_t n_layers() const { return network_.layers().size(); }
    const Layer& layer(std::size_t l) const { return network_.layers()[l]; }
    Operand& output(std::size_t l) const { return workspace_.outputs[l]; }
    // d loss / d z of layer l; the last layer's takes the place of its logits.
    Operand& delta(std::size_t l) const { return l + 1 == n_layers() ? workspace_.outputs[l] : workspace_.deltas[l]; }
    float input_scale(std::size_t l) const { return l == 0 ? inputs_.scale() * dropout_.scale(0) : 1.0f; }
    Range rows_of_weights(std::size_t l, Range in) const {
        return {in.begin * kPanel, std::min(in.end * kPanel, layer(l).n_inputs)};
    }
    // As many for each thread where weights stay; and enough for all threads, if there are enough panels.
    std::size_t output_parts(std::size_t l) const {
        const std::size_t panels = layer(l).panels();
        const std::size_t unit = weights_stay(rows_, layer(l).n_inputs, panels, team_.size()) ? team_.size() : 1;
        const std::size_t parts = unit * ((panels + kGradientOutputPanels * unit - 1) / (kGradientOutputPanels * unit));
        const std::size_t wanted = (2 * team_.size() + input_parts(layer(l)) - 1) / input_parts(layer(l));
        return std::max(parts, std::min(wanted, (panels + kPanelUnit - 1) / kPanelUnit));
    }

    Grid grid_of(const Phase& phase) const {
        const Layer& of = layer(phase.layer);
        switch (phase.kind) {
            case Phase::Kind::kPack:
            case Phase::Kind::kLoss:
                break;
            case Phase::Kind::kForward:
                return divide_forward(rows_, of.n_inputs, of.panels(), kernels_.row_block, team_.size());
            case Phase::Kind::kBackward:
                return divide_backward(rows_, of.n_outputs, n_panels(of.n_inputs), row_parts(), team_.size());
            case Phase::Kind::kNormalize:
            case Phase::Kind::kNormalizeBackward:  // statistics are of whole columns
                return {1, std::min((of.panels() + kPanelUnit - 1) / kPanelUnit, 2 * team_.size())};
        }
        return {row_parts(), 1};
    }

    void run(const Phase& phase, const Grid& grid, std::size_t task, std::atomic<bool>& input_finite,
             std::atomic<bool>& loss_finite) {
        const std::size_t l = phase.layer, row_part = task % grid.row_parts;
        const auto panels_of = [&](std::size_t columns) {
            return even_part(n_panels(columns), task / grid.row_parts, grid.panel_parts, kPanelUnit);
        };
        switch (phase.kind) {
            case Phase::Kind::kPack:
                return pack(row_part, input_finite);
            case Phase::Kind::kForward:
                return forward_layer(l, row_part, panels_of(layer(l).n_outputs));
            case Phase::Kind::kNormalize:
                return normalize(l, panels_of(layer(l).n_outputs));
            case Phase::Kind::kLoss:
                return loss(row_part, loss_finite);
            case Phase::Kind::kBackward:
                return backward_layer(l, even_part(rows_, row_part, grid.row_parts, kRowUnit),
                                      panels_of(layer(l).n_inputs));
            case Phase::Kind::kNormalizeBackward:
                return normalize_backward(l, panels_of(layer(l).n_outputs));
        }
    }

    // All forward phases divide the rows alike.
    std::size_t row_parts() const { return divide_forward(rows_, 1, 1, kernels_.row_block, team_.size()).row_parts; }
    Range rows_of(std::size_t part) const { return even_part(rows_, part, row_parts(), kRowUnit); }
    float* scratch() const { return workspace_.scratch[rank_].data(); }

    void pack(std::size_t part, std::atomic<bool>& finite) {
        const Range rows = rows_of(part);
        DropoutMask mask{};
        if (dropout_.drops(0)) mask = dropout_.mask(0, place_, rows.begin);
        if (!workspace_.input.pack(inputs_, samples_, part, rows, scratch(), dropout_.drops(0) ? &mask : nullptr))
            finite.store(false, std::memory_order_relaxed);
    }

    void forward_layer(std::size_t l, std::size_t part, Range panels) {
        const Range rows = rows_of(part);
        const Panels z = output(l).matrix();
        if (l == 0)
            workspace_.input.multiply(part, network_.weight_operand(layer(l)), z, panels);
        else
            multiply(kernels_, network_.words(), output(l - 1).summed_over_columns(), network_.weight_operand(layer(l)),
                     z, rows, panels, n_words(network_.words(), layer(l).n_inputs));
        if (!layer(l).batch_norm) activate(l, rows, panels, input_scale(l), nullptr);
    }

    void normalize(std::size_t l, Range panels) {
        const Panels z = output(l).matrix();
        BatchStatistics& statistics = workspace_.statistics[l];
        kernels_.batch_normalize({z.at(0, panels.begin), z.stride, rows_, panels.size(), input_scale(l),
                                  Panels{statistics.normalized.data(), z.stride}.at(0, panels.begin),
                                  statistics.line(BatchStatistics::kBatchMean, panels.begin),
                                  statistics.line(BatchStatistics::kBatchVariance, panels.begin),
                                  statistics.line(BatchStatistics::kUnbiasedVariance, panels.begin)});
        activate(l, {0, rows_}, panels, 1.0f, network_.parameters().data() + layer(l).bias_row(kScale));
    }

    // scales: of each unit, or null; see BiasActivation.
    void activate(std::size_t l, Range rows, Range panels, float scale, const float* scales) {
        const Panels z = output(l).matrix();
        const bool last = l + 1 == n_layers(), drops = dropout_.drops(l + 1);
        AlignedBuffer& buffer = workspace_.saved[l];
        float* const saved =
            buffer.size() == 0 ? nullptr : Panels{buffer.data(), z.stride}.at(rows.begin, panels.begin);
        const bool saves_z = layer(l).activation == Activation::kGelu;
        kernels_.bias_activation({z.at(rows.begin, panels.begin), z.stride, rows.size(), panels.size(),
                                  network_.parameters().data() + layer(l).biases + panels.begin * kPanel, scale,
                                  layer(l).activation, last || drops ? Rounding::kNone : network_.rounding(),
                                  saves_z ? saved : nullptr,
                                  scales == nullptr ? nullptr : scales + panels.begin * kPanel});
        if (drops) {
            DroppedUnits args = dropped_units(l, z, rows, panels);
            args.saved = saves_z ? nullptr : saved;
            kernels_.drop_units(args);
        }
        if (!last) output(l).refresh(kernels_, rows, panels);
    }

    // Of a matrix like layer l's output.
    DroppedUnits dropped_units(std::size_t l, Panels matrix, Range rows, Range panels) const {
        KeptUnits& kept = workspace_.kept[l];
        return {.mask = dropout_.mask(l + 1, place_, rows.begin),
                .matrix = matrix.at(rows.begin, panels.begin),
                .panel_stride = matrix.stride,
                .rows = rows.size(),
                .first_panel = panels.begin,
                .panels = panels.size(),
                .scale = dropout_.scale(l + 1),
                .kept = kept.at(rows.begin, panels.begin),
                .kept_stride = kept.stride(),
                .rounding = network_.rounding(),
                .saved = nullptr};
    }

    void loss(std::size_t part, std::atomic<bool>& finite) {
        const Range rows = rows_of(part);
        float* losses = workspace_.losses.data();
        Operand& output = workspace_.outputs.back();
        const Panels outputs = output.matrix();
        take_losses(network_, {{outputs.at(rows.begin, 0), outputs.stride}, rows.size(), samples_ + rows.begin},
                    targets_, mean_scale(total_weight_), network_.rounding(), losses + rows.begin,
                    workspace_.right.empty() ? nullptr : workspace_.right.data() + rows.begin);
        output.refresh(kernels_, rows, {0, layer(n_layers() - 1).panels()});
        for (std::size_t i = rows.begin; i < rows.end; ++i)
            if (!std::isfinite(losses[i])) finite.store(false, std::memory_order_relaxed);
    }

    // The delta of layer l - 1, from that of layer l.
    void backward_layer(std::size_t l, Range rows, Range panels) {
        const Panels d_output = delta(l - 1).matrix();
        multiply_by_transposed(kernels_, network_.words(), delta(l).summed_over_columns(),
                               network_.weight_operand(layer(l)), layer(l).n_inputs, layer(l).n_outputs, d_output, rows,
                               panels, scratch());
        if (dropout_.drops(l)) kernels_.drop_deltas(dropped_units(l - 1, d_output, rows, panels));
        AlignedBuffer& saved = workspace_.saved[l - 1].size() > 0 ? workspace_.saved[l - 1] : output(l - 1).floats;
        const bool normalized = layer(l - 1).batch_norm;
        kernels_.activation_backward({d_output.at(rows.begin, panels.begin),
                                      Panels{saved.data(), d_output.stride}.at(rows.begin, panels.begin),
                                      d_output.stride, rows.size(), panels.size(), layer(l - 1).activation,
                                      normalized ? Rounding::kNone : network_.rounding()});
        if (!normalized) delta(l - 1).refresh(kernels_, rows, panels);
    }

    // The delta of what was normalized, from that of what came of it.
    void normalize_backward(std::size_t l, Range panels) {
        const Panels d_z = delta(l).matrix();
        BatchStatistics& statistics = workspace_.statistics[l];
        kernels_.batch_normalize_backward(
            {d_z.at(0, panels.begin), Panels{statistics.normalized.data(), d_z.stride}.at(0, panels.begin), d_z.stride,
             rows_, panels.size(), network_.parameters().data() + layer(l).bias_row(kScale) + panels.begin * kPanel,
             statistics.line(BatchStatistics::kBatchVariance, panels.begin), network_.rounding(),
             statistics.line(BatchStatistics::kShiftGradient, panels.begin),
             statistics.line(BatchStatistics::kScaleGradient, panels.begin)});
        delta(l).refresh(kernels_, {0, rows_}, panels);
    }

    // Calls body(l, input part, inputs' panels, outputs' panels) for each tile of each layer's gradient. Of each
    // layer's tasks every thread owns a range. Parts of the inputs do not depend on the team.
    template <class Body>
    void for_each_gradient_tile(const Body& body) {
        const auto first_of = [&](std::size_t l, std::size_t owner) {
            return input_parts(layer(l)) * output_parts(l) * owner / team_.size();
        };
        const auto n_tasks_of = [&](std::size_t owner) {
            std::size_t n_tasks = 0;
            for (std::size_t l = 0; l < n_layers(); ++l) n_tasks += first_of(l, owner + 1) - first_of(l, owner);
            return n_tasks;
        };
        const auto run = [&](std::size_t owner, std::size_t i) {
            std::size_t l = 0;
            for (; i >= first_of(l, owner + 1) - first_of(l, owner); ++l)
                i -= first_of(l, owner + 1) - first_of(l, owner);
            // Neighbouring tasks have the same deltas, and neighbouring rows of weights.
            const std::size_t task = first_of(l, owner) + i;
            const std::size_t in_part = task % input_parts(layer(l)), out_part = task / input_parts(layer(l));
            body(l, in_part, even_part(n_panels(layer(l).n_inputs), in_part, input_parts(layer(l))),
                 even_part(layer(l).panels(), out_part, output_parts(l), kPanelUnit));
        };
        team_.for_each_owned(rank_, n_tasks_of, run, rows_ < kRowsToBind);
    }

    void weights_gradient(std::size_t l, Range in, Range out, Panels gradient) {
        if (l == 0)
            workspace_.input.multiply_transposed(row_parts(), delta(l).summed_over_rows(), gradient, in, out);
        else
            multiply_transposed(kernels_, network_.words(), output(l - 1).summed_over_rows(),
                                delta(l).summed_over_rows(), gradient, in, out, layer(l).n_inputs,
                                {0, n_words(network_.words(), rows_)}, false);
    }

    // Of the biases' row: see Layer.
    void biases_gradient(std::size_t l, std::size_t row, Range out, float* gradient) {
        if (layer(l).batch_norm) {
            const auto line = row == kShift ? BatchStatistics::kShiftGradient : BatchStatistics::kScaleGradient;
            std::copy_n(workspace_.statistics[l].line(line, out.begin), out.size() * kPanel, gradient);
            return;
        }
        const Panels d_z = delta(l).matrix();
        kernels_.sum_rows(d_z.at(0, out.begin), d_z.stride, rows_, out.size(), gradient);
    }

    bool update_statistics(std::size_t l, Range out, ParameterUpdate& update) {
        if (!layer(l).batch_norm) return true;
        BatchStatistics& statistics = workspace_.statistics[l];
        return update.update_statistics(layer(l), out.begin, out.size(),
                                        statistics.line(BatchStatistics::kBatchMean, out.begin),
                                        statistics.line(BatchStatistics::kUnbiasedVariance, out.begin));
    }

    Network& network_;
    const KernelTable& kernels_;
    const Dropout& dropout_;
    Workspace& workspace_;
    Team& team_;
    std::size_t rank_;
    const Inputs& inputs_;
    const Targets& targets_;
    const std::int64_t* samples_;
    std::size_t rows_;
    EpochPlace place_;
    double total_weight_;  // of the samples
};

}  // namespace

=======
>>>>>>> layers
Trainer::Trainer(Network& network) : network_(network) { set_optimizer(settings_); }
Trainer::~Trainer() = default;

void Trainer::set_optimizer(const OptimizerSettings& settings) {
    const auto lock = network_.lock_for_writing();
    // All memory is allocated before anything changes.
    std::unique_ptr<WholeGradient> whole_gradient;
    if (settings.needs_whole_gradient() && whole_gradient_ == nullptr)
        whole_gradient = std::make_unique<WholeGradient>(network_, input_parts);
    Network::Values aside;
    if (settings.averages() && !settings_.averages()) aside = network_.copy_of_values();
    if (first_moment_.size() == 0 || settings.kind != settings_.kind) {
        AlignedBuffer first(network_.arena_size());
        AlignedBuffer second(settings.kind == OptimizerSettings::Kind::kAdam ? network_.arena_size() : 0);
        first_moment_ = std::move(first);
        second_moment_ = std::move(second);
        count_.beta_1_power = count_.beta_2_power = 1.0;
    }
    if (whole_gradient != nullptr || !settings.needs_whole_gradient()) whole_gradient_ = std::move(whole_gradient);
    if (settings.averages() != settings_.averages()) {
        if (settings_.averages()) network_.exchange(aside_);
        aside_ = std::move(aside);
        count_.average_power = 1.0;
    }
    settings_ = settings;
}

void Trainer::restart_average() {
    const auto lock = network_.lock_for_writing();
    if (!settings_.averages()) return;
    network_.copy_values_to(aside_);
    count_.average_power = 1.0;
}

void Trainer::set_dropout(Dropout dropout) {
    const auto lock = network_.lock_for_writing();
    dropout_ = std::move(dropout);
    workspace_.reset();
}

void Trainer::prepare(const Augmentation* augmentation, std::size_t batch_size, std::size_t threads) {
    if (workspace_ == nullptr || workspace_->batch_size < batch_size || workspace_->n_threads < threads ||
        workspace_->scratch_size < InputBatch::pack_scratch_size(network_, augmentation, dropout_.drops(0)))
        workspace_ = std::make_unique<Workspace>(network_, augmentation, dropout_, batch_size, threads);
}

RunResult Trainer::run(const Inputs& inputs, const Targets& targets, const Batches& batches, std::size_t threads,
                       bool threads_are_required) {
    std::size_t largest_batch = 0;
    for (std::size_t s = 0; s < batches.n_steps; ++s)
        largest_batch = std::max(largest_batch, static_cast<std::size_t>(batches.offsets[s + 1] - batches.offsets[s]));
    if (!threads_are_required)  // forward, and backward twice as much
        threads = threads_worth(3.0 * network_.forward_work() * static_cast<double>(largest_batch), threads);
    threads = std::clamp<std::size_t>(threads, 1, most_threads());

    const auto lock = network_.lock_for_writing();
    prepare(inputs.augmented.augmentation, largest_batch, threads);
    RunResult result;
    result.losses.resize(batches.n_steps);
    if (!workspace_->right.empty()) result.right.resize(batches.n_steps);
    Team team(threads);
    std::atomic<bool> input_finite{true}, loss_finite{true}, parameters_finite{network_.is_finite()};
    std::size_t steps_done = 0;

    run_team(team, threads, [&](std::size_t rank) {
        if (threads_are_required && team.size() < threads) return;
        const FloatingPointScope scope(network_.kernels());
        StepCount count = count_;
        const auto exchange = [&] { team.for_each(rank, 1, [&](std::size_t) { network_.exchange(aside_); }); };
        if (settings_.averages()) exchange();  // the network has the live weights, aside_ the averages
        // All threads see the same flags: whoever could set one again has yet to pass a barrier that they share.
        for (std::size_t s = 0; s < batches.n_steps && parameters_finite; ++s) {
            const auto begin = static_cast<std::size_t>(batches.offsets[s]);
            const auto end = static_cast<std::size_t>(batches.offsets[s + 1]);
            Step step(network_, dropout_, *workspace_, team, rank, inputs, targets, batches.order + begin, end - begin,
                      batches.place.after(begin));
            step.forward_and_backward(input_finite, loss_finite);
            if (!input_finite || !loss_finite) break;
            if (rank == 0) {
                result.losses[s] = step.mean_loss();
                if (!result.right.empty()) result.right[s] = step.weight_right();
            }
            count.advance(settings_);
            ParameterUpdate update(network_, settings_, count, batches.learning_rates[s],
                                   {first_moment_.data(), second_moment_.data(),
                                    settings_.averages() ? aside_.parameters.data() : nullptr});
            if (whole_gradient_ == nullptr)
                step.update(update, parameters_finite);
            else
                step.update_from(*whole_gradient_, update, parameters_finite);
            if (rank == 0) steps_done = s + 1;
        }
        if (settings_.averages()) {
            exchange();
            for_each_panel(network_, team, rank, [&](std::size_t l, std::size_t panel) {
                network_.refresh_operand(network_.layers()[l], panel);
            });
        }
    });

    if (threads_are_required && team.size() < threads)
        throw std::runtime_error("OpenMP gives only " + std::to_string(team.size()) + " of the " +
                                 std::to_string(threads) + " threads asked for; is OMP_THREAD_LIMIT set?");

    {
        const FloatingPointScope scope(network_.kernels());  // as above, to the last bit
        for (std::size_t s = 0; s < steps_done; ++s) count_.advance(settings_);
    }
    network_.set_finite(parameters_finite);
    result.losses.resize(steps_done);
    if (!result.right.empty()) result.right.resize(steps_done);
    result.team_size = team.size();
    result.tasks_per_thread = team.tasks_per_thread();
    if (!input_finite) {
        const auto begin = batches.offsets[steps_done];
        const auto count = static_cast<std::size_t>(batches.offsets[steps_done + 1] - begin);
        result.stop = RunResult::Stop::kNonFiniteInput;
        result.bad_sample = batches.order[begin + static_cast<std::int64_t>(first_non_finite(
                                                      inputs, network_.operand_limit(), batches.order + begin, count))];
    } else if (steps_done < batches.n_steps) {
        result.stop = RunResult::Stop::kNonFiniteLoss;
    }
    return result;
}

Trainer::State Trainer::snapshot() const {
    const auto lock = network_.lock_for_reading();
    const bool averages = settings_.averages();
    return {averages ? aside_.parameters : network_.parameters(),
            first_moment_,
            second_moment_,
            averages ? network_.parameters() : AlignedBuffer(),
            settings_.kind,
            count_,
            network_.is_finite()};
}

void Trainer::restore(const State& state) {
    const auto lock = network_.lock_for_writing();
    if (state.kind != settings_.kind) throw std::invalid_argument("this state belongs to another optimiser");
    if ((state.average.size() > 0) != settings_.averages())
        throw std::invalid_argument("this state has an average that is not wanted, or none that is");
    const auto assign = [&](const AlignedBuffer& parameters) {
        network_.parameters().copy_from(parameters);
        network_.refresh_operands();
    };
    assign(state.parameters);
    if (settings_.averages()) {
        network_.exchange(aside_);
        assign(state.average);
    }
    first_moment_.copy_from(state.first_moment);
    second_moment_.copy_from(state.second_moment);
    count_ = state.count;
    network_.set_finite(state.finite);
}

}  // namespace fastmlp
