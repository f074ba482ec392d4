// Rig posing on a CUDA device: one thread for a vertex; sums are made within a warp, then added with atomics.

#include <cuda_runtime.h>

#include <stdexcept>
#include <string>

#include "posing.h"
#include "posing_math.h"

namespace avatar {
namespace posing {
namespace on_device {
namespace {

using namespace avatar::AV_ISA;

constexpr int kThreads = 128;

void check(const char* what) {
    const cudaError_t status = cudaGetLastError();
    if (status != cudaSuccess) throw std::runtime_error(std::string(what) + ": " + cudaGetErrorString(status));
}

// The vertex's part of the lists, within them.
struct Entries {
    int begin, end;

    __device__ Entries(const Job& job, int i) : begin(job.first[i]), end(job.first[i + 1]) {
        if (begin < 0) begin = 0;
        if (end > job.entries) end = job.entries;
    }
};

__device__ bool exists(const Job& job, int action) { return action >= 0 && action < job.actions; }

__device__ Vec3<float> acted(const Job& job, int i) {
    Vec3<float> p{job.neutral[3 * i], job.neutral[3 * i + 1], job.neutral[3 * i + 2]};
    const Entries entries(job, i);
    for (int e = entries.begin; e < entries.end; ++e) {
        const float c = exists(job, job.action[e]) ? job.expression[job.action[e]] : nanf("");
        p = p + scaled(c, Vec3<float>{job.move[3 * e], job.move[3 * e + 1], job.move[3 * e + 2]});
    }
    return p;
}

__global__ void pose_kernel(Job job, float* world) {
    const int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= job.vertex_count) return;
    const Vec3<float> p = pose_point(job.transforms, job.shift, job.weights + kWeights * i, acted(job, i)).world;
    world[3 * i] = p.x, world[3 * i + 1] = p.y, world[3 * i + 2] = p.z;
}

__device__ void add(float* to, float value) {
    for (int offset = 16; offset; offset >>= 1) value += __shfl_xor_sync(0xffffffffu, value, offset);
    if (threadIdx.x % 32 == 0 && value != 0.0f) atomicAdd(to, value);
}

__device__ void add_transform(float* to, float weight, Vec3<float> g, Vec3<float> at) {
    const float row[3] = {weight * g.x, weight * g.y, weight * g.z};
    for (int i = 0; i < 3; ++i) {
        add(to + 4 * i, row[i] * at.x), add(to + 4 * i + 1, row[i] * at.y);
        add(to + 4 * i + 2, row[i] * at.z), add(to + 4 * i + 3, row[i]);
    }
}

__global__ void backward_kernel(Job job, const float* gradient, float* neutral, float* sums) {
    const int i = blockIdx.x * blockDim.x + threadIdx.x;
    const bool inside = i < job.vertex_count;  // the rest of the last warp takes part in the sums with zeros
    Vec3<float> g{0.0f, 0.0f, 0.0f}, p{0.0f, 0.0f, 0.0f};
    float weights[kWeights] = {};
    if (inside) {
        g = {gradient[3 * i], gradient[3 * i + 1], gradient[3 * i + 2]};
        p = acted(job, i);
        for (int k = 0; k < kWeights; ++k) weights[k] = job.weights[kWeights * i + k];
    }
    const Posed<float> at = pose_point(job.transforms, job.shift, weights, p);
    const PosedGradient<float> back = pose_point_backward(job.transforms, weights, g);
    const float below = weights[kPosingJoints];
    for (int j = 0; j < kPosingJoints; ++j) add_transform(sums + 12 * j, weights[j], back.joint, p);
    add_transform(sums + 12 * kPosingJoints, below, back.rigid, at.skinned);
    add_transform(sums + 12 * (kPosingJoints + 1), 1.0f, back.world, at.corrected);
    add(sums + kTransformFloats, below * g.x), add(sums + kTransformFloats + 1, below * g.y);
    add(sums + kTransformFloats + 2, below * g.z);
    if (!inside) return;
    neutral[3 * i] = back.point.x, neutral[3 * i + 1] = back.point.y, neutral[3 * i + 2] = back.point.z;
    const Entries entries(job, i);
    for (int e = entries.begin; e < entries.end; ++e) {
        if (!exists(job, job.action[e])) continue;
        atomicAdd(sums + kFixedSums + job.action[e],
                  dot(back.point, Vec3<float>{job.move[3 * e], job.move[3 * e + 1], job.move[3 * e + 2]}));
    }
}

int blocks(const Job& job) { return (job.vertex_count + kThreads - 1) / kThreads; }

}  // namespace

void pose(const Job& job, float* world, void* stream) {
    if (!job.vertex_count) return;
    pose_kernel<<<blocks(job), kThreads, 0, static_cast<cudaStream_t>(stream)>>>(job, world);
    check("pose_rig");
}

void pose_backward(const Job& job, const float* gradient, float* neutral, float* sums, void* stream) {
    const auto on = static_cast<cudaStream_t>(stream);
    cudaMemsetAsync(sums, 0, sizeof(float) * (kFixedSums + job.actions), on);
    if (job.vertex_count) backward_kernel<<<blocks(job), kThreads, 0, on>>>(job, gradient, neutral, sums);
    check("pose_rig_backward");
}

}  // namespace on_device
}  // namespace posing
}  // namespace avatar
