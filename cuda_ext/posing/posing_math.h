// A vertex of the rig on its way from the neutral face to the world, for F = float or a vector of floats.
//
// p = neutral + actions;  q = p + sum_j w_j (T_j p - p) over neck, torso and the eyes (linear blend skinning);
// r = q + below (T_rigid q - q);  world = T_head r + below * shift.  T_j are 3x4, x -> R x + t.
#pragma once

#include "../vec3.h"

namespace avatar {
namespace AV_ISA {

constexpr int kPosingJoints = 4;  // neck, torso, right eye, left eye; then the rigid correction and the head

template <class F>
AV_HD Vec3<F> transformed(const float* t, Vec3<F> p) {
    return {fma(F(t[0]), p.x, fma(F(t[1]), p.y, fma(F(t[2]), p.z, F(t[3])))),
            fma(F(t[4]), p.x, fma(F(t[5]), p.y, fma(F(t[6]), p.z, F(t[7])))),
            fma(F(t[8]), p.x, fma(F(t[9]), p.y, fma(F(t[10]), p.z, F(t[11]))))};
}

// R^T g: what a gradient behind the transform is before it.
template <class F>
AV_HD Vec3<F> pulled_back(const float* t, Vec3<F> g) {
    return {fma(F(t[0]), g.x, fma(F(t[4]), g.y, F(t[8]) * g.z)), fma(F(t[1]), g.x, fma(F(t[5]), g.y, F(t[9]) * g.z)),
            fma(F(t[2]), g.x, fma(F(t[6]), g.y, F(t[10]) * g.z))};
}

template <class F>
struct Posed {
    Vec3<F> skinned, corrected, world;  // q, r and the world point
};

// weights: of the four joints, then `below`. transforms: [6 12] floats.
template <class F>
AV_HD Posed<F> pose_point(const float* transforms, const float* shift, const F* weights, Vec3<F> p) {
    Posed<F> out;
    Vec3<F> q = p;
    for (int j = 0; j < kPosingJoints; ++j) q = q + scaled(weights[j], transformed(transforms + 12 * j, p) - p);
    const F below = weights[kPosingJoints];
    out.skinned = q;
    out.corrected = q + scaled(below, transformed(transforms + 12 * kPosingJoints, q) - q);
    const Vec3<F> moved{F(shift[0]), F(shift[1]), F(shift[2])};
    out.world = transformed(transforms + 12 * (kPosingJoints + 1), out.corrected) + scaled(below, moved);
    return out;
}

template <class F>
struct PosedGradient {
    Vec3<F> joint, rigid, world;  // dL/d(q), before the weights; of the rigid correction likewise; dL/d(world)
    Vec3<F> point;                // dL/dp
};

template <class F>
AV_HD PosedGradient<F> pose_point_backward(const float* transforms, const F* weights, Vec3<F> g) {
    PosedGradient<F> out;
    const F below = weights[kPosingJoints];
    out.world = g;
    const Vec3<F> r = pulled_back(transforms + 12 * (kPosingJoints + 1), g);
    out.rigid = r;
    const Vec3<F> q = r + scaled(below, pulled_back(transforms + 12 * kPosingJoints, r) - r);
    out.joint = q;
    Vec3<F> p = q;
    for (int j = 0; j < kPosingJoints; ++j) p = p + scaled(weights[j], pulled_back(transforms + 12 * j, q) - q);
    out.point = p;
    return out;
}

}  // namespace AV_ISA
}  // namespace avatar
