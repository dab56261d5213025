/* weight.h - a constant matrix as plans see it: the vertical concatenation of parts that lie in a
 * checkpoint or in memory of the model. Backends pack it as they like; plans that use the same
 * ut_weight share one packed copy, because its address is its identity. */
#ifndef UT_PLAN_WEIGHT_H
#define UT_PLAN_WEIGHT_H

#include "base/dtype.h"
#include <stdint.h>

#define UT_WEIGHT_MAX_PARTS 32

typedef struct ut_weight_part {
    const void *data; /* [rows, cols] row-major, any alignment; outlives every plan */
    ut_dtype dtype;   /* f32, bf16 or f16 */
    int32_t rows;
} ut_weight_part;

typedef struct ut_weight {
    const char *name; /* for messages and `utter info`; borrowed */
    int32_t rows;     /* output features of a linear; entries of a table; 1 for a vector */
    int32_t cols;     /* input features, taps included; width of a row */
    int n_parts;
    ut_weight_part part[UT_WEIGHT_MAX_PARTS]; /* same cols; rows add up */
} ut_weight;

/* Row r (0 <= r < w->rows) as f32 in dst[cols]. */
void ut_weight_row_f32(const ut_weight *w, int32_t row, float *dst);
/* The widest dtype of the parts: f32 if any part is f32, else the common 16-bit type (f32 when
 * they differ). */
ut_dtype ut_weight_dtype(const ut_weight *w);

#endif
