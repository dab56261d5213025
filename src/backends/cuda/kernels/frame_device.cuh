/* frame_device.cuh - what a kernel needs that outlives its phases: barriers of the whole grid, mail
 * from block to block, gates between the warps of a block, and copies that arrive while others
 * work. */
#pragma once

#include "backends/cuda/frame_args.h"
#include "backends/cuda/kernels/device.cuh"

#if defined(__CUDACC__)

/* The thread's number. Asked for anew wherever this stands, so that what follows from it is not
 * kept in registers from phase to phase. */
UT_DEVICE int thread(void)
{
    int t;
    asm volatile("mov.u32 %0, %%tid.x;" : "=r"(t));
    __builtin_assume(t >= 0 && t < CU_FRAME_THREADS);
    return t;
}

/* Polls of a barrier, or looks for mail, before the kernel gives up: seconds. */
#define UT_PATIENCE (1u << 24)

/* A store to nowhere, which ends the kernel with an error. In a kernel that can trap ptxas gives no
 * thread more registers than it began with (take_registers). */
UT_DEVICE void give_up(void)
{
    asm volatile("st.global.u32 [%0], %1;" ::"l"((uint64_t)0), "r"(0) : "memory");
}

UT_DEVICE uint32_t load_acquire(const uint32_t *p)
{
    uint32_t v;
    asm volatile("ld.acquire.gpu.global.u32 %0, [%1];" : "=r"(v) : "l"(p) : "memory");
    return v;
}

/* All blocks arrive, then all go on; the high bit of *counter turns. turn: that bit before. The
 * block's threads have met before. */
UT_DEVICE void grid_arrive(uint32_t *counter)
{
    if (thread() == 0) {
        const uint32_t add = blockIdx.x == 0 ? 0x80000000u - (gridDim.x - 1) : 1;
        asm volatile("red.release.gpu.global.add.u32 [%0], %1;" ::"l"(counter), "r"(add)
                     : "memory");
    }
}

UT_DEVICE void grid_wait(const uint32_t *counter, uint32_t turn)
{
    if (thread() == 0) {
        uint32_t polls = 0;
        while (((load_acquire(counter) ^ turn) & 0x80000000u) == 0)
            if (++polls == UT_PATIENCE)
                give_up();
    }
    block_meet();
}

UT_DEVICE uint32_t grid_turn(const uint32_t *counter)
{
    return *(const volatile uint32_t *)counter & 0x80000000u;
}

/* ---- Mail ------------------------------------------------------------------------------------ */

UT_DEVICE void send_word(void *to, uint32_t word)
{
    asm volatile("st.relaxed.gpu.global.u32 [%0], %1;" ::"l"(to), "r"(word) : "memory");
}

/* Two or four that lie together. */
UT_DEVICE void send_words(void *to, const uint32_t (&word)[2])
{
    asm volatile("st.relaxed.gpu.global.v2.u32 [%0], {%1, %2};" ::"l"(to), "r"(word[0]),
                 "r"(word[1])
                 : "memory");
}

UT_DEVICE void send_words(void *to, const uint32_t (&word)[4])
{
    asm volatile("st.relaxed.gpu.global.v4.u32 [%0], {%1, %2, %3, %4};" ::"l"(to), "r"(word[0]),
                 "r"(word[1]), "r"(word[2]), "r"(word[3])
                 : "memory");
}

UT_DEVICE void look_at_words(const void *from, uint32_t (&word)[1])
{
    asm volatile("ld.relaxed.gpu.global.u32 %0, [%1];" : "=r"(word[0]) : "l"(from) : "memory");
}

UT_DEVICE void look_at_words(const void *from, uint32_t (&word)[2])
{
    asm volatile("ld.relaxed.gpu.global.v2.u32 {%0, %1}, [%2];"
                 : "=r"(word[0]), "=r"(word[1])
                 : "l"(from)
                 : "memory");
}

UT_DEVICE void look_at_words(const void *from, uint32_t (&word)[4])
{
    asm volatile("ld.relaxed.gpu.global.v4.u32 {%0, %1, %2, %3}, [%4];"
                 : "=r"(word[0]), "=r"(word[1]), "=r"(word[2]), "=r"(word[3])
                 : "l"(from)
                 : "memory");
}

/* Before looking again, the polls so far. */
UT_DEVICE void mail_again(uint32_t polls)
{
    if (polls == UT_PATIENCE)
        give_up();
}

/* ---- Registers ------------------------------------------------------------------------------- */

/* A block of CU_FRAME_THREADS begins with as many registers for every thread; where they cannot be
 * given away some are spilt. */
#ifdef __CUDA_ARCH_FEAT_SM90_ALL
#define UT_REGISTERS(how, n) asm volatile("setmaxnreg." how ".sync.aligned.u32 " n ";")
#else
#define UT_REGISTERS(how, n) (void)0
#endif

/* By the four warps that fetch, and by those that work. */
UT_DEVICE void give_registers(void)
{
    UT_REGISTERS("dec", "56");
}

UT_DEVICE void take_registers(void)
{
    UT_REGISTERS("inc", "224");
}

/* ---- Gates in shared memory ------------------------------------------------------------------ */

UT_DEVICE uint32_t shared_address(const void *p)
{
    return (uint32_t)__cvta_generic_to_shared(p);
}

/* A gate opens each time that `count` threads have arrived. The block meets after this. */
UT_DEVICE void gate_init(uint64_t *gate, uint32_t count)
{
#if __CUDA_ARCH__ >= 800
    asm volatile("mbarrier.init.shared.b64 [%0], %1;" ::"r"(shared_address(gate)), "r"(count)
                 : "memory");
#else
    (void)count;
    *gate = 0;
#endif
#if __CUDA_ARCH__ >= 900
    asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
#endif
}

/* What this thread did, or saw that others did, comes before what those do who wait. */
UT_DEVICE void gate_arrive(uint64_t *gate)
{
#if __CUDA_ARCH__ >= 800
    asm volatile("mbarrier.arrive.shared.b64 _, [%0];" ::"r"(shared_address(gate)) : "memory");
#else
    __threadfence_block();
    atomicAdd((uint32_t *)gate, 1u);
#endif
}

/* What was written in shared memory comes before copies to the same places that start later, and
 * what was written in memory before copies from there. */
UT_DEVICE void before_copies(void)
{
#if __CUDA_ARCH__ >= 900
    asm volatile("fence.proxy.async;" ::: "memory");
#endif
}

/* Has it opened n + 1 times, where it may not open again before the waiting thread goes on? */
UT_DEVICE bool gate_is_open(uint64_t *gate, uint32_t n, uint32_t count)
{
#if __CUDA_ARCH__ >= 800
    uint32_t open;
    (void)count;
    asm volatile("{\n .reg .pred p;\n"
#if __CUDA_ARCH__ >= 900
                 " mbarrier.try_wait.parity.shared.b64 p, [%1], %2;\n"
#else
                 " mbarrier.test_wait.parity.shared.b64 p, [%1], %2;\n"
#endif
                 " selp.u32 %0, 1, 0, p;\n}"
                 : "=r"(open)
                 : "r"(shared_address(gate)), "r"(n & 1)
                 : "memory");
    return open != 0;
#else
    const bool open = *(volatile uint32_t *)gate >= (n + 1) * count;
    __threadfence_block();
    return open;
#endif
}

/* It mostly is: a loop that waits gives way to other warps every time around, which takes as long
 * as five instructions. */
UT_DEVICE void gate_wait(uint64_t *gate, uint32_t n, uint32_t count)
{
    if (__builtin_expect(!gate_is_open(gate, n, count), 0))
        while (!gate_is_open(gate, n, count)) {
        }
}

/* The time, for profiles. A call, so that there is no more than a branch where none is made. */
UT_DEVICE_APART void leave_time(uint64_t *at)
{
    *at = (uint64_t)clock64();
}

/* ---- Copies into shared memory, which open a gate ---------------------------------------------
 */

/* By one thread: so many bytes come in copies that it has started. */
UT_DEVICE void copy_expect(uint64_t *done, uint32_t bytes)
{
#if __CUDA_ARCH__ >= 900
    asm volatile("mbarrier.arrive.expect_tx.shared.b64 _, [%0], %1;" ::"r"(shared_address(done)),
                 "r"(bytes)
                 : "memory");
#else
    (void)done, (void)bytes;
#endif
}

/* The same, of a box of a tensor: from half h of a row's heads on, and from a row on (frame.c). dst
 * is a multiple of 1024. */
UT_DEVICE void copy_box(void *dst, const cu_tensor_map *map, int h, int row, int slot,
                        uint64_t *done)
{
#if __CUDA_ARCH__ >= 900
    asm volatile("cp.async.bulk.tensor.4d.shared::cluster.global.tile.mbarrier::complete_tx::bytes "
                 "[%0], [%1, {%2, %3, %4, %5}], [%6];" ::"r"(shared_address(dst)),
                 "l"(map), "r"(0), "r"(h), "r"(row), "r"(slot), "r"(shared_address(done))
                 : "memory");
#else
    (void)dst, (void)map, (void)h, (void)row, (void)slot, (void)done;
#endif
}

UT_DEVICE void prefetch_map(const cu_tensor_map *map)
{
#if __CUDA_ARCH__ >= 900
    asm volatile("prefetch.tensormap [%0];" ::"l"(map) : "memory");
#else
    (void)map;
#endif
}

/* Before that; dst, src and bytes are multiples of 16. */
UT_DEVICE void copy_start(void *dst, const void *src, uint32_t bytes, uint64_t *done)
{
#if __CUDA_ARCH__ >= 900
    /* read once: what else is in the cache should stay there */
    uint64_t policy;
    asm volatile("createpolicy.fractional.L2::evict_first.b64 %0, 1.0;" : "=l"(policy));
    asm volatile("cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes.L2::cache_hint "
                 "[%0], [%1], %2, [%3], %4;" ::"r"(shared_address(dst)),
                 "l"(src), "r"(bytes), "r"(shared_address(done)), "l"(policy)
                 : "memory");
#else
    (void)dst, (void)src, (void)bytes, (void)done;
#endif
}

#endif /* emulation.h has its own */

/* ---- Mail, opened ---------------------------------------------------------------------------- */

UT_DEVICE uint32_t mail_of(float value, uint32_t frame)
{
    return (__float_as_uint(value) & ~1u) | (frame & 1);
}

UT_DEVICE float mail_value(uint32_t word)
{
    return __uint_as_float(word & ~1u);
}

/* Two results as mail has them: who finds them elsewhere works with the same numbers. */
UT_DEVICE float2 as_mailed(float2 v)
{
    const float2 r = {mail_value(__float_as_uint(v.x)), mail_value(__float_as_uint(v.y))};
    return r;
}

/* N numbers that lie together, at an address that is a multiple of theirs, as they were when they
 * were looked at. */
template <int N> struct mail_look {
    uint32_t word[N];

    UT_DEVICE_MEMBER void at(const cu_mail *from) { look_at_words(from, word); }
    /* 0 where all are there. */
    UT_DEVICE_MEMBER uint32_t missing(uint32_t frame) const
    {
        uint32_t any = 0;
#pragma unroll
        for (int i = 0; i < N; i++)
            any |= word[i] ^ frame;
        return any & 1;
    }
    /* Look until they are there. */
    UT_DEVICE_MEMBER void wait(const cu_mail *from, uint32_t frame)
    {
        for (uint32_t polls = 0; missing(frame); at(from))
            mail_again(++polls);
    }
    UT_DEVICE_MEMBER float operator[](int i) const
    {
        return mail_value(word[i]);
    }
};

/* What is now and here: the frame's number, and the places where mail is left. */
struct mail_clock {
    uint32_t frame;
    int places;
    int stride, mine; /* from place to place; to the one that this block reads */
};

/* Two results that lie together, to all places. */
UT_DEVICE void mail_leave_two(cu_mail *to, float first, float second, const mail_clock &clock)
{
    const uint32_t word[2] = {mail_of(first, clock.frame), mail_of(second, clock.frame)};
#pragma unroll
    for (int i = 0; i < CU_MAIL_PLACES; i++)
        if (i < clock.places)
            send_words(to + i * clock.stride, word);
}

/* Two numbers of a part that lie together, at an address that is a multiple of 16. */
UT_DEVICE void part_send(cu_part *to, float first, float second, uint32_t stamp)
{
    const uint32_t word[4] = {__float_as_uint(first), stamp, __float_as_uint(second), stamp};
    send_words(to, word);
}

/* And as they were when they were looked at. */
struct part_look {
    uint32_t word[4];

    UT_DEVICE_MEMBER void at(const cu_part *from) { look_at_words(from, word); }
    UT_DEVICE_MEMBER float2 wait(const cu_part *from, uint32_t stamp)
    {
        for (uint32_t polls = 0; word[1] != stamp || word[3] != stamp; at(from))
            mail_again(++polls);
        const float2 v = {__uint_as_float(word[0]), __uint_as_float(word[2])};
        return v;
    }
};
