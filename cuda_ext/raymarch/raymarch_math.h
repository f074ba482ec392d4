// Samples along a ray through an occupancy grid, and how they are blended; for F = float or a vector of floats.
#pragma once

#include "../portability.h"
#include "raymarch.h"

namespace avatar {
namespace AV_ISA {

constexpr float kLog2E = 1.4426950408889634f;
constexpr float kMinLight = 1e-4f;  // behind less transmittance than this, nothing counts
constexpr float kParallel = 1e-30f;

struct Interval {
    float first, last;  // of t; empty unless first < last
};

// Where a ray is inside the box and between near and far (slabs; Kay and Kajiya 1986). Rays with coordinates that are
// not finite and rays without a direction are nowhere.
AV_HD Interval inside_box(const raymarch::March& m, const float* origin, const float* direction) {
    Interval t{m.near_t, m.far_t};
    bool moves = false;
    for (int d = 0; d < 3; ++d) {
        const float o = origin[d], along = direction[d];
        if (!(o - o == 0.0f) || !(along - along == 0.0f)) return {0.0f, 0.0f};
        if (along < kParallel && along > -kParallel) {
            if (!(o >= m.low[d] && o <= m.high[d])) return {0.0f, 0.0f};
        } else {
            const float inverse = 1.0f / along, a = (m.low[d] - o) * inverse, b = (m.high[d] - o) * inverse;
            t.first = maximum(t.first, minimum(a, b));
            t.last = minimum(t.last, maximum(a, b));
            moves = true;
        }
    }
    return moves ? t : Interval{0.0f, 0.0f};
}

// Sample k reaches from start(k) to start(k + 1): `step` long, or cone * t where that is longer.
struct Spacing {
    float first, step, even, log_growth;  // `even` samples have length `step`

    AV_HD Spacing(const raymarch::March& m, float first_t)
        : first(first_t), step(m.step), even(1e30f), log_growth(m.log_growth) {
        if (log_growth > 0.0f) even = maximum(ceilf((m.even_until - first) / step), 0.0f);
    }
    template <class F>
    AV_HD F start(F k) const {
        const F straight = minimum(k, F(even)), t = fma(straight, F(step), F(first));
        if (!(log_growth > 0.0f)) return t;
        return t * exp2(minimum((k - straight) * F(log_growth), F(100.0f)));
    }
};

// Number of the cell along an axis; what lies outside counts to the nearest cell.
template <class F>
AV_HD F cell_along(const raymarch::March& m, int axis, F coordinate) {
    const F u = (coordinate - F(m.low[axis])) * F(m.scale[axis]), zero(0.0f);
    return select(at_least(u, zero), minimum(u, F(m.cells[axis] - 1.0f)), zero);
}

// Where a ray's first sample starts. Jitter is clamped to [0, 1], else a ray could march 2^20 steps outside of the box.
AV_HD float jittered(const raymarch::March& m, const float* jitter, float first) {
    return jitter && *jitter >= 0.0f ? fma(minimum(*jitter, 1.0f), m.step, first) : first;
}

// Samples that end before they start are empty: with a length below 0 light would grow.
template <class F>
AV_HD F length_of(F start, F end) {
    const F zero(0.0f), length = end - start;
    return select(less(length, zero), zero, length);
}

// Share of the light that passes a sample; densities below 0 count as 0, NaN stays NaN.
template <class F>
AV_HD F passing(F density, F length) {
    const F zero(0.0f), depth = select(less(density, zero), zero, density) * length * F(kLog2E);
    return exp2(zero - minimum(F(126.0f), depth));
}

}  // namespace AV_ISA
}  // namespace avatar
