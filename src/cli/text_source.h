/* text_source.h - where the text to speak comes from: arguments, a file, or standard input. */
#ifndef UT_CLI_TEXT_SOURCE_H
#define UT_CLI_TEXT_SOURCE_H

#include "base/err.h"
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

typedef struct ut_text_source {
    const char *name; /* for messages */
    char *args;       /* arguments joined by spaces, owned; NULL: a file */
    FILE *file;
    int64_t size; /* bytes in all; -1: not known (a pipe) */
    int64_t read; /* bytes handed out */
    bool started;
} ut_text_source;

/* path NULL: the arguments; path "-": standard input. Without arguments and path, standard input if
 * it is not a terminal. ERR_ARG when there is no text or too many sources of it. */
utter_status ut_text_source_open(ut_text_source *s, const char *path, int argc, char **argv,
                                 ut_err *err);
/* The next piece, at most size bytes, as soon as a line is there; *n is 0 at the end. A byte order
 * mark at the beginning is skipped. */
utter_status ut_text_source_read(ut_text_source *s, char *out, size_t size, size_t *n, ut_err *err);
void ut_text_source_close(ut_text_source *s);

#endif
