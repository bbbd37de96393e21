#include "drawn_images.h"

#include <algorithm>
#include <cmath>

#include "../../cpp/core/random.h"

namespace fastmlp::benchmark {

namespace {

constexpr std::size_t kDots = 60;             // of a stroke
constexpr double kStep = 0.9;                 // pixels from one dot to the next
constexpr double kRadius = 1.8;               // of a dot, where its ink ends
constexpr double kFirst = 5.0, kLast = 22.0;  // the stroke's middle stays between these rows and columns

struct Point {
    double x, y;
};

Point normalized(Point p) {
    const double length = std::sqrt(p.x * p.x + p.y * p.y);
    return {p.x / length, p.y / length};
}

void put_dot(Point centre, std::uint8_t* image) {
    // The stroke stays far enough from the border for whole squares around its dots.
    const auto first_row = static_cast<std::size_t>(centre.y - kRadius);
    const auto first_column = static_cast<std::size_t>(centre.x - kRadius);
    constexpr auto kWidth = static_cast<std::size_t>(2.0 * kRadius) + 2;
    for (std::size_t row = first_row; row < first_row + kWidth; ++row)
        for (std::size_t column = first_column; column < first_column + kWidth; ++column) {
            const double dx = static_cast<double>(column) - centre.x, dy = static_cast<double>(row) - centre.y;
            const double ink = std::clamp(kRadius - std::sqrt(dx * dx + dy * dy), 0.0, 1.0);
            std::uint8_t& pixel = image[row * kImageSide + column];
            pixel = std::max(pixel, static_cast<std::uint8_t>(255.0 * ink));
        }
}

}  // namespace

std::vector<std::uint8_t> drawn_images(std::size_t n) {
    std::vector<std::uint8_t> images(n * kPixels);
    for (std::size_t i = 0; i < n; ++i) {
        const RandomSequence sequence{2026, 1, static_cast<std::uint32_t>(i)};
        const auto symmetric = [&](std::uint64_t k) { return 2.0 * uniform(sequence, k) - 1.0; };
        Point pen{13.5 + 6.0 * symmetric(0), 13.5 + 7.0 * symmetric(1)};
        Point heading = normalized({symmetric(2), symmetric(3)});
        for (std::size_t dot = 0; dot < kDots; ++dot) {
            put_dot(pen, images.data() + i * kPixels);
            const double turn = 0.25 * symmetric(4 + dot / 8);  // an arc of eight dots, then another one
            heading = normalized({heading.x - turn * heading.y, heading.y + turn * heading.x});
            if (pen.x + kStep * heading.x < kFirst || pen.x + kStep * heading.x > kLast) heading.x = -heading.x;
            if (pen.y + kStep * heading.y < kFirst || pen.y + kStep * heading.y > kLast) heading.y = -heading.y;
            pen = {pen.x + kStep * heading.x, pen.y + kStep * heading.y};
        }
    }
    return images;
}

}  // namespace fastmlp::benchmark
