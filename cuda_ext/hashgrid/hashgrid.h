// Multiresolution hash encoding of points. avatar/ops/reference_field.py holds the specification.
#pragma once

#include <cstdint>

namespace avatar {
namespace hashgrid {

constexpr int kMaxLevels = 32;

struct Level {
    float resolution;        // cells along an axis
    uint32_t multiplier[3];  // of each axis' vertex; they add up to the row, or are hashed
    uint32_t mask;           // rows - 1 of a hashed level, 0 of a dense one
    int64_t first_row;
    int64_t rows;
};

struct Grid {
    int dimensions, levels, features;
    Level level[kMaxLevels];
};

// Dense levels have (resolution + 1)^dimensions rows, others 2^log2_rows; they follow each other in the table.
Grid make_grid(int dimensions, int features, const int64_t* resolutions, int levels, int log2_rows);

struct Job {
    Grid grid;
    const float* positions;  // [dimensions, points]
    int64_t points;
    const float* table;     // [rows, features]
    const float* gradient;  // of what encode() wrote, in the same order
};

struct Kernels {
    // Points [from, to) of one level; out is [levels, features, points].
    void (*encode)(const Job&, int level, int64_t from, int64_t to, float* out);
    // All points of one level; out is [rows, features], and the level's rows of it are written.
    void (*backward_table)(const Job&, int level, float* out);
    // Points [from, to), all levels; out is [dimensions, points].
    void (*backward_positions)(const Job&, int64_t from, int64_t to, float* out);
};

void encode(const Job&, float* out, int threads);
void backward_table(const Job&, float* out, int threads);
void backward_positions(const Job&, float* out, int threads);

}  // namespace hashgrid
}  // namespace avatar
