/* linear_unit.cu - a residual unit of a codec: a convolution of several taps, a snake, and a
 * product of one tap onto a residual, in one kernel on tensor cores of f16. A block makes all
 * channels of CU_UNIT_ROWS rows. The rows that its taps see come to shared memory once, instead of
 * once for each tap and tile of outputs, and what lies between the products never leaves it.
 *
 * Sums are those of linear_mma.cu, in the same order: the same bits. */
#include "backends/cuda/kernels/finish.cuh"
#include "backends/cuda/kernels/mma.cuh"

#if UT_MMA

/* W comes in steps of 32 columns: rows of 4 groups of 16 bytes, of which those that are read
 * together are in different banks. */
enum { STEP = 32, STEP_GROUPS = 4 };

UT_DEVICE int step_group(int row, int group)
{
    return row * STEP_GROUPS + (group ^ (row >> 1 & 3));
}

enum { N = CU_UNIT_CHANNELS }; /* outputs of a product that there is room for */

struct unit_shared {
    enum { PITCH = N + 8, ROWS_BYTES = CU_UNIT_ROWS * PITCH * 4, STAGE = N * STEP_GROUPS };
    float *out; /* [CU_UNIT_ROWS, PITCH] sums of one product, then of the other */
    uint4 *w;   /* [CU_UNIT_STAGES][N][STEP_GROUPS] */
    uint4 *x;   /* [CU_UNIT_ROWS + reach, pitch] and later what is between the products */
    UT_DEVICE_MEMBER unit_shared(unsigned char *at)
        : out((float *)at), w((uint4 *)(at + ROWS_BYTES)), x(w + CU_UNIT_STAGES * STAGE)
    {
    }
};

/* Columns 32 step .. + 31 of a matrix. */
UT_DEVICE void copy_step(const cu_linear_args &l, int step, uint4 *stage)
{
    const int first = STEP * step;
    for (int i = threadIdx.x; i < N * STEP_GROUPS; i += CU_THREADS) {
        const int row = i / STEP_GROUPS, group = i % STEP_GROUPS, k = first + 8 * group;
        const bool live = row < l.n_out && k < l.ldw;
        copy_async(stage + step_group(row, group),
                   live ? (const uint16_t *)l.w + (size_t)row * l.ldw + k : l.w, live);
    }
}

/* A warp's sums of a product, and where their next columns of x are. */
struct unit_sums {
#ifdef UT_MMA_GROUPS
    enum { M = 1, COLS = N }; /* tiles of 16 rows, outputs */
#else
    enum { M = 2, COLS = N / 2 };
#endif
    enum { F = COLS / 8, WARPS_M = CU_UNIT_ROWS / (16 * M) };
    float sum[M][F][4];
    int at, column; /* groups from a row's first; of the tap's columns */

    static UT_DEVICE_MEMBER int first_row()
    {
        return threadIdx.x / 32 % WARPS_M * 16 * M;
    }
    static UT_DEVICE_MEMBER int first_output()
    {
        return threadIdx.x / 32 / WARPS_M * COLS;
    }
    UT_DEVICE_MEMBER void clear()
    {
#pragma unroll
        for (int i = 0; i < M; i++)
#pragma unroll
            for (int j = 0; j < F; j++)
#pragma unroll
                for (int c = 0; c < 4; c++)
                    sum[i][j][c] = 0.0f;
    }
    UT_DEVICE_MEMBER void start()
    {
        clear();
        at = column = 0;
    }
    /* x's next 16 columns, of 16 rows each. */
    UT_DEVICE_MEMBER void take(uint32_t fx[M][4], const uint4 *x, int channels, int pitch, int tap)
    {
        const int lane = threadIdx.x % 32;
#pragma unroll
        for (int i = 0; i < M; i++)
            load_matrices(fx[i], x + (first_row() + 16 * i + lane % 16) * pitch + at + lane / 16);
        at += 2;
        column += 16;
        if (column == channels) {
            column = 0;
            at += tap - channels / 8;
        }
    }
    /* A step's columns, 32 or (not whole) 16; meanwhile: what else there is to do. */
    template <class FN>
    UT_DEVICE_MEMBER void add(const uint4 *x, const uint4 *w, bool whole, int channels, int pitch,
                              int tap, const FN &meanwhile)
    {
#ifdef UT_MMA_GROUPS
        uint32_t fx[2][M][4];
        take(fx[0], x, channels, pitch, tap);
        if (whole)
            take(fx[1], x, channels, pitch, tap);
        group_begin();
        group_mma<N, true>::add(sum[0], fx[0][0], group_matrix<STEP_GROUPS>(w));
        if (whole)
            group_mma<N, true>::add(sum[0], fx[1][0], group_matrix<STEP_GROUPS>(w + 2));
        meanwhile();
        group_end<F>(sum[0]);
#else
        const int lane = threadIdx.x % 32;
        meanwhile();
#pragma unroll
        for (int half = 0; half < 2; half++) {
            if (half && !whole)
                break;
            uint32_t fx[M][4], fw[F / 2][4];
            take(fx, x, channels, pitch, tap);
#pragma unroll
            for (int j = 0; j < F / 2; j++)
                load_matrices(fw[j],
                              w + step_group(first_output() + 16 * j + lane / 16 * 8 + lane % 8,
                                             2 * half + lane / 8 % 2));
#pragma unroll
            for (int i = 0; i < M; i++)
#pragma unroll
                for (int j = 0; j < F; j++)
                    mma_f16(sum[i][j], fx[i], fw[j / 2] + j % 2 * 2);
        }
#endif
    }
    /* The sums of a part of K, added to what the parts before came to. */
    UT_DEVICE_MEMBER void end_part(float *out, int pitch, bool first)
    {
        const int lane = threadIdx.x % 32;
#pragma unroll
        for (int i = 0; i < M; i++)
#pragma unroll
            for (int j = 0; j < F; j++)
#pragma unroll
                for (int h = 0; h < 2; h++) {
                    const int r = first_row() + 16 * i + 8 * h + lane / 4;
                    const int c = first_output() + 8 * j + lane % 4 * 2;
                    float2 *to = (float2 *)(out + r * pitch + c);
                    float2 v = {sum[i][j][2 * h], sum[i][j][2 * h + 1]};
                    if (!first)
                        v.x = to->x + v.x, v.y = to->y + v.y;
                    *to = v;
                }
        clear();
    }
};

/* Four outputs of every PASS-th row are a thread's; -1: it has none. */
struct unit_share {
    enum { GROUPS = N / 4, PASS = CU_THREADS / GROUPS };
    int o, row;
    UT_DEVICE_MEMBER unit_share(int n_out)
    {
        const int t = threadIdx.x;
        o = t < PASS * GROUPS && t % GROUPS * 4 < n_out ? t % GROUPS * 4 : -1;
        row = t / GROUPS;
    }
};

UT_DEVICE void unit_mma(const cu_unit_args &u)
{
    UT_SHARED(unsigned char, shared);
    const unit_shared s(shared);
    const int STAGES = CU_UNIT_STAGES, PITCH = unit_shared::PITCH;
    const cu_linear_args &a = u.first.a, &b = u.second.a;
    const int channels = a.n_out, pitch = channels / 8 + 1;
    const int tiles = (a.rows + CU_UNIT_ROWS - 1) / CU_UNIT_ROWS;
    const int slot = blockIdx.x / tiles, row0 = blockIdx.x % tiles * CU_UNIT_ROWS;
    const int n_first = (a.k + STEP - 1) / STEP, n = n_first + (channels + STEP - 1) / STEP;
    const int reach = (u.taps - 1) * u.dilation;

    auto copy_w = [&](int i) {
        uint4 *stage = s.w + i % STAGES * unit_shared::STAGE;
        if (i < n_first)
            copy_step(a, i, stage);
        else
            copy_step(b, i - n_first, stage);
    };
    for (int i = 0; i < STAGES - 1 && i < n; i++)
        copy_w(i);
    let_next_start();
    wait_for_previous();
    const uint16_t *x = a.x16 + slot * a.x16_slot + (int64_t)row0 * channels;
    const int groups = channels / 8, rows = CU_UNIT_ROWS + reach, here = a.rows + reach - row0;
    for (int i = threadIdx.x; i < rows * groups; i += CU_THREADS) {
        const int r = i / groups, group = i - r * groups;
        copy_async(s.x + r * pitch + group, r < here ? x + (int64_t)r * channels + 8 * group : x,
                   r < here);
    }
#pragma unroll
    for (int i = 0; i < STAGES - 1; i++)
        copy_group_end(); /* all of it in the first */

    const unit_share mine(channels);
    unit_sums sums;
    sums.start();
    for (int i = 0; i < n; i++) {
        copy_wait<STAGES - 2>();
#ifdef UT_MMA_GROUPS
        group_sees_memory();
#endif
        __syncthreads(); /* step i is there, and its successor's buffer is free */
        const bool second = i >= n_first;
        const int k = STEP * (second ? i - n_first : i), end = second ? channels : a.k;
        const uint4 *w = s.w + i % STAGES * unit_shared::STAGE;
        sums.add(s.x, w, k + 16 < end, channels, pitch, u.dilation * pitch, [&] {
            if (i + STAGES - 1 < n)
                copy_w(i + STAGES - 1);
            copy_group_end();
        });
        const bool over = k + STEP >= end;
        if (over || (k + STEP) % CU_K_PART == 0)
            sums.end_part(s.out, PITCH, k < CU_K_PART);
        if (!over || second)
            continue;
        __syncthreads(); /* all sums are there, and nobody reads x any more */
        if (mine.o >= 0) {
            four_outputs f;
            f.load(u.first, mine.o);
#pragma unroll 4
            for (int r = mine.row; r < CU_UNIT_ROWS; r += unit_share::PASS) {
                float v[4];
                activate_four(form_of(u.first), f, *(const float4 *)(s.out + r * PITCH + mine.o),
                              v);
                *(uint2 *)((uint16_t *)(s.x + r * pitch) + mine.o) = narrow_four(CU_F16, v);
            }
        }
        sums.start(); /* others see what lies between at the next step's barrier */
    }
    __syncthreads();
    if (mine.o < 0)
        return;
    const int PASS = unit_share::PASS, AT_ONCE = 4;
    four_outputs f;
    f.load(u.second, mine.o);
#pragma unroll 1
    for (int first = mine.row; first < CU_UNIT_ROWS; first += PASS * AT_ONCE) {
        float4 residual[AT_ONCE];
#pragma unroll
        for (int i = 0; i < AT_ONCE; i++) {
            const result_row r(slot, row0 + first + i * PASS);
            if (first + i * PASS < CU_UNIT_ROWS && r.row < b.rows)
                residual[i] = residual_of(b, r, mine.o);
        }
#pragma unroll
        for (int i = 0; i < AT_ONCE; i++) {
            const result_row r(slot, row0 + first + i * PASS);
            if (first + i * PASS < CU_UNIT_ROWS && r.row < b.rows)
                finish_whole(u.second, f, r,
                             *(const float4 *)(s.out + (first + i * PASS) * PITCH + mine.o),
                             residual[i]);
        }
    }
}
#endif

UT_KERNEL_AHEAD_FITS(linear_unit, cu_unit_args, 2)
{
    UT_MMA_BODY(unit_mma(a));
}
