#include "../bind.h"
#include "image.h"

namespace avatar {
namespace {

using namespace image;

Job pictures(const Three& p, const std::array<int, 3>& shape) {
    Job job{};
    job.image = at<float>(p[0]), job.target = at<float>(p[1]), job.weight = at<float>(p[2]);
    job.height = shape[0], job.width = shape[1], job.channels = shape[2];
    return job;
}

std::array<double, 3> measure(const Three& p, const std::array<int, 3>& shape, Pointer gradient, int threads) {
    Job job = pictures(p, shape);
    job.gradient = at<float>(gradient);
    const Sums sums = l1_ssim(job, threads);
    return {sums.difference, sums.similarity, sums.weight};
}

void measure_backward(const Three& p, const std::array<int, 3>& shape, Pointer similarity_gradient,
                      const std::array<float, 2>& upstream, Pointer out, int threads) {
    l1_ssim_backward(pictures(p, shape), {at<float>(similarity_gradient), upstream[0], upstream[1]}, at<float>(out),
                     threads);
}

}  // namespace

void bind_image(nb::module_& m) {
    m.def("l1_ssim", &measure, Released());
    m.def("l1_ssim_backward", &measure_backward, Released());
}

}  // namespace avatar
