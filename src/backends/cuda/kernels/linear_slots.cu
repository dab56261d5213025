/* linear_slots.cu - products of bf16 on tensor cores for the few rows of all slots of a decoding
 * step: every weight is read once, and is on its way before what x is made of is there.
 *
 * A block makes CU_SLOTS_N outputs of up to ROWS rows over a part of K; the parts are added in
 * order: where there are clusters each block adds those of some rows, which the others send to its
 * shared memory, else the last block does. A part's sum is two chains from zero, one for each half
 * of its columns. So a row's bits depend on its x and on K alone. */
#include "backends/cuda/kernels/gates.cuh"
#include "backends/cuda/kernels/linear.cuh"
#include "backends/cuda/kernels/mma.cuh"

#if UT_MMA
/* Of every 32 columns lane (g, q) takes 8q .. 8q + 7 of the rows g and g + 8 of its warp's 16: two
 * steps of 16 columns whose order is the same for x. With swiglu row g is of the gate and row g + 8
 * the same of up. */
template <int ITER> struct slots_weights {
    uint4 w[2][ITER];

    UT_DEVICE_MEMBER void load(const uint16_t *const row[2], int k, int ldw)
    {
#pragma unroll
        for (int i = 0; i < ITER; i++)
#pragma unroll
            for (int h = 0; h < 2; h++)
                w[h][i] =
                    row[h] && k + 32 * i < ldw ? load_once(row[h] + k + 32 * i) : uint4{0, 0, 0, 0};
    }
};

/* Outputs and rows of a block. */
struct slots_tile {
    int outputs, pairs; /* of W in the tile: pairs of gate and up are half as many */
    int first;          /* output of the result */
    int m0, all;

    /* Where the sum of output o of the tile lies: of its gate with swiglu, and up 8 behind. */
    UT_DEVICE_MEMBER int place(int o) const { return pairs ? o / 8 * 16 + o % 8 : o; }
};

/* 1 / sqrt(mean square + eps) of rows [r0, r0 + n) to scales; a warp to a row. */
UT_DEVICE void slots_scales(const cu_slots_args &s, const slots_tile &t, int r0, int n,
                            float *scales)
{
    const int lane = threadIdx.x % 32;
    for (int r = threadIdx.x / 32; r < n; r += UT_WARPS) {
        const int m = t.m0 + r0 + r;
        float v = 0.0f;
        for (int i = lane; m < t.all && i < s.square_tiles; i += 32)
            v += __ldcg(s.square + (int64_t)i * t.all + m);
        v = warp_sum(v);
        if (lane == 0)
            scales[r] = 1.0f / sqrtf(v / (float)s.a.k + s.eps);
    }
}

template <int ROWS, int ITER> UT_DEVICE void linear_slots(const cu_slots_args &s)
{
    const cu_linear_args &a = s.a;
    const int N = ROWS / 8, GROUP = 64 * ITER;  /* columns of a block's weights at a time */
    const int pitch = s.columns + 32;           /* 16 bytes of 2 rows by 4 lanes cover all banks */
    UT_SHARED(uint16_t, xs);                    /* [ROWS][pitch] */
    float *sums = (float *)(xs + ROWS * pitch); /* [ROWS][CU_SLOTS_PITCH] */
    float *sent = sums + ROWS * CU_SLOTS_PITCH; /* [parts][rows it finishes][CU_SLOTS_PITCH] */
    uint64_t *gate = (uint64_t *)(sent + CU_SLOTS_SENT(ROWS) * CU_SLOTS_PITCH);
    float *scales = (float *)(gate + 1); /* [ROWS] */
    float *halves = scales + ROWS;       /* [ROWS][2] */
    float *residual = halves + 2 * ROWS; /* [rows this block finishes][outputs] */
    const int warp = threadIdx.x / 32, lane = threadIdx.x % 32, g = lane / 4, q = lane % 4;
    const int part = blockIdx.y, parts = gridDim.y, k0 = part * s.columns;
    const int half = warp / 4 * (s.columns / 2), n_y = s.swiglu ? a.n_out / 2 : a.n_out;
    const int outs = s.swiglu ? CU_SLOTS_N / 2 : CU_SLOTS_N;
    const slots_tile t = {outs, s.swiglu, (int)blockIdx.x * outs, (int)blockIdx.z * ROWS,
                          a.rows * a.slots};

    /* rows that this block finishes */
    const int each = s.cluster ? (ROWS + parts - 1) / parts : ROWS,
              r0 = s.cluster ? part * each : 0;
    const int mine = r0 + each <= ROWS ? each : r0 < ROWS ? ROWS - r0 : 0;
    const int sendings = parts * mine * CU_SLOTS_N / 4; /* of four numbers, which it gets */
    if (s.cluster) {
        if (threadIdx.x == 0) {
            gate_init(gate, 1);
            copy_expect(gate, 16 * sendings);
        }
        __syncwarp();
        cluster_arrive();
    }

    const uint16_t *row[2];
#pragma unroll
    for (int h = 0; h < 2; h++) {
        const int o = t.first + (s.swiglu ? warp % 4 * 8 + g : warp % 4 * 16 + g + 8 * h);
        const int64_t r = s.swiglu ? o + h * n_y : o;
        row[h] = o < n_y ? (const uint16_t *)a.w + r * a.ldw + 8 * q : NULL;
    }
    slots_weights<ITER> w;
    w.load(row, k0 + half, a.ldw);
    for (int k = k0 + half + GROUP / 2; k < k0 + half + s.columns / 2 && k < a.ldw; k += 64)
#pragma unroll
        for (int h = 0; h < 2; h++)
            if (row[h] && q == 0)
                prefetch_line(row[h] + k);
    let_next_start();
    wait_for_previous();

    for (int r = warp; r < ROWS; r += UT_WARPS)
        for (int c = lane; c < s.columns / 8; c += 32) {
            const bool live = t.m0 + r < t.all && k0 + 8 * c < a.ldx;
            copy_async(xs + r * pitch + 8 * c,
                       live ? a.x16 + (int64_t)(t.m0 + r) * a.ldx + k0 + 8 * c : a.x16, live);
        }
    copy_group_end();
    for (int i = threadIdx.x; a.residual && i < mine * outs; i += CU_THREADS) {
        const int m = t.m0 + r0 + i / outs, o = t.first + i % outs;
        if (m < t.all && o < n_y)
            residual[i] =
                a.residual[m / a.rows * a.residual_slot + (int64_t)(m % a.rows) * n_y + o];
    }
    if (s.square)
        slots_scales(s, t, r0, mine, scales);
    copy_wait<0>();
    __syncthreads();

    float sum[N][4];
#pragma unroll
    for (int n = 0; n < N; n++)
        sum[n][0] = sum[n][1] = sum[n][2] = sum[n][3] = 0.0f;
    for (int at = 0; at < s.columns / 2; at += GROUP / 2) {
        if (at > 0)
            w.load(row, k0 + half + at, a.ldw);
#pragma unroll
        for (int i = 0; i < ITER; i++) {
            const uint32_t fw[2][4] = {{w.w[0][i].x, w.w[1][i].x, w.w[0][i].y, w.w[1][i].y},
                                       {w.w[0][i].z, w.w[1][i].z, w.w[0][i].w, w.w[1][i].w}};
#pragma unroll
            for (int n = 0; n < N; n++) {
                const uint4 v =
                    *(const uint4 *)(xs + (8 * n + g) * pitch + half + at + 32 * i + 8 * q);
                const uint32_t fx[2][2] = {{v.x, v.y}, {v.z, v.w}};
                mma_bf16(sum[n], fw[0], fx[0]);
                mma_bf16(sum[n], fw[1], fx[1]);
            }
        }
    }

    /* the two halves; sum[n][c]: output g + c / 2 * 8 of the warp's, row 8 n + 2 q + c % 2 */
    float *own = sums + 2 * q * CU_SLOTS_PITCH + warp % 4 * 16 + g;
#pragma unroll
    for (int turn = 1; turn >= 0; turn--) {
        if (warp / 4 == turn)
#pragma unroll
            for (int n = 0; n < N; n++)
#pragma unroll
                for (int c = 0; c < 4; c++) {
                    float *to = own + (8 * n + c % 2) * CU_SLOTS_PITCH + c / 2 * 8;
                    *to = turn ? sum[n][c] : sum[n][c] + *to;
                }
        if (turn)
            __syncthreads();
    }

    /* the parts */
    float *of_tile =
        a.part + ((int64_t)blockIdx.z * gridDim.x + blockIdx.x) * parts * ROWS * CU_SLOTS_N;
    __syncthreads();
    if (s.cluster) {
        cluster_wait(); /* all blocks' gates are there */
        for (int i = threadIdx.x; i < ROWS * CU_SLOTS_N / 4; i += CU_THREADS) {
            const int r = i / (CU_SLOTS_N / 4), o = i % (CU_SLOTS_N / 4) * 4, to = r / each;
            const int shares = to * each + each <= ROWS ? each : ROWS - to * each;
            cluster_send(sent + (part * shares + r - to * each) * CU_SLOTS_PITCH + o, gate, to,
                         *(const float4 *)(sums + r * CU_SLOTS_PITCH + o));
        }
        gate_wait(gate, 0, 1 + sendings);
    } else if (parts > 1) {
        for (int i = threadIdx.x; i < ROWS * CU_SLOTS_N; i += CU_THREADS)
            of_tile[part * ROWS * CU_SLOTS_N + i] =
                sums[i / CU_SLOTS_N * CU_SLOTS_PITCH + i % CU_SLOTS_N];
        if (!last_block(a.arrived + blockIdx.z * gridDim.x + blockIdx.x, parts))
            return;
    }
    auto total = [&](int r, int o) {
        float v[CU_SLOTS_MOST], sum = 0.0f;
        if (!s.cluster && parts == 1)
            return sums[r * CU_SLOTS_PITCH + o];
        for (int p0 = 0; p0 < parts; p0 += CU_SLOTS_MOST) {
#pragma unroll
            for (int p = 0; p < CU_SLOTS_MOST; p++)
                v[p] = p0 + p >= parts ? 0.0f
                       : s.cluster
                           ? sent[((p0 + p) * mine + r - r0) * CU_SLOTS_PITCH + o]
                           : __ldcg(of_tile + (p0 + p) * ROWS * CU_SLOTS_N + r * CU_SLOTS_N + o);
#pragma unroll
            for (int p = 0; p < CU_SLOTS_MOST; p++)
                sum += v[p];
        }
        return sum;
    };
#pragma unroll 1
    for (int i = threadIdx.x; i < mine * outs; i += CU_THREADS) { /* whole warps */
        const int r = i / outs, m = t.m0 + r0 + r;
        const int o = t.first + i % outs, at = t.place(i % outs);
        const float scale = s.square ? scales[r] : 1.0f;
        float v = total(r0 + r, at) * scale, square = 0.0f;
        if (s.swiglu)
            v = silu(v) * (total(r0 + r, at + 8) * scale);
        if (m < t.all && o < n_y) {
            if (a.bias)
                v += a.bias[o];
            if (a.act)
                v = activate(a.act, v, a.alpha ? a.alpha[o] : 0.0f, a.beta ? a.beta[o] : 0.0f);
            if (a.gamma)
                v *= a.gamma[o];
            if (a.residual)
                v += residual[i];
            square = v * v;
            if (a.y)
                a.y[m / a.rows * a.y_slot + (int64_t)(m % a.rows) * n_y + o] = v;
            if (s.y16)
                s.y16[(int64_t)m * s.ldy + o] = f32_to_bf16(s.y_gain ? v * s.y_gain[o] : v);
        }
        if (s.y_square) { /* a warp has half a row */
            square = warp_sum(square);
            if (lane == 0)
                halves[i / 32] = square;
        }
    }
    if (s.y_square) {
        __syncthreads();
        const int m = t.m0 + r0 + (int)threadIdx.x;
        if ((int)threadIdx.x < mine && m < t.all)
            s.y_square[(int64_t)blockIdx.x * t.all + m] =
                halves[2 * threadIdx.x] + halves[2 * threadIdx.x + 1];
    }
}
#endif

#define SLOTS_KERNELS(rows, blocks)                                                                \
    UT_KERNEL_AHEAD_FITS(linear_slots_##rows, cu_slots_args, blocks)                               \
    {                                                                                              \
        UT_MMA_BODY(linear_slots<rows, 4>(a));                                                     \
    }                                                                                              \
    UT_KERNEL_AHEAD_FITS(linear_slots_##rows##_wide, cu_slots_args, 2)                             \
    {                                                                                              \
        UT_MMA_BODY(linear_slots<rows, 6>(a));                                                     \
    }
SLOTS_KERNELS(8, 3)
SLOTS_KERNELS(16, 3)
SLOTS_KERNELS(32, 3)
SLOTS_KERNELS(64, 2)
