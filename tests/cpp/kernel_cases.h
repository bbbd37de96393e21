#pragma once

#include "../../cpp/kernels/kernel_table.h"

namespace fastmlp::test {

// Runs every kernel of the table at sizes around its tiles and prints and checks what comes out.
void check_kernels(const KernelTable& table);

}  // namespace fastmlp::test
