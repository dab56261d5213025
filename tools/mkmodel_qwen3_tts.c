/* mkmodel_qwen3_tts.c - Qwen3-TTS: model.safetensors (bf16), speech_tokenizer/model.safetensors
 * (f32), and the text files of qwen3_tts_files.c. Scales are chosen so that every activation has a
 * deviation around 1, and that the waveform is neither silent nor clipped. */
#include "mkmodel.h"

#include "base/alloc.h"
#include "base/os.h"
#include "qwen3_tts_files.h"
#include "random_tensors.h"
#include <math.h>
#include <stdio.h>
#include <string.h>

/* clang-format off */
static const q3_sizes sizes[] = {
    [MODEL_FULL] = {
        .model_size = "0b6", .n_tokens = 151643, .text_vocab = 151936, .text_hidden = 2048,
        .codes = 2048, .groups = 16,
        .talker = {1024, 3072, 28, 16, 8, 128},
        .predictor = {1024, 3072, 5, 16, 8, 128},
        .decoder = {512, 1024, 8, 16, 16, 64},
        .encoder = {512, 2048, 8, 8, 8, 64},
        .window = 72, .latent = 1024, .codebook_dim = 512, .decoder_dim = 1536,
        .filters = 64, .encoder_code_dim = 256, .encoder_groups = 32,
        .speaker_channels = {512, 512, 512, 512, 1536},
        .speaker_attention = 128, .speaker_se = 128, .speaker_scale = 8,
    },
    [MODEL_TINY] = {
        .model_size = "0b6", .n_tokens = 300, .text_vocab = 340, .text_hidden = 64,
        .codes = 64, .groups = 5,
        .talker = {48, 96, 2, 4, 2, 16},
        .predictor = {48, 64, 2, 4, 2, 16},
        .decoder = {32, 48, 2, 4, 4, 16},
        .encoder = {32, 64, 2, 4, 4, 8},
        .window = 9, .latent = 32, .codebook_dim = 32, .decoder_dim = 32,
        .filters = 4, .encoder_code_dim = 16, .encoder_groups = 6,
        .speaker_channels = {16, 16, 16, 16, 48},
        .speaker_attention = 8, .speaker_se = 8, .speaker_scale = 4,
    },
};
/* clang-format on */

/* ---- Tensors of common shapes --------------------------------------------------------------- */

static float inv_sqrt(double x)
{
    return (float)(1 / sqrt(x));
}

/* A list, and the type of what is added to it. */
typedef struct sink {
    random_list *l;
    ut_dtype dtype;
} sink;

/* Normal values; the dimensions end with 0. */
static void add(const sink *s, const char *name, float mean, float deviation, const int64_t *dim)
{
    random_list_add(s->l, s->dtype, RANDOM_NORMAL, mean, deviation, dim, "%s", name);
}

static void add_vector(const sink *s, int64_t n, float mean, float deviation, const char *prefix,
                       const char *suffix)
{
    random_list_add(s->l, s->dtype, RANDOM_NORMAL, mean, deviation, (int64_t[]){n, 0}, "%s%s",
                    prefix, suffix);
}

/* [out, in], rows of length 1 times gain. */
static void add_matrix(const sink *s, int64_t n_out, int64_t n_in, float gain, const char *prefix,
                       const char *suffix)
{
    random_list_add(s->l, s->dtype, RANDOM_NORMAL, 0, gain * inv_sqrt((double)n_in),
                    (int64_t[]){n_out, n_in, 0}, "%s%s", prefix, suffix);
}

/* A convolution [out, in, k] with its bias. */
static void add_conv(const sink *s, int64_t n_out, int64_t n_in, int64_t k, float gain,
                     const char *name)
{
    random_list_add(s->l, s->dtype, RANDOM_NORMAL, 0, gain * inv_sqrt((double)(n_in * k)),
                    (int64_t[]){n_out, n_in, k, 0}, "%s.weight", name);
    add_vector(s, n_out, 0, 0.02f, name, ".bias");
}

typedef enum stack_style { PLAIN_QK_NORM, SCALED, SCALED_GELU } stack_style;

/* The layers "<prefix>layers.<i>.". Residual branches of all layers add up to about 1. */
static void add_stack(const sink *s, const char *prefix, const q3_stack *t, stack_style style)
{
    char layer[160];
    const int64_t n_q = t->heads * t->head_dim, n_kv = t->kv_heads * t->head_dim;
    const float branch = style == PLAIN_QK_NORM ? inv_sqrt(2 * (double)t->layers) : 1;
    for (int i = 0; i < t->layers; i++) {
        snprintf(layer, sizeof layer, "%slayers.%d.", prefix, i);
        add_matrix(s, n_q, t->hidden, 1, layer, "self_attn.q_proj.weight");
        add_matrix(s, n_kv, t->hidden, 1, layer, "self_attn.k_proj.weight");
        add_matrix(s, n_kv, t->hidden, 1, layer, "self_attn.v_proj.weight");
        add_matrix(s, t->hidden, n_q, branch, layer, "self_attn.o_proj.weight");
        for (int k = 0; k < 2; k++) {
            const char *norm = k ? "post_attention_layernorm" : "input_layernorm";
            char name[256];
            snprintf(name, sizeof name, "%s%s", layer, norm);
            add_vector(s, t->hidden, 1, 0.05f, name, ".weight");
            if (style == SCALED_GELU)
                add_vector(s, t->hidden, 0, 0.02f, name, ".bias");
        }
        if (style == PLAIN_QK_NORM) {
            add_vector(s, t->head_dim, 1, 0.05f, layer, "self_attn.q_norm.weight");
            add_vector(s, t->head_dim, 1, 0.05f, layer, "self_attn.k_norm.weight");
        } else {
            add_vector(s, t->hidden, 0.1f, 0.02f, layer, "self_attn_layer_scale.scale");
            add_vector(s, t->hidden, 0.1f, 0.02f, layer, "mlp_layer_scale.scale");
        }
        if (style == SCALED_GELU) {
            add_matrix(s, t->ffn, t->hidden, 1, layer, "mlp.fc1.weight");
            add_matrix(s, t->hidden, t->ffn, branch, layer, "mlp.fc2.weight");
        } else {
            add_matrix(s, t->ffn, t->hidden, 1, layer, "mlp.gate_proj.weight");
            add_matrix(s, t->ffn, t->hidden, 1, layer, "mlp.up_proj.weight");
            add_matrix(s, t->hidden, t->ffn, branch, layer, "mlp.down_proj.weight");
        }
    }
}

/* ---- model.safetensors ---------------------------------------------------------------------- */

static void list_talker(random_list *l, const q3_sizes *z)
{
    const sink s = {l, UT_BF16};
    const int64_t h = z->talker.hidden, small = z->predictor.hidden;
    const int64_t vocab = z->codes + Q3_EXTRA_IDS;
    char name[160];
    add(&s, "talker.model.text_embedding.weight", 0, 1,
        (int64_t[]){z->text_vocab, z->text_hidden, 0});
    add_matrix(&s, z->text_hidden, z->text_hidden, 1, "talker.text_projection.",
               "linear_fc1.weight");
    add_vector(&s, z->text_hidden, 0, 0.02f, "talker.text_projection.", "linear_fc1.bias");
    add_matrix(&s, h, z->text_hidden, 1, "talker.text_projection.", "linear_fc2.weight");
    add_vector(&s, h, 0, 0.02f, "talker.text_projection.", "linear_fc2.bias");
    add(&s, "talker.model.codec_embedding.weight", 0, 0.5f, (int64_t[]){vocab, h, 0});
    add_stack(&s, "talker.model.", &z->talker, PLAIN_QK_NORM);
    add_vector(&s, h, 1, 0.05f, "talker.model.", "norm.weight");
    add_matrix(&s, vocab, h, 3, "talker.", "codec_head.weight");
    for (int g = 0; g < z->groups - 1; g++) {
        snprintf(name, sizeof name, "talker.code_predictor.model.codec_embedding.%d.weight", g);
        add(&s, name, 0, 0.5f, (int64_t[]){z->codes, h, 0});
        snprintf(name, sizeof name, "talker.code_predictor.lm_head.%d.weight", g);
        add_matrix(&s, z->codes, small, 3, name, "");
    }
    if (h != small) {
        add_matrix(&s, small, h, 1, "talker.code_predictor.", "small_to_mtp_projection.weight");
        add_vector(&s, small, 0, 0.02f, "talker.code_predictor.", "small_to_mtp_projection.bias");
    }
    add_stack(&s, "talker.code_predictor.model.", &z->predictor, PLAIN_QK_NORM);
    add_vector(&s, small, 1, 0.05f, "talker.code_predictor.model.", "norm.weight");
}

static void list_speaker(random_list *l, const q3_sizes *z)
{
    const sink s = {l, UT_BF16};
    static const int64_t kernels[] = {5, 3, 3, 3};
    const int64_t *n = z->speaker_channels, wide = n[Q3_SPEAKER_BLOCKS - 1];
    char name[160];
    add_conv(&s, n[0], 128, kernels[0], 1, "speaker_encoder.blocks.0.conv");
    for (int b = 1; b < Q3_SPEAKER_BLOCKS - 1; b++) {
        const int64_t part = n[b] / z->speaker_scale;
        snprintf(name, sizeof name, "speaker_encoder.blocks.%d.tdnn1.conv", b);
        add_conv(&s, n[b], n[b - 1], 1, 1, name);
        for (int g = 0; g < z->speaker_scale - 1; g++) {
            snprintf(name, sizeof name, "speaker_encoder.blocks.%d.res2net_block.blocks.%d.conv", b,
                     g);
            add_conv(&s, part, part, kernels[b], 1, name);
        }
        snprintf(name, sizeof name, "speaker_encoder.blocks.%d.tdnn2.conv", b);
        add_conv(&s, n[b], n[b], 1, 1, name);
        snprintf(name, sizeof name, "speaker_encoder.blocks.%d.se_block.conv1", b);
        add_conv(&s, z->speaker_se, n[b], 1, 1, name);
        snprintf(name, sizeof name, "speaker_encoder.blocks.%d.se_block.conv2", b);
        add_conv(&s, n[b], z->speaker_se, 1, 1, name);
    }
    add_conv(&s, wide, n[1] + n[2] + n[3], 1, 1, "speaker_encoder.mfa.conv");
    add_conv(&s, z->speaker_attention, 3 * wide, 1, 1, "speaker_encoder.asp.tdnn.conv");
    add_conv(&s, wide, z->speaker_attention, 1, 1, "speaker_encoder.asp.conv");
    add_conv(&s, z->talker.hidden, 2 * wide, 1, 0.3f, "speaker_encoder.fc");
}

/* ---- speech_tokenizer/model.safetensors ----------------------------------------------------- */

static void add_codebook(const sink *s, const char *prefix, const char *sum, int64_t n, int64_t d,
                         float deviation)
{
    random_list_add(s->l, s->dtype, RANDOM_NORMAL, 0, deviation, (int64_t[]){n, d, 0}, "%s.%s",
                    prefix, sum);
    random_list_add(s->l, UT_F32, RANDOM_UNIFORM, 0.5f, 1.5f, (int64_t[]){n, 0}, "%s.cluster_usage",
                    prefix);
}

/* Logarithms of both of a snake's parameters. */
static void add_snake(const sink *s, int64_t n, const char *prefix)
{
    add_vector(s, n, 0, 0.2f, prefix, ".alpha");
    add_vector(s, n, 0, 0.2f, prefix, ".beta");
}

/* [in, out, k]: an output of stride k / overlap sums in * overlap products. */
static void add_transposed(const sink *s, int64_t n_in, int64_t n_out, int64_t k, int overlap,
                           const char *name)
{
    random_list_add(s->l, s->dtype, RANDOM_NORMAL, 0, inv_sqrt((double)(n_in * overlap)),
                    (int64_t[]){n_in, n_out, k, 0}, "%s.weight", name);
    add_vector(s, n_out, 0, 0.02f, name, ".bias");
}

static void add_upsampler(const sink *s, int u, int64_t n)
{
    char name[128];
    snprintf(name, sizeof name, "decoder.upsample.%d.0.conv", u);
    add_transposed(s, n, n, 2, 1, name);
    snprintf(name, sizeof name, "decoder.upsample.%d.1.dwconv.conv", u);
    add_conv(s, n, 1, 7, 1, name);
    snprintf(name, sizeof name, "decoder.upsample.%d.1.", u);
    add_vector(s, n, 1, 0.05f, name, "norm.weight");
    add_vector(s, n, 0, 0.02f, name, "norm.bias");
    add_vector(s, n, 0.1f, 0.02f, name, "gamma");
    add_matrix(s, 4 * n, n, 1, name, "pwconv1.weight");
    add_vector(s, 4 * n, 0, 0.02f, name, "pwconv1.bias");
    add_matrix(s, n, 4 * n, 1, name, "pwconv2.weight");
    add_vector(s, n, 0, 0.02f, name, "pwconv2.bias");
}

static void list_decoder_quantizer(const sink *s, const q3_sizes *z)
{
    char name[128];
    const int64_t d = z->codebook_dim / 2;
    for (int g = 0; g < z->groups; g++) {
        snprintf(name, sizeof name, "decoder.quantizer.rvq_%s.vq.layers.%d._codebook",
                 g ? "rest" : "first", g ? g - 1 : 0);
        add_codebook(s, name, "embedding_sum", z->codes, d, g ? 0.3f : 1);
    }
    for (int side = 0; side < 2; side++) {
        snprintf(name, sizeof name, "decoder.quantizer.rvq_%s.", side ? "rest" : "first");
        random_list_add(s->l, s->dtype, RANDOM_NORMAL, 0, inv_sqrt((double)d),
                        (int64_t[]){z->codebook_dim, d, 1, 0}, "%soutput_proj.weight", name);
        random_list_add(s->l, s->dtype, RANDOM_NORMAL, 0, inv_sqrt((double)z->codebook_dim),
                        (int64_t[]){d, z->codebook_dim, 1, 0}, "%sinput_proj.weight", name);
    }
}

static void list_decoder(random_list *l, const q3_sizes *z)
{
    static const int64_t rates[Q3_STAGES] = {8, 5, 4, 3};
    static const char tf[] = "decoder.pre_transformer.";
    const sink s = {l, UT_F32};
    char name[128];
    list_decoder_quantizer(&s, z);
    add_conv(&s, z->latent, z->codebook_dim, 3, 1, "decoder.pre_conv.conv");
    add_matrix(&s, z->decoder.hidden, z->latent, 1, tf, "input_proj.weight");
    add_vector(&s, z->decoder.hidden, 0, 0.02f, tf, "input_proj.bias");
    add_stack(&s, tf, &z->decoder, SCALED);
    add_vector(&s, z->decoder.hidden, 1, 0.05f, tf, "norm.weight");
    add_matrix(&s, z->latent, z->decoder.hidden, 1, tf, "output_proj.weight");
    add_vector(&s, z->latent, 0, 0.02f, tf, "output_proj.bias");
    for (int u = 0; u < 2; u++)
        add_upsampler(&s, u, z->latent);
    int64_t n = z->decoder_dim;
    add_conv(&s, n, z->latent, 7, 1, "decoder.decoder.0.conv");
    for (int b = 0; b < Q3_STAGES; b++) {
        snprintf(name, sizeof name, "decoder.decoder.%d.block.0", b + 1);
        add_snake(&s, n, name);
        snprintf(name, sizeof name, "decoder.decoder.%d.block.1.conv", b + 1);
        add_transposed(&s, n, n / 2, 2 * rates[b], 2, name);
        n /= 2;
        for (int u = 2; u < 5; u++)
            for (int k = 1; k <= 2; k++) {
                snprintf(name, sizeof name, "decoder.decoder.%d.block.%d.act%d", b + 1, u, k);
                add_snake(&s, n, name);
                snprintf(name, sizeof name, "decoder.decoder.%d.block.%d.conv%d.conv", b + 1, u, k);
                add_conv(&s, n, n, k == 1 ? 7 : 1, k == 1 ? 1 : 0.3f, name);
            }
    }
    snprintf(name, sizeof name, "decoder.decoder.%d", Q3_STAGES + 1);
    add_snake(&s, n, name);
    snprintf(name, sizeof name, "decoder.decoder.%d.conv", Q3_STAGES + 2);
    add_conv(&s, 1, n, 7, 0.05f, name);
}

static void list_encoder(random_list *l, const q3_sizes *z)
{
    static const int64_t rates[Q3_STAGES] = {4, 5, 6, 8};
    const sink s = {l, UT_F32};
    const int64_t dim = z->encoder.hidden, d = z->encoder_code_dim;
    int64_t n = z->filters;
    char name[128];
    add_conv(&s, n, 1, 7, 4, "encoder.encoder.layers.0.conv");
    for (int b = 0; b < Q3_STAGES; b++, n *= 2) {
        snprintf(name, sizeof name, "encoder.encoder.layers.%d.block.1.conv", 1 + 3 * b);
        add_conv(&s, n / 2, n, 3, 1.4f, name);
        snprintf(name, sizeof name, "encoder.encoder.layers.%d.block.3.conv", 1 + 3 * b);
        add_conv(&s, n, n / 2, 1, 0.5f, name);
        snprintf(name, sizeof name, "encoder.encoder.layers.%d.conv", 3 + 3 * b);
        add_conv(&s, 2 * n, n, 2 * rates[b], 1.4f, name);
    }
    snprintf(name, sizeof name, "encoder.encoder.layers.%d.conv", 2 + 3 * Q3_STAGES);
    add_conv(&s, dim, n, 3, 1.4f, name);
    add_stack(&s, "encoder.encoder_transformer.", &z->encoder, SCALED_GELU);
    add(&s, "encoder.downsample.conv.weight", 0, inv_sqrt(4 * (double)dim),
        (int64_t[]){dim, dim, 4, 0});
    for (int g = 0; g < z->encoder_groups; g++) {
        snprintf(name, sizeof name,
                 "encoder.quantizer.%s_residual_vector_quantizer.layers.%d.codebook",
                 g ? "acoustic" : "semantic", g ? g - 1 : 0);
        add_codebook(&s, name, "embed_sum", z->codes, d, 1);
        add_vector(&s, 1, 1, 0, name, ".initialized");
    }
    for (int side = 0; side < 2; side++) {
        const char *group = side ? "acoustic" : "semantic";
        random_list_add(l, UT_F32, RANDOM_NORMAL, 0, inv_sqrt((double)dim),
                        (int64_t[]){d, dim, 1, 0},
                        "encoder.quantizer.%s_residual_vector_quantizer.input_proj.weight", group);
        random_list_add(l, UT_F32, RANDOM_NORMAL, 0, inv_sqrt((double)d), (int64_t[]){dim, d, 1, 0},
                        "encoder.quantizer.%s_residual_vector_quantizer.output_proj.weight", group);
    }
}

/* ---- The checkpoint ------------------------------------------------------------------------- */

static utter_status write_list(random_list *l, const char *dir, const char *name, uint64_t seed,
                               ut_err *err)
{
    char *path = ut_path_join(dir, name);
    const utter_status st = path ? random_list_write_safetensors(l, path, seed, err)
                                 : ut_fail(err, UTTER_ERR_NOMEM, "%s: %s", dir, name);
    ut_free(path);
    random_list_free(l);
    return st;
}

static utter_status make(const char *dir, const q3_sizes *z, q3_kind kind, uint64_t seed,
                         ut_err *err)
{
    char *codec = ut_path_join(dir, "speech_tokenizer");
    utter_status st =
        codec ? ut_mkdirs(codec, err) : ut_fail(err, UTTER_ERR_NOMEM, "%s: no memory", dir);
    ut_free(codec);
    if (st == UTTER_OK)
        st = q3_write_files(dir, z, kind, err);
    random_list l = {0};
    if (st == UTTER_OK) {
        if (kind == Q3_BASE)
            list_speaker(&l, z);
        list_talker(&l, z);
        st = write_list(&l, dir, "model.safetensors", seed, err);
    }
    if (st == UTTER_OK) {
        list_decoder(&l, z);
        list_encoder(&l, z);
        st = write_list(&l, dir, "speech_tokenizer/model.safetensors", seed, err);
    }
    return st;
}

/* The larger model is wider; its predictor and codec are the same. */
static q3_sizes sizes_of(model_size size, bool large)
{
    q3_sizes z = sizes[size == MODEL_FULL ? MODEL_FULL : MODEL_TINY];
    if (size == MODEL_NARROW) {
        z.text_hidden = 512;
        z.talker = z.predictor = (q3_stack){512, 512, 1, 4, 2, 128};
    }
    if (large) {
        z.model_size = "1b7";
        z.talker.hidden *= 2;
        z.talker.ffn *= 2;
    }
    return z;
}

#define MKMODEL(name, large, kind)                                                                 \
    utter_status name(const char *dir, model_size size, uint64_t seed, ut_err *err)                \
    {                                                                                              \
        const q3_sizes z = sizes_of(size, large);                                                  \
        return make(dir, &z, kind, seed, err);                                                     \
    }
MKMODEL(mkmodel_qwen3_tts_06b, false, Q3_CUSTOM_VOICE)
MKMODEL(mkmodel_qwen3_tts_06b_base, false, Q3_BASE)
MKMODEL(mkmodel_qwen3_tts_17b, true, Q3_CUSTOM_VOICE)
MKMODEL(mkmodel_qwen3_tts_17b_base, true, Q3_BASE)
MKMODEL(mkmodel_qwen3_tts_17b_design, true, Q3_VOICE_DESIGN)
