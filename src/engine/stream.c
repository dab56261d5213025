/* stream.c - one utterance: text is cut into chunks, each chunk is one generation of a session, and
 * samples are read as they are made.
 *
 * Every chunk starts from the same voice: the recording of the voice is the reference of its
 * prompt. Without a voice the first chunk gets whatever voice the model makes up, and from then on
 * the chunk before is the reference, so that the voice stays. The AR loop and the codec start anew
 * with every chunk; speech begins and ends near silence, so that chunks are simply put one after
 * the other. */
#include "base/alloc.h"
#include "base/log.h"
#include "base/os.h"
#include "engine/engine.h"
#include "engine/params.h"
#include "engine/voice.h"
#include "text/sentences.h"
#include <math.h>
#include <stdatomic.h>
#include <string.h>
#include <time.h>

#define MAX_TOP_K       (1 << 24)
#define PARAMS_OLDEST   UT_SIZE_UPTO(utter_synth_params, reserved)
#define STATS_OLDEST    UT_SIZE_UPTO(utter_stats, peak_rss_mb)
#define MAX_TEMPERATURE 2.0f
#define MIN_PENALTY     0.5f
#define MAX_PENALTY     2.0f
#define GUARD_FRAMES    20                /* of frames_per_char_limit, see model.h */
#define MAX_PROMPT      ((size_t)1 << 30) /* bytes */

struct utter_stream {
    utter_engine *engine;
    utter_synth_params params;      /* every field has its value; voice NULL: none */
    float sampling[2][UT_SP_COUNT]; /* what they mean for ar.params */
    ut_session *session;
    ut_splitter *splitter;
    ut_prompt prompt;    /* of the chunk in work, kept for its memory */
    ut_buf chunk;        /* text of the chunk in work, 0-terminated */
    ut_buf last;         /* text of the chunk before; with last_codes a reference */
    int32_t *last_codes; /* [ar.capacity, n_codebooks]; NULL with a voice */
    int32_t n_last;      /* frames of it */
    size_t read;         /* samples of session->pcm that were handed out */
    bool generating;     /* a chunk is in work */
    bool open;           /* ... whose text is not complete yet */
    bool closed_only;    /* chunks can only begin with their text complete */
    size_t n_tokens;     /* of an open chunk, given to the session */
    int32_t frames_left; /* of max_frames, when the chunk began */
    ut_buf tokens;       /* of an open chunk, kept for its memory */
    bool finished;       /* no more text */
    bool limit_reached;  /* max_frames: nothing more will be spoken */
    utter_status failed; /* what ended the stream for good */
    atomic_bool cancelled;
    double first_push; /* time of it; 0: none yet */
    utter_stats stats; /* counts; the rest is worked out when asked for */
};

/* ---- Opening -------------------------------------------------------------------------------- */

/* value, or the model's default when it is -1; within (or at) the bounds. */
static utter_status choose(float *value, float of_model, bool in_range, const char *name,
                           const char *range, ut_err *err)
{
    if (*value == -1.0f) {
        *value = of_model;
        return UTTER_OK;
    }
    if (in_range)
        return UTTER_OK;
    return ut_fail(err, UTTER_ERR_ARG, "%s is %g, expected %s, or -1 for the model's default", name,
                   (double)*value, range);
}

/* A seed when none was given: unpredictable enough to differ between runs, short enough to type. */
static int64_t make_seed(utter_engine *e)
{
    uint64_t x = (uint64_t)time(NULL) * 0x9e3779b97f4a7c15u;
    x ^= (uint64_t)(ut_time_now() * 1e9) + ++e->n_seeds;
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u; /* the finaliser of splitmix64 */
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
    return (int64_t)((x ^ (x >> 31)) >> 32);
}

/* The rows of ar.params: what the caller gave is for all decisions. */
static void set_sampling(const ut_model_defaults *d, const utter_synth_params *given,
                         const utter_synth_params *p, float sampling[2][UT_SP_COUNT])
{
    sampling[0][UT_SP_TEMPERATURE] = p->temperature;
    sampling[0][UT_SP_TOP_P] = p->top_p;
    sampling[0][UT_SP_REPETITION_PENALTY] = p->repetition_penalty;
    sampling[0][UT_SP_TOP_K] = (float)p->top_k;
    memcpy(sampling[1], sampling[0], sizeof sampling[0]);
    sampling[1][UT_SP_REPETITION_PENALTY] = 1.0f;
    if (given->temperature == -1.0f)
        sampling[1][UT_SP_TEMPERATURE] = d->sub_temperature;
    if (given->top_p == -1.0f)
        sampling[1][UT_SP_TOP_P] = d->sub_top_p;
    if (given->top_k == -1)
        sampling[1][UT_SP_TOP_K] = (float)d->sub_top_k;
}

static utter_status read_params(utter_engine *e, utter_stream *s, const utter_synth_params *given,
                                ut_err *err)
{
    const ut_model_defaults *d = &e->model->defaults;
    utter_synth_params *p = &s->params;
    utter_synth_params_init(p);
    utter_status st = UTTER_OK;
    if (given)
        st = ut_struct_read(p, sizeof *p, given, PARAMS_OLDEST, "utter_synth_params", err);
    const utter_synth_params asked = *p;
    if (st == UTTER_OK)
        st = choose(&p->temperature, d->temperature,
                    p->temperature >= 0.0f && p->temperature <= MAX_TEMPERATURE, "temperature",
                    "0..2", err);
    if (st == UTTER_OK)
        st = choose(&p->top_p, d->top_p, p->top_p > 0.0f && p->top_p <= 1.0f, "top_p",
                    "more than 0 and at most 1", err);
    if (st == UTTER_OK)
        st = choose(&p->repetition_penalty, d->repetition_penalty,
                    p->repetition_penalty >= MIN_PENALTY && p->repetition_penalty <= MAX_PENALTY,
                    "repetition_penalty", "0.5..2", err);
    if (st != UTTER_OK)
        return st;
    if (p->top_k < -1 || p->top_k > MAX_TOP_K)
        return ut_fail(err, UTTER_ERR_ARG,
                       "top_k is %d, expected 0..%d, or -1 for the model's default", (int)p->top_k,
                       MAX_TOP_K);
    if (p->top_k == -1)
        p->top_k = d->top_k;
    set_sampling(d, &asked, p, s->sampling);
    if (p->max_frames < 0)
        return ut_fail(err, UTTER_ERR_ARG, "max_frames is %d, expected 0 or more",
                       (int)p->max_frames);
    if (p->seed < -1)
        return ut_fail(err, UTTER_ERR_ARG, "seed is %lld, expected 0 or more, or -1 for any",
                       (long long)p->seed);
    if ((p->ignore_eos | p->no_voice) & ~1)
        return ut_fail(err, UTTER_ERR_ARG, "%s is neither 0 nor 1",
                       p->ignore_eos & ~1 ? "ignore_eos" : "no_voice");
    if (p->text_feed < 0 || p->text_feed > UT_FEED_ALONG)
        return ut_fail(err, UTTER_ERR_ARG, "text_feed is %d, expected 0..%d", (int)p->text_feed,
                       UT_FEED_ALONG);
    if (p->no_voice && p->voice)
        return ut_fail(err, UTTER_ERR_ARG, "no_voice is 1, but there is a voice");
    if (!p->no_voice && !p->voice)
        p->voice = e->voice;
    if (p->seed < 0)
        p->seed = make_seed(e);
    return p->voice ? ut_voice_check(e, p->voice, err) : UTTER_OK;
}

/* What a chunk asks of the model, but for its text and what it goes on from. ref is filled from the
 * voice, if that is a recording. */
static ut_request request_of(const utter_synth_params *p, ut_reference *ref)
{
    const utter_voice *v = p->voice;
    ut_request r = {.instruct = p->instruct,
                    .language = p->language,
                    .feed = (ut_feed)p->text_feed,
                    .refs = ref};
    if (v && v->is_speaker)
        r.speaker = v->name;
    if (v && !v->is_speaker) {
        *ref = (ut_reference){
            .text = v->text, .codes = v->codes, .n_frames = v->n_frames, .embedding = v->embedding};
        r.n_refs = 1;
    }
    return r;
}

/* Can the model do what is asked? Better known now than with the first text. */
static utter_status check_request(const utter_stream *s, ut_err *err)
{
    const ut_model *m = s->engine->model;
    const utter_synth_params *p = &s->params;
    if (m->voices & UT_VOICE_NONE && !p->instruct && !p->language)
        return UTTER_OK;
    ut_reference ref = {0};
    ut_request r = request_of(p, &ref);
    r.text = "a";
    ut_prompt prompt;
    ut_prompt_init(&prompt);
    utter_status st = m->ops->prompt(m, &r, &prompt, err);
    ut_prompt_free(&prompt);
    return st;
}

utter_status utter_stream_open(utter_engine *e, const utter_synth_params *params,
                               utter_stream **out)
{
    ut_err *err = ut_api_err(e);
    if (out)
        *out = NULL;
    if (!e || !out)
        return ut_fail_null(err, "utter_stream_open", e ? "out" : "engine");
    utter_stream *s = ut_calloc(1, sizeof *s);
    if (!s)
        return ut_fail(err, UTTER_ERR_NOMEM, "no memory for a stream");
    const ut_model *m = e->model;
    s->engine = e;
    atomic_init(&s->cancelled, false);
    ut_prompt_init(&s->prompt);
    ut_buf_init(&s->chunk, MAX_PROMPT);
    ut_buf_init(&s->last, MAX_PROMPT);
    ut_buf_init(&s->tokens, MAX_PROMPT);
    utter_status st = read_params(e, s, params, err);
    if (st == UTTER_OK)
        st = check_request(s, err);
    if (st != UTTER_OK)
        goto done;
    s->splitter = ut_splitter_new((size_t)m->defaults.max_chunk_chars);
    if (!s->params.voice)
        s->last_codes =
            ut_calloc((size_t)m->ar.capacity, (size_t)m->codec.n_codebooks * sizeof *s->last_codes);
    if (!s->splitter || (!s->params.voice && !s->last_codes)) {
        st = ut_fail(err, UTTER_ERR_NOMEM, "no memory for a stream");
        goto done;
    }
    st = ut_session_take(e, &s->session, err);
    if (st == UTTER_OK) {
        *out = s;
        s = NULL; /* handed over */
    }
done:
    utter_stream_close(s);
    return st;
}

void utter_stream_close(utter_stream *s)
{
    if (!s)
        return;
    ut_session_give(s->session);
    ut_splitter_free(s->splitter);
    ut_prompt_free(&s->prompt);
    ut_buf_free(&s->chunk);
    ut_buf_free(&s->last);
    ut_buf_free(&s->tokens);
    ut_free(s->last_codes);
    ut_free(s);
}

/* ---- Text ----------------------------------------------------------------------------------- */

utter_status utter_stream_push(utter_stream *s, const char *text, size_t n)
{
    ut_err *err = ut_api_err(s ? s->engine : NULL);
    if (!s || (!text && n > 0))
        return ut_fail_null(err, "utter_stream_push", s ? "text" : "stream");
    if (s->finished)
        return ut_fail(err, UTTER_ERR_ARG, "utter_stream_push after utter_stream_finish");
    if (s->failed != UTTER_OK)
        return ut_fail(err, s->failed, "the stream has failed before");
    if (n == 0)
        return UTTER_OK;
    double start = ut_time_now();
    if (s->first_push == 0.0)
        s->first_push = start;
    utter_status st = UTTER_OK;
    if (memchr(text, 0, n))
        st = ut_fail(err, UTTER_ERR_TEXT, "the text has a NUL character, expected plain text");
    if (st == UTTER_OK)
        st = ut_splitter_push(s->splitter, text, n, err);
    s->failed = st;
    s->stats.busy_s += ut_time_now() - start;
    return st;
}

utter_status utter_stream_finish(utter_stream *s)
{
    ut_err *err = ut_api_err(s ? s->engine : NULL);
    if (!s)
        return ut_fail_null(err, "utter_stream_finish", "stream");
    if (s->failed != UTTER_OK)
        return ut_fail(err, s->failed, "the stream has failed before");
    if (s->finished)
        return UTTER_OK;
    s->finished = true;
    s->failed = ut_splitter_finish(s->splitter, err);
    return s->failed;
}

/* ---- Chunks --------------------------------------------------------------------------------- */

/* Characters (code points) of valid UTF-8. */
static size_t count_chars(const char *s, size_t n)
{
    size_t chars = 0;
    for (size_t i = 0; i < n; i++)
        chars += ((unsigned char)s[i] & 0xc0) != 0x80;
    return chars;
}

static bool set_text(ut_buf *b, const char *text, size_t n)
{
    ut_buf_clear(b);
    return ut_buf_append(b, text, n);
}

/* The prompt of the chunk, with its reference: the voice, or the chunk before. *context: the codes
 * of the reference. */
static utter_status make_prompt(utter_stream *s, const int32_t **context, ut_err *err)
{
    const ut_model *m = s->engine->model;
    const utter_voice *v = s->params.voice;
    ut_reference ref = {0};
    ut_request request = request_of(&s->params, &ref);
    request.text = (const char *)s->chunk.data;
    request.open = s->open;
    if (!v && s->n_last > 0 && (m->voices & UT_VOICE_REFERENCE)) {
        ref = (ut_reference){
            .text = (const char *)s->last.data, .codes = s->last_codes, .n_frames = s->n_last};
        request.n_refs = 1;
    }
    *context = ref.codes;
    ut_prompt_clear(&s->prompt);
    if (v || request.n_refs == 0)
        return m->ops->prompt(m, &request, &s->prompt, err);
    ut_err why = {0};
    utter_status st = m->ops->prompt(m, &request, &s->prompt, &why);
    s->prompt.n_prefix = 0; /* no other prompt will begin with this chunk */
    if (st != UTTER_ERR_LIMIT)
        return st == UTTER_OK ? st : ut_fail(err, st, "%s", why.msg);
    ut_log(UT_LOG_WARN, "chunk %lld: the voice may change, since %s",
           (long long)s->stats.chunks + 1, why.msg);
    ut_prompt_clear(&s->prompt);
    request.n_refs = 0;
    return m->ops->prompt(m, &request, &s->prompt, err);
}

/* Most frames that the chunk may have, by what is known of its text. */
static int32_t frame_limit(const utter_stream *s)
{
    float per_char = s->engine->model->defaults.frames_per_char_limit;
    double limit = INT32_MAX;
    if (per_char > 0.0f && !s->params.ignore_eos)
        limit = GUARD_FRAMES +
                (double)per_char * (double)count_chars((const char *)s->chunk.data, s->chunk.len);
    limit = fmin(limit, (double)s->frames_left);
    return limit < INT32_MAX ? (int32_t)limit : INT32_MAX;
}

/* Frames of repetition or silence after which a chunk is ended. */
static int32_t runaway_frames(const utter_stream *s)
{
    const ut_model *m = s->engine->model;
    const double frames =
        (double)m->defaults.runaway_s * m->info.sample_rate / m->codec.hop_samples;
    return s->params.ignore_eos ? 0 : (int32_t)fmin(ceil(frames), INT32_MAX);
}

/* Frames that an open chunk may have before more of its text is known: frame f >= 1 hears text
 * token f, and no frame is made that the limit of a longer text would not allow. */
static int32_t frames_until_text(const utter_stream *s)
{
    const int32_t limit = frame_limit(s);
    return s->n_tokens < (size_t)limit ? (int32_t)s->n_tokens : limit;
}

/* The chunk, or (s->open) what is certain of it. */
static utter_status begin_chunk(utter_stream *s, const char *text, size_t n, ut_err *err)
{
    const ut_ar *ar = &s->engine->model->ar;
    s->frames_left =
        s->params.max_frames > 0 ? s->params.max_frames - (int32_t)s->stats.frames : INT32_MAX;
    if (!set_text(&s->chunk, text, n))
        return ut_fail(err, UTTER_ERR_NOMEM, "no memory for a chunk of text");
    const int32_t *context;
    utter_status st = make_prompt(s, &context, err);
    if (st != UTTER_OK)
        return st;
    s->n_tokens = 1 + ut_buf_n_i32(&s->prompt.later);
    ut_generation g = {
        .prompt = &s->prompt,
        .context = context,
        .limit = s->open ? s->frames_left : frame_limit(s),
        .pause = s->open ? frames_until_text(s) : INT32_MAX,
        /* The first chunk has the seed itself; a Philox key may be any number. */
        .seed = (uint64_t)s->params.seed + (uint64_t)s->stats.chunks * 0x9e3779b97f4a7c15u,
        .ignore_eos = s->params.ignore_eos != 0,
        .runaway = runaway_frames(s),
    };
    memcpy(g.params, s->sampling, sizeof g.params);
    st = ut_session_begin(s->session, &g, err);
    if (st != UTTER_OK)
        return st;
    s->stats.prompt_tokens += (int64_t)(ut_buf_n_i32(&s->prompt.columns) / (size_t)ar->columns);
    s->stats.chunks++;
    s->generating = true;
    return UTTER_OK;
}

/* More of an open chunk's text, all from its beginning; or, complete, all there is. */
static utter_status feed_chunk(utter_stream *s, const char *text, size_t n, bool complete,
                               ut_err *err)
{
    const ut_model *m = s->engine->model;
    if (!set_text(&s->chunk, text, n))
        return ut_fail(err, UTTER_ERR_NOMEM, "no memory for a chunk of text");
    ut_buf_clear(&s->tokens);
    utter_status st = m->ops->text(m, (const char *)s->chunk.data, !complete, &s->tokens, err);
    if (st != UTTER_OK)
        return st;
    const size_t before = s->n_tokens, all = ut_buf_n_i32(&s->tokens);
    s->open = !complete;
    if (all > before)
        s->n_tokens = all;
    return ut_session_feed(s->session, ut_buf_i32(&s->tokens) + before, s->n_tokens - before,
                           complete ? INT32_MAX : frames_until_text(s),
                           complete ? frame_limit(s) : INT32_MAX, err);
}

/* Speak on with what is certain of the chunk to come, or begin it. *more: that was something. */
static utter_status use_begun(utter_stream *s, bool *more, ut_err *err)
{
    const ut_ar *ar = &s->engine->model->ar;
    *more = false;
    if (ar->text < 0 || s->closed_only || s->finished || s->limit_reached)
        return UTTER_OK;
    size_t n;
    const char *text = ut_splitter_begun(s->splitter, &n);
    if (!text || (s->open && n <= s->chunk.len))
        return UTTER_OK;
    *more = true;
    if (s->open)
        return feed_chunk(s, text, n, false, err);
    ut_err why = {0};
    s->open = true;
    utter_status st = begin_chunk(s, text, n, &why);
    if (st == UTTER_OK)
        return st;
    s->open = *more = false;
    s->closed_only = st == UTTER_ERR_UNSUPPORTED; /* the chunk has to be complete */
    return s->closed_only ? UTTER_OK : ut_fail(err, st, "%s", why.msg);
}

/* All frames of the chunk are spoken. */
static utter_status end_chunk(utter_stream *s, ut_err *err)
{
    const ut_session *g = s->session;
    const ut_codec *codec = &s->engine->model->codec;
    s->generating = s->open = false;
    if (g->limited) {
        s->stats.stopped_by_limit++;
        s->limit_reached = s->params.max_frames > 0 && s->stats.frames >= s->params.max_frames;
        if (!s->limit_reached && !s->params.ignore_eos)
            ut_log(UT_LOG_WARN, "chunk %lld %s %d frames: \"%.60s\"", (long long)s->stats.chunks,
                   g->runaway ? g->runaway : "did not end by itself within", (int)g->n_frames,
                   (const char *)s->chunk.data);
    }
    /* A chunk that did not end by itself may be babble, which must not be imitated. */
    if (s->params.voice || g->limited || g->n_frames == 0)
        return UTTER_OK;
    if (!set_text(&s->last, (const char *)s->chunk.data, s->chunk.len))
        return ut_fail(err, UTTER_ERR_NOMEM, "no memory for a chunk of text");
    memcpy(s->last_codes, g->codes,
           (size_t)g->n_frames * (size_t)codec->n_codebooks * sizeof *g->codes);
    s->n_last = g->n_frames;
    return UTTER_OK;
}

/* ---- Sound ---------------------------------------------------------------------------------- */

static bool is_cancelled(void *user)
{
    utter_stream *s = user;
    return atomic_load_explicit(&s->cancelled, memory_order_relaxed);
}

/* Work until there are samples, or a reason why there are none. */
static utter_status make_samples(utter_stream *s, utter_stream_state *state, ut_err *err)
{
    for (;;) {
        utter_status st;
        if (is_cancelled(s))
            return ut_fail(err, UTTER_ERR_CANCELLED, "cancelled");
        if (s->generating) {
            st = ut_session_more(s->session, is_cancelled, s, err);
            if (st != UTTER_OK)
                return st;
            s->read = 0;
            if (s->session->n_pcm > 0) {
                s->stats.frames =
                    s->stats.frames +
                    (int64_t)(s->session->n_pcm / (size_t)s->engine->model->codec.hop_samples);
                *state = UTTER_STREAM_AUDIO;
                return UTTER_OK;
            }
            /* an open chunk that ended early waits for the rest of its text, to pass over it */
            if (!s->open || (s->session->limited && s->session->n_frames >= s->frames_left)) {
                st = end_chunk(s, err);
                if (st != UTTER_OK)
                    return st;
                continue;
            }
        }
        size_t n;
        bool more = false;
        const char *chunk = s->limit_reached ? NULL : ut_splitter_next(s->splitter, &n);
        if (chunk && s->open) {
            st = feed_chunk(s, chunk, n, true, err);
            if (st != UTTER_OK)
                return st;
            continue;
        }
        if (!chunk) {
            st = use_begun(s, &more, err);
            if (st != UTTER_OK)
                return st;
            if (more)
                continue;
            *state = s->finished || s->limit_reached ? UTTER_STREAM_END : UTTER_STREAM_NEEDS_TEXT;
            return UTTER_OK;
        }
        st = begin_chunk(s, chunk, n, err);
        if (st != UTTER_OK)
            return st;
    }
}

utter_status utter_stream_read(utter_stream *s, float *pcm, size_t max, size_t *n,
                               utter_stream_state *state)
{
    ut_err *err = ut_api_err(s ? s->engine : NULL);
    if (n)
        *n = 0;
    if (!s || !pcm || !n || !state)
        return ut_fail_null(err, "utter_stream_read",
                            !s     ? "stream"
                            : !pcm ? "pcm"
                            : !n   ? "n"
                                   : "state");
    *state = UTTER_STREAM_END;
    if (max < 1)
        return ut_fail(err, UTTER_ERR_ARG, "max is 0, expected room for at least 1 sample");
    if (s->failed != UTTER_OK)
        return ut_fail(err, s->failed, "the stream has failed before");
    if (s->read < s->session->n_pcm) {
        *state = UTTER_STREAM_AUDIO;
    } else {
        double start = ut_time_now();
        s->failed = make_samples(s, state, err);
        double end = ut_time_now();
        s->stats.busy_s += end - start;
        if (s->failed != UTTER_OK)
            return s->failed;
        if (*state != UTTER_STREAM_AUDIO)
            return UTTER_OK;
        if (s->stats.ttfa_ms == 0.0)
            s->stats.ttfa_ms = (end - s->first_push) * 1e3;
    }
    size_t ready = s->session->n_pcm - s->read;
    *n = ready < max ? ready : max;
    memcpy(pcm, s->session->pcm + s->read, *n * sizeof *pcm);
    s->read += *n;
    return UTTER_OK;
}

void utter_stream_cancel(utter_stream *s)
{
    if (s)
        atomic_store_explicit(&s->cancelled, true, memory_order_relaxed);
}

utter_status utter_stream_get_stats(const utter_stream *s, utter_stats *stats)
{
    ut_err *err = ut_api_err(s ? s->engine : NULL);
    if (!s || !stats)
        return ut_fail_null(err, "utter_stream_get_stats", s ? "stats" : "stream");
    const ut_session *g = s->session;
    const ut_model *m = s->engine->model;
    utter_stats x = s->stats;
    x.sample_rate = m->info.sample_rate;
    x.seed = s->params.seed;
    x.text_pending = (int64_t)ut_splitter_pending(s->splitter);
    x.audio_s = (double)x.frames * m->codec.hop_samples / m->info.sample_rate;
    x.rtf = x.audio_s > 0.0 ? x.busy_s / x.audio_s : 0.0;
    x.x_realtime = x.busy_s > 0.0 ? x.audio_s / x.busy_s : 0.0;
    x.prefill_ms = g->prefill_s * 1e3;
    x.prefix_hit_tokens = g->n_prefix_hit;
    x.prefix_bytes = (int64_t)s->engine->prefixes.bytes;
    x.ms_per_frame = g->n_frame_runs ? g->frame_s * 1e3 / (double)g->n_frame_runs : 0.0;
    x.codec_ms_per_frame = g->n_codec_frames ? g->codec_s * 1e3 / (double)g->n_codec_frames : 0.0;
    x.codec_share = x.busy_s > 0.0 ? g->codec_s / x.busy_s : 0.0;
    x.load_ms = s->engine->load_ms;
    x.peak_rss_mb = (double)ut_peak_rss() / 1e6;
    return ut_struct_write(stats, STATS_OLDEST, &x, sizeof x, "utter_stats", err);
}
