/* sampler.cuh - the sampler: one decision of one slot, by one block. */
#pragma once

#include "backends/cuda/kernels/device.cuh"

/* ---- Sampling --------------------------------------------------------------------------- *
 * Top-p keeps the entries that stand, in descending order, before the one at which the cumulative
 * probability exceeds top_p. Probabilities are counted in whole numbers, so that a sum has no
 * order: the mass of an entry is e^(l - max) in units of 2^-31. Instead of sorting, the logit at
 * which the mass crosses the limit is searched for, seven tries at a time; entries that have
 * that very logit are taken by index. After tempering (UT_TEMPER_FIRST) logits are divided first,
 * top-k is the same search with a mass of 1 for every entry, and top-p keeps the entry that crosses
 * the limit, too. */

enum { HISTORY = 16, MAX_PENALISED = 64 };
enum { PENALTY_NONE, PENALTY_FIRST_COLUMN, PENALTY_CODEBOOK, PENALTY_ALL }; /* ut_penalty */

/* Larger logits have larger keys. */
UT_DEVICE uint32_t key_of(float f)
{
    const uint32_t u = __float_as_uint(f);
    return u & 0x80000000u ? ~u : u | 0x80000000u;
}

/* Entries that the repetition penalty is about, into list (-1: none): one per thread. */
UT_DEVICE void find_penalised(const cu_sample_args &a, int slot, int32_t frame, int32_t *list)
{
    const int32_t *history = a.history + slot * a.history_slot;
    const bool column = a.penalty == PENALTY_CODEBOOK;
    const int i = threadIdx.x, n = column ? HISTORY : a.history_cols;
    if (i >= MAX_PENALISED)
        return;
    list[i] = -1;
    if (i >= n)
        return;
    const int oldest = frame - 1 < HISTORY ? 0 : (frame - 1) % HISTORY;
    const int32_t id =
        column ? history[i * a.history_cols + a.penalty_col] : history[oldest * a.history_cols + i];
    const int64_t entry = (int64_t)id - a.id_first;
    if (entry >= 0 && entry < a.n_range)
        list[i] = (int32_t)entry;
    else if (id == a.id_extra && id >= 0)
        list[i] = a.n_range;
}

UT_DEVICE float penalised(float logit, float penalty)
{
    return logit < 0.0f ? logit * penalty : logit / penalty;
}

UT_DEVICE void penalise(float *logits, const int32_t *list, float penalty)
{
    const int i = threadIdx.x;
    if (i >= MAX_PENALISED || list[i] < 0)
        return;
    for (int p = 0; p < i; p++)
        if (list[p] == list[i])
            return; /* each id once */
    logits[list[i]] = penalised(logits[list[i]], penalty);
}

/* What top-p keeps: keys above `key`, and the first `ties` entries of exactly that key. */
struct kept_range {
    uint32_t key;
    int64_t ties;
};

enum { PROBES = 7 }; /* of the search, at a time */

/* The sum over the warp of numbers below 2^48, for every lane. */
UT_DEVICE uint64_t warp_sum_large(uint64_t v)
{
    const uint32_t low = warp_sum_u32((uint32_t)v & 0xffffffu);
    return ((uint64_t)warp_sum_u32((uint32_t)(v >> 24)) << 24) + low;
}

/* The key from which on the mass exceeds the limit, and the mass of all larger keys. limit: less
 * than the mass of all. Without masses, every entry's is 1. sums: [PROBES, UT_WARPS]. */
UT_DEVICE uint32_t find_crossing(const float *logits, const uint32_t *mass, int n, uint32_t largest,
                                 uint64_t limit, uint64_t *sums, uint64_t *larger)
{
    /* from key lo on the mass exceeds the limit, from key hi on it does not */
    uint64_t lo = 0, hi = (uint64_t)largest + 1, before = 0;
    while (hi - lo > 1) {
        uint32_t at[PROBES];
        uint64_t sum[PROBES] = {0};
#pragma unroll
        for (int q = 0; q < PROBES; q++)
            at[q] = (uint32_t)(lo + (hi - lo) * (q + 1) / (PROBES + 1));
        for (int i = threadIdx.x; i < n; i += CU_THREADS) {
            const uint32_t key = key_of(logits[i]), m = mass ? mass[i] : 1;
#pragma unroll
            for (int q = 0; q < PROBES; q++)
                sum[q] += key >= at[q] ? m : 0;
        }
#pragma unroll
        for (int q = 0; q < PROBES; q++)
            sum[q] = warp_sum_large(sum[q]);
        __syncthreads(); /* the sums before have been read */
        if (threadIdx.x % 32 == 0)
#pragma unroll
            for (int q = 0; q < PROBES; q++)
                sums[q * UT_WARPS + threadIdx.x / 32] = sum[q];
        __syncthreads();
        /* lane q has what is from at[q] on; the sums fall with q */
        const int lane = threadIdx.x % 32;
        uint64_t all = 0;
#pragma unroll
        for (int w = 0; w < UT_WARPS; w++)
            all += sums[(lane < PROBES ? lane : 0) * UT_WARPS + w];
        int above = 0;
#pragma unroll
        for (int q = 0; q < PROBES; q++)
            if (__shfl_sync(UT_FULL, all, q) > limit)
                above = q + 1;
        const uint64_t next = __shfl_sync(UT_FULL, all, above < PROBES ? above : 0);
#pragma unroll
        for (int q = 0; q < PROBES; q++) {
            if (q + 1 == above)
                lo = at[q];
            if (q == above) {
                hi = at[q];
                before = next;
            }
        }
    }
    *larger = before;
    return (uint32_t)lo;
}

/* limit: the mass that may not be exceeded, but by `extra` more entries. */
UT_DEVICE kept_range find_kept(const float *logits, const uint32_t *mass, int n, uint32_t largest,
                               uint64_t limit, int extra, uint64_t *sums)
{
    uint64_t before, one = 0, count = 0; /* entries of one logit have one mass */
    kept_range kept = {find_crossing(logits, mass, n, largest, limit, sums, &before), 0};
    for (int i = threadIdx.x; i < n; i += CU_THREADS)
        if (key_of(logits[i]) == kept.key) {
            one = mass[i];
            count++;
        }
    one = block_max(one, sums);
    count = block_sum(count, sums);
    if (one > 0)
        kept.ties = (int64_t)((limit - before) / one) + extra;
    if (kept.ties == 0 && kept.key == largest)
        kept.ties = 1; /* the best always stays */
    if (kept.ties >= (int64_t)count)
        kept.ties = n; /* all of them: nobody need count */
    return kept;
}

UT_DEVICE bool is_kept(const float *logits, int n, int i, kept_range kept)
{
    const uint32_t key = key_of(logits[i]);
    if (key != kept.key || kept.ties >= n)
        return key >= kept.key;
    int64_t rank = 0;
    for (int j = 0; j < i && rank < kept.ties; j++)
        rank += key_of(logits[j]) == key;
    return rank < kept.ties;
}

/* Philox4x32-10, see base/philox.c. */
UT_DEVICE float philox_uniform(uint32_t entry, uint32_t frame, uint32_t decision, uint32_t k0,
                               uint32_t k1)
{
    uint32_t c0 = entry / 4, c1 = frame, c2 = decision, c3 = 0;
#pragma unroll
    for (int round = 0; round < 10; round++) {
        const uint64_t p0 = (uint64_t)0xD2511F53u * c0, p1 = (uint64_t)0xCD9E8D57u * c2;
        c0 = (uint32_t)(p1 >> 32) ^ c1 ^ k0;
        c1 = (uint32_t)p1;
        c2 = (uint32_t)(p0 >> 32) ^ c3 ^ k1;
        c3 = (uint32_t)p0;
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
    const uint32_t pick = entry % 4;
    const uint32_t u = pick == 0 ? c0 : pick == 1 ? c1 : pick == 2 ? c2 : c3;
    return ((float)(u >> 9) + 0.5f) * (1.0f / 8388608.0f);
}

/* Temper the logits; those below the k-th largest cannot be chosen. */
UT_DEVICE void keep_top_k(float *logits, int n, float t, float largest, float top_k, uint64_t *sums)
{
    for (int i = threadIdx.x; i < n; i += CU_THREADS)
        logits[i] /= t;
    __syncthreads();
    if (!(top_k >= 1.0f && top_k < (float)n))
        return;
    uint64_t larger;
    const uint32_t key =
        find_crossing(logits, NULL, n, key_of(largest), (uint64_t)top_k - 1, sums, &larger);
    __syncthreads();
    for (int i = threadIdx.x; i < n; i += CU_THREADS)
        if (key_of(logits[i]) < key)
            logits[i] = -INFINITY;
    __syncthreads();
}

/* sums: shared memory, CU_SAMPLE_FIXED bytes and, without a.work, 8 a.n more. */
UT_DEVICE void sample_slot(const cu_sample_args &a, int slot, uint64_t *sums)
{
    float *scratch = (float *)(sums + PROBES * UT_WARPS);   /* [UT_WARPS] */
    best_entry *bests = (best_entry *)(scratch + UT_WARPS); /* [UT_WARPS] */
    int32_t *list = (int32_t *)(bests + UT_WARPS);          /* [MAX_PENALISED] */
    const int n = a.n;
    float *logits = a.work ? a.work + (size_t)slot * 2 * n : (float *)(list + MAX_PENALISED);
    uint32_t *mass = (uint32_t *)(logits + n);
    const float *params = a.params + slot * a.params_slot;
    const float temperature = params[0], top_p = params[1], penalty = params[2];
    const int32_t frame = a.frame[slot * a.frame_slot];
    const float *in = a.logits + slot * a.logits_slot;
    float *probs = a.probs ? a.probs + slot * a.probs_slot : NULL;

    for (int i = threadIdx.x; i < n; i += CU_THREADS) {
        logits[i] = in[i];
        if (probs)
            probs[i] = 0.0f;
    }
    int32_t *chosen =
        a.penalty == PENALTY_ALL ? a.history + slot * a.history_slot : (int32_t *)NULL;
    const bool listed = a.penalty != PENALTY_NONE && !chosen && frame > 0;
    if (listed)
        find_penalised(a, slot, frame, list);
    __syncthreads();
    if (listed)
        penalise(logits, list, penalty);
    for (int i = threadIdx.x; chosen && i < n; i += CU_THREADS)
        if (chosen[i])
            logits[i] = penalised(logits[i], penalty);
    __syncthreads();
    if (threadIdx.x == 0 && a.id_extra >= 0 && frame < a.extra_from_frame)
        logits[n - 1] = -INFINITY;
    __syncthreads();

    best_entry best = {-INFINITY, 0x7fffffff};
    for (int i = threadIdx.x; i < n; i += CU_THREADS) {
        const best_entry now = {logits[i], i};
        best = better(best, now);
    }
    best = block_best(best, bests);
    float largest = best.value;

    if (temperature > 0.0f) {
        float t = temperature > 1e-5f ? temperature : 1e-5f;
        if (a.temper_first) {
            largest /= t;
            keep_top_k(logits, n, t, largest, params[3], sums);
            t = 1.0f;
        }
        uint64_t total = 0;
        for (int i = threadIdx.x; i < n; i += CU_THREADS) {
            const float e = expf(logits[i] - largest);
            mass[i] = e > 0.0f ? (uint32_t)(e * 2147483648.0f) : 0;
            total += mass[i];
        }
        total = block_sum(total, sums);
        const double share = (double)top_p * (double)total;
        uint64_t limit = (uint64_t)share;
        if (a.temper_first) /* those before an entry sum to less than the share */
            limit = share > 1.0 ? (uint64_t)ceil(share) - 1 : 0;
        kept_range kept = {0, n};
        if (top_p < 1.0f && total > limit)
            kept = find_kept(logits, mass, n, key_of(largest), limit, a.temper_first ? 1 : 0, sums);

        const float shift = largest / t;
        float sum = 0.0f;
        for (int i = threadIdx.x; i < n; i += CU_THREADS)
            if (is_kept(logits, n, i, kept))
                sum += expf(logits[i] / t - shift);
        sum = block_sum(sum, scratch);
        best.value = -1.0f;
        best.index = 0x7fffffff;
        for (int i = threadIdx.x; i < n; i += CU_THREADS) {
            if (!is_kept(logits, n, i, kept) || logits[i] == -INFINITY)
                continue;
            const float p = expf(logits[i] / t - shift) / sum;
            const float q =
                a.noise
                    ? a.noise[slot * a.noise_slot + i]
                    : -logf(philox_uniform(i, frame, a.decision, (uint32_t)a.rng[slot * a.rng_slot],
                                           (uint32_t)a.rng[slot * a.rng_slot + 1]));
            if (probs)
                probs[i] = p;
            const best_entry now = {p / q, i};
            best = better(best, now);
        }
        best = block_best(best, bests);
    }
    if (threadIdx.x == 0) {
        const int32_t entry = best.index < n ? best.index : 0;
        if (chosen)
            chosen[entry] = 1;
        a.dst[slot * a.dst_slot + a.col] = entry < a.n_range ? a.id_first + entry : a.id_extra;
        if (probs && !(temperature > 0.0f))
            probs[entry] = 1.0f;
    }
}
