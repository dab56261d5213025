/* ar.c - see ar.h. */
#include "nn/ar.h"

#define RING_FRAMES 64

ut_ar_states ut_ar_states_load(ut_loader *l, ut_state_set *set, int32_t columns, int32_t n_kinds)
{
    return (ut_ar_states){
        .pos = ut_load_state(l, set, "pos", UT_I32, 1, 1),
        .frame = ut_load_state(l, set, "frame", UT_I32, 1, 1),
        .column = ut_load_state(l, set, "column", UT_I32, 1, columns),
        .params = ut_load_state(l, set, "params", UT_F32, n_kinds, UT_SP_COUNT),
        .rng = ut_load_state(l, set, "rng", UT_I32, 1, UT_RNG_COUNT),
        .ring = ut_load_state(l, set, "ring", UT_I32, RING_FRAMES, columns),
    };
}

int32_t ut_ar_max_prompt(int32_t capacity)
{
    return capacity > 4096 ? capacity - 2048 : capacity * 3 / 4;
}

int32_t ut_ar_cache_rows(int32_t capacity)
{
    return (capacity + 63) / 64 * 64;
}

utter_status ut_ar_write(ut_ar_writer *w, const char *name, void (*write)(ut_ar_writer *w),
                         ut_plan **out, ut_err *err)
{
    *out = w->p = ut_plan_new(name, w->set, w->taps);
    if (!w->p)
        return ut_fail(err, UTTER_ERR_NOMEM, "no memory for a plan");
    w->column = ut_plan_state(w->p, w->states->column);
    w->frame = ut_plan_state(w->p, w->states->frame);
    write(w);
    return ut_plan_finish(w->p, err);
}

ut_sample_args ut_ar_decision(const ut_ar_writer *w, int32_t decision)
{
    return (ut_sample_args){.dst = w->column,
                            .params = ut_plan_state(w->p, w->states->params),
                            .rng = ut_plan_state(w->p, w->states->rng),
                            .frame = w->frame,
                            .history = UT_NONE,
                            .noise = UT_NONE,
                            .probs = UT_NONE,
                            .decision = decision,
                            .id_extra = -1};
}

void ut_ar_sample(ut_ar_writer *w, ut_tid logits, ut_sample_args *a)
{
    if (w->external_noise)
        a->noise = ut_plan_input(w->p, ut_plan_printf(w->p, "noise.%d", (int)a->decision), UT_F32,
                                 0, 1, a->n_range + (a->id_extra >= 0));
    ut_op_sample(w->p, logits, a);
}

void ut_ar_end_frame(ut_ar_writer *w, ut_tid history)
{
    ut_op_ring_put(w->p, ut_plan_state(w->p, w->states->ring), history, w->column, w->frame);
    ut_op_advance(w->p, w->frame, 1, 0);
}
