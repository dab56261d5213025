/* bpe.h - byte-level byte-pair encoding: text -> token ids. Knows two file layouts (tiktoken rank
 * files; vocab.json + merges.txt) and the pre-splitters of the families. An encoder is immutable
 * once loaded and may be used by many threads. */
#ifndef UT_TEXT_BPE_H
#define UT_TEXT_BPE_H

#include "base/buf.h"
#include "base/err.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct ut_bpe ut_bpe;

typedef enum ut_presplit {
    UT_PRESPLIT_S1, /* the S1 pattern, its escaped `(\?!\S)` included (specification, section 5) */
    UT_PRESPLIT_QWEN2, /* Qwen2Tokenizer's: single digits, no piece for one punctuation mark */
} ut_presplit;

/* tokenizer.tiktoken: lines `base64(bytes) SPACE rank`, ranks 0 .. n-1 each once in any order,
 * empty lines and lines whose token is `=` not counted; special_tokens.json: {"<|...|>": id}.
 * Ids of special tokens follow the file's order from the number of ranks on; an id in the file that
 * says otherwise is an error. Every single byte must have a rank. *out is the caller's:
 * ut_bpe_free. */
utter_status ut_bpe_load_tiktoken(ut_bpe **out, const char *ranks_path, const char *special_path,
                                  ut_presplit presplit, ut_err *err);
/* The same from memory, borrowed for the call. name is for messages only. */
typedef struct ut_bpe_source {
    const char *name;
    const void *data;
    size_t size;
} ut_bpe_source;
utter_status ut_bpe_load_tiktoken_memory(ut_bpe **out, ut_bpe_source ranks, ut_bpe_source special,
                                         ut_presplit presplit, ut_err *err);

/* vocab.json: {"token": id}, ids 0 .. n-1 each once, bytes of a token spelt with GPT-2's printable
 * characters; merges.txt: lines `left right` in order of rank, an optional first line that begins
 * with "#version"; tokenizer_config.json: its added_tokens_decoder, {"id": {"content": "<|...|>"}}
 * with ids from n on, are the special tokens. Texts are brought to normal form C before they are
 * split. *out is the caller's: ut_bpe_free. */
utter_status ut_bpe_load_vocab(ut_bpe **out, const char *vocab_path, const char *merges_path,
                               const char *config_path, ut_presplit presplit, ut_err *err);
/* The same from memory, borrowed for the call. */
utter_status ut_bpe_load_vocab_memory(ut_bpe **out, ut_bpe_source vocab, ut_bpe_source merges,
                                      ut_bpe_source config, ut_presplit presplit, ut_err *err);
void ut_bpe_free(ut_bpe *b); /* NULL is fine */

int32_t ut_bpe_n_ranks(const ut_bpe *b);                   /* ordinary tokens; specials follow */
int32_t ut_bpe_size(const ut_bpe *b);                      /* ordinary tokens + specials */
int32_t ut_bpe_special(const ut_bpe *b, const char *name); /* id, or -1 */

/* Append the ids of text[0..n) to ids (int32); on failure ids is as it was. Invalid UTF-8 is
 * ERR_TEXT, more ids than ids->max allows ERR_LIMIT. With specials false the names of special
 * tokens in the text are spelt like any other text; with true they become their token (where one
 * name begins another, the longer), as the reference implementation does. Time is O(n log n). */
utter_status ut_bpe_encode(const ut_bpe *b, const char *text, size_t n, bool specials, ut_buf *ids,
                           ut_err *err);
/* The bytes of one id (borrowed; the name for specials), NULL when out of range. */
const char *ut_bpe_token(const ut_bpe *b, int32_t id, size_t *n);

#endif
