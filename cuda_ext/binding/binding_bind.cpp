#include "../bind.h"

#include "binding.h"

namespace avatar {
namespace {

using namespace binding;

// Addresses: vertices, faces, rest_size; triangle, bary, live; offset, turn, log_scale, opacity, colour; basis,
// weights, extra. Sizes: vertices, faces, splats, terms, activate.
using Inputs = std::array<Pointer, 14>;
using Sizes = std::array<int, 5>;
using Nine = std::array<Pointer, 9>;

Surface surface(const Inputs& p, const Sizes& n) {
    return {at<float>(p[0]), at<int64_t>(p[1]), at<float>(p[2]), n[0], n[1]};
}

Splats splats(const Inputs& p, const Sizes& n) {
    return {at<int64_t>(p[3]),
            at<float>(p[4]),
            at<uint8_t>(p[5]),
            at<float>(p[6]),
            at<float>(p[7]),
            at<float>(p[8]),
            at<float>(p[9]),
            at<float>(p[10]),
            at<float>(p[11]),
            at<float>(p[12]),
            at<float>(p[13]),
            n[2],
            n[3],
            n[4] != 0};
}

Drawn drawn(const Five& p) {
    return {at<float>(p[0]), at<float>(p[1]), at<float>(p[2]), at<float>(p[3]), at<float>(p[4])};
}

Gradients gradients(const Nine& p) {
    return {at<float>(p[0]), at<float>(p[1]), at<float>(p[2]), at<float>(p[3]), at<float>(p[4]),
            at<float>(p[5]), at<float>(p[6]), at<float>(p[7]), at<float>(p[8])};
}

// The two pointers are those of the triangles' records and of the state.
bool bind_gaussians(const Inputs& p, const Sizes& n, const Two& state, const Five& out, int threads) {
    return bind(surface(p, n), splats(p, n), at<float>(state[0]), drawn(out), at<float>(state[1]), threads);
}

void bind_gaussians_backward(const Inputs& p, const Sizes& n, const Two& state, const Five& out, const Five& gradient,
                             const Nine& to, int threads) {
    bind_backward(surface(p, n), splats(p, n), at<float>(state[0]), at<float>(state[1]), drawn(out), drawn(gradient),
                  gradients(to), threads);
}

#if defined(AV_CUDA)
void cuda_bind_gaussians(const Inputs& p, const Sizes& n, const Two& state, const Five& out, Pointer stream) {
    on_device::bind(surface(p, n), splats(p, n), at<float>(state[0]), drawn(out), at<float>(state[1]),
                    at<void>(stream));
}

void cuda_bind_gaussians_backward(const Inputs& p, const Sizes& n, const Two& state, const Five& out,
                                  const Five& gradient, const Nine& to, Pointer sums, Pointer stream) {
    on_device::bind_backward(surface(p, n), splats(p, n), at<float>(state[0]), at<float>(state[1]), drawn(out),
                             drawn(gradient), gradients(to), at<float>(sums), at<void>(stream));
}
#endif

}  // namespace

void bind_binding(nb::module_& m) {
    m.attr("BINDING_RECORD_FLOATS") = kRecordFloats;
    m.attr("BINDING_STATE_FLOATS") = kStateFloats;
    m.def("bind_gaussians", &bind_gaussians, Released());
    m.def("bind_gaussians_backward", &bind_gaussians_backward, Released());
#if defined(AV_CUDA)
    m.def("cuda_bind_gaussians", &cuda_bind_gaussians, Released());
    m.def("cuda_bind_gaussians_backward", &cuda_bind_gaussians_backward, Released());
#endif
}

}  // namespace avatar
