/* linear.cuh - what all products share: reading x, and what follows a sum. */
#pragma once

#include "backends/cuda/kernels/device.cuh"

/* What follows the sum of a row of a slot, output o. */
UT_DEVICE void finish_row(const cu_linear_args &a, int slot, int row, int o, float v)
{
    if (a.bias)
        v += a.bias[o];
    v = activate(a.act, v, a.alpha ? a.alpha[o] : 0.0f, a.beta ? a.beta[o] : 0.0f);
    if (a.gamma)
        v *= a.gamma[o];
    const int64_t at = (int64_t)row * a.n_out + o;
    if (a.residual)
        v += a.residual[slot * a.residual_slot + at];
    a.y[slot * a.y_slot + at] = v;
}

/* The same for row m of all slots. */
UT_DEVICE void finish(const cu_linear_args &a, int m, int o, float v)
{
    finish_row(a, m / a.rows, m % a.rows, o, v);
}

/* Where row m's sum starts to read. */
UT_DEVICE const float *row_start(const cu_linear_args &a, int m)
{
    return a.x + (m / a.rows) * a.x_slot + (int64_t)(m % a.rows) * a.cols;
}

/* Offset of column k of x(m, .) from there. */
UT_DEVICE int64_t x_offset(const cu_linear_args &a, int k)
{
    return (int64_t)(k / a.seg) * a.seg_step + k % a.seg;
}

UT_DEVICE float x_at(const cu_linear_args &a, const float *row, int k)
{
    return k < a.k ? row[x_offset(a, k)] : 0.0f;
}
