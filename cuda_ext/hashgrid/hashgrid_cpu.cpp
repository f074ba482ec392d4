// Multiresolution hash encoding over vectors of points; compiled once per instruction set.
//
// A level at a time: its rows (4 MB for 2^19 rows of two floats) then stay in the processor's last cache. What limits
// is how long a row takes from there, so the rows of a batch of points are named and asked for one batch ahead (this
// halves the time). Corners are gathered for all lanes at once; the way back adds to rows one lane after the other,
// since lanes may share a row.

#include "../simd_int.h"
#include "hashgrid.h"
#include "hashgrid_math.h"

namespace avatar {
namespace AV_ISA {
namespace {

using hashgrid::Job;
using hashgrid::Level;

template <int N>
struct Constant {
    static constexpr int value = N;
};

F floor_of(F a) { return to_float(truncate(a)); }

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

// C floats of each lane's row, which starts at p[at[lane]].
template <int C>
void gather_rows(const float* p, const int32_t* at, F* out) {
    if constexpr (C == 1) {
        out[0] = gather(p, load_ints(at));
    } else {
        for (int k = 0; k < C; k += 2) load_pairs(p + k, at, out[k], out[k + 1]);
    }
}

// Rows of C floats, one after the other, from one vector for each column.
template <int C>
void interleave(const F* columns, float* out) {
    if constexpr (C == 1) {
        store(out, columns[0]);
    } else if constexpr (C == 2) {
        store_pairs(out, columns[0], columns[1]);
    } else {
        alignas(64) float lanes[C][kLanes];
        for (int k = 0; k < C; ++k) store(lanes[k], columns[k]);
        for (int i = 0; i < kLanes; ++i)
            for (int k = 0; k < C; ++k) out[i * C + k] = lanes[k][i];
    }
}

template <int C>
struct Row {
    typedef float Values __attribute__((vector_size(4 * C)));
    static void add(const float* from, float* to) {
        Values a, b;
        __builtin_memcpy(&a, from, 4 * C);
        __builtin_memcpy(&b, to, 4 * C);
        b += a;
        __builtin_memcpy(to, &b, 4 * C);
    }
};

template <>
struct Row<1> {
    static void add(const float* from, float* to) { *to += *from; }
};

constexpr int kBatch = 64;  // points; a batch's rows, up to 8 cache lines a point, fit into 32 KB

int points_left(int64_t at, int64_t to, int most) { return to - at < most ? int(to - at) : most; }

// Where the corners of a batch of points are in a level's part of the table, and how much each counts.
template <int D, int C, bool kHashed>
struct Batch {
    static constexpr int kCorners = 1 << D;
    alignas(64) float fraction[D][kBatch];
    alignas(64) float inside[D][kBatch];
    alignas(64) int32_t start[kCorners][kBatch];  // of the row, in floats

    // Finds the rows and asks for them; to write says what for.
    template <bool kToWrite>
    void find(const Job& job, const Level& level, int64_t at, int64_t to, const float* table) {
        for (int i = 0, count = points_left(at, to, kBatch); i < count; i += kLanes) {
            I low[D], high[D];
            for (int d = 0; d < D; ++d) {
                const F x = load_some(job.positions + d * job.points + at + i, count - i);
                const Along<F> a = along_axis(x, level.resolution, floor_of);
                store(fraction[d] + i, a.fraction);
                store(inside[d] + i, a.inside);
                const I multiplier(int32_t(level.multiplier[d]));
                low[d] = truncate(a.vertex) * multiplier;
                high[d] = low[d] + multiplier;
            }
            for (int corner = 0; corner < kCorners; ++corner) {
                I part[D];
                for (int d = 0; d < D; ++d) part[d] = corner >> d & 1 ? high[d] : low[d];
                store(start[corner] + i, corner_row<D, kHashed>(part, I(int32_t(level.mask))) * I(C));
            }
            // Neighbours along x mostly share a cache line; to read, the few others can wait for the gather.
            for (int corner = 0; corner < kCorners; corner += kToWrite ? 1 : 2)
                for (int lane = 0; lane < kLanes; ++lane)
                    __builtin_prefetch(table + start[corner][i + lane], kToWrite, 3);
        }
    }

    void load_fractions(int i, F* out) const {
        for (int d = 0; d < D; ++d) out[d] = load(fraction[d] + i);
    }
};

template <int D, int C, bool kHashed>
struct Loops {
    using Rows = Batch<D, C, kHashed>;

    // work(batch, at, count) for all points, while the rows of the next batch are on their way.
    template <bool kToWrite, class Work>
    static void for_batches(const Job& job, const Level& level, int64_t from, int64_t to, const float* table,
                            Work work) {
        Rows batches[2];
        batches[0].template find<kToWrite>(job, level, from, to, table);
        int now = 0;
        for (int64_t at = from; at < to; at += kBatch, now ^= 1) {
            if (at + kBatch < to) batches[now ^ 1].template find<kToWrite>(job, level, at + kBatch, to, table);
            work(batches[now], at, points_left(at, to, kBatch));
        }
    }

    static void encode(const Job& job, int index, int64_t from, int64_t to, float* out) {
        const Level& level = job.grid.level[index];
        const float* table = job.table + level.first_row * C;
        for_batches<false>(job, level, from, to, table, [&](const Rows& batch, int64_t at, int count) {
            for (int i = 0; i < count; i += kLanes) {
                F fraction[D], total[C];
                batch.load_fractions(i, fraction);
                for (int k = 0; k < C; ++k) total[k] = F(0.0f);
                for (int corner = 0; corner < Rows::kCorners; ++corner) {
                    F values[C];
                    gather_rows<C>(table, batch.start[corner] + i, values);
                    const F w = corner_weight<D>(fraction, corner);
                    for (int k = 0; k < C; ++k) total[k] = fma(w, values[k], total[k]);
                }
                for (int k = 0; k < C; ++k)
                    store_some(out + (index * C + k) * job.points + at + i, total[k], count - i);
            }
        });
    }

    // What arrived at the level's features of up to kLanes points.
    static void load_gradient(const Job& job, int index, int64_t at, int count, F* out) {
        for (int k = 0; k < C; ++k) out[k] = load_some(job.gradient + (index * C + k) * job.points + at, count);
    }

    static void backward_table(const Job& job, int index, float* out) {
        const Level& level = job.grid.level[index];
        float* table = out + level.first_row * C;
        __builtin_memset(table, 0, size_t(level.rows) * C * sizeof(float));
        for_batches<true>(job, level, 0, job.points, table, [&](const Rows& batch, int64_t at, int count) {
            alignas(64) float shares[Rows::kCorners][kBatch * C];
            for (int i = 0; i < count; i += kLanes) {
                F fraction[D], gradient[C], share[C];
                batch.load_fractions(i, fraction);
                load_gradient(job, index, at + i, count - i, gradient);
                for (int corner = 0; corner < Rows::kCorners; ++corner) {
                    const F w = corner_weight<D>(fraction, corner);
                    for (int k = 0; k < C; ++k) share[k] = w * gradient[k];
                    interleave<C>(share, shares[corner] + i * C);
                }
            }
            for (int i = 0; i < count; ++i)
                for (int corner = 0; corner < Rows::kCorners; ++corner)
                    Row<C>::add(shares[corner] + i * C, table + batch.start[corner][i]);
        });
    }

    static void backward_positions(const Job& job, int index, int64_t from, int64_t to, float* out) {
        const Level& level = job.grid.level[index];
        const float* table = job.table + level.first_row * C;
        for_batches<false>(job, level, from, to, table, [&](const Rows& batch, int64_t at, int count) {
            for (int i = 0; i < count; i += kLanes) {
                F fraction[D], gradient[C], product[Rows::kCorners], along[D];
                batch.load_fractions(i, fraction);
                load_gradient(job, index, at + i, count - i, gradient);
                for (int corner = 0; corner < Rows::kCorners; ++corner) {
                    F values[C];
                    gather_rows<C>(table, batch.start[corner] + i, values);
                    product[corner] = F(0.0f);
                    for (int k = 0; k < C; ++k) product[corner] = fma(gradient[k], values[k], product[corner]);
                }
                interpolation_slopes<D>(product, fraction, along);
                for (int d = 0; d < D; ++d) {
                    float* sums = out + d * job.points + at + i;
                    const F before = index ? load_some(sums, count - i) : F(0.0f);
                    const F slope = load(batch.inside[d] + i) * F(level.resolution);
                    store_some(sums, fma(along[d], slope, before), count - i);
                }
            }
        });
    }
};

// Calls work(Loops<...>()) for the kind of grid and of level; the caller has checked that it is one of these.
template <class Work>
void with_loops(const Job& job, int level, Work work) {
    const bool hashed = job.grid.level[level].mask != 0;
    const auto choose = [&](auto dimensions) {
        constexpr int D = decltype(dimensions)::value;
        const auto of_kind = [&](auto features) {
            constexpr int C = decltype(features)::value;
            if (hashed)
                work(Loops<D, C, true>());
            else
                work(Loops<D, C, false>());
        };
        switch (job.grid.features) {
            case 1:
                return of_kind(Constant<1>());
            case 2:
                return of_kind(Constant<2>());
            case 4:
                return of_kind(Constant<4>());
            default:
                return of_kind(Constant<8>());
        }
    };
    if (job.grid.dimensions == 2)
        choose(Constant<2>());
    else
        choose(Constant<3>());
}

void encode(const Job& job, int level, int64_t from, int64_t to, float* out) {
    with_loops(job, level, [&](auto loops) { loops.encode(job, level, from, to, out); });
}

void backward_table(const Job& job, int level, float* out) {
    with_loops(job, level, [&](auto loops) { loops.backward_table(job, level, out); });
}

void backward_positions(const Job& job, int64_t from, int64_t to, float* out) {
    for (int level = 0; level < job.grid.levels; ++level)
        with_loops(job, level, [&](auto loops) { loops.backward_positions(job, level, from, to, out); });
}

}  // namespace

extern const hashgrid::Kernels hashgrid_kernels;
const hashgrid::Kernels hashgrid_kernels = {encode, backward_table, backward_positions};

}  // namespace AV_ISA
}  // namespace avatar
