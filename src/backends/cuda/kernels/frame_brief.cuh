/* frame_brief.cuh - attention inside a frame to few positions, which are known before: those of the
 * small decoder that makes a frame's inner codes.
 *
 * A block has a key head. When the row's heads are there, each warp finds the weights of all
 * positions for itself, and then 16 dimensions of the result: no warp waits for another again. */
#pragma once

#include "backends/cuda/kernels/frame_heads.cuh"

#if UT_MMA

/* Keys and values of all other positions, those that the row does not see 0, to shared memory. */
template <int DIM>
UT_DEVICE void bring_brief_rows(const cu_qkv_args &a, const head_task &t, int64_t base,
                                const row_tile<DIM> &keys, const row_tile<DIM> &values)
{
    enum { CHUNKS = DIM / 8 };
    for (int i = thread(); i < CU_ATT_BRIEF * CHUNKS; i += CU_THREADS) {
        const int row = i / CHUNKS, chunk = i % CHUNKS;
        const int64_t from = base + (int64_t)row * a.kv_heads * DIM + 8 * chunk;
        const bool live = row >= t.oldest && row < t.pos;
        if (row == t.pos)
            continue;
        copy_async(keys.at(row, chunk), (const uint16_t *)a.cache_k + (live ? from : 0), live);
        copy_async(values.at(row, chunk), (const uint16_t *)a.cache_v + (live ? from : 0), live);
    }
}

/* Weights of positions, not divided by their sum: of query q % 2, positions g and g + 8. */
struct brief_weights {
    float low, high, sum;
};

UT_DEVICE brief_weights weights_of(const cu_frame_attention &p, const head_task &t,
                                   const float c[2][4])
{
    const int g = thread() % 32 / 4;
    const bool sees_low = g >= t.oldest && g <= t.pos;
    const bool sees_high = g + 8 >= t.oldest && g + 8 <= t.pos;
    const float low = sees_low ? (c[0][0] + c[0][1] + c[1][0] + c[1][1]) * p.scale : -INFINITY;
    const float high = sees_high ? (c[0][2] + c[0][3] + c[1][2] + c[1][3]) * p.scale : -INFINITY;
    float largest = fmaxf(low, high);
#pragma unroll
    for (int d = 4; d < 32; d *= 2)
        largest = fmaxf(largest, __shfl_xor_sync(UT_FULL, largest, d));
    brief_weights w;
    w.low = sees_low ? expf(low - largest) : 0.0f;
    w.high = sees_high ? expf(high - largest) : 0.0f;
    w.sum = w.low + w.high;
#pragma unroll
    for (int d = 4; d < 32; d *= 2)
        w.sum += __shfl_xor_sync(UT_FULL, w.sum, d);
    return w;
}

/* For column g of B: query g / 2 % 2, high or low. */
UT_DEVICE void weights_to_b(const brief_weights &w, uint32_t b[2])
{
    const int lane = thread() % 32, from = lane % 4 * 8 + (lane >> 3 & 1);
    const float v[4] = {__shfl_sync(UT_FULL, w.low, from), __shfl_sync(UT_FULL, w.low, from + 4),
                        __shfl_sync(UT_FULL, w.high, from), __shfl_sync(UT_FULL, w.high, from + 4)};
#pragma unroll
    for (int h = 0; h < 2; h++) {
        const uint32_t high = pack_bf16(v[2 * h], v[2 * h + 1]);
        b[h] = lane & 4 ? pack_low(v[2 * h], v[2 * h + 1], high) : high;
    }
}

/* What each warp does with x: two queries, the row's key and its value. */
template <int DIM>
UT_DEVICE void brief_heads(const cu_frame_attention &p, const head_task &t,
                           const head_shared<DIM> &s, const row_tile<DIM> &keys,
                           const row_tile<DIM> &values, int64_t base, const mail_clock &clock)
{
    enum { EACH = DIM / 32 };
    const cu_qkv_args &a = p.qkv;
    const int kind = thread() / 32, d = thread() % 32 * EACH;
    head_of_x<DIM> head;
    float x[EACH];
    if (kind < HEAD_KINDS)
        head.look(p, t, kind, clock);
    if (t.query == 0)
        bring_brief_rows<DIM>(a, t, base, keys, values);
    if (kind < HEAD_KINDS) {
        const int64_t now = base + (int64_t)t.pos * a.kv_heads * DIM;
        head.take(p, clock.frame, x);
        if (kind != HEAD_VALUE)
            head.turn(a, (kind == HEAD_KEY ? a.k_gain : a.q_gain) != NULL, x);
        if (kind < HEAD_KEY)
            put_query<DIM>(s, kind, x);
        else if (t.query == 0)
            put_row<DIM>((kind == HEAD_KEY ? keys : values).pair(t.pos, d),
                         kind == HEAD_KEY ? a.cache_k : a.cache_v, now, true, x);
    }
    copy_all_wait();
}

template <int DIM>
UT_DEVICE void brief_run(const cu_frame_attention &p, const head_task &t, const head_shared<DIM> &s,
                         const row_tile<DIM> &keys, const row_tile<DIM> &values,
                         const mail_clock &clock)
{
    const int lane = thread() % 32, g = lane / 4, q = lane % 4;
    const int d = thread() / 32 * 16 + 2 * g; /* of the result */
    const unsigned char *query = s.queries + (g & 3) * s.ROW + q * 16;
    float c[2][4] = {{0.0f}}, y[4] = {0.0f};
    uint32_t b[2], word[4];
#pragma unroll
    for (int k = 0; k < DIM / 32; k++) {
        const uint4 f = *(const uint4 *)(query + 64 * k);
        const uint4 u = *(const uint4 *)keys.at(g, 4 * k + q);
        const uint4 v = *(const uint4 *)keys.at(g + 8, 4 * k + q);
        const uint32_t a0[4] = {u.x, v.x, u.y, v.y}, a1[4] = {u.z, v.z, u.w, v.w};
        const uint32_t b0[2] = {f.x, f.y}, b1[2] = {f.z, f.w};
        mma_bf16(c[0], a0, b0);
        mma_bf16(c[1], a1, b1);
    }
#pragma unroll
    for (int k = 0; k < 4; k++)
        word[k] = *values.pair(2 * q + k % 2 + k / 2 * 8, d);
    const brief_weights w = weights_of(p, t, c);
    weights_to_b(w, b);
    mma_values(y, word, b);
    if (q >= 2 || t.query + q >= p.group)
        return;
    const float share = 1.0f / w.sum;
    const float2 two = {(y[0] + y[1]) * share, (y[2] + y[3]) * share};
    leave_result(p, t, q, DIM, d, two, clock);
}

/* Of all slots and key heads, a block has some. A row is in the caches when the next one looks. */
template <int DIM>
UT_DEVICE void brief_all(const cu_frame_attention &p, float *xs, const mail_clock &clock)
{
    const cu_qkv_args &a = p.qkv;
    const row_tile<DIM> keys = {(unsigned char *)xs};
    const row_tile<DIM> values = {keys.rows + CU_ATT_BRIEF * keys.ROW};
    const head_shared<DIM> s(values.rows + CU_ATT_BRIEF * values.ROW);
    head_task t;
    bool again = false;
    for (int head = (int)blockIdx.x; head < a.slots * a.kv_heads; head += sharers()) {
        t.slot = a.slots == 1 ? 0 : head / a.kv_heads;
        t.kv = head - t.slot * a.kv_heads;
        const int64_t base = t.slot * a.cache_slot + t.kv * DIM;
        for (t.row = 0; t.row < a.rows; t.row++) {
            t.pos = a.first_pos + t.row;
            t.oldest = t.pos - p.reach + 1;
            for (t.query = 0; t.query < p.group; t.query += PAIR, again = true) {
                if (again)
                    block_meet();
                brief_heads<DIM>(p, t, s, keys, values, base, clock);
                block_meet();
                if (thread() < 2 * DIM) /* a warp for 16 dimensions */
                    brief_run<DIM>(p, t, s, keys, values, clock);
            }
        }
    }
}

#endif
