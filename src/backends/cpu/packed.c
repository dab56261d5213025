/* packed.c - packing of weights: type conversion, panels, normalised rows, transposition. Work is
 * cut into pieces of panels so that all threads copy at the speed of memory. */
#include "backends/cpu/packed.h"
#include "base/alloc.h"
#include "base/half.h"
#include <math.h>
#include <string.h>

enum {
    K_TILE = 64,    /* columns transposed at a time */
    MAX_PANEL = 32, /* outputs */
    PIECE = 1 << 18 /* elements per piece of work */
};

/* ---- The set -------------------------------------------------------------------------------- */

static void free_item(ut_packed *p)
{
    if (!p)
        return;
    ut_free_aligned(p->data);
    ut_free(p);
}

void ut_packed_set_free(ut_packed_set *s)
{
    for (size_t i = 0; i < s->n; i++)
        free_item(s->items[i]);
    ut_free(s->items);
    *s = (ut_packed_set){0};
}

static ut_packing packing_of(const ut_weight *w, ut_precision precision)
{
    switch (ut_weight_kept_type(w, precision)) {
    case UT_BF16:
        return UT_PACK_BF16;
    case UT_F16:
        return UT_PACK_F16;
    case UT_Q8:
        return UT_PACK_Q8;
    case UT_Q4:
        return UT_PACK_Q4;
    default:
        return UT_PACK_F32;
    }
}

static bool is_panels(ut_form form)
{
    return form == UT_FORM_PANELS || form == UT_FORM_F32_PANELS || form == UT_FORM_UNIT_PANELS;
}

static int32_t n_panels(const ut_kernels *k, const ut_weight *w)
{
    return (w->rows + k->panel - 1) / k->panel;
}

static bool bytes_of(const ut_kernels *k, const ut_packed *p, size_t *bytes)
{
    if (is_panels(p->form))
        return ut_size_mul((size_t)n_panels(k, p->w), ut_pack_bytes(p->type, k->panel, p->w->cols),
                           bytes);
    size_t n = (size_t)p->w->cols;
    if (p->form == UT_FORM_TAPS) {
        if (!ut_size_mul((size_t)p->w->rows, n, &n))
            return false;
    } else {
        if (p->form == UT_FORM_HALF_SQUARES)
            n = (size_t)p->w->rows;
        n = (n + MAX_PANEL - 1) / MAX_PANEL * MAX_PANEL;
    }
    return ut_size_mul(n, sizeof(float), bytes);
}

static bool grow(ut_packed_set *s)
{
    if (s->n < s->cap)
        return true;
    const size_t cap = s->cap ? 2 * s->cap : 256;
    ut_packed **items = ut_realloc(s->items, cap, sizeof *items);
    if (!items)
        return false;
    s->items = items;
    s->cap = cap;
    return true;
}

utter_status ut_packed_get(ut_packed_set *s, const ut_kernels *k, ut_precision precision,
                           const ut_weight *w, ut_form form, ut_packed **out, ut_err *err)
{
    *out = NULL;
    for (size_t i = 0; i < s->n; i++)
        if (s->items[i]->w == w && s->items[i]->form == form) {
            s->items[i]->refs++;
            *out = s->items[i];
            return UTTER_OK;
        }
    ut_packed *p = ut_calloc(1, sizeof *p);
    if (!p || !grow(s))
        goto no_memory;
    p->w = w;
    p->form = form;
    p->type = form == UT_FORM_PANELS ? packing_of(w, precision) : UT_PACK_F32;
    p->refs = 1;
    if (!bytes_of(k, p, &p->bytes))
        goto no_memory;
    p->data = ut_alloc_aligned(p->bytes);
    if (!p->data)
        goto no_memory;
    s->items[s->n++] = p;
    s->bytes += p->bytes;
    *out = p;
    return UTTER_OK;
no_memory:
    free_item(p);
    return ut_fail(err, UTTER_ERR_NOMEM, "no memory for the packed weight %s [%d, %d]", w->name,
                   (int)w->rows, (int)w->cols);
}

void ut_packed_release(ut_packed_set *s, ut_packed *p)
{
    if (!p || --p->refs > 0)
        return;
    for (size_t i = 0; i < s->n; i++)
        if (s->items[i] == p) {
            s->items[i] = s->items[--s->n];
            break;
        }
    s->bytes -= p->bytes;
    free_item(p);
}

/* ---- Filling -------------------------------------------------------------------------------- */

static const uint8_t *row_data(const ut_weight *w, int32_t row, ut_dtype *type)
{
    int i = 0;
    while (row >= w->part[i].rows)
        row -= w->part[i++].rows;
    *type = w->part[i].dtype;
    return (const uint8_t *)w->part[i].data + (size_t)row * (size_t)w->cols * ut_dtype_size(*type);
}

static float element(const uint8_t *src, ut_dtype type, int32_t i)
{
    if (type == UT_F32) {
        float f;
        memcpy(&f, src + 4 * (size_t)i, sizeof f);
        return f;
    }
    uint16_t h;
    memcpy(&h, src + 2 * (size_t)i, sizeof h);
    return type == UT_BF16 ? ut_bf16_to_f32(h) : ut_f16_to_f32(h);
}

static uint16_t half_of(float f, ut_packing type)
{
    return type == UT_PACK_BF16 ? ut_f32_to_bf16(f) : ut_f32_to_f16(f);
}

/* Columns [k0, k0 + n) of a row into dst, as 16 bits. */
static void row_tile16(uint16_t *dst, const uint8_t *src, ut_dtype stored, ut_packing type,
                       int32_t k0, int32_t n)
{
    if ((stored == UT_BF16 && type == UT_PACK_BF16) || (stored == UT_F16 && type == UT_PACK_F16))
        memcpy(dst, src + 2 * (size_t)k0, 2 * (size_t)n);
    else
        for (int32_t i = 0; i < n; i++)
            dst[i] = half_of(element(src, stored, k0 + i), type);
}

static void row_tile32(float *dst, const uint8_t *src, ut_dtype stored, float scale, int32_t k0,
                       int32_t n)
{
    for (int32_t i = 0; i < n; i++)
        dst[i] = element(src, stored, k0 + i) * scale;
}

/* 1 / max(|row|, 1e-12) */
static float unit_scale(const ut_weight *w, int32_t row)
{
    ut_dtype stored;
    const uint8_t *src = row_data(w, row, &stored);
    float s = 0;
    for (int32_t i = 0; i < w->cols; i++)
        s += element(src, stored, i) * element(src, stored, i);
    s = sqrtf(s);
    return 1.0f / (s > 1e-12f ? s : 1e-12f);
}

/* Panel p: a tile of rows at a time is read along the rows and written along the outputs. */
static void fill_panel(const ut_kernels *k, const ut_packed *item, int32_t panel)
{
    const ut_weight *w = item->w;
    const int32_t width = k->panel, o0 = panel * width;
    const int32_t n_out = w->rows - o0 < width ? w->rows - o0 : width;
    const size_t start = (size_t)panel * (size_t)w->cols * (size_t)width;
    const uint8_t *src[MAX_PANEL];
    ut_dtype stored[MAX_PANEL];
    float scale[MAX_PANEL];
    int32_t lane[MAX_PANEL]; /* where an output stands in its panel */
    const bool pairs = item->type == UT_PACK_BF16 && k->bf16_pairs;
    for (int32_t o = 0; o < n_out; o++) {
        src[o] = row_data(w, o0 + o, &stored[o]);
        scale[o] = item->form == UT_FORM_UNIT_PANELS ? unit_scale(w, o0 + o) : 1.0f;
    }
    for (int32_t o = 0; o < width; o++)
        lane[o] = !pairs ? o : o < width / 2 ? 2 * o : 2 * (o - width / 2) + 1;
    union {
        uint16_t h[MAX_PANEL][K_TILE];
        float f[MAX_PANEL][K_TILE];
    } tile;
    memset(&tile, 0, sizeof tile);
    for (int32_t k0 = 0; k0 < w->cols; k0 += K_TILE) {
        const int32_t n = w->cols - k0 < K_TILE ? w->cols - k0 : K_TILE;
        if (item->type == UT_PACK_F32) {
            float *dst = (float *)item->data + start + (size_t)k0 * (size_t)width;
            for (int32_t o = 0; o < n_out; o++)
                row_tile32(tile.f[o], src[o], stored[o], scale[o], k0, n);
            for (int32_t i = 0; i < n; i++, dst += width)
                for (int32_t o = 0; o < width; o++)
                    dst[o] = tile.f[o][i];
        } else {
            uint16_t *dst = (uint16_t *)item->data + start + (size_t)k0 * (size_t)width;
            for (int32_t o = 0; o < n_out; o++)
                row_tile16(tile.h[o], src[o], stored[o], item->type, k0, n);
            for (int32_t i = 0; i < n; i++, dst += width)
                for (int32_t o = 0; o < width; o++)
                    dst[lane[o]] = tile.h[o][i];
        }
    }
}

/* The same for the block-wise types: a block of all rows at a time. */
static void fill_panel_blocks(const ut_kernels *k, const ut_packed *item, int32_t panel)
{
    const ut_weight *w = item->w;
    const int32_t width = k->panel, o0 = panel * width, block = ut_pack_block(item->type);
    const int32_t n_out = w->rows - o0 < width ? w->rows - o0 : width;
    uint8_t *dst =
        (uint8_t *)item->data + (size_t)panel * ut_pack_bytes(item->type, width, w->cols);
    int8_t q[MAX_PANEL][UT_Q8_BLOCK] = {{0}};
    uint16_t scale[MAX_PANEL] = {0};
    for (int32_t k0 = 0; k0 < w->cols; k0 += block) {
        const int32_t n = w->cols - k0 < block ? w->cols - k0 : block;
        for (int32_t o = 0; o < n_out; o++) {
            float x[UT_Q8_BLOCK];
            ut_weight_read_f32(w, o0 + o, k0, n, x);
            scale[o] = item->type == UT_PACK_Q8 ? ut_q8_pack(q[o], x, n) : ut_q4_pack(q[o], x, n);
        }
        memcpy(dst, scale, (size_t)width * sizeof scale[0]);
        dst += (size_t)width * sizeof scale[0];
        for (int32_t i = 0; i < n; i++) {
            if (item->type == UT_PACK_Q8)
                for (int32_t o = 0; o < width; o++)
                    *dst++ = (uint8_t)q[o][i];
            else
                for (int32_t o = 0; o < width / 2; o++)
                    *dst++ = (uint8_t)((q[o][i] + 8) | (q[o + width / 2][i] + 8) << 4);
        }
    }
}

static void fill_vector(const ut_packed *item)
{
    float *dst = item->data;
    ut_weight_row_f32(item->w, 0, dst);
    if (item->form == UT_FORM_INVERSE)
        for (int32_t i = 0; i < item->w->cols; i++)
            dst[i] = 1.0f / (dst[i] + 1e-9f);
}

static void fill_half_squares(const ut_packed *item)
{
    float *dst = item->data;
    for (int32_t r = 0; r < item->w->rows; r++) {
        ut_dtype stored;
        const uint8_t *src = row_data(item->w, r, &stored);
        double sum = 0;
        for (int32_t i = 0; i < item->w->cols; i++) {
            const double v = (double)element(src, stored, i);
            sum += v * v;
        }
        dst[r] = (float)(-0.5 * sum);
    }
}

static void fill_taps(const ut_packed *item)
{
    const ut_weight *w = item->w;
    float *dst = item->data;
    for (int32_t c = 0; c < w->rows; c++) {
        ut_dtype stored;
        const uint8_t *src = row_data(w, c, &stored);
        for (int32_t t = 0; t < w->cols; t++)
            dst[(size_t)t * (size_t)w->rows + (size_t)c] = element(src, stored, t);
    }
}

/* A run of panels of one item, or a whole item of another form. */
typedef struct piece {
    const ut_packed *item;
    int32_t panel0, panel1;
} piece;

typedef struct fill_job {
    const ut_kernels *k;
    const piece *pieces;
} fill_job;

static void fill_piece(void *arg, int32_t i, int member)
{
    const fill_job *job = arg;
    const piece *p = &job->pieces[i];
    (void)member;
    if (is_panels(p->item->form))
        for (int32_t panel = p->panel0; panel < p->panel1; panel++)
            (ut_pack_block(p->item->type) ? fill_panel_blocks : fill_panel)(job->k, p->item, panel);
    else if (p->item->form == UT_FORM_TAPS)
        fill_taps(p->item);
    else if (p->item->form == UT_FORM_HALF_SQUARES)
        fill_half_squares(p->item);
    else
        fill_vector(p->item);
}

/* Cut one item into pieces; pieces NULL: only count them. */
static size_t cut(const ut_kernels *k, const ut_packed *item, piece *pieces)
{
    if (!is_panels(item->form)) {
        if (pieces)
            pieces[0] = (piece){item, 0, 0};
        return 1;
    }
    const int32_t panels = n_panels(k, item->w);
    const int64_t panel_size = (int64_t)k->panel * item->w->cols;
    const int32_t step = panel_size >= PIECE ? 1 : (int32_t)(PIECE / panel_size);
    size_t n = 0;
    for (int32_t p = 0; p < panels; p += step, n++)
        if (pieces)
            pieces[n] = (piece){item, p, p + step < panels ? p + step : panels};
    return n;
}

utter_status ut_packed_fill(ut_packed_set *s, const ut_kernels *k, ut_pool *pool, ut_err *err)
{
    size_t n = 0;
    for (size_t i = 0; i < s->n; i++)
        if (!s->items[i]->filled)
            n += cut(k, s->items[i], NULL);
    if (n == 0)
        return UTTER_OK;
    piece *pieces = n <= INT32_MAX ? ut_calloc(n, sizeof *pieces) : NULL;
    if (!pieces)
        return ut_fail(err, UTTER_ERR_NOMEM, "no memory to pack weights");
    size_t at = 0;
    for (size_t i = 0; i < s->n; i++)
        if (!s->items[i]->filled) {
            at += cut(k, s->items[i], pieces + at);
            s->items[i]->filled = true;
        }
    fill_job job = {k, pieces};
    ut_pool_run(pool, fill_piece, &job, (int32_t)n, true);
    ut_free(pieces);
    return UTTER_OK;
}
