// Multiresolution hash encoding on a CUDA device: the formulas of hashgrid_math.h, one thread for a point on a level.
//
// Blocks take levels in turn, so that the rows of a level are in the second cache together. The way back to the table
// adds with atomics, so its gradients are not bit for bit repeatable.

#include <stdexcept>
#include <string>

#include "hashgrid_cuda.h"
#include "hashgrid_math.h"

namespace avatar {
namespace hashgrid {
namespace on_device {
namespace {

using namespace avatar::AV_ISA;

constexpr int kThreads = 256;

void check(cudaError_t status, const char* what) {
    if (status != cudaSuccess) throw std::runtime_error(std::string(what) + ": " + cudaGetErrorString(status));
}

struct Floor {
    __device__ float operator()(float a) const { return floorf(a); }
};

// The cell of one point on one level.
template <int D>
struct Cell {
    float fraction[D], inside[D];
    uint32_t low[D];

    __device__ Cell(const Job& job, const Level& level, int64_t point) {
        for (int d = 0; d < D; ++d) {
            const Along<float> a = along_axis(job.positions[d * job.points + point], level.resolution, Floor());
            fraction[d] = a.fraction, inside[d] = a.inside;
            low[d] = uint32_t(a.vertex) * level.multiplier[d];
        }
    }
    __device__ int64_t row(const Level& level, int corner) const {
        uint32_t part[D];
        for (int d = 0; d < D; ++d) part[d] = low[d] + (corner >> d & 1 ? level.multiplier[d] : 0u);
        return level.first_row + (level.mask ? corner_row<D, true>(part, level.mask) : corner_row<D, false>(part, 0u));
    }
};

__device__ int64_t thread_number() { return int64_t(blockIdx.x) * blockDim.x + threadIdx.x; }

template <int D, int C>
__global__ void __launch_bounds__(kThreads) encode_kernel(Job job, float* out) {
    const int64_t point = thread_number();
    if (point >= job.points) return;
    const Level& level = job.grid.level[blockIdx.y];
    const Cell<D> cell(job, level, point);
    float total[C] = {};
    for (int corner = 0; corner < 1 << D; ++corner) {
        const float* row = job.table + cell.row(level, corner) * C;
        const float w = corner_weight<D>(cell.fraction, corner);
        for (int k = 0; k < C; ++k) total[k] = avatar::AV_ISA::fma(w, row[k], total[k]);
    }
    float* to = out + (point * job.grid.levels + blockIdx.y) * C;
    for (int k = 0; k < C; ++k) to[k] = total[k];
}

template <int D, int C>
__global__ void __launch_bounds__(kThreads) table_kernel(Job job, float* out) {
    const int64_t point = thread_number();
    if (point >= job.points) return;
    const Level& level = job.grid.level[blockIdx.y];
    const Cell<D> cell(job, level, point);
    const float* gradient = job.gradient + (point * job.grid.levels + blockIdx.y) * C;
    for (int corner = 0; corner < 1 << D; ++corner) {
        float* row = out + cell.row(level, corner) * C;
        const float w = corner_weight<D>(cell.fraction, corner);
        for (int k = 0; k < C; ++k) atomicAdd(row + k, w * gradient[k]);
    }
}

template <int D, int C>
__global__ void __launch_bounds__(kThreads) positions_kernel(Job job, float* out) {
    const int64_t point = thread_number();
    if (point >= job.points) return;
    float total[D] = {};
    for (int index = 0; index < job.grid.levels; ++index) {
        const Level& level = job.grid.level[index];
        const Cell<D> cell(job, level, point);
        const float* gradient = job.gradient + (point * job.grid.levels + index) * C;
        float product[1 << D], slope[D];
        for (int corner = 0; corner < 1 << D; ++corner) {
            const float* row = job.table + cell.row(level, corner) * C;
            product[corner] = 0.0f;
            for (int k = 0; k < C; ++k) product[corner] = avatar::AV_ISA::fma(gradient[k], row[k], product[corner]);
        }
        interpolation_slopes<D>(product, cell.fraction, slope);
        for (int d = 0; d < D; ++d) total[d] += slope[d] * cell.inside[d] * level.resolution;
    }
    for (int d = 0; d < D; ++d) out[d * job.points + point] = total[d];
}

enum class Work { encode, table, positions };

template <int D, int C>
void launch(Work work, const Job& job, float* out, cudaStream_t stream) {
    const dim3 blocks(unsigned((job.points + kThreads - 1) / kThreads), unsigned(job.grid.levels));
    if (work == Work::encode)
        encode_kernel<D, C><<<blocks, kThreads, 0, stream>>>(job, out);
    else if (work == Work::table)
        table_kernel<D, C><<<blocks, kThreads, 0, stream>>>(job, out);
    else
        positions_kernel<D, C><<<blocks.x, kThreads, 0, stream>>>(job, out);
}

template <int D>
void launch_for_features(Work work, const Job& job, float* out, cudaStream_t stream) {
    switch (job.grid.features) {
        case 1:
            return launch<D, 1>(work, job, out, stream);
        case 2:
            return launch<D, 2>(work, job, out, stream);
        case 4:
            return launch<D, 4>(work, job, out, stream);
        default:
            return launch<D, 8>(work, job, out, stream);
    }
}

void run(Work work, const Job& job, float* out, void* stream) {
    if (job.points == 0) return;
    const auto queue = static_cast<cudaStream_t>(stream);
    if (job.grid.dimensions == 2)
        launch_for_features<2>(work, job, out, queue);
    else
        launch_for_features<3>(work, job, out, queue);
    check(cudaGetLastError(), "hash grid");
}

}  // namespace

void encode(const Job& job, float* out, void* stream) { run(Work::encode, job, out, stream); }

void backward_table(const Job& job, float* out, void* stream) {
    const Level& last = job.grid.level[job.grid.levels - 1];
    const size_t bytes = size_t(last.first_row + last.rows) * job.grid.features * sizeof(float);
    check(cudaMemsetAsync(out, 0, bytes, static_cast<cudaStream_t>(stream)), "hash grid");
    run(Work::table, job, out, stream);
}

void backward_positions(const Job& job, float* out, void* stream) { run(Work::positions, job, out, stream); }

}  // namespace on_device
}  // namespace hashgrid
}  // namespace avatar
