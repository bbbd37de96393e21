// Tests of the C++ below the bindings, for machines without Python: an emulated one, say.
//
// Prints a line for each item, "instruction-set item hash-of-the-result's-bits", and exits with 1 if any differs from
// the double-precision reference by more than rounding explains. tests/cpp/compare_bits.py compares the hashes.
#include <cstdio>

#include "../../cpp/dispatch/dispatch.h"
#include "kernel_cases.h"
#include "report.h"
#include "training_cases.h"

#if defined(FASTMLP_TEST_EMULATED_AVX512)
namespace fastmlp {
extern const KernelTable kAvx512Kernels, kAvx512Bf16Kernels;
}
#endif

namespace fastmlp::test {
namespace {

void check(const KernelTable& table) {
    check_products(table);
    check_packing(table);
    check_elementwise(table);
    check_softmax(table);
    check_augment(table);
    check_losses(table);
    check_training(table);
}

}  // namespace
}  // namespace fastmlp::test

int main() {
    using namespace fastmlp;
#if defined(FASTMLP_TEST_EMULATED_AVX512)
    for (KernelTable table : {kAvx512Kernels, kAvx512Bf16Kernels}) {
        // The bits of pairs' products are a processor's own: one that has them may come to others.
        if (table.pair_products.multiply != nullptr) table.name = "avx512_bf16_emulated";
        table.row_block = row_block_for(table, l2_cache_size());
        test::check(table);
    }
#else
    for (const InstructionSet& set : instruction_sets()) {
        if (set.supported)
            test::check(set.kernels);
        else
            std::fprintf(stderr, "%s: not on this machine\n", set.kernels.name);
    }
#endif
    if (test::Item::n_failures() == 0) return 0;
    std::fprintf(stderr, "%d failures\n", test::Item::n_failures());
    return 1;
}
