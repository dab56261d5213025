/* codec.c - codec and speaker encoder without a language model: recordings to codes and vectors,
 * codes to sound, and the fingerprints by which voices know what made them. */
#include "engine/engine.h"
#include "base/alloc.h"
#include "engine/sha256.h"
#include <string.h>

/* Bytes from both ends of every part of every weight of the decoder: touches a few pages of each
 * tensor, and any retraining changes them. */
#define SAMPLE_BYTES 64

#define ENCODED_FRAMES 16 /* in a run of the encoder, at most */

static void hash_weight(ut_sha256 *h, const ut_weight *w)
{
    ut_sha256_update(h, &w->rows, sizeof w->rows);
    ut_sha256_update(h, &w->cols, sizeof w->cols);
    for (int i = 0; i < w->n_parts; i++) {
        const ut_weight_part *p = &w->part[i];
        uint32_t dtype = (uint32_t)p->dtype;
        size_t size = (size_t)p->rows * (size_t)w->cols * ut_dtype_size(p->dtype);
        size_t n = size < SAMPLE_BYTES ? size : SAMPLE_BYTES;
        ut_sha256_update(h, &dtype, sizeof dtype);
        ut_sha256_update(h, p->data, n);
        ut_sha256_update(h, (const uint8_t *)p->data + (size - n), n);
    }
}

/* All weights in order of use; one that an op has twice counts once. */
static void hash_plan(ut_sha256 *h, const ut_plan *p)
{
    for (int32_t i = 0; i < p->n_ops; i++) {
        const ut_op *op = &p->ops[i];
        for (size_t j = 0; j < sizeof op->w / sizeof op->w[0]; j++) {
            bool seen = false;
            for (size_t k = 0; k < j; k++)
                seen |= op->w[k] == op->w[j];
            if (op->w[j] && !seen)
                hash_weight(h, op->w[j]);
        }
    }
}

void ut_codec_fingerprint(const ut_codec *c, char id[UT_CODEC_ID_CHARS + 1])
{
    ut_sha256 h;
    ut_sha256_init(&h);
    ut_sha256_update(&h, &c->hop_samples, sizeof c->hop_samples);
    ut_sha256_update(&h, c->codebook_sizes, (size_t)c->n_codebooks * sizeof *c->codebook_sizes);
    hash_plan(&h, c->decode);
    ut_sha256_hex(&h, id, UT_CODEC_ID_CHARS);
}

void ut_speaker_fingerprint(const ut_speaker_encoder *s, char id[UT_CODEC_ID_CHARS + 1])
{
    ut_sha256 h;
    id[0] = 0;
    if (s->dim == 0)
        return;
    ut_sha256_init(&h);
    hash_plan(&h, s->plan);
    ut_sha256_hex(&h, id, UT_CODEC_ID_CHARS);
}

static int32_t encoded_frames(const ut_codec *c)
{
    return c->max_frames < ENCODED_FRAMES ? c->max_frames : ENCODED_FRAMES;
}

/* The encoder is compiled when first needed: most programs never make a voice. */
static utter_status compile_encoder(utter_engine *e, ut_err *err)
{
    const ut_codec *c = &e->model->codec;
    if (e->encode)
        return UTTER_OK;
    if (!c->encode)
        return ut_fail(err, UTTER_ERR_UNSUPPORTED, "%s: models of family %s cannot take recordings",
                       e->model_dir, e->model->info.family);
    utter_status st =
        e->backend->ops->compile(e->backend, c->encode, 1, encoded_frames(c), &e->encode, err);
    e->model->ops->release_pages(e->model);
    return st;
}

utter_status ut_codec_encode(utter_engine *e, const float *pcm, size_t n_samples, int32_t **codes,
                             int32_t *n_frames, ut_err *err)
{
    const ut_codec *c = &e->model->codec;
    const ut_backend_ops *ops = e->backend->ops;
    *codes = NULL;
    *n_frames = 0;
    utter_status st = compile_encoder(e, err);
    if (st != UTTER_OK)
        return st;
    ut_tid in = ut_plan_find(c->encode, "pcm"), out = ut_plan_find(c->encode, "codes");
    ut_tid count = ut_plan_find(c->encode, "n_samples");
    if (in == UT_NONE || out == UT_NONE)
        return ut_fail(err, UTTER_ERR_INTERNAL, "family %s: plan encode lacks pcm or codes",
                       e->model->info.family);
    size_t hop = (size_t)c->hop_samples, n_codebooks = (size_t)c->n_codebooks;
    size_t total = n_samples / hop + (n_samples % hop != 0);
    if (total > INT32_MAX / 64)
        return ut_fail(err, UTTER_ERR_LIMIT, "%zu samples are too many", n_samples);
    ut_state *state = NULL;
    int32_t *all = ut_calloc(total, n_codebooks * sizeof *all);
    if (!all)
        return ut_fail(err, UTTER_ERR_NOMEM, "no memory for %zu frames of codes", total);
    st = ops->state_new(e->backend, &c->encode_states, 1, &state, err);
    if (st != UTTER_OK)
        goto done;
    ops->state_reset(state, 0);
    for (size_t first = 0; first < total;) {
        size_t n = total - first;
        if (n > (size_t)encoded_frames(c))
            n = (size_t)encoded_frames(c);
        size_t begin = first * hop, here = n * hop;
        if (here > n_samples - begin)
            here = n_samples - begin;
        float *x = ops->input(e->encode, in, (int32_t)n);
        memcpy(x, pcm + begin, here * sizeof *x);
        memset(x + here, 0, (n * hop - here) * sizeof *x);
        if (count != UT_NONE)
            *(int32_t *)ops->input(e->encode, count, (int32_t)n) = (int32_t)here;
        st = ops->run(e->encode, state, 0, (int32_t)n, err);
        if (st != UTTER_OK)
            goto done;
        const void *made = ops->output(e->encode, out, err);
        if (!made) {
            st = err->status;
            goto done;
        }
        memcpy(all + first * n_codebooks, made, n * n_codebooks * sizeof *all);
        first += n;
    }
    *codes = all;
    *n_frames = (int32_t)total;
    all = NULL; /* handed over */
done:
    ops->state_free(state);
    ut_free(all);
    return st;
}

/* The plan takes the whole recording in one run, so it is compiled for each. */
utter_status ut_speaker_encode(utter_engine *e, const float *pcm, size_t n_samples,
                               float **embedding, ut_err *err)
{
    const ut_speaker_encoder *s = &e->model->speaker;
    const ut_backend_ops *ops = e->backend->ops;
    *embedding = NULL;
    if (s->dim == 0)
        return UTTER_OK;
    ut_buf features;
    ut_buf_init(&features, SIZE_MAX);
    ut_exec *exec = NULL;
    utter_status st = e->model->ops->features(e->model, pcm, n_samples, &features, err);
    const int32_t n_t = (int32_t)(features.len / sizeof(float) / (size_t)s->n_features);
    if (st == UTTER_OK)
        st = ops->compile(e->backend, s->plan, 1, n_t, &exec, err);
    if (st != UTTER_OK)
        goto done;
    memcpy(ops->input(exec, ut_plan_find(s->plan, "features"), n_t), features.data, features.len);
    st = ops->run(exec, NULL, 0, n_t, err);
    if (st != UTTER_OK)
        goto done;
    const void *made = ops->output(exec, ut_plan_find(s->plan, "embedding"), err);
    if (!made) {
        st = err->status;
        goto done;
    }
    *embedding = ut_calloc((size_t)s->dim, sizeof **embedding);
    if (*embedding)
        memcpy(*embedding, made, (size_t)s->dim * sizeof **embedding);
    else
        st = ut_fail(err, UTTER_ERR_NOMEM, "no memory for a speaker's vector");
done:
    ops->exec_free(exec);
    ut_buf_free(&features);
    return st;
}

utter_status ut_codec_decode(utter_engine *e, const int32_t *codes, int32_t n_frames, float *pcm,
                             ut_err *err)
{
    const ut_codec *c = &e->model->codec;
    const ut_backend_ops *ops = e->backend->ops;
    size_t hop = (size_t)c->hop_samples, n_codebooks = (size_t)c->n_codebooks;
    ut_state *state = NULL;
    utter_status st = ops->state_new(e->backend, &c->decode_states, 1, &state, err);
    if (st != UTTER_OK)
        return st;
    ops->state_reset(state, 0);
    for (int32_t first = 0; first < n_frames && st == UTTER_OK;) {
        int32_t n = n_frames - first < e->sound_frames ? n_frames - first : e->sound_frames;
        memcpy(ops->input(e->decode[0], e->codes, n), codes + (size_t)first * n_codebooks,
               (size_t)n * n_codebooks * sizeof *codes);
        st = ops->run(e->decode[0], state, 0, n, err);
        const void *made = st == UTTER_OK ? ops->output(e->decode[0], e->pcm, err) : NULL;
        if (made)
            memcpy(pcm + (size_t)first * hop, made, (size_t)n * hop * sizeof *pcm);
        else if (st == UTTER_OK)
            st = err->status;
        first += n;
    }
    ops->state_free(state);
    return st;
}
