/* codec_blocks.c - loading and emitting codec_blocks.h. */
#include "nn/codec_blocks.h"
#include "base/alloc.h"
#include <stdio.h>
#include <string.h>

/* ---- Residual unit -------------------------------------------------------------------------- */

void ut_resunit_load(ut_loader *l, ut_resunit *u, int32_t channels, int32_t dilation,
                     ut_state_set *states, const char *prefix)
{
    char name[256];
    u->alpha1 = ut_load_vector(l, channels, "%s.block.0.alpha", prefix);
    snprintf(name, sizeof name, "%s.block.1.conv", prefix);
    ut_conv_load(l, &u->conv1, UT_CONV, channels, channels, 1, dilation, states, name);
    u->alpha2 = ut_load_vector(l, channels, "%s.block.2.alpha", prefix);
    snprintf(name, sizeof name, "%s.block.3.conv", prefix);
    ut_conv_load(l, &u->conv2, UT_CONV, channels, channels, 1, 1, states, name);
}

ut_tid ut_resunit_emit(ut_plan *p, const ut_resunit *u, ut_tid x)
{
    const ut_conv_args first = {.act = UT_ACT_SNAKE, .alpha = u->alpha2, .residual = UT_NONE};
    const ut_conv_args second = {.residual = x};
    ut_tid y = ut_op_snake(p, x, u->alpha1);
    y = ut_conv_emit(p, &u->conv1, y, &first);
    return ut_conv_emit(p, &u->conv2, y, &second);
}

/* ---- ConvNeXt ------------------------------------------------------------------------------- */

void ut_convnext_load(ut_loader *l, ut_convnext *c, int32_t channels, ut_state_set *states,
                      const char *prefix)
{
    char name[256];
    int64_t dim[3];
    const int64_t expect[3] = {channels, 1, -1};
    snprintf(name, sizeof name, "%s.dwconv.conv", prefix);
    c->state = -1;
    float *kernel = ut_conv_kernel(l, name, expect, dim), *data;
    if (kernel) {
        const int32_t k = (int32_t)dim[2];
        c->dw = ut_weight_new(l, name, channels, k, &data);
        if (c->dw)
            memcpy(data, kernel, (size_t)channels * (size_t)k * sizeof *data);
        if (k > 1)
            c->state = ut_state_set_add(states, "dwconv_history", UT_F32, k - 1, channels);
        if (k > 1 && c->state < 0)
            ut_loader_fail(l, UTTER_ERR_LIMIT, "too many convolutions: more than %d state tensors",
                           UT_STATE_MAX);
    }
    ut_free(kernel);
    c->dw_bias = ut_load_vector(l, channels, "%s.dwconv.conv.bias", prefix);
    c->norm_w = ut_load_vector(l, channels, "%s.norm.weight", prefix);
    c->norm_b = ut_load_vector(l, channels, "%s.norm.bias", prefix);
    const ut_view *v = ut_load_find(l, "%s.pwconv1.weight", prefix);
    const int32_t hidden =
        v && v->n_dims == 2 && v->dim[0] < INT32_MAX ? (int32_t)v->dim[0] : 4 * channels;
    c->w1 = ut_load_matrix(l, hidden, channels, "%s.pwconv1.weight", prefix);
    c->b1 = ut_load_vector(l, hidden, "%s.pwconv1.bias", prefix);
    c->w2 = ut_load_matrix(l, channels, hidden, "%s.pwconv2.weight", prefix);
    c->b2 = ut_load_vector(l, channels, "%s.pwconv2.bias", prefix);
    c->gamma = ut_load_vector(l, channels, "%s.gamma", prefix);
}

ut_tid ut_convnext_emit(ut_plan *p, const ut_convnext *c, ut_tid x)
{
    const float eps = 1e-6f; /* LayerNorm of the reference's ConvNeXt block */
    x = ut_conv_with_history(p, x, c->state);
    ut_tid y = ut_op_dwconv(p, x, c->dw, c->dw_bias);
    y = ut_op_layer_norm(p, y, c->norm_w, c->norm_b, eps);
    const ut_linear_args up = {.w = c->w1, .bias = c->b1, .act = UT_ACT_GELU, .residual = UT_NONE};
    const ut_linear_args down = {.w = c->w2, .bias = c->b2, .gamma = c->gamma, .residual = x};
    return ut_op_linear(p, ut_op_linear(p, y, &up), &down);
}

/* ---- Residual vector quantisation ----------------------------------------------------------- */

/* A 1x1 convolution [rows, cols, 1] as a matrix times scale, and its bias. */
static const ut_weight *projection(ut_loader *l, const char *prefix, int32_t rows, int32_t cols,
                                   float scale, const ut_weight **bias)
{
    const int64_t expect[3] = {rows, cols, 1};
    int64_t dim[3];
    float *kernel = ut_conv_kernel(l, prefix, expect, dim), *data = NULL;
    const ut_weight *w = kernel ? ut_weight_new(l, prefix, rows, cols, &data) : NULL;
    for (size_t i = 0; w && i < (size_t)rows * (size_t)cols; i++)
        data[i] = scale * kernel[i];
    ut_free(kernel);
    const ut_weight *b = ut_load_vector(l, rows, "%s.bias", prefix);
    *bias = b && scale != 1.0f ? ut_weight_scaled(l, b, scale) : b;
    return w;
}

void ut_rvq_load(ut_loader *l, ut_rvq *r, const char *prefix)
{
    if (l->status != UTTER_OK)
        return;
    char name[256];
    snprintf(name, sizeof name, "%s.codebook.weight", prefix);
    const int64_t any[2] = {-1, r->n ? r->code_dim : -1};
    const ut_view *v;
    l->status = ut_weights_get(l->weights, name, 2, any, &v, l->err);
    if (l->status != UTTER_OK)
        return;
    if (r->n == UT_RVQ_MAX || v->dim[0] > INT32_MAX || v->dim[1] > INT32_MAX) {
        ut_loader_fail(l, UTTER_ERR_MODEL, "tensor %s: more than %d codebooks, or too large a one",
                       name, UT_RVQ_MAX);
        return;
    }
    const int32_t j = r->n++;
    r->sizes[j] = (int32_t)v->dim[0];
    r->code_dim = (int32_t)v->dim[1];
    r->q[j].table = ut_load_matrix(l, r->sizes[j], r->code_dim, "%s", name);
    snprintf(name, sizeof name, "%s.in_proj", prefix);
    r->q[j].in = projection(l, name, r->code_dim, r->dim, 1.0f, &r->q[j].in_bias);
    snprintf(name, sizeof name, "%s.out_proj", prefix);
    r->q[j].neg_out = projection(l, name, r->dim, r->code_dim, -1.0f, &r->q[j].neg_bias);
}

void ut_rvq_finish(ut_loader *l, ut_rvq *r)
{
    if (l->status != UTTER_OK)
        return;
    const int32_t d = r->code_dim, width = r->n * d;
    int32_t entries = 0;
    for (int32_t j = 0; j < r->n; j++)
        entries += r->sizes[j];
    float *tables, *out, *bias;
    r->tables = ut_weight_new(l, "rvq codebooks", entries, d, &tables);
    r->out = ut_weight_new(l, "rvq out_proj", r->dim, width, &out);
    r->out_bias = ut_weight_new(l, "rvq out_proj bias", 1, r->dim, &bias);
    if (!r->tables || !r->out || !r->out_bias)
        return;
    for (int32_t j = 0; j < r->n; j++) {
        for (int32_t i = 0; i < r->sizes[j]; i++, tables += d)
            ut_weight_row_f32(r->q[j].table, i, tables);
        const float *neg = r->q[j].neg_out->part[0].data, *neg_b = r->q[j].neg_bias->part[0].data;
        for (int32_t o = 0; o < r->dim; o++) {
            for (int32_t c = 0; c < d; c++)
                out[(size_t)o * (size_t)width + (size_t)(j * d + c)] =
                    -neg[(size_t)o * (size_t)d + (size_t)c];
            bias[o] -= neg_b[o];
        }
    }
}

ut_tid ut_rvq_decode(ut_plan *p, const ut_rvq *r, ut_tid codes)
{
    const ut_tid e = ut_op_gather(p, codes, r->tables, 0, r->n, r->sizes);
    const ut_linear_args args = {.w = r->out, .bias = r->out_bias, .residual = UT_NONE};
    return ut_op_linear(p, e, &args);
}

ut_tid ut_rvq_encode(ut_plan *p, const ut_rvq *r, ut_tid x, const char *label)
{
    const ut_tid codes = ut_op_blank_ids(p, x, r->n);
    for (int32_t j = 0; j < r->n; j++) {
        const ut_linear_args in = {.w = r->q[j].in, .bias = r->q[j].in_bias, .residual = UT_NONE};
        const ut_tid e = ut_op_linear(p, x, &in);
        ut_plan_name(p, e, "%s.e%d", label, (int)j);
        ut_op_nearest(p, codes, j, e, r->q[j].table);
        if (j + 1 == r->n)
            break;
        const ut_tid entry = ut_op_gather(p, codes, r->q[j].table, j, 1, &r->sizes[j]);
        const ut_linear_args out = {.w = r->q[j].neg_out, .bias = r->q[j].neg_bias, .residual = x};
        x = ut_op_linear(p, entry, &out);
    }
    return codes;
}
