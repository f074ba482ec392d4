// Ray marching and blending on the CPU: pieces of rays for each thread; no result depends on their number.

#include <cmath>
#include <cstring>

#include "../cpu_features.h"
#include "../threads.h"
#include "raymarch.h"

AV_SELECT_KERNELS(avatar::raymarch::Kernels, raymarch_kernels)

namespace avatar {
namespace raymarch {
namespace {

constexpr int64_t kRays = 128;  // of one piece of work

// work(ray) for all rays.
template <class Work>
void for_rays(int64_t rays, int threads, Work work) {
    parallel_for(int((rays + kRays - 1) / kRays), threads, [&](int item, int) {
        const int64_t from = item * kRays, to = from + kRays < rays ? from + kRays : rays;
        for (int64_t ray = from; ray < to; ++ray) work(ray);
    });
}

}  // namespace

// spacing: near, far, step, cone
March::March(const float* box_low, const float* box_high, const int* grid, const float* spacing)
    : near_t(spacing[0]), far_t(spacing[1]), step(spacing[2]), even_until(0), log_growth(0) {
    for (int d = 0; d < 3; ++d) {
        low[d] = box_low[d], high[d] = box_high[d], cells[d] = grid[d];
        scale[d] = float(grid[d] / (double(box_high[d]) - box_low[d]));
    }
    if (spacing[3] > 0) {
        even_until = step / spacing[3];
        log_growth = float(std::log2(1.0 + double(spacing[3])));
    }
}

void pack(const uint8_t* occupied, int64_t cells, uint32_t* words) {
    for (int64_t w = 0; w * 32 < cells; ++w) {
        uint32_t bits = 0;
        int64_t i = w * 32;
        for (; i + 8 <= cells && i < w * 32 + 32; i += 8) {  // eight bytes of 0 or 1 to the eight bits of one byte
            uint64_t bytes;
            std::memcpy(&bytes, occupied + i, 8);
            bits |= uint32_t((bytes * 0x0102040810204080ull) >> 56) << (i - w * 32);
        }
        for (; i < cells && i < w * 32 + 32; ++i) bits |= uint32_t(occupied[i] != 0) << (i - w * 32);
        words[w] = bits;
    }
}

void count(const March& march, const uint32_t* occupied, const Rays& rays, int64_t* counts, int threads) {
    const Kernels& kernels = select_kernels();
    for_rays(rays.count, threads, [&](int64_t ray) { counts[ray] = kernels.count(march, occupied, rays, ray); });
}

void fill(const March& march, const uint32_t* occupied, const Rays& rays, const int64_t* packed, const Samples& out,
          int threads) {
    const Kernels& kernels = select_kernels();
    for_rays(rays.count, threads, [&](int64_t ray) {
        if (packed[2 * ray + 1]) kernels.fill(march, occupied, rays, ray, packed[2 * ray], out);
    });
}

bool in_order(const Blend& job) {
    int64_t end = 0;
    for (int64_t ray = 0; ray < job.rays; ++ray) {
        const int64_t first = job.packed[2 * ray], number = job.packed[2 * ray + 1];
        if (first < end || number < 0 || first > job.samples || number > job.samples - first) return false;
        end = first + number;
    }
    return true;
}

void blend(const Blend& job, const Picture& out, int threads) {
    const Kernels& kernels = select_kernels();
    for_rays(job.rays, threads, [&](int64_t ray) { kernels.blend(job, ray, out); });
}

void blend_backward(const Blend& job, const BlendGradient& gradient, int threads) {
    const Kernels& kernels = select_kernels();
    for_rays(job.rays, threads, [&](int64_t ray) { kernels.blend_backward(job, ray, gradient); });
}

}  // namespace raymarch
}  // namespace avatar
