// What the rasteriser's kernels share: how threads map to pixels, and which parts of the picture an ellipse touches.
#pragma once

#include "../cuda_launch.h"
#include "rasterize_cuda.h"
#include "rasterize_math.h"

namespace avatar {
namespace rasterize {
namespace on_device {

namespace math = avatar::AV_ISA;

constexpr int kWarp = 32, kThreads = kSide * kSide;  // a thread for each pixel of a tile
constexpr unsigned kAllLanes = 0xffffffffu;
// A warp owns a patch of 8x4 pixels, so that few splats of a tile concern it; patches are numbered row by row.
constexpr int kPatchWidth = 8, kPatchHeight = 4, kPatchColumns = kSide / kPatchWidth;

__host__ __device__ inline int columns_of(int width) { return (width + kSide - 1) / kSide; }

// Where thread `index` of a tile has its pixel, from the tile's corner.
__device__ inline int pixel_x(int index) {
    return index / kWarp % kPatchColumns * kPatchWidth + index % kWarp % kPatchWidth;
}
__device__ inline int pixel_y(int index) {
    return index / kWarp / kPatchColumns * kPatchHeight + index % kWarp / kPatchWidth;
}

__device__ inline DeviceRecord load_record(const DeviceRecord* from) {
    DeviceRecord record;
    for (int k = 0; k < 4; ++k)
        reinterpret_cast<float4*>(&record)[k] = __ldg(reinterpret_cast<const float4*>(from) + k);
    return record;
}

// The columns of pixels, from the picture's left edge, that the ellipse spans in pixel rows `top` to `top + height`.
__device__ inline math::Span<float> columns_in_rows(const DeviceRecord& r, float top, int height) {
    const float first = top + 0.5f - r.y;
    const math::Span<float> span = math::ellipse_span(r.l12, r.l22, r.inverse_l11, r.log_opacity - math::kLogMinAlpha,
                                                      r.reach_y, r.lean, first, first + float(height - 1));
    return {span.low + r.x, span.high + r.x};
}

// Bit p says that the ellipse holds a pixel centre of patch p of the tile with this corner (or nearly holds one).
__device__ inline unsigned patches_touched(const DeviceRecord& r, float corner_x, float corner_y) {
    unsigned mask = 0;
    for (int row = 0; row < kSide / kPatchHeight; ++row) {
        const math::Span<float> span = columns_in_rows(r, corner_y + float(row * kPatchHeight), kPatchHeight);
        for (int column = 0; column < kPatchColumns; ++column) {
            const float left = corner_x + float(column * kPatchWidth) + 0.5f, right = left + float(kPatchWidth - 1);
            if (span.low <= right && span.high >= left) mask |= 1u << (row * kPatchColumns + column);
        }
    }
    return mask;
}

// 2^power for powers from -8 to 0, where the device's own instruction (2^-22 relative) needs no care for denormals.
__device__ inline float exp2_of(float power) {
#if defined(__CUDA_ARCH__)
    float result;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(result) : "f"(power));
    return result;
#else
    return math::exp2(power);
#endif
}

__device__ inline float warp_sum(float value) {
    for (int step = kWarp / 2; step; step /= 2) value += __shfl_xor_sync(kAllLanes, value, step);
    return value;
}

}  // namespace on_device
}  // namespace rasterize
}  // namespace avatar
