// Bind and blend on the CPU: two parallel regions forward (triangles, splats) and two backward (splats, triangles);
// sums over the splats of a triangle and over the triangles of a vertex are made in order by one thread between them
// (0.5 ms for 50,000 splats). Sums over tasks are added in order too, so results do not depend on the number of
// threads.

#include <algorithm>
#include <atomic>
#include <memory>
#include <vector>

#include "../cpu_features.h"
#include "../threads.h"
#include "binding.h"

AV_SELECT_KERNELS(avatar::binding::Kernels, binding_kernels)

namespace avatar {
namespace binding {
namespace {

constexpr int kItemsPerTask = 2048;
constexpr int kPadding = 64;  // floats: the last vector of a row of weights

template <class Body>
void over(int count, int threads, Body body) {
    const int tasks = (count + kItemsPerTask - 1) / kItemsPerTask;
    parallel_for(tasks, threads,
                 [&](int task, int) { body(task, task * kItemsPerTask, std::min(count, (task + 1) * kItemsPerTask)); });
}

// sums [f 16] += what each splat hands to its triangle: its point's gradient to the corners, then the share.
void add_to_triangles(const Splats& s, const float* means, const float* share, float* sums) {
    for (int64_t i = 0; i < s.count; ++i) {
        float* to = sums + kRecordFloats * s.triangle[i];
        const float *g = means + 3 * i, *bary = s.bary + 3 * i, *more = share + kShareFloats * i;
        for (int k = 0; k < 3; ++k)
            for (int d = 0; d < 3; ++d) to[3 * k + d] += bary[k] * g[d];
        for (int k = 0; k < kShareFloats; ++k) to[9 + k] += more[k];
    }
}

void add_to_vertices(const Surface& surface, const float* sums, float* vertices) {
    std::fill_n(vertices, 3 * int64_t(surface.vertex_count), 0.0f);
    for (int64_t f = 0; f < surface.face_count; ++f)
        for (int k = 0; k < 3; ++k) {
            float* to = vertices + 3 * surface.faces[3 * f + k];
            for (int d = 0; d < 3; ++d) to[d] += sums[kRecordFloats * f + 3 * k + d];
        }
}

}  // namespace

bool bind(const Surface& surface, const Splats& s, float* records, const Drawn& out, float* state, int threads) {
    const Kernels& kernels = select_kernels();
    std::atomic<int> damaged{0};
    over(surface.face_count, threads,
         [&](int, int begin, int end) { damaged += kernels.frames(surface, records, begin, end); });
    over(s.count, threads,
         [&](int, int begin, int end) { damaged += kernels.bind(surface, s, records, out, state, begin, end); });
    return damaged == 0;
}

void bind_backward(const Surface& surface, const Splats& s, const float* records, const float* state, const Drawn& out,
                   const Drawn& gradient, const Gradients& to, int threads) {
    const Kernels& kernels = select_kernels();
    const std::unique_ptr<float[]> share(new float[size_t(kShareFloats) * s.count]);
    const int tasks = (s.count + kItemsPerTask - 1) / kItemsPerTask, width = s.terms + kPadding;
    std::vector<float> weights(to.weights ? size_t(width) * tasks : 0, 0.0f);
    over(s.count, threads, [&](int task, int begin, int end) {
        float* mine = to.weights ? weights.data() + size_t(width) * task : nullptr;
        kernels.bind_backward(s, records, state, out, gradient, to, share.get(), mine, begin, end);
    });
    if (to.weights)
        for (int k = 0; k < s.terms; ++k) {
            double total = 0;
            for (int task = 0; task < tasks; ++task) total += double(weights[size_t(width) * task + k]);
            to.weights[k] = float(total);
        }
    if (!to.vertices) return;
    std::vector<float> sums(size_t(kRecordFloats) * surface.face_count, 0.0f);
    add_to_triangles(s, gradient.means, share.get(), sums.data());
    over(surface.face_count, threads,
         [&](int, int begin, int end) { kernels.frames_backward(surface, sums.data(), begin, end); });
    add_to_vertices(surface, sums.data(), to.vertices);
}

}  // namespace binding
}  // namespace avatar
