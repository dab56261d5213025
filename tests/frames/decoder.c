/* decoder.c - a small decoder, with everything that makes a frame, in all ways. */
#include "fixture.h"
#include "base/alloc.h"
#include <math.h>
#include <stdio.h>
#include <string.h>

enum { HIDDEN = 1536, HEADS = 4, KV_HEADS = 2, DIM = 64, INNER = 96, SMALL = 48 };
enum { CAPACITY = 160, FRAMES = 12, FIRST_POS = 58 }; /* across a span's end */
enum { MANY = 32, FEW_FRAMES = 2 };
enum { QKV = (HEADS + 2 * KV_HEADS) * DIM, Q = HEADS * DIM };
enum { S_FRAME, S_POS, S_COLUMN, S_HISTORY, S_PARAMS, S_RNG, S_RING, S_CACHES };

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

/* ---- Running it ------------------------------------------------------------------------------ */

typedef struct trail {
    int32_t codes[MANY][FRAMES][2];
    float logits[FRAMES][MANY][CODES];
    float cache[MANY][CAPACITY][KV_HEADS * DIM];
} trail;

/* Frames 0 .. frames - 1 of sequences first .. first + slots - 1, each in a slot. */
static utter_status run_frames(const decoder *d, ut_backend *b, cu_frames how, int first, int slots,
                               int frames, trail *out, ut_err *err)
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
    for (int f = 0; f < frames && st == UTTER_OK; f++) {
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

static utter_status run(const decoder *d, ut_backend *b, cu_frames how, int first, int slots,
                        trail *out, ut_err *err)
{
    return run_frames(d, b, how, first, slots, FRAMES, out, err);
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

/* 16 and 32 slots: each has the bits that it has beside one other. */
static void compare_many(const decoder *d, ut_backend *b, trail *many, trail *two)
{
    ut_err err = {0};
    for (int slots = 16; slots <= MANY; slots *= 2) {
        utter_status st = run_frames(d, b, CU_FRAMES_STEPS, 0, slots, FEW_FRAMES, many, &err);
        for (int i = slots / 2 - 1; i < slots && st == UTTER_OK; i += slots / 2) {
            st = run_frames(d, b, CU_FRAMES_STEPS, i, 2, FEW_FRAMES, two, &err);
            check(memcmp(many->codes[i], two->codes[0], sizeof many->codes[0]) == 0 &&
                      most_different(many, i, two, 0, FEW_FRAMES) == 0.0f &&
                      memcmp(many->cache[i], two->cache[0], sizeof many->cache[0]) == 0,
                  "one of many slots", "other bits than beside one");
        }
        check(st == UTTER_OK, "many slots", err.msg);
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
    compare_many(d, b, steps, alone);
}

/* The decoder, in two types. */
void test_decoders(void)
{
    if (!is_chosen("decoder"))
        return;
    trail *t = ut_calloc(4, sizeof *t);
    check(t != NULL, "memory", "none");
    if (!t)
        return;
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
    ut_free(t);
}
