/* wav.h - the WAV container: finding and converting the samples of a file in memory, and the header
 * of the files that we write. Only uncompressed samples; other codecs in WAV go to libsndfile. */
#ifndef UT_AUDIO_WAV_H
#define UT_AUDIO_WAV_H

#include "base/err.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct ut_wav {
    int n_channels;
    int sample_rate;
    int sample_bytes; /* 1..4 of integers, 4 or 8 of floats; little-endian */
    bool is_float;
    const uint8_t *data; /* [n_frames, n_channels] samples, borrowed from the file */
    size_t n_frames;
} ut_wav;

/* Does this look like a file that ut_wav_parse takes (RIFF or RF64, type WAVE)? */
bool ut_wav_match(const void *data, size_t size);

/* Find the samples. A data chunk of unknown (0xffffffff) size or larger than the file ends with
 * the file. ERR_UNSUPPORTED: a codec other than PCM and float; ERR_FORMAT: anything malformed, a
 * frame cut off at the end included. */
utter_status ut_wav_parse(ut_wav *w, const void *data, size_t size, const char *name, ut_err *err);

/* Samples as floats, integers of n bits divided by 2^(n-1). out [n_frames * n_channels]. */
void ut_wav_to_float(const ut_wav *w, float *out);

/* The canonical header of 16-bit mono, data_bytes of samples behind it; more than fit, or
 * UT_WAV_UNKNOWN: "until the end". */
#define UT_WAV_HEADER_BYTES 44
#define UT_WAV_MAX_DATA     ((uint64_t)0xffffffff - UT_WAV_HEADER_BYTES) /* a size field counts it */
#define UT_WAV_UNKNOWN      UINT64_MAX
void ut_wav_header(uint8_t out[UT_WAV_HEADER_BYTES], int sample_rate, uint64_t data_bytes);

#endif
