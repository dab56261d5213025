/* engine.h - what the files of the engine share: the opened engine, a session (the state of one
 * utterance on the backend) and generation by it. Public behaviour is documented in utter.h. */
#ifndef UT_ENGINE_ENGINE_H
#define UT_ENGINE_ENGINE_H

#include "backends/backend.h"
#include "base/buf.h"
#include "engine/prefix.h"
#include "engine/runaway.h"
#include "models/model.h"
#include "utter.h"

#define UT_CODEC_ID_CHARS 32 /* hexadecimal digits of a codec's fingerprint */

enum {
    UT_MAX_SLOTS = 32,      /* sessions that share the runs of a frame plan */
    UT_MAX_FRAME_PLANS = 6, /* of 1, 2, 4, ... slots */
    UT_SOUND_RUNS = 2       /* of the codec, of the longest: what a session keeps for its caller */
};

typedef struct ut_session ut_session;
typedef struct ut_batch ut_batch; /* batch.h */

/* A loaded model on a backend. */
struct utter_engine {
    ut_model *model;
    ut_backend *backend;
    ut_exec *prefill;
    ut_exec *encode;                     /* NULL until the first voice is created */
    int n_slots;                         /* of a batch */
    ut_exec *frames[UT_MAX_FRAME_PLANS]; /* the frame plan for 1, 2, 4, ... n_slots slots */
    int frame_slots[UT_MAX_FRAME_PLANS], n_frames;
    ut_exec *decode[UT_MAX_FRAME_PLANS]; /* the codec's for the same numbers of slots */
    int32_t decode_max_t[UT_MAX_FRAME_PLANS];
    int32_t sound_frames;  /* of one session in a run of the codec, at most */
    int32_t prefill_max_t; /* T that prefill is compiled for; grows with the prompts */
    ut_tid tokens;         /* input of prefill */
    ut_tid codes, pcm;     /* of decode */
    ut_batch *batches;     /* one, and more while there are more sessions than slots */
    ut_prefix_cache prefixes;
    utter_voice *voice;     /* default voice, or NULL */
    char *model_dir;        /* as given */
    char backend_text[256]; /* for utter_engine_info */
    char codec_id[UT_CODEC_ID_CHARS + 1];
    char encoder_id[UT_CODEC_ID_CHARS + 1]; /* of the speaker encoder; "" without one */
    ut_precision precision;
    double load_ms;
    uint64_t n_seeds;      /* seeds made up so far */
    double (*clock)(void); /* seconds, by which runs of the codec wait; tests have their own */
    ut_err err;
};

/* Finished sound. */
struct utter_audio {
    float *samples; /* owned, mono */
    size_t n_samples;
    utter_stats stats; /* its sample_rate is the audio's */
};

/* An engine around an opened model and backend, which it takes over in any case. The public
 * utter_engine_open, less the search for them. n_slots: 1 .. UT_MAX_SLOTS. */
utter_status ut_engine_new(ut_model *model, ut_backend *backend, const char *model_dir, int n_slots,
                           utter_engine **out, ut_err *err);

/* Where a public call puts its message: e's, or this thread's when e is NULL. The message before
 * it stays readable until something fails. */
ut_err *ut_api_err(utter_engine *e);

/* ERR_ARG "CALL: ARGUMENT is NULL". */
utter_status ut_fail_null(ut_err *err, const char *call, const char *argument);

/* Compile (again) so that prefill takes n_t tokens. */
utter_status ut_engine_fit_prefill(utter_engine *e, int32_t n_t, ut_err *err);

/* ---- Sessions (session.c) ------------------------------------------------------------------- *
 * A session makes one generation at a time: begin reads the prompt and prepares, then every more
 * makes some frames and their samples, until there are none. Sessions of one batch make their
 * frames together: what one waits for, the others get as well. */

/* What to generate: a prompt and how to sample. */
typedef struct ut_generation {
    const ut_prompt *prompt;
    const int32_t *context; /* [prompt->n_context, n_codebooks] */
    int32_t limit;          /* frames at most, >= 1; capped by the capacity */
    uint64_t seed;
    float params[2][UT_SP_COUNT]; /* rows of ar.params, as many as it has */
    bool ignore_eos;
    int32_t runaway; /* see ut_runaway_start */
    int32_t pause;   /* see ut_session_feed; INT32_MAX: never */
} ut_generation;

struct ut_session {
    utter_engine *engine;
    ut_batch *batch; /* its AR loop and codec are slot `slot` of the batch's states */
    int slot;
    bool taken;
    int32_t *column;      /* [ar.columns] the ring row last read */
    int32_t *codes;       /* [ar.capacity, n_codebooks] of the present generation */
    float *pcm;           /* [UT_SOUND_RUNS * sound_frames * hop] samples that are the caller's */
    size_t n_pcm;         /* valid in pcm */
    float *sound;         /* the same size: samples made since */
    size_t n_sound;       /* valid in sound */
    ut_generation now;    /* prompt and context are not kept */
    int32_t n_prompt;     /* positions of the prompt */
    int32_t n_later;      /* text tokens behind the prompt's */
    int32_t n_started;    /* frames whose making was started, frame 0 by prefill */
    int32_t n_frames;     /* of them, in codes */
    int32_t n_decoded;    /* of them, given to the codec */
    int32_t n_speaking;   /* of them, in a run of the codec whose sound was not fetched */
    double heard_since;   /* when its first samples were handed out; 0: not yet */
    bool lost;            /* sound of the present generation, by a failure */
    bool live;            /* a generation's frames are being made */
    bool ar_done;         /* no more frames will come */
    bool limited;         /* ... because of the limit, or of what follows */
    const char *runaway;  /* why, in words; NULL: the limit */
    ut_runaway watch;     /* of the present generation */
    bool waits;           /* for text, and `saved` has the slot's small states */
    char *saved;          /* NULL before the first time */
    int64_t n_frame_runs; /* totals since the session was taken, for statistics */
    int64_t n_codec_frames;
    int64_t n_prefix_hit;               /* columns of prompts that needed no prefill */
    double prefill_s, frame_s, codec_s; /* of the caller's time */
};

/* A session of the engine that nobody uses; statistics are zero. Give it back when done with it. */
utter_status ut_session_take(utter_engine *e, ut_session **out, ut_err *err);
void ut_session_give(ut_session *s); /* NULL is fine */

/* For batches: the session of a slot; and its next frame, which was started, from the ring. */
utter_status ut_session_new(ut_batch *b, int slot, ut_session **out, ut_err *err);
void ut_session_free(ut_session *s); /* NULL is fine */
utter_status ut_session_take_frame(ut_session *s, ut_err *err);
/* What the codec made of the frames that it was started on; NULL: it failed. */
void ut_session_hear(ut_session *s, const float *pcm);

utter_status ut_session_begin(ut_session *s, const ut_generation *g, ut_err *err);
/* More of the text of a generation whose prompt was open: tokens [n] go behind those that it has.
 * At most `pause` frames, and at last `limit`, are made before the next call. */
utter_status ut_session_feed(ut_session *s, const int32_t *tokens, size_t n, int32_t pause,
                             int32_t limit, ut_err *err);
/* Make the next samples: s->n_pcm of them in s->pcm; 0 at the end of the generation, or
 * when it waits for text. `cancelled` is
 * asked before every frame: ERR_CANCELLED when it says so. */
utter_status ut_session_more(ut_session *s, bool (*cancelled)(void *), void *user, ut_err *err);

/* ---- The codec alone (codec.c) -------------------------------------------------------------- */

/* Fingerprints of the weights of codec and speaker encoder: shapes and a sample of the bytes. */
void ut_codec_fingerprint(const ut_codec *c, char id[UT_CODEC_ID_CHARS + 1]);
void ut_speaker_fingerprint(const ut_speaker_encoder *s, char id[UT_CODEC_ID_CHARS + 1]);
/* pcm [n_samples] mono at the model's rate, padded with zeros to whole frames -> newly allocated
 * codes [*n_frames, n_codebooks]. */
utter_status ut_codec_encode(utter_engine *e, const float *pcm, size_t n_samples, int32_t **codes,
                             int32_t *n_frames, ut_err *err);
/* The same pcm -> newly allocated embedding [speaker.dim]; NULL where the model has no speaker
 * encoder. */
utter_status ut_speaker_encode(utter_engine *e, const float *pcm, size_t n_samples,
                               float **embedding, ut_err *err);
/* codes [n_frames, n_codebooks] -> pcm [n_frames * hop], given by the caller. */
utter_status ut_codec_decode(utter_engine *e, const int32_t *codes, int32_t n_frames, float *pcm,
                             ut_err *err);

#endif
