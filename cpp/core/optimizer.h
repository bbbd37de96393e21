// Optimisers: their settings, and what each step of theirs needs to know.
#pragma once

#include <limits>

#include "../kernels/kernel_table.h"

namespace fastmlp {

struct OptimizerSettings {
    enum class Kind { kAdam, kSgd };
    Kind kind = Kind::kAdam;
    double beta_1 = 0.9;
    double beta_2 = 0.999;
    double epsilon = 1e-8;
    double momentum = 0.0;
    bool nesterov = false;
    double weight_decay = 0.0;  // of all parameters
    bool decoupled = false;     // for Adam: the decay is beside the gradient (AdamW), not in it
    // Of the gradient of all parameters, and of each unit's incoming weights: at most these.
    double clip_norm = std::numeric_limits<double>::infinity();
    double max_norm = std::numeric_limits<double>::infinity();
    double average_decay = 0.0;  // 0: weights are not averaged

    bool clips() const { return clip_norm < std::numeric_limits<double>::infinity(); }
    bool limits_units() const { return max_norm < std::numeric_limits<double>::infinity(); }
    bool averages() const { return average_decay > 0.0; }
    // Else a part of the gradient may be used for the update and forgotten.
    bool needs_whole_gradient() const { return clips() || limits_units(); }
};

// Bias corrections need beta^t, and decay^t; as running products they come out the same everywhere.
struct StepCount {
    double beta_1_power = 1.0;
    double beta_2_power = 1.0;
    double average_power = 1.0;

    void advance(const OptimizerSettings& settings);
};

// The update of the step that `count` has just been advanced to.
Update make_update(const OptimizerSettings& settings, const StepCount& count, double learning_rate);

}  // namespace fastmlp
