#include "loss.h"

namespace fastmlp {

void take_losses(const Network& network, const OutputRows& rows, const Targets& targets, float delta_scale,
                 Rounding rounding, float* losses) {
    const RowLosses args{rows.outputs.data, rows.outputs.stride,
                         rows.rows,         network.n_classes(),
                         targets.labels,    targets.values,
                         rows.index,        delta_scale,
                         rounding,          losses};
    switch (network.loss()) {
        case Loss::kSoftmaxCrossEntropy:
            return network.kernels().softmax_cross_entropy(args);
        case Loss::kSigmoidCrossEntropy:
            return network.kernels().sigmoid_cross_entropy(args);
        case Loss::kSquaredError:
            return network.kernels().squared_error(args);
    }
}

}  // namespace fastmlp
