#pragma once

#include "../../cpp/kernels/kernel_table.h"

namespace fastmlp::test {

// Trains nets of odd sizes for a few steps on 1, 2, 3 and 7 threads, and with the row blocks of a smaller cache, which
// must give the same bits, and prints them.
void check_training(const KernelTable& table);

}  // namespace fastmlp::test
