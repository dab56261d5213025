/* prompt.h - requests as columns of ids (specification, sections 4 and 5). */
#ifndef UT_MODELS_QWEN3_TTS_PROMPT_H
#define UT_MODELS_QWEN3_TTS_PROMPT_H

#include "models/model.h"
#include "models/qwen3_tts/config.h"
#include "text/bpe.h"

/* What a prompt is made with. */
typedef struct ut_q3_writer {
    const ut_q3_config *config;
    const ut_bpe *bpe;
    const int32_t *codebook_sizes; /* [num_code_groups] */
} ut_q3_writer;

/* The whole prompt; everything the model cannot do is an error here. */
utter_status ut_q3_prompt(const ut_q3_writer *w, const ut_request *request, ut_prompt *out,
                          ut_err *err);

/* Append the tokens of a text, and its end unless it is open. */
utter_status ut_q3_text(const ut_q3_writer *w, const char *text, bool open, ut_buf *ids,
                        ut_err *err);

/* Append the ids of a wrapped string: 't': <|im_start|>assistant\nTEXT<|im_end|>\n<|im_start|>
 * assistant\n, 'r': <|im_start|>assistant\nTEXT<|im_end|>\n, 'i': <|im_start|>user\nTEXT<|im_end|>
 * \n. */
utter_status ut_q3_wrap(const ut_q3_writer *w, char kind, const char *text, ut_buf *ids,
                        ut_err *err);

#endif
