// The Python module avatar._ops: pointers as integers and sizes; no torch. avatar/ops checks what it passes.

#include <nanobind/nanobind.h>
#include <nanobind/stl/array.h>

#include <array>
#include <cstdint>

#include "cpu_features.h"
#include "image/image.h"
#include "mesh/mesh.h"
#include "rasterize/rasterize.h"

#if defined(AV_CUDA)
#include "rasterize/rasterize_cuda.h"
#endif

namespace nb = nanobind;

namespace {

using Pointer = uintptr_t;

template <class T>
T* at(Pointer p) {
    return reinterpret_cast<T*>(p);
}

using Pose = std::array<float, 16>;       // T_camera_world, row after row
using Intrinsics = std::array<float, 4>;  // fx, fy, cx, cy
using Size = std::array<int, 2>;          // height, width

avatar::rasterize::Camera camera(const Pose& pose, const Intrinsics& in, const Size& size) {
    avatar::rasterize::Camera c{};
    for (int i = 0; i < 3; ++i) {
        for (int j = 0; j < 3; ++j) c.rotation[3 * i + j] = pose[4 * i + j];
        c.translation[i] = pose[4 * i + 3];
    }
    c.focal[0] = in[0], c.focal[1] = in[1], c.center[0] = in[2], c.center[1] = in[3];
    c.height = size[0], c.width = size[1];
    return c;
}

using Five = std::array<Pointer, 5>;   // means, quats, scales, opacities, colours
using Three = std::array<Pointer, 3>;  // colour, alpha, depth

avatar::rasterize::Splats splats(const Five& p, int count, int channels) {
    return {at<float>(p[0]), at<float>(p[1]), at<float>(p[2]), at<float>(p[3]), at<float>(p[4]), count, channels};
}

int64_t rasterize_project(const Pose& pose, const Intrinsics& in, const Size& size, const Five& p, int count,
                          int channels, Pointer records, int threads) {
    return avatar::rasterize::project(camera(pose, in, size), splats(p, count, channels),
                                      at<avatar::rasterize::Record>(records), threads);
}

void rasterize_draw(const Size& size, Pointer records, int count, Pointer colours, int channels, Pointer tile_first,
                    Pointer tile_splats, const Three& image, int threads) {
    avatar::rasterize::DrawJob job{};
    job.camera = camera({}, {}, size);
    job.records = at<avatar::rasterize::Record>(records);
    job.colours = at<float>(colours), job.channels = channels;
    job.bins = {at<int32_t>(tile_first), at<int32_t>(tile_splats)};
    job.image = {at<float>(image[0]), at<float>(image[1]), at<float>(image[2])};
    avatar::rasterize::draw(job, count, at<int32_t>(tile_first), at<int32_t>(tile_splats), threads);
}

avatar::rasterize::DrawJob backward_job(const Pose& pose, const Intrinsics& in, const Size& size, const Five& p,
                                        int channels, const Three& state, const Three& image, const Three& gradient,
                                        Pointer sums) {
    avatar::rasterize::DrawJob job{};
    job.camera = camera(pose, in, size);
    job.records = at<avatar::rasterize::Record>(state[0]);
    job.colours = at<float>(p[4]), job.channels = channels;
    job.bins = {at<int32_t>(state[1]), at<int32_t>(state[2])};
    job.image = {at<float>(image[0]), at<float>(image[1]), at<float>(image[2])};
    job.gradient = {at<float>(gradient[0]), at<float>(gradient[1]), at<float>(gradient[2])};
    job.slots = at<float>(sums);
    return job;
}

avatar::rasterize::SplatsGradient splats_gradient(const Five& out) {
    return {at<float>(out[0]), at<float>(out[1]), at<float>(out[2]), at<float>(out[3]), at<float>(out[4])};
}

void rasterize_backward(const Pose& pose, const Intrinsics& in, const Size& size, const Five& p, int count,
                        int channels, const Three& state, const Three& image, const Three& gradient, Pointer slots,
                        const Five& out, int threads) {
    avatar::rasterize::draw_backward(backward_job(pose, in, size, p, channels, state, image, gradient, slots),
                                     splats(p, count, channels), splats_gradient(out), threads);
}

void mesh_draw(Pointer vertices, int64_t vertex_count, Pointer faces, int64_t face_count,
               const std::array<double, 4>& in, const Size& size, const Three& out, int threads) {
    avatar::mesh::draw({at<float>(vertices), at<int64_t>(faces), vertex_count, face_count, in[0], in[1], in[2], in[3],
                        size[0], size[1], at<int64_t>(out[0]), at<float>(out[1]), at<float>(out[2])},
                       threads);
}

avatar::image::Job pictures(const Three& p, const std::array<int, 3>& shape) {
    avatar::image::Job job{};
    job.image = at<float>(p[0]), job.target = at<float>(p[1]), job.weight = at<float>(p[2]);
    job.height = shape[0], job.width = shape[1], job.channels = shape[2];
    return job;
}

std::array<double, 3> l1_ssim(const Three& p, const std::array<int, 3>& shape, Pointer gradient, int threads) {
    avatar::image::Job job = pictures(p, shape);
    job.gradient = at<float>(gradient);
    const avatar::image::Sums sums = avatar::image::l1_ssim(job, threads);
    return {sums.difference, sums.similarity, sums.weight};
}

void l1_ssim_backward(const Three& p, const std::array<int, 3>& shape, Pointer similarity_gradient,
                      const std::array<float, 2>& upstream, Pointer out, int threads) {
    avatar::image::l1_ssim_backward(pictures(p, shape), {at<float>(similarity_gradient), upstream[0], upstream[1]},
                                    at<float>(out), threads);
}

#if defined(AV_CUDA)
namespace device = avatar::rasterize::on_device;
using Two = std::array<Pointer, 2>;

int64_t cuda_project(const Pose& pose, const Intrinsics& in, const Size& size, const Five& p, int count, int channels,
                     const Two& records_and_ends, Pointer scratch, size_t scratch_bytes, Pointer stream) {
    return device::project(camera(pose, in, size), splats(p, count, channels),
                           at<avatar::rasterize::Record>(records_and_ends[0]), at<int32_t>(records_and_ends[1]),
                           at<void>(scratch), scratch_bytes, at<void>(stream));
}

// lists: two buffers of keys, two of splats, and the first slot of each tile.
void cuda_draw(const Size& size, const Two& records_and_ends, int count, Pointer colours, int channels, int64_t slots,
               const Five& lists, Pointer scratch, size_t scratch_bytes, const Three& image, Pointer stream) {
    avatar::rasterize::DrawJob job{};
    job.camera = camera({}, {}, size);
    job.records = at<avatar::rasterize::Record>(records_and_ends[0]);
    job.colours = at<float>(colours), job.channels = channels;
    job.image = {at<float>(image[0]), at<float>(image[1]), at<float>(image[2])};
    const device::Lists l{{at<int64_t>(lists[0]), at<int64_t>(lists[1])},
                          {at<int32_t>(lists[2]), at<int32_t>(lists[3])},
                          at<int32_t>(lists[4]),
                          at<void>(scratch),
                          scratch_bytes};
    device::draw(job, count, at<int32_t>(records_and_ends[1]), slots, l, at<void>(stream));
}

void cuda_backward(const Pose& pose, const Intrinsics& in, const Size& size, const Five& p, int count, int channels,
                   const Three& state, const Three& image, const Three& gradient, Pointer sums, const Five& out,
                   Pointer stream) {
    device::draw_backward(backward_job(pose, in, size, p, channels, state, image, gradient, sums),
                          splats(p, count, channels), splats_gradient(out), at<void>(stream));
}
#endif

}  // namespace

NB_MODULE(_ops, m) {
    const auto release = nb::call_guard<nb::gil_scoped_release>();
    m.attr("TILE") = avatar::rasterize::kTile;
    m.attr("RECORD_FLOATS") = int(sizeof(avatar::rasterize::Record) / sizeof(float));
    m.attr("GEOMETRY_GRADIENTS") = avatar::rasterize::kGeometryGradients;
    m.attr("MAX_CHANNELS") = avatar::rasterize::kMaxChannels;
    m.def("instruction_set", [] { return avatar::name(avatar::instruction_set()); });
    m.def("rasterize_project", &rasterize_project, release);
    m.def("rasterize_draw", &rasterize_draw, release);
    m.def("rasterize_backward", &rasterize_backward, release);
    m.def("l1_ssim", &l1_ssim, release);
    m.def("l1_ssim_backward", &l1_ssim_backward, release);
    m.def("mesh_draw", &mesh_draw, release);
#if defined(AV_CUDA)
    m.attr("CUDA") = true;
    m.attr("CUDA_MAX_CHANNELS") = device::kMaxChannels;
    m.def("cuda_tiles", &device::tiles);
    m.def("cuda_scratch_bytes", &device::scratch_bytes);
    m.def("cuda_project", &cuda_project, release);
    m.def("cuda_draw", &cuda_draw, release);
    m.def("cuda_backward", &cuda_backward, release);
#else
    m.attr("CUDA") = false;
#endif
}
