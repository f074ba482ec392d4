// Vectors of 16 (AVX-512), 8 (AVX2) or 4 floats (portable), by the flags of the translation unit. F is the widest.
#pragma once

#include <cstdint>

#include "portability.h"

#if defined(__AVX512F__) || defined(__AVX2__)
#include <immintrin.h>
#endif

namespace avatar {
namespace AV_ISA {

template <class V>
V load(const float* p);

#if defined(__AVX2__)

struct F8 {
    static constexpr int lanes = 8;
    __m256 v;
    F8() = default;
    F8(__m256 x) : v(x) {}
    F8(float x) : v(_mm256_set1_ps(x)) {}
};
struct M8 {
    __m256 v;
};

template <>
inline F8 load<F8>(const float* p) {
    return _mm256_loadu_ps(p);
}
inline void store(float* p, F8 a) { _mm256_storeu_ps(p, a.v); }
inline F8 operator+(F8 a, F8 b) { return _mm256_add_ps(a.v, b.v); }
inline F8 operator-(F8 a, F8 b) { return _mm256_sub_ps(a.v, b.v); }
inline F8 operator*(F8 a, F8 b) { return _mm256_mul_ps(a.v, b.v); }
inline F8 operator/(F8 a, F8 b) { return _mm256_div_ps(a.v, b.v); }
inline F8 fma(F8 a, F8 b, F8 c) { return _mm256_fmadd_ps(a.v, b.v, c.v); }
inline F8 fnma(F8 a, F8 b, F8 c) { return _mm256_fnmadd_ps(a.v, b.v, c.v); }
inline F8 minimum(F8 a, F8 b) { return _mm256_min_ps(a.v, b.v); }
inline F8 maximum(F8 a, F8 b) { return _mm256_max_ps(a.v, b.v); }
inline F8 square_root(F8 a) { return _mm256_sqrt_ps(a.v); }
inline M8 less(F8 a, F8 b) { return {_mm256_cmp_ps(a.v, b.v, _CMP_LT_OQ)}; }
inline M8 at_least(F8 a, F8 b) { return {_mm256_cmp_ps(a.v, b.v, _CMP_GE_OQ)}; }
inline M8 both(M8 a, M8 b) { return {_mm256_and_ps(a.v, b.v)}; }
inline bool any(M8 a) { return _mm256_movemask_ps(a.v) != 0; }
inline F8 select(M8 m, F8 a, F8 b) { return _mm256_blendv_ps(b.v, a.v, m.v); }
inline F8 zero_unless(M8 m, F8 a) { return _mm256_and_ps(m.v, a.v); }
inline F8 reciprocal(F8 a) { return F8(1.0f) / a; }
inline float sum(F8 a) {
    __m128 x = _mm_add_ps(_mm256_castps256_ps128(a.v), _mm256_extractf128_ps(a.v, 1));
    x = _mm_add_ps(x, _mm_movehl_ps(x, x));
    return _mm_cvtss_f32(_mm_add_ss(x, _mm_movehdup_ps(x)));
}
inline F8 round_nearest(F8 a) { return _mm256_round_ps(a.v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }
inline F8 scale_by_power(F8 a, F8 n) {
    const __m256i e = _mm256_slli_epi32(_mm256_cvtps_epi32(n.v), 23);
    return _mm256_castsi256_ps(_mm256_add_epi32(_mm256_castps_si256(a.v), e));
}

// Byte l of the result has the bits from[l] ... to[l] - 1 set; 0 <= from, to <= 8.
inline uint64_t byte_ranges(F8 from, F8 to) {
    const __m256i one = _mm256_set1_epi32(1);
    const __m256i low = _mm256_sllv_epi32(one, _mm256_cvttps_epi32(from.v));
    const __m256i high = _mm256_sllv_epi32(one, _mm256_cvttps_epi32(to.v));
    const __m256i bits = _mm256_max_epi32(_mm256_sub_epi32(high, low), _mm256_setzero_si256());
    const __m256i bytes = _mm256_shuffle_epi8(bits, _mm256_set1_epi64x(0x0c080400));
    return uint32_t(_mm256_cvtsi256_si32(bytes)) |
           uint64_t(uint32_t(_mm_cvtsi128_si32(_mm256_extracti128_si256(bytes, 1)))) << 32;
}

#endif

#if defined(__AVX512F__)

struct F16 {
    static constexpr int lanes = 16;
    __m512 v;
    F16() = default;
    F16(__m512 x) : v(x) {}
    F16(float x) : v(_mm512_set1_ps(x)) {}
};
using M16 = __mmask16;

template <>
inline F16 load<F16>(const float* p) {
    return _mm512_loadu_ps(p);
}
inline void store(float* p, F16 a) { _mm512_storeu_ps(p, a.v); }
inline F16 operator+(F16 a, F16 b) { return _mm512_add_ps(a.v, b.v); }
inline F16 operator-(F16 a, F16 b) { return _mm512_sub_ps(a.v, b.v); }
inline F16 operator*(F16 a, F16 b) { return _mm512_mul_ps(a.v, b.v); }
inline F16 operator/(F16 a, F16 b) { return _mm512_div_ps(a.v, b.v); }
inline F16 fma(F16 a, F16 b, F16 c) { return _mm512_fmadd_ps(a.v, b.v, c.v); }    // a b + c
inline F16 fnma(F16 a, F16 b, F16 c) { return _mm512_fnmadd_ps(a.v, b.v, c.v); }  // c - a b
inline F16 minimum(F16 a, F16 b) { return _mm512_min_ps(a.v, b.v); }
inline F16 maximum(F16 a, F16 b) { return _mm512_max_ps(a.v, b.v); }
inline F16 square_root(F16 a) { return _mm512_sqrt_ps(a.v); }
inline M16 less(F16 a, F16 b) { return _mm512_cmp_ps_mask(a.v, b.v, _CMP_LT_OQ); }
inline M16 at_least(F16 a, F16 b) { return _mm512_cmp_ps_mask(a.v, b.v, _CMP_GE_OQ); }
inline M16 both(M16 a, M16 b) { return a & b; }
inline bool any(M16 a) { return a != 0; }
inline F16 select(M16 m, F16 a, F16 b) { return _mm512_mask_blend_ps(m, b.v, a.v); }
inline F16 zero_unless(M16 m, F16 a) { return _mm512_maskz_mov_ps(m, a.v); }
inline F16 reciprocal(F16 a) {  // 14 bits and one Newton step: 1e-8, a third of a division's time
    F16 r = _mm512_rcp14_ps(a.v);
    return r * fnma(a, r, F16(2.0f));
}
inline float sum(F16 a) { return _mm512_reduce_add_ps(a.v); }
inline F16 round_nearest(F16 a) { return _mm512_roundscale_ps(a.v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }
inline F16 scale_by_power(F16 a, F16 n) { return _mm512_scalef_ps(a.v, n.v); }  // a 2^n, n whole

#endif

#if !defined(__AVX2__)

typedef float Floats __attribute__((vector_size(16)));
typedef int32_t Ints __attribute__((vector_size(16)));

struct F4 {
    static constexpr int lanes = 4;
    Floats v;
    F4() = default;
    F4(Floats x) : v(x) {}
    F4(float x) : v(Floats{x, x, x, x}) {}
};
struct M4 {
    Ints v;
};

template <>
inline F4 load<F4>(const float* p) {
    return Floats{p[0], p[1], p[2], p[3]};
}
inline void store(float* p, F4 a) {
    for (int i = 0; i < 4; ++i) p[i] = a.v[i];
}
inline F4 operator+(F4 a, F4 b) { return a.v + b.v; }
inline F4 operator-(F4 a, F4 b) { return a.v - b.v; }
inline F4 operator*(F4 a, F4 b) { return a.v * b.v; }
inline F4 operator/(F4 a, F4 b) { return a.v / b.v; }
inline F4 fma(F4 a, F4 b, F4 c) { return a.v * b.v + c.v; }
inline F4 fnma(F4 a, F4 b, F4 c) { return c.v - a.v * b.v; }
inline M4 less(F4 a, F4 b) { return {a.v < b.v}; }
inline M4 at_least(F4 a, F4 b) { return {a.v >= b.v}; }
inline M4 both(M4 a, M4 b) { return {a.v & b.v}; }
inline bool any(M4 a) { return (a.v[0] | a.v[1] | a.v[2] | a.v[3]) != 0; }
inline F4 select(M4 m, F4 a, F4 b) { return (Floats)(((Ints)a.v & m.v) | ((Ints)b.v & ~m.v)); }
inline F4 zero_unless(M4 m, F4 a) { return (Floats)((Ints)a.v & m.v); }
inline F4 minimum(F4 a, F4 b) { return select(less(a, b), a, b); }
inline F4 maximum(F4 a, F4 b) { return select(less(a, b), b, a); }
inline F4 square_root(F4 a) {
    for (int i = 0; i < 4; ++i) a.v[i] = __builtin_sqrtf(a.v[i]);
    return a;
}
inline F4 reciprocal(F4 a) { return F4(1.0f) / a; }
inline float sum(F4 a) { return (a.v[0] + a.v[2]) + (a.v[1] + a.v[3]); }
inline F4 round_nearest(F4 a) {  // |a| < 2^22; needs a compiler that keeps the order of additions
    const F4 magic(12582912.0f);
    return (a + magic) - magic;
}
inline F4 scale_by_power(F4 a, F4 n) {
    const Ints whole = __builtin_convertvector(n.v, Ints);
    return (Floats)((Ints)a.v + (whole << 23));
}

inline uint64_t byte_ranges(F4 from, F4 to) {
    uint64_t mask = 0;
    for (int i = 0; i < 4; ++i) {
        const uint32_t first = uint32_t(from.v[i]), last = uint32_t(to.v[i]);
        mask |= uint64_t(last > first ? (1u << last) - (1u << first) : 0u) << (8 * i);
    }
    return mask;
}

#endif

#if defined(__AVX512F__)
using F = F16;
using M = M16;    // a mask: one truth value a lane
using Rows = F8;  // for the eight rows of blocks of a tile
#elif defined(__AVX2__)
using F = F8;
using M = M8;  // a mask: one truth value a lane
using Rows = F8;
#else
using F = F4;
using M = M4;  // a mask: one truth value a lane
using Rows = F4;
#endif
constexpr int kLanes = F::lanes;

inline F load(const float* p) { return load<F>(p); }
inline F& operator+=(F& a, F b) { return a = a + b; }

// 2^x for x in [-126, 126]; relative error 2e-7 (Taylor series to degree 6 on [-0.5, 0.5]).
inline F exp2(F x) {
    const F n = round_nearest(x), f = x - n;
    F p(1.5403530e-4f);
    p = fma(p, f, F(1.3333558e-3f));
    p = fma(p, f, F(9.6181291e-3f));
    p = fma(p, f, F(5.5504109e-2f));
    p = fma(p, f, F(2.4022651e-1f));
    p = fma(p, f, F(6.9314718e-1f));
    p = fma(p, f, F(1.0f));
    return scale_by_power(p, n);
}

}  // namespace AV_ISA
}  // namespace avatar
