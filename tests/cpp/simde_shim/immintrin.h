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
using ShimHalves = std::uint16_t __attribute__((vector_size(32)));
using ShimBytes = std::uint8_t __attribute__((vector_size(16)));

inline __m512 shim_mm512_cvtepi32_ps(__m512i a) {
    return reinterpret_cast<__m512>(__builtin_convertvector(reinterpret_cast<ShimInts>(a), ShimFloats));
}
inline __m512i shim_mm512_cvtepu8_epi32(__m128i a) {
    return reinterpret_cast<__m512i>(__builtin_convertvector(reinterpret_cast<ShimBytes>(a), ShimInts));
}
inline __m512i shim_mm512_cvtepu16_epi32(__m256i a) {
    return reinterpret_cast<__m512i>(__builtin_convertvector(reinterpret_cast<ShimHalves>(a), ShimInts));
}
inline __m512 shim_mm512_zextps256_ps512(__m256 a) {
    const __m256 halves[2] = {a, _mm256_setzero_ps()};
    __m512 result;
    __builtin_memcpy(&result, halves, sizeof result);
    return result;
}
#define _mm512_cvtepu16_epi32(a) shim_mm512_cvtepu16_epi32(a)
#define _mm512_zextps256_ps512(a) shim_mm512_zextps256_ps512(a)
#define _mm512_cvtepi32_ps(a) shim_mm512_cvtepi32_ps(a)
#define _mm512_cvtepu8_epi32(a) shim_mm512_cvtepu8_epi32(a)

// By 128-bit quarters: two of a, two of b.
template <int kImmediate, class Register>
inline Register shim_shuffle_quarters(Register a, Register b) {
    __m128 from[8], to[4];
    __builtin_memcpy(from, &a, sizeof a);
    __builtin_memcpy(from + 4, &b, sizeof b);
    for (int i = 0; i < 4; ++i) to[i] = from[(i < 2 ? 0 : 4) + (kImmediate >> 2 * i & 3)];
    Register result;
    __builtin_memcpy(&result, to, sizeof result);
    return result;
}
#define _mm512_shuffle_f32x4(a, b, immediate) (shim_shuffle_quarters<(immediate)>(a, b))
#define _mm512_shuffle_i64x2(a, b, immediate) (shim_shuffle_quarters<(immediate)>(a, b))

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

template <class Lane, class Register>
inline Register shim_maskz_loadu(std::uint64_t mask, const void* p) {  // reads chosen lanes only
    Lane lanes[sizeof(Register) / sizeof(Lane)] = {};
    for (std::size_t i = 0; i < sizeof(Register) / sizeof(Lane); ++i)
        if ((mask >> i & 1) != 0) lanes[i] = static_cast<const Lane*>(p)[i];
    Register result;
    __builtin_memcpy(&result, lanes, sizeof result);
    return result;
}
#define _mm_maskz_loadu_epi8(mask, p) shim_maskz_loadu<std::uint8_t, __m128i>(mask, p)
#define _mm512_maskz_loadu_epi8(mask, p) shim_maskz_loadu<std::uint8_t, __m512i>(mask, p)
#define _mm512_maskz_loadu_ps(mask, p) shim_maskz_loadu<float, __m512>(mask, p)

// Bit i is set if lane i of a & b is not 0.
template <class Lane, class Mask, class Register>
inline Mask shim_test(Register a, Register b) {
    constexpr int kLanes = sizeof(Register) / sizeof(Lane);
    Lane x[kLanes], y[kLanes];
    __builtin_memcpy(x, &a, sizeof a);
    __builtin_memcpy(y, &b, sizeof b);
    unsigned mask = 0;
    for (int i = 0; i < kLanes; ++i) mask |= ((x[i] & y[i]) != 0 ? 1u : 0u) << i;
    return static_cast<Mask>(mask);
}
#define _mm_test_epi8_mask(a, b) (shim_test<std::uint8_t, __mmask16>(a, b))

// The lanes of a whose bits are set, one after the other, and zeros.
template <class Lane>
inline __m512i shim_compress(std::uint64_t mask, __m512i a) {
    constexpr int kLanes = sizeof(a) / sizeof(Lane);
    Lane from[kLanes], to[kLanes] = {};
    __builtin_memcpy(from, &a, sizeof a);
    for (int i = 0, count = 0; i < kLanes; ++i)
        if ((mask >> i & 1) != 0) to[count++] = from[i];
    __m512i result;
    __builtin_memcpy(&result, to, sizeof result);
    return result;
}
#define _mm512_maskz_compress_epi8(mask, a) (shim_compress<std::uint8_t>(mask, a))
#define _mm512_maskz_compress_epi16(mask, a) (shim_compress<std::uint16_t>(mask, a))

#define _mm512_stream_ps(p, a) _mm512_store_ps(p, a)  // past the caches or not, the numbers are the same

// SIMDe 0.7.4 gives this name to a macro with two parameters too many.
#undef _mm512_madd_epi16
#define _mm512_madd_epi16(a, b) simde_mm512_madd_epi16(a, b)

// bfloat16, as the processor has it: denormals are 0, numbers are rounded to nearest, ties to even.
inline std::uint16_t shim_bfloat16(float x) {
    std::uint32_t bits;
    __builtin_memcpy(&bits, &x, sizeof bits);
    const std::uint32_t exponent = bits & 0x7f800000u;
    if (exponent == 0) return static_cast<std::uint16_t>(bits >> 16 & 0x8000u);
    if (exponent == 0x7f800000u && (bits & 0x007fffffu) != 0) return static_cast<std::uint16_t>(bits >> 16 | 0x40u);
    return static_cast<std::uint16_t>((bits + 0x7fffu + (bits >> 16 & 1u)) >> 16);
}
inline __m256i shim_mm512_cvtneps_pbh(__m512 a) {
    float from[16];
    std::uint16_t to[16];
    __builtin_memcpy(from, &a, sizeof a);
    for (int i = 0; i < 16; ++i) to[i] = shim_bfloat16(from[i]);
    return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(to));
}
inline __m512i shim_mm512_cvtne2ps_pbh(__m512 high, __m512 low) {
    const __m256i halves[2] = {shim_mm512_cvtneps_pbh(low), shim_mm512_cvtneps_pbh(high)};
    __m512i result;
    __builtin_memcpy(&result, halves, sizeof result);
    return result;
}
// Intel SDM, VDPBF16PS: the sum takes the odd products first, each rounded once.
inline __m512 shim_mm512_dpbf16_ps(__m512 c, __m512i a, __m512i b) {
    const __m512i odd = _mm512_set1_epi32(static_cast<int>(0xffff0000u));
    const auto odd_of = [&](__m512i x) { return _mm512_castsi512_ps(_mm512_and_si512(x, odd)); };
    const auto even_of = [](__m512i x) { return _mm512_castsi512_ps(_mm512_slli_epi32(x, 16)); };
    return _mm512_fmadd_ps(even_of(a), even_of(b), _mm512_fmadd_ps(odd_of(a), odd_of(b), c));
}
inline __m256 shim_mm256_dpbf16_ps(__m256 c, __m256i a, __m256i b) {
    const auto wide = [](auto x) { return _mm512_castsi256_si512(x); };
    return _mm512_castps512_ps256(shim_mm512_dpbf16_ps(_mm512_zextps256_ps512(c), wide(a), wide(b)));
}
#define __m512bh __m512i
#define __m256bh __m256i
#undef _mm256_dpbf16_ps
#define _mm256_dpbf16_ps(c, a, b) shim_mm256_dpbf16_ps(c, a, b)
#define _mm512_cvtneps_pbh(a) shim_mm512_cvtneps_pbh(a)
#define _mm512_cvtne2ps_pbh(a, b) shim_mm512_cvtne2ps_pbh(a, b)
// SIMDe has it on its own vector types.
#undef _mm512_dpbf16_ps
#define _mm512_dpbf16_ps(c, a, b) shim_mm512_dpbf16_ps(c, a, b)
