/* linear_tile.cuh - products of many rows (prefill, codec) in f32: a block makes CU_TILE_M rows by
 * CU_TILE_N outputs, a thread 4 by 4 of them. Sums are chains over a part of K, and parts are added
 * in order; when the grid is too small to fill the device, the parts go to blocks of their own and
 * linear_finish adds them, in the same order. */
#pragma once

#include "backends/cuda/kernels/linear.cuh"

struct tile_fetch {
    float x[4], w[4];
};

/* Columns k .. k + 3 of matrix row o, k a multiple of 4. */
template <int TYPE> struct columns {
    static UT_DEVICE_MEMBER void load(const cu_linear_args &a, int o, int k, float w[4])
    {
        const uint2 v = __ldg((const uint2 *)((const uint16_t *)a.w + (size_t)o * a.ldw + k));
        w[0] = TYPE == CU_BF16 ? bf16_to_f32((uint16_t)v.x) : f16_to_f32((uint16_t)v.x);
        w[1] = TYPE == CU_BF16 ? bf16_to_f32(v.x >> 16) : f16_to_f32((uint16_t)(v.x >> 16));
        w[2] = TYPE == CU_BF16 ? bf16_to_f32((uint16_t)v.y) : f16_to_f32((uint16_t)v.y);
        w[3] = TYPE == CU_BF16 ? bf16_to_f32(v.y >> 16) : f16_to_f32((uint16_t)(v.y >> 16));
    }
};
template <> struct columns<CU_F32> {
    static UT_DEVICE_MEMBER void load(const cu_linear_args &a, int o, int k, float w[4])
    {
        const float4 v = __ldg((const float4 *)((const float *)a.w + (size_t)o * a.ldw + k));
        w[0] = v.x, w[1] = v.y, w[2] = v.z, w[3] = v.w;
    }
};

/* Thread t brings columns t % 4 * 4 .. + 3 of row t / 4 of both tiles. */
template <int TYPE>
UT_DEVICE void fetch(const cu_linear_args &a, const float *row, int o, int k, tile_fetch *f)
{
    const int64_t at = x_offset(a, k);
    if (!row) {
        f->x[0] = f->x[1] = f->x[2] = f->x[3] = 0.0f;
    } else if (a.vector && k + 3 < a.k) {
        const float4 v = *(const float4 *)(row + at);
        f->x[0] = v.x, f->x[1] = v.y, f->x[2] = v.z, f->x[3] = v.w;
    } else {
#pragma unroll
        for (int j = 0; j < 4; j++)
            f->x[j] = x_at(a, row, k + j);
    }
    if (o < a.n_out)
        columns<TYPE>::load(a, o, k, f->w);
    else
        f->w[0] = f->w[1] = f->w[2] = f->w[3] = 0.0f;
}

UT_DEVICE void put_tile(float *tile, int row, int k, const float v[4])
{
#pragma unroll
    for (int j = 0; j < 4; j++)
        tile[(k + j) * CU_TILE_PITCH + row] = v[j];
}

template <int TYPE> UT_DEVICE void linear_tile(const cu_linear_args &a)
{
    UT_SHARED(float, xs); /* [CU_TILE_K, CU_TILE_PITCH] */
    float *ws = xs + CU_TILE_K * CU_TILE_PITCH;
    const int all = a.rows * a.slots, t = threadIdx.x, tx = t % 16, ty = t / 16;
    const int m0 = blockIdx.y * CU_TILE_M, o0 = blockIdx.x * CU_TILE_N;
    const int my = t / 4, mk = t % 4 * 4;
    const float *row = m0 + my < all ? row_start(a, m0 + my) : NULL;
    const int k_begin = a.part ? blockIdx.z * CU_K_PART : 0;
    const int k_end = a.part && k_begin + CU_K_PART < a.ldw ? k_begin + CU_K_PART : a.ldw;
    float sum[4][4], total[4][4];
#pragma unroll
    for (int i = 0; i < 4; i++)
#pragma unroll
        for (int j = 0; j < 4; j++)
            sum[i][j] = total[i][j] = 0.0f;
    tile_fetch next;
    fetch<TYPE>(a, row, o0 + my, k_begin + mk, &next);
    for (int k = k_begin; k < k_end; k += CU_TILE_K) {
        __syncthreads();
        put_tile(xs, my, mk, next.x);
        put_tile(ws, my, mk, next.w);
        __syncthreads();
        if (k + CU_TILE_K < k_end)
            fetch<TYPE>(a, row, o0 + my, k + CU_TILE_K + mk, &next);
#pragma unroll
        for (int kk = 0; kk < CU_TILE_K; kk++) {
            const float4 x4 = *(const float4 *)(xs + kk * CU_TILE_PITCH + ty * 4);
            const float4 w4 = *(const float4 *)(ws + kk * CU_TILE_PITCH + tx * 4);
            const float x[4] = {x4.x, x4.y, x4.z, x4.w}, w[4] = {w4.x, w4.y, w4.z, w4.w};
#pragma unroll
            for (int i = 0; i < 4; i++)
#pragma unroll
                for (int j = 0; j < 4; j++)
                    sum[i][j] = fmaf(x[i], w[j], sum[i][j]);
        }
        if ((k + CU_TILE_K) % CU_K_PART == 0 || k + CU_TILE_K >= k_end) {
#pragma unroll
            for (int i = 0; i < 4; i++)
#pragma unroll
                for (int j = 0; j < 4; j++) {
                    total[i][j] += sum[i][j];
                    sum[i][j] = 0.0f;
                }
        }
    }
    for (int i = 0; i < 4; i++)
        for (int j = 0; j < 4; j++) {
            const int m = m0 + ty * 4 + i, o = o0 + tx * 4 + j;
            if (m >= all || o >= a.n_out)
                continue;
            if (a.part)
                a.part[((size_t)blockIdx.z * all + m) * a.n_out + o] = total[i][j];
            else
                finish(a, m, o, total[i][j]);
        }
}
