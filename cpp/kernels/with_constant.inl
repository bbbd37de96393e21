// From a number that is known at run time to one that is known to the compiler.
#pragma once

#include <cstddef>
#include <type_traits>

#include "simd.h"

namespace fastmlp {
namespace {

// Calls f(std::integral_constant<int, n>{}), n from 1 to kMost; with a larger n as if it were kMost.
template <int kMost, class F>
FASTMLP_INLINE void with_constant(std::size_t n, F f) {
    if (n >= kMost)
        f(std::integral_constant<int, kMost>{});
    else if constexpr (kMost > 1)
        with_constant<kMost - 1>(n, f);
}

}  // namespace
}  // namespace fastmlp
