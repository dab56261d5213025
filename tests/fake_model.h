/* fake_model.h - a model and a backend without arithmetic, for tests of the engine: what is spoken
 * is a known function of prompt, seed and parameters, every call is counted, and any run can be
 * made to fail.
 *
 * The text of the last part of the prompt decides the length: one frame per byte, then the frame
 * that says the speech is over. A '~' in the text makes it endless; a '!' makes frame 0 carry the
 * stop token, too (it must not be noticed there); a '=' makes every first code that of the frame
 * two before; a '_' makes all frames silent. */
#ifndef UT_TESTS_FAKE_MODEL_H
#define UT_TESTS_FAKE_MODEL_H

#include "engine/engine.h"

enum {
    FAKE_CODEBOOKS = 3,
    FAKE_COLUMNS = 1 + FAKE_CODEBOOKS,
    FAKE_HOP = 8,        /* samples per frame */
    FAKE_RATE = 8000,    /* Hz: a frame is a millisecond */
    FAKE_MAX_FRAMES = 6, /* of a codec run */
    FAKE_CAPACITY = 700, /* positions */
    FAKE_MAX_PROMPT = 600,
    FAKE_CHUNK_CHARS = 48,
    FAKE_STOP = 7,     /* the token */
    FAKE_OPEN = 1,     /* first token of a prompt */
    FAKE_CLOSE = 2,    /* after a reference */
    FAKE_TEXT = 256,   /* + byte: token of text */
    FAKE_SPEECH = 1024 /* + code of codebook 0: token of a frame */
};

/* What tests set and read. One per test; the fakes keep a pointer to it. */
typedef struct fake {
    int n_slots;                       /* of the engine; 0: 1 */
    int ahead;                         /* runs that happen only when waited for; 0: none */
    int n_compiles, n_execs, n_states; /* execs and states: alive now */
    int n_prefills, n_frame_runs, n_decode_runs, n_encode_runs;
    int n_slots_run;     /* over all runs of the frame plan */
    int n_slots_decoded; /* ... of the codec */
    int most_ahead;      /* of runs that waited to happen */
    bool broken;         /* a slot went past its cache, or read rows that it had not written */
    int largest_prefill; /* T it is compiled for */
    int fail_run;        /* run number that fails (1 = the next); 0: none */
    int fail_output;     /* the same for reading what a run made */
    void (*on_frame)(void *user, int frame); /* before every frame run */
    void *user;
    float last_params[UT_SP_COUNT];
    uint64_t last_seed;
    int32_t prompt[FAKE_MAX_PROMPT * FAKE_COLUMNS]; /* the last one */
    int n_prompt;
    float frames_per_char_limit; /* for the model's defaults */
    bool no_encoder;
} fake;

/* The model and the backend alone, for ut_engine_new. */
void fake_parts(fake *f, ut_model **m, ut_backend **b);
/* An engine on a new fake model and backend; model_dir as for utter_engine_open. */
utter_engine *fake_engine(fake *f, const char *model_dir);

/* The samples of one generation: a text without reference, or with the codes of one. Returns how
 * many (n_frames * FAKE_HOP); at most max are written. */
size_t fake_speech(const char *text, const ut_reference *ref, uint64_t seed, int n_frames,
                   float *pcm, size_t max);

#endif
