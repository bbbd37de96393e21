// What the driver prints, and whether all of it was right.
#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <numeric>
#include <string>
#include <utility>
#include <vector>

namespace fastmlp::test {

// FNV-1a over the bits of floats, in the order given.
class Bits {
 public:
    void add(float x) {
        std::uint32_t word;
        std::memcpy(&word, &x, sizeof word);
        for (int shift = 0; shift < 32; shift += 8) {
            hash_ ^= (word >> shift) & 0xffu;
            hash_ *= 0x100000001b3ull;
        }
    }
    std::uint64_t hash() const { return hash_; }

 private:
    std::uint64_t hash_ = 0xcbf29ce484222325ull;
};

// A value computed in double precision and how far from it a right answer may be.
struct Expected {
    double value;
    double tolerance;
};

// One item: a kernel, or a training run, at one size. Prints its line when it goes out of scope.
class Item {
 public:
    Item(const std::string& set, const std::string& name) : set_(set), name_(name) {}
    Item(const Item&) = delete;
    Item& operator=(const Item&) = delete;
    ~Item() {
        std::printf("%s %s %016llx\n", set_.c_str(), name_.c_str(), static_cast<unsigned long long>(bits_.hash()));
    }

    // The element counts towards the item's hash and must agree with the reference.
    void expect(float got, Expected expected) {
        bits_.add(got);
        if (!(std::fabs(static_cast<double>(got) - expected.value) <= expected.tolerance))
            fail("%.9g, expected %.9g within %.3g", static_cast<double>(got), expected.value, expected.tolerance);
    }
    // As expect, and every bit must agree.
    void expect_exactly(float got, float expected) {
        bits_.add(got);
        if (std::memcmp(&got, &expected, sizeof got) != 0)
            fail("%a, expected exactly %a", static_cast<double>(got), static_cast<double>(expected));
    }
    // Only counts towards the hash.
    void record(float got) { bits_.add(got); }
    void require(bool condition, const char* what) {
        if (!condition) fail("%s", what);
    }

    static int n_failures() { return n_failures_; }

 private:
    template <class... Values>
    void fail(const char* format, Values... values) {
        ++n_failures_;
        if (++failures_here_ > 3) return;
        std::fprintf(stderr, "%s %s: ", set_.c_str(), name_.c_str());
        std::fprintf(stderr, format, values...);
        std::fputc('\n', stderr);
    }

    std::string set_;
    std::string name_;
    Bits bits_;
    int failures_here_ = 0;
    inline static int n_failures_ = 0;
};

// Numbers for tests, the same on every machine.
class Random {
 public:
    explicit Random(std::uint64_t seed) : state_(seed) {}

    std::uint64_t next() {  // splitmix64: Steele, Lea & Flood (2014)
        std::uint64_t z = state_ += 0x9e3779b97f4a7c15ull;
        z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
        z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
        return z ^ (z >> 31);
    }
    std::size_t below(std::size_t n) { return static_cast<std::size_t>(next() % n); }
    std::vector<std::int64_t> permutation(std::size_t n) {
        std::vector<std::int64_t> order(n);
        std::iota(order.begin(), order.end(), 0);
        for (std::size_t i = n; i > 1; --i) std::swap(order[i - 1], order[below(i)]);
        return order;
    }
    // Uniform in [-1, 1), a multiple of 2^-23.
    float symmetric() {
        return static_cast<float>(static_cast<std::int64_t>(next() >> 40) - (std::int64_t{1} << 23)) * 0x1p-23f;
    }

 private:
    std::uint64_t state_;
};

inline std::string shape(std::size_t a) { return std::to_string(a); }
template <class... Sizes>
std::string shape(std::size_t a, Sizes... rest) {
    return std::to_string(a) + "x" + shape(static_cast<std::size_t>(rest)...);
}

}  // namespace fastmlp::test
