// Gaussian rasteriser on a CUDA device, second half: blending the listed splats of each tile, and the way back.
//
// Forward, a block of threads is a tile and a thread is a pixel; each warp owns a patch of 8x4 pixels and walks only
// the splats whose ellipse reaches into it. Backward, a warp is a bucket of 32 splats and a lane is a splat: the pixels
// stream through the lanes, one lane behind the other (the idea of Taming 3DGS, Mallick et al. 2024), so each splat's
// gradients add up in registers and reach memory once for each bucket. A bucket starts from the light, and the rest of
// sum(weight * s), that a first walk over the tile left for it. The sums use atomics: their order is not repeatable.

#include "rasterize_device.h"

namespace avatar {
namespace rasterize {
namespace on_device {

// In rasterize_cuda.cu.
void project_backward(const Camera&, const Splats&, const DeviceRecord*, const float* sums, const SplatsGradient&,
                      void* stream);

namespace {

using math::Footprint;
using math::kLogMinAlpha;
using math::kMaxAlpha;
using math::kMinLight;

constexpr int kBucketThreads = 128, kRing = 2 * kWarp;

struct Pixel {
    int tile, corner_x, corner_y, x, y;
    int64_t index;
    bool inside;

    __device__ Pixel(const Camera& c, int tile_index, int thread) : tile(tile_index) {
        const int columns = columns_of(c.width);
        corner_x = tile % columns * kSide, corner_y = tile / columns * kSide;
        x = corner_x + pixel_x(thread), y = corner_y + pixel_y(thread);
        index = int64_t(y) * c.width + x;
        inside = x < c.width && y < c.height;
    }
};

template <int C>
struct alignas(C == 3 ? 16 : 4) Values {
    float colour[C], z;

    __device__ void load(const TileJob& job, const DeviceRecord& r, int64_t splat) {
        z = r.z;
        for (int k = 0; k < C; ++k)
            colour[k] = C == 3 ? r.colour[k % 3] : k < job.channels ? job.colours[splat * job.channels + k] : 0.0f;
    }
};

// What all pixels of a tile read of up to kThreads splats.
template <int C>
struct Batch {
    float4 shapes[kThreads];  // x, y, l11, l12
    float2 powers[kThreads];  // l22, log_opacity
    Values<C> values[kThreads];
    uint8_t patches[kThreads];  // see patches_touched

    __device__ void fetch(const TileJob& job, const Pixel& pixel, int entry, int end) {
        const int at = threadIdx.x;
        patches[at] = 0;
        if (entry >= end) return;
        const int64_t splat = job.tile_splats[entry];
        const DeviceRecord r = load_record(job.records + splat);
        shapes[at] = make_float4(r.x, r.y, r.l11, r.l12);
        powers[at] = make_float2(r.l22, r.log_opacity);
        values[at].load(job, r, splat);
        patches[at] = uint8_t(patches_touched(r, float(pixel.corner_x), float(pixel.corner_y)));
    }
};

// Front to back over a tile's splats: on_bucket(b) before each 32 of them, on_splat(values, weight) for what is drawn.
template <int C, class OnBucket, class OnSplat>
__device__ void walk_tile(const TileJob& job, const Pixel& pixel, float& light, OnBucket on_bucket, OnSplat on_splat) {
    __shared__ Batch<C> batch;
    const int warp = threadIdx.x / kWarp, lane = threadIdx.x % kWarp;
    const int first = job.tile_first[pixel.tile], end = job.tile_first[pixel.tile + 1];
    const float x = float(pixel.x) + 0.5f, y = float(pixel.y) + 0.5f;
    for (int start = first; start < end; start += kThreads) {
        if (!__syncthreads_or(light >= kMinLight)) return;
        batch.fetch(job, pixel, start + threadIdx.x, end);
        __syncthreads();
        for (int part = 0; part < kThreads && start + part < end; part += kWarp) {
            on_bucket((start - first + part) / kWarp);
            unsigned hits = __ballot_sync(kAllLanes, batch.patches[part + lane] >> warp & 1);
            if (!__any_sync(kAllLanes, light >= kMinLight)) continue;
            for (; hits; hits &= hits - 1) {
                const int j = part + __ffs(int(hits)) - 1;
                const float4 shape = batch.shapes[j];
                const float2 power = batch.powers[j];
                const Footprint<float> f =
                    math::footprint(shape.z, shape.w, power.x, power.y, x - shape.x, y - shape.y);
                if (!(light >= kMinLight && f.power >= kLogMinAlpha)) continue;
                const float alpha = math::minimum(exp2_of(f.power), kMaxAlpha);
                on_splat(batch.values[j], light * alpha);
                light = math::fnma(light, alpha, light);
            }
        }
    }
}

template <int C>
__global__ void __launch_bounds__(kThreads) draw_kernel(TileJob job) {
    const Pixel pixel(job.camera, int(blockIdx.x), int(threadIdx.x));
    float light = pixel.inside ? 1.0f : 0.0f, depth = 0, colour[C] = {};
    walk_tile<C>(
        job, pixel, light, [](int) {},
        [&](const Values<C>& v, float weight) {
            depth = math::fma(weight, v.z, depth);
            for (int k = 0; k < C; ++k) colour[k] = math::fma(weight, v.colour[k], colour[k]);
        });
    if (!pixel.inside) return;
    job.image.alpha[pixel.index] = 1.0f - light;
    job.image.depth[pixel.index] = depth;
    for (int k = 0; k < C && k < job.channels; ++k) {
        const int64_t at = pixel.index * job.channels + k;
        job.image.colour[at] = job.background ? math::fma(light, job.background[at], colour[k]) : colour[k];
    }
}

// The gradient of one pixel, and what s adds up to behind the current splat: all of it, to begin with.
template <int C>
struct Upstream {
    float colour[C] = {}, alpha = 0, depth = 0;

    __device__ Upstream(const TileJob& job, const Pixel& p) {
        if (!p.inside) return;
        const ImageGradient& g = job.gradient;
        if (g.alpha) alpha = g.alpha[p.index];
        if (g.depth) depth = g.depth[p.index];
        for (int k = 0; g.colour && k < C && k < job.channels; ++k) colour[k] = g.colour[p.index * job.channels + k];
    }

    __device__ float total(const TileJob& job, const Pixel& p) const {
        if (!p.inside) return 0;
        float sum = alpha * job.image.alpha[p.index] + depth * job.image.depth[p.index];
        for (int k = 0; k < C && k < job.channels; ++k) sum += colour[k] * job.image.colour[p.index * job.channels + k];
        return sum;
    }

    __device__ float along(const Values<C>& v) const {
        float s = math::fma(depth, v.z, alpha);
        for (int k = 0; k < C; ++k) s = math::fma(colour[k], v.colour[k], s);
        return s;
    }
};

struct Buckets {
    float2* begin;   // [count, kThreads] light and remaining of each pixel before the bucket
    int32_t* tiles;  // [count], -1 where there is no bucket or no light reaches it
    float* sums;     // [n, kGeometryGradients + channels]
    int64_t count;
    size_t sums_bytes, bytes;

    Buckets(void* memory, int64_t splats, int channels, int64_t pairs, int all_tiles)
        : count(pairs / kWarp + all_tiles), sums_bytes(sizeof(float) * splats * (kGeometryGradients + channels)) {
        Workspace w(memory);
        begin = w.take<float2>(count * kThreads);
        tiles = w.take<int32_t>(count);
        sums = w.take<float>(int64_t(sums_bytes / sizeof(float)));
        bytes = w.bytes();
    }
};

// Leaves room for the buckets of all tiles before, without counting them: ceil(c / 32) <= (f + c) / 32 - f / 32 + 1.
__device__ int64_t first_bucket(int tile_first, int tile) { return tile_first / kWarp + tile; }

template <int C>
__global__ void __launch_bounds__(kThreads) begin_buckets_kernel(TileJob job, Buckets out) {
    const Pixel pixel(job.camera, int(blockIdx.x), int(threadIdx.x));
    const Upstream<C> up(job, pixel);
    const int64_t base = first_bucket(job.tile_first[pixel.tile], pixel.tile);
    float light = pixel.inside ? 1.0f : 0.0f, remaining = up.total(job, pixel);
    walk_tile<C>(
        job, pixel, light,
        [&](int bucket) {
            out.begin[(base + bucket) * kThreads + threadIdx.x] = make_float2(light, remaining);
            if (threadIdx.x == 0) out.tiles[base + bucket] = pixel.tile;
        },
        [&](const Values<C>& v, float weight) { remaining = math::fnma(weight, up.along(v), remaining); });
}

// The pixels that a bucket works on, as they stream through its lanes; each warp has its own.
template <int C>
struct Stream {
    uint8_t pixels[kThreads];
    float4 places[kRing];  // x, y, gradient of alpha, gradient of depth
    float2 begin[kRing];   // light, remaining
    float colours[C][kRing];

    // Pixels where light is left, in patches that some splat of the bucket touches.
    __device__ int collect(const float2* bucket_begin, unsigned patches) {
        const int lane = threadIdx.x % kWarp;
        int count = 0;
        for (int patch = 0; patch < kThreads / kWarp; ++patch) {
            if (!__any_sync(kAllLanes, patches >> patch & 1)) continue;
            const int pixel = patch * kWarp + lane;
            const bool wanted = bucket_begin[pixel].x >= kMinLight;
            const unsigned lanes = __ballot_sync(kAllLanes, wanted);
            if (wanted) pixels[count + __popc(lanes & ((1u << lane) - 1))] = uint8_t(pixel);
            count += __popc(lanes);
        }
        __syncwarp();
        return count;
    }

    // 32 more; the shuffles of the steps before have kept all lanes off this half of the ring.
    __device__ void load(const TileJob& job, const float2* bucket_begin, int tile, int item, int count) {
        if (item < count) {
            const Pixel pixel(job.camera, tile, pixels[item]);
            const Upstream<C> up(job, pixel);
            const int at = item % kRing;
            places[at] = make_float4(float(pixel.x) + 0.5f, float(pixel.y) + 0.5f, up.alpha, up.depth);
            begin[at] = bucket_begin[pixels[item]];
            for (int k = 0; k < C; ++k) colours[k][at] = up.colour[k];
        }
        __syncwarp();
    }
};

// One splat and its sums over the pixels that passed by.
template <int C>
struct Lane {
    DeviceRecord r;
    Values<C> values;
    math::Moments<float> moments{};
    float colour[C] = {};
    bool touched = false;

    __device__ void blend(const Stream<C>& stream, int at, float& light, float& remaining) {
        const float4 place = stream.places[at];
        const Footprint<float> f = math::footprint(r.l11, r.l12, r.l22, r.log_opacity, place.x - r.x, place.y - r.y);
        if (!(light >= kMinLight && f.power >= kLogMinAlpha)) return;
        touched = true;
        const float full = exp2_of(f.power), alpha = math::minimum(full, kMaxAlpha), weight = light * alpha;
        float s = math::fma(place.w, values.z, place.z);
        for (int k = 0; k < C; ++k) {
            const float gradient = stream.colours[k][at];
            s = math::fma(gradient, values.colour[k], s);
            colour[k] = math::fma(weight, gradient, colour[k]);
        }
        remaining = math::fnma(weight, s, remaining);
        const float e = full < kMaxAlpha ? math::log_alpha_gradient(light, alpha, s, remaining) : 0.0f;
        math::add_moments(moments, f, e, weight * place.w);
        light = math::fnma(light, alpha, light);
    }

    __device__ void add_to(float* sums, int channels) const {
        if (!touched) return;
        const math::Moments<float>& m = moments;
        const float geometry[kGeometryGradients] = {m.e, m.eu, m.ev, m.euu, m.euv, m.evv, m.z};
        for (int k = 0; k < kGeometryGradients; ++k) atomicAdd(sums + k, geometry[k]);
        for (int k = 0; k < C; ++k)
            if (k < channels) atomicAdd(sums + kGeometryGradients + k, colour[k]);
    }
};

template <int C>
__global__ void __launch_bounds__(kBucketThreads) bucket_kernel(TileJob job, Buckets buckets) {
    __shared__ Stream<C> streams[kBucketThreads / kWarp];
    const int lane = threadIdx.x % kWarp;
    const int64_t bucket = int64_t(blockIdx.x) * (kBucketThreads / kWarp) + threadIdx.x / kWarp;
    const int tile = bucket < buckets.count ? buckets.tiles[bucket] : -1;
    if (tile < 0) return;  // the whole warp
    Stream<C>& stream = streams[threadIdx.x / kWarp];
    const float2* begin = buckets.begin + bucket * kThreads;
    const int first = job.tile_first[tile];
    const int64_t entry = first + (bucket - first_bucket(first, tile)) * kWarp + lane;
    const bool mine = entry < job.tile_first[tile + 1];
    const int64_t splat = mine ? job.tile_splats[entry] : 0;
    Lane<C> own;
    own.r = load_record(job.records + splat);
    own.values.load(job, own.r, splat);
    if (!mine) own.r.log_opacity = -1e30f;  // draws nothing

    const Pixel corner(job.camera, tile, 0);
    const unsigned patches = mine ? patches_touched(own.r, float(corner.corner_x), float(corner.corner_y)) : 0;
    const int count = stream.collect(begin, patches);
    if (!count) return;  // the whole warp
    float light = 0, remaining = 0;
    for (int step = 0; step < count + kWarp - 1; ++step) {
        if (step % kWarp == 0) stream.load(job, begin, tile, step + lane, count);
        light = __shfl_up_sync(kAllLanes, light, 1);
        remaining = __shfl_up_sync(kAllLanes, remaining, 1);
        const int item = step - lane;  // lane after lane, each pixel meets the bucket's splats front to back
        if (item < 0 || item >= count) continue;
        const int at = item % kRing;
        if (lane == 0) light = stream.begin[at].x, remaining = stream.begin[at].y;
        own.blend(stream, at, light, remaining);
    }
    if (mine) own.add_to(buckets.sums + splat * (kGeometryGradients + job.channels), job.channels);
}

template <int C>
void sum_over_pixels(const TileJob& job, const Buckets& buckets, int all, void* stream) {
    launch("light before buckets", begin_buckets_kernel<C>, dim3(unsigned(all)), kThreads, stream, job, buckets);
    const dim3 blocks = blocks_for(buckets.count, kBucketThreads / kWarp);
    launch("gradients of splats", bucket_kernel<C>, blocks, kBucketThreads, stream, job, buckets);
}

}  // namespace

void draw(const TileJob& job, void* stream) {
    const int all = tiles(job.camera.height, job.camera.width);
    if (!all) return;
    const auto kernel = job.channels == 3 ? draw_kernel<3> : draw_kernel<kMaxChannels>;
    launch("drawing splats", kernel, dim3(unsigned(all)), kThreads, stream, job);
}

size_t backward_bytes(int count, int channels, int64_t pairs, int height, int width) {
    return Buckets(nullptr, count, channels, pairs, tiles(height, width)).bytes;
}

void draw_backward(const TileJob& job, const Splats& splats, int64_t pairs, const SplatsGradient& gradient,
                   void* workspace, void* stream) {
    if (!splats.count) return;
    const int all = tiles(job.camera.height, job.camera.width);
    const Buckets buckets(workspace, splats.count, job.channels, pairs, all);
    check(cudaMemsetAsync(buckets.sums, 0, buckets.sums_bytes, queue(stream)), "gradients of splats");
    if (pairs) {
        check(cudaMemsetAsync(buckets.tiles, 0xff, sizeof(int32_t) * buckets.count, queue(stream)), "listing buckets");
        if (job.channels == 3)
            sum_over_pixels<3>(job, buckets, all, stream);
        else
            sum_over_pixels<kMaxChannels>(job, buckets, all, stream);
    }
    project_backward(job.camera, splats, job.records, buckets.sums, gradient, stream);
}

}  // namespace on_device
}  // namespace rasterize
}  // namespace avatar
