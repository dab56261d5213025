/* sentences.h - cut running text into chunks that a model speaks in one generation. Incremental:
 * text is pushed in pieces of any size, chunks come out as soon as they are certain, so a book
 * streams through in constant memory. Cuts are at sentence ends, else at clause marks, else at
 * spaces, else (no space in sight) between characters; never inside a UTF-8 sequence, and never
 * inside a grapheme cluster (a base character and its marks) unless one alone is too long for a
 * chunk. The concatenated chunks are the text, less white space at cuts and what cannot be spoken.
 */
#ifndef UT_TEXT_SENTENCES_H
#define UT_TEXT_SENTENCES_H

#include "base/err.h"
#include <stdbool.h>
#include <stddef.h>

typedef struct ut_splitter ut_splitter;

/* max_chars: longest chunk in characters (code points); below 16 counts as 16. Short sentences are
 * joined up to max_chars * 2/3, but the first chunk of a text is its first sentence alone, so that
 * the first audio comes early. A blank line always cuts. */
ut_splitter *ut_splitter_new(size_t max_chars); /* NULL: no memory */
void ut_splitter_free(ut_splitter *s);          /* NULL is fine */
void ut_splitter_reset(ut_splitter *s);         /* as new; keeps the memory */

/* Add text. How a text is divided over pushes does not change its chunks; a UTF-8 sequence cut
 * between two pushes is fine. Take the chunks between pushes: text that waits longer than its chunk
 * needs is kept in memory, at most UT_SPLITTER_MAX_PENDING bytes (ERR_LIMIT). Invalid UTF-8 is
 * ERR_TEXT with the offset in the whole text; the text before it can still be taken, and every
 * later push, and finish, fails in the same way. */
#define UT_SPLITTER_MAX_PENDING ((size_t)256 << 20)
utter_status ut_splitter_push(ut_splitter *s, const char *text, size_t n, ut_err *err);
utter_status ut_splitter_finish(ut_splitter *s, ut_err *err); /* no more text will come */

/* The next chunk, 0-terminated, trimmed, borrowed until the next call on s; NULL: push more, or
 * after finish: the end. Chunks without anything speakable (no letter, no number) are skipped. */
const char *ut_splitter_next(ut_splitter *s, size_t *n);
/* While ut_splitter_next has nothing: the text that its next chunk will certainly begin with, if
 * that has anything speakable; it ends where a space follows. Not 0-terminated, borrowed until the
 * next call on s; NULL: nothing is certain yet. It only grows until that chunk comes. */
const char *ut_splitter_begun(ut_splitter *s, size_t *n);
/* Bytes pushed so far that no chunk has covered and that were not skipped. */
size_t ut_splitter_pending(const ut_splitter *s);

#endif
