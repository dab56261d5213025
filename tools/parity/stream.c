/* stream.c - running a codec's plan over a signal in chunks; see stream.h. */
#include "parity/stream.h"
#include "base/alloc.h"
#include <stdio.h>
#include <string.h>

void stream_tape(stream *s, const char *tap)
{
    const ut_tid t = ut_plan_find(s->exec->plan, tap);
    if (t == UT_NONE || s->n_tapes == MAX_TAPES)
        return;
    const ut_tensor *x = &s->exec->plan->tensors[t];
    tape *y = &s->tapes[s->n_tapes++];
    *y = (tape){.tap = tap, .cols = x->cols, .rows_per_frame = x->rows_per_t};
    y->rows = y->rows_per_frame * s->n_frames;
    y->data = need_memory((size_t)(y->rows * y->cols), sizeof *y->data);
}

tape *stream_find(stream *s, const char *tap)
{
    for (int i = 0; i < s->n_tapes; i++)
        if (strcmp(s->tapes[i].tap, tap) == 0)
            return &s->tapes[i];
    return NULL;
}

void stream_free(stream *s)
{
    for (int i = 0; i < s->n_tapes; i++)
        ut_free(s->tapes[i].data);
    s->n_tapes = 0;
}

utter_status stream_run(stream *s, int32_t chunk)
{
    parity *p = s->p;
    utter_status st = UTTER_OK;
    const ut_tid count = ut_plan_find(s->exec->plan, "n_samples");
    const int64_t hop = (int64_t)(s->frame_bytes / sizeof(float));
    p->ops->state_reset(s->state, 0);
    for (int32_t f = 0; st == UTTER_OK && f < s->n_frames; f += chunk) {
        const int32_t n = s->n_frames - f < chunk ? s->n_frames - f : chunk;
        run_input(p, s->exec, s->input, n, s->data + (size_t)f * s->frame_bytes,
                  (size_t)n * s->frame_bytes);
        if (count != UT_NONE) {
            const int64_t left = s->n_samples - f * hop;
            const int32_t here = (int32_t)(left < n * hop ? left : n * hop);
            run_input(p, s->exec, "n_samples", n, &here, sizeof here);
        }
        st = p->ops->run(s->exec, s->state, 0, n, &p->err);
        for (int i = 0; st == UTTER_OK && i < s->n_tapes; i++) {
            tape *t = &s->tapes[i];
            int64_t rows, cols;
            const float *x = run_output(p, s->exec, t->tap, n, &rows, &cols);
            memcpy(t->data + f * t->rows_per_frame * cols, x, (size_t)(rows * cols) * sizeof *x);
        }
    }
    return st;
}

void stream_check_chunks(stream *s, const char *name, const char *tap)
{
    const tape *t = stream_find(s, tap);
    if (!t)
        return;
    const size_t bytes = (size_t)(t->rows * t->cols) * sizeof(float);
    float *whole = need_memory(bytes, 1);
    memcpy(whole, t->data, bytes);
    for (int32_t chunk = 1; chunk <= 3; chunk += 2) {
        char line[96];
        snprintf(line, sizeof line, "%s in chunks of %d", name, (int)chunk);
        report_bool(s->p, line,
                    stream_run(s, chunk) == UTTER_OK && memcmp(whole, t->data, bytes) == 0);
    }
    ut_free(whole);
}
