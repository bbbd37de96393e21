// Block and tile sizes of each instruction set, in one place. `benchmarks/kernels.py` shows what they reach; its option
// --try compares other sizes of blocks, and --against another checkout's tiles. A set that has not been measured says
// so.
//
// A tile is kTileRows rows of kTilePanels panels of the result, held in registers for the whole of a depth block:
// kTileRows * kTilePanels lines of accumulators, kTilePanels lines of the right operand and one broadcast element
// of the left one. At least 8 fused multiply-adds must be independent (4 cycles of latency, 2 a cycle), and every
// line loaded must serve enough rows to be paid for. kListedRowPanels and kListedGroupVecs are the widths of the
// tiles of products with listed operands, which have one row and kListedColumns rows, in panels and in vectors; in a
// forward product by groups kListedColumns rows of weights, kListedGroupVecs wide, stay in registers. A depth block of
// the right operand, kTilePanels wide, should fit into the L1 cache, unless the L2 cache delivers lines as fast as a
// tile takes them, so that it costs more to read and write the result for each block; and so should as many of its
// lines as the kListedRows that a gradient's sums by groups are made over at a time. kRowBlockShare is what a row block
// may fill of the L2 cache, see row_block_for: what is done with it should find it there, but lists of its rows should
// be long. A task of kGradientInputPanels fetches all deltas: the more panels, the less often; its sums, moments and
// lists should fit into the L2 cache. In a small batch, where the optimiser takes much of the time,
// kSmallBatchInputPanels are the length of its runs; measured with 784 inputs on Zen 4, where AVX2 gains as well.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernel_table.h"

namespace fastmlp {
namespace {

constexpr std::size_t kSmallBatchInputPanels = 10;

#if defined(FASTMLP_TARGET_AVX512)
constexpr int kTileRows = 8;  // 24 of 32 registers accumulate
constexpr int kTilePanels = 3;
constexpr int kListedGroupVecs = 7;
constexpr std::size_t kListedRows = SIZE_MAX;  // a tile's lines of as many rows as would pay do not fit
constexpr std::size_t kGradientInputPanels = 2;
constexpr std::size_t kDepthBlock = 128;       // 256: 48 KB of the right operand, more than the L1 cache has
constexpr std::size_t kDepthBlockOnAmd = 512;  // measured on Zen 4, with one multiply-add a cycle
constexpr double kRowBlockShare = 0.1;         // measured with 1 MB alone
constexpr int kListedRowPanels = 7;            // fewer sums do not fill the multiply-adds, which take 4 to 6 cycles
constexpr std::size_t kListedDepthBlock = 128;
#elif defined(FASTMLP_TARGET_AVX2)
constexpr int kTileRows = 6;  // 12 of 16 registers accumulate
constexpr int kTilePanels = 1;
constexpr int kListedRowPanels = 5;
constexpr int kListedGroupVecs = 3;       // 12 registers accumulate, 3 hold a line, 1 a word
constexpr std::size_t kListedRows = 100;  // of which a tile reads two lines each
constexpr std::size_t kGradientInputPanels = 5;
constexpr std::size_t kDepthBlock = 256;
constexpr std::size_t kDepthBlockOnAmd = kDepthBlock;
constexpr std::size_t kListedDepthBlock = 256;
constexpr double kRowBlockShare = 0.3;  // measured with 512 KB alone, on Zen 3
#elif defined(FASTMLP_TARGET_NEON)
constexpr int kTileRows = 6;  // 24 of 32 registers accumulate; not measured
constexpr int kTilePanels = 1;
constexpr int kListedRowPanels = 5;
constexpr int kListedGroupVecs = 4;
constexpr std::size_t kListedRows = SIZE_MAX;
constexpr std::size_t kGradientInputPanels = 2;
constexpr std::size_t kDepthBlock = 256;
constexpr std::size_t kDepthBlockOnAmd = kDepthBlock;
constexpr std::size_t kListedDepthBlock = 256;
constexpr double kRowBlockShare = 0.1;
#else
constexpr int kTileRows = 2;  // 8 of 16 registers accumulate
constexpr int kTilePanels = 1;
constexpr int kListedRowPanels = 2;
constexpr int kListedGroupVecs = 4;
constexpr std::size_t kListedRows = SIZE_MAX;
constexpr std::size_t kGradientInputPanels = 2;
constexpr std::size_t kDepthBlock = 256;
constexpr std::size_t kDepthBlockOnAmd = kDepthBlock;
constexpr std::size_t kListedDepthBlock = 256;
constexpr double kRowBlockShare = 0.1;
#endif
static_assert(kListedDepthBlock <= kMostListedDepth);
// A tile is in no more panels than it has vectors.
static_assert(kListedRowPanels <= int{kWidestTile} && kListedGroupVecs <= int{kWidestTile});

}  // namespace
}  // namespace fastmlp
