/* frame_linear.cuh - products with matrices inside a frame: y = residual + gamma * act(norm(x) W^T
 * + bias). A block has some rows of every matrix. Those of bf16 go through tensor cores where there
 * are any (frame_tensor.cuh); here is what is done with the sums, and the same with plain
 * arithmetic: all threads work on every row, thread t has columns 4t .. 4t + 3 of every unit of
 * CU_UNIT columns. A sum is one chain over a thread's columns, a tree over the lanes of a warp, a
 * tree over the warps. */
#pragma once

#include "backends/cuda/kernels/frame_device.cuh"

/* What a phase of products works with, in shared memory. */
struct linear_shared {
    float *xs;          /* as plain_products or tensor_products lay x out */
    float *sums;        /* [rows, rows of the matrix, UT_WARPS] */
    float *squares;     /* [rows, UT_WARPS] */
    const float *gains; /* of this phase */
    const cu_frame_load *loads;
    int n_loads;
};

#include "backends/cuda/kernels/frame_tensor.cuh"

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

/* ---- Plain arithmetic ------------------------------------------------------------------------ */

enum { PLAIN_ROWS = 8 }; /* of the matrix, at a time */

/* Four numbers of a matrix. */
template <int TYPE> UT_DEVICE void read_four(const unsigned char *p, float f[4])
{
    if (TYPE == CU_F32) {
        const float4 v = __ldg((const float4 *)p);
        f[0] = v.x, f[1] = v.y, f[2] = v.z, f[3] = v.w;
        return;
    }
    const uint2 u = __ldg((const uint2 *)p);
    const uint32_t word[2] = {u.x, u.y};
#pragma unroll
    for (int i = 0; i < 2; i++)
        if (TYPE == CU_BF16) {
            f[2 * i] = __uint_as_float(word[i] << 16);
            f[2 * i + 1] = __uint_as_float(word[i] & 0xffff0000u);
        } else {
            f[2 * i] = f16_to_f32((uint16_t)word[i]);
            f[2 * i + 1] = f16_to_f32((uint16_t)(word[i] >> 16));
        }
}

/* PLAIN_ROWS sums over the lanes of a warp: afterwards sum[0] of lane l is that of row l / 4. A
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

/* The warp's part of rows 0 .. n - 1 at w times x; of fewer than PLAIN_ROWS the last is read again.
 */
template <int TYPE>
UT_DEVICE void plain_rows(const unsigned char *w, int n, int ld, const float *x, float *sums)
{
    const int lane = threadIdx.x % 32, row = lane / 4;
    float sum[PLAIN_ROWS] = {0.0f};
#pragma unroll 1
    for (int c = (int)threadIdx.x * 4; c < ld; c += CU_UNIT) {
        const float4 v = *(const float4 *)(x + c);
#pragma unroll
        for (int r = 0; r < PLAIN_ROWS; r++) {
            float f[4];
            read_four<TYPE>(w + ((size_t)(r < n ? r : n - 1) * ld + c) * (TYPE == CU_F32 ? 4 : 2),
                            f);
            sum[r] = fmaf(v.w, f[3], fmaf(v.z, f[2], fmaf(v.y, f[1], fmaf(v.x, f[0], sum[r]))));
        }
    }
    sum_rows<PLAIN_ROWS>(sum);
    if (lane % 4 == 0 && row < n)
        sums[row * UT_WARPS + threadIdx.x / 32] = sum[0];
}

/* This thread's columns of row m of x, times the norm's gain, to shared memory, those from K on 0;
 * their sum of squares. */
UT_DEVICE float bring_columns(const cu_frame_linear &p, const linear_shared &s, int m, int padded,
                              const mail_clock &clock)
{
    const int k = p.a.k, slot = p.a.rows == 1 ? m : m / p.a.rows;
    const float *x = p.a.x + slot * p.a.x_slot + (int64_t)(m - slot * p.a.rows) * k;
    float square = 0.0f;
#pragma unroll 1
    for (int c = (int)threadIdx.x * 4; c < padded; c += CU_UNIT) {
        float4 v = {0.0f, 0.0f, 0.0f, 0.0f};
        if (c < k && p.x_mail) {
            const cu_mail *mail = p.x_mail + clock.mine + (int64_t)m * k + c;
            v = mail_take(mail, mail_look(mail), mail_look(mail + 2), clock.frame);
        } else if (c < k) {
            v = __ldcg((const float4 *)(x + c));
        }
        if (p.gain && c < k) {
            const float4 g = *(const float4 *)(s.gains + c);
            square = fmaf(v.x, v.x, square);
            square = fmaf(v.y, v.y, square);
            square = fmaf(v.z, v.z, square);
            square = fmaf(v.w, v.w, square);
            v.x *= g.x, v.y *= g.y, v.z *= g.z, v.w *= g.w;
        }
        *(float4 *)(s.xs + m * padded + c) = v;
    }
    return square;
}

/* All rows of this block times all rows of x. The matrix's rows lie in memory as it has them; sums
 * lie as the results expect them, chunk by chunk. */
template <int TYPE>
UT_DEVICE void plain_products(const cu_frame_linear &p, const cu_frame_load &l, int rows,
                              const linear_shared &s, const mail_clock &clock)
{
    const int padded = (l.ld + CU_UNIT - 1) / CU_UNIT * CU_UNIT, all_rows = l.count * l.matrices;
    const size_t pitch = (size_t)l.ld * (TYPE == CU_F32 ? 4 : 2);
#pragma unroll 1
    for (int m = 0; m < rows; m++) {
        const float square = warp_sum(bring_columns(p, s, m, padded, clock));
        if (p.gain && threadIdx.x % 32 == 0)
            s.squares[m * UT_WARPS + threadIdx.x / 32] = square;
    }
#pragma unroll 1
    for (int at = 0; at < l.count; at += chunk_outputs(l, at)) {
        const int n = chunk_outputs(l, at), n_rows = n * l.matrices;
#pragma unroll 1
        for (int r = 0; r < n_rows;) {
            const int end = r < n ? n : n_rows; /* rows of one matrix lie together */
            const int these = end - r < PLAIN_ROWS ? end - r : PLAIN_ROWS;
            const int output = l.first + at + (r < n ? r : r - n + l.outputs);
            const unsigned char *w = (const unsigned char *)l.w + (size_t)output * pitch;
#pragma unroll 1
            for (int m = 0; m < rows; m++)
                plain_rows<TYPE>(w, these, l.ld, s.xs + m * padded,
                                 s.sums + (m * all_rows + at * l.matrices + r) * UT_WARPS);
            r += these;
        }
    }
}

/* ---- The phase ------------------------------------------------------------------------------- */

/* The norm's gain to shared memory: it is there after ahead_wait and a meeting of the block. */
UT_DEVICE void bring_gain(const cu_frame_linear &p, float *gains)
{
#pragma unroll 1
    for (int c = threadIdx.x * 4; p.gain && c < p.a.k; c += CU_UNIT)
        ahead_start(gains + c, p.gain + c);
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

UT_DEVICE float residual_at(const cu_frame_linear &p, const mail_clock &clock, int m, int outputs,
                            int o)
{
    if (!p.a.residual)
        return 0.0f;
    if (p.residual_mail)
        return mail_take_one(p.residual_mail + clock.mine + m * outputs + o, clock.frame);
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

/* Results of this block, some for each warp, all at the same time: a warp that went on would fill
 * the queue to memory with looks for the mail that these results have to become first. */
struct result_range {
    int first, count;
};

UT_DEVICE result_range results_of_warp(int results)
{
    const int warp = threadIdx.x / 32, each = (results + UT_WARPS - 1) / UT_WARPS;
    const int left = results - warp * each;
    const result_range r = {warp * each, left < each ? left : each};
    return r;
}

/* From the sums of all warps. Lanes 8i .. 8i + 7 leave the same eight results in place i of the
 * mail. early: the residual of this thread's first result. */
UT_DEVICE void send_results(const cu_frame_linear &p, const cu_frame_load &l,
                            const linear_shared &s, const mail_clock &clock,
                            const result_range &mine, const mail_pair &early)
{
    enum { AT_ONCE = 32 / CU_MAIL_PLACES };
    const int outputs = l.outputs, all_rows = l.count * l.matrices;
    const int in = threadIdx.x % AT_ONCE, place = threadIdx.x % 32 / AT_ONCE;
#pragma unroll 1
    for (int i = in; i < mine.count; i += AT_ONCE) {
        const result_place r = result_of(mine.first + i, l.count);
        const int o = l.first + r.own, at = r.m * outputs + o;
        float scale = 1.0f, other = 0.0f, residual = 0.0f;
        if (p.gain)
            scale = rsqrtf(fmaf(sum_warps(s.squares + r.m * UT_WARPS), p.inverse_k, p.eps));
        const float *sum = s.sums + (r.m * all_rows + r.own) * UT_WARPS;
        if (l.matrices == 2) { /* rows of a chunk: its gates, then what they multiply */
            const int begin = r.own & -(l.chunk / 2);
            sum += begin * UT_WARPS;
            other = sum_warps(sum + chunk_outputs(l, begin) * UT_WARPS) * scale;
        }
        if (p.residual_mail && i == in)
            residual = mail_value(p.residual_mail + clock.mine + at, early, clock.frame);
        else
            residual = residual_at(p, clock, r.m, outputs, o);
        const float v = frame_finish(p, sum_warps(sum) * scale, other, o, residual);
        if (p.y_mail && place < clock.places)
            mail_put(p.y_mail + place * clock.stride + at, v, clock.frame);
        if (place == 0 && p.a.y) {
            const int slot = p.a.rows == 1 ? r.m : r.m / p.a.rows, row = r.m - slot * p.a.rows;
            p.a.y[slot * p.a.y_slot + (int64_t)row * outputs + o] = v;
        }
    }
}

/* Ends without meeting: warps of the block may still send results while others go on. What they
 * read (sums, squares, the phase) is not written before the block meets in the phase after. */
UT_DEVICE void frame_linear(const cu_frame_linear &p, const cu_frame_load &l,
                            const linear_shared &s, weight_ring &ring, const mail_clock &clock,
                            uint64_t *trace)
{
    const int rows = p.a.rows * p.a.slots;
    const result_range mine = results_of_warp(l.count * rows);
    mail_pair early = {0, 0}; /* on its way while others work */
    if (p.residual_mail && (int)(threadIdx.x % (32 / CU_MAIL_PLACES)) < mine.count) {
        const result_place r =
            result_of(mine.first + (int)(threadIdx.x % (32 / CU_MAIL_PLACES)), l.count);
        early = mail_look_near(p.residual_mail + clock.mine + r.m * l.outputs + l.first + r.own);
    }
#if UT_MMA
    if (l.ahead)
        tensor_products(p, l, rows, s, ring, clock, trace);
    else
#endif
        if (p.type == CU_F32)
        plain_products<CU_F32>(p, l, rows, s, clock);
    else if (p.type == CU_BF16)
        plain_products<CU_BF16>(p, l, rows, s, clock);
    else
        plain_products<CU_F16>(p, l, rows, s, clock);
    ahead_wait();
    __syncthreads();
    trace_at(trace, 2);
    send_results(p, l, s, clock, mine, early);
    if (is_asker())
        ring_ask(ring, s.loads, s.n_loads);
}
