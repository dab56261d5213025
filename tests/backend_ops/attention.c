/* attention.c - rotation, caches, attention. */
#include "fixture.h"
#include "base/alloc.h"
#include "base/half.h"
#include <stdio.h>
#include <string.h>

static void set_pos(const ut_backend_ops *ops, ut_state *s, int slot, int role)
{
    const int32_t pos = 2 * role;
    ops->state_write(s, 0, slot, 0, 1, &pos);
}

static void test_attention(int32_t heads, int32_t kv_heads, int32_t dim, int32_t window,
                           ut_dtype cache, bool norms, int32_t n_t, ut_rope rope)
{
    test_case c;
    char name[96];
    snprintf(name, sizeof name, "attention %d/%d heads of %d, window %d, %s, %d steps, rope %d",
             (int)heads, (int)kv_heads, (int)dim, (int)window, type_names[cache], (int)n_t,
             (int)rope);
    ut_plan *p = begin(&c, name, n_t);
    c.tolerance = cache == UT_BF16 ? 4e-3 : 1e-5;
    c.prepare = set_pos;
    const int32_t capacity = window ? window + 2 * n_t : 2 * n_t + 8;
    const int pos = ut_state_set_add(&c.states, "pos", UT_I32, 1, 1);
    const int k = ut_state_set_add(&c.states, "k", cache, capacity, kv_heads * dim);
    const int v = ut_state_set_add(&c.states, "v", cache, capacity, kv_heads * dim);
    const ut_tid x = ut_plan_input(p, "x", UT_F32, 2, 0, (heads + 2 * kv_heads) * dim);
    const ut_attn_args a = {.n_heads = heads,
                            .n_kv_heads = kv_heads,
                            .head_dim = dim,
                            .window = window,
                            .first_pos = 0,
                            .pos = ut_plan_state(p, pos),
                            .cache_k = ut_plan_state(p, k),
                            .cache_v = ut_plan_state(p, v),
                            .rope = rope};
    const ut_tid angles = ut_op_rope_angles(p, x, a.pos, 0, dim, 10000.0f, true);
    const ut_weight *gain = norms ? vector(&c, dim, 1.0f) : NULL;
    const ut_tid q = ut_op_qkv(p, x, angles, gain, gain, 1e-6f, &a);
    ut_plan_output(p, q, "q");
    ut_plan_output(p, ut_op_attention(p, q, &a), "y");
    ut_op_advance(p, a.pos, 0, 2);
    test(&c);
}

/* Fixed rows at fixed positions, as the second transformer of a DualAR model has them. */
static void test_fixed_attention(void)
{
    test_case c;
    ut_plan *p = begin(&c, "attention at fixed positions", 1);
    const int k = ut_state_set_add(&c.states, "k", UT_F32, 5, 16);
    const int v = ut_state_set_add(&c.states, "v", UT_F32, 5, 16);
    for (int step = 0; step < 3; step++) {
        static const char *const names[] = {"x0", "x1", "x2"};
        static const char *const out[] = {"y0", "y1", "y2"};
        const ut_tid x = ut_plan_input(p, names[step], UT_F32, 0, step ? 1 : 2, 4 * 16);
        const ut_attn_args a = {.n_heads = 2,
                                .n_kv_heads = 1,
                                .head_dim = 16,
                                .first_pos = step ? step + 1 : 0,
                                .pos = UT_NONE,
                                .cache_k = ut_plan_state(p, k),
                                .cache_v = ut_plan_state(p, v)};
        const ut_tid angles = ut_op_rope_angles(p, x, UT_NONE, a.first_pos, 16, 10000.0f, false);
        const ut_tid q = ut_op_qkv(p, x, angles, NULL, NULL, 1e-6f, &a);
        ut_plan_output(p, ut_op_attention(p, q, &a), out[step]);
    }
    test(&c);
}

/* A decoding step over caches of different lengths. */
enum { STEP_POS, STEP_K, STEP_V };
static const int32_t step_pos[] = {1, 130,
                                   777}; /* of the slots; the caches are filled up to there */

static void fill_caches(const ut_backend_ops *ops, ut_state *s, int slot, int role)
{
    for (int i = STEP_K; i <= STEP_V; i++) {
        const ut_state_def *d = &s->set->def[i];
        const size_t n = (size_t)d->rows * (size_t)d->cols, size = ut_dtype_size(d->dtype);
        uint8_t *data = must(ut_malloc(n * size));
        uint32_t bits = 77u * (uint32_t)role + (uint32_t)i;
        for (size_t k = 0; k < n; k++) {
            bits = bits * 1664525u + 1013904223u;
            const float f = (float)(bits >> 8) / 8388608.0f - 1.0f;
            const uint16_t h = ut_f32_to_bf16(f);
            memcpy(data + k * size, d->dtype == UT_BF16 ? (const void *)&h : (const void *)&f,
                   size);
        }
        ops->state_write(s, i, slot, 0, d->rows, data);
        ut_free(data);
    }
    ops->state_write(s, STEP_POS, slot, 0, 1, &step_pos[role]);
}

/* keep: caches as models have them, which a backend may narrow to its precision. */
static void test_step(int32_t heads, int32_t kv_heads, int32_t dim, int32_t window,
                      int32_t capacity, int32_t rows, ut_dtype cache, bool keep)
{
    test_case c;
    char name[96];
    snprintf(name, sizeof name, "attention of %d rows, %d/%d heads of %d, window %d of %d, %s",
             (int)rows, (int)heads, (int)kv_heads, (int)dim, (int)window, (int)capacity,
             type_names[cache]);
    ut_plan *p = begin(&c, name, 1);
    c.prepare = fill_caches;
    const int pos = ut_state_set_add(&c.states, "pos", UT_I32, 1, 1);
    const int k = ut_state_set_add(&c.states, "k", cache, capacity, kv_heads * dim);
    const int v = ut_state_set_add(&c.states, "v", cache, capacity, kv_heads * dim);
    c.states.def[k].keep = c.states.def[v].keep = keep;
    c.tolerance = keep ? 4e-3 : 1e-5;
    const ut_tid q = ut_plan_input(p, "q", UT_F32, 0, rows, heads * dim);
    const ut_attn_args a = {.n_heads = heads,
                            .n_kv_heads = kv_heads,
                            .head_dim = dim,
                            .window = window,
                            .pos = ut_plan_state(p, pos),
                            .cache_k = ut_plan_state(p, k),
                            .cache_v = ut_plan_state(p, v)};
    ut_plan_output(p, ut_op_attention(p, q, &a), "y");
    test(&c);
}

static void test_steps(void)
{
    for (int type = 0; type < 2; type++) {
        const ut_dtype cache = type ? UT_BF16 : UT_F32;
        test_step(2, 1, 128, 0, 800, 1, cache, false);
        test_step(4, 4, 64, 0, 2100, 2, cache, false);
        test_step(8, 1, 40, 0, 4200, 1, cache, false);
        test_step(3, 1, 16, 0, 800, 3, cache, false);
        test_step(12, 3, 136, 100, 101, 2, cache, false);
        test_step(16, 2, 128, 300, 333, 1, cache, false);
        test_step(1, 1, 30, 0, 800, 1, cache, false); /* no multiple of 8 */
    }
}

/* Many rows: tiles of rows and of positions, and their edges. */
static void test_many_rows(void)
{
    static const int32_t shapes[][5] = {/* heads, heads of keys, dimensions, window, steps */
                                        {2, 1, 128, 0, 72}, {4, 4, 64, 0, 66},  {8, 1, 16, 0, 20},
                                        {3, 1, 24, 40, 68}, {4, 1, 72, 24, 36}, {2, 2, 40, 7, 12},
                                        {1, 1, 120, 0, 9}};
    for (size_t i = 0; i < sizeof shapes / sizeof shapes[0]; i++)
        test_attention(shapes[i][0], shapes[i][1], shapes[i][2], shapes[i][3], UT_BF16, i % 2,
                       shapes[i][4], i % 3 ? UT_ROPE_PAIRS : UT_ROPE_HALVES);
}

/* With the precision bf16, caches that a model keeps in f32 may be bf16 on the device: written,
 * used and read as what they are. And `flash` is refused where the plain kernel would have to do.
 */
static void test_precisions(void)
{
    ut_backend *usual = tested;
    ut_err err = {0};
    const ut_backend_params bf16 = {.threads = 2, .precision = UT_PRECISION_BF16};
    const ut_backend_params flash = {
        .threads = 2, .precision = UT_PRECISION_F32, .attention = UT_ATTENTION_FLASH};
    check(ut_backend_open(&tested, usual->ops->name, &bf16, &err) == UTTER_OK, "bf16", err.msg);
    if (tested) {
        test_step(4, 2, 128, 0, 800, 1, UT_F32, true);
        test_step(3, 1, 12, 0, 800, 2, UT_F32, true);
        tested->ops->close(tested);
    }
    ut_backend *b = NULL;
    if (strcmp(usual->ops->name, "cuda") == 0 &&
        ut_backend_open(&b, usual->ops->name, &flash, &err) == UTTER_OK) {
        test_case c;
        ut_plan *p = begin(&c, "flash over f32", 4);
        const int k = ut_state_set_add(&c.states, "k", UT_F32, 8, 32);
        const ut_attn_args a = {.n_heads = 2,
                                .n_kv_heads = 1,
                                .head_dim = 32,
                                .pos = UT_NONE,
                                .cache_k = ut_plan_state(p, k),
                                .cache_v = ut_plan_state(p, k)};
        ut_plan_output(p, ut_op_attention(p, ut_plan_input(p, "q", UT_F32, 1, 0, 64), &a), "y");
        ut_exec *e = NULL;
        check(ut_plan_finish(p, &err) == UTTER_OK, c.name, err.msg);
        check(b->ops->compile(b, p, 1, 4, &e, &err) == UTTER_ERR_UNSUPPORTED &&
                  strstr(err.msg, "precision bf16"),
              c.name, err.msg);
        b->ops->exec_free(e);
        b->ops->close(b);
        end(&c);
    }
    tested = usual;
}

void test_attentions(void)
{
    test_attention(4, 2, 16, 0, UT_F32, true, 9, UT_ROPE_PAIRS);
    test_attention(4, 2, 16, 0, UT_BF16, true, 9, UT_ROPE_PAIRS);
    test_attention(3, 3, 6, 5, UT_F32, false, 9, UT_ROPE_PAIRS);
    test_attention(2, 1, 128, 0, UT_F32, true, 7, UT_ROPE_PAIRS);
    test_attention(8, 1, 64, 40, UT_F32, true, 50, UT_ROPE_PAIRS);
    test_attention(1, 1, 32, 0, UT_F32, false, 150,
                   UT_ROPE_PAIRS); /* more positions than a block has threads */
    test_attention(2, 2, 320, 7, UT_F32, true, 5, UT_ROPE_PAIRS);
    test_attention(4, 2, 16, 0, UT_F32, true, 9, UT_ROPE_HALVES);
    test_attention(3, 1, 70, 5, UT_BF16, false, 5, UT_ROPE_HALVES);
    test_fixed_attention();
    test_many_rows();
    test_steps();
    test_precisions();
}
