// An array of floats on a cache line boundary, zero at first unless that is not wanted. Throws std::bad_alloc when
// memory is short.
#pragma once

#include <cstddef>
#include <cstring>
#include <limits>
#include <memory>
#include <new>

namespace fastmlp {

class AlignedBuffer {
 public:
    AlignedBuffer() = default;
    enum Uninitialized { kUninitialized };
    AlignedBuffer(std::size_t size, Uninitialized) : size_(size) {
        if (size > std::numeric_limits<std::size_t>::max() / sizeof(float)) throw std::bad_alloc();
        data_.reset(static_cast<float*>(::operator new(bytes(), kAlignment)));
    }
    explicit AlignedBuffer(std::size_t size) : AlignedBuffer(size, kUninitialized) {
        std::memset(data_.get(), 0, bytes());
    }
    AlignedBuffer(const AlignedBuffer& other) : AlignedBuffer(other.size_, kUninitialized) { copy_from(other); }
    AlignedBuffer(AlignedBuffer&& other) noexcept : data_(std::move(other.data_)), size_(other.size_) {
        other.size_ = 0;
    }
    AlignedBuffer& operator=(AlignedBuffer other) noexcept {
        std::swap(data_, other.data_);
        std::swap(size_, other.size_);
        return *this;
    }

    float* data() { return data_.get(); }
    const float* data() const { return data_.get(); }
    std::size_t size() const { return size_; }

    // other has the same size.
    void copy_from(const AlignedBuffer& other) {
        if (size_ > 0) std::memcpy(data_.get(), other.data_.get(), bytes());
    }

 private:
    static constexpr std::align_val_t kAlignment{64};
    struct Deleter {
        void operator()(float* p) const { ::operator delete(p, kAlignment); }
    };

    std::size_t bytes() const { return size_ * sizeof(float); }

    std::unique_ptr<float, Deleter> data_;
    std::size_t size_ = 0;
};

}  // namespace fastmlp
