/* quant.c - packing of blocks; see quant.h. The CUDA backend's kernels do the same arithmetic. */
#include "plan/quant.h"
#include "base/half.h"

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

uint16_t ut_q8_pack(int8_t *q, const float *w, int32_t n)
{
    float most = 0, inverse;
    for (int32_t i = 0; i < n; i++) {
        const float a = w[i] < 0 ? -w[i] : w[i];
        most = a > most ? a : most;
    }
    const uint16_t scale = scale_of(most / 127.0f, &inverse);
    for (int32_t i = 0; i < n; i++)
        q[i] = (int8_t)nearest(limit(w[i] * inverse, -127.0f, 127.0f));
    return scale;
}

uint16_t ut_q4_pack(int8_t *q, const float *w, int32_t n)
{
    float high = 0, low = 0, inverse;
    for (int32_t i = 0; i < n; i++) {
        high = w[i] > high ? w[i] : high;
        low = w[i] < low ? w[i] : low;
    }
    const uint16_t scale = scale_of((high > -low ? high : low) / -8.0f, &inverse);
    for (int32_t i = 0; i < n; i++)
        q[i] = (int8_t)nearest(limit(w[i] * inverse, -8.0f, 7.0f));
    return scale;
}
