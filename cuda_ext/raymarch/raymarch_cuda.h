// Ray marching and blending on a CUDA device: the launches. Pointers are device memory that the caller owns; every call
// is queued on `stream` of the current device, and throws std::runtime_error when CUDA reports an error.
#pragma once

#include "raymarch.h"

namespace avatar {
namespace raymarch {
namespace on_device {

// occupied has a byte for each cell.
void count(const March&, const uint8_t* occupied, const Rays&, int64_t* counts, void* stream);
void fill(const March&, const uint8_t* occupied, const Rays&, const int64_t* packed, const Samples&, void* stream);

// Samples that job.packed names but that are not there are left out. Outputs for each sample are zero before the call.
void blend(const Blend&, const Picture&, void* stream);
void blend_backward(const Blend&, const BlendGradient&, void* stream);

}  // namespace on_device
}  // namespace raymarch
}  // namespace avatar
