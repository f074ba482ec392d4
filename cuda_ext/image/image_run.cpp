// Weighted L1 and SSIM on the CPU: one parallel region over bands of rows; the bands' sums are added in order, so the
// result does not depend on the number of threads.

#include <cmath>
#include <memory>
#include <vector>

#include "../cpu_features.h"
#include "../threads.h"
#include "image.h"

AV_SELECT_KERNELS(avatar::image::Kernels, image_kernels)

namespace avatar {
namespace image {

Sums l1_ssim(Job job, int threads) {
    const Kernels& kernels = select_kernels();
    double taps[kTaps], total = 0;
    for (int i = 0; i < kTaps; ++i) total += taps[i] = std::exp(-0.5 * (i - kRadius) * (i - kRadius) / (1.5 * 1.5));
    for (int i = 0; i < kTaps; ++i) job.taps[i] = float(taps[i] / total);
    const size_t size = scratch_floats(job);
    const std::unique_ptr<float[]> scratch(new float[size * threads]);
    std::vector<Sums> sums(job.bands());
    parallel_for(job.bands(), threads,
                 [&](int band, int worker) { kernels.band(job, band, scratch.get() + worker * size, &sums[band]); });
    Sums all{0, 0, 0};
    for (const Sums& s : sums) all.difference += s.difference, all.similarity += s.similarity, all.weight += s.weight;
    return all;
}

void l1_ssim_backward(const Job& job, const Upstream& upstream, float* out, int threads) {
    const Kernels& kernels = select_kernels();
    const size_t size = padded_row(job);
    const std::unique_ptr<float[]> scratch(new float[size * threads]);
    parallel_for(job.bands(), threads, [&](int band, int worker) {
        kernels.band_backward(job, band, scratch.get() + worker * size, upstream, out);
    });
}

}  // namespace image
}  // namespace avatar
