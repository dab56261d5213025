/* attention_body.h - attention of some positions over a ring of cached keys and values, for one
 * ISA: included once per attention_<isa>.c after simd_<isa>.h and simd_math.h, with MAX_REP
 * defined.
 *
 * Three passes: scores (lanes across the head's dimensions, four keys at a time so that four sums
 * fold together), softmax, and the weighted sum of values (one chain over the positions per
 * dimension). The first and the last go over the positions block by block, all rows at each block,
 * so that keys and values come from far memory once; between blocks a row's sums wait in y, which
 * changes no bit. For several rows a block is first brought together as f32: positions lie a power
 * of two apart in the caches, where they would push each other out of the processor's. Within a
 * block keys and values are loaded once for up to MAX_REP heads. */

#define INLINE static inline __attribute__((always_inline))
#if defined(__clang__)
#define UNROLL _Pragma("clang loop unroll(full)")
#else
#define UNROLL _Pragma("GCC unroll 16")
#endif

enum {
    KEYS = 4,       /* that fold their sums together */
    GATHER_ROWS = 4 /* from how many rows on a block is brought together */
};

/* Keys or values: position p at data[p % capacity * stride]. */
typedef struct cached {
    const void *data;
    int64_t stride;
    int32_t capacity;
} cached;

INLINE vf load_cached(bool bf16, const void *p, int64_t at, int32_t n)
{
    return bf16 ? v_load_bf16_n((const uint16_t *)p + at, n) : v_load_n((const float *)p + at, n);
}

/* scores[h][i] = scale q[h] . k[position first + i] for `reps` heads, i < n; a head's scores are
 * n_pad apart. Up to KEYS - 1 scores past n are written too. */
INLINE void score(bool bf16, int reps, const ut_attention_job *j, const cached *k, const float *q,
                  float *scores, int32_t n_pad, int32_t first, int32_t n)
{
    const vf scale = v_set(j->scale);
    const int32_t first_row = first % k->capacity;
    for (int32_t i = 0; i < n; i += KEYS) {
        int64_t at[KEYS];
        UNROLL for (int c = 0; c < KEYS; c++)
        {
            /* keys past the last repeat it; nobody reads their scores */
            const int32_t row = first_row + (i + c < n ? i + c : n - 1);
            at[c] = (row >= k->capacity ? row - k->capacity : row) * k->stride;
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
                const vf kd = load_cached(bf16, k->data, at[c] + d, j->dim - d);
                UNROLL for (int h = 0; h < reps; h++) dot[h][c] = v_fma(qd[h], kd, dot[h][c]);
            }
        }
        UNROLL for (int h = 0; h < reps; h++) v_sum4(scores + (int64_t)h * n_pad + i, dot[h]);
    }
    for (int h = 0; h < reps; h++)
        for (int32_t i = 0; i < n; i += VW) {
            float *s = scores + (int64_t)h * n_pad + i;
            v_store_n(s, v_mul(v_load_n(s, n - i), scale), n - i);
        }
}

/* Weights that add up to one from scores, in place. */
static void softmax(float *s, int32_t n)
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
    const vf inv = v_set(1.0f / (v_sum(total) + tail));
    for (i = 0; i < n; i += VW)
        v_store_n(s + i, v_mul(v_load_n(s + i, n - i), inv), n - i);
}

/* Dimensions [d, d + n_vec vectors) of the weighted sums of values at positions first + i, i < n,
 * added to those in y; begin: y is zero. */
INLINE void weigh(bool bf16, int reps, int n_vec, const ut_attention_job *j, const cached *v,
                  const float *weights, int32_t n_pad, float *y, int32_t d, int32_t first,
                  int32_t n, bool begin)
{
    vf sum[MAX_REP][8];
    UNROLL for (int h = 0; h < reps; h++)
    {
        UNROLL for (int b = 0; b < n_vec; b++) sum[h][b] =
            begin ? v_zero() : v_load_n(y + h * j->dim + d + b * VW, j->dim - d - b * VW);
    }
    int32_t row = first % v->capacity;
    for (int32_t i = 0; i < n; i++) {
        const int64_t at = row * v->stride + d;
        row = row + 1 == v->capacity ? 0 : row + 1;
        vf p[MAX_REP];
        UNROLL for (int h = 0; h < reps; h++) p[h] = v_set(weights[(int64_t)h * n_pad + i]);
        UNROLL for (int b = 0; b < n_vec; b++)
        {
            const vf vd = load_cached(bf16, v->data, at + b * VW, j->dim - d - b * VW);
            UNROLL for (int h = 0; h < reps; h++) sum[h][b] = v_fma(p[h], vd, sum[h][b]);
        }
    }
    UNROLL for (int h = 0; h < reps; h++)
    {
        UNROLL for (int b = 0; b < n_vec; b++)
            v_store_n(y + h * j->dim + d + b * VW, sum[h][b], j->dim - d - b * VW);
    }
}

/* The part [*from, *from + n) of block [at, at + UT_ATTENTION_BLOCK) that a row sees; n. */
INLINE int32_t seen(const ut_attention_job *j, int32_t r, int32_t at, int32_t *first, int32_t *from)
{
    const int32_t pos = j->pos + r;
    *first = pos - j->reach + 1 > 0 ? pos - j->reach + 1 : 0;
    *from = at > *first ? at : *first;
    return (at + UT_ATTENTION_BLOCK < pos + 1 ? at + UT_ATTENTION_BLOCK : pos + 1) - *from;
}

/* The block's positions that lie before end as f32, one after another, in j->block. */
INLINE cached bring_together(bool bf16, const ut_attention_job *j, const cached *from, int32_t at,
                             int32_t end)
{
    for (int32_t i = 0; i < UT_ATTENTION_BLOCK && at + i < end; i++) {
        const int64_t row = (at + i) % from->capacity * from->stride;
        float *dst = j->block + (int64_t)((at + i) % UT_ATTENTION_BLOCK) * j->dim;
        for (int32_t d = 0; d < j->dim; d += VW)
            v_store_n(dst + d, load_cached(bf16, from->data, row + d, j->dim - d), j->dim - d);
    }
    return (cached){j->block, j->dim, UT_ATTENTION_BLOCK};
}

/* The scores of all rows with one block of keys. */
INLINE void score_block(bool bf16, int reps, const ut_attention_job *j, const cached *k,
                        const float *q, int32_t n_pad, int32_t at)
{
    for (int32_t r = 0; r < j->n_rows; r++) {
        int32_t first, from;
        const int32_t n = seen(j, r, at, &first, &from);
        if (n > 0)
            score(bf16, reps, j, k, q + r * j->row_stride,
                  j->scores + (int64_t)r * reps * n_pad + (from - first), n_pad, from, n);
    }
}

/* One block of values into the sums of all rows. */
INLINE void weigh_block(bool bf16, int reps, const ut_attention_job *j, const cached *v, float *y,
                        int32_t n_pad, int32_t at)
{
    const int wide = reps == 1 ? 8 : 4;
    for (int32_t r = 0; r < j->n_rows; r++) {
        int32_t first, from, d = 0;
        const int32_t n = seen(j, r, at, &first, &from);
        if (n <= 0)
            continue;
        const float *w = j->scores + (int64_t)r * reps * n_pad + (from - first);
        float *dst = y + r * j->row_stride;
        for (; d + wide * VW <= j->dim; d += wide * VW)
            weigh(bf16, reps, wide, j, v, w, n_pad, dst, d, from, n, from == first);
        for (; d < j->dim; d += VW)
            weigh(bf16, reps, 1, j, v, w, n_pad, dst, d, from, n, from == first);
    }
}

INLINE void attend_heads(bool bf16, int reps, const ut_attention_job *j, const float *q, float *y)
{
    const int32_t end = j->pos + j->n_rows, longest = end < j->reach ? end : j->reach;
    const int32_t n_pad = (longest + KEYS + 15) / 16 * 16;
    const int32_t start = j->pos - j->reach + 1 > 0 ? j->pos - j->reach + 1 : 0;
    const cached k = {j->k, j->kv_stride, j->capacity}, v = {j->v, j->kv_stride, j->capacity};
    for (int32_t at = start; at < end; at += UT_ATTENTION_BLOCK)
        if (j->n_rows >= GATHER_ROWS) {
            const cached near = bring_together(bf16, j, &k, at, end);
            score_block(false, reps, j, &near, q, n_pad, at);
        } else {
            score_block(bf16, reps, j, &k, q, n_pad, at);
        }
    for (int32_t r = 0; r < j->n_rows; r++)
        for (int h = 0; h < reps; h++) {
            const int32_t pos = j->pos + r, n = pos + 1 < j->reach ? pos + 1 : j->reach;
            softmax(j->scores + ((int64_t)r * reps + h) * n_pad, n);
        }
    for (int32_t at = start; at < end; at += UT_ATTENTION_BLOCK)
        if (j->n_rows >= GATHER_ROWS) {
            const cached near = bring_together(bf16, j, &v, at, end);
            weigh_block(false, reps, j, &near, y, n_pad, at);
        } else {
            weigh_block(bf16, reps, j, &v, y, n_pad, at);
        }
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
