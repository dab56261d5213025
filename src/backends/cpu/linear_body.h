/* linear_body.h - the linear kernel for one vector ISA: included once by linear_avx2.c and
 * linear_avx512.c after simd_<isa>.h and simd_math.h, with TILE_ROWS defined.
 *
 * Lanes run over outputs. A tile is up to TILE_ROWS rows by one panel (2 vectors of outputs), its
 * sums kept in registers; each k costs two vector loads of weights and one broadcast per row.
 * Between blocks of k the sums wait in y, which changes no bit. One row alone (decoding) takes
 * four panels at once instead, to have enough independent sums in flight. */

#define PANEL  (2 * VW)
#define INLINE static inline __attribute__((always_inline))
#if defined(__clang__)
#define UNROLL _Pragma("clang loop unroll(full)")
#else
#define UNROLL _Pragma("GCC unroll 16")
#endif

enum {
    K_BLOCK = 384,   /* of k, whole blocks of q8 and q4: stays in the first-level cache */
    ROW_CHUNK = 384, /* rows whose block of x stays in the second-level cache */
    ROW_AHEAD = 2048,
    TILE_AHEAD = 8192, /* bytes: how far weights are fetched in advance */
    GEMV_PANELS = 4
};

/* scale: of the block's outputs, lower half, then upper; not used by the other types. */
INLINE void load_weights(ut_packing type, const uint8_t *p, const vf scale[2], vf *lo, vf *hi)
{
    if (type == UT_PACK_F32)
        v_load2_f32((const float *)(const void *)p, lo, hi);
    else if (type == UT_PACK_BF16)
        v_load2_bf16((const uint16_t *)(const void *)p, lo, hi);
    else if (type == UT_PACK_F16)
        v_load2_f16((const uint16_t *)(const void *)p, lo, hi);
    else if (type == UT_PACK_Q8)
        v_load2_i8((const int8_t *)(const void *)p, lo, hi);
    else
        v_load2_i4(p, lo, hi);
    if (ut_pack_block(type)) {
        *lo = v_mul(*lo, scale[0]);
        *hi = v_mul(*hi, scale[1]);
    }
}

/* Add k0 <= k < k1 to the sums of n_rows rows of n_panels panels. x: row 0 of the tile; w: the
 * first panel; panel_bytes: from one panel to the next. fetch: what to bring into the cache
 * meanwhile, fetch_step bytes per k: the sums of many rows fill the scheduler, so the processor by
 * itself would not look far enough ahead. */
INLINE void accumulate(ut_packing type, int n_rows, int n_panels, vf *sum, const ut_linear_job *j,
                       const float *x, const uint8_t *w, size_t panel_bytes, const uint8_t *fetch,
                       size_t fetch_step, int32_t k0, int32_t k1)
{
    const size_t step = ut_pack_column(type, PANEL), n_scales = PANEL * sizeof(uint16_t);
    const int32_t block = ut_pack_block(type);
    const int64_t stride = j->x_stride;
    const uint8_t *p = w + ut_pack_bytes(type, PANEL, k0);
    vf scale[GEMV_PANELS * 2];
    for (int32_t k = k0; k < k1;) {
        const int32_t s = k / j->seg, from = k - s * j->seg;
        const int32_t left = j->seg - from;
        int32_t n = left < k1 - k ? left : k1 - k;
        if (block) {
            const int32_t in_block = k % block;
            const uint8_t *head = w + ut_pack_bytes(type, PANEL, k - in_block);
            UNROLL for (int b = 0; b < n_panels; b++)
                v_load2_f16((const uint16_t *)(const void *)(head + (size_t)b * panel_bytes),
                            &scale[2 * b], &scale[2 * b + 1]);
            p = head + n_scales + (size_t)in_block * step;
            if (in_block == 0)
                fetch += n_scales * fetch_step / step;
            n = n < block - in_block ? n : block - in_block;
        }
        /* rows 0, 3, 6, 9: the others are one and two strides further */
        const float *x0 = x + (int64_t)s * j->seg_stride + from, *x3 = x0 + 3 * stride;
        const float *x6 = x3 + 3 * stride, *x9 = x6 + 3 * stride;
        for (int32_t i = 0; i < n; i++, p += step, fetch += fetch_step) {
            vf lo[GEMV_PANELS], hi[GEMV_PANELS];
            UNROLL for (int b = 0; b < n_panels; b++)
            {
                load_weights(type, p + (size_t)b * panel_bytes, &scale[2 * b], &lo[b], &hi[b]);
                UNROLL for (size_t line = 0; line < step; line += 64)
                    v_prefetch(fetch + (size_t)b * panel_bytes + line);
            }
            UNROLL for (int r = 0; r < n_rows; r++)
            {
                const float *row = r < 3 ? x0 : r < 6 ? x3 : r < 9 ? x6 : x9;
                const vf v = v_set(row[i + (r % 3) * stride]);
                UNROLL for (int b = 0; b < n_panels; b++)
                {
                    vf *t = sum + (r * n_panels + b) * 2;
                    t[0] = v_fma(v, lo[b], t[0]);
                    t[1] = v_fma(v, hi[b], t[1]);
                }
            }
        }
        k += n;
    }
}

/* A tile from k0 to k1: from zero at k 0, else from the sums in y; left in y. width: outputs from
 * the first panel's first on. */
INLINE void tile(ut_packing type, int n_rows, int n_panels, const ut_linear_job *j, const float *x,
                 const uint8_t *w, size_t panel_bytes, const uint8_t *fetch, size_t fetch_step,
                 float *y, int32_t width, int32_t k0, int32_t k1)
{
    vf sum[TILE_ROWS * 2 > GEMV_PANELS * 2 ? TILE_ROWS * 2 : GEMV_PANELS * 2];
    const int n = n_panels * 2;
    if (k0 == 0) {
        UNROLL for (int i = 0; i < n_rows * n; i++) sum[i] = v_zero();
    } else {
        UNROLL for (int r = 0; r < n_rows; r++)
        {
            UNROLL for (int i = 0; i < n; i++) sum[r * n + i] =
                width > i * VW ? v_load_n(y + (int64_t)r * j->n_out + i * VW, width - i * VW)
                               : v_zero();
        }
    }
    accumulate(type, n_rows, n_panels, sum, j, x, w, panel_bytes, fetch, fetch_step, k0, k1);
    UNROLL for (int r = 0; r < n_rows; r++)
    {
        UNROLL for (int i = 0; i < n; i++) if (width > i * VW)
            v_store_n(y + (int64_t)r * j->n_out + i * VW, sum[r * n + i], width - i * VW);
    }
}

typedef void tile_fn(const ut_linear_job *j, const float *x, const uint8_t *w, size_t panel_bytes,
                     const uint8_t *fetch, size_t fetch_step, float *y, int32_t width, int32_t k0,
                     int32_t k1);

#define TILE(TYPE, ROWS, PANELS)                                                                   \
    static void tile_##TYPE##_##ROWS##x##PANELS(                                                   \
        const ut_linear_job *j, const float *x, const uint8_t *w, size_t panel_bytes,              \
        const uint8_t *fetch, size_t fetch_step, float *y, int32_t width, int32_t k0, int32_t k1)  \
    {                                                                                              \
        tile(UT_PACK_##TYPE, ROWS, PANELS, j, x, w, panel_bytes, fetch, fetch_step, y, width, k0,  \
             k1);                                                                                  \
    }
#if TILE_ROWS == 12
#define TILES(TYPE)                                                                                \
    TILE(TYPE, 1, 4)                                                                               \
    TILE(TYPE, 1, 1)                                                                               \
    TILE(TYPE, 2, 1)                                                                               \
    TILE(TYPE, 3, 1)                                                                               \
    TILE(TYPE, 4, 1)                                                                               \
    TILE(TYPE, 5, 1)                                                                               \
    TILE(TYPE, 6, 1)                                                                               \
    TILE(TYPE, 7, 1)                                                                               \
    TILE(TYPE, 8, 1)                                                                               \
    TILE(TYPE, 9, 1)                                                                               \
    TILE(TYPE, 10, 1)                                                                              \
    TILE(TYPE, 11, 1)                                                                              \
    TILE(TYPE, 12, 1)
#define TILE_LIST(TYPE)                                                                            \
    {                                                                                              \
        tile_##TYPE##_1x4, tile_##TYPE##_1x1, tile_##TYPE##_2x1, tile_##TYPE##_3x1,                \
            tile_##TYPE##_4x1, tile_##TYPE##_5x1, tile_##TYPE##_6x1, tile_##TYPE##_7x1,            \
            tile_##TYPE##_8x1, tile_##TYPE##_9x1, tile_##TYPE##_10x1, tile_##TYPE##_11x1,          \
            tile_##TYPE##_12x1                                                                     \
    }
#else
#define TILES(TYPE)                                                                                \
    TILE(TYPE, 1, 4)                                                                               \
    TILE(TYPE, 1, 1)                                                                               \
    TILE(TYPE, 2, 1)                                                                               \
    TILE(TYPE, 3, 1)                                                                               \
    TILE(TYPE, 4, 1)                                                                               \
    TILE(TYPE, 5, 1)                                                                               \
    TILE(TYPE, 6, 1)
#define TILE_LIST(TYPE)                                                                            \
    {                                                                                              \
        tile_##TYPE##_1x4, tile_##TYPE##_1x1, tile_##TYPE##_2x1, tile_##TYPE##_3x1,                \
            tile_##TYPE##_4x1, tile_##TYPE##_5x1, tile_##TYPE##_6x1                                \
    }
#endif

TILES(F32)
TILES(BF16)
TILES(F16)
TILES(Q8)
TILES(Q4)

/* [type][rows], rows 0: one row of GEMV_PANELS panels */
static tile_fn *const tiles[UT_PACK_COUNT][TILE_ROWS + 1] = {
    [UT_PACK_F32] = TILE_LIST(F32), [UT_PACK_BF16] = TILE_LIST(BF16),
    [UT_PACK_F16] = TILE_LIST(F16), [UT_PACK_Q8] = TILE_LIST(Q8),
    [UT_PACK_Q4] = TILE_LIST(Q4),
};

/* Turn the sums in y into results: rows [row0, row1), outputs [o0, o1), o0 a multiple of PANEL. */
static void finish(const ut_linear_job *j, int32_t row0, int32_t row1, int32_t o0, int32_t o1)
{
    if (!j->bias && j->act == UT_ACT_NONE && !j->gamma && !j->residual)
        return;
    for (int32_t r = row0; r < row1; r++) {
        float *y = j->y + (int64_t)r * j->n_out;
        const float *res = j->residual ? j->residual + (int64_t)r * j->n_out : NULL;
        for (int32_t o = o0; o < o1; o += VW) {
            const int32_t n = o1 - o;
            vf v = v_load_n(y + o, n);
            if (j->bias)
                v = v_add(v, v_load(j->bias + o));
            if (j->act == UT_ACT_SNAKE)
                v = v_snake(v, v_load(j->alpha + o), v_load(j->inv_beta + o));
            else if (j->act != UT_ACT_NONE)
                v = v_act(v, j->act);
            if (j->gamma)
                v = v_mul(v, v_load(j->gamma + o));
            if (res)
                v = v_add(v, v_load_n(res + o, n));
            v_store_n(y + o, v, n);
        }
    }
}

INLINE int32_t least(int32_t a, int32_t b)
{
    return a < b ? a : b;
}

/* Columns k0 <= k < k1 of a panel for rows [row0, row1), cut evenly into tiles, while the block
 * `next` is fetched: each tile fetches its share. The last columns finish the rows. */
static void panel_rows(ut_packing type, const ut_linear_job *j, int32_t row0, int32_t row1,
                       const uint8_t *w, const uint8_t *next, int32_t o, int32_t k0, int32_t k1)
{
    const size_t step = ut_pack_column(type, PANEL);
    const int32_t rows = row1 - row0, n_tiles = (rows + TILE_ROWS - 1) / TILE_ROWS;
    const int32_t small = rows / n_tiles, n_large = rows % n_tiles;
    const size_t share = step / (size_t)n_tiles;
    for (int32_t i = 0, r = row0; i < n_tiles; i++) {
        const int32_t n = small + (i < n_large);
        tiles[type][n](j, j->x + r * j->x_stride, w, 0, next, share,
                       j->y + (int64_t)r * j->n_out + o, j->n_out - o, k0, k1);
        if (k1 == j->seg * j->n_seg)
            finish(j, r, r + n, o, least(o + PANEL, j->n_out));
        next += (size_t)(k1 - k0) * share;
        r += n;
    }
}

/* One row: memory is the limit. */
static void linear_row(ut_packing type, const ut_linear_job *j, int32_t row, int32_t panel0,
                       int32_t panel1)
{
    const int32_t k = j->seg * j->n_seg;
    const size_t step = ut_pack_column(type, PANEL), panel_bytes = ut_pack_bytes(type, PANEL, k);
    for (int32_t p = panel0; p < panel1;) {
        const uint8_t *w = (const uint8_t *)j->w + (size_t)p * panel_bytes;
        const int32_t n = panel1 - p >= GEMV_PANELS ? GEMV_PANELS : 1, o = p * PANEL;
        tiles[type][n == 1](j, j->x + row * j->x_stride, w, panel_bytes, w + ROW_AHEAD, step,
                            j->y + (int64_t)row * j->n_out + o, j->n_out - o, 0, k);
        p += n;
    }
    finish(j, row, row + 1, panel0 * PANEL, least(panel1 * PANEL, j->n_out));
}

/* A chunk of rows whose block of x stays in the second-level cache. */
static void linear_rows(ut_packing type, const ut_linear_job *j, int32_t row0, int32_t row1,
                        int32_t panel0, int32_t panel1)
{
    const int32_t k = j->seg * j->n_seg;
    const size_t panel_bytes = ut_pack_bytes(type, PANEL, k);
    const int32_t block = row1 - row0 <= TILE_ROWS ? k : K_BLOCK;
    for (int32_t k0 = 0; k0 < k; k0 += block) {
        const int32_t k1 = least(k0 + block, k);
        for (int32_t p = panel0; p < panel1; p++) {
            const uint8_t *w = (const uint8_t *)j->w + (size_t)p * panel_bytes;
            /* next comes the same block of the next panel, or what follows in this one */
            const uint8_t *next = block == k ? w + TILE_AHEAD : w + ut_pack_bytes(type, PANEL, k0);
            if (block != k && p + 1 < panel1)
                next += panel_bytes;
            panel_rows(type, j, row0, row1, w, next, p * PANEL, k0, k1);
        }
    }
}

static void linear(ut_packing type, const ut_linear_job *j, int32_t row0, int32_t row1,
                   int32_t panel0, int32_t panel1)
{
    if (row1 - row0 == 1) {
        linear_row(type, j, row0, panel0, panel1);
        return;
    }
    const int32_t n_chunks = (row1 - row0 + ROW_CHUNK - 1) / ROW_CHUNK;
    const int32_t tiles_per_chunk =
        ((row1 - row0 + n_chunks - 1) / n_chunks + TILE_ROWS - 1) / TILE_ROWS;
    for (int32_t r0 = row0; r0 < row1; r0 += tiles_per_chunk * TILE_ROWS)
        linear_rows(type, j, r0, least(r0 + tiles_per_chunk * TILE_ROWS, row1), panel0, panel1);
}

static void linear_f32(const ut_linear_job *j, int32_t row0, int32_t row1, int32_t panel0,
                       int32_t panel1)
{
    linear(UT_PACK_F32, j, row0, row1, panel0, panel1);
}

static void linear_bf16(const ut_linear_job *j, int32_t row0, int32_t row1, int32_t panel0,
                        int32_t panel1)
{
    linear(UT_PACK_BF16, j, row0, row1, panel0, panel1);
}

static void linear_f16(const ut_linear_job *j, int32_t row0, int32_t row1, int32_t panel0,
                       int32_t panel1)
{
    linear(UT_PACK_F16, j, row0, row1, panel0, panel1);
}

static void linear_q8(const ut_linear_job *j, int32_t row0, int32_t row1, int32_t panel0,
                      int32_t panel1)
{
    linear(UT_PACK_Q8, j, row0, row1, panel0, panel1);
}

static void linear_q4(const ut_linear_job *j, int32_t row0, int32_t row1, int32_t panel0,
                      int32_t panel1)
{
    linear(UT_PACK_Q4, j, row0, row1, panel0, panel1);
}

static void fill_linear(ut_kernels *k)
{
    k->panel = PANEL;
    k->row_block = TILE_ROWS;
    k->bf16_pairs = true;
    k->linear[UT_PACK_F32] = linear_f32;
    k->linear[UT_PACK_BF16] = linear_bf16;
    k->linear[UT_PACK_F16] = linear_f16;
    k->linear[UT_PACK_Q8] = linear_q8;
    k->linear[UT_PACK_Q4] = linear_q4;
}
