/* qwen3_tts_files.h - sizes of a Qwen3-TTS checkpoint made by mkmodel, and its text files. */
#ifndef UT_TOOLS_QWEN3_TTS_FILES_H
#define UT_TOOLS_QWEN3_TTS_FILES_H

#include "base/err.h"
#include <stdint.h>

typedef enum q3_kind { Q3_BASE, Q3_CUSTOM_VOICE, Q3_VOICE_DESIGN } q3_kind;

typedef struct q3_stack {
    int64_t hidden, ffn, layers, heads, kv_heads, head_dim;
} q3_stack;

enum { Q3_SPEAKER_BLOCKS = 5, Q3_STAGES = 4, Q3_EXTRA_IDS = 1024 };

typedef struct q3_sizes {
    const char *model_size; /* "0b6" */
    int64_t n_tokens;       /* of vocab.json */
    int64_t text_vocab, text_hidden;
    int64_t codes, groups; /* entries of a codebook; codebooks */
    q3_stack talker, predictor, decoder, encoder;
    int64_t window, latent, codebook_dim, decoder_dim; /* of the codec's decoder */
    int64_t filters, encoder_code_dim, encoder_groups; /* of its encoder */
    int64_t speaker_channels[Q3_SPEAKER_BLOCKS], speaker_attention, speaker_se, speaker_scale;
} q3_sizes;

/* config.json, generation_config.json, tokenizer_config.json, vocab.json, merges.txt and
 * speech_tokenizer/config.json, whose folder exists. */
utter_status q3_write_files(const char *dir, const q3_sizes *s, q3_kind kind, ut_err *err);

#endif
