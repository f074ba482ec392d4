// Gaussian rasteriser: the data that its parts hand to each other. avatar/ops/reference.py is the specification.
#pragma once

#include <cstdint>

namespace avatar {
namespace rasterize {

constexpr int kTile = 32;  // pixels; a tile is 8x8 blocks
constexpr int kBlock = 4;  // pixels; a block is 4x4 pixels, one bit of a tile's 64-bit mask
constexpr int kTilePixels = kTile * kTile;
constexpr int kMaxChannels = 64;
constexpr int kGeometryGradients = 7;  // e, e u, e v, e u u, e u v, e v v, z: see rasterize_math.h

struct Camera {
    float rotation[9], translation[3];  // x_camera = rotation x_world + translation
    float focal[2], center[2];          // pixels
    int height, width;

    int tile_rows() const { return (height + kTile - 1) / kTile; }
    int tile_columns() const { return (width + kTile - 1) / kTile; }
};

struct Splats {
    const float *means, *quats, *scales, *opacities, *colours;
    int count, channels;
};

// A projected splat: one cache line.
struct alignas(64) Record {
    float x, y;                                   // pixels
    float l11, l12, l22;                          // log2(alpha) = log_opacity - (l11 dx + l12 dy)^2 - (l22 dy)^2
    float log_opacity;                            // base 2
    float z;                                      // metres
    float colour[3];                              // valid for 3 channels
    int32_t first_slot;                           // of its gradients, one slot for each tile that it may touch
    uint16_t tile_x0, tile_x1, tile_y0, tile_y1;  // half open; empty when it is not drawn
    float inverse_l11, reach_y, lean;  // of the ellipse alpha = 1/255: half height, and dy of its rightmost point

    int tiles() const { return (tile_x1 - tile_x0) * (tile_y1 - tile_y0); }
};
static_assert(sizeof(Record) == 64, "a record is one cache line");

struct Bins {
    const int32_t* first;   // [tiles + 1] into splats
    const int32_t* splats;  // tile after tile, front to back
};

struct Image {
    float *colour, *alpha, *depth;  // [h w c], [h w], [h w]; colour (over the background) and depth premultiplied
};

struct ImageGradient {  // null is zero
    const float *colour, *alpha, *depth;
};

struct SplatsGradient {
    float *means, *quats, *scales, *opacities, *colours;
    float* pose;  // of T_camera_world, rows of four: [12] for each task of kSplatsPerTask splats
};

constexpr int kSplatsPerTask = 4096;
constexpr int kPose = 12;

struct DrawJob {
    Camera camera;
    const Record* records;
    const float* colours;  // [n channels]
    int channels;
    Bins bins;
    const float* background;  // [h w c] behind the splats, or null; forward only
    Image image;              // written forward, read backward
    ImageGradient gradient;   // backward only
    float* slots;             // backward only: [slots, kGeometryGradients + channels]
};

// One set of loops for each instruction set.
struct Kernels {
    void (*project)(const Camera&, const Splats&, Record*, int begin, int end);
    void (*draw)(const DrawJob&, int tile, float* scratch);
    void (*draw_backward)(const DrawJob&, int tile, float* scratch);
    void (*project_backward)(const Camera&, const Splats&, const Record*, const float* slots, const SplatsGradient&,
                             int begin, int end);
};

// Floats of scratch memory that a thread needs.
constexpr int scratch_floats(int channels) { return (4 + 2 * channels) * kTilePixels + 4096; }

// What rasterize_bind.cpp calls. The gradient's `pose` is [12] there.
int64_t project(const Camera&, const Splats&, Record*, int threads);  // returns the number of slots
void draw(const DrawJob&, int count, int32_t* tile_first, int32_t* tile_splats, int threads);
void draw_backward(const DrawJob&, const Splats&, const SplatsGradient&, int threads);

}  // namespace rasterize
}  // namespace avatar
