#include "../core/trainer.h"

#include <pybind11/stl.h>

#include "bindings.h"

namespace fastmlp::bindings {

namespace {

// A trainer keeps its net alive.
struct BoundTrainer {
    explicit BoundTrainer(std::shared_ptr<Network> net) : network(std::move(net)), trainer(*network) {}
    std::shared_ptr<Network> network;
    Trainer trainer;
    OptimizerSettings::Kind kind = OptimizerSettings::Kind::kAdam;
};

struct BoundState {
    std::shared_ptr<Network> network;  // whose state this is
    OptimizerSettings::Kind kind;
    Trainer::State state;
};

Batches batches_of(const py::array& order, const py::array& offsets, const py::array& learning_rates,
                   std::size_t n_samples) {
    Batches batches{};
    batches.order = in_place<std::int64_t>(order, 1, "order");
    batches.offsets = in_place<std::int64_t>(offsets, 1, "offsets");
    batches.learning_rates = in_place<double>(learning_rates, 1, "learning_rates");
    batches.n_steps = extent(learning_rates, 0);
    if (extent(offsets, 0) != batches.n_steps + 1) throw py::value_error("one offset more than learning rates");
    for (std::size_t s = 0; s < batches.n_steps; ++s)
        if (batches.offsets[s + 1] <= batches.offsets[s]) throw py::value_error("offsets must rise");
    if (batches.offsets[0] != 0 || batches.offsets[batches.n_steps] != order.size())
        throw py::value_error("offsets must run from 0 to the length of order");
    for (std::size_t i = 0; i < extent(order, 0); ++i)
        if (batches.order[i] < 0 || static_cast<std::size_t>(batches.order[i]) >= n_samples)
            throw py::value_error("order holds an index that is not a sample");
    return batches;
}

void set_optimizer(BoundTrainer& bound, const OptimizerSettings& settings) {
    bound.trainer.set_optimizer(settings);
    bound.kind = settings.kind;
}

RunResult run(BoundTrainer& bound, const py::array& X, const py::array& targets, const py::array& order,
              const py::array& offsets, const py::array& learning_rates, py::ssize_t threads,
              bool threads_are_required) {
    const Inputs inputs = inputs_of(X, bound.network->n_features());
    const Targets checked = targets_of(targets, inputs.n_samples, bound.network->n_classes());
    const Batches batches = batches_of(order, offsets, learning_rates, inputs.n_samples);
    const std::size_t limit = thread_limit(threads);
    const py::gil_scoped_release release;
    return bound.trainer.run(inputs, checked, batches, limit, threads_are_required);
}

const char* name_of(RunResult::Stop stop) {
    switch (stop) {
        case RunResult::Stop::kFinished:
            return "";
        case RunResult::Stop::kNonFiniteLoss:
            return "loss";
        case RunResult::Stop::kNonFiniteInput:
            return "input";
    }
    return "";
}

}  // namespace

void bind_trainer(py::module_& m) {
    using namespace pybind11::literals;
    py::class_<BoundState, std::shared_ptr<BoundState>>(m, "TrainerState", py::is_final(),
                                                        "An opaque copy of everything a Trainer changes.");
    py::class_<RunResult>(m, "RunResult", py::is_final(), "What one call of Trainer.run did.")
        .def_property_readonly("losses",
                               [](const RunResult& result) {
                                   return py::array_t<float>(static_cast<py::ssize_t>(result.losses.size()),
                                                             result.losses.data());
                               })
        .def_property_readonly("stopped", [](const RunResult& result) { return name_of(result.stop); })
        .def_readonly("bad_sample", &RunResult::bad_sample)
        .def_readonly("team_size", &RunResult::team_size)
        .def_readonly("tasks_per_thread", &RunResult::tasks_per_thread);
    py::class_<BoundTrainer>(m, "Trainer", py::is_final(), "Optimiser state of one network, and the training step.")
        .def(py::init<std::shared_ptr<Network>>(), "network"_a)
        .def(
            "set_adam",
            [](BoundTrainer& bound, double beta_1, double beta_2, double epsilon) {
                set_optimizer(
                    bound,
                    {.kind = OptimizerSettings::Kind::kAdam, .beta_1 = beta_1, .beta_2 = beta_2, .epsilon = epsilon});
            },
            py::kw_only(), "beta_1"_a, "beta_2"_a, "epsilon"_a, "Use Adam.")
        .def(
            "set_sgd",
            [](BoundTrainer& bound, double momentum) {
                set_optimizer(bound, {.kind = OptimizerSettings::Kind::kSgd, .momentum = momentum});
            },
            py::kw_only(), "momentum"_a, "Use SGD with momentum.")
        .def("run", &run, "X"_a, "targets"_a, "order"_a, "offsets"_a, "learning_rates"_a, "threads"_a,
             "threads_are_required"_a, "Train one step per batch.")
        .def("snapshot",
             [](const BoundTrainer& bound) {
                 const py::gil_scoped_release release;
                 return std::make_shared<BoundState>(BoundState{bound.network, bound.kind, bound.trainer.snapshot()});
             })
        .def(
            "restore",
            [](BoundTrainer& bound, const BoundState& state) {
                if (state.network != bound.network || state.kind != bound.kind)
                    throw py::value_error("this state belongs to another net or optimiser");
                const py::gil_scoped_release release;
                bound.trainer.restore(state.state);
            },
            "state"_a);
}

}  // namespace fastmlp::bindings
