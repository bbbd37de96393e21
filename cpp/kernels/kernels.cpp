// The kernels of one instruction set. The build compiles this file once per set, each time with that set's flags and
// FASTMLP_TARGET_<SET> defined; only the table leaves the translation unit.

#include "activation.inl"
#include "kernel_table.h"
#include "loss.inl"
#include "optimizer.inl"
#include "packing.inl"
#include "product.inl"
#include "softmax.inl"
#include "tuning.h"

namespace fastmlp {
namespace {

#if defined(FASTMLP_TARGET_NEON)

constexpr std::uint64_t kFlushDenormals = std::uint64_t{1} << 24;  // FPCR.FZ; all else 0: rounding to nearest

std::uint64_t enter() {
    std::uint64_t state;
    __asm__ __volatile__("mrs %0, fpcr" : "=r"(state));
    __asm__ __volatile__("msr fpcr, %0" : : "r"(kFlushDenormals));
    return state;
}
void leave(std::uint64_t state) { __asm__ __volatile__("msr fpcr, %0" : : "r"(state)); }

#else

// All exceptions masked, rounding to nearest, flush-to-zero and denormals-are-zero.
constexpr unsigned kControlWord = 0x1f80u | 0x8000u | 0x0040u;

std::uint64_t enter() {
    const unsigned state = _mm_getcsr();
    _mm_setcsr(kControlWord);
    return state;
}
void leave(std::uint64_t state) { _mm_setcsr(static_cast<unsigned>(state)); }

#endif

constexpr KernelTable make_table(const char* name) {
    return {
        .name = name,
        .depth_block = kDepthBlock,
        .skip_rows = kSkipRows,
        .row_block = kRowBlock,
        .enter = enter,
        .leave = leave,
        .pack_uint8 = pack_uint8,
        .pack_float = pack_float,
        .unpack = unpack,
        .transpose_panel = transpose_panel,
        .multiply = multiply,
        .multiply_transposed = multiply_transposed,
        .multiply_skipping_zeros = multiply_skipping_zeros,
        .multiply_transposed_skipping_zeros = multiply_transposed_skipping_zeros,
        .sum_rows = sum_rows,
        .bias_activation = bias_activation,
        .activation_backward = activation_backward,
        .softmax_cross_entropy = softmax_cross_entropy,
        .sigmoid_cross_entropy = sigmoid_cross_entropy,
        .squared_error = squared_error,
        .softmax = softmax,
        .sigmoid = sigmoid,
        .adam = adam,
        .sgd = sgd,
        .round_to_bfloat16 = round_to_bfloat16,
    };
}

}  // namespace

#if defined(FASTMLP_TARGET_AVX512)
extern const KernelTable kAvx512Kernels;
constinit const KernelTable kAvx512Kernels = make_table("avx512");
#elif defined(FASTMLP_TARGET_AVX2)
extern const KernelTable kAvx2Kernels;
constinit const KernelTable kAvx2Kernels = make_table("avx2");
#elif defined(FASTMLP_TARGET_NEON)
extern const KernelTable kNeonKernels;
constinit const KernelTable kNeonKernels = make_table("neon");
#else
extern const KernelTable kBaselineKernels;
constinit const KernelTable kBaselineKernels = make_table("baseline");
#endif

}  // namespace fastmlp
