// Adam on the CPU: stretches of rows in parallel; small tensors on the calling thread.

#include <algorithm>

#include "../cpu_features.h"
#include "../threads.h"
#include "adam.h"

AV_SELECT_KERNELS(avatar::adam::Kernels, adam_kernels)

namespace avatar {
namespace adam {

constexpr int64_t kNumbersPerTask = 1 << 16;

void step(const Job& job, int threads) {
    const Kernels& kernels = select_kernels();
    const int64_t rows_per_task = std::max<int64_t>(1, kNumbersPerTask / std::max(job.width, 1));
    const int tasks = int((job.rows + rows_per_task - 1) / rows_per_task);
    parallel_for(tasks, threads, [&](int task, int) {
        kernels.step(job, task * rows_per_task, std::min(job.rows, (task + 1) * rows_per_task));
    });
}

}  // namespace adam
}  // namespace avatar
