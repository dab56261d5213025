/* rows_scalar.c - norms, activations and the other row-wise kernels: plain C. */
#include "backends/cpu/kernels.h"
#include "backends/cpu/simd_scalar.h"
#include "backends/cpu/simd_math.h"
#include "backends/cpu/rows_body.h"

void ut_kernels_rows_scalar(ut_kernels *k)
{
    fill_rows(k);
}
