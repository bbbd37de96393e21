#include "../core/random.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <iterator>
#include <limits>
#include <new>

#include "../core/floating_point.h"
#include "../core/parallel.h"
#include "../dispatch/dispatch.h"
#include "bindings.h"

namespace fastmlp::bindings {

namespace {

// Chosen once: random numbers do not depend on it, and a fit should not on what FASTMLP_ISA has become since.
const KernelTable& kernels_chosen() {
    static const KernelTable& kernels = *select_instruction_set().kernels;
    return kernels;
}

template <class Element, class Generate>
py::array_t<Element> generate(std::size_t n, Generate fill) {
    py::array_t<Element> out = new_array<Element>({n});
    Element* data = out.mutable_data();
    const ReleasedGil released;
    fill(data);
    return out;
}

// uniforms or normals.
using Numbers = void (*)(const KernelTable& kernels, const RandomSequence& sequence, std::uint64_t first, std::size_t n,
                         double* out);

template <Numbers kNumbers>
py::array_t<double> numbers(std::uint64_t seed, std::uint32_t purpose, std::uint32_t stream, std::size_t n) {
    const KernelTable& kernels = kernels_chosen();
    return generate<double>(n, [&](double* out) {
        const FloatingPointScope scope(kernels);
        kNumbers(kernels, {seed, purpose, stream}, 0, n, out);
    });
}

// Rounded here, since NumPy would round as the caller's floating-point state says.
template <Numbers kNumbers>
py::array_t<float> scaled_numbers(std::uint64_t seed, std::uint32_t purpose, std::uint32_t stream, std::size_t n,
                                  double scale, double shift) {
    const KernelTable& kernels = kernels_chosen();
    return generate<float>(n, [&](float* out) {
        const FloatingPointScope scope(kernels);
        double some[1024];
        static_assert(std::size(some) % kRandomNumbers == 0);
        for (std::size_t first = 0; first < n; first += std::size(some)) {
            const std::size_t count = std::min(n - first, std::size(some));
            kNumbers(kernels, {seed, purpose, stream}, first, count, some);
            for (std::size_t i = 0; i < count; ++i) out[first + i] = static_cast<float>(scale * some[i] + shift);
        }
    });
}

// Of fewer numbers than these the permutations are not worth a team: some 40 microseconds.
constexpr std::size_t kNumbersForTeam = std::size_t{1} << 14;

// The permutations of n_streams streams, from this one on, one after the other.
py::array_t<std::int64_t> permutations(std::uint64_t seed, std::uint32_t purpose, std::uint32_t stream, std::size_t n,
                                       std::size_t n_streams, py::ssize_t threads) {
    if (n_streams > std::numeric_limits<std::uint32_t>::max() - stream + std::uint64_t{1})
        throw py::value_error("there are 2^32 streams");
    if (n_streams > 0 && n > std::numeric_limits<std::size_t>::max() / n_streams) throw std::bad_alloc();
    const KernelTable& kernels = kernels_chosen();
    const std::size_t limit = thread_limit(threads);
    Team team(n_streams > 1 && n_streams * n >= kNumbersForTeam ? limit : 1);
    return generate<std::int64_t>(n_streams * n, [&](std::int64_t* out) {
        run_team(team, [&](std::size_t rank) {
            team.for_each(rank, n == 0 ? 0 : n_streams, [&](std::size_t i) {
                permutation(kernels, {seed, purpose, stream + static_cast<std::uint32_t>(i)}, n, out + i * n);
            });
        });
    });
}

}  // namespace

void bind_random(py::module_& m) {
    using namespace pybind11::literals;
    m.def("philox_permutation", &permutations, "seed"_a, "purpose"_a, "stream"_a, "n"_a, "n_streams"_a = 1,
          "threads"_a = 1, "A uniform permutation of range(n); of several streams, one after the other.");
    m.def("philox_uniform", &numbers<uniforms>, "seed"_a, "purpose"_a, "stream"_a, "n"_a,
          "n numbers uniform in (0, 1).");
    m.def("philox_normal", &numbers<normals>, "seed"_a, "purpose"_a, "stream"_a, "n"_a, "n standard normal numbers.");
    m.def("scaled_uniform", &scaled_numbers<uniforms>, "seed"_a, "purpose"_a, "stream"_a, "n"_a, "scale"_a, "shift"_a,
          "scale * philox_uniform(seed, purpose, stream, n) + shift as float32.");
    m.def("scaled_normal", &scaled_numbers<normals>, "seed"_a, "purpose"_a, "stream"_a, "n"_a, "scale"_a, "shift"_a,
          "scale * philox_normal(seed, purpose, stream, n) + shift as float32.");
}

}  // namespace fastmlp::bindings
