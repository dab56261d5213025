/* weight.h - a constant matrix as plans see it: the vertical concatenation of parts that lie in a
 * checkpoint or in memory of the model. Backends pack it as they like; plans that use the same
 * ut_weight share one packed copy, because its address is its identity. */
#ifndef UT_PLAN_WEIGHT_H
#define UT_PLAN_WEIGHT_H

#include "base/dtype.h"
#include <stdbool.h>
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
    int least_bits;   /* of an element at UT_PRECISION_INT4: 4, 8; 0: no whole numbers at all */
    bool exact;       /* never in fewer bits than it is stored in: what it makes is compared */
    int n_parts;
    ut_weight_part part[UT_WEIGHT_MAX_PARTS]; /* same cols; rows add up */
} ut_weight;

/* In which type the large matrices are kept. */
typedef enum ut_precision {
    UT_PRECISION_AUTO, /* as stored */
    UT_PRECISION_F32,
    UT_PRECISION_BF16,
    UT_PRECISION_F16,
    UT_PRECISION_INT8, /* q8 and q4 (plan/quant.h) as far as ut_weight allows, else as stored, or
                          what the backend has for products that are heard */
    UT_PRECISION_INT4
} ut_precision;

/* Columns [col, col + n) of row r (0 <= r < w->rows) as f32. */
void ut_weight_read_f32(const ut_weight *w, int32_t row, int32_t col, int32_t n, float *dst);
/* Row r as f32 in dst[cols]. */
void ut_weight_row_f32(const ut_weight *w, int32_t row, float *dst);
/* The widest dtype of the parts: f32 if any part is f32, else the common 16-bit type (f32 when
 * they differ). */
ut_dtype ut_weight_dtype(const ut_weight *w);
/* The type that a product's matrix is kept in: f32, bf16, f16, q8 or q4. */
ut_dtype ut_weight_kept_type(const ut_weight *w, ut_precision precision);
/* Bytes of the matrix in that type, a backend's padding left out. */
int64_t ut_weight_kept_bytes(const ut_weight *w, ut_precision precision);

#endif
