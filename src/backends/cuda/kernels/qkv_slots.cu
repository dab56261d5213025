/* qkv_slots.cu - queries, keys and values of a decoding step's slots, their rotation, caches and
 * attention in one kernel, where a slot has one row and a position that is known and small: a layer
 * of a small transformer. A cluster has a key head and its queries: its blocks make parts of the
 * sums, as in linear_slots.cuh, and send each other whole rows, of which each attends for some.
 *
 * A row's bits depend on its x, its caches and its position alone. */
#include "backends/cuda/kernels/linear_slots.cuh"
#include "backends/cuda/kernels/rotate.cuh"

#if UT_MMA
/* A row of the caches in shared memory, so that neighbours are in other banks. */
template <int D> struct qkv_tile {
    enum { PITCH = D + 8, BYTES = CU_QKV_KEYS * PITCH * 2 };
};

/* Keys and values of positions 0 .. seen - 1 of the block's rows, to [rows][2][CU_QKV_KEYS]. */
template <int D>
UT_DEVICE void bring_caches(const cu_qkv_args &a, int first, int rows, int kv, int seen,
                            uint16_t *tiles)
{
    const int CHUNKS = D / 8, PITCH = qkv_tile<D>::PITCH;
    for (int i = threadIdx.x; i < rows * 2 * seen * CHUNKS; i += CU_THREADS) {
        const int chunk = i % CHUNKS, p = i / CHUNKS % seen, which = i / CHUNKS / seen;
        const uint16_t *cache = (const uint16_t *)(which % 2 ? a.cache_v : a.cache_k);
        copy_async(tiles + (which * CU_QKV_KEYS + p) * PITCH + 8 * chunk,
                   cache + (first + which / 2) * a.cache_slot + ((int64_t)p * a.kv_heads + kv) * D +
                       8 * chunk,
                   true);
    }
    copy_group_end();
}

/* 1 / sqrt(mean square of row m of x + eps), by a warp. */
UT_DEVICE float scale_of_row(const cu_slots_args &s, int m)
{
    float square = 0.0f;
    for (int i = threadIdx.x % 32; s.square && i < s.square_tiles; i += 32)
        square += __ldcg(s.square + (int64_t)i * s.a.slots + m);
    return s.square ? 1.0f / sqrtf(warp_sum(square) / (float)s.a.k + s.eps) : 1.0f;
}

/* A query [D] over keys and values of `n` positions, by a warp, to y [D]. Scores are in powers of 2
 * when multiplied by unit. */
template <int D>
UT_DEVICE void attend(const float *query, const uint16_t *keys, const uint16_t *values, int n,
                      float unit, uint16_t *y)
{
    const int PITCH = qkv_tile<D>::PITCH, EACH = D / 32, lane = threadIdx.x % 32;
    const int p = lane % CU_QKV_KEYS, d0 = lane / CU_QKV_KEYS * (D / 2); /* half of a position's */
    float score = 0.0f;
    if (p < n)
#pragma unroll 8
        for (int d = d0; d < d0 + D / 2; d += 2) {
            const uint32_t k = *(const uint32_t *)(keys + p * PITCH + d);
            const float2 q = *(const float2 *)(query + d);
            score = fmaf(q.x, __uint_as_float(k << 16), score);
            score = fmaf(q.y, __uint_as_float(k & 0xffff0000u), score);
        }
    score += __shfl_xor_sync(UT_FULL, score, CU_QKV_KEYS);
    score = p < n ? score * unit : -INFINITY;
    float largest = score;
#pragma unroll
    for (int d = 1; d < CU_QKV_KEYS; d *= 2)
        largest = fmaxf(largest, __shfl_xor_sync(UT_FULL, largest, d));
    const float weight = exp2f(score - largest);
    float total = weight;
#pragma unroll
    for (int d = 1; d < CU_QKV_KEYS; d *= 2)
        total += __shfl_xor_sync(UT_FULL, total, d);
    float v[EACH] = {};
    for (int i = 0; i < n; i++) {
        const float w = __shfl_sync(UT_FULL, weight, i);
#pragma unroll
        for (int e = 0; e < EACH; e += 2) {
            const uint32_t two = *(const uint32_t *)(values + i * PITCH + lane * EACH + e);
            v[e] = fmaf(w, __uint_as_float(two << 16), v[e]);
            v[e + 1] = fmaf(w, __uint_as_float(two & 0xffff0000u), v[e + 1]);
        }
    }
#pragma unroll
    for (int e = 0; e < EACH; e += 2)
        *(uint32_t *)(y + lane * EACH + e) = pack_bf16(v[e] / total, v[e + 1] / total);
}

/* blockIdx.x counts key heads, y the blocks of a cluster: parts of K of 64 outputs of the key head,
 * which are those of its queries, then key, then value; z rows of all slots, ROWS at a time. */
template <int TYPE, int ROWS, int D> UT_DEVICE void qkv_slots(const cu_qkv_slots_args &p)
{
    const cu_slots_args &s = p.s;
    const cu_qkv_args &a = p.qkv;
    const int X = CU_SLOTS_X(CU_SLOTS_COLUMNS), SUM = CU_SLOTS_PITCH, FOURS = CU_SLOTS_N / 4;
    const int group = a.heads / a.kv_heads, vectors = group + 2, N = vectors * D;
    const int blocks = (int)gridDim.y, parts = blocks * CU_SLOTS_N / N;
    const int part = (int)blockIdx.y % parts, tile = (int)blockIdx.y / parts;
    const int kv = (int)blockIdx.x, m0 = (int)blockIdx.z * ROWS;
    UT_SHARED(uint16_t, xs);                                  /* [steps][ROWS][X] */
    float *sums = (float *)(xs + s.steps * ROWS * X);         /* [2][ROWS][SUM] */
    float *sent = sums + 2 * ROWS * SUM;                      /* [tiles][parts][share][SUM] */
    float *rows = sent + blocks * s.share * SUM;              /* [share][N] */
    uint16_t *tiles = (uint16_t *)(rows + s.share * N);       /* [share][2][CU_QKV_KEYS][PITCH] */
    uint64_t *gate = (uint64_t *)(sums + 2 * ROWS * SUM - 4); /* in what pads the last row */
    const int PITCH = qkv_tile<D>::PITCH, warp = threadIdx.x / 32;
    const int r0 = (int)blockIdx.y * s.share, first = m0 + r0; /* of the rows it attends for */
    const int left = s.a.slots - first;
    const int mine = r0 >= ROWS || left < 0 ? 0 : left < s.share ? left : s.share;
    const int sendings = r0 < ROWS ? blocks * s.share * FOURS : 0;
    expect_parts(gate, sendings);

    slots_product<TYPE, ROWS, CU_SLOTS_COLUMNS>(
        s.a, s.steps, m0, s.a.slots, part * s.steps * CU_SLOTS_COLUMNS, xs, sums,
        [&](int of, int g, int h) {
            const int n = tile * CU_SLOTS_N + of * 16 + g + 8 * h, v = n / D;
            const int head = v < group    ? kv * group + v
                             : v == group ? a.heads + kv
                                          : a.heads + a.kv_heads + kv;
            return head * D + n % D;
        });
    bring_caches<D>(a, first, mine, kv, a.first_pos, tiles);
    send_parts<ROWS>(sums, sent + (int)blockIdx.y * s.share * SUM, gate, s.share_log2);
    if (mine == 0) {
        if (sendings > 0) /* of rows that there are not */
            gate_wait(gate, 0, 1 + sendings);
        return;
    }

    head_vector<D> head;
    const int m = first + warp / vectors; /* of the warp's first vector */
    if (warp < mine * vectors)
        head.ask(a,
                 warp % vectors < group    ? a.q_gain
                 : warp % vectors == group ? a.k_gain
                                           : NULL,
                 warp % vectors <= group ? a.angles + m * a.angles_slot : NULL);
    float scale = warp < mine * vectors ? scale_of_row(s, m) : 1.0f;
    gate_wait(gate, 0, 1 + sendings);
    for (int i = threadIdx.x; i < mine * N / 2; i += CU_THREADS) {
        const int r = 2 * i / N, n = 2 * i % N;
        *(float2 *)(rows + r * N + n) =
            sum_parts<true>(sent + (n / CU_SLOTS_N * parts * s.share + r) * SUM + n % CU_SLOTS_N,
                            s.share * SUM, parts);
    }
    __syncthreads();
    for (int i = warp; i < mine * vectors; i += UT_WARPS) {
        const int r = i / vectors, v = i % vectors;
        float *row = rows + r * N + v * D;
        if (i != warp) {
            head.ask(a,
                     v < group    ? a.q_gain
                     : v == group ? a.k_gain
                                  : NULL,
                     v <= group ? a.angles + (first + r) * a.angles_slot : NULL);
            scale = scale_of_row(s, first + r);
        }
        head.take(a, row);
        head.multiply(scale);
        if (v < group ? a.q_gain != NULL : v == group && a.k_gain)
            head.norm(a.eps);
        if (v < group) {
            head.store(a, CU_F32, row);
            continue;
        }
        uint16_t *own = tiles + ((2 * r + v - group) * CU_QKV_KEYS + a.first_pos) * PITCH;
        head.store(a, CU_BF16, own);
        head.store(a, CU_BF16,
                   (uint16_t *)(v == group ? a.cache_k : a.cache_v) + (first + r) * a.cache_slot +
                       ((int64_t)a.first_pos * a.kv_heads + kv) * D);
    }
    copy_wait<0>();
    __syncthreads();
    for (int i = warp; i < mine * group; i += UT_WARPS) {
        const int r = i / group, j = i % group;
        const uint16_t *keys = tiles + 2 * r * CU_QKV_KEYS * PITCH;
        attend<D>(rows + r * N + j * D, keys, keys + CU_QKV_KEYS * PITCH, a.first_pos + 1,
                  p.scale * 1.44269504f,
                  p.y16 + (int64_t)(first + r) * p.ldy + (kv * group + j) * D);
    }
}
#endif

#define QKV_KERNELS(name, type, rows)                                                              \
    UT_KERNEL_AHEAD(name##_64_##rows, cu_qkv_slots_args)                                           \
    {                                                                                              \
        UT_MMA_BODY(qkv_slots<type, rows, 64>(a));                                                 \
    }                                                                                              \
    UT_KERNEL_AHEAD(name##_128_##rows, cu_qkv_slots_args)                                          \
    {                                                                                              \
        UT_MMA_BODY(qkv_slots<type, rows, 128>(a));                                                \
    }
QKV_KERNELS(qkv_slots, CU_BF16, 8)
QKV_KERNELS(qkv_slots, CU_BF16, 32)
QKV_KERNELS(qkv_slots_q8, CU_Q8, 8)
QKV_KERNELS(qkv_slots_q8, CU_Q8, 32)
