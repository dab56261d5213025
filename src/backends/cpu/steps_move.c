/* steps_move.c - steps that look up, move and count: embeddings, gathers, copies, counters, rings.
 * All of them are small and mostly run on the calling thread. */
#include "backends/cpu/exec.h"
#include "base/half.h"
#include <math.h>
#include <string.h>

static int32_t clamp(int64_t v, int32_t lo, int32_t hi)
{
    return v < lo ? lo : v > hi ? hi : (int32_t)v;
}

static void add_to(float *y, const float *x, int32_t n)
{
    for (int32_t i = 0; i < n; i++)
        y[i] += x[i];
}

static void embed_rows(const cpu_run *r, const cpu_step *s, int slot, int32_t row0, int32_t row1,
                       int member)
{
    const ut_op *op = s->op;
    const int32_t n_ids = s->in[0].cols, dim = s->out[0].cols;
    const int32_t size = op->u.embed_sum.codebook_size;
    const int32_t *ids = (const int32_t *)place_row0(r, &s->in[0], slot) + (int64_t)row0 * n_ids;
    float *y = (float *)place_row0(r, &s->out[0], slot) + (int64_t)row0 * dim;
    float *sum = member_scratch(r, member), *one = sum + dim;
    for (int32_t row = row0; row < row1; row++, ids += n_ids, y += dim) {
        ut_weight_row_f32(op->w[0], clamp(ids[0], 0, op->w[0]->rows - 1), y);
        if (ids[0] < op->u.embed_sum.begin || ids[0] > op->u.embed_sum.end)
            continue;
        for (int32_t i = 0; i + 1 < n_ids; i++) {
            const int32_t id = clamp(ids[i + 1] + (int64_t)i * size, 0, op->w[1]->rows - 1);
            ut_weight_row_f32(op->w[1], id, i == 0 ? sum : one);
            if (i > 0)
                add_to(sum, one, dim);
        }
        if (n_ids > 1)
            add_to(y, sum, dim);
        for (int32_t i = 0; i < dim; i++)
            y[i] *= op->u.embed_sum.scale;
    }
}

void cpu_run_embed_sum(const cpu_run *r, const cpu_step *s)
{
    const double ns = 0.5 * s->in[0].cols * s->out[0].cols;
    cpu_for_rows(r, s, embed_rows, place_rows(&s->out[0], r->n_t), ns, false);
}

static void gather_rows(const cpu_run *r, const cpu_step *s, int slot, int32_t row0, int32_t row1,
                        int member)
{
    const ut_op *op = s->op;
    const int32_t dim = op->w[0]->cols, n_cols = op->u.gather.n_cols, *sizes = op->u.gather.sizes;
    const int32_t *ids = place_row0(r, &s->in[0], slot);
    float *y = place_row0(r, &s->out[0], slot);
    (void)member;
    for (int32_t row = row0; row < row1; row++) {
        const int32_t *id = ids + (int64_t)row * s->in[0].cols + op->u.gather.first_col;
        float *dst = y + (int64_t)(op->u.gather.dst_row + row) * s->out[0].cols;
        int32_t offset = 0;
        for (int32_t j = 0; j < n_cols; j++) {
            ut_weight_row_f32(op->w[0], offset + clamp(id[j], 0, sizes[j] - 1),
                              dst + (int64_t)j * dim);
            offset += sizes[j];
        }
    }
}

void cpu_run_gather(const cpu_run *r, const cpu_step *s)
{
    cpu_for_rows(r, s, gather_rows, place_rows(&s->in[0], r->n_t), 0.5 * s->out[0].cols, false);
}

static void gather_sum_rows(const cpu_run *r, const cpu_step *s, int slot, int32_t row0,
                            int32_t row1, int member)
{
    const ut_op *op = s->op;
    const int32_t dim = op->w[0]->cols, n_cols = op->u.gather.n_cols, *sizes = op->u.gather.sizes;
    const int32_t *ids = place_row0(r, &s->in[0], slot);
    const float *residual = s->has_in[1] ? place_row0(r, &s->in[1], slot) : NULL;
    const float *extra = s->has_in[2] ? place_row0(r, &s->in[2], slot) : NULL;
    float *y = place_row0(r, &s->out[0], slot), *one = member_scratch(r, member);
    for (int32_t row = row0; row < row1; row++) {
        const int32_t *id = ids + (int64_t)row * s->in[0].cols + op->u.gather.first_col;
        float *dst = y + (int64_t)row * dim;
        if (residual)
            memcpy(dst, residual + (int64_t)row * dim, (size_t)dim * sizeof *dst);
        else
            memset(dst, 0, (size_t)dim * sizeof *dst);
        int32_t offset = 0;
        for (int32_t j = 0; j < n_cols; offset += sizes[j++]) {
            const float *add = one;
            if (id[j] >= 0)
                ut_weight_row_f32(op->w[0], offset + clamp(id[j], 0, sizes[j] - 1), one);
            else if (id[j] == UT_ID_EXTRA && extra)
                add = extra;
            else
                continue;
            for (int32_t i = 0; i < dim; i++)
                dst[i] += op->u.gather.scale * add[i];
        }
    }
}

void cpu_run_gather_sum(const cpu_run *r, const cpu_step *s)
{
    const double ns = 0.7 * s->op->u.gather.n_cols * s->out[0].cols;
    cpu_for_rows(r, s, gather_sum_rows, place_rows(&s->in[0], r->n_t), ns, false);
}

void cpu_run_copy_rows(const cpu_run *r, const cpu_step *s)
{
    const ut_op *op = s->op;
    const int32_t rows = place_rows(&s->in[0], r->n_t), cols = s->in[0].cols;
    const int32_t from =
        op->u.copy_rows.src_row < 0 ? rows + op->u.copy_rows.src_row : op->u.copy_rows.src_row;
    const int32_t n = op->u.copy_rows.n_rows ? op->u.copy_rows.n_rows : rows - from;
    if (from < 0 || n > rows - from)
        return; /* fewer rows than the plan speaks of: nothing to copy */
    for (int slot = 0; slot < r->e->n_slots; slot++) {
        const char *src = place_row0(r, &s->in[0], slot);
        char *dst = place_row0(r, &s->out[0], slot);
        memcpy(dst + 4 * (int64_t)op->u.copy_rows.dst_row * cols, src + 4 * (int64_t)from * cols,
               4 * (size_t)n * (size_t)cols);
    }
}

static void copy_cols_rows(const cpu_run *r, const cpu_step *s, int slot, int32_t row0,
                           int32_t row1, int member)
{
    const ut_op *op = s->op;
    const int32_t n = op->u.copy_cols.n_cols;
    const bool one = s->in[0].rows_per_t == 0 && s->in[0].rows_fixed == 1;
    const float *src = (const float *)place_row0(r, &s->in[0], slot) + op->u.copy_cols.src_col;
    float *dst = (float *)place_row0(r, &s->out[0], slot) + op->u.copy_cols.dst_col;
    (void)member;
    for (int32_t row = row0; row < row1; row++) {
        const float *x = src + (one ? 0 : (int64_t)row * s->in[0].cols);
        float *y = dst + (int64_t)row * s->out[0].cols;
        if (op->u.copy_cols.add)
            add_to(y, x, n);
        else
            memcpy(y, x, (size_t)n * sizeof *y);
    }
}

void cpu_run_copy_cols(const cpu_run *r, const cpu_step *s)
{
    cpu_for_rows(r, s, copy_cols_rows, place_rows(&s->out[0], r->n_t),
                 0.3 * s->op->u.copy_cols.n_cols, false);
}

void cpu_run_token_code(const cpu_run *r, const cpu_step *s)
{
    const ut_op *op = s->op;
    for (int slot = 0; slot < r->e->n_slots; slot++) {
        int32_t *column = place_row0(r, &s->out[0], slot);
        column[1] =
            clamp((int64_t)column[0] - op->u.token_code.begin, 0, op->u.token_code.n_codes - 1);
    }
}

void cpu_run_ring_put(const cpu_run *r, const cpu_step *s)
{
    const int32_t cols = s->in[0].cols;
    const size_t bytes = 4 * (size_t)cols;
    for (int slot = 0; slot < r->e->n_slots; slot++) {
        const int32_t *column = place_row0(r, &s->in[0], slot);
        const int32_t frame = *(const int32_t *)place_row0(r, &s->in[1], slot);
        if (frame < 0)
            continue;
        int32_t *ring = place_row0(r, &s->out[0], slot);
        memcpy(ring + (int64_t)(frame % s->out[0].rows_fixed) * cols, column, bytes);
        if (s->has_in[2] && frame >= 1) {
            int32_t *history = place_row0(r, &s->in[2], slot);
            memcpy(history + (int64_t)((frame - 1) % UT_HISTORY_FRAMES) * cols, column, bytes);
        }
    }
}

void cpu_run_ring_get(const cpu_run *r, const cpu_step *s)
{
    const ut_op *op = s->op;
    const int32_t cols = s->in[0].cols;
    for (int slot = 0; slot < r->e->n_slots; slot++) {
        const int64_t at =
            (int64_t) * (const int32_t *)place_row0(r, &s->in[1], slot) + op->u.ring_get.offset;
        const int32_t *ring = place_row0(r, &s->in[0], slot);
        int32_t *y = place_row0(r, &s->out[0], slot);
        ring += (at < 0 ? 0 : at % s->in[0].rows_fixed) * cols;
        for (int32_t i = 0; i < cols; i++)
            y[i] = (int32_t)((uint32_t)ring[i] + (uint32_t)op->u.ring_get.add);
    }
}

void cpu_run_advance(const cpu_run *r, const cpu_step *s)
{
    const ut_op *op = s->op;
    const uint32_t by =
        (uint32_t)op->u.advance.amount + (uint32_t)op->u.advance.per_t * (uint32_t)r->n_t;
    for (int slot = 0; slot < r->e->n_slots; slot++) {
        int32_t *counter = place_row0(r, &s->out[0], slot);
        *counter = (int32_t)((uint32_t)*counter + by);
    }
}

static void angle_rows(const cpu_run *r, const cpu_step *s, int slot, int32_t row0, int32_t row1,
                       int member)
{
    const ut_op *op = s->op;
    const int32_t dim = op->u.angles.dim;
    const int32_t first = first_position(r, s, 0, slot, op->u.angles.first_pos);
    float *y = (float *)place_row0(r, &s->out[0], slot) + (int64_t)row0 * dim;
    (void)member;
    for (int32_t row = row0; row < row1; row++, y += dim)
        for (int32_t i = 0; i < dim; i += 2) {
            const double angle = (double)((float)(first + row) * s->table[i / 2]);
            const float c = (float)cos(angle), sn = (float)sin(angle);
            y[i] = op->u.angles.round_bf16 ? ut_round_bf16(c) : c;
            y[i + 1] = op->u.angles.round_bf16 ? ut_round_bf16(sn) : sn;
        }
}

void cpu_run_rope_angles(const cpu_run *r, const cpu_step *s)
{
    cpu_for_rows(r, s, angle_rows, place_rows(&s->out[0], r->n_t), 15.0 * s->out[0].cols, false);
}
