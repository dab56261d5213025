/* linear.cu - products with matrices: one kernel for a few rows (decoding: every weight is read
 * once, a warp to an output), one for many (prefill, codec: tiles of results). */
#include "backends/cuda/kernels/linear_tile.cuh"

/* ---- Few rows -------------------------------------------------------------------------------- *
 * Lane l of a warp takes groups l, l + 32, ... of 16 bytes of a matrix row, with four chains of
 * sums; then a tree over the lanes. The order depends on K only. */

template <int TYPE, int ROWS> UT_DEVICE void linear_few(const cu_linear_args &a)
{
    UT_SHARED(float, xs); /* [ROWS, CU_FEW_K] */
    const int N = group<TYPE>::N;
    const int lane = threadIdx.x % 32, o = blockIdx.x * UT_WARPS + threadIdx.x / 32;
    const int m0 = blockIdx.y * ROWS, all = a.rows * a.slots;
    float sum[ROWS][4];
#pragma unroll
    for (int r = 0; r < ROWS; r++)
#pragma unroll
        for (int c = 0; c < 4; c++)
            sum[r][c] = 0.0f;
    for (int k0 = 0; k0 < a.ldw; k0 += CU_FEW_K) {
        const int kn = a.ldw - k0 < CU_FEW_K ? a.ldw - k0 : CU_FEW_K;
        __syncthreads();
        for (int r = 0; r < ROWS; r++) {
            const bool live = m0 + r < all;
            const float *row = row_start(a, live ? m0 + r : m0);
            for (int k = threadIdx.x; k < kn; k += CU_THREADS)
                xs[r * CU_FEW_K + k] = live ? x_at(a, row, k0 + k) : 0.0f;
        }
        __syncthreads();
        if (o >= a.n_out)
            continue;
        const size_t at = (size_t)o * a.ldw + k0;
#pragma unroll 4
        for (int k = lane * N; k < kn; k += 32 * N) {
            float w[N];
            group<TYPE>::load(a.w, at + k, w);
#pragma unroll
            for (int r = 0; r < ROWS; r++)
#pragma unroll
                for (int j = 0; j < N; j++)
                    sum[r][j % 4] = fmaf(xs[r * CU_FEW_K + k + j], w[j], sum[r][j % 4]);
        }
    }
#pragma unroll
    for (int r = 0; r < ROWS; r++) {
        const float v = warp_sum((sum[r][0] + sum[r][1]) + (sum[r][2] + sum[r][3]));
        if (lane == 0 && o < a.n_out && m0 + r < all)
            finish(a, m0 + r, o, v);
    }
}

UT_KERNEL(linear_few_f32_1, cu_linear_args)
{
    linear_few<CU_F32, 1>(a);
}
UT_KERNEL(linear_few_f32_4, cu_linear_args)
{
    linear_few<CU_F32, 4>(a);
}
UT_KERNEL(linear_few_bf16_1, cu_linear_args)
{
    linear_few<CU_BF16, 1>(a);
}
UT_KERNEL(linear_few_bf16_4, cu_linear_args)
{
    linear_few<CU_BF16, 4>(a);
}
UT_KERNEL(linear_few_f16_1, cu_linear_args)
{
    linear_few<CU_F16, 1>(a);
}
UT_KERNEL(linear_few_f16_4, cu_linear_args)
{
    linear_few<CU_F16, 4>(a);
}

/* ---- Many rows ------------------------------------------------------------------------------- */

UT_KERNEL(linear_tile_f32, cu_linear_args)
{
    linear_tile<CU_F32>(a);
}
UT_KERNEL(linear_tile_bf16, cu_linear_args)
{
    linear_tile<CU_BF16>(a);
}
UT_KERNEL(linear_tile_f16, cu_linear_args)
{
    linear_tile<CU_F16>(a);
}

/* The parts' sums to results: an element to a thread. */
UT_KERNEL(linear_finish, cu_linear_args)
{
    const int64_t n = (int64_t)a.rows * a.slots * a.n_out;
    const int64_t i = (int64_t)blockIdx.x * CU_THREADS + threadIdx.x;
    if (i >= n)
        return;
    float v = 0.0f;
    for (int k = 0, p = 0; k < a.ldw; k += CU_K_PART, p++)
        v += a.part[p * n + i];
    finish(a, (int)(i / a.n_out), (int)(i % a.n_out), v);
}
