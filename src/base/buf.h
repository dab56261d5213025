/* buf.h - a growable array of bytes with a mandatory cap, so that no input can make it eat the
 * machine. Also used for arrays of int32_t through ut_buf_i32. */
#ifndef UT_BASE_BUF_H
#define UT_BASE_BUF_H

#include "base/err.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct ut_buf {
    uint8_t *data; /* owned; data[len] is always 0 once something was appended */
    size_t len;
    size_t cap; /* allocated */
    size_t max; /* appending past this fails */
} ut_buf;

void ut_buf_init(ut_buf *b, size_t max);
void ut_buf_free(ut_buf *b);                            /* leaves an empty, usable buffer */
void ut_buf_clear(ut_buf *b);                           /* keeps the memory */
bool ut_buf_append(ut_buf *b, const void *p, size_t n); /* false: no memory or past max */
bool ut_buf_puts(ut_buf *b, const char *s);
bool ut_buf_printf(ut_buf *b, const char *fmt, ...) UT_PRINTF(2, 3);
bool ut_buf_reserve(ut_buf *b, size_t n); /* room for n more bytes */
void ut_buf_consume(ut_buf *b, size_t n); /* drop the first n bytes */

static inline bool ut_buf_push_i32(ut_buf *b, int32_t v)
{
    return ut_buf_append(b, &v, sizeof v);
}
static inline int32_t *ut_buf_i32(const ut_buf *b)
{
    return (int32_t *)(void *)b->data;
}
static inline size_t ut_buf_n_i32(const ut_buf *b)
{
    return b->len / sizeof(int32_t);
}

#endif
