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
        sample_slot(op.u.sample, slot, (uint64_t *)xs);
        break;
    }
}

UT_DEVICE void frame_slots(const cu_frame_args &a, const cu_frame_slots &p, cu_slot_op *op,
                           float *xs)
{
    for (int slot = (int)blockIdx.x; slot < a.slots; slot += (int)gridDim.x)
        for (int i = 0; i < p.count; i++) {
            __syncthreads();
            bring(op, a.ops + p.first + i, sizeof *op);
            __syncthreads();
            slot_op(*op, slot, xs);
        }
}

/* ---- The walk -------------------------------------------------------------------------------- */

/* What a phase reads that no phase writes. */
UT_DEVICE void prepare(const cu_frame_phase &p, float *gains)
{
    if (p.kind == CU_PHASE_LINEAR)
        bring_gain(p.u.linear, gains);
    else if (p.kind == CU_PHASE_ATTENTION)
        att_prefetch(p.u.attention);
}

/* The block's outputs of a product that is number `load`. */
UT_DEVICE output_range range_of(const cu_frame_linear &p, const weight_ring &ring,
                                const cu_frame_load *loads, int load)
{
    if (!ring.n)
        return outputs_of_block(p.swiglu ? p.a.n_out / 2 : p.a.n_out);
    const output_range o = {loads[load].first, loads[load].count};
    return o;
}

UT_DEVICE void walk(const cu_frame_args &a)
{
    UT_SHARED(unsigned char, shared);
    cu_frame_phase *phases = (cu_frame_phase *)shared; /* [2]: this one, the next */
    cu_slot_op *op = (cu_slot_op *)(phases + 2);
    uint64_t *done = (uint64_t *)(op + 1);                      /* [UT_WARPS, ring] */
    float *squares = (float *)(done + UT_WARPS * a.ring);       /* [CU_FRAME_ROWS, UT_WARPS] */
    float *sums = squares + CU_FRAME_ROWS * UT_WARPS;           /* [a.sums] */
    float *xs = sums + a.sums;                                  /* [a.x] */
    float *gains = xs + a.x;                                    /* [a.gains] */
    unsigned char *places = (unsigned char *)(gains + a.gains); /* [UT_WARPS, ring, unit_bytes] */
    cu_frame_load *loads = (cu_frame_load *)(places + UT_WARPS * a.ring * a.unit_bytes);

    let_next_kernel_start();
    bring(phases, a.phases + a.first, sizeof *phases);
    if (a.ring)
        bring(loads, a.loads, (size_t)a.n_loads * sizeof *loads);
    weight_ring ring;
    ring.places = places + threadIdx.x / 32 * a.ring * a.unit_bytes;
    ring.done = done + threadIdx.x / 32 * a.ring;
    ring.n = a.ring;
    ring.bytes = a.unit_bytes;
    ring.next = ring.taken = ring.waiting = ring.load = 0;
    ring.parity = 0;
    for (int i = threadIdx.x; i < UT_WARPS * a.ring; i += CU_THREADS)
        copy_init(&done[i]);
    __syncthreads();
    for (int i = threadIdx.x; a.ring && i < a.n_loads; i += CU_THREADS) {
        const output_range o = outputs_of_block(loads[i].outputs);
        loads[i].first = o.first;
        loads[i].count = o.count;
    }
    __syncthreads();
    if (a.ring && a.n_loads)
        ring_start_load(ring, loads);
    ring_fill(ring, loads, a.ring ? a.n_loads : 0);
    int load = 0; /* of the phase */
    prepare(phases[0], gains);
    wait_for_kernel_before();
    const linear_shared products = {xs, sums, squares, gains, loads, a.n_loads};
    uint32_t turn = grid_turn(a.barrier);
    const uint32_t frame = __ldcg(a.frame) + 1;
    for (int i = 0; i < a.count; i++) {
        const cu_frame_phase &p = phases[i % 2];
        cu_frame_phase &next = phases[(i + 1) % 2];
        uint64_t *trace = a.trace && blockIdx.x == 0 ? a.trace + i * CU_TRACE : NULL;
        trace_at(trace, 0);
        if (i + 1 < a.count && threadIdx.x < sizeof p / 16)
            ahead_start((uint4 *)&next + threadIdx.x,
                        (const uint4 *)(a.phases + a.first + i + 1) + threadIdx.x);
        if (p.kind == CU_PHASE_LINEAR)
            frame_linear(p.u.linear, products, ring, range_of(p.u.linear, ring, loads, load++),
                         frame, trace);
        else if (p.kind == CU_PHASE_ATTENTION)
            frame_attention(p.u.attention, xs, frame);
        else
            frame_slots(a, p.u.slots, op, xs);
        trace_at(trace, 3);
        if (i + 1 == a.count)
            break;
        ahead_wait();
        __syncthreads();
        if (next.barrier)
            grid_arrive(a.barrier);
        ring_fill(ring, loads, a.ring ? a.n_loads : 0);
        prepare(next, gains);
        trace_at(trace, 4);
        if (next.barrier) {
            grid_wait(a.barrier, turn);
            turn ^= 0x80000000u;
        }
    }
    if (a.last && blockIdx.x == 0 && threadIdx.x == 0)
        *a.frame = frame;
}

UT_KERNEL_ALONE(frame, cu_frame_args)
{
    walk(a);
}

/* For one phase: two blocks share a multiprocessor, one at work, the next one's fetching. */
UT_KERNEL_AHEAD(frame_phase, cu_frame_args)
{
    walk(a);
}
