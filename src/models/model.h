/* model.h - what the engine knows of a model: a family that opens checkpoint directories, the
 * plans it wrote, and how a request becomes a prompt. No backend is visible here and none of the
 * family's tensors; a new family adds its folder and one line in family.c. */
#ifndef UT_MODELS_MODEL_H
#define UT_MODELS_MODEL_H

#include "base/buf.h"
#include "base/err.h"
#include "plan/plan.h"
#include <stdbool.h>

typedef struct ut_model ut_model;

/* Reference codes of a speaker: what a voice is to the language model. */
typedef struct ut_reference {
    const char *text;     /* transcript, UTF-8; borrowed */
    const int32_t *codes; /* [n_frames, n_codebooks], time-major; borrowed */
    int32_t n_frames;
} ut_reference;

/* The autoregressive part: prefill consumes the prompt and makes frame 0; each run of frame makes
 * the next. Both put their frame's column into the ring. Plans are NULL until ut_model_ops.plans
 * was called. */
typedef struct ut_ar {
    ut_state_set states;
    ut_plan *prefill;   /* input "tokens" i32 [T, columns]; one slot; T = prompt length */
    ut_plan *frame;     /* T = 1 */
    int32_t columns;    /* 1 token + codebooks */
    int32_t capacity;   /* positions: prompt + frames */
    int32_t max_prompt; /* longest prompt */
    int ring;           /* state indices the engine reads and writes */
    int params, rng;
    int32_t stop_id;         /* a frame whose token is this ends the sequence ... */
    int32_t stop_from_frame; /* ... from this frame on; that frame carries no audio */
    int32_t first_code_col;  /* codes are columns [first_code_col, + n_codebooks) */
} ut_ar;

/* The codec: streaming by construction. */
typedef struct ut_codec {
    int32_t n_codebooks;
    const int32_t *codebook_sizes; /* [n_codebooks]: code q of a frame is 0 .. size[q] - 1 */
    int32_t hop_samples;           /* samples per frame */
    int32_t max_frames;            /* longest chunk of a run (T) */
    ut_state_set decode_states, encode_states;
    ut_plan *decode; /* input "codes" i32 [T, n_codebooks] -> output "pcm" [T*hop, 1] */
    ut_plan *encode; /* input "pcm" f32 [T*hop, 1] -> output "codes" [T, n_codebooks] */
} ut_codec;

typedef struct ut_model_defaults {
    float temperature, top_p, repetition_penalty;
    int32_t max_chunk_chars;     /* longest text in one generation */
    float frames_per_char_limit; /* runaway guard; 0: none. Limit = 20 + this * characters */
    const char *voice;           /* NULL: none */
} ut_model_defaults;

typedef struct ut_model_options {
    bool exact_head;         /* score the whole vocabulary, as the reference does */
    int32_t max_positions;   /* bound on ut_ar.capacity; 0: the model's own */
    bool external_noise;     /* plans take sampling noise as inputs "noise.<decision>" */
    const char *const *taps; /* tensor names to keep, for tests; NULL: none */
} ut_model_options;

typedef struct ut_model_info {
    const char *family; /* "s1-mini" */
    char dir[1024];
    int32_t sample_rate;
    int64_t n_params_lm, n_params_codec;
    int64_t bytes_touched_per_frame; /* of weights, by one frame of the AR loop, as stored */
    char summary[512];               /* layers, dims, codebooks: one line for people */
} ut_model_info;

typedef struct ut_model_ops {
    const char *family;
    /* Does this directory hold a checkpoint of the family? Looks at config.json only. */
    bool (*match)(const char *dir);
    utter_status (*open)(ut_model **out, const char *dir, const ut_model_options *options,
                         ut_err *err);
    void (*free)(ut_model *m);
    /* What was read so far has been copied by the backend: the system may drop the checkpoint's
     * pages, which come back when they are read again. A hint. */
    void (*release_pages)(const ut_model *m);
    /* Append the prompt's columns, i32 [T, ar.columns], to out. Special tokens in texts stay
     * text. ERR_LIMIT when longer than ar.max_prompt. */
    utter_status (*prompt)(const ut_model *m, const ut_reference *refs, int n_refs,
                           const char *text, ut_buf *out, ut_err *err);
} ut_model_ops;

struct ut_model { /* the head of each family's own struct */
    const ut_model_ops *ops;
    ut_model_info info;
    ut_model_defaults defaults;
    ut_ar ar;
    ut_codec codec;
};

/* Open a checkpoint directory with the family that recognises it. ERR_MODEL lists what was looked
 * for when none does. The model's memory maps stay open until ut_model_free. */
utter_status ut_model_open(ut_model **out, const char *dir, const ut_model_options *options,
                           ut_err *err);
void ut_model_free(ut_model *m);
/* All families, NULL-terminated. */
const ut_model_ops *const *ut_model_families(void);

#endif
