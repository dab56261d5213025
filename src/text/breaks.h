/* breaks.h - what punctuation means: does a sentence, or a clause, end at this mark? The rules of
 * the sentence splitter, apart from its buffers and lengths. Text may still be arriving: a rule
 * that needs characters that are not there yet says so, and any answer it gives stays right
 * whatever follows. No rule looks further than 3 * UT_BREAK_LOOKAHEAD characters. */
#ifndef UT_TEXT_BREAKS_H
#define UT_TEXT_BREAKS_H

#include "text/utf8.h"

#define UT_BREAK_LOOKAHEAD 64

/* Valid UTF-8; ended: nothing follows s[n). */
typedef struct ut_text {
    const char *s;
    size_t n;
    bool ended;
} ut_text;

typedef struct ut_glyph {
    uint32_t cp;
    size_t len; /* bytes; 0: the end of the text */
    ut_char_class cls;
} ut_glyph;

/* The character at byte `at`. False: that cannot be told yet. White space that carries a combining
 * mark (line breaks cannot) is UT_CHAR_OTHER, so that the two are never parted. */
bool ut_text_peek(const ut_text *t, size_t at, ut_glyph *g);

bool ut_is_line_break(uint32_t cp); /* LF, CR, NEL, LS, PS */

typedef enum ut_break {
    UT_BREAK_UNSURE,  /* more text is needed */
    UT_BREAK_NONE,    /* goes on; the marks up to `end` need not be asked about again */
    UT_BREAK_CLAUSE,  /* a clause ends at `end`, behind closing quotes and brackets */
    UT_BREAK_SENTENCE /* a sentence ends there */
} ut_break;

/* What ends at the punctuation character at byte `at`. *end: see above, > at; *n_chars: characters
 * in [at, *end). Both are set unless UNSURE. */
ut_break ut_break_at(const ut_text *t, size_t at, size_t *end, size_t *n_chars);

#endif
