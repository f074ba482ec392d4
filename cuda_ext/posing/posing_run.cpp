// Rig posing on the CPU: tasks of a fixed number of vertices, their sums added in order, so that results do not depend
// on the number of threads.

#include <algorithm>
#include <vector>

#include "../cpu_features.h"
#include "../threads.h"
#include "posing.h"

AV_SELECT_KERNELS(avatar::posing::Kernels, posing_kernels)

namespace avatar {
namespace posing {
namespace {

constexpr int kVerticesPerTask = 1024;

int tasks_of(const Job& job) { return (job.vertex_count + kVerticesPerTask - 1) / kVerticesPerTask; }

int end_of(const Job& job, int task) { return std::min(job.vertex_count, (task + 1) * kVerticesPerTask); }

bool whole(const Job& job) {
    bool fits = job.first[0] == 0 && job.first[job.vertex_count] == job.entries;
    for (int i = 0; i < job.vertex_count; ++i) fits &= job.first[i] <= job.first[i + 1];
    for (int e = 0; e < job.entries; ++e) fits &= job.action[e] >= 0 && job.action[e] < job.actions;
    return fits;
}

}  // namespace

bool pose(const Job& job, float* world, int threads) {
    if (!whole(job)) return false;
    const Kernels& kernels = select_kernels();
    parallel_for(tasks_of(job), threads,
                 [&](int task, int) { kernels.pose(job, world, task * kVerticesPerTask, end_of(job, task)); });
    return true;
}

void pose_backward(const Job& job, const float* gradient, float* neutral, float* sums, int threads) {
    const Kernels& kernels = select_kernels();
    const int width = kFixedSums + job.actions;
    std::vector<double> parts(size_t(width) * tasks_of(job), 0.0), total(width, 0.0);
    parallel_for(tasks_of(job), threads, [&](int task, int) {
        kernels.pose_backward(job, gradient, neutral, parts.data() + size_t(width) * task, task * kVerticesPerTask,
                              end_of(job, task));
    });
    for (size_t i = 0; i < parts.size(); ++i) total[i % width] += parts[i];
    std::copy(total.begin(), total.end(), sums);
}

}  // namespace posing
}  // namespace avatar
