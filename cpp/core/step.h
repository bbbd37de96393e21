// One training step: the phases of its forward and backward pass, and its update.
#pragma once

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "data.h"
#include "division.h"
#include "dropout.h"
#include "gemm.h"
#include "loss.h"
#include "network.h"
#include "parallel.h"
#include "update.h"
#include "workspace.h"

namespace fastmlp {

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
          packs_alone_(packs_alone()),
          has_own_lines_(has_own_lines()),
          far_reads_(far_reads()),
          total_weight_(total_weight(targets, samples, n_samples)) {}

    // Packs the batch and computes activations, losses and the deltas of all layers. Sets the flags to false where
    // that is so.
    void forward_and_backward(std::atomic<bool>& input_finite, std::atomic<bool>& loss_finite) {
        const std::vector<Phase>& phases = workspace_.phases;
        std::size_t first = 0;
        if (packs_alone_) {  // and need not wait for the others
            for (std::size_t part = 0; part < row_parts(); ++part) pack(part, input_finite);
            ++first;
        }
        for (std::size_t end; first < phases.size(); first = end) {
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

    // To be called before the update, which takes long enough for memory to answer: the samples of a next batch of as
    // many. Each thread fetches what it will pack first.
    void fetch_next(const std::int64_t* samples) const {
        const Range parts = packed_parts();
        if (parts.size() > 0) InputBatch::fetch(inputs_, samples, rows_of(parts.begin));
    }

    // Gradients of all layers, each tile of parameters updated as soon as its gradient is there. Sets parameters_finite
    // to false where that is so.
    void update(ParameterUpdate& update, std::atomic<bool>& parameters_finite) {
        const std::size_t most_panels = most_input_panels(kernels_, rows_);
        for_each_gradient_tile(most_panels, [&](std::size_t l, std::size_t, Range in, Range out) {
            const Panels gradient{scratch(), gradient_stride(most_panels)};
            weights_gradient(l, in, out, gradient);
            bool finite = update.update_weights(layer(l), rows_of_weights(l, in), out, {gradient.data, gradient.stride},
                                                input_scale(l), team_.is_far() && !panels_stay(l));
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
        static_assert(WholeGradient::kChunkPanels <= kLeastInputPanels, "chunks must not depend on the team");
        for_each_gradient_tile(WholeGradient::kChunkPanels, [&](std::size_t l, std::size_t chunk, Range in, Range out) {
            const Panels gradient{whole.data() + layer(l).weights, layer(l).weights_stride()};
            const Range rows = rows_of_weights(l, in);
            weights_gradient(l, in, out, {gradient.at(rows.begin, out.begin), gradient.stride});
            if (in.begin == 0)
                for (std::size_t row = 0; row < layer(l).n_trained_bias_rows(); ++row)
                    biases_gradient(l, row, out, whole.data() + layer(l).bias_row(row) + out.begin * kPanel);
            if (!update.clips()) return;
            for (std::size_t panel = out.begin; panel < out.end; ++panel) {
                whole.take_squares_of_weights(l, chunk, rows, panel, input_scale(l));
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
    bool panels_stay(std::size_t l) const { return fastmlp::panels_stay(network_.layers(), l, rows_, team_.size()); }
    std::size_t most_output_parts(std::size_t l) const { return (layer(l).panels() + kPanelUnit - 1) / kPanelUnit; }
    // Panels of inputs in a task that makes a gradient: `most`, or fewer where there would not be enough tasks for all
    // threads.
    std::size_t input_panels(std::size_t l, std::size_t most) const {
        const std::size_t enough = n_panels(layer(l).n_inputs) * most_output_parts(l) / (2 * team_.size());
        return std::clamp(enough, std::min(kLeastInputPanels, most), most);
    }
    // As many for each thread where panels stay; and enough for all threads, if there are enough panels.
    std::size_t output_parts(std::size_t l, std::size_t input_parts) const {
        const std::size_t panels = layer(l).panels();
        const std::size_t parts = parts_for_team(panels, kGradientOutputPanels, panels_stay(l) ? team_.size() : 1);
        const std::size_t wanted = (2 * team_.size() + input_parts - 1) / input_parts;
        return std::max(parts, std::min(wanted, most_output_parts(l)));
    }

    Grid grid_of(const Phase& phase) const {
        const Layer& of = layer(phase.layer);
        switch (phase.kind) {
            case Phase::Kind::kPack:
            case Phase::Kind::kLoss:
                break;
            case Phase::Kind::kForward:
                return divide_forward(network_.layers(), phase.layer, rows_, kernels_.row_block, team_.size());
            case Phase::Kind::kBackward:
                return divide_backward(network_.layers(), phase.layer, rows_, kernels_.row_block, team_.size());
            case Phase::Kind::kNormalize:
            case Phase::Kind::kNormalizeBackward:  // statistics are of whole columns
                return {1, std::min((of.panels() + kPanelUnit - 1) / kPanelUnit, 2 * team_.size())};
        }
        return {row_parts(), 1};
    }

    FarReads far_reads() const {
        if (!team_.is_far()) return FarReads::kNothing;
        const auto divides_rows = [&](const Phase& phase) {
            const Grid grid = grid_of(phase);
            return grid.panel_parts == 1 && grid.row_parts >= team_.size();
        };
        return std::ranges::all_of(workspace_.phases, divides_rows) ? FarReads::kForGradients : FarReads::kAll;
    }

    // Whether a thread has the same lines for all its tasks: where gradients are made of pairs of rows, which have
    // matrices of their own, and rows go through all phases in the task that packs them.
    bool has_own_lines() const {
        if (network_.words() == Words::kFloats || row_parts() < 2 * team_.size()) return false;
        const Grid whole_rows{row_parts(), 1};
        return std::ranges::all_of(workspace_.phases, [&](const Phase& phase) { return grid_of(phase) == whole_rows; });
    }
    // Where these rows, a task's, lie in matrices that no other task reads. A thread's own lines, which are in its
    // cache, are the first ones of the rows that it owns, as others are fetched with a neighbour's.
    Range lines_of(Range rows) const {
        if (!has_own_lines_) return rows;
        const std::size_t first = rows_of(team_.first_task(row_parts(), rank_)).begin;
        return {first, first + rows.size()};
    }

    void run(const Phase& phase, const Grid& grid, std::size_t task, std::atomic<bool>& input_finite,
             std::atomic<bool>& loss_finite) {
        const std::size_t l = phase.layer, row_part = task % grid.row_parts;
        const Range rows = even_part(rows_, row_part, grid.row_parts, kRowUnit);
        const auto panels_of = [&](std::size_t columns) {
            return even_part(n_panels(columns), task / grid.row_parts, grid.panel_parts, kPanelUnit);
        };
        switch (phase.kind) {
            case Phase::Kind::kPack:
                return pack(row_part, input_finite);
            case Phase::Kind::kForward:
                return forward_layer(l, row_part, rows, panels_of(layer(l).n_outputs));
            case Phase::Kind::kNormalize:
                return normalize(l, panels_of(layer(l).n_outputs));
            case Phase::Kind::kLoss:
                return loss(rows, loss_finite);
            case Phase::Kind::kBackward:
                return backward_layer(l, rows, panels_of(layer(l).n_inputs));
            case Phase::Kind::kNormalizeBackward:
                return normalize_backward(l, panels_of(layer(l).n_outputs));
        }
    }

    // In which they are packed.
    std::size_t row_parts() const { return divide_rows(rows_, kernels_.row_block, team_.size()); }
    Range rows_of(std::size_t part) const { return even_part(rows_, part, row_parts(), kRowUnit); }
    float* scratch() const { return workspace_.scratch[rank_].data(); }

    // Whether each thread packs the whole batch, for itself: where each would read all of it anyway, since panels stay,
    // and that takes longer than to pack it: few features, or pixels where threads are far. Measured with two threads.
    bool packs_alone() const {
        const std::size_t n_input_panels = n_panels(layer(0).n_inputs);
        const bool has_few = n_input_panels <= kFewInputPanels && n_input_panels < layer(0).panels();
        return team_.size() > 1 && workspace_.inputs.size() >= team_.size() && panels_stay(0) &&
               (has_few || (team_.is_far() && inputs_.pixels != nullptr)) &&
               inputs_.augmented.augmentation == nullptr && !dropout_.drops(0);
    }
    InputBatch& input() const { return workspace_.inputs[packs_alone_ ? rank_ : 0]; }
    // The parts that this thread packs.
    Range packed_parts() const {
        if (packs_alone_) return {0, row_parts()};
        return {team_.first_task(row_parts(), rank_), team_.first_task(row_parts(), rank_ + 1)};
    }

    void pack(std::size_t part, std::atomic<bool>& finite) {
        const Range rows = rows_of(part), parts = packed_parts();
        const bool goes_on = part >= parts.begin && part + 1 < parts.end;
        DropoutMask mask{};
        if (dropout_.drops(0)) mask = dropout_.mask(0, place_, rows.begin);
        if (!input().pack(inputs_, samples_, part, {rows, lines_of(rows).begin, goes_on ? rows_of(part + 1).size() : 0},
                          scratch(), dropout_.drops(0) ? &mask : nullptr,
                          packs_alone_ ? FarReads::kNothing : far_reads_))
            finite.store(false, std::memory_order_relaxed);
    }

    // Of the first layer, part tells the rows.
    void forward_layer(std::size_t l, std::size_t part, Range rows, Range panels) {
        const Panels z = output(l).matrix();
        output(l).evict_read(far_reads_, rows, panels);
        if (l == 0)
            input().multiply(part, network_.weight_operand(layer(l)), layer(l).n_outputs, z, panels);
        else
            multiply_hidden(l, lines_of(rows), z, panels);
        if (!layer(l).batch_norm) activate(l, rows, panels, input_scale(l), nullptr);
    }

    void multiply_hidden(std::size_t l, Range lines, Panels z, Range panels) {
        const Words words = network_.words();
        const ConstPanels input = output(l - 1).summed_over_columns(), weights = network_.weight_operand(layer(l));
        const std::size_t depth = n_words(words, layer(l).n_inputs);
        if (layer(l).n_outputs <= kNarrow && lines.size() >= kPanel)
            multiply_narrow(kernels_, words, input, weights, layer(l).n_outputs, z, lines, depth, scratch());
        else
            multiply(kernels_, words, input, weights, layer(l).n_outputs, z, lines, panels, depth);
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

    // Calls body(some) for parts of these panels: where words are pairs, which are made of what was just computed, so
    // few that their rows are still in the L1 cache.
    template <class Body>
    void for_some_panels(Range panels, const Body& body) const {
        const std::size_t at_a_time = network_.words() == Words::kFloats ? panels.size() : kPanelUnit;
        for (std::size_t first = panels.begin; first < panels.end; first += at_a_time)
            body(Range{first, std::min(first + at_a_time, panels.end)});
    }

    // scales: of each unit, or null; see BiasActivation.
    void activate(std::size_t l, Range rows, Range panels, float scale, const float* scales) {
        // A mask of dropout is made for many panels at once.
        if (dropout_.drops(l + 1)) return activate_panels(l, rows, panels, scale, scales);
        for_some_panels(panels, [&](Range some) { activate_panels(l, rows, some, scale, scales); });
    }
    void activate_panels(std::size_t l, Range rows, Range panels, float scale, const float* scales) {
        const Panels z = output(l).matrix();
        const Range lines = lines_of(rows);
        const bool last = l + 1 == n_layers(), drops = dropout_.drops(l + 1);
        AlignedBuffer& buffer = workspace_.saved[l];
        float* const saved =
            buffer.size() == 0 ? nullptr : Panels{buffer.data(), z.stride}.at(lines.begin, panels.begin);
        const bool saves_z = layer(l).activation == Activation::kGelu;
        kernels_.bias_activation({z.at(lines.begin, panels.begin), z.stride, rows.size(), panels.size(),
                                  network_.parameters().data() + layer(l).biases + panels.begin * kPanel, scale,
                                  layer(l).activation, last || drops ? Rounding::kNone : network_.rounding(),
                                  saves_z ? saved : nullptr,
                                  scales == nullptr ? nullptr : scales + panels.begin * kPanel});
        if (drops) {
            DroppedUnits args = dropped_units(l, z, rows, panels);
            args.saved = saves_z ? nullptr : saved;
            kernels_.drop_units(args);
        }
        if (!last) output(l).refresh(kernels_, lines, rows, panels);
    }

    // Of a matrix like layer l's output.
    DroppedUnits dropped_units(std::size_t l, Panels matrix, Range rows, Range panels) const {
        const Range lines = lines_of(rows);
        KeptUnits& kept = workspace_.kept[l];
        return {.mask = dropout_.mask(l + 1, place_, rows.begin),
                .matrix = matrix.at(lines.begin, panels.begin),
                .panel_stride = matrix.stride,
                .rows = rows.size(),
                .first_panel = panels.begin,
                .panels = panels.size(),
                .scale = dropout_.scale(l + 1),
                .kept = kept.at(lines.begin, panels.begin),
                .kept_stride = kept.stride(),
                .rounding = network_.rounding(),
                .saved = nullptr};
    }

    void loss(Range rows, std::atomic<bool>& finite) {
        float* losses = workspace_.losses.data();
        Operand& output = workspace_.outputs.back();
        const Panels outputs = output.matrix();
        const Range lines = lines_of(rows);
        take_losses(network_, {{outputs.at(lines.begin, 0), outputs.stride}, rows.size(), samples_ + rows.begin},
                    targets_, mean_scale(total_weight_), network_.rounding(), losses + rows.begin,
                    workspace_.right.empty() ? nullptr : workspace_.right.data() + rows.begin);
        output.refresh(kernels_, lines, rows, {0, layer(n_layers() - 1).panels()});
        for (std::size_t i = rows.begin; i < rows.end; ++i)
            if (!std::isfinite(losses[i])) finite.store(false, std::memory_order_relaxed);
    }

    // The delta of layer l - 1, from that of layer l.
    void backward_layer(std::size_t l, Range rows, Range panels) {
        const Panels d_output = delta(l - 1).matrix();
        delta(l - 1).evict_read(far_reads_, rows, panels);
        multiply_by_transposed(kernels_, network_.words(), delta(l).summed_over_columns(),
                               network_.weight_operand(layer(l)), layer(l).n_inputs, layer(l).n_outputs, d_output,
                               lines_of(rows), panels, scratch());
        for_some_panels(panels, [&](Range some) { finish_delta(l - 1, rows, some); });
    }

    // Of layer l, from that of what comes of it.
    void finish_delta(std::size_t l, Range rows, Range panels) {
        const Range lines = lines_of(rows);
        const Panels d_output = delta(l).matrix();
        if (dropout_.drops(l + 1)) kernels_.drop_deltas(dropped_units(l, d_output, rows, panels));
        AlignedBuffer& saved = workspace_.saved[l].size() > 0 ? workspace_.saved[l] : output(l).floats;
        const bool normalized = layer(l).batch_norm;
        kernels_.activation_backward({d_output.at(lines.begin, panels.begin),
                                      Panels{saved.data(), d_output.stride}.at(lines.begin, panels.begin),
                                      d_output.stride, rows.size(), panels.size(), layer(l).activation,
                                      normalized ? Rounding::kNone : network_.rounding()});
        if (!normalized) delta(l).refresh(kernels_, lines, rows, panels);
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
        delta(l).refresh(kernels_, {0, rows_}, {0, rows_}, panels);
    }

    // A layer's tiles among an owner's tasks.
    struct LayerTiles {
        std::size_t layer;
        std::size_t owner;
        Range tasks;        // of the owner's
        std::size_t first;  // of them among all of the layer's tiles
        std::size_t in_parts, out_parts;
        bool halves;  // the owner's last tile is two tasks, each of half of its outputs
    };

    // Of the layer with an owner's task i; each thread owns a range of each layer's tiles.
    LayerTiles tiles_with(std::size_t most_input_panels, std::size_t owner, std::size_t i) const {
        LayerTiles tiles{0, owner, {0, 0}, 0, 0, 0, false};
        for (;; ++tiles.layer) {
            tiles.in_parts = input_parts(layer(tiles.layer), input_panels(tiles.layer, most_input_panels));
            tiles.out_parts = output_parts(tiles.layer, tiles.in_parts);
            const std::size_t n_tiles = tiles.in_parts * tiles.out_parts;
            tiles.first = team_.first_task(n_tiles, owner);
            const std::size_t n_owned = team_.first_task(n_tiles, owner + 1) - tiles.first;
            tiles.halves = n_owned > 0 && halves_last_tile(tiles.layer, tiles.out_parts);
            tiles.tasks = {tiles.tasks.end, tiles.tasks.end + n_owned + (tiles.halves ? 1 : 0)};
            if (i < tiles.tasks.end || tiles.layer + 1 == n_layers()) return tiles;
        }
    }

    // So that nobody has to wait for a whole one that is begun when nothing else is left.
    bool halves_last_tile(std::size_t l, std::size_t out_parts) const {
        return team_.size() > 1 && !is_bound(rows_, team_.size()) && layer(l).panels() >= 2 * kPanelUnit * out_parts;
    }

    // Calls body(l, input part, inputs' panels, outputs' panels) for each tile of each layer's gradient, with parts of
    // at most so many panels of the inputs.
    template <class Body>
    void for_each_gradient_tile(std::size_t most_input_panels, const Body& body) {
        LayerTiles tiles = tiles_with(most_input_panels, rank_, 0);
        const auto n_tasks_of = [&](std::size_t owner) {
            return tiles_with(most_input_panels, owner, SIZE_MAX).tasks.end;
        };
        const auto run = [&](std::size_t owner, std::size_t i) {
            // Tasks of a layer come one after the other. To find the layer takes ten divisions, too long for each tile.
            if (owner != tiles.owner || i < tiles.tasks.begin || i >= tiles.tasks.end)
                tiles = tiles_with(most_input_panels, owner, i);
            // Neighbouring tasks have the same deltas, and neighbouring rows of weights.
            const std::size_t left = tiles.tasks.end - i, l = tiles.layer;
            const std::size_t task = tiles.first + i - tiles.tasks.begin - (tiles.halves && left == 1 ? 1 : 0);
            const std::size_t in_part = task % tiles.in_parts, out_part = task / tiles.in_parts;
            Range out = even_part(layer(l).panels(), out_part, tiles.out_parts, kPanelUnit);
            if (tiles.halves && left <= 2) out = even_part(out, 2 - left, 2, kPanelUnit);
            body(l, in_part, even_part(n_panels(layer(l).n_inputs), in_part, tiles.in_parts), out);
        };
        team_.for_each_owned(rank_, n_tasks_of, run, is_bound(rows_, team_.size()));
    }

    void weights_gradient(std::size_t l, Range in, Range out, Panels gradient) {
        const ConstPanels deltas = delta(l).summed_over_rows();
        if (l == 0) return input().multiply_transposed(row_parts(), deltas, layer(l).n_outputs, gradient, in, out);
        const ConstPanels input = output(l - 1).summed_over_rows();
        const std::size_t depth = n_words(network_.words(), rows_);
        if (layer(l).n_outputs <= kNarrowGradient && rows_ >= kPanel)
            multiply_transposed_narrow(kernels_, network_.words(), input, deltas, gradient, in, layer(l).n_outputs,
                                       layer(l).n_inputs, depth);
        else
            multiply_transposed(kernels_, network_.words(), input, deltas, gradient, in, out, layer(l).n_outputs,
                                layer(l).n_inputs, {0, depth}, false);
    }

    // Of the biases' row: see Layer.
    void biases_gradient(std::size_t l, std::size_t row, Range out, float* gradient) {
        if (layer(l).batch_norm) {
            const auto line = row == kShift ? BatchStatistics::kShiftGradient : BatchStatistics::kScaleGradient;
            std::copy_n(workspace_.statistics[l].line(line, out.begin), out.size() * kPanel, gradient);
            return;
        }
        const ConstPanels d_z = delta(l).summed_over_rows();
        products_of(kernels_, network_.words())
            .sum_rows(d_z.at(0, out.begin), d_z.stride, n_words(network_.words(), rows_), out.size(), gradient);
    }

    bool update_statistics(std::size_t l, Range out, ParameterUpdate& update) {
        if (!layer(l).batch_norm) return true;
        if (rows_ == 1) return update.keep_statistics(layer(l), out.begin, out.size());  // one sample has no variance
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
    bool packs_alone_;
    bool has_own_lines_;
    FarReads far_reads_;
    double total_weight_;  // of the samples
};

}  // namespace fastmlp
