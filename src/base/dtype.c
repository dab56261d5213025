/* dtype.c - sizes and names of element types. */
#include "base/dtype.h"

static const struct {
    size_t size;
    const char *name;
} types[] = {
    [UT_F32] = {4, "f32"},   [UT_BF16] = {2, "bf16"}, [UT_F16] = {2, "f16"}, [UT_I32] = {4, "i32"},
    [UT_I64] = {8, "i64"},   [UT_F64] = {8, "f64"},   [UT_U8] = {1, "u8"},   [UT_I8] = {1, "i8"},
    [UT_BOOL] = {1, "bool"}, [UT_Q8] = {0, "int8"},   [UT_Q4] = {0, "int4"},
};

_Static_assert(sizeof types / sizeof types[0] == UT_DTYPE_COUNT, "one row per type");

size_t ut_dtype_size(ut_dtype t)
{
    return (unsigned)t < UT_DTYPE_COUNT ? types[t].size : 0;
}

const char *ut_dtype_name(ut_dtype t)
{
    return (unsigned)t < UT_DTYPE_COUNT ? types[t].name : "unknown type";
}
