// What every CUDA source needs on the host's side: errors, launches, and the carving of one workspace into arrays.
//
// Kernels are launched through cudaLaunchKernelEx, which is a function, and not with <<< >>>, which is no C++:
// tests/cuda_on_cpu compiles the same sources with a plain C++ compiler and runs them on the CPU.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>
#include <stdexcept>
#include <string>

namespace avatar {

constexpr int kLinearThreads = 256;  // of a block when items are simply numbered

inline void check(cudaError_t status, const char* what) {
    if (status != cudaSuccess) throw std::runtime_error(std::string(what) + ": " + cudaGetErrorString(status));
}

inline cudaStream_t queue(void* stream) { return static_cast<cudaStream_t>(stream); }

inline dim3 blocks_for(int64_t items, int threads = kLinearThreads) {
    return dim3(unsigned((items + threads - 1) / threads));
}

template <class... P, class... A>
void launch(const char* what, void (*kernel)(P...), dim3 grid, int threads, void* stream, A... arguments) {
    cudaLaunchConfig_t config{};
    config.gridDim = grid, config.blockDim = dim3(unsigned(threads)), config.stream = queue(stream);
    check(cudaLaunchKernelEx(&config, kernel, static_cast<P>(arguments)...), what);
}

// Arrays one after the other in memory that the caller owns; without memory it only counts the bytes.
class Workspace {
  public:
    explicit Workspace(void* memory) : memory_(static_cast<char*>(memory)) {}

    template <class T>
    T* take(int64_t count) {
        T* array = memory_ ? reinterpret_cast<T*>(memory_ + bytes_) : nullptr;
        bytes_ += (size_t(count) * sizeof(T) + kAlignment - 1) / kAlignment * kAlignment;
        return array;
    }
    size_t bytes() const { return bytes_; }

  private:
    static constexpr size_t kAlignment = 256;
    char* memory_;
    size_t bytes_ = 0;
};

}  // namespace avatar
