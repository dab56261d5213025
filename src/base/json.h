/* json.h - JSON documents: read with typed getters whose errors name file and path, and written
 * piece by piece. The only code that knows jansson is json.c; nothing else includes it.
 *
 * Reading. A value handle (ut_json_value) remembers where it came from, so a chain of look-ups
 * needs one check, at its end:
 *
 *     ut_json *doc;
 *     int64_t dim = 1024, n_layer;
 *     st = ut_json_read(&doc, path, UT_JSON_MAX_BYTES, err);
 *     ...
 *     ut_json_value talker = ut_json_member(ut_json_root(doc), "talker_config");
 *     st = ut_json_get_int(ut_json_member(talker, "n_layer"), 1, 128, &n_layer, err);
 *     st = ut_json_opt_int(ut_json_member(talker, "dim"), 1, 65536, &dim, err);
 *
 * fails with "config.json: talker_config.n_layer is missing, expected an integer in 1..128", or
 * "config.json: talker_config is "abc", expected an object". */
#ifndef UT_BASE_JSON_H
#define UT_BASE_JSON_H

#include "base/buf.h"
#include "base/err.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define UT_JSON_MAX_BYTES  ((size_t)16 << 20) /* a cap for files that people and tools write */
#define UT_JSON_MAX_DEPTH  64                 /* objects and arrays inside one another */
#define UT_JSON_MAX_VALUES 2000000            /* in one document: bounds the memory it takes */

typedef struct ut_json ut_json; /* a parsed document, immutable */

typedef enum ut_json_type {
    UT_JSON_ABSENT, /* no such member or item */
    UT_JSON_NULL,
    UT_JSON_BOOL,
    UT_JSON_INT, /* a number without fraction and exponent that fits int64_t */
    UT_JSON_REAL,
    UT_JSON_STRING,
    UT_JSON_ARRAY,
    UT_JSON_OBJECT
} ut_json_type;

/* A value inside a document, valid as long as the document. Copy freely; the fields are private. */
typedef struct ut_json_value {
    const ut_json *doc;
    const void *node;   /* NULL: absent */
    const void *parent; /* container it was looked up in; NULL: the root */
    const char *key;    /* of an object's member, NULL of an array's item; borrowed */
    size_t index;
    ut_json_type want; /* a look-up inside it failed because it is not of this type */
} ut_json_value;

/* Parse a file of at most max_bytes (a leading UTF-8 byte order mark is skipped), or bytes in
 * memory that errors call `what`. The root must be an object or an array; duplicate keys, invalid
 * UTF-8, integers past int64_t, more values or deeper nesting than the limits above are ERR_FORMAT
 * with the place. *out is the caller's: ut_json_free. */
utter_status ut_json_read(ut_json **out, const char *path, size_t max_bytes, ut_err *err);
utter_status ut_json_parse(ut_json **out, const char *what, const void *data, size_t n,
                           ut_err *err);
void ut_json_free(ut_json *doc); /* NULL is fine */

/* Look-ups never fail: what is missing, or looked for in something that is no object or array,
 * gives a value that every ut_json_get_* reports and every ut_json_opt_* takes as absent (no
 * member) or reports (not an object). `key` is borrowed while the value is used. */
ut_json_value ut_json_root(const ut_json *doc);
ut_json_value ut_json_member(ut_json_value object, const char *key);
ut_json_value ut_json_item(ut_json_value array, size_t i);
ut_json_type ut_json_typeof(ut_json_value v);
size_t ut_json_size(ut_json_value v); /* members or items; 0 for anything else */

/* Members in file order: ut_json_iter it = {0}; while (ut_json_next(object, &it)) it.key ... */
typedef struct ut_json_iter {
    const char *key; /* 0-terminated, borrowed from the document */
    ut_json_value value;
    void *position; /* private */
} ut_json_iter;
bool ut_json_next(ut_json_value object, ut_json_iter *it);

/* The value must be there and of this type, numbers within [min, max]; otherwise ERR_FORMAT with
 * file and path, and *out is left alone. A number getter takes integers too; strings are borrowed
 * from the document. */
utter_status ut_json_get_int(ut_json_value v, int64_t min, int64_t max, int64_t *out, ut_err *err);
utter_status ut_json_get_i32(ut_json_value v, int32_t min, int32_t max, int32_t *out, ut_err *err);
utter_status ut_json_get_number(ut_json_value v, double min, double max, double *out, ut_err *err);
utter_status ut_json_get_f32(ut_json_value v, float min, float max, float *out, ut_err *err);
utter_status ut_json_get_bool(ut_json_value v, bool *out, ut_err *err);
utter_status ut_json_get_string(ut_json_value v, const char **out, ut_err *err);
/* A string that may have NUL characters inside, which ut_json_get_string refuses. */
utter_status ut_json_get_bytes(ut_json_value v, const char **out, size_t *n, ut_err *err);
/* OK if v is an object (an array); for iterating, or before ut_json_size. */
utter_status ut_json_get_object(ut_json_value v, ut_err *err);
utter_status ut_json_get_array(ut_json_value v, ut_err *err);

/* The same, but absent or null is OK and leaves *out, the default, alone. */
utter_status ut_json_opt_int(ut_json_value v, int64_t min, int64_t max, int64_t *out, ut_err *err);
utter_status ut_json_opt_i32(ut_json_value v, int32_t min, int32_t max, int32_t *out, ut_err *err);
utter_status ut_json_opt_number(ut_json_value v, double min, double max, double *out, ut_err *err);
utter_status ut_json_opt_f32(ut_json_value v, float min, float max, float *out, ut_err *err);
utter_status ut_json_opt_bool(ut_json_value v, bool *out, ut_err *err);
utter_status ut_json_opt_string(ut_json_value v, const char **out, ut_err *err);

/* Any failure about v in the words of the getters: "FILE: PATH <printf-style text>", ERR_FORMAT. */
utter_status ut_json_fail(ut_json_value v, ut_err *err, const char *fmt, ...) UT_PRINTF(3, 4);

/* Writing. Text is appended to a buffer; the first failure (no memory, buffer's cap) sticks and
 * ut_json_end_all reports it. In objects every call takes the member's key, in arrays and for the
 * root key is NULL. Strings that are not valid UTF-8 get U+FFFD for each bad byte; numbers are
 * written with the fewest digits that read back the same, NaN and infinities as null. */
typedef struct ut_json_writer {
    ut_buf *out; /* borrowed */
    int indent;  /* spaces per level; 0: one line without spaces */
    int depth;
    bool failed;
    char close[UT_JSON_MAX_DEPTH]; /* '}' or ']' of every open level */
    bool empty[UT_JSON_MAX_DEPTH];
} ut_json_writer;

void ut_json_writer_init(ut_json_writer *w, ut_buf *out, int indent);
void ut_json_begin_object(ut_json_writer *w, const char *key);
void ut_json_begin_array(ut_json_writer *w, const char *key);
void ut_json_end(ut_json_writer *w); /* closes the innermost object or array */
void ut_json_put_string(ut_json_writer *w, const char *key, const char *s); /* NULL: null */
void ut_json_put_bytes(ut_json_writer *w, const char *key, const char *s, size_t n);
void ut_json_put_int(ut_json_writer *w, const char *key, int64_t v);
void ut_json_put_number(ut_json_writer *w, const char *key, double v);
void ut_json_put_f32(ut_json_writer *w, const char *key, float v); /* shortest as a float */
void ut_json_put_bool(ut_json_writer *w, const char *key, bool v);
void ut_json_put_null(ut_json_writer *w, const char *key);
/* Close what is open; true if everything was written. */
bool ut_json_end_all(ut_json_writer *w);

#endif
