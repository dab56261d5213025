/* launch_dense.c - launches of linears, norms, element-wise steps and depthwise convolutions. */
#include "backends/cuda/exec.h"

static int64_t div_up(int64_t a, int64_t b)
{
    return (a + b - 1) / b;
}

static cu_ptr data_of(const cu_weight *w)
{
    return w ? w->data : 0;
}

/* ---- Linear ---------------------------------------------------------------------------------- */

static int64_t tiles(int64_t rows, int32_t n_out)
{
    return div_up(rows, CU_TILE_M) * div_up(n_out, CU_TILE_N);
}

/* Sums are cut where their tiles alone leave most of the device idle. */
int32_t cu_linear_parts(const cu_backend *b, int64_t rows, int32_t n_out, int32_t ld)
{
    const int32_t parts = (int32_t)div_up(ld, CU_K_PART);
    return tiles(rows, n_out) < b->sm_count ? parts : 1;
}

int64_t cu_linear_most_rows(const cu_backend *b, int32_t n_out)
{
    return (b->sm_count - 1) / div_up(n_out, CU_TILE_N) * CU_TILE_M;
}

static void launch_few(cu_run *r, const cu_step *s, const cu_linear_args *a)
{
    static const int kernel[][2] = {
        [CU_F32] = {CU_K_linear_few_f32_1, CU_K_linear_few_f32_4},
        [CU_BF16] = {CU_K_linear_few_bf16_1, CU_K_linear_few_bf16_4},
        [CU_F16] = {CU_K_linear_few_f16_1, CU_K_linear_few_f16_4},
    };
    const int64_t rows = (int64_t)a->rows * a->slots;
    const int at_once = rows == 1 ? 1 : 4;
    cu_launch(r, kernel[s->w[0]->type][at_once > 1], div_up(a->n_out, CU_THREADS / 32),
              div_up(rows, at_once), 1, sizeof(float) * CU_FEW_K * (size_t)at_once, a);
}

static void launch_tile(cu_run *r, const cu_step *s, cu_linear_args *a)
{
    static const int kernel[] = {[CU_F32] = CU_K_linear_tile_f32,
                                 [CU_BF16] = CU_K_linear_tile_bf16,
                                 [CU_F16] = CU_K_linear_tile_f16};
    const int64_t rows = (int64_t)a->rows * a->slots;
    const int32_t parts = cu_linear_parts(r->b, rows, a->n_out, a->ldw);
    a->part = parts > 1 ? r->e->part : 0;
    cu_launch(r, kernel[s->w[0]->type], div_up(a->n_out, CU_TILE_N), div_up(rows, CU_TILE_M), parts,
              CU_TILE_SHARED, a);
    if (parts > 1)
        cu_launch(r, CU_K_linear_finish, div_up(rows * a->n_out, CU_THREADS), 1, 1, 0, a);
}

cu_linear_args cu_linear_of(const cu_run *r, const cu_step *s)
{
    const ut_op *op = s->op;
    const cu_view x = cu_view_of(r, &s->in[0]), y = cu_view_of(r, &s->out[0]);
    const cu_view residual = cu_view_of(r, &s->in[1]);
    const int32_t taps = op->u.linear.taps, dilation = op->u.linear.dilation, cols = x.cols;
    cu_linear_args a = {
        .x = x.p - 4 * (uint64_t)((int64_t)(taps - 1) * dilation * cols),
        .x_slot = x.slot,
        .cols = cols,
        .seg = dilation == 1 ? taps * cols : cols, /* neighbouring taps are neighbours in memory */
        .seg_step = dilation * cols,
        .w = s->w[0]->data,
        .n_out = op->w[0]->rows,
        .k = taps * cols,
        .ldw = s->w[0]->ld,
        .act = op->u.linear.act,
        .bias = data_of(s->w[1]),
        .gamma = data_of(s->w[2]),
        .alpha = data_of(s->w[3]),
        .beta = data_of(s->w[4] ? s->w[4] : s->w[3]),
        .residual = residual.p,
        .residual_slot = residual.slot,
        .y = y.p,
        .y_slot = y.slot,
        .rows = x.rows,
        .slots = r->e->n_slots,
    };
    a.vector = a.x % 16 == 0 && cols % 4 == 0 && x.slot % 4 == 0;
    return a;
}

/* Products whose rows do not depend on T are decoding: few rows, and every weight matters. */
void cu_launch_linear(cu_run *r, const cu_step *s)
{
    cu_linear_args a = cu_linear_of(r, s);
    if (cu_launch_linear_mma(r, s, &a) || cu_launch_linear_packed(r, s, &a))
        return;
    if (s->in[0].rows_per_t == 0)
        launch_few(r, s, &a);
    else
        launch_tile(r, s, &a);
}

/* ---- Norms ----------------------------------------------------------------------------------- */

static void launch_norm(cu_run *r, const cu_step *s, int kernel)
{
    const cu_view x = cu_view_of(r, &s->in[0]), y = cu_view_of(r, &s->out[0]);
    const cu_norm_args a = {.x = x.p,
                            .y = s->links.no_f32 ? 0 : y.p,
                            .x_slot = x.slot,
                            .y_slot = y.slot,
                            .gain = s->w[0]->data,
                            .bias = data_of(s->w[1]),
                            .rows = x.rows,
                            .slots = r->e->n_slots,
                            .cols = x.cols,
                            .eps = s->op->u.norm.eps,
                            .y16 = s->links.y16,
                            .ldy = s->links.ldy,
                            .y_type = cu_place_type(&s->out[0])};
    cu_launch(r, kernel, (int64_t)x.rows * a.slots, 1, 1, CU_THREADS / 32 * sizeof(float), &a);
}

void cu_launch_rms_norm(cu_run *r, const cu_step *s)
{
    launch_norm(r, s, CU_K_rms_norm);
}

void cu_launch_layer_norm(cu_run *r, const cu_step *s)
{
    launch_norm(r, s, CU_K_layer_norm);
}

/* ---- Element by element ---------------------------------------------------------------------- */

/* each: elements of a row to a thread. */
static void launch_map(cu_run *r, const cu_step *s, int kernel, int each)
{
    const cu_view x = cu_view_of(r, &s->in[0]), y = cu_view_of(r, &s->out[0]);
    const cu_map_args a = {.x = x.p,
                           .y = y.p,
                           .x_slot = x.slot,
                           .y_slot = y.slot,
                           .alpha = data_of(s->w[0]),
                           .beta = data_of(s->w[1]),
                           .rows = y.rows,
                           .slots = r->e->n_slots,
                           .cols = y.cols,
                           .act = s->op->u.linear.act,
                           .y_type = cu_place_type(&s->out[0])};
    cu_launch(r, kernel, div_up((int64_t)y.rows * div_up(y.cols, each), CU_THREADS), a.slots, 1, 0,
              &a);
}

void cu_launch_swiglu(cu_run *r, const cu_step *s)
{
    launch_map(r, s, CU_K_swiglu, CU_SWIGLU_EACH);
}

void cu_launch_snake(cu_run *r, const cu_step *s)
{
    launch_map(r, s, CU_K_snake, 1);
}

void cu_launch_act(cu_run *r, const cu_step *s)
{
    launch_map(r, s, CU_K_activation, 1);
}

void cu_launch_scale(cu_run *r, const cu_step *s)
{
    const cu_view x = cu_view_of(r, &s->in[0]), gain = cu_view_of(r, &s->in[1]);
    const cu_view residual = cu_view_of(r, &s->in[2]), y = cu_view_of(r, &s->out[0]);
    const cu_scale_args a = {.x = x.p,
                             .gain = gain.p,
                             .residual = residual.p,
                             .y = y.p,
                             .x_slot = x.slot,
                             .gain_slot = gain.slot,
                             .residual_slot = residual.slot,
                             .y_slot = y.slot,
                             .rows = y.rows,
                             .slots = r->e->n_slots,
                             .cols = y.cols};
    cu_launch(r, CU_K_scale, div_up((int64_t)y.rows * y.cols, CU_THREADS), a.slots, 1, 0, &a);
}

void cu_launch_dwconv(cu_run *r, const cu_step *s)
{
    const cu_view x = cu_view_of(r, &s->in[0]), y = cu_view_of(r, &s->out[0]);
    const int32_t taps = s->op->w[0]->cols;
    const cu_dwconv_args a = {.x = x.p - 4 * (uint64_t)((int64_t)(taps - 1) * x.cols),
                              .y = y.p,
                              .x_slot = x.slot,
                              .y_slot = y.slot,
                              .w = s->w[0]->data,
                              .bias = s->w[1]->data,
                              .rows = x.rows,
                              .slots = r->e->n_slots,
                              .cols = x.cols,
                              .taps = taps};
    cu_launch(r, CU_K_dwconv, div_up((int64_t)x.rows * x.cols, CU_THREADS), a.slots, 1, 0, &a);
}
