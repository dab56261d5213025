/* launch_move.c - launches of what looks up, moves and counts. */
#include "backends/cuda/exec.h"

static int64_t blocks_of(int64_t n)
{
    return (n + CU_THREADS - 1) / CU_THREADS;
}

void cu_launch_embed_sum(cu_run *r, const cu_step *s)
{
    const ut_op *op = s->op;
    const cu_view ids = cu_view_of(r, &s->in[0]), y = cu_view_of(r, &s->out[0]);
    const cu_embed_args a = {.ids = ids.p,
                             .ids_slot = ids.slot,
                             .e = s->w[0]->data,
                             .ce = s->w[1]->data,
                             .e_type = s->w[0]->type,
                             .e_rows = op->w[0]->rows,
                             .e_ld = s->w[0]->ld,
                             .ce_type = s->w[1]->type,
                             .ce_rows = op->w[1]->rows,
                             .ce_ld = s->w[1]->ld,
                             .y = y.p,
                             .y_slot = y.slot,
                             .rows = y.rows,
                             .slots = r->e->n_slots,
                             .n_ids = ids.cols,
                             .dim = y.cols,
                             .begin = op->u.embed_sum.begin,
                             .end = op->u.embed_sum.end,
                             .codebook_size = op->u.embed_sum.codebook_size,
                             .scale = op->u.embed_sum.scale};
    cu_launch(r, CU_K_embed_sum, (int64_t)y.rows * a.slots, 1, 1, 0, &a);
}

void cu_launch_gather(cu_run *r, const cu_step *s)
{
    const ut_op *op = s->op;
    const cu_view ids = cu_view_of(r, &s->in[0]), y = cu_view_of(r, &s->out[0]);
    const cu_ptr row = y.p + 4 * (uint64_t)op->u.gather.dst_row * (uint64_t)y.cols;
    const cu_gather_args a = {.ids = ids.p + 4 * (uint64_t)op->u.gather.first_col,
                              .ids_slot = ids.slot,
                              .table = s->w[0]->data,
                              .type = s->w[0]->type,
                              .ld = s->w[0]->ld,
                              .range = s->table,
                              .y = s->links.no_f32 ? 0 : row,
                              .y16 = s->links.y16,
                              .ldy = s->links.ldy,
                              .y_slot = y.slot,
                              .rows = ids.rows,
                              .slots = r->e->n_slots,
                              .ids_cols = ids.cols,
                              .n_cols = op->u.gather.n_cols,
                              .size = op->u.gather.sizes[0],
                              .dim = op->w[0]->cols};
    cu_launch(r, CU_K_gather, (int64_t)ids.rows * a.slots, 1, 1, 0, &a);
}

void cu_launch_gather_sum(cu_run *r, const cu_step *s)
{
    const ut_op *op = s->op;
    const cu_view ids = cu_view_of(r, &s->in[0]), y = cu_view_of(r, &s->out[0]);
    const cu_view residual = cu_view_of(r, &s->in[1]), extra = cu_view_of(r, &s->in[2]);
    const cu_gather_sum_args a = {.ids = ids.p + 4 * (uint64_t)op->u.gather.first_col,
                                  .ids_slot = ids.slot,
                                  .table = s->w[0]->data,
                                  .type = s->w[0]->type,
                                  .ld = s->w[0]->ld,
                                  .range = s->table,
                                  .residual = residual.p,
                                  .extra = extra.p,
                                  .y = y.p,
                                  .residual_slot = residual.slot,
                                  .extra_slot = extra.slot,
                                  .y_slot = y.slot,
                                  .rows = ids.rows,
                                  .slots = r->e->n_slots,
                                  .ids_cols = ids.cols,
                                  .n_cols = op->u.gather.n_cols,
                                  .dim = y.cols,
                                  .scale = op->u.gather.scale};
    cu_launch(r, CU_K_gather_sum, (int64_t)ids.rows * a.slots, 1, 1, 0, &a);
}

void cu_launch_copy_rows(cu_run *r, const cu_step *s)
{
    const ut_op *op = s->op;
    const cu_view src = cu_view_of(r, &s->in[0]), dst = cu_view_of(r, &s->out[0]);
    const bool from_end = op->u.copy_rows.src_row < 0;
    const int32_t from = from_end ? src.rows + op->u.copy_rows.src_row : op->u.copy_rows.src_row;
    const int32_t n = op->u.copy_rows.n_rows ? op->u.copy_rows.n_rows : src.rows - from;
    if (from < 0 || n > src.rows - from)
        return; /* fewer rows than the plan speaks of: nothing to copy */
    cu_copy_args a = {.src = src.p + 4 * (uint64_t)from * (uint64_t)src.cols,
                      .dst = dst.p + 4 * (uint64_t)op->u.copy_rows.dst_row * (uint64_t)src.cols,
                      .src_slot = src.slot,
                      .dst_slot = dst.slot,
                      .n = n * src.cols,
                      .slots = r->e->n_slots};
    if (from_end && s->in[0].rows_per_t > 0 && r->e->n_t) { /* the end is known on the device */
        a.n_t = r->e->n_t;
        a.src_per_t = s->in[0].rows_per_t * src.cols;
        a.src -= 4 * (uint64_t)a.src_per_t * (uint64_t)r->n_t;
    }
    cu_launch(r, CU_K_copy, blocks_of(a.n), a.slots, 1, 0, &a);
}

void cu_launch_copy_cols(cu_run *r, const cu_step *s)
{
    const ut_op *op = s->op;
    const cu_view src = cu_view_of(r, &s->in[0]), dst = cu_view_of(r, &s->out[0]);
    const bool one = s->in[0].rows_per_t == 0 && s->in[0].rows_fixed == 1;
    const cu_copy_cols_args a = {.src = src.p + 4 * (uint64_t)op->u.copy_cols.src_col,
                                 .dst = dst.p + 4 * (uint64_t)op->u.copy_cols.dst_col,
                                 .src_slot = src.slot,
                                 .dst_slot = dst.slot,
                                 .rows = dst.rows,
                                 .slots = r->e->n_slots,
                                 .n_cols = op->u.copy_cols.n_cols,
                                 .src_cols = one ? 0 : src.cols,
                                 .dst_cols = dst.cols,
                                 .add = op->u.copy_cols.add};
    cu_launch(r, CU_K_copy_cols, blocks_of((int64_t)a.rows * a.n_cols), a.slots, 1, 0, &a);
}

void cu_launch_angles(cu_run *r, const cu_step *s)
{
    const ut_op *op = s->op;
    const cu_view pos = cu_view_of(r, &s->in[0]), y = cu_view_of(r, &s->out[0]);
    const cu_angles_args a = {.pos = pos.p,
                              .pos_slot = pos.slot,
                              .frequency = s->table,
                              .y = y.p,
                              .y_slot = y.slot,
                              .rows = y.rows,
                              .slots = r->e->n_slots,
                              .dim = op->u.angles.dim,
                              .first_pos = op->u.angles.first_pos,
                              .round_bf16 = op->u.angles.round_bf16};
    cu_launch(r, CU_K_rope_angles, blocks_of((int64_t)y.rows * a.dim / 2), a.slots, 1, 0, &a);
}

void cu_launch_token_code(cu_run *r, const cu_step *s)
{
    const cu_view column = cu_view_of(r, &s->out[0]);
    const cu_token_code_args a = {.column = column.p,
                                  .column_slot = column.slot,
                                  .slots = r->e->n_slots,
                                  .begin = s->op->u.token_code.begin,
                                  .n_codes = s->op->u.token_code.n_codes};
    cu_launch(r, CU_K_token_code, 1, 1, 1, 0, &a);
}

void cu_launch_ring_put(cu_run *r, const cu_step *s)
{
    const cu_view column = cu_view_of(r, &s->in[0]), frame = cu_view_of(r, &s->in[1]);
    const cu_view history = cu_view_of(r, &s->in[2]), ring = cu_view_of(r, &s->out[0]);
    const cu_state *state = r->s;
    const int32_t index = s->out[0].state;
    const uint64_t first = (uint64_t)r->first_slot * (uint64_t)ring.rows;
    const cu_ring_args a = {.column = column.p,
                            .frame = frame.p,
                            .history = history.p,
                            .ring = ring.p,
                            .column_slot = column.slot,
                            .frame_slot = frame.slot,
                            .history_slot = history.slot,
                            .ring_slot = ring.slot,
                            .mirror = state->mirror_device + state->ring[index] +
                                      4 * first * (uint64_t)ring.cols,
                            .stamp = state->mirror_device + state->stamp[index] + 8 * first,
                            .epoch = state->epoch + 4 * (uint64_t)r->first_slot,
                            .slots = r->e->n_slots,
                            .cols = column.cols,
                            .ring_rows = ring.rows,
                            .history_rows = UT_HISTORY_FRAMES};
    cu_launch(r, CU_K_ring_put, a.slots, 1, 1, 0, &a);
}

void cu_launch_ring_get(cu_run *r, const cu_step *s)
{
    const ut_op *op = s->op;
    const cu_view ring = cu_view_of(r, &s->in[0]), counter = cu_view_of(r, &s->in[1]);
    const cu_view y = cu_view_of(r, &s->out[0]);
    const cu_ring_get_args a = {.ring = ring.p,
                                .counter = counter.p,
                                .y = y.p,
                                .ring_slot = ring.slot,
                                .counter_slot = counter.slot,
                                .y_slot = y.slot,
                                .slots = r->e->n_slots,
                                .cols = y.cols,
                                .ring_rows = ring.rows,
                                .offset = op->u.ring_get.offset,
                                .add = op->u.ring_get.add};
    cu_launch(r, CU_K_ring_get, a.slots, 1, 1, 0, &a);
}

void cu_launch_advance(cu_run *r, const cu_step *s)
{
    const cu_view counter = cu_view_of(r, &s->out[0]);
    const uint32_t per_t = (uint32_t)s->op->u.advance.per_t;
    const cu_advance_args a = {.counter = counter.p,
                               .counter_slot = counter.slot,
                               .slots = r->e->n_slots,
                               .by = (uint32_t)s->op->u.advance.amount +
                                     (r->e->n_t ? 0 : per_t * (uint32_t)r->n_t),
                               .per_t = per_t,
                               .n_t = r->e->n_t};
    cu_launch(r, CU_K_advance, 1, 1, 1, 0, &a);
}
