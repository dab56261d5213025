/* frame_device.cuh - what a kernel needs that outlives its phases: barriers of the whole grid, and
 * copies that arrive while others work. */
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
    return t;
}

/* Polls of a barrier before the kernel gives up: seconds. */
#define UT_PATIENCE (1u << 24)

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
                __trap();
    }
    __syncthreads();
}

UT_DEVICE uint32_t grid_turn(const uint32_t *counter)
{
    return *(const volatile uint32_t *)counter & 0x80000000u;
}

/* ---- Mail ------------------------------------------------------------------------------------ */

UT_DEVICE void mail_put(cu_mail *to, float value, uint32_t frame)
{
    const uint64_t both = (uint64_t)frame << 32 | __float_as_uint(value);
    asm volatile("st.relaxed.gpu.global.u64 [%0], %1;" ::"l"(to), "l"(both) : "memory");
}

/* Two that lie together, at an address that is a multiple of 16. */
UT_DEVICE void mail_send_two(cu_mail *to, float first, float second, uint32_t frame)
{
    const uint64_t a = (uint64_t)frame << 32 | __float_as_uint(first);
    const uint64_t b = (uint64_t)frame << 32 | __float_as_uint(second);
    asm volatile("st.relaxed.gpu.global.v2.u64 [%0], {%1, %2};" ::"l"(to), "l"(a), "l"(b)
                 : "memory");
}

struct mail_pair {
    uint64_t a, b;
};

UT_DEVICE mail_pair mail_look(const cu_mail *from)
{
    mail_pair p;
    asm volatile("ld.relaxed.gpu.global.v2.u64 {%0, %1}, [%2];"
                 : "=l"(p.a), "=l"(p.b)
                 : "l"(from)
                 : "memory");
    return p;
}

/* Before looking again, the polls so far. */
UT_DEVICE void mail_again(uint32_t polls)
{
    if (polls == UT_PATIENCE)
        __trap();
}

/* ---- Small copies into shared memory --------------------------------------------------------- */

/* 16 bytes, on their way until this thread calls ahead_wait. */
UT_DEVICE void ahead_start(void *dst, const void *src)
{
#if __CUDA_ARCH__ >= 800
    asm volatile(
        "cp.async.cg.shared.global [%0], [%1], 16;" ::"r"((uint32_t)__cvta_generic_to_shared(dst)),
        "l"(src)
        : "memory");
#else
    *(uint4 *)dst = *(const uint4 *)src;
#endif
}

UT_DEVICE void ahead_wait(void)
{
#if __CUDA_ARCH__ >= 800
    asm volatile("cp.async.wait_all;" ::: "memory");
#endif
}

/* The time, for profiles. */
UT_DEVICE uint64_t ticks(void)
{
    return (uint64_t)clock64();
}

/* ---- Copies into shared memory, one barrier each --------------------------------------------- */

UT_DEVICE uint32_t shared_address(const void *p)
{
    return (uint32_t)__cvta_generic_to_shared(p);
}

UT_DEVICE void copy_init(uint64_t *done)
{
#if __CUDA_ARCH__ >= 900
    asm volatile("mbarrier.init.shared.b64 [%0], 1;\n fence.mbarrier_init.release.cluster;" ::"r"(
                     shared_address(done))
                 : "memory");
#else
    (void)done;
#endif
}

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

UT_DEVICE void copy_wait(uint64_t *done, uint32_t parity)
{
#if __CUDA_ARCH__ >= 900
    asm volatile("{\n .reg .pred p;\n"
                 "L%=:\n mbarrier.try_wait.parity.shared.b64 p, [%0], %1;\n @!p bra L%=;\n}" ::"r"(
                     shared_address(done)),
                 "r"(parity)
                 : "memory");
#else
    (void)done, (void)parity;
#endif
}

#endif /* emulation.h has its own */

/* 0 where both are there. */
UT_DEVICE uint32_t mail_missing(mail_pair p, uint32_t frame)
{
    return ((uint32_t)(p.a >> 32) ^ frame) | ((uint32_t)(p.b >> 32) ^ frame);
}

UT_DEVICE bool mail_is_there(mail_pair p, uint32_t frame)
{
    return mail_missing(p, frame) == 0;
}

/* Four numbers that lie together, waited for; first, second: what was there before. */
UT_DEVICE float4 mail_take(const cu_mail *from, mail_pair first, mail_pair second, uint32_t frame)
{
    uint32_t polls = 0;
    while (!mail_is_there(first, frame) || !mail_is_there(second, frame)) {
        mail_again(++polls);
        first = mail_look(from);
        second = mail_look(from + 2);
    }
    const float4 v = {__uint_as_float((uint32_t)first.a), __uint_as_float((uint32_t)first.b),
                      __uint_as_float((uint32_t)second.a), __uint_as_float((uint32_t)second.b)};
    return v;
}

/* Two that lie together, waited for; seen: what was there before. */
UT_DEVICE float2 mail_take_two(const cu_mail *from, mail_pair seen, uint32_t frame)
{
    uint32_t polls = 0;
    while (!mail_is_there(seen, frame)) {
        mail_again(++polls);
        seen = mail_look(from);
    }
    const float2 v = {__uint_as_float((uint32_t)seen.a), __uint_as_float((uint32_t)seen.b)};
    return v;
}

/* The pair of numbers that this one is in, at an address that is a multiple of 16. */
UT_DEVICE mail_pair mail_look_near(const cu_mail *from)
{
    return mail_look(((uintptr_t)from & 8) != 0 ? from - 1 : from);
}

/* One number, waited for; p: what was there before. */
UT_DEVICE float mail_value(const cu_mail *from, mail_pair p, uint32_t frame)
{
    const bool odd = ((uintptr_t)from & 8) != 0;
    uint32_t polls = 0;
    while ((uint32_t)((odd ? p.b : p.a) >> 32) != frame) {
        mail_again(++polls);
        p = mail_look_near(from);
    }
    return __uint_as_float((uint32_t)(odd ? p.b : p.a));
}

UT_DEVICE float mail_take_one(const cu_mail *from, uint32_t frame)
{
    return mail_value(from, mail_look_near(from), frame);
}

/* What is now and here: the frame's number, and the places where mail is left. */
struct mail_clock {
    uint32_t frame;
    int places;
    int64_t stride, mine; /* from place to place; to the one that this block reads */
};

/* Two results that lie together, to all places. */
UT_DEVICE void mail_leave_two(cu_mail *to, float first, float second, const mail_clock &clock)
{
#pragma unroll
    for (int i = 0; i < CU_MAIL_PLACES; i++)
        if (i < clock.places)
            mail_send_two(to + i * clock.stride, first, second, clock.frame);
}
