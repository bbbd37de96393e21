// Random bits, random fields, resampling, and the last two together. All memory has exactly the size that the
// kernels ask for, so that a sanitizer sees the first byte beyond it.
#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstdint>
#include <string>
#include <vector>

#include "../../cpp/core/aligned_buffer.h"
#include "../../cpp/core/augment.h"
#include "../../cpp/core/floating_point.h"
#include "kernel_cases.h"

namespace fastmlp::test {
namespace {

using PhiloxCounter = std::array<std::uint32_t, 4>;

// Salmon, Moraes, Dror & Shaw, "Parallel random numbers: as easy as 1, 2, 3" (2011), with 10 rounds.
PhiloxCounter philox4x32_10(PhiloxCounter c, std::uint64_t key) {
    auto key_0 = static_cast<std::uint32_t>(key), key_1 = static_cast<std::uint32_t>(key >> 32);
    for (int round = 0; round < 10; ++round, key_0 += 0x9E3779B9, key_1 += 0xBB67AE85) {
        const std::uint64_t product_0 = std::uint64_t{0xD2511F53} * c[0], product_1 = std::uint64_t{0xCD9E8D57} * c[2];
        c = {static_cast<std::uint32_t>(product_1 >> 32) ^ c[1] ^ key_0, static_cast<std::uint32_t>(product_1),
             static_cast<std::uint32_t>(product_0 >> 32) ^ c[3] ^ key_1, static_cast<std::uint32_t>(product_0)};
    }
    return c;
}

struct Size {
    std::size_t height, width;
};
constexpr Size kSizes[] = {{1, 1}, {1, 2}, {2, 1}, {1, 35}, {35, 1}, {5, 7}, {15, 16}, {16, 15}, {28, 28}, {33, 31}};

using Integers = std::vector<std::int64_t>;

class AugmentCases : KernelCases {
 public:
    using KernelCases::KernelCases;

    void run() {
        for (const Size size : kSizes) {
            for (const std::size_t radius : {0, 1, 6, 12, 15, 16, 31}) random_fields(size, radius);
            for (const double spread : {0.0, 0.2, 4.0, 1e30}) resample(size, spread);
            both(size);
        }
        for (const std::uint64_t first :
             {std::uint64_t{0}, (std::uint64_t{1} << 32) - kRandomNumbers, std::uint64_t{1} << 63})
            random_bits(first);
    }

 private:
    void random_fields(Size size, std::size_t radius) {
        Item item(set_, "random_fields " + shape(size.height, size.width, radius));
        Integers taps(2 * radius + 1);
        std::int64_t rest = kTapSum;
        for (std::size_t i = 0; i < radius; ++i) {
            taps[i] = taps[2 * radius - i] = static_cast<std::int64_t>(random_.below(500));
            rest -= 2 * taps[i];
        }
        taps[radius] = rest;
        std::vector<float> pairs(n_tap_pairs(radius));
        const auto tap = [&](std::size_t i) {  // with zeros on both sides
            const bool inside = i >= kTapMargin && i < kTapMargin + taps.size();
            return inside ? static_cast<std::uint32_t>(taps[i - kTapMargin]) & 0xffff : 0;
        };
        for (std::size_t i = 0; i < pairs.size(); ++i) pairs[i] = std::bit_cast<float>(tap(i) << 16 | tap(i + 1));

        const std::uint64_t seed = random_.next(), first_counter = (std::uint64_t{1} << 32) - 20;
        AlignedBuffer x(plane_size(size.height, size.width)), y(x.size());
        AlignedBuffer scratch(random_fields_scratch_size(size.height, size.width));
        {
            const FloatingPointScope scope(table_);
            table_.random_fields({seed, 6, 9, first_counter, 0.25f, pairs.data(), radius, size.height, size.width,
                                  x.data(), y.data(), scratch.data()});
        }
        for (const int field : {0, 1}) {
            Integers noise(size.height * size.width);
            for (std::size_t row = 0; row < size.height; ++row)
                for (std::size_t column = 0; column < size.width; ++column)
                    noise[row * size.width + column] = noise_at(seed, first_counter, size.width, row, column, field);
            const Integers along_rows = convolved(noise, size, taps, false);
            Integers rounded(along_rows.size());
            std::transform(along_rows.begin(), along_rows.end(), rounded.begin(),
                           [](std::int64_t sum) { return (sum + (1 << 14)) >> 15; });
            const Integers sums = convolved(rounded, size, taps, true);
            const float* plane = field == 0 ? x.data() : y.data();
            for (std::size_t row = 0; row < size.height; ++row)
                for (std::size_t column = 0; column < size.width; ++column)
                    item.expect_exactly(plane[row * n_panels(size.width) * kPanel + column],
                                        static_cast<float>(sums[row * size.width + column]) * 0.25f);
        }
    }

    void random_bits(std::uint64_t first_counter) {
        Item item(set_, "random_bits " + std::to_string(first_counter));
        const std::uint64_t seed = random_.next();
        std::uint64_t numbers[kRandomNumbers];
        {
            const FloatingPointScope scope(table_);
            table_.random_bits({seed, 6, 9, first_counter}, numbers);
        }
        for (std::size_t i = 0; i < kRandomNumbers; ++i) {
            const PhiloxCounter expected = random_at(seed, first_counter + i);
            for (const std::size_t half : {0, 1, 2, 3})
                item.expect_exactly(static_cast<float>(numbers[i] >> (16 * half) & 0xffff),
                                    static_cast<float>(expected[half / 2] >> (16 * (half % 2)) & 0xffff));
        }
    }

    static PhiloxCounter random_at(std::uint64_t seed, std::uint64_t counter) {
        return philox4x32_10({static_cast<std::uint32_t>(counter), static_cast<std::uint32_t>(counter >> 32), 9, 6},
                             seed);
    }

    static std::int64_t noise_at(std::uint64_t seed, std::uint64_t first_counter, std::size_t width, std::size_t row,
                                 std::size_t column, int field) {
        const std::size_t word = row * noise_stride(width) + column / 2;
        const std::size_t line = word / kPanel, lane = word % kPanel;
        const std::uint64_t counter = first_counter + 16 * (line / 4) + lane;
        const PhiloxCounter random = random_at(seed, counter);
        const std::size_t byte = 2 * (column % 2) + static_cast<std::size_t>(field);
        const std::int64_t b = (random[line % 4] >> (8 * byte) & 0xff) ^ 0x80;
        return (2 * b - 255) * 128;
    }

    static Integers convolved(const Integers& in, Size size, const Integers& taps, bool down) {
        const auto radius = static_cast<std::int64_t>(taps.size() / 2);
        const auto height = static_cast<std::int64_t>(size.height), width = static_cast<std::int64_t>(size.width);
        Integers out(in.size());
        for (std::int64_t row = 0; row < height; ++row)
            for (std::int64_t column = 0; column < width; ++column)
                for (std::int64_t d = -radius; d <= radius; ++d) {
                    const std::int64_t i = down ? row + d : row, j = down ? column : column + d;
                    if (i >= 0 && i < height && j >= 0 && j < width)
                        out[static_cast<std::size_t>(row * width + column)] +=
                            taps[static_cast<std::size_t>(d + radius)] * in[static_cast<std::size_t>(i * width + j)];
                }
        return out;
    }

    void resample(Size size, double spread) {
        Item item(set_, "resample " + shape(size.height, size.width) + " " + std::to_string(spread));
        const std::vector<std::uint8_t> image = random_image(size);
        float c[6] = {1, 0, 0, 0, 1, 0};
        double magnitude = 2.0;
        for (float& number : c) {
            number += random_.symmetric() * static_cast<float>(spread);
            magnitude +=
                std::fabs(static_cast<double>(number)) * static_cast<double>(std::max(size.height, size.width));
        }
        const std::size_t stride = n_panels(size.width) * kPanel;
        AlignedBuffer x(plane_size(size.height, size.width)), y(x.size());
        for (AlignedBuffer* plane : {&x, &y})
            for (std::size_t i = 0; i < plane->size(); ++i)
                plane->data()[i] = random_.symmetric() * static_cast<float>(spread);
        AlignedBuffer scratch(resampling_scratch_size(size.height, size.width));
        std::vector<std::uint8_t> out(image.size());
        {
            const FloatingPointScope scope(table_);
            table_.resample({image.data(), size.height, size.width, c[0], c[1], c[2], c[3], c[4], c[5], x.data(),
                             y.data(), out.data(), scratch.data()});
        }
        // A coordinate is a sum of a few numbers, each rounded relative to their magnitudes; an image changes by at
        // most 255 per pixel. Interpolation rounds a few numbers up to 255, and then to an integer.
        const double tolerance = 0.5 + 2 * 255 * 5 * kU * (magnitude + spread) + 255 * 8 * kU;
        for (std::size_t row = 0; row < size.height; ++row)
            for (std::size_t column = 0; column < size.width; ++column) {
                const double i = static_cast<double>(row), j = static_cast<double>(column);
                const std::size_t at = row * stride + column;
                const double from_x = double{c[0]} * j + double{c[1]} * i + double{c[2]} + double{x.data()[at]};
                const double from_y = double{c[3]} * j + double{c[4]} * i + double{c[5]} + double{y.data()[at]};
                item.expect(out[row * size.width + column], {interpolated(image, size, from_x, from_y), tolerance});
            }
    }

    static double interpolated(const std::vector<std::uint8_t>& image, Size size, double x, double y) {
        const double left = std::floor(x), top = std::floor(y);
        double sum = 0.0;
        for (const double row : {top, top + 1.0})
            for (const double column : {left, left + 1.0}) {
                const bool inside = row >= 0.0 && row < static_cast<double>(size.height) && column >= 0.0 &&
                                    column < static_cast<double>(size.width);
                if (!inside) continue;
                const double pixel =
                    image[static_cast<std::size_t>(row) * size.width + static_cast<std::size_t>(column)];
                sum += pixel * (1.0 - std::fabs(x - column)) * (1.0 - std::fabs(y - row));
            }
        return sum;
    }

    void both(Size size) {
        Item item(set_, "augmentation " + shape(size.height, size.width));
        const Augmentation augmentation({size.height, size.width, 7, 2.0, 15.0, 0.2, 15.0, 20.0, 3.0});
        const std::vector<std::uint8_t> image = random_image(size);
        std::vector<std::uint8_t> out(image.size());
        AlignedBuffer scratch(augmentation.scratch_size());
        for (const std::int64_t id : {std::int64_t{0}, std::int64_t{1}, std::int64_t{59'999}, std::int64_t{1} << 40}) {
            {
                const FloatingPointScope scope(table_);
                augmentation.apply(table_, 3, id, image.data(), out.data(), scratch.data());
            }
            for (const std::uint8_t pixel : out) item.record(pixel);
        }
    }

    std::vector<std::uint8_t> random_image(Size size) {
        std::vector<std::uint8_t> image(size.height * size.width);
        for (std::uint8_t& pixel : image) pixel = static_cast<std::uint8_t>(random_.below(256));
        return image;
    }
};

}  // namespace

void check_augment(const KernelTable& table) { AugmentCases(table).run(); }

}  // namespace fastmlp::test
