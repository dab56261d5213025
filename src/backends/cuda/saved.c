/* saved.c - rows of states put aside on the device. Their copies run on the streams of the states
 * that they come from and go to; one event puts the uses of a block in a row, so that the host
 * never waits but to free it. */
#include "backends/cuda/exec.h"
#include "base/alloc.h"

#define ALIGN 256u

typedef struct cu_saved {
    ut_saved head;
    cu_ptr memory; /* the rows of one tensor after those of another, each at a multiple of ALIGN */
    cu_event in_use; /* after the last copy so far */
} cu_saved;

static size_t saved_bytes(const ut_saved *x, const cu_state *s, const ut_state_def *d)
{
    return cu_rows_bytes(s, d, x->n_rows < d->rows ? x->n_rows : d->rows);
}

static size_t aligned(size_t bytes)
{
    return (bytes + ALIGN - 1) / ALIGN * ALIGN;
}

/* All copies, into the block or out of it, then the event. */
static cu_result copy_rows(cu_saved *x, const cu_state *s, int slot, bool in)
{
    const cu_driver *d = &((const cu_backend *)x->head.backend)->d;
    cu_ptr at = x->memory;
    cu_result r = CU_OK;
    for (int i = x->head.first; i < x->head.first + x->head.n && r == CU_OK; i++) {
        const size_t bytes = saved_bytes(&x->head, s, &s->head.set->def[i]);
        const cu_ptr rows = cu_state_rows(s, i, slot, 0);
        r = d->copy(in ? at : rows, in ? rows : at, bytes, s->stream);
        at += aligned(bytes);
    }
    return r == CU_OK ? d->event_record(x->in_use, s->stream) : r;
}

utter_status cu_save(ut_state *state, int slot, int first, int n, int32_t n_rows, ut_saved **out,
                     ut_err *err)
{
    cu_backend *b = (cu_backend *)state->backend;
    *out = NULL;
    cu_saved *x = ut_calloc(1, sizeof *x);
    if (!x)
        return ut_fail(err, UTTER_ERR_NOMEM, "no memory to save states");
    x->head = (ut_saved){&b->head, first, n, n_rows, 0};
    for (int i = first; i < first + n; i++)
        x->head.bytes +=
            aligned(saved_bytes(&x->head, (const cu_state *)state, &state->set->def[i]));
    cu_enter(b);
    utter_status st = cu_alloc(b, x->head.bytes, &x->memory, err, "saving states");
    if (st == UTTER_OK) {
        cu_result r = b->d.event_new(&x->in_use, CU_EVENT_NO_TIMING);
        if (r == CU_OK)
            r = copy_rows(x, (const cu_state *)state, slot, true);
        if (r != CU_OK)
            st = cu_fail(b, r, "saving states", err);
    }
    if (st == UTTER_OK)
        *out = &x->head;
    else
        cu_saved_free(&x->head);
    return st;
}

void cu_load(ut_state *state, int slot, ut_saved *saved)
{
    cu_backend *b = (cu_backend *)state->backend;
    cu_saved *x = (cu_saved *)saved;
    const cu_state *s = (const cu_state *)state;
    cu_enter(b);
    cu_result r = b->d.stream_wait(s->stream, x->in_use, 0);
    if (r == CU_OK)
        r = copy_rows(x, s, slot, false);
    cu_note(b, r, "loading states");
}

void cu_saved_free(ut_saved *saved)
{
    if (!saved)
        return;
    cu_backend *b = (cu_backend *)saved->backend;
    cu_saved *x = (cu_saved *)saved;
    cu_enter(b);
    if (x->in_use) {
        cu_wait(b, x->in_use, "freeing saved states", NULL);
        b->d.event_free(x->in_use);
    }
    cu_free(b, x->memory);
    ut_free(x);
}
