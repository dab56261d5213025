/* resample.h - change of sample rate for one channel, whole signals. soxr (very high quality) where
 * built in, else a windowed sinc of our own (Hann, 64 zero crossings, rolloff 0.95). */
#ifndef UT_AUDIO_RESAMPLE_H
#define UT_AUDIO_RESAMPLE_H

#include "base/err.h"
#include <stddef.h>

/* in [n] at rate_in -> *out [*n_out] at rate_out, n_out = ceil(n * rate_out / rate_in); newly
 * allocated with ut_malloc. Equal rates copy bit for bit. */
utter_status ut_resample(const float *in, size_t n, int rate_in, int rate_out, float **out,
                         size_t *n_out, ut_err *err);
/* The built-in one, always present, so that it is tested wherever soxr is used. */
utter_status ut_resample_sinc(const float *in, size_t n, int rate_in, int rate_out, float **out,
                              size_t *n_out, ut_err *err);

#endif
