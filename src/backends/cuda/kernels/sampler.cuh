/* sampler.cuh - the sampler: one decision of one slot, by one block.
 *
 * Everybody waits for it, so that it goes in two parts: what does not need the logits, and the
 * rest. A thread has entries four at a time, without branches, so that what one of them waits for
 * is hidden by the others; but each instruction that runs once has to be fetched, so that loops
 * over fours are not unrolled. */
#pragma once

#include "backends/cuda/kernels/device.cuh"

enum { HISTORY = 16, MAX_PENALISED = 64 };
enum { PENALTY_NONE, PENALTY_FIRST_COLUMN, PENALTY_CODEBOOK, PENALTY_ALL }; /* ut_penalty */

/* ---- Shared memory --------------------------------------------------------------------------- */

enum { DIGIT = 5, DIGITS = 1 << DIGIT, PLACE = 60 }; /* bits, values, bits of all digits */

/* Entries by a digit: their sum, in two halves, how many they are, and one of them. */
struct digit_sums {
    uint32_t low[DIGITS], high[DIGITS], count[DIGITS];
    uint32_t logit[DIGITS], entry[DIGITS]; /* logit: its bits */

    /* By the block: no entries. */
    UT_DEVICE_MEMBER void clear()
    {
        if (threadIdx.x < DIGITS)
            low[threadIdx.x] = high[threadIdx.x] = count[threadIdx.x] = 0;
    }
};
/* One is added to, one is read by slower threads, one is made ready. */
enum { DIGIT_SUMS = 3 };

/* What a decision asks for. */
struct sample_params {
    float temperature, top_p, penalty, top_k;
    float inverse_t, inverse_penalty;
    int32_t frame;
};

/* CU_SAMPLE_FIXED bytes, and behind them, unless LARGE, two rows of CU_SAMPLE_ROW(n). */
struct sample_shared {
    digit_sums digits[DIGIT_SUMS];
    best_entry bests[2 * UT_WARPS];
    uint32_t sums[2][2 * UT_WARPS];
    sample_params params;
    int32_t pad;
};
static_assert(sizeof(sample_shared) == CU_SAMPLE_FIXED, "the host counts what the block needs");

/* Logits, and what each comes to: first 1 / noise, less than 0 where the penalty is due, then
 * probability / noise. */
struct sample_rows {
    float *logits, *ratios;
};

template <bool LARGE>
UT_DEVICE sample_rows rows_of(const cu_sample_args &a, int slot, sample_shared *s)
{
    const int row = CU_SAMPLE_ROW(a.n);
    float *logits = LARGE ? a.work + (size_t)slot * 2 * row : (float *)(s + 1);
    return {logits, logits + row};
}

/* ---- Penalty --------------------------------------------------------------------------------- */

/* An entry that the repetition penalty is about, or -1: one per thread. */
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
    return (uint32_t)(fmaxf(expf(logit - largest), 0.0f) * 2147483648.0f); /* no NaN */
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
        sums[turn].clear();
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

/* ---- Four at a time -------------------------------------------------------------------------- *
 * What four entries need is worked out for all of them, wanted or not, in loops of its own: a
 * branch for one of them would make the next ones wait. Who has the best looks at its entries in
 * their order, so that of equal ones the first is kept. */

struct four_floats {
    float v[4];

    UT_DEVICE_MEMBER void read(const float *p)
    {
        const float4 f = *(const float4 *)p;
        v[0] = f.x, v[1] = f.y, v[2] = f.z, v[3] = f.w;
    }
    /* Of entries from i on. */
    UT_DEVICE_MEMBER void keep_best(best_entry &best, int i) const
    {
#pragma unroll
        for (int k = 0; k < 4; k++) {
            const bool larger = v[k] > best.value;
            best.value = larger ? v[k] : best.value;
            best.index = larger ? i + k : best.index;
        }
    }
};

/* Masses of some entries, in two halves for leave_wide. */
struct mass_sums {
    uint32_t low, high;

    UT_DEVICE_MEMBER void add(uint32_t mass)
    {
        low += mass & 0xffffu;
        high += mass >> 16;
    }
};

/* ---- Before logits are there ----------------------------------------------------------------- */

/* What does not need them: parameters, random numbers, and who is penalised. */
template <bool LARGE>
UT_DEVICE void prepare_entries(const cu_sample_args &a, int slot, sample_shared *s)
{
    float *ratios = rows_of<LARGE>(a, slot, s).ratios;
    const float *params = a.params + slot * a.params_slot;
    const float *noise = a.noise ? a.noise + slot * a.noise_slot : NULL;
    const int32_t *chosen = a.penalty == PENALTY_ALL ? a.history + slot * a.history_slot : NULL;
    const int32_t *rng = a.rng + slot * a.rng_slot;
    const uint32_t k0 = (uint32_t)rng[0], k1 = (uint32_t)rng[1];
    sample_params known;
    known.temperature = params[0], known.top_p = params[1];
    known.penalty = params[2], known.top_k = params[3];
    known.inverse_t = 1.0f / (known.temperature > 1e-5f ? known.temperature : 1e-5f);
    known.inverse_penalty = 1.0f / known.penalty;
    known.frame = a.frame[slot * a.frame_slot];
    const bool drawn = known.temperature > 0.0f && !noise;
#pragma unroll 1
    for (int first = 4 * threadIdx.x; first < a.n; first += 4 * CU_THREADS) {
        int32_t before[4];
        four_floats luck;
#pragma unroll
        for (int k = 0; k < 4; k++) {
            const int i = first + k < a.n ? first + k : a.n - 1;
            before[k] = chosen ? chosen[i] : 0;
            luck.v[k] = noise ? noise[i] : 1.0f;
        }
        if (drawn) {
            const uint4 u =
                philox((uint32_t)first / 4, (uint32_t)known.frame, (uint32_t)a.decision, k0, k1);
            luck.v[0] = noise_of(u.x), luck.v[1] = noise_of(u.y);
            luck.v[2] = noise_of(u.z), luck.v[3] = noise_of(u.w);
        }
#pragma unroll
        for (int k = 0; k < 4; k++)
            luck.v[k] = (before[k] ? -1.0f : 1.0f) / luck.v[k];
        store_group(ratios + first, luck.v);
    }
    s->digits[0].clear();
    if (threadIdx.x == 0)
        s->params = known;
    const bool listed = a.penalty != PENALTY_NONE && !chosen;
    const int32_t before = listed ? entry_before(a, slot, known.frame) : -1;
    block_meet();
    if (before >= 0)
        atomicOr((uint32_t *)ratios + before, 0x80000000u);
    block_meet();
}

/* ---- A decision ------------------------------------------------------------------------------ */

/* Logits in memory, as take_logits wants them: four from `i` on, -inf behind the row's end. */
struct plain_logits {
    const float *in;
    float four[4];

    UT_DEVICE_MEMBER void look(int i, int n)
    {
#pragma unroll
        for (int k = 0; k < 4; k++)
            four[k] = i + k < n ? in[i + k] : -INFINITY;
    }
    UT_DEVICE_MEMBER void take(int, int, float (&f)[4]) const
    {
#pragma unroll
        for (int k = 0; k < 4; k++)
            f[k] = four[k];
    }
};

/* The id of an entry, as the best of all. */
UT_DEVICE int32_t id_of(const cu_sample_args &a, const best_entry &best)
{
    const int32_t entry = best.index < a.n ? best.index : 0;
    return entry < a.n_range ? a.id_first + entry : a.id_extra;
}

/* What is done with a choice: it may begin when an id is likely, by all threads, and has to be
 * ready for another one. */
struct nothing_follows {
    UT_DEVICE_MEMBER void expect(int32_t) {}
};

/* What leaves some entries only: one of the two, top-k or top-p. */
struct entry_rules {
    float top_k, top_p; /* 0 and 1: not this one */
    bool tempered;
    uint64_t share; /* of all masses, that top-p leaves: see limit_of */
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

/* What to do with logits: factors of those below 0 and of others, if penalised, and of all; and who
 * may not be chosen, or -1. */
struct logit_rules {
    float below, above, factor;
    int32_t without;
};

/* The row's logits; its best. */
template <class LOGITS>
UT_DEVICE best_entry take_logits(const LOGITS &logits, int n, const sample_rows &rows,
                                 const logit_rules &rules)
{
    enum { AHEAD = 2 };
    best_entry best = {-INFINITY, 0x7fffffff};
#pragma unroll 1
    for (int first = 4 * threadIdx.x; first < n; first += AHEAD * 4 * CU_THREADS) {
        LOGITS ahead[AHEAD];
#pragma unroll
        for (int j = 0; j < AHEAD; j++) {
            ahead[j] = logits;
            if (first + j * 4 * CU_THREADS < n)
                ahead[j].look(first + j * 4 * CU_THREADS, n);
        }
#pragma unroll
        for (int j = 0; j < AHEAD; j++) {
            const int i = first + j * 4 * CU_THREADS;
            if (i >= n)
                continue;
            four_floats l, luck;
            luck.read(rows.ratios + i);
            ahead[j].take(i, n, l.v);
#pragma unroll
            for (int k = 0; k < 4; k++) {
                const float due = l.v[k] < 0.0f ? rules.below : rules.above;
                const float factor = luck.v[k] < 0.0f ? due : 1.0f;
                const float v = l.v[k] * factor * rules.factor + 0.0f; /* no -0 */
                l.v[k] = i + k == rules.without ? -INFINITY : v;
            }
            l.keep_best(best, i);
            store_group(rows.logits + i, l.v);
        }
    }
    return best;
}

/* Is the entry `best` among those that top-k and top-p leave? Exact, as in narrow. If not, it
 * becomes the best of those before it. sums, bests: nobody has used them since the block met. */
UT_DEVICE bool entry_stays(const sample_rows &rows, int n, float largest, const entry_rules &rules,
                           const kept_entries &kept, best_entry &best, uint32_t *sums,
                           best_entry *bests)
{
    const int32_t c = best.index;
    const float logit = rows.logits[c];
    const bool by_count = rules.top_k > 0.0f;
    best_entry next = {-1.0f, 0x7fffffff};
    mass_sums before_it = {0, 0};
#pragma unroll 1
    for (int i = 4 * threadIdx.x; i < n; i += 4 * CU_THREADS) {
        four_floats others, ratios;
        others.read(rows.logits + i);
        ratios.read(rows.ratios + i);
#pragma unroll
        for (int k = 0; k < 4; k++) {
            const float other = others.v[k];
            const bool before = other > logit || (other == logit && i + k < c);
            ratios.v[k] = before ? ratios.v[k] : -1.0f;
            others.v[k] = before && is_kept(kept, other, i + k) ? other : -INFINITY;
        }
        ratios.keep_best(next, i);
        if (by_count) {
#pragma unroll
            for (int k = 0; k < 4; k++)
                before_it.add(others.v[k] > logit);
        } else {
#pragma unroll
            for (int k = 0; k < 4; k++)
                before_it.add(mass_of(others.v[k], largest));
        }
    }
    leave_wide(before_it.low, before_it.high, sums);
    next = block_best(next, bests);
    const uint64_t before = sum_wide(sums);
    const bool stays =
        by_count
            ? before < (uint64_t)rules.top_k
            : before == 0 || before + (rules.tempered ? 0 : mass_of(logit, largest)) <= rules.share;
    if (!stays)
        best = next;
    return stays;
}

/* Of entries that may be chosen the one with the largest probability / noise is. So it is looked
 * for among all first: it stays if top-k and top-p leave it, which is a question of what stands
 * before it alone. If not, nothing that stands behind it is left either, and it is looked for among
 * those before it. `largest`: the best logit. */
template <bool LARGE, class FOLLOW>
UT_DEVICE best_entry draw_entry(const cu_sample_args &a, int slot, sample_shared *s,
                                const sample_params &known, float largest, FOLLOW &follow)
{
    const sample_rows rows = rows_of<LARGE>(a, slot, s);
    const int n = a.n;
    float *probs = a.probs ? a.probs + slot * a.probs_slot : NULL;
    const float top_k = known.top_k, top_p = known.top_p;
    const bool tempered = a.temper_first != 0;
    entry_rules rules = {0.0f, top_p, tempered, 0};
    kept_entries kept = {-3.402823466e38f, n};
    int turn = 0;
    if (tempered && top_k >= 1.0f && top_k < (float)n)
        rules.top_k = top_k;
    if (rules.top_k > 0.0f && (probs || top_p < 1.0f)) { /* all that it leaves is asked for */
        narrow<LARGE>(rows.logits, n, largest, false, top_k, tempered, s->digits, turn, kept);
        rules.top_k = 0.0f;
    }
    if (probs && top_p < 1.0f) {
        narrow<LARGE>(rows.logits, n, largest, true, top_p, tempered, s->digits, turn, kept);
        rules.top_p = 1.0f;
    }
    const bool by_mass = rules.top_p < 1.0f;
    const float factor = tempered ? 1.0f : known.inverse_t, shift = largest * factor;
    mass_sums all = {0, 0};
    float sum = 0.0f;
    best_entry best = {-1.0f, 0x7fffffff};
#pragma unroll 1
    for (int i = 4 * threadIdx.x; i < n; i += 4 * CU_THREADS) {
        four_floats logits, ratios, e;
        logits.read(rows.logits + i);
        ratios.read(rows.ratios + i);
#pragma unroll
        for (int k = 0; k < 4; k++) {
            logits.v[k] = is_kept(kept, logits.v[k], i + k) ? logits.v[k] : -INFINITY;
            e.v[k] = expf(logits.v[k] * factor - shift);
            ratios.v[k] = e.v[k] * fabsf(ratios.v[k]);
            sum += e.v[k];
        }
        ratios.keep_best(best, i);
        store_group(rows.ratios + i, ratios.v);
        if (by_mass) {
#pragma unroll
            for (int k = 0; k < 4; k++)
                all.add(mass_of(logits.v[k], largest));
        }
        for (int k = 0; probs && k < 4; k++)
            if (i + k < n)
                probs[i + k] = e.v[k];
    }
    uint32_t *sums = s->sums[0];
    best_entry *bests = s->bests + UT_WARPS;
    if (by_mass)
        leave_wide(all.low, all.high, sums);
    best = block_best(best, bests);
    if (by_mass)
        rules.share = limit_of(true, top_p, tempered, sum_wide(sums));
    if (probs) {
        sum = block_sum(sum, (float *)sums);
        for (int i = threadIdx.x; i < n; i += CU_THREADS)
            probs[i] /= sum;
    }
#pragma unroll 1
    while (best.index < n && (by_mass || rules.top_k > 0.0f)) { /* every time fewer are left */
        follow.expect(id_of(a, best));
        sums = sums == s->sums[0] ? s->sums[1] : s->sums[0]; /* slower threads may read the other */
        bests = bests == s->bests ? s->bests + UT_WARPS : s->bests;
        if (entry_stays(rows, n, largest, rules, kept, best, sums, bests))
            break;
    }
    return best;
}

/* After prepare_entries. logits: the slot's. */
template <bool LARGE, class LOGITS, class FOLLOW>
UT_DEVICE void choose_entry(const cu_sample_args &a, int slot, sample_shared *s,
                            const LOGITS &logits, FOLLOW &follow)
{
    const sample_rows rows = rows_of<LARGE>(a, slot, s);
    const sample_params known = s->params;
    const bool random_choice = known.temperature > 0.0f;
    const logit_rules rules = {known.penalty, known.inverse_penalty,
                               random_choice && a.temper_first ? known.inverse_t : 1.0f,
                               a.id_extra >= 0 && known.frame < a.extra_from_frame ? a.n - 1 : -1};
    best_entry best = block_best(take_logits(logits, a.n, rows, rules), s->bests);
    if (random_choice)
        best = draw_entry<LARGE>(a, slot, s, known, best.value, follow);
    const int32_t id = id_of(a, best);
    follow.expect(id);
    if (threadIdx.x == 0) {
        if (a.penalty == PENALTY_ALL)
            a.history[slot * a.history_slot + (best.index < a.n ? best.index : 0)] = 1;
        a.dst[slot * a.dst_slot + a.col] = id;
    }
    float *probs = a.probs ? a.probs + slot * a.probs_slot : NULL;
    for (int i = threadIdx.x; probs && !random_choice && i < a.n; i += CU_THREADS)
        probs[i] = i == best.index ? 1.0f : 0.0f;
}

/* The two parts of a decision. shared: CU_SAMPLE_FIXED bytes and, without a.work, 8
 * CU_SAMPLE_ROW(a.n) more. */
UT_DEVICE_APART void sample_prepare(const cu_sample_args &a, int slot, void *shared)
{
    if (a.work)
        prepare_entries<true>(a, slot, (sample_shared *)shared);
    else
        prepare_entries<false>(a, slot, (sample_shared *)shared);
}

template <class LOGITS, class FOLLOW>
UT_DEVICE void sample_choose(const cu_sample_args &a, int slot, void *shared, const LOGITS &logits,
                             FOLLOW &follow)
{
    if (a.work)
        choose_entry<true>(a, slot, (sample_shared *)shared, logits, follow);
    else
        choose_entry<false>(a, slot, (sample_shared *)shared, logits, follow);
}

UT_DEVICE void sample_slot(const cu_sample_args &a, int slot, void *shared)
{
    const plain_logits logits = {a.logits + slot * a.logits_slot, {0.0f, 0.0f, 0.0f, 0.0f}};
    nothing_follows nothing;
    sample_prepare(a, slot, shared);
    sample_choose(a, slot, shared, logits, nothing);
}
