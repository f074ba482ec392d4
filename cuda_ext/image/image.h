// Weighted L1 and SSIM of two pictures in one pass. avatar/ops/image.py holds the specification.
#pragma once

#include <cstddef>

namespace avatar {
namespace image {

constexpr int kBandRows = 64;
constexpr int kRadius = 5, kTaps = 2 * kRadius + 1;

struct Job {
    const float *image, *target;  // [h w c]
    const float* weight;          // [h w] or null for 1
    int height, width, channels;
    float taps[kTaps];
    float* gradient;  // [h w c] or null: of the sum of weight * SSIM, to `image`

    int row() const { return width * channels; }
    int bands() const { return (height + kBandRows - 1) / kBandRows; }
};

struct Sums {
    double difference, similarity, weight;
};

struct Upstream {
    const float* similarity_gradient;  // what l1_ssim wrote to Job::gradient
    float difference, similarity;
};

struct Kernels {
    void (*band)(const Job&, int band, float* scratch, Sums*);
    void (*band_backward)(const Job&, int band, float* scratch, const Upstream&, float* out);
};

// A padded row of scratch memory: zeros for the window at both ends, and room for the last vector.
inline size_t padded_row(const Job& job) { return size_t(job.row()) + 2 * kRadius * job.channels + 32; }
inline size_t scratch_floats(const Job& job) { return padded_row(job) * (6 + 3 * (kBandRows + 2 * kRadius)); }

Sums l1_ssim(Job, int threads);
// out = difference * weight * sign(image - target) + similarity * similarity_gradient
void l1_ssim_backward(const Job&, const Upstream&, float* out, int threads);

}  // namespace image
}  // namespace avatar
