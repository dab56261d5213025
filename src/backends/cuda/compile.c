/* compile.c - from a plan to steps: places in one arena of the device, weights, tables, and memory
 * for everything a run needs, so that runs allocate nothing. */
#include "backends/cuda/exec.h"
#include "base/alloc.h"
#include "base/half.h"
#include <math.h>
#include <string.h>

enum { MAX_HEAD_DIM = 512, MAX_PENALISED = 64 }; /* of the attention kernel and the sampler */

static cu_launch_fn *const launch_fns[UT_OP_COUNT] = {
    [UT_OP_EMBED_SUM] = cu_launch_embed_sum,   [UT_OP_GATHER] = cu_launch_gather,
    [UT_OP_GATHER_SUM] = cu_launch_gather_sum, [UT_OP_COPY_ROWS] = cu_launch_copy_rows,
    [UT_OP_COPY_COLS] = cu_launch_copy_cols,   [UT_OP_RMS_NORM] = cu_launch_rms_norm,
    [UT_OP_LAYER_NORM] = cu_launch_layer_norm, [UT_OP_LINEAR] = cu_launch_linear,
    [UT_OP_ROPE_ANGLES] = cu_launch_angles,    [UT_OP_QKV] = cu_launch_qkv,
    [UT_OP_ATTENTION] = cu_launch_attention,   [UT_OP_SWIGLU] = cu_launch_swiglu,
    [UT_OP_SNAKE] = cu_launch_snake,           [UT_OP_ACT] = cu_launch_act,
    [UT_OP_SCALE] = cu_launch_scale,           [UT_OP_POOL] = cu_launch_pool,
    [UT_OP_REFLECT] = cu_launch_reflect,       [UT_OP_TRIM] = cu_launch_trim,
    [UT_OP_CONV_HISTORY] = cu_launch_history,  [UT_OP_DWCONV] = cu_launch_dwconv,
    [UT_OP_NEAREST] = cu_launch_nearest,       [UT_OP_SAMPLE] = cu_launch_sample,
    [UT_OP_TOKEN_CODE] = cu_launch_token_code, [UT_OP_RING_PUT] = cu_launch_ring_put,
    [UT_OP_RING_GET] = cu_launch_ring_get,     [UT_OP_ADVANCE] = cu_launch_advance,
};

static utter_status no_memory(const ut_plan *p, ut_err *err)
{
    return ut_fail(err, UTTER_ERR_NOMEM, "plan %s: no memory to compile it", p->name);
}

/* ---- Places ---------------------------------------------------------------------------------- */

static bool is_fixed(const ut_plan *p, ut_tid t)
{
    return t == UT_NONE || (p->tensors[t].rows_per_t == 0 && p->tensors[t].lead == 0);
}

/* Is the operation the same whatever T is? */
static bool is_fixed_op(const ut_plan *p, const ut_op *op)
{
    for (int i = 0; i < 6; i++)
        if (!is_fixed(p, op->in[i]))
            return false;
    for (int i = 0; i < 2; i++)
        if (!is_fixed(p, op->out[i]))
            return false;
    return true;
}

int32_t cu_fixed_from(const ut_plan *p)
{
    int32_t i = p->n_ops;
    while (i > 0 && is_fixed_op(p, &p->ops[i - 1]))
        i--;
    return i;
}

/* Are there matrices in blocks? Phases have none. */
static bool has_packed(const ut_plan *p, const cu_backend *b)
{
    for (int32_t i = 0; i < p->n_ops; i++)
        if (p->ops[i].kind == UT_OP_LINEAR && cu_is_packed(cu_weight_rows_type(b, p->ops[i].w[0])))
            return true;
    return false;
}

/* Does a decoder run as a graph of linked steps (fuse.c), with products on tensor cores? With
 * matrices in blocks always. With bf16 that is faster than phases from two slots on; where there
 * are no phases, or only of plain arithmetic, which is before 9.0, for one, too (by figures of an
 * H200; not by timing at load, so that a seed's codes are the same every time). */
static bool is_stepped(const cu_exec *e, const cu_backend *b)
{
    if (e->heard || !b->mma)
        return false;
    const bool packed = has_packed(e->head.plan, b);
    if (b->frames == CU_FRAMES_STEPS || (packed && b->frames == CU_FRAMES_AUTO))
        return packed || b->precision == UT_PRECISION_BF16;
    return b->frames == CU_FRAMES_AUTO && b->precision == UT_PRECISION_BF16 &&
           (e->n_slots > 1 || !b->hopper || b->attention == UT_ATTENTION_MATH);
}

/* The first of the operations that could be phases: all of a decoder's, of a prompt's those that
 * follow its last row. */
static int32_t find_tail(const cu_exec *e, const cu_backend *b)
{
    const ut_plan *p = e->head.plan;
    const int32_t tail = cu_fixed_from(p);
    if (e->stepped && b->frames == CU_FRAMES_AUTO)
        return p->n_ops;
    for (int32_t i = tail; i < p->n_ops; i++)
        if (p->ops[i].kind == UT_OP_LINEAR &&
            p->tensors[p->ops[i].in[0]].rows_fixed * e->n_slots > CU_FRAME_ROWS)
            return p->n_ops;
    return p->states && (tail == 0 || !e->heard) ? tail : p->n_ops;
}

static utter_status place_tensors(cu_exec *e, cu_backend *b, const ut_op_time *when, ut_err *err)
{
    const ut_plan *p = e->head.plan;
    size_t *offset = ut_calloc((size_t)p->n_tensors + 1, sizeof *offset);
    if (!offset)
        return no_memory(p, err);
    size_t bytes;
    utter_status st =
        ut_plan_place_kept(p, when, e->kept, e->n_slots, e->max_t, offset, &bytes, err);
    if (st == UTTER_OK)
        st = cu_arena_get(e, bytes, &e->arena_bytes, err);
    for (ut_tid i = 0; st == UTTER_OK && i < p->n_tensors; i++) {
        const ut_tensor *t = &p->tensors[i];
        const ut_tid root = ut_plan_root(p, i);
        const ut_tensor *m = &p->tensors[root];
        const bool is_state = m->role == UT_STATE;
        e->places[i] = (cu_place){.set = true,
                                  .state = is_state ? m->state : -1,
                                  .offset = is_state ? 0 : offset[root],
                                  .dtype = is_state ? cu_state_dtype(b, &p->states->def[m->state])
                                                    : e->kept[root].dtype,
                                  .rows_per_t = t->rows_per_t,
                                  .rows_fixed = t->rows_fixed,
                                  .cols = t->cols,
                                  .lead = (int64_t)m->lead * m->cols};
    }
    ut_free(offset);
    return st;
}

static int count_roots(const ut_plan *p, ut_role role)
{
    int n = 0;
    for (ut_tid i = 0; i < p->n_tensors; i++)
        n += p->tensors[i].role == role;
    return n;
}

/* Pinned memory for each tensor of a role, at the longest run. */
static utter_status new_host_copies(cu_exec *e, cu_backend *b, ut_role role, cu_host_copy **out,
                                    int *n, ut_err *err)
{
    const ut_plan *p = e->head.plan;
    *out = ut_calloc((size_t)count_roots(p, role) + 1, sizeof **out);
    if (!*out)
        return no_memory(p, err);
    for (ut_tid i = 0; i < p->n_tensors; i++) {
        if (p->tensors[i].role != role)
            continue;
        const size_t rows = (size_t)ut_tensor_rows(&p->tensors[i], e->max_t);
        const size_t bytes = 4 * rows * (size_t)p->tensors[i].cols * (size_t)e->n_slots;
        void *data;
        const utter_status st = cu_alloc_host(b, bytes, &data, NULL, err);
        if (st != UTTER_OK)
            return st;
        (*out)[(*n)++] = (cu_host_copy){i, data};
    }
    return UTTER_OK;
}

/* ---- Weights --------------------------------------------------------------------------------- */

static utter_status use(cu_exec *e, cu_backend *b, const ut_weight *w, cu_form form,
                        const cu_weight **out, ut_err *err)
{
    *out = NULL;
    if (!w)
        return UTTER_OK;
    if (e->n_weights == e->cap_weights) {
        const size_t cap = e->cap_weights ? 2 * e->cap_weights : 256;
        cu_weight **grown = ut_realloc(e->weights, cap, sizeof *grown);
        if (!grown)
            return no_memory(e->head.plan, err);
        e->weights = grown;
        e->cap_weights = cap;
    }
    cu_weight *found;
    const utter_status st = cu_weight_get(b, w, form, &found, err);
    if (st == UTTER_OK)
        *out = e->weights[e->n_weights++] = found;
    return st;
}

/* The form of operand i of an op's weights. */
static cu_form form_of(const cu_exec *e, const ut_op *op, int i)
{
    switch (op->kind) {
    case UT_OP_EMBED_SUM:
    case UT_OP_GATHER:
    case UT_OP_GATHER_SUM:
        return CU_FORM_TABLE;
    case UT_OP_NEAREST:
        return op->u.nearest.euclid ? CU_FORM_F32 : CU_FORM_UNIT;
    case UT_OP_LINEAR:
        if (i > 0)
            return CU_FORM_VECTOR;
        return e->heard && e->head.plan->tensors[op->in[0]].rows_per_t > 0 ? CU_FORM_HEARD
                                                                           : CU_FORM_ROWS;
    case UT_OP_DWCONV:
        return i == 0 ? CU_FORM_TAPS : CU_FORM_VECTOR;
    default:
        return CU_FORM_VECTOR;
    }
}

/* ---- Steps ----------------------------------------------------------------------------------- */

/* What the builder could not know: capacities against the longest run, and limits of kernels. */
static utter_status check_op(const cu_exec *e, const ut_op *op, ut_err *err)
{
    const ut_plan *p = e->head.plan;
    if (!launch_fns[op->kind])
        return ut_fail(err, UTTER_ERR_UNSUPPORTED, "plan %s: operation %s is not in this backend",
                       p->name, ut_op_name(op->kind));
    if (op->kind == UT_OP_ATTENTION) {
        const int32_t rows = ut_tensor_rows(&p->tensors[op->in[0]], e->max_t);
        const int32_t capacity = p->tensors[op->in[2]].rows_fixed;
        if (op->u.attn.window > 0 && capacity < op->u.attn.window + rows - 1)
            return ut_fail(err, UTTER_ERR_ARG,
                           "plan %s: a cache of %d rows, expected at least %d for a window of %d "
                           "and runs of %d rows",
                           p->name, (int)capacity, (int)(op->u.attn.window + rows - 1),
                           (int)op->u.attn.window, (int)rows);
        if (op->u.attn.head_dim > MAX_HEAD_DIM)
            return ut_fail(err, UTTER_ERR_UNSUPPORTED,
                           "plan %s: heads of %d dimensions, at most %d", p->name,
                           (int)op->u.attn.head_dim, MAX_HEAD_DIM);
    }
    if (op->kind == UT_OP_SAMPLE && op->u.sample.penalty == UT_PENALTY_FIRST_COLUMN &&
        p->tensors[op->in[4]].cols > MAX_PENALISED)
        return ut_fail(err, UTTER_ERR_UNSUPPORTED, "plan %s: a history of %d columns, at most %d",
                       p->name, (int)p->tensors[op->in[4]].cols, MAX_PENALISED);
    return UTTER_OK;
}

static utter_status make_step(cu_exec *e, cu_backend *b, cu_step *s, const ut_op *op, ut_err *err)
{
    utter_status st = check_op(e, op, err);
    s->op = op;
    s->launch = launch_fns[op->kind];
    for (int i = 0; i < (int)(sizeof op->w / sizeof op->w[0]) && st == UTTER_OK; i++)
        st = use(e, b, op->w[i], form_of(e, op, i), &s->w[i], err);
    const char *why;
    if (st == UTTER_OK && op->kind == UT_OP_ATTENTION && b->attention == UT_ATTENTION_FLASH &&
        !cu_attention_is_fast(b, e->head.plan, op, &why))
        st = ut_fail(err, UTTER_ERR_UNSUPPORTED, "plan %s: attention flash cannot be used here: %s",
                     e->head.plan->name, why);
    return st;
}

static void place_operands(cu_exec *e)
{
    for (int32_t k = 0; k < e->n_steps; k++) {
        cu_step *s = &e->steps[k];
        for (int i = 0; i < 6; i++)
            if (s->op->in[i] != UT_NONE)
                s->in[i] = e->places[s->op->in[i]];
        for (int i = 0; i < 2; i++)
            if (s->op->out[i] != UT_NONE)
                s->out[i] = e->places[s->op->out[i]];
    }
}

/* ---- Tables ---------------------------------------------------------------------------------- */

static bool gathers(const ut_op *op)
{
    return op->kind == UT_OP_GATHER || op->kind == UT_OP_GATHER_SUM;
}

bool cu_angles_are_known(const ut_plan *p, const ut_op *op)
{
    return op->kind == UT_OP_ROPE_ANGLES && op->in[0] == UT_NONE &&
           p->tensors[op->out[0]].rows_per_t == 0 && p->tensors[op->out[0]].role == UT_TEMP;
}

/* Words of an op's table, a multiple of 4. */
static size_t table_words(const ut_plan *p, const ut_op *op)
{
    const ut_tensor *y = op->out[0] == UT_NONE ? NULL : &p->tensors[op->out[0]];
    size_t n = gathers(op) ? 2 * (size_t)op->u.gather.n_cols : 0;
    if (cu_angles_are_known(p, op))
        n = (size_t)y->rows_fixed * (size_t)y->cols;
    else if (op->kind == UT_OP_ROPE_ANGLES)
        n = (size_t)op->u.angles.dim / 2;
    return (n + 3) / 4 * 4;
}

/* 1 / base^(2i / dim), every operation rounded to f32 as upstream does it. */
static float frequency(const ut_op *op, int32_t i)
{
    const float exponent = (float)(2 * i) / (float)op->u.angles.dim;
    return 1.0f / (float)pow((double)op->u.angles.base, (double)exponent);
}

static void fill_frequencies(uint32_t *words, const ut_op *op)
{
    for (int32_t i = 0; i < op->u.angles.dim / 2; i++) {
        const float f = frequency(op, i);
        memcpy(&words[i], &f, sizeof f);
    }
}

/* [rows, dim / 2] pairs of cosine and sine, as rope_angles_pair makes them. */
static void fill_angles(uint32_t *words, int32_t rows, const ut_op *op)
{
    const int32_t half = op->u.angles.dim / 2;
    for (int32_t i = 0; i < rows * half; i++) {
        const int32_t pos = op->u.angles.first_pos + i / half;
        const double angle = (double)((float)pos * frequency(op, i % half));
        float pair[2] = {(float)cos(angle), (float)sin(angle)};
        for (int k = 0; k < 2 && op->u.angles.round_bf16; k++)
            pair[k] = ut_round_bf16(pair[k]);
        memcpy(&words[2 * i], pair, sizeof pair);
    }
}

/* For the step's readers, too. */
static void keep_angles(cu_exec *e, int32_t i, uint32_t *words)
{
    const ut_plan *p = e->head.plan;
    const ut_op *op = &p->ops[i];
    fill_angles(words, p->tensors[op->out[0]].rows_fixed, op);
    for (int32_t k = i + 1; k < p->n_ops; k++)
        if (p->ops[k].kind == UT_OP_QKV && p->ops[k].in[1] == op->out[0])
            e->steps[k].angles = e->steps[i].table;
}

static void fill_ranges(uint32_t *words, const ut_op *op)
{
    uint32_t first = 0;
    for (int32_t j = 0; j < op->u.gather.n_cols; j++) {
        words[2 * j] = first;
        words[2 * j + 1] = (uint32_t)op->u.gather.sizes[j];
        first += (uint32_t)op->u.gather.sizes[j];
    }
}

/* May runs be longer than asked for? Where the rows of a tensor are each by itself, rows past the
 * end change nothing, once three operations know the end: last rows, caches and counters. */
static bool may_run_longer(const cu_exec *e)
{
    const ut_plan *p = e->head.plan;
    bool may = e->n_slots == 1 && e->max_t > 1 && p->states;
    for (int32_t i = 0; i < p->n_tensors; i++)
        may = may && p->tensors[i].lead == 0;
    for (int32_t i = 0; i < p->n_ops; i++) {
        const ut_op *op = &p->ops[i];
        const bool per_t = op->in[0] != UT_NONE && p->tensors[op->in[0]].rows_per_t > 1;
        const ut_op_kind k = op->kind;
        may = may && !per_t && k != UT_OP_CONV_HISTORY && k != UT_OP_TRIM && k != UT_OP_REFLECT &&
              k != UT_OP_POOL && k != UT_OP_DWCONV;
    }
    return may;
}

static utter_status make_tables(cu_exec *e, cu_backend *b, ut_err *err)
{
    const ut_plan *p = e->head.plan;
    size_t n = 0;
    for (int32_t i = 0; i < p->n_ops; i++)
        n += table_words(p, &p->ops[i]);
    e->table_bytes = 4 * (n + 1);
    uint32_t *words = ut_calloc(n + 1, sizeof *words);
    if (!words)
        return no_memory(p, err);
    utter_status st = cu_alloc(b, e->table_bytes, &e->tables, err, "tables of plan %s", p->name);
    size_t at = 0;
    for (int32_t i = 0; st == UTTER_OK && i < p->n_ops; i++) {
        const ut_op *op = &p->ops[i];
        e->steps[i].table = e->tables + 4 * at;
        if (cu_angles_are_known(p, op))
            keep_angles(e, i, words + at);
        else if (op->kind == UT_OP_ROPE_ANGLES)
            fill_frequencies(words + at, op);
        else if (gathers(op))
            fill_ranges(words + at, op);
        at += table_words(p, op);
    }
    if (may_run_longer(e))
        e->n_t = e->tables + 4 * at;
    if (st == UTTER_OK)
        st = cu_upload(b, e->tables, words, e->table_bytes, err);
    ut_free(words);
    return st;
}

/* ---- Scratch --------------------------------------------------------------------------------- */

/* Memory of the parts of a linear's sums, over all lengths of a run. */
static size_t part_bytes(const cu_exec *e, const cu_backend *b, const cu_step *s)
{
    const int32_t n_out = s->op->w[0]->rows;
    int64_t rows = (int64_t)cu_rows(&s->in[0], e->max_t) * e->n_slots;
    if (s->in[0].rows_per_t == 0)
        return 0;
    const int64_t most = cu_linear_most_rows(b, n_out);
    rows = rows < most ? rows : most;
    const int32_t parts = rows > 0 ? cu_linear_parts(b, rows, n_out, s->w[0]->ld) : 1;
    return parts > 1 ? 4 * (size_t)parts * (size_t)rows * (size_t)n_out : 0;
}

static size_t work_bytes(const cu_exec *e, const cu_step *s)
{
    if (s->op->kind != UT_OP_SAMPLE || s->in[0].cols <= CU_SAMPLE_SHARED)
        return 0;
    return 8 * (size_t)CU_SAMPLE_ROW(s->in[0].cols) * (size_t)e->n_slots;
}

static void grow(size_t *bytes, size_t wanted)
{
    *bytes = wanted > *bytes ? wanted : *bytes;
}

static utter_status make_scratch(cu_exec *e, cu_backend *b, ut_err *err)
{
    for (int32_t i = 0; i < e->n_steps; i++) {
        const cu_step *s = &e->steps[i];
        const bool linear = s->op->kind == UT_OP_LINEAR;
        const cu_scratch need =
            linear ? cu_linear_mma_scratch(e, b, s) : cu_attention_scratch(e, b, s);
        grow(&e->part_bytes, need.part);
        grow(&e->part_bytes, linear ? part_bytes(e, b, s) : 0);
        grow(&e->half_bytes, need.half);
        grow(&e->arrived_bytes, need.arrived);
        grow(&e->wide_bytes, need.wide);
        grow(&e->work_bytes, work_bytes(e, s));
    }
    const char *name = e->head.plan->name;
    utter_status st = cu_alloc(b, e->part_bytes, &e->part, err, "partial sums of plan %s", name);
    if (st == UTTER_OK)
        st = cu_alloc(b, e->half_bytes, &e->half, err, "operands of plan %s", name);
    if (st == UTTER_OK && e->wide_bytes > 0)
        st = cu_alloc(b, e->wide_bytes, &e->wide, err, "a matrix of plan %s", name);
    if (st == UTTER_OK)
        st = cu_alloc(b, e->arrived_bytes, &e->arrived, err, "counters of plan %s", name);
    if (st == UTTER_OK)
        st = cu_alloc(b, e->work_bytes, &e->work, err, "the sampler of plan %s", name);
    if (st != UTTER_OK || e->arrived_bytes == 0)
        return st;
    const cu_result r = b->d.set8(e->arrived, 0, e->arrived_bytes, b->stream);
    return r == CU_OK ? UTTER_OK : cu_fail(b, r, "counters", err);
}

/* ---- All of it ------------------------------------------------------------------------------- */

static utter_status fill(cu_exec *e, cu_backend *b, ut_err *err)
{
    const ut_plan *plan = e->head.plan;
    utter_status st = UTTER_OK;
    ut_op_time *when = ut_calloc((size_t)plan->n_ops + 1, sizeof *when);
    if (!when)
        return no_memory(plan, err);
    e->heard = true;
    for (int32_t i = 0; i < plan->n_ops; i++)
        e->heard = e->heard && plan->ops[i].kind != UT_OP_SAMPLE;
    e->stepped = is_stepped(e, b);
    e->tail = find_tail(e, b);
    for (int32_t i = 0; i < plan->n_ops && st == UTTER_OK; i++)
        st = make_step(e, b, &e->steps[i], &plan->ops[i], err);
    if (st == UTTER_OK)
        st = cu_fuse(e, b, when, err);
    if (st == UTTER_OK)
        cu_narrow(e, b, when);
    /* phases run side by side what operations do one after another */
    for (int32_t i = e->tail; i < plan->n_ops; i++)
        when[i] = (ut_op_time){e->tail, plan->n_ops};
    if (st == UTTER_OK)
        st = place_tensors(e, b, when, err);
    ut_free(when);
    if (st == UTTER_OK)
        place_operands(e);
    if (st == UTTER_OK)
        st = new_host_copies(e, b, UT_INPUT, &e->inputs, &e->n_inputs, err);
    if (st == UTTER_OK)
        st = new_host_copies(e, b, UT_OUTPUT, &e->outputs, &e->n_outputs, err);
    if (st == UTTER_OK)
        st = make_tables(e, b, err);
    if (st == UTTER_OK)
        st = make_scratch(e, b, err);
    if (st == UTTER_OK)
        st = cu_frame_new(e, b, err);
    if (st != UTTER_OK)
        return st;
    cu_result r = b->d.event_new(&e->copied, CU_EVENT_NO_TIMING);
    if (r == CU_OK)
        r = b->d.event_new(&e->done, CU_EVENT_NO_TIMING);
    if (r == CU_OK)
        r = cu_sync(b, b->stream); /* uploads: other streams read what they wrote */
    return r == CU_OK ? cu_frame_choose(e, b, err) : cu_fail(b, r, "compiling a plan", err);
}

utter_status cu_compile(ut_backend *backend, const ut_plan *plan, int n_slots, int32_t max_t,
                        ut_exec **out, ut_err *err)
{
    cu_backend *b = (cu_backend *)backend;
    *out = NULL;
    if (n_slots < 1 || n_slots > CU_MAX_SLOTS || max_t < 1)
        return ut_fail(err, UTTER_ERR_ARG,
                       "plan %s: %d slots and %d steps, expected 1..%d slots and 1 or more steps",
                       plan->name, n_slots, (int)max_t, CU_MAX_SLOTS);
    utter_status st = cu_check(b, err);
    if (st != UTTER_OK)
        return st;
    cu_enter(b);
    cu_exec *e = ut_calloc(1, sizeof *e);
    if (!e)
        return no_memory(plan, err);
    e->head.backend = backend;
    e->head.plan = plan;
    e->n_slots = n_slots;
    e->max_t = max_t;
    e->n_steps = plan->n_ops;
    e->steps = ut_calloc((size_t)plan->n_ops + 1, sizeof *e->steps);
    e->places = ut_calloc((size_t)plan->n_tensors + 1, sizeof *e->places);
    e->kept = ut_calloc((size_t)plan->n_tensors + 1, sizeof *e->kept);
    st = e->steps && e->places && e->kept ? fill(e, b, err) : no_memory(plan, err);
    if (st != UTTER_OK) {
        cu_exec_free(&e->head);
        return st;
    }
    *out = &e->head;
    return UTTER_OK;
}

size_t cu_exec_bytes(const ut_exec *exec)
{
    const cu_exec *e = (const cu_exec *)exec;
    return e->arena_bytes + e->table_bytes + e->part_bytes + e->work_bytes + e->half_bytes +
           e->arrived_bytes + e->wide_bytes + e->side_bytes;
}

void cu_exec_free(ut_exec *exec)
{
    if (!exec)
        return;
    cu_exec *e = (cu_exec *)exec;
    cu_backend *b = (cu_backend *)exec->backend;
    cu_enter(b);
    if (e->done && e->stream)
        cu_wait(b, e->done, "closing a plan", NULL);
    cu_exec_forget(e);
    cu_frame_free(b, e->frame);
    if (e->copied)
        b->d.event_free(e->copied);
    if (e->done)
        b->d.event_free(e->done);
    for (size_t i = 0; i < e->n_weights; i++)
        cu_weight_release(b, e->weights[i]);
    for (int i = 0; i < e->n_inputs; i++)
        cu_free_host(b, e->inputs[i].data);
    for (int i = 0; i < e->n_outputs; i++)
        cu_free_host(b, e->outputs[i].data);
    cu_arena_release(e);
    if (b->last == e)
        b->last = NULL;
    cu_free(b, e->tables);
    cu_free(b, e->part);
    cu_free(b, e->work);
    cu_free(b, e->half);
    cu_free(b, e->arrived);
    cu_free(b, e->wide);
    cu_free(b, e->side);
    ut_free(e->inputs);
    ut_free(e->outputs);
    ut_free(e->weights);
    ut_free(e->places);
    ut_free(e->kept);
    ut_free(e->steps);
    ut_free(e);
}
