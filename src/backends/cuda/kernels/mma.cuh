/* mma.cuh - what the kernels of compute capability 8.0 and newer use beside the language: products
 * of 16 x 16 by 16 x 8 tiles of bf16 with f32 sums, their operands from shared memory, and copies
 * to shared memory that go on beside the arithmetic. The only instructions written as PTX.
 *
 * Where a kernel is compiled for something older its body is empty (UT_MMA); the host looks at what
 * it was compiled for before it launches one (device.c).
 *
 * Fragments of a warp, g = lane / 4, q = lane % 4, each register two elements, the lower first:
 *   A [16, 16]  a[0] row g, columns 2q, 2q + 1; a[1] row g + 8; a[2], a[3] the same, columns + 8
 *   B [16, 8]   b[0] rows 2q, 2q + 1 of column g; b[1] rows + 8
 *   C [16, 8]   c[0], c[1] row g, columns 2q, 2q + 1; c[2], c[3] row g + 8 (f32) */
#pragma once

#include "backends/cuda/kernels/device.cuh"

#if defined(__CUDACC__)
#if !defined(__CUDA_ARCH__) || __CUDA_ARCH__ >= 800
#define UT_MMA 1

/* c += a b. */
UT_DEVICE void mma_bf16(float c[4], const uint32_t a[4], const uint32_t b[2])
{
    asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 "
        "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
        : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

/* The same for f16. */
UT_DEVICE void mma_f16(float c[4], const uint32_t a[4], const uint32_t b[2])
{
    asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 "
        "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
        : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

/* Two sums of bf16. */
UT_DEVICE uint32_t add_bf16(uint32_t a, uint32_t b)
{
    uint32_t sum;
    asm("fma.rn.bf16x2 %0, %1, %2, %3;" : "=r"(sum) : "r"(a), "r"(0x3f803f80u), "r"(b));
    return sum;
}

/* Four matrices of 8 rows of 16 bytes; lane l gives the row l % 8 of matrix l / 8. r[i]: elements
 * 2q, 2q + 1 of row g of matrix i, or (trans) elements g of its rows 2q, 2q + 1. */
UT_DEVICE void load_matrices(uint32_t r[4], const void *row)
{
    const uint32_t at = (uint32_t)__cvta_generic_to_shared(row);
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(at)
                 : "memory");
}

UT_DEVICE void load_matrices_trans(uint32_t r[4], const void *row)
{
    const uint32_t at = (uint32_t)__cvta_generic_to_shared(row);
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(at)
                 : "memory");
}

#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
/* ---- Four warps together ---------------------------------------------------------------------- *
 * Compute capability 9.0 alone has products by four warps, 16 rows each, of A in registers, as for
 * mma_f16, and B in shared memory. They run beside the warps until these wait. Twice as fast. */
#define UT_MMA_GROUPS 1
#define UT_GROUPS     1 /* those with both of A and B there, too */

/* What was written to shared memory, as products read it: before the barrier behind the writes. */
UT_DEVICE void group_sees_memory(void)
{
    asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
}

/* Before the first product after registers of A or C were written. */
UT_DEVICE void group_begin(void)
{
    asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
}

/* The products since the last end are a group. */
UT_DEVICE void group_close(void)
{
    asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
}

/* Wait until all groups but the last N are made: nobody reads their C, or writes to their A and B,
 * before. c: C [n][4] of the last. */
template <int N, int TILES> UT_DEVICE void group_wait(float (*c)[4])
{
    asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(N) : "memory");
#pragma unroll
    for (int j = 0; j < TILES; j++)
        asm volatile("" : "+f"(c[j][0]), "+f"(c[j][1]), "+f"(c[j][2]), "+f"(c[j][3])::"memory");
}

/* Wait for all products since group_begin; c: their C [n][4]. */
template <int TILES> UT_DEVICE void group_end(float (*c)[4])
{
    group_close();
    group_wait<0, TILES>(c);
}

/* 16 columns of a tile [rows][GROUPS of 16 bytes], whose rows are B's columns: swizzled as in
 * swizzle(), or with 4 groups, as linear_unit.cu has it. at: the first of the columns in a row
 * whose number is a multiple of 8. The device swizzles by address, so a tile has to begin at a
 * multiple of 8 rows: it does where all shared memory is dynamic and all before it is such a
 * multiple. */
template <int GROUPS> UT_DEVICE uint64_t group_matrix(const void *at)
{
    const uint64_t address = (uint64_t)__cvta_generic_to_shared(at);
    return (uint64_t)(GROUPS == 8 ? 1 : 2) << 62 | (uint64_t)(8 * GROUPS) << 32 /* 8 rows */ |
           (uint64_t)1 << 16 | (address & 0x3ffff) >> 4;
}

#define UT_C4(j)  "+f"(c[j][0]), "+f"(c[j][1]), "+f"(c[j][2]), "+f"(c[j][3])
#define UT_C16(j) UT_C4(j), UT_C4(j + 1), UT_C4(j + 2), UT_C4(j + 3)
#define UT_R8(a, b, c, d, e, f, g, h)                                                              \
    "%" #a ", %" #b ", %" #c ", %" #d ", %" #e ", %" #f ", %" #g ", %" #h
#define UT_R32                                                                                     \
    UT_R8(0, 1, 2, 3, 4, 5, 6, 7)                                                                  \
    ", " UT_R8(8, 9, 10, 11, 12, 13, 14, 15) ", " UT_R8(                                           \
        16, 17, 18, 19, 20, 21, 22, 23) ", " UT_R8(24, 25, 26, 27, 28, 29, 30, 31)
#define UT_R48                                                                                     \
    UT_R32 ", " UT_R8(32, 33, 34, 35, 36, 37, 38, 39) ", " UT_R8(40, 41, 42, 43, 44, 45, 46, 47)
#define UT_R64                                                                                     \
    UT_R32 ", " UT_R8(32, 33, 34, 35, 36, 37, 38, 39) ", " UT_R8(                                  \
        40, 41, 42, 43, 44, 45, 46, 47) ", " UT_R8(48, 49, 50, 51, 52, 53, 54,                     \
                                                   55) ", " UT_R8(56, 57, 58, 59, 60, 61, 62, 63)

#define UT_R96                                                                                     \
    UT_R64 ", " UT_R8(64, 65, 66, 67, 68, 69, 70, 71) ", " UT_R8(                                  \
        72, 73, 74, 75, 76, 77, 78, 79) ", " UT_R8(80, 81, 82, 83, 84, 85, 86,                     \
                                                   87) ", " UT_R8(88, 89, 90, 91, 92, 93, 94, 95)

/* c += a b for N outputs: C of N / 8 tiles of 8. */
template <int N, bool HALF> struct group_mma;
#define UT_GROUP_MMA(n, half, type, registers, rest, ...)                                          \
    template <> struct group_mma<n, half> {                                                        \
        static UT_DEVICE_MEMBER void add(float (*c)[4], const uint32_t a[4], uint64_t b)           \
        {                                                                                          \
            asm volatile("wgmma.mma_async.sync.aligned.m64n" #n "k16.f32." type "." type           \
                         " {" registers "}, " rest ", 1, 1, 1, 0;"                                 \
                         : __VA_ARGS__                                                             \
                         : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b));                    \
        }                                                                                          \
    };
#define UT_GROUP_MMAS(n, registers, rest, ...)                                                     \
    UT_GROUP_MMA(n, false, "bf16", registers, rest, __VA_ARGS__)                                   \
    UT_GROUP_MMA(n, true, "f16", registers, rest, __VA_ARGS__)
UT_GROUP_MMAS(32, UT_R8(0, 1, 2, 3, 4, 5, 6, 7) ", " UT_R8(8, 9, 10, 11, 12, 13, 14, 15),
              "{%16, %17, %18, %19}, %20", UT_C16(0))
UT_GROUP_MMAS(64, UT_R32, "{%32, %33, %34, %35}, %36", UT_C16(0), UT_C16(4))
UT_GROUP_MMAS(96, UT_R48, "{%48, %49, %50, %51}, %52", UT_C16(0), UT_C16(4), UT_C16(8))
UT_GROUP_MMAS(128, UT_R64, "{%64, %65, %66, %67}, %68", UT_C16(0), UT_C16(4), UT_C16(8), UT_C16(12))

/* Where 16 columns of such a tile begin, in 16 bytes: 2 more are the next 16 columns, GROUPS more
 * the next row. */
typedef uint32_t group_at;
UT_DEVICE group_at group_place(const void *at)
{
    return ((uint32_t)__cvta_generic_to_shared(at) & 0x3ffff) >> 4;
}

/* c = a b, or c += a b, with A in shared memory, too: 64 rows of a tile as B's, from any row on. a,
 * b: group_place, of tiles of GROUPS. */
template <int N, bool HALF, int GROUPS = 8> struct group_product;
#define UT_GROUP_PRODUCT(n, half, type, groups, high, registers, at_a, at_b, add, ...)             \
    template <> struct group_product<n, half, groups> {                                            \
        static UT_DEVICE_MEMBER void make(float (*c)[4], group_at a, group_at b, bool more)        \
        {                                                                                          \
            asm volatile("{\n .reg .pred p;\n .reg .b64 a, b;\n setp.ne.b32 p, " add ", 0;\n"      \
                         " mov.b64 a, {" at_a ", " high "};\n mov.b64 b, {" at_b ", " high "};\n"  \
                         " wgmma.mma_async.sync.aligned.m64n" #n "k16.f32." type "." type          \
                         " {" registers "}, a, b, p, 1, 1, 0, 0;\n}"                               \
                         : __VA_ARGS__                                                             \
                         : "r"(a | 1 << 16), "r"(b | 1 << 16), "r"((int)more));                    \
        }                                                                                          \
    };
#define UT_GROUP_PRODUCTS(n, registers, a, b, add, ...)                                            \
    UT_GROUP_PRODUCT(n, false, "bf16", 8, "0x40000040", registers, a, b, add, __VA_ARGS__)         \
    UT_GROUP_PRODUCT(n, true, "f16", 8, "0x40000040", registers, a, b, add, __VA_ARGS__)
UT_GROUP_PRODUCTS(32, UT_R8(0, 1, 2, 3, 4, 5, 6, 7) ", " UT_R8(8, 9, 10, 11, 12, 13, 14, 15), "%16",
                  "%17", "%18", UT_C16(0))
UT_GROUP_PRODUCTS(64, UT_R32, "%32", "%33", "%34", UT_C16(0), UT_C16(4))
UT_GROUP_PRODUCTS(96, UT_R48, "%48", "%49", "%50", UT_C16(0), UT_C16(4), UT_C16(8))
UT_GROUP_PRODUCT(96, true, "f16", 4, "0x80000020", UT_R48, "%48", "%49", "%50", UT_C16(0),
                 UT_C16(4), UT_C16(8))
UT_GROUP_PRODUCTS(128, UT_R64, "%64", "%65", "%66", UT_C16(0), UT_C16(4), UT_C16(8), UT_C16(12))
UT_GROUP_PRODUCTS(192, UT_R96, "%96", "%97", "%98", UT_C16(0), UT_C16(4), UT_C16(8), UT_C16(12),
                  UT_C16(16), UT_C16(20))
#endif

/* 16 bytes to shared memory, or zeros where not `live`: there once its group has been waited for
 * and the block has met at a barrier. */
UT_DEVICE void copy_async(void *shared, const void *src, bool live)
{
    const uint32_t at = (uint32_t)__cvta_generic_to_shared(shared);
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;"
                 :
                 : "r"(at), "l"(src), "r"(live ? 16 : 0)
                 : "memory");
}

/* The copies since the last end are a group. */
UT_DEVICE void copy_group_end(void)
{
    asm volatile("cp.async.commit_group;" ::: "memory");
}

/* Wait for all groups of this thread but the N newest. */
template <int N> UT_DEVICE void copy_wait(void)
{
    asm volatile("cp.async.wait_group %0;" : : "n"(N) : "memory");
}

/* 16 bytes that nobody reads again soon. */
UT_DEVICE uint4 load_once(const void *p)
{
    uint4 v;
    asm volatile("ld.global.nc.L1::no_allocate.v4.u32 {%0, %1, %2, %3}, [%4];"
                 : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w)
                 : "l"(p));
    return v;
}
#endif
#else
#define UT_MMA 1
#include "emulation_mma.h"
#endif

#if UT_MMA
/* What two numbers, packed as `high`, have beside it: rounded, too. */
UT_DEVICE uint32_t pack_low(float a, float b, uint32_t high)
{
    return pack_bf16(a - __uint_as_float(high << 16), b - __uint_as_float(high & 0xffff0000u));
}

/* All copies of this thread are there. */
UT_DEVICE void copy_all_wait(void)
{
    copy_group_end();
    copy_wait<0>();
}
#endif

/* The body of a kernel of these. */
#if UT_MMA
#define UT_MMA_BODY(...) __VA_ARGS__
#else
#define UT_MMA_BODY(...)
#endif

/* Where 16-byte group `chunk` of a row of at least 8 groups lies in a tile of shared memory, in
 * groups from the row's begin: rows of a matrix of load_matrices fall into different banks. */
UT_DEVICE int swizzle(int row, int chunk)
{
    return chunk ^ (row & 7);
}
