/* test_quant.c - weights in blocks of whole numbers: how far a weight may move, what becomes of
 * odd ones, and which matrices are kept so. */
#include "kernel_check.h"
#include "base/half.h"
#include "plan/weight.h"
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

typedef uint16_t pack_fn(int8_t *q, const float *w, int32_t n);

typedef struct block_type {
    pack_fn *pack;
    int32_t size, low, high;
    double rms; /* of the error of normally distributed weights, relative to theirs */
} block_type;

static const block_type types[] = {{ut_q8_pack, UT_Q8_BLOCK, -127, 127, 0.00535},
                                   {ut_q4_pack, UT_Q4_BLOCK, -8, 7, 0.0758}};
enum { N_TYPES = 2 };

/* The weights as kept. */
static void round_trip(const block_type *t, const float *w, int32_t n, float *kept, float *scale)
{
    int8_t q[UT_Q8_BLOCK + 1];
    q[n] = 99;
    *scale = ut_f16_to_f32(t->pack(q, w, n));
    assert_int_equal(q[n], 99);
    for (int32_t i = 0; i < n; i++) {
        assert_in_range(q[i] - t->low, 0, t->high - t->low);
        kept[i] = *scale * (float)q[i];
    }
}

/* Within half a step, and one step at the end that q4 lacks; the step is as small as it can be. */
static void test_bounds(void **state)
{
    (void)state;
    for (int k = 0; k < N_TYPES; k++)
        for (int i = 0; i < 20000; i++) {
            const block_type *t = &types[k];
            const int32_t n = random_int(1, t->size);
            float w[UT_Q8_BLOCK], kept[UT_Q8_BLOCK], scale, most = 0;
            random_fill(w, (size_t)n, ldexpf(1.0f, random_int(-6, 16)));
            for (int32_t j = 0; j < n; j++)
                most = fmaxf(most, fabsf(w[j]));
            round_trip(t, w, n, kept, &scale);
            const double step = fabs((double)scale), ideal = (double)most / -t->low;
            check_near(step, ideal, fmax(ideal * 0x1p-11, 0x1p-25), "step", i);
            for (int32_t j = 0; j < n; j++) {
                const double v = (double)w[j] / (double)scale;
                const double allowed = v > t->high ? v - t->high : v < t->low ? t->low - v : 0.5;
                check_near((double)kept[j], (double)w[j], step * (allowed + 1e-4), "weight", j);
                assert_true(allowed <= 1.005 || step < 0x1p-14); /* f16 ends */
            }
        }
}

static float normal(void)
{
    const float radius = sqrtf(-2 * logf(random_float(1e-7f, 1.0f)));
    return radius * cosf(random_float(0.0f, 6.2831853f));
}

static void test_normal_weights(void **state)
{
    (void)state;
    for (int k = 0; k < N_TYPES; k++) {
        double error = 0, power = 0;
        for (int i = 0; i < 4000; i++) {
            float w[UT_Q8_BLOCK], kept[UT_Q8_BLOCK], scale;
            for (int32_t j = 0; j < types[k].size; j++)
                w[j] = 0.03f * normal();
            round_trip(&types[k], w, types[k].size, kept, &scale);
            for (int32_t j = 0; j < types[k].size; j++) {
                error += pow((double)(kept[j] - w[j]), 2);
                power += pow((double)w[j], 2);
            }
        }
        check_near(sqrt(error / power), types[k].rms, 0.02 * types[k].rms, "rms", k);
    }
}

static void expect(const block_type *t, const float *w, const float *want, int32_t n)
{
    float kept[UT_Q8_BLOCK], scale;
    round_trip(t, w, n, kept, &scale);
    for (int32_t i = 0; i < n; i++)
        check_near((double)kept[i], (double)want[i], 0, "kept", i);
}

#define EXPECT(type, w, want)                                                                      \
    expect(&types[type], (const float[]){EXPAND w}, (const float[]){EXPAND want},                  \
           sizeof((const float[]){EXPAND w}) / sizeof(float))
#define EXPAND(...) __VA_ARGS__

static void test_by_hand(void **state)
{
    (void)state;
    EXPECT(0, (127, 2.5f, 3.5f, -2.5f, -127, 0.4f), (127, 2, 4, -2, -127, 0));
    EXPECT(1, (-8, 2.5f, 3.5f, -2.5f, 7.6f, 0.4f), (-8, 2, 4, -2, 7, 0));
    EXPECT(1, (8, 2.5f, 3.5f, -2.5f, -7.6f, 0.4f), (8, 2, 4, -2, -7, 0));
    EXPECT(1, (8, -8), (8, -7));
    for (int k = 0; k < N_TYPES; k++) {
        EXPECT(k, (0, -0.0f, 0), (0, 0, 0));
        EXPECT(k, (1e-12f, 0), (0, 0)); /* less than f16 has */
    }
    const float most[] = {127 * 65504.0f, 8 * 65504.0f};
    for (int k = 0; k < N_TYPES; k++) {
        EXPECT(k, (1e30f, 1, 0), (most[k], 0, 0));
        EXPECT(k, ((float)INFINITY, (float)NAN, 1), (most[k], 0, 0));
    }
}

static void test_kept(void **state)
{
    static const float data[3 * 33] = {0};
    ut_weight w = {.name = "w", .rows = 3, .cols = 33, .n_parts = 1, .part = {{data, UT_BF16, 3}}};
    (void)state;
    assert_int_equal(ut_weight_kept_type(&w, UT_PRECISION_INT8), UT_BF16);
    assert_int_equal(ut_weight_kept_bytes(&w, UT_PRECISION_INT4), 3 * 33 * 2);
    assert_int_equal(ut_weight_kept_bytes(&w, UT_PRECISION_F32), 3 * 33 * 4);
    w.least_bits = 8;
    assert_int_equal(ut_weight_kept_type(&w, UT_PRECISION_INT8), UT_Q8);
    assert_int_equal(ut_weight_kept_type(&w, UT_PRECISION_INT4), UT_Q8);
    w.least_bits = 4;
    assert_int_equal(ut_weight_kept_type(&w, UT_PRECISION_AUTO), UT_BF16);
    assert_int_equal(ut_weight_kept_type(&w, UT_PRECISION_F16), UT_F16);
    assert_int_equal(ut_weight_kept_type(&w, UT_PRECISION_INT8), UT_Q8);
    assert_int_equal(ut_weight_kept_type(&w, UT_PRECISION_INT4), UT_Q4);
    assert_int_equal(ut_weight_kept_bytes(&w, UT_PRECISION_INT8), 3 * (33 + 2 * 2));
    assert_int_equal(ut_weight_kept_bytes(&w, UT_PRECISION_INT4), 3 * (17 + 3 * 2));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_bounds),
        cmocka_unit_test(test_normal_weights),
        cmocka_unit_test(test_by_hand),
        cmocka_unit_test(test_kept),
    };
    random_seed(7);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
