/* resample.c - change of sample rate: which resampler, and our own.
 *
 * With L / M = rate_out / rate_in in lowest terms, output j lies at input position j M / L. It is
 * the convolution of the input with a low-pass filter, a sinc under a Hann window (J. O. Smith,
 * "Digital Audio Resampling"):
 *     h(t) = 2 f sinc(2 f t) cos^2(pi t / 2W), |t| < W = 64 / 2f,
 *     f = 0.95 / 2 * min(1, L / M) cycles per input sample.
 * The fraction of j M / L takes L values; for each, the taps are computed once, in double, scaled
 * to sum 1 (so a constant stays what it is), and used for every output that has it. */
#include "audio/resample.h"
#include "audio/audio.h"
#include "base/alloc.h"
#include <math.h>
#include <string.h>

#define ZERO_CROSSINGS 64
#define ROLLOFF        0.95

static const double pi = 3.14159265358979323846;

typedef struct ratio {
    uint64_t up, down; /* L, M */
} ratio;

static ratio lowest_terms(int rate_in, int rate_out)
{
    int a = rate_in, b = rate_out;
    while (b) {
        int t = a % b;
        a = b;
        b = t;
    }
    return (ratio){(uint64_t)(rate_out / a), (uint64_t)(rate_in / a)};
}

static utter_status check_rates(int rate_in, int rate_out, ut_err *err)
{
    if (rate_in >= UT_AUDIO_MIN_RATE && rate_in <= UT_AUDIO_MAX_RATE &&
        rate_out >= UT_AUDIO_MIN_RATE && rate_out <= UT_AUDIO_MAX_RATE)
        return UTTER_OK;
    return ut_fail(err, UTTER_ERR_ARG, "resampler from %d to %d Hz, expected %d to %d", rate_in,
                   rate_out, UT_AUDIO_MIN_RATE, UT_AUDIO_MAX_RATE);
}

/* Memory for ceil(n L / M) samples. */
static utter_status allocate(size_t n, ratio r, float **out, size_t *n_out, ut_err *err)
{
    size_t scaled;
    *out = NULL;
    *n_out = 0;
    if (!ut_size_mul(n, (size_t)r.up, &scaled) || !ut_size_add(scaled, r.down - 1, &scaled) ||
        !(*out = ut_calloc(scaled / r.down, sizeof **out)))
        return ut_fail(err, UTTER_ERR_NOMEM, "%zu samples to resample", n);
    *n_out = scaled / r.down;
    return UTTER_OK;
}

/* A point on the unit circle that moves by the same angle each time: sines of a sequence for the
 * price of four multiplications. */
typedef struct rotor {
    double c, s, step_c, step_s;
} rotor;

static rotor rotor_at(double angle, double step)
{
    return (rotor){cos(angle), sin(angle), cos(step), sin(step)};
}

static void rotate(rotor *r)
{
    double c = r->c * r->step_c - r->s * r->step_s;
    r->s = r->s * r->step_c + r->c * r->step_s;
    r->c = c;
}

/* taps[k], 0 <= k < 2 half, for input sample k - half + 1 relative to the one at or before the
 * output; the output is `fraction` after that one. */
static void make_taps(float *taps, size_t half, double f, double fraction)
{
    double width = ZERO_CROSSINGS / (2 * f), sum = 0, t = fraction + (double)half - 1;
    rotor wave = rotor_at(2 * pi * f * t, -2 * pi * f);
    rotor window = rotor_at(pi * t / width, -pi / width);
    for (size_t k = 0; k < 2 * half; k++, t -= 1) {
        double x = 2 * pi * f * t, h = 0;
        if (fabs(t) < width)
            h = (fabs(x) < 1e-6 ? 1 : wave.s / x) * (0.5 + 0.5 * window.c);
        sum += h;
        taps[k] = (float)h;
        rotate(&wave);
        rotate(&window);
    }
    for (size_t k = 0; k < 2 * half; k++)
        taps[k] = (float)((double)taps[k] / sum);
}

/* Eight sums side by side, which compilers can put into vector registers. */
static float dot(const float *a, const float *b, size_t n)
{
    float part[8] = {0};
    size_t i = 0;
    for (; i + 8 <= n; i += 8)
        for (size_t k = 0; k < 8; k++)
            part[k] += a[i + k] * b[i + k];
    for (; i < n; i++)
        part[i % 8] += a[i] * b[i];
    return ((part[0] + part[1]) + (part[2] + part[3])) +
           ((part[4] + part[5]) + (part[6] + part[7]));
}

utter_status ut_resample_sinc(const float *in, size_t n, int rate_in, int rate_out, float **out,
                              size_t *n_out, ut_err *err)
{
    *out = NULL;
    *n_out = 0;
    utter_status st = check_rates(rate_in, rate_out, err);
    if (st != UTTER_OK)
        return st;
    ratio r = lowest_terms(rate_in, rate_out);
    double f = ROLLOFF / 2 * (r.up < r.down ? (double)r.up / (double)r.down : 1);
    size_t half = (size_t)ceil(ZERO_CROSSINGS / (2 * f)) + 1, total;
    float *taps = ut_calloc(2 * half, sizeof *taps), *y;
    if (!taps)
        return ut_fail(err, UTTER_ERR_NOMEM, "%zu taps of a resampler", 2 * half);
    st = allocate(n, r, &y, &total, err);
    if (st != UTTER_OK)
        goto done;
    for (size_t first = 0; first < r.up && first < total; first++) {
        make_taps(taps, half, f, (double)(first * r.down % r.up) / (double)r.up);
        size_t at = (size_t)(first * r.down / r.up); /* input sample at or before the output */
        for (size_t j = first; j < total; j += r.up, at += r.down) {
            /* Input [begin, end) of [at - half + 1, at + half] exists. */
            size_t begin = at + 1 > half ? at + 1 - half : 0;
            size_t end = at + half + 1 < n ? at + half + 1 : n;
            y[j] = dot(in + begin, taps + (begin + half - 1 - at), end - begin);
        }
    }
    *out = y;
    *n_out = total;
done:
    ut_free(taps);
    return st;
}

utter_status ut_resample(const float *in, size_t n, int rate_in, int rate_out, float **out,
                         size_t *n_out, ut_err *err)
{
    *out = NULL;
    *n_out = 0;
    utter_status st = check_rates(rate_in, rate_out, err);
    if (st != UTTER_OK)
        return st;
    if (rate_in != rate_out && !ut_soxr_available())
        return ut_resample_sinc(in, n, rate_in, rate_out, out, n_out, err);
    float *y;
    size_t total;
    st = allocate(n, lowest_terms(rate_in, rate_out), &y, &total, err);
    if (st != UTTER_OK)
        return st;
    if (rate_in != rate_out)
        st = ut_soxr_run(in, n, rate_in, rate_out, y, total, err);
    else if (n)
        memcpy(y, in, n * sizeof *y);
    if (st != UTTER_OK) {
        ut_free(y);
        return st;
    }
    *out = y;
    *n_out = total;
    return UTTER_OK;
}

const char *ut_audio_resampler(void)
{
    return ut_soxr_available() ? "soxr" : "built-in windowed sinc";
}
