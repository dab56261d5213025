/* frame_bf16.cu - a frame whose matrices and caches are bf16, on tensor cores, with copies that
 * arrive by themselves: see frame_walk.cuh. The heads of its small decoder have 64 or 128
 * dimensions; a kernel for both would have too few registers for either. */
#include "backends/cuda/kernels/frame_walk.cuh"

/* Copies that arrive by themselves come with 9.0: before it the bodies are empty, and the host does
 * not launch them (cu_frame_fetches). */
#if !defined(__CUDA_ARCH__) || __CUDA_ARCH__ >= 900
#define FRAME_BODY(...) __VA_ARGS__
#else
#define FRAME_BODY(...)
#endif

UT_KERNEL_ALONE(frame_bf16_64, cu_frame_args, CU_FRAME_THREADS)
{
    FRAME_BODY(walk<64>(a));
}

UT_KERNEL_ALONE(frame_bf16_128, cu_frame_args, CU_FRAME_THREADS)
{
    FRAME_BODY(walk<128>(a));
}
