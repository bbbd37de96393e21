// Handing data from one thread to another whose cache is far away.
#pragma once

#include <cstddef>
#include <cstdint>

#include "panels.h"

namespace fastmlp {

// What threads that are far (see Team::is_far) have read of a batch's rows since these were written last: gradients are
// made of all rows by every thread, while a phase's tasks may each go on with rows of their own.
enum class FarReads { kNothing, kForGradients, kAll };

// Takes the lines of these bytes out of all caches; what they hold stays. Who is about to write what far threads have
// read does so with lines from memory then, instead of asking for each: see Team::is_far.
inline void evict([[maybe_unused]] const void* begin, [[maybe_unused]] std::size_t n_bytes) {
#if defined(__x86_64__)
    constexpr std::uintptr_t kCacheLine = 64;
    const char* const end = static_cast<const char*>(begin) + n_bytes;
    const auto first = reinterpret_cast<std::uintptr_t>(begin) / kCacheLine * kCacheLine;
    for (const char* line = reinterpret_cast<const char*>(first); line < end; line += kCacheLine)
        __builtin_ia32_clflush(line);
#endif
}

inline void evict(ConstPanels matrix, Range rows, Range panels) {
    for (std::size_t panel = panels.begin; panel < panels.end; ++panel)
        evict(matrix.at(rows.begin, panel), rows.size() * kPanel * sizeof(float));
}

}  // namespace fastmlp
