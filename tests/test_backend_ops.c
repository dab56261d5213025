/* test_backend_ops.c - every operation of plan.h on a backend, through small plans, against the
 * scalar CPU backend; and the rule of all operations: a row has the same bits alone, in a chunk,
 * and beside other slots.
 *
 *     test_backend_ops [BACKEND [--small | --int8 | --int4]]      (default cpu)
 *
 * --small leaves out what takes long under a memory checker; --int8 and --int4 run the products
 * alone, at that precision.
 * A backend that is not available here is skipped, and that is no failure. */
#include "backends/backend.h"
#include "base/alloc.h"
#include "base/half.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { SLOTS = 3, MAX_IO = 6, MAX_WEIGHTS = 16 };

/* ---- Random numbers -------------------------------------------------------------------------- */

static uint64_t random_state;

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

typedef struct test_case {
    char name[128];
    ut_state_set states;
    ut_plan *plan;
    int32_t n_t; /* steps of the longest run */
    ut_weight *weights[MAX_WEIGHTS];
    int n_weights;
    int32_t id_range; /* i32 inputs are below it */
    int32_t id_first; /* and at least this */
    double tolerance; /* relative to the largest value of a tensor */
    /* before the first run: slot of the state, and which slot of the case it plays */
    void (*prepare)(const ut_backend_ops *ops, ut_state *s, int slot, int role);
} test_case;

static int n_passed, n_failed;

static void check(bool ok, const char *name, const char *what)
{
    n_passed += ok;
    n_failed += !ok;
    if (!ok)
        printf("FAIL %s: %s\n", name, what);
}

static void *must(void *p)
{
    if (!p) {
        printf("no memory\n");
        exit(1);
    }
    return p;
}

static const ut_weight *weight(test_case *c, int32_t rows, int32_t cols, ut_dtype type, float scale)
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

static const ut_weight *vector(test_case *c, int32_t n, float scale)
{
    return weight(c, 1, n, UT_F32, scale);
}

/* A vector of values in [low, high]: what a division takes. */
static const ut_weight *weight_between(test_case *c, int32_t n, float low, float high)
{
    const ut_weight *w = vector(c, n, 1.0f);
    float *f = (float *)(uintptr_t)w->part[0].data;
    for (int32_t i = 0; i < n; i++)
        f[i] = low + (high - low) * 0.5f * (f[i] + 1.0f);
    return w;
}

static ut_plan *begin(test_case *c, const char *name, int32_t n_t)
{
    memset(c, 0, sizeof *c);
    snprintf(c->name, sizeof c->name, "%s", name);
    c->plan = must(ut_plan_new("test", &c->states, NULL));
    c->n_t = n_t;
    c->tolerance = 1e-5;
    c->id_range = 16;
    return c->plan;
}

static void end(test_case *c)
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
            const float f = random_float(1.5f);
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

static ut_backend *reference, *tested;

/* Whole against the reference; then in chunks and slot by slot against the whole, bit for bit. */
static void test(test_case *c)
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
    for (int slot = 0; ran && slot < SLOTS; slot++) {
        check(run_case(c, tested, &in, slot, 1, c->n_t, &other) &&
                  same_bits(&whole, &other, slot, 1),
              c->name, "a slot alone: other bits");
        free_result(&other);
    }
    free_result(&want);
    free_result(&whole);
    free_io(&in);
    end(c);
}

/* ---- Linear ---------------------------------------------------------------------------------- */

static const char *const type_names[] = {[UT_F32] = "f32", [UT_BF16] = "bf16", [UT_F16] = "f16"};

static void test_linear(int32_t n_out, int32_t k, ut_dtype type, int32_t rows_per_t,
                        int32_t rows_fixed, ut_act act, bool all)
{
    test_case c;
    char name[96];
    snprintf(name, sizeof name, "linear %dx%d %s rows %dT+%d act %d%s", (int)n_out, (int)k,
             type_names[type], (int)rows_per_t, (int)rows_fixed, (int)act, all ? " all" : "");
    ut_plan *p = begin(&c, name, rows_per_t ? 7 : 1);
    const ut_tid x = ut_plan_input(p, "x", UT_F32, rows_per_t, rows_fixed, k);
    ut_linear_args a = {
        .w = weight(&c, n_out, k, type, 1.0f / sqrtf((float)k)), .act = act, .residual = UT_NONE};
    if (all) {
        a.bias = vector(&c, n_out, 0.5f);
        a.gamma = vector(&c, n_out, 1.0f);
        a.residual = ut_plan_input(p, "r", UT_F32, rows_per_t, rows_fixed, n_out);
    }
    if (act == UT_ACT_SNAKE)
        a.alpha = vector(&c, n_out, 2.0f);
    if (act == UT_ACT_SNAKE && type != UT_F32)
        a.beta = weight_between(&c, n_out, 0.5f, 2.0f);
    ut_plan_output(p, ut_op_linear(p, x, &a), "y");
    test(&c);
}

static void test_linears(void)
{
    static const int32_t sizes[][2] = {{1, 1},    {7, 5},     {3, 64},    {64, 64},
                                       {65, 129}, {130, 513}, {40, 1030}, {17, 2080}};
    static const ut_dtype types[] = {UT_F32, UT_BF16, UT_F16};
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++)
        for (int t = 0; t < 3; t++) {
            test_linear(sizes[i][0], sizes[i][1], types[t], 1, 0, UT_ACT_NONE, t == 1);
            test_linear(sizes[i][0], sizes[i][1], types[t], 0, 1 + t, UT_ACT_NONE, t == 2);
        }
    for (int act = UT_ACT_NONE; act <= UT_ACT_CLAMP; act++) {
        test_linear(33, 48, UT_F32, 3, 0, (ut_act)act, true);
        test_linear(33, 48, UT_BF16, 0, 2, (ut_act)act, true);
    }
    test_linear(70, 96, UT_F32, 40, 0, UT_ACT_NONE, true); /* many rows */
}

/* ---- Convolutions ---------------------------------------------------------------------------- */

/* in_rows: steps of the signal that are one row of the convolution. */
static void test_conv(int32_t channels, int32_t n_out, int32_t in_rows, int32_t taps,
                      int32_t dilation, ut_dtype type, ut_act act)
{
    test_case c;
    char name[96];
    snprintf(name, sizeof name, "conv %d*%d -> %d, %d taps, dilation %d, %s", (int)in_rows,
             (int)channels, (int)n_out, (int)taps, (int)dilation, type_names[type]);
    ut_plan *p = begin(&c, name, 6);
    const int32_t cols = channels * in_rows, k = taps * cols;
    const int state = ut_state_set_add(&c.states, "history", UT_F32, (taps - 1) * dilation, cols);
    ut_tid x = ut_op_copy(p, ut_plan_input(p, "x", UT_F32, in_rows, 0, channels));
    x = ut_plan_reshape(p, x, cols);
    ut_op_conv_history(p, x, state);
    const ut_linear_args a = {.w = weight(&c, n_out, k, type, 1.0f / sqrtf((float)k)),
                              .bias = vector(&c, n_out, 0.5f),
                              .alpha = act == UT_ACT_SNAKE ? vector(&c, n_out, 2.0f) : NULL,
                              .act = act,
                              .residual = UT_NONE,
                              .taps = taps,
                              .dilation = dilation};
    ut_plan_output(p, ut_op_linear(p, x, &a), "y");
    test(&c);
}

static void test_dwconv(int32_t channels, int32_t taps)
{
    test_case c;
    char name[96];
    snprintf(name, sizeof name, "dwconv %d channels, %d taps", (int)channels, (int)taps);
    ut_plan *p = begin(&c, name, 6);
    const int state = ut_state_set_add(&c.states, "history", UT_F32, taps - 1, channels);
    const ut_tid x = ut_op_copy(p, ut_plan_input(p, "x", UT_F32, 2, 0, channels));
    ut_op_conv_history(p, x, state);
    const ut_weight *w = weight(&c, channels, taps, UT_F32, 1.0f);
    ut_plan_output(p, ut_op_dwconv(p, x, w, vector(&c, channels, 1.0f)), "y");
    test(&c);
}

static void test_convs(void)
{
    test_conv(3, 5, 1, 3, 1, UT_F32, UT_ACT_NONE);
    test_conv(4, 70, 1, 7, 3, UT_F32, UT_ACT_SNAKE);
    test_conv(8, 6, 1, 7, 9, UT_BF16, UT_ACT_NONE);
    test_conv(5, 9, 4, 2, 1, UT_F32, UT_ACT_TANH);
    test_conv(1, 16, 1, 7, 1, UT_F16, UT_ACT_NONE);
    test_conv(96, 24, 2, 2, 1, UT_BF16, UT_ACT_NONE);
    test_dwconv(5, 7);
    test_dwconv(300, 3);
}

/* ---- Row by row ------------------------------------------------------------------------------ */

static void test_rowwise(int32_t cols)
{
    static const char *const names[] = {"rms_norm", "layer_norm", "swiglu",
                                        "snake",    "snake_beta", "scale"};
    for (int kind = 0; kind < 6; kind++) {
        test_case c;
        char name[64];
        snprintf(name, sizeof name, "%s %d", names[kind], (int)cols);
        ut_plan *p = begin(&c, name, 5);
        const int32_t width = kind == 2 ? 2 * cols : cols;
        const ut_tid x = ut_plan_input(p, "x", UT_F32, 2, 0, width);
        const ut_weight *w = vector(&c, cols, 2.0f);
        const ut_tid y = kind == 0   ? ut_op_rms_norm(p, x, w, 1e-6f)
                         : kind == 1 ? ut_op_layer_norm(p, x, w, vector(&c, cols, 1.0f), 1e-6f)
                         : kind == 2 ? ut_op_swiglu(p, x)
                         : kind == 3 ? ut_op_snake(p, x, w)
                         : kind == 4
                             ? ut_op_snake_beta(p, x, w, weight_between(&c, cols, 0.5f, 2.0f))
                             : ut_op_scale(p, x, ut_plan_input(p, "gain", UT_F32, 0, 1, cols), x);
        ut_plan_output(p, y, "y");
        test(&c);
    }
}

static void test_acts(void)
{
    for (int act = UT_ACT_NONE; act <= UT_ACT_CLAMP; act++) {
        if (act == UT_ACT_SNAKE)
            continue;
        test_case c;
        char name[64];
        snprintf(name, sizeof name, "act %d", act);
        ut_plan *p = begin(&c, name, 5);
        const ut_tid x = ut_plan_input(p, "x", UT_F32, 2, 0, 67);
        ut_plan_output(p, ut_op_act(p, x, (ut_act)act), "y");
        ut_plan_output(p, ut_op_scale(p, x, ut_plan_input(p, "gain", UT_F32, 0, 1, 67), UT_NONE),
                       "z");
        test(&c);
    }
}

/* ---- Signals --------------------------------------------------------------------------------- */

/* Rows that a row holds `in_rows` times: what is repeated is the first of them. */
static void test_repeated_history(int32_t channels, int32_t in_rows, int32_t taps)
{
    test_case c;
    ut_plan *p = begin(&c, "repeated history", 6);
    const int32_t cols = channels * in_rows;
    const int pos = ut_state_set_add(&c.states, "pos", UT_I32, 1, 1);
    const int state = ut_state_set_add(&c.states, "history", UT_F32, taps - 1, cols);
    ut_tid x = ut_op_copy(p, ut_plan_input(p, "x", UT_F32, in_rows, 0, channels));
    x = ut_plan_reshape(p, x, cols);
    ut_op_conv_history_repeat(p, x, state, ut_plan_state(p, pos), channels);
    const ut_linear_args a = {
        .w = weight(&c, 9, taps * cols, UT_F32, 0.2f), .residual = UT_NONE, .taps = taps};
    ut_plan_output(p, ut_op_linear(p, x, &a), "y");
    ut_op_advance(p, ut_plan_state(p, pos), 0, 1);
    test(&c);
}

static void test_trim(int32_t rows, int32_t unit, bool repeat)
{
    test_case c;
    char name[64];
    snprintf(name, sizeof name, "trim %d rows of %d%s", (int)rows, (int)unit,
             repeat ? ", repeating" : "");
    ut_plan *p = begin(&c, name, 1);
    c.id_range = rows * unit + 3; /* from nothing to more than there is */
    c.id_first = -1;
    const ut_tid x = ut_op_copy(p, ut_plan_input(p, "x", UT_F32, rows, 0, 37));
    ut_op_trim(p, x, ut_plan_input(p, "count", UT_I32, 0, 1, 1), unit, repeat);
    ut_plan_output(p, ut_op_act(p, x, UT_ACT_NONE), "y");
    test(&c);
}

/* A convolution that keeps the length, and statistics over all rows. */
static void test_whole_signal(int32_t rows, int32_t left, int32_t right)
{
    test_case c;
    char name[64];
    snprintf(name, sizeof name, "whole signal of %d rows, %d + %d mirrored", (int)rows, (int)left,
             (int)right);
    ut_plan *p = begin(&c, name, 1);
    const int32_t taps = left + right + 1;
    const ut_tid x = ut_plan_input(p, "x", UT_F32, rows, 0, 20);
    const ut_linear_args a = {
        .w = weight(&c, 35, taps * 20, UT_F32, 0.2f), .residual = UT_NONE, .taps = taps};
    const ut_tid y = ut_op_linear(p, ut_op_reflect(p, x, left, right), &a);
    ut_plan_output(p, y, "y");
    ut_plan_output(p, ut_op_pool(p, y, UT_NONE), "statistics");
    ut_plan_output(p, ut_op_pool(p, ut_plan_input(p, "z", UT_F32, rows, 0, 35), y), "weighted");
    test(&c);
}

static void test_signals(void)
{
    test_repeated_history(5, 1, 7);
    test_repeated_history(4, 3, 4);
    for (int i = 0; i < 4; i++) {
        test_trim(9, 4, i % 2);
        test_trim(1, 1, i % 2);
    }
    test_whole_signal(700, 2, 2);
    test_whole_signal(11, 4, 3);
    test_whole_signal(1, 1, 1);
    test_whole_signal(3, 0, 5);
}

/* ---- Looking up and moving ------------------------------------------------------------------- */

static void test_embed(ut_dtype type, float scale)
{
    test_case c;
    ut_plan *p = begin(&c, "embed_sum", 6);
    const ut_tid ids = ut_plan_input(p, "ids", UT_I32, 1, 0, 4);
    const ut_weight *e = weight(&c, 16, 37, type, 1.0f), *ce = weight(&c, 3 * 16, 37, type, 1.0f);
    ut_plan_output(p, ut_op_embed_sum(p, ids, e, ce, 4, 11, 16, scale), "y");
    test(&c);
}

static void test_gather(ut_dtype type)
{
    static const int32_t sizes[] = {5, 16, 3};
    test_case c;
    ut_plan *p = begin(&c, "gather, copies", 6);
    const ut_tid ids = ut_plan_input(p, "ids", UT_I32, 1, 0, 4);
    const ut_tid y = ut_op_gather(p, ids, weight(&c, 24, 9, type, 1.0f), 1, 3, sizes);
    ut_plan_output(p, y, "y");
    const ut_tid fixed = ut_plan_input(p, "fixed", UT_I32, 0, 1, 2);
    const ut_tid blank = ut_op_blank(p, 3, 9);
    const ut_tid rows = ut_plan_input(p, "rows", UT_F32, 0, 2, 9);
    ut_op_gather_into(p, blank, 1, fixed, weight(&c, 12, 9, type, 1.0f), 1, 1, &(int32_t){12});
    ut_op_copy_into(p, blank, 0, rows, 1, 1);
    ut_op_copy_into(p, blank, 2, rows, -2, 1);
    ut_plan_output(p, ut_op_rms_norm(p, blank, vector(&c, 9, 1.0f), 1e-6f), "z");
    test(&c);
}

static void test_gather_sum(ut_dtype type, bool all)
{
    static const int32_t sizes[] = {5, 16, 3};
    test_case c;
    ut_plan *p = begin(&c, all ? "gather_sum with all" : "gather_sum", 6);
    c.id_first = -4;
    const ut_tid ids = ut_plan_input(p, "ids", UT_I32, 1, 0, 4);
    const ut_tid residual = all ? ut_plan_input(p, "residual", UT_F32, 1, 0, 300) : UT_NONE;
    const ut_tid extra = all ? ut_plan_input(p, "extra", UT_F32, 0, 1, 300) : UT_NONE;
    ut_plan_output(p,
                   ut_op_gather_sum(p, ids, weight(&c, 24, 300, type, 1.0f), 1, 3, sizes,
                                    all ? 0.75f : 1.0f, residual, extra),
                   "y");
    test(&c);
}

static void test_copy_cols(void)
{
    test_case c;
    ut_plan *p = begin(&c, "copy_cols", 6);
    const ut_tid x = ut_plan_input(p, "x", UT_F32, 2, 0, 13);
    const ut_tid one = ut_plan_input(p, "one", UT_F32, 0, 1, 9);
    const ut_tid y = ut_op_blank_like(p, x, 20);
    ut_op_copy_cols(p, y, 0, x, 2, 11, false);
    ut_op_copy_cols(p, y, 11, one, 0, 9, false);
    ut_op_copy_cols(p, y, 3, one, 4, 5, true);
    ut_op_copy_cols(p, y, 8, x, 0, 12, true);
    ut_plan_output(p, ut_op_act(p, y, UT_ACT_NONE), "y");
    test(&c);
}

static void set_ring(const ut_backend_ops *ops, ut_state *s, int slot, int role)
{
    int32_t rows[5][3];
    for (int i = 0; i < 15; i++)
        rows[i / 3][i % 3] = 100 * role + i;
    ops->state_write(s, 0, slot, 0, 5, rows);
}

static void test_ring_get(void)
{
    test_case c;
    ut_plan *p = begin(&c, "ring_get", 1);
    c.prepare = set_ring;
    const int ring = ut_state_set_add(&c.states, "ring", UT_I32, 5, 3);
    const int counter = ut_state_set_add(&c.states, "counter", UT_I32, 1, 1);
    static const char *const names[] = {"y0", "y1", "y2", "y3"};
    for (int i = 0; i < 4; i++) {
        ut_plan_output(
            p, ut_op_ring_get(p, ut_plan_state(p, ring), ut_plan_state(p, counter), -2, 7 * i),
            names[i]);
        ut_op_advance(p, ut_plan_state(p, counter), 3, 0);
    }
    test(&c);
}

static void test_last_row(void)
{
    test_case c;
    ut_plan *p = begin(&c, "last_row", 4);
    const ut_tid x = ut_plan_input(p, "x", UT_F32, 3, 0, 11);
    ut_plan_output(p, ut_op_rms_norm(p, ut_op_last_row(p, x), vector(&c, 11, 1.0f), 1e-6f), "y");
    test(&c);
}

/* ---- Attention ------------------------------------------------------------------------------- */

static void set_pos(const ut_backend_ops *ops, ut_state *s, int slot, int role)
{
    const int32_t pos = 2 * role;
    ops->state_write(s, 0, slot, 0, 1, &pos);
}

static void test_attention(int32_t heads, int32_t kv_heads, int32_t dim, int32_t window,
                           ut_dtype cache, bool norms, int32_t n_t, ut_rope rope)
{
    test_case c;
    char name[96];
    snprintf(name, sizeof name, "attention %d/%d heads of %d, window %d, %s, %d steps, rope %d",
             (int)heads, (int)kv_heads, (int)dim, (int)window, type_names[cache], (int)n_t,
             (int)rope);
    ut_plan *p = begin(&c, name, n_t);
    c.tolerance = cache == UT_BF16 ? 4e-3 : 1e-5;
    c.prepare = set_pos;
    const int32_t capacity = window ? window + 2 * n_t : 2 * n_t + 8;
    const int pos = ut_state_set_add(&c.states, "pos", UT_I32, 1, 1);
    const int k = ut_state_set_add(&c.states, "k", cache, capacity, kv_heads * dim);
    const int v = ut_state_set_add(&c.states, "v", cache, capacity, kv_heads * dim);
    const ut_tid x = ut_plan_input(p, "x", UT_F32, 2, 0, (heads + 2 * kv_heads) * dim);
    const ut_attn_args a = {.n_heads = heads,
                            .n_kv_heads = kv_heads,
                            .head_dim = dim,
                            .window = window,
                            .first_pos = 0,
                            .pos = ut_plan_state(p, pos),
                            .cache_k = ut_plan_state(p, k),
                            .cache_v = ut_plan_state(p, v),
                            .rope = rope};
    const ut_tid angles = ut_op_rope_angles(p, x, a.pos, 0, dim, 10000.0f, true);
    const ut_weight *gain = norms ? vector(&c, dim, 1.0f) : NULL;
    const ut_tid q = ut_op_qkv(p, x, angles, gain, gain, 1e-6f, &a);
    ut_plan_output(p, q, "q");
    ut_plan_output(p, ut_op_attention(p, q, &a), "y");
    ut_op_advance(p, a.pos, 0, 2);
    test(&c);
}

/* Fixed rows at fixed positions, as the second transformer of a DualAR model has them. */
static void test_fixed_attention(void)
{
    test_case c;
    ut_plan *p = begin(&c, "attention at fixed positions", 1);
    const int k = ut_state_set_add(&c.states, "k", UT_F32, 5, 16);
    const int v = ut_state_set_add(&c.states, "v", UT_F32, 5, 16);
    for (int step = 0; step < 3; step++) {
        static const char *const names[] = {"x0", "x1", "x2"};
        static const char *const out[] = {"y0", "y1", "y2"};
        const ut_tid x = ut_plan_input(p, names[step], UT_F32, 0, step ? 1 : 2, 4 * 16);
        const ut_attn_args a = {.n_heads = 2,
                                .n_kv_heads = 1,
                                .head_dim = 16,
                                .first_pos = step ? step + 1 : 0,
                                .pos = UT_NONE,
                                .cache_k = ut_plan_state(p, k),
                                .cache_v = ut_plan_state(p, v)};
        const ut_tid angles = ut_op_rope_angles(p, x, UT_NONE, a.first_pos, 16, 10000.0f, false);
        const ut_tid q = ut_op_qkv(p, x, angles, NULL, NULL, 1e-6f, &a);
        ut_plan_output(p, ut_op_attention(p, q, &a), out[step]);
    }
    test(&c);
}

static void test_attentions(void)
{
    test_attention(4, 2, 16, 0, UT_F32, true, 9, UT_ROPE_PAIRS);
    test_attention(4, 2, 16, 0, UT_BF16, true, 9, UT_ROPE_PAIRS);
    test_attention(3, 3, 6, 5, UT_F32, false, 9, UT_ROPE_PAIRS);
    test_attention(2, 1, 128, 0, UT_F32, true, 7, UT_ROPE_PAIRS);
    test_attention(8, 1, 64, 40, UT_F32, true, 50, UT_ROPE_PAIRS);
    test_attention(1, 1, 32, 0, UT_F32, false, 150,
                   UT_ROPE_PAIRS); /* more positions than a block has threads */
    test_attention(2, 2, 320, 7, UT_F32, true, 5, UT_ROPE_PAIRS);
    test_attention(4, 2, 16, 0, UT_F32, true, 9, UT_ROPE_HALVES);
    test_attention(3, 1, 70, 5, UT_BF16, false, 5, UT_ROPE_HALVES);
    test_fixed_attention();
}

/* ---- Deciding -------------------------------------------------------------------------------- */

static void test_nearest(int32_t entries, int32_t dim)
{
    test_case c;
    ut_plan *p = begin(&c, "nearest", 6);
    const ut_tid x = ut_plan_input(p, "x", UT_F32, 1, 0, dim);
    const ut_tid codes = ut_op_blank_ids(p, x, 4);
    ut_op_nearest(p, codes, 0, x, weight(&c, entries, dim, UT_F32, 1.0f));
    ut_op_nearest(p, codes, 1, x, weight(&c, entries, dim, UT_BF16, 1.0f));
    ut_op_nearest_euclid(p, codes, 2, x, weight(&c, entries, dim, UT_F32, 1.0f));
    ut_op_nearest_euclid(p, codes, 3, x, weight(&c, entries, dim, UT_BF16, 1.0f));
    ut_plan_output(p, codes, "codes");
    test(&c);
}

/* States of the decoding test, by index. */
enum { S_FRAME, S_COLUMN, S_HISTORY, S_PARAMS, S_RNG, S_RING };

static float sampling_params[UT_SP_COUNT];

static void set_sampling(const ut_backend_ops *ops, ut_state *s, int slot, int role)
{
    const int32_t rng[UT_RNG_COUNT] = {17 * role + 3, 5};
    ops->state_write(s, S_PARAMS, slot, 0, 1, sampling_params);
    ops->state_write(s, S_RNG, slot, 0, 1, rng);
}

/* Frames of three decisions over n logits, with everything else that makes a frame. */
static void test_frames(int32_t n, int32_t n_frames)
{
    test_case c;
    char name[96];
    snprintf(name, sizeof name, "frames of %d logits, temperature %g, top-p %g", (int)n,
             (double)sampling_params[0], (double)sampling_params[1]);
    ut_plan *p = begin(&c, name, 1);
    c.prepare = set_sampling;
    c.id_range = 1;
    ut_state_set_add(&c.states, "frame", UT_I32, 1, 1);
    ut_state_set_add(&c.states, "column", UT_I32, 1, 4);
    ut_state_set_add(&c.states, "history", UT_I32, UT_HISTORY_FRAMES, 4);
    ut_state_set_add(&c.states, "params", UT_F32, 1, UT_SP_COUNT);
    ut_state_set_add(&c.states, "rng", UT_I32, 1, UT_RNG_COUNT);
    ut_state_set_add(&c.states, "ring", UT_I32, 8, 4);
    const ut_tid column = ut_plan_state(p, S_COLUMN), frame = ut_plan_state(p, S_FRAME);
    const ut_tid logits = ut_plan_input(p, "logits", UT_F32, 0, 1, n);
    ut_sample_args a = {.dst = column,
                        .params = ut_plan_state(p, S_PARAMS),
                        .rng = ut_plan_state(p, S_RNG),
                        .frame = frame,
                        .history = ut_plan_state(p, S_HISTORY),
                        .noise = UT_NONE,
                        .probs = UT_NONE};
    const ut_weight *mix = vector(&c, n, 3.0f);
    const ut_tid scaled = ut_op_rms_norm(p, logits, mix, 1e-6f);
    for (int32_t k = 0; k < n_frames; k++) {
        a.decision = 0;
        a.col = 0;
        a.penalty = UT_PENALTY_FIRST_COLUMN;
        a.penalty_col = 0;
        a.id_first = 10;
        a.n_range = n - 1;
        a.id_extra = 2;
        ut_op_sample(p, scaled, &a);
        ut_op_token_code(p, column, 10, n / 2 + 1);
        for (int32_t col = 2; col < 4; col++) {
            a.decision = col;
            a.col = col;
            a.penalty = UT_PENALTY_CODEBOOK;
            a.penalty_col = col;
            a.id_first = 0;
            a.n_range = n;
            a.id_extra = -1;
            a.probs = UT_NONE;
            if (k + 1 == n_frames && col == 3) {
                a.probs = ut_op_blank(p, 1, n);
                ut_plan_output(p, a.probs, "probs");
            }
            ut_op_sample(p, col == 2 ? scaled : logits, &a);
        }
        ut_op_ring_put(p, ut_plan_state(p, S_RING), a.history, column, frame);
        ut_op_advance(p, frame, 1, 0);
    }
    test(&c);
}

/* States of the decoding test that tempers first. */
enum { T_FRAME, T_CHOSEN, T_SEEN, T_PARAMS, T_RNG };

static void set_tempered(const ut_backend_ops *ops, ut_state *s, int slot, int role)
{
    const int32_t rng[UT_RNG_COUNT] = {31 * role + 1, 2};
    const float other[UT_SP_COUNT] = {1.2f, 0.9f, 1.0f, 3.0f};
    ops->state_write(s, T_PARAMS, slot, 0, 1, other);
    ops->state_write(s, T_PARAMS, slot, 1, 1, sampling_params);
    ops->state_write(s, T_RNG, slot, 0, 1, rng);
}

/* Decisions with top-k, a penalty on all that was chosen before, and an entry that has to wait. */
static void test_tempered(int32_t n, int32_t n_frames)
{
    test_case c;
    char name[96];
    snprintf(name, sizeof name, "tempered, %d logits, temperature %g, top-p %g, top-k %g", (int)n,
             (double)sampling_params[0], (double)sampling_params[1], (double)sampling_params[3]);
    ut_plan *p = begin(&c, name, 1);
    c.prepare = set_tempered;
    ut_state_set_add(&c.states, "frame", UT_I32, 1, 1);
    ut_state_set_add(&c.states, "chosen", UT_I32, 1, n_frames + 1);
    ut_state_set_add(&c.states, "seen", UT_I32, 1, n);
    ut_state_set_add(&c.states, "params", UT_F32, 2, UT_SP_COUNT);
    ut_state_set_add(&c.states, "rng", UT_I32, 1, UT_RNG_COUNT);
    const ut_tid logits = ut_op_scale(p, ut_plan_input(p, "logits", UT_F32, 0, 1, n),
                                      ut_plan_input(p, "gain", UT_F32, 0, 1, n), UT_NONE);
    for (int32_t k = 0; k <= n_frames; k++) {
        ut_sample_args a = {.dst = ut_plan_state(p, T_CHOSEN),
                            .params = ut_plan_state(p, T_PARAMS),
                            .rng = ut_plan_state(p, T_RNG),
                            .frame = ut_plan_state(p, T_FRAME),
                            .history = ut_plan_state(p, T_SEEN),
                            .noise = UT_NONE,
                            .probs = UT_NONE,
                            .col = k,
                            .penalty = UT_PENALTY_ALL,
                            .id_first = 10,
                            .n_range = n - 1,
                            .id_extra = 3,
                            .narrowing = UT_TEMPER_FIRST,
                            .params_row = k < n_frames,
                            .extra_from_frame = 4};
        if (k + 1 >= n_frames) {
            a.probs = ut_op_blank(p, 1, n);
            ut_plan_output(p, a.probs, k < n_frames ? "probs" : "last");
        }
        ut_op_sample(p, logits, &a);
        ut_op_advance(p, a.frame, 1, 0);
    }
    test(&c);
}

static void test_tempered_sampling(bool small)
{
    static const float params[][UT_SP_COUNT] = {
        {0.0f, 1.0f, 1.3f, 0.0f}, {0.9f, 1.0f, 1.05f, 50.0f}, {0.8f, 0.8f, 1.1f, 0.0f},
        {1.0f, 1.0f, 1.0f, 0.0f}, {0.6f, 0.5f, 1.3f, 7.0f},   {1.5f, 0.0f, 0.8f, 1.0f}};
    static const int32_t sizes[] = {2, 5, 300, 3072, 6000};
    for (size_t i = small ? 1 : 0; i < (small ? 2 : sizeof params / sizeof params[0]); i++)
        for (size_t k = 0; k < sizeof sizes / sizeof sizes[0]; k++) {
            memcpy(sampling_params, params[i], sizeof sampling_params);
            test_tempered(sizes[k], k < 3 ? 12 : 3);
        }
}

static void test_sampling(bool small)
{
    static const float params[][UT_SP_COUNT] = {{0.0f, 1.0f, 1.0f}, {0.0f, 0.5f, 1.5f},
                                                {0.8f, 0.8f, 1.1f}, {1.0f, 1.0f, 1.0f},
                                                {0.3f, 0.1f, 1.3f}, {1.5f, 0.97f, 0.8f}};
    static const int32_t sizes[] = {2, 5, 300, 1025, 6000};
    for (size_t i = small ? 2 : 0; i < (small ? 3 : sizeof params / sizeof params[0]); i++)
        for (size_t k = 0; k < sizeof sizes / sizeof sizes[0]; k++) {
            memcpy(sampling_params, params[i], sizeof sampling_params);
            test_frames(sizes[k], k < 3 ? 20 : 3);
        }
}

/* ---- Frames ahead, resets -------------------------------------------------------------------- */

/* Many runs are started before the first is looked at; a reset starts a sequence anew. */
static void test_run_ahead(void)
{
    test_case c;
    ut_plan *p = begin(&c, "frames ahead", 1);
    memcpy(sampling_params, ((float[UT_SP_COUNT]){0.9f, 0.9f, 1.1f}), sizeof sampling_params);
    ut_state_set_add(&c.states, "frame", UT_I32, 1, 1);
    ut_state_set_add(&c.states, "column", UT_I32, 1, 2);
    ut_state_set_add(&c.states, "history", UT_I32, UT_HISTORY_FRAMES, 2);
    ut_state_set_add(&c.states, "params", UT_F32, 1, UT_SP_COUNT);
    ut_state_set_add(&c.states, "rng", UT_I32, 1, UT_RNG_COUNT);
    ut_state_set_add(&c.states, "ring", UT_I32, 32, 2);
    static const int32_t size = 40;
    const ut_tid column = ut_plan_state(p, S_COLUMN);
    const ut_sample_args a = {.dst = column,
                              .params = ut_plan_state(p, S_PARAMS),
                              .rng = ut_plan_state(p, S_RNG),
                              .frame = ut_plan_state(p, S_FRAME),
                              .history = ut_plan_state(p, S_HISTORY),
                              .noise = UT_NONE,
                              .probs = UT_NONE,
                              .n_range = size,
                              .id_extra = -1};
    const ut_tid e = ut_op_gather(p, column, weight(&c, size, 12, UT_F32, 1.0f), 0, 1, &size);
    ut_op_sample(p, ut_op_matmul(p, e, weight(&c, size, 12, UT_BF16, 2.0f), UT_NONE), &a);
    ut_op_token_code(p, column, 0, size);
    ut_op_ring_put(p, ut_plan_state(p, S_RING), a.history, column, a.frame);
    ut_op_advance(p, a.frame, 1, 0);
    ut_err err = {0};
    enum { FRAMES = 30 };
    int32_t rows[2][2][FRAMES][2]; /* reference and tested, first and second sequence */
    memset(rows, 0, sizeof rows);
    utter_status st = ut_plan_finish(p, &err);
    for (int side = 0; side < 2 && st == UTTER_OK; side++) {
        ut_backend *b = side ? tested : reference;
        const ut_backend_ops *ops = b->ops;
        ut_exec *exec = NULL;
        ut_state *s = NULL;
        st = ops->compile(b, p, 1, 1, &exec, &err);
        if (st == UTTER_OK)
            st = ops->state_new(b, &c.states, 2, &s, &err);
        for (int round = 0; round < 2 && st == UTTER_OK; round++) {
            ops->state_reset(s, 1);
            set_sampling(ops, s, 1, 1);
            for (int f = 0; f < FRAMES && st == UTTER_OK; f++)
                st = ops->run(exec, s, 1, 1, &err);
            for (int f = 0; f < FRAMES && st == UTTER_OK; f++)
                st = ops->ring_wait(s, S_RING, 1, f, rows[side][round][f], &err);
            for (int f = 0; f < 7 && st == UTTER_OK; f++) /* frames that nobody waits for */
                st = ops->run(exec, s, 1, 1, &err);
        }
        ops->state_free(s);
        ops->exec_free(exec);
    }
    check(st == UTTER_OK, c.name, err.msg);
    check(memcmp(rows[0][0], rows[0][1], sizeof rows[0][0]) == 0, c.name, "a reset is no restart");
    check(memcmp(rows[0], rows[1], sizeof rows[0]) == 0, c.name, "other codes than the reference");
    bool varies = false;
    for (int f = 1; f < FRAMES; f++)
        varies = varies || rows[1][0][f][0] != rows[1][0][0][0];
    check(varies, c.name, "all frames are the same");
    end(&c);
}

/* ---- All ------------------------------------------------------------------------------------- */

static bool is_available(const char *name)
{
    for (const ut_backend_ops *const *b = ut_backends(); *b; b++)
        if (strcmp((*b)->name, name) == 0) {
            char text[256] = "";
            if ((*b)->probe(0, text, sizeof text))
                return true;
            printf("skipped: no %s device: %s\n", strcmp(name, "cuda") ? name : "CUDA", text);
            return false;
        }
    printf("skipped: this build has no backend %s\n", name);
    return false;
}

int main(int argc, char **argv)
{
    const char *name = argc > 1 ? argv[1] : "cpu";
    const bool small = argc > 2 && strcmp(argv[2], "--small") == 0;
    const ut_precision precision = argc <= 2                        ? UT_PRECISION_AUTO
                                   : strcmp(argv[2], "--int8") == 0 ? UT_PRECISION_INT8
                                   : strcmp(argv[2], "--int4") == 0 ? UT_PRECISION_INT4
                                                                    : UT_PRECISION_AUTO;
    const ut_backend_params scalar = {.threads = 1, .precision = precision, .cpu_flags_off = ~0u};
    const ut_backend_params usual = {.threads = 2, .precision = precision};
    ut_err err = {0};
    if (!is_available(name))
        return 0;
    if (ut_backend_open(&reference, "cpu", &scalar, &err) != UTTER_OK ||
        ut_backend_open(&tested, name, &usual, &err) != UTTER_OK) {
        printf("FAIL %s\n", err.msg);
        return 1;
    }
    char text[256];
    tested->ops->describe(tested, text, sizeof text);
    printf("%s\n", text);
    random_state = 0x9e3779b97f4a7c15u;
    test_linears();
    test_convs();
    if (precision != UT_PRECISION_AUTO)
        goto done;
    test_rowwise(1);
    test_rowwise(37);
    test_rowwise(1024);
    test_acts();
    test_signals();
    test_embed(UT_F32, 1.0f);
    test_embed(UT_BF16, 0.5f);
    test_gather(UT_F32);
    test_gather(UT_F16);
    test_gather_sum(UT_F32, false);
    test_gather_sum(UT_BF16, true);
    test_copy_cols();
    test_ring_get();
    test_last_row();
    test_attentions();
    test_nearest(300, 8);
    test_nearest(5, 33);
    test_sampling(small);
    test_tempered_sampling(small);
    test_run_ahead();
done:
    tested->ops->close(tested);
    reference->ops->close(reference);
    printf("%d passed, %d failed\n", n_passed, n_failed);
    return n_failed ? 1 : 0;
}
