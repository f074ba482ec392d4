// Gaussian rasteriser on a CUDA device: the formulas of rasterize_math.h, one thread for a splat or for a pixel.
//
// Tiles of 16x16 pixels are blocks of threads; pairs of (tile, splat) are sorted by tile and depth with one radix sort
// (Kerbl et al. 2023). The way back runs front to back, as on the CPU, and needs only the picture. Sums over pixels
// are made within a warp, then added with atomics, so gradients are not bit for bit repeatable.

#include <cub/device/device_radix_sort.cuh>
#include <cub/device/device_scan.cuh>
#include <stdexcept>
#include <string>

#include "rasterize_cuda.h"
#include "rasterize_math.h"

namespace avatar {
namespace rasterize {
namespace on_device {
namespace {

using namespace avatar::AV_ISA;

constexpr int kSide = 16, kThreads = kSide * kSide, kLinear = 256;

void check(cudaError_t status, const char* what) {
    if (status != cudaSuccess) throw std::runtime_error(std::string(what) + ": " + cudaGetErrorString(status));
}

int blocks_for(int64_t items) { return int((items + kLinear - 1) / kLinear); }

__host__ __device__ int columns_of(int width) { return (width + kSide - 1) / kSide; }

__device__ Pinhole<float> pinhole(const Camera& c) {
    Pinhole<float> p;
    for (int i = 0; i < 9; ++i) p.r[i] = c.rotation[i];
    for (int i = 0; i < 3; ++i) p.t[i] = c.translation[i];
    p.fx = c.focal[0], p.fy = c.focal[1], p.cx = c.center[0], p.cy = c.center[1];
    return p;
}

__device__ Splat<float> splat_at(const Splats& s, int64_t i) {
    return {{s.means[3 * i], s.means[3 * i + 1], s.means[3 * i + 2]},
            s.quats[4 * i],
            s.quats[4 * i + 1],
            s.quats[4 * i + 2],
            s.quats[4 * i + 3],
            {s.scales[3 * i], s.scales[3 * i + 1], s.scales[3 * i + 2]}};
}

// First and one past the last tile with a pixel centre within [center - reach, center + reach]; false if there is none.
__device__ bool tile_range(float center, float reach, int pixels, uint16_t& first, uint16_t& last) {
    const float margin = reach * 1.0001f + 1e-3f;
    const float low = ceilf(fmaxf(center - margin - 0.5f, 0.0f)), high = fminf(center + margin - 0.5f, pixels - 1.0f);
    if (!(center - center == 0.0f) || !(low <= high)) return false;
    first = uint16_t(int(low) / kSide);
    last = uint16_t(int(high) / kSide + 1);
    return true;
}

__global__ void project_kernel(Camera camera, Splats splats, Record* records, int32_t* tile_counts) {
    const int64_t i = int64_t(blockIdx.x) * blockDim.x + threadIdx.x;
    if (i >= splats.count) return;
    const Projection<float> p = project_splat(pinhole(camera), splat_at(splats, i));
    Record r{};
    r.x = p.mean_x, r.y = p.mean_y, r.l11 = p.l11, r.l12 = p.l12, r.l22 = p.l22, r.z = p.local.z;
    const float opacity = splats.opacities[i];
    r.log_opacity = log2f(opacity > 1e-30f ? opacity : 1e-30f);
    for (int k = 0; k < 3; ++k) r.colour[k] = splats.channels == 3 ? splats.colours[3 * i + k] : 0.0f;
    const float spread = (r.log_opacity - kLogMinAlpha) * kInverseWhite2;
    const bool seen = r.z > kNear && r.z < 1e30f && opacity == opacity && spread > 0 && spread < 1e3f &&
                      p.determinant < 1e30f &&
                      tile_range(r.x, sqrtf(spread * p.a), camera.width, r.tile_x0, r.tile_x1) &&
                      tile_range(r.y, sqrtf(spread * p.c), camera.height, r.tile_y0, r.tile_y1);
    if (!seen) r.tile_x0 = r.tile_x1 = r.tile_y0 = r.tile_y1 = 0;
    records[i] = r;
    tile_counts[i] = (r.tile_x1 - r.tile_x0) * (r.tile_y1 - r.tile_y0);
}

__global__ void list_kernel(const Record* records, const int32_t* ends, int count, int columns, int64_t* keys,
                            int32_t* splats) {
    const int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= count) return;
    const Record& r = records[i];
    int32_t at = i ? ends[i - 1] : 0;
    for (int y = r.tile_y0; y < r.tile_y1; ++y)
        for (int x = r.tile_x0; x < r.tile_x1; ++x, ++at) {
            keys[at] = int64_t(y * columns + x) << 32 | uint32_t(__float_as_int(r.z));
            splats[at] = i;
        }
}

// first[tile] is where the sorted keys reach that tile.
__global__ void tile_first_kernel(const int64_t* keys, int64_t slots, int tiles, int32_t* first) {
    const int64_t i = int64_t(blockIdx.x) * blockDim.x + threadIdx.x;
    if (i > slots) return;
    const int tile = i < slots ? int(keys[i] >> 32) : tiles, before = i ? int(keys[i - 1] >> 32) : -1;
    for (int t = before + 1; t <= tile; ++t) first[t] = int32_t(i);
}

struct Pixel {
    int x, y;
    int64_t index;
    bool inside;

    __device__ explicit Pixel(const Camera& c)
        : x(blockIdx.x * kSide + threadIdx.x % kSide),
          y(blockIdx.y * kSide + threadIdx.x / kSide),
          index(int64_t(y) * c.width + x),
          inside(x < c.width && y < c.height) {}
};

// What all pixels of a tile read of up to kThreads splats.
template <int C>
struct Batch {
    Record records[kThreads];
    int32_t splats[kThreads];
    float colours[kThreads][C];

    __device__ void fetch(const DrawJob& job, int entry) {
        const int64_t splat = job.bins.splats[entry];
        splats[threadIdx.x] = int32_t(splat);
        records[threadIdx.x] = job.records[splat];
        for (int k = 0; k < C && k < job.channels; ++k) colours[threadIdx.x][k] = job.colours[splat * job.channels + k];
    }
};

__device__ Footprint<float> on_pixel(const Record& r, const Pixel& p) {
    return footprint(r.l11, r.l12, r.l22, r.log_opacity, p.x + 0.5f - r.x, p.y + 0.5f - r.y);
}

template <int C>
__global__ void __launch_bounds__(kThreads) draw_kernel(DrawJob job) {
    __shared__ Batch<C> batch;
    const Pixel pixel(job.camera);
    const int tile = blockIdx.y * gridDim.x + blockIdx.x, end = job.bins.first[tile + 1];
    float light = pixel.inside ? 1.0f : 0.0f, depth = 0, colour[C] = {};
    for (int start = job.bins.first[tile]; start < end; start += kThreads) {
        if (!__syncthreads_or(light >= kMinLight)) break;
        if (start + int(threadIdx.x) < end) batch.fetch(job, start + threadIdx.x);
        __syncthreads();
        for (int j = 0; j < kThreads && start + j < end && light >= kMinLight; ++j) {
            const Record& r = batch.records[j];
            const Footprint<float> f = on_pixel(r, pixel);
            if (!(f.power >= kLogMinAlpha)) continue;
            const float alpha = minimum(avatar::AV_ISA::exp2(f.power), kMaxAlpha), weight = light * alpha;
            light = fnma(light, alpha, light);
            depth = avatar::AV_ISA::fma(weight, r.z, depth);
            for (int k = 0; k < C; ++k) colour[k] = avatar::AV_ISA::fma(weight, batch.colours[j][k], colour[k]);
        }
    }
    if (!pixel.inside) return;
    job.image.alpha[pixel.index] = 1.0f - light;
    job.image.depth[pixel.index] = depth;
    for (int k = 0; k < C && k < job.channels; ++k) {
        const int64_t at = pixel.index * job.channels + k;
        job.image.colour[at] = job.background ? avatar::AV_ISA::fma(light, job.background[at], colour[k]) : colour[k];
    }
}

__device__ float warp_sum(float value) {
    for (int step = 16; step; step /= 2) value += __shfl_xor_sync(0xffffffffu, value, step);
    return value;
}

// Add the sums of a warp to the gradients of one splat.
template <int C>
__device__ void add_gradients(const DrawJob& job, int64_t splat, const Moments<float>& m, const float* colour) {
    const float moments[kGeometryGradients] = {m.e, m.eu, m.ev, m.euu, m.euv, m.evv, m.z};
    float* sums = job.slots + splat * (kGeometryGradients + job.channels);
    for (int k = 0; k < kGeometryGradients; ++k) {
        const float all = warp_sum(moments[k]);
        if (threadIdx.x % 32 == 0) atomicAdd(sums + k, all);
    }
    for (int k = 0; k < C; ++k) {
        const float all = warp_sum(colour[k]);
        if (threadIdx.x % 32 == 0 && k < job.channels) atomicAdd(sums + kGeometryGradients + k, all);
    }
}

template <int C>
struct Upstream {
    float colour[C] = {}, alpha = 0, depth = 0, remaining = 0;

    __device__ Upstream(const DrawJob& job, const Pixel& p) {
        if (!p.inside) return;
        const ImageGradient& g = job.gradient;
        if (g.alpha) alpha = g.alpha[p.index];
        if (g.depth) depth = g.depth[p.index];
        remaining = alpha * job.image.alpha[p.index] + depth * job.image.depth[p.index];
        for (int k = 0; k < C && k < job.channels; ++k) {
            if (g.colour) colour[k] = g.colour[p.index * job.channels + k];
            remaining += colour[k] * job.image.colour[p.index * job.channels + k];
        }
    }
};

template <int C>
__global__ void __launch_bounds__(kThreads) draw_backward_kernel(DrawJob job) {
    __shared__ Batch<C> batch;
    const Pixel pixel(job.camera);
    Upstream<C> up(job, pixel);
    const int tile = blockIdx.y * gridDim.x + blockIdx.x, end = job.bins.first[tile + 1];
    float light = pixel.inside ? 1.0f : 0.0f;
    for (int start = job.bins.first[tile]; start < end; start += kThreads) {
        if (!__syncthreads_or(light >= kMinLight)) break;
        if (start + int(threadIdx.x) < end) batch.fetch(job, start + threadIdx.x);
        __syncthreads();
        for (int j = 0; j < kThreads && start + j < end; ++j) {
            const Record& r = batch.records[j];
            const Footprint<float> f = on_pixel(r, pixel);
            const bool drawn = light >= kMinLight && f.power >= kLogMinAlpha;
            if (!__any_sync(0xffffffffu, drawn)) continue;
            Moments<float> m{};
            float colour[C] = {};
            if (drawn) {
                const float full = avatar::AV_ISA::exp2(f.power), alpha = minimum(full, kMaxAlpha);
                const float weight = light * alpha;
                float s = avatar::AV_ISA::fma(up.depth, r.z, up.alpha);
                for (int k = 0; k < C; ++k) {
                    s = avatar::AV_ISA::fma(up.colour[k], k < job.channels ? batch.colours[j][k] : 0.0f, s);
                    colour[k] = weight * up.colour[k];
                }
                up.remaining = fnma(weight, s, up.remaining);
                const float e = full < kMaxAlpha ? log_alpha_gradient(light, alpha, s, up.remaining) : 0.0f;
                add_moments(m, f, e, weight * up.depth);
                light = fnma(light, alpha, light);
            }
            add_gradients<C>(job, batch.splats[j], m, colour);
        }
    }
}

__global__ void project_backward_kernel(Camera camera, Splats splats, const Record* records, const float* sums,
                                        SplatsGradient out) {
    const int64_t i = int64_t(blockIdx.x) * blockDim.x + threadIdx.x;
    const bool drawn = i < splats.count && records[i].tile_x1 > records[i].tile_x0;
    const float* m = sums + i * (kGeometryGradients + splats.channels);
    SplatGradient<float> g{};
    float pose[kPose] = {};
    if (drawn) {
        const Pinhole<float> cam = pinhole(camera);
        const Splat<float> s = splat_at(splats, i);
        const Moments<float> moments{m[0], m[1], m[2], m[3], m[4], m[5], m[6]};
        const Projection<float> p = project_splat(cam, s);
        g = project_splat_backward(cam, s, p, moments);
        pose_gradient(s, p, g, pose);
    }
    for (int k = 0; out.pose && k < kPose; ++k) {
        const float all = warp_sum(pose[k]);
        if (threadIdx.x % 32 == 0) atomicAdd(out.pose + k, all);
    }
    if (i >= splats.count) return;
    const float mean[3] = {g.mean.x, g.mean.y, g.mean.z}, quat[4] = {g.w, g.x, g.y, g.z};
    for (int k = 0; k < 3; ++k) out.means[3 * i + k] = mean[k], out.scales[3 * i + k] = g.scale[k];
    for (int k = 0; k < 4; ++k) out.quats[4 * i + k] = quat[k];
    out.opacities[i] = drawn ? m[0] / splats.opacities[i] : 0.0f;
    for (int k = 0; k < splats.channels; ++k)
        out.colours[i * splats.channels + k] = drawn ? m[kGeometryGradients + k] : 0.0f;
}

cudaStream_t queue(void* stream) { return static_cast<cudaStream_t>(stream); }

dim3 grid_of(const Camera& c) { return dim3(columns_of(c.width), columns_of(c.height)); }

// The bits of a key that differ: the depth and as much of the tile as there are tiles.
int key_bits(int tiles) {
    int bits = 32;
    while (tiles >> (bits - 32)) ++bits;
    return bits;
}

}  // namespace

int tiles(int height, int width) { return columns_of(height) * columns_of(width); }

size_t scratch_bytes(int splats, int64_t slots) {
    size_t scan = 0, sort = 0;
    check(cub::DeviceScan::InclusiveSum(nullptr, scan, static_cast<int32_t*>(nullptr), static_cast<int32_t*>(nullptr),
                                        splats),
          "size of the scan");
    check(cub::DeviceRadixSort::SortPairs(nullptr, sort, static_cast<int64_t*>(nullptr), static_cast<int64_t*>(nullptr),
                                          static_cast<int32_t*>(nullptr), static_cast<int32_t*>(nullptr), slots),
          "size of the sort");
    return (scan > sort ? scan : sort) + 1;
}

int64_t project(const Camera& camera, const Splats& splats, Record* records, int32_t* ends, void* scratch,
                size_t scratch_bytes, void* stream) {
    if (!splats.count) return 0;
    project_kernel<<<blocks_for(splats.count), kLinear, 0, queue(stream)>>>(camera, splats, records, ends);
    check(cudaGetLastError(), "projecting splats");
    check(cub::DeviceScan::InclusiveSum(scratch, scratch_bytes, ends, ends, splats.count, queue(stream)),
          "counting tiles");
    int32_t slots = 0;
    check(cudaMemcpyAsync(&slots, ends + splats.count - 1, sizeof(slots), cudaMemcpyDeviceToHost, queue(stream)),
          "reading the number of tiles");
    check(cudaStreamSynchronize(queue(stream)), "projecting splats");
    return slots;
}

void draw(const DrawJob& given, int count, const int32_t* ends, int64_t slots, const Lists& lists, void* stream) {
    DrawJob job = given;
    const int all = tiles(job.camera.height, job.camera.width);
    if (!all) return;
    if (slots) {
        size_t bytes = lists.scratch_bytes;
        list_kernel<<<blocks_for(count), kLinear, 0, queue(stream)>>>(
            job.records, ends, count, columns_of(job.camera.width), lists.keys[0], lists.splats[0]);
        check(cudaGetLastError(), "listing splats");
        check(cub::DeviceRadixSort::SortPairs(lists.scratch, bytes, lists.keys[0], lists.keys[1], lists.splats[0],
                                              lists.splats[1], slots, 0, key_bits(all), queue(stream)),
              "sorting splats");
    }
    tile_first_kernel<<<blocks_for(slots + 1), kLinear, 0, queue(stream)>>>(lists.keys[1], slots, all,
                                                                            lists.tile_first);
    job.bins = {lists.tile_first, lists.splats[1]};
    if (job.channels == 3)
        draw_kernel<3><<<grid_of(job.camera), kThreads, 0, queue(stream)>>>(job);
    else
        draw_kernel<kMaxChannels><<<grid_of(job.camera), kThreads, 0, queue(stream)>>>(job);
    check(cudaGetLastError(), "drawing splats");
}

void draw_backward(const DrawJob& job, const Splats& splats, const SplatsGradient& gradient, void* stream) {
    if (!splats.count) return;
    if (tiles(job.camera.height, job.camera.width)) {
        if (job.channels == 3)
            draw_backward_kernel<3><<<grid_of(job.camera), kThreads, 0, queue(stream)>>>(job);
        else
            draw_backward_kernel<kMaxChannels><<<grid_of(job.camera), kThreads, 0, queue(stream)>>>(job);
        check(cudaGetLastError(), "gradients of splats");
    }
    project_backward_kernel<<<blocks_for(splats.count), kLinear, 0, queue(stream)>>>(job.camera, splats, job.records,
                                                                                     job.slots, gradient);
    check(cudaGetLastError(), "gradients of the projection");
}

}  // namespace on_device
}  // namespace rasterize
}  // namespace avatar
