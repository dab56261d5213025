/* sampler.cuh - the sampler: one decision of one slot, by one block.
 *
 * In a frame's kernel the block comes here from a lot of other code, so that its instructions may
 * have to be fetched while everybody waits: few of them matter more than few steps. Loops are not
 * unrolled, and what is needed twice is done by the same instructions in a loop. */
#pragma once

#include "backends/cuda/kernels/device.cuh"

enum { HISTORY = 16, MAX_PENALISED = 64 };
enum { PENALTY_NONE, PENALTY_FIRST_COLUMN, PENALTY_CODEBOOK, PENALTY_ALL }; /* ut_penalty */

/* ---- Penalty --------------------------------------------------------------------------------- */

/* An entry that the repetition penalty is about, or -1: one per thread. Of a codebook it is looked
 * for before the frame's number is there. */
UT_DEVICE int32_t entry_before(const cu_sample_args &a, int slot, int32_t frame)
{
    const int32_t *history = a.history + slot * a.history_slot;
    const int i = threadIdx.x;
    int32_t id = -1;
    if (a.penalty == PENALTY_CODEBOOK) {
        if (i < HISTORY)
            id = history[i * a.history_cols + a.penalty_col];
    } else if (i < MAX_PENALISED && i < a.history_cols) {
        const int oldest = frame - 1 < HISTORY ? 0 : (frame - 1) % HISTORY;
        id = history[oldest * a.history_cols + i];
    }
    const int64_t entry = (int64_t)id - a.id_first;
    if (frame <= 0)
        return -1;
    if (entry >= 0 && entry < a.n_range)
        return (int32_t)entry;
    return id == a.id_extra && id >= 0 ? a.n_range : -1;
}

UT_DEVICE float penalised(float logit, float penalty)
{
    return logit < 0.0f ? logit * penalty : logit / penalty;
}

/* Each entry once: of the threads that have it, the one whose number stays in owner[entry]. */
UT_DEVICE void penalise(float *logits, uint32_t *owner, int32_t entry, float penalty)
{
    if (entry >= 0)
        atomicExch(&owner[entry], threadIdx.x);
    block_meet();
    if (entry >= 0 && owner[entry] == threadIdx.x)
        logits[entry] = penalised(logits[entry], penalty);
    block_meet();
}

/* ---- Top-k and top-p ------------------------------------------------------------------------- *
 * Entries stand in an order: larger logits first, equal ones by index. Both rules keep what stands
 * before the entry at which a sum over those up to it exceeds a limit: a sum of ones for top-k,
 * which keeps all logits equal to that one, too, and for top-p of masses, e^(l - max) in units of
 * 2^-31, so that probabilities are whole numbers and a sum has no order. Whether one entry is left
 * is a sum over those before it (entry_stays). Where all that are left have to be known, the last
 * of them is searched for instead of sorting (narrow). A number of 60 bits says where an entry
 * stands; sums of all entries by its first digit give the digit of the entry that is looked for,
 * sums of those that have this one give the second, until one entry is left. After tempering
 * (UT_TEMPER_FIRST) top-p keeps the entry that exceeds the limit, too. */

enum { DIGIT = 5, DIGITS = 1 << DIGIT, PLACE = 60 }; /* bits, values, bits of all digits */

/* Entries by a digit: their sum, in two halves, how many they are, and one of them. */
struct digit_sums {
    uint32_t low[DIGITS], high[DIGITS], count[DIGITS];
    uint32_t logit[DIGITS], entry[DIGITS]; /* logit: its bits */
};
/* One is added to, one is read by slower threads, one is made ready. */
enum { DIGIT_SUMS = 3 };

/* What may be chosen: larger logits than `least`, and the entries up to `last` that have it. */
struct kept_entries {
    float least;
    int32_t last;
};

UT_DEVICE bool is_kept(kept_entries kept, float logit, int32_t i)
{
    return logit > kept.least || (logit == kept.least && i <= kept.last);
}

/* Smaller for larger logits: in steps below the largest, which tell most of them apart, then
 * exactly, then by index. LARGE: of more than CU_SAMPLE_SHARED entries. */
template <bool LARGE> UT_DEVICE uint64_t place_of(float logit, uint32_t index, float largest)
{
    const int index_bits = LARGE ? 21 : 13, step_bits = PLACE - 32 - index_bits;
    const float last = (float)((1 << step_bits) - 1), per_nat = last / 22.0f; /* masses end there */
    /* 2^23 more: the step is in the low bits */
    const float step = fminf((largest - logit) * per_nat, last) + 8388608.0f;
    const uint32_t u = __float_as_uint(logit); /* never -0 */
    const uint32_t key = u & 0x80000000u ? u : ~u & 0x7fffffffu;
    return (uint64_t)(__float_as_uint(step) & 0x7fffffu) << (PLACE - step_bits) |
           (uint64_t)key << index_bits | index;
}

UT_DEVICE uint32_t mass_of(float logit, float largest)
{
    const float e = expf(logit - largest);
    return e > 0.0f ? (uint32_t)(e * 2147483648.0f) : 0;
}

/* The sum that may not be exceeded: of what top-k or top-p leaves, out of `total`. */
UT_DEVICE uint64_t limit_of(bool by_mass, float top, bool tempered, uint64_t total)
{
    if (!by_mass)
        return (uint64_t)top - 1;
    const double share = (double)top * (double)total;
    if (!tempered)
        return (uint64_t)share;
    /* those before an entry sum to less than the share */
    return share > 1.0 ? (uint64_t)ceil(share) - 1 : 0;
}

/* Leave of the kept entries what top-p (by_mass) or top-k does, where all of that has to be known.
 * sums[turn] is zero. */
template <bool LARGE>
UT_DEVICE void narrow(const float *logits, int n, float largest, bool by_mass, float top,
                      bool tempered, digit_sums *sums, int &turn, kept_entries &kept)
{
    const int lane = threadIdx.x % 32;
    uint64_t prefix = 0, before = 0, limit = 0;
#pragma unroll 1
    for (int shift = PLACE - DIGIT;; shift -= DIGIT) {
        digit_sums &now = sums[turn];
        turn = turn + 1 == DIGIT_SUMS ? 0 : turn + 1;
        if (threadIdx.x < 3 * DIGITS)
            sums[turn].low[threadIdx.x] = 0; /* and high, and count */
#pragma unroll(LARGE ? 4 : 1)
        for (int i = threadIdx.x; i < n; i += CU_THREADS) {
            const float logit = logits[i];
            const uint64_t place = place_of<LARGE>(logit, by_mass ? i : 0, largest) >> shift;
            if (!is_kept(kept, logit, i) || place >> DIGIT != prefix)
                continue;
            const uint32_t mass = by_mass ? mass_of(logit, largest) : 1;
            const int d = (int)(place % DIGITS);
            if (mass == 0)
                continue;
            if (atomicAdd(&now.low[d], mass) + mass < mass)
                atomicAdd(&now.high[d], 1u);
            atomicAdd(&now.count[d], 1u);
            atomicExch(&now.logit[d], __float_as_uint(logit)); /* one of them, whichever */
            atomicExch(&now.entry[d], (uint32_t)i);
        }
        block_meet();
        const uint64_t own = (uint64_t)now.high[lane] << 32 | now.low[lane];
        uint64_t up_to = own;
#pragma unroll 1
        for (int k = 1; k < 32; k *= 2) {
            const uint64_t other = __shfl_up_sync(UT_FULL, up_to, k);
            up_to += lane >= k ? other : 0;
        }
        if (shift == PLACE - DIGIT) {
            const uint64_t total = __shfl_sync(UT_FULL, up_to, 31);
            limit = limit_of(by_mass, top, tempered, total);
            if (total <= limit)
                return;
        }
        const int d = __ffs((int)__ballot_sync(UT_FULL, before + up_to > limit)) - 1;
        before += __shfl_sync(UT_FULL, up_to - own, d);
        prefix = prefix << DIGIT | (uint32_t)d;
        if (now.count[d] == 1 || shift == 0) {
            const int32_t entry = (int32_t)now.entry[d];
            kept.least = __uint_as_float(now.logit[d]);
            kept.last = !by_mass                  ? n
                        : tempered || before == 0 ? entry /* the best always stays */
                                                  : entry - 1;
            return;
        }
    }
}

/* ---- Random numbers -------------------------------------------------------------------------- */

/* Philox4x32-10, see base/philox.c: of entries 4 c to 4 c + 3. */
UT_DEVICE uint4 philox(uint32_t c, uint32_t frame, uint32_t decision, uint32_t k0, uint32_t k1)
{
    uint4 v = {c, frame, decision, 0};
#pragma unroll 1
    for (int round = 0; round < 10; round++) {
        const uint64_t p0 = (uint64_t)0xD2511F53u * v.x, p1 = (uint64_t)0xCD9E8D57u * v.z;
        v.x = (uint32_t)(p1 >> 32) ^ v.y ^ k0;
        v.y = (uint32_t)p1;
        v.z = (uint32_t)(p0 >> 32) ^ v.w ^ k1;
        v.w = (uint32_t)p0;
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
    return v;
}

UT_DEVICE float noise_of(uint32_t u)
{
    return -logf(((float)(u >> 9) + 0.5f) * (1.0f / 8388608.0f));
}

/* ---- A decision ------------------------------------------------------------------------------ */

/* What leaves some entries only: one of the two, top-k or top-p. */
struct entry_rules {
    float top_k, top_p; /* 0 and 1: not this one */
    bool tempered;
    uint64_t share; /* of all masses, that top-p leaves: see limit_of */
};

/* What a block adds up, and the best of what its threads have. */
struct block_scratch {
    uint32_t *sums;    /* [2 UT_WARPS] */
    best_entry *bests; /* [UT_WARPS] */
};

/* The warps' sums of low + 2^16 high, a thread's own below 2^26 each, for sum_wide. */
UT_DEVICE void leave_wide(uint32_t low, uint32_t high, uint32_t *sums)
{
    low = warp_sum_u32(low);
    high = warp_sum_u32(high);
    if (threadIdx.x % 32 == 0) {
        sums[threadIdx.x / 32] = low;
        sums[UT_WARPS + threadIdx.x / 32] = high;
    }
}

/* The block's sum, which has met since. */
UT_DEVICE uint64_t sum_wide(const uint32_t *sums)
{
    const int lane = threadIdx.x % 32;
    const uint64_t own = lane < 2 * UT_WARPS ? sums[lane] : 0;
    return warp_sum(lane < UT_WARPS ? own : own << 16);
}

/* Is the entry `best` among those that top-k and top-p leave? Exact, as in narrow. If not, it
 * becomes the best of those before it. scratch: as for block_best. */
template <bool LARGE>
UT_DEVICE bool entry_stays(const float *logits, const float *ratios, int n, float largest,
                           const entry_rules &rules, const kept_entries &kept, best_entry &best,
                           const block_scratch &scratch)
{
    const int32_t c = best.index;
    const float logit = logits[c];
    const bool by_count = rules.top_k > 0.0f;
    best_entry next = {-1.0f, 0x7fffffff};
    uint32_t low = 0, high = 0;
#pragma unroll(LARGE ? 4 : 1)
    for (int i = threadIdx.x; i < n; i += CU_THREADS) {
        const float other = logits[i];
        if (!(other > logit || (other == logit && i < c)))
            continue;
        const best_entry now = {ratios[i], i};
        next = better(next, now);
        if (by_count) {
            low += other > logit;
        } else if (is_kept(kept, other, i)) {
            const uint32_t mass = mass_of(other, largest);
            low += mass & 0xffffu;
            high += mass >> 16;
        }
    }
    leave_wide(low, high, scratch.sums);
    next = block_best(next, scratch.bests);
    const uint64_t before = sum_wide(scratch.sums);
    const bool stays =
        by_count
            ? before < (uint64_t)rules.top_k
            : before == 0 || before + (rules.tempered ? 0 : mass_of(logit, largest)) <= rules.share;
    if (!stays)
        best = next;
    return stays;
}

/* Shared memory: digit_sums [DIGIT_SUMS], best_entry [2 UT_WARPS], two sums of 2 UT_WARPS words;
 * then, unless LARGE, logits and what they come to, CU_SAMPLE_ROW(n) each.
 *
 * Of entries that may be chosen the one with the largest probability / noise is. So it is looked
 * for among all first: it stays if top-k and top-p leave it, which is a question of what stands
 * before it alone. If not, nothing that stands behind it is left either, and it is looked for among
 * those before it. */
template <bool LARGE>
UT_DEVICE void sample_entries(const cu_sample_args &a, int slot, digit_sums *sums)
{
    best_entry *bests = (best_entry *)(sums + DIGIT_SUMS);
    uint32_t *total = (uint32_t *)(bests + 2 * UT_WARPS), *before_it = total + 2 * UT_WARPS;
    const int n = a.n, row = CU_SAMPLE_ROW(n);
    float *logits = LARGE ? a.work + (size_t)slot * 2 * row : (float *)(before_it + 2 * UT_WARPS);
    float *ratios = logits + row;
    float *probs = a.probs ? a.probs + slot * a.probs_slot : NULL;
    int32_t *chosen = a.penalty == PENALTY_ALL ? a.history + slot * a.history_slot : NULL;

    /* what is far away, all of it at once */
    const float *params = a.params + slot * a.params_slot;
    const float temperature = params[0], top_p = params[1], penalty = params[2], top_k = params[3];
    const int32_t frame = a.frame[slot * a.frame_slot];
    const int32_t *rng = a.rng + slot * a.rng_slot;
    const uint32_t k0 = (uint32_t)rng[0], k1 = (uint32_t)rng[1];
    const float *in = a.logits + slot * a.logits_slot;
#pragma unroll(LARGE ? 4 : 1)
    for (int i = threadIdx.x; i < n; i += CU_THREADS) {
        copy_word<LARGE>(logits + i, in + i);
        if (chosen) /* flags are where ratios will be */
            copy_word<LARGE>(ratios + i, chosen + i);
        if (probs)
            probs[i] = 0.0f;
    }
    if (threadIdx.x < 3 * DIGITS)
        sums[0].low[threadIdx.x] = 0;
    const bool listed = a.penalty != PENALTY_NONE && !chosen;
    const int32_t before = listed ? entry_before(a, slot, frame) : -1;
    copy_words_wait();
    if (listed) {
        block_meet(); /* entries of other threads are there */
        penalise(logits, (uint32_t *)ratios, before, penalty);
    }

    const bool random_choice = temperature > 0.0f, tempered = random_choice && a.temper_first;
    float t = temperature > 1e-5f ? temperature : 1e-5f;
    const int32_t without = a.id_extra >= 0 && frame < a.extra_from_frame ? n - 1 : -1;
    best_entry best = {-INFINITY, 0x7fffffff};
#pragma unroll(LARGE ? 4 : 1)
    for (int i = threadIdx.x; i < n; i += CU_THREADS) {
        float logit = logits[i];
        if (chosen && __float_as_uint(ratios[i]))
            logit = penalised(logit, penalty);
        if (i == without)
            logit = -INFINITY;
        if (tempered)
            logit /= t;
        logit += 0.0f; /* no -0 */
        logits[i] = logit;
        const best_entry now = {logit, i};
        best = better(best, now);
    }
    best = block_best(best, bests);

    if (random_choice) {
        const float largest = best.value;
        entry_rules rules = {0.0f, top_p, tempered, 0};
        kept_entries kept = {-3.402823466e38f, n};
        int turn = 0;
        if (tempered && top_k >= 1.0f && top_k < (float)n)
            rules.top_k = top_k;
        if (rules.top_k > 0.0f && (probs || top_p < 1.0f)) { /* all that it leaves is asked for */
            narrow<LARGE>(logits, n, largest, false, top_k, tempered, sums, turn, kept);
            rules.top_k = 0.0f;
        }
        if (probs && top_p < 1.0f) {
            narrow<LARGE>(logits, n, largest, true, top_p, tempered, sums, turn, kept);
            rules.top_p = 1.0f;
        }
        const bool by_mass = rules.top_p < 1.0f;
        t = tempered ? 1.0f : t;
        const float shift = largest / t;
        uint32_t low = 0, high = 0;
        float sum = 0.0f;
        const best_entry none = {-1.0f, 0x7fffffff};
        best = none;
#pragma unroll 1
        for (int c = threadIdx.x; c < row / 4; c += CU_THREADS) {
            uint4 u = {0, 0, 0, 0};
            if (!a.noise)
                u = philox((uint32_t)c, (uint32_t)frame, (uint32_t)a.decision, k0, k1);
            const uint32_t random[4] = {u.x, u.y, u.z, u.w};
#pragma unroll
            for (int k = 0; k < 4; k++) {
                const int i = 4 * c + k;
                if (i >= n)
                    continue;
                const float logit = logits[i];
                float ratio = -1.0f;
                if (is_kept(kept, logit, i)) {
                    const float e = expf(logit / t - shift);
                    const float q =
                        a.noise ? a.noise[slot * a.noise_slot + i] : noise_of(random[k]);
                    const uint32_t mass = by_mass ? mass_of(logit, largest) : 0;
                    low += mass & 0xffffu;
                    high += mass >> 16;
                    ratio = e / q;
                    sum += e;
                    if (probs)
                        probs[i] = e;
                }
                ratios[i] = ratio;
                const best_entry now = {ratio, i};
                best = better(best, now);
            }
        }
        if (by_mass)
            leave_wide(low, high, total);
        best = block_best(best, bests + UT_WARPS);
        if (by_mass)
            rules.share = limit_of(true, top_p, tempered, sum_wide(total));
        if (probs) {
            sum = block_sum(sum, (float *)total);
            for (int i = threadIdx.x; i < n; i += CU_THREADS)
                probs[i] /= sum;
        }
        block_scratch scratch = {before_it, bests};
#pragma unroll 1
        while (best.index < n && (by_mass || rules.top_k > 0.0f)) { /* every time fewer are left */
            if (entry_stays<LARGE>(logits, ratios, n, largest, rules, kept, best, scratch))
                break;
            /* slower threads may still read these */
            scratch.sums = scratch.sums == total ? before_it : total;
            scratch.bests = scratch.bests == bests ? bests + UT_WARPS : bests;
        }
    }
    if (threadIdx.x == 0) {
        const int32_t entry = best.index < n ? best.index : 0;
        if (chosen)
            chosen[entry] = 1;
        a.dst[slot * a.dst_slot + a.col] = entry < a.n_range ? a.id_first + entry : a.id_extra;
        if (probs && !random_choice)
            probs[entry] = 1.0f;
    }
}

/* shared: CU_SAMPLE_FIXED bytes and, without a.work, 8 CU_SAMPLE_ROW(a.n) more. */
UT_DEVICE void sample_slot(const cu_sample_args &a, int slot, void *shared)
{
    if (a.work)
        sample_entries<true>(a, slot, (digit_sums *)shared);
    else
        sample_entries<false>(a, slot, (digit_sums *)shared);
}
