/* test_engine.c - speaking, streams and their statistics, on a model whose every sample is known
 * (fake_model.h). */
#include "fake_model.h"
#include "base/alloc.h"
#include "base/log.h"
#include "base/os.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#define MAX_PCM 200000

typedef struct fixture {
    fake f;
    utter_engine *e;
    utter_synth_params p;
    char log[4096];
} fixture;

static void collect_log(void *user, int level, const char *message)
{
    fixture *x = user;
    size_t n = strlen(x->log);
    snprintf(x->log + n, sizeof x->log - n, "%d %s\n", level, message);
}

static int set_up(void **state)
{
    fixture *x = calloc(1, sizeof *x);
    x->e = fake_engine(&x->f, "no-such-directory");
    utter_synth_params_init(&x->p);
    x->p.seed = 5;
    utter_log_set(collect_log, x);
    *state = x;
    return x->e ? 0 : -1;
}

static int tear_down(void **state)
{
    fixture *x = *state;
    utter_log_set(NULL, NULL);
    utter_engine_close(x->e);
    int left = x->f.n_execs + x->f.n_states;
    free(x);
    return left;
}

static uint64_t chunk_seed(uint64_t seed, int chunk)
{
    return seed + (uint64_t)chunk * 0x9e3779b97f4a7c15u;
}

/* Push text in pieces of `piece` bytes, read in pieces of `max` samples; returns the count. */
static size_t speak(fixture *x, const char *text, size_t piece, size_t max, float *pcm,
                    utter_stats *stats)
{
    utter_stream *s;
    size_t total = 0, n, left = strlen(text);
    utter_stream_state state;
    assert_int_equal(utter_stream_open(x->e, &x->p, &s), UTTER_OK);
    for (;;) {
        assert_int_equal(utter_stream_read(s, pcm + total, max, &n, &state), UTTER_OK);
        total += n;
        assert_true(total + max <= MAX_PCM);
        assert_int_equal(n > 0, state == UTTER_STREAM_AUDIO);
        if (state == UTTER_STREAM_END)
            break;
        if (state == UTTER_STREAM_NEEDS_TEXT && left == 0) {
            assert_int_equal(utter_stream_finish(s), UTTER_OK);
        } else if (state == UTTER_STREAM_NEEDS_TEXT) {
            size_t k = left < piece ? left : piece;
            assert_int_equal(utter_stream_push(s, text, k), UTTER_OK);
            text += k;
            left -= k;
        }
    }
    if (stats) {
        utter_stats_init(stats);
        assert_int_equal(utter_stream_get_stats(s, stats), UTTER_OK);
    }
    utter_stream_close(s);
    return total;
}

static void expect_samples(const float *got, size_t n_got, const float *want, size_t n_want)
{
    assert_int_equal(n_got, n_want);
    assert_memory_equal(got, want, n_want * sizeof *want);
}

static float a[MAX_PCM], b[MAX_PCM];

/* ---- One chunk ------------------------------------------------------------------------------ */

static void one_sentence_is_one_generation(void **state)
{
    fixture *x = *state;
    utter_stats s;
    size_t n = speak(x, "Hello there.", 100, 4096, a, &s);
    expect_samples(a, n, b, fake_speech("Hello there.", NULL, 5, 12, b, MAX_PCM));
    assert_int_equal(s.frames, 12); /* the frame that says stop carries no audio */
    assert_int_equal(s.chunks, 1);
    assert_int_equal(s.stopped_by_limit, 0);
    assert_int_equal(s.prompt_tokens, 13);
    assert_int_equal(s.seed, 5);
    assert_int_equal(s.sample_rate, FAKE_RATE);
    assert_true(s.audio_s == 12.0 * FAKE_HOP / FAKE_RATE);
    assert_true(s.ttfa_ms > 0.0 && s.busy_s > 0.0 && s.rtf > 0.0);
    assert_true(s.rtf * s.x_realtime > 0.999 && s.rtf * s.x_realtime < 1.001);
    assert_true(s.codec_share > 0.0 && s.codec_share < 1.0);
    assert_int_equal(x->f.n_prefills, 1);
    assert_int_equal(x->f.n_frame_runs, 12);
    assert_string_equal(x->log, "");
}

/* A stream of 26 frames. */
static utter_stream *begin_alphabet(const fixture *x)
{
    utter_stream *s;
    assert_int_equal(utter_stream_open(x->e, &x->p, &s), UTTER_OK);
    assert_int_equal(utter_stream_push(s, "abcdefghijklmnopqrstuvwxyz", 26), UTTER_OK);
    assert_int_equal(utter_stream_finish(s), UTTER_OK);
    return s;
}

/* Runs of the codec are half of what is decoded, from 1 to its largest, 6. */
static void first_frame_is_decoded_alone(void **state)
{
    fixture *x = *state;
    size_t n;
    utter_stream_state st;
    static const size_t frames[] = {1, 1, 1, 1, 2, 3, 4, 6, 6, 1};
    static const int runs[] = {0, 1, 2, 3, 5, 8, 12, 18, 24, 26};
    utter_stream *s = begin_alphabet(x);
    for (size_t i = 0; i < sizeof frames / sizeof frames[0]; i++) {
        assert_int_equal(utter_stream_read(s, a, MAX_PCM, &n, &st), UTTER_OK);
        assert_int_equal(n, frames[i] * FAKE_HOP);
        assert_int_equal(x->f.n_frame_runs, runs[i]);
    }
    assert_int_equal(utter_stream_read(s, a, MAX_PCM, &n, &st), UTTER_OK);
    assert_int_equal(st, UTTER_STREAM_END);
    assert_int_equal(utter_stream_read(s, a, MAX_PCM, &n, &st), UTTER_OK);
    assert_int_equal(st, UTTER_STREAM_END);
    utter_stream_close(s);
}

static double standing(void)
{
    return 1.0;
}

/* Where a listener has heard nothing yet, the second run and those after it are the largest. */
static void runs_of_the_codec_wait_while_there_is_sound(void **state)
{
    fixture *x = *state;
    size_t n;
    utter_stream_state st;
    static const size_t frames[] = {1, 6, 6, 6, 6, 1};
    x->e->clock = standing;
    utter_stream *s = begin_alphabet(x);
    for (size_t i = 0; i < sizeof frames / sizeof frames[0]; i++) {
        assert_int_equal(utter_stream_read(s, a, MAX_PCM, &n, &st), UTTER_OK);
        assert_int_equal(n, frames[i] * FAKE_HOP);
    }
    utter_stream_close(s);
}

static void stop_in_the_first_frame_is_not_noticed(void **state)
{
    fixture *x = *state;
    utter_stats s;
    speak(x, "Now!", 100, 4096, a, &s);
    assert_int_equal(s.frames, 4);
}

static void parameters_reach_the_backend(void **state)
{
    fixture *x = *state;
    speak(x, "a", 1, 100, a, NULL);
    assert_true(x->f.last_params[UT_SP_TEMPERATURE] == 0.7f); /* the model's defaults */
    assert_true(x->f.last_params[UT_SP_TOP_P] == 0.9f);
    assert_true(x->f.last_params[UT_SP_REPETITION_PENALTY] == 1.1f);
    x->p.temperature = 0.0f;
    x->p.top_p = 1.0f;
    x->p.repetition_penalty = 2.0f;
    x->p.seed = 0x123456789abcdef;
    speak(x, "a", 1, 100, a, NULL);
    assert_true(x->f.last_params[UT_SP_TEMPERATURE] == 0.0f);
    assert_true(x->f.last_params[UT_SP_TOP_P] == 1.0f);
    assert_true(x->f.last_params[UT_SP_REPETITION_PENALTY] == 2.0f);
    assert_true(x->f.last_seed == 0x123456789abcdef);
}

static void parameters_out_of_range_are_named(void **state)
{
    fixture *x = *state;
    utter_stream *s;
    const struct {
        utter_synth_params p;
        const char *name;
    } bad[] = {
        {{.seed = -1, .temperature = 2.5f, .top_p = 1, .repetition_penalty = 1}, "temperature"},
        {{.seed = -1, .temperature = -2, .top_p = 1, .repetition_penalty = 1}, "temperature"},
        {{.seed = -1, .top_p = 0, .repetition_penalty = 1}, "top_p"},
        {{.seed = -1, .top_p = 1.1f, .repetition_penalty = 1}, "top_p"},
        {{.seed = -1, .top_p = 1, .repetition_penalty = 0.4f}, "repetition_penalty"},
        {{.seed = -2, .top_p = 1, .repetition_penalty = 1}, "seed"},
        {{.seed = -1, .top_p = 1, .repetition_penalty = 1, .max_frames = -1}, "max_frames"},
        {{.seed = -1, .top_p = 1, .repetition_penalty = 1, .ignore_eos = 2}, "ignore_eos"},
        {{.seed = -1, .top_p = 1, .repetition_penalty = 1, .no_voice = -1}, "no_voice"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        utter_synth_params p = bad[i].p;
        p.struct_size = sizeof p;
        assert_int_equal(utter_stream_open(x->e, &p, &s), UTTER_ERR_ARG);
        assert_null(s);
        assert_non_null(strstr(utter_last_error(x->e), bad[i].name));
    }
}

/* ---- Text and reads of any size ------------------------------------------------------------- */

static const char story[] = "It was late. The rain had stopped, and nobody had noticed it at all. "
                            "\"Well,\" she said, \"here we are.\" Then the door opened slowly, and "
                            "everyone stood up to see who it was; nobody spoke for a long while.";

static void samples_do_not_depend_on_pieces(void **state)
{
    fixture *x = *state;
    utter_stats whole, parts;
    size_t n = speak(x, story, sizeof story, 100000, a, &whole);
    assert_true(whole.chunks > 3);
    static const size_t pieces[][2] = {{1, 1}, {7, 3}, {50, FAKE_HOP}, {1, 1000}, {1000, 13}};
    for (size_t i = 0; i < sizeof pieces / sizeof pieces[0]; i++) {
        size_t k = speak(x, story, pieces[i][0], pieces[i][1], b, &parts);
        expect_samples(b, k, a, n);
        assert_int_equal(parts.chunks, whole.chunks);
        assert_int_equal(parts.prompt_tokens, whole.prompt_tokens);
    }
    utter_audio *audio;
    assert_int_equal(utter_synth(x->e, story, &x->p, &audio), UTTER_OK);
    expect_samples(utter_audio_samples(audio), utter_audio_n_samples(audio), a, n);
    assert_int_equal(utter_audio_sample_rate(audio), FAKE_RATE);
    utter_stats_init(&parts);
    assert_int_equal(utter_audio_get_stats(audio, &parts), UTTER_OK);
    assert_int_equal(parts.frames, (int64_t)(n / FAKE_HOP));
    utter_audio_free(audio);
}

/* Two streams of one engine, read in turns, say what each says alone. */
static void streams_do_not_disturb_each_other(void **state)
{
    fixture *x = *state;
    static float c[MAX_PCM];
    utter_stream *s[2];
    float *out[2] = {b, c};
    size_t total[2] = {0, 0};
    for (int i = 0; i < 2; i++) {
        assert_int_equal(utter_stream_open(x->e, &x->p, &s[i]), UTTER_OK);
        assert_int_equal(utter_stream_push(s[i], story + 50 * i, sizeof story - 1 - 50 * (size_t)i),
                         UTTER_OK);
        assert_int_equal(utter_stream_finish(s[i]), UTTER_OK);
    }
    assert_int_equal(x->f.n_states, 4);
    for (int live = 3; live;)
        for (int i = 0; i < 2; i++) {
            size_t n;
            utter_stream_state st;
            if (!(live & (1 << i)))
                continue;
            assert_int_equal(utter_stream_read(s[i], out[i] + total[i], 5, &n, &st), UTTER_OK);
            total[i] += n;
            if (st == UTTER_STREAM_END)
                live &= ~(1 << i);
        }
    for (int i = 0; i < 2; i++)
        utter_stream_close(s[i]);
    assert_int_equal(x->f.n_states, 2); /* one session stays for the next */
    for (int i = 0; i < 2; i++)
        expect_samples(out[i], total[i], a, speak(x, story + 50 * i, 1000, 999, a, NULL));
}

static void text_is_asked_for_when_it_runs_out(void **state)
{
    fixture *x = *state;
    utter_stream *s;
    utter_stream_state st;
    utter_stats stats;
    size_t n;
    assert_int_equal(utter_stream_open(x->e, &x->p, &s), UTTER_OK);
    assert_int_equal(utter_stream_read(s, a, 1, &n, &st), UTTER_OK);
    assert_int_equal(st, UTTER_STREAM_NEEDS_TEXT);
    assert_int_equal(utter_stream_push(s, "One two three. Fo", 17), UTTER_OK);
    assert_int_equal(utter_stream_read(s, a, MAX_PCM, &n, &st), UTTER_OK);
    assert_int_equal(st, UTTER_STREAM_AUDIO); /* before the text is complete */
    while (st == UTTER_STREAM_AUDIO)
        assert_int_equal(utter_stream_read(s, a, MAX_PCM, &n, &st), UTTER_OK);
    assert_int_equal(st, UTTER_STREAM_NEEDS_TEXT);
    utter_stats_init(&stats);
    assert_int_equal(utter_stream_get_stats(s, &stats), UTTER_OK);
    assert_int_equal(stats.frames, 14);
    assert_true(stats.text_pending >= 2 && stats.text_pending <= 3);
    assert_int_equal(utter_stream_push(s, "ur", 2), UTTER_OK);
    assert_int_equal(utter_stream_finish(s), UTTER_OK);
    assert_int_equal(utter_stream_finish(s), UTTER_OK);
    assert_int_equal(utter_stream_push(s, "x", 1), UTTER_ERR_ARG);
    do
        assert_int_equal(utter_stream_read(s, a, MAX_PCM, &n, &st), UTTER_OK);
    while (st == UTTER_STREAM_AUDIO);
    assert_int_equal(st, UTTER_STREAM_END);
    assert_int_equal(utter_stream_get_stats(s, &stats), UTTER_OK);
    assert_int_equal(stats.frames, 18);
    assert_int_equal(stats.text_pending, 0);
    utter_stream_close(s);
}

static void text_that_cannot_be_spoken_is_refused(void **state)
{
    fixture *x = *state;
    utter_audio *audio;
    utter_stream *s;
    static const char *const texts[] = {"", "   \n", "...!?", "abc \xff def", "caf\xc3"};
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        assert_int_equal(utter_synth(x->e, texts[i], NULL, &audio), UTTER_ERR_TEXT);
        assert_null(audio);
        assert_true(strlen(utter_last_error(x->e)) > 10);
    }
    assert_int_equal(utter_stream_open(x->e, NULL, &s), UTTER_OK);
    assert_int_equal(utter_stream_push(s, "a\0b", 3), UTTER_ERR_TEXT);
    assert_int_equal(utter_stream_push(s, "ab", 2), UTTER_ERR_TEXT); /* it has failed for good */
    assert_int_equal(utter_stream_finish(s), UTTER_ERR_TEXT);
    utter_stream_close(s);
    assert_int_equal(utter_synth(x->e, "Fine.", NULL, &audio), UTTER_OK); /* the engine has not */
    utter_audio_free(audio);
}

/* ---- Seeds ---------------------------------------------------------------------------------- */

static void seeds_decide_the_samples(void **state)
{
    fixture *x = *state;
    utter_stats s, t;
    size_t n = speak(x, story, 1000, 999, a, &s);
    expect_samples(a, n, b, speak(x, story, 1000, 999, b, &t));
    x->p.seed = 6;
    assert_int_equal(speak(x, story, 1000, 999, b, &t), n);
    assert_memory_not_equal(a, b, n * sizeof *a);

    x->p.seed = -1; /* another each time, but known afterwards */
    n = speak(x, story, 1000, 999, a, &s);
    speak(x, story, 1000, 999, b, &t);
    assert_true(s.seed >= 0 && t.seed >= 0 && s.seed != t.seed);
    x->p.seed = s.seed;
    expect_samples(a, n, b, speak(x, story, 1000, 999, b, NULL));
}

/* ---- Limits --------------------------------------------------------------------------------- */

static void max_frames_ends_the_utterance(void **state)
{
    fixture *x = *state;
    utter_stats s;
    x->p.max_frames = 10;
    size_t n = speak(x, "Hello there. And more of it follows.", 100, 4096, a, &s);
    assert_int_equal(s.frames, 10); /* the last frame is kept */
    assert_int_equal(s.stopped_by_limit, 1);
    assert_int_equal(s.chunks, 1);
    expect_samples(a, n, b, fake_speech("Hello there.", NULL, 5, 10, b, MAX_PCM));
    x->p.max_frames = 15;
    speak(x, "Hello there. And more of it follows.", 100, 4096, a, &s);
    assert_int_equal(s.frames, 15); /* over both chunks */
    assert_int_equal(s.chunks, 2);
    x->p.max_frames = 1;
    speak(x, "Hello there. And more of it follows.", 100, 4096, a, &s);
    assert_int_equal(s.frames, 1);
    assert_string_equal(x->log, "");
}

static void ignore_eos_goes_on(void **state)
{
    fixture *x = *state;
    utter_stats s;
    x->p.max_frames = 50;
    x->p.ignore_eos = 1;
    speak(x, "Hello there. More.", 100, 4096, a, &s);
    assert_int_equal(s.frames, 50);
    assert_int_equal(s.chunks, 1);
    x->p.max_frames = 0;
    speak(x, "Hello there.", 100, 4096, a, &s);
    assert_int_equal(s.frames, FAKE_CAPACITY - 13 + 1);
}

static void capacity_ends_endless_speech(void **state)
{
    fixture *x = *state;
    utter_stats s;
    speak(x, "ab~", 100, 4096, a, &s);
    assert_int_equal(s.frames, FAKE_CAPACITY - 4 + 1);
    assert_int_equal(s.stopped_by_limit, 1);
    assert_non_null(strstr(x->log, "did not end by itself within 697 frames: \"ab~\""));
}

static void runaway_speech_is_cut(void **state)
{
    fixture *x = *state;
    utter_stats s;
    fake f = {.frames_per_char_limit = 2.5f};
    utter_engine *own = x->e;
    x->e = fake_engine(&f, "none");
    speak(x, "ab\xc3\xa9~", 100, 4096, a, &s); /* 4 characters */
    assert_int_equal(s.frames, 20 + 10);
    assert_int_equal(s.stopped_by_limit, 1);
    x->p.ignore_eos = 1; /* measurements have no guard */
    x->p.max_frames = 60;
    speak(x, "ab", 100, 4096, a, &s);
    assert_int_equal(s.frames, 60);
    utter_engine_close(x->e);
    x->e = own;
}

static void prefill_grows_with_the_prompt(void **state)
{
    fixture *x = *state;
    utter_voice *v = NULL;
    char path[512];
    FILE *f;
    assert_int_equal(x->f.largest_prefill, 256);
    snprintf(path, sizeof path, "%s/long.json", getenv("UT_TEST_TMP"));
    f = ut_fopen(path, "wb");
    assert_non_null(f);
    fprintf(f, "{\"text\":\"x\",\"codes\":[");
    for (int q = 0; q < FAKE_CODEBOOKS; q++) {
        fprintf(f, "%s[0", q ? "," : "");
        for (int t = 1; t < 500; t++)
            fprintf(f, ",%d", t % 16);
        fprintf(f, "]");
    }
    fprintf(f, "]}");
    fclose(f);
    assert_int_equal(utter_voice_load(path, &v), UTTER_OK);
    x->p.voice = v;
    utter_stats s;
    speak(x, "Hi.", 9, 99, a, &s);
    assert_int_equal(s.frames, 3);
    assert_int_equal(s.prompt_tokens, 1 + 1 + 500 + 1 + 3);
    assert_int_equal(x->f.largest_prefill, 512);
    utter_audio *audio;
    const char *too_long = "This sentence is a bit longer than the others, is it not so?";
    assert_int_equal(utter_synth(x->e, too_long, &x->p, &audio), UTTER_OK);
    utter_audio_free(audio);
    assert_int_equal(x->f.largest_prefill, FAKE_MAX_PROMPT);
    utter_voice_free(v);
}

/* ---- What is in the prompts ----------------------------------------------------------------- */

/* The text after the last reference of the last prompt. */
static void last_text(const fake *f, char *out)
{
    int t = f->n_prompt - 1;
    while (t > 0 && f->prompt[t * FAKE_COLUMNS] != FAKE_CLOSE)
        t--;
    for (t++; t < f->n_prompt; t++)
        *out++ = (char)(f->prompt[t * FAKE_COLUMNS] - FAKE_TEXT);
    *out = 0;
}

/* Without a voice the chunk before is the reference, text and codes. */
static void voice_holds_over_chunks(void **state)
{
    fixture *x = *state;
    int32_t codes[10 * FAKE_CODEBOOKS];
    char text[FAKE_MAX_PROMPT];
    size_t n = speak(x, "First one. Here comes the second.", 100, 4096, a, NULL);
    last_text(&x->f, text);
    assert_string_equal(text, "Here comes the second.");
    assert_int_equal(x->f.n_prompt, 1 + 10 + 10 + 1 + 22);
    for (int t = 0; t < 10; t++) {
        const int32_t *column = x->f.prompt + (11 + t) * FAKE_COLUMNS;
        assert_int_equal(column[0], FAKE_SPEECH + column[1]);
        memcpy(codes + t * FAKE_CODEBOOKS, column + 1, FAKE_CODEBOOKS * sizeof *codes);
    }
    size_t first = fake_speech("First one.", NULL, 5, 10, b, MAX_PCM);
    ut_reference ref = {.text = "First one.", .codes = codes, .n_frames = 10};
    size_t second = fake_speech("Here comes the second.", &ref, chunk_seed(5, 1), 22, b + first,
                                MAX_PCM - first);
    expect_samples(a, n, b, first + second);
}

/* A chunk that ran away is not imitated: the one before it still is. */
static void babble_is_no_reference(void **state)
{
    fixture *x = *state;
    fake f = {.frames_per_char_limit = 1.0f};
    utter_engine *own = x->e;
    utter_stats s;
    x->e = fake_engine(&f, "none");
    speak(x, "First one. This sentence of the story never ~ ends. Here comes the third one.", 100,
          4096, a, &s);
    assert_int_equal(s.chunks, 3);
    assert_int_equal(s.stopped_by_limit, 1);
    assert_int_equal(f.n_prompt, 1 + 10 + 10 + 1 + 25);
    utter_engine_close(x->e);
    x->e = own;
}

static void reference_that_does_not_fit_is_left_out(void **state)
{
    fixture *x = *state;
    char text[700];
    fake f = {.frames_per_char_limit = 0.0f};
    utter_engine *own = x->e;
    x->e = fake_engine(&f, "none");
    x->e->model->ar.max_prompt = 60; /* room for a chunk, not for two */
    snprintf(text, sizeof text,
             "The first sentence of the text is here. "
             "The second sentence of the text is here.");
    utter_stats s;
    speak(x, text, 1000, 4096, a, &s);
    assert_int_equal(s.chunks, 2);
    assert_int_equal(f.n_prompt, 1 + 40);
    assert_non_null(strstr(x->log, "chunk 2: the voice may change"));
    utter_engine_close(x->e);
    x->e = own;
}

/* ---- Trouble -------------------------------------------------------------------------------- */

static void failures_of_the_backend_are_reported(void **state)
{
    fixture *x = *state;
    utter_audio *audio;
    for (int n = 1; n <= 9; n++) {
        x->f.fail_run = n;
        assert_int_equal(utter_synth(x->e, "Hello there.", &x->p, &audio), UTTER_ERR_BACKEND);
        assert_null(audio);
        assert_string_equal(utter_last_error(x->e), "the fake device is gone");
    }
    x->f.fail_run = 0;
    assert_int_equal(utter_synth(x->e, "Hello there.", &x->p, &audio), UTTER_OK);
    expect_samples(utter_audio_samples(audio), utter_audio_n_samples(audio), b,
                   fake_speech("Hello there.", NULL, 5, 12, b, MAX_PCM));
    utter_audio_free(audio);
}

static void a_failed_stream_stays_failed(void **state)
{
    fixture *x = *state;
    utter_stream *s;
    utter_stream_state st;
    size_t n;
    assert_int_equal(utter_stream_open(x->e, &x->p, &s), UTTER_OK);
    assert_int_equal(utter_stream_push(s, "Hello there.", 12), UTTER_OK);
    assert_int_equal(utter_stream_finish(s), UTTER_OK);
    x->f.fail_run = 3;
    assert_int_equal(utter_stream_read(s, a, MAX_PCM, &n, &st), UTTER_OK);
    assert_int_equal(utter_stream_read(s, a, MAX_PCM, &n, &st), UTTER_ERR_BACKEND);
    assert_int_equal(n, 0);
    assert_int_equal(utter_stream_read(s, a, MAX_PCM, &n, &st), UTTER_ERR_BACKEND);
    utter_stream_close(s);
}

static void cancel_in_frame_10(void *user, int frame)
{
    if (frame == 10)
        utter_stream_cancel(*(utter_stream **)user);
}

static void cancel_takes_one_frame(void **state)
{
    fixture *x = *state;
    utter_stream *s;
    utter_stream_state st;
    utter_status status;
    size_t n, total = 0;
    assert_int_equal(utter_stream_open(x->e, &x->p, &s), UTTER_OK);
    x->f.on_frame = cancel_in_frame_10;
    x->f.user = &s;
    assert_int_equal(utter_stream_push(s, "ab~", 3), UTTER_OK);
    assert_int_equal(utter_stream_finish(s), UTTER_OK);
    while ((status = utter_stream_read(s, a, 7, &n, &st)) == UTTER_OK)
        total += n;
    assert_int_equal(status, UTTER_ERR_CANCELLED);
    assert_string_equal(utter_last_error(x->e), "cancelled");
    assert_int_equal(x->f.n_frame_runs, 10);
    assert_int_equal(total, 9 * FAKE_HOP);
    x->f.on_frame = NULL;
    utter_stream_close(s);
    assert_int_equal(utter_stream_open(x->e, &x->p, &s), UTTER_OK);
    utter_stream_cancel(s);
    assert_int_equal(utter_stream_read(s, a, 7, &n, &st), UTTER_ERR_CANCELLED);
    utter_stream_close(s);
}

/* ---- Memory --------------------------------------------------------------------------------- */

/* What is left of an utterance after its first samples takes no memory. */
static void frames_allocate_nothing(void **state)
{
    fixture *x = *state;
    utter_stream *s;
    utter_stream_state st;
    size_t n, total = 0;
    assert_int_equal(utter_stream_open(x->e, &x->p, &s), UTTER_OK);
    assert_int_equal(utter_stream_push(s, "ab~", 3), UTTER_OK);
    assert_int_equal(utter_stream_finish(s), UTTER_OK);
    assert_int_equal(utter_stream_read(s, a, 1, &n, &st), UTTER_OK);
    uint64_t before = ut_alloc_count();
    do {
        assert_int_equal(utter_stream_read(s, a, 100, &n, &st), UTTER_OK);
        total += n;
    } while (st == UTTER_STREAM_AUDIO && total < 600 * FAKE_HOP);
    assert_true(total >= 600 * FAKE_HOP);
    assert_int_equal(ut_alloc_count() - before, 0);
    utter_stream_close(s);
}

/* Every allocation of an utterance fails once: an error, nothing lost, and the next one works. */
static void out_of_memory_is_survived(void **state)
{
    fixture *x = *state;
    utter_audio *audio = NULL;
    int failures = 0;
    for (uint64_t n = 1; n < 1000; n++) {
        ut_alloc_fail_at(n);
        utter_status st = utter_synth(x->e, "First one. Here comes the second.", &x->p, &audio);
        uint64_t tried = n;
        ut_alloc_fail_at(0);
        if (st == UTTER_OK)
            break;
        assert_int_equal(st, UTTER_ERR_NOMEM);
        assert_null(audio);
        assert_true(strlen(utter_last_error(x->e)) > 0);
        failures++;
        assert_int_equal(tried, (uint64_t)failures);
    }
    assert_true(failures >= 5 && failures < 999);
    assert_non_null(audio);
    size_t first = fake_speech("First one.", NULL, 5, 10, b, MAX_PCM);
    assert_memory_equal(utter_audio_samples(audio), b, first * sizeof *b);
    utter_audio_free(audio);
}

static void open_survives_out_of_memory(void **state)
{
    (void)state;
    utter_engine *e = NULL;
    int failures = 0;
    fake f = {0}; /* outlives the last engine */
    for (uint64_t n = 1; n < 1000 && !e; n++) {
        ut_model *m;
        ut_backend *backend;
        ut_err err = {0};
        fake_parts(&f, &m, &backend);
        ut_alloc_fail_at(n);
        utter_status st = ut_engine_new(m, backend, "none", 1, &e, &err);
        ut_alloc_fail_at(0);
        if (st != UTTER_OK) {
            assert_int_equal(st, UTTER_ERR_NOMEM);
            assert_null(e);
            assert_int_equal(f.n_execs + f.n_states, 0);
            failures++;
        }
    }
    assert_true(failures >= 10);
    utter_engine_close(e);
}

static void info_tells_what_was_opened(void **state)
{
    fixture *x = *state;
    utter_engine_info i;
    memset(&i, 0, sizeof i);
    assert_int_equal(utter_engine_get_info(x->e, &i), UTTER_ERR_ARG); /* not initialised */
    assert_non_null(strstr(utter_last_error(x->e), "utter_engine_info_init"));
    utter_engine_info_init(&i);
    assert_int_equal(utter_engine_get_info(x->e, &i), UTTER_OK);
    assert_int_equal(i.struct_size, sizeof i);
    assert_string_equal(i.family, "fake");
    assert_string_equal(i.backend, "fake");
    assert_string_equal(i.backend_text, "nothing real");
    assert_string_equal(i.model_dir, "no-such-directory");
    assert_null(i.default_voice);
    assert_string_equal(i.voices, "made up by the model");
    assert_int_equal(strlen(i.codec_id), UT_CODEC_ID_CHARS);
    assert_int_equal(i.sample_rate, FAKE_RATE);
    assert_int_equal(i.hop_samples, FAKE_HOP);
    assert_int_equal(i.n_codebooks, FAKE_CODEBOOKS);
    assert_int_equal(i.max_positions, FAKE_CAPACITY);
    assert_int_equal(i.weight_bytes, 1000);
    assert_int_equal(i.work_bytes,
                     4 * (4 * FAKE_COLUMNS + UT_SP_COUNT + 2 + 5 + FAKE_CAPACITY) + 4 + 3 * 10);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(one_sentence_is_one_generation),
        TEST(first_frame_is_decoded_alone),
        TEST(runs_of_the_codec_wait_while_there_is_sound),
        TEST(stop_in_the_first_frame_is_not_noticed),
        TEST(parameters_reach_the_backend),
        TEST(parameters_out_of_range_are_named),
        TEST(samples_do_not_depend_on_pieces),
        TEST(streams_do_not_disturb_each_other),
        TEST(text_is_asked_for_when_it_runs_out),
        TEST(text_that_cannot_be_spoken_is_refused),
        TEST(seeds_decide_the_samples),
        TEST(max_frames_ends_the_utterance),
        TEST(ignore_eos_goes_on),
        TEST(capacity_ends_endless_speech),
        TEST(runaway_speech_is_cut),
        TEST(prefill_grows_with_the_prompt),
        TEST(voice_holds_over_chunks),
        TEST(babble_is_no_reference),
        TEST(reference_that_does_not_fit_is_left_out),
        TEST(failures_of_the_backend_are_reported),
        TEST(a_failed_stream_stays_failed),
        TEST(cancel_takes_one_frame),
        TEST(frames_allocate_nothing),
        TEST(out_of_memory_is_survived),
        TEST(open_survives_out_of_memory),
        TEST(info_tells_what_was_opened),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
