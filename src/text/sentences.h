/* sentences.h - cut running text into chunks that a model speaks in one generation. Incremental:
 * text is pushed in pieces of any size, chunks come out as soon as they are certain, so a book
 * streams through in constant memory. Cuts are at sentence ends, else at clause marks, else at
 * spaces, else (no space in sight) between characters; never inside a UTF-8 sequence or between a
 * base character and its marks. The concatenated chunks are the text, less white space at cuts. */
#ifndef UT_TEXT_SENTENCES_H
#define UT_TEXT_SENTENCES_H

#include "base/err.h"
#include <stdbool.h>
#include <stddef.h>

typedef struct ut_splitter ut_splitter;

/* max_chars: longest chunk in characters (code points), >= 16. Short sentences are joined up to
 * max_chars * 2/3, but the first chunk of a text is its first sentence alone, so that the first
 * audio comes early. */
ut_splitter *ut_splitter_new(size_t max_chars); /* NULL: no memory */
void ut_splitter_free(ut_splitter *s);
void ut_splitter_reset(ut_splitter *s);

/* Invalid UTF-8 is ERR_TEXT with the offset in the whole text. A sequence cut between two pushes
 * is fine. */
utter_status ut_splitter_push(ut_splitter *s, const char *text, size_t n, ut_err *err);
utter_status ut_splitter_finish(ut_splitter *s, ut_err *err); /* no more text will come */

/* The next chunk, 0-terminated, trimmed, borrowed until the next call on s; NULL: push more, or
 * after finish: the end. Chunks without anything speakable (no letter, no number) are skipped. */
const char *ut_splitter_next(ut_splitter *s, size_t *n);
/* Bytes pushed so far that no chunk has covered yet. */
size_t ut_splitter_pending(const ut_splitter *s);

#endif
