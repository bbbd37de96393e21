// Lists from pixels where one bit tells of each group of pixels: see pixel_lists.inl.
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
    alignas(16) std::uint8_t padded[kPanel] = {};
    __builtin_memcpy(padded, pixels, count);
    return _mm_load_si128(reinterpret_cast<const __m128i*>(padded));
}

template <>
struct PixelWords<FloatWord> {
    static constexpr std::size_t kPixels = kPanel;
    static FASTMLP_INLINE std::uint32_t append_to_row(const std::uint8_t* pixels, std::size_t count,
                                                      std::uint32_t first_place, std::uint32_t end, ListedRows out) {
        const __m128i x = load_pixels(pixels, count);
        const auto zeros = static_cast<unsigned>(_mm_movemask_epi8(_mm_cmpeq_epi8(x, _mm_setzero_si128())));
        end = append_chosen(first_half(x), first_place, ~zeros & 0xff, end, out);
        return append_chosen(first_half(_mm_unpackhi_epi64(x, x)), first_place + 8 * kPanel, ~zeros >> 8 & 0xff, end,
                             out);
    }

 private:
    static FASTMLP_INLINE __m256 first_half(__m128i pixels) { return _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(pixels)); }
};

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
    for (std::size_t row = 0; row < kPanel; ++row) rows[row] = row_of(from, row < from.rows ? row : 0);
    const std::uint64_t present = ~std::uint64_t{0} >> 4 * (kPanel - from.rows);
    const Columns split = split_columns(from.columns);
    ListedWords* entries = out.entries;
    std::uint32_t* counts = out.counts;
    for (std::size_t column = 0; column < split.whole; column += kPanel) {
        for (std::size_t row = 0; row < from.next; ++row) prefetch_next(next_row_of(from, row), column);
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

}  // namespace
}  // namespace fastmlp
