#include "../bind.h"
#include "adam.h"

namespace avatar {
namespace {

using namespace adam;

// value, mean, square, gradient, terms; decays, rate, correction, eps.
Job job(const Five& p, int64_t rows, int width, int term_count, const std::array<float, 5>& rates, bool skip) {
    return {at<float>(p[0]), at<float>(p[1]), at<float>(p[2]), at<float>(p[3]), at<float>(p[4]), rows,     width,
            term_count,      rates[0],        rates[1],        rates[2],        rates[3],        rates[4], skip};
}

void adam_step(const Five& p, int64_t rows, int width, int term_count, const std::array<float, 5>& rates, bool skip,
               int threads) {
    step(job(p, rows, width, term_count, rates, skip), threads);
}

#if defined(AV_CUDA)
void cuda_adam_step(const Five& p, int64_t rows, int width, int term_count, const std::array<float, 5>& rates,
                    bool skip, Pointer stream) {
    on_device::step(job(p, rows, width, term_count, rates, skip), at<void>(stream));
}
#endif

}  // namespace

void bind_adam(nb::module_& m) {
    m.def("adam_step", &adam_step, Released());
#if defined(AV_CUDA)
    m.def("cuda_adam_step", &cuda_adam_step, Released());
#endif
}

}  // namespace avatar
