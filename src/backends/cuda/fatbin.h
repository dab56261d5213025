/* fatbin.h - the compiled kernels that the build put into the library (fatbin.c). */
#ifndef UT_BACKENDS_CUDA_FATBIN_H
#define UT_BACKENDS_CUDA_FATBIN_H

enum { CU_FATBINS = 20 };

/* Fatbin i, 0 <= i < CU_FATBINS: what cuModuleLoadData takes. */
const void *cu_fatbin(int i);
/* The number of the one that was made of kernels/FILE.cu, or -1. */
int cu_fatbin_of(const char *file);

#endif
