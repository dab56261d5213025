/* frame_row.cuh - the phases that a frame of one slot is made of: one row of x times a matrix of
 * bf16, with a norm in front, a gate or a residual behind. A phase is a chain of instructions, and
 * what it lasts is their number: what is the same for all threads was found by the warp that
 * fetches, what is known before x comes is done before, and forms and sizes that there are have
 * code of their own. All else goes the general way (frame_linear.cuh); the bits are the same.
 *
 * Tiles, x and the order of sums are those of frame_tensor.cuh. */
#pragma once

#include "backends/cuda/kernels/frame_tensor.cuh"

#if UT_MMA

/* X(number, steps, tiles, chunks, form): k = 512 steps; chunks of up to 8 tiles rows, so many of
 * which are in registers before x is there. Of those that differ in chunks alone, the most first.
 */
#define ROW_WAYS(X)                                                                                \
    X(1, 2, 2, 2, CU_PRODUCT_GATED)                                                                \
    X(2, 2, 2, 2, CU_PRODUCT_NORMED)                                                               \
    X(3, 2, 2, 1, CU_PRODUCT_NORMED)                                                               \
    X(4, 2, 1, 1, CU_PRODUCT_NORMED)                                                               \
    X(5, 2, 1, 1, CU_PRODUCT_ADDED)                                                                \
    X(6, 4, 1, 1, CU_PRODUCT_ADDED)                                                                \
    X(7, 6, 1, 1, CU_PRODUCT_ADDED)                                                                \
    X(8, 4, 1, 1, CU_PRODUCT_NORMED)                                                               \
    X(9, 4, 1, 1, CU_PRODUCT_GATED)

/* The number of the way that a phase goes, or 0: by the warp that fetches. */
UT_DEVICE int row_way(const cu_frame_linear &p)
{
    const int rows = p.load.count * p.load.matrices,
              chunks = (rows + p.load.chunk - 1) / p.load.chunk;
    const int tiles = (rows < p.load.chunk ? rows : p.load.chunk) > 8 ? 2 : 1;
    int way = 0;
    if (rows == 0 || p.k != p.load.ld)
        return 0;
#define LIKE(number, steps, t, most, f)                                                            \
    if (p.form == f && p.k == 512 * steps && tiles == t && (chunks <= most || way == 0))           \
        way = number;
    ROW_WAYS(LIKE)
#undef LIKE
    return way;
}

/* Tiles of rows of the matrix in registers, the warp's 64 STEPS columns. */
template <int STEPS, int T> struct row_tiles {
    enum { PITCH = 2 * 64 * STEPS * UT_WARPS };
    uint4 first[STEPS][T], second[STEPS][T];

    /* The warp's columns of n rows. */
    UT_DEVICE_MEMBER void load(const ring_rows &rows, int n, int warp, const tile_place &at)
    {
#pragma unroll
        for (int t = 0; t < T; t++) { /* rows past the end are the last one */
            const int r = at.g + 8 * t < n ? at.g + 8 * t : n - 1;
            const unsigned char *row = rows.row(r, PITCH) + warp * (128 * STEPS) + at.w;
#pragma unroll
            for (int s = 0; s < STEPS; s++) {
                first[s][t] = *(const uint4 *)(row + 128 * s);
                second[s][t] = *(const uint4 *)(row + 128 * s + at.w_away);
            }
        }
    }
};

/* A row of x in registers, likewise. */
template <int STEPS> struct x_slice {
    uint2 first[STEPS], second[STEPS];

    UT_DEVICE_MEMBER void load(const uint32_t *x, const tile_place &at)
    {
        const unsigned char *xp = (const unsigned char *)x + at.x;
#pragma unroll
        for (int s = 0; s < STEPS; s++) {
            first[s] = *(const uint2 *)(xp + 128 * s);
            second[s] = *(const uint2 *)(xp + 128 * s + at.x_away);
        }
    }
    template <int T>
    UT_DEVICE_MEMBER void times(const row_tiles<STEPS, T> &w, int n, const tile_place &at,
                                float *sums) const
    {
        float c[T][2][4] = {{{0.0f}}};
#pragma unroll
        for (int s = 0; s < STEPS; s++) {
            const uint32_t x0[2] = {first[s].x, first[s].y}, x1[2] = {second[s].x, second[s].y};
#pragma unroll
            for (int t = 0; t < T; t++) {
                const uint4 u = w.first[s][t], v = w.second[s][t];
                const uint32_t a0[4] = {u.x, u.y, u.z, u.w}, a1[4] = {v.x, v.y, v.z, v.w};
                mma_bf16(c[t][0], a0, x0);
                mma_bf16(c[t][1], a1, x1);
            }
        }
        put_tiles<T>(c, at.g, at.q, n, sums);
    }
};

/* The block's rows, chunk by chunk. */
template <int STEPS, int T> struct row_chunks {
    enum { PITCH = row_tiles<STEPS, T>::PITCH };
    int chunk, left; /* rows */
    float *sums;     /* of the chunk, the warp's */
    int warp;

    UT_DEVICE_MEMBER int rows(void) const { return left < chunk ? left : chunk; }
    /* This one, once it is there: the warp's columns. */
    UT_DEVICE_MEMBER void take(row_tiles<STEPS, T> &w, weight_ring &ring,
                               const tile_place &at) const
    {
        const int n = rows();
        w.load(ring_take(ring, n, PITCH), n, warp, at);
    }
    UT_DEVICE_MEMBER void next(void)
    {
        left -= chunk;
        sums += chunk * UT_WARPS;
    }
};

/* The warp's products, to sums [rows of the block, UT_WARPS]; with a norm also its part of the sum
 * of squares. CHUNKS of them are in registers before x is there, if the ring has room for as many,
 * and for a row that is left out at its end: they are not given back before they were used. */
template <int STEPS, int T, int CHUNKS, bool NORMED>
UT_DEVICE void row_products(const cu_frame_linear &p, const cu_frame_load &l,
                            const linear_shared &s, int t, weight_ring &ring,
                            const mail_clock &clock)
{
    enum { SLICE = 64 * STEPS, U = STEPS / 2 };
    const int warp = t / 32, column = t % 32 * 4, first = warp * SLICE + column;
    const int all = l.count * l.matrices;
    const bool roomy = (CHUNKS * l.chunk + 1) * row_tiles<STEPS, T>::PITCH <= ring.size;
    uint32_t *xs = (uint32_t *)s.xs + warp * 2 * slice_pitch(SLICE);
    const tile_place at(SLICE, t % 32);
    row_chunks<STEPS, T> ahead = {l.chunk, all, s.sums + warp, warp}, chunk = ahead;
    row_tiles<STEPS, T> w[CHUNKS];
    x_groups<U> groups;
    x_slice<STEPS> x;
    if (p.x_mail)
        groups.look(p.x_mail + first, column, SLICE, clock.frame);
    else
        groups.load(p.x + first, column, SLICE);
#pragma unroll
    for (int i = 0; i < CHUNKS; i++)
        if (i == 0 || (ahead.left > 0 && roomy)) {
            ahead.take(w[i], ring, at);
            ahead.next();
        }
    if (p.x_mail)
        groups.take(p.x_mail + first, clock.frame);
    const float *gains = s.gains + l.side * s.gains_size + first;
    const float square = put_groups<U>(groups, column, SLICE, NORMED ? gains : NULL, xs);
    __syncwarp();
    x.load(xs, at);
#pragma unroll
    for (int i = 0; i < CHUNKS; i++)
        if (i == 0 || (chunk.left > 0 && roomy)) {
            x.times(w[i], chunk.rows(), at, chunk.sums);
            ring_give(ring);
            chunk.next();
            if (NORMED && i == 0)
                leave_square(s.squares, t, square);
        }
#pragma unroll 1
    for (; chunk.left > 0; chunk.next()) {
        chunk.take(w[0], ring, at);
        x.times(w[0], chunk.rows(), at, chunk.sums);
        ring_give(ring);
    }
}

/* Of one of the block's rows. */
UT_DEVICE float row_sum(const float *sums, int row)
{
    return sum_warps(sums + row * UT_WARPS);
}

/* The residual of a result of the block, on its way. */
UT_DEVICE mail_look<1> row_residual(const cu_frame_linear &p, const cu_frame_load &l, int own)
{
    const int r = l.first + (own < l.count ? own : l.count - 1);
    mail_look<1> look = {{0}};
    if (p.residual_mail)
        look.at(p.residual_mail + r);
    else
        look.word[0] = __float_as_uint(__ldcg(p.residual + r));
    return look;
}

/* Results of the block, a few for each warp, as send_results has them. t: the thread; own: its
 * first one; early: that one's residual. */
template <int FORM>
UT_DEVICE void row_send(const cu_frame_linear &p, const cu_frame_load &l, const linear_shared &s,
                        int t, const mail_clock &clock, int own, mail_look<1> early)
{
    const int in = t % RESULTS_AT_ONCE, place = t % 32 / RESULTS_AT_ONCE;
    const int end = t / 32 * l.each + l.each, most = end < l.count ? end : l.count;
    cu_mail *to = p.y_mail && place < clock.places ? p.y_mail + place * clock.stride : NULL;
    float scale = 1.0f;
    if (FORM != CU_PRODUCT_ADDED)
        scale = rsqrtf(fmaf(row_sum(s.squares, 0), p.inverse_k, p.eps));
#pragma unroll 1
    for (; own - in < most; own += RESULTS_AT_ONCE) {
        const int r = own < most ? own : most - 1; /* lanes without a result do the last */
        float v;
        if (FORM == CU_PRODUCT_GATED) {
            const gated_rows rows = rows_of_gated(l, r);
            v = row_sum(s.sums, rows.gate) * scale;
            v = silu(v) * (row_sum(s.sums, rows.other) * scale);
        } else {
            v = row_sum(s.sums, r) * scale;
        }
        if (FORM == CU_PRODUCT_ADDED) {
            if (p.residual_mail)
                early.wait(p.residual_mail + l.first + r, clock.frame);
            v += early[0];
        }
        const uint32_t word = mail_of(v, clock.frame);
        if (own < most && to)
            send_word(to + l.first + r, word);
        if (own < most && p.y && place == 0)
            p.y[l.first + r] = mail_value(word);
        if (FORM == CU_PRODUCT_ADDED && own + RESULTS_AT_ONCE - in < most)
            early = row_residual(p, l, own + RESULTS_AT_ONCE);
    }
}

template <int STEPS, int T, int CHUNKS, int FORM>
UT_DEVICE void row_phase(const cu_frame_linear &phase, const linear_shared &s, weight_ring &ring,
                         const mail_clock &clock)
{
    const cu_frame_load l = phase.load; /* in registers: what waits for mail reads all else again */
    const int t = thread(), own = t / 32 * l.each + t % RESULTS_AT_ONCE;
    mail_look<1> early = {{0}}; /* on its way while others work */
    if (FORM == CU_PRODUCT_ADDED)
        early = row_residual(phase, l, own);
    row_products<STEPS, T, CHUNKS, FORM != CU_PRODUCT_ADDED>(phase, l, s, t, ring, clock);
    const cu_frame_linear p = phase;
    block_meet();
    row_send<FORM>(p, l, s, t, clock, own, early);
}

/* A phase, by way number `way`. */
UT_DEVICE void frame_row(const cu_frame_linear &p, int way, const linear_shared &s,
                         weight_ring &ring, const mail_clock &clock)
{
    switch (way) {
#define GO(number, steps, t, chunks, form)                                                         \
    case number:                                                                                   \
        row_phase<steps, t, chunks, form>(p, s, ring, clock);                                      \
        break;
        ROW_WAYS(GO)
#undef GO
    }
}

#else

UT_DEVICE int row_way(const cu_frame_linear &)
{
    return 0;
}

UT_DEVICE void frame_row(const cu_frame_linear &, int, const linear_shared &, weight_ring &,
                         const mail_clock &)
{
}

#endif
