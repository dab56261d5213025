/* case.c - recorded tensors, and the report on them. */
#include "base/alloc.h"
#include "parity/parity.h"
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void *need_memory(size_t n, size_t size)
{
    void *p = ut_calloc(n ? n : 1, size);
    if (!p) {
        fprintf(stderr, "ut-parity: no memory\n");
        exit(1);
    }
    return p;
}

static void mark(parity *p, const ut_view *v)
{
    for (size_t i = 0; i < ut_weights_count(p->golden); i++)
        if (ut_weights_at(p->golden, i) == v)
            p->seen[i] = true;
}

const ut_view *golden(parity *p, const char *fmt, ...)
{
    char name[256];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(name, sizeof name, fmt, ap);
    va_end(ap);
    const ut_view *v = ut_weights_find(p->golden, name);
    if (v)
        mark(p, v);
    return v;
}

int32_t *golden_i32(const ut_view *v)
{
    int32_t *out = need_memory((size_t)v->n_elements, sizeof *out);
    for (int64_t i = 0; i < v->n_elements; i++) {
        if (v->dtype == UT_I32)
            memcpy(&out[i], (const uint8_t *)v->data + 4 * i, 4);
        else if (v->dtype == UT_U8)
            out[i] = ((const uint8_t *)v->data)[i];
        else if (v->dtype == UT_I8)
            out[i] = ((const int8_t *)v->data)[i];
    }
    return out;
}

float *golden_f32(const ut_view *v)
{
    float *out = need_memory((size_t)v->n_elements, sizeof *out);
    ut_view_to_f32(v, 0, v->n_elements, out);
    return out;
}

float *transposed_f32(const float *a, int64_t rows, int64_t cols)
{
    float *out = need_memory((size_t)(rows * cols), sizeof *out);
    for (int64_t r = 0; r < rows; r++)
        for (int64_t c = 0; c < cols; c++)
            out[c * rows + r] = a[r * cols + c];
    return out;
}

int32_t *transposed_i32(const int32_t *a, int64_t rows, int64_t cols)
{
    int32_t *out = need_memory((size_t)(rows * cols), sizeof *out);
    for (int64_t r = 0; r < rows; r++)
        for (int64_t c = 0; c < cols; c++)
            out[c * rows + r] = a[r * cols + c];
    return out;
}

/* ---- Report --------------------------------------------------------------------------------- */

static void count(parity *p, bool ok)
{
    p->n_passed += ok;
    p->n_failed += !ok;
}

void report_missing(parity *p, const char *name, const char *why)
{
    printf("FAIL %-32s %s\n", name, why);
    count(p, false);
}

void report_bool(parity *p, const char *name, bool ok)
{
    printf("%s %-32s\n", ok ? "ok  " : "FAIL", name);
    count(p, ok);
}

static double cosine_of(const float *a, const float *b, int64_t n)
{
    double ab = 0, aa = 0, bb = 0;
    for (int64_t i = 0; i < n; i++) {
        ab += (double)a[i] * (double)b[i];
        aa += (double)a[i] * (double)a[i];
        bb += (double)b[i] * (double)b[i];
    }
    return aa > 0 && bb > 0 ? ab / sqrt(aa * bb) : (aa == bb ? 1 : 0);
}

/* Of logits the worst of all steps; of others 1. */
static double worst_step(const ut_view *v, const float *got, const float *want)
{
    const int64_t n = v->n_elements, row = v->n_dims > 0 ? v->dim[v->n_dims - 1] : 0;
    double least = 1;
    if (strstr(v->name, "logits"))
        for (int64_t i = 0; i + row <= n && row > 0; i += row)
            least = fmin(least, cosine_of(got + i, want + i, row));
    return least;
}

void report_f32(parity *p, const ut_view *v, const float *got, int64_t n, double tolerance)
{
    mark(p, v);
    if (!got || n != v->n_elements) {
        report_missing(p, v->name, "was recomputed in another shape, or not at all");
        return;
    }
    float *want = golden_f32(v);
    double max_abs = 0, peak = 0;
    bool finite = true;
    for (int64_t i = 0; i < n; i++) {
        const double g = (double)got[i], w = (double)want[i];
        max_abs = fmax(max_abs, fabs(g - w));
        peak = fmax(peak, fabs(w));
        finite = finite && isfinite(g);
    }
    const double cosine = cosine_of(got, want, n), worst = worst_step(v, got, want);
    ut_free(want);
    const bool ok = finite && (p->exact ? max_abs <= tolerance
                                        : cosine >= p->least_cosine && worst >= p->least_of_step);
    printf("%s %-32s %.2e %.2e", ok ? "ok  " : "FAIL", v->name, max_abs,
           peak > 0 ? max_abs / peak : max_abs);
    if (!p->exact)
        printf(" cosine %.6f", cosine);
    if (!p->exact && worst < 1)
        printf(", of a step %.6f", worst);
    printf("\n");
    count(p, ok);
}

void report_i32(parity *p, const ut_view *v, const int32_t *got, int64_t n, int64_t n_allowed)
{
    mark(p, v);
    if (!got || n != v->n_elements) {
        report_missing(p, v->name, "was recomputed in another shape, or not at all");
        return;
    }
    int32_t *want = golden_i32(v);
    int64_t differ = 0, first = -1;
    for (int64_t i = 0; i < n; i++)
        if (got[i] != want[i]) {
            differ++;
            if (first < 0)
                first = i;
        }
    const bool ok = differ <= n_allowed;
    printf("%s %-32s %lld of %lld differ", ok ? "ok  " : "FAIL", v->name, (long long)differ,
           (long long)n);
    if (first >= 0)
        printf(" (first at %lld: %d, recorded %d)", (long long)first, (int)got[first],
               (int)want[first]);
    printf("\n");
    ut_free(want);
    count(p, ok);
}

/* ---- Running -------------------------------------------------------------------------------- */

const float *run_output(parity *p, ut_exec *e, const char *name, int32_t n_t, int64_t *rows,
                        int64_t *cols)
{
    const ut_tid t = ut_plan_find(e->plan, name);
    if (t == UT_NONE)
        return NULL;
    *rows = ut_tensor_rows(&e->plan->tensors[t], n_t);
    *cols = e->plan->tensors[t].cols;
    return p->ops->output(e, t, &p->err);
}

void run_input(parity *p, ut_exec *e, const char *name, int32_t n_t, const void *data, size_t bytes)
{
    memcpy(p->ops->input(e, ut_plan_find(e->plan, name), n_t), data, bytes);
}
