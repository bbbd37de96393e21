#include "../core/network.h"

#include <pybind11/stl.h>

#include <algorithm>
#include <cmath>
#include <map>

#include "../core/predictor.h"
#include "bindings.h"

namespace fastmlp::bindings {

std::vector<std::size_t> shape_of_biases(const Layer& layer) {
    if (layer.batch_norm) return {layer.n_bias_rows(), layer.n_outputs};
    return {layer.n_outputs};
}

const float* biases_in_place(const py::array& biases, const Layer& layer) {
    const std::vector<std::size_t> shape = shape_of_biases(layer);
    const auto* data = in_place<float>(biases, static_cast<py::ssize_t>(shape.size()), "biases");
    for (std::size_t dim = 0; dim < shape.size(); ++dim)
        if (extent(biases, static_cast<py::ssize_t>(dim)) != shape[dim])
            throw py::value_error("biases of a layer have the wrong shape");
    return data;
}

namespace {

std::unique_ptr<Network> make_network(const std::vector<std::size_t>& layer_sizes,
                                      const std::vector<std::string>& activations, bool mixed_bfloat16,
                                      const std::string& loss, const std::vector<bool>& batch_norm,
                                      const std::string& instruction_set) {
    if (layer_sizes.size() < 2) throw py::value_error("a net has at least two layer sizes");
    if (activations.size() != layer_sizes.size() - 2) throw py::value_error("one activation per hidden layer");
    if (!batch_norm.empty() && batch_norm.size() != activations.size())
        throw py::value_error("one batch_norm per hidden layer, or none");
    for (const std::size_t size : layer_sizes)
        if (size == 0) throw py::value_error("layer sizes are at least 1");
    std::vector<Activation> kinds;
    for (const std::string& name : activations) kinds.push_back(activation_named(name));
    return std::make_unique<Network>(layer_sizes, kinds, mixed_bfloat16 ? Rounding::kBfloat16 : Rounding::kNone,
                                     kernels_named(instruction_set), loss_named(loss), batch_norm);
}

const Layer& layer_at(const Network& network, std::size_t layer) {
    if (layer >= network.layers().size()) throw py::index_error("no such layer");
    return network.layers()[layer];
}

py::array_t<float> weights_of(const Network& network, std::size_t index) {
    const Layer& layer = layer_at(network, index);
    auto weights = new_array<float>({layer.n_inputs, layer.n_outputs});
    float* data = weights.mutable_data();
    const ReleasedGil released;
    const auto lock = network.lock_for_reading();
    network.read_weights(layer, data);
    return weights;
}

py::array_t<float> biases_of(const Network& network, std::size_t index) {
    const Layer& layer = layer_at(network, index);
    auto biases = new_array<float>(shape_of_biases(layer));
    float* data = biases.mutable_data();
    const ReleasedGil released;
    const auto lock = network.lock_for_reading();
    network.read_biases(layer, data);
    return biases;
}

// Of a float32, C-contiguous array.
bool all_below(float limit, const py::array& array) {
    const auto* begin = static_cast<const float*>(array.data());
    return std::all_of(begin, begin + array.size(), [&](float x) { return std::abs(x) < limit; });
}

void set_parameters(Network& network, const std::vector<py::array>& weights, const std::vector<py::array>& biases) {
    const std::size_t n_layers = network.layers().size();
    if (weights.size() != n_layers || biases.size() != n_layers)
        throw py::value_error("one array of weights and one of biases per layer");
    std::vector<const float*> weights_data, biases_data;
    for (std::size_t l = 0; l < n_layers; ++l) {
        const Layer& layer = network.layers()[l];
        weights_data.push_back(in_place<float>(weights[l], 2, "weights"));
        biases_data.push_back(biases_in_place(biases[l], layer));
        if (extent(weights[l], 0) != layer.n_inputs || extent(weights[l], 1) != layer.n_outputs)
            throw py::value_error("weights of layer " + std::to_string(l) + " have the wrong shape");
        if (!all_below(network.operand_limit(), weights[l]) ||
            !all_below(std::numeric_limits<float>::infinity(), biases[l]))
            throw py::value_error("weights or biases of layer " + std::to_string(l) + " are not finite");
    }
    const ReleasedGil released;
    const auto lock = network.lock_for_writing();
    for (std::size_t l = 0; l < n_layers; ++l)
        network.write_layer(network.layers()[l], weights_data[l], biases_data[l]);
    network.refresh_operands();
    network.set_finite(true);
}

py::array_t<float> call_forward(const Network& network, const py::array& X, std::size_t n_layers, py::ssize_t threads) {
    if (n_layers == 0) throw py::index_error("no such layer");
    const Layer& last = layer_at(network, n_layers - 1);
    const Inputs inputs = inputs_of(X, network.n_features());
    const std::size_t limit = thread_limit(threads);
    auto out = new_array<float>({inputs.n_samples, last.n_outputs});
    float* data = out.mutable_data();
    const ReleasedGil released;
    forward(network, inputs, n_layers, limit, data);
    return out;
}

py::array_t<bool> call_active_units(const Network& network, const py::array& X, std::size_t n_layers,
                                    py::ssize_t threads) {
    if (n_layers == 0) throw py::index_error("no such layer");
    std::size_t n_units = 0;
    for (std::size_t l = 0; l < n_layers; ++l) n_units += layer_at(network, l).n_outputs;
    const Inputs inputs = inputs_of(X, network.n_features());
    const std::size_t limit = thread_limit(threads);
    auto active = new_array<bool>({n_units});
    bool* data = active.mutable_data();
    const ReleasedGil released;
    find_active_units(network, inputs, n_layers, limit, data);
    return active;
}

using Probabilities = void (*)(const Network& network, const Inputs& inputs, std::size_t threads, float* out);

template <Probabilities compute>
py::array_t<float> call_probabilities(const Network& network, const py::array& X, py::ssize_t threads) {
    const Inputs inputs = inputs_of(X, network.n_features());
    const std::size_t limit = thread_limit(threads);
    auto out = new_array<float>({inputs.n_samples, network.n_outputs()});
    float* data = out.mutable_data();
    const ReleasedGil released;
    compute(network, inputs, limit, data);
    return out;
}

// None for all but a few samples in an array that can be used in place, of any shape with n_features in each sample.
py::object call_softmax_of_few(const Network& network, const py::object& X) {
    if (Py_TYPE(X.ptr()) != py::detail::npy_api::get().PyArray_Type_) return py::none();  // nor a subclass
    const auto array = py::reinterpret_borrow<py::array>(X);
    const int type = array.dtype().num();
    const bool pixels = type == py::detail::npy_api::NPY_UBYTE_;
    constexpr int kUsable = int{py::array::c_style} | int{py::detail::npy_api::NPY_ARRAY_ALIGNED_};
    if ((!pixels && type != py::detail::npy_api::NPY_FLOAT_) || array.ndim() < 2 ||
        (array.flags() & kUsable) != kUsable || (!pixels && array.dtype().byteorder() != '='))
        return py::none();
    Inputs inputs{pixels ? static_cast<const std::uint8_t*>(array.data()) : nullptr,
                  pixels ? nullptr : static_cast<const float*>(array.data()), extent(array, 0), 1};
    for (py::ssize_t dim = 1; dim < array.ndim(); ++dim) inputs.n_features *= extent(array, dim);
    if (inputs.n_features != network.n_features()) return py::none();
    auto out =
        py::array_t<float>({static_cast<py::ssize_t>(inputs.n_samples), static_cast<py::ssize_t>(network.n_outputs())});
    // The GIL stays: others would wait for it longer than for this.
    if (!softmax_of_few(network, inputs, out.mutable_data())) return py::none();
    return out;
}

// Evaluates with `compute`, which writes the losses and what else there is to know of each sample; the sum of the
// losses, each times its weight, and the latter.
template <class Element>
py::tuple call_evaluate(const Network& network, const py::array& X, const py::array& targets, py::ssize_t threads,
                        const std::optional<py::array>& sample_weights, std::vector<std::size_t> shape,
                        void (*compute)(const Network&, const Inputs&, const Targets&, std::size_t, float*, Element*)) {
    const Inputs inputs = inputs_of(X, network.n_features());
    const Targets wanted = targets_of(targets, inputs.n_samples, network.n_outputs(), network.loss(), sample_weights);
    const std::size_t limit = thread_limit(threads);
    shape.insert(shape.begin(), inputs.n_samples);
    auto found = new_array<Element>(shape);
    Element* data = found.mutable_data();
    double sum = 0.0;
    {
        const ReleasedGil released;
        std::vector<float> losses(inputs.n_samples);
        compute(network, inputs, wanted, limit, losses.data(), data);
        for (std::size_t i = 0; i < losses.size(); ++i)
            sum += static_cast<double>(losses[i]) *
                   (wanted.weights == nullptr ? 1.0 : static_cast<double>(wanted.weights[i]));
    }
    return py::make_tuple(sum, std::move(found));
}

}  // namespace

Activation activation_named(const std::string& name) {
    static const std::map<std::string, Activation> activations = {
        {"identity", Activation::kIdentity}, {"relu", Activation::kRelu},       {"leaky_relu", Activation::kLeakyRelu},
        {"tanh", Activation::kTanh},         {"sigmoid", Activation::kSigmoid}, {"gelu", Activation::kGelu}};
    const auto found = activations.find(name);
    if (found == activations.end()) throw py::value_error("unknown activation '" + name + "'");
    return found->second;
}

Loss loss_named(const std::string& name) {
    if (name == "softmax_cross_entropy") return Loss::kSoftmaxCrossEntropy;
    if (name == "sigmoid_cross_entropy") return Loss::kSigmoidCrossEntropy;
    if (name == "squared_error") return Loss::kSquaredError;
    throw py::value_error("unknown loss '" + name + "'");
}

void bind_network(py::module_& m) {
    using namespace pybind11::literals;
    static py::handle non_finite_input = py::exception<NonFiniteInput>(m, "NonFiniteInput", PyExc_ValueError).release();
    static py::handle non_finite_output =
        py::exception<NonFiniteOutput>(m, "NonFiniteOutput", PyExc_ArithmeticError).release();
    py::register_local_exception_translator([](std::exception_ptr error) {
        try {
            if (error) std::rethrow_exception(error);
        } catch (const NonFiniteInput& e) {
            PyErr_SetObject(non_finite_input.ptr(), py::int_(e.sample).ptr());
        } catch (const NonFiniteOutput& e) {
            PyErr_SetObject(non_finite_output.ptr(), py::int_(e.sample).ptr());
        } catch (const std::length_error& e) {
            PyErr_SetString(PyExc_MemoryError, e.what());
        }
    });

    py::class_<Network, std::shared_ptr<Network>>(m, "Network", py::is_final(),
                                                  "A net's parameters, and the forward pass.")
        .def(py::init([](const std::vector<std::size_t>& layer_sizes, const std::vector<std::string>& activations,
                         bool mixed_bfloat16, const std::string& loss, const std::vector<bool>& batch_norm,
                         const std::string& instruction_set) {
                 return std::shared_ptr<Network>(
                     make_network(layer_sizes, activations, mixed_bfloat16, loss, batch_norm, instruction_set));
             }),
             "layer_sizes"_a, "activations"_a, py::kw_only(), "mixed_bfloat16"_a = false,
             "loss"_a = "softmax_cross_entropy", "batch_norm"_a = std::vector<bool>(), "instruction_set"_a = "")
        .def_property_readonly("instruction_set", [](const Network& network) { return network.kernels().name; })
        .def("weights", &weights_of, "layer"_a, "Copy of a layer's weights, (n_inputs, n_outputs).")
        .def("biases", &biases_of, "layer"_a,
             "Copy of a layer's biases, (n_outputs,), or (4, n_outputs) with batch normalisation.")
        .def_property_readonly("is_finite",
                               [](const Network& network) {
                                   const ReleasedGil released;
                                   const auto lock = network.lock_for_reading();
                                   return network.is_finite();
                               })
        .def("set_parameters", &set_parameters, "weights"_a, "biases"_a, "Assign all layers at once.")
        .def("forward", &call_forward, "X"_a, "n_layers"_a, "threads"_a, "Output of the first n_layers layers.")
        .def("active_units", &call_active_units, "X"_a, "n_layers"_a, "threads"_a,
             "Which units of the first n_layers layers give anything but 0 for any sample.")
        .def("softmax", &call_probabilities<softmax>, "X"_a, "threads"_a,
             "Class probabilities, (n_samples, n_classes).")
        .def("softmax_of_few", &call_softmax_of_few, "X"_a,
             "As softmax, at once, for a few samples in an array of any shape that can be used in place; else None.")
        .def("sigmoid", &call_probabilities<sigmoid>, "X"_a, "threads"_a,
             "Probabilities of independent outputs, (n_samples, n_outputs).")
        .def(
            "evaluate",
            [](const Network& network, const py::array& X, const py::array& targets, py::ssize_t threads,
               const std::optional<py::array>& sample_weights) {
                return call_evaluate<std::int64_t>(network, X, targets, threads, sample_weights, {}, evaluate);
            },
            "X"_a, "targets"_a, "threads"_a, "sample_weights"_a = py::none(),
            "Sum of the samples' losses, and the predicted class of each sample.")
        .def(
            "evaluate_outputs",
            [](const Network& network, const py::array& X, const py::array& targets, py::ssize_t threads,
               const std::optional<py::array>& sample_weights) {
                return call_evaluate<float>(network, X, targets, threads, sample_weights, {network.n_outputs()},
                                            evaluate_outputs);
            },
            "X"_a, "targets"_a, "threads"_a, "sample_weights"_a = py::none(),
            "Sum of the samples' losses, and the output of the last layer.");
    refuse_uninitialized<Network>();
}

}  // namespace fastmlp::bindings
