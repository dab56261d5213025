/* shapes.c - attention, products and first passes in many shapes, in all ways. */
#include "fixture.h"
#include "base/alloc.h"
#include <math.h>
#include <stdio.h>
#include <string.h>

enum { RUNS = 2 };

/* A decision that nobody reads: a plan without one is heard, and keeps other types. */
static void decide(decoder *d)
{
    ut_plan *p = d->plan;
    const int first = T_CACHES + 2 * LAYERS;
    const ut_sample_args a = {.dst = ut_plan_state(p, first),
                              .params = ut_plan_state(p, first + 1),
                              .rng = ut_plan_state(p, first + 2),
                              .frame = ut_plan_state(p, first + 3),
                              .history = UT_NONE,
                              .noise = UT_NONE,
                              .probs = UT_NONE,
                              .n_range = CODES,
                              .id_extra = -1};
    ut_op_sample(p, d->logits, &a);
}

static utter_status make_shaped(decoder *d, const shape *s, int32_t rows, ut_err *err)
{
    static const int32_t codes = CODES;
    const int32_t width = s->width;
    *d = (decoder){.type = UT_F32};
    random_state = 7;
    ut_state_set_add(&d->states, "pos", UT_I32, 1, 1);
    ut_state_set_add(&d->states, "column", UT_I32, 1, 2);
    for (int i = 0; i < 2 * LAYERS; i++)
        ut_state_set_add(&d->states, "cache", UT_F32, s->capacity, s->kv_heads * s->dim);
    for (int i = 0; i < 2 * LAYERS; i++)
        d->states.def[T_CACHES + i].keep = true; /* those may be bf16 */
    ut_state_set_add(&d->states, "code", UT_I32, 1, 1);
    ut_state_set_add(&d->states, "params", UT_F32, 1, UT_SP_COUNT);
    ut_state_set_add(&d->states, "rng", UT_I32, 1, UT_RNG_COUNT);
    ut_state_set_add(&d->states, "frame", UT_I32, 1, 1);
    ut_plan *p = d->plan = ut_plan_new("shape", &d->states, NULL);
    if (!p)
        return UTTER_ERR_NOMEM;
    const ut_weight *w[LAYERS][7] = {{NULL}}, *table = weight(d, CODES, width, UT_F32);
    layer_weights(d, s, w);
    const ut_weight *head = weight(d, CODES, width, UT_F32), *start = weight(d, 1, width, UT_F32);
    const ut_tid column = ut_plan_state(p, T_COLUMN);
    ut_tid x = UT_NONE;
    for (int32_t done = 0; done < s->positions;) {
        const int32_t n = done == 0 ? rows : 1;
        const ut_tid before = done > 0 ? ut_op_last_row(p, x) : UT_NONE;
        x = ut_op_blank(p, n, width);
        for (int32_t r = 0; r < n; r++)
            if (done + r == 1)
                ut_op_gather_into(p, x, r, column, table, 1, 1, &codes);
            else if (done == 0)
                ut_op_gather_into(p, x, r, column, table, 0, 1, &codes);
            else
                ut_op_copy_into(p, x, r, before, 0, 1);
        x = ut_op_rms_norm(p, x, start, 1e-5f); /* f32, and none of bf16 */
        for (int i = 0; i < LAYERS; i++)
            x = shaped_layer(d, s, w[i], x, (s->state ? 0 : s->first) + done, i);
        done += n;
    }
    d->logits = ut_op_matmul(p, ut_op_last_row(p, x), head, UT_NONE);
    ut_plan_output(p, d->logits, "logits");
    decide(d);
    ut_op_advance(p, ut_plan_state(p, T_POS), (uint32_t)s->positions, 0);
    return ut_plan_finish(p, err);
}

typedef struct shaped_trail {
    float logits[RUNS][MOST_SLOTS][CODES];
    uint64_t caches[MOST_SLOTS]; /* hash */
} shaped_trail;

/* Caches of a sequence before its first frame; those of a whole state are hashed after its last. */
static bool write_caches(const ut_backend_ops *ops, ut_state *st, const shape *s, int slot, int seq)
{
    const size_t n = (size_t)s->capacity * (size_t)(s->kv_heads * s->dim);
    float *data = ut_malloc(n * sizeof *data);
    random_state = 100 + (uint32_t)seq;
    for (int i = 0; data && i < 2 * LAYERS; i++) {
        for (size_t k = 0; k < n; k++)
            data[k] = random_float(1.5f);
        ops->state_write(st, T_CACHES + i, slot, 0, s->capacity, data);
    }
    ut_free(data);
    return data != NULL;
}

static uint64_t hash_caches(const ut_backend_ops *ops, ut_state *st, const shape *s, int slot)
{
    const size_t n = (size_t)s->capacity * (size_t)(s->kv_heads * s->dim);
    uint32_t *data = ut_malloc(n * sizeof *data);
    uint64_t hash = 14695981039346656037u;
    for (int i = 0; data && i < 2 * LAYERS; i++) {
        ops->state_read(st, T_CACHES + i, slot, 0, s->capacity, data);
        for (size_t k = 0; k < n; k++)
            hash = (hash ^ data[k]) * 1099511628211u;
    }
    ut_free(data);
    return hash;
}

static utter_status run_shaped(const decoder *d, const shape *s, ut_backend *b, cu_frames how,
                               int first, int slots, shaped_trail *out, ut_err *err)
{
    const ut_backend_ops *ops = b->ops;
    ut_exec *e = NULL;
    ut_state *state = NULL;
    memset(out, 0, sizeof *out);
    ((cu_backend *)b)->frames = how;
    utter_status st = ops->compile(b, d->plan, slots, 1, &e, err);
    if (st == UTTER_OK)
        check(how == CU_FRAMES_STEPS || is_as_wanted(s, ((cu_exec *)e)->frame), s->name,
              "is not in phases, or in those of another kernel");
    if (st == UTTER_OK)
        st = ops->state_new(b, &d->states, slots, &state, err);
    for (int i = 0; i < slots && st == UTTER_OK; i++) {
        const int32_t column[2] = {(first + i) % CODES, (first + i + 11) % CODES};
        ops->state_write(state, T_POS, i, 0, 1, &s->pos[first + i]);
        ops->state_write(state, T_COLUMN, i, 0, 1, column);
        if (!write_caches(ops, state, s, i, first + i))
            st = UTTER_ERR_NOMEM;
    }
    for (int f = 0; f < RUNS && st == UTTER_OK; f++) {
        st = ops->run(e, state, 0, 1, err);
        const void *logits = st == UTTER_OK ? ops->output(e, d->logits, err) : NULL;
        if (logits)
            memcpy(out->logits[f], logits, sizeof(float) * CODES * (size_t)slots);
    }
    for (int i = 0; i < slots && st == UTTER_OK; i++)
        out->caches[i] = hash_caches(ops, state, s, i);
    ops->state_free(state);
    ops->exec_free(e);
    return st;
}

/* Slot 0 of a and a slot of b: the same bits? */
static bool same_slot(const shaped_trail *a, const shaped_trail *b, int slot)
{
    bool same = a->caches[0] == b->caches[slot];
    for (int f = 0; f < RUNS; f++)
        same = same && memcmp(a->logits[f][0], b->logits[f][slot], sizeof a->logits[f][slot]) == 0;
    return same;
}

static void compare_many(const decoder *d, const shape *s, ut_backend *b, float tolerance,
                         const shaped_trail *whole, shaped_trail *other, ut_err *err)
{
    for (int i = 0; i < s->slots; i++) {
        char text[64];
        float most = 0.0f;
        utter_status st = run_shaped(d, s, b, CU_FRAMES_WHOLE, i, 1, other, err);
        check(st == UTTER_OK, s->name, err->msg);
        check(same_slot(other, whole, i), s->name, "a slot alone has other bits");
        st = run_shaped(d, s, b, CU_FRAMES_STEPS, i, 1, other, err);
        check(st == UTTER_OK, s->name, err->msg);
        for (int f = 0; f < RUNS; f++)
            for (int c = 0; c < CODES; c++) {
                const float diff = fabsf(other->logits[f][0][c] - whole->logits[f][i][c]);
                most = diff > most || diff != diff ? diff : most;
            }
        snprintf(text, sizeof text, "slot %d differs by %g from the steps", i, (double)most);
        check(most < tolerance, s->name, text);
    }
}

/* In one kernel and in phases, beside others and alone, two rows at once or one after the other:
 * the same bits; as steps: the same numbers. */
static void compare_shape(const shape *s, ut_backend *b, float tolerance, shaped_trail t[3])
{
    ut_err err = {0};
    decoder d;
    utter_status st = make_shaped(&d, s, s->rows, &err);
    if (st == UTTER_OK)
        st = run_shaped(&d, s, b, CU_FRAMES_WHOLE, 0, s->slots, &t[0], &err);
    if (st == UTTER_OK)
        st = run_shaped(&d, s, b, CU_FRAMES_PHASES, 0, s->slots, &t[1], &err);
    check(st == UTTER_OK, s->name, err.msg);
    if (st == UTTER_OK) {
        check(memcmp(&t[0], &t[1], sizeof t[0]) == 0, s->name, "other bits in phases");
        compare_many(&d, s, b, tolerance, &t[0], &t[2], &err);
    }
    free_decoder(&d);
    if (st != UTTER_OK || s->rows == 1)
        return;
    st = make_shaped(&d, s, 1, &err);
    if (st == UTTER_OK)
        st = run_shaped(&d, s, b, CU_FRAMES_WHOLE, 0, s->slots, &t[1], &err);
    check(st == UTTER_OK, s->name, err.msg);
    check(memcmp(&t[0], &t[1], sizeof t[0]) == 0, s->name, "rows one by one have other bits");
    free_decoder(&d);
}

void test_shapes(void)
{
    shaped_trail *t = ut_calloc(3, sizeof *t);
    check(t != NULL, "memory", "none");
    if (!t)
        return;
    /* width, gated; heads, of keys, size; capacity, window; positions, rows; first; state; slots */
    static const shape shapes[] = {
        {"few positions", 64, 0, 4, 2, 64, 10, 0, 8, 2, 0, false, 3, {0}},
        {"few, heads of 128", 64, 0, 4, 2, 128, 16, 0, 4, 2, 12, false, 1, {0}},
        {"few, a window", 64, 0, 2, 2, 32, 16, 5, 7, 2, 3, false, 8, {0}},
        {"few, ten queries", 64, 0, 10, 1, 16, 12, 0, 3, 1, 4, false, 1, {0}},
        {"few, sixteen queries", 64, 0, 8, 1, 64, 16, 0, 3, 2, 6, false, 2, {0}},
        {"a span's end", 64, 0, 4, 2, 64, 80, 0, 4, 2, 62, false, 2, {0}},
        {"two rows in two spans", 64, 0, 4, 2, 64, 80, 0, 2, 2, 63, false, 1, {0}},
        {"ends", 64, 0, 4, 2, 32, 576, 0, 1, 1, 0, true, 8, {62, 63, 64, 126, 127, 128, 300, 510}},
        {"spans' ends, rows",
         64,
         0,
         4,
         2,
         32,
         320,
         0,
         2,
         2,
         0,
         true,
         6,
         {61, 62, 63, 126, 127, 300}},
        {"heads of 128", 64, 0, 4, 2, 128, 320, 0, 1, 1, 0, true, 3, {5, 129, 300}},
        {"one head per key", 64, 0, 3, 3, 16, 200, 0, 1, 1, 0, true, 2, {0, 190}},
        {"four heads per key", 64, 0, 8, 2, 64, 200, 0, 2, 2, 0, true, 2, {128, 63}},
        {"sixteen queries", 64, 0, 8, 1, 64, 200, 0, 2, 2, 0, true, 2, {127, 62}},
        {"three heads per key", 64, 0, 6, 2, 32, 200, 0, 1, 1, 0, true, 2, {100, 20}},
        {"many spans", 64, 0, 2, 1, 16, 1300, 0, 1, 1, 0, true, 3, {1200, 511, 512}},
        {"a window", 64, 0, 4, 2, 32, 150, 100, 2, 2, 0, true, 4, {40, 99, 163, 1000}},
        {"a window of one", 64, 0, 4, 2, 32, 80, 1, 2, 2, 0, true, 2, {63, 500}},
        {"a window of many spans", 64, 0, 2, 1, 16, 900, 800, 2, 2, 0, true, 3, {100, 1000, 1343}},
        {"a ring", 64, 0, 4, 2, 32, 90, 0, 1, 1, 0, true, 3, {88, 89, 200}},
        {"a small ring", 64, 0, 4, 2, 32, 12, 0, 1, 1, 0, true, 3, {10, 63, 64}},
        {"tensor: few", 512, 0, 8, 4, 64, 10, 0, 4, 2, 0, false, 2, {0}},
        {"tensor: few of 128", 512, 0, 4, 2, 128, 16, 0, 4, 2, 12, false, 1, {0}},
        {"tensor: few, a window", 512, 0, 8, 4, 64, 16, 5, 4, 2, 3, false, 2, {0}},
        {"tensor: few, one per key", 512, 0, 4, 4, 128, 16, 0, 3, 2, 6, false, 2, {0}},
        {"tensor: few, eight per key", 512, 0, 8, 1, 64, 16, 0, 3, 2, 6, false, 2, {0}},
        {"tensor: known", 512, 0, 4, 2, 128, 80, 0, 4, 2, 62, false, 2, {0}},
        {"tensor: short", 512, 0, 4, 2, 128, 40, 0, 3, 1, 36, false, 1, {0}},
        {"tensor: two spans", 512, 0, 4, 2, 128, 80, 0, 2, 2, 63, false, 1, {0}},
        {"tensor: ends", 512, 0, 4, 2, 128, 576, 0, 1, 1, 0, true, 4, {62, 63, 64, 510}},
        {"tensor: ends, rows", 512, 0, 4, 2, 128, 320, 0, 2, 2, 0, true, 2, {63, 126}},
        {"tensor: one per key", 512, 0, 4, 4, 128, 192, 0, 1, 1, 0, true, 2, {0, 190}},
        {"tensor: four per key", 512, 0, 4, 1, 128, 1280, 0, 1, 1, 0, true, 2, {1200, 512}},
        {"tensor: a window", 512, 0, 4, 2, 128, 128, 100, 2, 2, 0, true, 2, {99, 1000}},
        {"tensor: a window of one", 512, 0, 4, 2, 128, 64, 1, 2, 2, 0, true, 2, {63, 500}},
        {"tensor: many", 512, 0, 4, 1, 128, 896, 800, 2, 2, 0, true, 2, {1000, 1343}},
        {"tensor: a ring", 512, 0, 4, 2, 128, 64, 0, 1, 1, 0, true, 2, {63, 200}},
        {"tensor: 1024 columns", 1024, 1024, 8, 4, 128, 128, 0, 1, 1, 0, true, 2, {5, 64}},
        {"tensor: 2048 columns", 2048, 512, 4, 2, 128, 64, 0, 1, 1, 0, true, 1, {5}},
        {"tensor: 32 heads", 512, 0, 32, 8, 64, 16, 0, 2, 1, 0, false, 2, {0}},
        {"tensor: 24 heads", 512, 0, 24, 6, 128, 64, 0, 1, 1, 0, true, 1, {5}},
        {"tensor: 3072 columns", 3072, 0, 4, 2, 128, 128, 0, 1, 1, 0, true, 1, {64}},
    };
    static const struct {
        ut_precision precision;
        float tolerance;
    } ways[] = {{UT_PRECISION_F32, 1e-4f}, {UT_PRECISION_BF16, 4e-2f}};
    for (size_t k = 0; k < sizeof ways / sizeof ways[0]; k++) {
        ut_err err = {0};
        ut_backend *b = NULL;
        const utter_status st =
            ut_backend_open(&b, "cuda", &(ut_backend_params){.precision = ways[k].precision}, &err);
        check(st == UTTER_OK, "opening", err.msg);
        for (size_t i = 0; st == UTTER_OK && i < sizeof shapes / sizeof shapes[0]; i++)
            if (is_chosen(shapes[i].name) && is_for(&shapes[i], b, ways[k].precision))
                compare_shape(&shapes[i], b, ways[k].tolerance, t);
        if (st == UTTER_OK)
            b->ops->close(b);
    }
    ut_free(t);
}

/* Two rows in the first pass have code of their own, where a block has few rows of a matrix: so
 * there are so many blocks at least. */
void test_pairs(void)
{
    shaped_trail *t = ut_calloc(3, sizeof *t);
    check(t != NULL, "memory", "none");
    if (!t)
        return;
    static const struct {
        int blocks;
        shape shape;
    } pairs[] = {
        {8, {"pairs: 1024", 1024, 1024, 8, 2, 128, 16, 0, 2, 2, 0, false, 1, {0}}},
        {13, {"pairs: 2048", 1024, 0, 16, 4, 128, 16, 0, 2, 2, 0, false, 1, {0}}},
        {25, {"pairs: 3072", 512, 0, 24, 6, 128, 16, 0, 2, 2, 0, false, 1, {0}}},
        {42, {"pairs: a chunk", 1024, 0, 8, 1, 64, 16, 0, 2, 2, 0, false, 1, {0}}},
    };
    ut_err err = {0};
    ut_backend *b = NULL;
    const utter_status st =
        ut_backend_open(&b, "cuda", &(ut_backend_params){.precision = UT_PRECISION_BF16}, &err);
    check(st == UTTER_OK, "opening", err.msg);
    for (size_t i = 0; st == UTTER_OK && i < sizeof pairs / sizeof pairs[0]; i++) {
        int *blocks = &((cu_backend *)b)->sm_count;
        const int all = *blocks;
        *blocks = pairs[i].blocks > all ? pairs[i].blocks : all;
        if (is_chosen(pairs[i].shape.name) && is_for(&pairs[i].shape, b, UT_PRECISION_BF16))
            compare_shape(&pairs[i].shape, b, 4e-2f, t);
        *blocks = all;
    }
    if (st == UTTER_OK)
        b->ops->close(b);
    ut_free(t);
}
