/* frame_heads.cuh - heads of queries, keys and values inside a frame, for attention on tensor cores
 * with caches of bf16. Each of the first four warps takes a head of x from the mail, has DIM / 32
 * neighbouring dimensions in a lane, turns it and leaves it in shared memory, where all warps find
 * it when the block has met.
 *
 * Queries go to the tensor core as two numbers of bf16 each, what that has of them (high) and what
 * it has rounded away (low); so do weights of positions. Two queries of a key head go together.
 *
 * First-level cache is scarce beside so much shared memory, and every line that is on its way takes
 * a place in it: what several warps need is brought once, to shared memory. */
#pragma once

#include "backends/cuda/kernels/frame_device.cuh"
#include "backends/cuda/kernels/mma.cuh"

#if UT_MMA

enum { PAIR = 2 /* queries that go together */, ROW_GAP = 64 /* bytes, to other banks */ };

/* What one phase of attention does for one row of x of a slot, and two queries of a key head. */
struct head_task {
    int slot, kv, row;
    int pos, oldest; /* of the row, and the oldest position that it sees */
    int query;       /* the first of the two, of p.group; the other may not be there */
};

/* Queries, high and low of either, in shared memory. */
template <int DIM> struct head_shared {
    enum { ROW = 2 * DIM + ROW_GAP, BYTES = 2 * PAIR * ROW };
    unsigned char *queries;
    UT_DEVICE_MEMBER head_shared(unsigned char *at) : queries(at) {}
};

/* Rows of a cache in shared memory. A row's 16 bytes number i are at another number, so that rows
 * which are read together are in different banks: 4 bytes of every fourth row, 16 of every row. */
template <int DIM> struct row_tile {
    enum { ROW = 2 * DIM };
    unsigned char *rows;
    UT_DEVICE_MEMBER unsigned char *at(int row, int i) const
    {
        return rows + row * ROW + ((i ^ (row & 1) << 2 ^ (row >> 2 & 3) << 1) * 16);
    }
    /* Elements d and d + 1 of a row. */
    UT_DEVICE_MEMBER uint32_t *pair(int row, int d) const
    {
        return (uint32_t *)at(row, d / 8) + d % 8 / 2;
    }
};

template <int N> UT_DEVICE void load_floats(const float *p, float f[N])
{
#pragma unroll
    for (int i = 0; i < N; i += 2) {
        const float2 v = __ldcg((const float2 *)(p + i));
        f[i] = v.x, f[i + 1] = v.y;
    }
}

enum head_kind { HEAD_QUERY, HEAD_OTHER_QUERY, HEAD_KEY, HEAD_VALUE, HEAD_KINDS };

/* A head of x on its way to a warp, the cosines and sines of the lane's dimensions, pair by pair,
 * and the gain of its norm. */
template <int DIM> struct head_of_x {
    enum { EACH = DIM / 32 };
    int64_t at; /* of the lane's dimensions in the mail, or in x */
    mail_look<EACH> seen;
    float angle[2 * EACH]; /* the first half is enough where neighbours are pairs */
    float gain[EACH];

    UT_DEVICE_MEMBER void look(const cu_frame_attention &p, const head_task &t, int kind,
                               const mail_clock &clock)
    {
        const cu_qkv_args &a = p.qkv;
        const int d = thread() % 32 * EACH, columns = (a.heads + 2 * a.kv_heads) * DIM;
        int head = a.heads + t.kv + (kind == HEAD_VALUE ? a.kv_heads : 0);
        if (kind < HEAD_KEY)
            head = t.kv * p.group + (t.query + kind < p.group ? t.query + kind : t.query);
        at = t.row * columns + head * DIM + d;
        at += p.x_mail ? clock.mine + (int64_t)t.slot * a.rows * columns : t.slot * a.x_slot;
        if (p.x_mail)
            seen.at(p.x_mail + at);
        const float *angles = a.angles + t.slot * a.angles_slot + t.row * DIM;
        const float *gains = kind < HEAD_KEY ? a.q_gain : a.k_gain;
        if (kind == HEAD_VALUE)
            return;
        load_floats<EACH>(angles + (a.halves ? 2 * (d & (DIM / 2 - 1)) : d), angle);
        if (a.halves)
            load_floats<EACH>(angles + 2 * (d & (DIM / 2 - 1)) + EACH, angle + EACH);
        if (gains)
            load_floats<EACH>(gains + d, gain);
    }
    UT_DEVICE_MEMBER void take(const cu_frame_attention &p, uint32_t frame, float x[EACH])
    {
        if (p.x_mail) {
            seen.wait(p.x_mail + at, frame);
#pragma unroll
            for (int k = 0; k < EACH; k++)
                x[k] = seen[k];
        } else {
            load_floats<EACH>(p.qkv.x + at, x);
        }
        __syncwarp(); /* what follows goes from lane to lane */
    }
    /* x times its norm, where it has one, turned. */
    UT_DEVICE_MEMBER void turn(const cu_qkv_args &a, bool normed, float x[EACH]) const
    {
        if (normed) {
            float square = 0.0f;
#pragma unroll
            for (int i = 0; i < EACH; i++)
                square = fmaf(x[i], x[i], square);
            const float scale = rsqrtf(fmaf(warp_sum(square), 1.0f / DIM, a.eps));
#pragma unroll
            for (int i = 0; i < EACH; i++)
                x[i] *= scale * gain[i];
        }
        if (a.halves) { /* the other half is 16 lanes away */
            const float sign = thread() & 16 ? 1.0f : -1.0f;
#pragma unroll
            for (int i = 0; i < EACH; i++) {
                const float other = __shfl_xor_sync(UT_FULL, x[i], 16);
                x[i] = x[i] * angle[2 * i] + sign * other * angle[2 * i + 1];
            }
            return;
        }
#pragma unroll
        for (int i = 0; i < EACH; i += 2) {
            const float u = x[i], v = x[i + 1], c = angle[i], s = angle[i + 1];
            x[i] = u * c - v * s;
            x[i + 1] = v * c + u * s;
        }
    }
};

/* Of a query, to shared memory: high, then low. */
template <int DIM>
UT_DEVICE void put_query(const head_shared<DIM> &s, int kind, const float x[DIM / 32])
{
    uint32_t *high = (uint32_t *)(s.queries + 2 * kind * s.ROW) + thread() % 32 * (DIM / 64);
#pragma unroll
    for (int k = 0; k < DIM / 32; k += 2) {
        const uint32_t u = pack_bf16(x[k], x[k + 1]);
        high[k / 2] = u;
        high[s.ROW / 4 + k / 2] = pack_low(x[k], x[k + 1], u);
    }
}

/* Of a key or a value, to a row in shared memory and to the cache. */
template <int DIM>
UT_DEVICE void put_row(uint32_t *row, void *cache, int64_t at, bool kept, const float x[DIM / 32])
{
    const int lane = thread() % 32;
#pragma unroll
    for (int k = 0; k < DIM / 32; k += 2) {
        const uint32_t u = pack_bf16(x[k], x[k + 1]);
        row[k / 2] = u;
        if (kept)
            ((uint32_t *)((uint16_t *)cache + at))[lane * (DIM / 64) + k / 2] = u;
    }
}

/* Dimensions d and d + 1 of the result for query t.query + which of the row. */
UT_DEVICE void leave_result(const cu_frame_attention &p, const head_task &t, int which, int dim,
                            int d, float2 two, const mail_clock &clock)
{
    const cu_qkv_args &a = p.qkv;
    const int head = t.kv * p.group + t.query + which;
    const int64_t at = (int64_t)(t.row * a.heads + head) * dim + d;
    if (p.y_mail)
        mail_leave_two(p.y_mail + (int64_t)t.slot * a.rows * a.heads * dim + at, two.x, two.y,
                       clock);
    if (a.y)
        *(float2 *)(a.y + t.slot * a.y_slot + at) = as_mailed(two);
}

/* Values of 16 positions, 16 dimensions of them, as rows of A: rows g and g + 8 are dimensions 2g
 * and 2g + 1. word: those dimensions of positions 2q, 2q + 1, 2q + 8, 2q + 9 of B's rows. */
UT_DEVICE void mma_values(float c[4], const uint32_t word[4], const uint32_t b[2])
{
    const uint32_t a[4] = {
        __byte_perm(word[0], word[1], 0x5410), __byte_perm(word[0], word[1], 0x7632),
        __byte_perm(word[2], word[3], 0x5410), __byte_perm(word[2], word[3], 0x7632)};
    mma_bf16(c, a, b);
}

#endif
