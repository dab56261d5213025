/* bpe.c - the encoder: text is cut at special tokens, then by the pre-splitter; each piece starts
 * as single bytes and repeatedly joins the two neighbours whose join has the lowest rank. A heap of
 * candidate joins makes that O(n log n), however long a piece is. */
#include "text/bpe.h"
#include "base/alloc.h"
#include "text/bpe_table.h"
#include "text/presplit.h"
#include "text/utf8.h"
#include <string.h>

/* ---- Table of tokens ------------------------------------------------------------------------ */

static uint64_t hash_bytes(const char *p, size_t n)
{
    const uint64_t k = 0x9e3779b97f4a7c15u; /* 2^64 / golden ratio: spreads a product's high bits */
    uint64_t h = n * k, w;
    for (; n >= 8; p += 8, n -= 8) {
        memcpy(&w, p, 8);
        h = (h ^ w) * k;
        h ^= h >> 32;
    }
    if (n) {
        w = 0;
        memcpy(&w, p, n);
        h = (h ^ w) * k;
        h ^= h >> 32;
    }
    return h;
}

bool ut_bpe_table_init(ut_bpe *b, int32_t n)
{
    size_t slots = 16;
    while (slots < 2 * (size_t)n)
        slots *= 2;
    b->slot = ut_calloc(slots, sizeof *b->slot);
    if (!b->slot)
        return false;
    b->slot_mask = slots - 1;
    for (size_t i = 0; i < slots; i++)
        b->slot[i] = UT_BPE_NONE;
    return true;
}

/* Where these bytes are in the table, or where they would go. */
static size_t find_slot(const ut_bpe *b, const char *bytes, size_t n)
{
    size_t i = (size_t)hash_bytes(bytes, n) & b->slot_mask;
    for (;; i = (i + 1) & b->slot_mask) {
        int32_t id = b->slot[i];
        if (id == UT_BPE_NONE)
            return i;
        if (b->token[id].size == n && memcmp(b->bytes + b->token[id].offset, bytes, n) == 0)
            return i;
    }
}

int32_t ut_bpe_find(const ut_bpe *b, const char *bytes, size_t n)
{
    return n > b->max_token_bytes ? UT_BPE_NONE : b->slot[find_slot(b, bytes, n)];
}

int32_t ut_bpe_enter(ut_bpe *b, int32_t id)
{
    const ut_bpe_span *t = &b->token[id];
    size_t i = find_slot(b, b->bytes + t->offset, t->size);
    if (b->slot[i] != UT_BPE_NONE)
        return b->slot[i];
    b->slot[i] = id;
    if (t->size > b->max_token_bytes)
        b->max_token_bytes = t->size;
    return UT_BPE_NONE;
}

int ut_bpe_enter_bytes(ut_bpe *b)
{
    for (int c = 0; c < 256; c++) {
        char byte = (char)c;
        b->byte_id[c] = ut_bpe_find(b, &byte, 1);
        if (b->byte_id[c] == UT_BPE_NONE)
            return c;
    }
    return -1;
}

size_t ut_bpe_pair_slot(const ut_bpe_pairs *p, int32_t left, int32_t right)
{
    const uint64_t key = (uint64_t)(uint32_t)left << 32 | (uint32_t)right;
    size_t i = (size_t)((key * 0x9e3779b97f4a7c15u) >> 32) & p->mask;
    while (p->key[i] != key && p->key[i] != UINT64_MAX)
        i = (i + 1) & p->mask;
    return i;
}

/* ---- Special tokens ------------------------------------------------------------------------- */

/* Heap sort of special ids by name; the standard library's sort takes no context. */
static int compare_names(const ut_bpe *b, int32_t x, int32_t y)
{
    const ut_bpe_span *p = &b->token[x], *q = &b->token[y];
    size_t n = p->size < q->size ? p->size : q->size;
    int c = memcmp(b->bytes + p->offset, b->bytes + q->offset, n);
    return c ? c : (p->size > q->size) - (p->size < q->size);
}

static void sift_down(const ut_bpe *b, int32_t *v, size_t n, size_t i)
{
    int32_t id = v[i];
    for (size_t child = 2 * i + 1; child < n; child = 2 * i + 1) {
        if (child + 1 < n && compare_names(b, v[child], v[child + 1]) < 0)
            child++;
        if (compare_names(b, id, v[child]) >= 0)
            break;
        v[i] = v[child];
        i = child;
    }
    v[i] = id;
}

void ut_bpe_sort_specials(ut_bpe *b)
{
    int32_t *v = b->by_name;
    const size_t n = (size_t)(b->size - b->n_ranks);
    for (size_t i = 0; i < n; i++) {
        v[i] = b->n_ranks + (int32_t)i;
        if (b->token[v[i]].size > 0)
            b->special_start[(unsigned char)b->bytes[b->token[v[i]].offset]] = true;
    }
    for (size_t i = n / 2; i-- > 0;)
        sift_down(b, v, n, i);
    for (size_t i = n; i-- > 1;) {
        int32_t last = v[i];
        v[i] = v[0];
        v[0] = last;
        sift_down(b, v, i, 0);
    }
}

/* ---- One piece ------------------------------------------------------------------------------ */

/* A token of the piece, indexed by the offset of its first byte. Offsets inside a token are dead:
 * their rank is UT_BPE_NONE. */
typedef struct part {
    uint32_t prev, next; /* offsets of the neighbours; next of the last is the piece's length */
    int32_t id;
    int32_t rank; /* of this token joined with the next, or UT_BPE_NONE */
} part;

/* A candidate join: rank << 32 | offset, so that the smallest is the lowest rank, leftmost. It is
 * out of date when part[offset].rank is another: tokens only grow, so no rank comes back. */
typedef struct merge {
    part *parts;    /* [max_bytes] */
    uint64_t *heap; /* [2 * max_bytes]: a join takes one candidate away and adds two at most */
    size_t n_heap;
    size_t max_bytes;
} merge;

static void merge_free(merge *m)
{
    ut_free(m->parts);
    ut_free(m->heap);
}

static bool merge_reserve(merge *m, size_t n)
{
    if (n <= m->max_bytes)
        return true;
    size_t size = 2 * m->max_bytes < 64 ? 64 : 2 * m->max_bytes;
    if (size < n)
        size = n;
    merge_free(m);
    m->parts = ut_calloc(size, sizeof *m->parts);
    m->heap = ut_calloc(size, 2 * sizeof *m->heap);
    m->max_bytes = size;
    return m->parts && m->heap;
}

static void heap_sift_down(uint64_t *heap, size_t n, size_t i)
{
    uint64_t key = heap[i];
    for (size_t child = 2 * i + 1; child < n; child = 2 * i + 1) {
        if (child + 1 < n && heap[child + 1] < heap[child])
            child++;
        if (key <= heap[child])
            break;
        heap[i] = heap[child];
        i = child;
    }
    heap[i] = key;
}

static void heap_push(merge *m, uint64_t key)
{
    size_t i = m->n_heap++;
    while (i > 0 && key < m->heap[(i - 1) / 2]) {
        m->heap[i] = m->heap[(i - 1) / 2];
        i = (i - 1) / 2;
    }
    m->heap[i] = key;
}

static uint64_t heap_pop(merge *m)
{
    uint64_t key = m->heap[0];
    m->heap[0] = m->heap[--m->n_heap];
    if (m->n_heap)
        heap_sift_down(m->heap, m->n_heap, 0);
    return key;
}

/* The rank of the token at i joined with the next. */
static int32_t join_rank(const ut_bpe *b, const merge *m, const char *s, size_t n, uint32_t i)
{
    uint32_t next = m->parts[i].next;
    if (next == n)
        return UT_BPE_NONE;
    if (!b->pairs.key)
        return ut_bpe_find(b, s + i, m->parts[next].next - i);
    size_t slot = ut_bpe_pair_slot(&b->pairs, m->parts[i].id, m->parts[next].id);
    return b->pairs.key[slot] == UINT64_MAX ? UT_BPE_NONE : b->pairs.rank[slot];
}

static uint64_t join_key(int32_t rank, uint32_t i)
{
    return (uint64_t)(uint32_t)rank << 32 | i;
}

/* Append the ids of piece s[0..n), 1 <= n < 2^32. False: no memory for m, or ids is full. */
static bool encode_piece(const ut_bpe *b, const char *s, size_t n, merge *m, ut_buf *ids)
{
    if (!b->pairs.key) {
        int32_t whole = ut_bpe_find(b, s, n);
        if (whole != UT_BPE_NONE)
            return ut_buf_push_i32(ids, whole);
    }
    if (!merge_reserve(m, n))
        return false;
    part *parts = m->parts;
    m->n_heap = 0;
    for (uint32_t i = 0; i < n; i++)
        parts[i] = (part){i - 1, i + 1, b->byte_id[(unsigned char)s[i]], UT_BPE_NONE};
    for (uint32_t i = 0; i < n; i++) {
        parts[i].rank = join_rank(b, m, s, n, i);
        if (parts[i].rank != UT_BPE_NONE)
            m->heap[m->n_heap++] = join_key(parts[i].rank, i);
    }
    for (size_t i = m->n_heap / 2; i-- > 0;)
        heap_sift_down(m->heap, m->n_heap, i);

    while (m->n_heap) {
        uint64_t key = heap_pop(m);
        uint32_t i = (uint32_t)key;
        int32_t rank = (int32_t)(key >> 32);
        if (parts[i].rank != rank)
            continue;
        uint32_t joined = parts[i].next;
        parts[joined].rank = UT_BPE_NONE;
        parts[i].id = b->pairs.key ? b->pairs.joined[rank] : rank;
        parts[i].next = parts[joined].next;
        if (parts[i].next < n)
            parts[parts[i].next].prev = i;
        parts[i].rank = join_rank(b, m, s, n, i);
        if (parts[i].rank != UT_BPE_NONE)
            heap_push(m, join_key(parts[i].rank, i));
        if (i > 0) {
            uint32_t before = parts[i].prev;
            parts[before].rank = join_rank(b, m, s, n, before);
            if (parts[before].rank != UT_BPE_NONE)
                heap_push(m, join_key(parts[before].rank, before));
        }
    }
    for (size_t i = 0; i < n; i = parts[i].next)
        if (!ut_buf_push_i32(ids, parts[i].id))
            return false;
    return true;
}

/* ---- Texts ---------------------------------------------------------------------------------- */

static bool encode_pieces(const ut_bpe *b, const char *s, size_t n, merge *m, ut_buf *ids)
{
    for (size_t at = 0; at < n;) {
        size_t len = ut_presplit_next(b->presplit, s + at, n - at);
        if (!encode_piece(b, s + at, len, m, ids))
            return false;
        at += len;
    }
    return true;
}

static bool encode_ordinary(const ut_bpe *b, const char *s, size_t n, merge *m, ut_buf *ids)
{
    if (!b->nfc || n == 0)
        return encode_pieces(b, s, n, m, ids);
    char *normal;
    size_t n_normal;
    if (ut_utf8_nfc(s, n, &normal, &n_normal, NULL) != UTTER_OK)
        return false;
    bool ok = encode_pieces(b, normal, n_normal, m, ids);
    ut_free(normal);
    return ok;
}

/* First of by_name[lo, hi) whose byte `at` is >= c (> c with after), where all of them agree
 * before `at`; a name that ends there counts as below every byte. */
static int32_t narrow(const ut_bpe *b, int32_t lo, int32_t hi, size_t at, int c, bool after)
{
    while (lo < hi) {
        int32_t mid = lo + (hi - lo) / 2;
        const ut_bpe_span *t = &b->token[b->by_name[mid]];
        int have = at < t->size ? (unsigned char)b->bytes[t->offset + at] : -1;
        if (have < c || (after && have == c))
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo;
}

/* The longest special token that s[0..n) begins with, or UT_BPE_NONE. */
static int32_t match_special(const ut_bpe *b, const char *s, size_t n)
{
    int32_t best = UT_BPE_NONE, lo = 0, hi = b->size - b->n_ranks;
    for (size_t at = 0; at < n && lo < hi; at++) {
        int c = (unsigned char)s[at];
        lo = narrow(b, lo, hi, at, c, false);
        hi = narrow(b, lo, hi, at, c, true);
        if (lo < hi && b->token[b->by_name[lo]].size == at + 1)
            best = b->by_name[lo]; /* sorted: the one that ends here comes first */
    }
    return best;
}

static bool encode_block(const ut_bpe *b, const char *s, size_t n, bool specials, merge *m,
                         ut_buf *ids)
{
    size_t begin = 0;
    for (size_t at = 0; specials && at < n;) {
        int32_t id = UT_BPE_NONE;
        if (b->special_start[(unsigned char)s[at]])
            id = match_special(b, s + at, n - at);
        if (id == UT_BPE_NONE) {
            at++;
            continue;
        }
        if (!encode_ordinary(b, s + begin, at - begin, m, ids) || !ut_buf_push_i32(ids, id))
            return false;
        at += b->token[id].size;
        begin = at;
    }
    return encode_ordinary(b, s + begin, n - begin, m, ids);
}

utter_status ut_bpe_encode(const ut_bpe *b, const char *text, size_t n, bool specials, ut_buf *ids,
                           ut_err *err)
{
    utter_status st = ut_utf8_check(text, n, err);
    if (st != UTTER_OK)
        return st;
    merge m = {0};
    size_t len_before = ids->len;
    bool ok = true;
    for (size_t at = 0; at < n && ok;) {
        size_t end = at;
        uint32_t cp;
        for (int32_t chars = 0; end < n && chars != b->block_chars; chars++)
            end += ut_utf8_decode(text + end, n - end, &cp);
        if (b->block_chars == 0)
            end = n;
        ok = encode_block(b, text + at, end - at, specials, &m, ids);
        at = end;
    }
    merge_free(&m);
    if (ok)
        return UTTER_OK;
    bool full = ids->max - ids->len < sizeof(int32_t);
    ids->len = len_before;
    if (ids->data)
        ids->data[len_before] = 0;
    if (full)
        return ut_fail(err, UTTER_ERR_LIMIT, "a text of %zu bytes has too many tokens, at most %zu",
                       n, (ids->max - len_before) / sizeof(int32_t));
    return ut_fail(err, UTTER_ERR_NOMEM, "tokens of a text of %zu bytes", n);
}

/* ---- Questions ------------------------------------------------------------------------------ */

void ut_bpe_free(ut_bpe *b)
{
    if (!b)
        return;
    ut_free(b->token);
    ut_free(b->bytes);
    ut_free(b->slot);
    ut_free(b->by_name);
    ut_free(b->pairs.key);
    ut_free(b->pairs.rank);
    ut_free(b->pairs.joined);
    ut_free(b);
}

int32_t ut_bpe_n_ranks(const ut_bpe *b)
{
    return b->n_ranks;
}

int32_t ut_bpe_size(const ut_bpe *b)
{
    return b->size;
}

int32_t ut_bpe_special(const ut_bpe *b, const char *name)
{
    size_t n = strlen(name);
    int32_t id = match_special(b, name, n);
    return id != UT_BPE_NONE && b->token[id].size == n ? id : UT_BPE_NONE;
}

const char *ut_bpe_token(const ut_bpe *b, int32_t id, size_t *n)
{
    *n = 0;
    if (id < 0 || id >= b->size)
        return NULL;
    *n = b->token[id].size;
    return b->bytes + b->token[id].offset;
}
