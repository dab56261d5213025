/* codec_blocks.h - the blocks that neural audio codecs are made of: snake residual units, ConvNeXt,
 * and residual vector quantisation with factorised, cosine-searched codebooks (the descript audio
 * codec's). */
#ifndef UT_NN_CODEC_BLOCKS_H
#define UT_NN_CODEC_BLOCKS_H

#include "nn/conv.h"

/* x + conv1(snake(conv7_dilated(snake(x)))). */
typedef struct ut_resunit {
    const ut_weight *alpha1, *alpha2; /* [1, C] */
    ut_conv conv1, conv2;
} ut_resunit;

/* "<prefix>.block.{0.alpha, 1.conv, 2.alpha, 3.conv}" on `channels`. */
void ut_resunit_load(ut_loader *l, ut_resunit *u, int32_t channels, int32_t dilation,
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

/* A stack of quantisers: e = in(r), code = nearest(e), r -= out(table[code]). */
typedef struct ut_rvq {
    int32_t n, dim;            /* quantisers; width of r */
    int32_t sizes[UT_RVQ_MAX]; /* entries of each codebook */
    int32_t code_dim;
    struct {
        const ut_weight *in, *in_bias;       /* [d, dim], [1, d] */
        const ut_weight *table;              /* [entries, d] */
        const ut_weight *neg_out, *neg_bias; /* -[dim, d], -[1, dim]: so that r + it = r - out */
    } q[UT_RVQ_MAX];
    const ut_weight *tables;         /* all codebooks below one another */
    const ut_weight *out, *out_bias; /* [dim, n * d] side by side; sum of the biases */
} ut_rvq;

/* Append the quantiser "<prefix>.{in_proj, out_proj, codebook.weight}"; call ut_rvq_finish after
 * the last. */
void ut_rvq_load(ut_loader *l, ut_rvq *r, const char *prefix);
void ut_rvq_finish(ut_loader *l, ut_rvq *r);

/* codes i32 [rows, n] -> sum of the dequantised codebooks [rows, dim]. */
ut_tid ut_rvq_decode(ut_plan *p, const ut_rvq *r, ut_tid codes);
/* x [rows, dim] -> codes i32 [rows, n]. Taps "<label>.e<j>" are the projected vectors. */
ut_tid ut_rvq_encode(ut_plan *p, const ut_rvq *r, ut_tid x, const char *label);

#endif
