/* linear_mma.cu - products of bf16 or f16 on tensor cores, with f32 sums, for any number of rows
 * (prefill, codec). A block makes a tile of results. linear_slots.cuh is for few rows.
 *
 * Each result is chains over a part of K from zero, one 16 columns after the other, and the parts
 * are added in order. So a row's bits depend on its x and on K alone, whatever the tile, the cut of
 * the grid, and the other rows are. */
#include "backends/cuda/kernels/finish.cuh"
#include "backends/cuda/kernels/gates.cuh"
#include "backends/cuda/kernels/mma.cuh"

/* ---- x in the matrix's type ------------------------------------------------------------------ */

/* x16 [slots, rows, ldx]: element (row, k) is x(row, k), zero from a.k on. 8 elements to a thread.
 */
UT_KERNEL(linear_pack, cu_tile_args)
{
    const cu_linear_args &l = a.a;
    const int groups = l.ldx / 8;
    const int64_t i = element();
    if (i >= (int64_t)l.rows * groups)
        return;
    const int row = (int)(i / groups), k = (int)(i % groups) * 8, slot = blockIdx.y;
    const float *x = l.x + slot * l.x_slot + (int64_t)row * l.cols;
    float v[8];
    if (l.vector && k + 8 <= l.k) {
#pragma unroll
        for (int j = 0; j < 2; j++) {
            const float4 f = *(const float4 *)(x + x_offset(l, k + 4 * j));
            v[4 * j] = f.x, v[4 * j + 1] = f.y, v[4 * j + 2] = f.z, v[4 * j + 3] = f.w;
        }
    } else {
#pragma unroll
        for (int j = 0; j < 8; j++)
            v[j] = x_at(l, x, k + j);
    }
    uint16_t *to = l.x16 + slot * l.x16_slot + (int64_t)row * l.ldx + k;
    uint32_t p[4];
#pragma unroll
    for (int j = 0; j < 4; j++)
        p[j] = (uint32_t)f32_to_narrow(a.narrow, v[2 * j + 1]) << 16 |
               f32_to_narrow(a.narrow, v[2 * j]);
    *(uint4 *)to = uint4{p[0], p[1], p[2], p[3]};
}

/* ---- Parts ----------------------------------------------------------------------------------- */

/* The parts' sums to results: 4 outputs to a thread. */
UT_KERNEL(linear_mma_finish, cu_tile_args)
{
    const cu_linear_args &l = a.a;
    const int groups = (l.n_out + 3) / 4;
    const int64_t i = element(), all = (int64_t)l.rows * l.slots;
    if (i >= all * groups)
        return;
    const int m = (int)(i / groups), o = (int)(i % groups) * 4;
    const float *part = l.part + (int64_t)m * l.n_out + o;
    alignas(16) float v[4] = {0.0f, 0.0f, 0.0f, 0.0f};
    if (l.n_out % 4 == 0)
#pragma unroll 4
        for (int k = 0; k < l.ldw; k += CU_K_PART, part += all * l.n_out) {
            const float4 p = *(const float4 *)part;
            v[0] += p.x, v[1] += p.y, v[2] += p.z, v[3] += p.w;
        }
    else
        for (int k = 0; k < l.ldw; k += CU_K_PART, part += all * l.n_out)
            for (int j = 0; j < 4 && o + j < l.n_out; j++)
                v[j] += part[j];
    if (l.n_out % 4 != 0) {
        finish_rest(l, m, o, v);
        return;
    }
    const result_row r(l, m);
    four_outputs f;
    f.load(a, o);
    finish_whole(a, f, r, *(const float4 *)v, residual_of(l, r, o));
}

#if UT_MMA

/* ---- Tiles ----------------------------------------------------------------------------------- *
 * A block makes BM rows by BN outputs, a warp WM by WN of them. Tiles of 64 columns of x and W go
 * through CU_MMA_STAGES buffers of shared memory, rows of 8 groups of 16 bytes, swizzled. */

/* Copy `rows` rows of 64 columns; thread t brings group t % 8 of rows t / 8, t / 8 + 32, ... */
template <int ROWS> struct tile_source {
    const uint16_t *row[ROWS / 32]; /* NULL: past the end, zeros */
    const void *any;                /* an address to give where nothing is read */

    UT_DEVICE_MEMBER void copy(uint4 *tile, int64_t offset, bool live) const
    {
        const int chunk = threadIdx.x % 8, first = threadIdx.x / 8;
#pragma unroll
        for (int i = 0; i < ROWS / 32; i++) {
            const int r = first + 32 * i;
            const bool here = live && row[i];
            copy_async(tile + r * 8 + swizzle(r, chunk), here ? row[i] + offset : any, here);
        }
    }
};

/* Rows of x for a convolution, whose taps see most of them again: all that the block needs, slice
 * by slice of 64 columns, stays in shared memory. The block's rows are of one slot. */
struct tap_rows {
    const uint16_t *x;
    int slices, span, from_tap; /* rows of a slice, a multiple of 8; rows from tap to tap */
    int here;                   /* rows that there are */
    int slot, row0;             /* the block's first row, of its slot */

    UT_DEVICE_MEMBER tap_rows(const cu_linear_args &a, int m0, int rows)
    {
        slot = m0 / a.rows, row0 = m0 - slot * a.rows;
        slices = a.seg / 64;
        from_tap = a.seg_step / a.ldx;
        const int reach = (a.k / a.seg - 1) * from_tap;
        span = (rows + reach + 7) & -8;
        here = a.rows + reach - row0;
        x = a.x16 + slot * a.x16_slot + (int64_t)row0 * a.ldx;
    }
    UT_DEVICE_MEMBER void copy(uint4 *tiles, int slice, int ldx) const
    {
        const int chunk = threadIdx.x % 8;
        for (int r = threadIdx.x / 8; r < span; r += 32)
            copy_async(tiles + (slice * span + r) * 8 + swizzle(r, chunk),
                       x + (r < here ? (int64_t)r * ldx + 64 * slice + 8 * chunk : 0), r < here);
    }
};

/* The sums v of outputs o .. o + 3 of row m: to the parts. */
UT_DEVICE void leave_part(const cu_linear_args &a, int m, int o, const float *v)
{
    float *part = a.part + ((size_t)blockIdx.z * a.rows * a.slots + m) * a.n_out + o;
    if (a.n_out % 4 == 0)
        *(float4 *)part = *(const float4 *)v;
    else
        for (int j = 0; j < 4 && o + j < a.n_out; j++)
            part[j] = v[j];
}

/* TAPS: rows of x stay (tap_rows). BOXES: one thread asks for tiles, of rows of one slot, and a
 * gate for each buffer says when they are there; where all of K is whole steps of whole segments.
 */
template <int BM, int BN, int WM, int WN, bool HALF, bool TAPS, bool BOXES>
UT_DEVICE void linear_mma(const cu_tile_args &t, const cu_tensor_map *x_map,
                          const cu_tensor_map *w_map)
{
    const cu_linear_args &a = t.a;
    UT_SHARED(uint4, tiles); /* tap_rows, [CU_MMA_STAGES][rows of x and W][8] */
    const int M = WM / 16, N = WN / 8, STAGES = CU_MMA_STAGES;
    const int warp = threadIdx.x / 32, lane = threadIdx.x % 32, chunk = threadIdx.x % 8;
    const int wm = warp % (BM / WM) * WM, wn = warp / (BM / WM) * WN;
    const int m0 = blockIdx.y * BM, o0 = blockIdx.x * BN, all = a.rows * a.slots;
    const int begin = a.part ? blockIdx.z * CU_K_PART : 0;
    const int end = a.part && begin + CU_K_PART < a.ldw ? begin + CU_K_PART : a.ldw;
    const int steps = (end - begin + 63) / 64;

    const tap_rows taps(a, m0, BM);
    const int kept = TAPS ? taps.slices * taps.span * 8 : 0, rows_x = TAPS ? 0 : BM;
    const bool asks = BOXES && threadIdx.x == 0;
    uint64_t *gates = (uint64_t *)(tiles + kept + STAGES * (rows_x + BN) * 8);
    if (BOXES) {
        if (threadIdx.x < STAGES)
            gate_init(&gates[threadIdx.x], 1);
        __syncthreads();
    }

    tile_source<BM> x;
    tile_source<BN> w;
    x.any = w.any = a.w;
#pragma unroll
    for (int i = 0; i < BM / 32; i++) {
        const int m = m0 + threadIdx.x / 8 + 32 * i;
        x.row[i] = m < all ? a.x16 + (m / a.rows) * a.x16_slot + (int64_t)(m % a.rows) * a.ldx : 0;
    }
#pragma unroll
    for (int i = 0; i < BN / 32; i++) {
        const int o = o0 + threadIdx.x / 8 + 32 * i;
        w.row[i] = o < a.n_out ? (const uint16_t *)a.w + (size_t)o * a.ldw : 0;
    }

    float sum[M][N][4], total[M][N][4];
#pragma unroll
    for (int i = 0; i < M; i++)
#pragma unroll
        for (int j = 0; j < N; j++)
#pragma unroll
            for (int c = 0; c < 4; c++)
                sum[i][j][c] = total[i][j][c] = 0.0f;

    /* step s: 64 columns. Those of W do not wait for the kernel in front. */
    auto stage_of = [&](int s) { return tiles + kept + s % STAGES * (rows_x + BN) * 8; };
    auto copy_w = [&](int s) {
        if (BOXES) {
            if (asks)
                copy_tile(stage_of(s) + rows_x * 8, w_map, begin + 64 * s, o0, 0,
                          &gates[s % STAGES]);
            return;
        }
        const int k = begin + 64 * s + 8 * chunk;
        w.copy(stage_of(s) + rows_x * 8, k, k < a.ldw);
    };
    auto copy_x = [&](int s) {
        if (BOXES) {
            const int k = begin + 64 * s, tap = asks && !TAPS ? k / a.seg : 0;
            const bool here = !TAPS || s < taps.slices;
            const uint32_t lines = TAPS ? taps.span : BM;
            if (asks && here)
                copy_tile(TAPS ? tiles + s * taps.span * 8 : stage_of(s), x_map, k - tap * a.seg,
                          taps.row0 + tap * taps.from_tap, taps.slot, &gates[s % STAGES]);
            if (asks)
                copy_expect(&gates[s % STAGES], ((here ? lines : 0) + BN) * 128);
            return;
        }
        if (TAPS) {
            if (s < taps.slices)
                taps.copy(tiles, s, a.ldx);
            return;
        }
        const int k = begin + 64 * s + 8 * chunk;
        x.copy(stage_of(s), x_offset(a, k), k < a.k);
    };
    auto copy_next = [&](int s) {
        if (s + STAGES - 1 < steps) {
            copy_w(s + STAGES - 1);
            copy_x(s + STAGES - 1);
        }
        copy_group_end();
    };
#pragma unroll
    for (int s = 0; s < STAGES - 1; s++)
        if (s < steps)
            copy_w(s);
    let_next_start();
    wait_for_previous();
#pragma unroll
    for (int s = 0; s < STAGES - 1; s++) {
        if (s < steps)
            copy_x(s);
        copy_group_end();
    }
    int slice = 0, shift = 0; /* of x, the step's that comes next; rows of its tap */
    auto next_slice = [&] {
        if (TAPS && ++slice == taps.slices) {
            slice = 0;
            shift += taps.from_tap;
        }
    };
    auto rows_of = [&](int s) { return TAPS ? tiles + slice * taps.span * 8 : stage_of(s); };
    auto end_of_part = [&](int s) { return (s + 1) % (CU_K_PART / 64) == 0 || s + 1 == steps; };
    auto add_part = [&] {
#pragma unroll
        for (int i = 0; i < M; i++)
#pragma unroll
            for (int j = 0; j < N; j++)
#pragma unroll
                for (int c = 0; c < 4; c++) {
                    total[i][j][c] += sum[i][j][c];
                    sum[i][j][c] = 0.0f;
                }
    };
#ifdef UT_MMA_GROUPS
    /* Step s is made while x of the next comes to registers. */
    auto take = [&](int s, uint32_t(&fx)[4][4]) {
        copy_wait<STAGES - 3>();
        group_sees_memory();
        __syncthreads(); /* all copies of step s are there, and the buffer of s - 2 is free */
        if (s > 0)
            copy_next(s - 1);
        const uint4 *xs = rows_of(s);
        const int r = wm + lane % 16 + shift;
#pragma unroll
        for (int kk = 0; kk < 4; kk++)
            load_matrices(fx[kk], xs + r * 8 + swizzle(r, 2 * kk + lane / 16));
        next_slice();
    };
    auto step = [&](int s, uint32_t(&fx)[4][4], uint32_t(&fx_next)[4][4]) {
        const uint4 *ws = stage_of(s) + rows_x * 8;
        group_begin();
#pragma unroll
        for (int kk = 0; kk < 4; kk++)
            group_mma<WN, HALF>::add(sum[0], fx[kk], group_matrix<8>(ws + wn * 8 + 2 * kk));
        group_close();
        group_wait<1, 0>(sum[0]);
        if (s + 1 < steps)
            take(s + 1, fx_next);
        if (end_of_part(s)) {
            group_wait<0, WN / 8>(sum[0]);
            add_part();
        }
    };
    uint32_t even[4][4], odd[4][4];
    take(0, even);
#pragma unroll 1
    for (int s = 0; s < steps; s += 2) {
        step(s, even, odd);
        if (s + 1 < steps)
            step(s + 1, odd, even);
    }
#else
    for (int s = 0; s < steps; s++) {
        if (BOXES)
            gate_wait(&gates[s % STAGES], s / STAGES, 1);
        else
            copy_wait<STAGES - 2>();
        __syncthreads(); /* all copies of step s are there, and its successor's buffer is free */
        const uint4 *xs = rows_of(s), *ws = stage_of(s) + rows_x * 8;
        copy_next(s);
#pragma unroll
        for (int kk = 0; kk < 4; kk++) {
            uint32_t fx[M][4], fw[N / 2][4];
#pragma unroll
            for (int i = 0; i < M; i++) {
                const int r = wm + 16 * i + lane % 16 + shift;
                load_matrices(fx[i], xs + r * 8 + swizzle(r, 2 * kk + lane / 16));
            }
#pragma unroll
            for (int j = 0; j < N / 2; j++) {
                const int r = wn + 16 * j + lane / 16 * 8 + lane % 8;
                load_matrices(fw[j], ws + r * 8 + swizzle(r, 2 * kk + lane / 8 % 2));
            }
#pragma unroll
            for (int i = 0; i < M; i++)
#pragma unroll
                for (int j = 0; j < N; j++)
                    if (HALF)
                        mma_f16(sum[i][j], fx[i], fw[j / 2] + j % 2 * 2);
                    else
                        mma_bf16(sum[i][j], fx[i], fw[j / 2] + j % 2 * 2);
        }
        next_slice();
        if (end_of_part(s))
            add_part();
    }
#endif

    /* through shared memory, so that neighbours write what lies together */
    float *out = (float *)tiles; /* [BM][PITCH] */
    const int PITCH = BN + 8;
    copy_wait<0>();
    __syncthreads();
#pragma unroll
    for (int i = 0; i < M; i++)
#pragma unroll
        for (int j = 0; j < N; j++)
#pragma unroll
            for (int h = 0; h < 2; h++) {
                const int r = wm + 16 * i + 8 * h + lane / 4, c = wn + 8 * j + lane % 4 * 2;
                *(float2 *)(out + r * PITCH + c) =
                    float2{total[i][j][2 * h], total[i][j][2 * h + 1]};
            }
    __syncthreads();
    /* a thread has the same outputs of every STEP-th row, a few rows at a time */
    const int STEP = CU_THREADS / (BN / 4), AT_ONCE = BM / 32;
    const int c = threadIdx.x % (BN / 4) * 4, o = o0 + c;
    if (o >= a.n_out)
        return;
    const bool whole = a.n_out % 4 == 0 && !a.part;
    four_outputs f;
    if (whole)
        f.load(t, o);
#pragma unroll 1
    for (int first = threadIdx.x / (BN / 4); first < BM; first += STEP * AT_ONCE) {
        float4 residual[AT_ONCE];
#pragma unroll
        for (int i = 0; i < AT_ONCE; i++)
            if (whole && m0 + first + i * STEP < all)
                residual[i] = residual_of(a, result_row(a, m0 + first + i * STEP), o);
#pragma unroll
        for (int i = 0; i < AT_ONCE; i++) {
            const int r = first + i * STEP, m = m0 + r;
            const float *v = out + r * PITCH + c;
            if (m >= all)
                continue;
            if (whole)
                finish_whole(t, f, result_row(a, m), *(const float4 *)v, residual[i]);
            else if (a.part)
                leave_part(a, m, o, v);
            else
                finish_rest(a, m, o, v);
        }
    }
}
#endif

/* What a warp makes of a tile. */
#ifdef UT_MMA_GROUPS
enum { ROWS_OF_WIDE = 16, COLS_OF_WIDE = 128 };
enum { ROWS_OF_TALL = 16, COLS_OF_TALL = 64 };
enum { ROWS_OF_SMALL = 16, COLS_OF_SMALL = 32 };
#else
enum { ROWS_OF_WIDE = 64, COLS_OF_WIDE = 32 };
enum { ROWS_OF_TALL = 32, COLS_OF_TALL = 32 };
enum { ROWS_OF_SMALL = 32, COLS_OF_SMALL = 16 };
#endif

UT_KERNEL_AHEAD(linear_mma_128, cu_tile_args)
{
    UT_MMA_BODY(
        linear_mma<128, 128, ROWS_OF_WIDE, COLS_OF_WIDE, false, false, false>(a, NULL, NULL));
}
UT_KERNEL_AHEAD(linear_mma_tall, cu_tile_args)
{
    UT_MMA_BODY(
        linear_mma<128, 64, ROWS_OF_TALL, COLS_OF_TALL, false, false, false>(a, NULL, NULL));
}
UT_KERNEL_AHEAD(linear_mma_tall_f16, cu_tile_args)
{
    UT_MMA_BODY(linear_mma<128, 64, ROWS_OF_TALL, COLS_OF_TALL, true, false, false>(a, NULL, NULL));
}
UT_KERNEL_AHEAD(linear_mma_64, cu_tile_args)
{
    UT_MMA_BODY(
        linear_mma<64, 64, ROWS_OF_SMALL, COLS_OF_SMALL, false, false, false>(a, NULL, NULL));
}
UT_KERNEL_AHEAD(linear_mma_128_f16, cu_tile_args)
{
    UT_MMA_BODY(
        linear_mma<128, 128, ROWS_OF_WIDE, COLS_OF_WIDE, true, false, false>(a, NULL, NULL));
}
UT_KERNEL_AHEAD(linear_mma_64_f16, cu_tile_args)
{
    UT_MMA_BODY(
        linear_mma<64, 64, ROWS_OF_SMALL, COLS_OF_SMALL, true, false, false>(a, NULL, NULL));
}
UT_KERNEL_AHEAD(linear_taps_128, cu_tile_args)
{
    UT_MMA_BODY(linear_mma<128, 128, ROWS_OF_WIDE, COLS_OF_WIDE, true, true, false>(a, NULL, NULL));
}
UT_KERNEL_AHEAD(linear_taps_tall, cu_tile_args)
{
    UT_MMA_BODY(linear_mma<128, 64, ROWS_OF_TALL, COLS_OF_TALL, true, true, false>(a, NULL, NULL));
}

/* The same, whose tiles come as boxes: where linear_group.cu has nothing. */
#if UT_MMA && !defined(UT_MMA_GROUPS) && (!defined(__CUDA_ARCH__) || __CUDA_ARCH__ >= 900)
#define BOXES_BODY(...) linear_mma<__VA_ARGS__, true>(a.t, &a.x, &a.w)
#else
#define BOXES_BODY(...) (void)a
#endif

UT_KERNEL_AHEAD(linear_box_128, cu_box_args)
{
    BOXES_BODY(128, 128, ROWS_OF_WIDE, COLS_OF_WIDE, false, false);
}
UT_KERNEL_AHEAD(linear_box_tall, cu_box_args)
{
    BOXES_BODY(128, 64, ROWS_OF_TALL, COLS_OF_TALL, false, false);
}
UT_KERNEL_AHEAD(linear_box_64, cu_box_args)
{
    BOXES_BODY(64, 64, ROWS_OF_SMALL, COLS_OF_SMALL, false, false);
}
UT_KERNEL_AHEAD(linear_box_128_f16, cu_box_args)
{
    BOXES_BODY(128, 128, ROWS_OF_WIDE, COLS_OF_WIDE, true, false);
}
UT_KERNEL_AHEAD(linear_box_tall_f16, cu_box_args)
{
    BOXES_BODY(128, 64, ROWS_OF_TALL, COLS_OF_TALL, true, false);
}
UT_KERNEL_AHEAD(linear_box_64_f16, cu_box_args)
{
    BOXES_BODY(64, 64, ROWS_OF_SMALL, COLS_OF_SMALL, true, false);
}
UT_KERNEL_AHEAD(linear_box_taps_128, cu_box_args)
{
    BOXES_BODY(128, 128, ROWS_OF_WIDE, COLS_OF_WIDE, true, true);
}
UT_KERNEL_AHEAD(linear_box_taps_tall, cu_box_args)
{
    BOXES_BODY(128, 64, ROWS_OF_TALL, COLS_OF_TALL, true, true);
}
