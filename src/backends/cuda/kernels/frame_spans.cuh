/* frame_spans.cuh - attention inside a frame to any number of positions, on tensor cores: the tasks
 * of frame_tasks.cuh. Rows of the caches come through the ring.
 *
 * When the row's heads are there a warp finds the scores of an eighth of the span, and when those
 * of the others are there, too, all weights and 16 dimensions of the span's result.
 *
 * A tile of keys is 8 rows that go to the tensor core as they lie: see frame_tensor.cuh. */
#pragma once

#include "backends/cuda/kernels/frame_heads.cuh"
#include "backends/cuda/kernels/frame_ring.cuh"
#include "backends/cuda/kernels/frame_tasks.cuh"

/* What some positions come to, for two dimensions of a query. */
struct span_sum {
    float largest, sum; /* of scores; of weights e^(score - largest) */
    float2 value;
};

UT_DEVICE span_sum add_spans(const span_sum &a, const span_sum &b)
{
    span_sum r = a;
    r.largest = fmaxf(a.largest, b.largest);
    const float x = a.largest == -INFINITY ? 0.0f : expf(a.largest - r.largest);
    const float y = b.largest == -INFINITY ? 0.0f : expf(b.largest - r.largest);
    r.sum = fmaf(b.sum, y, a.sum * x);
    r.value.x = fmaf(b.value.x, y, a.value.x * x);
    r.value.y = fmaf(b.value.y, y, a.value.y * x);
    return r;
}

#if UT_MMA

enum { SPAN_STEPS = CU_ATT_SPAN / 16 };
enum { WEIGHT_ROW = 2 * CU_ATT_SPAN + 32 }; /* bytes; of a query's weights, high or low */

/* Rows of the span that the caches have: [first, end); the first row of the task is not among them.
 */
struct span_live {
    int first, end;
    UT_DEVICE_MEMBER span_live(const att_task &t)
        : first(within(t.oldest - t.span * CU_ATT_SPAN)), end(within(t.pos - t.span * CU_ATT_SPAN))
    {
    }
    UT_DEVICE_MEMBER static int within(int i)
    {
        return i < 0 ? 0 : i < CU_ATT_SPAN ? i : CU_ATT_SPAN;
    }
    UT_DEVICE_MEMBER bool all(void) const { return first == 0 && end == CU_ATT_SPAN; }
    UT_DEVICE_MEMBER bool has(int i) const { return i >= first && i < end; }
};

/* A span's rows of a cache, a piece of the ring. A row is two lines of 128 bytes, whose 16-byte
 * groups lie as the copy leaves them (CU_TENSOR_SWIZZLE_128): of four rows one after another, 16
 * dimensions are in different banks. Rows that the caches have not yet are what was there before.
 */
template <int DIM> struct span_rows {
    enum { BYTES = CU_ATT_PIECE(DIM) };
    static_assert(DIM == 128, "two lines are a row");
    unsigned char *rows;

    /* Elements d, d + 1, ... of row i, up to the next multiple of 8. */
    UT_DEVICE_MEMBER uint32_t *at(int i, int d) const
    {
        const int line = 2 * i + d / 64, group = d % 64 / 8;
        return (uint32_t *)(rows + line * 128 + (group ^ line % 8) * 16) + d % 8 / 2;
    }
};

/* Key g of the warp's eight, but for that of row `fresh`. What else the caches have not is not
 * seen. */
template <int DIM>
UT_DEVICE void load_span_keys(const span_rows<DIM> &keys, int fresh, uint4 key[DIM / 32])
{
    const int lane = thread() % 32, i = thread() / 32 * 8 + lane / 4;
    const uint4 none = {0, 0, 0, 0};
#pragma unroll
    for (int s = 0; s < DIM / 32; s++)
        key[s] = i != fresh ? *(const uint4 *)keys.at(i, lane % 4 * 8 + 32 * s) : none;
}

/* Values of positions that the caches have not, but for row `fresh`: 0, by the warps that take no
 * head. */
template <int DIM>
UT_DEVICE void clear_span_values(const span_rows<DIM> &values, const span_live &live, int fresh)
{
    enum { CHUNKS = DIM / 8, FIRST = 32 * HEAD_KINDS, STEP = (CU_THREADS - FIRST) / CHUNKS };
    const uint4 none = {0, 0, 0, 0};
#pragma unroll 1
    for (int i = (thread() - FIRST) / CHUNKS; i < CU_ATT_SPAN; i += STEP)
        if (!live.has(i) && i != fresh)
            *(uint4 *)values.at(i, thread() % CHUNKS * 8) = none;
}

/* ---- Scores and weights ---------------------------------------------------------------------- */

/* Where the score of position i stands among those of the span: a lane takes four of 16 positions
 * that lie four apart. */
UT_DEVICE int score_place(int i)
{
    return (i & ~15) + (i % 4) * 4 + i / 4 % 4;
}

/* Of query q / 2 and position g of the warp's; lanes of odd q have what their neighbours have. */
template <int DIM> UT_DEVICE float span_score(const head_shared<DIM> &s, const uint4 key[DIM / 32])
{
    const int g = thread() % 32 / 4, q = thread() % 4;
    const unsigned char *query = s.queries + ((g >> 1 & 2) | (g & 1)) * s.ROW + q * 16;
    float c[2][4] = {{0.0f}};
#pragma unroll
    for (int k = 0; k < DIM / 32; k++) {
        const uint4 f = *(const uint4 *)(query + 64 * k);
        const uint32_t a[4] = {key[k].x, key[k].y, key[k].z, key[k].w};
        const uint32_t b[2] = {g & 2 ? f.y : f.x, g & 2 ? f.w : f.z};
        mma_bf16(c[k % 2], a, b);
    }
    const float even = (c[0][0] + c[0][1]) + (c[1][0] + c[1][1]);
    const float odd = (c[0][2] + c[0][3]) + (c[1][2] + c[1][3]);
    const float half = q & 1 ? odd : even;
    return half + __shfl_xor_sync(UT_FULL, half, 1);
}

/* The largest score and the sum of weights of a query of the span. */
struct span_top {
    float largest, sum;
};

/* scores [PAIR, CU_ATT_SPAN], by score_place, to weights e^(score - largest) [2 PAIR, WEIGHT_ROW]
 * in the warp's memory, high and low of either query. Lanes 0 .. 15 get what the first query comes
 * to. */
UT_DEVICE span_top span_weights(const float *scores, unsigned char *weights)
{
    const int lane = thread() % 32, query = lane / 16, i = lane % 16;
    const float4 s = *(const float4 *)(scores + query * CU_ATT_SPAN + 4 * i);
    const float v[4] = {s.x, s.y, s.z, s.w};
    span_top top = {fmaxf(fmaxf(s.x, s.y), fmaxf(s.z, s.w)), 0.0f};
    float w[4];
#pragma unroll
    for (int d = 1; d < 16; d *= 2)
        top.largest = fmaxf(top.largest, __shfl_xor_sync(UT_FULL, top.largest, d));
#pragma unroll
    for (int k = 0; k < 4; k++)
        w[k] = v[k] == -INFINITY ? 0.0f : expf(v[k] - top.largest);
    top.sum = (w[0] + w[1]) + (w[2] + w[3]);
    uint2 high = {pack_bf16(w[0], w[1]), pack_bf16(w[2], w[3])}, low;
    low.x = pack_low(w[0], w[1], high.x);
    low.y = pack_low(w[2], w[3], high.y);
    *(uint2 *)(weights + 2 * query * WEIGHT_ROW + 8 * i) = high;
    *(uint2 *)(weights + (2 * query + 1) * WEIGHT_ROW + 8 * i) = low;
#pragma unroll
    for (int d = 1; d < 16; d *= 2)
        top.sum += __shfl_xor_sync(UT_FULL, top.sum, d);
    __syncwarp();
    return top;
}

/* Of query q % 2, dimensions d and d + 1, which are 2g and 2g + 1 of the warp's. */
template <int DIM>
UT_DEVICE span_sum span_values(const unsigned char *weights, const span_rows<DIM> &values, int d,
                               span_top top)
{
    const int g = thread() % 32 / 4, q = thread() % 4;
    float c[2][4] = {{0.0f}};
#pragma unroll
    for (int s = 0; s < SPAN_STEPS; s++) {
        const uint2 w = *(const uint2 *)(weights + (g & 3) * WEIGHT_ROW + 32 * s + 8 * q);
        const uint32_t b[2] = {w.x, w.y};
        uint32_t word[4];
#pragma unroll
        for (int k = 0; k < 4; k++)
            word[k] = *values.at(16 * s + q + 4 * k, d);
        mma_values(c[s % 2], word, b);
    }
    span_sum r;
    r.largest = __shfl_sync(UT_FULL, top.largest, q % 2 * 16);
    r.sum = __shfl_sync(UT_FULL, top.sum, q % 2 * 16);
    r.value.x = (c[0][0] + c[0][1]) + (c[1][0] + c[1][1]);
    r.value.y = (c[0][2] + c[0][3]) + (c[1][2] + c[1][3]);
    return r;
}

/* ---- Several spans --------------------------------------------------------------------------- */

enum { SPANS_AT_ONCE = 4 };

/* Of spans first, first + 2 .. to last, `own` (of span `mine`) among them. from: what span
 * 0 found for the query, `step` apart from span to span: largest score, sum, values; d: dimension.
 */
UT_DEVICE span_sum collect_spans(const cu_part *from, int64_t step, int first, int last, int mine,
                                 int d, const span_sum &own, uint32_t stamp)
{
    span_sum all = {-INFINITY, 0.0f, {0.0f, 0.0f}};
#pragma unroll 1
    for (; first <= last; first += 2 * SPANS_AT_ONCE) {
        part_look top[SPANS_AT_ONCE], value[SPANS_AT_ONCE];
#pragma unroll
        for (int i = 0; i < SPANS_AT_ONCE; i++) {
            const int span = first + 2 * i;
            if (span > last || span == mine)
                continue;
            top[i].at(from + span * step);
            value[i].at(from + span * step + 2 + d);
        }
#pragma unroll
        for (int i = 0; i < SPANS_AT_ONCE; i++) {
            const int span = first + 2 * i;
            if (span > last)
                continue;
            span_sum its = own;
            if (span != mine) {
                const float2 t = top[i].wait(from + span * step, stamp);
                its.largest = t.x, its.sum = t.y;
                its.value = value[i].wait(from + span * step + 2 + d, stamp);
            }
            all = add_spans(all, its);
        }
    }
    return all;
}

/* The sum of what lanes two apart have, in the same order in both. */
UT_DEVICE span_sum add_lanes(const span_sum &mine)
{
    span_sum other;
    other.largest = __shfl_xor_sync(UT_FULL, mine.largest, 2);
    other.sum = __shfl_xor_sync(UT_FULL, mine.sum, 2);
    other.value.x = __shfl_xor_sync(UT_FULL, mine.value.x, 2);
    other.value.y = __shfl_xor_sync(UT_FULL, mine.value.y, 2);
    return thread() & 2 ? add_spans(other, mine) : add_spans(mine, other);
}

/* ---- A task ---------------------------------------------------------------------------------- */

/* What the warp's lanes found for a query: to the results, or to the block that adds up. */
template <int DIM>
UT_DEVICE void span_finish(const cu_frame_attention &p, const head_task &t, const att_task &r,
                           bool adds, int d, span_sum y, const mail_clock &clock)
{
    const int q = thread() % 4, its = t.query + q % 2, queries = p.group * p.qkv.rows;
    const bool live = its < p.group, writes = live && q < 2;
    if (r.first != r.last) {
        const uint32_t stamp = clock.frame * (uint32_t)p.numbers + (uint32_t)p.number;
        const int64_t step = (int64_t)queries * (2 + DIM);
        cu_part *from = p.part + t.slot * p.part_slot + (int64_t)t.kv * p.spans * step +
                        (t.row * p.group + (live ? its : 0)) * (2 + DIM);
        from -= r.first * step; /* there are parts of these spans only */
        if (!adds) {
            if (writes)
                part_send(from + r.span * step + 2 + d, y.value.x, y.value.y, stamp);
            if (writes && d == 0)
                part_send(from + r.span * step, y.largest, y.sum, stamp);
            return;
        }
        const int odd = (q / 2 ^ r.first) & 1; /* spans of either lane, counted from 0 */
        y = collect_spans(from, step, r.first + odd, r.last, r.span, d, y, stamp);
        __syncwarp();
        y = add_lanes(y);
    }
    if (!writes)
        return;
    const float share = 1.0f / y.sum;
    const float2 two = {y.value.x * share, y.value.y * share};
    leave_result(p, t, q, DIM, d, two, clock);
}

/* A block's shared memory. */
template <int DIM> struct span_shared {
    head_shared<DIM> heads;
    float *scores;          /* [PAIR, CU_ATT_SPAN] */
    unsigned char *weights; /* of each warp [2 PAIR, WEIGHT_ROW] */
    static_assert(head_shared<DIM>::BYTES + 4 * PAIR * CU_ATT_SPAN +
                          UT_WARPS * 2 * PAIR * WEIGHT_ROW ==
                      4 * CU_ATT_SPAN_SHARED(DIM),
                  "the host counts what the block needs");

    UT_DEVICE_MEMBER span_shared(float *xs) : heads((unsigned char *)xs)
    {
        scores = (float *)(heads.queries + heads.BYTES);
        weights =
            (unsigned char *)(scores + PAIR * CU_ATT_SPAN) + thread() / 32 * 2 * PAIR * WEIGHT_ROW;
    }
};

/* What a task's runs share. */
template <int DIM> struct span_work {
    att_task t;
    span_live live;
    bool adds; /* is it this block that adds up what all spans found? */
    span_rows<DIM> keys, values;
    static_assert(DIM / 16 == UT_WARPS, "every warp has 16 dimensions of the result");
};

/* What each warp does with x: two queries, and where the span has its position, the row's key and
 * its value. key: of the warp's positions. */
template <int DIM>
UT_DEVICE void span_heads(const cu_frame_attention &p, const head_task &t, const span_work<DIM> &w,
                          const head_shared<DIM> &s, uint4 key[DIM / 32], const mail_clock &clock)
{
    enum { EACH = DIM / 32 };
    const cu_qkv_args &a = p.qkv;
    const int kind = thread() / 32, fresh = t.pos - w.t.span * CU_ATT_SPAN;
    const bool here = fresh >= 0 && fresh < CU_ATT_SPAN;
    const bool takes = kind < HEAD_KEY || (kind < HEAD_KINDS && here);
    head_of_x<DIM> head;
    float x[EACH];
    if (takes)
        head.look(p, t, kind, clock);
    load_span_keys<DIM>(w.keys, fresh, key);
    if (takes) {
        const int d = thread() % 32 * EACH;
        head.take(p, clock.frame, x);
        if (kind != HEAD_VALUE)
            head.turn(a, (kind == HEAD_KEY ? a.k_gain : a.q_gain) != NULL, x);
        if (kind < HEAD_KEY) {
            put_query<DIM>(s, kind, x);
        } else {
            const int64_t now = t.slot * a.cache_slot +
                                ((int64_t)(w.t.first_row + fresh) * a.kv_heads + t.kv) * DIM;
            put_row<DIM>((kind == HEAD_KEY ? w.keys : w.values).at(fresh, d),
                         kind == HEAD_KEY ? a.cache_k : a.cache_v, now, t.query == 0, x);
        }
    } else if (kind >= HEAD_KINDS && t.row == 0 && t.query == 0 && !w.live.all()) {
        clear_span_values<DIM>(w.values, w.live, fresh);
    }
}

/* The block meets twice. last: the rows of the caches are not needed again. */
template <int DIM>
UT_DEVICE void span_run(const cu_frame_attention &p, const head_task &t, const span_work<DIM> &w,
                        const span_shared<DIM> &s, bool last, weight_ring &ring,
                        const mail_clock &clock)
{
    const int warp = thread() / 32, lane = thread() % 32, g = lane / 4, q = lane % 4;
    const int i = 8 * warp + g, position = w.t.span * CU_ATT_SPAN + i, d = warp * 16 + 2 * g;
    uint4 key[DIM / 32];
    span_heads<DIM>(p, t, w, s.heads, key, clock);
    block_meet();
    if (position == t.pos) {
#pragma unroll
        for (int k = 0; k < DIM / 32; k++)
            key[k] = *(const uint4 *)w.keys.at(i, q * 8 + 32 * k);
    }
    __syncwarp();
    const float score = span_score<DIM>(s.heads, key) * p.scale;
    if (!(q & 1))
        s.scores[q / 2 * CU_ATT_SPAN + score_place(i)] =
            position >= t.oldest && position <= t.pos ? score : -INFINITY;
    block_meet();
    const span_top top = span_weights(s.scores, s.weights);
    const span_sum y = span_values<DIM>(s.weights, w.values, d, top);
    if (last) {
        if (!w.live.all())
            before_copies(); /* the block has written to the pieces */
        /* keys, then values */
        ring_give(ring);
        ring_give(ring);
    }
    span_finish<DIM>(p, t, w.t, w.adds, d, y, clock);
}

/* Row by row, as each sees the one before. */
template <int DIM>
UT_DEVICE void span_task(const cu_frame_attention &p, const att_task &all, float *xs,
                         weight_ring &ring, const mail_clock &clock)
{
    const span_shared<DIM> s(xs);
    span_work<DIM> w = {all, span_live(all), false, {NULL}, {NULL}};
    head_task t;
    bool again = false;
    w.adds = all.first != all.last && att_adds(all, p.qkv.slots * p.qkv.kv_heads);
    w.keys.rows = ring_take_piece(ring, w.keys.BYTES);
    w.values.rows = ring_take_piece(ring, w.values.BYTES);
    t.slot = all.slot;
    t.kv = all.kv;
    for (t.row = 0; t.row < p.qkv.rows; t.row++) {
        t.pos = all.pos + t.row;
        t.oldest = t.pos - p.reach + 1 > 0 ? t.pos - p.reach + 1 : 0;
        for (t.query = 0; t.query < p.group; t.query += PAIR, again = true) {
            if (again)
                block_meet();
            const bool last = t.row + 1 == p.qkv.rows && t.query + PAIR >= p.group;
            span_run<DIM>(p, t, w, s, last, ring, clock);
        }
    }
}

#endif
