// Stands in for the compiler's <immintrin.h> when the 512-bit kernels are tested on a processor without AVX-512:
// SIMDe carries out each 512-bit intrinsic with two 256-bit ones. An intrinsic that neither SIMDe nor this file
// covers is a compile error, since the compiler's own asks for a target that this build does not enable.
#pragma once

#include_next <immintrin.h>

#define SIMDE_ENABLE_NATIVE_ALIASES
#include <simde/x86/avx512.h>

// Absent from SIMDe 0.7.4. Conversions of the compiler's vector types are exact or rounded to nearest, as these are.
using ShimFloats = float __attribute__((vector_size(64)));
using ShimInts = std::int32_t __attribute__((vector_size(64)));
using ShimBytes = std::uint8_t __attribute__((vector_size(16)));

inline __m512 shim_mm512_cvtepi32_ps(__m512i a) {
    return reinterpret_cast<__m512>(__builtin_convertvector(reinterpret_cast<ShimInts>(a), ShimFloats));
}
inline __m512i shim_mm512_cvtepu8_epi32(__m128i a) {
    return reinterpret_cast<__m512i>(__builtin_convertvector(reinterpret_cast<ShimBytes>(a), ShimInts));
}
#define _mm512_cvtepi32_ps(a) shim_mm512_cvtepi32_ps(a)
#define _mm512_cvtepu8_epi32(a) shim_mm512_cvtepu8_epi32(a)

// By 128-bit quarters: two of a, two of b.
template <int kImmediate>
inline __m512 shim_mm512_shuffle_f32x4(__m512 a, __m512 b) {
    __m128 from[8], to[4];
    __builtin_memcpy(from, &a, sizeof a);
    __builtin_memcpy(from + 4, &b, sizeof b);
    for (int i = 0; i < 4; ++i) to[i] = from[(i < 2 ? 0 : 4) + (kImmediate >> 2 * i & 3)];
    __m512 result;
    __builtin_memcpy(&result, to, sizeof result);
    return result;
}
#define _mm512_shuffle_f32x4(a, b, immediate) shim_mm512_shuffle_f32x4<(immediate)>(a, b)

inline __m512i shim_mm512_cvtps_epi32(__m512 a) {  // rounds as the processor is set to, unlike a vector conversion
    const __m256i low = _mm256_cvtps_epi32(_mm512_castps512_ps256(a));
    const __m256i high = _mm256_cvtps_epi32(_mm512_castps512_ps256(_mm512_shuffle_f32x4(a, a, 0x4e)));
    return _mm512_inserti64x4(_mm512_castsi256_si512(low), high, 1);
}
inline __m128i shim_mm512_cvtepi32_epi8(__m512i a) {
    return reinterpret_cast<__m128i>(__builtin_convertvector(reinterpret_cast<ShimInts>(a), ShimBytes));
}
#define _mm512_cvtps_epi32(a) shim_mm512_cvtps_epi32(a)
#define _mm512_cvtepi32_epi8(a) shim_mm512_cvtepi32_epi8(a)

#define _mm512_stream_ps(p, a) _mm512_store_ps(p, a)  // past the caches or not, the numbers are the same

// SIMDe 0.7.4 gives this name to a macro with two parameters too many.
#undef _mm512_madd_epi16
#define _mm512_madd_epi16(a, b) simde_mm512_madd_epi16(a, b)
