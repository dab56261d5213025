/* frame_bf16.cu - a frame whose matrices and caches are bf16, on tensor cores, with copies that
 * arrive by themselves: see frame_walk.cuh. The heads of its small decoder have 64 or 128
 * dimensions; a kernel for both would have too few registers for either. */
#include "backends/cuda/kernels/frame_walk.cuh"

UT_KERNEL_ALONE(frame_bf16_64, cu_frame_args)
{
    UT_MMA_BODY((walk<true, 64>(a)));
}

UT_KERNEL_ALONE(frame_bf16_128, cu_frame_args)
{
    UT_MMA_BODY((walk<true, 128>(a)));
}
