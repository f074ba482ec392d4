#include "threads.h"

#if defined(__unix__) || defined(__APPLE__)
#include <pthread.h>
#endif

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <mutex>
#include <system_error>
#include <thread>

namespace avatar {
namespace {

using Task = void (*)(void*, int, int);

struct Job {
    Task task;
    void* context;
    int items;
    int threads;
    std::atomic<int> next{0};

    void work(int worker) {
        for (int item; (item = next.fetch_add(1, std::memory_order_relaxed)) < items;) task(context, item, worker);
    }
};

class Pool {
  public:
    bool run(Job& job) {
        std::unique_lock<std::mutex> mine(in_use_, std::try_to_lock);
        if (!mine.owns_lock()) return false;
        {
            std::lock_guard<std::mutex> lock(mutex_);
            grow(job.threads - 1);
            job_ = &job;
            ++generation_;
        }
        wake_.notify_all();
        job.work(0);
        std::unique_lock<std::mutex> lock(mutex_);
        job_ = nullptr;
        idle_.wait(lock, [this] { return inside_ == 0; });
        return true;
    }

  private:
    void grow(int wanted) {
        while (count_ < wanted) {
            try {
                std::thread([this, id = count_ + 1, seen = generation_] { serve(id, seen); }).detach();
            } catch (const std::system_error&) {  // no more threads here: those that exist do the work
                return;
            }
            ++count_;
        }
    }

    void serve(int id, uint64_t seen) {
        std::unique_lock<std::mutex> lock(mutex_);
        for (;;) {
            wake_.wait(lock, [&] { return job_ && generation_ != seen; });
            seen = generation_;
            if (id >= job_->threads) continue;
            Job& job = *job_;
            ++inside_;
            lock.unlock();
            job.work(id);
            lock.lock();
            if (--inside_ == 0) idle_.notify_one();
        }
    }

    std::mutex in_use_, mutex_;
    std::condition_variable wake_, idle_;
    Job* job_ = nullptr;
    uint64_t generation_ = 0;
    int inside_ = 0, count_ = 0;
};

std::atomic<Pool*> shared_pool{nullptr};

Pool& pool() {
    static std::once_flag once;
    std::call_once(once, [] {
        shared_pool = new Pool;  // never destroyed: its threads outlive main
#if defined(__unix__) || defined(__APPLE__)
        pthread_atfork(nullptr, nullptr, [] { shared_pool = new Pool; });  // threads do not survive a fork
#endif
    });
    return *shared_pool;
}

}  // namespace

void parallel_for(int items, int threads, Task task, void* context) {
    Job job{task, context, items, threads < items ? threads : items};
    if (job.threads > 1 && pool().run(job)) return;
    job.work(0);
}

}  // namespace avatar
