/* test_resample.c - change of sample rate, measured: tones, images and aliases, length, time. Both
 * resamplers answer to the same numbers. */
#include "audio/audio.h"
#include "audio/resample.h"
#include "base/alloc.h"
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

typedef utter_status resample_fn(const float *in, size_t n, int rate_in, int rate_out, float **out,
                                 size_t *n_out, ut_err *err);
static resample_fn *const resamplers[] = {ut_resample_sinc, ut_resample};

static const double pi = 3.14159265358979323846;
static const int rates[][2] = {{44100, 16000}, {16000, 44100}, {48000, 44100}, {44100, 48000},
                               {24000, 44100}, {8000, 44100},  {44100, 8000},  {22050, 44100},
                               {96000, 44100}, {44101, 48000}};
#define N_RATES (sizeof rates / sizeof *rates)

/* Half a second and more of a tone of amplitude 1/2, resampled: decibels by which the tone (or, if
 * the output rate cannot hold it, by which the input) is above what is wrong in the middle half. */
static double tone_snr(resample_fn *resample, int rate_in, int rate_out, double hz)
{
    size_t n = (size_t)rate_in / 2, m;
    float *x = ut_calloc(n, sizeof *x), *y;
    for (size_t i = 0; i < n; i++)
        x[i] = (float)(0.5 * sin(2 * pi * hz * (double)i / rate_in + 0.3));
    assert_int_equal(resample(x, n, rate_in, rate_out, &y, &m, NULL), UTTER_OK);
    double wrong = 0;
    size_t count = 0;
    for (size_t j = m / 4; j < m - m / 4; j++, count++) {
        double right =
            hz < rate_out / 2.0 ? 0.5 * sin(2 * pi * hz * (double)j / rate_out + 0.3) : 0;
        wrong += ((double)y[j] - right) * ((double)y[j] - right);
    }
    ut_free(x);
    ut_free(y);
    return 10 * log10(0.125 * (double)count / (wrong + 1e-300));
}

static void tones_pass_and_images_do_not(void **state)
{
    (void)state;
    for (size_t r = 0; r < 2; r++)
        for (size_t i = 0; i < N_RATES; i++) {
            int lower = rates[i][0] < rates[i][1] ? rates[i][0] : rates[i][1];
            for (double part = 0.05; part < 1.5; part += 0.075) {
                double hz = part * lower / 2, snr;
                if (hz > 0.98 * rates[i][0] / 2 || (part > 0.8 && part < 1.1))
                    continue; /* not a signal at the input; the edge of the filter */
                snr = tone_snr(resamplers[r], rates[i][0], rates[i][1], hz);
                if (snr < 82)
                    fail_msg("resampler %zu, %d to %d Hz: %.0f Hz at %.1f dB", r, rates[i][0],
                             rates[i][1], hz, snr);
            }
        }
}

static void a_constant_stays_the_same(void **state)
{
    (void)state;
    enum { n = 20000 };
    static float x[n];
    for (int i = 0; i < n; i++)
        x[i] = 0.75f;
    for (size_t r = 0; r < 2; r++)
        for (size_t i = 0; i < N_RATES; i++) {
            float *y;
            size_t m;
            assert_int_equal(resamplers[r](x, n, rates[i][0], rates[i][1], &y, &m, NULL), UTTER_OK);
            for (size_t j = m / 4; j < m - m / 4; j++)
                if (fabs((double)y[j] - 0.75) > 1e-6)
                    fail_msg("resampler %zu, %d to %d Hz: sample %zu is %.9g", r, rates[i][0],
                             rates[i][1], j, (double)y[j]);
            ut_free(y);
        }
}

static void lengths_are_exact(void **state)
{
    (void)state;
    static const float x[5000];
    static const size_t lengths[] = {0, 1, 2, 3, 159, 160, 161, 441, 4999};
    for (size_t r = 0; r < 2; r++)
        for (size_t i = 0; i < N_RATES; i++)
            for (size_t k = 0; k < sizeof lengths / sizeof *lengths; k++) {
                float *y;
                size_t m, n = lengths[k];
                uint64_t in = (uint64_t)rates[i][0], out = (uint64_t)rates[i][1];
                assert_int_equal(resamplers[r](x, n, rates[i][0], rates[i][1], &y, &m, NULL),
                                 UTTER_OK);
                assert_int_equal(m, (n * out + in - 1) / in);
                for (size_t j = 0; j < m; j++)
                    assert_true(y[j] == 0);
                ut_free(y);
            }
}

/* The built-in one against its formula, evaluated directly in double for a few samples, those at
 * the ends included. */
static void the_formula_is_followed(void **state)
{
    (void)state;
    enum { n = 3000 };
    static float x[n];
    uint32_t seed = 7;
    for (int i = 0; i < n; i++) {
        seed = seed * 1664525u + 1013904223u;
        x[i] = (float)(int32_t)seed / 2147483648.0f;
    }
    for (size_t i = 0; i < N_RATES; i++) {
        double ratio = (double)rates[i][1] / rates[i][0];
        double f = 0.95 / 2 * (ratio < 1 ? ratio : 1), width = 64 / (2 * f);
        float *y;
        size_t m;
        assert_int_equal(ut_resample_sinc(x, n, rates[i][0], rates[i][1], &y, &m, NULL), UTTER_OK);
        for (size_t j = 0; j < m; j += j < 10 || j + 10 > m ? 1 : 97) {
            double at = (double)j * rates[i][0] / rates[i][1], sum = 0, total = 0;
            for (long k = (long)(at - width) - 1; k <= (long)(at + width) + 1; k++) {
                double t = at - (double)k, u = 2 * pi * f * t;
                if (fabs(t) >= width)
                    continue;
                double h = (fabs(u) < 1e-9 ? 1 : sin(u) / u) * (0.5 + 0.5 * cos(pi * t / width));
                total += h;
                if (k >= 0 && k < n)
                    sum += h * (double)x[k];
            }
            if (fabs((double)y[j] - sum / total) > 2e-6)
                fail_msg("%d to %d Hz: sample %zu is %.9g, expected %.9g", rates[i][0], rates[i][1],
                         j, (double)y[j], sum / total);
        }
        ut_free(y);
    }
}

static void an_impulse_keeps_its_time(void **state)
{
    (void)state;
    static float x[4410];
    x[1470] = 1; /* 1/30 s: a sample at every rate here */
    static const int to[] = {48000, 16020, 8010, 88200};
    for (size_t r = 0; r < 2; r++)
        for (size_t i = 0; i < sizeof to / sizeof *to; i++) {
            float *y;
            size_t m, peak = 0;
            assert_int_equal(resamplers[r](x, 4410, 44100, to[i], &y, &m, NULL), UTTER_OK);
            for (size_t j = 0; j < m; j++)
                if (y[j] > y[peak])
                    peak = j;
            assert_int_equal(peak, to[i] / 30);
            for (size_t d = 1; d < 100; d++) /* and its symmetry */
                assert_true(fabs((double)(y[peak - d] - y[peak + d])) < 1e-5);
            ut_free(y);
        }
}

static void equal_rates_copy(void **state)
{
    (void)state;
    static const float x[] = {1.5f, -0.0f, 1e-42f, 3};
    float *y;
    size_t m;
    assert_int_equal(ut_resample(x, 4, 44100, 44100, &y, &m, NULL), UTTER_OK);
    assert_int_equal(m, 4);
    assert_memory_equal(x, y, sizeof x);
    ut_free(y);
}

static void bad_rates_and_no_memory(void **state)
{
    (void)state;
    static const float x[100] = {1};
    static const int bad[][2] = {{0, 8000}, {8000, 0}, {-1, 8000}, {999, 8000}, {8000, 768001}};
    for (size_t r = 0; r < 2; r++) {
        float *y = (float *)1;
        size_t m = 1;
        for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
            ut_err err = {0};
            assert_int_equal(resamplers[r](x, 100, bad[i][0], bad[i][1], &y, &m, &err),
                             UTTER_ERR_ARG);
            assert_null(y);
            assert_int_equal(m, 0);
            assert_non_null(strstr(err.msg, "expected 1000 to 768000"));
        }
        assert_int_equal(resamplers[r](x, SIZE_MAX / 2, 1000, 768000, &y, &m, NULL),
                         UTTER_ERR_NOMEM);
        utter_status st = UTTER_ERR_NOMEM;
        uint64_t k = 1;
        for (; st != UTTER_OK; k++) {
            assert_true(k < 10);
            ut_alloc_fail_at(k);
            st = resamplers[r](x, 100, 8000, 11025, &y, &m, NULL);
            ut_alloc_fail_at(0);
            if (st != UTTER_OK) {
                assert_int_equal(st, UTTER_ERR_NOMEM);
                assert_null(y);
            }
        }
        assert_true(k > 2);
        ut_free(y);
    }
}

int main(void)
{
    printf("resampler: %s\n", ut_audio_resampler());
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tones_pass_and_images_do_not),
        cmocka_unit_test(a_constant_stays_the_same),
        cmocka_unit_test(lengths_are_exact),
        cmocka_unit_test(the_formula_is_followed),
        cmocka_unit_test(an_impulse_keeps_its_time),
        cmocka_unit_test(equal_rates_copy),
        cmocka_unit_test(bad_rates_and_no_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
