#include "optimizer.h"

namespace fastmlp {

void StepCount::advance(const OptimizerSettings& settings) {
    beta_1_power *= settings.beta_1;
    beta_2_power *= settings.beta_2;
    if (settings.averages()) average_power *= settings.average_decay;
}

Update make_update(const OptimizerSettings& settings, const StepCount& count, double learning_rate) {
    Update update{};
    update.gradient_scale = 1.0f;
    if (settings.decoupled)
        update.decoupled_decay = static_cast<float>(learning_rate * settings.weight_decay);
    else
        update.l2 = static_cast<float>(settings.weight_decay);
    if (settings.kind == OptimizerSettings::Kind::kSgd) {
        update.rate = static_cast<float>(learning_rate);
        update.beta_1 = static_cast<float>(settings.momentum);
        update.nesterov = settings.nesterov;
        return update;
    }
    update.rate = static_cast<float>(learning_rate / (1.0 - count.beta_1_power));
    update.beta_1 = static_cast<float>(settings.beta_1);
    update.beta_2 = static_cast<float>(settings.beta_2);
    update.one_minus_beta_1 = static_cast<float>(1.0 - settings.beta_1);
    update.one_minus_beta_2 = static_cast<float>(1.0 - settings.beta_2);
    update.second_correction = static_cast<float>(1.0 / (1.0 - count.beta_2_power));
    update.epsilon = static_cast<float>(settings.epsilon);
    return update;
}

}  // namespace fastmlp
