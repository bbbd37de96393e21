// Counter-based random numbers: element i of a sequence depends on (seed, purpose, stream, i) alone, on no
// machine, library or order of calls.
#pragma once

#include <cstddef>
#include <cstdint>

namespace fastmlp {

struct RandomSequence {
    std::uint64_t seed;
    std::uint32_t purpose;  // weights, shuffling, ...
    std::uint32_t stream;   // which layer, which epoch, ...
};

// The bijection Philox4x32-10: Salmon, Moraes, Dror & Shaw, "Parallel random numbers: as easy as 1, 2, 3" (2011).
struct Philox4x32 {
    std::uint32_t word[4];
};
Philox4x32 philox4x32_10(Philox4x32 counter, std::uint32_t key_0, std::uint32_t key_1);

// Element i in (0, 1): the centres of 2^53 equal cells.
double uniform(const RandomSequence& sequence, std::uint64_t i);

// out[0..n) = the elements 0 to n - 1.
void uniforms(const RandomSequence& sequence, std::size_t n, double* out);

// out[0..n) = standard normal numbers: the inverse distribution function of uniform(sequence, i).
void normals(const RandomSequence& sequence, std::size_t n, double* out);

// out[0..n) = a uniformly random permutation of 0..n-1 (Fisher & Yates).
void permutation(const RandomSequence& sequence, std::size_t n, std::int64_t* out);

// The p-quantile of the standard normal distribution, 0 < p < 1, to about 1e-16 relative: Wichura, "Algorithm AS 241"
// (1988), PPND16. Only arithmetic and square roots: the same bits on every machine.
double normal_quantile(double p);

}  // namespace fastmlp
