/* attention_slots.cu - attention of decoding steps on tensor cores, over caches of bf16 and heads
 * of 64 or 128 dimensions: a row's blocks share chunks of positions, whose tiles go by, and every
 * warp keeps the softmax of its 16 positions of each; the block adds its warps, and the row's last
 * block the chunks. Chunks are counted from position 0: a row's bits depend on its position alone.
 *
 * Rotation and caches may be part of it, as in attention_split.cu. */
#include "backends/cuda/kernels/mma.cuh"
#include "backends/cuda/kernels/partial.cuh"
#include "backends/cuda/kernels/rotate.cuh"

#if UT_MMA
enum { KEYS = CU_STEP_KEYS, THREADS = CU_STEP_THREADS, WARPS = THREADS / 32 };
enum { CHUNK = CU_STEP_CHUNK, TILES = CHUNK / KEYS };

/* What a block makes: G heads of a row that share keys. */
struct step_row {
    int slot, row, head;
    int64_t of_head; /* the keys' elements of row 0 of the caches */

    UT_DEVICE_MEMBER step_row(const cu_attention_args &a)
        : slot((int)blockIdx.z / a.rows), row((int)blockIdx.z % a.rows),
          head((int)blockIdx.y * a.at_once)
    {
        of_head = slot * a.cache_slot + (int64_t)(head / (a.heads / a.kv_heads)) * a.dim;
    }
};

/* The block's vectors: queries of its heads, then keys and values of the slot's rows up to its own.
 * q [at_once][D], own [row + 1][keys, values][D]. */
template <int D> struct step_vectors {
    const cu_split_args &s;
    step_row t;
    float *q;
    uint16_t *own;
    head_vector<D> v;

    UT_DEVICE_MEMBER step_vectors(const cu_split_args &args, const step_row &row, float *to)
        : s(args), t(row), q(to), own((uint16_t *)(to + args.a.at_once * D))
    {
    }
    UT_DEVICE_MEMBER int count() const { return s.a.at_once + 2 * (t.row + 1); }
    UT_DEVICE_MEMBER void load(int i)
    {
        const cu_qkv_args &a = s.qkv;
        const int n = s.a.at_once, kv_head = t.head / (a.heads / a.kv_heads);
        const int r = i < n ? t.row : (i - n) / 2, kind = i < n ? 0 : 1 + (i - n) % 2;
        const int at = kind == 0   ? t.head + i
                       : kind == 1 ? a.heads + kv_head
                                   : a.heads + a.kv_heads + kv_head;
        const int cols = (a.heads + 2 * a.kv_heads) * D;
        v.load(a, a.x + t.slot * a.x_slot + (int64_t)r * cols + at * D,
               kind == 0   ? a.q_gain
               : kind == 1 ? a.k_gain
                           : NULL,
               kind == 2 ? NULL : a.angles + t.slot * a.angles_slot + (int64_t)r * D);
    }
    UT_DEVICE_MEMBER void finish(int i)
    {
        const int n = s.a.at_once;
        if (i < n ? s.qkv.q_gain != NULL : s.qkv.k_gain != NULL && (i - n) % 2 == 0)
            v.norm(s.qkv.eps);
        if (i < n)
            v.store(s.qkv, CU_F32, q + i * D);
        else
            v.store(s.qkv, CU_BF16, own + (i - n) * D);
    }
    /* Keys or values of the slot's row r to row `to` of a tile. */
    UT_DEVICE_MEMBER void put(uint4 *tile, int r, int to, int value, int chunk) const
    {
        tile[(value * KEYS + to) * (D / 8) + swizzle(to, chunk)] =
            ((const uint4 *)own)[(2 * r + value) * (D / 8) + chunk];
    }
    /* Queries that are ready. */
    UT_DEVICE_MEMBER void take_queries()
    {
        const float *from = s.a.q + t.slot * s.a.q_slot + ((int64_t)t.row * s.a.heads + t.head) * D;
        for (int i = threadIdx.x; i < s.a.at_once * D; i += THREADS)
            q[i] = from[i];
    }
};

/* Positions that the row sees, and the chunks and tiles that they are in. */
struct step_positions {
    int pos, oldest, made; /* from `made` on they are the block's own */
    int first_chunk, chunks;

    UT_DEVICE_MEMBER step_positions(const cu_split_args &s, int stand, int row)
    {
        const int64_t at = (int64_t)s.a.first_pos + stand;
        const int pos0 = at < 0 ? 0 : at > 0x3fffffff ? 0x3fffffff : (int)at;
        pos = pos0 + row;
        made = s.qkv.x ? pos0 : pos + 1;
        oldest = pos - s.a.reach + 1 > 0 ? pos - s.a.reach + 1 : 0;
        first_chunk = oldest / CHUNK;
        chunks = pos / CHUNK - first_chunk + 1;
    }
    UT_DEVICE_MEMBER bool is_own(int p) const
    {
        return (unsigned)(p - made) < (unsigned)(pos + 1 - made);
    }
    UT_DEVICE_MEMBER int blocks() const
    {
        return (int)gridDim.x < chunks ? (int)gridDim.x : chunks;
    }
};

/* The block's tiles one by one, counted from position 0. */
struct step_walk {
    int chunk, tile;

    UT_DEVICE_MEMBER step_walk(const step_positions &p) : chunk((int)blockIdx.x) { begin(p); }
    UT_DEVICE_MEMBER void begin(const step_positions &p)
    {
        const int first = (p.first_chunk + chunk) * TILES;
        tile = first > p.oldest / KEYS ? first : p.oldest / KEYS;
    }
    UT_DEVICE_MEMBER bool more(const step_positions &p) const { return chunk < p.chunks; }
    /* Is it the last of its chunk? */
    UT_DEVICE_MEMBER bool ends(const step_positions &p) const
    {
        return (tile + 1) % TILES == 0 || tile == p.pos / KEYS;
    }
    UT_DEVICE_MEMBER step_walk after(const step_positions &p) const
    {
        step_walk next = *this;
        if (ends(p)) {
            next.chunk += (int)gridDim.x;
            next.begin(p);
        } else {
            next.tile++;
        }
        return next;
    }
};

/* Tiles of keys and values: 8 dimensions of every STEP-th position to a thread. */
template <int D> struct step_source {
    enum { CHUNKS = D / 8, STEP = THREADS / CHUNKS };
    const uint16_t *keys, *values; /* at row 0 of the caches */
    int stride, capacity;

    UT_DEVICE_MEMBER step_source(const cu_attention_args &a, int64_t of_head)
        : keys((const uint16_t *)a.cache_k + of_head + 8 * (threadIdx.x % CHUNKS)),
          values((const uint16_t *)a.cache_v + of_head + 8 * (threadIdx.x % CHUNKS)),
          stride(a.kv_heads * D), capacity(a.capacity)
    {
    }
    /* Those of a tile that the caches have, zeros for those that nobody sees. */
    UT_DEVICE_MEMBER void copy(uint4 *to, int tile, const step_positions &seen) const
    {
        const int row = threadIdx.x / CHUNKS, chunk = threadIdx.x % CHUNKS;
        const int first = tile * KEYS, place = first % capacity + row;
#pragma unroll
        for (int r = 0; r < KEYS; r += STEP) {
            const int p = first + row + r;
            const bool live = p >= seen.oldest && p < seen.made;
            int at = live ? place + r : 0;
            while (at >= capacity)
                at -= capacity;
            uint4 *there = to + (row + r) * CHUNKS + swizzle(row + r, chunk);
            if (!seen.is_own(p)) {
                copy_async(there, keys + (int64_t)at * stride, live);
                copy_async(there + KEYS * CHUNKS, values + (int64_t)at * stride, live);
            }
        }
    }
    /* The lines of the block's first chunk. */
    UT_DEVICE_MEMBER void prefetch(const step_positions &seen) const
    {
        const int first = (seen.first_chunk + (int)blockIdx.x) * CHUNK;
        const int end = first + CHUNK < seen.made ? first + CHUNK : seen.made;
        int p = first > seen.oldest ? first : seen.oldest;
        for (p += (int)threadIdx.x / CHUNKS; p < end; p += STEP)
            if (threadIdx.x % 8 == 0) {
                prefetch_line(keys + (int64_t)(p % capacity) * stride);
                prefetch_line(values + (int64_t)(p % capacity) * stride);
            }
    }
};

/* A warp's softmax of all heads so far: head g, dimensions 2q, 2q + 1 of every 8. Queries and
 * weights are two numbers of bf16 each: rows g + 8 of the products, which there are not, have what
 * the first lacks. */
template <int D> struct step_sums {
    float largest, total, out[D / 8][4];

    UT_DEVICE_MEMBER step_sums() : largest(-INFINITY), total(0.0f)
    {
#pragma unroll
        for (int n = 0; n < D / 8; n++)
            out[n][0] = out[n][1] = out[n][2] = out[n][3] = 0.0f;
    }
    /* To what the block adds: [WARPS][G][D], then what goes with each [WARPS][G]. */
    UT_DEVICE_MEMBER void leave(float *to, int G)
    {
        const int warp = threadIdx.x / 32, lane = threadIdx.x % 32, g = lane / 4, q = lane % 4;
#pragma unroll
        for (int d = 1; d < 4; d *= 2)
            total += __shfl_xor_sync(UT_FULL, total, d);
        if (g >= G)
            return;
        if (q == 0)
            ((partial *)(to + WARPS * G * D))[warp * G + g] = {largest, total};
#pragma unroll
        for (int n = 0; n < D / 8; n++)
            *(float2 *)(to + (warp * G + g) * D + 8 * n + 2 * q) = {out[n][0] + out[n][2],
                                                                    out[n][1] + out[n][3]};
    }
    /* 16 positions from `first` on, which is the warp's first row of the tile; unit: of scores, for
     * powers of 2. */
    UT_DEVICE_MEMBER void add(const uint32_t (&fq)[D / 16][4], const uint4 *tile, int first,
                              int oldest, int pos, float unit)
    {
        const int CHUNKS = D / 8, lane = threadIdx.x % 32, q = lane % 4;
        const uint4 *keys = tile + (lane / 16 * 8 + lane % 8) * CHUNKS;
        const uint4 *values = tile + (KEYS + lane % 16) * CHUNKS;
        float s[2][4] = {{0.0f, 0.0f, 0.0f, 0.0f}, {0.0f, 0.0f, 0.0f, 0.0f}};
#pragma unroll
        for (int k = 0; k < D / 16; k++) {
            uint32_t f[4];
            load_matrices(f, keys + swizzle(lane, 2 * k + lane / 8 % 2));
            mma_bf16(s[0], fq[k], f);
            mma_bf16(s[1], fq[k], f + 2);
        }
        float next = largest;
#pragma unroll
        for (int i = 0; i < 4; i++) {
            const int p = first + i / 2 * 8 + 2 * q + i % 2;
            float &score = s[i / 2][i % 2];
            score = p >= oldest && p <= pos ? (score + s[i / 2][2 + i % 2]) * unit : -INFINITY;
            next = fmaxf(next, score);
        }
#pragma unroll
        for (int d = 1; d < 4; d *= 2)
            next = fmaxf(next, __shfl_xor_sync(UT_FULL, next, d));
        const float from = next == -INFINITY ? 0.0f : next, r = power_of_2(largest - from);
        largest = next;
        total *= r;
#pragma unroll
        for (int i = 0; i < 4; i++) {
            s[i / 2][i % 2] = power_of_2(s[i / 2][i % 2] - from);
            total += s[i / 2][i % 2];
        }
        uint32_t fp[4];
#pragma unroll
        for (int h = 0; h < 2; h++) {
            fp[2 * h] = pack_bf16(s[h][0], s[h][1]);
            fp[2 * h + 1] = pack_low(s[h][0], s[h][1], fp[2 * h]);
        }
#pragma unroll
        for (int n = 0; n < D / 16; n++) {
            uint32_t f[4];
            load_matrices_trans(f, values + swizzle(lane, 2 * n + lane / 16));
#pragma unroll
            for (int j = 0; j < 2; j++) {
                float(&o)[4] = out[2 * n + j];
                o[0] *= r, o[1] *= r, o[2] *= r, o[3] *= r;
                mma_bf16(o, fp, f + 2 * j);
            }
        }
    }
};

/* What warps leave of a chunk. */
struct step_result : split_result {
    using split_result::split_result;

    UT_DEVICE_MEMBER void add_warps(const float *of_warps, int G, int chunks, int chunk) const
    {
        const int dim = s.a.dim;
        const partial *parts = (const partial *)(of_warps + WARPS * G * dim);
        for (int i = threadIdx.x; i < G * dim; i += THREADS) {
            partial all = {-INFINITY, 0.0f};
            float value = 0.0f;
#pragma unroll
            for (int w = 0; w < WARPS; w++)
                all.largest = fmaxf(all.largest, parts[w * G + i / dim].largest);
#pragma unroll
            for (int w = 0; w < WARPS; w++) {
                const float r = shrink(parts[w * G + i / dim].largest, all.largest);
                all.total += parts[w * G + i / dim].total * r;
                value += of_warps[w * G * dim + i] * r;
            }
            if (chunks == 1)
                put(i, value / all.total);
            else
                leave(i, chunk, value, all);
        }
    }
};

/* blockIdx.x counts blocks of a row and its heads, which share its chunks, y groups of heads with
 * the same keys, z rows of all slots. */
template <int D> UT_DEVICE void attention_slots(const cu_split_args &s)
{
    const cu_attention_args &a = s.a;
    const int CHUNKS = D / 8, TILE = KEYS * CHUNKS, G = a.at_once;
    UT_SHARED(uint4, tiles);                       /* [2][keys, values][KEYS][CHUNKS] */
    float *of_warps = (float *)(tiles + 4 * TILE); /* see step_sums::leave */
    float *vectors = of_warps + WARPS * G * (D + 2);
    const int warp = threadIdx.x / 32, lane = threadIdx.x % 32, g = lane / 4, q = lane % 4;
    const step_row t(a);
    const step_result result(s, t.slot, t.row, t.head);
    const step_source<D> source(a, t.of_head);
    const int32_t *stands = a.pos ? a.pos + t.slot * a.pos_slot : NULL;
    /* unless s.early, perhaps not yet, but most often */
    step_positions seen(s, stands ? __ldcg(stands) : 0, t.row);
    if (s.early && (int)blockIdx.x < seen.chunks)
        source.copy(tiles, step_walk(seen).tile, seen);
    else if (!s.early)
        source.prefetch(seen);
    let_next_start();
    wait_for_previous();

    const int stand = s.early || !stands ? 0 : __ldcg(stands);
    step_vectors<D> v(s, t, vectors);
    if (s.qkv.x && warp < v.count())
        v.load(warp);
    if (!s.early) {
        seen = step_positions(s, stand, t.row);
        if ((int)blockIdx.x < seen.chunks)
            source.copy(tiles, step_walk(seen).tile, seen);
    }
    copy_group_end();
    if ((int)blockIdx.x >= seen.blocks())
        return;
    if (s.qkv.x)
        for (int i = warp; i < v.count(); i += WARPS) {
            if (i != warp)
                v.load(i);
            v.finish(i);
        }
    else
        v.take_queries();
    __syncthreads();

    const int words = D / 2; /* of a vector, as pairs of elements */
    if (s.qkv.x && t.head % (a.heads / a.kv_heads) == 0 && blockIdx.x == 0)
        for (int i = threadIdx.x; i < 2 * words; i += THREADS) {
            uint32_t *cache = (uint32_t *)(i < words ? s.qkv.cache_k : s.qkv.cache_v);
            cache[(t.of_head + (int64_t)(seen.pos % a.capacity) * a.kv_heads * D) / 2 + i % words] =
                ((const uint32_t *)v.own)[2 * t.row * words + i];
        }
    uint32_t fq[D / 16][4];
#pragma unroll
    for (int k = 0; k < D / 16; k++)
#pragma unroll
        for (int h = 0; h < 2; h++) {
            float2 f = {0.0f, 0.0f};
            if (g < G)
                f = *(const float2 *)(v.q + g * D + 16 * k + 8 * h + 2 * q);
            fq[k][2 * h] = pack_bf16(f.x, f.y);
            fq[k][2 * h + 1] = pack_low(f.x, f.y, fq[k][2 * h]);
        }

    step_sums<D> sums;
    int buffer = 0;
#pragma unroll 1
    for (step_walk now(seen), next(now); now.more(seen); now = next, buffer ^= 1) {
        const int first = now.tile * KEYS, mine = first + 16 * warp;
        const bool ends = now.ends(seen);
        uint4 *tile = tiles + buffer * 2 * TILE;
        next = now.after(seen);
        if (next.more(seen))
            source.copy(tiles + (buffer ^ 1) * 2 * TILE, next.tile, seen);
        copy_group_end();
        if (seen.made < first + KEYS)
            for (int c = threadIdx.x; c < (seen.pos + 1 - seen.made) * 2 * CHUNKS; c += THREADS) {
                const int r = c / (2 * CHUNKS), row = seen.made + r - first;
                if (row >= 0 && row < KEYS)
                    v.put(tile, r, row, c / CHUNKS % 2, c % CHUNKS);
            }
        copy_wait<1>();
        __syncthreads();
        if (mine <= seen.pos && mine + 15 >= seen.oldest)
            sums.add(fq, tile + 16 * warp * CHUNKS, mine, seen.oldest, seen.pos,
                     a.scale * 1.44269504f);
        if (ends) {
            sums.leave(of_warps, G);
            sums = step_sums<D>();
        }
        __syncthreads(); /* the buffer is free */
        if (ends)
            result.add_warps(of_warps, G, seen.chunks, now.chunk);
    }
    result.combine(G, seen.chunks, seen.blocks(), THREADS);
}
#endif

UT_KERNEL_AHEAD_OF(attention_slots_64, cu_split_args, CU_STEP_THREADS)
{
    UT_MMA_BODY(attention_slots<64>(a));
}
UT_KERNEL_AHEAD_OF(attention_slots_128, cu_split_args, CU_STEP_THREADS)
{
    UT_MMA_BODY(attention_slots<128>(a));
}
