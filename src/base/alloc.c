/* alloc.c - counted, overflow-checked allocation with a switch that makes the n-th call fail. */
#include "base/alloc.h"
#include "base/os.h"
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static _Atomic uint64_t n_allocs;
static _Atomic uint64_t fail_at; /* value of n_allocs that fails; 0: none */

#define ALIGNMENT 64u

/* Count one call; false when this is the one that tests want to fail. */
static bool may_allocate(void)
{
    uint64_t n = atomic_fetch_add_explicit(&n_allocs, 1, memory_order_relaxed) + 1;
    return n != atomic_load_explicit(&fail_at, memory_order_relaxed);
}

uint64_t ut_alloc_count(void)
{
    return atomic_load_explicit(&n_allocs, memory_order_relaxed);
}

void ut_alloc_fail_at(uint64_t n)
{
    atomic_store_explicit(&fail_at, n ? ut_alloc_count() + n : 0, memory_order_relaxed);
}

bool ut_size_mul(size_t a, size_t b, size_t *out)
{
    if (b != 0 && a > SIZE_MAX / b)
        return false;
    *out = a * b;
    return true;
}

bool ut_size_add(size_t a, size_t b, size_t *out)
{
    if (a > SIZE_MAX - b)
        return false;
    *out = a + b;
    return true;
}

void *ut_malloc(size_t size)
{
    if (!may_allocate())
        return NULL;
    return malloc(size ? size : 1);
}

void *ut_calloc(size_t n, size_t size)
{
    size_t total;
    if (!may_allocate() || !ut_size_mul(n, size, &total))
        return NULL;
    return calloc(1, total ? total : 1);
}

void *ut_realloc(void *p, size_t n, size_t size)
{
    size_t total;
    if (!may_allocate() || !ut_size_mul(n, size, &total))
        return NULL;
    return realloc(p, total ? total : 1);
}

void ut_free(void *p)
{
    free(p);
}

#define LARGE ((size_t)4 << 20) /* bytes that are worth large pages */

/* The block of calloc starts somewhere before the aligned address; the pointer to it is kept in
 * the word right before that address. calloc, because the system hands out large zero pages
 * lazily. */
void *ut_alloc_aligned(size_t size)
{
    size_t total;
    if (!may_allocate() || !ut_size_add(size, ALIGNMENT + sizeof(void *), &total))
        return NULL;
    void *block = calloc(1, total);
    if (!block)
        return NULL;
    if (total >= LARGE)
        ut_memory_large(block, total);
    uintptr_t at = (uintptr_t)block + sizeof(void *);
    at = (at + ALIGNMENT - 1) & ~(uintptr_t)(ALIGNMENT - 1);
    char *p = (char *)block + (at - (uintptr_t)block);
    memcpy(p - sizeof block, &block, sizeof block);
    return p;
}

void ut_free_aligned(void *p)
{
    if (!p)
        return;
    void *block;
    memcpy(&block, (char *)p - sizeof block, sizeof block);
    free(block);
}

char *ut_strndup(const char *s, size_t n)
{
    size_t len = 0;
    while (len < n && s[len])
        len++;
    char *copy = ut_malloc(len + 1);
    if (!copy)
        return NULL;
    memcpy(copy, s, len);
    copy[len] = 0;
    return copy;
}

char *ut_strdup(const char *s)
{
    return ut_strndup(s, strlen(s));
}

char *ut_asprintf(const char *fmt, ...)
{
    va_list ap, again;
    va_start(ap, fmt);
    va_copy(again, ap);
    int n = vsnprintf(NULL, 0, fmt, ap);
    va_end(ap);
    char *s = n < 0 ? NULL : ut_malloc((size_t)n + 1);
    if (s)
        vsnprintf(s, (size_t)n + 1, fmt, again);
    va_end(again);
    return s;
}
