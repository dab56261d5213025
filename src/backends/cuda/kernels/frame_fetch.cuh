/* frame_fetch.cuh - the warp of a frame's block that fetches what the phases to come need, while
 * the others work: a phase's record, the gain of its norm, its rows of the matrix or of the caches.
 * It goes through the phases in order, as far ahead as there is room. */
#pragma once

#include "backends/cuda/kernels/frame_row.cuh"
#include "backends/cuda/kernels/frame_tasks.cuh"

/* Where it puts what. */
struct fetch_places {
    cu_frame_phase *phases; /* [CU_FRAME_PHASES] */
    float *gains;           /* [2, gains_size], for norms by turns */
    int gains_size;
};

/* Outputs of this block, which shares them: [*first, *first + *count). */
UT_DEVICE void outputs_of_block(int outputs, int32_t *first, int32_t *count)
{
    const unsigned b = blockIdx.x, n = (unsigned)sharers(),
                   all = (unsigned)outputs; /* all * n < 2^32 */
    *first = (int32_t)(all * b / n);
    *count = (int32_t)(all * (b + 1) / n) - *first;
}

/* A norm's gain, by the warp. */
UT_DEVICE void fetch_gain(const float *gain, int k, float *to)
{
#pragma unroll 4
    for (int c = thread() % 32 * 4; c < k; c += 128)
        *(float4 *)(to + c) = __ldg((const float4 *)(gain + c));
}

/* The end of the ring at which chunks are asked for, by one thread. */
struct ring_end {
    int at, used; /* bytes */
    uint32_t asked, freed;

    /* Wait for room. */
    UT_DEVICE_MEMBER void need(const weight_ring &r, int bytes)
    {
        while (used + bytes > r.size || asked - freed >= CU_CHUNKS_AHEAD) {
            const uint32_t oldest = freed % CU_CHUNKS_AHEAD;
            gate_wait(&r.gates->free[oldest], freed / CU_CHUNKS_AHEAD, CU_THREADS);
            used -= (int)r.gates->held[oldest];
            freed++;
        }
    }
    UT_DEVICE_MEMBER void hold(const weight_ring &r, int bytes)
    {
        need(r, bytes);
        r.gates->held[asked % CU_CHUNKS_AHEAD] = (uint32_t)bytes;
        used += bytes;
    }
    /* n rows at w, of which there are `before` in the chunk already. */
    UT_DEVICE_MEMBER void copy(const weight_ring &r, const unsigned char *w, int before, int n,
                               int front, int row, uint64_t *done) const
    {
        const int fit = front < before ? 0 : front - before < n ? front - before : n;
        if (fit > 0)
            copy_start(r.bytes + at + before * row, w, (uint32_t)(fit * row), done);
        if (fit < n)
            copy_start(r.bytes + (before + fit - front) * row, w + (size_t)fit * (size_t)row,
                       (uint32_t)((n - fit) * row), done);
    }
    UT_DEVICE_MEMBER void ask(const weight_ring &r, const cu_frame_load &l)
    {
        const int row = l.ld * 2;
#pragma unroll 1
        for (int output = 0; output < l.count; output += chunk_outputs(l, output)) {
            const int n = chunk_outputs(l, output), all = n * l.matrices;
            const int front = rows_in_front(r.size, at, all, row);
            const int skipped = front < all ? r.size - at - front * row : 0;
            uint64_t *done = &r.gates->done[asked % CU_CHUNKS_AHEAD];
            const unsigned char *w =
                (const unsigned char *)l.w + (size_t)(l.first + output) * (size_t)row;
            hold(r, skipped + all * row);
            for (int m = 0; m < l.matrices; m++)
                copy(r, w + (size_t)m * (size_t)l.outputs * (size_t)row, m * n, n, front, row,
                     done);
            copy_expect(done, (uint32_t)(all * row));
            at = front < all ? (all - front) * row : at + all * row;
            asked++;
        }
    }
    /* A span's rows of a cache. */
    UT_DEVICE_MEMBER void ask(const weight_ring &r, const att_task &t, const cu_tensor_map *map)
    {
        enum { BYTES = CU_ATT_PIECE(CU_ATT_DIM) };
        const int place = ring_piece(r.size, at, BYTES);
        uint64_t *done = &r.gates->done[asked % CU_CHUNKS_AHEAD];
        hold(r, BYTES + (place < at ? r.size : place) - at);
        copy_box(r.bytes + place, map, 2 * t.kv, t.first_row, t.slot, done);
        copy_expect(done, BYTES);
        at = place + BYTES;
        asked++;
    }
};

/* Wait until all threads that work have left phase i. */
UT_DEVICE void await_left(frame_gates *g, int i)
{
    gate_wait(&g->left[i % CU_FRAME_PHASES], (uint32_t)(i / CU_FRAME_PHASES), CU_THREADS);
}

/* Keys, then values of the block's spans, by one thread, which knows what the launch before has
 * written. Rows that this launch adds to are there when the block has left phase i - 1. */
UT_DEVICE void fetch_spans(const cu_frame_attention &p, int i, const weight_ring &r, ring_end &end)
{
    if (p.added && i > 0) {
        await_left(r.gates, i - 1);
        before_copies();
    }
    att_all(p, [&](const att_task &t) {
        end.ask(r, t, p.maps);
        end.ask(r, t, p.maps + 1);
    });
    if (p.next_maps) { /* copies wait for them */
        prefetch_map(p.next_maps);
        prefetch_map(p.next_maps + 1);
    }
}

/* AHEAD: do rows of matrices and caches come ahead? mine: as in mail_clock. */
template <bool AHEAD>
UT_DEVICE void fetch_frame(const cu_frame_args &a, const weight_ring &r, const fetch_places &to,
                           int mine)
{
    enum { WORDS = sizeof(cu_frame_phase) / 16 };
    const int lane = thread() % 32;
    const bool shares = (int)blockIdx.x < sharers();
    const uint4 *from = (const uint4 *)(a.phases + a.first) + lane;
    uint4 record = {0, 0, 0, 0};
    ring_end end = {0, 0, 0, 0};
    int before = -1, last = -1; /* phases that had a gain */
    int side = 0;
    if (lane < WORDS)
        record = __ldg(from);
#pragma unroll 1
    for (int i = 0; i < a.count; i++) {
        cu_frame_phase &p = to.phases[i % CU_FRAME_PHASES];
        if (i >= CU_FRAME_PHASES)
            await_left(r.gates, i - CU_FRAME_PHASES);
        if (lane < WORDS)
            ((uint4 *)&p)[lane] = record;
        if (lane < WORDS && i + 1 < a.count)
            record = __ldg(from += WORDS);
        __syncwarp();
        cu_frame_linear &l = p.u.linear;
        const bool linear = shares && p.kind == CU_PHASE_LINEAR, gain = linear && l.gain;
        if (gain) {
            if (before >= 0 && before > i - CU_FRAME_PHASES) /* else it is long over */
                await_left(r.gates, before);
            fetch_gain(l.gain, l.k, to.gains + side * to.gains_size);
            before = last;
            last = i;
        }
        __syncwarp(); /* all lanes have read the record */
        if (linear && lane == 0) {
            outputs_of_block(l.load.outputs, &l.load.first, &l.load.count);
            l.load.each = (l.load.count + UT_WARPS - 1) / UT_WARPS;
            l.load.side = side;
            p.way = AHEAD ? row_way(l) : 0;
            l.x_mail += l.x_mail ? mine : 0;
            l.residual_mail += l.residual_mail ? mine : 0;
        }
        side ^= gain ? 1 : 0;
        gate_arrive(&r.gates->brought[i % CU_FRAME_PHASES]);
        if (AHEAD && linear && lane == 0)
            end.ask(r, l.load);
        if (AHEAD && shares && p.kind == CU_PHASE_ATTENTION && !p.u.attention.brief && lane == 0) {
            wait_for_previous();
            fetch_spans(p.u.attention, i, r, end);
        }
        __syncwarp();
    }
}
