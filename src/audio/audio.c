/* audio.c - sound in memory: reading files, checks, channels and rate, conversion to 16 bits. */
#include "audio/audio.h"
#include "audio/compressed.h"
#include "audio/resample.h"
#include "audio/wav.h"
#include "base/alloc.h"
#include "base/os.h"
#include <math.h>
#include <string.h>

void ut_audio_free(ut_audio *a)
{
    ut_free(a->samples);
    memset(a, 0, sizeof *a);
}

/* ---- Reading -------------------------------------------------------------------------------- */

utter_status ut_audio_check(const char *name, int64_t n_channels, int64_t sample_rate,
                            int64_t n_frames, double max_seconds, ut_err *err)
{
    if (n_channels < 1 || n_channels > UT_AUDIO_MAX_CHANNELS)
        return ut_fail(err, UTTER_ERR_AUDIO, "%s: %lld channels, expected 1 to %d", name,
                       (long long)n_channels, UT_AUDIO_MAX_CHANNELS);
    if (sample_rate < UT_AUDIO_MIN_RATE || sample_rate > UT_AUDIO_MAX_RATE)
        return ut_fail(err, UTTER_ERR_AUDIO, "%s: sample rate %lld Hz, expected %d to %d", name,
                       (long long)sample_rate, UT_AUDIO_MIN_RATE, UT_AUDIO_MAX_RATE);
    if (n_frames == 0)
        return ut_fail(err, UTTER_ERR_AUDIO, "%s: no samples", name);
    double seconds = (double)n_frames / (double)sample_rate;
    if (seconds > max_seconds)
        return ut_fail(err, UTTER_ERR_LIMIT,
                       "%s: at least %.1f s of sound, expected at most %.1f s", name, seconds,
                       max_seconds);
    return UTTER_OK;
}

/* What a file that is not WAV seems to be, for messages. */
static const char *guess_format(const uint8_t *p, size_t n)
{
    static const struct {
        const char *magic, *name;
    } known[] = {{"fLaC", "FLAC"}, {"OggS", "Ogg"}, {"ID3", "MP3"},   {"FORM", "AIFF"},
                 {"caff", "CAF"},  {".snd", "AU"},  {"RIFX", "RIFX"}, {"riff", "Wave64"}};
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (n >= strlen(known[i].magic) && memcmp(p, known[i].magic, strlen(known[i].magic)) == 0)
            return known[i].name;
    if (n >= 2 && p[0] == 0xff && (p[1] & 0xe0) == 0xe0)
        return "MP3";
    return NULL;
}

static utter_status read_wav(ut_audio *a, const ut_wav *w, const char *name, double max_seconds,
                             ut_err *err)
{
    utter_status st =
        ut_audio_check(name, w->n_channels, w->sample_rate, (int64_t)w->n_frames, max_seconds, err);
    if (st != UTTER_OK)
        return st;
    a->samples = ut_calloc(w->n_frames, (size_t)w->n_channels * sizeof *a->samples);
    if (!a->samples)
        return ut_fail(err, UTTER_ERR_NOMEM, "%s: %zu frames of sound", name, w->n_frames);
    a->n_frames = w->n_frames;
    a->n_channels = w->n_channels;
    a->sample_rate = w->sample_rate;
    ut_wav_to_float(w, a->samples);
    return UTTER_OK;
}

static utter_status read_any(ut_audio *a, const void *data, size_t size, const char *name,
                             double max_seconds, ut_err *err)
{
    if (size == 0)
        return ut_fail(err, UTTER_ERR_FORMAT, "%s: empty file", name);
    if (ut_wav_match(data, size)) {
        ut_wav w;
        ut_err wav_err = {0};
        utter_status st = ut_wav_parse(&w, data, size, name, &wav_err);
        if (st == UTTER_OK)
            return read_wav(a, &w, name, max_seconds, err);
        if (st != UTTER_ERR_UNSUPPORTED || !ut_compressed_available())
            return ut_fail(err, st, "%s", wav_err.msg);
    } else if (!ut_compressed_available()) {
        const char *format = guess_format(data, size);
        if (format)
            return ut_fail(err, UTTER_ERR_UNSUPPORTED, "%s: a file of type %s, this build reads %s",
                           name, format, ut_audio_formats());
        return ut_fail(err, UTTER_ERR_FORMAT, "%s: not a sound file", name);
    }
    return ut_compressed_read(a, data, size, name, max_seconds, err);
}

utter_status ut_audio_read_memory(ut_audio *a, const void *data, size_t size, const char *name,
                                  double max_seconds, ut_err *err)
{
    memset(a, 0, sizeof *a);
    utter_status st = read_any(a, data, size, name, max_seconds, err);
    size_t n = a->n_frames * (size_t)a->n_channels;
    for (size_t i = 0; i < n && st == UTTER_OK; i++)
        if (!isfinite(a->samples[i]))
            st = ut_fail(err, UTTER_ERR_AUDIO, "%s: sample %zu of channel %zu is %s", name,
                         i / (size_t)a->n_channels, i % (size_t)a->n_channels,
                         isnan(a->samples[i]) ? "not a number" : "infinite");
    if (st != UTTER_OK)
        ut_audio_free(a);
    return st;
}

utter_status ut_audio_read(ut_audio *a, const char *path, double max_seconds, ut_err *err)
{
    memset(a, 0, sizeof *a);
    ut_map m;
    utter_status st = ut_map_open(&m, path, err);
    if (st != UTTER_OK)
        return st;
    st = ut_audio_read_memory(a, m.data, m.size, path, max_seconds, err);
    ut_map_close(&m);
    return st;
}

/* ---- Conversion ----------------------------------------------------------------------------- */

utter_status ut_audio_to_mono(const ut_audio *in, int rate, ut_audio *out, ut_err *err)
{
    memset(out, 0, sizeof *out);
    float *mono = ut_calloc(in->n_frames, sizeof *mono);
    if (!mono)
        return ut_fail(err, UTTER_ERR_NOMEM, "%zu frames of sound", in->n_frames);
    for (size_t t = 0; t < in->n_frames; t++) {
        const float *frame = in->samples + t * (size_t)in->n_channels;
        double sum = 0;
        for (int c = 0; c < in->n_channels; c++)
            sum += (double)frame[c];
        mono[t] = (float)(sum / in->n_channels);
    }
    utter_status st =
        ut_resample(mono, in->n_frames, in->sample_rate, rate, &out->samples, &out->n_frames, err);
    ut_free(mono);
    if (st != UTTER_OK)
        return st;
    out->n_channels = 1;
    out->sample_rate = rate;
    return UTTER_OK;
}

void ut_pcm_to_s16(const float *x, size_t n, int16_t *out)
{
    for (size_t i = 0; i < n; i++) {
        float v = x[i] * 32767.0f;
        if (v > 32767.0f)
            v = 32767.0f;
        else if (v < -32768.0f)
            v = -32768.0f;
        out[i] = isnan(v) ? 0 : (int16_t)lrintf(v);
    }
}

/* ---- What this build has -------------------------------------------------------------------- */

const char *ut_audio_formats(void)
{
    static const char *const names[8] = {
        "wav",     "wav flac",     "wav ogg",     "wav flac ogg",
        "wav mp3", "wav flac mp3", "wav ogg mp3", "wav flac ogg mp3",
    };
    return names[(ut_compressed_has(UT_AUDIO_FLAC, 44100) ? 1 : 0) +
                 (ut_compressed_has(UT_AUDIO_OGG, 44100) ? 2 : 0) +
                 (ut_compressed_has(UT_AUDIO_MP3, 44100) ? 4 : 0)];
}
