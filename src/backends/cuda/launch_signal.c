/* launch_signal.c - launches of what deals with the beginning and the end of signals, and with
 * signals as a whole. */
#include "backends/cuda/exec.h"

static int64_t blocks_of(int64_t n)
{
    return (n + CU_THREADS - 1) / CU_THREADS;
}

void cu_launch_history(cu_run *r, const cu_step *s)
{
    const cu_view x = cu_view_of(r, &s->in[0]), state = cu_view_of(r, &s->in[1]);
    const cu_view pos = cu_view_of(r, &s->in[2]);
    const cu_history_args a = {.x = x.p,
                               .state = state.p,
                               .x_slot = x.slot,
                               .state_slot = state.slot,
                               .pos = pos.p,
                               .pos_slot = pos.slot,
                               .n = x.rows * x.cols,
                               .lead = (int32_t)s->in[0].lead,
                               .slots = r->e->n_slots,
                               .unit = s->op->u.history.unit,
                               .x_type = cu_place_type(&s->in[0])};
    const int32_t threads = a.n < a.lead ? a.n : a.lead;
    cu_launch(r, CU_K_history, blocks_of(threads), a.slots, 1, 0, &a);
}

void cu_launch_trim(cu_run *r, const cu_step *s)
{
    const cu_view x = cu_view_of(r, &s->in[0]), count = cu_view_of(r, &s->in[1]);
    const cu_trim_args a = {.x = x.p,
                            .x_slot = x.slot,
                            .count = count.p,
                            .count_slot = count.slot,
                            .rows = x.rows,
                            .slots = r->e->n_slots,
                            .cols = x.cols,
                            .unit = s->op->u.trim.unit,
                            .repeat = s->op->u.trim.repeat};
    cu_launch(r, CU_K_trim, blocks_of((int64_t)x.rows * x.cols), a.slots, 1, 0, &a);
}

void cu_launch_reflect(cu_run *r, const cu_step *s)
{
    const cu_view x = cu_view_of(r, &s->in[0]), y = cu_view_of(r, &s->out[0]);
    const cu_reflect_args a = {.x = x.p,
                               .y = y.p - 4 * (uint64_t)s->out[0].lead,
                               .x_slot = x.slot,
                               .y_slot = y.slot,
                               .rows = x.rows,
                               .slots = r->e->n_slots,
                               .cols = x.cols,
                               .left = s->op->u.reflect.left,
                               .right = s->op->u.reflect.right};
    const int64_t n = ((int64_t)a.rows + a.left + a.right) * a.cols;
    cu_launch(r, CU_K_reflect, blocks_of(n), a.slots, 1, 0, &a);
}

void cu_launch_pool(cu_run *r, const cu_step *s)
{
    const cu_view x = cu_view_of(r, &s->in[0]), logits = cu_view_of(r, &s->in[1]);
    const cu_view y = cu_view_of(r, &s->out[0]);
    const cu_pool_args a = {.x = x.p,
                            .logits = logits.p,
                            .y = y.p,
                            .x_slot = x.slot,
                            .logits_slot = logits.slot,
                            .y_slot = y.slot,
                            .rows = x.rows,
                            .slots = r->e->n_slots,
                            .cols = x.cols};
    cu_launch(r, CU_K_pool, a.cols, a.slots, 1, CU_THREADS / 32 * sizeof(double), &a);
}
