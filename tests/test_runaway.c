/* test_runaway.c - speech that repeats itself or is silent is ended, at the same frame in every
 * run, and nothing else is. */
#include "engine/runaway.h"
#include "base/log.h"
#include "fake_model.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

enum { Q = 3, LIMIT = 10, N = 100, HOP = 4 };

/* ---- The detector --------------------------------------------------------------------------- */

/* The frame that ends codes[N][Q], or -1. */
static int32_t end_of(int32_t codes[N][Q], int32_t limit)
{
    ut_runaway r;
    ut_runaway_start(&r, limit);
    for (int32_t f = 0; f < N; f++)
        if (ut_runaway_repeats(&r, codes[0], Q, f))
            return f;
    return -1;
}

static void repetition_is_found_at_every_period(void **state)
{
    (void)state;
    static int32_t codes[N][Q];
    const int32_t start = 7; /* frames before it begins */
    for (int32_t period = 1; period <= UT_RUNAWAY_PERIODS + 1; period++) {
        for (int32_t f = 0; f < N; f++) {
            codes[f][0] = f < start ? 1000 + f : (f - start) % period;
            codes[f][1] = f; /* other codebooks do as they like */
        }
        const int32_t want = period <= UT_RUNAWAY_PERIODS ? start + period + LIMIT - 1 : -1;
        assert_int_equal(end_of(codes, LIMIT), want);
        assert_int_equal(end_of(codes, 0), -1);
        if (want < 0)
            continue;
        codes[want][0] = 2000; /* one frame too few */
        assert_int_not_equal(end_of(codes, LIMIT), want);
    }
    for (int32_t f = 0; f < N; f++)
        codes[f][0] = f % 5 == 4 ? f : 0; /* often, but not always */
    assert_int_equal(end_of(codes, LIMIT), -1);
}

static void silence_is_found_in_runs_of_any_length(void **state)
{
    (void)state;
    static float pcm[N * HOP];
    for (int i = 0; i < N * HOP; i++)
        pcm[i] = i % 2 ? 0.00099f : -0.00099f;
    pcm[20 * HOP + HOP - 1] = -0.0011f; /* the last sound: in frame 20 */
    pcm[9 * HOP] = 0.5f;                /* frames 10 .. 19 would be too many, but for ... */
    pcm[15 * HOP] = 0.5f;
    for (int32_t run = 1; run < 40; run++) {
        ut_runaway r;
        int32_t at = 0, end = -1; /* frames seen; the one that ends it */
        ut_runaway_start(&r, LIMIT);
        for (; end < 0 && at < N; at += run) {
            const int32_t n = N - at < run ? N - at : run;
            const int32_t kept = ut_runaway_silence(&r, pcm + at * HOP, n, HOP);
            end = kept <= n ? at + kept - 1 : -1;
        }
        assert_int_equal(end, 20 + LIMIT);
        ut_runaway_start(&r, 0);
        assert_int_equal(ut_runaway_silence(&r, pcm, N, HOP), N + 1);
    }
}

/* ---- The engine ----------------------------------------------------------------------------- */

static char logged[1024];

static void collect_log(void *user, int level, const char *message)
{
    (void)user;
    const size_t n = strlen(logged);
    snprintf(logged + n, sizeof logged - n, "%d %s\n", level, message);
}

static float samples[FAKE_CAPACITY * FAKE_HOP], again[FAKE_CAPACITY * FAKE_HOP];

/* Speak with guards of ten frames, on a device that is `ahead` runs ahead. */
static utter_stats speak(const char *text, int ahead, int32_t ignore_eos, float *pcm)
{
    fake f = {.ahead = ahead};
    utter_engine *e = fake_engine(&f, "none");
    assert_non_null(e);
    e->model->defaults.runaway_s = (float)LIMIT * FAKE_HOP / FAKE_RATE;
    utter_synth_params p;
    utter_stats s;
    utter_audio *a;
    utter_synth_params_init(&p);
    p.seed = 5;
    p.ignore_eos = ignore_eos;
    p.max_frames = 60;
    logged[0] = 0;
    utter_log_set(collect_log, NULL);
    if (utter_synth(e, text, &p, &a) != UTTER_OK)
        fail_msg("%s", utter_last_error(e));
    utter_log_set(NULL, NULL);
    utter_stats_init(&s);
    assert_int_equal(utter_audio_get_stats(a, &s), UTTER_OK);
    assert_int_equal(utter_audio_n_samples(a), s.frames * FAKE_HOP);
    memcpy(pcm, utter_audio_samples(a), utter_audio_n_samples(a) * sizeof *pcm);
    utter_audio_free(a);
    utter_engine_close(e);
    return s;
}

static void runaway_speech_is_ended(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        int64_t frames;
        const char *message;
    } cases[] = {
        {"Aha =~", 2 + LIMIT,
         "1 chunk 1 repeats itself and was ended after 12 frames: \"Aha =~\"\n"},
        {"Aha _~", LIMIT, "1 chunk 1 is silent and was ended after 10 frames: \"Aha _~\"\n"},
        {"Aha _=~", LIMIT, "1 chunk 1 is silent and was ended after 10 frames: \"Aha _=~\"\n"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        for (int ahead = 0; ahead <= 8; ahead += 4) {
            const utter_stats s = speak(cases[i].text, ahead, 0, ahead ? again : samples);
            assert_int_equal(s.frames, cases[i].frames);
            assert_int_equal(s.stopped_by_limit, 1);
            assert_string_equal(logged, cases[i].message);
            if (ahead)
                assert_memory_equal(again, samples,
                                    (size_t)cases[i].frames * FAKE_HOP * sizeof *samples);
        }
}

static void other_speech_is_not(void **state)
{
    (void)state;
    utter_stats s = speak("Nine =_ c", 0, 0, samples); /* ends by itself */
    assert_int_equal(s.frames, 9);
    s = speak("Nine =chars", 0, 0, samples);
    assert_int_equal(s.stopped_by_limit, 0);
    assert_int_equal(s.frames, 11);
    s = speak("Aha ~", 0, 0, samples);
    assert_int_equal(s.frames, 60);
    s = speak("Aha _=~", 0, 1, samples); /* not where the end is ignored */
    assert_int_equal(s.frames, 60);
    assert_string_equal(logged, "");
}

/* The text behind is spoken all the same. */
static void the_next_chunk_begins_anew(void **state)
{
    (void)state;
    const utter_stats s =
        speak("The first sentence is silent _~. Here is the next one.", 4, 0, samples);
    const size_t n = fake_speech("Here is the next one.", NULL, 5 + UINT64_C(0x9e3779b97f4a7c15),
                                 21, again, sizeof again / sizeof *again);
    assert_int_equal(s.chunks, 2);
    assert_int_equal(s.stopped_by_limit, 1);
    assert_int_equal(s.frames, LIMIT + 21);
    assert_memory_equal(samples + LIMIT * FAKE_HOP, again, n * sizeof *again);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(repetition_is_found_at_every_period),
        cmocka_unit_test(silence_is_found_in_runs_of_any_length),
        cmocka_unit_test(runaway_speech_is_ended),
        cmocka_unit_test(other_speech_is_not),
        cmocka_unit_test(the_next_chunk_begins_anew),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
