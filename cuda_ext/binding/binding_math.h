// Triangle frames and splats bound to them (GaussianAvatars, Qian et al. 2024), for F = float or a vector of floats.
//
// Derivatives of rotations are taken as turns: a small turn by the vector t changes a point R o by t x R o and a
// quaternion q by (0, t) q / 2, so that a frame's rotation has three derivatives and no case of the quaternion's
// largest component comes back.
#pragma once

#include "../vec3.h"

namespace avatar {
namespace AV_ISA {

constexpr float kOffsetUnit = 0.01f;  // metres
constexpr float kLeastGrowth = 0.3f, kMostGrowth = 3.0f;
constexpr float kTiny = 1e-24f;  // m^2, under square roots
constexpr float kLog2E = 1.44269504f;
constexpr int kChannels = 13;  // offset 3, turn 3, log scale 3, opacity 1, colour 3
constexpr float kOpacityUnit = 1.0f, kColourUnit = 0.5f, kShapeUnit = 0.2f;

AV_HD constexpr float channel_unit(int channel) {
    return channel < 9 ? kShapeUnit : channel == 9 ? kOpacityUnit : kColourUnit;
}

template <class F>
AV_HD F exponential(F x) {
    return exp2(minimum(maximum(x * F(kLog2E), F(-120.0f)), F(120.0f)));
}

// Of a splat, at most 2^60 m: its gradient is divided by a triangle's size, and must not overflow there.
template <class F>
AV_HD F scale_of(F logarithm) {
    return exp2(minimum(maximum(logarithm * F(kLog2E), F(-120.0f)), F(60.0f)));
}

template <class F>
AV_HD F sigmoid(F x) {
    return F(1.0f) / (F(1.0f) + exponential(F(0.0f) - x));
}

// The frame of a triangle: axes are the first edge, the bitangent and the normal.
template <class F>
struct Frame {
    Quat<F> turn;
    F growth;  // of its size from rest to now, bounded
    F size;    // its size now: mean of the first edge and the height over it
    Vec3<F> tangent, bitangent, normal;
    F edge, area;  // length of the first edge, twice the area
};

template <class F>
AV_HD void keep_if_larger(F& best, Quat<F>& q, F score, const Quat<F>& candidate) {
    const auto better = less(best, score);
    best = select(better, score, best);
    q = {select(better, candidate.w, q.w), select(better, candidate.x, q.x), select(better, candidate.y, q.y),
         select(better, candidate.z, q.z)};
}

// Of the rotation with columns x, y, z: the largest component first (Shepperd 1978), w >= 0.
template <class F>
AV_HD Quat<F> quat_of_columns(Vec3<F> x, Vec3<F> y, Vec3<F> z) {
    const F one(1.0f), zero(0.0f);
    F best = x.x + y.y + z.z;
    Quat<F> q{one + best, y.z - z.y, z.x - x.z, x.y - y.x};
    keep_if_larger(best, q, x.x - y.y - z.z, {y.z - z.y, one + x.x - y.y - z.z, x.y + y.x, z.x + x.z});
    keep_if_larger(best, q, y.y - x.x - z.z, {z.x - x.z, x.y + y.x, one - x.x + y.y - z.z, y.z + z.y});
    keep_if_larger(best, q, z.z - x.x - y.y, {x.y - y.x, z.x + x.z, y.z + z.y, one - x.x - y.y + z.z});
    const F length = square_root(q.w * q.w + q.x * q.x + q.y * q.y + q.z * q.z);
    const F sign = select(less(q.w, zero), F(-1.0f), one) / maximum(length, F(1e-12f));
    return {sign * q.w, sign * q.x, sign * q.y, sign * q.z};
}

template <class F>
AV_HD Frame<F> frame_of(Vec3<F> a, Vec3<F> b, Vec3<F> c, F rest_size) {
    Frame<F> f;
    const F one(1.0f), tiny(kTiny);
    const Vec3<F> edge = b - a, normal = cross(edge, c - a);
    f.edge = square_root(dot(edge, edge) + tiny);
    f.area = square_root(dot(normal, normal) + tiny);
    f.tangent = scaled(one / f.edge, edge);
    f.normal = scaled(one / f.area, normal);
    f.bitangent = cross(f.normal, f.tangent);
    f.turn = quat_of_columns(f.tangent, f.bitangent, f.normal);
    f.size = F(0.5f) * (f.edge + f.area / f.edge);
    f.growth = minimum(maximum(f.size / rest_size, F(kLeastGrowth)), F(kMostGrowth));
    return f;
}

// From the derivatives to a small turn and to log(growth) to those of the corners.
template <class F>
AV_HD void frame_backward(const Frame<F>& f, Vec3<F> a, Vec3<F> b, Vec3<F> c, F rest_size, Vec3<F> turn, F log_growth,
                          Vec3<F>* corner) {
    const F zero(0.0f), half(0.5f), inverse_edge = F(1.0f) / f.edge;
    const F free = f.size / rest_size;
    const auto bounded = both(less(F(kLeastGrowth), free), less(free, F(kMostGrowth)));
    const F size = select(bounded, log_growth / f.size, zero);
    const F area = half * size * inverse_edge;
    // Where the triangle is so large that its area is infinite, zero times it would be no number.
    const F length = select(bounded, half * size * (F(1.0f) - f.area * inverse_edge * inverse_edge), zero);
    const F about_tangent = dot(turn, f.tangent), about_bitangent = dot(turn, f.bitangent);
    const F about_normal = dot(turn, f.normal);
    const Vec3<F> normal = scaled(area, f.normal) - scaled(about_tangent / f.area, f.bitangent);
    const Vec3<F> edge = scaled(length, f.tangent) +
                         scaled(inverse_edge, scaled(about_normal, f.bitangent) - scaled(about_bitangent, f.normal)) +
                         cross(c - a, normal);
    const Vec3<F> side = cross(normal, b - a);
    corner[1] = edge;
    corner[2] = side;
    corner[0] = scaled(F(-1.0f), edge + side);
}

// What a splat takes from its triangle: rotation, metres of one unit of offset, log(growth).
template <class F>
struct Seat {
    Quat<F> turn;
    F unit, log_growth;
};

template <class F>
struct Rest {
    Vec3<F> offset;
    Quat<F> turn;
    Vec3<F> log_scale;
    F opacity;
    Vec3<F> colour;
};

// The 13 numbers that motion adds.
template <class F>
struct Sway {
    Vec3<F> offset, turn, log_scale;
    F opacity;
    Vec3<F> colour;
};

template <class F>
struct Bound {
    Vec3<F> mean;  // relative to the splat's point of the triangle
    Quat<F> quat;
    Vec3<F> scale;
    F opacity;
    Vec3<F> colour;
};

template <class F>
AV_HD Quat<F> twist_of(Vec3<F> turn) {
    const F half(0.5f);
    return {F(1.0f), half * turn.x, half * turn.y, half * turn.z};
}

// With `activate`, scale and opacity are those of drawing, without it their raw values.
template <class F>
AV_HD Bound<F> bind_splat(const Seat<F>& seat, const Rest<F>& rest, const Sway<F>& sway, bool activate) {
    Bound<F> out;
    out.mean = rotate(seat.turn, scaled(seat.unit, rest.offset + sway.offset));
    out.quat = multiply(seat.turn, multiply(rest.turn, twist_of(sway.turn)));
    const Vec3<F> grown{seat.log_growth, seat.log_growth, seat.log_growth};
    const Vec3<F> log_scale = rest.log_scale + sway.log_scale + grown, colour = rest.colour + sway.colour;
    const F opacity = rest.opacity + sway.opacity;
    out.scale = log_scale, out.opacity = opacity;
    if (activate) {
        out.scale = {scale_of(log_scale.x), scale_of(log_scale.y), scale_of(log_scale.z)};
        out.opacity = sigmoid(opacity);
    }
    out.colour = {sigmoid(colour.x), sigmoid(colour.y), sigmoid(colour.z)};
    return out;
}

template <class F>
struct SplatBack {
    Rest<F> rest;
    Sway<F> sway;
    Vec3<F> seat_turn;  // to a small turn of the triangle
    F log_growth;
};

// `offset` and `turn` are the blended ones: rest.offset + sway.offset and sway.turn. `out` needs scale, opacity,
// colour.
template <class F>
AV_HD SplatBack<F> bind_splat_backward(const Seat<F>& seat, Vec3<F> offset, Vec3<F> turn, Quat<F> rest_turn,
                                       const Bound<F>& out, const Bound<F>& g, bool activate) {
    SplatBack<F> back;
    const F half(0.5f), one(1.0f);
    const Vec3<F> arm = rotate(seat.turn, scaled(seat.unit, offset));
    back.rest.offset = back.sway.offset = scaled(seat.unit, rotate(conjugate(seat.turn), g.mean));

    const Quat<F> twist = twist_of(turn), local = multiply(rest_turn, twist), whole = multiply(seat.turn, local);
    const Quat<F> to_local = multiply(conjugate(seat.turn), g.quat);
    back.rest.turn = multiply(to_local, conjugate(twist));
    const Quat<F> to_twist = multiply(conjugate(rest_turn), to_local);
    back.sway.turn = {half * to_twist.x, half * to_twist.y, half * to_twist.z};
    const Quat<F> spin = multiply(g.quat, conjugate(whole));
    back.seat_turn = cross(arm, g.mean) + scaled(half, Vec3<F>{spin.x, spin.y, spin.z});

    Vec3<F> scale = g.scale;
    F opacity = g.opacity;
    if (activate) {
        scale = {scale.x * out.scale.x, scale.y * out.scale.y, scale.z * out.scale.z};
        opacity = opacity * out.opacity * (one - out.opacity);
    }
    back.rest.log_scale = back.sway.log_scale = scale;
    back.rest.opacity = back.sway.opacity = opacity;
    back.rest.colour = back.sway.colour = {g.colour.x * out.colour.x * (one - out.colour.x),
                                           g.colour.y * out.colour.y * (one - out.colour.y),
                                           g.colour.z * out.colour.z * (one - out.colour.z)};
    back.log_growth = dot(g.mean, arm) + scale.x + scale.y + scale.z;
    return back;
}

}  // namespace AV_ISA
}  // namespace avatar
