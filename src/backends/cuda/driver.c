/* driver.c - finding the CUDA driver. */
#include "backends/cuda/driver.h"
#include <stdio.h>
#include <string.h>

/* Linux, WSL, Windows. */
static ut_dynlib *open_library(void)
{
    static const char *const names[] = {"libcuda.so.1", "nvcuda.dll"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        ut_dynlib *lib = ut_dynlib_open(names[i]);
        if (lib)
            return lib;
    }
    return NULL;
}

bool cu_driver_open(cu_driver *d, char *why, size_t size)
{
    memset(d, 0, sizeof *d);
    d->lib = open_library();
    if (!d->lib) {
        snprintf(why, size, "no NVIDIA driver (libcuda.so.1 or nvcuda.dll) on this machine");
        return false;
    }
#define X(name, symbol, parameters)                                                                \
    if (!ut_dynlib_find(d->lib, symbol, &d->name)) {                                               \
        snprintf(why, size, "the NVIDIA driver is too old: it has no %s", symbol);                 \
        goto fail;                                                                                 \
    }
    CU_DRIVER_FUNCTIONS(X)
#undef X
#define X(name, symbol, parameters) (void)ut_dynlib_find(d->lib, symbol, &d->name);
    CU_DRIVER_LATER(X)
#undef X
    const cu_result r = d->init(0);
    if (r != CU_OK) {
        snprintf(why, size, "the NVIDIA driver does not start: %s", cu_driver_text(d, r));
        goto fail;
    }
    return true;
fail:
    cu_driver_close(d);
    return false;
}

void cu_driver_close(cu_driver *d)
{
    ut_dynlib_close(d->lib);
    d->lib = NULL;
}

const char *cu_driver_text(const cu_driver *d, cu_result r)
{
    const char *text = NULL;
    if (d->error_string(r, &text) != CU_OK || !text)
        return "unknown error";
    return text;
}
