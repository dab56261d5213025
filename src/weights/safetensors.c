/* safetensors.c - the container: u64 little-endian header size, a JSON header { name: { dtype,
 * shape, data_offsets: [begin, end) }, "__metadata__": { string: string } }, then the data, which
 * the tensors must tile without gaps or overlaps. And the index of a checkpoint in shards. */
#include "base/alloc.h"
#include "base/json.h"
#include "weights/store.h"
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define HEADER_MAX ((uint64_t)64 << 20)
#define MAX_SHARDS 1024

static uint64_t read_u64(const uint8_t *p)
{
    uint64_t v = 0;
    for (int i = 7; i >= 0; i--)
        v = v << 8 | p[i];
    return v;
}

bool ut_safetensors_is(const uint8_t *data, size_t size)
{
    return size > 8 && data[8] == '{';
}

/* ---- One tensor ----------------------------------------------------------------------------- */

static utter_status parse_dtype(ut_json_value v, ut_dtype *out, ut_err *err)
{
    static const struct {
        const char *name;
        ut_dtype dtype;
    } types[] = {{"F32", UT_F32}, {"BF16", UT_BF16}, {"F16", UT_F16},
                 {"F64", UT_F64}, {"I64", UT_I64},   {"I32", UT_I32},
                 {"U8", UT_U8},   {"I8", UT_I8},     {"BOOL", UT_BOOL}};
    const char *name = NULL;
    const utter_status st = ut_json_get_string(v, &name, err);
    if (st != UTTER_OK)
        return st;
    for (size_t i = 0; i < sizeof types / sizeof types[0]; i++) {
        if (strcmp(types[i].name, name) == 0) {
            *out = types[i].dtype;
            return UTTER_OK;
        }
    }
    return ut_json_fail(
        v, err, "is \"%.32s\", expected F32, BF16, F16, F64, I64, I32, U8, I8 or BOOL", name);
}

static utter_status parse_shape(ut_json_value v, ut_view *view, ut_err *err)
{
    utter_status st = ut_json_get_array(v, err);
    if (st != UTTER_OK)
        return st;
    const size_t n = ut_json_size(v);
    if (n > UT_MAX_DIMS)
        return ut_json_fail(v, err, "has %zu dimensions, expected at most %d", n, UT_MAX_DIMS);
    view->n_dims = (int)n;
    for (size_t i = 0; i < n && st == UTTER_OK; i++)
        st = ut_json_get_int(ut_json_item(v, i), 0, INT64_MAX, &view->dim[i], err);
    return st;
}

/* Where a tensor's bytes are, to check that all of them tile the data. */
typedef struct extent {
    uint64_t begin, end;
    const char *name;
} extent;

static utter_status parse_tensor(ut_json_value t, const uint8_t *data, uint64_t n_data,
                                 ut_view *view, extent *e, ut_err *err)
{
    utter_status st = parse_dtype(ut_json_member(t, "dtype"), &view->dtype, err);
    if (st != UTTER_OK)
        return st;
    const ut_json_value shape = ut_json_member(t, "shape");
    st = parse_shape(shape, view, err);
    if (st != UTTER_OK)
        return st;
    size_t n_bytes;
    if (!ut_shape_size(view->n_dims, view->dim, view->dtype, &view->n_elements, &n_bytes))
        return ut_json_fail(shape, err, "is a shape too large for this machine");

    const ut_json_value offsets = ut_json_member(t, "data_offsets");
    int64_t begin = 0, end = 0;
    st = ut_json_get_array(offsets, err);
    if (st == UTTER_OK)
        st = ut_json_get_int(ut_json_item(offsets, 0), 0, INT64_MAX, &begin, err);
    if (st == UTTER_OK)
        st = ut_json_get_int(ut_json_item(offsets, 1), 0, INT64_MAX, &end, err);
    if (st != UTTER_OK)
        return st;
    if (ut_json_size(offsets) != 2)
        return ut_json_fail(offsets, err, "has %zu items, expected 2", ut_json_size(offsets));
    if (begin > end || (uint64_t)end > n_data)
        return ut_json_fail(offsets, err,
                            "is [%" PRId64 ", %" PRId64 "], expected a range within %" PRIu64
                            " bytes of data",
                            begin, end, n_data);
    if ((uint64_t)(end - begin) != n_bytes) {
        char text[160];
        ut_shape_text(text, sizeof text, view->n_dims, view->dim);
        return ut_json_fail(offsets, err, "spans %" PRId64 " bytes, expected %zu for %s %s",
                            end - begin, n_bytes, ut_dtype_name(view->dtype), text);
    }
    view->data = data + begin;
    *e = (extent){(uint64_t)begin, (uint64_t)end, NULL};
    return UTTER_OK;
}

/* ---- All tensors ---------------------------------------------------------------------------- */

static int compare_extents(const void *a, const void *b)
{
    const extent *x = a, *y = b;
    if (x->begin != y->begin)
        return x->begin < y->begin ? -1 : 1;
    return (x->end > y->end) - (x->end < y->end);
}

static utter_status check_tiling(const char *file, extent *e, size_t n, uint64_t n_data,
                                 ut_err *err)
{
    qsort(e, n, sizeof *e, compare_extents);
    uint64_t at = 0;
    for (size_t i = 0; i < n; i++) {
        if (e[i].begin != at)
            return ut_fail(
                err, UTTER_ERR_FORMAT,
                "%s: tensor \"%s\": its data begins at byte %" PRIu64 ", %s %" PRIu64, file,
                e[i].name, e[i].begin,
                e[i].begin < at ? "inside another tensor that ends at" : "after a gap from", at);
        at = e[i].end;
    }
    if (at != n_data)
        return ut_fail(err, UTTER_ERR_FORMAT,
                       "%s: %" PRIu64 " bytes of data, but the tensors cover %" PRIu64, file,
                       n_data, at);
    return UTTER_OK;
}

static utter_status add_metadata(ut_weights *w, ut_json_value object, ut_err *err)
{
    utter_status st = ut_json_get_object(object, err);
    ut_json_iter it = {0};
    while (st == UTTER_OK && ut_json_next(object, &it)) {
        const char *value = NULL;
        st = ut_json_get_string(it.value, &value, err);
        if (st == UTTER_OK)
            st = ut_weights_add_metadata(w, it.key, value, err);
    }
    return st;
}

static utter_status add_tensors(ut_weights *w, const char *file, ut_json_value header,
                                const uint8_t *data, uint64_t n_data,
                                const ut_tensor_filter *filter, ut_err *err)
{
    utter_status st = UTTER_OK;
    extent *extents = ut_calloc(ut_json_size(header), sizeof *extents);
    if (!extents)
        return ut_fail(err, UTTER_ERR_NOMEM, "%s: list of tensors", file);
    size_t n = 0;
    ut_json_iter it = {0};
    while (st == UTTER_OK && ut_json_next(header, &it)) {
        if (strcmp(it.key, "__metadata__") == 0) {
            st = add_metadata(w, it.value, err);
            continue;
        }
        ut_view view = {0};
        st = parse_tensor(it.value, data, n_data, &view, &extents[n], err);
        if (st != UTTER_OK)
            break;
        extents[n++].name = it.key;
        if (!filter || filter->wanted(it.key, filter->user))
            st = ut_weights_add(w, file, it.key, strlen(it.key), &view, err);
    }
    if (st == UTTER_OK)
        st = check_tiling(file, extents, n, n_data, err);
    ut_free(extents);
    return st;
}

utter_status ut_safetensors_load(ut_weights *w, const char *file, const ut_map *map,
                                 const ut_tensor_filter *filter, ut_err *err)
{
    if (map->size < 8)
        return ut_fail(err, UTTER_ERR_FORMAT, "%s: %zu bytes are no safetensors file", file,
                       map->size);
    const uint64_t n_header = read_u64(map->data), n_rest = map->size - 8;
    if (n_header > n_rest || n_header > HEADER_MAX)
        return ut_fail(err, UTTER_ERR_FORMAT,
                       "%s: header of %" PRIu64 " bytes, expected at most %" PRIu64, file, n_header,
                       n_rest < HEADER_MAX ? n_rest : HEADER_MAX);
    ut_json *doc = NULL;
    utter_status st = ut_json_parse(&doc, file, map->data + 8, (size_t)n_header, err);
    if (st == UTTER_OK) {
        const ut_json_value header = ut_json_root(doc);
        st = ut_json_get_object(header, err);
        if (st == UTTER_OK)
            st = add_tensors(w, file, header, map->data + 8 + n_header, n_rest - n_header, filter,
                             err);
    }
    ut_json_free(doc);
    return st;
}

/* ---- Shards --------------------------------------------------------------------------------- */

typedef struct shard {
    ut_json_value weight_map; /* name -> file name of its shard */
    const char *file_name;
} shard;

static bool is_of_shard(const char *name, void *user)
{
    const shard *s = user;
    const char *file_name = NULL;
    return ut_json_get_string(ut_json_member(s->weight_map, name), &file_name, NULL) == UTTER_OK &&
           strcmp(file_name, s->file_name) == 0;
}

/* Load the shard that holds `name` unless it was loaded for an earlier tensor. Its file must lie
 * beside the index. */
static utter_status load_shard(ut_weights *w, const char *index_path, shard *s,
                               const char **file_names, size_t *n_files, ut_err *err)
{
    for (size_t i = 0; i < *n_files; i++)
        if (strcmp(file_names[i], s->file_name) == 0)
            return UTTER_OK;
    if (strpbrk(s->file_name, "/\\:") || s->file_name[0] == 0 || s->file_name[0] == '.')
        return ut_fail(err, UTTER_ERR_FORMAT,
                       "%s: shard \"%.100s\": expected the name of a file beside the index",
                       index_path, s->file_name);
    if (*n_files == MAX_SHARDS)
        return ut_fail(err, UTTER_ERR_FORMAT, "%s: more than %d shards", index_path, MAX_SHARDS);
    file_names[(*n_files)++] = s->file_name;

    size_t n_dir = strlen(index_path);
    while (n_dir > 0 && index_path[n_dir - 1] != '/' && index_path[n_dir - 1] != '\\')
        n_dir--;
    char *path = ut_asprintf("%.*s%s", (int)n_dir, index_path, s->file_name);
    if (!path)
        return ut_fail(err, UTTER_ERR_NOMEM, "%s: path of a shard", index_path);
    const ut_map *map = NULL;
    utter_status st = ut_weights_map(w, path, &map, err);
    if (st == UTTER_OK)
        st = ut_safetensors_load(w, path, map, &(ut_tensor_filter){is_of_shard, s}, err);
    ut_free(path);
    return st;
}

utter_status ut_shards_load(ut_weights *w, const char *index_path, ut_err *err)
{
    ut_json *doc = NULL;
    const char **file_names = ut_calloc(MAX_SHARDS, sizeof *file_names);
    if (!file_names)
        return ut_fail(err, UTTER_ERR_NOMEM, "%s: list of shards", index_path);
    size_t n_files = 0;
    utter_status st = ut_json_read(&doc, index_path, HEADER_MAX, err);
    if (st != UTTER_OK)
        goto done;
    shard s = {.weight_map = ut_json_member(ut_json_root(doc), "weight_map")};
    st = ut_json_get_object(s.weight_map, err);
    ut_json_iter it = {0};
    while (st == UTTER_OK && ut_json_next(s.weight_map, &it)) {
        st = ut_json_get_string(it.value, &s.file_name, err);
        if (st == UTTER_OK)
            st = load_shard(w, index_path, &s, file_names, &n_files, err);
    }
    /* Names are unique in the index and in each shard, so equal counts mean equal sets. */
    if (st == UTTER_OK && w->n_views != ut_json_size(s.weight_map))
        st = ut_fail(err, UTTER_ERR_FORMAT,
                     "%s: the index lists %zu tensors, but its shards hold %zu of them", index_path,
                     ut_json_size(s.weight_map), w->n_views);
done:
    ut_json_free(doc);
    ut_free(file_names);
    return st;
}
