/* linear_avx512.c - the linear kernel with 16 lanes: tiles of 12 rows by 32 outputs take 24 of the
 * 32 registers. */
#include "backends/cpu/kernels.h"
#include "backends/cpu/simd_avx512.h"
#include "backends/cpu/simd_math.h"

#define TILE_ROWS 12
#include "backends/cpu/linear_body.h"

void ut_kernels_linear_avx512(ut_kernels *k)
{
    fill_linear(k);
}
