/* dynlib_posix.c - dynlib.h through dlopen. */
#include "base/dynlib.h"
#include <dlfcn.h>
#include <string.h>

ut_dynlib *ut_dynlib_open(const char *name)
{
    return (ut_dynlib *)dlopen(name, RTLD_NOW | RTLD_LOCAL);
}

void ut_dynlib_close(ut_dynlib *lib)
{
    if (lib)
        dlclose(lib);
}

bool ut_dynlib_find(ut_dynlib *lib, const char *name, void *fn)
{
    void *address = dlsym(lib, name);
    memcpy(fn, &address, sizeof address); /* POSIX: data and function pointers are alike */
    return address != NULL;
}
