/* test_frames.c - a decoder's frame on the CUDA backend in every way it can run: as operations one
 * by one, in phases, and as one kernel. The last two give the same bits, the first the same numbers
 * but for rounding; a slot's bits do not depend on the slots beside it. Without cmocka: it also
 * runs where there is a GPU and little else (scripts/gpu-check).
 *
 *     test_frames [--pairs | --but-pairs]
 *
 * --pairs: only first passes of two rows, which takes long on an emulated device; --but-pairs: all
 * else. Exit status 1 when a check failed; without a GPU there is nothing to do. */
#include "backends/cuda/frame.h"
#include "base/alloc.h"
#include "base/half.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    SLOTS = 3,
    HIDDEN = 1536,
    HEADS = 4,
    KV_HEADS = 2,
    DIM = 64,
    INNER = 96,
    CODES = 40,
    SMALL = 48
};
enum { LAYERS = 2, CAPACITY = 160, FRAMES = 12, FIRST_POS = 58 }; /* across a span's end */
enum { QKV = (HEADS + 2 * KV_HEADS) * DIM, Q = HEADS * DIM };
enum { S_FRAME, S_POS, S_COLUMN, S_HISTORY, S_PARAMS, S_RNG, S_RING, S_CACHES };
enum { MAX_WEIGHTS = 8 * LAYERS + 16 };

static int n_passed, n_failed;

static void check(bool ok, const char *what, const char *more)
{
    n_passed += ok;
    n_failed += !ok;
    if (!ok)
        printf("FAIL %s: %s\n", what, more);
}

/* ---- A small decoder ------------------------------------------------------------------------- */

typedef struct decoder {
    ut_state_set states;
    ut_plan *plan;
    ut_tid logits;
    ut_weight weights[MAX_WEIGHTS];
    int n_weights;
    ut_dtype type; /* of matrices */
} decoder;

static uint32_t random_state = 1;

static float random_float(float scale)
{
    random_state = random_state * 1664525u + 1013904223u;
    return scale * ((float)(random_state >> 8) * (1.0f / 8388608.0f) - 1.0f);
}

static const ut_weight *weight(decoder *d, int32_t rows, int32_t cols, ut_dtype type)
{
    const size_t n = (size_t)rows * (size_t)cols, size = ut_dtype_size(type);
    ut_weight *w = &d->weights[d->n_weights++];
    uint8_t *data = ut_malloc(n * size);
    if (!data)
        exit(1);
    for (size_t i = 0; i < n; i++) {
        const float f = random_float(rows == 1 ? 1.0f : 2.0f / sqrtf((float)cols));
        const uint16_t h = ut_f32_to_bf16(f);
        memcpy(data + i * size, type == UT_F32 ? (const void *)&f : (const void *)&h, size);
    }
    *w = (ut_weight){.name = "w", .rows = rows, .cols = cols, .n_parts = 1};
    w->part[0] = (ut_weight_part){data, type, rows};
    return w;
}

static ut_tid layer(decoder *d, ut_tid x, ut_tid angles, int i)
{
    ut_plan *p = d->plan;
    const ut_attn_args attn = {.n_heads = HEADS,
                               .n_kv_heads = KV_HEADS,
                               .head_dim = DIM,
                               .pos = ut_plan_state(p, S_POS),
                               .cache_k = ut_plan_state(p, S_CACHES + 2 * i),
                               .cache_v = ut_plan_state(p, S_CACHES + 2 * i + 1),
                               .rope = i % 2 ? UT_ROPE_HALVES : UT_ROPE_PAIRS};
    ut_tid h = ut_op_rms_norm(p, x, weight(d, 1, HIDDEN, UT_F32), 1e-5f);
    h = ut_op_matmul(p, h, weight(d, QKV, HIDDEN, d->type), UT_NONE);
    const ut_weight *norm = i % 2 ? weight(d, 1, DIM, UT_F32) : NULL;
    h = ut_op_attention(p, ut_op_qkv(p, h, angles, norm, norm, 1e-6f, &attn), &attn);
    x = ut_op_matmul(p, h, weight(d, HIDDEN, Q, d->type), x);
    h = ut_op_rms_norm(p, x, weight(d, 1, HIDDEN, UT_F32), 1e-5f);
    h = ut_op_swiglu(p, ut_op_matmul(p, h, weight(d, 2 * INNER, HIDDEN, d->type), UT_NONE));
    return ut_op_matmul(p, h, weight(d, HIDDEN, INNER, d->type), x);
}

static utter_status make_decoder(decoder *d, ut_dtype type, ut_err *err)
{
    static const int32_t codes = CODES;
    *d = (decoder){.type = type};
    ut_state_set *s = &d->states;
    ut_state_set_add(s, "frame", UT_I32, 1, 1);
    ut_state_set_add(s, "pos", UT_I32, 1, 1);
    ut_state_set_add(s, "column", UT_I32, 1, 2);
    ut_state_set_add(s, "history", UT_I32, UT_HISTORY_FRAMES, 2);
    ut_state_set_add(s, "params", UT_F32, 1, UT_SP_COUNT);
    ut_state_set_add(s, "rng", UT_I32, 1, UT_RNG_COUNT);
    ut_state_set_add(s, "ring", UT_I32, 32, 2);
    for (int i = 0; i < 2 * LAYERS; i++)
        ut_state_set_add(s, "cache", UT_F32, CAPACITY, KV_HEADS * DIM);
    ut_plan *p = d->plan = ut_plan_new("frame", s, NULL);
    if (!p)
        return UTTER_ERR_NOMEM;
    const ut_tid pos = ut_plan_state(p, S_POS), column = ut_plan_state(p, S_COLUMN);
    ut_tid x = ut_op_gather(p, column, weight(d, CODES, HIDDEN, d->type), 0, 1, &codes);
    /* products of rows that were looked up, with a norm and without */
    ut_tid small = ut_op_gather(p, column, weight(d, CODES, SMALL, d->type), 0, 1, &codes);
    small = ut_op_rms_norm(p, small, weight(d, 1, SMALL, UT_F32), 1e-5f);
    x = ut_op_matmul(p, small, weight(d, HIDDEN, SMALL, d->type), x);
    small = ut_op_gather(p, column, weight(d, CODES, SMALL, d->type), 1, 1, &codes);
    x = ut_op_matmul(p, small, weight(d, HIDDEN, SMALL, d->type), x);
    const ut_tid angles = ut_op_rope_angles(p, x, pos, 0, DIM, 1e4f, false);
    for (int i = 0; i < LAYERS; i++)
        x = layer(d, x, angles, i);
    ut_op_advance(p, pos, 1, 0);
    x = ut_op_rms_norm(p, x, weight(d, 1, HIDDEN, UT_F32), 1e-5f);
    const ut_linear_args head = {.w = weight(d, CODES, HIDDEN, d->type),
                                 .bias = weight(d, 1, CODES, UT_F32),
                                 .act = UT_ACT_TANH,
                                 .residual = UT_NONE};
    d->logits = ut_op_linear(p, x, &head);
    ut_plan_output(p, d->logits, "logits");
    const ut_sample_args a = {.dst = column,
                              .params = ut_plan_state(p, S_PARAMS),
                              .rng = ut_plan_state(p, S_RNG),
                              .frame = ut_plan_state(p, S_FRAME),
                              .history = ut_plan_state(p, S_HISTORY),
                              .noise = UT_NONE,
                              .probs = UT_NONE,
                              .n_range = CODES,
                              .id_extra = -1};
    ut_op_sample(p, d->logits, &a);
    ut_op_token_code(p, column, 0, CODES);
    ut_op_ring_put(p, ut_plan_state(p, S_RING), a.history, column, a.frame);
    ut_op_advance(p, a.frame, 1, 0);
    return ut_plan_finish(p, err);
}

static void free_decoder(decoder *d)
{
    ut_plan_free(d->plan);
    for (int i = 0; i < d->n_weights; i++)
        ut_free((void *)(uintptr_t)d->weights[i].part[0].data);
}

/* ---- Running it ------------------------------------------------------------------------------ */

typedef struct trail {
    int32_t codes[SLOTS][FRAMES][2];
    float logits[FRAMES][SLOTS][CODES];
    float cache[SLOTS][CAPACITY][KV_HEADS * DIM];
} trail;

/* Sequences first .. first + slots - 1, each in a slot. */
static utter_status run(const decoder *d, ut_backend *b, cu_frames how, int first, int slots,
                        trail *out, ut_err *err)
{
    const ut_backend_ops *ops = b->ops;
    ut_exec *e = NULL;
    ut_state *s = NULL;
    memset(out, 0, sizeof *out);
    ((cu_backend *)b)->frames = how;
    utter_status st = ops->compile(b, d->plan, slots, 1, &e, err);
    if (st == UTTER_OK)
        check(((cu_exec *)e)->frames == how && (how == CU_FRAMES_STEPS || ((cu_exec *)e)->frame),
              "frame", "is not run as it was asked for");
    if (st == UTTER_OK)
        st = ops->state_new(b, &d->states, slots, &s, err);
    for (int i = 0; i < slots && st == UTTER_OK; i++) {
        const int32_t seq = first + i, rng[UT_RNG_COUNT] = {seq, 0}, pos = FIRST_POS + 3 * seq;
        const float params[UT_SP_COUNT] = {0.9f, 0.9f, 1.1f};
        ops->state_write(s, S_POS, i, 0, 1, &pos);
        ops->state_write(s, S_PARAMS, i, 0, 1, params);
        ops->state_write(s, S_RNG, i, 0, 1, rng);
    }
    for (int f = 0; f < FRAMES && st == UTTER_OK; f++) {
        st = ops->run(e, s, 0, 1, err);
        const void *logits = st == UTTER_OK ? ops->output(e, d->logits, err) : NULL;
        if (logits)
            memcpy(out->logits[f], logits, sizeof(float) * CODES * (size_t)slots);
        for (int i = 0; i < slots && st == UTTER_OK; i++)
            st = ops->ring_wait(s, S_RING, i, f, out->codes[i][f], err);
    }
    for (int i = 0; i < slots && st == UTTER_OK; i++)
        ops->state_read(s, S_CACHES + 2 * LAYERS - 1, i, 0, CAPACITY, out->cache[i]);
    ops->state_free(s);
    ops->exec_free(e);
    return st;
}

/* Of a slot of a and a slot of b, in the first frames. */
static float most_different(const trail *a, int slot_a, const trail *b, int slot, int frames)
{
    float most = 0.0f;
    for (int f = 0; f < frames; f++)
        for (int i = 0; i < CODES; i++) {
            const float d = fabsf(a->logits[f][slot_a][i] - b->logits[f][slot][i]);
            most = d > most || d != d ? d : most;
        }
    return most;
}

/* Steps of one slot at a time: those of several take kernels that round x to bf16. */
static void compare_with_steps(const decoder *d, ut_backend *b, const trail *whole, trail *steps)
{
    for (int i = 0; i < SLOTS; i++) {
        ut_err err = {0};
        char text[64];
        const utter_status st = run(d, b, CU_FRAMES_STEPS, i, 1, steps, &err);
        check(st == UTTER_OK, "steps", err.msg);
        if (st != UTTER_OK)
            return;
        const float error = most_different(steps, 0, whole, i, FRAMES);
        snprintf(text, sizeof text, "differ by %g from the steps", (double)error);
        check(error < 1e-4f, "logits of phases", text);
        check(memcmp(steps->codes[0], whole->codes[i], sizeof steps->codes[0]) == 0, "phases",
              "other codes");
    }
}

/* Steps of several slots do more at a time, with bf16 on tensor cores: x is rounded, and codes may
 * be others from some frame on. What they are does not depend on the slots beside them. */
static void compare_slots(const decoder *d, ut_backend *b, const trail *whole, trail *t)
{
    trail *three = &t[0], *two = &t[3];
    ut_err err = {0};
    char text[64];
    utter_status st = run(d, b, CU_FRAMES_STEPS, 0, SLOTS, three, &err);
    if (st == UTTER_OK)
        st = run(d, b, CU_FRAMES_STEPS, 1, SLOTS - 1, two, &err);
    check(st == UTTER_OK, "steps of slots", err.msg);
    if (st != UTTER_OK)
        return;
    const bool exact = d->type == UT_F32;
    for (int i = 0; i < SLOTS; i++) {
        const float error = most_different(three, i, whole, i, exact ? FRAMES : 1);
        snprintf(text, sizeof text, "differ by %g from phases", (double)error);
        check(error < (exact ? 1e-4f : 0.03f), "logits of slots", text);
        check(!exact || memcmp(three->codes[i], whole->codes[i], sizeof whole->codes[i]) == 0,
              "slots", "other codes than phases");
    }
    for (int i = 1; i < SLOTS; i++) {
        check(memcmp(three->codes[i], two->codes[i - 1], sizeof two->codes[0]) == 0 &&
                  most_different(three, i, two, i - 1, FRAMES) == 0.0f &&
                  memcmp(three->cache[i], two->cache[i - 1], sizeof two->cache[0]) == 0,
              "a slot's steps", "other bits beside other slots");
    }
}

static void compare(const decoder *d, ut_backend *b, trail *t)
{
    ut_err err = {0};
    trail *steps = &t[0], *phases = &t[1], *whole = &t[2], *alone = &t[3];
    utter_status st = run(d, b, CU_FRAMES_PHASES, 0, SLOTS, phases, &err);
    if (st == UTTER_OK)
        st = run(d, b, CU_FRAMES_WHOLE, 0, SLOTS, whole, &err);
    if (st == UTTER_OK)
        st = run(d, b, CU_FRAMES_WHOLE, 1, 1, alone, &err);
    check(st == UTTER_OK, "frames", err.msg);
    if (st != UTTER_OK)
        return;
    compare_with_steps(d, b, whole, steps);
    check(memcmp(phases, whole, sizeof *whole) == 0, "one kernel", "other bits than in phases");
    check(memcmp(alone->codes[0], whole->codes[1], sizeof alone->codes[0]) == 0 &&
              memcmp(alone->cache[0], whole->cache[1], sizeof alone->cache[0]) == 0,
          "a slot alone", "other bits than beside others");
    for (int f = 0; f < FRAMES; f++)
        check(memcmp(alone->logits[f][0], whole->logits[f][1], sizeof alone->logits[f][0]) == 0,
              "a slot alone", "other logits than beside others");
    check(memcmp(whole->codes[0], whole->codes[1], sizeof whole->codes[0]) != 0, "frames",
          "all sequences are the same");
    compare_slots(d, b, whole, t);
}

/* ---- Attention of many shapes ---------------------------------------------------------------- */

enum { MOST_SLOTS = 8, RUNS = 2 };

/* A frame of `positions` new positions, by passes: the first has rows of them, the others one. */
typedef struct shape {
    const char *name;
    int32_t width; /* of the decoder; from 512 on, frames of bf16 are on tensor cores */
    int32_t gated; /* columns of a swiglu in every layer, or 0 */
    int32_t heads, kv_heads, dim, capacity, window, positions, rows;
    int32_t first; /* position of the first pass, where there is no state */
    bool state;    /* positions are pos[slot] + ... */
    int slots;
    int32_t pos[MOST_SLOTS];
} shape;

static bool for_tensor_cores(const shape *s)
{
    return s->width >= 512;
}

enum { T_POS, T_COLUMN, T_CACHES };

static void layer_weights(decoder *d, const shape *s, const ut_weight *w[LAYERS][7])
{
    const int32_t width = s->width;
    for (int i = 0; i < LAYERS; i++) {
        w[i][0] = weight(d, 1, width, UT_F32);
        w[i][1] = weight(d, (s->heads + 2 * s->kv_heads) * s->dim, width, UT_F32);
        w[i][2] = weight(d, width, s->heads * s->dim, UT_F32);
        w[i][3] = i % 2 ? weight(d, 1, s->dim, UT_F32) : NULL;
        if (!s->gated)
            continue;
        w[i][4] = weight(d, 1, width, UT_F32);
        w[i][5] = weight(d, 2 * s->gated, width, UT_F32);
        w[i][6] = weight(d, width, s->gated, UT_F32);
    }
}

static ut_tid shaped_layer(decoder *d, const shape *s, const ut_weight *const w[7], ut_tid x,
                           int32_t first_pos, int i)
{
    ut_plan *p = d->plan;
    const ut_tid pos = s->state ? ut_plan_state(p, T_POS) : UT_NONE;
    const ut_tid angles = ut_op_rope_angles(p, x, pos, first_pos, s->dim, 1e4f, false);
    const ut_attn_args attn = {.n_heads = s->heads,
                               .n_kv_heads = s->kv_heads,
                               .head_dim = s->dim,
                               .window = s->window,
                               .first_pos = first_pos,
                               .pos = pos,
                               .cache_k = ut_plan_state(p, T_CACHES + 2 * i),
                               .cache_v = ut_plan_state(p, T_CACHES + 2 * i + 1),
                               .rope = i % 2 ? UT_ROPE_HALVES : UT_ROPE_PAIRS};
    ut_tid h = ut_op_matmul(p, ut_op_rms_norm(p, x, w[0], 1e-5f), w[1], UT_NONE);
    h = ut_op_attention(p, ut_op_qkv(p, h, angles, w[3], w[3], 1e-6f, &attn), &attn);
    x = ut_op_matmul(p, h, w[2], x);
    if (!s->gated)
        return x;
    h = ut_op_swiglu(p, ut_op_matmul(p, ut_op_rms_norm(p, x, w[4], 1e-5f), w[5], UT_NONE));
    return ut_op_matmul(p, h, w[6], x);
}

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

static bool is_as_wanted(const shape *s, const cu_frame *f)
{
    return f && (f->bf16 || !for_tensor_cores(s));
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

/* Other devices do all in plain arithmetic. */
static bool is_for(const shape *s, const ut_backend *b, ut_precision precision)
{
    return !for_tensor_cores(s) ||
           (((const cu_backend *)b)->hopper && precision == UT_PRECISION_BF16);
}

static void compare_shapes(shaped_trail t[3])
{
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
            if (is_for(&shapes[i], b, ways[k].precision))
                compare_shape(&shapes[i], b, ways[k].tolerance, t);
        if (st == UTTER_OK)
            b->ops->close(b);
    }
}

/* Two rows in the first pass have code of their own, where a block has few rows of a matrix: so
 * there are so many blocks at least. */
static void compare_pairs(shaped_trail t[3])
{
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
        if (is_for(&pairs[i].shape, b, UT_PRECISION_BF16))
            compare_shape(&pairs[i].shape, b, 4e-2f, t);
        *blocks = all;
    }
    if (st == UTTER_OK)
        b->ops->close(b);
}

/* ---- Decisions in a chain -------------------------------------------------------------------- */

enum { CHAIN = 4, CHAIN_FRAMES = 6, CHAIN_FIRST = 1 }; /* decisions; the first that is chained */
enum { C_PARAMS = T_CACHES + 2 * LAYERS, C_RNG, C_FRAME, C_HISTORY, C_RING };

/* How codes are chosen. */
typedef struct choice {
    const char *name;
    float params[UT_SP_COUNT];
    ut_penalty penalty;
    ut_narrowing narrowing;
} choice;

typedef struct chain_trail {
    int32_t codes[SLOTS][CHAIN_FRAMES][CHAIN];
} chain_trail;

static void choose(decoder *d, const choice *c, ut_tid logits, int32_t g)
{
    ut_plan *p = d->plan;
    const ut_sample_args a = {.dst = ut_plan_state(p, T_COLUMN),
                              .params = ut_plan_state(p, C_PARAMS),
                              .rng = ut_plan_state(p, C_RNG),
                              .frame = ut_plan_state(p, C_FRAME),
                              .history = c->penalty ? ut_plan_state(p, C_HISTORY) : UT_NONE,
                              .noise = UT_NONE,
                              .probs = UT_NONE,
                              .col = g,
                              .decision = g,
                              .penalty = c->penalty,
                              .penalty_col = g,
                              .narrowing = c->narrowing,
                              .n_range = CODES,
                              .id_extra = -1};
    ut_op_sample(p, logits, &a);
}

/* A frame as models have it: code 0 of a hidden row, then a code from each pass, the first of them
 * over that row and code 0. */
static utter_status make_chain(decoder *d, const shape *s, const choice *c, ut_err *err)
{
    static const int32_t codes[CHAIN] = {CODES, CODES, CODES, CODES};
    const int32_t width = s->width;
    *d = (decoder){.type = UT_F32, .logits = UT_NONE};
    random_state = 7;
    ut_state_set_add(&d->states, "pos", UT_I32, 1, 1); /* nobody's */
    ut_state_set_add(&d->states, "column", UT_I32, 1, CHAIN);
    for (int i = 0; i < 2 * LAYERS; i++) {
        ut_state_set_add(&d->states, "cache", UT_F32, s->capacity, s->kv_heads * s->dim);
        d->states.def[T_CACHES + i].keep = true;
    }
    ut_state_set_add(&d->states, "params", UT_F32, 1, UT_SP_COUNT);
    ut_state_set_add(&d->states, "rng", UT_I32, 1, UT_RNG_COUNT);
    ut_state_set_add(&d->states, "frame", UT_I32, 1, 1);
    ut_state_set_add(&d->states, "history", UT_I32, UT_HISTORY_FRAMES, CHAIN);
    ut_state_set_add(&d->states, "ring", UT_I32, 32, CHAIN);
    ut_plan *p = d->plan = ut_plan_new("chain", &d->states, NULL);
    if (!p)
        return UTTER_ERR_NOMEM;
    const ut_weight *w[LAYERS][7] = {{NULL}}, *table = weight(d, CODES, width, UT_F32);
    layer_weights(d, s, w);
    const ut_weight *all = weight(d, CHAIN * CODES, width, UT_F32);
    const ut_weight *norm = weight(d, 1, width, UT_F32);
    const ut_tid column = ut_plan_state(p, T_COLUMN), frame = ut_plan_state(p, C_FRAME);
    const ut_tid hidden = ut_op_gather_sum(p, column, all, 0, CHAIN, codes, 1.0f, UT_NONE, UT_NONE);
    for (int32_t g = 0; g < CHAIN; g++) {
        ut_tid x = hidden;
        if (g == 1) {
            x = ut_op_blank(p, 2, width);
            ut_op_copy_into(p, x, 0, hidden, 0, 1);
            ut_op_gather_into(p, x, 1, column, table, 0, 1, codes);
        } else if (g > 1) {
            x = ut_op_gather(p, column, table, g - 1, 1, codes);
        }
        if (g > 0)
            x = shaped_layer(d, s, w[1], x, g == 1 ? 0 : g, 1);
        x = ut_op_rms_norm(p, ut_op_last_row(p, x), norm, 1e-5f);
        choose(d, c, ut_op_matmul(p, x, weight(d, CODES, width, UT_F32), UT_NONE), g);
    }
    if (c->penalty)
        ut_op_ring_put(p, ut_plan_state(p, C_RING), ut_plan_state(p, C_HISTORY), column, frame);
    ut_op_advance(p, frame, 1, 0);
    return ut_plan_finish(p, err);
}

/* Of one slot, decisions have no barriers, and norms take last rows where they are; of several, not
 * so. Of any, angles are tables, and what only copies a row does not wait for a decision. */
static void look_at_chain(const cu_exec *e, const char *name)
{
    const cu_frame *f = e->frame;
    const bool alone = e->n_slots == 1;
    int decisions = 0, barriers = 0, last_rows = 0, angles = 0, apart = 0;
    for (int32_t i = 0; i < f->n_phases; i++) {
        const cu_fused *phase = &f->phases[i];
        for (int32_t k = phase->first; k < phase->first + phase->count; k++) {
            const ut_op *op = &e->head.plan->ops[f->slot_ops[k]];
            const bool copy = op->kind == UT_OP_COPY_ROWS;
            last_rows += copy && op->u.copy_rows.src_row == -1;
            apart += copy && op->u.copy_rows.src_row == 0 && f->apart[k];
            angles += op->kind == UT_OP_ROPE_ANGLES;
            decisions += op->kind == UT_OP_SAMPLE;
            if (op->kind == UT_OP_SAMPLE && op->u.sample.decision >= CHAIN_FIRST)
                barriers += phase->barrier + (i + 1 < f->n_phases && phase[1].barrier);
        }
    }
    check(decisions == CHAIN, name, "decisions are not in phases");
    check(barriers == (alone ? 0 : 2 * (CHAIN - CHAIN_FIRST) - 1), name,
          alone ? "a decision has a barrier" : "a decision has no barrier");
    check(last_rows == !alone, name, alone ? "a row is copied" : "a row is not copied");
    check(angles == 0, name, "angles are computed");
    check(apart == 1, name, "a row waits for a decision");
}

static utter_status run_chain(const decoder *d, const shape *s, const choice *c, ut_backend *b,
                              cu_frames how, int first, int slots, int frames, chain_trail *out,
                              ut_err *err)
{
    const ut_backend_ops *ops = b->ops;
    ut_exec *e = NULL;
    ut_state *state = NULL;
    memset(out, 0, sizeof *out);
    ((cu_backend *)b)->frames = how;
    utter_status st = ops->compile(b, d->plan, slots, 1, &e, err);
    if (st == UTTER_OK && how != CU_FRAMES_STEPS) {
        const bool fine = is_as_wanted(s, ((cu_exec *)e)->frame);
        check(fine && ((cu_exec *)e)->frames == how, c->name, "is not run as it was asked for");
        if (fine)
            look_at_chain((cu_exec *)e, c->name);
    }
    if (st == UTTER_OK)
        st = ops->state_new(b, &d->states, slots, &state, err);
    for (int i = 0; i < slots && st == UTTER_OK; i++) {
        const int32_t seq = first + i, rng[UT_RNG_COUNT] = {5 + seq, 0};
        const int32_t column[CHAIN] = {seq, 2 * seq + 1, 7, 11};
        ops->state_write(state, T_COLUMN, i, 0, 1, column);
        ops->state_write(state, C_PARAMS, i, 0, 1, c->params);
        ops->state_write(state, C_RNG, i, 0, 1, rng);
    }
    for (int f = 0; f < frames && st == UTTER_OK; f++) {
        st = ops->run(e, state, 0, 1, err);
        for (int i = 0; i < slots && st == UTTER_OK; i++)
            ops->state_read(state, T_COLUMN, i, 0, 1, out->codes[i][f]);
    }
    ops->state_free(state);
    ops->exec_free(e);
    return st;
}

static bool same_codes(const chain_trail *a, int slot_a, const chain_trail *b, int slot, int frames)
{
    return memcmp(a->codes[slot_a], b->codes[slot], (size_t)frames * sizeof a->codes[0][0]) == 0;
}

static int different_codes(const chain_trail *t)
{
    bool seen[CODES] = {false};
    int n = 0;
    for (int f = 0; f < CHAIN_FRAMES; f++)
        for (int g = 0; g < CHAIN; g++) {
            const int32_t code = t->codes[0][f][g];
            check(code >= 0 && code < CODES, "chain", "no code");
            if (code >= 0 && code < CODES && !seen[code]) {
                seen[code] = true;
                n++;
            }
        }
    return n;
}

/* Slots together against the same alone; few frames where those take long. Steps of several slots
 * round x to bf16 where matrices are. */
static void compare_chains_together(const decoder *d, const shape *s, const choice *c,
                                    ut_backend *b, const chain_trail *alone, ut_err *err)
{
    const bool wide = for_tensor_cores(s);
    const int frames = wide ? 2 : CHAIN_FRAMES;
    chain_trail whole, t = {0};
    utter_status st = run_chain(d, s, c, b, CU_FRAMES_WHOLE, 0, SLOTS, frames, &whole, err);
    check(same_codes(&whole, 0, alone, 0, frames), c->name, "other codes beside other slots");
    for (int i = 1; i < SLOTS; i++)
        check(!same_codes(&whole, i, &whole, i - 1, frames), c->name, "slots are the same");
    if (st == UTTER_OK)
        st = run_chain(d, s, c, b, CU_FRAMES_PHASES, 0, SLOTS, frames, &t, err);
    check(memcmp(&t, &whole, sizeof t) == 0, c->name, "slots have other codes in phases");
    if (st == UTTER_OK && !wide) {
        st = run_chain(d, s, c, b, CU_FRAMES_STEPS, 0, SLOTS, frames, &t, err);
        check(memcmp(&t, &whole, sizeof t) == 0, c->name, "slots have other codes in steps");
    }
    for (int i = 1; i < SLOTS && st == UTTER_OK && !wide && c->penalty; i++) {
        st = run_chain(d, s, c, b, CU_FRAMES_WHOLE, i, 1, frames, &t, err);
        check(same_codes(&t, 0, &whole, i, frames), c->name, "a slot alone has other codes");
    }
    check(st == UTTER_OK, c->name, err->msg);
}

/* In all three ways the same codes. */
static void compare_chain(const shape *s, const choice *c, ut_backend *b, chain_trail *whole)
{
    ut_err err = {0};
    decoder d;
    chain_trail t = {0};
    utter_status st = make_chain(&d, s, c, &err);
    if (st == UTTER_OK)
        st = run_chain(&d, s, c, b, CU_FRAMES_WHOLE, 0, 1, CHAIN_FRAMES, whole, &err);
    check(different_codes(whole) >= 8, c->name, "hardly any codes");
    if (st == UTTER_OK)
        st = run_chain(&d, s, c, b, CU_FRAMES_PHASES, 0, 1, CHAIN_FRAMES, &t, &err);
    check(same_codes(&t, 0, whole, 0, CHAIN_FRAMES), c->name, "other codes in phases");
    if (st == UTTER_OK)
        st = run_chain(&d, s, c, b, CU_FRAMES_STEPS, 0, 1, CHAIN_FRAMES, &t, &err);
    check(same_codes(&t, 0, whole, 0, CHAIN_FRAMES), c->name, "other codes in steps");
    check(st == UTTER_OK, c->name, err.msg);
    if (st == UTTER_OK && (!for_tensor_cores(s) || c->penalty))
        compare_chains_together(&d, s, c, b, whole, &err);
    free_decoder(&d);
}

static void compare_chains(void)
{
    static const choice choices[] = {
        {"the best", {0.0f, 1.0f, 1.0f, 0.0f}, UT_PENALTY_NONE, UT_TOP_P_FIRST},
        {"top-p", {0.8f, 0.8f, 1.5f, 0.0f}, UT_PENALTY_CODEBOOK, UT_TOP_P_FIRST},
        {"top-k", {0.8f, 1.0f, 1.0f, 5.0f}, UT_PENALTY_NONE, UT_TEMPER_FIRST},
    };
    static const struct {
        ut_precision precision;
        shape shape;
    } ways[] = {
        {UT_PRECISION_F32, {"chain", 64, 0, 2, 1, 64, CHAIN, 0, CHAIN, 2, 0, false, 1, {0}}},
        {UT_PRECISION_BF16,
         {"tensor: chain", 512, 0, 4, 1, 128, CHAIN, 0, CHAIN, 2, 0, false, 1, {0}}},
    };
    for (size_t k = 0; k < sizeof ways / sizeof ways[0]; k++) {
        ut_err err = {0};
        ut_backend *b = NULL;
        chain_trail best = {0}, other = {0};
        const utter_status st =
            ut_backend_open(&b, "cuda", &(ut_backend_params){.precision = ways[k].precision}, &err);
        check(st == UTTER_OK, "opening", err.msg);
        if (st != UTTER_OK)
            continue;
        const size_t n =
            is_for(&ways[k].shape, b, ways[k].precision) ? sizeof choices / sizeof choices[0] : 0;
        for (size_t i = 0; i < n; i++) {
            chain_trail *codes = i == 0 ? &best : &other;
            choice c = choices[i];
            char name[64];
            snprintf(name, sizeof name, "%s, %s", ways[k].shape.name, c.name);
            c.name = name;
            compare_chain(&ways[k].shape, &c, b, codes);
            check(i == 0 || !same_codes(&best, 0, codes, 0, CHAIN_FRAMES), name, "always the best");
        }
        b->ops->close(b);
    }
}

/* The decoder, in two types. */
static void compare_decoders(trail t[4])
{
    static const ut_dtype types[] = {UT_BF16, UT_F32};
    ut_err err = {0};
    for (size_t i = 0; i < sizeof types / sizeof types[0]; i++) {
        decoder d;
        ut_backend *b = NULL;
        utter_status st = make_decoder(&d, types[i], &err);
        if (st == UTTER_OK)
            st = ut_backend_open(&b, "cuda", &(ut_backend_params){0}, &err);
        check(st == UTTER_OK, "opening", err.msg);
        if (st == UTTER_OK) {
            compare(&d, b, t);
            b->ops->close(b);
        }
        free_decoder(&d);
    }
}

int main(int argc, char **argv)
{
    const bool only = argc == 2 && strcmp(argv[1], "--pairs") == 0;
    const bool without = argc == 2 && strcmp(argv[1], "--but-pairs") == 0;
    char text[256];
    if (argc > 1 && !only && !without) {
        printf("usage: test_frames [--pairs | --but-pairs]\n");
        return 2;
    }
    if (!cu_probe(0, text, sizeof text)) {
        printf("skipped: no CUDA device: %s\n", text);
        return 0;
    }
    trail *t = ut_calloc(4, sizeof *t);
    shaped_trail *shaped = ut_calloc(3, sizeof *shaped);
    check(t && shaped, "memory", "none");
    if (t && shaped && !only) {
        compare_decoders(t);
        compare_shapes(shaped);
        compare_chains();
    }
    if (t && shaped && !without)
        compare_pairs(shaped);
    ut_free(t);
    ut_free(shaped);
    printf("%d passed, %d failed\n", n_passed, n_failed);
    return n_failed > 0;
}
