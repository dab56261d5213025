/* err.c - recording failures: one line, first one wins, printable whatever the input was. */
#include "base/err.h"
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

void ut_err_clear(ut_err *err)
{
    memset(err, 0, sizeof *err);
}

/* Names in messages come from untrusted files: control characters become '?', and a UTF-8 sequence
 * that truncation has cut is dropped. */
static void tidy(char *msg, bool truncated)
{
    size_t n = strlen(msg);
    for (size_t i = 0; i < n; i++) {
        unsigned char c = (unsigned char)msg[i];
        if (c < 0x20 || c == 0x7f)
            msg[i] = '?';
    }
    if (!truncated)
        return;
    size_t start = n;
    while (start > 0 && n - start < 3 && ((unsigned char)msg[start - 1] & 0xc0) == 0x80)
        start--;
    if (start > 0 && (unsigned char)msg[start - 1] >= 0xc0)
        msg[start - 1] = 0;
}

utter_status ut_fail(ut_err *err, utter_status status, const char *fmt, ...)
{
    if (!err || err->status != UTTER_OK)
        return status;
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(err->msg, sizeof err->msg, fmt, ap);
    va_end(ap);
    if (n < 0)
        err->msg[0] = 0;
    tidy(err->msg, n >= (int)sizeof err->msg);
    err->status = status;
    return status;
}

utter_status ut_fail_in(ut_err *err, const char *fmt, ...)
{
    if (!err)
        return UTTER_ERR_INTERNAL;
    char context[sizeof err->msg], joined[2 * sizeof err->msg + 2];
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(context, sizeof context, fmt, ap);
    va_end(ap);
    if (n < 0)
        context[0] = 0;
    int m = snprintf(joined, sizeof joined, "%s: %s", context, err->msg);
    snprintf(err->msg, sizeof err->msg, "%.*s", (int)sizeof err->msg - 1, joined);
    tidy(err->msg, m >= (int)sizeof err->msg || n >= (int)sizeof context);
    return err->status;
}

const char *ut_status_name(utter_status status)
{
    switch (status) {
#define UT_STATUS_NAME(name, value, text)                                                          \
    case UTTER_##name:                                                                             \
        return #name;
        UTTER_STATUS_MAP(UT_STATUS_NAME)
#undef UT_STATUS_NAME
    }
    return "unknown status";
}

const char *ut_status_text(utter_status status)
{
    switch (status) {
#define UT_STATUS_TEXT(name, value, text)                                                          \
    case UTTER_##name:                                                                             \
        return text;
        UTTER_STATUS_MAP(UT_STATUS_TEXT)
#undef UT_STATUS_TEXT
    }
    return "unknown status";
}
