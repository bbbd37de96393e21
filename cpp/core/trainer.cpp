#include "trainer.h"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <numeric>
#include <stdexcept>
#include <string>

#include "floating_point.h"
#include "gemm.h"
#include "loss.h"
#include "parallel.h"

namespace fastmlp {

namespace {

// A task of the gradient phase makes the gradient of this many panels of a layer's inputs times this many of its
// outputs: large enough to use each operand line often, small enough to lie in the L2 cache with its operands.
constexpr std::size_t kGradientInputPanels = 4;
constexpr std::size_t kGradientOutputPanels = 16;
constexpr std::size_t kGradientRows = kGradientInputPanels * kPanel;
constexpr std::size_t kGradientStride = kGradientRows * kPanel;

// Rows that a task should have at least, so that each line of weights it loads serves several tiles.
constexpr std::size_t kLeastRows = 16;

// A phase's result is divided into row_parts x panel_parts tasks.
struct Grid {
    std::size_t row_parts;
    std::size_t panel_parts;
    std::size_t size() const { return row_parts * panel_parts; }
};

// By rows, so that a task can go on with its rows alone; by panels only if there are too few rows for the team.
Grid divide_rows_first(std::size_t rows, std::size_t panels, std::size_t row_block, std::size_t team) {
    const std::size_t wanted = team * ((rows + row_block * team - 1) / (row_block * team));
    const std::size_t row_parts = std::clamp<std::size_t>(rows / kLeastRows, 1, wanted);
    const std::size_t panel_parts = std::min(panels, (team + row_parts - 1) / row_parts);
    return {row_parts, panel_parts};
}

// By panels, so that no two tasks transpose the same weights; by rows only if there are too few panels.
Grid divide_panels_first(std::size_t rows, std::size_t panels, std::size_t team) {
    const std::size_t most_parts = (panels + kTransposedPanels - 1) / kTransposedPanels;
    const std::size_t panel_parts = std::min(panels, std::max(most_parts, 2 * team));
    const std::size_t row_parts =
        std::clamp<std::size_t>((team + panel_parts - 1) / panel_parts, 1, std::max<std::size_t>(rows / kLeastRows, 1));
    return {row_parts, panel_parts};
}

}  // namespace

// The buffers of one batch, and of each thread.
class Workspace {
 public:
    Workspace(const Network& network, std::size_t batch_size, std::size_t threads)
        : batch_size(batch_size),
          n_threads(threads),
          stride(panel_stride(batch_size)),
          input(n_panels(network.n_features()) * stride),
          nonzeros(batch_size),
          losses(batch_size) {
        for (const Layer& layer : network.layers()) {
            const std::size_t size = layer.panels() * stride;
            const bool hidden = &layer != &network.layers().back();
            outputs.emplace_back(size);
            deltas.emplace_back(hidden ? size : 0);
            saved.emplace_back(layer.activation == Activation::kGelu ? size : 0);
        }
        const std::size_t gradient_tile = kGradientOutputPanels * kGradientStride;
        const std::size_t scratch_size = std::max(transposed_scratch_size(network.kernels()), gradient_tile);
        for (std::size_t thread = 0; thread < threads; ++thread) {
            scratch.emplace_back(scratch_size);
            skip_lists.emplace_back(skip_lists_size(network.kernels()));
        }
    }

    std::size_t batch_size, n_threads;
    std::size_t stride;                  // of every panel matrix below; they have batch_size rows
    AlignedBuffer input;                 // the packed batch
    std::vector<std::size_t> nonzeros;   // of the input, in the rows of each task that packed some
    std::vector<AlignedBuffer> outputs;  // of each layer: the activation; of the last one logits, then their delta
    std::vector<AlignedBuffer> deltas;   // of each hidden layer: d loss / d z
    std::vector<AlignedBuffer> saved;    // z of layers whose activation's slope is a function of z
    std::vector<float> losses;           // of each sample
    std::vector<AlignedBuffer> scratch;  // of each thread
    std::vector<std::vector<NonZero>> skip_lists;
};

namespace {

// One batch, seen by one thread of the team. The methods are the phases of a step; every thread calls each of them.
class Step {
 public:
    Step(Network& network, Workspace& workspace, Team& team, std::size_t rank, const Inputs& inputs,
         const Targets& targets, const std::int64_t* samples, std::size_t n_samples)
        : network_(network),
          kernels_(network.kernels()),
          workspace_(workspace),
          team_(team),
          rank_(rank),
          inputs_(inputs),
          targets_(targets),
          samples_(samples),
          rows_(n_samples),
          total_weight_(total_weight(targets, samples, n_samples)) {}

    // Packs the batch and computes activations, losses and the delta of the logits. Sets input_finite and
    // loss_finite to false where that is so.
    void forward(std::atomic<bool>& input_finite, std::atomic<bool>& loss_finite) {
        const auto pack_part = [&](std::size_t part) { pack(part, input_finite); };
        const auto loss_part = [&](std::size_t part) { loss(part, loss_finite); };
        for (std::size_t l = 0; l < n_layers(); ++l) {
            const std::size_t panels = layer(l).panels();
            const Grid grid = divide_rows_first(rows_, panels, kernels_.row_block, team_.size());
            // A task that has whole rows packs them before the first layer, and takes the loss after the last.
            const bool whole_rows = grid.panel_parts == 1;
            const bool first = l == 0, last = l + 1 == n_layers();
            if (first && !whole_rows) team_.for_each(rank_, row_parts(), pack_part);
            team_.for_each(rank_, grid.size(), [&](std::size_t task) {
                const std::size_t part = task / grid.panel_parts;
                if (first && whole_rows) pack_part(part);
                forward_layer(l, part, even_part(panels, task % grid.panel_parts, grid.panel_parts));
                if (last && whole_rows) loss_part(part);
            });
            if (last && !whole_rows) team_.for_each(rank_, row_parts(), loss_part);
        }
    }

    // Deltas of all hidden layers, from the last to the first.
    void backward() {
        for (std::size_t l = n_layers() - 1; l > 0; --l) {
            const std::size_t panels = n_panels(layer(l).n_inputs);
            const Grid grid = divide_panels_first(rows_, panels, team_.size());
            team_.for_each(rank_, grid.size(), [&](std::size_t task) {
                backward_layer(l, even_part(rows_, task % grid.row_parts, grid.row_parts),
                               even_part(panels, task / grid.row_parts, grid.panel_parts));
            });
        }
    }

    // Gradients of all layers, each tile of parameters updated as soon as its gradient is there. Sets parameters_finite
    // to false where that is so.
    void update(const OptimizerSettings& settings, const Update& update, float* first_moment, float* second_moment,
                std::atomic<bool>& parameters_finite) {
        std::size_t n_tasks = 0;
        for (std::size_t l = 0; l < n_layers(); ++l) n_tasks += input_parts(l) * output_parts(l);
        team_.for_each(rank_, n_tasks, [&](std::size_t task) {
            std::size_t l = 0;
            for (; task >= input_parts(l) * output_parts(l); ++l) task -= input_parts(l) * output_parts(l);
            const Range in = even_part(n_panels(layer(l).n_inputs), task / output_parts(l), input_parts(l));
            const Range out = even_part(layer(l).panels(), task % output_parts(l), output_parts(l));
            const auto apply = settings.kind == OptimizerSettings::Kind::kAdam ? kernels_.adam : kernels_.sgd;
            const auto apply_at = [&](std::size_t offset, const float* gradient, std::size_t count, float scale) {
                Update scaled = update;
                scaled.gradient_scale = scale;
                const Parameters parameters{network_.parameters().data() + offset, first_moment + offset,
                                            second_moment == nullptr ? nullptr : second_moment + offset,
                                            network_.rounded_operand(offset)};
                if (!apply(scaled, gradient, parameters, count))
                    parameters_finite.store(false, std::memory_order_relaxed);
            };
            update_weights(l, in, out, apply_at);
            if (in.begin == 0) update_biases(l, out, apply_at);
        });
    }

    float mean_loss() const {
        return fastmlp::mean_loss(targets_, samples_, rows_, total_weight_, workspace_.losses.data());
    }

 private:
    std::size_t n_layers() const { return network_.layers().size(); }
    const Layer& layer(std::size_t l) const { return network_.layers()[l]; }
    Panels panels_of(AlignedBuffer& buffer) const { return {buffer.data(), workspace_.stride}; }
    ConstPanels input_of(std::size_t l) const {
        const AlignedBuffer& buffer = l == 0 ? workspace_.input : workspace_.outputs[l - 1];
        return {buffer.data(), workspace_.stride};
    }
    ConstPanels delta_of(std::size_t l) const {
        const AlignedBuffer& buffer = l + 1 == n_layers() ? workspace_.outputs[l] : workspace_.deltas[l];
        return {buffer.data(), workspace_.stride};
    }
    ConstPanels weights_of(std::size_t l) const {
        return {network_.weight_operand(layer(l)), layer(l).weights_stride()};
    }
    std::size_t input_parts(std::size_t l) const {
        return (n_panels(layer(l).n_inputs) + kGradientInputPanels - 1) / kGradientInputPanels;
    }
    std::size_t output_parts(std::size_t l) const {
        return (layer(l).panels() + kGradientOutputPanels - 1) / kGradientOutputPanels;
    }

    // All forward phases divide the rows alike.
    std::size_t row_parts() const { return divide_rows_first(rows_, 1, kernels_.row_block, team_.size()).row_parts; }
    Range rows_of(std::size_t part) const { return even_part(rows_, part, row_parts()); }

    NonZero* skip_lists_if(bool sparse) const { return sparse ? workspace_.skip_lists[rank_].data() : nullptr; }
    bool input_is_sparse(std::size_t part) const {
        return is_sparse(workspace_.nonzeros[part], rows_of(part).size(), inputs_.n_features);
    }
    bool input_is_sparse() const {
        const auto end = workspace_.nonzeros.begin() + static_cast<std::ptrdiff_t>(row_parts());
        return is_sparse(std::accumulate(workspace_.nonzeros.begin(), end, std::size_t{0}), rows_, inputs_.n_features);
    }

    void pack(std::size_t part, std::atomic<bool>& finite) {
        const Range rows = rows_of(part);
        const std::int64_t* index = samples_ + rows.begin;
        float* out = panels_of(workspace_.input).at(rows.begin, 0);
        const std::size_t columns = inputs_.n_features;
        const Packed packed =
            inputs_.pixels != nullptr
                ? kernels_.pack_uint8(inputs_.pixels, columns, index, rows.size(), columns, out, workspace_.stride)
                : kernels_.pack_float(inputs_.values, columns, index, rows.size(), columns, network_.rounding(), out,
                                      workspace_.stride);
        workspace_.nonzeros[part] = packed.nonzeros;
        if (!packed.finite) finite.store(false, std::memory_order_relaxed);
    }

    void forward_layer(std::size_t l, std::size_t part, Range panels) {
        const Range rows = rows_of(part);
        const Panels z = panels_of(workspace_.outputs[l]);
        multiply(kernels_, input_of(l), weights_of(l), z, rows, panels, layer(l).n_inputs,
                 skip_lists_if(l == 0 && input_is_sparse(part)));
        AlignedBuffer& saved = workspace_.saved[l];
        kernels_.bias_activation({z.at(rows.begin, panels.begin), z.stride, rows.size(), panels.size(),
                                  network_.parameters().data() + layer(l).biases + panels.begin * kPanel,
                                  l == 0 ? inputs_.scale() : 1.0f, layer(l).activation,
                                  l + 1 < n_layers() ? network_.rounding() : Rounding::kNone,
                                  saved.size() == 0 ? nullptr : panels_of(saved).at(rows.begin, panels.begin)});
    }

    void loss(std::size_t part, std::atomic<bool>& finite) {
        const Range rows = rows_of(part);
        float* losses = workspace_.losses.data();
        const Panels outputs = panels_of(workspace_.outputs.back());
        take_losses(network_, {{outputs.at(rows.begin, 0), outputs.stride}, rows.size(), samples_ + rows.begin},
                    targets_, mean_scale(total_weight_), network_.rounding(), losses + rows.begin);
        for (std::size_t i = rows.begin; i < rows.end; ++i)
            if (!std::isfinite(losses[i])) finite.store(false, std::memory_order_relaxed);
    }

    // The delta of layer l - 1, from that of layer l.
    void backward_layer(std::size_t l, Range rows, Range panels) {
        const Panels delta = panels_of(workspace_.deltas[l - 1]);
        multiply_by_transposed(kernels_, delta_of(l), weights_of(l), layer(l).n_inputs, delta, rows, panels,
                               layer(l).n_outputs, workspace_.scratch[rank_].data());
        AlignedBuffer& saved = workspace_.saved[l - 1].size() > 0 ? workspace_.saved[l - 1] : workspace_.outputs[l - 1];
        kernels_.activation_backward({delta.at(rows.begin, panels.begin), panels_of(saved).at(rows.begin, panels.begin),
                                      delta.stride, rows.size(), panels.size(), layer(l - 1).activation,
                                      network_.rounding()});
    }

    template <class Apply>
    void update_weights(std::size_t l, Range in, Range out, const Apply& apply) {
        const Panels gradient{workspace_.scratch[rank_].data(), kGradientStride};
        multiply_transposed(kernels_, input_of(l), delta_of(l), gradient, in, out, layer(l).n_inputs, rows_,
                            skip_lists_if(l == 0 && input_is_sparse()));
        const std::size_t first_row = in.begin * kPanel;
        const std::size_t n_rows = std::min(in.end * kPanel, layer(l).n_inputs) - first_row;
        for (std::size_t panel = out.begin; panel < out.end; ++panel)
            apply(layer(l).weights + panel * layer(l).weights_stride() + first_row * kPanel,
                  gradient.at(0, panel - out.begin), n_rows * kPanel, l == 0 ? inputs_.scale() : 1.0f);
    }

    template <class Apply>
    void update_biases(std::size_t l, Range out, const Apply& apply) {
        float* gradient = workspace_.scratch[rank_].data();
        const ConstPanels delta = delta_of(l);
        kernels_.sum_rows(delta.at(0, out.begin), delta.stride, rows_, out.size(), gradient);
        apply(layer(l).biases + out.begin * kPanel, gradient, out.size() * kPanel, 1.0f);
    }

    Network& network_;
    const KernelTable& kernels_;
    Workspace& workspace_;
    Team& team_;
    std::size_t rank_;
    const Inputs& inputs_;
    const Targets& targets_;
    const std::int64_t* samples_;
    std::size_t rows_;
    double total_weight_;  // of the samples
};

}  // namespace

Trainer::Trainer(Network& network) : network_(network) { set_optimizer(settings_); }
Trainer::~Trainer() = default;

void Trainer::set_optimizer(const OptimizerSettings& settings) {
    const auto lock = network_.lock_for_writing();
    const bool starts = first_moment_.size() == 0 || settings.kind != settings_.kind;
    if (starts) {
        AlignedBuffer first(network_.arena_size());
        AlignedBuffer second(settings.kind == OptimizerSettings::Kind::kAdam ? network_.arena_size() : 0);
        first_moment_ = std::move(first);
        second_moment_ = std::move(second);
        count_ = StepCount{};
    }
    settings_ = settings;
}

void Trainer::prepare(std::size_t batch_size, std::size_t threads) {
    if (workspace_ == nullptr || workspace_->batch_size < batch_size || workspace_->n_threads < threads)
        workspace_ = std::make_unique<Workspace>(network_, batch_size, threads);
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
    prepare(largest_batch, threads);
    RunResult result;
    result.losses.resize(batches.n_steps);
    Team team(threads);
    std::atomic<bool> input_finite{true}, loss_finite{true}, parameters_finite{network_.is_finite()};
    std::size_t steps_done = 0;

    run_team(team, threads, [&](std::size_t rank) {
        if (threads_are_required && team.size() < threads) return;
        const FloatingPointScope scope(network_.kernels());
        StepCount count = count_;
        // All threads see the same flags: whoever could set one again has yet to pass a barrier that they share.
        for (std::size_t s = 0; s < batches.n_steps && parameters_finite; ++s) {
            const auto begin = static_cast<std::size_t>(batches.offsets[s]);
            const auto end = static_cast<std::size_t>(batches.offsets[s + 1]);
            Step step(network_, *workspace_, team, rank, inputs, targets, batches.order + begin, end - begin);
            step.forward(input_finite, loss_finite);
            if (!input_finite || !loss_finite) break;
            if (rank == 0) result.losses[s] = step.mean_loss();
            step.backward();
            count.advance(settings_);
            step.update(settings_, make_update(settings_, count, batches.learning_rates[s]), first_moment_.data(),
                        second_moment_.size() == 0 ? nullptr : second_moment_.data(), parameters_finite);
            if (rank == 0) steps_done = s + 1;
        }
    });

    if (threads_are_required && team.size() < threads)
        throw std::runtime_error("OpenMP gives only " + std::to_string(team.size()) + " of the " +
                                 std::to_string(threads) + " threads asked for; is OMP_THREAD_LIMIT set?");

    for (std::size_t s = 0; s < steps_done; ++s) count_.advance(settings_);
    network_.set_finite(parameters_finite);
    result.losses.resize(steps_done);
    result.team_size = team.size();
    result.tasks_per_thread = team.tasks_per_thread();
    if (!input_finite) {
        const auto begin = batches.offsets[steps_done];
        const auto count = static_cast<std::size_t>(batches.offsets[steps_done + 1] - begin);
        result.stop = RunResult::Stop::kNonFiniteInput;
        result.bad_sample =
            batches.order[begin + static_cast<std::int64_t>(first_non_finite(inputs, batches.order + begin, count))];
    } else if (steps_done < batches.n_steps) {
        result.stop = RunResult::Stop::kNonFiniteLoss;
    }
    return result;
}

Trainer::State Trainer::snapshot() const {
    const auto lock = network_.lock_for_reading();
    return {network_.parameters(), first_moment_, second_moment_, settings_.kind, count_, network_.is_finite()};
}

void Trainer::restore(const State& state) {
    const auto lock = network_.lock_for_writing();
    if (state.kind != settings_.kind) throw std::invalid_argument("this state belongs to another optimiser");
    network_.parameters().copy_from(state.parameters);
    network_.refresh_rounded_operands();
    first_moment_.copy_from(state.first_moment);
    second_moment_.copy_from(state.second_moment);
    count_ = state.count;
    network_.set_finite(state.finite);
}

}  // namespace fastmlp
