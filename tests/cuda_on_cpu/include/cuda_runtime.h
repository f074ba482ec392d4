// A CUDA device in software: what the project's .cu files use of CUDA's language and runtime, for a C++ compiler.
//
// Blocks run one after the other. The threads of a block are fibers that switch where CUDA's threads wait for each
// other: at barriers and at warp intrinsics. Between two such places a thread runs alone, and blocks alternate between
// rising and falling order of threads, so a missing barrier shows as a wrong value. Memory in __shared__ is NaN (all
// bits set) when a block begins. Threads that wait for each other in different places are an error, with the lines.
// Not there: dynamic shared memory, cooperative groups, __activemask, half precision, textures, real concurrency.
#pragma once

#include <math.h>

#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <utility>

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline
#define __launch_bounds__(...)
#define __shared__ static thread_local

struct dim3 {
    unsigned x, y, z;
    constexpr dim3(unsigned x = 1, unsigned y = 1, unsigned z = 1) : x(x), y(y), z(z) {}
};
using uint3 = dim3;

#define AV_VECTOR(type, name)                                                                   \
    struct alignas(2 * sizeof(type)) name##2 { type x, y; };                                    \
    struct name##3 { type x, y, z; };                                                           \
    struct alignas(4 * sizeof(type) > 16 ? 16 : 4 * sizeof(type)) name##4 { type x, y, z, w; }; \
    inline name##2 make_##name##2(type x, type y) { return {x, y}; }                            \
    inline name##3 make_##name##3(type x, type y, type z) { return {x, y, z}; }                 \
    inline name##4 make_##name##4(type x, type y, type z, type w) { return {x, y, z, w}; }
AV_VECTOR(float, float)
AV_VECTOR(double, double)
AV_VECTOR(int, int)
AV_VECTOR(unsigned char, uchar)
AV_VECTOR(unsigned short, ushort)
struct alignas(8) uint2 {
    unsigned x, y;
};
struct alignas(16) uint4 {
    unsigned x, y, z, w;
};
inline uint2 make_uint2(unsigned x, unsigned y) { return {x, y}; }
inline uint4 make_uint4(unsigned x, unsigned y, unsigned z, unsigned w) { return {x, y, z, w}; }

extern dim3 threadIdx, blockIdx, blockDim, gridDim;  // of the fiber that runs
constexpr int warpSize = 32;

namespace cuda_on_cpu {

// Runs a kernel; false, and a report for cudaGetErrorString, if its threads cannot go on.
bool run(dim3 grid, dim3 block, const std::function<void()>& kernel);
const char* report();

// Wait until all lanes in `mask` are here, and return what each of the 32 brought.
const uint64_t* meet_warp(unsigned mask, uint64_t value, const char* what, int line);
// Wait until all threads of the block are here; how many brought a predicate that holds.
int meet_block(bool predicate, const char* what, int line);
int lane();

template <class T>
uint64_t to_bits(T value) {
    static_assert(sizeof(T) <= 8, "shuffles carry up to 64 bits");
    uint64_t bits = 0;
    std::memcpy(&bits, &value, sizeof(T));
    return bits;
}

template <class T>
T from_bits(uint64_t bits) {
    T value;
    std::memcpy(&value, &bits, sizeof(T));
    return value;
}

template <class T>
T shuffle(unsigned mask, T value, int source, const char* what, int line) {
    const uint64_t* all = meet_warp(mask, to_bits(value), what, line);
    if (!(mask >> source & 1)) source = -1;
    return source < 0 ? from_bits<T>(~uint64_t(0)) : from_bits<T>(all[source]);  // undefined in CUDA: NaN here
}

}  // namespace cuda_on_cpu

#define AV_LINE int line = __builtin_LINE()
inline void __syncthreads(AV_LINE) { cuda_on_cpu::meet_block(false, "__syncthreads", line); }
inline int __syncthreads_or(int p, AV_LINE) { return cuda_on_cpu::meet_block(p, "__syncthreads_or", line) > 0; }
inline int __syncthreads_count(int p, AV_LINE) { return cuda_on_cpu::meet_block(p, "__syncthreads_count", line); }
inline int __syncthreads_and(int p, AV_LINE) { return !cuda_on_cpu::meet_block(!p, "__syncthreads_and", line); }
inline void __syncwarp(unsigned mask = ~0u, AV_LINE) { cuda_on_cpu::meet_warp(mask, 0, "__syncwarp", line); }

template <class T>
T __shfl_sync(unsigned mask, T value, int source, int width = 32, AV_LINE) {
    const int first = cuda_on_cpu::lane() & ~(width - 1);
    return cuda_on_cpu::shuffle(mask, value, first + (source & (width - 1)), "__shfl_sync", line);
}
template <class T>
T __shfl_xor_sync(unsigned mask, T value, int other, int width = 32, AV_LINE) {
    const int lane = cuda_on_cpu::lane(), source = lane ^ other;
    const bool own = source / width > lane / width;
    return cuda_on_cpu::shuffle(mask, value, own ? lane : source, "__shfl_xor_sync", line);
}
template <class T>
T __shfl_up_sync(unsigned mask, T value, unsigned step, int width = 32, AV_LINE) {
    const int lane = cuda_on_cpu::lane(), source = lane - int(step);
    return cuda_on_cpu::shuffle(mask, value, source < (lane & ~(width - 1)) ? lane : source, "__shfl_up_sync", line);
}
template <class T>
T __shfl_down_sync(unsigned mask, T value, unsigned step, int width = 32, AV_LINE) {
    const int lane = cuda_on_cpu::lane(), source = lane + int(step);
    return cuda_on_cpu::shuffle(mask, value, source > (lane | (width - 1)) ? lane : source, "__shfl_down_sync", line);
}
inline unsigned __ballot_sync(unsigned mask, int predicate, AV_LINE) {
    const uint64_t* all = cuda_on_cpu::meet_warp(mask, predicate != 0, "__ballot_sync", line);
    unsigned bits = 0;
    for (int k = 0; k < 32; ++k) bits |= unsigned((mask >> k & 1) && all[k]) << k;
    return bits;
}
inline int __any_sync(unsigned mask, int p, AV_LINE) { return __ballot_sync(mask, p, line) != 0; }
inline int __all_sync(unsigned mask, int p, AV_LINE) { return __ballot_sync(mask, !p, line) == 0; }
template <class T>
unsigned __match_any_sync(unsigned mask, T value, AV_LINE) {
    const uint64_t* all = cuda_on_cpu::meet_warp(mask, cuda_on_cpu::to_bits(value), "__match_any_sync", line);
    unsigned bits = 0;
    for (int k = 0; k < 32; ++k) bits |= unsigned((mask >> k & 1) && all[k] == cuda_on_cpu::to_bits(value)) << k;
    return bits;
}

// Fibers switch at the places above only, so plain memory accesses are atomic.
#define AV_ATOMIC(name, type, expression)    \
    inline type name(type* at, type value) { \
        const type old = *at;                \
        *at = expression;                    \
        return old;                          \
    }
AV_ATOMIC(atomicAdd, float, old + value)
AV_ATOMIC(atomicAdd, double, old + value)
AV_ATOMIC(atomicAdd, int, old + value)
AV_ATOMIC(atomicAdd, unsigned, old + value)
AV_ATOMIC(atomicAdd, unsigned long long, old + value)
AV_ATOMIC(atomicMax, int, old < value ? value : old)
AV_ATOMIC(atomicMax, unsigned, old < value ? value : old)
AV_ATOMIC(atomicMin, int, old < value ? old : value)
AV_ATOMIC(atomicMin, unsigned, old < value ? old : value)
AV_ATOMIC(atomicOr, int, old | value)
AV_ATOMIC(atomicOr, unsigned, old | value)
AV_ATOMIC(atomicAnd, unsigned, old& value)
AV_ATOMIC(atomicExch, int, value)
AV_ATOMIC(atomicExch, unsigned, value)
inline unsigned atomicCAS(unsigned* at, unsigned expected, unsigned value) {
    const unsigned old = *at;
    if (old == expected) *at = value;
    return old;
}

template <class T>
T __ldg(const T* at) {
    return *at;
}
inline int __popc(unsigned x) { return __builtin_popcount(x); }
inline int __popcll(unsigned long long x) { return __builtin_popcountll(x); }
inline int __ffs(int x) { return __builtin_ffs(x); }
inline int __clz(int x) { return x ? __builtin_clz(unsigned(x)) : 32; }
inline int __float_as_int(float x) { return cuda_on_cpu::from_bits<int>(cuda_on_cpu::to_bits(x)); }
inline unsigned __float_as_uint(float x) { return cuda_on_cpu::from_bits<unsigned>(cuda_on_cpu::to_bits(x)); }
inline float __int_as_float(int x) { return cuda_on_cpu::from_bits<float>(cuda_on_cpu::to_bits(x)); }
inline float __uint_as_float(unsigned x) { return cuda_on_cpu::from_bits<float>(cuda_on_cpu::to_bits(x)); }
inline float rsqrtf(float x) { return 1.0f / sqrtf(x); }
inline float __expf(float x) { return expf(x); }
inline float __logf(float x) { return logf(x); }
inline float __powf(float x, float y) { return powf(x, y); }
inline float __fdividef(float x, float y) { return x / y; }
inline void __threadfence() {}
inline void __threadfence_block() {}
inline int min(int a, int b) { return a < b ? a : b; }
inline int max(int a, int b) { return a < b ? b : a; }
inline unsigned min(unsigned a, unsigned b) { return a < b ? a : b; }
inline unsigned max(unsigned a, unsigned b) { return a < b ? b : a; }
inline long long min(long long a, long long b) { return a < b ? a : b; }
inline long long max(long long a, long long b) { return a < b ? b : a; }
inline float min(float a, float b) { return fminf(a, b); }
inline float max(float a, float b) { return fmaxf(a, b); }

enum cudaError_t { cudaSuccess = 0, cudaErrorInvalidValue = 1, cudaErrorLaunchFailure = 719 };
enum cudaMemcpyKind { cudaMemcpyHostToDevice = 1, cudaMemcpyDeviceToHost = 2, cudaMemcpyDeviceToDevice = 3 };
using cudaStream_t = struct CUstream_st*;
using cudaEvent_t = struct CUevent_st*;
constexpr unsigned cudaEventDisableTiming = 2;

struct cudaLaunchConfig_t {
    dim3 gridDim, blockDim;
    size_t dynamicSmemBytes = 0;
    cudaStream_t stream = nullptr;
    void* attrs = nullptr;
    unsigned numAttrs = 0;
};

namespace cuda_on_cpu {

inline cudaError_t& last_error() {
    static cudaError_t error = cudaSuccess;
    return error;
}

// What build.py makes of kernel<<<grid, block, shared, stream>>>(arguments).
struct Configured {
    cudaLaunchConfig_t config;
    Configured(dim3 grid, dim3 block, size_t shared = 0, cudaStream_t stream = nullptr)
        : config{grid, block, shared, stream} {}

    template <class... P, class... A>
    void operator()(void (*kernel)(P...), A&&... arguments) const {
        // Each thread gets its own copy of the arguments, as in CUDA.
        if (config.dynamicSmemBytes)
            last_error() = cudaErrorInvalidValue;
        else if (!run(config.gridDim, config.blockDim, [&] { kernel(P(arguments)...); }))
            last_error() = cudaErrorLaunchFailure;
    }
};

}  // namespace cuda_on_cpu

inline cudaError_t cudaGetLastError() { return std::exchange(cuda_on_cpu::last_error(), cudaSuccess); }
inline cudaError_t cudaPeekAtLastError() { return cuda_on_cpu::last_error(); }

template <class... P, class... A>
cudaError_t cudaLaunchKernelEx(const cudaLaunchConfig_t* config, void (*kernel)(P...), A&&... arguments) {
    const cuda_on_cpu::Configured launch(config->gridDim, config->blockDim, config->dynamicSmemBytes);
    launch(kernel, std::forward<A>(arguments)...);
    return cudaGetLastError();
}

inline const char* cudaGetErrorString(cudaError_t error) {
    return error == cudaErrorLaunchFailure ? cuda_on_cpu::report() : "invalid argument";
}
inline cudaError_t cudaMemcpyAsync(void* to, const void* from, size_t bytes, cudaMemcpyKind, cudaStream_t = nullptr) {
    std::memcpy(to, from, bytes);
    return cudaSuccess;
}
inline cudaError_t cudaMemsetAsync(void* at, int value, size_t bytes, cudaStream_t = nullptr) {
    if (bytes) std::memset(at, value, bytes);
    return cudaSuccess;
}
inline cudaError_t cudaStreamSynchronize(cudaStream_t) { return cudaSuccess; }
inline cudaError_t cudaMallocHost(void** at, size_t bytes) {
    *at = std::malloc(bytes);
    return cudaSuccess;
}
inline cudaError_t cudaFreeHost(void* at) {
    std::free(at);
    return cudaSuccess;
}
inline cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned) {
    *event = nullptr;
    return cudaSuccess;
}
inline cudaError_t cudaEventRecord(cudaEvent_t, cudaStream_t = nullptr) { return cudaSuccess; }
inline cudaError_t cudaEventSynchronize(cudaEvent_t) { return cudaSuccess; }
inline cudaError_t cudaEventDestroy(cudaEvent_t) { return cudaSuccess; }
