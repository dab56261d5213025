/* utf8.h - UTF-8 decoding and the few Unicode questions that tokenisers ask (through utf8proc,
 * which only utf8.c includes). */
#ifndef UT_TEXT_UTF8_H
#define UT_TEXT_UTF8_H

#include "base/err.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Decode one code point at s[0..n), n >= 1; returns its length in bytes (1..4), or 0 when the
 * bytes are not valid UTF-8 (overlong forms, surrogates, truncation included). */
size_t ut_utf8_decode(const char *s, size_t n, uint32_t *cp);
size_t ut_utf8_encode(uint32_t cp, char out[4]); /* 0: not a scalar value */

/* OK, or ERR_TEXT naming the byte offset of the first invalid sequence. */
utter_status ut_utf8_check(const char *s, size_t n, ut_err *err);

typedef enum ut_char_class {
    UT_CHAR_LETTER, /* general category L* */
    UT_CHAR_NUMBER, /* N* */
    UT_CHAR_PUNCT,  /* P* */
    UT_CHAR_SPACE,  /* Unicode White_Space */
    UT_CHAR_OTHER
} ut_char_class;
/* White_Space is asked first; everything else by general category. */
ut_char_class ut_char_classify(uint32_t cp);
bool ut_char_is_mark(uint32_t cp);  /* category M* */
bool ut_char_is_lower(uint32_t cp); /* Ll */
bool ut_char_is_upper(uint32_t cp); /* Lu, Lt */

typedef enum ut_punct_kind {
    UT_PUNCT_NONE,    /* not category P* */
    UT_PUNCT_OPEN,    /* Ps */
    UT_PUNCT_CLOSE,   /* Pe */
    UT_PUNCT_INITIAL, /* Pi: a quotation mark that opens in most languages */
    UT_PUNCT_FINAL,   /* Pf */
    UT_PUNCT_DASH,    /* Pd */
    UT_PUNCT_OTHER    /* Pc, Po: the ASCII quotation marks among them */
} ut_punct_kind;
ut_punct_kind ut_punct_classify(uint32_t cp);

/* May text be broken between a and b, which follow one another: is it the border of two extended
 * grapheme clusters (UAX #29)? *state is 0 at the start of a text and after a border; call it on
 * every pair in order. */
bool ut_char_break_between(uint32_t a, uint32_t b, int32_t *state);

/* Normal form C, newly allocated and 0-terminated; time is linear in n whatever the text. */
utter_status ut_utf8_nfc(const char *s, size_t n, char **out, size_t *out_n, ut_err *err);

#endif
