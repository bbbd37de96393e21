// Products that skip the zeros of the left operand. It comes as lists of its words that are not 0: for the gradient, of
// which the rows are its columns, by groups of neighbouring columns, since a line of deltas that is loaded from the L2
// cache must serve several; for the forward pass row by row, or by the same groups.
#pragma once

#include "product.inl"

namespace fastmlp {
namespace {

// Not inlined, so that its loop has all registers.
template <class Word, int kPanels, bool kHalf>
[[gnu::noinline]] void multiply_listed_rows(const ListedProduct& p, const float* b, float* c) {
    const float* word = p.a.words;
    const std::uint32_t* place = p.a.places;
    for (std::size_t row = 0; row < p.rows; ++row, c += kPanel) {
        Tile<Word, 1, kPanels * kVecs> tile;
        tile.start(p.accumulate, c, p.c_panel_stride);
        for (const float* end = p.a.words + p.a.ends[row]; word < end; ++word, ++place) {
            const Vec left = splat(*word);
            const auto add = [&](int j, const float* right) __attribute__((always_inline)) {
                const bool lower = kHalf && j + 1 == kPanels;
                const Vec vec = lower ? load_lower(right) : load(right);
                tile.sum[0][j] = Word::multiply_add(left, vec, tile.sum[0][j], lower);
            };
            tile.for_each_vec(b + *place, p.b_panel_stride, add);
        }
        tile.finish(c, p.c_panel_stride);
    }
}

template <class Word>
void multiply_listed(const ListedProduct& p) {
    for_tiles_of_panels<kListedRowPanels>(p.columns, [&](std::size_t panel, auto n, auto half) {
        multiply_listed_rows<Word, n, half>(p, p.b + panel * p.b_panel_stride, p.c + panel * p.c_panel_stride);
    });
}

// Adds the words of an entry, one for each row, times a line of the right operand; of a wide one, the last vector's
// upper half may be left out. What there is less of, rows or vectors, is in registers beside the sums, while one of the
// others at a time is read; if there are still too many, a word comes from memory each time.
template <bool kHalf, class Word, int kRows, int kWidth, int kFirst>
FASTMLP_INLINE void add_entry(Tile<Word, kRows, kWidth, kFirst>& tile, const float* words, const float* right,
                              std::size_t panel_stride) {
    if constexpr (kWidth < kRows) {
        tile.add(words, 1, right, panel_stride);
    } else {
        constexpr int kRegisters = 32;  // the baseline, which has 16, is faster with a few sums in memory
        constexpr int kInRegisters = kRows * kWidth + kRows < kRegisters ? kRows : kRows - 1;
        Vec left[kInRegisters];
#pragma GCC unroll 4
        for (int i = 0; i < kInRegisters; ++i) left[i] = splat(words[i]);
#pragma GCC unroll 8
        for (int j = 0; j < kWidth; ++j) {
            const bool lower = kHalf && j + 1 == kWidth;
            const float* line = tile.at(right, j, panel_stride);
            const Vec vec = lower ? load_lower(line) : load(line);
            words = in_one_register(words);
#pragma GCC unroll 4
            for (int i = 0; i < kRows; ++i)
                tile.sum[i][j] =
                    Word::multiply_add(i < kInRegisters ? left[i] : splat(words[i]), vec, tile.sum[i][j], lower);
        }
    }
}

// Fetches what is read first of a part's list. Parts' lists lie far apart, and each is so short that it ends before the
// processor's own prefetcher has noticed that it is being read.
FASTMLP_INLINE void prefetch_list(const ListedGroups& lists, std::size_t group) {
    constexpr std::uintptr_t kLineBytes = 64, kLines = 4;
    __builtin_prefetch(lists.counts + group);
    const auto first = reinterpret_cast<std::uintptr_t>(lists.entries + group * lists.capacity);
    for (std::uintptr_t line = 0; line < kLines; ++line)
        __builtin_prefetch(reinterpret_cast<const void*>(first + line * kLineBytes));
}

// One group of columns: kRows of them, kListedColumns but for the last group.
template <class Word, int kRows, int kWidth, int kFirst, bool kHalf>
void multiply_listed_group(const ListedTransposedProduct& p, std::size_t group, const float* b, float* c) {
    Tile<Word, kRows, kWidth, kFirst> tile;
    tile.start(p.accumulate, c, p.c_panel_stride);
    for (std::size_t part = 0; part < p.n_parts; ++part) {
        const ListedGroups& lists = p.parts[part];
        if (part + 1 < p.n_parts) prefetch_list(p.parts[part + 1], group);
        const ListedWords* entry = lists.entries + group * lists.capacity;
        for (const ListedWords* end = entry + lists.counts[group]; entry < end; ++entry)
            add_entry<kHalf>(tile, entry->words, b + entry->place, p.b_panel_stride);
    }
    tile.finish(c, p.c_panel_stride);
}

// How many of these parts the sums of a group's rows are made over at a time, as few as have kListedRows: their lines
// of deltas, a tile wide, should stay in the L1 cache while all groups go by.
FASTMLP_INLINE std::size_t parts_at_a_time(const ListedGroups* parts, std::size_t n_parts) {
    std::size_t n = 0;
    for (std::size_t rows = 0; n < n_parts && rows < kListedRows; ++n) rows += parts[n].capacity;
    return n;
}

// All groups of p, a tile of the result wide, for as many parts at a time as see parts_at_a_time.
template <class Word, int kWidth, int kFirst, bool kHalf>
void multiply_listed_groups(const ListedTransposedProduct& p, const float* b, float* c) {
    ListedTransposedProduct some = p;
    for (std::size_t part = 0; part < p.n_parts; part += some.n_parts) {
        some.parts = p.parts + part;
        some.n_parts = parts_at_a_time(some.parts, p.n_parts - part);
        some.accumulate = p.accumulate || part > 0;
        for (std::size_t row = 0; row < p.rows; row += kListedColumns)
            with_constant<static_cast<int>(kListedColumns)>(p.rows - row, [&](auto n_rows) {
                multiply_listed_group<Word, n_rows, kWidth, kFirst, kHalf>(some, p.first_group + row / kListedColumns,
                                                                           b, c + row * kPanel);
            });
    }
}

template <class Word>
void multiply_transposed_listed(const ListedTransposedProduct& p) {
    if constexpr (kVecs == 1) {
        for_tiles_of_panels<kListedGroupVecs>(p.columns, [&](std::size_t panel, auto n, auto half) {
            constexpr bool kHalf = half && n >= static_cast<int>(kListedColumns);  // see add_entry
            multiply_listed_groups<Word, n, 0, kHalf>(p, p.b + panel * p.b_panel_stride,
                                                      p.c + panel * p.c_panel_stride);
        });
    } else {
        constexpr int kFirsts = kListedGroupVecs % kVecs == 0 ? 1 : kVecs;  // a tile may begin inside of a line
        for_even_parts<kListedGroupVecs>(n_panels(p.columns) * kVecs, [&](std::size_t vec, std::size_t width) {
            const float* b = p.b + vec / kVecs * p.b_panel_stride + vec % kVecs * kLanes;
            float* c = p.c + vec / kVecs * p.c_panel_stride + vec % kVecs * kLanes;
            with_constant<kListedGroupVecs>(width, [&](auto n_vecs) {
                with_constant<kFirsts>(vec % kVecs + 1, [&](auto first) {
                    multiply_listed_groups<Word, n_vecs, first - 1, false>(p, b, c);
                });
            });
        });
    }
}

#if defined(FASTMLP_TARGET_AVX512)

// Of a forward product, what a group of kColumns columns adds: their rows of b stay in registers (at most one line of
// them in memory), and rows of c come from the cache and go back.
template <class Word, int kColumns, int kPanels, bool kHalf>
FASTMLP_INLINE void add_group(const GroupedProduct& p, std::size_t group, const float* b, float* c) {
    const ListedWords* entry = p.a.entries + group * p.a.capacity;
    const ListedWords* const end = entry + p.a.counts[group];
    const std::size_t c_panel_stride = p.c_panel_stride;  // which stores to c might change, for all the compiler knows
    if (entry == end) return;
    Vec right[kColumns][kPanels];
#pragma GCC unroll 8
    for (int j = 0; j < kPanels; ++j, b += p.b_panel_stride) {
        b = in_one_register(b);
#pragma GCC unroll 4
        for (int i = 0; i < kColumns; ++i) right[i][j] = load(b + i * kPanel);
    }
    for (; entry < end; ++entry) {
        Vec left[kColumns];
#pragma GCC unroll 4
        for (int i = 0; i < kColumns; ++i) left[i] = splat(entry->words[i]);
        float* line = c + entry->place;
#pragma GCC unroll 8
        for (int j = 0; j < kPanels; ++j, line += c_panel_stride) {
            line = in_one_register(line);
            const bool lower = kHalf && j + 1 == kPanels;
            Vec sum = lower ? load_lower(line) : load(line);
#pragma GCC unroll 4
            for (int i = 0; i < kColumns; ++i) sum = Word::multiply_add(left[i], right[i][j], sum, lower);
            lower ? store_lower(line, sum) : store(line, sum);
        }
    }
}

template <class Word, int kPanels, bool kHalf>
void multiply_grouped_panels(const GroupedProduct& p, const float* b, float* c) {
    constexpr int kColumns = static_cast<int>(kListedColumns);
    for (std::size_t j = 0; j < kPanels; ++j)
        for (std::size_t row = p.first_row; row < p.first_row + p.rows; ++row)
            store_line(c + j * p.c_panel_stride + row * kPanel, splat_line(0.0f));
    const std::size_t whole = p.depth / kListedColumns;
    for (std::size_t group = 0; group < whole; ++group, b += kListedColumns * kPanel)
        add_group<Word, kColumns, kPanels, kHalf>(p, group, b, c);
    if (p.depth % kListedColumns == 0) return;
    for (std::size_t j = 0; j < kPanels; ++j)
        with_constant<kColumns - 1>(p.depth % kListedColumns, [&](auto n) {
            add_group<Word, n, 1, false>(p, whole, b + j * p.b_panel_stride, c + j * p.c_panel_stride);
        });
}

template <class Word>
void multiply_grouped(const GroupedProduct& p) {
    static_assert(kVecs == 1);  // a vector is a panel's line
    for_tiles_of_panels<kListedGroupVecs>(p.columns, [&](std::size_t panel, auto n, auto half) {
        multiply_grouped_panels<Word, n, half>(p, p.b + panel * p.b_panel_stride, p.c + panel * p.c_panel_stride);
    });
}

#endif

}  // namespace
}  // namespace fastmlp
