// The input of a batch, ready for the first layer's products. Each part of its rows is packed as its data are: where
// most elements are 0, as lists of the others; else densely. The results are the same.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "aligned_buffer.h"
#include "data.h"
#include "evict.h"
#include "gemm.h"
#include "network.h"

namespace fastmlp {

// Rows of a batch that are packed together.
struct PartRows {
    Range rows;
    // Where all lies that is not for gradients, in as many lines as rows. As floats are for gradients, too: rows.begin.
    std::size_t first_line = rows.begin;
    std::size_t n_next = 0;  // of the rows that follow; the same thread packs them next
};

class InputBatch {
 public:
    // with_gradient: whether multiply_transposed will be called.
    InputBatch(const Network& network, std::size_t most_rows, std::size_t most_parts, bool with_gradient);

    // Packs samples[rows], or rows themselves if samples is null, as this part; every row in a part of its own, in
    // rising order, and all parts but the last with an even number of rows. Images are distorted if inputs say so,
    // and what the mask of the part drops, if there is one, is 0. Returns whether all input was finite. scratch holds
    // pack_scratch_size floats.
    bool pack(const Inputs& inputs, const std::int64_t* samples, std::size_t part, const PartRows& part_rows,
              float* scratch, const DropoutMask* dropped = nullptr, FarReads far_reads = FarReads::kNothing);
    static std::size_t pack_scratch_size(const Network& network, const Augmentation* augmentation, bool drops = false);

    // Fetches into the cache what packing these rows will read first.
    static void fetch(const Inputs& inputs, const std::int64_t* samples, Range rows);

    // z[lines of the part, panels] = input times weights, of n_outputs columns, but for the scale of Inputs.
    void multiply(std::size_t part, ConstPanels weights, std::size_t n_outputs, Panels z, Range panels) const;

    // c = input[:, a_panels]' delta[:, b_panels], delta having n_outputs columns, over all rows of the first n_parts
    // parts; see gemm.h for c.
    void multiply_transposed(std::size_t n_parts, ConstPanels delta, std::size_t n_outputs, Panels c, Range a_panels,
                             Range b_panels) const;

 private:
    struct Part {
        Range rows{}, lines{};
        bool listed = false;
        ListedRows lists{};  // of the first block of depth; see block_of
    };

    bool lists_pixels(const Inputs& inputs) const;
    bool is_sparse(const Inputs& inputs, const std::int64_t* samples, Range rows, double kept) const;
    // These take the rows' own samples: index[0], index[1], ... of from, or its first ones if index is null. n_next:
    // rows that follow these in from and are to be fetched meanwhile.
    bool pack_densely(const Inputs& from, const std::int64_t* index, std::size_t part, Range rows, std::size_t n_next);
    void start_lists(std::size_t part);
    void evict_part(std::size_t part, FarReads reads) const;
    bool list_rows(const Inputs& from, const std::int64_t* index, std::size_t part, Range rows, std::size_t n_next,
                   float* scratch);
    template <class List>
    void for_each_block_of_lists(std::size_t part, Range rows, List list);
    void list_pixels(const PixelRows& from, std::size_t part, Range rows);
    bool pack_rows(const Inputs& from, const std::int64_t* index, std::size_t n_rows, std::size_t n_next,
                   Panels by_columns, Panels by_rows) const;
    ListedRows block_of(const Part& part, std::size_t block) const;

    const KernelTable& kernels_;
    Words words_;
    Rounding rounding_;
    std::size_t n_features_;
    std::size_t depth_;  // words that products sum over
    std::size_t block_;  // of these in a block of the lists
    std::size_t n_blocks_;
    std::size_t n_groups_;  // of features
    bool with_gradient_;
    // Unless the lists of groups, which the gradient needs, serve the forward product as well.
    bool lists_rows_;
    std::vector<Part> parts_;           // of the last batch until the next one is packed
    std::vector<ListedGroups> groups_;  // of each part
    // Of dense parts. Floats are the same matrix for both kinds of products.
    AlignedBuffer by_columns_, by_rows_;
    std::size_t by_columns_stride_, by_rows_stride_;
    // Of listed parts. Little of this memory is ever touched.
    std::unique_ptr<float[]> list_words_;
    std::unique_ptr<ListedWords[]> group_entries_;
    std::unique_ptr<std::uint32_t[]> list_places_, list_ends_, group_counts_;
    // Words of each part's blocks. Unlike list_ends_ they have a place of their own, which no other part of the next
    // batch, divided otherwise, takes.
    std::unique_ptr<std::uint32_t[]> block_counts_;
};

}  // namespace fastmlp
