/* soxr.c - the one file that knows the soxr library. */
#include "audio/resample.h"
#include <string.h>

#if defined(UT_HAVE_SOXR)

#include <soxr.h>

#define TAIL_SAMPLES 4096 /* zeros given at a time once the signal is over */

bool ut_soxr_available(void)
{
    return true;
}

utter_status ut_soxr_run(const float *in, size_t n, int rate_in, int rate_out, float *out,
                         size_t n_out, ut_err *err)
{
    static const float zeros[TAIL_SAMPLES];
    soxr_error_t why = NULL;
    soxr_io_spec_t io = soxr_io_spec(SOXR_FLOAT32_I, SOXR_FLOAT32_I);
    soxr_quality_spec_t quality = soxr_quality_spec(SOXR_VHQ, SOXR_ROLLOFF_NONE);
    soxr_runtime_spec_t one_thread = soxr_runtime_spec(1);
    soxr_t s = soxr_create(rate_in, rate_out, 1, &why, &io, &quality, &one_thread);
    if (!s)
        return ut_fail(err, UTTER_ERR_NOMEM, "resampler from %d to %d Hz: %s", rate_in, rate_out,
                       why ? why : "no memory");
    /* The signal, then silence until the last sample is out: soxr's own idea of the length, asked
     * for with the end of input, may be a sample shorter. */
    size_t used = 0, made = 0;
    while (!why && made < n_out) {
        size_t taken = 0, done = 0;
        if (used < n) {
            why = soxr_process(s, in + used, n - used, &taken, out + made, n_out - made, &done);
            used += taken;
        } else {
            why = soxr_process(s, zeros, TAIL_SAMPLES, &taken, out + made, n_out - made, &done);
        }
        made += done;
        if (!why && taken == 0 && done == 0)
            why = "no progress";
    }
    soxr_delete(s);
    if (why)
        return ut_fail(err, UTTER_ERR_INTERNAL, "resampler from %d to %d Hz: %s", rate_in, rate_out,
                       why);
    return UTTER_OK;
}

#else /* a build without soxr */

bool ut_soxr_available(void)
{
    return false;
}

utter_status ut_soxr_run(const float *in, size_t n, int rate_in, int rate_out, float *out,
                         size_t n_out, ut_err *err)
{
    (void)in;
    (void)n;
    memset(out, 0, n_out * sizeof *out);
    return ut_fail(err, UTTER_ERR_INTERNAL, "resampler from %d to %d Hz: no soxr", rate_in,
                   rate_out);
}

#endif
