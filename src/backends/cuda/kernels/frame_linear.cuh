/* frame_linear.cuh - products with matrices inside a frame. A block has some rows of every matrix
 * and reads each once, fetched ahead into a ring in shared memory. All threads work on every row:
 * thread t has columns 4t .. 4t + 3 of every unit of CU_UNIT columns, for x as for the matrix, so
 * that x goes from the mail to its reader and to nobody else. A sum is one chain over a thread's
 * columns, a tree over the lanes of a warp, a tree over the warps. */
#pragma once

#include "backends/cuda/kernels/frame_device.cuh"

enum { X_UNITS = 4 }; /* units of x that a thread has on their way at a time */

/* Outputs of this block: [first, first + count). */
struct output_range {
    int first, count;
};

UT_DEVICE output_range outputs_of_block(int outputs)
{
    const unsigned b = blockIdx.x, n = gridDim.x, all = (unsigned)outputs; /* all * n < 2^32 */
    const output_range r = {(int)(all * b / n), (int)(all * (b + 1) / n - all * b / n)};
    return r;
}

UT_DEVICE int size_of(int type)
{
    return type == CU_F32 ? 4 : 2;
}

/* ---- The ring -------------------------------------------------------------------------------- *
 * Chunks of rows in the order in which they are worked on, phase after phase. A chunk lies in one
 * piece: where the ring's end is too near it begins at 0 again. */

struct weight_ring {
    unsigned char *bytes;
    uint64_t *done; /* [CU_CHUNKS_AHEAD] */
    int size;       /* 0: there is no ring */
    int take_at;    /* where the next chunk to take begins, unless the end is too near */
    uint32_t taken; /* chunks */
    int freed;      /* bytes taken since the asker looked */
    /* of the asker */
    int ask_at, used;
    uint32_t asked;
    int load, output; /* next to ask for */
};

/* The thread that asks for chunks: in the warp that has the least to do at the end of a phase. */
UT_DEVICE bool is_asker(void)
{
    return threadIdx.x == CU_THREADS - 32;
}

/* Outputs of the chunk that begins with output `at` of the block's own. */
UT_DEVICE int chunk_outputs(const cu_frame_load &l, int at)
{
    const int most = l.chunk / l.matrices;
    return l.count - at < most ? l.count - at : most;
}

/* Where a chunk goes; *skipped: bytes at the end of the ring that it leaves out. */
UT_DEVICE int chunk_place(const weight_ring &r, int at, int bytes, int *skipped)
{
    const bool fits = at + bytes <= r.size;
    *skipped = fits ? 0 : r.size - at;
    return fits ? at : 0;
}

/* By the asker, when nobody reads chunks that were taken any more: fill the ring. */
UT_DEVICE void ring_ask(weight_ring &r, const cu_frame_load *loads, int n_loads)
{
    r.used -= r.freed;
    r.freed = 0;
    while (r.load < n_loads) {
        const cu_frame_load &l = loads[r.load];
        if (r.output >= l.count) {
            r.load++;
            r.output = 0;
            continue;
        }
        const int n = chunk_outputs(l, r.output), row = l.ld * size_of(l.type);
        int skipped;
        const int at = chunk_place(r, r.ask_at, n * l.matrices * row, &skipped);
        if (r.used + skipped + n * l.matrices * row > r.size ||
            r.asked - r.taken >= CU_CHUNKS_AHEAD)
            return;
        const unsigned char *w =
            (const unsigned char *)l.w + (size_t)(l.first + r.output) * (size_t)row;
        uint64_t *done = &r.done[r.asked % CU_CHUNKS_AHEAD];
        copy_expect(done, (uint32_t)(n * l.matrices * row));
        for (int m = 0; m < l.matrices; m++)
            copy_start(r.bytes + at + m * n * row, w + (size_t)m * (size_t)l.outputs * (size_t)row,
                       (uint32_t)(n * row), done);
        r.ask_at = at + n * l.matrices * row;
        r.used += skipped + n * l.matrices * row;
        r.asked++;
        r.output += n;
    }
}

/* The next chunk, once it is there. */
UT_DEVICE const unsigned char *ring_take(weight_ring &r, int bytes)
{
    int skipped;
    const int at = chunk_place(r, r.take_at, bytes, &skipped);
    copy_wait(&r.done[r.taken % CU_CHUNKS_AHEAD], r.taken / CU_CHUNKS_AHEAD & 1);
    r.taken++;
    r.take_at = at + bytes;
    r.freed += skipped + bytes;
    return r.bytes + at;
}

/* ---- Sums ------------------------------------------------------------------------------------ */

/* Four numbers of a matrix, 8 or 16 bytes at p. */
template <int TYPE, bool SHARED> UT_DEVICE void read_four(const unsigned char *p, float f[4])
{
    if (TYPE == CU_F32) {
        const float4 v = SHARED ? *(const float4 *)p : __ldg((const float4 *)p);
        f[0] = v.x, f[1] = v.y, f[2] = v.z, f[3] = v.w;
        return;
    }
    const uint2 u = SHARED ? *(const uint2 *)p : __ldg((const uint2 *)p);
    if (TYPE == CU_BF16) {
        f[0] = __uint_as_float(u.x << 16), f[1] = __uint_as_float(u.x & 0xffff0000u);
        f[2] = __uint_as_float(u.y << 16), f[3] = __uint_as_float(u.y & 0xffff0000u);
    } else {
        f[0] = f16_to_f32((uint16_t)u.x), f[1] = f16_to_f32((uint16_t)(u.x >> 16));
        f[2] = f16_to_f32((uint16_t)u.y), f[3] = f16_to_f32((uint16_t)(u.y >> 16));
    }
}

/* This thread's part of ROWS sums: rows w, w + pitch, ... times x. Of fewer rows (n, unless FULL)
 * the last one is read again. ld columns. */
template <int TYPE, bool SHARED, int ROWS, bool FULL>
UT_DEVICE void dot_rows(const unsigned char *w, size_t pitch, int n, int ld, const float *x,
                        float sum[ROWS])
{
#pragma unroll
    for (int r = 0; r < ROWS; r++)
        sum[r] = 0.0f;
    for (int c = (int)threadIdx.x * 4; c < ld; c += CU_UNIT) {
        const float4 v = *(const float4 *)(x + c);
        const unsigned char *p = w + (size_t)c * (TYPE == CU_F32 ? 4 : 2);
#pragma unroll
        for (int r = 0; r < ROWS; r++) {
            float f[4];
            read_four<TYPE, SHARED>(p + (size_t)(FULL || r < n ? r : n - 1) * pitch, f);
            sum[r] = fmaf(v.w, f[3], fmaf(v.z, f[2], fmaf(v.y, f[1], fmaf(v.x, f[0], sum[r]))));
        }
    }
}

/* ROWS sums over the lanes of a warp: afterwards sum[0] of lane l is that of row l * ROWS / 32. A
 * lane keeps one half of its rows and gives the other to lane l ^ WITH until one row is left. */
template <int ROWS, int WITH = 16> UT_DEVICE void sum_rows(float *sum)
{
    if constexpr (WITH > 0) {
        constexpr int HALF = ROWS > 1 ? ROWS / 2 : 1;
        const bool upper = (threadIdx.x & WITH) != 0;
#pragma unroll
        for (int i = 0; i < HALF; i++) {
            const float keep = ROWS > 1 && upper ? sum[(i + HALF) % ROWS] : sum[i];
            const float give = ROWS > 1 && !upper ? sum[(i + HALF) % ROWS] : sum[i];
            sum[i] = keep + __shfl_xor_sync(UT_FULL, give, WITH);
        }
        sum_rows<HALF, WITH / 2>(sum);
    }
}

/* A chunk of n rows, the warp's sums to sums [rows of x, all_rows, UT_WARPS]. xs [rows of x,
 * padded]
 */
template <int TYPE, bool SHARED, int ROWS, bool FULL>
UT_DEVICE void chunk_of(const unsigned char *w, size_t pitch, int n, int ld, const float *xs,
                        int padded, int rows, float *sums, int all_rows)
{
    const int lane = threadIdx.x % 32, row = lane * ROWS / 32;
    for (int m = 0; m < rows; m++) {
        float sum[ROWS];
        dot_rows<TYPE, SHARED, ROWS, FULL>(w, pitch, n, ld, xs + m * padded, sum);
        sum_rows<ROWS>(sum);
        if (lane % (32 / ROWS) == 0 && row < n)
            sums[(m * all_rows + row) * UT_WARPS + threadIdx.x / 32] = sum[0];
    }
}

template <int TYPE, bool SHARED>
UT_DEVICE void chunk(const unsigned char *w, size_t pitch, int n, int ld, const float *xs,
                     int padded, int rows, float *sums, int all_rows)
{
    if (n == 16)
        chunk_of<TYPE, SHARED, 16, true>(w, pitch, n, ld, xs, padded, rows, sums, all_rows);
    else if (n > 8)
        chunk_of<TYPE, SHARED, 16, false>(w, pitch, n, ld, xs, padded, rows, sums, all_rows);
    else if (n == 8)
        chunk_of<TYPE, SHARED, 8, true>(w, pitch, n, ld, xs, padded, rows, sums, all_rows);
    else
        chunk_of<TYPE, SHARED, 8, false>(w, pitch, n, ld, xs, padded, rows, sums, all_rows);
}

/* What a phase of products works with, in shared memory. */
struct linear_shared {
    float *xs;          /* [rows, padded] */
    float *sums;        /* [rows, rows of the matrix, UT_WARPS] */
    float *squares;     /* [rows, UT_WARPS] */
    const float *gains; /* of this phase */
    const cu_frame_load *loads;
    int n_loads;
};

/* All rows of this block: for swiglu the gates of a chunk, then what they multiply. */
template <int TYPE>
UT_DEVICE void all_chunks(const cu_frame_linear &p, const cu_frame_load &l, int rows,
                          const linear_shared &s, weight_ring &ring)
{
    const int padded = padded_columns(p.a.ldw), all_rows = l.count * l.matrices;
    const size_t pitch = (size_t)l.ld * (TYPE == CU_F32 ? 4 : 2);
    const bool in_turns = all_rows * (int)pitch + l.chunk * (int)pitch > ring.size;
    for (int at = 0; at < l.count;) {
        const int n = chunk_outputs(l, at);
        float *sums = s.sums + at * l.matrices * UT_WARPS;
        if (ring.size) {
            const unsigned char *w = ring_take(ring, n * l.matrices * (int)pitch);
            chunk<TYPE, true>(w, pitch, n * l.matrices, l.ld, s.xs, padded, rows, sums, all_rows);
        } else {
            for (int m = 0; m < l.matrices; m++)
                chunk<TYPE, false>(
                    (const unsigned char *)l.w + (size_t)(m * l.outputs + l.first + at) * pitch,
                    pitch, n, l.ld, s.xs, padded, rows, sums + m * n * UT_WARPS, all_rows);
        }
        at += n;
        if (ring.size && in_turns && at < l.count) {
            __syncthreads();
            if (is_asker())
                ring_ask(ring, s.loads, s.n_loads);
        }
    }
}

/* ---- The phase ------------------------------------------------------------------------------- */

/* The norm's gain to shared memory, by the threads that will read it. */
UT_DEVICE void bring_gain(const cu_frame_linear &p, float *gains)
{
    for (int c = threadIdx.x * 4; p.gain && c < p.a.k; c += CU_UNIT)
        ahead_start(gains + c, p.gain + c);
}

/* Row m of x, units from column c on: v[i] is columns c + i * CU_UNIT and three more. */
UT_DEVICE void bring_units(const cu_frame_linear &p, int m, int c, const mail_clock &clock,
                           float4 v[X_UNITS])
{
    const int k = p.a.k;
    if (!p.x_mail) {
        const int slot = p.a.rows == 1 ? m : m / p.a.rows;
        const float *x = p.a.x + slot * p.a.x_slot + (int64_t)(m - slot * p.a.rows) * k;
#pragma unroll
        for (int i = 0; i < X_UNITS; i++)
            if (c + i * CU_UNIT < k)
                v[i] = __ldcg((const float4 *)(x + c + i * CU_UNIT));
        return;
    }
    const cu_mail *x = p.x_mail + clock.mine + (int64_t)m * k + c;
    mail_pair first[X_UNITS], second[X_UNITS];
#pragma unroll
    for (int i = 0; i < X_UNITS; i++)
        if (c + i * CU_UNIT < k) {
            first[i] = mail_look(x + i * CU_UNIT);
            second[i] = mail_look(x + i * CU_UNIT + 2);
        }
#pragma unroll
    for (int i = 0; i < X_UNITS; i++)
        if (c + i * CU_UNIT < k)
            v[i] = mail_take(x + i * CU_UNIT, first[i], second[i], clock.frame);
}

/* This thread's columns of x, times the norm's gain, to shared memory, those from K on 0; every
 * warp's part of the sum of squares of row m to squares [rows, UT_WARPS]. */
UT_DEVICE void bring_x(const cu_frame_linear &p, int rows, const linear_shared &s,
                       const mail_clock &clock)
{
    const int k = p.a.k, padded = padded_columns(p.a.ldw);
    for (int m = 0; m < rows; m++) {
        float square = 0.0f;
        for (int c = threadIdx.x * 4; c < padded; c += X_UNITS * CU_UNIT) {
            float4 all[X_UNITS];
            bring_units(p, m, c, clock, all);
#pragma unroll
            for (int i = 0; i < X_UNITS; i++) {
                const int at = c + i * CU_UNIT;
                float4 v = {0.0f, 0.0f, 0.0f, 0.0f};
                if (at >= padded)
                    continue;
                if (at < k)
                    v = all[i];
                if (p.gain && at < k) {
                    const float4 g = *(const float4 *)(s.gains + at);
                    square = fmaf(v.x, v.x, square);
                    square = fmaf(v.y, v.y, square);
                    square = fmaf(v.z, v.z, square);
                    square = fmaf(v.w, v.w, square);
                    v.x *= g.x, v.y *= g.y, v.z *= g.z, v.w *= g.w;
                }
                *(float4 *)(s.xs + m * padded + at) = v;
            }
        }
        if (p.gain) {
            square = warp_sum(square);
            if (threadIdx.x % 32 == 0)
                s.squares[m * UT_WARPS + threadIdx.x / 32] = square;
        }
    }
}

/* A result of the block: row m of all slots' rows, its output number `own`. */
struct result_place {
    int m, own;
};

UT_DEVICE result_place result_of(int i, int count)
{
    result_place r = {0, i};
    for (; r.own >= count; r.m++)
        r.own -= count;
    return r;
}

/* Where the residual of row m, output o is on its way. */
UT_DEVICE const cu_mail *residual_mail(const cu_frame_linear &p, const mail_clock &clock, int m,
                                       int outputs, int o)
{
    return p.residual_mail + clock.mine + (int64_t)m * outputs + o;
}

UT_DEVICE float residual_at(const cu_frame_linear &p, const mail_clock &clock, int m, int outputs,
                            int o)
{
    if (!p.a.residual)
        return 0.0f;
    if (p.residual_mail)
        return mail_take_one(residual_mail(p, clock, m, outputs, o), clock.frame);
    return __ldcg(p.a.residual + (m / p.a.rows) * p.a.residual_slot +
                  (int64_t)(m % p.a.rows) * outputs + o);
}

UT_DEVICE float sum_warps(const float *s)
{
    const float4 a = *(const float4 *)s, b = *(const float4 *)(s + 4); /* UT_WARPS is 8 */
    return ((a.x + a.y) + (a.z + a.w)) + ((b.x + b.y) + (b.z + b.w));
}

/* What follows the sums of output o. other: the sum that a gate of swiglu multiplies. */
UT_DEVICE float frame_finish(const cu_frame_linear &p, float v, float other, int o, float residual)
{
    if (p.swiglu)
        return silu(v) * other;
    if (p.a.bias)
        v += p.a.bias[o];
    if (p.a.act)
        v = activate(p.a.act, v, p.a.alpha ? p.a.alpha[o] : 0.0f, p.a.beta ? p.a.beta[o] : 0.0f);
    if (p.a.gamma)
        v *= p.a.gamma[o];
    return p.a.residual ? v + residual : v;
}

/* Results of this block, from the sums of all warps. early: the residual of this thread's first. */
UT_DEVICE void send_results(const cu_frame_linear &p, const cu_frame_load &l, int rows,
                            const linear_shared &s, const mail_clock &clock, const mail_pair &early)
{
    const int outputs = l.outputs, all_rows = l.count * l.matrices, most = l.chunk / l.matrices;
    for (int i = threadIdx.x; i < l.count * rows; i += CU_THREADS) {
        const result_place r = result_of(i, l.count);
        const int slot = p.a.rows == 1 ? r.m : r.m / p.a.rows, row = r.m - slot * p.a.rows;
        const int o = l.first + r.own;
        /* rows of a chunk: its gates, then what they multiply */
        const int begin = l.matrices == 1 ? 0 : r.own / most * most;
        const float *sum = s.sums + (r.m * all_rows + begin * (l.matrices - 1) + r.own) * UT_WARPS;
        float scale = 1.0f, other = 0.0f, residual = 0.0f;
        if (p.gain)
            scale = rsqrtf(fmaf(sum_warps(s.squares + r.m * UT_WARPS), p.inverse_k, p.eps));
        if (l.matrices == 2)
            other = sum_warps(sum + chunk_outputs(l, begin) * UT_WARPS) * scale;
        if (p.residual_mail && i == (int)threadIdx.x)
            residual = mail_value(residual_mail(p, clock, r.m, outputs, o), early, clock.frame);
        else
            residual = residual_at(p, clock, r.m, outputs, o);
        const float v = frame_finish(p, sum_warps(sum) * scale, other, o, residual);
        if (p.y_mail)
            mail_send(p.y_mail + (int64_t)r.m * outputs + o, v, clock);
        p.a.y[slot * p.a.y_slot + (int64_t)row * outputs + o] = v;
    }
}

/* Ends without meeting: threads of the block may still send results while others go on. What they
 * read (sums, squares, the phase) is not written before the block meets in the phase after. */
UT_DEVICE void frame_linear(const cu_frame_linear &p, const cu_frame_load &l,
                            const linear_shared &s, weight_ring &ring, const mail_clock &clock,
                            uint64_t *trace)
{
    const int rows = p.a.rows * p.a.slots;
    mail_pair early = {0, 0}; /* on its way while others work */
    if (p.residual_mail && (int)threadIdx.x < l.count * rows) {
        const result_place r = result_of((int)threadIdx.x, l.count);
        early = mail_look_near(residual_mail(p, clock, r.m, l.outputs, l.first + r.own));
    }
    if (l.count) {
        bring_x(p, rows, s, clock);
        trace_at(trace, 1);
        if (p.type == CU_F32)
            all_chunks<CU_F32>(p, l, rows, s, ring);
        else if (p.type == CU_BF16)
            all_chunks<CU_BF16>(p, l, rows, s, ring);
        else
            all_chunks<CU_F16>(p, l, rows, s, ring);
    }
    ahead_wait();
    __syncthreads();
    trace_at(trace, 2);
    if (is_asker() && ring.size)
        ring_ask(ring, s.loads, s.n_loads);
    send_results(p, l, rows, s, clock, early);
}
