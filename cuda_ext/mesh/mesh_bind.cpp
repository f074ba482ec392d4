#include "../bind.h"
#include "mesh.h"

namespace avatar {
namespace {

using namespace mesh;

void mesh_draw(Pointer vertices, int64_t vertex_count, Pointer faces, int64_t face_count,
               const std::array<double, 4>& in, const Size& size, const Three& out, int threads) {
    draw({at<float>(vertices), at<int64_t>(faces), vertex_count, face_count, in[0], in[1], in[2], in[3], size[0],
          size[1], at<int64_t>(out[0]), at<float>(out[1]), at<float>(out[2])},
         threads);
}

}  // namespace

void bind_mesh(nb::module_& m) { m.def("mesh_draw", &mesh_draw, Released()); }

}  // namespace avatar
