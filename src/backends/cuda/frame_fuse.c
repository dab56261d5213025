/* frame_fuse.c - from operations to phases: a norm goes into the products that read it, a swiglu
 * into the product before it, rotation and caches into attention; what concerns a slot by itself
 * waits until something needs it. */
#include "backends/cuda/frame_fuse.h"
#include "base/alloc.h"
#include <string.h>

/* ---- Who reads and writes what --------------------------------------------------------------- */

/* Rows of t that a copy or look-up writes: from *first on, up to *end; of others all. */
static void rows_written(const fuser *x, const ut_op *op, ut_tid t, int32_t *first, int32_t *end)
{
    const bool copies = op->kind == UT_OP_COPY_ROWS && op->u.copy_rows.n_rows > 0;
    *first = 0;
    *end = INT32_MAX;
    if (op->out[0] != t || !(copies || op->kind == UT_OP_GATHER))
        return;
    const ut_tensor *from = &x->p->tensors[op->in[0]];
    if (from->rows_per_t != 0)
        return;
    *first = copies ? op->u.copy_rows.dst_row : op->u.gather.dst_row;
    *end = *first + (copies ? op->u.copy_rows.n_rows : from->rows_fixed);
}

/* Do both write t, but different rows of it? */
static bool write_apart(const fuser *x, const ut_op *a, const ut_op *b, ut_tid t)
{
    int32_t first_a, end_a, first_b, end_b;
    if (reads(x, a, t) || reads(x, b, t))
        return false;
    rows_written(x, a, t, &first_a, &end_a);
    rows_written(x, b, t, &first_b, &end_b);
    return end_a <= first_b || end_b <= first_a;
}

/* May b not stand before a? */
static bool ordered(const fuser *x, const ut_op *a, const ut_op *b)
{
    for (ut_tid t = 0; t < x->p->n_tensors; t++) {
        if (x->p->tensors[t].role == UT_VIEW)
            continue;
        const bool wa = writes(x, a, t), wb = writes(x, b, t);
        if (((wa && (wb || reads(x, b, t))) || (wb && reads(x, a, t))) &&
            !(wa && wb && write_apart(x, a, b, t)))
            return true;
    }
    return false;
}

/* The operations that read tensor t: how many, and the last. */
static int32_t readers(const fuser *x, ut_tid t, int32_t *last)
{
    int32_t n = 0;
    for (int32_t i = 0; i < x->p->n_ops; i++)
        if (reads(x, &x->p->ops[i], root(x, t))) {
            n++;
            *last = i;
        }
    return n;
}

/* By an operation of the frame that stands before number i. */
static bool written_before(const fuser *x, ut_tid t, int32_t i)
{
    return written_between(x, t, x->e->tail - 1, i);
}

/* ---- What the kernel can do ------------------------------------------------------------------ */

static int64_t rows_of(const fuser *x, ut_tid t)
{
    return (int64_t)x->p->tensors[t].rows_fixed * x->e->n_slots;
}

static bool linear_fits(const fuser *x, int32_t i)
{
    const ut_op *op = &x->p->ops[i];
    return op->u.linear.taps == 1 && x->p->tensors[op->in[0]].cols % 4 == 0 &&
           rows_of(x, op->in[0]) <= CU_FRAME_ROWS && x->e->steps[i].w[0]->type <= CU_F16;
}

static bool attention_fits(const fuser *x, const ut_op *op)
{
    const int32_t dim = op->u.attn.head_dim, group = op->u.attn.n_heads / op->u.attn.n_kv_heads;
    return dim >= 16 && dim <= CU_ATT_DIM && (dim & (dim - 1)) == 0 &&
           x->p->tensors[op->in[0]].rows_fixed * group <= CU_ATT_QUERIES;
}

/* Do all readers of a norm's result take it along? */
static bool norm_goes_along(const fuser *x, int32_t i, bool *others)
{
    const ut_op *op = &x->p->ops[i];
    bool any = false;
    *others = !is_temp(x, op->out[0]);
    for (int32_t k = i + 1; k < x->p->n_ops; k++) {
        const ut_op *reader = &x->p->ops[k];
        if (!reads(x, reader, root(x, op->out[0])))
            continue;
        const bool along = reader->kind == UT_OP_LINEAR && linear_fits(x, k) &&
                           reader->in[0] == op->out[0] && reader->in[1] != op->out[0] &&
                           !written_between(x, op->in[0], i, k);
        any = any || along;
        *others = *others || !along;
    }
    return any;
}

/* ---- Phases ---------------------------------------------------------------------------------- */

static void most(int32_t *value, int64_t v)
{
    if (v > *value)
        *value = (int32_t)v;
}

static cu_fused *new_phase(fuser *x, cu_phase_kind kind)
{
    cu_fused *f = &x->f->phases[x->f->n_phases++];
    *f = (cu_fused){
        .kind = kind, .norm = -1, .linear = -1, .swiglu = -1, .qkv = -1, .attention = -1};
    return f;
}

/* About how long a slot's block has to do with it. */
static int weight_of(const ut_op *op)
{
    switch (op->kind) {
    case UT_OP_EMBED_SUM:
    case UT_OP_GATHER_SUM:
        return 4;
    case UT_OP_GATHER:
    case UT_OP_ROPE_ANGLES:
    case UT_OP_RMS_NORM:
        return 2;
    default:
        return 1;
    }
}

static void join(int32_t *group, int32_t n, int32_t a, int32_t b)
{
    for (int32_t i = 0; i < n; i++)
        if (group[i] == a || group[i] == b)
            group[i] = a < b ? a : b;
}

/* Of a phase of slots, which operations another block does: groups that neither read nor write what
 * other groups write or read, so that both have about as much to do. */
static void share_slot_ops(fuser *x, const cu_fused *f)
{
    enum { MOST = 16 };
    const int32_t *number = x->f->slot_ops + f->first;
    bool *apart = x->f->apart + f->first, decides = false;
    int32_t group[MOST]; /* the first operation of its group */
    int load[2] = {0, 0};
    memset(apart, 0, (size_t)f->count * sizeof *apart);
    if (f->count > MOST)
        return;
    for (int32_t i = 0; i < f->count; i++) {
        const ut_op *op = &x->p->ops[number[i]];
        decides = decides || op->kind == UT_OP_SAMPLE;
        group[i] = i;
        for (int32_t k = 0; k < i; k++)
            if (ordered(x, &x->p->ops[number[k]], op))
                join(group, i + 1, group[k], group[i]);
    }
    for (int32_t i = 0; i < f->count; i++) {
        int weight = 0;
        bool decision = false;
        for (int32_t k = i; k < f->count; k++)
            if (group[k] == i) {
                weight += weight_of(&x->p->ops[number[k]]);
                decision = decision || x->p->ops[number[k]].kind == UT_OP_SAMPLE;
            }
        const int block = decides ? !decision : load[1] < load[0];
        for (int32_t k = i; k < f->count; k++)
            if (group[k] == i)
                apart[k] = block == 1;
        load[block] += group[i] == i ? weight : 0;
    }
}

static void end_waiting(fuser *x)
{
    if (x->n_waiting == 0)
        return;
    cu_fused *f = new_phase(x, CU_PHASE_SLOTS);
    f->first = x->f->n_slot_ops - x->n_waiting;
    f->count = x->n_waiting;
    share_slot_ops(x, f);
    x->n_waiting = 0;
}

/* Those that wait must come before op, or not; `but`: of them, one whose result op does not take.
 */
static void go_before(fuser *x, const ut_op *op, int32_t but)
{
    for (int32_t i = 0; i < x->n_waiting; i++) {
        const int32_t waiting = x->f->slot_ops[x->f->n_slot_ops - x->n_waiting + i];
        if (waiting != but && ordered(x, &x->p->ops[waiting], op)) {
            end_waiting(x);
            return;
        }
    }
}

static bool add_linear(fuser *x, int32_t i)
{
    const ut_op *op = &x->p->ops[i];
    const cu_weight *w = x->e->steps[i].w[0];
    int32_t reader = -1;
    if (!linear_fits(x, i))
        return false;
    const int32_t norm = x->norm_of[op->in[0]];
    const bool plain = !op->w[1] && !op->w[2] && op->u.linear.act == UT_ACT_NONE &&
                       op->in[1] == UT_NONE && is_temp(x, op->out[0]);
    const bool swiglu = plain && readers(x, op->out[0], &reader) == 1 &&
                        x->p->ops[reader].kind == UT_OP_SWIGLU &&
                        x->p->ops[reader].in[0] == op->out[0];
    go_before(x, op, norm);
    if (norm >= 0)
        go_before(x, &x->p->ops[norm], norm);
    if (swiglu)
        go_before(x, &x->p->ops[reader], -1);
    cu_fused *f = new_phase(x, CU_PHASE_LINEAR);
    f->linear = i;
    f->norm = norm;
    if (swiglu) {
        f->swiglu = reader;
        x->taken[reader] = true;
    }
    const int64_t columns = (w->ld + CU_UNIT - 1) / CU_UNIT * CU_UNIT, rows = rows_of(x, op->in[0]);
    const int64_t outputs = w->w->rows / (swiglu ? 2 : 1);
    const int64_t each = (outputs + x->f->blocks - 1) / x->f->blocks;
    most(&x->f->x, rows * CU_FRAME_X(columns));
    most(&x->f->sums, rows * each * (swiglu ? 2 : 1) * (CU_THREADS / 32));
    x->f->bf16 = x->f->bf16 && cu_frame_fetches(x->e, w);
    most(&x->f->row_bytes, (int64_t)w->ld * 2);
    if (norm >= 0)
        most(&x->f->gains, columns);
    return true;
}

/* Are its positions known before, and so few that frame_brief.cuh does it? */
static bool goes_by_brief(const fuser *x, const ut_op *op, int32_t capacity)
{
    const int32_t dim = op->u.attn.head_dim, rows = x->p->tensors[op->in[0]].rows_fixed;
    const int32_t end = op->u.attn.first_pos + rows;
    return op->in[4] == UT_NONE && end <= capacity && end <= CU_ATT_BRIEF &&
           rows <= CU_ATT_BRIEF_ROWS && (dim == 64 || dim == 128) &&
           (x->f->brief == 0 || x->f->brief == dim);
}

/* Can frame_spans.cuh do it? A span's rows lie together in the caches, and where they are is known
 * before the frame begins. */
static bool spans_fit(const fuser *x, const ut_op *op, int32_t i, int32_t capacity)
{
    const cu_backend *b = (const cu_backend *)x->e->head.backend;
    const int32_t end = op->u.attn.first_pos + x->p->tensors[op->in[0]].rows_fixed;
    const bool fixed = op->in[4] == UT_NONE;
    return b->d.tensor_map && op->u.attn.head_dim == CU_ATT_DIM &&
           (fixed ? end <= capacity
                  : capacity % CU_ATT_SPAN == 0 && !written_before(x, op->in[4], i));
}

static bool add_attention(fuser *x, int32_t i)
{
    const ut_op *op = &x->p->ops[i];
    int32_t reader = -1;
    if (!is_temp(x, op->out[0]) || readers(x, op->out[0], &reader) != 1)
        return false;
    const ut_op *attention = &x->p->ops[reader];
    if (attention->kind != UT_OP_ATTENTION || attention->in[0] != op->out[0] ||
        attention->in[2] != op->in[2] || attention->in[3] != op->in[3] ||
        attention->in[4] != op->in[4] || !attention_fits(x, op))
        return false;
    for (int k = 2; k < 5; k++)
        if (op->in[k] != UT_NONE && written_between(x, op->in[k], i, reader))
            return false;
    go_before(x, op, -1);
    go_before(x, attention, -1);
    cu_fused *f = new_phase(x, CU_PHASE_ATTENTION);
    f->qkv = i;
    f->attention = reader;
    x->taken[reader] = true;
    const int32_t dim = op->u.attn.head_dim, rows = x->p->tensors[op->in[0]].rows_fixed;
    const int32_t queries = rows * (op->u.attn.n_heads / op->u.attn.n_kv_heads);
    const int32_t capacity = x->e->places[op->in[2]].rows_fixed;
    const int64_t spans = CU_ATT_SPANS(capacity, rows);
    const int64_t part_slot = op->u.attn.n_kv_heads * spans * queries * (2 + dim);
    if (part_slot > x->f->part_slot)
        x->f->part_slot = part_slot;
    x->f->part_bytes = sizeof(cu_part) * (size_t)x->f->part_slot * (size_t)x->e->n_slots;
    most(&x->plain_x, CU_ATT_SHARED(queries, rows, dim));
    f->brief = goes_by_brief(x, op, capacity);
    f->added = written_before(x, op->in[2], i) || written_before(x, op->in[3], i);
    most(&x->f->x, f->brief ? CU_ATT_BRIEF_SHARED(dim) : CU_ATT_SPAN_SHARED(dim));
    if (f->brief)
        x->f->brief = dim;
    else
        most(&x->f->piece_bytes, CU_ATT_PIECE(dim));
    x->f->n_spans += !f->brief;
    x->f->bf16 = x->f->bf16 && (f->brief || spans_fit(x, op, i, capacity)) &&
                 cu_place_type(&x->e->places[op->in[2]]) == CU_BF16;
    return true;
}

bool cu_is_slot_op(const ut_op *op)
{
    switch (op->kind) {
    case UT_OP_EMBED_SUM:
    case UT_OP_GATHER:
    case UT_OP_GATHER_SUM:
    case UT_OP_COPY_ROWS:
    case UT_OP_RMS_NORM:
    case UT_OP_ROPE_ANGLES:
    case UT_OP_SAMPLE:
    case UT_OP_TOKEN_CODE:
    case UT_OP_RING_PUT:
    case UT_OP_RING_GET:
    case UT_OP_ADVANCE:
        return true;
    default:
        return false;
    }
}

/* Has op nothing to do with phase f? */
static bool is_free_of(const fuser *x, const ut_op *op, const cu_fused *f)
{
    const int32_t numbers[] = {f->norm, f->linear, f->swiglu, f->qkv, f->attention};
    for (size_t k = 0; k < sizeof numbers / sizeof numbers[0]; k++)
        if (numbers[k] >= 0 && ordered(x, &x->p->ops[numbers[k]], op))
            return false;
    return true;
}

/* Angles need a position only: they join the last phase of slots, past products that have nothing
 * to do with them. */
static bool join_last(fuser *x, int32_t i)
{
    int32_t last = x->f->n_phases - 1;
    while (last >= 0 && x->f->phases[last].kind != CU_PHASE_SLOTS) {
        if (!is_free_of(x, &x->p->ops[i], &x->f->phases[last]))
            return false;
        last--;
    }
    if (last < 0 || x->n_waiting > 0 || x->f->phases[last].count == CU_OPS_AHEAD)
        return false;
    x->f->slot_ops[x->f->n_slot_ops++] = i;
    x->f->phases[last].count++;
    share_slot_ops(x, &x->f->phases[last]);
    return true;
}

static bool add_slot_op(fuser *x, int32_t i)
{
    const ut_op *op = &x->p->ops[i];
    if (!cu_is_slot_op(op))
        return false;
    if (op->kind == UT_OP_ROPE_ANGLES && join_last(x, i))
        return true;
    if (op->kind == UT_OP_SAMPLE) {
        const int64_t n = x->p->tensors[op->in[0]].cols;
        most(&x->f->x,
             (CU_SAMPLE_FIXED + (n <= CU_SAMPLE_SHARED ? 8 * CU_SAMPLE_ROW(n) : 0)) / 4 + 4);
    }
    x->f->slot_ops[x->f->n_slot_ops++] = i;
    x->n_waiting++;
    return true;
}

/* Does a phase so far make t, and nothing else? */
static bool is_made(const fuser *x, ut_tid t)
{
    for (int32_t i = 0; i < x->f->n_phases; i++) {
        const cu_fused *f = &x->f->phases[i];
        const int32_t maker = f->swiglu >= 0 ? f->swiglu : f->linear;
        if (f->kind == CU_PHASE_LINEAR && x->p->ops[maker].out[0] == t)
            return !written_between(x, t, maker, x->p->n_ops);
    }
    return false;
}

/* Is it a copy of a row that is mail, for norms that go along with products only? Those take the
 * row where it is. */
static bool leave_row(fuser *x, int32_t i)
{
    const ut_op *op = &x->p->ops[i];
    const ut_tid from = op->in[0], to = op->out[0];
    bool others = false, any = false;
    if (op->u.copy_rows.src_row != -1 || op->u.copy_rows.n_rows > 1 || x->e->n_slots > 1 ||
        !is_temp(x, from) || !is_temp(x, to) || x->p->tensors[to].rows_fixed != 1 ||
        x->p->tensors[to].cols % 4 != 0 || !is_made(x, from) || written_between(x, to, -1, i) ||
        written_between(x, to, i, x->p->n_ops))
        return false;
    for (int32_t k = 0; k < x->p->n_ops; k++)
        if (reads(x, &x->p->ops[k], to)) {
            any = true;
            if (x->p->ops[k].kind != UT_OP_RMS_NORM || !norm_goes_along(x, k, &others) || others)
                return false;
        }
    x->source[to] = any ? from : UT_NONE;
    return any;
}

static bool add(fuser *x, int32_t i)
{
    const ut_op *op = &x->p->ops[i];
    bool others;
    if (x->taken[i] || cu_angles_are_known(x->p, op))
        return true;
    switch (op->kind) {
    case UT_OP_LINEAR:
        return add_linear(x, i);
    case UT_OP_QKV:
        return add_attention(x, i);
    case UT_OP_COPY_ROWS:
        return leave_row(x, i) || add_slot_op(x, i);
    case UT_OP_RMS_NORM:
        if (x->p->tensors[op->in[0]].cols % 4 == 0 && norm_goes_along(x, i, &others)) {
            x->norm_of[op->out[0]] = i;
            return others ? add_slot_op(x, i) : true;
        }
        return add_slot_op(x, i);
    default:
        return add_slot_op(x, i);
    }
}

utter_status cu_frame_fuse(const cu_exec *e, cu_frame **out, ut_err *err)
{
    const ut_plan *p = e->head.plan;
    const cu_backend *b = (const cu_backend *)e->head.backend;
    *out = NULL;
    if (e->tail == p->n_ops)
        return UTTER_OK;
    fuser x = {.e = e, .p = p};
    x.f = ut_calloc(1, sizeof *x.f);
    x.norm_of = ut_calloc((size_t)p->n_tensors + 1, sizeof *x.norm_of);
    x.taken = ut_calloc((size_t)p->n_ops + 1, sizeof *x.taken);
    x.source = ut_calloc((size_t)p->n_tensors + 1, sizeof *x.source);
    x.after = ut_calloc((size_t)p->n_tensors + 1, sizeof *x.after);
    if (x.f) {
        x.f->blocks = CU_FRAME_SHARERS(b->sm_count);
        x.f->bf16 = true;
        x.f->phases = ut_calloc(2 * (size_t)p->n_ops + 1, sizeof *x.f->phases);
        x.f->slot_ops = ut_calloc((size_t)p->n_ops + 1, sizeof *x.f->slot_ops);
        x.f->apart = ut_calloc((size_t)p->n_ops + 1, sizeof *x.f->apart);
        x.f->mail = ut_calloc((size_t)p->n_tensors + 1, sizeof *x.f->mail);
    }
    bool ok = x.f && x.norm_of && x.taken && x.after && x.source && x.f->phases && x.f->slot_ops &&
              x.f->apart && x.f->mail;
    utter_status st =
        ok ? UTTER_OK : ut_fail(err, UTTER_ERR_NOMEM, "plan %s: no memory to compile it", p->name);
    for (ut_tid t = 0; ok && t < p->n_tensors; t++)
        x.norm_of[t] = -1, x.source[t] = UT_NONE;
    for (int32_t i = e->tail; ok && i < p->n_ops; i++)
        ok = add(&x, i);
    if (ok) {
        end_waiting(&x);
        cu_arrange_mail(&x);
        if (!x.f->bf16)
            most(&x.f->x, x.plain_x);
        x.f->x = (x.f->x + 3) / 4 * 4; /* what lies behind it is aligned */
        x.f->mail_places = e->n_slots == 1 ? CU_MAIL_PLACES : 1;
    }
    ut_free(x.norm_of);
    ut_free(x.taken);
    ut_free(x.after);
    ut_free(x.source);
    if (ok)
        *out = x.f;
    else
        cu_frame_free((cu_backend *)e->head.backend, x.f);
    return st;
}
