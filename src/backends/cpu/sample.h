/* sample.h - one sampling decision over a row of logits: repetition penalty, temperature, top-k,
 * top-p, and the choice by exponential noise (ut_op_sample in plan/plan.h has the definition). */
#ifndef UT_BACKENDS_CPU_SAMPLE_H
#define UT_BACKENDS_CPU_SAMPLE_H

#include "backends/cpu/kernels.h"

enum { UT_SAMPLE_MAX_PENALISED = 64 };

typedef struct ut_sample_job {
    const float *logits; /* [n] */
    const float *noise;  /* [n], replaces q; or NULL */
    float *probs;        /* [n], receives p; or NULL */
    int32_t n;
    float temperature, top_p, penalty;
    int32_t top_k; /* UT_TEMPER_FIRST only; 0: all */
    ut_narrowing narrowing;
    bool without_last;                          /* the last entry cannot be chosen */
    const int32_t *chosen_before;               /* [n], not 0: penalised; or NULL */
    int32_t penalised[UT_SAMPLE_MAX_PENALISED]; /* entries; repeated ones count once */
    int32_t n_penalised;
    uint32_t seed[2], frame, decision; /* of the noise */
    float *scratch;                    /* ut_sample_scratch_floats(n) */
} ut_sample_job;

size_t ut_sample_scratch_floats(int32_t n);

/* The chosen entry, 0 <= entry < n. */
int32_t ut_sample(const ut_kernels *k, const ut_sample_job *j);

#endif
