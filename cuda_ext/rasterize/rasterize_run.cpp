// Gaussian rasteriser on the CPU: two parallel regions forward (splats, tiles) and two backward (tiles, splats), with
// the depth sort and the lists of the tiles between them on one thread (1 ms for 50,000 splats). Each sum is made by
// one thread in a fixed order, so results do not depend on the number of threads.

#include <algorithm>
#include <cstring>
#include <memory>
#include <new>
#include <vector>

#include "../cpu_features.h"
#include "../threads.h"
#include "rasterize.h"

AV_SELECT_KERNELS(avatar::rasterize::Kernels, rasterize_kernels)

namespace avatar {
namespace rasterize {
namespace {

constexpr int kDigitBits = 12, kBuckets = 1 << kDigitBits;

struct Key {
    uint32_t depth;
    int32_t splat;
};

template <class Body>
void over_splats(int count, int threads, Body body) {
    const int tasks = (count + kSplatsPerTask - 1) / kSplatsPerTask;
    parallel_for(tasks, threads,
                 [&](int task, int) { body(task * kSplatsPerTask, std::min(count, (task + 1) * kSplatsPerTask)); });
}

struct AlignedDelete {
    void operator()(float* p) const { ::operator delete[](p, std::align_val_t(64)); }
};

template <class Body>
void over_tiles(const DrawJob& job, int threads, Body body) {
    const size_t size = scratch_floats(job.channels);
    const std::unique_ptr<float[], AlignedDelete> scratch(new (std::align_val_t(64)) float[size * threads]);
    parallel_for(job.camera.tile_rows() * job.camera.tile_columns(), threads,
                 [&](int tile, int worker) { body(tile, scratch.get() + worker * size); });
}

// Splats that are drawn, by growing depth, equal depths by index: a stable radix sort. Bits of a positive float grow
// with its value; only the digits in which the depths differ are sorted.
std::vector<Key> sorted_by_depth(const Record* records, int count) {
    std::vector<Key> keys;
    keys.reserve(count);
    uint32_t lowest = ~0u, highest = 0;
    for (int i = 0; i < count; ++i) {
        if (!records[i].tiles()) continue;
        uint32_t bits;
        std::memcpy(&bits, &records[i].z, 4);
        keys.push_back({bits, i});
        lowest = std::min(lowest, bits), highest = std::max(highest, bits);
    }
    if (keys.empty()) return keys;
    std::vector<Key> other(keys.size());
    for (int shift = 0; shift < 32 && ((highest - lowest) >> shift); shift += kDigitBits) {
        int32_t first[kBuckets + 1] = {};
        for (const Key& k : keys) ++first[((k.depth - lowest) >> shift & (kBuckets - 1)) + 1];
        for (int b = 0; b < kBuckets; ++b) first[b + 1] += first[b];
        for (const Key& k : keys) other[first[(k.depth - lowest) >> shift & (kBuckets - 1)]++] = k;
        keys.swap(other);
    }
    return keys;
}

template <class Body>
void over_tiles_of(const Record& r, int columns, Body body) {
    for (int y = r.tile_y0; y < r.tile_y1; ++y)
        for (int x = r.tile_x0; x < r.tile_x1; ++x) body(y * columns + x);
}

void list_tiles(const DrawJob& job, int count, int32_t* first, int32_t* splats) {
    const int columns = job.camera.tile_columns(), tiles = columns * job.camera.tile_rows();
    std::memset(first, 0, sizeof(int32_t) * (tiles + 1));
    for (int i = 0; i < count; ++i) over_tiles_of(job.records[i], columns, [&](int tile) { ++first[tile + 1]; });
    for (int tile = 0; tile < tiles; ++tile) first[tile + 1] += first[tile];
    std::vector<int32_t> next(first, first + tiles);
    for (const Key& key : sorted_by_depth(job.records, count))
        over_tiles_of(job.records[key.splat], columns, [&](int tile) { splats[next[tile]++] = key.splat; });
}

}  // namespace

int64_t project(const Camera& camera, const Splats& splats, Record* records, int threads) {
    const Kernels& kernels = select_kernels();
    over_splats(splats.count, threads,
                [&](int begin, int end) { kernels.project(camera, splats, records, begin, end); });
    int64_t slots = 0;
    for (int i = 0; i < splats.count; ++i) {
        records[i].first_slot = int32_t(slots);
        slots += records[i].tiles();
    }
    return slots;
}

void draw(const DrawJob& job, int count, int32_t* tile_first, int32_t* tile_splats, int threads) {
    const Kernels& kernels = select_kernels();
    list_tiles(job, count, tile_first, tile_splats);
    over_tiles(job, threads, [&](int tile, float* scratch) { kernels.draw(job, tile, scratch); });
}

void draw_backward(const DrawJob& job, const Splats& splats, const SplatsGradient& gradient, int threads) {
    const Kernels& kernels = select_kernels();
    over_tiles(job, threads, [&](int tile, float* scratch) { kernels.draw_backward(job, tile, scratch); });
    std::vector<float> poses(size_t(splats.count + kSplatsPerTask - 1) / kSplatsPerTask * kPose);
    SplatsGradient parts = gradient;
    parts.pose = poses.data();
    over_splats(splats.count, threads, [&](int begin, int end) {
        kernels.project_backward(job.camera, splats, job.records, job.slots, parts, begin, end);
    });
    for (int k = 0; k < kPose; ++k) {
        double total = 0;
        for (size_t i = k; i < poses.size(); i += kPose) total += poses[i];
        gradient.pose[k] = float(total);
    }
}

}  // namespace rasterize
}  // namespace avatar
