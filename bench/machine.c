/* machine.c - see machine.h. */
#include "machine.h"
#include "backends/cpu/pool.h"
#include "base/alloc.h"
#include "base/cpu.h"
#include "base/os.h"
#include <stdint.h>
#include <string.h>
#if UT_ARCH_X86
#include <immintrin.h>
#endif

/* ---- Memory --------------------------------------------------------------------------------- */

typedef struct reading {
    const uint64_t *data;
    size_t n; /* words, a multiple of CHUNK */
    uint64_t sums[64];
} reading;

enum { CHUNK = 1 << 17 }; /* words: 1 MiB */

#if UT_ARCH_X86
__attribute__((target("avx512f"))) static void read_avx512(void *arg, int32_t item, int member)
{
    reading *r = arg;
    const uint64_t *p = r->data + (size_t)item * CHUNK;
    __m512i s[4] = {_mm512_setzero_si512()};
    s[1] = s[2] = s[3] = s[0];
    for (size_t i = 0; i < CHUNK; i += 32)
        for (size_t j = 0; j < 4; j++)
            s[j] = _mm512_add_epi64(s[j], _mm512_loadu_si512(p + i + 8 * j));
    s[0] = _mm512_add_epi64(_mm512_add_epi64(s[0], s[1]), _mm512_add_epi64(s[2], s[3]));
    r->sums[member % 64] += (uint64_t)_mm512_reduce_add_epi64(s[0]);
}
#endif

static void read_plain(void *arg, int32_t item, int member)
{
    reading *r = arg;
    const uint64_t *p = r->data + (size_t)item * CHUNK;
    uint64_t s[8] = {0};
    for (size_t i = 0; i < CHUNK; i += 8)
        for (size_t j = 0; j < 8; j++)
            s[j] += p[i + j];
    for (size_t j = 1; j < 8; j++)
        s[0] += s[j];
    r->sums[member % 64] += s[0];
}

double machine_read_bandwidth(int threads, size_t bytes)
{
    ut_err err = {0};
    ut_pool *pool;
    ut_pool_fn *fn = read_plain;
#if UT_ARCH_X86
    if (ut_cpu_flags() & UT_CPU_AVX512)
        fn = read_avx512;
#endif
    if (ut_pool_new(&pool, threads, &err) != UTTER_OK)
        return 0;
    const size_t chunks = bytes / (CHUNK * 8);
    uint64_t *data = ut_malloc(chunks * CHUNK * 8);
    double best = 0;
    if (data) {
        memset(data, 1, chunks * CHUNK * 8);
        reading r = {.data = data, .n = chunks * CHUNK};
        for (int pass = 0; pass < 5; pass++) {
            const double start = ut_time_now();
            ut_pool_run(pool, fn, &r, (int32_t)chunks, true);
            const double speed = (double)(chunks * CHUNK * 8) / (ut_time_now() - start);
            best = speed > best ? speed : best;
        }
        volatile uint64_t seen = r.sums[0];
        (void)seen;
    }
    ut_free(data);
    ut_pool_free(pool);
    return best;
}

/* ---- Multiply-adds -------------------------------------------------------------------------- */

enum { ROUNDS = 2000000, CHAINS = 12 };

#if UT_ARCH_X86
__attribute__((target("avx512f"))) static void fma_avx512(void *arg, int32_t item, int member)
{
    (void)item;
    (void)member;
    __m512 a[CHAINS], x = _mm512_set1_ps(1.0f + 1e-7f), y = _mm512_set1_ps(1e-9f);
    for (int i = 0; i < CHAINS; i++)
        a[i] = _mm512_set1_ps((float)i);
    for (int r = 0; r < ROUNDS; r++) {
#pragma GCC unroll 12
        for (int i = 0; i < CHAINS; i++)
            a[i] = _mm512_fmadd_ps(a[i], x, y);
    }
    for (int i = 1; i < CHAINS; i++)
        a[0] = _mm512_add_ps(a[0], a[i]);
    *(volatile float *)arg = _mm512_reduce_add_ps(a[0]);
}

__attribute__((target("avx2,fma"))) static void fma_avx2(void *arg, int32_t item, int member)
{
    (void)item;
    (void)member;
    __m256 a[CHAINS], x = _mm256_set1_ps(1.0f + 1e-7f), y = _mm256_set1_ps(1e-9f);
    for (int i = 0; i < CHAINS; i++)
        a[i] = _mm256_set1_ps((float)i);
    for (int r = 0; r < ROUNDS; r++) {
#pragma GCC unroll 12
        for (int i = 0; i < CHAINS; i++)
            a[i] = _mm256_fmadd_ps(a[i], x, y);
    }
    for (int i = 1; i < CHAINS; i++)
        a[0] = _mm256_add_ps(a[0], a[i]);
    *(volatile float *)arg = _mm256_cvtss_f32(a[0]);
}
#endif

double machine_fma_peak(int threads)
{
    ut_pool_fn *fn = NULL;
    double lanes = 0;
#if UT_ARCH_X86
    if (ut_cpu_flags() & UT_CPU_AVX512) {
        fn = fma_avx512;
        lanes = 16;
    } else if (ut_cpu_flags() & UT_CPU_AVX2) {
        fn = fma_avx2;
        lanes = 8;
    }
#endif
    ut_err err = {0};
    ut_pool *pool;
    if (!fn || ut_pool_new(&pool, threads, &err) != UTTER_OK)
        return 0;
    double best = 0;
    float sink = 0;
    const int items = 4 * threads;
    for (int pass = 0; pass < 5; pass++) {
        const double start = ut_time_now();
        ut_pool_run(pool, fn, &sink, items, true);
        const double speed = 2.0 * lanes * CHAINS * ROUNDS * items / (ut_time_now() - start);
        best = speed > best ? speed : best;
    }
    ut_pool_free(pool);
    return best;
}
