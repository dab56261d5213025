/* codec.h - the audio codec of S1-mini: a causal descript audio codec with transformers around the
 * quantiser. Sizes come from the checkpoint's shapes. */
#ifndef UT_MODELS_S1_MINI_CODEC_H
#define UT_MODELS_S1_MINI_CODEC_H

#include "models/model.h"
#include "models/s1_mini/config.h"
#include "nn/codec_blocks.h"
#include "nn/transformer.h"

#define UT_S1_MAX_BLOCKS 8

/* An encoder block: residual units, snake, strided convolution, perhaps a transformer; a decoder
 * block: snake, transposed convolution, residual units. */
typedef struct ut_s1_codec_block {
    ut_resunit units[UT_S1_MAX_DILATIONS];
    const ut_weight *alpha;
    ut_conv conv;
    ut_tf tf;        /* n_layers 0: none */
    int32_t tf_rows; /* its time steps per codec frame */
    int tf_pos;      /* state: steps so far */
} ut_s1_codec_block;

typedef struct ut_s1_codec {
    int32_t n_units;                  /* residual units per block */
    int32_t n_enc, n_dec, n_resample; /* blocks; down- and up-sampling stages */
    ut_conv enc_in, enc_out, dec_in, dec_out;
    const ut_weight *enc_alpha, *dec_alpha;
    ut_s1_codec_block enc[UT_S1_MAX_BLOCKS], dec[UT_S1_MAX_BLOCKS];
    ut_conv down[UT_S1_MAX_BLOCKS], up[UT_S1_MAX_BLOCKS];
    ut_convnext down_next[UT_S1_MAX_BLOCKS], up_next[UT_S1_MAX_BLOCKS];
    ut_tf pre, post; /* one step per codec frame */
    int pre_pos, post_pos;
    ut_rvq rvq;
    int32_t hop_samples;
} ut_s1_codec;

/* Load all tensors (names of specification section 7), fill codec's sizes and state sets. */
void ut_s1_codec_load(ut_loader *l, ut_s1_codec *c, const ut_s1_config *config, ut_codec *codec);

/* Write the plans codec->decode and codec->encode. */
utter_status ut_s1_codec_plans(const ut_s1_codec *c, const ut_model_options *options,
                               ut_codec *codec, ut_err *err);

#endif
