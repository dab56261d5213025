/* test_weights.c - checkpoints in safetensors files, one or in shards, and what is common to all
 * containers: finding, renaming, conversion to f32. */
#include "weights/weights.h"

#include "base/alloc.h"
#include "base/half.h"
#include "base/os.h"
#include "weights_check.h"
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

/* ---- Making files --------------------------------------------------------------------------- */

/* A safetensors file: header size, header, then bytes 0, 1, 2, ... */
static void build(ut_buf *b, const char *header, size_t n_data)
{
    uint8_t size[8] = {0};
    const size_t n = strlen(header);
    for (int i = 0; i < 8; i++)
        size[i] = (uint8_t)((uint64_t)n >> 8 * i);
    ut_buf_init(b, 1 << 20);
    assert_true(ut_buf_append(b, size, 8) && ut_buf_append(b, header, n));
    for (size_t i = 0; i < n_data; i++) {
        const uint8_t byte = (uint8_t)i;
        assert_true(ut_buf_append(b, &byte, 1));
    }
}

static const char small_header[] =
    "{\"__metadata__\":{\"format\":\"pt\",\"frames\":\"12\"},"
    "\"b\":{\"dtype\":\"BF16\",\"shape\":[2,3],\"data_offsets\":[8,20]},"
    "\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]},"
    "\"none\":{\"dtype\":\"I64\",\"shape\":[0,5],\"data_offsets\":[20,20]},"
    "\"scalar\":{\"dtype\":\"U8\",\"shape\":[],\"data_offsets\":[20,21]}}  ";
enum { SMALL_DATA = 21 };

static char tmp_dir[512];

static char *tmp_path(const char *name)
{
    char *path = ut_path_join(tmp_dir, name);
    assert_non_null(path);
    return path;
}

static void write_tmp(const char *name, const void *data, size_t n)
{
    char *path = tmp_path(name);
    FILE *f = ut_fopen(path, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(data, 1, n, f), n);
    assert_int_equal(fclose(f), 0);
    ut_free(path);
}

static void write_safetensors(const char *name, const char *header, size_t n_data)
{
    ut_buf b;
    build(&b, header, n_data);
    write_tmp(name, b.data, b.len);
    ut_buf_free(&b);
}

static int make_dir(void **state)
{
    (void)state;
    const char *base = getenv("UT_TEST_TMP");
    snprintf(tmp_dir, sizeof tmp_dir, "%s/test_weights", base ? base : ".");
    return ut_mkdirs(tmp_dir, NULL) == UTTER_OK ? 0 : -1;
}

static int drop_dir(void **state)
{
    (void)state;
    char **names;
    size_t n;
    if (ut_list_dir(tmp_dir, &names, &n, NULL) != UTTER_OK)
        return -1;
    for (size_t i = 0; i < n; i++) {
        char *path = tmp_path(names[i]);
        ut_remove(path, NULL);
        ut_free(path);
    }
    ut_list_free(names, n);
    return ut_remove(tmp_dir, NULL) == UTTER_OK ? 0 : -1;
}

/* ---- One file ------------------------------------------------------------------------------- */

static void safetensors_gives_tensors_in_place(void **state)
{
    (void)state;
    ut_buf file;
    build(&file, small_header, SMALL_DATA);
    opened o = open_bytes(file.data, file.len);
    if (!o.w)
        fail_msg("%s", o.err.msg);
    const uint8_t *data = o.copy + 8 + strlen(small_header);
    assert_string_equal(ut_weights_path(o.w), "f");
    assert_int_equal(ut_weights_count(o.w), 4);
    const ut_view *v = ut_weights_at(o.w, 0); /* header order */
    assert_string_equal(v->name, "b");
    assert_int_equal(v->dtype, UT_BF16);
    assert_int_equal(v->n_dims, 2);
    assert_int_equal(v->dim[0], 2);
    assert_int_equal(v->dim[1], 3);
    assert_int_equal(v->n_elements, 6);
    assert_ptr_equal(v->data, data + 8); /* nothing was copied */
    v = ut_weights_find(o.w, "none");
    assert_int_equal(v->n_elements, 0);
    v = ut_weights_find(o.w, "scalar");
    assert_int_equal(v->n_dims, 0);
    assert_int_equal(v->n_elements, 1);
    assert_int_equal(*(const uint8_t *)v->data, 20);
    assert_ptr_equal(ut_weights_find(o.w, "a")->data, data);
    assert_null(ut_weights_find(o.w, "c"));
    assert_null(ut_weights_find(o.w, ""));
    assert_string_equal(ut_weights_metadata(o.w, "frames"), "12");
    assert_null(ut_weights_metadata(o.w, "Frames"));
    close_bytes(&o);
    ut_buf_free(&file);
}

static void every_type_is_known(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        ut_dtype dtype;
        int size;
    } types[] = {{"F32", UT_F32, 4}, {"BF16", UT_BF16, 2}, {"F16", UT_F16, 2},
                 {"F64", UT_F64, 8}, {"I64", UT_I64, 8},   {"I32", UT_I32, 4},
                 {"U8", UT_U8, 1},   {"I8", UT_I8, 1},     {"BOOL", UT_BOOL, 1}};
    for (size_t i = 0; i < sizeof types / sizeof types[0]; i++) {
        char header[128];
        ut_buf file;
        snprintf(header, sizeof header,
                 "{\"x\":{\"dtype\":\"%s\",\"shape\":[3],\"data_offsets\":[0,%d]}}", types[i].name,
                 3 * types[i].size);
        build(&file, header, 3 * (size_t)types[i].size);
        opened o = open_bytes(file.data, file.len);
        assert_non_null(o.w);
        assert_int_equal(ut_weights_at(o.w, 0)->dtype, types[i].dtype);
        close_bytes(&o);
        ut_buf_free(&file);
    }
}

static void wrong_headers_are_refused(void **state)
{
    (void)state;
#define ONE(dtype, shape, offsets)                                                                 \
    "{\"x\":{\"dtype\":\"" dtype "\",\"shape\":" shape ",\"data_offsets\":" offsets "}}"
#define TWO(first, second)                                                                         \
    "{\"x\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":" first                               \
    "},\"y\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":" second "}}"
    static const struct {
        const char *header;
        size_t n_data;
        const char *message;
    } cases[] = {
        {"{", 0, "f: line 1, column 1: not valid JSON"},
        {"{\"x\":3}", 0, "f: x is 3, expected an object"},
        {"{\"x\":{}}", 0, "f: x.dtype is missing, expected a string"},
        {ONE("F8_E4M3", "[4]", "[0,4]"), 4, "f: x.dtype is \"F8_E4M3\", expected F32, BF16"},
        {ONE("F32", "4", "[0,16]"), 16, "f: x.shape is 4, expected an array"},
        {ONE("F32", "[-1]", "[0,0]"), 0, "f: x.shape[0] is -1, expected an integer in 0.."},
        {ONE("F32", "[1.5]", "[0,6]"), 6, "f: x.shape[0] is 1.5, expected an integer"},
        {ONE("U8", "[1,1,1,1,1,1,1,1,1]", "[0,1]"), 1, "f: x.shape has 9 dimensions, expected at"},
        {ONE("F32", "[4294967296,4294967296]", "[0,0]"), 0, "f: x.shape is a shape too large"},
        {ONE("F32", "[4611686018427387904]", "[0,0]"), 0, "f: x.shape is a shape too large"},
        {ONE("F32", "[2]", "[0]"), 8, "f: x.data_offsets[1] is missing"},
        {ONE("F32", "[2]", "[0,8,8]"), 8, "f: x.data_offsets has 3 items, expected 2"},
        {ONE("F32", "[2]", "[8,0]"), 8, "f: x.data_offsets is [8, 0], expected a range within 8"},
        {ONE("F32", "[2]", "[0,9]"), 8, "f: x.data_offsets is [0, 9], expected a range within 8"},
        {ONE("F32", "[2]", "[0,7]"), 8, "spans 7 bytes, expected 8 for f32 [2]"},
        {ONE("F32", "[2]", "[0,8]"), 9, "f: 9 bytes of data, but the tensors cover 8"},
        {TWO("[0,4]", "[3,7]"), 7, "f: tensor \"y\": its data begins at byte 3, inside another"},
        {TWO("[0,4]", "[5,9]"), 9,
         "f: tensor \"y\": its data begins at byte 5, after a gap from 4"},
        {TWO("[0,4]", "[0,4]"), 4, "begins at byte 0, inside another tensor that ends at 4"},
        {"{\"x\":{\"dtype\":\"U8\",\"shape\":[0],\"data_offsets\":[0,0]},"
         "\"x\":{\"dtype\":\"U8\",\"shape\":[0],\"data_offsets\":[0,0]}}",
         0, "duplicate object key"},
        {"{\"\":{\"dtype\":\"U8\",\"shape\":[0],\"data_offsets\":[0,0]}}", 0,
         "f: a tensor's name has 0 bytes"},
        {"{\"a\\nb\":{\"dtype\":\"U8\",\"shape\":[0],\"data_offsets\":[0,0]}}", 0,
         "f: tensor \"a?b\": its name has a control character"},
        {"{\"__metadata__\":{\"n\":3}}", 0, "f: __metadata__.n is 3, expected a string"},
        {"{\"__metadata__\":[]}", 0, "f: __metadata__ is an array, expected an object"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        ut_buf file;
        build(&file, cases[i].header, cases[i].n_data);
        expect_refusal(file.data, file.len, cases[i].message);
        ut_buf_free(&file);
    }
}

static void wrong_containers_are_refused(void **state)
{
    (void)state;
    static const struct {
        const char *data;
        size_t n;
        const char *message;
    } cases[] = {
        {"", 0, "f: the file is empty"},
        {"<html>", 6, "f: neither safetensors nor a torch zip file; it begins with 3c 68 74"},
        {"version https://git-lfs.github.com/spec/v1\n", 43, "f: a Git LFS pointer"},
        {"\x80\x02}.", 4, "f: a bare pickle (torch before 1.6)"},
        {"\xff\xff\xff\xff\xff\xff\xff\xff{}", 10, "header of 18446744073709551615 bytes"},
        {"\x03\0\0\0\0\0\0\0{}", 10, "f: header of 3 bytes, expected at most 2"},
        {"{\"weight_map\":{}}", 17, "f: "}, /* an index of shards has no place in memory */
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        expect_refusal(cases[i].data, cases[i].n, cases[i].message);
}

static void damaged_files_are_refused_or_read(void **state)
{
    (void)state;
    ut_buf file;
    build(&file, small_header, SMALL_DATA);
    corrupt_everything(file.data, file.len, 0, file.len - SMALL_DATA);
    fail_every_allocation(file.data, file.len);
    ut_buf_free(&file);
}

/* ---- Shards and other spellings of a path --------------------------------------------------- */

static const char shard_1[] = "{\"a\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[0,2]},"
                              "\"extra\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[2,3]}}";
static const char shard_2[] = "{\"b\":{\"dtype\":\"U8\",\"shape\":[3],\"data_offsets\":[0,3]}}";

static utter_status open_index(ut_weights **w, const char *index, ut_err *err)
{
    char *path = tmp_path("m.safetensors.index.json");
    write_tmp("m.safetensors.index.json", index, strlen(index));
    const utter_status st = ut_weights_open(w, path, err);
    ut_free(path);
    return st;
}

static void shards_are_read_through_their_index(void **state)
{
    (void)state;
    ut_weights *w = NULL;
    ut_err err = {0};
    write_safetensors("m-1.safetensors", shard_1, 3);
    write_safetensors("m-2.safetensors", shard_2, 3);
    assert_int_equal(open_index(&w,
                                "{\"metadata\":{\"total_size\":5},\"weight_map\":"
                                "{\"a\":\"m-1.safetensors\",\"b\":\"m-2.safetensors\"}}",
                                &err),
                     UTTER_OK);
    assert_int_equal(ut_weights_count(w), 2); /* not the one that the index leaves out */
    assert_int_equal(ut_weights_find(w, "a")->n_elements, 2);
    assert_int_equal(((const uint8_t *)ut_weights_find(w, "b")->data)[2], 2);
    ut_weights_release_pages(w);
    assert_int_equal(((const uint8_t *)ut_weights_find(w, "b")->data)[2], 2);
    ut_weights_close(w);

    static const struct {
        const char *index, *message;
    } cases[] = {
        {"{}", "weight_map is missing, expected an object"},
        {"{\"weight_map\":{\"a\":1}}", "weight_map.a is 1, expected a string"},
        {"{\"weight_map\":{\"a\":\"m-3.safetensors\"}}", "m-3.safetensors"},
        {"{\"weight_map\":{\"a\":\"m-1.safetensors\",\"c\":\"m-2.safetensors\"}}",
         "the index lists 2 tensors, but its shards hold 1 of them"},
        {"{\"weight_map\":{\"a\":\"m-2.safetensors\"}}", "but its shards hold 0 of them"},
        {"{\"weight_map\":{\"a\":\"../m-1.safetensors\"}}",
         "shard \"../m-1.safetensors\": expected the name of a file beside the index"},
        {"{\"weight_map\":{\"a\":\"..\\\\x\"}}", "expected the name of a file beside"},
        {"{\"weight_map\":{\"a\":\"\"}}", "expected the name of a file beside"},
        {"{\"weight_map\":{\"a\":\"..\"}}", "expected the name of a file beside"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        ut_err_clear(&err);
        assert_int_not_equal(open_index(&w, cases[i].index, &err), UTTER_OK);
        assert_null(w);
        if (!strstr(err.msg, cases[i].message) || !strstr(err.msg, tmp_dir))
            fail_msg("\"%s\" gave \"%s\"", cases[i].index, err.msg);
    }
}

static void a_missing_path_has_other_spellings(void **state)
{
    (void)state;
    ut_weights *w = NULL;
    ut_err err = {0};
    char *pth = tmp_path("x.pth"), *st = tmp_path("x.safetensors"),
         *index = tmp_path("x.safetensors.index.json"), *other = tmp_path("x.bin");

    assert_int_equal(ut_weights_open(&w, pth, &err), UTTER_ERR_NOT_FOUND);
    assert_non_null(strstr(err.msg, "x.pth: no such file, nor with the ending"));
    ut_err_clear(&err);
    assert_int_equal(ut_weights_open(&w, other, &err), UTTER_ERR_NOT_FOUND);
    assert_non_null(strstr(err.msg, "x.bin"));
    ut_err_clear(&err);

    const char *text = "{\"weight_map\":{\"b\":\"x-1.safetensors\"}}";
    write_tmp("x.safetensors.index.json", text, strlen(text));
    write_safetensors("x-1.safetensors", shard_2, 3);
    assert_int_equal(ut_weights_open(&w, pth, &err), UTTER_OK);
    assert_string_equal(ut_weights_path(w), index);
    ut_weights_close(w);
    assert_int_equal(ut_weights_open(&w, st, &err), UTTER_OK);
    assert_string_equal(ut_weights_path(w), index);
    ut_weights_close(w);

    write_safetensors("x.safetensors", shard_1, 3);
    assert_int_equal(ut_weights_open(&w, pth, &err), UTTER_OK);
    assert_string_equal(ut_weights_path(w), st);
    ut_weights_close(w);

    write_safetensors("x.pth", shard_2, 3); /* content decides, not the name */
    assert_int_equal(ut_weights_open(&w, pth, &err), UTTER_OK);
    assert_string_equal(ut_weights_path(w), pth);
    assert_non_null(ut_weights_find(w, "b"));
    ut_weights_close(w);
    ut_free(pth);
    ut_free(st);
    ut_free(index);
    ut_free(other);
}

/* ---- Finding, renaming ---------------------------------------------------------------------- */

static void get_checks_shape_and_type(void **state)
{
    (void)state;
    ut_buf file;
    build(&file, small_header, SMALL_DATA);
    opened o = open_bytes(file.data, file.len);
    const ut_view *v = NULL;
    ut_err err = {0};
    assert_int_equal(ut_weights_get(o.w, "b", 2, (int64_t[]){2, 3}, &v, &err), UTTER_OK);
    assert_ptr_equal(v, ut_weights_find(o.w, "b"));
    assert_int_equal(ut_weights_get(o.w, "b", 2, (int64_t[]){-1, 3}, &v, &err), UTTER_OK);
    assert_int_equal(ut_weights_get(o.w, "a", -1, NULL, &v, &err), UTTER_OK);
    static const struct {
        const char *name;
        int n_dims;
        int64_t dim[2];
        const char *message;
    } cases[] = {
        {"z", 1, {1}, "f: there is no tensor \"z\""},
        {"b", 2, {2, 4}, "f: tensor \"b\" has shape [2, 3], expected [2, 4]"},
        {"b", 2, {-1, 4}, "f: tensor \"b\" has shape [2, 3], expected [any, 4]"},
        {"b", 1, {6}, "f: tensor \"b\" has shape [2, 3], expected [6]"},
        {"b", 0, {0}, "f: tensor \"b\" has shape [2, 3], expected []"},
        {"none", 2, {-1, 5}, "f: tensor \"none\" has shape [0, 5], expected [any, 5]"},
        {"scalar", 0, {0}, "f: tensor \"scalar\" has type u8, expected f32, bf16 or f16"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        ut_err_clear(&err);
        assert_int_equal(
            ut_weights_get(o.w, cases[i].name, cases[i].n_dims, cases[i].dim, &v, &err),
            UTTER_ERR_MODEL);
        assert_null(v);
        assert_string_equal(err.msg, cases[i].message);
    }
    close_bytes(&o);
    ut_buf_free(&file);
}

static bool strip_prefix(const char *old_name, char *new_name, size_t size, void *user)
{
    const char *prefix = user;
    if (strncmp(old_name, prefix, strlen(prefix)) != 0)
        return false;
    snprintf(new_name, size, "%s", old_name + strlen(prefix));
    return true;
}

static bool all_the_same(const char *old_name, char *new_name, size_t size, void *user)
{
    (void)old_name;
    snprintf(new_name, size, "%s", (const char *)user);
    return true;
}

static void rename_drops_and_replaces(void **state)
{
    (void)state;
    static const char header[] =
        "{\"m.x\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]},"
        "\"audio.x\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[1,2]},"
        "\"m.a\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[2,3]}}";
    ut_buf file;
    ut_err err = {0};
    build(&file, header, 3);
    opened o = open_bytes(file.data, file.len);
    const ut_view *before = ut_weights_find(o.w, "m.a");

    char message[] = "f: two tensors are called \"y\"", y[] = "y", empty[] = "", prefix[] = "m.";
    assert_int_equal(ut_weights_rename(o.w, all_the_same, y, &err), UTTER_ERR_FORMAT);
    assert_string_equal(err.msg, message);
    ut_err_clear(&err);
    assert_int_equal(ut_weights_rename(o.w, all_the_same, empty, &err), UTTER_ERR_FORMAT);
    ut_err_clear(&err);
    assert_int_equal(ut_weights_count(o.w), 3); /* a failure changes nothing */
    assert_ptr_equal(ut_weights_find(o.w, "m.a"), before);

    for (uint64_t n = 1;; n++) {
        assert_true(n < 20);
        ut_alloc_fail_at(n);
        const utter_status st = ut_weights_rename(o.w, strip_prefix, prefix, &err);
        ut_alloc_fail_at(0);
        if (st == UTTER_OK)
            break;
        assert_int_equal(st, UTTER_ERR_NOMEM);
        ut_err_clear(&err);
        assert_ptr_equal(ut_weights_find(o.w, "m.a"), before);
    }
    assert_int_equal(ut_weights_count(o.w), 2);
    assert_string_equal(ut_weights_at(o.w, 0)->name, "x");
    assert_string_equal(ut_weights_at(o.w, 1)->name, "a");
    assert_null(ut_weights_find(o.w, "m.a"));
    assert_null(ut_weights_find(o.w, "audio.x"));
    assert_ptr_equal(ut_weights_find(o.w, "a")->data, before->data);
    assert_string_equal(before->name, "m.a");
    close_bytes(&o);
    ut_buf_free(&file);
}

/* ---- Conversion ----------------------------------------------------------------------------- */

static void halves_convert_exactly(void **state)
{
    (void)state;
    enum { N = 65536 };
    uint8_t *raw = malloc(2 * N + 1); /* element i is the bit pattern i, at an odd address */
    float *out = malloc(N * sizeof *out);
    for (int i = 0; i < N; i++)
        memcpy(raw + 1 + 2 * i, &(uint16_t){(uint16_t)i}, 2);
    for (int k = 0; k < 2; k++) {
        const ut_view v = {.data = raw + 1,
                           .dtype = k ? UT_F16 : UT_BF16,
                           .n_dims = 1,
                           .dim = {N},
                           .n_elements = N};
        ut_view_to_f32(&v, 0, N, out);
        for (int i = 0; i < N; i++) {
            const float want = k ? ut_f16_to_f32((uint16_t)i) : ut_bf16_to_f32((uint16_t)i);
            if (isnan(want))
                assert_true(isnan(out[i]));
            else
                assert_memory_equal(&out[i], &want, sizeof want);
        }
    }
    free(out);
    free(raw);
}

static void ranges_and_other_types_convert(void **state)
{
    (void)state;
    static const double f64[] = {1.5, -1e300, 0.1};
    static const int64_t i64[] = {-5, 1 << 24, 7};
    static const int32_t i32[] = {-5, 6, 7};
    static const float f32[] = {1.5f, -2.25f, 3.0f};
    static const int8_t i8[] = {-128, 127, 3};
    static const uint8_t u8[] = {0, 255, 1};
    static const struct {
        ut_dtype dtype;
        const void *data;
        float want[3];
    } cases[] = {
        {UT_F64, f64, {1.5f, -INFINITY, 0.1f}},
        {UT_I64, i64, {-5, 1 << 24, 7}},
        {UT_I32, i32, {-5, 6, 7}},
        {UT_F32, f32, {1.5f, -2.25f, 3}},
        {UT_I8, i8, {-128, 127, 3}},
        {UT_U8, u8, {0, 255, 1}},
        {UT_BOOL, u8, {0, 255, 1}},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const ut_view v = {.data = cases[i].data, .dtype = cases[i].dtype, .n_elements = 3};
        float out[4] = {9, 9, 9, 9};
        ut_view_to_f32(&v, 0, 3, out);
        assert_memory_equal(out, cases[i].want, sizeof cases[i].want);
        assert_true(out[3] == 9);
        ut_view_to_f32(&v, 1, 1, out);
        assert_true(out[0] == cases[i].want[1] && out[1] == cases[i].want[1]);
        ut_view_to_f32(&v, 3, 0, out);
        assert_true(out[0] == cases[i].want[1]);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(safetensors_gives_tensors_in_place),
        cmocka_unit_test(every_type_is_known),
        cmocka_unit_test(wrong_headers_are_refused),
        cmocka_unit_test(wrong_containers_are_refused),
        cmocka_unit_test(damaged_files_are_refused_or_read),
        cmocka_unit_test_setup_teardown(shards_are_read_through_their_index, make_dir, drop_dir),
        cmocka_unit_test_setup_teardown(a_missing_path_has_other_spellings, make_dir, drop_dir),
        cmocka_unit_test(get_checks_shape_and_type),
        cmocka_unit_test(rename_drops_and_replaces),
        cmocka_unit_test(halves_convert_exactly),
        cmocka_unit_test(ranges_and_other_types_convert),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
