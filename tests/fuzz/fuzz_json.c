/* fuzz_json.c - any bytes as JSON: refused with a message, or a document that the writer writes and
 * the parser reads back as the same text. */
#include "base/json.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void copy(ut_json_writer *w, const char *key, ut_json_value v)
{
    int64_t i = 0;
    double r = 0;
    bool b = false;
    const char *s = "";
    ut_json_iter it = {0};
    switch (ut_json_typeof(v)) {
    case UT_JSON_ABSENT:
        abort();
    case UT_JSON_NULL:
        ut_json_put_null(w, key);
        break;
    case UT_JSON_BOOL:
        if (ut_json_get_bool(v, &b, NULL) != UTTER_OK)
            abort();
        ut_json_put_bool(w, key, b);
        break;
    case UT_JSON_INT:
        if (ut_json_get_int(v, INT64_MIN, INT64_MAX, &i, NULL) != UTTER_OK)
            abort();
        ut_json_put_int(w, key, i);
        break;
    case UT_JSON_REAL:
        if (ut_json_get_number(v, -HUGE_VAL, HUGE_VAL, &r, NULL) != UTTER_OK)
            abort();
        ut_json_put_number(w, key, r);
        break;
    case UT_JSON_STRING:
        if (ut_json_get_string(v, &s, NULL) != UTTER_OK)
            abort();
        ut_json_put_string(w, key, s);
        break;
    case UT_JSON_ARRAY:
        ut_json_begin_array(w, key);
        for (size_t k = 0; k < ut_json_size(v); k++)
            copy(w, NULL, ut_json_item(v, k));
        ut_json_end(w);
        break;
    case UT_JSON_OBJECT:
        ut_json_begin_object(w, key);
        while (ut_json_next(v, &it))
            copy(w, it.key, it.value);
        ut_json_end(w);
        break;
    }
}

/* The document as one line of text. */
static void write_out(ut_buf *out, const ut_json *doc)
{
    ut_json_writer w;
    ut_buf_init(out, (size_t)1 << 26);
    ut_json_writer_init(&w, out, 0);
    copy(&w, NULL, ut_json_root(doc));
    if (!ut_json_end_all(&w))
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    ut_json *doc, *again;
    ut_err err = {0};
    if (ut_json_parse(&doc, "f", data, size, &err) != UTTER_OK) {
        if (doc || err.msg[0] == 0)
            abort();
        return 0;
    }
    ut_buf first, second;
    write_out(&first, doc);
    if (ut_json_parse(&again, "again", first.data, first.len, &err) != UTTER_OK)
        abort();
    write_out(&second, again);
    if (first.len != second.len || memcmp(first.data, second.data, first.len) != 0)
        abort();
    int64_t i; /* a failure with a path, wherever it lies */
    ut_json_iter it = {0};
    while (ut_json_next(ut_json_root(doc), &it))
        ut_json_get_int(ut_json_member(ut_json_item(it.value, 0), "k"), 1, 0, &i, &err);
    ut_buf_free(&first);
    ut_buf_free(&second);
    ut_json_free(doc);
    ut_json_free(again);
    return 0;
}
