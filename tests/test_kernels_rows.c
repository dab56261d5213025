/* test_kernels_rows.c - norms, activations, rotation, depthwise convolution, conversions and
 * reductions against double references; rows alone equal rows together. */
#include "kernel_check.h"
#include "base/half.h"
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <cmocka.h>

static const int32_t widths[] = {1,  2,  7,  8,  9,   15,  16,   17,  31,
                                 33, 64, 65, 96, 127, 128, 1024, 1031};
enum { N_WIDTHS = sizeof widths / sizeof widths[0], ROWS = 5 };

/* Operands of one case: x and y [ROWS, cols], two vectors of cols. */
typedef struct operands {
    int32_t cols;
    guarded x, y, alone, w, b;
} operands;

static operands operands_new(int32_t cols, int32_t x_cols, float scale)
{
    operands o = {.cols = cols};
    o.x = guarded_new((size_t)ROWS * (size_t)x_cols, random_int(0, 3));
    o.y = guarded_new((size_t)ROWS * (size_t)cols, random_int(0, 3));
    o.alone = guarded_new(o.y.n, random_int(0, 3));
    o.w = guarded_new((size_t)cols, 1);
    o.b = guarded_new((size_t)cols, 2);
    random_fill(o.x.data, o.x.n, scale);
    random_fill(o.w.data, o.w.n, 2.0f);
    random_fill(o.b.data, o.b.n, 2.0f);
    return o;
}

static void operands_free(operands *o)
{
    guarded *all[] = {&o->x, &o->y, &o->alone, &o->w, &o->b};
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++)
        guarded_free(all[i]);
}

#define FOR_CASES                                                                                  \
    ut_kernels k[N_VARIANTS];                                                                      \
    const int n_k = variants(k);                                                                   \
    (void)state;                                                                                   \
    for (int v = 0; v < n_k; v++)                                                                  \
        for (int i = 0; i < N_WIDTHS; i++)

static void test_rms_norm(void **state)
{
    FOR_CASES
    {
        const int32_t c = widths[i];
        operands o = operands_new(c, c, i % 2 ? 1.0f : 1e-4f);
        k[v].rms_norm(o.y.data, o.x.data, o.w.data, 1e-6f, ROWS, c);
        for (int32_t r = 0; r < ROWS; r++) {
            const float *x = o.x.data + r * c;
            double s = 0;
            for (int32_t j = 0; j < c; j++)
                s += (double)x[j] * (double)x[j];
            s = 1 / sqrt(s / c + (double)1e-6f);
            for (int32_t j = 0; j < c; j++) {
                const double want = (double)x[j] * s * (double)o.w.data[j];
                check_near((double)o.y.data[r * c + j], want, (c + 8) * EPS * fabs(want) + 1e-37,
                           "rms_norm", r * c + j);
            }
            k[v].rms_norm(o.alone.data + r * c, x, o.w.data, 1e-6f, 1, c);
        }
        check_bits(o.y.data, o.alone.data, o.y.n, "rms_norm");
        k[v].rms_norm(o.x.data, o.x.data, o.w.data, 1e-6f, ROWS, c);
        check_bits(o.y.data, o.x.data, o.y.n, "rms_norm in place");
        operands_free(&o);
    }
}

static void test_layer_norm(void **state)
{
    FOR_CASES
    {
        const int32_t c = widths[i];
        operands o = operands_new(c, c, 3.0f);
        k[v].layer_norm(o.y.data, o.x.data, o.w.data, o.b.data, 1e-6f, ROWS, c);
        for (int32_t r = 0; r < ROWS; r++) {
            const float *x = o.x.data + r * c;
            double mean = 0, var = 0;
            for (int32_t j = 0; j < c; j++)
                mean += (double)x[j] / c;
            for (int32_t j = 0; j < c; j++)
                var += ((double)x[j] - mean) * ((double)x[j] - mean) / c;
            const double s = 1 / sqrt(var + (double)1e-6f);
            for (int32_t j = 0; j < c; j++) {
                const double d = ((double)x[j] - mean) * s * (double)o.w.data[j];
                /* the mean is off by up to c eps 3, the scale by a relative c eps */
                const double bound = (c + 8) * EPS * (3 * s * 2 + fabs(d)) + 4 * EPS * 2;
                check_near((double)o.y.data[r * c + j], d + (double)o.b.data[j], bound,
                           "layer_norm", r * c + j);
            }
            k[v].layer_norm(o.alone.data + r * c, x, o.w.data, o.b.data, 1e-6f, 1, c);
        }
        check_bits(o.y.data, o.alone.data, o.y.n, "layer_norm");
        operands_free(&o);
    }
}

static void test_swiglu(void **state)
{
    FOR_CASES
    {
        const int32_t c = widths[i];
        operands o = operands_new(c, 2 * c, i % 3 == 0 ? 120.0f : 6.0f);
        k[v].swiglu(o.y.data, o.x.data, ROWS, c);
        for (int32_t r = 0; r < ROWS; r++) {
            const float *x = o.x.data + r * 2 * c;
            for (int32_t j = 0; j < c; j++) {
                const double g = (double)x[j] / (1 + exp(-(double)x[j]));
                const double want = g * (double)x[c + j];
                check_near((double)o.y.data[r * c + j], want, 6 * EPS * fabs(want) + 1e-33,
                           "swiglu", r * c + j);
            }
            k[v].swiglu(o.alone.data + r * c, x, 1, c);
        }
        check_bits(o.y.data, o.alone.data, o.y.n, "swiglu");
        operands_free(&o);
    }
}

static void test_snake(void **state)
{
    FOR_CASES
    {
        const int32_t c = widths[i];
        operands o = operands_new(c, c, i % 2 ? 4.0f : 3000.0f);
        for (int32_t j = 0; j < c; j++) {
            o.w.data[j] = random_float(0.05f, 3.0f);
            o.b.data[j] = 1.0f / (o.w.data[j] + 1e-9f);
        }
        k[v].snake(o.y.data, o.x.data, o.w.data, o.b.data, ROWS, c);
        for (int32_t r = 0; r < ROWS; r++) {
            const float *x = o.x.data + r * c;
            for (int32_t j = 0; j < c; j++) {
                const float angle = o.w.data[j] * x[j]; /* rounded: the kernel's sine is exact */
                const double s = sin((double)angle), t = s * s * (double)o.b.data[j];
                check_near((double)o.y.data[r * c + j], (double)x[j] + t,
                           EPS * (fabs((double)x[j]) + 8 * (double)o.b.data[j]), "snake",
                           r * c + j);
            }
            k[v].snake(o.alone.data + r * c, x, o.w.data, o.b.data, 1, c);
        }
        check_bits(o.y.data, o.alone.data, o.y.n, "snake");
        operands_free(&o);
    }
}

static void test_dwconv(void **state)
{
    FOR_CASES
    {
        const int32_t c = widths[i], taps = random_int(1, 9), rows = ROWS - 1;
        guarded x = guarded_new((size_t)(rows + taps - 1) * (size_t)c, 1);
        guarded w = guarded_new((size_t)taps * (size_t)c, 3), b = guarded_new((size_t)c, 0);
        guarded y = guarded_new((size_t)rows * (size_t)c, 2), alone = guarded_new(y.n, 0);
        random_fill(x.data, x.n, 1.0f);
        random_fill(w.data, w.n, 1.0f);
        random_fill(b.data, b.n, 1.0f);
        k[v].dwconv(y.data, x.data, w.data, b.data, rows, c, taps);
        for (int32_t r = 0; r < rows; r++) {
            for (int32_t j = 0; j < c; j++) {
                double want = (double)b.data[j], size = fabs(want);
                for (int32_t t = 0; t < taps; t++) {
                    const double p = (double)x.data[(r + t) * c + j] * (double)w.data[t * c + j];
                    want += p;
                    size += fabs(p);
                }
                check_near((double)y.data[r * c + j], want, (taps + 4) * EPS * size, "dwconv",
                           r * c + j);
            }
            k[v].dwconv(alone.data + r * c, x.data + r * c, w.data, b.data, 1, c, taps);
        }
        check_bits(y.data, alone.data, y.n, "dwconv");
        guarded *all[] = {&x, &w, &b, &y, &alone};
        for (int g = 0; g < 5; g++)
            guarded_free(all[g]);
    }
}

static void test_rotate_head(void **state)
{
    FOR_CASES
    {
        const int32_t dim = widths[i] + widths[i] % 2;
        operands o = operands_new(dim, dim, 2.0f);
        const float *gain = i % 2 ? o.w.data : NULL;
        for (int32_t j = 0; j < dim; j += 2) {
            const double angle = (double)random_float(-50.0f, 50.0f);
            o.b.data[j] = (float)cos(angle);
            o.b.data[j + 1] = (float)sin(angle);
        }
        k[v].rotate_head(o.y.data, o.x.data, gain, 1e-6f, o.b.data, dim);
        double s = 0;
        for (int32_t j = 0; j < dim; j++)
            s += (double)o.x.data[j] * (double)o.x.data[j];
        s = 1 / sqrt(s / dim + (double)1e-6f);
        for (int32_t j = 0; j < dim; j += 2) {
            double x0 = (double)o.x.data[j], x1 = (double)o.x.data[j + 1];
            if (gain) {
                x0 *= s * (double)gain[j];
                x1 *= s * (double)gain[j + 1];
            }
            const double c = (double)o.b.data[j], sn = (double)o.b.data[j + 1];
            const double bound = (dim + 8) * EPS * (fabs(x0) + fabs(x1));
            check_near((double)o.y.data[j], x0 * c - x1 * sn, bound, "rotate_head", j);
            check_near((double)o.y.data[j + 1], x1 * c + x0 * sn, bound, "rotate_head", j + 1);
        }
        k[v].rotate_head(o.x.data, o.x.data, gain, 1e-6f, o.b.data, dim);
        check_bits(o.y.data, o.x.data, (size_t)dim, "rotate_head in place");
        operands_free(&o);
    }
}

static void test_to_bf16(void **state)
{
    FOR_CASES
    {
        const int32_t n = widths[i];
        float x[1031];
        uint16_t y[1033];
        for (int32_t j = 0; j < n; j++) {
            const uint32_t bits =
                j % 7 == 0 ? 0x7f800000u | (random_bits() & 0x807fffffu) : random_bits();
            memcpy(&x[j], &bits, 4);
        }
        memset(y, 0xa5, sizeof y);
        k[v].to_bf16(y + 1, x, n);
        assert_int_equal(y[0], 0xa5a5);
        assert_int_equal(y[n + 1], 0xa5a5);
        for (int32_t j = 0; j < n; j++)
            assert_int_equal(y[j + 1], ut_f32_to_bf16(x[j]));
    }
}

static void test_reductions(void **state)
{
    FOR_CASES
    {
        const int32_t n = widths[i];
        guarded x = guarded_new((size_t)n, 1), y = guarded_new((size_t)n, 2);
        random_fill(x.data, x.n, 30.0f);
        float max = x.data[0];
        for (int32_t j = 1; j < n; j++)
            max = x.data[j] > max ? x.data[j] : max;
        assert_true(k[v].max(x.data, n) == max);
        double want = 0;
        const float total = k[v].exp_sum(y.data, x.data, max, 0.5f, n);
        for (int32_t j = 0; j < n; j++) {
            const double e = exp((double)((x.data[j] - max) * 0.5f));
            want += e;
            assert_true(ulps(y.data[j], e) <= 2.0);
        }
        check_near((double)total, want, (n + 4) * EPS * want, "exp_sum", 0);
        guarded_free(&x);
        guarded_free(&y);
    }
}

static void test_exp_range(void **state)
{
    ut_kernels k[N_VARIANTS];
    const int n_k = variants(k);
    (void)state;
    const float x[] = {0.0f,   -0.0f,    88.3f,    88.5f,     1000.0f, -87.3f,
                       -87.4f, -1000.0f, INFINITY, -INFINITY, NAN};
    enum { N = sizeof x / sizeof x[0] };
    for (int v = 0; v < n_k; v++) {
        float y[N];
        k[v].exp_sum(y, x, 0.0f, 1.0f, N);
        assert_true(y[0] == 1.0f && y[1] == 1.0f);
        assert_true(ulps(y[2], exp((double)x[2])) <= 2.0 && ulps(y[5], exp((double)x[5])) <= 2.0);
        assert_true(isinf(y[3]) && isinf(y[4]) && isinf(y[8]));
        assert_true(y[6] == 0.0f && y[7] == 0.0f && y[9] == 0.0f);
        assert_true(isnan(y[10]));
    }
}

int run_rows_tests(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rms_norm),  cmocka_unit_test(test_layer_norm),
        cmocka_unit_test(test_swiglu),    cmocka_unit_test(test_snake),
        cmocka_unit_test(test_dwconv),    cmocka_unit_test(test_rotate_head),
        cmocka_unit_test(test_to_bf16),   cmocka_unit_test(test_reductions),
        cmocka_unit_test(test_exp_range),
    };
    return cmocka_run_group_tests_name("rows", tests, NULL, NULL);
}
