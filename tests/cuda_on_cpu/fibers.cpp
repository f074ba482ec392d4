// The scheduler of the device in software; see include/cuda_runtime.h.
//
// A launch runs on a thread of its own. Its __shared__ variables are that thread's thread-local variables of this
// library, which is how they are found and filled with NaN before each block. Fibers begin with makecontext and switch
// with _setjmp and _longjmp, which make no system calls.

#include <link.h>
#include <setjmp.h>
#include <sys/mman.h>
#include <ucontext.h>

#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "include/cuda_runtime.h"

dim3 threadIdx, blockIdx, blockDim, gridDim;

namespace cuda_on_cpu {

namespace {

constexpr size_t kStack = 256 * 1024;
constexpr int kWarpSize = 32, kMostThreads = 1024;

enum class State { ready, at_warp, at_block, done };

struct Fiber {
    ucontext_t start;
    jmp_buf resume;
    bool started = false;
    State state = State::done;
    dim3 index;
    const char* what = "";  // it waits for
    int line = 0, lane = 0, warp = 0, count = 0;
    unsigned mask = 0;
    uint64_t value = 0, received[kWarpSize];
};

struct Block {
    std::vector<Fiber> fibers;
    std::vector<unsigned> arrived;  // lanes of each warp that wait for others
    int live = 0, waiting = 0, count = 0;
};

struct Stacks {
    char* memory;
    Stacks()
        : memory(static_cast<char*>(mmap(nullptr, kStack * kMostThreads, PROT_READ | PROT_WRITE,
                                         MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0))) {
        if (memory == MAP_FAILED) throw std::runtime_error("no memory for the stacks of CUDA threads");
    }
    ~Stacks() { munmap(memory, kStack * kMostThreads); }
};

Block* now = nullptr;
Fiber* self = nullptr;
const std::function<void()>* body = nullptr;
jmp_buf scheduler;
std::string message;

void back_to_scheduler() {
    if (!_setjmp(self->resume)) _longjmp(scheduler, 1);
}

void release_block() {
    if (!now->waiting || now->waiting < now->live) return;
    const Fiber* first = nullptr;
    for (Fiber& f : now->fibers) {
        if (f.state != State::at_block) continue;
        if (!first) first = &f;
        if (f.line != first->line || f.what != first->what) return;  // a deadlock, which the scheduler reports
    }
    for (Fiber& f : now->fibers)
        if (f.state == State::at_block) f.state = State::ready, f.count = now->count;
    now->waiting = now->count = 0;
}

void release_warp(Fiber& last) {
    unsigned& arrived = now->arrived[last.warp];
    if ((arrived & last.mask) != last.mask) return;
    Fiber* lanes = &now->fibers[size_t(last.warp) * kWarpSize];
    uint64_t values[kWarpSize] = {};
    for (int k = 0; k < kWarpSize; ++k) {
        if (!(last.mask >> k & 1)) continue;
        if (lanes[k].line != last.line || lanes[k].what != last.what || lanes[k].mask != last.mask) return;
        values[k] = lanes[k].value;
    }
    for (int k = 0; k < kWarpSize; ++k) {
        if (!(last.mask >> k & 1)) continue;
        std::memcpy(lanes[k].received, values, sizeof(values));
        lanes[k].state = State::ready;
    }
    arrived &= ~last.mask;
}

void fiber_main() {
    for (;;) {
        (*body)();
        self->state = State::done;
        --now->live;
        release_block();
        back_to_scheduler();
    }
}

void resume(Fiber& fiber) {
    self = &fiber;
    threadIdx = fiber.index;
    if (_setjmp(scheduler)) return;
    if (fiber.started) _longjmp(fiber.resume, 1);
    fiber.started = true;
    setcontext(&fiber.start);
}

// Lets the threads of one warp run until none of them can go on; says whether any did.
bool run_warp(size_t first, size_t end, bool falling) {
    bool any = false;
    for (bool moved = true; moved;) {
        moved = false;
        for (size_t i = first; i < end; ++i) {
            Fiber& fiber = now->fibers[falling ? first + end - 1 - i : i];
            if (fiber.state != State::ready) continue;
            resume(fiber);
            moved = any = true;
        }
    }
    return any;
}

std::string where_threads_wait() {
    std::string text = "threads wait for each other in vain in block (" + std::to_string(blockIdx.x) + ", " +
                       std::to_string(blockIdx.y) + ", " + std::to_string(blockIdx.z) + "):";
    std::string last;
    for (const Fiber& f : now->fibers) {
        const std::string place =
            f.state == State::done ? "has ended" : std::string(f.what) + " in line " + std::to_string(f.line);
        if (place != last) text += " from thread " + std::to_string(&f - now->fibers.data()) + " on: " + place + ";";
        last = place;
    }
    return text;
}

// Bytes of this library's thread-local variables on the thread that calls.
struct Shared {
    char* memory = nullptr;
    size_t bytes = 0;
};

Shared shared_memory() {
    struct Search {
        uintptr_t inside;
        Shared found;
    } search{reinterpret_cast<uintptr_t>(&run), {}};
    dl_iterate_phdr(
        [](dl_phdr_info* info, size_t, void* data) {
            Search& s = *static_cast<Search*>(data);
            bool ours = false;
            size_t bytes = 0;
            for (int k = 0; k < info->dlpi_phnum; ++k) {
                const ElfW(Phdr) & part = info->dlpi_phdr[k];
                const uintptr_t low = info->dlpi_addr + part.p_vaddr;
                if (part.p_type == PT_LOAD && s.inside >= low && s.inside < low + part.p_memsz) ours = true;
                if (part.p_type == PT_TLS) bytes = part.p_memsz;
            }
            if (ours) s.found = {static_cast<char*>(info->dlpi_tls_data), bytes};
            return int(ours);
        },
        &search);
    return search.found;
}

__shared__ volatile uint32_t touched;  // writing it makes the thread's block of shared variables exist

bool run_blocks(dim3 grid, dim3 size) {
    const int count = int(size.x * size.y * size.z);
    const Stacks stacks;
    touched = 1;
    const Shared shared = shared_memory();
    if (!shared.memory) return message = "the shared variables are not found", false;
    Block state;
    now = &state;
    state.fibers.resize(count);
    state.arrived.resize((count + kWarpSize - 1) / kWarpSize);
    for (int i = 0; i < count; ++i) {
        Fiber& f = state.fibers[i];
        f.index = dim3(i % size.x, i / size.x % size.y, i / size.x / size.y);
        f.lane = i % kWarpSize, f.warp = i / kWarpSize;
        getcontext(&f.start);
        f.start.uc_stack.ss_sp = stacks.memory + kStack * i;
        f.start.uc_stack.ss_size = kStack;
        f.start.uc_link = nullptr;
        makecontext(&f.start, fiber_main, 0);
    }
    blockDim = size, gridDim = grid;
    const int64_t all = int64_t(grid.x) * grid.y * grid.z;
    for (int64_t b = 0; b < all; ++b) {
        blockIdx = dim3(unsigned(b % grid.x), unsigned(b / grid.x % grid.y), unsigned(b / grid.x / grid.y));
        std::memset(shared.memory, 0xff, shared.bytes);
        state.live = count;
        for (Fiber& f : state.fibers) f.state = State::ready;
        const int warps = int(state.arrived.size()), falling = int(b % 2);
        while (state.live) {
            bool moved = false;
            for (int w = 0; w < warps; ++w) {
                const size_t first = size_t(falling ? warps - 1 - w : w) * kWarpSize;
                moved |= run_warp(first, std::min<size_t>(first + kWarpSize, count), falling);
            }
            if (!moved) return message = where_threads_wait(), false;
        }
    }
    return true;
}

}  // namespace

const char* report() { return message.c_str(); }

int lane() { return self->lane; }

bool run(dim3 grid, dim3 size, const std::function<void()>& kernel) {
    const int64_t count = int64_t(size.x) * size.y * size.z;
    if (!grid.x || !grid.y || !grid.z || !count || count > kMostThreads)
        return message = "invalid configuration of blocks and threads", false;
    body = &kernel;
    bool done = false;
    std::thread([&] { done = run_blocks(grid, size); }).join();
    return done;
}

const uint64_t* meet_warp(unsigned mask, uint64_t value, const char* what, int line) {
    Fiber& me = *self;
    me.value = value, me.what = what, me.line = line, me.mask = mask;
    me.state = State::at_warp;
    now->arrived[me.warp] |= 1u << me.lane;
    if (mask >> me.lane & 1) release_warp(me);  // to leave oneself out is an error: one waits forever
    if (me.state != State::ready) back_to_scheduler();
    return me.received;
}

int meet_block(bool predicate, const char* what, int line) {
    Fiber& me = *self;
    me.what = what, me.line = line;
    me.state = State::at_block;
    ++now->waiting, now->count += predicate;
    release_block();
    if (me.state != State::ready) back_to_scheduler();
    return me.count;
}

}  // namespace cuda_on_cpu
