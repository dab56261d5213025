/* test_sound.c - runs of the codec that sessions share, on the model whose every sample is known
 * (fake_model.h): what is heard never depends on who else is there, and how many runs it takes. */
#include "fake_model.h"
#include "engine/batch.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

enum { AHEAD = 3, MAX_PCM = 4000 };

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

/* Read at most `max` samples on into pcm [*n ...]; false at the end. */
static bool read_some(utter_stream *s, float *pcm, size_t *n, size_t max)
{
    size_t got;
    utter_stream_state st;
    assert_true(*n + max <= MAX_PCM);
    assert_int_equal(utter_stream_read(s, pcm + *n, max, &got, &st), UTTER_OK);
    *n += got;
    return st == UTTER_STREAM_AUDIO;
}

static size_t speak(fixture *x, const char *text, int64_t seed, float *pcm)
{
    size_t n = 0;
    utter_stream *s = begin(x, text, seed);
    while (read_some(s, pcm, &n, 300))
        ;
    utter_stream_close(s);
    return n;
}

static uint32_t next_random(uint32_t *x)
{
    *x = *x * 1664525u + 1013904223u;
    return *x >> 16;
}

/* ---- The same sound ------------------------------------------------------------------------- */

enum { TEXTS = 6, STREAMS = 40 };

static const char *const texts[TEXTS] = {
    "The first one speaks for long. It has a second chunk of text. And then there is a third.",
    "Short.",
    "x",
    "Nothing is heard of this _",
    "Thirty frames long is this one.",
    "One to begin with. Another one, which is in a chunk of its own.",
};
static float alone[TEXTS][MAX_PCM];
static size_t n_alone[TEXTS];

static void speak_alone(void)
{
    fixture *x = open_fixture(1, 0);
    for (int i = 0; i < TEXTS; i++)
        n_alone[i] = speak(x, texts[i], 50 + i, alone[i]);
    close_fixture(x);
}

typedef struct listener {
    utter_stream *stream;
    int text;
    bool leaves; /* in the middle */
    float pcm[MAX_PCM];
    size_t n;
} listener;

/* Listeners come, read what they like when they like, and go. */
static void listen_at_random(int n_slots, int ahead, uint32_t random)
{
    static listener l[STREAMS];
    static const size_t sizes[] = {1, FAKE_HOP, 13, 3 * FAKE_HOP, 300};
    fixture *x = open_fixture(n_slots, ahead);
    int n_begun = 0, n_open = 0;
    while (n_begun < STREAMS || n_open > 0) {
        if (n_begun < STREAMS && next_random(&random) % 4 == 0) {
            listener *a = &l[n_begun++];
            a->text = (int)(next_random(&random) % TEXTS);
            a->leaves = next_random(&random) % 4 == 0;
            a->n = 0;
            a->stream = begin(x, texts[a->text], 50 + a->text);
            n_open++;
        }
        listener *a = &l[next_random(&random) % STREAMS];
        if (a >= l + n_begun || !a->stream)
            continue;
        const size_t max = sizes[next_random(&random) % 5];
        bool ended = a->leaves && a->n > 70;
        for (int i = 0; i < 4 && !ended; i++)
            ended = !read_some(a->stream, a->pcm, &a->n, max);
        if (!ended)
            continue;
        utter_stream_close(a->stream);
        a->stream = NULL;
        n_open--;
        if (!a->leaves)
            assert_int_equal(a->n, n_alone[a->text]);
        assert_memory_equal(a->pcm, alone[a->text], a->n * sizeof *a->pcm);
    }
    close_fixture(x);
}

static void neighbours_are_not_heard(void **state)
{
    (void)state;
    static const int slots[] = {1, 2, 3, 4, 6, 8, 32};
    speak_alone();
    for (size_t i = 0; i < sizeof slots / sizeof slots[0]; i++)
        for (uint32_t round = 0; round < 10; round++) {
            listen_at_random(slots[i], 0, round);
            listen_at_random(slots[i], AHEAD, round);
        }
}

/* A run may be flying when its caller is told to stop. */
typedef struct interruption {
    utter_stream *stream;
    int frames_left;
} interruption;

static void interrupt(void *user, int frame)
{
    (void)frame;
    interruption *i = user;
    if (i->frames_left-- == 0)
        utter_stream_cancel(i->stream);
}

static void a_cancelled_neighbour_is_not_heard(void **state)
{
    (void)state;
    static float a[MAX_PCM], b[MAX_PCM];
    speak_alone();
    for (int frames = 0; frames < 24; frames++)
        for (int ahead = 0; ahead <= 4 * AHEAD; ahead += AHEAD) {
            fixture *x = open_fixture(2, ahead);
            utter_stream *s = begin(x, texts[4], 54), *other = begin(x, texts[4], 54);
            size_t n = 0, m = 0, got;
            utter_stream_state st;
            interruption i = {.stream = s, .frames_left = frames};
            x->f.user = &i;
            x->f.on_frame = interrupt;
            while (utter_stream_read(s, a, 300, &got, &st) == UTTER_OK && (n += got) < MAX_PCM)
                read_some(other, b, &m, 300);
            utter_stream_close(s);
            while (read_some(other, b, &m, 300))
                ;
            utter_stream_close(other);
            assert_int_equal(m, n_alone[4]);
            assert_memory_equal(b, alone[4], m * sizeof *b);
            close_fixture(x);
        }
}

/* All whose sound a run was to make are told that it failed, and nobody later. */
static void a_failure_is_told_to_all_whom_it_concerns(void **state)
{
    (void)state;
    static float pcm[MAX_PCM];
    fixture *x = open_fixture(2, 0);
    utter_stream *s = begin(x, texts[0], 1), *other = begin(x, texts[0], 2);
    size_t n = 0, m = 0, got;
    utter_stream_state st;
    read_some(s, pcm, &n, 300);
    read_some(other, pcm, &m, 300);
    x->f.fail_output = 1;
    assert_int_equal(utter_stream_read(s, pcm, 300, &got, &st), UTTER_ERR_BACKEND);
    assert_string_equal(utter_last_error(x->e), "the fake device is gone");
    assert_int_equal(utter_stream_read(other, pcm, 300, &got, &st), UTTER_ERR_BACKEND);
    assert_string_equal(utter_last_error(x->e), "the codec failed when this was to be spoken");
    utter_stream_close(s);
    utter_stream_close(other);
    speak_alone();
    assert_int_equal(speak(x, texts[0], 50, pcm), n_alone[0]);
    assert_memory_equal(pcm, alone[0], n_alone[0] * sizeof *pcm);
    close_fixture(x);
}

/* ---- Few runs ------------------------------------------------------------------------------- */

/* n streams of an endless text each begun and heard, then runs counted from zero. */
static void begin_all(fixture *x, utter_stream **s, int n)
{
    static float pcm[MAX_PCM];
    for (int i = 0; i < n; i++) {
        size_t m = 0;
        s[i] = begin(x, "ab~", i);
        read_some(s[i], pcm, &m, 300);
        assert_int_equal(m, FAKE_HOP);
    }
}

/* Every stream read in turns until it has `frames` more frames. */
static void read_frames(utter_stream **s, int n, int frames)
{
    static float pcm[MAX_PCM];
    size_t m[32] = {0};
    for (bool any = true; any;) {
        any = false;
        for (int i = 0; i < n; i++) {
            if (m[i] >= (size_t)frames * FAKE_HOP)
                continue;
            any = true;
            assert_true(read_some(s[i], pcm, &m[i], FAKE_HOP));
        }
    }
}

static void close_all(utter_stream **s, int n)
{
    for (int i = 0; i < n; i++)
        utter_stream_close(s[i]);
}

/* The first sounds are each for itself; from then on a run is for all. Frames at a time: 1, 1, 1,
 * 2, 3, 4, 6, then as many as the longest run has: 6 up to 4 slots, 3 for 8, 1 for more. */
static void sessions_in_step_share_all_runs(void **state)
{
    (void)state;
    static const struct {
        int n, runs;
    } cases[] = {{1, 7 + 7}, {2, 7 + 7}, {4, 7 + 7}, {8, 4 + 19}, {16, 60}, {32, 60}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const int n = cases[i].n;
        utter_stream *s[32];
        fixture *x = open_fixture(32, 0);
        begin_all(x, s, n);
        assert_int_equal(x->f.n_decode_runs, n);
        assert_int_equal(x->f.n_slots_decoded, n);
        x->f.n_decode_runs = x->f.n_slots_decoded = 0;
        read_frames(s, n, 60);
        assert_int_equal(x->f.n_decode_runs, cases[i].runs);
        assert_int_equal(x->f.n_slots_decoded, n * cases[i].runs);
        close_all(s, n);
        close_fixture(x);
    }
}

/* Whoever comes later is soon in step with the others. */
static void who_comes_later_gets_into_step(void **state)
{
    (void)state;
    for (int before = 1; before < 40; before++)
        for (int ahead = 0; ahead <= AHEAD; ahead += AHEAD) {
            utter_stream *s[4];
            fixture *x = open_fixture(4, ahead);
            begin_all(x, s, 3);
            read_frames(s, 3, before);
            begin_all(x, s + 3, 1);
            read_frames(s, 4, 20);
            x->f.n_decode_runs = x->f.n_slots_decoded = 0;
            read_frames(s, 4, 60);
            assert_in_range(x->f.n_decode_runs, 9, 11); /* of 6 frames */
            assert_int_equal(x->f.n_slots_decoded, 4 * x->f.n_decode_runs);
            close_all(s, 4);
            close_fixture(x);
        }
}

/* One that nobody listens to is left out when its buffer is full, and costs nothing from then on;
 * nothing of it is lost. */
static void an_absent_listener_does_not_hold_up_others(void **state)
{
    (void)state;
    static float pcm[MAX_PCM];
    speak_alone();
    fixture *x = open_fixture(2, 0);
    utter_stream *absent = begin(x, texts[4], 54), *s[1];
    size_t n = 0;
    read_some(absent, pcm, &n, 300);
    begin_all(x, s, 1);
    read_frames(s, 1, 40);
    x->f.n_decode_runs = x->f.n_slots_decoded = 0;
    read_frames(s, 1, 60);
    assert_int_equal(x->f.n_decode_runs, 10);
    assert_int_equal(x->f.n_slots_decoded, 10);
    while (read_some(absent, pcm, &n, 300))
        ;
    assert_int_equal(n, n_alone[4]);
    assert_memory_equal(pcm, alone[4], n * sizeof *pcm);
    close_all(s, 1);
    utter_stream_close(absent);
    close_fixture(x);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(neighbours_are_not_heard),
        cmocka_unit_test(a_cancelled_neighbour_is_not_heard),
        cmocka_unit_test(a_failure_is_told_to_all_whom_it_concerns),
        cmocka_unit_test(sessions_in_step_share_all_runs),
        cmocka_unit_test(who_comes_later_gets_into_step),
        cmocka_unit_test(an_absent_listener_does_not_hold_up_others),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
