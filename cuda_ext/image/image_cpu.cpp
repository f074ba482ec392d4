// Weighted L1 and SSIM over vectors, and the gradient of SSIM in the same pass; compiled once per instruction set.
//
// A row of the picture is one long row of width * channels floats, blurred with a tap every `channels` floats. A band
// computes the derivative maps of its rows and of five rows beyond each end, so that bands need nothing of each other.

#include "../simd.h"
#include "image.h"
#include "image_math.h"

namespace avatar {
namespace AV_ISA {
namespace {

using image::Job;
using image::kRadius;
using image::kTaps;

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

inline F absolute(F a) { return maximum(a, F(0.0f) - a); }

// The weights of row y, each repeated for all channels.
void spread_weight(const Job& job, int y, float* out) {
    const float* w = job.weight ? job.weight + int64_t(y) * job.width : nullptr;
    for (int x = 0; x < job.width; ++x)
        for (int k = 0; k < job.channels; ++k) *out++ = w ? w[x] : 1.0f;
}

// Rows of scratch memory, with zeros kRadius pixels to both sides.
struct Rows {
    float* first;
    int64_t stride;
    float* operator[](int row) const { return first + row * stride; }
};

struct Band {
    const Job& job;
    const int row, pad, y0, y1;  // floats of a row, floats of padding, rows of this band
    const int m0, m1;            // rows whose maps are needed
    Rows blurred, weight, maps;

    Band(const Job& j, int band, float* scratch)
        : job(j),
          row(j.row()),
          pad(kRadius * j.channels),
          y0(band * image::kBandRows),
          y1(y0 + image::kBandRows < j.height ? y0 + image::kBandRows : j.height),
          m0(!j.gradient    ? y0
             : y0 > kRadius ? y0 - kRadius
                            : 0),
          m1(!j.gradient               ? y1
             : y1 + kRadius < j.height ? y1 + kRadius
                                       : j.height) {
        const int64_t stride = row + 2 * pad + 32;
        for (int64_t r = 0; r < 6 + 3 * (m1 - m0); ++r) {  // the window sees zeros outside of the picture
            for (int64_t i = 0; i < pad; ++i) scratch[r * stride + i] = 0.0f;
            for (int64_t i = pad + row; i < stride; ++i) scratch[r * stride + i] = 0.0f;
        }
        blurred = {scratch + pad, stride};
        weight = {scratch + 5 * stride + pad, stride};
        maps = {scratch + 6 * stride + pad, stride};
    }

    // Rows y - 5 ... y + 5 that exist, as indices of taps.
    static int first_tap(int y, int low) { return y - kRadius < low ? low - (y - kRadius) : 0; }
    static int last_tap(int y, int high) { return y + kRadius >= high ? kTaps - (y + kRadius - high + 1) : kTaps; }

    void blur_inputs_down(int y) const {
        const int from = first_tap(y, 0), to = last_tap(y, job.height);
        for (int i = 0; i < row; i += kLanes) {
            F a(0.0f), b(0.0f), aa(0.0f), bb(0.0f), ab(0.0f);
            for (int t = from; t < to; ++t) {
                const int64_t at = int64_t(y - kRadius + t) * row + i;
                const F va = load_some(job.image + at, row - i), vb = load_some(job.target + at, row - i);
                const F k(job.taps[t]), ka = k * va, kb = k * vb;
                a += ka, b += kb;
                aa = fma(ka, va, aa), bb = fma(kb, vb, bb), ab = fma(ka, vb, ab);
            }
            const F values[5] = {a, b, aa, bb, ab};
            for (int m = 0; m < 5; ++m) store_some(blurred[m] + i, values[m], row - i);
        }
    }

    template <int Count>
    void blur_across(int i, F* out) const {
        for (int m = 0; m < Count; ++m) out[m] = F(0.0f);
        for (int t = 0; t < kTaps; ++t) {
            const F k(job.taps[t]);
            const int at = i + t * job.channels - pad;
            for (int m = 0; m < Count; ++m) out[m] = fma(k, load(blurred[m] + at), out[m]);
        }
    }

    void compare_row(int y, image::Sums* sums) const {
        spread_weight(job, y, weight[0]);
        F difference(0.0f), like(0.0f), weights(0.0f);
        const bool own = y >= y0 && y < y1;
        for (int i = 0; i < row; i += kLanes) {
            F b[5];
            blur_across<5>(i, b);
            const Similarity<F> s = similarity(b[0], b[1], b[2], b[3], b[4]);
            const F w = load(weight[0] + i);  // zeros past the end
            if (job.gradient) {
                const F values[3] = {w * s.by_mean_a, w * s.by_aa, w * s.by_ab};
                for (int m = 0; m < 3; ++m) store_some(maps[3 * (y - m0) + m] + i, values[m], row - i);
            }
            if (own) {
                const int64_t at = int64_t(y) * row + i;
                const F delta = load_some(job.image + at, row - i) - load_some(job.target + at, row - i);
                difference = fma(w, absolute(delta), difference);
                like = fma(w, s.value, like);
                weights += w;
            }
        }
        sums->difference += sum(difference), sums->similarity += sum(like), sums->weight += sum(weights);
    }

    void gradient_row(int y) const {
        const int from = first_tap(y, m0), to = last_tap(y, m1);
        for (int i = 0; i < row; i += kLanes) {
            F down[3] = {F(0.0f), F(0.0f), F(0.0f)};
            for (int t = from; t < to; ++t) {
                const F k(job.taps[t]);
                const int map = 3 * (y - kRadius + t - m0);
                for (int m = 0; m < 3; ++m) down[m] = fma(k, load(maps[map + m] + i), down[m]);
            }
            for (int m = 0; m < 3; ++m) store_some(blurred[m] + i, down[m], row - i);
        }
        for (int i = 0; i < row; i += kLanes) {
            F g[3];
            blur_across<3>(i, g);
            const int64_t at = int64_t(y) * row + i;
            const F a = load_some(job.image + at, row - i), b = load_some(job.target + at, row - i);
            store_some(job.gradient + at, fma(F(2.0f) * a, g[1], fma(b, g[2], g[0])), row - i);
        }
    }
};

void band(const Job& job, int index, float* scratch, image::Sums* sums) {
    const Band b(job, index, scratch);
    *sums = {0.0, 0.0, 0.0};
    for (int y = b.m0; y < b.m1; ++y) {
        b.blur_inputs_down(y);
        b.compare_row(y, sums);
    }
    if (job.gradient)
        for (int y = b.y0; y < b.y1; ++y) b.gradient_row(y);
}

void band_backward(const Job& job, int index, float* scratch, const image::Upstream& up, float* out) {
    const int row = job.row(), first = index * image::kBandRows;
    for (int i = row; i < row + kLanes; ++i) scratch[i] = 0.0f;
    for (int y = first; y < first + image::kBandRows && y < job.height; ++y) {
        spread_weight(job, y, scratch);
        for (int i = 0; i < row; i += kLanes) {
            const int64_t at = int64_t(y) * row + i;
            const F delta = load_some(job.image + at, row - i) - load_some(job.target + at, row - i);
            const F w = load(scratch + i) * F(up.difference), zero(0.0f);
            const F sign = select(less(zero, delta), w, select(less(delta, zero), zero - w, zero));
            const F like = load_some(up.similarity_gradient + at, row - i);
            store_some(out + at, fma(F(up.similarity), like, sign), row - i);
        }
    }
}

}  // namespace

extern const image::Kernels image_kernels;
const image::Kernels image_kernels = {band, band_backward};

}  // namespace AV_ISA
}  // namespace avatar
