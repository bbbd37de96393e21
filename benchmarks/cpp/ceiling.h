// What one thread can do at best with the vectors of an instruction set, and the tiles that its kernels have.
#pragma once

#include <cstddef>

namespace fastmlp::benchmark {

struct Tiles {
    int rows, panels;          // of a tile of a product
    int listed_row_panels;     // of a tile of a product with lists of a row's words
    int listed_group_columns;  // of one with lists of the rows of kListedColumns neighbouring columns
};

struct Ceiling {
    const char* set;
    int vector_bits;
    Tiles tiles;
    // Multiply-adds between registers, in floating-point operations per second, measured for about so many seconds.
    double (*multiply_add_rate)(double seconds);
    // The same of dot products of bfloat16 with float32 sums; null if the set has none.
    double (*bfloat16_rate)(double seconds);
    // Bytes read plus bytes written per second by copying count floats; both pointers are 64-byte aligned.
    double (*copy_rate)(const float* from, float* to, std::size_t count, double seconds);
};

#if defined(__x86_64__)
Ceiling baseline_ceiling();
Ceiling avx2_ceiling();
Ceiling avx512_ceiling();
Ceiling avx512_bf16_ceiling();
#else
Ceiling neon_ceiling();
Ceiling neon_bf16_ceiling();
#endif

}  // namespace fastmlp::benchmark
