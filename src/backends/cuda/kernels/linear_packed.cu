/* linear_packed.cu - products with matrices in blocks of whole numbers (CU_Q8, CU_Q4, see args.h),
 * and making such matrices. Numbers become f32 on their way into a sum; sums stay f32. */
#include "backends/cuda/kernels/linear_tile.cuh"
#include "backends/cuda/kernels/packed.cuh"

/* How 16 bytes of a matrix are read: PIECES times 16 numbers with one scale, each as four words of
 * four numbers a byte. */
template <int TYPE> struct pieces;
template <> struct pieces<CU_Q8> {
    enum { PIECES = 1 };
    static UT_DEVICE_MEMBER void split(const uint4 &v, int, uint32_t q[4])
    {
        q[0] = v.x, q[1] = v.y, q[2] = v.z, q[3] = v.w;
    }
};
template <> struct pieces<CU_Q4> {
    enum { PIECES = 2 };
    static UT_DEVICE_MEMBER void split(const uint4 &v, int piece, uint32_t q[4])
    {
        const uint32_t a = piece ? v.z : v.x, b = piece ? v.w : v.y, low = 0x0f0f0f0fu;
        q[0] = a & low, q[1] = b & low, q[2] = a >> 4 & low, q[3] = b >> 4 & low;
    }
};

/* Scale of column k of matrix row o. */
template <int TYPE> UT_DEVICE float scale_at(const cu_linear_args &a, int o, int k)
{
    return f16_to_f32(__ldg(scales_of<TYPE>(a, o) + k / packed<TYPE>::BLOCK));
}

/* ---- Few rows -------------------------------------------------------------------------------- *
 * A warp to an output. Lane l takes groups l, l + 32, ... of 16 bytes of the matrix row; a piece of
 * 16 numbers is summed in four chains before its scale is applied, then pieces are added in order;
 * last a tree over the lanes. The order depends on K only. x is kept such that lanes read
 * neighbouring vectors: vector i of a group of lane l is the one l of 32. */

template <int N> UT_DEVICE int x_place(int k)
{
    const int group = k / N, vector = k % N / 4;
    return ((group / 32 * (N / 4) + vector) * 32 + group % 32) * 4 + k % 4;
}

template <int TYPE, int ROWS> UT_DEVICE void linear_few(const cu_linear_args &a)
{
    typedef packed<TYPE> P;
    enum { PIECES = pieces<TYPE>::PIECES, N = 16 * PIECES /* numbers in 16 bytes */ };
    UT_SHARED(float, xs); /* [ROWS, CU_FEW_K] */
    const int lane = threadIdx.x % 32, o = blockIdx.x * UT_WARPS + threadIdx.x / 32;
    const int m0 = blockIdx.y * ROWS, all = a.rows * a.slots;
    float sum[ROWS];
#pragma unroll
    for (int r = 0; r < ROWS; r++)
        sum[r] = 0.0f;
    for (int k0 = 0; k0 < a.ldw; k0 += CU_FEW_K) {
        const int kn = a.ldw - k0 < CU_FEW_K ? a.ldw - k0 : CU_FEW_K;
        __syncthreads();
        for (int r = 0; r < ROWS; r++) {
            const bool live = m0 + r < all;
            const float *row = row_start(a, live ? m0 + r : m0);
            for (int k = threadIdx.x; k < kn; k += CU_THREADS)
                xs[r * CU_FEW_K + x_place<N>(k)] = live ? x_at(a, row, k0 + k) : 0.0f;
        }
        __syncthreads();
        if (o >= a.n_out)
            continue;
        const uint8_t *w = (const uint8_t *)a.w + P::bytes((size_t)o * a.ldw + k0);
#pragma unroll 2
        for (int k = lane * N; k < kn; k += 32 * N) {
            const uint4 v = __ldg((const uint4 *)(w + P::bytes(k)));
            const float4 *x = (const float4 *)(xs + x_place<N>(k));
#pragma unroll
            for (int piece = 0; piece < PIECES; piece++) {
                const float scale = scale_at<TYPE>(a, o, k0 + k + 16 * piece);
                uint32_t q[4];
                float part[ROWS][4];
                pieces<TYPE>::split(v, piece, q);
#pragma unroll
                for (int i = 0; i < 4; i++) {
                    float w4[4];
#pragma unroll
                    for (int e = 0; e < 4; e++)
                        w4[e] = number(q[i], e, P::BIAS);
#pragma unroll
                    for (int r = 0; r < ROWS; r++) {
                        const float4 x4 = x[r * (CU_FEW_K / 4) + (4 * piece + i) * 32];
                        const float xe[4] = {x4.x, x4.y, x4.z, x4.w};
#pragma unroll
                        for (int e = 0; e < 4; e++)
                            part[r][e] = i ? fmaf(xe[e], w4[e], part[r][e]) : xe[e] * w4[e];
                    }
                }
#pragma unroll
                for (int r = 0; r < ROWS; r++)
                    sum[r] =
                        fmaf(scale, (part[r][0] + part[r][1]) + (part[r][2] + part[r][3]), sum[r]);
            }
        }
    }
#pragma unroll
    for (int r = 0; r < ROWS; r++) {
        const float v = warp_sum(sum[r]);
        if (lane == 0 && o < a.n_out && m0 + r < all)
            finish(a, m0 + r, o, v);
    }
}

UT_KERNEL(linear_few_q8_1, cu_linear_args)
{
    linear_few<CU_Q8, 1>(a);
}
UT_KERNEL(linear_few_q8_4, cu_linear_args)
{
    linear_few<CU_Q8, 4>(a);
}
UT_KERNEL(linear_few_q4_1, cu_linear_args)
{
    linear_few<CU_Q4, 1>(a);
}
UT_KERNEL(linear_few_q4_4, cu_linear_args)
{
    linear_few<CU_Q4, 4>(a);
}

/* ---- Many rows ------------------------------------------------------------------------------- */

template <> struct columns<CU_Q8> {
    static UT_DEVICE_MEMBER void load(const cu_linear_args &a, int o, int k, float w[4])
    {
        const uint8_t *row = (const uint8_t *)a.w + (size_t)o * a.ldw;
        const uint32_t q = __ldg((const uint32_t *)(row + k));
        const float scale = scale_at<CU_Q8>(a, o, k);
#pragma unroll
        for (int e = 0; e < 4; e++)
            w[e] = scale * number(q, e, packed<CU_Q8>::BIAS);
    }
};
template <> struct columns<CU_Q4> {
    static UT_DEVICE_MEMBER void load(const cu_linear_args &a, int o, int k, float w[4])
    {
        const uint8_t *row = (const uint8_t *)a.w + (size_t)o * a.ldw / 2;
        const int in = k % CU_Q4_BLOCK;
        const uint32_t both = __ldg((const uint32_t *)(row + (k - in) / 2 + in % 8));
        const uint32_t q = both >> (in < 8 ? 0 : 4) & 0x0f0f0f0fu;
        const float scale = scale_at<CU_Q4>(a, o, k);
#pragma unroll
        for (int e = 0; e < 4; e++)
            w[e] = scale * number(q, e, packed<CU_Q4>::BIAS);
    }
};

UT_KERNEL(linear_tile_q8, cu_linear_args)
{
    linear_tile<CU_Q8>(a);
}
UT_KERNEL(linear_tile_q4, cu_linear_args)
{
    linear_tile<CU_Q4>(a);
}

/* ---- The matrix as products of tiles take it ----------------------------------------------------
 */

template <int TYPE> UT_DEVICE void unpack(const cu_unpack_args &a)
{
    typedef packed<TYPE> P;
    const int64_t at = element() * CU_UNPACK_EACH;
    if (at >= a.n)
        return;
    const float scale = f16_to_f32(__ldg(a.scale + at / P::BLOCK));
    const uint8_t *from = (const uint8_t *)a.src + P::bytes((size_t)at);
    uint32_t q[4], to[8];
    if (TYPE == CU_Q8) {
        pieces<CU_Q8>::split(__ldg((const uint4 *)from), 0, q);
    } else {
        const uint2 v = __ldg((const uint2 *)from);
        pieces<CU_Q4>::split(uint4{v.x, v.y, 0, 0}, 0, q);
    }
#pragma unroll
    for (int i = 0; i < 8; i++) {
        const float v = scale * number(q[i / 2], i % 2 * 2, P::BIAS),
                    w = scale * number(q[i / 2], i % 2 * 2 + 1, P::BIAS);
        to[i] = (uint32_t)f32_to_narrow(a.type, w) << 16 | f32_to_narrow(a.type, v);
    }
    uint4 *dst = (uint4 *)(a.dst + at);
    dst[0] = uint4{to[0], to[1], to[2], to[3]};
    dst[1] = uint4{to[4], to[5], to[6], to[7]};
}

UT_KERNEL(unpack_q8, cu_unpack_args)
{
    unpack<CU_Q8>(a);
}
UT_KERNEL(unpack_q4, cu_unpack_args)
{
    unpack<CU_Q4>(a);
}

/* ---- Making them ----------------------------------------------------------------------------- *
 * A block to a thread, the arithmetic of plan/quant.c. */

/* A block's weights, none larger than `most`, NaN as 0; at: the block, counted through. False: no
 * block for this thread. *top: the largest magnitude. */
template <int BLOCK>
UT_DEVICE bool take(const cu_convert_args &a, float most, float w[BLOCK], size_t *at, float *top)
{
    const int64_t i = element();
    const int blocks = a.ld / BLOCK, row = (int)(i / blocks), k = (int)(i % blocks) * BLOCK;
    if (row >= a.rows)
        return false;
    uint32_t bits = 0;
#pragma unroll
    for (int j = 0; j < BLOCK; j++) {
        w[j] =
            k + j < a.cols ? load_element(a.src_type, a.src, (size_t)row * a.cols + k + j) : 0.0f;
        const uint32_t magnitude = __float_as_uint(w[j]) & 0x7fffffffu;
        bits = magnitude > bits ? magnitude : bits;
    }
    if (bits > __float_as_uint(most)) {
        bits = __float_as_uint(most);
#pragma unroll
        for (int j = 0; j < BLOCK; j++)
            w[j] = w[j] > most ? most : w[j] < -most ? -most : w[j] == w[j] ? w[j] : 0.0f;
    }
    *top = __uint_as_float(bits);
    *at = (size_t)i;
    return true;
}

/* s as f16; the scale's inverse is left in *inverse. */
UT_DEVICE uint16_t scale_of(float s, float *inverse)
{
    const uint16_t h = f32_to_f16(s);
    const float scale = f16_to_f32(h);
    *inverse = scale != 0.0f ? 1.0f / scale : 0.0f;
    return h;
}

/* The number nearest to v, as a byte that is `bias` more. */
UT_DEVICE uint32_t nearest(float v, int low, int high, int bias)
{
    const int q = (int)((v + 12582912.0f) - 12582912.0f);
    return (uint32_t)((q < low ? low : q > high ? high : q) + bias);
}

UT_KERNEL(pack_q8, cu_convert_args)
{
    float w[CU_Q8_BLOCK], top, inverse;
    size_t at;
    if (!take<CU_Q8_BLOCK>(a, 127 * 65504.0f, w, &at, &top))
        return;
    a.scale[at] = scale_of(top / 127.0f, &inverse);
    uint32_t *q = (uint32_t *)((uint8_t *)a.dst + at * CU_Q8_BLOCK);
#pragma unroll
    for (int j = 0; j < CU_Q8_BLOCK; j += 4) {
        uint32_t word = 0;
#pragma unroll
        for (int e = 0; e < 4; e++)
            word |= nearest(w[j + e] * inverse, -127, 127, 128) << (8 * e);
        q[j / 4] = word;
    }
}

UT_KERNEL(pack_q4, cu_convert_args)
{
    float w[CU_Q4_BLOCK], top, inverse;
    size_t at;
    if (!take<CU_Q4_BLOCK>(a, 8 * 65504.0f, w, &at, &top))
        return;
    bool positive = false;
#pragma unroll
    for (int j = 0; j < CU_Q4_BLOCK; j++)
        positive = positive || __float_as_uint(w[j]) == __float_as_uint(top);
    a.scale[at] = scale_of((positive ? top : -top) / -8.0f, &inverse);
    uint32_t *q = (uint32_t *)((uint8_t *)a.dst + at * (CU_Q4_BLOCK / 2));
#pragma unroll
    for (int j = 0; j < CU_Q4_BLOCK / 2; j += 4) {
        uint32_t word = 0;
#pragma unroll
        for (int e = 0; e < 4; e++)
            word |= nearest(w[j + e] * inverse, -8, 7, 8) << (8 * e) |
                    nearest(w[j + e + 8] * inverse, -8, 7, 8) << (8 * e + 4);
        q[j / 4] = word;
    }
}
