/* linear_slots.cuh - products on tensor cores for the few rows of all slots of a decoding step, x
 * as bf16: every weight is read once, and is on its way before what x is made of is there. Matrices
 * are bf16 (linear_slots.cu) or blocks of whole numbers (linear_slots_packed.cu).
 *
 * A block makes CU_SLOTS_N outputs of up to ROWS rows over a part of K; the parts are added in
 * order: where there are clusters each block adds those of some rows, which the others send to its
 * shared memory, else the last block does. A part's sum is two chains from zero, one for each half
 * of COLUMNS columns. So a row's bits depend on its x and on K alone.
 *
 * A link of the frame's chain is as long as what a thread does one after another, so that is as
 * little as can be: sizes are known to the compiler, and whoever finishes outputs asks for what
 * goes with them while the parts are on their way. */
#pragma once

#include "backends/cuda/kernels/finish.cuh"
#include "backends/cuda/kernels/gates.cuh"
#include "backends/cuda/kernels/slots_weights.cuh"

#if UT_MMA
/* What a block has to do. */
struct slots_tile {
    int first, outputs; /* of the result: the first, how many; with swiglu half of W's rows */
    int n_y;            /* columns of the result */
    int m0, all;        /* rows: the first, of all slots */
    int k0, part, parts;
    int r0, share; /* rows of the tile that this block finishes, if there are so many */

    UT_DEVICE_MEMBER slots_tile(const cu_slots_args &s, int rows, int columns)
        : outputs(s.swiglu ? CU_SLOTS_N / 2 : CU_SLOTS_N),
          n_y(s.swiglu ? s.a.n_out / 2 : s.a.n_out), m0((int)blockIdx.z * rows),
          all(s.a.rows * s.a.slots), part((int)blockIdx.y), parts((int)gridDim.y), share(s.share)
    {
        first = (int)blockIdx.x * outputs;
        k0 = part * s.steps * columns;
        r0 = s.cluster ? part * share : 0;
    }
    UT_DEVICE_MEMBER int rows_finished(int rows) const { return r0 < rows ? share : 0; }
};

/* Where the sum of output o of the tile lies: of its gate with swiglu, and up 8 behind. */
UT_DEVICE int place_of(bool swiglu, int o)
{
    return swiglu ? o / 8 * 16 + o % 8 : o;
}

/* ---- What follows the sums ------------------------------------------------------------------- */

/* Two neighbouring outputs of a row, which a thread finishes, and what goes with them. Lanes that
 * follow each other have the row's other outputs: 32, or with swiglu 16. */
struct slots_pair {
    int r, o, n; /* row of the tile, first output of the result; how many of the two there are */
    int m, slot, row;
    float residual[2], gain[2], scale; /* scale: 1 / sqrt(mean square of x + eps) */

    UT_DEVICE_MEMBER void find(const cu_slots_args &s, const slots_tile &t, int i, bool live)
    {
        r = t.r0 + (s.swiglu ? i / (CU_SLOTS_N / 4) : i / (CU_SLOTS_N / 2));
        o = t.first + (s.swiglu ? i % (CU_SLOTS_N / 4) : i % (CU_SLOTS_N / 2)) * 2;
        m = t.m0 + r;
        n = !live || m >= t.all || o >= t.n_y ? 0 : o + 1 < t.n_y ? 2 : 1;
        slot = s.a.rows == 1 ? m : m / s.a.rows;
        row = m - slot * s.a.rows;
    }
    UT_DEVICE_MEMBER int64_t at(int64_t of_slot, int n_y) const
    {
        return slot * of_slot + (int64_t)row * n_y + o;
    }
    /* Over the lanes of the row. */
    UT_DEVICE_MEMBER float sum_of_row(bool swiglu, float v) const
    {
#pragma unroll
        for (int d = CU_SLOTS_N / 8; d > 0; d /= 2)
            v += __shfl_xor_sync(UT_FULL, v, d);
        const float other = __shfl_xor_sync(UT_FULL, v, CU_SLOTS_N / 4);
        return swiglu ? v : v + other;
    }

    /* By whole warps. */
    UT_DEVICE_MEMBER void ask(const cu_slots_args &s, const slots_tile &t, bool live)
    {
        const float *of_row = s.a.residual ? s.a.residual + at(s.a.residual_slot, t.n_y) : NULL;
#pragma unroll
        for (int j = 0; j < 2; j++) {
            residual[j] = of_row && j < n ? of_row[j] : 0.0f;
            gain[j] = s.y_gain && j < n ? s.y_gain[o + j] : 1.0f;
        }
        float square = 0.0f;
        for (int i = (o - t.first) / 2; s.square && live && m < t.all && i < s.square_tiles;
             i += t.outputs / 2)
            square += __ldcg(s.square + (int64_t)i * t.all + m);
        scale = s.square ? 1.0f / sqrtf(sum_of_row(s.swiglu, square) / (float)s.a.k + s.eps) : 1.0f;
    }

    /* What few products of a decoding step have behind them, to output o + j. */
    UT_DEVICE_MEMBER float rare(const cu_linear_args &a, int j, float v) const
    {
        if (j >= n)
            return v;
        v += a.bias ? a.bias[o + j] : 0.0f;
        v = a.act == ACT_SNAKE ? snake(v, a.alpha[o + j], a.beta[o + j]) : activate_apart(a.act, v);
        return a.gamma ? v * a.gamma[o + j] : v;
    }

    /* The sums as they are, and those of up. */
    UT_DEVICE_MEMBER void finish(const cu_slots_args &s, const slots_tile &t, float2 sum, float2 up)
    {
        const cu_linear_args &a = s.a;
        float v[2] = {sum.x, sum.y};
        if (s.square)
            v[0] *= scale, v[1] *= scale, up.x *= scale, up.y *= scale;
        if (s.swiglu)
            v[0] = silu(v[0]) * up.x, v[1] = silu(v[1]) * up.y;
        if (a.bias || a.act || a.gamma)
            v[0] = rare(a, 0, v[0]), v[1] = rare(a, 1, v[1]);
        v[0] += residual[0], v[1] += residual[1];
        if (a.y) {
            float *y = a.y + at(a.y_slot, t.n_y);
#pragma unroll
            for (int j = 0; j < 2; j++)
                if (j < n)
                    y[j] = v[j];
        }
        if (s.y16 && n > 0) { /* o and ldy are even */
            const uint32_t two = pack_bf16(v[0] * gain[0], v[1] * gain[1]);
            uint16_t *y = s.y16 + (int64_t)m * s.ldy + o;
            if (n == 2)
                *(uint32_t *)y = two;
            else
                *y = (uint16_t)two;
        }
        if (s.y_square) {
            const float mine = (n > 0 ? v[0] * v[0] : 0.0f) + (n > 1 ? v[1] * v[1] : 0.0f);
            const float all = sum_of_row(s.swiglu, mine);
            if (o == t.first && n > 0)
                s.y_square[(int64_t)blockIdx.x * t.all + m] = all;
        }
    }
};

/* ---- The block ------------------------------------------------------------------------------- */

/* A part's sums of four outputs from o on of row r, of which there are two halves. */
template <int ROWS> UT_DEVICE float4 part_of(const float *sums, int r, int o)
{
    const float4 a = *(const float4 *)(sums + r * CU_SLOTS_PITCH + o),
                 b = *(const float4 *)(sums + (ROWS + r) * CU_SLOTS_PITCH + o);
    return {a.x + b.x, a.y + b.y, a.z + b.z, a.w + b.w};
}

UT_DEVICE float2 operator+(float2 a, float2 b)
{
    return {a.x + b.x, a.y + b.y};
}

/* The sum of parts that lie `step` apart; SHARED: in shared memory, else others wrote them. */
template <bool SHARED> UT_DEVICE float2 sum_parts(const float *first, int64_t step, int parts)
{
    float2 v[CU_SLOTS_MOST], sum = {0.0f, 0.0f};
#pragma unroll
    for (int p = 0; p < CU_SLOTS_MOST; p++) {
        const float2 *from = (const float2 *)(first + p * step);
        v[p] = p >= parts ? float2{0.0f, 0.0f} : SHARED ? *from : __ldcg(from);
    }
#pragma unroll
    for (int p = 0; p < CU_SLOTS_MOST; p++)
        sum = sum + v[p];
    return sum;
}

/* By all threads: so many sendings of four numbers will come to the gate. */
UT_DEVICE void expect_parts(uint64_t *gate, int sendings)
{
    if (threadIdx.x == 0)
        gate_init(gate, 1);
    __syncwarp();
    if (threadIdx.x == 0)
        copy_expect(gate, 16 * sendings);
    __syncwarp();
    cluster_arrive();
}

/* The block's sums of all rows, those of `share` rows each to a block of the cluster: to its
 * `place` [share][SUM]. */
template <int ROWS>
UT_DEVICE void send_parts(const float *sums, float *place, uint64_t *gate, int share_log2)
{
    const int FOURS = CU_SLOTS_N / 4;
    cluster_wait(); /* all blocks' gates are there */
#pragma unroll
    for (int i = 0; i < ROWS * FOURS; i += CU_THREADS) {
        const int r = (i + (int)threadIdx.x) / FOURS, o = (int)threadIdx.x % FOURS * 4;
        const int to = r >> share_log2;
        if (ROWS * FOURS >= CU_THREADS || r < ROWS)
            cluster_send(place + (r - (to << share_log2)) * CU_SLOTS_PITCH + o, gate, to,
                         part_of<ROWS>(sums, r, o));
    }
}

/* x [all rows, ldx] from row m0 and column k0 on times 64 rows of W, those that row_of(warp % 4, g,
 * h) says, or -1: none. To sums [2 halves of the columns][ROWS][SUM]; xs [steps][ROWS][X]. Waits
 * for the kernel in front, and at its end for the block. */
template <int TYPE, int ROWS, int COLUMNS, class ROW_OF>
UT_DEVICE void slots_product(const cu_linear_args &a, int steps, int m0, int all, int k0,
                             uint16_t *xs, float *sums, ROW_OF row_of)
{
    typedef slots_weights<TYPE, COLUMNS> weights;
    const int N = ROWS / 8, X = CU_SLOTS_X(COLUMNS), SUM = CU_SLOTS_PITCH;
    const int warp = threadIdx.x / 32, lane = threadIdx.x % 32, g = lane / 4, q = lane % 4;
    typename weights::row rows[2];
#pragma unroll
    for (int h = 0; h < 2; h++) {
        const int o = row_of(warp % 4, g, h);
        rows[h].find(a, o, o >= 0);
    }
    const int of_warp = warp / 4 * (COLUMNS / 2);
    weights w;
    w.load(rows, k0 + of_warp, a.ldw, q);
    for (int k = COLUMNS; k < steps * COLUMNS; k += weights::LINE)
#pragma unroll
        for (int h = 0; h < 2; h++)
            if (rows[h].w && q == 0 && warp < 4 && k0 + k < a.ldw)
                rows[h].prefetch(k0 + k);
    /* x: 16 threads to a row, 8 columns to each */
    const int xr = threadIdx.x / 16, xc = threadIdx.x % 16 * 8;
    const uint16_t *x = a.x16 + (int64_t)(m0 + xr) * a.ldx + k0 + xc;
    let_next_start();
    w.unpack();
    wait_for_previous();

    for (int k = 0; k < steps * COLUMNS; k += COLUMNS)
#pragma unroll
        for (int r = 0; r < ROWS; r += 16)
#pragma unroll
            for (int c = 0; c < COLUMNS; c += 128)
                if (ROWS >= 16 || xr < ROWS) {
                    const bool live = m0 + xr + r < all && k0 + xc + k + c < a.ldx;
                    copy_async(xs + (k / COLUMNS * ROWS + xr + r) * X + xc + c,
                               live ? x + (int64_t)r * a.ldx + k + c : a.x16, live);
                }
    copy_group_end();
    copy_wait<0>();
    __syncthreads();

    float sum[N][4];
#pragma unroll
    for (int n = 0; n < N; n++)
        sum[n][0] = sum[n][1] = sum[n][2] = sum[n][3] = 0.0f;
    w.add(sum, xs + g * X + of_warp, q);
    for (int step = 1; step < steps; step++) {
        w.load(rows, k0 + step * COLUMNS + of_warp, a.ldw, q);
        w.unpack();
        w.add(sum, xs + (step * ROWS + g) * X + of_warp, q);
    }

    /* sum[n][c]: output g + c / 2 * 8 of the warp's, row 8 n + 2 q + c % 2 */
    float *own = sums + (warp / 4 * ROWS + 2 * q) * SUM + warp % 4 * 16 + g;
#pragma unroll
    for (int n = 0; n < N; n++)
#pragma unroll
        for (int c = 0; c < 4; c++)
            own[(8 * n + c % 2) * SUM + c / 2 * 8] = sum[n][c];
    __syncthreads();
}

template <int TYPE, int ROWS, int COLUMNS> UT_DEVICE void linear_slots(const cu_slots_args &s)
{
    const cu_linear_args &a = s.a;
    const int X = CU_SLOTS_X(COLUMNS), SUM = CU_SLOTS_PITCH, FOURS = CU_SLOTS_N / 4;
    const int steps = COLUMNS == CU_SLOTS_COLUMNS ? 1 : s.steps;
    UT_SHARED(uint16_t, xs);                        /* [steps][ROWS][X] */
    float *sums = (float *)(xs + steps * ROWS * X); /* [2][ROWS][SUM]: of halves of the columns */
    float *sent = sums + 2 * ROWS * SUM;            /* [parts][share][SUM] */
    uint64_t *gate = (uint64_t *)(sums + 2 * ROWS * SUM - 4); /* in what pads the last row */
    const int lane = threadIdx.x % 32;
    const slots_tile t(s, ROWS, COLUMNS);
    const int mine = t.rows_finished(ROWS), sendings = t.parts * mine * FOURS;
    if (s.cluster)
        expect_parts(gate, sendings);

    slots_product<TYPE, ROWS, COLUMNS>(
        a, steps, t.m0, t.all, t.k0, xs, sums, [&](int of, int g, int h) {
            const int o = t.first + (s.swiglu ? of * 8 + g : of * 16 + g + 8 * h);
            return o >= t.n_y ? -1 : s.swiglu ? o + h * t.n_y : o;
        });

    float *of_tile =
        a.part + ((int64_t)blockIdx.z * gridDim.x + blockIdx.x) * t.parts * ROWS * CU_SLOTS_N;
    if (s.cluster) {
        send_parts<ROWS>(sums, sent + t.part * t.share * SUM, gate, s.share_log2);
    } else if (t.parts > 1) {
        for (int i = threadIdx.x; i < ROWS * FOURS; i += CU_THREADS)
            *(float4 *)(of_tile + t.part * ROWS * CU_SLOTS_N + 4 * i) =
                part_of<ROWS>(sums, i / FOURS, i % FOURS * 4);
        if (!last_block(a.arrived + blockIdx.z * gridDim.x + blockIdx.x, t.parts))
            return;
    }
    bool waited = !s.cluster;
    const int pairs = mine * (t.outputs / 2);
#pragma unroll 1
    for (int i = threadIdx.x; i - lane < pairs; i += CU_THREADS) { /* whole warps */
        slots_pair pair;
        pair.find(s, t, i, i < pairs);
        pair.ask(s, t, i < pairs);
        if (!waited)
            gate_wait(gate, 0, 1 + sendings);
        waited = true;
        float2 v[2] = {{0.0f, 0.0f}, {0.0f, 0.0f}};
        const int at = place_of(s.swiglu, pair.o - t.first);
#pragma unroll
        for (int h = 0; h < 2; h++)
            if ((h == 0 || s.swiglu) && i < pairs) {
                const int o = at + 8 * h;
                v[h] = s.cluster ? sum_parts<true>(sent + (pair.r - t.r0) * SUM + o, t.share * SUM,
                                                   t.parts)
                       : t.parts == 1 ? *(const float2 *)(sums + pair.r * SUM + o) +
                                            *(const float2 *)(sums + (ROWS + pair.r) * SUM + o)
                                      : sum_parts<false>(of_tile + pair.r * CU_SLOTS_N + o,
                                                         ROWS * CU_SLOTS_N, t.parts);
            }
        pair.finish(s, t, v[0], v[1]);
    }
}
#endif

/* Kernels for up to so many rows; blocks: of a multiprocessor, at least. */
#define SLOTS_KERNELS(name, type, rows, blocks, wide_blocks)                                       \
    UT_KERNEL_AHEAD_FITS(name##_##rows, cu_slots_args, blocks)                                     \
    {                                                                                              \
        UT_MMA_BODY(linear_slots<type, rows, CU_SLOTS_COLUMNS>(a));                                \
    }                                                                                              \
    UT_KERNEL_AHEAD_FITS(name##_##rows##_wide, cu_slots_args, wide_blocks)                         \
    {                                                                                              \
        UT_MMA_BODY(linear_slots<type, rows, CU_SLOTS_WIDE>(a));                                   \
    }
