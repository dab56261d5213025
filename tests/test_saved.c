/* test_saved.c - rows of states that a backend puts aside and brings back. The first argument is
 * the name of a backend (default: cpu). */
#include "backends/backend.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

static const char *backend_name = "cpu";

static void rows_come_back_in_any_slot(void **state)
{
    (void)state;
    enum { ROWS = 40, COLS = 24, KEPT = 17 };
    static const ut_backend_params params = {.threads = 1, .precision = UT_PRECISION_F32};
    static float wrote[3][ROWS][COLS], got[ROWS][COLS];
    static const float other[ROWS][COLS];
    ut_err err = {0};
    ut_backend *b;
    ut_state *from, *to;
    ut_saved *saved;
    ut_state_set set = {0};
    for (int i = 0; i < 3; i++)
        ut_state_set_add(&set, "rows", UT_F32, i == 1 ? 5 : ROWS, COLS);
    set.def[0].keep = set.def[2].keep = true;
    for (int i = 0; i < 3 * ROWS * COLS; i++)
        (&wrote[0][0][0])[i] = (float)(i + 1);
    assert_int_equal(ut_backend_open(&b, backend_name, &params, &err), UTTER_OK);
    assert_int_equal(b->ops->state_new(b, &set, 3, &from, &err), UTTER_OK);
    assert_int_equal(b->ops->state_new(b, &set, 2, &to, &err), UTTER_OK);
    for (int i = 0; i < 3; i++)
        b->ops->state_write(from, i, 2, 0, set.def[i].rows, wrote[i]);
    assert_int_equal(b->ops->save(from, 2, 1, 2, KEPT, &saved, &err), UTTER_OK);
    assert_true(saved->bytes >= (5 + KEPT) * COLS * sizeof(float));
    for (int i = 0; i < 3; i++)
        b->ops->state_write(from, i, 2, 0, set.def[i].rows, other);
    b->ops->state_free(from);
    for (int i = 0; i < 3; i++)
        b->ops->state_write(to, i, 1, 0, set.def[i].rows, other);
    b->ops->load(to, 1, saved);
    b->ops->load(to, 0, saved);
    b->ops->saved_free(saved);
    b->ops->saved_free(NULL);
    for (int slot = 0; slot < 2; slot++) {
        b->ops->state_read(to, 1, slot, 0, 5, got);
        assert_memory_equal(got, wrote[1], 5 * sizeof *got);
        b->ops->state_read(to, 2, slot, 0, ROWS, got);
        assert_memory_equal(got, wrote[2], KEPT * sizeof *got);
    }
    assert_memory_equal(got[KEPT], other, sizeof *got); /* slot 1, behind the rows */
    b->ops->state_read(to, 0, 1, 0, ROWS, got);
    assert_memory_equal(got, other, sizeof got); /* not among the tensors */
    b->ops->state_free(to);
    b->ops->close(b);
}

int main(int argc, char **argv)
{
    if (argc > 1)
        backend_name = argv[1];
    const ut_backend_ops *ops;
    ut_err err = {0};
    if (ut_backend_find(&ops, backend_name, 0, &err) != UTTER_OK) {
        printf("skipped: no %s device: %s\n", strcmp(backend_name, "cuda") ? backend_name : "CUDA",
               err.msg);
        return 0;
    }
    const struct CMUnitTest tests[] = {cmocka_unit_test(rows_come_back_in_any_slot)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
