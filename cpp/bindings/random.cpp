#include "../core/random.h"

#include <algorithm>
#include <iterator>

#include "../core/floating_point.h"
#include "../dispatch/dispatch.h"
#include "bindings.h"

namespace fastmlp::bindings {

namespace {

template <class Element, class Generate>
py::array_t<Element> generate(std::size_t n, Generate fill) {
    py::array_t<Element> out = new_array<Element>({n});
    Element* data = out.mutable_data();
    const ReleasedGil released;
    fill(data);
    return out;
}

// uniforms or normals.
using Numbers = void (*)(const RandomSequence& sequence, std::uint64_t first, std::size_t n, double* out);

template <Numbers kNumbers>
py::array_t<double> numbers(std::uint64_t seed, std::uint32_t purpose, std::uint32_t stream, std::size_t n) {
    const KernelTable& kernels = *select_instruction_set().kernels;
    return generate<double>(n, [&](double* out) {
        const FloatingPointScope scope(kernels);
        kNumbers({seed, purpose, stream}, 0, n, out);
    });
}

// Rounded here, since NumPy would round as the caller's floating-point state says.
template <Numbers kNumbers>
py::array_t<float> scaled_numbers(std::uint64_t seed, std::uint32_t purpose, std::uint32_t stream, std::size_t n,
                                  double scale, double shift) {
    const KernelTable& kernels = *select_instruction_set().kernels;
    return generate<float>(n, [&](float* out) {
        const FloatingPointScope scope(kernels);
        double some[1024];
        for (std::size_t first = 0; first < n; first += std::size(some)) {
            const std::size_t count = std::min(n - first, std::size(some));
            kNumbers({seed, purpose, stream}, first, count, some);
            for (std::size_t i = 0; i < count; ++i) out[first + i] = static_cast<float>(scale * some[i] + shift);
        }
    });
}

}  // namespace

void bind_random(py::module_& m) {
    using namespace pybind11::literals;
    m.def(
        "philox_permutation",
        [](std::uint64_t seed, std::uint32_t purpose, std::uint32_t stream, std::size_t n) {
            return generate<std::int64_t>(n, [&](std::int64_t* out) { permutation({seed, purpose, stream}, n, out); });
        },
        "seed"_a, "purpose"_a, "stream"_a, "n"_a, "A uniform permutation of range(n).");
    m.def("philox_uniform", &numbers<uniforms>, "seed"_a, "purpose"_a, "stream"_a, "n"_a,
          "n numbers uniform in (0, 1).");
    m.def("philox_normal", &numbers<normals>, "seed"_a, "purpose"_a, "stream"_a, "n"_a, "n standard normal numbers.");
    m.def("scaled_uniform", &scaled_numbers<uniforms>, "seed"_a, "purpose"_a, "stream"_a, "n"_a, "scale"_a, "shift"_a,
          "scale * philox_uniform(seed, purpose, stream, n) + shift as float32.");
    m.def("scaled_normal", &scaled_numbers<normals>, "seed"_a, "purpose"_a, "stream"_a, "n"_a, "scale"_a, "shift"_a,
          "scale * philox_normal(seed, purpose, stream, n) + shift as float32.");
}

}  // namespace fastmlp::bindings
