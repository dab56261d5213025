/* launch_slots.c - launches of products of a decoding step's slots on tensor cores, with their
 * attention or without: which of them go there, how the grid is cut, and the memory that takes. */
#include "backends/cuda/exec.h"
#include <math.h>

static int64_t div_up(int64_t a, int64_t b)
{
    return (a + b - 1) / b;
}

/* ---- Products -------------------------------------------------------------------------------- */

typedef struct slots_grid {
    int kernel;
    int32_t at_once, steps; /* rows of a block, steps of its part of the sums */
    int64_t tiles, parts, rows;
    bool cluster;
    int32_t share_log2; /* of the rows that a block finishes */
    size_t shared;
} slots_grid;

/* Parts depend on K alone: one step, or an eighth of K in wide steps. */
static slots_grid cut_slots(const cu_backend *b, const cu_weight *w, int64_t rows)
{
    /* then those for 16, 32 and 64 rows */
    static const int kernels[][2] = {
        [CU_BF16] = {CU_K_linear_slots_8, CU_K_linear_slots_8_wide},
        [CU_Q8] = {CU_K_linear_slots_q8_8, CU_K_linear_slots_q8_8_wide},
        [CU_Q4] = {CU_K_linear_slots_q4_8, CU_K_linear_slots_q4_8_wide},
    };
    const int32_t outputs = w->w->rows, ld = w->ld;
    const bool wide = ld > CU_SLOTS_MOST * CU_SLOTS_COLUMNS;
    const int32_t columns = wide ? CU_SLOTS_WIDE : CU_SLOTS_COLUMNS;
    slots_grid g = {.steps = wide ? (int32_t)div_up(ld, CU_SLOTS_MOST * CU_SLOTS_WIDE) : 1};
    g.tiles = div_up(outputs, CU_SLOTS_N);
    g.parts = div_up(ld, g.steps * columns);
    g.cluster = b->hopper && g.parts > 1;
    for (int k = rows <= 8 ? 0 : rows <= 16 ? 1 : rows <= 32 ? 2 : 3; k >= 0; k--) {
        g.kernel = kernels[w->type][wide] + k;
        g.at_once = 8 << k;
        g.share_log2 = 3 + k;
        while (g.cluster && g.share_log2 > 0 && g.parts << (g.share_log2 - 1) >= g.at_once)
            g.share_log2--;
        const size_t sent = g.cluster ? (size_t)g.parts << g.share_log2 : 0;
        g.shared = CU_SLOTS_SHARED((size_t)g.at_once, (size_t)g.steps, (size_t)columns, sent);
        if (g.shared <= b->shared_limit)
            break;
    }
    g.rows = div_up(rows, g.at_once);
    return g;
}

bool cu_is_slots_linear(const cu_exec *e, const cu_backend *b, const cu_step *s)
{
    return s->op->kind == UT_OP_LINEAR && b->mma &&
           e->head.plan->tensors[s->op->in[0]].rows_per_t == 0 &&
           (cu_is_packed(s->w[0]->type) ||
            (s->w[0]->type == CU_BF16 && (e->n_slots > 1 || e->stepped)));
}

/* x as bf16, which nobody has left. */
static void pack_slots(cu_run *r, cu_linear_args *a)
{
    a->x16 = r->e->half;
    a->ldx = a->ldw;
    a->x16_slot = (int64_t)a->rows * a->ldx;
    const cu_tile_args p = {.a = *a, .narrow = CU_BF16};
    cu_launch(r, CU_K_linear_pack, div_up((int64_t)a->rows * (a->ldx / 8), CU_THREADS), a->slots, 1,
              0, &p);
}

/* What all kernels of slots need to know of the step; where x is, is written to a. */
static cu_slots_args slots_of(cu_run *r, const cu_step *s, cu_linear_args *a)
{
    const cu_links *l = &s->links;
    if (l->x16) {
        a->x16 = l->x16;
        a->ldx = l->ldx;
    } else {
        pack_slots(r, a);
    }
    a->part = r->e->part;
    a->arrived = r->e->arrived;
    cu_slots_args args = {.a = *a,
                          .swiglu = l->swiglu >= 0,
                          .eps = l->eps,
                          .square = l->square,
                          .square_tiles = l->square_tiles,
                          .ldy = l->ldy,
                          .y16 = l->y16,
                          .y_square = l->y_square};
    if (l->swiglu >= 0) {
        cu_map_args map;
        cu_arguments_of(r, &r->e->steps[l->swiglu], &map, sizeof map);
        args.a.y = map.y;
        args.a.y_slot = map.y_slot;
    }
    if (l->norm >= 0)
        args.y_gain = r->e->steps[l->norm].w[0]->data;
    if (l->no_f32)
        args.a.y = 0;
    return args;
}

void cu_launch_slots(cu_run *r, const cu_step *s, cu_linear_args *a)
{
    const slots_grid g = cut_slots(r->b, s->w[0], (int64_t)a->rows * a->slots);
    cu_slots_args args = slots_of(r, s, a);
    args.steps = g.steps;
    args.cluster = g.cluster;
    args.share = 1 << g.share_log2;
    args.share_log2 = g.share_log2;
    if (args.cluster)
        cu_launch_cluster(r, g.kernel, g.tiles, g.parts, g.rows, g.shared, &args);
    else
        cu_launch(r, g.kernel, g.tiles, g.parts, g.rows, g.shared, &args);
}

cu_scratch cu_slots_scratch(const cu_exec *e, const cu_backend *b, const cu_step *s)
{
    const int64_t rows = (int64_t)s->in[0].rows_fixed * e->n_slots;
    const slots_grid g = cut_slots(b, s->w[0], rows);
    return (cu_scratch){.part = 4 * (size_t)(g.parts * g.tiles * g.rows) * (size_t)g.at_once *
                                CU_SLOTS_N,
                        .arrived = 4 * (size_t)g.tiles * (size_t)g.rows,
                        .half = 2 * (size_t)rows * (size_t)s->w[0]->ld};
}

/* ---- Queries, keys and values with their attention --------------------------------------------
 */

/* Of a cluster, CU_QKV_BLOCKS or fewer blocks. */
typedef struct qkv_grid {
    int32_t steps, at_once, share_log2, blocks;
    size_t shared;
} qkv_grid;

static qkv_grid cut_qkv(const cu_weight *w, const ut_op *attention, int32_t slots)
{
    const int32_t dim = attention->u.attn.head_dim;
    const int32_t group = attention->u.attn.n_heads / attention->u.attn.n_kv_heads;
    const int32_t tiles = (group + 2) * dim / CU_SLOTS_N;
    qkv_grid g = {.at_once = slots <= 8 ? 8 : 32};
    int32_t parts = 1;
    while (2 * parts * tiles <= CU_QKV_BLOCKS && parts * CU_SLOTS_COLUMNS < w->ld)
        parts *= 2;
    g.blocks = tiles * parts;
    g.steps = (int32_t)div_up(w->ld, parts * CU_SLOTS_COLUMNS);
    while (g.blocks << g.share_log2 < g.at_once)
        g.share_log2++;
    g.shared = CU_QKV_SHARED((size_t)g.at_once, (size_t)g.steps, (size_t)g.blocks,
                             (size_t)1 << g.share_log2, (size_t)group, (size_t)dim);
    return g;
}

bool cu_is_qkv_slots(const cu_exec *e, const cu_backend *b, const cu_step *product,
                     const cu_step *attention)
{
    const ut_op *p = product->op, *a = attention->op;
    const int32_t dim = a->u.attn.head_dim, capacity = e->head.plan->tensors[a->in[2]].rows_fixed;
    const int32_t window = a->u.attn.window;
    const int type = product->w[0]->type;
    if (!b->large_clusters || (type != CU_BF16 && type != CU_Q8) || p->w[1] || p->w[2] ||
        p->u.linear.act != UT_ACT_NONE || p->in[1] != UT_NONE || p->u.linear.taps != 1 ||
        e->head.plan->tensors[p->in[0]].rows_fixed != 1 || e->n_slots > 32 || a->in[4] != UT_NONE ||
        (dim != 64 && dim != 128) ||
        cu_state_dtype(b, &e->head.plan->states->def[e->head.plan->tensors[a->in[2]].state]) !=
            UT_BF16)
        return false;
    const int32_t end = a->u.attn.first_pos + 1;
    const qkv_grid g = cut_qkv(product->w[0], a, e->n_slots);
    return end <= CU_QKV_KEYS && end <= capacity && (!window || end <= window) &&
           g.blocks <= CU_QKV_BLOCKS && g.steps <= 4 && 2 * g.shared <= b->shared_limit;
}

void cu_launch_qkv_slots(cu_run *r, const cu_step *attention, const cu_qkv_args *qkv)
{
    static const int kernels[2][2][2] = {{{CU_K_qkv_slots_64_8, CU_K_qkv_slots_64_32},
                                          {CU_K_qkv_slots_128_8, CU_K_qkv_slots_128_32}},
                                         {{CU_K_qkv_slots_q8_64_8, CU_K_qkv_slots_q8_64_32},
                                          {CU_K_qkv_slots_q8_128_8, CU_K_qkv_slots_q8_128_32}}};
    const cu_step *product = &r->e->steps[attention->links.product];
    cu_linear_args a = cu_linear_of(r, product);
    const qkv_grid g = cut_qkv(product->w[0], attention->op, a.slots);
    cu_qkv_slots_args args = {.s = slots_of(r, product, &a),
                              .qkv = *qkv,
                              .y16 = attention->links.y16,
                              .ldy = attention->links.ldy,
                              .scale = 1.0f / sqrtf((float)qkv->dim)};
    args.s.steps = g.steps;
    args.s.cluster = 1;
    args.s.share = 1 << g.share_log2;
    args.s.share_log2 = g.share_log2;
    cu_launch_cluster(r, kernels[product->w[0]->type == CU_Q8][qkv->dim == 128][g.at_once == 32],
                      qkv->kv_heads, g.blocks, div_up(a.slots, g.at_once), g.shared, &args);
}
