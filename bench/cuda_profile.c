/* cuda_profile.c - see cuda_profile.h. */
#include "cuda_profile.h"

#include "backends/cuda/exec.h"
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
