/* weights.c - opening a checkpoint, whatever its container, and finding tensors in it by name. */
#include "weights/weights.h"

#include "base/alloc.h"
#include "weights/store.h"
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ARENA_BLOCK ((size_t)64 << 10)

/* ---- What the readers use ------------------------------------------------------------------- */

bool ut_shape_size(int n_dims, const int64_t *dim, ut_dtype dtype, int64_t *n_elements,
                   size_t *n_bytes)
{
    bool empty = false;
    for (int i = 0; i < n_dims; i++) {
        if (dim[i] < 0)
            return false;
        empty = empty || dim[i] == 0;
    }
    size_t n = 1, bytes = 0;
    for (int i = 0; i < n_dims && !empty; i++)
        if ((uint64_t)dim[i] > SIZE_MAX || !ut_size_mul(n, (size_t)dim[i], &n))
            return false;
    if (empty)
        n = 0;
    if (n > INT64_MAX || !ut_size_mul(n, ut_dtype_size(dtype), &bytes))
        return false;
    *n_elements = (int64_t)n;
    *n_bytes = bytes;
    return true;
}

void ut_shape_text(char *out, size_t size, int n_dims, const int64_t *dim)
{
    size_t at = 0;
    for (int i = 0; i <= n_dims; i++) {
        char part[32];
        if (i == n_dims)
            snprintf(part, sizeof part, "%s]", i == 0 ? "[" : "");
        else if (dim[i] < 0)
            snprintf(part, sizeof part, "%sany", i == 0 ? "[" : ", ");
        else
            snprintf(part, sizeof part, "%s%" PRId64, i == 0 ? "[" : ", ", dim[i]);
        const int n = snprintf(out + at, size - at, "%s", part);
        at += (size_t)n;
        if (at >= size)
            return;
    }
}

utter_status ut_weights_map(ut_weights *w, const char *path, const ut_map **out, ut_err *err)
{
    /* Pointers to maps are used only while the file is read, before the next one is mapped. */
    ut_map *grown = ut_realloc(w->map, w->n_maps + 1, sizeof *grown);
    if (!grown)
        return ut_fail(err, UTTER_ERR_NOMEM, "%s: file map", path);
    w->map = grown;
    const utter_status st = ut_map_open(&w->map[w->n_maps], path, err);
    if (st == UTTER_OK)
        *out = &w->map[w->n_maps++];
    return st;
}

/* A copy of the name in the arena, NULL for no memory. */
static char *copy_name(ut_weights *w, const char *name, size_t n_name)
{
    char *copy = ut_arena_alloc(w->arena, n_name + 1);
    if (copy)
        memcpy(copy, name, n_name);
    return copy;
}

static utter_status check_name(const char *file, const char *name, size_t n_name, ut_err *err)
{
    if (n_name == 0 || n_name >= UT_TENSOR_NAME_MAX)
        return ut_fail(err, UTTER_ERR_FORMAT, "%s: a tensor's name has %zu bytes, expected 1 to %d",
                       file, n_name, UT_TENSOR_NAME_MAX - 1);
    for (size_t i = 0; i < n_name; i++)
        if ((unsigned char)name[i] < 0x20 || name[i] == 0x7f)
            return ut_fail(err, UTTER_ERR_FORMAT,
                           "%s: tensor \"%.*s\": its name has a control character", file,
                           (int)n_name, name);
    return UTTER_OK;
}

utter_status ut_weights_add(ut_weights *w, const char *file, const char *name, size_t n_name,
                            const ut_view *v, ut_err *err)
{
    const utter_status st = check_name(file, name, n_name, err);
    if (st != UTTER_OK)
        return st;
    if (w->n_views == w->cap_views) {
        const size_t cap = w->cap_views > 0 ? 2 * w->cap_views : 256;
        const ut_view **grown = ut_realloc(w->view, cap, sizeof *grown);
        if (!grown)
            return ut_fail(err, UTTER_ERR_NOMEM, "%s: list of tensors", file);
        w->view = grown;
        w->cap_views = cap;
    }
    ut_view *view = ut_arena_alloc(w->arena, sizeof *view);
    char *copy = view ? copy_name(w, name, n_name) : NULL;
    if (!copy)
        return ut_fail(err, UTTER_ERR_NOMEM, "%s: list of tensors", file);
    *view = *v;
    view->name = copy;
    w->view[w->n_views++] = view;
    return UTTER_OK;
}

utter_status ut_weights_add_metadata(ut_weights *w, const char *key, const char *value, ut_err *err)
{
    if (ut_weights_metadata(w, key))
        return UTTER_OK;
    if (w->n_metadata == w->cap_metadata) {
        const size_t cap = w->cap_metadata > 0 ? 2 * w->cap_metadata : 16;
        ut_metadata *grown = ut_realloc(w->metadata, cap, sizeof *grown);
        if (!grown)
            return ut_fail(err, UTTER_ERR_NOMEM, "%s: metadata", w->path);
        w->metadata = grown;
        w->cap_metadata = cap;
    }
    ut_metadata m = {ut_arena_strdup(w->arena, key), ut_arena_strdup(w->arena, value)};
    if (!m.key || !m.value)
        return ut_fail(err, UTTER_ERR_NOMEM, "%s: metadata", w->path);
    w->metadata[w->n_metadata++] = m;
    return UTTER_OK;
}

/* ---- Opening -------------------------------------------------------------------------------- */

static bool ends_with(const char *s, const char *end)
{
    const size_t n = strlen(s), n_end = strlen(end);
    return n >= n_end && strcmp(s + n - n_end, end) == 0;
}

/* The path to open: the given one, or the one that exists among its other spellings. */
static utter_status resolve_path(char **out, const char *path, ut_err *err)
{
    static const char *const endings[] = {".pth", ".safetensors", ".safetensors.index.json"};
    enum { N_ENDINGS = sizeof endings / sizeof endings[0] };
    *out = NULL;
    size_t first = N_ENDINGS;
    for (size_t i = 0; i < N_ENDINGS && first == N_ENDINGS; i++)
        if (ends_with(path, endings[i]))
            first = i;
    if (first == N_ENDINGS || ut_file_exists(path)) {
        *out = ut_strdup(path);
        return *out ? UTTER_OK : ut_fail(err, UTTER_ERR_NOMEM, "%s: path", path);
    }
    const int n_stem = (int)(strlen(path) - strlen(endings[first]));
    for (size_t i = first + 1; i < N_ENDINGS; i++) {
        char *other = ut_asprintf("%.*s%s", n_stem, path, endings[i]);
        if (!other)
            return ut_fail(err, UTTER_ERR_NOMEM, "%s: path", path);
        if (ut_file_exists(other)) {
            *out = other;
            return UTTER_OK;
        }
        ut_free(other);
    }
    return ut_fail(err, UTTER_ERR_NOT_FOUND, "%s: no such file%s%s", path,
                   first < 2 ? ", nor with the ending .safetensors.index.json" : "",
                   first < 1 ? " or .safetensors" : "");
}

static utter_status load_unknown(const char *path, const ut_map *m, ut_err *err)
{
    static const char lfs[] = "version https://git-lfs";
    char found[3 * 8 + 1] = "";
    for (size_t i = 0; i < 8 && i < m->size; i++)
        snprintf(found + 3 * i, sizeof found - 3 * i, " %02x", m->data[i]);
    if (m->size == 0)
        return ut_fail(err, UTTER_ERR_FORMAT, "%s: the file is empty", path);
    if (m->size > sizeof lfs && memcmp(m->data, lfs, sizeof lfs - 1) == 0)
        return ut_fail(err, UTTER_ERR_FORMAT,
                       "%s: a Git LFS pointer, not the checkpoint itself; fetch it with git lfs",
                       path);
    if (m->size > 2 && m->data[0] == 0x80 && m->data[1] <= 5)
        return ut_fail(err, UTTER_ERR_FORMAT,
                       "%s: a bare pickle (torch before 1.6), expected a torch zip file or "
                       "safetensors; load and save it once with a newer torch",
                       path);
    return ut_fail(err, UTTER_ERR_FORMAT,
                   "%s: neither safetensors nor a torch zip file; it begins with%s", path, found);
}

static utter_status load(ut_weights *w, const ut_map *m, ut_err *err)
{
    if (ut_torch_is(m->data, m->size))
        return ut_torch_load(w, w->path, m, err);
    if (ut_safetensors_is(m->data, m->size))
        return ut_safetensors_load(w, w->path, m, NULL, err);
    if (m->size > 0 && m->data[0] == '{' && w->n_maps > 0)
        return ut_shards_load(w, w->path, err);
    return load_unknown(w->path, m, err);
}

static int compare_names(const void *a, const void *b)
{
    const ut_view *const *x = a, *const *y = b;
    return strcmp((*x)->name, (*y)->name);
}

/* The views in order of names, newly allocated; ERR_FORMAT when two have the same. */
static utter_status sort_views(const ut_weights *w, const ut_view **view, const ut_view ***out,
                               ut_err *err)
{
    const ut_view **sorted = ut_calloc(w->n_views, sizeof *sorted);
    if (!sorted)
        return ut_fail(err, UTTER_ERR_NOMEM, "%s: list of tensors", w->path);
    size_t n = 0;
    for (size_t i = 0; i < w->n_views; i++)
        if (view[i])
            sorted[n++] = view[i];
    qsort(sorted, n, sizeof *sorted, compare_names);
    for (size_t i = 1; i < n; i++) {
        if (strcmp(sorted[i - 1]->name, sorted[i]->name) == 0) {
            const utter_status st =
                ut_fail(err, UTTER_ERR_FORMAT, "%s: two tensors are called \"%s\"", w->path,
                        sorted[i]->name);
            ut_free(sorted);
            return st;
        }
    }
    *out = sorted;
    return UTTER_OK;
}

/* Takes over path, which may be NULL for no memory. `memory` NULL: map the file. */
static utter_status open_checkpoint(ut_weights **out, char *path, const ut_map *memory, ut_err *err)
{
    utter_status st = UTTER_OK;
    const ut_map *m = memory;
    ut_weights *w = ut_calloc(1, sizeof *w);
    if (!w || !path) {
        ut_free(path);
        st = ut_fail(err, UTTER_ERR_NOMEM, "checkpoint");
        goto done;
    }
    w->path = path;
    w->arena = ut_arena_new(ARENA_BLOCK);
    if (!w->arena) {
        st = ut_fail(err, UTTER_ERR_NOMEM, "%s: checkpoint", path);
        goto done;
    }
    if (!memory)
        st = ut_weights_map(w, w->path, &m, err);
    if (st == UTTER_OK)
        st = load(w, m, err);
    if (st == UTTER_OK)
        st = sort_views(w, w->view, &w->sorted, err);
    if (st != UTTER_OK)
        goto done;
    *out = w;
    w = NULL;
done:
    ut_weights_close(w);
    return st;
}

utter_status ut_weights_open(ut_weights **out, const char *path, ut_err *err)
{
    char *resolved = NULL;
    *out = NULL;
    const utter_status st = resolve_path(&resolved, path, err);
    return st == UTTER_OK ? open_checkpoint(out, resolved, NULL, err) : st;
}

utter_status ut_weights_open_memory(ut_weights **out, const char *what, const void *data,
                                    size_t size, ut_err *err)
{
    *out = NULL;
    return open_checkpoint(out, ut_strdup(what), &(ut_map){.data = data, .size = size}, err);
}

void ut_weights_close(ut_weights *w)
{
    if (!w)
        return;
    for (size_t i = 0; i < w->n_maps; i++)
        ut_map_close(&w->map[i]);
    ut_free(w->map);
    ut_free(w->view);
    ut_free(w->sorted);
    ut_free(w->metadata);
    ut_arena_free(w->arena);
    ut_free(w->path);
    ut_free(w);
}

/* ---- Looking up ----------------------------------------------------------------------------- */

const char *ut_weights_path(const ut_weights *w)
{
    return w->path;
}

size_t ut_weights_count(const ut_weights *w)
{
    return w->n_views;
}

const ut_view *ut_weights_at(const ut_weights *w, size_t i)
{
    return w->view[i];
}

const ut_view *ut_weights_find(const ut_weights *w, const char *name)
{
    const ut_view key = {.name = name}, *p = &key;
    const ut_view **found =
        w->n_views > 0 ? bsearch(&p, w->sorted, w->n_views, sizeof p, compare_names) : NULL;
    return found ? *found : NULL;
}

const char *ut_weights_metadata(const ut_weights *w, const char *key)
{
    for (size_t i = 0; i < w->n_metadata; i++)
        if (strcmp(w->metadata[i].key, key) == 0)
            return w->metadata[i].value;
    return NULL;
}

utter_status ut_weights_get(const ut_weights *w, const char *name, int n_dims, const int64_t *dim,
                            const ut_view **out, ut_err *err)
{
    *out = NULL;
    const ut_view *v = ut_weights_find(w, name);
    if (!v)
        return ut_fail(err, UTTER_ERR_MODEL, "%s: there is no tensor \"%s\"", w->path, name);
    bool fits = n_dims < 0 || v->n_dims == n_dims;
    for (int i = 0; i < n_dims && fits; i++)
        fits = dim[i] < 0 ? v->dim[i] >= 1 : v->dim[i] == dim[i];
    if (!fits) {
        char found[160], expected[160];
        ut_shape_text(found, sizeof found, v->n_dims, v->dim);
        ut_shape_text(expected, sizeof expected, n_dims, dim);
        return ut_fail(err, UTTER_ERR_MODEL, "%s: tensor \"%s\" has shape %s, expected %s", w->path,
                       name, found, expected);
    }
    if (v->dtype != UT_F32 && v->dtype != UT_BF16 && v->dtype != UT_F16)
        return ut_fail(err, UTTER_ERR_MODEL,
                       "%s: tensor \"%s\" has type %s, expected f32, bf16 or f16", w->path, name,
                       ut_dtype_name(v->dtype));
    *out = v;
    return UTTER_OK;
}

/* ---- Renaming ------------------------------------------------------------------------------- */

utter_status ut_weights_rename(ut_weights *w, ut_weights_rename_fn *rename, void *user, ut_err *err)
{
    utter_status st = UTTER_OK;
    const ut_view **sorted = NULL;
    const ut_view **view = ut_calloc(w->n_views, sizeof *view); /* NULL: dropped */
    if (!view)
        return ut_fail(err, UTTER_ERR_NOMEM, "%s: list of tensors", w->path);
    for (size_t i = 0; i < w->n_views; i++) {
        char name[UT_TENSOR_NAME_MAX] = "";
        if (!rename(w->view[i]->name, name, sizeof name, user))
            continue;
        if (strcmp(name, w->view[i]->name) == 0) {
            view[i] = w->view[i];
            continue;
        }
        st = check_name(w->path, name, strlen(name), err);
        if (st != UTTER_OK)
            goto done;
        ut_view *renamed = ut_arena_alloc(w->arena, sizeof *renamed);
        char *copy = renamed ? copy_name(w, name, strlen(name)) : NULL;
        if (!copy) {
            st = ut_fail(err, UTTER_ERR_NOMEM, "%s: list of tensors", w->path);
            goto done;
        }
        *renamed = *w->view[i];
        renamed->name = copy;
        view[i] = renamed;
    }
    st = sort_views(w, view, &sorted, err);
    if (st != UTTER_OK)
        goto done;
    size_t n = 0;
    for (size_t i = 0; i < w->n_views; i++)
        if (view[i])
            view[n++] = view[i];
    ut_free(w->view);
    ut_free(w->sorted);
    w->view = view;
    w->sorted = sorted;
    w->cap_views = w->n_views;
    w->n_views = n;
    view = NULL;
done:
    ut_free(view);
    return st;
}

void ut_weights_release_pages(const ut_weights *w)
{
    for (size_t i = 0; i < w->n_maps; i++)
        ut_map_release(w->map[i].data, w->map[i].size);
}
