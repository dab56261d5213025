/* cpu.h - what the processor and the operating system let us use, detected once. */
#ifndef UT_BASE_CPU_H
#define UT_BASE_CPU_H

#include <stdbool.h>
#include <stddef.h>

#if defined(__x86_64__) || defined(__i386__)
#define UT_ARCH_X86 1
#else
#define UT_ARCH_X86 0
#endif

enum {
    UT_CPU_AVX2 = 1u << 0,   /* AVX2 + FMA + F16C */
    UT_CPU_AVX512 = 1u << 1, /* AVX-512 F, BW, DQ, VL */
    UT_CPU_AVX512_BF16 = 1u << 2,
};

unsigned ut_cpu_flags(void);                  /* OS support for the registers included */
void ut_cpu_describe(char *out, size_t size); /* "AVX2 AVX-512 ..." for people */

#endif
