/* test_json.c - src/base/json: what is read, what is refused and in which words, what is written.
 * The only test that includes jansson: it makes the parser's allocations fail. */
#include "base/json.h"

#include "base/alloc.h"
#include "base/os.h"
#include <jansson.h>
#include <locale.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

static ut_json *parse(const char *text)
{
    ut_err err = {0};
    ut_json *doc = NULL;
    if (ut_json_parse(&doc, "f.json", text, strlen(text), &err) != UTTER_OK)
        fail_msg("%s", err.msg);
    return doc;
}

/* ---- Reading -------------------------------------------------------------------------------- */

static void getters_read_values(void **state)
{
    (void)state;
    ut_err err = {0};
    ut_json *doc = parse("{\"i\": -9007199254740993, \"r\": 1e-06, \"t\": true, \"f\": false,"
                         "\"s\": \"gr\\u00fc\\u00df\", \"a\": [1, 2.5, {\"k\": 7}], \"n\": null}");
    const ut_json_value root = ut_json_root(doc);
    int64_t i = 0;
    int32_t small = 0;
    double r = 0;
    float f32 = 0;
    bool t = false, f = true;
    const char *s = NULL;
    assert_int_equal(ut_json_get_int(ut_json_member(root, "i"), INT64_MIN, INT64_MAX, &i, &err), 0);
    assert_true(i == -9007199254740993);
    assert_int_equal(ut_json_get_number(ut_json_member(root, "r"), 0, 1, &r, &err), 0);
    assert_true(r == 1e-6);
    assert_int_equal(ut_json_get_f32(ut_json_member(root, "r"), 0, 1, &f32, &err), 0);
    assert_true(f32 == 1e-6f);
    assert_int_equal(ut_json_get_bool(ut_json_member(root, "t"), &t, &err), 0);
    assert_int_equal(ut_json_get_bool(ut_json_member(root, "f"), &f, &err), 0);
    assert_true(t && !f);
    assert_int_equal(ut_json_get_string(ut_json_member(root, "s"), &s, &err), 0);
    assert_string_equal(s, "gr\xc3\xbc\xc3\x9f");

    const ut_json_value a = ut_json_member(root, "a");
    assert_int_equal(ut_json_size(a), 3);
    assert_int_equal(ut_json_get_number(ut_json_item(a, 0), 0, 9, &r, &err), 0);
    assert_true(r == 1.0); /* an integer is a number */
    const ut_json_value k = ut_json_member(ut_json_item(a, 2), "k");
    assert_int_equal(ut_json_get_i32(k, 7, 7, &small, &err), 0);
    assert_int_equal(small, 7);
    assert_int_equal(ut_json_typeof(ut_json_member(root, "n")), UT_JSON_NULL);
    assert_int_equal(ut_json_typeof(ut_json_member(root, "gone")), UT_JSON_ABSENT);
    assert_int_equal(ut_json_get_array(a, &err), 0);
    assert_int_equal(ut_json_get_object(root, &err), 0);
    assert_string_equal(err.msg, "");
    ut_json_free(doc);
}

static void members_come_in_file_order(void **state)
{
    (void)state;
    ut_json *doc = parse("{\"z\": 0, \"a\": 1, \"m\": [2]}");
    char keys[8] = "";
    ut_json_iter it = {0};
    while (ut_json_next(ut_json_root(doc), &it))
        strcat(keys, it.key);
    assert_string_equal(keys, "zam");
    it = (ut_json_iter){0};
    assert_false(ut_json_next(ut_json_member(ut_json_root(doc), "m"), &it));
    assert_int_equal(ut_json_size(ut_json_member(ut_json_root(doc), "z")), 0);
    ut_json_free(doc);
}

static void optional_values_keep_their_default(void **state)
{
    (void)state;
    ut_err err = {0};
    ut_json *doc = parse("{\"n\": null, \"x\": 5, \"s\": \"text\", \"o\": {\"b\": true}}");
    const ut_json_value root = ut_json_root(doc);
    int64_t i = 42;
    int32_t i32 = 43;
    double r = 4.5;
    float f32 = 5.5f;
    bool b = true;
    const char *s = "default";
    assert_int_equal(ut_json_opt_int(ut_json_member(root, "gone"), 0, 9, &i, &err), 0);
    assert_int_equal(ut_json_opt_i32(ut_json_member(root, "n"), 0, 9, &i32, &err), 0);
    assert_int_equal(ut_json_opt_number(ut_json_member(root, "n"), 0, 9, &r, &err), 0);
    assert_int_equal(ut_json_opt_f32(ut_json_member(root, "gone"), 0, 9, &f32, &err), 0);
    assert_int_equal(ut_json_opt_bool(ut_json_member(root, "n"), &b, &err), 0);
    assert_int_equal(ut_json_opt_string(ut_json_member(root, "gone"), &s, &err), 0);
    assert_true(i == 42 && i32 == 43 && r == 4.5 && f32 == 5.5f && b);
    assert_string_equal(s, "default");

    /* Below something absent or null: still the default; below a string: an error. */
    const ut_json_value below = ut_json_member(ut_json_member(root, "n"), "k");
    assert_int_equal(ut_json_opt_int(below, 0, 9, &i, &err), 0);
    assert_int_equal(ut_json_opt_int(ut_json_item(ut_json_member(root, "g"), 3), 0, 9, &i, &err),
                     0);
    assert_int_equal(i, 42);
    assert_int_equal(
        ut_json_opt_int(ut_json_member(ut_json_member(root, "s"), "k"), 0, 9, &i, &err),
        UTTER_ERR_FORMAT);
    assert_string_equal(err.msg, "f.json: s is \"text\", expected an object");
    ut_err_clear(&err);
    assert_int_equal(ut_json_opt_int(ut_json_member(root, "x"), 0, 4, &i, &err), UTTER_ERR_FORMAT);
    assert_string_equal(err.msg, "f.json: x is 5, expected an integer in 0..4");
    assert_int_equal(i, 42);
    ut_json_free(doc);
}

static void errors_name_file_path_found_and_expected(void **state)
{
    (void)state;
    ut_json *doc = parse("{\"m\": {\"layers\": [{\"dim\": 8}, {\"dim\": \"x\"}, 3.5, true, []]},"
                         "\"big\": 4294967296}");
    const ut_json_value m = ut_json_member(ut_json_root(doc), "m");
    const ut_json_value layers = ut_json_member(m, "layers");
    int64_t i;
    int32_t i32;
    double r;
    bool b;
    const char *s;
    ut_err err = {0};
#define EXPECT_FAIL(call, text)                                                                    \
    do {                                                                                           \
        ut_err_clear(&err);                                                                        \
        assert_int_equal(call, UTTER_ERR_FORMAT);                                                  \
        assert_string_equal(err.msg, text);                                                        \
    } while (0)
    EXPECT_FAIL(ut_json_get_int(ut_json_member(ut_json_item(layers, 1), "dim"), 1, 9, &i, &err),
                "f.json: m.layers[1].dim is \"x\", expected an integer in 1..9");
    EXPECT_FAIL(ut_json_get_int(ut_json_member(ut_json_item(layers, 0), "dim"), 9, 99, &i, &err),
                "f.json: m.layers[0].dim is 8, expected an integer in 9..99");
    EXPECT_FAIL(ut_json_get_int(ut_json_item(layers, 2), 1, 9, &i, &err),
                "f.json: m.layers[2] is 3.5, expected an integer in 1..9");
    EXPECT_FAIL(ut_json_get_number(ut_json_item(layers, 3), 0, 0.5, &r, &err),
                "f.json: m.layers[3] is true, expected a number in 0..0.5");
    EXPECT_FAIL(ut_json_get_bool(ut_json_item(layers, 4), &b, &err),
                "f.json: m.layers[4] is an array, expected true or false");
    EXPECT_FAIL(ut_json_get_string(ut_json_item(layers, 9), &s, &err),
                "f.json: m.layers[9] is missing, expected a string");
    EXPECT_FAIL(ut_json_get_array(m, &err), "f.json: m is an object, expected an array");
    EXPECT_FAIL(ut_json_get_object(ut_json_member(ut_json_item(layers, 2), "k"), &err),
                "f.json: m.layers[2] is 3.5, expected an object");
    EXPECT_FAIL(ut_json_get_string(ut_json_item(ut_json_member(m, "gone"), 1), &s, &err),
                "f.json: m.gone is missing, expected an array");
    EXPECT_FAIL(ut_json_get_array(ut_json_root(doc), &err),
                "f.json: the document is an object, expected an array");
    EXPECT_FAIL(ut_json_get_i32(ut_json_member(ut_json_root(doc), "big"), 0, INT32_MAX, &i32, &err),
                "f.json: big is 4294967296, expected an integer in 0..2147483647");
    EXPECT_FAIL(ut_json_fail(layers, &err, "has %d layers", 5), "f.json: m.layers has 5 layers");
    assert_int_equal(ut_json_get_bool(m, &b, NULL), UTTER_ERR_FORMAT);
    ut_json_free(doc);
}

static void long_names_are_cut_in_messages(void **state)
{
    (void)state;
    char text[4200] = "{\"", *p = text + 2;
    for (int i = 0; i < 1000; i++)
        p += sprintf(p, "%s", "\xc3\xa9");
    sprintf(p, "\": {\"k\": 1}}");
    ut_json *doc = parse(text);
    ut_err err = {0};
    ut_json_iter it = {0};
    const char *s;
    assert_true(ut_json_next(ut_json_root(doc), &it));
    assert_int_equal(ut_json_get_string(ut_json_member(it.value, "k"), &s, &err), UTTER_ERR_FORMAT);
    assert_non_null(strstr(err.msg, "\xa9.k is 1, expected a string"));
    assert_true(strlen(err.msg) < 200);
    ut_json_free(doc);
}

static void bad_text_is_refused(void **state)
{
    (void)state;
    static const struct {
        const char *text, *message;
    } cases[] = {
        {"", "f.json: line 1, column 0: not valid JSON: '[' or '{' expected near end of file"},
        {"{\"a\": 1", "f.json: line 1, column 7: not valid JSON"},
        {"{\"a\": 1} x", "f.json: line 1, column 10: not valid JSON: end of file expected"},
        {"{\n\"a\": 1,\n\"a\": 2}",
         "f.json: line 3, column 3: not valid JSON: duplicate object key"},
        {"[99999999999999999999]", "too big"},
        {"[1e999]", "overflow"},
        {"[NaN]", "not valid JSON"},
        {"\"text\"", "'[' or '{' expected"},
        {"[\"\xff\"]", "unable to decode byte 0xff"},
        {"[\"\xed\xa0\x80\"]", "unable to decode"},
        {"{\"a\\u0000\": 1}", "NUL byte in object key"},
        {"[\"\\ud800\"]", "not valid JSON"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        ut_err err = {0};
        ut_json *doc = (ut_json *)1;
        assert_int_equal(ut_json_parse(&doc, "f.json", cases[i].text, strlen(cases[i].text), &err),
                         UTTER_ERR_FORMAT);
        assert_null(doc);
        if (!strstr(err.msg, cases[i].message))
            fail_msg("\"%s\" gave \"%s\"", cases[i].text, err.msg);
    }
}

static void nul_characters_are_for_those_who_ask(void **state)
{
    (void)state;
    static const char text[] = "[\"a\\u0000b\", 1]";
    ut_json *doc;
    ut_err err = {0};
    assert_int_equal(ut_json_parse(&doc, "f.json", text, strlen(text), &err), UTTER_OK);
    const char *s = NULL;
    size_t n = 0;
    assert_int_equal(ut_json_get_string(ut_json_item(ut_json_root(doc), 0), &s, &err),
                     UTTER_ERR_FORMAT);
    assert_non_null(strstr(err.msg, "without NUL"));
    ut_err_clear(&err);
    assert_int_equal(ut_json_get_bytes(ut_json_item(ut_json_root(doc), 0), &s, &n, &err), UTTER_OK);
    assert_int_equal(n, 3);
    assert_memory_equal(s, "a\0b", 3);
    assert_int_equal(ut_json_get_bytes(ut_json_item(ut_json_root(doc), 1), &s, &n, &err),
                     UTTER_ERR_FORMAT);
    ut_json_free(doc);
}

static void limits_hold(void **state)
{
    (void)state;
    ut_err err = {0};
    ut_json *doc;
    char text[2 * UT_JSON_MAX_DEPTH + 3];
    memset(text, '[', UT_JSON_MAX_DEPTH);
    memset(text + UT_JSON_MAX_DEPTH, ']', UT_JSON_MAX_DEPTH);
    assert_int_equal(ut_json_parse(&doc, "f", text, 2 * UT_JSON_MAX_DEPTH, &err), UTTER_OK);
    ut_json_free(doc);
    memset(text, '[', UT_JSON_MAX_DEPTH + 1);
    memset(text + UT_JSON_MAX_DEPTH + 1, ']', UT_JSON_MAX_DEPTH + 1);
    assert_int_equal(ut_json_parse(&doc, "f", text, 2 * UT_JSON_MAX_DEPTH + 2, &err),
                     UTTER_ERR_FORMAT);
    assert_string_equal(err.msg, "f: byte 64: nested deeper than 64 levels");

    /* Brackets inside strings do not count. */
    ut_err_clear(&err);
    const char *const quoted =
        "[\"\\\"[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[["
        "[[[[[[[[[[[[[[[[[[[[\"]";
    assert_int_equal(ut_json_parse(&doc, "f", quoted, strlen(quoted), &err), UTTER_OK);
    ut_json_free(doc);

    const size_t n = 2 * UT_JSON_MAX_VALUES + 8;
    char *many = malloc(n);
    memset(many, '1', n);
    for (size_t i = 0; i < n; i += 2)
        many[i] = ',';
    many[0] = '[';
    many[n - 1] = ']';
    assert_int_equal(ut_json_parse(&doc, "f", many, n, &err), UTTER_ERR_FORMAT);
    assert_non_null(strstr(err.msg, "values, more than the limit"));
    free(many);
}

static void files_are_read_with_a_cap(void **state)
{
    (void)state;
    const char *dir = getenv("UT_TEST_TMP");
    char *path = ut_path_join(dir ? dir : ".", "test_json.json");
    FILE *f = ut_fopen(path, "wb");
    fputs("\xef\xbb\xbf{\"k\": 3}\n", f); /* with a byte order mark */
    fclose(f);
    ut_err err = {0};
    ut_json *doc = NULL;
    int64_t k = 0;
    assert_int_equal(ut_json_read(&doc, path, UT_JSON_MAX_BYTES, &err), UTTER_OK);
    assert_int_equal(ut_json_get_int(ut_json_member(ut_json_root(doc), "k"), 0, 9, &k, &err), 0);
    assert_int_equal(k, 3);
    ut_json_free(doc);
    assert_int_not_equal(ut_json_read(&doc, path, 8, &err), UTTER_OK);
    assert_null(doc);
    assert_non_null(strstr(err.msg, "test_json.json"));
    ut_err_clear(&err);
    ut_remove(path, NULL);
    assert_int_equal(ut_json_read(&doc, path, 8, &err), UTTER_ERR_NOT_FOUND);
    ut_free(path);
}

/* ---- Running out of memory ------------------------------------------------------------------ */

static long allocations_left = -1;

static void *failing_malloc(size_t n)
{
    if (allocations_left >= 0 && allocations_left-- == 0) {
        allocations_left = 0; /* from here on, all of them */
        return NULL;
    }
    return malloc(n);
}

static void every_failing_allocation_is_reported(void **state)
{
    (void)state;
    const char *text = "{\"a\": [1, 2.5, \"three\", {\"four\": null}], \"b\": {\"c\": true}}";
    bool worked = false;
    for (long n = 0; !worked && n < 1000; n++) { /* inside jansson */
        ut_err err = {0};
        ut_json *doc = NULL;
        json_set_alloc_funcs(failing_malloc, free);
        allocations_left = n;
        const utter_status st = ut_json_parse(&doc, "f", text, strlen(text), &err);
        allocations_left = -1;
        worked = st == UTTER_OK;
        assert_true(worked == (doc != NULL));
        assert_true(worked || err.msg[0] != 0);
        ut_json_free(doc);
        json_set_alloc_funcs(malloc, free);
    }
    assert_true(worked);
    worked = false;
    for (uint64_t n = 1; !worked && n < 100; n++) { /* ours */
        ut_err err = {0};
        ut_json *doc = NULL;
        ut_alloc_fail_at(n);
        const utter_status st = ut_json_parse(&doc, "f", text, strlen(text), &err);
        ut_alloc_fail_at(0);
        worked = st == UTTER_OK;
        assert_true(worked || st == UTTER_ERR_NOMEM);
        ut_json_free(doc);
    }
    assert_true(worked);
}

/* ---- Writing -------------------------------------------------------------------------------- */

static void writer_writes_compact_and_indented(void **state)
{
    (void)state;
    static const char *const expected[] = {
        "{\"s\":\"a\\\"b\\\\\\n\\u0001\",\"i\":-5,\"a\":[1.5,true,null,[],{}],\"o\":{\"k\":false}}",
        "{\n  \"s\": \"a\\\"b\\\\\\n\\u0001\",\n  \"i\": -5,\n  \"a\": [\n    1.5,\n    true,\n"
        "    null,\n    [],\n    {}\n  ],\n  \"o\": {\n    \"k\": false\n  }\n}"};
    for (int pretty = 0; pretty < 2; pretty++) {
        ut_buf b;
        ut_json_writer w;
        ut_buf_init(&b, 1000);
        ut_json_writer_init(&w, &b, 2 * pretty);
        ut_json_begin_object(&w, NULL);
        ut_json_put_string(&w, "s", "a\"b\\\n\x01");
        ut_json_put_int(&w, "i", -5);
        ut_json_begin_array(&w, "a");
        ut_json_put_number(&w, NULL, 1.5);
        ut_json_put_bool(&w, NULL, true);
        ut_json_put_string(&w, NULL, NULL);
        ut_json_begin_array(&w, NULL);
        ut_json_end(&w);
        ut_json_begin_object(&w, NULL);
        ut_json_end(&w);
        ut_json_end(&w);
        ut_json_begin_object(&w, "o");
        ut_json_put_bool(&w, "k", false);
        assert_true(ut_json_end_all(&w));
        assert_string_equal((const char *)b.data, expected[pretty]);
        ut_buf_free(&b);
    }
}

static void writer_writes_numbers_that_read_back(void **state)
{
    (void)state;
    static const double values[] = {
        0,     -0.0,    1,       0.1,          1.0 / 3, 1e-6,         5e-324,
        1e300, -2.5e17, 1 << 20, (double)0.8f, 44100,   123456789.125};
    static const char *const locales[] = {"C", "de_DE.UTF-8"};
    for (size_t k = 0; k < 2; k++) {
        if (!setlocale(LC_NUMERIC, locales[k]))
            continue;
        for (size_t i = 0; i < sizeof values / sizeof values[0]; i++) {
            ut_buf b;
            ut_json_writer w;
            ut_buf_init(&b, 1000);
            ut_json_writer_init(&w, &b, 0);
            ut_json_begin_array(&w, NULL);
            ut_json_put_number(&w, NULL, values[i]);
            assert_true(ut_json_end_all(&w));
            ut_json *doc = parse((const char *)b.data);
            const ut_json_value v = ut_json_item(ut_json_root(doc), 0);
            double back = 99;
            assert_int_equal(ut_json_typeof(v), UT_JSON_REAL);
            assert_int_equal(ut_json_get_number(v, -HUGE_VAL, HUGE_VAL, &back, NULL), UTTER_OK);
            assert_memory_equal(&back, &values[i], sizeof back);
            ut_json_free(doc);
            ut_buf_free(&b);
        }
    }
    setlocale(LC_NUMERIC, "C");

    ut_buf b;
    ut_json_writer w;
    ut_buf_init(&b, 1000);
    ut_json_writer_init(&w, &b, 0);
    ut_json_begin_array(&w, NULL);
    ut_json_put_f32(&w, NULL, 0.8f);
    ut_json_put_f32(&w, NULL, 1e-6f);
    ut_json_put_f32(&w, NULL, 3.0f);
    ut_json_put_number(&w, NULL, 0.1);
    ut_json_put_number(&w, NULL, (double)NAN);
    ut_json_put_f32(&w, NULL, INFINITY);
    assert_true(ut_json_end_all(&w));
    assert_string_equal((const char *)b.data, "[0.8,1e-06,3.0,0.1,null,null]");
    ut_buf_free(&b);
}

static void writer_always_writes_valid_utf8(void **state)
{
    (void)state;
    static const struct {
        const char *in, *out;
    } cases[] = {
        {"\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80", "\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80"},
        {"a\xff", "a\xef\xbf\xbd"},
        {"\xc0\x80", "\xef\xbf\xbd\xef\xbf\xbd"},                 /* overlong */
        {"\xed\xa0\x80", "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd"}, /* surrogate */
        {"\xf4\x90\x80\x80", "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd"},
        {"\xe2\x82", "\xef\xbf\xbd\xef\xbf\xbd"}, /* cut off */
        {"\xe2\x82z", "\xef\xbf\xbd\xef\xbf\xbdz"},
        {"\x7f", "\x7f"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        ut_buf b;
        ut_json_writer w;
        const char *s = NULL;
        ut_buf_init(&b, 1000);
        ut_json_writer_init(&w, &b, 0);
        ut_json_begin_array(&w, NULL);
        ut_json_put_string(&w, NULL, cases[i].in);
        assert_true(ut_json_end_all(&w));
        ut_json *doc = parse((const char *)b.data);
        assert_int_equal(ut_json_get_string(ut_json_item(ut_json_root(doc), 0), &s, NULL), 0);
        assert_string_equal(s, cases[i].out);
        ut_json_free(doc);
        ut_buf_free(&b);
    }
}

static void writer_reports_a_full_buffer(void **state)
{
    (void)state;
    ut_buf b;
    ut_json_writer w;
    ut_buf_init(&b, 10);
    ut_json_writer_init(&w, &b, 0);
    ut_json_begin_object(&w, NULL);
    ut_json_put_string(&w, "key", "longer than ten bytes");
    assert_false(ut_json_end_all(&w));
    ut_buf_free(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(getters_read_values),
        cmocka_unit_test(members_come_in_file_order),
        cmocka_unit_test(optional_values_keep_their_default),
        cmocka_unit_test(errors_name_file_path_found_and_expected),
        cmocka_unit_test(long_names_are_cut_in_messages),
        cmocka_unit_test(bad_text_is_refused),
        cmocka_unit_test(nul_characters_are_for_those_who_ask),
        cmocka_unit_test(limits_hold),
        cmocka_unit_test(files_are_read_with_a_cap),
        cmocka_unit_test(every_failing_allocation_is_reported),
        cmocka_unit_test(writer_writes_compact_and_indented),
        cmocka_unit_test(writer_writes_numbers_that_read_back),
        cmocka_unit_test(writer_always_writes_valid_utf8),
        cmocka_unit_test(writer_reports_a_full_buffer),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
