/* frame_brief.cuh - attention inside a frame to few positions, which are known before: those of the
 * small decoder that makes a frame's inner codes. Caches are bf16. A warp has a query and all that
 * it sees, and waits for x and for no other warp. A lane has eight dimensions of every GROUPS-th
 * position; the new position is number CU_ATT_BRIEF - 1. */
#pragma once

#include "backends/cuda/kernels/frame_device.cuh"

/* Eight numbers as a cache has them. */
UT_DEVICE uint4 pack_eight(const float f[8])
{
    const uint4 u = {pack_bf16(f[0], f[1]), pack_bf16(f[2], f[3]), pack_bf16(f[4], f[5]),
                     pack_bf16(f[6], f[7])};
    return u;
}

/* Eight dimensions of a head of x, on their way. */
struct brief_head {
    int64_t at; /* in x, or in its mail */
    mail_pair seen[4];
};

UT_DEVICE brief_head brief_look(const cu_frame_attention &p, int slot, int row, int head, int d,
                                const mail_clock &clock)
{
    const cu_qkv_args &a = p.qkv;
    const int columns = (a.heads + 2 * a.kv_heads) * a.dim;
    brief_head h;
    h.at = row * columns + head * a.dim + d;
    if (p.x_mail) {
        h.at += clock.mine + (int64_t)slot * a.rows * columns;
#pragma unroll
        for (int i = 0; i < 4; i++)
            h.seen[i] = mail_look(p.x_mail + h.at + 2 * i);
    }
    return h;
}

UT_DEVICE void brief_take(const cu_frame_attention &p, int slot, const brief_head &h,
                          uint32_t frame, float x[8])
{
#pragma unroll
    for (int i = 0; i < 4; i += 2) {
        float4 v;
        if (p.x_mail)
            v = mail_take(p.x_mail + h.at + 2 * i, h.seen[i], h.seen[i + 1], frame);
        else
            v = __ldcg((const float4 *)(p.qkv.x + slot * p.qkv.x_slot + h.at + 2 * i));
        x[2 * i] = v.x, x[2 * i + 1] = v.y, x[2 * i + 2] = v.z, x[2 * i + 3] = v.w;
    }
    __syncwarp(); /* what follows goes from lane to lane */
}

UT_DEVICE void load_eight(const float *p, float f[8])
{
    const float4 u = __ldcg((const float4 *)p), v = __ldcg((const float4 *)(p + 4));
    f[0] = u.x, f[1] = u.y, f[2] = u.z, f[3] = u.w;
    f[4] = v.x, f[5] = v.y, f[6] = v.z, f[7] = v.w;
}

template <int LANES> UT_DEVICE float sum_lanes(float v)
{
#pragma unroll
    for (int k = 1; k < LANES; k *= 2)
        v += __shfl_xor_sync(UT_FULL, v, k);
    return v;
}

/* Cosines and sines of the lane's dimensions, pair by pair; the first half is enough where
 * neighbours are pairs. */
template <int DIM>
UT_DEVICE void brief_angles(const cu_qkv_args &a, int slot, int row, int d, float angle[16])
{
    const float *angles = a.angles + slot * a.angles_slot + row * DIM;
    load_eight(angles + (a.halves ? 2 * (d & (DIM / 2 - 1)) : d), angle);
    if (a.halves)
        load_eight(angles + 2 * (d & (DIM / 2 - 1)) + 8, angle + 8);
}

/* x times its norm and gain, where there is one, turned. */
template <int DIM>
UT_DEVICE void brief_turn(const cu_qkv_args &a, const float angle[16], const float *gain,
                          float x[8])
{
    enum { LANES = DIM / 8 };
    if (gain) {
        float square = 0.0f;
#pragma unroll
        for (int i = 0; i < 8; i++)
            square = fmaf(x[i], x[i], square);
        const float scale = 1.0f / sqrtf(sum_lanes<LANES>(square) * (1.0f / DIM) + a.eps);
#pragma unroll
        for (int i = 0; i < 8; i++)
            x[i] = x[i] * scale * __ldg(gain + i);
    }
    if (a.halves) { /* the other half is so many lanes away */
        const float sign = thread() & (LANES / 2) ? 1.0f : -1.0f;
#pragma unroll
        for (int i = 0; i < 8; i++) {
            const float other = __shfl_xor_sync(UT_FULL, x[i], LANES / 2);
            x[i] = x[i] * angle[2 * i] + sign * other * angle[2 * i + 1];
        }
        return;
    }
#pragma unroll
    for (int i = 0; i < 8; i += 2) {
        const float u = x[i], v = x[i + 1], c = angle[i], s = angle[i + 1];
        x[i] = u * c - v * s;
        x[i + 1] = v * c + u * s;
    }
}

/* Of the 2 N values that parts of the warp have a lane keeps N, and adds those of the one that
 * keeps the others; by `away` lanes apart. */
template <int N> UT_DEVICE void halve_groups(float *y, int away)
{
    const bool upper = (thread() & away) != 0;
#pragma unroll
    for (int i = 0; i < N; i++) {
        const float give = upper ? y[i] : y[i + N], keep = upper ? y[i + N] : y[i];
        y[i] = keep + __shfl_xor_sync(UT_FULL, give, away);
    }
}

/* The rows of a cache of a part of the warp, from before this row; all others are 0. at: of the
 * first one. */
template <int EACH, int GROUPS>
UT_DEVICE void brief_rows(const void *cache, int64_t at, int row_size, int part, int oldest,
                          int pos, uint4 rows[EACH])
{
    const uint4 none = {0, 0, 0, 0};
#pragma unroll
    for (int u = 0; u < EACH; u++) {
        const int i = u * GROUPS + part;
        rows[u] = none;
        if (i >= oldest && i < pos)
            rows[u] = __ldcg((const uint4 *)((const uint16_t *)cache + at + i * row_size));
    }
}

/* Row `row` of a slot's key head. */
template <int DIM>
UT_DEVICE void brief_row(const cu_frame_attention &p, int slot, int kv, int row,
                         const mail_clock &clock)
{
    enum { LANES = DIM / 8, GROUPS = 32 / LANES, EACH = CU_ATT_BRIEF / GROUPS, LAST = EACH - 1 };
    const cu_qkv_args &a = p.qkv;
    const int lane = thread() % 32, d = lane % LANES * 8, part = lane / LANES;
    const int pos = a.first_pos + row, oldest = pos - p.reach + 1;
    const int64_t base = slot * a.cache_slot + kv * DIM + d;
    const int row_size = a.kv_heads * DIM;
#pragma unroll 1
    for (int j = thread() / 32; j < p.group; j += UT_WARPS) {
        const int head = kv * p.group + j;
        uint4 k[EACH], v[EACH];
        float x[8], y[8], s[EACH], angle[16];
        const brief_head q = brief_look(p, slot, row, head, d, clock);
        const brief_head key = brief_look(p, slot, row, a.heads + kv, d, clock);
        brief_angles<DIM>(a, slot, row, d, angle);
        brief_rows<EACH, GROUPS>(a.cache_k, base, row_size, part, oldest, pos, k);
        brief_take(p, slot, key, clock.frame, x);
        brief_turn<DIM>(a, angle, a.k_gain ? a.k_gain + d : NULL, x);
        if (part == GROUPS - 1)
            k[LAST] = pack_eight(x);
        brief_take(p, slot, q, clock.frame, x);
        brief_turn<DIM>(a, angle, a.q_gain ? a.q_gain + d : NULL, x);
        const brief_head value = brief_look(p, slot, row, a.heads + a.kv_heads + kv, d, clock);
        brief_rows<EACH, GROUPS>(a.cache_v, base, row_size, part, oldest, pos, v);

        float largest = -INFINITY, sum = 0.0f;
#pragma unroll
        for (int u = 0; u < EACH; u++) {
            const int i = u * GROUPS + part;
            float f[8];
            group<CU_BF16>::unpack(k[u], f);
            s[u] = 0.0f;
#pragma unroll
            for (int c = 0; c < 8; c++)
                s[u] = fmaf(x[c], f[c], s[u]);
            s[u] = sum_lanes<LANES>(s[u]) * p.scale;
            if ((i < oldest || i >= pos) && i != CU_ATT_BRIEF - 1)
                s[u] = -INFINITY;
            largest = s[u] > largest ? s[u] : largest;
        }
#pragma unroll
        for (int away = LANES; away < 32; away *= 2) {
            const float other = __shfl_xor_sync(UT_FULL, largest, away);
            largest = other > largest ? other : largest;
        }
        brief_take(p, slot, value, clock.frame, x);
        if (part == GROUPS - 1)
            v[LAST] = pack_eight(x);
#pragma unroll
        for (int c = 0; c < 8; c++)
            y[c] = 0.0f;
#pragma unroll
        for (int u = 0; u < EACH; u++) {
            const float w = s[u] == -INFINITY ? 0.0f : expf(s[u] - largest);
            float f[8];
            group<CU_BF16>::unpack(v[u], f);
            sum += w;
#pragma unroll
            for (int c = 0; c < 8; c++)
                y[c] = fmaf(w, f[c], y[c]);
        }
        int own = d; /* the lane's first of DIM / 32 dimensions */
        own += lane & LANES ? 4 : 0;
        halve_groups<4>(y, LANES);
        if (GROUPS == 4) {
            own += lane & (2 * LANES % 32) ? 2 : 0;
            halve_groups<2>(y, 2 * LANES % 32);
        }
#pragma unroll
        for (int away = LANES; away < 32; away *= 2)
            sum += __shfl_xor_sync(UT_FULL, sum, away);
        const float share = 1.0f / sum;
        const int64_t at = (int64_t)(row * a.heads + head) * DIM + own;
        cu_mail *to = p.y_mail;
        if (to)
            to += (int64_t)slot * a.rows * a.heads * DIM + at;
#pragma unroll
        for (int i = 0; i < DIM / 32; i += 2) {
            const float2 two = {y[i] * share, y[i + 1] * share};
            if (to)
                mail_leave_two(to + i, two.x, two.y, clock);
            if (a.y)
                *(float2 *)(a.y + slot * a.y_slot + at + i) = two;
        }
        if (j == 0 && part == GROUPS - 1) {
            *(uint4 *)((uint16_t *)a.cache_k + base + pos * row_size) = k[LAST];
            *(uint4 *)((uint16_t *)a.cache_v + base + pos * row_size) = v[LAST];
        }
    }
}

/* Of all slots and key heads, a block has some. A row is in the caches when the next one looks. */
template <int DIM> UT_DEVICE void brief_all(const cu_frame_attention &p, const mail_clock &clock)
{
    const cu_qkv_args &a = p.qkv;
    for (int head = (int)blockIdx.x; head < a.slots * a.kv_heads; head += (int)gridDim.x) {
        const int slot = a.slots == 1 ? 0 : head / a.kv_heads, kv = head - slot * a.kv_heads;
        for (int row = 0; row < a.rows; row++) {
            if (row > 0)
                __syncthreads();
            brief_row<DIM>(p, slot, kv, row, clock);
        }
    }
}
