// What a step does with gradients: the optimiser's update, and around it clipping, limits of norms and the average.
#pragma once

#include <cstddef>
#include <vector>

#include "network.h"
#include "optimizer.h"

namespace fastmlp {

// Arenas in the layout of the parameters; null where they are not in use.
struct UpdatedArenas {
    float* first_moment;
    float* second_moment;
    float* average;
};

// The gradient of all parameters, for what needs it whole. Sums of squares are taken of chunks of a fixed size and
// added in a fixed order, so that a norm does not depend on how many threads made the gradient.
class WholeGradient {
 public:
    // A layer's weights are cut into chunks of the rows of at most so many panels of its inputs.
    static constexpr std::size_t kChunkPanels = 2;

    explicit WholeGradient(const Network& network);

    // An arena; to be written before the squares of a chunk are taken.
    float* data() { return gradient_.data(); }
    const float* data() const { return gradient_.data(); }

    // Of a panel: the weights of a chunk, which are these rows; and the biases. The gradient is what the arena holds,
    // times scale.
    void take_squares_of_weights(std::size_t l, std::size_t chunk, Range rows, std::size_t panel, float scale);
    void take_squares_of_biases(std::size_t l, std::size_t panel);

    // L2 norm of the gradient, when all squares have been taken.
    double norm() const;

 private:
    double sum_of_squares(const float* lines, std::size_t n_lines) const;

    const Network& network_;
    AlignedBuffer gradient_;
    std::vector<std::size_t> first_;  // of each layer's squares
    std::vector<double> squares_;     // chunk by chunk the weights of each panel, then the biases
};

// The update of one step, for one thread. Each method returns whether the parameters are finite afterwards.
class ParameterUpdate {
 public:
    ParameterUpdate(Network& network, const OptimizerSettings& settings, const StepCount& count, double learning_rate,
                    const UpdatedArenas& arenas);

    // Of these rows and panels of the weights, of which gradient holds the first at its beginning; and of a row of the
    // biases of n_panels panels. The gradient is multiplied by scale first. far: whether far threads will read the
    // weights; see Team::is_far.
    bool update_weights(const Layer& layer, Range rows, Range panels, ConstPanels gradient, float scale, bool far);
    bool update_biases(const Layer& layer, std::size_t row, std::size_t panel, std::size_t n_panels,
                       const float* gradient, float scale);
    // Of the running statistics of n_panels panels of a layer with batch normalisation, by those of a batch.
    bool update_statistics(const Layer& layer, std::size_t panel, std::size_t n_panels, const float* mean,
                           const float* variance);
    // Leaves them as they are, which averages take notice of.
    bool keep_statistics(const Layer& layer, std::size_t panel, std::size_t n_panels);

    bool clips() const { return settings_.clips(); }
    // By what the whole gradient must be multiplied: Pascanu, Mikolov & Bengio (2013), Algorithm 1.
    float clip_scale(const WholeGradient& gradient) const;

    // Of weights and biases of a panel, whose gradients are multiplied by weights_scale and biases_scale first.
    bool update_panel(const Layer& layer, std::size_t panel, const WholeGradient& gradient, float weights_scale,
                      float biases_scale);

 private:
    // next: the distance to what will be updated soon. half, streams: see Update.
    bool optimize(std::size_t offset, const float* gradient, std::size_t count, float scale, float* operand,
                  std::ptrdiff_t next, bool half, bool streams = false);
    bool average(std::size_t offset, std::size_t count);
    void limit_units(const Layer& layer, std::size_t panel);

    Network& network_;
    const KernelTable& kernels_;
    const OptimizerSettings& settings_;
    Update update_;
    UpdatedArenas arenas_;
    float average_part_;
};

}  // namespace fastmlp
