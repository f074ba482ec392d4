// The formulas of the Gaussian rasteriser, for F = float or a vector of floats.
//
// EWA splatting (Zwicker et al. 2001). With the projected covariance [a b; b c] and k^2 = log2(e) / 2, whitened offsets
//     u = l11 dx + l12 dy,  v = l22 dy,   l11 = k sqrt(c / det), l12 = -l11 b / c, l22 = k / sqrt(c)
// give log2(alpha) = log2(opacity) - u^2 - v^2. Unlike the expanded quadratic form this does not cancel for long thin
// splats in float32; nor does det = |j0 x j1|^2 + 0.3 (a + c) + 0.09, from the rows of the projected axes.
#pragma once

#include "../portability.h"

namespace avatar {
namespace AV_ISA {

constexpr float kLowPass = 0.3f;
constexpr float kNear = 0.01f;
constexpr float kMaxAlpha = 0.99f;
constexpr float kMinLight = 1e-4f;
constexpr float kMaxSlope = 2.0f;
constexpr float kLogMinAlpha = -7.99435344f;   // log2(1 / 255)
constexpr float kWhite = 0.849321800f;         // sqrt(log2(e) / 2)
constexpr float kInverseWhite2 = 1.38629436f;  // 1 / kWhite^2

template <class F>
struct V3 {
    F x, y, z;
};

template <class F>
AV_HD V3<F> operator+(V3<F> a, V3<F> b) {
    return {a.x + b.x, a.y + b.y, a.z + b.z};
}
template <class F>
AV_HD V3<F> operator-(V3<F> a, V3<F> b) {
    return {a.x - b.x, a.y - b.y, a.z - b.z};
}
template <class F>
AV_HD V3<F> operator*(F s, V3<F> a) {
    return {s * a.x, s * a.y, s * a.z};
}
template <class F>
AV_HD F dot(V3<F> a, V3<F> b) {
    return a.x * b.x + a.y * b.y + a.z * b.z;
}
template <class F>
AV_HD V3<F> cross(V3<F> a, V3<F> b) {
    return {a.y * b.z - a.z * b.y, a.z * b.x - a.x * b.z, a.x * b.y - a.y * b.x};
}

template <class F>
struct Pinhole {
    F r[9], t[3], fx, fy, cx, cy;
};

template <class F>
struct Splat {
    V3<F> mean;
    F w, x, y, z;  // quaternion of any length
    F scale[3];
};

// Everything that the way back needs again.
template <class F>
struct Projection {
    V3<F> local;                         // camera frame
    F inverse_z, slope_x, slope_y;       // slopes are bounded
    F qw, qx, qy, qz, inverse_length;    // unit quaternion
    V3<F> turn_x, turn_y, turn_z;        // rows of the splat's rotation
    V3<F> axis_x, axis_y, axis_z;        // rows of camera rotation times splat rotation
    V3<F> scaled_x, scaled_y, scaled_z;  // the same, columns times scales
    V3<F> j0, j1;                        // projected axes, px
    F mean_x, mean_y, a, b, c, determinant;
    F l11, l12, l22;
};

template <class F>
AV_HD Projection<F> project_splat(const Pinhole<F>& cam, const Splat<F>& s) {
    Projection<F> p;
    const F *r = cam.r, one(1.0f), two(2.0f);
    p.local = {r[0] * s.mean.x + r[1] * s.mean.y + r[2] * s.mean.z + cam.t[0],
               r[3] * s.mean.x + r[4] * s.mean.y + r[5] * s.mean.z + cam.t[1],
               r[6] * s.mean.x + r[7] * s.mean.y + r[8] * s.mean.z + cam.t[2]};
    p.inverse_z = one / maximum(p.local.z, F(kNear));
    const F slope_x = p.local.x * p.inverse_z, slope_y = p.local.y * p.inverse_z;
    p.mean_x = cam.fx * slope_x + cam.cx;
    p.mean_y = cam.fy * slope_y + cam.cy;
    p.slope_x = minimum(maximum(slope_x, F(-kMaxSlope)), F(kMaxSlope));
    p.slope_y = minimum(maximum(slope_y, F(-kMaxSlope)), F(kMaxSlope));

    p.inverse_length = one / maximum(square_root(s.w * s.w + s.x * s.x + s.y * s.y + s.z * s.z), F(1e-12f));
    const F w = s.w * p.inverse_length, x = s.x * p.inverse_length, y = s.y * p.inverse_length,
            z = s.z * p.inverse_length;
    p.qw = w, p.qx = x, p.qy = y, p.qz = z;
    const V3<F> q0 = p.turn_x = {one - two * (y * y + z * z), two * (x * y - w * z), two * (x * z + w * y)};
    const V3<F> q1 = p.turn_y = {two * (x * y + w * z), one - two * (x * x + z * z), two * (y * z - w * x)};
    const V3<F> q2 = p.turn_z = {two * (x * z - w * y), two * (y * z + w * x), one - two * (x * x + y * y)};
    p.axis_x = r[0] * q0 + r[1] * q1 + r[2] * q2;
    p.axis_y = r[3] * q0 + r[4] * q1 + r[5] * q2;
    p.axis_z = r[6] * q0 + r[7] * q1 + r[8] * q2;
    p.scaled_x = {p.axis_x.x * s.scale[0], p.axis_x.y * s.scale[1], p.axis_x.z * s.scale[2]};
    p.scaled_y = {p.axis_y.x * s.scale[0], p.axis_y.y * s.scale[1], p.axis_y.z * s.scale[2]};
    p.scaled_z = {p.axis_z.x * s.scale[0], p.axis_z.y * s.scale[1], p.axis_z.z * s.scale[2]};
    p.j0 = (cam.fx * p.inverse_z) * (p.scaled_x - p.slope_x * p.scaled_z);
    p.j1 = (cam.fy * p.inverse_z) * (p.scaled_y - p.slope_y * p.scaled_z);

    const F low(kLowPass), xx = dot(p.j0, p.j0), yy = dot(p.j1, p.j1);
    const V3<F> plane = cross(p.j0, p.j1);
    p.a = xx + low;
    p.b = dot(p.j0, p.j1);
    p.c = yy + low;
    p.determinant = dot(plane, plane) + low * (xx + yy) + F(kLowPass * kLowPass);
    p.l11 = F(kWhite) * square_root(p.c / p.determinant);
    p.l12 = F(0.0f) - p.l11 * p.b / p.c;
    p.l22 = F(kWhite) / square_root(p.c);
    return p;
}

// A splat at one pixel, (dx, dy) from its centre.
template <class F>
struct Footprint {
    F u, v, power;  // alpha = 2^power
};

template <class F>
AV_HD Footprint<F> footprint(F l11, F l12, F l22, F log_opacity, F dx, F dy) {
    const F u = fma(l11, dx, l12 * dy), v = l22 * dy;
    return {u, v, fnma(v, v, fnma(u, u, log_opacity))};
}

template <class F>
struct Span {
    F low, high;  // none if low > high
};

// How far the ellipse alpha >= 1/255 reaches to both sides of its centre within rows of pixels dy in [top, bottom]; no
// pixel centre is missed, and the margin is 1e-3 px. It reaches farthest to the right at dy = lean, or at the nearer
// end of the rows; room = log_opacity - kLogMinAlpha.
template <class F>
AV_HD Span<F> ellipse_span(F l12, F l22, F inverse_l11, F room, F reach_y, F lean, F top, F bottom) {
    const F zero(0.0f), margin(1e-3f), slope = zero - l12 * inverse_l11;
    const F a = maximum(top, zero - reach_y), b = minimum(bottom, reach_y);
    const F right = minimum(maximum(lean, a), b), left = minimum(maximum(zero - lean, a), b);
    const F vr = l22 * right, vl = l22 * left;
    const F wide_r = fma(square_root(maximum(fnma(vr, vr, room), zero)), inverse_l11, margin);
    const F wide_l = fma(square_root(maximum(fnma(vl, vl, room), zero)), inverse_l11, margin);
    const auto none = less(b, a);
    return {select(none, F(1.0f), fma(slope, left, zero - wide_l)), select(none, F(-1e30f), fma(slope, right, wide_r))};
}

// Gradients that the pixels sum up for one splat: e = dL/dln(alpha) times powers of the whitened offsets, and dL/dz.
template <class F>
struct Moments {
    F e, eu, ev, euu, euv, evv, z;
};

// dL/dln(alpha) of a splat that finds `before` of the light, where s = dL/dout . (colour, 1, z) and `behind` is the sum
// of weight * s over the splats behind it.
template <class F>
AV_HD F log_alpha_gradient(F before, F alpha, F s, F behind) {
    return fnma(behind, reciprocal(F(1.0f) - alpha), before * s) * alpha;
}

template <class F>
AV_HD void add_moments(Moments<F>& m, const Footprint<F>& f, F e, F weighted_depth) {
    const F eu = e * f.u, ev = e * f.v;
    m.e = m.e + e, m.eu = m.eu + eu, m.ev = m.ev + ev;
    m.euu = fma(eu, f.u, m.euu), m.euv = fma(eu, f.v, m.euv), m.evv = fma(ev, f.v, m.evv);
    m.z = m.z + weighted_depth;
}

template <class F>
struct SplatGradient {
    V3<F> mean;
    F w, x, y, z;
    F scale[3];
    V3<F> local;                         // of the centre in the camera's frame
    V3<F> scaled_x, scaled_y, scaled_z;  // of the scaled axes, see Projection
};

template <class F>
AV_HD SplatGradient<F> project_splat_backward(const Pinhole<F>& cam, const Splat<F>& s, const Projection<F>& p,
                                              const Moments<F>& m) {
    SplatGradient<F> g;
    const F zero(0.0f), two(2.0f), k2(kInverseWhite2);
    // q = |W d|^2 / k^2 with W = [l11 l12; 0 l22]:  dL/dmean = Q sum(e d),  dL/dcov = Q sum(e d d^T) Q / 2.
    const F mean_x = k2 * (p.l11 * m.eu), mean_y = k2 * (p.l12 * m.eu + p.l22 * m.ev);
    const F k4 = k2 * k2, cross_term = p.l12 * m.euu + p.l22 * m.euv;
    const F ga = F(0.5f) * k4 * p.l11 * p.l11 * m.euu, gb = k4 * p.l11 * cross_term;
    const F gc = F(0.5f) * k4 * (p.l12 * cross_term + p.l22 * (p.l12 * m.euv + p.l22 * m.evv));

    const V3<F> d0 = (two * ga) * p.j0 + gb * p.j1, d1 = (two * gc) * p.j1 + gb * p.j0;
    const F h0 = cam.fx * p.inverse_z, h1 = cam.fy * p.inverse_z;
    const V3<F> dx = h0 * d0, dy = h1 * d1;
    const V3<F> dz = (zero - p.slope_x) * dx - p.slope_y * dy;

    F slope_x = cam.fx * mean_x, slope_y = cam.fy * mean_y;
    const F free_x = p.local.x * p.inverse_z, free_y = p.local.y * p.inverse_z;
    const auto bound_x = both(at_least(free_x, F(-kMaxSlope)), at_least(F(kMaxSlope), free_x));
    const auto bound_y = both(at_least(free_y, F(-kMaxSlope)), at_least(F(kMaxSlope), free_y));
    slope_x = slope_x - select(bound_x, dot(dx, p.scaled_z), zero);
    slope_y = slope_y - select(bound_y, dot(dy, p.scaled_z), zero);
    const F local_x = slope_x * p.inverse_z, local_y = slope_y * p.inverse_z;
    const F inverse = slope_x * p.local.x + slope_y * p.local.y + (dot(d0, p.j0) + dot(d1, p.j1)) / p.inverse_z;
    const F local_z = m.z - inverse * p.inverse_z * p.inverse_z;
    g.local = {local_x, local_y, local_z};
    g.scaled_x = dx, g.scaled_y = dy, g.scaled_z = dz;
    const F* r = cam.r;
    g.mean = {r[0] * local_x + r[3] * local_y + r[6] * local_z, r[1] * local_x + r[4] * local_y + r[7] * local_z,
              r[2] * local_x + r[5] * local_y + r[8] * local_z};

    g.scale[0] = dx.x * p.axis_x.x + dy.x * p.axis_y.x + dz.x * p.axis_z.x;
    g.scale[1] = dx.y * p.axis_x.y + dy.y * p.axis_y.y + dz.y * p.axis_z.y;
    g.scale[2] = dx.z * p.axis_x.z + dy.z * p.axis_y.z + dz.z * p.axis_z.z;

    V3<F> q[3];  // rows of dL/d(splat rotation)
    for (int i = 0; i < 3; ++i) {
        const V3<F> row = r[i] * dx + r[3 + i] * dy + r[6 + i] * dz;
        q[i] = {row.x * s.scale[0], row.y * s.scale[1], row.z * s.scale[2]};
    }
    const F w = p.qw, x = p.qx, y = p.qy, z = p.qz;
    const F gw = two * (x * (q[2].y - q[1].z) + y * (q[0].z - q[2].x) + z * (q[1].x - q[0].y));
    const F gx =
        two * (y * (q[0].y + q[1].x) + z * (q[0].z + q[2].x) + w * (q[2].y - q[1].z) - two * x * (q[1].y + q[2].z));
    const F gy =
        two * (x * (q[0].y + q[1].x) + z * (q[1].z + q[2].y) + w * (q[0].z - q[2].x) - two * y * (q[0].x + q[2].z));
    const F gz =
        two * (x * (q[0].z + q[2].x) + y * (q[1].z + q[2].y) + w * (q[1].x - q[0].y) - two * z * (q[0].x + q[1].y));
    const F radial = gw * w + gx * x + gy * y + gz * z;  // the length of the quaternion does not matter
    g.w = (gw - w * radial) * p.inverse_length;
    g.x = (gx - x * radial) * p.inverse_length;
    g.y = (gy - y * radial) * p.inverse_length;
    g.z = (gz - z * radial) * p.inverse_length;
    return g;
}

// What one splat adds to dL/dT_camera_world, rows of four: T moves its centre and turns its axes.
template <class F>
AV_HD void pose_gradient(const Splat<F>& s, const Projection<F>& p, const SplatGradient<F>& g, F out[12]) {
    const F local[3] = {g.local.x, g.local.y, g.local.z};
    const V3<F> scaled[3] = {g.scaled_x, g.scaled_y, g.scaled_z};
    for (int k = 0; k < 3; ++k) {
        const V3<F> row{scaled[k].x * s.scale[0], scaled[k].y * s.scale[1], scaled[k].z * s.scale[2]};
        out[4 * k] = fma(local[k], s.mean.x, dot(row, p.turn_x));
        out[4 * k + 1] = fma(local[k], s.mean.y, dot(row, p.turn_y));
        out[4 * k + 2] = fma(local[k], s.mean.z, dot(row, p.turn_z));
        out[4 * k + 3] = local[k];
    }
}

}  // namespace AV_ISA
}  // namespace avatar
