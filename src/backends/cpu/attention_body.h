/* attention_body.h - attention of one position over a ring of cached keys and values, for one ISA:
 * included once per attention_<isa>.c after simd_<isa>.h and simd_math.h, with MAX_REP defined.
 *
 * Three passes over the positions: scores (lanes across the head's dimensions, four keys at a time
 * so that four sums fold together), softmax, and the weighted sum of values (one chain over the
 * positions per dimension). Keys and values are loaded once for up to MAX_REP heads. */

#define INLINE static inline __attribute__((always_inline))
#if defined(__clang__)
#define UNROLL _Pragma("clang loop unroll(full)")
#else
#define UNROLL _Pragma("GCC unroll 16")
#endif

enum { KEYS = 4 };

INLINE vf load_cached(bool bf16, const void *p, int64_t at, int32_t n)
{
    return bf16 ? v_load_bf16_n((const uint16_t *)p + at, n) : v_load_n((const float *)p + at, n);
}

/* scores[h][i] = scale q[h] . k[row of i] for `reps` heads; scores of a head are n_pad apart. */
INLINE void score(bool bf16, int reps, const ut_attention_job *j, const float *q, float *scores,
                  int32_t n_pad)
{
    const vf scale = v_set(j->scale);
    for (int32_t i = 0; i < j->n; i += KEYS) {
        int64_t at[KEYS];
        UNROLL for (int c = 0; c < KEYS; c++)
        {
            /* keys past the last repeat it; their scores are never read */
            const int32_t key = i + c < j->n ? i + c : j->n - 1;
            const int32_t row = j->first + key;
            at[c] = (row >= j->capacity ? row - j->capacity : row) * j->stride;
        }
        vf dot[MAX_REP][KEYS];
        UNROLL for (int h = 0; h < reps; h++)
        {
            UNROLL for (int c = 0; c < KEYS; c++) dot[h][c] = v_zero();
        }
        for (int32_t d = 0; d < j->dim; d += VW) {
            vf qd[MAX_REP];
            UNROLL for (int h = 0; h < reps; h++) qd[h] = v_load_n(q + h * j->dim + d, j->dim - d);
            UNROLL for (int c = 0; c < KEYS; c++)
            {
                const vf kd = load_cached(bf16, j->k, at[c] + d, j->dim - d);
                UNROLL for (int h = 0; h < reps; h++) dot[h][c] = v_fma(qd[h], kd, dot[h][c]);
            }
        }
        UNROLL for (int h = 0; h < reps; h++) v_sum4(scores + (int64_t)h * n_pad + i, dot[h]);
    }
    for (int h = 0; h < reps; h++)
        for (int32_t i = 0; i < j->n; i += VW) {
            float *s = scores + (int64_t)h * n_pad + i;
            v_store_n(s, v_mul(v_load_n(s, j->n - i), scale), j->n - i);
        }
}

/* Weights from scores, in place; 1 / their sum. */
static float softmax_weights(float *s, int32_t n)
{
    float max = s[0];
    int32_t i = 0;
    if (n >= VW) {
        vf m = v_load(s);
        for (i = VW; i + VW <= n; i += VW)
            m = v_max(v_load(s + i), m);
        max = v_largest(m);
    }
    for (; i < n; i++)
        max = s[i] > max ? s[i] : max;
    vf total = v_zero();
    const vf m = v_set(max);
    for (i = 0; i + VW <= n; i += VW) {
        const vf e = v_exp(v_sub(v_load(s + i), m));
        v_store(s + i, e);
        total = v_add(total, e);
    }
    float tail = 0;
    if (i < n) {
        v_store_n(s + i, v_exp(v_sub(v_load_n(s + i, n - i), m)), n - i);
        for (; i < n; i++)
            tail += s[i];
    }
    return 1.0f / (v_sum(total) + tail);
}

/* Dimensions [d, d + n_vec vectors) of the weighted sums of values. */
INLINE void weigh(bool bf16, int reps, int n_vec, const ut_attention_job *j, const float *scores,
                  int32_t n_pad, const float *inv, float *y, int32_t d)
{
    vf sum[MAX_REP][8];
    UNROLL for (int h = 0; h < reps; h++)
    {
        UNROLL for (int b = 0; b < n_vec; b++) sum[h][b] = v_zero();
    }
    int32_t row = j->first;
    for (int32_t i = 0; i < j->n; i++) {
        const int64_t at = row * j->stride + d;
        row = row + 1 == j->capacity ? 0 : row + 1;
        vf p[MAX_REP];
        UNROLL for (int h = 0; h < reps; h++) p[h] = v_set(scores[(int64_t)h * n_pad + i]);
        UNROLL for (int b = 0; b < n_vec; b++)
        {
            const vf vd = load_cached(bf16, j->v, at + b * VW, j->dim - d - b * VW);
            UNROLL for (int h = 0; h < reps; h++) sum[h][b] = v_fma(p[h], vd, sum[h][b]);
        }
    }
    UNROLL for (int h = 0; h < reps; h++)
    {
        UNROLL for (int b = 0; b < n_vec; b++) v_store_n(
            y + h * j->dim + d + b * VW, v_mul(sum[h][b], v_set(inv[h])), j->dim - d - b * VW);
    }
}

INLINE void attend_heads(bool bf16, int reps, const ut_attention_job *j, const float *q, float *y)
{
    const int32_t n_pad = (j->n + 15) / 16 * 16;
    float inv[MAX_REP];
    score(bf16, reps, j, q, j->scores, n_pad);
    for (int h = 0; h < reps; h++)
        inv[h] = softmax_weights(j->scores + (int64_t)h * n_pad, j->n);
    const int wide = reps == 1 ? 8 : 4;
    int32_t d = 0;
    for (; d + wide * VW <= j->dim; d += wide * VW)
        weigh(bf16, reps, wide, j, j->scores, n_pad, inv, y, d);
    for (; d < j->dim; d += VW)
        weigh(bf16, reps, 1, j, j->scores, n_pad, inv, y, d);
}

INLINE void attend(bool bf16, const ut_attention_job *j)
{
    int32_t h = 0;
    while (h < j->n_rep) {
        const float *q = j->q + (int64_t)h * j->dim;
        float *y = j->y + (int64_t)h * j->dim;
        const int32_t left = j->n_rep - h;
#if MAX_REP >= 4
        if (left >= 4) {
            attend_heads(bf16, 4, j, q, y);
            h += 4;
            continue;
        }
#endif
        if (left >= 2) {
            attend_heads(bf16, 2, j, q, y);
            h += 2;
        } else {
            attend_heads(bf16, 1, j, q, y);
            h++;
        }
    }
}

static void attention(const ut_attention_job *j)
{
    if (j->bf16)
        attend(true, j);
    else
        attend(false, j);
}
