// Dropout: random masks, made where they are used.
#pragma once

#include "elementary.inl"
#include "packing.inl"
#include "philox.inl"

namespace fastmlp {
namespace {

// factor[p] is 1 in lanes that row i keeps of panel p of this block of kMaskPanels, else 0.
FASTMLP_INLINE void mask_lines(const DropoutMask& mask, std::size_t row, std::size_t block,
                               Line (&factor)[kMaskPanels]) {
    const auto first = splat_bits(static_cast<std::uint32_t>(block * kPanel));
    const Vec high = from_bits(splat_bits(static_cast<std::uint32_t>(mask.first_row + row)));
    const Line low = map([&](Vec t) { return from_bits(bits(t) + first); }, load_words(kLaneNumber));
    Line word[kPhiloxWords];
    philox_lines(mask.seed, mask.purpose, mask.stream, low, map([&](Vec) { return high; }, low), word);
    const Vec threshold = splat(static_cast<float>(mask.threshold));
    const auto factor_of = [&](IntVec number) {
        return where_less(to_float(number), threshold, splat(0.0f), splat(1.0f));
    };
#pragma GCC unroll 4
    for (std::size_t j = 0; j < kPhiloxWords; ++j) {
        factor[2 * j] = map([&](Vec w) { return factor_of(bits(w) & splat_bits(0xffff)); }, word[j]);
        factor[2 * j + 1] = map([&](Vec w) { return factor_of(shift_right<16>(bits(w))); }, word[j]);
    }
}

void drop_units(const DroppedUnits& args) {
    const Line scale = splat_line(args.scale), zero = splat_line(0.0f);
    const std::size_t end = args.first_panel + args.panels;
    for (std::size_t row = 0; row < args.rows; ++row)
        for (std::size_t block = args.first_panel / kMaskPanels; block * kMaskPanels < end; ++block) {
            Line factor[kMaskPanels];
            mask_lines(args.mask, row, block, factor);
            for (std::size_t i = 0; i < kMaskPanels; ++i) {
                const std::size_t number = block * kMaskPanels + i;
                if (number < args.first_panel || number >= end) continue;
                const std::size_t panel = number - args.first_panel;
                const std::size_t at = panel * args.panel_stride + row * kPanel;
                const Line a = load_line(args.matrix + at);
                if (args.saved != nullptr) store_line(args.saved + at, a);
                args.kept[panel * args.kept_stride + row] = static_cast<std::uint16_t>(nonzero_mask(factor[i]));
                // Adding 0 makes -0 a 0.
                store_line(args.matrix + at, rounded(fma(a, factor[i] * scale, zero), args.rounding));
            }
        }
}

void drop_deltas(const DroppedUnits& args) {
    const Line scale = splat_line(args.scale), zero = splat_line(0.0f);
    std::uint32_t bit[kPanel];
    for (std::size_t t = 0; t < kPanel; ++t) bit[t] = 1u << t;
    const Line lane_bit = load_words(bit);
    for (std::size_t panel = 0; panel < args.panels; ++panel)
        for (std::size_t row = 0; row < args.rows; ++row) {
            float* line = args.matrix + panel * args.panel_stride + row * kPanel;
            const IntVec kept = splat_bits(args.kept[panel * args.kept_stride + row]);
            const Line chosen = map([&](Vec lane) { return to_float(bits(lane) & kept); }, lane_bit);
            const Line delta = load_line(line) * scale;
            store_line(line, map([](Vec c, Vec d, Vec z) { return where_less(z, c, d, z); }, chosen, delta, zero));
        }
}

FASTMLP_INLINE void store_whole(float* p, const Line& x) { store_line_unaligned(p, x); }
FASTMLP_INLINE void store_whole(std::uint8_t* p, const Line& x) { store_line_uint8(p, x); }

// Whole lines are stored, each over what the one before it wrote too much.
template <class Element>
FASTMLP_INLINE void drop_rows(const DropoutMask& mask, const Element* data, const std::int64_t* index, std::size_t rows,
                              std::size_t columns, Element* out) {
    for (std::size_t row = 0; row < rows; ++row, out += columns) {
        Line factor[kMaskPanels];
        for_each_line(data + source_row(index, row) * columns, columns, [&](std::size_t panel, const Line& x) {
            if (panel % kMaskPanels == 0) mask_lines(mask, row, panel / kMaskPanels, factor);
            store_whole(out + panel * kPanel, x * factor[panel % kMaskPanels]);
        });
    }
}

void drop_uint8(const DropoutMask& mask, const std::uint8_t* data, const std::int64_t* index, std::size_t rows,
                std::size_t columns, std::uint8_t* out) {
    drop_rows(mask, data, index, rows, columns, out);
}

void drop_float(const DropoutMask& mask, const float* data, const std::int64_t* index, std::size_t rows,
                std::size_t columns, float* out) {
    drop_rows(mask, data, index, rows, columns, out);
}

}  // namespace
}  // namespace fastmlp
