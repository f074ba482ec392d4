// A small pool of threads. Regions are few and large: on a busy machine every barrier may cost a scheduler's slice.
#pragma once

namespace avatar {

// task(context, item, worker) for each item in [0, items); worker is in [0, threads) and private to a thread.
// A worker that does not wake before the items are used up is not waited for. When the pool is already at work for
// another caller, or after a fork, the calling thread does everything itself.
void parallel_for(int items, int threads, void (*task)(void*, int, int), void* context);

template <class Body>
void parallel_for(int items, int threads, Body&& body) {
    parallel_for(items, threads, [](void* c, int item, int worker) { (*static_cast<Body*>(c))(item, worker); }, &body);
}

}  // namespace avatar
