/* linear_one.cu - a product of one output, whose x is narrow: a codec's last convolution. A block
 * makes CU_ONE_ROWS rows, four threads each. The rows that its taps see come to shared memory once;
 * tiles of linear_mma.cu fetch them once for each tap, and make outputs that are not there.
 *
 * Thread q of a row has groups q, q + 4, ... of 8 channels of every tap: eight chains of every 8th
 * element, oldest tap first, then a tree over the chains, then over the threads. So the bits of a
 * row depend on its x alone. */
#include "backends/cuda/kernels/linear.cuh"

UT_KERNEL_AHEAD(linear_one, cu_tile_args)
{
    UT_SHARED(float, w); /* [ldw] */
    const cu_linear_args &l = a.a;
    uint16_t *x = (uint16_t *)(w + l.ldw); /* [CU_ONE_ROWS + reach, cols] */
    const int cols = l.ldx, taps = l.k / cols, step = l.seg_step, reach = (taps - 1) * step / cols;
    const int tiles = (l.rows + CU_ONE_ROWS - 1) / CU_ONE_ROWS;
    const int slot = blockIdx.x / tiles, row0 = blockIdx.x % tiles * CU_ONE_ROWS;
    for (int i = threadIdx.x; i < l.ldw; i += CU_THREADS)
        w[i] = f16_to_f32(((const uint16_t *)l.w)[i]);
    let_next_start();
    wait_for_previous();
    const uint4 *from = (const uint4 *)(l.x16 + slot * l.x16_slot + (int64_t)row0 * cols);
    const int left = l.rows - row0, rows = left < CU_ONE_ROWS ? left : CU_ONE_ROWS;
    for (int i = threadIdx.x; i < (rows + reach) * cols / 8; i += CU_THREADS)
        ((uint4 *)x)[i] = from[i];
    __syncthreads();
    const int row = threadIdx.x / 4, q = threadIdx.x % 4;
    float sum[8] = {0.0f, 0.0f, 0.0f, 0.0f, 0.0f, 0.0f, 0.0f, 0.0f};
    for (int tap = 0; tap < taps && row < rows; tap++)
#pragma unroll 3
        for (int c = 8 * q; c < cols; c += 32) {
            float v[8];
            group<CU_F16>::read(x, (size_t)(row * cols + tap * step + c), v);
            const float4 *f = (const float4 *)(w + tap * cols + c);
            const float4 lower = f[0], upper = f[1];
            sum[0] = fmaf(v[0], lower.x, sum[0]), sum[1] = fmaf(v[1], lower.y, sum[1]);
            sum[2] = fmaf(v[2], lower.z, sum[2]), sum[3] = fmaf(v[3], lower.w, sum[3]);
            sum[4] = fmaf(v[4], upper.x, sum[4]), sum[5] = fmaf(v[5], upper.y, sum[5]);
            sum[6] = fmaf(v[6], upper.z, sum[6]), sum[7] = fmaf(v[7], upper.w, sum[7]);
        }
    float y = ((sum[0] + sum[1]) + (sum[2] + sum[3])) + ((sum[4] + sum[5]) + (sum[6] + sum[7]));
    y += __shfl_xor_sync(UT_FULL, y, 1);
    y += __shfl_xor_sync(UT_FULL, y, 2);
    if (q == 0 && row < rows)
        finish_row(l, slot, row0 + row, 0, y);
}
