// Rig posing: actions, skinning, rigid correction, head pose. avatar/ops/posing.py holds the specification.
#pragma once

#include <cstdint>

namespace avatar {
namespace posing {

constexpr int kWeights = 5, kTransforms = 6;
constexpr int kTransformFloats = 12 * kTransforms;
constexpr int kFixedSums = kTransformFloats + 3;  // gradients of the transforms and of the shift; then the expression's

struct Job {
    const float* neutral;     // [v 3]
    const int32_t* first;     // [v + 1] first entry of each vertex in the two lists
    const int32_t* action;    // [m] which action moves it, each within [0, e)
    const float* move;        // [m 3] by how much at coefficient 1
    const float* weights;     // [v 5] neck, torso, right eye, left eye, below the head
    const float* expression;  // [e]
    const float* transforms;  // [6 3 4]
    const float* shift;       // [3]
    int vertex_count, actions, entries;
};

struct Kernels {
    void (*pose)(const Job&, float* world, int begin, int end);
    // neutral [v 3] receives its gradient; sums [kFixedSums + e] are added to.
    void (*pose_backward)(const Job&, const float* gradient, float* neutral, double* sums, int begin, int end);
};

// Returns false, and does nothing, when the lists lead out of their tensors.
bool pose(const Job&, float* world, int threads);
void pose_backward(const Job&, const float* gradient, float* neutral, float* sums, int threads);

#if defined(AV_CUDA)
namespace on_device {
void pose(const Job&, float* world, void* stream);
void pose_backward(const Job&, const float* gradient, float* neutral, float* sums, void* stream);
}  // namespace on_device
#endif

}  // namespace posing
}  // namespace avatar
