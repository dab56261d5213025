/* narrow.c - tensors between products on tensor cores: what only they read is kept in their type by
 * whoever makes it, with its history, and needs no copy in front of each product. A snake between
 * two products is part of the first. Rounding is the same, and so are all bits. */
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
        x->e->steps[maker].links.snake >= 0 || x->e->narrow[t])
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
    if (!x->e->narrow[from] || !x->e->narrow[between] || maker_of(x, between) != i ||
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
}

void cu_narrow(cu_exec *e, cu_backend *b, ut_op_time *when)
{
    narrower x = {.e = e, .b = b, .p = e->head.plan};
    for (ut_tid t = 0; b->mma && t < x.p->n_tensors; t++) {
        const int32_t maker = x.p->tensors[t].role == UT_TEMP ? maker_of(&x, t) : -1;
        e->narrow[t] = maker >= 0 && can_make(&x, maker) && only_products_read(&x, t);
    }
    for (int32_t i = 0; i < x.p->n_ops; i++)
        if (x.p->ops[i].kind == UT_OP_SNAKE && e->narrow[x.p->ops[i].out[0]])
            take_snake(&x, i, when);
    for (int32_t i = 0; i < x.p->n_ops; i++)
        take_unit(&x, i, when);
}
