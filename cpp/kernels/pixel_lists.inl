// Lists straight from pixels, without a matrix of them in between: a pixel is a byte until it is known not to be 0. On
// AVX-512, which moves chosen lanes together, and on AVX2.
#pragma once

#include <cstddef>

#include "lists.inl"
#include "packing.inl"
#include "words.inl"

namespace fastmlp {
namespace {

#if defined(FASTMLP_TARGET_AVX512) || defined(FASTMLP_TARGET_AVX2)

FASTMLP_INLINE const std::uint8_t* pixels_of(const PixelRows& from, std::size_t row) {
    return from.data + source_row(from.index, row) * from.row_stride;
}

#endif

#if defined(FASTMLP_TARGET_AVX512)

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

struct ListedLine {
    __m512i words;
    unsigned mask;  // of those that are not 0
};

// How pixels become words.
template <class Word>
struct PixelWords;

template <>
struct PixelWords<FloatWord> {
    static constexpr std::size_t kPixels = kPanel;  // of a line of words
    static FASTMLP_INLINE ListedLine line(const std::uint8_t* pixels, std::size_t count) {
        const __m128i x = load_pixels(pixels, count);
        return {_mm512_castps_si512(floats_of(x)), _mm_test_epi8_mask(x, x)};
    }

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

#if defined(FASTMLP_PAIR_PRODUCTS)
// Neighbouring lanes of a group are a pair of rows.
template <>
struct PixelWords<PairWord> {
    static constexpr std::size_t kPixels = 2 * kPanel;
    // 16 pixels as bfloat16: their floats end in 16 zeros.
    static FASTMLP_INLINE __m256i bfloat16s_of(__m128i pixels) {
        return _mm512_cvtepi32_epi16(_mm512_srli_epi32(_mm512_castps_si512(floats_of(pixels)), 16));
    }
    static FASTMLP_INLINE __m512i bfloat16s_of(__m128i low, __m128i high) {
        return _mm512_inserti64x4(_mm512_castsi256_si512(bfloat16s_of(low)), bfloat16s_of(high), 1);
    }
    static FASTMLP_INLINE ListedLine line(const std::uint8_t* pixels, std::size_t count) {
        const __m128i low = load_pixels(pixels, count);
        const __m128i high = count > kPanel ? load_pixels(pixels + kPanel, count - kPanel) : _mm_setzero_si128();
        return {bfloat16s_of(low, high),
                _mm_test_epi16_mask(low, low) | static_cast<unsigned>(_mm_test_epi16_mask(high, high)) << 8};
    }

    static FASTMLP_INLINE unsigned listed(__m512i group) { return _mm512_test_epi64_mask(group, group); }
    static FASTMLP_INLINE __m512i chosen(__m512i group, unsigned mask) {
        return _mm512_maskz_compress_epi64(static_cast<__mmask8>(mask), group);
    }
    template <int kFour>
    static FASTMLP_INLINE __m512i four(__m512i group) {
        static_assert(kFour < 2);
        const __m128i alternate = _mm_setr_epi8(0, 4, 1, 5, 2, 6, 3, 7, 8, 12, 9, 13, 10, 14, 11, 15);
        return bfloat16s_of(_mm_shuffle_epi8(quarter<2 * kFour>(group), alternate),
                            _mm_shuffle_epi8(quarter<2 * kFour + 1>(group), alternate));
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
void list_pixel_rows(const PixelRows& from, std::size_t first_column, std::size_t columns, std::uint32_t first,
                     ListedRows out) {
    using Words = PixelWords<Word>;
    std::uint32_t end = first;
    for (std::size_t row = 0; row < from.rows; ++row) {
        const std::uint8_t* pixels = pixels_of(from, row) + first_column;
        std::size_t place = 0;
        for (std::size_t column = 0; column < columns; column += Words::kPixels, place += kPanel * kPanel) {
            const auto [words, mask] = Words::line(pixels + column, columns - column);
            store_chosen(words, place, mask, out.words + end, out.places + end);
            end += static_cast<std::uint32_t>(__builtin_popcount(mask));
        }
        out.ends[row] = end;
    }
}

template <class Word>
void list_pixel_groups(const PixelRows& from, std::size_t first_row, ListedGroups out) {
    const __m512i places = places_from(first_row * kPanel);
    const std::size_t n_columns = from.columns, n_rows = from.rows;
    const std::size_t n_groups = (n_columns + kListedColumns - 1) / kListedColumns;
    const std::uint8_t* rows[kPanel];
    for (std::size_t row = 0; row < n_rows; ++row) rows[row] = pixels_of(from, row);
    for (std::size_t first = 0; first < n_groups; first += kPanel / kListedColumns) {
        const std::size_t column = first * kListedColumns, n_left = n_columns - column;
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

#elif defined(FASTMLP_TARGET_AVX2)

// Appends those of 16 pixels that are not 0 to a row's list; returns where it ends then.
FASTMLP_INLINE std::uint32_t append_to_row(const std::uint8_t* pixels, std::uint32_t first_place, std::uint32_t end,
                                           ListedRows out) {
    const __m128i x = _mm_loadu_si128(reinterpret_cast<const __m128i*>(pixels));
    const auto zeros = static_cast<unsigned>(_mm_movemask_epi8(_mm_cmpeq_epi8(x, _mm_setzero_si128())));
    const unsigned low = ~zeros & 0xff, high = ~zeros >> 8 & 0xff;
    const auto floats = [](__m128i bytes) { return _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(bytes)); };
    store_chosen(floats(x), first_place, low, out.words + end, out.places + end);
    end += static_cast<std::uint32_t>(__builtin_popcount(low));
    store_chosen(floats(_mm_unpackhi_epi64(x, x)), first_place + 8 * kPanel, high, out.words + end, out.places + end);
    return end + static_cast<std::uint32_t>(__builtin_popcount(high));
}

template <class Word>
void list_pixel_rows(const PixelRows& from, std::size_t first_column, std::size_t columns, std::uint32_t first,
                     ListedRows out) {
    const Columns split = split_columns(columns);
    std::uint32_t end = first;
    for (std::size_t row = 0; row < from.rows; ++row) {
        const std::uint8_t* pixels = pixels_of(from, row) + first_column;
        std::uint32_t place = 0;
        for (std::size_t column = 0; column < split.whole; column += kPanel, place += kPanel * kPanel)
            end = append_to_row(pixels + column, place, end, out);
        if (split.rest > 0) {
            std::uint8_t padded[kPanel] = {};
            __builtin_memcpy(padded, pixels + split.whole, split.rest);
            end = append_to_row(padded, place, end, out);
        }
        out.ends[row] = end;
    }
}

// Which rows of which groups of a panel have pixels: bit 4 i + g tells of group g of the row whose 16 pixels are at
// rows[i] + column.
FASTMLP_INLINE std::uint64_t listed_groups(const std::uint8_t* const* rows, std::size_t column) {
    const auto empty = [&](std::size_t row) __attribute__((always_inline)) {
        const __m128i x = _mm_loadu_si128(reinterpret_cast<const __m128i*>(rows[row] + column));
        return _mm_cmpeq_epi32(x, _mm_setzero_si128());
    };
    std::uint64_t listed = 0;
#pragma GCC unroll 4
    for (std::size_t row = 0; row < kPanel; row += 4) {
        const __m128i first = _mm_packs_epi32(empty(row), empty(row + 1));
        const __m128i second = _mm_packs_epi32(empty(row + 2), empty(row + 3));
        const auto four = static_cast<unsigned>(_mm_movemask_epi8(_mm_packs_epi16(first, second)));
        listed |= static_cast<std::uint64_t>(four ^ 0xffffu) << 4 * row;
    }
    return listed;
}

// Appends the rows that these bits tell of to the lists of a panel's groups.
FASTMLP_INLINE void append_to_groups(std::uint64_t listed, const std::uint8_t* const* rows, std::size_t column,
                                     std::uint32_t first_place, std::size_t n_groups, ListedWords* entries,
                                     std::size_t capacity, std::uint32_t* counts) {
    if (listed == 0) return;
    for (std::size_t group = 0; group < n_groups; ++group, listed >>= 1, column += kListedColumns) {
        const std::uint64_t of_group = listed & 0x1111111111111111u;
        ListedWords* entry = entries + group * capacity + counts[group];
        counts[group] += static_cast<std::uint32_t>(__builtin_popcountll(of_group));
        for (std::uint64_t left = of_group; left != 0; left &= left - 1, ++entry) {
            const auto row = static_cast<std::uint32_t>(__builtin_ctzll(left)) / 4;
            entry->place = first_place + row * static_cast<std::uint32_t>(kPanel);
            std::int32_t pixels;
            __builtin_memcpy(&pixels, rows[row] + column, sizeof(pixels));
            const __m128i x = _mm_cvtsi32_si128(pixels);
            _mm_storeu_ps(entry->words, _mm_cvtepi32_ps(_mm_cvtepu8_epi32(x)));
        }
    }
}

template <class Word>
void list_pixel_groups(const PixelRows& from, std::size_t first_row, ListedGroups out) {
    static_assert(kListedColumns == 4);
    constexpr std::size_t kGroups = kPanel / kListedColumns;
    const auto first_place = static_cast<std::uint32_t>(first_row * kPanel);
    const std::uint8_t* rows[kPanel];
    for (std::size_t row = 0; row < kPanel; ++row) rows[row] = pixels_of(from, row < from.rows ? row : 0);
    const std::uint64_t present = ~std::uint64_t{0} >> 4 * (kPanel - from.rows);
    const Columns split = split_columns(from.columns);
    ListedWords* entries = out.entries;
    std::uint32_t* counts = out.counts;
    for (std::size_t column = 0; column < split.whole; column += kPanel) {
        append_to_groups(listed_groups(rows, column) & present, rows, column, first_place, kGroups, entries,
                         out.capacity, counts);
        entries += kGroups * out.capacity;
        counts += kGroups;
    }
    if (split.rest == 0) return;
    std::uint8_t padded[kPanel][kPanel] = {};
    for (std::size_t row = 0; row < kPanel; ++row) {
        __builtin_memcpy(padded[row], rows[row] + split.whole, split.rest);
        rows[row] = padded[row];
    }
    append_to_groups(listed_groups(rows, 0) & present, rows, 0, first_place,
                     (split.rest + kListedColumns - 1) / kListedColumns, entries, out.capacity, counts);
}

#endif

}  // namespace
}  // namespace fastmlp
