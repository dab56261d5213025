/* fuzz_safetensors.c - any bytes as a checkpoint file: refused with a message, or every tensor lies
 * inside. The corpus has safetensors and torch archives; the container is found by content. */
#include "base/dtype.h"
#include "weights/weights.h"
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    ut_weights *w;
    ut_err err = {0};
    if (ut_weights_open_memory(&w, "f", data, size, &err) != UTTER_OK) {
        if (w || err.msg[0] == 0)
            abort();
        return 0;
    }
    volatile uint8_t sum = 0;
    for (size_t i = 0; i < ut_weights_count(w); i++) {
        const ut_view *v = ut_weights_at(w, i);
        const uint8_t *bytes = v->data;
        const size_t n = (size_t)v->n_elements * ut_dtype_size(v->dtype);
        if (n > 0)
            sum = (uint8_t)(sum + bytes[0] + bytes[n / 2] + bytes[n - 1]);
        if (ut_weights_find(w, v->name) != v)
            abort();
    }
    ut_weights_close(w);
    return 0;
}
