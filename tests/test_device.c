/* test_device.c - the engine on a backend: test_device [cpu|cuda [scarce]], of the recorded S1-mini
 * case. Sessions that share frame runs, engines that share a device, prompts of every length,
 * options, and memory that stays as it is. Greedy and in f32 unless it says otherwise; what one
 * backend makes is compared with what it makes otherwise, bit for bit.
 *
 * UT_TEST_UTTERANCES: how many utterances the memory test speaks (default 8). UT_TEST_FILTER: tests
 * to run (all). UT_TEST_CASE: where the recorded case is. */
#include "backends/backend.h"
#include "base/alloc.h"
#include "base/os.h"
#include "models/model.h"
#include "utter.h"
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

enum { HOP = 2048, N_FRAMES = 6, MAX_PCM = (N_FRAMES + 1) * HOP };

static const char *backend = "cpu";
static const char *model_dir = "tests/data/s1-mini/case";

static utter_engine *open_with(int32_t slots, int32_t precision, int32_t device)
{
    utter_engine_params p;
    utter_engine *e;
    utter_engine_params_init(&p);
    p.backend = backend;
    p.threads = 2;
    p.slots = slots;
    p.precision = precision;
    p.device = device;
    p.max_positions = 512;
    if (utter_engine_open(model_dir, &p, &e) != UTTER_OK)
        fail_msg("%s", utter_last_error(NULL));
    return e;
}

static utter_stream *begin(utter_engine *e, const char *text, int32_t frames)
{
    utter_synth_params p;
    utter_stream *s;
    utter_synth_params_init(&p);
    p.temperature = 0.0f;
    p.seed = 1;
    p.max_frames = frames;
    p.ignore_eos = 1;
    if (utter_stream_open(e, &p, &s) != UTTER_OK)
        fail_msg("%s", utter_last_error(e));
    assert_int_equal(utter_stream_push(s, text, strlen(text)), UTTER_OK);
    assert_int_equal(utter_stream_finish(s), UTTER_OK);
    return s;
}

/* Read on into pcm [*n ...]; false at the end. */
static bool read_some(utter_engine *e, utter_stream *s, float *pcm, size_t *n)
{
    size_t got;
    utter_stream_state st;
    if (utter_stream_read(s, pcm + *n, MAX_PCM - *n, &got, &st) != UTTER_OK)
        fail_msg("%s", utter_last_error(e));
    *n += got;
    return st == UTTER_STREAM_AUDIO;
}

static size_t speak(utter_engine *e, const char *text, int32_t frames, float *pcm)
{
    size_t n = 0;
    utter_stream *s = begin(e, text, frames);
    while (read_some(e, s, pcm, &n))
        ;
    utter_stream_close(s);
    return n;
}

/* ---- Sessions together ---------------------------------------------------------------------- */

enum { STREAMS = 4 };
static const struct {
    const char *text;
    int32_t frames;
} lines[STREAMS] = {{"One.", 6}, {"Two comes a little later.", 3}, {"Three", 4}, {"And four!", 2}};

static float alone[STREAMS][MAX_PCM];

static void speak_alone(void)
{
    utter_engine *e = open_with(1, UTTER_PRECISION_F32, 0);
    for (int i = 0; i < STREAMS; i++)
        assert_int_equal(speak(e, lines[i].text, lines[i].frames, alone[i]), lines[i].frames * HOP);
    assert_memory_not_equal(alone[0], alone[2], 4 * HOP * sizeof(float));
    utter_engine_close(e);
}

/* All in turns on `slots` slots, the next one begun after `apart` reads of the others. */
static void same_together(int32_t slots, int apart)
{
    static float together[STREAMS][MAX_PCM];
    size_t n[STREAMS] = {0};
    utter_stream *s[STREAMS] = {0};
    int n_done = 0;
    utter_engine *e = open_with(slots, UTTER_PRECISION_F32, 0);
    for (int turn = 0; n_done < STREAMS; turn++)
        for (int i = 0; i < STREAMS; i++) {
            if (turn == i * apart)
                s[i] = begin(e, lines[i].text, lines[i].frames);
            if (!s[i] || read_some(e, s[i], together[i], &n[i]))
                continue;
            utter_stream_close(s[i]);
            s[i] = NULL;
            n_done++;
        }
    for (int i = 0; i < STREAMS; i++) {
        assert_int_equal(n[i], lines[i].frames * HOP);
        assert_memory_equal(together[i], alone[i], n[i] * sizeof(float));
    }
    utter_engine_close(e);
}

static void neighbours_change_nothing(void **state)
{
    (void)state;
    speak_alone();
    same_together(4, 0);
    same_together(4, 1);
    same_together(3, 2); /* one stream more than there are slots */
}

static void engines_share_a_device(void **state)
{
    (void)state;
    static float a[MAX_PCM], b[MAX_PCM], c[MAX_PCM];
    utter_engine *first = open_with(1, UTTER_PRECISION_F32, 0);
    const size_t n = speak(first, "Hello.", 3, a);
    utter_engine *second = open_with(1, UTTER_PRECISION_F32, 0);
    utter_stream *s = begin(first, "Hello.", 3), *t = begin(second, "Hello.", 3);
    size_t k = 0, m = 0;
    while (read_some(first, s, b, &k) || read_some(second, t, c, &m))
        ;
    while (read_some(second, t, c, &m))
        ;
    utter_stream_close(s);
    utter_engine_close(first);
    utter_stream_close(t);
    utter_engine_close(second);
    assert_int_equal(k, n);
    assert_int_equal(m, n);
    assert_memory_equal(a, b, n * sizeof(float));
    assert_memory_equal(a, c, n * sizeof(float));
}

/* ---- The codec ------------------------------------------------------------------------------ */

enum { CODEC_SLOTS = 3, CODEC_FIRST = 1, CODEC_STATES = 6, CODEC_FRAMES = 2, CODEC_RUNS = 2 };

/* Two runs of the codec, of slots [first, first + n_slots) of a state: each slot has its own codes,
 * by its number. pcm [CODEC_RUNS][n_slots][CODEC_FRAMES * HOP]. */
static void run_codec(ut_backend *b, const ut_model *m, int first, int n_slots, float *pcm)
{
    const ut_codec *c = &m->codec;
    const ut_tid in = ut_plan_find(c->decode, "codes"), out = ut_plan_find(c->decode, "pcm");
    const int32_t n_codes = CODEC_FRAMES * c->n_codebooks;
    const size_t n_pcm = (size_t)n_slots * CODEC_FRAMES * HOP;
    ut_exec *x = NULL;
    ut_state *s = NULL;
    ut_err err = {0};
    utter_status st = b->ops->compile(b, c->decode, n_slots, CODEC_FRAMES, &x, &err);
    if (st == UTTER_OK)
        st = b->ops->state_new(b, &c->decode_states, CODEC_STATES, &s, &err);
    for (int i = 0; i < CODEC_STATES && st == UTTER_OK; i++)
        b->ops->state_reset(s, i);
    for (int run = 0; run < CODEC_RUNS && st == UTTER_OK; run++) {
        int32_t *codes = b->ops->input(x, in, CODEC_FRAMES);
        for (int32_t i = 0; i < n_slots * n_codes; i++)
            codes[i] = (7 * (i % n_codes) + 11 * run + 5 * (first + i / n_codes)) % 16;
        st = b->ops->run(x, s, first, CODEC_FRAMES, &err);
        const void *made = st == UTTER_OK ? b->ops->output(x, out, &err) : NULL;
        if (made)
            memcpy(pcm + (size_t)run * n_pcm, made, n_pcm * sizeof *pcm);
    }
    b->ops->state_free(s);
    b->ops->exec_free(x);
    if (err.status != UTTER_OK)
        fail_msg("%s", err.msg);
}

/* Also with bf16, where the AR loop's frames are not the same alone and together. */
static void slots_of_the_codec_are_alike(void **state)
{
    (void)state;
    static float together[CODEC_RUNS][CODEC_SLOTS][CODEC_FRAMES * HOP];
    static float by_itself[CODEC_RUNS][CODEC_FRAMES * HOP];
    static const ut_precision precisions[] = {UT_PRECISION_F32, UT_PRECISION_BF16};
    for (int k = 0; k < 2; k++) {
        const ut_model_options options = {.max_positions = 160};
        const ut_backend_params params = {.threads = 2, .precision = precisions[k]};
        ut_model *m;
        ut_backend *b;
        ut_err err = {0};
        assert_int_equal(ut_model_open(&m, model_dir, &options, &err), UTTER_OK);
        assert_int_equal(ut_backend_open(&b, backend, &params, &err), UTTER_OK);
        run_codec(b, m, CODEC_FIRST, CODEC_SLOTS, together[0][0]);
        for (int i = 0; i < CODEC_SLOTS; i++) {
            run_codec(b, m, CODEC_FIRST + i, 1, by_itself[0]);
            for (int run = 0; run < CODEC_RUNS; run++)
                assert_memory_equal(together[run][i], by_itself[run], sizeof by_itself[run]);
        }
        assert_memory_not_equal(together[0][0], together[0][1], sizeof together[0][0]);
        assert_memory_not_equal(together[0][0], together[1][0], sizeof together[0][0]);
        b->ops->close(b);
        ut_model_free(m);
    }
}

/* ---- Prompts -------------------------------------------------------------------------------- */

/* A model's AR loop on a backend, and frames of it. */
typedef struct loop {
    ut_model *m;
    ut_backend *b;
    ut_exec *prefill, *frame;
    ut_state *s;
} loop;

enum { LOOP_FRAMES = 3, LONGEST = 150, MAX_COLUMNS = 16 };

static loop open_loop(const char *name)
{
    loop l = {0};
    ut_err err = {0};
    const ut_model_options options = {.max_positions = 160};
    const ut_backend_params params = {.threads = 1, .precision = UT_PRECISION_F32};
    utter_status st = ut_model_open(&l.m, model_dir, &options, &err);
    if (st == UTTER_OK)
        st = ut_backend_open(&l.b, name, &params, &err);
    if (st == UTTER_OK)
        st = l.b->ops->compile(l.b, l.m->ar.prefill, 1, LONGEST, &l.prefill, &err);
    if (st == UTTER_OK)
        st = l.b->ops->compile(l.b, l.m->ar.frame, 1, 1, &l.frame, &err);
    if (st == UTTER_OK)
        st = l.b->ops->state_new(l.b, &l.m->ar.states, 1, &l.s, &err);
    if (st != UTTER_OK)
        fail_msg("%s", err.msg);
    assert_true(l.m->ar.columns <= MAX_COLUMNS);
    return l;
}

static void close_loop(loop *l)
{
    l->b->ops->state_free(l->s);
    l->b->ops->exec_free(l->frame);
    l->b->ops->exec_free(l->prefill);
    l->b->ops->close(l->b);
    ut_model_free(l->m);
}

/* A prompt of n positions in pieces of at most `piece`, each of which makes a frame. */
static void read_prompt(loop *l, ut_state *s, int32_t n, int32_t piece)
{
    static const float greedy[UT_SP_COUNT] = {[UT_SP_TOP_P] = 1, [UT_SP_REPETITION_PENALTY] = 1};
    const ut_ar *ar = &l->m->ar;
    const ut_backend_ops *ops = l->b->ops;
    const ut_tid tokens = ut_plan_find(ar->prefill, "tokens");
    ut_err err = {0};
    utter_status st = UTTER_OK;
    ops->state_reset(s, 0);
    ops->state_write(s, ar->params, 0, 0, 1, greedy);
    for (int32_t first = 0; first < n && st == UTTER_OK; first += piece) {
        const int32_t here = n - first < piece ? n - first : piece;
        int32_t *ids = ops->input(l->prefill, tokens, here);
        for (int32_t i = 0; i < here * ar->columns; i++)
            ids[i] = i % ar->columns ? 0 : 3 + 7 * (first + i / ar->columns) % 97;
        st = ops->run(l->prefill, s, 0, here, &err);
    }
    if (st != UTTER_OK)
        fail_msg("%d tokens: %s", (int)n, err.msg);
}

static void run_frame(loop *l, ut_state *s)
{
    ut_err err = {0};
    if (l->b->ops->run(l->frame, s, 0, 1, &err) != UTTER_OK)
        fail_msg("%s", err.msg);
}

static void read_frames(loop *l, ut_state *s, int32_t first,
                        int32_t columns[LOOP_FRAMES][MAX_COLUMNS])
{
    ut_err err = {0};
    for (int f = 0; f < LOOP_FRAMES; f++)
        if (l->b->ops->ring_wait(s, l->m->ar.ring, 0, first + f, columns[f], &err) != UTTER_OK)
            fail_msg("%s", err.msg);
}

/* The frames after a prompt. */
static void run_loop(loop *l, int32_t n, int32_t piece, int32_t columns[LOOP_FRAMES][MAX_COLUMNS])
{
    read_prompt(l, l->s, n, piece);
    for (int f = 1; f < LOOP_FRAMES; f++)
        run_frame(l, l->s);
    read_frames(l, l->s, (n + piece - 1) / piece - 1, columns);
}

/* Runs of two states with the same plans, started in turns and waited for at last. */
static void states_share_plans(void **state)
{
    (void)state;
    int32_t want[2][LOOP_FRAMES][MAX_COLUMNS], got[2][LOOP_FRAMES][MAX_COLUMNS];
    memset(want, 0, sizeof want);
    memset(got, 0, sizeof got);
    loop l = open_loop(backend);
    ut_state *other;
    ut_err err = {0};
    assert_int_equal(l.b->ops->state_new(l.b, &l.m->ar.states, 1, &other, &err), UTTER_OK);
    run_loop(&l, 20, 20, want[0]);
    run_loop(&l, 33, 33, want[1]);
    assert_memory_not_equal(want[0], want[1], sizeof want[0]);
    for (int round = 0; round < 3; round++) {
        read_prompt(&l, l.s, 20, 20);
        read_prompt(&l, other, 33, 33);
        for (int f = 1; f < LOOP_FRAMES; f++) {
            run_frame(&l, l.s);
            run_frame(&l, other);
        }
        read_frames(&l, l.s, 0, got[0]);
        read_frames(&l, other, 0, got[1]);
        assert_memory_equal(got, want, sizeof got);
    }
    l.b->ops->state_free(other);
    close_loop(&l);
}

/* Runs are made for few lengths; what comes out is that of the length asked for. Every length comes
 * twice: the second run may be a graph, and longer prompts have left their marks in the caches. A
 * piece near the end of the caches must not go round to their beginning. */
static void prompts_of_every_length(void **state)
{
    (void)state;
    static const struct {
        int32_t n, piece;
    } prompts[] = {{64, 64},   {65, 65},      {1, 1},     {2, 2},
                   {63, 63},   {65, 65},      {128, 128}, {64, 64},
                   {129, 129}, {63, 63},      {1, 1},     {LONGEST, LONGEST},
                   {127, 127}, {LONGEST, 80}, {145, 75},  {LONGEST, LONGEST}};
    int32_t want[LOOP_FRAMES][MAX_COLUMNS], got[LOOP_FRAMES][MAX_COLUMNS];
    memset(want, 0, sizeof want);
    memset(got, 0, sizeof got);
    loop reference = open_loop("cpu"), tested = open_loop(backend);
    for (size_t i = 0; i < sizeof prompts / sizeof prompts[0]; i++) {
        run_loop(&reference, prompts[i].n, prompts[i].piece, want);
        run_loop(&tested, prompts[i].n, prompts[i].piece, got);
        assert_memory_equal(got, want, sizeof got);
    }
    int32_t other[LOOP_FRAMES][MAX_COLUMNS] = {{0}};
    run_loop(&reference, 149, LONGEST, other);
    assert_memory_not_equal(other, want, sizeof want);
    close_loop(&tested);
    close_loop(&reference);
}

/* ---- Options -------------------------------------------------------------------------------- */

static const utter_backend_info *find_backend(int32_t device)
{
    static utter_backend_info info;
    for (size_t i = 0; i < utter_backend_count(); i++) {
        utter_backend_info_init(&info);
        assert_int_equal(utter_backend_get_device(i, device, &info), UTTER_OK);
        if (strcmp(info.name, backend) == 0)
            return &info;
    }
    return NULL;
}

static void every_device_can_be_used(void **state)
{
    (void)state;
    const int32_t n = find_backend(0)->n_devices;
    assert_true(n >= 1);
    static float a[MAX_PCM], b[MAX_PCM];
    for (int32_t device = 0; device < n; device++) {
        assert_int_equal(find_backend(device)->available, 1);
        utter_engine *e = open_with(1, UTTER_PRECISION_F32, device);
        assert_int_equal(speak(e, "Hello.", 2, device ? b : a), 2 * HOP);
        utter_engine_close(e);
        if (device)
            assert_memory_equal(a, b, 2 * HOP * sizeof(float));
    }
    assert_int_equal(find_backend(n)->available, 0);
    utter_engine_params p;
    utter_engine *e;
    utter_engine_params_init(&p);
    p.backend = backend;
    p.device = n;
    char why[64];
    snprintf(why, sizeof why, "there is no device %d, only 0", (int)n);
    assert_int_equal(utter_engine_open(model_dir, &p, &e), UTTER_ERR_BACKEND);
    assert_non_null(strstr(utter_last_error(NULL), why));
}

static void wrong_options_are_named(void **state)
{
    (void)state;
    static const struct {
        int32_t device, attention, slots;
        const char *name;
    } bad[] = {{-1, 0, 0, "device is -1"},  {5000, 0, 0, "device is 5000"},
               {0, 3, 0, "attention is 3"}, {0, -1, 0, "attention is -1"},
               {0, 0, 33, "slots is 33"},   {0, 0, -1, "slots is -1"}};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        utter_engine_params p;
        utter_engine *e;
        utter_engine_params_init(&p);
        p.backend = backend;
        p.device = bad[i].device;
        p.attention = bad[i].attention;
        p.slots = bad[i].slots;
        assert_int_equal(utter_engine_open(model_dir, &p, &e), UTTER_ERR_ARG);
        assert_non_null(strstr(utter_last_error(NULL), bad[i].name));
    }
}

/* ---- Memory --------------------------------------------------------------------------------- */

static utter_engine_info info_of(utter_engine *e)
{
    utter_engine_info i;
    utter_engine_info_init(&i);
    assert_int_equal(utter_engine_get_info(e, &i), UTTER_OK);
    return i;
}

static void memory_is_flat(void **state)
{
    (void)state;
    static float pcm[MAX_PCM];
    const char *s = getenv("UT_TEST_UTTERANCES");
    const int n = s ? atoi(s) : 8;
    utter_engine *e = open_with(2, UTTER_PRECISION_AUTO, 0);
    int64_t device = 0;
    size_t host = 0;
    for (int i = 0; i < n; i++) {
        /* two at a time, one of which is given up half-way */
        utter_stream *left = begin(e, "This one is not heard to its end.", N_FRAMES);
        size_t got = 0;
        read_some(e, left, pcm, &got);
        assert_int_equal(speak(e, i % 2 ? "Hello there." : "Good bye, then.", 2, pcm), 2 * HOP);
        utter_stream_close(left);
        if (i == 2) { /* everything has been used once */
            device = info_of(e).device_free;
            host = ut_current_rss();
        }
    }
    assert_int_equal(info_of(e).device_free, device);
    printf("%d utterances: %.1f MB, then %.1f MB\n", n, (double)host / 1e6,
           (double)ut_current_rss() / 1e6);
#ifndef SANITIZED /* which keep freed memory for a while */
    assert_true(ut_current_rss() < host + (1 << 20));
#endif
    assert_int_equal(info_of(e).slots, 2);
    if (strcmp(backend, "cpu") != 0)
        assert_true(info_of(e).device_total > info_of(e).device_free && device > 0);
    utter_engine_close(e);
}

/* For an emulated device that has little. */
static void lack_of_memory_is_explained(void **state)
{
    (void)state;
    utter_engine_params p;
    utter_engine *e;
    utter_engine_params_init(&p);
    p.backend = backend;
    p.slots = 32;
    assert_int_equal(utter_engine_open(model_dir, &p, &e), UTTER_ERR_NOMEM);
    const char *why = utter_last_error(NULL);
    assert_non_null(strstr(why, " needs "));
    assert_non_null(strstr(why, " MB free of 12.0 MB"));
    assert_non_null(strstr(why, "; lower "));
}

/* Where there is a device, nobody need ask for it, and its own precision is the usual one. */
static void auto_takes_the_device(void **state)
{
    (void)state;
    const ut_backend_ops *ops;
    ut_err err = {0};
    assert_int_equal(ut_backend_find(&ops, "auto", 0, &err), UTTER_OK);
    if (strcmp(backend, "cpu") != 0)
        assert_string_equal(ops->name, backend);
    assert_int_equal(ops->precision,
                     strcmp(ops->name, "cuda") == 0 ? UT_PRECISION_BF16 : UT_PRECISION_AUTO);
    assert_int_equal(ut_backend_find(&ops, NULL, 0, &err), UTTER_OK);
    assert_int_equal(ut_backend_find(&ops, "abacus", 0, &err), UTTER_ERR_BACKEND);
    assert_null(ops);
    assert_non_null(strstr(err.msg, "abacus"));
}

int main(int argc, char **argv)
{
    if (argc > 1)
        backend = argv[1];
    if (getenv("UT_TEST_CASE"))
        model_dir = getenv("UT_TEST_CASE");
    const utter_backend_info *info = find_backend(0);
    if (!info || !info->available) {
        printf("skipped: no %s device: %s\n", strcmp(backend, "cuda") ? backend : "CUDA",
               info ? info->text : "this build has no such backend");
        return 0;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(neighbours_change_nothing), cmocka_unit_test(slots_of_the_codec_are_alike),
        cmocka_unit_test(engines_share_a_device),    cmocka_unit_test(states_share_plans),
        cmocka_unit_test(prompts_of_every_length),   cmocka_unit_test(every_device_can_be_used),
        cmocka_unit_test(wrong_options_are_named),   cmocka_unit_test(memory_is_flat),
        cmocka_unit_test(auto_takes_the_device),
    };
    const struct CMUnitTest scarce[] = {cmocka_unit_test(lack_of_memory_is_explained)};
    if (argc > 2 && strcmp(argv[2], "scarce") == 0)
        return cmocka_run_group_tests(scarce, NULL, NULL);
    cmocka_set_test_filter(getenv("UT_TEST_FILTER"));
    return cmocka_run_group_tests(tests, NULL, NULL);
}
