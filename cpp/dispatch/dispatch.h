// Which kernel table serves this machine.
#pragma once

#include <string>
#include <vector>

#include "../kernels/kernel_table.h"

namespace fastmlp {

struct InstructionSet {
    const KernelTable* kernels;
    bool supported;  // by this processor and operating system
};

// All sets compiled in, slowest first.
const std::vector<InstructionSet>& instruction_sets();

struct Selection {
    const KernelTable* kernels;
    std::string reason;
};

// The set named by the environment variable FASTMLP_ISA, else the last supported one. Throws std::runtime_error if
// the variable names a set that is unknown, not compiled in or not supported.
Selection select_instruction_set();

// The set called `name`. Throws std::runtime_error if there is none or the machine lacks it.
const KernelTable& instruction_set_named(const std::string& name, const std::string& asked_by);

// As the processor calls itself; "unknown" if it does not say.
std::string cpu_name();

}  // namespace fastmlp
