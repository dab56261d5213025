/* qwen3_tts.c - opening a Qwen3-TTS checkpoint directory (specification, section 1). */
#include "models/qwen3_tts/qwen3_tts.h"
#include "base/alloc.h"
#include "base/os.h"
#include "models/qwen3_tts/codec.h"
#include "models/qwen3_tts/lm.h"
#include "models/qwen3_tts/prompt.h"
#include "models/qwen3_tts/speaker.h"
#include "text/bpe.h"
#include <stdio.h>
#include <string.h>

typedef struct qwen3_tts {
    ut_model head;
    ut_q3_config config;
    ut_bpe *bpe;
    ut_weights *lm_weights, *codec_weights;
    ut_arena *arena;
    ut_q3_lm lm;
    ut_q3_codec codec;
    ut_q3_speaker speaker;
} qwen3_tts;

static void q3_free(ut_model *m)
{
    qwen3_tts *q = (qwen3_tts *)m;
    if (!q)
        return;
    ut_plan_free(m->ar.prefill);
    ut_plan_free(m->ar.frame);
    ut_plan_free(m->codec.decode);
    ut_plan_free(m->codec.encode);
    ut_plan_free(m->speaker.plan);
    ut_bpe_free(q->bpe);
    ut_weights_close(q->lm_weights);
    ut_weights_close(q->codec_weights);
    ut_arena_free(q->arena);
    ut_free(q);
}

static void q3_release_pages(const ut_model *m)
{
    const qwen3_tts *q = (const qwen3_tts *)m;
    ut_weights_release_pages(q->lm_weights);
    ut_weights_release_pages(q->codec_weights);
}

/* ---- Opening -------------------------------------------------------------------------------- */

static utter_status open_weights(ut_weights **out, const char *dir, const char *name, ut_err *err)
{
    char *path = ut_path_join(dir, name);
    const utter_status st = path ? ut_weights_open(out, path, err)
                                 : ut_fail(err, UTTER_ERR_NOMEM, "%s: no memory", dir);
    ut_free(path);
    return st;
}

static utter_status open_tokenizer(qwen3_tts *q, const char *dir, ut_err *err)
{
    char *vocab = ut_path_join(dir, "vocab.json"), *merges = ut_path_join(dir, "merges.txt");
    char *config = ut_path_join(dir, "tokenizer_config.json");
    utter_status st =
        vocab && merges && config
            ? ut_bpe_load_vocab(&q->bpe, vocab, merges, config, UT_PRESPLIT_QWEN2, err)
            : ut_fail(err, UTTER_ERR_NOMEM, "%s: no memory", dir);
    ut_free(vocab);
    ut_free(merges);
    ut_free(config);
    if (st == UTTER_OK && ut_bpe_size(q->bpe) > q->config.text_vocab_size)
        st = ut_fail(err, UTTER_ERR_MODEL,
                     "%s: the tokenizer has %d tokens, expected at most text_vocab_size = %d", dir,
                     (int)ut_bpe_size(q->bpe), (int)q->config.text_vocab_size);
    return st;
}

static utter_status load_tensors(qwen3_tts *q, const ut_model_options *options, ut_err *err)
{
    ut_model *m = &q->head;
    ut_loader l;
    ut_loader_init(&l, q->lm_weights, q->arena, err);
    if (l.status == UTTER_OK && q->config.speaker.n_blocks)
        ut_q3_speaker_load(&l, &q->speaker, &q->config, &m->speaker);
    if (l.status == UTTER_OK)
        ut_q3_lm_load(&l, &q->lm, &q->config, options, &m->ar);
    ut_loader_end(&l);
    if (l.status != UTTER_OK)
        return l.status;
    m->info.n_params_lm = l.n_params;

    ut_loader_init(&l, q->codec_weights, q->arena, err);
    if (l.status == UTTER_OK)
        ut_q3_codec_load(&l, &q->codec, &q->config, &m->codec);
    ut_loader_end(&l);
    m->info.n_params_codec = l.n_params;
    return l.status;
}

static utter_status write_plans(qwen3_tts *q, const ut_model_options *options, ut_err *err)
{
    ut_model *m = &q->head;
    utter_status st = ut_q3_lm_plans(&q->lm, options, &m->ar, err);
    if (st == UTTER_OK)
        st = ut_q3_codec_plans(&q->codec, options, &m->codec, err);
    if (st == UTTER_OK && m->speaker.dim)
        st = ut_q3_speaker_plan(&q->speaker, options, &m->speaker, err);
    return st;
}

static void describe(qwen3_tts *q, const char *dir)
{
    static const char *const kinds[] = {"Base", "CustomVoice", "VoiceDesign"};
    static const unsigned voices[] = {UT_VOICE_REFERENCE | UT_VOICE_EMBEDDING, UT_VOICE_SPEAKER,
                                      UT_VOICE_NONE};
    ut_model *m = &q->head;
    const ut_q3_config *c = &q->config;
    m->voices = voices[c->kind];
    m->info.family = ut_qwen3_tts_ops.family;
    snprintf(m->info.dir, sizeof m->info.dir, "%s", dir);
    m->info.sample_rate = c->codec.sample_rate;
    snprintf(m->info.summary, sizeof m->info.summary,
             "%s, talker %d layers of %d, predictor %d layers of %d, vocabulary %d, %d codebooks, "
             "frame of %d samples (%.2f Hz), %d positions",
             kinds[c->kind], (int)c->talker.num_hidden_layers, (int)c->talker.hidden_size,
             (int)c->predictor.num_hidden_layers, (int)c->predictor.hidden_size,
             (int)c->text_vocab_size, (int)m->codec.n_codebooks, (int)m->codec.hop_samples,
             (double)c->codec.sample_rate / m->codec.hop_samples, (int)m->ar.capacity);
    m->defaults = (ut_model_defaults){.temperature = c->sampling.temperature,
                                      .top_p = c->sampling.top_p,
                                      .repetition_penalty = c->sampling.repetition_penalty,
                                      .top_k = c->sampling.top_k,
                                      .sub_temperature = c->sub_sampling.temperature,
                                      .sub_top_p = c->sub_sampling.top_p,
                                      .sub_top_k = c->sub_sampling.top_k,
                                      .max_chunk_chars = c->max_chunk_chars,
                                      .frames_per_char_limit = c->frames_per_char_limit,
                                      .runaway_s = c->runaway_s,
                                      .voice = c->default_voice[0] ? c->default_voice : NULL};
}

static utter_status q3_open(ut_model **out, const char *dir, const ut_model_options *options,
                            ut_err *err)
{
    static const ut_model_options defaults;
    if (!options)
        options = &defaults;
    *out = NULL;
    qwen3_tts *q = ut_calloc(1, sizeof *q);
    if (!q || !(q->arena = ut_arena_new((size_t)1 << 20))) {
        ut_free(q);
        return ut_fail(err, UTTER_ERR_NOMEM, "%s: no memory", dir);
    }
    q->head.ops = &ut_qwen3_tts_ops;
    utter_status st = ut_q3_config_read(&q->config, dir, q->arena, err);
    if (st == UTTER_OK)
        st = open_tokenizer(q, dir, err);
    if (st == UTTER_OK)
        st = open_weights(&q->lm_weights, dir, "model.safetensors", err);
    if (st == UTTER_OK)
        st = open_weights(&q->codec_weights, dir, "speech_tokenizer/model.safetensors", err);
    if (st == UTTER_OK)
        st = load_tensors(q, options, err);
    if (st == UTTER_OK)
        st = write_plans(q, options, err);
    if (st != UTTER_OK) {
        q3_free(&q->head);
        return st;
    }
    describe(q, dir);
    *out = &q->head;
    return UTTER_OK;
}

/* ---- Requests ------------------------------------------------------------------------------- */

static ut_q3_writer writer_of(const ut_model *m)
{
    const qwen3_tts *q = (const qwen3_tts *)m;
    return (ut_q3_writer){&q->config, q->bpe, m->codec.codebook_sizes};
}

static utter_status q3_prompt(const ut_model *m, const ut_request *request, ut_prompt *out,
                              ut_err *err)
{
    const ut_q3_writer w = writer_of(m);
    const utter_status st = ut_q3_prompt(&w, request, out, err);
    const size_t columns = ut_buf_n_i32(&out->columns) / (size_t)m->ar.columns;
    if (st == UTTER_OK && columns > (size_t)m->ar.max_prompt)
        return ut_fail(err, UTTER_ERR_LIMIT,
                       "the prompt has %zu positions, expected at most %d: use a shorter text or "
                       "reference",
                       columns, (int)m->ar.max_prompt);
    if (st == UTTER_OK && ut_buf_n_i32(&out->later) > (size_t)m->ar.capacity)
        return ut_fail(err, UTTER_ERR_LIMIT, "the text has %zu tokens, expected at most %d",
                       ut_buf_n_i32(&out->later), (int)m->ar.capacity);
    return st;
}

static utter_status q3_text(const ut_model *m, const char *text, bool open, ut_buf *out,
                            ut_err *err)
{
    const ut_q3_writer w = writer_of(m);
    return ut_q3_text(&w, text, open, out, err);
}

static utter_status q3_features(const ut_model *m, const float *pcm, size_t n, ut_buf *out,
                                ut_err *err)
{
    const ut_mel_params mel = ut_q3_speaker_mel(&((const qwen3_tts *)m)->config);
    return ut_mel_log(&mel, pcm, n, out, err);
}

/* ---- Speakers ------------------------------------------------------------------------------- */

static utter_status list_names(ut_speaker_list *out, const ut_q3_config *c, ut_err *err)
{
    ut_buf text;
    ut_buf_init(&text, 65536);
    bool ok = ut_buf_puts(&text, "auto");
    for (int32_t i = 0; i < c->n_languages; i++)
        ok = ok && ut_buf_printf(&text, ", %s", c->languages[i].name);
    out->languages = ok ? ut_arena_strdup(out->arena, (const char *)text.data) : NULL;
    ut_buf_free(&text);
    out->speakers = ut_calloc((size_t)c->n_speakers + 1, sizeof *out->speakers);
    if (!out->languages || !out->speakers)
        return ut_fail(err, UTTER_ERR_NOMEM, "no memory for a list of speakers");
    for (int32_t i = 0; i < c->n_speakers; i++)
        out->speakers[out->n++] =
            (ut_speaker){c->speakers[i].name, c->speakers[i].dialect ? c->speakers[i].dialect : ""};
    return UTTER_OK;
}

static utter_status q3_speakers(const char *dir, ut_speaker_list *out, ut_err *err)
{
    *out = (ut_speaker_list){.arena = ut_arena_new(4096)};
    ut_q3_config *c = ut_calloc(1, sizeof *c);
    utter_status st = out->arena && c ? ut_q3_config_names(c, dir, out->arena, err)
                                      : ut_fail(err, UTTER_ERR_NOMEM, "%s: no memory", dir);
    if (st == UTTER_OK)
        st = list_names(out, c, err);
    ut_free(c);
    if (st != UTTER_OK)
        ut_speaker_list_free(out);
    return st;
}

/* ---- For tools ------------------------------------------------------------------------------ */

utter_status ut_qwen3_tts_encode(const ut_model *m, const char *text, size_t n, bool specials,
                                 ut_buf *ids, ut_err *err)
{
    return ut_bpe_encode(((const qwen3_tts *)m)->bpe, text, n, specials, ids, err);
}

utter_status ut_qwen3_tts_wrap(const ut_model *m, char kind, const char *text, ut_buf *ids,
                               ut_err *err)
{
    const ut_q3_writer w = writer_of(m);
    return ut_q3_wrap(&w, kind, text, ids, err);
}

float *ut_qwen3_tts_filterbank(const ut_model *m, int32_t *n_bins)
{
    const ut_mel_params mel = ut_q3_speaker_mel(&((const qwen3_tts *)m)->config);
    *n_bins = mel.window / 2 + 1;
    float *bands = ut_calloc((size_t)mel.n_bands * (size_t)*n_bins, sizeof *bands);
    if (bands)
        ut_mel_filterbank(&mel, bands);
    return bands;
}

bool ut_qwen3_tts_drops_instruct(const ut_model *m)
{
    return ((const qwen3_tts *)m)->config.drops_instruct;
}

const ut_model_ops ut_qwen3_tts_ops = {
    .family = "qwen3-tts",
    .model_type = "qwen3_tts",
    .open = q3_open,
    .free = q3_free,
    .release_pages = q3_release_pages,
    .prompt = q3_prompt,
    .text = q3_text,
    .speakers = q3_speakers,
    .features = q3_features,
};
