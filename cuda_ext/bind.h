// What the parts of the Python module share: tensors come as addresses, since the library knows no torch.
#pragma once

#include <nanobind/nanobind.h>
#include <nanobind/stl/array.h>

#include <array>
#include <cstdint>

namespace avatar {

namespace nb = nanobind;

using Pointer = uintptr_t;        // of a tensor's first element; 0 is none
using Size = std::array<int, 2>;  // height, width
using Two = std::array<Pointer, 2>;
using Three = std::array<Pointer, 3>;
using Five = std::array<Pointer, 5>;

template <class T>
T* at(Pointer p) {
    return reinterpret_cast<T*>(p);
}

// Kernels run without the interpreter's lock.
using Released = nb::call_guard<nb::gil_scoped_release>;

void bind_adam(nb::module_&);
void bind_binding(nb::module_&);
void bind_hashgrid(nb::module_&);
void bind_image(nb::module_&);
void bind_mesh(nb::module_&);
void bind_posing(nb::module_&);
void bind_rasterize(nb::module_&);
void bind_raymarch(nb::module_&);

}  // namespace avatar
