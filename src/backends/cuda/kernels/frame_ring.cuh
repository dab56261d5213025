/* frame_ring.cuh - rows of matrices in shared memory, which a warp of its own has asked for while
 * others were worked on (frame_fetch.cuh). A block has some rows of every matrix; they come in
 * chunks of rows, in the order in which they are worked on, phase after phase. A row lies in one
 * piece, as it does in memory: where the ring's end is too near, a chunk goes on at its begin. */
#pragma once

#include "backends/cuda/kernels/frame_device.cuh"

/* How far who is, in shared memory. The warp that fetches tells the others about records, the
 * others tell it what is free again. */
struct frame_progress {
    uint32_t brought;               /* records of phases */
    uint32_t over;                  /* phases that all threads have left */
    uint32_t taken;                 /* chunks that nobody reads any more */
    uint32_t pad;                   /* up to 16 bytes */
    uint32_t held[CU_CHUNKS_AHEAD]; /* bytes of the ring that a chunk keeps from others */
};
static_assert(sizeof(frame_progress) == CU_PROGRESS, "the host counts what the block needs");

/* What every thread knows. */
struct weight_ring {
    unsigned char *bytes;
    uint64_t *done; /* [CU_CHUNKS_AHEAD] */
    frame_progress *progress;
    int size;
    int at;         /* where the next chunk to take begins */
    uint32_t taken; /* chunks */
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
    copy_wait(&r.done[r.taken % CU_CHUNKS_AHEAD], r.taken / CU_CHUNKS_AHEAD & 1);
    r.taken++;
    r.at = front < n ? (n - front) * row : r.at + n * row;
    return rows;
}

/* When the threads have met: nobody reads the chunks that were taken so far. */
UT_DEVICE void ring_free(const weight_ring &r)
{
    if (thread() == 0)
        tell_met(&r.progress->taken, r.taken);
}

/* When they have met in phase i: all have left those before it. */
UT_DEVICE void phases_over(const weight_ring &r, int i)
{
    if (thread() == 0)
        tell_met(&r.progress->over, (uint32_t)i);
}
