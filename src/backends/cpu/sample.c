/* sample.c - the sampler. The descending order that top-p asks for is only made as far as it is
 * needed: entries within some distance of the best go to a heap, and popping it stops at the first
 * one that top-p drops. What comes out equals a full stable sort. */
#include "backends/cpu/sample.h"
#include "base/philox.h"
#include <math.h>
#include <string.h>

typedef struct sampler {
    const float *logits; /* after the penalty */
    int32_t *heap;       /* entries; the heap shrinks from the end, where the kept ones gather */
} sampler;

size_t ut_sample_scratch_floats(int32_t n)
{
    return 4 * (size_t)n;
}

static float penalised(float logit, float penalty)
{
    return logit < 0 ? logit * penalty : logit * (1.0f / penalty);
}

static void penalise(float *logits, const ut_sample_job *j)
{
    for (int32_t i = 0; j->chosen_before && i < j->n; i++)
        if (j->chosen_before[i])
            logits[i] = penalised(logits[i], j->penalty);
    for (int32_t i = 0; i < j->n_penalised; i++) {
        const int32_t entry = j->penalised[i];
        bool seen = false;
        for (int32_t p = 0; p < i; p++)
            seen |= j->penalised[p] == entry;
        if (!seen)
            logits[entry] = penalised(logits[entry], j->penalty);
    }
    if (j->without_last)
        logits[j->n - 1] = -INFINITY;
}

static int32_t first_largest(const float *x, int32_t n)
{
    int32_t best = 0;
    for (int32_t i = 1; i < n; i++)
        if (x[i] > x[best])
            best = i;
    return best;
}

/* Does a come before b: larger logit, or the same and a lower index? */
static bool before(const sampler *s, int32_t a, int32_t b)
{
    const float x = s->logits[a], y = s->logits[b];
    return x > y || (x == y && a < b);
}

static void sift_down(const sampler *s, int32_t n, int32_t at)
{
    const int32_t entry = s->heap[at];
    for (int32_t child; (child = 2 * at + 1) < n; at = child) {
        if (child + 1 < n && before(s, s->heap[child + 1], s->heap[child]))
            child++;
        if (!before(s, s->heap[child], entry))
            break;
        s->heap[at] = s->heap[child];
    }
    s->heap[at] = entry;
}

/* Entries whose logit is at least `floor`, as a heap; their number. */
static int32_t gather(const sampler *s, int32_t n, float floor, const float *e, float *mass)
{
    int32_t count = 0;
    float sum = 0;
    for (int32_t i = 0; i < n; i++)
        if (s->logits[i] >= floor) {
            s->heap[count++] = i;
            sum += e[i];
        }
    *mass = sum;
    for (int32_t i = count / 2; i-- > 0;)
        sift_down(s, count, i);
    return count;
}

/* Pop entries until top-p drops one. Kept ones end at heap[count), best last. False: the heap ran
 * empty before. */
static bool pop_kept(const sampler *s, int32_t count, const float *e, float total, float top_p,
                     int32_t *n_kept)
{
    float cumulative = 0;
    int32_t kept = 0;
    while (count > 0) {
        const int32_t best = s->heap[0];
        cumulative += e[best] / total;
        if (kept > 0 && top_p < 1.0f && cumulative > top_p) /* rounding may exceed 1 */
            break;
        count--;
        s->heap[0] = s->heap[count];
        s->heap[count] = best;
        kept++;
        if (count > 0)
            sift_down(s, count, 0);
    }
    *n_kept = kept;
    return count > 0;
}

/* Keep the top-p entries: they end at heap[n_heap), best last. Returns how many. */
static int32_t keep(const sampler *s, int32_t n, int32_t *n_heap, const float *e, float total,
                    float max, float top_p)
{
    /* Distances from the best logit, in nats: most decisions are settled by the first. */
    static const float distance[] = {4.0f, 9.0f, 18.0f, INFINITY};
    const size_t last = sizeof distance / sizeof distance[0] - 1;
    int32_t kept = 0;
    for (size_t d = 0;; d++) {
        float mass;
        *n_heap = gather(s, n, max - distance[d], e, &mass);
        if (d < last && !(mass / total > top_p))
            continue; /* surely too few */
        if (pop_kept(s, *n_heap, e, total, top_p, &kept) || d == last)
            return kept;
    }
}

/* The best of heap[0..n), taken off it: it then stands behind the heap's end. */
static int32_t pop(const sampler *s, int32_t n)
{
    const int32_t best = s->heap[0];
    s->heap[0] = s->heap[n - 1];
    s->heap[n - 1] = best;
    if (n > 1)
        sift_down(s, n - 1, 0);
    return best;
}

/* Keep what top-k and then top-p leave of tempered logits, as keep() does. */
static int32_t keep_tempered(const sampler *s, int32_t n, int32_t *n_heap, float *e,
                             const ut_sample_job *j)
{
    float unused;
    int32_t left = *n_heap = gather(s, n, -INFINITY, e, &unused);
    const float best = left ? s->logits[s->heap[0]] : -INFINITY;
    float last = best;
    double total = 0, before = 0;
    int32_t kept = 0, most_likely = 0;
    for (; left > 0; kept++) {
        const float next = s->logits[s->heap[0]];
        if (next == -INFINITY || (j->top_k > 0 && kept >= j->top_k && next < last))
            break;
        last = next;
        const int32_t entry = pop(s, left--);
        e[entry] = expf(next - best);
        total += (double)e[entry];
    }
    if (j->top_p >= 1)
        return kept;
    while (most_likely < kept && (most_likely == 0 || before < (double)j->top_p * total))
        before += (double)e[s->heap[*n_heap - ++most_likely]];
    return most_likely;
}

static float noise_of(const ut_sample_job *j, int32_t entry)
{
    if (j->noise)
        return j->noise[entry];
    uint32_t out[4];
    const uint32_t counter[4] = {(uint32_t)entry / 4, j->frame, j->decision, 0};
    ut_philox4x32(out, counter, j->seed);
    return -logf(ut_philox_uniform(out[entry % 4]));
}

int32_t ut_sample(const ut_kernels *k, const ut_sample_job *j)
{
    float *logits = j->scratch, *e = logits + j->n, *values = e + j->n;
    const sampler s = {logits, (int32_t *)(void *)(values + j->n)};
    memcpy(logits, j->logits, (size_t)j->n * sizeof *logits);
    penalise(logits, j);
    if (j->probs)
        memset(j->probs, 0, (size_t)j->n * sizeof *j->probs);
    if (j->temperature <= 0) {
        const int32_t best = first_largest(logits, j->n);
        if (j->probs)
            j->probs[best] = 1.0f;
        return best;
    }
    const float inverse_t = 1.0f / (j->temperature > 1e-5f ? j->temperature : 1e-5f);
    int32_t n_heap, kept;
    if (j->narrowing == UT_TEMPER_FIRST) {
        for (int32_t i = 0; i < j->n; i++)
            logits[i] *= inverse_t;
        kept = keep_tempered(&s, j->n, &n_heap, e, j);
    } else {
        const float max = k->max(logits, j->n);
        const float total = k->exp_sum(e, logits, max, 1.0f, j->n);
        kept = keep(&s, j->n, &n_heap, e, total, max, j->top_p);
    }
    const int32_t *entries = s.heap + n_heap - kept;
    if (kept == 0) /* every logit is NaN, or none may be chosen */
        return 0;
    for (int32_t i = 0; i < kept; i++)
        values[i] =
            j->narrowing == UT_TEMPER_FIRST ? logits[entries[i]] : logits[entries[i]] * inverse_t;
    const float sum = k->exp_sum(values, values, values[kept - 1], 1.0f, kept);
    int32_t chosen = entries[kept - 1];
    float best = -1.0f;
    for (int32_t i = kept; i-- > 0;) {
        const float p = values[i] / sum, ratio = p / noise_of(j, entries[i]);
        if (j->probs)
            j->probs[entries[i]] = p;
        if (ratio > best || (ratio == best && entries[i] < chosen)) {
            best = ratio;
            chosen = entries[i];
        }
    }
    return chosen;
}
