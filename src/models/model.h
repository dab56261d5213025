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

/* A speaker to imitate, by what was recorded of them. */
typedef struct ut_reference {
    const char *text; /* transcript, UTF-8; NULL or "": not known; borrowed */
    const int32_t
        *codes; /* [n_frames, n_codebooks], time-major; NULL when n_frames is 0; borrowed */
    int32_t n_frames;
    const float *embedding; /* [speaker.dim]; NULL: none; borrowed */
} ut_reference;

/* When the model gets the text of a generation. */
typedef enum ut_feed {
    UT_FEED_DEFAULT, /* as the family does it for the kind of voice */
    UT_FEED_WHOLE,   /* all of it in the prompt */
    UT_FEED_ALONG    /* its first token in the prompt, one more with every frame */
} ut_feed;

/* One generation. What is NULL or 0 was not asked for; what a model cannot do is ERR_UNSUPPORTED or
 * ERR_ARG in one line, never ignored. All strings are UTF-8 and borrowed for the call. */
typedef struct ut_request {
    const char *text;
    const ut_reference *refs; /* [n_refs] */
    int n_refs;
    const char *speaker;  /* one of the model's own, by name */
    const char *instruct; /* how to speak, or what voice to make up, in words */
    const char *language; /* one of the model's by name; NULL: the model finds out */
    ut_feed feed;
    bool open; /* the text goes on: its end is not written. ERR_UNSUPPORTED where all of it has to
                  be known, as with UT_FEED_WHOLE */
} ut_request;

/* A request in the model's terms. */
typedef struct ut_prompt {
    ut_buf columns;    /* i32 [T, ar.columns]: input "tokens" of prefill */
    ut_buf later;      /* i32: text tokens for frames 1, 2, ...: see ut_ar.text */
    ut_buf embedding;  /* f32 [speaker.dim]: input "speaker" of prefill; empty: zeros */
    int32_t n_context; /* frames of refs[0] that the generation goes on from: the codec decodes them
                          first, and their samples are dropped */
    int32_t n_prefix;  /* columns at the beginning that are the same for every text, less than all:
                          what prefill makes of them may be kept; 0: none */
} ut_prompt;

void ut_prompt_init(ut_prompt *p);
void ut_prompt_clear(ut_prompt *p); /* keeps the memory */
void ut_prompt_free(ut_prompt *p);

/* The autoregressive part: prefill consumes the prompt and makes frame 0; each run of frame makes
 * the next. Both put their frame's column into the ring. */
typedef struct ut_ar {
    ut_state_set states;
    ut_plan *prefill;   /* input "tokens" i32 [T, columns]; one slot; T = prompt length; where
                           speaker.dim > 0 also "speaker" f32 [1, speaker.dim] */
    ut_plan *frame;     /* T = 1 */
    int32_t columns;    /* 1 token + codebooks */
    int32_t capacity;   /* positions: prompt + frames */
    int32_t max_prompt; /* longest prompt */
    int pos;            /* state i32 [1, 1]: positions taken */
    int first_cache;    /* states [first_cache, + n_caches) have a row per position, which is all */
    int n_caches;       /* that remains of a prompt but the last position; 0: it is not so */
    int ring;           /* state indices the engine reads and writes */
    int params, rng;    /* params has a row per kind of decision: 1, or 2 with sub_ defaults */
    int text; /* i32 [rows, 1]: row f - 1 is read by frame f >= 1, modulo rows: a text token
                 less text_pad, so that zero is the token of no text; -1: no such state */
    int32_t text_pad;
    int32_t stop_id;         /* a frame whose token is this ends the sequence ... */
    int32_t stop_from_frame; /* ... from this frame on; that frame carries no audio */
    int32_t first_code_col;  /* codes are columns [first_code_col, + n_codebooks) */
} ut_ar;

/* The codec: streaming by construction. */
typedef struct ut_codec {
    int32_t n_codebooks;
    const int32_t *codebook_sizes; /* [n_codebooks]: code q of a frame is 0 .. size[q] - 1 */
    int32_t hop_samples;           /* samples per frame */
    int32_t max_frames;            /* longest run (T) */
    ut_state_set decode_states, encode_states;
    ut_plan *decode; /* input "codes" i32 [T, n_codebooks] -> output "pcm" [T*hop, 1] */
    ut_plan *encode; /* input "pcm" f32 [T*hop, 1] -> output "codes" [T, n_codebooks]; an input
                        "n_samples" i32 [1, 1], where there is one: how many of the samples are of
                        the signal; the rest is silence that fills its last frame */
} ut_codec;

/* A recording's speaker as a vector, for families that have such an encoder. */
typedef struct ut_speaker_encoder {
    int32_t dim;        /* 0: none */
    int32_t n_features; /* columns of "features" */
    ut_plan *plan;      /* input "features" f32 [T, n_features] of a whole recording -> output
                           "embedding" f32 [1, dim]; no states */
} ut_speaker_encoder;

typedef struct ut_model_defaults {
    float temperature, top_p, repetition_penalty;
    int32_t top_k;                    /* 0: all */
    float sub_temperature, sub_top_p; /* row 1 of ar.params, where there is one */
    int32_t sub_top_k;
    int32_t max_chunk_chars;     /* longest text in one generation */
    float frames_per_char_limit; /* runaway guard; 0: none. Limit = 20 + this * characters */
    float runaway_s;             /* another: seconds of silence or of the same codes; 0: none */
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
    char summary[512]; /* layers, dims, codebooks: one line for people */
} ut_model_info;

/* What voices a model can speak with. */
enum {
    UT_VOICE_REFERENCE = 1, /* a recording's codes with its transcript */
    UT_VOICE_EMBEDDING = 2, /* a recording's vector */
    UT_VOICE_SPEAKER = 4,   /* its own speakers */
    UT_VOICE_NONE = 8       /* it makes one up */
};

/* One of a model's own speakers; strings belong to the list. */
typedef struct ut_speaker {
    const char *name, *dialect; /* dialect "": none */
} ut_speaker;

typedef struct ut_speaker_list {
    ut_speaker *speakers;
    size_t n;
    char *languages;        /* "auto, chinese, english"; NULL: the model has no such choice */
    struct ut_arena *arena; /* of the strings */
} ut_speaker_list;
void ut_speaker_list_free(ut_speaker_list *l); /* zeroed is fine */

typedef struct ut_model_ops {
    const char *family;
    const char *model_type; /* what "model_type" in config.json of its checkpoints says */
    utter_status (*open)(ut_model **out, const char *dir, const ut_model_options *options,
                         ut_err *err);
    void (*free)(ut_model *m);
    /* What was read so far has been copied by the backend: the system may drop the checkpoint's
     * pages, which come back when they are read again. A hint. */
    void (*release_pages)(const ut_model *m);
    /* Append the request to a cleared prompt. Special tokens in texts stay text. ERR_LIMIT when
     * longer than ar.max_prompt. */
    utter_status (*prompt)(const ut_model *m, const ut_request *request, ut_prompt *out,
                           ut_err *err);
    /* Append the tokens of a text, and its end unless it is open: the first is in the prompt of an
     * open request, the others are its `later`. Tokens of a text that ends where a space follows do
     * not change when it goes on. NULL where ar.text is -1. */
    utter_status (*text)(const ut_model *m, const char *text, bool open, ut_buf *out, ut_err *err);
    /* The speakers of the checkpoint in a directory of the family, without opening it. NULL:
     * the family has none. */
    utter_status (*speakers)(const char *dir, ut_speaker_list *out, ut_err *err);
    /* Append the features of mono samples at info.sample_rate, f32 [T, speaker.n_features]. NULL
     * where speaker.dim is 0. */
    utter_status (*features)(const ut_model *m, const float *pcm, size_t n, ut_buf *out,
                             ut_err *err);
} ut_model_ops;

struct ut_model { /* the head of each family's own struct */
    const ut_model_ops *ops;
    ut_model_info info;
    ut_model_defaults defaults;
    unsigned voices; /* UT_VOICE_* */
    ut_ar ar;
    ut_codec codec;
    ut_speaker_encoder speaker;
};

/* The family of a checkpoint directory, by its config.json; *out is NULL when that is missing,
 * unreadable or of no family, which is no failure. */
utter_status ut_model_family_of(const char *dir, const ut_model_ops **out, ut_err *err);

/* Open a checkpoint directory with the family that recognises it. ERR_MODEL lists what was looked
 * for when none does. The model's memory maps stay open until ut_model_free. */
utter_status ut_model_open(ut_model **out, const char *dir, const ut_model_options *options,
                           ut_err *err);
void ut_model_free(ut_model *m);

#endif
