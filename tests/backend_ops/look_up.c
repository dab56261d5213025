/* look_up.c - tables, copies, rings. */
#include "fixture.h"

static void test_embed(ut_dtype type, float scale, int32_t n_ids, int32_t dim)
{
    test_case c;
    ut_plan *p = begin(&c, "embed_sum", 6);
    const ut_tid ids = ut_plan_input(p, "ids", UT_I32, 1, 0, n_ids);
    const ut_weight *e = weight(&c, 16, dim, type, 1.0f);
    const ut_weight *ce = weight(&c, (n_ids - 1) * 16, dim, type, 1.0f);
    ut_plan_output(p, ut_op_embed_sum(p, ids, e, ce, 4, 11, 16, scale), "y");
    test(&c);
}

static void test_gather(ut_dtype type, int32_t dim)
{
    static const int32_t sizes[] = {5, 16, 3};
    test_case c;
    ut_plan *p = begin(&c, "gather, copies", 6);
    const ut_tid ids = ut_plan_input(p, "ids", UT_I32, 1, 0, 4);
    const ut_tid y = ut_op_gather(p, ids, weight(&c, 24, dim, type, 1.0f), 1, 3, sizes);
    ut_plan_output(p, y, "y");
    const ut_tid fixed = ut_plan_input(p, "fixed", UT_I32, 0, 1, 2);
    const ut_tid blank = ut_op_blank(p, 3, dim);
    const ut_tid rows = ut_plan_input(p, "rows", UT_F32, 0, 2, dim);
    ut_op_gather_into(p, blank, 1, fixed, weight(&c, 12, dim, type, 1.0f), 1, 1, &(int32_t){12});
    ut_op_copy_into(p, blank, 0, rows, 1, 1);
    ut_op_copy_into(p, blank, 2, rows, -2, 1);
    ut_plan_output(p, ut_op_rms_norm(p, blank, vector(&c, dim, 1.0f), 1e-6f), "z");
    test(&c);
}

static void test_gather_sum(ut_dtype type, bool all, int32_t n_cols, int32_t dim)
{
    static const int32_t sizes[] = {5, 16, 3, 4, 9, 2, 8, 1, 7};
    test_case c;
    ut_plan *p = begin(&c, all ? "gather_sum with all" : "gather_sum", 6);
    c.id_first = -4;
    int32_t rows = 0;
    for (int32_t i = 0; i < n_cols; i++)
        rows += sizes[i];
    const ut_tid ids = ut_plan_input(p, "ids", UT_I32, 1, 0, n_cols + 1);
    const ut_tid residual = all ? ut_plan_input(p, "residual", UT_F32, 1, 0, dim) : UT_NONE;
    const ut_tid extra = all ? ut_plan_input(p, "extra", UT_F32, 0, 1, dim) : UT_NONE;
    ut_plan_output(p,
                   ut_op_gather_sum(p, ids, weight(&c, rows, dim, type, 1.0f), 1, n_cols, sizes,
                                    all ? 0.75f : 1.0f, residual, extra),
                   "y");
    test(&c);
}

static void test_copy_cols(void)
{
    test_case c;
    ut_plan *p = begin(&c, "copy_cols", 6);
    const ut_tid x = ut_plan_input(p, "x", UT_F32, 2, 0, 13);
    const ut_tid one = ut_plan_input(p, "one", UT_F32, 0, 1, 9);
    const ut_tid y = ut_op_blank_like(p, x, 20);
    ut_op_copy_cols(p, y, 0, x, 2, 11, false);
    ut_op_copy_cols(p, y, 11, one, 0, 9, false);
    ut_op_copy_cols(p, y, 3, one, 4, 5, true);
    ut_op_copy_cols(p, y, 8, x, 0, 12, true);
    ut_plan_output(p, ut_op_act(p, y, UT_ACT_NONE), "y");
    test(&c);
}

static void set_ring(const ut_backend_ops *ops, ut_state *s, int slot, int role)
{
    int32_t rows[5][3];
    for (int i = 0; i < 15; i++)
        rows[i / 3][i % 3] = 100 * role + i;
    ops->state_write(s, 0, slot, 0, 5, rows);
}

static void test_ring_get(void)
{
    test_case c;
    ut_plan *p = begin(&c, "ring_get", 1);
    c.prepare = set_ring;
    const int ring = ut_state_set_add(&c.states, "ring", UT_I32, 5, 3);
    const int counter = ut_state_set_add(&c.states, "counter", UT_I32, 1, 1);
    static const char *const names[] = {"y0", "y1", "y2", "y3"};
    for (int i = 0; i < 4; i++) {
        ut_plan_output(
            p, ut_op_ring_get(p, ut_plan_state(p, ring), ut_plan_state(p, counter), -2, 7 * i),
            names[i]);
        ut_op_advance(p, ut_plan_state(p, counter), 3, 0);
    }
    test(&c);
}

static void test_last_row(void)
{
    test_case c;
    ut_plan *p = begin(&c, "last_row", 4);
    const ut_tid x = ut_plan_input(p, "x", UT_F32, 3, 0, 11);
    ut_plan_output(p, ut_op_rms_norm(p, ut_op_last_row(p, x), vector(&c, 11, 1.0f), 1e-6f), "y");
    test(&c);
}

void test_look_ups(void)
{
    test_embed(UT_F32, 1.0f, 4, 37);
    test_embed(UT_BF16, 0.5f, 4, 37);
    test_embed(UT_BF16, 0.5f, 8, 48); /* in groups */
    test_gather(UT_F32, 9);
    test_gather(UT_F16, 9);
    test_gather(UT_F32, 20);
    test_gather(UT_BF16, 2056);
    test_gather(UT_F16, 40);
    test_gather_sum(UT_F32, false, 3, 300);
    test_gather_sum(UT_BF16, true, 3, 300);
    test_gather_sum(UT_BF16, true, 9, 304);
    test_gather_sum(UT_BF16, false, 5, 2088);
    test_copy_cols();
    test_ring_get();
    test_last_row();
}
