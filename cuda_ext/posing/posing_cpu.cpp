// Rig posing over vectors of vertices; compiled once for each instruction set, see ../simd.h.
//
// An action moves a few hundred of 7,000 vertices, so each vertex has the list of its own (7 on average).

#include "../simd.h"
#include "posing.h"
#include "posing_math.h"

namespace avatar {
namespace AV_ISA {
namespace {

using namespace posing;

struct Block {
    Vec3<F> point;
    F weights[kWeights];
};

// Vertices from `first` with the actions applied; lanes past the end repeat the last vertex with weights of zero.
Block gather(const Job& job, int first, int end) {
    alignas(64) float lane[3 + kWeights][kLanes];
    for (int l = 0; l < kLanes; ++l) {
        const bool inside = first + l < end;
        const int64_t i = inside ? first + l : end - 1;
        float p[3] = {job.neutral[3 * i], job.neutral[3 * i + 1], job.neutral[3 * i + 2]};
        for (int e = job.first[i]; e < job.first[i + 1]; ++e) {
            const float c = job.expression[job.action[e]];
            const float* move = job.move + 3 * int64_t(e);
            p[0] += c * move[0], p[1] += c * move[1], p[2] += c * move[2];
        }
        for (int k = 0; k < 3; ++k) lane[k][l] = p[k];
        for (int k = 0; k < kWeights; ++k) lane[3 + k][l] = inside ? job.weights[kWeights * i + k] : 0.0f;
    }
    Block b;
    b.point = {load(lane[0]), load(lane[1]), load(lane[2])};
    for (int k = 0; k < kWeights; ++k) b.weights[k] = load(lane[3 + k]);
    return b;
}

void scatter(Vec3<F> v, float* rows, int first, int end) {
    alignas(64) float lane[3][kLanes];
    store(lane[0], v.x), store(lane[1], v.y), store(lane[2], v.z);
    for (int l = 0; l < kLanes && first + l < end; ++l)
        for (int k = 0; k < 3; ++k) rows[3 * int64_t(first + l) + k] = lane[k][l];
}

void pose(const Job& job, float* world, int begin, int end) {
    for (int first = begin; first < end; first += kLanes) {
        const Block b = gather(job, first, end);
        scatter(pose_point(job.transforms, job.shift, b.weights, b.point).world, world, first, end);
    }
}

// Sums over the vertices of w g (x, 1)^T, the gradient of a 3x4 transform.
struct TransformSums {
    F of[12];
    void add(F weight, Vec3<F> g, Vec3<F> at) {
        const F row[3] = {weight * g.x, weight * g.y, weight * g.z};
        for (int i = 0; i < 3; ++i) {
            of[4 * i] = fma(row[i], at.x, of[4 * i]);
            of[4 * i + 1] = fma(row[i], at.y, of[4 * i + 1]);
            of[4 * i + 2] = fma(row[i], at.z, of[4 * i + 2]);
            of[4 * i + 3] = of[4 * i + 3] + row[i];
        }
    }
};

void pose_backward(const Job& job, const float* gradient, float* neutral, double* sums, int begin, int end) {
    TransformSums transforms[kTransforms];
    for (auto& t : transforms)
        for (F& f : t.of) f = F(0.0f);
    F shift[3] = {F(0.0f), F(0.0f), F(0.0f)};
    for (int first = begin; first < end; first += kLanes) {
        const Block b = gather(job, first, end);
        alignas(64) float lane[4][kLanes];
        for (int l = 0; l < kLanes; ++l)
            for (int k = 0; k < 3; ++k) lane[k][l] = first + l < end ? gradient[3 * int64_t(first + l) + k] : 0.0f;
        const Vec3<F> g{load(lane[0]), load(lane[1]), load(lane[2])};
        const Posed<F> at = pose_point(job.transforms, job.shift, b.weights, b.point);
        const PosedGradient<F> back = pose_point_backward(job.transforms, b.weights, g);
        const F below = b.weights[kPosingJoints];
        for (int j = 0; j < kPosingJoints; ++j) transforms[j].add(b.weights[j], back.joint, b.point);
        transforms[kPosingJoints].add(below, back.rigid, at.skinned);
        transforms[kPosingJoints + 1].add(F(1.0f), back.world, at.corrected);
        shift[0] += below * g.x, shift[1] += below * g.y, shift[2] += below * g.z;
        scatter(back.point, neutral, first, end);
    }
    for (int t = 0; t < kTransforms; ++t)
        for (int k = 0; k < 12; ++k) sums[12 * t + k] += double(sum(transforms[t].of[k]));
    for (int k = 0; k < 3; ++k) sums[kTransformFloats + k] += double(sum(shift[k]));
    double* expression = sums + kFixedSums;
    for (int64_t i = begin; i < end; ++i)
        for (int e = job.first[i]; e < job.first[i + 1]; ++e) {
            const float *move = job.move + 3 * int64_t(e), *g = neutral + 3 * i;
            expression[job.action[e]] += double(move[0] * g[0] + move[1] * g[1] + move[2] * g[2]);
        }
}

}  // namespace

extern const posing::Kernels posing_kernels;
const posing::Kernels posing_kernels = {pose, pose_backward};

}  // namespace AV_ISA
}  // namespace avatar
