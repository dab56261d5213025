/* wav.c - reads and writes the WAV container (Microsoft, "Multimedia Programming Interface", 1991;
 * WAVE_FORMAT_EXTENSIBLE; EBU Tech 3306 for RF64). */
#include "audio/wav.h"
#include <string.h>

enum { TAG_PCM = 1, TAG_FLOAT = 3, TAG_EXTENSIBLE = 0xfffe };

static uint32_t u16(const uint8_t *p)
{
    return (uint32_t)p[0] | (uint32_t)p[1] << 8;
}

static uint32_t u32(const uint8_t *p)
{
    return u16(p) | u16(p + 2) << 16;
}

static uint64_t u64(const uint8_t *p)
{
    return u32(p) | (uint64_t)u32(p + 4) << 32;
}

bool ut_wav_match(const void *data, size_t size)
{
    const char *p = data;
    return size >= 12 && (memcmp(p, "RIFF", 4) == 0 || memcmp(p, "RF64", 4) == 0) &&
           memcmp(p + 8, "WAVE", 4) == 0;
}

/* The format chunk: body[0..n). block: bytes of a frame. */
static utter_status parse_format(ut_wav *w, const uint8_t *body, size_t n, size_t *block,
                                 const char *name, ut_err *err)
{
    /* The tail that turns a format tag into a sub-format GUID. */
    static const uint8_t guid[14] = {0, 0, 0, 0, 0x10, 0, 0x80, 0, 0, 0xaa, 0, 0x38, 0x9b, 0x71};
    if (n < 16)
        return ut_fail(err, UTTER_ERR_FORMAT, "%s: format chunk of %zu bytes, expected 16", name,
                       n);
    uint32_t tag = u16(body), channels = u16(body + 2), rate = u32(body + 4), bits = u16(body + 14);
    *block = u16(body + 12);
    if (tag == TAG_EXTENSIBLE && n >= 40 && memcmp(body + 26, guid, sizeof guid) == 0)
        tag = u16(body + 24);
    if (tag != TAG_PCM && tag != TAG_FLOAT)
        return ut_fail(err, UTTER_ERR_UNSUPPORTED,
                       "%s: WAV codec 0x%04x, expected PCM (1) or float (3)", name, (unsigned)tag);
    w->is_float = tag == TAG_FLOAT;
    if (channels == 0 || channels > INT16_MAX || rate > INT32_MAX)
        return ut_fail(err, UTTER_ERR_FORMAT, "%s: %u channels at %u Hz", name, (unsigned)channels,
                       (unsigned)rate);
    if (w->is_float ? bits != 32 && bits != 64 : bits < 1 || bits > 32)
        return ut_fail(err, UTTER_ERR_FORMAT, "%s: %u-bit %s samples, expected %s", name,
                       (unsigned)bits, w->is_float ? "float" : "integer",
                       w->is_float ? "32 or 64" : "1 to 32");
    w->n_channels = (int)channels;
    w->sample_rate = (int)rate;
    w->sample_bytes = (int)(bits + 7) / 8;
    if (*block != channels * (uint32_t)w->sample_bytes)
        return ut_fail(err, UTTER_ERR_FORMAT,
                       "%s: frames of %zu bytes, expected %u channels of %d bytes", name, *block,
                       (unsigned)channels, w->sample_bytes);
    return UTTER_OK;
}

utter_status ut_wav_parse(ut_wav *w, const void *data, size_t size, const char *name, ut_err *err)
{
    const uint8_t *file = data;
    memset(w, 0, sizeof *w);
    if (!ut_wav_match(data, size))
        return ut_fail(err, UTTER_ERR_FORMAT, "%s: no WAV header", name);
    uint64_t riff_size = u32(file + 4), long_size = UINT64_MAX;
    size_t block = 0;
    for (size_t at = 12; size - at >= 8;) {
        const uint8_t *body = file + at + 8;
        size_t left = size - at - 8;
        uint64_t n = u32(file + at + 4);
        if (memcmp(file + at, "data", 4) == 0) {
            if (block == 0)
                return ut_fail(err, UTTER_ERR_FORMAT, "%s: data before their format", name);
            /* A program that could not go back to fill in the sizes left 0 or 0xffffffff. */
            bool unknown = n == UINT32_MAX || (n == 0 && riff_size <= at);
            if (n == UINT32_MAX && long_size != UINT64_MAX) {
                n = long_size; /* RF64 */
                unknown = false;
            }
            size_t bytes = unknown || n > left ? left : (size_t)n;
            if (bytes % block)
                return ut_fail(err, UTTER_ERR_FORMAT,
                               "%s: truncated, the last frame has %zu bytes, expected %zu", name,
                               bytes % block, block);
            w->data = body;
            w->n_frames = bytes / block;
            return UTTER_OK;
        }
        if (n > left)
            break;
        if (memcmp(file + at, "fmt ", 4) == 0) {
            utter_status st = parse_format(w, body, (size_t)n, &block, name, err);
            if (st != UTTER_OK)
                return st;
        } else if (memcmp(file + at, "ds64", 4) == 0 && n >= 16) {
            long_size = u64(body + 8);
        }
        size_t step = 8 + (size_t)n + (size_t)(n & 1);
        at = step > size - at ? size : at + step;
    }
    return ut_fail(err, UTTER_ERR_FORMAT, "%s: truncated, no %s chunk", name,
                   block ? "data" : "format");
}

static float float_at(const uint8_t *p, int bytes)
{
    if (bytes == 4) {
        uint32_t u = u32(p);
        float f;
        memcpy(&f, &u, sizeof f);
        return f;
    }
    uint64_t u = u64(p);
    double d;
    memcpy(&d, &u, sizeof d);
    return (float)d;
}

/* Samples of fewer bits than their bytes hold stand at the high end. */
static float integer_at(const uint8_t *p, int bytes)
{
    if (bytes == 1) /* the only unsigned one */
        return (float)((int)p[0] - 128) / 128.0f;
    uint32_t u = 0;
    for (int i = 0; i < bytes; i++)
        u |= (uint32_t)p[i] << (32 - 8 * (bytes - i));
    int32_t v;
    memcpy(&v, &u, sizeof v);
    return (float)v / 2147483648.0f;
}

void ut_wav_to_float(const ut_wav *w, float *out)
{
    size_t n = w->n_frames * (size_t)w->n_channels;
    const uint8_t *p = w->data;
    for (size_t i = 0; i < n; i++, p += w->sample_bytes)
        out[i] = w->is_float ? float_at(p, w->sample_bytes) : integer_at(p, w->sample_bytes);
}

static void put32(uint8_t *p, uint32_t v)
{
    for (int i = 0; i < 4; i++)
        p[i] = (uint8_t)(v >> (8 * i));
}

void ut_wav_header(uint8_t out[UT_WAV_HEADER_BYTES], int sample_rate, uint64_t data_bytes)
{
    bool fits = data_bytes <= UT_WAV_MAX_DATA;
    memcpy(out, "RIFF....WAVEfmt ", 16);
    put32(out + 4, fits ? (uint32_t)data_bytes + UT_WAV_HEADER_BYTES - 8 : UINT32_MAX);
    put32(out + 16, 16);
    put32(out + 20, TAG_PCM | 1u << 16);         /* mono */
    put32(out + 24, (uint32_t)sample_rate);      /* frames ... */
    put32(out + 28, (uint32_t)sample_rate * 2u); /* ... and bytes per second */
    put32(out + 32, 2u | 16u << 16);             /* bytes of a frame, bits of a sample */
    memcpy(out + 36, "data", 4);
    put32(out + 40, fits ? (uint32_t)data_bytes : UINT32_MAX);
}
