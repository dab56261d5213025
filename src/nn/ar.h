/* ar.h - what the autoregressive loops of all families have in common: the counters and buffers
 * that they keep, and how their plans begin, decide and end a frame. What lies between is the
 * family's. */
#ifndef UT_NN_AR_H
#define UT_NN_AR_H

#include "nn/load.h"
#include "plan/plan.h"

/* State indices. */
typedef struct ut_ar_states {
    int pos;    /* i32 [1, 1]: position of the next row */
    int frame;  /* i32 [1, 1]: frames made */
    int column; /* i32 [1, columns]: the frame in work, then the last */
    int params; /* f32 [kinds of decisions, UT_SP_COUNT] */
    int rng;    /* i32 [1, UT_RNG_COUNT] */
    int ring;   /* i32 [rows, columns]: finished frames, for the host */
} ut_ar_states;

/* Define them; columns: 1 token + codes. */
ut_ar_states ut_ar_states_load(ut_loader *l, ut_state_set *set, int32_t columns, int32_t n_kinds);

/* Positions that a prompt may take of a loop's: the reference of S1-mini keeps 2048 for speech. */
int32_t ut_ar_max_prompt(int32_t capacity);

/* Rows of a loop's caches: its positions, up to a multiple of 64, as backends attend to them. */
int32_t ut_ar_cache_rows(int32_t capacity);

/* A plan of a loop being written. */
typedef struct ut_ar_writer {
    const void *lm; /* the family's own */
    const ut_state_set *set;
    const ut_ar_states *states;
    const char *const *taps; /* tensor names to keep, for tests; NULL: none */
    bool external_noise;     /* decisions take noise as inputs "noise.<decision>" */
    ut_plan *p;              /* this and what follows: of the plan in work */
    ut_tid column, frame;
} ut_ar_writer;

/* Write the plan and finish it; *out is the caller's in any case. */
utter_status ut_ar_write(ut_ar_writer *w, const char *name, void (*write)(ut_ar_writer *w),
                         ut_plan **out, ut_err *err);

/* A decision into column 0, without penalty or history: the caller adds what is its own. */
ut_sample_args ut_ar_decision(const ut_ar_writer *w, int32_t decision);
void ut_ar_sample(ut_ar_writer *w, ut_tid logits, ut_sample_args *a);

/* The column is complete: into the ring (and the history, or UT_NONE), and on to the next. */
void ut_ar_end_frame(ut_ar_writer *w, ut_tid history);

#endif
