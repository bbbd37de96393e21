// How the phases of a training step are divided into tasks. Bits do not depend on it.
#pragma once

#include <algorithm>
#include <cstddef>
#include <vector>

#include "gemm.h"
#include "network.h"
#include "panels.h"

namespace fastmlp {

// A task of the gradient phase makes the gradient of some panels of a layer's inputs, see most_input_panels, times up
// to this many panels of its outputs: large enough to use each operand line often, small enough to lie in the L2 cache
// with its operands.
inline constexpr std::size_t kGradientOutputPanels = 16;
inline constexpr std::size_t kLeastInputPanels = 2;  // if there are too few tasks for a large team

// Rows and panels are divided in pairs: bfloat16 products take rows together, and columns of two panels in one.
inline constexpr std::size_t kRowUnit = 2;
inline constexpr std::size_t kPanelUnit = 2;

// In batches of at most so many rows the optimiser takes much of the time, and weights, moments and activations should
// stay in their thread's cache.
inline constexpr std::size_t kSmallBatch = 256;

// Then tasks that have weights, of a forward phase whose panels stay or of a gradient, are bound to threads: whoever
// takes over a task fetches all that from another thread's cache, and next time it is fetched back.
inline bool is_bound(std::size_t rows, std::size_t team) { return team > 1 && rows <= kSmallBatch; }

// Panels of the first layer's inputs up to which each thread packs a small batch for itself: see Step::packs_alone. And
// up to which it may, as far threads do with pixels: each takes as much memory.
inline constexpr std::size_t kFewInputPanels = 16;
inline constexpr std::size_t kMostPackedAlone = 64;
inline bool may_pack_alone(const Layer& first, std::size_t most_rows) {
    return most_rows <= kSmallBatch && n_panels(first.n_inputs) <= kMostPackedAlone && first.panels() >= 2 * kPanelUnit;
}

// Panels of inputs, at most, in a task of the gradient phase.
inline std::size_t most_input_panels(const KernelTable& kernels, std::size_t rows) {
    return rows <= kSmallBatch ? kernels.small_batch_input_panels : kernels.gradient_input_panels;
}
inline std::size_t most_input_panels(const KernelTable& kernels) {
    return std::max(kernels.small_batch_input_panels, kernels.gradient_input_panels);
}

// Between the panels of a gradient of so many.
inline std::size_t gradient_stride(std::size_t input_panels) { return panel_stride(input_panels * kPanel); }

// Parts of a layer's inputs of at most so many panels each.
inline std::size_t input_parts(const Layer& layer, std::size_t most_panels) {
    return (n_panels(layer.n_inputs) + most_panels - 1) / most_panels;
}

// Rows that a task should have at least, so that each line of weights it loads serves several tiles.
inline constexpr std::size_t kLeastRows = 16;

inline std::size_t most_row_parts(std::size_t rows) { return std::max<std::size_t>(rows / kLeastRows, 1); }

// A phase's result is divided into row_parts x panel_parts tasks.
struct Grid {
    std::size_t row_parts;
    std::size_t panel_parts;
    bool bound = false;
    std::size_t size() const { return row_parts * panel_parts; }
    bool operator==(const Grid&) const = default;
};

// Whether each thread should have panels of layer l of its own in the forward phase and the update, and in the backward
// phase if there are fewer deltas to read than to write. It pays where weights outweigh activations, since weights
// would wander from the cache of the thread that updates them to others', and for few rows, from 300 on it gives
// nothing, where a layer is wider than its neighbours, since its deltas would.
inline bool panels_stay(const std::vector<Layer>& layers, std::size_t l, std::size_t rows, std::size_t team) {
    const std::size_t panels = layers[l].panels();
    const bool is_widest =
        l + 1 < layers.size() && n_panels(layers[l].n_inputs) < panels && layers[l + 1].panels() < panels;
    return (layers[l].n_inputs > rows || (team > 1 && is_widest && rows <= kSmallBatch)) && panels >= kPanelUnit * team;
}

// Parts of n, as many for each thread, of at most `most`.
inline std::size_t parts_for_team(std::size_t n, std::size_t most, std::size_t team) {
    return team * ((n + most * team - 1) / (most * team));
}

// Parts in which rows are packed, and go through layers whose panels do not stay.
inline std::size_t divide_rows(std::size_t rows, std::size_t row_block, std::size_t team) {
    return std::min(most_row_parts(rows), parts_for_team(rows, row_block, team));
}

// Rows of a task with panels that stay: as many as can be, since each loads its weights from afar or transposes them,
// but few enough for the L2 cache beside kGradientOutputPanels.
inline std::size_t rows_of_panels(std::size_t row_block) { return 4 * row_block; }

// Of a forward phase. By rows, so that a task can go on with its rows alone, unless panels are to stay or there are too
// few rows for the team. The first layer's tasks have rows that were packed together. Those of other layers whose
// panels stay have many rows and few panels, so that their result, too, stays in the L2 cache.
inline Grid divide_forward(const std::vector<Layer>& layers, std::size_t l, std::size_t rows, std::size_t row_block,
                           std::size_t team) {
    const std::size_t row_parts = divide_rows(rows, row_block, team), panels = layers[l].panels();
    if (panels_stay(layers, l, rows, team)) {
        if (l == 0) return {row_parts, team, is_bound(rows, team)};
        return {parts_for_team(rows, rows_of_panels(row_block), 1), parts_for_team(panels, kGradientOutputPanels, team),
                is_bound(rows, team)};
    }
    const std::size_t most_panel_parts = (panels + kPanelUnit - 1) / kPanelUnit;
    return {row_parts, std::min(most_panel_parts, (team + row_parts - 1) / row_parts)};
}

// Of a backward phase, which makes the deltas of layer l - 1 from those of layer l. By rows, so that deltas stay in
// their thread's cache: in the parts that were packed, unless these are so many that transposing the weights for each
// of them costs more than to wait for the other threads. But by panels where weights outweigh deltas, so that no two
// tasks transpose the same weights; and where the panels are a thread's own and more than those of the deltas it reads.
inline Grid divide_backward(const std::vector<Layer>& layers, std::size_t l, std::size_t rows, std::size_t row_block,
                            std::size_t team) {
    const std::size_t n_outputs = layers[l].n_outputs, panels = layers[l - 1].panels();
    const std::size_t packed_parts = divide_rows(rows, row_block, team);
    if (n_outputs <= rows) {
        const bool reads_fewer = layers[l].panels() < panels;
        if (team > 1 && reads_fewer && panels_stay(layers, l - 1, rows, team))
            return {parts_for_team(rows, rows_of_panels(row_block), 1), team};
        const bool cheap = packed_parts <= 2 * team || n_outputs <= kPanel;
        const std::size_t row_parts = cheap ? packed_parts : std::min(most_row_parts(rows), 2 * team);
        if (row_parts >= team) return {row_parts, 1};
    }
    const std::size_t parts = std::max(parts_for_team(panels, kTransposedPanels, team), 2 * team);
    const std::size_t panel_parts = std::min((panels + kPanelUnit - 1) / kPanelUnit, parts);
    return {std::min(most_row_parts(rows), (team + panel_parts - 1) / panel_parts), panel_parts};
}

}  // namespace fastmlp
