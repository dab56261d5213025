/* frame_tensor.cuh - products of a frame on tensor cores, for matrices of bf16. A warp has an
 * eighth of the columns, of x as of every row of the matrix, so that x goes from the mail to its
 * reader and to nobody else. Rows of the matrix are the 16 of a tile; x is two of its 8 columns:
 * what bf16 has of it, and what that has rounded away. A sum is one chain over 16 columns at a
 * time, even and odd ones apart, the two parts of x, then a tree over the warps: its order depends
 * on K alone. */
#pragma once

#include "backends/cuda/kernels/frame_ring.cuh"
#include "backends/cuda/kernels/mma.cuh"

#if UT_MMA

enum { X_ROWS_AT_ONCE = 4 }; /* rows of x in one tile */

/* Elements from row to row of x in shared memory, two for each of x. */
UT_DEVICE int slice_pitch(int slice)
{
    return slice + CU_SLICE_GAP;
}

/* U groups of four columns of this lane, 128 apart, from column c of the warp's slice on, times the
 * norm's gain, to shared memory. */
template <int U>
UT_DEVICE void bring_groups(const cu_frame_linear &p, const linear_shared &s, int m, int slice,
                            int c, const mail_clock &clock, uint16_t *xs, float *square)
{
    const int first = (int)(threadIdx.x / 32) * slice + c, k = p.a.k;
    mail_pair a[U], b[U];
    float4 v[U];
    if (p.x_mail) {
        const cu_mail *x = p.x_mail + clock.mine + (int64_t)m * k + first;
#pragma unroll
        for (int i = 0; i < U; i++)
            if (c + 128 * i < slice) {
                a[i] = mail_look(x + 128 * i);
                b[i] = mail_look(x + 128 * i + 2);
            }
#pragma unroll
        for (int i = 0; i < U; i++)
            if (c + 128 * i < slice)
                v[i] = mail_take(x + 128 * i, a[i], b[i], clock.frame);
    } else {
        const int slot = p.a.rows == 1 ? m : m / p.a.rows;
        const float *x = p.a.x + slot * p.a.x_slot + (int64_t)(m - slot * p.a.rows) * k + first;
#pragma unroll
        for (int i = 0; i < U; i++)
            if (c + 128 * i < slice)
                v[i] = __ldcg((const float4 *)(x + 128 * i));
    }
#pragma unroll
    for (int i = 0; i < U; i++) {
        if (c + 128 * i >= slice)
            break;
        float4 f = v[i];
        if (p.gain) {
            const float4 g = *(const float4 *)(s.gains + first + 128 * i);
            *square = fmaf(f.x, f.x, *square);
            *square = fmaf(f.y, f.y, *square);
            *square = fmaf(f.z, f.z, *square);
            *square = fmaf(f.w, f.w, *square);
            f.x *= g.x, f.y *= g.y, f.z *= g.z, f.w *= g.w;
        }
        const uint2 high = {pack_bf16(f.x, f.y), pack_bf16(f.z, f.w)};
        const uint2 low = {pack_bf16(f.x - __uint_as_float(high.x << 16),
                                     f.y - __uint_as_float(high.x & 0xffff0000u)),
                           pack_bf16(f.z - __uint_as_float(high.y << 16),
                                     f.w - __uint_as_float(high.y & 0xffff0000u))};
        *(uint2 *)(xs + c + 128 * i) = high;
        *(uint2 *)(xs + slice_pitch(slice) + c + 128 * i) = low;
    }
}

/* The warp's slice of all rows of x, and its part of their sums of squares. xs [rows, 2, pitch] */
UT_DEVICE void bring_slice(const cu_frame_linear &p, const linear_shared &s, int rows, int slice,
                           const mail_clock &clock, uint16_t *xs)
{
#pragma unroll 1
    for (int m = 0; m < rows; m++, xs += 2 * slice_pitch(slice)) {
        float square = 0.0f;
        int c = (int)threadIdx.x % 32 * 4, groups = (slice + 127) / 128;
#pragma unroll 1
        for (; groups >= 3; groups -= 3, c += 3 * 128)
            bring_groups<3>(p, s, m, slice, c, clock, xs, &square);
        if (groups == 2)
            bring_groups<2>(p, s, m, slice, c, clock, xs, &square);
        else if (groups == 1)
            bring_groups<1>(p, s, m, slice, c, clock, xs, &square);
        if (p.gain) {
            square = warp_sum(square);
            if (threadIdx.x % 32 == 0)
                s.squares[m * UT_WARPS + threadIdx.x / 32] = square;
        }
    }
    __syncwarp();
}

/* 64 columns of a row of the matrix, or of x, as this lane has them: its 8 of the first 32, its 8
 * of the others. The rows of a chunk begin at the same bank, so that rows of odd number read their
 * halves the other way round. */
struct tile_row {
    uint4 half[2];
};

UT_DEVICE tile_row read_row(const unsigned char *p, bool odd)
{
    const uint4 a = *(const uint4 *)(p + (odd ? 64 : 0)), b = *(const uint4 *)(p + (odd ? 0 : 64));
    const tile_row r = {{odd ? b : a, odd ? a : b}};
    return r;
}

/* Sums over 16 columns: of the four numbers that a lane has of a row two are of one half of the 16,
 * two of the other. Which columns those are does not matter, as long as x has the same. */
UT_DEVICE void add_columns(float c[4], uint32_t r0, uint32_t r1, uint32_t s0, uint32_t s1,
                           uint32_t x0, uint32_t x1)
{
    const uint32_t a[4] = {r0, s0, r1, s1}, b[2] = {x0, x1};
    mma_bf16(c, a, b);
}

/* n rows of a chunk times `these` rows of x, the warp's part, to sums [.., all_rows, UT_WARPS]. w:
 * the warp's columns of row 0; x [these, 2, pitch]. */
UT_DEVICE void tile_of(const unsigned char *w, int pitch, int n, const uint16_t *x, int these,
                       int slice, float *sums, int all_rows)
{
    const int lane = threadIdx.x % 32, g = lane / 4, q = lane % 4;
    const bool odd = g & 1, live = g < 2 * these;
    const unsigned char *r = w + (g < n ? g : n - 1) * pitch + q * 16;
    const unsigned char *s = w + (g + 8 < n ? g + 8 : n - 1) * pitch + q * 16;
    const unsigned char *xp =
        (const unsigned char *)(x + (live ? g : 0) * slice_pitch(slice)) + q * 16;
    const uint4 none = {0, 0, 0, 0};
    float c[2][4] = {{0.0f}};
#pragma unroll 2
    for (int k = 0; k < slice; k += 64, r += 128, s += 128, xp += 128) {
        const tile_row a = read_row(r, odd), b = read_row(s, odd);
#pragma unroll
        for (int h = 0; h < 2; h++) {
            const uint4 v = live ? *(const uint4 *)(xp + h * 64) : none;
            add_columns(c[0], a.half[h].x, a.half[h].y, b.half[h].x, b.half[h].y, v.x, v.y);
            add_columns(c[1], a.half[h].z, a.half[h].w, b.half[h].z, b.half[h].w, v.z, v.w);
        }
    }
    if (q < these) {
        float *to = sums + (q * all_rows + g) * UT_WARPS + threadIdx.x / 32;
        if (g < n)
            *to = (c[0][0] + c[1][0]) + (c[0][1] + c[1][1]);
        if (g + 8 < n)
            to[8 * UT_WARPS] = (c[0][2] + c[1][2]) + (c[0][3] + c[1][3]);
    }
}

/* All rows of this block times all rows of x. */
UT_DEVICE void tensor_products(const cu_frame_linear &p, const cu_frame_load &l, int rows,
                               const linear_shared &s, weight_ring &ring, const mail_clock &clock,
                               uint64_t *trace)
{
    const int slice = p.a.k / UT_WARPS, pitch = l.ld * 2, all_rows = l.count * l.matrices;
    const int warp = threadIdx.x / 32, chunk = l.chunk * pitch;
    uint16_t *xs = (uint16_t *)s.xs + warp * rows * 2 * slice_pitch(slice);
    bring_slice(p, s, rows, slice, clock, xs);
    trace_at(trace, 1);
    const bool in_turns = all_rows * pitch + chunk > ring.size; /* they are not all there at once */
#pragma unroll 1
    for (int at = 0; at < l.count;) {
        const int n = chunk_outputs(l, at), n_rows = n * l.matrices;
        const unsigned char *w = ring_take(ring, n_rows * pitch) + warp * slice * 2;
#pragma unroll 1
        for (int m = 0; m < rows; m += X_ROWS_AT_ONCE)
            tile_of(w, pitch, n_rows, xs + m * 2 * slice_pitch(slice),
                    rows - m < X_ROWS_AT_ONCE ? rows - m : X_ROWS_AT_ONCE, slice,
                    s.sums + (m * all_rows + at * l.matrices) * UT_WARPS, all_rows);
        at += n;
        if (in_turns && at < l.count) {
            __syncthreads();
            if (is_asker())
                ring_ask(ring, s.loads, s.n_loads);
        }
    }
}

#endif
