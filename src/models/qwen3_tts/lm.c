/* lm.c - weights and plans of the talker and the code predictor (specification, sections 2, 3, 6
 * and 7; reference: modeling_qwen3_tts.py of the package qwen_tts). */
#include "models/qwen3_tts/lm.h"
#include <stdio.h>
#include <string.h>

#define DEFAULT_POSITIONS 8192 /* eleven minutes; a KV cache for all that is possible is large */
#define MIN_PICKS         2    /* first codes that are chosen before speech may end */

/* ---- Weights -------------------------------------------------------------------------------- */

static void set_sizes(ut_tf *t, const ut_q3_tf_config *c)
{
    t->n_layers = c->num_hidden_layers;
    t->dim = c->hidden_size;
    t->n_heads = c->num_attention_heads;
    t->n_kv_heads = c->num_key_value_heads;
    t->head_dim = c->head_dim;
    t->ffn_dim = c->intermediate_size;
    t->norm_eps = c->norm_eps;
    t->rope_base = c->rope_theta;
    t->rope = UT_ROPE_HALVES;
    t->rope_f32 = true;
}

static void load_text(ut_loader *l, ut_q3_lm *lm, const ut_q3_config *c)
{
    static const char prefix[] = "talker.text_projection.linear_";
    const int32_t wide = c->text_hidden_size, h = c->talker.hidden_size;
    lm->text_embedding =
        ut_load_matrix(l, c->text_vocab_size, wide, "talker.model.text_embedding.weight");
    lm->fc1 = ut_load_matrix(l, wide, wide, "%sfc1.weight", prefix);
    lm->fc1_bias = ut_load_vector(l, wide, "%sfc1.bias", prefix);
    lm->fc2 = ut_load_matrix(l, h, wide, "%sfc2.weight", prefix);
    lm->fc2_bias = ut_load_vector(l, h, "%sfc2.bias", prefix);
}

/* The rows of the head that the sampler of the reference does not suppress: the codes, and stop. */
static void load_head(ut_loader *l, ut_q3_lm *lm, const ut_q3_config *c)
{
    lm->head_all =
        ut_load_matrix(l, c->vocab_size, c->talker.hidden_size, "talker.codec_head.weight");
    if (l->status != UTTER_OK)
        return;
    const ut_weight *stop = ut_weight_slice(l, "stop", lm->head_all, c->codec_eos, 1, NULL);
    lm->head = ut_weight_slice(l, lm->head_all->name, lm->head_all, 0, lm->n_codes, stop);
}

static void load_predictor(ut_loader *l, ut_q3_lm *lm, const ut_q3_config *c)
{
    static const char prefix[] = "talker.code_predictor.";
    const int32_t h = c->talker.hidden_size, small = c->predictor.hidden_size;
    lm->group[0] = lm->embeddings = lm->codec_embedding;
    lm->sizes[0] = c->vocab_size;
    for (int32_t g = 1; l->status == UTTER_OK && g < lm->n_groups; g++) {
        lm->sizes[g] = c->code_vocab_size;
        lm->group[g] = ut_load_matrix(l, c->code_vocab_size, h, "%smodel.codec_embedding.%d.weight",
                                      prefix, (int)g - 1);
        lm->heads[g - 1] =
            ut_load_matrix(l, c->code_vocab_size, small, "%slm_head.%d.weight", prefix, (int)g - 1);
        if (l->status == UTTER_OK)
            lm->embeddings = ut_weight_slice(l, "codec embeddings", lm->embeddings, 0,
                                             lm->embeddings->rows, lm->group[g]);
    }
    if (h != small || ut_load_has(l, "%ssmall_to_mtp_projection.weight", prefix)) {
        lm->mtp = ut_load_matrix(l, small, h, "%ssmall_to_mtp_projection.weight", prefix);
        lm->mtp_bias = ut_load_vector(l, small, "%ssmall_to_mtp_projection.bias", prefix);
    }
    lm->predictor_norm = ut_load_vector(l, small, "%smodel.norm.weight", prefix);
}

static bool owned(const char *name, void *user)
{
    (void)user;
    return strncmp(name, "talker.", 7) == 0;
}

void ut_q3_lm_load(ut_loader *l, ut_q3_lm *lm, const ut_q3_config *c,
                   const ut_model_options *options, ut_ar *ar)
{
    lm->n_groups = c->num_code_groups;
    lm->n_codes = c->vocab_size - UT_Q3_EXTRA_IDS;
    lm->hidden = c->talker.hidden_size;
    lm->eos = c->codec_eos;
    lm->pad = c->tts_pad;
    lm->takes_speaker = c->kind == UT_Q3_BASE;
    lm->capacity = c->max_positions < DEFAULT_POSITIONS ? c->max_positions : DEFAULT_POSITIONS;
    if (options->max_positions > 0)
        lm->capacity =
            options->max_positions < c->max_positions ? options->max_positions : c->max_positions;

    l->least_bits = 4;
    load_text(l, lm, c);
    lm->codec_embedding =
        ut_load_matrix(l, c->vocab_size, lm->hidden, "talker.model.codec_embedding.weight");
    lm->norm = ut_load_vector(l, lm->hidden, "talker.model.norm.weight");
    load_head(l, lm, c);
    lm->state = ut_ar_states_load(l, &ar->states, 1 + lm->n_groups, 2);
    lm->chosen = ut_load_state(l, &ar->states, "chosen", UT_I32, 1, lm->n_codes + 1);
    lm->text = ut_load_state(l, &ar->states, "text", UT_I32, lm->capacity, 1);

    const ut_tf_options tf = {.qk_norm = true, .names = &ut_tf_names_hf};
    set_sizes(&lm->talker, &c->talker);
    set_sizes(&lm->predictor, &c->predictor);
    ut_tf_load(l, &lm->talker, &tf, "talker.model.", &ar->states, ut_ar_cache_rows(lm->capacity));
    l->least_bits = 8; /* an error of a code is in all codes after it */
    load_predictor(l, lm, c);
    ut_tf_load(l, &lm->predictor, &tf, "talker.code_predictor.model.", &ar->states, lm->n_groups);
    ut_loader_check_extra(l, owned, NULL);

    ar->columns = 1 + lm->n_groups;
    ar->capacity = lm->capacity;
    ar->max_prompt = ut_ar_max_prompt(lm->capacity);
    ar->pos = lm->state.pos;
    ar->n_caches = ut_tf_caches(&lm->talker, &ar->first_cache);
    ar->ring = lm->state.ring;
    ar->params = lm->state.params;
    ar->rng = lm->state.rng;
    ar->text = lm->text;
    ar->text_pad = lm->pad;
    ar->stop_id = lm->eos;
    ar->stop_from_frame = MIN_PICKS;
    ar->first_code_col = 1;
}

/* ---- Plans ---------------------------------------------------------------------------------- */

/* Decision g chooses the code of group g; the first may choose to stop. */
static void sample(ut_ar_writer *w, ut_tid logits, int32_t g)
{
    const ut_q3_lm *lm = w->lm;
    ut_sample_args a = ut_ar_decision(w, g);
    a.narrowing = UT_TEMPER_FIRST;
    if (g == 0) {
        a.penalty = UT_PENALTY_ALL;
        a.history = ut_plan_state(w->p, lm->chosen);
        a.n_range = lm->n_codes;
        a.id_extra = lm->eos;
        a.extra_from_frame = MIN_PICKS;
    } else {
        a.col = 1 + g;
        a.params_row = 1;
        a.n_range = lm->sizes[g];
    }
    ut_ar_sample(w, logits, &a);
}

/* The talker's width to the predictor's. */
static ut_tid to_predictor(const ut_ar_writer *w, ut_tid x)
{
    const ut_q3_lm *lm = w->lm;
    const ut_linear_args a = {.w = lm->mtp, .bias = lm->mtp_bias, .residual = UT_NONE};
    return lm->mtp ? ut_op_linear(w->p, x, &a) : x;
}

/* Codes 1 .. G-1 of a frame from its hidden state [1, H] and code 0, which is in the column. */
static void emit_predictor(ut_ar_writer *w, ut_tid hidden)
{
    const ut_q3_lm *lm = w->lm;
    ut_plan *p = w->p;
    /* positions 0 (the hidden state) and 1 (code 0) are known together: one pass for both */
    ut_tid x = ut_op_blank(p, 2, lm->hidden);
    ut_op_copy_into(p, x, 0, hidden, 0, 1);
    ut_op_gather_into(p, x, 1, w->column, lm->group[0], 1, 1, &lm->sizes[0]);
    for (int32_t g = 1; g < lm->n_groups; g++) {
        if (g > 1)
            x = ut_op_gather(p, w->column, lm->group[g - 1], g, 1, &lm->sizes[g - 1]);
        ut_tid y = to_predictor(w, x);
        y = ut_tf_emit(p, &lm->predictor, y, UT_NONE, g == 1 ? 0 : g);
        y = ut_op_rms_norm(p, ut_op_last_row(p, y), lm->predictor_norm, lm->predictor.norm_eps);
        const ut_tid logits = ut_op_matmul(p, y, lm->heads[g - 1], UT_NONE);
        ut_plan_name(p, logits, "predictor.logits%d", (int)g);
        sample(w, logits, g);
    }
}

/* From the talker's normed last row to a finished frame in the ring. */
static void emit_frame(ut_ar_writer *w, ut_tid hidden)
{
    const ut_q3_lm *lm = w->lm;
    ut_plan *p = w->p;
    if (ut_plan_wants(p, "talker.logits"))
        ut_plan_name(p, ut_op_matmul(p, hidden, lm->head_all, UT_NONE), "talker.logits");
    sample(w, ut_op_matmul(p, hidden, lm->head, UT_NONE), 0);
    ut_op_token_code(p, w->column, 0, lm->n_codes);
    emit_predictor(w, hidden);
    ut_ar_end_frame(w, UT_NONE);
}

/* Text tokens ids[:, col] and codes[:, 1 .. G] (and the speaker) summed, through the talker: its
 * normed rows. */
static ut_tid emit_talker(const ut_ar_writer *w, ut_tid ids, ut_tid codes, ut_tid speaker)
{
    const ut_q3_lm *lm = w->lm;
    ut_plan *p = w->p;
    const ut_tid pos = ut_plan_state(p, lm->state.pos);
    const ut_linear_args up = {
        .w = lm->fc1, .bias = lm->fc1_bias, .act = UT_ACT_SILU, .residual = UT_NONE};
    const ut_tid sum = ut_op_gather_sum(p, codes, lm->embeddings, 1, lm->n_groups, lm->sizes, 1.0f,
                                        UT_NONE, speaker);
    const ut_linear_args down = {.w = lm->fc2, .bias = lm->fc2_bias, .residual = sum};
    ut_tid x = ut_op_gather(p, ids, lm->text_embedding, 0, 1, &lm->text_embedding->rows);
    x = ut_op_linear(p, ut_op_linear(p, x, &up), &down);
    ut_plan_name(p, x, "talker.embed");
    x = ut_tf_emit(p, &lm->talker, x, pos, 0);
    ut_op_advance(p, pos, 0, 1);
    return x;
}

static ut_tid talker_norm(const ut_ar_writer *w, ut_tid x)
{
    const ut_q3_lm *lm = w->lm;
    return ut_op_rms_norm(w->p, x, lm->norm, lm->talker.norm_eps);
}

static void write_prefill(ut_ar_writer *w)
{
    const ut_q3_lm *lm = w->lm;
    ut_plan *p = w->p;
    const ut_tid ids = ut_plan_input(p, "tokens", UT_I32, 1, 0, 1 + lm->n_groups);
    const ut_tid speaker =
        lm->takes_speaker ? ut_plan_input(p, "speaker", UT_F32, 0, 1, lm->hidden) : UT_NONE;
    const ut_tid y = emit_talker(w, ids, ids, speaker);
    if (ut_plan_wants(p, "talker.hidden_all"))
        ut_plan_name(p, talker_norm(w, y), "talker.hidden_all");
    emit_frame(w, talker_norm(w, ut_op_last_row(p, y)));
}

static void write_frame(ut_ar_writer *w)
{
    const ut_q3_lm *lm = w->lm;
    ut_plan *p = w->p;
    /* frame f >= 1 hears the text token that row f - 1 of the state holds */
    const ut_tid text = ut_op_ring_get(p, ut_plan_state(p, lm->text), w->frame, -1, lm->pad);
    const ut_tid hidden = talker_norm(w, emit_talker(w, text, w->column, UT_NONE));
    ut_plan_name(p, hidden, "talker.hidden");
    emit_frame(w, hidden);
}

utter_status ut_q3_lm_plans(const ut_q3_lm *lm, const ut_model_options *options, ut_ar *ar,
                            ut_err *err)
{
    ut_ar_writer w = {.lm = lm,
                      .set = &ar->states,
                      .states = &lm->state,
                      .taps = options->taps,
                      .external_noise = options->external_noise};
    const utter_status st = ut_ar_write(&w, "qwen3-tts prefill", write_prefill, &ar->prefill, err);
    return st == UTTER_OK ? ut_ar_write(&w, "qwen3-tts frame", write_frame, &ar->frame, err) : st;
}
