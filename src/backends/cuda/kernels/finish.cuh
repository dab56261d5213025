/* finish.cuh - what follows the sums of products on tensor cores: bias, activation, layer scale,
 * residual, and the same result in a narrow type, through a snake or not. Four outputs of a row to
 * a thread. */
#pragma once

#include "backends/cuda/kernels/linear.cuh"

/* The rare ones, once in a kernel. */
UT_DEVICE_APART float activate_apart(int act, float x)
{
    return activate(act, x, 0.0f, 0.0f);
}

UT_DEVICE void snake_four(float v[4], float4 alpha, float4 share)
{
    v[0] = snake_by(v[0], alpha.x, share.x), v[1] = snake_by(v[1], alpha.y, share.y);
    v[2] = snake_by(v[2], alpha.z, share.z), v[3] = snake_by(v[3], alpha.w, share.w);
}

UT_DEVICE float4 shares_of(float4 beta)
{
    const float4 s = {snake_share(beta.x), snake_share(beta.y), snake_share(beta.z),
                      snake_share(beta.w)};
    return s;
}

UT_DEVICE float4 four_of(const float *p, int o)
{
    float4 none = {0.0f, 0.0f, 0.0f, 0.0f};
    return p ? *(const float4 *)(p + o) : none;
}

/* What outputs o .. o + 3 have to themselves in every row, o < n_out, where groups of 4 are whole.
 */
struct four_outputs {
    int o;
    float4 bias, gamma;
    float4 alpha, share, y_alpha, y_share; /* of snakes, where they are */

    UT_DEVICE_MEMBER void load(const cu_tile_args &t, int first)
    {
        const cu_linear_args &a = t.a;
        o = first;
        bias = four_of(a.bias, o), gamma = four_of(a.gamma, o);
        if (a.act == ACT_SNAKE) {
            alpha = four_of(a.alpha, o);
            share = shares_of(four_of(a.beta, o));
        }
        if (t.y_alpha) {
            y_alpha = four_of(t.y_alpha, o % t.y_cols);
            y_share = shares_of(four_of(t.y_beta, o % t.y_cols));
        }
    }
};

/* Row m of all slots, and where it is among the results. */
struct result_row {
    int slot, row;
    UT_DEVICE_MEMBER result_row(int of_slot, int of_row) : slot(of_slot), row(of_row) {}
    UT_DEVICE_MEMBER result_row(const cu_linear_args &a, int m)
    {
        slot = a.slots == 1 ? 0 : m / a.rows;
        row = m - slot * a.rows;
    }
};

UT_DEVICE float4 residual_of(const cu_linear_args &a, const result_row &r, int o)
{
    const float *p = a.residual;
    return four_of(p ? p + r.slot * a.residual_slot + (int64_t)r.row * a.n_out : NULL, o);
}

/* What follows the sums; where the compiler knows it, it is there without branches. */
struct finish_form {
    bool bias, snake, gamma, residual, y, y16, y_snake;
    int act; /* if no snake */
};

UT_DEVICE finish_form form_of(const cu_tile_args &t)
{
    const cu_linear_args &a = t.a;
    const bool snake = a.act == ACT_SNAKE;
    return finish_form{a.bias != 0, snake,      a.gamma != 0,   a.residual != 0,
                       a.y != 0,    t.y16 != 0, t.y_alpha != 0, snake ? ACT_NONE : a.act};
}

UT_DEVICE bool same_form(const finish_form &a, const finish_form &b)
{
    return a.act == b.act && a.snake == b.snake && a.bias == b.bias && a.gamma == b.gamma &&
           a.residual == b.residual && a.y == b.y && a.y16 == b.y16 && a.y_snake == b.y_snake;
}

/* Of the sums of four outputs of a row, with bias and activation. */
UT_DEVICE void activate_four(const finish_form &form, const four_outputs &f, float4 four,
                             float v[4])
{
    v[0] = four.x, v[1] = four.y, v[2] = four.z, v[3] = four.w;
    if (form.bias)
        v[0] += f.bias.x, v[1] += f.bias.y, v[2] += f.bias.z, v[3] += f.bias.w;
    if (form.snake)
        snake_four(v, f.alpha, f.share);
    else if (form.act)
#pragma unroll
        for (int j = 0; j < 4; j++)
            v[j] = activate_apart(form.act, v[j]);
}

/* Four numbers in the type of narrow tensors. */
UT_DEVICE uint2 narrow_four(int type, const float v[4])
{
    const uint2 two = type == CU_BF16 ? uint2{pack_bf16(v[0], v[1]), pack_bf16(v[2], v[3])}
                                      : uint2{pack_f16(v[0], v[1]), pack_f16(v[2], v[3])};
    return two;
}

/* The sums of four outputs of a row: all that follows them, and what is narrow. y, y16: where the
 * row's outputs f.o begin. */
UT_DEVICE void finish_four(const finish_form &form, const four_outputs &f, float4 four,
                           float4 residual, float *y, uint16_t *y16, int narrow)
{
    float v[4];
    activate_four(form, f, four, v);
    if (form.gamma)
        v[0] *= f.gamma.x, v[1] *= f.gamma.y, v[2] *= f.gamma.z, v[3] *= f.gamma.w;
    if (form.residual)
        v[0] += residual.x, v[1] += residual.y, v[2] += residual.z, v[3] += residual.w;
    if (form.y)
        store_whole((float4 *)y, float4{v[0], v[1], v[2], v[3]});
    if (!form.y16)
        return;
    if (form.y_snake)
        snake_four(v, f.y_alpha, f.y_share);
    store_whole((uint2 *)y16, narrow_four(narrow, v));
}

UT_DEVICE void finish_whole(const cu_tile_args &t, const four_outputs &f, const result_row &r,
                            float4 four, float4 residual)
{
    const cu_linear_args &a = t.a;
    const int64_t at = (int64_t)r.row * a.n_out + f.o;
    finish_four(form_of(t), f, four, residual, a.y + (r.slot * a.y_slot + at),
                t.y16 + (r.slot * t.y16_slot + at), t.narrow);
}

/* Where groups of 4 outputs are not whole. */
UT_DEVICE void finish_rest(const cu_linear_args &a, int m, int o, const float *v)
{
    const result_row r(a, m);
#pragma unroll 1
    for (int j = 0; j < 4 && o + j < a.n_out; j++)
        finish_row(a, r.slot, r.row, o + j, v[j]);
}
