/* fixture.h - a small plan with random weights and inputs, run on the backend under test and on the
 * scalar CPU backend. One file per group of operations, one function each, which main.c calls. */
#ifndef TESTS_BACKEND_OPS_FIXTURE_H
#define TESTS_BACKEND_OPS_FIXTURE_H

#include "backends/backend.h"

enum { MAX_WEIGHTS = 16 };

typedef struct test_case {
    char name[128];
    ut_state_set states;
    ut_plan *plan;
    int32_t n_t; /* steps of the longest run */
    ut_weight *weights[MAX_WEIGHTS];
    int n_weights;
    int32_t id_range;   /* i32 inputs are below it */
    int32_t id_first;   /* and at least this */
    double tolerance;   /* relative to the largest value of a tensor */
    bool bf16_inputs;   /* f32 inputs are numbers of bf16, so that rounding them changes nothing */
    bool alone_differs; /* on a GPU one slot has a kernel of its own, several share another */
    /* before the first run: slot of the state, and which slot of the case it plays */
    void (*prepare)(const ut_backend_ops *ops, ut_state *s, int slot, int role);
} test_case;

extern ut_backend *reference, *tested;
extern int ops_passed, ops_failed;
extern bool ops_small;  /* leave out what takes long under a memory checker */
extern bool ops_packed; /* on a GPU, matrices in blocks: x is narrow, and of many rows W, too */
extern bool ops_large;  /* rows enough for a device of 132 multiprocessors */
extern const char *const type_names[]; /* of a ut_dtype */

/* Count a check; a failed one is printed. */
void check(bool ok, const char *name, const char *what);
void *must(void *p);

/* Random numbers from here on: a group's do not depend on what other groups took. */
void seed(uint64_t group);
/* Random weights, which live as long as the case: values up to scale, or in [low, high]. */
const ut_weight *weight(test_case *c, int32_t rows, int32_t cols, ut_dtype type, float scale);
const ut_weight *vector(test_case *c, int32_t n, float scale);
const ut_weight *weight_between(test_case *c, int32_t n, float low, float high);

/* A new case with an empty plan, for runs of n_t steps. */
ut_plan *begin(test_case *c, const char *name, int32_t n_t);
/* Whole against the reference; then in chunks and slot by slot against the whole, bit for bit. Ends
 * the case. */
void test(test_case *c);
void end(test_case *c);

/* The groups. */
void test_linears(void);
void test_bf16_linears(void);
void test_signals(void);
void test_rows(void);
void test_look_ups(void);
void test_attentions(void);
void test_decisions(void);
void test_tempered_decisions(void);
void test_hard_logits(void);

#endif
