/* view.c - elements of a stored tensor as f32. The loops read through memcpy because tensors in a
 * file need not be aligned; compilers turn them into vector loads. */
#include "weights/weights.h"

#include <assert.h>
#include <string.h>

static void from_bf16(float *restrict dst, const uint8_t *src, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        uint16_t h;
        memcpy(&h, src + 2 * i, sizeof h);
        const uint32_t u = (uint32_t)h << 16;
        memcpy(&dst[i], &u, sizeof u);
    }
}

/* Exponent and fraction moved to their f32 places, then the exponent rebiased by 127 - 15. Where
 * the f16 exponent is 31 (infinity, NaN) it is rebiased twice; where it is 0 the number is the
 * difference to 2^-14, which f32 arithmetic normalises exactly. */
static void from_f16(float *restrict dst, const uint8_t *src, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        uint16_t h;
        memcpy(&h, src + 2 * i, sizeof h);
        const uint32_t magnitude = (uint32_t)(h & 0x7fffu) << 13;
        const uint32_t exponent = magnitude & 0x0f800000u;
        const uint32_t twice = exponent == 0x0f800000u ? 0x38000000u : 0;
        const uint32_t rebiased = magnitude + 0x38000000u + twice;
        const uint32_t shifted = magnitude + 0x38800000u;
        const float smallest = 0x1p-14f;
        float f;
        uint32_t u;
        memcpy(&f, &shifted, sizeof f);
        f -= smallest;
        memcpy(&u, &f, sizeof u);
        u = (exponent == 0 ? u : rebiased) | (uint32_t)(h & 0x8000u) << 16;
        memcpy(&dst[i], &u, sizeof u);
    }
}

#define UT_FROM_NUMBER(name, type)                                                                 \
    static void name(float *restrict dst, const uint8_t *src, size_t n)                            \
    {                                                                                              \
        for (size_t i = 0; i < n; i++) {                                                           \
            type x;                                                                                \
            memcpy(&x, src + sizeof x * i, sizeof x);                                              \
            dst[i] = (float)x;                                                                     \
        }                                                                                          \
    }
UT_FROM_NUMBER(from_f64, double)
UT_FROM_NUMBER(from_i64, int64_t)
UT_FROM_NUMBER(from_i32, int32_t)
UT_FROM_NUMBER(from_i8, int8_t)
UT_FROM_NUMBER(from_u8, uint8_t) /* and bool: 0 and 1 */

void ut_view_to_f32(const ut_view *v, int64_t first, int64_t n, float *dst)
{
    assert(first >= 0 && n >= 0 && first <= v->n_elements && n <= v->n_elements - first);
    const size_t count = (size_t)n;
    if (count == 0)
        return;
    const uint8_t *src = (const uint8_t *)v->data + (size_t)first * ut_dtype_size(v->dtype);
    switch (v->dtype) {
    case UT_F32:
        memcpy(dst, src, count * sizeof *dst);
        break;
    case UT_BF16:
        from_bf16(dst, src, count);
        break;
    case UT_F16:
        from_f16(dst, src, count);
        break;
    case UT_F64:
        from_f64(dst, src, count);
        break;
    case UT_I64:
        from_i64(dst, src, count);
        break;
    case UT_I32:
        from_i32(dst, src, count);
        break;
    case UT_I8:
        from_i8(dst, src, count);
        break;
    case UT_U8:
    case UT_BOOL:
        from_u8(dst, src, count);
        break;
    case UT_Q8:
    case UT_Q4:
    case UT_DTYPE_COUNT:
        assert(!"a type");
        break;
    }
}
