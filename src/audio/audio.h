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

#define UT_AUDIO_MIN_RATE     1000 /* Hz */
#define UT_AUDIO_MAX_RATE     768000
#define UT_AUDIO_MAX_CHANNELS 64

/* Read a sound file (WAV always: RIFF and RF64, 8/16/24/32-bit PCM, float, extensible; FLAC, Ogg,
 * MP3 and more through libsndfile where built in). At most max_seconds (ERR_LIMIT beyond). Memory
 * is taken for samples that are there, never for what a header claims. Refused with one line: no
 * samples, NaN or infinity, rates outside 1 kHz..768 kHz, more than 64 channels (ERR_AUDIO),
 * truncated data (ERR_FORMAT; a WAV whose header claims more than the file has is taken to its
 * end), formats that this build lacks (ERR_UNSUPPORTED). *a is the caller's: ut_audio_free. */
utter_status ut_audio_read(ut_audio *a, const char *path, double max_seconds, ut_err *err);
/* The same from memory. name is for messages only. */
utter_status ut_audio_read_memory(ut_audio *a, const void *data, size_t size, const char *name,
                                  double max_seconds, ut_err *err);

/* Average the channels and resample (resample.h): mono at rate. out is the caller's. */
utter_status ut_audio_to_mono(const ut_audio *in, int rate, ut_audio *out, ut_err *err);

/* float -> int16: round to nearest of x * 32767, clipped; NaN becomes 0. */
void ut_pcm_to_s16(const float *x, size_t n, int16_t *out);

/* Which containers this build can write and read (ogg: Vorbis), for `utter info`: "wav flac ogg
 * mp3". */
const char *ut_audio_formats(void);
const char *ut_audio_resampler(void); /* "soxr" or "built-in windowed sinc" */

/* A sink that takes mono float samples as they are made. */
typedef struct ut_audio_writer ut_audio_writer;
typedef enum ut_audio_format {
    UT_AUDIO_BY_EXTENSION,
    UT_AUDIO_WAV,
    UT_AUDIO_FLAC,
    UT_AUDIO_OGG,    /* Vorbis: takes any sample rate, where Opus takes only 48 kHz and its parts */
    UT_AUDIO_MP3,    /* constant bit rate, 128 kbit/s (64 below 32 kHz) */
    UT_AUDIO_RAW_S16 /* headerless little-endian 16-bit */
} ut_audio_format;
/* All formats get the same 16-bit samples. BY_EXTENSION: .wav .wave .flac .ogg .oga .mp3 .raw .pcm
 * .s16; anything else is ERR_UNSUPPORTED, and so are formats that this build lacks or that lack the
 * rate, with the names of those it has.
 * path "-": standard output (BY_EXTENSION: WAV). There, and wherever path is no regular file, what
 * is written is never gone back to: a WAV header says "length unknown" (0xffffffff sizes). In a
 * regular file the header is kept valid after every write, so an interrupted program leaves a
 * playable file; of the compressed formats an interruption loses what their encoder still holds
 * (Ogg: up to a page, in near-silence a second or two). */
utter_status ut_audio_writer_open(ut_audio_writer **out, const char *path, ut_audio_format format,
                                  int sample_rate, ut_err *err);
/* What open would say about format and rate, before there is anything to write. */
utter_status ut_audio_writer_check(const char *path, ut_audio_format format, int sample_rate,
                                   ut_err *err);
/* Errors name the path. A WAV file ends at 4 GiB (13 h at 44.1 kHz): ERR_LIMIT before anything is
 * written past it. After an error every later write fails with it, too. */
utter_status ut_audio_writer_write(ut_audio_writer *w, const float *x, size_t n, ut_err *err);
/* Finishes headers, closes, frees; NULL is fine. The first error of any write is repeated. */
utter_status ut_audio_writer_close(ut_audio_writer *w, ut_err *err);

#endif
