/* frame_tasks.cuh - who attends to what inside a frame. A task is a slot, a key head and a span of
 * CU_ATT_SPAN positions, by a block; spans are counted from position 0, so that what a row's sum
 * adds up does not depend on who else is there. What spans find is mail for one of them: the last
 * of a key head's blocks in the grid waits for the others, so that blocks which start in order
 * never wait for one that cannot start. */
#pragma once

#include "backends/cuda/kernels/frame_device.cuh"

/* Query j of a key head: row j / group, its head j % group. */
struct att_task {
    int slot, kv, span;
    int pos, oldest; /* of row 0; the oldest position that any row sees */
    int first, last; /* spans of the slot */
    int group, queries;
    int first_row; /* of the caches: where the span's first position is */
};

/* Where a slot is. */
UT_DEVICE void att_find(const cu_frame_attention &p, int slot, att_task *t)
{
    const cu_qkv_args &a = p.qkv;
    t->slot = slot;
    t->pos = first_position(a.pos, a.pos_slot, slot, a.first_pos);
    t->oldest = t->pos - p.reach + 1 > 0 ? t->pos - p.reach + 1 : 0;
    t->first = t->oldest / CU_ATT_SPAN;
    t->last = (t->pos + a.rows - 1) / CU_ATT_SPAN;
}

/* run(t): a task of this block, which shares them. */
template <class RUN> UT_DEVICE void att_all(const cu_frame_attention &p, RUN run)
{
    const cu_qkv_args &a = p.qkv;
    const int heads = a.slots * a.kv_heads, grid = sharers();
    att_task t;
    t.group = p.group;
    t.queries = p.group * a.rows;
    int lowest = 0x7fffffff, highest = 0;
#pragma unroll 4
    for (int slot = 0; slot < a.slots; slot++) {
        att_find(p, slot, &t);
        lowest = t.first < lowest ? t.first : lowest;
        highest = t.last > highest ? t.last : highest;
    }
    /* Of span s, and key head h of all slots', block (s * heads + h) % grid: whatever the slots'
     * positions are, a row of the caches is written and read by the same block. */
    int task = (int)blockIdx.x - (lowest > 0 ? lowest % grid * (heads % grid) % grid : 0);
    for (task += task < 0 ? grid : 0; task < (highest - lowest + 1) * heads; task += grid) {
        const int row = (int)((unsigned)task / (unsigned)heads), head = task - row * heads;
        const int span = lowest + row;
        if (a.slots > 1)
            att_find(p, head / a.kv_heads, &t);
        if (span < t.first || span > t.last)
            continue;
        t.kv = head - t.slot * a.kv_heads;
        t.span = span;
        t.first_row = span * CU_ATT_SPAN;
        if (t.first_row >= a.capacity)
            t.first_row %= a.capacity;
        run(t);
    }
}

/* Is this block the one that adds up what all spans of the slot's key head found? The last in the
 * grid; if it has several, its last. */
UT_DEVICE bool att_adds(const att_task &t, int heads)
{
    const int grid = sharers(), step = heads < grid ? heads : heads % grid;
    int block = (int)blockIdx.x, most = -1, adds = 0;
    const int begin = block - (t.span - t.first) * step;
    if (begin >= 0 && begin + (t.last - t.first) * step < grid)
        return t.span == t.last;
    for (int span = t.span; span > t.first; span--) {
        block -= step;
        block += block < 0 ? grid : 0;
    }
    for (int span = t.first; span <= t.last; span++) {
        if (block >= most)
            most = block, adds = span;
        block += step;
        block -= block >= grid ? grid : 0;
    }
    return adds == t.span;
}
