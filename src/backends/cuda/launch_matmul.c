/* launch_matmul.c - launches of products on tensor cores whose rows depend on T: which of them go
 * there, how the grid is cut, and the memory that takes. launch_slots.c is for decoding steps. */
#include "backends/cuda/exec.h"

static int64_t div_up(int64_t a, int64_t b)
{
    return (a + b - 1) / b;
}

/* Rows that do not depend on T are decoding. */
static bool is_decoding(const cu_exec *e, const cu_step *s)
{
    return e->head.plan->tensors[s->op->in[0]].rows_per_t == 0;
}

bool cu_is_tile_linear(const cu_exec *e, const cu_backend *b, const cu_step *s)
{
    if (s->op->kind != UT_OP_LINEAR || !b->mma || is_decoding(e, s))
        return false;
    return s->w[0]->type == CU_BF16 || cu_is_packed(s->w[0]->type) ||
           (s->w[0]->type == CU_F16 && e->heard && cu_weight_is_narrowed(b, s->op->w[0]));
}

/* The type in which tiles take x and the matrix. */
static cu_type narrow_type(const cu_exec *e, const cu_step *s)
{
    return !cu_is_packed(s->w[0]->type) ? s->w[0]->type : e->heard ? CU_F16 : CU_BF16;
}

/* ---- Tiles ----------------------------------------------------------------------------------- */

/* Outputs up to which tiles of many rows are tall. */
#define CU_TALL_MOST 192

/* x in the matrix's type: a copy of its rows and of the history in front of them where their groups
 * of 8 elements stay whole, else the rows that the product sees, tap beside tap. */
typedef struct packed_x {
    bool rows_as_they_are;
    int32_t rows, ld; /* of a slot */
} packed_x;

static packed_x pack_of(const cu_step *s, int32_t n_t)
{
    const int32_t cols = s->in[0].cols, rows = cu_rows(&s->in[0], n_t);
    const int32_t history = (s->op->u.linear.taps - 1) * s->op->u.linear.dilation;
    if (cols % 8 == 0)
        return (packed_x){true, rows + history, cols};
    return (packed_x){false, rows, s->w[0]->ld};
}

static void launch_pack(cu_run *r, const packed_x *x, cu_tile_args *t)
{
    cu_linear_args *a = &t->a;
    a->x16 = r->e->half;
    a->x16_slot = (int64_t)x->rows * x->ld;
    a->ldx = x->ld;
    cu_tile_args p = *t;
    p.a.rows = x->rows;
    if (x->rows_as_they_are) {
        p.a.k = p.a.seg = x->ld;
    } else {
        a->seg = x->ld; /* one segment */
        a->seg_step = 0;
    }
    cu_launch(r, CU_K_linear_pack, div_up((int64_t)p.a.rows * (p.a.ldx / 8), CU_THREADS), a->slots,
              1, 0, &p);
}

/* x as it is: narrow, with its history in front. */
static void take_x16(const cu_run *r, const cu_step *s, cu_linear_args *a)
{
    const cu_view x = cu_view_of(r, &s->in[0]);
    const int32_t history = (s->op->u.linear.taps - 1) * s->op->u.linear.dilation;
    a->x16 = x.p - 2 * (uint64_t)((int64_t)history * x.cols);
    a->x16_slot = x.slot;
    a->ldx = x.cols;
}

/* Where the result goes. */
static void give_y16(const cu_run *r, const cu_step *s, cu_tile_args *t)
{
    const cu_step *snake = s->links.snake >= 0 ? &r->e->steps[s->links.snake] : NULL;
    const cu_place *out = snake ? &snake->out[0] : &s->out[0];
    if (cu_place_type(out) == CU_F32)
        return;
    const cu_view y = cu_view_of(r, out);
    t->y16 = y.p;
    t->y16_slot = y.slot;
    t->y_cols = y.cols;
    if (snake) {
        t->y_alpha = snake->w[0]->data;
        t->y_beta = snake->w[1]->data;
    }
    if (!snake || s->links.no_f32)
        t->a.y = 0;
}

/* ---- Residual units -------------------------------------------------------------------------- */

static size_t unit_shared(int32_t channels, int32_t reach)
{
    return CU_UNIT_SHARED((size_t)channels, (size_t)reach);
}

bool cu_is_unit(const cu_backend *b, const cu_step *first, const cu_step *second)
{
    const ut_op *f = first->op, *s = second->op;
    const int32_t channels = f->w[0]->rows, taps = f->u.linear.taps;
    return first->w[0]->type == CU_F16 && second->w[0]->type == CU_F16 &&
           f->w[0]->cols == taps * channels && s->u.linear.taps == 1 && s->w[0]->rows == channels &&
           s->w[0]->cols == channels && channels % 16 == 0 && channels <= CU_UNIT_CHANNELS &&
           !f->w[2] && f->in[1] == UT_NONE && first->links.snake < 0 &&
           unit_shared(channels, (taps - 1) * f->u.linear.dilation) <= b->shared_limit;
}

static int64_t unit_blocks(int32_t rows, int n_slots)
{
    return div_up(rows, CU_UNIT_ROWS) * n_slots;
}

/* Where that occupies enough of the device. */
bool cu_unit_pays(const cu_backend *b, int32_t rows, int n_slots)
{
    return 3 * unit_blocks(rows, n_slots) >= b->sm_count;
}

/* Both products of a unit. */
static bool launch_unit(cu_run *r, const cu_step *s, const cu_linear_args *linear)
{
    const cu_step *second = &r->e->steps[s->links.unit];
    if (!cu_unit_pays(r->b, linear->rows, linear->slots))
        return false;
    cu_unit_args u = {.first = {.a = *linear, .narrow = CU_F16},
                      .second = {.a = cu_linear_of(r, second), .narrow = CU_F16},
                      .taps = s->op->u.linear.taps,
                      .dilation = s->op->u.linear.dilation};
    take_x16(r, s, &u.first.a);
    give_y16(r, second, &u.second);
    const int32_t channels = linear->n_out;
    if (cu_launch_unit_group(r, &u))
        return true;
    cu_launch(r, CU_K_linear_unit, unit_blocks(linear->rows, linear->slots), 1, 1,
              unit_shared(channels, (u.taps - 1) * u.dilation), &u);
    return true;
}

/* ---- One output ------------------------------------------------------------------------------ */

static size_t one_shared(const cu_step *s)
{
    const size_t reach = (size_t)((s->op->u.linear.taps - 1) * s->op->u.linear.dilation);
    return CU_ONE_SHARED((size_t)s->w[0]->ld, (size_t)s->in[0].cols, reach);
}

/* Whatever the number of rows is: sums have an order of their own. */
static bool launch_one(cu_run *r, const cu_step *s, const cu_linear_args *linear)
{
    if (linear->n_out != 1 || s->w[0]->type != CU_F16 || cu_place_type(&s->in[0]) != CU_F16 ||
        cu_place_type(&s->out[0]) != CU_F32 || s->links.snake >= 0 ||
        one_shared(s) > CU_SHARED_ALWAYS)
        return false;
    cu_tile_args t = {.a = *linear, .narrow = CU_F16};
    take_x16(r, s, &t.a);
    cu_launch(r, CU_K_linear_one, div_up(linear->rows, CU_ONE_ROWS) * linear->slots, 1, 1,
              one_shared(s), &t);
    return true;
}

/* ---- All products of many rows --------------------------------------------------------------- */

typedef enum tile_kind { TILE_128, TILE_TALL, TILE_64, TAPS_128, TAPS_TALL } tile_kind;

static const struct {
    int32_t rows, outputs;
    int kernel[2], boxes[2]; /* bf16, f16 */
} tiles_of[] = {
    [TILE_128] = {128,
                  128,
                  {CU_K_linear_mma_128, CU_K_linear_mma_128_f16},
                  {CU_K_linear_box_128, CU_K_linear_box_128_f16}},
    [TILE_TALL] = {128,
                   64,
                   {CU_K_linear_mma_tall, CU_K_linear_mma_tall_f16},
                   {CU_K_linear_box_tall, CU_K_linear_box_tall_f16}},
    [TILE_64] = {64,
                 64,
                 {CU_K_linear_mma_64, CU_K_linear_mma_64_f16},
                 {CU_K_linear_box_64, CU_K_linear_box_64_f16}},
    [TAPS_128] = {128, 128, {0, CU_K_linear_taps_128}, {0, CU_K_linear_box_taps_128}},
    [TAPS_TALL] = {128, 64, {0, CU_K_linear_taps_tall}, {0, CU_K_linear_box_taps_tall}},
};

/* Rows that are in front of those that the last tap sees. */
static size_t reach_of(const cu_step *s)
{
    return (size_t)(s->op->u.linear.taps - 1) * (size_t)s->op->u.linear.dilation;
}

/* Do the rows of x stay in shared memory for all taps? Where they find room and a block's rows
 * are of one slot. */
static bool taps_fit(const cu_run *r, const cu_step *s, const cu_tile_args *t, tile_kind k)
{
    const cu_linear_args *a = &t->a;
    const size_t n = (size_t)tiles_of[k].outputs;
    const size_t shared = CU_TAPS_SHARED(n, (size_t)a->seg, reach_of(s)) + CU_MMA_GATES;
    return s->op->u.linear.taps > 1 && t->narrow == CU_F16 && a->seg == s->in[0].cols &&
           a->seg % 64 == 0 && (a->slots == 1 || a->rows % 128 == 0) &&
           shared <= r->b->shared_limit && shared >= CU_TAPS_OUT(n);
}

/* Can its tiles come as boxes? */
static bool map_tiles(const cu_run *r, const cu_step *s, tile_kind k, cu_box_args *b)
{
    const cu_linear_args *a = &b->t.a;
    const int32_t rows = tiles_of[k].rows, span = (rows + (int32_t)reach_of(s) + 7) / 8 * 8;
    const cu_rows_box x = {.cols = a->seg,
                           .rows = a->rows + (a->seg == a->k ? 0 : (int32_t)reach_of(s)),
                           .slots = a->slots,
                           .slot = a->x16_slot,
                           .ld = a->ldx,
                           .box_cols = 64,
                           .box_rows = k >= TAPS_128 ? span : rows};
    const cu_rows_box w = {.cols = a->ldw,
                           .rows = a->n_out,
                           .slots = 1,
                           .ld = a->ldw,
                           .box_cols = 64,
                           .box_rows = tiles_of[k].outputs};
    return r->b->hopper && !r->b->groups && r->b->d.tensor_map && a->seg % 64 == 0 &&
           a->k % a->seg == 0 && a->k == a->ldw && (a->slots == 1 || a->rows % rows == 0) &&
           cu_map_rows(r->b, b->t.narrow, a->x16, &x, &b->x) &&
           cu_map_rows(r->b, b->t.narrow, a->w, &w, &b->w);
}

static void launch_tile(cu_run *r, const cu_step *s, const cu_tile_args *t, tile_kind k,
                        int32_t parts)
{
    const cu_linear_args *a = &t->a;
    const int half = t->narrow == CU_F16;
    const size_t m = (size_t)tiles_of[k].rows, n = (size_t)tiles_of[k].outputs;
    const size_t shared =
        k >= TAPS_128 ? CU_TAPS_SHARED(n, (size_t)a->seg, reach_of(s)) : CU_MMA_SHARED(m, n);
    const int64_t across = div_up(a->n_out, (int64_t)n);
    const int64_t down = div_up((int64_t)a->rows * a->slots, (int64_t)m);
    cu_box_args boxes = {.t = *t};
    if (map_tiles(r, s, k, &boxes))
        cu_launch(r, tiles_of[k].boxes[half], across, down, parts, shared + CU_MMA_GATES, &boxes);
    else
        cu_launch(r, tiles_of[k].kernel[half], across, down, parts, shared, t);
}

static void launch_tiles(cu_run *r, const cu_step *s, const cu_linear_args *linear)
{
    cu_tile_args t = {.a = *linear, .narrow = narrow_type(r->e, s)};
    cu_linear_args *a = &t.a;
    const int64_t rows = (int64_t)a->rows * a->slots;
    give_y16(r, s, &t);
    if (cu_is_packed(s->w[0]->type)) {
        cu_launch_unpack(r, s->w[0], t.narrow);
        a->w = r->e->wide;
    }
    if (cu_place_type(&s->in[0]) == CU_F32) {
        const packed_x x = pack_of(s, r->n_t);
        launch_pack(r, &x, &t);
    } else {
        take_x16(r, s, a);
    }
    /* large tiles need half of the traffic; they pay where they occupy a third of the device. Of
     * few outputs much of a wide tile is waste, and its end, which tall ones do beside the middle
     * of another, is long. Devices of 8.6, 8.9 and 12.0 have no room for wide ones. */
    const bool tall = a->n_out <= CU_TALL_MOST ||
                      CU_MMA_SHARED((size_t)128, 128) + CU_MMA_GATES > r->b->shared_limit;
    const tile_kind taps = tall ? TAPS_TALL : TAPS_128, tile = tall ? TILE_TALL : TILE_128;
    if (3 * div_up(rows, 128) * div_up(a->n_out, tall ? 64 : 128) >= r->b->sm_count) {
        if (!cu_launch_group(r, &t, (int32_t)reach_of(s), true, 1))
            launch_tile(r, s, &t, taps_fit(r, s, &t, taps) ? taps : tile, 1);
        return;
    }
    const int32_t parts = cu_linear_parts(r->b, rows, a->n_out, a->ldw);
    a->part = parts > 1 ? r->e->part : 0;
    if (!cu_launch_group(r, &t, (int32_t)reach_of(s), false, parts))
        launch_tile(r, s, &t, TILE_64, parts);
    if (parts > 1)
        cu_launch(r, CU_K_linear_mma_finish, div_up(rows * div_up(a->n_out, 4), CU_THREADS), 1, 1,
                  0, &t);
}

bool cu_launch_linear_mma(cu_run *r, const cu_step *s, cu_linear_args *a)
{
    if (cu_is_slots_linear(r->e, r->b, s)) {
        cu_launch_slots(r, s, a);
        return true;
    }
    if (!cu_is_tile_linear(r->e, r->b, s))
        return false;
    if (launch_one(r, s, a) || (s->links.unit >= 0 && launch_unit(r, s, a)))
        return true;
    launch_tiles(r, s, a);
    if (s->links.unit >= 0)
        cu_launch_linear(r, &r->e->steps[s->links.unit]);
    return true;
}

/* ---- Memory ---------------------------------------------------------------------------------- */

cu_scratch cu_linear_mma_scratch(const cu_exec *e, const cu_backend *b, const cu_step *s)
{
    cu_scratch need = {0};
    if (cu_is_slots_linear(e, b, s))
        return cu_slots_scratch(e, b, s);
    if (!cu_is_tile_linear(e, b, s))
        return need;
    if (cu_place_type(&s->in[0]) == CU_F32) {
        const packed_x x = pack_of(s, e->max_t);
        need.half = 2 * (size_t)x.rows * (size_t)x.ld * (size_t)e->n_slots;
    }
    if (cu_is_packed(s->w[0]->type))
        need.wide = 2 * (size_t)s->w[0]->w->rows * (size_t)s->w[0]->ld;
    return need;
}
