/* quant.c - packing of blocks; see quant.h. The CUDA backend's kernels do the same arithmetic. */
#include "plan/quant.h"
#include "base/half.h"
#include <string.h>

/* The largest weights: 127 and 8 times the largest f16. */
#define Q8_MOST 8319008.0f
#define Q4_MOST 524032.0f

/* The nearest whole number of |v| < 2^22, ties to even. */
static int32_t nearest(float v)
{
    const float big = 12582912.0f; /* 1.5 * 2^23: the sum has no bits behind the point */
    return (int32_t)((v + big) - big);
}

/* s rounded to f16; what weights are multiplied by: 1 / scale, 0 where the scale is. */
static uint16_t scale_of(float s, float *inverse)
{
    const uint16_t h = ut_f32_to_f16(s);
    const float scale = ut_f16_to_f32(h);
    *inverse = scale != 0.0f ? 1.0f / scale : 0.0f;
    return h;
}

/* Loops go over whole blocks, a short one filled up with zeros, and take no branch, for compilers
 * to make vectors of. Floats without their sign order like their bits. */

/* Copy n <= block weights into x; the bits of the largest magnitude. */
static inline int32_t take(float *x, const float *w, int32_t n, int32_t block, float most)
{
    int32_t bits[UT_Q8_BLOCK], top = 0, limit;
    memcpy(&limit, &most, sizeof limit);
    memset(x, 0, (size_t)block * sizeof *x);
    memcpy(x, w, (size_t)n * sizeof *x);
    memcpy(bits, x, (size_t)block * sizeof *x);
    for (int32_t i = 0; i < block; i++)
        top = (bits[i] & INT32_MAX) > top ? bits[i] & INT32_MAX : top;
    if (top <= limit)
        return top;
    for (int32_t i = 0; i < block; i++)
        x[i] = x[i] > most ? most : x[i] < -most ? -most : x[i] == x[i] ? x[i] : 0.0f;
    return limit;
}

uint16_t ut_q8_pack(int8_t *q, const float *w, int32_t n)
{
    float x[UT_Q8_BLOCK], most, inverse;
    int32_t r[UT_Q8_BLOCK];
    const int32_t top = take(x, w, n, UT_Q8_BLOCK, Q8_MOST);
    memcpy(&most, &top, sizeof most);
    const uint16_t scale = scale_of(most / 127.0f, &inverse);
    for (int i = 0; i < UT_Q8_BLOCK; i++)
        r[i] = nearest(x[i] * inverse);
    for (int i = 0; i < UT_Q8_BLOCK; i++)
        r[i] = r[i] > 127 ? 127 : r[i];
    for (int i = 0; i < UT_Q8_BLOCK; i++)
        r[i] = r[i] < -127 ? -127 : r[i];
    for (int32_t i = 0; i < n; i++)
        q[i] = (int8_t)r[i];
    return scale;
}

uint16_t ut_q4_pack(int8_t *q, const float *w, int32_t n)
{
    float x[UT_Q4_BLOCK], most, inverse;
    int32_t r[UT_Q4_BLOCK], sign = INT32_MIN, top = take(x, w, n, UT_Q4_BLOCK, Q4_MOST);
    memcpy(r, x, sizeof r);
    for (int i = 0; i < UT_Q4_BLOCK; i++) /* of two that are equally large, the positive one */
        sign = r[i] == top ? 0 : sign;
    top |= sign;
    memcpy(&most, &top, sizeof most);
    const uint16_t scale = scale_of(most / -8.0f, &inverse);
    for (int i = 0; i < UT_Q4_BLOCK; i++)
        r[i] = nearest(x[i] * inverse);
    for (int i = 0; i < UT_Q4_BLOCK; i++)
        r[i] = r[i] > 7 ? 7 : r[i];
    for (int i = 0; i < UT_Q4_BLOCK; i++)
        r[i] = r[i] < -8 ? -8 : r[i];
    for (int32_t i = 0; i < n; i++)
        q[i] = (int8_t)r[i];
    return scale;
}
