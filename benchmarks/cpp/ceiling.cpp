// Compiled once per instruction set, with the flags and the FASTMLP_TARGET_<SET> of its kernels.
#include "ceiling.h"

#include <chrono>

#include "../../cpp/kernels/tuning.h"

#if defined(FASTMLP_TARGET_AVX512)
#include <immintrin.h>
#define FASTMLP_CEILING avx512_ceiling
#define FASTMLP_SET "avx512"
#define FASTMLP_VECTOR_BYTES 64
#elif defined(FASTMLP_TARGET_AVX2)
#define FASTMLP_CEILING avx2_ceiling
#define FASTMLP_SET "avx2"
#define FASTMLP_VECTOR_BYTES 32
#elif defined(FASTMLP_TARGET_NEON)
#define FASTMLP_CEILING neon_ceiling
#define FASTMLP_SET "neon"
#define FASTMLP_VECTOR_BYTES 16
#else
#define FASTMLP_CEILING baseline_ceiling
#define FASTMLP_SET "baseline"
#define FASTMLP_VECTOR_BYTES 16
#endif

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

#if defined(FASTMLP_TARGET_AVX512)

// vdpbf16ps multiplies 32 pairs and adds them to 16 sums.
[[gnu::target("avx512bf16,avx512f,avx512bw,avx512vl")]] double dot_products(__m512* sums, __m512bh a, __m512bh b) {
    for (int repeat = 0; repeat < kRepeats; ++repeat) {
#pragma GCC unroll 12
        for (int i = 0; i < kSums; ++i) sums[i] = _mm512_dpbf16_ps(sums[i], a, b);
    }
    return 2.0 * kRepeats * kSums * 32;
}

double bfloat16_rate(double seconds) {
    __m512 sums[kSums];
    for (__m512& sum : sums) sum = _mm512_setzero_ps();
    __m512i zero = _mm512_setzero_si512();
    __asm__ __volatile__("" : "+m"(zero));
    const auto operand = reinterpret_cast<__m512bh>(zero);
    const double flops = rate(seconds, [&] { return dot_products(sums, operand, operand); });
    __asm__ __volatile__("" : : "m"(sums) : "memory");
    return flops;
}

auto bfloat16_rate_if_supported() { return __builtin_cpu_supports("avx512bf16") ? bfloat16_rate : nullptr; }

#else

double (*bfloat16_rate_if_supported())(double) { return nullptr; }

#endif

}  // namespace

Ceiling FASTMLP_CEILING() {
    return {FASTMLP_SET,
            FASTMLP_VECTOR_BYTES * 8,
            {kTileRows, kTilePanels, kSkipRows, kSkipPanels, kDepthBlock, kRowBlock},
            multiply_add_rate,
            bfloat16_rate_if_supported(),
            copy_rate};
}

}  // namespace fastmlp::benchmark
