// Times workloads on each instruction set, beside what the same thread can do at best: benchmarks/kernels.py.
//
// Answers each line of JSON with another:
//   {"request": "describe"}   the processor, the names of all workloads and block sizes, and each set's vectors, tiles
//                             and block sizes
//   {"request": "measure", "set": ..., "workload": ..., "seconds": ..., "size": ..., "value": ...}
//                             a workload's work, the seconds it takes, and the ceilings right before and after it; with
//                             this value of a block size ("none": with those that the set has)
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <exception>
#include <iostream>
#include <map>
#include <sstream>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "../../cpp/core/aligned_buffer.h"
#include "../../cpp/dispatch/dispatch.h"
#include "ceiling.h"
#include "workloads.h"

namespace fastmlp::benchmark {
namespace {

constexpr std::size_t kBatch = 1000;  // the lesson's

double now() {
    using Clock = std::chrono::steady_clock;
    return std::chrono::duration<double>(Clock::now().time_since_epoch()).count();
}

struct Size {
    std::string name;
    std::size_t KernelTable::* member;
    std::size_t unit;  // of which values are multiples
    std::size_t most = 4096;
};

const std::vector<Size> kSizes = {
    {"depth_block", &KernelTable::depth_block, kPanel},
    {"listed_depth_block", &KernelTable::listed_depth_block, kPanel, kMostListedDepth},
    {"row_block", &KernelTable::row_block, 2},
    {"gradient_input_panels", &KernelTable::gradient_input_panels, 1},
    {"small_batch_input_panels", &KernelTable::small_batch_input_panels, 1},
};

// A set with one or none of its sizes changed. Workloads refer to the table.
struct Variant {
    KernelTable kernels;
    std::map<std::string, Workload> prepared;
};

struct Set {
    const KernelTable& kernels;
    Ceiling ceiling;
    std::map<std::string, Variant> variants;
};

// In the order of instruction_sets().
std::vector<Set> supported_sets() {
#if defined(__x86_64__)
    const std::vector<Ceiling> ceilings = {baseline_ceiling(), avx2_ceiling(), avx512_ceiling(), avx512_bf16_ceiling()};
#else
    const std::vector<Ceiling> ceilings = {neon_ceiling(), neon_bf16_ceiling()};
#endif
    std::vector<Set> sets;
    for (const InstructionSet& set : instruction_sets()) {
        if (!set.supported) continue;
        const std::string name = set.kernels.name;
        const auto ceiling = std::ranges::find_if(ceilings, [&](const Ceiling& c) { return name == c.set; });
        if (ceiling == ceilings.end()) throw std::runtime_error("ceiling.cpp does not know the set " + name);
        sets.push_back({set.kernels, *ceiling, {}});
    }
    return sets;
}

class Benchmark {
 public:
    Benchmark() : sets_(supported_sets()), recipes_(lesson_recipes(kBatch)) {
        for (auto& more : {bfloat16_recipes(kBatch), big_layer_recipes()})
            recipes_.insert(recipes_.end(), more.begin(), more.end());
    }

    std::string describe() const {
        std::ostringstream json;
        json << "{\"cpu\": \"" << cpu_name() << "\", \"workloads\": [";
        for (const Recipe& recipe : recipes_)
            json << (&recipe == recipes_.data() ? "\"" : ", \"") << recipe.name << '"';
        json << "], \"sizes\": [";
        for (const Size& size : kSizes) json << (&size == kSizes.data() ? "\"" : ", \"") << size.name << '"';
        json << "], \"sets\": {";
        for (const Set& set : sets_) {
            const Tiles& tiles = set.ceiling.tiles;
            json << (&set == sets_.data() ? "\"" : ", \"") << set.kernels.name
                 << "\": {\"vector_bits\": " << set.ceiling.vector_bits << ", \"tile_rows\": " << tiles.rows
                 << ", \"tile_panels\": " << tiles.panels << ", \"listed_row_panels\": " << tiles.listed_row_panels
                 << ", \"listed_group_columns\": " << tiles.listed_group_columns;
            for (const Size& size : kSizes) json << ", \"" << size.name << "\": " << set.kernels.*size.member;
            json << '}';
        }
        json << "}}";
        return json.str();
    }

    std::string measure(const std::string& set_name, const std::string& workload_name, double seconds,
                        const std::string& size, std::size_t value) {
        Set& set = set_named(set_name);
        const Workload& workload = prepared(variant_of(set, size, value), workload_name);
        workload.run();
        Ceilings ceilings = measure_ceilings(set.ceiling, workload, seconds / 4);
        const double start = now();
        double runs = 0, passed = 0;
        do {
            workload.run();
            ++runs;
            passed = now() - start;
        } while (passed < seconds);
        const Ceilings after = measure_ceilings(set.ceiling, workload, seconds / 4);
        ceilings.flops = std::max(ceilings.flops, after.flops);
        ceilings.bytes = std::max(ceilings.bytes, after.bytes);

        std::ostringstream json;
        json << "{\"seconds\": " << passed / runs << ", \"flops\": " << workload.flops
             << ", \"executed_flops\": " << workload.executed_flops << ", \"traffic\": " << workload.traffic
             << ", \"flops_ceiling\": " << ceilings.flops << ", \"copy_ceiling\": " << ceilings.bytes << '}';
        return json.str();
    }

 private:
    // Per second; 0 for what has nothing to do with the workload.
    struct Ceilings {
        double flops = 0, bytes = 0;
    };

    Ceilings measure_ceilings(const Ceiling& ceiling, const Workload& workload, double seconds) {
        if (workload.flops > 0) {
            const bool with_dot = workload.in_bfloat16 && ceiling.bfloat16_rate != nullptr;
            return {with_dot ? ceiling.bfloat16_rate(seconds) : ceiling.multiply_add_rate(seconds), 0};
        }
        // A copy that takes as much of the caches as the workload.
        const auto count = static_cast<std::size_t>(workload.footprint / 2 / sizeof(float));
        if (from_.size() < count) {
            from_ = AlignedBuffer(count);
            to_ = AlignedBuffer(count);
        }
        return {0, ceiling.copy_rate(from_.data(), to_.data(), count, seconds)};
    }

    Set& set_named(const std::string& name) {
        const auto set = std::ranges::find_if(sets_, [&](const Set& s) { return name == s.kernels.name; });
        if (set == sets_.end()) throw std::runtime_error("there is no instruction set " + name + " here");
        return *set;
    }

    static Variant& variant_of(Set& set, const std::string& name, std::size_t value) {
        const std::string key = name + "=" + std::to_string(value);
        const auto found = set.variants.find(key);
        if (found != set.variants.end()) return found->second;
        KernelTable kernels = set.kernels;
        if (name != "none") {
            const auto size = std::ranges::find(kSizes, name, &Size::name);
            if (size == kSizes.end()) throw std::runtime_error("there is no size " + name);
            if (value == 0 || value > size->most || value % size->unit != 0)
                throw std::runtime_error(key + " is no multiple of " + std::to_string(size->unit) + " up to " +
                                         std::to_string(size->most));
            kernels.*size->member = value;
        }
        return set.variants.emplace(key, Variant{kernels, {}}).first->second;
    }

    const Workload& prepared(Variant& set, const std::string& name) const {
        const auto found = set.prepared.find(name);
        if (found != set.prepared.end()) return found->second;
        const auto recipe = std::ranges::find(recipes_, name, &Recipe::name);
        if (recipe == recipes_.end()) throw std::runtime_error("there is no workload " + name);
        return set.prepared.emplace(name, recipe->prepare(set.kernels)).first->second;
    }

    std::vector<Set> sets_;
    std::vector<Recipe> recipes_;
    AlignedBuffer from_, to_;
};

}  // namespace
}  // namespace fastmlp::benchmark

int main() {
    try {
        fastmlp::benchmark::Benchmark benchmark;
        for (std::string line; std::getline(std::cin, line);) {
            // Names and values are words without blanks, in this order: what is between them can be passed over.
            for (char& letter : line)
                if (std::strchr("{}:,\"", letter) != nullptr) letter = ' ';
            std::istringstream words(line);
            std::string name, request, set, workload, size;
            double seconds = 0;
            std::size_t value = 0;
            words >> name >> request >> name >> set >> name >> workload >> name >> seconds >> name >> size >> name >>
                value;
            if (request == "describe")
                std::cout << benchmark.describe() << std::endl;
            else if (request == "measure" && seconds > 0)
                std::cout << benchmark.measure(set, workload, seconds, size, value) << std::endl;
            else
                throw std::runtime_error("unknown request: " + line);
        }
    } catch (const std::exception& error) {
        std::fprintf(stderr, "kernel_benchmark: %s\n", error.what());
        return 1;
    }
    return 0;
}
