// What this machine can do at best: the rate of multiply-adds between registers, and of copying memory.
//
//   ceilings <most threads>     answers each line {"threads": n} with one line of JSON, of n threads together:
//       fma_gflops                float32, fused, with the widest vectors
//       fma_256_gflops            the same with 256-bit vectors (AVX2); null on other machines
//       bf16_gflops               products of bfloat16 pairs added to float32 (vdpbf16ps); null without AVX512_BF16
//       copy_gb_per_second        bytes read plus bytes written
//       vector_bits               of the widest vectors
//
// Built by ceilings.py for the machine it runs on. Threads live only while they measure, so between two lines this
// process is idle.

#include <algorithm>
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

#if defined(__AVX512BF16__)
#include <immintrin.h>
#endif

namespace {

#if defined(__AVX512F__)
constexpr int kVectorBytes = 64;
#elif defined(__AVX__)
constexpr int kVectorBytes = 32;
#else
constexpr int kVectorBytes = 16;
#endif

template <int kBytes>
using Floats [[gnu::vector_size(kBytes)]] = float;

// Two units with a latency of four or five cycles need ten sums in flight; twelve and two operands fit sixteen
// registers.
constexpr int kSums = 12;
constexpr int kUnroll = 1000;
constexpr double kSliceSeconds = 0.015;
constexpr int kSlices = 4;
constexpr std::size_t kCopyFloats = std::size_t{1} << 24;  // 64 MiB a thread: beyond its share of the caches
constexpr int kCopies = 3;

double now() {
    using Clock = std::chrono::steady_clock;
    return std::chrono::duration<double>(Clock::now().time_since_epoch()).count();
}

// Best rate of kSlices slices, in floating-point operations per second; advance() does the given number of them.
template <typename Advance>
double best_rate(double operations_of_advance, Advance advance) {
    double best = 0;
    for (int slice = 0; slice < kSlices; ++slice) {
        const double start = now();
        double seconds = 0;
        double operations = 0;
        while (seconds < kSliceSeconds) {
            advance();
            operations += operations_of_advance;
            seconds = now() - start;
        }
        best = std::max(best, operations / seconds);
    }
    return best;
}

// The sums converge to 1, so none is denormal.
template <int kBytes>
double fma_rate() {
    using Vector = Floats<kBytes>;
    Vector sums[kSums];
    for (int i = 0; i < kSums; ++i) sums[i] = Vector{} + static_cast<float>(i);
    Vector factor = Vector{} + 0.5f;
    Vector addend = Vector{} + 0.5f;
    asm volatile("" : "+m"(factor), "+m"(addend));  // the compiler may not know them
    const double rate = best_rate(2.0 * kUnroll * kSums * (kBytes / sizeof(float)), [&] {
        for (int repeat = 0; repeat < kUnroll; ++repeat) {
#pragma GCC unroll 12
            for (int i = 0; i < kSums; ++i) sums[i] = sums[i] * factor + addend;
        }
    });
    asm volatile("" : : "m"(sums) : "memory");  // the sums are wanted
    return rate;
}

#if defined(__AVX512BF16__)
constexpr bool kHasBfloat16 = true;

// Each of 16 lanes adds two products. The factors are 0, so the sums stay 0: the rate does not depend on the numbers.
double bfloat16_rate() {
    __m512 sums[kSums];
    for (auto& sum : sums) sum = _mm512_setzero_ps();
    __m512i zeros = _mm512_setzero_si512();
    asm volatile("" : "+m"(zeros));
    const auto factors = reinterpret_cast<__m512bh>(zeros);
    const double rate = best_rate(4.0 * kUnroll * kSums * 16, [&] {
        for (int repeat = 0; repeat < kUnroll; ++repeat) {
#pragma GCC unroll 12
            for (int i = 0; i < kSums; ++i) sums[i] = _mm512_dpbf16_ps(sums[i], factors, factors);
        }
    });
    asm volatile("" : : "m"(sums) : "memory");
    return rate;
}
#else
constexpr bool kHasBfloat16 = false;
double bfloat16_rate() { return 0; }
#endif

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

// A rate in 10^9 per second as JSON.
std::string billions(bool known, double rate) {
    if (!known) return "null";
    char text[32];
    std::snprintf(text, sizeof text, "%.2f", rate * 1e-9);
    return text;
}

}  // namespace

int main(int argc, char** argv) {
    const int most_threads = argc > 1 ? std::atoi(argv[1]) : 0;
    if (most_threads < 1) {
        std::fprintf(stderr, "usage: ceilings <most threads>\n");
        return 2;
    }
    const auto count = static_cast<std::size_t>(most_threads);
    std::vector<std::vector<float>> sources(count, std::vector<float>(kCopyFloats, 1.0f));
    std::vector<std::vector<float>> destinations(count, std::vector<float>(kCopyFloats, 0.0f));

    for (std::string line; std::getline(std::cin, line);) {
        int n_threads = 0;
        if (std::sscanf(line.c_str(), "{\"threads\": %d}", &n_threads) != 1 || n_threads < 1 ||
            n_threads > most_threads) {
            std::fprintf(stderr, "ceilings: a request is {\"threads\": 1 to %d}, not %s\n", most_threads, line.c_str());
            return 2;
        }
        const double fma = on_all_threads(n_threads, [](int) { return fma_rate<kVectorBytes>(); });
        const double fma_256 = kVectorBytes >= 32 ? on_all_threads(n_threads, [](int) { return fma_rate<32>(); }) : 0;
        const double bfloat16 = kHasBfloat16 ? on_all_threads(n_threads, [](int) { return bfloat16_rate(); }) : 0;
        const double copy = on_all_threads(n_threads, [&](int t) {
            const auto i = static_cast<std::size_t>(t);
            return copy_rate(destinations[i], sources[i]);
        });
        std::cout << "{\"fma_gflops\": " << billions(true, fma)
                  << ", \"fma_256_gflops\": " << billions(kVectorBytes >= 32, fma_256)
                  << ", \"bf16_gflops\": " << billions(kHasBfloat16, bfloat16)
                  << ", \"copy_gb_per_second\": " << billions(true, copy) << ", \"vector_bits\": " << kVectorBytes * 8
                  << "}" << std::endl;
    }
    return 0;
}
