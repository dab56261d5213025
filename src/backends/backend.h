/* backend.h - what a backend is: something that compiles plans, keeps state, and runs.
 * The engine talks to this table only; models never see it. One ut_backend is driven by one thread
 * at a time. */
#ifndef UT_BACKENDS_BACKEND_H
#define UT_BACKENDS_BACKEND_H

#include "plan/plan.h"

typedef struct ut_backend ut_backend; /* one opened device */
typedef struct ut_exec ut_exec;       /* a compiled plan; belongs to its backend */
typedef struct ut_state ut_state;     /* state tensors of n slots; belongs to its backend */
typedef struct ut_saved ut_saved;     /* rows of state tensors put aside; belongs to its backend */
typedef struct ut_backend_ops ut_backend_ops;

/* Kernels of attention, where a backend has several. */
typedef enum ut_attention {
    UT_ATTENTION_AUTO,
    UT_ATTENTION_FLASH, /* without the matrix of scores in memory */
    UT_ATTENTION_MATH   /* the plain formula, for checking */
} ut_attention;

typedef struct ut_backend_params {
    int threads;            /* CPU: 0 = physical cores */
    ut_precision precision; /* of packed matrices, see ut_weight_kept_type */
    unsigned cpu_flags_off; /* CPU: UT_CPU_* not to use, for tests */
    int device;             /* number of the device, from 0 */
    ut_attention attention; /* ERR_UNSUPPORTED where a backend has not that kind */
} ut_backend_params;

struct ut_backend { /* the head of each backend's own struct */
    const ut_backend_ops *ops;
    int max_ahead; /* runs of a state worth having started before their results are read; 1 where
                      run() returns when the work is done */
    int32_t first_prompt;     /* tokens for which prompts have memory from the beginning; 0: few */
    int32_t sound_frames;     /* of one session in a run of the codec, at most: those that pay */
    int32_t all_sound_frames; /* of all sessions in one, at most: a run takes as much memory */
};
struct ut_exec {
    ut_backend *backend;
    const ut_plan *plan; /* borrowed; outlives the exec */
};
struct ut_state {
    ut_backend *backend;
    const ut_state_set *set; /* borrowed */
    int n_slots;
};
struct ut_saved { /* rows [0, n_rows), or as many as there are, of tensors [first, first + n) */
    ut_backend *backend;
    int first, n;
    int32_t n_rows;
    size_t bytes; /* of the device's memory */
};

struct ut_backend_ops {
    const char *name;       /* "cpu" */
    ut_precision precision; /* what speech is made in where nobody asks for another */

    /* Can it be used here? Writes one line for people (the device of this number, or why not) into
     * text. Cheap. */
    bool (*probe)(int device, char *text, size_t size);
    int (*count)(void); /* devices of this machine that it knows of; numbers are 0 .. count - 1 */

    utter_status (*open)(ut_backend **out, const ut_backend_params *params, ut_err *err);
    void (*close)(ut_backend *b); /* every exec and state freed before; NULL is fine */
    /* One line about the opened device and the variants it chose. */
    void (*describe)(const ut_backend *b, char *text, size_t size);
    size_t (*weight_bytes)(const ut_backend *b); /* packed weights held now */
    /* Memory of the device itself, free and in all; false where it is the host's. */
    bool (*memory)(const ut_backend *b, size_t *free_bytes, size_t *total);

    /* Compile a plan for n_slots slots and T up to max_t. Weights already packed for another exec
     * of this backend are shared. */
    utter_status (*compile)(ut_backend *b, const ut_plan *plan, int n_slots, int32_t max_t,
                            ut_exec **out, ut_err *err);
    void (*exec_free)(ut_exec *e);          /* NULL is fine */
    size_t (*exec_bytes)(const ut_exec *e); /* memory to work in, less what another exec has */

    utter_status (*state_new)(ut_backend *b, const ut_state_set *set, int n_slots, ut_state **out,
                              ut_err *err);
    void (*state_free)(ut_state *s); /* NULL is fine */
    /* Every tensor of the slot to zero, except those marked `keep`. */
    void (*state_reset)(ut_state *s, int slot);
    /* Rows [row, row + n_rows) of tensor `index` of a slot, in its own dtype. Ordered with runs. */
    void (*state_write)(ut_state *s, int index, int slot, int32_t row, int32_t n_rows,
                        const void *src);
    void (*state_read)(ut_state *s, int index, int slot, int32_t row, int32_t n_rows, void *dst);
    /* Put rows of a slot aside, in the device's memory, and bring them back, into any slot of any
     * state of the same set. Ordered with runs of both states, whatever was saved where; `saved`
     * may be freed, and the state too, as soon as these calls return. */
    utter_status (*save)(ut_state *s, int slot, int first, int n, int32_t n_rows, ut_saved **out,
                         ut_err *err);
    void (*load)(ut_state *s, int slot, ut_saved *saved);
    void (*saved_free)(ut_saved *saved); /* NULL is fine */

    /* Host memory of an input tensor, [n_slots, rows, cols] at the T of the coming run; write it
     * before run. */
    void *(*input)(ut_exec *e, ut_tid t, int32_t n_t);
    /* Run once with 1 <= n_t <= max_t on slots [first_slot, first_slot + n_slots of the exec) of
     * s. May return before the work is done. */
    utter_status (*run)(ut_exec *e, ut_state *s, int first_slot, int32_t n_t, ut_err *err);
    /* Is the last run over, so that output() would not wait? */
    bool (*done)(ut_exec *e);
    /* Wait for the last run and give an output's memory, [n_slots, rows, cols], valid until the
     * next run of an exec of the same plan; NULL when the device failed. */
    const void *(*output)(ut_exec *e, ut_tid t, ut_err *err);
    /* Wait until run number `frame` of the sequence has written its row of the ring state `index`
     * (see ut_op_ring_put) and copy the row to dst. */
    utter_status (*ring_wait)(ut_state *s, int index, int slot, int64_t frame, int32_t *dst,
                              ut_err *err);
    /* Would ring_wait return at once? */
    bool (*ring_ready)(ut_state *s, int index, int slot, int64_t frame);
};

/* ---- Registry (registry.c) ------------------------------------------------------------------ */

/* All backends of this build, best first; NULL-terminated. */
const ut_backend_ops *const *ut_backends(void);

/* By name, or the first that is available for "auto" (or NULL), with that device. A name never
 * falls back: it is ERR_BACKEND with the reason, or with the list of names when unknown. */
utter_status ut_backend_find(const ut_backend_ops **ops, const char *name, int device, ut_err *err);

/* The first that is available of those behind `before`, of all where that is NULL; ERR_BACKEND with
 * the reasons of each where none is. */
utter_status ut_backend_find_after(const ut_backend_ops **ops, const ut_backend_ops *before,
                                   int device, ut_err *err);

/* The same as ut_backend_find, opened. */
utter_status ut_backend_open(ut_backend **out, const char *name, const ut_backend_params *params,
                             ut_err *err);

#endif
