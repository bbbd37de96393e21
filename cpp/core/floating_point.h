// While it lives, this thread computes as the kernels expect: rounding to nearest, denormals flushed to zero. Then
// the caller's state is back.
#pragma once

#include "../kernels/kernel_table.h"

namespace fastmlp {

class FloatingPointScope {
 public:
    explicit FloatingPointScope(const KernelTable& kernels) : kernels_(kernels), state_(kernels.enter()) {}
    ~FloatingPointScope() { kernels_.leave(state_); }
    FloatingPointScope(const FloatingPointScope&) = delete;
    FloatingPointScope& operator=(const FloatingPointScope&) = delete;

 private:
    const KernelTable& kernels_;
    std::uint64_t state_;
};

}  // namespace fastmlp
