/* compressed.c - the one file that knows libsndfile. It reads from memory and writes to our own
 * stream, so that paths, errors and flushing are the same for every format. (Its MP3 decoder,
 * libmpg123, notes damaged files on standard error by itself; libsndfile gives no way to stop it.)
 */
#include "audio/compressed.h"
#include "base/alloc.h"
#include <string.h>

#if defined(UT_HAVE_SNDFILE)

#include <errno.h>
#include <limits.h>
#include <sndfile.h>

#define BLOCK_SAMPLES 16384 /* floats decoded at a time */
#define VORBIS_FRAMES 2048  /* its encoder takes stack in proportion to what it is given at once */
#define MP3_RATE                                                                                   \
    0.667 /* linear between 320 (0) and 32 kbit/s (1): 128; below 32 kHz about half that */

static int library_format(ut_audio_format format)
{
    switch (format) {
    case UT_AUDIO_FLAC:
        return SF_FORMAT_FLAC | SF_FORMAT_PCM_16;
    case UT_AUDIO_OGG:
        return SF_FORMAT_OGG | SF_FORMAT_VORBIS;
    case UT_AUDIO_MP3:
        return SF_FORMAT_MPEG | SF_FORMAT_MPEG_LAYER_III;
    default:
        return 0;
    }
}

bool ut_compressed_available(void)
{
    return true;
}

/* ---- Reading from memory -------------------------------------------------------------------- */

typedef struct source {
    const uint8_t *data;
    sf_count_t size, at;
} source;

static sf_count_t source_size(void *user)
{
    return ((source *)user)->size;
}

static sf_count_t source_seek(sf_count_t offset, int whence, void *user)
{
    source *s = user;
    sf_count_t base = whence == SEEK_SET ? 0 : whence == SEEK_CUR ? s->at : s->size;
    if (offset < -base || offset > s->size - base)
        return -1;
    return s->at = base + offset;
}

static sf_count_t source_read(void *out, sf_count_t n, void *user)
{
    source *s = user;
    if (n > s->size - s->at)
        n = s->size - s->at;
    if (n <= 0)
        return 0;
    memcpy(out, s->data + s->at, (size_t)n);
    s->at += n;
    return n;
}

static sf_count_t source_write(const void *in, sf_count_t n, void *user)
{
    (void)in;
    (void)n;
    (void)user;
    return 0;
}

static sf_count_t source_tell(void *user)
{
    return ((source *)user)->at;
}

/* Decode to the end, growing the samples as they come: a header may claim any length. */
static utter_status decode_all(ut_audio *a, SNDFILE *file, const char *name, double max_seconds,
                               ut_err *err)
{
    size_t channels = (size_t)a->n_channels, block = BLOCK_SAMPLES / channels, capacity = 0;
    for (;;) {
        if (capacity - a->n_frames < block) {
            size_t frames = capacity < block ? block : capacity + capacity / 2 + block, bytes;
            float *grown = NULL;
            if (ut_size_mul(frames, channels * sizeof *grown, &bytes))
                grown = ut_realloc(a->samples, bytes, 1);
            if (!grown)
                return ut_fail(err, UTTER_ERR_NOMEM, "%s: %zu frames of sound", name, frames);
            a->samples = grown;
            capacity = frames;
        }
        sf_count_t n = sf_readf_float(file, a->samples + a->n_frames * channels, (sf_count_t)block);
        if (n <= 0)
            break;
        a->n_frames += (size_t)n;
        utter_status st = ut_audio_check(name, a->n_channels, a->sample_rate, (int64_t)a->n_frames,
                                         max_seconds, err);
        if (st != UTTER_OK)
            return st;
    }
    if (sf_error(file) != SF_ERR_NO_ERROR)
        return ut_fail(err, UTTER_ERR_FORMAT, "%s: damaged after %zu frames: %s", name, a->n_frames,
                       sf_strerror(file));
    return UTTER_OK;
}

utter_status ut_compressed_read(ut_audio *a, const void *data, size_t size, const char *name,
                                double max_seconds, ut_err *err)
{
    memset(a, 0, sizeof *a);
    source src = {data, (sf_count_t)size, 0};
    SF_VIRTUAL_IO io = {source_size, source_seek, source_read, source_write, source_tell};
    SF_INFO info = {0};
    SNDFILE *file = sf_open_virtual(&io, SFM_READ, &info, &src);
    if (!file)
        return ut_fail(err, UTTER_ERR_FORMAT, "%s: not a sound file that can be read: %s", name,
                       sf_strerror(NULL));
    utter_status st = ut_audio_check(name, info.channels, info.samplerate, -1, max_seconds, err);
    if (st == UTTER_OK) {
        a->n_channels = info.channels;
        a->sample_rate = info.samplerate;
        st = decode_all(a, file, name, max_seconds, err);
    }
    /* FLAC states the exact length; in the others it is an estimate, or what the file has. */
    bool exact = (info.format & SF_FORMAT_TYPEMASK) == SF_FORMAT_FLAC && info.frames > 0 &&
                 info.frames < SF_COUNT_MAX;
    if (st == UTTER_OK && exact && a->n_frames < (uint64_t)info.frames)
        st = ut_fail(err, UTTER_ERR_FORMAT, "%s: truncated, %zu of %lld frames are there", name,
                     a->n_frames, (long long)info.frames);
    if (st == UTTER_OK)
        st = ut_audio_check(name, a->n_channels, a->sample_rate, (int64_t)a->n_frames, max_seconds,
                            err);
    sf_close(file);
    if (st != UTTER_OK)
        ut_audio_free(a);
    return st;
}

/* ---- Writing to a stream -------------------------------------------------------------------- */

struct ut_encoder {
    SNDFILE *file;
    const char *name;
    FILE *stream; /* NULL: discards */
    bool seekable, failed;
    int error;           /* errno of the failure, or 0 */
    sf_count_t at, size; /* position in and length of what was written */
};

static sf_count_t sink_size(void *user)
{
    return ((ut_encoder *)user)->size;
}

static void note_failure(ut_encoder *e)
{
    if (!e->failed)
        e->error = errno;
    e->failed = true;
}

/* On a stream that cannot go back only the position it has can be reached. */
static sf_count_t sink_seek(sf_count_t offset, int whence, void *user)
{
    ut_encoder *e = user;
    sf_count_t base = whence == SEEK_SET ? 0 : whence == SEEK_CUR ? e->at : e->size;
    sf_count_t to = base + offset;
    if (to == e->at)
        return to;
    if (!e->seekable || to < 0 || to > e->size || (to > LONG_MAX && to < e->size))
        return -1;
    errno = 0;
    int st = to == e->size ? fseek(e->stream, 0, SEEK_END) : fseek(e->stream, (long)to, SEEK_SET);
    if (st != 0) {
        note_failure(e);
        return -1;
    }
    return e->at = to;
}

static sf_count_t sink_read(void *out, sf_count_t n, void *user)
{
    (void)out;
    (void)n;
    (void)user;
    return 0;
}

static sf_count_t sink_write(const void *in, sf_count_t n, void *user)
{
    ut_encoder *e = user;
    errno = 0;
    size_t done = e->stream ? fwrite(in, 1, (size_t)n, e->stream) : (size_t)n;
    if (done != (size_t)n)
        note_failure(e);
    e->at += (sf_count_t)done;
    if (e->at > e->size)
        e->size = e->at;
    return (sf_count_t)done;
}

static sf_count_t sink_tell(void *user)
{
    return ((ut_encoder *)user)->at;
}

static SNDFILE *open_sink(ut_encoder *e, ut_audio_format format, int sample_rate)
{
    SF_INFO info = {.samplerate = sample_rate, .channels = 1, .format = library_format(format)};
    SF_VIRTUAL_IO io = {sink_size, sink_seek, sink_read, sink_write, sink_tell};
    return info.format ? sf_open_virtual(&io, SFM_WRITE, &info, e) : NULL;
}

/* Rates of MPEG-1, MPEG-2 and MPEG-2.5. (libsndfile refuses others, too, but leaks its encoder.) */
static bool is_mpeg_rate(int rate)
{
    for (int part = 1; part <= 4; part *= 2)
        if (rate * part == 32000 || rate * part == 44100 || rate * part == 48000)
            return true;
    return false;
}

/* The other encoders know best which rates they take, some when the first sample comes: try. */
bool ut_compressed_has(ut_audio_format format, int sample_rate)
{
    if (format == UT_AUDIO_MP3 && !is_mpeg_rate(sample_rate))
        return false;
    ut_encoder e = {0};
    SNDFILE *file = open_sink(&e, format, sample_rate);
    bool has = file && sf_writef_short(file, &(int16_t){0}, 1) == 1;
    if (file)
        sf_close(file);
    return has;
}

utter_status ut_encoder_open(ut_encoder **out, FILE *stream, bool seekable, ut_audio_format format,
                             int sample_rate, const char *name, ut_err *err)
{
    *out = NULL;
    ut_encoder *e = ut_calloc(1, sizeof *e);
    if (!e)
        return ut_fail(err, UTTER_ERR_NOMEM, "%s: encoder", name);
    e->name = name;
    e->stream = stream;
    e->seekable = seekable;
    e->file = open_sink(e, format, sample_rate);
    if (!e->file) {
        utter_status st = ut_fail(err, e->failed ? UTTER_ERR_IO : UTTER_ERR_UNSUPPORTED, "%s: %s",
                                  name, e->error ? strerror(e->error) : sf_strerror(NULL));
        ut_free(e);
        return st;
    }
    if (format == UT_AUDIO_MP3) {
        /* A constant rate: the length of a stream or an interrupted file can be told from its
         * size, without the header that is written last. */
        int mode = SF_BITRATE_MODE_CONSTANT;
        double rate = MP3_RATE;
        sf_command(e->file, SFC_SET_BITRATE_MODE, &mode, sizeof mode);
        sf_command(e->file, SFC_SET_COMPRESSION_LEVEL, &rate, sizeof rate);
    }
    *out = e;
    return UTTER_OK;
}

utter_status ut_encoder_write(ut_encoder *e, const int16_t *x, size_t n, ut_err *err)
{
    while (n) {
        size_t k = n < VORBIS_FRAMES ? n : VORBIS_FRAMES;
        if (sf_writef_short(e->file, x, (sf_count_t)k) != (sf_count_t)k || e->failed)
            return ut_fail(err, UTTER_ERR_IO, "%s: %s", e->name,
                           e->error ? strerror(e->error) : sf_strerror(e->file));
        x += k;
        n -= k;
    }
    return UTTER_OK;
}

utter_status ut_encoder_close(ut_encoder *e, ut_err *err)
{
    if (!e)
        return UTTER_OK;
    utter_status st = UTTER_OK;
    /* On a stream that cannot go back the closing header fails, as it must. */
    if ((sf_close(e->file) != 0 && e->seekable) || e->failed)
        st = ut_fail(err, UTTER_ERR_IO, "%s: %s", e->name,
                     e->error ? strerror(e->error) : "could not be finished");
    ut_free(e);
    return st;
}

#else /* a build without libsndfile */

bool ut_compressed_available(void)
{
    return false;
}

bool ut_compressed_has(ut_audio_format format, int sample_rate)
{
    (void)format;
    (void)sample_rate;
    return false;
}

utter_status ut_compressed_read(ut_audio *a, const void *data, size_t size, const char *name,
                                double max_seconds, ut_err *err)
{
    (void)data;
    (void)size;
    (void)max_seconds;
    memset(a, 0, sizeof *a);
    return ut_fail(err, UTTER_ERR_UNSUPPORTED, "%s: this build reads wav only", name);
}

utter_status ut_encoder_open(ut_encoder **out, FILE *stream, bool seekable, ut_audio_format format,
                             int sample_rate, const char *name, ut_err *err)
{
    (void)stream;
    (void)seekable;
    (void)format;
    (void)sample_rate;
    *out = NULL;
    return ut_fail(err, UTTER_ERR_UNSUPPORTED, "%s: this build writes wav only", name);
}

utter_status ut_encoder_write(ut_encoder *e, const int16_t *x, size_t n, ut_err *err)
{
    (void)e;
    (void)x;
    (void)n;
    return ut_fail(err, UTTER_ERR_INTERNAL, "an encoder that cannot exist");
}

utter_status ut_encoder_close(ut_encoder *e, ut_err *err)
{
    (void)e;
    (void)err;
    return UTTER_OK;
}

#endif
