/* frame_ring.cuh - rows of matrices and of caches in shared memory, which a warp of its own has
 * asked for while others were worked on (frame_fetch.cuh). A block has some rows of every matrix;
 * they come in chunks of rows, in the order in which they are worked on, phase after phase. A row
 * lies in one piece, as it does in memory: where the ring's end is too near, a chunk goes on at its
 * begin. Rows of caches that are attended to together are a chunk in one piece. */
#pragma once

#include "backends/cuda/kernels/frame_device.cuh"

/* Between the warp that fetches and the others, in shared memory: what is there, and what is not
 * needed any more. */
struct frame_gates {
    uint64_t done[CU_CHUNKS_AHEAD];    /* copies of a chunk */
    uint64_t free[CU_CHUNKS_AHEAD];    /* every thread that works has used it */
    uint64_t brought[CU_FRAME_PHASES]; /* a phase's record and its gain, by all lanes */
    uint64_t left[CU_FRAME_PHASES];    /* every thread that works has left the phase */
    uint32_t held[CU_CHUNKS_AHEAD];    /* bytes of the ring that a chunk keeps from others */
};
static_assert(sizeof(frame_gates) == CU_GATES, "the host counts what the block needs");

UT_DEVICE void gates_init(frame_gates *g)
{
    const int i = thread();
    if (i < CU_CHUNKS_AHEAD) {
        gate_init(&g->done[i], 1);
        gate_init(&g->free[i], CU_THREADS);
    }
    if (i < CU_FRAME_PHASES) {
        gate_init(&g->brought[i], 32);
        gate_init(&g->left[i], CU_THREADS);
    }
}

/* The record of phase i, and its gain. */
UT_DEVICE void await_phase(frame_gates *g, int i)
{
    gate_wait(&g->brought[i % CU_FRAME_PHASES], (uint32_t)(i / CU_FRAME_PHASES), 32);
}

/* By each thread that works, every one of which has read the record: it has left phase i. */
UT_DEVICE void leave_phase(frame_gates *g, int i)
{
    gate_arrive(&g->left[i % CU_FRAME_PHASES]);
}

/* What every thread knows. */
struct weight_ring {
    unsigned char *bytes;
    frame_gates *gates;
    int size;
    int at;                /* where the next chunk to take begins */
    uint32_t taken, given; /* chunks, and those given back */
};

/* Outputs of the chunk that begins with output `at` of the block's own. */
UT_DEVICE int chunk_outputs(const cu_frame_load &l, int at)
{
    const int most = l.matrices == 2 ? l.chunk / 2 : l.chunk;
    return l.count - at < most ? l.count - at : most;
}

/* Of n rows from `at` on, those in front of the ring's end. */
UT_DEVICE int rows_in_front(int size, int at, int n, int row)
{
    const int fit = (int)((unsigned)(size - at) / (unsigned)row);
    return fit < n ? fit : n;
}

/* A chunk: rows in front of the ring's end, and those that go on at its begin. */
struct ring_rows {
    const unsigned char *bytes; /* the ring's */
    int at, front;

    UT_DEVICE_MEMBER const unsigned char *row(int r, int pitch) const
    {
        return bytes + (r < front ? at + r * pitch : (r - front) * pitch);
    }
};

/* The next chunk, of n rows, once it is there. */
UT_DEVICE ring_rows ring_take(weight_ring &r, int n, int row)
{
    const int front = rows_in_front(r.size, r.at, n, row);
    const ring_rows rows = {r.bytes, r.at, front};
    gate_wait(&r.gates->done[r.taken % CU_CHUNKS_AHEAD], r.taken / CU_CHUNKS_AHEAD, 1);
    r.taken++;
    r.at = front < n ? (n - front) * row : r.at + n * row;
    return rows;
}

/* The same for a chunk in one piece: it begins behind the one before, or at the ring's begin. */
UT_DEVICE int ring_piece(int size, int at, int bytes)
{
    const int next = (at + CU_PIECE_ALIGN - 1) & -CU_PIECE_ALIGN;
    return size - next < bytes ? 0 : next;
}

UT_DEVICE unsigned char *ring_take_piece(weight_ring &r, int bytes)
{
    const int at = ring_piece(r.size, r.at, bytes);
    gate_wait(&r.gates->done[r.taken % CU_CHUNKS_AHEAD], r.taken / CU_CHUNKS_AHEAD, 1);
    r.taken++;
    r.at = at + bytes;
    return r.bytes + at;
}

/* By each thread that works: it is done with the oldest chunk that it took. One for its warp would
 * cost as much, and race checkers go by the threads that arrive. */
UT_DEVICE void ring_give(weight_ring &r)
{
    gate_arrive(&r.gates->free[r.given % CU_CHUNKS_AHEAD]);
    r.given++;
}
