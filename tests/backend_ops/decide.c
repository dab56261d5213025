/* decide.c - nearest entries, sampling, and frames that run ahead of who waits for them. */
#include "fixture.h"
#include "base/alloc.h"
#include <math.h>
#include <stdio.h>
#include <string.h>

static void test_nearest(int32_t entries, int32_t dim)
{
    test_case c;
    ut_plan *p = begin(&c, "nearest", 6);
    const ut_tid x = ut_plan_input(p, "x", UT_F32, 1, 0, dim);
    const ut_tid codes = ut_op_blank_ids(p, x, 4);
    ut_op_nearest(p, codes, 0, x, weight(&c, entries, dim, UT_F32, 1.0f));
    ut_op_nearest(p, codes, 1, x, weight(&c, entries, dim, UT_BF16, 1.0f));
    ut_op_nearest_euclid(p, codes, 2, x, weight(&c, entries, dim, UT_F32, 1.0f));
    ut_op_nearest_euclid(p, codes, 3, x, weight(&c, entries, dim, UT_BF16, 1.0f));
    ut_plan_output(p, codes, "codes");
    test(&c);
}

/* States of the decoding test, by index. */
enum { S_FRAME, S_COLUMN, S_HISTORY, S_PARAMS, S_RNG, S_RING };

static float sampling_params[UT_SP_COUNT];

static void set_sampling(const ut_backend_ops *ops, ut_state *s, int slot, int role)
{
    const int32_t rng[UT_RNG_COUNT] = {17 * role + 3, 5};
    ops->state_write(s, S_PARAMS, slot, 0, 1, sampling_params);
    ops->state_write(s, S_RNG, slot, 0, 1, rng);
}

/* Frames of three decisions over n logits, with everything else that makes a frame. */
static void test_frames(int32_t n, int32_t n_frames)
{
    test_case c;
    char name[96];
    snprintf(name, sizeof name, "frames of %d logits, temperature %g, top-p %g", (int)n,
             (double)sampling_params[0], (double)sampling_params[1]);
    ut_plan *p = begin(&c, name, 1);
    c.prepare = set_sampling;
    c.id_range = 1;
    ut_state_set_add(&c.states, "frame", UT_I32, 1, 1);
    ut_state_set_add(&c.states, "column", UT_I32, 1, 4);
    ut_state_set_add(&c.states, "history", UT_I32, UT_HISTORY_FRAMES, 4);
    ut_state_set_add(&c.states, "params", UT_F32, 1, UT_SP_COUNT);
    ut_state_set_add(&c.states, "rng", UT_I32, 1, UT_RNG_COUNT);
    ut_state_set_add(&c.states, "ring", UT_I32, 8, 4);
    const ut_tid column = ut_plan_state(p, S_COLUMN), frame = ut_plan_state(p, S_FRAME);
    const ut_tid logits = ut_plan_input(p, "logits", UT_F32, 0, 1, n);
    ut_sample_args a = {.dst = column,
                        .params = ut_plan_state(p, S_PARAMS),
                        .rng = ut_plan_state(p, S_RNG),
                        .frame = frame,
                        .history = ut_plan_state(p, S_HISTORY),
                        .noise = UT_NONE,
                        .probs = UT_NONE};
    const ut_weight *mix = vector(&c, n, 3.0f);
    const ut_tid scaled = ut_op_rms_norm(p, logits, mix, 1e-6f);
    for (int32_t k = 0; k < n_frames; k++) {
        a.decision = 0;
        a.col = 0;
        a.penalty = UT_PENALTY_FIRST_COLUMN;
        a.penalty_col = 0;
        a.id_first = 10;
        a.n_range = n - 1;
        a.id_extra = 2;
        ut_op_sample(p, scaled, &a);
        ut_op_token_code(p, column, 10, n / 2 + 1);
        for (int32_t col = 2; col < 4; col++) {
            a.decision = col;
            a.col = col;
            a.penalty = UT_PENALTY_CODEBOOK;
            a.penalty_col = col;
            a.id_first = 0;
            a.n_range = n;
            a.id_extra = -1;
            a.probs = UT_NONE;
            if (k + 1 == n_frames && col == 3) {
                a.probs = ut_op_blank(p, 1, n);
                ut_plan_output(p, a.probs, "probs");
            }
            ut_op_sample(p, col == 2 ? scaled : logits, &a);
        }
        ut_op_ring_put(p, ut_plan_state(p, S_RING), a.history, column, frame);
        ut_op_advance(p, frame, 1, 0);
    }
    test(&c);
}

/* States of the decoding test that tempers first. */
enum { T_FRAME, T_CHOSEN, T_SEEN, T_PARAMS, T_RNG };

static void set_tempered(const ut_backend_ops *ops, ut_state *s, int slot, int role)
{
    const int32_t rng[UT_RNG_COUNT] = {31 * role + 1, 2};
    const float other[UT_SP_COUNT] = {1.2f, 0.9f, 1.0f, 3.0f};
    ops->state_write(s, T_PARAMS, slot, 0, 1, other);
    ops->state_write(s, T_PARAMS, slot, 1, 1, sampling_params);
    ops->state_write(s, T_RNG, slot, 0, 1, rng);
}

/* Decisions with top-k, a penalty on all that was chosen before, and an entry that has to wait. */
static void test_tempered(int32_t n, int32_t n_frames)
{
    test_case c;
    char name[96];
    snprintf(name, sizeof name, "tempered, %d logits, temperature %g, top-p %g, top-k %g", (int)n,
             (double)sampling_params[0], (double)sampling_params[1], (double)sampling_params[3]);
    ut_plan *p = begin(&c, name, 1);
    c.prepare = set_tempered;
    ut_state_set_add(&c.states, "frame", UT_I32, 1, 1);
    ut_state_set_add(&c.states, "chosen", UT_I32, 1, n_frames + 1);
    ut_state_set_add(&c.states, "seen", UT_I32, 1, n);
    ut_state_set_add(&c.states, "params", UT_F32, 2, UT_SP_COUNT);
    ut_state_set_add(&c.states, "rng", UT_I32, 1, UT_RNG_COUNT);
    const ut_tid logits = ut_op_scale(p, ut_plan_input(p, "logits", UT_F32, 0, 1, n),
                                      ut_plan_input(p, "gain", UT_F32, 0, 1, n), UT_NONE);
    for (int32_t k = 0; k <= n_frames; k++) {
        ut_sample_args a = {.dst = ut_plan_state(p, T_CHOSEN),
                            .params = ut_plan_state(p, T_PARAMS),
                            .rng = ut_plan_state(p, T_RNG),
                            .frame = ut_plan_state(p, T_FRAME),
                            .history = ut_plan_state(p, T_SEEN),
                            .noise = UT_NONE,
                            .probs = UT_NONE,
                            .col = k,
                            .penalty = UT_PENALTY_ALL,
                            .id_first = 10,
                            .n_range = n - 1,
                            .id_extra = 3,
                            .narrowing = UT_TEMPER_FIRST,
                            .params_row = k < n_frames,
                            .extra_from_frame = 4};
        if (k + 1 >= n_frames) {
            a.probs = ut_op_blank(p, 1, n);
            ut_plan_output(p, a.probs, k < n_frames ? "probs" : "last");
        }
        ut_op_sample(p, logits, &a);
        ut_op_advance(p, a.frame, 1, 0);
    }
    test(&c);
}

void test_tempered_decisions(void)
{
    const bool small = ops_small;
    static const float params[][UT_SP_COUNT] = {
        {0.0f, 1.0f, 1.3f, 0.0f}, {0.9f, 1.0f, 1.05f, 50.0f}, {0.8f, 0.8f, 1.1f, 0.0f},
        {1.0f, 1.0f, 1.0f, 0.0f}, {0.6f, 0.5f, 1.3f, 7.0f},   {1.5f, 0.0f, 0.8f, 1.0f}};
    static const int32_t sizes[] = {2, 5, 300, 3072, 6000};
    for (size_t i = small ? 1 : 0; i < (small ? 2 : sizeof params / sizeof params[0]); i++)
        for (size_t k = 0; k < sizeof sizes / sizeof sizes[0]; k++) {
            memcpy(sampling_params, params[i], sizeof sampling_params);
            test_tempered(sizes[k], k < 3 && !small ? 12 : 3);
        }
}

static void test_sampling(bool small)
{
    static const float params[][UT_SP_COUNT] = {{0.0f, 1.0f, 1.0f}, {0.0f, 0.5f, 1.5f},
                                                {0.8f, 0.8f, 1.1f}, {1.0f, 1.0f, 1.0f},
                                                {0.3f, 0.1f, 1.3f}, {1.5f, 0.97f, 0.8f}};
    static const int32_t sizes[] = {2, 5, 300, 1025, 6000};
    for (size_t i = small ? 2 : 0; i < (small ? 3 : sizeof params / sizeof params[0]); i++)
        for (size_t k = 0; k < sizeof sizes / sizeof sizes[0]; k++) {
            memcpy(sampling_params, params[i], sizeof sampling_params);
            test_frames(sizes[k], k < 3 && !small ? 20 : 3);
        }
}

/* ---- Logits that are hard to choose from ----------------------------------------------------- */

/* States, by index. */
enum { H_FRAME, H_COLUMN, H_HISTORY, H_PARAMS, H_RNG, H_CHOSEN };

enum { HARD_DECISIONS = 4 };

enum { EQUAL, TIES, HOLES, TINY, HUGE_SPREAD, PEAK, N_SHAPES };
static const char *const shape_names[] = {"equal", "ties", "holes", "tiny", "huge", "peak"};

static void set_hard(const ut_backend_ops *ops, ut_state *s, int slot, int role)
{
    int32_t history[HARD_DECISIONS * UT_HISTORY_FRAMES]; /* every id more than once */
    const int32_t rng[UT_RNG_COUNT] = {13 * role + 7, 11}, frame = 1 + 9 * role;
    for (int i = 0; i < HARD_DECISIONS * UT_HISTORY_FRAMES; i++)
        history[i] = i % 5 * (role + 1);
    ops->state_write(s, H_PARAMS, slot, 0, 1, sampling_params);
    ops->state_write(s, H_RNG, slot, 0, 1, rng);
    ops->state_write(s, H_FRAME, slot, 0, 1, &frame);
    ops->state_write(s, H_HISTORY, slot, 0, UT_HISTORY_FRAMES, history);
}

static float hard_logit(int shape, int32_t i, int32_t n, float random)
{
    switch (shape) {
    case EQUAL:
        return -2.5f;
    case TIES: /* top-p and top-k end among equal ones */
        return (float)(i % 7 % 4) * 0.5f;
    case HOLES:
        return i % 3 == 1 && n > 2 ? -INFINITY : 4.0f * random;
    case TINY: /* denormal */
        return 1e-40f * random;
    case HUGE_SPREAD:
        return 1e30f * random;
    default: /* one stands out of many that hardly differ */
        return i == n / 2 ? 3.0f : 1e-3f * random;
    }
}

static void test_hard(int32_t n, int shape, ut_penalty penalty, bool tempered, bool noise)
{
    test_case c;
    char name[96];
    snprintf(name, sizeof name, "%d logits, %s%s, temperature %g, top-p %g, top-k %g", (int)n,
             shape_names[shape], tempered ? ", tempered" : "", (double)sampling_params[0],
             (double)sampling_params[1], (double)sampling_params[3]);
    ut_plan *p = begin(&c, name, 1);
    c.prepare = set_hard;
    ut_state_set_add(&c.states, "frame", UT_I32, 1, 1);
    ut_state_set_add(&c.states, "column", UT_I32, 1, HARD_DECISIONS);
    ut_state_set_add(&c.states, "history", UT_I32, UT_HISTORY_FRAMES, HARD_DECISIONS);
    ut_state_set_add(&c.states, "params", UT_F32, 1, UT_SP_COUNT);
    ut_state_set_add(&c.states, "rng", UT_I32, 1, UT_RNG_COUNT);
    ut_state_set_add(&c.states, "chosen", UT_I32, 1, n);
    const ut_weight *table = vector(&c, n, 1.0f);
    float *f = (float *)(uintptr_t)table->part[0].data;
    for (int32_t i = 0; i < n; i++)
        f[i] = hard_logit(shape, i, n, f[i]);
    static const int32_t one = 1;
    const ut_tid logits = ut_op_gather(p, ut_plan_state(p, H_COLUMN), table, 0, 1, &one);
    const bool all = penalty == UT_PENALTY_ALL;
    for (int k = 0; k < HARD_DECISIONS; k++) {
        static const char *const noises[] = {"noise 0", "noise 1", "noise 2", "noise 3"};
        const bool asked = k < 2; /* for probabilities: a backend may do without */
        ut_sample_args a = {.dst = ut_plan_state(p, H_COLUMN),
                            .params = ut_plan_state(p, H_PARAMS),
                            .rng = ut_plan_state(p, H_RNG),
                            .frame = ut_plan_state(p, H_FRAME),
                            .history = ut_plan_state(p, all ? H_CHOSEN : H_HISTORY),
                            .noise = UT_NONE,
                            .probs = asked ? ut_op_blank(p, 1, n) : UT_NONE,
                            .col = k,
                            .decision = k,
                            .penalty = penalty,
                            .penalty_col = 1,
                            .n_range = n,
                            .id_extra = -1,
                            .narrowing = tempered ? UT_TEMPER_FIRST : UT_TOP_P_FIRST};
        if (noise) { /* a square: it is positive */
            const ut_tid x = ut_plan_input(p, noises[k], UT_F32, 0, 1, n);
            a.noise = ut_op_scale(p, x, x, UT_NONE);
        }
        if (asked)
            ut_plan_output(p, a.probs, k ? "probs 1" : "probs 0");
        ut_op_sample(p, logits, &a);
    }
    test(&c);
}

void test_hard_logits(void)
{
    const bool small = ops_small;
    static const int32_t sizes[] = {1, 2, 31, 33, 1023, 1024, 1025, 2047, 2048, 4097};
    static const float params[][UT_SP_COUNT] = {
        {0.0f, 1.0f, 1.3f, 0.0f},  {1.0f, 0.777f, 1.2f, 0.0f}, {1e-8f, 0.5f, 1.0f, 3.0f},
        {0.9f, 1e-9f, 1.1f, 9e9f}, {0.7f, 1.0f, 0.9f, 1.0f},   {1.1f, 0.613f, 1.0f, 23.0f}};
    enum { N_SIZES = sizeof sizes / sizeof sizes[0], N_PARAMS = sizeof params / sizeof params[0] };
    for (int i = small ? 3 : 0; i < N_SIZES; i += small ? 3 : 1)
        for (int k = 0; k < N_PARAMS * (small ? 1 : 2); k++) {
            memcpy(sampling_params, params[k % N_PARAMS], sizeof sampling_params);
            test_hard(sizes[i], (i + k) % N_SHAPES, (ut_penalty)((i + k / 2) % 4), k % 2,
                      (i + k) % 5 == 0);
        }
    for (int k = 0; k < (small ? 0 : 3); k++) { /* too many for shared memory */
        memcpy(sampling_params, params[k == 2 ? 5 : 1], sizeof sampling_params);
        test_hard(155776, k == 1 ? EQUAL : PEAK, UT_PENALTY_CODEBOOK, k == 2, false);
    }
}

/* ---- Frames ahead, resets -------------------------------------------------------------------- */

/* Many runs are started before the first is looked at; a reset starts a sequence anew. */
static void test_run_ahead(void)
{
    test_case c;
    ut_plan *p = begin(&c, "frames ahead", 1);
    memcpy(sampling_params, ((float[UT_SP_COUNT]){0.9f, 0.9f, 1.1f}), sizeof sampling_params);
    ut_state_set_add(&c.states, "frame", UT_I32, 1, 1);
    ut_state_set_add(&c.states, "column", UT_I32, 1, 2);
    ut_state_set_add(&c.states, "history", UT_I32, UT_HISTORY_FRAMES, 2);
    ut_state_set_add(&c.states, "params", UT_F32, 1, UT_SP_COUNT);
    ut_state_set_add(&c.states, "rng", UT_I32, 1, UT_RNG_COUNT);
    ut_state_set_add(&c.states, "ring", UT_I32, 32, 2);
    static const int32_t size = 40;
    const ut_tid column = ut_plan_state(p, S_COLUMN);
    const ut_sample_args a = {.dst = column,
                              .params = ut_plan_state(p, S_PARAMS),
                              .rng = ut_plan_state(p, S_RNG),
                              .frame = ut_plan_state(p, S_FRAME),
                              .history = ut_plan_state(p, S_HISTORY),
                              .noise = UT_NONE,
                              .probs = UT_NONE,
                              .n_range = size,
                              .id_extra = -1};
    const ut_tid e = ut_op_gather(p, column, weight(&c, size, 12, UT_F32, 1.0f), 0, 1, &size);
    ut_op_sample(p, ut_op_matmul(p, e, weight(&c, size, 12, UT_BF16, 2.0f), UT_NONE), &a);
    ut_op_token_code(p, column, 0, size);
    ut_op_ring_put(p, ut_plan_state(p, S_RING), a.history, column, a.frame);
    ut_op_advance(p, a.frame, 1, 0);
    ut_err err = {0};
    enum { FRAMES = 30 };
    int32_t rows[2][2][FRAMES][2]; /* reference and tested, first and second sequence */
    memset(rows, 0, sizeof rows);
    utter_status st = ut_plan_finish(p, &err);
    for (int side = 0; side < 2 && st == UTTER_OK; side++) {
        ut_backend *b = side ? tested : reference;
        const ut_backend_ops *ops = b->ops;
        ut_exec *exec = NULL;
        ut_state *s = NULL;
        st = ops->compile(b, p, 1, 1, &exec, &err);
        if (st == UTTER_OK)
            st = ops->state_new(b, &c.states, 2, &s, &err);
        for (int round = 0; round < 2 && st == UTTER_OK; round++) {
            ops->state_reset(s, 1);
            set_sampling(ops, s, 1, 1);
            for (int f = 0; f < FRAMES && st == UTTER_OK; f++)
                st = ops->run(exec, s, 1, 1, &err);
            for (int f = 0; f < FRAMES && st == UTTER_OK; f++)
                st = ops->ring_wait(s, S_RING, 1, f, rows[side][round][f], &err);
            for (int f = 0; f < 7 && st == UTTER_OK; f++) /* frames that nobody waits for */
                st = ops->run(exec, s, 1, 1, &err);
        }
        ops->state_free(s);
        ops->exec_free(exec);
    }
    check(st == UTTER_OK, c.name, err.msg);
    check(memcmp(rows[0][0], rows[0][1], sizeof rows[0][0]) == 0, c.name, "a reset is no restart");
    check(memcmp(rows[0], rows[1], sizeof rows[0]) == 0, c.name, "other codes than the reference");
    bool varies = false;
    for (int f = 1; f < FRAMES; f++)
        varies = varies || rows[1][0][f][0] != rows[1][0][0][0];
    check(varies, c.name, "all frames are the same");
    end(&c);
}

void test_decisions(void)
{
    test_nearest(300, 8);
    test_nearest(5, 33);
    test_sampling(ops_small);
    test_run_ahead();
}
