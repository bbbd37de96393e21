#include "../core/augment.h"

#include <cmath>

#include "bindings.h"

namespace fastmlp::bindings {

namespace {

std::shared_ptr<Augmentation> make_augmentation(std::size_t height, std::size_t width, std::uint64_t seed, double shift,
                                                double rotation, double scale, double shear, double alpha,
                                                double sigma) {
    if (height < 1 || width < 1 || height > kMaxImageSide || width > kMaxImageSide)
        throw py::value_error("images must have 1 to " + std::to_string(kMaxImageSide) + " pixels a side");
    for (const double setting : {shift, alpha})
        if (!(setting >= 0.0 && setting <= kMaxShift)) throw py::value_error("shift or alpha out of range");
    if (!(rotation >= 0.0 && rotation <= 180.0)) throw py::value_error("rotation out of range");
    if (!(scale >= 0.0 && scale < 1.0)) throw py::value_error("scale out of range");
    if (!(shear >= 0.0 && shear < 90.0)) throw py::value_error("shear out of range");
    if (!(sigma > 0.0 && sigma <= kMaxSigma)) throw py::value_error("sigma out of range");
    return std::make_shared<Augmentation>(
        AugmentationSettings{height, width, seed, shift, rotation, scale, shear, alpha, sigma});
}

py::array_t<std::uint8_t> apply(const Augmentation& augmentation, const py::array& images, std::uint32_t epoch,
                                py::ssize_t threads, const std::string& instruction_set) {
    const auto* in = in_place<std::uint8_t>(images, 3, "images");
    if (extent(images, 1) != augmentation.height() || extent(images, 2) != augmentation.width())
        throw py::value_error("images have another height or width");
    const KernelTable& kernels = kernels_named(instruction_set);
    const std::size_t n_images = extent(images, 0), limit = thread_limit(threads);
    auto result = new_array<std::uint8_t>({n_images, augmentation.height(), augmentation.width()});
    std::uint8_t* out = result.mutable_data();
    const ReleasedGil released;
    augment_images(augmentation, kernels, epoch, in, n_images, out, limit);
    return result;
}

}  // namespace

void bind_augment(py::module_& m) {
    using namespace pybind11::literals;
    py::class_<Augmentation, std::shared_ptr<Augmentation>>(m, "Augmentation", py::is_final(),
                                                            "Random distortions of images of one size.")
        .def(py::init(&make_augmentation), "height"_a, "width"_a, py::kw_only(), "seed"_a, "shift"_a, "rotation"_a,
             "scale"_a, "shear"_a, "alpha"_a, "sigma"_a)
        .def("apply", &apply, "images"_a, "epoch"_a, "threads"_a, "instruction_set"_a = "",
             "The images, distorted as image number 0, 1, ... of this epoch.");
    refuse_uninitialized<Augmentation>();
}

}  // namespace fastmlp::bindings
