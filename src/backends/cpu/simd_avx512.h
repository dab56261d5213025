/* simd_avx512.h - the vector vocabulary of the kernel bodies for AVX-512 F, BW, DQ, VL: 16 lanes.
 * simd_avx2.h and simd_scalar.h say the same words; simd_math.h builds functions from them.
 *
 * Loads and stores with a count `n` (1 <= n, lanes past it are zero or untouched) serve tails:
 * every lane computes the same in a full and in a partial vector. */
#ifndef UT_BACKENDS_CPU_SIMD_H
#define UT_BACKENDS_CPU_SIMD_H

#ifndef __AVX512BW__
#error "compile this file with AVX-512 F, BW, DQ, VL enabled"
#endif

#include <immintrin.h>
#include <stdint.h>

#define VW 16

typedef __m512 vf;    /* 16 floats */
typedef __m512i vi;   /* 16 int32 */
typedef __mmask16 vm; /* a comparison's result */

static inline vf v_set(float a)
{
    return _mm512_set1_ps(a);
}
static inline vf v_zero(void)
{
    return _mm512_setzero_ps();
}
static inline vf v_load(const float *p)
{
    return _mm512_loadu_ps(p);
}
static inline void v_store(float *p, vf a)
{
    _mm512_storeu_ps(p, a);
}
static inline __mmask16 v_lanes(int32_t n)
{
    return (__mmask16)(n >= 16 ? 0xffffu : (1u << n) - 1u);
}
static inline vf v_load_n(const float *p, int32_t n)
{
    return n >= VW ? _mm512_loadu_ps(p) : _mm512_maskz_loadu_ps(v_lanes(n), p);
}
static inline void v_store_n(float *p, vf a, int32_t n)
{
    if (n >= VW)
        _mm512_storeu_ps(p, a);
    else
        _mm512_mask_storeu_ps(p, v_lanes(n), a);
}

static inline vf v_add(vf a, vf b)
{
    return _mm512_add_ps(a, b);
}
static inline vf v_sub(vf a, vf b)
{
    return _mm512_sub_ps(a, b);
}
static inline vf v_mul(vf a, vf b)
{
    return _mm512_mul_ps(a, b);
}
static inline vf v_div(vf a, vf b)
{
    return _mm512_div_ps(a, b);
}
static inline vf v_fma(vf a, vf b, vf c) /* a b + c */
{
    return _mm512_fmadd_ps(a, b, c);
}
/* The second operand where either is NaN. */
static inline vf v_max(vf a, vf b)
{
    return _mm512_max_ps(a, b);
}
static inline vf v_min(vf a, vf b)
{
    return _mm512_min_ps(a, b);
}

static inline vm v_less(vf a, vf b)
{
    return _mm512_cmp_ps_mask(a, b, _CMP_LT_OQ);
}
static inline vf v_select(vm m, vf a, vf b) /* m ? a : b */
{
    return _mm512_mask_blend_ps(m, b, a);
}
static inline vf v_abs(vf a)
{
    return _mm512_abs_ps(a);
}
static inline vf v_copysign(vf magnitude, vf sign)
{
    const __m512i top = _mm512_set1_epi32(INT32_MIN);
    return _mm512_castsi512_ps(_mm512_ternarylogic_epi32(top, _mm512_castps_si512(sign),
                                                         _mm512_castps_si512(magnitude), 0xca));
}

static inline vi v_bits(vf a)
{
    return _mm512_castps_si512(a);
}
static inline vf v_from_bits(vi a)
{
    return _mm512_castsi512_ps(a);
}
static inline vi vi_set(int32_t a)
{
    return _mm512_set1_epi32(a);
}
static inline vi vi_add(vi a, vi b)
{
    return _mm512_add_epi32(a, b);
}
static inline vi vi_shl23(vi a)
{
    return _mm512_slli_epi32(a, 23);
}

/* One fixed tree: lanes l and l + 8, then l + 4, l + 2, l + 1. */
static inline float v_sum(vf a)
{
    const __m256 s8 = _mm256_add_ps(_mm512_castps512_ps256(a), _mm512_extractf32x8_ps(a, 1));
    const __m128 s4 = _mm_add_ps(_mm256_castps256_ps128(s8), _mm256_extractf128_ps(s8, 1));
    const __m128 s2 = _mm_add_ps(s4, _mm_movehl_ps(s4, s4));
    return _mm_cvtss_f32(_mm_add_ss(s2, _mm_movehdup_ps(s2)));
}
static inline float v_largest(vf a)
{
    return _mm512_reduce_max_ps(a);
}

static inline __m128 v_fold128(vf a)
{
    const __m256 s8 = _mm256_add_ps(_mm512_castps512_ps256(a), _mm512_extractf32x8_ps(a, 1));
    return _mm_add_ps(_mm256_castps256_ps128(s8), _mm256_extractf128_ps(s8, 1));
}
/* p[i] = sum of the lanes of a[i], i < 4. */
static inline void v_sum4(float *p, const vf a[4])
{
    __m128 s0 = v_fold128(a[0]), s1 = v_fold128(a[1]);
    __m128 s2 = v_fold128(a[2]), s3 = v_fold128(a[3]);
    _MM_TRANSPOSE4_PS(s0, s1, s2, s3);
    _mm_storeu_ps(p, _mm_add_ps(_mm_add_ps(s0, s2), _mm_add_ps(s1, s3)));
}

/* bf16 in memory. */
static inline vf v_load_bf16_n(const uint16_t *p, int32_t n)
{
    const __m256i h =
        n >= VW ? _mm256_loadu_si256((const void *)p) : _mm256_maskz_loadu_epi16(v_lanes(n), p);
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(h), 16));
}
static inline void v_store_bf16_n(uint16_t *p, vf a, int32_t n)
{
    const __m512i u = _mm512_castps_si512(a), hi = _mm512_srli_epi32(u, 16);
    const __m512i odd = _mm512_and_si512(hi, _mm512_set1_epi32(1));
    const __m512i up = _mm512_add_epi32(_mm512_add_epi32(u, _mm512_set1_epi32(0x7fff)), odd);
    const vm nan = _mm512_cmp_ps_mask(a, a, _CMP_UNORD_Q);
    const __m512i r =
        _mm512_mask_or_epi32(_mm512_srli_epi32(up, 16), nan, hi, _mm512_set1_epi32(0x40));
    _mm256_mask_storeu_epi16(p, v_lanes(n), _mm512_cvtepi32_epi16(r));
}

/* Pairs of neighbouring lanes as complex numbers: (x0 c - x1 s, x1 c + x0 s) where angles holds
 * (c, s). */
static inline vf v_rotate(vf x, vf angles)
{
    const vf c = _mm512_moveldup_ps(angles), s = _mm512_movehdup_ps(angles);
    return _mm512_fmaddsub_ps(x, c, _mm512_mul_ps(_mm512_permute_ps(x, 0xb1), s));
}

/* ---- For the linear kernel: 2 * VW outputs of one k from packed panels ---------------------- */

/* Into the second-level cache. A macro: gcc takes a function that only prefetches for one without
 * effect and drops the call. */
#define v_prefetch(p) _mm_prefetch((const char *)(p), _MM_HINT_T1)

static inline void v_load2_f32(const float *p, vf *lo, vf *hi)
{
    *lo = _mm512_loadu_ps(p);
    *hi = _mm512_loadu_ps(p + 16);
}
static inline void v_load2_bf16(const uint16_t *p, vf *lo, vf *hi)
{
    const __m512i w = _mm512_loadu_si512(p);
    *lo = _mm512_castsi512_ps(_mm512_slli_epi32(w, 16));
    *hi = _mm512_castsi512_ps(_mm512_and_si512(w, _mm512_set1_epi32((int32_t)0xffff0000u)));
}
static inline void v_load2_f16(const uint16_t *p, vf *lo, vf *hi)
{
    *lo = _mm512_cvtph_ps(_mm256_loadu_si256((const void *)p));
    *hi = _mm512_cvtph_ps(_mm256_loadu_si256((const void *)(p + 16)));
}
static inline void v_load2_i8(const int8_t *p, vf *lo, vf *hi)
{
    *lo = _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128((const void *)p)));
    *hi = _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128((const void *)(p + 16))));
}
/* Low four bits are of lo, high ones of hi; both stand for 8 less. */
static inline void v_load2_i4(const uint8_t *p, vf *lo, vf *hi)
{
    const vf value = _mm512_setr_ps(-8, -7, -6, -5, -4, -3, -2, -1, 0, 1, 2, 3, 4, 5, 6, 7);
    const __m512i b = _mm512_cvtepu8_epi32(_mm_loadu_si128((const void *)p));
    *lo = _mm512_permutexvar_ps(b, value); /* looks at four bits of an index */
    *hi = _mm512_permutexvar_ps(_mm512_srli_epi32(b, 4), value);
}

#endif
