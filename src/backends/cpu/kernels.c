/* kernels.c - fills the kernel table for a set of processor features. */
#include "backends/cpu/kernels.h"
#include "base/cpu.h"

void ut_kernels_init(ut_kernels *k, unsigned cpu)
{
    k->name = "scalar";
    ut_kernels_linear_scalar(k);
    ut_kernels_rows_scalar(k);
    ut_kernels_attention_scalar(k);
#if UT_ARCH_X86
    if (cpu & UT_CPU_AVX2) {
        k->name = "AVX2";
        ut_kernels_linear_avx2(k);
        ut_kernels_rows_avx2(k);
        ut_kernels_attention_avx2(k);
    }
    if (cpu & UT_CPU_AVX512) {
        k->name = "AVX-512";
        ut_kernels_linear_avx512(k);
        ut_kernels_rows_avx512(k);
        ut_kernels_attention_avx512(k);
    }
#else
    (void)cpu;
#endif
}
