/* steps_decide.c - attention, and the steps that choose: nearest codebook entries and sampling. */
#include "backends/cpu/exec.h"
#include "backends/cpu/sample.h"
#include <math.h>

/* ---- Attention ------------------------------------------------------------------------------ */

/* Rows of q | k | v: rotated q to the output, k and v to the caches. */
static void qkv_rows(const cpu_run *r, const cpu_step *s, int slot, int32_t row0, int32_t row1,
                     int member)
{
    const ut_op *op = s->op;
    const ut_kernels *k = &r->b->k;
    const int32_t heads = op->u.attn.n_heads, kv_heads = op->u.attn.n_kv_heads;
    const int32_t dim = op->u.attn.head_dim, kv_cols = kv_heads * dim;
    const int32_t first = first_position(r, s, 4, slot, op->u.attn.first_pos);
    const int32_t capacity = s->in[2].rows_fixed;
    const bool bf16 = r->e->head.plan->states->def[s->in[2].state].dtype == UT_BF16;
    const float *q_gain = s->w[0] ? s->w[0]->data : NULL;
    const float *k_gain = s->w[1] ? s->w[1]->data : NULL;
    const float *x = place_row0(r, &s->in[0], slot), *angles = place_row0(r, &s->in[1], slot);
    float *y = place_row0(r, &s->out[0], slot);
    char *cache_k = place_row0(r, &s->in[2], slot), *cache_v = place_row0(r, &s->in[3], slot);
    float *head = member_scratch(r, member), *cos_sin = head + dim;
    const bool halves = op->u.attn.rope == UT_ROPE_HALVES;
    void (*const rotate)(float *, const float *, const float *, float, const float *, int32_t) =
        halves ? k->rotate_halves : k->rotate_head;
    for (int32_t row = row0; row < row1; row++) {
        const float *src = x + (int64_t)row * s->in[0].cols, *a = angles + (int64_t)row * dim;
        if (halves) {
            for (int32_t i = 0; i < dim / 2; i++) {
                cos_sin[i] = a[2 * i];
                cos_sin[dim / 2 + i] = a[2 * i + 1];
            }
            a = cos_sin;
        }
        float *q = y + (int64_t)row * heads * dim;
        for (int32_t h = 0; h < heads; h++)
            rotate(q + h * dim, src + h * dim, q_gain, op->u.attn.eps, a, dim);
        src += heads * dim;
        const int64_t at = (int64_t)((first + row) % capacity) * kv_cols;
        for (int32_t h = 0; h < kv_heads; h++) {
            float *dst = bf16 ? head : (float *)(void *)cache_k + at + h * dim;
            rotate(dst, src + h * dim, k_gain, op->u.attn.eps, a, dim);
            if (bf16)
                k->to_bf16((uint16_t *)(void *)cache_k + at + h * dim, head, dim);
        }
        src += kv_cols;
        if (bf16)
            k->to_bf16((uint16_t *)(void *)cache_v + at, src, kv_cols);
        else
            for (int32_t i = 0; i < kv_cols; i++)
                ((float *)(void *)cache_v)[at + i] = src[i];
    }
}

void cpu_run_qkv(const cpu_run *r, const cpu_step *s)
{
    cpu_for_rows(r, s, qkv_rows, place_rows(&s->in[0], r->n_t), 0.3 * s->in[0].cols, false);
}

typedef struct attention_work {
    const cpu_run *r;
    const cpu_step *s;
    int32_t rows, row_chunk, row_chunks;
} attention_work;

/* One kv head of a chunk of rows. */
static void attention_item(void *arg, int32_t item, int member)
{
    const attention_work *w = arg;
    const cpu_run *r = w->r;
    const cpu_step *s = w->s;
    const ut_op *op = s->op;
    const int32_t kv_heads = op->u.attn.n_kv_heads, dim = op->u.attn.head_dim;
    const int32_t rep = op->u.attn.n_heads / kv_heads, capacity = s->in[2].rows_fixed;
    const int32_t chunk = item % w->row_chunks, head = item / w->row_chunks % kv_heads;
    const int slot = item / w->row_chunks / kv_heads;
    const int32_t row0 = chunk * w->row_chunk;
    const int32_t row1 = row0 + w->row_chunk < w->rows ? row0 + w->row_chunk : w->rows;
    const int32_t first = first_position(r, s, 4, slot, op->u.attn.first_pos);
    const int32_t reach =
        op->u.attn.window && op->u.attn.window < capacity ? op->u.attn.window : capacity;
    const bool bf16 = r->e->head.plan->states->def[s->in[2].state].dtype == UT_BF16;
    const size_t offset = (size_t)head * (size_t)dim * (bf16 ? 2 : 4);
    const int64_t at = (int64_t)row0 * s->in[0].cols + (int64_t)head * rep * dim;
    const ut_attention_job j = {.q = (const float *)place_row0(r, &s->in[0], slot) + at,
                                .y = (float *)place_row0(r, &s->out[0], slot) + at,
                                .row_stride = s->in[0].cols,
                                .n_rows = row1 - row0,
                                .pos = first + row0,
                                .reach = reach,
                                .k = (const char *)place_row0(r, &s->in[2], slot) + offset,
                                .v = (const char *)place_row0(r, &s->in[3], slot) + offset,
                                .kv_stride = (int64_t)kv_heads * dim,
                                .bf16 = bf16,
                                .capacity = capacity,
                                .dim = dim,
                                .n_rep = rep,
                                .scale = 1.0f / sqrtf((float)dim),
                                .block = member_scratch(r, member),
                                .scores =
                                    (float *)member_scratch(r, member) + UT_ATTENTION_BLOCK * dim};
    r->b->k.attention(&j);
}

void cpu_run_attention(const cpu_run *r, const cpu_step *s)
{
    const ut_op *op = s->op;
    attention_work w = {r, s, place_rows(&s->in[0], r->n_t), 0, 0};
    /* guess from the last row of slot 0: two products of all heads with all positions it sees */
    int32_t n = first_position(r, s, 4, 0, op->u.attn.first_pos) + w.rows;
    if (op->u.attn.window && n > op->u.attn.window)
        n = op->u.attn.window;
    const double ns_per_row = 0.15 * n * s->in[0].cols + 20.0 * op->u.attn.n_heads;
    const double ns = ns_per_row * w.rows * r->e->n_slots;
    w.row_chunk = w.rows < CPU_ATTENTION_ROWS ? w.rows : CPU_ATTENTION_ROWS;
    w.row_chunks = (w.rows + w.row_chunk - 1) / w.row_chunk;
    const int32_t items = w.row_chunks * op->u.attn.n_kv_heads * r->e->n_slots;
    if (ns < SHARE_NS)
        for (int32_t i = 0; i < items; i++)
            attention_item(&w, i, 0);
    else
        ut_pool_run(r->b->pool, attention_item, &w, items, ns > WAKE_NS);
}

/* ---- Nearest -------------------------------------------------------------------------------- */

static int32_t first_largest(const float *x, int32_t n)
{
    int32_t best = 0;
    for (int32_t i = 1; i < n; i++)
        if (x[i] > x[best])
            best = i;
    return best;
}

static void nearest_rows(const cpu_run *r, const cpu_step *s, int slot, int32_t row0, int32_t row1,
                         int member)
{
    const ut_kernels *k = &r->b->k;
    const int32_t dim = s->in[0].cols, n = s->op->w[0]->rows, col = s->op->u.nearest.col;
    const bool euclid = s->op->u.nearest.euclid;
    const float *e = (const float *)place_row0(r, &s->in[0], slot) + (int64_t)row0 * dim;
    int32_t *codes = place_row0(r, &s->out[0], slot);
    float *unit = member_scratch(r, member), *score = unit + dim;
    ut_linear_job j = {.x = unit,
                       .x_stride = dim,
                       .seg = dim,
                       .n_seg = 1,
                       .w = s->w[0]->data,
                       .n_out = n,
                       .bias = euclid ? s->inverse->data : NULL,
                       .y = score};
    for (int32_t row = row0; row < row1; row++, e += dim) {
        if (euclid) {
            j.x = e;
            k->linear[UT_PACK_F32](&j, 0, 1, 0, (n + k->panel - 1) / k->panel);
            codes[(int64_t)row * s->out[0].cols + col] = first_largest(score, n);
            continue;
        }
        float norm = 0;
        for (int32_t i = 0; i < dim; i++)
            norm += e[i] * e[i];
        norm = sqrtf(norm);
        for (int32_t i = 0; i < dim; i++)
            unit[i] = e[i] / (norm > 1e-12f ? norm : 1e-12f);
        k->linear[UT_PACK_F32](&j, 0, 1, 0, (n + k->panel - 1) / k->panel);
        codes[(int64_t)row * s->out[0].cols + col] = first_largest(score, n);
    }
}

void cpu_run_nearest(const cpu_run *r, const cpu_step *s)
{
    const double ns = (double)s->op->w[0]->rows * (1.0 + 0.05 * s->in[0].cols);
    cpu_for_rows(r, s, nearest_rows, place_rows(&s->in[0], r->n_t), ns, false);
}

/* ---- Sampling ------------------------------------------------------------------------------- */

/* The entries that the repetition penalty of a slot is about. */
static void find_penalised(const cpu_run *r, const cpu_step *s, int slot, int32_t frame,
                           ut_sample_job *j)
{
    const ut_op *op = s->op;
    j->n_penalised = 0;
    j->chosen_before = NULL;
    if (op->u.sample.penalty == UT_PENALTY_ALL)
        j->chosen_before = place_row0(r, &s->in[4], slot);
    if (op->u.sample.penalty == UT_PENALTY_NONE || op->u.sample.penalty == UT_PENALTY_ALL ||
        frame <= 0)
        return;
    const int32_t cols = s->in[4].cols;
    const int32_t *history = place_row0(r, &s->in[4], slot);
    const bool column = op->u.sample.penalty == UT_PENALTY_CODEBOOK;
    const int32_t oldest = frame - 1 < UT_HISTORY_FRAMES ? 0 : (frame - 1) % UT_HISTORY_FRAMES;
    const int32_t n = column ? UT_HISTORY_FRAMES : cols;
    for (int32_t i = 0; i < n && j->n_penalised < UT_SAMPLE_MAX_PENALISED; i++) {
        const int32_t id = column ? history[(int64_t)i * cols + op->u.sample.penalty_col]
                                  : history[(int64_t)oldest * cols + i];
        const int64_t entry = (int64_t)id - op->u.sample.id_first;
        if (entry >= 0 && entry < op->u.sample.n_range)
            j->penalised[j->n_penalised++] = (int32_t)entry;
        else if (id == op->u.sample.id_extra && id >= 0)
            j->penalised[j->n_penalised++] = op->u.sample.n_range;
    }
}

static void sample_slot(void *arg, int32_t slot, int member)
{
    const cpu_run *r = ((const void *const *)arg)[0];
    const cpu_step *s = ((const void *const *)arg)[1];
    const ut_op *op = s->op;
    const float *params =
        (const float *)place_row0(r, &s->in[1], slot) + op->u.sample.params_row * UT_SP_COUNT;
    const int32_t *rng = place_row0(r, &s->in[2], slot);
    const int32_t frame = *(const int32_t *)place_row0(r, &s->in[3], slot);
    ut_sample_job j;
    j.logits = place_row0(r, &s->in[0], slot);
    j.noise = s->has_in[5] ? place_row0(r, &s->in[5], slot) : NULL;
    j.probs = s->has_out[1] ? place_row0(r, &s->out[1], slot) : NULL;
    j.n = s->in[0].cols;
    j.temperature = params[UT_SP_TEMPERATURE];
    j.top_p = params[UT_SP_TOP_P];
    j.penalty = params[UT_SP_REPETITION_PENALTY];
    j.top_k = params[UT_SP_TOP_K] < (float)j.n ? (int32_t)params[UT_SP_TOP_K] : 0;
    j.narrowing = op->u.sample.narrowing;
    j.without_last = op->u.sample.id_extra >= 0 && frame < op->u.sample.extra_from_frame;
    j.seed[0] = (uint32_t)rng[UT_RNG_SEED_LO];
    j.seed[1] = (uint32_t)rng[UT_RNG_SEED_HI];
    j.frame = (uint32_t)frame;
    j.decision = (uint32_t)op->u.sample.decision;
    j.scratch = member_scratch(r, member);
    find_penalised(r, s, slot, frame, &j);
    const int32_t entry = ut_sample(&r->b->k, &j);
    if (op->u.sample.penalty == UT_PENALTY_ALL)
        ((int32_t *)place_row0(r, &s->in[4], slot))[entry] = 1;
    int32_t *dst = place_row0(r, &s->out[0], slot);
    dst[op->u.sample.col] =
        entry < op->u.sample.n_range ? op->u.sample.id_first + entry : op->u.sample.id_extra;
}

void cpu_run_sample(const cpu_run *r, const cpu_step *s)
{
    const void *arg[2] = {r, s};
    ut_pool_run(r->b->pool, sample_slot, arg, r->e->n_slots, true);
}
