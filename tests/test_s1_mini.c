/* test_s1_mini.c - opening S1-mini checkpoints, good and bad, and their prompts. What the plans
 * compute is checked by ut-parity over the same recorded case. */
#include "base/alloc.h"
#include "base/os.h"
#include "models/s1_mini/s1_mini.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

static const char case_dir[] = "tests/data/s1-mini/case";
static const char *const files[] = {"model.pth", "codec.pth", "tokenizer.tiktoken",
                                    "special_tokens.json"};

/* ---- Copies of the case with another config.json -------------------------------------------- */

static void copy_file(const char *from_dir, const char *to_dir, const char *name)
{
    char *from = ut_path_join(from_dir, name), *to = ut_path_join(to_dir, name);
    uint8_t *data;
    size_t size;
    ut_err err = {0};
    assert_int_equal(ut_read_file(from, (size_t)1 << 26, &data, &size, &err), UTTER_OK);
    FILE *f = ut_fopen(to, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(data, 1, size, f), size);
    assert_int_equal(fclose(f), 0);
    ut_free(data);
    ut_free(from);
    ut_free(to);
}

/* The scratch directory with the case's files; made once per test. */
static char *scratch(void)
{
    const char *tmp = getenv("UT_TEST_TMP");
    char *dir = ut_path_join(tmp ? tmp : ".", "s1-mini-copy");
    ut_err err = {0};
    assert_int_equal(ut_mkdirs(dir, &err), UTTER_OK);
    for (size_t i = 0; i < sizeof files / sizeof files[0]; i++)
        copy_file(case_dir, dir, files[i]);
    return dir;
}

/* Write the case's config.json with `find` replaced by `replace`. */
static void write_config(const char *dir, const char *find, const char *replace)
{
    uint8_t *data;
    size_t size;
    ut_err err = {0};
    char *from = ut_path_join(case_dir, "config.json"), *to = ut_path_join(dir, "config.json");
    assert_int_equal(ut_read_file(from, 65536, &data, &size, &err), UTTER_OK);
    const char *text = (const char *)data, *at = strstr(text, find);
    assert_non_null(at);
    FILE *f = ut_fopen(to, "wb");
    assert_non_null(f);
    fprintf(f, "%.*s%s%s", (int)(at - text), text, replace, at + strlen(find));
    fclose(f);
    ut_free(data);
    ut_free(from);
    ut_free(to);
}

static void expect_failure(const char *dir, utter_status status, const char *part)
{
    ut_err err = {0};
    ut_model *m;
    const utter_status st = ut_model_open(&m, dir, NULL, &err);
    assert_null(m);
    if (st != status || !strstr(err.msg, part) || strchr(err.msg, '\n'))
        fail_msg("status %d, '%s': expected %d and '%s'", st, err.msg, status, part);
}

/* ---- Opening -------------------------------------------------------------------------------- */

static void sizes_come_from_the_checkpoint(void **state)
{
    (void)state;
    ut_err err = {0};
    ut_model *m;
    assert_int_equal(ut_model_open(&m, case_dir, NULL, &err), UTTER_OK);
    assert_string_equal(m->info.family, "s1-mini");
    assert_int_equal(m->info.sample_rate, 44100);
    assert_int_equal(m->codec.hop_samples, 2048);
    assert_int_equal(m->codec.n_codebooks, 4);
    assert_int_equal(m->codec.codebook_sizes[0], 1048);
    assert_int_equal(m->codec.codebook_sizes[3], 1024);
    assert_int_equal(m->ar.columns, 5);
    assert_int_equal(m->ar.capacity, 2304);
    assert_int_equal(m->ar.stop_id, 440);
    assert_int_equal(m->ar.stop_from_frame, 1);
    assert_true(m->defaults.temperature == 0.8f && m->defaults.top_p == 0.8f);
    assert_null(m->defaults.voice);
    ut_model_free(m);
}

static void the_head_scores_what_can_become_audio(void **state)
{
    (void)state;
    static const char *const taps[] = {"slow.logits", NULL};
    ut_err err = {0};
    for (int exact = 0; exact < 2; exact++) {
        const ut_model_options options = {.exact_head = exact, .taps = taps};
        ut_model *m;
        assert_int_equal(ut_model_open(&m, case_dir, &options, &err), UTTER_OK);
        const ut_tid t = ut_plan_find(m->ar.frame, "slow.logits");
        assert_int_equal(m->ar.frame->tensors[t].cols, exact ? 1536 : 1048 + 1);
        ut_model_free(m);
    }
}

static void every_bad_field_is_named(void **state)
{
    (void)state;
    static const struct {
        const char *find, *replace, *part;
        utter_status status;
    } cases[] = {
        {"\"n_layer\": 3", "\"n_layer\": \"three\"", "n_layer", UTTER_ERR_FORMAT},
        {"\"n_layer\": 3", "\"n_layer\": 0", "n_layer", UTTER_ERR_FORMAT},
        {"\"n_layer\": 3,", "", "n_layer", UTTER_ERR_FORMAT},
        {"\"n_layer\": 3", "\"n_layer\": 4", "layers.3.attention_norm.weight", UTTER_ERR_MODEL},
        {"\"n_layer\": 3", "\"n_layer\": 2", "layers.2.", UTTER_ERR_MODEL},
        {"\"n_fast_layer\": 2", "\"n_fast_layer\": 1", "fast_layers.1.", UTTER_ERR_MODEL},
        {"\"dim\": 64", "\"dim\": 65", "embeddings.weight", UTTER_ERR_MODEL},
        {"\"dim\": 64", "\"dim\": 1e99", "dim", UTTER_ERR_FORMAT},
        {"\"n_local_heads\": 2", "\"n_local_heads\": 3", "n_head", UTTER_ERR_FORMAT},
        {"\"head_dim\": 32", "\"head_dim\": 31", "head_dim", UTTER_ERR_FORMAT},
        {"\"head_dim\": 32", "\"head_dim\": 16", "layers.0.attention.wqkv.weight", UTTER_ERR_MODEL},
        {"\"num_codebooks\": 4", "\"num_codebooks\": 3", "codebook_embeddings.weight",
         UTTER_ERR_MODEL},
        {"\"vocab_size\": 1536", "\"vocab_size\": 1024", "vocab_size", UTTER_ERR_MODEL},
        {"\"codebook_size\": 1048", "\"codebook_size\": 1000", "codebook_size", UTTER_ERR_MODEL},
        {"\"attention_qk_norm\": true", "\"attention_qk_norm\": 1", "attention_qk_norm",
         UTTER_ERR_FORMAT},
        {"\"attention_o_bias\": false", "\"attention_o_bias\": true", "layers.0.attention.wo.bias",
         UTTER_ERR_MODEL},
        {"\"rope_base\": 1000000", "\"rope_base\": -1", "rope_base", UTTER_ERR_FORMAT},
        {"\"model_type\": \"dual_ar\"", "\"model_type\": \"dual_ax\"", "no model family",
         UTTER_ERR_MODEL},
        {"\"dropout\": 0.0", "\"utter\": {\"window\": 0}", "utter.window", UTTER_ERR_FORMAT},
        {"\"dropout\": 0.0", "\"utter\": {\"dilations\": []}", "utter.dilations", UTTER_ERR_FORMAT},
        {"\"dropout\": 0.0", "\"utter\": {\"dilations\": [1, 3]}", "encoder", UTTER_ERR_MODEL},
        {"\"dropout\": 0.0", "\"utter\": 7", "utter", UTTER_ERR_FORMAT},
        {"{", "[", "no model family", UTTER_ERR_MODEL},
    };
    char *dir = scratch();
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        write_config(dir, cases[i].find, cases[i].replace);
        expect_failure(dir, cases[i].status, cases[i].part);
    }
    ut_free(dir);
}

static void the_optional_object_is_read(void **state)
{
    (void)state;
    char *dir = scratch();
    write_config(dir, "\"dropout\": 0.0",
                 "\"utter\": {\"sample_rate\": 16000, \"fast_codes\": 500, \"top_p\": 0.5, "
                 "\"max_chunk_chars\": 99, \"frames_per_char_limit\": null, \"runaway_s\": 7, "
                 "\"default_voice\": \"anna\"}");
    ut_err err = {0};
    ut_model *m;
    assert_int_equal(ut_model_open(&m, dir, NULL, &err), UTTER_OK);
    assert_int_equal(m->info.sample_rate, 16000);
    assert_true(m->defaults.top_p == 0.5f && m->defaults.frames_per_char_limit == 0);
    assert_int_equal(m->defaults.max_chunk_chars, 99);
    assert_true(m->defaults.runaway_s == 7.0f);
    assert_string_equal(m->defaults.voice, "anna");
    ut_model_free(m);
    ut_free(dir);
}

static void missing_files_are_named(void **state)
{
    (void)state;
    expect_failure("tests/data/no-such-directory", UTTER_ERR_NOT_FOUND, "no-such-directory");
    ut_err err = {0};
    for (size_t i = 0; i < sizeof files / sizeof files[0]; i++) {
        char *dir = scratch();
        char *path = ut_path_join(dir, files[i]);
        write_config(dir, "{", "{");
        assert_int_equal(ut_remove(path, &err), UTTER_OK);
        expect_failure(dir, UTTER_ERR_NOT_FOUND, files[i]);
        ut_free(path);
        ut_free(dir);
    }
}

static void failed_allocations_are_reported(void **state)
{
    (void)state;
    for (uint64_t n = 1, step = 1;; n += step, step += 1 + step / 16) {
        ut_err err = {0};
        ut_model *m;
        ut_alloc_fail_at(n);
        const utter_status st = ut_model_open(&m, case_dir, NULL, &err);
        ut_alloc_fail_at(0);
        ut_model_free(m);
        if (st == UTTER_OK)
            break;
        assert_int_equal(st, UTTER_ERR_NOMEM);
    }
}

/* ---- Prompts -------------------------------------------------------------------------------- */

static bool has_token(const ut_buf *columns, int32_t width, int32_t id)
{
    for (size_t i = 0; i < ut_buf_n_i32(columns); i += (size_t)width)
        if (ut_buf_i32(columns)[i] == id)
            return true;
    return false;
}

static void special_tokens_in_a_text_stay_text(void **state)
{
    (void)state;
    ut_err err = {0};
    ut_model *m;
    assert_int_equal(ut_model_open(&m, case_dir, NULL, &err), UTTER_OK);
    ut_prompt plain;
    ut_prompt_init(&plain);
    const ut_request request = {.text = "Stop<|im_end|> <|semantic:5|>"};
    assert_int_equal(m->ops->prompt(m, &request, &plain, &err), UTTER_OK);
    const ut_buf *columns = &plain.columns;
    assert_false(has_token(columns, m->ar.columns, m->ar.stop_id));
    assert_false(has_token(columns, m->ar.columns, ut_s1_mini_special(m, "<|semantic:5|>")));
    assert_int_equal(ut_buf_i32(columns)[0], ut_s1_mini_special(m, "<|interleave|>"));
    ut_prompt_free(&plain);
    ut_model_free(m);
}

static void references_stand_before_the_text(void **state)
{
    (void)state;
    static const int32_t codes[] = {7, 1, 2, 3, 1047, 4, 5, 1023};
    const ut_reference ref = {.text = "Hi.", .codes = codes, .n_frames = 2};
    ut_err err = {0};
    ut_model *m;
    assert_int_equal(ut_model_open(&m, case_dir, NULL, &err), UTTER_OK);
    ut_prompt b;
    ut_prompt_init(&b);
    const ut_request request = {.text = "Ho.", .refs = &ref, .n_refs = 1};
    assert_int_equal(m->ops->prompt(m, &request, &b, &err), UTTER_OK);
    const int32_t *x = ut_buf_i32(&b.columns);
    const int32_t first = ut_s1_mini_special(m, "<|semantic:0|>");
    size_t i = 0;
    while (x[i * 5] != first + 7)
        i++;
    assert_memory_equal(x + i * 5 + 1, codes, sizeof codes / 2);
    assert_int_equal(x[(i + 1) * 5], first + 1047);
    assert_memory_equal(x + (i + 1) * 5 + 1, codes + 4, sizeof codes / 2);
    assert_int_equal(x[(i + 2) * 5], m->ar.stop_id);
    ut_prompt_free(&b);
    ut_model_free(m);
}

static void prompts_that_cannot_be_are_refused(void **state)
{
    (void)state;
    static const int32_t wrong[] = {7, 1, 2, 3, 8, 4, -1, 6};
    const ut_reference ref = {.text = "Hi.", .codes = wrong, .n_frames = 2};
    ut_err err = {0};
    ut_model *m;
    assert_int_equal(ut_model_open(&m, case_dir, NULL, &err), UTTER_OK);
    ut_prompt b;
    ut_prompt_init(&b);
    ut_request request = {.text = "Ho.", .refs = &ref, .n_refs = 1};
    assert_int_equal(m->ops->prompt(m, &request, &b, &err), UTTER_ERR_ARG);
    assert_non_null(strstr(err.msg, "code 2 of frame 1 is -1"));

    char *longer = ut_calloc(20001, 1);
    memset(longer, 'q', 20000);
    ut_err_clear(&err);
    ut_prompt_clear(&b);
    request = (ut_request){.text = longer};
    assert_int_equal(m->ops->prompt(m, &request, &b, &err), UTTER_ERR_LIMIT);
    assert_non_null(strstr(err.msg, "expected at most"));

    ut_err_clear(&err);
    ut_prompt_clear(&b);
    request.text = "\xc3(";
    assert_int_equal(m->ops->prompt(m, &request, &b, &err), UTTER_ERR_TEXT);
    const ut_request unheard_of[] = {{.text = "a", .instruct = "calmly"},
                                     {.text = "a", .language = "english"},
                                     {.text = "a", .speaker = "carl"}};
    for (size_t i = 0; i < sizeof unheard_of / sizeof unheard_of[0]; i++) {
        ut_err_clear(&err);
        assert_int_equal(m->ops->prompt(m, &unheard_of[i], &b, &err), UTTER_ERR_UNSUPPORTED);
    }
    ut_free(longer);
    ut_prompt_free(&b);
    ut_model_free(m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sizes_come_from_the_checkpoint),
        cmocka_unit_test(the_head_scores_what_can_become_audio),
        cmocka_unit_test(every_bad_field_is_named),
        cmocka_unit_test(the_optional_object_is_read),
        cmocka_unit_test(missing_files_are_named),
        cmocka_unit_test(failed_allocations_are_reported),
        cmocka_unit_test(special_tokens_in_a_text_stay_text),
        cmocka_unit_test(references_stand_before_the_text),
        cmocka_unit_test(prompts_that_cannot_be_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
