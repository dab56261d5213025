/* cpu.c - processor features: cpuid for the instructions, xgetbv for whether the system saves the
 * registers they use (Intel SDM vol. 1, 14.3 and 15.2). */
#include "base/cpu.h"
#include "base/os.h"
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>

#if UT_ARCH_X86
#include <cpuid.h>

static uint64_t xgetbv0(void)
{
    uint32_t lo, hi;
    __asm__ volatile("xgetbv" : "=a"(lo), "=d"(hi) : "c"(0));
    return (uint64_t)hi << 32 | lo;
}

static unsigned detect(void)
{
    enum { ECX_FMA = 1 << 12, ECX_OSXSAVE = 1 << 27, ECX_AVX = 1 << 28, ECX_F16C = 1 << 29 };
    const unsigned ebx_avx2 = 1u << 5;
    const unsigned ebx_avx512 = 1u << 16 | 1u << 17 | 1u << 30 | 1u << 31; /* F, DQ, BW, VL */
    const unsigned eax_bf16 = 1u << 5;                                     /* leaf 7, subleaf 1 */
    const uint64_t xcr_avx = 0x6, xcr_avx512 = 0xe6; /* xmm, ymm; opmask, zmm halves */
    const unsigned ecx_all = ECX_FMA | ECX_OSXSAVE | ECX_AVX | ECX_F16C;

    unsigned a, b, c, d, flags = 0;
    if (!__get_cpuid(1, &a, &b, &c, &d) || (c & ecx_all) != ecx_all)
        return 0;
    uint64_t xcr = xgetbv0();
    unsigned n_subleaves;
    if ((xcr & xcr_avx) != xcr_avx || !__get_cpuid_count(7, 0, &n_subleaves, &b, &c, &d))
        return 0;
    if (!(b & ebx_avx2))
        return 0;
    flags |= UT_CPU_AVX2;
    if ((xcr & xcr_avx512) != xcr_avx512 || (b & ebx_avx512) != ebx_avx512)
        return flags;
    flags |= UT_CPU_AVX512;
    if (n_subleaves >= 1 && __get_cpuid_count(7, 1, &a, &b, &c, &d) && (a & eax_bf16))
        flags |= UT_CPU_AVX512_BF16;
    return flags;
}

void ut_thread_pause(void)
{
    __builtin_ia32_pause();
}

#else

static unsigned detect(void)
{
    return 0;
}

void ut_thread_pause(void)
{
#if defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

#endif

unsigned ut_cpu_flags(void)
{
    const unsigned known = 1u << 31;
    static _Atomic unsigned cached;
    unsigned flags = atomic_load_explicit(&cached, memory_order_relaxed);
    if (!flags) {
        flags = detect() | known;
        atomic_store_explicit(&cached, flags, memory_order_relaxed);
    }
    return flags & ~known;
}

void ut_cpu_describe(char *out, size_t size)
{
    unsigned flags = ut_cpu_flags();
    if (!flags)
        snprintf(out, size, "baseline");
    else
        snprintf(out, size, "AVX2%s%s", flags & UT_CPU_AVX512 ? " AVX-512" : "",
                 flags & UT_CPU_AVX512_BF16 ? " AVX-512-BF16" : "");
}
