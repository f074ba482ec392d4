#include <nanobind/stl/vector.h>

#include "../bind.h"
#include "../huge_pages.h"
#include "hashgrid.h"

#if defined(AV_CUDA)
#include "hashgrid_cuda.h"
#endif

namespace avatar {

namespace {

using namespace hashgrid;

// dimensions, features, log2 of the rows of a hashed level
using Kind = std::array<int, 3>;
// positions, table, gradient
Job job(const Three& p, int64_t points, const Kind& kind, const std::vector<int64_t>& resolutions) {
    return {make_grid(kind[0], kind[1], resolutions.data(), int(resolutions.size()), kind[2]), at<float>(p[0]), points,
            at<float>(p[1]), at<float>(p[2])};
}

void hash_encode(const Three& p, int64_t points, const Kind& kind, const std::vector<int64_t>& resolutions, Pointer out,
                 int threads) {
    encode(job(p, points, kind, resolutions), at<float>(out), threads);
}

void hash_encode_backward(const Three& p, int64_t points, const Kind& kind, const std::vector<int64_t>& resolutions,
                          const Two& out, int threads) {
    const Job j = job(p, points, kind, resolutions);
    if (out[0]) backward_positions(j, at<float>(out[0]), threads);
    if (out[1]) backward_table(j, at<float>(out[1]), threads);
}

#if defined(AV_CUDA)
void cuda_hash_encode(const Three& p, int64_t points, const Kind& kind, const std::vector<int64_t>& resolutions,
                      Pointer out, Pointer stream) {
    hashgrid::on_device::encode(job(p, points, kind, resolutions), at<float>(out), at<void>(stream));
}

void cuda_hash_encode_backward(const Three& p, int64_t points, const Kind& kind,
                               const std::vector<int64_t>& resolutions, const Two& out, Pointer stream) {
    const Job j = job(p, points, kind, resolutions);
    if (out[0]) hashgrid::on_device::backward_positions(j, at<float>(out[0]), at<void>(stream));
    if (out[1]) hashgrid::on_device::backward_table(j, at<float>(out[1]), at<void>(stream));
}
#endif

}  // namespace

void bind_hashgrid(nb::module_& m) {
    m.attr("HASH_MAX_LEVELS") = kMaxLevels;
    m.def("advise_huge_pages", [](Pointer memory, size_t bytes) { advise_huge_pages(at<void>(memory), bytes); });
    m.def("hash_encode", &hash_encode, Released());
    m.def("hash_encode_backward", &hash_encode_backward, Released());
#if defined(AV_CUDA)
    m.def("cuda_hash_encode", &cuda_hash_encode, Released());
    m.def("cuda_hash_encode_backward", &cuda_hash_encode_backward, Released());
#endif
}

}  // namespace avatar
