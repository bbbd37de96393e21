// Counter-based random words, a vector of them at a time.
#pragma once

#include <cstdint>
#include <cstring>

#include "simd.h"

namespace fastmlp {
namespace {

FASTMLP_INLINE Line load_words(const std::uint32_t (&words)[kPanel]) {
    alignas(64) float same_bits[kPanel];
    std::memcpy(same_bits, words, sizeof(same_bits));
    return load_line(same_bits);
}

alignas(64) constexpr std::uint32_t kLaneNumber[kPanel] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};

// Words of Philox4x32-10 (Salmon, Moraes, Dror & Shaw 2011) at as many counters as a vector has even lanes. The odd
// lanes hold what is left over from products.
struct PhiloxWords {
    IntVec word[kPhiloxWords];
};

// From counters to what Philox makes of them, kCount vectors side by side.
template <std::size_t kCount>
FASTMLP_INLINE void philox(PhiloxWords (&counters)[kCount], std::uint64_t key) {
    const IntVec multiplier_0 = splat_bits(0xD2511F53), multiplier_1 = splat_bits(0xCD9E8D57);
    auto key_0 = static_cast<std::uint32_t>(key), key_1 = static_cast<std::uint32_t>(key >> 32);
#pragma GCC unroll 10
    for (int round = 0; round < 10; ++round, key_0 += 0x9E3779B9, key_1 += 0xBB67AE85) {
        const IntVec keys[] = {splat_bits(key_0), splat_bits(key_1)};
#pragma GCC unroll 4
        for (std::size_t i = 0; i < kCount; ++i) {
            auto& c = counters[i].word;
            const IntVec product_0 = multiply_even_lanes(c[0], multiplier_0);
            const IntVec product_1 = multiply_even_lanes(c[2], multiplier_1);
            counters[i] = {{even_lanes_from_odd(product_1) ^ c[1] ^ keys[0], product_1,
                            even_lanes_from_odd(product_0) ^ c[3] ^ keys[1], product_0}};
        }
    }
}

// word[j] = word j of Philox at the counters (low, high, stream, purpose), lane by lane.
FASTMLP_INLINE void philox_lines(std::uint64_t key, std::uint32_t purpose, std::uint32_t stream, const Line& low,
                                 const Line& high, Line (&word)[kPhiloxWords]) {
    const IntVec c2 = splat_bits(stream), c3 = splat_bits(purpose);
    const IntVec even_lanes = even_lanes_from_odd(splat_bits(~0u));
    for (int part = 0; part < kVecs; ++part) {
        const IntVec c0 = bits(low.part[part]), c1 = bits(high.part[part]);
        PhiloxWords even_odd[] = {{{c0, c1, c2, c3}}, {{even_lanes_from_odd(c0), even_lanes_from_odd(c1), c2, c3}}};
        philox(even_odd, key);
        for (std::size_t j = 0; j < kPhiloxWords; ++j)
            word[j].part[part] =
                from_bits((even_odd[0].word[j] & even_lanes) | odd_lanes_from_even(even_odd[1].word[j]));
    }
}

alignas(64) constexpr std::uint32_t kEvenLaneNumber[kPanel] = {0, 0, 1, 0, 2, 0, 3, 0, 4, 0, 5, 0, 6, 0, 7, 0};

void random_bits(const RandomBits& args, std::uint64_t (&out)[kRandomNumbers]) {
    constexpr std::size_t kNumbers = kLanes / 2, kSideBySide = 2;
    static_assert(kRandomNumbers % (kSideBySide * kNumbers) == 0);
    alignas(64) float same_bits[2 * kRandomNumbers];  // stored as vectors, which is faster than to out
    const IntVec even_lanes = even_lanes_from_odd(splat_bits(~0u)), first = bits(load_words(kEvenLaneNumber).part[0]);
    const IntVec c1 = splat_bits(static_cast<std::uint32_t>(args.first_counter >> 32));
    const IntVec c2 = splat_bits(args.stream), c3 = splat_bits(args.purpose);
    for (std::size_t i = 0; i < kRandomNumbers; i += kSideBySide * kNumbers) {
        const auto low = static_cast<std::uint32_t>(args.first_counter + i);
        PhiloxWords random[kSideBySide];
        for (std::size_t j = 0; j < kSideBySide; ++j)
            random[j] = {{first + splat_bits(low + static_cast<std::uint32_t>(j * kNumbers)), c1, c2, c3}};
        philox(random, args.seed);
        for (std::size_t j = 0; j < kSideBySide; ++j)
            store(same_bits + 2 * (i + j * kNumbers),
                  from_bits((random[j].word[0] & even_lanes) | odd_lanes_from_even(random[j].word[1])));
    }
    std::memcpy(out, same_bits, sizeof(out));
}

}  // namespace
}  // namespace fastmlp
