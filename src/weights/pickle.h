/* pickle.h - the tensors that a torch pickle describes, without running it: a machine that knows
 * only the opcodes and the few callables that dicts of tensors are made of. */
#ifndef UT_WEIGHTS_PICKLE_H
#define UT_WEIGHTS_PICKLE_H

#include "base/arena.h"
#include "base/dtype.h"
#include "base/err.h"
#include "weights/weights.h"
#include <stddef.h>
#include <stdint.h>

#define UT_PICKLE_MAX_BYTES ((size_t)16 << 20)

typedef struct ut_pickle_storage {
    const char *key; /* [n_key] file name of the data, inside the pickle */
    size_t n_key;
    ut_dtype dtype;
    int64_t n_elements;
} ut_pickle_storage;

/* As the pickle says; nothing but the number of dimensions was checked. */
typedef struct ut_pickle_tensor {
    const ut_pickle_storage *storage;
    int64_t offset; /* in elements */
    int n_dims;
    int64_t dim[UT_MAX_DIMS], stride[UT_MAX_DIMS];
} ut_pickle_tensor;

typedef enum ut_pickle_kind {
    UT_PICKLE_OPAQUE, /* anything that no tensor depends on: None, floats, lists, metadata */
    UT_PICKLE_INT,    /* booleans too */
    UT_PICKLE_STRING,
    UT_PICKLE_TUPLE,
    UT_PICKLE_DICT,
    UT_PICKLE_STORAGE,
    UT_PICKLE_TENSOR,
    UT_PICKLE_CALLABLE,
    UT_PICKLE_MARK /* never leaves the machine */
} ut_pickle_kind;

typedef struct ut_pickle_value {
    ut_pickle_kind kind;
    uint32_t n; /* bytes of a string, items of a tuple */
    union {
        int64_t integer;
        const char *string;
        const struct ut_pickle_value *item;
        struct ut_pickle_dict *dict;
        const ut_pickle_storage *storage;
        const ut_pickle_tensor *tensor;
        const struct ut_pickle_callable *callable;
    } u;
} ut_pickle_value;

/* Pairs in the order they were set; a key may occur twice. */
typedef struct ut_pickle_dict {
    size_t n, cap;
    struct ut_pickle_pair {
        ut_pickle_value key, value;
    } * pair;
} ut_pickle_dict;

/* Interpret data[0..n). The result, which must be a dict, lives in the arena and borrows strings
 * from data. Memory and time are bounded by a multiple of n. Errors (ERR_FORMAT) name the byte
 * offset and the opcode or callable that is not of a dict of tensors; `file` is for messages. */
utter_status ut_pickle_read(const ut_pickle_dict **out, ut_arena *arena, const char *file,
                            const uint8_t *data, size_t n, ut_err *err);

#endif
