// Optimisers: their settings, and what each step of theirs needs to know.
#pragma once

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
};

// Adam's bias corrections need beta^t; as running products they come out the same everywhere.
struct StepCount {
    double beta_1_power = 1.0;
    double beta_2_power = 1.0;

    void advance(const OptimizerSettings& settings);
};

// The update of the step that `count` has just been advanced to.
Update make_update(const OptimizerSettings& settings, const StepCount& count, double learning_rate);

}  // namespace fastmlp
