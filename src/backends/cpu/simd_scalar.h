/* simd_scalar.h - the vector vocabulary of the kernel bodies in plain C: one lane. See
 * simd_avx512.h for what the words mean. v_fma rounds twice here: a fused one without the
 * instruction is a slow library call. */
#ifndef UT_BACKENDS_CPU_SIMD_H
#define UT_BACKENDS_CPU_SIMD_H

#include "base/half.h"
#include <math.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#define VW 1

typedef float vf;
typedef int32_t vi;
typedef bool vm;

static inline vf v_set(float a)
{
    return a;
}
static inline vf v_zero(void)
{
    return 0.0f;
}
static inline vf v_load(const float *p)
{
    return *p;
}
static inline void v_store(float *p, vf a)
{
    *p = a;
}
static inline vf v_load_n(const float *p, int32_t n)
{
    (void)n;
    return *p;
}
static inline void v_store_n(float *p, vf a, int32_t n)
{
    (void)n;
    *p = a;
}

static inline vf v_add(vf a, vf b)
{
    return a + b;
}
static inline vf v_sub(vf a, vf b)
{
    return a - b;
}
static inline vf v_mul(vf a, vf b)
{
    return a * b;
}
static inline vf v_div(vf a, vf b)
{
    return a / b;
}
static inline vf v_fma(vf a, vf b, vf c)
{
    return a * b + c;
}
static inline vf v_max(vf a, vf b)
{
    return a > b ? a : b;
}
static inline vf v_min(vf a, vf b)
{
    return a < b ? a : b;
}

static inline vm v_less(vf a, vf b)
{
    return a < b;
}
static inline vf v_select(vm m, vf a, vf b)
{
    return m ? a : b;
}
static inline vf v_abs(vf a)
{
    return fabsf(a);
}
static inline vf v_copysign(vf magnitude, vf sign)
{
    return copysignf(magnitude, sign);
}

static inline vi v_bits(vf a)
{
    vi b;
    memcpy(&b, &a, sizeof b);
    return b;
}
static inline vf v_from_bits(vi a)
{
    vf b;
    memcpy(&b, &a, sizeof b);
    return b;
}
static inline vi vi_set(int32_t a)
{
    return a;
}
static inline vi vi_add(vi a, vi b)
{
    return (vi)((uint32_t)a + (uint32_t)b);
}
static inline vi vi_shl23(vi a)
{
    return (vi)((uint32_t)a << 23);
}

static inline float v_sum(vf a)
{
    return a;
}
static inline float v_largest(vf a)
{
    return a;
}
static inline void v_sum4(float *p, const vf a[4])
{
    memcpy(p, a, 4 * sizeof *p);
}

static inline vf v_load_bf16_n(const uint16_t *p, int32_t n)
{
    (void)n;
    return ut_bf16_to_f32(*p);
}
static inline void v_store_bf16_n(uint16_t *p, vf a, int32_t n)
{
    (void)n;
    *p = ut_f32_to_bf16(a);
}

#endif
