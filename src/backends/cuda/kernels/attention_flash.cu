/* attention_flash.cu - attention of many rows on tensor cores, over caches of bf16: tiles of keys
 * and values go by, and every row keeps its softmax up to there. Queries and weights are rounded to
 * bf16, sums are f32.
 *
 * Tiles of positions are counted from position 0, and a tile in which a row sees nothing leaves its
 * sums as they are: a row's bits depend on its position alone. */
#include "backends/cuda/kernels/mma.cuh"

#if UT_MMA
/* Positions of a tile; queries of a block: rows of a head, or of the heads that share keys. A block
 * has few, and a multiprocessor two of them. */
enum { KEYS = CU_FLASH_KEYS, QUERIES = CU_FLASH_THREADS / 32 * 16 };

/* Which tile of rows the block has. Those that see most positions come first, and then, for the
 * second block of a multiprocessor, those that see least. */
UT_DEVICE int tile_of_rows(void)
{
    const int n = gridDim.y, i = blockIdx.y, half = (n + 1) / 2;
    return i < half ? n - 1 - i : i - half;
}

/* Where a thread brings tiles of keys and values from: 8 dimensions of every STEP-th position. */
template <int D> struct flash_source {
    enum { CHUNKS = D / 8, STEP = CU_FLASH_THREADS / CHUNKS };
    const uint16_t *keys, *values; /* at row 0 of the caches */
    int stride, capacity, chunk;
    int oldest, newest; /* positions; zeros beyond them, and of dimensions that there are not */

    UT_DEVICE_MEMBER flash_source(const cu_attention_args &a, int slot, int oldest, int newest)
        : stride(a.kv_heads * a.dim), capacity(a.capacity), chunk(threadIdx.x % CHUNKS),
          oldest(oldest), newest(8 * chunk < a.dim ? newest : -1)
    {
        const int kv_head = blockIdx.x * a.at_once / (a.heads / a.kv_heads);
        const int64_t at =
            slot * a.cache_slot + (int64_t)kv_head * a.dim + (8 * chunk < a.dim ? 8 * chunk : 0);
        keys = (const uint16_t *)a.cache_k + at;
        values = (const uint16_t *)a.cache_v + at;
    }
    /* Positions [first, first + KEYS) to keys and values [KEYS][CHUNKS] each. */
    UT_DEVICE_MEMBER void copy(uint4 *tile, int first) const
    {
        const int row = threadIdx.x / CHUNKS, place = first % capacity + row;
#pragma unroll
        for (int r = 0; r < KEYS; r += STEP) {
            const int p = first + row + r;
            const bool live = p >= oldest && p <= newest;
            int at = place + r;
            if (at >= capacity)
                at %= capacity;
            uint4 *to = tile + (row + r) * CHUNKS + swizzle(row + r, chunk);
            copy_async(to, keys + (int64_t)at * stride, live);
            copy_async(to + KEYS * CHUNKS, values + (int64_t)at * stride, live);
        }
    }
};

/* Two rows of a head, 8 apart, which a lane has two neighbouring dimensions of, 2q and on. */
struct flash_rows {
    int64_t at[2]; /* elements from the slot's first on */
    bool live[2];

    UT_DEVICE_MEMBER flash_rows(const cu_attention_args &a, int row, int head)
    {
#pragma unroll
        for (int h = 0; h < 2; h++) {
            live[h] = row + 8 * h < a.rows;
            at[h] = ((int64_t)(row + 8 * h) * a.heads + head) * a.dim + threadIdx.x % 4 * 2;
        }
    }
};

template <int D> UT_DEVICE void flash(const cu_attention_args &a)
{
    UT_SHARED(uint4, tiles); /* [2][keys, values][KEYS][D / 8] */
    const int TILE = KEYS * D / 8, CHUNKS = D / 8;
    const int warp = threadIdx.x / 32, lane = threadIdx.x % 32, g = lane / 4, q = lane % 4;
    const int slot = blockIdx.z, rows = QUERIES / a.at_once;
    const int row0 = tile_of_rows() * rows, head = blockIdx.x * a.at_once + warp * 16 / rows;
    const int mine = row0 + warp * 16 % rows; /* the warp's first row */
    const int pos0 = first_position(a.pos, a.pos_slot, slot, a.first_pos);
    const int newest = pos0 + (row0 + rows < a.rows ? row0 + rows : a.rows) - 1;
    const int seen = pos0 + row0 - a.reach + 1, oldest = seen > 0 ? seen : 0;
    const int begin = oldest / KEYS, end = newest / KEYS + 1;
    const flash_source<D> source(a, slot, oldest, newest);
    source.copy(tiles, begin * KEYS);
    copy_group_end();

    const flash_rows at(a, mine + g, head);
    uint32_t fq[D / 16][4];
#pragma unroll
    for (int k = 0; k < D / 16; k++)
#pragma unroll
        for (int i = 0; i < 4; i++) {
            const int h = i % 2, d = 16 * k + i / 2 * 8;
            float2 v = {0.0f, 0.0f};
            if (at.live[h] && d < a.dim)
                v = *(const float2 *)(a.q + slot * a.q_slot + at.at[h] + d);
            fq[k][i] = pack_bf16(v.x, v.y);
        }
    float out[D / 8][4], largest[2] = {-INFINITY, -INFINITY}, total[2] = {0.0f, 0.0f};
#pragma unroll
    for (int n = 0; n < D / 8; n++)
        out[n][0] = out[n][1] = out[n][2] = out[n][3] = 0.0f;
    /* what a lane gives load_matrices: 8 dimensions of a row, of keys and of values */
    const int key = (lane / 16 * 8 + lane % 8) * CHUNKS, value = lane % 16 * CHUNKS;
    const float unit = a.scale * 1.44269504f; /* of scores, for powers of 2 */

    for (int t = begin; t < end; t++) {
        const uint4 *ks = tiles + (t - begin) % 2 * 2 * TILE + key, *vs = ks - key + TILE + value;
        if (t + 1 < end)
            source.copy(tiles + (t + 1 - begin) % 2 * 2 * TILE, (t + 1) * KEYS);
        copy_group_end();
        copy_wait<1>();
        __syncthreads();
        const int first = t * KEYS, low = pos0 + mine, high = low + 15;
        if (mine < a.rows && first <= high && first + KEYS > low - a.reach + 1) {
            float s[KEYS / 8][4];
#pragma unroll
            for (int n = 0; n < KEYS / 8; n++)
                s[n][0] = s[n][1] = s[n][2] = s[n][3] = 0.0f;
#pragma unroll
            for (int k = 0; k < D / 16; k++) {
                const uint4 *from = ks + swizzle(lane, 2 * k + lane / 8 % 2);
#pragma unroll
                for (int n = 0; n < KEYS / 16; n++) {
                    uint32_t f[4];
                    load_matrices(f, from + 16 * n * CHUNKS);
                    mma_bf16(s[2 * n], fq[k], f);
                    mma_bf16(s[2 * n + 1], fq[k], f + 2);
                }
            }
            if (first + KEYS - 1 > low || first < high - a.reach + 1) /* not all see all */
#pragma unroll
                for (int n = 0; n < KEYS / 8; n++)
#pragma unroll
                    for (int c = 0; c < 4; c++) {
                        const int p = first + 8 * n + 2 * q + c % 2, row = low + g + c / 2 * 8;
                        s[n][c] = p <= row && p > row - a.reach ? s[n][c] : -INFINITY;
                    }
            float shrink[2], zero[2];
#pragma unroll
            for (int h = 0; h < 2; h++) {
                float next = largest[h];
#pragma unroll
                for (int n = 0; n < KEYS / 8; n++)
                    next = fmaxf(next, fmaxf(s[n][2 * h], s[n][2 * h + 1]));
#pragma unroll
                for (int d = 1; d < 4; d *= 2)
                    next = fmaxf(next, __shfl_xor_sync(UT_FULL, next, d));
                const float from = next == -INFINITY ? 0.0f : next; /* nothing seen so far */
                shrink[h] = power_of_2((largest[h] - from) * unit);
                zero[h] = -from * unit;
                largest[h] = next;
            }
            if (__ballot_sync(UT_FULL, shrink[0] != 1.0f || shrink[1] != 1.0f)) {
                total[0] *= shrink[0];
                total[1] *= shrink[1];
#pragma unroll
                for (int n = 0; n < D / 8; n++)
#pragma unroll
                    for (int c = 0; c < 4; c++)
                        out[n][c] *= shrink[c / 2];
            }
#pragma unroll
            for (int n = 0; n < KEYS / 8; n++)
#pragma unroll
                for (int c = 0; c < 4; c++) {
                    s[n][c] = power_of_2(fmaf(s[n][c], unit, zero[c / 2]));
                    total[c / 2] += s[n][c];
                }
#pragma unroll
            for (int k = 0; k < KEYS / 16; k++) {
                const uint32_t fp[4] = {pack_bf16(s[2 * k][0], s[2 * k][1]),
                                        pack_bf16(s[2 * k][2], s[2 * k][3]),
                                        pack_bf16(s[2 * k + 1][0], s[2 * k + 1][1]),
                                        pack_bf16(s[2 * k + 1][2], s[2 * k + 1][3])};
#pragma unroll
                for (int n = 0; n < D / 16; n++) {
                    uint32_t f[4];
                    load_matrices_trans(f, vs + 16 * k * CHUNKS + swizzle(lane, 2 * n + lane / 16));
                    mma_bf16(out[2 * n], fp, f);
                    mma_bf16(out[2 * n + 1], fp, f + 2);
                }
            }
        }
        __syncthreads(); /* the buffer is free for the tile after the next */
    }
#pragma unroll
    for (int h = 0; h < 2; h++) {
#pragma unroll
        for (int d = 1; d < 4; d *= 2)
            total[h] += __shfl_xor_sync(UT_FULL, total[h], d);
        if (!at.live[h])
            continue;
        const float share = 1.0f / total[h];
        const int64_t y = slot * a.y_slot + at.at[h];
#pragma unroll
        for (int n = 0; n < D / 8; n++) {
            const float2 v = {out[n][2 * h] * share, out[n][2 * h + 1] * share};
            if (8 * n >= a.dim)
                continue;
            if (a.y_type == CU_F32)
                *(float2 *)(a.y + y + 8 * n) = v;
            else if (a.y_type == CU_BF16)
                *(uint32_t *)((uint16_t *)a.y + y + 8 * n) = pack_bf16(v.x, v.y);
            else
                *(uint32_t *)((uint16_t *)a.y + y + 8 * n) =
                    (uint32_t)f32_to_narrow(a.y_type, v.y) << 16 | f32_to_narrow(a.y_type, v.x);
        }
    }
}
#endif

UT_KERNEL_OF(flash_64, cu_attention_args, CU_FLASH_THREADS)
{
    UT_MMA_BODY(flash<64>(a));
}
UT_KERNEL_OF(flash_128, cu_attention_args, CU_FLASH_THREADS)
{
    UT_MMA_BODY(flash<128>(a));
}
