/* test_kernels_act.c - activations, scaled rows and the rotation of halves against double
 * references; rows alone equal rows together. */
#include "kernel_check.h"
#include "base/alloc.h"
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <cmocka.h>

static const int32_t widths[] = {1, 2, 7, 8, 9, 15, 16, 17, 31, 33, 64, 65, 127, 128, 1031};
enum { N_WIDTHS = sizeof widths / sizeof widths[0], ROWS = 3 };

static double reference(ut_act act, double x)
{
    switch (act) {
    case UT_ACT_GELU:
        return x / 2 * (1 + erf(x / sqrt(2)));
    case UT_ACT_TANH:
        return tanh(x);
    case UT_ACT_SILU:
        return x / (1 + exp(-x));
    case UT_ACT_SIGMOID:
        return 1 / (1 + exp(-x));
    case UT_ACT_RELU:
        return x > 0 ? x : 0;
    case UT_ACT_ELU:
        return x > 0 ? x : expm1(x);
    case UT_ACT_CLAMP:
        return fmin(fmax(x, -1), 1);
    default:
        return x;
    }
}

static const ut_act acts[] = {UT_ACT_NONE,    UT_ACT_GELU, UT_ACT_TANH, UT_ACT_SILU,
                              UT_ACT_SIGMOID, UT_ACT_RELU, UT_ACT_ELU,  UT_ACT_CLAMP};
enum { N_ACTS = sizeof acts / sizeof acts[0] };

static void test_act(void **state)
{
    ut_kernels k[N_VARIANTS];
    const int n_k = variants(k);
    (void)state;
    for (int v = 0; v < n_k; v++)
        for (int i = 0; i < N_WIDTHS * N_ACTS; i++) {
            const int32_t n = widths[i / N_ACTS];
            const ut_act act = acts[i % N_ACTS];
            guarded x = guarded_new((size_t)n, 1), y = guarded_new((size_t)n, 2);
            random_fill(x.data, x.n, i % 3 == 0 ? 120.0f : 5.0f);
            if (n > 2)
                x.data[1] = 0.0f;
            k[v].act(y.data, x.data, act, n);
            guarded_check(&y);
            for (int32_t j = 0; j < n; j++) {
                const double want = reference(act, (double)x.data[j]);
                check_near((double)y.data[j], want, 6 * EPS * fmax(fabs(want), 0.2), "act", j);
            }
            for (int32_t j = 0; j < n; j++) { /* alone, in place */
                float one = x.data[j];
                k[v].act(&one, &one, act, 1);
                check_bits(&one, &y.data[j], 1, "act alone");
            }
            guarded_free(&x);
            guarded_free(&y);
        }
}

/* The linear kernel ends with the same functions. */
static void test_act_of_linear(void **state)
{
    ut_kernels k[N_VARIANTS];
    const int n_k = variants(k);
    (void)state;
    for (int v = 0; v < n_k; v++)
        for (int a = 0; a < N_ACTS; a++) {
            enum { OUT = 19 };
            const int32_t panel = k[v].panel, n_panels = (OUT + panel - 1) / panel;
            float *w = ut_alloc_aligned((size_t)(n_panels * panel) * sizeof *w);
            guarded plain = guarded_new(OUT, 1), y = guarded_new(OUT, 0),
                    want = guarded_new(OUT, 2);
            const float x = random_float(-3.0f, 3.0f);
            random_fill(w, (size_t)(n_panels * panel), 2.0f);
            ut_linear_job j = {.x = &x,
                               .x_stride = 1,
                               .seg = 1,
                               .n_seg = 1,
                               .w = w,
                               .n_out = OUT,
                               .y = plain.data};
            k[v].linear[UT_PACK_F32](&j, 0, 1, 0, n_panels);
            j.y = y.data;
            j.act = acts[a];
            k[v].linear[UT_PACK_F32](&j, 0, 1, 0, n_panels);
            k[v].act(want.data, plain.data, acts[a], OUT);
            check_bits(y.data, want.data, OUT, "activation of a linear");
            guarded_free(&plain);
            guarded_free(&y);
            guarded_free(&want);
            ut_free_aligned(w);
        }
}

static void test_scale(void **state)
{
    ut_kernels k[N_VARIANTS];
    const int n_k = variants(k);
    (void)state;
    for (int v = 0; v < n_k; v++)
        for (int i = 0; i < N_WIDTHS; i++) {
            const int32_t c = widths[i];
            const size_t n = (size_t)(ROWS * c);
            guarded x = guarded_new(n, 1), r = guarded_new(n, 3), gain = guarded_new((size_t)c, 2);
            guarded y = guarded_new(n, 0), alone = guarded_new(n, 1);
            random_fill(x.data, n, 2.0f);
            random_fill(r.data, n, 2.0f);
            random_fill(gain.data, gain.n, 2.0f);
            const float *residual = i % 2 ? r.data : NULL;
            k[v].scale(y.data, x.data, gain.data, residual, ROWS, c);
            for (int32_t j = 0; j < ROWS * c; j++) {
                const double p = (double)x.data[j] * (double)gain.data[j % c];
                const double add = residual ? (double)residual[j] : 0;
                check_near((double)y.data[j], add + p, 2 * EPS * (fabs(p) + fabs(add)), "scale", j);
            }
            for (int32_t row = 0; row < ROWS; row++)
                k[v].scale(alone.data + row * c, x.data + row * c, gain.data,
                           residual ? residual + row * c : NULL, 1, c);
            check_bits(y.data, alone.data, n, "scale");
            guarded *all[] = {&x, &r, &gain, &y, &alone};
            for (int g = 0; g < 5; g++)
                guarded_free(all[g]);
        }
}

static void test_rotate_halves(void **state)
{
    ut_kernels k[N_VARIANTS];
    const int n_k = variants(k);
    (void)state;
    for (int v = 0; v < n_k; v++)
        for (int i = 0; i < N_WIDTHS; i++) {
            const int32_t half = (widths[i] + 1) / 2, dim = 2 * half;
            guarded x = guarded_new((size_t)dim, 1), y = guarded_new((size_t)dim, 2);
            guarded g = guarded_new((size_t)dim, 3), turn = guarded_new((size_t)dim, 0);
            random_fill(x.data, x.n, 2.0f);
            random_fill(g.data, g.n, 2.0f);
            for (int32_t j = 0; j < half; j++) {
                const double angle = (double)random_float(-50.0f, 50.0f);
                turn.data[j] = (float)cos(angle);
                turn.data[half + j] = (float)sin(angle);
            }
            const float *gain = i % 2 ? g.data : NULL;
            k[v].rotate_halves(y.data, x.data, gain, 1e-6f, turn.data, dim);
            guarded_check(&y);
            double s = 0;
            for (int32_t j = 0; j < dim; j++)
                s += (double)x.data[j] * (double)x.data[j];
            s = 1 / sqrt(s / dim + (double)1e-6f);
            for (int32_t j = 0; j < half; j++) {
                double a = (double)x.data[j], b = (double)x.data[half + j];
                if (gain) {
                    a *= s * (double)gain[j];
                    b *= s * (double)gain[half + j];
                }
                const double c = (double)turn.data[j], sn = (double)turn.data[half + j];
                const double bound = (dim + 8) * EPS * (fabs(a) + fabs(b));
                check_near((double)y.data[j], a * c - b * sn, bound, "rotate_halves", j);
                check_near((double)y.data[half + j], b * c + a * sn, bound, "rotate_halves", j);
            }
            k[v].rotate_halves(x.data, x.data, gain, 1e-6f, turn.data, dim);
            check_bits(y.data, x.data, (size_t)dim, "rotate_halves in place");
            guarded *all[] = {&x, &y, &g, &turn};
            for (int q = 0; q < 4; q++)
                guarded_free(all[q]);
        }
}

int run_act_tests(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_act),
        cmocka_unit_test(test_act_of_linear),
        cmocka_unit_test(test_scale),
        cmocka_unit_test(test_rotate_halves),
    };
    return cmocka_run_group_tests_name("activations", tests, NULL, NULL);
}
