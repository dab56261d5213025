/* os.c - the part of os.h that is the same on every system. */
#include "base/os.h"
#include "base/alloc.h"
#include <errno.h>
#include <string.h>

void ut_list_free(char **names, size_t n)
{
    for (size_t i = 0; i < n; i++)
        ut_free(names[i]);
    ut_free(names);
}

char *ut_path_join(const char *dir, const char *name)
{
    size_t n = strlen(dir);
    bool slash = n > 0 && (dir[n - 1] == '/' || dir[n - 1] == '\\');
    return ut_asprintf("%s%s%s", dir, n == 0 || slash ? "" : "/", name);
}

/* Reads in growing steps, so that pipes and files whose size lies work too. */
utter_status ut_read_file(const char *path, size_t max, uint8_t **data, size_t *size, ut_err *err)
{
    *data = NULL;
    *size = 0;
    FILE *f = ut_fopen(path, "rb");
    if (!f)
        return ut_fail(err,
                       errno == ENOENT   ? UTTER_ERR_NOT_FOUND
                       : errno == ENOMEM ? UTTER_ERR_NOMEM
                                         : UTTER_ERR_IO,
                       "%s: %s", path, strerror(errno));
    utter_status st = UTTER_OK;
    uint8_t *bytes = NULL;
    size_t n = 0, cap = 0;
    for (;;) {
        if (n == cap) {
            size_t grown = cap ? cap * 2 : 4096;
            uint8_t *more = cap > SIZE_MAX / 4 ? NULL : ut_realloc(bytes, grown + 1, 1);
            if (!more) {
                st = ut_fail(err, UTTER_ERR_NOMEM, "%s: no memory for its content", path);
                goto done;
            }
            bytes = more;
            cap = grown;
        }
        size_t got = fread(bytes + n, 1, cap - n, f);
        n += got;
        if (n > max) {
            st = ut_fail(err, UTTER_ERR_LIMIT, "%s: longer than %zu bytes", path, max);
            goto done;
        }
        if (got == 0)
            break;
    }
    if (ferror(f)) {
        st = ut_fail(err, UTTER_ERR_IO, "%s: %s", path, strerror(errno));
        goto done;
    }
    bytes[n] = 0;
    *data = bytes;
    *size = n;
    bytes = NULL;
done:
    ut_free(bytes);
    fclose(f);
    return st;
}
