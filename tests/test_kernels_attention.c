/* test_kernels_attention.c - attention of one position against a double reference: ring positions,
 * odd head sizes, grouped heads, f32 and bf16 caches; the ring's rotation changes no bit. */
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

static const float *row(const guarded *g, const caches *c, const ut_attention_job *j, int32_t i)
{
    return g->data + (int64_t)((j->first + i) % c->capacity) * c->stride;
}

static void check_head(const ut_attention_job *j, const caches *c, const float *q, const float *y)
{
    double *s = ut_malloc((size_t)j->n * sizeof *s), max = -1e300, size = 0, total = 0;
    assert_non_null(s);
    for (int32_t i = 0; i < j->n; i++) {
        const float *k = row(&c->k32, c, j, i);
        double dot = 0, abs_dot = 0;
        for (int32_t d = 0; d < j->dim; d++) {
            dot += (double)q[d] * (double)k[d];
            abs_dot += fabs((double)q[d] * (double)k[d]);
        }
        s[i] = dot * (double)j->scale;
        max = fmax(max, s[i]);
        size = fmax(size, abs_dot * (double)j->scale);
    }
    for (int32_t i = 0; i < j->n; i++)
        total += s[i] = exp(s[i] - max);
    /* A score is off by delta, so a weight by a factor within e^(2 delta) of one. */
    const double delta = (j->dim + 4) * EPS * size;
    for (int32_t d = 0; d < j->dim; d++) {
        double want = 0, abs_sum = 0;
        for (int32_t i = 0; i < j->n; i++) {
            const double t = s[i] / total * (double)row(&c->v32, c, j, i)[d];
            want += t;
            abs_sum += fabs(t);
        }
        check_near((double)y[d], want, (2.5 * delta + (2 * j->n + 16) * EPS) * abs_sum, "attention",
                   d);
    }
    ut_free(s);
}

static void test_attention(void **state)
{
    static const int32_t dims[] = {1, 2, 8, 15, 16, 17, 32, 63, 64, 80, 128, 130, 256};
    static const int32_t counts[] = {1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 63, 64, 65, 200};
    ut_kernels k[N_VARIANTS];
    const int n_k = variants(k);
    (void)state;
    for (int round = 0; round < 80; round++) {
        const int32_t dim = dims[random_int(0, 12)], n = counts[random_int(0, 14)];
        const int32_t rep = random_int(1, 7), capacity = n + random_int(0, 3);
        caches c = caches_new(capacity, dim + random_int(0, 20));
        guarded q = guarded_new((size_t)rep * (size_t)dim, 1), y = guarded_new(q.n, 3);
        guarded scores = guarded_new(4 * ((size_t)n + 64), 0);
        random_fill(q.data, q.n, 2.0f);
        ut_attention_job j = {.q = q.data,
                              .y = y.data,
                              .stride = c.stride,
                              .capacity = capacity,
                              .first = random_int(0, capacity - 1),
                              .n = n,
                              .dim = dim,
                              .n_rep = rep,
                              .scale = 1.0f / sqrtf((float)dim),
                              .scores = scores.data};
        for (int v = 0; v < n_k; v++) {
            guarded first = guarded_new(q.n, 0);
            j.bf16 = false;
            j.k = c.k32.data;
            j.v = c.v32.data;
            k[v].attention(&j);
            guarded_check(&y);
            guarded_check(&scores);
            for (int32_t h = 0; h < rep; h++)
                check_head(&j, &c, q.data + h * dim, y.data + h * dim);
            memcpy(first.data, y.data, y.n * sizeof(float));
            j.bf16 = true;
            j.k = c.k16;
            j.v = c.v16;
            k[v].attention(&j);
            check_bits(first.data, y.data, y.n, "f32 and bf16 caches of the same values");
            ut_attention_job one = j; /* heads alone */
            one.n_rep = 1;
            for (int32_t h = 0; h < rep; h++) {
                one.q = q.data + h * dim;
                one.y = y.data + h * dim;
                k[v].attention(&one);
            }
            check_bits(first.data, y.data, y.n, "heads alone");
            guarded_free(&first);
        }
        guarded_free(&q);
        guarded_free(&y);
        guarded_free(&scores);
        caches_free(&c);
    }
}

/* The same positions at another rotation of the ring. */
static void test_rotation(void **state)
{
    enum { N = 37, CAPACITY = 50, DIM = 64 };
    ut_kernels k[N_VARIANTS];
    const int n_k = variants(k);
    (void)state;
    caches a = caches_new(CAPACITY, DIM), b = caches_new(CAPACITY, DIM);
    for (int32_t i = 0; i < N; i++) {
        memcpy(b.k32.data + (i + 30) % CAPACITY * DIM, a.k32.data + i * DIM, DIM * sizeof(float));
        memcpy(b.v32.data + (i + 30) % CAPACITY * DIM, a.v32.data + i * DIM, DIM * sizeof(float));
    }
    float q[2 * DIM], y[2][2 * DIM], scores[4 * (N + 64)];
    random_fill(q, 2 * DIM, 1.0f);
    for (int v = 0; v < n_k; v++) {
        ut_attention_job j = {.q = q,
                              .y = y[0],
                              .k = a.k32.data,
                              .v = a.v32.data,
                              .stride = DIM,
                              .capacity = CAPACITY,
                              .first = 0,
                              .n = N,
                              .dim = DIM,
                              .n_rep = 2,
                              .scale = 0.125f,
                              .scores = scores};
        k[v].attention(&j);
        j.k = b.k32.data;
        j.v = b.v32.data;
        j.first = 30;
        j.y = y[1];
        k[v].attention(&j);
        check_bits(y[0], y[1], 2 * DIM, "rotation");
    }
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
