/* prefix.c - see prefix.h. */
#include "engine/prefix.h"
#include "base/alloc.h"
#include <string.h>

/* What an entry is the result of: up to two pieces of memory, and where they went. */
typedef struct content {
    const ut_state_set *set; /* of the AR loop, or of the codec */
    struct {
        const void *data;
        size_t n;
    } part[2];
} content;

struct ut_prefix_entry {
    ut_prefix_entry *older;
    const ut_state_set *set;
    uint64_t hash;
    size_t n_part[2]; /* bytes of the content's parts ... */
    uint8_t *data;    /* ... which lie here */
    ut_saved *saved;
    size_t bytes;
};

static uint64_t fnv1a(uint64_t h, const void *data, size_t n)
{
    const uint8_t *p = data;
    for (size_t i = 0; i < n; i++)
        h = (h ^ p[i]) * UINT64_C(0x100000001b3);
    return h;
}

static uint64_t hash_of(const content *k)
{
    uint64_t h = UINT64_C(0xcbf29ce484222325);
    for (int i = 0; i < 2; i++)
        h = fnv1a(h, k->part[i].data, k->part[i].n);
    return h;
}

static bool equal(const ut_prefix_entry *e, const content *k)
{
    return e->set == k->set && e->n_part[0] == k->part[0].n && e->n_part[1] == k->part[1].n &&
           memcmp(e->data, k->part[0].data, e->n_part[0]) == 0 &&
           (e->n_part[1] == 0 ||
            memcmp(e->data + e->n_part[0], k->part[1].data, e->n_part[1]) == 0);
}

static void entry_free(ut_prefix_entry *e)
{
    if (!e)
        return;
    if (e->saved)
        e->saved->backend->ops->saved_free(e->saved);
    ut_free(e->data);
    ut_free(e);
}

/* Entries past the first that fit into `room` bytes go, the least recently used. */
static void shrink(ut_prefix_cache *c, size_t room)
{
    size_t bytes = 0;
    ut_prefix_entry **at = &c->newest;
    while (*at && bytes + (*at)->bytes <= room) {
        bytes += (*at)->bytes;
        at = &(*at)->older;
    }
    ut_prefix_entry *e = *at;
    *at = NULL;
    while (e) {
        ut_prefix_entry *older = e->older;
        c->bytes -= e->bytes;
        c->n--;
        entry_free(e);
        e = older;
    }
}

void ut_prefix_free(ut_prefix_cache *c)
{
    shrink(c, 0);
}

static void put_in_front(ut_prefix_cache *c, ut_prefix_entry *e)
{
    e->older = c->newest;
    c->newest = e;
}

/* The entry of a content, which becomes the newest, or NULL. */
static ut_prefix_entry *find(ut_prefix_cache *c, const content *k)
{
    if (!c->newest)
        return NULL;
    const uint64_t hash = hash_of(k);
    for (ut_prefix_entry **at = &c->newest; *at; at = &(*at)->older) {
        ut_prefix_entry *e = *at;
        if (e->hash != hash || !equal(e, k))
            continue;
        *at = e->older;
        put_in_front(c, e);
        return e;
    }
    return NULL;
}

/* Bytes of rows [0, n_rows) of the tensors [first, first + n), as the set has them. */
static size_t rows_bytes(const ut_state_set *set, int first, int n, int32_t n_rows)
{
    size_t bytes = 0;
    for (int i = first; i < first + n; i++) {
        const ut_state_def *d = &set->def[i];
        const int32_t rows = n_rows < d->rows ? n_rows : d->rows;
        bytes += (size_t)rows * (size_t)d->cols * ut_dtype_size(d->dtype);
    }
    return bytes;
}

static ut_prefix_entry *entry_new(const content *k)
{
    const size_t n = k->part[0].n + k->part[1].n;
    ut_prefix_entry *e = ut_calloc(1, sizeof *e);
    if (!e || !(e->data = ut_malloc(n))) {
        ut_free(e);
        return NULL;
    }
    e->set = k->set;
    e->hash = hash_of(k);
    for (size_t i = 0, at = 0; i < 2; at += k->part[i++].n) {
        e->n_part[i] = k->part[i].n;
        if (k->part[i].n)
            memcpy(e->data + at, k->part[i].data, k->part[i].n);
    }
    e->bytes = sizeof *e + n;
    return e;
}

/* Room is made first, so that old entries and the new one are never in memory together. */
static void keep(ut_prefix_cache *c, const content *k, ut_state *s, int slot, int first, int n,
                 int32_t n_rows)
{
    const size_t own = sizeof(ut_prefix_entry) + k->part[0].n + k->part[1].n;
    const size_t rows = rows_bytes(k->set, first, n, n_rows);
    if (own > c->limit || rows > c->limit - own)
        return;
    shrink(c, c->limit - own - rows);
    ut_err why = {0};
    ut_prefix_entry *e = entry_new(k);
    if (!e || s->backend->ops->save(s, slot, first, n, n_rows, &e->saved, &why) != UTTER_OK) {
        entry_free(e);
        return;
    }
    e->bytes += e->saved->bytes; /* a device may round up */
    if (e->bytes > c->limit) {
        entry_free(e);
        return;
    }
    shrink(c, c->limit - e->bytes);
    put_in_front(c, e);
    c->bytes += e->bytes;
    c->n++;
}

/* ---- Prompts -------------------------------------------------------------------------------- */

/* The prompt's beginning; false: it has none that can be kept. */
static bool prompt_content(const ut_prefix_cache *c, const ut_ar *ar, const ut_prompt *prompt,
                           content *k)
{
    const size_t columns = ut_buf_n_i32(&prompt->columns) / (size_t)ar->columns;
    if (c->limit == 0 || ar->n_caches == 0 || prompt->n_prefix < 1 ||
        (size_t)prompt->n_prefix >= columns)
        return false;
    *k = (content){.set = &ar->states};
    k->part[0].data = prompt->columns.data;
    k->part[0].n = (size_t)prompt->n_prefix * (size_t)ar->columns * sizeof(int32_t);
    k->part[1].data = prompt->embedding.data;
    k->part[1].n = prompt->embedding.len;
    return true;
}

int32_t ut_prefix_load(ut_prefix_cache *c, const ut_ar *ar, const ut_prompt *prompt, ut_state *s,
                       int slot)
{
    content k;
    const ut_prefix_entry *e = prompt_content(c, ar, prompt, &k) ? find(c, &k) : NULL;
    if (!e)
        return 0;
    s->backend->ops->load(s, slot, e->saved);
    s->backend->ops->state_write(s, ar->pos, slot, 0, 1, &prompt->n_prefix);
    return prompt->n_prefix;
}

void ut_prefix_save(ut_prefix_cache *c, const ut_ar *ar, const ut_prompt *prompt, ut_state *s,
                    int slot)
{
    content k;
    if (prompt_content(c, ar, prompt, &k))
        keep(c, &k, s, slot, ar->first_cache, ar->n_caches, prompt->n_prefix);
}

/* ---- The codec ------------------------------------------------------------------------------ */

static content codec_content(const ut_state *s, const int32_t *codes, size_t n)
{
    content k = {.set = s->set};
    k.part[0].data = codes;
    k.part[0].n = n * sizeof *codes;
    return k;
}

bool ut_prefix_load_codec(ut_prefix_cache *c, const int32_t *codes, size_t n, ut_state *s, int slot)
{
    const content k = codec_content(s, codes, n);
    const ut_prefix_entry *e = find(c, &k);
    if (e)
        s->backend->ops->load(s, slot, e->saved);
    return e != NULL;
}

void ut_prefix_save_codec(ut_prefix_cache *c, const int32_t *codes, size_t n, ut_state *s, int slot)
{
    const content k = codec_content(s, codes, n);
    keep(c, &k, s, slot, 0, s->set->n, INT32_MAX);
}
