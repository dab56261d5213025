/* qwen3_tts.c - recorded cases of the Qwen3-TTS family: tokenizer, prompts of all modes, talker and
 * code predictor. A case directory holds three checkpoints, cases.json and golden.safetensors;
 * names and shapes: README of the recorded cases. */
#include "parity/qwen3_tts.h"
#include "base/alloc.h"
#include "base/os.h"
#include "models/qwen3_tts/qwen3_tts.h"
#include "text/bpe.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const double tolerance = 1e-3; /* hidden states and logits in f32 */

/* ---- Opening -------------------------------------------------------------------------------- */

/* Every tap that any check reads. */
static const char *const *taps(void)
{
    static char names[512][24];
    static const char *list[513];
    static const char *const fixed[] = {
        "talker.embed", "talker.hidden",       "talker.hidden_all", "talker.logits", "dec.rvq",
        "dec.pre_conv", "dec.pre_transformer", "dec.upsample",      "dec.conv0",     "enc.conv0",
        "enc.seanet",   "enc.transformer",     "enc.downsample",    "spk.mfa",       "spk.asp"};
    static const struct {
        const char *format;
        int count;
    } series[] = {{"predictor.logits%d", 32}, {"dec.up%d", 8},          {"dec.up%d_conv", 8},
                  {"dec.block%d", 8},         {"dec.block%d_snake", 8}, {"dec.block%d_tconv", 8},
                  {"enc.res%d", 8},           {"enc.e%d", 32},          {"spk.block%d", 8}};
    size_t n = 0;
    for (size_t i = 0; i < sizeof fixed / sizeof fixed[0]; i++)
        list[n++] = fixed[i];
    for (size_t s = 0; s < sizeof series / sizeof series[0]; s++)
        for (int i = 0; i < series[s].count; i++, n++) {
            snprintf(names[n], sizeof names[n], series[s].format, i);
            list[n] = names[n];
        }
    list[n] = NULL;
    return list;
}

q3_model *q3_open(q3_case *c, const char *kind)
{
    static const char *const kinds[] = {"base", "custom_voice", "voice_design"};
    parity *p = c->p;
    q3_model *q = NULL;
    for (int k = 0; k < Q3_KINDS; k++)
        if (strcmp(kind, kinds[k]) == 0)
            q = &c->models[k];
    if (!q || q->state)
        return q;
    snprintf(q->name, sizeof q->name, "%s", kind);
    snprintf(q->dir, sizeof q->dir, "%s/%s", p->dir, kind);
    const ut_model_options options = {.external_noise = true, .taps = taps()};
    utter_status st = ut_model_open(&q->m, q->dir, &options, &p->err);
    if (st == UTTER_OK)
        st = p->ops->compile(p->backend, q->m->ar.prefill, 1, 1024, &q->prefill, &p->err);
    if (st == UTTER_OK)
        st = p->ops->compile(p->backend, q->m->ar.frame, 1, 1, &q->frame, &p->err);
    if (st == UTTER_OK)
        st = p->ops->state_new(p->backend, &q->m->ar.states, 1, &q->state, &p->err);
    return st == UTTER_OK ? q : NULL;
}

static void close_models(q3_case *c)
{
    parity *p = c->p;
    for (int k = 0; k < Q3_KINDS; k++) {
        q3_model *q = &c->models[k];
        if (q->state)
            p->ops->state_free(q->state);
        if (q->frame)
            p->ops->exec_free(q->frame);
        if (q->prefill)
            p->ops->exec_free(q->prefill);
        ut_model_free(q->m);
    }
}

/* ---- Fields of cases.json ------------------------------------------------------------------- */

static const char *field(ut_json_value object, const char *key)
{
    const char *s = NULL;
    ut_json_opt_string(ut_json_member(object, key), &s, NULL);
    return s;
}

static bool flag(ut_json_value object, const char *key)
{
    bool on = false;
    ut_json_opt_bool(ut_json_member(object, key), &on, NULL);
    return on;
}

static double number(ut_json_value object, const char *key, double otherwise)
{
    ut_json_opt_number(ut_json_member(object, key), -1e30, 1e30, &otherwise, NULL);
    return otherwise;
}

/* Are the ids those of a JSON list? */
static bool same_ids(const ut_buf *ids, ut_json_value list)
{
    bool same = ut_buf_n_i32(ids) == ut_json_size(list);
    for (size_t i = 0; same && i < ut_buf_n_i32(ids); i++) {
        int32_t id = -1;
        ut_json_get_i32(ut_json_item(list, i), 0, INT32_MAX, &id, NULL);
        same = id == ut_buf_i32(ids)[i];
    }
    return same;
}

/* ---- Text ----------------------------------------------------------------------------------- */

/* {"pairs": [{"text", "ids"}]} */
static void check_pairs(parity *p, const char *path, const ut_bpe *bpe)
{
    ut_json *doc = NULL;
    if (ut_json_read(&doc, path, UT_JSON_MAX_BYTES, &p->err) != UTTER_OK) {
        report_missing(p, path, p->err.msg);
        return;
    }
    const ut_json_value pairs = ut_json_member(ut_json_root(doc), "pairs");
    const size_t n = ut_json_size(pairs);
    size_t n_same = 0;
    ut_buf ids;
    ut_buf_init(&ids, (size_t)1 << 28);
    for (size_t i = 0; i < n; i++) {
        const ut_json_value pair = ut_json_item(pairs, i);
        const char *text = "";
        size_t size = 0;
        ut_buf_clear(&ids);
        ut_err err = {0};
        if (ut_json_get_bytes(ut_json_member(pair, "text"), &text, &size, &err) == UTTER_OK &&
            ut_bpe_encode(bpe, text, size, true, &ids, &err) == UTTER_OK)
            n_same += same_ids(&ids, ut_json_member(pair, "ids"));
    }
    char line[128];
    snprintf(line, sizeof line, "tokenizer pairs: %zu of %zu agree", n_same, n);
    report_bool(p, line, n > 0 && n_same == n);
    ut_buf_free(&ids);
    ut_json_free(doc);
}

static ut_bpe *load_bpe(parity *p, const char *dir)
{
    char path[3][1100];
    static const char *const names[] = {"vocab.json", "merges.txt", "tokenizer_config.json"};
    for (int i = 0; i < 3; i++)
        snprintf(path[i], sizeof path[i], "%s/%s", dir, names[i]);
    ut_bpe *bpe = NULL;
    if (ut_bpe_load_vocab(&bpe, path[0], path[1], path[2], UT_PRESPLIT_QWEN2, &p->err) != UTTER_OK)
        report_missing(p, path[0], p->err.msg);
    return bpe;
}

/* The small vocabulary of the case, and the real one where it lies beside the case. */
static void check_tokenizers(parity *p)
{
    char dir[1024], pairs[1100];
    snprintf(dir, sizeof dir, "%s/base", p->dir);
    snprintf(pairs, sizeof pairs, "%s/tokenizer_pairs.json", p->dir);
    ut_bpe *bpe = load_bpe(p, dir);
    if (bpe)
        check_pairs(p, pairs, bpe);
    ut_bpe_free(bpe);
    snprintf(dir, sizeof dir, "%s/../tokenizer", p->dir);
    snprintf(pairs, sizeof pairs, "%s/pairs.json", dir);
    if (!ut_file_exists(pairs))
        return;
    bpe = load_bpe(p, dir);
    if (bpe)
        check_pairs(p, pairs, bpe);
    ut_bpe_free(bpe);
}

/* The recorded ids of a wrapped string. */
static void check_wrapped(q3_case *c, const q3_model *q, const char *name, ut_json_value object,
                          char kind, const char *text_key, const char *ids_key)
{
    const ut_json_value list = ut_json_member(object, ids_key);
    const char *text = field(object, text_key);
    if (ut_json_typeof(list) != UT_JSON_ARRAY)
        return;
    ut_buf ids;
    ut_buf_init(&ids, (size_t)1 << 24);
    char line[128];
    snprintf(line, sizeof line, "%s.%s", name, ids_key);
    report_bool(c->p, line,
                text && ut_qwen3_tts_wrap(q->m, kind, text, &ids, &c->p->err) == UTTER_OK &&
                    same_ids(&ids, list));
    ut_buf_free(&ids);
}

/* ---- Running the language model ------------------------------------------------------------- */

/* The noise of a frame's decisions: even, and where `codes` [groups] say what was recorded, such
 * that these are chosen. */
static void set_noise(parity *p, ut_exec *e, const int32_t *codes)
{
    for (int i = 0; i < 32; i++) {
        char name[32];
        snprintf(name, sizeof name, "noise.%d", i);
        const ut_tid t = ut_plan_find(e->plan, name);
        const int32_t n = t == UT_NONE ? 0 : e->plan->tensors[t].cols;
        float *q = n ? p->ops->input(e, t, 1) : NULL;
        for (int32_t k = 0; k < n; k++)
            q[k] = 1.0f;
        if (n && codes)
            q[codes[i] < n ? codes[i] : n - 1] = 1e-30f;
    }
}

/* Prefill with columns; greedy. */
static utter_status run_prefill(parity *p, q3_model *q, const ut_buf *columns,
                                const ut_buf *embedding, const ut_buf *later, float penalty,
                                const int32_t *forced)
{
    const ut_ar *ar = &q->m->ar;
    const size_t n = ut_buf_n_i32(columns) / (size_t)ar->columns;
    const float temperature = forced ? 1.0f : 0.0f;
    const float params[2][UT_SP_COUNT] = {{[UT_SP_TEMPERATURE] = temperature,
                                           [UT_SP_TOP_P] = 1.0f,
                                           [UT_SP_REPETITION_PENALTY] = penalty},
                                          {[UT_SP_TEMPERATURE] = temperature,
                                           [UT_SP_TOP_P] = 1.0f,
                                           [UT_SP_REPETITION_PENALTY] = 1.0f}};
    if (n < 1 || n > 1024)
        return ut_fail(&p->err, UTTER_ERR_LIMIT, "a prompt of %zu columns", n);
    p->ops->state_reset(q->state, 0);
    p->ops->state_write(q->state, ar->params, 0, 0, 2, params);
    for (size_t i = 0; later && i < ut_buf_n_i32(later); i++) {
        const int32_t token = ut_buf_i32(later)[i] - ar->text_pad;
        p->ops->state_write(q->state, ar->text, 0, (int32_t)i, 1, &token);
    }
    run_input(p, q->prefill, "tokens", (int32_t)n, columns->data, columns->len);
    if (embedding && embedding->len)
        run_input(p, q->prefill, "speaker", (int32_t)n, embedding->data, embedding->len);
    set_noise(p, q->prefill, forced);
    return p->ops->run(q->prefill, q->state, 0, (int32_t)n, &p->err);
}

/* Text tokens alone through prefill: their vectors against the rows of v. */
static void report_texts(parity *p, q3_model *q, const ut_view *v, const int32_t *ids, size_t n)
{
    ut_buf columns;
    ut_buf_init(&columns, (size_t)1 << 24);
    for (size_t i = 0; i < n; i++) {
        ut_buf_push_i32(&columns, ids[i]);
        for (int32_t g = 1; g < q->m->ar.columns; g++)
            ut_buf_push_i32(&columns, UT_ID_NONE);
    }
    int64_t rows = 0, cols = 0;
    const float *x = NULL;
    if (run_prefill(p, q, &columns, NULL, NULL, 1.0f, NULL) == UTTER_OK)
        x = run_output(p, q->prefill, "talker.embed", (int32_t)n, &rows, &cols);
    report_f32(p, v, x, rows * cols, tolerance);
    ut_buf_free(&columns);
}

/* ---- Prompts -------------------------------------------------------------------------------- */

/* The recorded reference of the base cases. */
static ut_reference reference(parity *p)
{
    const ut_view *codes = golden(p, "enc.codes"), *embedding = golden(p, "spk.embedding");
    ut_reference r = {0};
    if (!codes || !embedding)
        return r;
    r.codes = golden_i32(codes);
    r.n_frames = (int32_t)codes->dim[0];
    r.embedding = golden_f32(embedding);
    return r;
}

/* A case as a request; ref holds what belongs to it. */
static ut_request request_of(q3_case *c, ut_json_value object, ut_reference *ref)
{
    ut_request r = {.text = field(object, "text"),
                    .speaker = field(object, "speaker"),
                    .instruct = field(object, "instruct"),
                    .language = field(object, "language"),
                    .feed = flag(object, "non_streaming_mode") ? UT_FEED_WHOLE : UT_FEED_ALONG};
    *ref = (ut_reference){0};
    if (strcmp(field(object, "kind"), "base") == 0) {
        *ref = reference(c->p);
        ref->text = field(object, "ref_text");
        r.refs = ref;
        r.n_refs = 1;
    }
    return r;
}

static void free_reference(ut_reference *r)
{
    ut_free((int32_t *)(uintptr_t)r->codes);
    ut_free((float *)(uintptr_t)r->embedding);
}

static bool make_prompt(q3_case *c, const q3_model *q, const char *name, ut_json_value object,
                        ut_prompt *out)
{
    parity *p = c->p;
    ut_reference ref;
    ut_request r = request_of(c, object, &ref);
    if (r.instruct && r.instruct[0] && ut_qwen3_tts_drops_instruct(q->m)) {
        /* the reference drops the instruction without a word; here asking for one is an error */
        ut_err err = {0};
        char line[128];
        snprintf(line, sizeof line, "%s: an instruction is refused", name);
        report_bool(p, line, q->m->ops->prompt(q->m, &r, out, &err) == UTTER_ERR_UNSUPPORTED);
        ut_prompt_clear(out);
        r.instruct = NULL;
    }
    const bool ok = r.text && q->m->ops->prompt(q->m, &r, out, &p->err) == UTTER_OK;
    if (!ok)
        report_missing(p, name, r.text ? p->err.msg : "has no text");
    free_reference(&ref);
    return ok;
}

static void check_prompt(q3_case *c, q3_model *q, const char *name, const ut_prompt *prompt)
{
    parity *p = c->p;
    const ut_view *embeds = golden(p, "prompt.%s.embeds", name);
    const ut_view *trailing = golden(p, "prompt.%s.trailing", name);
    const int32_t n = (int32_t)(ut_buf_n_i32(&prompt->columns) / (size_t)q->m->ar.columns);
    if (embeds) {
        int64_t rows = 0, cols = 0;
        const float *x = NULL;
        if (run_prefill(p, q, &prompt->columns, &prompt->embedding, NULL, 1.0f, NULL) == UTTER_OK)
            x = run_output(p, q->prefill, "talker.embed", n, &rows, &cols);
        report_f32(p, embeds, x, rows * cols, tolerance);
    }
    const size_t n_later = ut_buf_n_i32(&prompt->later);
    if (trailing) /* one row of the pad token where nothing trails */
        report_texts(p, q, trailing, n_later ? ut_buf_i32(&prompt->later) : &q->m->ar.text_pad,
                     n_later ? n_later : 1);
}

/* ---- Greedy runs ---------------------------------------------------------------------------- */

/* Rows that come one by one: [n, cols]. */
typedef struct rows {
    float *data;
    int64_t n, max, cols;
} rows;

static void add_row(rows *r, const float *x, int64_t cols)
{
    if (!x || r->n >= r->max)
        return;
    if (!r->data)
        r->data = need_memory((size_t)(r->max * cols), sizeof *r->data);
    r->cols = cols;
    memcpy(r->data + r->n++ * cols, x, (size_t)cols * sizeof *x);
}

/* What a run gives, in the layout of the recorded tensors. */
typedef struct generated {
    rows prefill_hidden, hidden, input, logits, predictor;
    int32_t *codes; /* [n, groups] */
    int64_t n, max;
    bool ended;
    double talker_margin, predictor_margin; /* smallest gaps between the two best choices */
} generated;

static double gap(const float *x, int64_t n)
{
    float best = -INFINITY, second = -INFINITY;
    for (int64_t i = 0; i < n; i++)
        if (x[i] > best) {
            second = best;
            best = x[i];
        } else if (x[i] > second) {
            second = x[i];
        }
    return (double)best - (double)second;
}

/* The gap of the first code's choice, after the penalty, among what may be chosen. */
static double talker_gap(const q3_model *q, const generated *g, const float *logits, int64_t vocab,
                         float penalty)
{
    const int32_t eos = q->m->ar.stop_id, groups = q->m->ar.columns - 1;
    const int64_t n_codes = vocab - 1024;
    float *x = need_memory((size_t)n_codes + 1, sizeof *x);
    memcpy(x, logits, (size_t)n_codes * sizeof *x);
    x[n_codes] = logits[eos];
    for (int64_t f = 0; f < g->n; f++) {
        const int32_t id = g->codes[f * groups];
        bool again = false;
        for (int64_t e = 0; e < f; e++)
            again |= g->codes[e * groups] == id;
        if (!again)
            x[id] = x[id] > 0 ? x[id] / penalty : x[id] * penalty;
    }
    const double d = gap(x, g->n < q->m->ar.stop_from_frame ? n_codes : n_codes + 1);
    ut_free(x);
    return d;
}

/* Keep what the run of frame g->n left; false at the end of speech. */
static bool keep_frame(q3_case *c, q3_model *q, ut_exec *e, float penalty, generated *g)
{
    parity *p = c->p;
    const ut_ar *ar = &q->m->ar;
    const int32_t groups = ar->columns - 1;
    int64_t n, cols;
    const float *x = run_output(p, e, "talker.logits", 1, &n, &cols);
    add_row(&g->logits, x, cols);
    g->talker_margin = fmin(g->talker_margin, talker_gap(q, g, x, cols, penalty));
    if (g->n > 0 || e == q->frame) {
        x = run_output(p, e, "talker.hidden", 1, &n, &cols);
        add_row(&g->hidden, x, cols);
        x = run_output(p, e, "talker.embed", 1, &n, &cols);
        add_row(&g->input, x, cols);
    }
    int32_t *column = need_memory((size_t)ar->columns, sizeof *column);
    bool more = p->ops->ring_wait(q->state, ar->ring, 0, g->n, column, &p->err) == UTTER_OK;
    g->ended = more && column[0] == ar->stop_id;
    /* the last pick of the reference is not expanded */
    more = more && !g->ended && g->n + 1 < g->max;
    if (more) {
        memcpy(g->codes + g->n * groups, column + 1, (size_t)groups * sizeof *column);
        g->n++;
        for (int32_t k = 1; k < groups; k++) {
            char name[32];
            snprintf(name, sizeof name, "predictor.logits%d", (int)k);
            x = run_output(p, e, name, 1, &n, &cols);
            add_row(&g->predictor, x, cols);
            g->predictor_margin = fmin(g->predictor_margin, gap(x, cols));
        }
    }
    ut_free(column);
    return more;
}

/* forced: codes [n_forced, groups] to go along instead of choosing, or NULL. */
static utter_status generate(q3_case *c, q3_model *q, const ut_prompt *prompt, float penalty,
                             const int32_t *forced, int64_t n_forced, generated *g)
{
    parity *p = c->p;
    const int32_t groups = q->m->ar.columns - 1;
    const int32_t n = (int32_t)(ut_buf_n_i32(&prompt->columns) / (size_t)q->m->ar.columns);
    utter_status st =
        run_prefill(p, q, &prompt->columns, &prompt->embedding, &prompt->later, penalty, forced);
    if (st != UTTER_OK)
        return st;
    int64_t rows_n, cols;
    const float *all = run_output(p, q->prefill, "talker.hidden_all", n, &rows_n, &cols);
    g->prefill_hidden.max = rows_n;
    for (int64_t i = 0; i < rows_n; i++)
        add_row(&g->prefill_hidden, all + i * cols, cols);
    for (bool more = keep_frame(c, q, q->prefill, penalty, g); more && st == UTTER_OK;) {
        /* past the recorded frames nothing but the talker's logits is looked at */
        set_noise(p, q->frame, forced && g->n < n_forced ? forced + g->n * groups : NULL);
        st = p->ops->run(q->frame, q->state, 0, 1, &p->err);
        more = st == UTTER_OK && keep_frame(c, q, q->frame, penalty, g);
    }
    return st;
}

/* The first rows of r, as many as v has. */
static void report_rows(parity *p, const ut_view *v, const rows *r)
{
    if (!v)
        return;
    int64_t n = v->n_elements;
    if (r->n * r->cols < n)
        n = r->n * r->cols;
    report_f32(p, v, r->data, n, tolerance);
}

/* A number of cases.json; what only f32 can reproduce is left out otherwise. */
static void report_number(parity *p, const char *name, const char *key, ut_json_value object,
                          double got, double allowed)
{
    const double want = number(object, key, (double)NAN);
    if (isnan(want) || (allowed > 0 && !p->exact))
        return;
    char line[160];
    snprintf(line, sizeof line, "%s.%s: %.6f, recorded %.6f", name, key, got, want);
    report_bool(p, line, fabs(got - want) <= allowed);
}

static void report_wave(q3_case *c, const q3_model *q, const ut_view *v, const ut_prompt *prompt,
                        const generated *g)
{
    parity *p = c->p;
    const int32_t groups = q->m->ar.columns - 1, before = prompt->n_context;
    const int64_t n = before + g->n, hop = q->m->codec.hop_samples;
    int32_t *codes = need_memory((size_t)(n * groups), sizeof *codes);
    if (before) {
        int32_t *first = golden_i32(golden(p, "enc.codes"));
        memcpy(codes, first, (size_t)before * (size_t)groups * sizeof *codes);
        ut_free(first);
    }
    memcpy(codes + (int64_t)before * groups, g->codes, (size_t)(g->n * groups) * sizeof *codes);
    float *pcm = q3_decode(p, &q->m->codec, codes, (int32_t)n);
    report_f32(p, v, pcm ? pcm + before * hop : NULL, g->n * hop, 2e-4);
    ut_free(pcm);
    ut_free(codes);
}

/* How many of the predictor's forced codes would have been chosen anyway: nearly all. */
static void report_agreement(parity *p, const char *name, const generated *g, int32_t groups)
{
    int64_t same = 0;
    for (int64_t i = 0; i < g->predictor.n; i++) {
        const float *x = g->predictor.data + i * g->predictor.cols;
        int64_t best = 0;
        for (int64_t k = 1; k < g->predictor.cols; k++)
            if (x[k] > x[best])
                best = k;
        same += best == g->codes[i / (groups - 1) * groups + 1 + i % (groups - 1)];
    }
    char line[128];
    snprintf(line, sizeof line, "gen.%s.codes: %lld of %lld would be chosen", name, (long long)same,
             (long long)g->predictor.n);
    report_bool(p, line, (double)same >= (1 - p->most_changed) * (double)g->predictor.n);
}

/* Which ids the reference could not choose: first, last and how many, and the one that stops. */
static void check_suppressed(parity *p, const q3_model *q, const char *name, ut_json_value object,
                             const generated *g)
{
    const ut_json_value list = ut_json_member(object, "suppress_first_last_count");
    const double eos = number(ut_json_member(object, "generate_kwargs"), "eos_token_id", -1);
    if (ut_json_size(list) != 3)
        return;
    const ut_json_value first = ut_json_item(list, 0), last = ut_json_item(list, 1);
    int32_t v[3] = {0};
    ut_json_get_i32(first, 0, INT32_MAX, &v[0], NULL);
    ut_json_get_i32(last, 0, INT32_MAX, &v[1], NULL);
    ut_json_get_i32(ut_json_item(list, 2), 0, INT32_MAX, &v[2], NULL);
    const ut_tid noise = ut_plan_find(q->frame->plan, "noise.0");
    const int32_t n_codes = q->frame->plan->tensors[noise].cols - 1;
    char line[96];
    snprintf(line, sizeof line, "%s.suppress_first_last_count", name);
    report_bool(p, line,
                v[0] == n_codes && v[1] == g->logits.cols - 1 &&
                    v[2] == g->logits.cols - n_codes - 1 && (int32_t)eos == q->m->ar.stop_id);
}

static void check_generation(q3_case *c, q3_model *q, const char *name, ut_json_value object,
                             const ut_prompt *prompt)
{
    parity *p = c->p;
    const ut_view *codes = golden(p, "gen.%s.codes", name), *v;
    if (!codes)
        return;
    const ut_json_value settings = ut_json_member(object, "generate_kwargs");
    const float penalty = (float)number(settings, "repetition_penalty", 1.05);
    const int64_t max = (int64_t)number(settings, "max_new_tokens", 32);
    const int32_t groups = q->m->ar.columns - 1;
    generated g = {.max = max, .talker_margin = HUGE_VAL, .predictor_margin = HUGE_VAL};
    g.codes = need_memory((size_t)(max * groups), sizeof *g.codes);
    g.hidden.max = g.input.max = g.logits.max = max;
    g.predictor.max = max * (groups - 1);
    /* other types than f32 part ways after a near tie: they go along what was recorded */
    int32_t *recorded = golden_i32(codes);
    if (!p->exact)
        g.max = codes->dim[0] + 1;
    if (generate(c, q, prompt, penalty, p->exact ? NULL : recorded, codes->dim[0], &g) !=
        UTTER_OK) {
        report_missing(p, codes->name, p->err.msg);
    } else {
        report_i32(p, codes, g.codes, g.n * groups, 0);
        if (!p->exact)
            report_agreement(p, name, &g, groups);
        report_rows(p, golden(p, "gen.%s.logits", name), &g.logits);
        report_rows(p, golden(p, "gen.%s.prefill_hidden", name), &g.prefill_hidden);
        report_rows(p, golden(p, "gen.%s.step_hidden", name), &g.hidden);
        report_rows(p, golden(p, "gen.%s.step_input", name), &g.input);
        report_rows(p, golden(p, "gen.%s.code_predictor_logits", name), &g.predictor);
        if ((v = golden(p, "gen.%s.wav", name)))
            report_wave(c, q, v, prompt, &g);
        report_number(p, name, "frames", object, (double)g.n, 0);
        report_number(p, name, "min_talker_margin", object, g.talker_margin, 2 * tolerance);
        report_number(p, name, "min_code_predictor_margin", object, g.predictor_margin,
                      2 * tolerance);
        char line[96];
        snprintf(line, sizeof line, "%s.ended_by_eos", name);
        if (p->exact)
            report_bool(p, line, g.ended == flag(object, "ended_by_eos"));
        check_suppressed(p, q, name, object, &g);
    }
    rows *all[] = {&g.prefill_hidden, &g.hidden, &g.input, &g.logits, &g.predictor};
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++)
        ut_free(all[i]->data);
    ut_free(g.codes);
    ut_free(recorded);
}

/* ---- The whole case ------------------------------------------------------------------------- */

static void check_case(q3_case *c, const char *name, ut_json_value object)
{
    parity *p = c->p;
    const char *kind = field(object, "kind");
    q3_model *q = kind ? q3_open(c, kind) : NULL;
    if (!q) {
        report_missing(p, name, p->err.status ? p->err.msg : "is of no known kind");
        return;
    }
    check_wrapped(c, q, name, object, 't', "text", "input_ids");
    check_wrapped(c, q, name, object, 'r', "ref_text", "ref_ids");
    check_wrapped(c, q, name, object, 'i', "instruct", "instruct_ids");
    ut_prompt prompt;
    ut_prompt_init(&prompt);
    if (make_prompt(c, q, name, object, &prompt)) {
        check_prompt(c, q, name, &prompt);
        check_generation(c, q, name, object, &prompt);
    }
    ut_prompt_free(&prompt);
}

utter_status parity_qwen3_tts(parity *p)
{
    q3_case c = {.p = p};
    char path[1100];
    snprintf(path, sizeof path, "%s/cases.json", p->dir);
    const utter_status st = ut_json_read(&c.doc, path, UT_JSON_MAX_BYTES, &p->err);
    if (st != UTTER_OK)
        return st;
    check_tokenizers(p);
    const ut_json_value cases = ut_json_member(ut_json_root(c.doc), "cases");
    for (ut_json_iter it = {0}; ut_json_next(cases, &it);)
        if (it.key[0] != '_')
            check_case(&c, it.key, it.value);
    const ut_view *pad = golden(p, "tts_pad_embed");
    q3_model *base = q3_open(&c, "base");
    if (pad && base)
        report_texts(p, base, pad, &base->m->ar.text_pad, 1);
    q3_check_sampling(&c);
    q3_check_codec(&c);
    close_models(&c);
    ut_json_free(c.doc);
    return UTTER_OK;
}
