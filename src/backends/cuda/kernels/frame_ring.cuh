/* frame_ring.cuh - weights of the phases to come, on their way to shared memory while others are
 * worked on. A block has some rows of every matrix; they come in chunks of rows, in the order in
 * which they are worked on, phase after phase. A chunk lies in one piece, as it does in memory:
 * where the ring's end is too near it begins at 0 again. */
#pragma once

#include "backends/cuda/kernels/frame_device.cuh"

struct weight_ring {
    unsigned char *bytes;
    uint64_t *done; /* [CU_CHUNKS_AHEAD] */
    int size;
    int take_at;    /* where the next chunk to take begins, unless the end is too near */
    uint32_t taken; /* chunks */
    int freed;      /* bytes taken since the last asking */
    /* of the asker */
    int ask_at, used;
    uint32_t asked;
    int load, output; /* next to ask for */
};

/* The thread that asks for chunks. */
UT_DEVICE bool is_asker(void)
{
    return threadIdx.x == CU_THREADS - 32;
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
UT_DEVICE void ring_ask(weight_ring &r, const cu_frame_load *loads, int n_loads)
{
    r.used -= r.freed;
    r.freed = 0;
#pragma unroll 1
    while (r.load < n_loads) {
        const cu_frame_load &l = loads[r.load];
        if (r.output >= l.count || !l.ahead) {
            r.load++;
            r.output = 0;
            continue;
        }
        const int n = chunk_outputs(l, r.output), row = l.ld * 2, bytes = n * l.matrices * row;
        int skipped;
        const int at = chunk_place(r, r.ask_at, bytes, &skipped);
        if (r.used + skipped + bytes > r.size || r.asked - r.taken >= CU_CHUNKS_AHEAD)
            return;
        uint64_t *done = &r.done[r.asked % CU_CHUNKS_AHEAD];
        const unsigned char *w =
            (const unsigned char *)l.w + (size_t)(l.first + r.output) * (size_t)row;
        for (int m = 0; m < l.matrices; m++)
            copy_start(r.bytes + at + m * n * row, w + (size_t)m * (size_t)l.outputs * (size_t)row,
                       (uint32_t)(n * row), done);
        copy_expect(done, (uint32_t)bytes);
        r.ask_at = at + bytes;
        r.used += skipped + bytes;
        r.asked++;
        r.output += n;
    }
}

/* The next chunk, once it is there. */
UT_DEVICE const unsigned char *ring_take(weight_ring &r, int bytes)
{
    int skipped;
    const int at = chunk_place(r, r.take_at, bytes, &skipped);
    copy_wait(&r.done[r.taken % CU_CHUNKS_AHEAD], r.taken / CU_CHUNKS_AHEAD & 1);
    r.taken++;
    r.take_at = at + bytes;
    r.freed += skipped + bytes;
    return r.bytes + at;
}
