/* lm.c - weights and plans of the DualAR language model (specification, sections 2 to 4; reference:
 * fish_speech/models/text2semantic/llama.py and inference.py, S1 era). */
#include "models/s1_mini/lm.h"
#include <math.h>
#include <stdio.h>

/* ---- Weights -------------------------------------------------------------------------------- */

static void set_sizes(ut_tf *t, const ut_s1_tf_config *s, const ut_s1_config *c)
{
    t->n_layers = s->n_layer;
    t->dim = s->dim;
    t->n_heads = s->n_head;
    t->n_kv_heads = s->n_local_heads;
    t->head_dim = s->head_dim;
    t->ffn_dim = s->intermediate_size;
    t->norm_eps = c->norm_eps;
    t->rope_base = c->rope_base;
}

static ut_tf_options tf_options(const ut_s1_tf_config *s)
{
    return (ut_tf_options){.qkv_bias = s->attention_qkv_bias,
                           .o_bias = s->attention_o_bias,
                           .qk_norm = s->attention_qk_norm};
}

/* The rows of the head that are scored: all, or those that can become audio, and stop. */
static void load_head(ut_loader *l, ut_s1_lm *lm, const ut_s1_config *c, bool exact)
{
    const ut_weight *all = lm->embeddings;
    if (!c->tie_word_embeddings)
        all = ut_load_matrix(l, c->vocab_size, c->slow.dim, "output.weight");
    if (l->status != UTTER_OK)
        return;
    if (exact) {
        lm->output = all;
        lm->n_range = c->vocab_size;
        lm->id_extra = -1;
        return;
    }
    const ut_weight *stop = ut_weight_slice(l, "output.weight", all, lm->ids.im_end, 1, NULL);
    lm->id_first = lm->ids.semantic_begin;
    lm->n_range = lm->ids.semantic_end - lm->ids.semantic_begin + 1;
    lm->id_extra = lm->ids.im_end;
    lm->output = ut_weight_slice(l, "output.weight", all, lm->id_first, lm->n_range, stop);
}

static void load_fast(ut_loader *l, ut_s1_lm *lm, const ut_s1_config *c)
{
    set_sizes(&lm->fast, &c->fast, c);
    if (c->fast.dim != c->slow.dim) {
        lm->fast_in = ut_load_matrix(l, c->fast.dim, c->slow.dim, "fast_project_in.weight");
        lm->fast_in_bias = ut_load_vector(l, c->fast.dim, "fast_project_in.bias");
    }
    lm->fast_embeddings =
        ut_load_matrix(l, c->codebook_size, c->fast.dim, "fast_embeddings.weight");
    lm->fast_norm = ut_load_vector(l, c->fast.dim, "fast_norm.weight");
    lm->fast_output_all = ut_load_matrix(l, c->codebook_size, c->fast.dim, "fast_output.weight");
    if (l->status == UTTER_OK)
        lm->fast_output =
            ut_weight_slice(l, "fast_output.weight", lm->fast_output_all, 0, c->fast_codes, NULL);
}

static bool owned(const char *name, void *user)
{
    int layer;
    (void)user;
    return sscanf(name, "layers.%d.", &layer) == 1 || sscanf(name, "fast_layers.%d.", &layer) == 1;
}

void ut_s1_lm_load(ut_loader *l, ut_s1_lm *lm, const ut_s1_config *c, const ut_s1_ids *ids,
                   const ut_model_options *options, ut_ar *ar)
{
    lm->ids = *ids;
    lm->codebook_size = c->codebook_size;
    lm->num_codebooks = c->num_codebooks;
    lm->fast_codes = c->fast_codes;
    lm->embed_scale =
        c->scale_codebook_embeddings ? 1.0f / sqrtf((float)(c->num_codebooks + 1)) : 1.0f;
    lm->capacity = c->max_seq_len;
    if (options->max_positions > 0 && options->max_positions < lm->capacity)
        lm->capacity = options->max_positions;

    l->least_bits = 4;
    lm->embeddings = ut_load_matrix(l, c->vocab_size, c->slow.dim, "embeddings.weight");
    lm->codebook_embeddings = ut_load_matrix(l, c->num_codebooks * c->codebook_size, c->slow.dim,
                                             "codebook_embeddings.weight");
    lm->norm = ut_load_vector(l, c->slow.dim, "norm.weight");
    load_head(l, lm, c, options->exact_head);
    const int32_t columns = 1 + c->num_codebooks;
    lm->state = ut_ar_states_load(l, &ar->states, columns, 1);
    lm->history = ut_load_state(l, &ar->states, "history", UT_I32, UT_HISTORY_FRAMES, columns);

    set_sizes(&lm->slow, &c->slow, c);
    lm->slow.label = "slow";
    const ut_tf_options slow = tf_options(&c->slow), fast = tf_options(&c->fast);
    ut_tf_load(l, &lm->slow, &slow, "", &ar->states, ut_ar_cache_rows(lm->capacity));
    l->least_bits = 8; /* an error of a code is in all codes after it */
    load_fast(l, lm, c);
    ut_tf_load(l, &lm->fast, &fast, "fast_", &ar->states, c->num_codebooks);
    ut_loader_check_extra(l, owned, NULL);

    ar->columns = columns;
    ar->capacity = lm->capacity;
    ar->max_prompt = ut_ar_max_prompt(lm->capacity);
    ar->pos = lm->state.pos;
    ar->n_caches = ut_tf_caches(&lm->slow, &ar->first_cache);
    ar->ring = lm->state.ring;
    ar->params = lm->state.params;
    ar->rng = lm->state.rng;
    ar->text = -1;
    ar->stop_id = ids->im_end;
    ar->stop_from_frame = 1;
    ar->first_code_col = 1;
}

/* ---- Plans ---------------------------------------------------------------------------------- */

/* Decision 0 is the token, decision k codebook k. */
static void sample(ut_ar_writer *w, ut_tid logits, int32_t decision)
{
    const ut_s1_lm *lm = w->lm;
    ut_sample_args a = ut_ar_decision(w, decision);
    a.history = ut_plan_state(w->p, lm->history);
    if (decision == 0) {
        /* an indexing slip of the reference: the token is penalised by the oldest frame of the
         * window, all of its columns taken as ids */
        a.penalty = UT_PENALTY_FIRST_COLUMN;
        a.id_first = lm->id_first;
        a.n_range = lm->n_range;
        a.id_extra = lm->id_extra;
    } else {
        a.col = 1 + decision;
        a.penalty = UT_PENALTY_CODEBOOK;
        a.penalty_col = 1 + decision;
        a.n_range = lm->fast_codes;
    }
    ut_ar_sample(w, logits, &a);
}

/* Logits over the whole codebook at a position, for tests. */
static void tap_fast_logits(const ut_ar_writer *w, ut_tid normed, int32_t position)
{
    const ut_s1_lm *lm = w->lm;
    char name[32];
    snprintf(name, sizeof name, "fast.logits%d", (int)position);
    if (ut_plan_wants(w->p, name))
        ut_plan_name(w->p, ut_op_matmul(w->p, normed, lm->fast_output_all, UT_NONE), "%s", name);
}

/* Codes 1 .. Q-1 of a frame from its hidden state [1, dim] and code 0, which is in the column. */
static void emit_fast(ut_ar_writer *w, ut_tid hidden)
{
    const ut_s1_lm *lm = w->lm;
    ut_plan *p = w->p;
    if (lm->num_codebooks == 1)
        return;
    ut_tid h = hidden;
    if (lm->fast_in) {
        const ut_linear_args in = {.w = lm->fast_in, .bias = lm->fast_in_bias, .residual = UT_NONE};
        h = ut_op_linear(p, hidden, &in);
    }
    /* positions 0 (the hidden state) and 1 (code 0) are known together: one pass for both */
    ut_tid x = ut_op_blank(p, 2, lm->fast.dim);
    ut_op_copy_into(p, x, 0, h, 0, 1);
    ut_op_gather_into(p, x, 1, w->column, lm->fast_embeddings, 1, 1, &lm->codebook_size);
    for (int32_t k = 1; k < lm->num_codebooks; k++) {
        if (k > 1)
            x = ut_op_gather(p, w->column, lm->fast_embeddings, k, 1, &lm->codebook_size);
        const ut_tid y = ut_tf_emit(p, &lm->fast, x, UT_NONE, k == 1 ? 0 : k);
        if (k == 1 && ut_plan_wants(p, "fast.logits0")) {
            const ut_tid first = ut_op_blank(p, 1, lm->fast.dim);
            ut_op_copy_into(p, first, 0, y, 0, 1);
            tap_fast_logits(w, ut_op_rms_norm(p, first, lm->fast_norm, lm->fast.norm_eps), 0);
        }
        const ut_tid normed =
            ut_op_rms_norm(p, ut_op_last_row(p, y), lm->fast_norm, lm->fast.norm_eps);
        tap_fast_logits(w, normed, k);
        sample(w, ut_op_matmul(p, normed, lm->fast_output, UT_NONE), k);
    }
}

/* From the slow transformer's last row to a finished frame in the ring. */
static void emit_frame(ut_ar_writer *w, ut_tid hidden)
{
    const ut_s1_lm *lm = w->lm;
    ut_plan *p = w->p;
    ut_plan_name(p, hidden, "slow.hidden");
    const ut_tid normed = ut_op_rms_norm(p, hidden, lm->norm, lm->slow.norm_eps);
    ut_plan_name(p, normed, "slow.normed");
    const ut_tid logits = ut_op_matmul(p, normed, lm->output, UT_NONE);
    ut_plan_name(p, logits, "slow.logits");
    sample(w, logits, 0);
    ut_op_token_code(p, w->column, lm->ids.semantic_begin, lm->codebook_size);
    emit_fast(w, hidden);
    ut_ar_end_frame(w, ut_plan_state(p, lm->history));
}

static ut_tid emit_slow(const ut_ar_writer *w, ut_tid ids)
{
    const ut_s1_lm *lm = w->lm;
    ut_plan *p = w->p;
    const ut_tid pos = ut_plan_state(p, lm->state.pos);
    const ut_tid x =
        ut_op_embed_sum(p, ids, lm->embeddings, lm->codebook_embeddings, lm->ids.semantic_begin,
                        lm->ids.semantic_end, lm->codebook_size, lm->embed_scale);
    ut_plan_name(p, x, "slow.embed");
    const ut_tid y = ut_tf_emit(p, &lm->slow, x, pos, 0);
    ut_op_advance(p, pos, 0, 1);
    return y;
}

static void write_prefill(ut_ar_writer *w)
{
    const ut_s1_lm *lm = w->lm;
    ut_plan *p = w->p;
    const ut_tid ids = ut_plan_input(p, "tokens", UT_I32, 1, 0, 1 + lm->num_codebooks);
    const ut_tid y = emit_slow(w, ids);
    if (ut_plan_wants(p, "slow.logits_all")) {
        const ut_tid normed = ut_op_rms_norm(p, y, lm->norm, lm->slow.norm_eps);
        ut_plan_name(p, ut_op_matmul(p, normed, lm->output, UT_NONE), "slow.logits_all");
    }
    emit_frame(w, ut_op_last_row(p, y));
}

static void write_frame(ut_ar_writer *w)
{
    emit_frame(w, emit_slow(w, w->column));
}

utter_status ut_s1_lm_plans(const ut_s1_lm *lm, const ut_model_options *options, ut_ar *ar,
                            ut_err *err)
{
    ut_ar_writer w = {.lm = lm,
                      .set = &ar->states,
                      .states = &lm->state,
                      .taps = options->taps,
                      .external_noise = options->external_noise};
    const utter_status st = ut_ar_write(&w, "s1-mini prefill", write_prefill, &ar->prefill, err);
    return st == UTTER_OK ? ut_ar_write(&w, "s1-mini frame", write_frame, &ar->frame, err) : st;
}
