#include "dispatch.h"

#include <algorithm>
#include <cstdlib>
#include <limits>
#include <stdexcept>

#if defined(__x86_64__)
#include <cpuid.h>

#include <array>
#include <cstring>
#else
#if defined(__linux__)
#include <sys/auxv.h>
#endif

#include <fstream>
#endif

namespace fastmlp {

#if defined(__x86_64__)
extern const KernelTable kBaselineKernels;
extern const KernelTable kAvx2Kernels;
extern const KernelTable kAvx512Kernels;
extern const KernelTable kAvx512Bf16Kernels;
#elif defined(__aarch64__)
extern const KernelTable kNeonKernels;
extern const KernelTable kNeonBf16Kernels;
#else
#error "fastmlp has kernels for x86-64 and aarch64 only"
#endif

namespace {

#if defined(__aarch64__)
bool has_bfloat16() {
#if defined(__linux__)
    constexpr unsigned long kBf16 = 1ul << 14;  // HWCAP2_BF16
    return (getauxval(AT_HWCAP2) & kBf16) != 0;
#else
    return false;
#endif
}
#endif

bool is_amd() {
#if defined(__x86_64__)
    unsigned a = 0, b = 0, c = 0, d = 0;
    return __get_cpuid(0, &a, &b, &c, &d) != 0 && b == signature_AMD_ebx && c == signature_AMD_ecx &&
           d == signature_AMD_edx;
#else
    return false;
#endif
}

std::vector<InstructionSet> detect() {
#if defined(__x86_64__)
    // These ask the operating system's state (XCR0) too.
    __builtin_cpu_init();
    const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
    const bool avx512 = avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                        __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
    const bool avx512_bf16 = avx512 && __builtin_cpu_supports("avx512bf16") && __builtin_cpu_supports("avx512vbmi2");
    std::vector<InstructionSet> sets{
        {kBaselineKernels, true}, {kAvx2Kernels, avx2}, {kAvx512Kernels, avx512}, {kAvx512Bf16Kernels, avx512_bf16}};
#else
    // The first is part of the architecture.
    std::vector<InstructionSet> sets{{kNeonKernels, true}, {kNeonBf16Kernels, has_bfloat16()}};
#endif
    const std::size_t cache_size = l2_cache_size();
    const double far_from = far_from_here();
    const bool amd = is_amd();
    for (InstructionSet& set : sets) {
        if (amd) set.kernels.depth_block = set.kernels.depth_block_on_amd;
        set.kernels.row_block = row_block_for(set.kernels, cache_size);
        set.kernels.far_from = far_from;
    }
    return sets;
}

std::string names(bool supported_only) {
    std::string list;
    for (const InstructionSet& set : instruction_sets()) {
        if (supported_only && !set.supported) continue;
        if (!list.empty()) list += ", ";
        list += set.kernels.name;
    }
    return list;
}

}  // namespace

const std::vector<InstructionSet>& instruction_sets() {
    static const std::vector<InstructionSet> sets = detect();
    return sets;
}

const KernelTable& instruction_set_named(const std::string& name, const std::string& asked_by) {
    for (const InstructionSet& set : instruction_sets()) {
        if (name != set.kernels.name) continue;
        if (set.supported) return set.kernels;
        throw std::runtime_error(asked_by + " asks for the instruction set " + name +
                                 ", which this machine lacks; it has " + names(true) + ".");
    }
    throw std::runtime_error(asked_by + " asks for the instruction set '" + name +
                             "', which this build does not know; it has " + names(false) + ".");
}

Selection select_instruction_set() {
    const char* forced = std::getenv("FASTMLP_ISA");
    if (forced != nullptr && *forced != '\0')
        return {&instruction_set_named(forced, "FASTMLP_ISA"), "FASTMLP_ISA asks for it"};
    const KernelTable* best = nullptr;
    for (const InstructionSet& set : instruction_sets())
        if (set.supported) best = &set.kernels;
    return {best, "the fastest that this machine supports"};
}

std::size_t l2_cache_size() {
    std::size_t kilobytes = 0;
#if defined(__x86_64__)
    unsigned a = 0, b = 0, c = 0, d = 0;
    // Intel's processors describe their caches one by one, and in AMD's leaf say 256 KB whatever they have.
    for (unsigned cache = 0; __get_cpuid_count(4, cache, &a, &b, &c, &d) != 0 && (a & 0x1f) != 0; ++cache) {
        const std::size_t ways = (b >> 22) + 1, partitions = (b >> 12 & 0x3ff) + 1, line = (b & 0xfff) + 1;
        if ((a >> 5 & 0x7) == 2) return ways * partitions * line * (std::size_t{c} + 1);
    }
    if (__get_cpuid(0x80000006u, &a, &b, &c, &d) != 0) kilobytes = c >> 16;
#else
    std::ifstream("/sys/devices/system/cpu/cpu0/cache/index2/size") >> kilobytes;  // as in 1024K
#endif
    return (kilobytes == 0 ? 1024 : kilobytes) * 1024;
}

std::size_t row_block_for(const KernelTable& kernels, std::size_t cache_size) {
    constexpr std::size_t kUnit = 24, kMost = 192, kColumns = 256;
    const double rows = kernels.row_block_share * static_cast<double>(cache_size) / (kColumns * sizeof(float));
    return std::clamp(static_cast<std::size_t>(rows) / kUnit * kUnit, kUnit, kMost);
}

double far_from_here() { return is_amd() ? 80.0 : std::numeric_limits<double>::infinity(); }

std::string cpu_name() {
#if defined(__x86_64__)
    std::array<unsigned, 12> words{};
    for (unsigned leaf = 0; leaf < 3; ++leaf) {
        unsigned* w = words.data() + 4 * leaf;
        if (__get_cpuid(0x80000002u + leaf, w, w + 1, w + 2, w + 3) == 0) return "unknown";
    }
    std::array<char, sizeof(words) + 1> text{};
    std::memcpy(text.data(), words.data(), sizeof(words));
    const std::string name(text.data());
    const std::size_t first = name.find_first_not_of(' ');
    const std::size_t last = name.find_last_not_of(' ');
    return first == std::string::npos ? "unknown" : name.substr(first, last - first + 1);
#else
    std::ifstream file("/proc/cpuinfo");
    for (std::string line; std::getline(file, line);)
        if (line.rfind("CPU implementer", 0) == 0)
            return "aarch64, " + line.substr(0, 15) + line.substr(line.find(':'));
    return "unknown";
#endif
}

}  // namespace fastmlp
