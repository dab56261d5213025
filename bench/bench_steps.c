/* bench_steps.c - what an operation costs beside its arithmetic: a plan of many operations too
 * small to matter, once such that each runs on one thread and once such that each is shared out.
 * usage: bench_steps [--threads N] */
#include "backends/backend.h"
#include "backends/cpu/pool.h"
#include "base/alloc.h"
#include "base/os.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { OPS = 600 };

static double run_plan(ut_backend *b, int32_t cols, int32_t rows)
{
    float *data = ut_calloc((size_t)cols, sizeof *data);
    const ut_weight w = {
        .name = "w", .rows = 1, .cols = cols, .n_parts = 1, .part = {{data, UT_F32, 1}}};
    ut_plan *p = ut_plan_new("steps", NULL, NULL);
    ut_tid x = ut_plan_input(p, "x", UT_F32, 1, 0, cols);
    for (int i = 0; i < OPS; i++)
        x = ut_op_rms_norm(p, x, &w, 1e-6f);
    ut_plan_output(p, x, "y");
    ut_err err = {0};
    ut_exec *e;
    double best = 1e9;
    if (data && ut_plan_finish(p, &err) == UTTER_OK &&
        b->ops->compile(b, p, 1, rows, &e, &err) == UTTER_OK) {
        for (int i = 0; i < 300; i++) {
            const double start = ut_time_now();
            b->ops->run(e, NULL, 0, rows, &err);
            const double t = ut_time_now() - start;
            best = t < best ? t : best;
        }
        b->ops->exec_free(e);
    }
    ut_plan_free(p);
    ut_free(data);
    return best / OPS;
}

static void nothing(void *arg, int32_t item, int member)
{
    (void)arg;
    (void)item;
    (void)member;
}

int main(int argc, char **argv)
{
    int threads = ut_physical_cores();
    if (argc == 3 && strcmp(argv[1], "--threads") == 0)
        threads = atoi(argv[2]);
    ut_err err = {0};
    ut_pool *pool;
    if (ut_pool_new(&pool, threads, &err) != UTTER_OK) {
        fprintf(stderr, "%s\n", err.msg);
        return 1;
    }
    double best = 1e9;
    for (int i = 0; i < 200; i++) {
        const double start = ut_time_now();
        for (int j = 0; j < 100; j++)
            ut_pool_run(pool, nothing, NULL, 4 * threads, true);
        const double t = (ut_time_now() - start) / 100;
        best = t < best ? t : best;
    }
    ut_pool_free(pool);
    printf("%d threads: an empty job of %d items %.2f us\n", threads, 4 * threads, 1e6 * best);

    const ut_backend_params one = {.threads = 1}, all = {.threads = threads};
    const struct {
        const char *name;
        const ut_backend_params *params;
    } cases[] = {{"one thread", &one}, {"all threads", &all}};
    for (int i = 0; i < 2; i++) {
        ut_backend *b;
        if (ut_backend_open(&b, "cpu", cases[i].params, &err) != UTTER_OK)
            return 1;
        printf("%-11s  rms_norm of 16: %.2f us, of 64 rows of 1024: %.2f us\n", cases[i].name,
               1e6 * run_plan(b, 16, 1), 1e6 * run_plan(b, 1024, 64));
        b->ops->close(b);
    }
    return 0;
}
