/* transformer.h - the pre-norm transformer that language models and codecs share: RMS or layer
 * norm, grouped query attention with rotary positions and a KV cache, SwiGLU or a GELU network;
 * optional q/k norms, biases, and layer scales on both branches. */
#ifndef UT_NN_TRANSFORMER_H
#define UT_NN_TRANSFORMER_H

#include "nn/load.h"
#include "plan/plan.h"

typedef struct ut_tf_layer {
    const ut_weight *attn_norm, *ffn_norm; /* [1, dim] */
    const ut_weight *attn_bias, *ffn_bias; /* [1, dim] of layer norms; NULL: RMS norms */
    const ut_weight *wqkv, *bqkv;          /* [(H + 2 Hkv) D, dim]; bias or NULL */
    const ut_weight *q_norm, *k_norm;      /* [1, D] or NULL */
    const ut_weight *wo, *bo;              /* [dim, H D]; bias or NULL */
    const ut_weight *w13, *w2;             /* [2 I, dim] gate then up (gelu: [I, dim]); [dim, I] */
    const ut_weight *attn_scale, *ffn_scale; /* [1, dim] or NULL */
    int cache_k, cache_v;                    /* states [capacity, Hkv D] */
} ut_tf_layer;

typedef struct ut_tf {
    int32_t n_layers, dim, n_heads, n_kv_heads, head_dim, ffn_dim;
    int32_t window; /* positions a query sees, itself included; 0: all */
    float norm_eps, rope_base;
    ut_rope rope;
    bool rope_f32;         /* cos and sin as they are, else rounded to bf16 */
    bool gelu;             /* w2 gelu(w1 x) in place of SwiGLU; ut_tf_load sets it */
    const char *label;     /* taps are named "<label>.layer<i>"; NULL: no taps */
    ut_tf_layer *layers;   /* [n_layers] */
    const ut_weight *norm; /* final, [1, dim]; NULL: the caller's business */
} ut_tf;

/* What follows "<prefix>layers.<i>." in the names of a layer's tensors; ".weight" or ".bias" comes
 * behind all but the scales. */
typedef struct ut_tf_names {
    const char *attn_norm, *wqkv, *wq, *wk, *wv; /* wqkv NULL: always stored as three */
    const char *q_norm, *k_norm, *wo;
    const char *ffn_norm, *w1, *w3, *w2; /* gate, up, down */
    const char *attn_scale, *ffn_scale;
} ut_tf_names;

/* As in llama and fish_speech: "attention.wqkv", "feed_forward.w1", ... */
extern const ut_tf_names ut_tf_names_llama;
/* As in Hugging Face's transformers: "self_attn.q_proj", "mlp.gate_proj", ... */
extern const ut_tf_names ut_tf_names_hf;

/* Which of the optional tensors the layers have, and what they are called. */
typedef struct ut_tf_options {
    bool qkv_bias, o_bias, qk_norm, layer_scale;
    bool layer_norm, gelu;
    const ut_tf_names *names; /* NULL: ut_tf_names_llama */
} ut_tf_options;

/* Fill t->layers from the checkpoint; the sizes in t are set by the caller. Adds two cache states
 * of `capacity` positions per layer. */
void ut_tf_load(ut_loader *l, ut_tf *t, const ut_tf_options *o, const char *prefix,
                ut_state_set *states, int32_t capacity);

/* How many caches the layers have, and the first of their states, which lie in a row. */
int ut_tf_caches(const ut_tf *t, int *first);

/* All layers over x [rows, dim], the final norm not included. Row r stands at position first_pos +
 * r + pos (an i32 state, or UT_NONE). */
ut_tid ut_tf_emit(ut_plan *p, const ut_tf *t, ut_tid x, ut_tid pos, int32_t first_pos);

#endif
