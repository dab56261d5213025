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

/* Elements from row to row of x in shared memory, two for each of x: eight rows are in different
 * banks, and 16 elements behind the end may be read. */
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

/* n rows of a chunk times `these` rows of x, the warp's part, to sums [.., all_rows, UT_WARPS]. w:
 * the warp's columns of row 0; x [these, 2, pitch]. */
UT_DEVICE void tile_of(const unsigned char *w, int pitch, int n, const uint16_t *x, int these,
                       int slice, const void *zeros, float *sums, int all_rows)
{
    const int lane = threadIdx.x % 32, g = lane / 4, q = lane % 4, in = lane % 8, matrix = lane / 8;
    const int row = in + (matrix & 1) * 8, steps = slice / 16;
    const unsigned char *wp = w + (size_t)((row < n ? row : n - 1) * pitch + (matrix >> 1) * 16);
    const bool live = in < 2 * these;
    const unsigned char *xp =
        live ? (const unsigned char *)(x + in * slice_pitch(slice) + matrix * 8)
             : (const unsigned char *)zeros;
    const int x_step = live ? 64 : 0; /* bytes of two steps */
    float c[2][4] = {{0.0f}};
    int k = 0;
#pragma unroll 4
    for (; k + 2 <= steps; k += 2, wp += 64, xp += x_step) {
        uint32_t a0[4], a1[4], b[4];
        load_matrices(b, xp);
        load_matrices(a0, wp);
        load_matrices(a1, wp + 32);
        mma_bf16(c[0], a0, b);
        mma_bf16(c[1], a1, b + 2);
    }
    if (k < steps) {
        uint32_t a0[4], b[4];
        load_matrices(b, xp);
        load_matrices(a0, wp);
        mma_bf16(c[0], a0, b);
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
    const int slice = p.a.k / UT_WARPS, pitch = chunk_pitch(l), all_rows = l.count * l.matrices;
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
                    rows - m < X_ROWS_AT_ONCE ? rows - m : X_ROWS_AT_ONCE, slice, s.zeros,
                    s.sums + (m * all_rows + at * l.matrices) * UT_WARPS, all_rows);
        at += n;
        if (in_turns && at < l.count) {
            __syncthreads();
            ring_ask(ring, s.loads, s.n_loads);
        }
    }
}

#endif
