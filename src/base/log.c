/* log.c - formats a message and hands it to the application's sink. */
#include "base/log.h"
#include <stdarg.h>
#include <stdio.h>

/* Set once before any engine exists, read-only from then on. */
static ut_log_fn *sink;
static void *sink_user;

void ut_log_set(ut_log_fn *fn, void *user)
{
    sink = fn;
    sink_user = user;
}

void ut_log(ut_log_level level, const char *fmt, ...)
{
    if (!sink)
        return;
    char message[1024];
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(message, sizeof message, fmt, ap);
    va_end(ap);
    if (n >= 0)
        sink(sink_user, (int)level, message);
}
