/* arena.h - memory that is taken piece by piece and given back all at once. */
#ifndef UT_BASE_ARENA_H
#define UT_BASE_ARENA_H

#include "base/err.h"
#include <stddef.h>

typedef struct ut_arena ut_arena;

/* Blocks of at least block_size bytes are taken from the system as needed. NULL: no memory. */
ut_arena *ut_arena_new(size_t block_size);
void ut_arena_free(ut_arena *a);

/* 64-byte aligned, zeroed; lives until ut_arena_free. NULL: no memory. */
void *ut_arena_alloc(ut_arena *a, size_t size);
char *ut_arena_strdup(ut_arena *a, const char *s);
char *ut_arena_printf(ut_arena *a, const char *fmt, ...) UT_PRINTF(2, 3);
size_t ut_arena_bytes(const ut_arena *a); /* taken from the system */

#endif
