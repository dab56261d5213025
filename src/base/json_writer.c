/* json_writer.c - writing JSON into a buffer, piece by piece: no tree, no allocation but the
 * buffer's. */
#include "base/json.h"

#include <assert.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void ut_json_writer_init(ut_json_writer *w, ut_buf *out, int indent)
{
    *w = (ut_json_writer){.out = out, .indent = indent};
}

static void put(ut_json_writer *w, const char *s, size_t n)
{
    if (!w->failed && !ut_buf_append(w->out, s, n))
        w->failed = true;
}

static void new_line(ut_json_writer *w)
{
    if (w->indent == 0)
        return;
    put(w, "\n", 1);
    for (int i = 0; i < w->depth * w->indent; i++)
        put(w, " ", 1);
}

/* Length of the valid UTF-8 sequence at s[0..n), n >= 1; 0 when it is not one (overlong forms,
 * surrogates, above U+10FFFF, cut off). */
static size_t utf8_length(const unsigned char *s, size_t n)
{
    static const struct {
        unsigned char lead_first, lead_last, second_first, second_last, length;
    } forms[] = {
        {0x00, 0x7f, 0, 0, 1},       {0xc2, 0xdf, 0x80, 0xbf, 2}, {0xe0, 0xe0, 0xa0, 0xbf, 3},
        {0xe1, 0xec, 0x80, 0xbf, 3}, {0xed, 0xed, 0x80, 0x9f, 3}, {0xee, 0xef, 0x80, 0xbf, 3},
        {0xf0, 0xf0, 0x90, 0xbf, 4}, {0xf1, 0xf3, 0x80, 0xbf, 4}, {0xf4, 0xf4, 0x80, 0x8f, 4},
    };
    for (size_t f = 0; f < sizeof forms / sizeof forms[0]; f++) {
        if (s[0] < forms[f].lead_first || s[0] > forms[f].lead_last)
            continue;
        const size_t length = forms[f].length;
        if (length > n)
            return 0;
        if (length > 1 && (s[1] < forms[f].second_first || s[1] > forms[f].second_last))
            return 0;
        for (size_t i = 2; i < length; i++)
            if ((s[i] & 0xc0) != 0x80)
                return 0;
        return length;
    }
    return 0;
}

static void put_quoted(ut_json_writer *w, const char *text, size_t n)
{
    const unsigned char *s = (const unsigned char *)text;
    put(w, "\"", 1);
    size_t i = 0, from = 0; /* [from, i) is copied as it is */
    while (i < n) {
        const size_t length = utf8_length(s + i, n - i);
        if (length > 0 && s[i] >= 0x20 && s[i] != '"' && s[i] != '\\') {
            i += length;
            continue;
        }
        char escape[8];
        if (length == 0)
            memcpy(escape, "\xef\xbf\xbd", 4); /* U+FFFD */
        else if (s[i] == '"' || s[i] == '\\')
            snprintf(escape, sizeof escape, "\\%c", s[i]);
        else if (s[i] == '\n')
            memcpy(escape, "\\n", 3);
        else if (s[i] == '\r')
            memcpy(escape, "\\r", 3);
        else if (s[i] == '\t')
            memcpy(escape, "\\t", 3);
        else
            snprintf(escape, sizeof escape, "\\u%04x", s[i]);
        put(w, text + from, i - from);
        put(w, escape, strlen(escape));
        from = ++i;
    }
    put(w, text + from, i - from);
    put(w, "\"", 1);
}

/* What comes before every value: comma, line break, key. */
static void begin_value(ut_json_writer *w, const char *key)
{
    if (w->depth > 0) {
        const bool in_object = w->close[w->depth - 1] == '}';
        assert(in_object == (key != NULL));
        if (!w->empty[w->depth - 1])
            put(w, ",", 1);
        w->empty[w->depth - 1] = false;
        new_line(w);
        if (in_object) {
            put_quoted(w, key, strlen(key));
            put(w, ": ", w->indent > 0 ? 2 : 1);
        }
    }
}

static void begin_level(ut_json_writer *w, const char *key, char open, char close)
{
    begin_value(w, key);
    put(w, &open, 1);
    assert(w->depth < UT_JSON_MAX_DEPTH);
    w->close[w->depth] = close;
    w->empty[w->depth] = true;
    w->depth++;
}

void ut_json_begin_object(ut_json_writer *w, const char *key)
{
    begin_level(w, key, '{', '}');
}

void ut_json_begin_array(ut_json_writer *w, const char *key)
{
    begin_level(w, key, '[', ']');
}

void ut_json_end(ut_json_writer *w)
{
    assert(w->depth > 0);
    w->depth--;
    if (!w->empty[w->depth])
        new_line(w);
    put(w, &w->close[w->depth], 1);
}

void ut_json_put_bytes(ut_json_writer *w, const char *key, const char *s, size_t n)
{
    begin_value(w, key);
    put_quoted(w, s, n);
}

void ut_json_put_string(ut_json_writer *w, const char *key, const char *s)
{
    if (s)
        ut_json_put_bytes(w, key, s, strlen(s));
    else
        ut_json_put_null(w, key);
}

void ut_json_put_int(ut_json_writer *w, const char *key, int64_t v)
{
    char text[32];
    const int n = snprintf(text, sizeof text, "%" PRId64, v);
    begin_value(w, key);
    put(w, text, (size_t)n);
}

/* Digits with a '.', whatever the locale's decimal mark is, and never an integer's form. */
static void put_digits(ut_json_writer *w, const char *digits)
{
    bool is_real = false;
    for (const char *p = digits; *p; p++) {
        if (strchr("0123456789+-e", *p)) {
            put(w, p, 1);
            is_real = is_real || *p == 'e';
        } else if (!is_real) {
            put(w, ".", 1);
            is_real = true;
        }
    }
    if (!is_real)
        put(w, ".0", 2);
}

void ut_json_put_number(ut_json_writer *w, const char *key, double v)
{
    char digits[40];
    if (!isfinite(v)) {
        ut_json_put_null(w, key);
        return;
    }
    int precision = 15;
    do
        snprintf(digits, sizeof digits, "%.*g", precision, v);
    while (strtod(digits, NULL) != v && ++precision <= 17);
    begin_value(w, key);
    put_digits(w, digits);
}

void ut_json_put_f32(ut_json_writer *w, const char *key, float v)
{
    char digits[40];
    if (!isfinite(v)) {
        ut_json_put_null(w, key);
        return;
    }
    int precision = 6;
    do
        snprintf(digits, sizeof digits, "%.*g", precision, (double)v);
    while (strtof(digits, NULL) != v && ++precision <= 9);
    begin_value(w, key);
    put_digits(w, digits);
}

void ut_json_put_bool(ut_json_writer *w, const char *key, bool v)
{
    begin_value(w, key);
    put(w, v ? "true" : "false", v ? 4 : 5);
}

void ut_json_put_null(ut_json_writer *w, const char *key)
{
    begin_value(w, key);
    put(w, "null", 4);
}

bool ut_json_end_all(ut_json_writer *w)
{
    while (w->depth > 0)
        ut_json_end(w);
    return !w->failed;
}
