/* load.c - tensors of a checkpoint as weights of a plan; see load.h. */
#include "nn/load.h"
#include "base/alloc.h"
#include "base/log.h"
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#define NAME_MAX_CHARS 256

void ut_loader_init(ut_loader *l, const ut_weights *weights, ut_arena *arena, ut_err *err)
{
    memset(l, 0, sizeof *l);
    l->weights = weights;
    l->arena = arena;
    l->err = err;
    l->used = ut_arena_alloc(arena, (ut_weights_count(weights) + 1) * sizeof *l->used);
    if (!l->used)
        ut_loader_fail(l, UTTER_ERR_NOMEM, "no memory");
}

void ut_loader_end(ut_loader *l)
{
    ut_free(l->kernel);
    l->kernel = NULL;
    l->kernel_bytes = 0;
}

void ut_loader_fail(ut_loader *l, utter_status status, const char *fmt, ...)
{
    if (l->status != UTTER_OK)
        return;
    char msg[400];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(msg, sizeof msg, fmt, ap);
    va_end(ap);
    l->status = ut_fail(l->err, status, "%s: %s", ut_weights_path(l->weights), msg);
}

static bool was_used(const ut_loader *l, const ut_view *v)
{
    for (size_t i = 0; i < l->n_used; i++)
        if (l->used[i] == v)
            return true;
    return false;
}

void ut_loader_check_extra(ut_loader *l, bool (*owned)(const char *name, void *user), void *user)
{
    for (size_t i = 0; l->status == UTTER_OK && i < ut_weights_count(l->weights); i++) {
        const ut_view *v = ut_weights_at(l->weights, i);
        if (was_used(l, v))
            continue;
        if (owned(v->name, user))
            ut_loader_fail(l, UTTER_ERR_MODEL,
                           "tensor %s is one too many: config.json and the other shapes leave no "
                           "place for it",
                           v->name);
        else
            ut_log(UT_LOG_INFO, "%s: tensor %s is not used", ut_weights_path(l->weights), v->name);
    }
}

/* ---- Finding -------------------------------------------------------------------------------- */

static const ut_view *find_v(const ut_loader *l, const char *fmt, va_list ap)
{
    char name[NAME_MAX_CHARS];
    vsnprintf(name, sizeof name, fmt, ap);
    return ut_weights_find(l->weights, name);
}

const ut_view *ut_load_find(const ut_loader *l, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    const ut_view *v = find_v(l, fmt, ap);
    va_end(ap);
    return v;
}

bool ut_load_has(const ut_loader *l, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    const ut_view *v = find_v(l, fmt, ap);
    va_end(ap);
    return v != NULL;
}

void ut_loader_use(ut_loader *l, const ut_view *v)
{
    if (was_used(l, v))
        return;
    l->used[l->n_used++] = v;
    l->n_params += v->n_elements;
}

static ut_weight *new_weight(ut_loader *l, const char *name, int32_t rows, int32_t cols)
{
    ut_weight *w = ut_arena_alloc(l->arena, sizeof *w);
    char *copy = ut_arena_strdup(l->arena, name);
    if (!w || !copy) {
        ut_loader_fail(l, UTTER_ERR_NOMEM, "no memory for tensor %s", name);
        return NULL;
    }
    w->name = copy;
    w->rows = rows;
    w->cols = cols;
    w->least_bits = l->least_bits;
    w->exact = l->exact;
    return w;
}

static const ut_weight *view_weight(ut_loader *l, const ut_view *v, int32_t rows, int32_t cols)
{
    if (v->dtype != UT_F32 && v->dtype != UT_BF16 && v->dtype != UT_F16) {
        ut_loader_fail(l, UTTER_ERR_MODEL, "tensor %s is %s, expected f32, bf16 or f16", v->name,
                       ut_dtype_name(v->dtype));
        return NULL;
    }
    ut_weight *w = new_weight(l, v->name, rows, cols);
    if (!w)
        return NULL;
    w->n_parts = 1;
    w->part[0] = (ut_weight_part){.data = v->data, .dtype = v->dtype, .rows = rows};
    ut_loader_use(l, v);
    return w;
}

const ut_weight *ut_load_matrix(ut_loader *l, int32_t rows, int32_t cols, const char *fmt, ...)
{
    if (l->status != UTTER_OK)
        return NULL;
    char name[NAME_MAX_CHARS];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(name, sizeof name, fmt, ap);
    va_end(ap);
    const int64_t dim[2] = {rows, cols};
    const ut_view *v;
    l->status = ut_weights_get(l->weights, name, 2, dim, &v, l->err);
    return l->status == UTTER_OK ? view_weight(l, v, rows, cols) : NULL;
}

const ut_weight *ut_load_vector(ut_loader *l, int32_t n, const char *fmt, ...)
{
    if (l->status != UTTER_OK)
        return NULL;
    char name[NAME_MAX_CHARS];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(name, sizeof name, fmt, ap);
    va_end(ap);
    const ut_view *v;
    l->status = ut_weights_get(l->weights, name, -1, NULL, &v, l->err);
    if (l->status != UTTER_OK)
        return NULL;
    if (v->n_elements != n) {
        ut_loader_fail(l, UTTER_ERR_MODEL, "tensor %s has %lld elements, expected %d", name,
                       (long long)v->n_elements, (int)n);
        return NULL;
    }
    return view_weight(l, v, 1, n);
}

/* ---- Making --------------------------------------------------------------------------------- */

const ut_weight *ut_weight_slice(ut_loader *l, const char *name, const ut_weight *a, int32_t first,
                                 int32_t n, const ut_weight *b)
{
    if (l->status != UTTER_OK)
        return NULL;
    const int32_t tail = b ? b->rows : 0;
    ut_weight *w = new_weight(l, name, n + tail, a->cols);
    if (!w)
        return NULL;
    const ut_weight *src[2] = {a, b};
    for (int s = 0; s < 2 && src[s]; s++) {
        int32_t skip = s == 0 ? first : 0, left = s == 0 ? n : tail;
        for (int i = 0; i < src[s]->n_parts && left > 0; i++) {
            const ut_weight_part *p = &src[s]->part[i];
            if (skip >= p->rows) {
                skip -= p->rows;
                continue;
            }
            if (w->n_parts == UT_WEIGHT_MAX_PARTS) {
                ut_loader_fail(l, UTTER_ERR_INTERNAL, "weight %s has too many parts", name);
                return NULL;
            }
            const int32_t take = p->rows - skip < left ? p->rows - skip : left;
            w->part[w->n_parts++] =
                (ut_weight_part){.data = (const uint8_t *)p->data +
                                         (size_t)skip * (size_t)a->cols * ut_dtype_size(p->dtype),
                                 .dtype = p->dtype,
                                 .rows = take};
            left -= take;
            skip = 0;
        }
    }
    return w;
}

const ut_weight *ut_weight_new(ut_loader *l, const char *name, int32_t rows, int32_t cols,
                               float **data)
{
    *data = NULL;
    if (l->status != UTTER_OK)
        return NULL;
    ut_weight *w = new_weight(l, name, rows, cols);
    if (!w)
        return NULL;
    *data = ut_arena_alloc(l->arena, (size_t)rows * (size_t)cols * sizeof **data);
    if (!*data) {
        ut_loader_fail(l, UTTER_ERR_NOMEM, "no memory for tensor %s", name);
        return NULL;
    }
    w->n_parts = 1;
    w->part[0] = (ut_weight_part){.data = *data, .dtype = UT_F32, .rows = rows};
    return w;
}

const ut_weight *ut_weight_scaled(ut_loader *l, const ut_weight *a, float scale)
{
    float *data;
    if (l->status != UTTER_OK)
        return NULL;
    const ut_weight *w = ut_weight_new(l, a->name, a->rows, a->cols, &data);
    if (!w)
        return NULL;
    for (int32_t r = 0; r < a->rows; r++) {
        float *row = data + (size_t)r * (size_t)a->cols;
        ut_weight_row_f32(a, r, row);
        for (int32_t c = 0; c < a->cols; c++)
            row[c] *= scale;
    }
    return w;
}

int ut_load_state(ut_loader *l, ut_state_set *set, const char *name, ut_dtype dtype, int32_t rows,
                  int32_t cols)
{
    const int index = ut_state_set_add(set, name, dtype, rows, cols);
    if (index < 0)
        ut_loader_fail(l, UTTER_ERR_LIMIT, "too many layers: more than %d state tensors",
                       UT_STATE_MAX);
    return index;
}
