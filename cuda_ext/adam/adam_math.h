// One number's step of Adam (Kingma and Ba 2015), for F = float or a vector of floats.
#pragma once

#include "../portability.h"

namespace avatar {
namespace AV_ISA {

template <class F>
struct AdamRates {
    F keep_mean, keep_square;        // the decays beta1, beta2
    F rate;                          // lr / (1 - beta1^t)
    F inverse_root_correction, eps;  // 1 / sqrt(1 - beta2^t)
};

template <class F>
AV_HD void adam_update(const AdamRates<F>& r, F g, F& value, F& mean, F& square) {
    mean = fma(r.keep_mean, mean - g, g);
    const F squared = g * g;
    square = fma(r.keep_square, square - squared, squared);
    value = value - r.rate * mean / fma(square_root(square), r.inverse_root_correction, r.eps);
}

}  // namespace AV_ISA
}  // namespace avatar
