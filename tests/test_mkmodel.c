/* test_mkmodel.c - random checkpoints: small, reproducible, complete enough that the family opens
 * them, and with values of the intended distribution. */
#include "../tools/mkmodel.h"

#include "base/alloc.h"
#include "base/os.h"
#include "models/model.h"
#include "text/bpe.h"
#include "weights/weights.h"
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

static const char *const file_names[] = {"codec.pth", "config.json", "model.pth",
                                         "special_tokens.json", "tokenizer.tiktoken"};
enum { N_FILES = sizeof file_names / sizeof file_names[0] };

/* Seeds 1, 1 again and 2. */
static char dirs[3][512];

static void make(const char *dir, uint64_t seed)
{
    ut_err err = {0};
    if (ut_mkdirs(dir, &err) != UTTER_OK ||
        mkmodel_s1_mini(dir, MODEL_TINY, seed, &err) != UTTER_OK)
        fail_msg("%s", err.msg);
}

static int make_all(void **state)
{
    static const uint64_t seeds[] = {1, 1, 2};
    const char *base = getenv("UT_TEST_TMP");
    (void)state;
    for (int i = 0; i < 3; i++) {
        snprintf(dirs[i], sizeof dirs[i], "%s/test_mkmodel_%d", base ? base : ".", i);
        make(dirs[i], seeds[i]);
    }
    return 0;
}

static int drop_all(void **state)
{
    (void)state;
    for (int i = 0; i < 3; i++) {
        for (int k = 0; k < N_FILES; k++) {
            char *path = ut_path_join(dirs[i], file_names[k]);
            ut_remove(path, NULL);
            ut_free(path);
        }
        ut_remove(dirs[i], NULL);
    }
    return 0;
}

static uint8_t *read_in(const char *dir, const char *name, size_t *n)
{
    ut_err err = {0};
    uint8_t *data = NULL;
    char *path = ut_path_join(dir, name);
    if (ut_read_file(path, 1 << 24, &data, n, &err) != UTTER_OK)
        fail_msg("%s", err.msg);
    ut_free(path);
    return data;
}

static ut_weights *open_in(const char *dir, const char *name)
{
    ut_err err = {0};
    ut_weights *w = NULL;
    char *path = ut_path_join(dir, name);
    if (ut_weights_open(&w, path, &err) != UTTER_OK)
        fail_msg("%s", err.msg);
    ut_free(path);
    return w;
}

static void files_depend_on_the_seed_alone(void **state)
{
    (void)state;
    size_t total = 0;
    for (int k = 0; k < N_FILES; k++) {
        size_t n[3];
        uint8_t *data[3];
        for (int i = 0; i < 3; i++)
            data[i] = read_in(dirs[i], file_names[k], &n[i]);
        assert_int_equal(n[0], n[1]);
        assert_memory_equal(data[0], data[1], n[0]);
        assert_int_equal(n[0], n[2]);
        const bool random = strstr(file_names[k], ".pth") != NULL;
        assert_int_equal(memcmp(data[0], data[2], n[0]) != 0, random);
        total += n[0];
        for (int i = 0; i < 3; i++)
            ut_free(data[i]);
    }
    assert_true(total < 3000000);
}

/* Mean and deviation of rows [first, end) of a matrix. */
static void measure(const ut_weights *w, const char *name, int64_t first, int64_t end, double *mean,
                    double *deviation)
{
    const ut_view *v = ut_weights_find(w, name);
    if (!v)
        fail_msg("no tensor %s", name);
    const int64_t row = v->n_elements / v->dim[0];
    if (end < 0)
        end = v->dim[0];
    double sum = 0, squares = 0;
    for (int64_t i = first * row; i < end * row; i++) {
        float f;
        ut_view_to_f32(v, i, 1, &f);
        sum += (double)f;
        squares += (double)f * (double)f;
    }
    const double n = (double)((end - first) * row);
    *mean = sum / n;
    *deviation = sqrt(squares / n - *mean * *mean);
}

static void values_have_the_intended_scale(void **state)
{
    (void)state;
    static const struct {
        const char *file, *name;
        int64_t first, end;
        double mean, deviation, tolerance;
    } cases[] = {
        {"model.pth", "embeddings.weight", 0, -1, 0, 1, 0.01},
        {"model.pth", "layers.1.attention.wqkv.weight", 0, -1, 0, 0.1768, 0.01}, /* 32^-1/2 */
        {"model.pth", "layers.2.attention.wo.weight", 0, -1, 0, 0.0361, 0.003}, /* (128 * 6)^-1/2 */
        {"model.pth", "norm.weight", 0, -1, 1, 0.05, 0.03},
        {"model.pth", "output.weight", 0, 303, 0, 0.1768, 0.01},
        {"model.pth", "output.weight", 303, 1335, 0, 0.7071, 0.02}, /* semantic tokens */
        {"model.pth", "output.weight", 1335, -1, 0, 0.1768, 0.03},
        {"codec.pth", "encoder.block.4.block.4.conv.parametrizations.weight.original1", 0, -1, 0, 1,
         0.02},
        {"codec.pth", "quantizer.upsample.0.1.gamma", 0, -1, 0.1, 0.02, 0.01},
        {"codec.pth", "decoder.model.1.block.0.alpha", 0, -1, 1, 0.2887, 0.15}, /* 12^-1/2 */
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        double mean, deviation;
        ut_weights *w = open_in(dirs[0], cases[i].file);
        measure(w, cases[i].name, cases[i].first, cases[i].end, &mean, &deviation);
        if (fabs(mean - cases[i].mean) > cases[i].tolerance ||
            fabs(deviation - cases[i].deviation) > cases[i].tolerance)
            fail_msg("%s: mean %g, deviation %g", cases[i].name, mean, deviation);
        ut_weights_close(w);
    }
}

static void rope_tables_hold_cosines_and_sines(void **state)
{
    (void)state;
    ut_weights *w = open_in(dirs[0], "codec.pth");
    const ut_view *v = ut_weights_find(w, "quantizer.post_module.freqs_cis");
    assert_non_null(v);
    assert_int_equal(v->dtype, UT_BF16);
    assert_int_equal(v->n_dims, 3);
    assert_int_equal(v->dim[1], 32);
    assert_int_equal(v->dim[2], 2);
    for (int64_t pos = 0; pos < v->dim[0]; pos += 7) {
        for (int64_t i = 0; i < 32; i++) {
            float found[2];
            const double angle = (double)pos * pow(10000, -(double)i / 32);
            ut_view_to_f32(v, (pos * 32 + i) * 2, 2, found);
            assert_true(fabs((double)found[0] - cos(angle)) <
                        0.003); /* half a bf16 step is 0.002 */
            assert_true(fabs((double)found[1] - sin(angle)) < 0.003);
        }
    }
    ut_weights_close(w);
}

static void tokenizer_is_one_that_merges(void **state)
{
    (void)state;
    ut_err err = {0};
    ut_bpe *bpe = NULL;
    char *ranks = ut_path_join(dirs[0], "tokenizer.tiktoken"),
         *special = ut_path_join(dirs[0], "special_tokens.json");
    if (ut_bpe_load_tiktoken(&bpe, ranks, special, UT_PRESPLIT_S1, &err) != UTTER_OK)
        fail_msg("%s", err.msg);
    assert_int_equal(ut_bpe_n_ranks(bpe), 288);
    assert_int_equal(ut_bpe_special(bpe, "<|im_end|>"), 288 + 4);
    assert_int_equal(ut_bpe_special(bpe, "<|semantic:0|>"), 288 + 15);
    assert_int_equal(ut_bpe_special(bpe, "<|semantic:1031|>"), 288 + 15 + 1031);
    size_t n;
    assert_memory_equal(ut_bpe_token(bpe, 0, &n), "!", 1);
    for (int32_t id = 256; id < 288; id++) { /* two letters, of which the table has each */
        const char *token = ut_bpe_token(bpe, id, &n);
        assert_int_equal(n, 2);
        assert_int_equal(token[1] >= 'a' && token[1] <= 'z', 1);
    }
    ut_buf ids;
    ut_buf_init(&ids, 1000);
    assert_int_equal(ut_bpe_encode(bpe, "x y", 3, false, &ids, &err), UTTER_OK);
    assert_int_equal(ut_buf_n_i32(&ids), 2);
    assert_memory_equal(ut_bpe_token(bpe, ut_buf_i32(&ids)[1], &n), " y", 2);
    ut_buf_free(&ids);
    ut_bpe_free(bpe);
    ut_free(ranks);
    ut_free(special);
}

static void the_family_opens_it(void **state)
{
    (void)state;
    ut_err err = {0};
    ut_model *m = NULL;
    const ut_model_options options = {0};
    if (ut_model_open(&m, dirs[0], &options, &err) != UTTER_OK)
        fail_msg("%s", err.msg);
    assert_string_equal(m->info.family, "s1-mini");
    assert_int_equal(m->codec.n_codebooks, 4);
    assert_int_equal(m->codec.hop_samples, 2048);
    assert_int_equal(m->ar.stop_id, 292);
    ut_model_free(m);
}

static void the_kinds_of_qwen3_tts_open(void **state)
{
    (void)state;
    static const struct {
        mkmodel_fn *make;
        model_size size;
        unsigned voices;
        int32_t dim;
    } kinds[] = {
        {mkmodel_qwen3_tts_06b, MODEL_TINY, UT_VOICE_SPEAKER, 0},
        {mkmodel_qwen3_tts_06b_base, MODEL_TINY, UT_VOICE_REFERENCE | UT_VOICE_EMBEDDING, 48},
        {mkmodel_qwen3_tts_17b, MODEL_TINY, UT_VOICE_SPEAKER, 0},
        {mkmodel_qwen3_tts_17b_base, MODEL_TINY, UT_VOICE_REFERENCE | UT_VOICE_EMBEDDING, 96},
        {mkmodel_qwen3_tts_17b_design, MODEL_TINY, UT_VOICE_NONE, 0},
        {mkmodel_qwen3_tts_06b, MODEL_NARROW, UT_VOICE_SPEAKER, 0},
        {mkmodel_qwen3_tts_17b, MODEL_NARROW, UT_VOICE_SPEAKER, 0}};
    static const char *const names[] = {"config.json",
                                        "generation_config.json",
                                        "tokenizer_config.json",
                                        "vocab.json",
                                        "merges.txt",
                                        "model.safetensors",
                                        "speech_tokenizer/config.json",
                                        "speech_tokenizer/model.safetensors",
                                        "speech_tokenizer"};
    const char *base = getenv("UT_TEST_TMP");
    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++) {
        char dir[512];
        ut_err err = {0};
        ut_model *m = NULL;
        snprintf(dir, sizeof dir, "%s/test_mkmodel_qwen3_%zu", base ? base : ".", i);
        if (ut_mkdirs(dir, &err) != UTTER_OK ||
            kinds[i].make(dir, kinds[i].size, 5, &err) != UTTER_OK ||
            ut_model_open(&m, dir, NULL, &err) != UTTER_OK)
            fail_msg("%s", err.msg);
        assert_string_equal(m->info.family, "qwen3-tts");
        assert_int_equal(m->voices, kinds[i].voices);
        assert_int_equal(m->speaker.dim, kinds[i].dim);
        assert_int_equal(m->codec.hop_samples, 1920);
        const ut_request r = {.text = "hello", .speaker = "eric"};
        ut_prompt p;
        ut_prompt_init(&p);
        if (kinds[i].voices == UT_VOICE_SPEAKER && m->ops->prompt(m, &r, &p, &err) != UTTER_OK)
            fail_msg("%s", err.msg);
        ut_prompt_free(&p);
        ut_model_free(m);
        for (size_t k = 0; k < sizeof names / sizeof names[0]; k++) {
            char *path = ut_path_join(dir, names[k]);
            ut_remove(path, NULL);
            ut_free(path);
        }
        ut_remove(dir, NULL);
    }
}

static void a_directory_that_cannot_be_written_is_an_error(void **state)
{
    (void)state;
    ut_err err = {0};
    assert_int_equal(mkmodel_s1_mini("tests/no/such/directory", MODEL_TINY, 1, &err), UTTER_ERR_IO);
    assert_non_null(strstr(err.msg, "config.json"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(files_depend_on_the_seed_alone),
        cmocka_unit_test(values_have_the_intended_scale),
        cmocka_unit_test(rope_tables_hold_cosines_and_sines),
        cmocka_unit_test(tokenizer_is_one_that_merges),
        cmocka_unit_test(the_family_opens_it),
        cmocka_unit_test(the_kinds_of_qwen3_tts_open),
        cmocka_unit_test(a_directory_that_cannot_be_written_is_an_error),
    };
    return cmocka_run_group_tests(tests, make_all, drop_all);
}
