// Vectors of 32-bit integers, as many lanes as F of simd.h has, and what indexes memory with them.
#pragma once

#include "simd.h"

namespace avatar {
namespace AV_ISA {

#if defined(__AVX512F__)

struct I16 {
    __m512i v;
    I16() = default;
    I16(__m512i x) : v(x) {}
    I16(int32_t x) : v(_mm512_set1_epi32(x)) {}
};
using I = I16;
inline I operator+(I a, I b) { return _mm512_add_epi32(a.v, b.v); }
inline I operator*(I a, I b) { return _mm512_mullo_epi32(a.v, b.v); }
inline I operator^(I a, I b) { return _mm512_xor_si512(a.v, b.v); }
inline I operator&(I a, I b) { return _mm512_and_si512(a.v, b.v); }
inline I shift_right(I a, I bits) { return _mm512_srlv_epi32(a.v, bits.v); }
inline I truncate(F a) { return _mm512_cvttps_epi32(a.v); }
inline F to_float(I a) { return _mm512_cvtepi32_ps(a.v); }
inline void store(int32_t* p, I a) { _mm512_storeu_si512(p, a.v); }
inline I load_ints(const int32_t* p) { return _mm512_loadu_si512(p); }
inline I gather(const uint32_t* p, I at) { return _mm512_i32gather_epi32(at.v, p, 4); }
inline F gather(const float* p, I at) { return _mm512_i32gather_ps(at.v, p, 4); }
inline F permute(F a, I from) { return _mm512_permutexvar_ps(from.v, a.v); }  // lane l: a[from[l]]
inline uint32_t bits(M16 m) { return m; }
inline uint32_t lowest_bits(I a) { return _mm512_test_epi32_mask(a.v, _mm512_set1_epi32(1)); }
// Lane l: the running product of lanes 0 ... l.
inline F running_product(F a) {
    const __m512 one = _mm512_set1_ps(1.0f);
    const __m512i o = _mm512_castps_si512(one);
    a = a * F(_mm512_castsi512_ps(_mm512_alignr_epi32(_mm512_castps_si512(a.v), o, 15)));
    a = a * F(_mm512_castsi512_ps(_mm512_alignr_epi32(_mm512_castps_si512(a.v), o, 14)));
    a = a * F(_mm512_castsi512_ps(_mm512_alignr_epi32(_mm512_castps_si512(a.v), o, 12)));
    return a * F(_mm512_castsi512_ps(_mm512_alignr_epi32(_mm512_castps_si512(a.v), o, 8)));
}
// p[at[0]], p[at[0] + 1], p[at[1]], p[at[1] + 1].
inline __m128 two_pairs(const float* p, const int32_t* at) {
    const __m128 low = _mm_castsi128_ps(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p + at[0])));
    return _mm_loadh_pi(low, reinterpret_cast<const __m64*>(p + at[1]));
}
inline __m512 eight_pairs(const float* p, const int32_t* at) {
    const __m512 low = _mm512_insertf32x4(_mm512_castps128_ps512(two_pairs(p, at)), two_pairs(p, at + 2), 1);
    return _mm512_insertf32x4(_mm512_insertf32x4(low, two_pairs(p, at + 4), 2), two_pairs(p, at + 6), 3);
}
// Two neighbouring floats p[at[l]], p[at[l] + 1] of each lane l: the first ones and the second ones. Plain loads: the
// processor's own gather takes about twice as long on Zen 4, and where its leaks had to be mended it is slow too.
inline void load_pairs(const float* p, const int32_t* at, F& first, F& second) {
    const __m512 a = eight_pairs(p, at), b = eight_pairs(p, at + 8);
    const __m512i even = _mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30);
    const __m512i odd = _mm512_setr_epi32(1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23, 25, 27, 29, 31);
    first = _mm512_permutex2var_ps(a, even, b);
    second = _mm512_permutex2var_ps(a, odd, b);
}
// p = first[0], second[0], first[1], ...
inline void store_pairs(float* p, F first, F second) {
    const __m512i low = _mm512_setr_epi32(0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
    const __m512i high = _mm512_setr_epi32(8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31);
    _mm512_storeu_ps(p, _mm512_permutex2var_ps(first.v, low, second.v));
    _mm512_storeu_ps(p + 16, _mm512_permutex2var_ps(first.v, high, second.v));
}

#elif defined(__AVX2__)

struct I8 {
    __m256i v;
    I8() = default;
    I8(__m256i x) : v(x) {}
    I8(int32_t x) : v(_mm256_set1_epi32(x)) {}
};
using I = I8;
inline I operator+(I a, I b) { return _mm256_add_epi32(a.v, b.v); }
inline I operator*(I a, I b) { return _mm256_mullo_epi32(a.v, b.v); }
inline I operator^(I a, I b) { return _mm256_xor_si256(a.v, b.v); }
inline I operator&(I a, I b) { return _mm256_and_si256(a.v, b.v); }
inline I shift_right(I a, I bits) { return _mm256_srlv_epi32(a.v, bits.v); }
inline I truncate(F a) { return _mm256_cvttps_epi32(a.v); }
inline F to_float(I a) { return _mm256_cvtepi32_ps(a.v); }
inline void store(int32_t* p, I a) { _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), a.v); }
inline I load_ints(const int32_t* p) { return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)); }
inline I gather(const uint32_t* p, I at) { return _mm256_i32gather_epi32(reinterpret_cast<const int*>(p), at.v, 4); }
inline F gather(const float* p, I at) { return _mm256_i32gather_ps(p, at.v, 4); }
inline F permute(F a, I from) { return _mm256_permutevar8x32_ps(a.v, from.v); }
inline uint32_t bits(M8 m) { return uint32_t(_mm256_movemask_ps(m.v)); }
inline uint32_t lowest_bits(I a) {
    return uint32_t(_mm256_movemask_ps(_mm256_castsi256_ps(_mm256_slli_epi32(a.v, 31))));
}
inline F running_product(F a) {
    const __m256 one = _mm256_set1_ps(1.0f);
    const __m256i by1 = _mm256_setr_epi32(0, 0, 1, 2, 3, 4, 5, 6), by2 = _mm256_setr_epi32(0, 0, 0, 1, 2, 3, 4, 5);
    a = a * F(_mm256_blend_ps(_mm256_permutevar8x32_ps(a.v, by1), one, 0x01));
    a = a * F(_mm256_blend_ps(_mm256_permutevar8x32_ps(a.v, by2), one, 0x03));
    return a * F(_mm256_permute2f128_ps(one, a.v, 0x20));
}
inline __m128 two_pairs(const float* p, const int32_t* at) {
    const __m128 low = _mm_castsi128_ps(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p + at[0])));
    return _mm_loadh_pi(low, reinterpret_cast<const __m64*>(p + at[1]));
}
inline void load_pairs(const float* p, const int32_t* at, F& first, F& second) {
    const __m256 low = _mm256_insertf128_ps(_mm256_castps128_ps256(two_pairs(p, at)), two_pairs(p, at + 4), 1);
    const __m256 high = _mm256_insertf128_ps(_mm256_castps128_ps256(two_pairs(p, at + 2)), two_pairs(p, at + 6), 1);
    first = _mm256_shuffle_ps(low, high, 0x88);
    second = _mm256_shuffle_ps(low, high, 0xdd);
}
inline void store_pairs(float* p, F first, F second) {
    const __m256 low = _mm256_unpacklo_ps(first.v, second.v), high = _mm256_unpackhi_ps(first.v, second.v);
    _mm256_storeu_ps(p, _mm256_permute2f128_ps(low, high, 0x20));
    _mm256_storeu_ps(p + 8, _mm256_permute2f128_ps(low, high, 0x31));
}

#else

typedef uint32_t Words __attribute__((vector_size(16)));

struct I4 {
    Words v;
    I4() = default;
    I4(Words x) : v(x) {}
    I4(int32_t x) : v(Words{uint32_t(x), uint32_t(x), uint32_t(x), uint32_t(x)}) {}
};
using I = I4;
inline I operator+(I a, I b) { return a.v + b.v; }
inline I operator*(I a, I b) { return a.v * b.v; }
inline I operator^(I a, I b) { return a.v ^ b.v; }
inline I operator&(I a, I b) { return a.v & b.v; }
inline I shift_right(I a, I bits) { return a.v >> bits.v; }
inline I truncate(F a) { return (Words) __builtin_convertvector(a.v, Ints); }
inline F to_float(I a) { return __builtin_convertvector((Ints)a.v, Floats); }
inline void store(int32_t* p, I a) {
    for (int i = 0; i < 4; ++i) p[i] = int32_t(a.v[i]);
}
inline I load_ints(const int32_t* p) { return Words{uint32_t(p[0]), uint32_t(p[1]), uint32_t(p[2]), uint32_t(p[3])}; }
inline I gather(const uint32_t* p, I at) { return Words{p[at.v[0]], p[at.v[1]], p[at.v[2]], p[at.v[3]]}; }
inline F gather(const float* p, I at) { return Floats{p[at.v[0]], p[at.v[1]], p[at.v[2]], p[at.v[3]]}; }
inline F permute(F a, I from) {
    return Floats{a.v[from.v[0] & 3], a.v[from.v[1] & 3], a.v[from.v[2] & 3], a.v[from.v[3] & 3]};
}
inline uint32_t bits(M4 m) { return (m.v[0] & 1) | (m.v[1] & 2) | (m.v[2] & 4) | (m.v[3] & 8); }
inline uint32_t lowest_bits(I a) { return (a.v[0] & 1) | (a.v[1] & 1) << 1 | (a.v[2] & 1) << 2 | (a.v[3] & 1) << 3; }
inline F running_product(F a) {
    for (int i = 1; i < 4; ++i) a.v[i] *= a.v[i - 1];
    return a;
}
inline void load_pairs(const float* p, const int32_t* at, F& first, F& second) {
    const I from = load_ints(at);
    first = gather(p, from), second = gather(p + 1, from);
}
inline void store_pairs(float* p, F first, F second) {
    for (int i = 0; i < 4; ++i) p[2 * i] = first.v[i], p[2 * i + 1] = second.v[i];
}

#endif

}  // namespace AV_ISA
}  // namespace avatar
