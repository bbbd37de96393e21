// An array of floats on a cache line boundary. Throws std::bad_alloc when memory is short.
//
// Large arrays that a loop walks side by side should begin at different lines of a page: a load seems to depend on a
// store that is at the same place of another page, and all would need the same sets of the L1 cache.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <memory>
#include <new>
#include <utility>

#if defined(__SANITIZE_ADDRESS__)
#define FASTMLP_ADDRESS_SANITIZER
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define FASTMLP_ADDRESS_SANITIZER
#endif
#endif
#if defined(FASTMLP_ADDRESS_SANITIZER)
#include <sanitizer/asan_interface.h>
#endif

namespace fastmlp {

class AlignedBuffer {
 public:
    AlignedBuffer() = default;
    // Either way each page of a large array costs the thread that first writes to it about a microsecond, and two if it
    // was read before.
    enum Contents { kZero, kUninitialized };
    // line: of a page, where the array begins; kAnyLine if that does not matter.
    explicit AlignedBuffer(std::size_t size, Contents contents = kZero, std::size_t line = kAnyLine) : size_(size) {
        const std::size_t unit = line == kAnyLine ? kLine : kPage, offset = line == kAnyLine ? 0 : line * kLine;
        if (size > (std::numeric_limits<std::size_t>::max() - unit) / sizeof(float)) throw std::bad_alloc();
        const std::size_t bytes_to_place = bytes() + unit;
        memory_.reset(contents == kZero ? std::calloc(bytes_to_place, 1) : std::malloc(bytes_to_place));
        if (memory_ == nullptr) throw std::bad_alloc();
        char* const memory = static_cast<char*>(memory_.get());
        data_ = reinterpret_cast<float*>(memory + (offset - reinterpret_cast<std::uintptr_t>(memory)) % unit);
#if defined(FASTMLP_ADDRESS_SANITIZER)  // nor may what is around the array be used
        const auto* const end = reinterpret_cast<char*>(data_ + size);
        __asan_poison_memory_region(memory, static_cast<std::size_t>(reinterpret_cast<char*>(data_) - memory));
        __asan_poison_memory_region(end, static_cast<std::size_t>(memory + bytes_to_place - end));
#endif
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

    static constexpr std::size_t kLine = 64, kPage = 4096, kLinesOfPage = kPage / kLine, kAnyLine = kLinesOfPage;

 private:
    struct Deleter {
        void operator()(void* p) const { std::free(p); }
    };

    std::size_t bytes() const { return size_ * sizeof(float); }
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
