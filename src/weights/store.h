/* store.h - inside of ut_weights, for the container readers only: where they put what they find. */
#ifndef UT_WEIGHTS_STORE_H
#define UT_WEIGHTS_STORE_H

#include "base/arena.h"
#include "base/os.h"
#include "weights/weights.h"

#define UT_TENSOR_NAME_MAX 1024 /* bytes, the final 0 included */

typedef struct ut_metadata {
    const char *key, *value;
} ut_metadata;

struct ut_weights {
    char *path;  /* of the file that was opened */
    ut_map *map; /* [n_maps]: one, or one per shard */
    size_t n_maps;
    ut_arena *arena;      /* names, views, metadata, tensors whose strides are not row-major */
    const ut_view **view; /* [n_views] file order */
    size_t n_views, cap_views;
    const ut_view **sorted; /* [n_views] by name; set once all tensors are in */
    ut_metadata *metadata;
    size_t n_metadata, cap_metadata;
};

/* Number of elements of a shape, and of bytes; false when a dimension is negative or a product
 * does not fit. */
bool ut_shape_size(int n_dims, const int64_t *dim, ut_dtype dtype, int64_t *n_elements,
                   size_t *n_bytes);
/* "[3, 1024]" for messages; -1 as "any". */
void ut_shape_text(char *out, size_t size, int n_dims, const int64_t *dim);

/* Map a file and keep the map until w is closed. */
utter_status ut_weights_map(ut_weights *w, const char *path, const ut_map **out, ut_err *err);
/* Take a tensor. name[0..n_name) is copied and checked (1..1023 bytes, no control characters);
 * data stays where it is. `file` is for messages. */
utter_status ut_weights_add(ut_weights *w, const char *file, const char *name, size_t n_name,
                            const ut_view *v, ut_err *err);
/* Take a metadata string; the first of a key stays. */
utter_status ut_weights_add_metadata(ut_weights *w, const char *key, const char *value,
                                     ut_err *err);

/* The readers. Each adds every tensor of a mapped file, or those that `wanted` accepts. */
typedef struct ut_tensor_filter {
    bool (*wanted)(const char *name, void *user);
    void *user;
} ut_tensor_filter;
bool ut_safetensors_is(const uint8_t *data, size_t size);
utter_status ut_safetensors_load(ut_weights *w, const char *file, const ut_map *map,
                                 const ut_tensor_filter *filter, ut_err *err);
utter_status ut_shards_load(ut_weights *w, const char *index_path, ut_err *err);
bool ut_torch_is(const uint8_t *data, size_t size);
utter_status ut_torch_load(ut_weights *w, const char *file, const ut_map *map, ut_err *err);

#endif
