/* test_kernels_attention.c - attention against a double reference: windows, ring positions, odd
 * head sizes, grouped heads, f32 and bf16 caches; a row alone and the ring's size change no bit. */
#include "kernel_check.h"
#include "base/alloc.h"
#include "base/half.h"
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <cmocka.h>

typedef struct caches {
    int32_t capacity, stride;
    guarded k32, v32; /* exact values of what is stored */
    uint16_t *k16, *v16;
} caches;

static caches caches_new(int32_t capacity, int32_t stride)
{
    caches c = {.capacity = capacity, .stride = stride};
    const size_t n = (size_t)capacity * (size_t)stride;
    c.k32 = guarded_new(n, 1);
    c.v32 = guarded_new(n, 2);
    c.k16 = ut_malloc(n * 2);
    c.v16 = ut_malloc(n * 2);
    assert_true(c.k16 && c.v16);
    for (size_t i = 0; i < n; i++) {
        c.k16[i] = ut_f32_to_bf16(random_float(-2.0f, 2.0f));
        c.v16[i] = ut_f32_to_bf16(random_float(-2.0f, 2.0f));
        c.k32.data[i] = ut_bf16_to_f32(c.k16[i]);
        c.v32.data[i] = ut_bf16_to_f32(c.v16[i]);
    }
    return c;
}

static void caches_free(caches *c)
{
    guarded_free(&c->k32);
    guarded_free(&c->v32);
    ut_free(c->k16);
    ut_free(c->v16);
}

static const float *at_position(const guarded *g, const caches *c, int32_t pos)
{
    return g->data + (int64_t)(pos % c->capacity) * c->stride;
}

/* One head of the row at position pos. */
static void check_head(const ut_attention_job *j, const caches *c, int32_t pos, const float *q,
                       const float *y)
{
    const int32_t first = pos - j->reach + 1 > 0 ? pos - j->reach + 1 : 0, n = pos - first + 1;
    double *s = ut_malloc((size_t)n * sizeof *s), max = -1e300, size = 0, total = 0;
    assert_non_null(s);
    for (int32_t i = 0; i < n; i++) {
        const float *k = at_position(&c->k32, c, first + i);
        double dot = 0, abs_dot = 0;
        for (int32_t d = 0; d < j->dim; d++) {
            dot += (double)q[d] * (double)k[d];
            abs_dot += fabs((double)q[d] * (double)k[d]);
        }
        s[i] = dot * (double)j->scale;
        max = fmax(max, s[i]);
        size = fmax(size, abs_dot * (double)j->scale);
    }
    for (int32_t i = 0; i < n; i++)
        total += s[i] = exp(s[i] - max);
    /* A score is off by delta, so a weight by a factor within e^(2 delta) of one. */
    const double delta = (j->dim + 4) * EPS * size;
    for (int32_t d = 0; d < j->dim; d++) {
        double want = 0, abs_sum = 0;
        for (int32_t i = 0; i < n; i++) {
            const double t = s[i] / total * (double)at_position(&c->v32, c, first + i)[d];
            want += t;
            abs_sum += fabs(t);
        }
        check_near((double)y[d], want, (2.5 * delta + (2 * n + 16) * EPS) * abs_sum, "attention",
                   d);
    }
    ut_free(s);
}

static void test_attention(void **state)
{
    static const int32_t dims[] = {1, 2, 8, 15, 16, 17, 32, 63, 64, 80, 128, 130, 256};
    static const int32_t reaches[] = {1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 63, 64, 65, 130, 200};
    ut_kernels k[N_VARIANTS];
    const int n_k = variants(k);
    (void)state;
    for (int round = 0; round < 80; round++) {
        const int32_t dim = dims[random_int(0, 12)], reach = reaches[random_int(0, 15)];
        const int32_t rep = random_int(1, 7), rows = random_int(1, 20);
        const int32_t capacity = reach + rows - 1 + random_int(0, 3);
        const int32_t pos = random_int(0, 3 * reach), row_stride = rep * dim + random_int(0, 9);
        caches c = caches_new(capacity, dim + random_int(0, 20));
        const size_t size = (size_t)(rows * row_stride);
        guarded q = guarded_new(size, 1), y = guarded_new(size, 3), first = guarded_new(size, 0);
        guarded scores = guarded_new(ut_attention_scores(rows, rep, reach), 0);
        guarded block = guarded_new((size_t)(UT_ATTENTION_BLOCK * dim), 0);
        random_fill(q.data, q.n, 2.0f);
        ut_attention_job j = {.q = q.data,
                              .y = y.data,
                              .row_stride = row_stride,
                              .n_rows = rows,
                              .pos = pos,
                              .reach = reach,
                              .kv_stride = c.stride,
                              .capacity = capacity,
                              .dim = dim,
                              .n_rep = rep,
                              .scale = 1.0f / sqrtf((float)dim),
                              .scores = scores.data,
                              .block = block.data};
        for (int v = 0; v < n_k; v++) {
            j.bf16 = false;
            j.k = c.k32.data;
            j.v = c.v32.data;
            k[v].attention(&j);
            guarded_check(&y);
            guarded_check(&scores);
            for (int32_t r = 0; r < rows; r++)
                for (int32_t h = 0; h < rep; h++)
                    check_head(&j, &c, pos + r, q.data + r * row_stride + h * dim,
                               y.data + r * row_stride + h * dim);
            memcpy(first.data, y.data, size * sizeof(float));
            j.bf16 = true;
            j.k = c.k16;
            j.v = c.v16;
            k[v].attention(&j);
            ut_attention_job one = j; /* rows and heads alone */
            one.n_rows = one.n_rep = 1;
            for (int32_t r = 0; r < rows; r++)
                for (int32_t h = 0; h < rep; h++) {
                    const int32_t at = r * row_stride + h * dim;
                    check_bits(first.data + at, y.data + at, (size_t)dim, "f32 and bf16 caches");
                    one.q = q.data + at;
                    one.y = y.data + at;
                    one.pos = pos + r;
                    k[v].attention(&one);
                    check_bits(first.data + at, y.data + at, (size_t)dim, "a row and head alone");
                }
        }
        guarded *all[] = {&q, &y, &first, &scores, &block};
        for (int g = 0; g < 5; g++)
            guarded_free(all[g]);
        caches_free(&c);
    }
}

/* The same positions in a ring of another size. */
static void test_rotation(void **state)
{
    enum { N = 37, POS = 100, DIM = 64 };
    ut_kernels k[N_VARIANTS];
    const int n_k = variants(k);
    (void)state;
    caches a = caches_new(50, DIM), b = caches_new(41, DIM);
    for (int32_t p = POS - N + 1; p <= POS; p++) {
        memcpy(b.k32.data + p % 41 * DIM, a.k32.data + p % 50 * DIM, DIM * sizeof(float));
        memcpy(b.v32.data + p % 41 * DIM, a.v32.data + p % 50 * DIM, DIM * sizeof(float));
    }
    float q[2 * DIM], y[2][2 * DIM];
    guarded scores = guarded_new(ut_attention_scores(1, 2, N), 0);
    random_fill(q, 2 * DIM, 1.0f);
    for (int v = 0; v < n_k; v++) {
        for (int i = 0; i < 2; i++) {
            const ut_attention_job j = {.q = q,
                                        .y = y[i],
                                        .row_stride = 2 * DIM,
                                        .n_rows = 1,
                                        .pos = POS,
                                        .reach = N,
                                        .k = i ? b.k32.data : a.k32.data,
                                        .v = i ? b.v32.data : a.v32.data,
                                        .kv_stride = DIM,
                                        .capacity = i ? 41 : 50,
                                        .dim = DIM,
                                        .n_rep = 2,
                                        .scale = 0.125f,
                                        .scores = scores.data};
            k[v].attention(&j);
        }
        check_bits(y[0], y[1], 2 * DIM, "rotation");
    }
    guarded_free(&scores);
    caches_free(&a);
    caches_free(&b);
}

int run_attention_tests(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_attention),
        cmocka_unit_test(test_rotation),
    };
    return cmocka_run_group_tests_name("attention", tests, NULL, NULL);
}
