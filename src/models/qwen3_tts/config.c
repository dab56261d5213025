/* config.c - reading the configuration files. Defaults of absent fields are those of the reference
 * package's configuration classes. */
#include "models/qwen3_tts/config.h"
#include "base/alloc.h"
#include "base/json.h"
#include "models/config_file.h"
#include <stdio.h>
#include <string.h>

/* ---- Reading with one error ----------------------------------------------------------------- */

typedef struct reader {
    ut_json_value object;
    ut_arena *arena;
    utter_status status;
    ut_err *err;
} reader;

static void get_i32(reader *r, const char *key, int32_t min, int32_t max, int32_t *out)
{
    if (r->status == UTTER_OK)
        r->status = ut_json_get_i32(ut_json_member(r->object, key), min, max, out, r->err);
}

static void opt_i32(reader *r, const char *key, int32_t min, int32_t max, int32_t *out)
{
    if (r->status == UTTER_OK)
        r->status = ut_json_opt_i32(ut_json_member(r->object, key), min, max, out, r->err);
}

static void opt_f32(reader *r, const char *key, float min, float max, float *out)
{
    if (r->status == UTTER_OK)
        r->status = ut_json_opt_f32(ut_json_member(r->object, key), min, max, out, r->err);
}

static void opt_bool(reader *r, const char *key, bool *out)
{
    if (r->status == UTTER_OK)
        r->status = ut_json_opt_bool(ut_json_member(r->object, key), out, r->err);
}

/* A string that must be `expected`, where it is present. */
static void only(reader *r, const char *key, const char *expected)
{
    const char *found = expected;
    if (r->status == UTTER_OK)
        r->status = ut_json_opt_string(ut_json_member(r->object, key), &found, r->err);
    if (r->status == UTTER_OK && strcmp(found, expected) != 0)
        r->status = ut_json_fail(ut_json_member(r->object, key), r->err,
                                 "is \"%.40s\", expected \"%s\"", found, expected);
}

/* A flag that must be false, where it is present. */
static void never(reader *r, const char *key)
{
    bool on = false;
    opt_bool(r, key, &on);
    if (r->status == UTTER_OK && on)
        r->status = ut_json_fail(ut_json_member(r->object, key), r->err, "is true, expected false");
}

/* A list of up to max integers; absent: out and *n stay. */
static void opt_list(reader *r, const char *key, int32_t max_value, int32_t max, int32_t *out,
                     int32_t *n)
{
    const ut_json_value list = ut_json_member(r->object, key);
    if (r->status != UTTER_OK || ut_json_typeof(list) == UT_JSON_ABSENT ||
        ut_json_typeof(list) == UT_JSON_NULL)
        return;
    r->status = ut_json_get_array(list, r->err);
    const size_t size = ut_json_size(list);
    if (r->status == UTTER_OK && (size < 1 || size > (size_t)max))
        r->status = ut_json_fail(list, r->err, "has %zu items, expected 1 to %d", size, (int)max);
    for (size_t i = 0; r->status == UTTER_OK && i < size; i++)
        r->status = ut_json_get_i32(ut_json_item(list, i), 1, max_value, &out[i], r->err);
    *n = (int32_t)size;
}

static const int32_t max_dim = 65536, max_heads = 1024, max_layers = 64, max_id = 1 << 24;

static void read_tf(reader *r, ut_q3_tf_config *t)
{
    get_i32(r, "hidden_size", 2, max_dim, &t->hidden_size);
    get_i32(r, "intermediate_size", 1, 4 * max_dim, &t->intermediate_size);
    get_i32(r, "num_hidden_layers", 1, max_layers, &t->num_hidden_layers);
    get_i32(r, "num_attention_heads", 1, max_heads, &t->num_attention_heads);
    t->num_key_value_heads = t->num_attention_heads;
    opt_i32(r, "num_key_value_heads", 1, max_heads, &t->num_key_value_heads);
    if (r->status != UTTER_OK)
        return;
    t->head_dim = t->hidden_size / t->num_attention_heads;
    opt_i32(r, "head_dim", 2, 1024, &t->head_dim);
    opt_f32(r, "rms_norm_eps", 0.0f, 1.0f, &t->norm_eps);
    opt_f32(r, "rope_theta", 1.0f, 1e9f, &t->rope_theta);
    never(r, "attention_bias");
    if (r->status == UTTER_OK && t->num_attention_heads % t->num_key_value_heads)
        r->status = ut_json_fail(ut_json_member(r->object, "num_key_value_heads"), r->err,
                                 "is %d, expected a divisor of num_attention_heads, %d",
                                 (int)t->num_key_value_heads, (int)t->num_attention_heads);
    if (r->status == UTTER_OK && t->head_dim % 2)
        r->status = ut_json_fail(ut_json_member(r->object, "head_dim"), r->err,
                                 "is %d, expected an even number", (int)t->head_dim);
}

/* ---- Names ---------------------------------------------------------------------------------- */

static void lower(char *s)
{
    for (; *s; s++)
        if (*s >= 'A' && *s <= 'Z')
            *s = (char)(*s + ('a' - 'A'));
}

/* {"name": id} of the talker's configuration; absent: none. */
static void read_names(reader *r, const char *key, int32_t max, const ut_q3_name_id **out,
                       int32_t *n)
{
    const ut_json_value object = ut_json_member(r->object, key);
    *n = 0;
    if (r->status != UTTER_OK || ut_json_typeof(object) == UT_JSON_ABSENT ||
        ut_json_typeof(object) == UT_JSON_NULL)
        return;
    r->status = ut_json_get_object(object, r->err);
    ut_q3_name_id *list = NULL;
    if (r->status == UTTER_OK)
        list = ut_arena_alloc(r->arena, (ut_json_size(object) + 1) * sizeof *list);
    if (r->status == UTTER_OK && !list)
        r->status = ut_fail(r->err, UTTER_ERR_NOMEM, "no memory for the names of %s", key);
    for (ut_json_iter it = {0}; r->status == UTTER_OK && ut_json_next(object, &it);) {
        r->status = ut_json_get_i32(it.value, 0, max - 1, &list[*n].id, r->err);
        char *name = ut_arena_strdup(r->arena, it.key);
        if (r->status == UTTER_OK && !name)
            r->status = ut_fail(r->err, UTTER_ERR_NOMEM, "no memory for the names of %s", key);
        if (r->status != UTTER_OK)
            return;
        lower(name);
        list[(*n)++].name = name;
    }
    *out = list;
}

/* spk_is_dialect: {"speaker": false | "language"}. */
static void read_dialects(reader *r, const ut_q3_config *c)
{
    const ut_json_value object = ut_json_member(r->object, "spk_is_dialect");
    if (r->status != UTTER_OK || ut_json_typeof(object) != UT_JSON_OBJECT)
        return;
    for (ut_json_iter it = {0}; r->status == UTTER_OK && ut_json_next(object, &it);) {
        const char *dialect;
        if (ut_json_typeof(it.value) != UT_JSON_STRING)
            continue;
        r->status = ut_json_get_string(it.value, &dialect, r->err);
        char *speaker = ut_arena_strdup(r->arena, it.key);
        char *copy = r->status == UTTER_OK ? ut_arena_strdup(r->arena, dialect) : NULL;
        if (r->status == UTTER_OK && (!copy || !speaker))
            r->status = ut_fail(r->err, UTTER_ERR_NOMEM, "no memory for the names of dialects");
        if (r->status != UTTER_OK)
            return;
        lower(speaker);
        lower(copy);
        bool known = false;
        for (int32_t i = 0; i < c->n_languages; i++)
            known |= strcmp(c->languages[i].name, copy) == 0;
        if (!known)
            r->status = ut_json_fail(it.value, r->err,
                                     "is \"%.40s\", expected a name in codec_language_id", copy);
        for (int32_t i = 0; i < c->n_speakers; i++)
            if (strcmp(c->speakers[i].name, speaker) == 0)
                ((ut_q3_name_id *)(uintptr_t)&c->speakers[i])->dialect = copy;
    }
}

/* ---- config.json ---------------------------------------------------------------------------- */

static void read_kind(reader *r, ut_q3_config *c)
{
    static const char *const kinds[] = {"base", "custom_voice", "voice_design"};
    const char *type = "", *size = "";
    if (r->status == UTTER_OK)
        r->status = ut_json_get_string(ut_json_member(r->object, "tts_model_type"), &type, r->err);
    if (r->status == UTTER_OK)
        r->status = ut_json_opt_string(ut_json_member(r->object, "tts_model_size"), &size, r->err);
    if (r->status != UTTER_OK)
        return;
    int k = 0;
    while (k < 3 && strcmp(type, kinds[k]) != 0)
        k++;
    if (k == 3)
        r->status = ut_json_fail(ut_json_member(r->object, "tts_model_type"), r->err,
                                 "is \"%.40s\", expected base, custom_voice or voice_design", type);
    c->kind = (ut_q3_kind)k;
    c->drops_instruct = c->kind == UT_Q3_CUSTOM_VOICE && strcmp(size, "0b6") == 0;
}

static void read_talker(reader *r, ut_q3_config *c)
{
    c->talker.norm_eps = c->predictor.norm_eps = 1e-6f;
    c->talker.rope_theta = c->predictor.rope_theta = 1e6f;
    read_tf(r, &c->talker);
    only(r, "hidden_act", "silu");
    never(r, "use_sliding_window");
    get_i32(r, "text_vocab_size", 1, max_id, &c->text_vocab_size);
    get_i32(r, "text_hidden_size", 1, max_dim, &c->text_hidden_size);
    get_i32(r, "vocab_size", UT_Q3_EXTRA_IDS + 1, max_id, &c->vocab_size);
    get_i32(r, "num_code_groups", 2, UT_Q3_MAX_GROUPS, &c->num_code_groups);
    c->max_positions = 32768;
    opt_i32(r, "max_position_embeddings", 64, 1 << 24, &c->max_positions);
    const struct {
        const char *key;
        int32_t *id;
    } ids[] = {{"codec_pad_id", &c->codec_pad},
               {"codec_bos_id", &c->codec_bos},
               {"codec_think_id", &c->codec_think},
               {"codec_nothink_id", &c->codec_nothink},
               {"codec_think_bos_id", &c->codec_think_bos},
               {"codec_think_eos_id", &c->codec_think_eos}};
    for (size_t i = 0; i < sizeof ids / sizeof ids[0]; i++)
        get_i32(r, ids[i].key, 0, c->vocab_size - 1, ids[i].id);
    get_i32(r, "codec_eos_token_id", c->vocab_size - UT_Q3_EXTRA_IDS, c->vocab_size - 1,
            &c->codec_eos);
    read_names(r, "codec_language_id", c->vocab_size, &c->languages, &c->n_languages);
    read_names(r, "spk_id", c->vocab_size, &c->speakers, &c->n_speakers);
    read_dialects(r, c);

    reader p = *r;
    p.object = ut_json_member(r->object, "code_predictor_config");
    read_tf(&p, &c->predictor);
    only(&p, "hidden_act", "silu");
    never(&p, "use_sliding_window");
    get_i32(&p, "vocab_size", 1, max_id, &c->code_vocab_size);
    get_i32(&p, "num_code_groups", c->num_code_groups, c->num_code_groups, &c->num_code_groups);
    r->status = p.status;
}

static void read_speaker(reader *r, ut_q3_config *c)
{
    static const int32_t channels[] = {512, 512, 512, 512, 1536}, kernels[] = {5, 3, 3, 3, 1},
                         dilations[] = {1, 2, 3, 4, 1};
    if (r->status != UTTER_OK || ut_json_typeof(r->object) != UT_JSON_OBJECT)
        return;
    c->speaker.mel_dim = 128;
    c->speaker.attention_channels = c->speaker.se_channels = 128;
    c->speaker.res2net_scale = 8;
    c->speaker.sample_rate = 24000;
    c->speaker.enc_dim = 1024;
    int32_t n[3] = {5, 5, 5};
    memcpy(c->speaker.channels, channels, sizeof channels);
    memcpy(c->speaker.kernels, kernels, sizeof kernels);
    memcpy(c->speaker.dilations, dilations, sizeof dilations);
    opt_list(r, "enc_channels", max_dim, UT_Q3_MAX_BLOCKS, c->speaker.channels, &n[0]);
    opt_list(r, "enc_kernel_sizes", 99, UT_Q3_MAX_BLOCKS, c->speaker.kernels, &n[1]);
    opt_list(r, "enc_dilations", 99, UT_Q3_MAX_BLOCKS, c->speaker.dilations, &n[2]);
    if (r->status == UTTER_OK && (n[0] != n[1] || n[0] != n[2] || n[0] < 3))
        r->status = ut_json_fail(r->object, r->err,
                                 "has %d enc_channels, %d enc_kernel_sizes and %d enc_dilations, "
                                 "expected 3 or more, as many of each",
                                 (int)n[0], (int)n[1], (int)n[2]);
    c->speaker.n_blocks = n[0];
    opt_i32(r, "mel_dim", 1, 1024, &c->speaker.mel_dim);
    opt_i32(r, "enc_attention_channels", 1, max_dim, &c->speaker.attention_channels);
    opt_i32(r, "enc_res2net_scale", 2, 64, &c->speaker.res2net_scale);
    opt_i32(r, "enc_se_channels", 1, max_dim, &c->speaker.se_channels);
    opt_i32(r, "sample_rate", 24000, 24000, &c->speaker.sample_rate);
    get_i32(r, "enc_dim", c->talker.hidden_size, c->talker.hidden_size, &c->speaker.enc_dim);
}

static void read_utter(reader *r, ut_q3_config *c)
{
    c->max_chunk_chars = 300;
    c->frames_per_char_limit = 6.0f;
    c->runaway_s = 4.0f;
    if (ut_json_typeof(r->object) == UT_JSON_ABSENT || ut_json_typeof(r->object) == UT_JSON_NULL)
        return;
    opt_i32(r, "encoder_window", 0, 1 << 20, &c->encoder_window);
    opt_i32(r, "max_chunk_chars", 16, 100000, &c->max_chunk_chars);
    opt_f32(r, "frames_per_char_limit", 0.0f, 1000.0f, &c->frames_per_char_limit);
    opt_f32(r, "runaway_s", 0.0f, 1e6f, &c->runaway_s);
    const char *voice = "";
    if (r->status == UTTER_OK)
        r->status = ut_json_opt_string(ut_json_member(r->object, "default_voice"), &voice, r->err);
    snprintf(c->default_voice, sizeof c->default_voice, "%s", voice);
}

static utter_status read_model(ut_q3_config *c, const char *dir, ut_arena *arena, ut_err *err)
{
    ut_json *doc;
    const utter_status st = ut_config_open(&doc, dir, "config.json", err);
    if (st != UTTER_OK)
        return st;
    reader r = {.object = ut_json_root(doc), .arena = arena, .err = err};
    only(&r, "tokenizer_type", "qwen3_tts_tokenizer_12hz");
    read_kind(&r, c);
    get_i32(&r, "im_start_token_id", 0, max_id, &c->im_start);
    get_i32(&r, "im_end_token_id", 0, max_id, &c->im_end);
    get_i32(&r, "assistant_token_id", 0, max_id, &c->assistant);
    get_i32(&r, "tts_pad_token_id", 0, max_id, &c->tts_pad);
    get_i32(&r, "tts_bos_token_id", 0, max_id, &c->tts_bos);
    get_i32(&r, "tts_eos_token_id", 0, max_id, &c->tts_eos);
    r.object = ut_json_member(ut_json_root(doc), "talker_config");
    read_talker(&r, c);
    r.object = ut_json_member(ut_json_root(doc), "speaker_encoder_config");
    if (c->kind == UT_Q3_BASE)
        read_speaker(&r, c);
    r.object = ut_json_member(ut_json_root(doc), "utter");
    read_utter(&r, c);
    ut_json_free(doc);
    return r.status;
}

/* ---- generation_config.json ----------------------------------------------------------------- */

static void read_sampling(reader *r, const char *prefix, ut_q3_sampling *s)
{
    char key[64];
    *s = (ut_q3_sampling){.do_sample = true,
                          .temperature = 0.9f,
                          .top_p = 1.0f,
                          .repetition_penalty = 1.0f,
                          .top_k = 50};
    snprintf(key, sizeof key, "%s%s", prefix, prefix[0] ? "dosample" : "do_sample");
    opt_bool(r, key, &s->do_sample);
    snprintf(key, sizeof key, "%stemperature", prefix);
    opt_f32(r, key, 0.0f, 2.0f, &s->temperature);
    snprintf(key, sizeof key, "%stop_p", prefix);
    opt_f32(r, key, 0.0f, 1.0f, &s->top_p);
    snprintf(key, sizeof key, "%stop_k", prefix);
    opt_i32(r, key, 0, max_id, &s->top_k);
    if (!s->do_sample)
        s->temperature = 0.0f;
}

/* The file may be missing: it only has defaults. */
static utter_status read_generation(ut_q3_config *c, const char *dir, ut_err *err)
{
    ut_json *doc = NULL;
    ut_err why = {0};
    const utter_status st = ut_config_open(&doc, dir, "generation_config.json", &why);
    if (st != UTTER_OK && st != UTTER_ERR_NOT_FOUND)
        return ut_fail(err, st, "%s", why.msg);
    reader r = {.object = doc ? ut_json_root(doc) : (ut_json_value){0}, .err = err};
    read_sampling(&r, "", &c->sampling);
    read_sampling(&r, "subtalker_", &c->sub_sampling);
    c->sampling.repetition_penalty = 1.05f;
    opt_f32(&r, "repetition_penalty", 0.1f, 2.0f, &c->sampling.repetition_penalty);
    ut_json_free(doc);
    return r.status;
}

/* ---- speech_tokenizer/config.json ----------------------------------------------------------- */

static void read_decoder(reader *r, ut_q3_config *c)
{
    ut_q3_tf_config *t = &c->codec.decoder;
    t->norm_eps = 1e-5f;
    t->rope_theta = 10000.0f;
    read_tf(r, t);
    only(r, "hidden_act", "silu");
    get_i32(r, "sliding_window", 1, 1 << 20, &t->sliding_window);
    get_i32(r, "codebook_dim", 2, max_dim, &c->codec.codebook_dim);
    get_i32(r, "latent_dim", 1, max_dim, &c->codec.latent_dim);
    get_i32(r, "decoder_dim", 1, max_dim, &c->codec.decoder_dim);
    get_i32(r, "num_quantizers", c->num_code_groups, c->num_code_groups, &c->num_code_groups);
    opt_list(r, "upsampling_ratios", 1024, UT_Q3_MAX_STAGES, c->codec.upsampling_ratios,
             &c->codec.n_upsample);
    opt_list(r, "upsample_rates", 1024, UT_Q3_MAX_STAGES, c->codec.upsample_rates,
             &c->codec.n_blocks);
}

static void read_encoder(reader *r, ut_q3_config *c)
{
    ut_q3_tf_config *t = &c->codec.encoder;
    t->norm_eps = 1e-5f;
    t->rope_theta = 10000.0f;
    read_tf(r, t);
    opt_f32(r, "norm_eps", 0.0f, 1.0f, &t->norm_eps);
    only(r, "hidden_act", "gelu");
    only(r, "pad_mode", "constant");
    never(r, "use_conv_shortcut");
    int32_t one = 1;
    opt_i32(r, "num_residual_layers", 1, 1, &one);
    opt_i32(r, "num_semantic_quantizers", 1, 1, &one);
    c->codec.num_filters = 64;
    opt_i32(r, "num_filters", 1, max_dim, &c->codec.num_filters);
    opt_list(r, "upsampling_ratios", 1024, UT_Q3_MAX_STAGES, c->codec.encoder_ratios,
             &c->codec.n_stages);
    c->codec.encoder_positions = 8000;
    opt_i32(r, "max_position_embeddings", 64, 1 << 24, &c->codec.encoder_positions);
}

static utter_status read_codec(ut_q3_config *c, const char *dir, ut_err *err)
{
    static const int32_t rates[] = {8, 5, 4, 3}, ratios[] = {2, 2}, encoder[] = {8, 6, 5, 4};
    ut_json *doc;
    const utter_status st = ut_config_open(&doc, dir, "speech_tokenizer/config.json", err);
    if (st != UTTER_OK)
        return st;
    memcpy(c->codec.upsample_rates, rates, sizeof rates);
    memcpy(c->codec.upsampling_ratios, ratios, sizeof ratios);
    memcpy(c->codec.encoder_ratios, encoder, sizeof encoder);
    c->codec.n_blocks = c->codec.n_stages = 4;
    c->codec.n_upsample = 2;
    reader r = {.object = ut_json_root(doc), .err = err};
    only(&r, "model_type", "qwen3_tts_tokenizer_12hz");
    get_i32(&r, "encoder_valid_num_quantizers", c->num_code_groups, c->num_code_groups,
            &c->num_code_groups);
    c->codec.sample_rate = 24000;
    opt_i32(&r, "output_sample_rate", 1000, 768000, &c->codec.sample_rate);
    opt_i32(&r, "input_sample_rate", c->codec.sample_rate, c->codec.sample_rate,
            &c->codec.sample_rate);
    r.object = ut_json_member(ut_json_root(doc), "decoder_config");
    read_decoder(&r, c);
    r.object = ut_json_member(ut_json_root(doc), "encoder_config");
    read_encoder(&r, c);
    ut_json_free(doc);
    return r.status;
}

/* ---- All of it ------------------------------------------------------------------------------ */

utter_status ut_q3_config_names(ut_q3_config *c, const char *dir, ut_arena *arena, ut_err *err)
{
    memset(c, 0, sizeof *c);
    return read_model(c, dir, arena, err);
}

utter_status ut_q3_config_read(ut_q3_config *c, const char *dir, ut_arena *arena, ut_err *err)
{
    memset(c, 0, sizeof *c);
    utter_status st = read_model(c, dir, arena, err);
    if (st == UTTER_OK)
        st = read_generation(c, dir, err);
    return st == UTTER_OK ? read_codec(c, dir, err) : st;
}
