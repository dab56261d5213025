/* frame_linear.cuh - products with matrices inside a frame: y = residual + gamma * act(norm(x) W^T
 * + bias). A block has some rows of every matrix. Where all matrices are bf16 they go through
 * tensor cores (frame_tensor.cuh), else through plain arithmetic (frame_plain.cuh); here is what is
 * done with the sums. */
#pragma once

#include "backends/cuda/kernels/frame_device.cuh"

/* What a phase of products works with, in shared memory. */
struct linear_shared {
    float *xs;          /* as plain_products or tensor_products lay x out */
    float *sums;        /* [rows, rows of the matrix, UT_WARPS] */
    float *squares;     /* [rows, UT_WARPS] */
    const float *gains; /* of this phase */
};

/* A warp's part of the sum of squares of row m of x: what its lanes have. */
UT_DEVICE void leave_square(const linear_shared &s, int m, float square)
{
    square = warp_sum(square);
    if (thread() % 32 == 0)
        s.squares[m * UT_WARPS + thread() / 32] = square;
}

#include "backends/cuda/kernels/frame_plain.cuh"
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

/* ---- The phase ------------------------------------------------------------------------------- */

/* The norm's gain to shared memory: it is there after ahead_wait and a meeting of the block. */
UT_DEVICE void bring_gain(const cu_frame_linear &p, float *gains)
{
#pragma unroll 1
    for (int c = thread() * 4; p.gain && c < p.a.k; c += CU_UNIT)
        ahead_start(gains + c, p.gain + c);
}

/* A result of the block: row m of all slots' rows, output o; where it is among the results, and
 * where the sums of its row of the matrix are, with two matrices also those of the other. */
struct result_place {
    int m, o, at;
    int sum, other;
};

UT_DEVICE result_place result_of(const cu_frame_load &l, int i)
{
    result_place r;
    int own = i;
    for (r.m = 0; own >= l.count; r.m++)
        own -= l.count;
    r.o = l.first + own;
    r.at = r.m * l.outputs + r.o;
    r.sum = r.m * l.count * l.matrices + own;
    r.other = r.sum;
    if (l.matrices == 2) { /* rows of a chunk: its gates, then what they multiply */
        const int begin = own & -(l.chunk / 2);
        r.sum += begin;
        r.other = r.sum + chunk_outputs(l, begin);
    }
    return r;
}

UT_DEVICE float sum_warps(const float *s)
{
    const float4 a = *(const float4 *)s, b = *(const float4 *)(s + 4); /* UT_WARPS is 8 */
    return ((a.x + a.y) + (a.z + a.w)) + ((b.x + b.y) + (b.z + b.w));
}

/* What follows the sum of output o. */
UT_DEVICE float frame_finish(const cu_frame_linear &p, float v, int o)
{
    if (p.a.bias)
        v += p.a.bias[o];
    if (p.a.act)
        v = activate(p.a.act, v, p.a.alpha ? p.a.alpha[o] : 0.0f, p.a.beta ? p.a.beta[o] : 0.0f);
    return p.a.gamma ? v * p.a.gamma[o] : v;
}

/* Results of this block, some for each warp, all at the same time: a warp that went on would fill
 * the queue to memory with looks for the mail that these results have to become first. */
struct result_range {
    int first, count;
};

UT_DEVICE result_range results_of_warp(int results)
{
    const int warp = thread() / 32, each = (results + UT_WARPS - 1) / UT_WARPS;
    const int left = results - warp * each;
    const result_range r = {warp * each, left < each ? left : each};
    return r;
}

/* The residual's mail of result r, on its way. */
UT_DEVICE mail_pair look_at_residual(const cu_frame_linear &p, const mail_clock &clock,
                                     const result_place &r)
{
    const mail_pair none = {0, 0};
    return p.residual_mail ? mail_look_near(p.residual_mail + clock.mine + r.at) : none;
}

UT_DEVICE float plain_residual(const cu_frame_linear &p, const result_place &r, int outputs)
{
    const int slot = r.m / p.a.rows, row = r.m - slot * p.a.rows;
    return __ldcg(p.a.residual + slot * p.a.residual_slot + (int64_t)row * outputs + r.o);
}

UT_DEVICE void put_plain(const cu_frame_linear &p, const result_place &r, int outputs, float v)
{
    const int slot = r.m / p.a.rows, row = r.m - slot * p.a.rows;
    p.a.y[slot * p.a.y_slot + (int64_t)row * outputs + r.o] = v;
}

enum { RESULTS_AT_ONCE = 32 / CU_MAIL_PLACES };

/* Number i of the warp's results, or the last. */
UT_DEVICE result_place result_of_warp(const cu_frame_load &l, const result_range &mine, int i)
{
    return result_of(l, mine.first + (i < mine.count ? i : mine.count - 1));
}

/* From the sums of all warps. Lanes 8i .. 8i + 7 leave the same eight results in place i of the
 * mail; those without one do what the last does, and leave nothing. r, early: this lane's first
 * result, and its residual. FORM: what p asks for, where that is one of a few. */
template <int FORM>
UT_DEVICE void send_results(const cu_frame_linear &p, const cu_frame_load &l,
                            const linear_shared &s, const mail_clock &clock,
                            const result_range &mine, result_place r, mail_pair early)
{
    const int in = thread() % RESULTS_AT_ONCE, place = thread() % 32 / RESULTS_AT_ONCE;
    constexpr bool ANY = FORM == CU_PRODUCT_ANY;
    const bool normed = ANY ? p.gain != NULL : FORM != CU_PRODUCT_ADDED;
    const bool gated = ANY ? p.swiglu != 0 : FORM == CU_PRODUCT_GATED;
    const bool added = ANY ? p.residual_mail != NULL : FORM == CU_PRODUCT_ADDED;
    cu_mail *to = p.y_mail && place < clock.places ? p.y_mail + place * clock.stride : NULL;
#pragma unroll 1
    for (int i = 0; i < mine.count;) {
        const bool live = i + in < mine.count;
        float v = sum_warps(s.sums + r.sum * UT_WARPS), scale = 1.0f;
        if (normed)
            scale = rsqrtf(fmaf(sum_warps(s.squares + r.m * UT_WARPS), p.inverse_k, p.eps));
        v *= scale;
        if (gated)
            v = silu(v) * (sum_warps(s.sums + r.other * UT_WARPS) * scale);
        if (ANY && p.more)
            v = frame_finish(p, v, r.o);
        if (added)
            v += mail_value(p.residual_mail + clock.mine + r.at, early, clock.frame);
        else if (ANY && p.a.residual)
            v += plain_residual(p, r, l.outputs);
        if (live && to)
            mail_put(to + r.at, v, clock.frame);
        if (ANY && p.a.y && live && place == 0)
            put_plain(p, r, l.outputs, v);
        i += RESULTS_AT_ONCE;
        if (i < mine.count) {
            r = result_of_warp(l, mine, i + in);
            early = look_at_residual(p, clock, r);
        }
    }
}

/* Ends without meeting: warps of the block may still send results while others go on. What they
 * read (sums, squares) is not written before the block meets in the phase after. ahead(): what is
 * to be asked for while x is on its way. */
template <bool TENSOR, class AHEAD>
UT_DEVICE void frame_linear(const cu_frame_linear &phase, const cu_frame_load &load,
                            const linear_shared &s, weight_ring &ring, const mail_clock &clock,
                            AHEAD ahead)
{
    const cu_frame_load l = load; /* in registers: what waits for mail reads all else again */
    const int rows = phase.a.rows * phase.a.slots, in = thread() % RESULTS_AT_ONCE;
    const result_range mine = results_of_warp(l.count * rows);
    result_place r = {0, 0, 0, 0, 0};
    mail_pair early = {0, 0}; /* on its way while others work */
    if (mine.count > 0) {
        r = result_of_warp(l, mine, in);
        early = look_at_residual(phase, clock, r);
    }
    if constexpr (TENSOR) {
#if UT_MMA
        tensor_products(phase, l, rows, s, ring, clock, ahead);
#endif
    } else {
        ahead();
        if (phase.type == CU_F32)
            plain_products<CU_F32>(phase, l, rows, s, clock);
        else if (phase.type == CU_BF16)
            plain_products<CU_BF16>(phase, l, rows, s, clock);
        else
            plain_products<CU_F16>(phase, l, rows, s, clock);
    }
    const cu_frame_linear p = phase;
    ahead_wait();
    __syncthreads();
    if (p.form == CU_PRODUCT_GATED)
        send_results<CU_PRODUCT_GATED>(p, l, s, clock, mine, r, early);
    else if (p.form == CU_PRODUCT_NORMED)
        send_results<CU_PRODUCT_NORMED>(p, l, s, clock, mine, r, early);
    else if (p.form == CU_PRODUCT_ADDED)
        send_results<CU_PRODUCT_ADDED>(p, l, s, clock, mine, r, early);
    else
        send_results<CU_PRODUCT_ANY>(p, l, s, clock, mine, r, early);
}
