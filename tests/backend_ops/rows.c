/* rows.c - norms and what goes element by element. */
#include "fixture.h"
#include <stdio.h>

static void test_rowwise(int32_t cols)
{
    static const char *const names[] = {"rms_norm", "layer_norm", "swiglu",
                                        "snake",    "snake_beta", "scale"};
    for (int kind = 0; kind < 6; kind++) {
        test_case c;
        char name[64];
        snprintf(name, sizeof name, "%s %d", names[kind], (int)cols);
        ut_plan *p = begin(&c, name, 5);
        const int32_t width = kind == 2 ? 2 * cols : cols;
        const ut_tid x = ut_plan_input(p, "x", UT_F32, 2, 0, width);
        const ut_weight *w = vector(&c, cols, 2.0f);
        const ut_tid y = kind == 0   ? ut_op_rms_norm(p, x, w, 1e-6f)
                         : kind == 1 ? ut_op_layer_norm(p, x, w, vector(&c, cols, 1.0f), 1e-6f)
                         : kind == 2 ? ut_op_swiglu(p, x)
                         : kind == 3 ? ut_op_snake(p, x, w)
                         : kind == 4
                             ? ut_op_snake_beta(p, x, w, weight_between(&c, cols, 0.5f, 2.0f))
                             : ut_op_scale(p, x, ut_plan_input(p, "gain", UT_F32, 0, 1, cols), x);
        ut_plan_output(p, y, "y");
        test(&c);
    }
}

static void test_acts(void)
{
    for (int act = UT_ACT_NONE; act <= UT_ACT_CLAMP; act++) {
        if (act == UT_ACT_SNAKE)
            continue;
        test_case c;
        char name[64];
        snprintf(name, sizeof name, "act %d", act);
        ut_plan *p = begin(&c, name, 5);
        const ut_tid x = ut_plan_input(p, "x", UT_F32, 2, 0, 67);
        ut_plan_output(p, ut_op_act(p, x, (ut_act)act), "y");
        ut_plan_output(p, ut_op_scale(p, x, ut_plan_input(p, "gain", UT_F32, 0, 1, 67), UT_NONE),
                       "z");
        test(&c);
    }
}

void test_rows(void)
{
    test_rowwise(1);
    test_rowwise(37);
    test_rowwise(1024);
    test_acts();
}
