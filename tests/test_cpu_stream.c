/* test_cpu_stream.c - the promise behind exact streaming and batching: a network of every kind of
 * operation gives the same bits in chunks of any size, on any number of threads, and in any slot
 * beside any neighbours; and a run takes no memory. */
#include "base/alloc.h"
#include "base/cpu.h"
#include "cpu_fixture.h"
#include "kernel_check.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <cmocka.h>

enum { T = 37, MAX_T = 40, WINDOW = 6, SLOTS = 3 };

/* A small codec: dilated convolution with snake, strided convolution, a windowed transformer layer,
 * ConvNeXt-like depthwise block, transposed convolution, and a codebook search. m scales widths. */
typedef struct net {
    ut_state_set set;
    ut_plan *plan;
    int32_t in_cols, out_cols; /* 2 rows per step of both */
} net;

static void net_init(net *n, int32_t m, ut_dtype cache)
{
    const int32_t c = 2 * m, d = 8 * m, heads = 4, kv = 2, dim = 2 * m;
    memset(n, 0, sizeof *n);
    ut_state_set *s = &n->set;
    const int pos = ut_state_set_add(s, "pos", UT_I32, 1, 1);
    const int h1 = ut_state_set_add(s, "h1", UT_F32, 2 * 3, c);
    const int h2 = ut_state_set_add(s, "h2", UT_F32, 1, 2 * c);
    const int ck = ut_state_set_add(s, "k", cache, WINDOW + MAX_T - 1, kv * dim);
    const int cv = ut_state_set_add(s, "v", cache, WINDOW + MAX_T - 1, kv * dim);
    const int h3 = ut_state_set_add(s, "h3", UT_F32, 6, d);
    const int h4 = ut_state_set_add(s, "h4", UT_F32, 1, d);
    s->def[ck].keep = s->def[cv].keep = true;
    ut_plan *p = n->plan = ut_plan_new("net", s, NULL);
    const ut_tid at = ut_plan_state(p, pos);
    const ut_weight *alpha = fixture_weight(1, c, UT_F32, 1.0f);

    ut_tid x = ut_op_copy(p, ut_plan_input(p, "x", UT_F32, 2, 0, c));
    ut_op_conv_history(p, x, h1);
    const ut_linear_args dilated = {.w = fixture_weight(c, 3 * c, UT_F32, 0.3f),
                                    .bias = fixture_weight(1, c, UT_F32, 0.1f),
                                    .alpha = alpha,
                                    .act = UT_ACT_SNAKE,
                                    .residual = x,
                                    .taps = 3,
                                    .dilation = 3};
    x = ut_op_snake(p, ut_op_linear(p, x, &dilated), alpha);
    x = ut_plan_reshape(p, x, 2 * c); /* stride 2 */
    ut_op_conv_history(p, x, h2);
    const ut_linear_args strided = {
        .w = fixture_weight(d, 4 * c, UT_BF16, 0.3f), .residual = UT_NONE, .taps = 2};
    x = ut_op_linear(p, x, &strided);

    const ut_attn_args a = {.n_heads = heads,
                            .n_kv_heads = kv,
                            .head_dim = dim,
                            .window = WINDOW,
                            .pos = at,
                            .cache_k = ut_plan_state(p, ck),
                            .cache_v = ut_plan_state(p, cv)};
    const ut_tid angles = ut_op_rope_angles(p, x, at, 0, dim, 1e4f, true);
    const ut_tid normed = ut_op_rms_norm(p, x, fixture_weight(1, d, UT_F32, 1.0f), 1e-5f);
    const ut_tid qkv =
        ut_op_matmul(p, normed, fixture_weight((heads + 2 * kv) * dim, d, UT_F16, 0.5f), UT_NONE);
    const ut_tid q =
        ut_op_qkv(p, qkv, angles, fixture_weight(1, dim, UT_F32, 1.0f), NULL, 1e-6f, &a);
    const ut_linear_args out = {.w = fixture_weight(d, heads * dim, UT_BF16, 0.3f),
                                .gamma = fixture_weight(1, d, UT_F32, 1.0f),
                                .residual = x};
    x = ut_op_linear(p, ut_op_attention(p, q, &a), &out);
    const ut_tid up = ut_op_matmul(p, x, fixture_weight(2 * d, d, UT_BF16, 0.3f), UT_NONE);
    x = ut_op_matmul(p, ut_op_swiglu(p, up), fixture_weight(d, d, UT_BF16, 0.3f), x);

    const ut_tid wide = ut_op_copy(p, x);
    ut_op_conv_history(p, wide, h3);
    const ut_tid dw = ut_op_dwconv(p, wide, fixture_weight(d, 7, UT_F32, 0.3f),
                                   fixture_weight(1, d, UT_F32, 0.1f));
    const ut_tid ln = ut_op_layer_norm(p, dw, fixture_weight(1, d, UT_F32, 1.0f),
                                       fixture_weight(1, d, UT_F32, 0.1f), 1e-6f);
    const ut_linear_args gelu = {
        .w = fixture_weight(d, d, UT_F32, 0.3f), .act = UT_ACT_GELU, .residual = wide};
    x = ut_op_linear(p, ln, &gelu);
    ut_op_conv_history(p, x, h4);
    const ut_linear_args transposed = {.w = fixture_weight(2 * c, 2 * d, UT_F32, 0.1f),
                                       .act = UT_ACT_TANH,
                                       .residual = UT_NONE,
                                       .taps = 2};
    const ut_tid y = ut_op_linear(p, x, &transposed);
    ut_plan_output(p, ut_plan_reshape(p, y, c), "y");
    const ut_tid codes = ut_op_blank_ids(p, x, 2);
    ut_op_nearest(p, codes, 0, x, fixture_weight(33, d, UT_F32, 1.0f));
    ut_op_nearest(p, codes, 1, normed, fixture_weight(50, d, UT_F32, 1.0f));
    ut_plan_output(p, codes, "codes");
    ut_op_advance(p, at, 0, 1);
    ut_err err = {0};
    if (ut_plan_finish(p, &err) != UTTER_OK)
        fail_msg("%s", err.msg);
    n->in_cols = n->out_cols = c;
}

/* Run n_steps from x in chunks of at most max_chunk (0: all at once); y and codes of slot 0. */
static void stream(const fixture *f, const net *n, const float *x, int32_t n_steps,
                   int32_t max_chunk, float *y, int32_t *codes)
{
    const size_t step = (size_t)(2 * n->in_cols);
    for (int32_t t = 0, chunk; t < n_steps; t += chunk) {
        chunk = max_chunk ? random_int(1, max_chunk) : n_steps;
        chunk = chunk < n_steps - t ? chunk : n_steps - t;
        fixture_input(f, "x", chunk, x + (size_t)t * step, (size_t)chunk * step * 4);
        fixture_run(f, chunk);
        memcpy(y + (size_t)t * step, fixture_output(f, "y"), (size_t)chunk * step * 4);
        memcpy(codes + 2 * t, fixture_output(f, "codes"), (size_t)chunk * 8);
    }
}

static const struct {
    int32_t m;
    ut_dtype cache;
} sizes[] = {{1, UT_F32}, {5, UT_BF16}, {24, UT_BF16}};

static void test_chunks_and_threads(void **state)
{
    (void)state;
    static const unsigned off[] = {0, UT_CPU_AVX512, UT_CPU_AVX512 | UT_CPU_AVX2};
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        net n;
        net_init(&n, sizes[i].m, sizes[i].cache);
        const size_t len = (size_t)T * 2 * (size_t)n.in_cols;
        const float *x = fixture_array(len, 1.0f);
        float *whole = fixture_array(len, 1.0f), *parts = fixture_array(len, 1.0f);
        int32_t codes[2 * T], part_codes[2 * T];
        for (int v = 0; v < 3; v++) {
            for (int threads = 1; threads <= 3; threads++) {
                ut_backend *b = fixture_open(threads, off[v], UT_PRECISION_AUTO);
                fixture f = fixture_compile(b, n.plan, 1, MAX_T);
                for (int max_chunk = 0; max_chunk <= 8; max_chunk += 1 + max_chunk) {
                    b->ops->state_reset(f.s, 0);
                    const bool first = threads == 1 && max_chunk == 0;
                    stream(&f, &n, x, T, max_chunk, first ? whole : parts,
                           first ? codes : part_codes);
                    if (!first) {
                        check_bits(whole, parts, len, "chunks and threads");
                        assert_memory_equal(codes, part_codes, sizeof codes);
                    }
                }
                fixture_close(&f);
                b->ops->close(b);
            }
        }
        ut_plan_free(n.plan);
    }
}

/* Slots of one exec, with other data in each, equal sequences that run alone; so do runs that use
 * only some of a state's slots. */
static void test_slots(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        net n;
        net_init(&n, sizes[i].m, sizes[i].cache);
        const size_t step = (size_t)(2 * n.in_cols), len = T * step;
        const float *x = fixture_array(SLOTS * len, 1.0f);
        float *alone = fixture_array(SLOTS * len, 1.0f), *y = fixture_array(len, 1.0f);
        int32_t codes[SLOTS][2 * T], got_codes[2 * T];
        ut_backend *b = fixture_open(2, 0, UT_PRECISION_AUTO);
        fixture one = fixture_compile(b, n.plan, 1, MAX_T);
        for (size_t s = 0; s < SLOTS; s++) {
            b->ops->state_reset(one.s, 0);
            stream(&one, &n, x + s * len, T, 0, alone + s * len, codes[s]);
        }
        fixture all = fixture_compile(b, n.plan, SLOTS, MAX_T);
        const ut_tid in = ut_plan_find(n.plan, "x");
        for (int round = 0; round < 2; round++)
            for (int32_t t = 0, chunk; t < T; t += chunk) {
                chunk = random_int(1, 6);
                chunk = chunk < T - t ? chunk : T - t;
                if (t == 0)
                    for (int s = 0; s < SLOTS; s++)
                        b->ops->state_reset(all.s, s);
                float *dst = b->ops->input(all.e, in, chunk);
                for (size_t s = 0; s < SLOTS; s++)
                    memcpy(dst + s * (size_t)chunk * step, x + s * len + (size_t)t * step,
                           (size_t)chunk * step * 4);
                fixture_run(&all, chunk);
                const float *out = fixture_output(&all, "y");
                const int32_t *out_codes = fixture_output(&all, "codes");
                for (size_t s = 0; s < SLOTS; s++) {
                    check_bits(out + s * (size_t)chunk * step, alone + s * len + (size_t)t * step,
                               (size_t)chunk * step, "slots");
                    assert_memory_equal(out_codes + s * (size_t)chunk * 2, codes[s] + 2 * t,
                                        (size_t)chunk * 8);
                }
            }
        /* the single exec on the last slot of the wide state */
        const fixture mixed = {b, one.e, all.s};
        b->ops->state_reset(all.s, SLOTS - 1);
        ut_err err = {0};
        for (int32_t t = 0; t < T; t++) {
            fixture_input(&mixed, "x", 1, x + len + (size_t)t * step, step * 4);
            assert_int_equal(b->ops->run(one.e, all.s, SLOTS - 1, 1, &err), UTTER_OK);
            memcpy(y + (size_t)t * step, fixture_output(&mixed, "y"), step * 4);
            memcpy(got_codes + 2 * t, fixture_output(&mixed, "codes"), 8);
        }
        check_bits(y, alone + len, len, "one slot of many");
        assert_memory_equal(got_codes, codes[1], sizeof got_codes);
        fixture_close(&one);
        fixture_close(&all);
        b->ops->close(b);
        ut_plan_free(n.plan);
    }
}

/* A tensor with history may be an output: its slots are apart in memory. */
static void test_outputs_with_history(void **state)
{
    (void)state;
    ut_state_set set = {0};
    const int h = ut_state_set_add(&set, "h", UT_F32, 2, 3);
    ut_plan *p = ut_plan_new("tap", &set, NULL);
    const ut_tid x = ut_op_copy(p, ut_plan_input(p, "x", UT_F32, 1, 0, 3));
    ut_op_conv_history(p, x, h);
    ut_plan_output(p, x, "y");
    ut_err err = {0};
    assert_int_equal(ut_plan_finish(p, &err), UTTER_OK);
    ut_backend *b = fixture_open(1, 0, UT_PRECISION_AUTO);
    fixture f = fixture_compile(b, p, 2, 5);
    const float *in = fixture_array(2 * 4 * 3, 1.0f);
    fixture_input(&f, "x", 4, in, 2 * 4 * 3 * 4);
    fixture_run(&f, 4);
    check_bits(fixture_output(&f, "y"), in, 2 * 4 * 3, "output with history");
    fixture_close(&f);
    b->ops->close(b);
    ut_plan_free(p);
}

static void test_no_allocations(void **state)
{
    (void)state;
    net n;
    net_init(&n, 24, UT_BF16);
    ut_backend *b = fixture_open(2, 0, UT_PRECISION_AUTO);
    fixture f = fixture_compile(b, n.plan, 1, MAX_T);
    const float *x = fixture_array((size_t)(8 * n.in_cols), 1.0f);
    const uint64_t before = ut_alloc_count();
    for (int i = 0; i < 100; i++) {
        fixture_input(&f, "x", 1 + i % 4, x, (size_t)((1 + i % 4) * 2 * n.in_cols) * 4);
        fixture_run(&f, 1 + i % 4);
        fixture_output(&f, "y");
    }
    assert_int_equal(ut_alloc_count() - before, 0);
    fixture_close(&f);
    b->ops->close(b);
    ut_plan_free(n.plan);
}

int run_cpu_stream_tests(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_chunks_and_threads),
        cmocka_unit_test(test_slots),
        cmocka_unit_test(test_outputs_with_history),
        cmocka_unit_test(test_no_allocations),
    };
    return cmocka_run_group_tests_name("streaming", tests, NULL, NULL);
}
