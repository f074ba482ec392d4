// Multiresolution hash encoding on the CPU: which thread does what. No result depends on the number of threads.

#include "../cpu_features.h"
#include "../threads.h"
#include "hashgrid.h"

AV_SELECT_KERNELS(avatar::hashgrid::Kernels, hashgrid_kernels)

namespace avatar {
namespace hashgrid {
namespace {

// Multipliers of the spatial hash of Teschner et al. 2003, the first one replaced by 1 as in Müller et al. 2022, so
// that neighbours along x stay neighbours in memory.
constexpr uint32_t kPrimes[3] = {1u, 2654435761u, 805459861u};
constexpr int64_t kPoints = 1 << 14;  // of one piece of work

int pieces(int64_t points) { return int((points + kPoints - 1) / kPoints); }

int64_t end_of(int64_t from, int64_t points) { return from + kPoints < points ? from + kPoints : points; }

}  // namespace

Grid make_grid(int dimensions, int features, const int64_t* resolutions, int levels, int log2_rows) {
    Grid grid{dimensions, levels, features, {}};
    const uint64_t most = uint64_t(1) << log2_rows;
    int64_t first = 0;
    for (int i = 0; i < levels; ++i) {
        Level& level = grid.level[i];
        const uint64_t side = uint64_t(resolutions[i]) + 1, plane = side * side;
        const uint64_t vertices = dimensions == 2 ? plane : plane * side;
        const bool hashed = vertices > most;
        const uint32_t dense[3] = {1u, uint32_t(side), uint32_t(plane)};
        for (int d = 0; d < 3; ++d) level.multiplier[d] = hashed ? kPrimes[d] : dense[d];
        level.resolution = float(resolutions[i]);
        level.mask = hashed ? uint32_t(most - 1) : 0u;
        level.first_row = first;
        level.rows = int64_t(hashed ? most : vertices);
        first += level.rows;
    }
    return grid;
}

void encode(const Job& job, float* out, int threads) {
    const Kernels& kernels = select_kernels();
    const int levels = job.grid.levels;
    // All threads are on the same level at about the same time, so that its rows stay in the cache that they share.
    const int of_level = pieces(job.points);
    parallel_for(levels * of_level, threads, [&](int item, int) {
        const int64_t from = item % of_level * kPoints;
        kernels.encode(job, item / of_level, from, end_of(from, job.points), out);
    });
}

void backward_table(const Job& job, float* out, int threads) {
    const Kernels& kernels = select_kernels();
    const int levels = job.grid.levels;
    // One thread writes to a level, points in order. The finest levels take longest, so they go first.
    parallel_for(levels, threads, [&](int item, int) { kernels.backward_table(job, levels - 1 - item, out); });
}

void backward_positions(const Job& job, float* out, int threads) {
    const Kernels& kernels = select_kernels();
    parallel_for(pieces(job.points), threads, [&](int item, int) {
        const int64_t from = item * kPoints;
        kernels.backward_positions(job, from, end_of(from, job.points), out);
    });
}

}  // namespace hashgrid
}  // namespace avatar
