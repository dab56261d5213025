/* rows.cu - norms, element-wise steps, depthwise convolution, copies, look-ups, rotary angles,
 * counters, and conversion of weights. */
#include "backends/cuda/kernels/device.cuh"

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
    const int slot = blockIdx.x / a.rows, row = blockIdx.x % a.rows;
    const float *x = a.x + slot * a.x_slot + (int64_t)row * a.cols;
    float *y = a.y + slot * a.y_slot + (int64_t)row * a.cols;
    const float mean_sq = sum_of_squares(x, 0.0f, a.cols, scratch) / (float)a.cols;
    const float scale = 1.0f / sqrtf(mean_sq + a.eps);
    for (int c = threadIdx.x; c < a.cols; c += CU_THREADS)
        y[c] = x[c] * scale * a.gain[c];
}

UT_KERNEL(layer_norm, cu_norm_args)
{
    UT_SHARED(float, scratch);
    const int slot = blockIdx.x / a.rows, row = blockIdx.x % a.rows;
    const float *x = a.x + slot * a.x_slot + (int64_t)row * a.cols;
    float *y = a.y + slot * a.y_slot + (int64_t)row * a.cols;
    float s = 0.0f;
    for (int c = threadIdx.x; c < a.cols; c += CU_THREADS)
        s += x[c];
    const float mean = block_sum(s, scratch) / (float)a.cols;
    const float var = sum_of_squares(x, mean, a.cols, scratch) / (float)a.cols;
    const float scale = 1.0f / sqrtf(var + a.eps);
    for (int c = threadIdx.x; c < a.cols; c += CU_THREADS)
        y[c] = fmaf((x[c] - mean) * scale, a.gain[c], a.bias[c]);
}

/* ---- Element by element ---------------------------------------------------------------------- *
 * blockIdx.y is the slot, the elements of its rows are counted through. */

UT_KERNEL(swiglu, cu_map_args)
{
    const int64_t i = element();
    if (i >= (int64_t)a.rows * a.cols)
        return;
    const float *x = a.x + blockIdx.y * a.x_slot + i / a.cols * 2 * a.cols + i % a.cols;
    a.y[blockIdx.y * a.y_slot + i] = silu(x[0]) * x[a.cols];
}

UT_KERNEL(snake, cu_map_args)
{
    const int64_t i = element();
    if (i < (int64_t)a.rows * a.cols)
        a.y[blockIdx.y * a.y_slot + i] =
            snake(a.x[blockIdx.y * a.x_slot + i], a.alpha[i % a.cols], a.beta[i % a.cols]);
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

/* ---- Looking up: a block to a row ------------------------------------------------------------ */

UT_DEVICE int32_t clamp(int64_t v, int32_t lo, int32_t hi)
{
    return v < lo ? lo : v > hi ? hi : (int32_t)v;
}

UT_KERNEL(embed_sum, cu_embed_args)
{
    const int slot = blockIdx.x / a.rows, row = blockIdx.x % a.rows;
    const int32_t *ids = a.ids + slot * a.ids_slot + (int64_t)row * a.n_ids;
    float *y = a.y + slot * a.y_slot + (int64_t)row * a.dim;
    const size_t first = (size_t)clamp(ids[0], 0, a.e_rows - 1) * a.e_ld;
    const bool coded = ids[0] >= a.begin && ids[0] <= a.end;
    for (int c = threadIdx.x; c < a.dim; c += CU_THREADS) {
        float v = load_element(a.e_type, a.e, first + c), sum = 0.0f;
        if (coded) {
            for (int i = 0; i + 1 < a.n_ids; i++) {
                const int32_t id =
                    clamp(ids[i + 1] + (int64_t)i * a.codebook_size, 0, a.ce_rows - 1);
                sum += load_element(a.ce_type, a.ce, (size_t)id * a.ce_ld + c);
            }
            v = (v + sum) * a.scale;
        }
        y[c] = v;
    }
}

UT_KERNEL(gather, cu_gather_args)
{
    const int slot = blockIdx.x / a.rows, row = blockIdx.x % a.rows;
    const int32_t *ids = a.ids + slot * a.ids_slot + (int64_t)row * a.ids_cols;
    float *y = a.y + slot * a.y_slot + (int64_t)row * a.n_cols * a.dim;
    for (int i = threadIdx.x; i < a.n_cols * a.dim; i += CU_THREADS) {
        const int j = i / a.dim;
        const int32_t entry = a.range[2 * j] + clamp(ids[j], 0, a.range[2 * j + 1] - 1);
        y[i] = load_element(a.type, a.table, (size_t)entry * a.ld + i % a.dim);
    }
}

UT_KERNEL(gather_sum, cu_gather_sum_args)
{
    const int slot = blockIdx.x / a.rows, row = blockIdx.x % a.rows;
    const int32_t *ids = a.ids + slot * a.ids_slot + (int64_t)row * a.ids_cols;
    const int64_t at = (int64_t)row * a.dim;
    for (int c = threadIdx.x; c < a.dim; c += CU_THREADS) {
        float v = a.residual ? a.residual[slot * a.residual_slot + at + c] : 0.0f;
        for (int j = 0; j < a.n_cols; j++) {
            const int32_t id = ids[j];
            if (id >= 0) {
                const int32_t entry = a.range[2 * j] + clamp(id, 0, a.range[2 * j + 1] - 1);
                v += a.scale * load_element(a.type, a.table, (size_t)entry * a.ld + c);
            } else if (id == -2 && a.extra) { /* UT_ID_EXTRA */
                v += a.scale * a.extra[slot * a.extra_slot + c];
            }
        }
        a.y[slot * a.y_slot + at + c] = v;
    }
}

/* ---- Angles, counters ------------------------------------------------------------------------ */

/* blockIdx.y is the slot; a pair to a thread. The angle is one f32 product; sine and cosine are
 * taken in f64, so that they are rounded once. */
UT_KERNEL(rope_angles, cu_angles_args)
{
    const int64_t i = element();
    const int half = a.dim / 2, slot = blockIdx.y;
    if (i >= (int64_t)a.rows * half)
        return;
    const int32_t pos = first_position(a.pos, a.pos_slot, slot, a.first_pos) + (int32_t)(i / half);
    const double angle = (double)((float)pos * a.frequency[i % half]);
    float c = (float)cos(angle), s = (float)sin(angle);
    if (a.round_bf16) {
        c = bf16_to_f32(f32_to_bf16(c));
        s = bf16_to_f32(f32_to_bf16(s));
    }
    float *y = a.y + slot * a.y_slot + 2 * i;
    y[0] = c;
    y[1] = s;
}

UT_KERNEL(token_code, cu_token_code_args)
{
    const int slot = threadIdx.x;
    if (slot >= a.slots)
        return;
    int32_t *column = a.column + slot * a.column_slot;
    column[1] = clamp((int64_t)column[0] - a.begin, 0, a.n_codes - 1);
}

/* A block to a slot. The row's copy on the host is complete before its stamp says so. */
UT_KERNEL(ring_put, cu_ring_args)
{
    const int slot = blockIdx.x;
    const int32_t frame = a.frame[slot * a.frame_slot];
    if (frame < 0)
        return;
    const int32_t *column = a.column + slot * a.column_slot;
    const int row = frame % a.ring_rows;
    int32_t *ring = a.ring + slot * a.ring_slot + (int64_t)row * a.cols;
    int32_t *mirror = a.mirror + ((int64_t)slot * a.ring_rows + row) * a.cols;
    for (int c = threadIdx.x; c < a.cols; c += CU_THREADS) {
        ring[c] = column[c];
        mirror[c] = column[c];
        if (a.history && frame >= 1)
            a.history[slot * a.history_slot + (int64_t)((frame - 1) % a.history_rows) * a.cols +
                      c] = column[c];
    }
    __threadfence_system();
    __syncthreads();
    if (threadIdx.x == 0)
        *(volatile uint64_t *)(a.stamp + (int64_t)slot * a.ring_rows + row) =
            (uint64_t)a.epoch[slot] << 32 | (uint32_t)(frame + 1);
}

UT_KERNEL(ring_get, cu_ring_get_args)
{
    const int slot = blockIdx.x;
    const int64_t at = (int64_t)a.counter[slot * a.counter_slot] + a.offset;
    const int32_t *ring = a.ring + slot * a.ring_slot + (at < 0 ? 0 : at % a.ring_rows) * a.cols;
    for (int c = threadIdx.x; c < a.cols; c += CU_THREADS)
        a.y[slot * a.y_slot + c] = (int32_t)((uint32_t)ring[c] + (uint32_t)a.add);
}

UT_KERNEL(advance, cu_advance_args)
{
    const int slot = threadIdx.x;
    const uint32_t by = a.by + (a.n_t ? a.per_t * (uint32_t)*a.n_t : 0);
    if (slot < a.slots)
        a.counter[slot * a.counter_slot] =
            (int32_t)((uint32_t)a.counter[slot * a.counter_slot] + by);
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
