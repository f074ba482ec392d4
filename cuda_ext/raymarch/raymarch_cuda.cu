// Ray marching and blending on a CUDA device: the formulas of raymarch_math.h, one thread for a ray.

#include <stdexcept>
#include <string>

#include "raymarch_cuda.h"
#include "raymarch_math.h"

namespace avatar {
namespace raymarch {
namespace on_device {
namespace {

using namespace avatar::AV_ISA;

constexpr int kThreads = 128;

void check(cudaError_t status) {
    if (status != cudaSuccess) throw std::runtime_error(std::string("ray marching: ") + cudaGetErrorString(status));
}

unsigned blocks_for(int64_t rays) { return unsigned((rays + kThreads - 1) / kThreads); }

__device__ int64_t thread_number() { return int64_t(blockIdx.x) * blockDim.x + threadIdx.x; }

// take(start, end) for each sample of a ray with its middle in an occupied cell.
template <class Take>
__device__ void for_samples(const March& march, const uint8_t* occupied, const Rays& rays, int64_t ray, Take take) {
    const float *origin = rays.origins + 3 * ray, *direction = rays.directions + 3 * ray;
    const Interval t = inside_box(march, origin, direction);
    if (!(t.first < t.last)) return;
    const Spacing spacing(march, jittered(march, rays.jitter ? rays.jitter + ray : nullptr, t.first));
    float start = spacing.start(0.0f);
    for (int k = 0; k < kMaxSteps; ++k) {
        const float end = spacing.start(k + 1.0f), middle = 0.5f * (start + end);
        if (!(middle < t.last)) return;
        int64_t cell = 0;
        for (int d = 0; d < 3; ++d) {
            const float at = avatar::AV_ISA::fma(direction[d], middle, origin[d]);
            cell = cell * march.cells[d] + int(cell_along(march, d, at));
        }
        if (occupied[cell]) take(start, end);
        start = end;
    }
}

__global__ void __launch_bounds__(kThreads)
    count_kernel(March march, const uint8_t* occupied, Rays rays, int64_t* counts) {
    const int64_t ray = thread_number();
    if (ray >= rays.count) return;
    int64_t found = 0;
    for_samples(march, occupied, rays, ray, [&](float, float) { ++found; });
    counts[ray] = found;
}

__global__ void __launch_bounds__(kThreads)
    fill_kernel(March march, const uint8_t* occupied, Rays rays, const int64_t* packed, Samples out) {
    const int64_t ray = thread_number();
    if (ray >= rays.count || packed[2 * ray + 1] == 0) return;
    int64_t at = packed[2 * ray];
    for_samples(march, occupied, rays, ray, [&](float start, float end) {
        out.ray[at] = ray;
        out.starts[at] = start;
        out.ends[at] = end;
        ++at;
    });
}

struct Range {
    int64_t first, last;

    __device__ Range(const Blend& job, int64_t ray) : first(job.packed[2 * ray]), last(job.packed[2 * ray + 1]) {
        const int64_t number = last;
        const bool there = first >= 0 && number >= 0 && first <= job.samples && number <= job.samples - first;
        last = there ? first + number : first;
    }
};

__global__ void __launch_bounds__(kThreads) blend_kernel(Blend job, Picture out) {
    const int64_t ray = thread_number();
    if (ray >= job.rays) return;
    const Range range(job, ray);
    float* colour = out.colour + ray * job.channels;
    for (int k = 0; k < job.channels; ++k) colour[k] = 0.0f;
    float light = 1.0f, alpha = 0.0f, depth = 0.0f;
    for (int64_t i = range.first; i < range.last && light >= kMinLight; ++i) {
        const float pass = passing(job.densities[i], length_of(job.starts[i], job.ends[i])),
                    weight = light * (1.0f - pass);
        light *= pass;
        alpha += weight;
        depth = avatar::AV_ISA::fma(weight, 0.5f * (job.starts[i] + job.ends[i]), depth);
        out.weights[i] = weight;
        const float* value = job.values + i * job.channels;
        for (int k = 0; k < job.channels; ++k) colour[k] = avatar::AV_ISA::fma(weight, value[k], colour[k]);
    }
    out.alpha[ray] = alpha;
    out.depth[ray] = depth;
}

// What sample i adds to the loss for each unit of its weight.
__device__ float worth(const Blend& job, const Picture& up, int64_t ray, int64_t i) {
    float q = up.weights ? up.weights[i] : 0.0f;
    if (up.alpha) q += up.alpha[ray];
    if (up.depth) q += up.depth[ray] * 0.5f * (job.starts[i] + job.ends[i]);
    if (up.colour)
        for (int k = 0; k < job.channels; ++k)
            q = avatar::AV_ISA::fma(up.colour[ray * job.channels + k], job.values[i * job.channels + k], q);
    return q;
}

__global__ void __launch_bounds__(kThreads) blend_backward_kernel(Blend job, BlendGradient g) {
    const int64_t ray = thread_number();
    if (ray >= job.rays) return;
    const Range range(job, ray);
    float light = 1.0f;
    int64_t end = range.first;
    for (; end < range.last && light >= kMinLight; ++end) {
        light *= passing(job.densities[end], length_of(job.starts[end], job.ends[end]));
        g.densities[end] = light;
    }
    float rest = 0.0f;  // worth of the samples behind, which more density here would hide
    for (int64_t i = end - 1; i >= range.first; --i) {
        const float q = worth(job, g.upstream, ray, i), w = g.weights[i];
        if (g.upstream.colour)
            for (int k = 0; k < job.channels; ++k)
                g.values[i * job.channels + k] = w * g.upstream.colour[ray * job.channels + k];
        const bool counts = g.densities[i] > 0.0f && job.densities[i] >= 0.0f;
        g.densities[i] = counts ? (g.densities[i] * q - rest) * length_of(job.starts[i], job.ends[i]) : 0.0f;
        rest = avatar::AV_ISA::fma(w, q, rest);
    }
}

}  // namespace

void count(const March& march, const uint8_t* occupied, const Rays& rays, int64_t* counts, void* stream) {
    if (rays.count == 0) return;
    const auto queue = static_cast<cudaStream_t>(stream);
    count_kernel<<<blocks_for(rays.count), kThreads, 0, queue>>>(march, occupied, rays, counts);
    check(cudaGetLastError());
}

void fill(const March& march, const uint8_t* occupied, const Rays& rays, const int64_t* packed, const Samples& out,
          void* stream) {
    if (rays.count == 0) return;
    const auto queue = static_cast<cudaStream_t>(stream);
    fill_kernel<<<blocks_for(rays.count), kThreads, 0, queue>>>(march, occupied, rays, packed, out);
    check(cudaGetLastError());
}

void blend(const Blend& job, const Picture& out, void* stream) {
    if (job.rays == 0) return;
    blend_kernel<<<blocks_for(job.rays), kThreads, 0, static_cast<cudaStream_t>(stream)>>>(job, out);
    check(cudaGetLastError());
}

void blend_backward(const Blend& job, const BlendGradient& gradient, void* stream) {
    if (job.rays == 0) return;
    blend_backward_kernel<<<blocks_for(job.rays), kThreads, 0, static_cast<cudaStream_t>(stream)>>>(job, gradient);
    check(cudaGetLastError());
}

}  // namespace on_device
}  // namespace raymarch
}  // namespace avatar
