/* bpe_table.h - what a loaded tokeniser is made of; shared by its loaders (bpe_tiktoken.c,
 * bpe_vocab.c) and its encoder (bpe.c), seen by nothing else. */
#ifndef UT_TEXT_BPE_TABLE_H
#define UT_TEXT_BPE_TABLE_H

#include "text/bpe.h"

#define UT_BPE_NONE ((int32_t)-1)

typedef struct ut_bpe_span {
    uint32_t offset, size; /* of ut_bpe.bytes */
} ut_bpe_span;

/* The joins of a merges.txt: which two tokens may become which, and in what order. */
typedef struct ut_bpe_pairs {
    uint64_t *key;   /* open addressing: left id << 32 | right id; UINT64_MAX: free */
    int32_t *rank;   /* [slots] of the pair in the same slot */
    size_t mask;     /* slots - 1; at most half are taken */
    int32_t *joined; /* [rank] the id that a pair becomes */
} ut_bpe_pairs;

struct ut_bpe {
    ut_presplit presplit;
    bool nfc;               /* texts are normalised first */
    int32_t block_chars;    /* longer texts are encoded in blocks of as many; 0: as a whole */
    int32_t n_ranks;        /* ids [0, n_ranks) are ordinary tokens */
    int32_t size;           /* ids [n_ranks, size) are special tokens */
    ut_bpe_pairs pairs;     /* key NULL: any two neighbours may join that together are a token, a
                               lower id first */
    ut_bpe_span *token;     /* [size] */
    char *bytes;            /* of all tokens; a 0 after each special token */
    size_t max_token_bytes; /* of the ordinary ones */
    int32_t byte_id[256];
    int32_t *slot;    /* open addressing over the ordinary tokens' bytes: id or UT_BPE_NONE */
    size_t slot_mask; /* slots - 1; at most half are taken */
    int32_t *by_name; /* [size - n_ranks] special ids in the order of their names */
    bool special_start[256]; /* a special token begins with this byte */
};

/* Make room for n ordinary tokens in slot. False: no memory. */
bool ut_bpe_table_init(ut_bpe *b, int32_t n);
/* The ordinary token with these bytes, or UT_BPE_NONE. */
int32_t ut_bpe_find(const ut_bpe *b, const char *bytes, size_t n);
/* Enter id, whose token[id] is set. Returns the id that has the same bytes already (and enters
 * nothing), or UT_BPE_NONE. */
int32_t ut_bpe_enter(ut_bpe *b, int32_t id);
/* Fill byte_id; the first byte that has no token, or -1. */
int ut_bpe_enter_bytes(ut_bpe *b);
/* Fill by_name and special_start from token[n_ranks .. size). */
void ut_bpe_sort_specials(ut_bpe *b);

/* Where the pair left, right is in p, or where it would go. */
size_t ut_bpe_pair_slot(const ut_bpe_pairs *p, int32_t left, int32_t right);

#endif
