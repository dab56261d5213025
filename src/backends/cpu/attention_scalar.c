/* attention_scalar.c - attention: plain C. */
#include "backends/cpu/kernels.h"
#include "backends/cpu/simd_scalar.h"
#include "backends/cpu/simd_math.h"

#define MAX_REP 2
#include "backends/cpu/attention_body.h"

void ut_kernels_attention_scalar(ut_kernels *k)
{
    k->attention = attention;
}
