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

Trainer::Trainer(Network& network) : network_(network) { set_optimizer(settings_); }
Trainer::~Trainer() = default;

void Trainer::set_optimizer(const OptimizerSettings& settings) {
    const auto lock = network_.lock_for_writing();
    // All memory is allocated before anything changes.
    std::unique_ptr<WholeGradient> whole_gradient;
    if (settings.needs_whole_gradient() && whole_gradient_ == nullptr)
        whole_gradient = std::make_unique<WholeGradient>(network_);
    Network::Values aside;
    if (settings.averages() && !settings_.averages()) aside = network_.copy_of_values();
    if (first_moment_.size() == 0 || settings.kind != settings_.kind) {
        const auto arena = [&](std::size_t line) {
            return AlignedBuffer(network_.arena_size(), AlignedBuffer::kUninitialized, line);
        };
        AlignedBuffer first = arena(kLineOfFirstMoment), second;
        if (settings.kind == OptimizerSettings::Kind::kAdam) second = arena(kLineOfSecondMoment);
        moments_are_written_ = false;
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
        workspace_->scratch_size < InputBatch::pack_scratch_size(network_, augmentation, dropout_.drops(0))) {
        workspace_.reset();  // what it holds is of no use between runs
        workspace_ = std::make_unique<Workspace>(network_, augmentation, dropout_, batch_size, threads);
    }
}

// By all threads, since the system has yet to find their memory: this one's part.
void Trainer::write_moments(std::size_t rank, std::size_t n_threads) {
    const Range part = even_part(network_.arena_size(), rank, n_threads, kPanel);
    for (AlignedBuffer* moment : {&first_moment_, &second_moment_})
        if (moment->size() > 0) std::fill(moment->data() + part.begin, moment->data() + part.end, 0.0f);
}

RunResult Trainer::run(const Inputs& inputs, const Targets& targets, const Batches& batches, std::size_t threads,
                       bool threads_are_required) {
    std::size_t largest_batch = 0;
    for (std::size_t s = 0; s < batches.n_steps; ++s) largest_batch = std::max(largest_batch, batches.size(s));
    // Forward, and backward twice as much.
    const double work = 3.0 * network_.forward_work() * static_cast<double>(largest_batch);
    if (!threads_are_required) threads = threads_worth(work, threads);
    threads = std::clamp<std::size_t>(threads, 1, most_threads());

    const auto lock = network_.lock_for_writing();
    prepare(inputs.augmented.augmentation, largest_batch, threads);
    RunResult result;
    result.losses.resize(batches.n_steps);
    if (!workspace_->right.empty()) result.right.resize(batches.n_steps);
    Team team(threads);
    std::atomic<bool> input_finite{true}, loss_finite{true}, parameters_finite{network_.is_finite()};
    std::size_t steps_done = 0;

    run_team(team, [&](std::size_t rank) {
        if (threads_are_required && team.size() < threads) return;
        if (!moments_are_written_) write_moments(rank, team.size());
        const bool nearby_only = !threads_are_required && !worth_far_threads(work);
        // Where all wait for one another.
        if (!team.find_distance(rank, network_.kernels().far_from, nearby_only)) return;
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
            if (s + 1 < batches.n_steps && batches.size(s + 1) == end - begin) step.fetch_next(batches.order + end);
            count.advance(settings_);
            ParameterUpdate update(network_, settings_, count, batches.learning_rates[s],
                                   {first_moment_.data(), second_moment_.data(),
                                    settings_.averages() ? aside_.parameters.data() : nullptr});
            if (whole_gradient_ == nullptr)
                step.update(update, parameters_finite);
            else
                step.update_from(*whole_gradient_, update, parameters_finite);
            if (rank == 0) {  // the others copied count_ before the step's barriers
                steps_done = s + 1;
                count_ = count;
            }
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
    moments_are_written_ = true;

    network_.set_finite(parameters_finite);
    result.losses.resize(steps_done);
    if (!result.right.empty()) result.right.resize(steps_done);
    result.team_size = team.size();
    result.thread_distance = team.distance();
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
    const auto copied = [&](const AlignedBuffer& moment) {
        return moments_are_written_ ? moment : AlignedBuffer(moment.size());  // of zeros
    };
    return {averages ? aside_.parameters : network_.parameters(),
            copied(first_moment_),
            copied(second_moment_),
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
    moments_are_written_ = true;
    first_moment_.copy_from(state.first_moment);
    second_moment_.copy_from(state.second_moment);
    count_ = state.count;
    network_.set_finite(state.finite);
}

}  // namespace fastmlp
