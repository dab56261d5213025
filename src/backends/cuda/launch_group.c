/* launch_group.c - launches of products by groups of four warps (kernels/linear_group.cu,
 * linear_unit_group.cu): which tiles an operation gets, and the maps by which their boxes are
 * fetched. */
#include "backends/cuda/exec.h"

static int64_t div_up(int64_t a, int64_t b)
{
    return (a + b - 1) / b;
}

/* ---- Maps ------------------------------------------------------------------------------------ */

static int tensor_type(int type)
{
    return type == CU_F16 ? CU_TENSOR_F16 : CU_TENSOR_BF16;
}

static int swizzle_of(int32_t columns)
{
    return columns == 32 ? CU_TENSOR_SWIZZLE_64 : CU_TENSOR_SWIZZLE_128;
}

bool cu_map_rows(const cu_backend *b, int type, cu_ptr from, const cu_rows_box *x,
                 cu_tensor_map *map)
{
    const uint64_t row = 2 * (uint64_t)x->ld, all = 2 * (uint64_t)x->slot;
    const uint64_t dims[] = {(uint64_t)x->cols, (uint64_t)x->rows, (uint64_t)x->slots};
    const uint64_t strides[] = {row, x->slots > 1 ? all : row * (uint64_t)x->rows};
    const uint32_t box[] = {(uint32_t)x->box_cols, (uint32_t)x->box_rows, 1}, steps[] = {1, 1, 1};
    return from % 16 == 0 && x->ld % 8 == 0 && x->slot % 8 == 0 &&
           b->d.tensor_map(map, tensor_type(type), 3, from, dims, strides, box, steps, 0,
                           swizzle_of(x->box_cols), CU_TENSOR_PROMOTE_256, 0) == CU_OK;
}

/* W by groups of 16 rows, in the order of copy_outputs. */
static bool map_outputs(const cu_backend *b, int type, const cu_linear_args *a, int32_t box_cols,
                        int32_t box_rows, cu_tensor_map *map)
{
    const uint64_t row = 2 * (uint64_t)a->ldw;
    const uint64_t dims[] = {(uint64_t)a->ldw, 2, 4, 2, (uint64_t)a->n_out / 16};
    const uint64_t strides[] = {row, 4 * row, 2 * row, 16 * row};
    const uint32_t box[] = {(uint32_t)box_cols, 2, 4, 2, (uint32_t)box_rows / 16};
    const uint32_t steps[] = {1, 1, 1, 1, 1};
    return a->w % 16 == 0 && a->ldw % 8 == 0 && a->n_out % 16 == 0 &&
           b->d.tensor_map(map, tensor_type(type), 5, a->w, dims, strides, box, steps, 0,
                           swizzle_of(box_cols), CU_TENSOR_PROMOTE_256, 0) == CU_OK;
}

/* ---- Tiles ----------------------------------------------------------------------------------- */

typedef struct group_tile {
    int32_t rows, outputs, fit; /* blocks that a multiprocessor has room for */
    int kernel[2], taps;        /* of bf16 and f16; with x that stays, f16; -1: none */
} group_tile;

static const group_tile small_tile = {
    64, 64, 2, {CU_K_linear_group_64, CU_K_linear_group_64_f16}, -1};
static const group_tile large_tiles[] = {
    {128, 64, 2, {CU_K_linear_group_tall, -1}, -1},
    {128, 96, 2, {-1, CU_K_linear_group_96_f16}, -1},
    {128, 128, 1, {CU_K_linear_group_128, -1}, -1},
    {128, 192, 1, {CU_K_linear_group_192, CU_K_linear_group_192_f16}, CU_K_linear_group_taps_192},
};

/* Steps of K up to which a tile's end takes longer than its products, which those of another block
 * on the same multiprocessor cover. */
#define SHORT_STEPS 6

/* The large tile whose waves take least, the widest of equals: it fetches least. */
static const group_tile *large_tile(const cu_backend *b, const cu_linear_args *a, bool half)
{
    const group_tile *best = NULL;
    int64_t least = INT64_MAX;
    for (size_t i = 0; i < sizeof large_tiles / sizeof large_tiles[0]; i++) {
        const group_tile *t = &large_tiles[i];
        if (t->kernel[half] < 0)
            continue;
        const int64_t blocks =
            div_up(a->n_out, t->outputs) * div_up((int64_t)a->rows * a->slots, t->rows);
        const int64_t waves = div_up(blocks, b->sm_count) * t->outputs;
        if (waves <= least)
            least = waves, best = t;
        if (t->fit > 1 && a->k <= 64 * SHORT_STEPS)
            break;
    }
    return best;
}

/* The rows of x [slots, rows] that tiles of so many rows take: *per of a slot. All slots are one
 * where nothing is between them; else tiles are whole slots or slots are whole tiles. false:
 * neither. */
static bool rows_of_x(const cu_linear_args *a, int32_t tile, int32_t reach, cu_rows_box *x,
                      int32_t *per)
{
    const bool joined = a->slots == 1 || (reach == 0 && a->x16_slot == (int64_t)a->rows * a->ldx);
    const int32_t all = a->rows * a->slots;
    *x = (cu_rows_box){.cols = a->seg,
                       .rows = (joined ? all : a->rows) + reach,
                       .slots = joined ? 1 : a->slots,
                       .slot = a->x16_slot,
                       .ld = a->ldx,
                       .box_cols = 64};
    *per = joined && all < tile ? tile : joined ? all : a->rows;
    x->box_rows = *per < tile ? *per : tile;
    return joined || a->rows % tile == 0 || (tile % a->rows == 0 && a->rows % 8 == 0);
}

/* Shared memory for tiles, where so many blocks are to share a multiprocessor. */
static size_t room(const cu_backend *b, const group_tile *t, bool half, int64_t blocks)
{
    const size_t own = 1024; /* of a block, unseen */
    const size_t fit = blocks > b->sm_count ? (size_t)t->fit : 1;
    return (b->shared_limit + own) / fit - own - CU_GROUP_REST((size_t)t->outputs, half);
}

bool cu_launch_group(cu_run *r, const cu_tile_args *t, int32_t reach, bool large, int32_t parts)
{
    cu_group_args g = {.t = *t};
    const cu_linear_args *a = &g.t.a;
    const bool half = t->narrow == CU_F16, snakes = a->act == UT_ACT_SNAKE || t->y_alpha;
    if (!r->b->groups || !r->b->d.tensor_map || a->seg % 64 || a->k % a->seg || a->k != a->ldw ||
        (snakes && !half))
        return false;
    const group_tile *tile = large ? large_tile(r->b, a, half) : &small_tile;
    const int32_t x_reach = a->seg == a->k ? 0 : reach;
    cu_rows_box x;
    if (!rows_of_x(a, tile->rows, x_reach, &x, &g.x_rows))
        return false;
    const int64_t across = div_up(a->n_out, tile->outputs);
    const int64_t down = div_up((int64_t)a->rows * a->slots, tile->rows);
    const size_t all = room(r->b, tile, half, across * down * parts);
    const size_t of_w = 128 * (size_t)tile->outputs, of_x = 128 * (size_t)tile->rows;
    g.span = (tile->rows + x_reach + 7) / 8 * 8;
    size_t kept = (size_t)g.span * (size_t)a->seg * 2;
    if (x_reach == 0 || !half || tile->taps < 0 || g.x_rows < tile->rows || g.span > 256 ||
        kept + 3 * of_w > all)
        kept = 0;
    if (kept)
        x.box_rows = g.span;
    const size_t stage = of_w + (kept ? 0 : of_x);
    const int32_t steps = (parts > 1 ? CU_K_PART : a->k) / 64;
    g.stages = (int32_t)((all - kept) / stage);
    g.stages = g.stages > CU_GROUP_STAGES ? CU_GROUP_STAGES : g.stages;
    g.stages = g.stages > steps ? steps : g.stages;
    if (!map_outputs(r->b, t->narrow, a, 64, tile->outputs, &g.w) ||
        !cu_map_rows(r->b, t->narrow, a->x16, &x, &g.x))
        return false;
    cu_launch(r, kept ? tile->taps : tile->kernel[half], across, down, parts,
              kept + (size_t)g.stages * stage + CU_GROUP_REST((size_t)tile->outputs, half), &g);
    return true;
}

/* ---- Residual units -------------------------------------------------------------------------- */

bool cu_launch_unit_group(cu_run *r, const cu_unit_args *u)
{
    cu_unit_group_args g = {.unit = *u};
    const cu_linear_args *a = &u->first.a;
    const int32_t reach = (u->taps - 1) * u->dilation;
    g.span = (CU_UNIT_ROWS + reach + 7) / 8 * 8;
    const size_t shared = CU_UNIT_GROUP_SHARED((size_t)u->taps, (size_t)g.span);
    const cu_rows_box x = {.cols = a->seg,
                           .rows = a->rows + reach,
                           .slots = a->slots,
                           .slot = a->x16_slot,
                           .ld = a->ldx,
                           .box_cols = 32,
                           .box_rows = g.span};
    if (!r->b->groups || !r->b->d.tensor_map || a->n_out != CU_UNIT_CHANNELS ||
        shared > r->b->shared_limit || g.span > 256 || a->act != UT_ACT_SNAKE || !a->bias ||
        u->second.a.act != UT_ACT_NONE ||
        !map_outputs(r->b, CU_F16, a, 32, CU_UNIT_CHANNELS, &g.w) ||
        !map_outputs(r->b, CU_F16, &u->second.a, 32, CU_UNIT_CHANNELS, &g.w2) ||
        !cu_map_rows(r->b, CU_F16, a->x16, &x, &g.x))
        return false;
    const int64_t pairs = div_up(div_up(a->rows, CU_UNIT_ROWS) * a->slots, 2);
    cu_launch_threads(r, CU_K_linear_unit_group, 2 * CU_THREADS,
                      pairs < r->b->sm_count ? pairs : r->b->sm_count, 1, 1, shared, &g);
    return true;
}
