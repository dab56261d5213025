/* dynlib_win32.c - dynlib.h through LoadLibrary, from the system's folders and the program's. */
#define WIN32_LEAN_AND_MEAN
#include "base/dynlib.h"
#include <string.h>
#include <windows.h>

ut_dynlib *ut_dynlib_open(const char *name)
{
    return (ut_dynlib *)LoadLibraryExA(name, NULL, LOAD_LIBRARY_SEARCH_DEFAULT_DIRS);
}

void ut_dynlib_close(ut_dynlib *lib)
{
    if (lib)
        FreeLibrary((HMODULE)lib);
}

bool ut_dynlib_find(ut_dynlib *lib, const char *name, void *fn)
{
    FARPROC address = GetProcAddress((HMODULE)lib, name);
    memcpy(fn, &address, sizeof address);
    return address != NULL;
}
