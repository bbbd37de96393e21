// Random distortions of images: shift, rotation, scale, shear, and elastic distortion. What happens to an image
// depends on (seed, epoch, the image's number) alone.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "../kernels/kernel_table.h"

namespace fastmlp {

// Each number is drawn anew for each image, uniformly from -x to x; 0 leaves the image as it is. All are finite.
struct AugmentationSettings {
    std::size_t height = 1;  // of the images, in pixels; both at most kMaxImageSide
    std::size_t width = 1;
    std::uint64_t seed = 0;
    double shift = 0.0;     // pixels, in each direction; at most kMaxShift
    double rotation = 0.0;  // degrees, counter-clockwise; at most 180
    double scale = 0.0;     // each side becomes 1 + x times as long; less than 1
    double shear = 0.0;     // degrees by which vertical lines lean to the right; less than 90
    // Simard, Steinkraus & Platt (2003): displacement fields of alpha times uniform noise in (-1, 1), convolved with a
    // Gaussian of standard deviation sigma pixels. alpha is at most kMaxShift.
    double alpha = 0.0;
    double sigma = 1.0;  // greater than 0, at most kMaxSigma
};

inline constexpr double kMaxSigma = 100.0;
inline constexpr double kMaxShift = 10'000.0;

class Augmentation {
 public:
    // Throws std::bad_alloc when memory is short.
    explicit Augmentation(const AugmentationSettings& settings);

    std::size_t height() const { return settings_.height; }
    std::size_t width() const { return settings_.width; }
    std::size_t n_pixels() const { return settings_.height * settings_.width; }
    std::size_t scratch_size() const;  // floats

    // out = image number `id`, distorted. Row-major, unaligned; they do not overlap. scratch is aligned like an
    // AlignedBuffer. Expects the floating-point state of a FloatingPointScope.
    void apply(const KernelTable& kernels, std::uint32_t epoch, std::int64_t id, const std::uint8_t* image,
               std::uint8_t* out, float* scratch) const;

 private:
    AugmentationSettings settings_;
    std::size_t radius_ = 0;
    std::vector<float> tap_pairs_;  // of the Gaussian, for RandomFields; empty if alpha is 0
};

// Images 0 to n_images - 1, distorted; on at most `threads` threads, as the work is worth.
void augment_images(const Augmentation& augmentation, const KernelTable& kernels, std::uint32_t epoch,
                    const std::uint8_t* images, std::size_t n_images, std::uint8_t* out, std::size_t threads);

}  // namespace fastmlp
