// What the words of a product's operands are: numbers, or pairs of bfloat16 on sets that multiply those.
#pragma once

#include "simd.h"
#include "transpose.inl"

namespace fastmlp {
namespace {

struct FloatWord {
    static constexpr std::size_t kNumbers = 1;
    // lower: of the lower half of the lanes; known to the compiler.
    static FASTMLP_INLINE Vec multiply_add(Vec a, Vec b, Vec c, bool lower = false) {
        return lower ? fma_lower(a, b, c) : fma(a, b, c);
    }
    static FASTMLP_INLINE unsigned nonzero_mask(const Line& words) { return fastmlp::nonzero_mask(words); }
    // sum and the numbers of these words, one after the other.
    static FASTMLP_INLINE Line add(const Line& sum, const Line& words) { return sum + words; }
    // kPanel / kNumbers lines of the operand to as many of its transpose.
    static FASTMLP_INLINE void transpose(const float* in, float* out) { transpose_floats(in, out); }
};

#if defined(FASTMLP_PAIR_PRODUCTS)
struct PairWord {
    static constexpr std::size_t kNumbers = 2;
    static FASTMLP_INLINE Vec multiply_add(Vec a, Vec b, Vec c, bool lower = false) {
        return lower ? dot_pairs_lower(a, b, c) : dot_pairs(a, b, c);
    }
    static FASTMLP_INLINE unsigned nonzero_mask(const Line& words) { return nonzero_bits_mask(words); }
    static FASTMLP_INLINE Line add(const Line& sum, const Line& words) {
        const Line first = map([](Vec pairs) { return from_bits(shift_left<16>(bits(pairs))); }, words);
        const Line second = map([](Vec pairs) { return from_bits(bits(pairs) & splat_bits(0xffff0000u)); }, words);
        return sum + first + second;
    }
    static FASTMLP_INLINE void transpose(const float* in, float* out) { transpose_pairs(in, out); }
};
#endif

// One panel of the transpose: see Products.
template <class Word>
void transpose_panel(const float* w, std::size_t w_panel_stride, std::size_t depths, std::size_t columns, float* out) {
    constexpr std::size_t kLines = kPanel / Word::kNumbers;
    const std::size_t lines = (depths + Word::kNumbers - 1) / Word::kNumbers;
    alignas(64) float padded[kLines * kPanel], transposed[kLines * kPanel];
    for (std::size_t first = 0; first < columns; first += kPanel, w += w_panel_stride, out += kLines * kPanel) {
        const float* in = w;
        if (lines < kLines) {
            for (std::size_t i = 0; i < kLines; ++i)
                store_line(padded + i * kPanel, i < lines ? load_line(w + i * kPanel) : splat_line(0.0f));
            in = padded;
        }
        const std::size_t count = columns - first;
        if (count >= kPanel) {
            Word::transpose(in, out);
        } else {
            Word::transpose(in, transposed);
            for (std::size_t i = 0; i < (count + Word::kNumbers - 1) / Word::kNumbers; ++i)
                store_line(out + i * kPanel, load_line(transposed + i * kPanel));
        }
    }
}

}  // namespace
}  // namespace fastmlp
