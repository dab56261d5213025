/* attention_split.cu - attention of decoding steps: the positions of a row are cut into chunks, a
 * block each, which its last block combines. Chunks are counted from position 0, so that a row's
 * bits depend on its own position alone. */
#include "backends/cuda/kernels/device.cuh"

/* A partial softmax: the largest score in powers of 2, the sum of weights, the weighted values. */
struct partial {
    float largest, total;
};

/* By how much a partial sum with this largest score shrinks; nothing was seen at -inf. */
UT_DEVICE float shrink(float largest, float to)
{
    return to == -INFINITY ? 0.0f : exp2f(largest - to);
}

UT_DEVICE void load_8(int type, const void *p, int64_t i, float v[8])
{
    if (type == CU_F32) {
        group<CU_F32>::load(p, (size_t)i, v);
        group<CU_F32>::load(p, (size_t)i + 4, v + 4);
    } else {
        group<CU_BF16>::load(p, (size_t)i, v);
    }
}

/* blockIdx.x counts chunks from the oldest that the row sees, y groups of G heads with the same
 * keys, z rows of all slots. `lanes` neighbours share a position, 8 dimensions each, and go through
 * the chunk AT_ONCE positions at a time. */
template <int G> UT_DEVICE void attention_split(const cu_attention_args &a)
{
    const int AT_ONCE = 4;
    UT_SHARED(float, scratch); /* [UT_WARPS][G][padded dim], then partials [UT_WARPS][G] */
    const int lanes = a.dim <= 64 ? 8 : a.dim <= 128 ? 16 : 32, groups = CU_THREADS / lanes;
    const int lane = threadIdx.x % lanes, warp = threadIdx.x / 32, pitch = 8 * lanes;
    const int slot = blockIdx.z / a.rows, row = blockIdx.z % a.rows, head = blockIdx.y * G;
    const int pos = first_position(a.pos, a.pos_slot, slot, a.first_pos) + row;
    const int oldest = pos - a.reach + 1 > 0 ? pos - a.reach + 1 : 0;
    const int first = oldest / a.chunk, chunks = pos / a.chunk - first + 1;
    if ((int)blockIdx.x >= chunks)
        return;
    const int start = (first + (int)blockIdx.x) * a.chunk;
    const int begin = start > oldest ? start : oldest;
    const int end = start + a.chunk <= pos ? start + a.chunk : pos + 1;
    const int64_t in_row = ((int64_t)row * a.heads + head) * a.dim;
    const int64_t stride = (int64_t)a.kv_heads * a.dim;
    const bool live = 8 * lane < a.dim;
    const int64_t base =
        slot * a.cache_slot + (int64_t)(head / (a.heads / a.kv_heads)) * a.dim + 8 * lane;

    float q[G][8], acc[G][8];
    partial sum[G];
#pragma unroll
    for (int h = 0; h < G; h++) {
        sum[h] = {-INFINITY, 0.0f};
#pragma unroll
        for (int d = 0; d < 8; d++) {
            q[h][d] =
                live ? a.q[slot * a.q_slot + in_row + h * a.dim + 8 * lane + d] * a.scale : 0.0f;
            acc[h][d] = 0.0f;
        }
    }
    for (int p0 = start + (int)threadIdx.x / lanes; p0 - (int)threadIdx.x / lanes < end;
         p0 += AT_ONCE * groups) {
        float k[AT_ONCE][8], v[AT_ONCE][8];
#pragma unroll
        for (int i = 0; i < AT_ONCE; i++) {
            const int p = p0 + i * groups;
            const int64_t at = base + p % a.capacity * stride;
            if (live && p >= begin && p < end) {
                load_8(a.cache_type, a.cache_k, at, k[i]);
                load_8(a.cache_type, a.cache_v, at, v[i]);
            } else {
#pragma unroll
                for (int d = 0; d < 8; d++)
                    k[i][d] = v[i][d] = 0.0f;
            }
        }
#pragma unroll
        for (int h = 0; h < G; h++) {
            float score[AT_ONCE], largest = sum[h].largest;
#pragma unroll
            for (int i = 0; i < AT_ONCE; i++) {
                const int p = p0 + i * groups;
                float dot = 0.0f;
#pragma unroll
                for (int d = 0; d < 8; d++)
                    dot = fmaf(q[h][d], k[i][d], dot);
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
                sum[h].total += e;
#pragma unroll
                for (int d = 0; d < 8; d++)
                    acc[h][d] = fmaf(e, v[i][d], acc[h][d]);
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
    partial *warps = (partial *)(scratch + UT_WARPS * G * pitch);
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
    const int width = a.dim + 2;
    float *part = a.part + ((int64_t)blockIdx.z * a.heads + head) * a.max_chunks * width;
    float *y = a.y + slot * a.y_slot + in_row;
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
        if (chunks == 1) {
            y[i] = value / total;
            continue;
        }
        float *mine = part + ((int64_t)h * a.max_chunks + blockIdx.x) * width;
        mine[d] = value;
        if (d == 0) {
            mine[a.dim] = largest;
            mine[a.dim + 1] = total;
        }
    }
    if (chunks == 1 || !last_block(a.arrived + blockIdx.z * gridDim.y + blockIdx.y, chunks))
        return;
    for (int i = threadIdx.x; i < G * a.dim; i += CU_THREADS) {
        const float *of = part + (int64_t)(i / a.dim) * a.max_chunks * width;
        float largest = -INFINITY, total = 0.0f, value = 0.0f;
        for (int c = 0; c < chunks; c++) {
            const float l = __ldcg(of + c * width + a.dim);
            largest = l > largest ? l : largest;
        }
#pragma unroll 4
        for (int c = 0; c < chunks; c++) {
            const float r = shrink(__ldcg(of + c * width + a.dim), largest);
            total += __ldcg(of + c * width + a.dim + 1) * r;
            value += __ldcg(of + c * width + i % a.dim) * r;
        }
        y[i] = value / total;
    }
}

UT_KERNEL(attention_split_1, cu_attention_args)
{
    attention_split<1>(a);
}
UT_KERNEL(attention_split_2, cu_attention_args)
{
    attention_split<2>(a);
}
UT_KERNEL(attention_split_4, cu_attention_args)
{
    attention_split<4>(a);
}
UT_KERNEL(attention_split_8, cu_attention_args)
{
    attention_split<8>(a);
}
