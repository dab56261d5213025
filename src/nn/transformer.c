/* transformer.c - loading and emitting transformer.h. */
#include "nn/transformer.h"
#include <stdio.h>

const ut_tf_names ut_tf_names_llama = {.attn_norm = "attention_norm",
                                       .wqkv = "attention.wqkv",
                                       .wq = "attention.wq",
                                       .wk = "attention.wk",
                                       .wv = "attention.wv",
                                       .q_norm = "attention.q_norm",
                                       .k_norm = "attention.k_norm",
                                       .wo = "attention.wo",
                                       .ffn_norm = "ffn_norm",
                                       .w1 = "feed_forward.w1",
                                       .w3 = "feed_forward.w3",
                                       .w2 = "feed_forward.w2",
                                       .attn_scale = "attention_layer_scale.gamma",
                                       .ffn_scale = "ffn_layer_scale.gamma"};

const ut_tf_names ut_tf_names_hf = {.attn_norm = "input_layernorm",
                                    .wq = "self_attn.q_proj",
                                    .wk = "self_attn.k_proj",
                                    .wv = "self_attn.v_proj",
                                    .q_norm = "self_attn.q_norm",
                                    .k_norm = "self_attn.k_norm",
                                    .wo = "self_attn.o_proj",
                                    .ffn_norm = "post_attention_layernorm",
                                    .w1 = "mlp.gate_proj",
                                    .w3 = "mlp.up_proj",
                                    .w2 = "mlp.down_proj",
                                    .attn_scale = "self_attn_layer_scale.scale",
                                    .ffn_scale = "mlp_layer_scale.scale"};

/* A layer being loaded: "<prefix>layers.<i>." and the names behind it. */
typedef struct layer_source {
    ut_loader *l;
    const char *prefix;
    int32_t i;
    const ut_tf_names *names;
} layer_source;

static const ut_weight *matrix(const layer_source *s, const char *what, int32_t rows, int32_t cols)
{
    return ut_load_matrix(s->l, rows, cols, "%slayers.%d.%s.weight", s->prefix, (int)s->i, what);
}

static const ut_weight *vector(const layer_source *s, const char *what, const char *suffix,
                               int32_t n)
{
    return ut_load_vector(s->l, n, "%slayers.%d.%s%s", s->prefix, (int)s->i, what, suffix);
}

/* One fused projection, stored fused or as three. */
static const ut_weight *load_wqkv(const layer_source *s, const ut_tf *t)
{
    ut_loader *l = s->l;
    const ut_tf_names *n = s->names;
    const int32_t nq = t->n_heads * t->head_dim, nkv = t->n_kv_heads * t->head_dim;
    if (n->wqkv && !ut_load_has(l, "%slayers.%d.%s.weight", s->prefix, (int)s->i, n->wq))
        return matrix(s, n->wqkv, nq + 2 * nkv, t->dim);
    const ut_weight *q = matrix(s, n->wq, nq, t->dim);
    const ut_weight *k = matrix(s, n->wk, nkv, t->dim);
    const ut_weight *v = matrix(s, n->wv, nkv, t->dim);
    const ut_weight *kv = l->status ? NULL : ut_weight_slice(l, k->name, k, 0, nkv, v);
    return l->status ? NULL : ut_weight_slice(l, q->name, q, 0, nq, kv);
}

static int add_cache(ut_loader *l, ut_state_set *states, int32_t capacity, int32_t width)
{
    const int s = ut_load_state(l, states, "kv_cache", UT_F32, capacity, width);
    if (s >= 0)
        states->def[s].keep = true;
    return s;
}

static void load_layer(const layer_source *s, const ut_tf *t, const ut_tf_options *o,
                       ut_tf_layer *y)
{
    ut_loader *l = s->l;
    const ut_tf_names *n = s->names;
    const int32_t nq = t->n_heads * t->head_dim, nkv = t->n_kv_heads * t->head_dim;
    y->attn_norm = vector(s, n->attn_norm, ".weight", t->dim);
    if (o->layer_norm)
        y->attn_bias = vector(s, n->attn_norm, ".bias", t->dim);
    y->wqkv = load_wqkv(s, t);
    if (o->qkv_bias)
        y->bqkv = vector(s, n->wqkv, ".bias", nq + 2 * nkv);
    if (o->qk_norm) {
        y->q_norm = vector(s, n->q_norm, ".weight", t->head_dim);
        y->k_norm = vector(s, n->k_norm, ".weight", t->head_dim);
    }
    y->wo = matrix(s, n->wo, t->dim, nq);
    if (o->o_bias)
        y->bo = vector(s, n->wo, ".bias", t->dim);
    y->ffn_norm = vector(s, n->ffn_norm, ".weight", t->dim);
    if (o->layer_norm)
        y->ffn_bias = vector(s, n->ffn_norm, ".bias", t->dim);
    const ut_weight *w1 = matrix(s, n->w1, t->ffn_dim, t->dim);
    const ut_weight *w3 = o->gelu ? NULL : matrix(s, n->w3, t->ffn_dim, t->dim);
    if (l->status == UTTER_OK)
        y->w13 = o->gelu ? w1 : ut_weight_slice(l, w1->name, w1, 0, t->ffn_dim, w3);
    y->w2 = matrix(s, n->w2, t->dim, t->ffn_dim);
    if (o->layer_scale) {
        y->attn_scale = vector(s, n->attn_scale, "", t->dim);
        y->ffn_scale = vector(s, n->ffn_scale, "", t->dim);
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
    t->gelu = o->gelu;
    for (int32_t i = 0; l->status == UTTER_OK && i < t->n_layers; i++) {
        const layer_source s = {l, prefix, i, o->names ? o->names : &ut_tf_names_llama};
        load_layer(&s, t, o, &t->layers[i]);
        t->layers[i].cache_k = add_cache(l, states, capacity, t->n_kv_heads * t->head_dim);
        t->layers[i].cache_v = add_cache(l, states, capacity, t->n_kv_heads * t->head_dim);
    }
}

int ut_tf_caches(const ut_tf *t, int *first)
{
    *first = t->layers && t->n_layers > 0 ? t->layers[0].cache_k : 0;
    return t->layers ? 2 * t->n_layers : 0;
}

static ut_tid norm(ut_plan *p, ut_tid x, const ut_weight *gain, const ut_weight *bias, float eps)
{
    return bias ? ut_op_layer_norm(p, x, gain, bias, eps) : ut_op_rms_norm(p, x, gain, eps);
}

static ut_tid emit_layer(ut_plan *p, const ut_tf *t, const ut_tf_layer *y, ut_tid x, ut_tid angles,
                         const ut_attn_args *a)
{
    ut_tid u = norm(p, x, y->attn_norm, y->attn_bias, t->norm_eps);
    const ut_linear_args qkv = {.w = y->wqkv, .bias = y->bqkv, .residual = UT_NONE};
    u = ut_op_linear(p, u, &qkv);
    u = ut_op_qkv(p, u, angles, y->q_norm, y->k_norm, t->norm_eps, a);
    u = ut_op_attention(p, u, a);
    const ut_linear_args wo = {.w = y->wo, .bias = y->bo, .gamma = y->attn_scale, .residual = x};
    x = ut_op_linear(p, u, &wo);

    u = norm(p, x, y->ffn_norm, y->ffn_bias, t->norm_eps);
    const ut_linear_args w13 = {
        .w = y->w13, .act = t->gelu ? UT_ACT_GELU : UT_ACT_NONE, .residual = UT_NONE};
    u = ut_op_linear(p, u, &w13);
    if (!t->gelu)
        u = ut_op_swiglu(p, u);
    const ut_linear_args w2 = {.w = y->w2, .gamma = y->ffn_scale, .residual = x};
    return ut_op_linear(p, u, &w2);
}

ut_tid ut_tf_emit(ut_plan *p, const ut_tf *t, ut_tid x, ut_tid pos, int32_t first_pos)
{
    const ut_tid angles =
        ut_op_rope_angles(p, x, pos, first_pos, t->head_dim, t->rope_base, !t->rope_f32);
    for (int32_t i = 0; i < t->n_layers; i++) {
        const ut_attn_args a = {.n_heads = t->n_heads,
                                .n_kv_heads = t->n_kv_heads,
                                .head_dim = t->head_dim,
                                .window = t->window,
                                .first_pos = first_pos,
                                .rope = t->rope,
                                .pos = pos,
                                .cache_k = ut_plan_state(p, t->layers[i].cache_k),
                                .cache_v = ut_plan_state(p, t->layers[i].cache_v)};
        x = emit_layer(p, t, &t->layers[i], x, angles, &a);
        if (t->label)
            ut_plan_name(p, x, "%s.layer%d", t->label, (int)i);
    }
    return x;
}
