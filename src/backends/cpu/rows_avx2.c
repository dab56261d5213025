/* rows_avx2.c - norms, activations and the other row-wise kernels: 8 lanes. */
#include "backends/cpu/kernels.h"
#include "backends/cpu/simd_avx2.h"
#include "backends/cpu/simd_math.h"
#include "backends/cpu/rows_body.h"

void ut_kernels_rows_avx2(ut_kernels *k)
{
    fill_rows(k);
}
