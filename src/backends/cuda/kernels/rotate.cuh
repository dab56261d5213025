/* rotate.cuh - a head of queries or keys: its norm, its rotation. */
#pragma once

#include "backends/cuda/kernels/device.cuh"

/* By a warp. x [dim]; angles [dim / 2] pairs of cosine and sine; to dst + at. */
UT_DEVICE void rotate(const cu_qkv_args &a, const float *x, const float *gain, const float *angles,
                      int type, void *dst, int64_t at)
{
    const int lane = threadIdx.x % 32;
    float scale = 1.0f;
    if (gain) {
        float s = 0.0f;
        for (int i = lane; i < a.dim; i += 32)
            s = fmaf(x[i], x[i], s);
        scale = 1.0f / sqrtf(warp_sum(s) / (float)a.dim + a.eps);
    }
    for (int pair = lane; pair < a.dim / 2; pair += 32) {
        const int i = a.halves ? pair : 2 * pair, j = a.halves ? pair + a.dim / 2 : i + 1;
        const float x0 = gain ? x[i] * scale * gain[i] : x[i];
        const float x1 = gain ? x[j] * scale * gain[j] : x[j];
        const float c = angles[2 * pair], s = angles[2 * pair + 1];
        store_element(type, dst, (size_t)(at + i), x0 * c - x1 * s);
        store_element(type, dst, (size_t)(at + j), x1 * c + x0 * s);
    }
}

/* The same of D dimensions, 64 or 128, where all that it takes is asked for before any of it is
 * waited for. A lane has pairs to turn: pair lane, lane + 32, ... */
template <int D> struct head_vector {
    float x[D / 64][2], gain[D / 64][2], turn[D / 64][2];

    /* Elements of a pair. */
    static UT_DEVICE_MEMBER int of(const cu_qkv_args &a, int p, int second)
    {
        const int pair = threadIdx.x % 32 + 32 * p;
        return a.halves ? pair + second * (D / 2) : 2 * pair + second;
    }
    /* gains 0: there is no norm; angles 0: it is not turned. */
    UT_DEVICE_MEMBER void load(const cu_qkv_args &a, const float *from, const float *gains,
                               const float *angles)
    {
        take(a, from);
        ask(a, gains, angles);
    }
    UT_DEVICE_MEMBER void take(const cu_qkv_args &a, const float *from)
    {
#pragma unroll
        for (int p = 0; p < D / 64; p++)
            x[p][0] = from[of(a, p, 0)], x[p][1] = from[of(a, p, 1)];
    }
    /* What goes with them. */
    UT_DEVICE_MEMBER void ask(const cu_qkv_args &a, const float *gains, const float *angles)
    {
#pragma unroll
        for (int p = 0; p < D / 64; p++)
#pragma unroll
            for (int j = 0; j < 2; j++) {
                gain[p][j] = gains ? gains[of(a, p, j)] : 1.0f;
                turn[p][j] = angles ? angles[2 * (threadIdx.x % 32 + 32 * p) + j] : 1.0f - j;
            }
    }
    UT_DEVICE_MEMBER void multiply(float by)
    {
#pragma unroll
        for (int p = 0; p < D / 64; p++)
            x[p][0] *= by, x[p][1] *= by;
    }
    UT_DEVICE_MEMBER void norm(float eps)
    {
        float square = 0.0f;
#pragma unroll
        for (int p = 0; p < D / 64; p++)
            square += x[p][0] * x[p][0] + x[p][1] * x[p][1];
        const float scale = 1.0f / sqrtf(warp_sum(square) / (float)D + eps);
#pragma unroll
        for (int p = 0; p < D / 64; p++)
            x[p][0] *= scale * gain[p][0], x[p][1] *= scale * gain[p][1];
    }
    UT_DEVICE_MEMBER void store(const cu_qkv_args &a, int type, void *to) const
    {
#pragma unroll
        for (int p = 0; p < D / 64; p++) {
            const float c = turn[p][0], s = turn[p][1];
            store_element(type, to, (size_t)of(a, p, 0), x[p][0] * c - x[p][1] * s);
            store_element(type, to, (size_t)of(a, p, 1), x[p][1] * c + x[p][0] * s);
        }
    }
};
