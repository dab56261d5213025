/* frame.cu - a frame in plain arithmetic, for matrices and caches of any type: see frame_walk.cuh.
 */
#include "backends/cuda/kernels/frame_walk.cuh"

UT_KERNEL_ALONE(frame, cu_frame_args, CU_FRAME_THREADS)
{
    walk<0>(a);
}
