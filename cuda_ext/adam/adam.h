// Fused Adam that can leave rows without gradient alone. avatar/ops/optimize.py holds the specification.
#pragma once

#include <cstdint>

namespace avatar {
namespace adam {

struct Job {
    float *value, *mean, *square;  // [rows width]
    const float* gradient;         // [rows width], or [rows width / terms] where there are terms
    const float* terms;            // [term_count] or null: the gradient is the outer product of both
    int64_t rows;
    int width, term_count;
    float keep_mean, keep_square, rate, inverse_root_correction, eps;
    bool skip;  // rows whose gradient is zero stay as they are, and so does their memory
};

struct Kernels {
    void (*step)(const Job&, int64_t begin, int64_t end);
};

void step(const Job&, int threads);

#if defined(AV_CUDA)
namespace on_device {
void step(const Job&, void* stream);
}  // namespace on_device
#endif

}  // namespace adam
}  // namespace avatar
