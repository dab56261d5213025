/* slot_op.cuh - operations that concern a slot by itself, one at a time: a decision, the look-up of
 * what it chose, angles, a norm, counters, rings. */
#pragma once

#include "backends/cuda/frame_args.h"
#include "backends/cuda/kernels/sampler.cuh"
#include "backends/cuda/kernels/slots.cuh"

/* One operation of one slot, by the block, but a decision. shared: as rms_norm_row wants it. */
UT_DEVICE void slot_op(const cu_slot_op &op, int slot, void *shared)
{
    switch (op.kind) {
    case CU_SLOT_EMBED_SUM:
        for (int row = 0; row < op.u.embed_sum.rows; row++)
            embed_sum_row(op.u.embed_sum, slot, row);
        break;
    case CU_SLOT_GATHER:
        for (int row = 0; row < op.u.gather.rows; row++)
            gather_row(op.u.gather, slot, row);
        break;
    case CU_SLOT_GATHER_SUM:
        for (int row = 0; row < op.u.gather_sum.rows; row++)
            gather_sum_row(op.u.gather_sum, slot, row);
        break;
    case CU_SLOT_COPY:
        for (int i = threadIdx.x; i < op.u.copy.n; i += CU_THREADS)
            op.u.copy.dst[slot * op.u.copy.dst_slot + i] =
                op.u.copy.src[slot * op.u.copy.src_slot + i];
        break;
    case CU_SLOT_NORM:
        for (int row = 0; row < op.u.norm.rows; row++)
            rms_norm_row(op.u.norm, slot, row, (float *)shared);
        break;
    case CU_SLOT_ANGLES:
        for (int i = threadIdx.x; i < op.u.angles.rows * (op.u.angles.dim / 2); i += CU_THREADS)
            rope_angles_pair(op.u.angles, slot, i);
        break;
    case CU_SLOT_TOKEN_CODE:
        if (threadIdx.x == 0)
            token_code_slot(op.u.token_code, slot);
        break;
    case CU_SLOT_RING_PUT:
        ring_put_slot(op.u.ring_put, slot);
        break;
    case CU_SLOT_RING_GET:
        ring_get_slot(op.u.ring_get, slot);
        break;
    case CU_SLOT_ADVANCE:
        if (threadIdx.x == 0)
            advance_slot(op.u.advance, slot);
        break;
    }
}
