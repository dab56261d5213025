/* partial.cuh - attention of a row in parts: what they leave, and what comes of them. */
#pragma once

#include "backends/cuda/kernels/device.cuh"

/* A partial softmax: the largest score in powers of 2, the sum of weights; the weighted values lie
 * elsewhere. */
struct partial {
    float largest, total;
};

/* By how much a partial sum with this largest score shrinks; nothing was seen at -inf. */
UT_DEVICE float shrink(float largest, float to)
{
    return to == -INFINITY ? 0.0f : exp2f(largest - to);
}

/* The result of a block's heads, from `head` on: element i is dimension i % dim of head i / dim. */
struct split_result {
    const cu_split_args &s;
    float *part; /* [heads][max_chunks][dim + 2] */
    float *y;
    uint16_t *y16;

    UT_DEVICE_MEMBER split_result(const cu_split_args &args, int slot, int row, int head) : s(args)
    {
        const cu_attention_args &a = s.a;
        const int64_t all = (int64_t)slot * a.rows + row;
        part = a.part + (all * a.heads + head) * a.max_chunks * (a.dim + 2);
        y = a.y + slot * a.y_slot + ((int64_t)row * a.heads + head) * a.dim;
        y16 = s.y16 + all * s.ldy + (int64_t)head * a.dim;
    }
    UT_DEVICE_MEMBER void put(int i, float v) const
    {
        if (s.y16)
            y16[i] = f32_to_bf16(v);
        else
            y[i] = v;
    }
    UT_DEVICE_MEMBER void leave(int i, int which, float value, partial p) const
    {
        const int dim = s.a.dim;
        float *mine = part + ((int64_t)(i / dim) * s.a.max_chunks + which) * (dim + 2);
        mine[i % dim] = value;
        if (i % dim == 0) {
            mine[dim] = p.largest;
            mine[dim + 1] = p.total;
        }
    }
    /* By all blocks of the row, and all threads of each: the last adds the parts of G heads. */
    UT_DEVICE_MEMBER void combine(int G, int parts, int blocks, int threads) const
    {
        const int dim = s.a.dim, width = dim + 2;
        if (parts == 1)
            return;
        if (blocks == 1)
            __syncthreads();
        else if (!last_block(s.a.arrived + blockIdx.z * gridDim.y + blockIdx.y, (uint32_t)blocks))
            return;
        for (int i = threadIdx.x; i < G * dim; i += threads) {
            const float *of = part + (int64_t)(i / dim) * s.a.max_chunks * width;
            float largest = -INFINITY, total = 0.0f, value = 0.0f;
            for (int c = 0; c < parts; c++) {
                const float l = __ldcg(of + c * width + dim);
                largest = l > largest ? l : largest;
            }
#pragma unroll 4
            for (int c = 0; c < parts; c++) {
                const float r = shrink(__ldcg(of + c * width + dim), largest);
                total += __ldcg(of + c * width + dim + 1) * r;
                value += __ldcg(of + c * width + i % dim) * r;
            }
            put(i, value / total);
        }
    }
};
