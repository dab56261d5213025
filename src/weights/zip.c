/* zip.c - the central directory of a ZIP archive (PKWARE APPNOTE 6.3, sections 4.3 and 4.5.3). */
#include "weights/zip.h"

#include "base/alloc.h"
#include <inttypes.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

enum {
    LOCAL_SIZE = 30,
    CENTRAL_SIZE = 46,
    END_SIZE = 22,
    END64_SIZE = 56,
    LOCATOR64_SIZE = 20,
    COMMENT_MAX = 65535
};
#define LOCAL_MAGIC     0x04034b50u
#define CENTRAL_MAGIC   0x02014b50u
#define END_MAGIC       0x06054b50u
#define END64_MAGIC     0x06064b50u
#define LOCATOR64_MAGIC 0x07064b50u

static uint16_t read_u16(const uint8_t *p)
{
    return (uint16_t)(p[0] | p[1] << 8);
}

static uint32_t read_u32(const uint8_t *p)
{
    return (uint32_t)read_u16(p) | (uint32_t)read_u16(p + 2) << 16;
}

static uint64_t read_u64(const uint8_t *p)
{
    return (uint64_t)read_u32(p) | (uint64_t)read_u32(p + 4) << 32;
}

typedef struct archive {
    const char *file;
    const uint8_t *data;
    size_t size;
    size_t directory; /* offset of the central directory */
    size_t n_directory;
    uint64_t n_entries;
} archive;

static utter_status fail(const archive *a, ut_err *err, const char *what)
{
    return ut_fail(err, UTTER_ERR_FORMAT, "%s: damaged or cut short zip archive: %s", a->file,
                   what);
}

/* ---- End of central directory --------------------------------------------------------------- */

static bool find_end(const archive *a, size_t *at)
{
    if (a->size < END_SIZE)
        return false;
    const size_t last = a->size - END_SIZE;
    const size_t first = last > COMMENT_MAX ? last - COMMENT_MAX : 0;
    for (size_t i = last + 1; i-- > first;) {
        if (read_u32(a->data + i) == END_MAGIC &&
            i + END_SIZE + read_u16(a->data + i + 20) == a->size) {
            *at = i;
            return true;
        }
    }
    return false;
}

static utter_status read_end(archive *a, ut_err *err)
{
    size_t end;
    if (!find_end(a, &end))
        return fail(a, err, "no end of central directory");
    const uint8_t *p = a->data + end;
    uint64_t disk = read_u16(p + 4), first_disk = read_u16(p + 6);
    uint64_t n_entries = read_u16(p + 10), n_directory = read_u32(p + 12),
             directory = read_u32(p + 16);
    if (end >= LOCATOR64_SIZE && read_u32(p - LOCATOR64_SIZE) == LOCATOR64_MAGIC) {
        const uint64_t at = read_u64(p - LOCATOR64_SIZE + 8);
        if (at > end || end - at < END64_SIZE || read_u32(a->data + at) != END64_MAGIC)
            return fail(a, err, "the zip64 locator points nowhere");
        p = a->data + at;
        disk = read_u32(p + 16);
        first_disk = read_u32(p + 20);
        n_entries = read_u64(p + 32);
        n_directory = read_u64(p + 40);
        directory = read_u64(p + 48);
        end = (size_t)at;
    }
    if (disk != 0 || first_disk != 0)
        return fail(a, err, "it is one of several parts");
    if (directory > end || n_directory > end - directory)
        return fail(a, err, "the central directory lies outside");
    if (n_entries > n_directory / CENTRAL_SIZE)
        return fail(a, err, "more entries than the central directory can hold");
    a->directory = (size_t)directory;
    a->n_directory = (size_t)n_directory;
    a->n_entries = n_entries;
    return UTTER_OK;
}

/* ---- Entries -------------------------------------------------------------------------------- */

/* The 64-bit fields of an entry: those whose 32-bit form is all ones, in this order. */
static bool read_zip64(const uint8_t *extra, size_t n, uint64_t *field[3])
{
    bool needed = false;
    for (int i = 0; i < 3; i++)
        needed = needed || *field[i] == UINT32_MAX;
    while (needed && n >= 4) {
        const size_t id = read_u16(extra), size = read_u16(extra + 2);
        if (size > n - 4)
            return false;
        if (id == 1) {
            size_t at = 0;
            for (int i = 0; i < 3; i++) {
                if (*field[i] != UINT32_MAX)
                    continue;
                if (size - at < 8)
                    return false;
                *field[i] = read_u64(extra + 4 + at);
                at += 8;
            }
            return true;
        }
        extra += 4 + size;
        n -= 4 + size;
    }
    return !needed;
}

/* Where the data of an entry begins, behind its local header. */
static utter_status locate(const archive *a, ut_zip_entry *e, uint64_t local, uint64_t size,
                           ut_err *err)
{
    const int n_name = e->n_name < 200 ? (int)e->n_name : 200;
    const size_t n = a->directory; /* entries lie before the directory */
    if (local > n || n - local < LOCAL_SIZE || read_u32(a->data + local) != LOCAL_MAGIC)
        return ut_fail(err, UTTER_ERR_FORMAT,
                       "%s: zip entry \"%.*s\": no local header at byte %" PRIu64, a->file, n_name,
                       e->name, local);
    const uint8_t *p = a->data + local;
    const uint64_t begin = local + LOCAL_SIZE + read_u16(p + 26) + read_u16(p + 28);
    if (begin > n || size > n - begin)
        return ut_fail(err, UTTER_ERR_FORMAT,
                       "%s: zip entry \"%.*s\": %" PRIu64 " bytes at byte %" PRIu64
                       ", but the central directory begins at %zu",
                       a->file, n_name, e->name, size, begin, n);
    if (read_u16(p + 26) != e->n_name || memcmp(p + LOCAL_SIZE, e->name, e->n_name) != 0)
        return ut_fail(err, UTTER_ERR_FORMAT,
                       "%s: zip entry \"%.*s\": its local header has another name", a->file, n_name,
                       e->name);
    e->data = a->data + begin;
    e->size = (size_t)size;
    return UTTER_OK;
}

/* One record of the central directory at *at, which moves behind it. */
static utter_status read_entry(const archive *a, size_t *at, ut_zip_entry *e, ut_err *err)
{
    const uint8_t *p = a->data + a->directory + *at;
    const size_t left = a->n_directory - *at;
    if (left < CENTRAL_SIZE || read_u32(p) != CENTRAL_MAGIC)
        return fail(a, err, "a record of the central directory is missing");
    const size_t n_name = read_u16(p + 28), n_extra = read_u16(p + 30),
                 n_comment = read_u16(p + 32);
    const size_t n = CENTRAL_SIZE + n_name + n_extra + n_comment;
    if (left < n)
        return fail(a, err, "a record of the central directory is cut off");
    e->name = (const char *)p + CENTRAL_SIZE;
    e->n_name = n_name;
    *at += n;

    const int n_shown = n_name < 200 ? (int)n_name : 200;
    uint64_t packed = read_u32(p + 20), size = read_u32(p + 24), local = read_u32(p + 42);
    uint64_t *field[3] = {&size, &packed, &local};
    if (!read_zip64(p + CENTRAL_SIZE + n_name, n_extra, field))
        return ut_fail(err, UTTER_ERR_FORMAT, "%s: zip entry \"%.*s\": damaged zip64 field",
                       a->file, n_shown, e->name);
    if (read_u16(p + 8) & 1)
        return ut_fail(err, UTTER_ERR_FORMAT, "%s: zip entry \"%.*s\" is encrypted", a->file,
                       n_shown, e->name);
    if (read_u16(p + 10) != 0)
        return ut_fail(err, UTTER_ERR_FORMAT,
                       "%s: zip entry \"%.*s\" is compressed (method %d), expected stored; "
                       "torch.save does not compress, so repack the archive without compression",
                       a->file, n_shown, e->name, read_u16(p + 10));
    if (packed != size)
        return ut_fail(err, UTTER_ERR_FORMAT,
                       "%s: zip entry \"%.*s\": stored in %" PRIu64 " bytes, expected %" PRIu64,
                       a->file, n_shown, e->name, packed, size);
    return locate(a, e, local, size, err);
}

static int compare_entries(const void *a, const void *b)
{
    const ut_zip_entry *x = a, *y = b;
    const size_t n = x->n_name < y->n_name ? x->n_name : y->n_name;
    const int order = n > 0 ? memcmp(x->name, y->name, n) : 0;
    return order != 0 ? order : (x->n_name > y->n_name) - (x->n_name < y->n_name);
}

utter_status ut_zip_open(ut_zip *z, const char *file, const uint8_t *data, size_t size, ut_err *err)
{
    *z = (ut_zip){0};
    archive a = {.file = file, .data = data, .size = size};
    utter_status st = read_end(&a, err);
    if (st != UTTER_OK)
        return st;
    z->entry = ut_calloc((size_t)a.n_entries, sizeof *z->entry);
    if (!z->entry)
        return ut_fail(err, UTTER_ERR_NOMEM, "%s: list of zip entries", file);
    size_t at = 0;
    for (uint64_t i = 0; i < a.n_entries && st == UTTER_OK; i++) {
        ut_zip_entry *e = &z->entry[z->n];
        st = read_entry(&a, &at, e, err);
        if (e->n_name > 0 && e->name[e->n_name - 1] != '/')
            z->n++;
    }
    if (st == UTTER_OK && z->n > 0)
        qsort(z->entry, z->n, sizeof *z->entry, compare_entries);
    for (size_t i = 1; i < z->n && st == UTTER_OK; i++)
        if (compare_entries(&z->entry[i - 1], &z->entry[i]) == 0)
            st =
                ut_fail(err, UTTER_ERR_FORMAT, "%s: two zip entries are called \"%.*s\"", file,
                        z->entry[i].n_name < 200 ? (int)z->entry[i].n_name : 200, z->entry[i].name);
    if (st != UTTER_OK)
        ut_zip_close(z);
    return st;
}

void ut_zip_close(ut_zip *z)
{
    ut_free(z->entry);
    *z = (ut_zip){0};
}

const ut_zip_entry *ut_zip_find(const ut_zip *z, const char *name, size_t n_name)
{
    const ut_zip_entry key = {.name = name, .n_name = n_name};
    return z->n > 0 ? bsearch(&key, z->entry, z->n, sizeof key, compare_entries) : NULL;
}
