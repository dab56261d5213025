/* s1_mini_codec.c - recorded tensors of the S1-mini codec, both ways. Everything is computed as a
 * stream, in chunks, and once more frame by frame: the two must agree bit for bit. */
#include "base/alloc.h"
#include "parity/stream.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define NAME_CHARS 24 /* of a tap, whatever number is in it */

static const double tolerance = 2e-4;

/* A recorded [channels, steps] tensor: all of the tape, its first steps ("_head") or its last
 * ("_tail"). */
static void report_tape(stream *s, const ut_view *v, const char *tap, bool tail)
{
    const tape *t = stream_find(s, tap);
    const int64_t steps = v->n_dims == 2 ? v->dim[1] : v->n_elements;
    if (!t || steps > t->rows) {
        report_missing(s->p, v->name, "the plan has no such tensor");
        return;
    }
    const int64_t first = tail ? t->rows - steps : 0;
    float *got = transposed_f32(t->data + first * t->cols, steps, t->cols);
    report_f32(s->p, v, got, steps * t->cols, tolerance);
    ut_free(got);
}

/* codec/<group>/<name> for every tap name, with the suffixes that mean a part. */
static void report_group(stream *s, const char *group, const char *name, const char *tap)
{
    static const char *const suffix[] = {"", "_head", "_tail"};
    for (int i = 0; i < 3; i++) {
        const ut_view *v = golden(s->p, "codec/%s/%s%s", group, name, suffix[i]);
        if (v)
            report_tape(s, v, tap, i == 2);
    }
}

/* ---- Decoding ------------------------------------------------------------------------------- */

static void check_decode(parity *p, const ut_codec *codec, ut_exec *e, ut_state *state,
                         const char *group)
{
    static char blocks[9][NAME_CHARS];
    const ut_view *v = golden(p, "codec/%s/codes", group);
    int32_t *rows = golden_i32(v);
    int32_t *codes = transposed_i32(rows, v->dim[0], v->dim[1]);
    stream s = {.p = p,
                .exec = e,
                .state = state,
                .input = "codes",
                .data = (const uint8_t *)codes,
                .frame_bytes = (size_t)codec->n_codebooks * sizeof *codes,
                .n_frames = (int32_t)v->dim[1]};
    static const char *const names[][2] = {{"z_q", "dec.z_q"},
                                           {"post", "dec.post"},
                                           {"up", "dec.up"},
                                           {"conv0", "dec.block0"},
                                           {"wav", "pcm"}};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        stream_tape(&s, names[i][1]);
    for (int b = 1; b < 9; b++) {
        snprintf(blocks[b], sizeof blocks[b], "dec.block%d", b);
        stream_tape(&s, blocks[b]);
    }
    if (stream_run(&s, codec->max_frames) != UTTER_OK) {
        report_missing(p, v->name, p->err.msg);
    } else {
        for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
            report_group(&s, group, names[i][0], names[i][1]);
        for (int b = 1; b < 9; b++)
            report_group(&s, group, blocks[b] + strlen("dec."), blocks[b]);
        stream_check_chunks(&s, v->name, "pcm");
    }
    stream_free(&s);
    ut_free(rows);
    ut_free(codes);
}

/* ---- Encoding ------------------------------------------------------------------------------- */

/* Best minus second best cosine of e against the rows of a table. */
static float cosine_margin(const float *e, const float *table, int64_t entries, int64_t d)
{
    double ee = 0, best = -2, second = -2;
    for (int64_t c = 0; c < d; c++)
        ee += (double)e[c] * (double)e[c];
    for (int64_t i = 0; i < entries; i++) {
        double dot = 0, tt = 0;
        for (int64_t c = 0; c < d; c++) {
            dot += (double)e[c] * (double)table[i * d + c];
            tt += (double)table[i * d + c] * (double)table[i * d + c];
        }
        const double cosine = dot / (fmax(sqrt(ee), 1e-12) * fmax(sqrt(tt), 1e-12));
        if (cosine > best) {
            second = best;
            best = cosine;
        } else if (cosine > second) {
            second = cosine;
        }
    }
    return (float)(best - second);
}

/* The codebooks, straight from the checkpoint. */
static const ut_view *codebook(const ut_weights *w, int32_t q)
{
    char name[96] = "quantizer.semantic_quantizer.quantizers.0.codebook.weight";
    if (q > 0)
        snprintf(name, sizeof name, "quantizer.quantizer.quantizers.%d.codebook.weight",
                 (int)q - 1);
    return ut_weights_find(w, name);
}

static void check_margin(stream *s, const ut_codec *codec, const ut_view *v)
{
    parity *p = s->p;
    char path[1024];
    snprintf(path, sizeof path, "%s/codec.pth", p->dir);
    ut_weights *w = NULL;
    if (ut_weights_open(&w, path, &p->err) != UTTER_OK) {
        report_missing(p, v->name, p->err.msg);
        return;
    }
    float *got = need_memory((size_t)v->n_elements, sizeof *got);
    for (int32_t q = 0; q < codec->n_codebooks; q++) {
        char tap[NAME_CHARS];
        snprintf(tap, sizeof tap, "enc.e%d", (int)q);
        const tape *e = stream_find(s, tap);
        const ut_view *table = codebook(w, q);
        float *rows = table ? golden_f32(table) : NULL;
        for (int64_t t = 0; e && rows && t < s->n_frames; t++)
            got[q * s->n_frames + t] =
                cosine_margin(e->data + t * e->cols, rows, table->dim[0], e->cols);
        ut_free(rows);
    }
    report_f32(p, v, got, (int64_t)codec->n_codebooks * s->n_frames, tolerance);
    ut_free(got);
    ut_weights_close(w);
}

/* A code may differ where its recorded margin is too small to decide, and then all that follow it
 * in its frame. */
static int64_t undecided(const int32_t *got, const ut_view *codes, const ut_view *margin)
{
    if (!margin)
        return 0;
    int32_t *want = golden_i32(codes);
    float *m = golden_f32(margin);
    const int64_t n_q = codes->dim[0], n = codes->dim[1];
    int64_t allowed = 0;
    for (int64_t t = 0; t < n; t++)
        for (int64_t q = 0; q < n_q; q++)
            if (got[q * n + t] != want[q * n + t]) {
                if (m[q * n + t] > 1e-4f)
                    break;
                for (; q < n_q; q++)
                    allowed += got[q * n + t] != want[q * n + t];
            }
    ut_free(want);
    ut_free(m);
    return allowed;
}

static void check_encode(parity *p, const ut_codec *codec, ut_exec *e, ut_state *state)
{
    static char names[9 + 32][NAME_CHARS];
    const ut_view *pcm8 = golden(p, "codec/ref_pcm8");
    const ut_view *codes = golden(p, "codec/enc/codes");
    if (!pcm8 || !codes)
        return;
    const int32_t hop = codec->hop_samples;
    const int32_t n_frames = (int32_t)((pcm8->n_elements + hop - 1) / hop);
    float *pcm = need_memory((size_t)n_frames * (size_t)hop, sizeof *pcm);
    for (int64_t i = 0; i < pcm8->n_elements; i++)
        pcm[i] = (float)((const int8_t *)pcm8->data)[i] / 128.0f;
    stream s = {.p = p,
                .exec = e,
                .state = state,
                .input = "pcm",
                .data = (const uint8_t *)pcm,
                .frame_bytes = (size_t)hop * sizeof *pcm,
                .n_frames = n_frames};
    static const char *const stages[] = {"z", "down", "pre"};
    static const char *const stage_taps[] = {"enc.z", "enc.down", "enc.pre", "codes"};
    for (size_t i = 0; i < sizeof stage_taps / sizeof stage_taps[0]; i++)
        stream_tape(&s, stage_taps[i]);
    for (int i = 0; i < 9 + 32; i++) {
        snprintf(names[i], sizeof names[i], i < 9 ? "enc.block%d" : "enc.e%d", i < 9 ? i : i - 9);
        stream_tape(&s, names[i]);
    }
    if (stream_run(&s, codec->max_frames) != UTTER_OK) {
        report_missing(p, codes->name, p->err.msg);
    } else {
        for (size_t i = 0; i < sizeof stages / sizeof stages[0]; i++)
            report_group(&s, "enc", stages[i], stage_taps[i]);
        for (int b = 0; b < 9; b++)
            report_group(&s, "enc", names[b] + strlen("enc."), names[b]);
        const ut_view *margin = golden(p, "codec/enc/margin");
        if (margin)
            check_margin(&s, codec, margin);
        const tape *t = stream_find(&s, "codes");
        int32_t *got =
            transposed_i32((const int32_t *)(const void *)t->data, n_frames, codec->n_codebooks);
        report_i32(p, codes, got, (int64_t)n_frames * codec->n_codebooks,
                   undecided(got, codes, margin));
        ut_free(got);
        stream_check_chunks(&s, codes->name, "codes");
    }
    stream_free(&s);
    ut_free(pcm);
}

/* ---- Both ----------------------------------------------------------------------------------- */

void parity_s1_mini_codec(parity *p, ut_model *m)
{
    const ut_codec *codec = &m->codec;
    ut_exec *dec = NULL, *enc = NULL;
    ut_state *dec_state = NULL, *enc_state = NULL;
    if (p->ops->compile(p->backend, codec->decode, 1, codec->max_frames, &dec, &p->err) ==
            UTTER_OK &&
        p->ops->compile(p->backend, codec->encode, 1, codec->max_frames, &enc, &p->err) ==
            UTTER_OK &&
        p->ops->state_new(p->backend, &codec->decode_states, 1, &dec_state, &p->err) == UTTER_OK &&
        p->ops->state_new(p->backend, &codec->encode_states, 1, &enc_state, &p->err) == UTTER_OK) {
        for (size_t i = 0; i < ut_weights_count(p->golden); i++) {
            char group[64], name[64];
            if (sscanf(ut_weights_at(p->golden, i)->name, "codec/%63[^/]/%63s", group, name) == 2 &&
                strcmp(name, "codes") == 0 && strcmp(group, "enc") != 0)
                check_decode(p, codec, dec, dec_state, group);
        }
        check_encode(p, codec, enc, enc_state);
    } else {
        report_missing(p, "codec", p->err.msg);
    }
    if (dec_state)
        p->ops->state_free(dec_state);
    if (enc_state)
        p->ops->state_free(enc_state);
    if (dec)
        p->ops->exec_free(dec);
    if (enc)
        p->ops->exec_free(enc);
}
