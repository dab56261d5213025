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
    /* "auto" takes the first that is available. */
    static const ut_backend_ops *const all[] = {
#if UT_HAVE_CUDA
        &ut_backend_cuda,
#endif
        &ut_backend_cpu,
        NULL
    };
    return all;
}

utter_status ut_backend_find_after(const ut_backend_ops **ops, const ut_backend_ops *before,
                                   int device, ut_err *err)
{
    char text[512] = "", why[256];
    size_t at = 0;
    bool wanted = !before;
    *ops = NULL;
    for (const ut_backend_ops *const *b = ut_backends(); *b; b++) {
        if (!wanted) {
            wanted = *b == before;
            continue;
        }
        if ((*b)->probe(device, why, sizeof why)) {
            *ops = *b;
            return UTTER_OK;
        }
        const int n = at >= sizeof text ? 0
                                        : snprintf(text + at, sizeof text - at, "%s%s: %s",
                                                   at ? "; " : "", (*b)->name, why);
        at += n > 0 ? (size_t)n : 0;
    }
    return ut_fail(err, UTTER_ERR_BACKEND, "no backend is available: %s", text);
}

utter_status ut_backend_find(const ut_backend_ops **ops, const char *name, int device, ut_err *err)
{
    *ops = NULL;
    if (!name || strcmp(name, "auto") == 0)
        return ut_backend_find_after(ops, NULL, device, err);
    char text[256] = "";
    for (const ut_backend_ops *const *b = ut_backends(); *b; b++)
        if (strcmp((*b)->name, name) == 0) {
            if (!(*b)->probe(device, text, sizeof text))
                return ut_fail(err, UTTER_ERR_BACKEND, "backend %s is not available: %s", name,
                               text);
            *ops = *b;
            return UTTER_OK;
        }
    size_t at = 0;
    for (const ut_backend_ops *const *b = ut_backends(); *b && at < sizeof text; b++) {
        const int n = snprintf(text + at, sizeof text - at, "%s%s", at ? ", " : "", (*b)->name);
        at += n > 0 ? (size_t)n : 0;
    }
    return ut_fail(err, UTTER_ERR_BACKEND, "no backend is called %s; this build has: %s", name,
                   text);
}

utter_status ut_backend_open(ut_backend **out, const char *name, const ut_backend_params *params,
                             ut_err *err)
{
    const ut_backend_ops *ops;
    *out = NULL;
    const utter_status st = ut_backend_find(&ops, name, params->device, err);
    return st == UTTER_OK ? ops->open(out, params, err) : st;
}
