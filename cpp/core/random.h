// Counter-based random numbers: element i of a sequence depends on (seed, purpose, stream, i) alone, on no
// machine, library or order of calls. All but permutation expect the floating-point state of a FloatingPointScope.
#pragma once

#include <cstddef>
#include <cstdint>

#include "../kernels/kernel_table.h"

namespace fastmlp {

struct RandomSequence {
    std::uint64_t seed;
    std::uint32_t purpose;  // weights, shuffling, ...
    std::uint32_t stream;   // which layer, which epoch, ...
};

// What the core draws random numbers for, after the purposes of python/fastmlp/_random.py. A number once given stays:
// another would change what a seed trains. The stream is the epoch; dropout adds 2^16 times the layer.
inline constexpr std::uint32_t kPurposeTransformation = 5, kPurposeDisplacement = 6, kPurposeDropout = 7;

// Element i in (0, 1): the centres of 2^53 equal cells.
double uniform(const RandomSequence& sequence, std::uint64_t i);

// out[0..n) = the elements first, first + 1, ...; first is a multiple of kRandomNumbers.
void uniforms(const KernelTable& kernels, const RandomSequence& sequence, std::uint64_t first, std::size_t n,
              double* out);

// The same of standard normal numbers: the inverse distribution function of uniform(sequence, i).
void normals(const KernelTable& kernels, const RandomSequence& sequence, std::uint64_t first, std::size_t n,
             double* out);

// out[0..n) = a uniformly random permutation of 0..n-1 (Fisher & Yates).
void permutation(const KernelTable& kernels, const RandomSequence& sequence, std::size_t n, std::int64_t* out);

// The p-quantile of the standard normal distribution, 0 < p < 1, to about 1e-16 relative: Wichura, "Algorithm AS 241"
// (1988), PPND16. Only arithmetic and square roots: the same bits on every machine.
double normal_quantile(double p);

}  // namespace fastmlp
