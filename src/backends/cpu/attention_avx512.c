/* attention_avx512.c - attention: 16 lanes. */
#include "backends/cpu/kernels.h"
#include "backends/cpu/simd_avx512.h"
#include "backends/cpu/simd_math.h"

#define MAX_REP 4
#include "backends/cpu/attention_body.h"

void ut_kernels_attention_avx512(ut_kernels *k)
{
    k->attention = attention;
}
