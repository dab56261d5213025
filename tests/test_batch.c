/* test_batch.c - frames started ahead, sound beside frames, and sessions that share the runs of a
 * frame plan, on the model whose every sample is known (fake_model.h); each test with runs that
 * have happened when they return and with runs that happen when somebody waits. */
#include "fake_model.h"
#include "base/alloc.h"
#include "engine/batch.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

enum { AHEAD = 3, MAX_PCM = 40000 };

static float a[MAX_PCM], b[MAX_PCM];

typedef struct fixture {
    fake f;
    utter_engine *e;
} fixture;

static fixture *open_fixture(int n_slots, int ahead)
{
    fixture *x = calloc(1, sizeof *x);
    x->f.n_slots = n_slots;
    x->f.ahead = ahead;
    x->e = fake_engine(&x->f, "no-such-directory");
    assert_non_null(x->e);
    return x;
}

static void close_fixture(fixture *x)
{
    utter_engine_close(x->e);
    assert_false(x->f.broken);
    assert_int_equal(x->f.n_execs + x->f.n_states, 0);
    free(x);
}

static utter_stream *begin(fixture *x, const char *text, int64_t seed)
{
    utter_synth_params p;
    utter_stream *s;
    utter_synth_params_init(&p);
    p.seed = seed;
    assert_int_equal(utter_stream_open(x->e, &p, &s), UTTER_OK);
    assert_int_equal(utter_stream_push(s, text, strlen(text)), UTTER_OK);
    assert_int_equal(utter_stream_finish(s), UTTER_OK);
    return s;
}

/* Read on into pcm [*n ...]; false at the end. */
static bool read_some(utter_stream *s, float *pcm, size_t *n)
{
    size_t got;
    utter_stream_state st;
    assert_int_equal(utter_stream_read(s, pcm + *n, 4096, &got, &st), UTTER_OK);
    assert_true(st != UTTER_STREAM_NEEDS_TEXT);
    *n += got;
    return st == UTTER_STREAM_AUDIO;
}

static void expect_speech(const float *got, size_t n, const char *text, uint64_t seed)
{
    const size_t want = fake_speech(text, NULL, seed, (int)strlen(text), b, MAX_PCM);
    assert_int_equal(n, want);
    assert_memory_equal(got, b, n * sizeof *got);
}

static void speak(fixture *x, const char *text, int64_t seed)
{
    size_t n = 0;
    utter_stream *s = begin(x, text, seed);
    while (read_some(s, a, &n))
        ;
    utter_stream_close(s);
    expect_speech(a, n, text, (uint64_t)seed);
}

/* ---- One session ---------------------------------------------------------------------------- */

static void a_stop_wastes_what_is_in_flight(void **state)
{
    (void)state;
    fixture *x = open_fixture(1, AHEAD);
    speak(x, "Hello there.", 5);
    assert_int_equal(x->f.most_ahead, AHEAD);
    assert_int_equal(x->f.n_frame_runs, 12 + AHEAD - 1); /* the 12th says stop */
    x->f.n_frame_runs = 0;
    speak(x, "And on it goes.", 6); /* runs of the one before are in the queue, and not taken */
    assert_int_equal(x->f.n_frame_runs, 15 + AHEAD - 1);
    close_fixture(x);
}

static void a_limit_is_not_passed(void **state)
{
    (void)state;
    fixture *x = open_fixture(1, AHEAD);
    utter_synth_params p;
    utter_audio *audio;
    utter_synth_params_init(&p);
    p.max_frames = 9;
    p.seed = 1;
    assert_int_equal(utter_synth(x->e, "ab~", &p, &audio), UTTER_OK);
    assert_int_equal(utter_audio_n_samples(audio), 9 * FAKE_HOP);
    assert_int_equal(x->f.n_frame_runs, 8); /* the first is prefill's */
    utter_audio_free(audio);
    close_fixture(x);
}

/* Ahead is no further than the ring remembers. */
static void the_ring_bounds_what_is_ahead(void **state)
{
    (void)state;
    fixture *x = open_fixture(1, 12);
    speak(x, "Twenty frames of it.", 9);
    assert_int_equal(x->f.most_ahead, 4);
    close_fixture(x);
}

/* Nothing runs beside the codec before the first sound; then frames are made while it works. */
static void frames_go_on_while_the_codec_runs(void **state)
{
    (void)state;
    static const struct {
        int ahead, runs_min, runs_max;
    } cases[] = {{0, 1, 1}, {AHEAD, 1 + AHEAD, 2 * AHEAD + 1}};
    for (int i = 0; i < 2; i++) {
        fixture *x = open_fixture(1, cases[i].ahead);
        size_t n = 0;
        utter_stream *s = begin(x, "abcdefghijklmnopqrstuvwxyz", 3);
        assert_true(read_some(s, a, &n));
        assert_int_equal(n, FAKE_HOP);
        assert_int_equal(x->f.n_frame_runs, 0);
        assert_true(read_some(s, a, &n));
        assert_int_equal(n, 2 * FAKE_HOP);
        assert_in_range(x->f.n_frame_runs, cases[i].runs_min, cases[i].runs_max);
        assert_int_equal(x->f.n_decode_runs, 2);
        while (read_some(s, a, &n))
            ;
        utter_stream_close(s);
        expect_speech(a, n, "abcdefghijklmnopqrstuvwxyz", 3);
        close_fixture(x);
    }
}

static void cancel_leaves_nothing_behind(void **state)
{
    (void)state;
    fixture *x = open_fixture(1, AHEAD);
    for (int reads = 0; reads < 6; reads++) {
        size_t n = 0;
        utter_stream_state st;
        utter_stream *s = begin(x, "ab~", 4);
        for (int i = 0; i < reads; i++)
            read_some(s, a, &n);
        utter_stream_cancel(s);
        assert_int_equal(utter_stream_read(s, a, 7, &n, &st), UTTER_ERR_CANCELLED);
        utter_stream_close(s);
        speak(x, "Something else.", 8);
    }
    close_fixture(x);
}

static void frames_ahead_allocate_nothing(void **state)
{
    (void)state;
    fixture *x = open_fixture(2, AHEAD);
    size_t n = 0, m = 0;
    utter_stream *s = begin(x, "ab~", 4), *other = begin(x, "cd~", 4);
    read_some(s, a, &n);
    read_some(other, b, &m);
    const uint64_t before = ut_alloc_count();
    while (n < 500 * FAKE_HOP) {
        read_some(s, a, &n);
        read_some(other, b, &m);
    }
    assert_int_equal(ut_alloc_count() - before, 0);
    utter_stream_close(s);
    utter_stream_close(other);
    close_fixture(x);
}

/* ---- Sessions together ---------------------------------------------------------------------- */

enum { STREAMS = 7 };

/* STREAMS streams on n_slots slots; number i is opened when i reads of all others have been made,
 * and read in turns. */
static void speak_together(int n_slots, int ahead)
{
    static const char *const texts[STREAMS] = {
        "The first one speaks for long.",
        "Short.",
        "The third, on.",
        "x",
        "Number five is here.",
        "And six.",
        "Last of all comes this long one.",
    };
    static float pcm[STREAMS][4096 + 33 * FAKE_HOP];
    fixture *x = open_fixture(n_slots, ahead);
    utter_stream *s[STREAMS] = {0};
    size_t n[STREAMS] = {0};
    int n_done = 0;
    for (int turn = 0; n_done < STREAMS; turn++)
        for (int i = 0; i < STREAMS; i++) {
            if (turn == i)
                s[i] = begin(x, texts[i], 100 + i);
            if (!s[i] || read_some(s[i], pcm[i], &n[i]))
                continue;
            utter_stream_close(s[i]);
            s[i] = NULL;
            n_done++;
        }
    for (int i = 0; i < STREAMS; i++)
        expect_speech(pcm[i], n[i], texts[i], 100 + (uint64_t)i);
    close_fixture(x);
}

static void neighbours_change_nothing(void **state)
{
    (void)state;
    static const int slots[] = {1, 2, 3, 4, 5, 8, 32};
    for (size_t i = 0; i < sizeof slots / sizeof slots[0]; i++) {
        speak_together(slots[i], 0);
        speak_together(slots[i], AHEAD);
    }
}

static void runs_are_shared(void **state)
{
    (void)state;
    fixture *x = open_fixture(4, 0);
    utter_stream *s[4];
    size_t n[4] = {0};
    for (int i = 0; i < 4; i++) {
        s[i] = begin(x, "Twenty frames of it.", i);
        assert_true(read_some(s[i], a, &n[i])); /* frame 0 is prefill's */
    }
    assert_int_equal(x->f.n_frame_runs, 0);
    for (int i = 0; i < 4; i++)
        while (read_some(s[i], a, &n[i]))
            ;
    assert_int_equal(x->f.n_frame_runs, 20);
    for (int i = 0; i < 4; i++)
        utter_stream_close(s[i]);
    close_fixture(x);
}

/* One session does not pay for the slots of others. */
static void few_sessions_run_few_slots(void **state)
{
    (void)state;
    fixture *x = open_fixture(6, 0);
    speak(x, "Hello there.", 5);
    assert_int_equal(x->f.n_frame_runs, 12);
    assert_int_equal(x->f.n_slots_run, 12);
    utter_stream *first = begin(x, "a", 1), *second = begin(x, "b", 1), *third;
    third = begin(x, "Hello there.", 5);
    size_t n = 0;
    x->f.n_frame_runs = x->f.n_slots_run = 0;
    while (read_some(third, a, &n)) /* in slot 2: plans are of 1, 2, 4 and 6 slots */
        ;
    expect_speech(a, n, "Hello there.", 5);
    assert_int_equal(x->f.n_slots_run, 4 * x->f.n_frame_runs);
    utter_stream_close(first);
    utter_stream_close(second);
    utter_stream_close(third);
    close_fixture(x);
}

/* ---- Sessions that wait for text ------------------------------------------------------------ */

static bool never(void *user)
{
    (void)user;
    return false;
}

static void generate(ut_session *s, const char *text, int32_t pause)
{
    ut_prompt prompt;
    ut_err err = {0};
    ut_prompt_init(&prompt);
    const ut_request request = {.text = text};
    assert_int_equal(s->engine->model->ops->prompt(s->engine->model, &request, &prompt, &err),
                     UTTER_OK);
    ut_generation g = {.prompt = &prompt, .limit = INT32_MAX, .seed = 11, .pause = pause};
    assert_int_equal(ut_session_begin(s, &g, &err), UTTER_OK);
    ut_prompt_free(&prompt);
}

/* All samples until there are none; how many. */
static size_t collect(ut_session *s, float *pcm)
{
    ut_err err = {0};
    size_t n = 0;
    do {
        if (ut_session_more(s, never, NULL, &err) != UTTER_OK)
            fail_msg("%s", err.msg);
        memcpy(pcm + n, s->pcm, s->n_pcm * sizeof *pcm);
        n += s->n_pcm;
    } while (s->n_pcm > 0);
    return n;
}

/* A slot without a session is run along for as long as its neighbours speak. */
static void an_unused_slot_stays_within_its_cache(void **state)
{
    (void)state;
    for (int ahead = 0; ahead <= AHEAD; ahead += AHEAD) {
        fixture *x = open_fixture(2, ahead);
        ut_err err = {0};
        ut_session *first, *second;
        assert_int_equal(ut_session_take(x->e, &first, &err), UTTER_OK);
        assert_int_equal(ut_session_take(x->e, &second, &err), UTTER_OK);
        generate(first, "a", INT32_MAX);
        collect(first, a);
        ut_session_give(first);
        for (int k = 0; k < 3; k++) {
            generate(second, "abc~", INT32_MAX);
            assert_int_equal(collect(second, b), (FAKE_CAPACITY - 5 + 1) * FAKE_HOP);
        }
        assert_true(x->f.n_slots_run > 2 * 3 * 690);
        ut_session_give(second);
        close_fixture(x);
    }
}

/* It stands still however long others speak, even past the end of the caches, and goes on from
 * where it was; with little room left, too. */
static void a_session_that_waits_keeps_its_place(void **state)
{
    (void)state;
    static const int32_t pauses[] = {1, 2, 9};
    for (int ahead = 0; ahead <= AHEAD; ahead += AHEAD)
        for (size_t i = 0; i < 3; i++) {
            fixture *x = open_fixture(2, ahead);
            ut_err err = {0};
            ut_session *waiting, *other;
            assert_int_equal(ut_session_take(x->e, &waiting, &err), UTTER_OK);
            assert_int_equal(ut_session_take(x->e, &other, &err), UTTER_OK);
            generate(waiting, "It stops and goes on.", pauses[i]);
            size_t n = collect(waiting, a);
            assert_int_equal(n, (size_t)pauses[i] * FAKE_HOP);
            for (int k = 0; k < 2; k++) { /* to the capacity, twice */
                generate(other, "~", INT32_MAX);
                assert_true(collect(other, b) > 690 * FAKE_HOP);
            }
            generate(other, "At the same time.", INT32_MAX);
            assert_int_equal(ut_session_feed(waiting, NULL, 0, 15, INT32_MAX, &err), UTTER_OK);
            n += collect(waiting, a + n);
            assert_int_equal(n, 15 * FAKE_HOP);
            collect(other, b);
            assert_int_equal(ut_session_feed(waiting, NULL, 0, INT32_MAX, INT32_MAX, &err),
                             UTTER_OK);
            n += collect(waiting, a + n);
            expect_speech(a, n, "It stops and goes on.", 11);
            ut_session_give(other);
            ut_session_give(waiting);
            close_fixture(x);
        }
}

/* One session is at the end of its cache, frames of it in flight, and its neighbour goes on. */
static void a_full_session_is_run_no_further(void **state)
{
    (void)state;
    for (int ahead = 0; ahead <= AHEAD; ahead += AHEAD) {
        fixture *x = open_fixture(2, ahead);
        ut_err err = {0};
        ut_session *full, *other;
        assert_int_equal(ut_session_take(x->e, &full, &err), UTTER_OK);
        assert_int_equal(ut_session_take(x->e, &other, &err), UTTER_OK);
        generate(full, "~", INT32_MAX);
        size_t n = 0;
        for (int i = 0; i < 8; i++, n += full->n_pcm)
            assert_int_equal(ut_session_more(full, never, NULL, &err), UTTER_OK);
        generate(other, "abc~", INT32_MAX);
        assert_int_equal(collect(other, b), (FAKE_CAPACITY - 5 + 1) * FAKE_HOP);
        assert_true(full->ar_done);
        assert_int_equal(n + collect(full, a), (FAKE_CAPACITY - 2 + 1) * FAKE_HOP);
        assert_true(full->limited && other->limited);
        ut_session_give(other);
        ut_session_give(full);
        close_fixture(x);
    }
}

/* ---- More sessions than slots --------------------------------------------------------------- */

static void more_streams_than_slots_may_be_open(void **state)
{
    (void)state;
    fixture *x = open_fixture(2, 0);
    const int states = x->f.n_states;
    utter_stream *s[5];
    for (int i = 0; i < 5; i++)
        s[i] = begin(x, "Hello there.", i);
    assert_int_equal(x->f.n_states, 3 * states);
    for (int i = 4; i >= 0; i--) {
        size_t n = 0;
        while (read_some(s[i], a, &n))
            ;
        expect_speech(a, n, "Hello there.", (uint64_t)i);
    }
    utter_stream_close(s[4]);
    assert_int_equal(x->f.n_states, 2 * states);
    utter_stream_close(s[0]);
    utter_stream_close(s[1]);
    assert_int_equal(x->f.n_states, 2 * states); /* the first pair stays */
    utter_stream_close(s[2]);
    utter_stream_close(s[3]);
    assert_int_equal(x->f.n_states, states);
    close_fixture(x);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_stop_wastes_what_is_in_flight),
        cmocka_unit_test(a_limit_is_not_passed),
        cmocka_unit_test(the_ring_bounds_what_is_ahead),
        cmocka_unit_test(frames_go_on_while_the_codec_runs),
        cmocka_unit_test(cancel_leaves_nothing_behind),
        cmocka_unit_test(frames_ahead_allocate_nothing),
        cmocka_unit_test(neighbours_change_nothing),
        cmocka_unit_test(runs_are_shared),
        cmocka_unit_test(few_sessions_run_few_slots),
        cmocka_unit_test(an_unused_slot_stays_within_its_cache),
        cmocka_unit_test(a_session_that_waits_keeps_its_place),
        cmocka_unit_test(a_full_session_is_run_no_further),
        cmocka_unit_test(more_streams_than_slots_may_be_open),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
