#include "parallel.h"

#include <pthread.h>
#include <sys/mman.h>

#include <algorithm>
#include <chrono>
#include <limits>
#include <new>
#include <thread>

#if defined(_OPENMP)
#include <dlfcn.h>
#include <omp.h>
#endif

namespace fastmlp {

namespace {

inline void pause_briefly() {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ __volatile__("yield");
#endif
}

// -1: to be measured.
std::atomic<int> assumed_far{-1};

// About 20 microseconds: longer than the tail of a phase, shorter than a time slice.
constexpr unsigned kSpins = 1000;

// To yield takes less than a microsecond, or as long as another thread of the team works; but beside busy threads of
// others, a time slice of theirs. From then on whoever waits sleeps instead, for so many times as long as that took.
// (Whoever sleeps runs soon after it is woken, but to be woken takes some microseconds.)
constexpr std::chrono::milliseconds kLongYield{1};
constexpr std::chrono::milliseconds kLongestYield{20};  // what takes longer is a process that was stopped
constexpr int kSleepFor = 50;
std::atomic<std::chrono::steady_clock::rep> busy_until{0};

#if defined(_OPENMP)
// OpenMP's threads that a thread has beside itself. They stay until a smaller team follows, which may be another
// library's: so they are counted while they live. (Those that it does not need live for some microseconds more.)
using LivingThreads = std::atomic<std::size_t>;
thread_local std::shared_ptr<LivingThreads> others;

// What this thread has asked OpenMP for last, and got; but for teams that tell nothing new, of no more than these.
thread_local std::size_t threads_asked = 0, threads_granted = 0;

class Counted {
 public:
    Counted() = default;
    Counted(const Counted&) = delete;
    Counted& operator=(const Counted&) = delete;
    ~Counted() { leave(); }
    void count_among(const std::shared_ptr<LivingThreads>& threads) {
        if (threads_ == threads) return;
        leave();
        threads_ = threads;
        threads_->fetch_add(1);
    }

 private:
    void leave() {
        if (threads_ != nullptr) threads_->fetch_sub(1);
    }
    std::shared_ptr<LivingThreads> threads_;
};
thread_local Counted counted;

#if _OPENMP >= 201811 || (defined(__GNUC__) && !defined(__clang__))
// (g++ has had this call since version 9, while it still calls itself OpenMP 4.5.)
// A child of fork() has none of its parent's OpenMP threads, yet g++'s runtime would wait for them. Ending them
// before a fork leaves parent and child with a runtime that starts anew.
void end_threads_before_fork() {
    omp_pause_resource_all(omp_pause_hard);
    others.reset();
}

// LLVM's and Intel's runtime starts anew in a child by itself. Its own handler holds the lock that the call above
// waits for. The compiler does not decide which runtime there is: theirs can stand in for g++'s.
bool runtime_handles_forks() {
    Dl_info library;
    if (dladdr(reinterpret_cast<void*>(&omp_pause_resource_all), &library) == 0) return false;
    void* const handle = dlopen(library.dli_fname, RTLD_LAZY | RTLD_NOLOAD);
    if (handle == nullptr) return false;
    const bool has_extensions_of_llvm = dlsym(handle, "kmp_get_blocktime") != nullptr;
    dlclose(handle);
    return has_extensions_of_llvm;
}

const int fork_handler = runtime_handles_forks() ? at_fork(nullptr, nullptr, [] { others.reset(); })
                                                 : at_fork(end_threads_before_fork, nullptr, nullptr);
#endif

// Throws std::bad_alloc if there is less. (A compiler may leave out `new` with its `delete`, but not these calls.)
void require_memory(std::size_t bytes) { ::operator delete(::operator new(bytes)); }

// The same of room for pages that are mapped on their own.
void require_pages(std::size_t bytes) {
    void* const pages = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (pages == MAP_FAILED) throw std::bad_alloc();
    munmap(pages, bytes);
}

// g++'s runtime ends the process if it cannot start a thread, or allocate the little that it keeps of each team.
// Trying first makes an exception of that: memory each time, threads when a team is larger than what is there.
void try_to_start(std::size_t threads) {
    constexpr std::size_t kStack = (std::size_t{1} << 23) + (std::size_t{1} << 16);  // with what lies around it
    constexpr std::size_t kRoomOfThread = std::size_t{1} << 16;
    require_memory((std::size_t{1} << 14) + threads * 512);  // more than it takes; freed, malloc has it at hand
    const std::size_t there = others == nullptr ? 0 : others->load();
    // Whom a smaller team does not need is about to end, and no longer counts.
    if (others == nullptr || threads - 1 < there) others = std::make_shared<LivingThreads>(0);
    const bool is_limited = threads <= threads_asked && threads_granted < threads_asked;  // by OMP_THREAD_LIMIT, say
    const std::size_t wanted = (is_limited ? std::min(threads, threads_granted) : threads) - 1;
    if (wanted <= there) return;
    std::vector<std::thread> started;
    started.reserve(wanted - there);
    std::atomic<bool> done{false};
    const auto join_all = [&] {
        done.store(true);
        done.notify_all();
        for (std::thread& thread : started) thread.join();
    };
    try {
        while (started.size() < wanted - there) started.emplace_back([&done] { done.wait(false); });
    } catch (...) {
        join_all();
        require_memory(kStack);  // the system does not say whether it lacks memory, or allows no more threads
        throw;
    }
    join_all();
    // Where memory is short, a new thread has no room for a heap of its own: the few things that it allocates, without
    // which the C library ends the process, take pages each.
    require_pages((wanted - there) * kRoomOfThread);
}
#endif

}  // namespace

int at_fork(void (*prepare)(), void (*parent)(), void (*child)()) {
#if defined(_OPENMP)
    // LLVM's runtime registers handlers, which lock it, when it is first called; of all, the latest ones prepare first.
    omp_get_max_threads();
#endif
    return pthread_atfork(prepare, parent, child);
}

Team::Team(std::size_t most_threads) : most_threads_(most_threads), slots_(new Slot[most_threads]) {}

void Team::set_size(std::size_t size, std::size_t n_processors) {
    size_ = size;
    // More threads than processors: whoever spins keeps another from its work.
    spins_ = size > 1 && size <= n_processors ? kSpins : 0;
    assumed_far_ = assumed_far.load();
}

void assume_far(std::optional<bool> far) { assumed_far.store(far.has_value() ? static_cast<int>(*far) : -1); }

bool Team::find_distance(std::size_t rank, double far_from, bool nearby_only) {
    if (size_ == 1) return true;
    if (assumed_far_ < 0 && spins_ > 0) measure_distance(rank);
    if (assumed_far_ == 1 && rank == 0) distance_ = std::numeric_limits<double>::infinity();
    if (rank == 0) {
        const bool far = distance_ >= far_from;
        far_ = far && !nearby_only;
        left_alone_ = far && nearby_only;
    }
    barrier();
    if (!left_alone_) return true;
    if (rank == 0) size_ = 1;  // the others looked at it before they arrived
    return rank == 0;
}

// Each other thread throws a ball back to the first, some times; the shortest of its flights counts.
void Team::measure_distance(std::size_t rank) {
    constexpr unsigned kThrows = 8;
    const auto wait_for = [&](const std::atomic<unsigned>& ball, unsigned value) {
        for (unsigned spin = 0; ball.load(std::memory_order_acquire) != value; ++spin)
            if (spin >= spins_) std::this_thread::yield();
    };
    if (rank != 0) {
        std::atomic<unsigned>& ball = slots_[rank].ball;
        for (unsigned thrown = 0; thrown < kThrows; ++thrown) {
            wait_for(ball, 2 * thrown + 1);
            ball.store(2 * thrown + 2, std::memory_order_release);
        }
    } else {
        using Clock = std::chrono::steady_clock;
        double total = 0.0;
        for (std::size_t other = 1; other < size_; ++other) {
            std::atomic<unsigned>& ball = slots_[other].ball;
            auto shortest = Clock::duration::max();
            for (unsigned thrown = 0; thrown < kThrows; ++thrown) {
                const auto start = Clock::now();
                ball.store(2 * thrown + 1, std::memory_order_release);
                wait_for(ball, 2 * thrown + 2);
                shortest = std::min(shortest, Clock::now() - start);
            }
            total += std::chrono::duration<double, std::nano>(shortest).count() / 2.0;
        }
        distance_ = total / static_cast<double>(size_ - 1);
    }
}

std::vector<std::size_t> Team::tasks_per_thread() const {
    std::vector<std::size_t> tasks;
    for (std::size_t rank = 0; rank < size_; ++rank) tasks.push_back(slots_[rank].tasks_done);
    return tasks;
}

void Team::barrier() {
    const unsigned generation = generation_.load(std::memory_order_relaxed);
    const std::size_t size = size_;  // before arriving: behind find_distance's barrier it may change
    if (arrived_.fetch_add(1, std::memory_order_acq_rel) + 1 == size) {
        for (std::size_t rank = 0; rank < size; ++rank) slots_[rank].claims.reset();
        arrived_.store(0, std::memory_order_relaxed);
        generation_.store(generation + 1);
        if (n_asleep_.load() > 0) {
            std::unique_lock(sleep_mutex_).unlock();  // whoever may have missed it sleeps by then
            awake_.notify_all();
        }
        return;
    }
    for (unsigned spin = 0; spin < spins_; ++spin) {
        if (has_passed(generation)) return;
        pause_briefly();
    }
    wait_patiently(generation);
}

void Team::wait_patiently(unsigned generation) {
    using Clock = std::chrono::steady_clock;
    for (auto start = Clock::now(); !has_passed(generation);) {
        if (start.time_since_epoch().count() < busy_until.load(std::memory_order_relaxed)) {
            std::unique_lock lock(sleep_mutex_);
            n_asleep_.fetch_add(1);
            awake_.wait(lock, [&] { return has_passed(generation); });
            n_asleep_.fetch_sub(1);
            return;
        }
        std::this_thread::yield();
        const auto end = Clock::now();
        if (end - start > kLongYield) {
            const auto until = end + kSleepFor * std::min<Clock::duration>(end - start, kLongestYield);
            busy_until.store(until.time_since_epoch().count(), std::memory_order_relaxed);
        }
        start = end;
    }
}

void run_region(Team& team, void (*body)(void*, std::size_t), void* context) {
#if defined(_OPENMP)
    const std::size_t threads = team.most_threads_;
    if (threads > 1) {
        try_to_start(threads);
        const std::shared_ptr<LivingThreads>& threads_there = others;
        const std::size_t for_them = n_processors();
        const int dynamic = omp_get_dynamic();  // the caller's, of which a team's size must not depend
        omp_set_dynamic(0);
#pragma omp parallel num_threads(static_cast<int>(threads))
        {
#pragma omp single
            team.set_size(static_cast<std::size_t>(omp_get_num_threads()), for_them);
            // `single` ends in a barrier: every thread sees the size.
            const int rank = omp_get_thread_num();
            if (rank > 0) counted.count_among(threads_there);
            body(context, static_cast<std::size_t>(rank));
        }
        omp_set_dynamic(dynamic);
        if (threads > threads_granted || team.size() < threads) {
            threads_asked = threads;
            threads_granted = team.size();
        }
        return;
    }
#endif
    team.set_size(1, 1);
    body(context, 0);
}

std::size_t threads_worth(double work, std::size_t limit) {
    constexpr double kWorkOfOneThread = 0.75e6;  // 15 to 25 microseconds: its barriers cost a microsecond or two
    const double worth = work / kWorkOfOneThread;
    if (worth >= static_cast<double>(limit)) return std::max<std::size_t>(limit, 1);
    return std::max<std::size_t>(static_cast<std::size_t>(worth), 1);
}

bool worth_far_threads(double work) {
    constexpr double kLeastWork = 8e6;  // some 200 microseconds: for less than that, what wanders takes longer
    return work >= kLeastWork;
}

std::size_t n_processors() {
#if defined(_OPENMP)
    return static_cast<std::size_t>(omp_get_num_procs());
#else
    return 1;
#endif
}

std::size_t most_threads() {
#if defined(_OPENMP)
    return std::numeric_limits<int>::max();
#else
    return 1;
#endif
}

std::size_t threads_by_default() {
#if defined(_OPENMP)
    return static_cast<std::size_t>(omp_get_max_threads());
#else
    return 1;
#endif
}

const char* parallel_runtime() {
#if defined(_OPENMP)
#define FASTMLP_TEXT_OF(x) #x
#define FASTMLP_TEXT(x) FASTMLP_TEXT_OF(x)
    return "OpenMP " FASTMLP_TEXT(_OPENMP);
#else
    return "none";
#endif
}

}  // namespace fastmlp
