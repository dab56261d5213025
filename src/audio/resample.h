/* resample.h - change of sample rate for one channel, whole signals. soxr (very high quality) where
 * built in, else a windowed sinc of our own (Hann, 64 zero crossings, rolloff 0.95). */
#ifndef UT_AUDIO_RESAMPLE_H
#define UT_AUDIO_RESAMPLE_H

#include "base/err.h"
#include <stdbool.h>
#include <stddef.h>

/* in [n] at rate_in -> *out [*n_out] at rate_out, n_out = ceil(n * rate_out / rate_in); newly
 * allocated with ut_malloc. Output sample j is at the time of input sample j * rate_in / rate_out;
 * the signal is 0 before and after itself. Equal rates copy bit for bit. ERR_ARG: a rate outside
 * UT_AUDIO_MIN_RATE..UT_AUDIO_MAX_RATE. */
utter_status ut_resample(const float *in, size_t n, int rate_in, int rate_out, float **out,
                         size_t *n_out, ut_err *err);
/* The built-in one, always present, so that it is tested wherever soxr is used. */
utter_status ut_resample_sinc(const float *in, size_t n, int rate_in, int rate_out, float **out,
                              size_t *n_out, ut_err *err);

/* soxr.c: is it in this build? Fill out [n_out] from in [n]; only where it is. */
bool ut_soxr_available(void);
utter_status ut_soxr_run(const float *in, size_t n, int rate_in, int rate_out, float *out,
                         size_t n_out, ut_err *err);

#endif
