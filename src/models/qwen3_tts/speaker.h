/* speaker.h - the speaker encoder of the Base checkpoints: an ECAPA-TDNN over a log-mel spectrum.
 */
#ifndef UT_MODELS_QWEN3_TTS_SPEAKER_H
#define UT_MODELS_QWEN3_TTS_SPEAKER_H

#include "audio/mel.h"
#include "models/model.h"
#include "models/qwen3_tts/config.h"
#include "nn/conv.h"

#define UT_Q3_MAX_SCALE 64

/* A convolution that keeps the length: the signal is mirrored at its ends. */
typedef struct ut_q3_tdnn {
    ut_conv conv;
    int32_t left, right; /* mirrored rows */
} ut_q3_tdnn;

/* 1x1, Res2Net over groups of channels, 1x1, squeeze and excitation; around it a residual. */
typedef struct ut_q3_se_block {
    ut_q3_tdnn tdnn1, tdnn2;
    ut_q3_tdnn groups[UT_Q3_MAX_SCALE]; /* [scale - 1]: the first group passes */
    ut_conv se1, se2;
} ut_q3_se_block;

typedef struct ut_q3_speaker {
    int32_t n_blocks, scale; /* SE blocks */
    ut_q3_tdnn first, mfa;
    ut_q3_se_block blocks[UT_Q3_MAX_BLOCKS];
    ut_conv asp_tdnn, asp_conv, fc;
} ut_q3_speaker;

/* Load "speaker_encoder.*", fill encoder's sizes. */
void ut_q3_speaker_load(ut_loader *l, ut_q3_speaker *s, const ut_q3_config *c,
                        ut_speaker_encoder *encoder);
/* Write the plan encoder->plan. */
utter_status ut_q3_speaker_plan(const ut_q3_speaker *s, const ut_model_options *options,
                                ut_speaker_encoder *encoder, ut_err *err);
/* The spectrum that the plan takes. */
ut_mel_params ut_q3_speaker_mel(const ut_q3_config *c);

#endif
