/* config.c - reading config.json of an S1-mini checkpoint. Defaults of absent fields are those of
 * the reference implementation's configuration class. */
#include "models/s1_mini/config.h"
#include "base/alloc.h"
#include "base/json.h"
#include "models/config_file.h"
#include <stdio.h>
#include <string.h>

/* A reader with one error: later fields are skipped after the first failure. */
typedef struct reader {
    ut_json_value object;
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

/* A size of the fast transformer: absent, null and 0 all mean the slow one's. */
static void fast_size(reader *r, const char *key, int32_t max, int32_t slow, int32_t *out)
{
    *out = 0;
    opt_i32(r, key, 0, max, out);
    if (*out == 0)
        *out = slow;
}

static const int32_t max_dim = 65536, max_heads = 1024, max_layers = 64;

static int32_t default_ffn(int32_t dim)
{
    const int32_t n = (int32_t)((int64_t)2 * 4 * dim / 3);
    return (n + 255) / 256 * 256;
}

static void read_slow(reader *r, ut_s1_tf_config *t)
{
    get_i32(r, "n_layer", 1, max_layers, &t->n_layer);
    get_i32(r, "n_head", 1, max_heads, &t->n_head);
    get_i32(r, "dim", 2, max_dim, &t->dim);
    t->n_local_heads = -1;
    opt_i32(r, "n_local_heads", -1, max_heads, &t->n_local_heads);
    if (t->n_local_heads < 1)
        t->n_local_heads = t->n_head;
    t->head_dim = 64;
    if (ut_json_typeof(ut_json_member(r->object, "head_dim")) == UT_JSON_NULL && t->n_head > 0)
        t->head_dim = t->dim / t->n_head;
    opt_i32(r, "head_dim", 2, 1024, &t->head_dim);
    t->intermediate_size = default_ffn(t->dim);
    opt_i32(r, "intermediate_size", 1, 4 * max_dim, &t->intermediate_size);
    opt_bool(r, "attention_qkv_bias", &t->attention_qkv_bias);
    opt_bool(r, "attention_o_bias", &t->attention_o_bias);
    opt_bool(r, "attention_qk_norm", &t->attention_qk_norm);
}

static void read_fast(reader *r, const ut_s1_tf_config *slow, ut_s1_tf_config *t)
{
    *t = *slow;
    t->n_layer = 4;
    opt_i32(r, "n_fast_layer", 1, max_layers, &t->n_layer);
    fast_size(r, "fast_dim", max_dim, slow->dim, &t->dim);
    fast_size(r, "fast_n_head", max_heads, slow->n_head, &t->n_head);
    fast_size(r, "fast_n_local_heads", max_heads, slow->n_local_heads, &t->n_local_heads);
    fast_size(r, "fast_head_dim", 1024, slow->head_dim, &t->head_dim);
    fast_size(r, "fast_intermediate_size", 4 * max_dim, slow->intermediate_size,
              &t->intermediate_size);
    opt_bool(r, "fast_attention_qkv_bias", &t->attention_qkv_bias);
    opt_bool(r, "fast_attention_o_bias", &t->attention_o_bias);
    opt_bool(r, "fast_attention_qk_norm", &t->attention_qk_norm);
}

static void read_dilations(reader *r, ut_s1_config *c)
{
    const ut_json_value list = ut_json_member(r->object, "dilations");
    if (r->status != UTTER_OK || ut_json_typeof(list) == UT_JSON_ABSENT ||
        ut_json_typeof(list) == UT_JSON_NULL)
        return;
    r->status = ut_json_get_array(list, r->err);
    const size_t n = ut_json_size(list);
    if (r->status == UTTER_OK && (n < 1 || n > UT_S1_MAX_DILATIONS))
        r->status =
            ut_json_fail(list, r->err, "has %zu items, expected 1 to %d", n, UT_S1_MAX_DILATIONS);
    for (size_t i = 0; r->status == UTTER_OK && i < n; i++)
        r->status = ut_json_get_i32(ut_json_item(list, i), 1, 1024, &c->dilations[i], r->err);
    c->n_dilations = (int32_t)n;
}

static void read_utter(reader *r, ut_s1_config *c)
{
    c->sample_rate = 44100;
    c->fast_codes = c->codebook_size < 1024 ? c->codebook_size : 1024;
    c->encoder_window = 512;
    c->window = 128;
    c->codec_norm_eps = 1e-5f;
    c->codec_rope_base = 10000.0f;
    c->n_dilations = 3;
    c->dilations[0] = 1;
    c->dilations[1] = 3;
    c->dilations[2] = 9;
    c->temperature = 0.8f;
    c->top_p = 0.8f;
    c->repetition_penalty = 1.1f;
    c->max_chunk_chars = 300;
    c->frames_per_char_limit = 6.0f;
    c->runaway_s = 4.0f;
    if (ut_json_typeof(r->object) == UT_JSON_ABSENT || ut_json_typeof(r->object) == UT_JSON_NULL)
        return;
    opt_i32(r, "sample_rate", 1000, 768000, &c->sample_rate);
    opt_i32(r, "fast_codes", 1, c->codebook_size, &c->fast_codes);
    opt_i32(r, "encoder_window", 1, 65536, &c->encoder_window);
    opt_i32(r, "window", 1, 65536, &c->window);
    opt_f32(r, "codec_norm_eps", 0.0f, 1.0f, &c->codec_norm_eps);
    opt_f32(r, "codec_rope_base", 1.0f, 1e9f, &c->codec_rope_base);
    read_dilations(r, c);
    opt_f32(r, "temperature", 0.0f, 2.0f, &c->temperature);
    opt_f32(r, "top_p", 0.0f, 1.0f, &c->top_p);
    opt_f32(r, "repetition_penalty", 0.1f, 2.0f, &c->repetition_penalty);
    opt_i32(r, "max_chunk_chars", 16, 100000, &c->max_chunk_chars);
    if (ut_json_typeof(ut_json_member(r->object, "frames_per_char_limit")) == UT_JSON_NULL)
        c->frames_per_char_limit = 0;
    opt_f32(r, "frames_per_char_limit", 0.0f, 1000.0f, &c->frames_per_char_limit);
    opt_f32(r, "runaway_s", 0.0f, 1e6f, &c->runaway_s);
    const char *voice = "";
    if (r->status == UTTER_OK)
        r->status = ut_json_opt_string(ut_json_member(r->object, "default_voice"), &voice, r->err);
    snprintf(c->default_voice, sizeof c->default_voice, "%s", voice);
}

/* Relations between fields that shapes would otherwise report in a roundabout way. */
static utter_status check(const ut_s1_config *c, const char *dir, ut_err *err)
{
    const ut_s1_tf_config *tf[2] = {&c->slow, &c->fast};
    const char *const prefix[2] = {"", "fast_"};
    for (int i = 0; i < 2; i++) {
        if (tf[i]->n_head % tf[i]->n_local_heads)
            return ut_fail(err, UTTER_ERR_FORMAT,
                           "%s/config.json: %sn_head is %d, expected a multiple of "
                           "%sn_local_heads, %d",
                           dir, prefix[i], (int)tf[i]->n_head, prefix[i],
                           (int)tf[i]->n_local_heads);
        if (tf[i]->head_dim % 2)
            return ut_fail(err, UTTER_ERR_FORMAT,
                           "%s/config.json: %shead_dim is %d, expected an even number", dir,
                           prefix[i], (int)tf[i]->head_dim);
    }
    return UTTER_OK;
}

utter_status ut_s1_config_read(ut_s1_config *c, const char *dir, ut_err *err)
{
    memset(c, 0, sizeof *c);
    ut_json *doc = NULL;
    const utter_status st = ut_config_open(&doc, dir, "config.json", err);
    if (st != UTTER_OK)
        return st;
    reader r = {.object = ut_json_root(doc), .err = err};
    get_i32(&r, "vocab_size", 2, 1 << 24, &c->vocab_size);
    get_i32(&r, "codebook_size", 1, 1 << 20, &c->codebook_size);
    get_i32(&r, "num_codebooks", 1, 32, &c->num_codebooks);
    c->max_seq_len = 2048;
    opt_i32(&r, "max_seq_len", 64, 1 << 20, &c->max_seq_len);
    c->rope_base = 10000.0f;
    opt_f32(&r, "rope_base", 1.0f, 1e9f, &c->rope_base);
    c->norm_eps = 1e-5f;
    opt_f32(&r, "norm_eps", 0.0f, 1.0f, &c->norm_eps);
    c->tie_word_embeddings = true;
    opt_bool(&r, "tie_word_embeddings", &c->tie_word_embeddings);
    opt_bool(&r, "scale_codebook_embeddings", &c->scale_codebook_embeddings);
    read_slow(&r, &c->slow);
    read_fast(&r, &c->slow, &c->fast);

    r.object = ut_json_member(ut_json_root(doc), "utter");
    read_utter(&r, c);
    ut_json_free(doc);
    return r.status == UTTER_OK ? check(c, dir, err) : r.status;
}
