/* attention_split.cu - attention of decoding steps: the positions of a row are cut into chunks,
 * which its blocks share and its last block combines. Chunks are counted from position 0, so that a
 * row's bits depend on its own position alone. Rotation and caches may be part of it: a block
 * rotates the queries of its heads, and keys and values of the rows up to its own, which it does
 * not take from the caches; one block of a row puts those of the row there. */
#include "backends/cuda/kernels/partial.cuh"
#include "backends/cuda/kernels/rotate.cuh"

/* 8 elements of a cache, or of shared memory, and how many positions a thread has of them at a
 * time.
 */
template <int TYPE> struct eight {
    static const int AT_ONCE = 4;
    uint4 v;
    UT_DEVICE_MEMBER void load(const void *p, int64_t i)
    {
        v = *(const uint4 *)((const uint16_t *)p + i);
    }
    UT_DEVICE_MEMBER void clear() { v = uint4{0, 0, 0, 0}; }
    UT_DEVICE_MEMBER void get(float f[8]) const { group<TYPE>::unpack(v, f); }
};
template <> struct eight<CU_F32> {
    static const int AT_ONCE = 2;
    float4 v[2];
    UT_DEVICE_MEMBER void load(const void *p, int64_t i)
    {
        v[0] = *(const float4 *)((const float *)p + i);
        v[1] = *(const float4 *)((const float *)p + i + 4);
    }
    UT_DEVICE_MEMBER void clear() { v[0] = v[1] = float4{0.0f, 0.0f, 0.0f, 0.0f}; }
    UT_DEVICE_MEMBER void get(float f[8]) const
    {
#pragma unroll
        for (int j = 0; j < 2; j++)
            f[4 * j] = v[j].x, f[4 * j + 1] = v[j].y, f[4 * j + 2] = v[j].z, f[4 * j + 3] = v[j].w;
    }
};

/* The lines of a chunk's keys and values of a head, as far as the position that the row seems to
 * stand at is right. */
UT_DEVICE void prefetch_chunk(const cu_attention_args &a, int64_t base, int chunk, int end)
{
    const int size = a.cache_type == CU_F32 ? 4 : 2, lines = (a.dim * size + 127) / 128;
    const int64_t stride = (int64_t)a.kv_heads * a.dim;
    for (int i = threadIdx.x; i < 2 * lines * a.chunk; i += CU_THREADS) {
        const int p = chunk * a.chunk + i / (2 * lines), line = i / 2 % lines;
        const char *cache = (const char *)(i % 2 ? a.cache_v : a.cache_k);
        if (p < end)
            prefetch_line(cache + (base + p % a.capacity * stride) * size + 128 * line);
    }
}

/* Queries of G heads to q [G][dim]; keys and values of rows 0 .. row to own [2][row + 1][dim], of
 * the caches' type: a warp to a head. */
template <int G>
UT_DEVICE void rotate_own(const cu_qkv_args &a, int slot, int row, int head, float *q, void *own)
{
    const int cols = (a.heads + 2 * a.kv_heads) * a.dim, lane = threadIdx.x % 32;
    const int kv_head = head / (a.heads / a.kv_heads);
    for (int i = threadIdx.x / 32; i < G + 2 * (row + 1); i += UT_WARPS) {
        const int r = i < G ? row : (i - G) / 2;
        const float *x = a.x + slot * a.x_slot + (int64_t)r * cols;
        const float *angles = a.angles + slot * a.angles_slot + (int64_t)r * a.dim;
        if (i < G) {
            rotate(a, x + (head + i) * a.dim, a.q_gain, angles, CU_F32, q, i * a.dim);
        } else if ((i - G) % 2 == 0) {
            rotate(a, x + (a.heads + kv_head) * a.dim, a.k_gain, angles, a.cache_type, own,
                   r * a.dim);
        } else {
            for (int d = lane; d < a.dim; d += 32)
                store_element(a.cache_type, own, (size_t)((row + 1 + r) * a.dim + d),
                              x[(a.heads + a.kv_heads + kv_head) * a.dim + d]);
        }
    }
}

/* blockIdx.x counts blocks of a row and its heads, y groups of G heads with the same keys, z rows
 * of all slots. `lanes` neighbours share a position, 8 dimensions each, and go through a chunk
 * AT_ONCE positions at a time. */
template <int G, int TYPE> UT_DEVICE void attention_split(const cu_split_args &s)
{
    const cu_attention_args &a = s.a;
    const int AT_ONCE = eight<TYPE>::AT_ONCE;
    UT_SHARED(float, scratch); /* [UT_WARPS][G][padded dim], then partials [UT_WARPS][G] */
    const int lanes = a.dim <= 64 ? 8 : a.dim <= 128 ? 16 : 32, groups = CU_THREADS / lanes;
    const int lane = threadIdx.x % lanes, warp = threadIdx.x / 32, pitch = 8 * lanes;
    partial *warps = (partial *)(scratch + UT_WARPS * G * pitch);
    float *rotated = (float *)(warps + UT_WARPS * G); /* [G][dim] */
    void *own = rotated + G * a.dim;                  /* [2][row + 1][dim] of the caches' type */
    const int slot = blockIdx.z / a.rows, row = blockIdx.z % a.rows, head = blockIdx.y * G;
    const int64_t in_row = ((int64_t)row * a.heads + head) * a.dim;
    const int64_t stride = (int64_t)a.kv_heads * a.dim;
    const int64_t of_head = slot * a.cache_slot + (int64_t)(head / (a.heads / a.kv_heads)) * a.dim;
    const int64_t base = of_head + 8 * lane;
    const bool live = 8 * lane < a.dim;
    const auto result_of = [&] { return split_result(s, slot, row, head); };
    const auto oldest_of = [&](int pos) { return pos - a.reach + 1 > 0 ? pos - a.reach + 1 : 0; };

    { /* perhaps not the position yet, but most often */
        const int64_t at = a.first_pos + (a.pos ? __ldcg(a.pos + slot * a.pos_slot) : 0) + row;
        const int pos = at < 0 ? 0 : at > a.capacity ? a.capacity : (int)at;
        prefetch_chunk(a, of_head, oldest_of(pos) / a.chunk + (int)blockIdx.x, pos);
    }
    let_next_start();
    wait_for_previous();

    const int64_t at = a.first_pos + (a.pos ? (int64_t)__ldcg(a.pos + slot * a.pos_slot) : 0);
    const int pos0 = at < 0 ? 0 : at > 0x3fffffff ? 0x3fffffff : (int)at, pos = pos0 + row;
    const int oldest = oldest_of(pos), first = oldest / a.chunk;
    const int chunks = pos / a.chunk - first + 1;
    if ((int)blockIdx.x >= chunks)
        return;
    /* from here on positions are rows of `own` */
    const int made = s.qkv.x ? pos0 : pos + 1;
    if (s.qkv.x) {
        rotate_own<G>(s.qkv, slot, row, head, rotated, own);
        __syncthreads();
        if (head % (a.heads / a.kv_heads) == 0 &&
            (int)blockIdx.x == (chunks - 1) % (int)gridDim.x) {
            const int size = a.cache_type == CU_F32 ? 4 : 2, words = a.dim * size / 4;
            for (int i = threadIdx.x; i < 2 * words; i += CU_THREADS) {
                const int d = i % words, value = i / words;
                uint32_t *cache = (uint32_t *)(value ? s.qkv.cache_v : s.qkv.cache_k);
                cache[(of_head + pos % a.capacity * stride) * size / 4 + d] =
                    ((const uint32_t *)own)[(value * (row + 1) + row) * words + d];
            }
        }
    }

    float q[G][8];
#pragma unroll
    for (int h = 0; h < G; h++)
#pragma unroll
        for (int d = 0; d < 8; d++) {
            const int i = h * a.dim + 8 * lane + d;
            q[h][d] = !live     ? 0.0f
                      : s.qkv.x ? rotated[i] * a.scale
                                : a.q[slot * a.q_slot + in_row + i] * a.scale;
        }
#pragma unroll 1
    for (int chunk = blockIdx.x; chunk < chunks; chunk += gridDim.x) {
        const int start = (first + chunk) * a.chunk;
        const int begin = start > oldest ? start : oldest;
        const int end = start + a.chunk <= pos ? start + a.chunk : pos + 1;
        if (chunk + (int)gridDim.x < chunks)
            prefetch_chunk(a, of_head, first + chunk + (int)gridDim.x, pos);
        float acc[G][8];
        partial sum[G];
#pragma unroll
        for (int h = 0; h < G; h++) {
            sum[h] = {-INFINITY, 0.0f};
#pragma unroll
            for (int d = 0; d < 8; d++)
                acc[h][d] = 0.0f;
        }
        for (int p0 = start + (int)threadIdx.x / lanes; p0 - (int)threadIdx.x / lanes < end;
             p0 += AT_ONCE * groups) {
            eight<TYPE> k[AT_ONCE], v[AT_ONCE];
#pragma unroll
            for (int i = 0; i < AT_ONCE; i++) {
                const int p = p0 + i * groups;
                if (live && p >= begin && p < end) {
                    const bool new_one = p >= made;
                    const int64_t at = new_one ? (int64_t)(p - made) * a.dim + 8 * lane
                                               : base + p % a.capacity * stride;
                    const int64_t to_v = new_one ? (int64_t)(row + 1) * a.dim : 0;
                    k[i].load(new_one ? own : a.cache_k, at);
                    v[i].load(new_one ? own : a.cache_v, at + to_v);
                } else {
                    k[i].clear();
                    v[i].clear();
                }
            }
#pragma unroll
            for (int h = 0; h < G; h++) {
                float score[AT_ONCE], largest = sum[h].largest;
#pragma unroll
                for (int i = 0; i < AT_ONCE; i++) {
                    const int p = p0 + i * groups;
                    float dot = 0.0f, key[8];
                    k[i].get(key);
#pragma unroll
                    for (int d = 0; d < 8; d++)
                        dot = fmaf(q[h][d], key[d], dot);
                    for (int s = lanes / 2; s > 0; s /= 2)
                        dot += __shfl_xor_sync(UT_FULL, dot, s);
                    score[i] = p >= begin && p < end ? dot * 1.44269504f : -INFINITY;
                    largest = score[i] > largest ? score[i] : largest;
                }
                const float r = shrink(sum[h].largest, largest);
                sum[h].largest = largest;
                sum[h].total *= r;
#pragma unroll
                for (int d = 0; d < 8; d++)
                    acc[h][d] *= r;
#pragma unroll
                for (int i = 0; i < AT_ONCE; i++) {
                    const float e = shrink(score[i], largest);
                    float value[8];
                    v[i].get(value);
                    sum[h].total += e;
#pragma unroll
                    for (int d = 0; d < 8; d++)
                        acc[h][d] = fmaf(e, value[d], acc[h][d]);
                }
            }
        }

        /* the positions of a warp, then the warps */
        for (int s = lanes; s < 32; s *= 2)
#pragma unroll
            for (int h = 0; h < G; h++) {
                const float other = __shfl_xor_sync(UT_FULL, sum[h].largest, s);
                const float largest = other > sum[h].largest ? other : sum[h].largest;
                const float mine = shrink(sum[h].largest, largest), its = shrink(other, largest);
                const float total = __shfl_xor_sync(UT_FULL, sum[h].total, s);
                sum[h] = {largest, sum[h].total * mine + total * its};
#pragma unroll
                for (int d = 0; d < 8; d++) {
                    const float v = __shfl_xor_sync(UT_FULL, acc[h][d], s);
                    acc[h][d] = acc[h][d] * mine + v * its;
                }
            }
        if ((int)threadIdx.x % 32 < lanes)
#pragma unroll
            for (int h = 0; h < G; h++) {
                if (lane == 0)
                    warps[warp * G + h] = sum[h];
#pragma unroll
                for (int d = 0; d < 8; d++)
                    scratch[(warp * G + h) * pitch + 8 * lane + d] = acc[h][d];
            }
        __syncthreads();
        const split_result result = result_of();
        for (int i = threadIdx.x; i < G * a.dim; i += CU_THREADS) {
            const int h = i / a.dim, d = i % a.dim;
            float largest = -INFINITY, total = 0.0f, value = 0.0f;
#pragma unroll
            for (int w = 0; w < UT_WARPS; w++)
                largest = warps[w * G + h].largest > largest ? warps[w * G + h].largest : largest;
#pragma unroll
            for (int w = 0; w < UT_WARPS; w++) {
                const float r = shrink(warps[w * G + h].largest, largest);
                total += warps[w * G + h].total * r;
                value += scratch[(w * G + h) * pitch + d] * r;
            }
            if (chunks == 1)
                result.put(i, value / total);
            else
                result.leave(i, chunk, value, {largest, total});
        }
        if (chunk + (int)gridDim.x < chunks)
            __syncthreads(); /* scratch has been read */
    }
    const int blocks = chunks < (int)gridDim.x ? chunks : (int)gridDim.x;
    result_of().combine(G, chunks, blocks, CU_THREADS);
}

#define SPLIT_KERNEL(heads)                                                                        \
    UT_KERNEL_AHEAD_FITS(attention_split_##heads, cu_split_args, CU_SPLIT_BLOCKS(heads))           \
    {                                                                                              \
        if (a.a.cache_type == CU_F32)                                                              \
            attention_split<heads, CU_F32>(a);                                                     \
        else                                                                                       \
            attention_split<heads, CU_BF16>(a);                                                    \
    }
SPLIT_KERNEL(1)
SPLIT_KERNEL(2)
SPLIT_KERNEL(4)
SPLIT_KERNEL(8)
