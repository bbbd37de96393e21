// Every kernel of a table against the plainest double-precision statement of what it does. Each group of kernels has
// a file of its own; this is what they share.
#pragma once

#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <string>
#include <vector>

#include "../../cpp/kernels/kernel_table.h"
#include "report.h"

namespace fastmlp::test {

void check_products(const KernelTable& table);
void check_augment(const KernelTable& table);
void check_packing(const KernelTable& table);
void check_elementwise(const KernelTable& table);
void check_softmax(const KernelTable& table);
void check_losses(const KernelTable& table);

// The error of one float32 rounding, relative. A sum of n products, each rounded into the running sum, is wrong by at
// most n u times the sum of the magnitudes where multiply-adds are fused, and twice that where they are not.
inline constexpr double kU = 0x1p-24;

inline constexpr float kInfinity = std::numeric_limits<float>::infinity();

class KernelCases {
 public:
    explicit KernelCases(const KernelTable& table)
        : table_(table), set_(table.name), fused_(set_ != "baseline"), random_(2026), pairs_random_(2027) {}

 protected:
    bool has_pairs() const { return table_.pair_products.multiply != nullptr; }
    static std::string name_of(Rounding rounding) { return rounding == Rounding::kNone ? "" : "_bfloat16"; }

    const KernelTable& table_;
    std::string set_;
    bool fused_;
    Random random_;        // the same numbers for every set
    Random pairs_random_;  // for what only some sets have
};

// To nearest, ties to even, on the number itself: the upper 16 bits of the pattern are a bfloat16.
inline float bfloat16(float x) {
    const auto pattern = std::bit_cast<std::uint32_t>(x);
    const std::uint32_t lower = pattern & 0xffffu, upper = pattern >> 16;
    const bool up = lower > 0x8000u || (lower == 0x8000u && upper % 2 == 1);
    return std::bit_cast<float>((upper + (up ? 1u : 0u)) << 16);
}

// A word of two numbers that are bfloat16, the first in the lower half; and its halves as numbers.
inline float pair_of(float first, float second) {
    return std::bit_cast<float>(std::bit_cast<std::uint32_t>(first) >> 16 |
                                (std::bit_cast<std::uint32_t>(second) & 0xffff0000u));
}
inline float half_of(float word, std::size_t half) {
    const auto pattern = std::bit_cast<std::uint32_t>(word);
    return std::bit_cast<float>(half == 0 ? pattern << 16 : pattern & 0xffff0000u);
}

// A number rounded to bfloat16 is off by half a unit of its eight bits more.
inline Expected rounded(Expected exact, Rounding rounding) {
    if (rounding == Rounding::kNone) return exact;
    return {exact.value, exact.tolerance + 0x1p-8 * (std::fabs(exact.value) + exact.tolerance)};
}

inline std::size_t at(const std::vector<std::int64_t>& indices, std::size_t i) {
    return static_cast<std::size_t>(indices[i]);
}

}  // namespace fastmlp::test
