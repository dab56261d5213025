/* os.h - everything that differs between systems: os_posix.c and os_win32.c implement it, and no
 * other file has a system #ifdef (os.c holds what is the same everywhere). Paths are UTF-8
 * everywhere. A path that does not exist is ERR_NOT_FOUND, everything else ERR_IO. */
#ifndef UT_BASE_OS_H
#define UT_BASE_OS_H

#include "base/err.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

/* A file mapped read-only. An empty file maps to data NULL, size 0. */
typedef struct ut_map {
    const uint8_t *data;
    size_t size;
    void *handle; /* private to the implementation */
} ut_map;
utter_status ut_map_open(ut_map *m, const char *path, ut_err *err);
void ut_map_close(ut_map *m); /* zeroed map is fine */
/* The pages of [p, p+size) have been copied elsewhere: the system may drop them. A hint. */
void ut_map_release(const void *p, size_t size);
/* This memory will be used, all of it: the system may give it in large pages. */
void ut_memory_large(void *p, size_t size);

FILE *ut_fopen(const char *path, const char *mode); /* sets errno */
bool ut_file_exists(const char *path);              /* a regular file */
bool ut_dir_exists(const char *path);
utter_status ut_mkdirs(const char *path, ut_err *err);
utter_status ut_remove(const char *path, ut_err *err); /* a file or an empty directory */
/* Atomic where the system can: the destination is replaced as a whole. */
utter_status ut_rename(const char *from, const char *to, ut_err *err);
/* Names in a directory (no "." and ".."), sorted, newly allocated; free each and the array. */
utter_status ut_list_dir(const char *path, char ***names, size_t *n, ut_err *err);
void ut_list_free(char **names, size_t n);
char *ut_path_join(const char *dir, const char *name); /* newly allocated or NULL */
/* Where a user's voices and caches live, e.g. ~/.local/share/utter, ~/.cache/utter,
 * %LOCALAPPDATA%\utter. Newly allocated; NULL when the system names no such place. */
char *ut_user_data_dir(void);
char *ut_user_cache_dir(void);
char *ut_exe_dir(void); /* directory of the running program, or NULL */
/* Read a whole file of at most max bytes; data is newly allocated, with a 0 byte after it. */
utter_status ut_read_file(const char *path, size_t max, uint8_t **data, size_t *size, ut_err *err);

double ut_time_now(void);      /* monotonic, seconds */
void ut_sleep(double seconds); /* at least so long, or as short as the system can */
size_t ut_peak_rss(void);      /* bytes */
size_t ut_current_rss(void);   /* bytes */
int ut_physical_cores(void);   /* that this process may use; >= 1 */
bool ut_is_terminal(FILE *f);
void ut_binary_mode(FILE *f); /* no newline translation on stdin/stdout */

/* For main: the program's arguments as UTF-8 whatever the system passes, and a console that shows
 * UTF-8. *argv is replaced where the two differ and lives until the program ends. */
void ut_main_args(int *argc, char ***argv);

/* ---- For programs, never the library. ---- */

/* The user's wish to stop (Ctrl-C, a request to terminate, a closed console) calls stop(user) the
 * first time instead of ending the program, and ends it the second time. stop runs in a signal
 * handler or in another thread: it may set atomics, no more. From here on, writing to a pipe that
 * nobody reads is an error and does not end the program. stop NULL: as before the first call. */
void ut_on_interrupt(void (*stop)(void *), void *user);

/* Full path of a program that the shell would find, newly allocated; NULL: there is none. */
char *ut_find_program(const char *name);
/* Create an empty file of a new name that ends in suffix, in the system's folder for such files. */
utter_status ut_temp_file(char **path, const char *suffix, ut_err *err);

/* Another program. argv[0] is its full path; argv ends with NULL. Its standard input is what
 * ut_process_write writes, its standard output is discarded. */
typedef struct ut_process ut_process;
utter_status ut_process_start(ut_process **out, const char *const *argv, ut_err *err);
/* Blocks while the program does not read; false once it no longer does. */
bool ut_process_write(ut_process *p, const void *data, size_t n);
/* End its input, wait for its end and free p; the exit code, or -1 when it was killed. */
int ut_process_wait(ut_process *p);
void ut_process_kill(ut_process *p); /* ask it to end; wait still has to be called */

/* Threads. */
typedef struct ut_thread ut_thread;
typedef struct ut_mutex ut_mutex;
typedef struct ut_cond ut_cond;
/* core: which of the ut_physical_cores() the thread stays on; < 0: not pinned. NULL: no memory or
 * the system refuses. */
ut_thread *ut_thread_start(void (*fn)(void *), void *arg, int core);
void ut_thread_join(ut_thread *t);
void ut_thread_pause(void); /* spin-wait hint */
ut_mutex *ut_mutex_new(void);
void ut_mutex_free(ut_mutex *m);
void ut_mutex_lock(ut_mutex *m);
void ut_mutex_unlock(ut_mutex *m);
ut_cond *ut_cond_new(void);
void ut_cond_free(ut_cond *c);
void ut_cond_wait(ut_cond *c, ut_mutex *m);
void ut_cond_broadcast(ut_cond *c);

#endif
