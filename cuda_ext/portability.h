// What formula headers (<op>_math.h) need to be compiled by the host's compiler and by nvcc.
//
// AV_HD marks functions that both may call. Everything that is compiled more than once lives in a namespace AV_ISA
// named after the instruction set, and uses no inline functions of the standard library: the linker merges equal
// inline functions of all translation units, and might keep the copy with instructions that the machine lacks.
#pragma once

#include <cmath>

#if defined(__CUDACC__)
#define AV_HD __host__ __device__ __forceinline__
#define AV_ISA cuda
#else
#define AV_HD inline
#if defined(__AVX512F__)
#define AV_ISA avx512
#elif defined(__AVX2__)
#define AV_ISA avx2
#else
#define AV_ISA portable
#endif
#endif

namespace avatar {
namespace AV_ISA {

// The scalar twins of the vector functions in simd.h: a formula is a template over F = float or a vector of floats.
AV_HD float minimum(float a, float b) { return a < b ? a : b; }
AV_HD float maximum(float a, float b) { return a < b ? b : a; }
AV_HD float square_root(float a) { return ::sqrtf(a); }
AV_HD float fma(float a, float b, float c) { return ::fmaf(a, b, c); }    // a b + c
AV_HD float fnma(float a, float b, float c) { return ::fmaf(-a, b, c); }  // c - a b
#if defined(__CUDA_ARCH__)
AV_HD float reciprocal(float a) { return __fdividef(1.0f, a); }  // 2 ulp below 2^126
#else
AV_HD float reciprocal(float a) { return 1.0f / a; }
#endif
AV_HD float exp2(float a) { return ::exp2f(a); }
AV_HD float select(bool m, float a, float b) { return m ? a : b; }
AV_HD bool less(float a, float b) { return a < b; }
AV_HD bool at_least(float a, float b) { return a >= b; }
AV_HD bool both(bool a, bool b) { return a && b; }

}  // namespace AV_ISA
}  // namespace avatar
