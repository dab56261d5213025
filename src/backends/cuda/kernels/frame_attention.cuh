/* frame_attention.cuh - attention inside a frame, with the rotation and the caches in front of it,
 * in plain arithmetic: a warp has positions warp, warp + UT_WARPS, ... of its span
 * (frame_tasks.cuh), a lane four dimensions of each.
 *
 * A task waits for x and for nothing else: rows of the caches are on their way before it looks for
 * x. They were written by earlier launches, or by this block in an earlier phase, as a position's
 * block is the same all frame long (att_all) and its threads meet between phases. The rows that
 * this phase adds come from x itself. */
#pragma once

#include "backends/cuda/kernels/frame_brief.cuh"
#include "backends/cuda/kernels/frame_spans.cuh"
#include "backends/cuda/kernels/frame_tasks.cuh"

enum { ATT_SCORES = CU_ATT_SCORES }; /* positions times queries */
enum { ATT_EACH = CU_ATT_SPAN / UT_WARPS };
enum { ATT_PAIR = ATT_SCORES / ATT_EACH };

/* Shared memory of a task. dim is a power of two, so that nothing is divided by it. */
struct att_shared {
    float *q;      /* [queries, dim], turned */
    float *fresh;  /* [rows, 2, dim]: this phase's keys and values, as the caches keep them */
    float *value;  /* [UT_WARPS, queries, dim]: of each warp's positions */
    float *top;    /* [UT_WARPS, queries, 2]: the largest score, the sum of weights */
    float *weight; /* [UT_WARPS, ATT_SCORES] */
};

/* Counted by CU_ATT_SHARED. */
UT_DEVICE att_shared att_layout(const cu_qkv_args &a, int queries, float *xs)
{
    att_shared s;
    s.q = xs;
    s.fresh = s.q + queries * a.dim;
    s.value = s.fresh + 2 * a.rows * a.dim;
    s.top = s.value + UT_WARPS * queries * a.dim;
    s.weight = s.top + UT_WARPS * queries * 2;
    return s;
}

UT_DEVICE int att_row_of(const att_task &t, int query)
{
    return t.queries == t.group ? 0 : query / t.group;
}

/* Element 0 of the caches' row of the span's position i. */
UT_DEVICE int64_t att_place(const cu_qkv_args &a, const att_task &t, int i)
{
    int row = t.first_row + i;
    while (row >= a.capacity)
        row -= a.capacity;
    return t.slot * a.cache_slot + (int64_t)(row * a.kv_heads + t.kv) * a.dim;
}

UT_DEVICE bool att_sees(const cu_frame_attention &p, const att_task &t, int query, int position)
{
    const int pos = t.pos + att_row_of(t, query);
    return position <= pos && position > pos - p.reach;
}

UT_DEVICE float dot4(float4 a, float4 b, float sum)
{
    return fmaf(a.w, b.w, fmaf(a.z, b.z, fmaf(a.y, b.y, fmaf(a.x, b.x, sum))));
}

/* Four numbers as a cache keeps them. Past the first-level cache: another block may have written
 * what is beside them. */
template <int TYPE> struct att_four {
    uint2 u;
    UT_DEVICE_MEMBER void load(const void *cache, int64_t at)
    {
        u = __ldcg((const uint2 *)((const uint16_t *)cache + at));
    }
    UT_DEVICE_MEMBER void store(void *cache, int64_t at) const
    {
        *(uint2 *)((uint16_t *)cache + at) = u;
    }
    UT_DEVICE_MEMBER void set(float4 v)
    {
        u.x = f32_to_bf16(v.x) | (uint32_t)f32_to_bf16(v.y) << 16;
        u.y = f32_to_bf16(v.z) | (uint32_t)f32_to_bf16(v.w) << 16;
    }
    UT_DEVICE_MEMBER float4 get(void) const
    {
        const float4 v = {__uint_as_float(u.x << 16), __uint_as_float(u.x & 0xffff0000u),
                          __uint_as_float(u.y << 16), __uint_as_float(u.y & 0xffff0000u)};
        return v;
    }
};
template <> struct att_four<CU_F32> {
    float4 v;
    UT_DEVICE_MEMBER void load(const void *cache, int64_t at)
    {
        v = __ldcg((const float4 *)((const float *)cache + at));
    }
    UT_DEVICE_MEMBER void store(void *cache, int64_t at) const
    {
        *(float4 *)((float *)cache + at) = v;
    }
    UT_DEVICE_MEMBER void set(float4 f) { v = f; }
    UT_DEVICE_MEMBER float4 get(void) const { return v; }
};

/* Rows of a cache that were there before this phase: the span's positions first, first + step, ...;
 * all others are 0. */
template <int TYPE, int N>
UT_DEVICE void att_bring_rows(const cu_qkv_args &a, const att_task &t, const void *cache, int first,
                              int step, att_four<TYPE> rows[N])
{
    const int d = thread() % 32 * 4, base = t.span * CU_ATT_SPAN;
    const float4 zero = {0.0f, 0.0f, 0.0f, 0.0f};
#pragma unroll
    for (int u = 0; u < N; u++) {
        const int i = first + u * step;
        rows[u].set(zero);
        if (base + i >= t.oldest && base + i < t.pos && d < a.dim)
            rows[u].load(cache, att_place(a, t, i) + d);
    }
}

/* ---- Heads of x ------------------------------------------------------------------------------ */

/* A head of a row of x on its way to a warp. */
struct att_head {
    int64_t at; /* of this lane's dimensions in x, or in its mail */
    mail_look<4> four;
};

/* Cosines and sines of this lane's dimensions. */
struct att_angles {
    float4 e, f;
};

UT_DEVICE att_head att_look(const cu_frame_attention &p, const att_task &t, int row, int head,
                            const mail_clock &clock)
{
    const cu_qkv_args &a = p.qkv;
    const int d = thread() % 32 * 4, columns = (a.heads + 2 * a.kv_heads) * a.dim;
    att_head h = {row * columns + head * a.dim + d, {{0, 0, 0, 0}}};
    if (p.x_mail)
        h.at += clock.mine + (int64_t)t.slot * a.rows * columns;
    if (p.x_mail && d < a.dim)
        h.four.at(p.x_mail + h.at);
    return h;
}

/* Which no other phase is at work on. */
UT_DEVICE att_angles att_bring_angles(const cu_qkv_args &a, const att_task &t, int row)
{
    const int d = thread() % 32 * 4, from = a.halves ? 2 * (d & (a.dim / 2 - 1)) : d;
    const float *angles = a.angles + t.slot * a.angles_slot + row * a.dim;
    att_angles r = {{0.0f, 0.0f, 0.0f, 0.0f}, {0.0f, 0.0f, 0.0f, 0.0f}};
    if (d < a.dim)
        r.e = __ldcg((const float4 *)(angles + from));
    if (d < a.dim && a.halves)
        r.f = __ldcg((const float4 *)(angles + from + 4));
    return r;
}

/* Of the heads' norm; 0 where there is none. */
UT_DEVICE float4 att_bring_gain(const cu_qkv_args &a, const float *gain)
{
    const int d = thread() % 32 * 4;
    float4 g = {0.0f, 0.0f, 0.0f, 0.0f};
    if (gain && d < a.dim)
        g = __ldg((const float4 *)(gain + d));
    return g;
}

UT_DEVICE float4 att_take_x(const cu_frame_attention &p, const att_task &t, att_head h,
                            const mail_clock &clock)
{
    float4 x = {0.0f, 0.0f, 0.0f, 0.0f};
    if (thread() % 32 * 4 >= p.qkv.dim)
        return x;
    if (p.x_mail) {
        h.four.wait(p.x_mail + h.at, clock.frame);
        x.x = h.four[0], x.y = h.four[1], x.z = h.four[2], x.w = h.four[3];
        return x;
    }
    return __ldcg((const float4 *)(p.qkv.x + t.slot * p.qkv.x_slot + h.at));
}

/* x times its norm and gain, turned by the angles. */
UT_DEVICE float4 att_turn(const cu_qkv_args &a, float4 x, bool normed, float4 gain,
                          const att_angles &angles)
{
    if (normed) {
        const float share = 1.0f / (float)a.dim;
        const float scale = 1.0f / sqrtf(warp_sum(dot4(x, x, 0.0f)) * share + a.eps);
        x.x = x.x * scale * gain.x, x.y = x.y * scale * gain.y;
        x.z = x.z * scale * gain.z, x.w = x.w * scale * gain.w;
    }
    const float4 e = angles.e, f = angles.f;
    float4 y = {0.0f, 0.0f, 0.0f, 0.0f};
    if (a.halves) { /* the other half is so many lanes away */
        const int away = a.dim / 8;
        const float sign = thread() & away ? 1.0f : -1.0f;
        y.x = x.x * e.x + sign * __shfl_xor_sync(UT_FULL, x.x, away) * e.y;
        y.y = x.y * e.z + sign * __shfl_xor_sync(UT_FULL, x.y, away) * e.w;
        y.z = x.z * f.x + sign * __shfl_xor_sync(UT_FULL, x.z, away) * f.y;
        y.w = x.w * f.z + sign * __shfl_xor_sync(UT_FULL, x.w, away) * f.w;
    } else {
        y.x = x.x * e.x - x.y * e.y, y.y = x.y * e.x + x.x * e.y;
        y.z = x.z * e.z - x.w * e.w, y.w = x.w * e.z + x.z * e.w;
    }
    const float4 none = {0.0f, 0.0f, 0.0f, 0.0f};
    return thread() % 32 * 4 < a.dim ? y : none;
}

/* ---- A warp's positions ---------------------------------------------------------------------- */

/* Of 2 N sums a lane keeps N, and gets those of a lane that keeps the others. */
template <int N> UT_DEVICE void att_halve(float *s)
{
    const bool upper = (thread() & (2 * N)) != 0;
#pragma unroll
    for (int i = 0; i < N; i++) {
        const float give = upper ? s[i] : s[i + N], keep = upper ? s[i + N] : s[i];
        s[i] = keep + __shfl_xor_sync(UT_FULL, give, 2 * N);
    }
}

/* Products of QUERIES queries and N keys. Lane l gets that of query l / 2 / N and key l / 2 % N. */
template <int TYPE, int N, int QUERIES>
UT_DEVICE float att_products(const float4 q[QUERIES], const att_four<TYPE> k[N])
{
    float s[ATT_SCORES];
#pragma unroll
    for (int i = 0; i < ATT_SCORES; i++)
        s[i] = dot4(q[i / N], k[i % N].get(), 0.0f);
    att_halve<8>(s);
    att_halve<4>(s);
    att_halve<2>(s);
    att_halve<1>(s);
    return s[0] + __shfl_xor_sync(UT_FULL, s[0], 1);
}

/* Scores to weights, e^(score - largest): a score per two lanes, -INFINITY where a query does not
 * see. Every lane gets all weights; the result is the largest of the lane's query. */
template <int N> UT_DEVICE float att_weights(float score, float *scratch, float w[ATT_SCORES])
{
    float largest = score;
#pragma unroll
    for (int d = 2; d < 2 * N; d *= 2) {
        const float other = __shfl_xor_sync(UT_FULL, largest, d);
        largest = other > largest ? other : largest;
    }
    __syncwarp(); /* all have read the weights before */
    scratch[thread() % 32 / 2] = score == -INFINITY ? 0.0f : expf(score - largest);
    __syncwarp();
#pragma unroll
    for (int i = 0; i < ATT_SCORES; i += 4) {
        const float4 four = *(const float4 *)(scratch + i);
        w[i] = four.x, w[i + 1] = four.y, w[i + 2] = four.z, w[i + 3] = four.w;
    }
    return largest;
}

/* The sum of n weights, and of the weighted values of this lane's dimensions, in order. */
template <int TYPE, int N>
UT_DEVICE float4 att_add_values(const float w[N], const att_four<TYPE> v[N], float *sum)
{
    float4 y = {0.0f, 0.0f, 0.0f, 0.0f};
    *sum = 0.0f;
#pragma unroll
    for (int u = 0; u < N; u++) {
        const float4 f = v[u].get();
        *sum += w[u];
        y.x = fmaf(w[u], f.x, y.x), y.y = fmaf(w[u], f.y, y.y);
        y.z = fmaf(w[u], f.z, y.z), y.w = fmaf(w[u], f.w, y.w);
    }
    return y;
}

/* ---- Many positions -------------------------------------------------------------------------- */

enum { ATT_PARTS = 8 };

/* The sum of ATT_PARTS parts. Lane l knows the largest score and the sum of weights of part
 * l % ATT_PARTS, each lane its own values of all. */
UT_DEVICE span_sum att_add_parts(float largest, float sum, const float2 value[ATT_PARTS])
{
    span_sum r = {largest, 0.0f, {0.0f, 0.0f}};
#pragma unroll
    for (int d = ATT_PARTS / 2; d > 0; d /= 2) {
        const float other = __shfl_xor_sync(UT_FULL, r.largest, d);
        r.largest = other > r.largest ? other : r.largest;
    }
    const float scale = largest == -INFINITY ? 0.0f : expf(largest - r.largest);
    r.sum = sum * scale;
#pragma unroll
    for (int d = ATT_PARTS / 2; d > 0; d /= 2)
        r.sum += __shfl_xor_sync(UT_FULL, r.sum, d);
#pragma unroll
    for (int i = 0; i < ATT_PARTS; i++) {
        const float its = __shfl_sync(UT_FULL, scale, (thread() % 32 & ~(ATT_PARTS - 1)) + i);
        r.value.x = fmaf(value[i].x, its, r.value.x);
        r.value.y = fmaf(value[i].y, its, r.value.y);
    }
    return r;
}

/* Mail of what a span found for a query: its largest score, its sum, values [dim]. */
UT_DEVICE cu_part *att_part(const cu_frame_attention &p, const att_task &t, int span, int query)
{
    const int64_t of_span = (int64_t)(t.kv * p.spans + span - t.first) * t.queries + query;
    return p.part + t.slot * p.part_slot + of_span * (2 + p.qkv.dim);
}

/* What all spans found of dimensions d and d + 1 of a query, `own` (of span `mine`) among it: eight
 * spans at a time, counted from position 0. from: mail of span 0's part, if there were one; the
 * parts of spans are `step` apart. */
UT_DEVICE span_sum att_collect(const cu_part *from, int64_t step, int first, int last, int mine,
                               int d, span_sum own, uint32_t stamp)
{
    span_sum all = own;
    for (int g = first / ATT_PARTS; g <= last / ATT_PARTS; g++) {
        part_look seen[ATT_PARTS];
        float2 value[ATT_PARTS];
#pragma unroll
        for (int i = 0; i < ATT_PARTS; i++) {
            const int span = g * ATT_PARTS + i;
            if (span >= first && span <= last && span != mine)
                seen[i].at(from + span * step + 2 + d);
        }
        const int other = g * ATT_PARTS + thread() % ATT_PARTS;
        float2 top = {-INFINITY, 0.0f};
        if (other == mine) {
            top.x = own.largest, top.y = own.sum;
        } else if (other >= first && other <= last) {
            const cu_part *its = from + other * step;
            part_look look;
            look.at(its);
            top = look.wait(its, stamp);
        }
#pragma unroll
        for (int i = 0; i < ATT_PARTS; i++) {
            const int span = g * ATT_PARTS + i;
            value[i].x = value[i].y = 0.0f;
            if (span == mine)
                value[i] = own.value;
            else if (span >= first && span <= last)
                value[i] = seen[i].wait(from + span * step + 2 + d, stamp);
        }
        const span_sum these = att_add_parts(top.x, top.y, value);
        all = g == first / ATT_PARTS ? these : add_spans(all, these);
    }
    return all;
}

/* What the warps found, to the results or to the block that adds up. */
UT_DEVICE void att_finish(const cu_frame_attention &p, const att_task &t, bool adds,
                          const att_shared &s, const mail_clock &clock)
{
    const cu_qkv_args &a = p.qkv;
    const int pairs = t.queries * a.dim / 2, shift = 31 - __clz(a.dim);
    const uint32_t stamp = clock.frame * (uint32_t)p.numbers + (uint32_t)p.number;
    for (int i = thread(); (i & ~31) < pairs; i += CU_THREADS) { /* warps stay together */
        const int d = 2 * i & (a.dim - 1), j = i < pairs ? 2 * i >> shift : t.queries - 1;
        const float *top = s.top + (thread() % ATT_PARTS * t.queries + j) * 2;
        float2 value[ATT_PARTS];
#pragma unroll
        for (int w = 0; w < ATT_PARTS; w++)
            value[w] = *(const float2 *)(s.value + (w * t.queries + j) * a.dim + d);
        span_sum y = att_add_parts(top[0], top[1], value);
        if (t.first != t.last && !adds) {
            cu_part *to = att_part(p, t, t.span, j);
            if (i < pairs)
                part_send(to + 2 + d, y.value.x, y.value.y, stamp);
            if (i < pairs && d == 0)
                part_send(to, y.largest, y.sum, stamp);
            continue;
        }
        if (t.first != t.last)
            y = att_collect(att_part(p, t, 0, j), (int64_t)t.queries * (2 + a.dim), t.first, t.last,
                            t.span, d, y, stamp);
        if (i >= pairs)
            continue;
        const float share = 1.0f / y.sum;
        y.value.x *= share, y.value.y *= share;
        const int row = att_row_of(t, j), head = t.kv * t.group + j - row * t.group;
        const int64_t at = (int64_t)(row * a.heads + head) * a.dim + d;
        if (p.y_mail)
            mail_leave_two(p.y_mail + (int64_t)t.slot * a.rows * a.heads * a.dim + at, y.value.x,
                           y.value.y, clock);
        if (a.y)
            *(float2 *)(a.y + t.slot * a.y_slot + at) = as_mailed(y.value);
    }
}

/* What a warp does with x: a query, or a key or a value that belongs to the span. Of job number
 * `job`: queries, then key and value of rows first_new, first_new + 1, ... */
struct att_job {
    att_head head;
    att_angles angles;
    float4 gain;
};

UT_DEVICE att_job att_start_job(const cu_frame_attention &p, const att_task &t, int job,
                                int first_new, const mail_clock &clock)
{
    const cu_qkv_args &a = p.qkv;
    const bool query = job < t.queries;
    const int row = query ? att_row_of(t, job) : first_new + (job - t.queries) / 2;
    const int value = !query && ((job - t.queries) & 1);
    const int head =
        query ? t.kv * t.group + job - row * t.group : a.heads + value * a.kv_heads + t.kv;
    att_job j;
    j.angles = att_bring_angles(a, t, row); /* a value does without */
    j.gain = att_bring_gain(a, query ? a.q_gain : a.k_gain);
    j.head = att_look(p, t, row, head, clock);
    return j;
}

template <int TYPE>
UT_DEVICE void att_end_job(const cu_frame_attention &p, const att_task &t, int job, int first_new,
                           const att_job &j, const att_shared &s, const mail_clock &clock)
{
    const cu_qkv_args &a = p.qkv;
    const int lane = thread() % 32, d = lane * 4;
    const bool query = job < t.queries, value = !query && ((job - t.queries) & 1);
    float4 x = att_take_x(p, t, j.head, clock);
    __syncwarp(); /* what follows goes from lane to lane */
    if (!value)
        x = att_turn(a, x, (query ? a.q_gain : a.k_gain) != NULL, j.gain, j.angles);
    if (d >= a.dim)
        return;
    if (query) {
        *(float4 *)(s.q + job * a.dim + d) = x;
        return;
    }
    const int row = first_new + (job - t.queries) / 2;
    att_four<TYPE> kept;
    kept.set(x);
    ((att_four<TYPE> *)(s.fresh + (2 * row + value) * a.dim))[lane] = kept;
    kept.store(value ? a.cache_v : a.cache_k,
               att_place(a, t, t.pos + row - t.span * CU_ATT_SPAN) + d);
}

/* Number `at` of a warp's positions. Selected, not stored: an index would need memory. */
template <int TYPE>
UT_DEVICE void att_put(int at, const att_four<TYPE> &new_k, const att_four<TYPE> &new_v,
                       att_four<TYPE> k[ATT_EACH], att_four<TYPE> v[ATT_EACH])
{
#pragma unroll
    for (int u = 0; u < ATT_EACH; u++) {
        k[u] = u == at ? new_k : k[u];
        v[u] = u == at ? new_v : v[u];
    }
}

template <int TYPE>
UT_DEVICE void att_run(const cu_frame_attention &p, const att_task &t, const att_shared &s,
                       const mail_clock &clock)
{
    const cu_qkv_args &a = p.qkv;
    const int warp = thread() / 32, lane = thread() % 32, d = lane * 4;
    const int begin = t.span * CU_ATT_SPAN - t.pos, end = begin + CU_ATT_SPAN;
    const int first_new = begin > 0 ? begin : 0, last_new = end < a.rows ? end : a.rows;
    const int jobs = t.queries + (last_new > first_new ? 2 * (last_new - first_new) : 0);
    att_four<TYPE> k[ATT_EACH], v[ATT_EACH];
    att_job now;
    att_bring_rows<TYPE, ATT_EACH>(a, t, a.cache_k, warp, UT_WARPS, k);
    att_bring_rows<TYPE, ATT_EACH>(a, t, a.cache_v, warp, UT_WARPS, v);
    if (warp < jobs)
        now = att_start_job(p, t, warp, first_new, clock);
    const bool adds = t.first != t.last && att_adds(t, a.slots * a.kv_heads);
    for (int job = warp; job < jobs; job += UT_WARPS) {
        att_end_job<TYPE>(p, t, job, first_new, now, s, clock);
        if (job + UT_WARPS < jobs)
            now = att_start_job(p, t, job + UT_WARPS, first_new, clock);
    }
    block_meet();
    for (int row = first_new; row < last_new; row++) {
        const int i = row - begin;
        if (i % UT_WARPS != warp || d >= a.dim)
            continue;
        const float *fresh = s.fresh + 2 * row * a.dim;
        att_put<TYPE>(i / UT_WARPS, ((const att_four<TYPE> *)fresh)[lane],
                      ((const att_four<TYPE> *)(fresh + a.dim))[lane], k, v);
    }
    for (int j = 0; j < t.queries; j += ATT_PAIR) {
        const float4 none = {0.0f, 0.0f, 0.0f, 0.0f};
        float4 q[ATT_PAIR];
#pragma unroll
        for (int i = 0; i < ATT_PAIR; i++)
            q[i] = j + i < t.queries && d < a.dim ? *(const float4 *)(s.q + (j + i) * a.dim + d)
                                                  : none;
        const float product = att_products<TYPE, ATT_EACH, ATT_PAIR>(q, k) * p.scale;
        const int query = j + lane / 2 / ATT_EACH;
        const int position = t.span * CU_ATT_SPAN + lane / 2 % ATT_EACH * UT_WARPS + warp;
        float w[ATT_SCORES];
        const float largest = att_weights<ATT_EACH>(
            att_sees(p, t, query, position) ? product : -INFINITY, s.weight + warp * ATT_SCORES, w);
#pragma unroll
        for (int i = 0; i < ATT_PAIR; i++) {
            float sum;
            const float4 y = att_add_values<TYPE, ATT_EACH>(w + i * ATT_EACH, v, &sum);
            const int place = warp * t.queries + j + i;
            if (j + i < t.queries && d < a.dim)
                *(float4 *)(s.value + place * a.dim + d) = y;
            if (j + i < t.queries && lane == i * 2 * ATT_EACH) {
                s.top[2 * place] = largest;
                s.top[2 * place + 1] = sum;
            }
        }
    }
    block_meet();
    att_finish(p, t, adds, s, clock);
}

/* The next attention's rows of the same positions: into the second-level cache. */
UT_DEVICE void att_prefetch(const cu_frame_attention &p, const att_task &t)
{
    const cu_qkv_args &a = p.qkv;
    const int size = a.cache_type == CU_F32 ? 4 : 2, lines = (a.dim * size + 127) / 128;
    for (int i = thread(); p.next_k && i < 2 * CU_ATT_SPAN * lines; i += CU_THREADS) {
        const int line = lines == 1 ? i : i / lines, position = line % CU_ATT_SPAN;
        if (t.span * CU_ATT_SPAN + position < t.oldest || t.span * CU_ATT_SPAN + position >= t.pos)
            continue;
        const int64_t at = att_place(a, t, position) * size + (i - line * lines) * 128;
        prefetch_line((const unsigned char *)(line < CU_ATT_SPAN ? p.next_k : p.next_v) + at);
    }
}

/* ---- The phase ------------------------------------------------------------------------------- */

template <int TYPE>
UT_DEVICE void att_plain(const cu_frame_attention &p, float *xs, const mail_clock &clock)
{
    const att_shared s = att_layout(p.qkv, p.group * p.qkv.rows, xs);
    bool again = false;
    att_all(p, [&](const att_task &t) {
        if (again)
            block_meet();
        again = true;
        att_run<TYPE>(p, t, s, clock);
        att_prefetch(p, t);
    });
}

#if UT_MMA
UT_DEVICE void att_spans(const cu_frame_attention &p, float *xs, weight_ring &ring,
                         const mail_clock &clock)
{
    bool again = false;
    att_all(p, [&](const att_task &t) {
        if (again)
            block_meet();
        again = true;
        span_task<CU_ATT_DIM>(p, t, xs, ring, clock);
    });
}
#endif

/* The block's threads have met since other phases used xs, and since they wrote to the caches.
 * BRIEF: the dimensions of heads that frame_brief.cuh takes, where all others have CU_ATT_DIM and
 * caches are bf16; or 0. */
template <int BRIEF>
UT_DEVICE void frame_attention(const cu_frame_attention &p, float *xs, weight_ring &ring,
                               const mail_clock &clock)
{
    if constexpr (BRIEF > 0) {
#if UT_MMA
        if (p.brief)
            brief_all<BRIEF>(p, xs, clock);
        else
            att_spans(p, xs, ring, clock);
#endif
    } else if (p.qkv.cache_type == CU_BF16) {
        att_plain<CU_BF16>(p, xs, clock);
    } else {
        att_plain<CU_F32>(p, xs, clock);
    }
}
