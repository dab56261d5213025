/* linear.c - products. */
#include "fixture.h"
#include <math.h>
#include <stdio.h>

static void test_linear(int32_t n_out, int32_t k, ut_dtype type, int32_t rows_per_t,
                        int32_t rows_fixed, ut_act act, bool all)
{
    test_case c;
    char name[96];
    snprintf(name, sizeof name, "linear %dx%d %s rows %dT+%d act %d%s", (int)n_out, (int)k,
             type_names[type], (int)rows_per_t, (int)rows_fixed, (int)act, all ? " all" : "");
    ut_plan *p = begin(&c, name, rows_per_t ? 7 : 1);
    if (type == UT_BF16)
        c.bf16_inputs = true;
    if (ops_packed ? rows_per_t == 0 : type == UT_BF16)
        c.tolerance = 3e-5; /* tensor cores cut off what does not fit into a sum */
    c.alone_differs = type == UT_BF16 && !ops_packed && rows_per_t == 0;
    const ut_tid x = ut_plan_input(p, "x", UT_F32, rows_per_t, rows_fixed, k);
    ut_linear_args a = {
        .w = weight(&c, n_out, k, type, 1.0f / sqrtf((float)k)), .act = act, .residual = UT_NONE};
    if (all) {
        a.bias = vector(&c, n_out, 0.5f);
        a.gamma = vector(&c, n_out, 1.0f);
        a.residual = ut_plan_input(p, "r", UT_F32, rows_per_t, rows_fixed, n_out);
    }
    if (act == UT_ACT_SNAKE)
        a.alpha = vector(&c, n_out, 2.0f);
    if (act == UT_ACT_SNAKE && type != UT_F32)
        a.beta = weight_between(&c, n_out, 0.5f, 2.0f);
    ut_plan_output(p, ut_op_linear(p, x, &a), "y");
    test(&c);
}

/* Gate and up, swiglu, down: on a GPU what the swiglu makes is bf16. */
static void test_gated(int32_t dim, int32_t ffn, int32_t rows)
{
    test_case c;
    char name[96];
    snprintf(name, sizeof name, "gated %d to %d, %d rows", (int)dim, (int)ffn, (int)rows);
    ut_plan *p = begin(&c, name, 7);
    c.bf16_inputs = true;
    c.tolerance = 8e-3;
    const ut_tid x = ut_plan_input(p, "x", UT_F32, rows, 0, dim);
    const ut_linear_args gate_up = {.w = weight(&c, 2 * ffn, dim, UT_BF16, 2 / sqrtf((float)dim)),
                                    .residual = UT_NONE};
    const ut_linear_args down = {.w = weight(&c, 70, ffn, UT_BF16, 1 / sqrtf((float)ffn)),
                                 .residual = UT_NONE};
    const ut_tid y = ut_op_swiglu(p, ut_op_linear(p, x, &gate_up));
    ut_plan_output(p, ut_op_linear(p, y, &down), "y");
    test(&c);
}

/* At the precision bf16 a device may have other kernels for what is heard: of the same numbers. */
void test_bf16_linears(void)
{
    ut_backend *usual = tested;
    ut_err err = {0};
    const ut_backend_params bf16 = {.threads = 2, .precision = UT_PRECISION_BF16};
    check(ut_backend_open(&tested, usual->ops->name, &bf16, &err) == UTTER_OK, "bf16", err.msg);
    if (tested) {
        test_linear(70, 96, UT_BF16, 1, 0, UT_ACT_NONE, true);
        test_linear(200, 530, UT_BF16, 20, 0, UT_ACT_GELU, true);
        test_linear(2900, 72, UT_BF16, 20, 0, UT_ACT_NONE, false); /* large tiles */
        test_linear(80, 1088, UT_BF16, 20, 0, UT_ACT_SNAKE, true);
        test_linear(208, 192, UT_BF16, 16, 0, UT_ACT_NONE, true);
        test_linear(ops_large ? 4176 : 400, 640, UT_BF16, 20, 0, UT_ACT_GELU, true);
        test_gated(128, 520, ops_large ? 200 : 20);
        test_gated(192, 1000, ops_large ? 150 : 16);
        test_gated(40, 72, 20);
        tested->ops->close(tested);
    }
    tested = usual;
}

void test_linears(void)
{
    static const int32_t sizes[][2] = {{1, 1},    {7, 5},     {3, 64},    {64, 64},
                                       {65, 129}, {130, 513}, {40, 1030}, {17, 2080}};
    static const ut_dtype types[] = {UT_F32, UT_BF16, UT_F16};
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++)
        for (int t = 0; t < 3; t++) {
            test_linear(sizes[i][0], sizes[i][1], types[t], 1, 0, UT_ACT_NONE, t == 1);
            test_linear(sizes[i][0], sizes[i][1], types[t], 0, 1 + t, UT_ACT_NONE, t == 2);
        }
    for (int act = UT_ACT_NONE; act <= UT_ACT_CLAMP; act++) {
        test_linear(33, 48, UT_F32, 3, 0, (ut_act)act, true);
        test_linear(33, 48, UT_BF16, 0, 2, (ut_act)act, true);
    }
    test_linear(70, 96, UT_F32, 40, 0, UT_ACT_NONE, true); /* many rows */
    /* more than one tile, odd edges, and parts of K */
    test_linear(200, 530, UT_BF16, 20, 0, UT_ACT_NONE, true);
    test_linear(130, 2080, UT_BF16, 1, 0, UT_ACT_SILU, false);
    test_linear(513, 72, UT_BF16, 23, 5, UT_ACT_NONE, true);
    for (int32_t rows = 3; rows <= 30; rows += rows / 2 + 3) /* of each of the slots */
        test_linear(150, 530, UT_BF16, 0, rows, UT_ACT_GELU, true);
    test_linear(66, 256, UT_BF16, 0, 11, UT_ACT_NONE, false);
    test_linear(20, 3200, UT_BF16, 0, 3, UT_ACT_NONE, true);   /* columns in two turns */
    test_linear(2900, 72, UT_BF16, 20, 0, UT_ACT_NONE, false); /* large tiles */
    test_linear(1104, 1088, UT_BF16, 20, 0, UT_ACT_NONE, true);
    if (ops_large) /* the same of many rows */
        for (int32_t n_out = 1024; n_out <= 4608; n_out += 1792)
            test_linear(n_out, 1088, UT_BF16, 150, 0, UT_ACT_SILU, true);
}
