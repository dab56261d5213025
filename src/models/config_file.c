/* config_file.c - see config_file.h. */
#include "models/config_file.h"
#include "base/alloc.h"
#include "base/os.h"

utter_status ut_config_open(ut_json **doc, const char *dir, const char *name, ut_err *err)
{
    *doc = NULL;
    char *path = ut_path_join(dir, name);
    if (!path)
        return ut_fail(err, UTTER_ERR_NOMEM, "%s: no memory", dir);
    const utter_status st = ut_json_read(doc, path, UT_JSON_MAX_BYTES, err);
    ut_free(path);
    return st;
}
