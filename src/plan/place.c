/* place.c - where tensors of a run live: intervals of ops in which each is needed, and offsets in
 * one arena such that two tensors share memory only when their intervals do not meet. */
#include "base/alloc.h"
#include "plan/plan.h"
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#define ALIGN 64u
#define STEPS 128u /* sizes are as coarse, so that what differs by a few rows fits one place */

typedef struct span {
    ut_tid tensor;
    int32_t first, last; /* ops, inclusive */
    size_t size, offset;
} span;

static utter_status tensor_bytes(const ut_tensor *t, ut_dtype dtype, int32_t n_slots, int32_t max_t,
                                 size_t *out)
{
    const int64_t rows = (int64_t)t->rows_per_t * max_t + t->rows_fixed + t->lead;
    size_t n = (size_t)n_slots;
    if (rows < 0 || !ut_size_mul(n, (size_t)rows, &n) || !ut_size_mul(n, (size_t)t->cols, &n) ||
        !ut_size_mul(n, ut_dtype_size(dtype), &n))
        return UTTER_ERR_LIMIT;
    size_t step = ALIGN;
    while (step < n / STEPS)
        step *= 2;
    if (!ut_size_add(n, step - 1, &n))
        return UTTER_ERR_LIMIT;
    *out = n / step * step;
    return UTTER_OK;
}

static void touch(span *spans, const int32_t *index, const ut_plan *p, ut_tid t, ut_op_time at)
{
    if (t == UT_NONE)
        return;
    const int32_t i = index[ut_plan_root(p, t)];
    if (i < 0)
        return;
    if (spans[i].first < 0 || at.first < spans[i].first)
        spans[i].first = at.first;
    if (at.last > spans[i].last)
        spans[i].last = at.last;
}

static void find_intervals(const ut_plan *p, const ut_op_time *when, span *spans, int32_t n,
                           const int32_t *index)
{
    for (int32_t o = 0; o < p->n_ops; o++) {
        const ut_op *op = &p->ops[o];
        const ut_op_time at = when ? when[o] : (ut_op_time){o, o};
        for (size_t i = 0; i < sizeof op->in / sizeof op->in[0]; i++)
            touch(spans, index, p, op->in[i], at);
        for (size_t i = 0; i < sizeof op->out / sizeof op->out[0]; i++)
            touch(spans, index, p, op->out[i], at);
    }
    for (int32_t i = 0; i < n; i++) {
        const ut_role role = p->tensors[spans[i].tensor].role;
        if (role == UT_INPUT || role == UT_OUTPUT || spans[i].first < 0) {
            spans[i].first = 0;
            spans[i].last = p->n_ops;
        }
    }
}

/* The largest first: what is small finds room between them. */
static int by_size(const void *a, const void *b)
{
    const span *x = a, *y = b;
    if (x->size != y->size)
        return x->size > y->size ? -1 : 1;
    return x->tensor < y->tensor ? -1 : 1;
}

/* The lowest offset at which spans[k] meets no already placed span that is alive with it. */
static size_t lowest_fit(const span *spans, int32_t k)
{
    size_t at = 0;
    for (bool moved = true; moved;) {
        moved = false;
        for (int32_t i = 0; i < k; i++) {
            const bool alive = spans[i].first <= spans[k].last && spans[k].first <= spans[i].last;
            const bool overlap =
                at < spans[i].offset + spans[i].size && spans[i].offset < at + spans[k].size;
            if (alive && overlap) {
                at = spans[i].offset + spans[i].size;
                moved = true;
            }
        }
    }
    return at;
}

utter_status ut_plan_place(const ut_plan *p, int32_t n_slots, int32_t max_t, size_t *offset,
                           size_t *bytes, ut_err *err)
{
    return ut_plan_place_kept(p, NULL, NULL, n_slots, max_t, offset, bytes, err);
}

utter_status ut_plan_place_kept(const ut_plan *p, const ut_op_time *when, const ut_kept *kept,
                                int32_t n_slots, int32_t max_t, size_t *offset, size_t *bytes,
                                ut_err *err)
{
    utter_status st = UTTER_OK;
    *bytes = 0;
    const size_t count = (size_t)p->n_tensors + 1;
    span *spans = ut_calloc(count, sizeof *spans);
    int32_t *index = ut_calloc(count, sizeof *index);
    if (!spans || !index) {
        st = ut_fail(err, UTTER_ERR_NOMEM, "plan %s: no memory to place it", p->name);
        goto done;
    }
    int32_t n = 0;
    for (ut_tid t = 0; t < p->n_tensors; t++) {
        offset[t] = SIZE_MAX;
        index[t] = -1;
        const ut_tensor *x = &p->tensors[t];
        if (x->role == UT_STATE || x->role == UT_VIEW)
            continue;
        const ut_kept k = kept ? kept[t] : (ut_kept){x->dtype, max_t, UT_NONE};
        if (k.onto != UT_NONE) {
            assert(k.onto < t && index[k.onto] >= 0);
            index[t] = index[k.onto];
            continue;
        }
        if (tensor_bytes(x, k.dtype, n_slots, k.max_t, &spans[n].size) != UTTER_OK) {
            st = ut_fail(err, UTTER_ERR_LIMIT, "plan %s: a tensor of %d x %d steps is too large",
                         p->name, (int)x->cols, (int)max_t);
            goto done;
        }
        spans[n].tensor = t;
        spans[n].first = spans[n].last = -1;
        index[t] = n++;
    }
    find_intervals(p, when, spans, n, index);
    qsort(spans, (size_t)n, sizeof *spans, by_size);
    for (int32_t i = 0; i < n; i++) {
        spans[i].offset = lowest_fit(spans, i);
        offset[spans[i].tensor] = spans[i].offset;
        if (spans[i].offset + spans[i].size > *bytes)
            *bytes = spans[i].offset + spans[i].size;
    }
    for (ut_tid t = 0; kept && t < p->n_tensors; t++)
        if (kept[t].onto != UT_NONE)
            offset[t] = offset[kept[t].onto];
done:
    ut_free(spans);
    ut_free(index);
    return st;
}
