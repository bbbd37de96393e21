// The Python face of the core: one file per topic, each adding itself to the module. Here is checked what memory
// safety needs; messages for people are the Python layer's.
#pragma once

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <unistd.h>

#include <optional>
#include <vector>

#include "../core/data.h"
#include "../core/network.h"

namespace fastmlp::bindings {

namespace py = pybind11;

void bind_machine(py::module_& m);
void bind_random(py::module_& m);
void bind_network(py::module_& m);
void bind_augment(py::module_& m);
void bind_trainer(py::module_& m);
void bind_kernels(py::module_& m);

// The array itself, used in place: of exactly this element type, native, aligned, C-contiguous, n_dims-dimensional.
// Throws ValueError otherwise.
template <class Element>
const Element* in_place(const py::array& array, py::ssize_t n_dims, const char* name) {
    const bool usable = py::isinstance<py::array_t<Element>>(array) && array.ndim() == n_dims &&
                        (array.flags() & py::array::c_style) != 0 &&
                        (array.flags() & py::detail::npy_api::NPY_ARRAY_ALIGNED_) != 0;
    if (!usable)
        throw py::value_error(std::string(name) + " must be an aligned, C-contiguous array of " +
                              py::str(py::dtype::of<Element>()).cast<std::string>() + " with " +
                              std::to_string(n_dims) + " dimension(s)");
    return static_cast<const Element*>(array.data());
}

inline std::size_t extent(const py::array& array, py::ssize_t dim) {
    return static_cast<std::size_t>(array.shape(dim));
}

// The kernels of the set called `name`, or if that is empty those that select_instruction_set chooses.
const KernelTable& kernels_named(const std::string& name);

// X: uint8 or float32 (n_samples, n_features).
Inputs inputs_of(const py::array& X, std::size_t n_features);

// Indices that the core follows without looking: each must be at least 0 and less than end. They are copied, so that no
// other thread can change them once they have been checked; to `memory`, which a caller may keep for its next call, as
// it takes longer to get fresh pages than to fill them.
std::vector<std::int64_t> checked_indices(const py::array& indices, std::size_t end, const char* name,
                                          std::vector<std::int64_t> memory = {});

// targets: int64 labels (n_samples,) if the loss is softmax cross-entropy; or float32 (n_samples, n_outputs).
// sample_weights: float32 (n_samples,). Every label must be a class; or if there are samples, each less than n_samples,
// theirs: of many labels, the few of some steps are looked at quickly.
Targets targets_of(const py::array& targets, std::size_t n_samples, std::size_t n_outputs, Loss loss,
                   const std::optional<py::array>& sample_weights = {}, float label_smoothing = 0.0f,
                   const std::vector<std::int64_t>* samples = nullptr);

// ValueError for an unknown name.
Activation activation_named(const std::string& name);
Loss loss_named(const std::string& name);

// The GIL is released while this lives. If the interpreter is shut down meanwhile, Python (before 3.14) ends the thread
// that wants it back, by unwinding its stack. On the way arrays would be given back without the GIL: such a thread
// stops here instead, until the process ends.
class ReleasedGil {
 public:
    ReleasedGil() : state_(PyEval_SaveThread()) {}
    ~ReleasedGil() {
        try {
            PyEval_RestoreThread(state_);
        } catch (...) {  // this is how the unwinding shows
            for (;;) pause();
        }
    }
    ReleasedGil(const ReleasedGil&) = delete;
    ReleasedGil& operator=(const ReleasedGil&) = delete;

 private:
    PyThreadState* state_;
};

// An object of a bound class made by __new__ alone holds nothing. pybind11 would allocate memory for it at its first
// use, and read what happens to be there; this makes that a TypeError.
template <class Bound>
void refuse_uninitialized() {
    py::detail::get_type_info(typeid(Bound), true)->operator_new = [](std::size_t) -> void* {
        throw py::type_error("this object was made without calling its class");
    };
}

// 0 stands for the number of processors. ValueError above kMostThreads, before anything is allocated for them.
inline constexpr py::ssize_t kMostThreads = 1024;
std::size_t thread_limit(py::ssize_t threads);

template <class Element>
py::array_t<Element> new_array(std::vector<std::size_t> shape) {
    return py::array_t<Element>(std::vector<py::ssize_t>(shape.begin(), shape.end()));
}

// Biases of a layer: (n_outputs,), or (4, n_outputs) with batch normalisation; see Layer.
std::vector<std::size_t> shape_of_biases(const Layer& layer);
// In place; ValueError if the shape is another one.
const float* biases_in_place(const py::array& biases, const Layer& layer);

}  // namespace fastmlp::bindings
