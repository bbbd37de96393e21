// What the speed of fastmlp is made of, piece by piece and on one thread: kernels at the shapes that training meets,
// whole training steps, predictions. kernel_benchmark times them; instruction_counter has their instructions counted.
#pragma once

#include <cstddef>
#include <functional>
#include <string>
#include <vector>

#include "../../cpp/kernels/kernel_table.h"

namespace fastmlp::benchmark {

struct Workload {
    double flops = 0;           // of its matrix products, zeros counted as work
    double executed_flops = 0;  // of these, those that skipping zeros leaves; 0 if that is not known
    double traffic = 0;         // bytes of arrays read plus bytes written
    double footprint = 0;       // bytes of memory that these arrays occupy
    bool in_bfloat16 = false;   // its matrix products are those of bfloat16
    std::function<void()> run;  // does the same work each time
};

struct Recipe {
    std::string name;
    std::function<Workload(const KernelTable&)> prepare;
};

// At the shapes of 784-200-10 with batches of this size.
std::vector<Recipe> lesson_recipes(std::size_t batch_size);

// Products and packing of the same net in mixed_bfloat16; on a set that has no products of bfloat16, in float32.
std::vector<Recipe> bfloat16_recipes(std::size_t batch_size);

// The products of a layer that no cache holds, in both precisions.
std::vector<Recipe> big_layer_recipes();

}  // namespace fastmlp::benchmark
