// Structural similarity (Wang et al. 2004) of two pictures in [0, 1] and its derivatives, for F = float or a vector.
#pragma once

#include "../portability.h"

namespace avatar {
namespace AV_ISA {

constexpr float kC1 = 0.01f * 0.01f, kC2 = 0.03f * 0.03f;

template <class F>
struct Similarity {
    F value;
    F by_mean_a, by_aa, by_ab;  // derivatives to the blurred a, a^2 and a b
};

template <class F>
AV_HD Similarity<F> similarity(F mean_a, F mean_b, F aa, F bb, F ab) {
    const F two(2.0f), c1(kC1), c2(kC2), product = mean_a * mean_b;
    const F squares_a = mean_a * mean_a, squares_b = mean_b * mean_b;
    const F n1 = two * product + c1, n2 = two * (ab - product) + c2;
    const F d1 = squares_a + squares_b + c1, d2 = (aa - squares_a) + (bb - squares_b) + c2;
    const F scale = F(1.0f) / (d1 * d2), value = n1 * n2 * scale;
    return {value, two * scale * (mean_b * (n2 - n1) - mean_a * value * (d2 - d1)), F(0.0f) - value * d1 * scale,
            two * n1 * scale};
}

}  // namespace AV_ISA
}  // namespace avatar
