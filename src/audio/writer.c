/* writer.c - the sink for speech as it is made: WAV and raw samples by ourselves, compressed
 * formats through an encoder; one FILE, flushed after every write, whatever the format. */
#include "audio/audio.h"
#include "audio/compressed.h"
#include "audio/wav.h"
#include "base/alloc.h"
#include "base/os.h"
#include <errno.h>
#include <string.h>

#define BLOCK_SAMPLES 4096 /* converted at a time */

struct ut_audio_writer {
    ut_audio_format format;
    int sample_rate;
    char *path; /* "standard output" for "-" */
    FILE *stream;
    bool is_stdout;
    bool seekable; /* a regular file: what was written may be gone back to */
    uint64_t data_bytes;
    ut_encoder *encoder; /* of compressed formats */
    ut_err first;        /* failure of a write, repeated from then on */
};

/* ---- Formats -------------------------------------------------------------------------------- */

static bool same_word(const char *a, const char *b)
{
    for (; *a && *b; a++, b++)
        if ((*a >= 'A' && *a <= 'Z' ? *a + 'a' - 'A' : *a) != *b)
            return false;
    return *a == *b;
}

/* BY_EXTENSION when the extension is none of those. */
static ut_audio_format format_of_path(const char *path)
{
    static const struct {
        const char *extension;
        ut_audio_format format;
    } known[] = {
        {"wav", UT_AUDIO_WAV},     {"wave", UT_AUDIO_WAV},    {"flac", UT_AUDIO_FLAC},
        {"ogg", UT_AUDIO_OGG},     {"oga", UT_AUDIO_OGG},     {"mp3", UT_AUDIO_MP3},
        {"raw", UT_AUDIO_RAW_S16}, {"pcm", UT_AUDIO_RAW_S16}, {"s16", UT_AUDIO_RAW_S16},
    };
    if (strcmp(path, "-") == 0)
        return UT_AUDIO_WAV;
    const char *dot = NULL;
    for (const char *p = path; *p; p++)
        if (*p == '.')
            dot = p + 1;
        else if (*p == '/' || *p == '\\')
            dot = NULL;
    for (size_t i = 0; dot && i < sizeof known / sizeof *known; i++)
        if (same_word(dot, known[i].extension))
            return known[i].format;
    return UT_AUDIO_BY_EXTENSION;
}

static utter_status check_format(const char *path, ut_audio_format format, int sample_rate,
                                 ut_err *err)
{
    static const char *const names[] = {"?", "wav", "flac", "ogg", "mp3", "raw"};
    if (sample_rate < UT_AUDIO_MIN_RATE || sample_rate > UT_AUDIO_MAX_RATE)
        return ut_fail(err, UTTER_ERR_ARG, "%s: sample rate %d Hz, expected %d to %d", path,
                       sample_rate, UT_AUDIO_MIN_RATE, UT_AUDIO_MAX_RATE);
    switch (format) {
    case UT_AUDIO_WAV:
    case UT_AUDIO_RAW_S16:
        return UTTER_OK;
    case UT_AUDIO_FLAC:
    case UT_AUDIO_OGG:
    case UT_AUDIO_MP3:
        if (ut_compressed_has(format, sample_rate))
            return UTTER_OK;
        if (ut_compressed_has(format, 44100))
            return ut_fail(err, UTTER_ERR_UNSUPPORTED,
                           "%s: %s does not take a sample rate of %d Hz, wav does", path,
                           names[format], sample_rate);
        return ut_fail(err, UTTER_ERR_UNSUPPORTED,
                       "%s: this build cannot write %s, expected: %s raw", path, names[format],
                       ut_audio_formats());
    case UT_AUDIO_BY_EXTENSION:
        break;
    }
    return ut_fail(err, UTTER_ERR_UNSUPPORTED, "%s: names no sound format, expected: %s raw", path,
                   ut_audio_formats());
}

utter_status ut_audio_writer_check(const char *path, ut_audio_format format, int sample_rate,
                                   ut_err *err)
{
    if (format == UT_AUDIO_BY_EXTENSION)
        format = format_of_path(path);
    return check_format(path, format, sample_rate, err);
}

/* ---- Writing -------------------------------------------------------------------------------- */

static utter_status fail_write(ut_audio_writer *w)
{
    return ut_fail(&w->first, UTTER_ERR_IO, "%s: %s", w->path,
                   errno ? strerror(errno) : "could not be written");
}

static utter_status put(ut_audio_writer *w, const void *data, size_t n)
{
    errno = 0;
    return fwrite(data, 1, n, w->stream) == n ? UTTER_OK : fail_write(w);
}

static utter_status flush(ut_audio_writer *w)
{
    errno = 0;
    return fflush(w->stream) == 0 ? UTTER_OK : fail_write(w);
}

/* Bring the sizes in a WAV header up to date; the samples they count are written already. */
static utter_status update_header(ut_audio_writer *w)
{
    uint8_t header[UT_WAV_HEADER_BYTES];
    utter_status st = flush(w);
    if (w->format != UT_AUDIO_WAV || !w->seekable || st != UTTER_OK)
        return st;
    ut_wav_header(header, w->sample_rate, w->data_bytes);
    errno = 0;
    if (fseek(w->stream, 0, SEEK_SET) != 0)
        return fail_write(w);
    st = put(w, header, sizeof header);
    if (st == UTTER_OK)
        st = flush(w);
    errno = 0;
    if (st == UTTER_OK && fseek(w->stream, 0, SEEK_END) != 0)
        st = fail_write(w);
    return st;
}

static utter_status write_samples(ut_audio_writer *w, const float *x, size_t n)
{
    int16_t block[BLOCK_SAMPLES];
    if (w->format == UT_AUDIO_WAV && w->seekable && n > (UT_WAV_MAX_DATA - w->data_bytes) / 2)
        return ut_fail(&w->first, UTTER_ERR_LIMIT,
                       "%s: a WAV file ends at 4 GiB; flac, mp3, ogg and raw do not", w->path);
    while (n) {
        size_t k = n < BLOCK_SAMPLES ? n : BLOCK_SAMPLES;
        ut_pcm_to_s16(x, k, block);
        utter_status st = w->encoder ? ut_encoder_write(w->encoder, block, k, &w->first)
                                     : put(w, block, k * sizeof *block);
        if (st != UTTER_OK)
            return st;
        w->data_bytes += k * sizeof *block;
        x += k;
        n -= k;
    }
    return update_header(w);
}

utter_status ut_audio_writer_write(ut_audio_writer *w, const float *x, size_t n, ut_err *err)
{
    if (w->first.status == UTTER_OK)
        write_samples(w, x, n);
    return w->first.status == UTTER_OK ? UTTER_OK
                                       : ut_fail(err, w->first.status, "%s", w->first.msg);
}

/* ---- Opening and closing -------------------------------------------------------------------- */

static utter_status begin(ut_audio_writer *w, ut_err *err)
{
    if (w->format == UT_AUDIO_RAW_S16)
        return UTTER_OK;
    if (w->format != UT_AUDIO_WAV)
        return ut_encoder_open(&w->encoder, w->stream, w->seekable, w->format, w->sample_rate,
                               w->path, err);
    uint8_t header[UT_WAV_HEADER_BYTES];
    ut_wav_header(header, w->sample_rate, w->seekable ? 0 : UT_WAV_UNKNOWN);
    utter_status st = put(w, header, sizeof header);
    if (st == UTTER_OK)
        st = flush(w);
    return st == UTTER_OK ? st : ut_fail(err, st, "%s", w->first.msg);
}

utter_status ut_audio_writer_open(ut_audio_writer **out, const char *path, ut_audio_format format,
                                  int sample_rate, ut_err *err)
{
    *out = NULL;
    bool is_stdout = strcmp(path, "-") == 0;
    if (format == UT_AUDIO_BY_EXTENSION)
        format = format_of_path(path);
    utter_status st = check_format(path, format, sample_rate, err);
    if (st != UTTER_OK)
        return st;
    ut_audio_writer *w = ut_calloc(1, sizeof *w);
    if (w)
        w->path = ut_strdup(is_stdout ? "standard output" : path);
    if (!w || !w->path) {
        st = ut_fail(err, UTTER_ERR_NOMEM, "%s", path);
        goto done;
    }
    w->format = format;
    w->sample_rate = sample_rate;
    w->is_stdout = is_stdout;
    if (is_stdout) {
        w->stream = stdout;
        ut_binary_mode(stdout);
    } else {
        w->stream = ut_fopen(path, "wb");
        if (!w->stream) {
            st = ut_fail(err, UTTER_ERR_IO, "%s: %s", path, strerror(errno));
            goto done;
        }
        w->seekable = ut_file_exists(path);
    }
    st = begin(w, err);
    if (st != UTTER_OK)
        goto done;
    *out = w;
    w = NULL;
done:
    ut_audio_writer_close(w, NULL);
    return st;
}

utter_status ut_audio_writer_close(ut_audio_writer *w, ut_err *err)
{
    if (!w)
        return UTTER_OK;
    ut_encoder_close(w->encoder, &w->first);
    if (w->stream) {
        flush(w);
        errno = 0;
        if (!w->is_stdout && fclose(w->stream) != 0)
            fail_write(w);
    }
    utter_status st = w->first.status;
    if (st != UTTER_OK)
        ut_fail(err, st, "%s", w->first.msg);
    ut_free(w->path);
    ut_free(w);
    return st;
}
