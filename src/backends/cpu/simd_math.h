/* simd_math.h - exp, tanh, erf and sin^2 on vectors, for the kernel bodies; include after one of
 * the simd_<isa>.h. Every lane is computed alike, whatever its position and neighbours.
 *
 * Polynomials are near-minimax fits (weighted least squares with Lawson's reweighting, 40 digits)
 * of the functions named beside them; "fit" is the largest relative error of the real-valued fit.
 * The errors said per function are measured by tests/test_kernels.c. */
#ifndef UT_BACKENDS_CPU_SIMD_MATH_H
#define UT_BACKENDS_CPU_SIMD_MATH_H

#include <math.h>

/* 1.5 * 2^23: adding it rounds to an integer that then stands in the low bits. */
#define V_ROUNDER 12582912.0f

/* e^x, within 2 ulp; 0 below -87.33 and infinity above 88.37; NaN stays NaN.
 * x = n ln 2 + r, |r| <= ln 2 / 2; e^r = 1 + r + r^2 P(r), fit 3.1e-9. */
static inline vf v_exp(vf x)
{
    const vf low = v_set(-87.33f), high = v_set(88.37f);
    const vf c = v_min(high, v_max(low, x));
    const vf shifted = v_add(v_mul(c, v_set(0x1.715476p+0f)), v_set(V_ROUNDER));
    const vf n = v_sub(shifted, v_set(V_ROUNDER));
    vf r = v_fma(n, v_set(-0x1.62e4p-1f), c); /* 15 bits of ln 2: n times it is exact */
    r = v_fma(n, v_set(-0x1.7f7d1cp-20f), r);
    vf p = v_set(0x1.6a0c56p-10f);
    p = v_fma(p, r, v_set(0x1.123a3cp-7f));
    p = v_fma(p, r, v_set(0x1.55591p-5f));
    p = v_fma(p, r, v_set(0x1.55549p-3f));
    p = v_fma(p, r, v_set(0x1.fffffcp-2f));
    p = v_add(v_set(1.0f), v_fma(v_mul(r, r), p, r));
    const vi two_n = vi_shl23(vi_add(v_bits(shifted), vi_set(127)));
    vf y = v_mul(p, v_from_bits(two_n));
    y = v_select(v_less(x, low), v_zero(), y);
    return v_select(v_less(high, x), v_set((float)INFINITY), y);
}

/* tanh x, within 3 ulp. Up to 0.625 x + x^3 P(x^2), fit 4.4e-9; else 1 - 2 / (e^2|x| + 1). */
static inline vf v_tanh(vf x)
{
    const vf a = v_abs(x), s = v_mul(x, x);
    vf p = v_set(-0x1.75ebdp-8f);
    p = v_fma(p, s, v_set(0x1.5228fp-6f));
    p = v_fma(p, s, v_set(-0x1.b83cbap-5f));
    p = v_fma(p, s, v_set(0x1.11072ap-3f));
    p = v_fma(p, s, v_set(-0x1.555532p-2f));
    p = v_fma(v_mul(p, s), x, x);
    const vf e = v_exp(v_add(a, a));
    const vf q = v_sub(v_set(1.0f), v_div(v_set(2.0f), v_add(e, v_set(1.0f))));
    return v_select(v_less(a, v_set(0.625f)), p, v_copysign(q, x));
}

/* erf x, within 3 ulp. Up to 1 x P(x^2), fit 1.2e-9; else 1 - e^-Q(|x|), Q fitted to -ln erfc on
 * [1, 4], fit of the result 1.0e-9; above 4 it is 1 in f32. */
static inline vf v_erf(vf x)
{
    const vf a = v_min(v_set(4.0f), v_abs(x)), s = v_mul(x, x);
    vf p = v_set(0x1.496e44p-14f);
    p = v_fma(p, s, v_set(-0x1.a3f87ep-11f));
    p = v_fma(p, s, v_set(0x1.5405e6p-8f));
    p = v_fma(p, s, v_set(-0x1.b7f914p-6f));
    p = v_fma(p, s, v_set(0x1.ce2cf8p-4f));
    p = v_fma(p, s, v_set(-0x1.81273ep-2f));
    p = v_mul(v_fma(p, s, v_set(0x1.20dd74p+0f)), x);
    vf q = v_set(-0x1.85146ep-13f);
    q = v_fma(q, a, v_set(0x1.813fa8p-9f));
    q = v_fma(q, a, v_set(-0x1.653c7p-6f));
    q = v_fma(q, a, v_set(0x1.a607fp-4f));
    q = v_fma(q, a, v_set(0x1.46c5d8p-1f));
    q = v_fma(q, a, v_set(0x1.20859cp+0f));
    q = v_fma(q, a, v_set(0x1.733852p-12f));
    q = v_sub(v_set(1.0f), v_exp(v_sub(v_zero(), q)));
    return v_select(v_less(v_abs(x), v_set(1.0f)), p, v_copysign(q, x));
}

/* x minus the nearest multiple of pi. */
static inline vf v_mod_pi(vf x)
{
#if VW > 1
    const vf shifted = v_fma(x, v_set(0x1.45f306p-2f), v_set(V_ROUNDER));
    const vf n = v_sub(v_zero(), v_sub(shifted, v_set(V_ROUNDER)));
    vf r = v_fma(n, v_set(0x1.921fb6p+1f), x); /* exact: fused */
    r = v_fma(n, v_set(-0x1.777a5cp-24f), r);
    return v_fma(n, v_set(-0x1.ee59dap-49f), r);
#else
    const double n = nearbyint((double)x * 0x1.45f306dc9c883p-2);
    return (float)((double)x - n * 0x1.921fb54442d18p+1);
#endif
}

/* sin^2 x; the sine within 2 ulp for |x| <= 10000 and to 2e-7 for |x| <= 10^6.
 * sin r = r + r^3 P(r^2) on [-pi/2, pi/2], fit 6.1e-9. */
static inline vf v_sin_squared(vf x)
{
    const vf r = v_mod_pi(x), s = v_mul(r, r);
    vf p = v_set(0x1.5dbd4cp-19f);
    p = v_fma(p, s, v_set(-0x1.9f6fe8p-13f));
    p = v_fma(p, s, v_set(0x1.110ed2p-7f));
    p = v_fma(p, s, v_set(-0x1.55554cp-3f));
    const vf sine = v_fma(v_mul(p, s), r, r);
    return v_mul(sine, sine);
}

/* x / (1 + e^-x) */
static inline vf v_silu(vf x)
{
    return v_div(x, v_add(v_set(1.0f), v_exp(v_sub(v_zero(), x))));
}

/* x / 2 (1 + erf(x / sqrt 2)) */
static inline vf v_gelu(vf x)
{
    const vf e = v_erf(v_mul(x, v_set(0x1.6a09e6p-1f)));
    return v_mul(v_mul(x, v_set(0.5f)), v_add(v_set(1.0f), e));
}

static inline vf v_snake(vf x, vf alpha, vf inv_beta)
{
    return v_fma(v_sin_squared(v_mul(alpha, x)), inv_beta, x);
}

/* 1 / (1 + e^-x) */
static inline vf v_sigmoid(vf x)
{
    return v_div(v_set(1.0f), v_add(v_set(1.0f), v_exp(v_sub(v_zero(), x))));
}

/* x > 0 ? x : e^x - 1, the latter within 1.2e-7. */
static inline vf v_elu(vf x)
{
    const vf e = v_sub(v_exp(v_min(v_zero(), x)), v_set(1.0f));
    return v_select(v_less(v_zero(), x), x, e);
}

/* The activations without weights; `act` is the same for a whole row, so its branch is cheap. */
static inline vf v_act(vf x, ut_act act)
{
    switch (act) {
    case UT_ACT_GELU:
        return v_gelu(x);
    case UT_ACT_TANH:
        return v_tanh(x);
    case UT_ACT_SILU:
        return v_silu(x);
    case UT_ACT_SIGMOID:
        return v_sigmoid(x);
    case UT_ACT_RELU:
        return v_max(x, v_zero());
    case UT_ACT_ELU:
        return v_elu(x);
    case UT_ACT_CLAMP:
        return v_min(v_max(x, v_set(-1.0f)), v_set(1.0f));
    default:
        return x;
    }
}

#endif
