/* torch.c - checkpoints of torch.save: a zip of <top>/data.pkl, which describes tensors, and
 * <top>/data/<key>, the raw little-endian storages that they are cut from. */
#include "base/alloc.h"
#include "weights/pickle.h"
#include "weights/store.h"
#include "weights/zip.h"
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define SCRATCH_BLOCK ((size_t)256 << 10)

typedef struct torch_file {
    ut_weights *w;
    const char *file;
    ut_zip zip;
    const char *top; /* [n_top] "<top>/", in front of every name */
    size_t n_top;
    size_t copy_budget; /* bytes that tensors with odd strides may still take: a small file must
                           not grow into a large one through strides of 0 */
    ut_err *err;
} torch_file;

/* A tensor's name for messages. */
typedef struct label {
    const char *s;
    int n;
} label;

bool ut_torch_is(const uint8_t *data, size_t size)
{
    return size > 4 && memcmp(data, "PK\3\4", 4) == 0;
}

/* ---- The archive ---------------------------------------------------------------------------- */

static const ut_zip_entry *find(const torch_file *f, const char *dir, const char *name,
                                size_t n_name)
{
    char path[512];
    const size_t n_dir = strlen(dir);
    if (n_name > sizeof path || f->n_top + n_dir + n_name > sizeof path)
        return NULL;
    memcpy(path, f->top, f->n_top);
    memcpy(path + f->n_top, dir, n_dir);
    memcpy(path + f->n_top + n_dir, name, n_name);
    return ut_zip_find(&f->zip, path, f->n_top + n_dir + n_name);
}

/* The pickle, in whatever top folder it lies. */
static utter_status find_pickle(torch_file *f, const ut_zip_entry **out)
{
    static const char name[] = "data.pkl";
    const size_t n = sizeof name - 1;
    *out = NULL;
    for (size_t i = 0; i < f->zip.n; i++) {
        const ut_zip_entry *e = &f->zip.entry[i];
        if (e->n_name < n || memcmp(e->name + e->n_name - n, name, n) != 0)
            continue;
        const size_t n_top = e->n_name - n;
        if (n_top > 0 && memchr(e->name, '/', n_top) != e->name + n_top - 1)
            continue; /* not "<top>/data.pkl" */
        if (*out)
            return ut_fail(f->err, UTTER_ERR_FORMAT, "%s: more than one data.pkl", f->file);
        *out = e;
        f->top = e->name;
        f->n_top = n_top;
    }
    if (!*out)
        return ut_fail(f->err, UTTER_ERR_FORMAT,
                       "%s: a zip archive without data.pkl, so not made by torch.save", f->file);
    return UTTER_OK;
}

static utter_status check_byte_order(const torch_file *f)
{
    static const char name[] = "byteorder", little[] = "little";
    const ut_zip_entry *e = find(f, "", name, sizeof name - 1);
    if (e && (e->size != sizeof little - 1 || memcmp(e->data, little, e->size) != 0))
        return ut_fail(f->err, UTTER_ERR_FORMAT, "%s: byteorder is \"%.*s\", expected \"little\"",
                       f->file, (int)(e->size < 20 ? e->size : 20), (const char *)e->data);
    return UTTER_OK;
}

/* ---- Tensors -------------------------------------------------------------------------------- */

/* One past the last element that a tensor of at least one element touches; false: it does not fit,
 * or something is negative. */
static bool last_element(const ut_pickle_tensor *t, int64_t *end)
{
    if (t->offset < 0)
        return false;
    uint64_t last = (uint64_t)t->offset;
    for (int i = 0; i < t->n_dims; i++) {
        const uint64_t steps = (uint64_t)(t->dim[i] - 1), stride = (uint64_t)t->stride[i];
        if (t->stride[i] < 0 || (stride > 0 && steps > INT64_MAX / stride) ||
            steps * stride > INT64_MAX - last - 1)
            return false;
        last += steps * stride;
    }
    if (last >= INT64_MAX)
        return false;
    *end = (int64_t)last + 1;
    return true;
}

static bool is_row_major(const ut_pickle_tensor *t)
{
    int64_t stride = 1;
    for (int i = t->n_dims; i-- > 0;) {
        if (t->dim[i] == 1)
            continue;
        if (t->stride[i] != stride)
            return false;
        stride *= t->dim[i];
    }
    return true;
}

/* Write the elements of t row-major to dst; src is element 0 of its storage. */
static void gather(uint8_t *dst, const uint8_t *src, const ut_pickle_tensor *t, size_t element)
{
    int64_t at[UT_MAX_DIMS] = {0}, pos = t->offset;
    const int inner = t->n_dims - 1; /* a scalar is always row-major */
    for (;;) {
        for (int64_t i = 0; i < t->dim[inner]; i++, dst += element)
            memcpy(dst, src + (size_t)(pos + i * t->stride[inner]) * element, element);
        int d = inner - 1;
        for (; d >= 0; d--) {
            pos += t->stride[d];
            if (++at[d] < t->dim[d])
                break;
            pos -= t->dim[d] * t->stride[d];
            at[d] = 0;
        }
        if (d < 0)
            return;
    }
}

/* The bytes of t's storage. */
static utter_status find_storage(const torch_file *f, label name, const ut_pickle_tensor *t,
                                 const uint8_t **out)
{
    const ut_pickle_storage *s = t->storage;
    const int n_key = s->n_key < 100 ? (int)s->n_key : 100;
    const ut_zip_entry *e = find(f, "data/", s->key, s->n_key);
    int64_t n_elements;
    size_t n_bytes;
    if (!e)
        return ut_fail(f->err, UTTER_ERR_FORMAT,
                       "%s: tensor \"%.*s\": there is no storage \"%.*s\"", f->file, name.n, name.s,
                       n_key, s->key);
    if (!ut_shape_size(1, &s->n_elements, s->dtype, &n_elements, &n_bytes) || n_bytes != e->size)
        return ut_fail(f->err, UTTER_ERR_FORMAT,
                       "%s: tensor \"%.*s\": storage \"%.*s\" has %zu bytes, expected %" PRId64
                       " elements of %s",
                       f->file, name.n, name.s, n_key, s->key, e->size, s->n_elements,
                       ut_dtype_name(s->dtype));
    *out = e->data;
    return UTTER_OK;
}

static utter_status copy_tensor(torch_file *f, label name, const ut_pickle_tensor *t,
                                const uint8_t *storage, size_t n_bytes, ut_view *v)
{
    if (n_bytes > f->copy_budget)
        return ut_fail(f->err, UTTER_ERR_FORMAT,
                       "%s: tensor \"%.*s\": its strides expand it to %zu bytes, more than the "
                       "file has",
                       f->file, name.n, name.s, n_bytes);
    f->copy_budget -= n_bytes;
    uint8_t *copy = ut_arena_alloc(f->w->arena, n_bytes);
    if (!copy)
        return ut_fail(f->err, UTTER_ERR_NOMEM, "%s: tensor \"%.*s\": %zu bytes", f->file, name.n,
                       name.s, n_bytes);
    gather(copy, storage, t, ut_dtype_size(v->dtype));
    v->data = copy;
    return UTTER_OK;
}

static utter_status add_tensor(torch_file *f, label name, const ut_pickle_tensor *t)
{
    ut_view v = {.dtype = t->storage->dtype, .n_dims = t->n_dims};
    for (int i = 0; i < t->n_dims; i++)
        v.dim[i] = t->dim[i];
    char shape[160];
    ut_shape_text(shape, sizeof shape, t->n_dims, t->dim);
    size_t n_bytes;
    if (!ut_shape_size(v.n_dims, v.dim, v.dtype, &v.n_elements, &n_bytes))
        return ut_fail(f->err, UTTER_ERR_FORMAT,
                       "%s: tensor \"%.*s\": shape %s is negative or too large for this machine",
                       f->file, name.n, name.s, shape);
    const uint8_t *storage = NULL;
    utter_status st = find_storage(f, name, t, &storage);
    if (st != UTTER_OK)
        return st;
    v.data = storage;
    if (v.n_elements > 0) {
        int64_t end;
        if (!last_element(t, &end) || end > t->storage->n_elements)
            return ut_fail(f->err, UTTER_ERR_FORMAT,
                           "%s: tensor \"%.*s\": shape %s with its strides at element %" PRId64
                           " does not fit into a storage of %" PRId64 " elements",
                           f->file, name.n, name.s, shape, t->offset, t->storage->n_elements);
        if (is_row_major(t))
            v.data = storage + (size_t)t->offset * ut_dtype_size(v.dtype);
        else
            st = copy_tensor(f, name, t, storage, n_bytes, &v);
    }
    if (st == UTTER_OK)
        st = ut_weights_add(f->w, f->file, name.s, (size_t)name.n, &v, f->err);
    return st;
}

/* The dict that holds the tensors: the top one, or its member "state_dict". */
static const ut_pickle_dict *descend(const ut_pickle_dict *top)
{
    static const char name[] = "state_dict";
    for (size_t i = 0; i < top->n; i++) {
        const struct ut_pickle_pair *p = &top->pair[i];
        if (p->key.kind == UT_PICKLE_STRING && p->value.kind == UT_PICKLE_DICT &&
            p->key.n == sizeof name - 1 && memcmp(p->key.u.string, name, p->key.n) == 0)
            return p->value.u.dict;
    }
    return top;
}

static utter_status load(torch_file *f, ut_arena *scratch)
{
    const ut_zip_entry *pickle;
    const ut_pickle_dict *d = NULL;
    utter_status st = find_pickle(f, &pickle);
    if (st == UTTER_OK)
        st = check_byte_order(f);
    if (st == UTTER_OK)
        st = ut_pickle_read(&d, scratch, f->file, pickle->data, pickle->size, f->err);
    if (st != UTTER_OK)
        return st;
    d = descend(d);
    for (size_t i = 0; i < d->n && st == UTTER_OK; i++) {
        const ut_pickle_value key = d->pair[i].key, value = d->pair[i].value;
        if (value.kind != UT_PICKLE_TENSOR)
            continue;
        if (key.kind == UT_PICKLE_STRING)
            st = add_tensor(f, (label){key.u.string, (int)key.n}, value.u.tensor);
        else
            st = ut_fail(f->err, UTTER_ERR_FORMAT, "%s: the name of tensor %zu is not a string",
                         f->file, i);
    }
    return st;
}

utter_status ut_torch_load(ut_weights *w, const char *file, const ut_map *map, ut_err *err)
{
    torch_file f = {.w = w, .file = file, .copy_budget = map->size, .err = err};
    utter_status st = ut_zip_open(&f.zip, file, map->data, map->size, err);
    if (st != UTTER_OK)
        return st;
    ut_arena *scratch = ut_arena_new(SCRATCH_BLOCK); /* what the pickle builds */
    st = scratch ? load(&f, scratch) : ut_fail(err, UTTER_ERR_NOMEM, "%s: pickle", file);
    ut_arena_free(scratch);
    ut_zip_close(&f.zip);
    return st;
}
