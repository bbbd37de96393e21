// Lists from pixels where chosen lanes can be moved together: see pixel_lists.inl.
#pragma once

#include <cstddef>

#include "lists.inl"
#include "packing.inl"
#include "words.inl"

namespace fastmlp {
namespace {

// Up to 16 pixels; beyond these zeros.
FASTMLP_INLINE __m128i load_pixels(const std::uint8_t* pixels, std::size_t count) {
    if (count >= kPanel) return _mm_loadu_si128(reinterpret_cast<const __m128i*>(pixels));
    return _mm_maskz_loadu_epi8(static_cast<__mmask16>((1u << count) - 1u), pixels);
}

FASTMLP_INLINE __m512 floats_of(__m128i pixels) { return _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(pixels)); }

// The four groups of a panel: of each, as one 32-bit lane a row, the pixels of up to 16 rows. Beyond these zeros.
struct PanelGroups {
    __m512i group[kPanel / kListedColumns];
};

// Of up to 16 rows, which begin at `rows`, the pixels from this column on, of which there are `count`. kWhole: there
// are 16 rows of 16 pixels and more.
template <bool kWhole>
FASTMLP_INLINE PanelGroups load_groups(const std::uint8_t* const* rows, std::size_t n_rows, std::size_t column,
                                       std::size_t count) {
    static_assert(kListedColumns == 4);
    const __m512i by_columns = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
    const auto load = [&](std::size_t row) __attribute__((always_inline)) {
        if constexpr (kWhole) return load_pixels(rows[row] + column, kPanel);
        return row < n_rows ? load_pixels(rows[row] + column, count) : _mm_setzero_si128();
    };
    __m512i four_rows[4];
#pragma GCC unroll 4
    for (std::size_t i = 0; i < 4; ++i) {
        __m512i four = _mm512_castsi128_si512(load(4 * i));
        four = _mm512_inserti32x4(four, load(4 * i + 1), 1);
        four = _mm512_inserti32x4(four, load(4 * i + 2), 2);
        four = _mm512_inserti32x4(four, load(4 * i + 3), 3);
        four_rows[i] = _mm512_permutexvar_epi32(by_columns, four);
    }
    // four_rows[i] now has in its quarter g the rows 4 i to 4 i + 3 of group g.
    const __m512i even_low = _mm512_shuffle_i32x4(four_rows[0], four_rows[1], 0x88);
    const __m512i even_high = _mm512_shuffle_i32x4(four_rows[2], four_rows[3], 0x88);
    const __m512i odd_low = _mm512_shuffle_i32x4(four_rows[0], four_rows[1], 0xdd);
    const __m512i odd_high = _mm512_shuffle_i32x4(four_rows[2], four_rows[3], 0xdd);
    return {{_mm512_shuffle_i32x4(even_low, even_high, 0x88), _mm512_shuffle_i32x4(odd_low, odd_high, 0x88),
             _mm512_shuffle_i32x4(even_low, even_high, 0xdd), _mm512_shuffle_i32x4(odd_low, odd_high, 0xdd)}};
}

// Quarter number kQuarter of x.
template <int kQuarter>
FASTMLP_INLINE __m128i quarter(__m512i x) {
    return _mm512_extracti32x4_epi32(x, kQuarter);
}

// Writes four entries of a group: their words, and of `places` those from lane 4 kFour on.
template <int kFour>
FASTMLP_INLINE void store_entries(ListedWords* entries, __m512i places, __m512i words) {
    static_assert(sizeof(ListedWords) == 5 * sizeof(float) && offsetof(ListedWords, words) == sizeof(float));
    constexpr int kPlace = 16 + 4 * kFour;  // in the second of two registers
    const __m512i order =
        _mm512_setr_epi32(kPlace, 0, 1, 2, 3, kPlace + 1, 4, 5, 6, 7, kPlace + 2, 8, 9, 10, 11, kPlace + 3);
    auto* const out = reinterpret_cast<std::byte*>(entries);
    _mm512_storeu_si512(out, _mm512_permutex2var_epi32(words, order, places));
    _mm_storeu_si128(reinterpret_cast<__m128i*>(out + 64), quarter<3>(words));
}

template <>
struct PixelWords<FloatWord> {
#if !defined(FASTMLP_TARGET_AVX512_BF16)
    static constexpr std::size_t kPixels = kPanel;
    static FASTMLP_INLINE std::uint32_t append_to_row(const std::uint8_t* pixels, std::size_t count,
                                                      std::uint32_t first_place, std::uint32_t end, ListedRows out) {
        const __m128i x = load_pixels(pixels, count);
        return append_chosen(_mm512_castps_si512(floats_of(x)), first_place, _mm_test_epi8_mask(x, x), end, out);
    }
#endif

    // Which rows of a group have pixels.
    static FASTMLP_INLINE unsigned listed(__m512i group) { return _mm512_test_epi32_mask(group, group); }
    static FASTMLP_INLINE __m512i chosen(__m512i group, unsigned mask) {
        return _mm512_maskz_compress_epi32(static_cast<__mmask16>(mask), group);
    }
    // Four rows of a group, from 4 kFour on.
    template <int kFour>
    static FASTMLP_INLINE __m512i four(__m512i group) {
        return _mm512_castps_si512(floats_of(quarter<kFour>(group)));
    }
};

#if defined(FASTMLP_TARGET_AVX512_BF16)
// Neighbouring lanes of a group are a pair of rows.
template <>
struct PixelWords<PairWord> {
    // A lane's two pixels as bfloat16: their floats end in 16 zeros.
    static FASTMLP_INLINE __m512i words_of(__m512i pixels) {
        const __m512 first = _mm512_cvtepi32_ps(_mm512_and_si512(pixels, _mm512_set1_epi32(0xff)));
        const __m512 second = _mm512_cvtepi32_ps(_mm512_srli_epi32(pixels, 8));
        return _mm512_or_si512(_mm512_srli_epi32(_mm512_castps_si512(first), 16), _mm512_castps_si512(second));
    }

    static FASTMLP_INLINE unsigned listed(__m512i group) { return _mm512_test_epi64_mask(group, group); }
    static FASTMLP_INLINE __m512i chosen(__m512i group, unsigned mask) {
        return _mm512_maskz_compress_epi64(static_cast<__mmask8>(mask), group);
    }
    template <int kFour>
    static FASTMLP_INLINE __m512i four(__m512i group) {
        static_assert(kFour < 2);
        const __m256i alternate =
            _mm256_broadcastsi128_si256(_mm_setr_epi8(0, 4, 1, 5, 2, 6, 3, 7, 8, 12, 9, 13, 10, 14, 11, 15));
        const __m256i pixels = _mm512_extracti64x4_epi64(group, kFour);
        return words_of(_mm512_cvtepu16_epi32(_mm256_shuffle_epi8(pixels, alternate)));
    }
};
#endif

// Appends up to 16 / Word::kNumbers rows to a group; returns how many it has then.
template <class Word>
FASTMLP_INLINE std::uint32_t append_to_group(__m512i group, __m512i places, ListedWords* entries, std::uint32_t count) {
    using Words = PixelWords<Word>;
    const unsigned mask = Words::listed(group);
    if (mask == 0) return count;
    const int added = __builtin_popcount(mask);
    const __m512i chosen = Words::chosen(group, mask);
    const __m512i their_places = _mm512_maskz_compress_epi32(static_cast<__mmask16>(mask), places);
    entries += count;
    store_entries<0>(entries, their_places, Words::template four<0>(chosen));
    if (added > 4) store_entries<1>(entries + 4, their_places, Words::template four<1>(chosen));
    if constexpr (Word::kNumbers == 1) {
        if (added > 8) store_entries<2>(entries + 8, their_places, Words::template four<2>(chosen));
        if (added > 12) store_entries<3>(entries + 12, their_places, Words::template four<3>(chosen));
    }
    return count + static_cast<std::uint32_t>(added);
}

template <class Word>
void list_pixel_groups(const PixelRows& from, std::size_t first_row, ListedGroups out) {
    const __m512i places = places_from(first_row * kPanel);
    const std::size_t n_columns = from.columns, n_rows = from.rows;
    const std::size_t n_groups = (n_columns + kListedColumns - 1) / kListedColumns;
    const std::uint8_t* rows[kPanel];
    for (std::size_t row = 0; row < n_rows; ++row) rows[row] = row_of(from, row);
    for (std::size_t first = 0; first < n_groups; first += kPanel / kListedColumns) {
        const std::size_t column = first * kListedColumns, n_left = n_columns - column;
        for (std::size_t row = 0; row < from.next; ++row) prefetch_next(next_row_of(from, row), column);
        const PanelGroups panel = n_rows == kPanel && n_left >= kPanel
                                      ? load_groups<true>(rows, n_rows, column, n_left)
                                      : load_groups<false>(rows, n_rows, column, n_left);
#pragma GCC unroll 4
        for (std::size_t i = 0; i < kPanel / kListedColumns; ++i) {
            if (first + i == n_groups) break;
            std::uint32_t& count = out.counts[first + i];
            count = append_to_group<Word>(panel.group[i], places, out.entries + (first + i) * out.capacity, count);
        }
    }
}

}  // namespace
}  // namespace fastmlp
