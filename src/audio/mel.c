/* mel.c - mel bands and log-mel spectra. The transform is a radix-2 FFT in double precision:
 * spectra are made once per recording, so what counts is that they are exact. */
#include "audio/mel.h"
#include "base/alloc.h"
#include <math.h>
#include <string.h>

#define PI 3.14159265358979323846

/* ---- Bands ---------------------------------------------------------------------------------- */

/* Slaney's scale: 3 mel per 200 Hz up to 1 kHz, then 27 mel per factor of 6.4. */
static double hz_to_mel(double f)
{
    return f < 1000 ? f * 3 / 200 : 15 + log(f / 1000) * 27 / log(6.4);
}

static double mel_to_hz(double m)
{
    return m < 15 ? m * 200 / 3 : 1000 * exp((m - 15) * log(6.4) / 27);
}

/* Border i of n_bands + 2: band b rises from border b to b + 1 and falls to b + 2. */
static double border(const ut_mel_params *p, int32_t i)
{
    const double low = hz_to_mel((double)p->low), high = hz_to_mel((double)p->high);
    return mel_to_hz(low + (high - low) * i / (p->n_bands + 1));
}

void ut_mel_filterbank(const ut_mel_params *p, float *bands)
{
    const int32_t n_bins = p->window / 2 + 1;
    for (int32_t b = 0; b < p->n_bands; b++) {
        const double left = border(p, b), top = border(p, b + 1), right = border(p, b + 2);
        for (int32_t k = 0; k < n_bins; k++) {
            const double f = (double)k * p->sample_rate / p->window;
            const double rise = (f - left) / (top - left), fall = (right - f) / (right - top);
            const double v = fmax(0, fmin(rise, fall)) * 2 / (right - left);
            bands[(size_t)b * (size_t)n_bins + (size_t)k] = (float)v;
        }
    }
}

/* ---- The transform -------------------------------------------------------------------------- */

typedef struct spectrum {
    int32_t n;       /* a power of two */
    double *re, *im; /* [n] */
    double *cosine;  /* [n]: cos(2 pi i / n) */
    double *hann;    /* [n] */
    float *bands;    /* [n_bands, n / 2 + 1] */
    double *memory;
} spectrum;

static bool spectrum_init(spectrum *s, const ut_mel_params *p)
{
    const size_t n = (size_t)p->window;
    memset(s, 0, sizeof *s);
    s->n = p->window;
    s->memory = ut_calloc(4 * n, sizeof *s->memory);
    s->bands = ut_calloc((size_t)p->n_bands * (n / 2 + 1), sizeof *s->bands);
    if (!s->memory || !s->bands)
        return false;
    s->re = s->memory;
    s->im = s->re + n;
    s->cosine = s->im + n;
    s->hann = s->cosine + n;
    for (int32_t i = 0; i < s->n; i++) {
        s->cosine[i] = cos(2 * PI * i / s->n);
        s->hann[i] = 0.5 - 0.5 * s->cosine[i];
    }
    ut_mel_filterbank(p, s->bands);
    return true;
}

static void spectrum_free(spectrum *s)
{
    ut_free(s->memory);
    ut_free(s->bands);
}

/* re + i im -> its discrete Fourier transform, in place. */
static void transform(spectrum *s)
{
    const int32_t n = s->n;
    for (int32_t i = 1, j = 0; i < n; i++) {
        int32_t bit = n >> 1;
        for (; j & bit; bit >>= 1)
            j ^= bit;
        j ^= bit;
        if (i < j) {
            const double re = s->re[i], im = s->im[i];
            s->re[i] = s->re[j];
            s->im[i] = s->im[j];
            s->re[j] = re;
            s->im[j] = im;
        }
    }
    for (int32_t len = 2; len <= n; len *= 2)
        for (int32_t i = 0; i < n; i += len)
            for (int32_t k = 0; k < len / 2; k++) {
                const int32_t turn = k * (n / len);
                const double c = s->cosine[turn], sn = -s->cosine[(turn + 3 * n / 4) % n];
                const int32_t a = i + k, b = a + len / 2;
                const double re = s->re[b] * c - s->im[b] * sn;
                const double im = s->re[b] * sn + s->im[b] * c;
                s->re[b] = s->re[a] - re;
                s->im[b] = s->im[a] - im;
                s->re[a] += re;
                s->im[a] += im;
            }
}

/* ---- Spectra -------------------------------------------------------------------------------- */

/* Sample i of the mirrored signal; -n < i < 2 n - 1. */
static float mirrored(const float *pcm, int64_t n, int64_t i)
{
    return pcm[i < 0 ? -i : i >= n ? 2 * (n - 1) - i : i];
}

static bool append_frame(spectrum *s, const ut_mel_params *p, ut_buf *out)
{
    const int32_t n_bins = s->n / 2 + 1;
    transform(s);
    for (int32_t k = 0; k < n_bins; k++)
        s->re[k] = sqrt(s->re[k] * s->re[k] + s->im[k] * s->im[k] + (double)p->power_floor);
    for (int32_t b = 0; b < p->n_bands; b++) {
        const float *band = s->bands + (size_t)b * (size_t)n_bins;
        double sum = 0;
        for (int32_t k = 0; k < n_bins; k++)
            sum += (double)band[k] * s->re[k];
        const float v = (float)log(fmax(sum, (double)p->floor));
        if (!ut_buf_append(out, &v, sizeof v))
            return false;
    }
    return true;
}

utter_status ut_mel_log(const ut_mel_params *p, const float *pcm, size_t n, ut_buf *out,
                        ut_err *err)
{
    const int64_t pad = (p->window - p->hop) / 2, total = (int64_t)n;
    if (total <= pad || total + 2 * pad < p->window)
        return ut_fail(err, UTTER_ERR_AUDIO, "a recording of %zu samples, expected more than %d", n,
                       (int)(pad > p->window - 2 * pad ? pad : p->window - 2 * pad - 1));
    spectrum s;
    bool ok = spectrum_init(&s, p);
    const int64_t frames = (total + 2 * pad - p->window) / p->hop + 1;
    for (int64_t f = 0; ok && f < frames; f++) {
        for (int32_t i = 0; i < s.n; i++) {
            s.re[i] = (double)mirrored(pcm, total, f * p->hop + i - pad) * s.hann[i];
            s.im[i] = 0;
        }
        ok = append_frame(&s, p, out);
    }
    spectrum_free(&s);
    return ok ? UTTER_OK : ut_fail(err, UTTER_ERR_NOMEM, "no memory for a spectrum");
}
