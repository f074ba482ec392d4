// Samples along rays through an occupancy grid, and their blending. avatar/ops/reference_field.py holds the
// specification.
#pragma once

#include <cstdint>

namespace avatar {
namespace raymarch {

constexpr int kMaxSteps = 1 << 20;  // of a ray, the empty ones counted too

struct March {
    float low[3], high[3];  // the box
    int cells[3];
    float scale[3];  // cells per unit
    float near_t, far_t, step;
    float even_until, log_growth;  // where cone * t exceeds step, and log2(1 + cone); 0 for samples of equal length

    March(const float* box_low, const float* box_high, const int* grid, const float* spacing);
};

struct Rays {
    const float *origins, *directions;  // [r 3]
    const float* jitter;                // [r], in steps, or null
    int64_t count;
};

struct Samples {
    int64_t* ray;
    float *starts, *ends;
};

struct Blend {
    const float* densities;      // [s]
    const float* values;         // [s c]
    const float *starts, *ends;  // [s]
    const int64_t* packed;       // [r 2]
    int64_t samples, rays;
    int channels;
};

struct Picture {
    float *colour, *alpha, *depth;  // [r c], [r], [r]; of gradients, each may be null for zero
    float* weights;                 // [s]; likewise
};

struct BlendGradient {
    const float* weights;  // what blend() wrote
    Picture upstream;
    float *densities, *values;
};

struct Kernels {
    int64_t (*count)(const March&, const uint32_t* occupied, const Rays&, int64_t ray);
    void (*fill)(const March&, const uint32_t* occupied, const Rays&, int64_t ray, int64_t at, const Samples&);
    void (*blend)(const Blend&, int64_t ray, const Picture&);
    void (*blend_backward)(const Blend&, int64_t ray, const BlendGradient&);
};

// Bit i of the words says whether cell i is occupied.
void pack(const uint8_t* occupied, int64_t cells, uint32_t* words);
void count(const March&, const uint32_t* occupied, const Rays&, int64_t* counts, int threads);
// packed: (first sample, number of samples) of each ray, as many as count() said.
void fill(const March&, const uint32_t* occupied, const Rays&, const int64_t* packed, const Samples&, int threads);

// Whether all rays' samples lie one after the other within [0, samples).
bool in_order(const Blend&);
void blend(const Blend&, const Picture&, int threads);
void blend_backward(const Blend&, const BlendGradient&, int threads);

}  // namespace raymarch
}  // namespace avatar
