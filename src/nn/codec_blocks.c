/* codec_blocks.c - loading and emitting codec_blocks.h. */
#include "nn/codec_blocks.h"
#include "base/alloc.h"
#include <math.h>
#include <stdio.h>
#include <string.h>

/* ---- Snake ---------------------------------------------------------------------------------- */

void ut_snake_load(ut_loader *l, ut_snake *s, int32_t channels, const char *prefix)
{
    s->alpha = s->beta = ut_load_vector(l, channels, "%s.alpha", prefix);
}

static const ut_weight *exponential(ut_loader *l, const ut_weight *w)
{
    float *data = NULL;
    const ut_weight *e = w ? ut_weight_new(l, w->name, 1, w->cols, &data) : NULL;
    if (!e)
        return NULL;
    ut_weight_row_f32(w, 0, data);
    for (int32_t i = 0; i < w->cols; i++)
        data[i] = expf(data[i]);
    return e;
}

void ut_snake_load_log(ut_loader *l, ut_snake *s, int32_t channels, const char *prefix)
{
    s->alpha = exponential(l, ut_load_vector(l, channels, "%s.alpha", prefix));
    s->beta = exponential(l, ut_load_vector(l, channels, "%s.beta", prefix));
}

ut_tid ut_snake_emit(ut_plan *p, const ut_snake *s, ut_tid x)
{
    return ut_op_snake_beta(p, x, s->alpha, s->beta);
}

/* ---- Residual unit -------------------------------------------------------------------------- */

void ut_resunit_load(ut_loader *l, ut_resunit *u, int32_t channels, int32_t dilation,
                     ut_state_set *states, const char *prefix)
{
    char name[256];
    snprintf(name, sizeof name, "%s.block.0", prefix);
    ut_snake_load(l, &u->snake1, channels, name);
    snprintf(name, sizeof name, "%s.block.1.conv", prefix);
    ut_conv_load(l, &u->conv1, UT_CONV, channels, channels, 1, dilation, states, name);
    snprintf(name, sizeof name, "%s.block.2", prefix);
    ut_snake_load(l, &u->snake2, channels, name);
    snprintf(name, sizeof name, "%s.block.3.conv", prefix);
    ut_conv_load(l, &u->conv2, UT_CONV, channels, channels, 1, 1, states, name);
}

void ut_resunit_load_log(ut_loader *l, ut_resunit *u, int32_t channels, int32_t dilation,
                         ut_state_set *states, const char *prefix)
{
    char name[256];
    snprintf(name, sizeof name, "%s.act1", prefix);
    ut_snake_load_log(l, &u->snake1, channels, name);
    snprintf(name, sizeof name, "%s.conv1.conv", prefix);
    ut_conv_load(l, &u->conv1, UT_CONV, channels, channels, 1, dilation, states, name);
    snprintf(name, sizeof name, "%s.act2", prefix);
    ut_snake_load_log(l, &u->snake2, channels, name);
    snprintf(name, sizeof name, "%s.conv2.conv", prefix);
    ut_conv_load(l, &u->conv2, UT_CONV, channels, channels, 1, 1, states, name);
}

ut_tid ut_resunit_emit(ut_plan *p, const ut_resunit *u, ut_tid x)
{
    const ut_conv_args first = {
        .act = UT_ACT_SNAKE, .alpha = u->snake2.alpha, .beta = u->snake2.beta, .residual = UT_NONE};
    const ut_conv_args second = {.residual = x};
    ut_tid y = ut_snake_emit(p, &u->snake1, x);
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
    const float *kernel = ut_conv_kernel(l, name, expect, dim);
    float *data;
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

/* A 1x1 convolution [rows, cols, 1] (-1: as stored) as a matrix times scale, and its bias where
 * `bias` asks for one. */
static const ut_weight *projection(ut_loader *l, const char *prefix, int32_t rows, int32_t cols,
                                   float scale, const ut_weight **bias)
{
    const int64_t expect[3] = {rows, cols, 1};
    int64_t dim[3];
    const float *kernel = ut_conv_kernel(l, prefix, expect, dim);
    float *data = NULL;
    const ut_weight *w =
        kernel ? ut_weight_new(l, prefix, (int32_t)dim[0], (int32_t)dim[1], &data) : NULL;
    for (int64_t i = 0; w && i < dim[0] * dim[1]; i++)
        data[i] = scale * kernel[i];
    if (!bias)
        return w;
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

/* sum [entries, d] / max(usage [entries], 1e-5). */
static const ut_weight *averaged_codebook(ut_loader *l, const ut_rvq *r, const char *name,
                                          const char *usage_name)
{
    const int64_t any[2] = {-1, r->n ? r->code_dim : -1};
    const ut_view *v;
    l->status = ut_weights_get(l->weights, name, 2, any, &v, l->err);
    if (l->status != UTTER_OK)
        return NULL;
    if (v->dim[0] > INT32_MAX || v->dim[1] > INT32_MAX) {
        ut_loader_fail(l, UTTER_ERR_MODEL, "tensor %s is too large", name);
        return NULL;
    }
    const int32_t entries = (int32_t)v->dim[0], d = (int32_t)v->dim[1];
    const ut_weight *sum = ut_load_matrix(l, entries, d, "%s", name);
    const ut_weight *usage = ut_load_vector(l, entries, "%s", usage_name);
    float *table, *count;
    const ut_weight *w = ut_weight_new(l, name, entries, d, &table);
    if (!w || !usage || !ut_weight_new(l, usage_name, 1, entries, &count))
        return NULL;
    ut_weight_row_f32(usage, 0, count);
    for (int32_t i = 0; i < entries; i++) {
        float *row = table + (size_t)i * (size_t)d;
        ut_weight_row_f32(sum, i, row);
        for (int32_t c = 0; c < d; c++)
            row[c] /= count[i] > 1e-5f ? count[i] : 1e-5f;
    }
    return w;
}

void ut_rvq_load_shared(ut_loader *l, ut_rvq *r, int32_t n, const char *codebooks, const char *sum,
                        const char *in, const char *out)
{
    char name[256], usage[256];
    r->shared = true;
    if (l->status == UTTER_OK && (n < 1 || n > UT_RVQ_MAX))
        ut_loader_fail(l, UTTER_ERR_MODEL, "%d codebooks, expected 1 to %d", (int)n, UT_RVQ_MAX);
    for (int32_t j = 0; l->status == UTTER_OK && j < n; j++) {
        snprintf(name, sizeof name, "%s%d.%s", codebooks, (int)j, sum);
        snprintf(usage, sizeof usage, "%s", name);
        char *last = strrchr(usage, '.');
        snprintf(last, sizeof usage - (size_t)(last - usage), ".cluster_usage");
        const ut_weight *t = averaged_codebook(l, r, name, usage);
        if (!t)
            return;
        r->code_dim = t->cols;
        r->sizes[r->n] = t->rows;
        r->q[r->n++].table = t;
        r->tables = r->tables ? ut_weight_slice(l, codebooks, r->tables, 0, r->tables->rows, t) : t;
    }
    if (in)
        r->shared_in = projection(l, in, r->code_dim, -1, 1.0f, NULL);
    if (out)
        r->shared_out = projection(l, out, -1, r->code_dim, 1.0f, NULL);
    if (l->status == UTTER_OK)
        r->dim = in ? r->shared_in->cols : out ? r->shared_out->rows : 0;
}

ut_tid ut_rvq_decode(ut_plan *p, const ut_rvq *r, ut_tid codes, int32_t first_col, ut_tid residual)
{
    if (r->shared) {
        const ut_tid e = ut_op_gather_sum(p, codes, r->tables, first_col, r->n, r->sizes, 1.0f,
                                          UT_NONE, UT_NONE);
        return ut_op_matmul(p, e, r->shared_out, residual);
    }
    const ut_tid e = ut_op_gather(p, codes, r->tables, first_col, r->n, r->sizes);
    const ut_linear_args args = {.w = r->out, .bias = r->out_bias, .residual = residual};
    return ut_op_linear(p, e, &args);
}

void ut_rvq_encode(ut_plan *p, const ut_rvq *r, ut_tid x, ut_tid codes, int32_t first_col,
                   const char *label)
{
    if (r->shared)
        x = ut_op_matmul(p, x, r->shared_in, UT_NONE);
    for (int32_t j = 0; j < r->n; j++) {
        const int32_t col = first_col + j;
        const ut_linear_args in = {.w = r->q[j].in, .bias = r->q[j].in_bias, .residual = UT_NONE};
        const ut_tid e = r->shared ? x : ut_op_linear(p, x, &in);
        ut_plan_name(p, e, "%s.e%d", label, (int)col);
        if (r->shared)
            ut_op_nearest_euclid(p, codes, col, e, r->q[j].table);
        else
            ut_op_nearest(p, codes, col, e, r->q[j].table);
        if (j + 1 == r->n)
            break;
        if (r->shared) {
            x = ut_op_gather_sum(p, codes, r->q[j].table, col, 1, &r->sizes[j], -1.0f, x, UT_NONE);
            continue;
        }
        const ut_tid entry = ut_op_gather(p, codes, r->q[j].table, col, 1, &r->sizes[j]);
        const ut_linear_args out = {.w = r->q[j].neg_out, .bias = r->q[j].neg_bias, .residual = x};
        x = ut_op_linear(p, entry, &out);
    }
}
