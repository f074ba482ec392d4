// Stand-in for CUB's prefix sums; see device_radix_sort.cuh.
#pragma once

#include <cuda_runtime.h>

namespace cub {

struct DeviceScan {
    template <class In, class Out, class N>
    static cudaError_t InclusiveSum(void* scratch, size_t& bytes, In in, Out out, N count, cudaStream_t = nullptr) {
        return sum(scratch, bytes, in, out, count, true);
    }

    template <class In, class Out, class N>
    static cudaError_t ExclusiveSum(void* scratch, size_t& bytes, In in, Out out, N count, cudaStream_t = nullptr) {
        return sum(scratch, bytes, in, out, count, false);
    }

  private:
    template <class In, class Out, class N>
    static cudaError_t sum(void* scratch, size_t& bytes, In in, Out out, N count, bool inclusive) {
        const size_t wanted = 1 + size_t(count) / 16;
        if (!scratch) return bytes = wanted, cudaSuccess;
        if (bytes < wanted) return cudaErrorInvalidValue;
        std::memset(scratch, 0xff, wanted);
        std::decay_t<decltype(out[0])> total = 0;
        for (N i = 0; i < count; ++i) {
            const auto value = in[i];
            out[i] = inclusive ? total + value : total;
            total += value;
        }
        return cudaSuccess;
    }
};

}  // namespace cub
