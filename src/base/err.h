/* err.h - how a failure travels: a status as return value, a message in the caller's ut_err.
 * A message is one line that names the file, tensor, field or flag, what was found and what was
 * expected. Only the first failure is kept; clean-up code cannot overwrite it. */
#ifndef UT_BASE_ERR_H
#define UT_BASE_ERR_H

#include "utter_status.h"

#if defined(__MINGW32__) &&                                                                        \
    !defined(__clang__) /* C99 formats, not those of the system's C library */
#define UT_PRINTF(fmt, args) __attribute__((format(gnu_printf, fmt, args)))
#elif defined(__GNUC__)
#define UT_PRINTF(fmt, args) __attribute__((format(printf, fmt, args)))
#else
#define UT_PRINTF(fmt, args)
#endif

typedef struct ut_err {
    utter_status status;
    char msg[512];
} ut_err;

/* Zero an ut_err before its first use: ut_err err = {0}. */
void ut_err_clear(ut_err *err);

/* Record status and message (err may be NULL) and return status, so that callers write
 * `return ut_fail(err, UTTER_ERR_IO, "%s: ...", path);`. */
utter_status ut_fail(ut_err *err, utter_status status, const char *fmt, ...) UT_PRINTF(3, 4);

/* Put "context: " before the message already in err; returns err's status (ERR_INTERNAL when err
 * is NULL: the status is lost then, so pass one). */
utter_status ut_fail_in(ut_err *err, const char *fmt, ...) UT_PRINTF(2, 3);

/* "ERR_IO" for UTTER_ERR_IO; and the sentence of the status list. Never NULL. */
const char *ut_status_name(utter_status status);
const char *ut_status_text(utter_status status);

#endif
