/* frame_ring.cuh - weights of the phases to come, on their way to shared memory while others are
 * worked on. A block has some rows of every matrix; they come in chunks of rows, in the order in
 * which they are worked on, phase after phase. A chunk lies in one piece, as it does in memory:
 * where the ring's end is too near it begins at 0 again. */
#pragma once

#include "backends/cuda/kernels/frame_device.cuh"

/* What is next to ask for, in shared memory: one thread knows it. */
struct ring_asker {
    int at, used; /* in the ring, bytes */
    uint32_t asked;
    int load, output;
    int pad[CU_ASKER / 4 - 5];
};

/* What every thread knows. */
struct weight_ring {
    unsigned char *bytes;
    uint64_t *done; /* [CU_CHUNKS_AHEAD] */
    ring_asker *asker;
    const cu_frame_load *loads;
    int n_loads, size;
    int at;         /* where the next chunk to take begins, unless the end is too near */
    uint32_t taken; /* chunks */
    int freed;      /* bytes taken since the last asking */
};

/* The thread that asks for chunks. */
UT_DEVICE bool is_asker(void)
{
    return thread() == CU_THREADS - 32;
}

/* Outputs of the chunk that begins with output `at` of the block's own. */
UT_DEVICE int chunk_outputs(const cu_frame_load &l, int at)
{
    const int most = l.matrices == 2 ? l.chunk / 2 : l.chunk;
    return l.count - at < most ? l.count - at : most;
}

/* Where a chunk goes; *skipped: bytes at the end of the ring that it leaves out. */
UT_DEVICE int chunk_place(const weight_ring &r, int at, int bytes, int *skipped)
{
    const bool fits = at + bytes <= r.size;
    *skipped = fits ? 0 : r.size - at;
    return fits ? at : 0;
}

/* By the asker, when nobody reads chunks that were taken any more: fill the ring. */
UT_DEVICE void ring_fill(const weight_ring &r)
{
    ring_asker a = *r.asker;
    a.used -= r.freed;
#pragma unroll 1
    while (a.load < r.n_loads) {
        const cu_frame_load l = r.loads[a.load];
        if (a.output >= l.count) {
            a.load++;
            a.output = 0;
            continue;
        }
        const int n = chunk_outputs(l, a.output), row = l.ld * 2, bytes = n * l.matrices * row;
        int skipped;
        const int at = chunk_place(r, a.at, bytes, &skipped);
        if (a.used + skipped + bytes > r.size || a.asked - r.taken >= CU_CHUNKS_AHEAD)
            break;
        uint64_t *done = &r.done[a.asked % CU_CHUNKS_AHEAD];
        const unsigned char *w =
            (const unsigned char *)l.w + (size_t)(l.first + a.output) * (size_t)row;
        for (int m = 0; m < l.matrices; m++)
            copy_start(r.bytes + at + m * n * row, w + (size_t)m * (size_t)l.outputs * (size_t)row,
                       (uint32_t)(n * row), done);
        copy_expect(done, (uint32_t)bytes);
        a.at = at + bytes;
        a.used += skipped + bytes;
        a.asked++;
        a.output += n;
    }
    *r.asker = a;
}

/* By all threads, likewise. */
UT_DEVICE void ring_ask(weight_ring &r)
{
    if (is_asker())
        ring_fill(r);
    r.freed = 0;
}

/* The next chunk, once it is there. */
UT_DEVICE const unsigned char *ring_take(weight_ring &r, int bytes)
{
    int skipped;
    const int at = chunk_place(r, r.at, bytes, &skipped);
    copy_wait(&r.done[r.taken % CU_CHUNKS_AHEAD], r.taken / CU_CHUNKS_AHEAD & 1);
    r.taken++;
    r.at = at + bytes;
    r.freed += skipped + bytes;
    return r.bytes + at;
}
