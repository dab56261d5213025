/* bench_precision.c - what a precision costs in exactness: a prompt of random codes and frames
 * after it at f32, then at the other precisions along the choices made at f32, and how alike their
 * logits are. A model of random weights will do: it has no sure choices that would hide an error.
 *
 *     bench_precision MODEL_DIR [--threads N] [--frames N] [--prompt N] */
#include "backends/backend.h"
#include "base/alloc.h"
#include "base/os.h"
#include "models/model.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_DECISIONS = 40 };

static const char *const names[] = {"f32", "bf16", "f16", "int8", "int4"};

/* Taps: of the slow transformer, or the talker; then those of each codebook. */
static const char *const *taps(void)
{
    static char text[2 * MAX_DECISIONS][32];
    static const char *list[2 * MAX_DECISIONS + 3] = {"slow.logits", "talker.logits"};
    for (int i = 0; i < MAX_DECISIONS; i++) {
        snprintf(text[2 * i], sizeof text[0], "fast.logits%d", i);
        snprintf(text[2 * i + 1], sizeof text[0], "predictor.logits%d", i);
        list[2 + 2 * i] = text[2 * i];
        list[3 + 2 * i] = text[2 * i + 1];
    }
    return list;
}

typedef struct bench {
    const char *dir;
    ut_backend_params params;
    int32_t frames, prompt;
    ut_model *m;
    int32_t *columns; /* [frames, columns]: chosen at f32 */
    float *logits;    /* at f32: those of all frames and taps, one after another */
    size_t n_logits, cap;
    ut_err err;
} bench;

/* Of one kind of logits: how alike they are. */
typedef struct likeness {
    double least, sum;
    int64_t n, same; /* vectors; those with the same largest entry */
} likeness;

static size_t best_of(const float *x, size_t n)
{
    size_t best = 0;
    for (size_t i = 1; i < n; i++)
        if (x[i] > x[best])
            best = i;
    return best;
}

static void compare(likeness *l, const float *a, const float *b, size_t n)
{
    double dot = 0, aa = 0, bb = 0;
    for (size_t i = 0; i < n; i++) {
        dot += (double)a[i] * (double)b[i];
        aa += (double)a[i] * (double)a[i];
        bb += (double)b[i] * (double)b[i];
    }
    const double cosine = dot / sqrt(aa * bb);
    l->least = l->n == 0 || cosine < l->least ? cosine : l->least;
    l->sum += cosine;
    l->n++;
    l->same += best_of(a, n) == best_of(b, n);
}

static bool keep(bench *x, const float *logits, size_t n)
{
    if (x->n_logits + n > x->cap) {
        const size_t cap = 2 * x->cap + n;
        float *grown = ut_realloc(x->logits, cap, sizeof *grown);
        if (!grown)
            return false;
        x->logits = grown;
        x->cap = cap;
    }
    memcpy(x->logits + x->n_logits, logits, n * sizeof *logits);
    x->n_logits += n;
    return true;
}

/* The logits that a run left: kept (kinds NULL), or compared with those from x->logits + *at on. */
static utter_status take_logits(bench *x, ut_exec *e, likeness *kinds, size_t *at)
{
    for (const char *const *tap = taps(); *tap; tap++) {
        const ut_tid t = ut_plan_find(e->plan, *tap);
        if (t == UT_NONE)
            continue;
        const size_t n = (size_t)e->plan->tensors[t].cols;
        const float *logits = e->backend->ops->output(e, t, &x->err);
        if (!logits)
            return UTTER_ERR_BACKEND;
        if (!kinds && !keep(x, logits, n))
            return ut_fail(&x->err, UTTER_ERR_NOMEM, "no memory for logits");
        if (kinds)
            compare(&kinds[**tap == 'f' || **tap == 'p'], logits, x->logits + *at, n);
        *at += n;
    }
    return UTTER_OK;
}

/* Even noise, so that the likeliest is chosen; or such that a column's ids are. */
static void set_noise(ut_exec *e, const int32_t *column)
{
    for (int k = 0; k < MAX_DECISIONS; k++) {
        char name[24];
        snprintf(name, sizeof name, "noise.%d", k);
        const ut_tid t = ut_plan_find(e->plan, name);
        if (t == UT_NONE)
            return;
        const int32_t n = e->plan->tensors[t].cols;
        float *noise = e->backend->ops->input(e, t, 1);
        for (int32_t i = 0; i < n; i++)
            noise[i] = column && column[k ? k + 1 : 0] == i ? 1e-30f : 1.0f;
    }
}

static utter_status run_frames(bench *x, ut_exec *prefill, ut_exec *frame, ut_state *s,
                               likeness *kinds)
{
    static const float even[2][UT_SP_COUNT] = {
        {[UT_SP_TEMPERATURE] = 1, [UT_SP_TOP_P] = 1, [UT_SP_REPETITION_PENALTY] = 1},
        {[UT_SP_TEMPERATURE] = 1, [UT_SP_TOP_P] = 1, [UT_SP_REPETITION_PENALTY] = 1}};
    const ut_ar *ar = &x->m->ar;
    const ut_backend_ops *ops = prefill->backend->ops;
    int32_t *ids = ops->input(prefill, ut_plan_find(ar->prefill, "tokens"), x->prompt);
    for (int32_t i = 0; i < x->prompt * ar->columns; i++)
        ids[i] = (int32_t)((uint32_t)i * 2654435761u >> 23); /* 0 .. 511 */
    ops->state_reset(s, 0);
    ops->state_write(s, ar->params, 0, 0, ar->states.def[ar->params].rows, even);
    size_t at = 0;
    utter_status st = UTTER_OK;
    for (int32_t f = 0; f < x->frames && st == UTTER_OK; f++) {
        ut_exec *e = f ? frame : prefill;
        int32_t *column = x->columns + (size_t)f * (size_t)ar->columns;
        int32_t made[MAX_DECISIONS + 2];
        set_noise(e, kinds ? column : NULL);
        st = ops->run(e, s, 0, f ? 1 : x->prompt, &x->err);
        if (st == UTTER_OK)
            st = ops->ring_wait(s, ar->ring, 0, f, made, &x->err);
        if (st == UTTER_OK)
            st = take_logits(x, e, kinds, &at);
        if (st == UTTER_OK && !kinds)
            memcpy(column, made, (size_t)ar->columns * sizeof *column);
        else if (st == UTTER_OK && memcmp(column, made, (size_t)ar->columns * sizeof *column) != 0)
            st = ut_fail(&x->err, UTTER_ERR_INTERNAL, "frame %d was not forced", (int)f);
    }
    return st;
}

static utter_status measure(bench *x, ut_precision precision)
{
    const ut_ar *ar = &x->m->ar;
    likeness kinds[2] = {0};
    ut_backend *b = NULL;
    ut_exec *prefill = NULL, *frame = NULL;
    ut_state *s = NULL;
    x->params.precision = precision;
    utter_status st = ut_backend_open(&b, "cpu", &x->params, &x->err);
    if (st == UTTER_OK)
        st = b->ops->compile(b, ar->prefill, 1, x->prompt, &prefill, &x->err);
    if (st == UTTER_OK)
        st = b->ops->compile(b, ar->frame, 1, 1, &frame, &x->err);
    if (st == UTTER_OK)
        st = b->ops->state_new(b, &ar->states, 1, &s, &x->err);
    if (st == UTTER_OK)
        st = run_frames(x, prefill, frame, s, precision == UT_PRECISION_F32 ? NULL : kinds);
    for (int k = 0; st == UTTER_OK && precision != UT_PRECISION_F32 && k < 2; k++)
        printf("%-5s %-8s cosine least %.6f, mean %.6f; same choice %4.1f %% of %lld\n",
               names[precision - UT_PRECISION_F32], k ? "codes" : "token", kinds[k].least,
               kinds[k].sum / (double)kinds[k].n,
               100.0 * (double)kinds[k].same / (double)kinds[k].n, (long long)kinds[k].n);
    if (s)
        b->ops->state_free(s);
    if (b) {
        b->ops->exec_free(frame);
        b->ops->exec_free(prefill);
        b->ops->close(b);
    }
    return st;
}

int main(int argc, char **argv)
{
    bench x = {.frames = 20, .prompt = 50};
    for (int i = 1; i < argc; i++) {
        const char *value = i + 1 < argc ? argv[i + 1] : "";
        if (strcmp(argv[i], "--threads") == 0)
            x.params.threads = atoi(value), i++;
        else if (strcmp(argv[i], "--frames") == 0)
            x.frames = atoi(value), i++;
        else if (strcmp(argv[i], "--prompt") == 0)
            x.prompt = atoi(value), i++;
        else
            x.dir = argv[i];
    }
    if (!x.dir || x.frames < 1 || x.prompt < 1) {
        fprintf(stderr, "usage: bench_precision MODEL_DIR [--threads N] [--frames N] "
                        "[--prompt N]\n");
        return 2;
    }
    const ut_model_options options = {.exact_head = true, .external_noise = true, .taps = taps()};
    utter_status st = ut_model_open(&x.m, x.dir, &options, &x.err);
    if (st == UTTER_OK) {
        x.columns = ut_calloc((size_t)x.frames * (size_t)x.m->ar.columns, sizeof *x.columns);
        if (!x.columns)
            st = ut_fail(&x.err, UTTER_ERR_NOMEM, "no memory for codes");
    }
    for (int p = UT_PRECISION_F32; p <= UT_PRECISION_INT4 && st == UTTER_OK; p++)
        st = measure(&x, (ut_precision)p);
    if (st != UTTER_OK)
        fprintf(stderr, "bench_precision: %s\n", x.err.msg);
    ut_free(x.columns);
    ut_free(x.logits);
    ut_model_free(x.m);
    return st == UTTER_OK ? 0 : 1;
}
