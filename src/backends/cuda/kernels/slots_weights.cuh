/* slots_weights.cuh - a warp's share of a matrix in registers, as tensor cores take it, for
 * products of a few rows (linear_slots.cuh): bf16, or blocks of whole numbers.
 *
 * Of every 32 columns a lane (g, q) has eight of the rows g and g + 8 of its warp's 16: four for
 * each of two steps of 16 columns, in an order that is the same for x. With swiglu row g is of the
 * gate and row g + 8 the same of up. Warps 0 to 3 have the first half of the columns, 4 to 7 the
 * second. */
#pragma once

#include "backends/cuda/kernels/mma.cuh"
#include "backends/cuda/kernels/packed.cuh"

#if UT_MMA
template <int TYPE, int COLUMNS> struct slots_weights;

/* Lane q's are 8q .. 8q + 7. */
template <int COLUMNS> struct slots_weights<CU_BF16, COLUMNS> {
    enum { LINE = 64 /* columns in a line of memory */ };
    struct row {
        const uint16_t *w; /* NULL: there is none */
        UT_DEVICE_MEMBER void find(const cu_linear_args &a, int o, bool live)
        {
            w = live ? (const uint16_t *)a.w + (int64_t)o * a.ldw : NULL;
        }
        UT_DEVICE_MEMBER void prefetch(int k) const { prefetch_line(w + k); }
    };
    uint4 w[2][COLUMNS / 64];

    UT_DEVICE_MEMBER void load(const row (&rows)[2], int k, int ldw, int q)
    {
#pragma unroll
        for (int i = 0; i < COLUMNS / 64; i++)
#pragma unroll
            for (int h = 0; h < 2; h++)
                w[h][i] = rows[h].w && k + 32 * i < ldw ? load_once(rows[h].w + k + 32 * i + 8 * q)
                                                        : uint4{0, 0, 0, 0};
    }
    UT_DEVICE_MEMBER void unpack(void) {}

    /* x: rows g, g + 8, ... of the warp's columns, CU_SLOTS_X(COLUMNS) from row to row. */
    template <int N> UT_DEVICE_MEMBER void add(float (&sum)[N][4], const uint16_t *x, int q) const
    {
#pragma unroll
        for (int i = 0; i < COLUMNS / 64; i++) {
            const uint32_t fw[2][4] = {{w[0][i].x, w[1][i].x, w[0][i].y, w[1][i].y},
                                       {w[0][i].z, w[1][i].z, w[0][i].w, w[1][i].w}};
#pragma unroll
            for (int n = 0; n < N; n++) {
                const uint4 v = *(const uint4 *)(x + 8 * n * CU_SLOTS_X(COLUMNS) + 32 * i + 8 * q);
                const uint32_t fx[2][2] = {{v.x, v.y}, {v.z, v.w}};
                mma_bf16(sum[n], fw[0], fx[0]);
                mma_bf16(sum[n], fw[1], fx[1]);
            }
        }
    }
};

/* Two neighbouring numbers of a word as bf16, the first one number e. A byte of less than 128 is
 * the end of one of bf16 that is 128 larger; of q8 the other half of all numbers is shifted there.
 */
template <int TYPE> UT_DEVICE uint32_t two_numbers(uint32_t word, int e)
{
    const uint32_t two = __byte_perm(word, 0x43434343u, e == 0 ? 0x4140 : 0x4342);
    if (TYPE == CU_Q4)
        return add_bf16(two, 0xc308c308u);                                  /* - 136 */
    return add_bf16(two & 0xff7fff7fu, (~two & 0x00800080u) | 0xc300c300u); /* - 128 or - 256 */
}

/* Whole numbers are bf16 as they are. A block's products are summed from zero, before its scale is
 * applied. Of q4 a step of 16 columns is a block, of which lane q has 4q .. 4q + 3. */
template <int TYPE, int COLUMNS> struct slots_packed {
    typedef packed<TYPE> P;
    enum { STEPS = COLUMNS / 64, LINE = TYPE == CU_Q8 ? 128 : 256 };
    struct row {
        const uint8_t *w; /* NULL: there is none */
        const uint16_t *scales;
        UT_DEVICE_MEMBER void find(const cu_linear_args &a, int o, bool live)
        {
            w = live ? (const uint8_t *)a.w + P::bytes((size_t)o * a.ldw) : NULL;
            scales = scales_of<TYPE>(a, o);
        }
        UT_DEVICE_MEMBER void prefetch(int k) const { prefetch_line(w + P::bytes(k)); }
    };
    uint32_t word[STEPS][2][2]; /* of row g, g + 8: four numbers a byte for either step of 16 */
    uint32_t scale[STEPS][2];   /* f16, of q4 two */
    uint32_t w[STEPS][2][4];    /* bf16, as the tensor core takes them */

    UT_DEVICE_MEMBER void load(const row (&rows)[2], int k, int ldw, int q)
    {
#pragma unroll
        for (int i = 0; i < STEPS; i++)
#pragma unroll
            for (int h = 0; h < 2; h++) {
                const int at = k + 32 * i;
                const bool here = rows[h].w && at < ldw;
                if (TYPE == CU_Q8) {
                    const uint2 v =
                        here ? __ldg((const uint2 *)(rows[h].w + at + 8 * q)) : uint2{0, 0};
                    word[i][h][0] = v.x, word[i][h][1] = v.y;
                    scale[i][h] = here ? __ldg(rows[h].scales + at / P::BLOCK) : 0;
                } else {
                    const uint32_t *two = (const uint32_t *)(rows[h].w + (here ? at / 2 : 0));
                    word[i][h][0] = here ? __ldg(two + q % 2) : 0;
                    word[i][h][1] = here ? __ldg(two + 2 + q % 2) : 0;
                    scale[i][h] =
                        here ? __ldg((const uint32_t *)(rows[h].scales + at / P::BLOCK)) : 0;
                }
            }
        high = q / 2 * 4;
    }
    UT_DEVICE_MEMBER void unpack(void)
    {
#pragma unroll
        for (int i = 0; i < STEPS; i++)
#pragma unroll
            for (int h = 0; h < 2; h++)
#pragma unroll
                for (int j = 0; j < 2; j++) {
                    const uint32_t v =
                        TYPE == CU_Q8 ? word[i][h][j] : word[i][h][j] >> high & 0x0f0f0f0fu;
#pragma unroll
                    for (int p = 0; p < 2; p++)
                        w[i][j][2 * p + h] = two_numbers<TYPE>(v, 2 * p);
                }
    }
    UT_DEVICE_MEMBER float scale_of(int i, int h, int j) const
    {
        return f16_to_f32((uint16_t)(TYPE == CU_Q4 && j ? scale[i][h] >> 16 : scale[i][h]));
    }
    template <int N> UT_DEVICE_MEMBER void add(float (&sum)[N][4], const uint16_t *x, int q) const
    {
#pragma unroll
        for (int i = 0; i < STEPS; i++)
#pragma unroll
            for (int n = 0; n < N; n++) {
                const uint16_t *xn = x + 8 * n * CU_SLOTS_X(COLUMNS) + 32 * i;
                uint32_t fx[2][2];
                if (TYPE == CU_Q8) {
                    const uint4 v = *(const uint4 *)(xn + 8 * q);
                    fx[0][0] = v.x, fx[0][1] = v.y, fx[1][0] = v.z, fx[1][1] = v.w;
                } else {
                    const uint2 u = *(const uint2 *)(xn + 4 * q),
                                v = *(const uint2 *)(xn + 16 + 4 * q);
                    fx[0][0] = u.x, fx[0][1] = u.y, fx[1][0] = v.x, fx[1][1] = v.y;
                }
                float of_block[4] = {0.0f, 0.0f, 0.0f, 0.0f};
#pragma unroll
                for (int j = 0; j < 2; j++) {
                    mma_bf16(of_block, w[i][j], fx[j]);
                    if (TYPE == CU_Q8 && j == 0)
                        continue;
#pragma unroll
                    for (int c = 0; c < 4; c++) {
                        sum[n][c] = fmaf(scale_of(i, c / 2, j), of_block[c], sum[n][c]);
                        of_block[c] = 0.0f;
                    }
                }
            }
    }

  private:
    int high; /* bits in front of this lane's numbers of q4 */
};
template <int COLUMNS> struct slots_weights<CU_Q8, COLUMNS> : slots_packed<CU_Q8, COLUMNS> {
};
template <int COLUMNS> struct slots_weights<CU_Q4, COLUMNS> : slots_packed<CU_Q4, COLUMNS> {
};
#endif
