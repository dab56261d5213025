/* qwen3_tts_codec.c - recorded tensors of the Qwen3-TTS codec, both ways, and of the speaker
 * encoder. The codec is computed as a stream, in chunks, and once more frame by frame: the two must
 * agree bit for bit. */
#include "audio/audio.h"
#include "base/alloc.h"
#include "models/qwen3_tts/qwen3_tts.h"
#include "parity/qwen3_tts.h"
#include "parity/stream.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const double tolerance = 2e-4;

/* A recorded [channels, steps] tensor (or [samples]): the first steps of rows [n, cols]. */
static void report_head(parity *p, const ut_view *v, const float *data, int64_t n, int64_t cols)
{
    const int64_t steps = v->n_dims == 2 ? v->dim[1] : v->n_elements;
    if (!data || steps > n) {
        report_missing(p, v->name, "the plan has no such tensor, or a shorter one");
        return;
    }
    float *got = transposed_f32(data, steps, cols);
    report_f32(p, v, got, steps * cols, tolerance);
    ut_free(got);
}

/* Every recorded "<prefix><tap's name behind its dot>" of a stream's tapes. */
static void report_tapes(stream *s)
{
    for (int i = 0; i < s->n_tapes; i++) {
        const ut_view *v = golden(s->p, "%s", s->tapes[i].tap);
        if (v && v->dtype == UT_F32)
            report_head(s->p, v, s->tapes[i].data, s->tapes[i].rows, s->tapes[i].cols);
    }
}

/* Keep every named output of the plan that is recorded under the same name. */
static void tape_all(stream *s)
{
    const ut_plan *plan = s->exec->plan;
    for (ut_tid t = 0; t < plan->n_tensors; t++) {
        const char *name = plan->tensors[t].name;
        if (name && plan->tensors[ut_plan_root(plan, t)].role == UT_OUTPUT)
            stream_tape(s, name);
    }
}

/* ---- Decoding ------------------------------------------------------------------------------- */

float *q3_decode(parity *p, const ut_codec *codec, const int32_t *codes, int32_t n)
{
    stream s = {.p = p,
                .input = "codes",
                .data = (const uint8_t *)codes,
                .frame_bytes = (size_t)codec->n_codebooks * sizeof *codes,
                .n_frames = n};
    float *pcm = NULL;
    if (p->ops->compile(p->backend, codec->decode, 1, codec->max_frames, &s.exec, &p->err) ==
            UTTER_OK &&
        p->ops->state_new(p->backend, &codec->decode_states, 1, &s.state, &p->err) == UTTER_OK) {
        stream_tape(&s, "pcm");
        if (stream_run(&s, codec->max_frames) == UTTER_OK) {
            pcm = s.tapes[0].data;
            s.n_tapes = 0;
        }
    }
    stream_free(&s);
    if (s.state)
        p->ops->state_free(s.state);
    if (s.exec)
        p->ops->exec_free(s.exec);
    return pcm;
}

/* dec.wav_chunk<n>_ctx<m>: chunks decoded from zero state after up to m frames of context. */
static void check_chunked(parity *p, const ut_codec *codec, const ut_view *v, const int32_t *codes,
                          int32_t n_frames)
{
    int chunk = 0, context = 0;
    if (sscanf(v->name, "dec.wav_chunk%d_ctx%d", &chunk, &context) != 2 || chunk < 1)
        return;
    const int64_t hop = codec->hop_samples;
    float *all = need_memory((size_t)(n_frames * hop), sizeof *all);
    bool ok = true;
    for (int32_t f = 0; ok && f < n_frames; f += chunk) {
        const int32_t before = f > context ? context : f;
        const int32_t end = f + chunk < n_frames ? f + chunk : n_frames;
        float *pcm = q3_decode(p, codec, codes + (int64_t)(f - before) * codec->n_codebooks,
                               end - f + before);
        ok = pcm != NULL;
        if (ok)
            memcpy(all + f * hop, pcm + before * hop, (size_t)((end - f) * hop) * sizeof *all);
        ut_free(pcm);
    }
    report_f32(p, v, ok ? all : NULL, n_frames * hop, tolerance);
    ut_free(all);
}

static void check_decode(parity *p, const ut_codec *codec)
{
    const ut_view *v = golden(p, "dec.codes"), *wav = golden(p, "dec.wav");
    if (!v)
        return;
    int32_t *codes = golden_i32(v);
    stream s = {.p = p,
                .input = "codes",
                .data = (const uint8_t *)codes,
                .frame_bytes = (size_t)codec->n_codebooks * sizeof *codes,
                .n_frames = (int32_t)v->dim[0]};
    if (p->ops->compile(p->backend, codec->decode, 1, codec->max_frames, &s.exec, &p->err) ==
            UTTER_OK &&
        p->ops->state_new(p->backend, &codec->decode_states, 1, &s.state, &p->err) == UTTER_OK) {
        tape_all(&s);
        if (stream_run(&s, codec->max_frames) == UTTER_OK) {
            report_tapes(&s);
            const tape *t = stream_find(&s, "pcm");
            if (wav)
                report_f32(p, wav, t->data, t->rows, tolerance);
            stream_check_chunks(&s, "dec.wav", "pcm");
        }
    }
    if (p->err.status != UTTER_OK)
        report_missing(p, v->name, p->err.msg);
    for (size_t i = 0; i < ut_weights_count(p->golden); i++)
        check_chunked(p, codec, ut_weights_at(p->golden, i), codes, (int32_t)v->dim[0]);
    stream_free(&s);
    if (s.state)
        p->ops->state_free(s.state);
    if (s.exec)
        p->ops->exec_free(s.exec);
    ut_free(codes);
}

/* ---- Encoding ------------------------------------------------------------------------------- */

/* Codebook g, straight from the checkpoint: rows [entries, d], newly allocated; or NULL. */
static float *codebook(const ut_weights *w, int32_t g, int64_t *entries, int64_t *d)
{
    char stem[128], name[192];
    snprintf(stem, sizeof stem, "encoder.quantizer.%s_residual_vector_quantizer.layers.%d.codebook",
             g ? "acoustic" : "semantic", (int)(g ? g - 1 : 0));
    snprintf(name, sizeof name, "%s.embed_sum", stem);
    const ut_view *sum = ut_weights_find(w, name);
    snprintf(name, sizeof name, "%s.cluster_usage", stem);
    const ut_view *usage = ut_weights_find(w, name);
    if (!sum || !usage)
        return NULL;
    float *rows = golden_f32(sum), *count = golden_f32(usage);
    *entries = sum->dim[0];
    *d = sum->dim[1];
    for (int64_t i = 0; i < *entries; i++)
        for (int64_t k = 0; k < *d; k++)
            rows[i * *d + k] /= fmaxf(count[i], 1e-5f);
    ut_free(count);
    return rows;
}

/* Distance of the second nearest row less that of the nearest. */
static double margin_of(const float *e, const float *rows, int64_t entries, int64_t d)
{
    double best = HUGE_VAL, second = HUGE_VAL;
    for (int64_t i = 0; i < entries; i++) {
        double sum = 0;
        for (int64_t k = 0; k < d; k++) {
            const double x = (double)e[k] - (double)rows[i * d + k];
            sum += x * x;
        }
        const double distance = sqrt(sum);
        if (distance < best) {
            second = best;
            best = distance;
        } else if (distance < second) {
            second = distance;
        }
    }
    return second - best;
}

/* cases._codec.encode_min_margin_per_codebook, which only f32 can reproduce. */
static void check_margins(q3_case *c, stream *s, const char *dir)
{
    parity *p = c->p;
    const ut_json_value cases = ut_json_member(ut_json_root(c->doc), "cases");
    const ut_json_value list =
        ut_json_member(ut_json_member(cases, "_codec"), "encode_min_margin_per_codebook");
    char path[1100];
    snprintf(path, sizeof path, "%s/speech_tokenizer/model.safetensors", dir);
    ut_weights *w = NULL;
    if (!p->exact || ut_json_size(list) == 0 || ut_weights_open(&w, path, &p->err) != UTTER_OK)
        return;
    for (size_t g = 0; g < ut_json_size(list); g++) {
        char tap[32], line[128];
        snprintf(tap, sizeof tap, "enc.e%zu", g);
        const tape *t = stream_find(s, tap);
        int64_t entries, d;
        float *rows = codebook(w, (int32_t)g, &entries, &d);
        double want = 0, least = HUGE_VAL;
        ut_json_get_number(ut_json_item(list, g), 0, 1e30, &want, NULL);
        for (int64_t i = 0; t && rows && t->cols == d && i < t->rows; i++)
            least = fmin(least, margin_of(t->data + i * d, rows, entries, d));
        snprintf(line, sizeof line, "margin of codebook %zu: %.6f, recorded %.6f", g, least, want);
        report_bool(p, line, fabs(least - want) <= tolerance);
        ut_free(rows);
    }
    ut_weights_close(w);
}

static void check_encode(q3_case *c, const q3_model *q, const float *pcm, int64_t n)
{
    parity *p = c->p;
    const ut_codec *codec = &q->m->codec;
    const ut_view *codes = golden(p, "enc.codes");
    if (!codes)
        return;
    const int32_t hop = codec->hop_samples;
    stream s = {.p = p,
                .input = "pcm",
                .frame_bytes = (size_t)hop * sizeof *pcm,
                .n_frames = (int32_t)((n + hop - 1) / hop),
                .n_samples = n};
    float *padded = need_memory((size_t)s.n_frames * (size_t)hop, sizeof *padded);
    memcpy(padded, pcm, (size_t)n * sizeof *pcm);
    s.data = (const uint8_t *)padded;
    if (p->ops->compile(p->backend, codec->encode, 1, codec->max_frames, &s.exec, &p->err) ==
            UTTER_OK &&
        p->ops->state_new(p->backend, &codec->encode_states, 1, &s.state, &p->err) == UTTER_OK) {
        tape_all(&s);
        if (stream_run(&s, codec->max_frames) == UTTER_OK) {
            report_tapes(&s);
            const tape *t = stream_find(&s, "codes");
            /* a near tie that another type decides changes the codes behind it in the frame */
            report_i32(p, codes, (const int32_t *)(const void *)t->data, t->rows * t->cols,
                       p->exact ? 0 : t->rows * t->cols / 10);
            check_margins(c, &s, q->dir);
            stream_check_chunks(&s, "enc.codes", "codes");
        }
    }
    if (p->err.status != UTTER_OK)
        report_missing(p, codes->name, p->err.msg);
    stream_free(&s);
    if (s.state)
        p->ops->state_free(s.state);
    if (s.exec)
        p->ops->exec_free(s.exec);
    ut_free(padded);
}

/* ---- The speaker ---------------------------------------------------------------------------- */

static void check_mel(parity *p, const q3_model *q, const ut_buf *features)
{
    const ut_view *v = golden(p, "spk.mel_filterbank");
    if (v) {
        int32_t n_bins;
        float *bands = ut_qwen3_tts_filterbank(q->m, &n_bins);
        report_f32(p, v, bands, (int64_t)q->m->speaker.n_features * n_bins, 1e-6);
        ut_free(bands);
    }
    if ((v = golden(p, "spk.mel")))
        report_f32(p, v, (const float *)(const void *)features->data,
                   (int64_t)(features->len / sizeof(float)), tolerance);
}

static void check_speaker(parity *p, const q3_model *q, const float *pcm, int64_t n)
{
    const ut_speaker_encoder *encoder = &q->m->speaker;
    const ut_view *embedding = golden(p, "spk.embedding"), *v;
    ut_buf features;
    ut_buf_init(&features, (size_t)1 << 30);
    ut_exec *e = NULL;
    if (!embedding || encoder->dim == 0)
        return;
    utter_status st = q->m->ops->features(q->m, pcm, (size_t)n, &features, &p->err);
    const int32_t n_t = (int32_t)(features.len / sizeof(float) / (size_t)encoder->n_features);
    if (st == UTTER_OK)
        st = p->ops->compile(p->backend, encoder->plan, 1, n_t, &e, &p->err);
    if (st == UTTER_OK) {
        check_mel(p, q, &features);
        run_input(p, e, "features", n_t, features.data, features.len);
        st = p->ops->run(e, NULL, 0, n_t, &p->err);
    }
    if (st == UTTER_OK) {
        int64_t rows, cols;
        for (size_t i = 0; i < ut_weights_count(p->golden); i++) {
            v = ut_weights_at(p->golden, i);
            const float *x = run_output(p, e, v->name, n_t, &rows, &cols);
            if (x && v->n_dims == 2)
                report_head(p, v, x, rows, cols);
            else if (x)
                report_f32(p, v, x, rows * cols, tolerance);
        }
        const float *x = run_output(p, e, "embedding", n_t, &rows, &cols);
        report_f32(p, embedding, x, rows * cols, tolerance);
    } else {
        report_missing(p, embedding->name, p->err.msg);
    }
    if (e)
        p->ops->exec_free(e);
    ut_buf_free(&features);
}

/* ---- All of it ------------------------------------------------------------------------------ */

/* The recorded samples are those of the sound file. */
static void check_file(parity *p, const ut_view *v)
{
    char path[1100];
    snprintf(path, sizeof path, "%s/ref.wav", p->dir);
    ut_audio a = {0};
    if (ut_audio_read(&a, path, 600, &p->err) == UTTER_OK)
        report_f32(p, v, a.samples, (int64_t)a.n_frames, 1e-7);
    else
        report_missing(p, v->name, p->err.msg);
    ut_audio_free(&a);
}

void q3_check_codec(q3_case *c)
{
    parity *p = c->p;
    const q3_model *q = q3_open(c, "base");
    if (!q) {
        report_missing(p, "base", p->err.msg);
        return;
    }
    check_decode(p, &q->m->codec);
    const ut_view *v = golden(p, "ref.wav");
    if (!v)
        return;
    float *pcm = golden_f32(v);
    check_file(p, v);
    check_encode(c, q, pcm, v->n_elements);
    check_speaker(p, q, pcm, v->n_elements);
    ut_free(pcm);
}
