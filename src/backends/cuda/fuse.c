/* fuse.c - what steps of a decoding plan do together, where each operation by itself would be a
 * launch: products take the norm in front of them and the swiglu behind, attention takes rotation
 * and caches, and the product in front where that pays; operations of single slots that follow one
 * another are one kernel. Rows go from step to step as bf16 where only products read them. The same
 * is done of what follows a prompt's last row. Phases (frame_fuse.c) do it where frames are those.
 */
#include "backends/cuda/frame.h"
#include "base/alloc.h"
#include <string.h>

typedef struct fuser {
    cu_exec *e;
    cu_backend *b;
    const ut_plan *p;
    int32_t first; /* of the operations that have as many rows whatever T is, to the plan's end */
    ut_op_time *when;
    size_t *x16;    /* [n_tensors] offset in e->side of the tensor's rows as bf16; SIZE_MAX: none */
    size_t *square; /* [n_ops] offset of the sums of squares that a linear leaves, or SIZE_MAX */
} fuser;

/* ---- Who reads and writes what --------------------------------------------------------------- */

static bool reads(const ut_op *op, ut_tid t)
{
    for (int i = 0; i < 6; i++)
        if (op->in[i] == t)
            return true;
    return false;
}

static bool writes(const ut_op *op, ut_tid t)
{
    return op->out[0] == t || op->out[1] == t;
}

/* The one operation that writes t, where t is nobody's view, from `first` on; -1: there is none. */
static int32_t maker_of(const fuser *f, ut_tid t)
{
    const ut_plan *p = f->p;
    const ut_role role = p->tensors[t].role;
    int32_t maker = -1;
    if (role != UT_TEMP && role != UT_OUTPUT)
        return -1;
    for (ut_tid i = 0; i < p->n_tensors; i++)
        if (p->tensors[i].role == UT_VIEW && p->tensors[i].base == t)
            return -1;
    for (int32_t i = 0; i < p->n_ops; i++)
        if (writes(&p->ops[i], t)) {
            if (maker >= 0)
                return -1;
            maker = i;
        }
    return maker >= f->first ? maker : -1;
}

static bool is_slots_linear(const fuser *f, int32_t i)
{
    return cu_is_slots_linear(f->e, f->b, &f->e->steps[i]) && f->p->ops[i].u.linear.taps == 1;
}

/* Does operation i read t as the x of a product, and only so? */
static bool takes_x16(const fuser *f, int32_t i, ut_tid t)
{
    const ut_op *op = &f->p->ops[i];
    return is_slots_linear(f, i) && op->in[0] == t && op->in[1] != t;
}

/* Readers of t that take it as bf16, and others; the last of all. */
typedef struct readers {
    int32_t x16, others, last;
} readers;

static readers readers_of(const fuser *f, ut_tid t)
{
    readers r = {.last = -1, .others = f->p->tensors[t].role != UT_TEMP};
    for (int32_t i = 0; i < f->p->n_ops; i++) {
        if (!reads(&f->p->ops[i], t))
            continue;
        if (takes_x16(f, i, t))
            r.x16++;
        else
            r.others++;
        r.last = i;
    }
    return r;
}

static bool written_between(const fuser *f, ut_tid t, int32_t first, int32_t last)
{
    for (int32_t i = first + 1; i < last; i++) {
        const ut_op *op = &f->p->ops[i];
        const bool in = op->kind == UT_OP_QKV && (op->in[2] == t || op->in[3] == t);
        if (t != UT_NONE && (in || writes(op, t)))
            return true;
    }
    return false;
}

/* ---- Memory ---------------------------------------------------------------------------------- */

static size_t take(fuser *f, size_t bytes)
{
    const size_t at = f->e->side_bytes;
    f->e->side_bytes += (bytes + 255) / 256 * 256;
    return at;
}

static int32_t row_elements(int32_t cols)
{
    return (cols + CU_K_ALIGN - 1) / CU_K_ALIGN * CU_K_ALIGN;
}

static size_t rows_of(const fuser *f, ut_tid t)
{
    return (size_t)f->p->tensors[t].rows_fixed * (size_t)f->e->n_slots;
}

static void give_x16(fuser *f, ut_tid t)
{
    if (f->x16[t] == SIZE_MAX)
        f->x16[t] = take(f, 2 * rows_of(f, t) * (size_t)row_elements(f->p->tensors[t].cols));
}

/* ---- Pairs ----------------------------------------------------------------------------------- */

static void merge(fuser *f, int32_t i, int32_t into)
{
    f->e->steps[i].links.merged = true;
    if (into < f->when[i].first)
        f->when[i].first = into;
    if (into > f->when[i].last)
        f->when[i].last = into;
}

/* A swiglu into the product that makes its x. */
static void fuse_swiglu(fuser *f, int32_t i)
{
    const ut_op *op = &f->p->ops[i];
    const int32_t maker = maker_of(f, op->in[0]);
    if (maker < 0 || !is_slots_linear(f, maker) || f->p->tensors[op->in[0]].role != UT_TEMP ||
        maker_of(f, op->out[0]) != i)
        return;
    const ut_op *m = &f->p->ops[maker];
    const readers r = readers_of(f, op->in[0]);
    if (r.x16 + r.others != 1 || m->w[1] || m->w[2] || m->in[1] != UT_NONE ||
        m->u.linear.act != UT_ACT_NONE)
        return;
    f->e->steps[maker].links.swiglu = i;
    merge(f, i, maker);
}

/* Rotation and caches into the attention that reads the queries. */
static void fuse_qkv(fuser *f, int32_t i)
{
    const ut_op *op = &f->p->ops[i];
    const readers r = readers_of(f, op->out[0]);
    const char *why;
    if (maker_of(f, op->out[0]) != i || r.x16 || r.others != 1)
        return;
    const ut_op *a = &f->p->ops[r.last];
    if (a->kind != UT_OP_ATTENTION || a->in[0] != op->out[0] || a->in[2] != op->in[2] ||
        a->in[3] != op->in[3] || a->in[4] != op->in[4] ||
        !cu_attention_is_fast(f->b, f->p, a, &why))
        return;
    for (int k = 0; k < 5; k++)
        if (written_between(f, op->in[k], i, r.last))
            return;
    cu_links *l = &f->e->steps[r.last].links;
    l->qkv = i;
    l->early = true; /* keys, values and position */
    for (int k = 2; k < 5; k++)
        l->early = l->early && !written_between(f, op->in[k], -1, i);
    merge(f, i, r.last);
}

/* The step that makes tensor t, as bf16, too. */
static cu_step *maker_step(const fuser *f, ut_tid t)
{
    const int32_t i = maker_of(f, t);
    return i < 0 ? NULL : &f->e->steps[i];
}

/* A norm goes into the products that read it where its x comes from a product: that one leaves x
 * times gain, and sums of squares. */
static bool fuse_norm(fuser *f, int32_t i)
{
    const ut_op *op = &f->p->ops[i];
    const readers r = readers_of(f, op->out[0]);
    const int32_t maker = maker_of(f, op->in[0]);
    if (maker < 0 || !is_slots_linear(f, maker) || r.others || !r.x16 || op->w[1])
        return false;
    cu_links *m = &f->e->steps[maker].links;
    if (m->norm >= 0 || m->swiglu >= 0)
        return false;
    m->norm = i;
    f->square[maker] =
        take(f, sizeof(float) * rows_of(f, op->in[0]) *
                    (size_t)((f->p->ops[maker].w[0]->rows + CU_SLOTS_N - 1) / CU_SLOTS_N));
    merge(f, i, r.last);
    give_x16(f, op->out[0]);
    return true;
}

/* A product into the attention that is all that reads it, where that hands on bf16 and no more. */
static void fuse_product(fuser *f, int32_t i)
{
    cu_links *l = &f->e->steps[i].links;
    if (l->qkv < 0 || !l->no_f32)
        return;
    const ut_tid x = f->p->ops[l->qkv].in[0];
    const int32_t maker = maker_of(f, x);
    const readers r = readers_of(f, x);
    if (maker < 0 || !is_slots_linear(f, maker) || r.x16 + r.others != 1 ||
        f->e->steps[maker].links.norm >= 0 ||
        !cu_is_qkv_slots(f->e, f->b, &f->e->steps[maker], &f->e->steps[i]))
        return;
    if (written_between(f, f->p->ops[maker].in[0], maker, i))
        return;
    l->product = maker;
    merge(f, maker, i);
}

/* Rows of t as bf16 from the step that makes them, and only so where nobody else reads them. */
static void hand_on(fuser *f, ut_tid t)
{
    const int32_t i = maker_of(f, t);
    const readers r = i < 0 ? (readers){0} : readers_of(f, t);
    if (!r.x16)
        return;
    const ut_op *op = &f->p->ops[i];
    const char *why;
    int32_t by = i;
    switch (op->kind) {
    case UT_OP_RMS_NORM:
    case UT_OP_GATHER:
        break;
    case UT_OP_ATTENTION:
        if (r.others || !cu_attention_is_fast(f->b, f->p, op, &why))
            return; /* it writes one or the other */
        break;
    case UT_OP_SWIGLU:
        by = maker_of(f, op->in[0]);
        if (by < 0 || f->e->steps[by].links.swiglu != i)
            return;
        break;
    case UT_OP_LINEAR:
        if (!is_slots_linear(f, i) || f->e->steps[i].links.norm >= 0)
            return;
        break;
    default:
        return;
    }
    give_x16(f, t);
    f->e->steps[by].links.no_f32 = !r.others;
}

/* ---- Slots ----------------------------------------------------------------------------------- */

/* Angles that are wanted soon behind operation `end`, past products that they have nothing to do
 * with; -1: none. */
static int32_t next_angles(const fuser *f, int32_t end)
{
    for (int32_t k = end + 1; k < f->p->n_ops; k++) {
        const ut_op *op = &f->p->ops[k];
        if (op->kind == UT_OP_ROPE_ANGLES && !f->e->steps[k].links.merged)
            return k;
        if (op->kind != UT_OP_LINEAR && !f->e->steps[k].links.merged)
            return -1;
    }
    return -1;
}

/* Neighbours become one launch: all they read and write is in use while it lasts. */
static void group_slot_ops(fuser *f)
{
    cu_step *steps = f->e->steps;
    for (int32_t i = f->first; i < f->p->n_ops; i++) {
        int32_t n = 0, end = i;
        if (steps[i].links.merged)
            continue;
        for (int32_t k = i; k < f->p->n_ops && n < CU_SLOT_OPS; k++) {
            if (steps[k].links.merged)
                continue;
            if (!cu_is_slot_op(&f->p->ops[k]))
                break;
            n++;
            end = k;
        }
        if (n > 0 && n < CU_SLOT_OPS) {
            const int32_t angles = next_angles(f, end);
            n += angles >= 0;
            end = angles >= 0 ? angles : end;
        }
        if (n < 2)
            continue;
        for (int32_t k = i; k <= end; k++) {
            if (steps[k].links.merged || !cu_is_slot_op(&f->p->ops[k]))
                continue;
            f->when[k] = (ut_op_time){i, end};
            steps[k].links.merged = k > i;
        }
        steps[i].links.group = end - i + 1;
        i = end;
    }
}

static int slot_kind(int kernel)
{
    static const struct {
        int kernel, kind;
    } kinds[] = {{CU_K_embed_sum, CU_SLOT_EMBED_SUM},   {CU_K_gather, CU_SLOT_GATHER},
                 {CU_K_gather_sum, CU_SLOT_GATHER_SUM}, {CU_K_copy, CU_SLOT_COPY},
                 {CU_K_rms_norm, CU_SLOT_NORM},         {CU_K_rope_angles, CU_SLOT_ANGLES},
                 {CU_K_token_code, CU_SLOT_TOKEN_CODE}, {CU_K_ring_put, CU_SLOT_RING_PUT},
                 {CU_K_ring_get, CU_SLOT_RING_GET},     {CU_K_advance, CU_SLOT_ADVANCE},
                 {CU_K_sample, CU_SLOT_SAMPLE}};
    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++)
        if (kinds[i].kernel == kernel)
            return kinds[i].kind;
    return -1;
}

void cu_launch_slot_ops(cu_run *r, const cu_step *s)
{
    cu_slot_ops_args a = {.slots = r->e->n_slots};
    size_t shared = 64;
    const int32_t first = (int32_t)(s - r->e->steps);
    for (int32_t i = first; i < first + s->links.group; i++) {
        const cu_step *step = &r->e->steps[i];
        if (!cu_is_slot_op(step->op) || (i > first && !step->links.merged) || step->links.folded)
            continue;
        cu_slot_op *op = &a.op[a.n];
        const int kind = slot_kind(cu_arguments_of(r, step, &op->u, sizeof op->u));
        if (kind < 0)
            continue; /* it had nothing to do */
        op->kind = kind;
        a.n++;
        if (kind == CU_SLOT_SAMPLE) {
            const size_t n = (size_t)op->u.sample.n;
            const size_t wanted =
                CU_SAMPLE_FIXED + (n <= CU_SAMPLE_SHARED ? 8 * CU_SAMPLE_ROW(n) : 0);
            shared = wanted > shared ? wanted : shared;
        }
    }
    cu_launch(r, CU_K_slot_ops, a.slots, 1, 1, shared, &a);
}

/* ---- All of it ------------------------------------------------------------------------------- */

/* The first operation of a decoder's steps, or of what follows a prompt; n_ops: it has none. */
static int32_t first_step(const cu_exec *e)
{
    const ut_plan *p = e->head.plan;
    const int32_t first = cu_fixed_from(p);
    return p->states && (e->stepped || (e->n_slots > 1 && first == 0)) ? first : p->n_ops;
}

static void find_all(fuser *f)
{
    const ut_plan *p = f->p;
    for (int32_t i = f->first; i < p->n_ops; i++) {
        if (p->ops[i].kind == UT_OP_SWIGLU)
            fuse_swiglu(f, i);
        if (p->ops[i].kind == UT_OP_QKV)
            fuse_qkv(f, i);
    }
    for (int32_t i = f->first; i < p->n_ops; i++)
        if (p->ops[i].kind == UT_OP_RMS_NORM)
            f->e->steps[i].links.folded = fuse_norm(f, i);
    for (ut_tid t = 0; t < p->n_tensors; t++)
        if (f->x16[t] == SIZE_MAX)
            hand_on(f, t);
    for (int32_t i = f->first; i < p->n_ops; i++)
        if (p->ops[i].kind == UT_OP_ATTENTION)
            fuse_product(f, i);
    /* a product whose x is only read by a norm that others have taken along */
    for (int32_t i = 0; i < p->n_ops; i++) {
        cu_links *l = &f->e->steps[i].links;
        if (l->norm < 0)
            continue;
        const readers r = readers_of(f, p->ops[i].out[0]);
        l->no_f32 = r.x16 == 0 && r.others == 1;
    }
    group_slot_ops(f);
}

/* Offsets become addresses. */
static void link_all(fuser *f)
{
    const ut_plan *p = f->p;
    const cu_ptr side = f->e->side;
    for (int32_t i = 0; i < p->n_ops; i++) {
        const ut_op *op = &p->ops[i];
        cu_links *l = &f->e->steps[i].links;
        const ut_tid y = l->swiglu >= 0 ? p->ops[l->swiglu].out[0]
                         : l->norm >= 0 ? p->ops[l->norm].out[0]
                                        : op->out[0];
        if (op->kind == UT_OP_LINEAR && is_slots_linear(f, i) && f->x16[op->in[0]] != SIZE_MAX) {
            l->x16 = side + f->x16[op->in[0]];
            l->ldx = row_elements(p->tensors[op->in[0]].cols);
            const cu_step *maker = maker_step(f, op->in[0]);
            if (maker && maker->links.folded) {
                const int32_t from = maker_of(f, maker->op->in[0]);
                l->square = side + f->square[from];
                l->square_tiles = (p->ops[from].w[0]->rows + CU_SLOTS_N - 1) / CU_SLOTS_N;
                l->eps = maker->op->u.norm.eps;
            }
        }
        const bool makes = op->kind == UT_OP_LINEAR || op->kind == UT_OP_RMS_NORM ||
                           op->kind == UT_OP_GATHER || op->kind == UT_OP_ATTENTION;
        if (makes && !l->folded && y != UT_NONE && f->x16[y] != SIZE_MAX) {
            l->y16 = side + f->x16[y];
            l->ldy = row_elements(p->tensors[y].cols);
        }
        if (f->square[i] != SIZE_MAX)
            l->y_square = side + f->square[i];
    }
}

utter_status cu_fuse(cu_exec *e, cu_backend *b, ut_op_time *when, ut_err *err)
{
    const ut_plan *p = e->head.plan;
    for (int32_t i = 0; i < p->n_ops; i++) {
        e->steps[i].links =
            (cu_links){.swiglu = -1, .qkv = -1, .product = -1, .snake = -1, .unit = -1, .norm = -1};
        when[i] = (ut_op_time){i, i};
        const bool known = cu_angles_are_known(p, &p->ops[i]);
        e->steps[i].links.merged = e->steps[i].links.folded = known;
    }
    /* phases take steps as they are */
    const int32_t first = first_step(e);
    if (first == p->n_ops || (e->tail == 0 && b->frames != CU_FRAMES_STEPS))
        return UTTER_OK;
    fuser f = {.e = e, .b = b, .p = p, .first = first, .when = when};
    f.x16 = ut_calloc((size_t)p->n_tensors + 1, sizeof *f.x16);
    f.square = ut_calloc((size_t)p->n_ops + 1, sizeof *f.square);
    utter_status st = f.x16 && f.square ? UTTER_OK
                                        : ut_fail(err, UTTER_ERR_NOMEM,
                                                  "plan %s: no memory to compile it", p->name);
    for (ut_tid t = 0; st == UTTER_OK && t < p->n_tensors; t++)
        f.x16[t] = SIZE_MAX;
    for (int32_t i = 0; st == UTTER_OK && i < p->n_ops; i++)
        f.square[i] = SIZE_MAX;
    if (st == UTTER_OK) {
        find_all(&f);
        st =
            cu_alloc(b, e->side_bytes, &e->side, err, "rows between the steps of plan %s", p->name);
    }
    if (st == UTTER_OK) {
        const cu_result r = b->d.set8(e->side, 0, e->side_bytes ? e->side_bytes : 1, b->stream);
        st = r == CU_OK ? UTTER_OK : cu_fail(b, r, "rows between steps", err);
    }
    if (st == UTTER_OK)
        link_all(&f);
    ut_free(f.x16);
    ut_free(f.square);
    return st;
}
