/* transformer.c - loading and emitting transformer.h. */
#include "nn/transformer.h"
#include <stdio.h>

/* "<prefix>layers.<i>.<what>" as a matrix or a vector. */
static const ut_weight *matrix(ut_loader *l, const char *prefix, int32_t i, const char *what,
                               int32_t rows, int32_t cols)
{
    return ut_load_matrix(l, rows, cols, "%slayers.%d.%s", prefix, (int)i, what);
}

static const ut_weight *vector(ut_loader *l, const char *prefix, int32_t i, const char *what,
                               int32_t n)
{
    return ut_load_vector(l, n, "%slayers.%d.%s", prefix, (int)i, what);
}

/* One fused projection, stored fused or as three. */
static const ut_weight *load_wqkv(ut_loader *l, const ut_tf *t, const char *prefix, int32_t i)
{
    const int32_t nq = t->n_heads * t->head_dim, nkv = t->n_kv_heads * t->head_dim;
    if (!ut_load_has(l, "%slayers.%d.attention.wq.weight", prefix, (int)i))
        return matrix(l, prefix, i, "attention.wqkv.weight", nq + 2 * nkv, t->dim);
    const ut_weight *q = matrix(l, prefix, i, "attention.wq.weight", nq, t->dim);
    const ut_weight *k = matrix(l, prefix, i, "attention.wk.weight", nkv, t->dim);
    const ut_weight *v = matrix(l, prefix, i, "attention.wv.weight", nkv, t->dim);
    const ut_weight *kv = l->status ? NULL : ut_weight_slice(l, k->name, k, 0, nkv, v);
    return l->status ? NULL : ut_weight_slice(l, q->name, q, 0, nq, kv);
}

static int add_cache(ut_loader *l, ut_state_set *states, int32_t capacity, int32_t width)
{
    const int s = ut_state_set_add(states, "kv_cache", UT_F32, capacity, width);
    if (s < 0)
        ut_loader_fail(l, UTTER_ERR_LIMIT, "too many layers: more than %d state tensors",
                       UT_STATE_MAX);
    else
        states->def[s].keep = true;
    return s;
}

static void load_layer(ut_loader *l, const ut_tf *t, const ut_tf_options *o, const char *prefix,
                       int32_t i, ut_tf_layer *y)
{
    const int32_t nq = t->n_heads * t->head_dim, nkv = t->n_kv_heads * t->head_dim;
    y->attn_norm = vector(l, prefix, i, "attention_norm.weight", t->dim);
    y->wqkv = load_wqkv(l, t, prefix, i);
    if (o->qkv_bias)
        y->bqkv = vector(l, prefix, i, "attention.wqkv.bias", nq + 2 * nkv);
    if (o->qk_norm) {
        y->q_norm = vector(l, prefix, i, "attention.q_norm.weight", t->head_dim);
        y->k_norm = vector(l, prefix, i, "attention.k_norm.weight", t->head_dim);
    }
    y->wo = matrix(l, prefix, i, "attention.wo.weight", t->dim, nq);
    if (o->o_bias)
        y->bo = vector(l, prefix, i, "attention.wo.bias", t->dim);
    y->ffn_norm = vector(l, prefix, i, "ffn_norm.weight", t->dim);
    const ut_weight *w1 = matrix(l, prefix, i, "feed_forward.w1.weight", t->ffn_dim, t->dim);
    const ut_weight *w3 = matrix(l, prefix, i, "feed_forward.w3.weight", t->ffn_dim, t->dim);
    if (l->status == UTTER_OK)
        y->w13 = ut_weight_slice(l, w1->name, w1, 0, t->ffn_dim, w3);
    y->w2 = matrix(l, prefix, i, "feed_forward.w2.weight", t->dim, t->ffn_dim);
    if (o->layer_scale) {
        y->attn_scale = vector(l, prefix, i, "attention_layer_scale.gamma", t->dim);
        y->ffn_scale = vector(l, prefix, i, "ffn_layer_scale.gamma", t->dim);
    }
}

void ut_tf_load(ut_loader *l, ut_tf *t, const ut_tf_options *o, const char *prefix,
                ut_state_set *states, int32_t capacity)
{
    if (l->status != UTTER_OK)
        return;
    t->layers = ut_arena_alloc(l->arena, (size_t)t->n_layers * sizeof *t->layers);
    if (!t->layers)
        ut_loader_fail(l, UTTER_ERR_NOMEM, "no memory for %d layers", (int)t->n_layers);
    for (int32_t i = 0; l->status == UTTER_OK && i < t->n_layers; i++) {
        load_layer(l, t, o, prefix, i, &t->layers[i]);
        t->layers[i].cache_k = add_cache(l, states, capacity, t->n_kv_heads * t->head_dim);
        t->layers[i].cache_v = add_cache(l, states, capacity, t->n_kv_heads * t->head_dim);
    }
}

static ut_tid emit_layer(ut_plan *p, const ut_tf *t, const ut_tf_layer *y, ut_tid x, ut_tid angles,
                         const ut_attn_args *a)
{
    ut_tid u = ut_op_rms_norm(p, x, y->attn_norm, t->norm_eps);
    const ut_linear_args qkv = {.w = y->wqkv, .bias = y->bqkv, .residual = UT_NONE};
    u = ut_op_linear(p, u, &qkv);
    u = ut_op_qkv(p, u, angles, y->q_norm, y->k_norm, t->norm_eps, a);
    u = ut_op_attention(p, u, a);
    const ut_linear_args wo = {.w = y->wo, .bias = y->bo, .gamma = y->attn_scale, .residual = x};
    x = ut_op_linear(p, u, &wo);

    u = ut_op_rms_norm(p, x, y->ffn_norm, t->norm_eps);
    u = ut_op_swiglu(p, ut_op_matmul(p, u, y->w13, UT_NONE));
    const ut_linear_args w2 = {.w = y->w2, .gamma = y->ffn_scale, .residual = x};
    return ut_op_linear(p, u, &w2);
}

ut_tid ut_tf_emit(ut_plan *p, const ut_tf *t, ut_tid x, ut_tid pos, int32_t first_pos)
{
    /* cos and sin are rounded to bf16 by every model of this kind, whatever it computes in */
    const ut_tid angles = ut_op_rope_angles(p, x, pos, first_pos, t->head_dim, t->rope_base, true);
    for (int32_t i = 0; i < t->n_layers; i++) {
        const ut_attn_args a = {.n_heads = t->n_heads,
                                .n_kv_heads = t->n_kv_heads,
                                .head_dim = t->head_dim,
                                .window = t->window,
                                .first_pos = first_pos,
                                .pos = pos,
                                .cache_k = ut_plan_state(p, t->layers[i].cache_k),
                                .cache_v = ut_plan_state(p, t->layers[i].cache_v)};
        x = emit_layer(p, t, &t->layers[i], x, angles, &a);
        if (t->label)
            ut_plan_name(p, x, "%s.layer%d", t->label, (int)i);
    }
    return x;
}
