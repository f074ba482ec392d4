#include "../bind.h"
#include "posing.h"

namespace avatar {
namespace {

using namespace posing;

// Addresses: neutral, first, action, move, weights, expression, transforms, shift.
using Inputs = std::array<Pointer, 8>;
using Sizes = std::array<int, 3>;  // vertices, actions, entries of the lists

Job job(const Inputs& p, const Sizes& sizes) {
    return {at<float>(p[0]), at<int32_t>(p[1]), at<int32_t>(p[2]), at<float>(p[3]), at<float>(p[4]), at<float>(p[5]),
            at<float>(p[6]), at<float>(p[7]),   sizes[0],          sizes[1],        sizes[2]};
}

bool pose_rig(const Inputs& p, const Sizes& sizes, Pointer world, int threads) {
    return pose(job(p, sizes), at<float>(world), threads);
}

void pose_rig_backward(const Inputs& p, const Sizes& sizes, const Three& out, int threads) {
    pose_backward(job(p, sizes), at<float>(out[0]), at<float>(out[1]), at<float>(out[2]), threads);
}

#if defined(AV_CUDA)
void cuda_pose_rig(const Inputs& p, const Sizes& sizes, Pointer world, Pointer stream) {
    on_device::pose(job(p, sizes), at<float>(world), at<void>(stream));
}

void cuda_pose_rig_backward(const Inputs& p, const Sizes& sizes, const Three& out, Pointer stream) {
    on_device::pose_backward(job(p, sizes), at<float>(out[0]), at<float>(out[1]), at<float>(out[2]), at<void>(stream));
}
#endif

}  // namespace

void bind_posing(nb::module_& m) {
    m.def("pose_rig", &pose_rig, Released());
    m.def("pose_rig_backward", &pose_rig_backward, Released());
#if defined(AV_CUDA)
    m.def("cuda_pose_rig", &cuda_pose_rig, Released());
    m.def("cuda_pose_rig_backward", &cuda_pose_rig_backward, Released());
#endif
}

}  // namespace avatar
