// The lock of data that one thread writes while many read it.
#pragma once

#include <mutex>
#include <shared_mutex>

namespace fastmlp {

// Several threads may read at once, one alone writes, and whoever waits to write is not overtaken by later readers.
//
// fork() waits until no such mutex is held: a child has the data as they are between two writers, and no lock of a
// thread that it does not have. So a thread that holds one must not fork, nor wait for one that may.
class FairSharedMutex {
 public:
    FairSharedMutex();
    ~FairSharedMutex();
    FairSharedMutex(const FairSharedMutex&) = delete;
    FairSharedMutex& operator=(const FairSharedMutex&) = delete;

    std::shared_lock<std::shared_mutex> lock_for_reading() {
        const std::lock_guard turn(turnstile_);
        return std::shared_lock(data_);
    }
    // Does not wait: the lock may not be held.
    std::shared_lock<std::shared_mutex> try_lock_for_reading() {
        const std::unique_lock turn(turnstile_, std::try_to_lock);
        if (!turn.owns_lock()) return std::shared_lock(data_, std::defer_lock);
        return std::shared_lock(data_, std::try_to_lock);
    }
    std::unique_lock<std::shared_mutex> lock_for_writing() {
        const std::lock_guard turn(turnstile_);
        return std::unique_lock(data_);
    }

 private:
    friend struct ProcessHandlers;

    std::mutex turnstile_;
    std::shared_mutex data_;
    // In the list of all of them.
    FairSharedMutex* previous_ = nullptr;
    FairSharedMutex* next_ = nullptr;
};

}  // namespace fastmlp
