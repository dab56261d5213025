/* quant.c - packing of blocks; see quant.h. The CUDA backend's kernels do the same arithmetic. */
#include "plan/quant.h"
#include "base/half.h"
#include <string.h>

#define F16_MAX 65504.0f

/* The nearest whole number of |v| < 2^22, ties to even. */
static float nearest(float v)
{
    const float big = 12582912.0f; /* 1.5 * 2^23: the sum has no bits behind the point */
    return (v + big) - big;
}

/* The f16 nearest to s, and what weights are multiplied by: 1 / scale, 0 where the scale is. */
static uint16_t scale_of(float s, float *inverse)
{
    s = s < F16_MAX ? s : F16_MAX;
    s = s > -F16_MAX ? s : -F16_MAX;
    const uint16_t h = ut_f32_to_f16(s);
    const float scale = ut_f16_to_f32(h);
    *inverse = scale != 0.0f ? 1.0f / scale : 0.0f;
    return h;
}

static float limit(float v, float low, float high)
{
    v = v > low ? v : low; /* NaN becomes low */
    return v < high ? v : high;
}

/* Loops go over whole blocks, a short one filled up with zeros, for the compiler to unroll. Floats
 * without their sign order like their bits. */

uint16_t ut_q8_pack(int8_t *q, const float *w, int32_t n)
{
    float x[UT_Q8_BLOCK] = {0}, most, inverse;
    int32_t r[UT_Q8_BLOCK], top = 0;
    memcpy(x, w, (size_t)n * sizeof *x);
    memcpy(r, x, sizeof r);
    for (int i = 0; i < UT_Q8_BLOCK; i++)
        top = (r[i] & 0x7fffffff) > top ? r[i] & 0x7fffffff : top;
    memcpy(&most, &top, sizeof most);
    const uint16_t scale = scale_of(most / 127.0f, &inverse);
    for (int i = 0; i < UT_Q8_BLOCK; i++)
        r[i] = (int32_t)nearest(limit(x[i] * inverse, -127.0f, 127.0f));
    for (int32_t i = 0; i < n; i++)
        q[i] = (int8_t)r[i];
    return scale;
}

uint16_t ut_q4_pack(int8_t *q, const float *w, int32_t n)
{
    float x[UT_Q4_BLOCK] = {0}, most, inverse;
    int32_t r[UT_Q4_BLOCK], top = 0, sign = INT32_MIN;
    memcpy(x, w, (size_t)n * sizeof *x);
    memcpy(r, x, sizeof r);
    for (int i = 0; i < UT_Q4_BLOCK; i++)
        top = (r[i] & 0x7fffffff) > top ? r[i] & 0x7fffffff : top;
    for (int i = 0; i < UT_Q4_BLOCK; i++) /* of two that are equally large, the positive one */
        sign = r[i] == top ? 0 : sign;
    top |= sign;
    memcpy(&most, &top, sizeof most);
    const uint16_t scale = scale_of(most / -8.0f, &inverse);
    for (int i = 0; i < UT_Q4_BLOCK; i++)
        r[i] = (int32_t)nearest(limit(x[i] * inverse, -8.0f, 7.0f));
    for (int32_t i = 0; i < n; i++)
        q[i] = (int8_t)r[i];
    return scale;
}
