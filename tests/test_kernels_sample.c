/* test_kernels_sample.c - the sampler against its definition with a full sort, its noise against
 * Philox, its frequencies against the probabilities, and numbers worked out by hand. */
#include "kernel_check.h"
#include "backends/cpu/sample.h"
#include "base/alloc.h"
#include "base/philox.h"
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

static const float *sort_key;

static int by_logit(const void *a, const void *b)
{
    const int32_t i = *(const int32_t *)a, j = *(const int32_t *)b;
    if (sort_key[i] != sort_key[j])
        return sort_key[i] > sort_key[j] ? -1 : 1;
    return i < j ? -1 : i > j;
}

/* The definition, word for word, with the variant's own exponentials, and products with 1 / penalty
 * and 1 / temperature. */
static int32_t full_sort(const ut_kernels *k, const ut_sample_job *j, const float *noise, float *p)
{
    const size_t n = (size_t)j->n;
    float *logits = ut_malloc(3 * n * sizeof *logits), *e = logits + n, *kept = e + n;
    int32_t *order = ut_malloc(n * sizeof *order), count = 1, best = 0;
    assert_true(logits && order);
    memcpy(logits, j->logits, n * sizeof *logits);
    for (int32_t i = 0; i < j->n; i++)
        for (int32_t q = 0; q < j->n_penalised; q++)
            if (j->penalised[q] == i) {
                logits[i] =
                    logits[i] < 0 ? logits[i] * j->penalty : logits[i] * (1.0f / j->penalty);
                break;
            }
    for (int32_t i = 0; i < j->n; i++)
        order[i] = i;
    sort_key = logits;
    qsort(order, n, sizeof *order, by_logit);
    memset(p, 0, n * sizeof *p);
    if (j->temperature == 0) {
        best = order[0];
        p[best] = 1;
        goto done;
    }
    const float total = k->exp_sum(e, logits, logits[order[0]], 1.0f, j->n);
    float cumulative = e[order[0]] / total;
    while (count < j->n &&
           (!((cumulative += e[order[count]] / total) > j->top_p) || j->top_p >= 1.0f))
        count++;
    for (int32_t i = 0; i < count; i++) /* worst first, as the sampler sums them */
        kept[i] = logits[order[count - 1 - i]] * (1.0f / j->temperature);
    const float sum = k->exp_sum(kept, kept, kept[count - 1], 1.0f, count);
    for (int32_t i = 0; i < count; i++)
        p[order[i]] = kept[count - 1 - i] / sum;
    float ratio = -1;
    for (int32_t i = 0; i < j->n; i++)
        if (p[i] / noise[i] > ratio) {
            ratio = p[i] / noise[i];
            best = i;
        }
done:
    ut_free(logits);
    ut_free(order);
    return best;
}

static void test_full_sort(void **state)
{
    static const int32_t sizes[] = {1, 2, 5, 17, 100, 1024, 1025, 4097};
    static const float top_ps[] = {0.0f, 1e-6f, 0.3f, 0.8f, 0.95f, 0.999f, 1.0f, 2.0f};
    ut_kernels k[N_VARIANTS];
    const int n_k = variants(k);
    (void)state;
    for (int round = 0; round < 200; round++) {
        const int32_t n = sizes[random_int(0, 7)];
        guarded logits = guarded_new((size_t)n, 1), noise = guarded_new((size_t)n, 2);
        guarded probs = guarded_new((size_t)n, 3), want = guarded_new((size_t)n, 0);
        guarded scratch = guarded_new(ut_sample_scratch_floats(n), 0);
        const float spread = random_float(0.1f, 20.0f);
        for (int32_t i = 0; i < n; i++) {
            logits.data[i] = random_float(-spread, spread);
            if (round % 3 == 0) /* many ties */
                logits.data[i] = rintf(logits.data[i]);
            noise.data[i] = -logf(random_float(1e-7f, 1.0f));
        }
        ut_sample_job j = {.logits = logits.data,
                           .noise = noise.data,
                           .probs = probs.data,
                           .n = n,
                           .temperature = round % 7 == 0 ? 0.0f : random_float(0.05f, 2.0f),
                           .top_p = top_ps[random_int(0, 7)],
                           .penalty = random_float(1.0f, 2.0f),
                           .n_penalised = random_int(0, 20),
                           .scratch = scratch.data};
        for (int32_t i = 0; i < j.n_penalised; i++)
            j.penalised[i] = random_int(0, n - 1);
        for (int v = 0; v < n_k; v++) {
            const int32_t expected = full_sort(&k[v], &j, noise.data, want.data);
            assert_int_equal(ut_sample(&k[v], &j), expected);
            check_bits(probs.data, want.data, (size_t)n, "probabilities");
        }
        guarded *all[] = {&logits, &noise, &probs, &want, &scratch};
        for (int g = 0; g < 5; g++)
            guarded_free(all[g]);
    }
}

/* Temperature, then top-k, then top-p, word for word; probabilities to rounding. */
static void tempered(const ut_sample_job *j, double *p)
{
    const int32_t n = j->n;
    double *l = ut_malloc((size_t)n * sizeof *l), total = 0, before = 0;
    float *key = ut_malloc((size_t)n * sizeof *key);
    int32_t *order = ut_malloc((size_t)n * sizeof *order), count = n;
    assert_true(l && key && order);
    for (int32_t i = 0; i < n; i++) {
        float x = j->logits[i];
        if (j->chosen_before && j->chosen_before[i])
            x = x > 0 ? x / j->penalty : x * j->penalty;
        key[i] = j->without_last && i == n - 1 ? -INFINITY : x / j->temperature;
        order[i] = i;
        p[i] = 0;
    }
    sort_key = key;
    qsort(order, (size_t)n, sizeof *order, by_logit);
    if (j->top_k > 0 && j->top_k < n)
        for (count = j->top_k; count < n && key[order[count]] == key[order[j->top_k - 1]];)
            count++;
    while (count > 0 && key[order[count - 1]] == -INFINITY)
        count--;
    for (int32_t i = 0; i < count; i++)
        total += l[i] = exp((double)key[order[i]] - (double)key[order[0]]);
    int32_t kept = 0;
    double mass = 0;
    while (kept < count && (kept == 0 || j->top_p >= 1 || before < (double)j->top_p * total)) {
        before += l[kept];
        mass += l[kept++];
    }
    for (int32_t i = 0; i < kept; i++)
        p[order[i]] = l[i] / mass;
    ut_free(l);
    ut_free(key);
    ut_free(order);
}

static void test_tempered(void **state)
{
    static const int32_t sizes[] = {1, 2, 5, 17, 100, 1025, 2049};
    static const float top_ps[] = {0.3f, 0.8f, 0.95f, 1.0f};
    ut_kernels k[N_VARIANTS];
    const int n_k = variants(k);
    (void)state;
    for (int round = 0; round < 100; round++) {
        const int32_t n = sizes[random_int(0, 6)];
        guarded logits = guarded_new((size_t)n, 1), noise = guarded_new((size_t)n, 2);
        guarded probs = guarded_new((size_t)n, 3);
        guarded scratch = guarded_new(ut_sample_scratch_floats(n), 0);
        int32_t *before = ut_calloc((size_t)n, sizeof *before);
        double *want = ut_malloc((size_t)n * sizeof *want);
        for (int32_t i = 0; i < n; i++) {
            logits.data[i] = random_float(-6.0f, 6.0f);
            if (round % 3 == 0) /* many ties */
                logits.data[i] = rintf(logits.data[i]);
            noise.data[i] = -logf(random_float(1e-7f, 1.0f));
            before[i] = random_int(0, 3) == 0;
        }
        ut_sample_job j = {.logits = logits.data,
                           .noise = noise.data,
                           .probs = probs.data,
                           .n = n,
                           .temperature = random_float(0.3f, 1.5f),
                           .top_p = top_ps[random_int(0, 3)],
                           .top_k = random_int(0, 3) == 0 ? 0 : random_int(1, 60),
                           .narrowing = UT_TEMPER_FIRST,
                           .penalty = random_float(1.0f, 1.5f),
                           .chosen_before = round % 2 ? before : NULL,
                           .without_last = n > 1 && round % 4 == 0,
                           .scratch = scratch.data};
        tempered(&j, want);
        for (int v = 0; v < n_k; v++) {
            const int32_t choice = ut_sample(&k[v], &j);
            assert_true(choice >= 0 && choice < n && probs.data[choice] > 0);
            for (int32_t i = 0; i < n; i++)
                check_near((double)probs.data[i], want[i], 1e-5, "tempered", i);
        }
        j.temperature = 0;
        const int32_t best = ut_sample(&k[0], &j);
        assert_true(probs.data[best] == 1.0f && !(j.without_last && best == n - 1));
        guarded *all[] = {&logits, &noise, &probs, &scratch};
        for (int g = 0; g < 4; g++)
            guarded_free(all[g]);
        ut_free(before);
        ut_free(want);
    }
}

/* A whole vocabulary, all entries nearly equal: the worst case of the heap. */
static void test_large_vocabulary(void **state)
{
    enum { N = 155776 };
    ut_kernels k[N_VARIANTS];
    const int n_k = variants(k);
    float *block = ut_malloc(sizeof(float) * (8 * N));
    (void)state;
    assert_non_null(block);
    random_fill(block, N, 1.0f);
    for (int32_t i = 0; i < N; i++)
        block[N + i] = -logf(random_float(1e-7f, 1.0f));
    ut_sample_job j = {.logits = block,
                       .noise = block + N,
                       .probs = block + 2 * N,
                       .n = N,
                       .temperature = 0.7f,
                       .top_p = 1.0f,
                       .penalty = 1.0f,
                       .scratch = block + 4 * N};
    for (int v = 0; v < n_k; v++) {
        for (int t = 0; t < 2; t++) {
            j.top_p = t ? 0.8f : 1.0f;
            assert_int_equal(ut_sample(&k[v], &j), full_sort(&k[v], &j, block + N, block + 3 * N));
            check_bits(block + 2 * N, block + 3 * N, N, "probabilities");
        }
    }
    ut_free(block);
}

static void test_philox_noise(void **state)
{
    enum { N = 50 };
    ut_kernels k;
    ut_kernels_init(&k, 0);
    float logits[N], noise[N], scratch[4 * N];
    (void)state;
    for (uint32_t frame = 0; frame < 40; frame++) {
        random_fill(logits, N, 1.0f);
        for (uint32_t i = 0; i < N; i++) {
            const uint32_t counter[4] = {i / 4, frame, 7, 0}, key[2] = {123, 456};
            uint32_t out[4];
            ut_philox4x32(out, counter, key);
            noise[i] = -logf(ut_philox_uniform(out[i % 4]));
        }
        ut_sample_job j = {.logits = logits,
                           .n = N,
                           .temperature = 1.0f,
                           .top_p = 1.0f,
                           .penalty = 1.0f,
                           .seed = {123, 456},
                           .frame = frame,
                           .decision = 7,
                           .scratch = scratch};
        const int32_t chosen = ut_sample(&k, &j);
        j.noise = noise;
        assert_int_equal(chosen, ut_sample(&k, &j));
    }
}

/* Choices follow the probabilities: chi-square of 20000 draws from 6 entries, 5 degrees of
 * freedom; 25.7 is exceeded once in 10^4. The draws are always the same. */
static void test_frequencies(void **state)
{
    enum { DRAWS = 20000 };
    const float logits[6] = {0.0f, 1.0f, -1.0f, 0.5f, 2.0f, -0.3f};
    float probs[6], scratch[24];
    int count[6] = {0};
    ut_kernels k;
    ut_kernels_init(&k, 0);
    (void)state;
    for (uint32_t i = 0; i < DRAWS; i++) {
        const ut_sample_job j = {.logits = logits,
                                 .probs = probs,
                                 .n = 6,
                                 .temperature = 0.9f,
                                 .top_p = 1.5f,
                                 .penalty = 1.0f,
                                 .seed = {1, 2},
                                 .frame = i,
                                 .scratch = scratch};
        count[ut_sample(&k, &j)]++;
    }
    double chi = 0;
    for (int i = 0; i < 6; i++) {
        const double want = DRAWS * (double)probs[i];
        chi += (count[i] - want) * (count[i] - want) / want;
    }
    assert_true(chi < 25.7);
}

/* Worked out by hand. softmax of (ln 4, ln 3, ln 2, ln 1) is (.4, .3, .2, .1); top_p .65 drops the
 * second, whose cumulative .7 exceeds it; penalty 2 on entry 0 halves its positive logit to ln 2;
 * temperature .5 squares: of .3 and .2 after the penalty (4/8, ...). */
static void test_by_hand(void **state)
{
    ut_kernels k;
    ut_kernels_init(&k, 0);
    (void)state;
    float p[4], scratch[16];
    const float logits[4] = {logf(4), logf(3), logf(2), 0.0f}, noise[4] = {1, 1, 1, 1};
    ut_sample_job j = {.logits = logits,
                       .noise = noise,
                       .probs = p,
                       .n = 4,
                       .temperature = 1.0f,
                       .top_p = 0.65f,
                       .penalty = 2.0f,
                       .scratch = scratch};
    assert_int_equal(ut_sample(&k, &j), 0);
    assert_true(p[0] == 1.0f && p[1] == 0.0f && p[2] == 0.0f && p[3] == 0.0f);
    j.top_p = 0.75f;
    ut_sample(&k, &j);
    check_near((double)p[0], 4.0 / 7, 1e-6, "p", 0);
    check_near((double)p[1], 3.0 / 7, 1e-6, "p", 1);
    j.n_penalised = 2; /* the same entry twice counts once: 2, 3, 2, 1 of 8 remain */
    j.penalised[0] = j.penalised[1] = 0;
    j.temperature = 0.5f;
    j.top_p = 0.9f; /* 3/8, then entry 0 before entry 2 by index, then 2: 7/8; entry 3 exceeds */
    assert_int_equal(ut_sample(&k, &j), 1);
    check_near((double)p[0], 4.0 / 17, 1e-6, "p", 0);
    check_near((double)p[1], 9.0 / 17, 1e-6, "p", 1);
    check_near((double)p[2], 4.0 / 17, 1e-6, "p", 2);
    assert_true(p[3] == 0.0f);
    const float noise2[4] = {0.25f, 1, 1, 1}; /* 16/17 against 9/17 */
    j.noise = noise2;
    assert_int_equal(ut_sample(&k, &j), 0);
    j.temperature = 0; /* greedy looks at penalised logits, not at noise */
    assert_int_equal(ut_sample(&k, &j), 1);
    const float negative[4] = {-1.0f, -1.5f, -3.0f, -4.0f}; /* penalty 2 makes -1 a -2 */
    j.logits = negative;
    assert_int_equal(ut_sample(&k, &j), 1);
}

static void test_nan_is_harmless(void **state)
{
    ut_kernels k[N_VARIANTS];
    const int n_k = variants(k);
    (void)state;
    float logits[40], scratch[160];
    for (int kind = 0; kind < 3; kind++) {
        for (int i = 0; i < 40; i++)
            logits[i] = kind == 0 || (kind == 1 && i % 3) ? NAN : kind == 2 ? INFINITY : (float)i;
        for (int v = 0; v < n_k; v++) {
            const ut_sample_job j = {.logits = logits,
                                     .n = 40,
                                     .temperature = 0.8f,
                                     .top_p = 0.9f,
                                     .penalty = 1.0f,
                                     .scratch = scratch};
            const int32_t chosen = ut_sample(&k[v], &j);
            assert_true(chosen >= 0 && chosen < 40);
        }
    }
}

int run_sample_tests(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_full_sort),       cmocka_unit_test(test_large_vocabulary),
        cmocka_unit_test(test_tempered),        cmocka_unit_test(test_philox_noise),
        cmocka_unit_test(test_frequencies),     cmocka_unit_test(test_by_hand),
        cmocka_unit_test(test_nan_is_harmless),
    };
    return cmocka_run_group_tests_name("sample", tests, NULL, NULL);
}
