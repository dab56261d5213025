/* mel.h - log-mel spectra of speech, as encoders of speakers take them. */
#ifndef UT_AUDIO_MEL_H
#define UT_AUDIO_MEL_H

#include "base/buf.h"
#include "base/err.h"
#include <stddef.h>
#include <stdint.h>

typedef struct ut_mel_params {
    int32_t sample_rate; /* Hz */
    int32_t window;      /* samples, a power of two; periodic Hann; also the transform's length */
    int32_t hop;         /* samples */
    int32_t n_bands;
    float low, high;   /* Hz, ends of the first and the last band */
    float power_floor; /* magnitude = sqrt(re^2 + im^2 + power_floor) */
    float floor;       /* of the magnitude in a band, before the logarithm */
} ut_mel_params;

/* Bands [n_bands, window / 2 + 1]: triangles between points equally spaced on Slaney's mel scale
 * (linear below 1 kHz, logarithmic above), each of area 1 (librosa's defaults). */
void ut_mel_filterbank(const ut_mel_params *p, float *bands);

/* Append ln(max(bands * magnitude, floor)) of every window of pcm [n] to out, f32 [frames,
 * n_bands]. The signal is mirrored by (window - hop) / 2 samples at both ends; frames = floor((n +
 * 2 pad - window) / hop) + 1. ERR_AUDIO when n is not larger than the pad. */
utter_status ut_mel_log(const ut_mel_params *p, const float *pcm, size_t n, ut_buf *out,
                        ut_err *err);

#endif
