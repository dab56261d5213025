/* frame_walk.cuh - a frame of a decoder: one kernel that walks a table of phases, all of them in
 * one cooperative launch or a phase per launch. The results are the same bits. */
#pragma once

#include "backends/cuda/kernels/frame_attention.cuh"
#include "backends/cuda/kernels/frame_decide.cuh"
#include "backends/cuda/kernels/frame_fetch.cuh"
#include "backends/cuda/kernels/frame_linear.cuh"
#include "backends/cuda/kernels/frame_row.cuh"

/* Bytes of shared memory by the threads that work, 16 at a time. */
UT_DEVICE void bring(void *dst, const void *src, size_t bytes)
{
    for (size_t i = thread(); i < bytes / 16; i += CU_THREADS)
        ((uint4 *)dst)[i] = __ldg((const uint4 *)src + i);
}

/* Blocks that a phase of slots keeps busy, the last of the grid: one per slot, and where there are
 * enough, another one for operations that need not wait for those. */
UT_DEVICE int slot_blocks(const cu_frame_args &a, const cu_frame_slots &p)
{
    return p.apart && 2 * a.slots <= (int)gridDim.x ? 2 * a.slots : a.slots;
}

/* The block's number among those, or a larger one. */
UT_DEVICE int slot_block(void)
{
    return (int)gridDim.x - 1 - (int)blockIdx.x;
}

/* The first operations from number i on. */
UT_DEVICE void bring_ops(const cu_frame_args &a, const cu_frame_slots &p, int i, cu_slot_op *ops)
{
    const int n = p.count - i < CU_OPS_AHEAD ? p.count - i : CU_OPS_AHEAD;
    bring(ops, a.ops + p.first + i, (size_t)n * sizeof *ops);
}

/* ops: those that bring_ops has brought from number 0 on. prepared: of them, the decision whose
 * first part has been made, or -1. */
UT_DEVICE_APART void frame_slots(const cu_frame_args &a, const cu_frame_slots &p, cu_slot_op *ops,
                                 float *xs, int prepared, mail_clock clock)
{
    const int blocks = slot_blocks(a, p);
    const bool apart = blocks > a.slots;
    for (int k = slot_block(); k < blocks; k += (int)gridDim.x)
        for (int i = 0, done = 1; i < p.count; i += done) {
            const int at = i % CU_OPS_AHEAD;
            block_meet(); /* what the operation before wrote is there */
            if (at == 0 && p.count > CU_OPS_AHEAD) {
                bring_ops(a, p, i, ops);
                block_meet();
            }
            done = 1;
            const cu_slot_op *next = i + 1 < p.count && at + 1 < CU_OPS_AHEAD ? &ops[at + 1] : NULL;
            if (!apart || ops[at].apart == (k >= a.slots))
                done = frame_slot_ops(ops[at], next, k % a.slots, xs,
                                      prepared == i && k == slot_block(), clock);
        }
}

/* At the frame's end: all blocks know its number, so that the last may count it. */
UT_DEVICE void count_frame(const cu_frame_args &a, uint32_t frame)
{
    block_meet();
    if (thread() == 0 && atomicAdd(a.frame + 1, 1u) == gridDim.x - 1) {
        a.frame[1] = 0;
        a.frame[0] = frame;
    }
}

/* ---- The walk -------------------------------------------------------------------------------- */

/* Of a phase's operations, what a decision needs beside its logits, if it waits for nothing else
 * there; which one it is, or -1. By its block, which has brought them. */
UT_DEVICE int prepare_decision(const cu_frame_args &a, const cu_frame_slots &p,
                               const cu_slot_op *ops, float *xs)
{
    const bool apart = slot_blocks(a, p) > a.slots;
    int i = 0;
    while (apart && i < p.count && i < CU_OPS_AHEAD && ops[i].apart)
        i++;
    if (i == p.count || i == CU_OPS_AHEAD || ops[i].kind != CU_SLOT_SAMPLE)
        return -1;
    sample_prepare(ops[i].u.sample, slot_block(), xs);
    return i;
}

/* What cu_phase_end says of the phase before `next`. idle: the block had no part in it, and has
 * time for prepare_decision, whose result it is. */
UT_DEVICE int between_phases(const cu_frame_args &a, int end, const cu_frame_phase &next, bool idle,
                             cu_slot_op *ops, float *xs, uint32_t &turn)
{
    int prepared = -1;
    if (end & CU_END_BARRIER) {
        block_meet();
        grid_arrive(a.barrier);
    }
    if ((end & CU_END_SLOTS) && slot_block() < slot_blocks(a, next.u.slots)) {
        bring_ops(a, next.u.slots, 0, ops);
        if (idle) {
            block_meet();
            prepared = prepare_decision(a, next.u.slots, ops, xs);
        }
    }
    if (end & CU_END_BARRIER) {
        grid_wait(a.barrier, turn);
        turn ^= 0x80000000u;
    }
    return prepared;
}

/* BRIEF: all matrices are bf16, whose rows come ahead, and attention is as frame_attention wants
 * it; or 0, then they may be anything. */
template <int BRIEF> UT_DEVICE void walk(const cu_frame_args &a)
{
    constexpr bool BF16 = BRIEF > 0;
    UT_SHARED(unsigned char, shared);
    unsigned char *rows = shared; /* [a.ring] first, as CU_PIECE_ALIGN is wanted */
    cu_frame_phase *phases = (cu_frame_phase *)(rows + a.ring); /* [CU_FRAME_PHASES] */
    cu_slot_op *ops = (cu_slot_op *)(phases + CU_FRAME_PHASES); /* [CU_OPS_AHEAD] */
    frame_gates *gates = (frame_gates *)(ops + CU_OPS_AHEAD);
    float *squares = (float *)(gates + 1);                /* [2, CU_FRAME_ROWS, UT_WARPS] */
    float *sums = squares + 2 * CU_FRAME_ROWS * UT_WARPS; /* [2, a.sums] */
    float *xs = sums + 2 * a.sums;                        /* [a.x] */
    float *gains = xs + a.x;                              /* [2, a.gains] */
    weight_ring ring = {rows, gates, a.ring, 0, 0, 0};
    const int mine = (int)(blockIdx.x % (unsigned)a.mail_places) * a.mail_stride;

    let_next_start();
    gates_init(gates);
    __syncthreads();
    if (thread() >= CU_THREADS) {
        give_registers();
        if (thread() < CU_THREADS + 32)
            fetch_frame<BF16>(a, ring, {phases, gains, a.gains}, mine);
        return;
    }
    take_registers();
    await_phase(gates, 0);
    if (phases[0].kind == CU_PHASE_SLOTS && slot_block() < slot_blocks(a, phases[0].u.slots))
        bring_ops(a, phases[0].u.slots, 0, ops);
    wait_for_previous();
    uint32_t turn = grid_turn(a.barrier);
    const mail_clock clock = {__ldcg(a.frame) + 1, a.mail_places, a.mail_stride, mine};
    const bool shares = (int)blockIdx.x < sharers();
    int prepared = -1;
    const bool traced = a.trace && blockIdx.x == 0 && thread() == 0;
    for (int i = 0, side = 0;; i++) {
        const cu_frame_phase &p = phases[i % CU_FRAME_PHASES];
        const int4 head = *(const int4 *)&p; /* kind, end, way: one load */
        const linear_shared s = {xs, sums + side * a.sums,
                                 squares + side * CU_FRAME_ROWS * UT_WARPS, gains, a.gains};
        if (traced)
            leave_time(a.trace + i);
        const bool idle = !shares && head.x != CU_PHASE_SLOTS;
        if (idle) {
            /* the block waits for the barrier behind it */
        } else if (head.z > 0) {
            side ^= 1;
            frame_row(p.u.linear, head.z, s, ring, clock);
        } else if (head.x == CU_PHASE_LINEAR) {
            side ^= 1;
            frame_linear<BF16>(p.u.linear, s, ring, clock);
        } else {
            if (head.x == CU_PHASE_ATTENTION)
                frame_attention<BRIEF>(p.u.attention, xs, ring, clock);
            else
                frame_slots(a, p.u.slots, ops, xs, prepared, clock);
            block_meet();
        }
        if (i + 1 == a.count)
            break;
        leave_phase(gates, i);
        await_phase(gates, i + 1);
        if (head.y)
            prepared =
                between_phases(a, head.y, phases[(i + 1) % CU_FRAME_PHASES], idle, ops, xs, turn);
    }
    if (a.last)
        count_frame(a, clock.frame);
}
