// Gaussian rasteriser on a CUDA device: the launches. Pointers are device memory that the caller owns; every call is
// queued on `stream` of the current device, and throws std::runtime_error when CUDA reports an error.
#pragma once

#include <cstddef>
#include <cstdint>

#include "rasterize.h"

namespace avatar {
namespace rasterize {
namespace on_device {

constexpr int kMaxChannels = 16;

struct Lists {
    int64_t* keys[2];     // [slots] (tile, depth) of each pair of splat and tile; two buffers to sort
    int32_t* splats[2];   // [slots]; the second one holds the sorted lists
    int32_t* tile_first;  // [tiles + 1]
    void* scratch;
    size_t scratch_bytes;
};

int tiles(int height, int width);
size_t scratch_bytes(int splats, int64_t slots);

// Fills records and ends [splats] (running sum of the tiles of each splat); waits for and returns the number of slots.
int64_t project(const Camera&, const Splats&, Record*, int32_t* ends, void* scratch, size_t scratch_bytes,
                void* stream);
// job.bins is not read: the lists are made here, and left in lists.splats[1] and lists.tile_first for the way back.
void draw(const DrawJob&, int count, const int32_t* ends, int64_t slots, const Lists&, void* stream);
// job.slots are sums for each splat, [splats, kGeometryGradients + channels], zero before the call.
void draw_backward(const DrawJob&, const Splats&, const SplatsGradient&, void* stream);

}  // namespace on_device
}  // namespace rasterize
}  // namespace avatar
