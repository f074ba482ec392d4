#include "../bind.h"
#include "raymarch.h"

#if defined(AV_CUDA)
#include "raymarch_cuda.h"
#endif

namespace avatar {
namespace {

using namespace raymarch;

using Corner = std::array<float, 3>;
using Cells = std::array<int, 3>;
using Spacings = std::array<float, 4>;  // near, far, step, cone
using Four = std::array<Pointer, 4>;

March march(const Corner& low, const Corner& high, const Cells& cells, const Spacings& spacing) {
    return March(low.data(), high.data(), cells.data(), spacing.data());
}

// origins, directions, jitter
Rays rays(const Three& p, int64_t count) { return {at<float>(p[0]), at<float>(p[1]), at<float>(p[2]), count}; }

// ray of each sample, starts, ends
Samples samples(const Three& p) { return {at<int64_t>(p[0]), at<float>(p[1]), at<float>(p[2])}; }

void march_pack(Pointer occupied, int64_t cells, Pointer words) {
    pack(at<uint8_t>(occupied), cells, at<uint32_t>(words));
}

void march_count(const Corner& low, const Corner& high, const Cells& cells, const Spacings& spacing, Pointer occupied,
                 const Three& p, int64_t number, Pointer counts, int threads) {
    count(march(low, high, cells, spacing), at<uint32_t>(occupied), rays(p, number), at<int64_t>(counts), threads);
}

void march_fill(const Corner& low, const Corner& high, const Cells& cells, const Spacings& spacing, Pointer occupied,
                const Three& p, int64_t number, Pointer packed, const Three& out, int threads) {
    fill(march(low, high, cells, spacing), at<uint32_t>(occupied), rays(p, number), at<int64_t>(packed), samples(out),
         threads);
}

// densities, values, starts, ends, packed; samples, rays, channels
Blend job(const Five& p, const std::array<int64_t, 3>& size) {
    return {at<float>(p[0]),   at<float>(p[1]), at<float>(p[2]), at<float>(p[3]),
            at<int64_t>(p[4]), size[0],         size[1],         int(size[2])};
}

Picture picture(const Four& p) { return {at<float>(p[0]), at<float>(p[1]), at<float>(p[2]), at<float>(p[3])}; }

// False if the rays' samples do not lie one after the other; nothing is written then.
bool composite(const Five& p, const std::array<int64_t, 3>& size, const Four& out, int threads) {
    const Blend blended = job(p, size);
    if (!in_order(blended)) return false;
    blend(blended, picture(out), threads);
    return true;
}

bool composite_backward(const Five& p, const std::array<int64_t, 3>& size, Pointer weights, const Four& upstream,
                        const Two& out, int threads) {
    const Blend blended = job(p, size);
    if (!in_order(blended)) return false;
    blend_backward(blended, {at<float>(weights), picture(upstream), at<float>(out[0]), at<float>(out[1])}, threads);
    return true;
}

#if defined(AV_CUDA)
namespace device = raymarch::on_device;

void cuda_march_count(const Corner& low, const Corner& high, const Cells& cells, const Spacings& spacing,
                      Pointer occupied, const Three& p, int64_t number, Pointer counts, Pointer stream) {
    device::count(march(low, high, cells, spacing), at<uint8_t>(occupied), rays(p, number), at<int64_t>(counts),
                  at<void>(stream));
}

void cuda_march_fill(const Corner& low, const Corner& high, const Cells& cells, const Spacings& spacing,
                     Pointer occupied, const Three& p, int64_t number, Pointer packed, const Three& out,
                     Pointer stream) {
    device::fill(march(low, high, cells, spacing), at<uint8_t>(occupied), rays(p, number), at<int64_t>(packed),
                 samples(out), at<void>(stream));
}

bool cuda_composite(const Five& p, const std::array<int64_t, 3>& size, const Four& out, Pointer stream) {
    device::blend(job(p, size), picture(out), at<void>(stream));
    return true;
}

bool cuda_composite_backward(const Five& p, const std::array<int64_t, 3>& size, Pointer weights, const Four& upstream,
                             const Two& out, Pointer stream) {
    device::blend_backward(job(p, size), {at<float>(weights), picture(upstream), at<float>(out[0]), at<float>(out[1])},
                           at<void>(stream));
    return true;
}
#endif

}  // namespace

void bind_raymarch(nb::module_& m) {
    m.def("march_pack", &march_pack, Released());
    m.def("march_count", &march_count, Released());
    m.def("march_fill", &march_fill, Released());
    m.def("composite", &composite, Released());
    m.def("composite_backward", &composite_backward, Released());
#if defined(AV_CUDA)
    m.def("cuda_march_count", &cuda_march_count, Released());
    m.def("cuda_march_fill", &cuda_march_fill, Released());
    m.def("cuda_composite", &cuda_composite, Released());
    m.def("cuda_composite_backward", &cuda_composite_backward, Released());
#endif
}

}  // namespace avatar
