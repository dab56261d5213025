/* frame_attention.cuh - attention inside a frame, with the rotation and the caches in front of it.
 * A task is a slot, a key head and a span of CU_ATT_SPAN positions; spans are counted from
 * position 0, so that what a row's sum adds up does not depend on who else is there. */
#pragma once

#include "backends/cuda/kernels/frame_device.cuh"
#include "backends/cuda/kernels/rotate.cuh"

/* Shared memory of a task, floats. dim is a power of two, so that nothing is divided by it. */
struct att_shared {
    float *x;      /* [rows, group + 2, dim]: queries, key, value as they come */
    float *angles; /* [rows, dim] */
    float *gains;  /* [2, dim]: of queries, of keys */
    float *q;      /* [queries, dim] */
    float *weight; /* [queries, CU_ATT_SPAN]: scores, then e^(score - largest) */
    float *top;    /* [queries, 2]: the largest score, the sum of weights */
    float *value;  /* [ATT_AT_ONCE, CU_THREADS, 4] */
    int *last;     /* is this the key head's last block? */
};

enum { ATT_AT_ONCE = 2 }; /* queries whose values are added up at a time */

/* Counted by CU_ATT_SHARED. */
UT_DEVICE att_shared att_layout(const cu_qkv_args &a, float *xs)
{
    const int queries = a.rows * (a.heads / a.kv_heads);
    att_shared s;
    s.x = xs;
    s.angles = s.x + (queries + 2 * a.rows) * a.dim;
    s.gains = s.angles + a.rows * a.dim;
    s.q = s.gains + 2 * a.dim;
    s.weight = s.q + queries * a.dim;
    s.value = s.weight + queries * CU_ATT_SPAN;
    s.top = s.value + ATT_AT_ONCE * CU_THREADS * 4;
    s.last = (int *)(s.top + queries * 2);
    return s;
}

/* Query j of a key head: row j / group, its head j % group. */
struct att_task {
    int slot, kv, span;
    int pos, oldest, newest; /* of row 0; positions that any row sees */
    int group, queries;
    int first_row; /* of the caches: where the span's first position is */
};

/* Element 0 of the caches' row of the span's position i. */
UT_DEVICE int64_t att_row(const cu_qkv_args &a, const att_task &t, int i)
{
    int row = t.first_row + i;
    while (row >= a.capacity)
        row -= a.capacity;
    return t.slot * a.cache_slot + (int64_t)(row * a.kv_heads + t.kv) * a.dim;
}

/* The nearest position of the span that has been written. */
UT_DEVICE int att_written(const att_task &t, int i)
{
    const int begin = t.oldest - t.span * CU_ATT_SPAN, end = t.newest - t.span * CU_ATT_SPAN;
    return i < begin ? begin : i > end ? end : i;
}

UT_DEVICE float4 att_load(int type, const void *cache, int64_t at)
{
    if (type == CU_F32)
        return *(const float4 *)((const float *)cache + at);
    const uint2 u = *(const uint2 *)((const uint16_t *)cache + at);
    float4 v = {0.0f, 0.0f, 0.0f, 0.0f};
    if (type == CU_BF16) {
        v.x = __uint_as_float(u.x << 16), v.y = __uint_as_float(u.x & 0xffff0000u);
        v.z = __uint_as_float(u.y << 16), v.w = __uint_as_float(u.y & 0xffff0000u);
    }
    return v;
}

UT_DEVICE float dot4(float4 a, float4 b, float sum)
{
    return fmaf(a.w, b.w, fmaf(a.z, b.z, fmaf(a.y, b.y, fmaf(a.x, b.x, sum))));
}

/* The key head's queries, key and value of all rows, and what turns them. */
UT_DEVICE void att_bring(const cu_frame_attention &p, const att_task &t, const att_shared &s,
                         const mail_clock &clock)
{
    const cu_qkv_args &a = p.qkv;
    const int cols = (a.heads + 2 * a.kv_heads) * a.dim, parts = t.group + 2;
    const int n = a.rows * parts * a.dim, shift = 31 - __clz(a.dim);
    for (int i = threadIdx.x; i < a.rows * a.dim; i += CU_THREADS)
        s.angles[i] = __ldcg(a.angles + t.slot * a.angles_slot + i);
    if (a.q_gain && (int)threadIdx.x < 2 * a.dim)
        s.gains[threadIdx.x] = threadIdx.x < (unsigned)a.dim
                                   ? __ldg(a.q_gain + threadIdx.x)
                                   : __ldg(a.k_gain + threadIdx.x - a.dim);
    for (int i = threadIdx.x; i < n; i += CU_THREADS) {
        const int row = a.rows == 1 ? 0 : (i >> shift) / parts;
        const int part = (i >> shift) - row * parts, d = i & (a.dim - 1);
        const int head =
            part < t.group ? t.kv * t.group + part : a.heads + (part - t.group) * a.kv_heads + t.kv;
        const int at = row * cols + head * a.dim + d;
        s.x[i] = p.x_mail ? mail_take_one(p.x_mail + clock.mine + t.slot * a.rows * cols + at,
                                          clock.frame)
                          : __ldcg(a.x + t.slot * a.x_slot + at);
    }
}

/* Rotated queries to shared memory, new keys and values of the span to the caches. */
UT_DEVICE void att_rotate(const cu_frame_attention &p, const att_task &t, const att_shared &s)
{
    const cu_qkv_args &a = p.qkv;
    const int warp = threadIdx.x / 32, lane = threadIdx.x % 32, each = (t.group + 2) * a.dim;
    const float *q_gain = a.q_gain ? s.gains : NULL, *k_gain = a.k_gain ? s.gains + a.dim : NULL;
    for (int j = warp; j < t.queries + 2 * a.rows; j += UT_WARPS) {
        if (j < t.queries) {
            const int row = a.rows == 1 ? 0 : j / t.group;
            rotate(a, s.x + row * each + (j - row * t.group) * a.dim, q_gain,
                   s.angles + row * a.dim, CU_F32, s.q, (int64_t)j * a.dim);
            continue;
        }
        const int row = (j - t.queries) >> 1, i = t.pos + row - t.span * CU_ATT_SPAN;
        if (i < 0 || i >= CU_ATT_SPAN)
            continue;
        const int64_t at = att_row(a, t, i);
        const float *x = s.x + row * each + t.group * a.dim;
        if (((j - t.queries) & 1) == 0)
            rotate(a, x, k_gain, s.angles + row * a.dim, a.cache_type, a.cache_k, at);
        else
            for (int d = lane; d < a.dim; d += 32)
                store_element(a.cache_type, a.cache_v, (size_t)(at + d), x[a.dim + d]);
    }
}

UT_DEVICE bool att_sees(const cu_frame_attention &p, const att_task &t, int query, int position)
{
    const int pos = t.pos + (p.qkv.rows == 1 ? 0 : query / t.group);
    return position <= pos && position > pos - p.reach;
}

/* Scores of all queries at the span's positions: four lanes to a position. */
UT_DEVICE void att_scores(const cu_frame_attention &p, const att_task &t, const att_shared &s)
{
    enum { GROUPS = CU_ATT_DIM / 16 };
    const cu_qkv_args &a = p.qkv;
    const int i = threadIdx.x / 4, d0 = threadIdx.x % 4 * 4; /* CU_THREADS is 4 CU_ATT_SPAN */
    const int position = t.span * CU_ATT_SPAN + i;
    const int64_t at = att_row(a, t, att_written(t, i)) + d0;
    float4 k[GROUPS];
#pragma unroll
    for (int g = 0; g < GROUPS; g++)
        if (g * 16 < a.dim)
            k[g] = att_load(a.cache_type, a.cache_k, at + g * 16);
    for (int j = 0; j < t.queries; j++) {
        const float *q = s.q + j * a.dim + d0;
        float dot[2] = {0.0f, 0.0f};
#pragma unroll
        for (int g = 0; g < GROUPS; g++)
            if (g * 16 < a.dim)
                dot[g % 2] = dot4(*(const float4 *)(q + g * 16), k[g], dot[g % 2]);
        float sum = dot[0] + dot[1];
        sum += __shfl_xor_sync(UT_FULL, sum, 1);
        sum += __shfl_xor_sync(UT_FULL, sum, 2);
        if (threadIdx.x % 4 == 0)
            s.weight[j * CU_ATT_SPAN + i] = att_sees(p, t, j, position) ? sum * p.scale : -INFINITY;
    }
}

UT_DEVICE void att_weights(const att_task &t, const att_shared &s)
{
    const int lane = threadIdx.x % 32;
    for (int j = threadIdx.x / 32; j < t.queries; j += UT_WARPS) {
        float *w = s.weight + j * CU_ATT_SPAN;
        const float w0 = w[lane], w1 = w[lane + 32];
        const float largest = warp_max(w0 > w1 ? w0 : w1);
        const float e0 = w0 == -INFINITY ? 0.0f : expf(w0 - largest);
        const float e1 = w1 == -INFINITY ? 0.0f : expf(w1 - largest);
        const float sum = warp_sum(e0 + e1);
        w[lane] = e0;
        w[lane + 32] = e1;
        if (lane == 0) {
            s.top[2 * j] = largest;
            s.top[2 * j + 1] = sum;
        }
    }
}

/* Values of the span: four dimensions to a thread, and of the positions side, side + sides, ... */
enum { ATT_VALUES = CU_ATT_SPAN * CU_ATT_DIM / 4 / CU_THREADS };

UT_DEVICE void att_bring_values(const cu_frame_attention &p, const att_task &t,
                                float4 v[ATT_VALUES])
{
    const cu_qkv_args &a = p.qkv;
    const int shift = 29 - __clz(a.dim), d = (threadIdx.x & (a.dim / 4 - 1)) * 4;
    const int side = threadIdx.x >> shift, sides = CU_THREADS >> shift;
#pragma unroll
    for (int i = 0; i < ATT_VALUES; i++)
        if (side + i * sides < CU_ATT_SPAN)
            v[i] = att_load(a.cache_type, a.cache_v,
                            att_row(a, t, att_written(t, side + i * sides)) + d);
}

/* This thread's part of the weighted values of queries j0 .. j0 + n - 1. */
UT_DEVICE void att_weigh(const cu_frame_attention &p, const att_shared &s, int j0, int n,
                         const float4 v[ATT_VALUES])
{
    const int shift = 29 - __clz(p.qkv.dim);
    const int side = threadIdx.x >> shift, sides = CU_THREADS >> shift;
    for (int j = 0; j < n; j++) {
        float4 sum = {0.0f, 0.0f, 0.0f, 0.0f};
#pragma unroll
        for (int i = 0; i < ATT_VALUES; i++)
            if (side + i * sides < CU_ATT_SPAN) {
                const float w = s.weight[(j0 + j) * CU_ATT_SPAN + side + i * sides];
                sum.x = fmaf(w, v[i].x, sum.x), sum.y = fmaf(w, v[i].y, sum.y);
                sum.z = fmaf(w, v[i].z, sum.z), sum.w = fmaf(w, v[i].w, sum.w);
            }
        *(float4 *)(s.value + (j * CU_THREADS + threadIdx.x) * 4) = sum;
    }
}

UT_DEVICE void att_result(const cu_frame_attention &p, const att_task &t, int query, int d, float v,
                          const mail_clock &clock)
{
    const cu_qkv_args &a = p.qkv;
    const int row = a.rows == 1 ? 0 : query / t.group;
    const int head = t.kv * t.group + query - row * t.group;
    const int at = (row * a.heads + head) * a.dim + d;
    if (p.y_mail)
        mail_send(p.y_mail + t.slot * a.rows * a.heads * a.dim + at, v, clock);
    p.y[t.slot * p.y_slot + at] = v;
}

/* What n spans found, to results. */
UT_DEVICE void att_merge(const cu_frame_attention &p, const att_task &t, int n,
                         const mail_clock &clock)
{
    const int dim = p.qkv.dim, step = t.queries * (2 + dim), shift = 31 - __clz(dim);
    const float *part =
        p.part + ((int64_t)(t.slot * p.qkv.kv_heads + t.kv) * p.spans) * (int64_t)step;
    for (int i = threadIdx.x; i < t.queries * dim; i += CU_THREADS) {
        const int j = i >> shift, d = i & (dim - 1);
        const float *mine = part + j * (2 + dim);
        float largest = -INFINITY, sum = 0.0f, value = 0.0f;
#pragma unroll 4
        for (int k = 0; k < n; k++) {
            const float top = __ldcg(mine + k * step);
            largest = top > largest ? top : largest;
        }
#pragma unroll 4
        for (int k = 0; k < n; k++) {
            const float *found = mine + k * step;
            const float top = __ldcg(found), its = __ldcg(found + 1), v = __ldcg(found + 2 + d);
            const float scale = top == -INFINITY ? 0.0f : expf(top - largest);
            sum = fmaf(its, scale, sum);
            value = fmaf(v, scale, value);
        }
        att_result(p, t, j, d, value / sum, clock);
    }
}

/* n: spans of the slot, `index` of them this one. */
UT_DEVICE void att_run(const cu_frame_attention &p, const att_task &t, int index, int n,
                       const att_shared &s, const mail_clock &clock)
{
    const cu_qkv_args &a = p.qkv;
    float *part = p.part + ((int64_t)(t.slot * a.kv_heads + t.kv) * p.spans + index) *
                               (int64_t)(t.queries * (2 + a.dim));
    const int shift = 31 - __clz(a.dim), sides = CU_THREADS * 4 >> shift;
    float4 v[ATT_VALUES];
    __syncthreads();
    att_bring(p, t, s, clock);
    __syncthreads();
    att_rotate(p, t, s);
    __syncthreads();
    att_bring_values(p, t, v);
    att_scores(p, t, s);
    __syncthreads();
    att_weights(t, s);
    __syncthreads();
    for (int j0 = 0; j0 < t.queries; j0 += ATT_AT_ONCE) {
        const int these = t.queries - j0 < ATT_AT_ONCE ? t.queries - j0 : ATT_AT_ONCE;
        att_weigh(p, s, j0, these, v);
        __syncthreads();
        for (int i = threadIdx.x; i < these * a.dim; i += CU_THREADS) {
            const int j = i >> shift, d = i & (a.dim - 1);
            float sum = 0.0f;
            for (int k = 0; k < sides; k++)
                sum += s.value[j * CU_THREADS * 4 + k * a.dim + d];
            if (n == 1) {
                att_result(p, t, j0 + j, d, sum / s.top[2 * (j0 + j) + 1], clock);
                continue;
            }
            float *found = part + (j0 + j) * (2 + a.dim);
            found[2 + d] = sum;
            if (d < 2)
                found[d] = s.top[2 * (j0 + j) + d];
        }
        __syncthreads();
    }
    if (n == 1)
        return;
    uint32_t *arrived = p.arrived + t.slot * a.kv_heads + t.kv;
    __threadfence();
    __syncthreads();
    if (threadIdx.x == 0) {
        *s.last = atomicAdd(arrived, 1) == (uint32_t)n - 1;
        if (*s.last)
            *arrived = 0;
    }
    __syncthreads();
    if (!*s.last)
        return;
    __threadfence();
    att_merge(p, t, n, clock);
}

/* Task number `task`; false: the slot has not so many spans yet. */
UT_DEVICE bool att_take(const cu_frame_attention &p, int task, att_task *t, int *index, int *n)
{
    const cu_qkv_args &a = p.qkv;
    const int heads = a.slots * a.kv_heads;
    *index = 0;
    for (; task >= heads; ++*index)
        task -= heads;
    t->slot = a.slots == 1 ? 0 : task / a.kv_heads;
    t->kv = task - t->slot * a.kv_heads;
    t->group = p.group;
    t->queries = t->group * a.rows;
    t->pos = first_position(a.pos, a.pos_slot, t->slot, a.first_pos);
    t->oldest = t->pos - p.reach + 1 > 0 ? t->pos - p.reach + 1 : 0;
    t->newest = t->pos + a.rows - 1;
    t->span = t->oldest / CU_ATT_SPAN + *index;
    t->first_row = t->span * CU_ATT_SPAN;
    if (t->first_row >= a.capacity)
        t->first_row %= a.capacity;
    *n = t->newest / CU_ATT_SPAN - t->oldest / CU_ATT_SPAN + 1;
    return *index < *n;
}

/* Before the phase: the caches' rows of this block's first task are wanted soon. */
UT_DEVICE void att_prefetch(const cu_frame_attention &p)
{
    const cu_qkv_args &a = p.qkv;
    att_task t;
    int index, n;
    if ((int)blockIdx.x >= a.slots * a.kv_heads * p.spans ||
        !att_take(p, (int)blockIdx.x, &t, &index, &n))
        return;
    const int size = a.cache_type == CU_F32 ? 4 : 2, lines = (a.dim * size + 127) / 128;
    for (int i = threadIdx.x; i < 2 * CU_ATT_SPAN * lines; i += CU_THREADS) {
        const int position = t.span * CU_ATT_SPAN + i / lines % CU_ATT_SPAN;
        if (position < t.oldest || position >= t.pos)
            continue;
        const int64_t at = att_row(a, t, position - t.span * CU_ATT_SPAN);
        const void *cache = i < CU_ATT_SPAN * lines ? a.cache_k : a.cache_v;
        prefetch((const unsigned char *)cache + at * size + i % lines * 128);
    }
}

UT_DEVICE_CALLED void frame_attention(const cu_frame_attention &p, float *xs,
                                      const mail_clock &clock)
{
    const att_shared s = att_layout(p.qkv, xs);
    const int tasks = p.qkv.slots * p.qkv.kv_heads * p.spans;
    for (int task = (int)blockIdx.x; task < tasks; task += (int)gridDim.x) {
        att_task t;
        int index, n;
        if (att_take(p, task, &t, &index, &n))
            att_run(p, t, index, n, s, clock);
    }
}
