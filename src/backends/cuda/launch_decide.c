/* launch_decide.c - launches of what goes to caches, and of what chooses: nearest entries and
 * sampling. */
#include "backends/cuda/exec.h"

void cu_launch_qkv(cu_run *r, const cu_step *s)
{
    const ut_op *op = s->op;
    const cu_view x = cu_view_of(r, &s->in[0]), angles = cu_view_of(r, &s->in[1]);
    const cu_view k = cu_view_of(r, &s->in[2]), v = cu_view_of(r, &s->in[3]);
    const cu_view pos = cu_view_of(r, &s->in[4]), y = cu_view_of(r, &s->out[0]);
    const cu_qkv_args a = {.x = x.p,
                           .angles = s->angles ? s->angles : angles.p,
                           .x_slot = x.slot,
                           .angles_slot = s->angles ? 0 : angles.slot,
                           .pos = pos.p,
                           .pos_slot = pos.slot,
                           .q_gain = s->w[0] ? s->w[0]->data : 0,
                           .k_gain = s->w[1] ? s->w[1]->data : 0,
                           .cache_k = k.p,
                           .cache_v = v.p,
                           .cache_slot = k.slot,
                           .y = y.p,
                           .y_slot = y.slot,
                           .rows = x.rows,
                           .slots = r->e->n_slots,
                           .heads = op->u.attn.n_heads,
                           .kv_heads = op->u.attn.n_kv_heads,
                           .dim = op->u.attn.head_dim,
                           .first_pos = op->u.attn.first_pos,
                           .capacity = k.rows,
                           .cache_type = cu_place_type(&s->in[2]),
                           .halves = op->u.attn.rope == UT_ROPE_HALVES,
                           .eps = op->u.attn.eps,
                           .n_t = s->in[0].rows_per_t ? r->e->n_t : 0};
    const int32_t heads = a.heads + 2 * a.kv_heads, at_once = CU_THREADS / 32;
    cu_launch(r, CU_K_qkv, (int64_t)x.rows * a.slots, (heads + at_once - 1) / at_once, 1, 0, &a);
}

void cu_launch_nearest(cu_run *r, const cu_step *s)
{
    const cu_view e = cu_view_of(r, &s->in[0]), codes = cu_view_of(r, &s->out[0]);
    const cu_nearest_args a = {.e = e.p,
                               .e_slot = e.slot,
                               .table = s->w[0]->data,
                               .codes = codes.p,
                               .codes_slot = codes.slot,
                               .rows = e.rows,
                               .slots = r->e->n_slots,
                               .dim = e.cols,
                               .n = s->op->w[0]->rows,
                               .ld = s->w[0]->ld,
                               .codes_cols = codes.cols,
                               .col = s->op->u.nearest.col,
                               .euclid = s->op->u.nearest.euclid};
    cu_launch(r, CU_K_nearest, (int64_t)e.rows * a.slots, 1, 1,
              sizeof(float) * (2 * CU_THREADS / 32 + ((size_t)a.dim + 3) / 4 * 4), &a);
}

void cu_launch_sample(cu_run *r, const cu_step *s)
{
    const ut_op *op = s->op;
    const cu_view logits = cu_view_of(r, &s->in[0]), params = cu_view_of(r, &s->in[1]);
    const cu_view rng = cu_view_of(r, &s->in[2]), frame = cu_view_of(r, &s->in[3]);
    const cu_view history = cu_view_of(r, &s->in[4]), noise = cu_view_of(r, &s->in[5]);
    const cu_view dst = cu_view_of(r, &s->out[0]), probs = cu_view_of(r, &s->out[1]);
    const bool shared = logits.cols <= CU_SAMPLE_SHARED;
    const cu_sample_args a = {.logits = logits.p,
                              .logits_slot = logits.slot,
                              .noise = noise.p,
                              .noise_slot = noise.slot,
                              .probs = probs.p,
                              .probs_slot = probs.slot,
                              .params =
                                  params.p + 4 * (uint64_t)(op->u.sample.params_row * UT_SP_COUNT),
                              .params_slot = params.slot,
                              .rng = rng.p,
                              .rng_slot = rng.slot,
                              .frame = frame.p,
                              .frame_slot = frame.slot,
                              .history = history.p,
                              .history_slot = history.slot,
                              .dst = dst.p,
                              .dst_slot = dst.slot,
                              .work = shared ? 0 : r->e->work,
                              .slots = r->e->n_slots,
                              .n = logits.cols,
                              .history_cols = history.cols,
                              .col = op->u.sample.col,
                              .decision = op->u.sample.decision,
                              .penalty = op->u.sample.penalty,
                              .penalty_col = op->u.sample.penalty_col,
                              .id_first = op->u.sample.id_first,
                              .n_range = op->u.sample.n_range,
                              .id_extra = op->u.sample.id_extra,
                              .extra_from_frame = op->u.sample.extra_from_frame,
                              .temper_first = op->u.sample.narrowing == UT_TEMPER_FIRST};
    const size_t fixed = CU_SAMPLE_FIXED;
    cu_launch(r, CU_K_sample, a.slots, 1, 1, fixed + (shared ? 8 * (size_t)CU_SAMPLE_ROW(a.n) : 0),
              &a);
}
