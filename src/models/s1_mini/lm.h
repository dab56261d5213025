/* lm.h - the DualAR language model of S1-mini: a slow transformer that makes one token per frame,
 * and a fast one that makes the frame's codes. */
#ifndef UT_MODELS_S1_MINI_LM_H
#define UT_MODELS_S1_MINI_LM_H

#include "models/model.h"
#include "models/s1_mini/config.h"
#include "nn/ar.h"
#include "nn/transformer.h"

/* Token ids that the tokenizer fixes. */
typedef struct ut_s1_ids {
    int32_t im_end, semantic_begin, semantic_end;
} ut_s1_ids;

typedef struct ut_s1_lm {
    const ut_weight *embeddings, *codebook_embeddings; /* [V, dim]; [Q * codebook_size, dim] */
    const ut_weight *norm, *output;                    /* [1, dim]; [ids scored, dim] */
    const ut_weight *fast_in, *fast_in_bias;           /* [fast_dim, dim], or NULL */
    const ut_weight *fast_embeddings;                  /* [codebook_size, fast_dim] */
    const ut_weight *fast_norm, *fast_output;          /* [fast_codes, fast_dim] */
    const ut_weight *fast_output_all;                  /* [codebook_size, fast_dim], for taps */
    ut_tf slow, fast;
    int32_t codebook_size, num_codebooks, fast_codes;
    float embed_scale;
    int32_t id_first, n_range, id_extra; /* what row i of output scores */
    ut_s1_ids ids;
    ut_ar_states state;
    int history;      /* i32 [UT_HISTORY_FRAMES, columns]: for the penalty */
    int32_t capacity; /* positions */
} ut_s1_lm;

/* Load all tensors (names of specification section 2) and define the states in ar->states. */
void ut_s1_lm_load(ut_loader *l, ut_s1_lm *lm, const ut_s1_config *c, const ut_s1_ids *ids,
                   const ut_model_options *options, ut_ar *ar);

/* Write the plans ar->prefill and ar->frame. */
utter_status ut_s1_lm_plans(const ut_s1_lm *lm, const ut_model_options *options, ut_ar *ar,
                            ut_err *err);

#endif
