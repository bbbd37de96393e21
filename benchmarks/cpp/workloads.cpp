#include "workloads.h"

#include <algorithm>
#include <cstdint>
#include <memory>
#include <numeric>
#include <utility>

#include "../../cpp/core/aligned_buffer.h"
#include "../../cpp/core/data.h"
#include "../../cpp/core/division.h"
#include "../../cpp/core/floating_point.h"
#include "../../cpp/core/gemm.h"
#include "../../cpp/core/input_batch.h"
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

 private:
    std::size_t rows_, columns_;
    AlignedBuffer buffer_;
};

enum class Left { kDense, kImages };

// What products multiply where this says so: in bfloat16, pairs if the set has products of these, else floats.
Words words_of(const KernelTable& kernels, Rounding rounding) {
    const bool in_pairs = rounding == Rounding::kBfloat16 && kernels.pair_products.multiply != nullptr;
    return in_pairs ? Words::kBfloat16Pairs : Words::kFloats;
}

// The operands of a product and its result.
struct Operands {
    Operands(std::size_t a_rows, std::size_t a_columns, std::size_t b_rows, std::size_t b_columns, std::size_t c_rows,
             std::size_t c_columns)
        : a(a_rows, a_columns), b(b_rows, b_columns), c(c_rows, c_columns) {
        a.fill_randomly();
        b.fill_randomly();
    }

    Workload workload(double flops, Words words) const {
        Workload workload;
        workload.flops = workload.executed_flops = flops;
        workload.in_bfloat16 = words == Words::kBfloat16Pairs;
        return workload;
    }

    Matrix a, b, c;
    AlignedBuffer scratch;
};

// outputs = inputs weights, in blocks of rows, as a training step does it.
Workload forward_product(const KernelTable& kernels, Rounding rounding, std::size_t rows, std::size_t depth,
                         std::size_t columns) {
    const Words words = words_of(kernels, rounding);
    const std::size_t word_depth = n_words(words, depth);
    const auto of = std::make_shared<Operands>(rows, word_depth, word_depth, columns, rows, columns);
    Workload workload = of->workload(flops_of(rows, depth, columns), words);
    workload.run = [=, &kernels] {
        const FloatingPointScope scope(kernels);
        const std::size_t parts = (rows + kernels.row_block - 1) / kernels.row_block;
        for (std::size_t part = 0; part < parts; ++part)
            multiply(kernels, words, std::as_const(of->a).all(), std::as_const(of->b).all(), columns, of->c.all(),
                     even_part(rows, part, parts), {0, n_panels(columns)}, word_depth);
    };
    return workload;
}

// Calls f(input panels, output panels) for each tile of d_weights that a training step makes at a time.
template <class F>
void for_each_gradient_tile(const KernelTable& kernels, std::size_t n_inputs, std::size_t n_outputs, F f) {
    const std::size_t inputs = kernels.gradient_input_panels, outputs = kGradientOutputPanels;
    for (std::size_t in = 0; in < n_panels(n_inputs); in += inputs)
        for (std::size_t out = 0; out < n_panels(n_outputs); out += outputs)
            f(Range{in, std::min(in + inputs, n_panels(n_inputs))},
              Range{out, std::min(out + outputs, n_panels(n_outputs))});
}

// d_weights = inputs' deltas.
Workload gradient_product(const KernelTable& kernels, Rounding rounding, std::size_t n_inputs, std::size_t batch,
                          std::size_t n_outputs) {
    const Words words = words_of(kernels, rounding);
    const std::size_t depth = n_words(words, batch);
    const auto of = std::make_shared<Operands>(depth, n_inputs, depth, n_outputs,
                                               kernels.gradient_input_panels * kPanel, kGradientOutputPanels * kPanel);
    Workload workload = of->workload(flops_of(n_inputs, batch, n_outputs), words);
    workload.run = [=, &kernels] {
        const FloatingPointScope scope(kernels);
        for_each_gradient_tile(kernels, n_inputs, n_outputs, [&](Range in, Range out) {
            multiply_transposed(kernels, words, std::as_const(of->a).all(), std::as_const(of->b).all(), of->c.all(), in,
                                out, n_outputs, n_inputs, {0, depth}, false);
        });
    };
    return workload;
}

// d_inputs = deltas weights'.
Workload backward_product(const KernelTable& kernels, Rounding rounding, std::size_t batch, std::size_t n_outputs,
                          std::size_t n_inputs) {
    const Words words = words_of(kernels, rounding);
    const auto of = std::make_shared<Operands>(batch, n_words(words, n_outputs), n_words(words, n_inputs), n_outputs,
                                               batch, n_inputs);
    of->scratch = AlignedBuffer(transposed_scratch_size(kernels));
    Workload workload = of->workload(flops_of(batch, n_outputs, n_inputs), words);
    workload.run = [=, &kernels] {
        const FloatingPointScope scope(kernels);
        multiply_by_transposed(kernels, words, std::as_const(of->a).all(), std::as_const(of->b).all(), n_inputs,
                               n_outputs, of->c.all(), {0, batch}, {0, n_panels(n_inputs)}, of->scratch.data());
    };
    return workload;
}

std::vector<std::int64_t> rows_in_disorder(const KernelTable& kernels, std::size_t n) {
    std::vector<std::int64_t> order(n);
    permutation(kernels, {2026, 3, 0}, n, order.data());
    return order;
}

std::vector<std::int64_t> some_labels(std::size_t n) {
    std::vector<std::int64_t> labels(n);
    for (std::size_t i = 0; i < n; ++i) labels[i] = static_cast<std::int64_t>(i % kClasses);
    return labels;
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
            network.write_layer(network.parameters(), layer, weights.data(), biases.data());
        }
        network.refresh_operands();
    }

    double forward_flops() const { return 2.0 * network.forward_work() * static_cast<double>(inputs.n_samples); }

    Network network;
    std::vector<std::uint8_t> pixels;
    std::vector<float> values;
    std::vector<std::int64_t> labels;
    Inputs inputs;
};

// A kernel that goes once over its arrays. in_place: bytes that it both reads and writes.
Workload streaming(double read, double written, double in_place, std::function<void()> run) {
    Workload workload;
    workload.traffic = read + written + 2.0 * in_place;
    workload.footprint = read + written + in_place;
    workload.run = std::move(run);
    return workload;
}

// The first layer's input, packed in parts as a training step does it, and what its products take.
struct FirstLayer {
    FirstLayer(const KernelTable& kernels, Left left, std::size_t samples, Rounding rounding)
        : lesson(kernels, left, samples, rounding),
          order(rows_in_disorder(kernels, samples)),
          parts((samples + kernels.row_block - 1) / kernels.row_block),
          input(lesson.network, samples, parts, true),
          scratch(InputBatch::pack_scratch_size(lesson.network, nullptr)),
          z(samples, kHidden),
          deltas(n_words(lesson.network.words(), samples), kHidden),
          gradient(kernels.gradient_input_panels * kPanel, kGradientOutputPanels * kPanel) {
        deltas.fill_randomly();
        pack();
    }

    void pack() {
        for (std::size_t part = 0; part < parts; ++part)
            input.pack(lesson.inputs, order.data(), part, {even_part(order.size(), part, parts, 2)}, scratch.data());
    }
    void multiply() {
        for (std::size_t part = 0; part < parts; ++part)
            input.multiply(part, lesson.network.weight_operand(lesson.network.layers().front()), kHidden, z.all(),
                           {0, n_panels(kHidden)});
    }
    void multiply_transposed() {
        for_each_gradient_tile(lesson.network.kernels(), kPixels, kHidden, [&](Range in, Range out) {
            input.multiply_transposed(parts, std::as_const(deltas).all(), kHidden, gradient.all(), in, out);
        });
    }

    // Elements that are left when those of `group` neighbouring columns are skipped together or not at all.
    double listed(std::size_t group) const {
        std::size_t count = 0;
        for (std::size_t i = 0; i < lesson.pixels.size(); i += group) {
            const auto first = lesson.pixels.begin() + static_cast<std::ptrdiff_t>(i);
            if (std::any_of(first, first + static_cast<std::ptrdiff_t>(group), [](auto p) { return p != 0; }))
                count += group;
        }
        return static_cast<double>(count);
    }

    Lesson lesson;
    std::vector<std::int64_t> order;
    std::size_t parts;
    InputBatch input;
    AlignedBuffer scratch;
    Matrix z, deltas, gradient;
};

Workload first_layer_product(const KernelTable& kernels, Rounding rounding, std::size_t batch,
                             void (FirstLayer::*multiply)(), std::size_t group) {
    const auto layer = std::make_shared<FirstLayer>(kernels, Left::kImages, batch, rounding);
    Workload workload;
    workload.flops = flops_of(batch, kPixels, kHidden);
    workload.in_bfloat16 = layer->lesson.network.words() == Words::kBfloat16Pairs;
    if (!workload.in_bfloat16)  // whose lists have pairs
        workload.executed_flops = 2.0 * static_cast<double>(kHidden) * layer->listed(group);
    workload.run = [=, &kernels] {
        const FloatingPointScope scope(kernels);
        ((*layer).*multiply)();
    };
    return workload;
}

Workload packing(const KernelTable& kernels, Left left, Rounding rounding, std::size_t batch) {
    const auto layer = std::make_shared<FirstLayer>(kernels, left, batch, rounding);
    const double read = static_cast<double>(layer->lesson.pixels.size()) + bytes_of_floats(layer->lesson.values.size());
    // Written are the words that are not 0, and lists of them; taken as one float for each element, it is the same
    // amount for all ways of packing.
    return streaming(read, bytes_of_floats(batch * kPixels), 0, [=, &kernels] {
        const FloatingPointScope scope(kernels);
        layer->pack();
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

Workload training_step(const KernelTable& kernels, Left left, std::size_t batch, Rounding rounding) {
    struct Training {
        Training(const KernelTable& table, Left which, std::size_t samples, Rounding operands)
            : lesson(table, which, samples, operands),
              trainer(lesson.network),
              order(rows_in_disorder(table, samples)) {}
        Lesson lesson;
        Trainer trainer;
        std::vector<std::int64_t> order;
    };
    const auto training = std::make_shared<Training>(kernels, left, batch, rounding);
    Workload workload;
    // Three products for each weight, but no gradient of pixels.
    const double first_layer = flops_of(batch, kPixels, kHidden);
    workload.flops = 3.0 * training->lesson.forward_flops() - first_layer;
    workload.in_bfloat16 = training->lesson.network.words() == Words::kBfloat16Pairs;
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

namespace {

using Table = const KernelTable&;

std::string joined(const std::string& name, std::size_t rows, std::size_t columns) {
    return name + "_" + std::to_string(rows) + "x" + std::to_string(columns);
}

Recipe step_recipe(const std::string& name, Left left, std::size_t batch, Rounding rounding) {
    return {name + "_" + std::to_string(batch),
            [=](Table table) { return training_step(table, left, batch, rounding); }};
}

// Products and packing of the lesson's net; a suffix for the names says in which precision.
std::vector<Recipe> product_recipes(std::size_t n, Rounding rounding, const std::string& suffix) {
    constexpr std::size_t kOne = 1;
    return {
        {joined("forward_dense" + suffix, n, kPixels, kHidden),
         [=](Table table) { return forward_product(table, rounding, n, kPixels, kHidden); }},
        {joined("forward_sparse" + suffix, n, kPixels, kHidden),
         [=](Table table) {
             const bool grouped = table.float_products.multiply_grouped != nullptr;
             return first_layer_product(table, rounding, n, &FirstLayer::multiply, grouped ? kListedColumns : kOne);
         }},
        {joined("gradient_dense" + suffix, kPixels, n, kHidden),
         [=](Table table) { return gradient_product(table, rounding, kPixels, n, kHidden); }},
        {joined("gradient_sparse" + suffix, kPixels, n, kHidden),
         [=](Table table) {
             return first_layer_product(table, rounding, n, &FirstLayer::multiply_transposed, kListedColumns);
         }},
        {joined("backward" + suffix, n, kClasses, kHidden),
         [=](Table table) { return backward_product(table, rounding, n, kClasses, kHidden); }},
        {joined("backward" + suffix, n, kHidden, kHidden),
         [=](Table table) { return backward_product(table, rounding, n, kHidden, kHidden); }},
        {joined("pack_sparse_uint8" + suffix, n, kPixels),
         [=](Table table) { return packing(table, Left::kImages, rounding, n); }},
        {joined("pack_dense_float" + suffix, n, kPixels),
         [=](Table table) { return packing(table, Left::kDense, rounding, n); }},
    };
}

}  // namespace

std::vector<Recipe> lesson_recipes(std::size_t batch_size) {
    const std::size_t n = batch_size;
    std::vector<Recipe> recipes = product_recipes(n, Rounding::kNone, "");
    for (Recipe& recipe : std::vector<Recipe>{
             {joined("bias_relu", n, kHidden),
              [=](Table table) { return bias_activation(table, n, Activation::kRelu); }},
             {joined("bias_gelu", n, kHidden),
              [=](Table table) { return bias_activation(table, n, Activation::kGelu); }},
             {joined("relu_backward", n, kHidden),
              [=](Table table) { return activation_backward(table, n, Activation::kRelu); }},
             {joined("softmax_cross_entropy", n, kClasses),
              [=](Table table) { return softmax_cross_entropy(table, n); }},
             {joined("adam", kPixels, kHidden),
              [](Table table) { return update(table, OptimizerSettings::Kind::kAdam); }},
             {joined("sgd", kPixels, kHidden),
              [](Table table) { return update(table, OptimizerSettings::Kind::kSgd); }},
             step_recipe("step_dense", Left::kDense, n, Rounding::kNone),
             step_recipe("step_sparse", Left::kImages, n, Rounding::kNone),
             step_recipe("step_dense_bfloat16", Left::kDense, n, Rounding::kBfloat16),
             step_recipe("step_sparse_bfloat16", Left::kImages, n, Rounding::kBfloat16),
             step_recipe("step_sparse", Left::kImages, kSmallBatch, Rounding::kNone),
             {"predict_1", [](Table table) { return prediction(table, 1); }},
             {"predict_" + std::to_string(kPredicted), [](Table table) { return prediction(table, kPredicted); }},
         })
        recipes.push_back(std::move(recipe));
    return recipes;
}

std::vector<Recipe> bfloat16_recipes(std::size_t batch_size) {
    return product_recipes(batch_size, Rounding::kBfloat16, "_bfloat16");
}

std::vector<Recipe> big_layer_recipes() {
    constexpr std::size_t kBatch = 256, kInputs = 2500, kOutputs = 2000;
    std::vector<Recipe> recipes;
    for (const Rounding rounding : {Rounding::kNone, Rounding::kBfloat16}) {
        const std::string suffix = rounding == Rounding::kNone ? "" : "_bfloat16";
        recipes.push_back({joined("forward_dense" + suffix, kBatch, kInputs, kOutputs),
                           [=](Table table) { return forward_product(table, rounding, kBatch, kInputs, kOutputs); }});
        recipes.push_back({joined("gradient_dense" + suffix, kInputs, kBatch, kOutputs),
                           [=](Table table) { return gradient_product(table, rounding, kInputs, kBatch, kOutputs); }});
        recipes.push_back({joined("backward" + suffix, kBatch, kOutputs, kInputs),
                           [=](Table table) { return backward_product(table, rounding, kBatch, kOutputs, kInputs); }});
    }
    return recipes;
}

}  // namespace fastmlp::benchmark
