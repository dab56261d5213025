/* codec_load.c - the codec's tensors (specification, sections 2, 8 and 9; reference:
 * modeling_qwen3_tts_tokenizer_v2.py, and transformers' modeling_mimi.py for the encoder). */
#include "models/qwen3_tts/codec.h"
#include <stdio.h>
#include <string.h>

#define MAX_RUN_FRAMES 128 /* codec frames in one run, at most: caches of windows are as long */

static const int32_t dilations[UT_Q3_UNITS] = {1, 3, 9};

static int add_pos(ut_loader *l, ut_state_set *states)
{
    const int s = ut_state_set_add(states, "pos", UT_I32, 1, 1);
    if (s < 0)
        ut_loader_fail(l, UTTER_ERR_LIMIT, "too many layers: more than %d state tensors",
                       UT_STATE_MAX);
    return s;
}

static void set_sizes(ut_tf *t, const ut_q3_tf_config *c, int32_t window)
{
    t->n_layers = c->num_hidden_layers;
    t->dim = c->hidden_size;
    t->n_heads = c->num_attention_heads;
    t->n_kv_heads = c->num_key_value_heads;
    t->head_dim = c->head_dim;
    t->ffn_dim = c->intermediate_size;
    t->window = window;
    t->norm_eps = c->norm_eps;
    t->rope_base = c->rope_theta;
    t->rope = UT_ROPE_HALVES;
    t->rope_f32 = true;
}

/* ---- Decoder -------------------------------------------------------------------------------- */

static void load_decoder_transformer(ut_loader *l, ut_q3_decoder *d, const ut_q3_config *config,
                                     ut_state_set *states)
{
    static const char prefix[] = "decoder.pre_transformer.";
    const ut_tf_options options = {.layer_scale = true, .names = &ut_tf_names_hf};
    const int32_t latent = config->codec.latent_dim, dim = config->codec.decoder.hidden_size;
    const int32_t window = config->codec.decoder.sliding_window;
    set_sizes(&d->tf, &config->codec.decoder, window);
    d->in = ut_load_matrix(l, dim, latent, "%sinput_proj.weight", prefix);
    d->in_bias = ut_load_vector(l, dim, "%sinput_proj.bias", prefix);
    ut_tf_load(l, &d->tf, &options, prefix, states, window + MAX_RUN_FRAMES - 1);
    d->tf.norm = ut_load_vector(l, dim, "%snorm.weight", prefix);
    d->out = ut_load_matrix(l, latent, dim, "%soutput_proj.weight", prefix);
    d->out_bias = ut_load_vector(l, latent, "%soutput_proj.bias", prefix);
    d->pos = add_pos(l, states);
}

static void load_decoder_block(ut_loader *l, ut_q3_decoder *d, int32_t b, int32_t rate,
                               int32_t *channels, ut_state_set *states)
{
    char name[160];
    snprintf(name, sizeof name, "decoder.decoder.%d.block.0", (int)b + 1);
    ut_snake_load_log(l, &d->blocks[b].snake, *channels, name);
    snprintf(name, sizeof name, "decoder.decoder.%d.block.1.conv", (int)b + 1);
    ut_conv_load(l, &d->blocks[b].conv, UT_CONV_TRANSPOSED, *channels, -1, rate, 1, states, name);
    *channels = d->blocks[b].conv.out_channels;
    for (int u = 0; u < UT_Q3_UNITS; u++) {
        snprintf(name, sizeof name, "decoder.decoder.%d.block.%d", (int)b + 1, u + 2);
        ut_resunit_load_log(l, &d->blocks[b].units[u], *channels, dilations[u], states, name);
    }
}

static void load_decoder(ut_loader *l, ut_q3_codec *c, const ut_q3_config *config,
                         ut_state_set *states)
{
    char name[160];
    ut_q3_decoder *d = &c->dec;
    const int32_t latent = config->codec.latent_dim;
    static const char sum[] = "_codebook.embedding_sum";
    ut_rvq_load_shared(l, &d->first, 1, "decoder.quantizer.rvq_first.vq.layers.", sum, NULL,
                       "decoder.quantizer.rvq_first.output_proj");
    ut_rvq_load_shared(l, &d->rest, c->n_groups - 1, "decoder.quantizer.rvq_rest.vq.layers.", sum,
                       NULL, "decoder.quantizer.rvq_rest.output_proj");
    ut_conv_load(l, &d->pre_conv, UT_CONV, config->codec.codebook_dim, latent, 1, 1, states,
                 "decoder.pre_conv.conv");
    load_decoder_transformer(l, d, config, states);
    c->hop_samples = 1;
    d->n_upsample = config->codec.n_upsample;
    for (int32_t u = 0; l->status == UTTER_OK && u < d->n_upsample; u++) {
        const int32_t ratio = config->codec.upsampling_ratios[u];
        snprintf(name, sizeof name, "decoder.upsample.%d.0.conv", (int)u);
        ut_conv_load(l, &d->up[u], UT_CONV_TRANSPOSED, latent, latent, ratio, 1, states, name);
        snprintf(name, sizeof name, "decoder.upsample.%d.1", (int)u);
        ut_convnext_load(l, &d->up_next[u], latent, states, name);
        c->hop_samples *= ratio;
    }
    int32_t channels = config->codec.decoder_dim;
    ut_conv_load(l, &d->conv_in, UT_CONV, latent, channels, 1, 1, states, "decoder.decoder.0.conv");
    d->n_blocks = config->codec.n_blocks;
    for (int32_t b = 0; l->status == UTTER_OK && b < d->n_blocks; b++) {
        load_decoder_block(l, d, b, config->codec.upsample_rates[b], &channels, states);
        c->hop_samples *= config->codec.upsample_rates[b];
    }
    snprintf(name, sizeof name, "decoder.decoder.%d", (int)d->n_blocks + 1);
    ut_snake_load_log(l, &d->snake_out, channels, name);
    snprintf(name, sizeof name, "decoder.decoder.%d.conv", (int)d->n_blocks + 2);
    ut_conv_load(l, &d->conv_out, UT_CONV, channels, 1, 1, 1, states, name);
}

/* ---- Encoder -------------------------------------------------------------------------------- */

static void load_encoder_transformer(ut_loader *l, ut_q3_encoder *e, const ut_q3_config *config,
                                     ut_state_set *states)
{
    ut_tf_names names = ut_tf_names_hf;
    names.w1 = "mlp.fc1";
    names.w2 = "mlp.fc2";
    const ut_tf_options options = {
        .layer_scale = true, .layer_norm = true, .gelu = true, .names = &names};
    const int32_t window = config->encoder_window;
    const int32_t capacity =
        window ? window + e->tf_rows * MAX_RUN_FRAMES - 1 : config->codec.encoder_positions;
    set_sizes(&e->tf, &config->codec.encoder, window);
    ut_tf_load(l, &e->tf, &options, "encoder.encoder_transformer.", states, capacity);
    e->pos = add_pos(l, states);
}

/* layers: 0 the first convolution, then per stage a residual unit, an activation and the strided
 * convolution, then an activation and the last one. */
static void load_encoder(ut_loader *l, ut_q3_codec *c, const ut_q3_config *config,
                         ut_state_set *states)
{
    static const char layers[] = "encoder.encoder.layers";
    char name[160];
    ut_q3_encoder *e = &c->enc;
    const int32_t dim = config->codec.encoder.hidden_size;
    int32_t channels = config->codec.num_filters, hop = 1, n = 1;
    snprintf(name, sizeof name, "%s.0.conv", layers);
    ut_conv_load(l, &e->conv_in, UT_CONV, 1, channels, 1, 1, states, name);
    e->n_stages = config->codec.n_stages;
    for (int32_t s = 0; l->status == UTTER_OK && s < e->n_stages; s++, n += 3) {
        const int32_t rate = config->codec.encoder_ratios[e->n_stages - 1 - s];
        snprintf(name, sizeof name, "%s.%d.block.1.conv", layers, (int)n);
        ut_conv_load(l, &e->stages[s].conv1, UT_CONV, channels, -1, 1, 1, states, name);
        snprintf(name, sizeof name, "%s.%d.block.3.conv", layers, (int)n);
        ut_conv_load(l, &e->stages[s].conv2, UT_CONV, e->stages[s].conv1.out_channels, channels, 1,
                     1, states, name);
        snprintf(name, sizeof name, "%s.%d.conv", layers, (int)n + 2);
        ut_conv_load(l, &e->stages[s].conv, UT_CONV, channels, -1, rate, 1, states, name);
        channels = e->stages[s].conv.out_channels;
        e->stages[s].hop = hop;
        hop *= rate;
    }
    snprintf(name, sizeof name, "%s.%d.conv", layers, (int)n + 1);
    ut_conv_load(l, &e->conv_out, UT_CONV, channels, dim, 1, 1, states, name);
    if (l->status != UTTER_OK)
        return;
    if (c->hop_samples % hop) {
        ut_loader_fail(l, UTTER_ERR_MODEL,
                       "the decoder makes %d samples per frame, expected a multiple of the "
                       "encoder's %d per step",
                       (int)c->hop_samples, (int)hop);
        return;
    }
    e->tf_rows = c->hop_samples / hop;
    load_encoder_transformer(l, e, config, states);
    ut_conv_load_unbiased(l, &e->down, UT_CONV, dim, dim, e->tf_rows, 1, states,
                          "encoder.downsample.conv");
    ut_rvq_load_shared(l, &e->semantic, 1,
                       "encoder.quantizer.semantic_residual_vector_quantizer.layers.",
                       "codebook.embed_sum",
                       "encoder.quantizer.semantic_residual_vector_quantizer.input_proj", NULL);
    ut_rvq_load_shared(l, &e->acoustic, c->n_groups - 1,
                       "encoder.quantizer.acoustic_residual_vector_quantizer.layers.",
                       "codebook.embed_sum",
                       "encoder.quantizer.acoustic_residual_vector_quantizer.input_proj", NULL);
}

/* ---- Both ----------------------------------------------------------------------------------- */

/* What the encoder's quantisers have too many of, and both halves' other projections, is as it
 * should be. */
static bool owned(const char *name, void *user)
{
    static const char *const parts[] = {"decoder.decoder.",  "decoder.pre_transformer.",
                                        "decoder.upsample.", "decoder.pre_conv.",
                                        "encoder.encoder.",  "encoder.encoder_transformer."};
    (void)user;
    for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++)
        if (strncmp(name, parts[i], strlen(parts[i])) == 0)
            return true;
    return false;
}

void ut_q3_codec_load(ut_loader *l, ut_q3_codec *c, const ut_q3_config *config, ut_codec *codec)
{
    c->n_groups = config->num_code_groups;
    load_decoder(l, c, config, &codec->decode_states);
    l->exact = true; /* codes are the nearest of what the encoder makes */
    load_encoder(l, c, config, &codec->encode_states);
    l->exact = false;
    ut_loader_check_extra(l, owned, NULL);
    if (l->status != UTTER_OK)
        return;
    c->sizes[0] = c->dec.first.sizes[0];
    for (int32_t g = 1; g < c->n_groups; g++)
        c->sizes[g] = c->dec.rest.sizes[g - 1];
    codec->n_codebooks = c->n_groups;
    codec->codebook_sizes = c->sizes;
    codec->hop_samples = c->hop_samples;
    codec->max_frames = MAX_RUN_FRAMES;
}
