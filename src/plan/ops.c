/* ops.c - the operations' builders: each checks its operands' shapes and appends one ut_op. What an
 * operation computes is said in plan.h. Builders of operations on signals are in ops_signal.c. */
#include "plan/build.h"
#include <stdarg.h>
#include <stddef.h>

const char *ut_op_name(ut_op_kind kind)
{
    static const char *const names[] = {
        "embed_sum",    "gather",  "gather_sum",  "copy_rows", "copy_cols",  "rms_norm",
        "layer_norm",   "linear",  "rope_angles", "qkv",       "attention",  "swiglu",
        "snake",        "act",     "scale",       "pool",      "reflect",    "trim",
        "conv_history", "dwconv",  "nearest",     "sample",    "token_code", "ring_put",
        "ring_get",     "advance",
    };
    _Static_assert(sizeof names / sizeof names[0] == UT_OP_COUNT, "a name per kind");
    return kind < UT_OP_COUNT ? names[kind] : "?";
}

/* ---- Checks --------------------------------------------------------------------------------- */

bool ut_build_same_rows(const ut_tensor *a, const ut_tensor *b)
{
    return a->rows_per_t == b->rows_per_t && a->rows_fixed == b->rows_fixed;
}

bool ut_build_need(ut_plan *p, bool ok, const char *op, const char *what)
{
    if (!ok)
        ut_build_fail(p, "%s: %s", op, what);
    return ok;
}

/* A vector of n entries, or absent where that is allowed. */
static bool vector_ok(ut_plan *p, const ut_weight *w, int32_t n, bool optional, const char *op)
{
    if (!w)
        return ut_build_need(p, optional, op, "a weight vector is missing");
    if (w->rows == 1 && w->cols == n)
        return true;
    ut_build_fail(p, "%s: %s is [%d, %d], expected [1, %d]", op, w->name, (int)w->rows,
                  (int)w->cols, (int)n);
    return false;
}

static bool matrix_ok(ut_plan *p, const ut_weight *w, int32_t rows, int32_t cols, const char *op)
{
    if (!ut_build_need(p, w != NULL, op, "a weight is missing"))
        return false;
    if ((rows < 0 || w->rows == rows) && (cols < 0 || w->cols == cols))
        return true;
    ut_build_fail(p, "%s: %s is [%d, %d], expected [%d, %d]", op, w->name, (int)w->rows,
                  (int)w->cols, (int)rows, (int)cols);
    return false;
}

bool ut_build_state_ok(ut_plan *p, ut_tid t, ut_dtype dtype, int32_t min_rows, int32_t cols,
                       const char *op)
{
    const ut_tensor *s = ut_build_get(p, t);
    if (!s)
        return false;
    if (s->role == UT_STATE && s->dtype == dtype && s->rows_fixed >= min_rows && s->cols == cols)
        return true;
    ut_build_fail(p, "%s: state %s is %s [%d, %d], expected %s [>= %d, %d]", op,
                  s->name ? s->name : "(a temporary)", ut_dtype_name(s->dtype), (int)s->rows_fixed,
                  (int)s->cols, ut_dtype_name(dtype), (int)min_rows, (int)cols);
    return false;
}

/* x was given exactly this many rows of history. */
static bool history_ok(ut_plan *p, ut_tid x, int32_t rows, const char *op)
{
    const ut_tensor *root = &p->tensors[ut_plan_root(p, x)];
    const int64_t elements = (int64_t)rows * p->tensors[x].cols;
    return ut_build_need(p, (int64_t)root->lead * root->cols == elements, op,
                         "the input's history does not fit the kernel");
}

static int32_t sum(const int32_t *v, int32_t n)
{
    int32_t s = 0;
    for (int32_t i = 0; i < n; i++)
        s += v[i];
    return s;
}

/* ---- Looking up and moving ------------------------------------------------------------------ */

ut_tid ut_op_embed_sum(ut_plan *p, ut_tid ids, const ut_weight *e, const ut_weight *ce,
                       int32_t begin, int32_t end, int32_t codebook_size, float scale)
{
    const ut_tensor *x = ut_build_get(p, ids);
    if (!x || !matrix_ok(p, e, -1, -1, "embed_sum") ||
        !matrix_ok(p, ce, (x->cols - 1) * codebook_size, e->cols, "embed_sum") ||
        !ut_build_need(p, x->dtype == UT_I32, "embed_sum", "ids are not i32"))
        return UT_NONE;
    const ut_tid y = ut_build_temp(p, ids, UT_F32, e->cols);
    ut_op *op = ut_build_op(p, UT_OP_EMBED_SUM);
    if (!op || y == UT_NONE)
        return UT_NONE;
    op->in[0] = ids;
    op->out[0] = y;
    op->w[0] = e;
    op->w[1] = ce;
    op->u.embed_sum.begin = begin;
    op->u.embed_sum.end = end;
    op->u.embed_sum.codebook_size = codebook_size;
    op->u.embed_sum.scale = scale;
    return y;
}

static void gather(ut_plan *p, ut_tid dst, int32_t dst_row, ut_tid ids, const ut_weight *table,
                   int32_t first_col, int32_t n_cols, const int32_t *sizes)
{
    const ut_tensor *x = ut_build_get(p, ids), *y = ut_build_get(p, dst);
    if (!x || !y || !matrix_ok(p, table, sum(sizes, n_cols), -1, "gather") ||
        !ut_build_need(p, x->dtype == UT_I32 && first_col >= 0 && first_col + n_cols <= x->cols,
                       "gather", "ids have too few columns") ||
        !ut_build_need(p, y->cols == n_cols * table->cols, "gather",
                       "the destination has another width"))
        return;
    ut_op *op = ut_build_op(p, UT_OP_GATHER);
    if (!op)
        return;
    op->in[0] = ids;
    op->out[0] = dst;
    op->w[0] = table;
    op->u.gather.first_col = first_col;
    op->u.gather.n_cols = n_cols;
    op->u.gather.dst_row = dst_row;
    op->u.gather.sizes = sizes;
}

ut_tid ut_op_gather(ut_plan *p, ut_tid ids, const ut_weight *table, int32_t first_col,
                    int32_t n_cols, const int32_t *sizes)
{
    if (!matrix_ok(p, table, -1, -1, "gather"))
        return UT_NONE;
    const ut_tid y = ut_build_temp(p, ids, UT_F32, n_cols * table->cols);
    gather(p, y, 0, ids, table, first_col, n_cols, sizes);
    return y;
}

void ut_op_gather_into(ut_plan *p, ut_tid dst, int32_t dst_row, ut_tid ids, const ut_weight *table,
                       int32_t first_col, int32_t n_cols, const int32_t *sizes)
{
    const ut_tensor *x = ut_build_get(p, ids), *y = ut_build_get(p, dst);
    if (x && y &&
        ut_build_need(p, x->rows_per_t == 0 && x->rows_fixed == 1, "gather",
                      "ids have several rows") &&
        ut_build_need(p, y->rows_per_t == 0 && dst_row < y->rows_fixed, "gather", "no such row"))
        gather(p, dst, dst_row, ids, table, first_col, n_cols, sizes);
}

ut_tid ut_op_gather_sum(ut_plan *p, ut_tid ids, const ut_weight *table, int32_t first_col,
                        int32_t n_cols, const int32_t *sizes, float scale, ut_tid residual,
                        ut_tid extra)
{
    const ut_tensor *x = ut_build_get(p, ids);
    if (!x || !matrix_ok(p, table, sum(sizes, n_cols), -1, "gather_sum") ||
        !ut_build_need(p, x->dtype == UT_I32 && first_col >= 0 && first_col + n_cols <= x->cols,
                       "gather_sum", "ids have too few columns"))
        return UT_NONE;
    if (residual != UT_NONE) {
        const ut_tensor *r = ut_build_get(p, residual);
        if (!r || !ut_build_need(p, ut_build_same_rows(r, x) && r->cols == table->cols,
                                 "gather_sum", "the residual has another shape"))
            return UT_NONE;
    }
    if (extra != UT_NONE) {
        const ut_tensor *e = ut_build_get(p, extra);
        if (!e || !ut_build_need(p,
                                 e->rows_per_t == 0 && e->rows_fixed == 1 &&
                                     e->cols == table->cols && e->dtype == UT_F32,
                                 "gather_sum", "the extra row has another shape"))
            return UT_NONE;
    }
    ut_op *op = ut_build_rowwise(p, UT_OP_GATHER_SUM, ids, table->cols);
    if (!op)
        return UT_NONE;
    op->in[1] = residual;
    op->in[2] = extra;
    op->w[0] = table;
    op->u.gather.first_col = first_col;
    op->u.gather.n_cols = n_cols;
    op->u.gather.sizes = sizes;
    op->u.gather.scale = scale;
    return op->out[0];
}

ut_tid ut_op_blank(ut_plan *p, int32_t rows, int32_t cols)
{
    const ut_tensor t = {.role = UT_TEMP,
                         .dtype = UT_F32,
                         .rows_fixed = rows,
                         .cols = cols,
                         .state = -1,
                         .base = UT_NONE};
    return ut_build_tensor(p, &t);
}

static void copy_rows(ut_plan *p, ut_tid dst, int32_t dst_row, ut_tid src, int32_t src_row,
                      int32_t n_rows)
{
    const ut_tensor *x = ut_build_get(p, src), *y = ut_build_get(p, dst);
    if (!x || !y ||
        !ut_build_need(p, x->cols == y->cols && x->dtype == y->dtype, "copy_rows",
                       "source and destination differ in width or type"))
        return;
    ut_op *op = ut_build_op(p, UT_OP_COPY_ROWS);
    if (!op)
        return;
    op->in[0] = src;
    op->out[0] = dst;
    op->u.copy_rows.src_row = src_row;
    op->u.copy_rows.n_rows = n_rows;
    op->u.copy_rows.dst_row = dst_row;
}

void ut_op_copy_into(ut_plan *p, ut_tid dst, int32_t dst_row, ut_tid src, int32_t src_row,
                     int32_t n_rows)
{
    const ut_tensor *y = ut_build_get(p, dst);
    if (y && ut_build_need(p,
                           n_rows >= 1 && dst_row >= 0 && y->rows_per_t == 0 &&
                               dst_row + n_rows <= y->rows_fixed,
                           "copy_rows", "no such rows in the destination"))
        copy_rows(p, dst, dst_row, src, src_row, n_rows);
}

ut_tid ut_op_copy(ut_plan *p, ut_tid x)
{
    const ut_tensor *t = ut_build_get(p, x);
    if (!t)
        return UT_NONE;
    const ut_tid y = ut_build_temp(p, x, t->dtype, t->cols);
    copy_rows(p, y, 0, x, 0, 0);
    return y;
}

ut_tid ut_op_blank_like(ut_plan *p, ut_tid like_rows, int32_t cols)
{
    return ut_build_temp(p, like_rows, UT_F32, cols);
}

void ut_op_copy_cols(ut_plan *p, ut_tid dst, int32_t dst_col, ut_tid src, int32_t src_col,
                     int32_t n_cols, bool add)
{
    const ut_tensor *x = ut_build_get(p, src), *y = ut_build_get(p, dst);
    if (!x || !y)
        return;
    const bool one = x->rows_per_t == 0 && x->rows_fixed == 1;
    if (!ut_build_need(p, x->dtype == UT_F32 && y->dtype == UT_F32, "copy_cols", "not f32") ||
        !ut_build_need(p, one || ut_build_same_rows(x, y), "copy_cols",
                       "source and destination differ in rows") ||
        !ut_build_need(p,
                       n_cols >= 1 && src_col >= 0 && src_col + n_cols <= x->cols && dst_col >= 0 &&
                           dst_col + n_cols <= y->cols,
                       "copy_cols", "no such columns"))
        return;
    ut_op *op = ut_build_op(p, UT_OP_COPY_COLS);
    if (!op)
        return;
    op->in[0] = src;
    op->out[0] = dst;
    op->u.copy_cols.src_col = src_col;
    op->u.copy_cols.n_cols = n_cols;
    op->u.copy_cols.dst_col = dst_col;
    op->u.copy_cols.add = add;
}

ut_tid ut_op_last_row(ut_plan *p, ut_tid x)
{
    const ut_tensor *t = ut_build_get(p, x);
    if (!t || (t->rows_per_t == 0 && t->rows_fixed == 1))
        return x;
    const ut_tid y = ut_op_blank(p, 1, t->cols);
    copy_rows(p, y, 0, x, -1, 1);
    return y;
}

/* ---- Row-wise arithmetic -------------------------------------------------------------------- */

/* y like x in rows, with cols columns: the shape of most builders. */
ut_op *ut_build_rowwise(ut_plan *p, ut_op_kind kind, ut_tid x, int32_t cols)
{
    const ut_tid y = ut_build_temp(p, x, UT_F32, cols);
    ut_op *op = ut_build_op(p, kind);
    if (!op || y == UT_NONE)
        return NULL;
    op->in[0] = x;
    op->out[0] = y;
    return op;
}

ut_tid ut_op_rms_norm(ut_plan *p, ut_tid x, const ut_weight *w, float eps)
{
    const ut_tensor *t = ut_build_get(p, x);
    if (!t || !vector_ok(p, w, t->cols, false, "rms_norm"))
        return UT_NONE;
    ut_op *op = ut_build_rowwise(p, UT_OP_RMS_NORM, x, t->cols);
    if (!op)
        return UT_NONE;
    op->w[0] = w;
    op->u.norm.eps = eps;
    return op->out[0];
}

ut_tid ut_op_layer_norm(ut_plan *p, ut_tid x, const ut_weight *w, const ut_weight *b, float eps)
{
    const ut_tensor *t = ut_build_get(p, x);
    if (!t || !vector_ok(p, w, t->cols, false, "layer_norm") ||
        !vector_ok(p, b, t->cols, false, "layer_norm"))
        return UT_NONE;
    ut_op *op = ut_build_rowwise(p, UT_OP_LAYER_NORM, x, t->cols);
    if (!op)
        return UT_NONE;
    op->w[0] = w;
    op->w[1] = b;
    op->u.norm.eps = eps;
    return op->out[0];
}

ut_tid ut_op_linear(ut_plan *p, ut_tid x, const ut_linear_args *a)
{
    const ut_tensor *t = ut_build_get(p, x);
    const int32_t taps = a->taps ? a->taps : 1, dilation = a->dilation ? a->dilation : 1;
    if (!t || !matrix_ok(p, a->w, -1, t->cols * taps, "linear"))
        return UT_NONE;
    const int32_t n_out = a->w->rows;
    if (!vector_ok(p, a->bias, n_out, true, "linear") ||
        !vector_ok(p, a->gamma, n_out, true, "linear") ||
        !vector_ok(p, a->alpha, n_out, a->act != UT_ACT_SNAKE, "linear") ||
        !vector_ok(p, a->beta, n_out, true, "linear"))
        return UT_NONE;
    if (taps > 1 && !history_ok(p, x, (taps - 1) * dilation, "linear"))
        return UT_NONE;
    if (a->residual != UT_NONE) {
        const ut_tensor *r = ut_build_get(p, a->residual);
        if (!r || !ut_build_need(p, ut_build_same_rows(r, t) && r->cols == n_out, "linear",
                                 "the residual has another shape"))
            return UT_NONE;
    }
    ut_op *op = ut_build_rowwise(p, UT_OP_LINEAR, x, n_out);
    if (!op)
        return UT_NONE;
    op->in[1] = a->residual;
    op->w[0] = a->w;
    op->w[1] = a->bias;
    op->w[2] = a->gamma;
    op->w[3] = a->alpha;
    op->w[4] = a->beta;
    op->u.linear.taps = taps;
    op->u.linear.dilation = dilation;
    op->u.linear.act = a->act;
    return op->out[0];
}

ut_tid ut_op_matmul(ut_plan *p, ut_tid x, const ut_weight *w, ut_tid residual)
{
    const ut_linear_args a = {.w = w, .residual = residual};
    return ut_op_linear(p, x, &a);
}

ut_tid ut_op_snake_beta(ut_plan *p, ut_tid x, const ut_weight *alpha, const ut_weight *beta)
{
    const ut_tensor *t = ut_build_get(p, x);
    if (!t || !vector_ok(p, alpha, t->cols, false, "snake") ||
        !vector_ok(p, beta, t->cols, false, "snake"))
        return UT_NONE;
    ut_op *op = ut_build_rowwise(p, UT_OP_SNAKE, x, t->cols);
    if (!op)
        return UT_NONE;
    op->w[0] = alpha;
    op->w[1] = beta;
    return op->out[0];
}

ut_tid ut_op_snake(ut_plan *p, ut_tid x, const ut_weight *alpha)
{
    return ut_op_snake_beta(p, x, alpha, alpha);
}

ut_tid ut_op_swiglu(ut_plan *p, ut_tid x)
{
    const ut_tensor *t = ut_build_get(p, x);
    if (!t || !ut_build_need(p, t->cols % 2 == 0, "swiglu", "an odd number of columns"))
        return UT_NONE;
    const ut_op *op = ut_build_rowwise(p, UT_OP_SWIGLU, x, t->cols / 2);
    return op ? op->out[0] : UT_NONE;
}

/* ---- Convolution ---------------------------------------------------------------------------- */

ut_tid ut_op_dwconv(ut_plan *p, ut_tid x, const ut_weight *w, const ut_weight *b)
{
    const ut_tensor *t = ut_build_get(p, x);
    if (!t || !matrix_ok(p, w, t->cols, -1, "dwconv") ||
        !vector_ok(p, b, t->cols, false, "dwconv") || !history_ok(p, x, w->cols - 1, "dwconv"))
        return UT_NONE;
    ut_op *op = ut_build_rowwise(p, UT_OP_DWCONV, x, t->cols);
    if (!op)
        return UT_NONE;
    op->w[0] = w;
    op->w[1] = b;
    return op->out[0];
}

/* ---- Attention ------------------------------------------------------------------------------ */

static bool pos_ok(ut_plan *p, ut_tid pos, const char *op)
{
    return pos == UT_NONE || ut_build_state_ok(p, pos, UT_I32, 1, 1, op);
}

ut_tid ut_op_rope_angles(ut_plan *p, ut_tid like_rows, ut_tid pos, int32_t first_pos, int32_t dim,
                         float base, bool round_bf16)
{
    if (!pos_ok(p, pos, "rope_angles") ||
        !ut_build_need(p, dim > 0 && dim % 2 == 0 && base > 0, "rope_angles", "an odd dimension"))
        return UT_NONE;
    ut_op *op = ut_build_rowwise(p, UT_OP_ROPE_ANGLES, like_rows, dim);
    if (!op)
        return UT_NONE;
    op->in[0] = pos;
    op->u.angles.first_pos = first_pos;
    op->u.angles.dim = dim;
    op->u.angles.base = base;
    op->u.angles.round_bf16 = round_bf16;
    return op->out[0];
}

static bool attn_ok(ut_plan *p, const ut_attn_args *a, const char *op)
{
    const ut_tensor *k = ut_build_get(p, a->cache_k), *v = ut_build_get(p, a->cache_v);
    if (!k || !v || !pos_ok(p, a->pos, op))
        return false;
    const int32_t width = a->n_kv_heads * a->head_dim;
    return ut_build_need(p, a->n_kv_heads > 0 && a->n_heads % a->n_kv_heads == 0, op,
                         "heads are no multiple of kv heads") &&
           ut_build_need(p,
                         k->role == UT_STATE && v->role == UT_STATE && k->cols == width &&
                             v->cols == width && k->rows_fixed == v->rows_fixed &&
                             k->dtype == v->dtype,
                         op, "the caches do not fit the heads");
}

static void set_attn(ut_op *op, const ut_attn_args *a, float eps)
{
    op->in[2] = a->cache_k;
    op->in[3] = a->cache_v;
    op->in[4] = a->pos;
    op->u.attn.n_heads = a->n_heads;
    op->u.attn.n_kv_heads = a->n_kv_heads;
    op->u.attn.head_dim = a->head_dim;
    op->u.attn.first_pos = a->first_pos;
    op->u.attn.window = a->window;
    op->u.attn.eps = eps;
    op->u.attn.rope = a->rope;
}

ut_tid ut_op_qkv(ut_plan *p, ut_tid qkv, ut_tid angles, const ut_weight *q_norm,
                 const ut_weight *k_norm, float eps, const ut_attn_args *a)
{
    const ut_tensor *x = ut_build_get(p, qkv), *g = ut_build_get(p, angles);
    if (!x || !g || !attn_ok(p, a, "qkv") ||
        !ut_build_need(p, x->cols == (a->n_heads + 2 * a->n_kv_heads) * a->head_dim, "qkv",
                       "the input is not as wide as q, k and v") ||
        !ut_build_need(p, ut_build_same_rows(x, g) && g->cols == a->head_dim, "qkv",
                       "the angles have another shape") ||
        !vector_ok(p, q_norm, a->head_dim, true, "qkv") ||
        !vector_ok(p, k_norm, a->head_dim, true, "qkv"))
        return UT_NONE;
    ut_op *op = ut_build_rowwise(p, UT_OP_QKV, qkv, a->n_heads * a->head_dim);
    if (!op)
        return UT_NONE;
    op->in[1] = angles;
    op->w[0] = q_norm;
    op->w[1] = k_norm;
    set_attn(op, a, eps);
    return op->out[0];
}

ut_tid ut_op_attention(ut_plan *p, ut_tid q, const ut_attn_args *a)
{
    const ut_tensor *x = ut_build_get(p, q);
    if (!x || !attn_ok(p, a, "attention") ||
        !ut_build_need(p, x->cols == a->n_heads * a->head_dim, "attention", "q has another width"))
        return UT_NONE;
    ut_op *op = ut_build_rowwise(p, UT_OP_ATTENTION, q, x->cols);
    if (!op)
        return UT_NONE;
    set_attn(op, a, 0);
    return op->out[0];
}

/* ---- Codes, sampling, counters -------------------------------------------------------------- */

ut_tid ut_op_blank_ids(ut_plan *p, ut_tid like_rows, int32_t cols)
{
    return ut_build_temp(p, like_rows, UT_I32, cols);
}

static void nearest(ut_plan *p, ut_tid codes, int32_t col, ut_tid e, const ut_weight *table,
                    bool euclid)
{
    const ut_tensor *c = ut_build_get(p, codes), *x = ut_build_get(p, e);
    if (!c || !x || !matrix_ok(p, table, -1, x->cols, "nearest") ||
        !ut_build_need(p,
                       c->dtype == UT_I32 && col >= 0 && col < c->cols && ut_build_same_rows(c, x),
                       "nearest", "the codes have another shape"))
        return;
    ut_op *op = ut_build_op(p, UT_OP_NEAREST);
    if (!op)
        return;
    op->in[0] = e;
    op->out[0] = codes;
    op->w[0] = table;
    op->u.nearest.col = col;
    op->u.nearest.euclid = euclid;
}

void ut_op_nearest(ut_plan *p, ut_tid codes, int32_t col, ut_tid e, const ut_weight *table)
{
    nearest(p, codes, col, e, table, false);
}

void ut_op_nearest_euclid(ut_plan *p, ut_tid codes, int32_t col, ut_tid e, const ut_weight *table)
{
    nearest(p, codes, col, e, table, true);
}

void ut_op_sample(ut_plan *p, ut_tid logits, const ut_sample_args *a)
{
    const ut_tensor *x = ut_build_get(p, logits), *d = ut_build_get(p, a->dst);
    if (!x || !d)
        return;
    const int32_t n = a->n_range + (a->id_extra >= 0);
    const ut_tensor *noise = a->noise == UT_NONE ? x : &p->tensors[a->noise];
    const ut_tensor *probs = a->probs == UT_NONE ? x : &p->tensors[a->probs];
    if (!ut_build_need(p, x->rows_per_t == 0 && x->rows_fixed == 1 && x->cols == n, "sample",
                       "the logits are not one row of the ids' count") ||
        !ut_build_need(p,
                       ut_build_same_rows(noise, x) && noise->cols == n &&
                           ut_build_same_rows(probs, x) && probs->cols == n,
                       "sample", "noise or probs are shaped unlike the logits") ||
        !ut_build_need(p, d->role == UT_STATE && d->dtype == UT_I32 && a->col < d->cols, "sample",
                       "the destination has no such column") ||
        !ut_build_state_ok(p, a->params, UT_F32, a->params_row + 1, UT_SP_COUNT, "sample") ||
        !ut_build_state_ok(p, a->rng, UT_I32, 1, UT_RNG_COUNT, "sample") ||
        !ut_build_state_ok(p, a->frame, UT_I32, 1, 1, "sample"))
        return;
    if (a->penalty == UT_PENALTY_ALL && !ut_build_state_ok(p, a->history, UT_I32, 1, n, "sample"))
        return;
    if ((a->penalty == UT_PENALTY_FIRST_COLUMN || a->penalty == UT_PENALTY_CODEBOOK) &&
        (!ut_build_state_ok(p, a->history, UT_I32, UT_HISTORY_FRAMES, d->cols, "sample") ||
         !ut_build_need(p, a->penalty_col < d->cols, "sample", "no such history column")))
        return;
    ut_op *op = ut_build_op(p, UT_OP_SAMPLE);
    if (!op)
        return;
    op->in[0] = logits;
    op->in[1] = a->params;
    op->in[2] = a->rng;
    op->in[3] = a->frame;
    op->in[4] = a->history;
    op->in[5] = a->noise;
    op->out[0] = a->dst;
    op->out[1] = a->probs;
    op->u.sample.col = a->col;
    op->u.sample.decision = a->decision;
    op->u.sample.penalty = a->penalty;
    op->u.sample.penalty_col = a->penalty_col;
    op->u.sample.id_first = a->id_first;
    op->u.sample.n_range = a->n_range;
    op->u.sample.id_extra = a->id_extra;
    op->u.sample.narrowing = a->narrowing;
    op->u.sample.params_row = a->params_row;
    op->u.sample.extra_from_frame = a->extra_from_frame;
}

void ut_op_token_code(ut_plan *p, ut_tid column, int32_t begin, int32_t n_codes)
{
    const ut_tensor *c = ut_build_get(p, column);
    if (!c || !ut_build_need(p, c->role == UT_STATE && c->dtype == UT_I32 && c->cols >= 2,
                             "token_code", "the column is no i32 state of two columns or more"))
        return;
    ut_op *op = ut_build_op(p, UT_OP_TOKEN_CODE);
    if (!op)
        return;
    op->out[0] = column;
    op->u.token_code.begin = begin;
    op->u.token_code.n_codes = n_codes;
}

void ut_op_ring_put(ut_plan *p, ut_tid ring, ut_tid history, ut_tid column, ut_tid frame)
{
    const ut_tensor *c = ut_build_get(p, column);
    if (!c || !ut_build_state_ok(p, ring, UT_I32, 1, c->cols, "ring_put") ||
        !ut_build_state_ok(p, frame, UT_I32, 1, 1, "ring_put") ||
        (history != UT_NONE &&
         !ut_build_state_ok(p, history, UT_I32, UT_HISTORY_FRAMES, c->cols, "ring_put")))
        return;
    ut_op *op = ut_build_op(p, UT_OP_RING_PUT);
    if (!op)
        return;
    op->in[0] = column;
    op->in[1] = frame;
    op->in[2] = history;
    op->out[0] = ring;
}

ut_tid ut_op_ring_get(ut_plan *p, ut_tid ring, ut_tid counter, int32_t offset, int32_t add)
{
    const ut_tensor *r = ut_build_get(p, ring);
    if (!r ||
        !ut_build_need(p, r->role == UT_STATE && r->dtype == UT_I32, "ring_get",
                       "the ring is no i32 state") ||
        !ut_build_state_ok(p, counter, UT_I32, 1, 1, "ring_get"))
        return UT_NONE;
    const ut_tensor t = {.role = UT_TEMP,
                         .dtype = UT_I32,
                         .rows_fixed = 1,
                         .cols = r->cols,
                         .state = -1,
                         .base = UT_NONE};
    const ut_tid y = ut_build_tensor(p, &t);
    ut_op *op = ut_build_op(p, UT_OP_RING_GET);
    if (!op || y == UT_NONE)
        return UT_NONE;
    op->in[0] = ring;
    op->in[1] = counter;
    op->out[0] = y;
    op->u.ring_get.offset = offset;
    op->u.ring_get.add = add;
    return y;
}

void ut_op_advance(ut_plan *p, ut_tid counter, int32_t amount, int32_t per_t)
{
    if (!ut_build_state_ok(p, counter, UT_I32, 1, 1, "advance"))
        return;
    ut_op *op = ut_build_op(p, UT_OP_ADVANCE);
    if (!op)
        return;
    op->out[0] = counter;
    op->u.advance.amount = amount;
    op->u.advance.per_t = per_t;
}
