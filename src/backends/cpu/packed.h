/* packed.h - weights in the forms that kernels want, made once per backend and shared by all execs
 * that use the same ut_weight: the address of the ut_weight is its identity. */
#ifndef UT_BACKENDS_CPU_PACKED_H
#define UT_BACKENDS_CPU_PACKED_H

#include "backends/backend.h"
#include "backends/cpu/kernels.h"
#include "backends/cpu/pool.h"

typedef enum ut_form {
    UT_FORM_PANELS,       /* a linear's matrix, see kernels.h; type by the precision */
    UT_FORM_F32_PANELS,   /* the same in f32, whatever the precision */
    UT_FORM_UNIT_PANELS,  /* the same in f32, every row scaled to length 1 */
    UT_FORM_VECTOR,       /* f32, zero-padded to whole panels */
    UT_FORM_INVERSE,      /* UT_FORM_VECTOR of 1 / (v + 1e-9) */
    UT_FORM_HALF_SQUARES, /* f32 [rows], zero-padded to whole panels: -|row|^2 / 2 */
    UT_FORM_TAPS          /* f32 [cols, rows]: the transposed matrix */
} ut_form;

typedef struct ut_packed {
    const ut_weight *w;
    ut_form form;
    ut_packing type; /* of the data */
    void *data;      /* 64-byte aligned */
    size_t bytes;
    int refs;
    bool filled;
} ut_packed;

typedef struct ut_packed_set {
    ut_packed **items; /* owned */
    size_t n, cap;
    size_t bytes; /* of all data */
} ut_packed_set;

void ut_packed_set_free(ut_packed_set *s);

/* Find or add a weight's form and take a reference. A new one has memory but no contents before
 * ut_packed_fill. */
utter_status ut_packed_get(ut_packed_set *s, const ut_kernels *k, ut_precision precision,
                           const ut_weight *w, ut_form form, ut_packed **out, ut_err *err);
void ut_packed_release(ut_packed_set *s, ut_packed *p); /* NULL is fine */

/* Fill everything new, with all members of the pool. */
utter_status ut_packed_fill(ut_packed_set *s, const ut_kernels *k, ut_pool *pool, ut_err *err);

#endif
