// The forward pass of a finished net. Rows are independent: each thread takes blocks of rows through all layers.
#pragma once

#include <cstddef>
#include <cstdint>

#include "data.h"
#include "network.h"

namespace fastmlp {

// threads: the most to use, at least 1; fewer if the work is small. All throw
// NonFiniteInput with the first such sample, after which outputs are undefined. So do those that return outputs of the
// last layer, or probabilities: NonFiniteOutput, if they are not finite though the input is.

// out: row-major (n_samples, n_outputs of layer n_layers - 1), the output of the first n_layers layers.
void forward(const Network& network, const Inputs& inputs, std::size_t n_layers, std::size_t threads, float* out);

// active: of each unit of the first n_layers layers, one layer after the other, whether it gives anything but 0 for any
// of the samples.
void find_active_units(const Network& network, const Inputs& inputs, std::size_t n_layers, std::size_t threads,
                       bool* active);

// out: row-major (n_samples, n_classes).
void softmax(const Network& network, const Inputs& inputs, std::size_t threads, float* out);

// softmax for so few samples that one thread does it at once, without allocating memory. Returns false, with nothing
// useful in out, if there are more, if another thread is changing the network, or if an input or output is not finite.
bool softmax_of_few(const Network& network, const Inputs& inputs, float* out);

// As softmax, for outputs that are independent of one another.
void sigmoid(const Network& network, const Inputs& inputs, std::size_t threads, float* out);

// losses: one per sample, in nats; predictions: the class of the largest logit, the first of equals.
void evaluate(const Network& network, const Inputs& inputs, const Targets& targets, std::size_t threads, float* losses,
              std::int64_t* predictions);

// losses: one per sample; outputs: row-major (n_samples, n_outputs), what forward gives for all layers.
void evaluate_outputs(const Network& network, const Inputs& inputs, const Targets& targets, std::size_t threads,
                      float* losses, float* outputs);

}  // namespace fastmlp
