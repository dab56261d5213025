/* frame_row.cuh - the phases that a frame of one slot is made of: a row of x, or two, times a
 * matrix of bf16, with a norm in front, a gate or a residual behind. A phase is a chain of
 * instructions, and what it lasts is their number: what is the same for all threads was found by
 * the warp that fetches, what is known before x comes is done before, and forms and sizes that
 * there are have code of their own. All else goes the general way (frame_linear.cuh); the bits are
 * the same.
 *
 * Tiles, x and the order of sums are those of frame_tensor.cuh. */
#pragma once

#include "backends/cuda/kernels/frame_tensor.cuh"

#if UT_MMA

/* X(number, rows, steps, tiles, chunks, form): of x, so many rows, of k = 512 steps columns; of the
 * matrix, chunks of up to 8 tiles rows, so many of which are in registers before x is there. Of
 * those that differ in chunks alone, the most first. Two rows are what the first pass of a small
 * transformer has. */
#define ROW_WAYS(X)                                                                                \
    X(1, 1, 2, 2, 2, CU_PRODUCT_GATED)                                                             \
    X(2, 1, 2, 2, 2, CU_PRODUCT_NORMED)                                                            \
    X(3, 1, 2, 2, 1, CU_PRODUCT_NORMED)                                                            \
    X(4, 1, 2, 1, 1, CU_PRODUCT_NORMED)                                                            \
    X(5, 1, 2, 1, 1, CU_PRODUCT_ADDED)                                                             \
    X(6, 1, 4, 1, 1, CU_PRODUCT_ADDED)                                                             \
    X(7, 1, 6, 1, 1, CU_PRODUCT_ADDED)                                                             \
    X(8, 1, 4, 1, 1, CU_PRODUCT_NORMED)                                                            \
    X(9, 1, 4, 1, 1, CU_PRODUCT_GATED)                                                             \
    X(10, 2, 2, 2, 2, CU_PRODUCT_GATED)                                                            \
    X(11, 2, 2, 2, 2, CU_PRODUCT_NORMED)                                                           \
    X(12, 2, 2, 2, 1, CU_PRODUCT_NORMED)                                                           \
    X(13, 2, 2, 1, 1, CU_PRODUCT_NORMED)                                                           \
    X(14, 2, 2, 1, 1, CU_PRODUCT_ADDED)                                                            \
    X(15, 2, 4, 1, 1, CU_PRODUCT_ADDED)                                                            \
    X(16, 2, 6, 1, 1, CU_PRODUCT_ADDED)

/* What a way is chosen by. */
#define ROW_KEY(form, rows, k, tiles) ((((k)*4 + (tiles)) * 32 + (rows)) * 4 + (form))
static_assert(CU_FRAME_ROWS < 32 && CU_PRODUCT_ADDED < 4, "keys differ");

/* The number of the way that a phase goes, or 0: by the warp that fetches. */
UT_DEVICE int row_way(const cu_frame_linear &p)
{
    const int rows = p.load.count * p.load.matrices,
              chunks = (rows + p.load.chunk - 1) / p.load.chunk;
    const int tiles = (rows < p.load.chunk ? rows : p.load.chunk) > 8 ? 2 : 1;
    const int key = ROW_KEY(p.form, p.rows, p.k, tiles);
    int way = 0;
    if (rows == 0 || p.k != p.load.ld)
        return 0;
#define LIKE(number, of_x, steps, t, most, f)                                                      \
    if (key == ROW_KEY(f, of_x, 512 * steps, t) && (chunks <= most || way == 0))                   \
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
};

/* n rows of the matrix times rows of x, the warp's part, to sums [rows of x, apart]. */
template <int STEPS, int T, int ROWS>
UT_DEVICE void multiply(const row_tiles<STEPS, T> &w, const x_slice<STEPS> (&x)[ROWS], int n,
                        const tile_place &at, float *sums, int apart)
{
    float c[ROWS][T][2][4] = {{{{0.0f}}}};
#pragma unroll
    for (int s = 0; s < STEPS; s++) {
#pragma unroll
        for (int m = 0; m < ROWS; m++) {
            const uint2 f = x[m].first[s], g = x[m].second[s];
            const uint32_t x0[2] = {f.x, f.y}, x1[2] = {g.x, g.y};
#pragma unroll
            for (int t = 0; t < T; t++) {
                const uint4 u = w.first[s][t], v = w.second[s][t];
                const uint32_t a0[4] = {u.x, u.y, u.z, u.w}, a1[4] = {v.x, v.y, v.z, v.w};
                mma_bf16(c[m][t][0], a0, x0);
                mma_bf16(c[m][t][1], a1, x1);
            }
        }
    }
#pragma unroll
    for (int m = 0; m < ROWS; m++)
        put_tiles<T>(c[m], at.g, at.q, n, sums + m * apart);
}

/* Rows of x, from xs [ROWS, WORDS] of the warp: two long ones are in registers one after the other,
 * else all of them. */
template <int STEPS, int ROWS> struct x_rows {
    enum { TOGETHER = ROWS * STEPS <= 8, WORDS = 64 * STEPS + CU_SLICE_GAP };
    x_slice<STEPS> row[TOGETHER ? ROWS : 1];

    UT_DEVICE_MEMBER void load(const uint32_t *xs, const tile_place &at)
    {
        if constexpr (TOGETHER)
            row[0].load(xs, at);
        if constexpr (TOGETHER && ROWS > 1)
            row[1].load(xs + WORDS, at);
    }
    template <int T>
    UT_DEVICE_MEMBER void times(const row_tiles<STEPS, T> &w, int n, const uint32_t *xs,
                                const tile_place &at, float *sums, int apart)
    {
        if constexpr (TOGETHER) {
            multiply(w, row, n, at, sums, apart);
        } else {
#pragma unroll
            for (int m = 0; m < ROWS; m++) {
                row[0].load(xs + m * WORDS, at);
                multiply(w, row, n, at, sums + m * apart, 0);
            }
        }
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

/* A warp's parts of the sums of squares of rows of x, to squares [rows, UT_WARPS]. Of two rows
 * either half of the warp adds up one, in the order of leave_square. */
template <int ROWS> UT_DEVICE void leave_squares(float *squares, int t, const float (&square)[ROWS])
{
    if constexpr (ROWS == 1) {
        leave_square(squares, t, square[0]);
    } else {
        static_assert(ROWS == 2, "a half of the warp for each");
        const bool upper = t & 16;
        const float other = upper ? square[0] : square[1];
        float sum = upper ? square[1] : square[0];
        sum += __shfl_xor_sync(UT_FULL, other, 16);
#pragma unroll
        for (int d = 8; d > 0; d /= 2)
            sum += __shfl_xor_sync(UT_FULL, sum, d);
        if (t % 16 == 0)
            squares[(upper ? UT_WARPS : 0) + t / 32] = sum;
    }
}

/* The warp's products, to sums [rows of x, rows of the block, UT_WARPS]; with a norm also its part
 * of the sums of squares. CHUNKS of them are in registers before x is there, if the ring has room
 * for as many, and for a row that is left out at its end: they are not given back before they were
 * used. */
template <int ROWS, int STEPS, int T, int CHUNKS, bool NORMED>
UT_DEVICE void row_products(const cu_frame_linear &p, const cu_frame_load &l,
                            const linear_shared &s, int t, weight_ring &ring,
                            const mail_clock &clock)
{
    enum {
        SLICE = 64 * STEPS,
        U = STEPS / 2,
        K = SLICE * UT_WARPS,
        WORDS = x_rows<STEPS, ROWS>::WORDS
    };
    const int warp = t / 32, column = t % 32 * 4, first = warp * SLICE + column;
    const int all = l.count * l.matrices, apart = all * UT_WARPS;
    const bool roomy = (CHUNKS * l.chunk + 1) * row_tiles<STEPS, T>::PITCH <= ring.size;
    uint32_t *xs = (uint32_t *)s.xs + warp * ROWS * WORDS;
    const tile_place at(SLICE, t % 32);
    row_chunks<STEPS, T> ahead = {l.chunk, all, s.sums + warp, warp}, chunk = ahead;
    row_tiles<STEPS, T> w[CHUNKS];
    x_groups<U> groups[ROWS];
    x_rows<STEPS, ROWS> x;
    float square[ROWS];
    if (p.x_mail) {
        groups[0].look(p.x_mail + first, column, SLICE, clock.frame);
        if constexpr (ROWS > 1)
            groups[1].look(p.x_mail + K + first, column, SLICE, clock.frame);
    } else {
        groups[0].load(p.x + first, column, SLICE);
        if constexpr (ROWS > 1)
            groups[1].load(p.x + K + first, column, SLICE);
    }
#pragma unroll
    for (int i = 0; i < CHUNKS; i++)
        if (i == 0 || (ahead.left > 0 && roomy)) {
            ahead.take(w[i], ring, at);
            ahead.next();
        }
    if (p.x_mail)
        take_groups(groups, p.x_mail + first, K, clock.frame);
    const float *gains = NORMED ? s.gains + l.side * s.gains_size + first : NULL;
    square[0] = put_groups<U>(groups[0], column, SLICE, gains, xs);
    if constexpr (ROWS > 1)
        square[1] = put_groups<U>(groups[1], column, SLICE, gains, xs + WORDS);
    __syncwarp();
    x.load(xs, at);
#pragma unroll
    for (int i = 0; i < CHUNKS; i++)
        if (i == 0 || (chunk.left > 0 && roomy)) {
            x.times(w[i], chunk.rows(), xs, at, chunk.sums, apart);
            ring_give(ring);
            chunk.next();
            if (NORMED && i == 0)
                leave_squares(s.squares, t, square);
        }
#pragma unroll 1
    for (; chunk.left > 0; chunk.next()) {
        chunk.take(w[0], ring, at);
        x.times(w[0], chunk.rows(), xs, at, chunk.sums, apart);
        ring_give(ring);
    }
}

/* Of one of the block's rows. */
UT_DEVICE float row_sum(const float *sums, int row)
{
    return sum_warps(sums + row * UT_WARPS);
}

/* Of RESULTS_AT_ONCE lanes, each row of x has so many side by side. */
template <int ROWS> struct row_lanes {
    enum { AT_ONCE = RESULTS_AT_ONCE / ROWS };
    int in, m; /* among those, and the row */

    UT_DEVICE_MEMBER row_lanes(int t)
    {
        in = t % AT_ONCE;
        m = ROWS == 1 ? 0 : t % RESULTS_AT_ONCE / AT_ONCE;
    }
};

/* The residual of a result of the block, for row m of x, on its way. */
UT_DEVICE mail_look<1> row_residual(const cu_frame_linear &p, const cu_frame_load &l, int m,
                                    int own)
{
    const int r = m * l.outputs + l.first + (own < l.count ? own : l.count - 1);
    mail_look<1> look = {{0}};
    if (p.residual_mail)
        look.at(p.residual_mail + r);
    else
        look.word[0] = __float_as_uint(__ldcg(p.residual + r));
    return look;
}

/* Results of the block, of all rows of x a few for each warp, to all places as send_results has
 * them. t: the thread; own: its first one; early: that one's residual. */
template <int ROWS, int FORM>
UT_DEVICE void row_send(const cu_frame_linear &p, const cu_frame_load &l, const linear_shared &s,
                        int t, const mail_clock &clock, int own, mail_look<1> early)
{
    enum { AT_ONCE = row_lanes<ROWS>::AT_ONCE };
    const row_lanes<ROWS> lane(t);
    const int place = t % 32 / RESULTS_AT_ONCE, first = lane.m * l.outputs + l.first;
    const int end = t / 32 * l.each + l.each, most = end < l.count ? end : l.count;
    const float *sums = s.sums + lane.m * (l.count * l.matrices * UT_WARPS);
    cu_mail *to = p.y_mail && place < clock.places ? p.y_mail + place * clock.stride : NULL;
    float scale = 1.0f;
    if (FORM != CU_PRODUCT_ADDED)
        scale = rsqrtf(fmaf(row_sum(s.squares, lane.m), p.inverse_k, p.eps));
#pragma unroll 1
    for (; own - lane.in < most; own += AT_ONCE) {
        const int r = own < most ? own : most - 1; /* lanes without a result do the last */
        float v;
        if (FORM == CU_PRODUCT_GATED) {
            const gated_rows rows = rows_of_gated(l, r);
            v = row_sum(sums, rows.gate) * scale;
            v = silu(v) * (row_sum(sums, rows.other) * scale);
        } else {
            v = row_sum(sums, r) * scale;
        }
        if (FORM == CU_PRODUCT_ADDED) {
            if (p.residual_mail)
                early.wait(p.residual_mail + first + r, clock.frame);
            v += early[0];
        }
        const uint32_t word = mail_of(v, clock.frame);
        if (own < most && to)
            send_word(to + first + r, word);
        if (own < most && p.y && place == 0)
            p.y[first + r] = mail_value(word);
        if (FORM == CU_PRODUCT_ADDED && own + AT_ONCE - lane.in < most)
            early = row_residual(p, l, lane.m, own + AT_ONCE);
    }
}

template <int ROWS, int STEPS, int T, int CHUNKS, int FORM>
UT_DEVICE void row_phase(const cu_frame_linear &phase, const linear_shared &s, weight_ring &ring,
                         const mail_clock &clock)
{
    const cu_frame_load l = phase.load; /* in registers: what waits for mail reads all else again */
    const int t = thread();
    const row_lanes<ROWS> lane(t);
    const int own = t / 32 * l.each + lane.in;
    mail_look<1> early = {{0}}; /* on its way while others work */
    if (FORM == CU_PRODUCT_ADDED)
        early = row_residual(phase, l, lane.m, own);
    row_products<ROWS, STEPS, T, CHUNKS, FORM != CU_PRODUCT_ADDED>(phase, l, s, t, ring, clock);
    const cu_frame_linear p = phase;
    block_meet();
    row_send<ROWS, FORM>(p, l, s, t, clock, own, early);
}

/* A phase, by way number `way`. */
UT_DEVICE void frame_row(const cu_frame_linear &p, int way, const linear_shared &s,
                         weight_ring &ring, const mail_clock &clock)
{
    switch (way) {
#define GO(number, rows, steps, t, chunks, form)                                                   \
    case number:                                                                                   \
        row_phase<rows, steps, t, chunks, form>(p, s, ring, clock);                                \
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
