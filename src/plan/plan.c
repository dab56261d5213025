/* plan.c - building a plan: tensors, state sets, views, and the checks of ut_plan_finish. The
 * operations themselves are in ops.c, memory placement in place.c. */
#include "plan/plan.h"
#include "base/alloc.h"
#include "base/arena.h"
#include "plan/build.h"
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

int ut_state_set_add(ut_state_set *s, const char *name, ut_dtype dtype, int32_t rows, int32_t cols)
{
    if (s->n == UT_STATE_MAX || rows < 1 || cols < 1)
        return -1;
    s->def[s->n] = (ut_state_def){.name = name, .dtype = dtype, .rows = rows, .cols = cols};
    return s->n++;
}

size_t ut_state_def_bytes(const ut_state_def *d)
{
    return (size_t)d->rows * (size_t)d->cols * ut_dtype_size(d->dtype);
}

ut_plan *ut_plan_new(const char *name, const ut_state_set *states, const char *const *taps)
{
    ut_plan *p = ut_calloc(1, sizeof *p);
    if (!p)
        return NULL;
    p->arena = ut_arena_new(16384);
    if (!p->arena) {
        ut_free(p);
        return NULL;
    }
    p->name = name;
    p->states = states;
    p->taps = taps;
    return p;
}

void ut_plan_free(ut_plan *p)
{
    if (!p)
        return;
    ut_free(p->tensors);
    ut_free(p->ops);
    ut_arena_free(p->arena);
    ut_free(p);
}

/* ---- Appending ------------------------------------------------------------------------------ */

void ut_build_fail(ut_plan *p, const char *fmt, ...)
{
    if (p->err.status != UTTER_OK)
        return;
    char msg[256];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(msg, sizeof msg, fmt, ap);
    va_end(ap);
    ut_fail(&p->err, UTTER_ERR_INTERNAL, "plan %s, op %d: %s", p->name, (int)p->n_ops, msg);
}

static void no_memory(ut_plan *p)
{
    ut_fail(&p->err, UTTER_ERR_NOMEM, "plan %s: no memory", p->name);
}

ut_tid ut_build_tensor(ut_plan *p, const ut_tensor *t)
{
    if (p->n_tensors == p->cap_tensors) {
        const int32_t cap = p->cap_tensors ? 2 * p->cap_tensors : 128;
        ut_tensor *grown = ut_realloc(p->tensors, (size_t)cap, sizeof *grown);
        if (!grown) {
            no_memory(p);
            return UT_NONE;
        }
        p->tensors = grown;
        p->cap_tensors = cap;
    }
    p->tensors[p->n_tensors] = *t;
    return p->n_tensors++;
}

ut_op *ut_build_op(ut_plan *p, ut_op_kind kind)
{
    if (p->n_ops == p->cap_ops) {
        const int32_t cap = p->cap_ops ? 2 * p->cap_ops : 256;
        ut_op *grown = ut_realloc(p->ops, (size_t)cap, sizeof *grown);
        if (!grown) {
            no_memory(p);
            return NULL;
        }
        p->ops = grown;
        p->cap_ops = cap;
    }
    ut_op *op = &p->ops[p->n_ops++];
    memset(op, 0, sizeof *op);
    op->kind = kind;
    for (size_t i = 0; i < sizeof op->in / sizeof op->in[0]; i++)
        op->in[i] = UT_NONE;
    op->out[0] = op->out[1] = UT_NONE;
    return op;
}

ut_tid ut_build_temp(ut_plan *p, ut_tid like_rows, ut_dtype dtype, int32_t cols)
{
    const ut_tensor *l = ut_build_get(p, like_rows);
    if (!l)
        return UT_NONE;
    const ut_tensor t = {.role = UT_TEMP,
                         .dtype = dtype,
                         .rows_per_t = l->rows_per_t,
                         .rows_fixed = l->rows_fixed,
                         .cols = cols,
                         .state = -1,
                         .base = UT_NONE};
    return ut_build_tensor(p, &t);
}

const ut_tensor *ut_build_get(ut_plan *p, ut_tid t)
{
    if (t >= 0 && t < p->n_tensors)
        return &p->tensors[t];
    ut_build_fail(p, "an operand is missing");
    return NULL;
}

/* ---- Tensors -------------------------------------------------------------------------------- */

ut_tid ut_plan_input(ut_plan *p, const char *name, ut_dtype dtype, int32_t rows_per_t,
                     int32_t rows_fixed, int32_t cols)
{
    const ut_tensor t = {.name = name,
                         .role = UT_INPUT,
                         .dtype = dtype,
                         .rows_per_t = rows_per_t,
                         .rows_fixed = rows_fixed,
                         .cols = cols,
                         .state = -1,
                         .base = UT_NONE};
    return ut_build_tensor(p, &t);
}

ut_tid ut_plan_state(ut_plan *p, int state_index)
{
    if (!p->states || state_index < 0 || state_index >= p->states->n) {
        ut_build_fail(p, "state %d is not in the set", state_index);
        return UT_NONE;
    }
    for (ut_tid i = 0; i < p->n_tensors; i++)
        if (p->tensors[i].role == UT_STATE && p->tensors[i].state == state_index)
            return i;
    const ut_state_def *d = &p->states->def[state_index];
    const ut_tensor t = {.name = d->name,
                         .role = UT_STATE,
                         .dtype = d->dtype,
                         .rows_fixed = d->rows,
                         .cols = d->cols,
                         .state = state_index,
                         .base = UT_NONE};
    return ut_build_tensor(p, &t);
}

ut_tid ut_plan_root(const ut_plan *p, ut_tid t)
{
    while (p->tensors[t].role == UT_VIEW)
        t = p->tensors[t].base;
    return t;
}

void ut_plan_output(ut_plan *p, ut_tid t, const char *name)
{
    if (!ut_build_get(p, t))
        return;
    ut_tensor *root = &p->tensors[ut_plan_root(p, t)];
    if (root->role != UT_TEMP && root->role != UT_OUTPUT) {
        ut_build_fail(p, "output %s is an input or a state", name);
        return;
    }
    root->role = UT_OUTPUT;
    p->tensors[t].name = name;
}

char *ut_plan_printf(ut_plan *p, const char *fmt, ...)
{
    char text[128];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    char *copy = ut_arena_strdup(p->arena, text);
    if (!copy)
        no_memory(p);
    return copy;
}

bool ut_plan_wants(const ut_plan *p, const char *name)
{
    for (const char *const *tap = p->taps; tap && *tap; tap++)
        if (strcmp(*tap, name) == 0)
            return true;
    return false;
}

void ut_plan_name(ut_plan *p, ut_tid t, const char *fmt, ...)
{
    if (!p->taps || t == UT_NONE)
        return;
    char name[128];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(name, sizeof name, fmt, ap);
    va_end(ap);
    for (const char *const *tap = p->taps; *tap; tap++)
        if (strcmp(*tap, name) == 0)
            ut_plan_output(p, t, *tap);
}

ut_tid ut_plan_find(const ut_plan *p, const char *name)
{
    for (ut_tid i = 0; i < p->n_tensors; i++) {
        const ut_role role = p->tensors[ut_plan_root(p, i)].role;
        if ((role == UT_INPUT || role == UT_OUTPUT) && p->tensors[i].name &&
            strcmp(p->tensors[i].name, name) == 0)
            return i;
    }
    return UT_NONE;
}

ut_tid ut_plan_reshape(ut_plan *p, ut_tid t, int32_t new_cols)
{
    const ut_tensor *x = ut_build_get(p, t);
    if (!x || x->cols == new_cols)
        return t;
    const int64_t per_t = (int64_t)x->rows_per_t * x->cols;
    const int64_t fixed = (int64_t)x->rows_fixed * x->cols;
    if (new_cols < 1 || per_t % new_cols || fixed % new_cols) {
        ut_build_fail(p, "%d columns do not divide into rows of %d", (int)x->cols, (int)new_cols);
        return UT_NONE;
    }
    const ut_tensor v = {.role = UT_VIEW,
                         .dtype = x->dtype,
                         .rows_per_t = (int32_t)(per_t / new_cols),
                         .rows_fixed = (int32_t)(fixed / new_cols),
                         .cols = new_cols,
                         .state = -1,
                         .base = t};
    return ut_build_tensor(p, &v);
}

/* ---- Finishing ------------------------------------------------------------------------------ */

/* Views see the lead of their root in rows of their own. */
static void spread_leads(ut_plan *p)
{
    for (ut_tid i = 0; i < p->n_tensors; i++) {
        ut_tensor *t = &p->tensors[i];
        if (t->role != UT_VIEW)
            continue;
        const ut_tensor *root = &p->tensors[ut_plan_root(p, i)];
        const int64_t elements = (int64_t)root->lead * root->cols;
        if (elements % t->cols)
            ut_build_fail(p, "a history of %d rows of %d does not divide into rows of %d",
                          (int)root->lead, (int)root->cols, (int)t->cols);
        t->lead = (int32_t)(elements / t->cols);
    }
}

/* Every temporary is written before it is read, by an op or by being an input or a state. */
static void check_order(ut_plan *p)
{
    bool *written = ut_calloc((size_t)p->n_tensors + 1, sizeof *written);
    if (!written) {
        no_memory(p);
        return;
    }
    for (ut_tid i = 0; i < p->n_tensors; i++)
        written[i] = p->tensors[i].role == UT_INPUT || p->tensors[i].role == UT_STATE;
    for (int32_t o = 0; o < p->n_ops; o++) {
        const ut_op *op = &p->ops[o];
        for (size_t i = 0; i < sizeof op->in / sizeof op->in[0]; i++)
            if (op->in[i] != UT_NONE && !written[ut_plan_root(p, op->in[i])])
                ut_fail(&p->err, UTTER_ERR_INTERNAL,
                        "plan %s, op %d (%s): reads what nothing wrote", p->name, (int)o,
                        ut_op_name(op->kind));
        for (size_t i = 0; i < sizeof op->out / sizeof op->out[0]; i++)
            if (op->out[i] != UT_NONE)
                written[ut_plan_root(p, op->out[i])] = true;
    }
    ut_free(written);
}

int64_t ut_plan_matrix_bytes(const ut_plan *p, ut_precision precision)
{
    int64_t bytes = 0;
    for (int32_t i = 0; i < p->n_ops; i++)
        if (p->ops[i].kind == UT_OP_LINEAR)
            bytes += ut_weight_kept_bytes(p->ops[i].w[0], precision);
    return bytes;
}

utter_status ut_plan_finish(ut_plan *p, ut_err *err)
{
    if (p->err.status == UTTER_OK)
        spread_leads(p);
    if (p->err.status == UTTER_OK)
        check_order(p);
    if (p->err.status != UTTER_OK)
        return ut_fail(err, p->err.status, "%s", p->err.msg);
    return UTTER_OK;
}
