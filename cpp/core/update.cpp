#include "update.h"

#include <cmath>

#include "division.h"

namespace fastmlp {

namespace {

bool is_half(const Layer& layer, std::size_t panel) {
    return ends_in_half(columns_in({panel, panel + 1}, layer.n_outputs));
}

}  // namespace

WholeGradient::WholeGradient(const Network& network) : network_(network), gradient_(network.arena_size()) {
    std::size_t n = 0;
    for (const Layer& layer : network.layers()) {
        first_.push_back(n);
        n += (input_parts(layer, kChunkPanels) + layer.n_trained_bias_rows()) * layer.panels();
    }
    first_.push_back(n);
    squares_.resize(n);
}

void WholeGradient::take_squares_of_weights(std::size_t l, std::size_t chunk, Range rows, std::size_t panel,
                                            float scale) {
    const Layer& layer = network_.layers()[l];
    const float* lines = gradient_.data() + layer.weights + panel * layer.weights_stride() + rows.begin * kPanel;
    const double factor = scale;
    squares_[first_[l] + chunk * layer.panels() + panel] = factor * factor * sum_of_squares(lines, rows.size());
}

void WholeGradient::take_squares_of_biases(std::size_t l, std::size_t panel) {
    const Layer& layer = network_.layers()[l];
    for (std::size_t row = 0; row < layer.n_trained_bias_rows(); ++row)
        squares_[first_[l + 1] - (row + 1) * layer.panels() + panel] =
            sum_of_squares(gradient_.data() + layer.bias_row(row) + panel * kPanel, 1);
}

double WholeGradient::norm() const {
    double sum = 0.0;
    for (const double square : squares_) sum += square;
    return std::sqrt(sum);
}

double WholeGradient::sum_of_squares(const float* lines, std::size_t n_lines) const {
    double sums[kPanel] = {};
    network_.kernels().add_squares(lines, n_lines, sums);
    double sum = 0.0;
    for (const double lane : sums) sum += lane;
    return sum;
}

ParameterUpdate::ParameterUpdate(Network& network, const OptimizerSettings& settings, const StepCount& count,
                                 double learning_rate, const UpdatedArenas& arenas)
    : network_(network),
      kernels_(network.kernels()),
      settings_(settings),
      update_(make_update(settings, count, learning_rate)),
      arenas_(arenas),
      average_part_(settings.averages()
                        ? static_cast<float>((1.0 - settings.average_decay) / (1.0 - count.average_power))
                        : 0.0f) {}

bool ParameterUpdate::update_weights(const Layer& layer, Range rows, Range panels, ConstPanels gradient, float scale,
                                     bool far) {
    const std::size_t count = rows.size() * kPanel;
    const auto stride = static_cast<std::ptrdiff_t>(layer.weights_stride());
    const auto next_rows = static_cast<std::ptrdiff_t>(count) - static_cast<std::ptrdiff_t>(panels.size() - 1) * stride;
    bool finite = true;
    for (std::size_t panel = panels.begin; panel < panels.end; ++panel) {
        const std::size_t offset = layer.weights + panel * layer.weights_stride() + rows.begin * kPanel;
        finite &=
            optimize(offset, gradient.at(0, panel - panels.begin), count, scale,
                     network_.updated_operand(layer, rows.begin, panel), panel + 1 < panels.end ? stride : next_rows,
                     is_half(layer, panel), far && arenas_.average == nullptr);  // averaging reads them at once
        finite &= average(offset, count);
    }
    return finite;
}

bool ParameterUpdate::update_biases(const Layer& layer, std::size_t row, std::size_t panel, std::size_t n_panels,
                                    const float* gradient, float scale) {
    const std::size_t offset = layer.bias_row(row) + panel * kPanel;
    const bool finite = optimize(offset, gradient, n_panels * kPanel, scale, nullptr, 0, false);
    return average(offset, n_panels * kPanel) && finite;
}

bool ParameterUpdate::update_statistics(const Layer& layer, std::size_t panel, std::size_t n_panels, const float* mean,
                                        const float* variance) {
    constexpr float kPart = 0.1f;  // of the batch in the running statistics
    bool finite = true;
    const auto update_row = [&](std::size_t row, const float* of_batch) {
        const std::size_t offset = layer.bias_row(row) + panel * kPanel;
        finite &= kernels_.average(network_.parameters().data() + offset, of_batch, kPart, n_panels * kPanel);
        finite &= average(offset, n_panels * kPanel);
    };
    update_row(kMean, mean);
    update_row(kVariance, variance);
    return finite;
}

bool ParameterUpdate::keep_statistics(const Layer& layer, std::size_t panel, std::size_t n_panels) {
    bool finite = true;
    for (const std::size_t row : {kMean, kVariance})
        finite &= average(layer.bias_row(row) + panel * kPanel, n_panels * kPanel);
    return finite;
}

float ParameterUpdate::clip_scale(const WholeGradient& gradient) const {
    const double norm = gradient.norm();
    // Neither is a norm that is not a number below the limit: it must not pass as 1.
    return norm <= settings_.clip_norm ? 1.0f : static_cast<float>(settings_.clip_norm / norm);
}

bool ParameterUpdate::update_panel(const Layer& layer, std::size_t panel, const WholeGradient& gradient,
                                   float weights_scale, float biases_scale) {
    const std::size_t weights = layer.weights + panel * layer.weights_stride(), count = layer.n_inputs * kPanel;
    bool finite = optimize(weights, gradient.data() + weights, count, weights_scale,
                           network_.updated_operand(layer, 0, panel), kPanel * kPanel, is_half(layer, panel));
    if (settings_.limits_units()) limit_units(layer, panel);
    finite = average(weights, count) && finite;
    for (std::size_t row = 0; row < layer.n_trained_bias_rows(); ++row)
        finite &=
            update_biases(layer, row, panel, 1, gradient.data() + layer.bias_row(row) + panel * kPanel, biases_scale);
    return finite;
}

bool ParameterUpdate::optimize(std::size_t offset, const float* gradient, std::size_t count, float scale,
                               float* operand, std::ptrdiff_t next, bool half, bool streams) {
    Update scaled = update_;
    scaled.gradient_scale = scale;
    scaled.prefetch = next;
    scaled.streams = streams;
    scaled.half = half;
    const auto apply = settings_.kind == OptimizerSettings::Kind::kAdam ? kernels_.adam : kernels_.sgd;
    return apply(scaled, gradient,
                 {network_.parameters().data() + offset, arenas_.first_moment + offset,
                  arenas_.second_moment == nullptr ? nullptr : arenas_.second_moment + offset, operand},
                 count);
}

bool ParameterUpdate::average(std::size_t offset, std::size_t count) {
    if (arenas_.average == nullptr) return true;
    return kernels_.average(arenas_.average + offset, network_.parameters().data() + offset, average_part_, count);
}

// Srivastava et al. (2014), section 5.1: a unit whose incoming weights have grown too long gets them back at the limit.
void ParameterUpdate::limit_units(const Layer& layer, std::size_t panel) {
    float* weights = network_.parameters().data() + layer.weights + panel * layer.weights_stride();
    double squares[kPanel] = {};
    kernels_.add_squares(weights, layer.n_inputs, squares);
    alignas(64) float factors[kPanel];
    bool all_within = true;
    for (std::size_t unit = 0; unit < kPanel; ++unit) {
        const double norm = std::sqrt(squares[unit]);
        const bool within = norm <= settings_.max_norm;
        factors[unit] = within ? 1.0f : static_cast<float>(settings_.max_norm / norm);
        all_within = all_within && within;
    }
    if (all_within) return;
    kernels_.scale_columns(weights, layer.n_inputs, factors);
    network_.refresh_operand(layer, panel);
}

}  // namespace fastmlp
