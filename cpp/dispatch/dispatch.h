// Which kernel table serves this machine.
#pragma once

#include <cstddef>
#include <string>
#include <vector>

#include "../kernels/kernel_table.h"

namespace fastmlp {

struct InstructionSet {
    KernelTable kernels;
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

// Bytes of a core's L2 cache; 1 MB if the processor does not say.
std::size_t l2_cache_size();

// A table's row_block for an L2 cache of so many bytes: 256 columns of the rows fill at most the table's share of it,
// since the right operand and the result pass through too. A multiple of all sets' tile rows, from 24 to 192: larger
// ones divide a batch too coarsely.
std::size_t row_block_for(const KernelTable& kernels, std::size_t cache_size);

// A table's far_from on this processor. AMD's cores are in complexes with a last cache each: on the machine that it was
// measured on, a line takes 26 ns within one and 110 ns between two. Intel's share one, through which lines come as
// well when it takes 130 ns, and evicting them first makes a step twice as long; see docs/performance.md. No other
// maker's were measured.
double far_from_here();

// The set called `name`. Throws std::runtime_error if there is none or the machine lacks it.
const KernelTable& instruction_set_named(const std::string& name, const std::string& asked_by);

// As the processor calls itself; "unknown" if it does not say.
std::string cpu_name();

}  // namespace fastmlp
