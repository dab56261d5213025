/* alloc.h - the only way this library takes memory from the system.
 * Sizes are overflow-checked products; every call is counted, and tests can make the n-th fail. */
#ifndef UT_BASE_ALLOC_H
#define UT_BASE_ALLOC_H

#include "base/err.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

void *ut_malloc(size_t size);                     /* size 0 gives a valid pointer */
void *ut_calloc(size_t n, size_t size);           /* NULL when n * size overflows */
void *ut_realloc(void *p, size_t n, size_t size); /* NULL leaves p alone */
void ut_free(void *p);                            /* NULL is fine */

/* 64-byte aligned, zeroed. Free with ut_free_aligned. */
void *ut_alloc_aligned(size_t size);
void ut_free_aligned(void *p);

char *ut_strdup(const char *s);
char *ut_strndup(const char *s, size_t n);
char *ut_asprintf(const char *fmt, ...) UT_PRINTF(1, 2); /* NULL when out of memory */

/* Overflow-checked arithmetic: false, and *out untouched, when the result does not fit. */
bool ut_size_mul(size_t a, size_t b, size_t *out);
bool ut_size_add(size_t a, size_t b, size_t *out);

/* Allocations made by this process so far (all functions above). */
uint64_t ut_alloc_count(void);

/* Tests only: make the n-th allocation from now fail (1 = the next), once; 0 switches off. */
void ut_alloc_fail_at(uint64_t n);

#endif
