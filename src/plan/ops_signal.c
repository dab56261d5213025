/* ops_signal.c - builders of the operations on signals: histories, ends, activations, and what sees
 * a signal as a whole. What they compute is said in plan.h. */
#include "plan/build.h"

/* ---- Histories and ends --------------------------------------------------------------------- */

static void conv_history(ut_plan *p, ut_tid x, int state_index, ut_tid pos, int32_t unit)
{
    const ut_tid s = ut_plan_state(p, state_index);
    const ut_tensor *t = ut_build_get(p, x);
    if (!t || s == UT_NONE)
        return;
    const ut_tensor *d = &p->tensors[s];
    ut_tensor *root = &p->tensors[ut_plan_root(p, x)];
    const int64_t elements = (int64_t)d->rows_fixed * d->cols;
    if (!ut_build_need(p, root->role == UT_TEMP, "conv_history",
                       "only a temporary can carry history") ||
        !ut_build_need(p, d->dtype == UT_F32 && d->cols == t->cols, "conv_history",
                       "state and signal differ in width") ||
        !ut_build_need(p, root->lead == 0 && elements % root->cols == 0, "conv_history",
                       "the tensor already has a history, or its rows do not divide") ||
        !ut_build_need(p, unit == 0 || elements % unit == 0, "conv_history",
                       "the history is no multiple of what is repeated"))
        return;
    root->lead = (int32_t)(elements / root->cols);
    ut_op *op = ut_build_op(p, UT_OP_CONV_HISTORY);
    if (!op)
        return;
    op->in[0] = x;
    op->in[1] = s;
    op->in[2] = pos;
    op->u.history.unit = unit;
}

void ut_op_conv_history(ut_plan *p, ut_tid x, int state_index)
{
    conv_history(p, x, state_index, UT_NONE, 0);
}

void ut_op_conv_history_repeat(ut_plan *p, ut_tid x, int state_index, ut_tid pos, int32_t unit)
{
    const ut_tensor *t = ut_build_get(p, x);
    if (t && ut_build_state_ok(p, pos, UT_I32, 1, 1, "conv_history") &&
        ut_build_need(p, unit >= 1 && unit <= t->cols, "conv_history",
                      "more is repeated than a row has"))
        conv_history(p, x, state_index, pos, unit);
}

void ut_op_trim(ut_plan *p, ut_tid x, ut_tid count, int32_t unit, bool repeat)
{
    const ut_tensor *t = ut_build_get(p, x), *n = ut_build_get(p, count);
    if (!t || !n ||
        !ut_build_need(p, p->tensors[ut_plan_root(p, x)].role == UT_TEMP && t->dtype == UT_F32,
                       "trim", "only a temporary can be trimmed") ||
        !ut_build_need(p,
                       n->dtype == UT_I32 && n->rows_per_t == 0 && n->rows_fixed == 1 &&
                           n->cols == 1 && unit >= 1,
                       "trim", "the count is no single i32"))
        return;
    ut_op *op = ut_build_op(p, UT_OP_TRIM);
    if (!op)
        return;
    op->in[0] = x;
    op->in[1] = count;
    op->u.trim.unit = unit;
    op->u.trim.repeat = repeat;
}

/* ---- Element by element --------------------------------------------------------------------- */

ut_tid ut_op_act(ut_plan *p, ut_tid x, ut_act act)
{
    const ut_tensor *t = ut_build_get(p, x);
    if (!t || !ut_build_need(p, act != UT_ACT_SNAKE, "act", "snake has weights: see ut_op_snake"))
        return UT_NONE;
    ut_op *op = ut_build_rowwise(p, UT_OP_ACT, x, t->cols);
    if (!op)
        return UT_NONE;
    op->u.linear.act = act;
    return op->out[0];
}

ut_tid ut_op_scale(ut_plan *p, ut_tid x, ut_tid gain, ut_tid residual)
{
    const ut_tensor *t = ut_build_get(p, x), *g = ut_build_get(p, gain);
    if (!t || !g ||
        !ut_build_need(p, g->rows_per_t == 0 && g->rows_fixed == 1 && g->cols == t->cols, "scale",
                       "the gain is not one row like those of x"))
        return UT_NONE;
    if (residual != UT_NONE) {
        const ut_tensor *r = ut_build_get(p, residual);
        if (!r || !ut_build_need(p, ut_build_same_rows(r, t) && r->cols == t->cols, "scale",
                                 "the residual has another shape"))
            return UT_NONE;
    }
    ut_op *op = ut_build_rowwise(p, UT_OP_SCALE, x, t->cols);
    if (!op)
        return UT_NONE;
    op->in[1] = gain;
    op->in[2] = residual;
    return op->out[0];
}

/* ---- Whole signals -------------------------------------------------------------------------- */

ut_tid ut_op_pool(ut_plan *p, ut_tid x, ut_tid logits)
{
    const ut_tensor *t = ut_build_get(p, x);
    if (!t)
        return UT_NONE;
    if (logits != UT_NONE) {
        const ut_tensor *l = ut_build_get(p, logits);
        if (!l || !ut_build_need(p, ut_build_same_rows(l, t) && l->cols == t->cols, "pool",
                                 "the logits have another shape"))
            return UT_NONE;
    }
    const ut_tid y = ut_op_blank(p, 1, 2 * t->cols);
    ut_op *op = ut_build_op(p, UT_OP_POOL);
    if (!op || y == UT_NONE)
        return UT_NONE;
    op->in[0] = x;
    op->in[1] = logits;
    op->out[0] = y;
    return y;
}

ut_tid ut_op_reflect(ut_plan *p, ut_tid x, int32_t left, int32_t right)
{
    const ut_tensor *t = ut_build_get(p, x);
    if (!t || !ut_build_need(p, left >= 0 && right >= 0 && t->dtype == UT_F32, "reflect",
                             "a negative number of rows"))
        return UT_NONE;
    ut_op *op = ut_build_rowwise(p, UT_OP_REFLECT, x, t->cols);
    if (!op)
        return UT_NONE;
    op->u.reflect.left = left;
    op->u.reflect.right = right;
    p->tensors[op->out[0]].lead = left + right;
    return op->out[0];
}
