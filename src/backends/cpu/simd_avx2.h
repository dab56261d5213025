/* simd_avx2.h - the vector vocabulary of the kernel bodies for AVX2, FMA and F16C: 8 lanes. See
 * simd_avx512.h for what the words mean. */
#ifndef UT_BACKENDS_CPU_SIMD_H
#define UT_BACKENDS_CPU_SIMD_H

#if !defined(__AVX2__) || !defined(__FMA__) || !defined(__F16C__)
#error "compile this file with AVX2, FMA and F16C enabled"
#endif

#include <immintrin.h>
#include <stdint.h>

#define VW 8

typedef __m256 vf;
typedef __m256i vi;
typedef __m256 vm;

static inline vf v_set(float a)
{
    return _mm256_set1_ps(a);
}
static inline vf v_zero(void)
{
    return _mm256_setzero_ps();
}
static inline vf v_load(const float *p)
{
    return _mm256_loadu_ps(p);
}
static inline void v_store(float *p, vf a)
{
    _mm256_storeu_ps(p, a);
}
static inline __m256i v_lanes(int32_t n)
{
    return _mm256_cmpgt_epi32(_mm256_set1_epi32(n), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}
static inline vf v_load_n(const float *p, int32_t n)
{
    return n >= VW ? _mm256_loadu_ps(p) : _mm256_maskload_ps(p, v_lanes(n));
}
static inline void v_store_n(float *p, vf a, int32_t n)
{
    if (n >= VW)
        _mm256_storeu_ps(p, a);
    else
        _mm256_maskstore_ps(p, v_lanes(n), a);
}

static inline vf v_add(vf a, vf b)
{
    return _mm256_add_ps(a, b);
}
static inline vf v_sub(vf a, vf b)
{
    return _mm256_sub_ps(a, b);
}
static inline vf v_mul(vf a, vf b)
{
    return _mm256_mul_ps(a, b);
}
static inline vf v_div(vf a, vf b)
{
    return _mm256_div_ps(a, b);
}
static inline vf v_fma(vf a, vf b, vf c)
{
    return _mm256_fmadd_ps(a, b, c);
}
static inline vf v_max(vf a, vf b)
{
    return _mm256_max_ps(a, b);
}
static inline vf v_min(vf a, vf b)
{
    return _mm256_min_ps(a, b);
}

static inline vm v_less(vf a, vf b)
{
    return _mm256_cmp_ps(a, b, _CMP_LT_OQ);
}
static inline vf v_select(vm m, vf a, vf b)
{
    return _mm256_blendv_ps(b, a, m);
}
static inline vf v_abs(vf a)
{
    return _mm256_andnot_ps(_mm256_set1_ps(-0.0f), a);
}
static inline vf v_copysign(vf magnitude, vf sign)
{
    const vf top = _mm256_set1_ps(-0.0f);
    return _mm256_or_ps(_mm256_andnot_ps(top, magnitude), _mm256_and_ps(top, sign));
}

static inline vi v_bits(vf a)
{
    return _mm256_castps_si256(a);
}
static inline vf v_from_bits(vi a)
{
    return _mm256_castsi256_ps(a);
}
static inline vi vi_set(int32_t a)
{
    return _mm256_set1_epi32(a);
}
static inline vi vi_add(vi a, vi b)
{
    return _mm256_add_epi32(a, b);
}
static inline vi vi_shl23(vi a)
{
    return _mm256_slli_epi32(a, 23);
}

static inline __m128 v_fold128(vf a)
{
    return _mm_add_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
}
static inline float v_sum(vf a)
{
    const __m128 s4 = v_fold128(a);
    const __m128 s2 = _mm_add_ps(s4, _mm_movehl_ps(s4, s4));
    return _mm_cvtss_f32(_mm_add_ss(s2, _mm_movehdup_ps(s2)));
}
static inline float v_largest(vf a)
{
    const __m128 m4 = _mm_max_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
    const __m128 m2 = _mm_max_ps(m4, _mm_movehl_ps(m4, m4));
    return _mm_cvtss_f32(_mm_max_ss(m2, _mm_movehdup_ps(m2)));
}
static inline void v_sum4(float *p, const vf a[4])
{
    __m128 s0 = v_fold128(a[0]), s1 = v_fold128(a[1]);
    __m128 s2 = v_fold128(a[2]), s3 = v_fold128(a[3]);
    _MM_TRANSPOSE4_PS(s0, s1, s2, s3);
    _mm_storeu_ps(p, _mm_add_ps(_mm_add_ps(s0, s2), _mm_add_ps(s1, s3)));
}

static inline vf v_load_bf16_n(const uint16_t *p, int32_t n)
{
    __m128i h;
    if (n >= VW) {
        h = _mm_loadu_si128((const void *)p);
    } else {
        uint16_t part[VW] = {0};
        for (int32_t i = 0; i < n; i++)
            part[i] = p[i];
        h = _mm_loadu_si128((const void *)part);
    }
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(h), 16));
}
static inline void v_store_bf16_n(uint16_t *p, vf a, int32_t n)
{
    const __m256i u = _mm256_castps_si256(a), hi = _mm256_srli_epi32(u, 16);
    const __m256i odd = _mm256_and_si256(hi, _mm256_set1_epi32(1));
    const __m256i up = _mm256_add_epi32(_mm256_add_epi32(u, _mm256_set1_epi32(0x7fff)), odd);
    const __m256i quiet = _mm256_or_si256(hi, _mm256_set1_epi32(0x40));
    const __m256i nan = _mm256_castps_si256(_mm256_cmp_ps(a, a, _CMP_UNORD_Q));
    const __m256i r = _mm256_blendv_epi8(_mm256_srli_epi32(up, 16), quiet, nan);
    const __m128i h = _mm_packus_epi32(_mm256_castsi256_si128(r), _mm256_extracti128_si256(r, 1));
    if (n >= VW) {
        _mm_storeu_si128((void *)p, h);
        return;
    }
    uint16_t part[VW];
    _mm_storeu_si128((void *)part, h);
    for (int32_t i = 0; i < n; i++)
        p[i] = part[i];
}

static inline vf v_rotate(vf x, vf angles)
{
    const vf c = _mm256_moveldup_ps(angles), s = _mm256_movehdup_ps(angles);
    return _mm256_fmaddsub_ps(x, c, _mm256_mul_ps(_mm256_permute_ps(x, 0xb1), s));
}

/* Into the second-level cache. A macro: gcc takes a function that only prefetches for one without
 * effect and drops the call. */
#define v_prefetch(p) _mm_prefetch((const char *)(p), _MM_HINT_T1)

static inline void v_load2_f32(const float *p, vf *lo, vf *hi)
{
    *lo = _mm256_loadu_ps(p);
    *hi = _mm256_loadu_ps(p + 8);
}
static inline void v_load2_bf16(const uint16_t *p, vf *lo, vf *hi)
{
    const __m256i w = _mm256_loadu_si256((const void *)p);
    *lo = _mm256_castsi256_ps(_mm256_slli_epi32(w, 16));
    *hi = _mm256_castsi256_ps(_mm256_and_si256(w, _mm256_set1_epi32((int32_t)0xffff0000u)));
}
static inline void v_load2_f16(const uint16_t *p, vf *lo, vf *hi)
{
    *lo = _mm256_cvtph_ps(_mm_loadu_si128((const void *)p));
    *hi = _mm256_cvtph_ps(_mm_loadu_si128((const void *)(p + 8)));
}
static inline void v_load2_i8(const int8_t *p, vf *lo, vf *hi)
{
    *lo = _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64((const void *)p)));
    *hi = _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64((const void *)(p + 8))));
}
/* Low four bits are of lo, high ones of hi; both stand for 8 less. */
static inline void v_load2_i4(const uint8_t *p, vf *lo, vf *hi)
{
    const __m256i b = _mm256_cvtepu8_epi32(_mm_loadl_epi64((const void *)p));
    const __m256i eight = _mm256_set1_epi32(8), low = _mm256_and_si256(b, _mm256_set1_epi32(15));
    *lo = _mm256_cvtepi32_ps(_mm256_sub_epi32(low, eight));
    *hi = _mm256_cvtepi32_ps(_mm256_sub_epi32(_mm256_srli_epi32(b, 4), eight));
}

#endif
