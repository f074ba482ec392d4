#include "../bind.h"
#include "rasterize.h"

#if defined(AV_CUDA)
#include "rasterize_cuda.h"
#endif

namespace avatar {
namespace {

using namespace rasterize;

using Pose = std::array<float, 16>;       // T_camera_world, row after row
using Intrinsics = std::array<float, 4>;  // fx, fy, cx, cy

Camera camera(const Pose& pose, const Intrinsics& in, const Size& size) {
    Camera c{};
    for (int i = 0; i < 3; ++i) {
        for (int j = 0; j < 3; ++j) c.rotation[3 * i + j] = pose[4 * i + j];
        c.translation[i] = pose[4 * i + 3];
    }
    c.focal[0] = in[0], c.focal[1] = in[1], c.center[0] = in[2], c.center[1] = in[3];
    c.height = size[0], c.width = size[1];
    return c;
}

using Six = std::array<Pointer, 6>;

// Addresses: means, quats, scales, opacities, colours.
Splats splats(const Five& p, int count, int channels) {
    return {at<float>(p[0]), at<float>(p[1]), at<float>(p[2]), at<float>(p[3]), at<float>(p[4]), count, channels};
}

int64_t rasterize_project(const Pose& pose, const Intrinsics& in, const Size& size, const Five& p, int count,
                          int channels, Pointer records, int threads) {
    return project(camera(pose, in, size), splats(p, count, channels), at<Record>(records), threads);
}

void rasterize_draw(const Size& size, Pointer records, int count, Pointer colours, int channels, Pointer background,
                    Pointer tile_first, Pointer tile_splats, const Three& image, int threads) {
    DrawJob job{};
    job.camera = camera({}, {}, size);
    job.records = at<Record>(records);
    job.colours = at<float>(colours), job.channels = channels;
    job.background = at<float>(background);
    job.bins = {at<int32_t>(tile_first), at<int32_t>(tile_splats)};
    job.image = {at<float>(image[0]), at<float>(image[1]), at<float>(image[2])};
    draw(job, count, at<int32_t>(tile_first), at<int32_t>(tile_splats), threads);
}

DrawJob backward_job(const Pose& pose, const Intrinsics& in, const Size& size, const Five& p, int channels,
                     const Three& state, const Three& image, const Three& gradient, Pointer sums) {
    DrawJob job{};
    job.camera = camera(pose, in, size);
    job.records = at<Record>(state[0]);
    job.colours = at<float>(p[4]), job.channels = channels;
    job.bins = {at<int32_t>(state[1]), at<int32_t>(state[2])};
    job.image = {at<float>(image[0]), at<float>(image[1]), at<float>(image[2])};
    job.gradient = {at<float>(gradient[0]), at<float>(gradient[1]), at<float>(gradient[2])};
    job.slots = at<float>(sums);
    return job;
}

// The gradient of the pose comes as [4 4] with its last row zero: its first twelve are ours.
SplatsGradient splats_gradient(const Six& out) {
    return {at<float>(out[0]), at<float>(out[1]), at<float>(out[2]),
            at<float>(out[3]), at<float>(out[4]), at<float>(out[5])};
}

void rasterize_backward(const Pose& pose, const Intrinsics& in, const Size& size, const Five& p, int count,
                        int channels, const Three& state, const Three& image, const Three& gradient, Pointer slots,
                        const Six& out, int threads) {
    draw_backward(backward_job(pose, in, size, p, channels, state, image, gradient, slots), splats(p, count, channels),
                  splats_gradient(out), threads);
}

#if defined(AV_CUDA)
namespace device = rasterize::on_device;

int64_t cuda_project(const Pose& pose, const Intrinsics& in, const Size& size, const Five& p, int count, int channels,
                     Pointer records, Pointer workspace, Pointer stream) {
    return device::project(camera(pose, in, size), splats(p, count, channels), at<device::DeviceRecord>(records),
                           at<void>(workspace), at<void>(stream));
}

// workspaces: the projection's and the lists' own.
int cuda_list(const Size& size, Pointer records, int count, int64_t pairs, const Two& tile_splats, Pointer tile_first,
              const Two& workspaces, Pointer stream) {
    int32_t* const buffers[2] = {at<int32_t>(tile_splats[0]), at<int32_t>(tile_splats[1])};
    return device::list_tiles(camera({}, {}, size), at<device::DeviceRecord>(records), count, pairs,
                              at<void>(workspaces[0]), buffers, at<int32_t>(tile_first), at<void>(workspaces[1]),
                              at<void>(stream));
}

// state: records, first slot and splats of the tiles.
device::TileJob tile_job(const Camera& camera, const Three& state, Pointer colours, int channels, const Three& image) {
    device::TileJob job{};
    job.camera = camera;
    job.records = at<device::DeviceRecord>(state[0]);
    job.tile_first = at<int32_t>(state[1]), job.tile_splats = at<int32_t>(state[2]);
    job.colours = at<float>(colours), job.channels = channels;
    job.image = {at<float>(image[0]), at<float>(image[1]), at<float>(image[2])};
    return job;
}

void cuda_draw(const Size& size, const Three& state, Pointer colours, int channels, Pointer background,
               const Three& image, Pointer stream) {
    device::TileJob job = tile_job(camera({}, {}, size), state, colours, channels, image);
    job.background = at<float>(background);
    device::draw(job, at<void>(stream));
}

void cuda_backward(const Pose& pose, const Intrinsics& in, const Size& size, const Five& p, int count, int channels,
                   const Three& state, int64_t pairs, const Three& image, const Three& gradient, const Six& out,
                   Pointer workspace, Pointer stream) {
    device::TileJob job = tile_job(camera(pose, in, size), state, p[4], channels, image);
    job.gradient = {at<float>(gradient[0]), at<float>(gradient[1]), at<float>(gradient[2])};
    device::draw_backward(job, splats(p, count, channels), pairs, splats_gradient(out), at<void>(workspace),
                          at<void>(stream));
}
#endif

}  // namespace

void bind_rasterize(nb::module_& m) {
    m.attr("TILE") = kTile;
    m.attr("RECORD_FLOATS") = int(sizeof(Record) / sizeof(float));
    m.attr("GEOMETRY_GRADIENTS") = kGeometryGradients;
    m.attr("MAX_CHANNELS") = kMaxChannels;
    m.def("rasterize_project", &rasterize_project, Released());
    m.def("rasterize_draw", &rasterize_draw, Released());
    m.def("rasterize_backward", &rasterize_backward, Released());
#if defined(AV_CUDA)
    m.attr("CUDA_MAX_CHANNELS") = device::kMaxChannels;
    m.attr("CUDA_RECORD_FLOATS") = int(sizeof(device::DeviceRecord) / sizeof(float));
    m.def("cuda_tiles", &device::tiles);
    m.def("cuda_project_bytes", &device::project_bytes);
    m.def("cuda_list_bytes", &device::list_bytes);
    m.def("cuda_backward_bytes", &device::backward_bytes);
    m.def("cuda_project", &cuda_project, Released());
    m.def("cuda_list", &cuda_list, Released());
    m.def("cuda_draw", &cuda_draw, Released());
    m.def("cuda_backward", &cuda_backward, Released());
#endif
}

}  // namespace avatar
