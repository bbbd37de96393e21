// Transposes of small blocks, in registers where a set has the shuffles for it.
#pragma once

#include "simd.h"

namespace fastmlp {
namespace {

#if defined(FASTMLP_TARGET_AVX512)

// 16 lines to 16 lines.
FASTMLP_INLINE void transpose_floats(const float* in, float* out) {
    __m512 a[16], b[16];
#pragma GCC unroll 16
    for (int i = 0; i < 16; ++i) a[i] = _mm512_load_ps(in + 16 * i);
#pragma GCC unroll 8
    for (int i = 0; i < 16; i += 2) {
        b[i] = _mm512_unpacklo_ps(a[i], a[i + 1]);
        b[i + 1] = _mm512_unpackhi_ps(a[i], a[i + 1]);
    }
#pragma GCC unroll 4
    for (int i = 0; i < 16; i += 4) {
#pragma GCC unroll 2
        for (int half = 0; half < 2; ++half) {
            const __m512d low = _mm512_castps_pd(b[i + half]), high = _mm512_castps_pd(b[i + 2 + half]);
            a[i + 2 * half] = _mm512_castpd_ps(_mm512_unpacklo_pd(low, high));
            a[i + 2 * half + 1] = _mm512_castpd_ps(_mm512_unpackhi_pd(low, high));
        }
    }
    // a[4 q + c] now has in its quarter u the rows 4 q to 4 q + 3 of column 4 u + c.
#pragma GCC unroll 4
    for (int c = 0; c < 4; ++c) {
        const __m512 even_low = _mm512_shuffle_f32x4(a[c], a[4 + c], 0x88);
        const __m512 even_high = _mm512_shuffle_f32x4(a[8 + c], a[12 + c], 0x88);
        const __m512 odd_low = _mm512_shuffle_f32x4(a[c], a[4 + c], 0xdd);
        const __m512 odd_high = _mm512_shuffle_f32x4(a[8 + c], a[12 + c], 0xdd);
        _mm512_store_ps(out + 16 * c, _mm512_shuffle_f32x4(even_low, even_high, 0x88));
        _mm512_store_ps(out + 16 * (8 + c), _mm512_shuffle_f32x4(even_low, even_high, 0xdd));
        _mm512_store_ps(out + 16 * (4 + c), _mm512_shuffle_f32x4(odd_low, odd_high, 0x88));
        _mm512_store_ps(out + 16 * (12 + c), _mm512_shuffle_f32x4(odd_low, odd_high, 0xdd));
    }
}

#elif defined(FASTMLP_TARGET_AVX2)

// 8 x 8, lines being 16 apart.
FASTMLP_INLINE void transpose_floats_8x8(const float* in, float* out) {
    __m256 a[8], b[8];
#pragma GCC unroll 8
    for (int i = 0; i < 8; ++i) a[i] = _mm256_load_ps(in + 16 * i);
#pragma GCC unroll 4
    for (int i = 0; i < 8; i += 2) {
        b[i] = _mm256_unpacklo_ps(a[i], a[i + 1]);
        b[i + 1] = _mm256_unpackhi_ps(a[i], a[i + 1]);
    }
#pragma GCC unroll 2
    for (int i = 0; i < 8; i += 4) {
#pragma GCC unroll 2
        for (int half = 0; half < 2; ++half) {
            a[i + 2 * half] = _mm256_shuffle_ps(b[i + half], b[i + 2 + half], 0x44);
            a[i + 2 * half + 1] = _mm256_shuffle_ps(b[i + half], b[i + 2 + half], 0xee);
        }
    }
#pragma GCC unroll 4
    for (int c = 0; c < 4; ++c) {
        _mm256_store_ps(out + 16 * c, _mm256_permute2f128_ps(a[c], a[4 + c], 0x20));
        _mm256_store_ps(out + 16 * (4 + c), _mm256_permute2f128_ps(a[c], a[4 + c], 0x31));
    }
}
FASTMLP_INLINE void transpose_floats(const float* in, float* out) {
    transpose_floats_8x8(in, out);
    transpose_floats_8x8(in + 8, out + 8 * 16);
    transpose_floats_8x8(in + 8 * 16, out + 8);
    transpose_floats_8x8(in + 8 * 16 + 8, out + 8 * 16 + 8);
}

#else

FASTMLP_INLINE void transpose_floats(const float* in, float* out) {
    for (int i = 0; i < 16; ++i)
        for (int j = 0; j < 16; ++j) out[16 * j + i] = in[16 * i + j];
}

#endif

#if defined(FASTMLP_TARGET_AVX512_BF16)

// 8 lines of pairs of rows, a 16 x 16 matrix, to the same of its transpose. Each line is 8 blocks of 2 x 2.
FASTMLP_INLINE void transpose_pairs(const float* in, float* out) {
    __m512i a[8], b[8];
    const __m512i transpose_2x2 = _mm512_set4_epi32(0x0f0e0b0a, 0x0d0c0908, 0x07060302, 0x05040100);
#pragma GCC unroll 8
    for (int i = 0; i < 8; ++i) a[i] = _mm512_shuffle_epi8(_mm512_load_si512(in + 16 * i), transpose_2x2);
#pragma GCC unroll 4
    for (int i = 0; i < 8; i += 2) {
        b[i] = _mm512_unpacklo_epi64(a[i], a[i + 1]);
        b[i + 1] = _mm512_unpackhi_epi64(a[i], a[i + 1]);
    }
    // b[2 q + c] has in its quarter u the lines 2 q and 2 q + 1 of block 2 u + c.
#pragma GCC unroll 2
    for (int c = 0; c < 2; ++c) {
        const __m512i even_low = _mm512_shuffle_i64x2(b[c], b[2 + c], 0x88);
        const __m512i even_high = _mm512_shuffle_i64x2(b[4 + c], b[6 + c], 0x88);
        const __m512i odd_low = _mm512_shuffle_i64x2(b[c], b[2 + c], 0xdd);
        const __m512i odd_high = _mm512_shuffle_i64x2(b[4 + c], b[6 + c], 0xdd);
        _mm512_store_si512(out + 16 * c, _mm512_shuffle_i64x2(even_low, even_high, 0x88));
        _mm512_store_si512(out + 16 * (4 + c), _mm512_shuffle_i64x2(even_low, even_high, 0xdd));
        _mm512_store_si512(out + 16 * (2 + c), _mm512_shuffle_i64x2(odd_low, odd_high, 0x88));
        _mm512_store_si512(out + 16 * (6 + c), _mm512_shuffle_i64x2(odd_low, odd_high, 0xdd));
    }
}

#elif defined(FASTMLP_PAIR_PRODUCTS)

FASTMLP_INLINE void transpose_pairs(const float* in, float* out) {
    using Half [[gnu::may_alias]] = std::uint16_t;  // of a float
    const auto* from = reinterpret_cast<const Half*>(in);
    auto* to = reinterpret_cast<Half*>(out);
    for (int i = 0; i < 16; ++i)
        for (int j = 0; j < 16; ++j) to[32 * (j / 2) + 2 * i + j % 2] = from[32 * (i / 2) + 2 * j + i % 2];
}

#endif

}  // namespace
}  // namespace fastmlp
