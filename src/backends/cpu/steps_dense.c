/* steps_dense.c - steps that hand rows to the kernels: linear, norms, activations, depthwise
 * convolution; and how work is shared out among threads. */
#include "backends/cpu/exec.h"

/* ---- Rows ----------------------------------------------------------------------------------- */

typedef struct rows_job {
    const cpu_run *r;
    const cpu_step *s;
    cpu_rows_fn *fn;
    int32_t rows, chunk, chunks; /* per slot */
} rows_job;

static void rows_item(void *arg, int32_t item, int member)
{
    const rows_job *j = arg;
    const int32_t slot = item / j->chunks, row0 = item % j->chunks * j->chunk;
    const int32_t row1 = row0 + j->chunk < j->rows ? row0 + j->chunk : j->rows;
    j->fn(j->r, j->s, slot, row0, row1, member);
}

void cpu_for_rows(const cpu_run *r, const cpu_step *s, cpu_rows_fn *fn, int32_t rows,
                  double ns_per_row, bool joined)
{
    const int slots = joined ? 1 : r->e->n_slots, members = ut_pool_size(r->b->pool);
    if (joined)
        rows *= r->e->n_slots;
    const double ns = ns_per_row * rows * slots;
    if (members == 1 || ns < SHARE_NS) {
        for (int slot = 0; slot < slots; slot++)
            fn(r, s, slot, 0, rows, 0);
        return;
    }
    /* about four pieces per thread, none of less than a microsecond */
    int32_t pieces = members * 4 / slots;
    if (pieces > ns / slots / 1000)
        pieces = (int32_t)(ns / slots / 1000);
    if (pieces > rows)
        pieces = rows;
    if (pieces < 1)
        pieces = 1;
    rows_job j = {r, s, fn, rows, (rows + pieces - 1) / pieces, 0};
    j.chunks = (rows + j.chunk - 1) / j.chunk;
    ut_pool_run(r->b->pool, rows_item, &j, j.chunks * slots, ns > WAKE_NS);
}

/* ---- Linear --------------------------------------------------------------------------------- */

/* Rows per item when a product is cut by rows: enough to earn reading the weights, and not more
 * than the kernel takes through all panels at once. */
enum { FEW_ROWS = 192, MANY_ROWS = 384 };

typedef struct linear_work {
    const cpu_run *r;
    const cpu_step *s;
    ut_linear_job job; /* of slot 0 */
    ut_linear_fn *fn;
    int slots;
    int32_t rows, row_chunk, row_chunks;
    int32_t panels, group, groups; /* panels per item, items per row chunk */
} linear_work;

static const float *vector_of(const ut_packed *p)
{
    return p ? p->data : NULL;
}

static void set_slot(const linear_work *w, ut_linear_job *j, int slot)
{
    const cpu_run *r = w->r;
    const cpu_step *s = w->s;
    const ut_op *op = s->op;
    const int32_t cols = s->in[0].cols, taps = op->u.linear.taps, dilation = op->u.linear.dilation;
    j->x = (const float *)place_row0(r, &s->in[0], slot) - (int64_t)(taps - 1) * dilation * cols;
    j->y = place_row0(r, &s->out[0], slot);
    j->residual = s->has_in[1] ? place_row0(r, &s->in[1], slot) : NULL;
}

static void linear_item(void *arg, int32_t item, int member)
{
    const linear_work *w = arg;
    const int32_t chunk = item / w->groups, panel0 = item % w->groups * w->group;
    const int32_t panel1 = panel0 + w->group < w->panels ? panel0 + w->group : w->panels;
    const int32_t row0 = chunk * w->row_chunk;
    const int32_t row1 = row0 + w->row_chunk < w->rows ? row0 + w->row_chunk : w->rows;
    (void)member;
    ut_linear_job j = w->job;
    for (int slot = 0; slot < w->slots; slot++) {
        if (slot > 0)
            set_slot(w, &j, slot);
        w->fn(&j, row0, row1, panel0, panel1);
    }
}

static int32_t round_up(int32_t n, int32_t to)
{
    return (n + to - 1) / to * to;
}

/* Cut a product into items. Many rows (convolutions): by rows, so that an item's rows and all of
 * the weights stay in the nearer caches. Else by outputs, so that every weight is read once, and by
 * rows too where there are too few panels. */
static void cut_linear(linear_work *w, const ut_kernels *k, int members)
{
    const int32_t want = members * 4;
    if (w->rows >= want * FEW_ROWS) {
        w->group = w->panels;
        const int32_t chunks = round_up((w->rows + MANY_ROWS - 1) / MANY_ROWS, members);
        w->row_chunk = round_up((w->rows + chunks - 1) / chunks, k->row_block);
    } else {
        w->group = (w->panels + want - 1) / want;
        if (w->rows == 1 && w->panels >= 8 * members)
            w->group = round_up(w->group, 4); /* what one row's kernel takes at once */
        const int32_t groups = (w->panels + w->group - 1) / w->group;
        const int32_t chunks = w->rows >= 4 * k->row_block ? (want + groups - 1) / groups : 1;
        w->row_chunk = round_up((w->rows + chunks - 1) / chunks, k->row_block);
    }
    w->groups = (w->panels + w->group - 1) / w->group;
    w->row_chunks = (w->rows + w->row_chunk - 1) / w->row_chunk;
}

void cpu_run_linear(const cpu_run *r, const cpu_step *s)
{
    const ut_op *op = s->op;
    const ut_kernels *k = &r->b->k;
    const int32_t cols = s->in[0].cols, taps = op->u.linear.taps;
    const ut_packed *packed = s->w[0];
    linear_work w = {.r = r, .s = s, .fn = k->linear[packed->type]};
    w.rows = place_rows(&s->in[0], r->n_t);
    w.panels = (op->w[0]->rows + k->panel - 1) / k->panel;
    w.slots = r->e->n_slots;
    if (place_joined(r, &s->in[0]) && place_joined(r, &s->out[0]) &&
        (!s->has_in[1] || place_joined(r, &s->in[1]))) {
        w.rows *= w.slots;
        w.slots = 1;
    }
    w.job.x_stride = cols;
    if (op->u.linear.dilation == 1) { /* neighbouring taps are neighbours in memory */
        w.job.seg = taps * cols;
        w.job.n_seg = 1;
    } else {
        w.job.seg = cols;
        w.job.n_seg = taps;
        w.job.seg_stride = (int64_t)op->u.linear.dilation * cols;
    }
    w.job.w = packed->data;
    w.job.n_out = op->w[0]->rows;
    w.job.act = op->u.linear.act;
    w.job.bias = vector_of(s->w[1]);
    w.job.gamma = vector_of(s->w[2]);
    w.job.alpha = vector_of(s->w[3]);
    w.job.inv_beta = vector_of(s->inverse);
    set_slot(&w, &w.job, 0);

    const int members = ut_pool_size(r->b->pool);
    const double macs = (double)w.rows * w.slots * packed->w->cols * w.panels * k->panel;
    const double by_memory = (double)packed->bytes / 10, by_sums = macs / 40;
    const double ns = by_memory > by_sums ? by_memory : by_sums;
    if (members == 1 || ns < SHARE_NS) {
        w.row_chunk = w.rows;
        w.group = w.panels;
        w.row_chunks = w.groups = 1;
    } else {
        cut_linear(&w, k, members);
    }
    ut_pool_run(r->b->pool, linear_item, &w, w.row_chunks * w.groups, ns > WAKE_NS);
}

/* ---- Row by row ----------------------------------------------------------------------------- */

static const float *in_row(const cpu_run *r, const cpu_step *s, int slot, int32_t row)
{
    return (const float *)place_row0(r, &s->in[0], slot) + (int64_t)row * s->in[0].cols;
}

static float *out_row(const cpu_run *r, const cpu_step *s, int slot, int32_t row)
{
    return (float *)place_row0(r, &s->out[0], slot) + (int64_t)row * s->out[0].cols;
}

static void rows_of(const cpu_run *r, const cpu_step *s, cpu_rows_fn *fn, double ns_per_element)
{
    const bool joined = place_joined(r, &s->in[0]) && place_joined(r, &s->out[0]);
    cpu_for_rows(r, s, fn, place_rows(&s->out[0], r->n_t), ns_per_element * s->in[0].cols, joined);
}

static void rms_norm_rows(const cpu_run *r, const cpu_step *s, int slot, int32_t row0, int32_t row1,
                          int member)
{
    (void)member;
    r->b->k.rms_norm(out_row(r, s, slot, row0), in_row(r, s, slot, row0), s->w[0]->data,
                     s->op->u.norm.eps, row1 - row0, s->in[0].cols);
}

void cpu_run_rms_norm(const cpu_run *r, const cpu_step *s)
{
    rows_of(r, s, rms_norm_rows, 0.2);
}

static void layer_norm_rows(const cpu_run *r, const cpu_step *s, int slot, int32_t row0,
                            int32_t row1, int member)
{
    (void)member;
    r->b->k.layer_norm(out_row(r, s, slot, row0), in_row(r, s, slot, row0), s->w[0]->data,
                       s->w[1]->data, s->op->u.norm.eps, row1 - row0, s->in[0].cols);
}

void cpu_run_layer_norm(const cpu_run *r, const cpu_step *s)
{
    rows_of(r, s, layer_norm_rows, 0.3);
}

static void swiglu_rows(const cpu_run *r, const cpu_step *s, int slot, int32_t row0, int32_t row1,
                        int member)
{
    (void)member;
    r->b->k.swiglu(out_row(r, s, slot, row0), in_row(r, s, slot, row0), row1 - row0,
                   s->out[0].cols);
}

void cpu_run_swiglu(const cpu_run *r, const cpu_step *s)
{
    rows_of(r, s, swiglu_rows, 0.4);
}

static void snake_rows(const cpu_run *r, const cpu_step *s, int slot, int32_t row0, int32_t row1,
                       int member)
{
    (void)member;
    r->b->k.snake(out_row(r, s, slot, row0), in_row(r, s, slot, row0), s->w[0]->data,
                  s->inverse->data, row1 - row0, s->in[0].cols);
}

void cpu_run_snake(const cpu_run *r, const cpu_step *s)
{
    rows_of(r, s, snake_rows, 0.5);
}

static void act_rows(const cpu_run *r, const cpu_step *s, int slot, int32_t row0, int32_t row1,
                     int member)
{
    (void)member;
    r->b->k.act(out_row(r, s, slot, row0), in_row(r, s, slot, row0), s->op->u.linear.act,
                (int64_t)(row1 - row0) * s->in[0].cols);
}

void cpu_run_act(const cpu_run *r, const cpu_step *s)
{
    rows_of(r, s, act_rows, 0.4);
}

static void scale_rows(const cpu_run *r, const cpu_step *s, int slot, int32_t row0, int32_t row1,
                       int member)
{
    const float *gain = place_row0(r, &s->in[1], slot), *residual = NULL;
    (void)member;
    if (s->has_in[2])
        residual = (const float *)place_row0(r, &s->in[2], slot) + (int64_t)row0 * s->in[2].cols;
    r->b->k.scale(out_row(r, s, slot, row0), in_row(r, s, slot, row0), gain, residual, row1 - row0,
                  s->in[0].cols);
}

void cpu_run_scale(const cpu_run *r, const cpu_step *s)
{
    cpu_for_rows(r, s, scale_rows, place_rows(&s->out[0], r->n_t), 0.2 * s->in[0].cols, false);
}

static void dwconv_rows(const cpu_run *r, const cpu_step *s, int slot, int32_t row0, int32_t row1,
                        int member)
{
    const int32_t taps = s->op->w[0]->cols, cols = s->in[0].cols;
    (void)member;
    r->b->k.dwconv(out_row(r, s, slot, row0), in_row(r, s, slot, row0) - (int64_t)(taps - 1) * cols,
                   s->w[0]->data, s->w[1]->data, row1 - row0, cols, taps);
}

void cpu_run_dwconv(const cpu_run *r, const cpu_step *s)
{
    rows_of(r, s, dwconv_rows, 0.2 * s->op->w[0]->cols);
}
