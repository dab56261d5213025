/* bpe_table.h - what a loaded tokeniser is made of; shared by its loaders (bpe_tiktoken.c) and its
 * encoder (bpe.c), seen by nothing else. */
#ifndef UT_TEXT_BPE_TABLE_H
#define UT_TEXT_BPE_TABLE_H

#include "text/bpe.h"

#define UT_BPE_NONE ((int32_t)-1)

typedef struct ut_bpe_span {
    uint32_t offset, size; /* of ut_bpe.bytes */
} ut_bpe_span;

struct ut_bpe {
    ut_presplit presplit;
    int32_t n_ranks;        /* ids [0, n_ranks) merge, lower first */
    int32_t size;           /* ids [n_ranks, size) are special tokens */
    ut_bpe_span *token;     /* [size] */
    char *bytes;            /* of all tokens; a 0 after each special token */
    size_t max_token_bytes; /* of the mergeable ones */
    int32_t byte_id[256];
    int32_t *slot;    /* open addressing over the mergeable tokens' bytes: id or UT_BPE_NONE */
    size_t slot_mask; /* slots - 1; at most half are taken */
    int32_t *by_name; /* [size - n_ranks] special ids in the order of their names */
    bool special_start[256]; /* a special token begins with this byte */
};

/* Make room for n mergeable tokens in slot. False: no memory. */
bool ut_bpe_table_init(ut_bpe *b, int32_t n);
/* The mergeable token with these bytes, or UT_BPE_NONE. */
int32_t ut_bpe_find(const ut_bpe *b, const char *bytes, size_t n);
/* Enter id, whose token[id] is set. Returns the id that has the same bytes already (and enters
 * nothing), or UT_BPE_NONE. */
int32_t ut_bpe_enter(ut_bpe *b, int32_t id);

#endif
