// What this machine can do at best: the rate of fused multiply-adds between registers, and of copying memory.
//
//   ceilings <threads>     answers each line of input with one line of JSON:
//                          {"gflops": ..., "copy_gb_per_second": ..., "vector_bits": ...}
//
// Built by ceilings.py for the machine it runs on, with its widest vectors. Threads live only while they measure, so
// between two lines this process is idle.

#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <iostream>
#include <string>
#include <thread>
#include <vector>

namespace {

#if defined(__AVX512F__)
constexpr int kVectorBytes = 64;
#elif defined(__AVX__)
constexpr int kVectorBytes = 32;
#else
constexpr int kVectorBytes = 16;
#endif
typedef float Vector __attribute__((vector_size(kVectorBytes)));
constexpr int kLanes = kVectorBytes / static_cast<int>(sizeof(float));

// Two units with a latency of four or five cycles need ten sums in flight; twelve and two operands fit sixteen
// registers.
constexpr int kSums = 12;
constexpr int kUnroll = 1000;
constexpr double kSliceSeconds = 0.02;
constexpr int kSlices = 5;
constexpr std::size_t kCopyFloats = std::size_t{1} << 24;  // 64 MiB a thread: beyond its share of the caches
constexpr int kCopies = 3;

double now() {
    using Clock = std::chrono::steady_clock;
    return std::chrono::duration<double>(Clock::now().time_since_epoch()).count();
}

// Best rate of kSlices slices, in floating-point operations per second. The sums converge to 1, so none is denormal.
double fma_rate() {
    Vector sums[kSums];
    for (int i = 0; i < kSums; ++i) sums[i] = Vector{} + static_cast<float>(i);
    Vector factor = Vector{} + 0.5f;
    Vector addend = Vector{} + 0.5f;
    asm volatile("" : "+m"(factor), "+m"(addend));  // the compiler may not know them
    double best = 0;
    for (int slice = 0; slice < kSlices; ++slice) {
        const double start = now();
        double seconds = 0;
        double operations = 0;
        while (seconds < kSliceSeconds) {
            for (int repeat = 0; repeat < kUnroll; ++repeat) {
#pragma GCC unroll 12
                for (int i = 0; i < kSums; ++i) sums[i] = sums[i] * factor + addend;
            }
            operations += 2.0 * kUnroll * kSums * kLanes;
            seconds = now() - start;
        }
        if (operations / seconds > best) best = operations / seconds;
    }
    asm volatile("" : : "m"(sums) : "memory");  // the sums are wanted
    return best;
}

// Bytes read plus bytes written per second, best of kCopies.
double copy_rate(std::vector<float>& destination, const std::vector<float>& source) {
    const std::size_t bytes = source.size() * sizeof(float);
    double best = 0;
    for (int copy = 0; copy < kCopies; ++copy) {
        const double start = now();
        std::memcpy(destination.data(), source.data(), bytes);
        asm volatile("" : : "r"(destination.data()) : "memory");
        const double rate = 2.0 * static_cast<double>(bytes) / (now() - start);
        if (rate > best) best = rate;
    }
    return best;
}

// Sum of the rates of all threads, which begin together.
template <typename Measure>
double on_all_threads(int n_threads, Measure measure) {
    std::vector<double> rates(static_cast<std::size_t>(n_threads));
    std::atomic<int> missing{n_threads};
    std::vector<std::thread> threads;
    for (int t = 0; t < n_threads; ++t) {
        threads.emplace_back([&, t] {
            --missing;
            while (missing > 0) std::this_thread::yield();
            rates[static_cast<std::size_t>(t)] = measure(t);
        });
    }
    double total = 0;
    for (int t = 0; t < n_threads; ++t) {
        threads[static_cast<std::size_t>(t)].join();
        total += rates[static_cast<std::size_t>(t)];
    }
    return total;
}

}  // namespace

int main(int argc, char** argv) {
    const int n_threads = argc > 1 ? std::atoi(argv[1]) : 0;
    if (n_threads < 1) {
        std::fprintf(stderr, "usage: ceilings <number of threads>\n");
        return 2;
    }
    const auto count = static_cast<std::size_t>(n_threads);
    std::vector<std::vector<float>> sources(count, std::vector<float>(kCopyFloats, 1.0f));
    std::vector<std::vector<float>> destinations(count, std::vector<float>(kCopyFloats, 0.0f));

    for (std::string line; std::getline(std::cin, line);) {
        const double flops = on_all_threads(n_threads, [](int) { return fma_rate(); });
        const double bytes = on_all_threads(n_threads, [&](int t) {
            const auto i = static_cast<std::size_t>(t);
            return copy_rate(destinations[i], sources[i]);
        });
        std::printf("{\"gflops\": %.2f, \"copy_gb_per_second\": %.2f, \"vector_bits\": %d}\n", flops * 1e-9,
                    bytes * 1e-9, kVectorBytes * 8);
        std::fflush(stdout);
    }
    return 0;
}
