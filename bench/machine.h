/* machine.h - what this machine can do at best, measured in the run that needs to know: reading
 * memory and multiplying floats. Kernels are judged by their share of it. */
#ifndef UT_BENCH_MACHINE_H
#define UT_BENCH_MACHINE_H

#include <stddef.h>

/* Bytes per second that `threads` threads read together from a buffer of `bytes`, best of five
 * passes; 0: no memory. */
double machine_read_bandwidth(int threads, size_t bytes);

/* Floating-point operations per second of fused multiply-adds in registers, all threads together,
 * with the widest vectors; 0 when the processor has no fused multiply-add. */
double machine_fma_peak(int threads);

#endif
