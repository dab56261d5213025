/* attention_flash.cu - attention of many rows on tensor cores, over caches of bf16: tiles of keys
 * and values go by, and every row keeps its softmax up to there. Queries and weights are rounded to
 * bf16, sums are f32.
 *
 * Tiles of positions are counted from position 0, and a tile in which a row sees nothing leaves its
 * sums as they are: a row's bits depend on its position alone. */
#include "backends/cuda/kernels/mma.cuh"

#if UT_MMA
/* Positions of a tile; queries of a block: rows of a head, or of the heads that share keys. */
enum { KEYS = CU_FLASH_KEYS, QUERIES = UT_WARPS * 16 };

/* Keys or values of positions [first, first + KEYS) to [KEYS][D], zeros beyond [oldest, newest]. */
template <int D>
UT_DEVICE void copy_tile(const cu_attention_args &a, uint4 *tile, const void *cache, int64_t base,
                         int first, int oldest, int newest)
{
    const int chunks = D / 8, chunk = threadIdx.x % chunks;
    const int64_t stride = (int64_t)a.kv_heads * a.dim;
#pragma unroll
    for (int r = threadIdx.x / chunks; r < KEYS; r += CU_THREADS / chunks) {
        const int p = first + r;
        const bool live = p >= oldest && p <= newest && 8 * chunk < a.dim;
        const uint16_t *src = (const uint16_t *)cache + base + p % a.capacity * stride + 8 * chunk;
        copy_async(tile + r * chunks + swizzle(r, chunk), live ? src : cache, live);
    }
}

template <int D> UT_DEVICE void flash(const cu_attention_args &a)
{
    UT_SHARED(uint4, tiles); /* [2][keys, values][KEYS][D / 8] */
    const int TILE = KEYS * D / 8, CHUNKS = D / 8;
    const int warp = threadIdx.x / 32, lane = threadIdx.x % 32, g = lane / 4, q = lane % 4;
    const int slot = blockIdx.z, rows = QUERIES / a.at_once;
    const int row0 = (gridDim.x - 1 - blockIdx.x) * rows; /* those that see most come first */
    const int head = blockIdx.y * a.at_once + warp * 16 / rows;
    const int mine = row0 + warp * 16 % rows; /* the warp's first row */
    const int pos0 = first_position(a.pos, a.pos_slot, slot, a.first_pos);
    const int newest = pos0 + (row0 + rows < a.rows ? row0 + rows : a.rows) - 1;
    const int seen = pos0 + row0 - a.reach + 1, oldest = seen > 0 ? seen : 0;
    const int64_t base =
        slot * a.cache_slot + (int64_t)(blockIdx.y * a.at_once / (a.heads / a.kv_heads)) * a.dim;

    uint32_t fq[D / 16][4];
#pragma unroll
    for (int k = 0; k < D / 16; k++)
#pragma unroll
        for (int i = 0; i < 4; i++) {
            const int row = mine + g + i % 2 * 8, d = 16 * k + 2 * q + i / 2 * 8;
            const bool live = row < a.rows && d < a.dim;
            const float *from = a.q + slot * a.q_slot + ((int64_t)row * a.heads + head) * a.dim + d;
            fq[k][i] = live ? pack_bf16(from[0], from[1]) : 0;
        }
    float out[D / 8][4], largest[2] = {-INFINITY, -INFINITY}, total[2] = {0.0f, 0.0f};
#pragma unroll
    for (int n = 0; n < D / 8; n++)
        out[n][0] = out[n][1] = out[n][2] = out[n][3] = 0.0f;

    const int begin = oldest / KEYS, end = newest / KEYS + 1;
    copy_tile<D>(a, tiles, a.cache_k, base, begin * KEYS, oldest, newest);
    copy_tile<D>(a, tiles + TILE, a.cache_v, base, begin * KEYS, oldest, newest);
    copy_group_end();
    for (int t = begin; t < end; t++) {
        uint4 *ks = tiles + (t - begin) % 2 * 2 * TILE, *vs = ks + TILE;
        if (t + 1 < end) {
            uint4 *next = tiles + (t + 1 - begin) % 2 * 2 * TILE;
            copy_tile<D>(a, next, a.cache_k, base, (t + 1) * KEYS, oldest, newest);
            copy_tile<D>(a, next + TILE, a.cache_v, base, (t + 1) * KEYS, oldest, newest);
        }
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
            for (int k = 0; k < D / 16; k++)
#pragma unroll
                for (int n = 0; n < KEYS / 16; n++) {
                    uint32_t f[4];
                    const int r = 16 * n + lane / 16 * 8 + lane % 8;
                    load_matrices(f, ks + r * CHUNKS + swizzle(r, 2 * k + lane / 8 % 2));
                    mma_bf16(s[2 * n], fq[k], f);
                    mma_bf16(s[2 * n + 1], fq[k], f + 2);
                }
            const bool whole = first + KEYS - 1 <= low && first >= high - a.reach + 1;
            float next[2] = {largest[0], largest[1]};
#pragma unroll
            for (int n = 0; n < KEYS / 8; n++)
#pragma unroll
                for (int c = 0; c < 4; c++) {
                    const int p = first + 8 * n + 2 * q + c % 2, at = low + g + c / 2 * 8;
                    const bool sees = whole || (p <= at && p > at - a.reach);
                    s[n][c] = sees ? s[n][c] * (a.scale * 1.44269504f) : -INFINITY;
                    next[c / 2] = s[n][c] > next[c / 2] ? s[n][c] : next[c / 2];
                }
            float shrink[2], zero[2];
#pragma unroll
            for (int h = 0; h < 2; h++) {
#pragma unroll
                for (int d = 1; d < 4; d *= 2) {
                    const float other = __shfl_xor_sync(UT_FULL, next[h], d);
                    next[h] = other > next[h] ? other : next[h];
                }
                zero[h] = next[h] == -INFINITY ? 0.0f : next[h]; /* nothing seen so far */
                shrink[h] = exp2f(largest[h] - zero[h]);
                largest[h] = next[h];
                total[h] *= shrink[h];
            }
#pragma unroll
            for (int n = 0; n < D / 8; n++)
#pragma unroll
                for (int c = 0; c < 4; c++)
                    out[n][c] *= shrink[c / 2];
#pragma unroll
            for (int n = 0; n < KEYS / 8; n++)
#pragma unroll
                for (int c = 0; c < 4; c++) {
                    s[n][c] = exp2f(s[n][c] - zero[c / 2]);
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
                    const int r = 16 * k + lane / 8 % 2 * 8 + lane % 8;
                    load_matrices_trans(f, vs + r * CHUNKS + swizzle(r, 2 * n + lane / 16));
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
        const int row = mine + g + 8 * h;
        if (row >= a.rows)
            continue;
        const int64_t y = slot * a.y_slot + ((int64_t)row * a.heads + head) * a.dim;
#pragma unroll
        for (int n = 0; n < D / 8; n++) {
            const int d = 8 * n + 2 * q;
            const float v[2] = {out[n][2 * h] / total[h], out[n][2 * h + 1] / total[h]};
            if (d >= a.dim)
                continue;
            if (a.y_type == CU_F32)
                *(float2 *)(a.y + y + d) = float2{v[0], v[1]};
            else
                *(uint32_t *)((uint16_t *)a.y + y + d) =
                    (uint32_t)f32_to_narrow(a.y_type, v[1]) << 16 | f32_to_narrow(a.y_type, v[0]);
        }
    }
}
#endif

UT_KERNEL(flash_64, cu_attention_args)
{
    UT_MMA_BODY(flash<64>(a));
}
UT_KERNEL(flash_128, cu_attention_args)
{
    UT_MMA_BODY(flash<128>(a));
}
