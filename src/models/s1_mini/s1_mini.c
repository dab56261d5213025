/* s1_mini.c - opening an S1-mini checkpoint directory, and its prompts (specification, sections 1
 * and 6). */
#include "models/s1_mini/s1_mini.h"
#include "base/alloc.h"
#include "base/os.h"
#include "models/s1_mini/codec.h"
#include "models/s1_mini/lm.h"
#include "text/bpe.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct s1_mini {
    ut_model head;
    ut_s1_config config;
    ut_bpe *bpe;
    ut_s1_ids ids;
    int32_t interleave;
    ut_weights *lm_weights, *codec_weights;
    ut_arena *arena;
    ut_s1_lm lm;
    ut_s1_codec codec;
} s1_mini;

static void s1_free(ut_model *m)
{
    s1_mini *s = (s1_mini *)m;
    if (!s)
        return;
    ut_plan_free(m->ar.prefill);
    ut_plan_free(m->ar.frame);
    ut_plan_free(m->codec.decode);
    ut_plan_free(m->codec.encode);
    ut_bpe_free(s->bpe);
    ut_weights_close(s->lm_weights);
    ut_weights_close(s->codec_weights);
    ut_arena_free(s->arena);
    ut_free(s);
}

static void s1_release_pages(const ut_model *m)
{
    const s1_mini *s = (const s1_mini *)m;
    ut_weights_release_pages(s->lm_weights);
    ut_weights_release_pages(s->codec_weights);
}

/* ---- Opening -------------------------------------------------------------------------------- */

/* Specification, section 1: keys lose every "model." if the first one starts with it; keys that
 * contain "audio_" are not of the language model. */
static bool rename_lm(const char *old_name, char *new_name, size_t size, void *user)
{
    const bool strip = *(const bool *)user;
    if (strstr(old_name, "audio_"))
        return false;
    size_t n = 0;
    for (const char *s = old_name; *s && n + 1 < size;) {
        if (strip && strncmp(s, "model.", 6) == 0)
            s += 6;
        else
            new_name[n++] = *s++;
    }
    new_name[n] = 0;
    return true;
}

/* If any key contains "generator", only keys with "generator." count, without it. */
static bool rename_codec(const char *old_name, char *new_name, size_t size, void *user)
{
    (void)user;
    if (!strstr(old_name, "generator."))
        return false;
    size_t n = 0;
    for (const char *s = old_name; *s && n + 1 < size;) {
        if (strncmp(s, "generator.", 10) == 0)
            s += 10;
        else
            new_name[n++] = *s++;
    }
    new_name[n] = 0;
    return true;
}

static utter_status open_weights(s1_mini *s, const char *dir, ut_err *err)
{
    char *lm = ut_path_join(dir, "model.pth"), *codec = ut_path_join(dir, "codec.pth");
    utter_status st = UTTER_OK;
    if (!lm || !codec)
        st = ut_fail(err, UTTER_ERR_NOMEM, "%s: no memory", dir);
    if (st == UTTER_OK)
        st = ut_weights_open(&s->lm_weights, lm, err);
    if (st == UTTER_OK)
        st = ut_weights_open(&s->codec_weights, codec, err);
    ut_free(lm);
    ut_free(codec);
    if (st != UTTER_OK)
        return st;

    bool strip = ut_weights_count(s->lm_weights) > 0 &&
                 strncmp(ut_weights_at(s->lm_weights, 0)->name, "model.", 6) == 0;
    bool generator = false;
    for (size_t i = 0; i < ut_weights_count(s->codec_weights); i++)
        generator |= strstr(ut_weights_at(s->codec_weights, i)->name, "generator") != NULL;
    st = ut_weights_rename(s->lm_weights, rename_lm, &strip, err);
    if (st == UTTER_OK && generator)
        st = ut_weights_rename(s->codec_weights, rename_codec, NULL, err);
    return st;
}

/* "<|semantic:17|>" -> 17; -1 for other names. */
static int32_t semantic_index(const char *name, size_t n)
{
    static const char prefix[] = "<|semantic:";
    const size_t k = sizeof prefix - 1;
    if (n < k + 3 || strncmp(name, prefix, k) != 0)
        return -1;
    return (int32_t)strtol(name + k, NULL, 10);
}

static utter_status find_ids(s1_mini *s, const char *dir, ut_err *err)
{
    s->ids.im_end = ut_bpe_special(s->bpe, "<|im_end|>");
    s->interleave = ut_bpe_special(s->bpe, "<|interleave|>");
    s->ids.semantic_begin = ut_bpe_special(s->bpe, "<|semantic:0|>");
    int32_t largest = -1;
    for (int32_t id = ut_bpe_n_ranks(s->bpe); id < ut_bpe_size(s->bpe); id++) {
        size_t n;
        const char *name = ut_bpe_token(s->bpe, id, &n);
        const int32_t index = name ? semantic_index(name, n) : -1;
        if (index > largest) {
            largest = index;
            s->ids.semantic_end = id;
        }
    }
    if (s->ids.im_end < 0 || s->interleave < 0 || s->ids.semantic_begin < 0)
        return ut_fail(err, UTTER_ERR_MODEL,
                       "%s/special_tokens.json: <|im_end|>, <|interleave|> or <|semantic:0|> is "
                       "missing",
                       dir);
    if (s->ids.semantic_end - s->ids.semantic_begin + 1 > s->config.codebook_size ||
        s->ids.semantic_end < s->ids.semantic_begin)
        return ut_fail(err, UTTER_ERR_MODEL,
                       "%s/special_tokens.json: semantic tokens are %d..%d, expected at most "
                       "codebook_size = %d",
                       dir, (int)s->ids.semantic_begin, (int)s->ids.semantic_end,
                       (int)s->config.codebook_size);
    if (ut_bpe_size(s->bpe) > s->config.vocab_size)
        return ut_fail(err, UTTER_ERR_MODEL,
                       "%s: the tokenizer has %d tokens, expected at most "
                       "vocab_size = %d",
                       dir, (int)ut_bpe_size(s->bpe), (int)s->config.vocab_size);
    return UTTER_OK;
}

static utter_status open_tokenizer(s1_mini *s, const char *dir, ut_err *err)
{
    char *ranks = ut_path_join(dir, "tokenizer.tiktoken");
    char *special = ut_path_join(dir, "special_tokens.json");
    utter_status st = ranks && special
                          ? ut_bpe_load_tiktoken(&s->bpe, ranks, special, UT_PRESPLIT_S1, err)
                          : ut_fail(err, UTTER_ERR_NOMEM, "%s: no memory", dir);
    ut_free(ranks);
    ut_free(special);
    return st == UTTER_OK ? find_ids(s, dir, err) : st;
}

static utter_status load_tensors(s1_mini *s, const ut_model_options *options, ut_err *err)
{
    ut_model *m = &s->head;
    ut_loader l;
    ut_loader_init(&l, s->lm_weights, s->arena, err);
    if (l.status == UTTER_OK)
        ut_s1_lm_load(&l, &s->lm, &s->config, &s->ids, options, &m->ar);
    ut_loader_end(&l);
    if (l.status != UTTER_OK)
        return l.status;
    m->info.n_params_lm = l.n_params;

    ut_loader_init(&l, s->codec_weights, s->arena, err);
    if (l.status == UTTER_OK)
        ut_s1_codec_load(&l, &s->codec, &s->config, &m->codec);
    ut_loader_end(&l);
    m->info.n_params_codec = l.n_params;
    return l.status;
}

static void describe(s1_mini *s, const char *dir)
{
    ut_model *m = &s->head;
    const ut_s1_config *c = &s->config;
    m->info.family = ut_s1_mini_ops.family;
    snprintf(m->info.dir, sizeof m->info.dir, "%s", dir);
    m->info.sample_rate = c->sample_rate;
    m->voices = UT_VOICE_REFERENCE | UT_VOICE_NONE;
    snprintf(m->info.summary, sizeof m->info.summary,
             "slow %d layers of %d, fast %d layers of %d, vocabulary %d, %d codebooks, frame of %d "
             "samples (%.2f Hz), %d positions",
             (int)c->slow.n_layer, (int)c->slow.dim, (int)c->fast.n_layer, (int)c->fast.dim,
             (int)c->vocab_size, (int)c->num_codebooks, (int)m->codec.hop_samples,
             (double)c->sample_rate / m->codec.hop_samples, (int)m->ar.capacity);
    m->defaults = (ut_model_defaults){.temperature = c->temperature,
                                      .top_p = c->top_p,
                                      .repetition_penalty = c->repetition_penalty,
                                      .max_chunk_chars = c->max_chunk_chars,
                                      .frames_per_char_limit = c->frames_per_char_limit,
                                      .runaway_s = c->runaway_s,
                                      .voice = c->default_voice[0] ? c->default_voice : NULL};
}

static utter_status s1_open(ut_model **out, const char *dir, const ut_model_options *options,
                            ut_err *err)
{
    static const ut_model_options defaults;
    if (!options)
        options = &defaults;
    *out = NULL;
    s1_mini *s = ut_calloc(1, sizeof *s);
    if (!s || !(s->arena = ut_arena_new((size_t)1 << 20))) {
        ut_free(s);
        return ut_fail(err, UTTER_ERR_NOMEM, "%s: no memory", dir);
    }
    s->head.ops = &ut_s1_mini_ops;
    utter_status st = ut_s1_config_read(&s->config, dir, err);
    if (st == UTTER_OK)
        st = open_tokenizer(s, dir, err);
    if (st == UTTER_OK)
        st = open_weights(s, dir, err);
    if (st == UTTER_OK)
        st = load_tensors(s, options, err);
    if (st == UTTER_OK)
        st = ut_s1_lm_plans(&s->lm, options, &s->head.ar, err);
    if (st == UTTER_OK)
        st = ut_s1_codec_plans(&s->codec, options, &s->head.codec, err);
    if (st != UTTER_OK) {
        s1_free(&s->head);
        return st;
    }
    describe(s, dir);
    *out = &s->head;
    return UTTER_OK;
}

/* ---- Prompts -------------------------------------------------------------------------------- */

static bool put_column(const s1_mini *s, ut_buf *out, int32_t id, const int32_t *codes)
{
    bool ok = ut_buf_push_i32(out, id);
    for (int32_t q = 0; q < s->config.num_codebooks; q++)
        ok = ok && ut_buf_push_i32(out, codes ? codes[q] : 0);
    return ok;
}

static utter_status put_text(const s1_mini *s, ut_buf *out, const char *text, ut_err *err)
{
    ut_buf ids;
    ut_buf_init(&ids, (size_t)1 << 28);
    utter_status st = ut_bpe_encode(s->bpe, text, strlen(text), false, &ids, err);
    for (size_t i = 0; st == UTTER_OK && i < ut_buf_n_i32(&ids); i++)
        if (!put_column(s, out, ut_buf_i32(&ids)[i], NULL))
            st = ut_fail(err, UTTER_ERR_NOMEM, "no memory for a prompt");
    ut_buf_free(&ids);
    return st;
}

static utter_status put_reference(const s1_mini *s, ut_buf *out, const ut_reference *r, ut_err *err)
{
    for (int32_t t = 0; t < r->n_frames; t++) {
        const int32_t *codes = r->codes + (size_t)t * (size_t)s->config.num_codebooks;
        const int32_t n_semantic = s->ids.semantic_end - s->ids.semantic_begin + 1;
        for (int32_t q = 0; q < s->config.num_codebooks; q++)
            if (codes[q] < 0 || codes[q] >= (q ? s->config.codebook_size : n_semantic))
                return ut_fail(err, UTTER_ERR_ARG,
                               "reference: code %d of frame %d is %d, expected 0 to %d", (int)q,
                               (int)t, (int)codes[q],
                               (int)(q ? s->config.codebook_size : n_semantic) - 1);
        if (!put_column(s, out, s->ids.semantic_begin + codes[0], codes))
            return ut_fail(err, UTTER_ERR_NOMEM, "no memory for a prompt");
    }
    return UTTER_OK;
}

/* What this family has no notion of. */
static utter_status check_request(const ut_request *r, ut_err *err)
{
    if (r->speaker)
        return ut_fail(err, UTTER_ERR_UNSUPPORTED,
                       "speaker \"%.40s\": an S1-mini model has no speakers of its own, it takes a "
                       "voice made from a recording",
                       r->speaker);
    if (r->instruct && r->instruct[0])
        return ut_fail(err, UTTER_ERR_UNSUPPORTED, "an S1-mini model takes no instruction");
    if (r->language)
        return ut_fail(err, UTTER_ERR_UNSUPPORTED,
                       "language \"%.40s\": an S1-mini model finds the language out from the text",
                       r->language);
    for (int i = 0; i < r->n_refs; i++)
        if (!r->refs[i].text || r->refs[i].n_frames < 1)
            return ut_fail(err, UTTER_ERR_ARG,
                           "the voice has no codes or no transcript; add it again from its "
                           "recording");
    return UTTER_OK;
}

/* <|interleave|>, per reference: "<|speaker:0|>" text codes <|im_end|>, then "<|speaker:0|>" text.
 * "<|speaker:0|>" is ordinary text, and parts are encoded separately. */
static utter_status s1_prompt(const ut_model *m, const ut_request *request, ut_prompt *prompt,
                              ut_err *err)
{
    static const char speaker[] = "<|speaker:0|>";
    const s1_mini *s = (const s1_mini *)m;
    const ut_reference *refs = request->refs;
    const int n_refs = request->n_refs;
    ut_buf *out = &prompt->columns;
    utter_status st = check_request(request, err);
    if (st != UTTER_OK)
        return st;
    if (!put_column(s, out, s->interleave, NULL))
        st = ut_fail(err, UTTER_ERR_NOMEM, "no memory for a prompt");
    for (int i = 0; st == UTTER_OK && i < n_refs; i++) {
        st = put_text(s, out, speaker, err);
        if (st == UTTER_OK)
            st = put_text(s, out, refs[i].text, err);
        if (st == UTTER_OK)
            st = put_reference(s, out, &refs[i], err);
        if (st == UTTER_OK && !put_column(s, out, s->ids.im_end, NULL))
            st = ut_fail(err, UTTER_ERR_NOMEM, "no memory for a prompt");
    }
    if (st == UTTER_OK)
        st = put_text(s, out, speaker, err);
    const size_t prefix = ut_buf_n_i32(out) / (size_t)m->ar.columns;
    if (st == UTTER_OK)
        st = put_text(s, out, request->text, err);
    const size_t columns = ut_buf_n_i32(out) / (size_t)m->ar.columns;
    prompt->n_prefix = columns > prefix ? (int32_t)prefix : 0;
    if (st == UTTER_OK && columns > (size_t)m->ar.max_prompt)
        st = ut_fail(err, UTTER_ERR_LIMIT,
                     "the prompt has %zu positions, expected at most %d: use a shorter text or "
                     "reference",
                     columns, (int)m->ar.max_prompt);
    return st;
}

utter_status ut_s1_mini_encode(const ut_model *m, const char *text, size_t n, bool specials,
                               ut_buf *ids, ut_err *err)
{
    return ut_bpe_encode(((const s1_mini *)m)->bpe, text, n, specials, ids, err);
}

int32_t ut_s1_mini_special(const ut_model *m, const char *name)
{
    return ut_bpe_special(((const s1_mini *)m)->bpe, name);
}

const ut_model_ops ut_s1_mini_ops = {
    .family = "s1-mini",
    .model_type = "dual_ar",
    .open = s1_open,
    .free = s1_free,
    .release_pages = s1_release_pages,
    .prompt = s1_prompt,
};
