/* fatbin.h - the compiled kernels that the build put into the library (fatbin.c). */
#ifndef UT_BACKENDS_CUDA_FATBIN_H
#define UT_BACKENDS_CUDA_FATBIN_H

enum { CU_FATBINS = 14 };

/* Fatbin i, 0 <= i < CU_FATBINS: what cuModuleLoadData takes. */
const void *cu_fatbin(int i);

#endif
