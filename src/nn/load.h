/* load.h - from tensors in a checkpoint to the weights of a plan. A loader keeps its first failure,
 * so that a model's list of tensors reads as a list; every later call returns NULL and does
 * nothing. Weights live in the loader's arena; their data stays in the checkpoint's memory map
 * where the stored layout is the one plans want, and is rewritten into the arena as f32 where not
 * (fused weight norms, convolution kernels). */
#ifndef UT_NN_LOAD_H
#define UT_NN_LOAD_H

#include "base/arena.h"
#include "plan/plan.h"
#include "plan/weight.h"
#include "weights/weights.h"

typedef struct ut_loader {
    const ut_weights *weights;
    ut_arena *arena; /* of the weights made; outlives plans */
    ut_err *err;
    utter_status status;  /* of the first failure */
    const ut_view **used; /* views that were asked for, in arena */
    size_t n_used;
    int64_t n_params; /* elements of the views that were asked for */
    int least_bits;   /* of the weights made from here on, see ut_weight */
    bool exact;       /* the same */
    float *kernel;    /* the last one that ut_conv_kernel gave, of so many bytes at most */
    size_t kernel_bytes;
} ut_loader;

/* Where shape lookups start: err is borrowed, status becomes OK or NOMEM. */
void ut_loader_init(ut_loader *l, const ut_weights *weights, ut_arena *arena, ut_err *err);
/* Give back what the loader itself has; the weights stay. */
void ut_loader_end(ut_loader *l);
/* Record a failure about the file: "FILE: <text>". */
void ut_loader_fail(ut_loader *l, utter_status status, const char *fmt, ...) UT_PRINTF(3, 4);
/* Count a view as asked for; the ut_load_ functions do so themselves. */
void ut_loader_use(ut_loader *l, const ut_view *v);
/* Views that nothing asked for: error if `owned` says that a name belongs to the model (a layer or
 * a codebook too many), a warning in the log otherwise. */
void ut_loader_check_extra(ut_loader *l, bool (*owned)(const char *name, void *user), void *user);

bool ut_load_has(const ut_loader *l, const char *fmt, ...) UT_PRINTF(2, 3);
/* The stored tensor, to look at its shape: NULL and no failure when absent. */
const ut_view *ut_load_find(const ut_loader *l, const char *fmt, ...) UT_PRINTF(2, 3);

/* [rows, cols] as stored. */
const ut_weight *ut_load_matrix(ut_loader *l, int32_t rows, int32_t cols, const char *fmt, ...)
    UT_PRINTF(4, 5);
/* n elements, stored as [n], or with further dimensions of 1. */
const ut_weight *ut_load_vector(ut_loader *l, int32_t n, const char *fmt, ...) UT_PRINTF(3, 4);

/* Rows [first, first + n) of `a` followed by all of `b` (NULL: nothing). */
const ut_weight *ut_weight_slice(ut_loader *l, const char *name, const ut_weight *a, int32_t first,
                                 int32_t n, const ut_weight *b);
/* A new f32 weight to be filled by the caller: *data [rows, cols], zeroed. */
const ut_weight *ut_weight_new(ut_loader *l, const char *name, int32_t rows, int32_t cols,
                               float **data);
/* a's rows, scaled: for signs and constants folded at load. */
const ut_weight *ut_weight_scaled(ut_loader *l, const ut_weight *a, float scale);

/* Define a state: its index; a full set is a failure. */
int ut_load_state(ut_loader *l, ut_state_set *set, const char *name, ut_dtype dtype, int32_t rows,
                  int32_t cols);

#endif
