// Mesh z-buffer: the picture of a triangle mesh. avatar/ops/mesh.py holds the specification.
#pragma once

#include <cstdint>

namespace avatar {
namespace mesh {

constexpr double kNear = 0.01;  // metres

struct Job {
    const float* vertices;  // [v 3], camera frame
    const int64_t* faces;   // [f 3], each within [0, v)
    int64_t vertex_count, face_count;
    double fx, fy, cx, cy;
    int height, width;
    int64_t* triangle;   // [h w]
    float* barycentric;  // [h w 3]
    float* depth;        // [h w]
};

void draw(const Job&, int threads);

}  // namespace mesh
}  // namespace avatar
