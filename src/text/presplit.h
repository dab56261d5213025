/* presplit.h - the regular expressions that tokenisers cut text with before they merge bytes, as
 * hand-written matchers. A piece depends only on the text from its first byte on, and all pieces
 * together take linear time. */
#ifndef UT_TEXT_PRESPLIT_H
#define UT_TEXT_PRESPLIT_H

#include "text/bpe.h"
#include <stddef.h>

/* Bytes of the first piece of s[0..n): valid UTF-8, n >= 1. The result is >= 1. */
size_t ut_presplit_next(ut_presplit kind, const char *s, size_t n);

#endif
