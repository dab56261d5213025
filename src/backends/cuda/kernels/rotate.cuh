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
