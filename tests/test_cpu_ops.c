/* test_cpu_ops.c - each operation of plan.h through the executor, on small operands, against its
 * definition written out. */
#include "base/half.h"
#include "cpu_fixture.h"
#include "kernel_check.h"
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <cmocka.h>

static void set_i32(const fixture *f, int index, int32_t row, const int32_t *v)
{
    fixture_cpu->ops->state_write(f->s, index, 0, row, 1, v);
}

/* ---- Looking up and moving ------------------------------------------------------------------ */

static void test_embed_sum(void **state)
{
    (void)state;
    enum { V = 20, D = 5, SIZE = 4, BEGIN = 10, END = 13, T = 4 };
    const ut_weight *e = fixture_weight(V, D, UT_BF16, 1.0f);
    const ut_weight *ce = fixture_weight(2 * SIZE, D, UT_F32, 1.0f);
    ut_plan *p = ut_plan_new("embed", NULL, NULL);
    const ut_tid ids = ut_plan_input(p, "ids", UT_I32, 1, 0, 3);
    ut_plan_output(p, ut_op_embed_sum(p, ids, e, ce, BEGIN, END, SIZE, 0.5f), "y");
    fixture f = fixture_finish(p, T);
    const int32_t in[T][3] = {{3, 99, -7}, {10, 0, 1}, {13, 3, 2}, {14, 1, 1}};
    fixture_input(&f, "ids", T, in, sizeof in);
    fixture_run(&f, T);
    const float *y = fixture_output(&f, "y");
    for (int t = 0; t < T; t++) {
        float row[D], c0[D], c1[D];
        const bool m = in[t][0] >= BEGIN && in[t][0] <= END;
        ut_weight_row_f32(e, in[t][0], row);
        if (m) {
            ut_weight_row_f32(ce, in[t][1], c0);
            ut_weight_row_f32(ce, in[t][2] + SIZE, c1);
        }
        for (int i = 0; i < D; i++)
            assert_true(y[t * D + i] == (m ? (row[i] + (c0[i] + c1[i])) * 0.5f : row[i]));
    }
    fixture_end(&f);
}

static void test_gather_and_copy(void **state)
{
    (void)state;
    enum { D = 3, T = 5 };
    static const int32_t sizes[] = {4, 6};
    const ut_weight *table = fixture_weight(10, D, UT_F16, 1.0f);
    ut_plan *p = ut_plan_new("gather", NULL, NULL);
    const ut_tid ids = ut_plan_input(p, "ids", UT_I32, 1, 0, 3);
    const ut_tid y = ut_op_gather(p, ids, table, 1, 2, sizes);
    const ut_tid one = ut_plan_input(p, "one", UT_I32, 0, 1, 3);
    const ut_tid into = ut_op_blank(p, 4, 2 * D);
    ut_op_copy_into(p, into, 0, y, -2, 2);
    ut_op_gather_into(p, into, 2, one, table, 0, 2, sizes);
    ut_op_copy_into(p, into, 3, y, 1, 1);
    ut_plan_output(p, y, "y");
    ut_plan_output(p, into, "into");
    ut_plan_output(p, ut_op_last_row(p, y), "last");
    ut_plan_output(p, ut_op_copy(p, y), "copy");
    fixture f = fixture_finish(p, T);
    const int32_t in[T][3] = {{0, 0, 0}, {0, 3, 5}, {0, -1, 9}, {0, 4, -3}, {0, 2, 1}};
    const int32_t single[3] = {1, 2, 3};
    fixture_input(&f, "ids", T, in, sizeof in);
    fixture_input(&f, "one", T, single, sizeof single);
    fixture_run(&f, T);
    const float *got = fixture_output(&f, "y"), *g = fixture_output(&f, "into");
    const int32_t want[T][2] = {{0, 4}, {3, 9}, {0, 9}, {3, 4}, {2, 5}};
    float row[D];
    for (int t = 0; t < T; t++)
        for (int j = 0; j < 2; j++) {
            ut_weight_row_f32(table, want[t][j], row);
            check_bits(got + (t * 2 + j) * D, row, D, "gather");
        }
    check_bits(g, got + 3 * 2 * D, 4 * D, "rows from the end");
    ut_weight_row_f32(table, 1, row);
    check_bits(g + 2 * 2 * D, row, D, "gather into");
    ut_weight_row_f32(table, 4 + 2, row);
    check_bits(g + 2 * 2 * D + D, row, D, "gather into");
    check_bits(g + 3 * 2 * D, got + 2 * D, 2 * D, "one row");
    check_bits(fixture_output(&f, "last"), got + 4 * 2 * D, 2 * D, "last row");
    check_bits(fixture_output(&f, "copy"), got, T * 2 * D, "copy");
    fixture_end(&f);
}

static void test_counters(void **state)
{
    (void)state;
    ut_state_set set = {0};
    const int column = ut_state_set_add(&set, "column", UT_I32, 1, 3);
    const int frame = ut_state_set_add(&set, "frame", UT_I32, 1, 1);
    const int ring = ut_state_set_add(&set, "ring", UT_I32, 4, 3);
    const int history = ut_state_set_add(&set, "history", UT_I32, UT_HISTORY_FRAMES, 3);
    const int pos = ut_state_set_add(&set, "pos", UT_I32, 1, 1);
    ut_plan *p = ut_plan_new("counters", &set, NULL);
    const ut_tid x = ut_plan_input(p, "x", UT_F32, 1, 0, 1);
    ut_plan_output(p, ut_op_copy(p, x), "y");
    ut_op_token_code(p, ut_plan_state(p, column), 100, 50);
    ut_op_ring_put(p, ut_plan_state(p, ring), ut_plan_state(p, history), ut_plan_state(p, column),
                   ut_plan_state(p, frame));
    ut_op_advance(p, ut_plan_state(p, pos), 5, 2);
    ut_op_advance(p, ut_plan_state(p, frame), 1, 0);
    fixture f = fixture_finish(p, 9);
    memset(fixture_cpu->ops->input(f.e, x, 9), 0, 36);
    static const struct {
        int32_t token, code;
    } cases[] = {{100, 0}, {149, 49}, {150, 49}, {99, 0}, {7, 0}, {120, 20}};
    int32_t want_pos = 0;
    for (int32_t i = 0; i < 40; i++) {
        const int32_t c[3] = {cases[i % 6].token, -1, i}, n_t = 1 + i % 9;
        set_i32(&f, column, 0, c);
        fixture_run(&f, n_t);
        int32_t got[3], h[UT_HISTORY_FRAMES][3];
        ut_err err = {0};
        assert_int_equal(fixture_cpu->ops->ring_wait(f.s, ring, 0, i, got, &err), UTTER_OK);
        assert_int_equal(got[0], c[0]);
        assert_int_equal(got[1], cases[i % 6].code);
        assert_int_equal(got[2], i);
        want_pos += 5 + 2 * n_t;
        fixture_cpu->ops->state_read(f.s, pos, 0, 0, 1, got);
        assert_int_equal(got[0], want_pos);
        fixture_cpu->ops->state_read(f.s, frame, 0, 0, 1, got);
        assert_int_equal(got[0], i + 1);
        fixture_cpu->ops->state_read(f.s, history, 0, 0, UT_HISTORY_FRAMES, h);
        for (int32_t r = 0; r < UT_HISTORY_FRAMES; r++) {
            /* frame q >= 1 in row (q - 1) % 16: the newest q <= i of this row, or zeros */
            const int32_t newest = i - ((i - 1 - r) % 16 + 16) % 16;
            assert_int_equal(h[r][2], i >= 1 && newest >= 1 ? newest : 0);
        }
    }
    fixture_end(&f);
}

/* ---- Arithmetic ----------------------------------------------------------------------------- */

static void test_linear_with_everything(void **state)
{
    (void)state;
    enum { K = 9, O = 35, T = 6 };
    const ut_weight *w = fixture_weight(O, K, UT_F32, 1.0f);
    const ut_weight *bias = fixture_weight(1, O, UT_BF16, 1.0f);
    const ut_weight *gamma = fixture_weight(1, O, UT_F32, 1.0f);
    const ut_weight *alpha = fixture_weight(1, O, UT_F32, 2.0f);
    ut_plan *p = ut_plan_new("linear", NULL, NULL);
    const ut_tid x = ut_plan_input(p, "x", UT_F32, 1, 0, K);
    const ut_tid r = ut_plan_input(p, "r", UT_F32, 1, 0, O);
    const ut_linear_args a = {
        .w = w, .bias = bias, .gamma = gamma, .alpha = alpha, .act = UT_ACT_SNAKE, .residual = r};
    ut_plan_output(p, ut_op_linear(p, x, &a), "y");
    fixture f = fixture_finish(p, T);
    const float *in = fixture_array(T * K, 1.0f), *res = fixture_array(T * O, 1.0f);
    fixture_input(&f, "x", T, in, T * K * 4);
    fixture_input(&f, "r", T, res, T * O * 4);
    fixture_run(&f, T);
    const float *y = fixture_output(&f, "y");
    float bv[O], gv[O], av[O], row[K];
    ut_weight_row_f32(bias, 0, bv);
    ut_weight_row_f32(gamma, 0, gv);
    ut_weight_row_f32(alpha, 0, av);
    for (int t = 0; t < T; t++)
        for (int o = 0; o < O; o++) {
            double v = (double)bv[o];
            ut_weight_row_f32(w, o, row);
            for (int i = 0; i < K; i++)
                v += (double)row[i] * (double)in[t * K + i];
            const double s = sin((double)av[o] * v);
            v = v + s * s / ((double)av[o] + 1e-9);
            check_near((double)y[t * O + o], (double)res[t * O + o] + (double)gv[o] * v,
                       1e-5 * (1 + fabs(1 / (double)av[o])), "linear", t * O + o);
        }
    fixture_end(&f);
}

static void test_row_ops(void **state)
{
    (void)state;
    enum { C = 12, T = 3 };
    const ut_weight *g = fixture_weight(1, C, UT_BF16, 1.0f),
                    *o = fixture_weight(1, C, UT_F32, 1.0f);
    ut_plan *p = ut_plan_new("rows", NULL, NULL);
    const ut_tid x = ut_plan_input(p, "x", UT_F32, 1, 0, C);
    ut_plan_output(p, ut_op_rms_norm(p, x, g, 1e-5f), "rms");
    ut_plan_output(p, ut_op_layer_norm(p, x, g, o, 1e-5f), "ln");
    ut_plan_output(p, ut_op_swiglu(p, x), "swiglu");
    ut_plan_output(p, ut_op_snake(p, x, g), "snake");
    fixture f = fixture_finish(p, T);
    const float *in = fixture_array(T * C, 2.0f);
    fixture_input(&f, "x", T, in, T * C * 4);
    fixture_run(&f, T);
    const float *rms = fixture_output(&f, "rms"), *ln = fixture_output(&f, "ln");
    const float *sw = fixture_output(&f, "swiglu"), *sn = fixture_output(&f, "snake");
    float gv[C], ov[C];
    ut_weight_row_f32(g, 0, gv);
    ut_weight_row_f32(o, 0, ov);
    for (int t = 0; t < T; t++) {
        const float *r = in + t * C;
        double sq = 0, mean = 0, var = 0;
        for (int i = 0; i < C; i++) {
            sq += (double)r[i] * (double)r[i] / C;
            mean += (double)r[i] / C;
        }
        for (int i = 0; i < C; i++)
            var += ((double)r[i] - mean) * ((double)r[i] - mean) / C;
        for (int i = 0; i < C; i++) {
            const double v = (double)r[i], w = (double)gv[i];
            check_near((double)rms[t * C + i], v / sqrt(sq + 1e-5) * w, 1e-6 * 4, "rms_norm", i);
            check_near((double)ln[t * C + i], (v - mean) / sqrt(var + 1e-5) * w + (double)ov[i],
                       1e-5, "layer_norm", i);
            const double s = sin(w * v);
            check_near((double)sn[t * C + i], v + s * s / (w + 1e-9), 1e-5 * (1 + 1 / fabs(w)),
                       "snake", i);
            if (i < C / 2)
                check_near((double)sw[t * C / 2 + i], v / (1 + exp(-v)) * (double)r[i + C / 2],
                           1e-5, "swiglu", i);
        }
    }
    fixture_end(&f);
}

/* Zeros before the first row: the state of a new sequence. Dilated, and depthwise. */
static void test_convolutions(void **state)
{
    (void)state;
    enum { C = 5, O = 7, TAPS = 3, DIL = 2, DW = 4, T = 9 };
    ut_state_set set = {0};
    const int h1 = ut_state_set_add(&set, "h1", UT_F32, (TAPS - 1) * DIL, C);
    const int h2 = ut_state_set_add(&set, "h2", UT_F32, DW - 1, O);
    const ut_weight *w = fixture_weight(O, TAPS * C, UT_F32, 1.0f);
    const ut_weight *dw = fixture_weight(O, DW, UT_F32, 1.0f),
                    *db = fixture_weight(1, O, UT_F32, 1.0f);
    ut_plan *p = ut_plan_new("conv", &set, NULL);
    const ut_tid x = ut_op_copy(p, ut_plan_input(p, "x", UT_F32, 1, 0, C));
    ut_op_conv_history(p, x, h1);
    const ut_linear_args a = {.w = w, .residual = UT_NONE, .taps = TAPS, .dilation = DIL};
    const ut_tid y = ut_op_linear(p, x, &a);
    ut_op_conv_history(p, y, h2);
    ut_plan_output(p, y, "y");
    ut_plan_output(p, ut_op_dwconv(p, y, dw, db), "z");
    fixture f = fixture_finish(p, T);
    const float *in = fixture_array(T * C, 1.0f);
    fixture_input(&f, "x", T, in, T * C * 4);
    fixture_run(&f, T);
    const float *gy = fixture_output(&f, "y"), *gz = fixture_output(&f, "z");
    const float *wv = w->part[0].data, *dv = dw->part[0].data, *bv = db->part[0].data;
    for (int t = 0; t < T; t++)
        for (int o = 0; o < O; o++) {
            double v = 0, z = (double)bv[o];
            for (int j = 0; j < TAPS; j++)
                for (int c = 0; c < C; c++) {
                    const int row = t - (TAPS - 1 - j) * DIL;
                    if (row >= 0)
                        v += (double)wv[o * TAPS * C + j * C + c] * (double)in[row * C + c];
                }
            check_near((double)gy[t * O + o], v, 1e-5, "conv", t * O + o);
            for (int j = 0; j < DW; j++)
                if (t - (DW - 1) + j >= 0)
                    z += (double)dv[o * DW + j] * (double)gy[(t - (DW - 1) + j) * O + o];
            check_near((double)gz[t * O + o], z, 1e-5, "dwconv", t * O + o);
        }
    float hist[(TAPS - 1) * DIL * C];
    fixture_cpu->ops->state_read(f.s, h1, 0, 0, (TAPS - 1) * DIL, hist);
    check_bits(hist, in + (T - (TAPS - 1) * DIL) * C, (TAPS - 1) * DIL * C, "history");
    fixture_end(&f);
}

/* ---- Attention ------------------------------------------------------------------------------ */

static void test_rope_angles(void **state)
{
    (void)state;
    enum { DIM = 8, T = 5 };
    ut_state_set set = {0};
    const int pos = ut_state_set_add(&set, "pos", UT_I32, 1, 1);
    ut_plan *p = ut_plan_new("angles", &set, NULL);
    const ut_tid x = ut_plan_input(p, "x", UT_F32, 1, 0, 1);
    const ut_tid at = ut_plan_state(p, pos);
    ut_plan_output(p, ut_op_rope_angles(p, x, at, 3, DIM, 1e6f, false), "exact");
    ut_plan_output(p, ut_op_rope_angles(p, x, UT_NONE, 2, DIM, 1e4f, true), "rounded");
    fixture f = fixture_finish(p, T);
    const int32_t start = 4000;
    set_i32(&f, pos, 0, &start);
    fixture_run(&f, T);
    const float *a = fixture_output(&f, "exact"), *r = fixture_output(&f, "rounded");
    for (int t = 0; t < T; t++)
        for (int i = 0; i < DIM / 2; i++) {
            /* the angle itself is f32: half an ulp of it moves the result by as much */
            const double angle = (4003 + t) * pow(1e6, -2.0 * i / DIM);
            check_near((double)a[t * DIM + 2 * i], cos(angle), 4 * EPS * (angle + 1), "cos", i);
            check_near((double)a[t * DIM + 2 * i + 1], sin(angle), 4 * EPS * (angle + 1), "sin", i);
            const double small = (2 + t) * pow(1e4, -2.0 * i / DIM);
            check_near((double)r[t * DIM + 2 * i], cos(small), 1.0 / 256, "rounded", i);
            assert_true(r[t * DIM + 2 * i] == ut_round_bf16(r[t * DIM + 2 * i]));
        }
    fixture_end(&f);
}

/* qkv then attention, against the definition on whole sequences. */
static void check_attention(int heads, int kv_heads, int dim, int window, ut_dtype cache,
                            bool norms, ut_rope rope)
{
    enum { T = 21, MAX = 8 };
    const int cols = (heads + 2 * kv_heads) * dim, capacity = window ? window + MAX - 1 : T + 2;
    ut_state_set set = {0};
    const int pos = ut_state_set_add(&set, "pos", UT_I32, 1, 1);
    const int ck = ut_state_set_add(&set, "k", cache, capacity, kv_heads * dim);
    const int cv = ut_state_set_add(&set, "v", cache, capacity, kv_heads * dim);
    const ut_weight *qn = norms ? fixture_weight(1, dim, UT_F32, 1.0f) : NULL;
    const ut_weight *kn = norms ? fixture_weight(1, dim, UT_F32, 1.0f) : NULL;
    ut_plan *p = ut_plan_new("attention", &set, NULL);
    const ut_tid x = ut_plan_input(p, "x", UT_F32, 1, 0, cols), at = ut_plan_state(p, pos);
    const ut_tid angles = ut_op_rope_angles(p, x, at, 0, dim, 1e4f, false);
    const ut_attn_args a = {.n_heads = heads,
                            .n_kv_heads = kv_heads,
                            .head_dim = dim,
                            .window = window,
                            .rope = rope,
                            .pos = at,
                            .cache_k = ut_plan_state(p, ck),
                            .cache_v = ut_plan_state(p, cv)};
    const ut_tid q = ut_op_qkv(p, x, angles, qn, kn, 1e-6f, &a);
    ut_plan_output(p, ut_op_attention(p, q, &a), "y");
    ut_op_advance(p, at, 0, 1);
    fixture f = fixture_finish(p, MAX);
    const float *in = fixture_array((size_t)(T * cols), 1.0f);
    float *got = fixture_array((size_t)(T * heads * dim), 1.0f);
    for (int t = 0, n; t < T; t += n) {
        n = random_int(1, MAX);
        n = n < T - t ? n : T - t;
        fixture_input(&f, "x", n, in + t * cols, (size_t)(n * cols) * 4);
        fixture_run(&f, n);
        memcpy(got + t * heads * dim, fixture_output(&f, "y"), (size_t)(n * heads * dim) * 4);
    }
    /* q, k of all rows, normed and rotated; v; rounded as the caches do */
    double *rows = (double *)(void *)fixture_array((size_t)(2 * T * cols), 1.0f);
    for (int t = 0; t < T; t++)
        for (int h = 0; h < heads + 2 * kv_heads; h++) {
            const float *src = in + t * cols + h * dim;
            double *dst = rows + t * cols + h * dim, sq = 0;
            const ut_weight *gain = h < heads ? qn : h < heads + kv_heads ? kn : NULL;
            for (int d = 0; d < dim; d++)
                sq += (double)src[d] * (double)src[d] / dim;
            for (int d = 0; d < dim; d++) {
                dst[d] = (double)src[d];
                if (gain)
                    dst[d] *= (double)((const float *)gain->part[0].data)[d] / sqrt(sq + 1e-6);
            }
            for (int d = 0; d < dim && h < heads + kv_heads; d += 2) {
                const int i0 = rope == UT_ROPE_HALVES ? d / 2 : d;
                const int i1 = rope == UT_ROPE_HALVES ? d / 2 + dim / 2 : d + 1;
                const double angle = t * pow(1e4, -(double)d / dim), x0 = dst[i0], x1 = dst[i1];
                dst[i0] = x0 * cos(angle) - x1 * sin(angle);
                dst[i1] = x1 * cos(angle) + x0 * sin(angle);
            }
            for (int d = 0; d < dim && h >= heads && cache == UT_BF16; d++)
                dst[d] = (double)ut_round_bf16((float)dst[d]);
        }
    const double tolerance = cache == UT_BF16 ? 3e-2 : 2e-5; /* a key may round the other way */
    for (int t = 0; t < T; t++)
        for (int h = 0; h < heads; h++) {
            const int kv = heads + h / (heads / kv_heads), first = window ? t - window + 1 : 0;
            double w[T], total = 0;
            for (int i = first > 0 ? first : 0; i <= t; i++) {
                double dot = 0;
                for (int d = 0; d < dim; d++)
                    dot += rows[t * cols + h * dim + d] * rows[i * cols + kv * dim + d];
                total += w[i] = exp(dot / sqrt((double)dim));
            }
            for (int d = 0; d < dim; d++) {
                double want = 0;
                for (int i = first > 0 ? first : 0; i <= t; i++)
                    want += w[i] / total * rows[i * cols + (kv + kv_heads) * dim + d];
                check_near((double)got[(t * heads + h) * dim + d], want, tolerance, "attention", t);
            }
        }
    fixture_end(&f);
}

static void test_attention(void **state)
{
    (void)state;
    check_attention(4, 2, 8, 0, UT_F32, true, UT_ROPE_PAIRS);
    check_attention(2, 2, 16, 5, UT_F32, false, UT_ROPE_PAIRS);
    check_attention(6, 2, 10, 3, UT_BF16, true, UT_ROPE_PAIRS);
    check_attention(3, 1, 64, 0, UT_BF16, false, UT_ROPE_PAIRS);
    check_attention(1, 1, 2, 1, UT_F32, false, UT_ROPE_PAIRS);
    check_attention(4, 2, 8, 0, UT_F32, true, UT_ROPE_HALVES);
    check_attention(6, 3, 26, 4, UT_BF16, false, UT_ROPE_HALVES);
}

/* ---- Choosing ------------------------------------------------------------------------------- */

static void test_nearest(void **state)
{
    (void)state;
    enum { D = 8, N = 70, T = 12 };
    ut_weight *table = fixture_weight(N, D, UT_F32, 1.0f);
    float *rows = (float *)table->part[0].data;
    memcpy(rows + 50 * D, rows + 20 * D, D * sizeof(float)); /* a tie: the first wins */
    memset(rows + 60 * D, 0, D * sizeof(float));             /* a zero row is never the nearest */
    ut_plan *p = ut_plan_new("nearest", NULL, NULL);
    const ut_tid e = ut_plan_input(p, "e", UT_F32, 1, 0, D);
    const ut_tid codes = ut_op_blank_ids(p, e, 3);
    ut_op_nearest(p, codes, 2, e, table);
    ut_op_nearest(p, codes, 0, e, table);
    ut_plan_output(p, codes, "codes");
    fixture f = fixture_finish(p, T);
    float *in = fixture_array(T * D, 1.0f);
    for (int i = 0; i < D; i++)
        in[D + i] = 3.0f * rows[20 * D + i];
    fixture_input(&f, "e", T, in, T * D * 4);
    fixture_run(&f, T);
    const int32_t *got = fixture_output(&f, "codes");
    assert_int_equal(got[3], 20);
    for (int t = 0; t < T; t++) {
        double best = -2, at[N];
        for (int i = 0; i < N; i++) {
            double dot = 0, n1 = 0, n2 = 0;
            for (int d = 0; d < D; d++) {
                dot += (double)in[t * D + d] * (double)rows[i * D + d];
                n1 += (double)in[t * D + d] * (double)in[t * D + d];
                n2 += (double)rows[i * D + d] * (double)rows[i * D + d];
            }
            at[i] = dot / fmax(sqrt(n1), 1e-12) / fmax(sqrt(n2), 1e-12);
            best = fmax(best, at[i]);
        }
        assert_true(got[t * 3] >= 0 && got[t * 3] < N);
        assert_true(at[got[t * 3]] > best - 1e-6);
        assert_int_equal(got[t * 3], got[t * 3 + 2]);
    }
    fixture_end(&f);
}

/* What a decision reads and where it writes: greedy, with the penalty's two ways to collect ids. */
static void test_sample(void **state)
{
    (void)state;
    enum { N = 6, FIRST = 100, EXTRA = 7 };
    ut_state_set set = {0};
    const int column = ut_state_set_add(&set, "column", UT_I32, 1, 4);
    const int params = ut_state_set_add(&set, "params", UT_F32, 1, UT_SP_COUNT);
    const int rng = ut_state_set_add(&set, "rng", UT_I32, 1, UT_RNG_COUNT);
    const int frame = ut_state_set_add(&set, "frame", UT_I32, 1, 1);
    const int history = ut_state_set_add(&set, "history", UT_I32, UT_HISTORY_FRAMES, 4);
    for (int way = UT_PENALTY_NONE; way <= UT_PENALTY_CODEBOOK; way++) {
        ut_plan *p = ut_plan_new("sample", &set, NULL);
        const ut_tid logits = ut_plan_input(p, "logits", UT_F32, 0, 1, N);
        const ut_sample_args a = {.dst = ut_plan_state(p, column),
                                  .params = ut_plan_state(p, params),
                                  .rng = ut_plan_state(p, rng),
                                  .frame = ut_plan_state(p, frame),
                                  .history = ut_plan_state(p, history),
                                  .noise = UT_NONE,
                                  .probs = UT_NONE,
                                  .col = 2,
                                  .penalty = (ut_penalty)way,
                                  .penalty_col = 1,
                                  .id_first = FIRST,
                                  .n_range = N - 1,
                                  .id_extra = EXTRA};
        ut_op_sample(p, logits, &a);
        fixture f = fixture_finish(p, 1);
        const float l[N] = {1.0f, 5.0f, 4.0f, 3.0f, 2.0f, 4.5f};
        const float greedy[UT_SP_COUNT] = {0.0f, 1.0f, 10.0f};
        fixture_input(&f, "logits", 1, l, sizeof l);
        fixture_cpu->ops->state_write(f.s, params, 0, 0, 1, greedy);
        int32_t h[UT_HISTORY_FRAMES][4] = {{0}}, got[4];
        h[0][0] = FIRST + 1; /* the oldest while fewer than 17 frames were made */
        h[5][1] = FIRST + 1; /* column 1 */
        h[3][0] = h[3][1] = EXTRA;
        fixture_cpu->ops->state_write(f.s, history, 0, 0, UT_HISTORY_FRAMES, h);
        static const struct {
            int32_t frame, none, first, codebook;
        } cases[] = {{0, FIRST + 1, FIRST + 1, FIRST + 1},   /* frame 0: nothing */
                     {16, FIRST + 1, EXTRA, FIRST + 2},      /* row 0; 101 and 7 of column 1 */
                     {20, FIRST + 1, FIRST + 1, FIRST + 2}}; /* row (20 - 1) % 16 = 3: id 7 */
        for (int i = 0; i < 3; i++) {
            set_i32(&f, frame, 0, &cases[i].frame);
            fixture_run(&f, 1);
            fixture_cpu->ops->state_read(f.s, column, 0, 0, 1, got);
            assert_int_equal(got[2], way == UT_PENALTY_NONE           ? cases[i].none
                                     : way == UT_PENALTY_FIRST_COLUMN ? cases[i].first
                                                                      : cases[i].codebook);
            assert_true(got[0] == 0 && got[1] == 0 && got[3] == 0);
        }
        fixture_end(&f);
    }
}

int run_cpu_op_tests(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_embed_sum),   cmocka_unit_test(test_gather_and_copy),
        cmocka_unit_test(test_counters),    cmocka_unit_test(test_linear_with_everything),
        cmocka_unit_test(test_row_ops),     cmocka_unit_test(test_convolutions),
        cmocka_unit_test(test_rope_angles), cmocka_unit_test(test_attention),
        cmocka_unit_test(test_nearest),     cmocka_unit_test(test_sample),
    };
    return cmocka_run_group_tests_name("operations", tests, fixture_setup, fixture_teardown);
}
