/* cuda_profile.c - see cuda_profile.h. */
#include "cuda_profile.h"

#include "backends/cuda/frame.h"
#include "base/alloc.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct line {
    char name[64];
    double us, part[5]; /* part: of cuda_trace_frame */
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
    int n = 0;
    double total = 0;
    for (int32_t i = 0; i < p->n_ops && st == UTTER_OK; i++) {
        char name[64];
        name_op(p, &p->ops[i], name, sizeof name);
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
        printf("%s, operations one by one: %.0f us\n", title, total);
        for (int k = 0; k < n && k < 16; k++)
            printf("  %7.1f us %4d x %6.2f  %s\n", lines[k].us, lines[k].n,
                   lines[k].us / lines[k].n, lines[k].name);
    }
    ut_free(ms);
    ut_free(lines);
    return st;
}

utter_status cuda_trace_frame(ut_exec *exec, ut_state *s, ut_err *err)
{
    const cu_exec *e = (const cu_exec *)exec;
    if (!e->frame || e->frames != CU_FRAMES_WHOLE)
        return UTTER_OK;
    const int32_t n = e->frame->n_phases;
    uint64_t *t = ut_calloc((size_t)n * CU_TRACE, sizeof *t);
    utter_status st = t ? UTTER_OK : ut_fail(err, UTTER_ERR_NOMEM, "no memory");
    for (int i = 0; i < 3 && st == UTTER_OK; i++)
        st = cu_frame_traced(exec, s, t, err);
    line lines[64] = {0};
    int n_lines = 0;
    for (int32_t i = 0; i + 1 < n && st == UTTER_OK; i++) {
        const cu_fused *f = &e->frame->phases[i];
        const uint64_t *at = t + (size_t)i * CU_TRACE;
        char name[64];
        if (f->kind == CU_PHASE_SLOTS)
            snprintf(name, sizeof name, "%d of slots, first %s", (int)f->count,
                     ut_op_name(e->head.plan->ops[e->frame->slot_ops[f->first]].kind));
        else
            name_op(e->head.plan, &e->head.plan->ops[f->linear >= 0 ? f->linear : f->attention],
                    name, sizeof name);
        int k = 0;
        while (k < n_lines && strcmp(lines[k].name, name) != 0)
            k++;
        if (k == n_lines && n_lines++ < 63)
            snprintf(lines[k].name, sizeof lines[k].name, "%s", name);
        const uint64_t stamp[6] = {at[0], at[1], at[2], at[3], at[4], at[CU_TRACE]};
        for (int j = 0; j < 5; j++) {
            int next = j + 1;
            while (!stamp[next])
                next++;
            if (stamp[j])
                lines[k].part[j] += (double)(stamp[next] - stamp[j]);
        }
        lines[k].us += (double)(at[CU_TRACE] - at[0]);
        lines[k].n++;
    }
    if (st == UTTER_OK) {
        qsort(lines, (size_t)n_lines, sizeof *lines, by_time);
        printf("frame of %d phases, %.0f ticks; a phase: x there, sums there, end, arrived, all "
               "there\n",
               (int)n, (double)(t[(size_t)(n - 1) * CU_TRACE + 3] - t[0]));
        for (int k = 0; k < n_lines; k++) {
            printf("  %9.0f %4d x %7.0f  (", lines[k].us, lines[k].n, lines[k].us / lines[k].n);
            for (int j = 0; j < 5; j++)
                printf(" %6.0f", lines[k].part[j] / lines[k].n);
            printf(" )  %s\n", lines[k].name);
        }
    }
    ut_free(t);
    return st;
}
