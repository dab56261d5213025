/* test_kernels_linear.c - the linear kernel: sums against a double reference with a bound that
 * grows with K, activations against libm, and the promise that nothing but a row's own operands
 * decides its bits. */
#include "kernel_check.h"
#include "backends/cpu/packed.h"
#include "base/alloc.h"
#include "base/half.h"
#include "base/os.h"
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

typedef struct problem {
    int32_t rows, seg, n_seg, n_out, dilation;
    ut_dtype stored;
    ut_precision precision;
    bool bias, gamma, residual;
    ut_act act;
    /* operands */
    guarded x, w32, b, g, a, ia, res;
    uint8_t *w_raw; /* stored form, deliberately at an odd address */
    ut_weight weight;
    ut_linear_job job;
} problem;

static int32_t padded(int32_t n)
{
    return (n + 31) / 32 * 32;
}

/* w32 [n_out, k] becomes what the block-wise types keep of it; a row has its own magnitude. */
static void quantise(problem *p, int32_t k)
{
    const int32_t block = p->precision == UT_PRECISION_INT8 ? UT_Q8_BLOCK : UT_Q4_BLOCK;
    int8_t q[UT_Q8_BLOCK];
    for (int32_t o = 0; o < p->n_out; o++)
        for (int32_t k0 = 0; k0 < k; k0 += block) {
            float *w = p->w32.data + (int64_t)o * k + k0;
            const int32_t n = k - k0 < block ? k - k0 : block;
            const uint16_t scale = block == UT_Q8_BLOCK ? ut_q8_pack(q, w, n) : ut_q4_pack(q, w, n);
            for (int32_t i = 0; i < n; i++)
                w[i] = ut_f16_to_f32(scale) * (float)q[i];
        }
}

/* Random operands; w32 holds the exact values of the weights as the kernel keeps them. */
static void problem_init(problem *p)
{
    const int32_t k = p->seg * p->n_seg;
    const size_t n_w = (size_t)k * (size_t)p->n_out, size = p->stored == UT_F32 ? 4 : 2;
    const int64_t lead = (int64_t)(p->n_seg - 1) * p->dilation;
    p->x = guarded_new((size_t)(lead + p->rows) * (size_t)p->seg, random_int(0, 3));
    random_fill(p->x.data, p->x.n, 1.0f);
    p->w32 = guarded_new(n_w, 0);
    random_fill(p->w32.data, n_w, 1.0f);
    p->w_raw = ut_malloc(n_w * size + 1);
    assert_non_null(p->w_raw);
    for (size_t i = 0; i < n_w; i++) {
        float *w = &p->w32.data[i];
        uint16_t h = p->stored == UT_BF16 ? ut_f32_to_bf16(*w) : ut_f32_to_f16(*w);
        if (p->stored == UT_F32) {
            memcpy(p->w_raw + 1 + 4 * i, w, 4);
        } else {
            memcpy(p->w_raw + 1 + 2 * i, &h, 2);
            *w = p->stored == UT_BF16 ? ut_bf16_to_f32(h) : ut_f16_to_f32(h);
        }
    }
    const int32_t cut = p->n_out / 3; /* two parts */
    p->weight =
        (ut_weight){.name = "w", .rows = p->n_out, .cols = k, .least_bits = 4, .n_parts = 1};
    if (p->precision == UT_PRECISION_INT8 || p->precision == UT_PRECISION_INT4)
        quantise(p, k);
    p->weight.part[0] = (ut_weight_part){p->w_raw + 1, p->stored, p->n_out};
    if (cut > 0) {
        p->weight.n_parts = 2;
        p->weight.part[0].rows = cut;
        p->weight.part[1] = (ut_weight_part){p->w_raw + 1 + (size_t)cut * (size_t)k * size,
                                             p->stored, p->n_out - cut};
    }
    guarded *vectors[] = {&p->b, &p->g, &p->a, &p->ia};
    for (int v = 0; v < 4; v++) {
        *vectors[v] = guarded_new((size_t)padded(p->n_out), 0);
        memset(vectors[v]->data, 0, vectors[v]->n * sizeof(float));
        for (int32_t o = 0; o < p->n_out; o++)
            vectors[v]->data[o] = v < 2    ? random_float(-2.0f, 2.0f)
                                  : v == 2 ? random_float(0.1f, 3.0f)
                                           : 1.0f / (p->a.data[o] + 1e-9f);
    }
    p->res = guarded_new((size_t)p->rows * (size_t)p->n_out, 1);
    random_fill(p->res.data, p->res.n, 3.0f);
    p->job = (ut_linear_job){.x = p->x.data,
                             .x_stride = p->seg,
                             .seg_stride = (int64_t)p->dilation * p->seg,
                             .seg = p->seg,
                             .n_seg = p->n_seg,
                             .n_out = p->n_out,
                             .act = p->act,
                             .bias = p->bias ? p->b.data : NULL,
                             .gamma = p->gamma ? p->g.data : NULL,
                             .alpha = p->a.data,
                             .inv_beta = p->ia.data,
                             .residual = p->residual ? p->res.data : NULL};
}

static void problem_free(problem *p)
{
    guarded *all[] = {&p->x, &p->w32, &p->b, &p->g, &p->a, &p->ia, &p->res};
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++)
        guarded_free(all[i]);
    ut_free(p->w_raw);
}

static double act_of(const problem *p, double v, int32_t o, double *slope)
{
    *slope = 1;
    switch (p->act) {
    case UT_ACT_GELU:
        *slope = 1.13;
        return 0.5 * v * (1 + erf(v * 0.70710678118654752));
    case UT_ACT_TANH:
        return tanh(v);
    case UT_ACT_SNAKE: {
        const double s = sin((double)p->a.data[o] * v);
        *slope = 2.01;
        return v + s * s * (double)p->ia.data[o];
    }
    default:
        return v;
    }
}

/* Every element against the double reference: |d| <= (K + 8) eps sum|x w| carried through the
 * activation's slope, plus a few roundings of the result. */
static void check_against_double(const problem *p, const float *y)
{
    const int32_t k = p->seg * p->n_seg;
    for (int32_t r = 0; r < p->rows; r++)
        for (int32_t o = 0; o < p->n_out; o++) {
            double sum = 0, size = 0, slope;
            for (int32_t i = 0; i < k; i++) {
                const int32_t s = i / p->seg, c = i % p->seg;
                const double x = (double)p->x.data[(int64_t)(r + s * p->dilation) * p->seg + c];
                const double t = x * (double)p->w32.data[(int64_t)o * k + i];
                sum += t;
                size += fabs(t);
            }
            double bound = (k + 8) * EPS * size;
            if (p->bias) {
                sum += (double)p->b.data[o];
                size += fabs((double)p->b.data[o]);
            }
            double v = act_of(p, sum, o, &slope);
            bound = bound * slope + 16 * EPS * (fabs(v) + fabs(sum) + 1);
            if (p->gamma) {
                v *= (double)p->g.data[o];
                bound *= fabs((double)p->g.data[o]);
            }
            if (p->residual)
                v += (double)p->res.data[(int64_t)r * p->n_out + o];
            check_near((double)y[(int64_t)r * p->n_out + o], v, bound + 4 * EPS * fabs(v), "linear",
                       (int64_t)r * p->n_out + o);
        }
}

static ut_packed *pack(ut_packed_set *set, const ut_kernels *k, const ut_weight *w,
                       ut_precision precision)
{
    ut_err err = {0};
    ut_pool *pool;
    ut_packed *packed;
    assert_int_equal(ut_pool_new(&pool, 1, &err), UTTER_OK);
    assert_int_equal(ut_packed_get(set, k, precision, w, UT_FORM_PANELS, &packed, &err), UTTER_OK);
    assert_int_equal(ut_packed_fill(set, k, pool, &err), UTTER_OK);
    ut_pool_free(pool);
    return packed;
}

/* All rows at once, each row alone, and random rectangles: the same bits, every element written
 * once, nothing else touched. */
static void run_problem(problem *p, guarded *first_fused)
{
    ut_kernels k[N_VARIANTS];
    const int n = variants(k);
    for (int i = 0; i < n; i++) {
        ut_packed_set set = {0};
        const ut_packed *packed = pack(&set, &k[i], &p->weight, p->precision);
        ut_linear_fn *fn = k[i].linear[packed->type];
        const int32_t panels = (p->n_out + k[i].panel - 1) / k[i].panel;
        guarded whole = guarded_new(p->res.n, 3), parts = guarded_new(p->res.n, 2);
        p->job.w = packed->data;
        p->job.y = whole.data;
        fn(&p->job, 0, p->rows, 0, panels);
        guarded_check(&whole);
        check_against_double(p, whole.data);
        p->job.y = parts.data;
        for (int32_t r = 0; r < p->rows; r++)
            fn(&p->job, r, r + 1, 0, panels);
        check_bits(whole.data, parts.data, whole.n, "rows alone");
        memset(parts.data, 0xff, parts.n * sizeof(float));
        const int32_t row = random_int(0, p->rows), panel = random_int(0, panels);
        const int32_t rows[] = {0, row, p->rows}, cols[] = {0, panel, panels};
        for (int a = 0; a < 2; a++)
            for (int b = 0; b < 2; b++)
                if (rows[a] < rows[a + 1] && cols[b] < cols[b + 1])
                    fn(&p->job, rows[a], rows[a + 1], cols[b], cols[b + 1]);
        check_bits(whole.data, parts.data, whole.n, "rectangles");
        if (p->precision != UT_PRECISION_AUTO) { /* the same as with those weights in f32 */
            ut_weight exact = p->weight;
            exact.n_parts = 1;
            exact.part[0] = (ut_weight_part){p->w32.data, UT_F32, p->n_out};
            p->job.w = pack(&set, &k[i], &exact, UT_PRECISION_F32)->data;
            k[i].linear[UT_PACK_F32](&p->job, 0, p->rows, 0, panels);
            check_bits(whole.data, parts.data, whole.n, "the same weights in f32");
        }
        if (i == 1) { /* AVX2 and AVX-512 round at the same places */
            *first_fused = whole;
            whole = (guarded){0};
        } else if (i == 2) {
            check_bits(first_fused->data, whole.data, whole.n, "AVX2 and AVX-512");
        }
        if (whole.block)
            guarded_free(&whole);
        guarded_free(&parts);
        ut_packed_set_free(&set);
    }
    if (first_fused->block)
        guarded_free(first_fused);
}

static void solve(problem p)
{
    guarded fused = {0};
    problem_init(&p);
    run_problem(&p, &fused);
    problem_free(&p);
}

static int32_t pick(const int32_t *list, int32_t n)
{
    return list[random_int(0, n - 1)];
}

static const ut_dtype stored_types[] = {UT_F32, UT_BF16, UT_F16};
static const ut_precision precisions[] = {UT_PRECISION_AUTO, UT_PRECISION_INT8, UT_PRECISION_INT4};

static void test_odd_shapes(void **state)
{
    static const int32_t rows[] = {1, 2, 3, 5, 6, 7, 11, 12, 13, 23, 24, 25, 26, 37, 50};
    static const int32_t outs[] = {1, 2, 15, 16, 17, 31, 32, 33, 47, 64, 65, 127, 128, 129, 200};
    static const int32_t ks[] = {1, 2, 3, 7, 16, 31, 64, 100, 255, 256, 257, 300, 513};
    (void)state;
    for (int i = 0; i < 450; i++) {
        problem p = {.rows = pick(rows, 15),
                     .seg = pick(ks, 13),
                     .n_seg = 1,
                     .n_out = pick(outs, 15),
                     .dilation = 1,
                     .stored = stored_types[i % 3],
                     .precision = precisions[i / 150],
                     .bias = random_bits() & 1,
                     .gamma = random_bits() & 1,
                     .residual = random_bits() & 1,
                     .act = (ut_act)random_int(0, 3)};
        solve(p);
    }
}

static void test_taps(void **state)
{
    (void)state;
    for (int i = 0; i < 120; i++) {
        problem p = {.rows = random_int(1, 40),
                     .seg = random_int(1, 90),
                     .n_seg = random_int(2, 7),
                     .n_out = random_int(1, 70),
                     .dilation = random_int(1, 9),
                     .stored = stored_types[i % 3],
                     .precision = precisions[i / 40],
                     .bias = true};
        solve(p);
    }
}

/* More rows than one chunk of the blocked loops, several blocks of k. */
static void test_large(void **state)
{
    (void)state;
    for (int i = 0; i < 3; i++) {
        solve((problem){.rows = 970,
                        .seg = 520,
                        .n_seg = 1,
                        .n_out = 33,
                        .dilation = 1,
                        .precision = precisions[i]});
        solve((problem){.rows = 3,
                        .seg = 4099,
                        .n_seg = 1,
                        .n_out = 130,
                        .dilation = 1,
                        .stored = UT_BF16,
                        .precision = precisions[i]});
    }
}

/* K = 1, w = 1: the activation alone, over its whole range. */
static void check_activation(ut_act act, float lo, float hi, double limit)
{
    enum { N = 20000 };
    ut_kernels k[N_VARIANTS];
    const int n = variants(k);
    static const float one = 1.0f;
    const ut_weight w = {
        .name = "one", .rows = 1, .cols = 1, .n_parts = 1, .part = {{&one, UT_F32, 1}}};
    float *x = ut_malloc(N * sizeof *x), *y = ut_malloc(N * sizeof *y);
    assert_true(x && y);
    for (int i = 0; i < N; i++)
        x[i] = random_float(lo, hi);
    x[0] = 0.0f;
    x[1] = lo;
    x[2] = hi;
    x[3] = 1e-30f;
    x[4] = -1e-30f;
    for (int v = 0; v < n; v++) {
        ut_packed_set set = {0};
        const ut_packed *packed = pack(&set, &k[v], &w, UT_PRECISION_AUTO);
        const float alpha[32] = {1.0f}, inv[32] = {1.0f / (1.0f + 1e-9f)};
        const ut_linear_job j = {.x = x,
                                 .x_stride = 1,
                                 .seg = 1,
                                 .n_seg = 1,
                                 .w = packed->data,
                                 .n_out = 1,
                                 .act = act,
                                 .alpha = alpha,
                                 .inv_beta = inv,
                                 .y = y};
        k[v].linear[UT_PACK_F32](&j, 0, N, 0, 1);
        double worst = 0;
        for (int i = 0; i < N; i++) {
            const double t = (double)x[i];
            double want, scale = 1; /* scale: error is counted in ulps of want, or absolute */
            if (act == UT_ACT_TANH) {
                want = tanh(t);
            } else if (act == UT_ACT_GELU) {
                /* 1 + erf cancels below zero: the error is measured on the scale of x */
                want = 0.5 * t * (1 + erf(t * 0.70710678118654752));
                scale = t < 0 ? fabs(t) : 0;
            } else {
                want = t + sin(t) * sin(t);
                scale = 1;
            }
            const double e = act == UT_ACT_TANH || scale == 0
                                 ? ulps(y[i], want)
                                 : fabs((double)y[i] - want) / (EPS / 2 * (scale + fabs(want)));
            if (e > worst)
                worst = e;
        }
        if (worst > limit)
            fail_msg("%s, activation %d in [%g, %g]: %.2f ulp, expected at most %.2f", k[v].name,
                     (int)act, (double)lo, (double)hi, worst, limit);
        ut_packed_set_free(&set);
    }
    ut_free(x);
    ut_free(y);
}

static void test_activations(void **state)
{
    (void)state;
    check_activation(UT_ACT_TANH, -0.7f, 0.7f, 3.0);
    check_activation(UT_ACT_TANH, -100.0f, 100.0f, 3.0);
    check_activation(UT_ACT_GELU, -8.0f, 8.0f, 5.0);
    check_activation(UT_ACT_GELU, -200.0f, 200.0f, 5.0);
    check_activation(UT_ACT_SNAKE, -4.0f, 4.0f, 5.0);
    check_activation(UT_ACT_SNAKE, -10000.0f, 10000.0f, 5.0);
}

int run_linear_tests(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_odd_shapes),
        cmocka_unit_test(test_taps),
        cmocka_unit_test(test_large),
        cmocka_unit_test(test_activations),
    };
    return cmocka_run_group_tests_name("linear", tests, NULL, NULL);
}
