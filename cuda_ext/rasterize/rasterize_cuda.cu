// Gaussian rasteriser on a CUDA device, first half: from splats to lists of splats for each tile, front to back.
//
// The splats are sorted by depth before they are paired with tiles, and the pairs by a stable sort of 16-bit tile keys:
// far less to move than 64-bit keys of all pairs (Kerbl et al. 2023). A tile is paired with a splat only if the ellipse
// alpha >= 1/255 reaches into it, row of tiles by row (the idea of Speedy-Splat, Hanson et al. 2025, and of FlashGS,
// Feng et al. 2025). The host waits once, for the number of pairs, while the device goes on sorting.

#include <cub/device/device_radix_sort.cuh>
#include <cub/device/device_scan.cuh>

#include "rasterize_device.h"

namespace avatar {
namespace rasterize {
namespace on_device {
namespace {

using namespace avatar::AV_ISA;

constexpr uint32_t kHidden = 0xffffffffu;  // as a depth it comes last
constexpr int kRowsOfLane = 8;             // of tiles, that one lane lists alone

__device__ Pinhole<float> pinhole(const Camera& c) {
    Pinhole<float> p;
    for (int i = 0; i < 9; ++i) p.r[i] = c.rotation[i];
    for (int i = 0; i < 3; ++i) p.t[i] = c.translation[i];
    p.fx = c.focal[0], p.fy = c.focal[1], p.cx = c.center[0], p.cy = c.center[1];
    return p;
}

__device__ Splat<float> splat_at(const Splats& s, int64_t i) {
    const float4 q = make_float4(s.quats[4 * i], s.quats[4 * i + 1], s.quats[4 * i + 2], s.quats[4 * i + 3]);
    return {{s.means[3 * i], s.means[3 * i + 1], s.means[3 * i + 2]},   q.x, q.y, q.z, q.w,
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

struct Columns {
    int first, last;  // half open
};

// The tiles of one row that the ellipse reaches into.
__device__ Columns tiles_in_row(const DeviceRecord& r, int row) {
    const Span<float> span = columns_in_rows(r, float(row * kSide), kSide);
    if (!(span.low <= span.high)) return {0, 0};
    const float low = ceilf((span.low - 0.5f - float(kSide - 1)) / kSide), high = floorf((span.high - 0.5f) / kSide);
    const int first = int(fmaxf(low, float(r.tile_x0))), last = int(fminf(high, float(r.tile_x1) - 1.0f)) + 1;
    return {first, last > first ? last : first};
}

struct Projected {  // of each splat; `sorted` and `ends` follow the order of depth
    uint32_t *depths = nullptr, *sorted = nullptr;
    int32_t *index = nullptr, *order = nullptr, *counts = nullptr, *ends = nullptr;
    unsigned long long* pairs;
    char* scratch;
    size_t scratch_bytes, bytes;

    Projected(void* memory, int count) {
        size_t sort = 0, scan = 0;
        check(cub::DeviceRadixSort::SortPairs(nullptr, sort, depths, sorted, index, order, count), "size of the sort");
        check(cub::DeviceScan::InclusiveSum(nullptr, scan, ends, ends, count), "size of the scan");
        scratch_bytes = sort > scan ? sort : scan;
        Workspace w(memory);
        depths = w.take<uint32_t>(count), sorted = w.take<uint32_t>(count);
        index = w.take<int32_t>(count), order = w.take<int32_t>(count);
        counts = w.take<int32_t>(count), ends = w.take<int32_t>(count);
        pairs = w.take<unsigned long long>(1);
        scratch = w.take<char>(int64_t(scratch_bytes));
        bytes = w.bytes();
    }
};

__device__ DeviceRecord record_of(const Projection<float>& p, float opacity) {
    DeviceRecord r{};
    r.x = p.mean_x, r.y = p.mean_y, r.l11 = p.l11, r.l12 = p.l12, r.l22 = p.l22, r.z = p.local.z;
    r.log_opacity = log2f(opacity > 1e-30f ? opacity : 1e-30f);
    r.inverse_l11 = 1.0f / p.l11;
    const float spread = (r.log_opacity - kLogMinAlpha) * kInverseWhite2, ratio = p.l12 / p.l22;
    r.reach_y = sqrtf(maximum(spread, 0.0f) * p.c);
    r.lean = -ratio / sqrtf(avatar::AV_ISA::fma(ratio, ratio, 1.0f)) * r.reach_y;
    return r;
}

__global__ void __launch_bounds__(kLinearThreads)
    project_kernel(Camera camera, Splats splats, DeviceRecord* records, Projected out) {
    const int i = int(blockIdx.x * blockDim.x + threadIdx.x);
    int count = 0;
    if (i < splats.count) {
        const Projection<float> p = project_splat(pinhole(camera), splat_at(splats, i));
        const float opacity = splats.opacities[i];
        DeviceRecord r = record_of(p, opacity);
        for (int k = 0; k < 3; ++k) r.colour[k] = splats.channels == 3 ? splats.colours[3 * int64_t(i) + k] : 0.0f;
        const float spread = (r.log_opacity - kLogMinAlpha) * kInverseWhite2;
        const bool seen = r.z > kNear && r.z < 1e30f && opacity == opacity && spread > 0 && spread < 1e3f &&
                          p.determinant < 1e30f &&
                          tile_range(r.x, sqrtf(spread * p.a), camera.width, r.tile_x0, r.tile_x1) &&
                          tile_range(r.y, r.reach_y, camera.height, r.tile_y0, r.tile_y1);
        for (int row = r.tile_y0; seen && row < r.tile_y1; ++row) {
            const Columns c = tiles_in_row(r, row);
            count += c.last - c.first;
        }
        if (!count) r.tile_x0 = r.tile_x1 = r.tile_y0 = r.tile_y1 = 0;
        records[i] = r;
        out.depths[i] = count ? __float_as_uint(r.z) : kHidden;  // bits of positive floats grow with their values
        out.index[i] = i;
        out.counts[i] = count;
    }
    unsigned long long all = count;
    for (int step = kWarp / 2; step; step /= 2) all += __shfl_xor_sync(kAllLanes, all, step);
    if (threadIdx.x % kWarp == 0 && all) atomicAdd(out.pairs, all);
}

__global__ void __launch_bounds__(kLinearThreads) counts_by_depth_kernel(int count, Projected p) {
    const int s = int(blockIdx.x * blockDim.x + threadIdx.x);
    if (s < count) p.ends[s] = p.counts[p.order[s]];
}

template <class Key>
struct Pairs {
    Key* keys[2];
    char* scratch;
    size_t scratch_bytes = 0, bytes;

    Pairs(void* memory, int64_t pairs) {
        cub::DoubleBuffer<Key> k(nullptr, nullptr);
        cub::DoubleBuffer<int32_t> v(nullptr, nullptr);
        check(cub::DeviceRadixSort::SortPairs(nullptr, scratch_bytes, k, v, pairs), "size of the sort of tiles");
        Workspace w(memory);
        keys[0] = w.take<Key>(pairs), keys[1] = w.take<Key>(pairs);
        scratch = w.take<char>(int64_t(scratch_bytes));
        bytes = w.bytes();
    }
};

// Writes pairs of one splat and tiles of some rows to [next, end); returns where the next ones go.
template <class Key>
struct Writer {
    Key* keys;
    int32_t* splats;
    int columns;

    __device__ int row(Columns c, int y, int splat, int next, int end) const {
        for (int x = c.first; x < c.last && next < end; ++x, ++next) {
            keys[next] = Key(y * columns + x);
            splats[next] = splat;
        }
        return next;
    }

    // All lanes of a warp for one splat, a row each.
    __device__ int rows_of_warp(const DeviceRecord& r, int splat, int next, int end) const {
        const int lane = threadIdx.x % kWarp;
        for (int top = r.tile_y0; top < r.tile_y1; top += kWarp) {
            const int y = top + lane;
            const Columns c = y < r.tile_y1 ? tiles_in_row(r, y) : Columns{0, 0};
            int before = c.last - c.first;  // becomes a running sum over the lanes
            for (int step = 1; step < kWarp; step *= 2) {
                const int other = __shfl_up_sync(kAllLanes, before, step);
                if (lane >= step) before += other;
            }
            row(c, y, splat, next + before - (c.last - c.first), end);
            next += __shfl_sync(kAllLanes, before, kWarp - 1);
        }
        return next;
    }
};

// A lane lists its own splat if that is small; the warp shares the rows of tiles of large ones, which hold up nobody.
template <class Key>
__global__ void __launch_bounds__(kLinearThreads)
    list_kernel(const DeviceRecord* records, int count, int tiles, Projected p, Writer<Key> out) {
    const int s = int(blockIdx.x * blockDim.x + threadIdx.x), lane = threadIdx.x % kWarp;
    const int splat = s < count ? p.order[s] : 0, end = s < count ? p.ends[s] : 0;
    int next = s && s < count ? p.ends[s - 1] : 0;
    int rows = 0;
    if (next < end) {
        const DeviceRecord r = load_record(records + splat);
        rows = r.tile_y1 - r.tile_y0;
        for (int y = r.tile_y0; rows <= kRowsOfLane && y < r.tile_y1; ++y)
            next = out.row(tiles_in_row(r, y), y, splat, next, end);
    }
    for (unsigned large = __ballot_sync(kAllLanes, rows > kRowsOfLane); large; large &= large - 1) {
        const int owner = __ffs(int(large)) - 1, its = __shfl_sync(kAllLanes, splat, owner);
        const int from = __shfl_sync(kAllLanes, next, owner), to = __shfl_sync(kAllLanes, end, owner);
        const int after = out.rows_of_warp(load_record(records + its), its, from, to);
        if (lane == owner) next = after;
    }
    // Should rounding differ from the count's, what is missing is filled with pairs that belong to no tile.
    for (; next < end; ++next) {
        out.keys[next] = Key(tiles);
        out.splats[next] = splat;
    }
}

// first[tile] is where the sorted keys reach that tile.
template <class Key>
__global__ void __launch_bounds__(kLinearThreads)
    tile_first_kernel(const Key* keys, int64_t pairs, int tiles, int32_t* first) {
    const int64_t i = int64_t(blockIdx.x) * blockDim.x + threadIdx.x;
    if (i > pairs) return;
    const int tile = i < pairs ? int(keys[i]) : tiles, before = i ? int(keys[i - 1]) : -1;
    for (int t = before + 1; t <= tile; ++t) first[t] = int32_t(i);
}

// Keys run to `tiles`, the key of no tile.
bool short_keys(int tiles) { return tiles <= 0xffff; }

int key_bits(int tiles) {
    int bits = 1;
    while (tiles >> bits) ++bits;
    return bits;
}

template <class Key>
int list_with(const Camera& camera, const DeviceRecord* records, int count, int64_t pairs, const Projected& p,
              int32_t* const splats[2], int32_t* tile_first, void* memory, void* stream) {
    const int all = tiles(camera.height, camera.width);
    Pairs<Key> space(memory, pairs);
    cub::DoubleBuffer<Key> keys(space.keys[0], space.keys[1]);
    cub::DoubleBuffer<int32_t> values(splats[0], splats[1]);
    if (pairs) {
        const Writer<Key> writer{keys.Current(), values.Current(), columns_of(camera.width)};
        launch("listing splats", list_kernel<Key>, blocks_for(count), kLinearThreads, stream, records, count, all, p,
               writer);
        check(cub::DeviceRadixSort::SortPairs(space.scratch, space.scratch_bytes, keys, values, pairs, 0, key_bits(all),
                                              queue(stream)),
              "sorting splats by tile");
    }
    launch("finding tiles", tile_first_kernel<Key>, blocks_for(pairs + 1), kLinearThreads, stream, keys.Current(),
           pairs, all, tile_first);
    return values.selector;
}

// A number that the device writes and the host reads; one for each thread of the host, never given back.
unsigned long long* landing_place() {
    thread_local unsigned long long* place = nullptr;
    if (!place) check(cudaMallocHost(reinterpret_cast<void**>(&place), sizeof(*place)), "pinned memory");
    return place;
}

struct Event {
    cudaEvent_t event;
    Event() { check(cudaEventCreateWithFlags(&event, cudaEventDisableTiming), "making an event"); }
    ~Event() { cudaEventDestroy(event); }
    Event(const Event&) = delete;
    Event& operator=(const Event&) = delete;
};

__global__ void __launch_bounds__(kLinearThreads)
    project_backward_kernel(Camera camera, Splats splats, const DeviceRecord* records, const float* sums,
                            SplatsGradient out) {
    __shared__ float pose_parts[kPose][kLinearThreads / kWarp];
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
    if (i < splats.count) {
        const float mean[3] = {g.mean.x, g.mean.y, g.mean.z}, quat[4] = {g.w, g.x, g.y, g.z};
        for (int k = 0; k < 3; ++k) out.means[3 * i + k] = mean[k], out.scales[3 * i + k] = g.scale[k];
        for (int k = 0; k < 4; ++k) out.quats[4 * i + k] = quat[k];
        out.opacities[i] = drawn ? m[0] / splats.opacities[i] : 0.0f;
        for (int k = 0; k < splats.channels; ++k)
            out.colours[i * splats.channels + k] = drawn ? m[kGeometryGradients + k] : 0.0f;
    }
    if (!out.pose) return;
    for (int k = 0; k < kPose; ++k) {
        const float all = warp_sum(pose[k]);
        if (threadIdx.x % kWarp == 0) pose_parts[k][threadIdx.x / kWarp] = all;
    }
    __syncthreads();
    if (threadIdx.x >= kPose) return;
    float total = 0;
    for (const float part : pose_parts[threadIdx.x]) total += part;
    atomicAdd(out.pose + threadIdx.x, total);
}

}  // namespace

int tiles(int height, int width) { return columns_of(height) * columns_of(width); }

size_t project_bytes(int count) { return Projected(nullptr, count).bytes; }

int64_t project(const Camera& camera, const Splats& splats, DeviceRecord* records, void* workspace, void* stream) {
    if (!splats.count) return 0;
    Projected p(workspace, splats.count);
    check(cudaMemsetAsync(p.pairs, 0, sizeof(*p.pairs), queue(stream)), "projecting splats");
    const dim3 blocks = blocks_for(splats.count);
    launch("projecting splats", project_kernel, blocks, kLinearThreads, stream, camera, splats, records, p);
    const Event counted;
    unsigned long long* pairs = landing_place();
    check(cudaMemcpyAsync(pairs, p.pairs, sizeof(*pairs), cudaMemcpyDeviceToHost, queue(stream)), "counting tiles");
    check(cudaEventRecord(counted.event, queue(stream)), "counting tiles");
    check(cub::DeviceRadixSort::SortPairs(p.scratch, p.scratch_bytes, p.depths, p.sorted, p.index, p.order,
                                          splats.count, 0, 32, queue(stream)),
          "sorting splats by depth");
    launch("ordering counts", counts_by_depth_kernel, blocks, kLinearThreads, stream, splats.count, p);
    check(cub::DeviceScan::InclusiveSum(p.scratch, p.scratch_bytes, p.ends, p.ends, splats.count, queue(stream)),
          "adding counts up");
    check(cudaEventSynchronize(counted.event), "projecting splats");
    if (*pairs > 0x7fffffffull - kLinearThreads)
        throw std::runtime_error("the splats cover " + std::to_string(*pairs) +
                                 " tiles in all, more than 2^31: draw a smaller picture, or fewer or smaller splats");
    return int64_t(*pairs);
}

size_t list_bytes(int64_t pairs, int height, int width) {
    return short_keys(tiles(height, width)) ? Pairs<uint16_t>(nullptr, pairs).bytes
                                            : Pairs<uint32_t>(nullptr, pairs).bytes;
}

int list_tiles(const Camera& camera, const DeviceRecord* records, int count, int64_t pairs,
               const void* project_workspace, int32_t* const splats[2], int32_t* tile_first, void* workspace,
               void* stream) {
    const Projected p(const_cast<void*>(project_workspace), count);
    const bool narrow = short_keys(tiles(camera.height, camera.width));
    const auto list = narrow ? list_with<uint16_t> : list_with<uint32_t>;
    return list(camera, records, count, pairs, p, splats, tile_first, workspace, stream);
}

void project_backward(const Camera& camera, const Splats& splats, const DeviceRecord* records, const float* sums,
                      const SplatsGradient& gradient, void* stream) {
    launch("gradients of the projection", project_backward_kernel, blocks_for(splats.count), kLinearThreads, stream,
           camera, splats, records, sums, gradient);
}

}  // namespace on_device
}  // namespace rasterize
}  // namespace avatar
