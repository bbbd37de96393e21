// The kernels of one instruction set. The build compiles this file once per set, each time with that set's flags and
// FASTMLP_TARGET_<SET> defined; only the table leaves the translation unit.

#include "activation.inl"
#include "augment.inl"
#include "batch_norm.inl"
#include "dropout.inl"
#include "kernel_table.h"
#include "listed.inl"
#include "lists.inl"
#include "loss.inl"
#include "norm.inl"
#include "optimizer.inl"
#include "packing.inl"
#include "pairs.inl"
#include "philox.inl"
#include "pixel_lists.inl"
#include "product.inl"
#include "softmax.inl"
#include "tuning.h"
#include "words.inl"

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

template <class Word>
constexpr Products make_products() {
    void (*grouped)(const GroupedProduct&) = nullptr;
#if defined(FASTMLP_TARGET_AVX512)
    if constexpr (Word::kNumbers == 1) grouped = multiply_grouped<Word>;
#endif
    return {
        .multiply = multiply<Word>,
        .multiply_transposed = multiply_transposed<Word>,
        .multiply_listed = multiply_listed<Word>,
        .multiply_transposed_listed = multiply_transposed_listed<Word>,
        .multiply_grouped = grouped,
        .list_rows = list_rows<Word>,
        .list_groups = list_groups<Word>,
#if defined(FASTMLP_TARGET_AVX512) || defined(FASTMLP_TARGET_AVX2)
        .list_pixel_rows = list_pixel_rows<Word>,
        .list_pixel_groups = list_pixel_groups<Word>,
#else
        .list_pixel_rows = nullptr,
        .list_pixel_groups = nullptr,
#endif
        .transpose_panel = transpose_panel<Word>,
        .sum_rows = sum_rows<Word>,
    };
}

constexpr KernelTable make_table(const char* name) {
    return {
        .name = name,
        .float_products = make_products<FloatWord>(),
#if defined(FASTMLP_PAIR_PRODUCTS)
        .pair_products = make_products<PairWord>(),
#else
        .pair_products = {},
#endif
        .depth_block = kDepthBlock,
        .depth_block_on_amd = kDepthBlockOnAmd,
        .listed_depth_block = kListedDepthBlock,
        .gradient_input_panels = kGradientInputPanels,
        .small_batch_input_panels = kSmallBatchInputPanels,
        .row_block = 24,  // of the smallest cache; dispatch asks for this machine's, as for far_from
        .row_block_share = kRowBlockShare,
        .far_from = __builtin_inf(),
        .enter = enter,
        .leave = leave,
        .pack_uint8 = pack_uint8,
        .pack_float = pack_float,
#if defined(FASTMLP_PAIR_PRODUCTS)
        .pack_uint8_pairs = pack_uint8_pairs,
        .pack_float_pairs = pack_float_pairs,
        .pair = pair,
#else
        .pack_uint8_pairs = nullptr,
        .pack_float_pairs = nullptr,
        .pair = nullptr,
#endif
        .count_nonzeros_uint8 = count_nonzeros_uint8,
        .count_nonzeros_float = count_nonzeros_float,
        .unpack = unpack,
        .bias_activation = bias_activation,
        .activation_backward = activation_backward,
        .batch_normalize = batch_normalize,
        .batch_normalize_backward = batch_normalize_backward,
        .fold_batch_norm = fold_batch_norm,
        .drop_units = drop_units,
        .drop_deltas = drop_deltas,
        .drop_uint8 = drop_uint8,
        .drop_float = drop_float,
        .softmax_cross_entropy = softmax_cross_entropy,
        .sigmoid_cross_entropy = sigmoid_cross_entropy,
        .squared_error = squared_error,
        .softmax = softmax,
        .sigmoid = sigmoid,
        .adam = adam,
        .sgd = sgd,
        .average = average,
        .add_squares = add_squares,
        .scale_columns = scale_columns,
        .write_operand = write_operand,
        .random_bits = random_bits,
        .random_fields = random_fields,
        .resample = resample,
    };
}

}  // namespace

#if defined(FASTMLP_TARGET_AVX512_BF16)
extern const KernelTable kAvx512Bf16Kernels;
constinit const KernelTable kAvx512Bf16Kernels = make_table("avx512_bf16");
#elif defined(FASTMLP_TARGET_AVX512)
extern const KernelTable kAvx512Kernels;
constinit const KernelTable kAvx512Kernels = make_table("avx512");
#elif defined(FASTMLP_TARGET_AVX2)
extern const KernelTable kAvx2Kernels;
constinit const KernelTable kAvx2Kernels = make_table("avx2");
#elif defined(FASTMLP_TARGET_NEON_BF16)
extern const KernelTable kNeonBf16Kernels;
constinit const KernelTable kNeonBf16Kernels = make_table("neon_bf16");
#elif defined(FASTMLP_TARGET_NEON)
extern const KernelTable kNeonKernels;
constinit const KernelTable kNeonKernels = make_table("neon");
#else
extern const KernelTable kBaselineKernels;
constinit const KernelTable kBaselineKernels = make_table("baseline");
#endif

}  // namespace fastmlp
