/* mkmodel.h - what each model family provides to mkmodel. */
#ifndef UT_TOOLS_MKMODEL_H
#define UT_TOOLS_MKMODEL_H

#include "base/err.h"
#include <stdbool.h>
#include <stdint.h>

typedef enum model_size {
    MODEL_FULL,   /* the published dimensions */
    MODEL_TINY,   /* the same structure in less than 3 MB */
    MODEL_NARROW, /* tiny, but the language model just wide enough for the kernels of the
                     published widths: what a race checker gets to the end of */
    MODEL_SIZES
} model_size;

/* Write a checkpoint with random values into an existing, empty directory. */
typedef utter_status mkmodel_fn(const char *dir, model_size size, uint64_t seed, ut_err *err);

mkmodel_fn mkmodel_s1_mini;
/* CustomVoice; with _base the speaker encoder in place of speakers; _design neither. */
mkmodel_fn mkmodel_qwen3_tts_06b, mkmodel_qwen3_tts_06b_base;
mkmodel_fn mkmodel_qwen3_tts_17b, mkmodel_qwen3_tts_17b_base, mkmodel_qwen3_tts_17b_design;

#endif
