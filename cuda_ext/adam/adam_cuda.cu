// Adam on a CUDA device: a warp for each row of many numbers, a thread for each row of few.

#include <cuda_runtime.h>

#include <stdexcept>
#include <string>

#include "adam.h"
#include "adam_math.h"

namespace avatar {
namespace adam {
namespace on_device {
namespace {

using namespace avatar::AV_ISA;

constexpr int kThreads = 256, kNarrow = 4;

__device__ void update(const Job& job, int64_t row, int k) {
    const AdamRates<float> rates{job.keep_mean, job.keep_square, job.rate, job.inverse_root_correction, job.eps};
    const int64_t at = row * job.width + k;
    float g;
    if (job.terms) {
        const int across = job.width / job.term_count;
        g = job.gradient[row * across + k / job.term_count] * job.terms[k % job.term_count];
    } else {
        g = job.gradient[at];
    }
    float value = job.value[at], mean = job.mean[at], square = job.square[at];
    adam_update(rates, g, value, mean, square);
    job.value[at] = value, job.mean[at] = mean, job.square[at] = square;
}

__global__ void narrow_kernel(Job job) {
    const int64_t row = int64_t(blockIdx.x) * blockDim.x + threadIdx.x;
    if (row >= job.rows) return;
    bool moves = !job.skip;
    for (int k = 0; k < job.width; ++k) moves |= job.gradient[row * job.width + k] != 0.0f;
    if (!moves) return;
    for (int k = 0; k < job.width; ++k) update(job, row, k);
}

__global__ void wide_kernel(Job job) {
    const int lane = threadIdx.x % 32, across = job.terms ? job.width / job.term_count : job.width;
    const int64_t row = (int64_t(blockIdx.x) * blockDim.x + threadIdx.x) / 32;
    if (row >= job.rows) return;
    bool moves = !job.skip;
    for (int k = lane; k < across; k += 32) moves |= job.gradient[row * across + k] != 0.0f;
    if (!__any_sync(0xffffffffu, moves)) return;
    for (int k = lane; k < job.width; k += 32) update(job, row, k);
}

}  // namespace

void step(const Job& job, void* stream) {
    const auto on = static_cast<cudaStream_t>(stream);
    const bool narrow = !job.terms && job.width <= kNarrow;
    const int64_t threads = narrow ? job.rows : 32 * job.rows;
    const unsigned blocks = unsigned((threads + kThreads - 1) / kThreads);
    if (!blocks || !job.width) return;
    if (narrow)
        narrow_kernel<<<blocks, kThreads, 0, on>>>(job);
    else
        wide_kernel<<<blocks, kThreads, 0, on>>>(job);
    const cudaError_t status = cudaGetLastError();
    if (status != cudaSuccess) throw std::runtime_error(std::string("adam: ") + cudaGetErrorString(status));
}

}  // namespace on_device
}  // namespace adam
}  // namespace avatar
