// Points and quaternions (wxyz) of F = float or a vector of floats.
#pragma once

#include "portability.h"

namespace avatar {
namespace AV_ISA {

template <class F>
struct Vec3 {
    F x, y, z;
};

template <class F>
struct Quat {
    F w, x, y, z;
};

template <class F>
AV_HD Vec3<F> operator+(Vec3<F> a, Vec3<F> b) {
    return {a.x + b.x, a.y + b.y, a.z + b.z};
}
template <class F>
AV_HD Vec3<F> operator-(Vec3<F> a, Vec3<F> b) {
    return {a.x - b.x, a.y - b.y, a.z - b.z};
}
template <class F>
AV_HD Vec3<F> scaled(F s, Vec3<F> a) {
    return {s * a.x, s * a.y, s * a.z};
}
template <class F>
AV_HD F dot(Vec3<F> a, Vec3<F> b) {
    return a.x * b.x + a.y * b.y + a.z * b.z;
}
template <class F>
AV_HD Vec3<F> cross(Vec3<F> a, Vec3<F> b) {
    return {a.y * b.z - a.z * b.y, a.z * b.x - a.x * b.z, a.x * b.y - a.y * b.x};
}

template <class F>
AV_HD Quat<F> multiply(Quat<F> a, Quat<F> b) {
    return {a.w * b.w - a.x * b.x - a.y * b.y - a.z * b.z, a.w * b.x + a.x * b.w + a.y * b.z - a.z * b.y,
            a.w * b.y - a.x * b.z + a.y * b.w + a.z * b.x, a.w * b.z + a.x * b.y - a.y * b.x + a.z * b.w};
}
template <class F>
AV_HD Quat<F> conjugate(Quat<F> q) {
    const F zero(0.0f);
    return {q.w, zero - q.x, zero - q.y, zero - q.z};
}

// R(q) v of a unit quaternion, as v + 2 (w u + q x u) with u = q x v.
template <class F>
AV_HD Vec3<F> rotate(Quat<F> q, Vec3<F> v) {
    const Vec3<F> axis{q.x, q.y, q.z}, u = cross(axis, v);
    return v + scaled(F(2.0f), scaled(q.w, u) + cross(axis, u));
}

}  // namespace AV_ISA
}  // namespace avatar
