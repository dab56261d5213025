/* test_base.c - src/base without JSON: failures, memory, numbers, files, cores, threads. */
#include "base/alloc.h"
#include "base/arena.h"
#include "base/buf.h"
#include "base/cpu.h"
#include "base/dtype.h"
#include "base/err.h"
#include "base/half.h"
#include "base/log.h"
#include "base/os.h"
#include "base/philox.h"
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

/* ---- Failures and the log ------------------------------------------------------------------- */

static void err_keeps_the_first_failure(void **state)
{
    (void)state;
    ut_err err = {0};
    assert_int_equal(ut_fail(&err, UTTER_ERR_IO, "%s: gone", "a.bin"), UTTER_ERR_IO);
    assert_int_equal(ut_fail(&err, UTTER_ERR_NOMEM, "later"), UTTER_ERR_NOMEM);
    assert_int_equal(err.status, UTTER_ERR_IO);
    assert_string_equal(err.msg, "a.bin: gone");
    assert_int_equal(ut_fail_in(&err, "voice %d", 7), UTTER_ERR_IO);
    assert_string_equal(err.msg, "voice 7: a.bin: gone");
    ut_err_clear(&err);
    assert_int_equal(err.status, UTTER_OK);
    assert_string_equal(err.msg, "");
    assert_int_equal(ut_fail(NULL, UTTER_ERR_ARG, "nobody listens"), UTTER_ERR_ARG);
}

static void err_message_is_one_clean_line(void **state)
{
    (void)state;
    ut_err err = {0};
    ut_fail(&err, UTTER_ERR_MODEL, "tensor \"%s\"", "a\nb\x1b[2J\x7f");
    assert_string_equal(err.msg, "tensor \"a?b?[2J?\"");

    /* Two-byte characters from an odd offset: the cut falls inside one of them. */
    char lengthy[2000];
    memset(lengthy, 0, sizeof lengthy);
    for (size_t i = 0; i + 2 < sizeof lengthy; i += 2)
        memcpy(lengthy + i, "\xc3\xa9", 2);
    for (int shift = 0; shift < 2; shift++) {
        ut_err_clear(&err);
        ut_fail(&err, UTTER_ERR_TEXT, "%s%s", shift ? "x" : "", lengthy);
        size_t n = strlen(err.msg);
        assert_true(n >= sizeof err.msg - 3 && n < sizeof err.msg);
        assert_int_equal((n - (size_t)shift) % 2, 0);
        assert_memory_equal(err.msg + n - 2, "\xc3\xa9", 2);
        ut_fail_in(&err, "file");
        n = strlen(err.msg);
        assert_true(n < sizeof err.msg);
        assert_memory_equal(err.msg, shift ? "file: x\xc3" : "file: \xc3\xa9", 7);
        assert_memory_equal(err.msg + n - 2, "\xc3\xa9", 2);
    }
}

static void status_names_and_texts(void **state)
{
    (void)state;
    assert_string_equal(ut_status_name(UTTER_OK), "OK");
    assert_string_equal(ut_status_name(UTTER_ERR_IO), "ERR_IO");
    assert_string_equal(ut_status_text(UTTER_ERR_CANCELLED), "the caller asked to stop");
    assert_non_null(ut_status_name((utter_status)12345));
    assert_non_null(ut_status_text((utter_status)12345));
}

typedef struct heard {
    int n, level;
    char text[64];
} heard;

static void hear(void *user, int level, const char *message)
{
    heard *h = user;
    h->n++;
    h->level = level;
    snprintf(h->text, sizeof h->text, "%s", message);
}

static void log_goes_to_the_sink_or_nowhere(void **state)
{
    (void)state;
    heard h = {0};
    ut_log(UT_LOG_ERROR, "before");
    ut_log_set(hear, &h);
    ut_log(UT_LOG_WARN, "%d frames", 3);
    ut_log_set(NULL, NULL);
    ut_log(UT_LOG_ERROR, "after");
    assert_int_equal(h.n, 1);
    assert_int_equal(h.level, UT_LOG_WARN);
    assert_string_equal(h.text, "3 frames");
}

/* ---- Memory --------------------------------------------------------------------------------- */

static void alloc_checks_sizes(void **state)
{
    (void)state;
    size_t out = 42;
    assert_false(ut_size_mul(SIZE_MAX / 2 + 1, 2, &out));
    assert_false(ut_size_add(SIZE_MAX, 1, &out));
    assert_int_equal(out, 42);
    assert_true(ut_size_mul(SIZE_MAX, 1, &out));
    assert_true(out == SIZE_MAX);
    assert_true(ut_size_mul(0, SIZE_MAX, &out));
    assert_int_equal(out, 0);
    assert_true(ut_size_add(SIZE_MAX - 1, 1, &out));
    assert_true(out == SIZE_MAX);

    assert_null(ut_calloc(SIZE_MAX / 2, 3));
    assert_null(ut_alloc_aligned(SIZE_MAX - 8));
    char *p = ut_malloc(4);
    memcpy(p, "abc", 4);
    assert_null(ut_realloc(p, SIZE_MAX / 2, 3));
    assert_string_equal(p, "abc");
    ut_free(p);
    void *empty = ut_malloc(0);
    assert_non_null(empty);
    ut_free(empty);
    ut_free(NULL);
}

static void alloc_aligned_is_aligned_and_zero(void **state)
{
    (void)state;
    for (size_t size = 0; size < 300; size += 7) {
        uint8_t *p = ut_alloc_aligned(size);
        assert_int_equal((uintptr_t)p % 64, 0);
        for (size_t i = 0; i < size; i++)
            assert_int_equal(p[i], 0);
        memset(p, 0xff, size);
        ut_free_aligned(p);
    }
    ut_free_aligned(NULL);
}

static void alloc_counts_and_fails_where_told(void **state)
{
    (void)state;
    uint64_t before = ut_alloc_count();
    char *a = ut_strdup("four"), *b = ut_asprintf("%s-%d", "x", 5), *c = ut_strndup("abcdef", 3);
    assert_int_equal(ut_alloc_count() - before, 3);
    assert_string_equal(a, "four");
    assert_string_equal(b, "x-5");
    assert_string_equal(c, "abc");
    ut_free(a);
    ut_free(b);
    ut_free(c);

    ut_alloc_fail_at(2);
    void *first = ut_malloc(1), *second = ut_calloc(1, 1), *third = ut_alloc_aligned(1);
    assert_non_null(first);
    assert_null(second);
    assert_non_null(third);
    ut_free(first);
    ut_free_aligned(third);

    ut_alloc_fail_at(1);
    ut_alloc_fail_at(0);
    first = ut_malloc(1);
    assert_non_null(first);
    ut_free(first);
}

static void arena_gives_aligned_zeroed_pieces(void **state)
{
    (void)state;
    ut_arena *a = ut_arena_new(4096);
    assert_int_equal(ut_arena_bytes(a), 0);
    uint8_t *pieces[100];
    for (int i = 0; i < 100; i++) {
        size_t size = (size_t)i * 13; /* larger than what is left of a block, now and then */
        pieces[i] = ut_arena_alloc(a, size);
        assert_int_equal((uintptr_t)pieces[i] % 64, 0);
        for (size_t k = 0; k < size; k++)
            assert_int_equal(pieces[i][k], 0);
        memset(pieces[i], i, size);
    }
    for (int i = 0; i < 100; i++)
        for (int k = 0; k < i * 13; k++)
            assert_int_equal(pieces[i][k], i);
    uint8_t *large = ut_arena_alloc(a, 100000);
    memset(large, 1, 100000);
    assert_string_equal(ut_arena_strdup(a, "words"), "words");
    assert_string_equal(ut_arena_printf(a, "layers.%d", 12), "layers.12");
    assert_null(ut_arena_alloc(a, SIZE_MAX));
    assert_null(ut_arena_alloc(a, SIZE_MAX - 100));
    assert_true(ut_arena_bytes(a) >= 100000 + 99 * 100 / 2 * 13);
    size_t bytes = ut_arena_bytes(a);
    ut_alloc_fail_at(1);
    assert_null(ut_arena_alloc(a, 5000));
    assert_int_equal(ut_arena_bytes(a), bytes);
    ut_arena_free(a);
    ut_arena_free(NULL);
}

static void buf_grows_to_its_cap_and_no_further(void **state)
{
    (void)state;
    ut_buf b;
    ut_buf_init(&b, 1000);
    for (int i = 0; i < 200; i++)
        assert_true(ut_buf_puts(&b, "12345"));
    assert_int_equal(b.len, 1000);
    assert_true(b.cap <= 1001);
    assert_int_equal(b.data[1000], 0);
    assert_false(ut_buf_append(&b, "x", 1));
    assert_false(ut_buf_printf(&b, "%s", "x"));
    assert_false(ut_buf_reserve(&b, SIZE_MAX));
    assert_true(ut_buf_append(&b, NULL, 0));
    assert_int_equal(b.len, 1000);

    ut_buf_consume(&b, 996);
    assert_string_equal((char *)b.data, "2345");
    assert_true(ut_buf_printf(&b, "-%03d", 7));
    assert_string_equal((char *)b.data, "2345-007");
    ut_buf_consume(&b, 100);
    assert_int_equal(b.len, 0);
    assert_string_equal((char *)b.data, "");

    for (int32_t i = 0; i < 20; i++)
        assert_true(ut_buf_push_i32(&b, i * -1000));
    assert_int_equal(ut_buf_n_i32(&b), 20);
    assert_int_equal(ut_buf_i32(&b)[19], -19000);
    ut_buf_free(&b);
    assert_int_equal(b.len, 0);
    ut_alloc_fail_at(1);
    assert_false(ut_buf_puts(&b, "no memory"));
    assert_true(ut_buf_puts(&b, "again"));
    assert_string_equal((char *)b.data, "again");
    ut_buf_free(&b);
}

/* ---- Numbers -------------------------------------------------------------------------------- */

static float from_bits(uint32_t u)
{
    float f;
    memcpy(&f, &u, sizeof f);
    return f;
}

static void philox_known_answers(void **state)
{
    (void)state;
    /* Random123, kat_vectors, philox4x32 with 10 rounds. */
    static const struct {
        uint32_t counter[4], key[2], out[4];
    } kat[] = {
        {{0}, {0}, {0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}},
        {{0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff},
         {0xffffffff, 0xffffffff},
         {0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}},
        {{0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344},
         {0xa4093822, 0x299f31d0},
         {0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}},
    };
    for (size_t i = 0; i < sizeof kat / sizeof kat[0]; i++) {
        uint32_t out[4];
        ut_philox4x32(out, kat[i].counter, kat[i].key);
        assert_memory_equal(out, kat[i].out, sizeof out);
    }
    assert_true(ut_philox_uniform(0) == 0x1p-24f);
    assert_true(ut_philox_uniform(UINT32_MAX) == 1.0f - 0x1p-24f);
}

/* Rounding by definition: the nearest of all 2^16 values, the even one on ties. */
static uint16_t nearest_half(double x, float (*value)(uint16_t), uint16_t largest)
{
    uint16_t sign = signbit(x) ? 0x8000 : 0;
    x = fabs(x);
    uint16_t low = 0, high = (uint16_t)(largest + 1); /* values below `high` are finite */
    while (high - low > 1) {
        uint16_t mid = (uint16_t)((low + high) / 2);
        if ((double)value(mid) <= x)
            low = mid;
        else
            high = mid;
    }
    double below = (double)value(low), step = below - (double)value((uint16_t)(low - 1));
    double above = low == largest ? below + step : (double)value((uint16_t)(low + 1));
    bool up = x - below > above - x || (x - below == above - x && (low & 1));
    return (uint16_t)(sign | (low + (up ? 1 : 0)));
}

static float bf16_value(uint16_t h)
{
    return ut_bf16_to_f32(h);
}

static void half_rounds_to_nearest_even(void **state)
{
    (void)state;
    for (uint32_t h = 0; h < 65536; h++) {
        float f = ut_f16_to_f32((uint16_t)h);
        if (isnan(f)) {
            assert_true(isnan(ut_f16_to_f32(ut_f32_to_f16(f))));
            assert_true(isnan(ut_bf16_to_f32(ut_f32_to_bf16(f))));
        } else {
            assert_int_equal(ut_f32_to_f16(f), h);
        }
        float b = ut_bf16_to_f32((uint16_t)h);
        if (!isnan(b))
            assert_int_equal(ut_f32_to_bf16(b), h);
    }
    assert_true(ut_f16_to_f32(0x0001) == 0x1p-24f);
    assert_true(ut_f16_to_f32(0x7bff) == 65504.0f);
    assert_true(ut_f16_to_f32(0x3c00) == 1.0f);
    assert_true(isinf(ut_f16_to_f32(0xfc00)));

    uint32_t key[2] = {2024, 7}, counter[4] = {0}, r[4];
    for (; counter[0] < 50000; counter[0]++) {
        ut_philox4x32(r, counter, key);
        /* exponents 2^-27 .. 2^17: zero, subnormal, normal and infinite in f16 */
        uint32_t exponent = 100 + r[1] % 45;
        uint32_t bits = (r[0] & 0x807fffffu) | exponent << 23;
        if (r[2] & 1) /* ties and their neighbours */
            bits = (bits & ~0x1fffu) | (0xfffu + r[3] % 3);
        float x = from_bits(bits);
        assert_int_equal(ut_f32_to_f16(x), nearest_half((double)x, ut_f16_to_f32, 0x7bff));
        if (r[2] & 2)
            x = from_bits((bits & ~0xffffu) | (0x7fffu + r[3] % 3));
        assert_int_equal(ut_f32_to_bf16(x), nearest_half((double)x, bf16_value, 0x7f7f));
        assert_true(ut_round_bf16(x) == ut_bf16_to_f32(ut_f32_to_bf16(x)));
    }
}

static void dtype_sizes_and_names(void **state)
{
    (void)state;
    assert_int_equal(ut_dtype_size(UT_BF16), 2);
    assert_int_equal(ut_dtype_size(UT_I64), 8);
    assert_string_equal(ut_dtype_name(UT_BF16), "bf16");
    for (int t = 0; t < UT_DTYPE_COUNT; t++) {
        if (t != UT_Q8 && t != UT_Q4) /* blocks */
            assert_in_range(ut_dtype_size((ut_dtype)t), 1, 8);
        assert_non_null(ut_dtype_name((ut_dtype)t));
    }
    assert_int_equal(ut_dtype_size(UT_DTYPE_COUNT), 0);
}

static void cpu_flags_imply_each_other(void **state)
{
    (void)state;
    unsigned flags = ut_cpu_flags();
    assert_int_equal(flags, ut_cpu_flags());
    if (flags & UT_CPU_AVX512_BF16)
        assert_true(flags & UT_CPU_AVX512);
    if (flags & UT_CPU_AVX512)
        assert_true(flags & UT_CPU_AVX2);
    char text[64];
    ut_cpu_describe(text, sizeof text);
    assert_true((strstr(text, "AVX2") != NULL) == ((flags & UT_CPU_AVX2) != 0));
    assert_true((strstr(text, "AVX-512") != NULL) == ((flags & UT_CPU_AVX512) != 0));
}

/* ---- Files ---------------------------------------------------------------------------------- */

/* A directory of our own, with a name that is not ASCII, for one test. */
static int make_dir(void **state)
{
    const char *tmp = getenv("UT_TEST_TMP");
    char *dir =
        ut_asprintf("%s/test_base-%.0f-\xc3\xa4\xe6\x97\xa5", tmp ? tmp : ".", ut_time_now() * 1e6);
    ut_err err = {0};
    *state = dir;
    return dir && ut_mkdirs(dir, &err) == UTTER_OK ? 0 : -1;
}

static int drop_dir(void **state)
{
    char *dir = *state;
    char **names;
    size_t n;
    ut_err err = {0};
    if (ut_list_dir(dir, &names, &n, &err) != UTTER_OK)
        return -1;
    for (size_t i = 0; i < n; i++) {
        char *path = ut_path_join(dir, names[i]);
        ut_remove(path, &err);
        ut_free(path);
    }
    ut_list_free(names, n);
    ut_remove(dir, &err);
    ut_free(dir);
    return err.status == UTTER_OK ? 0 : -1;
}

static char *put(const char *dir, const char *name, const void *data, size_t n)
{
    char *path = ut_path_join(dir, name);
    FILE *f = ut_fopen(path, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(data, 1, n, f), n);
    assert_int_equal(fclose(f), 0);
    return path;
}

static void files_map_read_list_rename(void **state)
{
    const char *dir = *state;
    ut_err err = {0};
    uint8_t bytes[10000];
    for (size_t i = 0; i < sizeof bytes; i++)
        bytes[i] = (uint8_t)(i * 7);
    char *b = put(dir, "b.bin", bytes, sizeof bytes), *a = put(dir, "a\xc3\xbc", "", 0);
    assert_true(ut_file_exists(a) && !ut_dir_exists(a));
    assert_true(ut_dir_exists(dir) && !ut_file_exists(dir));

    ut_map m;
    assert_int_equal(ut_map_open(&m, b, &err), UTTER_OK);
    assert_int_equal(m.size, sizeof bytes);
    assert_memory_equal(m.data, bytes, sizeof bytes);
    ut_map_release(m.data, m.size);
    assert_memory_equal(m.data, bytes, sizeof bytes);
    ut_map_close(&m);
    ut_map_close(&m);
    assert_int_equal(ut_map_open(&m, a, &err), UTTER_OK);
    assert_null(m.data);
    assert_int_equal(m.size, 0);
    ut_map_close(&m);

    uint8_t *data;
    size_t n;
    assert_int_equal(ut_read_file(b, sizeof bytes, &data, &n, &err), UTTER_OK);
    assert_int_equal(n, sizeof bytes);
    assert_memory_equal(data, bytes, n);
    assert_int_equal(data[n], 0);
    ut_free(data);
    assert_int_equal(ut_read_file(b, sizeof bytes - 1, &data, &n, &err), UTTER_ERR_LIMIT);
    assert_null(data);
    ut_err_clear(&err);

    char **names;
    assert_int_equal(ut_list_dir(dir, &names, &n, &err), UTTER_OK);
    assert_int_equal(n, 2);
    assert_string_equal(names[0], "a\xc3\xbc");
    assert_string_equal(names[1], "b.bin");
    ut_list_free(names, n);

    assert_int_equal(ut_rename(b, a, &err), UTTER_OK);
    assert_false(ut_file_exists(b));
    assert_int_equal(ut_read_file(a, 20000, &data, &n, &err), UTTER_OK);
    assert_int_equal(n, sizeof bytes);
    ut_free(data);
    assert_int_equal(ut_remove(a, &err), UTTER_OK);
    assert_false(ut_file_exists(a));
    ut_free(a);
    ut_free(b);
}

static void files_fail_with_the_path_in_the_message(void **state)
{
    const char *dir = *state;
    char *missing = ut_path_join(dir, "missing"), *under = ut_path_join(missing, "x");
    ut_err err = {0};
    ut_map m;
    uint8_t *data;
    char **names;
    size_t n;
    assert_int_equal(ut_map_open(&m, missing, &err), UTTER_ERR_NOT_FOUND);
    assert_non_null(strstr(err.msg, missing));
    assert_null(m.data);
    ut_err_clear(&err);
    assert_int_equal(ut_map_open(&m, dir, &err), UTTER_ERR_IO);
    assert_non_null(strstr(err.msg, "not a regular file"));
    ut_err_clear(&err);
    assert_int_equal(ut_read_file(missing, 100, &data, &n, &err), UTTER_ERR_NOT_FOUND);
    assert_non_null(strstr(err.msg, missing));
    ut_err_clear(&err);
    assert_int_equal(ut_list_dir(missing, &names, &n, &err), UTTER_ERR_NOT_FOUND);
    ut_err_clear(&err);
    assert_int_equal(ut_remove(missing, &err), UTTER_ERR_NOT_FOUND);
    ut_err_clear(&err);
    assert_int_equal(ut_rename(missing, under, &err), UTTER_ERR_NOT_FOUND);
    ut_err_clear(&err);

    /* A file where a directory should be. */
    char *file = put(dir, "file", "x", 1), *below = ut_path_join(file, "sub");
    assert_int_equal(ut_mkdirs(below, &err), UTTER_ERR_IO);
    assert_non_null(strstr(err.msg, file));
    ut_free(missing);
    ut_free(under);
    ut_free(file);
    ut_free(below);
}

static void mkdirs_makes_every_level_once(void **state)
{
    ut_err err = {0};
    char *a = ut_path_join(*state, "one"), *b = ut_path_join(a, "two");
    assert_int_equal(ut_mkdirs(b, &err), UTTER_OK);
    assert_int_equal(ut_mkdirs(b, &err), UTTER_OK);
    assert_true(ut_dir_exists(b));
    assert_int_equal(ut_remove(b, &err), UTTER_OK);
    assert_int_equal(ut_remove(a, &err), UTTER_OK);
    ut_free(a);
    ut_free(b);
}

static void every_failing_allocation_is_reported(void **state)
{
    const char *dir = *state;
    uint8_t bytes[9000] = {0};
    char *path = put(dir, "f", bytes, sizeof bytes);
    uint64_t n_read = 0, n_list = 0;
    for (;; n_read++) {
        ut_err err = {0};
        uint8_t *data;
        size_t n;
        ut_alloc_fail_at(n_read + 1);
        utter_status st = ut_read_file(path, 10000, &data, &n, &err);
        ut_alloc_fail_at(0);
        ut_free(data);
        if (st == UTTER_OK)
            break;
        assert_null(data);
        assert_string_not_equal(err.msg, "");
    }
    for (;; n_list++) {
        ut_err err = {0};
        char **names;
        size_t n;
        ut_alloc_fail_at(n_list + 1);
        utter_status st = ut_list_dir(dir, &names, &n, &err);
        ut_alloc_fail_at(0);
        ut_list_free(names, n);
        if (st == UTTER_OK)
            break;
        assert_null(names);
        assert_string_not_equal(err.msg, "");
    }
    assert_true(n_read >= 2 && n_list >= 2);
    ut_free(path);
}

static void paths_join(void **state)
{
    (void)state;
    static const char *const cases[][3] = {
        {"a", "b", "a/b"}, {"a/", "b", "a/b"}, {"/", "b", "/b"}, {"", "b", "b"}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char *p = ut_path_join(cases[i][0], cases[i][1]);
        assert_string_equal(p, cases[i][2]);
        ut_free(p);
    }
    char *exe = ut_exe_dir();
    assert_non_null(exe);
    assert_true(ut_dir_exists(exe));
    ut_free(exe);
}

/* ---- Other programs ------------------------------------------------------------------------- */

static const char *own_path; /* argv[0] */

/* What this program does when a test starts it: its exit code tells how much it could read. */
static int count_input(void)
{
    char bytes[4096];
    size_t n, total = 0;
    ut_binary_mode(stdin);
    while ((n = fread(bytes, 1, sizeof bytes, stdin)) > 0)
        total += n;
    return (int)(total % 251);
}

static void a_program_reads_what_is_written_to_it(void **state)
{
    (void)state;
    const char *const argv[] = {own_path, "--count-input", "a \"quoted\\\" argument\\", NULL};
    ut_err err = {0};
    ut_process *p;
    assert_int_equal(ut_process_start(&p, argv, &err), UTTER_OK);
    char bytes[3000] = {0};
    for (int i = 0; i < 100; i++) /* more than a pipe holds */
        assert_true(ut_process_write(p, bytes, sizeof bytes));
    assert_int_equal(ut_process_wait(p), 300000 % 251);

    assert_int_equal(ut_process_start(&p, argv, &err), UTTER_OK);
    ut_process_kill(p);
    assert_int_not_equal(ut_process_wait(p), 0);

    const char *const nobody[] = {"no-such-directory/no-such-program", NULL};
    assert_int_not_equal(ut_process_start(&p, nobody, &err), UTTER_OK);
    assert_null(p);
    assert_non_null(strstr(err.msg, "no-such-program"));
    assert_null(ut_find_program("no-such-program"));
}

static void temporary_files_are_new_and_empty(void **state)
{
    (void)state;
    ut_err err = {0};
    char *path[2];
    uint8_t *data;
    size_t n;
    for (int i = 0; i < 2; i++) {
        assert_int_equal(ut_temp_file(&path[i], ".wav", &err), UTTER_OK);
        assert_string_equal(path[i] + strlen(path[i]) - 4, ".wav");
        assert_int_equal(ut_read_file(path[i], 1, &data, &n, &err), UTTER_OK);
        assert_int_equal(n, 0);
        ut_free(data);
    }
    assert_string_not_equal(path[0], path[1]);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(ut_remove(path[i], &err), UTTER_OK);
        ut_free(path[i]);
    }
}

/* ---- Time, memory, cores, threads ----------------------------------------------------------- */

static void clock_and_memory_move(void **state)
{
    (void)state;
    double t = ut_time_now();
    size_t before = ut_current_rss();
    assert_true(before > 100000);
    size_t size = (size_t)64 << 20;
    volatile uint8_t *p = ut_malloc(size);
    for (size_t i = 0; i < size; i += 4096)
        p[i] = 1;
    assert_true(ut_current_rss() >= before + size / 2);
    assert_true(ut_peak_rss() >= before + size / 2);
    ut_free((void *)(uintptr_t)p);
    assert_true(ut_time_now() > t);
}

typedef struct counter {
    ut_mutex *mutex;
    ut_cond *changed;
    int value, ready;
} counter;

static void count_to_1000(void *arg)
{
    counter *c = arg;
    ut_mutex_lock(c->mutex);
    c->ready++;
    ut_cond_broadcast(c->changed);
    while (c->ready < 5)
        ut_cond_wait(c->changed, c->mutex);
    ut_mutex_unlock(c->mutex);
    for (int i = 0; i < 1000; i++) {
        ut_mutex_lock(c->mutex);
        c->value++;
        ut_mutex_unlock(c->mutex);
        ut_free(ut_malloc(1));
        ut_thread_pause();
    }
}

static void threads_count_together(void **state)
{
    (void)state;
    counter c = {.mutex = ut_mutex_new(), .changed = ut_cond_new()};
    assert_true(ut_physical_cores() >= 1);
    ut_thread *t[4];
    for (int i = 0; i < 4; i++) /* pinned, and a core too many is no reason to fail */
        t[i] = ut_thread_start(count_to_1000, &c, i - 1);
    uint64_t allocs = ut_alloc_count();
    ut_mutex_lock(c.mutex);
    while (c.ready < 4)
        ut_cond_wait(c.changed, c.mutex);
    assert_int_equal(c.value, 0);
    c.ready++;
    ut_cond_broadcast(c.changed);
    ut_mutex_unlock(c.mutex);
    for (int i = 0; i < 4; i++)
        ut_thread_join(t[i]);
    assert_int_equal(c.value, 4000);
    assert_int_equal(ut_alloc_count() - allocs, 4000);
    ut_thread_join(NULL);
    ut_cond_free(c.changed);
    ut_mutex_free(c.mutex);
}

int main(int argc, char **argv)
{
    ut_main_args(&argc, &argv);
    if (argc == 3 && strcmp(argv[1], "--count-input") == 0)
        return strcmp(argv[2], "a \"quoted\\\" argument\\") == 0 ? count_input() : 255;
    own_path = argv[0];
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(err_keeps_the_first_failure),
        cmocka_unit_test(err_message_is_one_clean_line),
        cmocka_unit_test(status_names_and_texts),
        cmocka_unit_test(log_goes_to_the_sink_or_nowhere),
        cmocka_unit_test(alloc_checks_sizes),
        cmocka_unit_test(alloc_aligned_is_aligned_and_zero),
        cmocka_unit_test(alloc_counts_and_fails_where_told),
        cmocka_unit_test(arena_gives_aligned_zeroed_pieces),
        cmocka_unit_test(buf_grows_to_its_cap_and_no_further),
        cmocka_unit_test(philox_known_answers),
        cmocka_unit_test(half_rounds_to_nearest_even),
        cmocka_unit_test(dtype_sizes_and_names),
        cmocka_unit_test(cpu_flags_imply_each_other),
        cmocka_unit_test_setup_teardown(files_map_read_list_rename, make_dir, drop_dir),
        cmocka_unit_test_setup_teardown(files_fail_with_the_path_in_the_message, make_dir,
                                        drop_dir),
        cmocka_unit_test_setup_teardown(mkdirs_makes_every_level_once, make_dir, drop_dir),
        cmocka_unit_test_setup_teardown(every_failing_allocation_is_reported, make_dir, drop_dir),
        cmocka_unit_test(paths_join),
        cmocka_unit_test(a_program_reads_what_is_written_to_it),
        cmocka_unit_test(temporary_files_are_new_and_empty),
        cmocka_unit_test(clock_and_memory_move),
        cmocka_unit_test(threads_count_together),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
