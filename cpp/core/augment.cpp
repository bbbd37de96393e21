#include "augment.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <numeric>

#include "aligned_buffer.h"
#include "floating_point.h"
#include "panels.h"
#include "parallel.h"
#include "random.h"

namespace fastmlp {

namespace {

// Numbers that each image has of either; a power of 2 that is enough for the largest image.
constexpr int kTransformationBits = 3;
constexpr int kDisplacementBits = 20;
static_assert(kMaxImageSide * noise_stride(kMaxImageSide) / kPhiloxWords <= std::size_t{1} << kDisplacementBits);

// The Gaussian is cut off here; 0.3 % of it lies beyond.
constexpr double kRadiusInSigmas = 3.0;

constexpr double kPi = 3.14159265358979323846;

// Multiply-adds that distorting a pixel is about worth.
constexpr double kWorkPerPixel = 50.0;
// A team counts the tasks of a thread with 32 bits.
constexpr std::size_t kMostTasks = std::size_t{1} << 20;

// Own elementary functions, whose last bits do not depend on the system's library: Taylor series.

// exp(x) for x <= 0: the series of x / 2^n, squared n times.
double exp_portable(double x) {
    if (x < -700.0) return 0.0;
    int n = 0;
    for (; x < -1.0; x *= 0.5) ++n;
    double sum = 1.0;
    for (int power = 20; power >= 1; --power) sum = 1.0 + sum * x / power;
    for (; n > 0; --n) sum *= sum;
    return sum;
}

// |x| <= pi. Unrolled, the divisions are the compiler's.
double sine(double x) {
    double sum = 1.0;
#pragma GCC unroll 15
    for (int power = 30; power >= 2; power -= 2) sum = 1.0 - sum * (x * x * (1.0 / (power * (power + 1))));
    return x * sum;
}
double cosine(double x) {
    double sum = 1.0;
#pragma GCC unroll 15
    for (int power = 30; power >= 2; power -= 2) sum = 1.0 - sum * (x * x * (1.0 / (power * (power - 1))));
    return sum;
}

// As RandomFields wants them; 1 is kTapSum.
std::vector<float> gaussian_tap_pairs(double sigma, std::size_t radius) {
    std::vector<double> side(radius + 1);  // from the middle outwards
    for (std::size_t i = 0; i <= radius; ++i) {
        const double distance = static_cast<double>(i) / sigma;
        side[i] = exp_portable(-0.5 * distance * distance);
    }
    const double unit = kTapSum / (2.0 * std::accumulate(side.begin(), side.end(), 0.0) - side[0]);
    std::vector<std::uint16_t> taps(n_tap_pairs(radius) + 1);
    const std::size_t middle = radius + kTapMargin;
    std::int32_t rest = kTapSum;  // for the middle, so that the sum is right
    for (std::size_t i = radius; i >= 1; --i) {
        const auto tap = static_cast<std::uint16_t>(std::floor(side[i] * unit + 0.5));
        taps[middle - i] = taps[middle + i] = tap;
        rest -= 2 * tap;
    }
    taps[middle] = static_cast<std::uint16_t>(rest);
    std::vector<float> pairs(n_tap_pairs(radius));
    for (std::size_t i = 0; i < pairs.size(); ++i)
        pairs[i] = std::bit_cast<float>(std::uint32_t{taps[i]} << 16 | taps[i + 1]);
    return pairs;
}

// What a sum of the second convolution must be multiplied by, for noise between -1 and 1.
constexpr double kFieldUnit = 1.0 / 0x1p15 * (0x1p15 / kTapSum) / kTapSum;

}  // namespace

Augmentation::Augmentation(const AugmentationSettings& settings) : settings_(settings) {
    if (settings.alpha == 0.0) return;
    radius_ = static_cast<std::size_t>(std::ceil(kRadiusInSigmas * settings.sigma));
    tap_pairs_ = gaussian_tap_pairs(settings.sigma, radius_);
}

std::size_t Augmentation::scratch_size() const {
    const std::size_t height = settings_.height, width = settings_.width;
    const std::size_t resampling = resampling_scratch_size(height, width);
    if (tap_pairs_.empty()) return resampling;
    return 2 * plane_size(height, width) + std::max(resampling, random_fields_scratch_size(height, width));
}

void Augmentation::apply(const KernelTable& kernels, std::uint32_t epoch, std::int64_t id, const std::uint8_t* image,
                         std::uint8_t* out, float* scratch) const {
    const auto number = static_cast<std::uint64_t>(id);
    const RandomSequence sequence{settings_.seed, kPurposeTransformation, epoch};
    std::uint64_t next = number << kTransformationBits;
    const auto symmetric = [&](double most) { return most * (2.0 * uniform(sequence, next++) - 1.0); };
    const double shift_x = symmetric(settings_.shift), shift_y = symmetric(settings_.shift);
    const double rotation = symmetric(settings_.rotation) * (kPi / 180.0);
    const double scale_x = 1.0 + symmetric(settings_.scale), scale_y = 1.0 + symmetric(settings_.scale);
    const double shear = symmetric(settings_.shear) * (kPi / 180.0);

    // Points of the image, from its middle, are scaled, sheared, rotated and shifted; a pixel of the result looks for
    // its source the other way round. y points down.
    const double s = sine(rotation), c = cosine(rotation), slope = sine(shear) / cosine(shear);
    const double xx = (c + slope * s) / scale_x, xy = (slope * c - s) / scale_x;
    const double yx = s / scale_y, yy = c / scale_y;
    const double middle_x = 0.5 * static_cast<double>(settings_.width - 1);
    const double middle_y = 0.5 * static_cast<double>(settings_.height - 1);
    const double from_x = middle_x + shift_x, from_y = middle_y + shift_y;

    Resampling resampling{image,
                          settings_.height,
                          settings_.width,
                          static_cast<float>(xx),
                          static_cast<float>(xy),
                          static_cast<float>(middle_x - xx * from_x - xy * from_y),
                          static_cast<float>(yx),
                          static_cast<float>(yy),
                          static_cast<float>(middle_y - yx * from_x - yy * from_y),
                          nullptr,
                          nullptr,
                          out,
                          scratch};
    if (!tap_pairs_.empty()) {
        const std::size_t plane = plane_size(settings_.height, settings_.width);
        float* x = scratch;
        float* y = x + plane;
        resampling.scratch = y + plane;
        kernels.random_fields({settings_.seed, kPurposeDisplacement, epoch, number << kDisplacementBits,
                               static_cast<float>(settings_.alpha * kFieldUnit), tap_pairs_.data(), radius_,
                               settings_.height, settings_.width, x, y, resampling.scratch});
        resampling.displacement_x = x;
        resampling.displacement_y = y;
    }
    kernels.resample(resampling);
}

void augment_images(const Augmentation& augmentation, const KernelTable& kernels, std::uint32_t epoch,
                    const std::uint8_t* images, std::size_t n_images, std::uint8_t* out, std::size_t threads) {
    const std::size_t n_pixels = augmentation.n_pixels();
    const double work = kWorkPerPixel * static_cast<double>(n_pixels) * static_cast<double>(n_images);
    threads = std::min(threads_worth(work, threads), most_threads());
    const std::size_t n_tasks = std::min(n_images, kMostTasks);
    Team team(threads);
    std::vector<AlignedBuffer> scratch(threads);
    for (AlignedBuffer& buffer : scratch) buffer = AlignedBuffer(augmentation.scratch_size());
    run_team(team, [&](std::size_t rank) {
        const FloatingPointScope scope(kernels);
        team.for_each(rank, n_tasks, [&](std::size_t task) {
            const Range some = even_part(n_images, task, n_tasks);
            for (std::size_t i = some.begin; i < some.end; ++i)
                augmentation.apply(kernels, epoch, static_cast<std::int64_t>(i), images + i * n_pixels,
                                   out + i * n_pixels, scratch[rank].data());
        });
    });
}

}  // namespace fastmlp
