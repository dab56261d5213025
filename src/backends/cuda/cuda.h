/* cuda.h - the backend for NVIDIA GPUs: kernels of our own, the driver found at run time. */
#ifndef UT_BACKENDS_CUDA_CUDA_H
#define UT_BACKENDS_CUDA_CUDA_H

#include "backends/backend.h"

extern const ut_backend_ops ut_backend_cuda;

#endif
