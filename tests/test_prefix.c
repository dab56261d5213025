/* test_prefix.c - what is kept of the beginnings of prompts: the same samples with and without, for
 * all kinds of voices; what is found, what goes, and how much it takes. The first argument is the
 * name of a backend (default: cpu). */
#include "base/alloc.h"
#include "base/os.h"
#include "engine/engine.h"
#include "engine/voice.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

#define S1          "tests/data/s1-mini/case"
#define QWEN        "tests/data/qwen3-tts/case/"
#define TEXT        "The cat sat down."
#define OTHER_TEXT  "It went away, quietly!"
#define MAX_FRAMES  3
#define MAX_SAMPLES (64 * 2048)
#define LARGE       ((size_t)1 << 28)
#define SMALL       400000

static const char *backend_name = "cpu";

static utter_engine *open_slots(const char *dir, size_t limit, int32_t slots)
{
    utter_engine *e;
    utter_engine_params p;
    utter_engine_params_init(&p);
    p.backend = backend_name;
    p.precision = UTTER_PRECISION_F32;
    p.threads = 2;
    p.max_positions = 512;
    p.prefix_cache_bytes = (int64_t)limit;
    p.slots = slots;
    if (utter_engine_open(dir, &p, &e) != UTTER_OK)
        fail_msg("%s", utter_last_error(NULL));
    return e;
}

static utter_engine *open_engine(const char *dir, size_t limit)
{
    return open_slots(dir, limit, 1);
}

/* A voice made up from a number: codes of n_frames, and a vector where the model wants one. */
static utter_voice *make_voice(const utter_engine *e, int number, int32_t n_frames,
                               const char *text)
{
    const ut_codec *c = &e->model->codec;
    const int32_t dim = e->model->speaker.dim;
    uint32_t x = (uint32_t)number * 2654435761u + 1;
    ut_err err = {0};
    utter_voice *v;
    assert_int_equal(ut_voice_new(&v, "made-up", NULL, NULL, text, &err), UTTER_OK);
    assert_int_equal(ut_voice_set(&v->encoder_id, e->encoder_id, &err), UTTER_OK);
    v->n_codebooks = c->n_codebooks;
    v->n_frames = n_frames;
    v->codes = ut_calloc((size_t)(n_frames * c->n_codebooks) + 1, sizeof *v->codes);
    v->n_embedding = dim;
    v->embedding = ut_calloc((size_t)dim + 1, sizeof *v->embedding);
    for (int32_t i = 0; i < n_frames * c->n_codebooks; i++) {
        x = x * 1664525u + 1013904223u;
        v->codes[i] = (int32_t)((x >> 8) % (uint32_t)c->codebook_sizes[i % c->n_codebooks]);
    }
    for (int32_t i = 0; i < dim; i++) {
        x = x * 1664525u + 1013904223u;
        v->embedding[i] = (float)(x >> 8) / (float)(1 << 24) - 0.5f;
    }
    return v;
}

/* What a test asks for, in terms of any of the families. */
typedef struct request {
    const char *speaker, *instruct, *language;
    int voice, n_frames; /* make_voice; 0: none */
    const char *voice_text;
    int32_t feed;
} request;

static float samples[2][MAX_SAMPLES];

/* The samples in samples[k]; how many, and statistics. */
static size_t speak(utter_engine *e, const request *r, const char *text, int k, utter_stats *stats)
{
    utter_synth_params p;
    utter_voice *v = NULL;
    utter_audio *a;
    utter_synth_params_init(&p);
    p.seed = 3;
    p.max_frames = MAX_FRAMES;
    p.instruct = r->instruct;
    p.language = r->language;
    p.text_feed = r->feed;
    if (r->voice)
        v = make_voice(e, r->voice, r->n_frames, r->voice_text);
    else if (r->speaker)
        assert_int_equal(utter_voice_find(e, r->speaker, &v), UTTER_OK);
    p.voice = v;
    if (utter_synth(e, text, &p, &a) != UTTER_OK)
        fail_msg("%s", utter_last_error(e));
    const size_t n = utter_audio_n_samples(a);
    assert_true(n > 0 && n <= MAX_SAMPLES);
    memcpy(samples[k], utter_audio_samples(a), n * sizeof **samples);
    utter_stats_init(stats);
    assert_int_equal(utter_audio_get_stats(a, stats), UTTER_OK);
    utter_audio_free(a);
    utter_voice_free(v);
    return n;
}

/* Speak on both engines; the same samples. Returns the tokens that were kept. */
static int64_t speak_both(utter_engine *with, utter_engine *without, const request *r,
                          const char *text)
{
    utter_stats a, b;
    const size_t n = speak(with, r, text, 0, &a);
    assert_int_equal(speak(without, r, text, 1, &b), n);
    assert_memory_equal(samples[0], samples[1], n * sizeof **samples);
    assert_int_equal(b.prefix_hit_tokens, 0);
    assert_int_equal(b.prefix_bytes, 0);
    assert_int_equal(a.prompt_tokens, b.prompt_tokens);
    assert_int_equal(a.prefix_bytes, with->prefixes.bytes);
    return a.prefix_hit_tokens;
}

/* Columns that the prompts of a request have in common for two texts without a common beginning:
 * what prompts say of it is neither more nor less, but that one column is left to be run. */
static int64_t shared_columns(const utter_engine *e, const request *r)
{
    const ut_model *m = e->model;
    utter_voice *v = r->voice ? make_voice(e, r->voice, r->n_frames, r->voice_text) : NULL;
    const ut_reference ref = {.text = v ? v->text : NULL,
                              .codes = v ? v->codes : NULL,
                              .n_frames = v ? v->n_frames : 0,
                              .embedding = v ? v->embedding : NULL};
    ut_prompt p[2];
    int32_t n[2];
    for (int i = 0; i < 2; i++) {
        const ut_request asked = {.text = i ? OTHER_TEXT : TEXT,
                                  .refs = &ref,
                                  .n_refs = v ? 1 : 0,
                                  .speaker = r->speaker,
                                  .instruct = r->instruct,
                                  .language = r->language,
                                  .feed = (ut_feed)r->feed};
        ut_err err = {0};
        ut_prompt_init(&p[i]);
        if (m->ops->prompt(m, &asked, &p[i], &err) != UTTER_OK)
            fail_msg("%s", err.msg);
        n[i] = (int32_t)(ut_buf_n_i32(&p[i].columns) / (size_t)m->ar.columns);
    }
    const size_t column = (size_t)m->ar.columns * sizeof(int32_t);
    const int32_t shorter = n[0] < n[1] ? n[0] : n[1];
    int32_t common = 0;
    while (common < shorter - 1 && memcmp(p[0].columns.data + (size_t)common * column,
                                          p[1].columns.data + (size_t)common * column, column) == 0)
        common++;
    assert_int_equal(p[0].n_prefix, common);
    assert_int_equal(p[1].n_prefix, common);
    for (int i = 0; i < 2; i++)
        ut_prompt_free(&p[i]);
    utter_voice_free(v);
    return common;
}

/* ---- The same samples ----------------------------------------------------------------------- */

/* Requests that differ in one thing each, spoken in turns: every first time is a miss, every other
 * one a hit of all columns that the texts share. */
static void check_requests(const char *dir, const request *r, int n)
{
    utter_engine *with = open_engine(dir, LARGE), *without = open_engine(dir, 0);
    for (int turn = 0; turn < 2; turn++)
        for (int i = 0; i < n; i++) {
            const int64_t kept = speak_both(with, without, &r[i], turn ? OTHER_TEXT : TEXT);
            const int64_t want = turn ? shared_columns(with, &r[i]) : 0;
            if (kept != want)
                fail_msg("%s: request %d, turn %d: %lld columns were kept, expected %lld", dir, i,
                         turn, (long long)kept, (long long)want);
        }
    assert_int_equal(without->prefixes.n, 0);
    utter_engine_close(with);
    utter_engine_close(without);
}

static void speakers_instructions_and_languages(void **state)
{
    (void)state;
    static const request r[] = {
        {.speaker = "alice"},
        {.speaker = "carl"},
        {.speaker = "alice", .language = "german"},
        {.speaker = "alice", .language = "english"},
        {.speaker = "alice", .instruct = "calmly"},
        {.speaker = "alice", .instruct = "calmly", .language = "german"},
        {.speaker = "alice", .instruct = "angry"},
    };
    check_requests(QWEN "custom_voice", r, 7);
}

static void made_up_voices(void **state)
{
    (void)state;
    static const request r[] = {
        {.instruct = "a deep voice"},
        {.instruct = "a deep voice", .feed = UT_FEED_ALONG, .language = "japanese"},
        {0},
    };
    check_requests(QWEN "voice_design", r, 3);
}

static void recordings_of_qwen3_tts(void **state)
{
    (void)state;
    static const request r[] = {
        {.voice = 1, .n_frames = 20, .voice_text = "good morning"},
        {.voice = 1, .n_frames = 20, .voice_text = "good evening"},
        {.voice = 2, .n_frames = 20, .voice_text = "good morning"},
        {.voice = 2, .n_frames = 20, .voice_text = "good morning", .feed = UT_FEED_WHOLE},
        {.voice = 2, .n_frames = 3, .voice_text = "good morning"}, /* more text than frames */
        {.voice = 1},
        {.voice = 2, .feed = UT_FEED_WHOLE},
    };
    check_requests(QWEN "base", r, 7);
}

static void recordings_of_s1_mini(void **state)
{
    (void)state;
    static const request r[] = {
        {.voice = 1, .n_frames = 12, .voice_text = "Good morning."},
        {.voice = 2, .n_frames = 12, .voice_text = "Good morning."},
        {.voice = 2, .n_frames = 12, .voice_text = "Good evening."},
        {.voice = 2, .n_frames = 13, .voice_text = "Good evening."},
        {0},
    };
    check_requests(S1, r, 5);
}

static utter_stats expect_same_speech(utter_engine *with, utter_engine *without, const char *text,
                                      const utter_synth_params *p)
{
    utter_audio *a, *b;
    utter_stats s;
    assert_int_equal(utter_synth(with, text, p, &a), UTTER_OK);
    assert_int_equal(utter_synth(without, text, p, &b), UTTER_OK);
    assert_int_equal(utter_audio_n_samples(a), utter_audio_n_samples(b));
    assert_memory_equal(utter_audio_samples(a), utter_audio_samples(b),
                        utter_audio_n_samples(b) * sizeof(float));
    utter_stats_init(&s);
    assert_int_equal(utter_audio_get_stats(a, &s), UTTER_OK);
    utter_audio_free(a);
    utter_audio_free(b);
    return s;
}

/* The voice is read for the first chunk only. */
static void chunks_share_their_voice(void **state)
{
    (void)state;
    static const char sentence[] = "The cat sat on the mat, and there it stayed for all of the "
                                   "long winter, until one day it went away, quietly. ";
    char text[8 * sizeof sentence] = "";
    for (int i = 0; i < 7; i++)
        strcat(text, sentence);
    utter_engine *with = open_engine(S1, LARGE), *without = open_engine(S1, 0);
    with->model->defaults.frames_per_char_limit = without->model->defaults.frames_per_char_limit =
        1e-3f; /* 20 frames for each chunk */
    const request r = {.voice = 1, .n_frames = 12, .voice_text = "Good morning."};
    utter_voice *v = make_voice(with, r.voice, r.n_frames, r.voice_text);
    utter_synth_params p;
    utter_synth_params_init(&p);
    p.seed = 3;
    p.max_frames = 41;
    p.voice = v;
    const utter_stats s = expect_same_speech(with, without, text, &p);
    assert_int_equal(s.chunks, 3);
    assert_int_equal(s.prefix_hit_tokens, 2 * shared_columns(with, &r));
    assert_int_equal(with->prefixes.n, 1);
    utter_voice_free(v);
    utter_engine_close(with);
    utter_engine_close(without);
}

/* Two streams at the same time: the second begins in another slot with what the first has read. */
static void slots_share_what_is_kept(void **state)
{
    (void)state;
    static const request r = {.voice = 1, .n_frames = 12, .voice_text = "Good morning."};
    static const char *const texts[2] = {TEXT, OTHER_TEXT};
    utter_engine *e = open_slots(S1, LARGE, 2), *without = open_engine(S1, 0);
    utter_synth_params p;
    utter_stream *s[2];
    utter_stats x;
    size_t total[2] = {0}, got;
    utter_synth_params_init(&p);
    utter_stats_init(&x);
    utter_voice *v = make_voice(e, r.voice, r.n_frames, r.voice_text);
    p.voice = v;
    p.seed = 3;
    p.max_frames = 2 * MAX_FRAMES;
    p.ignore_eos = 1;
    for (int i = 0; i < 2; i++) {
        assert_int_equal(utter_stream_open(e, &p, &s[i]), UTTER_OK);
        assert_int_equal(utter_stream_push(s[i], texts[i], strlen(texts[i])), UTTER_OK);
        assert_int_equal(utter_stream_finish(s[i]), UTTER_OK);
    }
    for (bool more = true; more;) {
        more = false;
        for (int i = 0; i < 2; i++) {
            utter_stream_state at;
            assert_int_equal(
                utter_stream_read(s[i], samples[i] + total[i], MAX_SAMPLES - total[i], &got, &at),
                UTTER_OK);
            total[i] += got;
            more |= got > 0;
        }
    }
    for (int i = 0; i < 2; i++) {
        utter_audio *a;
        assert_int_equal(utter_stream_get_stats(s[i], &x), UTTER_OK);
        assert_int_equal(x.prefix_hit_tokens, i ? shared_columns(e, &r) : 0);
        utter_stream_close(s[i]);
        assert_int_equal(utter_synth(without, texts[i], &p, &a), UTTER_OK);
        assert_int_equal(utter_audio_n_samples(a), total[i]);
        assert_memory_equal(utter_audio_samples(a), samples[i], total[i] * sizeof **samples);
        utter_audio_free(a);
    }
    assert_int_equal(e->prefixes.n, 1);
    utter_voice_free(v);
    utter_engine_close(e);
    utter_engine_close(without);
}

/* Without a voice a chunk goes on from the one before, and no other ever will. */
static void what_cannot_come_again_is_not_kept(void **state)
{
    (void)state;
    utter_engine *with = open_engine(S1, LARGE), *without = open_engine(S1, 0);
    with->model->defaults.max_chunk_chars = without->model->defaults.max_chunk_chars = 40;
    utter_synth_params p;
    utter_synth_params_init(&p);
    p.temperature = 0.0f;
    p.repetition_penalty = 1.0f;
    p.max_frames = 31; /* the first chunk ends by itself after 30 */
    const utter_stats s = expect_same_speech(
        with, without, "Hello world, this is the speech. Hello world, this is the speech.", &p);
    assert_int_equal(s.chunks, 2);
    assert_int_equal(s.stopped_by_limit, 1);
    assert_int_equal(s.prefix_hit_tokens, 0);
    assert_int_equal(with->prefixes.n, 1);
    utter_engine_close(with);
    utter_engine_close(without);
}

/* ---- What the backend is asked for ---------------------------------------------------------- */

static struct {
    const utter_engine *e;
    ut_backend_ops real, spy;
    int n_decodes; /* runs of the codec */
    int n_saves;
} watch;

static utter_status watched_run(ut_exec *x, ut_state *s, int slot, int32_t n_t, ut_err *err)
{
    watch.n_decodes += x == watch.e->decode[0];
    return watch.real.run(x, s, slot, n_t, err);
}

/* Room was made before. */
static utter_status watched_save(ut_state *s, int slot, int first, int n, int32_t n_rows,
                                 ut_saved **out, ut_err *err)
{
    const utter_status st = watch.real.save(s, slot, first, n, n_rows, out, err);
    assert_int_equal(st, UTTER_OK);
    assert_true(watch.e->prefixes.bytes + (*out)->bytes <= watch.e->prefixes.limit);
    watch.n_saves++;
    return st;
}

static void start_watching(utter_engine *e)
{
    watch.e = e;
    watch.real = watch.spy = *e->backend->ops;
    watch.spy.run = watched_run;
    watch.spy.save = watched_save;
    watch.n_decodes = watch.n_saves = 0;
    e->backend->ops = &watch.spy;
}

/* A reference in context is decoded once; where room is short the codec's state goes as others do.
 */
static void the_codec_hears_a_reference_once(void **state)
{
    (void)state;
    static const request r = {.voice = 1, .n_frames = 20, .voice_text = "good morning"};
    utter_engine *e = open_engine(QWEN "base", LARGE);
    utter_stats s;
    int runs[3];
    start_watching(e);
    for (int i = 0; i < 3; i++) {
        if (i == 2)
            ut_prefix_free(&e->prefixes);
        watch.n_decodes = watch.n_saves = 0;
        speak(e, &r, TEXT, 0, &s);
        runs[i] = watch.n_decodes;
        assert_int_equal(watch.n_saves, i == 1 ? 0 : 2); /* of prompt and codec */
        assert_int_equal(e->prefixes.n, 2);
    }
    assert_true(runs[1] < runs[0]);
    assert_int_equal(runs[2], runs[0]);
    utter_engine_close(e);
}

/* ---- How much is kept ----------------------------------------------------------------------- */

/* Of many voices the last stay, as many as fit; using one makes it the newest. */
static void least_recently_used_goes_first(void **state)
{
    (void)state;
    utter_engine *e = open_engine(QWEN "custom_voice", LARGE);
    static const char *const language[] = {"german", "english", "japanese", "chinese"};
    utter_stats s;
    request r[4] = {{0}};
    for (int i = 0; i < 4; i++)
        r[i] = (request){.speaker = "alice", .language = language[i]};
    speak(e, &r[0], TEXT, 0, &s);
    const size_t one = e->prefixes.bytes;
    assert_true(one > 0 && e->prefixes.n == 1);
    start_watching(e);
    e->prefixes.limit = 3 * one + one / 2;
    for (int i = 1; i < 3; i++) {
        speak(e, &r[i], TEXT, 0, &s);
        assert_int_equal(e->prefixes.bytes, (size_t)(i + 1) * one);
    }
    speak(e, &r[0], TEXT, 0, &s);
    assert_int_equal(s.prefix_hit_tokens, 9);
    speak(e, &r[3], TEXT, 0, &s); /* r[1] goes */
    assert_int_equal(e->prefixes.n, 3);
    assert_int_equal(e->prefixes.bytes, 3 * one);
    static const int order[] = {0, 2, 3, 1, 0};
    static const int64_t hit[] = {9, 9, 9, 0, 0}; /* r[1] takes the place of r[0] */
    for (int i = 0; i < 5; i++) {
        speak(e, &r[order[i]], TEXT, 0, &s);
        assert_int_equal(s.prefix_hit_tokens, hit[i]);
        assert_true(e->prefixes.bytes <= e->prefixes.limit);
    }
    /* what is larger than all that may be kept is not, and drives nothing away */
    e->prefixes.limit = one - 1;
    const int n = e->prefixes.n;
    speak(e, &(request){.speaker = "carl"}, TEXT, 0, &s);
    speak(e, &(request){.speaker = "alice", .instruct = "in the calm voice of a singer"}, TEXT, 0,
          &s);
    assert_true(e->prefixes.n <= n && s.prefix_hit_tokens == 0);
    ut_prefix_free(&e->prefixes);
    assert_true(e->prefixes.n == 0 && e->prefixes.bytes == 0 && !e->prefixes.newest);
    utter_engine_close(e);
}

static void many_voices_take_no_more_memory(void **state)
{
    (void)state;
    utter_engine *e = open_engine(S1, SMALL);
    size_t before = 0;
    utter_stats s;
    const int n = strcmp(backend_name, "cpu") == 0 ? 60 : 12;
    for (int i = 0; i < n; i++) {
        const request r = {.voice = 1 + i, .n_frames = 20, .voice_text = "Good morning."};
        speak(e, &r, "Hm.", 0, &s);
        assert_int_equal(s.prefix_hit_tokens, 0);
        assert_true(s.prefix_bytes > 0 && s.prefix_bytes <= SMALL);
        if (i == 9)
            before = ut_current_rss();
    }
    printf("%d voices, %d kept in %.2f MB: %.1f MB, then %.1f MB\n", n, e->prefixes.n,
           (double)e->prefixes.bytes / 1e6, (double)before / 1e6, (double)ut_current_rss() / 1e6);
    assert_true(e->prefixes.n >= 2 && e->prefixes.n < n);
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__) /* which keep freed memory */
    assert_true(ut_current_rss() < before + (1 << 20));
#endif
    utter_engine_close(e);
}

/* Every allocation of an utterance fails once: when it was the cache's, nothing is said of it. */
static void without_memory_nothing_is_kept(void **state)
{
    (void)state;
    utter_engine *e = open_engine(S1, LARGE), *without = open_engine(S1, 0);
    utter_synth_params p;
    utter_stats s;
    utter_synth_params_init(&p);
    p.seed = 3;
    p.max_frames = 1;
    int unnoticed = 0;
    const request like = {.voice = 1, .n_frames = 12, .voice_text = "Good morning."};
    const int64_t shared = shared_columns(e, &like);
    bool failed = true;
    for (uint64_t n = 1; failed; n++) {
        utter_audio *a, *b;
        utter_voice *v = make_voice(e, (int)n, like.n_frames, like.voice_text);
        p.voice = v;
        const int kept = e->prefixes.n;
        const uint64_t before = ut_alloc_count();
        ut_alloc_fail_at(n);
        const utter_status st = utter_synth(e, TEXT, &p, &a);
        ut_alloc_fail_at(0);
        failed = ut_alloc_count() - before >= n;
        assert_int_equal(utter_synth(without, TEXT, &p, &b), UTTER_OK);
        if (st == UTTER_OK) {
            assert_int_equal(utter_audio_n_samples(a), utter_audio_n_samples(b));
            assert_memory_equal(utter_audio_samples(a), utter_audio_samples(b),
                                utter_audio_n_samples(b) * sizeof(float));
            assert_int_equal(e->prefixes.n, kept + !failed);
            unnoticed += failed;
        } else {
            assert_int_equal(st, UTTER_ERR_NOMEM);
        }
        utter_audio_free(a);
        utter_audio_free(b);
        /* the next time it is there, whether it was kept before or not */
        assert_int_equal(utter_synth(e, TEXT, &p, &a), UTTER_OK);
        assert_int_equal(utter_synth(e, OTHER_TEXT, &p, &b), UTTER_OK);
        utter_stats_init(&s);
        assert_int_equal(utter_audio_get_stats(b, &s), UTTER_OK);
        assert_int_equal(s.prefix_hit_tokens, shared);
        utter_audio_free(a);
        utter_audio_free(b);
        utter_voice_free(v);
    }
    assert_true(unnoticed >= 3); /* the entry, its content, the states */
    utter_engine_close(e);
    utter_engine_close(without);
}

/* Memory that prefill wants for a longer prompt is more important than what is kept. */
static void what_is_kept_gives_way(void **state)
{
    (void)state;
    const request r = {.voice = 1, .n_frames = 12, .voice_text = "Good morning."};
    int rescued = 0;
    bool failed = true;
    if (strcmp(backend_name, "cpu") != 0)
        skip(); /* its memory is not the host's, which fails here */
    for (uint64_t n = 1; failed; n++) {
        utter_engine *e = open_engine(S1, LARGE);
        utter_voice *v = make_voice(e, 2, 290, "Good morning."); /* more than compiled for */
        utter_synth_params p;
        utter_stats s;
        utter_audio *a;
        speak(e, &r, TEXT, 0, &s);
        utter_synth_params_init(&p);
        p.voice = v;
        p.max_frames = 1;
        const uint64_t before = ut_alloc_count();
        ut_alloc_fail_at(n);
        const utter_status st = utter_synth(e, TEXT, &p, &a);
        ut_alloc_fail_at(0);
        failed = ut_alloc_count() - before >= n;
        assert_true(st == UTTER_OK || (failed && st == UTTER_ERR_NOMEM));
        speak(e, &r, TEXT, 0, &s);
        rescued += st == UTTER_OK && failed && s.prefix_hit_tokens == 0;
        utter_audio_free(a);
        utter_voice_free(v);
        utter_engine_close(e);
    }
    assert_true(rescued > 5);
}

static void a_negative_bound_is_refused(void **state)
{
    (void)state;
    utter_engine *e;
    utter_engine_params p;
    utter_engine_params_init(&p);
    assert_int_equal(p.prefix_cache_bytes, 256 << 20);
    p.prefix_cache_bytes = -1;
    assert_int_equal(utter_engine_open(S1, &p, &e), UTTER_ERR_ARG);
    assert_non_null(strstr(utter_last_error(NULL), "prefix_cache_bytes is -1"));
}

int main(int argc, char **argv)
{
    if (argc > 1)
        backend_name = argv[1];
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(speakers_instructions_and_languages),
        cmocka_unit_test(made_up_voices),
        cmocka_unit_test(recordings_of_qwen3_tts),
        cmocka_unit_test(recordings_of_s1_mini),
        cmocka_unit_test(chunks_share_their_voice),
        cmocka_unit_test(slots_share_what_is_kept),
        cmocka_unit_test(what_cannot_come_again_is_not_kept),
        cmocka_unit_test(the_codec_hears_a_reference_once),
        cmocka_unit_test(least_recently_used_goes_first),
        cmocka_unit_test(many_voices_take_no_more_memory),
        cmocka_unit_test(without_memory_nothing_is_kept),
        cmocka_unit_test(what_is_kept_gives_way),
        cmocka_unit_test(a_negative_bound_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
