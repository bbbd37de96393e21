// Views of panel matrices, and ranges of their rows and panels.
#pragma once

#include <algorithm>
#include <cstddef>

#include "../kernels/kernel_table.h"

namespace fastmlp {

// [begin, end): rows, panels, features or tasks.
struct Range {
    std::size_t begin;
    std::size_t end;
    std::size_t size() const { return end - begin; }
};

// Part `part` of `parts` nearly equal ones of [0, n). All but the last end in a multiple of `unit`.
inline Range even_part(std::size_t n, std::size_t part, std::size_t parts, std::size_t unit = 1) {
    const std::size_t units = (n + unit - 1) / unit;
    return {std::min(n, units * part / parts * unit), std::min(n, units * (part + 1) / parts * unit)};
}

// The same of a range.
inline Range even_part(Range of, std::size_t part, std::size_t parts, std::size_t unit = 1) {
    const Range some = even_part(of.size(), part, parts, unit);
    return {of.begin + some.begin, of.begin + some.end};
}

template <class Element>
struct PanelsOf {
    Element* data;
    std::size_t stride;  // between panels

    Element* at(std::size_t row, std::size_t panel) const { return data + panel * stride + row * kPanel; }
};
using Panels = PanelsOf<float>;
using ConstPanels = PanelsOf<const float>;

// Columns in these panels, at least one, of a matrix of so many.
inline std::size_t columns_in(Range panels, std::size_t n_columns) {
    return std::min(panels.end * kPanel, n_columns) - panels.begin * kPanel;
}

// Words that n numbers make.
inline std::size_t n_words(Words words, std::size_t n) { return words == Words::kFloats ? n : (n + 1) / 2; }

}  // namespace fastmlp
