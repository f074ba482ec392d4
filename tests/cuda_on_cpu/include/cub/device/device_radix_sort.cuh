// Stand-in for CUB's radix sort: stable, by the given bits of unsigned or signed keys. Uses all of the scratch memory
// that it asked for, so that a short buffer is noticed, and the other half of a double buffer.
#pragma once

#include <cuda_runtime.h>

#include <algorithm>
#include <numeric>
#include <type_traits>
#include <vector>

namespace cub {

template <class T>
struct DoubleBuffer {
    T* d_buffers[2];
    int selector = 0;
    DoubleBuffer() : d_buffers{nullptr, nullptr} {}
    DoubleBuffer(T* current, T* alternate) : d_buffers{current, alternate} {}
    T* Current() { return d_buffers[selector]; }
    T* Alternate() { return d_buffers[selector ^ 1]; }
};

struct DeviceRadixSort {
    template <class K, class V, class N>
    static cudaError_t SortPairs(void* scratch, size_t& bytes, const K* keys, K* keys_out, const V* values,
                                 V* values_out, N count, int begin_bit = 0, int end_bit = sizeof(K) * 8,
                                 cudaStream_t = nullptr) {
        const size_t wanted = 1 + size_t(count) * (sizeof(K) + sizeof(V)) / 4;
        if (!scratch) return bytes = wanted, cudaSuccess;
        if (bytes < wanted) return cudaErrorInvalidValue;
        std::memset(scratch, 0xff, wanted);
        using U = std::make_unsigned_t<K>;
        const U sign = std::is_signed<K>::value ? U(U(1) << (sizeof(K) * 8 - 1)) : U(0);
        const int width = end_bit - begin_bit;
        const U mask = width >= int(sizeof(K) * 8) ? U(~U(0)) : U((U(1) << width) - 1);
        const auto digits = [&](K key) { return U(U(U(key) ^ sign) >> begin_bit) & mask; };
        std::vector<N> order(count);
        std::iota(order.begin(), order.end(), N(0));
        std::stable_sort(order.begin(), order.end(), [&](N a, N b) { return digits(keys[a]) < digits(keys[b]); });
        for (N i = 0; i < count; ++i) keys_out[i] = keys[order[i]], values_out[i] = values[order[i]];
        return cudaSuccess;
    }

    template <class K, class V, class N>
    static cudaError_t SortPairs(void* scratch, size_t& bytes, DoubleBuffer<K>& keys, DoubleBuffer<V>& values, N count,
                                 int begin_bit = 0, int end_bit = sizeof(K) * 8, cudaStream_t stream = nullptr) {
        const cudaError_t status = SortPairs(scratch, bytes, keys.Current(), keys.Alternate(), values.Current(),
                                             values.Alternate(), count, begin_bit, end_bit, stream);
        if (scratch) keys.selector ^= 1, values.selector ^= 1;
        return status;
    }
};

}  // namespace cub
