/* codec_load.c - the codec's tensors (specification, section 7; reference: fish_speech's
 * modded_dac.py and rvq.py). Channel counts, strides, layer counts and head sizes are read off the
 * shapes; a kernel of 2s means a stride of s. */
#include "models/s1_mini/codec.h"
#include <stdio.h>
#include <string.h>

#define MAX_RUN_FRAMES 128 /* codec frames in one run, at most: caches of windows are as long */

static int32_t to_i32(int64_t v)
{
    return v > INT32_MAX ? INT32_MAX : (int32_t)v;
}

/* Number of consecutive i >= first for which the tensor "<prefix><i><suffix>" exists. */
static int32_t count(const ut_loader *l, const char *prefix, int32_t first, const char *suffix)
{
    int32_t n = 0;
    while (n < 4096 && ut_load_has(l, "%s%d%s", prefix, (int)(first + n), suffix))
        n++;
    return n;
}

static bool count_ok(ut_loader *l, int32_t n, const char *what)
{
    if (l->status == UTTER_OK && (n < 1 || n > UT_S1_MAX_BLOCKS))
        ut_loader_fail(l, UTTER_ERR_MODEL, "found %d %s, expected 1 to %d", (int)n, what,
                       UT_S1_MAX_BLOCKS);
    return l->status == UTTER_OK;
}

static int add_pos(ut_loader *l, ut_state_set *states)
{
    const int s = ut_state_set_add(states, "pos", UT_I32, 1, 1);
    if (s < 0)
        ut_loader_fail(l, UTTER_ERR_LIMIT, "too many layers: more than %d state tensors",
                       UT_STATE_MAX);
    return s;
}

/* A transformer whose sizes are in its tensors: "<prefix>.layers.*", "<prefix>.norm.weight",
 * "<prefix>.freqs_cis" [positions, head_dim / 2, 2]. rows: time steps per codec frame. */
static void load_tf(ut_loader *l, ut_tf *t, const ut_s1_config *config, const char *prefix,
                    int32_t dim, int32_t window, int32_t rows, ut_state_set *states)
{
    char name[160];
    snprintf(name, sizeof name, "%s.layers.", prefix);
    t->n_layers = count(l, name, 0, ".attention.wo.weight");
    const ut_view *freqs = ut_load_find(l, "%s.freqs_cis", prefix);
    const ut_view *wo = ut_load_find(l, "%s.layers.0.attention.wo.weight", prefix);
    const ut_view *wqkv = ut_load_find(l, "%s.layers.0.attention.wqkv.weight", prefix);
    const ut_view *w1 = ut_load_find(l, "%s.layers.0.feed_forward.w1.weight", prefix);
    t->dim = dim;
    t->head_dim = freqs && freqs->n_dims == 3 ? to_i32(2 * freqs->dim[1]) : 64;
    t->n_heads = wo && wo->n_dims == 2 ? to_i32(wo->dim[1]) / t->head_dim : 0;
    if (t->n_layers < 1 || t->n_layers > 64 || t->n_heads < 1 || t->head_dim % 2) {
        ut_loader_fail(l, UTTER_ERR_MODEL,
                       "%s has %d layers and %d heads of %d, expected 1 to 64 layers and whole "
                       "heads of an even size",
                       prefix, (int)t->n_layers, (int)t->n_heads, (int)t->head_dim);
        return;
    }
    const int64_t kv =
        wqkv && wqkv->n_dims == 2 ? (wqkv->dim[0] / t->head_dim - t->n_heads) / 2 : t->n_heads;
    t->n_kv_heads = kv < 1 || kv > t->n_heads || t->n_heads % kv ? t->n_heads : (int32_t)kv;
    t->ffn_dim = w1 && w1->n_dims == 2 ? to_i32(w1->dim[0]) : 3 * dim;
    t->window = window;
    t->norm_eps = config->codec_norm_eps;
    t->rope_base = config->codec_rope_base;
    const ut_tf_options options = {.layer_scale = true};
    snprintf(name, sizeof name, "%s.", prefix);
    ut_tf_load(l, t, &options, name, states, window + rows * MAX_RUN_FRAMES - 1);
    t->norm = ut_load_vector(l, dim, "%s.norm.weight", prefix);
    if (freqs)
        ut_loader_use(l, freqs);
}

static void load_units(ut_loader *l, const ut_s1_config *config, ut_resunit *units,
                       int32_t channels, ut_state_set *states, const char *prefix, int32_t first)
{
    char name[160];
    for (int32_t u = 0; u < config->n_dilations; u++) {
        snprintf(name, sizeof name, "%s.%d", prefix, (int)(first + u));
        ut_resunit_load(l, &units[u], channels, config->dilations[u], states, name);
    }
}

/* ---- Encoder -------------------------------------------------------------------------------- */

static void load_encoder_block(ut_loader *l, const ut_s1_config *config, ut_s1_codec_block *b,
                               int32_t i, int32_t in_channels, ut_state_set *states)
{
    char prefix[96], name[160];
    const int n = config->n_dilations;
    snprintf(prefix, sizeof prefix, "encoder.block.%d.block", (int)i);
    load_units(l, config, b->units, in_channels, states, prefix, 0);
    b->alpha = ut_load_vector(l, in_channels, "%s.%d.alpha", prefix, n);
    snprintf(name, sizeof name, "%s.%d.conv", prefix, n + 1);
    ut_conv_load(l, &b->conv, UT_CONV, in_channels, -1, 0, 1, states, name);
}

static void load_encoder(ut_loader *l, ut_s1_codec *c, const ut_s1_config *config,
                         ut_state_set *states)
{
    char name[160], suffix[32];
    snprintf(suffix, sizeof suffix, ".block.%d.alpha", (int)config->n_dilations);
    c->n_enc = count(l, "encoder.block.", 1, suffix);
    if (!count_ok(l, c->n_enc, "encoder blocks"))
        return;
    ut_conv_load(l, &c->enc_in, UT_CONV, 1, -1, 1, 1, states, "encoder.block.0.conv");
    int32_t channels = c->enc_in.out_channels, hop = 1;
    for (int32_t i = 0; l->status == UTTER_OK && i < c->n_enc; i++) {
        load_encoder_block(l, config, &c->enc[i], i + 1, channels, states);
        channels = c->enc[i].conv.out_channels;
        hop *= l->status == UTTER_OK ? c->enc[i].conv.in_rows : 1;
    }
    c->enc_alpha = ut_load_vector(l, channels, "encoder.block.%d.alpha", (int)(c->n_enc + 1));
    snprintf(name, sizeof name, "encoder.block.%d.conv", (int)(c->n_enc + 2));
    ut_conv_load(l, &c->enc_out, UT_CONV, channels, -1, 1, 1, states, name);

    channels = c->enc_out.out_channels;
    for (int32_t i = 0; l->status == UTTER_OK && i < c->n_resample; i++) {
        snprintf(name, sizeof name, "quantizer.downsample.%d.0.conv", (int)i);
        int64_t dim[3] = {0, 0, 1};
        ut_conv_shape(l, name, dim);
        ut_conv_load(l, &c->down[i], UT_CONV, channels, channels, to_i32(dim[2]), 1, states, name);
        snprintf(name, sizeof name, "quantizer.downsample.%d.1", (int)i);
        ut_convnext_load(l, &c->down_next[i], channels, states, name);
        hop *= l->status == UTTER_OK ? c->down[i].in_rows : 1;
    }
    c->hop_samples = hop;
}

/* Transformers inside encoder blocks: their steps per codec frame are known once hop is. */
static void load_encoder_transformers(ut_loader *l, ut_s1_codec *c, const ut_s1_config *config,
                                      ut_state_set *states)
{
    char name[160];
    int32_t rows = c->hop_samples;
    for (int32_t i = 0; l->status == UTTER_OK && i < c->n_enc; i++) {
        ut_s1_codec_block *b = &c->enc[i];
        rows /= b->conv.in_rows;
        snprintf(name, sizeof name, "encoder.block.%d.block.%d", (int)(i + 1),
                 (int)(config->n_dilations + 2));
        if (!ut_load_has(l, "%s.norm.weight", name))
            continue;
        b->tf_rows = rows;
        load_tf(l, &b->tf, config, name, b->conv.out_channels, config->encoder_window, rows,
                states);
        b->tf_pos = add_pos(l, states);
    }
}

/* ---- Decoder -------------------------------------------------------------------------------- */

static void load_decoder(ut_loader *l, ut_s1_codec *c, const ut_s1_config *config, int32_t latent,
                         ut_state_set *states)
{
    char prefix[96], name[160];
    int32_t hop = 1;
    for (int32_t i = 0; l->status == UTTER_OK && i < c->n_resample; i++) {
        snprintf(name, sizeof name, "quantizer.upsample.%d.0.conv", (int)i);
        int64_t dim[3] = {0, 0, 1};
        ut_conv_shape(l, name, dim);
        ut_conv_load(l, &c->up[i], UT_CONV_TRANSPOSED, latent, latent, to_i32(dim[2]), 1, states,
                     name);
        snprintf(name, sizeof name, "quantizer.upsample.%d.1", (int)i);
        ut_convnext_load(l, &c->up_next[i], latent, states, name);
        hop *= l->status == UTTER_OK ? c->up[i].out_rows : 1;
    }
    c->n_dec = count(l, "decoder.model.", 1, ".block.0.alpha");
    if (!count_ok(l, c->n_dec, "decoder blocks"))
        return;
    ut_conv_load(l, &c->dec_in, UT_CONV, latent, -1, 1, 1, states, "decoder.model.0.conv");
    int32_t channels = c->dec_in.out_channels;
    for (int32_t i = 0; l->status == UTTER_OK && i < c->n_dec; i++) {
        ut_s1_codec_block *b = &c->dec[i];
        snprintf(prefix, sizeof prefix, "decoder.model.%d.block", (int)(i + 1));
        b->alpha = ut_load_vector(l, channels, "%s.0.alpha", prefix);
        snprintf(name, sizeof name, "%s.1.conv", prefix);
        ut_conv_load(l, &b->conv, UT_CONV_TRANSPOSED, channels, -1, 0, 1, states, name);
        channels = b->conv.out_channels;
        load_units(l, config, b->units, channels, states, prefix, 2);
        hop *= l->status == UTTER_OK ? b->conv.out_rows : 1;
    }
    c->dec_alpha = ut_load_vector(l, channels, "decoder.model.%d.alpha", (int)(c->n_dec + 1));
    snprintf(name, sizeof name, "decoder.model.%d.conv", (int)(c->n_dec + 2));
    ut_conv_load(l, &c->dec_out, UT_CONV, channels, 1, 1, 1, states, name);
    if (l->status == UTTER_OK && hop != c->hop_samples)
        ut_loader_fail(l, UTTER_ERR_MODEL,
                       "the decoder makes %d samples per frame, expected the encoder's %d",
                       (int)hop, (int)c->hop_samples);
}

/* ---- All of it ------------------------------------------------------------------------------ */

static void load_rvq(ut_loader *l, ut_s1_codec *c, const ut_s1_config *config, int32_t latent)
{
    char name[96];
    c->rvq.dim = latent;
    const int32_t residual = count(l, "quantizer.quantizer.quantizers.", 0, ".codebook.weight");
    if (l->status == UTTER_OK && 1 + residual != config->num_codebooks) {
        ut_loader_fail(l, UTTER_ERR_MODEL,
                       "found %d codebooks (quantizer.quantizer.quantizers.*), expected "
                       "num_codebooks - 1 = %d",
                       (int)residual, (int)config->num_codebooks - 1);
        return;
    }
    l->exact = true; /* of the quantisers by themselves, which only the encoder has */
    ut_rvq_load(l, &c->rvq, "quantizer.semantic_quantizer.quantizers.0");
    for (int32_t i = 0; i < residual; i++) {
        snprintf(name, sizeof name, "quantizer.quantizer.quantizers.%d", (int)i);
        ut_rvq_load(l, &c->rvq, name);
    }
    l->exact = false;
    ut_rvq_finish(l, &c->rvq);
}

static bool owned(const char *name, void *user)
{
    static const char *const parts[] = {"encoder.block.", "quantizer.", "decoder.model."};
    static const char *const buffers[] = {".causal_mask", ".freqs_cis"};
    (void)user;
    for (size_t i = 0; i < sizeof buffers / sizeof buffers[0]; i++) {
        const size_t n = strlen(name), k = strlen(buffers[i]);
        if (n > k && strcmp(name + n - k, buffers[i]) == 0)
            return false;
    }
    for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++)
        if (strncmp(name, parts[i], strlen(parts[i])) == 0)
            return true;
    return false;
}

void ut_s1_codec_load(ut_loader *l, ut_s1_codec *c, const ut_s1_config *config, ut_codec *codec)
{
    ut_state_set *enc = &codec->encode_states, *dec = &codec->decode_states;
    c->n_units = config->n_dilations;
    c->n_resample = count(l, "quantizer.downsample.", 0, ".0.conv.bias");
    if (c->n_resample > UT_S1_MAX_BLOCKS)
        count_ok(l, c->n_resample, "down-sampling stages");
    l->exact = true; /* codes are the nearest of what the encoder makes */
    load_encoder(l, c, config, enc);
    load_encoder_transformers(l, c, config, enc);
    const int32_t latent = c->enc_out.out_channels;
    if (l->status == UTTER_OK)
        load_tf(l, &c->pre, config, "quantizer.pre_module", latent, config->window, 1, enc);
    l->exact = false;
    if (l->status == UTTER_OK)
        load_tf(l, &c->post, config, "quantizer.post_module", latent, config->window, 1, dec);
    c->pre_pos = add_pos(l, enc);
    c->post_pos = add_pos(l, dec);
    load_rvq(l, c, config, latent);
    load_decoder(l, c, config, latent, dec);
    ut_loader_check_extra(l, owned, NULL);

    codec->n_codebooks = c->rvq.n;
    codec->codebook_sizes = c->rvq.sizes;
    codec->hop_samples = c->hop_samples;
    codec->max_frames = MAX_RUN_FRAMES;
}
