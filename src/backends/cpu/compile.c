/* compile.c - from a plan to a list of steps: places in one arena, packed weights, and everything
 * that need not be found out again during a run. */
#include "backends/cpu/exec.h"
#include "backends/cpu/sample.h"
#include "base/alloc.h"
#include <math.h>
#include <string.h>

static cpu_step_fn *const step_fns[UT_OP_COUNT] = {
    [UT_OP_EMBED_SUM] = cpu_run_embed_sum,
    [UT_OP_GATHER] = cpu_run_gather,
    [UT_OP_GATHER_SUM] = cpu_run_gather_sum,
    [UT_OP_COPY_ROWS] = cpu_run_copy_rows,
    [UT_OP_COPY_COLS] = cpu_run_copy_cols,
    [UT_OP_RMS_NORM] = cpu_run_rms_norm,
    [UT_OP_LAYER_NORM] = cpu_run_layer_norm,
    [UT_OP_LINEAR] = cpu_run_linear,
    [UT_OP_ROPE_ANGLES] = cpu_run_rope_angles,
    [UT_OP_QKV] = cpu_run_qkv,
    [UT_OP_ATTENTION] = cpu_run_attention,
    [UT_OP_SWIGLU] = cpu_run_swiglu,
    [UT_OP_SNAKE] = cpu_run_snake,
    [UT_OP_ACT] = cpu_run_act,
    [UT_OP_SCALE] = cpu_run_scale,
    [UT_OP_POOL] = cpu_run_pool,
    [UT_OP_REFLECT] = cpu_run_reflect,
    [UT_OP_TRIM] = cpu_run_trim,
    [UT_OP_CONV_HISTORY] = cpu_run_conv_history,
    [UT_OP_DWCONV] = cpu_run_dwconv,
    [UT_OP_NEAREST] = cpu_run_nearest,
    [UT_OP_SAMPLE] = cpu_run_sample,
    [UT_OP_TOKEN_CODE] = cpu_run_token_code,
    [UT_OP_RING_PUT] = cpu_run_ring_put,
    [UT_OP_RING_GET] = cpu_run_ring_get,
    [UT_OP_ADVANCE] = cpu_run_advance,
};

static utter_status no_memory(const ut_plan *p, ut_err *err)
{
    return ut_fail(err, UTTER_ERR_NOMEM, "plan %s: no memory to compile it", p->name);
}

/* ---- Places --------------------------------------------------------------------------------- */

static utter_status place_tensors(cpu_exec *e, const ut_plan *p, ut_err *err)
{
    size_t *offset = ut_calloc((size_t)p->n_tensors + 1, sizeof *offset);
    if (!offset)
        return no_memory(p, err);
    utter_status st = ut_plan_place(p, e->n_slots, e->max_t, offset, &e->arena_bytes, err);
    if (st != UTTER_OK)
        goto done;
    e->arena = ut_alloc_aligned(e->arena_bytes);
    if (!e->arena) {
        st = ut_fail(err, UTTER_ERR_NOMEM, "plan %s: no memory for its %zu bytes of tensors",
                     p->name, e->arena_bytes);
        goto done;
    }
    for (ut_tid i = 0; i < p->n_tensors; i++) {
        const ut_tensor *t = &p->tensors[i];
        const ut_tid root = ut_plan_root(p, i);
        const ut_tensor *m = &p->tensors[root];
        e->places[i] = (cpu_place){.base = m->role == UT_STATE ? NULL : e->arena + offset[root],
                                   .state = m->state,
                                   .rows_per_t = t->rows_per_t,
                                   .rows_fixed = t->rows_fixed,
                                   .cols = t->cols,
                                   .lead = (int64_t)m->lead * m->cols};
    }
done:
    ut_free(offset);
    return st;
}

/* Outputs whose slots are apart in the arena are brought together by cpu_exec's `gathered`. */
static utter_status place_gathered(cpu_exec *e, const ut_plan *p, ut_err *err)
{
    size_t largest = 0;
    for (ut_tid i = 0; i < p->n_tensors; i++) {
        const ut_tensor *t = &p->tensors[i];
        const size_t rows = (size_t)ut_tensor_rows(t, e->max_t);
        if (e->n_slots > 1 && t->role == UT_OUTPUT && t->lead > 0 &&
            rows * (size_t)t->cols > largest)
            largest = rows * (size_t)t->cols;
    }
    if (largest == 0)
        return UTTER_OK;
    e->gathered = ut_alloc_aligned(largest * 4 * (size_t)e->n_slots);
    return e->gathered ? UTTER_OK : no_memory(p, err);
}

/* ---- Weights -------------------------------------------------------------------------------- */

static utter_status use(cpu_exec *e, cpu_backend *b, const ut_weight *w, ut_form form,
                        const ut_packed **out, ut_err *err)
{
    *out = NULL;
    if (!w)
        return UTTER_OK;
    if (e->n_packed == e->cap_packed) {
        const size_t cap = e->cap_packed ? 2 * e->cap_packed : 256;
        ut_packed **grown = ut_realloc(e->packed, cap, sizeof *grown);
        if (!grown)
            return no_memory(e->head.plan, err);
        e->packed = grown;
        e->cap_packed = cap;
    }
    ut_packed *p;
    const utter_status st = ut_packed_get(&b->packed, &b->k, b->precision, w, form, &p, err);
    if (st == UTTER_OK)
        *out = e->packed[e->n_packed++] = p;
    return st;
}

/* The form of operand i of an op's weights; false: read from the checkpoint at run time, or only
 * needed in the form of use_weights' `inverse`. */
static bool form_of(const ut_op *op, int i, ut_form *form)
{
    *form = UT_FORM_VECTOR;
    switch (op->kind) {
    case UT_OP_EMBED_SUM:
    case UT_OP_GATHER:
    case UT_OP_GATHER_SUM:
        return false;
    case UT_OP_LINEAR:
        if (i == 0)
            *form = UT_FORM_PANELS;
        return i < 4;
    case UT_OP_SNAKE:
        return i == 0;
    case UT_OP_NEAREST:
        *form = op->u.nearest.euclid ? UT_FORM_F32_PANELS : UT_FORM_UNIT_PANELS;
        return true;
    case UT_OP_DWCONV:
        if (i == 0)
            *form = UT_FORM_TAPS;
        return true;
    default:
        return true;
    }
}

static utter_status use_weights(cpu_exec *e, cpu_backend *b, cpu_step *s, ut_err *err)
{
    utter_status st = UTTER_OK;
    const ut_op *op = s->op;
    for (int i = 0; i < (int)(sizeof op->w / sizeof op->w[0]) && st == UTTER_OK; i++) {
        ut_form form;
        if (form_of(op, i, &form))
            st = use(e, b, op->w[i], form, &s->w[i], err);
    }
    if (st == UTTER_OK && op->kind == UT_OP_SNAKE)
        st = use(e, b, op->w[1], UT_FORM_INVERSE, &s->inverse, err);
    if (st == UTTER_OK && op->kind == UT_OP_LINEAR && op->u.linear.act == UT_ACT_SNAKE)
        st = use(e, b, op->w[4] ? op->w[4] : op->w[3], UT_FORM_INVERSE, &s->inverse, err);
    if (st == UTTER_OK && op->kind == UT_OP_NEAREST && op->u.nearest.euclid)
        st = use(e, b, op->w[0], UT_FORM_HALF_SQUARES, &s->inverse, err);
    return st;
}

/* ---- Steps ---------------------------------------------------------------------------------- */

/* Bytes of scratch that an op needs per thread. */
static size_t scratch_of(const cpu_exec *e, const cpu_step *s)
{
    const ut_op *op = s->op;
    switch (op->kind) {
    case UT_OP_EMBED_SUM:
        return 8 * (size_t)s->out[0].cols;
    case UT_OP_GATHER_SUM:
        return 4 * (size_t)s->out[0].cols;
    case UT_OP_QKV:
        return 8 * (size_t)op->u.attn.head_dim;
    case UT_OP_ATTENTION: {
        const int32_t capacity = s->in[2].rows_fixed, window = op->u.attn.window;
        const int32_t rows = place_rows(&s->in[0], e->max_t);
        return 4 * (size_t)UT_ATTENTION_BLOCK * (size_t)op->u.attn.head_dim +
               4 * ut_attention_scores(rows < CPU_ATTENTION_ROWS ? rows : CPU_ATTENTION_ROWS,
                                       op->u.attn.n_heads / op->u.attn.n_kv_heads,
                                       window && window < capacity ? window : capacity);
    }
    case UT_OP_NEAREST:
        return 4 * ((size_t)s->in[0].cols + (size_t)op->w[0]->rows);
    case UT_OP_SAMPLE:
        return 4 * ut_sample_scratch_floats(s->in[0].cols);
    default:
        return 0;
    }
}

/* What the builder could not know: capacities against the longest run. */
static utter_status check_op(const cpu_exec *e, const ut_op *op, ut_err *err)
{
    const ut_plan *p = e->head.plan;
    if (op->kind == UT_OP_ATTENTION && op->u.attn.window > 0) {
        const int32_t rows = ut_tensor_rows(&p->tensors[op->in[0]], e->max_t);
        const int32_t capacity = p->tensors[op->in[2]].rows_fixed;
        if (capacity < op->u.attn.window + rows - 1)
            return ut_fail(err, UTTER_ERR_ARG,
                           "plan %s: a cache of %d rows, expected at least %d for a window of %d "
                           "and runs of %d rows",
                           p->name, (int)capacity, (int)(op->u.attn.window + rows - 1),
                           (int)op->u.attn.window, (int)rows);
    }
    if (op->kind == UT_OP_SAMPLE && op->u.sample.penalty == UT_PENALTY_FIRST_COLUMN &&
        p->tensors[op->in[4]].cols > UT_SAMPLE_MAX_PENALISED)
        return ut_fail(err, UTTER_ERR_UNSUPPORTED, "plan %s: a history of %d columns, at most %d",
                       p->name, (int)p->tensors[op->in[4]].cols, (int)UT_SAMPLE_MAX_PENALISED);
    return UTTER_OK;
}

/* inv_freq[i] = 1 / base^(2i / dim), every operation rounded to f32 as upstream does it. */
static void fill_frequencies(float *f, const ut_op *op)
{
    const int32_t dim = op->u.angles.dim;
    for (int32_t i = 0; i < dim / 2; i++) {
        const float exponent = (float)(2 * i) / (float)dim;
        f[i] = 1.0f / (float)pow((double)op->u.angles.base, (double)exponent);
    }
}

static utter_status make_tables(cpu_exec *e, ut_err *err)
{
    const ut_plan *p = e->head.plan;
    size_t n = 0;
    for (int32_t i = 0; i < p->n_ops; i++)
        if (p->ops[i].kind == UT_OP_ROPE_ANGLES)
            n += (size_t)p->ops[i].u.angles.dim / 2;
    e->tables = ut_calloc(n + 1, sizeof *e->tables);
    if (!e->tables)
        return no_memory(p, err);
    float *at = e->tables;
    for (int32_t i = 0; i < p->n_ops; i++)
        if (p->ops[i].kind == UT_OP_ROPE_ANGLES) {
            fill_frequencies(at, &p->ops[i]);
            e->steps[i].table = at;
            at += p->ops[i].u.angles.dim / 2;
        }
    return UTTER_OK;
}

static utter_status make_step(cpu_exec *e, cpu_backend *b, cpu_step *s, const ut_op *op,
                              ut_err *err)
{
    const utter_status st = check_op(e, op, err);
    if (st != UTTER_OK)
        return st;
    s->op = op;
    s->fn = step_fns[op->kind];
    for (int i = 0; i < 6; i++)
        if (op->in[i] != UT_NONE) {
            s->in[i] = e->places[op->in[i]];
            s->has_in[i] = true;
        }
    for (int i = 0; i < 2; i++)
        if (op->out[i] != UT_NONE) {
            s->out[i] = e->places[op->out[i]];
            s->has_out[i] = true;
        }
    const size_t scratch = scratch_of(e, s);
    if (scratch > e->scratch_bytes)
        e->scratch_bytes = scratch;
    return use_weights(e, b, s, err);
}

utter_status cpu_compile(ut_backend *backend, const ut_plan *plan, int n_slots, int32_t max_t,
                         ut_exec **out, ut_err *err)
{
    cpu_backend *b = (cpu_backend *)backend;
    utter_status st = UTTER_OK;
    *out = NULL;
    if (n_slots < 1 || max_t < 1)
        return ut_fail(err, UTTER_ERR_ARG, "plan %s: %d slots and %d steps, expected 1 or more",
                       plan->name, n_slots, (int)max_t);
    cpu_exec *e = ut_calloc(1, sizeof *e);
    if (!e)
        return no_memory(plan, err);
    e->head.backend = backend;
    e->head.plan = plan;
    e->n_slots = n_slots;
    e->max_t = max_t;
    e->n_steps = plan->n_ops;
    e->steps = ut_calloc((size_t)plan->n_ops + 1, sizeof *e->steps);
    e->places = ut_calloc((size_t)plan->n_tensors + 1, sizeof *e->places);
    if (!e->steps || !e->places) {
        st = no_memory(plan, err);
        goto done;
    }
    st = place_tensors(e, plan, err);
    if (st == UTTER_OK)
        st = place_gathered(e, plan, err);
    for (int32_t i = 0; i < plan->n_ops && st == UTTER_OK; i++)
        st = make_step(e, b, &e->steps[i], &plan->ops[i], err);
    if (st == UTTER_OK)
        st = make_tables(e, err);
    if (st != UTTER_OK)
        goto done;
    e->scratch_bytes = (e->scratch_bytes + 127) / 64 * 64;
    e->scratch = ut_alloc_aligned(e->scratch_bytes * (size_t)ut_pool_size(b->pool));
    if (!e->scratch) {
        st = no_memory(plan, err);
        goto done;
    }
    st = ut_packed_fill(&b->packed, &b->k, b->pool, err);
    if (st != UTTER_OK)
        goto done;
    *out = &e->head;
    e = NULL;
done:
    if (e)
        cpu_exec_free(&e->head);
    return st;
}

void cpu_exec_free(ut_exec *exec)
{
    if (!exec)
        return;
    cpu_exec *e = (cpu_exec *)exec;
    cpu_backend *b = (cpu_backend *)exec->backend;
    for (size_t i = 0; i < e->n_packed; i++)
        ut_packed_release(&b->packed, e->packed[i]);
    ut_free(e->packed);
    ut_free(e->places);
    ut_free(e->steps);
    ut_free(e->tables);
    ut_free_aligned(e->scratch);
    ut_free_aligned(e->gathered);
    ut_free_aligned(e->arena);
    ut_free(e);
}
