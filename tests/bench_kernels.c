/* bench_kernels.c - `test_kernels --bench`: the best of several timings of each variant, over the
 * shapes that the models have. One thread, operands in cache where they fit. */
#include "kernel_check.h"
#include "backends/cpu/packed.h"
#include "backends/cpu/sample.h"
#include "base/alloc.h"
#include "base/os.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

/* Best seconds of one call of fn, over at least 0.1 s and 3 calls. */
static double best_time(void (*fn)(void *), void *arg)
{
    double best = 1e9, total = 0;
    for (int i = 0; i < 3 || total < 0.1; i++) {
        const double start = ut_time_now();
        fn(arg);
        const double t = ut_time_now() - start;
        total += t;
        if (t < best)
            best = t;
    }
    return best;
}

typedef struct linear_bench {
    ut_linear_fn *fn;
    ut_linear_job job;
    int32_t rows, panels;
} linear_bench;

static void run_linear(void *arg)
{
    const linear_bench *b = arg;
    b->fn(&b->job, 0, b->rows, 0, b->panels);
}

void bench_linear_kernels(void)
{
    static const struct {
        int32_t rows, k, out;
        ut_dtype type;
        ut_precision precision;
    } cases[] = {
        {1, 1024, 1024, UT_BF16, UT_PRECISION_AUTO},
        {1, 1024, 6144, UT_BF16, UT_PRECISION_AUTO},
        {1, 1024, 6144, UT_BF16, UT_PRECISION_INT8},
        {1, 1024, 6144, UT_BF16, UT_PRECISION_INT4},
        {1, 3072, 1024, UT_F32, UT_PRECISION_AUTO},
        {2, 1024, 6144, UT_BF16, UT_PRECISION_AUTO},
        {2, 1024, 6144, UT_BF16, UT_PRECISION_INT8},
        {2, 1024, 6144, UT_BF16, UT_PRECISION_INT4},
        {4, 1024, 6144, UT_BF16, UT_PRECISION_AUTO},
        {12, 1024, 1024, UT_BF16, UT_PRECISION_AUTO},
        {96, 1024, 1024, UT_BF16, UT_PRECISION_AUTO},
        {96, 1024, 1024, UT_BF16, UT_PRECISION_INT8},
        {96, 1024, 1024, UT_BF16, UT_PRECISION_INT4},
        {300, 1024, 1024, UT_F32, UT_PRECISION_AUTO},
        {300, 1024, 3072, UT_BF16, UT_PRECISION_AUTO},
        {300, 1024, 3072, UT_BF16, UT_PRECISION_INT8},
        {300, 1024, 1024, UT_F16, UT_PRECISION_AUTO},
        {4096, 672, 96, UT_F32, UT_PRECISION_AUTO},
        {512, 5376, 768, UT_F32, UT_PRECISION_AUTO},
    };
    ut_kernels k[N_VARIANTS];
    const int n_k = variants(k);
    ut_err err = {0};
    ut_pool *pool;
    if (ut_pool_new(&pool, 1, &err) != UTTER_OK)
        return;
    printf("linear: rows x K x out                  GFLOP/s (GB/s of weights)\n");
    for (size_t c = 0; c < sizeof cases / sizeof cases[0]; c++) {
        const size_t rows = (size_t)cases[c].rows, depth = (size_t)cases[c].k;
        const size_t out = (size_t)cases[c].out;
        float *x = ut_alloc_aligned(rows * depth * 4), *y = ut_alloc_aligned(rows * out * 4);
        void *w = ut_alloc_aligned(depth * out * 4);
        assert_true(x && y && w);
        random_fill(x, rows * depth, 1.0f);
        const ut_weight weight = {.name = "w",
                                  .rows = cases[c].out,
                                  .cols = cases[c].k,
                                  .least_bits = 4,
                                  .n_parts = 1,
                                  .part = {{w, cases[c].type, cases[c].out}}};
        printf("%5d x %4d x %4d %-5s", (int)cases[c].rows, (int)cases[c].k, (int)cases[c].out,
               ut_dtype_name(ut_weight_kept_type(&weight, cases[c].precision)));
        for (int v = 0; v < n_k; v++) {
            ut_packed_set set = {0};
            ut_packed *packed;
            if (ut_packed_get(&set, &k[v], cases[c].precision, &weight, UT_FORM_PANELS, &packed,
                              &err) != UTTER_OK ||
                ut_packed_fill(&set, &k[v], pool, &err) != UTTER_OK)
                break;
            linear_bench b = {.fn = k[v].linear[packed->type],
                              .job = {.x = x,
                                      .x_stride = cases[c].k,
                                      .seg = cases[c].k,
                                      .n_seg = 1,
                                      .w = packed->data,
                                      .n_out = cases[c].out,
                                      .y = y},
                              .rows = cases[c].rows,
                              .panels = (cases[c].out + k[v].panel - 1) / k[v].panel};
            const double t = best_time(run_linear, &b);
            printf("  %s %6.1f (%5.1f)", k[v].name, 2e-9 * (double)(rows * depth * out) / t,
                   1e-9 * (double)packed->bytes / t);
            ut_packed_set_free(&set);
        }
        printf("\n");
        ut_free_aligned(x);
        ut_free_aligned(y);
        ut_free_aligned(w);
    }
    ut_pool_free(pool);
}

/* ---- The others ----------------------------------------------------------------------------- */

enum { ROWS = 64, COLS = 1024, POSITIONS = 1000 };

enum { VOCABULARY = 155776 };

typedef struct other_bench {
    const ut_kernels *k;
    float *x, *y, *v, *logits, *cache;
    uint16_t *h;
} other_bench;

static void b_rms_norm(void *arg)
{
    const other_bench *b = arg;
    b->k->rms_norm(b->y, b->x, b->v, 1e-6f, ROWS, COLS);
}
static void b_layer_norm(void *arg)
{
    const other_bench *b = arg;
    b->k->layer_norm(b->y, b->x, b->v, b->v, 1e-6f, ROWS, COLS);
}
static void b_swiglu(void *arg)
{
    const other_bench *b = arg;
    b->k->swiglu(b->y, b->x, ROWS, COLS);
}
static void b_snake(void *arg)
{
    const other_bench *b = arg;
    b->k->snake(b->y, b->x, b->v, b->v, ROWS, COLS);
}
static void b_dwconv(void *arg)
{
    const other_bench *b = arg;
    b->k->dwconv(b->y, b->x, b->v, b->v, ROWS, COLS, 7);
}
static void b_rotate(void *arg)
{
    const other_bench *b = arg;
    for (int i = 0; i < ROWS * COLS / 128; i++)
        b->k->rotate_head(b->y + i * 128, b->x + i * 128, b->v, 1e-6f, b->v, 128);
}
static void b_to_bf16(void *arg)
{
    const other_bench *b = arg;
    b->k->to_bf16(b->h, b->x, ROWS * COLS);
}
static void b_exp_sum(void *arg)
{
    const other_bench *b = arg;
    b->k->exp_sum(b->y, b->x, 1.0f, 1.0f, ROWS * COLS);
}
/* A chunk of a prefill: caches laid out as a model's with 8 kv heads, far apart in memory. */
static void attend(const other_bench *b, bool bf16, int32_t rows)
{
    const ut_attention_job j = {.q = b->x,
                                .y = b->y,
                                .row_stride = 256,
                                .n_rows = rows,
                                .pos = POSITIONS - rows,
                                .reach = POSITIONS,
                                .k = b->cache,
                                .v = b->cache,
                                .kv_stride = 1024,
                                .bf16 = bf16,
                                .capacity = POSITIONS,
                                .dim = 128,
                                .n_rep = 2,
                                .scale = 0.1f,
                                .scores = b->logits,
                                .block = b->v};
    b->k->attention(&j);
}
static void b_attention_f32(void *arg)
{
    attend(arg, false, 1);
}
static void b_attention_bf16(void *arg)
{
    attend(arg, true, 1);
}
static void b_attention_rows(void *arg)
{
    attend(arg, true, 16);
}

static void sample(const other_bench *b, int32_t n)
{
    const ut_sample_job j = {.logits = b->logits,
                             .n = n,
                             .temperature = 0.8f,
                             .top_p = 0.9f,
                             .penalty = 1.1f,
                             .scratch = b->logits + VOCABULARY};
    ut_sample(b->k, &j);
}
static void b_sample_1024(void *arg)
{
    sample(arg, 1024);
}
static void b_sample_vocabulary(void *arg)
{
    sample(arg, VOCABULARY);
}

void bench_other_kernels(void)
{
    const double elements = (double)ROWS * COLS, scores = 2.0 * POSITIONS;
    const struct {
        const char *name;
        void (*fn)(void *);
        double per;
    } cases[] = {
        {"rms_norm, element", b_rms_norm, elements},
        {"layer_norm, element", b_layer_norm, elements},
        {"swiglu, element", b_swiglu, elements},
        {"snake, element", b_snake, elements},
        {"dwconv 7 taps, element", b_dwconv, elements},
        {"rotate_head 128, element", b_rotate, elements},
        {"to_bf16, element", b_to_bf16, elements},
        {"exp_sum, element", b_exp_sum, elements},
        {"attention f32 128, key and head", b_attention_f32, scores},
        {"attention bf16 128, key and head", b_attention_bf16, scores},
        {"attention of 16 rows, key and head", b_attention_rows, 16 * scores},
        {"sample 1024, entry", b_sample_1024, 1024},
        {"sample 155776, entry", b_sample_vocabulary, VOCABULARY},
    };
    ut_kernels k[N_VARIANTS];
    const int n_k = variants(k);
    other_bench b = {.x = ut_alloc_aligned(sizeof(float) * 2 * ROWS * (COLS + 8)),
                     .y = ut_alloc_aligned(sizeof(float) * 2 * ROWS * COLS),
                     .v = ut_alloc_aligned(sizeof(float) * UT_ATTENTION_BLOCK * 128),
                     .logits = ut_alloc_aligned(sizeof(float) * 5 * VOCABULARY),
                     .cache = ut_alloc_aligned(sizeof(float) * POSITIONS * 1024),
                     .h = ut_alloc_aligned(sizeof(uint16_t) * ROWS * COLS)};
    assert_true(b.x && b.y && b.v && b.logits && b.cache && b.h);
    for (int32_t i = 0; i < VOCABULARY; i++) /* the shape of a language model's: few that matter */
        b.logits[i] = random_float(-4.0f, 4.0f) + random_float(-4.0f, 4.0f) + (i % 1000 ? 0 : 12);
    random_fill(b.x, 2 * ROWS * COLS, 1.0f);
    random_fill(b.v, 8 * COLS, 1.0f);
    printf("others: nanoseconds per unit\n");
    for (size_t c = 0; c < sizeof cases / sizeof cases[0]; c++) {
        printf("%-34s", cases[c].name);
        for (int v = 0; v < n_k; v++) {
            b.k = &k[v];
            printf("  %s %7.3f", k[v].name, 1e9 * best_time(cases[c].fn, &b) / cases[c].per);
        }
        printf("\n");
    }
    ut_free_aligned(b.x);
    ut_free_aligned(b.y);
    ut_free_aligned(b.v);
    ut_free_aligned(b.logits);
    ut_free_aligned(b.cache);
    ut_free_aligned(b.h);
}
