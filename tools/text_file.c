/* text_file.c - see text_file.h. */
#include "text_file.h"

#include "base/alloc.h"
#include "base/os.h"
#include <errno.h>
#include <string.h>

utter_status text_file_write(const char *dir, const char *name, const ut_buf *text, bool complete,
                             ut_err *err)
{
    utter_status st = UTTER_OK;
    char *path = ut_path_join(dir, name);
    if (!path || !complete) {
        ut_free(path);
        return ut_fail(err, UTTER_ERR_NOMEM, "%s: %s", dir, name);
    }
    FILE *f = ut_fopen(path, "wb");
    const bool written = f && fwrite(text->data, 1, text->len, f) == text->len;
    if ((f && fclose(f) != 0) || !written)
        st = ut_fail(err, UTTER_ERR_IO, "%s: %s", path, strerror(errno));
    ut_free(path);
    return st;
}
