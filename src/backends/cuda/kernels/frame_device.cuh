/* frame_device.cuh - what a kernel needs that outlives its phases: barriers of the whole grid, and
 * copies that arrive while others work. */
#pragma once

#include "backends/cuda/frame_args.h"
#include "backends/cuda/kernels/device.cuh"

#if defined(__CUDACC__)

/* Polls of a barrier before the kernel gives up: seconds. */
#define UT_PATIENCE (1u << 24)

UT_DEVICE uint32_t load_acquire(const uint32_t *p)
{
    uint32_t v;
    asm volatile("ld.acquire.gpu.global.u32 %0, [%1];" : "=r"(v) : "l"(p) : "memory");
    return v;
}

/* All blocks arrive, then all go on; the high bit of *counter turns. turn: that bit before. */
UT_DEVICE void grid_arrive(uint32_t *counter)
{
    __syncthreads();
    if (threadIdx.x == 0) {
        const uint32_t add = blockIdx.x == 0 ? 0x80000000u - (gridDim.x - 1) : 1;
        asm volatile("red.release.gpu.global.add.u32 [%0], %1;" ::"l"(counter), "r"(add)
                     : "memory");
    }
}

UT_DEVICE void grid_wait(const uint32_t *counter, uint32_t turn)
{
    if (threadIdx.x == 0) {
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

/* Launched before the kernel in front has ended: what it wrote may be read from here on. */
UT_DEVICE void wait_for_kernel_before(void)
{
#if __CUDA_ARCH__ >= 900
    asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
}

UT_DEVICE void let_next_kernel_start(void)
{
#if __CUDA_ARCH__ >= 900
    asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
#endif
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

/* 128 bytes will be wanted soon. */
UT_DEVICE void prefetch(const void *p)
{
    asm volatile("prefetch.global.L2 [%0];" ::"l"(p));
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

/* By one thread; dst, src and bytes are multiples of 16. */
UT_DEVICE void copy_start(void *dst, const void *src, uint32_t bytes, uint64_t *done)
{
#if __CUDA_ARCH__ >= 900
    asm volatile("mbarrier.arrive.expect_tx.shared.b64 _, [%0], %1;" ::"r"(shared_address(done)),
                 "r"(bytes)
                 : "memory");
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

UT_DEVICE void trace_at(uint64_t *trace, int i)
{
    if (trace && threadIdx.x == 0)
        trace[i] = ticks();
}
