/* mkmodel_s1_mini.c - S1-mini: config.json, model.pth (bf16, a plain dict), codec.pth (f32, an
 * OrderedDict, both namings of weight norm), tokenizer.tiktoken, special_tokens.json. Scales are
 * chosen so that every activation has a deviation around 1, that logits prefer semantic tokens, and
 * that the waveform is neither silent nor clipped. The causal masks of the published codec.pth are
 * left out: nothing reads them. */
#include "mkmodel.h"

#include "base/alloc.h"
#include "base/buf.h"
#include "base/json.h"
#include "base/os.h"
#include "random_tensors.h"
#include "text_file.h"
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

typedef struct s1_dims {
    /* Language model. */
    int64_t n_ranks, vocab, codebook_size, n_codebooks, max_seq_len;
    int64_t dim, n_layer, n_head, n_kv, head_dim, ffn;
    int64_t fast_layers, fast_n_head, fast_n_kv, fast_head_dim, fast_ffn; /* fast dim is dim */
    /* Codec; its latent dimension is 16 * encoder_dim, its attention heads have 64. */
    int64_t encoder_dim, decoder_dim;
    int64_t encoder_layers, pre_layers, post_layers, encoder_ffn, module_ffn;
    int64_t encoder_positions, module_positions;
} s1_dims;

/* clang-format off */
static const s1_dims dims_of[] = {
    [MODEL_FULL] = {
        .n_ranks = 151643, .vocab = 155776, .codebook_size = 4096, .n_codebooks = 10,
        .max_seq_len = 8192,
        .dim = 1024, .n_layer = 28, .n_head = 16, .n_kv = 8, .head_dim = 128, .ffn = 3072,
        .fast_layers = 4, .fast_n_head = 16, .fast_n_kv = 8, .fast_head_dim = 64, .fast_ffn = 3072,
        .encoder_dim = 64, .decoder_dim = 1536,
        .encoder_layers = 4, .pre_layers = 8, .post_layers = 8,
        .encoder_ffn = 3072, .module_ffn = 3072,
        .encoder_positions = 16384, .module_positions = 4096,
    },
    [MODEL_TINY] = {
        .n_ranks = 288, .vocab = 1344, .codebook_size = 1032, .n_codebooks = 4,
        .max_seq_len = 2304,
        .dim = 32, .n_layer = 3, .n_head = 4, .n_kv = 2, .head_dim = 32, .ffn = 96,
        .fast_layers = 2, .fast_n_head = 4, .fast_n_kv = 2, .fast_head_dim = 16, .fast_ffn = 64,
        .encoder_dim = 4, .decoder_dim = 32,
        .encoder_layers = 1, .pre_layers = 2, .post_layers = 2,
        .encoder_ffn = 64, .module_ffn = 64,
        .encoder_positions = 768, .module_positions = 384,
    },
};
/* clang-format on */

enum { CODEC_HEAD_DIM = 64, CODEBOOK_DIM = 8, RESIDUAL_CODES = 1024, ROPE_BASE_CODEC = 10000 };

/* ---- Tensors of common shapes --------------------------------------------------------------- */

static float inv_sqrt(double x)
{
    return (float)(1 / sqrt(x));
}

/* [out, in], rows of length 1 times gain. */
static random_tensor *add_matrix(random_list *l, ut_dtype dtype, const char *prefix, int i,
                                 const char *name, int64_t n_out, int64_t n_in, float gain)
{
    const int64_t dim[] = {n_out, n_in, 0};
    return random_list_add(l, dtype, RANDOM_NORMAL, 0, gain * inv_sqrt((double)n_in), dim,
                           "%slayers.%d.%s.weight", prefix, i, name);
}

static void add_norm(random_list *l, ut_dtype dtype, int64_t n, const char *name)
{
    random_list_add(l, dtype, RANDOM_NORMAL, 1, 0.05f, (int64_t[]){n, 0}, "%s", name);
}

static void add_bias(random_list *l, int64_t n, const char *name)
{
    random_list_add(l, UT_F32, RANDOM_NORMAL, 0, 0.02f, (int64_t[]){n, 0}, "%s.bias", name);
}

/* One transformer block's shapes. The residual branches of n_layer blocks add up to about 1. */
typedef struct block {
    ut_dtype dtype;
    const char *prefix; /* before "layers." */
    int64_t n_layer, dim, n_head, n_kv, head_dim, ffn;
    bool qk_norm, layer_scale;
} block;

static void add_blocks(random_list *l, const block *b)
{
    const int64_t n_q = b->n_head * b->head_dim, n_qkv = n_q + 2 * b->n_kv * b->head_dim;
    const float branch = b->layer_scale ? 1 : inv_sqrt(2 * (double)b->n_layer);
    char name[128];
    for (int i = 0; i < b->n_layer; i++) {
        add_matrix(l, b->dtype, b->prefix, i, "attention.wqkv", n_qkv, b->dim, 1);
        add_matrix(l, b->dtype, b->prefix, i, "attention.wo", b->dim, n_q, branch);
        for (int k = 0; k < 2 && b->qk_norm; k++) {
            snprintf(name, sizeof name, "%slayers.%d.attention.%c_norm.weight", b->prefix, i,
                     "qk"[k]);
            add_norm(l, b->dtype, b->head_dim, name);
        }
        add_matrix(l, b->dtype, b->prefix, i, "feed_forward.w1", b->ffn, b->dim, 1);
        add_matrix(l, b->dtype, b->prefix, i, "feed_forward.w3", b->ffn, b->dim, 1);
        add_matrix(l, b->dtype, b->prefix, i, "feed_forward.w2", b->dim, b->ffn, branch);
        for (int k = 0; k < 2; k++) {
            snprintf(name, sizeof name, "%slayers.%d.%s_norm.weight", b->prefix, i,
                     k ? "attention" : "ffn");
            add_norm(l, b->dtype, b->dim, name);
        }
        for (int k = 0; k < 2 && b->layer_scale; k++)
            random_list_add(l, b->dtype, RANDOM_NORMAL, 0.1f, 0.02f, (int64_t[]){b->dim, 0},
                            "%slayers.%d.%s_layer_scale.gamma", b->prefix, i,
                            k ? "ffn" : "attention");
    }
}

/* ---- model.pth ------------------------------------------------------------------------------ */

static void add_table(random_list *l, const char *name, int64_t rows, int64_t dim, float deviation)
{
    random_list_add(l, UT_BF16, RANDOM_NORMAL, 0, deviation, (int64_t[]){rows, dim, 0}, "%s", name);
}

enum { N_SPECIALS = 15 }; /* before the semantic tokens */

static void list_model(random_list *l, const s1_dims *d)
{
    const block slow = {.dtype = UT_BF16,
                        .prefix = "",
                        .n_layer = d->n_layer,
                        .dim = d->dim,
                        .n_head = d->n_head,
                        .n_kv = d->n_kv,
                        .head_dim = d->head_dim,
                        .ffn = d->ffn,
                        .qk_norm = true};
    const block fast = {.dtype = UT_BF16,
                        .prefix = "fast_",
                        .n_layer = d->fast_layers,
                        .dim = d->dim,
                        .n_head = d->fast_n_head,
                        .n_kv = d->fast_n_kv,
                        .head_dim = d->fast_head_dim,
                        .ffn = d->fast_ffn};
    add_table(l, "embeddings.weight", d->vocab, d->dim, 1);
    add_table(l, "codebook_embeddings.weight", d->n_codebooks * d->codebook_size, d->dim, 1);
    add_blocks(l, &slow);
    add_norm(l, UT_BF16, d->dim, "norm.weight");
    /* Logits of deviation 1, but 4 for the semantic tokens: those are what gets sampled. */
    random_tensor *head = random_list_add(l, UT_BF16, RANDOM_NORMAL, 0, inv_sqrt((double)d->dim),
                                          (int64_t[]){d->vocab, d->dim, 0}, "output.weight");
    if (head) {
        head->loud_first = d->n_ranks + N_SPECIALS;
        head->loud_end = head->loud_first + d->codebook_size;
        head->loud_gain = 4;
    }
    add_table(l, "fast_embeddings.weight", d->codebook_size, d->dim, 1);
    add_blocks(l, &fast);
    add_norm(l, UT_BF16, d->dim, "fast_norm.weight");
    add_table(l, "fast_output.weight", d->codebook_size, d->dim, 3 * inv_sqrt((double)d->dim));
}

/* ---- codec.pth ------------------------------------------------------------------------------ */

typedef enum wn_naming { PARAMETRIZED, CLASSIC } wn_naming;

/* A convolution under weight norm, [n_first, n_second, k], w = g v / |v| per first index. */
static void add_weight_norm(random_list *l, wn_naming naming, const char *name, int64_t n_first,
                            int64_t n_second, int64_t k, double g)
{
    static const char *const names[][2] = {
        [PARAMETRIZED] = {"parametrizations.weight.original0", "parametrizations.weight.original1"},
        [CLASSIC] = {"weight_g", "weight_v"}};
    random_list_add(l, UT_F32, RANDOM_UNIFORM, (float)(0.9 * g), (float)(1.1 * g),
                    (int64_t[]){n_first, 1, 1, 0}, "%s.%s", name, names[naming][0]);
    random_list_add(l, UT_F32, RANDOM_NORMAL, 0, 1, (int64_t[]){n_first, n_second, k, 0}, "%s.%s",
                    name, names[naming][1]);
}

/* n_in -> n_out channels; an output is gain times as loud as the inputs. */
static void add_conv(random_list *l, wn_naming naming, const char *name, int64_t n_in,
                     int64_t n_out, int64_t k, double gain)
{
    add_bias(l, n_out, name);
    add_weight_norm(l, naming, name, n_out, n_in, k, gain);
}

/* The same for a transposed one of stride k / 2: an output sums 2 n_in products, and |w|^2 over the
 * rows of an input channel has k n_out terms. */
static void add_conv_transposed(random_list *l, const char *name, int64_t n_in, int64_t n_out,
                                int64_t k)
{
    add_bias(l, n_out, name);
    add_weight_norm(l, PARAMETRIZED, name, n_in, n_out, k,
                    sqrt((double)(k * n_out) / (2 * (double)n_in)));
}

static void add_snake(random_list *l, const char *prefix, int64_t n)
{
    random_list_add(l, UT_F32, RANDOM_UNIFORM, 0.5f, 1.5f, (int64_t[]){1, n, 1, 0}, "%s.alpha",
                    prefix);
}

static void add_residual_unit(random_list *l, const char *prefix, int64_t n)
{
    char name[128];
    for (int i = 0; i < 4; i++) {
        snprintf(name, sizeof name, "%s.block.%d%s", prefix, i, i % 2 ? ".conv" : "");
        if (i % 2 == 0)
            add_snake(l, name, n);
        else
            add_conv(l, PARAMETRIZED, name, n, n, i == 1 ? 7 : 1, i == 1 ? 1 : 0.3);
    }
}

/* RoPE table, layers and final norm. */
static void add_codec_transformer(random_list *l, const char *prefix, int64_t n_layer, int64_t dim,
                                  int64_t ffn, int64_t positions)
{
    char name[128];
    const int64_t n_head = dim / CODEC_HEAD_DIM;
    const block b = {.dtype = UT_F32,
                     .prefix = prefix,
                     .n_layer = n_layer,
                     .dim = dim,
                     .n_head = n_head,
                     .n_kv = n_head,
                     .head_dim = CODEC_HEAD_DIM,
                     .ffn = ffn,
                     .layer_scale = true};
    random_list_add(l, UT_BF16, ROPE_TABLE, ROPE_BASE_CODEC, 0,
                    (int64_t[]){positions, CODEC_HEAD_DIM / 2, 2, 0}, "%sfreqs_cis", prefix);
    add_blocks(l, &b);
    snprintf(name, sizeof name, "%snorm.weight", prefix);
    add_norm(l, UT_F32, dim, name);
}

static void list_encoder(random_list *l, const s1_dims *d)
{
    static const int64_t stride[] = {2, 4, 8, 8};
    char name[128];
    int64_t n = d->encoder_dim;
    add_conv(l, PARAMETRIZED, "encoder.block.0.conv", 1, n, 7, 4);
    for (int b = 1; b <= 4; b++, n *= 2) {
        for (int i = 0; i < 3; i++) {
            snprintf(name, sizeof name, "encoder.block.%d.block.%d", b, i);
            add_residual_unit(l, name, n);
        }
        snprintf(name, sizeof name, "encoder.block.%d.block.3", b);
        add_snake(l, name, n);
        snprintf(name, sizeof name, "encoder.block.%d.block.4.conv", b);
        add_conv(l, PARAMETRIZED, name, n, 2 * n, 2 * stride[b - 1], 0.7);
    }
    add_codec_transformer(l, "encoder.block.4.block.5.", d->encoder_layers, n, d->encoder_ffn,
                          d->encoder_positions);
    add_snake(l, "encoder.block.5", n);
    add_conv(l, PARAMETRIZED, "encoder.block.6.conv", n, n, 3, 0.7);
}

static void add_vq(random_list *l, const char *prefix, int64_t dim, int64_t n_codes)
{
    char name[128];
    snprintf(name, sizeof name, "%s.in_proj", prefix);
    add_conv(l, CLASSIC, name, dim, CODEBOOK_DIM, 1, 1);
    snprintf(name, sizeof name, "%s.out_proj", prefix);
    add_conv(l, CLASSIC, name, CODEBOOK_DIM, dim, 1, 0.5);
    random_list_add(l, UT_F32, RANDOM_NORMAL, 0, 1, (int64_t[]){n_codes, CODEBOOK_DIM, 0},
                    "%s.codebook.weight", prefix);
}

/* One resampling stage of the quantizer: a plain convolution of kernel and stride 2, ConvNeXt. */
static void add_resampler(random_list *l, const char *direction, int i, int64_t n)
{
    char name[128];
    const bool up = direction[0] == 'u'; /* transposed: one tap per output instead of two */
    snprintf(name, sizeof name, "quantizer.%s.%d.0.conv", direction, i);
    random_list_add(l, UT_F32, RANDOM_NORMAL, 0, inv_sqrt((double)(up ? n : 2 * n)),
                    (int64_t[]){n, n, 2, 0}, "%s.weight", name);
    add_bias(l, n, name);
    snprintf(name, sizeof name, "quantizer.%s.%d.1", direction, i);
    random_list_add(l, UT_F32, RANDOM_NORMAL, 0.1f, 0.02f, (int64_t[]){n, 0}, "%s.gamma", name);
    random_list_add(l, UT_F32, RANDOM_NORMAL, 0, inv_sqrt(7), (int64_t[]){n, 1, 7, 0},
                    "%s.dwconv.conv.weight", name);
    random_list_add(l, UT_F32, RANDOM_NORMAL, 0, 0.02f, (int64_t[]){n, 0}, "%s.dwconv.conv.bias",
                    name);
    random_list_add(l, UT_F32, RANDOM_NORMAL, 1, 0.05f, (int64_t[]){n, 0}, "%s.norm.weight", name);
    random_list_add(l, UT_F32, RANDOM_NORMAL, 0, 0.02f, (int64_t[]){n, 0}, "%s.norm.bias", name);
    for (int k = 1; k <= 2; k++) {
        const int64_t n_in = k == 1 ? n : 4 * n, n_out = k == 1 ? 4 * n : n;
        random_list_add(l, UT_F32, RANDOM_NORMAL, 0, inv_sqrt((double)n_in),
                        (int64_t[]){n_out, n_in, 0}, "%s.pwconv%d.weight", name, k);
        random_list_add(l, UT_F32, RANDOM_NORMAL, 0, 0.02f, (int64_t[]){n_out, 0},
                        "%s.pwconv%d.bias", name, k);
    }
}

static void list_quantizer(random_list *l, const s1_dims *d)
{
    const int64_t n = 16 * d->encoder_dim;
    char name[128];
    add_vq(l, "quantizer.semantic_quantizer.quantizers.0", n, d->codebook_size);
    for (int q = 0; q < d->n_codebooks - 1; q++) {
        snprintf(name, sizeof name, "quantizer.quantizer.quantizers.%d", q);
        add_vq(l, name, n, RESIDUAL_CODES);
    }
    for (int i = 0; i < 2; i++)
        add_resampler(l, "downsample", i, n);
    for (int i = 0; i < 2; i++)
        add_resampler(l, "upsample", i, n);
    add_codec_transformer(l, "quantizer.pre_module.", d->pre_layers, n, d->module_ffn,
                          d->module_positions);
    add_codec_transformer(l, "quantizer.post_module.", d->post_layers, n, d->module_ffn,
                          d->module_positions);
}

static void list_decoder(random_list *l, const s1_dims *d)
{
    static const int64_t stride[] = {8, 8, 4, 2};
    char name[128];
    int64_t n = d->decoder_dim;
    add_conv(l, PARAMETRIZED, "decoder.model.0.conv", 16 * d->encoder_dim, n, 7, 1);
    for (int b = 1; b <= 4; b++) {
        snprintf(name, sizeof name, "decoder.model.%d.block.0", b);
        add_snake(l, name, n);
        snprintf(name, sizeof name, "decoder.model.%d.block.1.conv", b);
        add_conv_transposed(l, name, n, n / 2, 2 * stride[b - 1]);
        n /= 2;
        for (int i = 2; i < 5; i++) {
            snprintf(name, sizeof name, "decoder.model.%d.block.%d", b, i);
            add_residual_unit(l, name, n);
        }
    }
    add_snake(l, "decoder.model.5", n);
    add_conv(l, PARAMETRIZED, "decoder.model.6.conv", n, 1, 7, 0.1);
}

/* ---- Text files ----------------------------------------------------------------------------- */

static utter_status write_config(const char *dir, const s1_dims *d, ut_err *err)
{
    ut_buf text;
    ut_json_writer w;
    ut_buf_init(&text, UT_JSON_MAX_BYTES);
    ut_json_writer_init(&w, &text, 4);
    ut_json_begin_object(&w, NULL);
    ut_json_put_string(&w, "model_type", "dual_ar");
    const struct {
        const char *name;
        int64_t value;
    } numbers[] = {
        {"vocab_size", d->vocab},
        {"n_layer", d->n_layer},
        {"n_head", d->n_head},
        {"n_local_heads", d->n_kv},
        {"head_dim", d->head_dim},
        {"dim", d->dim},
        {"intermediate_size", d->ffn},
        {"rope_base", 1000000},
        {"max_seq_len", d->max_seq_len},
        {"codebook_size", d->codebook_size},
        {"num_codebooks", d->n_codebooks},
        {"n_fast_layer", d->fast_layers},
        {"fast_dim", d->dim},
        {"fast_n_head", d->fast_n_head},
        {"fast_n_local_heads", d->fast_n_kv},
        {"fast_head_dim", d->fast_head_dim},
        {"fast_intermediate_size", d->fast_ffn},
    };
    for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++)
        ut_json_put_int(&w, numbers[i].name, numbers[i].value);
    static const char *const flags[] = {
        "tie_word_embeddings",    "attention_qkv_bias",      "attention_o_bias",
        "is_reward_model",        "fast_attention_qkv_bias", "fast_attention_o_bias",
        "fast_attention_qk_norm",
    };
    for (size_t i = 0; i < sizeof flags / sizeof flags[0]; i++)
        ut_json_put_bool(&w, flags[i], false);
    ut_json_put_bool(&w, "attention_qk_norm", true);
    ut_json_put_bool(&w, "scale_codebook_embeddings", true);
    ut_json_put_bool(&w, "use_gradient_checkpointing", true);
    ut_json_put_number(&w, "dropout", 0);
    ut_json_put_number(&w, "norm_eps", 1e-6);
    ut_json_put_number(&w, "initializer_range", 0.03125);
    const bool complete = ut_json_end_all(&w);
    const utter_status st = text_file_write(dir, "config.json", &text, complete, err);
    ut_buf_free(&text);
    return st;
}

static utter_status write_specials(const char *dir, const s1_dims *d, ut_err *err)
{
    static const char *const names[N_SPECIALS] = {
        "begin_of_text", "end_of_text",     "pad",           "im_start", "im_end", "phoneme_start",
        "phoneme_end",   "tool_call_start", "tool_call_end", "text",     "voice",  "interleave",
        "audio_start",   "audio_end",       "audio"};
    ut_buf text;
    ut_json_writer w;
    char name[64];
    ut_buf_init(&text, UT_JSON_MAX_BYTES);
    ut_json_writer_init(&w, &text, 2);
    ut_json_begin_object(&w, NULL);
    for (int i = 0; i < N_SPECIALS; i++) {
        snprintf(name, sizeof name, "<|%s|>", names[i]);
        ut_json_put_int(&w, name, d->n_ranks + i);
    }
    for (int i = 0; i < (int)d->codebook_size; i++) {
        snprintf(name, sizeof name, "<|semantic:%d|>", i);
        ut_json_put_int(&w, name, d->n_ranks + N_SPECIALS + i);
    }
    const bool complete = ut_json_end_all(&w);
    const utter_status st = text_file_write(dir, "special_tokens.json", &text, complete, err);
    ut_buf_free(&text);
    return st;
}

static bool put_rank(ut_buf *b, const uint8_t *token, size_t n, int64_t rank)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    char text[64];
    size_t at = 0;
    for (size_t i = 0; i < n; i += 3) {
        const uint32_t word = (uint32_t)token[i] << 16 |
                              (i + 1 < n ? (uint32_t)token[i + 1] << 8 : 0) |
                              (i + 2 < n ? token[i + 2] : 0);
        for (size_t k = 0; k < 4; k++)
            text[at++] = i + k <= n ? digits[word >> (18 - 6 * k) & 63] : '=';
    }
    text[at] = 0;
    return ut_buf_printf(b, "%s %lld\n", text, (long long)rank);
}

/* Ranks: the 256 bytes, printable ones first; then a space and a letter, and letters in groups of
 * 2, 3 and 4, each also behind a space when shorter than 4. A token without its last letter is
 * always an earlier token, so every token can be reached by merging. */
static utter_status write_ranks(const char *dir, const s1_dims *d, ut_err *err)
{
    ut_buf text;
    int64_t rank = 0;
    bool ok = true;
    ut_buf_init(&text, (size_t)16 << 20);
    for (int pass = 0; pass < 2; pass++) {
        for (int c = 0; c < 256; c++) {
            const bool printable = (c > 32 && c < 127) || (c > 160 && c != 173);
            if (printable == (pass == 0))
                ok = ok && put_rank(&text, &(uint8_t){(uint8_t)c}, 1, rank++);
        }
    }
    for (int n = 1; n <= 4; n++) {
        int64_t count = 1;
        for (int i = 0; i < n; i++)
            count *= 26;
        for (int spaced = n == 1; spaced < (n < 4 ? 2 : 1); spaced++) {
            for (int64_t i = 0; i < count && rank < d->n_ranks && ok; i++) {
                uint8_t token[5] = {' '};
                int64_t rest = i;
                for (int k = n - 1; k >= 0; k--, rest /= 26)
                    token[spaced + k] = (uint8_t)('a' + rest % 26);
                ok = put_rank(&text, token, (size_t)(n + spaced), rank++);
            }
        }
    }
    const utter_status st = text_file_write(dir, "tokenizer.tiktoken", &text, ok, err);
    ut_buf_free(&text);
    return st;
}

/* ---- The checkpoint ------------------------------------------------------------------------- */

static utter_status write_tensors(const char *dir, const char *name, random_list *l, bool ordered,
                                  uint64_t seed, ut_err *err)
{
    char *path = ut_path_join(dir, name);
    const utter_status st = path ? random_list_write(l, path, ordered, seed, err)
                                 : ut_fail(err, UTTER_ERR_NOMEM, "%s: %s", dir, name);
    ut_free(path);
    random_list_free(l);
    return st;
}

static s1_dims sizes_of(model_size size)
{
    if (size != MODEL_NARROW)
        return dims_of[size];
    s1_dims d = dims_of[MODEL_TINY];
    d.dim = d.ffn = d.fast_ffn = 512;
    d.n_layer = d.fast_layers = 1;
    d.head_dim = 128;
    d.fast_n_head = 8;
    d.fast_n_kv = 4;
    d.fast_head_dim = 64;
    return d;
}

utter_status mkmodel_s1_mini(const char *dir, model_size size, uint64_t seed, ut_err *err)
{
    const s1_dims dims = sizes_of(size), *d = &dims;
    random_list l = {0};
    utter_status st = write_config(dir, d, err);
    if (st == UTTER_OK)
        st = write_specials(dir, d, err);
    if (st == UTTER_OK)
        st = write_ranks(dir, d, err);
    if (st != UTTER_OK)
        return st;
    list_model(&l, d);
    st = write_tensors(dir, "model.pth", &l, false, seed, err);
    if (st != UTTER_OK)
        return st;
    list_encoder(&l, d);
    list_quantizer(&l, d);
    list_decoder(&l, d);
    return write_tensors(dir, "codec.pth", &l, true, seed, err);
}
