/* message.c - one-line messages on standard error. */
#include "cli/cli.h"
#include <stdarg.h>
#include <stdio.h>

static void print(const char *fmt, va_list ap)
{
    fputs("utter: ", stderr);
    vfprintf(stderr, fmt, ap);
}

int ut_cli_fail(const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    print(fmt, ap);
    va_end(ap);
    fputc('\n', stderr);
    return UT_EXIT_FAILURE;
}

int ut_cli_usage(const ut_command *c, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    print(fmt, ap);
    va_end(ap);
    fprintf(stderr, "; see `utter %s --help`\n", c->name);
    return UT_EXIT_USAGE;
}
