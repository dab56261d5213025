/* frame.c - running a frame as phases: the tables that the kernel walks, and its launches, either
 * one for the whole frame or a captured graph of one per phase. Which of the two is faster is a
 * matter of the device, so both are timed when a plan is compiled. */
#include "backends/cuda/frame.h"
#include "base/alloc.h"
#include <math.h>
#include <string.h>

/* ---- Room ------------------------------------------------------------------------------------ */

static size_t shared_bytes(const cu_frame *f, int32_t ring)
{
    return CU_FRAME_SHARED(ring, f->sums, f->x, f->gains);
}

/* Copies that arrive by themselves, and tensor cores; a warp has whole steps of 16 columns. */
bool cu_frame_fetches(const cu_exec *e, const cu_weight *w)
{
    const cu_backend *b = (const cu_backend *)e->head.backend;
    return b->hopper && w->type == CU_BF16 && w->ld % CU_SLICES == 0 && w->ld == w->w->cols;
}

/* Bytes of matrices that a block can fetch ahead in so much shared memory. */
static int32_t ring_in(const cu_frame *f, size_t room)
{
    const size_t fixed = shared_bytes(f, 0);
    return fixed < room ? (int32_t)((room - fixed) / 128 * 128) : 0;
}

/* Rows of a chunk: so many that a few chunks are in the ring at any time. */
static int16_t chunk_rows(int32_t ring, int32_t row_bytes)
{
    int16_t rows = CU_CHUNK;
    while (rows > CU_CHUNK_LEAST && 3 * rows * row_bytes > ring)
        rows /= 2;
    return rows;
}

/* Half of a multiprocessor, so that the next phase can fetch while this one works. */
static size_t half_of(const cu_backend *b)
{
    enum { RESERVED = 1024 }; /* by the system, per block */
    return b->shared_limit / 2 - RESERVED;
}

utter_status cu_frame_new(cu_exec *e, cu_backend *b, ut_err *err)
{
    cu_frame *f;
    if (b->attention == UT_ATTENTION_MATH)
        return UTTER_OK; /* phases have an attention of their own */
    utter_status st = cu_frame_fuse(e, &f, err);
    if (st != UTTER_OK || !f)
        return st;
    if (shared_bytes(f, 0) > b->shared_limit) {
        cu_frame_free(b, f);
        return UTTER_OK;
    }
    if (f->bf16) {
        f->ring_whole = ring_in(f, b->shared_limit);
        f->ring_phase = ring_in(f, half_of(b));
        /* a chunk; among others also what is left out at the end: a row's place, or a piece's */
        if (f->ring_phase < CU_CHUNK_LEAST * f->row_bytes ||
            f->ring_phase < 2 * f->piece_bytes + CU_PIECE_ALIGN ||
            f->ring_whole < (CU_CHUNK_LEAST + 1) * f->row_bytes) { /* then it goes in steps */
            cu_frame_free(b, f);
            return UTTER_OK;
        }
    }
    f->bytes = 256 + (size_t)f->mail_places * f->mail_bytes + f->part_bytes;
    st = cu_alloc(b, f->bytes, &f->memory, err, "the frame of plan %s", e->head.plan->name);
    if (st == UTTER_OK) {
        const cu_result r = b->d.set8(f->memory, 0, f->bytes, b->stream);
        st = r == CU_OK ? UTTER_OK : cu_fail(b, r, "compiling a frame", err);
    }
    if (st != UTTER_OK) {
        cu_frame_free(b, f);
        return st;
    }
    e->frame = f;
    return UTTER_OK;
}

void cu_frame_free(cu_backend *b, cu_frame *f)
{
    if (!f)
        return;
    cu_free(b, f->memory);
    ut_free(f->mail);
    ut_free(f->phases);
    ut_free(f->slot_ops);
    ut_free(f->apart);
    ut_free(f);
}

/* ---- Tables ---------------------------------------------------------------------------------- */

typedef struct tables {
    cu_tensor_map *maps; /* [n_spans, 2] */
    cu_frame_phase *phases;
    cu_slot_op *ops;
    uint8_t *memory; /* all of them, as on the device; from a multiple of MAP_ALIGN on */
    void *allocated;
    size_t bytes, phases_at, ops_at;
} tables;

enum { MAP_ALIGN = 64 };

static bool new_tables(tables *t, const cu_frame *f)
{
    t->phases_at = (size_t)f->n_spans * 2 * sizeof *t->maps;
    t->ops_at = t->phases_at + (size_t)f->n_phases * sizeof *t->phases;
    t->bytes = t->ops_at + (size_t)f->n_slot_ops * sizeof *t->ops;
    t->allocated = ut_calloc(1, t->bytes + MAP_ALIGN);
    if (!t->allocated)
        return false;
    t->memory = (uint8_t *)t->allocated + (MAP_ALIGN - (uintptr_t)t->allocated % MAP_ALIGN);
    t->maps = (cu_tensor_map *)(void *)t->memory;
    t->phases = (cu_frame_phase *)(void *)(t->memory + t->phases_at);
    t->ops = (cu_slot_op *)(void *)(t->memory + t->ops_at);
    return true;
}

_Static_assert(sizeof(cu_frame_phase) % 16 == 0 && sizeof(cu_frame_phase) <= 32 * 16 &&
                   sizeof(cu_slot_op) % 16 == 0,
               "the kernel reads tables 16 bytes at a time, a phase by a warp");
_Static_assert(sizeof(cu_qkv_args) <= sizeof(cu_slot_op), "a record holds what is taken from it");

static void arguments_of(cu_run *r, int32_t op, void *args, size_t size)
{
    cu_arguments_of(r, &r->e->steps[op], args, size);
}

/* Where tensor t's mail is on the device, or 0. */
static cu_ptr mail_of(const cu_run *r, ut_tid t)
{
    const cu_frame *f = r->e->frame;
    if (t == UT_NONE || f->mail[t] == SIZE_MAX)
        return 0;
    return f->memory + 256 + f->mail[t];
}

static cu_product_form form_of(const cu_frame_linear *l)
{
    const bool added = l->residual || l->residual_mail;
    if (l->slots != 1 || l->more || (l->gain && added))
        return CU_PRODUCT_ANY;
    if (l->gain)
        return l->load.matrices == 2 ? CU_PRODUCT_GATED : CU_PRODUCT_NORMED;
    return l->load.matrices == 1 && added ? CU_PRODUCT_ADDED : CU_PRODUCT_ANY;
}

static void fill_linear(cu_run *r, const cu_fused *f, cu_frame_linear *out)
{
    const cu_step *s = &r->e->steps[f->linear];
    const cu_frame *frame = r->e->frame;
    const cu_linear_args a = cu_linear_of(r, s);
    const ut_op *ops = r->e->head.plan->ops;
    const int32_t ring = r->e->frames == CU_FRAMES_PHASES ? frame->ring_phase : frame->ring_whole;
    const bool swiglu = f->swiglu >= 0;
    *out =
        (cu_frame_linear){.load = {.w = a.w,
                                   .outputs = swiglu ? a.n_out / 2 : a.n_out,
                                   .matrices = swiglu ? 2 : 1,
                                   .ld = a.ldw,
                                   .chunk = frame->bf16 ? chunk_rows(ring, a.ldw * 2) : CU_CHUNK},
                          .x = a.x,
                          .x_slot = a.x_slot,
                          .bias = a.bias,
                          .gamma = a.gamma,
                          .alpha = a.alpha,
                          .beta = a.beta,
                          .residual = a.residual,
                          .residual_slot = a.residual_slot,
                          .y = a.y,
                          .y_slot = a.y_slot,
                          .k = a.k,
                          .rows = a.rows,
                          .slots = a.slots,
                          .act = a.act,
                          .more = a.bias || a.act || a.gamma,
                          .type = s->w[0]->type};
    if (f->norm >= 0) {
        cu_norm_args norm;
        arguments_of(r, f->norm, &norm, sizeof norm);
        out->x = norm.x;
        out->x_slot = norm.x_slot;
        out->gain = norm.gain;
        out->eps = norm.eps;
        out->inverse_k = 1.0f / (float)out->k;
    }
    if (swiglu) {
        cu_map_args map;
        arguments_of(r, f->swiglu, &map, sizeof map);
        out->y = map.y;
        out->y_slot = map.y_slot;
    }
    if (f->mail_only)
        out->y = 0;
    out->x_mail = mail_of(r, ops[f->norm >= 0 ? f->norm : f->linear].in[0]);
    out->residual_mail = mail_of(r, ops[f->linear].in[1]);
    out->y_mail = mail_of(r, ops[swiglu ? f->swiglu : f->linear].out[0]);
    out->form = form_of(out);
}

static void fill_attention(cu_run *r, const cu_fused *f, cu_frame_attention *out)
{
    const cu_step *s = &r->e->steps[f->attention];
    const cu_frame *frame = r->e->frame;
    const cu_view y = cu_view_of(r, &s->out[0]);
    const int32_t window = s->op->u.attn.window;
    arguments_of(r, f->qkv, &out->qkv, sizeof out->qkv);
    const int32_t capacity = out->qkv.capacity;
    out->reach = window && window < capacity ? window : capacity;
    out->scale = 1.0f / sqrtf((float)out->qkv.dim);
    out->group = out->qkv.heads / out->qkv.kv_heads;
    out->x_mail = mail_of(r, r->e->steps[f->qkv].op->in[0]);
    out->y_mail = mail_of(r, s->op->out[0]);
    out->qkv.y = f->mail_only ? 0 : y.p;
    out->qkv.y_slot = y.slot;
    out->part = frame->memory + frame->bytes - frame->part_bytes;
    out->part_slot = frame->part_slot;
    out->spans = CU_ATT_SPANS(out->reach, out->qkv.rows);
    out->brief = f->brief;
    out->added = f->added;
}

/* Boxes of a cache [slots, capacity, kv_heads, 2 halves of a head]: of a head all of it, of
 * CU_ATT_SPAN rows. */
static cu_result map_cache(const cu_driver *d, const cu_qkv_args *a, cu_ptr cache,
                           cu_tensor_map *map)
{
    enum { HALF = CU_ATT_DIM / 2, SIZE = 2 };
    const uint64_t row = (uint64_t)a->kv_heads * CU_ATT_DIM * SIZE, slots = (uint64_t)a->slots;
    const uint64_t slot = slots > 1 ? (uint64_t)a->cache_slot * SIZE : row * (uint64_t)a->capacity;
    const uint64_t dims[] = {HALF, 2 * (uint64_t)a->kv_heads, (uint64_t)a->capacity, slots};
    const uint64_t strides[] = {HALF * SIZE, row, slot};
    const uint32_t box[] = {HALF, 2, CU_ATT_SPAN, 1}, steps[] = {1, 1, 1, 1};
    return d->tensor_map(map, CU_TENSOR_BF16, 4, cache, dims, strides, box, steps, 0,
                         CU_TENSOR_SWIZZLE_128, CU_TENSOR_PROMOTE_256, 0);
}

/* For attention phases whose rows of the caches come ahead; on_device: where t->maps will be. */
static utter_status map_caches(cu_run *r, tables *t, cu_ptr on_device, ut_err *err)
{
    const cu_frame *f = r->e->frame;
    const cu_driver *d = &r->b->d;
    cu_frame_attention *before = NULL;
    cu_result result = CU_OK;
    int32_t n = 0;
    for (int32_t i = 0; f->bf16 && i < f->n_phases && result == CU_OK; i++) {
        cu_frame_attention *a = &t->phases[i].u.attention;
        if (t->phases[i].kind != CU_PHASE_ATTENTION || a->brief)
            continue;
        a->maps = on_device + (cu_ptr)(2 * n) * sizeof *t->maps;
        if (before)
            before->next_maps = a->maps;
        before = a;
        result = map_cache(d, &a->qkv, a->qkv.cache_k, &t->maps[2 * n]);
        if (result == CU_OK)
            result = map_cache(d, &a->qkv, a->qkv.cache_v, &t->maps[2 * n + 1]);
        n++;
    }
    return result == CU_OK ? UTTER_OK : cu_fail(r->b, result, "preparing a frame", err);
}

/* Attention phases know each other: what they leave for one another differs by number, and each
 * brings the caches of the next nearer, where those have the same positions. */
static void number_attention(const cu_frame *f, cu_frame_phase *phases)
{
    cu_frame_attention *before = NULL;
    int32_t n = 0;
    for (int32_t i = 0; i < f->n_phases; i++)
        n += phases[i].kind == CU_PHASE_ATTENTION;
    for (int32_t i = 0, number = 0; i < f->n_phases; i++) {
        if (phases[i].kind != CU_PHASE_ATTENTION)
            continue;
        cu_frame_attention *a = &phases[i].u.attention;
        a->number = number++;
        a->numbers = n;
        if (before && a->qkv.pos && a->qkv.pos == before->qkv.pos &&
            a->qkv.capacity == before->qkv.capacity && a->qkv.dim == before->qkv.dim &&
            a->qkv.kv_heads == before->qkv.kv_heads &&
            a->qkv.cache_type == before->qkv.cache_type &&
            a->qkv.cache_slot == before->qkv.cache_slot) {
            before->next_k = a->qkv.cache_k;
            before->next_v = a->qkv.cache_v;
        }
        before = a;
    }
}

/* mail_only: of what it looks up. */
static void fill_slot_op(cu_run *r, int32_t op, bool mail_only, cu_slot_op *out)
{
    static const int32_t kinds[UT_OP_COUNT] = {
        [UT_OP_EMBED_SUM] = CU_SLOT_EMBED_SUM,   [UT_OP_GATHER] = CU_SLOT_GATHER,
        [UT_OP_GATHER_SUM] = CU_SLOT_GATHER_SUM, [UT_OP_COPY_ROWS] = CU_SLOT_COPY,
        [UT_OP_RMS_NORM] = CU_SLOT_NORM,         [UT_OP_ROPE_ANGLES] = CU_SLOT_ANGLES,
        [UT_OP_TOKEN_CODE] = CU_SLOT_TOKEN_CODE, [UT_OP_RING_PUT] = CU_SLOT_RING_PUT,
        [UT_OP_RING_GET] = CU_SLOT_RING_GET,     [UT_OP_ADVANCE] = CU_SLOT_ADVANCE,
        [UT_OP_SAMPLE] = CU_SLOT_SAMPLE};
    const ut_op *o = r->e->steps[op].op;
    out->kind = kinds[o->kind];
    arguments_of(r, op, &out->u, sizeof out->u);
    if (o->kind == UT_OP_SAMPLE && r->e->n_slots == 1)
        out->mail = mail_of(r, o->in[0]);
    if (o->kind == UT_OP_GATHER)
        out->mail = mail_of(r, o->out[0]);
    if (o->kind == UT_OP_GATHER && out->mail && mail_only)
        out->u.gather.y = 0;
}

static void fill_slots(cu_run *r, const cu_fused *from, cu_frame_phase *to, cu_slot_op *ops)
{
    const cu_frame *f = r->e->frame;
    to->u.slots = (cu_frame_slots){.first = from->first, .count = from->count};
    for (int32_t i = 0; i < from->count; i++) {
        fill_slot_op(r, f->slot_ops[from->first + i], from->mail_only, &ops[i]);
        ops[i].apart = f->apart[from->first + i];
        to->u.slots.apart |= ops[i].apart;
    }
}

static void fill_tables(cu_run *r, tables *t)
{
    const cu_frame *f = r->e->frame;
    for (int32_t i = 0; i < f->n_phases; i++) {
        const cu_fused *from = &f->phases[i];
        cu_frame_phase *to = &t->phases[i];
        to->kind = (int32_t)from->kind;
        if (i + 1 < f->n_phases)
            to->end = (from[1].barrier ? CU_END_BARRIER : 0) |
                      (from[1].kind == CU_PHASE_SLOTS ? CU_END_SLOTS : 0);
        if (from->kind == CU_PHASE_LINEAR)
            fill_linear(r, from, &to->u.linear);
        else if (from->kind == CU_PHASE_ATTENTION)
            fill_attention(r, from, &to->u.attention);
        else
            fill_slots(r, from, to, t->ops + from->first);
    }
    number_attention(f, t->phases);
}

utter_status cu_frame_prepare(cu_run *r, cu_captured *c, ut_err *err)
{
    const cu_frame *f = r->e->frame;
    tables t;
    if (!new_tables(&t, f))
        return ut_fail(err, UTTER_ERR_NOMEM, "plan %s: no memory", r->e->head.plan->name);
    utter_status st = UTTER_OK;
    if (!c->tables)
        st =
            cu_alloc(r->b, t.bytes, &c->tables, err, "the frame of plan %s", r->e->head.plan->name);
    else if (r->e->stream) /* a run that was before may still read them */
        st = cu_wait(r->b, r->e->done, r->e->head.plan->name, err);
    if (st == UTTER_OK) {
        fill_tables(r, &t);
        st = map_caches(r, &t, c->tables, err);
    }
    if (st == UTTER_OK)
        st = cu_upload(r->b, c->tables, t.memory, t.bytes, err);
    if (st == UTTER_OK) {
        const cu_result synced = cu_sync(r->b, r->b->stream); /* another stream reads them */
        st = synced == CU_OK ? UTTER_OK : cu_fail(r->b, synced, "preparing a frame", err);
    }
    c->args = (cu_frame_args){.phases = c->tables + t.phases_at,
                              .ops = c->tables + t.ops_at,
                              .barrier = f->memory,
                              .frame = f->memory + 128,
                              .sums = f->sums,
                              .x = f->x,
                              .gains = f->gains,
                              .slots = r->e->n_slots,
                              .mail_places = f->mail_places,
                              .mail_stride = (int32_t)(f->mail_bytes / sizeof(cu_mail))};
    c->ready = st == UTTER_OK;
    ut_free(t.allocated);
    return st;
}

/* ---- Launches -------------------------------------------------------------------------------- */

static void launch(cu_run *r, const cu_frame_args *a, int attribute)
{
    const cu_backend *b = r->b;
    const cu_frame *f = r->e->frame;
    const int kernel = !f->bf16         ? CU_K_frame
                       : f->brief == 64 ? CU_K_frame_bf16_64
                                        : CU_K_frame_bf16_128;
    cu_launch_attribute how = {.id = attribute, .value = {1}};
    const cu_launch_config config = {.grid = {(unsigned)b->sm_count, 1, 1},
                                     .block = {CU_FRAME_THREADS, 1, 1},
                                     .shared_bytes = (unsigned)shared_bytes(f, a->ring),
                                     .stream = r->stream,
                                     .attributes = &how,
                                     .n_attributes = 1};
    void *parameters[] = {(void *)(uintptr_t)a};
    if (r->result == CU_OK)
        r->result = b->d.launch_with(&config, b->kernels[kernel], parameters, NULL);
}

void cu_frame_launch_whole(cu_run *r, const cu_captured *c)
{
    const cu_frame *f = r->e->frame;
    cu_frame_args a = c->args;
    a.first = 0;
    a.count = f->n_phases;
    a.last = 1;
    a.ring = f->ring_whole;
    a.trace = r->e->trace;
    launch(r, &a, CU_LAUNCH_COOPERATIVE);
}

utter_status cu_frame_traced(ut_exec *exec, ut_state *s, uint64_t *times, ut_err *err)
{
    cu_exec *e = (cu_exec *)exec;
    cu_backend *b = (cu_backend *)exec->backend;
    const size_t bytes = (size_t)e->frame->n_phases * sizeof *times;
    void *host;
    cu_ptr trace;
    utter_status st = cu_alloc_host(b, bytes, &host, &trace, err);
    if (st != UTTER_OK)
        return st;
    memset(host, 0, bytes);
    e->trace = trace;
    st = cu_run_plan(exec, s, 0, 1, err);
    if (st == UTTER_OK)
        st = cu_wait(b, e->done, exec->plan->name, err);
    e->trace = 0;
    memcpy(times, host, bytes);
    cu_free_host(b, host);
    return st;
}

void cu_frame_launch_phases(cu_run *r, const cu_captured *c)
{
    const cu_frame *f = r->e->frame;
    cu_frame_args a = c->args;
    a.count = 1;
    a.ring = f->ring_phase;
    for (a.first = 0; a.first < f->n_phases; a.first++) {
        a.last = a.first + 1 == f->n_phases;
        launch(r, &a, CU_LAUNCH_PROGRAMMATIC);
    }
}

/* ---- Which is faster ------------------------------------------------------------------------- */

static utter_status time_frames(cu_exec *e, ut_state *s, cu_frames how, float *ms, ut_err *err)
{
    enum { WARM = 1, FRAMES = 3 };
    const cu_driver *d = &((cu_backend *)e->head.backend)->d;
    const cu_stream stream = ((cu_state *)s)->stream;
    cu_event at[2] = {0};
    utter_status st = UTTER_OK;
    cu_result r = CU_OK;
    e->frames = how;
    for (int i = 0; i < 2 && r == CU_OK; i++)
        r = d->event_new(&at[i], CU_EVENT_TIMING);
    for (int i = 0; i < WARM + FRAMES && r == CU_OK && st == UTTER_OK; i++) {
        if (i == WARM)
            r = d->event_record(at[0], stream);
        st = cu_run_plan(&e->head, s, 0, 1, err);
    }
    if (r == CU_OK && st == UTTER_OK)
        r = d->event_record(at[1], stream);
    if (r == CU_OK && st == UTTER_OK)
        st = cu_wait((cu_backend *)e->head.backend, at[1], "timing a frame", err);
    if (r == CU_OK && st == UTTER_OK)
        r = d->event_elapsed(ms, at[0], at[1]);
    *ms /= FRAMES;
    for (int i = 0; i < 2; i++)
        if (at[i])
            d->event_free(at[i]);
    cu_exec_forget(e);
    return st == UTTER_OK && r != CU_OK
               ? cu_fail((cu_backend *)e->head.backend, r, "timing a frame", err)
               : st;
}

utter_status cu_frame_choose(cu_exec *e, cu_backend *b, ut_err *err)
{
    const bool first = e->n_slots == 1 && e->max_t == 1 && !e->heard; /* frames of one slot */
    if (!e->frame) {
        e->frames = CU_FRAMES_STEPS;
        if (first)
            b->chosen = e->frames;
        return UTTER_OK;
    }
    if (b->frames != CU_FRAMES_AUTO) {
        e->frames = b->frames;
        return UTTER_OK;
    }
    e->frames = CU_FRAMES_WHOLE;
    if (e->tail > 0) { /* as frames do, which were timed before */
        if (b->chosen == CU_FRAMES_PHASES)
            e->frames = b->chosen;
        return UTTER_OK;
    }
    if (!e->head.plan->states)
        return UTTER_OK;
    ut_state *s;
    float ms[2] = {0};
    if (cu_state_new(e->head.backend, e->head.plan->states, e->n_slots, &s, NULL) != UTTER_OK)
        return UTTER_OK; /* memory for one state, but not for two */
    utter_status st = time_frames(e, s, CU_FRAMES_WHOLE, &ms[0], err);
    if (st == UTTER_OK)
        st = time_frames(e, s, CU_FRAMES_PHASES, &ms[1], err);
    cu_state_free(s);
    e->frames = ms[1] < ms[0] ? CU_FRAMES_PHASES : CU_FRAMES_WHOLE;
    if (first) {
        b->chosen = e->frames;
        b->frame_ms[0] = ms[0];
        b->frame_ms[1] = ms[1];
    }
    return st;
}
