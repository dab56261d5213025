/* test_speak.c - the public interface on a real model and the CPU backend: the recorded S1-mini
 * case, whose reference values say what must be heard. UT_TEST_UTTERANCES: how many utterances the
 * memory test speaks (default 50; 12
 * with sanitizers). */
#include "base/alloc.h"
#include "base/os.h"
#include "utter.h"
#include "weights/weights.h"
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define SANITIZED 1
#endif
#endif

#ifdef SANITIZED /* slow: less of everything */
#define N_FRAMES     12
#define N_VOICE      16
#define N_UTTERANCES 12
#define OOM_STEP     5
#else
#define N_FRAMES     40
#define N_VOICE      INT64_MAX
#define N_UTTERANCES 50
#define OOM_STEP     1
#endif

#define CASE "tests/data/s1-mini/case"
#define HOP  2048

static const char text[] = "The cat sat on the mat. Then it went away, quietly.";

typedef struct fixture {
    utter_engine *e;
    ut_weights *golden;
} fixture;

static utter_engine *open_engine(int threads, int exact_head)
{
    utter_engine_params p;
    utter_engine *e;
    utter_engine_params_init(&p);
    p.backend = "cpu";
    p.threads = threads;
    p.exact_head = exact_head;
    if (utter_engine_open(CASE, &p, &e) != UTTER_OK)
        fail_msg("%s", utter_last_error(NULL));
    return e;
}

static int set_up(void **state)
{
    fixture *x = calloc(1, sizeof *x);
    ut_err err = {0};
    x->e = open_engine(2, 0);
    *state = x;
    return ut_weights_open(&x->golden, CASE "/golden.safetensors", &err);
}

static int tear_down(void **state)
{
    fixture *x = *state;
    utter_engine_close(x->e);
    ut_weights_close(x->golden);
    free(x);
    return 0;
}

static const ut_view *golden(const fixture *x, const char *name)
{
    const ut_view *v = ut_weights_find(x->golden, name);
    if (!v)
        fail_msg("no %s", name);
    return v;
}

static void expect_close(const float *got, const ut_view *want, double tolerance)
{
    float *w = malloc((size_t)want->n_elements * sizeof *w);
    double worst = 0.0;
    ut_view_to_f32(want, 0, want->n_elements, w);
    for (int64_t i = 0; i < want->n_elements; i++)
        worst = fmax(worst, fabs((double)got[i] - (double)w[i]));
    free(w);
    if (!(worst <= tolerance))
        fail_msg("%s: off by %g, allowed %g", want->name, worst, tolerance);
}

static utter_audio *synth(utter_engine *e, const char *what, const utter_synth_params *p)
{
    utter_audio *a;
    if (utter_synth(e, what, p, &a) != UTTER_OK)
        fail_msg("%s", utter_last_error(e));
    return a;
}

static utter_synth_params short_params(int64_t seed)
{
    utter_synth_params p;
    utter_synth_params_init(&p);
    p.seed = seed;
    p.max_frames = N_FRAMES;
    return p;
}

static void expect_same(const utter_audio *a, const utter_audio *b)
{
    assert_int_equal(utter_audio_n_samples(a), utter_audio_n_samples(b));
    assert_memory_equal(utter_audio_samples(a), utter_audio_samples(b),
                        utter_audio_n_samples(a) * sizeof(float));
}

/* ---- Recorded values ------------------------------------------------------------------------ */

/* The greedy utterance of the reference implementation: its length, which the model decides, and
 * its samples as far as they were recorded. */
static void recorded_utterance_is_spoken(void **state)
{
    fixture *x = *state;
    const ut_view *utf8 = golden(x, "prompt/text_only/text");
    const ut_view *wav = golden(x, "codec/dec_greedy/wav");
    char *what = ut_strndup(utf8->data, (size_t)utf8->n_elements);
    for (int exact_head = 0; exact_head < 2; exact_head++) {
        utter_engine *e = open_engine(2, exact_head);
        utter_synth_params p;
        utter_stats s;
        utter_synth_params_init(&p);
        utter_stats_init(&s);
        p.temperature = 0.0f;
        p.repetition_penalty = 1.0f;
        utter_audio *a = synth(e, what, &p);
        assert_int_equal(utter_audio_get_stats(a, &s), UTTER_OK);
        assert_int_equal(s.chunks, 1);
        assert_int_equal(s.prompt_tokens, golden(x, "prompt/text_only/tokens")->dim[1]);
        assert_int_equal(s.frames, golden(x, "gen/greedy/codes")->dim[1]);
        assert_int_equal(s.stopped_by_limit, 0);
        assert_int_equal(utter_audio_n_samples(a), s.frames * HOP);
        assert_int_equal(utter_audio_sample_rate(a), 44100);
        expect_close(utter_audio_samples(a), wav, 2e-4);
        utter_audio_free(a);
        utter_engine_close(e);
    }
    ut_free(what);
}

static void recorded_voice_is_encoded(void **state)
{
    fixture *x = *state;
    const ut_view *pcm8 = golden(x, "codec/ref_pcm8");
    const ut_view *codes = golden(x, "codec/enc/codes");
    const int64_t n_frames = N_VOICE < codes->dim[1] ? N_VOICE : codes->dim[1];
    float *pcm = malloc((size_t)pcm8->n_elements * sizeof *pcm);
    for (int64_t i = 0; i < pcm8->n_elements; i++)
        pcm[i] = (float)((const int8_t *)pcm8->data)[i] / 128.0f;
    utter_voice_params p;
    utter_voice *v;
    utter_audio *a;
    utter_voice_params_init(&p);
    p.samples = pcm;
    p.n_samples = (size_t)(n_frames < codes->dim[1] ? n_frames * HOP : pcm8->n_elements);
    p.sample_rate = 44100;
    p.text = "What the recording says.";
    if (utter_voice_create(x->e, &p, &v) != UTTER_OK)
        fail_msg("%s", utter_last_error(x->e));
    utter_voice_info i;
    utter_voice_info_init(&i);
    assert_int_equal(utter_voice_get_info(v, &i), UTTER_OK);
    assert_int_equal(i.n_codebooks, codes->dim[0]);
    assert_int_equal(i.n_frames, n_frames);
    /* The codes are heard in the preview: its beginning was recorded, too. */
    assert_int_equal(utter_voice_preview(x->e, v, &a), UTTER_OK);
    assert_int_equal(utter_audio_n_samples(a), n_frames * HOP);
    expect_close(utter_audio_samples(a), golden(x, "codec/dec/wav"), 2e-4);
    utter_audio_free(a);
    /* And the voice can be spoken with. */
    utter_synth_params sp = short_params(1);
    sp.voice = v;
    a = synth(x->e, text, &sp);
    utter_stats s;
    utter_stats_init(&s);
    assert_int_equal(utter_audio_get_stats(a, &s), UTTER_OK);
    assert_true(s.prompt_tokens > n_frames);
    assert_int_equal(s.frames, N_FRAMES);
    utter_audio_free(a);
    utter_voice_free(v);
    free(pcm);
}

/* ---- Exactness ------------------------------------------------------------------------------ */

static void samples_do_not_depend_on_reads(void **state)
{
    fixture *x = *state;
    utter_synth_params p = short_params(3);
    utter_audio *whole = synth(x->e, text, &p);
    static const size_t sizes[] = {1000, 7777, 1 << 20};
    float *pcm = malloc((1 << 20) * sizeof *pcm);
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        utter_stream *s;
        utter_stream_state st = UTTER_STREAM_AUDIO;
        size_t total = 0, n;
        assert_int_equal(utter_stream_open(x->e, &p, &s), UTTER_OK);
        assert_int_equal(utter_stream_push(s, text, strlen(text)), UTTER_OK);
        assert_int_equal(utter_stream_finish(s), UTTER_OK);
        while (st == UTTER_STREAM_AUDIO) {
            assert_int_equal(utter_stream_read(s, pcm, sizes[i], &n, &st), UTTER_OK);
            assert_true(total + n <= utter_audio_n_samples(whole));
            assert_memory_equal(pcm, utter_audio_samples(whole) + total, n * sizeof *pcm);
            total += n;
        }
        assert_int_equal(total, utter_audio_n_samples(whole));
        utter_stream_close(s);
    }
    free(pcm);
    utter_audio_free(whole);
}

static void samples_do_not_depend_on_threads(void **state)
{
    fixture *x = *state;
    utter_synth_params p = short_params(4);
    utter_engine *one = open_engine(1, 0);
    utter_audio *a = synth(x->e, text, &p), *b = synth(one, text, &p);
    expect_same(a, b);
    utter_audio_free(a);
    utter_audio_free(b);
    utter_engine_close(one);
}

/* ---- Threads -------------------------------------------------------------------------------- */

typedef struct job {
    int64_t seed;
    utter_audio *audio;
    utter_status status;
} job;

static void open_and_speak(void *arg)
{
    job *j = arg;
    utter_engine_params p;
    utter_engine *e;
    utter_engine_params_init(&p);
    p.threads = 1;
    j->status = utter_engine_open(CASE, &p, &e);
    if (j->status != UTTER_OK)
        return;
    utter_synth_params sp = short_params(j->seed);
    j->status = utter_synth(e, text, &sp, &j->audio);
    utter_engine_close(e);
}

static void engines_are_independent(void **state)
{
    fixture *x = *state;
    job jobs[2] = {{.seed = 10}, {.seed = 11}};
    ut_thread *threads[2];
    for (int i = 0; i < 2; i++) {
        threads[i] = ut_thread_start(open_and_speak, &jobs[i], -1);
        assert_non_null(threads[i]);
    }
    for (int i = 0; i < 2; i++) {
        ut_thread_join(threads[i]);
        assert_int_equal(jobs[i].status, UTTER_OK);
        utter_synth_params p = short_params(jobs[i].seed);
        utter_audio *alone = synth(x->e, text, &p);
        expect_same(jobs[i].audio, alone);
        utter_audio_free(alone);
        utter_audio_free(jobs[i].audio);
    }
}

static void cancel_stream(void *arg)
{
    double start = ut_time_now();
    while (ut_time_now() - start < 0.05)
        ut_thread_pause();
    utter_stream_cancel(arg);
}

static void another_thread_can_cancel(void **state)
{
    fixture *x = *state;
    utter_synth_params p = short_params(1);
    utter_stream *s;
    utter_stream_state st;
    utter_status status;
    static float pcm[8192];
    size_t n;
    p.max_frames = 0;
    p.ignore_eos = 1;
    assert_int_equal(utter_stream_open(x->e, &p, &s), UTTER_OK);
    assert_int_equal(utter_stream_push(s, text, strlen(text)), UTTER_OK);
    assert_int_equal(utter_stream_finish(s), UTTER_OK);
    ut_thread *t = ut_thread_start(cancel_stream, s, -1);
    do
        status = utter_stream_read(s, pcm, 8192, &n, &st);
    while (status == UTTER_OK && st == UTTER_STREAM_AUDIO);
    ut_thread_join(t);
    /* The whole text would have taken more than 2000 frames. */
    assert_int_equal(status, UTTER_ERR_CANCELLED);
    utter_stream_close(s);
}

/* ---- Memory --------------------------------------------------------------------------------- */

/* After the first samples of a chunk nothing is allocated until its last. */
static void frames_allocate_nothing(void **state)
{
    fixture *x = *state;
    utter_synth_params p = short_params(1);
    utter_stream *s;
    utter_stream_state st;
    static float pcm[8192];
    size_t n, total = 0;
    p.ignore_eos = 1; /* one chunk */
    assert_int_equal(utter_stream_open(x->e, &p, &s), UTTER_OK);
    assert_int_equal(utter_stream_push(s, text, strlen(text)), UTTER_OK);
    assert_int_equal(utter_stream_finish(s), UTTER_OK);
    assert_int_equal(utter_stream_read(s, pcm, 1, &n, &st), UTTER_OK);
    uint64_t before = ut_alloc_count();
    do {
        assert_int_equal(utter_stream_read(s, pcm, 8192, &n, &st), UTTER_OK);
        total += n;
    } while (st == UTTER_STREAM_AUDIO);
    assert_int_equal(total, N_FRAMES * HOP - 1);
    assert_int_equal(ut_alloc_count() - before, 0);
    utter_stream_close(s);
}

static void utterances_leave_memory_where_it_was(void **state)
{
    fixture *x = *state;
    const char *env = getenv("UT_TEST_UTTERANCES");
    int n = env ? atoi(env) : N_UTTERANCES;
    utter_synth_params p = short_params(1);
    p.max_frames = 8;
    size_t before = 0;
    for (int i = 0; i < n; i++) {
        p.seed = i;
        utter_audio_free(synth(x->e, text, &p));
        if (i == 9)
            before = ut_current_rss();
    }
    size_t after = ut_current_rss();
    printf("%d utterances: %.1f MB, then %.1f MB\n", n, (double)before / 1e6, (double)after / 1e6);
#ifndef SANITIZED /* which keep freed memory for a while */
    if (before)
        assert_true(after < before + (1 << 20));
#endif
}

/* Every allocation of opening and speaking fails once: an error, and nothing lost. (What is kept of
 * prompts, test_prefix.c, does without.) */
static void out_of_memory_is_survived(void **state)
{
    (void)state;
    utter_engine *e = NULL;
    utter_audio *a = NULL;
    int failures = 0;
    utter_synth_params p = short_params(1);
    utter_engine_params ep;
    utter_engine_params_init(&ep);
    p.max_frames = 2;
    ep.threads = 1;
    ep.prefix_cache_bytes = 0;
    for (uint64_t n = 1; n < 10000 && !a; n += OOM_STEP) {
        ut_alloc_fail_at(n);
        utter_status st = utter_engine_open(CASE, &ep, &e);
        if (st == UTTER_OK)
            st = utter_synth(e, text, &p, &a);
        ut_alloc_fail_at(0);
        if (st != UTTER_OK) {
            assert_int_equal(st, UTTER_ERR_NOMEM);
            assert_true(strlen(utter_last_error(e)) > 0);
            failures++;
        }
        utter_engine_close(e);
        e = NULL;
    }
    printf("%d failures survived\n", failures);
    assert_non_null(a);
    assert_true(failures > 300 / OOM_STEP);
    utter_audio_free(a);
}

/* ---- Opening -------------------------------------------------------------------------------- */

static void expect_open_fails(const char *dir, const utter_engine_params *p, utter_status status,
                              const char *part)
{
    utter_engine *e;
    utter_status st = utter_engine_open(dir, p, &e);
    assert_null(e);
    if (st != status || !strstr(utter_last_error(NULL), part) ||
        strchr(utter_last_error(NULL), '\n'))
        fail_msg("status %d, '%s': expected %d and '%s'", st, utter_last_error(NULL), status, part);
}

static void what_cannot_be_opened_says_why(void **state)
{
    (void)state;
    utter_engine_params p;
    utter_engine_params_init(&p);
    expect_open_fails("no/such/dir", NULL, UTTER_ERR_NOT_FOUND, "no/such/dir");
    expect_open_fails("tests", NULL, UTTER_ERR_MODEL, "config.json");
    p.backend = "abacus";
    expect_open_fails(CASE, &p, UTTER_ERR_BACKEND, "abacus");
    utter_engine_params_init(&p);
    p.threads = -1;
    expect_open_fails(CASE, &p, UTTER_ERR_ARG, "threads is -1");
    utter_engine_params_init(&p);
    p.precision = 9;
    expect_open_fails(CASE, &p, UTTER_ERR_ARG, "precision is 9");
    utter_engine_params_init(&p);
    p.max_positions = 10;
    expect_open_fails(CASE, &p, UTTER_ERR_ARG, "max_positions is 10");
    memset(&p, 0, sizeof p);
    expect_open_fails(CASE, &p, UTTER_ERR_ARG, "utter_engine_params_init");
}

static void max_positions_bounds_the_speech(void **state)
{
    (void)state;
    utter_engine_params p;
    utter_engine *e;
    utter_synth_params sp = short_params(1);
    utter_stats s;
    utter_engine_params_init(&p);
    p.max_positions = 128;
    if (utter_engine_open(CASE, &p, &e) != UTTER_OK)
        fail_msg("%s", utter_last_error(NULL));
    sp.max_frames = 0;
    sp.ignore_eos = 1;
    utter_audio *a = synth(e, "Hello.", &sp);
    utter_stats_init(&s);
    assert_int_equal(utter_audio_get_stats(a, &s), UTTER_OK);
    assert_int_equal(s.frames, 128 - s.prompt_tokens + 1);
    utter_audio_free(a);
    utter_engine_close(e);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(recorded_utterance_is_spoken),    TEST(recorded_voice_is_encoded),
        TEST(samples_do_not_depend_on_reads),  TEST(samples_do_not_depend_on_threads),
        TEST(engines_are_independent),         TEST(another_thread_can_cancel),
        TEST(frames_allocate_nothing),         TEST(utterances_leave_memory_where_it_was),
        TEST(out_of_memory_is_survived),       cmocka_unit_test(what_cannot_be_opened_says_why),
        TEST(max_positions_bounds_the_speech),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
