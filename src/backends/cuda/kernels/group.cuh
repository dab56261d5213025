/* group.cuh - what kernels of products by four warps (9.0) have in common: the results that a
 * thread holds, and how they become those of the operation. W's rows come in an order
 * (copy_outputs) in which a thread has four neighbouring outputs of each 16. */
#pragma once

#include "backends/cuda/kernels/finish.cuh"
#include "backends/cuda/kernels/gates.cuh"
#include "backends/cuda/kernels/mma.cuh"

#ifdef UT_GROUPS

/* four_outputs of BN outputs, in shared memory, once for all rows. What is bf16 has no snakes. */
template <int BN, bool HALF> struct group_columns {
    float bias[BN], gamma[BN];
    float alpha[HALF ? BN : 4], share[HALF ? BN : 4], y_alpha[HALF ? BN : 4],
        y_share[HALF ? BN : 4];

    /* By the first BN threads. */
    UT_DEVICE_MEMBER void put(const cu_tile_args &t, int o0)
    {
        const cu_linear_args &a = t.a;
        const int i = threadIdx.x, o = o0 + i;
        if (i >= BN || o >= a.n_out)
            return;
        if (a.bias)
            bias[i] = a.bias[o];
        if (a.gamma)
            gamma[i] = a.gamma[o];
        if (HALF && a.act == ACT_SNAKE)
            alpha[i] = a.alpha[o], share[i] = snake_share(a.beta[o]);
        if (HALF && t.y_alpha) {
            y_alpha[i] = t.y_alpha[o % t.y_cols];
            y_share[i] = snake_share(t.y_beta[o % t.y_cols]);
        }
    }
    UT_DEVICE_MEMBER four_outputs at(int c) const
    {
        four_outputs f;
        f.bias = *(const float4 *)(bias + c), f.gamma = *(const float4 *)(gamma + c);
        if (HALF) {
            f.alpha = *(const float4 *)(alpha + c), f.share = *(const float4 *)(share + c);
            f.y_alpha = *(const float4 *)(y_alpha + c), f.y_share = *(const float4 *)(y_share + c);
        }
        return f;
    }
};

static_assert(sizeof(group_columns<96, true>) == CU_GROUP_COLUMNS(96, 1) &&
                  sizeof(group_columns<128, false>) == CU_GROUP_COLUMNS(128, 0),
              "the host counts them");

/* Common forms: a residual unit's first and second product. */
UT_DEVICE finish_form snaked(void)
{
    return finish_form{true, true, false, false, false, true, false, ACT_NONE};
}

UT_DEVICE finish_form onto_residual(void)
{
    return finish_form{true, false, false, true, true, true, true, ACT_NONE};
}

/* A thread's sums of two rows, 8 apart: columns c + 16 p .. + 3, p < N / 16. */
template <int N> struct group_sums {
    float v[N / 8][4];

    UT_DEVICE_MEMBER void clear()
    {
#pragma unroll
        for (int j = 0; j < N / 8; j++)
#pragma unroll
            for (int c = 0; c < 4; c++)
                v[j][c] = 0.0f;
    }
    UT_DEVICE_MEMBER void add(const group_sums &part)
    {
#pragma unroll
        for (int j = 0; j < N / 8; j++)
#pragma unroll
            for (int c = 0; c < 4; c++)
                v[j][c] += part.v[j][c];
    }
    UT_DEVICE_MEMBER float4 four(int p, int h) const
    {
        return float4{v[2 * p][2 * h], v[2 * p][2 * h + 1], v[2 * p + 1][2 * h],
                      v[2 * p + 1][2 * h + 1]};
    }
};

/* Residuals on their way: of columns 16 p .. at v[p % AHEAD]. */
template <int N> struct group_residual {
    enum { AHEAD = N / 16 < 4 ? N / 16 : 4 };
    float4 v[AHEAD][2];
};

/* Where a thread's results go. */
template <int N, int BN, bool HALF> struct group_results {
    const group_columns<BN, HALF> &columns;
    int c, o, n_out; /* its first column of the block, and which output that is */
    bool live[2];    /* rows */
    const float *residual[2];
    float *y[2];
    uint16_t *y16[2]; /* of its first output */

    /* Of rows m and m + 8 of all slots. */
    UT_DEVICE_MEMBER group_results(const cu_tile_args &t, const group_columns<BN, HALF> &from,
                                   int m, int column, int output)
        : columns(from), c(column), o(output), n_out(t.a.n_out)
    {
        const cu_linear_args &a = t.a;
#pragma unroll
        for (int h = 0; h < 2; h++) {
            const result_row r(a, m + 8 * h);
            const int64_t at = (int64_t)r.row * n_out + o;
            live[h] = m + 8 * h < a.rows * a.slots;
            residual[h] = a.residual ? a.residual + (r.slot * a.residual_slot + at) : NULL;
            y[h] = a.y + (r.slot * a.y_slot + at), y16[h] = t.y16 + (r.slot * t.y16_slot + at);
        }
    }
    UT_DEVICE_MEMBER void load(group_residual<N> &r, int p) const
    {
        const float4 none = {0.0f, 0.0f, 0.0f, 0.0f};
#pragma unroll
        for (int h = 0; h < 2; h++)
            r.v[p % r.AHEAD][h] = residual[h] && live[h] && o + 16 * p < n_out
                                      ? *(const float4 *)(residual[h] + 16 * p)
                                      : none;
    }
    UT_DEVICE_MEMBER void load_first(group_residual<N> &r) const
    {
#pragma unroll
        for (int p = 0; p < r.AHEAD; p++)
            load(r, p);
    }
    UT_DEVICE_MEMBER void finish_as(const finish_form &form, const group_sums<N> &sums,
                                    group_residual<N> &r) const
    {
#pragma unroll
        for (int p = 0; p < N / 16; p++) {
            if (o + 16 * p >= n_out)
                break;
            const four_outputs f = columns.at(c + 16 * p);
#pragma unroll
            for (int h = 0; h < 2; h++)
                if (live[h])
                    finish_four(form, f, sums.four(p, h), r.v[p % r.AHEAD][h], y[h] + 16 * p,
                                y16[h] + 16 * p, HALF ? CU_F16 : CU_BF16);
            if (form.residual && p + r.AHEAD < N / 16)
                load(r, p + r.AHEAD);
        }
    }
    /* What is rare: it makes calls, across which little should be kept. */
    UT_DEVICE_MEMBER void activate(const finish_form &form, group_sums<N> &sums) const
    {
#pragma unroll
        for (int p = 0; p < N / 16; p++)
#pragma unroll
            for (int h = 0; h < 2; h++) {
                float v[4];
                activate_four(form, columns.at(c + 16 * p), sums.four(p, h), v);
                sums.v[2 * p][2 * h] = v[0], sums.v[2 * p][2 * h + 1] = v[1];
                sums.v[2 * p + 1][2 * h] = v[2], sums.v[2 * p + 1][2 * h + 1] = v[3];
            }
    }
    UT_DEVICE_MEMBER void finish(finish_form form, group_sums<N> &sums) const
    {
        group_residual<N> r;
        if (HALF && same_form(form, snaked())) {
            finish_as(snaked(), sums, r);
            return;
        }
        if (form.act) {
            activate(form, sums);
            form.bias = false;
            form.act = ACT_NONE;
        }
        load_first(r);
        finish(form, sums, r);
    }
    /* No form.act. */
    UT_DEVICE_MEMBER void finish(finish_form form, const group_sums<N> &sums,
                                 group_residual<N> &r) const
    {
        form.act = ACT_NONE; /* which the compiler does not know */
        if (HALF && same_form(form, onto_residual()))
            finish_as(onto_residual(), sums, r);
        else
            finish_as(form, sums, r);
    }
};

/* Rows m0 .. + rows - 1 of all slots of a residual, `outputs` of them from o0 on, come from memory
 * to the second-level cache meanwhile. By all threads of the block or, where there are more, by
 * each CU_THREADS of them. */
UT_DEVICE void prefetch_residual(const cu_linear_args &a, int m0, int rows, int o0, int outputs)
{
    if (!a.residual)
        return;
    const int lines = outputs / 32;
    for (int i = threadIdx.x % CU_THREADS; i < rows * lines; i += CU_THREADS) {
        const int m = m0 + i / lines, o = o0 + i % lines * 32;
        const result_row r(a, m);
        if (m < a.rows * a.slots && o < a.n_out)
            prefetch_line(a.residual + r.slot * a.residual_slot + (int64_t)r.row * a.n_out + o);
    }
}
#endif
