/* cpu.h - the backend that is always there: kernels of our own on the processor's cores. */
#ifndef UT_BACKENDS_CPU_CPU_H
#define UT_BACKENDS_CPU_CPU_H

#include "backends/backend.h"

extern const ut_backend_ops ut_backend_cpu;

#endif
