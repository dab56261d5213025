/* codec_blocks.h - the blocks that neural audio codecs are made of: snake activations and residual
 * units, ConvNeXt, and residual vector quantisation: with factorised, cosine-searched codebooks
 * (the descript audio codec's), or with averaged codebooks searched by distance between one
 * projection in and one out (Mimi's). */
#ifndef UT_NN_CODEC_BLOCKS_H
#define UT_NN_CODEC_BLOCKS_H

#include "nn/conv.h"

/* x + sin^2(alpha x) / (beta + 1e-9). */
typedef struct ut_snake {
    const ut_weight *alpha, *beta; /* [1, C]; the same where there is no beta of its own */
} ut_snake;

/* "<prefix>.alpha". */
void ut_snake_load(ut_loader *l, ut_snake *s, int32_t channels, const char *prefix);
/* "<prefix>.{alpha, beta}", stored as logarithms. */
void ut_snake_load_log(ut_loader *l, ut_snake *s, int32_t channels, const char *prefix);
ut_tid ut_snake_emit(ut_plan *p, const ut_snake *s, ut_tid x);

/* x + conv1(snake(conv7_dilated(snake(x)))). */
typedef struct ut_resunit {
    ut_snake snake1, snake2;
    ut_conv conv1, conv2;
} ut_resunit;

/* "<prefix>.block.{0.alpha, 1.conv, 2.alpha, 3.conv}" on `channels`. */
void ut_resunit_load(ut_loader *l, ut_resunit *u, int32_t channels, int32_t dilation,
                     ut_state_set *states, const char *prefix);
/* "<prefix>.{act1, conv1.conv, act2, conv2.conv}" with ut_snake_load_log. */
void ut_resunit_load_log(ut_loader *l, ut_resunit *u, int32_t channels, int32_t dilation,
                         ut_state_set *states, const char *prefix);
ut_tid ut_resunit_emit(ut_plan *p, const ut_resunit *u, ut_tid x);

/* x + gamma * W2 gelu(W1 LN(depthwise(x))). */
typedef struct ut_convnext {
    const ut_weight *dw, *dw_bias; /* [C, k], [1, C] */
    const ut_weight *norm_w, *norm_b;
    const ut_weight *w1, *b1, *w2, *b2;
    const ut_weight *gamma;
    int state;
} ut_convnext;

/* "<prefix>.{dwconv.conv, norm, pwconv1, pwconv2, gamma}". */
void ut_convnext_load(ut_loader *l, ut_convnext *c, int32_t channels, ut_state_set *states,
                      const char *prefix);
ut_tid ut_convnext_emit(ut_plan *p, const ut_convnext *c, ut_tid x);

#define UT_RVQ_MAX 32

/* A stack of quantisers: e = in(r), code = nearest(e), r -= out(table[code]). With a shared
 * projection r is projected once, and neither in nor out are of the single quantisers. */
typedef struct ut_rvq {
    int32_t n, dim;            /* quantisers; width of what goes in and comes out */
    int32_t sizes[UT_RVQ_MAX]; /* entries of each codebook */
    int32_t code_dim;
    struct {
        const ut_weight *in, *in_bias;       /* [d, dim], [1, d] */
        const ut_weight *table;              /* [entries, d] */
        const ut_weight *neg_out, *neg_bias; /* -[dim, d], -[1, dim]: so that r + it = r - out */
    } q[UT_RVQ_MAX];
    const ut_weight *tables;         /* all codebooks below one another */
    const ut_weight *out, *out_bias; /* [dim, n * d] side by side; sum of the biases */
    bool shared;
    const ut_weight *shared_in, *shared_out; /* [d, dim], [dim, d]; NULL: not loaded */
} ut_rvq;

/* Append the quantiser "<prefix>.{in_proj, out_proj, codebook.weight}"; call ut_rvq_finish after
 * the last. */
void ut_rvq_load(ut_loader *l, ut_rvq *r, const char *prefix);
void ut_rvq_finish(ut_loader *l, ut_rvq *r);

/* A stack with shared projections: n quantisers of codebook "<codebooks><j>.<sum>" divided by
 * max("<codebooks><j>.<...>cluster_usage", 1e-5), where sum names a tensor next to cluster_usage;
 * the projections are "<in>.weight" and "<out>.weight" [.., .., 1], either NULL when not needed. */
void ut_rvq_load_shared(ut_loader *l, ut_rvq *r, int32_t n, const char *codebooks, const char *sum,
                        const char *in, const char *out);

/* Columns [first_col, first_col + n) of codes i32 [rows, ..] -> residual (or UT_NONE: 0) + sum of
 * the dequantised codebooks [rows, dim]. */
ut_tid ut_rvq_decode(ut_plan *p, const ut_rvq *r, ut_tid codes, int32_t first_col, ut_tid residual);
/* x [rows, dim] -> columns [first_col, first_col + n) of codes i32 [rows, ..]. Taps "<label>.e<j>"
 * are the vectors that were searched for, j counted by column. */
void ut_rvq_encode(ut_plan *p, const ut_rvq *r, ut_tid x, ut_tid codes, int32_t first_col,
                   const char *label);

#endif
