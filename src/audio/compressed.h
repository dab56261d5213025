/* compressed.h - sound formats that another library reads and writes (compressed.c, libsndfile).
 * In a build without it there are none. */
#ifndef UT_AUDIO_COMPRESSED_H
#define UT_AUDIO_COMPRESSED_H

#include "audio/audio.h"
#include <stdio.h>

bool ut_compressed_available(void);
/* Can it write and read this format at this rate? */
bool ut_compressed_has(ut_audio_format format, int sample_rate);

/* Decode a file in memory; shape and length are checked as for ut_audio_read. ERR_FORMAT: not a
 * sound file; ERR_UNSUPPORTED: a build without the library. */
utter_status ut_compressed_read(ut_audio *a, const void *data, size_t size, const char *name,
                                double max_seconds, ut_err *err);

/* Encodes 16-bit mono into a stream that stays the caller's. */
typedef struct ut_encoder ut_encoder;
/* seekable: the header may be gone back to. name is for messages, borrowed as long as the encoder.
 */
utter_status ut_encoder_open(ut_encoder **out, FILE *stream, bool seekable, ut_audio_format format,
                             int sample_rate, const char *name, ut_err *err);
utter_status ut_encoder_write(ut_encoder *e, const int16_t *x, size_t n, ut_err *err);
/* Writes what is left and frees; NULL is fine. */
utter_status ut_encoder_close(ut_encoder *e, ut_err *err);

/* For readers: ERR_AUDIO unless a sound of this shape is acceptable; ERR_LIMIT past max_seconds.
 * n_frames < 0: not known yet. (audio.c) */
utter_status ut_audio_check(const char *name, int64_t n_channels, int64_t sample_rate,
                            int64_t n_frames, double max_seconds, ut_err *err);

#endif
