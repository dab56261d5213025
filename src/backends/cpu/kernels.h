/* kernels.h - the arithmetic of the CPU backend as one table of functions, filled once from the
 * processor's features: the scalar version for every entry, then AVX2 and AVX-512 replace what they
 * do better. Nothing here knows plans, threads or memory management.
 *
 * Rules of every entry. Pointers need the alignment of their element only. y overlaps no input
 * unless the entry says so. What is computed for a row depends on that row's operands only, never
 * on how many rows a call handles, so a row is bit-identical alone and among others. The scalar
 * versions round after every multiplication and every addition; the vector versions use fused
 * multiply-adds, in the same order. */
#ifndef UT_BACKENDS_CPU_KERNELS_H
#define UT_BACKENDS_CPU_KERNELS_H

#include "plan/plan.h"
#include "plan/quant.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* ---- Linear --------------------------------------------------------------------------------- *
 * A matrix [n_out, K] is packed into panels of `panel` outputs: [ceil(n_out / panel)][K][panel]
 * elements, outputs past n_out zero. In bf16 panels of vector variants output i of the panel's
 * lower half and output i of its upper half are neighbours, low then high 16 bits of a word.
 *
 * Panels of the block-wise types (plan/quant.h) hold for every block its scales, f16 [panel], then
 * its numbers, k inside: q8 int8 [block][panel]; q4 [block][panel / 2] bytes, output i + 8 in the
 * low four bits and output i + panel / 2, + 8 likewise, in the high ones. A weight is scale *
 * number, which is exact, so the sums below have the bits of a matrix of those weights. */

/* y[r, o] = residual[r, o] + gamma[o] * act(b[o] + sum_k x(r, k) w[o, k]).
 * k runs over n_seg segments of seg elements, K = n_seg * seg: x(r, s * seg + i) is
 * x[r * x_stride + s * seg_stride + i]. The sum is one chain over k = 0 .. K-1 from zero for each
 * output, then the bias is added: its order depends on K only. */
typedef struct ut_linear_job {
    const float *x;
    int64_t x_stride, seg_stride; /* elements */
    int32_t seg, n_seg;
    const void *w; /* packed, 64-byte aligned */
    int32_t n_out;
    ut_act act;
    /* [n_out] padded with zeros to whole panels; NULL: 0, 1; inv_beta is 1 / (beta + 1e-9) */
    const float *bias, *gamma, *alpha, *inv_beta;
    const float *residual; /* [rows, n_out] or NULL */
    float *y;              /* [rows, n_out] */
} ut_linear_job;

/* Rows [row0, row1) of panels [panel0, panel1). */
typedef void ut_linear_fn(const ut_linear_job *j, int32_t row0, int32_t row1, int32_t panel0,
                          int32_t panel1);

/* Element type of packed panels. */
typedef enum ut_packing {
    UT_PACK_F32,
    UT_PACK_BF16,
    UT_PACK_F16,
    UT_PACK_Q8,
    UT_PACK_Q4,
    UT_PACK_COUNT
} ut_packing;

/* Columns of a block; 0: the type has none. */
static inline int32_t ut_pack_block(ut_packing t)
{
    return t == UT_PACK_Q8 ? UT_Q8_BLOCK : t == UT_PACK_Q4 ? UT_Q4_BLOCK : 0;
}

/* Bytes of one column of a panel, scales left out. */
static inline size_t ut_pack_column(ut_packing t, int32_t panel)
{
    const size_t n = (size_t)panel;
    return t == UT_PACK_F32 ? 4 * n : t == UT_PACK_Q8 ? n : t == UT_PACK_Q4 ? n / 2 : 2 * n;
}

/* Bytes of the first k columns of a panel; k the start of a block, or all columns. */
static inline size_t ut_pack_bytes(ut_packing t, int32_t panel, int32_t k)
{
    const int32_t block = ut_pack_block(t);
    const size_t scales =
        block ? (size_t)((k + block - 1) / block) * (size_t)panel * sizeof(uint16_t) : 0;
    return (size_t)k * ut_pack_column(t, panel) + scales;
}

/* ---- Attention ------------------------------------------------------------------------------ */

/* n_rows query positions, one after another, and the n_rep heads that share a kv head:
 * y[r, h] = softmax(scale q[r, h] K^T) V over the positions p with pos + r - reach < p <= pos + r
 * and p >= 0, which lie in cache rows p % capacity. */
typedef struct ut_attention_job {
    const float *q; /* [n_rows, n_rep, dim], rows every row_stride elements */
    float *y;       /* likewise */
    int64_t row_stride;
    int32_t n_rows, pos; /* pos of row 0 */
    int32_t reach;       /* >= 1; reach + n_rows - 1 <= capacity, or all positions < capacity */
    const void *k, *v;   /* caches at this kv head; a position every kv_stride elements */
    int64_t kv_stride;
    bool bf16; /* of the caches, else f32 */
    int32_t capacity, dim, n_rep;
    float scale;
    float *scores; /* scratch: ut_attention_scores(n_rows, n_rep, largest count of positions) */
    float *block;  /* scratch: [UT_ATTENTION_BLOCK, dim]; only used for several rows */
} ut_attention_job;

enum { UT_ATTENTION_BLOCK = 64 }; /* positions that are worked on together */

/* Floats. */
static inline size_t ut_attention_scores(int32_t n_rows, int32_t n_rep, int32_t n_positions)
{
    return (size_t)n_rows * (size_t)(n_rep < 4 ? n_rep : 4) * ((size_t)n_positions + 32);
}

/* ---- The table ------------------------------------------------------------------------------ */

typedef struct ut_kernels {
    const char *name;  /* of the variant most entries come from */
    int32_t panel;     /* outputs per packed panel: 16 or 32 */
    int32_t row_block; /* rows that the linear kernel works on at once */
    bool bf16_pairs;   /* bf16 panels are in pair order */
    ut_linear_fn *linear[UT_PACK_COUNT];

    /* y = x * rsqrt(mean(x^2) + eps) * w; x, y [rows, cols]. y may be x. */
    void (*rms_norm)(float *y, const float *x, const float *w, float eps, int32_t rows,
                     int32_t cols);
    /* y = (x - mean) * rsqrt(var + eps) * w + b. y may be x. */
    void (*layer_norm)(float *y, const float *x, const float *w, const float *b, float eps,
                       int32_t rows, int32_t cols);
    /* y[r, i] = silu(x[r, i]) * x[r, n + i]; x [rows, 2 n] -> y [rows, n]. */
    void (*swiglu)(float *y, const float *x, int32_t rows, int32_t n);
    /* y = x + sin^2(alpha x) * inv_beta; alpha, inv_beta [cols]. y may be x. */
    void (*snake)(float *y, const float *x, const float *alpha, const float *inv_beta, int32_t rows,
                  int32_t cols);
    /* y = act(x), not UT_ACT_SNAKE. y may be x. */
    void (*act)(float *y, const float *x, ut_act act, int64_t n);
    /* y[r, c] = residual[r, c] + x[r, c] * gain[c]; residual NULL: 0. y may be x or residual. */
    void (*scale)(float *y, const float *x, const float *gain, const float *residual, int32_t rows,
                  int32_t cols);
    /* y[r, c] = b[c] + sum_j w[j, c] x[r + j, c], j < taps: x starts at the oldest row that row 0
     * sees. w [taps, cols]. */
    void (*dwconv)(float *y, const float *x, const float *w, const float *b, int32_t rows,
                   int32_t cols, int32_t taps);
    /* One head: RMS norm with gain (NULL: none), then rotation of the pairs (2i, 2i+1) by
     * angles[2i] = cos, angles[2i+1] = sin. dim even. y may be x. */
    void (*rotate_head)(float *y, const float *x, const float *gain, float eps, const float *angles,
                        int32_t dim);
    /* The same for the pairs (i, i + dim / 2), by cos = cos_sin[i], sin = cos_sin[dim / 2 + i]. */
    void (*rotate_halves)(float *y, const float *x, const float *gain, float eps,
                          const float *cos_sin, int32_t dim);
    void (*to_bf16)(uint16_t *y, const float *x, int32_t n); /* nearest even; NaN stays NaN */
    void (*attention)(const ut_attention_job *j);
    float (*max)(const float *x, int32_t n); /* n >= 1 */
    /* y = exp((x - max) * scale); returns their sum. y may be x. */
    float (*exp_sum)(float *y, const float *x, float max, float scale, int32_t n);
} ut_kernels;

/* cpu: UT_CPU_* flags that may be used. */
void ut_kernels_init(ut_kernels *k, unsigned cpu);

/* One per file; each overwrites its entries. */
void ut_kernels_linear_scalar(ut_kernels *k);
void ut_kernels_rows_scalar(ut_kernels *k);
void ut_kernels_attention_scalar(ut_kernels *k);
void ut_kernels_linear_avx2(ut_kernels *k);
void ut_kernels_rows_avx2(ut_kernels *k);
void ut_kernels_attention_avx2(ut_kernels *k);
void ut_kernels_linear_avx512(ut_kernels *k);
void ut_kernels_rows_avx512(ut_kernels *k);
void ut_kernels_attention_avx512(ut_kernels *k);

#endif
