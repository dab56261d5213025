/* test_voice.c - voices: made of recordings, their files (good, bad, of another codec), where they
 * are kept, and the cache of encoded recordings. The user's folders are in UT_TEST_TMP/home: the
 * environment of the test says so, but Wine has its own idea of LOCALAPPDATA. */
#include "fake_model.h"
#include "base/alloc.h"
#include "base/os.h"
#include "engine/sha256.h"
#include "engine/voice.h"
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#define N_SAMPLES 8004 /* a second and a bit, at FAKE_RATE */

typedef struct fixture {
    fake f;
    utter_engine *e;
    utter_voice_params p;
    float pcm[2 * N_SAMPLES];
} fixture;

/* ---- Files ---------------------------------------------------------------------------------- */

/* Remove a folder and what is in it. */
static void wipe(const char *dir)
{
    char **names;
    size_t n;
    if (!ut_dir_exists(dir))
        return;
    assert_int_equal(ut_list_dir(dir, &names, &n, NULL), UTTER_OK);
    for (size_t i = 0; i < n; i++) {
        char *path = ut_path_join(dir, names[i]);
        if (ut_dir_exists(path))
            wipe(path);
        else
            ut_remove(path, NULL);
        ut_free(path);
    }
    ut_list_free(names, n);
    ut_remove(dir, NULL);
}

static const char *in_tmp(const char *name)
{
    static char path[4][600];
    static int i;
    i = (i + 1) % 4;
    snprintf(path[i], sizeof path[i], "%s/voice/%s", getenv("UT_TEST_TMP"), name);
    return path[i];
}

static void write_text(const char *path, const char *text)
{
    FILE *f = ut_fopen(path, "wb");
    assert_non_null(f);
    fputs(text, f);
    fclose(f);
}

static size_t count_files(const char *dir)
{
    char **names;
    size_t n = 0;
    if (ut_list_dir(dir, &names, &n, NULL) == UTTER_OK)
        ut_list_free(names, n);
    return n;
}

static int set_up(void **state)
{
    fixture *x = calloc(1, sizeof *x);
    char *data = ut_user_data_dir(), *cache = ut_user_cache_dir();
    if (!data || !strstr(data, "test-files") || !strstr(cache, "test-files")) {
        fprintf(stderr, "the user's folders are not those of a test\n");
        return -1;
    }
    wipe(data);
    wipe(cache);
    ut_free(data);
    ut_free(cache);
    wipe(in_tmp(""));
    ut_mkdirs(in_tmp("model/voices"), NULL);
    x->e = fake_engine(&x->f, in_tmp("model"));
    if (!x->e)
        return -1;
    x->e->model->ar.max_prompt = 2000; /* a frame is a millisecond here */
    for (int i = 0; i < 2 * N_SAMPLES; i++)
        x->pcm[i] = 0.4f * sinf((float)i * 0.05f);
    utter_voice_params_init(&x->p);
    x->p.samples = x->pcm;
    x->p.n_samples = N_SAMPLES;
    x->p.sample_rate = FAKE_RATE;
    x->p.text = "a recording";
    *state = x;
    return 0;
}

static int tear_down(void **state)
{
    fixture *x = *state;
    utter_engine_close(x->e);
    int left = x->f.n_execs + x->f.n_states;
    free(x);
    return left;
}

/* ---- Recordings ----------------------------------------------------------------------------- */

static void recording_becomes_codes(void **state)
{
    fixture *x = *state;
    utter_voice *v, *stereo;
    utter_voice_info i;
    x->p.name = "ann";
    x->p.description = "calm";
    x->p.language = "en";
    assert_int_equal(utter_voice_create(x->e, &x->p, &v), UTTER_OK);
    utter_voice_info_init(&i);
    assert_int_equal(utter_voice_get_info(v, &i), UTTER_OK);
    assert_int_equal(i.n_frames, (N_SAMPLES + FAKE_HOP - 1) / FAKE_HOP);
    assert_int_equal(i.n_codebooks, FAKE_CODEBOOKS);
    assert_string_equal(i.name, "ann");
    assert_string_equal(i.description, "calm");
    assert_string_equal(i.language, "en");
    assert_string_equal(i.text, "a recording");
    assert_string_equal(i.family, "fake");
    assert_string_equal(i.codec_id, x->e->codec_id);
    assert_int_equal(x->f.n_encode_runs, (i.n_frames + FAKE_MAX_FRAMES - 1) / FAKE_MAX_FRAMES);

    float *two = malloc(2 * sizeof x->pcm); /* the same on two channels is the same voice */
    for (size_t t = 0; t < N_SAMPLES; t++)
        two[2 * t] = two[2 * t + 1] = x->pcm[t];
    x->p.samples = two;
    x->p.n_channels = 2;
    assert_int_equal(utter_voice_create(x->e, &x->p, &stereo), UTTER_OK);
    assert_int_equal(stereo->n_frames, v->n_frames);
    assert_memory_equal(stereo->codes, v->codes,
                        (size_t)v->n_frames * FAKE_CODEBOOKS * sizeof *v->codes);
    free(two);
    utter_voice_free(stereo);
    utter_voice_free(v);
}

static void expect_refused(fixture *x, utter_status status, const char *part)
{
    utter_voice *v;
    utter_status st = utter_voice_create(x->e, &x->p, &v);
    assert_null(v);
    if (st != status || !strstr(utter_last_error(x->e), part))
        fail_msg("status %d, '%s': expected %d and '%s'", st, utter_last_error(x->e), status, part);
}

static void recordings_that_cannot_be_used_are_refused(void **state)
{
    fixture *x = *state;
    utter_voice_params good = x->p;
    x->p.text = "";
    expect_refused(x, UTTER_ERR_ARG, "text is missing");
    x->p = good;
    x->p.samples = NULL;
    expect_refused(x, UTTER_ERR_ARG, "either path or samples");
    x->p = good;
    x->p.path = "both";
    expect_refused(x, UTTER_ERR_ARG, "either path or samples");
    x->p = good;
    x->p.name = "with space";
    expect_refused(x, UTTER_ERR_ARG, "voice name");
    x->p = good;
    x->p.sample_rate = 999;
    expect_refused(x, UTTER_ERR_ARG, "sample_rate is 999");
    x->p = good;
    x->p.n_channels = 65;
    expect_refused(x, UTTER_ERR_ARG, "n_channels is 65");
    x->p = good;
    x->p.text = "\xff";
    expect_refused(x, UTTER_ERR_TEXT, "UTF-8");
    x->p = good;
    x->p.n_samples = FAKE_RATE / 2 - 1;
    expect_refused(x, UTTER_ERR_AUDIO, "at least 0.5 s");
    x->p = good;
    x->p.sample_rate = 1000;
    x->p.n_samples = 0;
    expect_refused(x, UTTER_ERR_AUDIO, "0.00 s long");
    x->p = good;
    x->pcm[100] = NAN;
    expect_refused(x, UTTER_ERR_AUDIO, "sample 100 is not a finite number");
    memset(x->pcm, 0, sizeof x->pcm);
    expect_refused(x, UTTER_ERR_AUDIO, "silent");
    x->pcm[7] = 0.5f;
    x->p.path = "no/such/file.wav";
    x->p.samples = NULL;
    expect_refused(x, UTTER_ERR_NOT_FOUND, "no/such/file.wav");
    x->p = good;
    x->e->model->ar.max_prompt = 400;
    expect_refused(x, UTTER_ERR_LIMIT, "recording of 1001 frames: the prompt has");
}

static void model_without_encoder_says_so(void **state)
{
    fixture *x = *state;
    fake f = {.no_encoder = true};
    utter_engine *own = x->e;
    x->e = fake_engine(&f, "none");
    expect_refused(x, UTTER_ERR_UNSUPPORTED, "cannot take recordings");
    utter_engine_close(x->e);
    x->e = own;
}

/* The preview of a voice is its codes, decoded. */
static void preview_is_what_the_codec_gives_back(void **state)
{
    fixture *x = *state;
    utter_voice *v;
    utter_audio *a;
    x->p.n_samples = FAKE_RATE / 2;
    assert_int_equal(utter_voice_create(x->e, &x->p, &v), UTTER_OK);
    assert_int_equal(utter_voice_preview(x->e, v, &a), UTTER_OK);
    assert_int_equal(utter_audio_n_samples(a), (size_t)v->n_frames * FAKE_HOP);
    assert_int_equal(utter_audio_sample_rate(a), FAKE_RATE);
    float *pcm = calloc(utter_audio_n_samples(a), sizeof *pcm);
    ut_err err = {0};
    assert_int_equal(ut_codec_decode(x->e, v->codes, v->n_frames, pcm, &err), UTTER_OK);
    assert_memory_equal(utter_audio_samples(a), pcm, utter_audio_n_samples(a) * sizeof *pcm);
    free(pcm);
    utter_audio_free(a);
    utter_voice_free(v);
}

/* ---- Files ---------------------------------------------------------------------------------- */

static const char minimal[] =
    "{\"name\":\"bo\",\"description\":\"d\",\"language\":\"en\",\"text\":\"Hi \\u00e9\","
    "\"codes\":[[1,2,63],[3,4,15],[0,0,1]]}";

static void voice_file_of_a_model_is_read(void **state)
{
    (void)state;
    utter_voice *v;
    static const int32_t codes[] = {1, 3, 0, 2, 4, 0, 63, 15, 1};
    write_text(in_tmp("bo.json"), minimal);
    assert_int_equal(utter_voice_load(in_tmp("bo.json"), &v), UTTER_OK);
    assert_string_equal(v->name, "bo");
    assert_string_equal(v->text, "Hi \xc3\xa9");
    assert_string_equal(v->codec_id, "");
    assert_int_equal(v->n_frames, 3);
    assert_int_equal(v->n_codebooks, 3);
    assert_memory_equal(v->codes, codes, sizeof codes);
    utter_voice_free(v);
}

static void saved_voice_is_the_same(void **state)
{
    fixture *x = *state;
    utter_voice *v, *w;
    x->p.name = "ann";
    x->p.text = "quote \" backslash \\ line\nend \xe6\x97\xa5";
    assert_int_equal(utter_voice_create(x->e, &x->p, &v), UTTER_OK);
    assert_int_equal(utter_voice_save(v, in_tmp("sub/dir/ann.json")), UTTER_OK);
    assert_int_equal(utter_voice_save(v, in_tmp("sub/dir/ann.json")), UTTER_OK); /* replaced */
    assert_int_equal(count_files(in_tmp("sub/dir")), 1);
    assert_int_equal(utter_voice_load(in_tmp("sub/dir/ann.json"), &w), UTTER_OK);
    assert_string_equal(w->text, v->text);
    assert_string_equal(w->name, "ann");
    assert_string_equal(w->family, "fake");
    assert_string_equal(w->codec_id, x->e->codec_id);
    assert_int_equal(w->n_frames, v->n_frames);
    assert_memory_equal(w->codes, v->codes,
                        (size_t)v->n_frames * FAKE_CODEBOOKS * sizeof *v->codes);
    utter_voice_free(w);
    utter_voice_free(v);
}

static void bad_files_are_refused(void **state)
{
    (void)state;
    static const struct {
        const char *text, *part;
    } bad[] = {
        {"", "bad.json"},
        {"[1, 2]", "expected an object"},
        {"{\"codes\":[[1]]}", "text is missing"},
        {"{\"text\":\"\",\"codes\":[[1]]}", "text is empty"},
        {"{\"text\":\"a\"}", "codes is missing"},
        {"{\"text\":\"a\",\"codes\":[]}", "codes has 0 rows"},
        {"{\"text\":\"a\",\"codes\":[[]]}", "codes[0] has 0 codes"},
        {"{\"text\":\"a\",\"codes\":[[1,2],[1]]}", "codes[1] has 1 codes"},
        {"{\"text\":\"a\",\"codes\":[[1,2],3]}", "codes[1]"},
        {"{\"text\":\"a\",\"codes\":[[1,-2]]}", "codes[0][1] is -2"},
        {"{\"text\":\"a\",\"codes\":[[1,65536]]}", "codes[0][1] is 65536"},
        {"{\"text\":\"a\",\"codes\":[[1.5]]}", "codes[0][0]"},
        {"{\"format\":\"other\",\"text\":\"a\",\"codes\":[[1]]}", "format is \"other\""},
        {"{\"version\":2,\"text\":\"a\",\"codes\":[[1]]}", "version is 2"},
        {"{\"text\":\"a\",\"codes\":[[1]]} x", "bad.json"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        utter_voice *v;
        write_text(in_tmp("bad.json"), bad[i].text);
        utter_status st = utter_voice_load(in_tmp("bad.json"), &v);
        assert_null(v);
        if (st != UTTER_ERR_FORMAT || !strstr(utter_last_error(NULL), bad[i].part))
            fail_msg("%s: status %d, '%s': expected '%s'", bad[i].text, st, utter_last_error(NULL),
                     bad[i].part);
    }
    utter_voice *v;
    assert_int_equal(utter_voice_load(in_tmp("missing.json"), &v), UTTER_ERR_NOT_FOUND);
}

static void voices_of_another_codec_are_refused(void **state)
{
    fixture *x = *state;
    static const struct {
        const char *text, *part;
    } bad[] = {
        {"{\"text\":\"a\",\"codes\":[[1],[1],[1]],\"family\":\"f\",\"codec\":\"0123\"}",
         "was made with another codec (f 0123"},
        {"{\"text\":\"a\",\"codes\":[[1],[1]]}", "has 2 codebooks, this model has 3"},
        {"{\"text\":\"a\",\"codes\":[[1,1],[1,16],[1,1]]}",
         "code 1 of codebook 1 is 16, expected 0..15"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        utter_voice *v;
        utter_stream *s;
        utter_audio *a;
        utter_synth_params p;
        utter_synth_params_init(&p);
        write_text(in_tmp("other.json"), bad[i].text);
        assert_int_equal(utter_voice_load(in_tmp("other.json"), &v), UTTER_OK);
        p.voice = v;
        assert_int_equal(utter_stream_open(x->e, &p, &s), UTTER_ERR_MODEL);
        assert_non_null(strstr(utter_last_error(x->e), bad[i].part));
        assert_int_equal(utter_voice_preview(x->e, v, &a), UTTER_ERR_MODEL);
        utter_voice_free(v);
    }
}

/* ---- Stored voices -------------------------------------------------------------------------- */

static void voices_are_found_by_name(void **state)
{
    fixture *x = *state;
    utter_voice *v;
    utter_voice_list *list;
    utter_voice_info i;
    write_text(in_tmp("model/voices/bo.json"), minimal);
    write_text(in_tmp("model/voices/zed.json"), minimal);
    write_text(in_tmp("model/voices/broken.json"), "{");
    write_text(in_tmp("model/voices/not a name.json"), minimal);
    write_text(in_tmp("model/voices/readme.txt"), "no voice");
    x->p.name = "bo";
    assert_int_equal(utter_voice_create(x->e, &x->p, &v), UTTER_OK);
    assert_int_equal(utter_voice_save(v, NULL), UTTER_OK);
    utter_voice_free(v);

    static const struct {
        const char *name;
        int of_user, has_error, n_frames;
    } want[] = {{"bo", 1, 0, 1001}, {"bo", 0, 0, 3}, {"broken", 0, 1, 0}, {"zed", 0, 0, 3}};
    assert_int_equal(utter_voice_list_open(in_tmp("model"), &list), UTTER_OK);
    assert_int_equal(utter_voice_list_count(list), 4);
    for (size_t k = 0; k < 4; k++) {
        utter_voice_info_init(&i);
        assert_int_equal(utter_voice_list_get(list, k, &i), UTTER_OK);
        assert_string_equal(i.name, want[k].name);
        assert_int_equal(i.of_user, want[k].of_user);
        assert_int_equal(i.error[0] != 0, want[k].has_error);
        assert_int_equal(i.n_frames, want[k].n_frames);
    }
    assert_int_equal(utter_voice_list_get(list, 4, &i), UTTER_ERR_ARG);
    utter_voice_list_free(list);

    assert_int_equal(utter_voice_find(x->e, "bo", &v), UTTER_OK);
    assert_int_equal(v->n_frames, 1001); /* the user's comes first */
    utter_voice_free(v);
    assert_int_equal(utter_voice_find(x->e, "zed", &v), UTTER_OK);
    assert_string_equal(v->name, "zed"); /* the file's name, not what is in it */
    utter_voice_free(v);
    assert_int_equal(utter_voice_find(x->e, "none", &v), UTTER_ERR_NOT_FOUND);
    assert_non_null(strstr(utter_last_error(x->e), "there are: bo, bo, broken, zed"));
    assert_int_equal(utter_voice_find(x->e, "broken", &v), UTTER_ERR_FORMAT);
    assert_int_equal(utter_voice_find(x->e, "../bo", &v), UTTER_ERR_ARG);

    assert_int_equal(utter_voice_remove("bo"), UTTER_OK);
    assert_int_equal(utter_voice_remove("bo"), UTTER_ERR_NOT_FOUND); /* the model's stays */
    assert_int_equal(utter_voice_remove("../bo"), UTTER_ERR_ARG);
    assert_int_equal(utter_voice_find(x->e, "bo", &v), UTTER_OK);
    assert_int_equal(v->n_frames, 3);
    utter_voice_free(v);
    assert_int_equal(utter_voice_list_open("no/such/model", &list), UTTER_ERR_NOT_FOUND);
}

static void names_have_rules(void **state)
{
    (void)state;
    static const char good[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ_-0123456789";
    static const char *const bad[] = {"", "a b", "a.b", "a/b", "..", "\xc3\xa9", "a\n"};
    char long_name[66] = {0};
    assert_int_equal(sizeof good - 1, 64);
    assert_true(ut_voice_name_ok(good));
    memset(long_name, 'a', 65);
    assert_false(ut_voice_name_ok(long_name));
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        assert_false(ut_voice_name_ok(bad[i]));
}

/* The default voice is in the prompt of every chunk, unless it is not wanted. */
static void default_voice_speaks(void **state)
{
    (void)state;
    utter_synth_params p;
    utter_audio *a;
    fake f = {0};
    write_text(in_tmp("model/voices/zed.json"), minimal);
    write_text(in_tmp("model/voices/bo.json"), minimal);
    utter_engine *e = fake_engine(&f, in_tmp("model"));
    utter_engine_info i;
    utter_engine_info_init(&i);
    assert_int_equal(utter_engine_get_info(e, &i), UTTER_OK);
    assert_string_equal(i.default_voice, "bo");
    assert_int_equal(utter_synth(e, "First one. Here comes the second.", NULL, &a), UTTER_OK);
    utter_audio_free(a);
    assert_int_equal(f.n_prefills, 2);
    assert_int_equal(f.n_prompt, 1 + 5 + 3 + 1 + 22); /* "Hi é", 3 frames */
    assert_int_equal(f.prompt[6 * FAKE_COLUMNS], FAKE_SPEECH + 1);
    assert_int_equal(f.prompt[8 * FAKE_COLUMNS], FAKE_SPEECH + 63);
    utter_synth_params_init(&p);
    p.no_voice = 1;
    assert_int_equal(utter_synth(e, "First.", &p, &a), UTTER_OK);
    utter_audio_free(a);
    assert_int_equal(f.n_prompt, 1 + 6);
    p.voice = e->voice;
    assert_int_equal(utter_synth(e, "First.", &p, &a), UTTER_ERR_ARG);
    utter_engine_close(e);

    write_text(in_tmp("model/voices/default.json"), minimal);
    e = fake_engine(&f, in_tmp("model"));
    utter_engine_info_init(&i);
    assert_int_equal(utter_engine_get_info(e, &i), UTTER_OK);
    assert_string_equal(i.default_voice, "default");
    utter_engine_close(e);

    write_text(in_tmp("model/voices/default.json"), "{");
    ut_model *m;
    ut_backend *backend;
    ut_err err = {0};
    fake_parts(&f, &m, &backend);
    assert_int_equal(ut_engine_new(m, backend, in_tmp("model"), 1, &e, &err), UTTER_ERR_FORMAT);
    assert_non_null(strstr(err.msg, "default.json"));
    assert_int_equal(f.n_execs + f.n_states, 0);
}

/* ---- The cache of encoded recordings -------------------------------------------------------- */

/* Create a voice with the cache; how many codec runs that took. */
static int runs_to_create(fixture *x, utter_voice **out)
{
    int before = x->f.n_encode_runs;
    x->p.use_cache = 1;
    assert_int_equal(utter_voice_create(x->e, &x->p, out), UTTER_OK);
    return x->f.n_encode_runs - before;
}

static void recordings_are_encoded_once(void **state)
{
    fixture *x = *state;
    utter_voice *first, *again, *other;
    char *cache = ut_user_cache_dir();
    char *folder = ut_path_join(cache, "references");
    assert_true(runs_to_create(x, &first) > 0);
    assert_int_equal(count_files(folder), 1);
    x->p.text = "other words"; /* the text is the caller's, not the cache's */
    assert_int_equal(runs_to_create(x, &again), 0);
    assert_string_equal(again->text, "other words");
    assert_int_equal(again->n_frames, first->n_frames);
    assert_memory_equal(again->codes, first->codes,
                        (size_t)first->n_frames * FAKE_CODEBOOKS * sizeof *first->codes);
    x->pcm[4000] += 1e-6f; /* another sound */
    assert_true(runs_to_create(x, &other) > 0);
    utter_voice_free(other);
    x->p.sample_rate++; /* another speed */
    assert_true(runs_to_create(x, &other) > 0);
    utter_voice_free(other);
    assert_int_equal(count_files(folder), 3);
    x->p.sample_rate--;
    x->pcm[4000] -= 1e-6f;

    /* Whatever is wrong with the entry, the recording is encoded again and the entry is good
     * afterwards. */
    static const char *const damage[] = {
        "", "{", "{\"text\":\"a\",\"codes\":[[1],[1],[1]],\"codec\":\"0123\"}",
        "{\"text\":\"a\",\"codes\":[[1],[1],[1]]}"};
    for (size_t i = 0; i < sizeof damage / sizeof damage[0]; i++) {
        char **names;
        size_t n;
        assert_int_equal(ut_list_dir(folder, &names, &n, NULL), UTTER_OK);
        for (size_t k = 0; k < n; k++) {
            char *path = ut_path_join(folder, names[k]);
            write_text(path, damage[i]);
            ut_free(path);
        }
        ut_list_free(names, n);
        assert_true(runs_to_create(x, &other) > 0);
        assert_memory_equal(other->codes, first->codes,
                            (size_t)first->n_frames * FAKE_CODEBOOKS * sizeof *first->codes);
        utter_voice_free(other);
        assert_int_equal(runs_to_create(x, &other), 0);
        utter_voice_free(other);
    }
    utter_voice_free(first);
    utter_voice_free(again);
    ut_free(folder);
    ut_free(cache);
}

static void cache_is_bounded(void **state)
{
    fixture *x = *state;
    char *cache = ut_user_cache_dir(), *folder = ut_path_join(cache, "references");
    assert_int_equal(ut_mkdirs(folder, NULL), UTTER_OK);
    for (int i = 0; i < UT_VOICE_CACHE_FILES + 20; i++) {
        char path[700];
        snprintf(path, sizeof path, "%s/%064d.json", folder, i);
        write_text(path, "old");
    }
    utter_voice *v;
    runs_to_create(x, &v);
    utter_voice_free(v);
    assert_int_equal(count_files(folder), UT_VOICE_CACHE_FILES);
    assert_int_equal(runs_to_create(x, &v), 0);
    utter_voice_free(v);
    ut_free(folder);
    ut_free(cache);
}

static void out_of_memory_is_survived(void **state)
{
    fixture *x = *state;
    utter_voice *v = NULL, *w = NULL;
    int failures = 0;
    x->p.name = "ann";
    for (uint64_t n = 1; n < 1000 && !v; n++) {
        ut_alloc_fail_at(n);
        utter_status st = utter_voice_create(x->e, &x->p, &v);
        ut_alloc_fail_at(0);
        assert_true(st == UTTER_OK || st == UTTER_ERR_NOMEM);
        failures += st != UTTER_OK;
    }
    assert_true(failures > 10);
    failures = 0;
    utter_status st = UTTER_ERR_NOMEM;
    for (uint64_t n = 1; n < 1000 && st != UTTER_OK; n++) {
        ut_alloc_fail_at(n);
        st = utter_voice_save(v, NULL);
        ut_alloc_fail_at(0);
        failures += st != UTTER_OK;
    }
    assert_true(failures > 5);
    failures = 0;
    for (uint64_t n = 1; n < 1000 && !w; n++) {
        ut_alloc_fail_at(n);
        st = utter_voice_find(x->e, "ann", &w);
        ut_alloc_fail_at(0);
        failures += st != UTTER_OK;
    }
    assert_true(failures > 5);
    assert_int_equal(w->n_frames, v->n_frames);
    utter_voice_free(v);
    utter_voice_free(w);
}

/* FIPS 180-4 examples, and a long message in odd pieces. */
static void sha256_is_right(void **state)
{
    (void)state;
    ut_sha256 h;
    char hex[65];
    ut_sha256_init(&h);
    ut_sha256_hex(&h, hex, 64);
    assert_string_equal(hex, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    ut_sha256_init(&h);
    ut_sha256_update(&h, "abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq", 56);
    ut_sha256_hex(&h, hex, 64);
    assert_string_equal(hex, "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1");
    char million[1000];
    memset(million, 'a', sizeof million);
    ut_sha256_init(&h);
    for (size_t left = 1000000, n = 1; left > 0; left -= n) {
        n = n * 3 % 997 + 1;
        n = n < left ? n : left;
        ut_sha256_update(&h, million, n);
    }
    ut_sha256_hex(&h, hex, 64);
    assert_string_equal(hex, "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
}

int main(void)
{
#ifdef _WIN32
    char home[600];
    snprintf(home, sizeof home, "%s/home", getenv("UT_TEST_TMP"));
    _putenv_s("LOCALAPPDATA", home);
#endif
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(recording_becomes_codes),
        TEST(recordings_that_cannot_be_used_are_refused),
        TEST(model_without_encoder_says_so),
        TEST(preview_is_what_the_codec_gives_back),
        TEST(voice_file_of_a_model_is_read),
        TEST(saved_voice_is_the_same),
        TEST(bad_files_are_refused),
        TEST(voices_of_another_codec_are_refused),
        TEST(voices_are_found_by_name),
        TEST(names_have_rules),
        TEST(default_voice_speaks),
        TEST(recordings_are_encoded_once),
        TEST(cache_is_bounded),
        TEST(out_of_memory_is_survived),
        cmocka_unit_test(sha256_is_right),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
