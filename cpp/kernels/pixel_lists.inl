// Lists straight from pixels, without a matrix of them in between: a pixel is a byte until it is known not to be 0. On
// sets that move chosen lanes together.
#pragma once

#include "words.inl"

namespace fastmlp {
namespace {

#if defined(FASTMLP_TARGET_AVX512)

FASTMLP_INLINE const std::uint8_t* pixels_of(const PixelRows& from, std::size_t row) {
    const std::size_t source = from.index == nullptr ? row : static_cast<std::size_t>(from.index[row]);
    return from.data + source * from.row_stride;
}

// Up to 16 pixels; beyond these zeros.
FASTMLP_INLINE __m128i load_pixels(const std::uint8_t* pixels, std::size_t count) {
    if (count >= kPanel) return _mm_loadu_si128(reinterpret_cast<const __m128i*>(pixels));
    return _mm_maskz_loadu_epi8(static_cast<__mmask16>((1u << count) - 1u), pixels);
}

FASTMLP_INLINE __m512 floats_of(__m128i pixels) { return _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(pixels)); }

// 16 times the lane, from `first` on.
FASTMLP_INLINE __m512i places_from(std::size_t first) {
    return _mm512_add_epi32(_mm512_set1_epi32(static_cast<std::int32_t>(first)),
                            _mm512_setr_epi32(0, 16, 32, 48, 64, 80, 96, 112, 128, 144, 160, 176, 192, 208, 224, 240));
}

// The four groups of a panel: of each, as one 32-bit lane a row, the pixels of up to 16 rows. Beyond these zeros.
struct PanelGroups {
    __m512i group[kPanel / kListedColumns];
};

FASTMLP_INLINE PanelGroups load_groups(const PixelRows& from, std::size_t column) {
    static_assert(kListedColumns == 4);
    const __m512i by_columns = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
    const std::size_t count = from.columns - column;
    __m512i four_rows[4];
#pragma GCC unroll 4
    for (std::size_t i = 0; i < 4; ++i) {
        __m128i row[4];
#pragma GCC unroll 4
        for (std::size_t j = 0; j < 4; ++j)
            row[j] =
                4 * i + j < from.rows ? load_pixels(pixels_of(from, 4 * i + j) + column, count) : _mm_setzero_si128();
        __m512i rows = _mm512_castsi128_si512(row[0]);
        rows = _mm512_inserti32x4(rows, row[1], 1);
        rows = _mm512_inserti32x4(rows, row[2], 2);
        rows = _mm512_inserti32x4(rows, row[3], 3);
        four_rows[i] = _mm512_permutexvar_epi32(by_columns, rows);
    }
    // four_rows[i] now has in its quarter g the rows 4 i to 4 i + 3 of group g.
    const __m512i even_low = _mm512_shuffle_i32x4(four_rows[0], four_rows[1], 0x88);
    const __m512i even_high = _mm512_shuffle_i32x4(four_rows[2], four_rows[3], 0x88);
    const __m512i odd_low = _mm512_shuffle_i32x4(four_rows[0], four_rows[1], 0xdd);
    const __m512i odd_high = _mm512_shuffle_i32x4(four_rows[2], four_rows[3], 0xdd);
    return {{_mm512_shuffle_i32x4(even_low, even_high, 0x88), _mm512_shuffle_i32x4(odd_low, odd_high, 0x88),
             _mm512_shuffle_i32x4(even_low, even_high, 0xdd), _mm512_shuffle_i32x4(odd_low, odd_high, 0xdd)}};
}

// Calls f(i, quarter i) for the quarters of x before number `end`, at least one.
template <class F>
FASTMLP_INLINE void for_quarters(__m512i x, unsigned end, F f) {
    f(0, _mm512_castsi512_si128(x));
    if (end > 1) f(1, _mm512_extracti32x4_epi32(x, 1));
    if (end > 2) f(2, _mm512_extracti32x4_epi32(x, 2));
    if (end > 3) f(3, _mm512_extracti32x4_epi32(x, 3));
}

// How pixels become words.
template <class Word>
struct PixelWords;

template <>
struct PixelWords<FloatWord> {
    static constexpr std::size_t kPixels = kPanel;  // of a line of words
    struct ListedLine {
        __m512 words;
        unsigned mask;  // of those that are not 0
    };
    static FASTMLP_INLINE ListedLine line(const std::uint8_t* pixels, std::size_t count) {
        const __m128i x = load_pixels(pixels, count);
        return {floats_of(x), _mm_test_epi8_mask(x, x)};
    }
    // Appends the rows of a group; returns their number.
    static FASTMLP_INLINE unsigned append(__m512i group, __m512i places, std::uint32_t* listed_places, float* words) {
        const __mmask16 listed = _mm512_test_epi32_mask(group, group);
        if (listed == 0) return 0;
        const auto count = static_cast<unsigned>(__builtin_popcount(listed));
        _mm512_storeu_si512(listed_places, _mm512_maskz_compress_epi32(listed, places));
        for_quarters(_mm512_maskz_compress_epi32(listed, group), (count + 3) / 4,
                     [&](std::size_t i, __m128i pixels) { _mm512_storeu_ps(words + kPanel * i, floats_of(pixels)); });
        return count;
    }
};

#if defined(FASTMLP_PAIR_PRODUCTS)
template <>
struct PixelWords<PairWord> {
    static constexpr std::size_t kPixels = 2 * kPanel;
    struct ListedLine {
        __m512 words;
        unsigned mask;
    };
    // 16 pixels as bfloat16: their floats end in 16 zeros.
    static FASTMLP_INLINE __m256i bfloat16s_of(__m128i pixels) {
        return _mm512_cvtepi32_epi16(_mm512_srli_epi32(_mm512_castps_si512(floats_of(pixels)), 16));
    }
    static FASTMLP_INLINE ListedLine line(const std::uint8_t* pixels, std::size_t count) {
        const __m128i low = load_pixels(pixels, count);
        const __m128i high = count > kPanel ? load_pixels(pixels + kPanel, count - kPanel) : _mm_setzero_si128();
        const __m512i words = _mm512_inserti64x4(_mm512_castsi256_si512(bfloat16s_of(low)), bfloat16s_of(high), 1);
        return {_mm512_castsi512_ps(words),
                _mm_test_epi16_mask(low, low) | static_cast<unsigned>(_mm_test_epi16_mask(high, high)) << 8};
    }
    // Neighbouring lanes of a group are a pair of rows.
    static FASTMLP_INLINE unsigned append(__m512i group, __m512i places, std::uint32_t* listed_places, float* words) {
        const __m128i alternate = _mm_setr_epi8(0, 4, 1, 5, 2, 6, 3, 7, 8, 12, 9, 13, 10, 14, 11, 15);
        const __mmask8 listed = _mm512_test_epi64_mask(group, group);
        if (listed == 0) return 0;
        const auto count = static_cast<unsigned>(__builtin_popcount(listed));
        _mm256_storeu_si256(reinterpret_cast<__m256i*>(listed_places),
                            _mm256_maskz_compress_epi32(listed, _mm512_castsi512_si256(places)));
        for_quarters(_mm512_maskz_compress_epi64(listed, group), (count + 1) / 2, [&](std::size_t i, __m128i pixels) {
            _mm256_storeu_si256(reinterpret_cast<__m256i*>(words + kPanel / 2 * i),
                                bfloat16s_of(_mm_shuffle_epi8(pixels, alternate)));
        });
        return count;
    }
};
#endif

template <class Word>
void list_pixel_rows(const PixelRows& from, std::size_t first_column, std::size_t columns, std::uint32_t first,
                     ListedRows out) {
    using Words = PixelWords<Word>;
    std::uint32_t end = first;
    for (std::size_t row = 0; row < from.rows; ++row) {
        const std::uint8_t* pixels = pixels_of(from, row) + first_column;
        std::size_t place = 0;
        for (std::size_t column = 0; column < columns; column += Words::kPixels, place += kPanel * kPanel) {
            const auto [words, mask] = Words::line(pixels + column, columns - column);
            const auto chosen = static_cast<__mmask16>(mask);
            _mm512_storeu_ps(out.words + end, _mm512_maskz_compress_ps(chosen, words));
            _mm512_storeu_si512(out.places + end, _mm512_maskz_compress_epi32(chosen, places_from(place)));
            end += static_cast<std::uint32_t>(__builtin_popcount(mask));
        }
        out.ends[row] = end;
    }
}

template <class Word>
void list_pixel_groups(const PixelRows& from, std::size_t first_row, ListedGroups out) {
    const __m512i places = places_from(first_row * kPanel);
    const std::size_t n_groups = (from.columns + kListedColumns - 1) / kListedColumns;
    for (std::size_t first = 0; first < n_groups; first += kPanel / kListedColumns) {
        const PanelGroups panel = load_groups(from, first * kListedColumns);
#pragma GCC unroll 4
        for (std::size_t i = 0; i < kPanel / kListedColumns; ++i) {
            if (first + i == n_groups) break;
            std::uint32_t& count = out.counts[first + i];
            const std::size_t end = (first + i) * out.capacity + count;
            count +=
                PixelWords<Word>::append(panel.group[i], places, out.places + end, out.words + end * kListedColumns);
        }
    }
}

template <class Word>
constexpr void set_pixel_lists(Products& products) {
    products.list_pixel_rows = list_pixel_rows<Word>;
    products.list_pixel_groups = list_pixel_groups<Word>;
}

#else

template <class Word>
constexpr void set_pixel_lists(Products&) {}

#endif

}  // namespace
}  // namespace fastmlp
