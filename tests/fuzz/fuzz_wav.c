/* fuzz_wav.c - the whole input is a WAV file. Samples that are found lie in it, and become floats,
 * then mono at another rate where that is not too long. */
#include "audio/audio.h"
#include "audio/wav.h"
#include "base/alloc.h"
#include <math.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    ut_wav w;
    ut_err err = {0};
    utter_status st = ut_wav_parse(&w, data, size, "fuzz", &err);
    if (st != UTTER_OK) {
        if (st != err.status || !err.msg[0])
            abort();
        return 0;
    }
    size_t samples = w.n_frames * (size_t)w.n_channels;
    size_t bytes = samples * (size_t)w.sample_bytes;
    if (w.data < data || bytes > size || (size_t)(w.data - data) > size - bytes)
        abort();

    ut_audio a, mono;
    if (ut_audio_read_memory(&a, data, size, "fuzz", 100, NULL) != UTTER_OK)
        return 0;
    if (a.n_frames != w.n_frames || a.n_channels != w.n_channels)
        abort();
    for (size_t i = 0; i < samples; i++)
        if (!isfinite(a.samples[i]) || (!w.is_float && fabsf(a.samples[i]) > 1))
            abort();
    if (a.n_frames <= 4096 && ut_audio_to_mono(&a, 8000, &mono, NULL) == UTTER_OK)
        ut_audio_free(&mono);
    ut_audio_free(&a);
    return 0;
}
