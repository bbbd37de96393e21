// Makes the lists of a matrix's words that are not 0: see Products.
#pragma once

#include <array>

#include "with_constant.inl"
#include "words.inl"

namespace fastmlp {
namespace {

#if defined(FASTMLP_TARGET_AVX2)
// For each set of 8 lanes their numbers, in rising order.
constexpr auto kChosenLanes = [] {
    std::array<std::array<std::uint8_t, 8>, 256> chosen{};
    for (unsigned lanes = 0; lanes < chosen.size(); ++lanes)
        for (unsigned lane = 0, count = 0; lane < 8; ++lane)
            if ((lanes >> lane & 1) != 0) chosen[lanes][count++] = static_cast<std::uint8_t>(lane);
    return chosen;
}();
#endif

#if defined(FASTMLP_TARGET_AVX512)
// 16 times the lane, from `first` on.
FASTMLP_INLINE __m512i places_from(std::size_t first) {
    return _mm512_add_epi32(_mm512_set1_epi32(static_cast<std::int32_t>(first)),
                            _mm512_setr_epi32(0, 16, 32, 48, 64, 80, 96, 112, 128, 144, 160, 176, 192, 208, 224, 240));
}

FASTMLP_INLINE void store_chosen(__m512i line, std::size_t first_place, unsigned lanes, float* words,
                                 std::uint32_t* places) {
    const auto chosen = static_cast<__mmask16>(lanes);
    _mm512_storeu_si512(words, _mm512_maskz_compress_epi32(chosen, line));
    _mm512_storeu_si512(places, _mm512_maskz_compress_epi32(chosen, places_from(first_place)));
}
#endif

#if defined(FASTMLP_TARGET_AVX2)
// The same of 8 lanes, and 8 places.
FASTMLP_INLINE void store_chosen(__m256 half, std::uint32_t first_place, unsigned lanes, float* words,
                                 std::uint32_t* places) {
    const __m256i lane =
        _mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(kChosenLanes[lanes].data())));
    const __m256i first = _mm256_set1_epi32(static_cast<std::int32_t>(first_place));
    _mm256_storeu_ps(words, _mm256_permutevar8x32_ps(half, lane));
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(places), _mm256_add_epi32(first, _mm256_slli_epi32(lane, 4)));
}
#endif

// Of the line at `line`, the lanes whose bits are set, one after the other to `words`; to `places`, first_place plus
// 16 times their numbers. What follows these, up to 16, may be overwritten.
FASTMLP_INLINE void store_chosen(const float* line, std::uint32_t first_place, unsigned lanes, float* words,
                                 std::uint32_t* places) {
#if defined(FASTMLP_TARGET_AVX512)
    store_chosen(_mm512_load_si512(line), first_place, lanes, words, places);
#elif defined(FASTMLP_TARGET_AVX2)
    const unsigned low = lanes & 0xff, high = lanes >> 8;
    const int n_low = __builtin_popcount(low);
    store_chosen(_mm256_load_ps(line), first_place, low, words, places);
    store_chosen(_mm256_load_ps(line + 8), first_place + 8 * kPanel, high, words + n_low, places + n_low);
#else
    for (; lanes != 0; lanes &= lanes - 1) {
        const auto lane = static_cast<unsigned>(__builtin_ctz(lanes));
        *words++ = line[lane];
        *places++ = first_place + 16 * lane;
    }
#endif
}

// Appends them to a row's list, and returns where it ends then. words: a line, or what else store_chosen takes.
template <class Words>
FASTMLP_INLINE std::uint32_t append_chosen(const Words& words, std::uint32_t first_place, unsigned lanes,
                                           std::uint32_t end, const ListedRows& out) {
    store_chosen(words, first_place, lanes, out.words + end, out.places + end);
    return end + static_cast<std::uint32_t>(__builtin_popcount(lanes));
}

// How pixels become words, on sets that list them as they are: see pixel_lists.inl. append_to_row, where rows are
// listed by it, appends those of up to kPixels pixels that are not 0 to a row's list, and returns where it ends then.
template <class Word>
struct PixelWords;

template <class Word>
void list_rows(const float* matrix, std::size_t matrix_panel_stride, std::size_t rows, std::size_t columns,
               std::uint32_t first, ListedRows out) {
    std::uint32_t end = first;
    for (std::size_t row = 0; row < rows; ++row) {
        const float* line = matrix + row * kPanel;
        for (std::size_t column = 0; column < columns; column += kPanel, line += matrix_panel_stride) {
            const unsigned mask = Word::nonzero_mask(load_line(line));
            end = append_chosen(line, static_cast<std::uint32_t>(column * kPanel), mask, end, out);
        }
        out.ends[row] = end;
    }
}

// Writes an entry with one store where that can be done; what follows it, as much as another entry, may be overwritten.
FASTMLP_INLINE void store_listed(ListedWords* entry, std::uint32_t place, const float* words) {
#if defined(FASTMLP_TARGET_AVX512) || defined(FASTMLP_TARGET_AVX2)
    static_assert(offsetof(ListedWords, words) == sizeof(float) && sizeof(ListedWords) == 5 * sizeof(float));
    const __m256i behind = _mm256_setr_epi32(0, 0, 1, 2, 3, 0, 0, 0);
    const __m256 moved = _mm256_permutevar8x32_ps(_mm256_castps128_ps256(_mm_loadu_ps(words)), behind);
    const __m256 first = _mm256_castsi256_ps(_mm256_set1_epi32(static_cast<std::int32_t>(place)));
    _mm256_storeu_ps(reinterpret_cast<float*>(entry), _mm256_blend_ps(moved, first, 1));
#else
    entry->place = place;
    __builtin_memcpy(entry->words, words, sizeof(entry->words));
#endif
}

// The groups of one panel, whose counts stay in registers. Every row is written to every list, and counts only where
// it is not 0: that costs less than a branch that goes either way.
template <class Word, int kGroups>
FASTMLP_INLINE void list_panel_groups(const float* line, std::size_t rows, std::uint32_t place, ListedWords* entries,
                                      std::size_t capacity, std::uint32_t* counts) {
    constexpr unsigned kGroupMask = (1u << kListedColumns) - 1u;
    std::uint32_t count[kGroups];
#pragma GCC unroll 4
    for (int i = 0; i < kGroups; ++i) count[i] = counts[i];
    for (std::size_t row = 0; row < rows; ++row, line += kPanel, place += kPanel) {
        const unsigned mask = Word::nonzero_mask(load_line(line));
#pragma GCC unroll 4
        for (int i = 0; i < kGroups; ++i) {
            store_listed(entries + i * capacity + count[i], place, line + i * kListedColumns);
            count[i] += (mask & kGroupMask << i * kListedColumns) != 0 ? 1 : 0;
        }
    }
#pragma GCC unroll 4
    for (int i = 0; i < kGroups; ++i) counts[i] = count[i];
}

template <class Word>
void list_groups(const float* matrix, std::size_t matrix_panel_stride, std::size_t rows, std::size_t columns,
                 std::size_t first_row, ListedGroups out) {
    constexpr int kGroups = kPanel / kListedColumns;
    const auto place = static_cast<std::uint32_t>(first_row * kPanel);
    const std::size_t n_groups = (columns + kListedColumns - 1) / kListedColumns;
    for (std::size_t group = 0; group < n_groups; group += kGroups, matrix += matrix_panel_stride)
        with_constant<kGroups>(n_groups - group, [&](auto n) {
            list_panel_groups<Word, n>(matrix, rows, place, out.entries + group * out.capacity, out.capacity,
                                       out.counts + group);
        });
}

}  // namespace
}  // namespace fastmlp
