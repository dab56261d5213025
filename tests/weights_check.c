/* weights_check.c - see weights_check.h. */
#include "weights_check.h"

#include "base/alloc.h"
#include "base/dtype.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

/* Read all that views give access to. */
static void read_all(const ut_weights *w)
{
    volatile uint8_t sum = 0;
    for (size_t i = 0; i < ut_weights_count(w); i++) {
        const ut_view *v = ut_weights_at(w, i);
        int64_t n = 1;
        assert_true(v->n_dims >= 0 && v->n_dims <= UT_MAX_DIMS);
        for (int d = 0; d < v->n_dims; d++)
            n *= v->dim[d];
        assert_int_equal(n, v->n_elements);
        for (size_t b = 0; b < (size_t)n * ut_dtype_size(v->dtype); b++)
            sum = (uint8_t)(sum + ((const uint8_t *)v->data)[b]);
        assert_ptr_equal(ut_weights_find(w, v->name), v);
    }
}

opened open_bytes(const void *data, size_t n)
{
    opened o = {.copy = malloc(n > 0 ? n : 1)};
    memcpy(o.copy, data, n);
    const utter_status st = ut_weights_open_memory(&o.w, "f", o.copy, n, &o.err);
    assert_true((st == UTTER_OK) == (o.w != NULL));
    assert_int_equal(st, o.err.status);
    assert_true((st == UTTER_OK) == (o.err.msg[0] == 0));
    if (o.w)
        read_all(o.w);
    return o;
}

void close_bytes(opened *o)
{
    ut_weights_close(o->w);
    free(o->copy);
}

void expect_refusal(const void *data, size_t n, const char *text)
{
    opened o = open_bytes(data, n);
    assert_null(o.w);
    if (!strstr(o.err.msg, text))
        fail_msg("expected \"%s\", got \"%s\"", text, o.err.msg);
    close_bytes(&o);
}

void corrupt_everything(const uint8_t *data, size_t n, size_t begin, size_t end)
{
    for (size_t i = 0; i < n; i++) {
        opened o = open_bytes(data, i);
        if (o.w)
            fail_msg("the first %zu of %zu bytes were accepted", i, n);
        close_bytes(&o);
    }
    uint8_t *copy = malloc(n);
    memcpy(copy, data, n);
    for (size_t i = begin; i < end; i++) {
        for (int k = 0; k < 12; k++) {
            static const uint8_t values[] = {0x00, 0xff, 0x7f, '.'};
            copy[i] = k < 8 ? (uint8_t)(data[i] ^ 1u << k) : values[k - 8];
            opened o = open_bytes(copy, n);
            close_bytes(&o);
        }
        copy[i] = data[i];
    }
    free(copy);
}

void fail_every_allocation(const uint8_t *data, size_t n)
{
    utter_status st = UTTER_ERR_NOMEM;
    for (uint64_t i = 1; st != UTTER_OK; i++) {
        ut_weights *w;
        ut_err err = {0};
        assert_true(i < 1000);
        ut_alloc_fail_at(i);
        st = ut_weights_open_memory(&w, "f", data, n, &err);
        ut_alloc_fail_at(0);
        assert_true((st == UTTER_OK) == (w != NULL));
        assert_true(st == UTTER_OK || st == UTTER_ERR_NOMEM);
        ut_weights_close(w);
    }
}
