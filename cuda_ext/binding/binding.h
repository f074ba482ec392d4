// Splats bound to triangles and blended by motion. avatar/ops/binding.py holds the specification.
#pragma once

#include <cstdint>

namespace avatar {
namespace binding {

constexpr int kNumbers = 13;       // that motion changes of each splat
constexpr int kRecordFloats = 16;  // a cache line: corners 9, quaternion 4, log growth, metres of a unit, spare
constexpr int kStateFloats = 6;    // blended offset and turn of each splat, [6 n], for the way back
constexpr int kShareFloats = 4;    // what a splat hands to its triangle beside the mean's: turn 3, log growth

struct Surface {
    const float* vertices;   // [v 3]
    const int64_t* faces;    // [f 3]
    const float* rest_size;  // [f]
    int vertex_count, face_count;
};

struct Splats {
    const int64_t* triangle;  // [n]
    const float* bary;        // [n 3]
    const uint8_t* live;      // [n] or null: 0 keeps a splat at rest
    const float *offset, *turn, *log_scale, *opacity, *colour;
    const float* basis;    // [n 13 k] or null
    const float* weights;  // [k]
    const float* extra;    // [n 13] or null: added to the sum
    int count, terms;
    bool activate;
};

struct Drawn {
    float *means, *quats, *scales, *opacities, *colours;
};

struct Gradients {
    float *offset, *turn, *log_scale, *opacity, *colour;
    float* basis;     // [n 13 k] or null
    float* extra;     // [n 13]
    float* weights;   // [k] or null
    float* vertices;  // [v 3] or null
};

struct Kernels {
    // Returns how many faces name a vertex that does not exist; their records are NaN.
    int (*frames)(const Surface&, float* records, int begin, int end);
    int (*bind)(const Surface&, const Splats&, const float* records, const Drawn&, float* state, int begin, int end);
    void (*bind_backward)(const Splats&, const float* records, const float* state, const Drawn& out,
                          const Drawn& gradient, const Gradients&, float* share, float* weights, int begin, int end);
    void (*frames_backward)(const Surface&, float* sums, int begin, int end);
};

// Returns false when an index leads out of its tensor.
bool bind(const Surface&, const Splats&, float* records, const Drawn&, float* state, int threads);
void bind_backward(const Surface&, const Splats&, const float* records, const float* state, const Drawn& out,
                   const Drawn& gradient, const Gradients&, int threads);

#if defined(AV_CUDA)
namespace on_device {
void bind(const Surface&, const Splats&, float* records, const Drawn&, float* state, void* stream);
// sums: [f 16], zeros.
void bind_backward(const Surface&, const Splats&, const float* records, const float* state, const Drawn& out,
                   const Drawn& gradient, const Gradients&, float* sums, void* stream);
}  // namespace on_device
#endif

}  // namespace binding
}  // namespace avatar
