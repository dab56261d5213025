/* test_plan.c - the plan builder: shapes, histories, order, names, and memory placement. */
#include "base/alloc.h"
#include "plan/plan.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

/* Weights whose values nobody looks at. */
static ut_weight matrix(int32_t rows, int32_t cols)
{
    static const float zeros[1024];
    assert_true(rows * cols <= 1024);
    ut_weight w = {.name = "w", .rows = rows, .cols = cols, .n_parts = 1};
    w.part[0] = (ut_weight_part){.data = zeros, .dtype = UT_F32, .rows = rows};
    return w;
}

static void shapes_follow_from_operands(void **state)
{
    (void)state;
    const ut_weight w = matrix(12, 8), gain = matrix(1, 12);
    ut_plan *p = ut_plan_new("t", NULL, NULL);
    const ut_tid x = ut_plan_input(p, "x", UT_F32, 4, 0, 8);
    const ut_tid y = ut_op_rms_norm(p, ut_op_matmul(p, x, &w, UT_NONE), &gain, 1e-5f);
    const ut_tid z = ut_plan_reshape(p, ut_op_swiglu(p, y), 24);
    ut_plan_output(p, z, "z");
    ut_err err = {0};
    assert_int_equal(ut_plan_finish(p, &err), UTTER_OK);
    assert_int_equal(p->tensors[z].cols, 24);
    assert_int_equal(ut_tensor_rows(&p->tensors[z], 5), 5); /* 4 * 5 rows of 6 are 5 rows of 24 */
    assert_int_equal(ut_plan_find(p, "z"), z);
    assert_int_equal(ut_plan_find(p, "nothing"), UT_NONE);
    assert_int_equal(p->tensors[ut_plan_root(p, z)].role, UT_OUTPUT);
    ut_plan_free(p);
}

/* The message of a plan that is wrong. */
static void expect_error(ut_plan *p, const char *part)
{
    ut_err err = {0};
    assert_int_equal(ut_plan_finish(p, &err), UTTER_ERR_INTERNAL);
    if (!strstr(err.msg, part))
        fail_msg("'%s' does not say '%s'", err.msg, part);
    ut_plan_free(p);
}

static void wrong_shapes_are_named(void **state)
{
    (void)state;
    const ut_weight w = matrix(12, 8), gain = matrix(1, 9);
    ut_plan *p = ut_plan_new("t", NULL, NULL);
    ut_op_matmul(p, ut_plan_input(p, "x", UT_F32, 1, 0, 7), &w, UT_NONE);
    expect_error(p, "w is [12, 8], expected [-1, 7]");

    p = ut_plan_new("t", NULL, NULL);
    ut_op_rms_norm(p, ut_plan_input(p, "x", UT_F32, 1, 0, 8), &gain, 1e-5f);
    expect_error(p, "w is [1, 9], expected [1, 8]");

    p = ut_plan_new("t", NULL, NULL);
    ut_plan_reshape(p, ut_plan_input(p, "x", UT_F32, 1, 0, 8), 3);
    expect_error(p, "do not divide");

    p = ut_plan_new("t", NULL, NULL);
    const ut_tid x = ut_plan_input(p, "x", UT_F32, 1, 0, 8);
    const ut_tid other = ut_plan_input(p, "other", UT_F32, 2, 0, 12);
    ut_op_matmul(p, x, &w, other);
    expect_error(p, "residual");
}

/* A plan with an input [T, 8], i32 ids [T, 3] and a row [1, 8]; what is wrong with it is named. */
static void wrong_operands_of_signals_are_named(void **state)
{
    (void)state;
    static const int32_t sizes[] = {5, 7};
    const ut_weight w = matrix(12, 8), alpha = matrix(1, 8), beta = matrix(1, 7);
    static const char *const messages[] = {"ids have too few columns",
                                           "expected [4, -1]",
                                           "the extra row",
                                           "differ in rows",
                                           "no such columns",
                                           "not one row like those of x",
                                           "the logits have another",
                                           "negative number of rows",
                                           "only a temporary",
                                           "no single i32",
                                           "the ring is no i32 state",
                                           "snake has weights",
                                           "expected [1, 8]",
                                           "more is repeated than a row has"};
    enum { N = sizeof messages / sizeof messages[0] };
    for (int i = 0; i < N; i++) {
        ut_state_set set = {0};
        const int history = ut_state_set_add(&set, "history", UT_F32, 2, 8);
        const int pos = ut_state_set_add(&set, "pos", UT_I32, 1, 1);
        ut_plan *p = ut_plan_new("t", &set, NULL);
        const ut_tid x = ut_plan_input(p, "x", UT_F32, 1, 0, 8), copy = ut_op_copy(p, x);
        const ut_tid ids = ut_plan_input(p, "ids", UT_I32, 1, 0, 3);
        const ut_tid row = ut_plan_input(p, "row", UT_F32, 0, 1, 7);
        const ut_tid two = ut_plan_input(p, "two", UT_F32, 0, 2, 8);
        switch (i) {
        case 0:
            ut_op_gather_sum(p, ids, &w, 2, 2, sizes, 1.0f, UT_NONE, UT_NONE);
            break;
        case 1:
            ut_op_gather_sum(p, ids, &w, 0, 1, (const int32_t[]){4}, 1.0f, UT_NONE, UT_NONE);
            break;
        case 2:
            ut_op_gather_sum(p, ids, &w, 0, 2, sizes, 1.0f, UT_NONE, row);
            break;
        case 3:
            ut_op_copy_cols(p, copy, 0, two, 0, 8, false);
            break;
        case 4:
            ut_op_copy_cols(p, copy, 2, x, 0, 7, false);
            break;
        case 5:
            ut_op_scale(p, x, row, UT_NONE);
            break;
        case 6:
            ut_op_pool(p, x, row);
            break;
        case 7:
            ut_op_reflect(p, x, -1, 2);
            break;
        case 8:
            ut_op_trim(p, x, ids, 1, false);
            break;
        case 9:
            ut_op_trim(p, copy, ids, 1, false);
            break;
        case 10:
            ut_op_ring_get(p, ut_plan_state(p, history), ut_plan_state(p, pos), 0, 0);
            break;
        case 11:
            ut_op_act(p, x, UT_ACT_SNAKE);
            break;
        case 12:
            ut_op_snake_beta(p, x, &alpha, &beta);
            break;
        case 13:
            ut_op_conv_history_repeat(p, copy, history, ut_plan_state(p, pos), 9);
            break;
        }
        expect_error(p, messages[i]);
    }
}

static void the_first_failure_is_kept(void **state)
{
    (void)state;
    const ut_weight w = matrix(12, 8);
    ut_plan *p = ut_plan_new("t", NULL, NULL);
    const ut_tid bad = ut_op_matmul(p, ut_plan_input(p, "x", UT_F32, 1, 0, 7), &w, UT_NONE);
    assert_int_equal(bad, UT_NONE);
    ut_op_swiglu(p, ut_op_snake(p, bad, &w)); /* operands that are missing are accepted */
    expect_error(p, "w is [12, 8]");
}

static void reading_before_writing_is_found(void **state)
{
    (void)state;
    ut_plan *p = ut_plan_new("t", NULL, NULL);
    const ut_tid blank = ut_op_blank(p, 2, 8);
    ut_op_swiglu(p, blank);
    expect_error(p, "reads what nothing wrote");
}

static void convolutions_need_their_history(void **state)
{
    (void)state;
    const ut_weight w = matrix(5, 3 * 4), alpha = matrix(1, 4);
    const ut_linear_args conv = {.w = &w, .residual = UT_NONE, .taps = 3, .dilation = 2};
    ut_state_set s = {0};
    const int history = ut_state_set_add(&s, "h", UT_F32, 4, 4);

    ut_plan *p = ut_plan_new("t", &s, NULL);
    ut_tid x = ut_op_snake(p, ut_plan_input(p, "x", UT_F32, 1, 0, 4), &alpha);
    ut_op_conv_history(p, x, history);
    assert_int_not_equal(ut_op_linear(p, x, &conv), UT_NONE);
    ut_err err = {0};
    assert_int_equal(ut_plan_finish(p, &err), UTTER_OK);
    assert_int_equal(p->tensors[x].lead, 4);
    ut_plan_free(p);

    p = ut_plan_new("t", &s, NULL);
    x = ut_op_snake(p, ut_plan_input(p, "x", UT_F32, 1, 0, 4), &alpha);
    ut_op_linear(p, x, &conv);
    expect_error(p, "history does not fit");

    p = ut_plan_new("t", &s, NULL);
    ut_op_conv_history(p, ut_plan_input(p, "x", UT_F32, 1, 0, 4), history);
    expect_error(p, "only a temporary can carry history");
}

static void views_see_the_history_in_their_rows(void **state)
{
    (void)state;
    const ut_weight w = matrix(8, 4), conv_w = matrix(3, 7 * 4);
    const ut_linear_args conv = {.w = &conv_w, .residual = UT_NONE, .taps = 7};
    ut_state_set s = {0};
    const int history = ut_state_set_add(&s, "h", UT_F32, 6, 4);
    ut_plan *p = ut_plan_new("t", &s, NULL);
    const ut_tid wide = ut_op_matmul(p, ut_plan_input(p, "x", UT_F32, 1, 0, 4), &w, UT_NONE);
    const ut_tid view = ut_plan_reshape(p, wide, 4);
    ut_op_conv_history(p, view, history);
    ut_op_linear(p, view, &conv);
    ut_err err = {0};
    assert_int_equal(ut_plan_finish(p, &err), UTTER_OK);
    assert_int_equal(p->tensors[wide].lead, 3);
    assert_int_equal(p->tensors[view].lead, 6);
    ut_plan_free(p);
}

static void taps_become_outputs(void **state)
{
    (void)state;
    static const char *const taps[] = {"layer1", NULL};
    const ut_weight w = matrix(8, 8);
    ut_plan *p = ut_plan_new("t", NULL, taps);
    ut_tid x = ut_plan_input(p, "x", UT_F32, 1, 0, 8);
    for (int i = 0; i < 3; i++) {
        x = ut_op_matmul(p, x, &w, UT_NONE);
        ut_plan_name(p, x, "layer%d", i);
    }
    assert_int_equal(ut_plan_find(p, "layer0"), UT_NONE);
    assert_int_not_equal(ut_plan_find(p, "layer1"), UT_NONE);
    assert_true(ut_plan_wants(p, "layer1"));
    assert_false(ut_plan_wants(p, "layer2"));
    ut_plan_free(p);
}

/* ---- Placement ------------------------------------------------------------------------------ */

static size_t tensor_bytes(const ut_tensor *t, int32_t n_slots, int32_t n_t)
{
    return (size_t)n_slots * (size_t)(ut_tensor_rows(t, n_t) + t->lead) * (size_t)t->cols * 4;
}

/* A chain with residuals of random reach; then: does any op's result overlap an operand of it or
 * of a later op that was made earlier? */
static void tensors_alive_together_never_overlap(void **state)
{
    (void)state;
    const ut_weight w = matrix(16, 16);
    srand(7);
    for (int round = 0; round < 50; round++) {
        ut_plan *p = ut_plan_new("t", NULL, NULL);
        ut_tid t[40] = {ut_plan_input(p, "x", UT_F32, 1, 0, 16)};
        for (int i = 1; i < 40; i++)
            t[i] = ut_op_matmul(p, t[i - 1], &w, t[rand() % i]);
        ut_plan_output(p, t[39], "y");
        ut_err err = {0};
        assert_int_equal(ut_plan_finish(p, &err), UTTER_OK);
        size_t offset[64], bytes;
        assert_int_equal(ut_plan_place(p, 2, 5, offset, &bytes, &err), UTTER_OK);
        int last[40];
        for (int i = 0; i < 40; i++) {
            last[i] = i == 0 || i == 39 ? 39 : i;
            for (int o = 0; o < p->n_ops; o++)
                if (p->ops[o].in[0] == t[i] || p->ops[o].in[1] == t[i])
                    last[i] = last[i] > o + 1 ? last[i] : o + 1;
        }
        for (int i = 0; i < 40; i++)
            for (int j = 0; j < i; j++) {
                const size_t n = tensor_bytes(&p->tensors[t[i]], 2, 5);
                const bool apart =
                    offset[t[i]] + n <= offset[t[j]] || offset[t[j]] + n <= offset[t[i]];
                assert_true(last[j] < i || apart);
                assert_true(offset[t[i]] + n <= bytes && offset[t[i]] % 64 == 0);
            }
        ut_plan_free(p);
    }
}

static void memory_is_reused(void **state)
{
    (void)state;
    const ut_weight w = matrix(16, 16);
    ut_plan *p = ut_plan_new("t", NULL, NULL);
    ut_tid x = ut_plan_input(p, "x", UT_F32, 1, 0, 16);
    for (int i = 0; i < 100; i++)
        x = ut_op_matmul(p, x, &w, UT_NONE);
    ut_plan_output(p, x, "y");
    ut_err err = {0};
    assert_int_equal(ut_plan_finish(p, &err), UTTER_OK);
    size_t offset[128], bytes;
    assert_int_equal(ut_plan_place(p, 1, 8, offset, &bytes, &err), UTTER_OK);
    assert_true(bytes <= 4 * 8 * 16 * sizeof(float)); /* input, output, and two that take turns */
    ut_plan_free(p);
}

/* A backend says: c takes the place of its residual a, b is narrow, and nobody needs it in longer
 * runs. */
static void memory_is_what_a_backend_keeps(void **state)
{
    (void)state;
    const ut_weight w = matrix(16, 16);
    ut_plan *p = ut_plan_new("t", NULL, NULL);
    const ut_tid x = ut_plan_input(p, "x", UT_F32, 1, 0, 16);
    const ut_tid a = ut_op_matmul(p, x, &w, UT_NONE), b = ut_op_matmul(p, a, &w, UT_NONE);
    const ut_tid c = ut_op_matmul(p, b, &w, a), y = ut_op_matmul(p, c, &w, UT_NONE);
    ut_plan_output(p, y, "y");
    ut_err err = {0};
    assert_int_equal(ut_plan_finish(p, &err), UTTER_OK);
    const ut_op_time when[] = {{0, 0}, {1, 1}, {2, 2}, {3, 3}};
    ut_kept kept[8];
    for (ut_tid t = 0; t < p->n_tensors; t++)
        kept[t] = (ut_kept){UT_F32, 8, UT_NONE};
    kept[b].dtype = UT_BF16;
    kept[c].onto = a;
    const int32_t longest[] = {8, 2, 0};
    const size_t of_b[] = {256, 64, 0}, row = 16 * sizeof(float);
    for (int i = 0; i < 3; i++) {
        size_t offset[8], bytes;
        kept[b].max_t = longest[i];
        assert_int_equal(ut_plan_place_kept(p, when, kept, 1, 8, offset, &bytes, &err), UTTER_OK);
        assert_int_equal(offset[c], offset[a]);
        assert_int_equal(bytes, 3 * 8 * row + of_b[i]);
    }
    ut_plan_free(p);
}

static void sizes_that_overflow_are_refused(void **state)
{
    (void)state;
    ut_plan *p = ut_plan_new("t", NULL, NULL);
    const ut_tid x = ut_plan_input(p, "x", UT_F32, INT32_MAX, 0, INT32_MAX);
    (void)x;
    ut_err err = {0};
    size_t offset[4], bytes;
    assert_int_equal(ut_plan_place(p, INT32_MAX, INT32_MAX, offset, &bytes, &err), UTTER_ERR_LIMIT);
    ut_plan_free(p);
}

static void every_failed_allocation_is_reported(void **state)
{
    (void)state;
    const ut_weight w = matrix(16, 16);
    bool done = false;
    for (uint64_t n = 1; !done; n++) {
        ut_alloc_fail_at(n);
        ut_plan *p = ut_plan_new("t", NULL, NULL);
        if (!p)
            continue;
        ut_tid x = ut_plan_input(p, "x", UT_F32, 1, 0, 16);
        for (int i = 0; i < 300; i++)
            x = ut_op_matmul(p, x, &w, UT_NONE);
        ut_err err = {0};
        const utter_status st = ut_plan_finish(p, &err);
        done = st == UTTER_OK;
        assert_true(done || st == UTTER_ERR_NOMEM);
        ut_plan_free(p);
    }
    ut_alloc_fail_at(0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(shapes_follow_from_operands),
        cmocka_unit_test(wrong_shapes_are_named),
        cmocka_unit_test(wrong_operands_of_signals_are_named),
        cmocka_unit_test(the_first_failure_is_kept),
        cmocka_unit_test(reading_before_writing_is_found),
        cmocka_unit_test(convolutions_need_their_history),
        cmocka_unit_test(views_see_the_history_in_their_rows),
        cmocka_unit_test(taps_become_outputs),
        cmocka_unit_test(tensors_alive_together_never_overlap),
        cmocka_unit_test(memory_is_reused),
        cmocka_unit_test(memory_is_what_a_backend_keeps),
        cmocka_unit_test(sizes_that_overflow_are_refused),
        cmocka_unit_test(every_failed_allocation_is_reported),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
