/* qwen3_tts_files.c - configuration and tokeniser of a random Qwen3-TTS checkpoint. The vocabulary
 * has the bytes, what the prompts need, and strings of lower-case letters. */
#include "qwen3_tts_files.h"

#include "base/alloc.h"
#include "base/json.h"
#include "text/utf8.h"
#include "text_file.h"
#include <stdio.h>
#include <string.h>

/* ---- vocab.json and merges.txt -------------------------------------------------------------- */

/* Words that are one token, by the joins that make them. */
static const char *const words[] = {"assistant", "user"};

typedef struct vocabulary {
    ut_json_writer tokens; /* vocab.json */
    ut_buf vocab, merges;
    int64_t n, max;
    bool ok;
} vocabulary;

/* Is s a beginning of one of the words, of two letters or more? */
static bool begins_word(const char *s, size_t n)
{
    for (size_t i = 0; i < sizeof words / sizeof words[0]; i++)
        if (n >= 2 && n <= strlen(words[i]) && strncmp(words[i], s, n) == 0)
            return true;
    return false;
}

/* A token of two halves of lower-case letters. */
static void add_join(vocabulary *v, const char *s, size_t n, size_t n_left)
{
    char token[32];
    if (v->n == v->max)
        return;
    snprintf(token, sizeof token, "%.*s", (int)n, s);
    ut_json_put_int(&v->tokens, token, v->n++);
    v->ok = v->ok && ut_buf_printf(&v->merges, "%.*s %s\n", (int)n_left, token, token + n_left);
}

/* All strings of n letters, but those that the words have brought. */
static void add_strings(vocabulary *v, int n, size_t n_left)
{
    char s[5] = "";
    int64_t count = 1;
    for (int i = 0; i < n; i++)
        count *= 26;
    for (int64_t k = 0; k < count && v->n < v->max; k++) {
        int64_t rest = k;
        for (int i = n; i-- > 0; rest /= 26)
            s[i] = (char)('a' + rest % 26);
        if (!begins_word(s, (size_t)n))
            add_join(v, s, (size_t)n, n_left);
    }
}

static void fill_vocabulary(vocabulary *v)
{
    ut_json_begin_object(&v->tokens, NULL);
    /* printable bytes stand for themselves, the others for characters from U+0100 on */
    for (int pass = 0, next = 256; pass < 2; pass++)
        for (int b = 0; b < 256; b++) {
            const bool printable = (b >= 33 && b <= 126) || (b >= 161 && b <= 172) || b >= 174;
            if (printable != (pass == 0))
                continue;
            char key[5] = "";
            ut_utf8_encode((uint32_t)(printable ? b : next++), key);
            ut_json_put_int(&v->tokens, key, v->n++);
        }
    v->ok = ut_buf_puts(&v->merges, "#version: 0.2\n");
    for (size_t i = 0; i < sizeof words / sizeof words[0]; i++)
        for (size_t n = 2; n <= strlen(words[i]); n++)
            add_join(v, words[i], n, n - 1);
    add_strings(v, 2, 1);
    add_strings(v, 3, 2);
    add_strings(v, 4, 2);
}

static utter_status write_vocabulary(const char *dir, const q3_sizes *s, ut_err *err)
{
    vocabulary v = {.max = s->n_tokens};
    ut_buf_init(&v.vocab, UT_JSON_MAX_BYTES);
    ut_buf_init(&v.merges, UT_JSON_MAX_BYTES);
    ut_json_writer_init(&v.tokens, &v.vocab, 0);
    fill_vocabulary(&v);
    const bool complete = ut_json_end_all(&v.tokens) && v.ok;
    utter_status st = text_file_write(dir, "vocab.json", &v.vocab, complete, err);
    if (st == UTTER_OK)
        st = text_file_write(dir, "merges.txt", &v.merges, complete, err);
    ut_buf_free(&v.vocab);
    ut_buf_free(&v.merges);
    return st;
}

/* ---- Configuration -------------------------------------------------------------------------- */

enum { IM_START = 1, IM_END = 2, TTS_PAD = 28, TTS_BOS = 29, TTS_EOS = 30 }; /* of added[] */

static const char *const added[] = {
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "<|object_ref_start|>",
    "<|object_ref_end|>",
    "<|box_start|>",
    "<|box_end|>",
    "<|quad_start|>",
    "<|quad_end|>",
    "<|vision_start|>",
    "<|vision_end|>",
    "<|vision_pad|>",
    "<|image_pad|>",
    "<|video_pad|>",
    "<tool_call>",
    "</tool_call>",
    "<|fim_prefix|>",
    "<|fim_middle|>",
    "<|fim_suffix|>",
    "<|fim_pad|>",
    "<|repo_name|>",
    "<|file_sep|>",
    "<tool_response>",
    "</tool_response>",
    "<think>",
    "</think>",
    "<|audio_start|>",
    "<|audio_end|>",
    "<tts_pad>",
    "<tts_text_bos>",
    "<tts_text_eod>",
    "<tts_text_bos_single>",
    "<|audio_pad|>",
};

typedef struct named_id {
    const char *name;
    int offset; /* after the codes */
    const char *dialect;
} named_id;

static const named_id languages[] = {
    {"english", 2, NULL},          {"german", 5, NULL},      {"spanish", 6, NULL},
    {"chinese", 7, NULL},          {"japanese", 10, NULL},   {"french", 13, NULL},
    {"sichuan_dialect", 14, NULL}, {"korean", 16, NULL},     {"russian", 21, NULL},
    {"italian", 22, NULL},         {"portuguese", 23, NULL}, {"beijing_dialect", 26, NULL}};

static const named_id speakers[] = {{"serena", 1018, NULL},
                                    {"vivian", 1017, NULL},
                                    {"uncle_fu", 962, NULL},
                                    {"ryan", 1013, NULL},
                                    {"aiden", 813, NULL},
                                    {"ono_anna", 825, NULL},
                                    {"sohee", 816, NULL},
                                    {"eric", 827, "sichuan_dialect"},
                                    {"dylan", 830, "beijing_dialect"}};

static const named_id controls[] = {
    {"codec_pad_id", 100, NULL},       {"codec_bos_id", 101, NULL},
    {"codec_eos_token_id", 102, NULL}, {"codec_think_id", 106, NULL},
    {"codec_nothink_id", 107, NULL},   {"codec_think_bos_id", 108, NULL},
    {"codec_think_eos_id", 109, NULL}};

enum {
    N_ADDED = sizeof added / sizeof added[0],
    N_LANGUAGES = sizeof languages / sizeof languages[0],
    N_SPEAKERS = sizeof speakers / sizeof speakers[0],
    N_CONTROLS = sizeof controls / sizeof controls[0]
};

static void put_stack(ut_json_writer *w, const q3_stack *s)
{
    ut_json_put_int(w, "hidden_size", s->hidden);
    ut_json_put_int(w, "intermediate_size", s->ffn);
    ut_json_put_int(w, "num_hidden_layers", s->layers);
    ut_json_put_int(w, "num_attention_heads", s->heads);
    ut_json_put_int(w, "num_key_value_heads", s->kv_heads);
    ut_json_put_int(w, "head_dim", s->head_dim);
    ut_json_put_bool(w, "attention_bias", false);
}

static void put_list(ut_json_writer *w, const char *key, const int64_t *v, int n)
{
    ut_json_begin_array(w, key);
    for (int i = 0; i < n; i++)
        ut_json_put_int(w, NULL, v[i]);
    ut_json_end(w);
}

static void put_talker(ut_json_writer *w, const q3_sizes *s, q3_kind kind)
{
    ut_json_begin_object(w, "talker_config");
    put_stack(w, &s->talker);
    ut_json_put_string(w, "hidden_act", "silu");
    ut_json_put_number(w, "rms_norm_eps", 1e-6);
    ut_json_put_int(w, "rope_theta", 1000000);
    ut_json_put_int(w, "max_position_embeddings", 32768);
    ut_json_put_int(w, "text_hidden_size", s->text_hidden);
    ut_json_put_int(w, "text_vocab_size", s->text_vocab);
    ut_json_put_int(w, "vocab_size", s->codes + Q3_EXTRA_IDS);
    ut_json_put_int(w, "num_code_groups", s->groups);
    for (int i = 0; i < N_CONTROLS; i++)
        ut_json_put_int(w, controls[i].name, s->codes + controls[i].offset);
    ut_json_begin_object(w, "codec_language_id");
    for (int i = 0; i < N_LANGUAGES; i++)
        ut_json_put_int(w, languages[i].name, s->codes + languages[i].offset);
    ut_json_end(w);
    ut_json_begin_object(w, "spk_id");
    for (int i = 0; i < N_SPEAKERS && kind == Q3_CUSTOM_VOICE; i++)
        ut_json_put_int(w, speakers[i].name, s->codes + speakers[i].offset);
    ut_json_end(w);
    ut_json_begin_object(w, "spk_is_dialect");
    for (int i = 0; i < N_SPEAKERS && kind == Q3_CUSTOM_VOICE; i++) {
        if (speakers[i].dialect)
            ut_json_put_string(w, speakers[i].name, speakers[i].dialect);
        else
            ut_json_put_bool(w, speakers[i].name, false);
    }
    ut_json_end(w);
    ut_json_begin_object(w, "code_predictor_config");
    put_stack(w, &s->predictor);
    ut_json_put_string(w, "hidden_act", "silu");
    ut_json_put_int(w, "vocab_size", s->codes);
    ut_json_put_int(w, "num_code_groups", s->groups);
    ut_json_put_number(w, "rms_norm_eps", 1e-6);
    ut_json_put_int(w, "rope_theta", 1000000);
    ut_json_end(w);
    ut_json_end(w);
}

static void put_config(ut_json_writer *w, const q3_sizes *s, q3_kind kind)
{
    static const char *const kinds[] = {"base", "custom_voice", "voice_design"};
    static const int64_t kernels[] = {5, 3, 3, 3, 1}, dilations[] = {1, 2, 3, 4, 1};
    ut_json_put_string(w, "model_type", "qwen3_tts");
    ut_json_put_string(w, "tokenizer_type", "qwen3_tts_tokenizer_12hz");
    ut_json_put_string(w, "tts_model_size", s->model_size);
    ut_json_put_string(w, "tts_model_type", kinds[kind]);
    ut_json_put_int(w, "im_start_token_id", s->n_tokens + IM_START);
    ut_json_put_int(w, "im_end_token_id", s->n_tokens + IM_END);
    ut_json_put_int(w, "assistant_token_id", 256 + (int64_t)strlen(words[0]) - 2);
    ut_json_put_int(w, "tts_pad_token_id", s->n_tokens + TTS_PAD);
    ut_json_put_int(w, "tts_bos_token_id", s->n_tokens + TTS_BOS);
    ut_json_put_int(w, "tts_eos_token_id", s->n_tokens + TTS_EOS);
    put_talker(w, s, kind);
    if (kind != Q3_BASE)
        return;
    ut_json_begin_object(w, "speaker_encoder_config");
    put_list(w, "enc_channels", s->speaker_channels, Q3_SPEAKER_BLOCKS);
    put_list(w, "enc_kernel_sizes", kernels, Q3_SPEAKER_BLOCKS);
    put_list(w, "enc_dilations", dilations, Q3_SPEAKER_BLOCKS);
    ut_json_put_int(w, "enc_attention_channels", s->speaker_attention);
    ut_json_put_int(w, "enc_res2net_scale", s->speaker_scale);
    ut_json_put_int(w, "enc_se_channels", s->speaker_se);
    ut_json_put_int(w, "enc_dim", s->talker.hidden);
    ut_json_put_int(w, "sample_rate", 24000);
    ut_json_end(w);
}

static void put_generation(ut_json_writer *w, const q3_sizes *s, q3_kind kind)
{
    (void)s;
    (void)kind;
    for (int sub = 0; sub < 2; sub++) {
        ut_json_put_bool(w, sub ? "subtalker_dosample" : "do_sample", true);
        ut_json_put_number(w, sub ? "subtalker_temperature" : "temperature", 0.9);
        ut_json_put_number(w, sub ? "subtalker_top_p" : "top_p", 1.0);
        ut_json_put_int(w, sub ? "subtalker_top_k" : "top_k", 50);
    }
    ut_json_put_number(w, "repetition_penalty", 1.05);
    ut_json_put_int(w, "max_new_tokens", 8192);
}

static void put_tokenizer(ut_json_writer *w, const q3_sizes *s, q3_kind kind)
{
    (void)kind;
    ut_json_put_string(w, "tokenizer_class", "Qwen2Tokenizer");
    ut_json_begin_object(w, "added_tokens_decoder");
    for (int i = 0; i < N_ADDED; i++) {
        char id[24];
        snprintf(id, sizeof id, "%lld", (long long)s->n_tokens + i);
        ut_json_begin_object(w, id);
        ut_json_put_string(w, "content", added[i]);
        ut_json_put_bool(w, "special", true);
        ut_json_end(w);
    }
    ut_json_end(w);
}

static void put_codec(ut_json_writer *w, const q3_sizes *s, q3_kind kind)
{
    static const int64_t rates[Q3_STAGES] = {8, 5, 4, 3}, ratios[] = {2, 2};
    static const int64_t encoder[Q3_STAGES] = {8, 6, 5, 4};
    (void)kind;
    ut_json_put_string(w, "model_type", "qwen3_tts_tokenizer_12hz");
    ut_json_put_int(w, "input_sample_rate", 24000);
    ut_json_put_int(w, "output_sample_rate", 24000);
    ut_json_put_int(w, "decode_upsample_rate", 1920);
    ut_json_put_int(w, "encode_downsample_rate", 1920);
    ut_json_put_int(w, "encoder_valid_num_quantizers", s->groups);
    ut_json_begin_object(w, "decoder_config");
    put_stack(w, &s->decoder);
    ut_json_put_string(w, "hidden_act", "silu");
    ut_json_put_int(w, "codebook_size", s->codes);
    ut_json_put_int(w, "codebook_dim", s->codebook_dim);
    ut_json_put_int(w, "latent_dim", s->latent);
    ut_json_put_int(w, "decoder_dim", s->decoder_dim);
    ut_json_put_int(w, "num_quantizers", s->groups);
    ut_json_put_int(w, "sliding_window", s->window);
    ut_json_put_number(w, "rms_norm_eps", 1e-5);
    ut_json_put_int(w, "rope_theta", 10000);
    put_list(w, "upsample_rates", rates, Q3_STAGES);
    put_list(w, "upsampling_ratios", ratios, 2);
    ut_json_end(w);
    ut_json_begin_object(w, "encoder_config");
    put_stack(w, &s->encoder);
    ut_json_put_string(w, "hidden_act", "gelu");
    ut_json_put_int(w, "codebook_size", s->codes);
    ut_json_put_int(w, "num_filters", s->filters);
    ut_json_put_int(w, "num_quantizers", s->encoder_groups);
    ut_json_put_number(w, "norm_eps", 1e-5);
    ut_json_put_int(w, "rope_theta", 10000);
    ut_json_put_int(w, "max_position_embeddings", 8000);
    put_list(w, "upsampling_ratios", encoder, Q3_STAGES);
    ut_json_end(w);
}

utter_status q3_write_files(const char *dir, const q3_sizes *s, q3_kind kind, ut_err *err)
{
    static const struct {
        const char *name;
        void (*put)(ut_json_writer *w, const q3_sizes *s, q3_kind kind);
    } files[] = {{"config.json", put_config},
                 {"generation_config.json", put_generation},
                 {"tokenizer_config.json", put_tokenizer},
                 {"speech_tokenizer/config.json", put_codec}};
    utter_status st = write_vocabulary(dir, s, err);
    for (size_t i = 0; st == UTTER_OK && i < sizeof files / sizeof files[0]; i++) {
        ut_buf text;
        ut_json_writer w;
        ut_buf_init(&text, UT_JSON_MAX_BYTES);
        ut_json_writer_init(&w, &text, 2);
        ut_json_begin_object(&w, NULL);
        files[i].put(&w, s, kind);
        const bool complete = ut_json_end_all(&w);
        st = text_file_write(dir, files[i].name, &text, complete, err);
        ut_buf_free(&text);
    }
    return st;
}
