/* pth_writer.c - the zip container (PKWARE APPNOTE 6.3) and the pickle of a dict of tensors. */
#include "pth_writer.h"

#include "base/alloc.h"
#include "base/buf.h"
#include "base/os.h"
#include <errno.h>
#include <stdio.h>
#include <string.h>

#define CHUNK_BYTES    ((size_t)1 << 20)
#define DIRECTORY_MAX  ((size_t)64 << 20)
#define DATA_ALIGNMENT 64

/* ---- CRC-32, eight bytes at a time ---------------------------------------------------------- */

typedef struct crc_table {
    uint32_t t[8][256];
} crc_table;

static void crc_init(crc_table *c)
{
    for (uint32_t i = 0; i < 256; i++) {
        uint32_t r = i;
        for (int k = 0; k < 8; k++)
            r = r & 1 ? r >> 1 ^ 0xedb88320u : r >> 1;
        c->t[0][i] = r;
    }
    for (uint32_t i = 0; i < 256; i++)
        for (int k = 1; k < 8; k++)
            c->t[k][i] = c->t[k - 1][i] >> 8 ^ c->t[0][c->t[k - 1][i] & 0xff];
}

static uint32_t crc_update(const crc_table *c, uint32_t crc, const uint8_t *p, size_t n)
{
    crc = ~crc;
    for (; n >= 8; n -= 8, p += 8) {
        const uint32_t low = crc ^ ((uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 |
                                    (uint32_t)p[3] << 24);
        crc = c->t[7][low & 0xff] ^ c->t[6][low >> 8 & 0xff] ^ c->t[5][low >> 16 & 0xff] ^
              c->t[4][low >> 24] ^ c->t[3][p[4]] ^ c->t[2][p[5]] ^ c->t[1][p[6]] ^ c->t[0][p[7]];
    }
    for (; n > 0; n--, p++)
        crc = crc >> 8 ^ c->t[0][(crc ^ *p) & 0xff];
    return ~crc;
}

/* ---- Zip ------------------------------------------------------------------------------------ */

typedef struct writer {
    FILE *f;
    const char *path;
    uint64_t at; /* bytes written */
    bool failed; /* writing or memory */
    crc_table crc;
    ut_buf directory; /* central directory so far */
    uint64_t n_entries;
    uint8_t *chunk; /* [CHUNK_BYTES] */
} writer;

static void put(writer *w, const void *p, size_t n)
{
    if (!w->failed && fwrite(p, 1, n, w->f) != n)
        w->failed = true;
    w->at += n;
}

/* Little-endian numbers into a header. */
static uint8_t *put16(uint8_t *p, uint32_t v)
{
    p[0] = (uint8_t)v;
    p[1] = (uint8_t)(v >> 8);
    return p + 2;
}

static uint8_t *put32(uint8_t *p, uint32_t v)
{
    return put16(put16(p, v & 0xffff), v >> 16);
}

static uint8_t *put64(uint8_t *p, uint64_t v)
{
    return put32(put32(p, (uint32_t)v), (uint32_t)(v >> 32));
}

/* An entry in the making: sizes and CRC follow its data, as flag bit 3 says. */
typedef struct entry {
    char name[600];
    uint64_t offset;
    uint64_t size;
    uint32_t crc;
} entry;

enum { FLAGS = 0x0808 /* data descriptor, UTF-8 name */, ZIP_VERSION = 45 };

static void entry_begin(writer *w, entry *e, const char *top, const char *name)
{
    static const char padding[DATA_ALIGNMENT + 4] = "FB"; /* torch's extra field: id, size, fill */
    uint8_t h[30], *p = h;
    snprintf(e->name, sizeof e->name, "%s/%s", top, name);
    e->offset = w->at;
    e->size = 0;
    e->crc = 0;
    const size_t n_name = strlen(e->name);
    const uint64_t data = w->at + sizeof h + n_name + 4;
    const size_t fill = (DATA_ALIGNMENT - data % DATA_ALIGNMENT) % DATA_ALIGNMENT;
    p = put32(p, 0x04034b50);
    p = put16(p, ZIP_VERSION);
    p = put16(p, FLAGS);
    p = put16(p, 0); /* stored */
    p = put32(p, 0); /* time and date */
    p = put32(p, 0); /* crc, sizes: in the descriptor */
    p = put32(p, 0);
    p = put32(p, 0);
    p = put16(p, (uint32_t)n_name);
    put16(p, (uint32_t)(4 + fill));
    put(w, h, sizeof h);
    put(w, e->name, n_name);
    uint8_t size[2];
    put16(size, (uint32_t)fill);
    put(w, padding, 2);
    put(w, size, 2);
    put(w, padding + 4, fill);
}

static void entry_data(writer *w, entry *e, const void *data, size_t n)
{
    e->crc = crc_update(&w->crc, e->crc, data, n);
    e->size += n;
    put(w, data, n);
}

static void entry_end(writer *w, const entry *e)
{
    uint8_t d[16], c[46 + 12], *p;
    p = put32(d, 0x08074b50);
    p = put32(p, e->crc);
    p = put32(p, (uint32_t)e->size);
    put32(p, (uint32_t)e->size);
    put(w, d, sizeof d);

    const bool far = e->offset >= UINT32_MAX;
    const size_t n_name = strlen(e->name), n_extra = far ? 12 : 0;
    p = put32(c, 0x02014b50);
    p = put16(p, ZIP_VERSION);
    p = put16(p, ZIP_VERSION);
    p = put16(p, FLAGS);
    p = put16(p, 0);
    p = put32(p, 0);
    p = put32(p, e->crc);
    p = put32(p, (uint32_t)e->size);
    p = put32(p, (uint32_t)e->size);
    p = put16(p, (uint32_t)n_name);
    p = put16(p, (uint32_t)n_extra);
    p = put16(p, 0); /* comment */
    p = put16(p, 0); /* disk */
    p = put16(p, 0); /* attributes */
    p = put32(p, 0);
    put32(p, far ? UINT32_MAX : (uint32_t)e->offset);
    put64(put16(put16(c + 46, 1), 8), e->offset); /* zip64: the offset alone */
    if (!ut_buf_append(&w->directory, c, 46) || !ut_buf_append(&w->directory, e->name, n_name) ||
        !ut_buf_append(&w->directory, c + 46, n_extra))
        w->failed = true;
    w->n_entries++;
}

static void finish(writer *w)
{
    uint8_t e[56 + 20 + 22], *p;
    const uint64_t directory = w->at, end = w->at + w->directory.len;
    put(w, w->directory.data, w->directory.len);
    const bool large = end >= UINT32_MAX || w->n_entries >= UINT16_MAX;
    p = put32(e, 0x06064b50);
    p = put64(p, 56 - 12);
    p = put16(p, ZIP_VERSION);
    p = put16(p, ZIP_VERSION);
    p = put32(p, 0);
    p = put32(p, 0);
    p = put64(p, w->n_entries);
    p = put64(p, w->n_entries);
    p = put64(p, w->directory.len);
    p = put64(p, directory);
    p = put32(p, 0x07064b50);
    p = put32(p, 0);
    p = put64(p, end);
    p = put32(p, 1);
    if (large)
        put(w, e, (size_t)(p - e));
    const uint32_t n = large ? UINT16_MAX : (uint32_t)w->n_entries;
    uint8_t *const last = p;
    p = put32(p, 0x06054b50);
    p = put32(p, 0);
    p = put16(p, n);
    p = put16(p, n);
    p = put32(p, large ? UINT32_MAX : (uint32_t)w->directory.len);
    p = put32(p, large ? UINT32_MAX : (uint32_t)directory);
    p = put16(p, 0);
    put(w, last, (size_t)(p - last));
}

/* ---- Pickle --------------------------------------------------------------------------------- */

static const char *storage_class(ut_dtype dtype)
{
    switch (dtype) {
    case UT_F32:
        return "FloatStorage";
    case UT_BF16:
        return "BFloat16Storage";
    case UT_F16:
        return "HalfStorage";
    case UT_I32:
        return "IntStorage";
    case UT_I64:
        return "LongStorage";
    case UT_F64:
        return "DoubleStorage";
    case UT_U8:
        return "ByteStorage";
    case UT_I8:
        return "CharStorage";
    case UT_BOOL:
        return "BoolStorage";
    case UT_Q8:
    case UT_Q4:
    case UT_DTYPE_COUNT:
        break;
    }
    return "";
}

static bool pickle_string(ut_buf *b, const char *s)
{
    uint8_t h[5] = {'X'};
    put32(h + 1, (uint32_t)strlen(s));
    return ut_buf_append(b, h, sizeof h) && ut_buf_append(b, s, strlen(s));
}

static bool pickle_int(ut_buf *b, int64_t v)
{
    uint8_t h[10] = {'J'};
    if (v <= INT32_MAX) {
        put32(h + 1, (uint32_t)v);
        return ut_buf_append(b, h, 5);
    }
    h[0] = 0x8a; /* LONG1 of 8 bytes */
    h[1] = 8;
    put64(h + 2, (uint64_t)v);
    return ut_buf_append(b, h, 10);
}

/* Product of the extents from dimension `from` on: the elements of a tensor, or a stride. */
static int64_t extent(const pth_tensor *t, int from)
{
    int64_t n = 1;
    for (int i = from; i < t->n_dims; i++)
        n *= t->dim[i];
    return n;
}

/* What occurs again and again is written out once and then fetched from the memo. */
typedef struct pickler {
    ut_buf *b;
    bool seen[32];
} pickler;

enum { ORDERED_DICT, REBUILD_TENSOR, TEXT_STORAGE, TEXT_CPU, FIRST_STORAGE_CLASS };

static bool pickle_shared(pickler *p, int id)
{
    const uint8_t op[2] = {p->seen[id] ? 'h' : 'q', (uint8_t)id}; /* BINGET or BINPUT */
    bool ok = true;
    if (!p->seen[id]) {
        p->seen[id] = true;
        switch (id) {
        case ORDERED_DICT:
            ok = ut_buf_puts(p->b, "ccollections\nOrderedDict\n");
            break;
        case REBUILD_TENSOR:
            ok = ut_buf_puts(p->b, "ctorch._utils\n_rebuild_tensor_v2\n");
            break;
        case TEXT_STORAGE:
            ok = pickle_string(p->b, "storage");
            break;
        case TEXT_CPU:
            ok = pickle_string(p->b, "cpu");
            break;
        default:
            ok = ut_buf_printf(p->b, "ctorch\n%s\n",
                               storage_class((ut_dtype)(id - FIRST_STORAGE_CLASS)));
        }
    }
    return ok && ut_buf_append(p->b, op, sizeof op);
}

/* name, then _rebuild_tensor_v2(('storage', class, key, 'cpu', n), 0, size, stride, False, {}). */
static bool pickle_tensor(pickler *p, const pth_tensor *t, int key)
{
    ut_buf *b = p->b;
    char text[16];
    snprintf(text, sizeof text, "%d", key);
    bool ok = pickle_string(b, t->name) && pickle_shared(p, REBUILD_TENSOR) &&
              ut_buf_puts(b, "((") && pickle_shared(p, TEXT_STORAGE) &&
              pickle_shared(p, FIRST_STORAGE_CLASS + (int)t->dtype) && pickle_string(b, text) &&
              pickle_shared(p, TEXT_CPU) && pickle_int(b, extent(t, 0)) && ut_buf_puts(b, "tQ") &&
              pickle_int(b, 0) && ut_buf_puts(b, "(");
    for (int i = 0; i < t->n_dims; i++)
        ok = ok && pickle_int(b, t->dim[i]);
    ok = ok && ut_buf_puts(b, "t(");
    for (int i = 0; i < t->n_dims; i++)
        ok = ok && pickle_int(b, extent(t, i + 1));
    return ok && ut_buf_puts(b, "t\x89") && pickle_shared(p, ORDERED_DICT) &&
           ut_buf_puts(b, ")RtR");
}

static bool pickle_dict(ut_buf *b, const pth_tensor *tensors, int n, bool ordered)
{
    pickler p = {.b = b};
    bool ok =
        ut_buf_append(b, "\x80\x02", 2) &&
        (ordered ? pickle_shared(&p, ORDERED_DICT) && ut_buf_puts(b, ")R(") : ut_buf_puts(b, "}("));
    for (int i = 0; i < n && ok; i++)
        ok = pickle_tensor(&p, &tensors[i], i);
    ok = ok && ut_buf_puts(b, "u");
    if (ordered)
        ok = ok && ut_buf_puts(b, "}") && pickle_string(b, "_metadata") &&
             pickle_shared(&p, ORDERED_DICT) && ut_buf_puts(b, ")Rsb");
    return ok && ut_buf_puts(b, ".");
}

/* ---- The file ------------------------------------------------------------------------------- */

static void write_tensors(writer *w, const pth_tensor *tensors, int n, const pth_options *o)
{
    uint64_t done = 0, total = 0;
    for (int i = 0; i < n; i++)
        total += (uint64_t)extent(&tensors[i], 0) * ut_dtype_size(tensors[i].dtype);
    for (int i = 0; i < n && !w->failed; i++) {
        char name[32];
        entry e;
        const size_t element = ut_dtype_size(tensors[i].dtype);
        const int64_t n_elements = extent(&tensors[i], 0);
        snprintf(name, sizeof name, "data/%d", i);
        entry_begin(w, &e, o->top, name);
        for (int64_t first = 0; first < n_elements && !w->failed;) {
            const int64_t left = n_elements - first, most = (int64_t)(CHUNK_BYTES / element);
            const int64_t count = left < most ? left : most;
            o->fill(o->user, i, first, count, w->chunk);
            entry_data(w, &e, w->chunk, (size_t)count * element);
            first += count;
            done += (uint64_t)count * element;
            if (o->progress)
                o->progress(o->user, done, total);
        }
        entry_end(w, &e);
    }
}

utter_status pth_write(const char *path, const pth_tensor *tensors, int n, const pth_options *o,
                       ut_err *err)
{
    utter_status st = UTTER_OK;
    ut_buf pickle;
    entry e;
    for (int i = 0; i < n; i++)
        if ((uint64_t)extent(&tensors[i], 0) * ut_dtype_size(tensors[i].dtype) >= UINT32_MAX)
            return ut_fail(err, UTTER_ERR_UNSUPPORTED, "%s: tensor \"%s\" has 4 GiB or more", path,
                           tensors[i].name);
    ut_buf_init(&pickle, DIRECTORY_MAX);
    writer *w = ut_calloc(1, sizeof *w);
    if (!w)
        return ut_fail(err, UTTER_ERR_NOMEM, "%s: writer", path);
    w->path = path;
    ut_buf_init(&w->directory, DIRECTORY_MAX);
    crc_init(&w->crc);
    w->chunk = ut_malloc(CHUNK_BYTES);
    if (!w->chunk || !pickle_dict(&pickle, tensors, n, o->ordered_dict)) {
        st = ut_fail(err, UTTER_ERR_NOMEM, "%s: pickle of %d tensors", path, n);
        goto done;
    }
    w->f = ut_fopen(path, "wb");
    if (!w->f) {
        st = ut_fail(err, UTTER_ERR_IO, "%s: %s", path, strerror(errno));
        goto done;
    }
    entry_begin(w, &e, o->top, "data.pkl");
    entry_data(w, &e, pickle.data, pickle.len);
    entry_end(w, &e);
    write_tensors(w, tensors, n, o);
    entry_begin(w, &e, o->top, "version");
    entry_data(w, &e, "3\n", 2);
    entry_end(w, &e);
    finish(w);
    if (w->failed)
        st = ut_fail(err, UTTER_ERR_IO, "%s: writing failed after %llu bytes", path,
                     (unsigned long long)w->at);
done:
    if (w->f && fclose(w->f) != 0 && st == UTTER_OK)
        st = ut_fail(err, UTTER_ERR_IO, "%s: %s", path, strerror(errno));
    ut_buf_free(&w->directory);
    ut_buf_free(&pickle);
    ut_free(w->chunk);
    ut_free(w);
    return st;
}
