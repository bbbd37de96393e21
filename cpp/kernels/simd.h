// One thin vector type per instruction set: Vec holds kLanes floats, and the functions below are all that kernels
// may use of the hardware. The unit that kernels are written in is Line: the 16 floats of one panel row, held in
// 16 / kLanes vectors. Where a result could differ between sets, the comment says how it is made the same.
//
// Included once per translation unit, inside which FASTMLP_TARGET names the set; everything has internal linkage,
// so that no code compiled for one set can be linked into another.
#pragma once

#include <cstddef>
#include <cstdint>

// A set with dot products of bfloat16 pairs is the set without them and a little more.
#if defined(FASTMLP_TARGET_AVX512_BF16)
#define FASTMLP_TARGET_AVX512
#define FASTMLP_PAIR_PRODUCTS
#elif defined(FASTMLP_TARGET_NEON_BF16)
#define FASTMLP_TARGET_NEON
#define FASTMLP_PAIR_PRODUCTS
#endif

#if defined(FASTMLP_TARGET_NEON)
#include <arm_neon.h>
#else
#include <immintrin.h>
#endif

#include "kernel_table.h"

#define FASTMLP_INLINE inline __attribute__((always_inline))

namespace fastmlp {
namespace {

#if defined(FASTMLP_TARGET_AVX512)

struct Vec {
    __m512 v;
};
struct IntVec {
    __m512i v;
};
constexpr int kLanes = 16;

FASTMLP_INLINE Vec load(const float* p) { return {_mm512_load_ps(p)}; }
FASTMLP_INLINE Vec load_unaligned(const float* p) { return {_mm512_loadu_ps(p)}; }
FASTMLP_INLINE void store(float* p, Vec a) { _mm512_store_ps(p, a.v); }
FASTMLP_INLINE void stream(float* p, Vec a) { _mm512_stream_ps(p, a.v); }
FASTMLP_INLINE void store_unaligned(float* p, Vec a) { _mm512_storeu_ps(p, a.v); }
FASTMLP_INLINE Vec splat(float x) { return {_mm512_set1_ps(x)}; }
FASTMLP_INLINE Vec fma(Vec a, Vec b, Vec c) { return {_mm512_fmadd_ps(a.v, b.v, c.v)}; }
FASTMLP_INLINE Vec operator+(Vec a, Vec b) { return {_mm512_add_ps(a.v, b.v)}; }
FASTMLP_INLINE Vec operator-(Vec a, Vec b) { return {_mm512_sub_ps(a.v, b.v)}; }
FASTMLP_INLINE Vec operator*(Vec a, Vec b) { return {_mm512_mul_ps(a.v, b.v)}; }
FASTMLP_INLINE Vec operator/(Vec a, Vec b) { return {_mm512_div_ps(a.v, b.v)}; }
FASTMLP_INLINE Vec square_root(Vec a) { return {_mm512_sqrt_ps(a.v)}; }
FASTMLP_INLINE Vec max_keep_nan(Vec bound, Vec x) { return {_mm512_max_ps(bound.v, x.v)}; }
FASTMLP_INLINE Vec min_drop_nan(Vec x, Vec bound) { return {_mm512_min_ps(x.v, bound.v)}; }
FASTMLP_INLINE Vec where_less(Vec a, Vec b, Vec yes, Vec no) {
    return {_mm512_mask_blend_ps(_mm512_cmp_ps_mask(a.v, b.v, _CMP_LT_OQ), no.v, yes.v)};
}
FASTMLP_INLINE unsigned nonzero_mask(Vec a) { return _mm512_cmp_ps_mask(a.v, _mm512_setzero_ps(), _CMP_NEQ_UQ); }
FASTMLP_INLINE IntVec bits(Vec a) { return {_mm512_castps_si512(a.v)}; }
FASTMLP_INLINE Vec from_bits(IntVec a) { return {_mm512_castsi512_ps(a.v)}; }
FASTMLP_INLINE IntVec splat_bits(std::uint32_t x) { return {_mm512_set1_epi32(static_cast<std::int32_t>(x))}; }
FASTMLP_INLINE IntVec operator+(IntVec a, IntVec b) { return {_mm512_add_epi32(a.v, b.v)}; }
FASTMLP_INLINE IntVec operator-(IntVec a, IntVec b) { return {_mm512_sub_epi32(a.v, b.v)}; }
FASTMLP_INLINE IntVec operator&(IntVec a, IntVec b) { return {_mm512_and_si512(a.v, b.v)}; }
FASTMLP_INLINE IntVec operator|(IntVec a, IntVec b) { return {_mm512_or_si512(a.v, b.v)}; }
FASTMLP_INLINE IntVec operator^(IntVec a, IntVec b) { return {_mm512_xor_si512(a.v, b.v)}; }
FASTMLP_INLINE IntVec multiply_even_lanes(IntVec a, IntVec b) { return {_mm512_mul_epu32(a.v, b.v)}; }
FASTMLP_INLINE IntVec multiply_add_pairs(IntVec a, IntVec b) { return {_mm512_madd_epi16(a.v, b.v)}; }
FASTMLP_INLINE IntVec even_lanes_from_odd(IntVec a) { return {_mm512_srli_epi64(a.v, 32)}; }
FASTMLP_INLINE IntVec odd_lanes_from_even(IntVec a) { return {_mm512_slli_epi64(a.v, 32)}; }
template <int kCount>
FASTMLP_INLINE IntVec shift_left(IntVec a) {
    return {_mm512_slli_epi32(a.v, kCount)};
}
template <int kCount>
FASTMLP_INLINE IntVec shift_right(IntVec a) {
    return {_mm512_srli_epi32(a.v, kCount)};
}
FASTMLP_INLINE Vec to_float(IntVec a) { return {_mm512_cvtepi32_ps(a.v)}; }
FASTMLP_INLINE Vec load_uint8(const std::uint8_t* p) {
    return {_mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))))};
}
FASTMLP_INLINE void store_uint8(std::uint8_t* p, Vec a) {
    _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm512_cvtepi32_epi8(_mm512_cvtps_epi32(a.v)));
}

#elif defined(FASTMLP_TARGET_AVX2)

struct Vec {
    __m256 v;
};
struct IntVec {
    __m256i v;
};
constexpr int kLanes = 8;

FASTMLP_INLINE Vec load(const float* p) { return {_mm256_load_ps(p)}; }
FASTMLP_INLINE Vec load_unaligned(const float* p) { return {_mm256_loadu_ps(p)}; }
FASTMLP_INLINE void store(float* p, Vec a) { _mm256_store_ps(p, a.v); }
FASTMLP_INLINE void stream(float* p, Vec a) { _mm256_stream_ps(p, a.v); }
FASTMLP_INLINE void store_unaligned(float* p, Vec a) { _mm256_storeu_ps(p, a.v); }
FASTMLP_INLINE Vec splat(float x) { return {_mm256_set1_ps(x)}; }
FASTMLP_INLINE Vec fma(Vec a, Vec b, Vec c) { return {_mm256_fmadd_ps(a.v, b.v, c.v)}; }
FASTMLP_INLINE Vec operator+(Vec a, Vec b) { return {_mm256_add_ps(a.v, b.v)}; }
FASTMLP_INLINE Vec operator-(Vec a, Vec b) { return {_mm256_sub_ps(a.v, b.v)}; }
FASTMLP_INLINE Vec operator*(Vec a, Vec b) { return {_mm256_mul_ps(a.v, b.v)}; }
FASTMLP_INLINE Vec operator/(Vec a, Vec b) { return {_mm256_div_ps(a.v, b.v)}; }
FASTMLP_INLINE Vec square_root(Vec a) { return {_mm256_sqrt_ps(a.v)}; }
FASTMLP_INLINE Vec max_keep_nan(Vec bound, Vec x) { return {_mm256_max_ps(bound.v, x.v)}; }
FASTMLP_INLINE Vec min_drop_nan(Vec x, Vec bound) { return {_mm256_min_ps(x.v, bound.v)}; }
FASTMLP_INLINE Vec where_less(Vec a, Vec b, Vec yes, Vec no) {
    return {_mm256_blendv_ps(no.v, yes.v, _mm256_cmp_ps(a.v, b.v, _CMP_LT_OQ))};
}
FASTMLP_INLINE unsigned nonzero_mask(Vec a) {
    return static_cast<unsigned>(_mm256_movemask_ps(_mm256_cmp_ps(a.v, _mm256_setzero_ps(), _CMP_NEQ_UQ)));
}
FASTMLP_INLINE IntVec bits(Vec a) { return {_mm256_castps_si256(a.v)}; }
FASTMLP_INLINE Vec from_bits(IntVec a) { return {_mm256_castsi256_ps(a.v)}; }
FASTMLP_INLINE IntVec splat_bits(std::uint32_t x) { return {_mm256_set1_epi32(static_cast<std::int32_t>(x))}; }
FASTMLP_INLINE IntVec operator+(IntVec a, IntVec b) { return {_mm256_add_epi32(a.v, b.v)}; }
FASTMLP_INLINE IntVec operator-(IntVec a, IntVec b) { return {_mm256_sub_epi32(a.v, b.v)}; }
FASTMLP_INLINE IntVec operator&(IntVec a, IntVec b) { return {_mm256_and_si256(a.v, b.v)}; }
FASTMLP_INLINE IntVec operator|(IntVec a, IntVec b) { return {_mm256_or_si256(a.v, b.v)}; }
FASTMLP_INLINE IntVec operator^(IntVec a, IntVec b) { return {_mm256_xor_si256(a.v, b.v)}; }
FASTMLP_INLINE IntVec multiply_even_lanes(IntVec a, IntVec b) { return {_mm256_mul_epu32(a.v, b.v)}; }
FASTMLP_INLINE IntVec multiply_add_pairs(IntVec a, IntVec b) { return {_mm256_madd_epi16(a.v, b.v)}; }
FASTMLP_INLINE IntVec even_lanes_from_odd(IntVec a) { return {_mm256_srli_epi64(a.v, 32)}; }
FASTMLP_INLINE IntVec odd_lanes_from_even(IntVec a) { return {_mm256_slli_epi64(a.v, 32)}; }
template <int kCount>
FASTMLP_INLINE IntVec shift_left(IntVec a) {
    return {_mm256_slli_epi32(a.v, kCount)};
}
template <int kCount>
FASTMLP_INLINE IntVec shift_right(IntVec a) {
    return {_mm256_srli_epi32(a.v, kCount)};
}
FASTMLP_INLINE Vec to_float(IntVec a) { return {_mm256_cvtepi32_ps(a.v)}; }
FASTMLP_INLINE Vec load_uint8(const std::uint8_t* p) {
    return {_mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p))))};
}
FASTMLP_INLINE void store_uint8(std::uint8_t* p, Vec a) {
    const __m256i integers = _mm256_cvtps_epi32(a.v);
    const __m128i halves = _mm_packs_epi32(_mm256_castsi256_si128(integers), _mm256_extracti128_si256(integers, 1));
    _mm_storel_epi64(reinterpret_cast<__m128i*>(p), _mm_packus_epi16(halves, halves));
}

#elif defined(FASTMLP_TARGET_NEON)

struct Vec {
    float32x4_t v;
};
struct IntVec {
    uint32x4_t v;
};
constexpr int kLanes = 4;

FASTMLP_INLINE Vec load(const float* p) { return {vld1q_f32(p)}; }
FASTMLP_INLINE Vec load_unaligned(const float* p) { return {vld1q_f32(p)}; }
FASTMLP_INLINE void store(float* p, Vec a) { vst1q_f32(p, a.v); }
FASTMLP_INLINE void stream(float* p, Vec a) { store(p, a); }
FASTMLP_INLINE void store_unaligned(float* p, Vec a) { vst1q_f32(p, a.v); }
FASTMLP_INLINE Vec splat(float x) { return {vdupq_n_f32(x)}; }
FASTMLP_INLINE Vec fma(Vec a, Vec b, Vec c) { return {vfmaq_f32(c.v, a.v, b.v)}; }
FASTMLP_INLINE Vec operator+(Vec a, Vec b) { return {vaddq_f32(a.v, b.v)}; }
FASTMLP_INLINE Vec operator-(Vec a, Vec b) { return {vsubq_f32(a.v, b.v)}; }
FASTMLP_INLINE Vec operator*(Vec a, Vec b) { return {vmulq_f32(a.v, b.v)}; }
FASTMLP_INLINE Vec operator/(Vec a, Vec b) { return {vdivq_f32(a.v, b.v)}; }
FASTMLP_INLINE Vec square_root(Vec a) { return {vsqrtq_f32(a.v)}; }
FASTMLP_INLINE Vec max_keep_nan(Vec bound, Vec x) { return {vmaxq_f32(bound.v, x.v)}; }
FASTMLP_INLINE Vec min_drop_nan(Vec x, Vec bound) { return {vminnmq_f32(x.v, bound.v)}; }
FASTMLP_INLINE Vec where_less(Vec a, Vec b, Vec yes, Vec no) { return {vbslq_f32(vcltq_f32(a.v, b.v), yes.v, no.v)}; }
FASTMLP_INLINE unsigned nonzero_mask(Vec a) {
    const std::uint32_t weights[4] = {1, 2, 4, 8};
    return vaddvq_u32(vbicq_u32(vld1q_u32(weights), vceqzq_f32(a.v)));
}
FASTMLP_INLINE IntVec bits(Vec a) { return {vreinterpretq_u32_f32(a.v)}; }
FASTMLP_INLINE Vec from_bits(IntVec a) { return {vreinterpretq_f32_u32(a.v)}; }
FASTMLP_INLINE IntVec splat_bits(std::uint32_t x) { return {vdupq_n_u32(x)}; }
FASTMLP_INLINE IntVec operator+(IntVec a, IntVec b) { return {vaddq_u32(a.v, b.v)}; }
FASTMLP_INLINE IntVec operator-(IntVec a, IntVec b) { return {vsubq_u32(a.v, b.v)}; }
FASTMLP_INLINE IntVec operator&(IntVec a, IntVec b) { return {vandq_u32(a.v, b.v)}; }
FASTMLP_INLINE IntVec operator|(IntVec a, IntVec b) { return {vorrq_u32(a.v, b.v)}; }
FASTMLP_INLINE IntVec operator^(IntVec a, IntVec b) { return {veorq_u32(a.v, b.v)}; }
FASTMLP_INLINE IntVec multiply_even_lanes(IntVec a, IntVec b) {
    const uint32x2_t even_a = vmovn_u64(vreinterpretq_u64_u32(a.v)), even_b = vmovn_u64(vreinterpretq_u64_u32(b.v));
    return {vreinterpretq_u32_u64(vmull_u32(even_a, even_b))};
}
FASTMLP_INLINE IntVec multiply_add_pairs(IntVec a, IntVec b) {
    const int16x8_t x = vreinterpretq_s16_u32(a.v), y = vreinterpretq_s16_u32(b.v);
    const int32x4_t low = vmull_s16(vget_low_s16(x), vget_low_s16(y));
    const int32x4_t high = vmull_s16(vget_high_s16(x), vget_high_s16(y));
    return {vreinterpretq_u32_s32(vpaddq_s32(low, high))};
}
FASTMLP_INLINE IntVec even_lanes_from_odd(IntVec a) {
    return {vreinterpretq_u32_u64(vshrq_n_u64(vreinterpretq_u64_u32(a.v), 32))};
}
FASTMLP_INLINE IntVec odd_lanes_from_even(IntVec a) {
    return {vreinterpretq_u32_u64(vshlq_n_u64(vreinterpretq_u64_u32(a.v), 32))};
}
template <int kCount>
FASTMLP_INLINE IntVec shift_left(IntVec a) {
    return {vshlq_n_u32(a.v, kCount)};
}
template <int kCount>
FASTMLP_INLINE IntVec shift_right(IntVec a) {
    return {vshrq_n_u32(a.v, kCount)};
}
FASTMLP_INLINE Vec to_float(IntVec a) { return {vcvtq_f32_s32(vreinterpretq_s32_u32(a.v))}; }
FASTMLP_INLINE Vec load_uint8(const std::uint8_t* p) {
    const std::uint32_t words[4] = {p[0], p[1], p[2], p[3]};
    return {vcvtq_f32_u32(vld1q_u32(words))};
}
FASTMLP_INLINE void store_uint8(std::uint8_t* p, Vec a) {
    const uint16x4_t halves = vmovn_u32(vreinterpretq_u32_s32(vcvtnq_s32_f32(a.v)));
    const uint32_t bytes = vget_lane_u32(vreinterpret_u32_u8(vmovn_u16(vcombine_u16(halves, halves))), 0);
    __builtin_memcpy(p, &bytes, sizeof(bytes));
}

#elif defined(FASTMLP_TARGET_BASELINE)  // x86-64: SSE2, no fused multiply-add

struct Vec {
    __m128 v;
};
struct IntVec {
    __m128i v;
};
constexpr int kLanes = 4;

FASTMLP_INLINE Vec load(const float* p) { return {_mm_load_ps(p)}; }
FASTMLP_INLINE Vec load_unaligned(const float* p) { return {_mm_loadu_ps(p)}; }
FASTMLP_INLINE void store(float* p, Vec a) { _mm_store_ps(p, a.v); }
FASTMLP_INLINE void stream(float* p, Vec a) { _mm_stream_ps(p, a.v); }
FASTMLP_INLINE void store_unaligned(float* p, Vec a) { _mm_storeu_ps(p, a.v); }
FASTMLP_INLINE Vec splat(float x) { return {_mm_set1_ps(x)}; }
FASTMLP_INLINE Vec fma(Vec a, Vec b, Vec c) { return {_mm_add_ps(_mm_mul_ps(a.v, b.v), c.v)}; }
FASTMLP_INLINE Vec operator+(Vec a, Vec b) { return {_mm_add_ps(a.v, b.v)}; }
FASTMLP_INLINE Vec operator-(Vec a, Vec b) { return {_mm_sub_ps(a.v, b.v)}; }
FASTMLP_INLINE Vec operator*(Vec a, Vec b) { return {_mm_mul_ps(a.v, b.v)}; }
FASTMLP_INLINE Vec operator/(Vec a, Vec b) { return {_mm_div_ps(a.v, b.v)}; }
FASTMLP_INLINE Vec square_root(Vec a) { return {_mm_sqrt_ps(a.v)}; }
FASTMLP_INLINE Vec max_keep_nan(Vec bound, Vec x) { return {_mm_max_ps(bound.v, x.v)}; }
FASTMLP_INLINE Vec min_drop_nan(Vec x, Vec bound) { return {_mm_min_ps(x.v, bound.v)}; }
FASTMLP_INLINE Vec where_less(Vec a, Vec b, Vec yes, Vec no) {
    const __m128 mask = _mm_cmplt_ps(a.v, b.v);
    return {_mm_or_ps(_mm_and_ps(mask, yes.v), _mm_andnot_ps(mask, no.v))};
}
FASTMLP_INLINE unsigned nonzero_mask(Vec a) {
    return static_cast<unsigned>(_mm_movemask_ps(_mm_cmpneq_ps(a.v, _mm_setzero_ps())));
}
FASTMLP_INLINE IntVec bits(Vec a) { return {_mm_castps_si128(a.v)}; }
FASTMLP_INLINE Vec from_bits(IntVec a) { return {_mm_castsi128_ps(a.v)}; }
FASTMLP_INLINE IntVec splat_bits(std::uint32_t x) { return {_mm_set1_epi32(static_cast<std::int32_t>(x))}; }
FASTMLP_INLINE IntVec operator+(IntVec a, IntVec b) { return {_mm_add_epi32(a.v, b.v)}; }
FASTMLP_INLINE IntVec operator-(IntVec a, IntVec b) { return {_mm_sub_epi32(a.v, b.v)}; }
FASTMLP_INLINE IntVec operator&(IntVec a, IntVec b) { return {_mm_and_si128(a.v, b.v)}; }
FASTMLP_INLINE IntVec operator|(IntVec a, IntVec b) { return {_mm_or_si128(a.v, b.v)}; }
FASTMLP_INLINE IntVec operator^(IntVec a, IntVec b) { return {_mm_xor_si128(a.v, b.v)}; }
FASTMLP_INLINE IntVec multiply_even_lanes(IntVec a, IntVec b) { return {_mm_mul_epu32(a.v, b.v)}; }
FASTMLP_INLINE IntVec multiply_add_pairs(IntVec a, IntVec b) { return {_mm_madd_epi16(a.v, b.v)}; }
FASTMLP_INLINE IntVec even_lanes_from_odd(IntVec a) { return {_mm_srli_epi64(a.v, 32)}; }
FASTMLP_INLINE IntVec odd_lanes_from_even(IntVec a) { return {_mm_slli_epi64(a.v, 32)}; }
template <int kCount>
FASTMLP_INLINE IntVec shift_left(IntVec a) {
    return {_mm_slli_epi32(a.v, kCount)};
}
template <int kCount>
FASTMLP_INLINE IntVec shift_right(IntVec a) {
    return {_mm_srli_epi32(a.v, kCount)};
}
FASTMLP_INLINE Vec to_float(IntVec a) { return {_mm_cvtepi32_ps(a.v)}; }
FASTMLP_INLINE Vec load_uint8(const std::uint8_t* p) {
    return {_mm_cvtepi32_ps(_mm_set_epi32(p[3], p[2], p[1], p[0]))};
}
FASTMLP_INLINE void store_uint8(std::uint8_t* p, Vec a) {
    const __m128i halves = _mm_packs_epi32(_mm_cvtps_epi32(a.v), _mm_setzero_si128());
    const int bytes = _mm_cvtsi128_si32(_mm_packus_epi16(halves, halves));
    __builtin_memcpy(p, &bytes, sizeof(bytes));
}

#else
#error "define one FASTMLP_TARGET_<set>"
#endif

#if defined(FASTMLP_TARGET_AVX512_BF16)

FASTMLP_INLINE Vec dot_pairs(Vec a, Vec b, Vec c) {
    return {_mm512_dpbf16_ps(c.v, (__m512bh)_mm512_castps_si512(a.v), (__m512bh)_mm512_castps_si512(b.v))};
}
// Lane i: (a[i], b[i]), rounded to nearest, ties to even.
FASTMLP_INLINE Vec pairs_of_rows(Vec a, Vec b) {
    const __m512i halves = (__m512i)_mm512_cvtne2ps_pbh(b.v, a.v);  // 16 of a, then 16 of b
    const __m512i alternate = _mm512_set_epi16(31, 15, 30, 14, 29, 13, 28, 12, 27, 11, 26, 10, 25, 9, 24, 8, 23, 7, 22,
                                               6, 21, 5, 20, 4, 19, 3, 18, 2, 17, 1, 16, 0);
    return {_mm512_castsi512_ps(_mm512_permutexvar_epi16(alternate, halves))};
}
FASTMLP_INLINE unsigned nonzero_bits_mask(Vec a) {
    return _mm512_test_epi32_mask(_mm512_castps_si512(a.v), _mm512_set1_epi32(0x7fff7fff));
}
// Half as many lanes: (a[0], a[1]), (a[2], a[3]), ...
FASTMLP_INLINE void store_pairs_of_columns(float* p, Vec a) {
    _mm256_store_si256(reinterpret_cast<__m256i*>(p), (__m256i)_mm512_cvtneps_pbh(a.v));
}

#elif defined(FASTMLP_TARGET_NEON_BF16)

FASTMLP_INLINE Vec dot_pairs(Vec a, Vec b, Vec c) {
    return {vbfdotq_f32(c.v, vreinterpretq_bf16_f32(a.v), vreinterpretq_bf16_f32(b.v))};
}
FASTMLP_INLINE Vec pairs_of_rows(Vec a, Vec b) {
    const uint16x4_t first = vreinterpret_u16_bf16(vcvt_bf16_f32(a.v));
    const uint16x4_t second = vreinterpret_u16_bf16(vcvt_bf16_f32(b.v));
    return {vreinterpretq_f32_u16(vcombine_u16(vzip1_u16(first, second), vzip2_u16(first, second)))};
}
FASTMLP_INLINE unsigned nonzero_bits_mask(Vec a) {
    const std::uint32_t weights[4] = {1, 2, 4, 8};
    return vaddvq_u32(vandq_u32(vld1q_u32(weights), vtstq_u32(bits(a).v, vdupq_n_u32(0x7fff7fff))));
}
FASTMLP_INLINE void store_pairs_of_columns(float* p, Vec a) { vst1_f32(p, vreinterpret_f32_bf16(vcvt_bf16_f32(a.v))); }

#endif

// The same on the lower half of the lanes alone, which takes half of the time on a processor that handles 256 bits at a
// time; the upper half of the result is 0.
#if defined(FASTMLP_TARGET_AVX512)
constexpr bool kHasHalves = true;
FASTMLP_INLINE __m256 lower(Vec a) { return _mm512_castps512_ps256(a.v); }
FASTMLP_INLINE Vec load_lower(const float* p) { return {_mm512_zextps256_ps512(_mm256_load_ps(p))}; }
FASTMLP_INLINE void store_lower(float* p, Vec a) { _mm256_store_ps(p, lower(a)); }
FASTMLP_INLINE Vec fma_lower(Vec a, Vec b, Vec c) {
    return {_mm512_zextps256_ps512(_mm256_fmadd_ps(lower(a), lower(b), lower(c)))};
}
FASTMLP_INLINE Vec divide_lower(Vec a, Vec b) { return {_mm512_zextps256_ps512(_mm256_div_ps(lower(a), lower(b)))}; }
FASTMLP_INLINE Vec square_root_lower(Vec a) { return {_mm512_zextps256_ps512(_mm256_sqrt_ps(lower(a)))}; }
#if defined(FASTMLP_PAIR_PRODUCTS)
FASTMLP_INLINE Vec dot_pairs_lower(Vec a, Vec b, Vec c) {
    const __m256bh left = (__m256bh)_mm256_castps_si256(lower(a)), right = (__m256bh)_mm256_castps_si256(lower(b));
    return {_mm512_zextps256_ps512(_mm256_dpbf16_ps(lower(c), left, right))};
}
#endif
#else
constexpr bool kHasHalves = false;  // so these are not called
FASTMLP_INLINE Vec load_lower(const float* p) { return load(p); }
FASTMLP_INLINE Vec fma_lower(Vec a, Vec b, Vec c) { return fma(a, b, c); }
FASTMLP_INLINE Vec divide_lower(Vec a, Vec b) { return a / b; }
FASTMLP_INLINE Vec square_root_lower(Vec a) { return square_root(a); }
#if defined(FASTMLP_PAIR_PRODUCTS)
FASTMLP_INLINE Vec dot_pairs_lower(Vec a, Vec b, Vec c) { return dot_pairs(a, b, c); }
#endif
#endif

// The first lane of f(lower half, upper half), and so on down to one lane.
#if defined(FASTMLP_TARGET_NEON)
template <class F>
FASTMLP_INLINE float reduce_vec(Vec a, F f) {
    a = f(a, Vec{vextq_f32(a.v, a.v, 2)});
    a = f(a, Vec{vextq_f32(a.v, a.v, 1)});
    return vgetq_lane_f32(a.v, 0);
}
#elif defined(FASTMLP_TARGET_BASELINE)
template <class F>
FASTMLP_INLINE float reduce_vec(Vec a, F f) {
    a = f(a, Vec{_mm_movehl_ps(a.v, a.v)});
    a = f(a, Vec{_mm_shuffle_ps(a.v, a.v, 1)});
    return _mm_cvtss_f32(a.v);
}
#else
template <class F>
FASTMLP_INLINE float reduce_256(__m256 a, F f) {
    const auto widen = [](__m256 x) {
#if defined(FASTMLP_TARGET_AVX512)
        return Vec{_mm512_castps256_ps512(x)};
#else
        return Vec{x};
#endif
    };
    const auto narrow = [](Vec x) {
#if defined(FASTMLP_TARGET_AVX512)
        return _mm512_castps512_ps256(x.v);
#else
        return x.v;
#endif
    };
    a = narrow(f(widen(a), widen(_mm256_permute2f128_ps(a, a, 1))));
    a = narrow(f(widen(a), widen(_mm256_permute_ps(a, 0x4e))));
    a = narrow(f(widen(a), widen(_mm256_permute_ps(a, 0x01))));
    return _mm256_cvtss_f32(a);
}
#if defined(FASTMLP_TARGET_AVX512)
template <class F>
FASTMLP_INLINE float reduce_vec(Vec a, F f) {
    const Vec high{_mm512_shuffle_f32x4(a.v, a.v, 0x4e)};
    return reduce_256(_mm512_castps512_ps256(f(a, high).v), f);
}
#else
template <class F>
FASTMLP_INLINE float reduce_vec(Vec a, F f) {
    return reduce_256(a.v, f);
}
#endif
#endif

// multiply_even_lanes gives 64-bit products of the even lanes, the lower half in the even lane; the odd lanes of its
// arguments are ignored. even_lanes_from_odd and odd_lanes_from_even move these lanes and leave 0 in the others.
// multiply_add_pairs takes each lane as two signed 16-bit integers and gives the sum of their two products.
// store_uint8 rounds numbers from 0 to 255 to the nearest integer, ties to even.
// max_keep_nan(bound, x) is NaN where x is (x86 returns its second operand then), min_drop_nan(x, bound) is bound
// there. Their zeros have no promised sign.

constexpr int kVecs = static_cast<int>(kPanel) / kLanes;  // vectors per line

struct Line {
    Vec part[kVecs];
};

// Brings the line that lies this many floats further into the L1 or L2 cache, and takes it away from other cores'
// caches, which would otherwise hold up the store. The address need not be one of this process.
FASTMLP_INLINE void prefetch_to_write(const float* p, std::ptrdiff_t distance) {
    const auto address = reinterpret_cast<std::uintptr_t>(p) + distance * sizeof(float);
    __builtin_prefetch(reinterpret_cast<const void*>(address), 1, 2);
}

// f applied to the vectors of one, two or three lines.
template <class F>
FASTMLP_INLINE Line map(F f, const Line& a) {
    Line out;
#pragma GCC unroll 4
    for (int i = 0; i < kVecs; ++i) out.part[i] = f(a.part[i]);
    return out;
}
template <class F>
FASTMLP_INLINE Line map(F f, const Line& a, const Line& b) {
    Line out;
#pragma GCC unroll 4
    for (int i = 0; i < kVecs; ++i) out.part[i] = f(a.part[i], b.part[i]);
    return out;
}
template <class F>
FASTMLP_INLINE Line map(F f, const Line& a, const Line& b, const Line& c) {
    Line out;
#pragma GCC unroll 4
    for (int i = 0; i < kVecs; ++i) out.part[i] = f(a.part[i], b.part[i], c.part[i]);
    return out;
}

FASTMLP_INLINE Line load_line(const float* p) {
    Line out;
#pragma GCC unroll 4
    for (int i = 0; i < kVecs; ++i) out.part[i] = load(p + i * kLanes);
    return out;
}
FASTMLP_INLINE Line load_line_unaligned(const float* p) {
    Line out;
#pragma GCC unroll 4
    for (int i = 0; i < kVecs; ++i) out.part[i] = load_unaligned(p + i * kLanes);
    return out;
}
// The first `count` floats, a line at most, and zeros; what follows them is not read.
FASTMLP_INLINE Line load_padded(const float* p, std::size_t count) {
#if defined(FASTMLP_TARGET_AVX512)
    return {{{_mm512_maskz_loadu_ps(static_cast<__mmask16>((1u << count) - 1u), p)}}};
#elif defined(FASTMLP_TARGET_AVX2)
    static constexpr std::int32_t kOnesAndZeros[2 * kLanes] = {-1, -1, -1, -1, -1, -1, -1, -1};
    const auto load_first = [&](const float* from, std::size_t n) {
        const std::int32_t* mask = kOnesAndZeros + kLanes - (n < kLanes ? n : kLanes);
        return Vec{_mm256_maskload_ps(from, _mm256_loadu_si256(reinterpret_cast<const __m256i*>(mask)))};
    };
    return {{load_first(p, count), load_first(p + kLanes, count < kLanes ? 0 : count - kLanes)}};
#else
    alignas(64) float padded[kPanel] = {};
    for (std::size_t i = 0; i < count; ++i) padded[i] = p[i];
    return load_line(padded);
#endif
}
FASTMLP_INLINE Line load_line_uint8(const std::uint8_t* p) {
    Line out;
#pragma GCC unroll 4
    for (int i = 0; i < kVecs; ++i) out.part[i] = load_uint8(p + i * kLanes);
    return out;
}
FASTMLP_INLINE void store_line(float* p, const Line& a) {
#pragma GCC unroll 4
    for (int i = 0; i < kVecs; ++i) store(p + i * kLanes, a.part[i]);
}
// To memory, past the caches, if it streams; then finish_streams must precede what tells other threads of it.
template <bool kStreams>
FASTMLP_INLINE void store_line(float* p, const Line& a) {
    if constexpr (!kStreams) return store_line(p, a);
#pragma GCC unroll 4
    for (int i = 0; i < kVecs; ++i) stream(p + i * kLanes, a.part[i]);
}
FASTMLP_INLINE void finish_streams() {
#if !defined(FASTMLP_TARGET_NEON)
    _mm_sfence();
#endif
}
FASTMLP_INLINE void store_line_unaligned(float* p, const Line& a) {
#pragma GCC unroll 4
    for (int i = 0; i < kVecs; ++i) store_unaligned(p + i * kLanes, a.part[i]);
}
FASTMLP_INLINE void store_line_uint8(std::uint8_t* p, const Line& a) {
#pragma GCC unroll 4
    for (int i = 0; i < kVecs; ++i) store_uint8(p + i * kLanes, a.part[i]);
}
FASTMLP_INLINE Line splat_line(float x) {
    Line out;
#pragma GCC unroll 4
    for (int i = 0; i < kVecs; ++i) out.part[i] = splat(x);
    return out;
}

FASTMLP_INLINE Line operator+(const Line& a, const Line& b) {
    return map([](Vec x, Vec y) { return x + y; }, a, b);
}
FASTMLP_INLINE Line operator-(const Line& a, const Line& b) {
    return map([](Vec x, Vec y) { return x - y; }, a, b);
}
FASTMLP_INLINE Line operator*(const Line& a, const Line& b) {
    return map([](Vec x, Vec y) { return x * y; }, a, b);
}
FASTMLP_INLINE Line operator/(const Line& a, const Line& b) {
    return map([](Vec x, Vec y) { return x / y; }, a, b);
}
FASTMLP_INLINE Line fma(const Line& a, const Line& b, const Line& c) {
    return map([](Vec x, Vec y, Vec z) { return fma(x, y, z); }, a, b, c);
}
FASTMLP_INLINE Line max_keep_nan(const Line& bound, const Line& x) {
    return map([](Vec b, Vec y) { return max_keep_nan(b, y); }, bound, x);
}

alignas(64) constexpr float kLaneIndex[kPanel] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};

// Bit i is set if lane i is not 0; NaN counts as not 0.
FASTMLP_INLINE unsigned nonzero_mask(const Line& a) {
    unsigned mask = 0;
#pragma GCC unroll 4
    for (int i = 0; i < kVecs; ++i) mask |= nonzero_mask(a.part[i]) << (i * kLanes);
    return mask;
}

#if defined(FASTMLP_PAIR_PRODUCTS)
// Bit i is set if lane i holds any bit but those of zeros: a float compare would take some pairs for denormals.
FASTMLP_INLINE unsigned nonzero_bits_mask(const Line& a) {
    unsigned mask = 0;
#pragma GCC unroll 4
    for (int i = 0; i < kVecs; ++i) mask |= nonzero_bits_mask(a.part[i]) << (i * kLanes);
    return mask;
}
FASTMLP_INLINE Line pairs_of_rows(const Line& a, const Line& b) {
    Line out;
#pragma GCC unroll 4
    for (int i = 0; i < kVecs; ++i) out.part[i] = pairs_of_rows(a.part[i], b.part[i]);
    return out;
}
FASTMLP_INLINE void store_pairs_of_columns(float* p, const Line& a) {
#pragma GCC unroll 4
    for (int i = 0; i < kVecs; ++i) store_pairs_of_columns(p + i * kLanes / 2, a.part[i]);
}
#endif

// f over the 16 lanes in a fixed tree: 16 to 8 to 4 to 2 to 1, halves combined lane by lane.
template <class F>
FASTMLP_INLINE float reduce_lanes(const Line& a, F f) {
    Line half = a;
#pragma GCC unroll 4
    for (int width = kVecs / 2; width > 0; width /= 2)
#pragma GCC unroll 2
        for (int i = 0; i < width; ++i) half.part[i] = f(half.part[i], half.part[i + width]);
    return reduce_vec(half.part[0], f);
}
FASTMLP_INLINE float sum_lanes(const Line& a) {
    return reduce_lanes(a, [](Vec x, Vec y) { return x + y; });
}
FASTMLP_INLINE float max_lane(const Line& a) {
    return reduce_lanes(a, [](Vec x, Vec y) { return max_keep_nan(x, y); });
}

}  // namespace
}  // namespace fastmlp
