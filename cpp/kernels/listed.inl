// Products that skip the zeros of the left operand. It comes as lists of its words that are not 0: for the gradient, of
// which the rows are its columns, by groups of neighbouring columns, since a line of deltas that is loaded from the L2
// cache must serve several; for the forward pass row by row, or by the same groups.
#pragma once

#include "product.inl"

namespace fastmlp {
namespace {

template <class Word, int kPanels>
void multiply_listed_rows(const ListedProduct& p, const float* b, float* c) {
    const float* word = p.a.words;
    const std::uint32_t* place = p.a.places;
    for (std::size_t row = 0; row < p.rows; ++row, c += kPanel) {
        Tile<Word, 1, kPanels> tile;
        tile.start(p.accumulate, c, p.c_panel_stride);
        for (const float* end = p.a.words + p.a.ends[row]; word < end; ++word, ++place) {
            const Vec left = splat(*word);
            const float* right = b + *place;
#pragma GCC unroll 8
            for (Line& sum : tile.sum[0]) {
                right = in_one_register(right);
                add_product<Word>(sum, left, load_line(right));
                right += p.b_panel_stride;
            }
        }
        tile.finish(c, p.c_panel_stride);
    }
}

template <class Word>
void multiply_listed(const ListedProduct& p) {
    for_even_parts<kListedRowPanels>(p.panels, [&](std::size_t panel, std::size_t panels) {
        with_constant<kListedRowPanels>(panels, [&](auto n) __attribute__((always_inline)) {
            multiply_listed_rows<Word, n>(p, p.b + panel * p.b_panel_stride, p.c + panel * p.c_panel_stride);
        });
    });
}

// Adds the words of an entry, one for each row, times a line of the right operand. Panel by panel, so that beside the
// sums and words one line of it need be in registers; if there are still too many, one word comes from memory each
// time.
template <class Word, int kRows, int kPanels>
FASTMLP_INLINE void add_entry(Tile<Word, kRows, kPanels>& tile, const float* words, const float* right,
                              std::size_t panel_stride) {
    constexpr int kRegisters = 32;  // sets that have 16 have small tiles
    constexpr int kInRegisters = kRows * kPanels * kVecs + kRows < kRegisters ? kRows : kRows - 1;
    Vec left[kInRegisters];
#pragma GCC unroll 4
    for (int i = 0; i < kInRegisters; ++i) left[i] = splat(words[i]);
#pragma GCC unroll 8
    for (int j = 0; j < kPanels; ++j) {
        const Line line = load_line(right + static_cast<std::size_t>(j) * panel_stride);
        words = in_one_register(words);
#pragma GCC unroll 4
        for (int i = 0; i < kRows; ++i)
            add_product<Word>(tile.sum[i][j], i < kInRegisters ? left[i] : splat(words[i]), line);
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
template <class Word, int kRows, int kPanels>
void multiply_listed_group(const ListedTransposedProduct& p, std::size_t group, const float* b, float* c) {
    Tile<Word, kRows, kPanels> tile;
    tile.start(p.accumulate, c, p.c_panel_stride);
    for (std::size_t part = 0; part < p.n_parts; ++part) {
        const ListedGroups& lists = p.parts[part];
        if (part + 1 < p.n_parts) prefetch_list(p.parts[part + 1], group);
        const ListedWords* entry = lists.entries + group * lists.capacity;
        for (const ListedWords* end = entry + lists.counts[group]; entry < end; ++entry)
            add_entry(tile, entry->words, b + entry->place, p.b_panel_stride);
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

template <class Word>
void multiply_transposed_listed(const ListedTransposedProduct& p) {
    constexpr int kRows = static_cast<int>(kListedColumns);
    for_even_parts<kListedGroupPanels>(p.panels, [&](std::size_t panel, std::size_t panels) {
        const float* b = p.b + panel * p.b_panel_stride;
        float* c = p.c + panel * p.c_panel_stride;
        ListedTransposedProduct some = p;
        for (std::size_t part = 0; part < p.n_parts; part += some.n_parts) {
            some.parts = p.parts + part;
            some.n_parts = parts_at_a_time(some.parts, p.n_parts - part);
            some.accumulate = p.accumulate || part > 0;
            for (std::size_t row = 0; row < p.rows; row += kListedColumns) {
                const std::size_t rows = p.rows - row < kListedColumns ? p.rows - row : kListedColumns;
                with_constant<kListedGroupPanels>(panels, [&](auto n_panels) {
                    with_constant<kRows>(rows, [&](auto n_rows) {
                        multiply_listed_group<Word, n_rows, n_panels>(some, p.first_group + row / kListedColumns, b,
                                                                      c + row * kPanel);
                    });
                });
            }
        }
    });
}

#if defined(FASTMLP_TARGET_AVX512)

// Of a forward product, what a group of kColumns columns adds: their rows of b stay in registers (at most one line of
// them in memory), and rows of c come from the cache and go back.
template <class Word, int kColumns, int kPanels>
FASTMLP_INLINE void add_group(const GroupedProduct& p, std::size_t group, const float* b, float* c) {
    const ListedWords* entry = p.a.entries + group * p.a.capacity;
    const ListedWords* const end = entry + p.a.counts[group];
    const std::size_t c_panel_stride = p.c_panel_stride;  // which stores to c might change, for all the compiler knows
    if (entry == end) return;
    Line right[kColumns][kPanels];
#pragma GCC unroll 8
    for (int j = 0; j < kPanels; ++j, b += p.b_panel_stride) {
        b = in_one_register(b);
#pragma GCC unroll 4
        for (int i = 0; i < kColumns; ++i) right[i][j] = load_line(b + i * kPanel);
    }
    for (; entry < end; ++entry) {
        Vec left[kColumns];
#pragma GCC unroll 4
        for (int i = 0; i < kColumns; ++i) left[i] = splat(entry->words[i]);
        float* line = c + entry->place;
#pragma GCC unroll 8
        for (int j = 0; j < kPanels; ++j, line += c_panel_stride) {
            line = in_one_register(line);
            Line sum = load_line(line);
#pragma GCC unroll 4
            for (int i = 0; i < kColumns; ++i) add_product<Word>(sum, left[i], right[i][j]);
            store_line(line, sum);
        }
    }
}

template <class Word, int kPanels>
void multiply_grouped_panels(const GroupedProduct& p, const float* b, float* c) {
    constexpr int kColumns = static_cast<int>(kListedColumns);
    for (std::size_t j = 0; j < kPanels; ++j)
        for (std::size_t row = p.first_row; row < p.first_row + p.rows; ++row)
            store_line(c + j * p.c_panel_stride + row * kPanel, splat_line(0.0f));
    const std::size_t whole = p.depth / kListedColumns;
    for (std::size_t group = 0; group < whole; ++group, b += kListedColumns * kPanel)
        add_group<Word, kColumns, kPanels>(p, group, b, c);
    if (p.depth % kListedColumns == 0) return;
    for (std::size_t j = 0; j < kPanels; ++j)
        with_constant<kColumns - 1>(p.depth % kListedColumns, [&](auto n) {
            add_group<Word, n, 1>(p, whole, b + j * p.b_panel_stride, c + j * p.c_panel_stride);
        });
}

template <class Word>
void multiply_grouped(const GroupedProduct& p) {
    for_even_parts<kListedGroupPanels>(p.panels, [&](std::size_t panel, std::size_t panels) {
        with_constant<kListedGroupPanels>(panels, [&](auto n) {
            multiply_grouped_panels<Word, n>(p, p.b + panel * p.b_panel_stride, p.c + panel * p.c_panel_stride);
        });
    });
}

#endif

}  // namespace
}  // namespace fastmlp
