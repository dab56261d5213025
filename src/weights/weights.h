/* weights.h - read-only tensors by name, whatever the container: safetensors (one file or shards
 * with an index) or torch .pth (zip + pickle, interpreted, never executed). Data stays in the
 * memory map; nothing is copied but tensors whose strides are not row-major. */
#ifndef UT_WEIGHTS_WEIGHTS_H
#define UT_WEIGHTS_WEIGHTS_H

#include "base/dtype.h"
#include "base/err.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define UT_MAX_DIMS 8

typedef struct ut_weights ut_weights;

/* A tensor as stored: contiguous, row-major, little-endian; data borrowed from the ut_weights and
 * not necessarily aligned to its element size. */
typedef struct ut_view {
    const char *name;
    const void *data;
    ut_dtype dtype;
    int n_dims;
    int64_t dim[UT_MAX_DIMS];
    int64_t n_elements;
} ut_view;

/* Open one checkpoint file by path. The container is recognised by content, not by name. If path
 * ends in ".pth" and does not exist, the same name with ".safetensors", then with
 * ".safetensors.index.json" (shards) is tried; for a path in ".safetensors" the latter. Of a torch
 * file the tensors of the top dict are taken, or of its member "state_dict" if that is a dict; of
 * shards those that the index lists. Errors name the file and, where one is at fault,
 * the tensor. *out is the caller's: ut_weights_close. */
utter_status ut_weights_open(ut_weights **out, const char *path, ut_err *err);
/* The same for a file in memory, which must stay as it is until the close; `what` names it in
 * errors. An index of shards is refused. */
utter_status ut_weights_open_memory(ut_weights **out, const char *what, const void *data,
                                    size_t size, ut_err *err);
void ut_weights_close(ut_weights *w); /* NULL is fine; all views become invalid */

const char *ut_weights_path(const ut_weights *w); /* the file that was opened, for messages */
size_t ut_weights_count(const ut_weights *w);
const ut_view *ut_weights_at(const ut_weights *w, size_t i);           /* i < count, file order */
const ut_view *ut_weights_find(const ut_weights *w, const char *name); /* NULL: not there */
/* String metadata (safetensors __metadata__); NULL: not there. */
const char *ut_weights_metadata(const ut_weights *w, const char *key);

/* Rename every tensor: rename(old, new, size, user) writes the new name (0-terminated) and returns
 * true, or returns false to drop the tensor. For families whose files carry prefixes. A name that
 * ends up twice is an error. Views found before stay valid, with old names. */
typedef bool ut_weights_rename_fn(const char *old_name, char *new_name, size_t size, void *user);
utter_status ut_weights_rename(ut_weights *w, ut_weights_rename_fn *rename, void *user,
                               ut_err *err);

/* Find a tensor that must exist with exactly these dimensions (-1: any extent >= 1) and be f32,
 * bf16 or f16, the types plans take; ERR_MODEL otherwise. The error names file, tensor, found and
 * expected shape. n_dims -1: any shape. */
utter_status ut_weights_get(const ut_weights *w, const char *name, int n_dims, const int64_t *dim,
                            const ut_view **out, ut_err *err);

/* Tell the system that the mapped pages have been copied elsewhere. A hint. */
void ut_weights_release_pages(const ut_weights *w);

/* Elements [first, first + n) of v as f32 in dst, whatever their type (bool: 0 and 1). */
void ut_view_to_f32(const ut_view *v, int64_t first, int64_t n, float *dst);

#endif
