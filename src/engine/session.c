/* session.c - one generation: prefill, then frames of the AR loop and runs of the codec.
 *
 * When the codec runs, and for which sessions, is in sound.c; for the first sound it has the device
 * for itself. On a backend whose runs take place by themselves, frames go on being made while the
 * codec runs; on one that has done a run when it returns, the two take turns, by the same lines.
 * Nothing is allocated here after the engine was opened, but a larger prefill for a prompt longer
 * than all before. */
#include "engine/batch.h"
#include "base/alloc.h"
#include "base/os.h"
#include <string.h>

#define SPIN_S  100e-6 /* of looking for a frame or sound, before sleeping */
#define SLEEP_S 50e-6
#define LOOK_S  1.0 /* of looking, before waiting for a frame, which ends if the device is stuck */

/* ---- Opening -------------------------------------------------------------------------------- */

utter_status ut_session_new(ut_batch *b, int slot, ut_session **out, ut_err *err)
{
    utter_engine *e = b->engine;
    const ut_ar *ar = &e->model->ar;
    const ut_codec *codec = &e->model->codec;
    *out = NULL;
    ut_session *s = ut_calloc(1, sizeof *s);
    if (!s)
        return ut_fail(err, UTTER_ERR_NOMEM, "no memory for a session");
    s->engine = e;
    s->batch = b;
    s->slot = slot;
    size_t n_codes, n_pcm;
    utter_status st = UTTER_OK;
    if (!ut_size_mul((size_t)ar->capacity, (size_t)codec->n_codebooks, &n_codes) ||
        !ut_size_mul(UT_SOUND_RUNS * (size_t)e->sound_frames, (size_t)codec->hop_samples, &n_pcm)) {
        st = ut_fail(err, UTTER_ERR_LIMIT, "the model's buffers do not fit into memory");
        goto done;
    }
    s->column = ut_calloc((size_t)ar->columns, sizeof *s->column);
    s->codes = ut_calloc(n_codes, sizeof *s->codes);
    s->pcm = ut_calloc(n_pcm, sizeof *s->pcm);
    s->sound = ut_calloc(n_pcm, sizeof *s->sound);
    if (!s->column || !s->codes || !s->pcm || !s->sound) {
        st = ut_fail(err, UTTER_ERR_NOMEM, "no memory for the buffers of a session");
        goto done;
    }
    *out = s;
    s = NULL; /* handed over */
done:
    ut_session_free(s);
    return st;
}

void ut_session_free(ut_session *s)
{
    if (!s)
        return;
    ut_free(s->column);
    ut_free(s->codes);
    ut_free(s->pcm);
    ut_free(s->sound);
    ut_free(s->saved);
    ut_free(s);
}

static ut_session *find_unused(const ut_batch *b)
{
    for (; b; b = b->next)
        for (int i = 0; i < b->n_slots; i++)
            if (!b->sessions[i]->taken)
                return b->sessions[i];
    return NULL;
}

utter_status ut_session_take(utter_engine *e, ut_session **out, ut_err *err)
{
    *out = NULL;
    ut_session *s = find_unused(e->batches);
    if (!s) {
        ut_batch *more;
        utter_status st = ut_batch_new(e, &more, err);
        if (st != UTTER_OK)
            return st;
        more->next = e->batches->next; /* the first one stays until the engine is closed */
        e->batches->next = more;
        s = more->sessions[0];
    }
    s->taken = true;
    s->n_pcm = s->n_sound = 0;
    s->n_frame_runs = s->n_codec_frames = s->n_prefix_hit = 0;
    s->prefill_s = s->frame_s = s->codec_s = 0.0;
    *out = s;
    return UTTER_OK;
}

void ut_session_give(ut_session *s)
{
    if (!s)
        return;
    ut_batch *b = s->batch;
    ut_batch_leave(s);
    s->taken = false;
    for (int i = 0; i < b->n_slots; i++)
        if (b->sessions[i]->taken)
            return;
    for (ut_batch *before = b->engine->batches; before->next; before = before->next)
        if (before->next == b) {
            before->next = b->next;
            ut_batch_free(b);
            return;
        }
}

/* ---- Frames --------------------------------------------------------------------------------- */

static void end_frames(ut_session *s)
{
    s->ar_done = true;
    ut_batch_leave(s);
}

/* Unless frame s->n_frames is the one that says the speech is over, its codes are kept. */
utter_status ut_session_take_frame(ut_session *s, ut_err *err)
{
    const ut_ar *ar = &s->engine->model->ar;
    int32_t n_codebooks = s->engine->model->codec.n_codebooks;
    int32_t frame = s->n_frames;
    utter_status st =
        s->engine->backend->ops->ring_wait(s->batch->ar, ar->ring, s->slot, frame, s->column, err);
    if (st != UTTER_OK)
        return st;
    if (frame > 0)
        s->n_frame_runs++;
    if (s->column[0] == ar->stop_id && frame >= ar->stop_from_frame && !s->now.ignore_eos) {
        end_frames(s);
        return UTTER_OK;
    }
    memcpy(s->codes + (size_t)frame * (size_t)n_codebooks, s->column + ar->first_code_col,
           (size_t)n_codebooks * sizeof *s->codes);
    if (ut_runaway_repeats(&s->watch, s->codes, n_codebooks, frame))
        s->runaway = "repeats itself and was ended after";
    s->n_frames++;
    if (s->n_frames == s->now.limit || s->runaway) {
        s->limited = true;
        end_frames(s);
    }
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
    if (ut_prefix_load_codec(&e->prefixes, context, n_codes, s->batch->codec, s->slot))
        return UTTER_OK;
    utter_status st = UTTER_OK;
    for (int32_t first = 0; st == UTTER_OK && first < n; first += e->sound_frames) {
        const int32_t here = n - first < e->sound_frames ? n - first : e->sound_frames;
        memcpy(ops->input(e->decode[0], e->codes, here), context + (size_t)first * n_codebooks,
               (size_t)here * n_codebooks * sizeof *context);
        st = ops->run(e->decode[0], s->batch->codec, s->slot, here, err);
    }
    if (st == UTTER_OK)
        ut_prefix_save_codec(&e->prefixes, context, n_codes, s->batch->codec, s->slot);
    return st;
}

/* Text tokens that go along with the frames, behind those that are there. */
static void write_text(ut_session *s, const int32_t *tokens, size_t n)
{
    const ut_ar *ar = &s->engine->model->ar;
    for (size_t i = 0; ar->text >= 0 && i < n && s->n_later < ar->capacity; i++) {
        const int32_t token = tokens[i] - ar->text_pad;
        s->engine->backend->ops->state_write(s->batch->ar, ar->text, s->slot, s->n_later++, 1,
                                             &token);
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
    ops->state_write(s->batch->ar, ar->params, s->slot, 0, ar->states.def[ar->params].rows,
                     g->params);
    ops->state_write(s->batch->ar, ar->rng, s->slot, 0, 1, rng);
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
    s->n_pcm = s->n_sound = 0;
    s->n_started = s->n_frames = s->n_decoded = s->n_speaking = s->n_later = 0;
    s->heard_since = 0;
    s->ar_done = s->limited = s->lost = false;
    s->runaway = NULL;
    ut_runaway_start(&s->watch, g->runaway);
    ut_batch_leave(s);

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
    ops->state_reset(s->batch->ar, s->slot);
    ops->state_reset(s->batch->codec, s->slot);
    const int32_t n_kept = ut_prefix_load(&e->prefixes, ar, g->prompt, s->batch->ar, s->slot);
    utter_status st = ut_engine_fit_prefill(e, n_prompt - n_kept, err);
    if (st != UTTER_OK)
        return st;
    write_inputs(s, g, n_kept, n_prompt);
    st = ops->run(e->prefill, s->batch->ar, s->slot, n_prompt - n_kept, err);
    if (st != UTTER_OK)
        return st;
    s->n_prefix_hit += n_kept;
    s->n_prompt = n_prompt;
    s->n_started = 1;
    s->live = true;
    double begun = ut_time_now();
    s->prefill_s += begun - start;
    st = follow_context(s, g->context, g->prompt->n_context, err);
    start = ut_time_now();
    s->codec_s += start - begun;
    if (st == UTTER_OK)
        st = ut_session_take_frame(s, err);
    if (st == UTTER_OK && n_kept == 0)
        ut_prefix_save(&e->prefixes, ar, g->prompt, s->batch->ar, s->slot);
    s->prefill_s += ut_time_now() - start;
    if (st != UTTER_OK)
        ut_batch_leave(s);
    return st;
}

utter_status ut_session_feed(ut_session *s, const int32_t *tokens, size_t n, int32_t pause,
                             int32_t limit, ut_err *err)
{
    utter_status st = ut_batch_wake(s, err);
    if (st != UTTER_OK)
        return st;
    write_text(s, tokens, n);
    s->now.pause = pause;
    if (limit < s->now.limit)
        s->now.limit = limit;
    if (!s->ar_done && s->n_frames >= s->now.limit) {
        s->limited = true;
        end_frames(s);
    }
    return UTTER_OK;
}

/* ---- Sound ---------------------------------------------------------------------------------- */

/* The speech is over with the first n of the frames that the codec was started on, whatever has
 * been made since. */
static void stop_speaking(ut_session *s, int32_t n)
{
    s->n_decoded -= s->n_speaking - n;
    s->n_frames = s->n_decoded;
    s->n_speaking = n;
    s->limited = true;
    s->runaway = "is silent and was ended after";
    end_frames(s);
}

void ut_session_hear(ut_session *s, const float *pcm)
{
    const int32_t hop = s->engine->model->codec.hop_samples;
    s->lost = s->lost || !pcm;
    if (pcm) {
        const int32_t n = ut_runaway_silence(&s->watch, pcm, s->n_speaking, hop);
        if (n <= s->n_speaking)
            stop_speaking(s, n);
        const size_t n_samples = (size_t)s->n_speaking * (size_t)hop;
        memcpy(s->sound + s->n_sound, pcm, n_samples * sizeof *pcm);
        s->n_sound += n_samples;
    }
    s->n_speaking = 0;
}

/* What was made becomes the caller's. */
static void hand_out(ut_session *s)
{
    float *const free_now = s->pcm;
    if (s->heard_since == 0 && s->n_sound > 0)
        s->heard_since = s->engine->clock();
    s->pcm = s->sound;
    s->n_pcm = s->n_sound;
    s->sound = free_now;
    s->n_sound = 0;
}

/* Start frames and take one. While the codec runs, its end also ends the waiting. */
static utter_status next_frame(ut_session *s, ut_err *err)
{
    const double start = ut_time_now();
    utter_status st = ut_batch_start(s->batch, err);
    double waited = 0;
    bool sound = false;
    while (st == UTTER_OK && s->batch->sound.slots && !ut_batch_ready(s->batch) &&
           waited < LOOK_S) {
        sound = ut_sound_ready(s->batch);
        if (sound)
            break;
        if (waited < SPIN_S)
            ut_thread_pause();
        else
            ut_sleep(SLEEP_S);
        waited = ut_time_now() - start;
    }
    if (st == UTTER_OK && !sound)
        st = ut_batch_take(s->batch, err);
    s->frame_s += ut_time_now() - start;
    return st;
}

/* Start the codec for somebody, or fetch what it has made. */
static utter_status use_codec(ut_session *s, bool *started, ut_err *err)
{
    const double start = ut_time_now();
    const utter_status st =
        started ? ut_sound_start(s, started, err) : ut_sound_fetch(s->batch, err);
    s->codec_s += ut_time_now() - start;
    return st;
}

static utter_status make_sound(ut_session *s, bool (*cancelled)(void *), void *user, ut_err *err)
{
    const ut_batch *b = s->batch;
    while (s->n_sound == 0) {
        if (s->lost)
            return ut_fail(err, UTTER_ERR_BACKEND, "the codec failed when this was to be spoken");
        const bool more = !s->ar_done && s->n_frames < s->now.pause;
        const bool first = s->n_speaking > 0 && s->n_decoded == s->n_speaking;
        utter_status st = UTTER_OK;
        bool started = false;
        if (b->sound.slots && (first || !more || ut_sound_ready(b))) {
            st = use_codec(s, NULL, err);
            if (st != UTTER_OK)
                return st;
            continue;
        }
        if (!more && s->n_decoded == s->n_frames)
            return UTTER_OK;
        if (cancelled(user))
            return ut_fail(err, UTTER_ERR_CANCELLED, "cancelled");
        if (!b->sound.slots)
            st = use_codec(s, &started, err);
        if (st == UTTER_OK && !started)
            st = next_frame(s, err);
        if (st != UTTER_OK)
            return st;
    }
    return UTTER_OK;
}

utter_status ut_session_more(ut_session *s, bool (*cancelled)(void *), void *user, ut_err *err)
{
    s->n_pcm = 0;
    const utter_status st = make_sound(s, cancelled, user, err);
    if (st == UTTER_OK) {
        hand_out(s);
    } else { /* of a run that was started, others hear their part */
        ut_err ignored = {0};
        ut_sound_fetch(s->batch, &ignored);
    }
    return st;
}
