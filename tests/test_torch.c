/* test_torch.c - torch checkpoints: files that torch wrote (tests/data/weights), files that our
 * tools write, archives and pickles made byte by byte. */
#include "weights/weights.h"

#include "../tools/pth_writer.h"
#include "base/alloc.h"
#include "base/half.h"
#include "base/os.h"
#include "weights_check.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

/* ---- Files of torch ------------------------------------------------------------------------- */

#define DATA "tests/data/weights/"

static uint8_t *read_file(const char *path, size_t *n)
{
    ut_err err = {0};
    uint8_t *data = NULL;
    if (ut_read_file(path, 1 << 20, &data, n, &err) != UTTER_OK)
        fail_msg("%s", err.msg);
    return data;
}

static ut_weights *open_file(const char *path)
{
    ut_err err = {0};
    ut_weights *w = NULL;
    if (ut_weights_open(&w, path, &err) != UTTER_OK)
        fail_msg("%s", err.msg);
    return w;
}

/* Tensor `name` has these dimensions (ended by -1) and these values, row-major. */
static void expect_values(const ut_weights *w, const char *name, ut_dtype dtype, const int64_t *dim,
                          const float *values)
{
    float found[16];
    const ut_view *v = ut_weights_find(w, name);
    if (!v)
        fail_msg("no tensor %s", name);
    assert_int_equal(v->dtype, dtype);
    int n_dims = 0;
    while (dim[n_dims] >= 0)
        n_dims++;
    assert_int_equal(v->n_dims, n_dims);
    for (int i = 0; i < n_dims; i++)
        assert_int_equal(v->dim[i], dim[i]);
    assert_true(v->n_elements <= 16);
    ut_view_to_f32(v, 0, v->n_elements, found);
    for (int64_t i = 0; i < v->n_elements; i++)
        assert_true(found[i] == values[i]);
}

static const float counting[12] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11};
#define DIMS(...)   ((const int64_t[]){__VA_ARGS__, -1})
#define VALUES(...) ((const float[]){__VA_ARGS__})

static void torch_dict_with_every_type_and_stride(void **state)
{
    (void)state;
    ut_weights *w = open_file(DATA "plain.pth");
    assert_int_equal(ut_weights_count(w), 16);
    assert_string_equal(ut_weights_at(w, 0)->name, "f32");
    assert_string_equal(ut_weights_at(w, 15)->name, "parameter");
    expect_values(w, "f32", UT_F32, DIMS(3, 4), counting);
    expect_values(w, "bf16", UT_BF16, DIMS(3), VALUES(1, -2.5f, 3.140625f));
    expect_values(w, "f16", UT_F16, DIMS(2), VALUES(0.5f, -65504));
    expect_values(w, "i64", UT_I64, DIMS(2), VALUES(-1099511627776.0f, 7));
    expect_values(w, "i32", UT_I32, DIMS(2, 1), VALUES(-5, 6));
    expect_values(w, "i8", UT_I8, DIMS(2), VALUES(-128, 127));
    expect_values(w, "u8", UT_U8, DIMS(2), VALUES(0, 255));
    expect_values(w, "bool", UT_BOOL, DIMS(3), VALUES(1, 0, 1));
    expect_values(w, "scalar", UT_F32, (const int64_t[]){-1}, VALUES(42));
    expect_values(w, "empty", UT_F32, DIMS(0, 4), counting);
    expect_values(w, "transposed", UT_F32, DIMS(4, 3),
                  VALUES(0, 4, 8, 1, 5, 9, 2, 6, 10, 3, 7, 11));
    expect_values(w, "row", UT_F32, DIMS(4), VALUES(4, 5, 6, 7));
    expect_values(w, "column", UT_F32, DIMS(3), VALUES(2, 6, 10));
    expect_values(w, "expanded", UT_F32, DIMS(3, 2), VALUES(0, 1, 0, 1, 0, 1));
    expect_values(w, "parameter", UT_F32, DIMS(1), VALUES(9));
    double f64;
    memcpy(&f64, ut_weights_find(w, "f64")->data, sizeof f64);
    assert_true(f64 == 1e300);
    /* A row of a shared storage stays where it is; only odd strides are copied. */
    const char *base = ut_weights_find(w, "f32")->data;
    assert_ptr_equal(ut_weights_find(w, "row")->data, base + 16);
    assert_ptr_not_equal(ut_weights_find(w, "transposed")->data, base);
    ut_weights_close(w);
}

static void torch_state_dicts(void **state)
{
    (void)state;
    const struct {
        const char *path;
        size_t n_tensors;
        const char *name;
        int64_t dim[3];
        const float *values;
    } cases[] = {
        {DATA "ordered.pth", 4, "0.weight", {1, 2, -1}, (const float[]){0.25f, 0.25f}},
        {DATA "ordered.pth", 4, "1.bias", {1, -1}, (const float[]){0.25f}}, /* _metadata */
        {DATA "nested.pth", 1, "inside", {3, 4, -1}, counting}, /* only inside state_dict */
        {DATA "protocol4.pth", 2, "a", {3, 4, -1}, counting},   /* FRAME, MEMOIZE, STACK_GLOBAL */
        {DATA "protocol4.pth", 2, "b", {4, -1}, counting + 8},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        ut_weights *w = open_file(cases[i].path);
        assert_int_equal(ut_weights_count(w), cases[i].n_tensors);
        expect_values(w, cases[i].name, UT_F32, cases[i].dim, cases[i].values);
        ut_weights_close(w);
    }
}

static void torch_files_that_are_refused(void **state)
{
    (void)state;
    static const char *const cases[][2] = {
        {DATA "legacy.pth", "f: a bare pickle (torch before 1.6)"},
        {DATA "compressed.pth", "f: zip entry \"ordered/data.pkl\" is compressed (method 8)"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        size_t n;
        uint8_t *data = read_file(cases[i][0], &n);
        expect_refusal(data, n, cases[i][1]);
        ut_free(data);
    }
}

static void damaged_files_are_refused_or_read(void **state)
{
    (void)state;
    size_t n;
    static const char *const paths[] = {DATA "plain.pth", DATA "protocol4.pth", DATA "nested.pth"};
    for (size_t i = 0; i < 3; i++) {
        uint8_t *data = read_file(paths[i], &n);
        corrupt_everything(data, n, 0, n);
        fail_every_allocation(data, n);
        ut_free(data);
    }
}

/* ---- Archives made here --------------------------------------------------------------------- */

typedef struct zip {
    ut_buf file, directory;
    int n_entries;
    bool zip64; /* sizes and offsets in extra fields, zip64 end records */
} zip;

static void put(ut_buf *b, uint64_t v, int n)
{
    for (int i = 0; i < n; i++) {
        const uint8_t byte = i < 8 ? (uint8_t)(v >> 8 * i) : 0;
        assert_true(ut_buf_append(b, &byte, 1));
    }
}

static void zip_init(zip *z)
{
    *z = (zip){0};
    ut_buf_init(&z->file, 1 << 16);
    ut_buf_init(&z->directory, 1 << 16);
}

static void zip_add(zip *z, const char *name, const void *data, size_t n)
{
    const size_t n_name = strlen(name), at = z->file.len;
    put(&z->file, 0x04034b50, 4);
    put(&z->file, 0, 22); /* what the central directory says too */
    put(&z->file, n_name, 2);
    put(&z->file, 0, 2);
    assert_true(ut_buf_puts(&z->file, name) && ut_buf_append(&z->file, data, n));
    put(&z->file, 0x08074b50, 4); /* data descriptor; the reader skips what lies between */
    put(&z->file, 0, 12);
    put(&z->directory, 0x02014b50, 4);
    put(&z->directory, 0, 4);
    put(&z->directory, 8, 2); /* flags: data descriptor */
    put(&z->directory, 0, 10);
    put(&z->directory, z->zip64 ? UINT32_MAX : n, 4);
    put(&z->directory, z->zip64 ? UINT32_MAX : n, 4);
    put(&z->directory, n_name, 2);
    put(&z->directory, z->zip64 ? 6 + 4 + 24 : 0, 2);
    put(&z->directory, 0, 10);
    put(&z->directory, z->zip64 ? UINT32_MAX : at, 4);
    assert_true(ut_buf_puts(&z->directory, name));
    if (z->zip64) {
        put(&z->directory, 0x7777, 2); /* a field to be skipped */
        put(&z->directory, 2, 2);
        put(&z->directory, 0, 2);
        put(&z->directory, 1, 2);
        put(&z->directory, 24, 2);
        put(&z->directory, n, 8);
        put(&z->directory, n, 8);
        put(&z->directory, at, 8);
    }
    z->n_entries++;
}

static void zip_finish(zip *z, const char *comment)
{
    ut_buf *f = &z->file;
    const size_t at = f->len, n = z->directory.len;
    assert_true(ut_buf_append(f, z->directory.data, n));
    if (z->zip64) {
        put(f, 0x06064b50, 4);
        put(f, 44, 8);
        put(f, 0, 12);
        put(f, (uint64_t)z->n_entries, 8);
        put(f, (uint64_t)z->n_entries, 8);
        put(f, n, 8);
        put(f, at, 8);
        put(f, 0x07064b50, 4);
        put(f, 0, 4);
        put(f, at + n, 8);
        put(f, 1, 4);
    }
    put(f, 0x06054b50, 4);
    put(f, 0, 4);
    put(f, z->zip64 ? UINT16_MAX : (uint64_t)z->n_entries, 2);
    put(f, z->zip64 ? UINT16_MAX : (uint64_t)z->n_entries, 2);
    put(f, z->zip64 ? UINT32_MAX : n, 4);
    put(f, z->zip64 ? UINT32_MAX : at, 4);
    put(f, strlen(comment), 2);
    assert_true(ut_buf_puts(f, comment));
}

static void zip_free(zip *z)
{
    ut_buf_free(&z->file);
    ut_buf_free(&z->directory);
}

/* Pieces of pickles. A storage of n floats called `key`: */
#define STORAGE(key, n)                                                                            \
    "(X\x07\0\0\0storagectorch\nFloatStorage\nX\x01\0\0\0" key "X\x03\0\0\0cpuK" n "tQ"
#define TENSOR(name, key, n, offset, size, stride)                                                 \
    "X\x01\0\0\0" name "ctorch._utils\n_rebuild_tensor_v2\n(" STORAGE(key, n) offset size stride   \
        "\x89"                                                                                     \
        "ccollections\nOrderedDict\n)RtR"
#define DICT(items)   "\x80\x02}(" items "u."
#define PICKLE(bytes) bytes, sizeof(bytes) - 1
/* A tensor "a" of the storage "0" of two floats; all of it; and nothing else. */
#define FLOATS(offset, size, stride) TENSOR("a", "0", "\x02", offset, size, stride)
#define WHOLE                        FLOATS("K\0", "K\x02\x85", "K\x01\x85")
#define SIMPLE                       DICT(WHOLE)

static const float two[2] = {1.5f, -2.0f};

static void archives_of_every_kind(void **state)
{
    (void)state;
    static const struct {
        const char *top;
        bool zip64;
        const char *comment;
    } cases[] = {{"archive/", false, ""},
                 {"archive/", true, ""},
                 {"a b \xc3\xa9/", false, "a comment, PK\x05\x06"},
                 {"", true, "x"}};
    for (size_t i = 0; i < 4; i++) {
        zip z;
        char name[64];
        zip_init(&z);
        z.zip64 = cases[i].zip64;
        zip_add(&z, "archive/directory/", "", 0);
        zip_add(&z, "archive/code/data.pkl", "", 0); /* not at the top: something else */
        snprintf(name, sizeof name, "%sdata/0", cases[i].top);
        zip_add(&z, name, two, sizeof two);
        snprintf(name, sizeof name, "%sdata.pkl", cases[i].top);
        zip_add(&z, name, SIMPLE, sizeof SIMPLE - 1);
        snprintf(name, sizeof name, "%sbyteorder", cases[i].top);
        zip_add(&z, name, "little", 6);
        zip_finish(&z, cases[i].comment);
        opened o = open_bytes(z.file.data, z.file.len);
        if (!o.w)
            fail_msg("case %zu: %s", i, o.err.msg);
        expect_values(o.w, "a", UT_F32, DIMS(2), two);
        assert_true((const uint8_t *)ut_weights_find(o.w, "a")->data > o.copy);
        assert_true((const uint8_t *)ut_weights_find(o.w, "a")->data < o.copy + z.file.len);
        close_bytes(&o);
        corrupt_everything(z.file.data, z.file.len, 0, z.file.len);
        zip_free(&z);
    }
}

static void archives_that_are_refused(void **state)
{
    (void)state;
    static const struct {
        struct {
            const char *name, *data;
            size_t n;
        } entry[2];
        const char *message;
    } cases[] = {
        {{{"x/data/0", (const char *)two, sizeof two}}, "f: a zip archive without data.pkl"},
        {{{"x/data.pkl", PICKLE(SIMPLE)}, {"y/data.pkl", PICKLE(SIMPLE)}},
         "f: more than one data.pkl"},
        {{{"x/data.pkl", PICKLE(SIMPLE)}, {"x/data.pkl", PICKLE(SIMPLE)}},
         "f: two zip entries are called \"x/data.pkl\""},
        {{{"x/data.pkl", PICKLE(SIMPLE)}, {"x/byteorder", PICKLE("big")}},
         "f: byteorder is \"big\", expected \"little\""},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        zip z;
        zip_init(&z);
        for (int k = 0; k < 2 && cases[i].entry[k].name; k++)
            zip_add(&z, cases[i].entry[k].name, cases[i].entry[k].data, cases[i].entry[k].n);
        zip_finish(&z, "");
        expect_refusal(z.file.data, z.file.len, cases[i].message);
        zip_free(&z);
    }
    static const char cut[] = "PK\3\4 and then nothing that ends an archive";
    expect_refusal(cut, sizeof cut, "f: damaged or cut short zip archive: no end of central");
}

static void archive_fields_that_are_refused(void **state)
{
    (void)state;
    static const struct {
        size_t at; /* in the first record of the central directory, or from the end if >= 1000 */
        uint8_t value;
        const char *message;
    } cases[] = {
        {0, 'Q', "a record of the central directory is missing"},
        {8, 9, "f: zip entry \"x/data.pkl\" is encrypted"},
        {10, 8, "f: zip entry \"x/data.pkl\" is compressed (method 8), expected stored"},
        {20, 1, "f: zip entry \"x/data.pkl\": stored in "},
        {28, 200, "a record of the central directory is cut off"},
        {42, 4, "f: zip entry \"x/data.pkl\": no local header at byte 4"},
        {46, 'y', "f: zip entry \"y/data.pkl\": its local header has another name"},
        {1000 + 18, 1, "f: damaged or cut short zip archive: it is one of several parts"},
        {1000 + 12, 9, "more entries than the central directory can hold"},
        {1000 + 6, 255, "f: damaged or cut short zip archive: the central directory lies outside"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        zip z;
        zip_init(&z);
        zip_add(&z, "x/data.pkl", SIMPLE, sizeof SIMPLE - 1);
        const size_t directory = z.file.len;
        zip_finish(&z, "");
        const size_t at =
            cases[i].at >= 1000 ? z.file.len - (cases[i].at - 1000) : directory + cases[i].at;
        z.file.data[at] = cases[i].value;
        expect_refusal(z.file.data, z.file.len, cases[i].message);
        zip_free(&z);
    }
}

/* ---- Pickles made here ---------------------------------------------------------------------- */

/* Open an archive of this pickle and a storage "0" of two floats. */
static opened open_pickle(const void *pickle, size_t n)
{
    zip z;
    zip_init(&z);
    zip_add(&z, "x/data.pkl", pickle, n);
    zip_add(&z, "x/data/0", two, sizeof two);
    zip_finish(&z, "");
    opened o = open_bytes(z.file.data, z.file.len);
    zip_free(&z);
    return o;
}

static void pickles_with_odd_opcodes_are_read(void **state)
{
    (void)state;
    static const struct {
        const char *pickle;
        size_t n;
    } cases[] = {
        {PICKLE(SIMPLE)},
        /* BININT2, LONG1, LONG4 as numbers; NONE and DUP, POP, POP_MARK on the way */
        {PICKLE("\x80\x02}N2002N00(NN1(" FLOATS("\x8a\x00", "\x8a\x01\x02\x85",
                                                "\x8b\x01\0\0\0\x01\x85") "u.")},
        {PICKLE(DICT(FLOATS("M\0\0", "(M\x02\0t", "(J\x01\0\0\0t")))},
        /* metadata: list, set, bytes, float, a long integer, an object with state */
        {PICKLE("\x80\x05}(X\x01\0\0\0l](K\x01K\x02"
                "eK\x03"
                "aX\x01\0\0\0s\x8f(K\x01\x90"
                "X\x01\0\0\0bC\x02xyX\x01\0\0\0"
                "fG\x3f\xf0\0\0\0\0\0\0"
                "X\x01\0\0\0i\x8a\x09\0\0\0\0\0\0\0\0\x01"
                "X\x01\0\0\0ncargparse\nNamespace\n)\x81}X\x01\0\0\0kK\x01sb" WHOLE "u.")},
        /* a dict below state_dict; what lies beside it is not looked at */
        {PICKLE("\x80\x02}(X\x01\0\0\0z" STORAGE("?", "\x09") "X\x0a\0\0\0state_dict}(" WHOLE
                                                              "uu.")},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        opened o = open_pickle(cases[i].pickle, cases[i].n);
        if (!o.w)
            fail_msg("case %zu: %s", i, o.err.msg);
        assert_int_equal(ut_weights_count(o.w), 1);
        expect_values(o.w, "a", UT_F32, DIMS(2), two);
        close_bytes(&o);
    }
}

static void pickles_that_are_refused(void **state)
{
    (void)state;
#define AT "f: data.pkl byte "
    static const struct {
        const char *pickle;
        size_t n;
        const char *message;
    } cases[] = {
        /* Running something. */
        {PICKLE("\x80\x02"
                "cos\nsystem\nX\x02\0\0\0ls\x85R."),
         AT "2: it uses os.system, which is not part of a dict of tensors"},
        {PICKLE("\x80\x04\x8c\x08"
                "builtins\x8c\x04"
                "eval\x93."),
         AT "18: it uses builtins.eval"},
        {PICKLE("\x80\x02"
                "ctorch\nFloatStorage\n)R."),
         AT "23: torch.FloatStorage is called, expected only to be named"},
        {PICKLE("\x80\x02K\x05)R."), AT "5: what is called is an integer, expected a class or"},
        {PICKLE("(S'x'\nios\nsystem\n."), AT "1: opcode 0x53 is not part of a dict of tensors"},
        {PICKLE("\x80\x02\x82\x01."), AT "2: opcode 0x82"}, /* EXT1 */
        {PICKLE("ccollections\nOrderedDict\n]\x85R."),
         AT "27: OrderedDict is made from 1 arguments"},
        /* Cut off, or not a dict. */
        {PICKLE(""), AT "0: it ends without STOP"},
        {PICKLE("\x80\x02}"), AT "3: it ends without STOP"},
        {PICKLE("\x80"), AT "0: 1 bytes of operand, but only 0 are left"},
        {PICKLE("\x80\x06."), AT "0: protocol 6, expected 2 to 5"},
        {PICKLE("\x80\x02X\xff\xff\xff\xff"
                "abc"),
         AT "2: 4294967295 bytes of operand, but only 3"},
        {PICKLE("\x8d\xff\xff\xff\xff\xff\xff\xff\xff"),
         AT "0: 18446744073709551615 bytes of operand"},
        {PICKLE("ccollections\nOrderedDict"), AT "0: the name of a global has no end"},
        {PICKLE("\x80\x02K\x01."), AT "4: the checkpoint is an integer, expected a dict"},
        /* Stack, marks, memo. */
        {PICKLE("."), AT "0: opcode 0x2e finds fewer than 1 values on the stack"},
        {PICKLE("(."), AT "1: opcode 0x2e finds fewer than 1 values"},
        {PICKLE("N\x87."), AT "1: opcode 0x87 finds fewer than 3 values"},
        {PICKLE("t."), AT "0: opcode 0x74 finds no mark on the stack"},
        {PICKLE("}(Nu."), AT "3: 1 keys and values, expected pairs"},
        {PICKLE("K\x01(NNu."), AT "5: what items are set in is an integer, expected a dict"},
        {PICKLE("}(NNs."), AT "4: opcode 0x73 finds fewer than 1 values"},
        {PICKLE("}Na."), AT "2: what items are appended to is a dict, expected a list"},
        {PICKLE("h\x07."), AT "0: memo entry 7 was never set"},
        {PICKLE("Nr\xff\xff\xff\x7f."), AT "1: memo entry 2147483647 is out of sequence"},
        {PICKLE("K\x01Nb."), AT "3: what gets a state is an integer, expected an object"},
        /* Storages and tensors. */
        {PICKLE("NQ."), AT "1: a persistent id is another object, expected a tuple"},
        {PICKLE(")Q."), AT "1: a persistent id of 0 parts, expected the 5 of a storage"},
        {PICKLE("(X\x07\0\0\0storageccollections\nOrderedDict\nX\0\0\0\0X\0\0\0\0K\1tQ."),
         "the class of a storage is collections.OrderedDict, expected torch.FloatStorage"},
        {PICKLE("(X\x07\0\0\0storageNNNNtQ."), "the class of a storage is another object"},
        {PICKLE("ctorch._utils\n_rebuild_tensor_v2\n)R."),
         "a tensor of 0 parts, expected 4 or more"},
        {PICKLE("ctorch._utils\n_rebuild_tensor_v2\n(NNNNtR."),
         "a tensor's storage is another object"},
        {PICKLE("ctorch._utils\n_rebuild_parameter\n)R."), "a parameter without data"},
        {PICKLE("ctorch._utils\n_rebuild_parameter\nN\x85R."),
         "a parameter's data is another object"},
        {PICKLE(DICT(FLOATS("K\0", "K\x02K\x01\x86", "K\x01\x85"))),
         "a tensor of 2 dimensions with 1 strides, expected as many and at most 8"},
        {PICKLE(
             DICT(FLOATS("K\0", "(K\1K\1K\1K\1K\1K\1K\1K\1K\1t", "(K\1K\1K\1K\1K\1K\1K\1K\1K\1t"))),
         "a tensor of 9 dimensions with 9 strides"},
        {PICKLE(DICT(FLOATS("K\0", "N\x85", "K\x01\x85"))),
         "an extent of a tensor is another object, expected an integer"},
        {PICKLE(DICT(TENSOR("a", "7", "\x02", "K\0", "K\x02\x85", "K\x01\x85"))),
         "f: tensor \"a\": there is no storage \"7\""},
        {PICKLE(DICT(TENSOR("a", "0", "\x03", "K\0", "K\x02\x85", "K\x01\x85"))),
         "f: tensor \"a\": storage \"0\" has 8 bytes, expected 3 elements of f32"},
        {PICKLE(DICT(FLOATS("K\0", "K\x03\x85", "K\x01\x85"))),
         "f: tensor \"a\": shape [3] with its strides at element 0 does not fit into a storage of "
         "2"},
        {PICKLE(DICT(FLOATS("K\1", "K\x02\x85", "K\x01\x85"))),
         "shape [2] with its strides at element 1 does not fit"},
        {PICKLE(DICT(FLOATS("J\xff\xff\xff\xff", "K\x02\x85", "K\x01\x85"))),
         "shape [2] with its strides at element -1 does not fit"},
        {PICKLE(DICT(FLOATS("K\x01", "K\x02\x85", "J\xff\xff\xff\xff\x85"))),
         "shape [2] with its strides at element 1 does not fit"},
        {PICKLE(DICT(FLOATS("K\0", "J\xfe\xff\xff\xff\x85", "K\x01\x85"))),
         "f: tensor \"a\": shape [any] is negative or too large"},
        {PICKLE(DICT(FLOATS("K\0", "K\x02\x85", "\x8a\x08\xff\xff\xff\xff\xff\xff\xff\x7f\x85"))),
         "does not fit into a storage of 2 elements"},
        {PICKLE(DICT(FLOATS("K\0", "J\0\0\0\x40\x85", "K\0\x85"))),
         "f: tensor \"a\": its strides expand it to 4294967296 bytes, more than the file has"},
        {PICKLE(DICT(WHOLE WHOLE)), "f: two tensors are called \"a\""},
        {PICKLE(DICT(TENSOR("\n", "0", "\x02", "K\0", "K\x02\x85", "K\x01\x85"))),
         "f: tensor \"?\": its name has a control character"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        opened o = open_pickle(cases[i].pickle, cases[i].n);
        if (o.w || !strstr(o.err.msg, cases[i].message))
            fail_msg("case %zu: expected \"%s\", got \"%s\"", i, cases[i].message, o.err.msg);
        close_bytes(&o);
    }
}

/* ---- Files of our tools --------------------------------------------------------------------- */

static void fill_with_index(void *user, int i, int64_t first, int64_t n, void *out)
{
    (void)user;
    for (int64_t k = 0; k < n; k++) {
        if (i == 0)
            ((float *)out)[k] = (float)(first + k);
        else
            ((uint16_t *)out)[k] = ut_f32_to_bf16((float)((first + k) % 128));
    }
}

static void pth_writer_writes_what_is_read(void **state)
{
    (void)state;
    static const pth_tensor tensors[] = {{"big", UT_F32, 2, {1024, 300}},
                                         {"half", UT_BF16, 3, {2, 1, 70000}},
                                         {"s", UT_BF16, 0, {0}}};
    const char *base = getenv("UT_TEST_TMP");
    char *path = ut_path_join(base ? base : ".", "test_torch.pth");
    for (int ordered = 0; ordered < 2; ordered++) {
        ut_err err = {0};
        const pth_options o = {.top = "some_top", .ordered_dict = ordered, .fill = fill_with_index};
        assert_int_equal(pth_write(path, tensors, 3, &o, &err), UTTER_OK);
        ut_weights *w = open_file(path);
        assert_int_equal(ut_weights_count(w), 3);
        for (int i = 0; i < 3; i++) {
            const ut_view *v = ut_weights_at(w, (size_t)i);
            assert_string_equal(v->name, tensors[i].name);
            assert_int_equal(v->dtype, tensors[i].dtype);
            assert_int_equal(v->n_dims, tensors[i].n_dims);
            assert_int_equal((uintptr_t)v->data % 64, 0);
            for (int64_t at = 0; at < v->n_elements; at++) {
                float f;
                ut_view_to_f32(v, at, 1, &f);
                assert_true(f == (float)(i == 0 ? at : at % 128));
            }
        }
        ut_weights_close(w);
    }
    ut_remove(path, NULL);
    ut_free(path);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(torch_dict_with_every_type_and_stride),
        cmocka_unit_test(torch_state_dicts),
        cmocka_unit_test(torch_files_that_are_refused),
        cmocka_unit_test(damaged_files_are_refused_or_read),
        cmocka_unit_test(archives_of_every_kind),
        cmocka_unit_test(archives_that_are_refused),
        cmocka_unit_test(archive_fields_that_are_refused),
        cmocka_unit_test(pickles_with_odd_opcodes_are_read),
        cmocka_unit_test(pickles_that_are_refused),
        cmocka_unit_test(pth_writer_writes_what_is_read),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
