/* frame.cu - a frame of a decoder: one kernel that walks a table of phases, all of them in one
 * cooperative launch or a phase per launch. The results are the same bits. */
#include "backends/cuda/kernels/frame_attention.cuh"
#include "backends/cuda/kernels/frame_linear.cuh"
#include "backends/cuda/kernels/sampler.cuh"
#include "backends/cuda/kernels/slots.cuh"

/* Bytes of shared memory by all threads, 16 at a time. */
UT_DEVICE void bring(void *dst, const void *src, size_t bytes)
{
    for (size_t i = threadIdx.x; i < bytes / 16; i += CU_THREADS)
        ((uint4 *)dst)[i] = __ldg((const uint4 *)src + i);
}

UT_DEVICE void norm_row(const cu_norm_args &a, int slot, int row, float *scratch)
{
    const float *x = a.x + slot * a.x_slot + (int64_t)row * a.cols;
    float *y = a.y + slot * a.y_slot + (int64_t)row * a.cols, s = 0.0f;
    for (int c = threadIdx.x; c < a.cols; c += CU_THREADS)
        s = fmaf(x[c], x[c], s);
    const float scale = 1.0f / sqrtf(block_sum(s, scratch) / (float)a.cols + a.eps);
    for (int c = threadIdx.x; c < a.cols; c += CU_THREADS)
        y[c] = x[c] * scale * a.gain[c];
}

/* One operation of one slot, by the block. */
UT_DEVICE void slot_op(const cu_slot_op &op, int slot, float *xs)
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
            norm_row(op.u.norm, slot, row, xs);
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
    case CU_SLOT_SAMPLE:
        sample_slot(op.u.sample, slot, xs);
        break;
    }
}

/* Blocks that a phase of slots keeps busy: one per slot, and where there are enough, another one
 * for operations that need not wait for those. */
UT_DEVICE int slot_blocks(const cu_frame_args &a)
{
    return 2 * a.slots <= (int)gridDim.x ? 2 * a.slots : a.slots;
}

/* The first operations from number i on. */
UT_DEVICE void bring_ops(const cu_frame_args &a, const cu_frame_slots &p, int i, cu_slot_op *ops)
{
    const int n = p.count - i < CU_OPS_AHEAD ? p.count - i : CU_OPS_AHEAD;
    bring(ops, a.ops + p.first + i, (size_t)n * sizeof *ops);
}

/* ops: those that bring_ops has brought from number 0 on. */
UT_DEVICE_APART void frame_slots(const cu_frame_args &a, const cu_frame_slots &p, cu_slot_op *ops,
                                 float *xs)
{
    const bool apart = slot_blocks(a) > a.slots;
    for (int k = (int)blockIdx.x; k < slot_blocks(a); k += (int)gridDim.x)
        for (int i = 0; i < p.count; i++) {
            const cu_slot_op &op = ops[i % CU_OPS_AHEAD];
            __syncthreads(); /* what the operation before wrote is there */
            if (i % CU_OPS_AHEAD == 0 && p.count > CU_OPS_AHEAD) {
                bring_ops(a, p, i, ops);
                __syncthreads();
            }
            if (!apart || op.apart == (k >= a.slots))
                slot_op(op, k % a.slots, xs);
        }
}

/* ---- The walk -------------------------------------------------------------------------------- */

/* What an attention or a phase of slots reads that no phase writes. */
UT_DEVICE void prepare(const cu_frame_args &a, const cu_frame_phase &p, cu_slot_op *ops)
{
    if (p.kind == CU_PHASE_SLOTS && (int)blockIdx.x < slot_blocks(a))
        bring_ops(a, p.u.slots, 0, ops);
}

/* Table entry number i of the frame's phases, by all threads: it is there after ahead_wait. */
UT_DEVICE void bring_phase(const cu_frame_args &a, cu_frame_phase *phases, int i)
{
    if (i < a.count && threadIdx.x < sizeof *phases / 16)
        ahead_start((uint4 *)&phases[i % CU_FRAME_PHASES] + threadIdx.x,
                    (const uint4 *)(a.phases + a.first + i) + threadIdx.x);
}

UT_DEVICE void walk(const cu_frame_args &a)
{
    UT_SHARED(unsigned char, shared);
    cu_frame_phase *phases = (cu_frame_phase *)shared;          /* [CU_FRAME_PHASES] */
    cu_slot_op *ops = (cu_slot_op *)(phases + CU_FRAME_PHASES); /* [CU_OPS_AHEAD] */
    uint64_t *done = (uint64_t *)(ops + CU_OPS_AHEAD);          /* [CU_CHUNKS_AHEAD] */
    float *squares = (float *)(done + CU_CHUNKS_AHEAD);         /* [2, CU_FRAME_ROWS, UT_WARPS] */
    float *sums = squares + 2 * CU_FRAME_ROWS * UT_WARPS;       /* [2, a.sums] */
    float *xs = sums + 2 * a.sums;                              /* [a.x] */
    float *gains = xs + a.x;                                    /* [2, a.gains] */
    unsigned char *places = (unsigned char *)(gains + 2 * a.gains); /* [a.ring] */
    cu_frame_load *loads = (cu_frame_load *)(places + a.ring);

    let_next_kernel_start();
    bring_phase(a, phases, 0);
    bring_phase(a, phases, 1);
    bring(loads, a.loads, (size_t)a.n_loads * sizeof *loads);
    weight_ring ring = {};
    ring.bytes = places;
    ring.done = done;
    ring.size = a.ring;
    if (threadIdx.x < CU_CHUNKS_AHEAD)
        copy_init(&done[threadIdx.x]);
    ahead_wait();
    __syncthreads();
    for (int i = threadIdx.x; i < a.n_loads; i += CU_THREADS) {
        const output_range o = outputs_of_block(loads[i].outputs);
        loads[i].first = o.first;
        loads[i].count = o.count;
    }
    __syncthreads();
    if (is_asker())
        ring_ask(ring, loads, a.n_loads);
    if (phases[0].kind == CU_PHASE_LINEAR)
        bring_gain(phases[0].u.linear, gains);
    prepare(a, phases[0], ops);
    ahead_wait();
    __syncthreads();
    wait_for_kernel_before();
    uint32_t turn = grid_turn(a.barrier);
    const mail_clock clock = {__ldcg(a.frame) + 1, a.mail_places, a.mail_stride,
                              (int)(blockIdx.x % (unsigned)a.mail_places) * a.mail_stride};
    for (int i = 0, load = 0; i < a.count; i++) {
        const cu_frame_phase &p = phases[i % CU_FRAME_PHASES];
        const cu_frame_phase &next = phases[(i + 1) % CU_FRAME_PHASES];
        const bool more = i + 1 < a.count;
        uint64_t *trace = a.trace && blockIdx.x == 0 ? a.trace + i * CU_TRACE : NULL;
        trace_at(trace, 0);
        bring_phase(a, phases, i + 2);
        if (more && next.kind == CU_PHASE_LINEAR)
            bring_gain(next.u.linear, gains + (i + 1) % 2 * a.gains);
        if (p.kind == CU_PHASE_LINEAR) {
            const int side = load % 2;
            const linear_shared s = {xs,
                                     sums + side * a.sums,
                                     squares + side * CU_FRAME_ROWS * UT_WARPS,
                                     gains + i % 2 * a.gains,
                                     loads,
                                     a.n_loads};
            frame_linear(p.u.linear, loads[load++], s, ring, clock, trace);
        } else {
            if (p.kind == CU_PHASE_ATTENTION)
                frame_attention(p.u.attention, xs, clock, trace);
            else
                frame_slots(a, p.u.slots, ops, xs);
            ahead_wait();
            __syncthreads();
        }
        trace_at(trace, 3);
        if (!more)
            break;
        const bool barrier = next.barrier != 0;
        if (barrier) {
            __syncthreads();
            grid_arrive(a.barrier);
        }
        prepare(a, next, ops);
        trace_at(trace, 4);
        if (barrier) {
            grid_wait(a.barrier, turn);
            turn ^= 0x80000000u;
        }
    }
    if (a.last && blockIdx.x == 0 && threadIdx.x == 0)
        *a.frame = clock.frame;
}

UT_KERNEL_ALONE(frame, cu_frame_args)
{
    walk(a);
}
