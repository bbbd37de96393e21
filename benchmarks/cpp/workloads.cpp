#include "workloads.h"

#include <algorithm>
#include <cstdint>
#include <memory>
#include <numeric>
#include <utility>

#include "../../cpp/core/aligned_buffer.h"
#include "../../cpp/core/data.h"
#include "../../cpp/core/floating_point.h"
#include "../../cpp/core/gemm.h"
#include "../../cpp/core/network.h"
#include "../../cpp/core/optimizer.h"
#include "../../cpp/core/predictor.h"
#include "../../cpp/core/random.h"
#include "../../cpp/core/trainer.h"
#include "drawn_images.h"

namespace fastmlp::benchmark {

namespace {

constexpr std::size_t kHidden = 200, kClasses = 10;
constexpr std::size_t kSmallBatch = 32, kPredicted = 256;

double bytes_of_floats(std::size_t n) { return static_cast<double>(n * sizeof(float)); }

double flops_of(std::size_t rows, std::size_t depth, std::size_t columns) {
    return 2.0 * static_cast<double>(rows) * static_cast<double>(depth) * static_cast<double>(columns);
}

std::string joined(const std::string& name, std::size_t rows, std::size_t depth, std::size_t columns) {
    return name + "_" + std::to_string(rows) + "x" + std::to_string(depth) + "x" + std::to_string(columns);
}

// Element i of every array of random numbers, in (-1, 1). A few thousand different ones do, and soon repeat.
float number(std::size_t i) {
    constexpr std::size_t kPeriod = 4093;
    static const std::vector<float> all = [] {
        std::vector<float> table(kPeriod);
        for (std::size_t k = 0; k < kPeriod; ++k) table[k] = static_cast<float>(2.0 * uniform({2026, 2, 0}, k) - 1.0);
        return table;
    }();
    return all[i % kPeriod];
}

std::vector<float> numbers(std::size_t n) {
    std::vector<float> all(n);
    for (std::size_t i = 0; i < n; ++i) all[i] = number(i);
    return all;
}

class Matrix {
 public:
    Matrix(std::size_t rows, std::size_t columns)
        : rows_(rows), columns_(columns), buffer_(panel_matrix_size(rows, columns)) {}

    Panels all() { return {buffer_.data(), panel_stride(rows_)}; }
    ConstPanels all() const { return {buffer_.data(), panel_stride(rows_)}; }
    std::size_t size() const { return buffer_.size(); }

    template <class F>
    void fill(F f) {
        for (std::size_t i = 0; i < rows_; ++i)
            for (std::size_t j = 0; j < columns_; ++j) all().at(i, j / kPanel)[j % kPanel] = f(i, j);
    }
    void fill_randomly() {
        fill([&](std::size_t i, std::size_t j) { return number(i * columns_ + j); });
    }
    void fill_with_images() {
        const std::vector<std::uint8_t> images = drawn_images(rows_);
        fill([&](std::size_t i, std::size_t j) { return static_cast<float>(images[i * columns_ + j]); });
    }

 private:
    std::size_t rows_, columns_;
    AlignedBuffer buffer_;
};

enum class Left { kDense, kImages };

// A product's operands and result; the left one is what may hold zeros.
struct Operands {
    Operands(Left left, std::size_t a_rows, std::size_t a_columns, std::size_t b_rows, std::size_t b_columns,
             std::size_t c_rows, std::size_t c_columns)
        : a(a_rows, a_columns), b(b_rows, b_columns), c(c_rows, c_columns) {
        b.fill_randomly();
        if (left == Left::kImages)
            a.fill_with_images();
        else
            a.fill_randomly();
    }

    Workload workload(double flops, double executed_flops) const {
        Workload workload;
        workload.flops = flops;
        workload.executed_flops = executed_flops;
        workload.footprint = bytes_of_floats(a.size() + b.size() + c.size());
        workload.traffic = workload.footprint;
        return workload;
    }

    Matrix a, b, c;
    std::vector<NonZero> lists;
    AlignedBuffer scratch;
};

// Elements of a that are left when row_tile x column_tile of them are skipped together or not at all.
double listed(const Matrix& a, std::size_t rows, std::size_t columns, std::size_t row_tile, std::size_t column_tile) {
    std::size_t count = 0;
    for (std::size_t row = 0; row < rows; row += row_tile)
        for (std::size_t column = 0; column < columns; column += column_tile) {
            const std::size_t row_end = std::min(rows, row + row_tile);
            const std::size_t column_end = std::min(columns, column + column_tile);
            bool any = false;
            for (std::size_t i = row; i < row_end; ++i)
                for (std::size_t j = column; j < column_end; ++j) any |= a.all().at(i, j / kPanel)[j % kPanel] != 0.0f;
            if (any) count += (row_end - row) * (column_end - column);
        }
    return static_cast<double>(count);
}

// outputs = inputs weights, in blocks of rows, as a training step does it.
Workload forward_product(const KernelTable& kernels, Left left, std::size_t rows, std::size_t depth,
                         std::size_t columns) {
    const auto of = std::make_shared<Operands>(left, rows, depth, depth, columns, rows, columns);
    double executed = flops_of(rows, depth, columns);
    if (left == Left::kImages) {
        of->lists.resize(skip_lists_size(kernels));
        executed = 2.0 * static_cast<double>(columns) * listed(of->a, rows, depth, kernels.skip_rows, 1);
    }
    Workload workload = of->workload(flops_of(rows, depth, columns), executed);
    workload.run = [=, &kernels] {
        const FloatingPointScope scope(kernels);
        const std::size_t parts = (rows + kernels.row_block - 1) / kernels.row_block;
        for (std::size_t part = 0; part < parts; ++part)
            multiply(kernels, std::as_const(of->a).all(), std::as_const(of->b).all(), of->c.all(),
                     even_part(rows, part, parts), {0, n_panels(columns)}, depth,
                     of->lists.empty() ? nullptr : of->lists.data());
    };
    return workload;
}

// d_weights = inputs' deltas, in tiles of the result, as a training step does it.
Workload gradient_product(const KernelTable& kernels, Left left, std::size_t n_inputs, std::size_t batch,
                          std::size_t n_outputs) {
    constexpr std::size_t kInputPanels = 4, kOutputPanels = 16;
    const auto of = std::make_shared<Operands>(left, batch, n_inputs, batch, n_outputs, kInputPanels * kPanel,
                                               kOutputPanels * kPanel);
    double executed = flops_of(n_inputs, batch, n_outputs);
    if (left == Left::kImages) {
        of->lists.resize(skip_lists_size(kernels));
        executed = 2.0 * static_cast<double>(n_outputs) * listed(of->a, batch, n_inputs, 1, kPanel / kSkipLists);
    }
    Workload workload = of->workload(flops_of(n_inputs, batch, n_outputs), executed);
    workload.run = [=, &kernels] {
        const FloatingPointScope scope(kernels);
        for (std::size_t in = 0; in < n_panels(n_inputs); in += kInputPanels)
            for (std::size_t out = 0; out < n_panels(n_outputs); out += kOutputPanels)
                multiply_transposed(kernels, std::as_const(of->a).all(), std::as_const(of->b).all(), of->c.all(),
                                    {in, std::min(in + kInputPanels, n_panels(n_inputs))},
                                    {out, std::min(out + kOutputPanels, n_panels(n_outputs))}, n_inputs, batch,
                                    of->lists.empty() ? nullptr : of->lists.data());
    };
    return workload;
}

// d_inputs = deltas weights'.
Workload backward_product(const KernelTable& kernels, std::size_t batch, std::size_t n_outputs, std::size_t n_inputs) {
    const auto of = std::make_shared<Operands>(Left::kDense, batch, n_outputs, n_inputs, n_outputs, batch, n_inputs);
    of->scratch = AlignedBuffer(transposed_scratch_size(kernels));
    const double flops = flops_of(batch, n_outputs, n_inputs);
    Workload workload = of->workload(flops, flops);
    workload.run = [=, &kernels] {
        const FloatingPointScope scope(kernels);
        multiply_by_transposed(kernels, std::as_const(of->a).all(), std::as_const(of->b).all(), n_inputs, of->c.all(),
                               {0, batch}, {0, n_panels(n_inputs)}, n_outputs, of->scratch.data());
    };
    return workload;
}

// A kernel that goes once over its arrays. in_place: bytes that it both reads and writes.
Workload streaming(double read, double written, double in_place, std::function<void()> run) {
    Workload workload;
    workload.traffic = read + written + 2.0 * in_place;
    workload.footprint = read + written + in_place;
    workload.run = std::move(run);
    return workload;
}

std::vector<std::int64_t> rows_in_disorder(std::size_t n) {
    std::vector<std::int64_t> order(n);
    permutation({2026, 3, 0}, n, order.data());
    return order;
}

Workload pack_uint8(const KernelTable& kernels, std::size_t rows) {
    const auto images = std::make_shared<std::vector<std::uint8_t>>(drawn_images(rows));
    const auto order = std::make_shared<std::vector<std::int64_t>>(rows_in_disorder(rows));
    const auto out = std::make_shared<Matrix>(rows, kPixels);
    return streaming(static_cast<double>(images->size()), bytes_of_floats(out->size()), 0, [=, &kernels] {
        const FloatingPointScope scope(kernels);
        kernels.pack_uint8(images->data(), kPixels, order->data(), rows, kPixels, out->all().data, out->all().stride);
    });
}

Workload pack_float(const KernelTable& kernels, std::size_t rows) {
    const auto values = std::make_shared<std::vector<float>>(numbers(rows * kPixels));
    const auto order = std::make_shared<std::vector<std::int64_t>>(rows_in_disorder(rows));
    const auto out = std::make_shared<Matrix>(rows, kPixels);
    return streaming(bytes_of_floats(values->size()), bytes_of_floats(out->size()), 0, [=, &kernels] {
        const FloatingPointScope scope(kernels);
        kernels.pack_float(values->data(), kPixels, order->data(), rows, kPixels, Rounding::kNone, out->all().data,
                           out->all().stride);
    });
}

Workload bias_activation(const KernelTable& kernels, std::size_t rows, Activation activation) {
    const auto z = std::make_shared<Matrix>(rows, kHidden);
    const auto bias = std::make_shared<Matrix>(1, kHidden);
    z->fill_randomly();
    bias->fill_randomly();
    return streaming(0, 0, bytes_of_floats(z->size()), [=, &kernels] {
        const FloatingPointScope scope(kernels);
        kernels.bias_activation({z->all().data, z->all().stride, rows, n_panels(kHidden), bias->all().data, 0.5f,
                                 activation, Rounding::kNone, nullptr});
    });
}

Workload activation_backward(const KernelTable& kernels, std::size_t rows, Activation activation) {
    const auto delta = std::make_shared<Matrix>(rows, kHidden);
    const auto saved = std::make_shared<Matrix>(rows, kHidden);
    delta->fill_randomly();
    saved->fill_randomly();
    return streaming(bytes_of_floats(saved->size()), 0, bytes_of_floats(delta->size()), [=, &kernels] {
        const FloatingPointScope scope(kernels);
        kernels.activation_backward({delta->all().data, saved->all().data, delta->all().stride, rows, n_panels(kHidden),
                                     activation, Rounding::kNone});
    });
}

std::vector<std::int64_t> some_labels(std::size_t n) {
    std::vector<std::int64_t> labels(n);
    for (std::size_t i = 0; i < n; ++i) labels[i] = static_cast<std::int64_t>(i % kClasses);
    return labels;
}

Workload softmax_cross_entropy(const KernelTable& kernels, std::size_t rows) {
    const auto logits = std::make_shared<Matrix>(rows, kClasses);
    const auto labels = std::make_shared<std::vector<std::int64_t>>(some_labels(rows));
    const auto losses = std::make_shared<std::vector<float>>(rows);
    logits->fill_randomly();
    return streaming(0, 0, bytes_of_floats(logits->size()), [=, &kernels] {
        const FloatingPointScope scope(kernels);
        kernels.softmax_cross_entropy({logits->all().data, logits->all().stride, rows, kClasses, labels->data(),
                                       nullptr, nullptr, 1.0f / static_cast<float>(rows), Rounding::kNone,
                                       losses->data()});
    });
}

Workload update(const KernelTable& kernels, OptimizerSettings::Kind kind) {
    constexpr std::size_t n = kPixels * kHidden;
    struct Arrays {
        AlignedBuffer value{n}, first{n}, second{n}, gradient{n};
    };
    const auto arrays = std::make_shared<Arrays>();
    for (std::size_t i = 0; i < n; ++i) arrays->value.data()[i] = arrays->gradient.data()[i] = number(i);
    const OptimizerSettings settings{.kind = kind, .momentum = 0.9};
    StepCount count;
    count.advance(settings);
    const Update step = make_update(settings, count, 1e-6);
    const bool adam = kind == OptimizerSettings::Kind::kAdam;
    const auto kernel = adam ? kernels.adam : kernels.sgd;
    return streaming(bytes_of_floats(n), 0, bytes_of_floats(adam ? 3 * n : 2 * n), [=, &kernels] {
        const FloatingPointScope scope(kernels);
        kernel(step, arrays->gradient.data(),
               {arrays->value.data(), arrays->first.data(), adam ? arrays->second.data() : nullptr, nullptr}, n);
    });
}

// 784-200-10 with images, or as many random numbers, to train on or to predict.
struct Lesson {
    Lesson(const KernelTable& kernels, Left left, std::size_t samples, Rounding rounding)
        : network({kPixels, kHidden, kClasses}, {Activation::kRelu}, rounding, kernels), labels(some_labels(samples)) {
        if (left == Left::kImages)
            pixels = drawn_images(samples);
        else
            values = numbers(samples * kPixels);
        inputs = {pixels.empty() ? nullptr : pixels.data(), values.empty() ? nullptr : values.data(), samples, kPixels};
        for (const Layer& layer : network.layers()) {
            std::vector<float> weights = numbers(layer.n_inputs * layer.n_outputs), biases(layer.n_outputs);
            for (float& weight : weights) weight *= 0.1f;
            network.write_layer(layer, weights.data(), biases.data());
        }
        network.refresh_rounded_operands();
    }

    double forward_flops() const { return 2.0 * network.forward_work() * static_cast<double>(inputs.n_samples); }

    Network network;
    std::vector<std::uint8_t> pixels;
    std::vector<float> values;
    std::vector<std::int64_t> labels;
    Inputs inputs;
};

Workload training_step(const KernelTable& kernels, Left left, std::size_t batch, Rounding rounding) {
    struct Training {
        Training(const KernelTable& table, Left which, std::size_t samples, Rounding operands)
            : lesson(table, which, samples, operands), trainer(lesson.network), order(rows_in_disorder(samples)) {}
        Lesson lesson;
        Trainer trainer;
        std::vector<std::int64_t> order;
    };
    const auto training = std::make_shared<Training>(kernels, left, batch, rounding);
    Workload workload;
    // Three products for each weight, but no gradient of pixels.
    const double first_layer = flops_of(batch, kPixels, kHidden);
    workload.flops = 3.0 * training->lesson.forward_flops() - first_layer;
    workload.in_bfloat16 = rounding == Rounding::kBfloat16;
    workload.run = [training, batch] {
        // So small a rate that the net stays as it is.
        const std::int64_t offsets[] = {0, static_cast<std::int64_t>(batch)};
        const double learning_rate = 1e-9;
        training->trainer.run(training->lesson.inputs, {training->lesson.labels.data(), nullptr},
                              {training->order.data(), offsets, &learning_rate, 1}, 1, true);
    };
    workload.run();  // the first step gets the memory for all
    return workload;
}

Workload prediction(const KernelTable& kernels, std::size_t samples) {
    const auto lesson = std::make_shared<Lesson>(kernels, Left::kImages, samples, Rounding::kNone);
    const auto probabilities = std::make_shared<std::vector<float>>(samples * kClasses);
    Workload workload;
    workload.flops = lesson->forward_flops();
    workload.run = [=] { softmax(lesson->network, lesson->inputs, 1, probabilities->data()); };
    return workload;
}

}  // namespace

std::vector<Recipe> lesson_recipes(std::size_t batch_size) {
    const std::size_t n = batch_size;
    using Table = const KernelTable&;
    const auto step = [](const char* name, Left left, std::size_t batch, Rounding rounding) {
        return Recipe{std::string("step_") + name + "_" + std::to_string(batch),
                      [=](Table table) { return training_step(table, left, batch, rounding); }};
    };
    const auto streaming_recipe = [](const char* name, std::size_t rows, std::size_t columns, auto prepare) {
        return Recipe{std::string(name) + "_" + std::to_string(rows) + "x" + std::to_string(columns), prepare};
    };
    return {
        {joined("forward_dense", n, kPixels, kHidden),
         [=](Table table) { return forward_product(table, Left::kDense, n, kPixels, kHidden); }},
        {joined("forward_sparse", n, kPixels, kHidden),
         [=](Table table) { return forward_product(table, Left::kImages, n, kPixels, kHidden); }},
        {joined("gradient_dense", kPixels, n, kHidden),
         [=](Table table) { return gradient_product(table, Left::kDense, kPixels, n, kHidden); }},
        {joined("gradient_sparse", kPixels, n, kHidden),
         [=](Table table) { return gradient_product(table, Left::kImages, kPixels, n, kHidden); }},
        {joined("backward", n, kClasses, kHidden),
         [=](Table table) { return backward_product(table, n, kClasses, kHidden); }},
        {joined("backward", n, kHidden, kHidden),
         [=](Table table) { return backward_product(table, n, kHidden, kHidden); }},
        streaming_recipe("pack_uint8", n, kPixels, [=](Table table) { return pack_uint8(table, n); }),
        streaming_recipe("pack_float", n, kPixels, [=](Table table) { return pack_float(table, n); }),
        streaming_recipe("bias_relu", n, kHidden,
                         [=](Table table) { return bias_activation(table, n, Activation::kRelu); }),
        streaming_recipe("bias_gelu", n, kHidden,
                         [=](Table table) { return bias_activation(table, n, Activation::kGelu); }),
        streaming_recipe("relu_backward", n, kHidden,
                         [=](Table table) { return activation_backward(table, n, Activation::kRelu); }),
        streaming_recipe("softmax_cross_entropy", n, kClasses,
                         [=](Table table) { return softmax_cross_entropy(table, n); }),
        streaming_recipe("adam", kPixels, kHidden,
                         [](Table table) { return update(table, OptimizerSettings::Kind::kAdam); }),
        streaming_recipe("sgd", kPixels, kHidden,
                         [](Table table) { return update(table, OptimizerSettings::Kind::kSgd); }),
        step("dense", Left::kDense, n, Rounding::kNone),
        step("sparse", Left::kImages, n, Rounding::kNone),
        step("bfloat16_dense", Left::kDense, n, Rounding::kBfloat16),
        step("bfloat16_sparse", Left::kImages, n, Rounding::kBfloat16),
        step("sparse", Left::kImages, kSmallBatch, Rounding::kNone),
        {"predict_1", [](Table table) { return prediction(table, 1); }},
        {"predict_" + std::to_string(kPredicted), [](Table table) { return prediction(table, kPredicted); }},
    };
}

std::vector<Recipe> big_layer_recipes() {
    constexpr std::size_t kBatch = 256, kInputs = 2500, kOutputs = 2000;
    using Table = const KernelTable&;
    return {
        {joined("forward_dense", kBatch, kInputs, kOutputs),
         [](Table table) { return forward_product(table, Left::kDense, kBatch, kInputs, kOutputs); }},
        {joined("gradient_dense", kInputs, kBatch, kOutputs),
         [](Table table) { return gradient_product(table, Left::kDense, kInputs, kBatch, kOutputs); }},
        {joined("backward", kBatch, kOutputs, kInputs),
         [](Table table) { return backward_product(table, kBatch, kOutputs, kInputs); }},
    };
}

}  // namespace fastmlp::benchmark
