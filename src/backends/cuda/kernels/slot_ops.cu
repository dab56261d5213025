/* slot_ops.cu - what concerns each slot by itself and stands together in a plan, by a block to a
 * slot. */
#include "backends/cuda/kernels/slot_op.cuh"

UT_KERNEL(slot_ops, cu_slot_ops_args)
{
    UT_SHARED(unsigned char, shared);
#pragma unroll 1
    for (int i = 0; i < a.n; i++) {
        if (i > 0)
            __syncthreads();
        if (a.op[i].kind == CU_SLOT_SAMPLE)
            sample_slot(a.op[i].u.sample, blockIdx.x, shared);
        else
            slot_op(a.op[i], blockIdx.x, shared);
    }
}
