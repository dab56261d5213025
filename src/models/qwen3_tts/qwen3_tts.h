/* qwen3_tts.h - the Qwen3-TTS 12 Hz family: Base, CustomVoice and VoiceDesign checkpoints. */
#ifndef UT_MODELS_QWEN3_TTS_QWEN3_TTS_H
#define UT_MODELS_QWEN3_TTS_QWEN3_TTS_H

#include "models/model.h"

extern const ut_model_ops ut_qwen3_tts_ops;

/* Ids of a text, for tools that compare with the reference implementation: with specials, names of
 * added tokens in the text become their token. m is of this family. */
utter_status ut_qwen3_tts_encode(const ut_model *m, const char *text, size_t n, bool specials,
                                 ut_buf *ids, ut_err *err);
/* The ids of the strings that the reference wraps around a text, a reference text and an
 * instruction; `kind` is 't', 'r' or 'i'. */
utter_status ut_qwen3_tts_wrap(const ut_model *m, char kind, const char *text, ut_buf *ids,
                               ut_err *err);
/* Bands of the speaker encoder's spectrum [speaker.n_features, n_bins], newly allocated. */
float *ut_qwen3_tts_filterbank(const ut_model *m, int32_t *n_bins);
/* Does the model not take instructions although it is of a kind that does? */
bool ut_qwen3_tts_drops_instruct(const ut_model *m);

#endif
