/* audio.h - sound in memory: float samples in [-1, 1], interleaved by channel. */
#ifndef UT_AUDIO_AUDIO_H
#define UT_AUDIO_AUDIO_H

#include "base/err.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct ut_audio {
    float *samples; /* owned; n_frames * n_channels */
    size_t n_frames;
    int n_channels;
    int sample_rate; /* Hz */
} ut_audio;

void ut_audio_free(ut_audio *a); /* frees samples and zeroes *a; zeroed is fine */

/* Read a sound file (WAV always: 8/16/24/32-bit PCM, float, extensible; FLAC, Ogg, MP3 through
 * libsndfile where built in). At most max_seconds (ERR_LIMIT beyond). Refused with one line: no
 * samples, NaN or infinity, rates outside 1 kHz..768 kHz, more than 64 channels, truncated data. */
utter_status ut_audio_read(ut_audio *a, const char *path, double max_seconds, ut_err *err);
/* The same from memory. name is for messages only. */
utter_status ut_audio_read_memory(ut_audio *a, const void *data, size_t size, const char *name,
                                  double max_seconds, ut_err *err);

/* Average the channels and resample: mono at rate. out is the caller's. */
utter_status ut_audio_to_mono(const ut_audio *in, int rate, ut_audio *out, ut_err *err);

/* float -> int16: round to nearest of x * 32767, clipped. */
void ut_pcm_to_s16(const float *x, size_t n, int16_t *out);

/* Which containers this build can write and read, for `utter info`: "wav flac ogg mp3". */
const char *ut_audio_formats(void);
const char *ut_audio_resampler(void); /* "soxr" or "built-in windowed sinc" */

/* A sink that takes mono float samples as they are made. */
typedef struct ut_audio_writer ut_audio_writer;
typedef enum ut_audio_format {
    UT_AUDIO_BY_EXTENSION,
    UT_AUDIO_WAV,
    UT_AUDIO_FLAC,
    UT_AUDIO_OGG,
    UT_AUDIO_MP3,
    UT_AUDIO_RAW_S16 /* headerless little-endian 16-bit */
} ut_audio_format;
/* path "-": standard output, which may be a pipe: a WAV header then says "length unknown"
 * (0xffffffff sizes). A file's header is kept valid after every write, so an interrupted program
 * leaves a playable file. Formats this build lacks are ERR_UNSUPPORTED naming those it has. */
utter_status ut_audio_writer_open(ut_audio_writer **out, const char *path, ut_audio_format format,
                                  int sample_rate, ut_err *err);
utter_status ut_audio_writer_write(ut_audio_writer *w, const float *x, size_t n, ut_err *err);
/* Finishes headers, closes, frees; NULL is fine. The first error of any write is repeated. */
utter_status ut_audio_writer_close(ut_audio_writer *w, ut_err *err);

#endif
