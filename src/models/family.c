/* family.c - the list of model families, and opening a directory with the one that knows it. */
#include "base/os.h"
#include "models/model.h"
#include "models/s1_mini/s1_mini.h"
#include <stdio.h>

static const ut_model_ops *const families[] = {&ut_s1_mini_ops, NULL};

const ut_model_ops *const *ut_model_families(void)
{
    return families;
}

utter_status ut_model_open(ut_model **out, const char *dir, const ut_model_options *options,
                           ut_err *err)
{
    *out = NULL;
    if (!ut_dir_exists(dir))
        return ut_fail(err, UTTER_ERR_NOT_FOUND, "%s: no such directory, expected a checkpoint",
                       dir);
    for (const ut_model_ops *const *f = families; *f; f++)
        if ((*f)->match(dir))
            return (*f)->open(out, dir, options, err);
    char known[256] = "";
    size_t n = 0;
    for (const ut_model_ops *const *f = families; *f && n < sizeof known; f++)
        n += (size_t)snprintf(known + n, sizeof known - n, "%s%s", n ? ", " : "", (*f)->family);
    return ut_fail(err, UTTER_ERR_MODEL,
                   "%s: config.json is missing or of no model family that utter knows (%s)", dir,
                   known);
}

void ut_model_free(ut_model *m)
{
    if (m)
        m->ops->free(m);
}
