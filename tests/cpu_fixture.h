/* cpu_fixture.h - what the tests of the CPU backend share: random weights, opening, running. */
#ifndef UT_TESTS_CPU_FIXTURE_H
#define UT_TESTS_CPU_FIXTURE_H

#include "backends/backend.h"

/* Weights and arrays that live until fixture_free_all. */
float *fixture_array(size_t n, float scale); /* random, uniform in [-scale, scale) */
ut_weight *fixture_weight(int32_t rows, int32_t cols, ut_dtype dtype, float scale);
void fixture_free_all(void);

ut_backend *fixture_open(int threads, unsigned flags_off, ut_precision precision);

/* A compiled plan with a state of its own. */
typedef struct fixture {
    ut_backend *b;
    ut_exec *e;
    ut_state *s;
} fixture;
fixture fixture_compile(ut_backend *b, const ut_plan *p, int n_slots, int32_t max_t);
void fixture_close(fixture *f); /* exec and state; the backend stays */

void fixture_input(const fixture *f, const char *name, int32_t n_t, const void *src, size_t bytes);
void fixture_run(const fixture *f, int32_t n_t);
const void *fixture_output(const fixture *f, const char *name);

/* A backend of two threads for the tests of a group. */
extern ut_backend *fixture_cpu;
int fixture_setup(void **state);
int fixture_teardown(void **state);
/* A plan just written, finished and compiled on it for one slot; fixture_end frees plan and all. */
fixture fixture_finish(ut_plan *p, int32_t max_t);
void fixture_end(fixture *f);

/* Tests by file; they return the number of failed tests. */
int run_cpu_op_tests(void);
int run_cpu_signal_op_tests(void);
int run_cpu_stream_tests(void);

#endif
