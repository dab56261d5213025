/* frame_tensor.cuh - products of a frame on tensor cores, for matrices of bf16. A warp has an
 * eighth of the columns, of x as of every row of the matrix, so that x goes from the mail to its
 * reader and to nobody else. x is two numbers of bf16: what that has of it (high), and what it has
 * rounded away (low).
 *
 * A lane reads 16 bytes of a row of the matrix, four words of two columns, and hands them to the
 * tensor core as they are: words 0 and 2 are then of row g of a tile, 1 and 3 of its row g + 8 (see
 * mma.cuh). So a tile is 8 rows of the matrix, and of the 8 columns of B some are words 0 and 2 of
 * x, some words 1 and 3. Rows of a chunk all begin at the same bank of shared memory, so that of 64
 * columns rows of odd number read the second half first; for them B has columns of its own, too:
 *
 *   column of B   bit 0: high or low    bit 1: words 0, 2 or 1, 3    bit 2: even or odd rows
 *
 * What the other combinations come to is left where it is. A sum is two chains (of either half) of
 * each of these parts, then a tree over the warps: its order depends on K alone. */
#pragma once

#include "backends/cuda/kernels/frame_sums.cuh"
#include "backends/cuda/kernels/mma.cuh"

#if UT_MMA

/* Words from row to row of x in shared memory: two for each of x, which are in different banks. */
UT_DEVICE int slice_pitch(int slice)
{
    return (slice + CU_SLICE_GAP) / 2;
}

/* ---- x --------------------------------------------------------------------------------------- */

/* Four columns of x in each of U groups of 128, by a lane: c .. c + 3, c + 128 .. */
template <int U> struct x_groups {
    mail_look<4> four[U];

    /* Those from `slice` on are 0, and there. */
    UT_DEVICE_MEMBER void look(const cu_mail *x, int c, int slice, uint32_t frame)
    {
#pragma unroll
        for (int i = 0; i < U; i++) {
#pragma unroll
            for (int k = 0; k < 4; k++)
                four[i].word[k] = frame & 1;
            if (c + 128 * i < slice)
                four[i].at(x + 128 * i);
        }
    }
    /* Look again for those that are not there: 0 where all are. */
    UT_DEVICE_MEMBER uint32_t again(const cu_mail *x, uint32_t frame)
    {
        uint32_t missing = 0;
#pragma unroll
        for (int i = 0; i < U; i++) {
            const uint32_t these = four[i].missing(frame);
            if (these)
                four[i].at(x + 128 * i);
            missing |= these;
        }
        return missing;
    }
    /* As mail would have them. */
    UT_DEVICE_MEMBER void load(const float *x, int c, int slice)
    {
#pragma unroll
        for (int i = 0; i < U; i++) {
            float4 v = {0.0f, 0.0f, 0.0f, 0.0f};
            if (c + 128 * i < slice)
                v = __ldcg((const float4 *)(x + 128 * i));
            four[i].word[0] = __float_as_uint(v.x), four[i].word[1] = __float_as_uint(v.y);
            four[i].word[2] = __float_as_uint(v.z), four[i].word[3] = __float_as_uint(v.w);
        }
    }
};

/* Once they are there, of rows of x that are k columns long: looked for side by side. */
template <int U, int ROWS>
UT_DEVICE void take_groups(x_groups<U> (&rows)[ROWS], const cu_mail *x, int k, uint32_t frame)
{
    uint32_t polls = 0, missing;
    do {
        missing = 0;
#pragma unroll
        for (int m = 0; m < ROWS; m++)
            missing |= rows[m].again(x + m * k, frame);
        mail_again(++polls);
    } while (missing);
    __syncwarp(); /* lanes that waited longer are behind */
}

/* Columns c .. c + 3 of x, c a multiple of 4: of eight columns words 0 and 2 lie together, and so
 * do 1 and 3. */
UT_DEVICE void put_four(uint32_t *xs, int pitch, int c, float4 f)
{
    uint32_t *to = xs + c / 8 * 4 + (c >> 2 & 1);
    const uint32_t u = pack_bf16(f.x, f.y), v = pack_bf16(f.z, f.w);
    to[0] = u;
    to[2] = v;
    to[pitch] = pack_low(f.x, f.y, u);
    to[pitch + 2] = pack_low(f.z, f.w, v);
}

/* U groups of a row of x from column c of the warp's slice on, times the norm's gain, to shared
 * memory; the sum of their squares. x and gains are those of column c. */
template <int U>
UT_DEVICE float put_groups(const x_groups<U> &x, int c, int slice, const float *gains, uint32_t *xs)
{
    float square = 0.0f;
#pragma unroll
    for (int i = 0; i < U; i++) {
        if (c + 128 * i >= slice)
            continue;
        float4 f = {x.four[i][0], x.four[i][1], x.four[i][2], x.four[i][3]};
        if (gains) {
            const float4 g = *(const float4 *)(gains + 128 * i);
            square = fmaf(f.w, f.w, fmaf(f.z, f.z, fmaf(f.y, f.y, fmaf(f.x, f.x, square))));
            f.x *= g.x, f.y *= g.y, f.z *= g.z, f.w *= g.w;
        }
        put_four(xs, slice_pitch(slice), c + 128 * i, f);
    }
    return square;
}

/* The warp's slice of a row of x, which lies in the mail or, where that is 0, at `plain`; all are
 * those of this lane's first column. */
struct x_row {
    const cu_mail *mail;
    const float *plain, *gains;
    int c, slice;
};

template <int U>
UT_DEVICE float bring_groups(const x_row &r, int done, uint32_t frame, uint32_t *xs)
{
    const int c = r.c + done;
    x_groups<U> x[1];
    if (r.mail) {
        x[0].look(r.mail + done, c, r.slice, frame);
        take_groups(x, r.mail + done, 0, frame);
    } else {
        x[0].load(r.plain + done, c, r.slice);
    }
    return put_groups<U>(x[0], c, r.slice, r.gains ? r.gains + done : NULL, xs);
}

UT_DEVICE float bring_slice(const x_row &r, uint32_t frame, uint32_t *xs)
{
    if (r.slice <= 128)
        return bring_groups<1>(r, 0, frame, xs);
    if (r.slice <= 256)
        return bring_groups<2>(r, 0, frame, xs);
    float square = 0.0f;
#pragma unroll 1
    for (int done = 0; done < r.slice; done += 384)
        square += bring_groups<3>(r, done, frame, xs);
    return square;
}

/* ---- Products -------------------------------------------------------------------------------- */

/* Where a lane reads: rows of the matrix, at their first half of 64 columns or at the second, and
 * the other half from there; x likewise, in bytes. */
struct tile_place {
    int g, q, w, w_away, x, x_away;
    UT_DEVICE_MEMBER tile_place(int slice, int lane)
    {
        g = lane / 4, q = lane % 4;
        w = q * 16 + (g & 1 ? 64 : 0), w_away = g & 1 ? -64 : 64;
        x = (g & 1) * slice_pitch(slice) * 4 + (g & 4 ? 64 : 0) + (g & 2) * 4 + q * 16;
        x_away = g & 4 ? -64 : 64;
    }
};

/* From the sums of T tiles to the warp's of sums [n, UT_WARPS]. */
template <int T> UT_DEVICE void put_tiles(const float c[T][2][4], int g, int q, int n, float *sums)
{
    float sum[T]; /* lanes q = 0, 1 have even rows, 2, 3 odd ones */
#pragma unroll
    for (int t = 0; t < T; t++) {
        const float even = (c[t][0][0] + c[t][0][1]) + (c[t][1][0] + c[t][1][1]);
        const float odd = (c[t][0][2] + c[t][0][3]) + (c[t][1][2] + c[t][1][3]);
        sum[t] = q & 1 ? odd : even;
        sum[t] += __shfl_xor_sync(UT_FULL, sum[t], 1);
    }
    const int r = T == 2 && (q & 1) ? g + 8 : g;
    if ((q >> 1) == (g & 1) && r < n && (T == 2 || !(q & 1)))
        sums[r * UT_WARPS] = T == 2 && (q & 1) ? sum[T - 1] : sum[0];
}

/* n rows of a chunk, at most 8 T, times a row of x, the warp's part, to sums [n, UT_WARPS]. x: the
 * high and the low part. */
template <int T>
UT_DEVICE void tile_of(const ring_rows &rows, int pitch, int n, const uint32_t *x, int slice,
                       float *sums)
{
    const tile_place at(slice, thread() % 32);
    const unsigned char *row[T], *xp = (const unsigned char *)x + at.x;
    float c[T][2][4] = {{{0.0f}}};
#pragma unroll
    for (int t = 0; t < T; t++) /* rows past the end are the last one */
        row[t] = rows.row(at.g + 8 * t < n ? at.g + 8 * t : n - 1, pitch) +
                 thread() / 32 * slice * 2 + at.w;
#pragma unroll 2
    for (int k = 0; k < slice; k += 64) {
        const uint2 b0 = *(const uint2 *)(xp + 2 * k),
                    b1 = *(const uint2 *)(xp + 2 * k + at.x_away);
        const uint32_t x0[2] = {b0.x, b0.y}, x1[2] = {b1.x, b1.y};
#pragma unroll
        for (int t = 0; t < T; t++) {
            const uint4 u = *(const uint4 *)(row[t] + 2 * k);
            const uint4 v = *(const uint4 *)(row[t] + 2 * k + at.w_away);
            const uint32_t a0[4] = {u.x, u.y, u.z, u.w}, a1[4] = {v.x, v.y, v.z, v.w};
            mma_bf16(c[t][0], a0, x0);
            mma_bf16(c[t][1], a1, x1);
        }
    }
    put_tiles<T>(c, at.g, at.q, n, sums + thread() / 32);
}

/* The chunks of this block's rows, one after another. */
struct chunk_walk {
    int at, n; /* the chunk's first output, and rows */
    ring_rows rows;
    int slice;

    UT_DEVICE_MEMBER chunk_walk(int columns) : at(0), slice(columns) {}
    UT_DEVICE_MEMBER void take(const cu_frame_load &l, weight_ring &ring)
    {
        n = chunk_outputs(l, at) * l.matrices;
        rows = ring_take(ring, n, l.ld * 2);
    }
    UT_DEVICE_MEMBER float *sums(const cu_frame_load &l, const linear_shared &s) const
    {
        return s.sums + at * l.matrices * UT_WARPS;
    }
    /* The warp is done with it; is there another one? */
    UT_DEVICE_MEMBER bool next(const cu_frame_load &l, weight_ring &ring)
    {
        ring_give(ring);
        at += chunk_outputs(l, at);
        return at < l.count;
    }
};

/* The warp's slice of row m of x. */
UT_DEVICE x_row row_of_x(const cu_frame_linear &p, const cu_frame_load &l, int m, int slice,
                         const linear_shared &s)
{
    const int k = p.k, lane = thread() % 32, first = thread() / 32 * slice + lane * 4;
    const int slot = p.rows == 1 ? m : m / p.rows;
    const float *gains = p.gain ? s.gains + l.side * s.gains_size + first : NULL;
    x_row r = {NULL, NULL, gains, lane * 4, slice};
    if (p.x_mail)
        r.mail = p.x_mail + (int64_t)m * k + first;
    else
        r.plain = p.x + slot * p.x_slot + (int64_t)(m - slot * p.rows) * k + first;
    return r;
}

/* All rows of this block times all rows of x. */
UT_DEVICE void tensor_products(const cu_frame_linear &p, const cu_frame_load &l, int rows,
                               const linear_shared &s, weight_ring &ring, const mail_clock &clock)
{
    const int slice = p.k / UT_WARPS, pitch = l.ld * 2, all_rows = l.count * l.matrices;
    const int x_words = 2 * slice_pitch(slice);
    uint32_t *xs = (uint32_t *)s.xs + thread() / 32 * rows * x_words;
#pragma unroll 1
    for (int m = 0; m < rows; m++) {
        const float square =
            bring_slice(row_of_x(p, l, m, slice, s), clock.frame, xs + m * x_words);
        if (p.gain)
            leave_square(s.squares + m * UT_WARPS, thread(), square);
    }
    __syncwarp();
    if (l.count == 0) /* more blocks than rows */
        return;
    chunk_walk chunk(slice);
    do {
        chunk.take(l, ring);
        float *sums = chunk.sums(l, s);
#pragma unroll 1
        for (int m = 0; m < rows; m++, sums += all_rows * UT_WARPS)
            if (chunk.n > 8)
                tile_of<2>(chunk.rows, pitch, chunk.n, xs + m * x_words, slice, sums);
            else
                tile_of<1>(chunk.rows, pitch, chunk.n, xs + m * x_words, slice, sums);
    } while (chunk.next(l, ring));
}

#endif
