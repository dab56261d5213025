/* test_audio.c - the writer in every format this build has, reading back through files, mixing to
 * mono, conversion to 16 bits. What libsndfile adds is tested where it is built in. */
#include "audio/audio.h"
#include "audio/wav.h"
#include "base/alloc.h"
#include "base/os.h"
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

static const char *program; /* this test's own path */

static bool has(const char *format)
{
    return strstr(ut_audio_formats(), format) != NULL;
}

/* A path in the scratch directory; freed by the caller. */
static char *scratch(const char *name)
{
    const char *dir = getenv("UT_TEST_TMP");
    char *path = ut_path_join(dir ? dir : ".", name);
    assert_non_null(path);
    return path;
}

/* One second of a tone that fades in, so that every moment is its own. */
#define N 16000
static void make_tone(float *x)
{
    for (int i = 0; i < N; i++)
        x[i] = (float)(0.8 * i / N * sin(2 * 3.14159265358979323846 * 440 * i / 16000));
}

static void check_file(const char *path, const void *expected, size_t n)
{
    uint8_t *data;
    size_t size;
    ut_err err = {0};
    if (ut_read_file(path, 1 << 20, &data, &size, &err) != UTTER_OK)
        fail_msg("%s", err.msg);
    assert_int_equal(size, n);
    assert_memory_equal(data, expected, n);
    ut_free(data);
}

/* ---- 16 bits -------------------------------------------------------------------------------- */

static void floats_become_16_bits(void **state)
{
    (void)state;
    static const float x[] = {0,     1,         -1,       0.5f,   -0.5f,        2,   -2,
                              1e30f, -INFINITY, INFINITY, -1e-9f, 3.4f / 32767, NAN, -1.00001f};
    static const int16_t expected[] = {0,     32767,  -32767, 16384, -16384, 32767, -32768,
                                       32767, -32768, 32767,  0,     3,      0,     -32767};
    int16_t out[14];
    ut_pcm_to_s16(x, 14, out);
    for (int i = 0; i < 14; i++)
        if (abs(out[i] - expected[i]) > (i == 3 || i == 4)) /* 16383.5: either neighbour */
            fail_msg("%g became %d, expected %d", (double)x[i], out[i], expected[i]);
    for (int v = -32767; v <= 32767; v++) {
        float f = (float)v / 32767.0f;
        ut_pcm_to_s16(&f, 1, out);
        assert_int_equal(out[0], v);
    }
}

/* ---- WAV and raw ---------------------------------------------------------------------------- */

/* The bytes of a header, from the format's definition. */
static void expect_header(uint8_t h[44], uint32_t riff, uint32_t rate, uint32_t data)
{
    static const uint8_t fixed[44] =
        "RIFF....WAVEfmt \x10\0\0\0\x01\0\x01\0........\x02\0\x10\0data";
    const uint32_t fields[][2] = {{4, riff}, {24, rate}, {28, rate * 2}, {40, data}};
    memcpy(h, fixed, sizeof fixed);
    for (int i = 0; i < 4; i++)
        for (int k = 0; k < 4; k++)
            h[fields[i][0] + (uint32_t)k] = (uint8_t)(fields[i][1] >> (8 * k));
}

static void a_wav_file_is_valid_all_the_time(void **state)
{
    (void)state;
    char *path = scratch("valid.WAV");
    static float x[N];
    static struct {
        uint8_t header[44];
        int16_t samples[N];
    } file;
    _Static_assert(sizeof file == 44 + 2 * N, "no padding");
    make_tone(x);
    ut_pcm_to_s16(x, N, file.samples);
    ut_audio_writer *w;
    ut_err err = {0};
    assert_int_equal(ut_audio_writer_open(&w, path, UT_AUDIO_BY_EXTENSION, 16000, &err), UTTER_OK);
    expect_header(file.header, 36, 16000, 0);
    check_file(path, &file, 44);
    size_t done = 0;
    static const size_t steps[] = {1, 4095, 4096, 0, 7000};
    for (size_t i = 0; i < sizeof steps / sizeof *steps; i++) {
        assert_int_equal(ut_audio_writer_write(w, x + done, steps[i], &err), UTTER_OK);
        done += steps[i];
        expect_header(file.header, (uint32_t)(36 + 2 * done), 16000, (uint32_t)(2 * done));
        check_file(path, &file, 44 + 2 * done);
    }
    assert_int_equal(ut_audio_writer_write(w, x + done, N - done, &err), UTTER_OK);
    assert_int_equal(ut_audio_writer_close(w, &err), UTTER_OK);
    expect_header(file.header, 36 + 2 * N, 16000, 2 * N);
    check_file(path, &file, sizeof file);

    ut_audio a;
    assert_int_equal(ut_audio_read(&a, path, 1.0, &err), UTTER_OK);
    assert_int_equal(a.n_frames, N);
    assert_int_equal(a.sample_rate, 16000);
    for (int i = 0; i < N; i++)
        assert_true(a.samples[i] == (float)file.samples[i] / 32768);
    ut_audio_free(&a);

    assert_int_equal(ut_audio_writer_open(&w, path, UT_AUDIO_RAW_S16, 16000, &err), UTTER_OK);
    assert_int_equal(ut_audio_writer_write(w, x, N, &err), UTTER_OK);
    assert_int_equal(ut_audio_writer_close(w, &err), UTTER_OK);
    check_file(path, file.samples, sizeof file.samples);
    ut_remove(path, NULL);
    ut_free(path);
}

static void headers_of_streams_and_of_large_files(void **state)
{
    (void)state;
    uint8_t got[44], expected[44];
    expect_header(expected, 0xffffffff, 44100, 0xffffffff);
    ut_wav_header(got, 44100, UT_WAV_UNKNOWN);
    assert_memory_equal(got, expected, 44);
    ut_wav_header(got, 44100, (uint64_t)1 << 32);
    assert_memory_equal(got, expected, 44);
    expect_header(expected, 0xffffffff - 8, 44100, 0xffffffff - 44);
    ut_wav_header(got, 44100, UT_WAV_MAX_DATA);
    assert_memory_equal(got, expected, 44);

    /* The writer stops before the size field would overflow, and leaves a good file. */
    char *path = scratch("large.wav");
    static const float x[4];
    ut_audio_writer *w;
    ut_err err = {0};
    assert_int_equal(ut_audio_writer_open(&w, path, UT_AUDIO_WAV, 8000, &err), UTTER_OK);
    assert_int_equal(ut_audio_writer_write(w, x, 4, &err), UTTER_OK);
    assert_int_equal(ut_audio_writer_write(w, x, ((size_t)1 << 31) - 26, &err), UTTER_ERR_LIMIT);
    assert_non_null(strstr(err.msg, "large.wav: a WAV file ends at 4 GiB"));
    ut_err again = {0}, last = {0};
    assert_int_equal(ut_audio_writer_write(w, x, 4, &again), UTTER_ERR_LIMIT);
    assert_string_equal(again.msg, err.msg);
    assert_int_equal(ut_audio_writer_close(w, &last), UTTER_ERR_LIMIT);
    assert_string_equal(last.msg, err.msg);
    struct {
        uint8_t header[44];
        int16_t samples[4];
    } file = {.samples = {0}};
    expect_header(file.header, 44, 8000, 8);
    check_file(path, &file, 52);
    ut_remove(path, NULL);
    ut_free(path);
}

/* Standard output: this program runs itself with it redirected (see main). */
static void standard_output_gets_a_stream(void **state)
{
    (void)state;
    char *path = scratch("stdout.wav");
#if defined(_WIN32) /* its shell takes the outer quotation marks away */
    char *command = ut_asprintf("\"\"%s\" --to-stdout >\"%s\"\"", program, path);
#else
    char *command = ut_asprintf("\"%s\" --to-stdout >\"%s\"", program, path);
#endif
    if (system(command) != 0)
        fail_msg("failed: %s", command);
    uint8_t expected[44 + 8];
    static const int16_t samples[] = {0, 16384, -16384, 32767};
    expect_header(expected, 0xffffffff, 8000, 0xffffffff);
    memcpy(expected + 44, samples, sizeof samples);
    check_file(path, expected, sizeof expected);
    ut_audio a;
    assert_int_equal(ut_audio_read(&a, path, 1.0, NULL), UTTER_OK);
    assert_int_equal(a.n_frames, 4);
    ut_audio_free(&a);
    ut_remove(path, NULL);
    ut_free(command);
    ut_free(path);
}

static int write_to_stdout(void)
{
    static const float x[] = {0, 16384.0f / 32767, -16384.0f / 32767, 1};
    ut_audio_writer *w;
    return ut_audio_writer_open(&w, "-", UT_AUDIO_BY_EXTENSION, 8000, NULL) != UTTER_OK ||
           ut_audio_writer_write(w, x, 4, NULL) != UTTER_OK ||
           ut_audio_writer_close(w, NULL) != UTTER_OK;
}

/* ---- Failures of the writer ----------------------------------------------------------------- */

static void formats_are_named_or_refused(void **state)
{
    (void)state;
    static const struct {
        const char *path;
        ut_audio_format format;
        int rate;
        utter_status status;
        const char *message;
    } bad[] = {
        {"x.txt", UT_AUDIO_BY_EXTENSION, 8000, UTTER_ERR_UNSUPPORTED,
         "x.txt: names no sound format, expected: wav"},
        {"wav", UT_AUDIO_BY_EXTENSION, 8000, UTTER_ERR_UNSUPPORTED, "names no sound format"},
        {"a.wav/x", UT_AUDIO_BY_EXTENSION, 8000, UTTER_ERR_UNSUPPORTED, "names no sound format"},
        {"x.wav", UT_AUDIO_WAV, 999, UTTER_ERR_ARG, "999 Hz, expected 1000 to 768000"},
        {"no/such/folder/x.wav", UT_AUDIO_WAV, 8000, UTTER_ERR_IO, "no/such/folder/x.wav: "},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        ut_audio_writer *w = (ut_audio_writer *)1;
        ut_err err = {0};
        assert_int_equal(ut_audio_writer_open(&w, bad[i].path, bad[i].format, bad[i].rate, &err),
                         bad[i].status);
        assert_null(w);
        if (!strstr(err.msg, bad[i].message))
            fail_msg("\"%s\" does not say \"%s\"", err.msg, bad[i].message);
    }
    assert_int_equal(ut_audio_writer_close(NULL, NULL), UTTER_OK);
    assert_memory_equal(ut_audio_formats(), "wav", 3);

    /* A rate that an encoder does not take, or a format that is not built in, costs no file. */
    char *path = scratch("kept.mp3");
    FILE *f = ut_fopen(path, "wb");
    assert_true(f && fputs("kept", f) >= 0 && fclose(f) == 0);
    ut_audio_writer *w;
    ut_err err = {0};
    assert_int_equal(ut_audio_writer_open(&w, path, UT_AUDIO_BY_EXTENSION, 44101, &err),
                     UTTER_ERR_UNSUPPORTED);
    assert_non_null(strstr(err.msg, has("mp3") ? "44101 Hz" : "this build cannot write mp3"));
    check_file(path, "kept", 4);
    ut_remove(path, NULL);
    ut_free(path);
}

static void a_full_disk_is_an_error(void **state)
{
    (void)state;
    static const ut_audio_format formats[] = {UT_AUDIO_WAV, UT_AUDIO_RAW_S16, UT_AUDIO_FLAC,
                                              UT_AUDIO_OGG, UT_AUDIO_MP3};
    static const char *const names[] = {"wav", "wav", "flac", "ogg", "mp3"};
    static float x[N];
    FILE *f = ut_fopen("/dev/full", "wb");
    if (!f)
        skip();
    fclose(f);
    make_tone(x);
    for (int i = 0; i < 5; i++) {
        if (!has(names[i]))
            continue;
        ut_audio_writer *w;
        ut_err err = {0}, last = {0};
        utter_status st = ut_audio_writer_open(&w, "/dev/full", formats[i], 16000, &err);
        for (int k = 0; k < 10 && st == UTTER_OK; k++) /* encoders hold some back */
            st = ut_audio_writer_write(w, x, N, &err);
        assert_int_equal(st, UTTER_ERR_IO);
        assert_memory_equal(err.msg, "/dev/full: ", 11);
        if (w)
            assert_int_equal(ut_audio_writer_close(w, &last), UTTER_ERR_IO);
    }
}

static void without_memory(void **state)
{
    (void)state;
    char *path = scratch("memory.wav");
    char *flac = scratch("memory.flac");
    for (int i = 0; i < (has("flac") ? 2 : 1); i++) {
        utter_status st = UTTER_ERR_NOMEM;
        uint64_t k = 1;
        for (; st != UTTER_OK; k++) {
            ut_audio_writer *w = (ut_audio_writer *)1;
            assert_true(k < 10);
            ut_alloc_fail_at(k);
            st = ut_audio_writer_open(&w, i ? flac : path, UT_AUDIO_BY_EXTENSION, 8000, NULL);
            ut_alloc_fail_at(0);
            if (st != UTTER_OK) {
                assert_int_equal(st, UTTER_ERR_NOMEM);
                assert_null(w);
            }
            ut_audio_writer_close(w, NULL);
        }
        assert_true(k > 3);
    }
    ut_remove(path, NULL);
    if (has("flac"))
        ut_remove(flac, NULL);
    ut_free(path);
    ut_free(flac);
}

/* ---- Compressed formats --------------------------------------------------------------------- */

static char *write_compressed(const char *name, const float *x, size_t n, int rate)
{
    char *path = scratch(name);
    ut_audio_writer *w;
    ut_err err = {0};
    if (ut_audio_writer_open(&w, path, UT_AUDIO_BY_EXTENSION, rate, &err) != UTTER_OK)
        fail_msg("%s", err.msg);
    for (size_t at = 0; at < n; at += 1000)
        assert_int_equal(ut_audio_writer_write(w, x + at, n - at < 1000 ? n - at : 1000, &err),
                         UTTER_OK);
    assert_int_equal(ut_audio_writer_close(w, &err), UTTER_OK);
    return path;
}

static void flac_gives_back_the_samples(void **state)
{
    (void)state;
    if (!has("flac"))
        skip();
    static float x[N];
    static int16_t expected[N];
    make_tone(x);
    ut_pcm_to_s16(x, N, expected);
    char *path = write_compressed("t.flac", x, N, 16000);
    ut_audio a;
    ut_err err = {0};
    assert_int_equal(ut_audio_read(&a, path, 1.0, &err), UTTER_OK);
    assert_int_equal(a.n_frames, N);
    assert_int_equal(a.n_channels, 1);
    assert_int_equal(a.sample_rate, 16000);
    for (int i = 0; i < N; i++)
        assert_true(a.samples[i] == (float)expected[i] / 32768);
    ut_audio_free(&a);
    assert_int_equal(ut_audio_read(&a, path, 0.9, &err), UTTER_ERR_LIMIT);

    uint8_t *data;
    size_t size;
    assert_int_equal(ut_read_file(path, 1 << 20, &data, &size, NULL), UTTER_OK);
    ut_err_clear(&err);
    assert_int_equal(ut_audio_read_memory(&a, data, size / 2, "half.flac", 10, &err),
                     UTTER_ERR_FORMAT);
    assert_non_null(strstr(err.msg, "half.flac: truncated"));
    assert_null(a.samples);
    /* 2^36 - 1 samples claimed in the stream's header, 36 bits from byte 21.5 on. */
    data[21] |= 0x0f;
    memset(data + 22, 0xff, 4);
    ut_err_clear(&err);
    assert_int_equal(ut_audio_read_memory(&a, data, size, "claim.flac", 1e12, &err),
                     UTTER_ERR_FORMAT);
    assert_non_null(strstr(err.msg, "16000 of 68719476735 frames"));
    ut_free(data);
    ut_remove(path, NULL);
    ut_free(path);
}

/* Lossy formats: the length, and a difference 20 dB below the signal at the best delay. */
static void check_lossy(const char *name, size_t most_extra)
{
    static float x[N];
    make_tone(x);
    char *path = write_compressed(name, x, N, 16000);
    ut_audio a;
    ut_err err = {0};
    if (ut_audio_read(&a, path, 10, &err) != UTTER_OK)
        fail_msg("%s", err.msg);
    assert_int_equal(a.n_channels, 1);
    assert_int_equal(a.sample_rate, 16000);
    assert_in_range(a.n_frames, N, N + most_extra);
    double best = 1e30, power = 0;
    for (size_t delay = 0; delay <= most_extra && delay + N <= a.n_frames; delay++) {
        double wrong = 0;
        power = 0;
        for (size_t i = 0; i < N; i++) {
            double d = (double)a.samples[i + delay] - (double)x[i];
            wrong += d * d;
            power += (double)x[i] * (double)x[i];
        }
        best = wrong < best ? wrong : best;
    }
    if (10 * log10(power / best) < 20)
        fail_msg("%s: %.1f dB", name, 10 * log10(power / best));
    ut_audio_free(&a);
    ut_remove(path, NULL);
    ut_free(path);
}

static void ogg_and_mp3_sound_alike(void **state)
{
    (void)state;
    if (has("ogg"))
        check_lossy("t.ogg", 0);
    if (has("mp3"))
        check_lossy("t.mp3", 3 * 576);
}

static void what_is_no_sound_is_refused(void **state)
{
    (void)state;
    static const char *const starts[] = {"fLaC", "OggS", "ID3\x03", "FORM", "text", "RIFX"};
    for (size_t i = 0; i < sizeof starts / sizeof *starts; i++) {
        uint8_t data[1000];
        uint32_t seed = 99;
        for (size_t k = 0; k < sizeof data; k++) {
            seed = seed * 1664525u + 1013904223u;
            data[k] = (uint8_t)(seed >> 24);
        }
        memcpy(data, starts[i], 4);
        ut_audio a;
        ut_err err = {0};
        utter_status st = ut_audio_read_memory(&a, data, sizeof data, "x", 10, &err);
        assert_true(st == UTTER_ERR_FORMAT || (!has("flac") && st == UTTER_ERR_UNSUPPORTED));
        assert_memory_equal(err.msg, "x: ", 3);
        assert_null(a.samples);
    }
    ut_audio a;
    ut_err err = {0};
    assert_int_equal(ut_audio_read(&a, "no/such.wav", 10, &err), UTTER_ERR_NOT_FOUND);
    assert_non_null(strstr(err.msg, "no/such.wav"));
}

static void reading_without_memory(void **state)
{
    (void)state;
    if (!has("flac"))
        skip();
    static float x[N];
    make_tone(x);
    char *path = write_compressed("memory2.flac", x, N, 16000);
    utter_status st = UTTER_ERR_NOMEM;
    uint64_t k = 1;
    for (; st != UTTER_OK; k++) {
        ut_audio a;
        assert_true(k < 50);
        ut_alloc_fail_at(k);
        st = ut_audio_read(&a, path, 10, NULL);
        ut_alloc_fail_at(0);
        if (st != UTTER_OK) {
            assert_int_equal(st, UTTER_ERR_NOMEM);
            assert_null(a.samples);
        }
        ut_audio_free(&a);
    }
    assert_true(k > 2);
    ut_remove(path, NULL);
    ut_free(path);
}

/* ---- Mono ----------------------------------------------------------------------------------- */

static void channels_are_averaged(void **state)
{
    (void)state;
    float samples[] = {1, 0.5f, 0, -1, -0.5f, 0, 0.25f, 0.5f, 0.75f};
    const ut_audio in = {samples, 3, 3, 22050};
    ut_audio mono;
    ut_err err = {0};
    assert_int_equal(ut_audio_to_mono(&in, 22050, &mono, &err), UTTER_OK);
    assert_int_equal(mono.n_frames, 3);
    assert_int_equal(mono.n_channels, 1);
    assert_int_equal(mono.sample_rate, 22050);
    assert_true(mono.samples[0] == 0.5f && mono.samples[1] == -0.5f && mono.samples[2] == 0.5f);
    ut_audio_free(&mono);
    assert_int_equal(ut_audio_to_mono(&in, 44100, &mono, &err), UTTER_OK);
    assert_int_equal(mono.n_frames, 6);
    assert_int_equal(mono.sample_rate, 44100);
    ut_audio_free(&mono);
    assert_int_equal(ut_audio_to_mono(&in, 0, &mono, &err), UTTER_ERR_ARG);
    assert_null(mono.samples);
    utter_status st = UTTER_ERR_NOMEM;
    for (uint64_t k = 1; st != UTTER_OK; k++) {
        assert_true(k < 10);
        ut_alloc_fail_at(k);
        st = ut_audio_to_mono(&in, 44100, &mono, NULL);
        ut_alloc_fail_at(0);
        assert_true(st == UTTER_OK || (st == UTTER_ERR_NOMEM && !mono.samples));
    }
    ut_audio_free(&mono);
}

int main(int argc, char **argv)
{
    program = argv[0];
    if (argc > 1 && strcmp(argv[1], "--to-stdout") == 0)
        return write_to_stdout();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(floats_become_16_bits),
        cmocka_unit_test(a_wav_file_is_valid_all_the_time),
        cmocka_unit_test(headers_of_streams_and_of_large_files),
        cmocka_unit_test(standard_output_gets_a_stream),
        cmocka_unit_test(formats_are_named_or_refused),
        cmocka_unit_test(a_full_disk_is_an_error),
        cmocka_unit_test(without_memory),
        cmocka_unit_test(flac_gives_back_the_samples),
        cmocka_unit_test(ogg_and_mp3_sound_alike),
        cmocka_unit_test(what_is_no_sound_is_refused),
        cmocka_unit_test(reading_without_memory),
        cmocka_unit_test(channels_are_averaged),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
