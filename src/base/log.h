/* log.h - the one log function. Nothing in the library writes to stderr by itself: messages go to
 * the sink that the application set, or nowhere. */
#ifndef UT_BASE_LOG_H
#define UT_BASE_LOG_H

#include "base/err.h"

typedef enum ut_log_level { UT_LOG_ERROR, UT_LOG_WARN, UT_LOG_INFO, UT_LOG_DEBUG } ut_log_level;
typedef void ut_log_fn(void *user, int level, const char *message);

/* Set once, before engines are opened; fn NULL silences. */
void ut_log_set(ut_log_fn *fn, void *user);
void ut_log(ut_log_level level, const char *fmt, ...) UT_PRINTF(2, 3);

#endif
