// Threads. All of OpenMP is behind this header.
//
// run_team opens one parallel region; inside it every thread runs the same code (SPMD) and meets the others in
// Team::for_each..., which share out numbered tasks and end in a barrier. Which thread runs a task must not change
// what the task computes.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <vector>

namespace fastmlp {

class Team {
 public:
    explicit Team(std::size_t most_threads);

    std::size_t size() const { return size_; }
    // Whether a line takes so long from one thread's cache to another's, on average, that threads should hand over what
    // is more than a few lines through memory; see evict.h. False until find_distance. Nothing but speed may depend on
    // it.
    bool is_far() const { return far_; }
    // Finds that out, in a microsecond or two for each thread; called by all of them, who meet in a barrier. far_from:
    // see KernelTable. If the threads are far and only near ones are wanted, rank 0 becomes the team's only thread.
    // Returns whether the calling thread is still one of the team.
    bool find_distance(std::size_t rank, double far_from, bool nearby_only);
    // What was found: nanoseconds.
    double distance() const { return distance_; }
    std::vector<std::size_t> tasks_per_thread() const;

    // Runs body(owner, i) for each owner in [0, size()) and each of its tasks i in [0, n_tasks_of(owner)), then waits
    // for all threads. Called by every thread of the team with its rank and the same n_tasks_of. Each thread begins
    // with the tasks it owns, the same every time, so that data stay in its cache; whoever finishes early takes over
    // from others, at most half of each one's tasks if they are `bound` to it, and none of these if the team is far.
    // The first task of an owner is never taken over: who owns tasks has work. Owners run their tasks in rising order;
    // others take them over from the last one on, so that it is the same tasks again if work is divided unevenly. An
    // owner has less than 2^32 tasks.
    template <class Count, class Body>
    void for_each_owned(std::size_t rank, Count&& n_tasks_of, Body&& body, bool bound = false) {
        for (std::size_t offset = 0; offset < size_; ++offset) {
            const std::size_t owner = rank + offset < size_ ? rank + offset : rank + offset - size_;
            const std::size_t n_tasks = n_tasks_of(owner);
            if (n_tasks == 0) continue;
            const auto run = [&](std::size_t i) {
                body(owner, i);
                ++slots_[rank].tasks_done;
            };
            Claims& claims = slots_[owner].claims;
            if (owner == rank) {
                run(0);
                while (const std::optional<std::size_t> i = claims.next(n_tasks)) run(*i);
            } else if (!bound || !is_far()) {
                const std::size_t most = bound ? n_tasks / 2 : n_tasks;
                while (const std::optional<std::size_t> i = claims.last(n_tasks, most)) run(*i);
            }
        }
        barrier();
    }

    // The first task of an owner, where they own nearly equal ranges of [0, n_tasks).
    std::size_t first_task(std::size_t n_tasks, std::size_t owner) const { return n_tasks * owner / size_; }

    // The same with body(task) for each task in [0, n_tasks), which are owned in such ranges.
    template <class Body>
    void for_each(std::size_t rank, std::size_t n_tasks, Body&& body, bool bound = false) {
        const auto first = [&](std::size_t owner) { return first_task(n_tasks, owner); };
        for_each_owned(
            rank, [&](std::size_t owner) { return first(owner + 1) - first(owner); },
            [&](std::size_t owner, std::size_t i) { body(first(owner) + i); }, bound);
    }

 private:
    friend void run_region(Team& team, void (*body)(void*, std::size_t), void* context);

    // How many of an owner's tasks have been claimed: from the first on by itself, from the last on by others.
    class Claims {
     public:
        void reset() { counts_.store(1, std::memory_order_relaxed); }  // the first is the owner's
        // The owner's next task, and the last one for another thread, if others may have one more of at most `most`.
        std::optional<std::size_t> next(std::size_t n_tasks) { return claim(kByOwner, n_tasks, n_tasks); }
        std::optional<std::size_t> last(std::size_t n_tasks, std::size_t most) {
            return claim(kByOthers, n_tasks, most);
        }

     private:
        static constexpr std::uint64_t kByOwner = 1, kByOthers = std::uint64_t{1} << 32;

        std::optional<std::size_t> claim(std::uint64_t one, std::size_t n_tasks, std::size_t most_by_others) {
            std::uint64_t counts = counts_.load(std::memory_order_relaxed);
            for (;;) {
                const std::size_t by_owner = counts % kByOthers, by_others = counts / kByOthers;
                if (by_owner + by_others >= n_tasks || by_others >= most_by_others) return std::nullopt;
                if (counts_.compare_exchange_weak(counts, counts + one, std::memory_order_relaxed))
                    return one == kByOwner ? by_owner : n_tasks - 1 - by_others;
            }
        }

        std::atomic<std::uint64_t> counts_{1};
    };

    struct alignas(64) Slot {
        Claims claims;
        std::size_t tasks_done = 0;
        std::atomic<unsigned> ball{0};  // see measure_distance
    };

    void set_size(std::size_t size, std::size_t n_processors);
    void measure_distance(std::size_t rank);
    void barrier();
    bool has_passed(unsigned generation) const { return generation_.load() != generation; }
    void wait_patiently(unsigned generation);

    std::size_t size_ = 1;
    std::size_t most_threads_;
    std::unique_ptr<Slot[]> slots_;
    unsigned spins_ = 0;
    int assumed_far_ = -1;  // one answer for all threads: see assume_far
    double distance_ = 0.0;
    bool far_ = false;
    bool left_alone_ = false;
    alignas(64) std::atomic<std::size_t> arrived_{0};
    alignas(64) std::atomic<unsigned> generation_{0};
    std::atomic<unsigned> n_asleep_{0};  // seen by the last to arrive, or they see its generation_
    std::mutex sleep_mutex_;
    std::condition_variable awake_;
};

void run_region(Team& team, void (*body)(void*, std::size_t), void* context);

// Runs body(rank) on every thread of the team, whose size is known inside. With one thread no
// parallel region is opened. body must not throw. Throws std::system_error if the threads cannot be started.
template <class Body>
void run_team(Team& team, Body&& body) {
    run_region(team, [](void* context, std::size_t rank) { (*static_cast<Body*>(context))(rank); }, &body);
}

// What all teams are told from now on of their distance, which is measured if it is nothing; for tests and benchmarks.
void assume_far(std::optional<bool> far);

// pthread_atfork for handlers that wait for threads: they prepare for a fork while OpenMP still runs.
int at_fork(void (*prepare)(), void (*parent)(), void (*child)());

// Threads that `work` multiply-adds are worth, at least 1 and at most `limit`.
std::size_t threads_worth(double work, std::size_t limit);
// Whether it is worth threads that are far from one another: see Team::is_far.
bool worth_far_threads(double work);

// That the calling thread may run on, as far as OpenMP knows: 1 in a serial build.
std::size_t n_processors();

// The most threads that a team can have: 1 in a serial build.
std::size_t most_threads();

// What OpenMP would give the calling thread if nobody said how many: what omp_set_num_threads, which is what
// threadpoolctl calls, has set, or OMP_NUM_THREADS or the processors when the process began. 1 in a serial build.
std::size_t threads_by_default();

// "OpenMP 201511", or "none" in a serial build.
const char* parallel_runtime();

}  // namespace fastmlp
