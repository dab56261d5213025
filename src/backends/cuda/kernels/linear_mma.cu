/* linear_mma.cu - products of bf16 on tensor cores, with f32 sums, for any number of rows (prefill,
 * codec): linear_pack makes x bf16, tiles of results are a block's. linear_slots.cu is for few
 * rows.
 *
 * Each result is chains over a part of K from zero, one 16 columns after the other, and the parts
 * are added in order. So a row's bits depend on its x and on K alone, whatever the tile, the cut of
 * the grid, and the other rows are. */
#include "backends/cuda/kernels/linear.cuh"
#include "backends/cuda/kernels/mma.cuh"

/* ---- x as bf16 ------------------------------------------------------------------------------- */

/* x16 [slots, rows, ldx]: element (row, k) is x(row, k), zero from a.k on. 8 elements to a thread.
 */
UT_KERNEL(linear_pack, cu_linear_args)
{
    const int groups = a.ldx / 8;
    const int64_t i = element();
    if (i >= (int64_t)a.rows * groups)
        return;
    const int row = (int)(i / groups), k = (int)(i % groups) * 8, slot = blockIdx.y;
    const float *x = a.x + slot * a.x_slot + (int64_t)row * a.cols;
    float v[8];
    if (a.vector && k + 8 <= a.k) {
#pragma unroll
        for (int j = 0; j < 2; j++) {
            const float4 f = *(const float4 *)(x + x_offset(a, k + 4 * j));
            v[4 * j] = f.x, v[4 * j + 1] = f.y, v[4 * j + 2] = f.z, v[4 * j + 3] = f.w;
        }
    } else {
#pragma unroll
        for (int j = 0; j < 8; j++)
            v[j] = x_at(a, x, k + j);
    }
    uint16_t *to = a.x16 + slot * a.x16_slot + (int64_t)row * a.ldx + k;
    for (int term = 0; term < a.terms; term++, to += a.x16_rest) {
        uint32_t p[4];
#pragma unroll
        for (int j = 0; j < 4; j++) {
            const uint16_t low = f32_to_bf16(v[2 * j]), high = f32_to_bf16(v[2 * j + 1]);
            p[j] = (uint32_t)high << 16 | low;
            v[2 * j] -= bf16_to_f32(low);
            v[2 * j + 1] -= bf16_to_f32(high);
        }
        *(uint4 *)to = uint4{p[0], p[1], p[2], p[3]};
    }
}

#if UT_MMA

/* ---- Tiles ----------------------------------------------------------------------------------- *
 * With one term x is rounded to bf16; with two it keeps 16 bits, at twice the work. A block makes
 * BM rows by BN outputs, a warp WM by WN of them. Tiles of 64 columns of x and W go through
 * CU_MMA_STAGES buffers of shared memory, rows of 8 groups of 16 bytes, swizzled. */

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

/* The sums v of outputs o .. o + 3 of row m of all slots, o < n_out: to the parts, or what follows.
 */
UT_DEVICE void finish_four(const cu_linear_args &a, int m, int o, const float *v)
{
    const int slot = m / a.rows, row = m % a.rows;
    const int64_t at = (int64_t)row * a.n_out + o;
    float *part = a.part + ((size_t)blockIdx.z * a.rows * a.slots + m) * a.n_out + o;
    if (a.n_out % 4 || (!a.part && (a.act || a.bias || a.gamma))) {
#pragma unroll 1
        for (int j = 0; j < 4 && o + j < a.n_out; j++)
            if (a.part)
                part[j] = v[j];
            else
                finish_row(a, slot, row, o + j, v[j]);
        return;
    }
    float4 four = *(const float4 *)v;
    if (a.residual && !a.part) {
        const float4 r = *(const float4 *)(a.residual + slot * a.residual_slot + at);
        four = float4{four.x + r.x, four.y + r.y, four.z + r.z, four.w + r.w};
    }
    *(float4 *)(a.part ? part : a.y + slot * a.y_slot + at) = four;
}

template <int BM, int BN, int WM, int WN> UT_DEVICE void linear_mma(const cu_linear_args &a)
{
    UT_SHARED(uint4, tiles); /* [CU_MMA_STAGES][BM + BN rows][8] */
    const int M = WM / 16, N = WN / 8, STAGES = CU_MMA_STAGES;
    const int warp = threadIdx.x / 32, lane = threadIdx.x % 32, chunk = threadIdx.x % 8;
    const int wm = warp % (BM / WM) * WM, wn = warp / (BM / WM) * WN;
    const int m0 = blockIdx.y * BM, o0 = blockIdx.x * BN, all = a.rows * a.slots;
    const int begin = a.part ? blockIdx.z * CU_K_PART : 0;
    const int end = a.part && begin + CU_K_PART < a.ldw ? begin + CU_K_PART : a.ldw;
    const int terms = a.terms, steps = (end - begin + 63) / 64 * terms;

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

    /* step s: 64 columns, or their second term */
    auto copy_step = [&](int s) {
        const int k = begin + 64 * (terms == 2 ? s / 2 : s) + 8 * chunk;
        uint4 *stage = tiles + s % STAGES * (BM + BN) * 8;
        x.copy(stage, x_offset(a, k) + (terms == 2 && s % 2 ? a.x16_rest : 0), k < a.k);
        w.copy(stage + BM * 8, k, k < a.ldw);
    };
#pragma unroll
    for (int s = 0; s < STAGES - 1; s++) {
        if (s < steps)
            copy_step(s);
        copy_group_end();
    }
    for (int s = 0; s < steps; s++) {
        copy_wait<STAGES - 2>();
        __syncthreads(); /* all copies of step s are there, and its successor's buffer is free */
        if (s + STAGES - 1 < steps)
            copy_step(s + STAGES - 1);
        copy_group_end();
        const uint4 *xs = tiles + s % STAGES * (BM + BN) * 8, *ws = xs + BM * 8;
#pragma unroll
        for (int kk = 0; kk < 4; kk++) {
            uint32_t fx[M][4], fw[N / 2][4];
#pragma unroll
            for (int i = 0; i < M; i++) {
                const int r = wm + 16 * i + lane % 16;
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
                    mma_bf16(sum[i][j], fx[i], fw[j / 2] + j % 2 * 2);
        }
        if ((s + 1) % (CU_K_PART / 64 * terms) == 0 || s + 1 == steps) {
#pragma unroll
            for (int i = 0; i < M; i++)
#pragma unroll
                for (int j = 0; j < N; j++)
#pragma unroll
                    for (int c = 0; c < 4; c++) {
                        total[i][j][c] += sum[i][j][c];
                        sum[i][j][c] = 0.0f;
                    }
        }
    }

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
#pragma unroll 1
    for (int i = threadIdx.x; i < BM * BN / 4; i += CU_THREADS) {
        const int r = i / (BN / 4), c = i % (BN / 4) * 4;
        if (m0 + r < all && o0 + c < a.n_out)
            finish_four(a, m0 + r, o0 + c, out + r * PITCH + c);
    }
}
#endif

UT_KERNEL(linear_mma_128, cu_linear_args)
{
    UT_MMA_BODY(linear_mma<128, 128, 64, 32>(a));
}
UT_KERNEL(linear_mma_64, cu_linear_args)
{
    UT_MMA_BODY(linear_mma<64, 64, 32, 16>(a));
}
