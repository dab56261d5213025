/* codec.h - the 12 Hz speech tokenizer of Qwen3-TTS: an encoder after Mimi and a decoder of its
 * own, both causal. */
#ifndef UT_MODELS_QWEN3_TTS_CODEC_H
#define UT_MODELS_QWEN3_TTS_CODEC_H

#include "models/model.h"
#include "models/qwen3_tts/config.h"
#include "nn/codec_blocks.h"
#include "nn/transformer.h"

#define UT_Q3_UNITS 3 /* residual units of a decoder block */

typedef struct ut_q3_decoder {
    ut_rvq first, rest; /* group 0; the others */
    ut_conv pre_conv;
    const ut_weight *in, *in_bias, *out, *out_bias; /* around the transformer */
    ut_tf tf;
    int pos;
    int32_t n_upsample, n_blocks;
    ut_conv up[UT_Q3_MAX_STAGES];
    ut_convnext up_next[UT_Q3_MAX_STAGES];
    ut_conv conv_in, conv_out;
    struct {
        ut_snake snake;
        ut_conv conv;
        ut_resunit units[UT_Q3_UNITS];
    } blocks[UT_Q3_MAX_STAGES];
    ut_snake snake_out;
} ut_q3_decoder;

typedef struct ut_q3_encoder {
    ut_conv conv_in, conv_out, down;
    int32_t n_stages;
    struct {
        ut_conv conv1, conv2; /* of the residual unit */
        ut_conv conv;         /* strided */
        int32_t hop;          /* samples per step in front of it */
    } stages[UT_Q3_MAX_STAGES];
    ut_tf tf;
    int pos;
    int32_t tf_rows; /* steps of the transformer per frame */
    ut_rvq semantic, acoustic;
} ut_q3_encoder;

typedef struct ut_q3_codec {
    ut_q3_decoder dec;
    ut_q3_encoder enc;
    int32_t sizes[UT_Q3_MAX_GROUPS]; /* entries of the codebooks */
    int32_t n_groups, hop_samples;
} ut_q3_codec;

/* Load all tensors (names of specification section 2), fill codec's sizes and state sets. */
void ut_q3_codec_load(ut_loader *l, ut_q3_codec *c, const ut_q3_config *config, ut_codec *codec);

/* Write the plans codec->decode and codec->encode. */
utter_status ut_q3_codec_plans(const ut_q3_codec *c, const ut_model_options *options,
                               ut_codec *codec, ut_err *err);

#endif
