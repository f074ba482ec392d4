// Adam over vectors; compiled once for each instruction set, see ../simd.h.

#include "../simd.h"
#include "adam.h"
#include "adam_math.h"

namespace avatar {
namespace AV_ISA {
namespace {

using namespace adam;

bool all_zero(const float* values, int count) {
    for (int k = 0; k < count; ++k)
        if (values[k] != 0.0f) return false;
    return true;
}

struct Rates {
    AdamRates<F> wide;
    AdamRates<float> single;
    explicit Rates(const Job& j)
        : wide{F(j.keep_mean), F(j.keep_square), F(j.rate), F(j.inverse_root_correction), F(j.eps)},
          single{j.keep_mean, j.keep_square, j.rate, j.inverse_root_correction, j.eps} {}
};

// gradient_at(k): the gradient of `count` numbers from k, as a vector or one.
template <class Wide, class Single>
inline void update(const Job& job, const Rates& rates, int64_t from, int64_t count, Wide wide, Single single) {
    float *value = job.value + from, *mean = job.mean + from, *square = job.square + from;
    int64_t k = 0;
    for (; k + kLanes <= count; k += kLanes) {
        F v = load(value + k), m = load(mean + k), s = load(square + k);
        adam_update(rates.wide, wide(k), v, m, s);
        store(value + k, v), store(mean + k, m), store(square + k, s);
    }
    for (; k < count; ++k) adam_update(rates.single, single(k), value[k], mean[k], square[k]);
}

void update_plain(const Job& job, const Rates& rates, int64_t from, int64_t count) {
    const float* g = job.gradient + from;
    update(job, rates, from, count, [&](int64_t k) { return load(g + k); }, [&](int64_t k) { return g[k]; });
}

void step(const Job& job, int64_t begin, int64_t end) {
    const Rates rates(job);
    if (job.terms) {
        const int across = job.width / job.term_count;
        for (int64_t i = begin; i < end; ++i) {
            const float* row = job.gradient + i * across;
            if (job.skip && all_zero(row, across)) continue;
            for (int c = 0; c < across; ++c) {
                const float g = row[c];
                update(
                    job, rates, i * job.width + int64_t(c) * job.term_count, job.term_count,
                    [&](int64_t k) { return F(g) * load(job.terms + k); }, [&](int64_t k) { return g * job.terms[k]; });
            }
        }
        return;
    }
    // Neighbouring rows that move are one stretch: rows of three numbers would leave most of a vector empty.
    for (int64_t i = begin; i < end;) {
        if (job.skip && all_zero(job.gradient + i * job.width, job.width)) {
            ++i;
            continue;
        }
        int64_t last = i + 1;
        if (!job.skip) last = end;
        while (last < end && !all_zero(job.gradient + last * job.width, job.width)) ++last;
        update_plain(job, rates, i * job.width, (last - i) * job.width);
        i = last;
    }
}

}  // namespace

extern const adam::Kernels adam_kernels;
const adam::Kernels adam_kernels = {step};

}  // namespace AV_ISA
}  // namespace avatar
