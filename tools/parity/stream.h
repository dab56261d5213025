/* stream.h - a signal through a codec's plan, in chunks, with the taps over all of it. */
#ifndef UT_TOOLS_PARITY_STREAM_H
#define UT_TOOLS_PARITY_STREAM_H

#include "parity/parity.h"

/* One tap over the whole signal: [rows, cols]. */
typedef struct tape {
    const char *tap;
    float *data; /* i32 outputs are kept as their bits */
    int64_t rows, cols, rows_per_frame;
} tape;

#define MAX_TAPES 96

typedef struct stream {
    parity *p;
    ut_exec *exec;
    ut_state *state;
    const char *input;
    const uint8_t *data; /* of the input, all frames */
    size_t frame_bytes;
    int32_t n_frames;
    int64_t n_samples; /* for plans with the input "n_samples": of the signal */
    tape tapes[MAX_TAPES];
    int n_tapes;
} stream;

/* Keep a tap, if the plan has it. */
void stream_tape(stream *s, const char *tap);
tape *stream_find(stream *s, const char *tap);
void stream_free(stream *s);

/* All frames, `chunk` at a time, from zero state. */
utter_status stream_run(stream *s, int32_t chunk);
/* Once more in chunks of one and of three frames: bit-identical? */
void stream_check_chunks(stream *s, const char *name, const char *tap);

#endif
