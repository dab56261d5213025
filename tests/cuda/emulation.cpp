/* emulation.cpp - a CUDA driver without a GPU: libcuda.so.1 for tests. The kernels are the
 * library's own, compiled for the processor; blocks run one after another, the threads of a block
 * as fibers. Memory is the process's own and filled with NaN, so that address sanitizers and
 * comparisons find what reads or writes where it should not. Threads go by in the reverse order
 * every other launch: a barrier that is missing shows as results that differ.
 *
 * The environment variable UT_EMULATED_MEMORY bounds the device's memory, in bytes;
 * UT_EMULATED_DEVICES says how many devices there are, all of which have this memory;
 * UT_EMULATED_CAPABILITY is what they can do: 80, 90, or 120, which has boxes and no groups of
 * warps. */
#include "emulation_mma.h"
#include "emulation_queue.h"

#include <cstdio>
#include <cstdlib>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

emu_dim threadIdx, blockIdx, gridDim;

/* ---- Fibers ---------------------------------------------------------------------------------- */

#if defined(__x86_64__)
/* Save the callee's registers on this stack, its top in *save; go on from another top. */
extern "C" void emu_switch(void **save, void *load);
__asm__(".text\n"
        ".globl emu_switch\n"
        ".type emu_switch, @function\n"
        "emu_switch:\n"
        "  pushq %rbp\n  pushq %rbx\n  pushq %r12\n  pushq %r13\n  pushq %r14\n  pushq %r15\n"
        "  movq %rsp, (%rdi)\n"
        "  movq %rsi, %rsp\n"
        "  popq %r15\n  popq %r14\n  popq %r13\n  popq %r12\n  popq %rbx\n  popq %rbp\n"
        "  ret\n");

struct context {
    void *top;
};

static void context_make(context *c, char *stack, size_t size, void (*entry)())
{
    void **top = reinterpret_cast<void **>(stack + size);
    *--top = nullptr; /* entry sees the stack as after a call */
    *--top = reinterpret_cast<void *>(entry);
    for (int i = 0; i < 6; i++)
        *--top = nullptr;
    c->top = top;
}

static void context_swap(context *from, context *to)
{
    emu_switch(&from->top, to->top);
}
#else
#include <ucontext.h>

struct context {
    ucontext_t u;
};

static void context_make(context *c, char *stack, size_t size, void (*entry)())
{
    getcontext(&c->u);
    c->u.uc_stack.ss_sp = stack;
    c->u.uc_stack.ss_size = size;
    c->u.uc_link = nullptr;
    makecontext(&c->u, entry, 0);
}

static void context_swap(context *from, context *to)
{
    swapcontext(&from->u, &to->u);
}
#endif

enum wait { RUNS, AT_WARP, AT_TEAM, AT_BLOCK, AT_GRID, ENDED };

struct copy {
    void *dst;
    const void *src; /* NULL: zeros */
};

struct fiber {
    context c;
    std::unique_ptr<char[]> stack;
    wait state;
    int parity, block_parity;              /* of its next exchanges */
    std::vector<std::vector<copy>> copies; /* groups not waited for, the last one open */
};

/* Blocks that run at the same time: one, those of a cluster, or all of a cooperative launch. */
struct block {
    emu_dim index;
    std::vector<unsigned char> shared;
    int found[2]; /* by __syncthreads_or */
};

static const size_t STACK = 64 << 10;
static std::vector<fiber> fibers; /* of all running blocks, block after block */
static std::vector<block> blocks;
static unsigned block_threads;
static unsigned now; /* the fiber that runs */
static context scheduler;
static const emu_kernel *kernel_now;
static const void *args_now;
static std::vector<uint64_t> exchanged[2];
static std::vector<emu_words> published[2];
static unsigned n_launches;

[[noreturn]] static void die(const char *what)
{
    fprintf(stderr, "emulated GPU: kernel %s: %s\n", kernel_now ? kernel_now->name : "?", what);
    abort();
}

static void fiber_main()
{
    kernel_now->run(args_now);
    fibers[now].state = ENDED;
    context_swap(&fibers[now].c, &scheduler);
    die("an ended thread runs on");
}

static void wait_at(wait state)
{
    const unsigned me = now;
    fibers[me].state = state;
    context_swap(&fibers[me].c, &scheduler);
}

unsigned char *emu_shared(void)
{
    return blocks[now / block_threads].shared.data();
}

void __syncthreads(void)
{
    wait_at(AT_BLOCK);
}

void block_meet(void)
{
    wait_at(AT_TEAM);
}

void __syncwarp(void)
{
    wait_at(AT_WARP);
}

int __syncthreads_or(int any)
{
    int *mine = &blocks[now / block_threads].found[fibers[now].block_parity];
    fibers[now].block_parity ^= 1; /* the next one must not disturb slower threads */
    *mine |= any;
    wait_at(AT_BLOCK);
    const int result = *mine;
    wait_at(AT_BLOCK);
    *mine = 0;
    return result;
}

void emu_grid_wait(void)
{
    wait_at(AT_GRID);
}

const void *emu_shared_of(const void *p, unsigned rank)
{
    const block &mine = blocks[now / block_threads];
    return blocks[rank].shared.data() + ((const unsigned char *)p - mine.shared.data());
}

static bool yielded;  /* somebody looks for what others have to do */
static unsigned idle; /* rounds in which everybody did only that */

void emu_yield(void)
{
    yielded = true;
    wait_at(RUNS);
}

void emu_gate_closed(void)
{
    die("waits at a gate that does not open");
}

uint64_t emu_exchange(uint64_t mine, unsigned from)
{
    const unsigned me = now;
    std::vector<uint64_t> &slots = exchanged[fibers[me].parity];
    fibers[me].parity ^= 1; /* the next exchange must not disturb slower lanes */
    slots[me] = mine;
    wait_at(AT_WARP);
    return slots[me / 32 * 32 + from];
}

const emu_words *emu_publish(const emu_words &mine)
{
    const unsigned me = now;
    std::vector<emu_words> &slots = published[fibers[me].parity];
    fibers[me].parity ^= 1;
    slots[me] = mine;
    wait_at(AT_WARP);
    return slots.data() + me / 32 * 32;
}

void emu_copy_async(void *dst, const void *src)
{
    if ((uintptr_t)dst % 16 || (uintptr_t)src % 16)
        die("a copy to or from an address that is no multiple of 16");
    fibers[now].copies.back().push_back({dst, src});
}

void emu_copy_group_end(void)
{
    fibers[now].copies.emplace_back();
}

void emu_copy_wait(int newest)
{
    auto &groups = fibers[now].copies;
    while ((int)groups.size() - 1 > newest) {
        for (const copy &c : groups.front())
            if (c.src)
                memcpy(c.dst, c.src, 16);
            else
                memset(c.dst, 0, 16);
        groups.erase(groups.begin());
    }
}

/* Of the n fibers from `first` on: let go on those that all wait at `where`. */
static bool release_if_all(unsigned first, unsigned n, wait where)
{
    for (unsigned i = first; i < first + n; i++)
        if (fibers[i].state != where)
            return false;
    for (unsigned i = first; i < first + n; i++)
        fibers[i].state = RUNS;
    return true;
}

/* Do those of a block that meet all wait for the grid? A warp past them does without it. */
static bool all_at_grid(unsigned n, unsigned team)
{
    for (unsigned i = 0; i < n; i++)
        if (i % block_threads < team && fibers[i].state != AT_GRID)
            return false;
    return true;
}

/* Let those go on whose barrier all have reached; false: nobody can. */
static bool release(unsigned n)
{
    const unsigned team = block_threads < CU_THREADS ? block_threads : CU_THREADS;
    const bool grid = all_at_grid(n, team);
    bool any = grid;
    for (unsigned b = 0; b < n; b += block_threads) {
        if (grid)
            release_if_all(b, team, AT_GRID);
        any = release_if_all(b, block_threads, AT_BLOCK) || any;
        for (unsigned t = b; t + team <= b + block_threads; t += team)
            any = release_if_all(t, team, AT_TEAM) || any;
    }
    for (unsigned w = 0; w < n; w += 32)
        any = release_if_all(w, 32, AT_WARP) || any;
    return any;
}

/* Run `blocks` together. */
static void run_blocks(bool reverse)
{
    const unsigned n = (unsigned)blocks.size() * block_threads;
    if (fibers.size() < n)
        fibers.resize(n);
    for (int i = 0; i < 2; i++) {
        exchanged[i].resize(n);
        published[i].resize(n);
    }
    for (unsigned i = 0; i < n; i++) {
        fiber &f = fibers[i];
        if (!f.stack)
            f.stack.reset(new char[STACK]);
        f.state = RUNS;
        f.parity = f.block_parity = 0;
        f.copies.assign(1, {});
        context_make(&f.c, f.stack.get(), STACK, fiber_main);
    }
    for (;;) {
        unsigned ended = 0;
        yielded = false;
        for (unsigned k = 0; k < n; k++) {
            const unsigned i = reverse ? n - 1 - k : k;
            if (fibers[i].state == RUNS) {
                now = i;
                threadIdx = {i % block_threads, 0, 0};
                blockIdx = blocks[i / block_threads].index;
                context_swap(&scheduler, &fibers[i].c);
            }
            ended += fibers[i].state == ENDED;
        }
        if (ended == n)
            return;
        /* a thread that has ended must not be waited for: kernels here never rely on it */
        idle = release(n) ? 0 : idle + 1;
        if (idle > 100000 || (idle && !yielded))
            die("threads wait for each other, or for some that have ended");
    }
}

/* Blocks that run at the same time. */
enum together { ONE, COLUMN /* those of one x and z: a cluster */, GRID };

static void run_kernel(const emu_kernel *k, emu_dim grid, unsigned threads, size_t shared_bytes,
                       const void *args, together how)
{
    if (threads % 32 || threads > 1024 || shared_bytes > 227 * 1024)
        abort();
    kernel_now = k;
    args_now = args;
    gridDim = grid;
    block_threads = threads;
    const bool reverse = n_launches++ % 2;
    blocks.clear();
    for (unsigned z = 0; z < grid.z; z++)
        for (unsigned x = 0; x < grid.x; x++)
            for (unsigned y = 0; y < grid.y; y++) {
                blocks.push_back({{x, y, z}, std::vector<unsigned char>(shared_bytes, 0xff), {}});
                if (how == GRID || (how == COLUMN && y + 1 < grid.y))
                    continue;
                run_blocks(reverse);
                blocks.clear();
            }
    if (how == GRID)
        run_blocks(reverse);
}

/* ---- The driver ------------------------------------------------------------------------------ */

static emu_kernel *all_kernels;

emu_kernel::emu_kernel(const char *n, void (*r)(const void *), size_t s)
    : name(n), run(r), args_size(s), next(all_kernels)
{
    all_kernels = this;
}

enum { OK, INVALID = 1, NO_MEMORY = 2, NOT_FOUND = 500, NOT_READY = 600, CAPTURE = 900 };

struct graph {
    std::vector<emu_work> nodes;
};
struct stream {
    graph *capturing;
    emu_queue *queue;
};

static std::mutex lock;
static std::map<void *, size_t> allocations;
static size_t allocated;

static size_t memory_of_device()
{
    const char *s = getenv("UT_EMULATED_MEMORY");
    return s ? strtoull(s, nullptr, 10) : (size_t)8 << 30;
}

static int enqueue(stream *s, emu_work w)
{
    if (s && s->capturing)
        s->capturing->nodes.push_back(w);
    else
        emu_do(s ? s->queue : nullptr, w);
    return OK;
}

#define API extern "C" __attribute__((visibility("default"))) int

API cuInit(unsigned)
{
    return OK;
}
API cuDriverGetVersion(int *v)
{
    *v = 13000;
    return OK;
}
API cuGetErrorName(int, const char **s)
{
    *s = "CUDA_ERROR";
    return OK;
}
API cuGetErrorString(int r, const char **s)
{
    *s = r == NO_MEMORY ? "out of memory" : r == NOT_FOUND ? "not found" : "invalid value";
    return OK;
}
API cuDeviceGetCount(int *n)
{
    const char *s = getenv("UT_EMULATED_DEVICES");
    *n = s ? atoi(s) : 1;
    return OK;
}
API cuDeviceGet(int *d, int ordinal)
{
    int n;
    cuDeviceGetCount(&n);
    *d = ordinal;
    return ordinal >= 0 && ordinal < n ? OK : INVALID;
}
API cuDeviceGetName(char *s, int n, int)
{
    snprintf(s, (size_t)n, "emulated GPU");
    return OK;
}
API cuDeviceTotalMem_v2(size_t *n, int)
{
    *n = memory_of_device();
    return OK;
}
static int capability()
{
    const char *s = getenv("UT_EMULATED_CAPABILITY");
    return s ? atoi(s) : 90;
}

API cuDeviceGetAttribute(int *v, int which, int)
{
    const std::map<int, int> values = {{16, 7},
                                       {38, 1 << 20},
                                       {75, capability() / 10},
                                       {76, capability() % 10},
                                       {95, 1},
                                       {97, (capability() < 90   ? 163
                                             : capability() > 90 ? 99
                                                                 : 227) *
                                                1024}};
    const auto found = values.find(which);
    *v = found == values.end() ? 0 : found->second;
    return OK;
}
API cuDevicePrimaryCtxRetain(void **c, int)
{
    *c = &lock;
    return OK;
}
API cuDevicePrimaryCtxRelease_v2(int)
{
    return OK;
}
API cuCtxSetCurrent(void *)
{
    return OK;
}
API cuModuleLoadData(void **m, const void *)
{
    if (getenv("UT_EMULATED_OLD")) /* a driver that cannot use what it is given */
        return 222;
    *m = &all_kernels;
    return OK;
}
API cuModuleUnload(void *)
{
    return OK;
}
API cuModuleGetFunction(void **f, void *, const char *name)
{
    for (emu_kernel *k = all_kernels; k; k = k->next)
        if (strcmp(k->name, name) == 0) {
            *f = k;
            return OK;
        }
    return NOT_FOUND;
}
API cuFuncSetAttribute(emu_kernel *k, int attribute, int value)
{
    enum { MAX_DYNAMIC_SHARED = 8, LARGE_CLUSTERS = 14 };
    if (attribute == MAX_DYNAMIC_SHARED)
        k->shared_most = (unsigned)value;
    if (attribute == LARGE_CLUSTERS && value)
        k->cluster_most = 16;
    return OK;
}
API cuFuncGetAttribute(int *v, int which, void *)
{
    enum { REGISTERS = 4 }; /* of kernels that are empty but on 9.0 */
    *v = which != REGISTERS ? capability() : capability() == 90 ? 128 : 8;
    return OK;
}
API cuMemGetInfo_v2(size_t *free_bytes, size_t *total)
{
    *total = memory_of_device();
    *free_bytes = *total > allocated ? *total - allocated : 0;
    return OK;
}
API cuMemAlloc_v2(uint64_t *p, size_t n)
{
    const std::lock_guard<std::mutex> hold(lock);
    void *data = nullptr;
    if (n == 0)
        return INVALID;
    if (allocated + n > memory_of_device() || posix_memalign(&data, 256, n) != 0)
        return NO_MEMORY;
    memset(data, 0xff, n);
    allocations[data] = n;
    allocated += n;
    *p = (uint64_t)(uintptr_t)data;
    return OK;
}
API cuMemFree_v2(uint64_t p)
{
    emu_wait_for_all();
    const std::lock_guard<std::mutex> hold(lock);
    void *data = (void *)(uintptr_t)p;
    const auto found = allocations.find(data);
    if (found == allocations.end())
        return INVALID;
    allocated -= found->second;
    allocations.erase(found);
    free(data);
    return OK;
}
API cuMemHostAlloc(void **p, size_t n, unsigned)
{
    if (posix_memalign(p, 256, n) != 0)
        return NO_MEMORY;
    memset(*p, 0xff, n);
    return OK;
}
API cuMemFreeHost(void *p)
{
    emu_wait_for_all();
    free(p);
    return OK;
}
API cuMemHostGetDevicePointer_v2(uint64_t *d, void *p, unsigned)
{
    *d = (uint64_t)(uintptr_t)p;
    return OK;
}
API cuMemcpyHtoDAsync_v2(uint64_t d, const void *s, size_t n, stream *st)
{
    return enqueue(st, [=] { memcpy((void *)(uintptr_t)d, s, n); });
}
API cuMemcpyDtoHAsync_v2(void *d, uint64_t s, size_t n, stream *st)
{
    return enqueue(st, [=] { memcpy(d, (const void *)(uintptr_t)s, n); });
}
API cuMemcpyDtoDAsync_v2(uint64_t d, uint64_t s, size_t n, stream *st)
{
    return enqueue(st, [=] { memcpy((void *)(uintptr_t)d, (const void *)(uintptr_t)s, n); });
}
API cuMemsetD8Async(uint64_t d, unsigned char v, size_t n, stream *st)
{
    return enqueue(st, [=] { memset((void *)(uintptr_t)d, v, n); });
}
API cuMemsetD32Async(uint64_t d, unsigned v, size_t n, stream *st)
{
    return enqueue(st, [=] {
        for (size_t i = 0; i < n; i++)
            ((uint32_t *)(uintptr_t)d)[i] = v;
    });
}
API cuStreamCreateWithPriority(stream **s, unsigned, int)
{
    *s = new stream{nullptr, emu_queue_new()};
    return OK;
}
API cuStreamDestroy_v2(stream *s)
{
    emu_queue_free(s->queue);
    delete s;
    return OK;
}
API cuStreamQuery(stream *s)
{
    if (s->capturing)
        return CAPTURE;
    return emu_reached(emu_place_of(s->queue)) ? OK : NOT_READY;
}
API cuStreamWaitEvent(stream *s, emu_place *e, unsigned)
{
    if (s->capturing)
        return CAPTURE;
    emu_order(s->queue, *e);
    return OK;
}
API cuEventCreate(emu_place **e, unsigned)
{
    *e = new emu_place;
    return OK;
}
API cuEventDestroy_v2(emu_place *e)
{
    delete e;
    return OK;
}
API cuEventRecord(emu_place *e, stream *s)
{
    if (s->capturing)
        return CAPTURE;
    *e = emu_place_of(s->queue);
    return OK;
}
API cuEventQuery(emu_place *e)
{
    return emu_reached(*e) ? OK : NOT_READY;
}
API cuEventElapsedTime(float *ms, void *, void *)
{
    *ms = 0;
    return OK;
}
API cuTensorMapEncodeTiled(cu_tensor_map *out, int type, unsigned rank, uint64_t base,
                           const uint64_t *dims, const uint64_t *strides, const uint32_t *box,
                           const uint32_t *steps, int interleave, int swizzle, int, int fill)
{
    emu_tensor t = {};
    enum { F16 = 6, BF16 = 9, SWIZZLE_64 = 2, SWIZZLE_128 = 3 };
    if ((type != F16 && type != BF16) || rank < 3 || rank > 5 || base % 16 || (uintptr_t)out % 16 ||
        interleave || swizzle != (box[0] == 64 ? SWIZZLE_128 : SWIZZLE_64) || fill ||
        (box[0] != 64 && box[0] != 32) || (rank < 5 && box[rank - 1] != 1))
        return INVALID; /* the only boxes that the library asks for */
    for (unsigned i = 0; i < rank; i++) {
        if (dims[i] == 0 || dims[i] > UINT32_MAX || box[i] > 256 || steps[i] != 1)
            return INVALID;
        t.dims[i] = (uint32_t)dims[i];
        t.box[i] = box[i];
    }
    for (unsigned i = 0; i + 1 < rank; i++) {
        if (strides[i] % 16 || strides[i] >> 40)
            return INVALID;
        t.stride[i] = strides[i];
    }
    t.rank = rank;
    t.base = reinterpret_cast<const unsigned char *>(base);
    memcpy(out, &t, sizeof t);
    return OK;
}
struct launch_attribute {
    int id, pad, value[16];
};
struct launch_config {
    unsigned grid[3], block[3], shared_bytes;
    stream *s;
    launch_attribute *attributes;
    unsigned n_attributes;
};
API cuOccupancyMaxActiveClusters(int *n, const emu_kernel *, const launch_config *)
{
    *n = capability() == 90; /* others have eight blocks at most */
    return OK;
}
API cuLaunchKernelEx(const launch_config *c, const emu_kernel *k, void **args, void **)
{
    enum { COOPERATIVE = 2, CLUSTER = 4 };
    together how = ONE;
    if (!c->grid[0] || !c->grid[1] || !c->grid[2] || c->grid[1] > 65535 || c->grid[2] > 65535 ||
        c->block[1] != 1 || c->block[2] != 1 || c->shared_bytes > k->shared_most)
        return INVALID;
    for (unsigned i = 0; i < c->n_attributes; i++) {
        const launch_attribute &a = c->attributes[i];
        if (a.id == COOPERATIVE && a.value[0])
            how = GRID;
        if (a.id != CLUSTER)
            continue;
        if (a.value[0] != 1 || a.value[1] != (int)c->grid[1] || a.value[2] != 1 ||
            a.value[1] > k->cluster_most)
            return INVALID; /* the only clusters that the library asks for */
        how = COLUMN;
    }
    const std::vector<uint64_t> copy(((const uint64_t *)args[0]),
                                     ((const uint64_t *)args[0]) + k->args_size / 8);
    const launch_config config = *c;
    return enqueue(c->s, [=] {
        run_kernel(k, {config.grid[0], config.grid[1], config.grid[2]}, config.block[0],
                   config.shared_bytes, copy.data(), how);
    });
}
API cuStreamBeginCapture_v2(stream *s, int)
{
    s->capturing = new graph;
    return OK;
}
API cuStreamEndCapture(stream *s, graph **g)
{
    *g = s->capturing;
    s->capturing = nullptr;
    return OK;
}
API cuGraphInstantiateWithFlags(graph **e, graph *g, unsigned long long)
{
    *e = new graph(*g);
    return OK;
}
API cuGraphLaunch(graph *g, stream *s)
{
    for (const emu_work &w : g->nodes)
        enqueue(s, w);
    return OK;
}
API cuGraphDestroy(graph *g)
{
    delete g;
    return OK;
}
API cuGraphExecDestroy(graph *g)
{
    delete g;
    return OK;
}
