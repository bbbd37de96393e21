// What one thread can do at best with the vectors of an instruction set, and the tiles that its kernels have.
#pragma once

#include <cstddef>

namespace fastmlp::benchmark {

struct Tiles {
    int rows, panels;            // of a tile of a product
    int skip_rows, skip_panels;  // of a tile of a product that skips zeros
    std::size_t depth_block, row_block;
};

struct Ceiling {
    const char* set;
    int vector_bits;
    Tiles tiles;
    // Multiply-adds between registers, in floating-point operations per second, measured for about so many seconds.
    double (*multiply_add_rate)(double seconds);
    // The same of bfloat16 operands with float32 sums; null if the set or this processor has no such instruction.
    double (*bfloat16_rate)(double seconds);
    // Bytes read plus bytes written per second by copying count floats; both pointers are 64-byte aligned.
    double (*copy_rate)(const float* from, float* to, std::size_t count, double seconds);
};

#if defined(__x86_64__)
Ceiling baseline_ceiling();
Ceiling avx2_ceiling();
Ceiling avx512_ceiling();
#else
Ceiling neon_ceiling();
#endif

}  // namespace fastmlp::benchmark
