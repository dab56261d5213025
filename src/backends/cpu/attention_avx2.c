/* attention_avx2.c - attention: 8 lanes. */
#include "backends/cpu/kernels.h"
#include "backends/cpu/simd_avx2.h"
#include "backends/cpu/simd_math.h"

#define MAX_REP 2
#include "backends/cpu/attention_body.h"

void ut_kernels_attention_avx2(ut_kernels *k)
{
    k->attention = attention;
}
