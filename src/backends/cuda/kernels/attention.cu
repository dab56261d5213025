/* attention.cu - rotation of queries and keys, caches, and attention over them. */
#include "backends/cuda/kernels/rotate.cuh"

/* ---- Split, normalise, rotate, remember: a warp to a head of a row --------------------------- */

/* blockIdx.x is the row of all slots, blockIdx.y counts groups of UT_WARPS heads: q, then k, v. */
UT_KERNEL(qkv, cu_qkv_args)
{
    const int slot = blockIdx.x / a.rows, row = blockIdx.x % a.rows;
    const int head = blockIdx.y * UT_WARPS + threadIdx.x / 32, lane = threadIdx.x % 32;
    if (head >= a.heads + 2 * a.kv_heads)
        return;
    const int cols = (a.heads + 2 * a.kv_heads) * a.dim;
    const float *x = a.x + slot * a.x_slot + (int64_t)row * cols + (int64_t)head * a.dim;
    const float *angles = a.angles + slot * a.angles_slot + (int64_t)row * a.dim;
    if (head < a.heads) {
        rotate(a, x, a.q_gain, angles, CU_F32, a.y,
               slot * a.y_slot + ((int64_t)row * a.heads + head) * a.dim);
        return;
    }
    if (a.n_t && row >= *a.n_t)
        return;
    const int pos = first_position(a.pos, a.pos_slot, slot, a.first_pos) + row;
    const int h = (head - a.heads) % a.kv_heads;
    const int64_t at = slot * a.cache_slot + ((int64_t)(pos % a.capacity) * a.kv_heads + h) * a.dim;
    if (head < a.heads + a.kv_heads) {
        rotate(a, x, a.k_gain, angles, a.cache_type, a.cache_k, at);
        return;
    }
    for (int i = lane; i < a.dim; i += 32)
        store_element(a.cache_type, a.cache_v, (size_t)(at + i), x[i]);
}

/* ---- Attention ------------------------------------------------------------------------------- *
 * A block to a row and a head. Positions go by in chunks: scores (8 lanes to a position), their
 * weights relative to the largest so far, and the weighted sum of values, a dimension to a thread.
 * Chunks are counted from the oldest position that the row sees. */

enum { ATT_CHUNK = 256, ATT_MAX_DIM = 512 };

UT_KERNEL(attention, cu_attention_args)
{
    UT_SHARED(float, scratch);          /* [UT_WARPS] */
    float *weight = scratch + UT_WARPS; /* [ATT_CHUNK] */
    float *q = weight + ATT_CHUNK;      /* [dim] */
    const int slot = blockIdx.x / a.rows, row = blockIdx.x % a.rows, head = blockIdx.y;
    const int t = threadIdx.x, lane = t % 8;
    const int64_t in_row = ((int64_t)row * a.heads + head) * a.dim;
    const int64_t stride = (int64_t)a.kv_heads * a.dim;
    const int64_t base = slot * a.cache_slot + (int64_t)(head / (a.heads / a.kv_heads)) * a.dim;
    const int pos = first_position(a.pos, a.pos_slot, slot, a.first_pos) + row;
    const int oldest = pos - a.reach + 1 > 0 ? pos - a.reach + 1 : 0;
    const int n = pos - oldest + 1;
    for (int d = t; d < a.dim; d += CU_THREADS)
        q[d] = a.q[slot * a.q_slot + in_row + d];
    __syncthreads();

    float acc[ATT_MAX_DIM / CU_THREADS], largest = -INFINITY, total = 0.0f;
#pragma unroll
    for (int i = 0; i < ATT_MAX_DIM / CU_THREADS; i++)
        acc[i] = 0.0f;
    for (int first = 0; first < n; first += ATT_CHUNK) {
        const int count = n - first < ATT_CHUNK ? n - first : ATT_CHUNK;
        for (int i = t / 8; i < ATT_CHUNK; i += CU_THREADS / 8) {
            float dot = 0.0f;
            if (i < count) {
                const int64_t at = base + (oldest + first + i) % a.capacity * stride;
                for (int d = lane; d < a.dim; d += 8)
                    dot = fmaf(q[d], load_element(a.cache_type, a.cache_k, (size_t)(at + d)), dot);
            }
#pragma unroll
            for (int s = 4; s > 0; s /= 2)
                dot += __shfl_xor_sync(UT_FULL, dot, s);
            if (lane == 0)
                weight[i] = i < count ? dot * a.scale : -INFINITY;
        }
        __syncthreads();
        const float score = weight[t]; /* a score to a thread: CU_THREADS is ATT_CHUNK */
        const float now = block_max(score, scratch);
        const float next = now > largest ? now : largest;
        const float rescale = expf(largest - next), e = t < count ? expf(score - next) : 0.0f;
        weight[t] = e;
        largest = next;
        total = total * rescale + block_sum(e, scratch);
        /* block_sum's barriers stand between the writes of weights and these reads */
#pragma unroll
        for (int i = 0; i < ATT_MAX_DIM / CU_THREADS; i++) {
            const int d = t + i * CU_THREADS;
            if (d >= a.dim)
                continue;
            float v = acc[i] * rescale;
            for (int k = 0; k < count; k++) {
                const int64_t at = base + (oldest + first + k) % a.capacity * stride;
                v = fmaf(weight[k], load_element(a.cache_type, a.cache_v, (size_t)(at + d)), v);
            }
            acc[i] = v;
        }
        __syncthreads();
    }
#pragma unroll
    for (int i = 0; i < ATT_MAX_DIM / CU_THREADS; i++) {
        const int d = t + i * CU_THREADS;
        if (d < a.dim)
            a.y[slot * a.y_slot + in_row + d] = acc[i] / total;
    }
}
