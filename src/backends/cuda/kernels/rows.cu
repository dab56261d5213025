/* rows.cu - norms, element-wise steps, depthwise convolution, copies, look-ups, rotary angles,
 * counters, and conversion of weights. */
#include "backends/cuda/kernels/slots.cuh"

/* ---- Norms: a block to a row ----------------------------------------------------------------- */

UT_DEVICE float sum_of_squares(const float *x, float mean, int n, float *scratch)
{
    float s = 0.0f;
    for (int c = threadIdx.x; c < n; c += CU_THREADS) {
        const float d = x[c] - mean;
        s = fmaf(d, d, s);
    }
    return block_sum(s, scratch);
}

UT_KERNEL(rms_norm, cu_norm_args)
{
    UT_SHARED(float, scratch);
    rms_norm_row(a, blockIdx.x / a.rows, blockIdx.x % a.rows, scratch);
}

UT_KERNEL(layer_norm, cu_norm_args)
{
    UT_SHARED(float, scratch);
    const int slot = blockIdx.x / a.rows, row = blockIdx.x % a.rows;
    const float *x = a.x + slot * a.x_slot + (int64_t)row * a.cols;
    const int64_t y = slot * a.y_slot + (int64_t)row * a.cols;
    float s = 0.0f;
    for (int c = threadIdx.x; c < a.cols; c += CU_THREADS)
        s += x[c];
    const float mean = block_sum(s, scratch) / (float)a.cols;
    const float var = sum_of_squares(x, mean, a.cols, scratch) / (float)a.cols;
    const float scale = 1.0f / sqrtf(var + a.eps);
    for (int c = threadIdx.x; c < a.cols; c += CU_THREADS)
        store_result(a.y_type, a.y, y + c, fmaf((x[c] - mean) * scale, a.gain[c], a.bias[c]));
}

/* ---- Element by element ---------------------------------------------------------------------- *
 * blockIdx.y is the slot, the elements of its rows are counted through. */

/* CU_SWIGLU_EACH elements of a row to a thread. */
UT_KERNEL(swiglu, cu_map_args)
{
    static_assert(CU_SWIGLU_EACH == 4, "a float4");
    const int64_t i = element(), groups = (a.cols + 3) / 4, row = i / groups;
    const int c = (int)(i - row * groups) * 4;
    if (row >= a.rows)
        return;
    const float *gate = a.x + blockIdx.y * a.x_slot + row * 2 * a.cols + c, *up = gate + a.cols;
    const int64_t y = blockIdx.y * a.y_slot + row * a.cols + c;
    if (a.cols % 4 != 0) {
        for (int j = 0; j < 4 && c + j < a.cols; j++)
            store_result(a.y_type, a.y, y + j, silu(gate[j]) * up[j]);
        return;
    }
    const float4 g = *(const float4 *)gate, u = *(const float4 *)up;
    const float4 v = {silu(g.x) * u.x, silu(g.y) * u.y, silu(g.z) * u.z, silu(g.w) * u.w};
    if (a.y_type == CU_F32) {
        *(float4 *)(a.y + y) = v;
        return;
    }
    const uint2 two = {f32_to_narrow(a.y_type, v.x) | (uint32_t)f32_to_narrow(a.y_type, v.y) << 16,
                       f32_to_narrow(a.y_type, v.z) | (uint32_t)f32_to_narrow(a.y_type, v.w) << 16};
    *(uint2 *)((uint16_t *)a.y + y) = two;
}

UT_KERNEL(snake, cu_map_args)
{
    const int64_t i = element();
    if (i < (int64_t)a.rows * a.cols)
        store_result(
            a.y_type, a.y, blockIdx.y * a.y_slot + i,
            snake(a.x[blockIdx.y * a.x_slot + i], a.alpha[i % a.cols], a.beta[i % a.cols]));
}

UT_KERNEL(activation, cu_map_args)
{
    const int64_t i = element();
    if (i < (int64_t)a.rows * a.cols)
        a.y[blockIdx.y * a.y_slot + i] =
            activate(a.act, a.x[blockIdx.y * a.x_slot + i], 0.0f, 0.0f);
}

UT_KERNEL(scale, cu_scale_args)
{
    const int64_t i = element();
    if (i >= (int64_t)a.rows * a.cols)
        return;
    const float gain = a.gain[blockIdx.y * a.gain_slot + i % a.cols];
    const float v = a.x[blockIdx.y * a.x_slot + i];
    a.y[blockIdx.y * a.y_slot + i] =
        a.residual ? fmaf(v, gain, a.residual[blockIdx.y * a.residual_slot + i]) : v * gain;
}

UT_KERNEL(dwconv, cu_dwconv_args)
{
    const int64_t i = element();
    if (i >= (int64_t)a.rows * a.cols)
        return;
    const float *x = a.x + blockIdx.y * a.x_slot + i;
    const int c = (int)(i % a.cols);
    float v = 0.0f;
    for (int j = 0; j < a.taps; j++)
        v = fmaf(a.w[(int64_t)j * a.cols + c], x[(int64_t)j * a.cols], v);
    a.y[blockIdx.y * a.y_slot + i] = v + a.bias[c];
}

UT_KERNEL(copy, cu_copy_args)
{
    const int64_t i = element(), shift = a.n_t ? (int64_t)*a.n_t * a.src_per_t : 0;
    if (i < a.n)
        a.dst[blockIdx.y * a.dst_slot + i] = a.src[blockIdx.y * a.src_slot + shift + i];
}

UT_KERNEL(copy_cols, cu_copy_cols_args)
{
    const int64_t i = element();
    if (i >= (int64_t)a.rows * a.n_cols)
        return;
    const int64_t row = i / a.n_cols, c = i % a.n_cols;
    const float v = a.src[blockIdx.y * a.src_slot + row * a.src_cols + c];
    float *dst = a.dst + blockIdx.y * a.dst_slot + row * a.dst_cols + c;
    *dst = a.add ? *dst + v : v;
}

/* ---- Looking up, counting: a block to a row or a slot ---------------------------------------- */

UT_KERNEL(embed_sum, cu_embed_args)
{
    embed_sum_row(a, blockIdx.x / a.rows, blockIdx.x % a.rows);
}
UT_KERNEL(gather, cu_gather_args)
{
    gather_row(a, blockIdx.x / a.rows, blockIdx.x % a.rows);
}
UT_KERNEL(gather_sum, cu_gather_sum_args)
{
    gather_sum_row(a, blockIdx.x / a.rows, blockIdx.x % a.rows);
}
UT_KERNEL(rope_angles, cu_angles_args)
{
    if (element() < (int64_t)a.rows * (a.dim / 2))
        rope_angles_pair(a, blockIdx.y, (int)element());
}
UT_KERNEL(token_code, cu_token_code_args)
{
    if (threadIdx.x < (unsigned)a.slots)
        token_code_slot(a, threadIdx.x);
}
UT_KERNEL(ring_put, cu_ring_args)
{
    ring_put_slot(a, blockIdx.x);
}
UT_KERNEL(ring_get, cu_ring_get_args)
{
    ring_get_slot(a, blockIdx.x);
}
UT_KERNEL(advance, cu_advance_args)
{
    if (threadIdx.x < (unsigned)a.slots)
        advance_slot(a, threadIdx.x);
}

/* ---- Loading --------------------------------------------------------------------------------- */

UT_KERNEL(convert, cu_convert_args)
{
    const int64_t i = element();
    if (i >= (int64_t)a.rows * a.ld)
        return;
    const int64_t row = i / a.ld, c = i % a.ld;
    const float v = c < a.cols ? load_element(a.src_type, a.src, (size_t)(row * a.cols + c)) : 0.0f;
    store_element(a.dst_type, a.dst, (size_t)i, v);
}
