// Mesh z-buffer on the CPU: bands of rows in parallel, doubles throughout (a head is 10,000 small triangles, so the
// work is in their set-up, and vectors of pixels would be mostly empty).

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "../threads.h"
#include "mesh.h"

namespace avatar {
namespace mesh {
namespace {

constexpr int kBandRows = 64;

constexpr double kSlack = 1e-3;  // pixels by which rounding may put a centre outside of the triangle that it lies in

struct Box {
    int x0, x1, y0, y1;  // half open, pixels
};

struct Place {  // of a vertex in the picture, pixels
    double x, y;
    bool is_finite;
};

struct Edges {  // barycentric / z = rows . (ray_x, ray_y, 1): Olano and Greer 1997
    double row[3][3];
};

std::vector<Place> places_of(const Job& job) {
    std::vector<Place> out(job.vertex_count);
    for (int64_t v = 0; v < job.vertex_count; ++v) {
        const float* at = job.vertices + 3 * v;
        const double z = at[2];
        out[v] = {at[0] / z * job.fx + job.cx, at[1] / z * job.fy + job.cy,
                  std::isfinite(at[0]) && std::isfinite(at[1]) && std::isfinite(at[2])};
    }
    return out;
}

// The pixels whose centres may lie in the triangle.
Box box_of(const Job& job, const int64_t* face, const std::vector<Place>& places) {
    double low_x = job.width, high_x = 0, low_y = job.height, high_y = 0, far = 0, near = 1e300;
    for (int i = 0; i < 3; ++i) {
        const Place& at = places[face[i]];
        if (!at.is_finite) return {0, 0, 0, 0};
        const double z = job.vertices[3 * face[i] + 2];
        near = std::min(near, z), far = std::max(far, z);
        low_x = std::min(low_x, at.x), high_x = std::max(high_x, at.x);
        low_y = std::min(low_y, at.y), high_y = std::max(high_y, at.y);
    }
    if (far < kNear) return {0, 0, 0, 0};
    if (near < kNear) return {0, job.width, 0, job.height};
    const auto bounded = [](double v, int size) { return int(std::min(std::max(v, 0.0), double(size))); };
    return {bounded(std::ceil(low_x - 0.5 - kSlack), job.width), bounded(std::floor(high_x + 0.5 + kSlack), job.width),
            bounded(std::ceil(low_y - 0.5 - kSlack), job.height),
            bounded(std::floor(high_y + 0.5 + kSlack), job.height)};
}

bool edges_of(const float* const corner[3], Edges& edges) {
    double volume = 0;
    for (int i = 0; i < 3; ++i) {
        const float *a = corner[(i + 1) % 3], *b = corner[(i + 2) % 3];
        edges.row[i][0] = double(a[1]) * b[2] - double(a[2]) * b[1];
        edges.row[i][1] = double(a[2]) * b[0] - double(a[0]) * b[2];
        edges.row[i][2] = double(a[0]) * b[1] - double(a[1]) * b[0];
    }
    for (int k = 0; k < 3; ++k) volume += edges.row[0][k] * corner[0][k];
    if (volume == 0) return false;
    for (auto& row : edges.row)
        for (double& v : row) v /= volume;
    return true;
}

void draw_triangle(const Job& job, int64_t index, const Box& box, int top, int bottom, const double* rays_x,
                   double* depth) {
    const int64_t* face = job.faces + 3 * index;
    const float* corner[3] = {job.vertices + 3 * face[0], job.vertices + 3 * face[1], job.vertices + 3 * face[2]};
    Edges edges;
    if (!edges_of(corner, edges)) return;
    for (int y = std::max(box.y0, top); y < std::min(box.y1, bottom); ++y) {
        const double ray_y = (y + 0.5 - job.cy) / job.fy;
        for (int x = box.x0; x < box.x1; ++x) {
            double weight[3];
            for (int i = 0; i < 3; ++i)
                weight[i] = edges.row[i][0] * rays_x[x] + edges.row[i][1] * ray_y + edges.row[i][2];
            const double total = weight[0] + weight[1] + weight[2];
            // The tolerance closes the cracks that rounding opens between neighbours.
            if (!(total > 0) || std::min({weight[0], weight[1], weight[2]}) < -1e-9 * total) continue;
            const double z = 1 / total;
            double& nearest = depth[int64_t(y - top) * job.width + x];
            if (z < kNear || !(z < nearest)) continue;
            nearest = z;
            const int64_t pixel = int64_t(y) * job.width + x;
            job.triangle[pixel] = index;
            for (int i = 0; i < 3; ++i) job.barycentric[3 * pixel + i] = float(weight[i] * z);
        }
    }
}

}  // namespace

void draw(const Job& job, int threads) {
    const std::vector<Place> places = places_of(job);
    std::vector<Box> boxes(job.face_count);
    for (int64_t f = 0; f < job.face_count; ++f) boxes[f] = box_of(job, job.faces + 3 * f, places);
    std::vector<double> rays_x(job.width);
    for (int x = 0; x < job.width; ++x) rays_x[x] = (x + 0.5 - job.cx) / job.fx;
    const int bands = (job.height + kBandRows - 1) / kBandRows;
    parallel_for(bands, threads, [&](int band, int) {
        const int top = band * kBandRows, bottom = std::min(top + kBandRows, job.height);
        std::vector<double> depth(size_t(bottom - top) * job.width, std::numeric_limits<double>::infinity());
        const int64_t first = int64_t(top) * job.width, pixels = int64_t(depth.size());
        std::fill_n(job.triangle + first, pixels, int64_t(-1));
        std::fill_n(job.barycentric + 3 * first, 3 * pixels, 0.0f);
        for (int64_t f = 0; f < job.face_count; ++f) {
            const Box& box = boxes[f];
            if (box.x0 < box.x1 && box.y0 < box.y1 && box.y0 < bottom && box.y1 > top)
                draw_triangle(job, f, box, top, bottom, rays_x.data(), depth.data());
        }
        for (int64_t i = 0; i < pixels; ++i) job.depth[first + i] = std::isinf(depth[i]) ? 0.0f : float(depth[i]);
    });
}

}  // namespace mesh
}  // namespace avatar
