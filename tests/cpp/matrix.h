// Panel matrices for tests.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <limits>
#include <memory>
#include <new>

#include "../../cpp/kernels/kernel_table.h"
#include "report.h"

namespace fastmlp::test {

inline constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

// n floats on a cache line of their own, exactly as many as asked for, so that a sanitizer sees the first one beyond.
class Floats {
 public:
    explicit Floats(std::size_t n, float fill = kNan)
        : size_(n), data_(static_cast<float*>(::operator new(n * sizeof(float), std::align_val_t{64}))) {
        for (std::size_t i = 0; i < n; ++i) data_.get()[i] = fill;
    }

    Floats(const Floats& other) : Floats(other.size_) { std::copy_n(other.data(), size_, data()); }

    float* data() { return data_.get(); }
    const float* data() const { return data_.get(); }
    std::size_t size() const { return size_; }
    float& operator[](std::size_t i) { return data_.get()[i]; }
    float operator[](std::size_t i) const { return data_.get()[i]; }

 private:
    struct Delete {
        void operator()(float* p) const { ::operator delete(p, std::align_val_t{64}); }
    };
    std::size_t size_;
    std::unique_ptr<float, Delete> data_;
};

// A rows x columns panel matrix in the middle of a taller one. What does not belong to it, a row above, rows below
// and the padding columns, starts as NaN: a kernel that lets it into a sum spoils the sum.
class Matrix {
 public:
    Matrix(std::size_t rows, std::size_t columns)
        : rows_(rows), columns_(columns), all_(panel_matrix_size(rows + 2, columns)) {}

    std::size_t rows() const { return rows_; }
    std::size_t columns() const { return columns_; }
    std::size_t stride() const { return panel_stride(rows_ + 2); }
    float* data() { return all_.data() + kPanel; }
    const float* data() const { return all_.data() + kPanel; }
    float& at(std::size_t i, std::size_t j) { return data()[stride() * (j / kPanel) + kPanel * i + j % kPanel]; }
    float at(std::size_t i, std::size_t j) const { return const_cast<Matrix&>(*this).at(i, j); }

    template <class F>
    Matrix& fill(F f) {
        for (std::size_t i = 0; i < rows_; ++i)
            for (std::size_t j = 0; j < columns_; ++j) at(i, j) = f(i, j);
        return *this;
    }
    Matrix& fill_randomly(Random& random, float scale = 1.0f) {
        return fill([&](std::size_t, std::size_t) { return scale * random.symmetric(); });
    }

    void clear_padding() {
        for (std::size_t i = 0; i < rows_; ++i)
            for (std::size_t j = columns_; j < n_panels(columns_) * kPanel; ++j) at(i, j) = 0.0f;
    }
    bool padding_is_zero() const {
        for (std::size_t i = 0; i < rows_; ++i)
            for (std::size_t j = columns_; j < n_panels(columns_) * kPanel; ++j)
                if (at(i, j) != 0.0f) return false;
        return true;
    }
    // The rows above and below have not been written to.
    bool frame_is_untouched() const {
        for (std::size_t panel = 0; panel < n_panels(columns_); ++panel)
            for (std::size_t lane = 0; lane < kPanel; ++lane) {
                const float* line = all_.data() + panel * stride() + lane;
                if (!std::isnan(line[0])) return false;
                for (std::size_t row = rows_ + 1; row < stride() / kPanel; ++row)
                    if (!std::isnan(line[row * kPanel])) return false;
            }
        return true;
    }

 private:
    std::size_t rows_;
    std::size_t columns_;
    Floats all_;
};

}  // namespace fastmlp::test
