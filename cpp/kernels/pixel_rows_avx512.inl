// Lists of rows from pixels where bytes can be moved together as well (AVX512_VBMI2, which all processors with bfloat16
// but Intel's Cooper Lake have). Of 64 pixels at a time, those that are not 0 come together with their numbers, as
// narrow as they are, until all rows have been gone through; of these few, 16 at a time become words and places.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include "pixel_lists_avx512.inl"

namespace fastmlp {
namespace {

constexpr std::size_t kBytes = 64;  // in a vector

// 0, 1, 2, ...
template <class Number>
constexpr auto kNumbersFrom0 = [] {
    std::array<Number, kBytes / sizeof(Number)> numbers{};
    for (std::size_t i = 0; i < numbers.size(); ++i) numbers[i] = static_cast<Number>(i);
    return numbers;
}();

// A word's pixels are a Narrow, and so is its number.
template <class Word>
struct NarrowWords;

template <>
struct NarrowWords<FloatWord> {
    using Narrow = std::uint8_t;
    static FASTMLP_INLINE std::uint64_t nonzero(__m512i pixels) { return _mm512_test_epi8_mask(pixels, pixels); }
    static FASTMLP_INLINE __m512i chosen(std::uint64_t mask, __m512i x) { return _mm512_maskz_compress_epi8(mask, x); }
    static FASTMLP_INLINE __m512i numbers_from(std::size_t first) {
        return _mm512_add_epi8(_mm512_loadu_si512(kNumbersFrom0<Narrow>.data()),
                               _mm512_set1_epi8(static_cast<std::int8_t>(first)));
    }
    static FASTMLP_INLINE __m512i widened(const Narrow* x) {
        return _mm512_cvtepu8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(x)));
    }
    static FASTMLP_INLINE __m512i words_of(__m512i pixels) { return _mm512_castps_si512(_mm512_cvtepi32_ps(pixels)); }
};

template <>
struct NarrowWords<PairWord> {
    using Narrow = std::uint16_t;
    static FASTMLP_INLINE std::uint64_t nonzero(__m512i pixels) { return _mm512_test_epi16_mask(pixels, pixels); }
    static FASTMLP_INLINE __m512i chosen(std::uint64_t mask, __m512i x) {
        return _mm512_maskz_compress_epi16(static_cast<__mmask32>(mask), x);
    }
    static FASTMLP_INLINE __m512i numbers_from(std::size_t first) {
        return _mm512_add_epi16(_mm512_loadu_si512(kNumbersFrom0<Narrow>.data()),
                                _mm512_set1_epi16(static_cast<std::int16_t>(first)));
    }
    static FASTMLP_INLINE __m512i widened(const Narrow* x) {
        return _mm512_cvtepu16_epi32(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(x)));
    }
    static FASTMLP_INLINE __m512i words_of(__m512i pixels) { return PixelWords<PairWord>::words_of(pixels); }
};

template <class Word>
void list_pixel_rows(const PixelRows& from, std::size_t first_column, std::size_t columns, std::uint32_t first,
                     ListedRows out) {
    using Words = NarrowWords<Word>;
    using Narrow = typename Words::Narrow;
    static_assert(kMostListedDepth <= std::size_t{1} << 8 * sizeof(Narrow));
    constexpr std::size_t kMost = kPanel * kMostListedDepth + kBytes;
    alignas(kBytes) Narrow chosen[kMost], numbers[kMost];
    std::uint32_t count = 0;
    const auto choose = [&](__m512i pixels, std::size_t column) __attribute__((always_inline)) {
        const std::uint64_t mask = Words::nonzero(pixels);
        _mm512_storeu_si512(chosen + count, Words::chosen(mask, pixels));
        _mm512_storeu_si512(numbers + count, Words::chosen(mask, Words::numbers_from(column / Word::kNumbers)));
        count += static_cast<std::uint32_t>(__builtin_popcountll(mask));
    };
    const std::size_t whole = columns / kBytes * kBytes;
    const __mmask64 rest = (std::uint64_t{1} << (columns - whole)) - 1;
    for (std::size_t row = 0; row < from.rows; ++row) {
        const std::uint8_t* pixels = row_of(from, row) + first_column;
        for (std::size_t column = 0; column < whole; column += kBytes)
            choose(_mm512_loadu_si512(pixels + column), column);
        if (whole < columns) choose(_mm512_maskz_loadu_epi8(rest, pixels + whole), whole);
        out.ends[row] = first + count;
    }
    for (std::uint32_t i = 0; i < count; i += kPanel) {
        _mm512_storeu_si512(out.words + first + i, Words::words_of(Words::widened(chosen + i)));
        _mm512_storeu_si512(out.places + first + i, _mm512_slli_epi32(Words::widened(numbers + i), 4));
    }
}

}  // namespace
}  // namespace fastmlp
