/* linear_group.cu - products of bf16 or f16 for many rows on what has products by four warps (9.0):
 * a block makes a tile of results, of x and W as boxes of 64 columns that the device copies into a
 * ring in shared memory, where the products take both.
 *
 * Sums are those of linear_mma.cu, in the same order: the same bits. */
#include "backends/cuda/kernels/group.cuh"

#ifdef UT_GROUPS

/* BM rows by BN outputs: four warps make 64 rows by N of them. TAPS: the rows of x that a
 * convolution's taps see stay, slice by slice of 64 columns; else x comes with W. */
template <int BM, int BN, bool TAPS, bool HALF> UT_DEVICE void linear_group(const cu_group_args &b)
{
    const cu_tile_args &t = b.t;
    const cu_linear_args &a = t.a;
    const int N = BM == 128 ? BN : BN / 2;
    UT_SHARED(unsigned char, shared); /* rows that stay, stages, columns, gates */
    const int warp = threadIdx.x / 32, lane = threadIdx.x % 32, group = warp / 4;
    const int m0 = blockIdx.y * BM, o0 = blockIdx.x * BN;
    const int x_slot = m0 / b.x_rows, x_row0 = m0 - x_slot * b.x_rows;
    const int begin = a.part ? blockIdx.z * CU_K_PART : 0;
    const int end = a.part && begin + CU_K_PART < a.ldw ? begin + CU_K_PART : a.ldw;
    const int steps = (end - begin) / 64;
    const int slices = a.seg / 64, from_tap = a.k != a.seg ? a.seg_step / a.ldx : 0;
    const int slice_bytes = TAPS ? b.span * 128 : 0, X_BYTES = TAPS ? 0 : BM * 128;
    const int STAGE_BYTES = X_BYTES + BN * 128;
    unsigned char *stages = shared + (TAPS ? slices * slice_bytes : 0);
    group_columns<BN, HALF> &columns =
        *(group_columns<BN, HALF> *)(stages + b.stages * STAGE_BYTES);
    uint64_t *full = (uint64_t *)(&columns + 1), *free = full + CU_GROUP_STAGES;
    const bool asks = threadIdx.x == 0;

    if ((int)threadIdx.x < b.stages) {
        gate_init(&full[threadIdx.x], 1);
        gate_init(&free[threadIdx.x], CU_THREADS / 32);
    }
    __syncthreads();

    /* step s goes to its stage; W does not wait for the kernel in front */
    auto ask_w = [&](int s, int stage) {
        copy_outputs(stages + stage * STAGE_BYTES + X_BYTES, &b.w, begin + 64 * s, o0 / 16,
                     &full[stage]);
    };
    auto ask_x = [&](int s, int stage) {
        const bool here = !TAPS || s < slices;
        copy_expect(&full[stage], (here ? TAPS ? slice_bytes : X_BYTES : 0) + BN * 128);
        if (!here)
            return;
        const int k = begin + 64 * s, tap = TAPS ? 0 : k / a.seg;
        unsigned char *to = TAPS ? shared + s * slice_bytes : stages + stage * STAGE_BYTES;
        for (int m = 0, i = 0; m < BM; m += b.x_rows, i++) /* slots of less than BM rows */
            copy_tile(to + m * 128, &b.x, k - tap * a.seg, x_row0 + tap * from_tap, x_slot + i,
                      &full[stage]);
    };
    if (asks)
        for (int s = 0; s < b.stages && s < steps; s++)
            ask_w(s, s);
    columns.put(t, o0);
    let_next_start();
    wait_for_previous();
    if (asks)
        for (int s = 0; s < b.stages && s < steps; s++)
            ask_x(s, s);
    if (!a.part)
        prefetch_residual(a, m0, BM, o0, BN);

    group_sums<N> sum, total;
    sum.clear();
    total.clear();
    const int x_row = BM == 128 ? 64 * group : 0, w_row = BM == 128 ? 0 : N * group;
    int stage = 0, round = 0, before = 0, round_before = 0; /* of step s and s - 1 */
    int slice = 0, shift = 0;                               /* TAPS: of x; rows of its tap */
    for (int s = 0, first = 0; s < steps; first = s) {
        const int last = first + CU_K_PART / 64 < steps ? first + CU_K_PART / 64 : steps;
#pragma unroll 1
        for (; s < last; s++) {
            unsigned char *here = stages + stage * STAGE_BYTES;
            const group_at w = group_place(here + X_BYTES + w_row * 128);
            const group_at x = group_place(
                (TAPS ? shared + slice * slice_bytes + shift * 128 : here) + x_row * 128);
            gate_wait(&full[stage], round, 1);
            group_begin();
#pragma unroll
            for (int kk = 0; kk < 4; kk++)
                group_product<N, HALF>::make(sum.v, x + 2 * kk, w + 2 * kk, kk > 0 || s > first);
            group_close();
            group_wait<1, 0>(sum.v);
            const int next = s - 1 + b.stages; /* takes the place of s - 1 */
            if (s > 0 && next < steps) {
                if (lane == 0)
                    gate_arrive(&free[before]);
                if (asks) {
                    gate_wait(&free[before], round_before, CU_THREADS / 32);
                    ask_w(next, before);
                    ask_x(next, before);
                }
            }
            before = stage, round_before = round;
            if (++stage == b.stages)
                stage = 0, round++;
            if (TAPS && ++slice == slices)
                slice = 0, shift += from_tap;
        }
        group_wait<0, N / 8>(sum.v);
        total.add(sum);
    }

    const int m = m0 + x_row + warp % 4 * 16 + lane / 4, c = w_row + lane % 4 * 4;
    const group_results<N, BN, HALF> results(t, columns, m, c, o0 + c);
    __syncthreads(); /* columns are there */
    if (!a.part) {
        results.finish(form_of(t), total);
        return;
    }
    float *part = a.part + ((size_t)blockIdx.z * a.rows * a.slots + m) * a.n_out + o0 + c;
#pragma unroll
    for (int p = 0; p < N / 16; p++)
#pragma unroll
        for (int h = 0; h < 2; h++)
            if (results.live[h] && results.o + 16 * p < a.n_out)
                *(float4 *)(part + (int64_t)h * 8 * a.n_out + 16 * p) = total.four(p, h);
}
#define GROUP_BODY(...) linear_group<__VA_ARGS__>(a)
#else
#define GROUP_BODY(...) (void)a
#endif

UT_KERNEL_AHEAD_FITS(linear_group_64, cu_group_args, 2)
{
    GROUP_BODY(64, 64, false, false);
}
UT_KERNEL_AHEAD_FITS(linear_group_tall, cu_group_args, 2)
{
    GROUP_BODY(128, 64, false, false);
}
UT_KERNEL_AHEAD(linear_group_128, cu_group_args)
{
    GROUP_BODY(128, 128, false, false);
}
UT_KERNEL_AHEAD(linear_group_192, cu_group_args)
{
    GROUP_BODY(128, 192, false, false);
}
UT_KERNEL_AHEAD_FITS(linear_group_64_f16, cu_group_args, 2)
{
    GROUP_BODY(64, 64, false, true);
}
UT_KERNEL_AHEAD_FITS(linear_group_96_f16, cu_group_args, 2)
{
    GROUP_BODY(128, 96, false, true);
}
UT_KERNEL_AHEAD(linear_group_192_f16, cu_group_args)
{
    GROUP_BODY(128, 192, false, true);
}
UT_KERNEL_AHEAD(linear_group_taps_192, cu_group_args)
{
    GROUP_BODY(128, 192, true, true);
}
