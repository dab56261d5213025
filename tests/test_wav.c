/* test_wav.c - reading WAV files: every sample format by value, odd and broken files. */
#include "audio/audio.h"
#include "audio/wav.h"
#include "base/alloc.h"
#include "base/buf.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

/* ---- Files built by hand -------------------------------------------------------------------- */

static void put_le(ut_buf *b, uint64_t v, int bytes)
{
    for (int i = 0; i < bytes; i++)
        assert_true(ut_buf_append(b, &(uint8_t){(uint8_t)(v >> (8 * i))}, 1));
}

static void put_id(ut_buf *b, const char *id)
{
    assert_true(ut_buf_append(b, id, 4));
}

typedef struct wav_spec {
    unsigned tag, channels, rate, bits, sample_bytes;
    bool extensible;
} wav_spec;

static const wav_spec mono16 = {1, 1, 8000, 16, 2, false};

static void put_chunk(ut_buf *b, const char *id, uint32_t size)
{
    put_id(b, id);
    put_le(b, size, 4);
}

/* A new file: the header of everything. */
static void begin_riff(ut_buf *b, const char *id)
{
    ut_buf_init(b, (size_t)1 << 26);
    put_chunk(b, id, 0xffffffff);
    put_id(b, "WAVE");
}

/* A format chunk of this size: 16, with more zeros behind it, or 40 when extensible. */
static void put_format(ut_buf *b, const wav_spec *s, unsigned size)
{
    put_chunk(b, "fmt ", size);
    put_le(b, s->extensible ? 0xfffe : s->tag, 2);
    put_le(b, s->channels, 2);
    put_le(b, s->rate, 4);
    put_le(b, (uint64_t)s->rate * s->channels * s->sample_bytes, 4);
    put_le(b, (uint64_t)s->channels * s->sample_bytes, 2);
    put_le(b, s->extensible ? 8 * s->sample_bytes : s->bits, 2);
    if (s->extensible) {
        static const uint8_t tail[] = {0, 0, 0, 0, 0x10, 0, 0x80, 0, 0, 0xaa, 0, 0x38, 0x9b, 0x71};
        put_le(b, 22, 2);
        put_le(b, s->bits, 2);
        put_le(b, 0x63f, 4); /* 7.1 */
        put_le(b, s->tag, 2);
        assert_true(ut_buf_append(b, tail, sizeof tail));
    }
    for (unsigned n = s->extensible ? 40 : 16; n < size; n++)
        put_le(b, 0, 1);
}

/* All in front of the samples; the data chunk says data_size. */
static void begin_wav(ut_buf *b, const wav_spec *s, uint32_t data_size)
{
    begin_riff(b, "RIFF");
    put_format(b, s, s->extensible ? 40 : 16);
    put_chunk(b, "data", data_size);
}

static utter_status read_buf(const ut_buf *b, ut_audio *a, ut_err *err)
{
    return ut_audio_read_memory(a, b->data, b->len, "t.wav", 1e9, err);
}

/* The file must be refused with this status, and a message that starts with its name and has this
 * in it. */
static void refused(const ut_buf *b, utter_status status, const char *message)
{
    ut_audio a;
    ut_err err = {0};
    utter_status st = read_buf(b, &a, &err);
    if (st != status || strncmp(err.msg, "t.wav: ", 7) != 0 || !strstr(err.msg, message))
        fail_msg("%s \"%s\", expected %s \"%s\"", ut_status_name(st), err.msg,
                 ut_status_name(status), message);
    assert_null(a.samples);
}

/* ---- Values --------------------------------------------------------------------------------- */

static void every_sample_format_by_value(void **state)
{
    (void)state;
    uint32_t third;
    uint64_t tenth;
    memcpy(&third, &(float){1.0f / 3}, sizeof third);
    memcpy(&tenth, &(double){-0.1}, sizeof tenth);
    const struct {
        wav_spec spec;
        uint64_t stored[4];
        float expected[4];
    } cases[] = {
        {{1, 1, 8000, 8, 1, false}, {0x80, 0, 0xff, 0x81}, {0, -1, 127.0f / 128, 1.0f / 128}},
        {{1, 1, 8000, 16, 2, false},
         {0, 0x8000, 0x7fff, 0xffff},
         {0, -1, 32767.0f / 32768, -1.0f / 32768}},
        {{1, 1, 8000, 24, 3, false},
         {0, 0x800000, 0x7fffff, 0xffffff},
         {0, -1, 8388607.0f / 8388608, -1.0f / 8388608}},
        {{1, 1, 8000, 32, 4, false},
         {0, 0x80000000, 0x40000000, 0xffffffff},
         {0, -1, 0.5f, -1.0f / 2147483648}},
        /* 12 bits in two bytes and 20 in three stand at the high end. */
        {{1, 1, 8000, 12, 2, false}, {0x4000, 0x8000, 0x10, 0}, {0.5f, -1, 1.0f / 2048, 0}},
        {{1, 1, 8000, 20, 3, true}, {0x400000, 0x800000, 0x10, 0}, {0.5f, -1, 1.0f / 524288, 0}},
        {{3, 1, 8000, 32, 4, false}, {third, 0x3f800000, 0xc0000000, 0}, {1.0f / 3, 1, -2, 0}},
        {{3, 1, 8000, 64, 8, false},
         {tenth, 0x3ff0000000000000, 0, 0x8000000000000000},
         {-0.1f, 1, 0, -0.0f}},
        {{1, 1, 8000, 16, 2, true}, {0x4000, 0xc000, 0, 0}, {0.5f, -0.5f, 0, 0}},
        {{3, 1, 8000, 32, 4, true}, {third, 0, 0, 0}, {1.0f / 3, 0, 0, 0}},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const wav_spec *s = &cases[i].spec;
        ut_buf b;
        ut_audio a;
        ut_err err = {0};
        begin_wav(&b, s, 4 * s->sample_bytes);
        for (int k = 0; k < 4; k++)
            put_le(&b, cases[i].stored[k], (int)s->sample_bytes);
        if (read_buf(&b, &a, &err) != UTTER_OK)
            fail_msg("case %zu: %s", i, err.msg);
        assert_int_equal(a.n_frames, 4);
        assert_int_equal(a.n_channels, 1);
        assert_int_equal(a.sample_rate, 8000);
        for (int k = 0; k < 4; k++)
            if (memcmp(&a.samples[k], &cases[i].expected[k], sizeof(float)) != 0)
                fail_msg("case %zu: sample %d is %.9g, expected %.9g", i, k, (double)a.samples[k],
                         (double)cases[i].expected[k]);
        ut_audio_free(&a);
        assert_null(a.samples);
        ut_buf_free(&b);
    }
}

static void channels_stay_interleaved(void **state)
{
    (void)state;
    static const unsigned counts[] = {1, 2, 6, 8, 64};
    for (size_t i = 0; i < sizeof counts / sizeof *counts; i++) {
        const wav_spec s = {1, counts[i], 48000, 16, 2, counts[i] > 2};
        ut_buf b;
        ut_audio a;
        begin_wav(&b, &s, 3 * counts[i] * 2);
        for (unsigned k = 0; k < 3 * counts[i]; k++)
            put_le(&b, 100 * k, 2);
        assert_int_equal(read_buf(&b, &a, NULL), UTTER_OK);
        assert_int_equal(a.n_frames, 3);
        assert_int_equal(a.n_channels, counts[i]);
        for (unsigned k = 0; k < 3 * counts[i]; k++)
            assert_true(a.samples[k] == (float)(100 * k) / 32768);
        ut_audio_free(&a);
        ut_buf_free(&b);
    }
}

/* ---- Containers ----------------------------------------------------------------------------- */

/* Frames of a ramp that a file reads as. */
static size_t frames_of(const ut_buf *b)
{
    ut_audio a;
    ut_err err = {0};
    if (read_buf(b, &a, &err) != UTTER_OK)
        fail_msg("%s", err.msg);
    size_t n = a.n_frames;
    for (size_t i = 0; i < n; i++)
        assert_true(a.samples[i] == (float)(i + 1) / 32768);
    ut_audio_free(&a);
    return n;
}

static void put_ramp(ut_buf *b, int n)
{
    for (int i = 1; i <= n; i++)
        put_le(b, (uint64_t)i, 2);
}

static void sizes_that_nobody_filled_in(void **state)
{
    (void)state;
    static const uint32_t sizes[] = {0xffffffff, 0x7fffffff, 0xfffffff0, 21, 20};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        ut_buf b;
        begin_wav(&b, &mono16, sizes[i]);
        put_ramp(&b, 10);
        assert_int_equal(frames_of(&b), 10);
        ut_buf_free(&b);
    }
    /* 0 in a header that counts nothing behind it, as streams have. */
    ut_buf b;
    begin_wav(&b, &mono16, 0);
    memset(b.data + 4, 0, 4);
    put_ramp(&b, 10);
    assert_int_equal(frames_of(&b), 10);
    b.data[4] = 36;
    assert_int_equal(frames_of(&b), 10);
    b.data[4] = 36 + 20; /* here the 0 means what it says */
    refused(&b, UTTER_ERR_AUDIO, "no samples");
    ut_buf_free(&b);
    /* What is behind the samples is not sound. */
    begin_wav(&b, &mono16, 8);
    put_ramp(&b, 4);
    put_chunk(&b, "LIST", 4);
    put_id(&b, "INFO");
    assert_int_equal(frames_of(&b), 4);
    ut_buf_free(&b);
}

static void other_chunks_are_skipped(void **state)
{
    (void)state;
    for (unsigned size = 0; size < 5; size++) { /* odd ones are padded */
        ut_buf b;
        begin_riff(&b, "RIFF");
        for (int where = 0; where < 2; where++) {
            put_chunk(&b, "JUNK", size);
            for (unsigned i = 0; i < size + size % 2; i++)
                put_le(&b, 'd', 1);
            if (where == 0)
                put_format(&b, &mono16, 18);
        }
        put_chunk(&b, "data", 6);
        put_ramp(&b, 3);
        assert_int_equal(frames_of(&b), 3);
        ut_buf_free(&b);
    }
}

static void rf64_has_its_size_elsewhere(void **state)
{
    (void)state;
    ut_buf b;
    begin_riff(&b, "RF64");
    put_chunk(&b, "ds64", 28);
    put_le(&b, 1000, 8);
    put_le(&b, 6, 8); /* bytes of samples; 4 more follow that are none */
    put_le(&b, 3, 8);
    put_le(&b, 0, 4);
    put_format(&b, &mono16, 16);
    put_chunk(&b, "data", 0xffffffff);
    put_ramp(&b, 5);
    assert_int_equal(frames_of(&b), 3);
    ut_buf_free(&b);
}

/* ---- Refusals ------------------------------------------------------------------------------- */

static void unusable_sound_is_refused(void **state)
{
    (void)state;
    static const struct {
        wav_spec spec;
        utter_status status;
        const char *message;
    } bad[] = {
        {{1, 65, 8000, 16, 2, false}, UTTER_ERR_AUDIO, "65 channels, expected 1 to 64"},
        {{1, 0, 8000, 16, 2, false}, UTTER_ERR_FORMAT, "0 channels"},
        {{1, 1, 999, 16, 2, false}, UTTER_ERR_AUDIO, "999 Hz, expected 1000 to 768000"},
        {{1, 1, 768001, 16, 2, false}, UTTER_ERR_AUDIO, "768001 Hz"},
        {{1, 1, 0, 16, 2, false}, UTTER_ERR_AUDIO, "sample rate 0 Hz"},
        {{1, 1, 8000, 0, 0, false}, UTTER_ERR_FORMAT, "0-bit integer samples"},
        {{1, 1, 8000, 33, 5, false}, UTTER_ERR_FORMAT, "33-bit integer samples"},
        {{3, 1, 8000, 16, 2, false}, UTTER_ERR_FORMAT, "16-bit float samples, expected 32 or 64"},
        {{1, 1, 8000, 16, 3, false},
         UTTER_ERR_FORMAT,
         "frames of 3 bytes, expected 1 channels of 2"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        ut_buf b;
        begin_wav(&b, &bad[i].spec, 3120);
        for (int k = 0; k < 3120; k++)
            put_le(&b, 0, 1);
        refused(&b, bad[i].status, bad[i].message);
        ut_buf_free(&b);
    }
}

static void values_that_are_no_numbers_are_refused(void **state)
{
    (void)state;
    static const struct {
        uint32_t bits;
        const char *message;
    } bad[] = {{0x7fc00000, "sample 1 of channel 0 is not a number"},
               {0x7f800000, "sample 1 of channel 0 is infinite"},
               {0xff800000, "infinite"}};
    const wav_spec s = {3, 2, 8000, 32, 4, false};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        ut_buf b;
        begin_wav(&b, &s, 16);
        put_le(&b, 0, 8);
        put_le(&b, bad[i].bits, 4);
        put_le(&b, 0, 4);
        refused(&b, UTTER_ERR_AUDIO, bad[i].message);
        ut_buf_free(&b);
    }
    /* A double that is finite, but not as a float. */
    const wav_spec d = {3, 1, 8000, 64, 8, false};
    ut_buf b;
    begin_wav(&b, &d, 8);
    put_le(&b, 0x7fe0000000000000, 8);
    refused(&b, UTTER_ERR_AUDIO, "infinite");
    ut_buf_free(&b);
}

static void broken_files_are_refused(void **state)
{
    (void)state;
    ut_buf b;
    begin_wav(&b, &mono16, 20);
    put_ramp(&b, 10);
    /* Every way to cut it off: sound only where whole frames are left. */
    for (size_t n = b.len; n-- > 0;) {
        ut_audio a;
        ut_err err = {0};
        ut_buf cut = b;
        cut.len = n;
        utter_status st = ut_audio_read_memory(&a, cut.data, n, "t.wav", 1e9, &err);
        if (n >= 46 && n % 2 == 0) {
            assert_int_equal(st, UTTER_OK);
            assert_int_equal(a.n_frames, (n - 44) / 2);
        } else {
            assert_int_equal(st, n == 44 ? UTTER_ERR_AUDIO : UTTER_ERR_FORMAT);
            assert_non_null(strstr(err.msg, "t.wav: "));
        }
        ut_audio_free(&a);
    }
    ut_buf cut = b;
    cut.len = 47;
    refused(&cut, UTTER_ERR_FORMAT, "truncated, the last frame has 1 bytes, expected 2");
    cut.len = 30;
    refused(&cut, UTTER_ERR_FORMAT, "truncated, no format chunk");
    cut.len = 40;
    refused(&cut, UTTER_ERR_FORMAT, "truncated, no data chunk");
    cut.len = 0;
    refused(&cut, UTTER_ERR_FORMAT, "empty file");

    b.data[16] = 14; /* size of the format chunk */
    refused(&b, UTTER_ERR_FORMAT, "format chunk of 14 bytes");
    b.data[16] = 0xf0;
    b.data[19] = 0xff;
    refused(&b, UTTER_ERR_FORMAT, "no format chunk");
    b.data[16] = 16;
    b.data[19] = 0;
    memcpy(b.data + 12, "fmd ", 4);
    refused(&b, UTTER_ERR_FORMAT, "data before their format");
    ut_buf_free(&b);
}

/* A header may claim 4 GB, which would be 16 GB of floats; only what is there counts. */
static void claims_cost_no_memory(void **state)
{
    (void)state;
    for (int rf64 = 0; rf64 < 2; rf64++) {
        const wav_spec s = {1, 64, 8000, 8, 1, false};
        ut_buf b;
        ut_audio a;
        begin_wav(&b, &s, 0xfffffff0);
        for (int i = 0; i < 1024; i++)
            put_le(&b, 128, 1);
        if (rf64)
            memcpy(b.data, "RF64", 4);
        assert_int_equal(read_buf(&b, &a, NULL), UTTER_OK);
        assert_int_equal(a.n_frames, 16);
        ut_audio_free(&a);
        ut_buf_free(&b);
    }
}

static void limits_and_memory(void **state)
{
    (void)state;
    ut_buf b;
    ut_audio a;
    ut_err err = {0};
    begin_wav(&b, &mono16, 32000);
    for (int i = 0; i < 16000; i++)
        put_le(&b, 0, 2);
    assert_int_equal(ut_audio_read_memory(&a, b.data, b.len, "t.wav", 2.0, &err), UTTER_OK);
    assert_int_equal(a.n_frames, 16000);
    ut_audio_free(&a);
    assert_int_equal(ut_audio_read_memory(&a, b.data, b.len, "t.wav", 1.9, &err), UTTER_ERR_LIMIT);
    assert_string_equal(err.msg, "t.wav: at least 2.0 s of sound, expected at most 1.9 s");
    assert_null(a.samples);
    ut_err_clear(&err);
    ut_alloc_fail_at(1);
    assert_int_equal(ut_audio_read_memory(&a, b.data, b.len, "t.wav", 2.0, &err), UTTER_ERR_NOMEM);
    ut_alloc_fail_at(0);
    assert_null(a.samples);
    ut_buf_free(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_sample_format_by_value),
        cmocka_unit_test(channels_stay_interleaved),
        cmocka_unit_test(sizes_that_nobody_filled_in),
        cmocka_unit_test(other_chunks_are_skipped),
        cmocka_unit_test(rf64_has_its_size_elsewhere),
        cmocka_unit_test(unusable_sound_is_refused),
        cmocka_unit_test(values_that_are_no_numbers_are_refused),
        cmocka_unit_test(broken_files_are_refused),
        cmocka_unit_test(claims_cost_no_memory),
        cmocka_unit_test(limits_and_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
