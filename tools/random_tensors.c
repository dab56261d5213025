/* random_tensors.c - values through a table of 4096 quantiles of the tensor's distribution, indexed
 * by 12 bits of a counter-based generator: as fast as a disk writes. */
#include "random_tensors.h"

#include "base/alloc.h"
#include "base/half.h"
#include "base/json.h"
#include "base/os.h"
#include <errno.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

enum { N_QUANTILES = 4096 };

void random_list_free(random_list *l)
{
    for (int i = 0; i < l->n; i++)
        ut_free((void *)(uintptr_t)l->tensor[i].t.name);
    ut_free(l->tensor);
    *l = (random_list){0};
}

random_tensor *random_list_add(random_list *l, ut_dtype dtype, random_kind kind, float a, float b,
                               const int64_t *dim, const char *name, ...)
{
    char text[256];
    va_list args;
    va_start(args, name);
    vsnprintf(text, sizeof text, name, args);
    va_end(args);
    if (l->n == l->cap) {
        const int cap = l->cap > 0 ? 2 * l->cap : 256;
        random_tensor *grown = ut_realloc(l->tensor, (size_t)cap, sizeof *grown);
        if (!grown) {
            l->failed = true;
            return NULL;
        }
        l->tensor = grown;
        l->cap = cap;
    }
    random_tensor *r = &l->tensor[l->n];
    *r = (random_tensor){
        .t = {.name = ut_strdup(text), .dtype = dtype}, .kind = kind, .a = a, .b = b};
    while (dim[r->t.n_dims] != 0) {
        r->t.dim[r->t.n_dims] = dim[r->t.n_dims];
        r->t.n_dims++;
    }
    if (!r->t.name) {
        l->failed = true;
        return NULL;
    }
    l->n++;
    return r;
}

/* ---- Values --------------------------------------------------------------------------------- */

typedef union table {
    float f32[N_QUANTILES];
    uint16_t bf16[N_QUANTILES];
} table;

typedef struct generator {
    const random_list *list;
    const char *path;
    uint64_t seed;
    double quantile[N_QUANTILES]; /* of the standard normal distribution */
    int prepared;                 /* tensor that key and tables are of, or -1 */
    uint64_t key;
    table plain, loud;
    int percent; /* shown last */
} generator;

/* x with P(X < x) = p, by bisection. */
static double normal_quantile(double p)
{
    double low = -8, high = 8;
    for (int i = 0; i < 60; i++) {
        const double mid = 0.5 * (low + high);
        if (0.5 * erfc(-mid * sqrt(0.5)) < p)
            low = mid;
        else
            high = mid;
    }
    return 0.5 * (low + high);
}

static void fill_table(table *t, const generator *g, const random_tensor *r, float gain)
{
    for (int i = 0; i < N_QUANTILES; i++) {
        const float x = r->kind == RANDOM_NORMAL
                            ? r->a + gain * r->b * (float)g->quantile[i]
                            : r->a + (r->b - r->a) * ((float)i + 0.5f) / (float)N_QUANTILES;
        if (r->t.dtype == UT_F32)
            t->f32[i] = x;
        else
            t->bf16[i] = ut_f32_to_bf16(x);
    }
}

static void prepare(generator *g, int i)
{
    const random_tensor *r = &g->list->tensor[i];
    uint64_t h = 0xcbf29ce484222325u; /* FNV-1a of the name */
    for (const char *s = r->t.name; *s; s++)
        h = (h ^ (uint8_t)*s) * 0x100000001b3u;
    g->key = h ^ g->seed * 0xd1342543de82ef95u;
    fill_table(&g->plain, g, r, 1.0f);
    fill_table(&g->loud, g, r, r->loud_gain);
    g->prepared = i;
}

/* 64 random bits of a counter: four values (the mixer of SplitMix64). */
static inline uint64_t bits_of(uint64_t key, uint64_t counter)
{
    uint64_t z = key + (counter + 1) * 0x9e3779b97f4a7c15u;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

static inline size_t index_of(uint64_t bits, int64_t element)
{
    return bits >> (16 * (element & 3)) & (N_QUANTILES - 1);
}

/* Elements [first, end) by table into out[0..). */
#define FILL_FROM_TABLE(name, type, field)                                                         \
    static void name(type *out, const table *t, uint64_t key, int64_t first, int64_t end)          \
    {                                                                                              \
        int64_t i = first;                                                                         \
        for (; i < end && i % 4 != 0; i++)                                                         \
            *out++ = t->field[index_of(bits_of(key, (uint64_t)i / 4), i)];                         \
        for (; i + 4 <= end; i += 4, out += 4) {                                                   \
            const uint64_t bits = bits_of(key, (uint64_t)i / 4);                                   \
            for (int64_t j = 0; j < 4; j++)                                                        \
                out[j] = t->field[index_of(bits, j)];                                              \
        }                                                                                          \
        for (; i < end; i++)                                                                       \
            *out++ = t->field[index_of(bits_of(key, (uint64_t)i / 4), i)];                         \
    }
FILL_FROM_TABLE(fill_f32, float, f32)
FILL_FROM_TABLE(fill_bf16, uint16_t, bf16)

static void fill_rope(const random_tensor *r, int64_t first, int64_t n, uint16_t *out)
{
    const int64_t half = r->t.dim[1];
    for (int64_t e = first; e < first + n; e++) {
        const int64_t pair = e / 2 % half, pos = e / 2 / half;
        const float frequency = powf(r->a, -(float)pair / (float)half);
        const float angle = (float)pos * frequency;
        *out++ = ut_f32_to_bf16(e % 2 == 0 ? cosf(angle) : sinf(angle));
    }
}

static void fill(void *user, int i, int64_t first, int64_t n, void *out)
{
    generator *g = user;
    const random_tensor *r = &g->list->tensor[i];
    if (r->kind == ROPE_TABLE) {
        fill_rope(r, first, n, out);
        return;
    }
    if (g->prepared != i)
        prepare(g, i);
    int64_t row = 1; /* elements */
    for (int d = 1; d < r->t.n_dims; d++)
        row *= r->t.dim[d];
    const int64_t cut[4] = {0, r->loud_first * row, r->loud_end * row, INT64_MAX};
    char *p = out;
    for (int part = 0; part < 3; part++) {
        const int64_t begin = first > cut[part] ? first : cut[part];
        const int64_t end = first + n < cut[part + 1] ? first + n : cut[part + 1];
        if (begin >= end)
            continue;
        const table *t = part == 1 ? &g->loud : &g->plain;
        if (r->t.dtype == UT_F32)
            fill_f32((float *)(void *)p, t, g->key, begin, end);
        else
            fill_bf16((uint16_t *)(void *)p, t, g->key, begin, end);
        p += (size_t)(end - begin) * ut_dtype_size(r->t.dtype);
    }
}

/* ---- The file ------------------------------------------------------------------------------- */

static void show_progress(void *user, uint64_t done, uint64_t total)
{
    generator *g = user;
    const int percent = (int)(done * 100 / total);
    if (percent == g->percent)
        return;
    g->percent = percent;
    fprintf(stderr, "\r%s: %d %% of %.1f MB%s", g->path, percent, (double)total * 1e-6,
            done == total ? "\n" : "");
}

static void generator_init(generator *g, const random_list *l, const char *path, uint64_t seed)
{
    *g = (generator){.list = l, .path = path, .seed = seed, .prepared = -1, .percent = -1};
    for (int i = 0; i < N_QUANTILES; i++)
        g->quantile[i] = normal_quantile(((double)i + 0.5) / N_QUANTILES);
}

static int64_t elements_of(const random_tensor *r)
{
    int64_t n = 1;
    for (int d = 0; d < r->t.n_dims; d++)
        n *= r->t.dim[d];
    return n;
}

/* The header of a safetensors file: its length, then JSON. Returns all bytes of tensors. */
static uint64_t safetensors_header(const random_list *l, ut_buf *text, bool *complete)
{
    ut_json_writer w;
    uint64_t at = 0;
    static const char room[8];
    *complete = ut_buf_append(text, room, sizeof room);
    ut_json_writer_init(&w, text, 0);
    ut_json_begin_object(&w, NULL);
    for (int i = 0; i < l->n; i++) {
        const random_tensor *r = &l->tensor[i];
        const uint64_t end = at + (uint64_t)elements_of(r) * ut_dtype_size(r->t.dtype);
        ut_json_begin_object(&w, r->t.name);
        ut_json_put_string(&w, "dtype", r->t.dtype == UT_F32 ? "F32" : "BF16");
        ut_json_begin_array(&w, "shape");
        for (int d = 0; d < r->t.n_dims; d++)
            ut_json_put_int(&w, NULL, r->t.dim[d]);
        ut_json_end(&w);
        ut_json_begin_array(&w, "data_offsets");
        ut_json_put_int(&w, NULL, (int64_t)at);
        ut_json_put_int(&w, NULL, (int64_t)end);
        ut_json_end(&w);
        ut_json_end(&w);
        at = end;
    }
    *complete = ut_json_end_all(&w) && *complete;
    while (*complete && text->len % 8 != 0)
        *complete = ut_buf_puts(text, " ");
    const uint64_t n = text->len - sizeof room;
    if (*complete)
        memcpy(text->data, &n, sizeof n);
    return at;
}

/* All values, in pieces. */
static bool write_values(generator *g, FILE *f, uint64_t total, char *piece, int64_t piece_bytes)
{
    uint64_t done = 0;
    for (int i = 0; i < g->list->n; i++) {
        const random_tensor *r = &g->list->tensor[i];
        const int64_t n = elements_of(r), size = (int64_t)ut_dtype_size(r->t.dtype);
        for (int64_t first = 0; first < n;) {
            const int64_t here = n - first < piece_bytes / size ? n - first : piece_bytes / size;
            fill(g, i, first, here, piece);
            if (fwrite(piece, (size_t)size, (size_t)here, f) != (size_t)here)
                return false;
            first += here;
            done += (uint64_t)(here * size);
            if (ut_is_terminal(stderr))
                show_progress(g, done, total);
        }
    }
    return true;
}

utter_status random_list_write_safetensors(const random_list *l, const char *path, uint64_t seed,
                                           ut_err *err)
{
    enum { PIECE = 1 << 20 };
    ut_buf header;
    bool complete;
    ut_buf_init(&header, UT_JSON_MAX_BYTES);
    const uint64_t total = safetensors_header(l, &header, &complete);
    generator *g = ut_calloc(1, sizeof *g);
    char *piece = ut_malloc(PIECE);
    utter_status st = UTTER_OK;
    FILE *f = NULL;
    if (l->failed || !complete || !g || !piece) {
        st = ut_fail(err, UTTER_ERR_NOMEM, "%s: list of tensors", path);
        goto done;
    }
    generator_init(g, l, path, seed);
    f = ut_fopen(path, "wb");
    bool ok = f && fwrite(header.data, 1, header.len, f) == header.len &&
              write_values(g, f, total, piece, PIECE);
    if (f && fclose(f) != 0)
        ok = false;
    if (!ok)
        st = ut_fail(err, UTTER_ERR_IO, "%s: %s", path, strerror(errno));
done:
    ut_buf_free(&header);
    ut_free(piece);
    ut_free(g);
    return st;
}

utter_status random_list_write(const random_list *l, const char *path, bool ordered_dict,
                               uint64_t seed, ut_err *err)
{
    if (l->failed)
        return ut_fail(err, UTTER_ERR_NOMEM, "%s: list of tensors", path);
    generator *g = ut_calloc(1, sizeof *g);
    pth_tensor *tensors = ut_calloc((size_t)l->n, sizeof *tensors);
    utter_status st;
    if (g && tensors) {
        generator_init(g, l, path, seed);
        for (int i = 0; i < l->n; i++)
            tensors[i] = l->tensor[i].t;
        const pth_options o = {.top = "archive",
                               .ordered_dict = ordered_dict,
                               .fill = fill,
                               .progress = ut_is_terminal(stderr) ? show_progress : NULL,
                               .user = g};
        st = pth_write(path, tensors, l->n, &o, err);
    } else {
        st = ut_fail(err, UTTER_ERR_NOMEM, "%s: list of tensors", path);
    }
    ut_free(tensors);
    ut_free(g);
    return st;
}
