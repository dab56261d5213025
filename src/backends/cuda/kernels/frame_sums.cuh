/* frame_sums.cuh - what all kinds of products inside a frame share: where in shared memory they
 * find x, where they leave their sums, and who sends what comes of them. */
#pragma once

#include "backends/cuda/kernels/frame_ring.cuh"

/* What a phase of products works with, in shared memory. */
struct linear_shared {
    float *xs;          /* as plain_products or tensor_products lay x out */
    float *sums;        /* [rows, rows of the matrix, UT_WARPS] */
    float *squares;     /* [rows, UT_WARPS] */
    const float *gains; /* [2, gains_size], by turns: cu_frame_load says which is this phase's */
    int gains_size;
};

/* A warp's part of the sum of squares of a row of x: what its lanes have. t: the thread. */
UT_DEVICE void leave_square(float *squares, int t, float square)
{
    square = warp_sum(square);
    if (t % 32 == 0)
        squares[t / 32] = square;
}

/* The sum of all warps. */
UT_DEVICE float sum_warps(const float *s)
{
    const float4 a = *(const float4 *)s, b = *(const float4 *)(s + 4); /* UT_WARPS is 8 */
    return ((a.x + a.y) + (a.z + a.w)) + ((b.x + b.y) + (b.z + b.w));
}

/* Of two matrices, rows of a chunk are its gates, then what they multiply: which of the block's
 * rows are those of its output `own`. */
struct gated_rows {
    int gate, other;
};

UT_DEVICE gated_rows rows_of_gated(const cu_frame_load &l, int own)
{
    const int half = l.chunk / 2, begin = own & -half; /* chunks are powers of two */
    const int gates = l.count - begin < half ? l.count - begin : half;
    const gated_rows r = {own + begin, own + begin + gates};
    return r;
}

/* A warp sends so many results at once, each to all places of the mail. */
enum { RESULTS_AT_ONCE = 32 / CU_MAIL_PLACES };
