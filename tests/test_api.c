/* test_api.c - utter.h as a caller in plain C99 sees it: every function is called once without a
 * model (the list is generated from the header, so none can be forgotten), and structs of older and
 * newer callers are told apart. */
#include "api_list.h"
#include "utter.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

/* ---- One call of each, without a model ------------------------------------------------------ */

/* The call fails with ERR_ARG and a message that names the function. */
#define REFUSED(name, ...)                                                                         \
    do {                                                                                           \
        assert_int_equal(name(__VA_ARGS__), UTTER_ERR_ARG);                                        \
        if (strncmp(utter_last_error(NULL), #name ":", sizeof #name) != 0)                         \
            fail_msg("message '%s', expected '%s: ...'", utter_last_error(NULL), #name);           \
    } while (0)

static void call_utter_version(void)
{
    char version[32];
    snprintf(version, sizeof version, "%d.%d.%d", UTTER_VERSION_MAJOR, UTTER_VERSION_MINOR,
             UTTER_VERSION_PATCH);
    assert_string_equal(utter_version(), version);
}

static void call_utter_status_name(void)
{
    assert_string_equal(utter_status_name(UTTER_OK), "OK");
    assert_string_equal(utter_status_name(UTTER_ERR_IO), "ERR_IO");
    assert_non_null(utter_status_name((utter_status)99));
}

static void call_utter_status_text(void)
{
    assert_string_equal(utter_status_text(UTTER_ERR_NOMEM), "memory could not be had");
    assert_non_null(utter_status_text((utter_status)-1));
}

static void call_utter_last_error(void)
{
    utter_engine *e;
    assert_int_equal(utter_engine_open("no/such/model", NULL, &e), UTTER_ERR_NOT_FOUND);
    assert_string_equal(utter_last_error(NULL), "no/such/model: no such model directory");
    assert_int_equal(utter_backend_count() > 0, 1);
    assert_string_equal(utter_last_error(NULL), "no/such/model: no such model directory");
}

static void receive(void *user, int level, const char *message)
{
    (void)user;
    (void)level;
    (void)message;
}

static void call_utter_log_set(void)
{
    utter_log_set(receive, NULL);
    utter_log_set(NULL, NULL);
}

static void call_utter_backend_count(void)
{
    assert_true(utter_backend_count() >= 1);
}

static void call_utter_backend_get(void)
{
    utter_backend_info i;
    int cpu = 0;
    for (size_t k = 0; k < utter_backend_count(); k++) {
        utter_backend_info_init(&i);
        assert_int_equal(utter_backend_get(k, &i), UTTER_OK);
        assert_true(strlen(i.text) > 0);
        cpu += strcmp(i.name, "cpu") == 0 && i.available == 1;
    }
    assert_int_equal(cpu, 1);
    assert_int_equal(utter_backend_get(utter_backend_count(), &i), UTTER_ERR_ARG);
    REFUSED(utter_backend_get, 0, NULL);
}

static void call_utter_backend_get_device(void)
{
    utter_backend_info i;
    for (size_t k = 0; k < utter_backend_count(); k++) {
        utter_backend_info_init(&i);
        assert_int_equal(utter_backend_get_device(k, 999, &i), UTTER_OK);
        assert_int_equal(i.available, 0);
        assert_true(strlen(i.text) > 0);
        if (strcmp(i.name, "cpu") == 0) {
            assert_string_equal(i.text, "there is no device 999, only 0");
            assert_int_equal(i.n_devices, 1);
        }
    }
    REFUSED(utter_backend_get_device, 0, 0, NULL);
}

static void call_utter_engine_open(void)
{
    utter_engine *e = (utter_engine *)1;
    REFUSED(utter_engine_open, "x", NULL, NULL);
    REFUSED(utter_engine_open, NULL, NULL, &e);
    assert_null(e);
}

static void call_utter_engine_close(void)
{
    utter_engine_close(NULL);
}

static void call_utter_engine_get_info(void)
{
    utter_engine_info i;
    utter_engine_info_init(&i);
    REFUSED(utter_engine_get_info, NULL, &i);
}

static void call_utter_synth(void)
{
    utter_audio *a = (utter_audio *)1;
    REFUSED(utter_synth, NULL, "x", NULL, &a);
    assert_null(a);
}

static void call_utter_audio_samples(void)
{
    assert_null(utter_audio_samples(NULL));
}

static void call_utter_audio_n_samples(void)
{
    assert_int_equal(utter_audio_n_samples(NULL), 0);
}

static void call_utter_audio_sample_rate(void)
{
    assert_int_equal(utter_audio_sample_rate(NULL), 0);
}

static void call_utter_audio_get_stats(void)
{
    utter_stats s;
    utter_stats_init(&s);
    REFUSED(utter_audio_get_stats, NULL, &s);
}

static void call_utter_audio_write(void)
{
    REFUSED(utter_audio_write, NULL, "x.wav");
}

static void call_utter_audio_free(void)
{
    utter_audio_free(NULL);
}

static void call_utter_stream_open(void)
{
    utter_stream *s = (utter_stream *)1;
    REFUSED(utter_stream_open, NULL, NULL, &s);
    assert_null(s);
}

static void call_utter_stream_push(void)
{
    REFUSED(utter_stream_push, NULL, "x", 1);
}

static void call_utter_stream_finish(void)
{
    REFUSED(utter_stream_finish, NULL);
}

static void call_utter_stream_read(void)
{
    float pcm[1];
    size_t n = 9;
    utter_stream_state state;
    REFUSED(utter_stream_read, NULL, pcm, 1, &n, &state);
    assert_int_equal(n, 0);
}

static void call_utter_stream_cancel(void)
{
    utter_stream_cancel(NULL);
}

static void call_utter_stream_get_stats(void)
{
    utter_stats s;
    utter_stats_init(&s);
    REFUSED(utter_stream_get_stats, NULL, &s);
}

static void call_utter_stream_close(void)
{
    utter_stream_close(NULL);
}

static void call_utter_voice_create(void)
{
    utter_voice *v = (utter_voice *)1;
    utter_voice_params p;
    utter_voice_params_init(&p);
    REFUSED(utter_voice_create, NULL, &p, &v);
    assert_null(v);
}

static void call_utter_voice_find(void)
{
    utter_voice *v = (utter_voice *)1;
    REFUSED(utter_voice_find, NULL, "x", &v);
    assert_null(v);
}

static void call_utter_voice_load(void)
{
    utter_voice *v = (utter_voice *)1;
    REFUSED(utter_voice_load, NULL, &v);
    assert_null(v);
    assert_int_equal(utter_voice_load("no/such.json", &v), UTTER_ERR_NOT_FOUND);
}

static void call_utter_voice_save(void)
{
    REFUSED(utter_voice_save, NULL, "x.json");
}

static void call_utter_voice_remove(void)
{
    REFUSED(utter_voice_remove, NULL);
    assert_int_equal(utter_voice_remove("not/a/name"), UTTER_ERR_ARG);
}

static void call_utter_voice_get_info(void)
{
    utter_voice_info i;
    utter_voice_info_init(&i);
    REFUSED(utter_voice_get_info, NULL, &i);
}

static void call_utter_voice_preview(void)
{
    utter_audio *a = (utter_audio *)1;
    REFUSED(utter_voice_preview, NULL, NULL, &a);
    assert_null(a);
}

static void call_utter_voice_free(void)
{
    utter_voice_free(NULL);
}

static void call_utter_voice_list_open(void)
{
    utter_voice_list *list = (utter_voice_list *)1;
    REFUSED(utter_voice_list_open, NULL, NULL);
    assert_int_equal(utter_voice_list_open("no/such/model", &list), UTTER_ERR_NOT_FOUND);
    assert_null(list);
    assert_int_equal(utter_voice_list_open(NULL, &list), UTTER_OK);
    utter_voice_list_free(list);
}

static void call_utter_voice_list_count(void)
{
    assert_int_equal(utter_voice_list_count(NULL), 0);
}

static void call_utter_voice_list_get(void)
{
    utter_voice_info i;
    utter_voice_info_init(&i);
    REFUSED(utter_voice_list_get, NULL, 0, &i);
}

static void call_utter_voice_list_languages(void)
{
    assert_string_equal(utter_voice_list_languages(NULL), "");
}

static void call_utter_voice_list_free(void)
{
    utter_voice_list_free(NULL);
}

/* Initialisers: NULL and sizes too small for the size itself do nothing; smaller and larger structs
 * are filled to their size and not a byte further. */
#define INIT_TEST(type)                                                                            \
    static void call_##type##_init_sized(void)                                                     \
    {                                                                                              \
        union {                                                                                    \
            type p;                                                                                \
            unsigned char byte[sizeof(type) + 64];                                                 \
        } x;                                                                                       \
        type whole;                                                                                \
        uint32_t sizes[4];                                                                         \
        sizes[0] = 4, sizes[1] = 12, sizes[2] = (uint32_t)sizeof(type);                            \
        sizes[3] = (uint32_t)sizeof(type) + 32;                                                    \
        type##_init_sized(NULL, 100);                                                              \
        memset(&x, 0xee, sizeof x);                                                                \
        type##_init_sized(&x.p, 3);                                                                \
        assert_int_equal(x.byte[0], 0xee);                                                         \
        type##_init(&whole);                                                                       \
        assert_int_equal(whole.struct_size, sizeof(type));                                         \
        for (int i = 0; i < 4; i++) {                                                              \
            memset(&x, 0xee, sizeof x);                                                            \
            type##_init_sized(&x.p, sizes[i]);                                                     \
            assert_int_equal(x.p.struct_size, sizes[i]);                                           \
            for (size_t k = 4; k < sizes[i]; k++)                                                  \
                assert_int_equal(x.byte[k], k < sizeof(type) ? ((unsigned char *)&whole)[k] : 0);  \
            assert_int_equal(x.byte[sizes[i]], 0xee);                                              \
        }                                                                                          \
    }
INIT_TEST(utter_backend_info)
INIT_TEST(utter_engine_params)
INIT_TEST(utter_engine_info)
INIT_TEST(utter_synth_params)
INIT_TEST(utter_stats)
INIT_TEST(utter_voice_params)
INIT_TEST(utter_voice_info)

static void every_function_is_called(void **state)
{
    static const struct {
        const char *name;
        void (*call)(void);
    } calls[] = {
#define X(name) {#name, call_##name},
        UT_API_LIST(X)
#undef X
    };
    (void)state;
    assert_int_equal(sizeof calls / sizeof calls[0], UT_API_COUNT);
    assert_true(UT_API_COUNT >= 43);
    for (size_t i = 0; i < UT_API_COUNT; i++)
        calls[i].call();
}

/* ---- Structs of other versions -------------------------------------------------------------- */

static void newer_structs_pass_while_their_tail_is_zero(void **state)
{
    union {
        utter_engine_params p;
        unsigned char byte[sizeof(utter_engine_params) + 16];
    } x;
    utter_engine *e;
    (void)state;
    utter_engine_params_init_sized(&x.p, sizeof x);
    assert_int_equal(utter_engine_open("no/such/model", &x.p, &e), UTTER_ERR_NOT_FOUND);
    x.byte[sizeof(utter_engine_params) + 9] = 1;
    assert_int_equal(utter_engine_open("no/such/model", &x.p, &e), UTTER_ERR_ARG);
    assert_non_null(strstr(utter_last_error(NULL), "utter_engine_params: byte"));
    x.p.struct_size = 8;
    assert_int_equal(utter_engine_open("no/such/model", &x.p, &e), UTTER_ERR_ARG);
    assert_non_null(strstr(utter_last_error(NULL), "struct_size is 8"));
}

static void results_keep_to_the_size_of_the_caller(void **state)
{
    union {
        utter_backend_info i;
        unsigned char byte[sizeof(utter_backend_info) + 16];
    } x;
    (void)state;
    memset(&x, 0xee, sizeof x);
    x.i.struct_size = sizeof(utter_backend_info) + 8; /* a newer caller's */
    assert_int_equal(utter_backend_get(0, &x.i), UTTER_OK);
    for (size_t k = 0; k < 16; k++)
        assert_int_equal(x.byte[sizeof(utter_backend_info) + k], k < 8 ? 0 : 0xee);
    memset(&x, 0, sizeof x);
    assert_int_equal(utter_backend_get(0, &x.i), UTTER_ERR_ARG); /* not initialised */
}

/* Programs that were built before must go on: fields are appended, never moved. */
static void layouts_do_not_change(void **state)
{
    (void)state;
    if (sizeof(void *) != 8)
        return;
    assert_int_equal(offsetof(utter_engine_params, backend), 8);
    assert_int_equal(offsetof(utter_engine_params, max_positions), 24);
    assert_int_equal(offsetof(utter_engine_params, device), 32);
    assert_int_equal(offsetof(utter_engine_params, slots), 40);
    assert_int_equal(sizeof(utter_engine_params), 56);
    assert_int_equal(offsetof(utter_synth_params, voice), 8);
    assert_int_equal(offsetof(utter_synth_params, seed), 16);
    assert_int_equal(offsetof(utter_synth_params, temperature), 24);
    assert_int_equal(offsetof(utter_synth_params, no_voice), 40);
    assert_int_equal(offsetof(utter_synth_params, instruct), 48);
    assert_int_equal(offsetof(utter_synth_params, text_feed), 68);
    assert_int_equal(sizeof(utter_synth_params), 72);
    assert_int_equal(offsetof(utter_stats, seed), 8);
    assert_int_equal(offsetof(utter_stats, audio_s), 56);
    assert_int_equal(sizeof(utter_stats), 160);
    assert_int_equal(offsetof(utter_voice_params, samples), 16);
    assert_int_equal(offsetof(utter_voice_params, text), 40);
    assert_int_equal(sizeof(utter_voice_params), 72);
    assert_int_equal(offsetof(utter_voice_info, name), 16);
    assert_int_equal(offsetof(utter_voice_info, is_speaker), 80);
    assert_int_equal(sizeof(utter_voice_info), 88);
    assert_int_equal(offsetof(utter_engine_info, n_params_lm), 40);
    assert_int_equal(offsetof(utter_engine_info, family), 88);
    assert_int_equal(offsetof(utter_engine_info, voices), 144);
    assert_int_equal(offsetof(utter_engine_info, device_free), 152);
    assert_int_equal(sizeof(utter_engine_info), 176);
    assert_int_equal(offsetof(utter_backend_info, n_devices), 272);
    assert_int_equal(sizeof(utter_backend_info), 280);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_function_is_called),
        cmocka_unit_test(newer_structs_pass_while_their_tail_is_zero),
        cmocka_unit_test(results_keep_to_the_size_of_the_caller),
        cmocka_unit_test(layouts_do_not_change),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
