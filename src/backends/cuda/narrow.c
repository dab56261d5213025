/* narrow.c - tensors between products on tensor cores: what only they read is kept in their type by
 * whoever makes it, with its history, and needs no copy in front of each product. A snake between
 * two products is part of the first. A result takes the place of its residual. Rounding is the
 * same, and so are all bits. */
#include "backends/cuda/exec.h"

typedef struct narrower {
    cu_exec *e;
    cu_backend *b;
    const ut_plan *p;
} narrower;

static ut_tid root_of(const narrower *x, ut_tid t)
{
    return t == UT_NONE ? UT_NONE : ut_plan_root(x->p, t);
}

static bool is_narrow(const narrower *x, ut_tid t)
{
    return x->e->kept[t].dtype != x->p->tensors[t].dtype;
}

static bool is_tiles(const narrower *x, int32_t i)
{
    return cu_is_tile_linear(x->e, x->b, &x->e->steps[i]);
}

/* The one operation that writes t, a temporary of the run's rows; -1: there is none. */
static int32_t maker_of(const narrower *x, ut_tid t)
{
    const ut_tensor *m = &x->p->tensors[t];
    int32_t maker = -1;
    if (m->role != UT_TEMP || m->dtype != UT_F32 || m->rows_per_t == 0 || m->cols % 8)
        return -1;
    for (int32_t i = 0; i < x->p->n_ops; i++)
        for (int k = 0; k < 2; k++)
            if (root_of(x, x->p->ops[i].out[k]) == t) {
                if (maker >= 0)
                    return -1;
                maker = i;
            }
    return maker;
}

/* Can the kernel of operation i write narrow numbers? */
static bool can_make(const narrower *x, int32_t i)
{
    const ut_op *op = &x->p->ops[i];
    const char *why;
    switch (op->kind) {
    case UT_OP_LINEAR:
        return is_tiles(x, i);
    case UT_OP_ATTENTION:
        return x->p->tensors[op->in[0]].rows_per_t > 0 &&
               cu_attention_is_fast(x->b, x->p, op, &why);
    case UT_OP_SNAKE:
    case UT_OP_SWIGLU:
    case UT_OP_RMS_NORM:
    case UT_OP_LAYER_NORM:
        return true;
    default:
        return false;
    }
}

/* Do only products read t, as their x, and what fills its history? */
static bool only_products_read(const narrower *x, ut_tid t)
{
    bool any = false;
    for (int32_t i = 0; i < x->p->n_ops; i++) {
        const ut_op *op = &x->p->ops[i];
        for (int k = 0; k < 6; k++) {
            if (root_of(x, op->in[k]) != t)
                continue;
            if (k > 0 || (op->kind != UT_OP_CONV_HISTORY &&
                          !(is_tiles(x, i) && x->p->tensors[op->in[0]].cols % 8 == 0)))
                return false;
            any = any || op->kind == UT_OP_LINEAR;
        }
    }
    return any;
}

/* A snake into the product whose result it reads, if that stays as it was made. */
static void take_snake(narrower *x, int32_t i, ut_op_time *when)
{
    const ut_op *op = &x->p->ops[i];
    const ut_tid t = root_of(x, op->in[0]);
    const int32_t maker = maker_of(x, t);
    if (maker < 0 || !is_tiles(x, maker) || x->p->tensors[t].lead != 0 ||
        x->e->steps[maker].links.snake >= 0 || is_narrow(x, t))
        return;
    int32_t readers = 0;
    for (int32_t k = 0; k < x->p->n_ops; k++)
        for (int j = 0; j < 6; j++)
            if (root_of(x, x->p->ops[k].in[j]) == t) {
                if (x->p->ops[k].kind == UT_OP_TRIM)
                    return;
                readers++;
            }
    cu_links *l = &x->e->steps[maker].links;
    l->snake = i;
    l->no_f32 = readers == 1;
    if (l->no_f32)
        x->e->kept[t].max_t = 0;
    x->e->steps[i].links.merged = true;
    when[i].first = maker;
}

/* A product and the one behind it, if nobody else reads what lies between. */
static void take_unit(narrower *x, int32_t i, ut_op_time *when)
{
    cu_step *first = &x->e->steps[i], *second = first + 1;
    if (i + 1 == x->p->n_ops || first->links.merged || first->op->kind != UT_OP_LINEAR ||
        second->op->kind != UT_OP_LINEAR || !is_tiles(x, i) || !is_tiles(x, i + 1) ||
        !cu_is_unit(x->b, first, second))
        return;
    const ut_tid between = root_of(x, first->op->out[0]), from = root_of(x, first->op->in[0]);
    if (!is_narrow(x, from) || !is_narrow(x, between) || maker_of(x, between) != i ||
        root_of(x, second->op->in[0]) != between)
        return;
    int32_t readers = 0;
    for (int32_t k = 0; k < x->p->n_ops; k++)
        readers += root_of(x, x->p->ops[k].in[0]) == between;
    if (readers != 1)
        return;
    first->links.unit = i + 1;
    second->links.merged = true;
    when[i + 1].first = i;
    if (second->links.snake >= 0)
        when[second->links.snake].first = i;
    ut_kept *kept = &x->e->kept[between];
    while (kept->max_t > 0 &&
           cu_unit_pays(x->b, ut_tensor_rows(&x->p->tensors[first->op->in[0]], kept->max_t),
                        x->e->n_slots))
        kept->max_t--;
}

/* ---- Residuals ------------------------------------------------------------------------------- */

static bool same_shape(const ut_tensor *a, const ut_tensor *b)
{
    return (int64_t)a->rows_per_t * a->cols == (int64_t)b->rows_per_t * b->cols &&
           (int64_t)a->rows_fixed * a->cols == (int64_t)b->rows_fixed * b->cols &&
           (int64_t)a->lead * a->cols == (int64_t)b->lead * b->cols;
}

static int32_t uses(const narrower *x, int32_t i, ut_tid t)
{
    const ut_op *op = &x->p->ops[i];
    int32_t n = 0;
    for (int k = 0; k < 6; k++)
        n += root_of(x, op->in[k]) == t;
    for (int k = 0; k < 2; k++)
        n += root_of(x, op->out[k]) == t;
    return n;
}

/* A product's result in the place of its residual, if that is over then: a thread reads the element
 * of the residual that it writes. */
static void take_residual(narrower *x, int32_t i, const ut_op_time *when)
{
    const ut_op *op = &x->p->ops[i];
    if (!is_tiles(x, i) || op->in[1] == UT_NONE)
        return;
    const ut_tid from = root_of(x, op->in[1]), to = root_of(x, op->out[0]);
    const ut_tensor *f = &x->p->tensors[from], *t = &x->p->tensors[to];
    if (f->role != UT_TEMP || t->role != UT_TEMP || f->rows_per_t == 0 || !same_shape(f, t) ||
        is_narrow(x, from) || is_narrow(x, to) || uses(x, i, from) != 1)
        return;
    for (int32_t k = 0; k < x->p->n_ops; k++) {
        if (k != i && uses(x, k, from) && when[k].last >= when[i].first)
            return;
        if (k != i && uses(x, k, to) && (k < i || when[k].first < when[i].first))
            return;
    }
    x->e->kept[to].onto = from;
}

/* ---- All of it ------------------------------------------------------------------------------- */

void cu_narrow(cu_exec *e, cu_backend *b, ut_op_time *when)
{
    narrower x = {.e = e, .b = b, .p = e->head.plan};
    for (ut_tid t = 0; t < x.p->n_tensors; t++)
        e->kept[t] = (ut_kept){x.p->tensors[t].dtype, e->max_t, UT_NONE};
    for (ut_tid t = 0; b->mma && t < x.p->n_tensors; t++) {
        const int32_t maker = x.p->tensors[t].role == UT_TEMP ? maker_of(&x, t) : -1;
        if (maker >= 0 && can_make(&x, maker) && only_products_read(&x, t))
            e->kept[t].dtype = e->heard ? UT_F16 : UT_BF16;
    }
    for (int32_t i = 0; i < x.p->n_ops; i++)
        if (x.p->ops[i].kind == UT_OP_SNAKE && is_narrow(&x, x.p->ops[i].out[0]))
            take_snake(&x, i, when);
    for (int32_t i = 0; i < x.p->n_ops; i++)
        take_unit(&x, i, when);
    for (int32_t i = 0; i < x.p->n_ops; i++)
        take_residual(&x, i, when);
}
