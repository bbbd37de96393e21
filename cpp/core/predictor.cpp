#include "predictor.h"

#include <algorithm>
#include <atomic>
#include <bit>
#include <cmath>
#include <limits>
#include <memory>
#include <mutex>
#include <vector>

#include "floating_point.h"
#include "gemm.h"
#include "input_batch.h"
#include "loss.h"
#include "parallel.h"

namespace fastmlp {

namespace {

// What one thread needs to take a block of rows through the net.
struct Scratch {
    Scratch(const Network& network, std::size_t most_rows)
        : network_id(network.id()),
          rows(most_rows),
          stride(panel_stride(rows)),
          input(network, rows, 1, false),
          packing(InputBatch::pack_scratch_size(network, nullptr), AlignedBuffer::kUninitialized) {
        std::size_t panels = 0;
        for (const Layer& layer : network.layers()) panels = std::max(panels, layer.panels());
        current = AlignedBuffer(panels * stride);
        next = AlignedBuffer(panels * stride);
        if (network.words() == Words::kBfloat16Pairs) pairs = AlignedBuffer((panels + 1) / 2 * stride);
        for (const Layer& layer : network.layers())
            if (layer.batch_norm && folded.size() == 0) folded = AlignedBuffer(2 * panels * kPanel);
    }

    std::uint64_t network_id;
    std::size_t rows;
    std::size_t stride;
    InputBatch input;
    AlignedBuffer packing;
    AlignedBuffer current, next;
    AlignedBuffer pairs;   // of current's columns
    AlignedBuffer folded;  // shift and scale of a layer with batch normalisation
};

// Scratch for a few rows takes longer to make than to use, so each thread keeps the one it used last.
constexpr std::size_t kFewRows = 8;

Scratch& kept_scratch(const Network& network, std::size_t rows) {
    thread_local std::unique_ptr<Scratch> kept;
    if (kept == nullptr || kept->network_id != network.id() || kept->rows != rows)
        kept = std::make_unique<Scratch>(network, rows);
    return *kept;
}

// The output of layer l - 1 as a left operand.
ConstPanels operand_of(const Network& network, std::size_t l, std::size_t rows, Scratch& scratch) {
    if (network.words() == Words::kFloats) return {scratch.current.data(), scratch.stride};
    network.kernels().pair(scratch.current.data(), scratch.stride, rows, network.layers()[l - 1].panels(),
                           {scratch.pairs.data(), scratch.stride, nullptr, 0});
    return {scratch.pairs.data(), scratch.stride};
}

struct LookAtNone {
    void operator()(std::size_t, std::size_t, ConstPanels) const {}
};

// Leaves the output of n_layers layers in scratch.current. Returns whether all input was finite. Calls
// look(l, n_rows, output) with what each layer l gives for these rows.
template <class Look = LookAtNone>
bool forward_rows(const Network& network, const Inputs& inputs, std::size_t n_layers, Range rows, Scratch& scratch,
                  Look look = {}) {
    const KernelTable& kernels = network.kernels();
    const bool finite =
        scratch.input.pack(inputs.from(rows.begin), nullptr, 0, {{0, rows.size()}}, scratch.packing.data());
    InputBatch::fetch(inputs, nullptr, {rows.end, inputs.n_samples});  // which this thread will mostly take next
    for (std::size_t l = 0; l < n_layers; ++l) {
        const Layer& layer = network.layers()[l];
        const Range panels{0, layer.panels()};
        if (l == 0) {
            scratch.input.multiply(0, network.weight_operand(layer), layer.n_outputs,
                                   {scratch.current.data(), scratch.stride}, panels);
        } else {
            multiply(kernels, network.words(), operand_of(network, l, rows.size(), scratch),
                     network.weight_operand(layer), layer.n_outputs, {scratch.next.data(), scratch.stride},
                     {0, rows.size()}, panels, n_words(network.words(), layer.n_inputs));
            std::swap(scratch.current, scratch.next);
        }
        const float* biases = network.parameters().data() + layer.biases;
        const float* scales = nullptr;
        if (layer.batch_norm) {
            const float* arena = network.parameters().data();
            float* const shifts = scratch.folded.data();
            float* const factors = shifts + layer.panels() * kPanel;
            kernels.fold_batch_norm(arena + layer.bias_row(kShift), arena + layer.bias_row(kScale),
                                    arena + layer.bias_row(kMean), arena + layer.bias_row(kVariance), layer.panels(),
                                    shifts, factors);
            biases = shifts;
            scales = factors;
        }
        kernels.bias_activation({scratch.current.data(), scratch.stride, rows.size(), layer.panels(), biases,
                                 l == 0 ? inputs.scale() : 1.0f, layer.activation,
                                 l + 1 < n_layers ? network.rounding() : Rounding::kNone, nullptr, scales});
        look(l, rows.size(), ConstPanels{scratch.current.data(), scratch.stride});
    }
    return finite;
}

std::size_t threads_for(const Network& network, std::size_t n_samples, std::size_t threads) {
    return threads_worth(network.forward_work() * static_cast<double>(n_samples), threads);
}

constexpr std::size_t kAllFinite = SIZE_MAX;

// The first of these rows with an output that is not finite, or kAllFinite.
std::size_t first_non_finite_output(ConstPanels outputs, std::size_t rows, std::size_t n_outputs) {
    // As integers, the bits of magnitudes are in the same order. Padding is looked at too: it may overflow alone.
    std::int32_t largest = 0;
    for (std::size_t panel = 0; panel < n_panels(n_outputs); ++panel)
        for (std::size_t i = 0; i < rows * kPanel; ++i)
            largest = std::max(largest, std::bit_cast<std::int32_t>(outputs.at(0, panel)[i]) & 0x7fffffff);
    if (largest < std::bit_cast<std::int32_t>(std::numeric_limits<float>::infinity())) return kAllFinite;
    for (std::size_t row = 0; row < rows; ++row)
        for (std::size_t c = 0; c < n_outputs; ++c)
            if (!std::isfinite(outputs.at(row, c / kPanel)[c % kPanel])) return row;
    return kAllFinite;
}

// Calls sink(rows, panels) with the output of n_layers layers for blocks of rows, on several threads. sink returns the
// first of these rows that it finds to be not finite, or kAllFinite. look is for forward_rows.
template <class Sink, class Look = LookAtNone>
void for_each_block(const Network& network, const Inputs& inputs, std::size_t n_layers, std::size_t threads, Sink sink,
                    Look look = {}) {
    if (inputs.n_samples == 0) return;
    const KernelTable& kernels = network.kernels();
    const std::size_t block = std::min(kernels.row_block, inputs.n_samples);
    const std::size_t n_blocks = (inputs.n_samples + block - 1) / block;
    threads = std::min(threads_for(network, inputs.n_samples, threads), n_blocks);

    std::vector<Scratch> scratch;
    scratch.reserve(threads);
    for (std::size_t thread = 0; thread < threads; ++thread) scratch.emplace_back(network, block);

    const auto lock = network.lock_for_reading();
    std::atomic<bool> finite{true};
    std::atomic<std::size_t> first_bad{kAllFinite};
    Team team(threads);
    run_team(team, [&](std::size_t rank) {
        const FloatingPointScope scope(kernels);
        team.for_each(rank, n_blocks, [&](std::size_t task) {
            const Range rows = even_part(inputs.n_samples, task, n_blocks);
            if (!forward_rows(network, inputs, n_layers, rows, scratch[rank], look)) finite = false;
            const std::size_t bad = sink(rows, Panels{scratch[rank].current.data(), scratch[rank].stride});
            if (bad == kAllFinite) return;
            for (std::size_t first = first_bad; rows.begin + bad < first;)
                if (first_bad.compare_exchange_weak(first, rows.begin + bad)) break;
        });
    });
    if (!finite) throw NonFiniteInput(first_non_finite(inputs, network.operand_limit(), nullptr, inputs.n_samples));
    if (first_bad != kAllFinite) throw NonFiniteOutput(first_bad);
}

void find_largest(ConstPanels logits, std::size_t rows, std::size_t n_classes, std::int64_t* predictions) {
    for (std::size_t i = 0; i < rows; ++i) {
        std::size_t largest = 0;
        for (std::size_t c = 1; c < n_classes; ++c)
            if (logits.at(i, c / kPanel)[c % kPanel] > logits.at(i, largest / kPanel)[largest % kPanel]) largest = c;
        predictions[i] = static_cast<std::int64_t>(largest);
    }
}

}  // namespace

void forward(const Network& network, const Inputs& inputs, std::size_t n_layers, std::size_t threads, float* out) {
    const std::size_t n_outputs = network.layers()[n_layers - 1].n_outputs;
    for_each_block(network, inputs, n_layers, threads, [&](Range rows, Panels output) {
        network.kernels().unpack(output.data, output.stride, rows.size(), n_outputs, out + rows.begin * n_outputs,
                                 n_outputs);
        if (n_layers < network.layers().size()) return kAllFinite;
        return first_non_finite_output({output.data, output.stride}, rows.size(), n_outputs);
    });
}

void find_active_units(const Network& network, const Inputs& inputs, std::size_t n_layers, std::size_t threads,
                       bool* active) {
    std::vector<std::size_t> first_unit{0};  // of each layer
    for (std::size_t l = 0; l < n_layers; ++l) first_unit.push_back(first_unit.back() + network.layers()[l].n_outputs);
    std::fill_n(active, first_unit.back(), false);
    std::mutex mutex;
    const auto look = [&](std::size_t l, std::size_t n_rows, ConstPanels output) {
        const Layer& layer = network.layers()[l];
        std::vector<std::uint8_t> found(layer.panels() * kPanel);
        for (std::size_t panel = 0; panel < layer.panels(); ++panel) {
            const float* line = output.at(0, panel);
            for (std::size_t row = 0; row < n_rows; ++row, line += kPanel)
                for (std::size_t i = 0; i < kPanel; ++i) found[panel * kPanel + i] |= line[i] != 0.0f;
        }
        const std::lock_guard lock(mutex);
        for (std::size_t unit = 0; unit < layer.n_outputs; ++unit) active[first_unit[l] + unit] |= found[unit] != 0;
    };
    for_each_block(network, inputs, n_layers, threads, [](Range, Panels) { return kAllFinite; }, look);
}

namespace {

using InPlace = void (*)(float* outputs, std::size_t stride, std::size_t rows, std::size_t n_outputs);

void probabilities(const Network& network, const Inputs& inputs, std::size_t threads, InPlace function, float* out) {
    const std::size_t n_outputs = network.n_outputs();
    for_each_block(network, inputs, network.layers().size(), threads, [&](Range rows, Panels logits) {
        const std::size_t bad = first_non_finite_output({logits.data, logits.stride}, rows.size(), n_outputs);
        function(logits.data, logits.stride, rows.size(), n_outputs);
        network.kernels().unpack(logits.data, logits.stride, rows.size(), n_outputs, out + rows.begin * n_outputs,
                                 n_outputs);
        return bad;
    });
}

}  // namespace

void softmax(const Network& network, const Inputs& inputs, std::size_t threads, float* out) {
    probabilities(network, inputs, threads, network.kernels().softmax, out);
}

void sigmoid(const Network& network, const Inputs& inputs, std::size_t threads, float* out) {
    probabilities(network, inputs, threads, network.kernels().sigmoid, out);
}

bool softmax_of_few(const Network& network, const Inputs& inputs, float* out) {
    if (inputs.n_samples == 0 || inputs.n_samples > kFewRows || threads_for(network, inputs.n_samples, 2) > 1)
        return false;
    Scratch& scratch = kept_scratch(network, inputs.n_samples);
    const auto lock = network.try_lock_for_reading();
    if (!lock.owns_lock()) return false;
    const FloatingPointScope scope(network.kernels());
    if (!forward_rows(network, inputs, network.layers().size(), {0, inputs.n_samples}, scratch)) return false;
    network.kernels().softmax(scratch.current.data(), scratch.stride, inputs.n_samples, network.n_outputs());
    network.kernels().unpack(scratch.current.data(), scratch.stride, inputs.n_samples, network.n_outputs(), out,
                             network.n_outputs());
    // Softmax of a row with a logit that is not finite is NaN throughout.
    for (std::size_t i = 0; i < inputs.n_samples; ++i)
        if (std::isnan(out[i * network.n_outputs()])) return false;
    return true;
}

void evaluate(const Network& network, const Inputs& inputs, const Targets& targets, std::size_t threads, float* losses,
              std::int64_t* predictions) {
    const std::size_t n_classes = network.n_outputs();
    for_each_block(network, inputs, network.layers().size(), threads, [&](Range rows, Panels logits) {
        find_largest({logits.data, logits.stride}, rows.size(), n_classes, predictions + rows.begin);
        take_losses(network, {logits, rows.size(), nullptr}, targets.from(rows.begin, n_classes), 1.0f, Rounding::kNone,
                    losses + rows.begin);
        return kAllFinite;
    });
}

void evaluate_outputs(const Network& network, const Inputs& inputs, const Targets& targets, std::size_t threads,
                      float* losses, float* outputs) {
    const std::size_t n_outputs = network.n_outputs();
    for_each_block(network, inputs, network.layers().size(), threads, [&](Range rows, Panels output) {
        network.kernels().unpack(output.data, output.stride, rows.size(), n_outputs, outputs + rows.begin * n_outputs,
                                 n_outputs);
        take_losses(network, {output, rows.size(), nullptr}, targets.from(rows.begin, n_outputs), 1.0f, Rounding::kNone,
                    losses + rows.begin);
        return kAllFinite;
    });
}

}  // namespace fastmlp
