/* frame_plain.cuh - products of a frame in plain arithmetic: all threads work on every row, thread
 * t has columns 4t .. 4t + 3 of every unit of CU_UNIT columns. A sum is one chain over a thread's
 * columns, a tree over the lanes of a warp, a tree over the warps. */
#pragma once

#include "backends/cuda/kernels/frame_sums.cuh"

enum { PLAIN_ROWS = 8 }; /* of the matrix, at a time */

/* PLAIN_ROWS sums over the lanes of a warp: afterwards sum[0] of lane l is that of row l / 4. A
 * lane keeps one half of its rows and gives the other to lane l ^ WITH until one row is left. */
template <int ROWS, int WITH = 16> UT_DEVICE void sum_rows(float *sum)
{
    if constexpr (WITH > 0) {
        constexpr int HALF = ROWS > 1 ? ROWS / 2 : 1;
        const bool upper = (thread() & WITH) != 0;
#pragma unroll
        for (int i = 0; i < HALF; i++) {
            const float keep = ROWS > 1 && upper ? sum[(i + HALF) % ROWS] : sum[i];
            const float give = ROWS > 1 && !upper ? sum[(i + HALF) % ROWS] : sum[i];
            sum[i] = keep + __shfl_xor_sync(UT_FULL, give, WITH);
        }
        sum_rows<HALF, WITH / 2>(sum);
    }
}

/* The warp's part of rows 0 .. n - 1 at w times x; of fewer than PLAIN_ROWS the last is read again.
 */
template <int TYPE>
UT_DEVICE void plain_rows(const unsigned char *w, int n, int ld, const float *x, float *sums)
{
    const int lane = thread() % 32, row = lane / 4;
    float sum[PLAIN_ROWS] = {0.0f};
#pragma unroll 1
    for (int c = thread() * 4; c < ld; c += CU_UNIT) {
        const float4 v = *(const float4 *)(x + c);
#pragma unroll
        for (int r = 0; r < PLAIN_ROWS; r++) {
            float f[4];
            read_four<TYPE>(w + ((size_t)(r < n ? r : n - 1) * ld + c) * (TYPE == CU_F32 ? 4 : 2),
                            f);
            sum[r] = fmaf(v.w, f[3], fmaf(v.z, f[2], fmaf(v.y, f[1], fmaf(v.x, f[0], sum[r]))));
        }
    }
    sum_rows<PLAIN_ROWS>(sum);
    if (lane % 4 == 0 && row < n)
        sums[row * UT_WARPS + thread() / 32] = sum[0];
}

/* This thread's columns of row m of x, times the norm's gain, to shared memory, those from K on 0;
 * their sum of squares. */
UT_DEVICE float bring_columns(const cu_frame_linear &p, const linear_shared &s, int m, int padded,
                              const mail_clock &clock)
{
    const int k = p.k, slot = p.rows == 1 ? m : m / p.rows;
    const float *x = p.x + slot * p.x_slot + (int64_t)(m - slot * p.rows) * k;
    const float *gains = s.gains + p.load.side * s.gains_size;
    float square = 0.0f;
#pragma unroll 1
    for (int c = thread() * 4; c < padded; c += CU_UNIT) {
        float4 v = {0.0f, 0.0f, 0.0f, 0.0f};
        if (c < k && p.x_mail) {
            const cu_mail *mail = p.x_mail + (int64_t)m * k + c;
            mail_look<4> four;
            four.at(mail);
            four.wait(mail, clock.frame);
            v.x = four[0], v.y = four[1], v.z = four[2], v.w = four[3];
        } else if (c < k) {
            v = __ldcg((const float4 *)(x + c));
        }
        if (p.gain && c < k) {
            const float4 g = *(const float4 *)(gains + c);
            square = fmaf(v.x, v.x, square);
            square = fmaf(v.y, v.y, square);
            square = fmaf(v.z, v.z, square);
            square = fmaf(v.w, v.w, square);
            v.x *= g.x, v.y *= g.y, v.z *= g.z, v.w *= g.w;
        }
        *(float4 *)(s.xs + m * padded + c) = v;
    }
    return square;
}

/* All rows of this block times all rows of x. The matrix's rows lie in memory as it has them; sums
 * lie as the results expect them, chunk by chunk. */
template <int TYPE>
UT_DEVICE void plain_products(const cu_frame_linear &p, const cu_frame_load &l, int rows,
                              const linear_shared &s, const mail_clock &clock)
{
    const int padded = (l.ld + CU_UNIT - 1) / CU_UNIT * CU_UNIT, all_rows = l.count * l.matrices;
    const size_t pitch = (size_t)l.ld * (TYPE == CU_F32 ? 4 : 2);
#pragma unroll 1
    for (int m = 0; m < rows; m++) {
        const float square = bring_columns(p, s, m, padded, clock);
        if (p.gain)
            leave_square(s.squares + m * UT_WARPS, thread(), square);
    }
#pragma unroll 1
    for (int at = 0; at < l.count; at += chunk_outputs(l, at)) {
        const int n = chunk_outputs(l, at), n_rows = n * l.matrices;
#pragma unroll 1
        for (int r = 0; r < n_rows;) {
            const int end = r < n ? n : n_rows; /* rows of one matrix lie together */
            const int these = end - r < PLAIN_ROWS ? end - r : PLAIN_ROWS;
            const int output = l.first + at + (r < n ? r : r - n + l.outputs);
            const unsigned char *w = (const unsigned char *)l.w + (size_t)output * pitch;
#pragma unroll 1
            for (int m = 0; m < rows; m++)
                plain_rows<TYPE>(w, these, l.ld, s.xs + m * padded,
                                 s.sums + (m * all_rows + at * l.matrices + r) * UT_WARPS);
            r += these;
        }
    }
}
