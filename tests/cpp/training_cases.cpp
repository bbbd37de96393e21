// Whole training steps through cpp/core. What they compute is checked in Python against a float64 oracle; here it is
// that the bits depend neither on the number of threads nor on the cache nor, as the hashes show, on the instruction
// set.
#include "training_cases.h"

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <string>
#include <utility>
#include <vector>

#include "../../cpp/core/data.h"
#include "../../cpp/core/network.h"
#include "../../cpp/core/parallel.h"
#include "../../cpp/core/predictor.h"
#include "../../cpp/core/trainer.h"
#include "report.h"

namespace fastmlp::test {
namespace {

struct Recipe {
    std::string name;
    std::vector<std::size_t> layer_sizes;
    std::vector<Activation> activations = {};
    Rounding rounding = Rounding::kNone;
    OptimizerSettings::Kind optimizer = OptimizerSettings::Kind::kAdam;
    bool pixels = true;  // else floats
    bool labels = true;  // else probabilities
    std::size_t batch_size = 0;
    unsigned zero_eighths = 0;         // of the input of a sparse sample
    bool dense_samples_first = false;  // else all are sparse: the first half of each batch has no zeros
    bool work_for_seven = false;       // large enough for each of seven threads to have work
    Loss loss = Loss::kSoftmaxCrossEntropy;
    bool weighted = false;
    float label_smoothing = 0.0f;
    bool around = false;  // the gradient is clipped, units are limited, weights are averaged
    std::vector<double> dropout = {};
};

constexpr std::size_t kSamples = 211;
constexpr std::size_t kSteps = 4;

// Odd sizes, each activation, both kinds of input, target and optimiser; small batches and others (kSmallBatch).
std::vector<Recipe> recipes() {
    using enum Activation;
    using enum OptimizerSettings::Kind;
    const std::vector<std::size_t> wide{301, 131, 67, 11}, odd{37, 29, 23, 17, 7};
    return {
        {.name = "wide", .layer_sizes = wide, .activations = {kRelu, kGelu}, .batch_size = 131, .work_for_seven = true},
        {.name = "wide_sparse",
         .layer_sizes = wide,
         .activations = {kRelu, kRelu},
         .batch_size = 131,
         .zero_eighths = 6,
         .work_for_seven = true},
        {.name = "wide_part_sparse",
         .layer_sizes = wide,
         .activations = {kRelu, kTanh},
         .batch_size = 301,
         .zero_eighths = 6,
         .dense_samples_first = true,
         .work_for_seven = true},
        {.name = "long_sparse",
         .layer_sizes = {1301, 19, 5},
         .activations = {kRelu},
         .optimizer = kSgd,
         .pixels = false,
         .batch_size = 45,
         .zero_eighths = 7},
        {.name = "odd",
         .layer_sizes = odd,
         .activations = {kTanh, kSigmoid, kLeakyRelu},
         .optimizer = kSgd,
         .pixels = false,
         .labels = false,
         .batch_size = 33},
        {.name = "wider_than_neighbours",
         .layer_sizes = {37, 261, 131, 29},
         .activations = {kGelu, kRelu},
         .batch_size = 131,
         .work_for_seven = true,
         .dropout = {0.0, 0.5, 0.2}},
        {.name = "mixed_bfloat16_wider_than_neighbours",
         .layer_sizes = {20, 119, 5},
         .activations = {kTanh},
         .rounding = Rounding::kBfloat16,
         .pixels = false,
         .batch_size = 67},
        {.name = "shallow", .layer_sizes = {19, 3}, .pixels = false, .batch_size = 1},
        {.name = "one_class", .layer_sizes = {5, 4, 1}, .activations = {kIdentity}, .batch_size = 7},
        {.name = "mixed_bfloat16",
         .layer_sizes = {301, 131, 11},
         .activations = {kRelu},
         .rounding = Rounding::kBfloat16,
         .batch_size = 131},
        {.name = "mixed_bfloat16_part_sparse",
         .layer_sizes = wide,
         .activations = {kRelu, kGelu},
         .rounding = Rounding::kBfloat16,
         .pixels = false,
         .batch_size = 301,
         .zero_eighths = 6,
         .dense_samples_first = true,
         .work_for_seven = true},
        {.name = "mixed_bfloat16_odd",
         .layer_sizes = odd,
         .activations = {kTanh, kSigmoid, kLeakyRelu},
         .rounding = Rounding::kBfloat16,
         .optimizer = kSgd,
         .labels = false,
         .batch_size = 33,
         .zero_eighths = 6},
        {.name = "multi_label",
         .layer_sizes = {37, 29, 19},
         .activations = {kTanh},
         .optimizer = kSgd,
         .pixels = false,
         .labels = false,
         .batch_size = 33,
         .loss = Loss::kSigmoidCrossEntropy},
        {.name = "weighted",
         .layer_sizes = {37, 29, 19},
         .activations = {kRelu},
         .batch_size = 33,
         .weighted = true,
         .label_smoothing = 0.1f},
        {.name = "regression",
         .layer_sizes = {37, 29, 19},
         .activations = {kGelu},
         .pixels = false,
         .labels = false,
         .batch_size = 33,
         .loss = Loss::kSquaredError},
        {.name = "around",
         .layer_sizes = wide,
         .activations = {kRelu, kTanh},
         .batch_size = 131,
         .zero_eighths = 6,
         .dense_samples_first = true,
         .work_for_seven = true,
         .around = true},
        {.name = "mixed_bfloat16_around",
         .layer_sizes = odd,
         .activations = {kTanh, kSigmoid, kLeakyRelu},
         .rounding = Rounding::kBfloat16,
         .optimizer = kSgd,
         .pixels = false,
         .batch_size = 33,
         .around = true},
        {.name = "dropout_part_sparse",
         .layer_sizes = wide,
         .activations = {kRelu, kGelu},
         .batch_size = 131,
         .zero_eighths = 5,
         .dense_samples_first = true,
         .work_for_seven = true,
         .dropout = {0.2, 0.5, 0.25}},
        {.name = "dropout_odd",
         .layer_sizes = odd,
         .activations = {kTanh, kSigmoid, kLeakyRelu},
         .optimizer = kSgd,
         .pixels = false,
         .labels = false,
         .batch_size = 33,
         .dropout = {0.1, 0.3, 0.0, 0.9}},
        {.name = "mixed_bfloat16_dropout",
         .layer_sizes = {301, 131, 11},
         .activations = {kRelu},
         .rounding = Rounding::kBfloat16,
         .pixels = false,
         .batch_size = 131,
         .dropout = {0.5, 0.5}},
    };
}

// The caller's arrays.
struct Samples {
    explicit Samples(const Recipe& recipe) {
        Random random(7);
        const std::size_t n_features = recipe.layer_sizes.front(), n_classes = recipe.layer_sizes.back();
        std::uint64_t patch = 0;  // zeros come in patches, as in images
        for (std::size_t i = 0; i < kSamples * n_features; ++i) {
            if (i % 4 == 0) patch = random.below(8);
            const bool dense = recipe.dense_samples_first && i / n_features % 2 == 0;
            const bool zero = !dense && patch < recipe.zero_eighths;
            const auto pixel = static_cast<std::uint8_t>(random.below(256));
            const float value = random.symmetric();
            pixels.push_back(zero ? 0 : pixel);
            values.push_back(zero ? 0.0f : value);
        }
        for (std::size_t i = 0; i < kSamples; ++i) {
            labels.push_back(static_cast<std::int64_t>(i % n_classes));
            for (std::size_t j = 0; j < n_classes; ++j)  // three quarters for one class, the rest for the next
                probabilities.push_back((j == i % n_classes ? 0.75f : 0.0f) +
                                        (j == (i + 1) % n_classes ? 0.25f : 0.0f));
        }
        inputs = {recipe.pixels ? pixels.data() : nullptr, recipe.pixels ? nullptr : values.data(), kSamples,
                  n_features};
        for (std::size_t i = 0; i < kSamples; ++i) weights.push_back(0.25f * static_cast<float>(i % 5));
        targets = {recipe.labels ? labels.data() : nullptr, recipe.labels ? nullptr : probabilities.data(),
                   recipe.weighted ? weights.data() : nullptr, recipe.label_smoothing};
        for (std::size_t s = 0; s < kSteps; ++s) {
            // The last batch is a smaller one.
            const std::size_t size = s + 1 < kSteps ? recipe.batch_size : (recipe.batch_size + 1) / 2;
            for (std::size_t i = 0; i < size; ++i) {
                const std::size_t pick =
                    random.below(kSamples / 2) * 2 + (i < size / 2 ? 0 : 1);  // dense ones are even
                order.push_back(static_cast<std::int64_t>(recipe.dense_samples_first ? pick : random.below(kSamples)));
            }
            offsets.push_back(static_cast<std::int64_t>(order.size()));
        }
    }
    Samples(const Samples&) = delete;
    Samples& operator=(const Samples&) = delete;

    std::vector<std::uint8_t> pixels;
    std::vector<float> values;
    std::vector<std::int64_t> labels;
    std::vector<float> probabilities;
    std::vector<float> weights;
    std::vector<std::int64_t> order;
    std::vector<std::int64_t> offsets{0};
    std::vector<double> learning_rates = std::vector<double>(kSteps, 0.01);
    Inputs inputs;
    Targets targets;
};

void start(Network& network) {
    Random random(11);
    for (const Layer& layer : network.layers()) {
        std::vector<float> weights(layer.n_inputs * layer.n_outputs), biases(layer.n_outputs);
        for (float& w : weights) w = 0.125f * random.symmetric();
        for (float& b : biases) b = 0.125f * random.symmetric();
        network.write_layer(layer, weights.data(), biases.data());
    }
    network.refresh_operands();
}

void append(std::vector<float>& all, const std::vector<float>& more) {
    all.insert(all.end(), more.begin(), more.end());
}

std::vector<float> parameters_of(const Network& network) {
    std::vector<float> all;
    for (const Layer& layer : network.layers()) {
        std::vector<float> weights(layer.n_inputs * layer.n_outputs), biases(layer.n_outputs);
        network.read_weights(layer, weights.data());
        network.read_biases(layer, biases.data());
        append(all, weights);
        append(all, biases);
    }
    return all;
}

// Losses, parameters, and what the trained net says of the samples, all as one row of numbers.
std::vector<float> train(const KernelTable& table, const Recipe& recipe, std::size_t threads, Item& item) {
    const Samples samples(recipe);
    Network network(recipe.layer_sizes, recipe.activations, recipe.rounding, table, recipe.loss);
    start(network);
    Trainer trainer(network);
    OptimizerSettings settings{.kind = recipe.optimizer, .momentum = 0.5};
    if (recipe.around) {
        settings.clip_norm = 0.05;
        settings.max_norm = 0.5;
        settings.average_decay = 0.75;
    }
    trainer.set_optimizer(settings);
    if (!recipe.dropout.empty()) trainer.set_dropout(Dropout(5, recipe.dropout));
    const RunResult result = trainer.run(
        samples.inputs, samples.targets,
        {samples.order.data(), samples.offsets.data(), samples.learning_rates.data(), kSteps, {}}, threads, true);

    item.require(result.losses.size() == kSteps, "did not do every step");
    const bool serial = std::string(parallel_runtime()) == "none";
    item.require(result.team_size == (serial ? 1 : threads), "the team has another size than asked for");
    if (recipe.work_for_seven)
        item.require(std::ranges::all_of(result.tasks_per_thread, [](std::size_t tasks) { return tasks > 0; }),
                     "a thread had no work");

    std::vector<float> outcome = result.losses;
    append(outcome, result.right);
    append(outcome, parameters_of(network));
    std::vector<float> probabilities(kSamples * recipe.layer_sizes.back());
    softmax(network, samples.inputs, threads, probabilities.data());
    append(outcome, probabilities);
    std::vector<float> losses(kSamples);
    std::vector<std::int64_t> predictions(kSamples);
    evaluate(network, samples.inputs, samples.targets, threads, losses.data(), predictions.data());
    append(outcome, losses);
    for (const std::int64_t prediction : predictions) outcome.push_back(static_cast<float>(prediction));
    return outcome;
}

bool same_bits(const std::vector<float>& a, const std::vector<float>& b) {
    return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0;
}

}  // namespace

void check_training(const KernelTable& table) {
    for (const Recipe& recipe : recipes()) {
        Item item(table.name, "train_" + recipe.name);
        const std::vector<float> outcome = train(table, recipe, 1, item);
        for (const float number : outcome) item.record(number);
        item.require(same_bits(train(table, recipe, 2, item), outcome), "the number of threads changed the bits");
        KernelTable of_other_cache = table;
        for (const auto& [threads, row_block] : {std::pair<std::size_t, std::size_t>{3, 192}, {7, 24}}) {
            of_other_cache.row_block = row_block;
            item.require(same_bits(train(of_other_cache, recipe, threads, item), outcome),
                         "the number of threads or the row blocks changed the bits");
        }
    }
}

}  // namespace fastmlp::test
