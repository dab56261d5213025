/* qwen3_tts.h - what the parts of the Qwen3-TTS parity check share: the recorded cases and a model
 * on the backend. */
#ifndef UT_TOOLS_PARITY_QWEN3_TTS_H
#define UT_TOOLS_PARITY_QWEN3_TTS_H

#include "base/json.h"
#include "parity/parity.h"

/* One of the three checkpoints. */
typedef struct q3_model {
    char name[32], dir[1024];
    ut_model *m; /* NULL until needed */
    ut_exec *prefill, *frame;
    ut_state *state;
} q3_model;

enum { Q3_BASE, Q3_CUSTOM_VOICE, Q3_VOICE_DESIGN, Q3_KINDS };

typedef struct q3_case {
    parity *p;
    ut_json *doc; /* cases.json */
    q3_model models[Q3_KINDS];
} q3_case;

/* The checkpoint of a folder, opened with all taps and compiled; NULL after a reported failure. */
q3_model *q3_open(q3_case *c, const char *kind);

/* Codec both ways and the speaker encoder, with the base checkpoint (qwen3_tts_codec.c). */
void q3_check_codec(q3_case *c);
/* Recorded distributions (qwen3_tts_sampling.c). */
void q3_check_sampling(q3_case *c);

/* Samples of codes [n, groups] decoded from zero state, newly allocated [n * hop]; NULL after a
 * failure. */
float *q3_decode(parity *p, const ut_codec *codec, const int32_t *codes, int32_t n);

#endif
