/* kernel_check.h - what the kernel tests share: random numbers, buffers with guards, the list of
 * variants this processor has, and comparison with bounds. */
#ifndef UT_TESTS_KERNEL_CHECK_H
#define UT_TESTS_KERNEL_CHECK_H

#include "backends/cpu/kernels.h"
#include <stdbool.h>
#include <stdint.h>

enum { N_VARIANTS = 3 };

/* Scalar, AVX2, AVX-512: as many as the processor has. */
int variants(ut_kernels k[N_VARIANTS]);

/* xorshift64*; the seed is printed once at the start of the program. */
void random_seed(uint64_t seed);
uint32_t random_bits(void);
int32_t random_int(int32_t lo, int32_t hi); /* both ends included */
float random_float(float lo, float hi);
void random_fill(float *x, size_t n, float scale); /* uniform in [-scale, scale) */

/* n floats that start `offset` floats off a 64-byte boundary, filled with NaN, with guards on both
 * sides. */
typedef struct guarded {
    float *data;
    size_t n;
    float *block;
} guarded;
guarded guarded_new(size_t n, int offset);
void guarded_check(const guarded *g); /* fails the test when a guard was written */
void guarded_free(guarded *g);

/* |got - want| <= bound, else the test fails with both values and `what`. */
void check_near(double got, double want, double bound, const char *what, int64_t at);
void check_bits(const float *a, const float *b, size_t n, const char *what);

/* Units in the last place of f32 between got and want (of the spacing at want; denormals count as
 * the smallest normal). */
double ulps(float got, double want);

#define EPS 1.1920929e-07

/* One file of tests each; they return the number of failed tests. */
int run_linear_tests(void);
int run_rows_tests(void);
int run_act_tests(void);
int run_attention_tests(void);
int run_sample_tests(void);

/* Times of every variant, to standard output. */
void bench_linear_kernels(void);
void bench_other_kernels(void);

#endif
