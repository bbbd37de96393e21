// Lists straight from pixels, without a matrix of them in between: a pixel is a byte until it is known not to be 0.
#pragma once

#include <cstddef>

#include "packing.inl"

#if defined(FASTMLP_TARGET_AVX512)
#include "pixel_lists_avx512.inl"
#elif defined(FASTMLP_TARGET_AVX2)
#include "pixel_lists_avx2.inl"
#endif

#if defined(FASTMLP_TARGET_AVX512_BF16)
#include "pixel_rows_avx512.inl"
#elif defined(FASTMLP_TARGET_AVX512) || defined(FASTMLP_TARGET_AVX2)

namespace fastmlp {
namespace {

template <class Word>
void list_pixel_rows(const PixelRows& from, std::size_t first_column, std::size_t columns, std::uint32_t first,
                     ListedRows out) {
    using Words = PixelWords<Word>;
    const std::size_t whole = columns / Words::kPixels * Words::kPixels;
    std::uint32_t end = first;
    for (std::size_t row = 0; row < from.rows; ++row) {
        const std::uint8_t* pixels = row_of(from, row) + first_column;
        std::uint32_t place = 0;
        for (std::size_t column = 0; column < whole; column += Words::kPixels, place += kPanel * kPanel)
            end = Words::append_to_row(pixels + column, Words::kPixels, place, end, out);
        if (whole < columns) end = Words::append_to_row(pixels + whole, columns - whole, place, end, out);
        out.ends[row] = end;
    }
}

}  // namespace
}  // namespace fastmlp

#endif
