/* linear_avx2.c - the linear kernel with 8 lanes: tiles of 6 rows by 16 outputs take 12 of the 16
 * registers. */
#include "backends/cpu/kernels.h"
#include "backends/cpu/simd_avx2.h"
#include "backends/cpu/simd_math.h"

#define TILE_ROWS 6
#include "backends/cpu/linear_body.h"

void ut_kernels_linear_avx2(ut_kernels *k)
{
    fill_linear(k);
}
