/* half.h - bfloat16 and IEEE binary16 to and from float, round to nearest even. */
#ifndef UT_BASE_HALF_H
#define UT_BASE_HALF_H

#include <stdint.h>
#include <string.h>

static inline float ut_bf16_to_f32(uint16_t h)
{
    uint32_t u = (uint32_t)h << 16;
    float f;
    memcpy(&f, &u, sizeof f);
    return f;
}

static inline uint16_t ut_f32_to_bf16(float f)
{
    uint32_t u;
    memcpy(&u, &f, sizeof u);
    if ((u & 0x7fffffffu) > 0x7f800000u) /* NaN stays a quiet NaN */
        return (uint16_t)((u >> 16) | 0x40u);
    return (uint16_t)((u + 0x7fffu + ((u >> 16) & 1u)) >> 16);
}

/* The value of f after one rounding to bf16. */
static inline float ut_round_bf16(float f)
{
    return ut_bf16_to_f32(ut_f32_to_bf16(f));
}

float ut_f16_to_f32(uint16_t h);
uint16_t ut_f32_to_f16(float f);

#endif
