#include "input_batch.h"

#include <algorithm>
#include <cmath>
#include <cstdint>

#include "augment.h"
#include "evict.h"

namespace fastmlp {

namespace {

// Rows that are packed at a time, while the next ones are fetched from memory, where samples in random order lie far
// apart. All even. On the way to lists rows become a matrix, which should stay in the L1 or L2 cache, unless their
// pixels are listed as they are: for lists by groups many rows at a time, of which the next ones are fetched line by
// line; else few, since all that is fetched at once has to wait for one another.
constexpr std::size_t kRowsAtATime = 8;
constexpr std::size_t kPixelRowsAtATime = kPanel;
constexpr std::size_t kPixelRowsWithoutGroups = 2;

// What is fetched ahead of the next batch or part: more would push out what is about to be read.
constexpr std::size_t kFetchedBytes = std::size_t{1} << 15;

// A part's first rows, which have mostly been fetched ahead, tell whether it is sparse: results do not depend on it.
constexpr std::size_t kRowsLookedAt = 8;

// Lists pay below these fractions of elements that are not 0, where there are lists of rows, and of groups that have
// any, where there are none; see docs/performance.md.
constexpr double kSparseElements = 0.4;
constexpr double kSparseGroups = 0.7;

constexpr std::size_t kCacheLine = 64;

std::size_t row_bytes(const Inputs& inputs) {
    return inputs.n_features * (inputs.pixels != nullptr ? sizeof(*inputs.pixels) : sizeof(*inputs.values));
}

// Inlined, since g++ takes a function that only prefetches for one that does nothing.
[[gnu::always_inline]] inline void prefetch(const Inputs& inputs, const std::int64_t* samples, Range rows) {
    const std::size_t n_bytes = row_bytes(inputs);
    const char* data = inputs.pixels != nullptr ? reinterpret_cast<const char*>(inputs.pixels)
                                                : reinterpret_cast<const char*>(inputs.values);
    for (std::size_t row = rows.begin; row < rows.end; ++row) {
        const char* first = data + n_bytes * (samples == nullptr ? row : static_cast<std::size_t>(samples[row]));
        for (std::size_t byte = 0; byte < n_bytes; byte += kCacheLine) __builtin_prefetch(first + byte);
    }
}

// Floats that rows take on the way to lists, by columns and by rows.
std::size_t packing_size(Words words, std::size_t n_features) {
    return panel_matrix_size(kRowsAtATime, n_words(words, n_features)) +
           panel_matrix_size(kRowsAtATime / 2, n_features);
}

// These rows' images, distorted, one after the other: at most kPixelRowsAtATime.
Inputs augmented(const KernelTable& kernels, const Inputs& inputs, const std::int64_t* samples, Range rows,
                 float* scratch) {
    static_assert(kPixelRowsAtATime % sizeof(float) == 0);
    const auto& [augmentation, epoch, ids] = inputs.augmented;
    const std::size_t n_pixels = augmentation->n_pixels();
    auto* const images = reinterpret_cast<std::uint8_t*>(scratch + augmentation->scratch_size());
    for (std::size_t i = 0; i < rows.size(); ++i) {
        const std::size_t row = rows.begin + i;
        const std::size_t sample = samples == nullptr ? row : static_cast<std::size_t>(samples[row]);
        augmentation->apply(kernels, epoch, ids == nullptr ? static_cast<std::int64_t>(sample) : ids[sample],
                            inputs.pixels + sample * n_pixels, images + i * n_pixels, scratch);
    }
    return {images, nullptr, rows.size(), n_pixels};
}

// Floats that rows take whose dropped elements are 0; stores need room for a line more.
std::size_t dropping_size(std::size_t n_features) { return (n_panels(kRowsAtATime * n_features) + 1) * kPanel; }
static_assert(kPixelRowsAtATime <= kRowsAtATime * sizeof(float));  // of pixels

// These rows with 0 for what is dropped, one after the other: at most kRowsAtATime, of pixels kPixelRowsAtATime.
Inputs without_dropped(const KernelTable& kernels, const Inputs& from, const std::int64_t* index, std::size_t n_rows,
                       const DropoutMask& mask, float* scratch) {
    if (from.values != nullptr) {
        kernels.drop_float(mask, from.values, index, n_rows, from.n_features, scratch);
        return {nullptr, scratch, n_rows, from.n_features};
    }
    auto* const pixels = reinterpret_cast<std::uint8_t*>(scratch);
    kernels.drop_uint8(mask, from.pixels, index, n_rows, from.n_features, pixels);
    return {pixels, nullptr, n_rows, from.n_features};
}

}  // namespace

InputBatch::InputBatch(const Network& network, std::size_t most_rows, std::size_t most_parts, bool with_gradient)
    : kernels_(network.kernels()),
      words_(network.words()),
      rounding_(network.rounding()),
      n_features_(network.n_features()),
      depth_(n_words(words_, n_features_)),
      block_(depth_block_size(kernels_.listed_depth_block, depth_)),
      n_blocks_((depth_ + block_ - 1) / block_),
      n_groups_((n_features_ + kListedColumns - 1) / kListedColumns),
      with_gradient_(with_gradient),
      lists_rows_(!with_gradient || products_of(kernels_, words_).multiply_grouped == nullptr),
      parts_(most_parts),
      groups_(most_parts),
      by_columns_(n_panels(depth_) * panel_stride(most_rows), AlignedBuffer::kUninitialized),
      by_columns_stride_(panel_stride(most_rows)),
      by_rows_stride_(panel_stride(n_words(words_, most_rows))) {
    if (lists_rows_) {
        const std::size_t most_words = most_rows * n_blocks_ * (block_ + kRowSlack);
        list_words_ = std::make_unique_for_overwrite<float[]>(most_words);
        list_places_ = std::make_unique_for_overwrite<std::uint32_t[]>(most_words);
        list_ends_ = std::make_unique_for_overwrite<std::uint32_t[]>(most_rows * n_blocks_);
        block_counts_ = std::make_unique_for_overwrite<std::uint32_t[]>(most_parts * n_blocks_);
    }
    if (!with_gradient) return;
    if (words_ == Words::kBfloat16Pairs)
        by_rows_ = AlignedBuffer(n_panels(n_features_) * by_rows_stride_, AlignedBuffer::kUninitialized);
    const std::size_t most_entries = (n_words(words_, most_rows) + most_parts * kGroupSlack) * n_groups_;
    group_entries_ = std::make_unique_for_overwrite<ListedWords[]>(most_entries);
    group_counts_ = std::make_unique_for_overwrite<std::uint32_t[]>(most_parts * n_groups_);
}

std::size_t InputBatch::pack_scratch_size(const Network& network, const Augmentation* augmentation, bool drops) {
    std::size_t size = packing_size(network.words(), network.n_features());
    if (drops) size += dropping_size(network.n_features());
    if (augmentation != nullptr)
        size += augmentation->scratch_size() + kPixelRowsAtATime * augmentation->n_pixels() / sizeof(float);
    return size;
}

bool InputBatch::pack(const Inputs& inputs, const std::int64_t* samples, std::size_t part, const PartRows& part_rows,
                      float* scratch, const DropoutMask* dropped, FarReads far_reads) {
    evict_part(part, far_reads);
    const double kept = dropped == nullptr ? 1.0 : 1.0 - dropped->threshold / 0x1p16;
    const auto& [rows, first_line, n_next_rows] = part_rows;
    parts_[part].rows = rows;
    parts_[part].lines = {first_line, first_line + rows.size()};
    parts_[part].listed = is_sparse(inputs, samples, rows, kept);
    if (parts_[part].listed) start_lists(part);
    bool finite = true;
    const bool from_pixels = parts_[part].listed && lists_pixels(inputs);
    std::size_t at_a_time = kRowsAtATime;
    if (from_pixels) at_a_time = with_gradient_ ? kPixelRowsAtATime : kPixelRowsWithoutGroups;
    // Lists of groups, and matrices, are made on the way over all columns.
    const bool fetches_next =
        (!from_pixels || with_gradient_) && dropped == nullptr && inputs.augmented.augmentation == nullptr;
    const std::size_t end_of_next = rows.end + std::min(n_next_rows, kFetchedBytes / row_bytes(inputs));
    for (std::size_t row = rows.begin; row < rows.end; row += at_a_time) {
        const Range some{row, std::min(row + at_a_time, rows.end)};
        const Range next{some.end, std::min(some.end + at_a_time, end_of_next)};
        std::size_t n_next = fetches_next ? next.size() : 0;
        if (!from_pixels) n_next = std::min(n_next, some.size());
        prefetch(inputs, samples, {next.begin + n_next, next.end});
        Inputs from = inputs.from(samples == nullptr ? row : 0);
        const std::int64_t* index = samples == nullptr ? nullptr : samples + row;
        float* free = scratch + packing_size(words_, n_features_);
        if (dropped != nullptr) free += dropping_size(n_features_);
        if (inputs.augmented.augmentation != nullptr) {
            from = augmented(kernels_, inputs, samples, some, free);
            index = nullptr;
        }
        if (dropped != nullptr) {
            DropoutMask mask = *dropped;
            mask.first_row += row - rows.begin;
            from = without_dropped(kernels_, from, index, some.size(), mask, free - dropping_size(n_features_));
            index = nullptr;
        }
        finite &= parts_[part].listed ? list_rows(from, index, part, some, n_next, scratch)
                                      : pack_densely(from, index, part, some, n_next);
    }
    return finite;
}

void InputBatch::fetch(const Inputs& inputs, const std::int64_t* samples, Range rows) {
    const std::size_t most = std::min(kPixelRowsAtATime, kFetchedBytes / row_bytes(inputs));
    prefetch(inputs, samples, {rows.begin, std::min(rows.begin + most, rows.end)});
}

bool InputBatch::lists_pixels(const Inputs& inputs) const {
    return inputs.pixels != nullptr && products_of(kernels_, words_).list_pixel_rows != nullptr;
}

bool InputBatch::is_sparse(const Inputs& inputs, const std::int64_t* samples, Range rows, double kept) const {
    // Places are 16 times a row, and a part's words are counted, in 32 bits.
    if (rows.end >= UINT32_MAX / (2 * kPanel) || depth_ >= UINT32_MAX / (2 * (rows.size() + 1))) return false;
    const std::size_t n_rows = std::min(rows.size(), kRowsLookedAt);
    const auto count = [&](std::size_t together) {
        std::size_t nonzeros = 0;
        for (std::size_t row = rows.begin; row < rows.begin + n_rows; ++row) {
            const std::size_t sample = samples == nullptr ? row : static_cast<std::size_t>(samples[row]);
            nonzeros +=
                inputs.pixels != nullptr
                    ? kernels_.count_nonzeros_uint8(inputs.pixels + sample * n_features_, n_features_, together)
                    : kernels_.count_nonzeros_float(inputs.values + sample * n_features_, n_features_, together);
        }
        return static_cast<double>(nonzeros);
    };
    const auto all = [&](std::size_t n) { return static_cast<double>(n_rows) * static_cast<double>(n); };
    if (lists_rows_) return kept * count(1) < kSparseElements * all(n_features_);
    double groups = count(kListedColumns);
    // A group is gone when all that it has is dropped.
    if (kept < 1.0 && groups > 0.0) groups *= 1.0 - std::pow(1.0 - kept, count(1) / groups);
    return groups < kSparseGroups * all(n_groups_);
}

bool InputBatch::pack_densely(const Inputs& from, const std::int64_t* index, std::size_t part, Range rows,
                              std::size_t n_next) {
    const Panels by_columns{by_columns_.data(), by_columns_stride_}, by_rows{by_rows_.data(), by_rows_stride_};
    const std::size_t line = parts_[part].lines.begin + (rows.begin - parts_[part].rows.begin);
    return pack_rows(from, index, rows.size(), n_next, {by_columns.at(line, 0), by_columns.stride},
                     {by_rows.data == nullptr ? nullptr : by_rows.at(n_words(words_, rows.begin), 0), by_rows.stride});
}

void InputBatch::start_lists(std::size_t part) {
    const Range rows = parts_[part].rows;
    if (lists_rows_) {
        const std::size_t line = parts_[part].lines.begin, first_word = line * n_blocks_ * (block_ + kRowSlack);
        parts_[part].lists = {list_words_.get() + first_word, list_places_.get() + first_word,
                              list_ends_.get() + line * n_blocks_};
    }
    if (!with_gradient_) return;
    const std::size_t first_entry = (n_words(words_, rows.begin) + part * kGroupSlack) * n_groups_;
    groups_[part] = {group_entries_.get() + first_entry, group_counts_.get() + part * n_groups_,
                     n_words(words_, rows.size()) + kGroupSlack};
    std::fill_n(groups_[part].counts, n_groups_, 0u);
}

void InputBatch::evict_part(std::size_t part, FarReads reads) const {
    const auto& [rows, lines, listed, lists] = parts_[part];
    if (rows.size() == 0 || reads == FarReads::kNothing) return;  // of no rows if not packed yet
    if (!listed) {
        if (words_ == Words::kFloats || reads == FarReads::kAll)
            evict({by_columns_.data(), by_columns_stride_}, lines, {0, n_panels(depth_)});
        if (by_rows_.size() > 0)
            evict({by_rows_.data(), by_rows_stride_}, {n_words(words_, rows.begin), n_words(words_, rows.end)},
                  {0, n_panels(n_features_)});
        return;
    }
    for (std::size_t block = 0; lists_rows_ && reads == FarReads::kAll && block < n_blocks_; ++block) {
        const ListedRows of_block = block_of(parts_[part], block);
        const std::size_t n_bytes = block_counts_[part * n_blocks_ + block] * sizeof(float);
        evict(of_block.words, n_bytes);
        evict(of_block.places, n_bytes);
    }
    for (std::size_t group = 0; with_gradient_ && group < n_groups_; ++group)
        evict(groups_[part].entries + group * groups_[part].capacity,
              groups_[part].counts[group] * sizeof(ListedWords));
}

// Calls list(block, words listed before these rows, where these go) for each block of depth.
template <class List>
void InputBatch::for_each_block_of_lists(std::size_t part, Range rows, List list) {
    const std::size_t rows_before = rows.begin - parts_[part].rows.begin;
    for (std::size_t block = 0; block < n_blocks_; ++block) {
        ListedRows lists = block_of(parts_[part], block);
        const std::uint32_t listed = rows_before == 0 ? 0 : lists.ends[rows_before - 1];
        lists.ends += rows_before;
        list(block, listed, lists);
        block_counts_[part * n_blocks_ + block] = lists.ends[rows.size() - 1];
    }
}

bool InputBatch::list_rows(const Inputs& from, const std::int64_t* index, std::size_t part, Range rows,
                           std::size_t n_next, float* scratch) {
    const Products& products = products_of(kernels_, words_);
    if (lists_pixels(from)) {
        list_pixels({from.pixels, n_features_, index, rows.size(), n_features_, n_next}, part, rows);
        return true;
    }
    const Panels by_columns{scratch, panel_stride(kRowsAtATime)};
    const Panels by_rows{scratch + panel_matrix_size(kRowsAtATime, depth_), panel_stride(kRowsAtATime / 2)};
    const bool finite = pack_rows(from, index, rows.size(), n_next, by_columns,
                                  {with_gradient_ ? by_rows.data : nullptr, by_rows.stride});
    if (lists_rows_)
        for_each_block_of_lists(part, rows, [&](std::size_t block, std::uint32_t listed, ListedRows lists) {
            products.list_rows(by_columns.at(0, block * block_ / kPanel), by_columns.stride, rows.size(),
                               std::min(block_, depth_ - block * block_), listed, lists);
        });
    const Panels& matrix = words_ == Words::kFloats ? by_columns : by_rows;
    if (with_gradient_)
        products.list_groups(matrix.data, matrix.stride, n_words(words_, rows.size()), n_features_,
                             n_words(words_, rows.begin), groups_[part]);
    return finite;
}

void InputBatch::list_pixels(const PixelRows& from, std::size_t part, Range rows) {
    const Products& products = products_of(kernels_, words_);
    const std::size_t block_columns = words_ == Words::kFloats ? block_ : 2 * block_;
    if (lists_rows_)
        for_each_block_of_lists(part, rows, [&](std::size_t block, std::uint32_t listed, ListedRows lists) {
            const std::size_t first = block * block_columns;
            products.list_pixel_rows(from, first, std::min(block_columns, n_features_ - first), listed, lists);
        });
    if (with_gradient_) products.list_pixel_groups(from, n_words(words_, rows.begin), groups_[part]);
}

ListedRows InputBatch::block_of(const Part& part, std::size_t block) const {
    const std::size_t first_word = block * part.rows.size() * (block_ + kRowSlack);
    return {part.lists.words + first_word, part.lists.places + first_word, part.lists.ends + block * part.rows.size()};
}

bool InputBatch::pack_rows(const Inputs& from, const std::int64_t* index, std::size_t n_rows, std::size_t n_next,
                           Panels by_columns, Panels by_rows) const {
    const FloatRows values{from.values, n_features_, index, n_rows, n_features_, n_next};
    const PixelRows pixels{from.pixels, n_features_, index, n_rows, n_features_, n_next};
    const PairedMatrix pairs{by_columns.data, by_columns.stride, by_rows.data, by_rows.stride};
    if (words_ == Words::kFloats) {
        if (from.values != nullptr) return kernels_.pack_float(values, rounding_, by_columns.data, by_columns.stride);
        kernels_.pack_uint8(pixels, by_columns.data, by_columns.stride);
        return true;
    }
    if (from.values != nullptr) return kernels_.pack_float_pairs(values, pairs);
    kernels_.pack_uint8_pairs(pixels, pairs);
    return true;
}

void InputBatch::multiply(std::size_t part, ConstPanels weights, std::size_t n_outputs, Panels z, Range panels) const {
    const Part& packed = parts_[part];
    const Range lines = packed.lines;
    if (!packed.listed) {
        fastmlp::multiply(kernels_, words_, {by_columns_.data(), by_columns_stride_}, weights, n_outputs, z, lines,
                          panels, depth_);
        return;
    }
    const Products& products = products_of(kernels_, words_);
    if (!lists_rows_) {
        products.multiply_grouped({groups_[part], weights.at(0, panels.begin), weights.stride, z.at(0, panels.begin),
                                   z.stride, packed.rows.begin, packed.rows.size(), columns_in(panels, n_outputs),
                                   depth_});
        return;
    }
    for (std::size_t block = 0; block < n_blocks_; ++block)
        products.multiply_listed({block_of(packed, block), weights.at(block * block_, panels.begin), weights.stride,
                                  z.at(lines.begin, panels.begin), z.stride, lines.size(),
                                  columns_in(panels, n_outputs), block > 0});
}

void InputBatch::multiply_transposed(std::size_t n_parts, ConstPanels delta, std::size_t n_outputs, Panels c,
                                     Range a_panels, Range b_panels) const {
    const ConstPanels by_rows = words_ == Words::kFloats ? ConstPanels{by_columns_.data(), by_columns_stride_}
                                                         : ConstPanels{by_rows_.data(), by_rows_stride_};
    for (std::size_t begin = 0, end; begin < n_parts; begin = end) {  // parts that are packed alike, in one go
        const bool listed = parts_[begin].listed;
        for (end = begin + 1; end < n_parts && parts_[end].listed == listed;) ++end;
        if (listed)
            products_of(kernels_, words_)
                .multiply_transposed_listed({groups_.data() + begin, end - begin,
                                             a_panels.begin * kPanel / kListedColumns, delta.at(0, b_panels.begin),
                                             delta.stride, c.data, c.stride, columns_in(a_panels, n_features_),
                                             columns_in(b_panels, n_outputs), begin > 0});
        else
            fastmlp::multiply_transposed(
                kernels_, words_, by_rows, delta, c, a_panels, b_panels, n_outputs, n_features_,
                {n_words(words_, parts_[begin].rows.begin), n_words(words_, parts_[end - 1].rows.end)}, begin > 0);
    }
}

}  // namespace fastmlp
