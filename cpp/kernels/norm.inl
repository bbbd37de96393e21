// Norms: sums of squares, and what is done with them.
#pragma once

#include "simd.h"

namespace fastmlp {
namespace {

// Squares of floats are exact in double precision, so each lane is one chain of rounded additions: the same on every
// set, with no overflow. The compiler vectorises these loops; -ffp-contract=off keeps it from fusing.
void add_squares(const float* lines, std::size_t n_lines, double* sums) {
    double local[kPanel];
    for (std::size_t lane = 0; lane < kPanel; ++lane) local[lane] = sums[lane];
    for (std::size_t i = 0; i < n_lines; ++i, lines += kPanel) {
        for (std::size_t lane = 0; lane < kPanel; ++lane) {
            const double x = lines[lane];
            local[lane] += x * x;
        }
    }
    for (std::size_t lane = 0; lane < kPanel; ++lane) sums[lane] = local[lane];
}

void scale_columns(float* lines, std::size_t n_lines, const float* factors) {
    const Line factor = load_line(factors);
    for (std::size_t i = 0; i < n_lines; ++i, lines += kPanel) store_line(lines, factor * load_line(lines));
}

}  // namespace
}  // namespace fastmlp
