/* launch_attention.c - launches of attention: which kernel computes it, and the memory of the
 * partial results of decoding. */
#include "backends/cuda/exec.h"
#include <math.h>

enum { MAX_SPLIT_DIM = 256, MAX_FLASH_DIM = 128, MAX_SPLIT_WIDTH = 1024 /* heads * dim */ };

cu_type cu_place_type(const cu_place *place)
{
    return place->dtype == UT_BF16 ? CU_BF16 : place->dtype == UT_F16 ? CU_F16 : CU_F32;
}

static bool is_decoding(const cu_step *s)
{
    return s->in[0].rows_per_t == 0;
}

bool cu_attention_is_fast(const cu_backend *b, const ut_plan *p, const ut_op *op, const char **why)
{
    const int32_t dim = op->u.attn.head_dim;
    const bool decoding = p->tensors[op->in[0]].rows_per_t == 0;
    const ut_state_def *cache = &p->states->def[p->tensors[op->in[2]].state];
    *why = NULL;
    if (b->attention == UT_ATTENTION_MATH)
        *why = "the plain kernel was asked for";
    else if (dim % 8 || dim > (decoding ? MAX_SPLIT_DIM : MAX_FLASH_DIM))
        *why = "a head's dimensions are no multiple of 8, or more than 128 (decoding: 256)";
    else if (!decoding && cu_state_dtype(b, cache) != UT_BF16)
        *why = "caches are f32: use the precision bf16";
    else if (!decoding && !b->mma)
        *why = "the device has no tensor cores for bf16, or no kernels were built for it";
    return !*why;
}

/* ---- Decoding -------------------------------------------------------------------------------- */

/* Heads that read the same keys, as many as a block takes. */
static int32_t heads_at_once(const ut_op *op, int32_t most)
{
    const int32_t group = op->u.attn.n_heads / op->u.attn.n_kv_heads;
    int32_t n = 8;
    while (group % n || n > most)
        n /= 2;
    return n;
}

/* Positions of a block: longer caches have longer chunks, so that a row has few blocks. */
static int32_t chunk_of(int32_t capacity)
{
    return capacity <= 2048 ? 128 : capacity <= 4096 ? 256 : 512;
}

/* Chunks that hold `reach` neighbouring positions, wherever they begin. */
static int32_t max_chunks(int32_t reach, int32_t chunk)
{
    return (reach + chunk - 2) / chunk + 1;
}

static int32_t reach_of(const ut_op *op, int32_t capacity)
{
    const int32_t window = op->u.attn.window;
    return window && window < capacity ? window : capacity;
}

/* Blocks of a row and its heads: no more than the device has at once, since others would wait. */
static int32_t blocks_of(const cu_backend *b, int64_t heads, int32_t of_sm, int32_t chunks)
{
    const int64_t wanted = of_sm * (int64_t)b->sm_count / heads;
    return wanted < 1 ? 1 : wanted < chunks ? (int32_t)wanted : chunks;
}

/* How a decoding step's attention is cut. */
typedef struct split_grid {
    int kernel, threads;
    int32_t at_once, chunk; /* heads of a block, positions that it takes at a time */
    int32_t chunks, blocks; /* that a row may see; that share them */
    int64_t rows, shared;   /* shared memory without what qkv adds */
} split_grid;

static split_grid cut_split(const cu_exec *e, const cu_backend *b, const cu_step *s)
{
    const int32_t dim = s->op->u.attn.head_dim, capacity = s->in[2].rows_fixed;
    const bool tensor = b->mma && cu_place_type(&s->in[2]) == CU_BF16 && (dim == 64 || dim == 128);
    split_grid g = {.threads = tensor ? CU_STEP_THREADS : CU_THREADS,
                    .at_once = heads_at_once(s->op, MAX_SPLIT_WIDTH / dim),
                    .chunk = tensor ? CU_STEP_CHUNK : chunk_of(capacity),
                    .rows = (int64_t)s->in[0].rows_fixed * e->n_slots};
    const int32_t lanes = dim <= 64 ? 8 : dim <= 128 ? 16 : 32;
    g.chunks = max_chunks(reach_of(s->op, capacity), g.chunk);
    g.blocks = blocks_of(b, g.rows * (s->op->u.attn.n_heads / g.at_once),
                         tensor ? CU_STEP_BLOCKS : CU_SPLIT_BLOCKS(g.at_once), g.chunks);
    g.shared = tensor ? CU_STEP_SHARED(dim, g.at_once)
                      : 4 * (CU_THREADS / 32) * g.at_once * (8 * lanes + 2);
    g.kernel = tensor           ? dim == 64 ? CU_K_attention_slots_64 : CU_K_attention_slots_128
               : g.at_once == 8 ? CU_K_attention_split_8
               : g.at_once == 4 ? CU_K_attention_split_4
               : g.at_once == 2 ? CU_K_attention_split_2
                                : CU_K_attention_split_1;
    return g;
}

static void launch_split(cu_run *r, const cu_step *s, const cu_attention_args *attention)
{
    if (s->links.product >= 0) {
        cu_qkv_args qkv;
        cu_arguments_of(r, &r->e->steps[s->links.qkv], &qkv, sizeof qkv);
        cu_launch_qkv_slots(r, s, &qkv);
        return;
    }
    const split_grid g = cut_split(r->e, r->b, s);
    cu_split_args args = {.a = *attention};
    cu_attention_args *a = &args.a;
    a->at_once = g.at_once;
    a->chunk = g.chunk;
    a->max_chunks = g.chunks;
    a->part = r->e->part;
    a->arrived = r->e->arrived;
    args.y16 = s->links.y16;
    args.ldy = s->links.ldy;
    size_t shared = (size_t)g.shared;
    if (s->links.qkv >= 0) {
        args.early = r->in_graph && s->links.early;
        cu_arguments_of(r, &r->e->steps[s->links.qkv], &args.qkv, sizeof args.qkv);
        const size_t own = 2 * (size_t)a->rows * (size_t)a->dim;
        shared += g.threads == CU_STEP_THREADS ? 2 * own
                                               : 4 * (size_t)a->at_once * (size_t)a->dim +
                                                     own * (a->cache_type == CU_F32 ? 4 : 2);
    }
    cu_launch_threads(r, g.kernel, g.threads, g.blocks, a->heads / g.at_once, g.rows, shared,
                      &args);
}

cu_scratch cu_attention_scratch(const cu_exec *e, const cu_backend *b, const cu_step *s)
{
    const ut_op *op = s->op;
    const char *why;
    cu_scratch need = {0};
    if (op->kind != UT_OP_ATTENTION || !is_decoding(s) ||
        !cu_attention_is_fast(b, e->head.plan, op, &why))
        return need;
    const split_grid g = cut_split(e, b, s);
    const size_t heads = (size_t)g.rows * (size_t)op->u.attn.n_heads;
    if (g.chunks > 1)
        need.part = 4 * heads * (size_t)g.chunks * ((size_t)op->u.attn.head_dim + 2);
    need.arrived = 4 * heads;
    return need;
}

/* ---- Many rows ------------------------------------------------------------------------------- */

static void launch_flash(cu_run *r, const cu_step *s, cu_attention_args *a)
{
    a->at_once = heads_at_once(s->op, CU_FLASH_THREADS / 32); /* a warp has rows of one */
    a->y_type = cu_place_type(&s->out[0]);
    const int32_t rows = CU_FLASH_THREADS / 32 * 16 / a->at_once, d = a->dim <= 64 ? 64 : 128;
    cu_launch_threads(r, d == 64 ? CU_K_flash_64 : CU_K_flash_128, CU_FLASH_THREADS,
                      a->heads / a->at_once, (a->rows + rows - 1) / rows, a->slots,
                      CU_FLASH_SHARED((size_t)d), a);
}

void cu_launch_attention(cu_run *r, const cu_step *s)
{
    const ut_op *op = s->op;
    const cu_view q = cu_view_of(r, &s->in[0]), pos = cu_view_of(r, &s->in[4]);
    const cu_view k = cu_view_of(r, &s->in[2]), v = cu_view_of(r, &s->in[3]);
    const cu_view y = cu_view_of(r, &s->out[0]);
    const char *why;
    cu_attention_args a = {.q = q.p,
                           .q_slot = q.slot,
                           .pos = pos.p,
                           .pos_slot = pos.slot,
                           .cache_k = k.p,
                           .cache_v = v.p,
                           .cache_slot = k.slot,
                           .y = y.p,
                           .y_slot = y.slot,
                           .rows = q.rows,
                           .slots = r->e->n_slots,
                           .heads = op->u.attn.n_heads,
                           .kv_heads = op->u.attn.n_kv_heads,
                           .dim = op->u.attn.head_dim,
                           .first_pos = op->u.attn.first_pos,
                           .capacity = k.rows,
                           .cache_type = cu_place_type(&s->in[2]),
                           .reach = reach_of(op, k.rows),
                           .scale = 1.0f / sqrtf((float)op->u.attn.head_dim)};
    if (!cu_attention_is_fast(r->b, r->e->head.plan, op, &why))
        cu_launch(r, CU_K_attention, (int64_t)q.rows * a.slots, a.heads, 1,
                  sizeof(float) * (CU_THREADS / 32 + CU_THREADS + (size_t)a.dim), &a);
    else if (is_decoding(s))
        launch_split(r, s, &a);
    else
        launch_flash(r, s, &a);
}
