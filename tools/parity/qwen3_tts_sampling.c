/* qwen3_tts_sampling.c - recorded distributions of the talker's choice: each setting is a plan of
 * one decision over a recorded row of logits. */
#include "base/alloc.h"
#include "parity/qwen3_tts.h"
#include <stdio.h>
#include <string.h>

typedef struct sampler {
    ut_state_set set;
    int column, params, rng, frame, chosen;
} sampler;

/* A decision over n codes and a stop, as the talker makes it. */
static ut_plan *sampler_plan(sampler *s, int32_t n, int32_t eos)
{
    s->column = ut_state_set_add(&s->set, "column", UT_I32, 1, 1);
    s->params = ut_state_set_add(&s->set, "params", UT_F32, 1, UT_SP_COUNT);
    s->rng = ut_state_set_add(&s->set, "rng", UT_I32, 1, UT_RNG_COUNT);
    s->frame = ut_state_set_add(&s->set, "frame", UT_I32, 1, 1);
    s->chosen = ut_state_set_add(&s->set, "chosen", UT_I32, 1, n + 1);
    ut_plan *plan = ut_plan_new("sampler", &s->set, NULL);
    if (!plan)
        return NULL;
    const ut_tid probs = ut_op_blank(plan, 1, n + 1);
    ut_plan_output(plan, probs, "probs");
    const ut_sample_args a = {.dst = ut_plan_state(plan, s->column),
                              .params = ut_plan_state(plan, s->params),
                              .rng = ut_plan_state(plan, s->rng),
                              .frame = ut_plan_state(plan, s->frame),
                              .history = ut_plan_state(plan, s->chosen),
                              .noise = UT_NONE,
                              .probs = probs,
                              .penalty = UT_PENALTY_ALL,
                              .narrowing = UT_TEMPER_FIRST,
                              .n_range = n,
                              .id_extra = eos,
                              .extra_from_frame = 2};
    ut_op_sample(plan, ut_plan_input(plan, "logits", UT_F32, 0, 1, n + 1), &a);
    return plan;
}

static double number(ut_json_value object, const char *key)
{
    double v = 0;
    ut_json_opt_number(ut_json_member(object, key), -1e30, 1e30, &v, NULL);
    return v;
}

/* Run the decision: probabilities over the vocabulary in probs [vocab]. */
static utter_status run(parity *p, ut_plan *plan, const sampler *s, const float *logits,
                        const int32_t *chosen, const float *params, int32_t frame, int32_t n,
                        int32_t eos, float *probs)
{
    ut_exec *e = NULL;
    ut_state *state = NULL;
    utter_status st = p->ops->compile(p->backend, plan, 1, 1, &e, &p->err);
    if (st == UTTER_OK)
        st = p->ops->state_new(p->backend, &s->set, 1, &state, &p->err);
    if (st == UTTER_OK) {
        p->ops->state_write(state, s->params, 0, 0, 1, params);
        p->ops->state_write(state, s->frame, 0, 0, 1, &frame);
        p->ops->state_write(state, s->chosen, 0, 0, 1, chosen);
        float *x = p->ops->input(e, ut_plan_find(plan, "logits"), 1);
        memcpy(x, logits, (size_t)n * sizeof *x);
        x[n] = logits[eos];
        st = p->ops->run(e, state, 0, 1, &p->err);
    }
    if (st == UTTER_OK) {
        int64_t rows, cols;
        const float *got = run_output(p, e, "probs", 1, &rows, &cols);
        memcpy(probs, got, (size_t)n * sizeof *probs);
        probs[eos] = got[n];
    }
    if (state)
        p->ops->state_free(state);
    if (e)
        p->ops->exec_free(e);
    return st;
}

static void check_setting(q3_case *c, int i, ut_json_value setting, int32_t eos)
{
    parity *p = c->p;
    const ut_view *probs = golden(p, "samp.%d.probs", i), *logits = golden(p, "gen.cv.logits");
    const ut_view *codes = golden(p, "gen.cv.codes");
    if (!probs)
        return;
    const int32_t row = (int32_t)number(setting, "logits_row_of_gen.cv.logits");
    if (!logits || !codes || row >= logits->dim[0] || row > codes->dim[0]) {
        report_missing(p, probs->name, "the logits or codes it is made of are missing");
        return;
    }
    const int32_t vocab = (int32_t)logits->dim[1], n = vocab - 1024;
    const float params[UT_SP_COUNT] = {[UT_SP_TEMPERATURE] = (float)number(setting, "temperature"),
                                       [UT_SP_TOP_P] = (float)number(setting, "top_p"),
                                       [UT_SP_REPETITION_PENALTY] =
                                           (float)number(setting, "repetition_penalty"),
                                       [UT_SP_TOP_K] = (float)number(setting, "top_k")};
    float *x = golden_f32(logits), *got = need_memory((size_t)vocab, sizeof *got);
    int32_t *picked = golden_i32(codes), *chosen = need_memory((size_t)n + 1, sizeof *chosen);
    for (int32_t f = 0; f < row; f++)
        chosen[picked[f * codes->dim[1]]] = 1;
    sampler s = {0};
    ut_plan *plan = sampler_plan(&s, n, eos);
    if (plan && ut_plan_finish(plan, &p->err) == UTTER_OK &&
        run(p, plan, &s, x + (size_t)row * (size_t)vocab, chosen, params, row, n, eos, got) ==
            UTTER_OK) {
        report_f32(p, probs, got, vocab, 1e-5);
        int32_t kept = 0;
        for (int32_t k = 0; k < vocab; k++)
            kept += got[k] > 0;
        char line[64];
        snprintf(line, sizeof line, "samp.%d: %d entries kept", i, (int)kept);
        report_bool(p, line, kept == (int32_t)number(setting, "kept"));
    } else {
        report_missing(p, probs->name, p->err.msg);
    }
    ut_plan_free(plan);
    ut_free(x);
    ut_free(got);
    ut_free(picked);
    ut_free(chosen);
}

void q3_check_sampling(q3_case *c)
{
    const ut_json_value cases = ut_json_member(ut_json_root(c->doc), "cases");
    const ut_json_value list = ut_json_member(cases, "_sampling");
    const q3_model *q = q3_open(c, "custom_voice");
    for (size_t i = 0; q && i < ut_json_size(list); i++)
        check_setting(c, (int)i, ut_json_item(list, i), q->m->ar.stop_id);
}
