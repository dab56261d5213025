/* cuda_profile.c - see cuda_profile.h. */
#include "cuda_profile.h"

#include "backends/cuda/frame.h"
#include "base/alloc.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct line {
    char name[64];
    double us;
    int n;
} line;

static void name_op(const ut_plan *p, const ut_op *op, char *text, size_t size)
{
    if (op->kind == UT_OP_LINEAR)
        snprintf(text, size, "linear %dx%d rows %d*T+%d", (int)op->w[0]->rows, (int)op->w[0]->cols,
                 (int)p->tensors[op->in[0]].rows_per_t, (int)p->tensors[op->in[0]].rows_fixed);
    else if (op->kind == UT_OP_ATTENTION || op->kind == UT_OP_SAMPLE || op->kind == UT_OP_SNAKE)
        snprintf(text, size, "%s of %d columns, rows %d*T+%d", ut_op_name(op->kind),
                 (int)p->tensors[op->in[0]].cols, (int)p->tensors[op->in[0]].rows_per_t,
                 (int)p->tensors[op->in[0]].rows_fixed);
    else
        snprintf(text, size, "%s", ut_op_name(op->kind));
}

/* What else a step does than its operation, with an upper case letter to make it seen. */
static void name_step(const ut_plan *p, const cu_step *s, char *text, size_t size)
{
    const cu_links *l = &s->links;
    name_op(p, s->op, text, size);
    const size_t n = strlen(text);
    snprintf(text + n, size - n, "%s%s%s%s", l->square ? " NORM" : "",
             l->swiglu >= 0 ? " SWIGLU" : "", l->qkv >= 0 ? " QKV" : "", l->group ? " GROUP" : "");
}

static bool is_launched(const cu_step *s)
{
    return !s->links.merged || s->links.group > 0;
}

static int by_time(const void *a, const void *b)
{
    const double x = ((const line *)a)->us, y = ((const line *)b)->us;
    return (x < y) - (x > y);
}

utter_status cuda_profile(const char *title, ut_exec *e, ut_state *s, int32_t n_t, ut_err *err)
{
    const ut_plan *p = e->plan;
    float *ms = ut_calloc((size_t)p->n_ops, sizeof *ms);
    line *lines = ut_calloc((size_t)p->n_ops, sizeof *lines);
    utter_status st = ms && lines ? UTTER_OK : ut_fail(err, UTTER_ERR_NOMEM, "no memory");
    for (int i = 0; i < 2 && st == UTTER_OK; i++) /* the first one warms up */
        st = cu_run_timed(e, s, 0, n_t, ms, err);
    const cu_step *steps = ((const cu_exec *)e)->steps;
    int n = 0, launched = 0;
    double total = 0;
    for (int32_t i = 0; i < p->n_ops && st == UTTER_OK; i++) {
        char name[64];
        if (!is_launched(&steps[i]))
            continue;
        launched++;
        name_step(p, &steps[i], name, sizeof name);
        int k = 0;
        while (k < n && strcmp(lines[k].name, name) != 0)
            k++;
        if (k == n)
            snprintf(lines[n++].name, sizeof lines[0].name, "%s", name);
        lines[k].us += (double)ms[i] * 1e3;
        lines[k].n++;
        total += (double)ms[i] * 1e3;
    }
    if (st == UTTER_OK) {
        qsort(lines, (size_t)n, sizeof *lines, by_time);
        printf("%s, %d steps one by one: %.0f us\n", title, launched, total);
        for (int k = 0; k < n && k < 40; k++)
            printf("  %7.1f us %4d x %6.2f  %s\n", lines[k].us, lines[k].n,
                   lines[k].us / lines[k].n, lines[k].name);
    }
    ut_free(ms);
    ut_free(lines);
    return st;
}

static void name_phase(const cu_exec *e, const cu_fused *f, char *text, size_t size)
{
    const ut_plan *p = e->head.plan;
    if (f->kind == CU_PHASE_SLOTS)
        snprintf(text, size, "%d of slots, first %s", (int)f->count,
                 ut_op_name(p->ops[e->frame->slot_ops[f->first]].kind));
    else
        name_op(p, &p->ops[f->linear >= 0 ? f->linear : f->attention], text, size);
}

utter_status cuda_profile_phases(ut_exec *exec, ut_state *s, ut_err *err)
{
    enum { LINES = 64 };
    const cu_exec *e = (const cu_exec *)exec;
    if (!e->frame || e->frames != CU_FRAMES_WHOLE)
        return UTTER_OK;
    const int32_t n = e->frame->n_phases;
    uint64_t *t = ut_calloc((size_t)n, sizeof *t);
    utter_status st = t ? UTTER_OK : ut_fail(err, UTTER_ERR_NOMEM, "no memory");
    for (int i = 0; i < 3 && st == UTTER_OK; i++) /* the first ones warm up */
        st = cu_frame_traced(exec, s, t, err);
    line lines[LINES] = {0};
    int n_lines = 0;
    for (int32_t i = 0; i + 1 < n && st == UTTER_OK; i++) {
        char name[64];
        name_phase(e, &e->frame->phases[i], name, sizeof name);
        int k = 0;
        while (k < n_lines && strcmp(lines[k].name, name) != 0)
            k++;
        if (k == LINES)
            continue;
        if (k == n_lines)
            snprintf(lines[n_lines++].name, sizeof lines[0].name, "%s", name);
        lines[k].us += (double)(t[i + 1] - t[i]);
        lines[k].n++;
    }
    if (st == UTTER_OK) {
        qsort(lines, (size_t)n_lines, sizeof *lines, by_time);
        printf("frame of %d phases, %.0f ticks of block 0 from the first to the last\n", (int)n,
               (double)(t[n - 1] - t[0]));
        for (int k = 0; k < n_lines; k++)
            printf("  %9.0f %4d x %7.0f  %s\n", lines[k].us, lines[k].n, lines[k].us / lines[k].n,
                   lines[k].name);
    }
    ut_free(t);
    return st;
}
