/* linear_unit_group.cu - the residual units of linear_unit.cu, of 96 channels, on what has products
 * by four warps (9.0). A block has a multiprocessor to itself and both matrices in shared memory
 * for good; two teams of eight warps go through tiles of 128 rows, one beside the other, so that
 * the products of one cover the snakes of the other. The rows that a tile's taps see come as boxes
 * of 32 columns, and what lies between the products takes their place.
 *
 * Sums are those of linear_mma.cu, in the same order: the same bits. */
#include "backends/cuda/kernels/group.cuh"

#ifdef UT_GROUPS

enum { CHANNELS = CU_UNIT_CHANNELS, ROWS = CU_UNIT_ROWS, SLICES = CHANNELS / 32, LINE = 64 };
enum { W_BYTES = CHANNELS * LINE }; /* of a slice of one tap */

/* sum = x W^T over n slices of 32 columns, from slice `first` on, whose rows for tap i begin i *
 * shift later. x, w: the slices, of x_bytes each. */
UT_DEVICE void add_slices(group_sums<CHANNELS> &sum, const unsigned char *x, int x_bytes,
                          const unsigned char *w, int first, int n, int shift)
{
    int tap = first / SLICES, slice = first % SLICES;
    sum.clear(); /* its registers are nobody's until here */
#pragma unroll 1
    for (int i = first; i < first + n; i++) {
        const group_at from = group_place(x + slice * x_bytes + tap * shift * LINE);
        const group_at by = group_place(w + i * W_BYTES);
        group_begin();
        group_product<CHANNELS, true, 4>::make(sum.v, from, by, i > first);
        group_product<CHANNELS, true, 4>::make(sum.v, from + 2, by + 2, true);
        group_close();
        group_wait<1, 0>(sum.v);
        if (++slice == SLICES)
            slice = 0, tap++;
    }
    group_wait<0, CHANNELS / 8>(sum.v);
}

UT_DEVICE void unit_group(const cu_unit_group_args &u)
{
    UT_SHARED(unsigned char, shared); /* W, x of both teams, columns, gates */
    const cu_tile_args &first = u.unit.first, &second = u.unit.second;
    const cu_linear_args &a = first.a, &b = second.a;
    const int taps = u.unit.taps, x_bytes = u.span * LINE;
    const int team = threadIdx.x / CU_THREADS, warp = threadIdx.x / 32 % 8, lane = threadIdx.x % 32;
    unsigned char *x = shared + (taps + 1) * SLICES * W_BYTES + team * SLICES * x_bytes;
    typedef group_columns<CHANNELS, true> columns;
    columns *c = (columns *)(shared + (taps + 1) * SLICES * W_BYTES + 2 * SLICES * x_bytes);
    uint64_t *gates = (uint64_t *)(c + 2); /* of W, and of both teams' x */
    const bool leads = threadIdx.x % CU_THREADS == 0;

    if (threadIdx.x < 3)
        gate_init(&gates[threadIdx.x], 1);
    __syncthreads();
    if (threadIdx.x == 0) {
        copy_expect(&gates[0], (taps + 1) * SLICES * W_BYTES);
        for (int i = 0; i < taps * SLICES; i++)
            copy_outputs(shared + i * W_BYTES, &u.w, 32 * i, 0, &gates[0]);
        for (int i = 0; i < SLICES; i++)
            copy_outputs(shared + (taps * SLICES + i) * W_BYTES, &u.w2, 32 * i, 0, &gates[0]);
    }
    c[0].put(first, 0);
    c[1].put(second, 0);
    let_next_start();
    wait_for_previous();

    const int per_slot = (a.rows + ROWS - 1) / ROWS, all = per_slot * a.slots;
    auto ask = [&](int tile) {
        const int slot = tile / per_slot, row0 = tile % per_slot * ROWS;
        if (leads) {
            copy_expect(&gates[1 + team], SLICES * x_bytes);
            for (int i = 0; i < SLICES; i++)
                copy_tile(x + i * x_bytes, &u.x, 32 * i, row0, slot, &gates[1 + team]);
        }
        prefetch_residual(b, slot * a.rows + row0, ROWS, 0, CHANNELS);
    };
    int tile = 2 * blockIdx.x + team;
    if (tile < all)
        ask(tile);
    __syncthreads(); /* columns are there */
    gate_wait(&gates[0], 0, 1);

    const int row_of_group = warp / 4 * 64, row = row_of_group + warp % 4 * 16 + lane / 4;
    const int column = lane % 4 * 4;
    for (int n = 0; tile < all; n++) {
        const int next = tile + 2 * gridDim.x;
        gate_wait(&gates[1 + team], n, 1);
        group_sums<CHANNELS> sum, total;
        total.clear();
        const int PART = CU_K_PART / 32;
        for (int i = 0; i < taps * SLICES; i += PART) {
            const int left = taps * SLICES - i;
            add_slices(sum, x + row_of_group * LINE, x_bytes, shared, i, left < PART ? left : PART,
                       u.unit.dilation);
            total.add(sum);
        }
        team_meet(team); /* nobody reads x any more */
#pragma unroll
        for (int p = 0; p < CHANNELS / 16; p++)
#pragma unroll
            for (int h = 0; h < 2; h++) {
                float v[4];
                activate_four(snaked(), c[0].at(column + 16 * p), total.four(p, h), v);
                const int r = row + 8 * h, k = column + 16 * p;
                const int place = (k / 32 * ROWS + r) * LINE + k % 32 * 2;
                *(uint2 *)(x + (place ^ (place >> 7 & 3) << 4)) = narrow_four(CU_F16, v);
            }
        const int slot = tile / per_slot, row0 = tile % per_slot * ROWS;
        group_results<CHANNELS, CHANNELS, true> results(second, c[1], slot * a.rows + row0 + row,
                                                        column, column);
        for (int h = 0; h < 2; h++) /* not the next slot's */
            results.live[h] = row0 + row + 8 * h < a.rows;
        group_residual<CHANNELS> residual;
        results.load_first(residual);
        group_sees_memory();
        team_meet(team);
        add_slices(sum, x + row_of_group * LINE, ROWS * LINE, shared + taps * SLICES * W_BYTES, 0,
                   SLICES, 0);
        total.clear();
        total.add(sum);
        team_meet(team); /* nor what was in its place */
        if (next < all)
            ask(next);
        results.finish(form_of(second), total, residual);
        tile = next;
    }
}
#define UNIT_BODY unit_group(a)
#else
#define UNIT_BODY (void)a
#endif

UT_KERNEL_ALONE(linear_unit_group, cu_unit_group_args, 2 * CU_THREADS)
{
    UNIT_BODY;
}
