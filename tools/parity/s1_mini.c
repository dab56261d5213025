/* s1_mini.c - recorded cases of the S1-mini family: tokenizer, prompts, language model, sampler.
 * Names and shapes of what is recorded: README of the recorded cases. */
#include "models/s1_mini/s1_mini.h"
#include "base/alloc.h"
#include "parity/parity.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const double tolerance = 1e-3; /* hidden states and logits in f32 */
/* temperature, top-p and repetition penalty: the first of the sampler's parameters */
static const int64_t n_recorded_params = 3;

/* The language model on the backend. */
typedef struct lm {
    parity *p;
    ut_model *m;
    ut_exec *prefill, *frame;
    ut_state *state;
    int32_t columns;
} lm;

/* ---- Text and prompts ----------------------------------------------------------------------- */

static char *golden_text(const ut_view *v)
{
    char *s = need_memory((size_t)v->n_elements + 1, 1);
    memcpy(s, v->data, (size_t)v->n_elements);
    return s;
}

static void check_text(parity *p, ut_model *m, const ut_view *ids)
{
    char stem[128];
    snprintf(stem, sizeof stem, "%.*s", (int)(strlen(ids->name) - strlen("/ids")), ids->name);
    const ut_view *text = golden(p, "%s/utf8", stem);
    ut_buf got;
    ut_buf_init(&got, (size_t)1 << 24);
    if (text &&
        ut_s1_mini_encode(m, text->data, (size_t)text->n_elements, true, &got, &p->err) == UTTER_OK)
        report_i32(p, ids, ut_buf_i32(&got), (int64_t)ut_buf_n_i32(&got), 0);
    else
        report_missing(p, ids->name, text ? p->err.msg : "has no text");
    ut_buf_free(&got);
}

/* Reference `i` in time-major order; false when it is not recorded. */
static bool load_reference(parity *p, int i, ut_reference *r)
{
    const ut_view *text = golden(p, "prompt/ref%d/text", i);
    const ut_view *codes = golden(p, "prompt/ref%d/codes", i);
    if (!text || !codes)
        return false;
    int32_t *rows = golden_i32(codes);
    r->text = golden_text(text);
    r->codes = transposed_i32(rows, codes->dim[0], codes->dim[1]);
    r->n_frames = (int32_t)codes->dim[1];
    ut_free(rows);
    return true;
}

/* "text_only" has no reference, "clone" one, "clone<n>" n. */
static int n_references(const char *prompt)
{
    if (strncmp(prompt, "clone", 5) != 0)
        return 0;
    return prompt[5] ? atoi(prompt + 5) : 1;
}

static void check_prompt(parity *p, ut_model *m, const ut_view *tokens)
{
    char stem[64] = "";
    sscanf(tokens->name, "prompt/%63[^/]", stem);
    const ut_view *text = golden(p, "prompt/%s/text", stem);
    const int n = n_references(stem);
    ut_reference *refs = need_memory((size_t)n, sizeof *refs);
    bool ok = text != NULL;
    for (int i = 0; i < n; i++)
        ok = load_reference(p, i, &refs[i]) && ok;
    ut_prompt got;
    ut_prompt_init(&got);
    char *s = ok ? golden_text(text) : NULL;
    const ut_request request = {.text = s, .refs = refs, .n_refs = n};
    if (ok && m->ops->prompt(m, &request, &got, &p->err) == UTTER_OK) {
        const int64_t columns = m->ar.columns, rows = (int64_t)ut_buf_n_i32(&got.columns) / columns;
        int32_t *t = transposed_i32(ut_buf_i32(&got.columns), rows, columns);
        report_i32(p, tokens, t, rows * columns, 0);
        ut_free(t);
    } else {
        report_missing(p, tokens->name, ok ? p->err.msg : "lacks its text or references");
    }
    ut_prompt_free(&got);
    ut_free(s);
    for (int i = 0; i < n; i++) {
        ut_free((char *)(uintptr_t)refs[i].text);
        ut_free((int32_t *)(uintptr_t)refs[i].codes);
    }
    ut_free(refs);
}

/* ---- The language model --------------------------------------------------------------------- */

typedef struct sampling {
    float params[UT_SP_COUNT];
    const float *noise_slow, *noise_fast; /* of one frame, or NULL */
    const int32_t *forced; /* [columns] of that frame, to go along instead of choosing, or NULL */
} sampling;

static void set_noise(lm *l, ut_exec *e, const sampling *s)
{
    for (int32_t k = 0; k + 1 < l->columns; k++) {
        char name[32];
        snprintf(name, sizeof name, "noise.%d", (int)k);
        const ut_tid t = ut_plan_find(e->plan, name);
        const size_t n = (size_t)e->plan->tensors[t].cols;
        float *dst = l->p->ops->input(e, t, 1);
        for (size_t i = 0; i < n; i++)
            dst[i] = 1.0f;
        if (k == 0 && s->noise_slow)
            memcpy(dst, s->noise_slow, n * sizeof *dst);
        if (k > 0 && s->noise_fast)
            memcpy(dst, s->noise_fast + (size_t)(k - 1) * n, n * sizeof *dst);
        if (s->forced) { /* even noise, but for what was recorded */
            const int32_t id = s->forced[k ? k + 1 : 0];
            for (size_t i = 0; i < n; i++)
                dst[i] = id == (int32_t)i ? 1e-30f : 1.0f;
        }
    }
}

/* tokens [columns, n_t], as recorded. */
static utter_status run_prefill(lm *l, const ut_view *tokens, const sampling *s)
{
    parity *p = l->p;
    const int32_t n_t = (int32_t)tokens->dim[1];
    int32_t *rows = golden_i32(tokens);
    int32_t *columns = transposed_i32(rows, l->columns, n_t);
    p->ops->state_reset(l->state, 0);
    p->ops->state_write(l->state, l->m->ar.params, 0, 0, 1, s->params);
    run_input(p, l->prefill, "tokens", n_t, columns,
              (size_t)n_t * (size_t)l->columns * sizeof *columns);
    set_noise(l, l->prefill, s);
    ut_free(rows);
    ut_free(columns);
    return p->ops->run(l->prefill, l->state, 0, n_t, &p->err);
}

static const sampling greedy = {
    .params = {[UT_SP_TEMPERATURE] = 0, [UT_SP_TOP_P] = 1, [UT_SP_REPETITION_PENALTY] = 1}};
static const sampling even = {
    .params = {[UT_SP_TEMPERATURE] = 1, [UT_SP_TOP_P] = 1, [UT_SP_REPETITION_PENALTY] = 1}};

/* The last rows of a tap, as many as v has. */
static void report_tail(lm *l, const ut_view *v, const char *tap, int32_t n_t)
{
    int64_t rows = 0, cols = 0;
    const float *got = run_output(l->p, l->prefill, tap, n_t, &rows, &cols);
    if (got && v->n_elements <= rows * cols)
        report_f32(l->p, v, got + rows * cols - v->n_elements, v->n_elements, tolerance);
    else
        report_missing(l->p, v->name, "the plan has no such tensor");
}

/* Index of the largest value; near: how far the second largest is below it. */
static int32_t argmax(const float *x, int64_t n, float *near)
{
    int64_t best = 0;
    float second = -1e30f;
    for (int64_t i = 1; i < n; i++)
        if (x[i] > x[best]) {
            second = x[best];
            best = i;
        } else if (x[i] > second) {
            second = x[i];
        }
    *near = x[best] - second;
    return (int32_t)best;
}

static void check_argmax(lm *l, const ut_view *v, int32_t n_t)
{
    int64_t rows = 0, cols = 0, ties = 0;
    const float *x = run_output(l->p, l->prefill, "slow.logits_all", n_t, &rows, &cols);
    int32_t *got = need_memory((size_t)n_t, sizeof *got);
    for (int64_t r = 0; x && r < rows; r++) {
        float near;
        got[r] = argmax(x + r * cols, cols, &near);
        ties += near < 1e-4f;
    }
    if (!l->p->exact)
        ties += (int64_t)(l->p->most_changed * (double)rows);
    report_i32(l->p, v, got, x ? rows : 0, ties);
    ut_free(got);
}

/* slow/<stem>/...: one forward over a prompt. */
static void check_slow(lm *l, const char *stem)
{
    parity *p = l->p;
    const ut_view *tokens = golden(p, "slow/%s/tokens", stem);
    if (!tokens)
        tokens = golden(p, "prompt/%s/tokens", stem);
    if (!tokens || run_prefill(l, tokens, &greedy) != UTTER_OK) {
        report_missing(p, stem, tokens ? p->err.msg : "has no tokens");
        return;
    }
    const int32_t n_t = (int32_t)tokens->dim[1];
    static const char *const names[][2] = {
        {"embed", "slow.embed"}, {"logits_last", "slow.logits"}, {"normed_last", "slow.normed"}};
    const ut_view *v;
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        if ((v = golden(p, "slow/%s/%s", stem, names[i][0])))
            report_tail(l, v, names[i][1], n_t);
    char tap[32] = "";
    for (int i = 0; i < 64; i++) {
        char name[32];
        snprintf(name, sizeof name, "slow.layer%d", i);
        if (ut_plan_find(l->prefill->plan, name) != UT_NONE)
            snprintf(tap, sizeof tap, "%s", name);
        if ((v = golden(p, "slow/%s/layer%d", stem, i)))
            report_tail(l, v, name, n_t);
    }
    if ((v = golden(p, "slow/%s/hidden", stem)))
        report_tail(l, v, tap, n_t);
    if ((v = golden(p, "slow/%s/argmax_all", stem)))
        check_argmax(l, v, n_t);
}

/* ---- Generation ----------------------------------------------------------------------------- */

/* What a run of n frames gives, in the layout of the recorded tensors. */
typedef struct generated {
    int64_t n, n_logits;
    int32_t *tokens;    /* [columns, n] */
    float *hidden;      /* [n, dim] */
    float *logits;      /* [n_logits, V] */
    float *fast_logits; /* [n_logits, Q, codebook_size] */
    float *margin;      /* [n, Q] */
    int64_t dim, vocab, codebook;
    bool stopped; /* a stop frame came; nothing is generated after it */
} generated;

/* The largest minus the second largest of the entries that may be chosen. */
static float margin_of(const float *x, int64_t n)
{
    float near;
    argmax(x, n, &near);
    return near;
}

static void keep_frame(lm *l, ut_exec *e, generated *g, int64_t f)
{
    parity *p = l->p;
    const int64_t n_codebooks = l->columns - 1;
    int64_t rows, cols;
    const float *x = run_output(p, e, "slow.hidden", 1, &rows, &g->dim);
    if (!g->hidden)
        g->hidden = need_memory((size_t)(g->n * g->dim), sizeof *g->hidden);
    memcpy(g->hidden + f * g->dim, x, (size_t)g->dim * sizeof *x);
    x = run_output(p, e, "slow.logits", 1, &rows, &g->vocab);
    g->margin[f * n_codebooks] = margin_of(x, g->vocab);
    if (f < g->n_logits) {
        if (!g->logits)
            g->logits = need_memory((size_t)(g->n_logits * g->vocab), sizeof *g->logits);
        memcpy(g->logits + f * g->vocab, x, (size_t)g->vocab * sizeof *x);
    }
    for (int64_t k = 0; k < n_codebooks; k++) {
        char name[32];
        snprintf(name, sizeof name, "fast.logits%d", (int)k);
        x = run_output(p, e, name, 1, &rows, &cols);
        if (!x)
            continue;
        g->codebook = cols;
        if (!g->fast_logits)
            g->fast_logits =
                need_memory((size_t)(g->n_logits * n_codebooks * cols), sizeof *g->fast_logits);
        if (f < g->n_logits)
            memcpy(g->fast_logits + (f * n_codebooks + k) * cols, x, (size_t)cols * sizeof *x);
        const ut_tid noise = ut_plan_find(e->plan, "noise.1");
        if (k > 0)
            g->margin[f * n_codebooks + k] = margin_of(x, e->plan->tensors[noise].cols);
    }
}

/* forced: [frames, columns] to go along, or NULL. */
static utter_status generate(lm *l, const ut_view *prompt, sampling s, const ut_view *noise_slow,
                             const ut_view *noise_fast, const int32_t *forced, generated *g)
{
    parity *p = l->p;
    float *slow = noise_slow ? golden_f32(noise_slow) : NULL;
    float *fast = noise_fast ? golden_f32(noise_fast) : NULL;
    int32_t *column = need_memory((size_t)l->columns, sizeof *column);
    utter_status st = UTTER_OK;
    g->tokens = need_memory((size_t)(g->n * l->columns), sizeof *g->tokens);
    g->margin = need_memory((size_t)(g->n * (l->columns - 1)), sizeof *g->margin);
    for (int64_t f = 0; st == UTTER_OK && f < g->n && !g->stopped; f++) {
        s.noise_slow = slow ? slow + f * noise_slow->dim[1] : NULL;
        s.noise_fast = fast ? fast + f * noise_fast->dim[1] * noise_fast->dim[2] : NULL;
        s.forced = forced ? forced + f * l->columns : NULL;
        if (f == 0) {
            st = run_prefill(l, prompt, &s);
        } else {
            set_noise(l, l->frame, &s);
            st = p->ops->run(l->frame, l->state, 0, 1, &p->err);
        }
        if (st == UTTER_OK)
            st = p->ops->ring_wait(l->state, l->m->ar.ring, 0, f, column, &p->err);
        if (st != UTTER_OK)
            break;
        for (int32_t c = 0; c < l->columns; c++)
            g->tokens[c * g->n + f] = column[c];
        keep_frame(l, f ? l->frame : l->prefill, g, f);
        if (f >= l->m->ar.stop_from_frame && column[0] == l->m->ar.stop_id)
            g->stopped = true;
    }
    ut_free(column);
    ut_free(slow);
    ut_free(fast);
    return st;
}

/* Rows 1.. of tokens without the last frame. */
static void report_codes(lm *l, const ut_view *v, const generated *g)
{
    const int64_t n = g->n - 1, n_codebooks = l->columns - 1;
    int32_t *codes = need_memory((size_t)(n * n_codebooks), sizeof *codes);
    for (int64_t q = 0; q < n_codebooks; q++)
        memcpy(codes + q * n, g->tokens + (q + 1) * g->n, (size_t)n * sizeof *codes);
    report_i32(l->p, v, codes, n * n_codebooks, 0);
    ut_free(codes);
}

/* gen/<stem>/...: a run of as many frames as were recorded. */
static void check_generation(lm *l, const char *stem)
{
    parity *p = l->p;
    const ut_view *tokens = golden(p, "gen/%s/tokens", stem);
    const ut_view *prompt = golden(p, "prompt/%s/tokens", stem);
    if (!prompt)
        prompt = golden(p, "prompt/text_only/tokens");
    const ut_view *params = golden(p, "gen/%s/params", stem);
    const ut_view *logits = golden(p, "gen/%s/logits", stem);
    sampling s = greedy;
    if (params)
        ut_view_to_f32(params, 0, n_recorded_params, s.params);
    /* other types than f32 part ways after a near tie: they go along what was recorded */
    int32_t *recorded = golden_i32(tokens), *forced = NULL;
    if (!p->exact) {
        forced = transposed_i32(recorded, tokens->dim[0], tokens->dim[1]);
        s = even;
    }
    generated g = {.n = tokens->dim[1], .n_logits = logits ? logits->dim[0] : 0};
    const utter_status st = prompt ? generate(l, prompt, s, golden(p, "gen/%s/noise_slow", stem),
                                              golden(p, "gen/%s/noise_fast", stem), forced, &g)
                                   : UTTER_ERR_MODEL;
    ut_free(recorded);
    ut_free(forced);
    if (st != UTTER_OK) {
        report_missing(p, tokens->name, prompt ? p->err.msg : "has no prompt");
        return;
    }
    const int64_t n_codebooks = l->columns - 1;
    report_i32(p, tokens, g.tokens, g.n * l->columns, 0);
    const ut_view *v;
    if ((v = golden(p, "gen/%s/codes", stem)))
        report_codes(l, v, &g);
    if ((v = golden(p, "gen/%s/hidden", stem)))
        report_f32(p, v, g.hidden, g.n * g.dim, tolerance);
    if (logits)
        report_f32(p, logits, g.logits, g.n_logits * g.vocab, tolerance);
    if ((v = golden(p, "gen/%s/fast_logits", stem)))
        report_f32(p, v, g.fast_logits, g.n_logits * n_codebooks * g.codebook, tolerance);
    if ((v = golden(p, "gen/%s/margin", stem)) && p->exact)
        report_f32(p, v, g.margin, g.n * n_codebooks, 2 * tolerance);
    ut_free(g.tokens);
    ut_free(g.hidden);
    ut_free(g.logits);
    ut_free(g.fast_logits);
    ut_free(g.margin);
}

/* ---- The sampler alone ---------------------------------------------------------------------- */

typedef struct sampler_states {
    ut_state_set set;
    int column, params, rng, frame, history;
} sampler_states;

/* A plan of one decision over n logits whose penalty sees history column 0. */
static ut_plan *sampler_plan(sampler_states *s, int32_t n)
{
    s->column = ut_state_set_add(&s->set, "column", UT_I32, 1, 1);
    s->params = ut_state_set_add(&s->set, "params", UT_F32, 1, UT_SP_COUNT);
    s->rng = ut_state_set_add(&s->set, "rng", UT_I32, 1, UT_RNG_COUNT);
    s->frame = ut_state_set_add(&s->set, "frame", UT_I32, 1, 1);
    s->history = ut_state_set_add(&s->set, "history", UT_I32, UT_HISTORY_FRAMES, 1);
    ut_plan *plan = ut_plan_new("sampler", &s->set, NULL);
    if (!plan)
        return NULL;
    const ut_tid probs = ut_op_blank(plan, 1, n);
    ut_plan_output(plan, probs, "probs");
    const ut_sample_args a = {.dst = ut_plan_state(plan, s->column),
                              .params = ut_plan_state(plan, s->params),
                              .rng = ut_plan_state(plan, s->rng),
                              .frame = ut_plan_state(plan, s->frame),
                              .history = ut_plan_state(plan, s->history),
                              .noise = ut_plan_input(plan, "noise", UT_F32, 0, 1, n),
                              .probs = probs,
                              .penalty = UT_PENALTY_CODEBOOK,
                              .n_range = n,
                              .id_extra = -1};
    ut_op_sample(plan, ut_plan_input(plan, "logits", UT_F32, 0, 1, n), &a);
    return plan;
}

static void check_sampler(parity *p, int i)
{
    const ut_view *logits = golden(p, "sampling/%d/logits", i);
    const ut_view *noise = golden(p, "sampling/%d/noise", i);
    const ut_view *params = golden(p, "sampling/%d/params", i);
    const ut_view *prev = golden(p, "sampling/%d/prev", i);
    const ut_view *probs = golden(p, "sampling/%d/probs", i);
    const ut_view *index = golden(p, "sampling/%d/index", i);
    if (!logits || !noise || !params || !prev || !probs || !index ||
        prev->n_elements > UT_HISTORY_FRAMES) {
        report_missing(p, "sampling", "a tensor of the case is missing");
        return;
    }
    const int32_t n = (int32_t)logits->n_elements;
    sampler_states s = {0};
    ut_plan *plan = sampler_plan(&s, n);
    ut_exec *e = NULL;
    ut_state *state = NULL;
    float *x = golden_f32(logits), *q = golden_f32(noise), sp[UT_SP_COUNT] = {0};
    int32_t *ids = golden_i32(prev), history[UT_HISTORY_FRAMES], chosen = -1;
    const int32_t frame = prev->n_elements > 0; /* nothing is penalised at frame 0 */
    for (int k = 0; frame && k < UT_HISTORY_FRAMES; k++)
        history[k] = ids[k % prev->n_elements];
    ut_view_to_f32(params, 0, n_recorded_params, sp);
    if (plan && ut_plan_finish(plan, &p->err) == UTTER_OK &&
        p->ops->compile(p->backend, plan, 1, 1, &e, &p->err) == UTTER_OK &&
        p->ops->state_new(p->backend, &s.set, 1, &state, &p->err) == UTTER_OK) {
        p->ops->state_write(state, s.params, 0, 0, 1, sp);
        p->ops->state_write(state, s.frame, 0, 0, 1, &frame);
        if (frame)
            p->ops->state_write(state, s.history, 0, 0, UT_HISTORY_FRAMES, history);
        run_input(p, e, "logits", 1, x, (size_t)n * sizeof *x);
        run_input(p, e, "noise", 1, q, (size_t)n * sizeof *q);
        if (p->ops->run(e, state, 0, 1, &p->err) == UTTER_OK) {
            int64_t rows, cols;
            report_f32(p, probs, run_output(p, e, "probs", 1, &rows, &cols), n, 1e-5);
            p->ops->state_read(state, s.column, 0, 0, 1, &chosen);
            report_i32(p, index, &chosen, 1, 0);
        }
    }
    if (p->err.status != UTTER_OK)
        report_missing(p, index->name, p->err.msg);
    if (state)
        p->ops->state_free(state);
    if (e)
        p->ops->exec_free(e);
    ut_plan_free(plan);
    ut_free(x);
    ut_free(q);
    ut_free(ids);
}

/* ---- The whole case ------------------------------------------------------------------------- */

/* Every tap that any check reads. */
static const char *const *taps(void)
{
    static char names[256][24];
    static const char *list[257];
    static const char *const fixed[] = {
        "slow.embed", "slow.hidden", "slow.normed", "slow.logits", "slow.logits_all", "dec.z_q",
        "dec.post",   "dec.up",      "enc.z",       "enc.down",    "enc.pre"};
    size_t n = 0;
    for (size_t i = 0; i < sizeof fixed / sizeof fixed[0]; i++)
        list[n++] = fixed[i];
    static const struct {
        const char *format;
        int count;
    } series[] = {{"slow.layer%d", 64},
                  {"fast.logits%d", 32},
                  {"dec.block%d", 9},
                  {"enc.block%d", 9},
                  {"enc.e%d", 32}};
    for (size_t s = 0; s < sizeof series / sizeof series[0]; s++)
        for (int i = 0; i < series[s].count; i++, n++) {
            snprintf(names[n], sizeof names[n], series[s].format, i);
            list[n] = names[n];
        }
    list[n] = NULL;
    return list;
}

/* The part of a name between its first two slashes. */
static bool stem_of(const char *name, const char *group, char stem[64])
{
    char g[32] = "";
    return sscanf(name, "%31[^/]/%63[^/]/", g, stem) == 2 && strcmp(g, group) == 0;
}

static bool ends_with(const char *s, const char *tail)
{
    const size_t n = strlen(s), k = strlen(tail);
    return n >= k && strcmp(s + n - k, tail) == 0;
}

static void check_all(lm *l)
{
    parity *p = l->p;
    char stem[64], last[64] = "";
    for (size_t i = 0; i < ut_weights_count(p->golden); i++) {
        const ut_view *v = ut_weights_at(p->golden, i);
        const bool new_stem = sscanf(v->name, "%*[^/]/%63[^/]/", stem) == 1;
        if (!new_stem)
            continue;
        if (stem_of(v->name, "text", stem) && ends_with(v->name, "/ids"))
            check_text(p, l->m, v);
        else if (stem_of(v->name, "prompt", stem) && ends_with(v->name, "/tokens"))
            check_prompt(p, l->m, v);
        else if (stem_of(v->name, "slow", stem) && strcmp(stem, last) != 0)
            check_slow(l, strcpy(last, stem));
        else if (stem_of(v->name, "gen", stem) && ends_with(v->name, "/tokens"))
            check_generation(l, stem);
        else if (stem_of(v->name, "sampling", stem) && ends_with(v->name, "/index"))
            check_sampler(p, atoi(stem));
    }
}

static int32_t longest_prompt(const parity *p)
{
    int64_t n = 1;
    for (size_t i = 0; i < ut_weights_count(p->golden); i++) {
        const ut_view *v = ut_weights_at(p->golden, i);
        if (ends_with(v->name, "/tokens") && v->n_dims == 2 && v->dim[1] > n)
            n = v->dim[1];
    }
    return (int32_t)n;
}

utter_status parity_s1_mini(parity *p)
{
    const ut_model_options options = {.exact_head = true, .external_noise = true, .taps = taps()};
    lm l = {.p = p};
    utter_status st = ut_model_open(&l.m, p->dir, &options, &p->err);
    if (st == UTTER_OK)
        st =
            p->ops->compile(p->backend, l.m->ar.prefill, 1, longest_prompt(p), &l.prefill, &p->err);
    if (st == UTTER_OK)
        st = p->ops->compile(p->backend, l.m->ar.frame, 1, 1, &l.frame, &p->err);
    if (st == UTTER_OK)
        st = p->ops->state_new(p->backend, &l.m->ar.states, 1, &l.state, &p->err);
    if (st == UTTER_OK) {
        l.columns = l.m->ar.columns;
        check_all(&l);
        parity_s1_mini_codec(p, l.m);
    }
    if (l.state)
        p->ops->state_free(l.state);
    if (l.frame)
        p->ops->exec_free(l.frame);
    if (l.prefill)
        p->ops->exec_free(l.prefill);
    ut_model_free(l.m);
    return st;
}
