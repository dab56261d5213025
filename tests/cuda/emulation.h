/* emulation.h - the part of CUDA's language that the kernels use, for a C++ compiler: threads of a
 * block are fibers that run one after another and change at barriers and shuffles. Included by
 * device.cuh instead of nvcc's own definitions; emulation.cpp is the machine. */
#pragma once

#include "backends/cuda/args.h"
#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

struct emu_dim {
    unsigned x, y, z;
};
extern emu_dim threadIdx, blockIdx, gridDim;

struct alignas(16) float4 {
    float x, y, z, w;
};
struct alignas(16) uint4 {
    uint32_t x, y, z, w;
};
struct alignas(16) int4 {
    int x, y, z, w;
};
struct alignas(8) uint2 {
    uint32_t x, y;
};
struct alignas(8) float2 {
    float x, y;
};

#define UT_DEVICE        static inline
#define UT_DEVICE_MEMBER inline
#define UT_DEVICE_APART  static inline

/* Shared memory of the block that runs. */
unsigned char *emu_shared(void);
#define UT_SHARED(type, name) type *name = reinterpret_cast<type *>(emu_shared())

/* A kernel is found by its name; it takes one struct. */
struct emu_kernel {
    const char *name;
    void (*run)(const void *args);
    size_t args_size;
    emu_kernel *next;
    unsigned shared_most = 48 * 1024; /* of a launch; more is to be asked for */
    int cluster_most = 8;             /* the same */
    emu_kernel(const char *name, void (*run)(const void *args), size_t args_size);
};
#define UT_KERNEL(name, args_type)                                                                 \
    static void name(const args_type &a);                                                          \
    static emu_kernel emu_kernel_##name(                                                           \
        #name, [](const void *p) { name(*static_cast<const args_type *>(p)); },                    \
        sizeof(args_type));                                                                        \
    static void name(const args_type &a)

#define UT_KERNEL_OF(name, args_type, threads)        UT_KERNEL(name, args_type)
#define UT_KERNEL_ALONE(name, args_type, threads)     UT_KERNEL(name, args_type)
#define UT_KERNEL_AHEAD                               UT_KERNEL
#define UT_KERNEL_AHEAD_OF(name, args_type, threads)  UT_KERNEL(name, args_type)
#define UT_KERNEL_AHEAD_FITS(name, args_type, blocks) UT_KERNEL(name, args_type)
static inline float sine(float x)
{
    return sinf(x);
}
template <class T> static inline void store_whole(T *to, T v)
{
    *to = v;
}
static inline float power_of_2(float x)
{
    return exp2f(x);
}
static inline void let_next_start(void) {}
static inline void wait_for_previous(void) {}

/* ---- Barriers and exchange ------------------------------------------------------------------- */

void __syncthreads(void);
void block_meet(void);
static inline void team_meet(int)
{
    block_meet(); /* of each CU_THREADS threads */
}
void __syncwarp(void);
int __syncthreads_or(int any);
static inline void __threadfence_system(void) {}
static inline void __threadfence(void) {}

/* Every lane of the warp gives 8 bytes, then sees those of lane `from`. */
uint64_t emu_exchange(uint64_t mine, unsigned from);

template <class T> static inline T emu_shuffle(T v, unsigned from)
{
    static_assert(sizeof(T) <= 8, "one register or two");
    uint64_t bits = 0;
    memcpy(&bits, &v, sizeof v);
    bits = emu_exchange(bits, from);
    memcpy(&v, &bits, sizeof v);
    return v;
}

/* The whole grid, of a cooperative launch. */
void emu_grid_wait(void);
static inline void grid_arrive(uint32_t *) {}
static inline void grid_wait(const uint32_t *, uint32_t)
{
    emu_grid_wait();
}
/* A cluster: the same, since it alone runs. */
const void *emu_shared_of(const void *p, unsigned rank);
static inline void cluster_arrive(void) {}
static inline void cluster_wait(void)
{
    emu_grid_wait();
}
static inline uint32_t grid_turn(const uint32_t *)
{
    return 0;
}

static inline int thread(void)
{
    return (int)threadIdx.x;
}

/* Let other threads go on. */
void emu_yield(void);
static inline void send_word(void *to, uint32_t word)
{
    memcpy(to, &word, sizeof word);
}
template <int N> static inline void send_words(void *to, const uint32_t (&word)[N])
{
    memcpy(to, word, sizeof word);
}
template <int N> static inline void look_at_words(const void *from, uint32_t (&word)[N])
{
    memcpy(word, from, sizeof word);
}
static inline void mail_again(uint32_t)
{
    emu_yield();
}

static inline void give_registers(void) {}
static inline void take_registers(void) {}
/* A gate counts arrivals. */
static inline void gate_init(uint64_t *gate, uint32_t)
{
    *gate = 0;
}
static inline void gate_arrive(uint64_t *gate)
{
    ++*gate;
}
void emu_gate_closed(void);
static inline void gate_wait(uint64_t *gate, uint32_t n, uint32_t count)
{
    for (int polls = 0; *gate < (uint64_t)(n + 1) * count; emu_yield()) /* others may be behind */
        if (++polls == 100000)
            emu_gate_closed();
}
static inline void before_copies(void) {}
static inline void prefetch_line(const void *) {}
static inline void leave_time(uint64_t *at)
{
    *at = 0;
}

static inline void cluster_send(float *to, uint64_t *gate, int rank, const float4 &v)
{
    memcpy(const_cast<void *>(emu_shared_of(to, (unsigned)rank)), &v, sizeof v);
    ++*static_cast<uint64_t *>(const_cast<void *>(emu_shared_of(gate, (unsigned)rank)));
}

/* Copies arrive at once. */
static inline void copy_expect(uint64_t *done, uint32_t)
{
    gate_arrive(done);
}
static inline void copy_start(void *dst, const void *src, uint32_t bytes, const uint64_t *)
{
    memcpy(dst, src, bytes);
}
/* A tensor of three to five dimensions and a box of it, as cuTensorMapEncodeTiled gets them. */
struct emu_tensor {
    const unsigned char *base;
    uint64_t stride[4];
    uint32_t dims[5], box[5], rank;
};
static_assert(sizeof(emu_tensor) <= sizeof(cu_tensor_map), "it is kept there");
/* 128 or 64 bytes as line number `line` of a box; from NULL: zeros. */
static inline void emu_put_line(void *box, const emu_tensor &t, uint32_t line,
                                const unsigned char *from)
{
    static const unsigned char none[128] = {0};
    const uint32_t groups = t.box[0] / 8, turn = groups == 8 ? line % 8 : line / 2 % 4;
    for (uint32_t group = 0; group < groups; group++)
        memcpy(static_cast<unsigned char *>(box) + (line * groups + (group ^ turn)) * 16,
               (from ? from : none) + group * 16, 16);
}
/* What is not in the tensor is 0. */
static inline void copy_box(void *dst, const cu_tensor_map *map, int h, int row, int slot,
                            const uint64_t *)
{
    emu_tensor t;
    memcpy(&t, map, sizeof t);
    for (uint32_t line = 0; line < t.box[1] * t.box[2]; line++) {
        const uint64_t i = (uint64_t)h + line % t.box[1], r = (uint64_t)row + line / t.box[1];
        emu_put_line(dst, t, line,
                     i < t.dims[1] && r < t.dims[2]
                         ? t.base + i * t.stride[0] + r * t.stride[1] + (uint64_t)slot * t.stride[2]
                         : nullptr);
    }
}
static inline void copy_tile(void *dst, const cu_tensor_map *map, int k, int row, int slot,
                             const uint64_t *)
{
    emu_tensor t;
    memcpy(&t, map, sizeof t);
    for (uint32_t line = 0; line < t.box[1]; line++) {
        const uint64_t r = (uint64_t)row + line;
        emu_put_line(dst, t, line,
                     r < t.dims[1] && (uint32_t)k + t.box[0] <= t.dims[0]
                         ? t.base + r * t.stride[0] + (uint64_t)slot * t.stride[1] + 2 * k
                         : nullptr);
    }
}
static inline void copy_outputs(void *dst, const cu_tensor_map *map, int k, int first,
                                const uint64_t *)
{
    emu_tensor t;
    memcpy(&t, map, sizeof t);
    for (uint32_t line = 0; line < t.box[1] * t.box[2] * t.box[3] * t.box[4]; line++) {
        const uint32_t at[] = {line % t.box[1], line / t.box[1] % t.box[2],
                               line / (t.box[1] * t.box[2]) % t.box[3],
                               (uint32_t)first + line / (t.box[1] * t.box[2] * t.box[3])};
        const unsigned char *from = t.base + 2 * k;
        for (int i = 0; i < 4; i++)
            from += at[i] * t.stride[i];
        emu_put_line(dst, t, line,
                     at[3] < t.dims[4] && (uint32_t)k + t.box[0] <= t.dims[0] ? from : nullptr);
    }
}
static inline void prefetch_map(const cu_tensor_map *) {}
static inline uint32_t atomicAdd(uint32_t *p, uint32_t v)
{
    const uint32_t old = *p;
    *p += v;
    return old;
}
static inline uint32_t atomicOr(uint32_t *p, uint32_t v)
{
    const uint32_t old = *p;
    *p |= v;
    return old;
}

static inline uint32_t atomicExch(uint32_t *p, uint32_t v)
{
    const uint32_t old = *p;
    *p = v;
    return old;
}

template <class T> static inline T __shfl_xor_sync(unsigned, T v, int mask)
{
    return emu_shuffle(v, (threadIdx.x % 32) ^ (unsigned)mask);
}

template <class T> static inline T __shfl_sync(unsigned, T v, int from)
{
    return emu_shuffle(v, (unsigned)from % 32);
}

/* Byte i of the result is that of a (0 .. 3) or b (4 .. 7) that digit i of how names. */
static inline uint32_t __byte_perm(uint32_t a, uint32_t b, uint32_t how)
{
    const uint64_t both = (uint64_t)b << 32 | a;
    uint32_t r = 0;
    for (int i = 0; i < 4; i++)
        r |= (uint32_t)(both >> (how >> 4 * i & 7) * 8 & 0xff) << 8 * i;
    return r;
}

static inline float rsqrtf(float v)
{
    return 1.0f / sqrtf(v);
}

template <class T> static inline T __shfl_up_sync(unsigned, T v, int by)
{
    const unsigned lane = threadIdx.x % 32;
    return emu_shuffle(v, lane < (unsigned)by ? lane : lane - (unsigned)by);
}

static inline unsigned __ballot_sync(unsigned, bool yes)
{
    unsigned all = yes ? 1u << threadIdx.x % 32 : 0;
    for (unsigned d = 16; d > 0; d /= 2)
        all |= emu_shuffle(all, (threadIdx.x % 32) ^ d);
    return all;
}

/* ---- Small things ---------------------------------------------------------------------------- */

template <class T> static inline T __ldg(const T *p)
{
    return *p;
}

template <class T> static inline T __ldcg(const T *p)
{
    return *p;
}

static inline int __clz(int v)
{
    return v ? __builtin_clz((unsigned)v) : 32;
}

static inline int __ffs(int v)
{
    return __builtin_ffs(v);
}

static inline float __uint_as_float(uint32_t u)
{
    float f;
    memcpy(&f, &u, sizeof f);
    return f;
}

static inline uint32_t __float_as_uint(float f)
{
    uint32_t u;
    memcpy(&u, &f, sizeof u);
    return u;
}

/* base/half.h */
extern "C" float ut_f16_to_f32(uint16_t h);
extern "C" uint16_t ut_f32_to_f16(float f);
static inline float f16_to_f32(uint16_t h)
{
    return ut_f16_to_f32(h);
}
static inline uint16_t f32_to_f16(float f)
{
    return ut_f32_to_f16(f);
}
