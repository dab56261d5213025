/* os_win32.c - os.h on Windows: UTF-8 outside, UTF-16 towards the system. */
#define WIN32_LEAN_AND_MEAN
#include "base/os.h"
#include "base/alloc.h"
#include "base/buf.h"
#include <windows.h>
#include <shellapi.h>
#include <psapi.h>
#include <errno.h>
#include <fcntl.h>
#include <io.h>
#include <stdlib.h>
#include <string.h>

/* ---- Text ----------------------------------------------------------------------------------- */

/* NULL with errno set: invalid UTF-8 or no memory. */
static wchar_t *to_wide(const char *s)
{
    int n = MultiByteToWideChar(CP_UTF8, MB_ERR_INVALID_CHARS, s, -1, NULL, 0);
    if (n <= 0) {
        errno = EINVAL;
        return NULL;
    }
    wchar_t *w = ut_calloc((size_t)n, sizeof *w);
    if (!w) {
        errno = ENOMEM;
        return NULL;
    }
    MultiByteToWideChar(CP_UTF8, MB_ERR_INVALID_CHARS, s, -1, w, n);
    return w;
}

/* The same for paths, into a caller's array, so that they cost no allocation; errno as above. The
 * system itself takes 260 characters, a few more with some settings. */
#define PATH_CHARS 1024

static bool to_path(const char *s, wchar_t w[PATH_CHARS])
{
    if (MultiByteToWideChar(CP_UTF8, MB_ERR_INVALID_CHARS, s, -1, w, PATH_CHARS) > 0)
        return true;
    errno = GetLastError() == ERROR_INSUFFICIENT_BUFFER ? ENAMETOOLONG : EINVAL;
    return false;
}

static char *from_wide(const wchar_t *w)
{
    int n = WideCharToMultiByte(CP_UTF8, 0, w, -1, NULL, 0, NULL, NULL);
    char *s = n > 0 ? ut_malloc((size_t)n) : NULL;
    if (s)
        WideCharToMultiByte(CP_UTF8, 0, w, -1, s, n, NULL, NULL);
    return s;
}

static utter_status fail_code(ut_err *err, const char *path, DWORD code)
{
    bool missing = code == ERROR_FILE_NOT_FOUND || code == ERROR_PATH_NOT_FOUND;
    wchar_t text[256];
    DWORD n = FormatMessageW(FORMAT_MESSAGE_FROM_SYSTEM | FORMAT_MESSAGE_IGNORE_INSERTS, NULL, code,
                             0, text, sizeof text / sizeof text[0], NULL);
    while (n > 0 && (text[n - 1] <= L' ' || text[n - 1] == L'.'))
        n--;
    text[n] = 0;
    char *utf8 = from_wide(text);
    utter_status st =
        ut_fail(err, missing ? UTTER_ERR_NOT_FOUND : UTTER_ERR_IO, "%s: %s (Windows error %lu)",
                path, utf8 && *utf8 ? utf8 : "failed", (unsigned long)code);
    ut_free(utf8);
    return st;
}

static utter_status fail_path(ut_err *err, const char *path)
{
    return ut_fail(err, UTTER_ERR_ARG, "%s: the path is %s", path,
                   errno == ENAMETOOLONG ? "too long" : "not valid UTF-8");
}

/* ---- Files ---------------------------------------------------------------------------------- */

utter_status ut_map_open(ut_map *m, const char *path, ut_err *err)
{
    memset(m, 0, sizeof *m);
    wchar_t w[PATH_CHARS];
    if (!to_path(path, w))
        return fail_path(err, path);
    utter_status st = UTTER_OK;
    HANDLE mapping = NULL;
    LARGE_INTEGER size;
    HANDLE file =
        CreateFileW(w, GENERIC_READ, FILE_SHARE_READ | FILE_SHARE_WRITE | FILE_SHARE_DELETE, NULL,
                    OPEN_EXISTING, FILE_ATTRIBUTE_NORMAL, NULL);
    if (file == INVALID_HANDLE_VALUE) {
        st = ut_dir_exists(path) ? ut_fail(err, UTTER_ERR_IO, "%s: not a regular file", path)
                                 : fail_code(err, path, GetLastError());
        goto done;
    }
    if (!GetFileSizeEx(file, &size)) {
        st = fail_code(err, path, GetLastError());
        goto done;
    }
    if (size.QuadPart == 0)
        goto done;
    if ((unsigned long long)size.QuadPart > SIZE_MAX) {
        st = ut_fail(err, UTTER_ERR_LIMIT, "%s: too large to map", path);
        goto done;
    }
    mapping = CreateFileMappingW(file, NULL, PAGE_READONLY, 0, 0, NULL);
    m->data = mapping ? MapViewOfFile(mapping, FILE_MAP_READ, 0, 0, 0) : NULL;
    if (!m->data) {
        st = fail_code(err, path, GetLastError());
        goto done;
    }
    m->size = (size_t)size.QuadPart;
done: /* the view keeps the file alive */
    if (mapping)
        CloseHandle(mapping);
    if (file != INVALID_HANDLE_VALUE)
        CloseHandle(file);
    return st;
}

void ut_map_close(ut_map *m)
{
    if (m->data)
        UnmapViewOfFile(m->data);
    memset(m, 0, sizeof *m);
}

void ut_map_release(const void *p, size_t size)
{
    /* Unlocking pages that are not locked takes them out of the working set. */
    if (size)
        VirtualUnlock((void *)(uintptr_t)p, size);
}

void ut_memory_large(void *p, size_t size)
{
    (void)p, (void)size; /* needs a privilege */
}

FILE *ut_fopen(const char *path, const char *mode)
{
    wchar_t w[PATH_CHARS], wide_mode[PATH_CHARS];
    return to_path(path, w) && to_path(mode, wide_mode) ? _wfopen(w, wide_mode) : NULL;
}

static DWORD attributes(const char *path)
{
    wchar_t w[PATH_CHARS];
    return to_path(path, w) ? GetFileAttributesW(w) : INVALID_FILE_ATTRIBUTES;
}

bool ut_file_exists(const char *path)
{
    DWORD a = attributes(path);
    return a != INVALID_FILE_ATTRIBUTES && !(a & FILE_ATTRIBUTE_DIRECTORY);
}

bool ut_dir_exists(const char *path)
{
    DWORD a = attributes(path);
    return a != INVALID_FILE_ATTRIBUTES && (a & FILE_ATTRIBUTE_DIRECTORY);
}

utter_status ut_mkdirs(const char *path, ut_err *err)
{
    wchar_t w[PATH_CHARS];
    if (!to_path(path, w))
        return fail_path(err, path);
    utter_status st = UTTER_OK;
    for (wchar_t *p = w;; p++) {
        if (*p && *p != L'/' && *p != L'\\')
            continue;
        wchar_t c = *p;
        *p = 0;
        bool root = p == w || p[-1] == L':' || p[-1] == L'/' || p[-1] == L'\\';
        if (!root && !CreateDirectoryW(w, NULL)) {
            DWORD code = GetLastError(), a = GetFileAttributesW(w);
            if (a == INVALID_FILE_ATTRIBUTES || !(a & FILE_ATTRIBUTE_DIRECTORY)) {
                st = fail_code(err, path, code);
                break;
            }
        }
        *p = c;
        if (!c)
            break;
    }
    return st;
}

utter_status ut_remove(const char *path, ut_err *err)
{
    wchar_t w[PATH_CHARS];
    if (!to_path(path, w))
        return fail_path(err, path);
    BOOL ok = ut_dir_exists(path) ? RemoveDirectoryW(w) : DeleteFileW(w);
    return ok ? UTTER_OK : fail_code(err, path, GetLastError());
}

utter_status ut_rename(const char *from, const char *to, ut_err *err)
{
    wchar_t a[PATH_CHARS], b[PATH_CHARS];
    if (!to_path(from, a))
        return fail_path(err, from);
    if (!to_path(to, b))
        return fail_path(err, to);
    if (!MoveFileExW(a, b, MOVEFILE_REPLACE_EXISTING | MOVEFILE_WRITE_THROUGH))
        return fail_code(err, from, GetLastError());
    return UTTER_OK;
}

static int compare_names(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

utter_status ut_list_dir(const char *path, char ***names, size_t *n, ut_err *err)
{
    *names = NULL;
    *n = 0;
    wchar_t pattern[PATH_CHARS];
    if (!to_path(path, pattern))
        return fail_path(err, path);
    size_t len = wcslen(pattern);
    if (len + 3 > PATH_CHARS)
        return ut_fail(err, UTTER_ERR_ARG, "%s: the path is too long", path);
    wcscpy(pattern + len, L"/*");
    WIN32_FIND_DATAW e;
    HANDLE d = FindFirstFileW(pattern, &e);
    if (d == INVALID_HANDLE_VALUE)
        return fail_code(err, path, GetLastError());
    utter_status st = UTTER_OK;
    char **list = NULL;
    size_t count = 0, cap = 0;
    do {
        if (wcscmp(e.cFileName, L".") == 0 || wcscmp(e.cFileName, L"..") == 0)
            continue;
        if (count == cap) {
            size_t grown = cap ? cap * 2 : 16;
            char **more = ut_realloc(list, grown, sizeof *list);
            if (!more)
                goto no_memory;
            list = more;
            cap = grown;
        }
        list[count] = from_wide(e.cFileName);
        if (!list[count])
            goto no_memory;
        count++;
    } while (FindNextFileW(d, &e));
    if (count)
        qsort(list, count, sizeof *list, compare_names);
    *names = list;
    *n = count;
    goto done;
no_memory:
    st = ut_fail(err, UTTER_ERR_NOMEM, "%s: no memory for its names", path);
    ut_list_free(list, count);
done:
    FindClose(d);
    return st;
}

/* ---- Places --------------------------------------------------------------------------------- */

static char *local_app_data(const char *below)
{
    const wchar_t *w = _wgetenv(L"LOCALAPPDATA");
    if (!w || !*w)
        return NULL;
    char *dir = from_wide(w);
    char *path = dir ? ut_path_join(dir, below) : NULL;
    ut_free(dir);
    return path;
}

char *ut_user_data_dir(void)
{
    return local_app_data("utter");
}

char *ut_user_cache_dir(void)
{
    return local_app_data("utter/cache");
}

char *ut_exe_dir(void)
{
    wchar_t path[4096];
    DWORD n = GetModuleFileNameW(NULL, path, sizeof path / sizeof path[0]);
    if (n == 0 || n == sizeof path / sizeof path[0])
        return NULL;
    while (n > 1 && path[n - 1] != L'\\' && path[n - 1] != L'/')
        n--;
    path[n - 1] = 0;
    return from_wide(path);
}

void ut_main_args(int *argc, char ***argv)
{
    SetConsoleOutputCP(CP_UTF8);
    int n;
    wchar_t **wide = CommandLineToArgvW(GetCommandLineW(), &n);
    if (!wide)
        return;
    char **args = ut_calloc((size_t)n + 1, sizeof *args);
    bool ok = args != NULL;
    for (int i = 0; ok && i < n; i++)
        ok = (args[i] = from_wide(wide[i])) != NULL;
    LocalFree(wide);
    if (ok) {
        *argc = n;
        *argv = args;
    }
}

/* ---- Time, memory, terminal ----------------------------------------------------------------- */

double ut_time_now(void)
{
    LARGE_INTEGER count, per_second;
    QueryPerformanceCounter(&count);
    QueryPerformanceFrequency(&per_second);
    return (double)count.QuadPart / (double)per_second.QuadPart;
}

void ut_sleep(double seconds)
{
    Sleep((DWORD)(seconds * 1e3));
}

size_t ut_peak_rss(void)
{
    PROCESS_MEMORY_COUNTERS c;
    return K32GetProcessMemoryInfo(GetCurrentProcess(), &c, sizeof c) ? c.PeakWorkingSetSize : 0;
}

size_t ut_current_rss(void)
{
    PROCESS_MEMORY_COUNTERS c;
    return K32GetProcessMemoryInfo(GetCurrentProcess(), &c, sizeof c) ? c.WorkingSetSize : 0;
}

bool ut_is_terminal(FILE *f)
{
    return _isatty(_fileno(f)) != 0;
}

void ut_binary_mode(FILE *f)
{
    _setmode(_fileno(f), _O_BINARY);
}

/* ---- Cores ---------------------------------------------------------------------------------- */

#define MAX_CORES 64 /* of one processor group, the one a process starts in */

static struct {
    int n;
    ULONG_PTR mask[MAX_CORES]; /* the allowed logical processors of each physical core */
} cores;

static BOOL CALLBACK detect_cores(INIT_ONCE *once, void *user, void **context)
{
    (void)once;
    (void)user;
    (void)context;
    DWORD_PTR allowed = 0, of_system;
    DWORD size = 0;
    GetProcessAffinityMask(GetCurrentProcess(), &allowed, &of_system);
    GetLogicalProcessorInformation(NULL, &size);
    SYSTEM_LOGICAL_PROCESSOR_INFORMATION *info = ut_malloc(size);
    if (info && GetLogicalProcessorInformation(info, &size))
        for (size_t i = 0; i < size / sizeof *info && cores.n < MAX_CORES; i++)
            if (info[i].Relationship == RelationProcessorCore && (info[i].ProcessorMask & allowed))
                cores.mask[cores.n++] = info[i].ProcessorMask & allowed;
    ut_free(info);
    if (cores.n == 0) {
        cores.n = 1;
        cores.mask[0] = allowed;
    }
    return TRUE;
}

static INIT_ONCE cores_once = INIT_ONCE_STATIC_INIT;

int ut_physical_cores(void)
{
    InitOnceExecuteOnce(&cores_once, detect_cores, NULL, NULL);
    return cores.n;
}

/* ---- Threads -------------------------------------------------------------------------------- */

struct ut_thread {
    HANDLE handle;
    void (*fn)(void *);
    void *arg;
};

static DWORD WINAPI run_thread(void *p)
{
    ut_thread *t = p;
    t->fn(t->arg);
    return 0;
}

ut_thread *ut_thread_start(void (*fn)(void *), void *arg, int core)
{
    ut_thread *t = ut_malloc(sizeof *t);
    if (!t)
        return NULL;
    t->fn = fn;
    t->arg = arg;
    t->handle = CreateThread(NULL, 0, run_thread, t, CREATE_SUSPENDED, NULL);
    if (!t->handle) {
        ut_free(t);
        return NULL;
    }
    if (core >= 0 && core < ut_physical_cores())
        SetThreadAffinityMask(t->handle, cores.mask[core]);
    ResumeThread(t->handle);
    return t;
}

void ut_thread_join(ut_thread *t)
{
    if (!t)
        return;
    WaitForSingleObject(t->handle, INFINITE);
    CloseHandle(t->handle);
    ut_free(t);
}

struct ut_mutex {
    SRWLOCK lock;
};

struct ut_cond {
    CONDITION_VARIABLE c;
};

ut_mutex *ut_mutex_new(void)
{
    ut_mutex *m = ut_malloc(sizeof *m);
    if (m)
        InitializeSRWLock(&m->lock);
    return m;
}

void ut_mutex_free(ut_mutex *m)
{
    ut_free(m);
}

void ut_mutex_lock(ut_mutex *m)
{
    AcquireSRWLockExclusive(&m->lock);
}

void ut_mutex_unlock(ut_mutex *m)
{
    ReleaseSRWLockExclusive(&m->lock);
}

ut_cond *ut_cond_new(void)
{
    ut_cond *c = ut_malloc(sizeof *c);
    if (c)
        InitializeConditionVariable(&c->c);
    return c;
}

void ut_cond_free(ut_cond *c)
{
    ut_free(c);
}

void ut_cond_wait(ut_cond *c, ut_mutex *m)
{
    SleepConditionVariableSRW(&c->c, &m->lock, INFINITE, 0);
}

void ut_cond_broadcast(ut_cond *c)
{
    WakeAllConditionVariable(&c->c);
}

/* ---- Programs ------------------------------------------------------------------------------- */

static struct {
    void (*stop)(void *);
    void *user;
    volatile LONG asked;
} interrupt;

static BOOL WINAPI on_control(DWORD event)
{
    if (InterlockedExchange(&interrupt.asked, 1))
        return FALSE; /* the second time ends the program */
    interrupt.stop(interrupt.user);
    if (event == CTRL_CLOSE_EVENT || event == CTRL_LOGOFF_EVENT || event == CTRL_SHUTDOWN_EVENT)
        Sleep(5000); /* the system ends the program when this returns: let main finish the file */
    return TRUE;
}

void ut_on_interrupt(void (*stop)(void *), void *user)
{
    SetConsoleCtrlHandler(on_control, FALSE);
    if (!stop)
        return;
    interrupt.stop = stop;
    interrupt.user = user;
    interrupt.asked = 0;
    SetConsoleCtrlHandler(on_control, TRUE);
}

char *ut_find_program(const char *name)
{
    wchar_t *w = to_wide(name), path[MAX_PATH];
    DWORD n = w ? SearchPathW(NULL, w, L".exe", MAX_PATH, path, NULL) : 0;
    ut_free(w);
    return n > 0 && n < MAX_PATH ? from_wide(path) : NULL;
}

utter_status ut_temp_file(char **path, const char *suffix, ut_err *err)
{
    wchar_t folder[MAX_PATH + 1], name[MAX_PATH];
    *path = NULL;
    if (!GetTempPathW(MAX_PATH + 1, folder) || !GetTempFileNameW(folder, L"utt", 0, name))
        return fail_code(err, "a temporary file", GetLastError());
    char *reserved = from_wide(name);
    *path = reserved ? ut_asprintf("%s%s", reserved, suffix) : NULL;
    utter_status st = *path ? ut_rename(reserved, *path, err)
                            : ut_fail(err, UTTER_ERR_NOMEM, "no memory for a path");
    if (st != UTTER_OK) {
        ut_free(*path);
        *path = NULL;
    }
    ut_free(reserved);
    return st;
}

struct ut_process {
    HANDLE process, input; /* our end of its standard input */
};

/* Append one argument so that CommandLineToArgvW gives it back: quoted, with backslashes doubled
 * where a quotation mark follows. */
static bool put_argument(ut_buf *line, const char *arg)
{
    bool ok = ut_buf_puts(line, line->len ? " \"" : "\"");
    for (const char *s = arg; ok;) {
        size_t n = strspn(s, "\\");
        bool before_quote = s[n] == '"' || !s[n];
        for (size_t i = 0; ok && i < (before_quote ? 2 * n : n); i++)
            ok = ut_buf_puts(line, "\\");
        s += n;
        if (!*s)
            break;
        ok = ok && (*s != '"' || ut_buf_puts(line, "\\")) && ut_buf_append(line, s, 1);
        s++;
    }
    return ok && ut_buf_puts(line, "\"");
}

static utter_status spawn(ut_process *p, const char *name, wchar_t *line, ut_err *err)
{
    SECURITY_ATTRIBUTES inherit = {.nLength = sizeof inherit, .bInheritHandle = TRUE};
    HANDLE theirs;
    if (!CreatePipe(&theirs, &p->input, &inherit, 0))
        return fail_code(err, name, GetLastError());
    SetHandleInformation(p->input, HANDLE_FLAG_INHERIT, 0);
    HANDLE nothing = CreateFileW(L"NUL", GENERIC_WRITE, FILE_SHARE_READ | FILE_SHARE_WRITE,
                                 &inherit, OPEN_EXISTING, 0, NULL);
    STARTUPINFOW start = {.cb = sizeof start,
                          .dwFlags = STARTF_USESTDHANDLES,
                          .hStdInput = theirs,
                          .hStdOutput = nothing,
                          .hStdError = nothing};
    PROCESS_INFORMATION info;
    utter_status st = UTTER_OK;
    if (CreateProcessW(NULL, line, NULL, NULL, TRUE, CREATE_NO_WINDOW, NULL, NULL, &start, &info)) {
        p->process = info.hProcess;
        CloseHandle(info.hThread);
    } else {
        st = fail_code(err, name, GetLastError());
        CloseHandle(p->input);
    }
    CloseHandle(theirs);
    CloseHandle(nothing);
    return st;
}

utter_status ut_process_start(ut_process **out, const char *const *argv, ut_err *err)
{
    *out = NULL;
    ut_buf line;
    ut_buf_init(&line, 32000); /* the system's limit is 32767 characters */
    bool ok = true;
    for (int i = 0; ok && argv[i]; i++)
        ok = put_argument(&line, argv[i]);
    wchar_t *wide = ok ? to_wide((const char *)line.data) : NULL;
    ut_process *p = ut_calloc(1, sizeof *p);
    utter_status st = wide && p ? spawn(p, argv[0], wide, err)
                                : ut_fail(err, UTTER_ERR_NOMEM, "%s: no memory", argv[0]);
    if (st == UTTER_OK)
        *out = p;
    else
        ut_free(p);
    ut_free(wide);
    ut_buf_free(&line);
    return st;
}

bool ut_process_write(ut_process *p, const void *data, size_t n)
{
    const char *at = data;
    while (n > 0) {
        DWORD done;
        if (!WriteFile(p->input, at, n > 65536 ? 65536 : (DWORD)n, &done, NULL))
            return false;
        at += done;
        n -= done;
    }
    return true;
}

int ut_process_wait(ut_process *p)
{
    DWORD code = (DWORD)-1;
    CloseHandle(p->input);
    WaitForSingleObject(p->process, INFINITE);
    GetExitCodeProcess(p->process, &code);
    CloseHandle(p->process);
    ut_free(p);
    return (int)code;
}

void ut_process_kill(ut_process *p)
{
    TerminateProcess(p->process, 1);
}
