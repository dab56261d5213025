/* plan.h - a model's computation as a flat list of operations over numbered tensors.
 *
 * A plan is written once, by model code through the ut_op_* builders below, and is then static:
 * backends compile it (choose kernels, pack weights, place tensors) and run it without asking
 * anything. The only number bound at run time is T, the count of new time steps; everything else
 * that changes from run to run (positions, counters, sampling parameters, caches, histories) lives
 * in state tensors, on the side of the backend.
 *
 * Shapes. A tensor is [B, rows, cols]: B slots (independent sequences), rows = rows_per_t * T +
 * rows_fixed, cols constant. Weights have no B. Time-major everywhere: one time step of a
 * convolution's signal is a row of C channels, so a causal convolution is a linear over a window
 * of rows, a strided one the same over a reshaped view, a transposed one a linear whose output is
 * reshaped back.
 *
 * The contract of every operation: row t of a result does not depend on T, on the number of
 * threads or on other slots, bit for bit (one backend, one build). Exact streaming and batch
 * independence are nothing but this. One exception: on a GPU a slot that decodes beside many others
 * may have other last bits than beside few, where matrices are bf16. */
#ifndef UT_PLAN_PLAN_H
#define UT_PLAN_PLAN_H

#include "base/dtype.h"
#include "base/err.h"
#include "plan/weight.h"
#include <stdbool.h>
#include <stdint.h>

typedef int32_t ut_tid; /* a tensor's number in its plan */
#define UT_NONE ((ut_tid)-1)

/* ---- State: what survives from run to run, shared by the plans of one set ------------------- */

#define UT_STATE_MAX 160

typedef struct ut_state_def {
    const char *name;   /* borrowed */
    ut_dtype dtype;     /* f32, bf16 or i32 */
    int32_t rows, cols; /* per slot; zero when new */
    bool keep;          /* no row is read before the sequence wrote it (key and value caches): a
                           reset leaves the contents, which may be gigabytes, as they are */
} ut_state_def;

/* The state tensors of one kind of sequence (an AR loop, a codec stream). Owned by the model and
 * constant once plans are built from it. */
typedef struct ut_state_set {
    int n;
    ut_state_def def[UT_STATE_MAX];
    bool urgent; /* where runs of several states take place at a time, these go first */
} ut_state_set;

/* Append a definition; its index, or -1 when the set is full. */
int ut_state_set_add(ut_state_set *s, const char *name, ut_dtype dtype, int32_t rows, int32_t cols);
size_t ut_state_def_bytes(const ut_state_def *d); /* of one slot */

/* ---- Tensors -------------------------------------------------------------------------------- */

typedef enum ut_role {
    UT_TEMP,   /* lives between its first write and last read inside one run */
    UT_INPUT,  /* written by the host before a run */
    UT_OUTPUT, /* kept after a run for the host to read */
    UT_STATE,  /* state set entry `state` */
    UT_VIEW    /* the memory of `base` seen as other rows x cols */
} ut_role;

typedef struct ut_tensor {
    const char *name; /* of inputs, outputs and taps; NULL for anonymous */
    ut_role role;
    ut_dtype dtype; /* f32 or i32; states as their definition */
    int32_t rows_per_t, rows_fixed, cols;
    int32_t lead;  /* rows of history kept in memory directly before row 0 (convolutions) */
    int32_t state; /* index in the state set, role UT_STATE */
    ut_tid base;   /* role UT_VIEW */
} ut_tensor;

/* ---- Operations ----------------------------------------------------------------------------- */

typedef enum ut_op_kind {
    UT_OP_EMBED_SUM,
    UT_OP_GATHER,
    UT_OP_GATHER_SUM,
    UT_OP_COPY_ROWS,
    UT_OP_COPY_COLS,
    UT_OP_RMS_NORM,
    UT_OP_LAYER_NORM,
    UT_OP_LINEAR,
    UT_OP_ROPE_ANGLES,
    UT_OP_QKV,
    UT_OP_ATTENTION,
    UT_OP_SWIGLU,
    UT_OP_SNAKE,
    UT_OP_ACT,
    UT_OP_SCALE,
    UT_OP_POOL,
    UT_OP_REFLECT,
    UT_OP_TRIM,
    UT_OP_CONV_HISTORY,
    UT_OP_DWCONV,
    UT_OP_NEAREST,
    UT_OP_SAMPLE,
    UT_OP_TOKEN_CODE,
    UT_OP_RING_PUT,
    UT_OP_RING_GET,
    UT_OP_ADVANCE,
    UT_OP_COUNT
} ut_op_kind;

typedef enum ut_act {
    UT_ACT_NONE,
    UT_ACT_GELU, /* the exact one: v/2 (1 + erf(v / sqrt 2)) */
    UT_ACT_TANH,
    UT_ACT_SNAKE, /* v + sin^2(alpha v) / (beta + 1e-9) */
    UT_ACT_SILU,  /* v / (1 + e^-v) */
    UT_ACT_SIGMOID,
    UT_ACT_RELU,
    UT_ACT_ELU,  /* v > 0 ? v : e^v - 1 */
    UT_ACT_CLAMP /* to [-1, 1] */
} ut_act;

/* Which elements of a head's vector turn together. */
typedef enum ut_rope {
    UT_ROPE_PAIRS, /* 2i and 2i + 1 */
    UT_ROPE_HALVES /* i and i + dim/2 */
} ut_rope;

/* How a decision's repetition penalty collects the ids it penalises. The first two look at a ring
 * of the last frames (state `history`, i32 [16, columns], frame f >= 1 in row (f - 1) % 16, zeros
 * before it is filled; f is the state `frame`, and nothing is penalised while it is 0). */
typedef enum ut_penalty {
    UT_PENALTY_NONE,
    UT_PENALTY_FIRST_COLUMN, /* all ids of the oldest frame of the window: row 0 while
                                f - 1 < 16, else row (f - 1) % 16 */
    UT_PENALTY_CODEBOOK,     /* ids of one column over the whole window */
    UT_PENALTY_ALL           /* what this decision chose before in the sequence: state `history`,
                                i32 [1, N], is not 0 at those entries; the op marks its choice */
} ut_penalty;

/* In which order a decision narrows down its choice. */
typedef enum ut_narrowing {
    UT_TOP_P_FIRST, /* top-p on the un-tempered distribution (sorted descending, ties by index; the
                       entry whose cumulative probability exceeds top_p goes too), temperature */
    UT_TEMPER_FIRST /* temperature; top-k: what is below the k-th largest goes, 0 keeps all; top-p:
                       an entry stays while those more likely sum to less than top_p */
} ut_narrowing;

#define UT_HISTORY_FRAMES 16

/* Sampling parameters of a slot: state f32 [rows, UT_SP_COUNT], a row for each kind of decision. */
enum { UT_SP_TEMPERATURE, UT_SP_TOP_P, UT_SP_REPETITION_PENALTY, UT_SP_TOP_K, UT_SP_COUNT };
/* Random state of a slot: state i32 [1, UT_RNG_COUNT]: seed, low and high half. */
enum { UT_RNG_SEED_LO, UT_RNG_SEED_HI, UT_RNG_COUNT };

/* Operands by kind (an optional one that is absent is UT_NONE or NULL):
 *   EMBED_SUM     in ids                                             w E, CE             out y
 *   GATHER        in ids                                             w table             out y
 *   GATHER_SUM    in ids, residual, extra                            w table             out y
 *   COPY_ROWS     in src                                                                 out dst
 *   COPY_COLS     in src                                                                 out dst
 *   RMS_NORM      in x                                               w gain              out y
 *   LAYER_NORM    in x                                               w gain, bias        out y
 *   LINEAR        in x, residual                            w W, bias, gamma, alpha, beta  out y
 *   ROPE_ANGLES   in pos                                                                 out y
 *   QKV           in qkv, angles, cache_k, cache_v, pos              w q_norm, k_norm    out q
 *   ATTENTION     in q, UT_NONE, cache_k, cache_v, pos                                   out y
 *   SWIGLU        in x                                                                   out y
 *   SNAKE         in x                                               w alpha, beta       out y
 *   ACT           in x                                                                   out y
 *   SCALE         in x, gain, residual                                                   out y
 *   POOL          in x, logits                                                           out y
 *   REFLECT       in x                                                                   out y
 *   TRIM          in x, count
 *   CONV_HISTORY  in x, state, pos
 *   DWCONV        in x                                               w W, bias           out y
 *   NEAREST       in e                                               w table             out codes
 *   SAMPLE        in logits, params, rng, frame, history, noise                     out dst, probs
 *   TOKEN_CODE                                                                           out column
 *   RING_PUT      in column, frame, history                                              out ring
 *   RING_GET      in ring, counter                                                       out y
 *   ADVANCE                                                                              out
 * counter
 */
typedef struct ut_op {
    ut_op_kind kind;
    ut_tid in[6];
    ut_tid out[2];
    const ut_weight *w[5];
    union {
        struct {
            int32_t begin, end, codebook_size;
            float scale;
        } embed_sum;
        struct {
            int32_t first_col, n_cols, dst_row;
            const int32_t *sizes;
            float scale; /* GATHER_SUM */
        } gather;
        struct {
            int32_t src_row, n_rows, dst_row; /* n_rows 0: all of them */
        } copy_rows;
        struct {
            int32_t src_col, n_cols, dst_col;
            bool add;
        } copy_cols;
        struct {
            int32_t left, right;
        } reflect;
        struct {
            int32_t unit;
            bool repeat;
        } trim;
        struct {
            int32_t unit; /* elements of the first row that stand for earlier ones; 0: none do */
        } history;
        struct {
            int32_t offset, add;
        } ring_get;
        struct {
            float eps;
        } norm;
        struct {
            int32_t taps, dilation;
            ut_act act;
        } linear;
        struct {
            int32_t first_pos, dim;
            float base;
            bool round_bf16;
        } angles;
        struct {
            int32_t n_heads, n_kv_heads, head_dim;
            int32_t first_pos;
            int32_t window;
            float eps;
            ut_rope rope;
        } attn;
        struct {
            int32_t col;
            bool euclid;
        } nearest;
        struct {
            int32_t col;
            int32_t decision;
            ut_penalty penalty;
            ut_narrowing narrowing;
            int32_t penalty_col, params_row;
            int32_t id_first, n_range, id_extra, extra_from_frame;
        } sample;
        struct {
            int32_t begin, n_codes;
        } token_code;
        struct {
            int32_t amount, per_t;
        } advance;
    } u;
} ut_op;

typedef struct ut_plan {
    const char *name;
    const ut_state_set *states;
    int32_t n_tensors, n_ops;
    ut_tensor *tensors;
    ut_op *ops;
    /* private to plan.c: */
    int32_t cap_tensors, cap_ops;
    const char *const *taps; /* names to keep as outputs, NULL-terminated; NULL: none */
    ut_err err;              /* first failure of any builder; checked by ut_plan_finish */
    struct ut_arena *arena;
} ut_plan;

/* ---- Building ------------------------------------------------------------------------------- *
 * Builders return the result's tensor, or UT_NONE after a failure that ut_plan_finish reports;
 * they accept UT_NONE as an operand then, so that model code need not check every line. */

/* taps: names of tensors (see ut_plan_name) to keep as outputs; borrowed, may be NULL. */
ut_plan *ut_plan_new(const char *name, const ut_state_set *states, const char *const *taps);
void ut_plan_free(ut_plan *p);
/* Verify shapes, definition before use, and leads. OK, or the first error, which names the op. */
utter_status ut_plan_finish(ut_plan *p, ut_err *err);

ut_tid ut_plan_input(ut_plan *p, const char *name, ut_dtype dtype, int32_t rows_per_t,
                     int32_t rows_fixed, int32_t cols);
ut_tid ut_plan_state(ut_plan *p, int state_index);
/* Keep a tensor for the host. */
void ut_plan_output(ut_plan *p, ut_tid t, const char *name);
/* Name a tensor; it becomes an output if the name is among the taps. printf-style. */
void ut_plan_name(ut_plan *p, ut_tid t, const char *fmt, ...) UT_PRINTF(3, 4);
ut_tid ut_plan_find(const ut_plan *p, const char *name); /* input or output, or UT_NONE */
/* Bytes of matrices that a run's linears read at a precision; one that several read counts for
 * each. */
int64_t ut_plan_matrix_bytes(const ut_plan *p, ut_precision precision);
/* A string that lives as long as the plan, for names of inputs; NULL when out of memory. */
char *ut_plan_printf(ut_plan *p, const char *fmt, ...) UT_PRINTF(2, 3);
/* Is the name among the taps? For computations that only tests need. */
bool ut_plan_wants(const ut_plan *p, const char *name);

/* The same memory as [rows * cols / new_cols, new_cols]; rows and lead must divide. */
ut_tid ut_plan_reshape(ut_plan *p, ut_tid t, int32_t new_cols);

/* y[r] = E[id0] + m * sum_i CE[id_{i+1} + i * codebook_size], times scale where m; ids i32
 * [rows, 1 + C], m = begin <= id0 <= end. Columns other than 0 are ignored where not m.
 * E [V, D]; CE [C * codebook_size, D]; scale 1 / sqrt(C + 1) or 1. Ids are the caller's promise. */
ut_tid ut_op_embed_sum(ut_plan *p, ut_tid ids, const ut_weight *e, const ut_weight *ce,
                       int32_t begin, int32_t end, int32_t codebook_size, float scale);

/* y[r] = concatenation over j < n_cols of table[offset_j + clamp(ids[r, first_col + j], 0,
 * sizes[j] - 1)], offset_j = sizes[0] + ... + sizes[j-1]. table [sum sizes, D] -> y
 * [rows, n_cols * D]. sizes: borrowed for the plan's life. */
ut_tid ut_op_gather(ut_plan *p, ut_tid ids, const ut_weight *table, int32_t first_col,
                    int32_t n_cols, const int32_t *sizes);
/* The same into row dst_row of an existing [rows >= 2, n_cols * D] tensor; ids has one row. */
void ut_op_gather_into(ut_plan *p, ut_tid dst, int32_t dst_row, ut_tid ids, const ut_weight *table,
                       int32_t first_col, int32_t n_cols, const int32_t *sizes);

/* y[r] = residual[r] + scale * sum over j < n_cols of the row that ids[r, first_col + j] means:
 * from 0 on table[offset_j + clamp(id, 0, sizes[j] - 1)], offset_j as above; UT_ID_EXTRA the one
 * row of `extra`; any other negative id nothing. table [sum sizes, D]; residual [rows, D], extra
 * [1, D] or UT_NONE; y [rows, D]. Rows are added in order of j, the residual first. */
#define UT_ID_NONE  (-1)
#define UT_ID_EXTRA (-2)
ut_tid ut_op_gather_sum(ut_plan *p, ut_tid ids, const ut_weight *table, int32_t first_col,
                        int32_t n_cols, const int32_t *sizes, float scale, ut_tid residual,
                        ut_tid extra);

/* A tensor of fixed rows to be filled by ut_op_copy_into and ut_op_gather_into. */
ut_tid ut_op_blank(ut_plan *p, int32_t rows, int32_t cols);
/* Copy n_rows rows of src from src_row on (negative: counted from the end, -1 the last) to dst_row
 * of dst. f32 or i32. */
void ut_op_copy_into(ut_plan *p, ut_tid dst, int32_t dst_row, ut_tid src, int32_t src_row,
                     int32_t n_rows);
/* A copy of x: what an input needs before it can carry history. */
ut_tid ut_op_copy(ut_plan *p, ut_tid x);
/* A f32 tensor like x in rows, to be filled by ut_op_copy_cols. */
ut_tid ut_op_blank_like(ut_plan *p, ut_tid like_rows, int32_t cols);
/* dst[r, dst_col + i] = src[r, src_col + i], i < n_cols, or added to it. A src of one row serves
 * all rows of dst. */
void ut_op_copy_cols(ut_plan *p, ut_tid dst, int32_t dst_col, ut_tid src, int32_t src_col,
                     int32_t n_cols, bool add);
/* The last row of x alone: [1, cols]. x itself when it has one fixed row. */
ut_tid ut_op_last_row(ut_plan *p, ut_tid x);

/* y = x * rsqrt(mean(x^2) + eps) * w, per row. w [1, C]. */
ut_tid ut_op_rms_norm(ut_plan *p, ut_tid x, const ut_weight *w, float eps);
/* y = (x - mean) * rsqrt(var + eps) * w + b, per row. w, b [1, C]. */
ut_tid ut_op_layer_norm(ut_plan *p, ut_tid x, const ut_weight *w, const ut_weight *b, float eps);

/* y = residual + gamma * act(x W^T + b): x [rows, K], w [O, K]; bias, gamma, alpha [1, O] or NULL,
 * residual [rows, O] or UT_NONE. With taps > 1 a causal convolution: K = taps * C and row r sees
 * the rows r - (taps-1) * dilation, ..., r of x, oldest first (w[o, j*C + c] is tap j of channel
 * c); x must carry (taps-1) * dilation rows of lead, filled by ut_op_conv_history before. */
typedef struct ut_linear_args {
    const ut_weight *w, *bias, *gamma, *alpha;
    const ut_weight *beta; /* of UT_ACT_SNAKE; NULL: alpha */
    ut_act act;
    ut_tid residual;
    int32_t taps, dilation; /* 0 means 1 */
} ut_linear_args;
ut_tid ut_op_linear(ut_plan *p, ut_tid x, const ut_linear_args *a);
/* The common case: no bias, no activation. residual may be UT_NONE. */
ut_tid ut_op_matmul(ut_plan *p, ut_tid x, const ut_weight *w, ut_tid residual);

/* Give x `lead` rows of history: rows -lead .. -1 of x are taken from the state (f32 [lead, C]),
 * then the state takes the last `lead` of all rows. x must be a temporary of this plan (or a view
 * of one); the op before it must be the one that writes x. */
void ut_op_conv_history(ut_plan *p, ut_tid x, int state_index);
/* The same, but while pos (i32 state) is 0 the first `unit` elements of row 0, repeated, are the
 * history: a signal that began before its first step with the same value. */
void ut_op_conv_history_repeat(ut_plan *p, ut_tid x, int state_index, ut_tid pos, int32_t unit);

/* x itself without what lies past the end of a signal: rows from ceil(count / unit) on become zero,
 * or (repeat) a copy of the row before them. count: i32 [1, 1], elements of the signal in this run,
 * `unit` of which make a row. x must be a temporary of this plan or a view of one. */
void ut_op_trim(ut_plan *p, ut_tid x, ut_tid count, int32_t unit, bool repeat);

/* Depthwise causal convolution: y[t, c] = b[c] + sum_j w[c, j] x[t - (k-1) + j, c]; w [C, k],
 * b [1, C]; x carries k - 1 rows of lead. */
ut_tid ut_op_dwconv(ut_plan *p, ut_tid x, const ut_weight *w, const ut_weight *b);

/* y = x + sin^2(alpha x) / (beta + 1e-9), per channel. alpha, beta [1, C]. */
ut_tid ut_op_snake_beta(ut_plan *p, ut_tid x, const ut_weight *alpha, const ut_weight *beta);
/* The same with beta = alpha. */
ut_tid ut_op_snake(ut_plan *p, ut_tid x, const ut_weight *alpha);

/* y = act(x), any of them but UT_ACT_SNAKE. */
ut_tid ut_op_act(ut_plan *p, ut_tid x, ut_act act);

/* y[r] = residual[r] + x[r] * gain[0]: gain [1, C]; residual [rows, C] or UT_NONE. */
ut_tid ut_op_scale(ut_plan *p, ut_tid x, ut_tid gain, ut_tid residual);

/* Operations that see a whole signal: for plans that take all of it in one run.
 *
 * POOL: mean and standard deviation over the rows, per channel: x [rows, C] -> y [1, 2 C], mean
 * then deviation. Rows weigh alike, or by the softmax of logits [rows, C] over the rows. With
 * weights a: mean = sum a x, deviation = sqrt(max(sum a (x - mean)^2, 1e-12)). REFLECT: x with
 * `left` rows mirrored in front of its first row (x[left], ..., x[1]) and `right` behind its last.
 * The result has the rows of x and left + right rows of lead, so that a linear with as much history
 * is a convolution that keeps the length. */
ut_tid ut_op_pool(ut_plan *p, ut_tid x, ut_tid logits);
ut_tid ut_op_reflect(ut_plan *p, ut_tid x, int32_t left, int32_t right);

/* y = silu(x[:, :I]) * x[:, I:]; x [rows, 2 I] -> [rows, I]. */
ut_tid ut_op_swiglu(ut_plan *p, ut_tid x);

/* cos and sin of pos * base^(-2i/dim), as pairs: [rows, dim]; angle in f32, results rounded to
 * bf16 if asked. pos of row r = first_pos + r + (pos state i32 [1,1], if not UT_NONE). */
ut_tid ut_op_rope_angles(ut_plan *p, ut_tid like_rows, ut_tid pos, int32_t first_pos, int32_t dim,
                         float base, bool round_bf16);

/* One attention layer's geometry. window 0: all positions. first_pos and pos as above. */
typedef struct ut_attn_args {
    int32_t n_heads, n_kv_heads, head_dim;
    int32_t window;
    int32_t first_pos;
    ut_tid pos;
    ut_tid cache_k, cache_v; /* states [capacity, n_kv_heads * head_dim], f32 or bf16 */
    ut_rope rope;
} ut_attn_args;

/* Split, normalise, rotate, remember: qkv [rows, (H + 2 Hkv) * D] = q | k | v, head-major. q and k
 * get an RMS norm per head (q_norm, k_norm [1, D], or NULL) and the rotation of pairs by angles; k
 * and v go to row pos % capacity of the caches; the rotated q [rows, H * D] is the result. A window
 * needs capacity >= window + T - 1, otherwise capacity bounds pos. */
ut_tid ut_op_qkv(ut_plan *p, ut_tid qkv, ut_tid angles, const ut_weight *q_norm,
                 const ut_weight *k_norm, float eps, const ut_attn_args *a);
/* y = softmax(q k^T / sqrt(D)) v over positions max(0, pos - window + 1) .. pos. Head h reads kv
 * head h / (H / Hkv). q [rows, H * D] -> [rows, H * D]. */
ut_tid ut_op_attention(ut_plan *p, ut_tid q, const ut_attn_args *a);

/* codes[r, col] = argmax_i cosine(e[r], table[i]), first on ties; both normalised, norms clamped
 * at 1e-12. e [rows, D], table [N, D], codes an i32 tensor [rows, >= col + 1]. */
void ut_op_nearest(ut_plan *p, ut_tid codes, int32_t col, ut_tid e, const ut_weight *table);
/* codes[r, col] = argmin_i |e[r] - table[i]|, computed as argmax of e . t - |t|^2 / 2, first on
 * ties. */
void ut_op_nearest_euclid(ut_plan *p, ut_tid codes, int32_t col, ut_tid e, const ut_weight *table);
/* An i32 tensor like x in rows, to be filled column by column. */
ut_tid ut_op_blank_ids(ut_plan *p, ut_tid like_rows, int32_t cols);

/* One decision per slot. logits [1, N]. Entry i stands for token id_first + i while i < n_range,
 * and for id_extra at i = n_range (then N = n_range + 1), which cannot be chosen while frame <
 * extra_from_frame. In this order: repetition penalty over the ids that `penalty` collects (l < 0 ?
 * l * r : l / r, each id once), temperature and the filters as `narrowing` says (the best always
 * stays), softmax, then argmax p / q with q ~ Exp(1), q = -log(u), u = Philox(key seed, counter {i
 * / 4, frame, decision, 0})[i % 4]. Temperature 0: argmax after the penalty. Parameters are row
 * params_row of `params`. The id goes to column col of dst (i32 [1, columns] state). */
typedef struct ut_sample_args {
    ut_tid dst, params, rng, frame, history; /* states */
    ut_tid noise;                            /* input f32 [1, N] that replaces q, or UT_NONE */
    ut_tid probs;                            /* f32 [1, N] to write p to, for tests, or UT_NONE */
    int32_t col, decision;
    ut_penalty penalty;
    int32_t penalty_col;
    int32_t id_first, n_range, id_extra; /* id_extra -1: none */
    ut_narrowing narrowing;
    int32_t params_row, extra_from_frame;
} ut_sample_args;
void ut_op_sample(ut_plan *p, ut_tid logits, const ut_sample_args *a);

/* column[0, 1] = clamp(column[0, 0] - begin, 0, n_codes - 1). column: i32 state. */
void ut_op_token_code(ut_plan *p, ut_tid column, int32_t begin, int32_t n_codes);

/* ring[frame % rows] = column, per slot; with history, also history[(frame - 1) % 16] = column
 * where frame >= 1. */
void ut_op_ring_put(ut_plan *p, ut_tid ring, ut_tid history, ut_tid column, ut_tid frame);

/* y = ring[(counter + offset) % rows] + add: i32 [1, columns] of an i32 state; row 0 while counter
 * + offset is negative. */
ut_tid ut_op_ring_get(ut_plan *p, ut_tid ring, ut_tid counter, int32_t offset, int32_t add);

/* counter (i32 state [1, 1]) += amount + per_t * T. */
void ut_op_advance(ut_plan *p, ut_tid counter, int32_t amount, int32_t per_t);

/* ---- Reading a finished plan (for backends) ------------------------------------------------- */

const char *ut_op_name(ut_op_kind kind);
static inline int32_t ut_tensor_rows(const ut_tensor *t, int32_t n_t)
{
    return t->rows_per_t * n_t + t->rows_fixed;
}
/* The tensor whose memory t uses: itself, or the root of its views. */
ut_tid ut_plan_root(const ut_plan *p, ut_tid t);

/* Place the memory of a run: offset[t] such that tensors alive at the same time never overlap
 * (first fit, the largest first; inputs and outputs live through the whole plan), SIZE_MAX for
 * states and views. A tensor takes n_slots * (lead + rows) * cols elements at max_t, slot after
 * slot, each slot's lead rows directly before its row 0. offset [n_tensors] is of the first lead
 * row, a multiple of 64; *bytes: the arena's size. */
utter_status ut_plan_place(const ut_plan *p, int32_t n_slots, int32_t max_t, size_t *offset,
                           size_t *bytes, ut_err *err);

/* Of a backend that does operations together, out of their order: operation o reads and writes
 * within [first, last], counted as operations. */
typedef struct ut_op_time {
    int32_t first, last;
} ut_op_time;

/* How a backend keeps the memory of a tensor that is nobody's view. */
typedef struct ut_kept {
    ut_dtype dtype;
    int32_t max_t; /* the longest run in which it is read or written, at most the plan's */
    ut_tid onto;   /* an older tensor of as many bytes, whose memory it takes: the operation that
                      makes it reads each element of that one, for the last time, before it writes
                      its own there; or UT_NONE */
} ut_kept;

/* The same for such a backend: when [n_ops], kept [n_tensors]. */
utter_status ut_plan_place_kept(const ut_plan *p, const ut_op_time *when, const ut_kept *kept,
                                int32_t n_slots, int32_t max_t, size_t *offset, size_t *bytes,
                                ut_err *err);

#endif
