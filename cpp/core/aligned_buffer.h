// An array of floats on a cache line boundary, zero at first unless that is not wanted. Throws std::bad_alloc when
// memory is short.
//
// Large arrays that a loop walks side by side should begin at different lines of a page: a load seems to depend on a
// store that is at the same place of another page, and all would need the same sets of the L1 cache.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>
#include <memory>
#include <new>
#include <utility>

namespace fastmlp {

class AlignedBuffer {
 public:
    AlignedBuffer() = default;
    enum Uninitialized { kUninitialized };
    AlignedBuffer(std::size_t size, Uninitialized) : size_(size) {
        allocate(0);
        data_ = static_cast<float*>(memory_.get());
    }
    explicit AlignedBuffer(std::size_t size) : AlignedBuffer(size, kUninitialized) { std::memset(data_, 0, bytes()); }
    // At this line of a page, from 0 to kLinesOfPage - 1.
    AlignedBuffer(std::size_t size, std::size_t line) : size_(size) {
        allocate(kPage);
        const std::size_t from_line = reinterpret_cast<std::uintptr_t>(memory_.get()) - line * kLine;
        data_ = reinterpret_cast<float*>(static_cast<char*>(memory_.get()) + (kPage - from_line % kPage) % kPage);
        std::memset(data_, 0, bytes());
    }
    AlignedBuffer(const AlignedBuffer& other) : AlignedBuffer(other.size_, kUninitialized) { copy_from(other); }
    AlignedBuffer(AlignedBuffer&& other) noexcept { swap(other); }
    AlignedBuffer& operator=(AlignedBuffer other) noexcept {
        swap(other);
        return *this;
    }

    float* data() { return data_; }
    const float* data() const { return data_; }
    std::size_t size() const { return size_; }

    // other has the same size.
    void copy_from(const AlignedBuffer& other) {
        if (size_ > 0) std::memcpy(data_, other.data_, bytes());
    }

    static constexpr std::size_t kLine = 64, kPage = 4096, kLinesOfPage = kPage / kLine;

 private:
    struct Deleter {
        void operator()(void* p) const { ::operator delete(p, std::align_val_t{kLine}); }
    };

    std::size_t bytes() const { return size_ * sizeof(float); }
    void allocate(std::size_t more_bytes) {
        if (size_ > (std::numeric_limits<std::size_t>::max() - kPage) / sizeof(float)) throw std::bad_alloc();
        memory_.reset(::operator new(bytes() + more_bytes, std::align_val_t{kLine}));
    }
    void swap(AlignedBuffer& other) noexcept {
        std::swap(memory_, other.memory_);
        std::swap(data_, other.data_);
        std::swap(size_, other.size_);
    }

    std::unique_ptr<void, Deleter> memory_;
    float* data_ = nullptr;
    std::size_t size_ = 0;
};

}  // namespace fastmlp
