/* frame_linear.cuh - products with matrices inside a frame: every weight is read once, fetched
 * ahead into a ring of shared memory that each warp keeps for itself. */
#pragma once

#include "backends/cuda/kernels/frame_device.cuh"

UT_DEVICE int units_of(int ld)
{
    return (ld + CU_UNIT - 1) / CU_UNIT;
}

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

/* A row of the block's matrix rows (output by output, gate before up), and a unit of it. Divisions
 * cost more than what a unit's sum does. */
struct unit_place {
    int row, part;
};

UT_DEVICE void advance_unit(unit_place &u, int by, int per_row)
{
    if (per_row == 1) {
        u.row += by;
        return;
    }
    u.part += by;
    while (u.part >= per_row) {
        u.part -= per_row;
        u.row++;
    }
}

UT_DEVICE size_t element_of(unit_place u, int first, int outputs, int matrices, int ld)
{
    const int row = matrices == 2 ? (u.row & 1) * outputs + (u.row >> 1) : u.row;
    return (size_t)(first + row) * (size_t)ld + (size_t)(u.part * CU_UNIT);
}

/* ---- The ring -------------------------------------------------------------------------------- *
 * A warp works through the units warp, warp + UT_WARPS, ... of its block's outputs, phase after
 * phase, and asks for them in that order. */

struct weight_ring {
    unsigned char *places; /* of this warp: [n, bytes] */
    uint64_t *done;        /* [n] */
    int n, bytes;
    int next, taken; /* places of the next unit to ask for and to take */
    uint32_t parity; /* of the next to take */
    int waiting;     /* asked for and not taken */
    int load;        /* next to ask for, and its unit */
    unit_place unit;
};

UT_DEVICE void ring_start_load(weight_ring &r, const cu_frame_load *loads)
{
    r.unit.row = r.unit.part = 0;
    advance_unit(r.unit, threadIdx.x / 32, units_of(loads[r.load].ld));
}

/* Fill the ring. The places of units taken before are free: all lanes have read them. */
UT_DEVICE void ring_fill(weight_ring &r, const cu_frame_load *loads, int n_loads)
{
    const int lane = threadIdx.x % 32;
    while (r.waiting < r.n && r.load < n_loads) {
        const cu_frame_load l = loads[r.load];
        const int per_row = units_of(l.ld), rows = l.count * l.matrices;
        const int size = l.type == CU_F32 ? 4 : 2;
        while (r.waiting < r.n && r.unit.row < rows) {
            const int at = r.unit.part * CU_UNIT, n = l.ld - at < CU_UNIT ? l.ld - at : CU_UNIT;
            const size_t element = element_of(r.unit, l.first, l.outputs, l.matrices, l.ld);
            if (lane == 0)
                copy_start(r.places + r.next * r.bytes, (const unsigned char *)l.w + element * size,
                           (uint32_t)(n * size), &r.done[r.next]);
            r.next = r.next + 1 == r.n ? 0 : r.next + 1;
            r.waiting++;
            advance_unit(r.unit, UT_WARPS, per_row);
        }
        if (r.unit.row >= rows && ++r.load < n_loads)
            ring_start_load(r, loads);
    }
}

/* The next unit of the ring, once it is there. */
UT_DEVICE const void *ring_take(weight_ring &r)
{
    copy_wait(&r.done[r.taken], r.parity);
    const void *unit = r.places + r.taken * r.bytes;
    if (++r.taken == r.n) {
        r.taken = 0;
        r.parity ^= 1;
    }
    r.waiting--;
    return unit;
}

/* ---- Sums ------------------------------------------------------------------------------------ */

/* Columns of a unit that a lane has: groups lane, lane + 32, ... of 16 bytes. */
template <int TYPE> struct lane_columns {
    static const int N = group<TYPE>::N, GROUPS = CU_UNIT / 32 / N;
};

template <int TYPE> UT_DEVICE void load_x(const float *x, float v[CU_UNIT / 32])
{
    typedef lane_columns<TYPE> C;
#pragma unroll
    for (int g = 0; g < C::GROUPS; g++)
#pragma unroll
        for (int j = 0; j < C::N; j += 4) {
            const float4 f = *(const float4 *)(x + (threadIdx.x % 32) * C::N + g * 32 * C::N + j);
            v[g * C::N + j] = f.x, v[g * C::N + j + 1] = f.y;
            v[g * C::N + j + 2] = f.z, v[g * C::N + j + 3] = f.w;
        }
}

/* The lane's part of unit w times x. FULL: it has CU_UNIT columns, not n. */
template <int TYPE, bool FULL>
UT_DEVICE float unit_dot(const void *w, int n, const float x[CU_UNIT / 32])
{
    typedef lane_columns<TYPE> C;
    float sum[4] = {0.0f, 0.0f, 0.0f, 0.0f};
#pragma unroll
    for (int g = 0; g < C::GROUPS; g++) {
        const int at = ((int)threadIdx.x % 32) * C::N + g * 32 * C::N;
        float f[C::N];
        if (FULL || at < n) {
            group<TYPE>::read(w, at, f);
        } else {
#pragma unroll
            for (int j = 0; j < C::N; j++)
                f[j] = 0.0f;
        }
#pragma unroll
        for (int j = 0; j < C::N; j++)
            sum[j % 4] = fmaf(x[g * C::N + j], f[j], sum[j % 4]);
    }
    return (sum[0] + sum[1]) + (sum[2] + sum[3]);
}

/* N units, found at w and with x at xs, into sums[unit], sums[unit + UT_WARPS], ... */
template <int TYPE, int N, bool FULL>
UT_DEVICE void group_dot(const void *const w[], const int columns[], const float *const x[],
                         bool same_x, float *sums)
{
    float v[N], mine[CU_UNIT / 32];
    if (same_x) {
        load_x<TYPE>(x[0], mine);
#pragma unroll
        for (int q = 0; q < N; q++)
            v[q] = unit_dot<TYPE, FULL>(w[q], columns[q], mine);
    } else {
#pragma unroll
        for (int q = 0; q < N; q++) {
            load_x<TYPE>(x[q], mine);
            v[q] = unit_dot<TYPE, FULL>(w[q], columns[q], mine);
        }
    }
#pragma unroll
    for (int q = 0; q < N; q++)
        v[q] = warp_sum(v[q]);
    if (threadIdx.x % 32 == 0)
#pragma unroll
        for (int q = 0; q < N; q++)
            sums[q * UT_WARPS] = v[q];
}

template <int TYPE, int N>
UT_DEVICE void group_dot(const void *const w[], const int columns[], const float *const x[],
                         bool same_x, bool full, float *sums)
{
    if (full)
        group_dot<TYPE, N, true>(w, columns, x, same_x, sums);
    else
        group_dot<TYPE, N, false>(w, columns, x, same_x, sums);
}

/* All units of this block's outputs: sums [rows, units]. xs [rows, per_row * CU_UNIT]. */
template <int TYPE, bool RING>
UT_DEVICE void all_units(const cu_frame_linear &p, output_range o, int rows, const float *xs,
                         float *sums, weight_ring &ring, const cu_frame_load *loads, int n_loads)
{
    const int per_row = units_of(p.a.ldw), matrices = p.swiglu ? 2 : 1, ld = p.a.ldw;
    const int outputs = matrices == 2 ? p.a.n_out / 2 : p.a.n_out;
    const int units = o.count * matrices * per_row, size = TYPE == CU_F32 ? 4 : 2;
    unit_place place = {0, 0};
    advance_unit(place, threadIdx.x / 32, per_row);
    for (int u = threadIdx.x / 32; u < units; u += UT_WARPS * CU_UNITS_AT_ONCE) {
        const void *w[CU_UNITS_AT_ONCE];
        int columns[CU_UNITS_AT_ONCE], part[CU_UNITS_AT_ONCE], n = 0;
        bool same = true, full = true;
#pragma unroll
        for (int q = 0; q < CU_UNITS_AT_ONCE; q++) {
            part[q] = place.part;
            columns[q] = ld - place.part * CU_UNIT < CU_UNIT ? ld - place.part * CU_UNIT : CU_UNIT;
            w[q] = NULL;
            if (u + q * UT_WARPS >= units)
                continue;
            n = q + 1;
            same = same && part[q] == part[0];
            full = full && columns[q] == CU_UNIT;
            if (RING)
                w[q] = ring_take(ring);
            else
                w[q] = (const unsigned char *)p.a.w +
                       element_of(place, o.first, outputs, matrices, ld) * size;
            advance_unit(place, UT_WARPS, per_row);
        }
        for (int m = 0; m < rows; m++) {
            const float *x[CU_UNITS_AT_ONCE];
#pragma unroll
            for (int q = 0; q < CU_UNITS_AT_ONCE; q++)
                x[q] = xs + (m * per_row + part[q]) * CU_UNIT;
            float *to = sums + m * units + u;
            if (n == 4)
                group_dot<TYPE, 4>(w, columns, x, same, full, to);
            else if (n == 3)
                group_dot<TYPE, 3>(w, columns, x, same, full, to);
            else if (n == 2)
                group_dot<TYPE, 2>(w, columns, x, same, full, to);
            else
                group_dot<TYPE, 1>(w, columns, x, same, full, to);
        }
        __syncwarp(); /* the places may be filled again */
        if (RING && u + UT_WARPS * CU_UNITS_AT_ONCE < units)
            ring_fill(ring, loads, n_loads);
    }
}

template <int TYPE>
UT_DEVICE void all_units(const cu_frame_linear &p, output_range o, int rows, const float *xs,
                         float *sums, weight_ring &ring, const cu_frame_load *loads, int n_loads)
{
    if (ring.n)
        all_units<TYPE, true>(p, o, rows, xs, sums, ring, loads, n_loads);
    else
        all_units<TYPE, false>(p, o, rows, xs, sums, ring, loads, n_loads);
}

/* ---- The phase ------------------------------------------------------------------------------- */

/* The norm's gain to shared memory, by the threads that will read it. */
UT_DEVICE void bring_gain(const cu_frame_linear &p, float *gains)
{
    for (int c = threadIdx.x * 4; p.gain && c < p.a.k; c += CU_THREADS * 4)
        ahead_start(gains + c, p.gain + c);
}

/* Columns of x that a thread has at a time: groups of four, X_AHEAD of them on their way. */
enum { X_AHEAD = 4 };

/* Row m of x, as far as this thread brings it: v[i] is columns c + i * 4 * CU_THREADS and on. */
UT_DEVICE void bring_columns(const cu_frame_linear &p, int m, int c, uint32_t frame,
                             float4 v[X_AHEAD])
{
    const int k = p.a.k, step = CU_THREADS * 4;
    const int64_t row = (int64_t)m * k;
    if (!p.x_mail) {
        const int slot = p.a.rows == 1 ? m : m / p.a.rows;
        const float *x = p.a.x + slot * p.a.x_slot + (int64_t)(m - slot * p.a.rows) * k;
#pragma unroll
        for (int i = 0; i < X_AHEAD; i++)
            if (c + i * step < k)
                v[i] = __ldcg((const float4 *)(x + c + i * step));
        return;
    }
    mail_pair first[X_AHEAD], second[X_AHEAD];
#pragma unroll
    for (int i = 0; i < X_AHEAD; i++)
        if (c + i * step < k) {
            first[i] = mail_look(p.x_mail + row + c + i * step);
            second[i] = mail_look(p.x_mail + row + c + i * step + 2);
        }
#pragma unroll
    for (int i = 0; i < X_AHEAD; i++)
        if (c + i * step < k)
            v[i] = mail_take(p.x_mail + row + c + i * step, first[i], second[i], frame);
}

/* x times the norm's gain to shared memory, columns from K on 0; every warp's part of the sum of
 * squares of row m to squares [rows, UT_WARPS]. */
UT_DEVICE void bring_x(const cu_frame_linear &p, int rows, float *xs, float *squares,
                       const float *gains, uint32_t frame)
{
    const int k = p.a.k, padded = units_of(p.a.ldw) * CU_UNIT, step = CU_THREADS * 4;
    for (int m = 0; m < rows; m++) {
        float square = 0.0f;
        for (int c = threadIdx.x * 4; c < padded; c += X_AHEAD * step) {
            float4 all[X_AHEAD];
            bring_columns(p, m, c, frame, all);
#pragma unroll
            for (int i = 0; i < X_AHEAD; i++) {
                const int at = c + i * step;
                float4 v = {0.0f, 0.0f, 0.0f, 0.0f};
                if (at >= padded)
                    continue;
                if (at < k)
                    v = all[i];
                if (p.gain && at < k) {
                    const float4 g = *(const float4 *)(gains + at);
                    square = fmaf(v.x, v.x, square);
                    square = fmaf(v.y, v.y, square);
                    square = fmaf(v.z, v.z, square);
                    square = fmaf(v.w, v.w, square);
                    v.x *= g.x, v.y *= g.y, v.z *= g.z, v.w *= g.w;
                }
                *(float4 *)(xs + m * padded + at) = v;
            }
        }
        if (p.gain) {
            square = warp_sum(square);
            if (threadIdx.x % 32 == 0)
                squares[m * UT_WARPS + threadIdx.x / 32] = square;
        }
    }
}

/* The residual of row m, output o, where there is one. */
UT_DEVICE float residual_at(const cu_frame_linear &p, int m, int o, int outputs, uint32_t frame)
{
    if (!p.a.residual)
        return 0.0f;
    if (!p.residual_mail)
        return __ldcg(p.a.residual + (m / p.a.rows) * p.a.residual_slot +
                      (int64_t)(m % p.a.rows) * outputs + o);
    return mail_take_one(p.residual_mail + (int64_t)m * outputs + o, frame);
}

/* What follows the sums of row m, output o of all. */
UT_DEVICE float frame_finish(const cu_frame_linear &p, float scale, const float *sums, int matrices,
                             int per_row, int o, float residual)
{
    float v[2] = {0.0f, 0.0f};
    for (int i = 0; i < matrices; i++) {
        for (int k = 0; k < per_row; k++)
            v[i] += sums[i * per_row + k];
        v[i] *= scale;
    }
    if (p.swiglu)
        return silu(v[0]) * v[1];
    if (p.a.bias)
        v[0] += p.a.bias[o];
    if (p.a.act)
        v[0] =
            activate(p.a.act, v[0], p.a.alpha ? p.a.alpha[o] : 0.0f, p.a.beta ? p.a.beta[o] : 0.0f);
    if (p.a.gamma)
        v[0] *= p.a.gamma[o];
    return p.a.residual ? v[0] + residual : v[0];
}

/* What a phase of products works with, in shared memory. */
struct linear_shared {
    float *xs, *sums; /* sums: rows * units */
    float *squares;   /* [rows, UT_WARPS] */
    const float *gains;
    const cu_frame_load *loads;
    int n_loads;
};

UT_DEVICE void frame_linear(const cu_frame_linear &p, const linear_shared &s, weight_ring &ring,
                            output_range o, uint32_t frame, uint64_t *trace)
{
    const int rows = p.a.rows * p.a.slots, matrices = p.swiglu ? 2 : 1;
    const int outputs = p.a.n_out / matrices, per_row = units_of(p.a.ldw);
    const int results = o.count * rows, units = o.count * matrices * per_row;
    if (o.count == 0)
        return;
    float residual = 0.0f; /* of this thread's first result, on its way while others work */
    if ((int)threadIdx.x < results) {
        int m = 0, own = threadIdx.x;
        for (; own >= o.count; m++)
            own -= o.count;
        residual = residual_at(p, m, o.first + own, outputs, frame);
    }
    ahead_wait();
    bring_x(p, rows, s.xs, s.squares, s.gains, frame);
    __syncthreads();
    trace_at(trace, 1);
    if (p.type == CU_F32)
        all_units<CU_F32>(p, o, rows, s.xs, s.sums, ring, s.loads, s.n_loads);
    else if (p.type == CU_BF16)
        all_units<CU_BF16>(p, o, rows, s.xs, s.sums, ring, s.loads, s.n_loads);
    else
        all_units<CU_F16>(p, o, rows, s.xs, s.sums, ring, s.loads, s.n_loads);
    __syncthreads();
    trace_at(trace, 2);
    for (int i = threadIdx.x, m = 0, own = threadIdx.x; i < results;
         i += CU_THREADS, own += CU_THREADS) {
        for (; own >= o.count; m++)
            own -= o.count;
        const int slot = p.a.rows == 1 ? m : m / p.a.rows, row = m - slot * p.a.rows;
        float scale = 1.0f;
        if (p.gain) {
            float square = 0.0f;
#pragma unroll
            for (int w = 0; w < UT_WARPS; w++)
                square += s.squares[m * UT_WARPS + w];
            scale = 1.0f / sqrtf(square / (float)p.a.k + p.eps);
        }
        if (i >= CU_THREADS)
            residual = residual_at(p, m, o.first + own, outputs, frame);
        const float v = frame_finish(p, scale, s.sums + m * units + own * matrices * per_row,
                                     matrices, per_row, o.first + own, residual);
        if (p.y_mail)
            mail_send(p.y_mail + (int64_t)m * outputs + o.first + own, v, frame);
        p.a.y[slot * p.a.y_slot + (int64_t)row * outputs + o.first + own] = v;
    }
}
