// Compiled once per instruction set, with the flags and the FASTMLP_TARGET_<SET> of its kernels.
#include "ceiling.h"

#include <chrono>

#if defined(FASTMLP_TARGET_AVX512_BF16)
#include <immintrin.h>
#define FASTMLP_TARGET_AVX512
#define FASTMLP_CEILING avx512_bf16_ceiling
#define FASTMLP_SET "avx512_bf16"
#elif defined(FASTMLP_TARGET_AVX512)
#define FASTMLP_CEILING avx512_ceiling
#define FASTMLP_SET "avx512"
#elif defined(FASTMLP_TARGET_AVX2)
#define FASTMLP_CEILING avx2_ceiling
#define FASTMLP_SET "avx2"
#elif defined(FASTMLP_TARGET_NEON_BF16)
#include <arm_neon.h>
#define FASTMLP_TARGET_NEON
#define FASTMLP_CEILING neon_bf16_ceiling
#define FASTMLP_SET "neon_bf16"
#elif defined(FASTMLP_TARGET_NEON)
#define FASTMLP_CEILING neon_ceiling
#define FASTMLP_SET "neon"
#else
#define FASTMLP_CEILING baseline_ceiling
#define FASTMLP_SET "baseline"
#endif

#if defined(FASTMLP_TARGET_AVX512)
#define FASTMLP_VECTOR_BYTES 64
#elif defined(FASTMLP_TARGET_AVX2)
#define FASTMLP_VECTOR_BYTES 32
#else
#define FASTMLP_VECTOR_BYTES 16
#endif

#include "../../cpp/kernels/tuning.h"

namespace fastmlp::benchmark {

namespace {

typedef float Vector __attribute__((vector_size(FASTMLP_VECTOR_BYTES)));
constexpr std::size_t kLanes = FASTMLP_VECTOR_BYTES / sizeof(float);

// Two units with a latency of four or five cycles need ten sums in flight; twelve and two operands fit sixteen
// registers.
constexpr int kSums = 12;
constexpr int kRepeats = 1000;

double now() {
    using Clock = std::chrono::steady_clock;
    return std::chrono::duration<double>(Clock::now().time_since_epoch()).count();
}

// Calls f, which returns how much it has done, until the time is over; returns how much was done in a second.
template <class F>
double rate(double seconds, F f) {
    const double start = now();
    double done = 0, passed = 0;
    do {
        done += f();
        passed = now() - start;
    } while (passed < seconds);
    return done / passed;
}

double multiply_add_rate(double seconds) {
    Vector sums[kSums];
    for (int i = 0; i < kSums; ++i) sums[i] = Vector{} + static_cast<float>(i);
    Vector factor = Vector{} + 0.5f, addend = Vector{} + 0.5f;  // the sums converge to 1, so none is denormal
    __asm__ __volatile__("" : "+m"(factor), "+m"(addend));      // the compiler may not know them
    const double flops = rate(seconds, [&] {
        for (int repeat = 0; repeat < kRepeats; ++repeat) {
#pragma GCC unroll 12
            for (int i = 0; i < kSums; ++i) sums[i] = sums[i] * factor + addend;
        }
        return 2.0 * kRepeats * kSums * kLanes;
    });
    __asm__ __volatile__("" : : "m"(sums) : "memory");  // the sums are wanted
    return flops;
}

double copy_rate(const float* from, float* to, std::size_t count, double seconds) {
    const std::size_t whole = count / kLanes * kLanes;
    return rate(seconds, [=] {
        for (std::size_t i = 0; i < whole; i += kLanes)
            *reinterpret_cast<Vector*>(to + i) = *reinterpret_cast<const Vector*>(from + i);
        __asm__ __volatile__("" : : : "memory");
        return 2.0 * static_cast<double>(whole * sizeof(float));
    });
}

#if defined(FASTMLP_TARGET_AVX512_BF16) || defined(FASTMLP_TARGET_NEON_BF16)

#if defined(FASTMLP_TARGET_AVX512_BF16)
using Pairs = __m512bh;
[[gnu::always_inline]] inline Vector dot_product(Vector sum, Pairs a, Pairs b) {
    return reinterpret_cast<Vector>(_mm512_dpbf16_ps(reinterpret_cast<__m512>(sum), a, b));
}
#else
using Pairs = bfloat16x8_t;
[[gnu::always_inline]] inline Vector dot_product(Vector sum, Pairs a, Pairs b) {
    return reinterpret_cast<Vector>(vbfdotq_f32(reinterpret_cast<float32x4_t>(sum), a, b));
}
#endif

double bfloat16_rate(double seconds) {
    Vector sums[kSums] = {};
    Vector zero{};
    __asm__ __volatile__("" : "+m"(zero));
    const auto operand = reinterpret_cast<Pairs>(zero);
    const double flops = rate(seconds, [&] {
        for (int repeat = 0; repeat < kRepeats; ++repeat) {
#pragma GCC unroll 12
            for (int i = 0; i < kSums; ++i) sums[i] = dot_product(sums[i], operand, operand);
        }
        return 4.0 * kRepeats * kSums * kLanes;  // two multiplications and two additions a lane
    });
    __asm__ __volatile__("" : : "m"(sums) : "memory");
    return flops;
}

#else

constexpr double (*bfloat16_rate)(double) = nullptr;

#endif

}  // namespace

Ceiling FASTMLP_CEILING() {
    return {FASTMLP_SET,
            FASTMLP_VECTOR_BYTES * 8,
            {kTileRows, kTilePanels, kListedRowPanels, kListedGroupVecs * kLanes},
            multiply_add_rate,
            bfloat16_rate,
            copy_rate};
}

}  // namespace fastmlp::benchmark
