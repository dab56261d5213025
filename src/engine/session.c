/* session.c - one generation: prefill, then frames of the AR loop in turns with runs of the codec.
 *
 * The codec runs when enough frames wait for it: one at first, so that the first samples come as
 * early as they can, later half as many as it has decoded: a listener then never waits as long as
 * the work takes up to 2/3 of the time that its sound lasts. A row of a plan's result does not
 * depend on how many rows there are, so this changes no sample. Nothing is allocated here after
 * ut_session_take, but a larger prefill for a prompt longer than all before. */
#include "engine/engine.h"
#include "base/alloc.h"
#include "base/os.h"
#include <string.h>

utter_status ut_session_take(utter_engine *e, ut_session **out, ut_err *err)
{
    *out = NULL;
    ut_session *s = e->idle;
    if (s) {
        e->idle = NULL;
        s->n_pcm = 0;
        s->n_frame_runs = s->n_codec_frames = s->n_prefix_hit = 0;
        s->prefill_s = s->frame_s = s->codec_s = 0.0;
        *out = s;
        return UTTER_OK;
    }
    const ut_ar *ar = &e->model->ar;
    const ut_codec *codec = &e->model->codec;
    s = ut_calloc(1, sizeof *s);
    if (!s)
        return ut_fail(err, UTTER_ERR_NOMEM, "no memory for a session");
    s->engine = e;
    size_t n_codes, n_pcm;
    utter_status st = UTTER_OK;
    if (!ut_size_mul((size_t)ar->capacity, (size_t)codec->n_codebooks, &n_codes) ||
        !ut_size_mul((size_t)codec->max_frames, (size_t)codec->hop_samples, &n_pcm)) {
        st = ut_fail(err, UTTER_ERR_LIMIT, "the model's buffers do not fit into memory");
        goto done;
    }
    s->column = ut_calloc((size_t)ar->columns, sizeof *s->column);
    s->codes = ut_calloc(n_codes, sizeof *s->codes);
    s->pcm = ut_calloc(n_pcm, sizeof *s->pcm);
    if (!s->column || !s->codes || !s->pcm) {
        st = ut_fail(err, UTTER_ERR_NOMEM, "no memory for the buffers of a session");
        goto done;
    }
    st = e->backend->ops->state_new(e->backend, &ar->states, 1, &s->ar, err);
    if (st == UTTER_OK)
        st = e->backend->ops->state_new(e->backend, &codec->decode_states, 1, &s->codec, err);
    if (st != UTTER_OK)
        goto done;
    *out = s;
    s = NULL; /* handed over */
done:
    ut_session_free(s);
    return st;
}

void ut_session_give(ut_session *s)
{
    if (!s)
        return;
    if (s->engine->idle)
        ut_session_free(s);
    else
        s->engine->idle = s;
}

void ut_session_free(ut_session *s)
{
    if (!s)
        return;
    const ut_backend_ops *ops = s->engine->backend->ops;
    ops->state_free(s->ar);
    ops->state_free(s->codec);
    ut_free(s->column);
    ut_free(s->codes);
    ut_free(s->pcm);
    ut_free(s);
}

/* Wait for frame s->n_frames of the sequence and keep its codes, unless it is the one that says
 * the speech is over. */
static utter_status take_frame(ut_session *s, ut_err *err)
{
    const ut_ar *ar = &s->engine->model->ar;
    int32_t n_codebooks = s->engine->model->codec.n_codebooks;
    int32_t frame = s->n_frames;
    utter_status st = s->engine->backend->ops->ring_wait(s->ar, ar->ring, 0, frame, s->column, err);
    if (st != UTTER_OK)
        return st;
    if (s->column[0] == ar->stop_id && frame >= ar->stop_from_frame && !s->now.ignore_eos) {
        s->ar_done = true;
        return UTTER_OK;
    }
    memcpy(s->codes + (size_t)frame * (size_t)n_codebooks, s->column + ar->first_code_col,
           (size_t)n_codebooks * sizeof *s->codes);
    s->n_frames++;
    if (s->n_frames == s->now.limit)
        s->ar_done = s->limited = true;
    return UTTER_OK;
}

/* ---- Beginning ------------------------------------------------------------------------------ */

/* Bring the codec to where the context's frames end, whatever the text is. */
static utter_status follow_context(ut_session *s, const int32_t *context, int32_t n, ut_err *err)
{
    utter_engine *e = s->engine;
    const ut_codec *codec = &e->model->codec;
    const ut_backend_ops *ops = e->backend->ops;
    const size_t n_codebooks = (size_t)codec->n_codebooks, n_codes = (size_t)n * n_codebooks;
    if (n == 0)
        return UTTER_OK;
    if (ut_prefix_load_codec(&e->prefixes, context, n_codes, s->codec, 0))
        return UTTER_OK;
    utter_status st = UTTER_OK;
    for (int32_t first = 0; st == UTTER_OK && first < n; first += codec->max_frames) {
        const int32_t here = n - first < codec->max_frames ? n - first : codec->max_frames;
        memcpy(ops->input(e->decode, e->codes, here), context + (size_t)first * n_codebooks,
               (size_t)here * n_codebooks * sizeof *context);
        st = ops->run(e->decode, s->codec, 0, here, err);
    }
    if (st == UTTER_OK)
        ut_prefix_save_codec(&e->prefixes, context, n_codes, s->codec, 0);
    return st;
}

/* Text tokens that go along with the frames, behind those that are there. */
static void write_text(ut_session *s, const int32_t *tokens, size_t n)
{
    const ut_ar *ar = &s->engine->model->ar;
    for (size_t i = 0; ar->text >= 0 && i < n && s->n_later < ar->capacity; i++) {
        const int32_t token = tokens[i] - ar->text_pad;
        s->engine->backend->ops->state_write(s->ar, ar->text, 0, s->n_later++, 1, &token);
    }
}

/* Everything that prefill, from column `first` of the prompt on, and the first frames read. */
static void write_inputs(ut_session *s, const ut_generation *g, int32_t first, int32_t n_prompt)
{
    utter_engine *e = s->engine;
    const ut_model *m = e->model;
    const ut_ar *ar = &m->ar;
    const ut_backend_ops *ops = e->backend->ops;
    uint32_t rng[UT_RNG_COUNT] = {
        [UT_RNG_SEED_LO] = (uint32_t)g->seed, [UT_RNG_SEED_HI] = (uint32_t)(g->seed >> 32)};
    ops->state_write(s->ar, ar->params, 0, 0, ar->states.def[ar->params].rows, g->params);
    ops->state_write(s->ar, ar->rng, 0, 0, 1, rng);
    memcpy(ops->input(e->prefill, e->tokens, n_prompt - first),
           ut_buf_i32(&g->prompt->columns) + (size_t)first * (size_t)ar->columns,
           (size_t)(n_prompt - first) * (size_t)ar->columns * sizeof(int32_t));
    write_text(s, ut_buf_i32(&g->prompt->later), ut_buf_n_i32(&g->prompt->later));
    const ut_tid speaker = ut_plan_find(ar->prefill, "speaker");
    if (speaker == UT_NONE)
        return;
    float *x = ops->input(e->prefill, speaker, n_prompt - first);
    const size_t bytes = (size_t)m->speaker.dim * sizeof *x;
    if (g->prompt->embedding.len == bytes)
        memcpy(x, g->prompt->embedding.data, bytes);
    else
        memset(x, 0, bytes);
}

utter_status ut_session_begin(ut_session *s, const ut_generation *g, ut_err *err)
{
    utter_engine *e = s->engine;
    const ut_ar *ar = &e->model->ar;
    const ut_backend_ops *ops = e->backend->ops;
    const size_t positions = ut_buf_n_i32(&g->prompt->columns) / (size_t)ar->columns;
    double start = ut_time_now();
    s->now = *g;
    s->now.prompt = NULL;
    s->now.context = NULL;
    s->n_pcm = 0;
    s->n_frames = s->n_decoded = s->n_later = 0;
    s->ar_done = s->limited = false;

    /* The prompt takes positions 0 .. n_prompt - 1 and gives frame 0; frame f >= 1 takes position
     * n_prompt + f - 1. */
    if (positions < 1 || positions > (size_t)ar->max_prompt || positions > (size_t)ar->capacity)
        return ut_fail(err, UTTER_ERR_LIMIT,
                       "the prompt has %zu tokens, the model takes 1..%d; use a shorter recording",
                       positions, (int)ar->max_prompt);
    const int32_t n_prompt = (int32_t)positions;
    int32_t room = ar->capacity - n_prompt + 1;
    if (room > ar->capacity)
        room = ar->capacity;
    if (s->now.limit > room)
        s->now.limit = room;
    ops->state_reset(s->ar, 0);
    ops->state_reset(s->codec, 0);
    const int32_t n_kept = ut_prefix_load(&e->prefixes, ar, g->prompt, s->ar, 0);
    utter_status st = ut_engine_fit_prefill(e, n_prompt - n_kept, err);
    if (st != UTTER_OK)
        return st;
    write_inputs(s, g, n_kept, n_prompt);
    st = ops->run(e->prefill, s->ar, 0, n_prompt - n_kept, err);
    if (st == UTTER_OK)
        st = take_frame(s, err);
    if (st == UTTER_OK && n_kept == 0)
        ut_prefix_save(&e->prefixes, ar, g->prompt, s->ar, 0);
    s->n_prefix_hit += n_kept;
    s->prefill_s += ut_time_now() - start;
    start = ut_time_now();
    if (st == UTTER_OK)
        st = follow_context(s, g->context, g->prompt->n_context, err);
    s->codec_s += ut_time_now() - start;
    return st;
}

void ut_session_feed(ut_session *s, const int32_t *tokens, size_t n, int32_t pause, int32_t limit)
{
    write_text(s, tokens, n);
    s->now.pause = pause;
    if (limit < s->now.limit)
        s->now.limit = limit;
    if (!s->ar_done && s->n_frames >= s->now.limit)
        s->ar_done = s->limited = true;
}

/* Run the codec over the next n frames. */
static utter_status decode(ut_session *s, int32_t n, ut_err *err)
{
    utter_engine *e = s->engine;
    const ut_codec *codec = &e->model->codec;
    const ut_backend_ops *ops = e->backend->ops;
    double start = ut_time_now();
    size_t n_codebooks = (size_t)codec->n_codebooks;
    memcpy(ops->input(e->decode, e->codes, n), s->codes + (size_t)s->n_decoded * n_codebooks,
           (size_t)n * n_codebooks * sizeof *s->codes);
    utter_status st = ops->run(e->decode, s->codec, 0, n, err);
    if (st != UTTER_OK)
        return st;
    s->n_pcm = (size_t)n * (size_t)codec->hop_samples;
    const void *pcm = ops->output(e->decode, e->pcm, err);
    if (!pcm)
        return err->status;
    memcpy(s->pcm, pcm, s->n_pcm * sizeof *s->pcm);
    s->n_decoded += n;
    s->n_codec_frames += n;
    s->codec_s += ut_time_now() - start;
    return UTTER_OK;
}

/* Frames of the next codec run. */
static int32_t next_run(const ut_session *s)
{
    int32_t n = s->n_decoded / 2, max = s->engine->model->codec.max_frames;
    return n < 1 ? 1 : n > max ? max : n;
}

utter_status ut_session_more(ut_session *s, bool (*cancelled)(void *), void *user, ut_err *err)
{
    utter_engine *e = s->engine;
    int32_t n = next_run(s);
    s->n_pcm = 0;
    while (!s->ar_done && s->n_frames - s->n_decoded < n && s->n_frames < s->now.pause) {
        if (cancelled(user))
            return ut_fail(err, UTTER_ERR_CANCELLED, "cancelled");
        double start = ut_time_now();
        utter_status st = e->backend->ops->run(e->frame, s->ar, 0, 1, err);
        if (st == UTTER_OK)
            st = take_frame(s, err);
        if (st != UTTER_OK)
            return st;
        s->n_frame_runs++;
        s->frame_s += ut_time_now() - start;
    }
    if (n > s->n_frames - s->n_decoded)
        n = s->n_frames - s->n_decoded;
    if (n == 0)
        return UTTER_OK;
    if (cancelled(user))
        return ut_fail(err, UTTER_ERR_CANCELLED, "cancelled");
    return decode(s, n, err);
}
