/* buf.c - the capped growable byte array. */
#include "base/buf.h"
#include "base/alloc.h"
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#define FIRST_CAPACITY 64u

void ut_buf_init(ut_buf *b, size_t max)
{
    memset(b, 0, sizeof *b);
    b->max = max;
}

void ut_buf_free(ut_buf *b)
{
    ut_free(b->data);
    ut_buf_init(b, b->max);
}

void ut_buf_clear(ut_buf *b)
{
    b->len = 0;
    if (b->data)
        b->data[0] = 0;
}

bool ut_buf_reserve(ut_buf *b, size_t n)
{
    size_t len, need;
    if (!ut_size_add(b->len, n, &len) || len > b->max || !ut_size_add(len, 1, &need))
        return false;
    if (need <= b->cap)
        return true;
    size_t cap = b->cap ? b->cap : FIRST_CAPACITY;
    while (cap < need)
        cap = cap > SIZE_MAX / 2 ? need : cap * 2;
    if (cap - 1 > b->max)
        cap = b->max + 1; /* >= need, as len <= max */
    uint8_t *data = ut_realloc(b->data, cap, 1);
    if (!data)
        return false;
    data[b->len] = 0;
    b->data = data;
    b->cap = cap;
    return true;
}

bool ut_buf_append(ut_buf *b, const void *p, size_t n)
{
    if (!ut_buf_reserve(b, n))
        return false;
    if (n)
        memcpy(b->data + b->len, p, n);
    b->len += n;
    b->data[b->len] = 0;
    return true;
}

bool ut_buf_puts(ut_buf *b, const char *s)
{
    return ut_buf_append(b, s, strlen(s));
}

bool ut_buf_printf(ut_buf *b, const char *fmt, ...)
{
    va_list ap, again;
    va_start(ap, fmt);
    va_copy(again, ap);
    int n = vsnprintf(NULL, 0, fmt, ap);
    va_end(ap);
    bool ok = n >= 0 && ut_buf_reserve(b, (size_t)n);
    if (ok) {
        vsnprintf((char *)b->data + b->len, (size_t)n + 1, fmt, again);
        b->len += (size_t)n;
    }
    va_end(again);
    return ok;
}

void ut_buf_consume(ut_buf *b, size_t n)
{
    if (n >= b->len) {
        ut_buf_clear(b);
        return;
    }
    memmove(b->data, b->data + n, b->len - n + 1);
    b->len -= n;
}
