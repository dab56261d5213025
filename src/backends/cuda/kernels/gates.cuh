/* gates.cuh - gates in shared memory, and what opens them while the block does something else:
 * copies into it, and numbers that other blocks of a cluster send. */
#pragma once

#include "backends/cuda/kernels/device.cuh"

#if defined(__CUDACC__)

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

/* Before copy_expect, as all that follow; dst, src and bytes are multiples of 16. */
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

/* Of a tensor of rows of slots: from column k on, 64 of them, and from a row on, as many as the map
 * says, lines of 128 bytes (CU_TENSOR_SWIZZLE_128); zeros where there are none. dst is a multiple
 * of 1024. */
UT_DEVICE void copy_tile(void *dst, const cu_tensor_map *map, int k, int row, int slot,
                         uint64_t *done)
{
#if __CUDA_ARCH__ >= 900
    asm volatile("cp.async.bulk.tensor.3d.shared::cluster.global.tile.mbarrier::complete_tx::bytes "
                 "[%0], [%1, {%2, %3, %4}], [%5];" ::"r"(shared_address(dst)),
                 "l"(map), "r"(k), "r"(row), "r"(slot), "r"(shared_address(done))
                 : "memory");
#else
    (void)dst, (void)map, (void)k, (void)row, (void)slot, (void)done;
#endif
}

/* Of a matrix: from column k on, 64 or 32 of them, and from group `first` of 16 rows on, as many as
 * the map says. Row 4 i + 2 j + l of a group comes as 8 j + 2 i + l, i < 4, j < 2, l < 2:
 * map_outputs in launch_group.c. Else as copy_tile. */
UT_DEVICE void copy_outputs(void *dst, const cu_tensor_map *map, int k, int first, uint64_t *done)
{
#if __CUDA_ARCH__ >= 900
    asm volatile("cp.async.bulk.tensor.5d.shared::cluster.global.tile.mbarrier::complete_tx::bytes "
                 "[%0], [%1, {%2, %3, %3, %3, %4}], [%5];" ::"r"(shared_address(dst)),
                 "l"(map), "r"(k), "r"(0), "r"(first), "r"(shared_address(done))
                 : "memory");
#else
    (void)dst, (void)map, (void)k, (void)first, (void)done;
#endif
}

/* Of a tensor of caches: from half h of a row's heads on, and from a row on, as map_cache in
 * frame.c has it; else as copy_tile. */
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

/* Copies wait until a map is there. */
UT_DEVICE void prefetch_map(const cu_tensor_map *map)
{
#if __CUDA_ARCH__ >= 900
    asm volatile("prefetch.tensormap [%0];" ::"l"(map) : "memory");
#else
    (void)map;
#endif
}

/* ---- Clusters: only on what has them ----------------------------------------------------------
 */

/* All blocks of the cluster have arrived where one has waited: its gates are there. */
UT_DEVICE void cluster_arrive(void)
{
#if __CUDA_ARCH__ >= 900
    asm volatile("barrier.cluster.arrive.relaxed.aligned;" ::: "memory"); /* see gate_init */
#endif
}

UT_DEVICE void cluster_wait(void)
{
#if __CUDA_ARCH__ >= 900
    asm volatile("barrier.cluster.wait.aligned;" ::: "memory");
#endif
}

/* Four numbers to block `rank`, to where this one has the place `to`, a multiple of 16 bytes, and
 * towards what the gate there expects. */
UT_DEVICE void cluster_send(float *to, uint64_t *gate, int rank, const float4 &v)
{
#if __CUDA_ARCH__ >= 900
    uint32_t there, its_gate;
    asm("mapa.shared::cluster.u32 %0, %1, %2;" : "=r"(there) : "r"(shared_address(to)), "r"(rank));
    asm("mapa.shared::cluster.u32 %0, %1, %2;"
        : "=r"(its_gate)
        : "r"(shared_address(gate)), "r"(rank));
    asm volatile("st.async.shared::cluster.mbarrier::complete_tx::bytes.v4.f32 [%0], "
                 "{%1, %2, %3, %4}, [%5];" ::"r"(there),
                 "f"(v.x), "f"(v.y), "f"(v.z), "f"(v.w), "r"(its_gate)
                 : "memory");
#else
    (void)to, (void)gate, (void)rank, (void)v;
#endif
}

#endif /* emulation.h has its own */
