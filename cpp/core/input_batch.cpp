#include "input_batch.h"

#include <algorithm>
#include <cstdint>

namespace fastmlp {

namespace {

// Rows that are packed at a time on the way to lists; few enough to stay in the L1 cache. Even.
constexpr std::size_t kRowsAtATime = 16;

// Rows looked at to tell whether a part is sparse, which is cheap and, as results do not depend on it, enough.
constexpr std::size_t kRowsLookedAt = 8;

// Lists pay below this fraction of non-zeros; see docs/performance.md.
constexpr double kSparse = 0.4;

// What list_rows may write beyond a row's words.
constexpr std::size_t kSlack = kPanel;

}  // namespace

InputBatch::InputBatch(const Network& network, std::size_t most_rows, std::size_t most_parts, bool with_gradient)
    : kernels_(network.kernels()),
      words_(network.words()),
      rounding_(network.rounding()),
      n_features_(network.n_features()),
      depth_(n_words(words_, n_features_)),
      block_(depth_block_size(kernels_, depth_)),
      n_blocks_((depth_ + block_ - 1) / block_),
      n_groups_((n_features_ + kListedColumns - 1) / kListedColumns),
      with_gradient_(with_gradient),
      parts_(most_parts),
      groups_(most_parts),
      by_columns_(n_panels(depth_) * panel_stride(most_rows), AlignedBuffer::kUninitialized),
      by_columns_stride_(panel_stride(most_rows)),
      by_rows_stride_(panel_stride(n_words(words_, most_rows))) {
    const std::size_t most_words = most_rows * (n_panels(depth_) * kPanel + kSlack);
    list_words_ = std::make_unique_for_overwrite<float[]>(most_words);
    list_places_ = std::make_unique_for_overwrite<std::uint32_t[]>(most_words);
    list_ends_ = std::make_unique_for_overwrite<std::uint32_t[]>(most_rows * n_blocks_);
    if (!with_gradient) return;
    const std::size_t row_words = n_words(words_, most_rows);
    if (words_ == Words::kBfloat16Pairs)
        by_rows_ = AlignedBuffer(n_panels(n_features_) * by_rows_stride_, AlignedBuffer::kUninitialized);
    group_words_ = std::make_unique_for_overwrite<float[]>(row_words * n_groups_ * kListedColumns);
    group_places_ = std::make_unique_for_overwrite<std::uint32_t[]>(row_words * n_groups_);
    group_counts_ = std::make_unique_for_overwrite<std::uint32_t[]>(most_parts * n_groups_);
}

std::size_t InputBatch::pack_scratch_size(const Network& network) {
    const std::size_t block = depth_block_size(network.kernels(), n_words(network.words(), network.n_features()));
    return panel_matrix_size(kRowsAtATime, block) + panel_matrix_size(kRowsAtATime / 2, 2 * block);
}

bool InputBatch::pack(const Inputs& inputs, const std::int64_t* samples, std::size_t part, Range rows, float* scratch) {
    Part& packed = parts_[part];
    packed.rows = rows;
    packed.listed = is_sparse(inputs, samples, rows);
    return packed.listed ? list(inputs, samples, part, scratch) : pack_densely(inputs, samples, rows);
}

bool InputBatch::is_sparse(const Inputs& inputs, const std::int64_t* samples, Range rows) const {
    // Places are 16 times a row, and a part's words are counted, in 32 bits.
    if (rows.end >= UINT32_MAX / (2 * kPanel) || depth_ >= UINT32_MAX / (2 * (rows.size() + 1))) return false;
    const std::size_t count = std::min(rows.size(), kRowsLookedAt);
    std::size_t nonzeros = 0;
    for (std::size_t i = 0; i < count; ++i) {
        const std::size_t row = rows.begin + rows.size() * i / count;
        const std::size_t sample = samples == nullptr ? row : static_cast<std::size_t>(samples[row]);
        nonzeros += inputs.pixels != nullptr
                        ? kernels_.count_nonzeros_uint8(inputs.pixels + sample * n_features_, n_features_)
                        : kernels_.count_nonzeros_float(inputs.values + sample * n_features_, n_features_);
    }
    return static_cast<double>(nonzeros) < kSparse * static_cast<double>(count) * static_cast<double>(n_features_);
}

bool InputBatch::pack_densely(const Inputs& inputs, const std::int64_t* samples, Range rows) {
    const Panels by_columns{by_columns_.data(), by_columns_stride_}, by_rows{by_rows_.data(), by_rows_stride_};
    const std::size_t row_word = n_words(words_, rows.begin);
    return pack_block(inputs, samples, rows, {0, n_features_}, {by_columns.at(rows.begin, 0), by_columns.stride},
                      {by_rows.data == nullptr ? nullptr : by_rows.at(row_word, 0), by_rows.stride});
}

bool InputBatch::list(const Inputs& inputs, const std::int64_t* samples, std::size_t part, float* scratch) {
    const Products& products = products_of(kernels_, words_);
    const Range rows = parts_[part].rows;
    const std::size_t numbers_in_word = words_ == Words::kFloats ? 1 : 2;
    const std::size_t first_word = rows.begin * (n_panels(depth_) * kPanel + kSlack);
    const ListedRows lists{list_words_.get() + first_word, list_places_.get() + first_word,
                           list_ends_.get() + rows.begin * n_blocks_};
    parts_[part].lists = lists;
    if (with_gradient_) {
        const std::size_t first_entry = n_words(words_, rows.begin) * n_groups_;
        groups_[part] = {group_words_.get() + first_entry * kListedColumns, group_places_.get() + first_entry,
                         group_counts_.get() + part * n_groups_, n_words(words_, rows.size())};
        std::fill_n(groups_[part].counts, n_groups_, 0u);
    }
    const Panels by_columns{scratch, panel_stride(kRowsAtATime)};
    const Panels by_rows{scratch + panel_matrix_size(kRowsAtATime, block_), panel_stride(kRowsAtATime / 2)};
    bool finite = true;
    std::uint32_t n_listed = 0;
    std::uint32_t* ends = lists.ends;
    for (std::size_t k = 0; k < depth_; k += block_) {
        const std::size_t column = k * numbers_in_word;
        const Range columns{column, std::min(column + block_ * numbers_in_word, n_features_)};
        for (std::size_t row = rows.begin; row < rows.end; row += kRowsAtATime) {
            const Range some{row, std::min(row + kRowsAtATime, rows.end)};
            finite &= pack_block(inputs, samples, some, columns, by_columns,
                                 with_gradient_ ? by_rows : Panels{nullptr, by_rows.stride});
            products.list_rows(by_columns.data, by_columns.stride, some.size(), n_words(words_, columns.size()),
                               n_listed, {lists.words, lists.places, ends});
            ends += some.size();
            n_listed = ends[-1];
            if (!with_gradient_) continue;
            const ConstPanels words = words_ == Words::kFloats ? ConstPanels{by_columns.data, by_columns.stride}
                                                               : ConstPanels{by_rows.data, by_rows.stride};
            const std::size_t group = column / kListedColumns;
            const ListedGroups& all = groups_[part];
            products.list_groups(words.data, words.stride, n_words(words_, some.size()), columns.size(),
                                 n_words(words_, row),
                                 {all.words + group * all.capacity * kListedColumns, all.places + group * all.capacity,
                                  all.counts + group, all.capacity});
        }
    }
    return finite;
}

bool InputBatch::pack_block(const Inputs& inputs, const std::int64_t* samples, Range rows, Range columns,
                            Panels by_columns, Panels by_rows) const {
    const std::int64_t* index = samples == nullptr ? nullptr : samples + rows.begin;
    const std::size_t first = columns.begin + (samples == nullptr ? rows.begin * n_features_ : 0);
    const PairedMatrix pairs{by_columns.data, by_columns.stride, by_rows.data, by_rows.stride};
    if (inputs.pixels != nullptr) {
        if (words_ == Words::kFloats)
            kernels_.pack_uint8(inputs.pixels + first, n_features_, index, rows.size(), columns.size(), by_columns.data,
                                by_columns.stride);
        else
            kernels_.pack_uint8_pairs(inputs.pixels + first, n_features_, index, rows.size(), columns.size(), pairs);
        return true;
    }
    if (words_ == Words::kFloats)
        return kernels_.pack_float(inputs.values + first, n_features_, index, rows.size(), columns.size(), rounding_,
                                   by_columns.data, by_columns.stride);
    return kernels_.pack_float_pairs(inputs.values + first, n_features_, index, rows.size(), columns.size(), pairs);
}

void InputBatch::multiply(std::size_t part, ConstPanels weights, Panels z, Range panels) const {
    const Part& packed = parts_[part];
    const Range rows = packed.rows;
    if (!packed.listed) {
        fastmlp::multiply(kernels_, words_, {by_columns_.data(), by_columns_stride_}, weights, z, rows, panels, depth_);
        return;
    }
    if (rows.size() == 0) return;
    ListedRows lists = packed.lists;
    std::uint32_t first = 0;
    for (std::size_t k = 0; k < depth_; k += block_) {
        products_of(kernels_, words_)
            .multiply_listed({lists, first, weights.at(k, panels.begin), weights.stride,
                              z.at(rows.begin, panels.begin), z.stride, rows.size(), panels.size(), k > 0});
        first = lists.ends[rows.size() - 1];
        lists.ends += rows.size();
    }
}

void InputBatch::multiply_transposed(std::size_t n_parts, ConstPanels delta, Panels c, Range a_panels,
                                     Range b_panels) const {
    const ConstPanels by_rows = words_ == Words::kFloats ? ConstPanels{by_columns_.data(), by_columns_stride_}
                                                         : ConstPanels{by_rows_.data(), by_rows_stride_};
    for (std::size_t begin = 0, end; begin < n_parts; begin = end) {  // parts that are packed alike, in one go
        const bool listed = parts_[begin].listed;
        for (end = begin + 1; end < n_parts && parts_[end].listed == listed;) ++end;
        const std::size_t first_column = a_panels.begin * kPanel;
        if (listed)
            products_of(kernels_, words_)
                .multiply_transposed_listed({groups_.data() + begin, end - begin, first_column / kListedColumns,
                                             delta.at(0, b_panels.begin), delta.stride, c.data, c.stride,
                                             std::min(a_panels.end * kPanel, n_features_) - first_column,
                                             b_panels.size(), begin > 0});
        else
            fastmlp::multiply_transposed(
                kernels_, words_, by_rows, delta, c, a_panels, b_panels, n_features_,
                {n_words(words_, parts_[begin].rows.begin), n_words(words_, parts_[end - 1].rows.end)}, begin > 0);
    }
}

}  // namespace fastmlp
