// Multiresolution hash encoding (Müller et al. 2022): one axis of a level, and the row of one corner of a cell.
//
// F is float or a vector of floats; W is the unsigned word, or vector of words, with as many lanes.
#pragma once

#include <cstdint>

#include "../portability.h"

namespace avatar {
namespace AV_ISA {

// Where a coordinate is on a level: past which vertex, and how far, in cells.
template <class F>
struct Along {
    F vertex, fraction;
    F inside;  // 1 where the coordinate moves with its clamped value, else 0
};

// Coordinates are clamped to [0, 1], and NaN counts as 0. `floor_of` rounds values that are not negative down.
template <class F, class Floor>
AV_HD Along<F> along_axis(F x, float resolution, Floor floor_of) {
    const F zero(0.0f), one(1.0f), r(resolution);
    const F u = select(at_least(x, zero), minimum(x, one), zero);
    const F vertex = floor_of(minimum(u * r, F(resolution - 1.0f)));
    // Fused, so that the fraction is right to its own last bit even where the product was rounded.
    return {vertex, fma(u, r, zero - vertex), select(both(at_least(x, zero), at_least(one, x)), one, zero)};
}

// Weight of the corner whose bits say at which end of each axis it is (bit 0 is x).
template <int D, class F>
AV_HD F corner_weight(const F* fraction, int corner) {
    F w = corner & 1 ? fraction[0] : F(1.0f) - fraction[0];
    for (int d = 1; d < D; ++d) w = w * (corner >> d & 1 ? fraction[d] : F(1.0f) - fraction[d]);
    return w;
}

template <class F>
AV_HD F between(F a, F b, F fraction) {
    return fma(fraction, b - a, a);
}

// Slopes along each axis of the interpolation between values at the 2^D corners, which are overwritten.
template <int D, class F>
AV_HD void interpolation_slopes(F* corner, const F* fraction, F* slope) {
    F slopes[D][1 << (D - 1)];
    for (int d = 0; d < D; ++d)  // one axis after the other is interpolated away, the first one first
        for (int i = 0; i < 1 << (D - 1 - d); ++i) {
            for (int done = 0; done < d; ++done)
                slopes[done][i] = between(slopes[done][2 * i], slopes[done][2 * i + 1], fraction[d]);
            slopes[d][i] = corner[2 * i + 1] - corner[2 * i];
            corner[i] = between(corner[2 * i], corner[2 * i + 1], fraction[d]);
        }
    for (int d = 0; d < D; ++d) slope[d] = slopes[d][0];
}

// Row of a corner within its level, from each axis' vertex times its multiplier.
template <int D, bool kHashed, class W>
AV_HD W corner_row(const W* part, W mask) {
    W row = part[0];
    for (int d = 1; d < D; ++d) row = kHashed ? row ^ part[d] : row + part[d];
    return kHashed ? row & mask : row;
}

}  // namespace AV_ISA
}  // namespace avatar
