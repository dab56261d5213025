/* device.cuh - what all kernels share: how one is declared, element types, sums over a warp and a
 * block, activations. Compiled by nvcc, and by a C++ compiler for tests without a GPU, where
 * emulation.h stands in for the language and the machine.
 *
 * Products are fused with sums only where fmaf says so (-fmad=false), so that the bits of a result
 * do not depend on what a compiler makes of its surroundings. */
#pragma once

#include "backends/cuda/args.h"
#include <stddef.h>
#include <stdint.h>

#if defined(__CUDACC__)
/* A kernel may be launched before the one in front of it has ended (cu_launch): what that one wrote
 * may be read once it has been waited for, and what it reads may be written only then, too. The
 * next kernel may start at once; it waits in turn. */
static __device__ __forceinline__ void let_next_start(void)
{
#if __CUDA_ARCH__ >= 900
    asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
#endif
}
static __device__ __forceinline__ void wait_for_previous(void)
{
#if __CUDA_ARCH__ >= 900
    asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
}

/* One parameter for every kernel, and one block shape for nearly all. */
#define UT_KERNEL(name, args_type) UT_KERNEL_OF(name, args_type, CU_THREADS)
#define UT_KERNEL_OF(name, args_type, threads)                                                     \
    static __device__ __forceinline__ void name##_body(const args_type &a);                        \
    extern "C" __global__ void __launch_bounds__(threads)                                          \
        name(const __grid_constant__ args_type a)                                                  \
    {                                                                                              \
        let_next_start();                                                                          \
        wait_for_previous();                                                                       \
        name##_body(a);                                                                            \
    }                                                                                              \
    static __device__ __forceinline__ void name##_body(const args_type &a)
/* The same for one that has something to do before it waits, and waits itself. */
#define UT_KERNEL_AHEAD(name, args_type) UT_KERNEL_AHEAD_OF(name, args_type, CU_THREADS)
#define UT_KERNEL_AHEAD_OF(name, args_type, threads)                                               \
    extern "C" __global__ void __launch_bounds__(threads) name(const __grid_constant__ args_type a)
/* The same, so many blocks of which fit onto a multiprocessor. */
#define UT_KERNEL_AHEAD_FITS(name, args_type, blocks)                                              \
    extern "C" __global__ void __launch_bounds__(CU_THREADS, blocks)                               \
        name(const __grid_constant__ args_type a)
/* The same for one that has a multiprocessor to itself, and so many threads. */
#define UT_KERNEL_ALONE(name, args_type, threads)                                                  \
    extern "C" __global__ void __launch_bounds__(threads, 1)                                       \
        name(const __grid_constant__ args_type a)
/* The block's dynamic shared memory. */
#define UT_SHARED(type, name)                                                                      \
    extern __shared__ __align__(1024) unsigned char ut_shared_memory[];                            \
    type *name = reinterpret_cast<type *>(ut_shared_memory)
#define UT_DEVICE        static __device__ __forceinline__
#define UT_DEVICE_MEMBER __device__ __forceinline__
#define UT_DEVICE_APART  static __device__ __noinline__ /* a call */

/* The first CU_THREADS threads of the block meet: all of them, unless a warp stands apart. */
UT_DEVICE void block_meet(void)
{
    asm volatile("bar.sync 1, %0;" ::"n"(CU_THREADS) : "memory");
}

/* CU_THREADS threads meet, the team of that number. */
UT_DEVICE void team_meet(int team)
{
    asm volatile("bar.sync %0, %1;" ::"r"(1 + team), "n"(CU_THREADS) : "memory");
}

/* 2^x for x <= 0, to 2^-22 of it; 0 below 2^-126. */
UT_DEVICE float power_of_2(float x)
{
    float y;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}

/* The device's own: to 2^-20.9 in the first quadrant, farther out to what rounding x / 2 pi makes.
 */
UT_DEVICE float sine(float x)
{
    float y;
    asm("sin.approx.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}

/* Whole: what ptxas thinks it may store in pieces. */
UT_DEVICE void store_whole(float4 *to, float4 v)
{
    asm volatile("st.global.v4.f32 [%0], {%1, %2, %3, %4};" ::"l"(to), "f"(v.x), "f"(v.y), "f"(v.z),
                 "f"(v.w)
                 : "memory");
}

UT_DEVICE void store_whole(uint2 *to, uint2 v)
{
    asm volatile("st.global.v2.u32 [%0], {%1, %2};" ::"l"(to), "r"(v.x), "r"(v.y) : "memory");
}

/* 128 bytes will be wanted soon. */
UT_DEVICE void prefetch_line(const void *p)
{
    asm volatile("prefetch.global.L2 [%0];" ::"l"(p));
}

UT_DEVICE float f16_to_f32(uint16_t h)
{
    float f;
    asm("cvt.f32.f16 %0, %1;" : "=f"(f) : "h"(h));
    return f;
}

UT_DEVICE uint16_t f32_to_f16(float f)
{
    uint16_t h;
    asm("cvt.rn.f16.f32 %0, %1;" : "=h"(h) : "f"(f));
    return h;
}
#else
#include "emulation.h"
#endif

/* ---- Element types -------------------------------------------------------------------------- */

UT_DEVICE float bf16_to_f32(uint16_t h)
{
    return __uint_as_float((uint32_t)h << 16);
}

UT_DEVICE uint16_t f32_to_bf16(float f)
{
    const uint32_t u = __float_as_uint(f);
    if ((u & 0x7fffffffu) > 0x7f800000u) /* NaN stays a quiet NaN */
        return (uint16_t)((u >> 16) | 0x40u);
    return (uint16_t)((u + 0x7fffu + ((u >> 16) & 1u)) >> 16);
}

/* Two f32 as bf16, `low` in the lower half. */
UT_DEVICE uint32_t pack_bf16(float low, float high)
{
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 800
    uint32_t r;
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(r) : "f"(high), "f"(low));
    return r;
#else
    return (uint32_t)f32_to_bf16(high) << 16 | f32_to_bf16(low);
#endif
}

UT_DEVICE float load_element(int type, const void *p, size_t i)
{
    if (type == CU_F32)
        return ((const float *)p)[i];
    const uint16_t h = ((const uint16_t *)p)[i];
    return type == CU_BF16 ? bf16_to_f32(h) : f16_to_f32(h);
}

UT_DEVICE void store_element(int type, void *p, size_t i, float f)
{
    if (type == CU_F32)
        ((float *)p)[i] = f;
    else
        ((uint16_t *)p)[i] = type == CU_BF16 ? f32_to_bf16(f) : f32_to_f16(f);
}

/* f16 as large as there is, where f is larger. */
UT_DEVICE uint16_t f32_to_f16_within(float f)
{
    return f32_to_f16(f > 65504.0f ? 65504.0f : f < -65504.0f ? -65504.0f : f);
}

/* The same of two, `low` in the lower half. */
UT_DEVICE uint32_t pack_f16(float low, float high)
{
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 800
    uint32_t r;
    asm("cvt.rn.satfinite.f16x2.f32 %0, %1, %2;" : "=r"(r) : "f"(high), "f"(low));
    return r;
#else
    return (uint32_t)f32_to_f16_within(high) << 16 | f32_to_f16_within(low);
#endif
}

UT_DEVICE uint16_t f32_to_narrow(int type, float f)
{
    return type == CU_BF16 ? f32_to_bf16(f) : f32_to_f16_within(f);
}

/* Element i of a result that may be narrow. */
UT_DEVICE void store_result(int type, float *p, int64_t i, float f)
{
    if (type == CU_F32)
        p[i] = f;
    else
        ((uint16_t *)p)[i] = f32_to_narrow(type, f);
}

/* 16 bytes of a matrix as f32. */
template <int TYPE> struct group {
    static const int N = 8;
    static UT_DEVICE_MEMBER void load(const void *p, size_t i, float f[8])
    {
        unpack(__ldg((const uint4 *)((const uint16_t *)p + i)), f);
    }
    /* from shared memory */
    static UT_DEVICE_MEMBER void read(const void *p, size_t i, float f[8])
    {
        unpack(*(const uint4 *)((const uint16_t *)p + i), f);
    }
    static UT_DEVICE_MEMBER void unpack(uint4 v, float f[8])
    {
        const uint32_t u[4] = {v.x, v.y, v.z, v.w};
#pragma unroll
        for (int j = 0; j < 4; j++) {
            if (TYPE == CU_BF16) {
                f[2 * j] = __uint_as_float(u[j] << 16);
                f[2 * j + 1] = __uint_as_float(u[j] & 0xffff0000u);
            } else {
                f[2 * j] = f16_to_f32((uint16_t)u[j]);
                f[2 * j + 1] = f16_to_f32((uint16_t)(u[j] >> 16));
            }
        }
    }
};
template <> struct group<CU_F32> {
    static const int N = 4;
    static UT_DEVICE_MEMBER void load(const void *p, size_t i, float f[4])
    {
        const float4 v = __ldg((const float4 *)((const float *)p + i));
        f[0] = v.x, f[1] = v.y, f[2] = v.z, f[3] = v.w;
    }
    static UT_DEVICE_MEMBER void read(const void *p, size_t i, float f[4])
    {
        const float4 v = *(const float4 *)((const float *)p + i);
        f[0] = v.x, f[1] = v.y, f[2] = v.z, f[3] = v.w;
    }
};

/* Four numbers of a matrix or table, at an address that is a multiple of what they take. */
template <int TYPE> UT_DEVICE void read_four(const unsigned char *p, float f[4])
{
    if (TYPE == CU_F32) {
        const float4 v = __ldg((const float4 *)p);
        f[0] = v.x, f[1] = v.y, f[2] = v.z, f[3] = v.w;
        return;
    }
    const uint2 u = __ldg((const uint2 *)p);
    const uint32_t word[2] = {u.x, u.y};
#pragma unroll
    for (int i = 0; i < 2; i++)
        if (TYPE == CU_BF16) {
            f[2 * i] = __uint_as_float(word[i] << 16);
            f[2 * i + 1] = __uint_as_float(word[i] & 0xffff0000u);
        } else {
            f[2 * i] = f16_to_f32((uint16_t)word[i]);
            f[2 * i + 1] = f16_to_f32((uint16_t)(word[i] >> 16));
        }
}

/* N numbers that lie together, at an address that is a multiple of 16. */
template <int N> UT_DEVICE void store_group(float *y, const float (&f)[N])
{
#pragma unroll
    for (int k = 0; k < N; k += 4)
        *(float4 *)(y + k) = {f[k], f[k + 1], f[k + 2], f[k + 3]};
}

/* ---- Warp and block -------------------------------------------------------------------------- */

#define UT_FULL  0xffffffffu
#define UT_WARPS (CU_THREADS / 32)

/* Every lane gets the sum; its order is a fixed tree. */
template <class T> UT_DEVICE T warp_sum(T v)
{
#pragma unroll
    for (int d = 16; d > 0; d /= 2)
        v += __shfl_xor_sync(UT_FULL, v, d);
    return v;
}

UT_DEVICE uint32_t warp_sum_u32(uint32_t v)
{
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 800
    return __reduce_add_sync(UT_FULL, v);
#else
    return warp_sum(v);
#endif
}

template <class T> UT_DEVICE T warp_max(T v)
{
#pragma unroll
    for (int d = 16; d > 0; d /= 2) {
        const T other = __shfl_xor_sync(UT_FULL, v, d);
        v = other > v ? other : v;
    }
    return v;
}

UT_DEVICE uint32_t warp_max_u32(uint32_t v)
{
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 800
    return __reduce_max_sync(UT_FULL, v);
#else
    return warp_max(v);
#endif
}

/* Every thread gets the sum. scratch: UT_WARPS elements of shared memory that nobody has read or
 * written since the block's last barrier. */
template <class T> UT_DEVICE T block_sum_fresh(T v, T *scratch)
{
    v = warp_sum(v);
    if (threadIdx.x % 32 == 0)
        scratch[threadIdx.x / 32] = v;
    block_meet();
    T sum = scratch[0];
#pragma unroll
    for (int i = 1; i < UT_WARPS; i++)
        sum += scratch[i];
    return sum;
}

/* The same with scratch that was in use, and is free again at once. */
template <class T> UT_DEVICE T block_sum(T v, T *scratch)
{
    block_meet();
    return block_sum_fresh(v, scratch);
}

template <class T> UT_DEVICE T block_max(T v, T *scratch)
{
    v = warp_max(v);
    block_meet();
    if (threadIdx.x % 32 == 0)
        scratch[threadIdx.x / 32] = v;
    block_meet();
    T best = scratch[0];
#pragma unroll
    for (int i = 1; i < UT_WARPS; i++)
        best = scratch[i] > best ? scratch[i] : best;
    return best;
}

/* Of the `expected` blocks that share *arrived, is this the last to come here? It sees what the
 * others wrote before (with __ldcg). *arrived is 0 before the first and after the last. */
UT_DEVICE bool last_block(uint32_t *arrived, uint32_t expected)
{
    bool last = false;
    __threadfence();
    __syncthreads();
    if (threadIdx.x == 0) {
        last = atomicAdd(arrived, 1u) + 1 == expected;
        if (last)
            *arrived = 0;
    }
    last = __syncthreads_or(last);
    __threadfence();
    return last;
}

/* The larger value, the smaller index where values are equal. */
struct best_entry {
    float value;
    int32_t index;
};

UT_DEVICE best_entry better(best_entry a, best_entry b)
{
    return b.value > a.value || (b.value == a.value && b.index < a.index) ? b : a;
}

/* Larger floats have larger keys; -0 and 0 have one. */
UT_DEVICE uint32_t key_of(float f)
{
    const uint32_t u = __float_as_uint(f + 0.0f);
    return u & 0x80000000u ? ~u : u | 0x80000000u;
}

UT_DEVICE float of_key(uint32_t key)
{
    return __uint_as_float(key & 0x80000000u ? key & 0x7fffffffu : ~key);
}

/* Every lane gets the warp's best. */
UT_DEVICE best_entry warp_best(best_entry v)
{
    const uint32_t key = key_of(v.value), best = warp_max_u32(key);
    const uint32_t index = key == best ? ~(uint32_t)v.index : 0;
    return {of_key(best), (int32_t)~warp_max_u32(index)};
}

/* Every thread gets the best of the block. scratch: UT_WARPS entries of shared memory that nobody
 * has read or written since the block's last barrier. */
UT_DEVICE best_entry block_best(best_entry v, best_entry *scratch)
{
    v = warp_best(v);
    if (threadIdx.x % 32 == 0)
        scratch[threadIdx.x / 32] = v;
    block_meet();
    return warp_best(scratch[threadIdx.x % UT_WARPS]);
}

/* ---- Activations ----------------------------------------------------------------------------- */

/* share: snake_share(beta), the same for a whole column. A small beta stands beside a small alpha,
 * and so beside a small sine, whose square is the more exact. */
UT_DEVICE float snake_by(float x, float alpha, float share)
{
    const float s = sine(alpha * x);
    return fmaf(s * s, share, x);
}

UT_DEVICE float snake_share(float beta)
{
    return 1.0f / (beta + 1e-9f);
}

UT_DEVICE float snake(float x, float alpha, float beta)
{
    return snake_by(x, alpha, snake_share(beta));
}

UT_DEVICE float silu(float x)
{
    return x / (1.0f + expf(-x));
}

/* ut_act */
enum {
    ACT_NONE,
    ACT_GELU,
    ACT_TANH,
    ACT_SNAKE,
    ACT_SILU,
    ACT_SIGMOID,
    ACT_RELU,
    ACT_ELU,
    ACT_CLAMP
};

UT_DEVICE float activate(int act, float x, float alpha, float beta)
{
    switch (act) {
    case ACT_GELU:
        return x * 0.5f * (1.0f + erff(x * 0.70710678f));
    case ACT_TANH:
        return tanhf(x);
    case ACT_SNAKE:
        return snake(x, alpha, beta);
    case ACT_SILU:
        return silu(x);
    case ACT_SIGMOID:
        return 1.0f / (1.0f + expf(-x));
    case ACT_RELU:
        return x > 0.0f ? x : 0.0f;
    case ACT_ELU:
        return x > 0.0f ? x : expm1f(x);
    case ACT_CLAMP:
        return x < -1.0f ? -1.0f : x > 1.0f ? 1.0f : x;
    default:
        return x;
    }
}

/* The element of a kernel whose threads count them through. */
UT_DEVICE int64_t element(void)
{
    return (int64_t)blockIdx.x * CU_THREADS + threadIdx.x;
}

/* The first position that a slot's rows stand at: first_pos + the state, never negative. */
UT_DEVICE int32_t first_position(const int32_t *pos, int64_t pos_slot, int slot, int32_t first_pos)
{
    int64_t p = first_pos;
    if (pos)
        p += pos[slot * pos_slot];
    return p < 0 ? 0 : p > 0x3fffffff ? 0x3fffffff : (int32_t)p;
}
