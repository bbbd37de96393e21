#include "../core/trainer.h"

#include <pybind11/stl.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <map>
#include <mutex>
#include <optional>
#include <utility>
#include <vector>

#include "../core/augment.h"
#include "bindings.h"

namespace fastmlp::bindings {

namespace {

constexpr double kNoLimit = std::numeric_limits<double>::infinity();

// A trainer keeps its net alive.
struct BoundTrainer {
    explicit BoundTrainer(std::shared_ptr<Network> net) : network(std::move(net)), trainer(*network) {}
    std::shared_ptr<Network> network;
    Trainer trainer;
};

struct BoundState {
    std::shared_ptr<Network> network;  // whose state this is
    Trainer::State state;
};

// The memory of the last copy of an order, for the next one. Whoever finds it in use, by another thread or by one that
// a child of fork does not have, goes without.
class SpareMemory {
 public:
    std::vector<std::int64_t> take() {
        const std::unique_lock lock(mutex_, std::try_to_lock);
        return lock ? std::exchange(memory_, {}) : std::vector<std::int64_t>();
    }
    void put(std::vector<std::int64_t> memory) {
        constexpr std::size_t kMost = std::size_t{1} << 18;  // 2 MB
        const std::unique_lock lock(mutex_, std::try_to_lock);
        if (lock && memory.capacity() <= kMost) memory_ = std::move(memory);
    }

 private:
    std::mutex mutex_;
    std::vector<std::int64_t> memory_;
};
SpareMemory& spare_memory = *new SpareMemory;  // which a thread that is still at work when the process ends may use

struct CheckedBatches {
    CheckedBatches(const py::array& order_array, const py::array& offsets_array, const py::array& rates_array,
                   std::size_t n_samples)
        : order(checked_indices(order_array, n_samples, "order", spare_memory.take())),
          offsets(checked_indices(offsets_array, order.size() + 1, "offsets")) {
        const auto* rates = in_place<double>(rates_array, 1, "learning_rates");
        learning_rates.assign(rates, rates + rates_array.size());
        if (offsets.size() != learning_rates.size() + 1) throw py::value_error("one offset more than learning rates");
        if (std::adjacent_find(offsets.begin(), offsets.end(), std::greater_equal<>()) != offsets.end())
            throw py::value_error("offsets must rise");
        if (offsets.front() != 0 || static_cast<std::size_t>(offsets.back()) != order.size())
            throw py::value_error("offsets must run from 0 to the length of order");
    }
    ~CheckedBatches() { spare_memory.put(std::move(order)); }
    CheckedBatches(const CheckedBatches&) = delete;
    CheckedBatches& operator=(const CheckedBatches&) = delete;

    Batches view(const EpochPlace& place) const {
        return {order.data(), offsets.data(), learning_rates.data(), learning_rates.size(), place};
    }

    std::vector<std::int64_t> order, offsets;
    std::vector<double> learning_rates;
};

void set_optimizer(BoundTrainer& bound, const OptimizerSettings& settings) {
    const ReleasedGil released;
    bound.trainer.set_optimizer(settings);
}

void set_dropout(BoundTrainer& bound, std::uint64_t seed, const std::vector<double>& rates) {
    if (rates.size() != bound.network->layers().size())
        throw py::value_error("a rate for the input and each hidden layer");
    for (const double rate : rates)
        if (!(rate >= 0.0 && rate < 1.0)) throw py::value_error("rates of dropout must be in [0, 1)");
    const ReleasedGil released;
    bound.trainer.set_dropout(Dropout(seed, rates));
}

AugmentedEpoch augmented_epoch(const Inputs& inputs, const Augmentation* augmentation, std::uint32_t epoch,
                               const std::optional<py::array>& ids) {
    if (augmentation == nullptr) return {};
    if (inputs.pixels == nullptr) throw py::value_error("only pixels can be distorted");
    if (augmentation->n_pixels() != inputs.n_features) throw py::value_error("X has images of another size");
    if (!ids) return {augmentation, epoch, nullptr};
    const auto* numbers = in_place<std::int64_t>(*ids, 1, "ids");
    if (extent(*ids, 0) != inputs.n_samples) throw py::value_error("X and ids differ in length");
    return {augmentation, epoch, numbers};
}

RunResult run(BoundTrainer& bound, const py::array& X, const py::array& targets, const py::array& order,
              const py::array& offsets, const py::array& learning_rates, py::ssize_t threads, bool threads_are_required,
              const std::optional<py::array>& sample_weights, float label_smoothing, const Augmentation* augmentation,
              std::uint32_t epoch, const std::optional<py::array>& ids, std::uint64_t first_sample,
              std::uint64_t samples_per_epoch) {
    Inputs inputs = inputs_of(X, bound.network->n_features());
    const CheckedBatches batches(order, offsets, learning_rates, inputs.n_samples);
    const Targets wanted = targets_of(targets, inputs.n_samples, bound.network->n_outputs(), bound.network->loss(),
                                      sample_weights, label_smoothing, &batches.order);
    const std::size_t limit = thread_limit(threads);
    inputs.augmented = augmented_epoch(inputs, augmentation, epoch, ids);
    const ReleasedGil released;
    return bound.trainer.run(inputs, wanted, batches.view({epoch, first_sample, samples_per_epoch}), limit,
                             threads_are_required);
}

// The arenas of a state by name, as far as its optimiser has them. State: Trainer::State, const or not.
template <class State>
auto arenas_of(State& state) {
    std::map<std::string, decltype(&state.parameters)> arenas;
    arenas["parameters"] = &state.parameters;
    arenas["first_moment"] = &state.first_moment;
    if (state.second_moment.size() > 0) arenas["second_moment"] = &state.second_moment;
    if (state.average.size() > 0) arenas["average"] = &state.average;
    return arenas;
}

// For each arena, the weights and biases of every layer, like those of the net.
std::map<std::string, std::vector<py::array_t<float>>> arrays_of(const BoundState& bound) {
    std::map<std::string, std::vector<py::array_t<float>>> arrays;
    for (const auto& [name, arena] : arenas_of(bound.state)) {
        for (const Layer& layer : bound.network->layers()) {
            arrays[name].push_back(new_array<float>({layer.n_inputs, layer.n_outputs}));
            bound.network->read_weights(*arena, layer, arrays[name].back().mutable_data());
            arrays[name].push_back(new_array<float>(shape_of_biases(layer)));
            bound.network->read_biases(*arena, layer, arrays[name].back().mutable_data());
        }
    }
    return arrays;
}

// The inverse of arrays_of, for a trainer that has been told which optimiser it is.
std::shared_ptr<BoundState> state_of(const BoundTrainer& bound,
                                     const std::map<std::string, std::vector<py::array>>& arrays,
                                     std::pair<double, double> beta_powers, double average_power) {
    const auto result = [&] {
        const ReleasedGil released;
        return std::make_shared<BoundState>(BoundState{bound.network, bound.trainer.snapshot()});
    }();
    const auto arenas = arenas_of(result->state);
    if (arrays.size() != arenas.size()) throw py::value_error("arrays are not those of this optimiser");
    for (const auto& [name, arena] : arenas) {
        const auto found = arrays.find(name);
        if (found == arrays.end()) throw py::value_error("arrays have no " + name);
        const std::vector<py::array>& parts = found->second;
        const std::vector<Layer>& layers = bound.network->layers();
        if (parts.size() != 2 * layers.size()) throw py::value_error("weights and biases of each layer in " + name);
        for (std::size_t l = 0; l < layers.size(); ++l) {
            const py::array &weights = parts[2 * l], &biases = parts[2 * l + 1];
            const auto* weights_data = in_place<float>(weights, 2, "weights");
            const auto* biases_data = biases_in_place(biases, layers[l]);
            if (extent(weights, 0) != layers[l].n_inputs || extent(weights, 1) != layers[l].n_outputs)
                throw py::value_error("layer " + std::to_string(l) + " of " + name + " has the wrong shape");
            bound.network->write_layer(*arena, layers[l], weights_data, biases_data);
        }
    }
    result->state.finite = bound.network->all_finite(result->state.parameters);
    result->state.count = {beta_powers.first, beta_powers.second, average_power};
    return result;
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
                                                        "A copy of everything a Trainer changes.")
        .def_property_readonly("arrays", &arrays_of)
        .def_property_readonly("beta_powers",
                               [](const BoundState& bound) {
                                   return std::make_pair(bound.state.count.beta_1_power,
                                                         bound.state.count.beta_2_power);
                               })
        .def_property_readonly("average_power",
                               [](const BoundState& bound) { return bound.state.count.average_power; });
    py::class_<RunResult>(m, "RunResult", py::is_final(), "What one call of Trainer.run did.")
        .def_property_readonly("losses",
                               [](const RunResult& result) {
                                   return py::array_t<float>(static_cast<py::ssize_t>(result.losses.size()),
                                                             result.losses.data());
                               })
        .def_property_readonly("right",
                               [](const RunResult& result) {
                                   return py::array_t<float>(static_cast<py::ssize_t>(result.right.size()),
                                                             result.right.data());
                               })
        .def_property_readonly("stopped", [](const RunResult& result) { return name_of(result.stop); })
        .def_readonly("bad_sample", &RunResult::bad_sample)
        .def_readonly("team_size", &RunResult::team_size)
        .def_readonly("thread_distance", &RunResult::thread_distance)
        .def_readonly("tasks_per_thread", &RunResult::tasks_per_thread);
    py::class_<BoundTrainer>(m, "Trainer", py::is_final(), "Optimiser state of one network, and the training step.")
        .def(py::init<std::shared_ptr<Network>>(), "network"_a.none(false))
        .def(
            "set_adam",
            [](BoundTrainer& bound, double beta_1, double beta_2, double epsilon, double weight_decay, bool decoupled,
               double clip_norm, double max_norm, double average_decay) {
                set_optimizer(bound, {.kind = OptimizerSettings::Kind::kAdam,
                                      .beta_1 = beta_1,
                                      .beta_2 = beta_2,
                                      .epsilon = epsilon,
                                      .weight_decay = weight_decay,
                                      .decoupled = decoupled,
                                      .clip_norm = clip_norm,
                                      .max_norm = max_norm,
                                      .average_decay = average_decay});
            },
            py::kw_only(), "beta_1"_a, "beta_2"_a, "epsilon"_a, "weight_decay"_a = 0.0, "decoupled"_a = false,
            "clip_norm"_a = kNoLimit, "max_norm"_a = kNoLimit, "average_decay"_a = 0.0,
            "Use Adam, or AdamW if the weight decay is decoupled.")
        .def(
            "set_sgd",
            [](BoundTrainer& bound, double momentum, bool nesterov, double weight_decay, double clip_norm,
               double max_norm, double average_decay) {
                set_optimizer(bound, {.kind = OptimizerSettings::Kind::kSgd,
                                      .momentum = momentum,
                                      .nesterov = nesterov,
                                      .weight_decay = weight_decay,
                                      .clip_norm = clip_norm,
                                      .max_norm = max_norm,
                                      .average_decay = average_decay});
            },
            py::kw_only(), "momentum"_a, "nesterov"_a = false, "weight_decay"_a = 0.0, "clip_norm"_a = kNoLimit,
            "max_norm"_a = kNoLimit, "average_decay"_a = 0.0, "Use SGD with momentum.")
        .def(
            "restart_average",
            [](BoundTrainer& bound) {
                const ReleasedGil released;
                bound.trainer.restart_average();
            },
            "Take the network's weights for the live ones, and average anew.")
        .def("set_dropout", &set_dropout, "seed"_a, "rates"_a,
             "Drop inputs and hidden units from now on: a rate in [0, 1) for the input and each hidden layer.")
        .def("run", &run, "X"_a, "targets"_a, "order"_a, "offsets"_a, "learning_rates"_a, "threads"_a,
             "threads_are_required"_a, "sample_weights"_a = py::none(), "label_smoothing"_a = 0.0f,
             "augmentation"_a = nullptr, "epoch"_a = 0, "ids"_a = py::none(), "first_sample"_a = 0,
             "samples_per_epoch"_a = 0, "Train one step per batch.")
        .def("snapshot",
             [](const BoundTrainer& bound) {
                 const ReleasedGil released;
                 return std::make_shared<BoundState>(BoundState{bound.network, bound.trainer.snapshot()});
             })
        .def(
            "restore",
            [](BoundTrainer& bound, const BoundState& state) {
                if (state.network != bound.network) throw py::value_error("this state belongs to another net");
                const ReleasedGil released;
                bound.trainer.restore(state.state);
            },
            "state"_a)
        .def("state_of", &state_of, "arrays"_a, "beta_powers"_a, "average_power"_a = 1.0,
             "The state that has these arrays.");
    refuse_uninitialized<BoundState>();
    refuse_uninitialized<RunResult>();
    refuse_uninitialized<BoundTrainer>();
}

}  // namespace fastmlp::bindings
