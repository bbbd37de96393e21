#include "bindings.h"

#include <pybind11/stl.h>

#include "../core/parallel.h"
#include "../dispatch/dispatch.h"

namespace fastmlp::bindings {

const KernelTable& kernels_named(const std::string& name) {
    return name.empty() ? *select_instruction_set().kernels : instruction_set_named(name, "instruction_set");
}

Inputs inputs_of(const py::array& X, std::size_t n_features) {
    Inputs inputs;
    if (py::isinstance<py::array_t<std::uint8_t>>(X))
        inputs.pixels = in_place<std::uint8_t>(X, 2, "X");
    else
        inputs.values = in_place<float>(X, 2, "X");
    inputs.n_samples = extent(X, 0);
    inputs.n_features = extent(X, 1);
    if (inputs.n_features != n_features) throw py::value_error("X has the wrong number of features");
    return inputs;
}

namespace {

// Calls index(i) for each i below n, which must be less than end.
template <class Index>
void require_indices(std::size_t n, std::size_t end, const char* name, const Index& index) {
    for (std::size_t i = 0; i < n; ++i)
        if (static_cast<std::uint64_t>(index(i)) >= end)  // what is less than 0 becomes large
            throw py::value_error(std::string(name) + " must hold numbers from 0 to " + std::to_string(end) +
                                  ", excluded");
}

}  // namespace

std::vector<std::int64_t> checked_indices(const py::array& indices, std::size_t end, const char* name,
                                          std::vector<std::int64_t> memory) {
    const auto* data = in_place<std::int64_t>(indices, 1, name);
    memory.assign(data, data + indices.size());
    require_indices(memory.size(), end, name, [&](std::size_t i) { return memory[i]; });
    return memory;
}

Targets targets_of(const py::array& targets, std::size_t n_samples, std::size_t n_outputs, Loss loss,
                   const std::optional<py::array>& sample_weights, float label_smoothing,
                   const std::vector<std::int64_t>* samples) {
    Targets view;
    const auto require_one_each = [&] {
        if (extent(targets, 0) != n_samples) throw py::value_error("X and targets differ in length");
    };
    if (targets.ndim() == 2 || loss != Loss::kSoftmaxCrossEntropy) {
        view.values = in_place<float>(targets, 2, "targets");
        if (extent(targets, 1) != n_outputs) throw py::value_error("targets have the wrong number of columns");
        require_one_each();
    } else {
        const auto* labels = in_place<std::int64_t>(targets, 1, "targets");
        require_one_each();
        if (samples == nullptr)
            require_indices(n_samples, n_outputs, "targets", [&](std::size_t i) { return labels[i]; });
        else
            require_indices(samples->size(), n_outputs, "targets",
                            [&](std::size_t i) { return labels[(*samples)[i]]; });
        view.labels = labels;
    }
    if (sample_weights) {
        view.weights = in_place<float>(*sample_weights, 1, "sample_weights");
        if (extent(*sample_weights, 0) != n_samples) throw py::value_error("X and sample_weights differ in length");
    }
    if (!(label_smoothing >= 0.0f && label_smoothing < 1.0f))
        throw py::value_error("label_smoothing must be in [0, 1)");
    if (label_smoothing != 0.0f && loss == Loss::kSquaredError) throw py::value_error("there are no labels to smooth");
    view.label_smoothing = label_smoothing;
    return view;
}

std::size_t thread_limit(py::ssize_t threads) {
    if (threads < 0 || threads > kMostThreads)
        throw py::value_error("threads must be 0 to " + std::to_string(kMostThreads));
    if (threads == 0) return n_processors();
    return static_cast<std::size_t>(threads);
}

void bind_machine(py::module_& m) {
    m.def(
        "build_info",
        [] {
            py::dict info;
            info["version"] = FASTMLP_VERSION;
#if defined(__clang__)
            info["compiler"] = "clang " __clang_version__;
#else
            info["compiler"] = "g++ " __VERSION__;
#endif
            info["threading"] = parallel_runtime();
            return info;
        },
        "Version, compiler and threading the extension was built with.");
    m.def("threads_by_default", &threads_by_default, "How many threads OpenMP would give the calling thread.");
    m.def("assume_far", &assume_far, py::arg("far"),
          "Take threads' caches for far from one another, or for near; None: measure their distance again.");
    m.def("cpu_name", &cpu_name, "Name of this machine's processor.");
    m.def("l2_cache_size", &l2_cache_size, "Bytes of a core's L2 cache; 1 MB if the processor does not say.");
    m.def(
        "compiled_instruction_sets",
        [] {
            std::vector<std::string> names;
            for (const InstructionSet& set : instruction_sets()) names.emplace_back(set.kernels.name);
            return names;
        },
        "Names of the instruction sets compiled in, slowest first.");
    m.def(
        "supported_instruction_sets",
        [] {
            std::vector<std::string> names;
            for (const InstructionSet& set : instruction_sets())
                if (set.supported) names.emplace_back(set.kernels.name);
            return names;
        },
        "Those of compiled_instruction_sets that this machine can run.");
    m.def(
        "selected_instruction_set",
        [] {
            const Selection selection = select_instruction_set();
            return py::make_tuple(selection.kernels->name, selection.reason);
        },
        "Name of the set a new Network uses, and why.");
}

}  // namespace fastmlp::bindings

namespace {

constexpr const char* kSubinterpreterMessage =
    "fastmlp works in the main interpreter of a process only, but was imported in a subinterpreter; "
    "import it in the main one, or start another process";

bool in_subinterpreter() { return PyInterpreterState_Get() != PyInterpreterState_Main(); }

}  // namespace

PYBIND11_MODULE(_core_of_main_interpreter, m, pybind11::mod_gil_not_used()) {
    using namespace fastmlp::bindings;
    // Since version 3.13 Python calls PyInit__core in the main interpreter, whichever imports the module.
    if (in_subinterpreter()) throw pybind11::import_error(kSubinterpreterMessage);
    m.doc() = "The compiled core. Private: fastmlp.Net is the public face.";
    bind_machine(m);
    bind_random(m);
    bind_network(m);
    bind_augment(m);
    bind_trainer(m);
    bind_kernels(m);
}

// What Python calls. pybind11's own entry point asks for the GIL; Python before 3.12, asked in a subinterpreter, waits
// forever.
extern "C" PYBIND11_EXPORT PyObject* PyInit__core() {
    if (!in_subinterpreter()) return PyInit__core_of_main_interpreter();
    PyErr_SetString(PyExc_ImportError, kSubinterpreterMessage);
    return nullptr;
}
