/* weights.c - weights on the device: each is uploaded once, in the form that kernels want, and
 * shared by all plans that use the same ut_weight. What is stored as the kernels want it goes
 * straight to its place; other element types go to a buffer of the device and are converted there.
 */
#include "backends/cuda/exec.h"
#include "base/alloc.h"
#include "base/half.h"
#include "base/os.h"
#include <math.h>
#include <string.h>

#define STAGING_BYTES ((size_t)16 << 20)

/* ---- Staging --------------------------------------------------------------------------------- */

static utter_status open_staging(cu_backend *b, ut_err *err)
{
    cu_staging *s = &b->staging;
    for (int i = 0; i < 2; i++) {
        if (s->done[i])
            continue;
        utter_status st = cu_alloc_host(b, STAGING_BYTES, (void **)&s->host[i], NULL, err);
        if (st == UTTER_OK)
            st = cu_alloc(b, STAGING_BYTES, &s->device[i], err, "uploading");
        if (st != UTTER_OK)
            return st;
        const cu_result r = b->d.event_new(&s->done[i], CU_EVENT_NO_TIMING);
        if (r != CU_OK)
            return cu_fail(b, r, "an event", err);
    }
    return UTTER_OK;
}

/* The half to fill next, once its last contents have left. */
static utter_status take_half(cu_backend *b, int *half, ut_err *err)
{
    utter_status st = open_staging(b, err);
    if (st != UTTER_OK)
        return st;
    *half = b->staging.next;
    b->staging.next = !*half;
    return cu_wait(b, b->staging.done[*half], "uploading", err);
}

static utter_status leave_half(cu_backend *b, int half, cu_result r, ut_err *err)
{
    if (r == CU_OK)
        r = b->d.event_record(b->staging.done[half], b->stream);
    return r == CU_OK ? UTTER_OK : cu_fail(b, r, "uploading", err);
}

typedef struct copy_share {
    uint8_t *dst;
    const uint8_t *src;
    size_t n;
} copy_share;

static void do_share(void *arg)
{
    const copy_share *s = arg;
    memcpy(s->dst, s->src, s->n);
}

/* memcpy; one thread would bring a file's pages more slowly than the device takes them. */
static void copy_together(void *dst, const void *src, size_t n)
{
    enum { MOST = 4 };
    copy_share share[MOST];
    ut_thread *others[MOST] = {0};
    const size_t cores = (size_t)ut_physical_cores(), each = (size_t)1 << 20;
    size_t count = cores < MOST ? cores : MOST;
    count = n / each < count ? n / each : count;
    count = count ? count : 1;
    for (size_t i = 0; i < count; i++) {
        const size_t begin = n / count * i, end = i + 1 < count ? begin + n / count : n;
        share[i] = (copy_share){(uint8_t *)dst + begin, (const uint8_t *)src + begin, end - begin};
        if (i > 0)
            others[i] = ut_thread_start(do_share, &share[i], -1);
    }
    for (size_t i = 0; i < count; i++) {
        if (others[i])
            ut_thread_join(others[i]);
        else
            do_share(&share[i]);
    }
}

utter_status cu_upload(cu_backend *b, cu_ptr dst, const void *src, size_t bytes, ut_err *err)
{
    utter_status st = UTTER_OK;
    for (size_t at = 0; at < bytes && st == UTTER_OK;) {
        const size_t n = bytes - at < STAGING_BYTES ? bytes - at : STAGING_BYTES;
        int half;
        st = take_half(b, &half, err);
        if (st != UTTER_OK)
            return st;
        copy_together(b->staging.host[half], (const uint8_t *)src + at, n);
        st =
            leave_half(b, half, b->d.to_device(dst + at, b->staging.host[half], n, b->stream), err);
        at += n;
    }
    return st;
}

/* ---- Forms ----------------------------------------------------------------------------------- */

static cu_type type_of(ut_dtype t)
{
    switch (t) {
    case UT_BF16:
        return CU_BF16;
    case UT_F16:
        return CU_F16;
    case UT_Q8:
        return CU_Q8;
    case UT_Q4:
        return CU_Q4;
    default:
        return CU_F32;
    }
}

/* Bytes of n elements, a multiple of CU_K_ALIGN where they come in blocks; scales left out. */
static size_t bytes_of(cu_type t, size_t n)
{
    return t == CU_F32 ? 4 * n : t == CU_Q8 ? n : t == CU_Q4 ? n / 2 : 2 * n;
}

/* Bytes of scales of n elements. */
static size_t scale_bytes(cu_type t, size_t n)
{
    return t == CU_Q8 ? 2 * (n / CU_Q8_BLOCK) : t == CU_Q4 ? 2 * (n / CU_Q4_BLOCK) : 0;
}

/* Rows as the checkpoint has them, but for their type. */
static bool is_rows(cu_form form)
{
    return form == CU_FORM_ROWS || form == CU_FORM_HEARD || form == CU_FORM_TABLE ||
           form == CU_FORM_F32;
}

/* Rows of the staged half to their place, from row `row` of the matrix on. */
static void launch_convert(cu_run *r, const cu_weight *item, int half, cu_type stored, int32_t row,
                           int32_t n)
{
    const size_t ld = (size_t)item->ld, before = (size_t)row * ld;
    const size_t scales = bytes_of(item->type, (size_t)item->w->rows * ld);
    const cu_convert_args a = {.src = r->b->staging.device[half],
                               .dst = item->data + bytes_of(item->type, before),
                               .scale = item->data + scales + scale_bytes(item->type, before),
                               .src_type = stored,
                               .dst_type = item->type,
                               .rows = n,
                               .cols = item->w->cols,
                               .ld = item->ld};
    const int kernel = item->type == CU_Q8   ? CU_K_pack_q8
                       : item->type == CU_Q4 ? CU_K_pack_q4
                                             : CU_K_convert;
    const int64_t unit = item->type == CU_Q8   ? CU_Q8_BLOCK
                         : item->type == CU_Q4 ? CU_Q4_BLOCK
                                               : 1; /* elements of a thread */
    cu_launch(r, kernel, ((int64_t)n * item->ld / unit + CU_THREADS - 1) / CU_THREADS, 1, 1, 0, &a);
}

/* Rows of one part of a weight to their place. */
static utter_status upload_part(cu_backend *b, const cu_weight *item, const ut_weight_part *part,
                                int32_t row0, ut_err *err)
{
    const int32_t cols = item->w->cols;
    const cu_type stored = type_of(part->dtype);
    const size_t row_bytes = bytes_of(stored, (size_t)cols);
    if (stored == item->type && cols == item->ld)
        return cu_upload(b, item->data + (size_t)row0 * row_bytes, part->data,
                         (size_t)part->rows * row_bytes, err);
    if (row_bytes > STAGING_BYTES)
        return ut_fail(err, UTTER_ERR_LIMIT, "cuda: weight %s: rows of %d columns are too long",
                       item->w->name, (int)cols);
    const int32_t step = (int32_t)(STAGING_BYTES / row_bytes);
    utter_status st = UTTER_OK;
    for (int32_t r = 0; r < part->rows && st == UTTER_OK; r += step) {
        const int32_t n = part->rows - r < step ? part->rows - r : step;
        int half;
        st = take_half(b, &half, err);
        if (st != UTTER_OK)
            return st;
        const size_t bytes = (size_t)n * row_bytes;
        copy_together(b->staging.host[half], (const uint8_t *)part->data + (size_t)r * row_bytes,
                      bytes);
        cu_run run = {.b = b, .stream = b->stream};
        run.result =
            b->d.to_device(b->staging.device[half], b->staging.host[half], bytes, b->stream);
        launch_convert(&run, item, half, stored, row0 + r, n);
        st = leave_half(b, half, run.result, err);
    }
    return st;
}

/* The small forms are made by the host. */
static void fill_unit(const cu_weight *item, float *dst)
{
    for (int32_t r = 0; r < item->w->rows; r++) {
        float *row = dst + (size_t)r * (size_t)item->ld;
        float s = 0;
        ut_weight_row_f32(item->w, r, row);
        for (int32_t i = 0; i < item->w->cols; i++)
            s += row[i] * row[i];
        s = sqrtf(s);
        for (int32_t i = 0; i < item->w->cols; i++)
            row[i] *= 1.0f / (s > 1e-12f ? s : 1e-12f);
    }
}

static bool fill_taps(const cu_weight *item, float *dst)
{
    const ut_weight *w = item->w;
    float *row = ut_calloc((size_t)w->cols, sizeof *row);
    if (!row)
        return false;
    for (int32_t c = 0; c < w->rows; c++) {
        ut_weight_row_f32(w, c, row);
        for (int32_t t = 0; t < w->cols; t++)
            dst[(size_t)t * (size_t)w->rows + (size_t)c] = row[t];
    }
    ut_free(row);
    return true;
}

static utter_status upload_small(cu_backend *b, const cu_weight *item, ut_err *err)
{
    float *data = ut_calloc(1, item->bytes);
    bool ok = data != NULL;
    if (ok && item->form == CU_FORM_UNIT)
        fill_unit(item, data);
    else if (ok && item->form == CU_FORM_TAPS)
        ok = fill_taps(item, data);
    else if (ok)
        ut_weight_row_f32(item->w, 0, data);
    const utter_status st =
        ok ? cu_upload(b, item->data, data, item->bytes, err)
           : ut_fail(err, UTTER_ERR_NOMEM, "no memory for weight %s", item->w->name);
    ut_free(data);
    return st;
}

static utter_status upload(cu_backend *b, const cu_weight *item, ut_err *err)
{
    if (!is_rows(item->form))
        return upload_small(b, item, err);
    utter_status st = UTTER_OK;
    for (int i = 0, row = 0; i < item->w->n_parts && st == UTTER_OK; i++) {
        st = upload_part(b, item, &item->w->part[i], row, err);
        row += item->w->part[i].rows;
    }
    return st;
}

/* ---- The set --------------------------------------------------------------------------------- */

cu_type cu_weight_rows_type(const cu_backend *b, const ut_weight *w)
{
    return type_of(ut_weight_kept_type(w, b->precision));
}

bool cu_weight_is_narrowed(const cu_backend *b, const ut_weight *w)
{
    const cu_type kept = cu_weight_rows_type(b, w);
    const bool blocks = b->precision == UT_PRECISION_INT8 || b->precision == UT_PRECISION_INT4;
    return b->mma && (kept == CU_BF16 || (blocks && !w->exact && !cu_is_packed(kept)));
}

static cu_type type_wanted(const cu_backend *b, const ut_weight *w, cu_form form)
{
    if (form == CU_FORM_TABLE)
        return type_of(ut_weight_dtype(w));
    if (form != CU_FORM_ROWS && form != CU_FORM_HEARD)
        return CU_F32;
    return form == CU_FORM_HEARD && cu_weight_is_narrowed(b, w) ? CU_F16
                                                                : cu_weight_rows_type(b, w);
}

static bool size_of(cu_weight *item)
{
    const ut_weight *w = item->w;
    size_t n = (size_t)w->cols;
    item->ld = w->cols;
    if (item->form != CU_FORM_VECTOR && item->form != CU_FORM_TAPS)
        item->ld = (w->cols + CU_K_ALIGN - 1) / CU_K_ALIGN * CU_K_ALIGN;
    if (item->form != CU_FORM_VECTOR && !ut_size_mul((size_t)item->ld, (size_t)w->rows, &n))
        return false;
    if (n > SIZE_MAX / sizeof(float))
        return false;
    item->bytes = bytes_of(item->type, n) + scale_bytes(item->type, n);
    return true;
}

static bool grow(cu_weight_set *s)
{
    if (s->n < s->cap)
        return true;
    const size_t cap = s->cap ? 2 * s->cap : 256;
    cu_weight **items = ut_realloc(s->items, cap, sizeof *items);
    if (!items)
        return false;
    s->items = items;
    s->cap = cap;
    return true;
}

/* Rows of one type are the same, whatever they are for. */
static bool same_form(const cu_weight *item, cu_form form, cu_type type)
{
    return item->type == type && (item->form == form || (is_rows(form) && is_rows(item->form)));
}

utter_status cu_weight_get(cu_backend *b, const ut_weight *w, cu_form form, cu_weight **out,
                           ut_err *err)
{
    cu_weight_set *s = &b->weights;
    const cu_type type = type_wanted(b, w, form);
    *out = NULL;
    for (size_t i = 0; i < s->n; i++)
        if (s->items[i]->w == w && same_form(s->items[i], form, type)) {
            s->items[i]->refs++;
            *out = s->items[i];
            return UTTER_OK;
        }
    cu_weight *item = ut_calloc(1, sizeof *item);
    if (!item || !grow(s)) {
        ut_free(item);
        return ut_fail(err, UTTER_ERR_NOMEM, "no memory for weight %s", w->name);
    }
    *item = (cu_weight){.w = w, .form = form, .type = type, .refs = 1};
    utter_status st = UTTER_OK;
    if (!size_of(item))
        st = ut_fail(err, UTTER_ERR_LIMIT, "weight %s [%d, %d] is too large", w->name, (int)w->rows,
                     (int)w->cols);
    if (st == UTTER_OK)
        st = cu_alloc(b, item->bytes, &item->data, err,
                      "weight %s [%d, %d], after %.1f MB of others,", w->name, (int)w->rows,
                      (int)w->cols, (double)s->bytes / 1e6);
    if (st == UTTER_OK)
        st = upload(b, item, err);
    if (st != UTTER_OK) {
        cu_free(b, item->data);
        ut_free(item);
        return st;
    }
    s->items[s->n++] = item;
    s->bytes += item->bytes;
    *out = item;
    return UTTER_OK;
}

void cu_weight_release(cu_backend *b, cu_weight *w)
{
    cu_weight_set *s = &b->weights;
    if (!w || --w->refs > 0)
        return;
    for (size_t i = 0; i < s->n; i++)
        if (s->items[i] == w) {
            s->items[i] = s->items[--s->n];
            break;
        }
    s->bytes -= w->bytes;
    cu_free(b, w->data);
    ut_free(w);
}

void cu_weight_set_free(cu_backend *b)
{
    for (size_t i = 0; i < b->weights.n; i++) {
        cu_free(b, b->weights.items[i]->data);
        ut_free(b->weights.items[i]);
    }
    ut_free(b->weights.items);
    b->weights = (cu_weight_set){0};
}
