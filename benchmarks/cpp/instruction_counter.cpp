// Carries out each workload once, on AVX2, for callgrind to count its instructions: benchmarks/instructions.py.
//
// Prints "compiler NAME VERSION", then the name of each workload, in order. All that is to be counted happens inside of
// fastmlp_counted, which is called once for each of them.
#include <cstdio>
#include <exception>

#include "../../cpp/dispatch/dispatch.h"
#include "workloads.h"

#if defined(__clang__)
#define FASTMLP_COMPILER "clang " __clang_version__
#else
#define FASTMLP_COMPILER "g++ " __VERSION__
#endif

// Not inlined, and no tail call: callgrind sees it begin and end.
extern "C" [[gnu::noinline]] void fastmlp_counted(const std::function<void()>& run) {
    run();
    __asm__ __volatile__("" : : : "memory");
}

int main() {
    using namespace fastmlp;
    constexpr std::size_t kBatch = 256;
    try {
        // valgrind knows no AVX-512, and says so to whoever asks the processor.
        KernelTable kernels = instruction_set_named("avx2", "The instruction counter");
        kernels.row_block = row_block_for(kernels, std::size_t{1} << 20);  // on every machine
        std::printf("compiler %s\n", FASTMLP_COMPILER);
        for (const benchmark::Recipe& recipe : benchmark::lesson_recipes(kBatch)) {
            const benchmark::Workload workload = recipe.prepare(kernels);
            fastmlp_counted(workload.run);
            std::puts(recipe.name.c_str());
        }
    } catch (const std::exception& error) {
        std::fprintf(stderr, "%s\n", error.what());
        return 1;
    }
    return 0;
}
