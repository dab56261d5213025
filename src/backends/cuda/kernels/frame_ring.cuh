/* frame_ring.cuh - rows of matrices in shared memory, which a warp of its own has asked for while
 * others were worked on (frame_fetch.cuh). A block has some rows of every matrix; they come in
 * chunks of rows, in the order in which they are worked on, phase after phase. A chunk lies in one
 * piece, as it does in memory: where the ring's end is too near it begins at 0 again. */
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
    int at;         /* where the next chunk to take begins, unless the end is too near */
    uint32_t taken; /* chunks */
};

/* Outputs of the chunk that begins with output `at` of the block's own. */
UT_DEVICE int chunk_outputs(const cu_frame_load &l, int at)
{
    const int most = l.matrices == 2 ? l.chunk / 2 : l.chunk;
    return l.count - at < most ? l.count - at : most;
}

/* Where a chunk goes; *skipped: bytes at the end of the ring that it leaves out. */
UT_DEVICE int chunk_place(int size, int at, int bytes, int *skipped)
{
    const bool fits = at + bytes <= size;
    *skipped = fits ? 0 : size - at;
    return fits ? at : 0;
}

/* The next chunk, once it is there. */
UT_DEVICE const unsigned char *ring_take(weight_ring &r, int bytes)
{
    int skipped;
    const int at = chunk_place(r.size, r.at, bytes, &skipped);
    copy_wait(&r.done[r.taken % CU_CHUNKS_AHEAD], r.taken / CU_CHUNKS_AHEAD & 1);
    r.taken++;
    r.at = at + bytes;
    return r.bytes + at;
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
