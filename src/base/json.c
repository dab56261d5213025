/* json.c - reading JSON through jansson, the only file that includes it. Limits are enforced by a
 * scan of the text before the parser sees it; paths in messages are found by searching the tree,
 * which only a failure pays for. */
#include "base/json.h"

#include "base/alloc.h"
#include "base/os.h"
#include <inttypes.h>
#include <jansson.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

struct ut_json {
    json_t *root;
    char *what; /* file name or the caller's words, for messages */
};

/* jansson's functions take json_t * even where they only read. */
static json_t *node_of(const void *p)
{
    union {
        const void *in;
        json_t *out;
    } u = {p};
    return u.out;
}

/* ---- Parsing -------------------------------------------------------------------------------- */

/* Depth and number of values, from the brackets and commas outside strings. Malformed text is the
 * parser's to refuse. */
static utter_status check_limits(const char *what, const uint8_t *s, size_t n, ut_err *err)
{
    size_t depth = 0, n_values = 0;
    bool in_string = false;
    for (size_t i = 0; i < n; i++) {
        const uint8_t c = s[i];
        if (in_string) {
            if (c == '\\')
                i++;
            else if (c == '"')
                in_string = false;
            continue;
        }
        switch (c) {
        case '"':
            in_string = true;
            break;
        case '{':
        case '[':
            n_values++;
            if (++depth > UT_JSON_MAX_DEPTH)
                return ut_fail(err, UTTER_ERR_FORMAT, "%s: byte %zu: nested deeper than %d levels",
                               what, i, UT_JSON_MAX_DEPTH);
            break;
        case '}':
        case ']':
            depth -= depth > 0;
            break;
        case ',':
        case ':':
            n_values++;
            break;
        default:
            break;
        }
    }
    if (n_values > UT_JSON_MAX_VALUES)
        return ut_fail(err, UTTER_ERR_FORMAT, "%s: about %zu values, more than the limit of %d",
                       what, n_values, UT_JSON_MAX_VALUES);
    return UTTER_OK;
}

utter_status ut_json_parse(ut_json **out, const char *what, const void *data, size_t n, ut_err *err)
{
    *out = NULL;
    const uint8_t *s = data;
    if (n >= 3 && s[0] == 0xef && s[1] == 0xbb && s[2] == 0xbf) { /* byte order mark */
        s += 3;
        n -= 3;
    }
    utter_status st = check_limits(what, s, n, err);
    if (st != UTTER_OK)
        return st;
    ut_json *doc = ut_calloc(1, sizeof *doc);
    if (!doc)
        return ut_fail(err, UTTER_ERR_NOMEM, "%s: JSON document", what);
    doc->what = ut_strdup(what);
    if (!doc->what) {
        st = ut_fail(err, UTTER_ERR_NOMEM, "%s: JSON document", what);
        goto done;
    }
    json_error_t e;
    doc->root = json_loadb((const char *)s, n, JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL, &e);
    if (!doc->root) {
        if (json_error_code(&e) == json_error_out_of_memory) {
            st = ut_fail(err, UTTER_ERR_NOMEM, "%s: JSON document of %zu bytes", what, n);
        } else {
            st = ut_fail(err, UTTER_ERR_FORMAT, "%s: line %d, column %d: not valid JSON: %s", what,
                         e.line, e.column, e.text);
        }
        goto done;
    }
    *out = doc;
    doc = NULL;
done:
    ut_json_free(doc);
    return st;
}

utter_status ut_json_read(ut_json **out, const char *path, size_t max_bytes, ut_err *err)
{
    *out = NULL;
    uint8_t *data = NULL;
    size_t size = 0;
    utter_status st = ut_read_file(path, max_bytes, &data, &size, err);
    if (st == UTTER_OK)
        st = ut_json_parse(out, path, data, size, err);
    ut_free(data);
    return st;
}

void ut_json_free(ut_json *doc)
{
    if (!doc)
        return;
    json_decref(doc->root);
    ut_free(doc->what);
    ut_free(doc);
}

/* ---- Looking things up ---------------------------------------------------------------------- */

static ut_json_type node_type(const void *node)
{
    if (!node)
        return UT_JSON_ABSENT;
    switch (json_typeof((const json_t *)node)) {
    case JSON_OBJECT:
        return UT_JSON_OBJECT;
    case JSON_ARRAY:
        return UT_JSON_ARRAY;
    case JSON_STRING:
        return UT_JSON_STRING;
    case JSON_INTEGER:
        return UT_JSON_INT;
    case JSON_REAL:
        return UT_JSON_REAL;
    case JSON_TRUE:
    case JSON_FALSE:
        return UT_JSON_BOOL;
    case JSON_NULL:
        return UT_JSON_NULL;
    }
    return UT_JSON_ABSENT;
}

ut_json_value ut_json_root(const ut_json *doc)
{
    return (ut_json_value){.doc = doc, .node = doc ? doc->root : NULL};
}

/* v as the container of a look-up that fails: later getters report v itself. */
static ut_json_value not_a(ut_json_value v, ut_json_type want)
{
    if (v.want == UT_JSON_ABSENT)
        v.want = want;
    return v;
}

ut_json_value ut_json_member(ut_json_value object, const char *key)
{
    if (object.want != UT_JSON_ABSENT || node_type(object.node) != UT_JSON_OBJECT)
        return not_a(object, UT_JSON_OBJECT);
    return (ut_json_value){.doc = object.doc,
                           .node = json_object_get(object.node, key),
                           .parent = object.node,
                           .key = key};
}

ut_json_value ut_json_item(ut_json_value array, size_t i)
{
    if (array.want != UT_JSON_ABSENT || node_type(array.node) != UT_JSON_ARRAY)
        return not_a(array, UT_JSON_ARRAY);
    return (ut_json_value){
        .doc = array.doc, .node = json_array_get(array.node, i), .parent = array.node, .index = i};
}

ut_json_type ut_json_typeof(ut_json_value v)
{
    return v.want != UT_JSON_ABSENT ? UT_JSON_ABSENT : node_type(v.node);
}

size_t ut_json_size(ut_json_value v)
{
    switch (ut_json_typeof(v)) {
    case UT_JSON_OBJECT:
        return json_object_size(v.node);
    case UT_JSON_ARRAY:
        return json_array_size(v.node);
    default:
        return 0;
    }
}

bool ut_json_next(ut_json_value object, ut_json_iter *it)
{
    if (ut_json_typeof(object) != UT_JSON_OBJECT)
        return false;
    json_t *node = node_of(object.node);
    it->position =
        it->position ? json_object_iter_next(node, it->position) : json_object_iter(node);
    if (!it->position)
        return false;
    it->key = json_object_iter_key(it->position);
    it->value = (ut_json_value){.doc = object.doc,
                                .node = json_object_iter_value(it->position),
                                .parent = object.node,
                                .key = it->key};
    return true;
}

/* ---- Messages ------------------------------------------------------------------------------- */

/* As much of src as fits, not cut inside a UTF-8 sequence. */
static void copy_cut(char *dst, size_t size, const char *src)
{
    size_t n = strlen(src);
    if (n >= size) {
        n = size - 1;
        while (n > 0 && ((unsigned char)src[n] & 0xc0) == 0x80)
            n--;
    }
    memcpy(dst, src, n);
    dst[n] = 0;
}

typedef struct path_step {
    const char *key; /* NULL: index */
    size_t index;
} path_step;

typedef struct path_text {
    char text[192];
    size_t len;
} path_text;

static void path_add(path_text *p, path_step step)
{
    char part[128];
    if (step.key) {
        char key[96];
        copy_cut(key, sizeof key, step.key);
        snprintf(part, sizeof part, "%s%s", p->len > 0 ? "." : "", key);
    } else {
        snprintf(part, sizeof part, "[%zu]", step.index);
    }
    const int n = snprintf(p->text + p->len, sizeof p->text - p->len, "%s", part);
    p->len += (size_t)n;
    if (p->len >= sizeof p->text)
        p->len = sizeof p->text - 1;
}

/* Steps from the container `at` to the container `target`, by depth-first search; their number,
 * or -1 when it is not below. Containers are unique in a parsed tree, scalars need not be. */
static int find_container(const json_t *at, const void *target, path_step *steps, int depth)
{
    if (at == target)
        return depth;
    if (depth == UT_JSON_MAX_DEPTH)
        return -1;
    if (json_is_array(at)) {
        for (size_t i = 0; i < json_array_size(at); i++) {
            steps[depth] = (path_step){NULL, i};
            const int n = find_container(json_array_get(at, i), target, steps, depth + 1);
            if (n >= 0)
                return n;
        }
    } else if (json_is_object(at)) {
        json_t *object = node_of(at);
        for (void *it = json_object_iter(object); it; it = json_object_iter_next(object, it)) {
            steps[depth] = (path_step){json_object_iter_key(it), 0};
            const int n = find_container(json_object_iter_value(it), target, steps, depth + 1);
            if (n >= 0)
                return n;
        }
    }
    return -1;
}

static void path_of(path_text *p, ut_json_value v)
{
    path_step steps[UT_JSON_MAX_DEPTH];
    p->len = 0;
    p->text[0] = 0;
    if (v.parent) {
        const int n = find_container(v.doc->root, v.parent, steps, 0);
        for (int i = 0; i < n; i++)
            path_add(p, steps[i]);
        path_add(p, (path_step){v.key, v.index});
    } else {
        path_add(p, (path_step){"the document", 0});
    }
}

utter_status ut_json_fail(ut_json_value v, ut_err *err, const char *fmt, ...)
{
    if (!err) /* nobody reads the message */
        return UTTER_ERR_FORMAT;
    char text[256];
    path_text path;
    va_list args;
    va_start(args, fmt);
    vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    path_of(&path, v);
    return ut_fail(err, UTTER_ERR_FORMAT, "%s: %s %s", v.doc ? v.doc->what : "JSON", path.text,
                   text);
}

/* "PATH is FOUND, expected EXPECTED". */
static utter_status fail_expected(ut_json_value v, ut_err *err, const char *expected)
{
    char found[80];
    const json_t *node = v.node;
    switch (node_type(node)) {
    case UT_JSON_ABSENT:
        snprintf(found, sizeof found, "missing");
        break;
    case UT_JSON_NULL:
        snprintf(found, sizeof found, "null");
        break;
    case UT_JSON_BOOL:
        snprintf(found, sizeof found, "%s", json_is_true(node) ? "true" : "false");
        break;
    case UT_JSON_INT:
        snprintf(found, sizeof found, "%" PRId64, (int64_t)json_integer_value(node));
        break;
    case UT_JSON_REAL:
        snprintf(found, sizeof found, "%.9g", json_real_value(node));
        break;
    case UT_JSON_STRING: {
        char text[64];
        copy_cut(text, sizeof text, json_string_value(node));
        snprintf(found, sizeof found, "\"%s\"", text);
        break;
    }
    case UT_JSON_ARRAY:
        snprintf(found, sizeof found, "an array");
        break;
    case UT_JSON_OBJECT:
        snprintf(found, sizeof found, "an object");
        break;
    }
    if (v.want != UT_JSON_ABSENT)
        expected = v.want == UT_JSON_OBJECT ? "an object" : "an array";
    return ut_json_fail(v, err, "is %s, expected %s", found, expected);
}

/* ---- Typed getters -------------------------------------------------------------------------- */

utter_status ut_json_get_int(ut_json_value v, int64_t min, int64_t max, int64_t *out, ut_err *err)
{
    if (ut_json_typeof(v) == UT_JSON_INT) {
        const int64_t found = json_integer_value(v.node);
        if (found >= min && found <= max) {
            *out = found;
            return UTTER_OK;
        }
    }
    char expected[80];
    snprintf(expected, sizeof expected, "an integer in %" PRId64 "..%" PRId64, min, max);
    return fail_expected(v, err, expected);
}

utter_status ut_json_get_i32(ut_json_value v, int32_t min, int32_t max, int32_t *out, ut_err *err)
{
    int64_t wide = 0;
    const utter_status st = ut_json_get_int(v, min, max, &wide, err);
    if (st == UTTER_OK)
        *out = (int32_t)wide;
    return st;
}

utter_status ut_json_get_number(ut_json_value v, double min, double max, double *out, ut_err *err)
{
    const ut_json_type type = ut_json_typeof(v);
    if (type == UT_JSON_INT || type == UT_JSON_REAL) {
        const double found = json_number_value(v.node);
        if (found >= min && found <= max) {
            *out = found;
            return UTTER_OK;
        }
    }
    char expected[80];
    snprintf(expected, sizeof expected, "a number in %.9g..%.9g", min, max);
    return fail_expected(v, err, expected);
}

utter_status ut_json_get_f32(ut_json_value v, float min, float max, float *out, ut_err *err)
{
    double wide = 0;
    const utter_status st = ut_json_get_number(v, (double)min, (double)max, &wide, err);
    if (st == UTTER_OK)
        *out = (float)wide;
    return st;
}

utter_status ut_json_get_bool(ut_json_value v, bool *out, ut_err *err)
{
    if (ut_json_typeof(v) != UT_JSON_BOOL)
        return fail_expected(v, err, "true or false");
    *out = json_is_true((const json_t *)v.node);
    return UTTER_OK;
}

utter_status ut_json_get_string(ut_json_value v, const char **out, ut_err *err)
{
    if (ut_json_typeof(v) != UT_JSON_STRING)
        return fail_expected(v, err, "a string");
    const char *s = json_string_value(v.node);
    if (strlen(s) != json_string_length(v.node))
        return fail_expected(v, err, "a string without NUL characters");
    *out = s;
    return UTTER_OK;
}

utter_status ut_json_get_bytes(ut_json_value v, const char **out, size_t *n, ut_err *err)
{
    if (ut_json_typeof(v) != UT_JSON_STRING)
        return fail_expected(v, err, "a string");
    *out = json_string_value(v.node);
    *n = json_string_length(v.node);
    return UTTER_OK;
}

utter_status ut_json_get_object(ut_json_value v, ut_err *err)
{
    return ut_json_typeof(v) == UT_JSON_OBJECT ? UTTER_OK : fail_expected(v, err, "an object");
}

utter_status ut_json_get_array(ut_json_value v, ut_err *err)
{
    return ut_json_typeof(v) == UT_JSON_ARRAY ? UTTER_OK : fail_expected(v, err, "an array");
}

/* Absent or null, or looked up in something absent or null. */
static bool is_left_out(ut_json_value v)
{
    const ut_json_type type = node_type(v.node);
    return type == UT_JSON_ABSENT || type == UT_JSON_NULL;
}

utter_status ut_json_opt_int(ut_json_value v, int64_t min, int64_t max, int64_t *out, ut_err *err)
{
    return is_left_out(v) ? UTTER_OK : ut_json_get_int(v, min, max, out, err);
}

utter_status ut_json_opt_i32(ut_json_value v, int32_t min, int32_t max, int32_t *out, ut_err *err)
{
    return is_left_out(v) ? UTTER_OK : ut_json_get_i32(v, min, max, out, err);
}

utter_status ut_json_opt_number(ut_json_value v, double min, double max, double *out, ut_err *err)
{
    return is_left_out(v) ? UTTER_OK : ut_json_get_number(v, min, max, out, err);
}

utter_status ut_json_opt_f32(ut_json_value v, float min, float max, float *out, ut_err *err)
{
    return is_left_out(v) ? UTTER_OK : ut_json_get_f32(v, min, max, out, err);
}

utter_status ut_json_opt_bool(ut_json_value v, bool *out, ut_err *err)
{
    return is_left_out(v) ? UTTER_OK : ut_json_get_bool(v, out, err);
}

utter_status ut_json_opt_string(ut_json_value v, const char **out, ut_err *err)
{
    return is_left_out(v) ? UTTER_OK : ut_json_get_string(v, out, err);
}
