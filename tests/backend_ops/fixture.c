/* fixture.c - running a case on both backends and comparing; see fixture.h. */
#include "fixture.h"
#include "base/alloc.h"
#include "base/half.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { SLOTS = 3, MAX_IO = 6 };

const char *const type_names[] = {[UT_F32] = "f32", [UT_BF16] = "bf16", [UT_F16] = "f16"};

/* ---- Random numbers -------------------------------------------------------------------------- */

static uint64_t random_state;

void seed(uint64_t group)
{
    random_state = 0x9e3779b97f4a7c15u * (group + 1);
}

static uint32_t random_bits(void)
{
    random_state ^= random_state >> 12;
    random_state ^= random_state << 25;
    random_state ^= random_state >> 27;
    return (uint32_t)((random_state * 0x2545f4914f6cdd1du) >> 32);
}

static float random_float(float scale)
{
    return scale * ((float)(random_bits() >> 8) * (1.0f / 8388608.0f) - 1.0f);
}

/* ---- A case: a plan, its weights, its inputs ------------------------------------------------- */

int ops_passed, ops_failed;
bool ops_small;
bool ops_packed;
bool ops_large;

void check(bool ok, const char *name, const char *what)
{
    ops_passed += ok;
    ops_failed += !ok;
    if (!ok)
        printf("FAIL %s: %s\n", name, what);
}

void *must(void *p)
{
    if (!p) {
        printf("no memory\n");
        exit(1);
    }
    return p;
}

const ut_weight *weight(test_case *c, int32_t rows, int32_t cols, ut_dtype type, float scale)
{
    const size_t n = (size_t)rows * (size_t)cols;
    ut_weight *w = must(ut_calloc(1, sizeof *w));
    float *f = must(ut_malloc(n * sizeof *f));
    uint16_t *h = must(ut_malloc(n * sizeof *h));
    for (size_t i = 0; i < n; i++) {
        f[i] = random_float(scale);
        h[i] = type == UT_BF16 ? ut_f32_to_bf16(f[i]) : ut_f32_to_f16(f[i]);
    }
    const void *data = type == UT_F32 ? (void *)f : (void *)h;
    *w = (ut_weight){.name = "w", .rows = rows, .cols = cols, .least_bits = 4, .n_parts = 1};
    w->part[0] = (ut_weight_part){data, type, rows};
    if (rows > 4) { /* of two parts */
        const size_t row_bytes = (size_t)cols * ut_dtype_size(type);
        w->n_parts = 2;
        w->part[0].rows = 3;
        w->part[1] = (ut_weight_part){(const char *)data + 3 * row_bytes, type, rows - 3};
    }
    ut_free(type == UT_F32 ? (void *)h : (void *)f);
    c->weights[c->n_weights++] = w;
    return w;
}

const ut_weight *vector(test_case *c, int32_t n, float scale)
{
    return weight(c, 1, n, UT_F32, scale);
}

const ut_weight *weight_between(test_case *c, int32_t n, float low, float high)
{
    const ut_weight *w = vector(c, n, 1.0f);
    float *f = (float *)(uintptr_t)w->part[0].data;
    for (int32_t i = 0; i < n; i++)
        f[i] = low + (high - low) * 0.5f * (f[i] + 1.0f);
    return w;
}

ut_plan *begin(test_case *c, const char *name, int32_t n_t)
{
    memset(c, 0, sizeof *c);
    snprintf(c->name, sizeof c->name, "%s", name);
    c->plan = must(ut_plan_new("test", &c->states, NULL));
    c->n_t = n_t;
    c->tolerance = ops_packed ? 2e-3 : 1e-5;
    c->bf16_inputs = ops_packed;
    c->id_range = 16;
    return c->plan;
}

void end(test_case *c)
{
    ut_plan_free(c->plan);
    for (int i = 0; i < c->n_weights; i++) {
        ut_free((void *)(uintptr_t)c->weights[i]->part[0].data);
        ut_free(c->weights[i]);
    }
}

/* ---- Running --------------------------------------------------------------------------------- */

/* All inputs or outputs of a case over its n_t steps: [slots, rows, cols] each. */
typedef struct io {
    ut_tid tensor[MAX_IO];
    uint32_t *data[MAX_IO];
    size_t rows[MAX_IO], cols[MAX_IO];
    int n;
} io;

static void new_io(io *x, const test_case *c, ut_role role)
{
    memset(x, 0, sizeof *x);
    for (ut_tid t = 0; t < c->plan->n_tensors; t++) {
        if (c->plan->tensors[t].role != role)
            continue;
        const int i = x->n++;
        x->tensor[i] = t;
        x->rows[i] = (size_t)ut_tensor_rows(&c->plan->tensors[t], c->n_t);
        x->cols[i] = (size_t)c->plan->tensors[t].cols;
        x->data[i] = must(ut_calloc(SLOTS * x->rows[i] * x->cols[i], 4));
    }
}

static void free_io(io *x)
{
    for (int i = 0; i < x->n; i++)
        ut_free(x->data[i]);
}

static void fill_inputs(io *x, const test_case *c)
{
    for (int i = 0; i < x->n; i++)
        for (size_t k = 0; k < SLOTS * x->rows[i] * x->cols[i]; k++) {
            float f = random_float(1.5f);
            if (c->bf16_inputs)
                f = ut_bf16_to_f32(ut_f32_to_bf16(f));
            memcpy(&x->data[i][k], &f, 4);
            if (c->plan->tensors[x->tensor[i]].dtype == UT_I32)
                x->data[i][k] =
                    random_bits() % (uint32_t)(c->id_range - c->id_first) + (uint32_t)c->id_first;
        }
}

/* Everything a run leaves behind. */
typedef struct result {
    io out;
    uint32_t *states; /* all tensors of all slots, 4 bytes an element */
    size_t n_states;
} result;

static size_t state_words(const ut_state_set *s)
{
    size_t n = 0;
    for (int i = 0; i < s->n; i++)
        n += (size_t)s->def[i].rows * (size_t)s->def[i].cols;
    return n;
}

static void read_states(const ut_backend_ops *ops, ut_state *s, result *r, int slots)
{
    uint32_t *at = r->states;
    for (int slot = 0; slot < slots; slot++)
        for (int i = 0; i < s->set->n; i++) {
            const ut_state_def *d = &s->set->def[i];
            const size_t n = (size_t)d->rows * (size_t)d->cols;
            ops->state_read(s, i, slot, 0, d->rows, at);
            if (d->dtype == UT_BF16)
                for (size_t k = n; k-- > 0;) {
                    const uint32_t wide = (uint32_t)((const uint16_t *)(const void *)at)[k] << 16;
                    memcpy(&at[k], &wide, 4);
                }
            at += n;
        }
}

/* A slot's rows of an input at the steps from t on, n of them, or of an output back. */
static void copy_rows(const test_case *c, io *x, int i, int slot, int from, int32_t t, int32_t n,
                      void *dst, const void *src)
{
    const ut_tensor *d = &c->plan->tensors[x->tensor[i]];
    const size_t rows = (size_t)ut_tensor_rows(d, n), first = (size_t)(d->rows_per_t * t);
    uint32_t *mine = x->data[i] + ((size_t)slot * x->rows[i] + first) * x->cols[i];
    const size_t words = rows * x->cols[i];
    if (dst)
        memcpy((uint32_t *)dst + (size_t)(slot - from) * words, mine, 4 * words);
    else
        memcpy(mine, (const uint32_t *)src + (size_t)(slot - from) * words, 4 * words);
}

/* Slots [from, from + slots) of a case in runs of `chunk` steps. */
static bool run_case(const test_case *c, ut_backend *b, io *in, int from, int slots, int32_t chunk,
                     result *r)
{
    const ut_backend_ops *ops = b->ops;
    ut_err err = {0};
    ut_exec *e = NULL;
    ut_state *s = NULL;
    memset(r, 0, sizeof *r);
    new_io(&r->out, c, UT_OUTPUT);
    r->n_states = state_words(&c->states) * (size_t)slots;
    r->states = must(ut_calloc(r->n_states + 1, 4));
    utter_status st = ops->compile(b, c->plan, slots, chunk, &e, &err);
    if (st == UTTER_OK)
        st = ops->state_new(b, &c->states, slots, &s, &err);
    for (int slot = 0; st == UTTER_OK && c->prepare && slot < slots; slot++)
        c->prepare(ops, s, slot, from + slot);
    for (int32_t t = 0; st == UTTER_OK && t < c->n_t; t += chunk) {
        const int32_t n = c->n_t - t < chunk ? c->n_t - t : chunk;
        for (int i = 0; i < in->n; i++) {
            void *dst = ops->input(e, in->tensor[i], n);
            for (int slot = from; slot < from + slots; slot++)
                copy_rows(c, in, i, slot, from, t, n, dst, NULL);
        }
        st = ops->run(e, s, 0, n, &err);
        for (int i = 0; st == UTTER_OK && i < r->out.n; i++) {
            const void *src = ops->output(e, r->out.tensor[i], &err);
            st = src ? UTTER_OK : UTTER_ERR_BACKEND;
            for (int slot = from; src && slot < from + slots; slot++)
                copy_rows(c, &r->out, i, slot, from, t, n, NULL, src);
        }
    }
    if (st == UTTER_OK)
        read_states(ops, s, r, slots);
    else
        printf("%s: %s\n", c->name, err.msg);
    ops->state_free(s);
    ops->exec_free(e);
    return st == UTTER_OK;
}

static void free_result(result *r)
{
    free_io(&r->out);
    ut_free(r->states);
}

/* ---- Comparing ------------------------------------------------------------------------------- */

/* Largest difference relative to the largest value; integers must be equal. */
static bool near(const uint32_t *got, const uint32_t *want, size_t n, bool is_int, double tolerance,
                 char *text, size_t size)
{
    double peak = 0, worst = 0;
    size_t at = 0;
    for (size_t i = 0; i < n; i++) {
        float g, w;
        memcpy(&g, &got[i], 4);
        memcpy(&w, &want[i], 4);
        if (is_int && got[i] != want[i]) {
            snprintf(text, size, "element %zu is %d, expected %d", i, (int)got[i], (int)want[i]);
            return false;
        }
        if (is_int)
            continue;
        peak = fmax(peak, fabs((double)w));
        const double d = fabs((double)g - (double)w);
        if (!(d <= worst)) {
            worst = isnan(d) ? (double)INFINITY : d;
            at = i;
        }
    }
    if (worst <= tolerance * (peak > 1 ? peak : 1))
        return true;
    float g, w;
    memcpy(&g, &got[at], 4);
    memcpy(&w, &want[at], 4);
    snprintf(text, size, "element %zu is %g, expected %g (of at most %g)", at, (double)g, (double)w,
             peak);
    return false;
}

static void compare_states(const test_case *c, const result *got, const result *want, int slots)
{
    size_t at = 0;
    for (int slot = 0; slot < slots; slot++)
        for (int i = 0; i < c->states.n; i++) {
            const ut_state_def *d = &c->states.def[i];
            const size_t n = (size_t)d->rows * (size_t)d->cols;
            char text[160], what[224];
            const double tolerance = d->dtype == UT_BF16 ? 8e-3 : c->tolerance;
            const bool ok = near(got->states + at, want->states + at, n, d->dtype == UT_I32,
                                 tolerance, text, sizeof text);
            if (!ok)
                snprintf(what, sizeof what, "state %s, slot %d: %s", d->name, slot, text);
            check(ok, c->name, ok ? "" : what);
            at += n;
        }
}

static void compare_outputs(const test_case *c, const result *got, const result *want)
{
    for (int i = 0; i < got->out.n; i++) {
        char text[160], what[192];
        const bool is_int = c->plan->tensors[got->out.tensor[i]].dtype == UT_I32;
        const bool ok =
            near(got->out.data[i], want->out.data[i], SLOTS * got->out.rows[i] * got->out.cols[i],
                 is_int, c->tolerance, text, sizeof text);
        snprintf(what, sizeof what, "output %d: %s", i, ok ? "" : text);
        check(ok, c->name, what);
    }
}

/* Bits of the slots [from, from + slots) of all outputs. */
static bool same_bits(const result *a, const result *b, int from, int slots)
{
    for (int i = 0; i < a->out.n; i++) {
        const size_t words = a->out.rows[i] * a->out.cols[i];
        if (memcmp(a->out.data[i] + (size_t)from * words, b->out.data[i] + (size_t)from * words,
                   4 * words * (size_t)slots) != 0)
            return false;
    }
    return true;
}

ut_backend *reference, *tested;

void test(test_case *c)
{
    ut_err err = {0};
    if (ut_plan_finish(c->plan, &err) != UTTER_OK) {
        check(false, c->name, err.msg);
        end(c);
        return;
    }
    io in;
    new_io(&in, c, UT_INPUT);
    fill_inputs(&in, c);
    result want, whole, other;
    const bool referred = run_case(c, reference, &in, 0, SLOTS, c->n_t, &want);
    const bool ran = run_case(c, tested, &in, 0, SLOTS, c->n_t, &whole) && referred;
    check(ran, c->name, "runs");
    if (ran) {
        compare_outputs(c, &whole, &want);
        compare_states(c, &whole, &want, SLOTS);
    }
    for (int32_t chunk = 1; ran && chunk < c->n_t && chunk <= 5; chunk += 2) {
        char what[64];
        snprintf(what, sizeof what, "in chunks of %d: other bits", (int)chunk);
        check(run_case(c, tested, &in, 0, SLOTS, chunk, &other) &&
                  same_bits(&whole, &other, 0, SLOTS) &&
                  memcmp(whole.states, other.states, 4 * whole.n_states) == 0,
              c->name, what);
        free_result(&other);
    }
    const bool pairs = c->alone_differs && strcmp(tested->ops->name, "cuda") == 0;
    for (int n = pairs ? 2 : 1; ran && n < SLOTS; n++)
        for (int slot = 0; slot + n <= SLOTS; slot++) {
            char what[64];
            snprintf(what, sizeof what, "slots %d..%d without the others: other bits", slot,
                     slot + n - 1);
            check(run_case(c, tested, &in, slot, n, c->n_t, &other) &&
                      same_bits(&whole, &other, slot, n),
                  c->name, what);
            free_result(&other);
        }
    free_result(&want);
    free_result(&whole);
    free_io(&in);
    end(c);
}
