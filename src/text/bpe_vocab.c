/* bpe_vocab.c - loads a tokeniser from vocab.json, merges.txt and the added tokens of a
 * tokenizer_config.json, the layout that came with GPT-2. Tokens are spelt there with one printable
 * character per byte. */
#include "base/alloc.h"
#include "base/json.h"
#include "base/os.h"
#include "text/bpe.h"
#include "text/bpe_table.h"
#include "text/utf8.h"
#include <string.h>

#define MAX_FILE_BYTES  ((size_t)16 << 20)
#define MAX_TOKEN_BYTES 1024 /* spelt */
#define MAX_SPECIALS    65536

/* ---- Spelling ------------------------------------------------------------------------------- */

/* byte_of[code point] is a byte, or -1: printable bytes of Latin-1 stand for themselves, the others
 * in order for U+0100 onwards. */
static void fill_byte_of(int16_t byte_of[512])
{
    int next = 256;
    for (int c = 0; c < 512; c++)
        byte_of[c] = -1;
    for (int b = 0; b < 256; b++) {
        bool printable = (b >= 33 && b <= 126) || (b >= 161 && b <= 172) || b >= 174;
        byte_of[printable ? b : next++] = (int16_t)b;
    }
}

/* The bytes that s[0..n) spells, in out [n]; 0 when it spells none, or is too long. */
static size_t unspell(const int16_t *byte_of, const char *s, size_t n, char *out)
{
    size_t len = 0;
    if (n > MAX_TOKEN_BYTES)
        return 0;
    for (size_t at = 0; at < n;) {
        uint32_t cp;
        size_t k = ut_utf8_decode(s + at, n - at, &cp);
        if (k == 0 || cp >= 512 || byte_of[cp] < 0)
            return 0;
        out[len++] = (char)byte_of[cp];
        at += k;
    }
    return len;
}

/* ---- vocab.json ----------------------------------------------------------------------------- */

static utter_status load_tokens(ut_bpe *b, const char *name, ut_json_value vocab,
                                const int16_t *byte_of, size_t *used, ut_err *err)
{
    for (ut_json_iter it = {0}; ut_json_next(vocab, &it);) {
        int32_t id;
        utter_status st = ut_json_get_i32(it.value, 0, b->n_ranks - 1, &id, err);
        if (st != UTTER_OK)
            return st;
        size_t n = unspell(byte_of, it.key, strlen(it.key), b->bytes + *used);
        if (n == 0)
            return ut_json_fail(it.value, err,
                                "is no token: expected up to %d bytes in GPT-2's characters",
                                MAX_TOKEN_BYTES);
        if (b->token[id].size > 0)
            return ut_json_fail(it.value, err, "is %d, which another token has too", (int)id);
        b->token[id] = (ut_bpe_span){(uint32_t)*used, (uint32_t)n};
        if (ut_bpe_enter(b, id) != UT_BPE_NONE)
            return ut_json_fail(it.value, err, "is spelt like another token");
        *used += n;
    }
    int missing = ut_bpe_enter_bytes(b);
    if (missing >= 0)
        return ut_fail(err, UTTER_ERR_FORMAT, "%s: no token for the single byte 0x%02x", name,
                       (unsigned)missing);
    return UTTER_OK;
}

/* ---- merges.txt ----------------------------------------------------------------------------- */

typedef struct merge_lines {
    const char *at, *end;
    size_t number; /* of the line read last, from 1 */
} merge_lines;

/* The next line with a pair; left and right are its halves. False at the end, and (with *bad) at a
 * line that has no two halves. */
static bool next_merge(merge_lines *r, ut_bpe_source left_right[2], bool *bad)
{
    *bad = false;
    while (r->at < r->end) {
        const char *begin = r->at;
        const char *newline = memchr(begin, '\n', (size_t)(r->end - begin));
        const char *end = newline ? newline : r->end;
        r->at = newline ? newline + 1 : r->end;
        r->number++;
        if (end > begin && end[-1] == '\r')
            end--;
        size_t n = (size_t)(end - begin);
        if (n == 0 || (r->number == 1 && n >= 8 && memcmp(begin, "#version", 8) == 0))
            continue;
        const char *space = memchr(begin, ' ', n);
        *bad = !space || space == begin || space + 1 == end;
        if (*bad)
            return false;
        left_right[0] = (ut_bpe_source){NULL, begin, (size_t)(space - begin)};
        left_right[1] = (ut_bpe_source){NULL, space + 1, (size_t)(end - space) - 1};
        return true;
    }
    return false;
}

static bool pairs_init(ut_bpe_pairs *p, size_t n)
{
    size_t slots = 16;
    while (slots < 2 * n)
        slots *= 2;
    p->key = ut_calloc(slots, sizeof *p->key);
    p->rank = ut_calloc(slots, sizeof *p->rank);
    p->joined = ut_calloc(n + 1, sizeof *p->joined);
    p->mask = slots - 1;
    if (!p->key || !p->rank || !p->joined)
        return false;
    memset(p->key, 0xff, slots * sizeof *p->key);
    return true;
}

static utter_status load_merges(ut_bpe *b, ut_bpe_source src, const int16_t *byte_of, ut_err *err)
{
    merge_lines r = {src.data, (const char *)src.data + src.size, 0};
    ut_bpe_source half[2];
    bool bad;
    size_t n = 0;
    while (next_merge(&r, half, &bad))
        n++;
    if (bad)
        return ut_fail(err, UTTER_ERR_FORMAT, "%s: line %zu is not two tokens and a space",
                       src.name, r.number);
    if (!pairs_init(&b->pairs, n))
        return ut_fail(err, UTTER_ERR_NOMEM, "%s: %zu merges", src.name, n);
    r = (merge_lines){src.data, (const char *)src.data + src.size, 0};
    for (int32_t rank = 0; next_merge(&r, half, &bad); rank++) {
        char bytes[2 * MAX_TOKEN_BYTES];
        size_t n_left = unspell(byte_of, half[0].data, half[0].size, bytes);
        size_t n_right = unspell(byte_of, half[1].data, half[1].size, bytes + n_left);
        int32_t left = UT_BPE_NONE, right = UT_BPE_NONE, both = UT_BPE_NONE;
        if (n_left && n_right) {
            left = ut_bpe_find(b, bytes, n_left);
            right = ut_bpe_find(b, bytes + n_left, n_right);
            both = ut_bpe_find(b, bytes, n_left + n_right);
        }
        if (left == UT_BPE_NONE || right == UT_BPE_NONE || both == UT_BPE_NONE)
            return ut_fail(err, UTTER_ERR_FORMAT,
                           "%s: line %zu: the two tokens or what they become are not in the "
                           "vocabulary",
                           src.name, r.number);
        size_t slot = ut_bpe_pair_slot(&b->pairs, left, right);
        b->pairs.joined[rank] = both;
        if (b->pairs.key[slot] != UINT64_MAX)
            return ut_fail(err, UTTER_ERR_FORMAT, "%s: line %zu has a pair for the second time",
                           src.name, r.number);
        b->pairs.key[slot] = (uint64_t)(uint32_t)left << 32 | (uint32_t)right;
        b->pairs.rank[slot] = rank;
    }
    return UTTER_OK;
}

/* ---- tokenizer_config.json ------------------------------------------------------------------ */

/* A member of added_tokens_decoder: its id (the key, decimal) and its text. */
static utter_status read_special(const ut_bpe *b, const ut_json_iter *it, int32_t *id,
                                 const char **text, ut_err *err)
{
    int32_t v = 0;
    size_t n = strlen(it->key);
    bool ok = n > 0 && n <= 9 && strspn(it->key, "0123456789") == n;
    for (size_t i = 0; ok && i < n; i++)
        v = v * 10 + (it->key[i] - '0');
    if (!ok || v < b->n_ranks || v >= b->n_ranks + MAX_SPECIALS)
        return ut_json_fail(it->value, err, "has the id %s, expected %d..%d", it->key,
                            (int)b->n_ranks, (int)b->n_ranks + MAX_SPECIALS - 1);
    *id = v;
    utter_status st = ut_json_get_string(ut_json_member(it->value, "content"), text, err);
    if (st == UTTER_OK && !**text)
        st = ut_json_fail(it->value, err, "has an empty content");
    return st;
}

/* Sizes only: b->size, and in *n_bytes room for the texts. */
static utter_status measure_specials(ut_bpe *b, ut_json_value added, size_t *n_bytes, ut_err *err)
{
    b->size = b->n_ranks;
    *n_bytes = 0;
    for (ut_json_iter it = {0}; ut_json_next(added, &it);) {
        int32_t id;
        const char *text;
        utter_status st = read_special(b, &it, &id, &text, err);
        if (st != UTTER_OK)
            return st;
        *n_bytes += strlen(text) + 1;
        if (id >= b->size)
            b->size = id + 1;
    }
    return UTTER_OK;
}

static utter_status load_specials(ut_bpe *b, ut_json_value added, size_t used, ut_err *err)
{
    for (ut_json_iter it = {0}; ut_json_next(added, &it);) {
        int32_t id;
        const char *text;
        utter_status st = read_special(b, &it, &id, &text, err);
        if (st != UTTER_OK)
            return st;
        size_t n = strlen(text);
        memcpy(b->bytes + used, text, n + 1);
        b->token[id] = (ut_bpe_span){(uint32_t)used, (uint32_t)n};
        used += n + 1;
    }
    ut_bpe_sort_specials(b);
    return UTTER_OK;
}

/* ---- Loading -------------------------------------------------------------------------------- */

static utter_status load(ut_bpe *b, ut_json_value vocab, ut_bpe_source vocab_src,
                         ut_bpe_source merges, ut_json_value config, ut_err *err)
{
    utter_status st = ut_json_get_object(vocab, err);
    if (st != UTTER_OK)
        return st;
    b->n_ranks = (int32_t)ut_json_size(vocab);
    if (b->n_ranks == 0)
        return ut_fail(err, UTTER_ERR_FORMAT, "%s: no tokens", vocab_src.name);
    ut_json_value added = ut_json_member(config, "added_tokens_decoder");
    size_t n_bytes, used = 0;
    st = measure_specials(b, added, &n_bytes, err);
    if (st != UTTER_OK)
        return st;
    b->token = ut_calloc((size_t)b->size, sizeof *b->token);
    b->bytes = ut_malloc(n_bytes + vocab_src.size); /* a byte takes one character or more */
    b->by_name = ut_calloc((size_t)(b->size - b->n_ranks) + 1, sizeof *b->by_name);
    if (!b->token || !b->bytes || !b->by_name || !ut_bpe_table_init(b, b->n_ranks))
        return ut_fail(err, UTTER_ERR_NOMEM, "%s: %d tokens", vocab_src.name, (int)b->size);
    int16_t byte_of[512];
    fill_byte_of(byte_of);
    st = load_tokens(b, vocab_src.name, vocab, byte_of, &used, err);
    if (st == UTTER_OK)
        st = load_merges(b, merges, byte_of, err);
    return st == UTTER_OK ? load_specials(b, added, used, err) : st;
}

utter_status ut_bpe_load_vocab_memory(ut_bpe **out, ut_bpe_source vocab, ut_bpe_source merges,
                                      ut_bpe_source config, ut_presplit presplit, ut_err *err)
{
    *out = NULL;
    const ut_bpe_source *files[] = {&vocab, &merges, &config};
    for (int i = 0; i < 3; i++)
        if (files[i]->size > MAX_FILE_BYTES)
            return ut_fail(err, UTTER_ERR_FORMAT, "%s: %zu bytes, expected at most %zu",
                           files[i]->name, files[i]->size, MAX_FILE_BYTES);
    ut_json *tokens = NULL, *settings = NULL;
    ut_bpe *b = NULL;
    utter_status st = ut_json_parse(&tokens, vocab.name, vocab.data, vocab.size, err);
    if (st == UTTER_OK)
        st = ut_json_parse(&settings, config.name, config.data, config.size, err);
    if (st != UTTER_OK)
        goto done;
    b = ut_calloc(1, sizeof *b);
    if (!b) {
        st = ut_fail(err, UTTER_ERR_NOMEM, "%s", vocab.name);
        goto done;
    }
    b->presplit = presplit;
    b->nfc = true;
    st = load(b, ut_json_root(tokens), vocab, merges, ut_json_root(settings), err);
    if (st != UTTER_OK)
        goto done;
    *out = b;
    b = NULL;
done:
    ut_bpe_free(b);
    ut_json_free(tokens);
    ut_json_free(settings);
    return st;
}

utter_status ut_bpe_load_vocab(ut_bpe **out, const char *vocab_path, const char *merges_path,
                               const char *config_path, ut_presplit presplit, ut_err *err)
{
    *out = NULL;
    const char *path[3] = {vocab_path, merges_path, config_path};
    ut_map map[3] = {{0}};
    ut_bpe_source src[3];
    utter_status st = UTTER_OK;
    for (int i = 0; i < 3 && st == UTTER_OK; i++) {
        st = ut_map_open(&map[i], path[i], err);
        src[i] = (ut_bpe_source){path[i], map[i].data, map[i].size};
    }
    if (st == UTTER_OK)
        st = ut_bpe_load_vocab_memory(out, src[0], src[1], src[2], presplit, err);
    for (int i = 0; i < 3; i++)
        ut_map_close(&map[i]);
    return st;
}
