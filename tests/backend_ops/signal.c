/* signal.c - convolutions, history, and what sees a whole signal. */
#include "fixture.h"
#include <math.h>
#include <stdio.h>

/* ---- Convolutions ---------------------------------------------------------------------------- */

/* in_rows: steps of the signal that are one row of the convolution. */
static void test_conv(int32_t channels, int32_t n_out, int32_t in_rows, int32_t taps,
                      int32_t dilation, ut_dtype type, ut_act act)
{
    test_case c;
    char name[96];
    snprintf(name, sizeof name, "conv %d*%d -> %d, %d taps, dilation %d, %s", (int)in_rows,
             (int)channels, (int)n_out, (int)taps, (int)dilation, type_names[type]);
    ut_plan *p = begin(&c, name, 6);
    if (type == UT_BF16 && !ops_packed) {
        c.bf16_inputs = true;
        c.tolerance = 3e-5;
    }
    const int32_t cols = channels * in_rows, k = taps * cols;
    const int state = ut_state_set_add(&c.states, "history", UT_F32, (taps - 1) * dilation, cols);
    ut_tid x = ut_op_copy(p, ut_plan_input(p, "x", UT_F32, in_rows, 0, channels));
    x = ut_plan_reshape(p, x, cols);
    ut_op_conv_history(p, x, state);
    const ut_linear_args a = {.w = weight(&c, n_out, k, type, 1.0f / sqrtf((float)k)),
                              .bias = vector(&c, n_out, 0.5f),
                              .alpha = act == UT_ACT_SNAKE ? vector(&c, n_out, 2.0f) : NULL,
                              .act = act,
                              .residual = UT_NONE,
                              .taps = taps,
                              .dilation = dilation};
    ut_plan_output(p, ut_op_linear(p, x, &a), "y");
    test(&c);
}

/* A codec's residual unit between two snakes, which a GPU may do in one kernel, or not: it has a
 * third of its multiprocessors to fill. in_rows: rows of a step. */
static void test_unit(int32_t channels, int32_t in_rows, int32_t taps, int32_t dilation)
{
    test_case c;
    char name[96];
    snprintf(name, sizeof name, "unit of %d channels, %d rows, %d taps, dilation %d", (int)channels,
             (int)in_rows, (int)taps, (int)dilation);
    ut_plan *p = begin(&c, name, 6);
    c.tolerance = 2e-3; /* what lies between is f16 */
    const int state =
        ut_state_set_add(&c.states, "history", UT_F32, (taps - 1) * dilation, channels);
    const ut_tid x = ut_op_copy(p, ut_plan_input(p, "x", UT_F32, in_rows, 0, channels));
    const float scale = 1.0f / sqrtf((float)(taps * channels));
    const ut_tid narrow = ut_op_snake(p, x, weight_between(&c, channels, 0.5f, 2.0f));
    ut_op_conv_history(p, narrow, state);
    const ut_linear_args first = {.w = weight(&c, channels, taps * channels, UT_BF16, 2 * scale),
                                  .bias = vector(&c, channels, 0.5f),
                                  .alpha = weight_between(&c, channels, 0.5f, 2.0f),
                                  .act = UT_ACT_SNAKE,
                                  .residual = UT_NONE,
                                  .taps = taps,
                                  .dilation = dilation};
    const ut_linear_args second = {.w = weight(&c, channels, channels, UT_BF16, 2 * scale),
                                   .bias = vector(&c, channels, 0.5f),
                                   .residual = x};
    const ut_tid y = ut_op_linear(p, ut_op_linear(p, narrow, &first), &second);
    const ut_tid after = ut_op_snake(p, y, weight_between(&c, channels, 0.5f, 2.0f));
    const ut_linear_args last = {.w = weight(&c, 8, channels, UT_BF16, scale), .residual = UT_NONE};
    ut_plan_output(p, ut_op_linear(p, after, &last), "narrow");
    ut_plan_output(p, ut_op_act(p, y, UT_ACT_NONE), "y");
    test(&c);
}

/* A convolution of what a snake leaves narrow, with a residual, of so many rows that a GPU keeps
 * those that its taps share. in_rows: rows of a step. */
static void test_taps(int32_t channels, int32_t n_out, int32_t in_rows, int32_t taps,
                      int32_t dilation)
{
    test_case c;
    char name[96];
    snprintf(name, sizeof name, "taps: %d -> %d, %d rows, %d taps, dilation %d", (int)channels,
             (int)n_out, (int)in_rows, (int)taps, (int)dilation);
    ut_plan *p = begin(&c, name, 6);
    c.tolerance = 2e-3;
    const int state =
        ut_state_set_add(&c.states, "history", UT_F32, (taps - 1) * dilation, channels);
    const float scale = 1.0f / sqrtf((float)(taps * channels));
    const ut_tid x = ut_op_copy(p, ut_plan_input(p, "x", UT_F32, in_rows, 0, channels));
    const ut_tid narrow = ut_op_snake(p, x, weight_between(&c, channels, 0.5f, 2.0f));
    const ut_tid beside = ut_op_copy(p, ut_plan_input(p, "residual", UT_F32, in_rows, 0, n_out));
    ut_op_conv_history(p, narrow, state);
    const ut_linear_args a = {.w = weight(&c, n_out, taps * channels, UT_BF16, 2 * scale),
                              .bias = vector(&c, n_out, 0.5f),
                              .residual = beside,
                              .taps = taps,
                              .dilation = dilation};
    ut_plan_output(p, ut_op_act(p, ut_op_linear(p, narrow, &a), UT_ACT_NONE), "y");
    test(&c);
}

static void test_units(void)
{
    test_unit(16, 512, 7, 9);
    test_unit(96, 20, 7, 3);
    test_unit(48, 30, 2, 1);
    const int32_t rows = ops_large ? 320 : 26; /* those of a step */
    test_taps(64, 136, rows, 3, 9);
    test_taps(128, 260, rows, 2, 1);
    test_taps(64, 80, rows, 7, 3); /* whole groups of outputs */
    test_taps(192, 208, rows, 2, 9);
    test_taps(128, 416, rows, 7, 1);
    test_taps(128, 80, 8, 3, 2); /* slots that are parts of a tile */
}

/* A codec's last convolution: one output, of what is between it and the snake. */
static void test_one(int32_t channels, int32_t in_rows, int32_t taps, int32_t dilation)
{
    test_case c;
    char name[96];
    snprintf(name, sizeof name, "one output of %d channels, %d rows, %d taps, dilation %d",
             (int)channels, (int)in_rows, (int)taps, (int)dilation);
    ut_plan *p = begin(&c, name, 6);
    c.tolerance = 2e-3; /* x is f16 */
    const int state =
        ut_state_set_add(&c.states, "history", UT_F32, (taps - 1) * dilation, channels);
    const ut_tid x = ut_plan_input(p, "x", UT_F32, in_rows, 0, channels);
    const ut_tid narrow = ut_op_snake(p, x, weight_between(&c, channels, 0.5f, 2.0f));
    ut_op_conv_history(p, narrow, state);
    const float scale = 1.0f / sqrtf((float)(taps * channels));
    const ut_linear_args a = {.w = weight(&c, 1, taps * channels, UT_BF16, 2 * scale),
                              .bias = vector(&c, 1, 0.5f),
                              .act = UT_ACT_TANH,
                              .residual = UT_NONE,
                              .taps = taps,
                              .dilation = dilation};
    ut_plan_output(p, ut_op_linear(p, narrow, &a), "y");
    test(&c);
}

static void test_ones(void)
{
    test_one(96, 50, 7, 1);
    test_one(24, 70, 3, 5);
    test_one(8, 1, 2, 1);
}

static void test_dwconv(int32_t channels, int32_t taps)
{
    test_case c;
    char name[96];
    snprintf(name, sizeof name, "dwconv %d channels, %d taps", (int)channels, (int)taps);
    ut_plan *p = begin(&c, name, 6);
    const int state = ut_state_set_add(&c.states, "history", UT_F32, taps - 1, channels);
    const ut_tid x = ut_op_copy(p, ut_plan_input(p, "x", UT_F32, 2, 0, channels));
    ut_op_conv_history(p, x, state);
    const ut_weight *w = weight(&c, channels, taps, UT_F32, 1.0f);
    ut_plan_output(p, ut_op_dwconv(p, x, w, vector(&c, channels, 1.0f)), "y");
    test(&c);
}

static void test_convs(void)
{
    test_conv(3, 5, 1, 3, 1, UT_F32, UT_ACT_NONE);
    test_conv(4, 70, 1, 7, 3, UT_F32, UT_ACT_SNAKE);
    test_conv(8, 6, 1, 7, 9, UT_BF16, UT_ACT_NONE);
    test_conv(5, 9, 4, 2, 1, UT_F32, UT_ACT_TANH);
    test_conv(1, 16, 1, 7, 1, UT_F16, UT_ACT_NONE);
    test_conv(96, 24, 2, 2, 1, UT_BF16, UT_ACT_NONE);
    test_conv(24, 70, 1, 7, 3, UT_BF16, UT_ACT_SNAKE);
    test_conv(5, 30, 1, 3, 2, UT_BF16, UT_ACT_NONE);
    test_conv(72, 140, 30, 3, 1, UT_BF16, UT_ACT_NONE);
    test_dwconv(5, 7);
    test_dwconv(300, 3);
}

/* ---- Signals --------------------------------------------------------------------------------- */

/* Rows that a row holds `in_rows` times: what is repeated is the first of them. */
static void test_repeated_history(int32_t channels, int32_t in_rows, int32_t taps)
{
    test_case c;
    ut_plan *p = begin(&c, "repeated history", 6);
    const int32_t cols = channels * in_rows;
    const int pos = ut_state_set_add(&c.states, "pos", UT_I32, 1, 1);
    const int state = ut_state_set_add(&c.states, "history", UT_F32, taps - 1, cols);
    ut_tid x = ut_op_copy(p, ut_plan_input(p, "x", UT_F32, in_rows, 0, channels));
    x = ut_plan_reshape(p, x, cols);
    ut_op_conv_history_repeat(p, x, state, ut_plan_state(p, pos), channels);
    const ut_linear_args a = {
        .w = weight(&c, 9, taps * cols, UT_F32, 0.2f), .residual = UT_NONE, .taps = taps};
    ut_plan_output(p, ut_op_linear(p, x, &a), "y");
    ut_op_advance(p, ut_plan_state(p, pos), 0, 1);
    test(&c);
}

static void test_trim(int32_t rows, int32_t unit, bool repeat)
{
    test_case c;
    char name[64];
    snprintf(name, sizeof name, "trim %d rows of %d%s", (int)rows, (int)unit,
             repeat ? ", repeating" : "");
    ut_plan *p = begin(&c, name, 1);
    c.id_range = rows * unit + 3; /* from nothing to more than there is */
    c.id_first = -1;
    const ut_tid x = ut_op_copy(p, ut_plan_input(p, "x", UT_F32, rows, 0, 37));
    ut_op_trim(p, x, ut_plan_input(p, "count", UT_I32, 0, 1, 1), unit, repeat);
    ut_plan_output(p, ut_op_act(p, x, UT_ACT_NONE), "y");
    test(&c);
}

/* A convolution that keeps the length, and statistics over all rows. */
static void test_whole_signal(int32_t rows, int32_t left, int32_t right)
{
    test_case c;
    char name[64];
    snprintf(name, sizeof name, "whole signal of %d rows, %d + %d mirrored", (int)rows, (int)left,
             (int)right);
    ut_plan *p = begin(&c, name, 1);
    const int32_t taps = left + right + 1;
    const ut_tid x = ut_plan_input(p, "x", UT_F32, rows, 0, 20);
    const ut_linear_args a = {
        .w = weight(&c, 35, taps * 20, UT_F32, 0.2f), .residual = UT_NONE, .taps = taps};
    const ut_tid y = ut_op_linear(p, ut_op_reflect(p, x, left, right), &a);
    ut_plan_output(p, y, "y");
    ut_plan_output(p, ut_op_pool(p, y, UT_NONE), "statistics");
    ut_plan_output(p, ut_op_pool(p, ut_plan_input(p, "z", UT_F32, rows, 0, 35), y), "weighted");
    test(&c);
}

void test_signals(void)
{
    test_convs();
    test_units();
    test_ones();
    test_repeated_history(5, 1, 7);
    test_repeated_history(4, 3, 4);
    for (int i = 0; i < 4; i++) {
        test_trim(9, 4, i % 2);
        test_trim(1, 1, i % 2);
    }
    test_whole_signal(700, 2, 2);
    test_whole_signal(11, 4, 3);
    test_whole_signal(1, 1, 1);
    test_whole_signal(3, 0, 5);
}
