/* slots.cuh - looking up, angles, counters, rings: what one slot, row or pair of them needs. */
#pragma once

#include "backends/cuda/kernels/device.cuh"

/* ---- Looking up: a row, by a block ------------------------------------------------------------
 */

UT_DEVICE int32_t clamp(int64_t v, int32_t lo, int32_t hi)
{
    return v < lo ? lo : v > hi ? hi : (int32_t)v;
}

/* Is every group of n elements from here on, and from a multiple of n on, in one piece? */
UT_DEVICE bool in_groups(const void *table, int ld, int dim, int n, const float *y)
{
    return ((uintptr_t)table | (uintptr_t)y) % 16 == 0 && (ld | dim) % n == 0;
}

/* Rows of a sum that are on their way at a time. */
enum { ROWS_AT_ONCE = 8 };

/* Elements first .. first + n - 1 of a table, by a block, in as few trips as there can be. */
template <int TYPE> UT_DEVICE void copy_row(const void *table, size_t first, float *y, int n)
{
    const int N = group<TYPE>::N;
    for (int c = N * threadIdx.x; c < n; c += N * CU_THREADS) {
        float f[N];
        group<TYPE>::load(table, first + c, f);
        store_group(y + c, f);
    }
}

/* What embed_sum_row does, four elements at a time, of tables of one type. */
template <int TYPE>
UT_DEVICE void embed_sum_fours(const cu_embed_args &a, const int32_t *ids, size_t first, bool coded,
                               float *y)
{
    const int SIZE = TYPE == CU_F32 ? 4 : 2;
    const unsigned char *e = (const unsigned char *)a.e, *ce = (const unsigned char *)a.ce;
    for (int c = 4 * threadIdx.x; c < a.dim; c += 4 * CU_THREADS) {
        float v[4], sum[4] = {};
        read_four<TYPE>(e + SIZE * (first + c), v);
        for (int i = 1; coded && i < a.n_ids; i += ROWS_AT_ONCE) {
            float f[ROWS_AT_ONCE][4];
#pragma unroll
            for (int j = 0; j < ROWS_AT_ONCE; j++) {
                const int col = i + j < a.n_ids ? i + j : i;
                const int64_t id = ids[col] + (int64_t)(col - 1) * a.codebook_size;
                read_four<TYPE>(ce + SIZE * ((size_t)clamp(id, 0, a.ce_rows - 1) * a.ce_ld + c),
                                f[j]);
            }
#pragma unroll
            for (int j = 0; j < ROWS_AT_ONCE; j++)
#pragma unroll
                for (int k = 0; k < 4; k++)
                    sum[k] += i + j < a.n_ids ? f[j][k] : 0.0f;
        }
#pragma unroll
        for (int k = 0; k < 4; k++)
            v[k] = coded ? (v[k] + sum[k]) * a.scale : v[k];
        store_group(y + c, v);
    }
}

UT_DEVICE void embed_sum_row(const cu_embed_args &a, int slot, int row)
{
    const int32_t *ids = a.ids + slot * a.ids_slot + (int64_t)row * a.n_ids;
    float *y = a.y + slot * a.y_slot + (int64_t)row * a.dim;
    const size_t first = (size_t)clamp(ids[0], 0, a.e_rows - 1) * a.e_ld;
    const bool coded = ids[0] >= a.begin && ids[0] <= a.end;
    if (a.e_type == CU_BF16 && a.ce_type == CU_BF16 && in_groups(a.e, a.e_ld, a.dim, 8, y) &&
        in_groups(a.ce, a.ce_ld, a.dim, 8, y)) {
        embed_sum_fours<CU_BF16>(a, ids, first, coded, y);
        return;
    }
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

UT_DEVICE void gather_row(const cu_gather_args &a, int slot, int row)
{
    const int32_t *ids = a.ids + slot * a.ids_slot + (int64_t)row * a.ids_cols;
    uint16_t *y16 = a.y16 + ((int64_t)slot * a.rows + row) * a.ldy;
    for (int j = 0; j < a.n_cols; j++) {
        float *y = a.y + slot * a.y_slot + ((int64_t)row * a.n_cols + j) * a.dim;
        const int32_t entry = a.range[2 * j] + clamp(ids[j], 0, a.range[2 * j + 1] - 1);
        const size_t first = (size_t)entry * a.ld;
        if (a.y16 || !in_groups(a.table, a.ld, a.dim, a.type == CU_F32 ? 4 : 8, y))
            for (int c = threadIdx.x; c < a.dim; c += CU_THREADS) {
                const float v = load_element(a.type, a.table, first + c);
                if (a.y)
                    y[c] = v;
                if (a.y16)
                    y16[j * a.dim + c] = f32_to_bf16(v);
            }
        else if (a.type == CU_F32)
            copy_row<CU_F32>(a.table, first, y, a.dim);
        else if (a.type == CU_BF16)
            copy_row<CU_BF16>(a.table, first, y, a.dim);
        else
            copy_row<CU_F16>(a.table, first, y, a.dim);
    }
}

/* What gather_sum_row does, four elements at a time. */
template <int TYPE>
UT_DEVICE void gather_sum_fours(const cu_gather_sum_args &a, const int32_t *ids,
                                const float *residual, const float *extra, float *y)
{
    const int SIZE = TYPE == CU_F32 ? 4 : 2;
    for (int c = 4 * threadIdx.x; c < a.dim; c += 4 * CU_THREADS) {
        float v[4];
#pragma unroll
        for (int k = 0; k < 4; k++)
            v[k] = residual ? residual[c + k] : 0.0f;
        for (int i = 0; i < a.n_cols; i += ROWS_AT_ONCE) {
            int32_t id[ROWS_AT_ONCE];
            float f[ROWS_AT_ONCE][4];
#pragma unroll
            for (int j = 0; j < ROWS_AT_ONCE; j++) {
                const int col = i + j < a.n_cols ? i + j : i;
                id[j] = i + j < a.n_cols ? ids[col] : -1;
                const int32_t entry = a.range[2 * col] + clamp(id[j], 0, a.range[2 * col + 1] - 1);
                read_four<TYPE>((const unsigned char *)a.table + SIZE * ((size_t)entry * a.ld + c),
                                f[j]);
            }
#pragma unroll
            for (int j = 0; j < ROWS_AT_ONCE; j++)
#pragma unroll
                for (int k = 0; k < 4; k++)
                    if (id[j] >= 0)
                        v[k] += a.scale * f[j][k];
                    else if (id[j] == -2 && extra) /* UT_ID_EXTRA */
                        v[k] += a.scale * extra[c + k];
        }
        store_group(y + c, v);
    }
}

UT_DEVICE void gather_sum_row(const cu_gather_sum_args &a, int slot, int row)
{
    const int32_t *ids = a.ids + slot * a.ids_slot + (int64_t)row * a.ids_cols;
    const int64_t at = (int64_t)row * a.dim;
    if (a.type == CU_BF16 && in_groups(a.table, a.ld, a.dim, 8, a.y + slot * a.y_slot + at)) {
        gather_sum_fours<CU_BF16>(
            a, ids, a.residual ? a.residual + slot * a.residual_slot + at : NULL,
            a.extra ? a.extra + slot * a.extra_slot : NULL, a.y + slot * a.y_slot + at);
        return;
    }
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

/* ---- Norm: a row, by a block ------------------------------------------------------------------
 */

/* scratch: [UT_WARPS] of shared memory. */
UT_DEVICE void rms_norm_row(const cu_norm_args &a, int slot, int row, float *scratch)
{
    const float *x = a.x + slot * a.x_slot + (int64_t)row * a.cols;
    const int64_t y = slot * a.y_slot + (int64_t)row * a.cols;
    float s = 0.0f;
    uint16_t *y16 = a.y16 + ((int64_t)slot * a.rows + row) * a.ldy;
    for (int c = threadIdx.x; c < a.cols; c += CU_THREADS)
        s = fmaf(x[c], x[c], s);
    const float scale = 1.0f / sqrtf(block_sum(s, scratch) / (float)a.cols + a.eps);
    for (int c = threadIdx.x; c < a.cols; c += CU_THREADS) {
        const float v = x[c] * scale * a.gain[c];
        if (a.y)
            store_result(a.y_type, a.y, y + c, v);
        if (a.y16)
            y16[c] = f32_to_bf16(v);
    }
}

/* ---- Angles, counters ------------------------------------------------------------------------ */

/* Pair i of all rows, by a thread. The angle is one f32 product; sine and cosine are
 * taken in f64, so that they are rounded once. */
UT_DEVICE void rope_angles_pair(const cu_angles_args &a, int slot, int i)
{
    const int half = a.dim / 2;
    const int32_t pos = first_position(a.pos, a.pos_slot, slot, a.first_pos) + i / half;
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

UT_DEVICE void token_code_slot(const cu_token_code_args &a, int slot)
{
    int32_t *column = a.column + slot * a.column_slot;
    column[1] = clamp((int64_t)column[0] - a.begin, 0, a.n_codes - 1);
}

/* By a block. The row's copy on the host is complete before its stamp says so. */
UT_DEVICE void ring_put_slot(const cu_ring_args &a, int slot)
{
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
    block_meet();
    if (threadIdx.x == 0)
        *(volatile uint64_t *)(a.stamp + (int64_t)slot * a.ring_rows + row) =
            (uint64_t)a.epoch[slot] << 32 | (uint32_t)(frame + 1);
}

UT_DEVICE void ring_get_slot(const cu_ring_get_args &a, int slot)
{
    const int64_t at = (int64_t)a.counter[slot * a.counter_slot] + a.offset;
    const int32_t *ring = a.ring + slot * a.ring_slot + (at < 0 ? 0 : at % a.ring_rows) * a.cols;
    for (int c = threadIdx.x; c < a.cols; c += CU_THREADS)
        a.y[slot * a.y_slot + c] = (int32_t)((uint32_t)ring[c] + (uint32_t)a.add);
}

UT_DEVICE void advance_slot(const cu_advance_args &a, int slot)
{
    const uint32_t by = a.by + (a.n_t ? a.per_t * (uint32_t)*a.n_t : 0);
    a.counter[slot * a.counter_slot] = (int32_t)((uint32_t)a.counter[slot * a.counter_slot] + by);
}
