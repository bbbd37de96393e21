#include "network.h"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <stdexcept>

#include "floating_point.h"

namespace fastmlp {

namespace {

// a * b + c, or std::length_error: sizes come from users.
std::size_t checked(std::size_t a, std::size_t b, std::size_t c) {
    std::size_t product, sum;
    if (__builtin_mul_overflow(a, b, &product) || __builtin_add_overflow(product, c, &sum) || sum > SIZE_MAX / 16)
        throw std::length_error("the net's parameters do not fit into memory");
    return sum;
}

std::uint64_t next_id() {
    static std::atomic<std::uint64_t> last{0};
    return ++last;
}

}  // namespace

Network::Network(const std::vector<std::size_t>& layer_sizes, const std::vector<Activation>& activations,
                 Rounding rounding, const KernelTable& kernels, Loss loss, const std::vector<bool>& batch_norm)
    : kernels_(kernels),
      id_(next_id()),
      rounding_(rounding),
      loss_(loss),
      words_(rounding == Rounding::kBfloat16 && kernels.pair_products.multiply != nullptr ? Words::kBfloat16Pairs
                                                                                          : Words::kFloats) {
    std::size_t size = 0, operands_size = 0;
    for (std::size_t l = 0; l + 1 < layer_sizes.size(); ++l) {
        const bool last = l + 2 == layer_sizes.size();
        Layer layer{layer_sizes[l], layer_sizes[l + 1], Activation::kIdentity, false, 0, 0, 0, 0};
        if (!last) layer.activation = activations[l];
        if (!last && !batch_norm.empty()) layer.batch_norm = batch_norm[l];
        checked(layer.n_inputs, 1, kPanel * kPanel);
        checked(layer.n_outputs, 1, kPanel * kPanel);
        layer.weights = size;
        layer.biases = checked(layer.panels(), layer.weights_stride(), size);
        size = checked(layer.panels() * kPanel, layer.n_bias_rows(), layer.biases);
        layer.operand = operands_size;
        layer.operand_rows = n_words(words_, layer.n_inputs);
        operands_size = checked(layer.panels(), panel_stride(layer.operand_rows), operands_size);
        layers_.push_back(layer);
    }
    parameters_ = AlignedBuffer(size, AlignedBuffer::kZero, kLineOfParameters);
    if (rounding != Rounding::kNone) operands_ = AlignedBuffer(operands_size);
}

double Network::forward_work() const {
    double work = 0.0;
    for (const Layer& layer : layers_)
        work += static_cast<double>(layer.n_inputs) * static_cast<double>(layer.n_outputs);
    return work;
}

void Network::refresh_operands() {
    if (rounding_ == Rounding::kNone) return;
    const FloatingPointScope scope(kernels_);
    for (const Layer& layer : layers_)
        for (std::size_t panel = 0; panel < layer.panels(); ++panel) refresh_operand(layer, panel);
}

void Network::refresh_operand(const Layer& layer, std::size_t panel) {
    if (rounding_ == Rounding::kNone) return;
    kernels_.write_operand(parameters_.data() + layer.weights + panel * layer.weights_stride(),
                           updated_operand(layer, 0, panel), layer.n_inputs);
}

bool Network::all_finite(const AlignedBuffer& arena) const {
    const auto all_below = [&](float limit, std::size_t begin, std::size_t end) {
        return std::all_of(arena.data() + begin, arena.data() + end, [&](float x) { return std::abs(x) < limit; });
    };
    return std::all_of(layers_.begin(), layers_.end(), [&](const Layer& layer) {
        return all_below(operand_limit(), layer.weights, layer.biases) &&
               all_below(std::numeric_limits<float>::infinity(), layer.biases, layer.bias_row(layer.n_bias_rows()));
    });
}

void Network::read_weights(const AlignedBuffer& arena, const Layer& layer, float* weights) const {
    kernels_.unpack(arena.data() + layer.weights, layer.weights_stride(), layer.n_inputs, layer.n_outputs, weights,
                    layer.n_outputs);
}

void Network::read_biases(const AlignedBuffer& arena, const Layer& layer, float* biases) const {
    for (std::size_t row = 0; row < layer.n_bias_rows(); ++row)
        kernels_.unpack(arena.data() + layer.bias_row(row), kPanel, 1, layer.n_outputs, biases + row * layer.n_outputs,
                        layer.n_outputs);
}

void Network::write_layer(AlignedBuffer& arena, const Layer& layer, const float* weights, const float* biases) const {
    kernels_.pack_float({weights, layer.n_outputs, nullptr, layer.n_inputs, layer.n_outputs}, Rounding::kNone,
                        arena.data() + layer.weights, layer.weights_stride());
    for (std::size_t row = 0; row < layer.n_bias_rows(); ++row)
        kernels_.pack_float({biases + row * layer.n_outputs, layer.n_outputs, nullptr, 1, layer.n_outputs},
                            Rounding::kNone, arena.data() + layer.bias_row(row), kPanel);
}

}  // namespace fastmlp
