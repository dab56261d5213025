/* test_cpu_backend.c - the CPU backend as the engine sees it: opening, compiling, states, limits,
 * memory. Its operations are in test_cpu_ops.c, streaming and batching in test_cpu_stream.c. */
#include "backends/backend.h"
#include "base/alloc.h"
#include "base/cpu.h"
#include "base/half.h"
#include "base/os.h"
#include "cpu_fixture.h"
#include "kernel_check.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

static void test_registry(void **state)
{
    (void)state;
    char text[200];
    const ut_backend_ops *const *all = ut_backends();
    bool found = false;
    for (; *all; all++) {
        if (strcmp((*all)->name, "cpu") != 0)
            continue;
        found = true;
        assert_true((*all)->probe(0, text, sizeof text));
        assert_non_null(strstr(text, "core"));
    }
    assert_true(found);
    ut_err err = {0};
    ut_backend *b = (ut_backend *)text;
    const ut_backend_params params = {.threads = 1};
    assert_int_equal(ut_backend_open(&b, "abacus", &params, &err), UTTER_ERR_BACKEND);
    assert_null(b);
    assert_non_null(strstr(err.msg, "abacus"));
    assert_non_null(strstr(err.msg, "cpu"));
    ut_err_clear(&err);
    const ut_backend_params many = {.threads = 100000};
    assert_int_equal(ut_backend_open(&b, "cpu", &many, &err), UTTER_ERR_ARG);
    assert_non_null(strstr(err.msg, "threads is 100000"));
}

static void test_describe(void **state)
{
    (void)state;
    char text[200];
    ut_backend *b = fixture_open(2, UT_CPU_AVX2 | UT_CPU_AVX512, UT_PRECISION_AUTO);
    b->ops->describe(b, text, sizeof text);
    assert_string_equal(text, "cpu: 2 threads, scalar kernels");
    const ut_backend_ops *ops = b->ops;
    ops->close(b);
    ops->close(NULL);
}

/* x -> linear -> y, with a counter and a cache to look at. */
static ut_plan *small_plan(const ut_state_set *set, const ut_weight *w)
{
    ut_plan *p = ut_plan_new("small", set, NULL);
    const ut_tid x = ut_plan_input(p, "x", UT_F32, 1, 0, w->cols);
    ut_plan_output(p, ut_op_matmul(p, x, w, UT_NONE), "y");
    ut_op_advance(p, ut_plan_state(p, 0), 0, 1);
    ut_err err = {0};
    assert_int_equal(ut_plan_finish(p, &err), UTTER_OK);
    return p;
}

static ut_state_set small_set(void)
{
    ut_state_set set = {0};
    ut_state_set_add(&set, "pos", UT_I32, 1, 1);
    ut_state_set_add(&set, "cache", UT_BF16, 7, 5);
    set.def[1].keep = true;
    ut_state_set_add(&set, "hist", UT_F32, 3, 3);
    return set;
}

static void test_state(void **state)
{
    (void)state;
    const ut_state_set set = small_set();
    ut_backend *b = fixture_open(1, 0, UT_PRECISION_AUTO);
    const ut_backend_ops *ops = b->ops;
    ut_err err = {0};
    ut_state *s;
    assert_int_equal(ops->state_new(b, &set, 3, &s, &err), UTTER_OK);
    uint16_t cache[7 * 5], back[7 * 5], zero[7 * 5] = {0};
    for (int i = 0; i < 35; i++)
        cache[i] = (uint16_t)(i + 1);
    ops->state_read(s, 1, 2, 0, 7, back);
    assert_memory_equal(back, zero, sizeof back); /* new states are zero */
    ops->state_write(s, 1, 1, 2, 3, cache);
    ops->state_read(s, 1, 1, 2, 3, back);
    assert_memory_equal(back, cache, 30);
    for (int slot = 0; slot < 3; slot += 2) { /* neighbours untouched */
        ops->state_read(s, 1, slot, 0, 7, back);
        assert_memory_equal(back, zero, sizeof back);
    }
    const float h[9] = {1, 2, 3, 4, 5, 6, 7, 8, 9};
    float h_back[9];
    ops->state_write(s, 2, 0, 0, 3, h);
    ops->state_write(s, 2, 1, 0, 3, h);
    ops->state_reset(s, 1);
    ops->state_read(s, 2, 1, 0, 3, h_back);
    for (int i = 0; i < 9; i++)
        assert_true(h_back[i] == 0.0f);
    ops->state_read(s, 2, 0, 0, 3, h_back);
    assert_memory_equal(h, h_back, sizeof h);
    ops->state_read(s, 1, 1, 2, 3, back); /* marked keep */
    assert_memory_equal(back, cache, 30);
    ops->state_free(s);
    ops->state_free(NULL);
    assert_int_equal(ops->state_new(b, &set, 0, &s, &err), UTTER_ERR_ARG);
    ops->close(b);
}

static void test_run_limits(void **state)
{
    (void)state;
    const ut_state_set set = small_set(), other = small_set();
    const ut_weight *w = fixture_weight(4, 6, UT_F32, 1.0f);
    ut_plan *p = small_plan(&set, w);
    ut_backend *b = fixture_open(1, 0, UT_PRECISION_AUTO);
    fixture f = fixture_compile(b, p, 2, 8);
    ut_state *wrong;
    ut_exec *e;
    ut_err err = {0};
    memset(b->ops->input(f.e, 0, 8), 0, 2 * 8 * 6 * sizeof(float));
    assert_int_equal(b->ops->run(f.e, f.s, 0, 0, &err), UTTER_ERR_ARG);
    assert_int_equal(b->ops->run(f.e, f.s, 0, 9, NULL), UTTER_ERR_ARG);
    assert_int_equal(b->ops->run(f.e, f.s, 1, 1, NULL), UTTER_ERR_ARG);
    assert_int_equal(b->ops->run(f.e, f.s, -1, 1, NULL), UTTER_ERR_ARG);
    assert_int_equal(b->ops->run(f.e, NULL, 0, 1, NULL), UTTER_ERR_ARG);
    assert_non_null(strstr(err.msg, "0 steps, expected 1..8"));
    assert_int_equal(b->ops->state_new(b, &other, 2, &wrong, &err), UTTER_OK);
    assert_int_equal(b->ops->run(f.e, wrong, 0, 1, NULL), UTTER_ERR_ARG);
    b->ops->state_free(wrong);
    assert_int_equal(b->ops->run(f.e, f.s, 0, 8, NULL), UTTER_OK);
    assert_int_equal(b->ops->compile(b, p, 0, 8, &e, NULL), UTTER_ERR_ARG);
    assert_null(e);
    assert_int_equal(b->ops->compile(b, p, 1, 0, &e, NULL), UTTER_ERR_ARG);
    fixture_close(&f);
    b->ops->close(b);
    ut_plan_free(p);
}

static void test_window_needs_capacity(void **state)
{
    (void)state;
    ut_state_set set = {0};
    const int pos = ut_state_set_add(&set, "pos", UT_I32, 1, 1);
    const int k = ut_state_set_add(&set, "k", UT_F32, 10, 8);
    const int v = ut_state_set_add(&set, "v", UT_F32, 10, 8);
    ut_plan *p = ut_plan_new("windowed", &set, NULL);
    const ut_attn_args a = {.n_heads = 1,
                            .n_kv_heads = 1,
                            .head_dim = 8,
                            .window = 6,
                            .pos = ut_plan_state(p, pos),
                            .cache_k = ut_plan_state(p, k),
                            .cache_v = ut_plan_state(p, v)};
    ut_plan_output(p, ut_op_attention(p, ut_plan_input(p, "q", UT_F32, 1, 0, 8), &a), "y");
    ut_err err = {0};
    assert_int_equal(ut_plan_finish(p, &err), UTTER_OK);
    ut_backend *b = fixture_open(1, 0, UT_PRECISION_AUTO);
    ut_exec *e;
    assert_int_equal(b->ops->compile(b, p, 1, 6, &e, &err), UTTER_ERR_ARG);
    assert_non_null(strstr(err.msg, "expected at least 11"));
    assert_int_equal(b->ops->compile(b, p, 1, 5, &e, NULL), UTTER_OK);
    b->ops->exec_free(e);
    b->ops->exec_free(NULL);
    b->ops->close(b);
    ut_plan_free(p);
}

static void test_weights_are_shared(void **state)
{
    (void)state;
    const ut_state_set set = small_set();
    ut_weight *w = fixture_weight(40, 6, UT_BF16, 1.0f);
    w->least_bits = 4;
    ut_plan *p = small_plan(&set, w);
    for (int precision = 0; precision <= UT_PRECISION_INT4; precision++) {
        ut_backend *b = fixture_open(1, 0, (ut_precision)precision);
        ut_exec *e[2];
        assert_int_equal(b->ops->weight_bytes(b), 0);
        assert_int_equal(b->ops->compile(b, p, 1, 4, &e[0], NULL), UTTER_OK);
        const size_t bytes = b->ops->weight_bytes(b);
        const size_t one = (size_t)ut_weight_kept_bytes(w, (ut_precision)precision) / 40;
        assert_true(bytes >= 40 * one && bytes <= 64 * one); /* outputs are filled up to panels */
        assert_int_equal(b->ops->compile(b, p, 2, 4, &e[1], NULL), UTTER_OK);
        assert_int_equal(b->ops->weight_bytes(b), bytes);
        assert_true(b->ops->exec_bytes(e[1]) > 0);
        b->ops->exec_free(e[0]);
        assert_int_equal(b->ops->weight_bytes(b), bytes);
        b->ops->exec_free(e[1]);
        assert_int_equal(b->ops->weight_bytes(b), 0);
        b->ops->close(b);
    }
    ut_plan_free(p);
}

/* The n weights of a row as a precision keeps them. */
static void round_to(float *kept, const float *w, int n, ut_precision precision)
{
    int8_t q[UT_Q8_BLOCK];
    uint16_t scale = 0;
    if (precision == UT_PRECISION_INT8)
        scale = ut_q8_pack(q, w, n);
    else if (precision == UT_PRECISION_INT4)
        scale = ut_q4_pack(q, w, n);
    for (int i = 0; i < n; i++)
        kept[i] = precision == UT_PRECISION_BF16   ? ut_round_bf16(w[i])
                  : precision == UT_PRECISION_F16  ? ut_f16_to_f32(ut_f32_to_f16(w[i]))
                  : precision >= UT_PRECISION_INT8 ? ut_f16_to_f32(scale) * (float)q[i]
                                                   : w[i];
}

/* The result of each precision is that of weights rounded to it. */
static void test_precision(void **state)
{
    (void)state;
    const ut_state_set set = small_set();
    ut_weight *w = fixture_weight(5, 6, UT_F32, 1.0f);
    w->least_bits = 4;
    ut_plan *p = small_plan(&set, w);
    const float x[6] = {0.5f, -1.0f, 2.0f, 0.25f, 1.0f, -0.5f};
    for (int precision = 0; precision <= UT_PRECISION_INT4; precision++) {
        ut_backend *b = fixture_open(1, 0, (ut_precision)precision);
        fixture f = fixture_compile(b, p, 1, 4);
        fixture_input(&f, "x", 1, x, sizeof x);
        fixture_run(&f, 1);
        const float *y = fixture_output(&f, "y"), *values = w->part[0].data;
        for (int o = 0; o < 5; o++) {
            double want = 0;
            float kept[6];
            round_to(kept, values + o * 6, 6, (ut_precision)precision);
            for (int i = 0; i < 6; i++)
                want += (double)kept[i] * (double)x[i];
            check_near((double)y[o], want, 1e-6, "precision", o);
        }
        fixture_close(&f);
        b->ops->close(b);
    }
    ut_plan_free(p);
}

/* Every allocation of open, compile and state_new fails in turn: a status, no crash, no leak (the
 * address sanitizer's build looks), and the next attempt works. */
static void test_allocation_failures(void **state)
{
    (void)state;
    const ut_state_set set = small_set();
    const ut_weight *w = fixture_weight(40, 6, UT_BF16, 1.0f);
    ut_plan *p = small_plan(&set, w);
    const ut_backend_params params = {.threads = 2};
    bool complete = false;
    int failures = 0;
    for (uint64_t n = 1; !complete; n++) {
        ut_backend *b = NULL;
        ut_exec *e = NULL;
        ut_state *s = NULL;
        ut_err err = {0};
        ut_alloc_fail_at(n);
        utter_status st = ut_backend_open(&b, "cpu", &params, &err);
        if (st == UTTER_OK)
            st = b->ops->compile(b, p, 1, 4, &e, &err);
        if (st == UTTER_OK)
            st = b->ops->state_new(b, &set, 1, &s, &err);
        ut_alloc_fail_at(0);
        complete = st == UTTER_OK;
        if (!complete) {
            assert_int_equal(st, UTTER_ERR_NOMEM);
            assert_int_equal(err.status, UTTER_ERR_NOMEM);
            assert_true(err.msg[0] != 0);
            failures++;
        }
        if (b && !e) {
            assert_int_equal(b->ops->weight_bytes(b), 0);
            assert_int_equal(b->ops->compile(b, p, 1, 4, &e, NULL), UTTER_OK);
        }
        if (b) {
            b->ops->state_free(s);
            b->ops->exec_free(e);
            b->ops->close(b);
        }
        assert_true(n < 200);
    }
    assert_true(failures >= 10);
    ut_plan_free(p);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_registry),
        cmocka_unit_test(test_describe),
        cmocka_unit_test(test_state),
        cmocka_unit_test(test_run_limits),
        cmocka_unit_test(test_window_needs_capacity),
        cmocka_unit_test(test_weights_are_shared),
        cmocka_unit_test(test_precision),
        cmocka_unit_test(test_allocation_failures),
    };
    uint64_t seed = (uint64_t)(ut_time_now() * 1e6);
    if (argc == 3 && strcmp(argv[1], "--seed") == 0)
        seed = strtoull(argv[2], NULL, 10);
    printf("seed %llu\n", (unsigned long long)seed);
    random_seed(seed);
    const int failed = cmocka_run_group_tests_name("backend", tests, NULL, NULL) +
                       run_cpu_op_tests() + run_cpu_signal_op_tests() + run_cpu_stream_tests();
    fixture_free_all();
    return failed > 0;
}
