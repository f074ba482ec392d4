// Bind and blend on a CUDA device: one thread for a triangle or a splat. The rows of the basis are read by whole warps,
// one splat of the warp after the other, so that memory is read in order and nothing is kept between kernels but the
// triangles' records. Sums over splats are added with atomics, so gradients are not bit for bit repeatable.

#include <cuda_runtime.h>

#include <stdexcept>
#include <string>

#include "binding.h"
#include "binding_math.h"

namespace avatar {
namespace binding {
namespace on_device {
namespace {

using namespace avatar::AV_ISA;

constexpr int kThreads = 128, kWarp = 32;
constexpr unsigned kAll = 0xffffffffu;

void check(const char* what) {
    const cudaError_t status = cudaGetLastError();
    if (status != cudaSuccess) throw std::runtime_error(std::string(what) + ": " + cudaGetErrorString(status));
}

int blocks_for(int items) { return (items + kThreads - 1) / kThreads; }

__device__ Vec3<float> vec3_at(const float* p, int64_t i) { return {p[3 * i], p[3 * i + 1], p[3 * i + 2]}; }

__device__ Quat<float> quat_at(const float* p, int64_t i) {
    return {p[4 * i], p[4 * i + 1], p[4 * i + 2], p[4 * i + 3]};
}

__device__ void write(float* p, int64_t i, Vec3<float> v) { p[3 * i] = v.x, p[3 * i + 1] = v.y, p[3 * i + 2] = v.z; }

__device__ void write(float* p, int64_t i, Quat<float> q) {
    p[4 * i] = q.w, p[4 * i + 1] = q.x, p[4 * i + 2] = q.y, p[4 * i + 3] = q.z;
}

__device__ Vec3<float> corner_of(const Surface& s, int face, int k) {
    const int64_t v = s.faces[3 * int64_t(face) + k];
    if (v >= 0 && v < s.vertex_count) return vec3_at(s.vertices, v);
    const float none = nanf("");
    return {none, none, none};
}

__global__ void frames_kernel(Surface s, float* records) {
    const int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= s.face_count) return;
    const Vec3<float> a = corner_of(s, i, 0), b = corner_of(s, i, 1), c = corner_of(s, i, 2);
    const Frame<float> f = frame_of(a, b, c, s.rest_size[i]);
    float* r = records + int64_t(kRecordFloats) * i;
    write(r, 0, a), write(r, 1, b), write(r, 2, c);
    write(r + 9, 0, f.turn);
    r[13] = logf(f.growth), r[14] = kOffsetUnit * f.growth, r[15] = 0.0f;
}

// The record of a splat's triangle, or null where there is no such triangle.
__device__ const float* record_of(const Surface& s, const float* records, int64_t triangle) {
    return triangle >= 0 && triangle < s.face_count ? records + kRecordFloats * triangle : nullptr;
}

__device__ Seat<float> seat_of(const float* r) { return {quat_at(r + 9, 0), r[14], r[13]}; }

// The 13 numbers that motion adds to the splat of this lane; all lanes of the warp take part.
__device__ void blend(const Splats& s, int64_t i, bool moves, float* out) {
    const int lane = threadIdx.x % kWarp;
    for (int c = 0; c < kNumbers; ++c) out[c] = 0.0f;
    const int64_t first = i - lane;
    for (int l = 0; s.basis && l < kWarp; ++l) {
        if (!__shfl_sync(kAll, int(moves), l)) continue;
        const float* basis = s.basis + (first + l) * kNumbers * s.terms;
        for (int c = 0; c < kNumbers; ++c) {
            float total = 0.0f;
            for (int k = lane; k < s.terms; k += kWarp) total += basis[c * s.terms + k] * s.weights[k];
            for (int offset = 16; offset; offset >>= 1) total += __shfl_xor_sync(kAll, total, offset);
            if (l == lane) out[c] = total;
        }
    }
    if (!moves) return;
    for (int c = 0; c < kNumbers; ++c)
        out[c] = channel_unit(c) * (out[c] + (s.extra ? s.extra[kNumbers * i + c] : 0.0f));
}

__device__ Sway<float> sway_of(const float* n) {
    return {vec3_at(n, 0), vec3_at(n, 1), vec3_at(n, 2), n[9], {n[10], n[11], n[12]}};
}

__global__ void bind_kernel(Surface surface, Splats s, const float* records, Drawn out, float* state) {
    const int64_t i = int64_t(blockIdx.x) * blockDim.x + threadIdx.x;
    const bool inside = i < s.count;
    float numbers[kNumbers];
    blend(s, i, inside && (!s.live || s.live[i]), numbers);
    if (!inside) return;
    const Rest<float> rest{vec3_at(s.offset, i), quat_at(s.turn, i), vec3_at(s.log_scale, i), s.opacity[i],
                           vec3_at(s.colour, i)};
    const Sway<float> added = sway_of(numbers);
    const float none[kRecordFloats] = {nanf("")};
    const float* record = record_of(surface, records, s.triangle[i]);
    const float* r = record ? record : none;
    const Bound<float> bound = bind_splat(seat_of(r), rest, added, s.activate);
    const Vec3<float> bary = vec3_at(s.bary, i);
    const Vec3<float> base =
        scaled(bary.x, vec3_at(r, 0)) + scaled(bary.y, vec3_at(r, 1)) + scaled(bary.z, vec3_at(r, 2));
    write(out.means, i, base + bound.mean);
    write(out.quats, i, bound.quat);
    write(out.scales, i, bound.scale);
    out.opacities[i] = bound.opacity;
    write(out.colours, i, bound.colour);
    if (!state) return;
    const Vec3<float> offset = rest.offset + added.offset;
    const float kept[kStateFloats] = {offset.x, offset.y, offset.z, added.turn.x, added.turn.y, added.turn.z};
    for (int k = 0; k < kStateFloats; ++k) state[int64_t(k) * s.count + i] = kept[k];
}

// Adds the gradient of the weights and writes that of the basis, from each lane's row of 13.
__device__ void blend_backward(const Splats& s, const Gradients& to, int64_t i, bool moves, const float* row) {
    const int lane = threadIdx.x % kWarp;
    const int64_t first = i - lane;
    for (int from = 0; from < s.terms; from += kWarp) {
        const int k = from + lane;
        float total = 0.0f;
        for (int l = 0; l < kWarp; ++l) {
            const bool wanted = __shfl_sync(kAll, int(moves), l);
            if (!wanted && !(to.basis && first + l < s.count)) continue;
            const int64_t start = (first + l) * kNumbers * s.terms;
            for (int c = 0; c < kNumbers; ++c) {
                const float g = __shfl_sync(kAll, row[c], l);
                if (k >= s.terms) continue;
                const int64_t at = start + int64_t(c) * s.terms + k;
                if (to.basis) to.basis[at] = g * s.weights[k];
                if (to.weights && wanted) total += g * s.basis[at];
            }
        }
        if (to.weights && k < s.terms && total != 0.0f) atomicAdd(to.weights + k, total);
    }
}

__device__ SplatBack<float> splat_backward(const Splats& s, int64_t i, const float* record, const float* state,
                                           const Drawn& drawn, const Drawn& upstream) {
    float kept[kStateFloats];
    for (int k = 0; k < kStateFloats; ++k) kept[k] = state[int64_t(k) * s.count + i];
    Bound<float> out{}, g;
    out.scale = vec3_at(drawn.scales, i), out.opacity = drawn.opacities[i], out.colour = vec3_at(drawn.colours, i);
    g.mean = vec3_at(upstream.means, i), g.quat = quat_at(upstream.quats, i);
    g.scale = vec3_at(upstream.scales, i), g.opacity = upstream.opacities[i];
    g.colour = vec3_at(upstream.colours, i);
    return bind_splat_backward(seat_of(record), vec3_at(kept, 0), vec3_at(kept, 1), quat_at(s.turn, i), out, g,
                               s.activate);
}

__global__ void backward_kernel(Surface surface, Splats s, const float* records, const float* state, Drawn drawn,
                                Drawn upstream, Gradients to, float* sums) {
    const int64_t i = int64_t(blockIdx.x) * blockDim.x + threadIdx.x;
    const bool inside = i < s.count, moves = inside && (!s.live || s.live[i]);
    const float learns = moves ? 1.0f : 0.0f;
    float row[kNumbers] = {};
    if (inside) {
        const float none[kRecordFloats] = {};
        const float* record = record_of(surface, records, s.triangle[i]);
        const SplatBack<float> b = splat_backward(s, i, record ? record : none, state, drawn, upstream);
        const Quat<float>& turn = b.rest.turn;
        write(to.offset, i, scaled(learns, b.rest.offset));
        write(to.turn, i, Quat<float>{learns * turn.w, learns * turn.x, learns * turn.y, learns * turn.z});
        write(to.log_scale, i, scaled(learns, b.rest.log_scale));
        to.opacity[i] = b.rest.opacity;
        write(to.colour, i, scaled(learns, b.rest.colour));
        write(row, 0, b.sway.offset), write(row, 1, b.sway.turn), write(row, 2, b.sway.log_scale);
        row[9] = b.sway.opacity, row[10] = b.sway.colour.x, row[11] = b.sway.colour.y, row[12] = b.sway.colour.z;
        for (int c = 0; c < kNumbers; ++c) to.extra[kNumbers * i + c] = row[c] = learns * channel_unit(c) * row[c];
        if (to.vertices && record) {
            float* sum = sums + (record - records);
            const Vec3<float> g = vec3_at(upstream.means, i);
            for (int k = 0; k < 3; ++k) {
                const float share = s.bary[3 * i + k];
                atomicAdd(sum + 3 * k, share * g.x), atomicAdd(sum + 3 * k + 1, share * g.y);
                atomicAdd(sum + 3 * k + 2, share * g.z);
            }
            atomicAdd(sum + 9, b.seat_turn.x), atomicAdd(sum + 10, b.seat_turn.y);
            atomicAdd(sum + 11, b.seat_turn.z), atomicAdd(sum + 12, b.log_growth);
        }
    }
    if (to.basis || to.weights) blend_backward(s, to, i, moves, row);
}

__global__ void frames_backward_kernel(Surface s, const float* sums, float* vertices) {
    const int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= s.face_count) return;
    const Vec3<float> a = corner_of(s, i, 0), b = corner_of(s, i, 1), c = corner_of(s, i, 2);
    const float* sum = sums + int64_t(kRecordFloats) * i;
    Vec3<float> corner[3];
    frame_backward(frame_of(a, b, c, s.rest_size[i]), a, b, c, s.rest_size[i], vec3_at(sum + 9, 0), sum[12], corner);
    for (int k = 0; k < 3; ++k) {
        const Vec3<float> g = vec3_at(sum, k) + corner[k];
        const int64_t v = s.faces[3 * int64_t(i) + k];
        if (v < 0 || v >= s.vertex_count) continue;
        float* to = vertices + 3 * v;
        atomicAdd(to, g.x), atomicAdd(to + 1, g.y), atomicAdd(to + 2, g.z);
    }
}

}  // namespace

void bind(const Surface& surface, const Splats& s, float* records, const Drawn& out, float* state, void* stream) {
    const auto on = static_cast<cudaStream_t>(stream);
    if (surface.face_count) frames_kernel<<<blocks_for(surface.face_count), kThreads, 0, on>>>(surface, records);
    if (s.count) bind_kernel<<<blocks_for(s.count), kThreads, 0, on>>>(surface, s, records, out, state);
    check("bind_gaussians");
}

void bind_backward(const Surface& surface, const Splats& s, const float* records, const float* state, const Drawn& out,
                   const Drawn& gradient, const Gradients& to, float* sums, void* stream) {
    const auto on = static_cast<cudaStream_t>(stream);
    if (to.weights) cudaMemsetAsync(to.weights, 0, sizeof(float) * s.terms, on);
    if (to.vertices) cudaMemsetAsync(to.vertices, 0, sizeof(float) * 3 * surface.vertex_count, on);
    if (s.count)
        backward_kernel<<<blocks_for(s.count), kThreads, 0, on>>>(surface, s, records, state, out, gradient, to, sums);
    if (to.vertices && surface.face_count)
        frames_backward_kernel<<<blocks_for(surface.face_count), kThreads, 0, on>>>(surface, sums, to.vertices);
    check("bind_gaussians_backward");
}

}  // namespace on_device
}  // namespace binding
}  // namespace avatar
