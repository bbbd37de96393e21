// Training steps: forward pass, loss, backward pass and update of one batch after another, by one team of threads
// in one parallel region.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "data.h"
#include "dropout.h"
#include "network.h"
#include "optimizer.h"

namespace fastmlp {

// Step s trains on the samples order[offsets[s]] to order[offsets[s + 1] - 1].
struct Batches {
    const std::int64_t* order;
    const std::int64_t* offsets;
    const double* learning_rates;
    std::size_t n_steps;
    EpochPlace place{};  // of the first sample

    std::size_t size(std::size_t s) const { return static_cast<std::size_t>(offsets[s + 1] - offsets[s]); }
};

struct RunResult {
    enum class Stop { kFinished, kNonFiniteLoss, kNonFiniteInput };
    Stop stop = Stop::kFinished;
    std::vector<float> losses;  // mean loss of each step done, in nats per sample
    std::vector<float> right;   // weight of each step's samples predicted rightly; empty if nothing is right or wrong
    std::int64_t bad_sample = -1;  // for kNonFiniteInput
    std::size_t team_size = 0;
    double thread_distance = 0.0;  // see Team::distance
    std::vector<std::size_t> tasks_per_thread;
};

class Workspace;
class WholeGradient;

class Trainer {
 public:
    explicit Trainer(Network& network);
    ~Trainer();
    Trainer(const Trainer&) = delete;
    Trainer& operator=(const Trainer&) = delete;

    // Moments start from zero, unless the same kind of optimiser was in use. If weights are to be averaged and were not
    // before, the average starts with the next step; if they were and are not to be, the network has the live ones
    // again.
    void set_optimizer(const OptimizerSettings& settings);

    // While weights are averaged, the network has the averages, except within run, and the live weights are the
    // trainer's own. To be called when the network has been given other weights: training goes on from these, and the
    // average starts anew.
    void restart_average();

    // From the next run on.
    void set_dropout(Dropout dropout);

    // Indices and targets must have been checked. If threads_are_required, a team of `threads` is asked for, else at
    // most that many, as the work is worth. Stops before the update of a step whose input, loss or parameters are not
    // finite.
    RunResult run(const Inputs& inputs, const Targets& targets, const Batches& batches, std::size_t threads,
                  bool threads_are_required);

    // Everything that run changes.
    struct State {
        AlignedBuffer parameters, first_moment, second_moment;
        AlignedBuffer average;  // of parameters; empty if they are not averaged
        OptimizerSettings::Kind kind;
        StepCount count;
        bool finite;
    };
    State snapshot() const;
    // The state must be of a trainer of the same net; throws std::invalid_argument if it is of another kind of
    // optimiser, or only one of the two averages weights.
    void restore(const State& state);

 private:
    void prepare(const Augmentation* augmentation, std::size_t batch_size, std::size_t threads);
    void write_moments(std::size_t rank, std::size_t n_threads);

    Network& network_;
    OptimizerSettings settings_;
    Dropout dropout_;
    StepCount count_;
    AlignedBuffer first_moment_;        // in the layout of the network's parameters
    AlignedBuffer second_moment_;       // empty for SGD
    bool moments_are_written_ = false;  // until then they count as zero
    Network::Values aside_;             // the live weights, during run the averages; empty if weights are not averaged
    std::unique_ptr<WholeGradient> whole_gradient_;  // null if it is not needed
    std::unique_ptr<Workspace> workspace_;
};

}  // namespace fastmlp
