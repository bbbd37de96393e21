#include "random.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <utility>

namespace fastmlp {

namespace {

// The first 64 bits of Philox4x32-10: Salmon, Moraes, Dror & Shaw, "Parallel random numbers: as easy as 1, 2, 3"
// (2011).
std::uint64_t bits64(const RandomSequence& sequence, std::uint64_t i) {
    auto key_0 = static_cast<std::uint32_t>(sequence.seed), key_1 = static_cast<std::uint32_t>(sequence.seed >> 32);
    std::uint32_t c[] = {static_cast<std::uint32_t>(i), static_cast<std::uint32_t>(i >> 32), sequence.stream,
                         sequence.purpose};
    for (int round = 0; round < 10; ++round, key_0 += 0x9E3779B9, key_1 += 0xBB67AE85) {
        const std::uint64_t product_0 = std::uint64_t{0xD2511F53} * c[0], product_1 = std::uint64_t{0xCD9E8D57} * c[2];
        c[0] = static_cast<std::uint32_t>(product_1 >> 32) ^ c[1] ^ key_0;
        c[1] = static_cast<std::uint32_t>(product_1);
        c[2] = static_cast<std::uint32_t>(product_0 >> 32) ^ c[3] ^ key_1;
        c[3] = static_cast<std::uint32_t>(product_0);
    }
    return std::uint64_t{c[1]} << 32 | c[0];
}

// Calls f(i, bits of element first + i) for i in [0, n).
template <class F>
void for_each_bits64(const KernelTable& kernels, const RandomSequence& sequence, std::uint64_t first, std::size_t n,
                     F f) {
    std::uint64_t bits[kRandomNumbers];
    for (std::size_t begin = 0; begin < n; begin += kRandomNumbers) {
        kernels.random_bits({sequence.seed, sequence.purpose, sequence.stream, first + begin}, bits);
        const std::size_t count = std::min(n - begin, kRandomNumbers);
        for (std::size_t i = 0; i < count; ++i) f(begin + i, bits[i]);
    }
}

template <std::size_t kCount>
double polynomial(const double (&coefficients)[kCount], double x) {  // highest power first
    double value = 0.0;
    for (const double c : coefficients) value = value * x + c;
    return value;
}

// log of a positive normal number: 2^n m with m around 1, log(m) = 2 atanh((m - 1) / (m + 1)) by its Taylor series.
double log_portable(double x) {
    const auto bits = std::bit_cast<std::uint64_t>(x);
    int n = static_cast<int>(bits >> 52) - 1023;
    double m = std::bit_cast<double>((bits & 0x000fffffffffffffULL) | 0x3ff0000000000000ULL);
    if (m > 1.4142135623730951) {
        m *= 0.5;
        ++n;
    }
    const double s = (m - 1.0) / (m + 1.0);
    constexpr double series[] = {1.0 / 23, 1.0 / 21, 1.0 / 19, 1.0 / 17, 1.0 / 15, 1.0 / 13,
                                 1.0 / 11, 1.0 / 9,  1.0 / 7,  1.0 / 5,  1.0 / 3,  1.0};
    return n * 0.6931471805599453 + 2.0 * s * polynomial(series, s * s);
}

// The centre of one of 2^53 equal cells of (0, 1). The last one's is not a double and would round to 1: it is lowered
// to the largest double below.
double uniform_of(std::uint64_t bits) {
    constexpr double kCell = 1.0 / 9007199254740992.0;  // 2^-53
    const double u = (static_cast<double>(bits >> 11) + 0.5) * kCell;
    return u < 1.0 ? u : 1.0 - kCell;
}

double central_quantile(double q) {
    constexpr double numerator[] = {2509.0809287301226727, 33430.575583588128105, 67265.770927008700853,
                                    45921.953931549871457, 13731.693765509461125, 1971.5909503065514427,
                                    133.14166789178437745, 3.387132872796366608};
    constexpr double denominator[] = {
        5226.495278852854561,  28729.085735721942674, 39307.89580009271061,  21213.794301586595867,
        5394.1960214247511077, 687.1870074920579083,  42.313330701600911252, 1.0};
    const double r = 0.180625 - q * q;
    return q * polynomial(numerator, r) / polynomial(denominator, r);
}

double tail_quantile(double p) {
    const double q = p - 0.5;
    double r = std::sqrt(-log_portable(q < 0.0 ? p : 1.0 - p));
    double x;
    if (r <= 5.0) {
        constexpr double numerator[] = {7.7454501427834140764e-4, 0.0227238449892691845833, 0.24178072517745061177,
                                        1.27045825245236838258,   3.64784832476320460504,   5.7694972214606914055,
                                        4.6303378461565452959,    1.42343711074968357734};
        constexpr double denominator[] = {
            1.05075007164441684324e-9, 5.475938084995344946e-4, 0.0151986665636164571966, 0.14810397642748007459,
            0.68976733498510000455,    1.6763848301838038494,   2.05319162663775882187,   1.0};
        r -= 1.6;
        x = polynomial(numerator, r) / polynomial(denominator, r);
    } else {
        constexpr double numerator[] = {2.01033439929228813265e-7, 2.71155556874348757815e-5, 0.0012426609473880784386,
                                        0.026532189526576123093,   0.29656057182850489123,    1.7848265399172913358,
                                        5.4637849111641143699,     6.6579046435011037772};
        constexpr double denominator[] = {
            2.04426310338993978564e-15, 1.4215117583164458887e-7, 1.8463183175100546818e-5, 7.868691311456132591e-4,
            0.0148753612908506148525,   0.13692988092273580531,   0.59983220655588793769,   1.0};
        r -= 5.0;
        x = polynomial(numerator, r) / polynomial(denominator, r);
    }
    return q < 0.0 ? -x : x;
}

}  // namespace

double uniform(const RandomSequence& sequence, std::uint64_t i) { return uniform_of(bits64(sequence, i)); }

void uniforms(const KernelTable& kernels, const RandomSequence& sequence, std::uint64_t first, std::size_t n,
              double* out) {
    for_each_bits64(kernels, sequence, first, n, [&](std::size_t i, std::uint64_t bits) { out[i] = uniform_of(bits); });
}

void normals(const KernelTable& kernels, const RandomSequence& sequence, std::uint64_t first, std::size_t n,
             double* out) {
    uniforms(kernels, sequence, first, n, out);
    for (std::size_t i = 0; i < n; ++i) out[i] = normal_quantile(out[i]);
}

double normal_quantile(double p) {
    const double q = p - 0.5;
    return q >= -0.425 && q <= 0.425 ? central_quantile(q) : tail_quantile(p);
}

void permutation(const KernelTable& kernels, const RandomSequence& sequence, std::size_t n, std::int64_t* out) {
    for_each_bits64(kernels, sequence, 0, n, [&](std::size_t i, std::uint64_t bits) {
        // The high half of 64 random bits times i + 1 is uniform in [0, i] up to a bias of (i + 1) / 2^64.
        const std::uint64_t bound = static_cast<std::uint64_t>(i) + 1;
        const std::uint64_t low = (bits & 0xffffffffULL) * bound;
        const std::uint64_t high = (bits >> 32) * bound;
        const auto j = static_cast<std::size_t>((high + (low >> 32)) >> 32);
        out[i] = static_cast<std::int64_t>(i);
        std::swap(out[i], out[j]);
    });
}

}  // namespace fastmlp
