#include "fair_shared_mutex.h"

#include <chrono>
#include <cstdlib>
#include <new>
#include <thread>

#include "parallel.h"

namespace fastmlp {

namespace {

// Every mutex there is. Never destroyed, as a net may outlive what static destructors end.
struct Registry {
    std::mutex mutex;
    FairSharedMutex* first = nullptr;
};

Registry& registry() {
    static Registry& instance = *new Registry;
    return instance;
}

// The child's only thread has another number than the one that took the locks, so it cannot give them back.
template <class Mutex>
void make_anew(Mutex& mutex) {
    new (&mutex) Mutex;
}

}  // namespace

struct ProcessHandlers {
    static void prepare() {
        registry().mutex.lock();
        for_each([](FairSharedMutex& mutex) {
            mutex.turnstile_.lock();
            mutex.data_.lock();
        });
    }
    static void parent() {
        for_each([](FairSharedMutex& mutex) {
            mutex.data_.unlock();
            mutex.turnstile_.unlock();
        });
        registry().mutex.unlock();
    }
    // A thread that computes on while the process exits would lose OpenMP under its hands: LLVM's runtime ends the
    // process then. So exit waits for calls under way, and lets none begin; but not for ever, since it may be such a
    // call that exits.
    static void exit() {
        using Clock = std::chrono::steady_clock;
        const auto deadline = Clock::now() + std::chrono::seconds(5);
        const auto lock_in_time = [&](auto& mutex) {
            while (!mutex.try_lock()) {
                if (Clock::now() > deadline) return false;
                std::this_thread::sleep_for(std::chrono::milliseconds(1));
            }
            return true;
        };
        if (!lock_in_time(registry().mutex)) return;
        for_each([&](FairSharedMutex& mutex) {
            if (lock_in_time(mutex.turnstile_)) lock_in_time(mutex.data_);
        });
        registry().mutex.unlock();  // nets may yet be destroyed
    }
    static void child() {
        for_each([](FairSharedMutex& mutex) {
            make_anew(mutex.data_);
            make_anew(mutex.turnstile_);
        });
        make_anew(registry().mutex);
    }

    template <class Action>
    static void for_each(Action action) {
        for (FairSharedMutex* mutex = registry().first; mutex != nullptr; mutex = mutex->next_) action(*mutex);
    }
};

namespace {
const int fork_handlers = at_fork(ProcessHandlers::prepare, ProcessHandlers::parent, ProcessHandlers::child);
const int exit_handler = std::atexit(ProcessHandlers::exit);
}  // namespace

FairSharedMutex::FairSharedMutex() {
    const std::lock_guard lock(registry().mutex);
    next_ = registry().first;
    if (next_ != nullptr) next_->previous_ = this;
    registry().first = this;
}

FairSharedMutex::~FairSharedMutex() {
    const std::lock_guard lock(registry().mutex);
    (previous_ != nullptr ? previous_->next_ : registry().first) = next_;
    if (next_ != nullptr) next_->previous_ = previous_;
}

}  // namespace fastmlp
