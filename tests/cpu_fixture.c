/* cpu_fixture.c - see cpu_fixture.h. */
#include "cpu_fixture.h"
#include "base/alloc.h"
#include "base/half.h"
#include "kernel_check.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <cmocka.h>

static void *kept[512];
static int n_kept;

static void *keep(void *p)
{
    assert_non_null(p);
    assert_true(n_kept < 512);
    return kept[n_kept++] = p;
}

void fixture_free_all(void)
{
    while (n_kept > 0)
        ut_free(kept[--n_kept]);
}

float *fixture_array(size_t n, float scale)
{
    float *x = keep(ut_malloc(n * sizeof *x));
    random_fill(x, n, scale);
    return x;
}

ut_weight *fixture_weight(int32_t rows, int32_t cols, ut_dtype dtype, float scale)
{
    const size_t n = (size_t)rows * (size_t)cols;
    ut_weight *w = keep(ut_calloc(1, sizeof *w));
    void *data = fixture_array(n, scale);
    if (dtype != UT_F32) {
        const float *x = data;
        uint16_t *h = keep(ut_malloc(n * sizeof *h));
        for (size_t i = 0; i < n; i++)
            h[i] = dtype == UT_BF16 ? ut_f32_to_bf16(x[i]) : ut_f32_to_f16(x[i]);
        data = h;
    }
    *w = (ut_weight){.name = "w", .rows = rows, .cols = cols, .n_parts = 1};
    w->part[0] = (ut_weight_part){data, dtype, rows};
    return w;
}

ut_backend *fixture_open(int threads, unsigned flags_off, ut_precision precision)
{
    const ut_backend_params params = {
        .threads = threads, .precision = precision, .cpu_flags_off = flags_off};
    ut_err err = {0};
    ut_backend *b;
    if (ut_backend_open(&b, "cpu", &params, &err) != UTTER_OK)
        fail_msg("%s", err.msg);
    return b;
}

fixture fixture_compile(ut_backend *b, const ut_plan *p, int n_slots, int32_t max_t)
{
    ut_err err = {0};
    fixture f = {.b = b};
    if (b->ops->compile(b, p, n_slots, max_t, &f.e, &err) != UTTER_OK)
        fail_msg("%s", err.msg);
    if (p->states && b->ops->state_new(b, p->states, n_slots, &f.s, &err) != UTTER_OK)
        fail_msg("%s", err.msg);
    return f;
}

void fixture_close(fixture *f)
{
    f->b->ops->state_free(f->s);
    f->b->ops->exec_free(f->e);
    f->s = NULL;
    f->e = NULL;
}

void fixture_input(const fixture *f, const char *name, int32_t n_t, const void *src, size_t bytes)
{
    const ut_tid t = ut_plan_find(f->e->plan, name);
    assert_true(t != UT_NONE);
    memcpy(f->b->ops->input(f->e, t, n_t), src, bytes);
}

void fixture_run(const fixture *f, int32_t n_t)
{
    ut_err err = {0};
    if (f->b->ops->run(f->e, f->s, 0, n_t, &err) != UTTER_OK)
        fail_msg("%s", err.msg);
}

const void *fixture_output(const fixture *f, const char *name)
{
    const ut_tid t = ut_plan_find(f->e->plan, name);
    assert_true(t != UT_NONE);
    ut_err err = {0};
    const void *data = f->b->ops->output(f->e, t, &err);
    assert_non_null(data);
    return data;
}

/* ---- One backend for a group of tests ------------------------------------------------------- */

ut_backend *fixture_cpu;

int fixture_setup(void **state)
{
    (void)state;
    fixture_cpu = fixture_open(2, 0, UT_PRECISION_AUTO);
    return 0;
}

int fixture_teardown(void **state)
{
    (void)state;
    fixture_cpu->ops->close(fixture_cpu);
    fixture_cpu = NULL;
    return 0;
}

fixture fixture_finish(ut_plan *p, int32_t max_t)
{
    ut_err err = {0};
    if (ut_plan_finish(p, &err) != UTTER_OK)
        fail_msg("%s", err.msg);
    return fixture_compile(fixture_cpu, p, 1, max_t);
}

void fixture_end(fixture *f)
{
    ut_plan *p = (ut_plan *)(uintptr_t)f->e->plan;
    fixture_close(f);
    ut_plan_free(p);
}
