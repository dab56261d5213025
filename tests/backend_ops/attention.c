/* attention.c - rotation, caches, attention. */
#include "fixture.h"
#include <stdio.h>

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
}
