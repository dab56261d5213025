/* dynlib.h - libraries of the system that are looked for at run time and may be missing: GPU
 * drivers, inference runtimes. dynlib_posix.c and dynlib_win32.c implement it. */
#ifndef UT_BASE_DYNLIB_H
#define UT_BASE_DYNLIB_H

#include <stdbool.h>

typedef struct ut_dynlib ut_dynlib;

/* Open a library by the name the system's loader looks for; NULL: there is none that can be
 * loaded. */
ut_dynlib *ut_dynlib_open(const char *name);
void ut_dynlib_close(ut_dynlib *lib); /* NULL is fine */

/* Put the address of function `name` into *fn, a pointer to a function; false: it is not there. */
bool ut_dynlib_find(ut_dynlib *lib, const char *name, void *fn);

#endif
