/* conv.c - loading and emitting conv.h. */
#include "nn/conv.h"
#include "base/alloc.h"
#include <math.h>
#include <stdio.h>
#include <string.h>

/* ---- Kernels as stored ---------------------------------------------------------------------- */

/* The direction tensor of a weight norm, or the plain weight; *gain is NULL for the latter. */
static const ut_view *find_kernel(const ut_loader *l, const char *prefix, const char **gain_suffix)
{
    static const char *const names[][2] = {
        {"parametrizations.weight.original1", "parametrizations.weight.original0"},
        {"weight_v", "weight_g"},
        {"weight", NULL},
    };
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        const ut_view *v = ut_load_find(l, "%s.%s", prefix, names[i][0]);
        if (v) {
            *gain_suffix = names[i][1];
            return v;
        }
    }
    return NULL;
}

bool ut_conv_shape(const ut_loader *l, const char *prefix, int64_t dim[3])
{
    const char *gain;
    const ut_view *v = find_kernel(l, prefix, &gain);
    if (!v || v->n_dims != 3)
        return false;
    memcpy(dim, v->dim, 3 * sizeof dim[0]);
    return true;
}

/* Rows of w [rows, cols] to length g[row]. */
static bool apply_gain(ut_loader *l, const char *prefix, const char *suffix, float *w, int32_t rows,
                       int32_t cols)
{
    const ut_weight *g = ut_load_vector(l, rows, "%s.%s", prefix, suffix);
    float *gain;
    if (!g || !ut_weight_new(l, g->name, 1, rows, &gain))
        return false;
    ut_weight_row_f32(g, 0, gain);
    for (int32_t r = 0; r < rows; r++) {
        float *row = w + (size_t)r * (size_t)cols;
        double sums[4] = {0}; /* chains that do not wait for each other */
        for (int32_t c = 0; c < cols; c++)
            sums[c % 4] += (double)row[c] * (double)row[c];
        const float scale = gain[r] / (float)sqrt(sums[0] + sums[1] + (sums[2] + sums[3]));
        for (int32_t c = 0; c < cols; c++)
            row[c] *= scale;
    }
    return true;
}

/* Memory for a kernel: what the one before had, or more. */
static float *kernel_memory(ut_loader *l, size_t bytes)
{
    if (bytes > l->kernel_bytes) {
        ut_loader_end(l);
        l->kernel = ut_malloc(bytes);
        l->kernel_bytes = l->kernel ? bytes : 0;
    }
    return l->kernel;
}

const float *ut_conv_kernel(ut_loader *l, const char *prefix, const int64_t expect[3],
                            int64_t dim[3])
{
    if (l->status != UTTER_OK)
        return NULL;
    const char *gain_suffix = NULL;
    const ut_view *found = find_kernel(l, prefix, &gain_suffix), *v;
    char name[256];
    snprintf(name, sizeof name, "%s.weight", prefix);
    l->status = ut_weights_get(l->weights, found ? found->name : name, 3, expect, &v, l->err);
    if (l->status != UTTER_OK)
        return NULL;
    memcpy(dim, v->dim, 3 * sizeof dim[0]);
    if (dim[0] > INT32_MAX || dim[1] > INT32_MAX / dim[2]) {
        ut_loader_fail(l, UTTER_ERR_MODEL, "tensor %s is too large", v->name);
        return NULL;
    }
    const int32_t rows = (int32_t)dim[0], cols = (int32_t)(dim[1] * dim[2]);
    size_t bytes;
    float *w = ut_size_mul((size_t)rows, (size_t)cols * sizeof *w, &bytes) ? kernel_memory(l, bytes)
                                                                           : NULL;
    if (!w) {
        ut_loader_fail(l, UTTER_ERR_NOMEM, "no memory for tensor %s", v->name);
        return NULL;
    }
    ut_view_to_f32(v, 0, v->n_elements, w);
    ut_loader_use(l, v);
    return gain_suffix && !apply_gain(l, prefix, gain_suffix, w, rows, cols) ? NULL : w;
}

/* ---- Kernels as linears ---------------------------------------------------------------------- *
 * Channels of the input are far apart in one of the two layouts: a line of memory's worth of them
 * goes at a time, so that lines are read and written once. */

enum { LINE = 16 };

/* dst[i] = src[i * step] of channels i < n. */
static void gather_channels(float *dst, const float *src, size_t step, int32_t n)
{
    for (int32_t i = 0; i < n; i++)
        dst[i] = src[(size_t)i * step];
}

static int32_t line_of(int32_t first, int32_t n)
{
    return n - first < LINE ? n - first : LINE;
}

/* dst[o, (q + pad) * C + c] = src[o, c, q]: a kernel over rows of `stride` steps; pad aligns a
 * kernel that is no multiple of the stride to the newest step. */
static void fold_conv(const ut_conv *c, const float *src, float *dst)
{
    const int32_t width = c->taps * c->in_rows * c->in_channels, n = c->in_channels;
    const int32_t pad = c->taps * c->in_rows - c->kernel;
    for (int32_t o = 0; o < c->out_channels; o++)
        for (int32_t i = 0; i < n; i += LINE)
            for (int32_t q = 0; q < c->kernel; q++)
                gather_channels(dst + (size_t)o * (size_t)width + (size_t)((q + pad) * n + i),
                                src + ((size_t)o * (size_t)n + (size_t)i) * (size_t)c->kernel +
                                    (size_t)q,
                                (size_t)c->kernel, line_of(i, n));
}

/* Output step n = i*s + r is sum over taps m of src[c, o, r + m*s] x[i - m]; tap j of the linear,
 * oldest first, is m = taps - 1 - j. */
static void fold_transposed(const ut_conv *c, const float *src, float *dst)
{
    const int32_t width = c->taps * c->in_channels, n = c->in_channels;
    const size_t step = (size_t)c->out_channels * (size_t)c->kernel;
    for (int32_t o = 0; o < c->out_channels; o++)
        for (int32_t i = 0; i < n; i += LINE)
            for (int32_t q = 0; q < c->kernel; q++) {
                const int32_t r = q % c->out_rows, j = c->taps - 1 - q / c->out_rows;
                const size_t row = (size_t)r * (size_t)c->out_channels + (size_t)o;
                gather_channels(dst + row * (size_t)width + (size_t)(j * n + i),
                                src + (size_t)i * step + (size_t)o * (size_t)c->kernel + (size_t)q,
                                step, line_of(i, n));
            }
}

static void set_geometry(ut_conv *c, ut_conv_kind kind, int32_t stride, int32_t dilation)
{
    c->dilation = dilation;
    c->in_rows = kind == UT_CONV ? stride : 1;
    c->out_rows = kind == UT_CONV ? 1 : stride;
    c->taps = (c->kernel + stride - 1) / stride;
}

/* The bias once per output step of a row. */
static const ut_weight *load_bias(ut_loader *l, const ut_conv *c, const char *prefix)
{
    const ut_weight *b = ut_load_vector(l, c->out_channels, "%s.bias", prefix);
    if (!b || c->out_rows == 1)
        return b;
    float *data;
    const ut_weight *w = ut_weight_new(l, b->name, 1, c->out_rows * c->out_channels, &data);
    for (int32_t r = 0; w && r < c->out_rows; r++)
        ut_weight_row_f32(b, 0, data + (size_t)r * (size_t)c->out_channels);
    return w;
}

void ut_conv_load_unbiased(ut_loader *l, ut_conv *c, ut_conv_kind kind, int32_t in_channels,
                           int32_t out_channels, int32_t stride, int32_t dilation,
                           ut_state_set *states, const char *prefix)
{
    memset(c, 0, sizeof *c);
    c->state = -1;
    const int64_t expect[3] = {kind == UT_CONV ? out_channels : in_channels,
                               kind == UT_CONV ? in_channels : out_channels, -1};
    int64_t dim[3];
    const float *stored = ut_conv_kernel(l, prefix, expect, dim);
    if (!stored)
        return;
    c->out_channels = (int32_t)(kind == UT_CONV ? dim[0] : dim[1]);
    c->in_channels = (int32_t)(kind == UT_CONV ? dim[1] : dim[0]);
    c->kernel = (int32_t)dim[2];
    if (stride == 0 && c->kernel % 2) {
        ut_loader_fail(l, UTTER_ERR_MODEL, "%s has a kernel of %d, expected twice its stride",
                       prefix, (int)c->kernel);
        return;
    }
    set_geometry(c, kind, stride ? stride : c->kernel / 2, dilation);

    float *folded;
    c->w = ut_weight_new(l, prefix, c->out_rows * c->out_channels,
                         c->taps * c->in_rows * c->in_channels, &folded);
    if (c->w && kind == UT_CONV)
        fold_conv(c, stored, folded);
    else if (c->w)
        fold_transposed(c, stored, folded);
    if (c->w && c->taps > 1 && states) {
        c->state = ut_state_set_add(states, "conv_history", UT_F32, (c->taps - 1) * c->dilation,
                                    c->in_rows * c->in_channels);
        if (c->state < 0)
            ut_loader_fail(l, UTTER_ERR_LIMIT, "too many convolutions: more than %d state tensors",
                           UT_STATE_MAX);
    }
}

void ut_conv_load(ut_loader *l, ut_conv *c, ut_conv_kind kind, int32_t in_channels,
                  int32_t out_channels, int32_t stride, int32_t dilation, ut_state_set *states,
                  const char *prefix)
{
    ut_conv_load_unbiased(l, c, kind, in_channels, out_channels, stride, dilation, states, prefix);
    if (c->w)
        c->bias = load_bias(l, c, prefix);
}

/* ---- Emitting ------------------------------------------------------------------------------- */

/* x, or a copy of x, that can carry the history of a state. */
static ut_tid able_to_carry(ut_plan *p, ut_tid x, int state)
{
    const ut_state_def *s = &p->states->def[state];
    const ut_tensor *root = &p->tensors[ut_plan_root(p, x)];
    const int64_t elements = (int64_t)s->rows * s->cols;
    const bool can = root->role == UT_TEMP && root->lead == 0 && elements % root->cols == 0;
    return can ? x : ut_op_copy(p, x);
}

ut_tid ut_conv_with_history(ut_plan *p, ut_tid x, int state)
{
    if (x == UT_NONE || state < 0)
        return x;
    x = able_to_carry(p, x, state);
    ut_op_conv_history(p, x, state);
    return x;
}

ut_tid ut_conv_emit(ut_plan *p, const ut_conv *c, ut_tid x, const ut_conv_args *a)
{
    x = ut_plan_reshape(p, x, c->in_rows * c->in_channels);
    if (a && a->repeat_start && x != UT_NONE && c->state >= 0) {
        x = able_to_carry(p, x, c->state);
        ut_op_conv_history_repeat(p, x, c->state, a->pos, c->in_channels);
    } else {
        x = ut_conv_with_history(p, x, c->state);
    }
    const ut_linear_args args = {.w = c->w,
                                 .bias = c->bias,
                                 .act = a ? a->act : UT_ACT_NONE,
                                 .alpha = a ? a->alpha : NULL,
                                 .beta = a ? a->beta : NULL,
                                 .residual = a ? a->residual : UT_NONE,
                                 .taps = c->taps,
                                 .dilation = c->dilation};
    return ut_plan_reshape(p, ut_op_linear(p, x, &args), c->out_channels);
}
