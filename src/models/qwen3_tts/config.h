/* config.h - the configuration files of a Qwen3-TTS checkpoint: config.json, generation_config.json
 * and speech_tokenizer/config.json. */
#ifndef UT_MODELS_QWEN3_TTS_CONFIG_H
#define UT_MODELS_QWEN3_TTS_CONFIG_H

#include "base/arena.h"
#include "base/err.h"
#include <stdbool.h>
#include <stdint.h>

#define UT_Q3_MAX_GROUPS 32 /* code groups */
#define UT_Q3_MAX_STAGES 8  /* convolution stages of the codec */
#define UT_Q3_MAX_BLOCKS 8  /* of the speaker encoder, the last included */
#define UT_Q3_EXTRA_IDS                                                                            \
    1024 /* at the end of the codec vocabulary: no codes, but one may end speech */

typedef enum ut_q3_kind { UT_Q3_BASE, UT_Q3_CUSTOM_VOICE, UT_Q3_VOICE_DESIGN } ut_q3_kind;

/* A stack of layers. */
typedef struct ut_q3_tf_config {
    int32_t hidden_size, intermediate_size, num_hidden_layers;
    int32_t num_attention_heads, num_key_value_heads, head_dim;
    int32_t sliding_window; /* 0: none */
    float norm_eps, rope_theta;
} ut_q3_tf_config;

typedef struct ut_q3_name_id {
    const char *name; /* lower case */
    int32_t id;
    const char *dialect; /* of a speaker: the name of a language, or NULL */
} ut_q3_name_id;

typedef struct ut_q3_sampling {
    bool do_sample;
    float temperature, top_p, repetition_penalty;
    int32_t top_k;
} ut_q3_sampling;

typedef struct ut_q3_config {
    ut_q3_kind kind;
    bool drops_instruct; /* CustomVoice of 0.6B was not trained with instructions */
    int32_t im_start, im_end, assistant;
    int32_t tts_pad, tts_bos, tts_eos; /* text tokens */

    ut_q3_tf_config talker, predictor;
    int32_t text_vocab_size, text_hidden_size;
    int32_t vocab_size;      /* of the codec's ids */
    int32_t code_vocab_size; /* of the predictor */
    int32_t num_code_groups, max_positions;
    int32_t codec_pad, codec_bos, codec_eos;
    int32_t codec_think, codec_nothink, codec_think_bos, codec_think_eos;
    int32_t n_languages, n_speakers;
    const ut_q3_name_id *languages, *speakers; /* in the caller's arena */

    ut_q3_sampling sampling, sub_sampling; /* of the first code, of the others */

    struct {
        int32_t enc_dim, mel_dim, n_blocks; /* n_blocks 0: no speaker encoder */
        int32_t channels[UT_Q3_MAX_BLOCKS], kernels[UT_Q3_MAX_BLOCKS], dilations[UT_Q3_MAX_BLOCKS];
        int32_t attention_channels, res2net_scale, se_channels, sample_rate;
    } speaker;

    struct {
        int32_t sample_rate;
        int32_t codebook_dim, latent_dim, decoder_dim;
        int32_t n_upsample, upsampling_ratios[UT_Q3_MAX_STAGES];
        int32_t n_blocks, upsample_rates[UT_Q3_MAX_STAGES];
        ut_q3_tf_config decoder, encoder;
        int32_t num_filters, n_stages, encoder_ratios[UT_Q3_MAX_STAGES]; /* as listed: last first */
        int32_t encoder_positions; /* of a recording, at twice the frame rate */
    } codec;

    /* The optional object "utter" of config.json. */
    int32_t encoder_window;      /* 0: the encoder's attention sees everything before it */
    int32_t max_chunk_chars;     /* 300 */
    float frames_per_char_limit; /* 6: runaway guard */
    float runaway_s;             /* 4: another, see ut_model_defaults */
    char default_voice[65];      /* "": none */
} ut_q3_config;

/* Read the three files; strings and lists go to arena. Errors name file, field, what was found and
 * what was expected. */
utter_status ut_q3_config_read(ut_q3_config *c, const char *dir, ut_arena *arena, ut_err *err);
/* Languages and speakers of config.json alone. */
utter_status ut_q3_config_names(ut_q3_config *c, const char *dir, ut_arena *arena, ut_err *err);

#endif
