// Ray marching and blending over vectors of a ray's samples; compiled once per instruction set.
//
// Sixteen (or 8, or 4) samples in a row are tested at once against a grid of bits, which for 128^3 cells (256 KB) fits
// the second cache: nothing waits for the sample before, as it would in steps from cell to cell.

#include "../simd_int.h"
#include "raymarch.h"
#include "raymarch_math.h"

namespace avatar {
namespace AV_ISA {
namespace {

using raymarch::Blend;
using raymarch::BlendGradient;
using raymarch::March;
using raymarch::Picture;
using raymarch::Rays;
using raymarch::Samples;

F lane_numbers() {
    alignas(64) float lanes[kLanes];
    for (int i = 0; i < kLanes; ++i) lanes[i] = float(i);
    return load(lanes);
}

F load_some(const float* p, int count) {
    if (count >= kLanes) return load(p);
    alignas(64) float lanes[kLanes] = {};
    for (int i = 0; i < count; ++i) lanes[i] = p[i];
    return load(lanes);
}

void store_some(float* p, F value, int count) {
    if (count >= kLanes) return store(p, value);
    alignas(64) float lanes[kLanes];
    store(lanes, value);
    for (int i = 0; i < count; ++i) p[i] = lanes[i];
}

int lanes_left(int64_t count) { return count < kLanes ? int(count) : kLanes; }

// take(starts, ends, bits) for each vector of samples of a ray of which some are in occupied cells; bits says which.
template <class Take>
void for_samples(const March& march, const uint32_t* occupied, const Rays& rays, int64_t ray, Take take) {
    const float *origin = rays.origins + 3 * ray, *direction = rays.directions + 3 * ray;
    const Interval t = inside_box(march, origin, direction);
    if (!(t.first < t.last)) return;
    const Spacing spacing(march, jittered(march, rays.jitter ? rays.jitter + ray : nullptr, t.first));
    const F lanes = lane_numbers();
    for (int k = 0; k < raymarch::kMaxSteps; k += kLanes) {
        const F number = F(float(k)) + lanes;
        const F start = spacing.start(number), end = spacing.start(number + F(1.0f)), middle = F(0.5f) * (start + end);
        const uint32_t before_last = bits(less(middle, F(t.last)));
        if (!before_last) return;
        I cell(0);
        for (int d = 0; d < 3; ++d) {
            const F along = cell_along(march, d, fma(F(direction[d]), middle, F(origin[d])));
            cell = cell * I(march.cells[d]) + truncate(along);
        }
        const I word = gather(occupied, shift_right(cell, I(5)));
        const uint32_t hit = lowest_bits(shift_right(word, cell & I(31))) & before_last;
        if (hit) take(start, end, hit);
        if (before_last >> (kLanes - 1) == 0) return;
    }
}

int64_t count(const March& march, const uint32_t* occupied, const Rays& rays, int64_t ray) {
    int64_t found = 0;
    for_samples(march, occupied, rays, ray, [&](F, F, uint32_t hit) { found += __builtin_popcount(hit); });
    return found;
}

void fill(const March& march, const uint32_t* occupied, const Rays& rays, int64_t ray, int64_t at, const Samples& out) {
    for_samples(march, occupied, rays, ray, [&](F start, F end, uint32_t hit) {
        alignas(64) float starts[kLanes], ends[kLanes];
        store(starts, start), store(ends, end);
        for (; hit; hit &= hit - 1, ++at) {
            const int lane = __builtin_ctz(hit);
            out.ray[at] = ray;
            out.starts[at] = starts[lane];
            out.ends[at] = ends[lane];
        }
    });
}

// A vector of samples of one ray.
struct Blended {
    F middle, weight;
    F behind;  // transmittance behind each sample; 0 for samples that do not count
    F length, density;

    Blended(const Blend& job, int64_t at, int count, float& light) {
        const F start = load_some(job.starts + at, count), end = load_some(job.ends + at, count);
        density = load_some(job.densities + at, count);
        length = length_of(start, end), middle = F(0.5f) * (start + end);
        const F pass = passing(density, length), after = F(light) * running_product(pass);
        alignas(64) float lights[kLanes + 1];
        lights[0] = light;
        store(lights + 1, after);
        light = lights[kLanes];
        const F before = load(lights);
        const M counts = at_least(before, F(kMinLight));
        weight = zero_unless(counts, before * (F(1.0f) - pass));
        behind = zero_unless(counts, after);
    }
};

void blend(const Blend& job, int64_t ray, const Picture& out) {
    const int64_t first = job.packed[2 * ray], number = job.packed[2 * ray + 1];
    const int channels = job.channels;
    float* colour = out.colour + ray * channels;
    for (int k = 0; k < channels; ++k) colour[k] = 0.0f;
    F alpha(0.0f), depth(0.0f);
    float light = 1.0f;
    int64_t i = 0;
    for (; i < number && light >= kMinLight; i += kLanes) {
        const int count = lanes_left(number - i);
        const Blended b(job, first + i, count, light);
        alpha += b.weight;
        depth = fma(b.weight, b.middle, depth);
        store_some(out.weights + first + i, b.weight, count);
        alignas(64) float weights[kLanes];
        store(weights, b.weight);
        const float* value = job.values + (first + i) * channels;
        for (int lane = 0; lane < count; ++lane, value += channels)
            for (int k = 0; k < channels; ++k) colour[k] = fma(weights[lane], value[k], colour[k]);
    }
    for (; i < number; ++i) out.weights[first + i] = 0.0f;
    out.alpha[ray] = sum(alpha);
    out.depth[ray] = sum(depth);
}

// What sample i adds to the loss for each unit of its weight.
float worth(const Blend& job, const Picture& up, int64_t ray, int64_t i) {
    float q = up.weights ? up.weights[i] : 0.0f;
    if (up.alpha) q += up.alpha[ray];
    if (up.depth) q += up.depth[ray] * 0.5f * (job.starts[i] + job.ends[i]);
    if (up.colour)
        for (int k = 0; k < job.channels; ++k)
            q = fma(up.colour[ray * job.channels + k], job.values[i * job.channels + k], q);
    return q;
}

void blend_backward(const Blend& job, int64_t ray, const BlendGradient& g) {
    const int64_t first = job.packed[2 * ray], number = job.packed[2 * ray + 1];
    const int channels = job.channels;
    float light = 1.0f;
    int64_t reached = 0;
    for (; reached < number && light >= kMinLight; reached += kLanes) {
        const int count = lanes_left(number - reached);
        const Blended b(job, first + reached, count, light);
        store_some(g.densities + first + reached, b.behind, count);
    }
    if (reached > number) reached = number;
    for (int64_t i = first + reached; i < first + number; ++i) g.densities[i] = 0.0f;
    for (int64_t i = (first + reached) * channels; i < (first + number) * channels; ++i) g.values[i] = 0.0f;
    float rest = 0.0f;  // worth of the samples behind, which more density here would hide
    for (int64_t i = first + reached - 1; i >= first; --i) {
        const float q = worth(job, g.upstream, ray, i), w = g.weights[i];
        for (int k = 0; k < channels; ++k)
            g.values[i * channels + k] = g.upstream.colour ? w * g.upstream.colour[ray * channels + k] : 0.0f;
        const bool counts = g.densities[i] > 0.0f && job.densities[i] >= 0.0f;
        g.densities[i] = counts ? (g.densities[i] * q - rest) * length_of(job.starts[i], job.ends[i]) : 0.0f;
        rest = fma(w, q, rest);
    }
}

}  // namespace

extern const raymarch::Kernels raymarch_kernels;
const raymarch::Kernels raymarch_kernels = {count, fill, blend, blend_backward};

}  // namespace AV_ISA
}  // namespace avatar
