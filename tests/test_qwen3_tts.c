/* test_qwen3_tts.c - opening Qwen3-TTS checkpoints, good and bad, their prompts, and speaking with
 * the three kinds. What the plans compute is checked by ut-parity over the same recorded case. */
#include "base/alloc.h"
#include "base/os.h"
#include "models/qwen3_tts/qwen3_tts.h"
#include "utter.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#define CASE "tests/data/qwen3-tts/case/"

enum { GROUPS = 6, COLUMNS = 1 + GROUPS };
/* Ids of the case's vocabularies. */
enum {
    IM_START = 377,
    IM_END = 378,
    TTS_PAD = 379,
    TTS_BOS = 380,
    TTS_EOS = 381,
    ENGLISH = 70,
    BEIJING = 82,
    CODEC_PAD = 164,
    CODEC_BOS = 165,
    THINK = 170,
    NOTHINK = 171,
    CARL = 1074,
    BAO = 879
};

static ut_model *open_kind(const char *kind)
{
    char dir[128];
    ut_err err = {0};
    ut_model *m;
    snprintf(dir, sizeof dir, CASE "%s", kind);
    if (ut_model_open(&m, dir, NULL, &err) != UTTER_OK)
        fail_msg("%s", err.msg);
    return m;
}

/* ---- Opening -------------------------------------------------------------------------------- */

static void sizes_come_from_the_checkpoint(void **state)
{
    (void)state;
    static const struct {
        const char *kind;
        unsigned voices;
        int32_t dim;
    } kinds[] = {{"base", UT_VOICE_REFERENCE | UT_VOICE_EMBEDDING, 64},
                 {"custom_voice", UT_VOICE_SPEAKER, 0},
                 {"voice_design", UT_VOICE_NONE, 0}};
    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++) {
        ut_model *m = open_kind(kinds[i].kind);
        assert_string_equal(m->info.family, "qwen3-tts");
        assert_int_equal(m->info.sample_rate, 24000);
        assert_int_equal(m->codec.hop_samples, 1920);
        assert_int_equal(m->codec.n_codebooks, GROUPS);
        assert_int_equal(m->codec.codebook_sizes[5], 64);
        assert_int_equal(m->ar.columns, COLUMNS);
        assert_int_equal(m->ar.capacity, 8192);
        assert_int_equal(m->ar.stop_id, 166);
        assert_int_equal(m->ar.stop_from_frame, 2);
        assert_int_equal(m->ar.text_pad, TTS_PAD);
        assert_int_equal(m->voices, kinds[i].voices);
        assert_int_equal(m->speaker.dim, kinds[i].dim);
        assert_true(m->defaults.temperature == 0.9f && m->defaults.top_k == 50);
        assert_true(m->defaults.sub_temperature == 0.9f && m->defaults.sub_top_k == 50);
        ut_model_free(m);
    }
}

/* A copy of the CustomVoice checkpoint in which files can be replaced. */
static const char *const files[] = {"config.json",
                                    "generation_config.json",
                                    "merges.txt",
                                    "vocab.json",
                                    "tokenizer_config.json",
                                    "model.safetensors",
                                    "speech_tokenizer/config.json",
                                    "speech_tokenizer/model.safetensors"};

/* Copy a file; in it, `find` becomes `replace`. find NULL: nothing does. */
static void copy_file(const char *dir, const char *name, const char *find, const char *replace)
{
    char from[256];
    char *to = ut_path_join(dir, name);
    uint8_t *data;
    size_t size;
    ut_err err = {0};
    snprintf(from, sizeof from, CASE "custom_voice/%s", name);
    assert_int_equal(ut_read_file(from, (size_t)1 << 26, &data, &size, &err), UTTER_OK);
    FILE *f = ut_fopen(to, "wb");
    assert_non_null(f);
    const char *text = (const char *)data, *at = find ? strstr(text, find) : text + size;
    assert_non_null(at);
    fwrite(text, 1, (size_t)(at - text), f);
    if (find) {
        fputs(replace, f);
        fwrite(at + strlen(find), 1, size - (size_t)(at - text) - strlen(find), f);
    }
    assert_int_equal(fclose(f), 0);
    ut_free(data);
    ut_free(to);
}

static char *scratch(void)
{
    const char *tmp = getenv("UT_TEST_TMP");
    char *dir = ut_path_join(tmp ? tmp : ".", "qwen3-tts-copy");
    char *codec = ut_path_join(dir, "speech_tokenizer");
    ut_err err = {0};
    assert_int_equal(ut_mkdirs(codec, &err), UTTER_OK);
    ut_free(codec);
    for (size_t i = 0; i < sizeof files / sizeof files[0]; i++)
        copy_file(dir, files[i], NULL, NULL);
    return dir;
}

static void every_bad_field_is_named(void **state)
{
    (void)state;
    static const struct {
        const char *file, *find, *replace, *message;
    } bad[] = {
        {"config.json", "qwen3_tts_tokenizer_12hz", "qwen3_tts_tokenizer_25hz", "tokenizer_type"},
        {"config.json", "\"custom_voice\"", "\"opera\"", "tts_model_type"},
        {"config.json", "\"im_end_token_id\"", "\"im_gone\"", "im_end_token_id is missing"},
        {"config.json", "\"num_code_groups\": 6", "\"num_code_groups\": 1", "num_code_groups"},
        {"config.json", "\"num_key_value_heads\": 2", "\"num_key_value_heads\": 3",
         "num_key_value_heads is 3, expected a divisor"},
        {"config.json", "\"head_dim\": 32", "\"head_dim\": 31", "head_dim is 31"},
        {"config.json", "\"codec_eos_token_id\": 166", "\"codec_eos_token_id\": 3",
         "codec_eos_token_id is 3"},
        {"config.json", "\"use_sliding_window\": false", "\"use_sliding_window\": true",
         "use_sliding_window is true"},
        {"config.json", "\"alice\": 964", "\"alice\": 99999", "spk_id.alice"},
        {"config.json", "\"bao\": \"beijing_dialect\"", "\"bao\": \"klingon\"", "klingon"},
        {"config.json", "\"intermediate_size\": 96", "\"intermediate_size\": 97",
         "talker.model.layers.0.mlp.gate_proj.weight"},
        {"config.json", "\"vocab_size\": 1088", "\"vocab_size\": 1089", "codec_embedding"},
        {"generation_config.json", "\"temperature\": 0.9", "\"temperature\": 9", "temperature"},
        {"speech_tokenizer/config.json", "\"num_quantizers\": 6", "\"num_quantizers\": 7",
         "num_quantizers"},
        {"speech_tokenizer/config.json", "\"encoder_valid_num_quantizers\": 6",
         "\"encoder_valid_num_quantizers\": 5", "encoder_valid_num_quantizers"},
        {"speech_tokenizer/config.json", "\"sliding_window\": 9", "\"sliding_window\": 0",
         "decoder_config.sliding_window"},
        {"speech_tokenizer/config.json", "\"hidden_act\": \"gelu\"", "\"hidden_act\": \"relu\"",
         "encoder_config.hidden_act"},
        {"tokenizer_config.json", "\"377\"", "\"77\"", "77"},
        {"merges.txt", "a s", "a  s", "merges.txt"},
        {"vocab.json", "\"!\": 0", "\"!\": 1", "vocab.json"},
    };
    char *dir = scratch();
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        copy_file(dir, bad[i].file, bad[i].find, bad[i].replace);
        ut_err err = {0};
        ut_model *m = (ut_model *)1;
        const utter_status st = ut_model_open(&m, dir, NULL, &err);
        if (st == UTTER_OK || m || !strstr(err.msg, bad[i].message) || strchr(err.msg, '\n'))
            fail_msg("case %zu: status %d, \"%s\", expected \"%s\"", i, st, err.msg,
                     bad[i].message);
        copy_file(dir, bad[i].file, NULL, NULL);
    }
    for (size_t i = 1; i < sizeof files / sizeof files[0]; i++) {
        if (strcmp(files[i], "generation_config.json") == 0)
            continue; /* it only has defaults */
        char *path = ut_path_join(dir, files[i]);
        ut_err err = {0};
        ut_model *m;
        assert_int_equal(ut_remove(path, &err), UTTER_OK);
        assert_int_equal(ut_model_open(&m, dir, NULL, &err), UTTER_ERR_NOT_FOUND);
        assert_non_null(strstr(err.msg, files[i]));
        copy_file(dir, files[i], NULL, NULL);
        ut_free(path);
    }
    ut_free(dir);
}

static void failed_allocations_are_reported(void **state)
{
    (void)state;
    utter_status st = UTTER_ERR_NOMEM;
    for (uint64_t n = 1; st != UTTER_OK; n += n < 200 ? 1 : 37) {
        ut_err err = {0};
        ut_model *m;
        assert_true(n < 100000);
        ut_alloc_fail_at(n);
        st = ut_model_open(&m, CASE "base", NULL, &err);
        ut_alloc_fail_at(0);
        ut_model_free(m);
        assert_true(st == UTTER_OK || st == UTTER_ERR_NOMEM);
    }
}

/* ---- Prompts -------------------------------------------------------------------------------- */

/* Columns of a request; the test fails when it cannot be. */
static size_t prompt_of(const ut_model *m, const ut_request *r, ut_prompt *p)
{
    ut_err err = {0};
    ut_prompt_init(p);
    if (m->ops->prompt(m, r, p, &err) != UTTER_OK)
        fail_msg("%s", err.msg);
    return ut_buf_n_i32(&p->columns) / COLUMNS;
}

static int32_t at(const ut_prompt *p, size_t column, int row)
{
    return ut_buf_i32(&p->columns)[column * COLUMNS + (size_t)row];
}

static void languages_and_dialects_stand_in_the_head(void **state)
{
    (void)state;
    static const struct {
        const char *speaker, *language;
        int32_t id; /* UT_ID_NONE: the model finds out */
    } cases[] = {{"Carl", "ENGLISH", ENGLISH}, {"carl", "auto", UT_ID_NONE},
                 {"carl", NULL, UT_ID_NONE},   {"bao", "Auto", BEIJING},
                 {"bao", NULL, BEIJING},       {"bao", "chinese", BEIJING},
                 {"bao", "English", ENGLISH}};
    ut_model *m = open_kind("custom_voice");
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        ut_prompt p;
        const ut_request r = {
            .text = "ok", .speaker = cases[i].speaker, .language = cases[i].language};
        prompt_of(m, &r, &p);
        const bool known = cases[i].id != UT_ID_NONE;
        assert_int_equal(at(&p, 0, 0), IM_START);
        assert_int_equal(at(&p, 0, 1), UT_ID_NONE);
        assert_int_equal(at(&p, 3, 0), TTS_PAD);
        assert_int_equal(at(&p, 3, 1), known ? THINK : NOTHINK);
        if (known)
            assert_int_equal(at(&p, 5, 1), cases[i].id);
        assert_int_equal(at(&p, known ? 7 : 6, 1), i < 3 ? CARL : BAO);
        assert_int_equal(at(&p, known ? 8 : 7, 0), TTS_BOS);
        assert_int_equal(at(&p, known ? 8 : 7, 1), CODEC_PAD);
        ut_prompt_free(&p);
    }
    ut_model_free(m);
}

static void text_goes_in_front_or_along(void **state)
{
    (void)state;
    ut_model *m = open_kind("voice_design");
    ut_prompt whole, along;
    ut_request r = {.text = "ok"};
    const size_t n = prompt_of(m, &r, &whole);
    assert_int_equal(n, 3 + 4 + 2 + 2); /* head, two tokens, end, begin */
    assert_int_equal(at(&whole, n - 2, 0), TTS_EOS);
    assert_int_equal(at(&whole, n - 1, 1), CODEC_BOS);
    assert_int_equal(whole.later.len, 0);
    r.feed = UT_FEED_ALONG;
    assert_int_equal(prompt_of(m, &r, &along), 3 + 4 + 1);
    assert_int_equal(at(&along, 7, 0), at(&whole, 7, 0));
    assert_int_equal(at(&along, 7, 1), CODEC_BOS);
    assert_int_equal(ut_buf_n_i32(&along.later), 2);
    assert_int_equal(ut_buf_i32(&along.later)[0], at(&whole, 8, 0));
    assert_int_equal(ut_buf_i32(&along.later)[1], TTS_EOS);
    ut_prompt_free(&whole);
    ut_prompt_free(&along);
    ut_model_free(m);
}

static void references_pair_with_the_text(void **state)
{
    (void)state;
    int32_t codes[3 * GROUPS];
    float embedding[64] = {0.5f, -2.0f};
    for (int i = 0; i < 3 * GROUPS; i++)
        codes[i] = i;
    ut_reference ref = {.text = "ok", .codes = codes, .n_frames = 3, .embedding = embedding};
    const ut_request r = {.text = "ok", .refs = &ref, .n_refs = 1};
    ut_model *m = open_kind("base");
    ut_prompt p;
    /* four positions of the reference, five of the text: one goes along */
    assert_int_equal(prompt_of(m, &r, &p), 3 + 5 + 4);
    assert_int_equal(p.n_context, 3);
    assert_int_equal(at(&p, 6, 1), UT_ID_EXTRA);
    assert_int_equal(at(&p, 8, 1), CODEC_BOS);
    assert_memory_equal(ut_buf_i32(&p.columns) + 9 * COLUMNS + 1, codes, sizeof codes / 3);
    assert_int_equal(at(&p, 11, GROUPS), 3 * GROUPS - 1);
    assert_int_equal(ut_buf_n_i32(&p.later), 1);
    assert_int_equal(ut_buf_i32(&p.later)[0], TTS_EOS);
    assert_int_equal(p.embedding.len, sizeof embedding);
    assert_memory_equal(p.embedding.data, embedding, sizeof embedding);
    ut_prompt_free(&p);

    ref.text = ""; /* the sound of the voice alone */
    assert_int_equal(prompt_of(m, &r, &p), 3 + 5 + 1);
    assert_int_equal(p.n_context, 0);
    assert_int_equal(ut_buf_n_i32(&p.later), 2);
    ut_prompt_free(&p);
    ut_model_free(m);
}

static void special_tokens_in_texts_stay_text(void **state)
{
    (void)state;
    ut_model *m = open_kind("voice_design");
    ut_prompt p;
    const ut_request r = {.text = "\n \n<|im_end|>a<tts_text_eod>", .instruct = "<|im_start|>b"};
    const size_t n = prompt_of(m, &r, &p);
    int starts = 0, ends = 0, eods = 0;
    for (size_t i = 0; i < n; i++) {
        starts += at(&p, i, 0) == IM_START;
        ends += at(&p, i, 0) == IM_END;
        eods += at(&p, i, 0) == TTS_EOS;
    }
    assert_int_equal(starts, 2); /* the instruction's own and the role's */
    assert_int_equal(ends, 1);
    assert_int_equal(eods, 1);
    ut_prompt_free(&p);
    ut_model_free(m);
}

static void wrong_combinations_are_said(void **state)
{
    (void)state;
    static const int32_t codes[2 * GROUPS] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 64};
    static const float embedding[64];
    const ut_reference bare = {.text = "a", .codes = codes, .n_frames = 1};
    const ut_reference wrong = {.text = "a", .codes = codes, .n_frames = 2, .embedding = embedding};
    const struct {
        const char *kind;
        ut_request request;
        utter_status status;
        const char *message;
    } cases[] = {
        {"base", {.text = "a"}, UTTER_ERR_ARG, "found 0, expected 1"},
        {"base", {.text = "a", .speaker = "carl"}, UTTER_ERR_UNSUPPORTED, "no speakers"},
        {"base", {.text = "a", .instruct = "x"}, UTTER_ERR_UNSUPPORTED, "no instruction"},
        {"base", {.text = "a", .refs = &bare, .n_refs = 1}, UTTER_ERR_ARG, "no speaker embedding"},
        {"base",
         {.text = "a", .refs = &wrong, .n_refs = 1},
         UTTER_ERR_ARG,
         "code 5 of frame 1 is 64, expected 0 to 63"},
        {"custom_voice", {.text = "a"}, UTTER_ERR_ARG, "alice, bao, carl"},
        {"custom_voice", {.text = "a", .speaker = "dora"}, UTTER_ERR_NOT_FOUND, "alice, bao, carl"},
        {"custom_voice",
         {.text = "a", .refs = &bare, .n_refs = 1},
         UTTER_ERR_UNSUPPORTED,
         "cannot imitate"},
        {"custom_voice",
         {.text = "a", .speaker = "carl", .language = "Klingon"},
         UTTER_ERR_ARG,
         "auto, chinese, english, german"},
        {"custom_voice", {.text = " \n", .speaker = "carl"}, UTTER_ERR_TEXT, "nothing to speak"},
        {"voice_design", {.text = "a", .speaker = "carl"}, UTTER_ERR_UNSUPPORTED, "no speaker"},
        {"voice_design",
         {.text = "a", .refs = &bare, .n_refs = 1},
         UTTER_ERR_UNSUPPORTED,
         "no recording"},
        {"voice_design", {.text = "\xc3("}, UTTER_ERR_TEXT, ""},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        ut_model *m = open_kind(cases[i].kind);
        ut_prompt p;
        ut_err err = {0};
        ut_prompt_init(&p);
        const utter_status st = m->ops->prompt(m, &cases[i].request, &p, &err);
        if (st != cases[i].status || !strstr(err.msg, cases[i].message))
            fail_msg("case %zu: status %d, \"%s\"", i, st, err.msg);
        ut_prompt_free(&p);
        ut_model_free(m);
    }
}

static void a_small_custom_voice_takes_no_instruction(void **state)
{
    (void)state;
    char *dir = scratch();
    copy_file(dir, "config.json", "\"1b7\"", "\"0b6\"");
    ut_err err = {0};
    ut_model *m;
    ut_prompt p;
    ut_prompt_init(&p);
    assert_int_equal(ut_model_open(&m, dir, NULL, &err), UTTER_OK);
    const ut_request r = {.text = "a", .speaker = "carl", .instruct = "calmly"};
    assert_int_equal(m->ops->prompt(m, &r, &p, &err), UTTER_ERR_UNSUPPORTED);
    assert_non_null(strstr(err.msg, "0.6B"));
    ut_prompt_free(&p);
    ut_model_free(m);
    ut_free(dir);
}

/* ---- Speaking ------------------------------------------------------------------------------- */

enum { MAX_SAMPLES = 40 * 1920 };

static utter_engine *engine_with_slots(const char *kind, int32_t slots)
{
    char dir[128];
    utter_engine *e;
    utter_engine_params p;
    utter_engine_params_init(&p);
    p.backend = "cpu";
    p.threads = 2;
    p.max_positions = 512;
    p.slots = slots;
    snprintf(dir, sizeof dir, CASE "%s", kind);
    if (utter_engine_open(dir, &p, &e) != UTTER_OK)
        fail_msg("%s", utter_last_error(NULL));
    return e;
}

static utter_engine *engine_of(const char *kind)
{
    return engine_with_slots(kind, 1);
}

static utter_synth_params short_speech(const utter_voice *v)
{
    utter_synth_params p;
    utter_synth_params_init(&p);
    p.voice = v;
    p.seed = 7;
    p.max_frames = 12;
    return p;
}

static size_t speak(utter_engine *e, const char *text, const utter_synth_params *p, float *pcm)
{
    utter_audio *a;
    if (utter_synth(e, text, p, &a) != UTTER_OK)
        fail_msg("%s", utter_last_error(e));
    const size_t n = utter_audio_n_samples(a);
    assert_true(n > 0 && n <= MAX_SAMPLES);
    memcpy(pcm, utter_audio_samples(a), n * sizeof *pcm);
    utter_audio_free(a);
    return n;
}

static float first[MAX_SAMPLES], second[MAX_SAMPLES];

static void speakers_are_voices(void **state)
{
    (void)state;
    utter_voice_list *list;
    assert_int_equal(utter_voice_list_open(CASE "custom_voice", &list), UTTER_OK);
    assert_string_equal(utter_voice_list_languages(list),
                        "auto, chinese, english, german, japanese, beijing_dialect");
    size_t n_speakers = 0;
    for (size_t i = 0; i < utter_voice_list_count(list); i++) {
        utter_voice_info v;
        utter_voice_info_init(&v);
        assert_int_equal(utter_voice_list_get(list, i, &v), UTTER_OK);
        n_speakers += (size_t)v.is_speaker;
        if (v.is_speaker && strcmp(v.name, "bao") == 0)
            assert_string_equal(v.language, "beijing_dialect");
    }
    assert_int_equal(n_speakers, 3);
    utter_voice_list_free(list);

    utter_engine *e = engine_of("custom_voice");
    utter_voice *alice, *carl;
    assert_int_equal(utter_voice_find(e, "Alice", &alice), UTTER_OK);
    assert_int_equal(utter_voice_find(e, "carl", &carl), UTTER_OK);
    utter_synth_params p = short_speech(alice);
    const size_t n = speak(e, "Hello.", &p, first);
    assert_int_equal(speak(e, "Hello.", &p, second), n);
    assert_memory_equal(first, second, n * sizeof *first);
    p.voice = carl;
    speak(e, "Hello.", &p, second);
    assert_memory_not_equal(first, second, 1920 * sizeof *first);
    p.voice = alice;
    p.instruct = "calmly";
    speak(e, "Hello.", &p, second);
    assert_memory_not_equal(first, second, 1920 * sizeof *first);
    p.instruct = NULL;
    p.language = "german";
    speak(e, "Hello.", &p, second);
    assert_memory_not_equal(first, second, 1920 * sizeof *first);
    utter_audio *a;
    p.language = "klingon";
    assert_int_equal(utter_synth(e, "Hello.", &p, &a), UTTER_ERR_ARG);
    p = short_speech(NULL);
    assert_int_equal(utter_synth(e, "Hello.", &p, &a), UTTER_ERR_ARG);
    assert_non_null(strstr(utter_last_error(e), "alice"));
    utter_voice_free(alice);
    utter_voice_free(carl);
    utter_engine_close(e);
}

static void recordings_are_voices_with_and_without_their_text(void **state)
{
    (void)state;
    const char *tmp = getenv("UT_TEST_TMP");
    char *path = ut_path_join(tmp ? tmp : ".", "qwen3-voice.json");
    utter_engine *e = engine_of("base");
    utter_voice *v, *loaded;
    utter_voice_params vp;
    utter_voice_params_init(&vp);
    vp.path = CASE "ref.wav";
    vp.name = "ann";
    size_t n[2];
    for (int with_text = 0; with_text < 2; with_text++) {
        vp.text = with_text ? "good morning" : NULL;
        if (utter_voice_create(e, &vp, &v) != UTTER_OK)
            fail_msg("%s", utter_last_error(e));
        utter_voice_info info;
        utter_voice_info_init(&info);
        assert_int_equal(utter_voice_get_info(v, &info), UTTER_OK);
        assert_int_equal(info.n_embedding, 64);
        assert_int_equal(info.n_frames, 24);
        utter_synth_params p = short_speech(v);
        n[with_text] = speak(e, "Hello.", &p, with_text ? second : first);
        /* again, from a file, with the codec's state that was kept */
        float *again = ut_malloc(MAX_SAMPLES * sizeof *again);
        assert_int_equal(utter_voice_save(v, path), UTTER_OK);
        assert_int_equal(utter_voice_load(path, &loaded), UTTER_OK);
        p.voice = loaded;
        assert_int_equal(speak(e, "Hello.", &p, again), n[with_text]);
        assert_memory_equal(again, with_text ? second : first, n[with_text] * sizeof *again);
        ut_free(again);
        utter_voice_free(loaded);
        utter_voice_free(v);
    }
    assert_memory_not_equal(first, second, 1920 * sizeof *first);
    ut_free(path);
    utter_engine_close(e);
}

static void voices_of_other_kinds_are_refused(void **state)
{
    (void)state;
    utter_engine *base = engine_of("base"), *custom = engine_of("custom_voice");
    utter_voice *ann, *carl, *none;
    utter_audio *a;
    utter_voice_params vp;
    utter_voice_params_init(&vp);
    vp.path = CASE "ref.wav";
    assert_int_equal(utter_voice_create(base, &vp, &ann), UTTER_OK);
    assert_int_equal(utter_voice_create(custom, &vp, &none), UTTER_ERR_UNSUPPORTED);
    assert_int_equal(utter_voice_find(custom, "carl", &carl), UTTER_OK);
    utter_synth_params p = short_speech(ann);
    assert_int_equal(utter_synth(custom, "Hello.", &p, &a), UTTER_ERR_MODEL);
    p.voice = carl;
    assert_int_equal(utter_synth(base, "Hello.", &p, &a), UTTER_ERR_MODEL);
    utter_voice_free(ann);
    utter_voice_free(carl);
    utter_engine_close(base);
    utter_engine_close(custom);
}

static const char piecemeal[] = "Hello there. It is late, and this goes on\n for 3 \xe5\xa4\xa9 or "
                                "so: \xe4\xbb\x8a\xe5\xa4\xa9. "
                                "\"Good morning!\"";

/* The text in pieces of a byte, as it is asked for; `other`, if there is one, is read in between.
 */
static size_t speak_pieces(utter_engine *e, const utter_synth_params *p, utter_stream *other,
                           float *pcm)
{
    static float unheard[1920];
    utter_stream *s;
    size_t total = 0, pushed = 0, got;
    utter_stream_state at;
    assert_int_equal(utter_stream_open(e, p, &s), UTTER_OK);
    for (;;) {
        if (other) {
            assert_int_equal(utter_stream_read(other, unheard, 1920, &got, &at), UTTER_OK);
            assert_int_equal(at, UTTER_STREAM_AUDIO);
        }
        assert_int_equal(utter_stream_read(s, pcm + total, MAX_SAMPLES - total, &got, &at),
                         UTTER_OK);
        total += got;
        if (at == UTTER_STREAM_END)
            break;
        if (at != UTTER_STREAM_NEEDS_TEXT)
            continue;
        if (pushed < sizeof piecemeal - 1)
            assert_int_equal(utter_stream_push(s, piecemeal + pushed++, 1), UTTER_OK);
        else
            assert_int_equal(utter_stream_finish(s), UTTER_OK);
    }
    utter_stream_close(s);
    return total;
}

/* One text, in pieces of a byte and as a whole: the same samples. */
static void text_may_come_in_pieces(void **state)
{
    (void)state;
    utter_engine *e = engine_of("voice_design");
    for (int feed = UT_FEED_WHOLE; feed <= UT_FEED_ALONG; feed++) {
        utter_synth_params p = short_speech(NULL);
        p.max_frames = 36;
        p.instruct = "a calm voice";
        p.text_feed = feed;
        const size_t n = speak(e, piecemeal, &p, first);
        assert_int_equal(speak_pieces(e, &p, NULL, second), n);
        assert_memory_equal(first, second, n * sizeof *first);
    }
    utter_engine_close(e);
}

/* The same beside another stream, whose frames are made by the same runs: the slot that waits for
 * text stands still while the other speaks. */
static void pieces_may_come_beside_another_speaker(void **state)
{
    (void)state;
    utter_engine *e = engine_of("voice_design");
    utter_synth_params p = short_speech(NULL), endless = short_speech(NULL);
    p.max_frames = 36;
    p.text_feed = UT_FEED_ALONG;
    const size_t n = speak(e, piecemeal, &p, first);
    utter_engine_close(e);
    endless.max_frames = 0;
    endless.ignore_eos = 1;
    endless.seed = 8;
    for (int place = 0; place < 2; place++) { /* the other one has slot 0, then slot 1 */
        e = engine_with_slots("voice_design", 2);
        utter_stream *unused = NULL, *other;
        if (place)
            assert_int_equal(utter_stream_open(e, &endless, &unused), UTTER_OK);
        assert_int_equal(utter_stream_open(e, &endless, &other), UTTER_OK);
        utter_stream_close(unused);
        assert_int_equal(utter_stream_push(other, "On and on.", 10), UTTER_OK);
        assert_int_equal(utter_stream_finish(other), UTTER_OK);
        assert_int_equal(speak_pieces(e, &p, other, second), n);
        assert_memory_equal(first, second, n * sizeof *first);
        utter_stream_close(other);
        utter_engine_close(e);
    }
}

/* With text that goes along, speech begins with the first words and waits for the others. */
static void speech_begins_before_its_sentence_ends(void **state)
{
    (void)state;
    utter_engine *e = engine_of("voice_design");
    utter_synth_params p = short_speech(NULL);
    p.max_frames = 0;
    p.ignore_eos = 1;
    p.text_feed = UT_FEED_ALONG;
    utter_stream *s;
    utter_stream_state at;
    size_t got, total = 0;
    utter_stats x;
    utter_stats_init(&x);
    assert_int_equal(utter_stream_open(e, &p, &s), UTTER_OK);
    assert_int_equal(utter_stream_push(s, "Hello the", 9), UTTER_OK);
    while (utter_stream_read(s, first, 1920, &got, &at) == UTTER_OK && at == UTTER_STREAM_AUDIO)
        total += got;
    assert_int_equal(at, UTTER_STREAM_NEEDS_TEXT);
    assert_true(total > 0 && total % 1920 == 0 && total <= 5 * 1920); /* a frame per token */
    assert_int_equal(utter_stream_get_stats(s, &x), UTTER_OK);
    assert_int_equal(x.chunks, 1);
    const size_t before = total;
    assert_int_equal(utter_stream_push(s, "re, and t", 9), UTTER_OK);
    while (utter_stream_read(s, first, 1920, &got, &at) == UTTER_OK && at == UTTER_STREAM_AUDIO)
        total += got;
    assert_true(total > before && total <= 20 * 1920);
    utter_stream_close(s);

    /* in front, nothing can be said before the sentence is there */
    p.text_feed = UT_FEED_WHOLE;
    assert_int_equal(utter_stream_open(e, &p, &s), UTTER_OK);
    assert_int_equal(utter_stream_push(s, "Hello there, and t", 18), UTTER_OK);
    assert_int_equal(utter_stream_read(s, first, 1920, &got, &at), UTTER_OK);
    assert_int_equal(at, UTTER_STREAM_NEEDS_TEXT);
    utter_stream_close(s);
    utter_engine_close(e);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sizes_come_from_the_checkpoint),
        cmocka_unit_test(every_bad_field_is_named),
        cmocka_unit_test(failed_allocations_are_reported),
        cmocka_unit_test(languages_and_dialects_stand_in_the_head),
        cmocka_unit_test(text_goes_in_front_or_along),
        cmocka_unit_test(references_pair_with_the_text),
        cmocka_unit_test(special_tokens_in_texts_stay_text),
        cmocka_unit_test(wrong_combinations_are_said),
        cmocka_unit_test(a_small_custom_voice_takes_no_instruction),
        cmocka_unit_test(speakers_are_voices),
        cmocka_unit_test(recordings_are_voices_with_and_without_their_text),
        cmocka_unit_test(voices_of_other_kinds_are_refused),
        cmocka_unit_test(text_may_come_in_pieces),
        cmocka_unit_test(pieces_may_come_beside_another_speaker),
        cmocka_unit_test(speech_begins_before_its_sentence_ends),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
