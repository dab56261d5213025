/* test_cpu_ops_signal.c - operations on signals, sums of looked-up rows and tempered decisions
 * through the executor, on small operands, against their definition written out. */
#include "base/alloc.h"
#include "cpu_fixture.h"
#include "kernel_check.h"
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <cmocka.h>

/* ---- Looking up and moving ------------------------------------------------------------------ */

static void test_gather_sum(void **state)
{
    (void)state;
    enum { D = 5, T = 4 };
    static const int32_t sizes[] = {4, 6, 2};
    const ut_weight *table = fixture_weight(12, D, UT_BF16, 1.0f);
    ut_weight *part = fixture_weight(10, D, UT_BF16, 1.0f);
    part->part[0].data = table->part[0].data; /* its first ten rows */
    ut_plan *p = ut_plan_new("gather_sum", NULL, NULL);
    const ut_tid ids = ut_plan_input(p, "ids", UT_I32, 1, 0, 4);
    const ut_tid r = ut_plan_input(p, "r", UT_F32, 1, 0, D);
    const ut_tid extra = ut_plan_input(p, "extra", UT_F32, 0, 1, D);
    ut_plan_output(p, ut_op_gather_sum(p, ids, table, 1, 3, sizes, -2.0f, r, extra), "y");
    ut_plan_output(p, ut_op_gather_sum(p, ids, part, 1, 2, sizes, 1.0f, UT_NONE, UT_NONE), "z");
    fixture f = fixture_finish(p, T);
    const int32_t in[T][4] = {{9, 3, 5, 1},
                              {9, UT_ID_NONE, 0, UT_ID_EXTRA},
                              {9, UT_ID_EXTRA, -7, UT_ID_NONE},
                              {9, 99, 2, 0}};
    const float *residual = fixture_array(T * D, 1.0f), *one = fixture_array(D, 1.0f);
    fixture_input(&f, "ids", T, in, sizeof in);
    fixture_input(&f, "r", T, residual, T * D * 4);
    fixture_input(&f, "extra", T, one, D * 4);
    fixture_run(&f, T);
    const float *y = fixture_output(&f, "y"), *z = fixture_output(&f, "z");
    for (int t = 0; t < T; t++) {
        float want[D], sum[D] = {0}, row[D];
        memcpy(want, residual + t * D, sizeof want);
        for (int j = 0, offset = 0; j < 3; offset += sizes[j++]) {
            const int32_t id = in[t][1 + j];
            const bool table_row = id >= 0;
            if (table_row)
                ut_weight_row_f32(table, offset + (id < sizes[j] ? id : sizes[j] - 1), row);
            for (int i = 0; i < D; i++) {
                if (table_row || id == UT_ID_EXTRA)
                    want[i] += -2.0f * (table_row ? row[i] : one[i]);
                if (table_row && j < 2)
                    sum[i] += row[i];
            }
        }
        check_bits(y + t * D, want, D, "gather_sum");
        check_bits(z + t * D, sum, D, "gather_sum without a residual");
    }
    fixture_end(&f);
}

static void test_copy_cols_and_scale(void **state)
{
    (void)state;
    enum { D = 6, T = 3 };
    ut_plan *p = ut_plan_new("columns", NULL, NULL);
    const ut_tid x = ut_plan_input(p, "x", UT_F32, 1, 0, D);
    const ut_tid one = ut_plan_input(p, "one", UT_F32, 0, 1, 4);
    const ut_tid gain = ut_plan_input(p, "gain", UT_F32, 0, 1, 8);
    const ut_tid y = ut_op_blank_like(p, x, 8);
    ut_op_copy_cols(p, y, 0, x, 2, 4, false);
    ut_op_copy_cols(p, y, 4, one, 0, 4, false);
    ut_op_copy_cols(p, y, 3, x, 0, 2, true);
    ut_plan_output(p, y, "y");
    ut_plan_output(p, ut_op_scale(p, y, gain, UT_NONE), "scaled");
    ut_plan_output(p, ut_op_scale(p, y, gain, y), "added");
    fixture f = fixture_finish(p, T);
    const float *in = fixture_array(T * D, 1.0f), *row = fixture_array(4, 1.0f);
    const float *g = fixture_array(8, 1.0f);
    fixture_input(&f, "x", T, in, T * D * 4);
    fixture_input(&f, "one", T, row, 16);
    fixture_input(&f, "gain", T, g, 32);
    fixture_run(&f, T);
    const float *got = fixture_output(&f, "y"), *scaled = fixture_output(&f, "scaled");
    const float *added = fixture_output(&f, "added");
    for (int t = 0; t < T; t++)
        for (int i = 0; i < 8; i++) {
            float want = i < 4 ? in[t * D + 2 + i] : row[i - 4];
            if (i == 3 || i == 4)
                want += in[t * D + i - 3];
            assert_true(got[t * 8 + i] == want);
            check_near((double)scaled[t * 8 + i], (double)want * (double)g[i], 1e-6, "scale", i);
            check_near((double)added[t * 8 + i], (double)want * (1 + (double)g[i]), 1e-6, "scale",
                       i);
        }
    fixture_end(&f);
}

static void test_ring_get(void **state)
{
    (void)state;
    ut_state_set set = {0};
    const int ring = ut_state_set_add(&set, "ring", UT_I32, 4, 2);
    const int frame = ut_state_set_add(&set, "frame", UT_I32, 1, 1);
    ut_plan *p = ut_plan_new("ring", &set, NULL);
    const ut_tid y = ut_op_ring_get(p, ut_plan_state(p, ring), ut_plan_state(p, frame), -1, 100);
    const ut_weight *table = fixture_weight(200, 1, UT_F32, 1.0f);
    float *values = (float *)(uintptr_t)table->part[0].data;
    for (int i = 0; i < 200; i++)
        values[i] = (float)i;
    ut_plan_output(p, ut_op_gather(p, y, table, 1, 1, &table->rows), "y");
    fixture f = fixture_finish(p, 1);
    const int32_t rows[4][2] = {{1, 10}, {2, 20}, {3, 0}, {4, -40}};
    fixture_cpu->ops->state_write(f.s, ring, 0, 0, 4, rows);
    static const struct {
        int32_t frame;
        float want;
    } cases[] = {{0, 110}, {1, 110}, {2, 120}, {3, 100}, {4, 60}, {5, 110}, {1003, 100}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        fixture_cpu->ops->state_write(f.s, frame, 0, 0, 1, &cases[i].frame);
        fixture_run(&f, 1);
        assert_true(*(const float *)fixture_output(&f, "y") == cases[i].want);
    }
    fixture_end(&f);
}

/* ---- Beginnings and ends -------------------------------------------------------------------- */

static void test_trim(void **state)
{
    (void)state;
    enum { D = 2, T = 3, UNIT = 10 };
    ut_plan *p = ut_plan_new("trim", NULL, NULL);
    const ut_tid x = ut_plan_input(p, "x", UT_F32, 2, 0, D);
    const ut_tid count = ut_plan_input(p, "count", UT_I32, 0, 1, 1);
    const ut_tid zero = ut_op_copy(p, x), repeat = ut_op_copy(p, x);
    ut_op_trim(p, zero, count, UNIT, false);
    ut_op_trim(p, repeat, count, UNIT, true);
    ut_plan_output(p, ut_op_copy(p, zero), "zero");
    ut_plan_output(p, ut_op_copy(p, repeat), "repeat");
    fixture f = fixture_finish(p, T);
    const float *in = fixture_array(2 * T * D, 1.0f);
    static const int32_t counts[] = {60, 51, 50, 11, 1, 0, 1000};
    for (size_t i = 0; i < sizeof counts / sizeof counts[0]; i++) {
        fixture_input(&f, "x", T, in, 2 * T * D * 4);
        fixture_input(&f, "count", T, &counts[i], 4);
        fixture_run(&f, T);
        const float *z = fixture_output(&f, "zero"), *r = fixture_output(&f, "repeat");
        const int valid = (counts[i] + UNIT - 1) / UNIT;
        for (int row = 0; row < 2 * T; row++)
            for (int c = 0; c < D; c++) {
                const int last = row < valid ? row : valid - 1;
                assert_true(z[row * D + c] == (row < valid ? in[row * D + c] : 0.0f));
                assert_true(r[row * D + c] == (last >= 0 ? in[last * D + c] : 0.0f));
            }
    }
    fixture_end(&f);
}

/* A strided convolution of a signal that began with its first value, in pieces. */
static void test_history_that_repeats(void **state)
{
    (void)state;
    enum { C = 3, T = 9, MAX = 4 };
    ut_state_set set = {0};
    const int pos = ut_state_set_add(&set, "pos", UT_I32, 1, 1);
    const int before = ut_state_set_add(&set, "before", UT_F32, 1, 2 * C);
    const ut_weight *w = fixture_weight(5, 4 * C, UT_F32, 1.0f);
    ut_plan *p = ut_plan_new("repeat", &set, NULL);
    const ut_tid at = ut_plan_state(p, pos);
    const ut_tid x = ut_plan_input(p, "x", UT_F32, 2, 0, C);
    const ut_tid pairs = ut_plan_reshape(p, ut_op_copy(p, x), 2 * C);
    ut_op_conv_history_repeat(p, pairs, before, at, C);
    const ut_linear_args conv = {.w = w, .taps = 2, .residual = UT_NONE};
    ut_plan_output(p, ut_op_linear(p, pairs, &conv), "y");
    ut_op_advance(p, at, 0, 2);
    fixture f = fixture_finish(p, MAX);
    const float *in = fixture_array(2 * T * C, 1.0f), *weight = w->part[0].data;
    for (int round = 0; round < 2; round++) {
        fixture_cpu->ops->state_reset(f.s, 0);
        for (int t = 0, n; t < T; t += n) {
            n = random_int(1, MAX);
            n = n < T - t ? n : T - t;
            fixture_input(&f, "x", n, in + 2 * t * C, (size_t)(2 * n * C) * 4);
            fixture_run(&f, n);
            const float *y = fixture_output(&f, "y");
            for (int row = 0; row < n; row++)
                for (int o = 0; o < 5; o++) {
                    double want = 0;
                    for (int k = 0; k < 4; k++)
                        for (int c = 0; c < C; c++) {
                            const int step = 2 * (t + row) - 2 + k;
                            want += (double)in[(step < 0 ? 0 : step) * C + c] *
                                    (double)weight[(o * 4 + k) * C + c];
                        }
                    check_near((double)y[row * 5 + o], want, 1e-5, "repeated history", t + row);
                }
        }
    }
    fixture_end(&f);
}

/* ---- Whole signals -------------------------------------------------------------------------- */

static void test_reflect_keeps_the_length(void **state)
{
    (void)state;
    enum { C = 4, OUT = 3, TAPS = 3, DILATION = 2, T = 40 };
    const ut_weight *w = fixture_weight(OUT, TAPS * C, UT_F32, 1.0f);
    ut_plan *p = ut_plan_new("reflect", NULL, NULL);
    const ut_tid x = ut_plan_input(p, "x", UT_F32, 1, 0, C);
    const ut_tid y = ut_op_reflect(p, x, DILATION, DILATION);
    const ut_linear_args conv = {.w = w, .taps = TAPS, .dilation = DILATION, .residual = UT_NONE};
    ut_plan_output(p, ut_op_linear(p, y, &conv), "y");
    fixture f = fixture_finish(p, T);
    const float *in = fixture_array(T * C, 1.0f), *weight = w->part[0].data;
    for (int n = 3; n <= T; n += 37) {
        fixture_input(&f, "x", n, in, (size_t)(n * C) * 4);
        fixture_run(&f, n);
        const float *got = fixture_output(&f, "y");
        for (int t = 0; t < n; t++)
            for (int o = 0; o < OUT; o++) {
                double want = 0;
                for (int k = 0; k < TAPS; k++) {
                    int at = t + (k - 1) * DILATION;
                    at = at < 0 ? -at : at >= n ? 2 * (n - 1) - at : at;
                    for (int c = 0; c < C; c++)
                        want += (double)in[at * C + c] * (double)weight[(o * TAPS + k) * C + c];
                }
                check_near((double)got[t * OUT + o], want, 1e-5, "reflect", t);
            }
    }
    fixture_end(&f);
}

static void test_pool(void **state)
{
    (void)state;
    enum { C = 37, T = 50 };
    ut_plan *p = ut_plan_new("pool", NULL, NULL);
    const ut_tid x = ut_plan_input(p, "x", UT_F32, 1, 0, C);
    const ut_tid l = ut_plan_input(p, "l", UT_F32, 1, 0, C);
    ut_plan_output(p, ut_op_pool(p, x, UT_NONE), "even");
    ut_plan_output(p, ut_op_pool(p, x, l), "weighted");
    fixture f = fixture_finish(p, T);
    float *in = fixture_array(T * C, 3.0f), *logits = fixture_array(T * C, 5.0f);
    for (int t = 0; t < T; t++)
        in[t * C] = 2.5f; /* a constant channel: the deviation's floor */
    for (int n = 1; n <= T; n += T - 1) {
        fixture_input(&f, "x", n, in, (size_t)(n * C) * 4);
        fixture_input(&f, "l", n, logits, (size_t)(n * C) * 4);
        fixture_run(&f, n);
        for (int weighted = 0; weighted < 2; weighted++) {
            const float *y = fixture_output(&f, weighted ? "weighted" : "even");
            for (int c = 0; c < C; c++) {
                double total = 0, mean = 0, square = 0;
                for (int t = 0; t < n; t++)
                    total += weighted ? exp((double)logits[t * C + c]) : 1;
                for (int t = 0; t < n; t++)
                    mean += (weighted ? exp((double)logits[t * C + c]) : 1) / total *
                            (double)in[t * C + c];
                for (int t = 0; t < n; t++)
                    square += (weighted ? exp((double)logits[t * C + c]) : 1) / total *
                              pow((double)in[t * C + c] - mean, 2);
                check_near((double)y[c], mean, 1e-6, "mean", c);
                check_near((double)y[C + c], sqrt(fmax(square, 1e-12)), 1e-6, "deviation", c);
            }
        }
    }
    fixture_end(&f);
}

/* ---- Choosing ------------------------------------------------------------------------------- */

static void test_nearest_by_distance(void **state)
{
    (void)state;
    enum { D = 6, N = 45, T = 20 };
    ut_weight *table = fixture_weight(N, D, UT_F32, 2.0f);
    float *rows = (float *)(uintptr_t)table->part[0].data;
    memcpy(rows + 30 * D, rows + 12 * D, D * sizeof(float)); /* a tie: the first wins */
    ut_plan *p = ut_plan_new("nearest", NULL, NULL);
    const ut_tid e = ut_plan_input(p, "e", UT_F32, 1, 0, D);
    const ut_tid codes = ut_op_blank_ids(p, e, 2);
    ut_op_nearest_euclid(p, codes, 1, e, table);
    ut_op_nearest_euclid(p, codes, 0, e, table);
    ut_plan_output(p, codes, "codes");
    fixture f = fixture_finish(p, T);
    float *in = fixture_array(T * D, 2.0f);
    memcpy(in, rows + 12 * D, D * sizeof(float));
    fixture_input(&f, "e", T, in, T * D * 4);
    fixture_run(&f, T);
    const int32_t *got = fixture_output(&f, "codes");
    assert_int_equal(got[0], 12);
    for (int t = 0; t < T; t++) {
        double best = HUGE_VAL, at[N];
        for (int i = 0; i < N; i++) {
            at[i] = 0;
            for (int d = 0; d < D; d++)
                at[i] += pow((double)in[t * D + d] - (double)rows[i * D + d], 2);
            best = fmin(best, at[i]);
        }
        assert_true(at[got[2 * t]] <= best + 1e-5);
        assert_int_equal(got[2 * t], got[2 * t + 1]);
    }
    fixture_end(&f);
}

/* All that was chosen before is penalised, the stop waits for its frame, and the second row of
 * parameters is its own. */
static void test_choices_are_remembered(void **state)
{
    (void)state;
    enum { N = 4, STOP = 77 };
    ut_state_set set = {0};
    const int column = ut_state_set_add(&set, "column", UT_I32, 1, 2);
    const int params = ut_state_set_add(&set, "params", UT_F32, 2, UT_SP_COUNT);
    const int rng = ut_state_set_add(&set, "rng", UT_I32, 1, UT_RNG_COUNT);
    const int frame = ut_state_set_add(&set, "frame", UT_I32, 1, 1);
    const int chosen = ut_state_set_add(&set, "chosen", UT_I32, 1, N);
    ut_plan *p = ut_plan_new("sample", &set, NULL);
    const ut_tid logits = ut_plan_input(p, "logits", UT_F32, 0, 1, N);
    ut_sample_args a = {.dst = ut_plan_state(p, column),
                        .params = ut_plan_state(p, params),
                        .rng = ut_plan_state(p, rng),
                        .frame = ut_plan_state(p, frame),
                        .history = ut_plan_state(p, chosen),
                        .noise = UT_NONE,
                        .probs = UT_NONE,
                        .penalty = UT_PENALTY_ALL,
                        .narrowing = UT_TEMPER_FIRST,
                        .n_range = N - 1,
                        .id_extra = STOP,
                        .extra_from_frame = 2};
    ut_op_sample(p, logits, &a);
    a.penalty = UT_PENALTY_NONE;
    a.col = 1;
    a.decision = 1;
    a.params_row = 1;
    a.extra_from_frame = 0;
    ut_op_sample(p, logits, &a);
    ut_op_advance(p, ut_plan_state(p, frame), 1, 0);
    fixture f = fixture_finish(p, 1);
    const float l[N] = {2.0f, -0.5f, 3.0f, 4.0f};
    /* greedy; and a temperature at which top-k 1 leaves the best alone */
    const float rows[2][UT_SP_COUNT] = {{0.0f, 1.0f, 2.0f, 0.0f}, {2.0f, 1.0f, 1.0f, 1.0f}};
    fixture_cpu->ops->state_write(f.s, params, 0, 0, 2, rows);
    /* 2 (3 -> 1.5), 0 (2 -> 1), then the stop may come (4 -> 2), then 2 again at 1.5 ... */
    static const int32_t want[] = {2, 0, STOP, STOP, STOP};
    for (size_t i = 0; i < sizeof want / sizeof want[0]; i++) {
        int32_t got[2], marks[N];
        fixture_input(&f, "logits", 1, l, sizeof l);
        fixture_run(&f, 1);
        fixture_cpu->ops->state_read(f.s, column, 0, 0, 1, got);
        assert_int_equal(got[0], want[i]);
        assert_int_equal(got[1], STOP);
        fixture_cpu->ops->state_read(f.s, chosen, 0, 0, 1, marks);
        assert_int_equal(marks[2], 1);
        assert_int_equal(marks[1], 0);
        assert_int_equal(marks[3], i >= 2);
    }
    fixture_end(&f);
}

int run_cpu_signal_op_tests(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_gather_sum),
        cmocka_unit_test(test_copy_cols_and_scale),
        cmocka_unit_test(test_ring_get),
        cmocka_unit_test(test_trim),
        cmocka_unit_test(test_history_that_repeats),
        cmocka_unit_test(test_reflect_keeps_the_length),
        cmocka_unit_test(test_pool),
        cmocka_unit_test(test_nearest_by_distance),
        cmocka_unit_test(test_choices_are_remembered),
    };
    return cmocka_run_group_tests_name("operations on signals", tests, fixture_setup,
                                       fixture_teardown);
}
