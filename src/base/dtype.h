/* dtype.h - element types of stored tensors and of tensors in plans. */
#ifndef UT_BASE_DTYPE_H
#define UT_BASE_DTYPE_H

#include <stddef.h>

typedef enum ut_dtype {
    UT_F32,
    UT_BF16,
    UT_F16,
    UT_I32,
    UT_I64,
    UT_F64,
    UT_U8,
    UT_I8,
    UT_BOOL,
    UT_Q8, /* blocks, see plan/quant.h; no file and no tensor of a plan has them */
    UT_Q4,
    UT_DTYPE_COUNT
} ut_dtype;

size_t ut_dtype_size(ut_dtype t);      /* bytes of one element; 0 for blocks */
const char *ut_dtype_name(ut_dtype t); /* "f32", "bf16", ... */

#endif
