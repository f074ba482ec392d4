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
constexpr int kSide = 16;  // pixels of a tile, both ways

// A projected splat: four vector loads.
struct alignas(16) DeviceRecord {
    float x, y, l11, l12;                          // pixels; see Record
    float l22, log_opacity, inverse_l11, reach_y;  // base 2
    float lean, z;                                 // metres
    uint16_t tile_x0, tile_x1, tile_y0, tile_y1;   // half open; empty when it is not drawn
    float colour[3], unused;                       // valid for 3 channels
};
static_assert(sizeof(DeviceRecord) == 64, "four vector loads");

// What the kernels of a tile read and write.
struct TileJob {
    Camera camera;
    const DeviceRecord* records;
    const float* colours;  // [n channels]
    int channels;
    const int32_t* tile_first;  // [tiles + 1] into tile_splats
    const int32_t* tile_splats;
    const float* background;  // [h w c] or null; forward only
    Image image;              // written forward, read backward
    ImageGradient gradient;   // backward only
};

int tiles(int height, int width);

// Projects, sorts by depth and counts tiles. Waits for the projection alone and returns the pairs of splat and tile;
// `workspace` of project_bytes(count) must live until the lists are made.
size_t project_bytes(int count);
int64_t project(const Camera&, const Splats&, DeviceRecord*, void* workspace, void* stream);

// The splats of each tile, front to back. `splats` are two buffers of [pairs]; returns which of them holds the lists.
size_t list_bytes(int64_t pairs, int height, int width);
int list_tiles(const Camera&, const DeviceRecord*, int count, int64_t pairs, const void* project_workspace,
               int32_t* const splats[2], int32_t* tile_first, void* workspace, void* stream);

void draw(const TileJob&, void* stream);

// Needs backward_bytes; adds to gradient.pose unless it is null, and writes the others.
size_t backward_bytes(int count, int channels, int64_t pairs, int height, int width);
void draw_backward(const TileJob&, const Splats&, int64_t pairs, const SplatsGradient&, void* workspace, void* stream);

}  // namespace on_device
}  // namespace rasterize
}  // namespace avatar
