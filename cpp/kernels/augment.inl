// Distorted images: smooth random displacement fields, and resampling.
#pragma once

#include <cstring>
#include <initializer_list>

#include "philox.inl"

namespace fastmlp {
namespace {

// Sums of both fields that are made at a time, so that what is loaded serves several: this many rows, even, and along
// rows this many lines.
constexpr int kFieldRows = kVecs == 1 ? 4 : 2;
constexpr int kFieldLines = kVecs == 1 ? 2 : 1;
static_assert(kFieldLines * kPanel <= kTapMargin);

FASTMLP_INLINE std::uint32_t word_at(const float* p) {
    std::uint32_t word;
    std::memcpy(&word, p, sizeof(word));
    return word;
}

// Words of Philox4x32-10 at the counters first + t of lanes t.
FASTMLP_INLINE void noise_words(const RandomFields& args, std::uint64_t first, Line (&word)[kPhiloxWords]) {
    const IntVec first_low = splat_bits(static_cast<std::uint32_t>(first));
    const IntVec first_high = splat_bits(static_cast<std::uint32_t>(first >> 32));
    const Line low = map([&](Vec t) { return from_bits(bits(t) + first_low); }, load_words(kLaneNumber));
    // A sum that lost its highest bit carries 1.
    const auto carry = [&](Vec sum) { return shift_right<31>(first_low & (first_low ^ bits(sum))); };
    const Line high = map([&](Vec sum) { return from_bits(first_high + carry(sum)); }, low);
    philox_lines(args.seed, args.purpose, args.stream, low, high, word);
}

// Planes of 32-bit words, each of two 16-bit integers; the pairs of noise are neighbours in a row, those of sums in a
// column.
struct Fields {
    float* x;
    float* y;
};

FASTMLP_INLINE void fill_with_noise(const RandomFields& args, Fields noise) {
    const std::size_t stride = noise_stride(args.width);
    const std::size_t n_lines = args.height * stride / kPanel;
    const IntVec upper_bytes = splat_bits(0xff00ff00), middle = splat_bits(0x00800080);
    for (std::size_t first = 0; first < n_lines; first += kPhiloxWords) {
        Line word[kPhiloxWords];
        noise_words(args, args.first_counter + first / kPhiloxWords * kPanel, word);
        for (std::size_t j = 0; j < kPhiloxWords; ++j) {
            if (first + j == n_lines) break;
            const std::size_t at = (first + j) * kPanel;
            store_line(noise.x + at,
                       map([&](Vec w) { return from_bits((shift_left<8>(bits(w)) & upper_bytes) | middle); }, word[j]));
            store_line(noise.y + at, map([&](Vec w) { return from_bits((bits(w) & upper_bytes) | middle); }, word[j]));
        }
    }
    // The missing partners of a last column and a last row are 0.
    for (float* field : {noise.x, noise.y}) {
        if (args.height % 2 == 1) std::memset(field + args.height * stride, 0, stride * sizeof(float));
        if (args.width % 2 == 0) continue;
        for (float* last = field + args.width / 2; last < field + args.height * stride; last += stride) {
            const std::uint32_t word = word_at(last) & 0xffff;
            std::memcpy(last, &word, sizeof(word));
        }
    }
}

FASTMLP_INLINE Line add_products(const Line& sum, const Line& a, IntVec b) {
    return map([&](Vec s, Vec x) { return from_bits(bits(s) + multiply_add_pairs(bits(x), b)); }, sum, a);
}

// Two sums of at most 2^30 in magnitude, divided by 2^15 and rounded, as a pair.
FASTMLP_INLINE Line rounded_pair(const Line& low, const Line& high) {
    const IntVec half = splat_bits(1u << 14), upper = splat_bits(0xffff0000);
    return map(
        [&](Vec a, Vec b) {
            return from_bits(shift_right<16>(shift_left<1>(bits(a) + half)) | (shift_left<1>(bits(b) + half) & upper));
        },
        low, high);
}

struct SourceRange {
    std::size_t begin;  // even
    std::size_t end;
};

// The taps of an element for a source and the next one; element 0 lies where source 0 does.
FASTMLP_INLINE const float* tap_pairs(const RandomFields& args, std::size_t element, std::size_t source) {
    return args.tap_pairs + (element + args.radius + kTapMargin - 1 - source);
}

// Where the filter reaches from `count` neighbours, and perhaps one further.
FASTMLP_INLINE SourceRange sources_of(std::size_t first, std::size_t count, std::size_t radius, std::size_t size) {
    const std::size_t begin = first > radius ? first - radius : 0;
    const std::size_t end = first + count + radius;
    return {begin / 2 * 2, end < size ? end : size};
}

template <int kRows, int kLines>
FASTMLP_INLINE void smooth_along_rows(const RandomFields& args, std::size_t first_row, std::size_t column, Fields noise,
                                      Fields out) {
    const std::size_t stride = n_panels(args.width) * kPanel;
    const float* noise_x = noise.x + first_row * noise_stride(args.width);
    const float* noise_y = noise.y + first_row * noise_stride(args.width);
    const SourceRange sources = sources_of(column, kLines * kPanel, args.radius, args.width);
    Line sum_x[kRows][kLines], sum_y[kRows][kLines];
    for (int r = 0; r < kRows; ++r)
        for (int i = 0; i < kLines; ++i) sum_x[r][i] = sum_y[r][i] = splat_line(0.0f);
    for (std::size_t source = sources.begin; source < sources.end; source += 2) {
        Line taps[kLines];
        for (int i = 0; i < kLines; ++i) taps[i] = load_line_unaligned(tap_pairs(args, column + i * kPanel, source));
#pragma GCC unroll 8
        for (int r = 0; r < kRows; ++r) {
            const std::size_t at = static_cast<std::size_t>(r) * noise_stride(args.width) + source / 2;
            const IntVec x = splat_bits(word_at(noise_x + at)), y = splat_bits(word_at(noise_y + at));
            for (int i = 0; i < kLines; ++i) {
                sum_x[r][i] = add_products(sum_x[r][i], taps[i], x);
                sum_y[r][i] = add_products(sum_y[r][i], taps[i], y);
            }
        }
    }
    for (int r = 0; r < kRows; r += 2)
        for (int i = 0; i < kLines; ++i) {
            const std::size_t at = (first_row + static_cast<std::size_t>(r)) / 2 * stride + column + i * kPanel;
            store_line(out.x + at, rounded_pair(sum_x[r][i], sum_x[r + 1][i]));
            store_line(out.y + at, rounded_pair(sum_y[r][i], sum_y[r + 1][i]));
        }
}

template <int kRows>
FASTMLP_INLINE void smooth_along_columns(const RandomFields& args, std::size_t first_row, Fields in) {
    const std::size_t stride = n_panels(args.width) * kPanel;
    const SourceRange sources = sources_of(first_row, kRows, args.radius, args.height);
    const Line scale = splat_line(args.scale);
    const auto to_field = [&](const Line& sum) { return map([](Vec s) { return to_float(bits(s)); }, sum) * scale; };
    const auto taps_of = [&](int r, std::size_t source) {
        return splat_bits(word_at(tap_pairs(args, first_row + static_cast<std::size_t>(r), source)));
    };
    for (std::size_t column = 0; column < stride; column += kPanel) {
        Line sum_x[kRows], sum_y[kRows];
        for (int r = 0; r < kRows; ++r) sum_x[r] = sum_y[r] = splat_line(0.0f);
        // A row has the taps that the row two further down had for the sources before.
        IntVec taps[kRows];
        for (int r = 0; r + 2 < kRows; ++r) taps[r] = taps_of(r + 2, sources.begin);
        for (std::size_t source = sources.begin; source < sources.end; source += 2) {
            const Line source_x = load_line(in.x + source / 2 * stride + column);
            const Line source_y = load_line(in.y + source / 2 * stride + column);
#pragma GCC unroll 8
            for (int r = kRows - 1; r >= 2; --r) taps[r] = taps[r - 2];
            for (int r = 0; r < kRows && r < 2; ++r) taps[r] = taps_of(r, source);
#pragma GCC unroll 8
            for (int r = 0; r < kRows; ++r) {
                sum_x[r] = add_products(sum_x[r], source_x, taps[r]);
                sum_y[r] = add_products(sum_y[r], source_y, taps[r]);
            }
        }
        for (int r = 0; r < kRows; ++r) {
            const std::size_t at = (first_row + static_cast<std::size_t>(r)) * stride + column;
            store_line(args.x + at, to_field(sum_x[r]));
            store_line(args.y + at, to_field(sum_y[r]));
        }
    }
}

template <int kRows>
FASTMLP_INLINE void smooth_rows(const RandomFields& args, std::size_t first_row, Fields noise, Fields out) {
    std::size_t column = 0;
    for (; column + kFieldLines * kPanel <= n_panels(args.width) * kPanel; column += kFieldLines * kPanel)
        smooth_along_rows<kRows, kFieldLines>(args, first_row, column, noise, out);
    for (; column < args.width; column += kPanel) smooth_along_rows<kRows, 1>(args, first_row, column, noise, out);
}

void random_fields(const RandomFields& args) {
    const std::size_t even_height = (args.height + 1) / 2 * 2;
    const std::size_t noise_plane = even_height * noise_stride(args.width);
    const std::size_t pair_plane = even_height / 2 * n_panels(args.width) * kPanel;
    const Fields noise{args.scratch, args.scratch + noise_plane};
    const Fields pairs{noise.y + noise_plane, noise.y + noise_plane + pair_plane};
    fill_with_noise(args, noise);
    std::size_t row = 0;
    for (; row + kFieldRows <= even_height; row += kFieldRows) smooth_rows<kFieldRows>(args, row, noise, pairs);
    for (; row < even_height; row += 2) smooth_rows<2>(args, row, noise, pairs);
    row = 0;
    for (; row + kFieldRows <= args.height; row += kFieldRows) smooth_along_columns<kFieldRows>(args, row, pairs);
    for (; row < args.height; ++row) smooth_along_columns<1>(args, row, pairs);
}

// memcpy, without a call for so few bytes.
FASTMLP_INLINE void copy_row(const std::uint8_t* from, std::size_t n, std::uint8_t* to) {
    if (n < kPanel) {
        for (std::size_t i = 0; i < n; ++i) to[i] = from[i];
        return;
    }
    for (std::size_t i = 0; i + kPanel <= n; i += kPanel) std::memcpy(to + i, from + i, kPanel);
    std::memcpy(to + n - kPanel, from + n - kPanel, kPanel);
}

// The image with a border of zeros: one pixel on the left and above, two on the right and below.
FASTMLP_INLINE void add_border(const Resampling& args, std::uint8_t* bordered) {
    std::memset(bordered, 0, bordered_size(args.height, args.width));
    std::uint8_t* row = bordered + bordered_stride(args.width) + 1;
    for (std::size_t y = 0; y < args.height; ++y, row += bordered_stride(args.width))
        copy_row(args.image + y * args.width, args.width, row);
}

// x within [0, highest]; NaN becomes highest.
FASTMLP_INLINE Line clamped(const Line& x, Vec highest) {
    const Vec zero = splat(0.0f);
    return map([&](Vec v) { return max_keep_nan(zero, min_drop_nan(v, highest)); }, x);
}

// An integer n with n <= x <= n + 1, for 0 <= x <= 2^22: one below x or x itself if x is an integer. Adding 1.5 * 2^23
// rounds to an integer.
FASTMLP_INLINE Line cell_of(const Line& x) {
    const Vec half = splat(0.5f), to_integer = splat(0x1.8p23f);
    return map([&](Vec v) { return ((v - half) + to_integer) - to_integer; }, x);
}

// Byte number kByte, the lowest one first.
template <int kByte>
FASTMLP_INLINE Line byte_of(const Line& words) {
    const IntVec byte = splat_bits(0xff);
    return map(
        [&](Vec w) {
            if constexpr (kByte == 0)
                return to_float(bits(w) & byte);
            else
                return to_float(shift_right<8 * kByte>(bits(w)) & byte);
        },
        words);
}

FASTMLP_INLINE Line interpolated(const Line& at_0, const Line& at_1, const Line& t) {
    return fma(t, at_1 - at_0, at_0);
}

// Where the pixels of an image come from: the square of four sources, and the place in it, from 0 to 1.
struct Sources {
    float* square;  // planes; here of 32-bit words: where the square begins; later its pixels
    float* x;
    float* y;
};

FASTMLP_INLINE void find_sources(const Resampling& args, Sources out) {
    const Vec right = splat(static_cast<float>(args.width + 1)), below = splat(static_cast<float>(args.height + 1));
    const Line to_integer_bits = splat_line(0x1p23f);  // the low bits of an integer plus this are the integer
    const IntVec low_bits = splat_bits(0x7fffff);
    const Line row_stride = splat_line(static_cast<float>(bordered_stride(args.width)));
    const Line column_x = splat_line(args.column_x), column_y = splat_line(args.column_y);

    std::size_t at = 0;
    for (std::size_t row = 0; row < args.height; ++row) {
        // 1 is the width of the border.
        const Line row_x = splat_line(args.row_x * static_cast<float>(row) + (args.offset_x + 1.0f));
        const Line row_y = splat_line(args.row_y * static_cast<float>(row) + (args.offset_y + 1.0f));
        Line column = load_line(kLaneIndex);
        for (std::size_t first = 0; first < args.width; first += kPanel, at += kPanel) {
            Line x = fma(column_x, column, row_x), y = fma(column_y, column, row_y);
            if (args.displacement_x != nullptr) {
                x = x + load_line(args.displacement_x + at);
                y = y + load_line(args.displacement_y + at);
            }
            x = clamped(x, right);
            y = clamped(y, below);
            const Line cell_x = cell_of(x), cell_y = cell_of(y);
            const Line place = fma(cell_y, row_stride, cell_x) + to_integer_bits;
            store_line(out.square + at, map([&](Vec v) { return from_bits(bits(v) & low_bits); }, place));
            store_line(out.x + at, x - cell_x);
            store_line(out.y + at, y - cell_y);
            column = column + splat_line(static_cast<float>(kPanel));
        }
    }
}

// Replaces where squares begin by their pixels, one byte each: the upper two first, the left one of each lowest.
FASTMLP_INLINE void gather(const std::uint8_t* bordered, std::size_t stride, float* plane, std::size_t n) {
#pragma GCC unroll 8
    for (std::size_t i = 0; i < n; ++i) {
        std::uint32_t word;
        std::memcpy(&word, plane + i, sizeof(word));
        const std::uint8_t* corner = bordered + word;
        std::uint16_t upper, lower;
        std::memcpy(&upper, corner, sizeof(upper));
        std::memcpy(&lower, corner + stride, sizeof(lower));
        word = upper | std::uint32_t{lower} << 16;
        std::memcpy(plane + i, &word, sizeof(word));
    }
}

FASTMLP_INLINE void interpolate(const Resampling& args, Sources sources) {
    const std::uint8_t* out_end = args.out + args.height * args.width;
    std::size_t at = 0;
    for (std::size_t row = 0; row < args.height; ++row) {
        for (std::size_t first = 0; first < args.width; first += kPanel, at += kPanel) {
            const Line square = load_line(sources.square + at), along_x = load_line(sources.x + at);
            const Line top = interpolated(byte_of<0>(square), byte_of<1>(square), along_x);
            const Line bottom = interpolated(byte_of<2>(square), byte_of<3>(square), along_x);
            const Line value = interpolated(top, bottom, load_line(sources.y + at));
            std::uint8_t* out = args.out + row * args.width + first;
            const auto room = static_cast<std::size_t>(out_end - out);
            if (room >= kPanel) {  // the next row overwrites what is beyond the width
                store_line_uint8(out, value);
            } else {
                std::uint8_t pixels[kPanel];
                store_line_uint8(pixels, value);
                std::memcpy(out, pixels, room);
            }
        }
    }
}

void resample(const Resampling& args) {
    const std::size_t plane = plane_size(args.height, args.width);
    const Sources sources{args.scratch, args.scratch + plane, args.scratch + 2 * plane};
    auto* bordered = reinterpret_cast<std::uint8_t*>(args.scratch + 3 * plane);
    add_border(args, bordered);
    find_sources(args, sources);
    gather(bordered, bordered_stride(args.width), sources.square, plane);
    interpolate(args, sources);
}

}  // namespace
}  // namespace fastmlp
