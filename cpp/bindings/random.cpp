#include "../core/random.h"

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

}  // namespace

void bind_random(py::module_& m) {
    using namespace pybind11::literals;
    m.def(
        "philox_permutation",
        [](std::uint64_t seed, std::uint32_t purpose, std::uint32_t stream, std::size_t n) {
            return generate<std::int64_t>(n, [&](std::int64_t* out) { permutation({seed, purpose, stream}, n, out); });
        },
        "seed"_a, "purpose"_a, "stream"_a, "n"_a, "A uniform permutation of range(n).");
    m.def(
        "philox_uniform",
        [](std::uint64_t seed, std::uint32_t purpose, std::uint32_t stream, std::size_t n) {
            return generate<double>(n, [&](double* out) { uniforms({seed, purpose, stream}, n, out); });
        },
        "seed"_a, "purpose"_a, "stream"_a, "n"_a, "n numbers uniform in (0, 1).");
    m.def(
        "philox_normal",
        [](std::uint64_t seed, std::uint32_t purpose, std::uint32_t stream, std::size_t n) {
            return generate<double>(n, [&](double* out) { normals({seed, purpose, stream}, n, out); });
        },
        "seed"_a, "purpose"_a, "stream"_a, "n"_a, "n standard normal numbers.");
}

}  // namespace fastmlp::bindings
