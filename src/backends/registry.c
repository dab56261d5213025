/* registry.c - the backends of this build, and opening one by name. */
#include "backends/backend.h"
#include "backends/cpu/cpu.h"
#if UT_HAVE_CUDA
#include "backends/cuda/cuda.h"
#endif
#include <stdio.h>
#include <string.h>

const ut_backend_ops *const *ut_backends(void)
{
    /* "auto" takes the first that is available. CUDA is last, for those who ask for it by name,
     * until it has been measured on devices. */
    static const ut_backend_ops *const all[] = {
        &ut_backend_cpu,
#if UT_HAVE_CUDA
        &ut_backend_cuda,
#endif
        NULL
    };
    return all;
}

static utter_status open_any(ut_backend **out, const ut_backend_params *params, ut_err *err)
{
    char why[256] = "this build has none";
    for (const ut_backend_ops *const *b = ut_backends(); *b; b++)
        if ((*b)->probe(params->device, why, sizeof why))
            return (*b)->open(out, params, err);
    return ut_fail(err, UTTER_ERR_BACKEND, "no backend is available: %s", why);
}

utter_status ut_backend_open(ut_backend **out, const char *name, const ut_backend_params *params,
                             ut_err *err)
{
    *out = NULL;
    if (!name || strcmp(name, "auto") == 0)
        return open_any(out, params, err);
    char text[256] = "";
    for (const ut_backend_ops *const *b = ut_backends(); *b; b++)
        if (strcmp((*b)->name, name) == 0) {
            if ((*b)->probe(params->device, text, sizeof text))
                return (*b)->open(out, params, err);
            return ut_fail(err, UTTER_ERR_BACKEND, "backend %s is not available: %s", name, text);
        }
    size_t at = 0;
    for (const ut_backend_ops *const *b = ut_backends(); *b && at < sizeof text; b++) {
        const int n = snprintf(text + at, sizeof text - at, "%s%s", at ? ", " : "", (*b)->name);
        at += n > 0 ? (size_t)n : 0;
    }
    return ut_fail(err, UTTER_ERR_BACKEND, "no backend is called %s; this build has: %s", name,
                   text);
}
