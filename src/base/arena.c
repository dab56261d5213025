/* arena.c - a chain of zeroed, aligned blocks; the newest is filled from front to back. */
#include "base/arena.h"
#include "base/alloc.h"
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#define ALIGNMENT 64u

typedef struct block {
    struct block *older;
    size_t size, used; /* bytes, this header included */
} block;

_Static_assert(sizeof(block) <= ALIGNMENT, "the first allocation starts at ALIGNMENT");

struct ut_arena {
    block *newest;
    size_t block_size;
    size_t total; /* taken from the system */
};

ut_arena *ut_arena_new(size_t block_size)
{
    ut_arena *a = ut_calloc(1, sizeof *a);
    if (a)
        a->block_size = block_size;
    return a;
}

void ut_arena_free(ut_arena *a)
{
    if (!a)
        return;
    while (a->newest) {
        block *b = a->newest;
        a->newest = b->older;
        ut_free_aligned(b);
    }
    ut_free(a);
}

static block *add_block(ut_arena *a, size_t size)
{
    block *b = ut_alloc_aligned(size);
    if (!b)
        return NULL;
    b->size = size;
    b->used = ALIGNMENT;
    b->older = a->newest;
    a->newest = b;
    a->total += size;
    return b;
}

void *ut_arena_alloc(ut_arena *a, size_t size)
{
    size_t need, least;
    if (!ut_size_add(size, ALIGNMENT - 1, &need))
        return NULL;
    need &= ~(size_t)(ALIGNMENT - 1);
    if (!ut_size_add(need, ALIGNMENT, &least))
        return NULL;
    block *b = a->newest;
    if (!b || b->size - b->used < need) {
        b = add_block(a, least > a->block_size ? least : a->block_size);
        if (!b)
            return NULL;
    }
    void *p = (char *)b + b->used;
    b->used += need;
    return p;
}

char *ut_arena_strdup(ut_arena *a, const char *s)
{
    size_t n = strlen(s) + 1;
    char *copy = ut_arena_alloc(a, n);
    if (copy)
        memcpy(copy, s, n);
    return copy;
}

char *ut_arena_printf(ut_arena *a, const char *fmt, ...)
{
    va_list ap, again;
    va_start(ap, fmt);
    va_copy(again, ap);
    int n = vsnprintf(NULL, 0, fmt, ap);
    va_end(ap);
    char *s = n < 0 ? NULL : ut_arena_alloc(a, (size_t)n + 1);
    if (s)
        vsnprintf(s, (size_t)n + 1, fmt, again);
    va_end(again);
    return s;
}

size_t ut_arena_bytes(const ut_arena *a)
{
    return a->total;
}
