/* kernel_check.c - see kernel_check.h. */
#include "kernel_check.h"
#include "base/alloc.h"
#include "base/cpu.h"
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <cmocka.h>

int variants(ut_kernels k[N_VARIANTS])
{
    const unsigned has = ut_cpu_flags();
    int n = 0;
    ut_kernels_init(&k[n++], 0);
    if (has & UT_CPU_AVX2)
        ut_kernels_init(&k[n++], UT_CPU_AVX2);
    if (has & UT_CPU_AVX512)
        ut_kernels_init(&k[n++], UT_CPU_AVX2 | UT_CPU_AVX512);
    return n;
}

static uint64_t rng = 1;

void random_seed(uint64_t seed)
{
    rng = seed * 2 + 1;
}

uint32_t random_bits(void)
{
    rng ^= rng >> 12;
    rng ^= rng << 25;
    rng ^= rng >> 27;
    return (uint32_t)((rng * UINT64_C(2685821657736338717)) >> 32);
}

int32_t random_int(int32_t lo, int32_t hi)
{
    return lo + (int32_t)(random_bits() % (uint32_t)(hi - lo + 1));
}

float random_float(float lo, float hi)
{
    return lo + (hi - lo) * ((float)(random_bits() >> 8) / 16777216.0f);
}

void random_fill(float *x, size_t n, float scale)
{
    for (size_t i = 0; i < n; i++)
        x[i] = random_float(-scale, scale);
}

enum { GUARD = 32 }; /* floats */
#define GUARD_VALUE 12345.678f

guarded guarded_new(size_t n, int offset)
{
    guarded g = {.n = n};
    g.block = ut_alloc_aligned((n + 3 * GUARD) * sizeof(float));
    assert_non_null(g.block);
    for (size_t i = 0; i < n + 3 * GUARD; i++)
        g.block[i] = GUARD_VALUE;
    g.data = g.block + GUARD + offset;
    for (size_t i = 0; i < n; i++)
        g.data[i] = NAN;
    return g;
}

void guarded_check(const guarded *g)
{
    for (const float *p = g->block; p < g->data; p++)
        assert_true(*p == GUARD_VALUE);
    for (int i = 0; i < GUARD; i++)
        assert_true(g->data[g->n + (size_t)i] == GUARD_VALUE);
}

void guarded_free(guarded *g)
{
    guarded_check(g);
    ut_free_aligned(g->block);
    *g = (guarded){0};
}

void check_near(double got, double want, double bound, const char *what, int64_t at)
{
    if (!(fabs(got - want) <= bound))
        fail_msg("%s: element %lld is %.9g, expected %.9g within %.3g", what, (long long)at, got,
                 want, bound);
}

void check_bits(const float *a, const float *b, size_t n, const char *what)
{
    for (size_t i = 0; i < n; i++)
        if (memcmp(&a[i], &b[i], sizeof *a) != 0)
            fail_msg("%s: element %zu is %.9g in one and %.9g in the other", what, i, (double)a[i],
                     (double)b[i]);
}

double ulps(float got, double want)
{
    int exponent;
    frexp(want, &exponent);
    if (exponent < -125)
        exponent = -125;
    return fabs((double)got - want) / ldexp(1.0, exponent - 24);
}
