/* frame_linear.cuh - products with matrices inside a frame: y = residual + gamma * act(norm(x) W^T
 * + bias). A block has some rows of every matrix. Where all matrices are bf16 they go through
 * tensor cores (frame_tensor.cuh), else through plain arithmetic (frame_plain.cuh); here is what is
 * done with the sums. Of one row of x, or two, of one slot frame_row.cuh does all of it, in
 * the shapes that it has code for. */
#pragma once

#include "backends/cuda/kernels/frame_plain.cuh"
#include "backends/cuda/kernels/frame_tensor.cuh"

/* ---- The phase ------------------------------------------------------------------------------- */

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
    const int first = r.m * l.count * l.matrices;
    r.sum = r.other = first + own;
    if (l.matrices == 2) {
        const gated_rows rows = rows_of_gated(l, own);
        r.sum = first + rows.gate;
        r.other = first + rows.other;
    }
    return r;
}

/* What follows the sum of output o. */
UT_DEVICE float frame_finish(const cu_frame_linear &p, float v, int o)
{
    if (p.bias)
        v += p.bias[o];
    if (p.act)
        v = activate(p.act, v, p.alpha ? p.alpha[o] : 0.0f, p.beta ? p.beta[o] : 0.0f);
    return p.gamma ? v * p.gamma[o] : v;
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

/* As mail would have it: frame_row.cuh takes it so. */
UT_DEVICE float plain_residual(const cu_frame_linear &p, const result_place &r, int outputs)
{
    const int slot = r.m / p.rows, row = r.m - slot * p.rows;
    const float *from = p.residual + slot * p.residual_slot + (int64_t)row * outputs + r.o;
    return mail_value(__float_as_uint(__ldcg(from)));
}

UT_DEVICE void put_plain(const cu_frame_linear &p, const result_place &r, int outputs, float v)
{
    const int slot = r.m / p.rows, row = r.m - slot * p.rows;
    p.y[slot * p.y_slot + (int64_t)row * outputs + r.o] = v;
}

/* From the sums of all warps. Lanes 8i .. 8i + 7 leave the same eight results in place i of the
 * mail; those without one do what the last does, and leave nothing. */
UT_DEVICE void send_results(const cu_frame_linear &p, const cu_frame_load &l,
                            const linear_shared &s, const mail_clock &clock)
{
    const int in = thread() % RESULTS_AT_ONCE, place = thread() % 32 / RESULTS_AT_ONCE;
    const result_range mine = results_of_warp(l.count * p.rows * p.slots);
    cu_mail *to = p.y_mail && place < clock.places ? p.y_mail + place * clock.stride : NULL;
#pragma unroll 1
    for (int i = 0; i < mine.count; i += RESULTS_AT_ONCE) {
        const bool live = i + in < mine.count;
        const result_place r = result_of(l, mine.first + (live ? i + in : mine.count - 1));
        float v = sum_warps(s.sums + r.sum * UT_WARPS), scale = 1.0f;
        if (p.gain)
            scale = rsqrtf(fmaf(sum_warps(s.squares + r.m * UT_WARPS), p.inverse_k, p.eps));
        v *= scale;
        if (l.matrices == 2)
            v = silu(v) * (sum_warps(s.sums + r.other * UT_WARPS) * scale);
        if (p.more)
            v = frame_finish(p, v, r.o);
        if (p.residual_mail) {
            mail_look<1> look;
            look.at(p.residual_mail + r.at);
            look.wait(p.residual_mail + r.at, clock.frame);
            v += look[0];
        } else if (p.residual) {
            v += plain_residual(p, r, l.outputs);
        }
        const uint32_t word = mail_of(v, clock.frame);
        if (live && to)
            send_word(to + r.at, word);
        if (live && p.y && place == 0) /* the number that it is as mail */
            put_plain(p, r, l.outputs, mail_value(word));
    }
}

/* A phase. Ends without meeting: warps of the block may still send results while others go on. What
 * they read (sums, squares) is not written before the block meets in the phase after. */
template <bool TENSOR>
UT_DEVICE void frame_linear(const cu_frame_linear &phase, const linear_shared &s, weight_ring &ring,
                            const mail_clock &clock)
{
    const cu_frame_load l = phase.load; /* in registers: what waits for mail reads all else again */
    const int rows = phase.rows * phase.slots;
    if constexpr (TENSOR) {
#if UT_MMA
        tensor_products(phase, l, rows, s, ring, clock);
#endif
    } else if (phase.type == CU_F32) {
        plain_products<CU_F32>(phase, l, rows, s, clock);
    } else if (phase.type == CU_BF16) {
        plain_products<CU_BF16>(phase, l, rows, s, clock);
    } else {
        plain_products<CU_F16>(phase, l, rows, s, clock);
    }
    const cu_frame_linear p = phase;
    block_meet();
    send_results(p, l, s, clock);
}
