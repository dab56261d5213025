/* fuzz_pickle.c - any bytes as the data.pkl of a torch checkpoint: refused with a message, or a
 * dict whose names lie inside the bytes and whose memory is bounded by their number. */
#include "weights/pickle.h"
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { BLOCK = 4096, BYTES_PER_BYTE = 512 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const ut_pickle_dict nothing;
    const ut_pickle_dict *d;
    ut_err err = {0};
    ut_arena *arena = ut_arena_new(BLOCK);
    if (!arena)
        return 0;
    if (ut_pickle_read(&d, arena, "f", data, size, &err) != UTTER_OK) {
        if (d || err.msg[0] == 0)
            abort();
        d = &nothing;
    }
    volatile uint8_t sum = 0;
    for (size_t i = 0; i < d->n; i++) {
        const ut_pickle_value key = d->pair[i].key, value = d->pair[i].value;
        for (uint32_t k = 0; key.kind == UT_PICKLE_STRING && k < key.n; k++)
            sum = (uint8_t)(sum + (uint8_t)key.u.string[k]);
        if (value.kind == UT_PICKLE_TENSOR) {
            const ut_pickle_tensor *t = value.u.tensor;
            if (t->n_dims < 0 || t->n_dims > UT_MAX_DIMS)
                abort();
            for (size_t k = 0; k < t->storage->n_key; k++)
                sum = (uint8_t)(sum + (uint8_t)t->storage->key[k]);
        }
        if (key.kind == UT_PICKLE_MARK || value.kind == UT_PICKLE_MARK)
            abort();
    }
    if (ut_arena_bytes(arena) > 4 * BLOCK + size * BYTES_PER_BYTE)
        abort();
    ut_arena_free(arena);
    return 0;
}
