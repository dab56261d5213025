/* lm.h - the language model of Qwen3-TTS: the talker makes a frame's first code, the code predictor
 * the others. */
#ifndef UT_MODELS_QWEN3_TTS_LM_H
#define UT_MODELS_QWEN3_TTS_LM_H

#include "models/model.h"
#include "models/qwen3_tts/config.h"
#include "nn/ar.h"
#include "nn/transformer.h"

typedef struct ut_q3_lm {
    const ut_weight *text_embedding;          /* [text vocabulary, text_hidden] */
    const ut_weight *fc1, *fc1_bias;          /* [text_hidden, text_hidden] */
    const ut_weight *fc2, *fc2_bias;          /* [H, text_hidden] */
    const ut_weight *codec_embedding;         /* [codec vocabulary, H] */
    const ut_weight *embeddings;              /* that and those of the other groups, one below the
                                                 other */
    const ut_weight *norm, *head_all;         /* [1, H]; [codec vocabulary, H] */
    const ut_weight *head;                    /* the ids that may be chosen: codes, and stop */
    const ut_weight *mtp, *mtp_bias;          /* [predictor's hidden, H], or NULL */
    const ut_weight *predictor_norm;          /* [1, predictor's hidden] */
    const ut_weight *heads[UT_Q3_MAX_GROUPS]; /* [g - 1] of group g: [codes, predictor's hidden] */
    const ut_weight *group[UT_Q3_MAX_GROUPS]; /* [g] the embedding of group g; 0: codec_embedding */
    int32_t sizes[UT_Q3_MAX_GROUPS];          /* rows of each */
    ut_tf talker, predictor;
    int32_t n_groups, n_codes; /* codes that group 0 can have */
    int32_t eos, pad;          /* codec id that stops; text token of no text */
    int32_t hidden;            /* H */
    bool takes_speaker;        /* prefill has the input "speaker" */
    ut_ar_states state;
    int chosen;       /* i32 [1, n_codes + 1]: first codes of all frames, for the penalty */
    int text;         /* i32 [capacity, 1]: see ut_ar.text */
    int32_t capacity; /* positions */
} ut_q3_lm;

/* Load all tensors (names of specification section 2) and define the states in ar->states. */
void ut_q3_lm_load(ut_loader *l, ut_q3_lm *lm, const ut_q3_config *c,
                   const ut_model_options *options, ut_ar *ar);

/* Write the plans ar->prefill and ar->frame. */
utter_status ut_q3_lm_plans(const ut_q3_lm *lm, const ut_model_options *options, ut_ar *ar,
                            ut_err *err);

#endif
