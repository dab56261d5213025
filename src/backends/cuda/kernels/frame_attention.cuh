/* frame_attention.cuh - attention inside a frame, with the rotation and the caches in front of it.
 * A task is a slot, a key head and a span of CU_ATT_SPAN positions; spans are counted from
 * position 0, so that what a row's sum adds up does not depend on who else is there. */
#pragma once

#include "backends/cuda/kernels/frame_device.cuh"
#include "backends/cuda/kernels/rotate.cuh"

/* Shared memory of a task, floats. */
struct att_shared {
    float *x;      /* [rows, group + 2, dim]: queries, key, value as they come */
    float *q;      /* [queries, dim] */
    float *weight; /* [queries, CU_ATT_SPAN]: scores, then e^(score - largest) */
    float *top;    /* [queries, 2]: the largest score, the sum of weights */
    float *value;  /* [CU_THREADS, 4] */
    int *last;     /* is this the key head's last block? */
};

/* Counted by CU_ATT_SHARED. */
UT_DEVICE att_shared att_layout(const cu_qkv_args &a, float *xs)
{
    const int queries = a.rows * (a.heads / a.kv_heads);
    att_shared s;
    s.x = xs;
    s.q = s.x + (queries + 2 * a.rows) * a.dim;
    s.weight = s.q + queries * a.dim;
    s.top = s.weight + queries * CU_ATT_SPAN;
    s.value = s.top + queries * 2;
    s.last = (int *)(s.value + CU_THREADS * 4);
    return s;
}

/* Query j of a key head: row j / group, its head j % group. */
struct att_task {
    int slot, kv, span;
    int pos, oldest, newest; /* of row 0; positions that any row sees */
    int group, queries;
};

/* The key head's queries, key and value of all rows. */
UT_DEVICE void att_bring(const cu_frame_attention &p, const att_task &t, const att_shared &s,
                         uint32_t frame)
{
    const cu_qkv_args &a = p.qkv;
    const int cols = (a.heads + 2 * a.kv_heads) * a.dim, each = (t.group + 2) * a.dim;
    for (int i = threadIdx.x; i < a.rows * each; i += CU_THREADS) {
        const int row = i / each, part = i % each / a.dim, d = i % a.dim;
        const int head =
            part < t.group ? t.kv * t.group + part : a.heads + (part - t.group) * a.kv_heads + t.kv;
        const int at = row * cols + head * a.dim + d;
        s.x[i] = p.x_mail ? mail_take_one(p.x_mail + (int64_t)t.slot * a.rows * cols + at, frame)
                          : __ldcg(a.x + t.slot * a.x_slot + at);
    }
}

/* Rotated queries to shared memory, new keys and values of the span to the caches. */
UT_DEVICE void att_rotate(const cu_frame_attention &p, const att_task &t, const att_shared &s)
{
    const cu_qkv_args &a = p.qkv;
    const int warp = threadIdx.x / 32, lane = threadIdx.x % 32, each = (t.group + 2) * a.dim;
    for (int j = warp; j < t.queries + a.rows; j += UT_WARPS) {
        const bool query = j < t.queries;
        const int row = query ? j / t.group : j - t.queries;
        const float *x = s.x + row * each;
        const float *angles = a.angles + t.slot * a.angles_slot + (int64_t)row * a.dim;
        if (query) {
            rotate(a, x + j % t.group * a.dim, a.q_gain, angles, CU_F32, s.q, (int64_t)j * a.dim);
            continue;
        }
        const int at_pos = t.pos + row;
        if (at_pos / CU_ATT_SPAN != t.span)
            continue;
        const int64_t at =
            t.slot * a.cache_slot + ((int64_t)(at_pos % a.capacity) * a.kv_heads + t.kv) * a.dim;
        rotate(a, x + t.group * a.dim, a.k_gain, angles, a.cache_type, a.cache_k, at);
        for (int i = lane; i < a.dim; i += 32)
            store_element(a.cache_type, a.cache_v, (size_t)(at + i), x[(t.group + 1) * a.dim + i]);
    }
}

UT_DEVICE bool att_sees(const cu_frame_attention &p, const att_task &t, int query, int position)
{
    const int pos = t.pos + query / t.group;
    return position <= pos && position > pos - p.reach;
}

/* Scores of all queries at the span's positions: a position to a warp. */
UT_DEVICE void att_scores(const cu_frame_attention &p, const att_task &t, const att_shared &s)
{
    const cu_qkv_args &a = p.qkv;
    const int lane = threadIdx.x % 32, each = CU_ATT_SPAN / UT_WARPS;
    const int first = threadIdx.x / 32 * each;
#pragma unroll 4
    for (int i = first; i < first + each; i++) {
        const int position = t.span * CU_ATT_SPAN + i;
        const bool there = position >= t.oldest && position <= t.newest;
        const int64_t at =
            t.slot * a.cache_slot + ((int64_t)(position % a.capacity) * a.kv_heads + t.kv) * a.dim;
        float k[CU_ATT_DIM / 32];
#pragma unroll
        for (int d = 0; d < CU_ATT_DIM / 32; d++)
            k[d] = there && lane + 32 * d < a.dim
                       ? load_element(a.cache_type, a.cache_k, (size_t)(at + lane + 32 * d))
                       : 0.0f;
        for (int j = 0; j < t.queries; j++) {
            float dot = 0.0f;
#pragma unroll
            for (int d = 0; d < CU_ATT_DIM / 32; d++)
                if (lane + 32 * d < a.dim)
                    dot = fmaf(s.q[j * a.dim + lane + 32 * d], k[d], dot);
            dot = warp_sum(dot);
            if (lane == 0)
                s.weight[j * CU_ATT_SPAN + i] =
                    there && att_sees(p, t, j, position) ? dot * p.scale : -INFINITY;
        }
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

/* Weighted values of four queries from `j0` on: dimensions go to threads, positions to what is left
 * of them; the sums of query j0 + i are value[d * 4 + i] of the first dim threads. */
UT_DEVICE void att_values(const cu_frame_attention &p, const att_task &t, const att_shared &s,
                          int j0)
{
    const cu_qkv_args &a = p.qkv;
    const int d = threadIdx.x % a.dim, side = threadIdx.x / a.dim, sides = CU_THREADS / a.dim;
    float sum[4] = {0.0f, 0.0f, 0.0f, 0.0f};
#pragma unroll 8
    for (int i = side; i < CU_ATT_SPAN; i += sides) {
        const int position = t.span * CU_ATT_SPAN + i;
        if (position < t.oldest || position > t.newest)
            continue;
        const int64_t at =
            t.slot * a.cache_slot + ((int64_t)(position % a.capacity) * a.kv_heads + t.kv) * a.dim;
        const float v = load_element(a.cache_type, a.cache_v, (size_t)(at + d));
#pragma unroll
        for (int j = 0; j < 4; j++)
            if (j0 + j < t.queries)
                sum[j] = fmaf(s.weight[(j0 + j) * CU_ATT_SPAN + i], v, sum[j]);
    }
    __syncthreads(); /* the values before have been read */
#pragma unroll
    for (int j = 0; j < 4; j++)
        s.value[threadIdx.x * 4 + j] = sum[j];
    __syncthreads();
    if (side > 0)
        return;
#pragma unroll
    for (int j = 0; j < 4; j++)
        for (int i = 1; i < sides; i++)
            sum[j] += s.value[(i * a.dim + d) * 4 + j];
#pragma unroll
    for (int j = 0; j < 4; j++)
        s.value[d * 4 + j] = sum[j];
}

UT_DEVICE void att_result(const cu_frame_attention &p, const att_task &t, int query, int d, float v,
                          uint32_t frame)
{
    const cu_qkv_args &a = p.qkv;
    const int row = query / t.group, head = t.kv * t.group + query % t.group;
    const int64_t at = ((int64_t)row * a.heads + head) * a.dim + d;
    if (p.y_mail)
        mail_send(p.y_mail + (int64_t)t.slot * a.rows * a.heads * a.dim + at, v, frame);
    p.y[t.slot * p.y_slot + at] = v;
}

/* What n spans found, to results. */
UT_DEVICE void att_merge(const cu_frame_attention &p, const att_task &t, int n, uint32_t frame)
{
    const int dim = p.qkv.dim, step = t.queries * (2 + dim);
    const float *part =
        p.part + ((int64_t)(t.slot * p.qkv.kv_heads + t.kv) * p.spans) * (int64_t)step;
    for (int i = threadIdx.x; i < t.queries * dim; i += CU_THREADS) {
        const int j = i / dim, d = i % dim;
        float largest = -INFINITY, sum = 0.0f, value = 0.0f;
        for (int k = 0; k < n; k++) {
            const float top = __ldcg(part + k * step + j * (2 + dim));
            largest = top > largest ? top : largest;
        }
        for (int k = 0; k < n; k++) {
            const float *found = part + k * step + j * (2 + dim);
            const float top = __ldcg(found);
            const float scale = top == -INFINITY ? 0.0f : expf(top - largest);
            sum = fmaf(__ldcg(found + 1), scale, sum);
            value = fmaf(__ldcg(found + 2 + d), scale, value);
        }
        att_result(p, t, j, d, value / sum, frame);
    }
}

/* n: spans of the slot, `index` of them this one. */
UT_DEVICE void att_run(const cu_frame_attention &p, const att_task &t, int index, int n,
                       const att_shared &s, uint32_t frame)
{
    const cu_qkv_args &a = p.qkv;
    float *part = p.part + ((int64_t)(t.slot * a.kv_heads + t.kv) * p.spans + index) *
                               (int64_t)(t.queries * (2 + a.dim));
    __syncthreads();
    att_bring(p, t, s, frame);
    __syncthreads();
    att_rotate(p, t, s);
    __syncthreads();
    att_scores(p, t, s);
    __syncthreads();
    att_weights(t, s);
    __syncthreads();
    for (int j0 = 0; j0 < t.queries; j0 += 4) {
        att_values(p, t, s, j0);
        for (int j = j0; j < j0 + 4 && j < t.queries && (int)threadIdx.x < a.dim; j++) {
            const float v = s.value[threadIdx.x * 4 + j - j0];
            if (n == 1) {
                att_result(p, t, j, threadIdx.x, v / s.top[2 * j + 1], frame);
                continue;
            }
            float *found = part + j * (2 + a.dim);
            found[2 + threadIdx.x] = v;
            if (threadIdx.x < 2)
                found[threadIdx.x] = s.top[2 * j + threadIdx.x];
        }
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
    att_merge(p, t, n, frame);
}

/* Task number `task`; false: the slot has not so many spans yet. */
UT_DEVICE bool att_take(const cu_frame_attention &p, int task, att_task *t, int *index, int *n)
{
    const cu_qkv_args &a = p.qkv;
    const int head = task % (a.slots * a.kv_heads);
    *index = task / (a.slots * a.kv_heads);
    t->slot = head / a.kv_heads;
    t->kv = head % a.kv_heads;
    t->group = a.heads / a.kv_heads;
    t->queries = t->group * a.rows;
    t->pos = first_position(a.pos, a.pos_slot, t->slot, a.first_pos);
    t->oldest = t->pos - p.reach + 1 > 0 ? t->pos - p.reach + 1 : 0;
    t->newest = t->pos + a.rows - 1;
    t->span = t->oldest / CU_ATT_SPAN + *index;
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
        const int64_t at =
            t.slot * a.cache_slot + ((int64_t)(position % a.capacity) * a.kv_heads + t.kv) * a.dim;
        const void *cache = i < CU_ATT_SPAN * lines ? a.cache_k : a.cache_v;
        prefetch((const unsigned char *)cache + at * size + i % lines * 128);
    }
}

UT_DEVICE void frame_attention(const cu_frame_attention &p, float *xs, uint32_t frame)
{
    const att_shared s = att_layout(p.qkv, xs);
    const int tasks = p.qkv.slots * p.qkv.kv_heads * p.spans;
    for (int task = (int)blockIdx.x; task < tasks; task += (int)gridDim.x) {
        att_task t;
        int index, n;
        if (att_take(p, task, &t, &index, &n))
            att_run(p, t, index, n, s, frame);
    }
}
