/* random_tensors.c - values through a table of 4096 quantiles of the tensor's distribution, indexed
 * by 12 bits of a counter-based generator: as fast as a disk writes. */
#include "random_tensors.h"

#include "base/alloc.h"
#include "base/half.h"
#include "base/os.h"
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

utter_status random_list_write(const random_list *l, const char *path, bool ordered_dict,
                               uint64_t seed, ut_err *err)
{
    if (l->failed)
        return ut_fail(err, UTTER_ERR_NOMEM, "%s: list of tensors", path);
    generator *g = ut_calloc(1, sizeof *g);
    pth_tensor *tensors = ut_calloc((size_t)l->n, sizeof *tensors);
    utter_status st;
    if (g && tensors) {
        *g = (generator){.list = l, .path = path, .seed = seed, .prepared = -1, .percent = -1};
        for (int i = 0; i < N_QUANTILES; i++)
            g->quantile[i] = normal_quantile(((double)i + 0.5) / N_QUANTILES);
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
