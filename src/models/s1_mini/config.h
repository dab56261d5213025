/* config.h - config.json of an S1-mini checkpoint, defaults included. */
#ifndef UT_MODELS_S1_MINI_CONFIG_H
#define UT_MODELS_S1_MINI_CONFIG_H

#include "base/err.h"
#include <stdbool.h>
#include <stdint.h>

#define UT_S1_MAX_DILATIONS 8

/* One of the two transformers of the language model. */
typedef struct ut_s1_tf_config {
    int32_t n_layer, n_head, n_local_heads, head_dim, dim, intermediate_size;
    bool attention_qkv_bias, attention_o_bias, attention_qk_norm;
} ut_s1_tf_config;

typedef struct ut_s1_config {
    int32_t vocab_size, max_seq_len, codebook_size, num_codebooks;
    float rope_base, norm_eps;
    bool tie_word_embeddings, scale_codebook_embeddings;
    ut_s1_tf_config slow, fast;

    /* The optional object "utter": what the reference implementation hard-codes. */
    int32_t sample_rate;    /* 44100 */
    int32_t fast_codes;     /* ids that fast decisions choose from: min(1024, codebook_size) */
    int32_t encoder_window; /* 512: attention window of the encoder's transformer, in steps */
    int32_t window;         /* 128: of the quantizer's transformers, in frames */
    float codec_norm_eps, codec_rope_base;               /* 1e-5, 10000 */
    int32_t n_dilations, dilations[UT_S1_MAX_DILATIONS]; /* 1, 3, 9 */
    float temperature, top_p, repetition_penalty;        /* 0.8, 0.8, 1.1 */
    int32_t max_chunk_chars;                             /* 300: longest text of one generation */
    float frames_per_char_limit; /* 6, some four times what speech takes; 0 or null: no runaway
                                    guard */
    float runaway_s;             /* 4: another, see ut_model_defaults */
    char default_voice[65];      /* "": none */
} ut_s1_config;

/* Read DIR/config.json; errors name file, field, what was found and what was expected. */
utter_status ut_s1_config_read(ut_s1_config *c, const char *dir, ut_err *err);

#endif
