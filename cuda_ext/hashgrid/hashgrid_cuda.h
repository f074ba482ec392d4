// Multiresolution hash encoding on a CUDA device: the launches. Pointers are device memory that the caller owns; every
// call is queued on `stream` of the current device, and throws std::runtime_error when CUDA reports an error.
#pragma once

#include "hashgrid.h"

namespace avatar {
namespace hashgrid {
namespace on_device {

// out and job.gradient are [points, levels * features].
void encode(const Job&, float* out, void* stream);
void backward_table(const Job&, float* out, void* stream);
void backward_positions(const Job&, float* out, void* stream);

}  // namespace on_device
}  // namespace hashgrid
}  // namespace avatar
