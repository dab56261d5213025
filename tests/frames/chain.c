/* chain.c - decisions that follow one another, each with a pass between, as models have them: the
 * same codes in all ways, and of one slot without barriers. */
#include "fixture.h"
#include <stdio.h>
#include <string.h>

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

void test_chains(void)
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
            if (!is_chosen(name))
                continue;
            compare_chain(&ways[k].shape, &c, b, codes);
            check(i == 0 || !same_codes(&best, 0, codes, 0, CHAIN_FRAMES), name, "always the best");
        }
        b->ops->close(b);
    }
}
