/* os_posix.c - os.h on Linux and other POSIX systems. */
#include "base/os.h"
#include "base/alloc.h"
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <spawn.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static utter_status fail_errno(ut_err *err, const char *path)
{
    int e = errno;
    return ut_fail(err, e == ENOENT ? UTTER_ERR_NOT_FOUND : UTTER_ERR_IO, "%s: %s", path,
                   strerror(e));
}

/* ---- Files ---------------------------------------------------------------------------------- */

utter_status ut_map_open(ut_map *m, const char *path, ut_err *err)
{
    memset(m, 0, sizeof *m);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return fail_errno(err, path);
    utter_status st = UTTER_OK;
    struct stat s;
    if (fstat(fd, &s) != 0) {
        st = fail_errno(err, path);
    } else if (!S_ISREG(s.st_mode)) {
        st = ut_fail(err, UTTER_ERR_IO, "%s: not a regular file", path);
    } else if (s.st_size > 0) {
        if ((uintmax_t)s.st_size > SIZE_MAX) {
            st = ut_fail(err, UTTER_ERR_LIMIT, "%s: too large to map", path);
        } else {
            void *p = mmap(NULL, (size_t)s.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
            if (p == MAP_FAILED) {
                st = fail_errno(err, path);
            } else {
                m->data = p;
                m->size = (size_t)s.st_size;
            }
        }
    }
    close(fd);
    return st;
}

void ut_map_close(ut_map *m)
{
    if (m->data)
        munmap((void *)(uintptr_t)m->data, m->size);
    memset(m, 0, sizeof *m);
}

/* What is said of the whole pages in [p, p + size). */
static void advise(const void *p, size_t size, int advice)
{
    const uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE);
    const uintptr_t begin = ((uintptr_t)p + page - 1) & ~(page - 1);
    const uintptr_t end = ((uintptr_t)p + size) & ~(page - 1);
    if (end > begin)
        madvise((void *)begin, end - begin, advice);
}

void ut_map_release(const void *p, size_t size)
{
    advise(p, size, MADV_DONTNEED);
}

void ut_memory_large(void *p, size_t size)
{
#ifdef MADV_HUGEPAGE
    advise(p, size, MADV_HUGEPAGE);
#else
    (void)p, (void)size;
#endif
}

FILE *ut_fopen(const char *path, const char *mode)
{
    return fopen(path, mode);
}

bool ut_file_exists(const char *path)
{
    struct stat s;
    return stat(path, &s) == 0 && S_ISREG(s.st_mode);
}

bool ut_dir_exists(const char *path)
{
    struct stat s;
    return stat(path, &s) == 0 && S_ISDIR(s.st_mode);
}

utter_status ut_mkdirs(const char *path, ut_err *err)
{
    char *copy = ut_strdup(path);
    if (!copy)
        return ut_fail(err, UTTER_ERR_NOMEM, "%s: no memory for the path", path);
    utter_status st = UTTER_OK;
    for (char *p = copy;; p++) {
        if (*p && (*p != '/' || p == copy))
            continue;
        char c = *p;
        *p = 0;
        if (mkdir(copy, 0777) != 0 && !ut_dir_exists(copy)) {
            st = fail_errno(err, copy);
            break;
        }
        *p = c;
        if (!c)
            break;
    }
    ut_free(copy);
    return st;
}

utter_status ut_remove(const char *path, ut_err *err)
{
    return remove(path) == 0 ? UTTER_OK : fail_errno(err, path);
}

utter_status ut_rename(const char *from, const char *to, ut_err *err)
{
    return rename(from, to) == 0 ? UTTER_OK : fail_errno(err, from);
}

static int compare_names(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

utter_status ut_list_dir(const char *path, char ***names, size_t *n, ut_err *err)
{
    *names = NULL;
    *n = 0;
    DIR *d = opendir(path);
    if (!d)
        return fail_errno(err, path);
    utter_status st = UTTER_OK;
    char **list = NULL;
    size_t count = 0, cap = 0;
    struct dirent *e;
    while ((e = readdir(d)) != NULL) {
        if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0)
            continue;
        if (count == cap) {
            size_t grown = cap ? cap * 2 : 16;
            char **more = ut_realloc(list, grown, sizeof *list);
            if (!more)
                goto no_memory;
            list = more;
            cap = grown;
        }
        list[count] = ut_strdup(e->d_name);
        if (!list[count])
            goto no_memory;
        count++;
    }
    if (count)
        qsort(list, count, sizeof *list, compare_names);
    *names = list;
    *n = count;
    goto done;
no_memory:
    st = ut_fail(err, UTTER_ERR_NOMEM, "%s: no memory for its names", path);
    ut_list_free(list, count);
done:
    closedir(d);
    return st;
}

/* ---- Places --------------------------------------------------------------------------------- */

/* XDG base directories: the variable where it is an absolute path, else a place under HOME. */
static char *user_dir(const char *variable, const char *under_home)
{
    const char *dir = getenv(variable);
    if (dir && dir[0] == '/')
        return ut_path_join(dir, "utter");
    const char *home = getenv("HOME");
    if (!home || !home[0])
        return NULL;
    return ut_asprintf("%s/%s/utter", home, under_home);
}

char *ut_user_data_dir(void)
{
    return user_dir("XDG_DATA_HOME", ".local/share");
}

char *ut_user_cache_dir(void)
{
    return user_dir("XDG_CACHE_HOME", ".cache");
}

char *ut_exe_dir(void)
{
    char path[4096];
    ssize_t n = readlink("/proc/self/exe", path, sizeof path);
    if (n <= 0 || (size_t)n == sizeof path)
        return NULL;
    while (n > 1 && path[n - 1] != '/')
        n--;
    return ut_strndup(path, n > 1 ? (size_t)n - 1 : 1);
}

void ut_main_args(int *argc, char ***argv)
{
    (void)argc;
    (void)argv;
}

/* ---- Time, memory, terminal ----------------------------------------------------------------- */

double ut_time_now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

void ut_sleep(double seconds)
{
    struct timespec t = {(time_t)seconds, (long)((seconds - (double)(time_t)seconds) * 1e9)};
    nanosleep(&t, NULL);
}

size_t ut_peak_rss(void)
{
    struct rusage u;
    if (getrusage(RUSAGE_SELF, &u) != 0)
        return 0;
    return (size_t)u.ru_maxrss * 1024; /* Linux counts in KiB */
}

size_t ut_current_rss(void)
{
    FILE *f = fopen("/proc/self/statm", "r");
    if (!f)
        return 0;
    unsigned long total, resident = 0;
    if (fscanf(f, "%lu %lu", &total, &resident) != 2)
        resident = 0;
    fclose(f);
    return (size_t)resident * (size_t)sysconf(_SC_PAGESIZE);
}

bool ut_is_terminal(FILE *f)
{
    return isatty(fileno(f)) == 1;
}

void ut_binary_mode(FILE *f)
{
    (void)f;
}

/* ---- Cores ---------------------------------------------------------------------------------- */

#define MAX_CORES 1024

/* The physical cores that the process was allowed when it first asked: for each the lowest logical
 * CPU of the affinity mask that belongs to it. */
static struct {
    int n;
    int cpu[MAX_CORES];
} cores;

#if defined(__linux__)

/* The first number in a file, or -1. */
static long read_number(const char *path)
{
    FILE *f = fopen(path, "r");
    if (!f)
        return -1;
    long v;
    if (fscanf(f, "%ld", &v) != 1)
        v = -1;
    fclose(f);
    return v;
}

/* Whole CPUs that the control group's quota allows (version 2: "quota period" or "max period";
 * version 1: two files), at least 1; MAX_CORES without a quota. */
static int quota_cpus(void)
{
    long quota = -1, period = 0;
    FILE *f = fopen("/sys/fs/cgroup/cpu.max", "r");
    if (f) {
        if (fscanf(f, "%ld %ld", &quota, &period) != 2)
            quota = -1;
        fclose(f);
    } else {
        quota = read_number("/sys/fs/cgroup/cpu/cpu.cfs_quota_us");
        period = read_number("/sys/fs/cgroup/cpu/cpu.cfs_period_us");
    }
    if (quota <= 0 || period <= 0 || quota / period >= MAX_CORES)
        return MAX_CORES;
    return quota < period ? 1 : (int)(quota / period);
}

static void detect_cores(void)
{
    cpu_set_t allowed;
    CPU_ZERO(&allowed);
    if (sched_getaffinity(0, sizeof allowed, &allowed) != 0) {
        cores.n = 1;
        return;
    }
    int first_sibling[MAX_CORES]; /* names the core: its lowest logical CPU, allowed or not */
    int limit = quota_cpus();
    for (int cpu = 0; cpu < CPU_SETSIZE && cores.n < limit; cpu++) {
        if (!CPU_ISSET(cpu, &allowed))
            continue;
        char path[128];
        snprintf(path, sizeof path, "/sys/devices/system/cpu/cpu%d/topology/thread_siblings_list",
                 cpu);
        long first = read_number(path);
        if (first < 0)
            first = cpu;
        int seen = 0;
        while (seen < cores.n && first_sibling[seen] != first)
            seen++;
        if (seen < cores.n)
            continue;
        first_sibling[cores.n] = (int)first;
        cores.cpu[cores.n++] = cpu;
    }
    if (cores.n == 0)
        cores.n = 1;
}

static void pin_to(int core)
{
    cpu_set_t one;
    CPU_ZERO(&one);
    CPU_SET(cores.cpu[core], &one);
    pthread_setaffinity_np(pthread_self(), sizeof one, &one);
}

#else

static void detect_cores(void)
{
    long n = sysconf(_SC_NPROCESSORS_ONLN);
    cores.n = n < 1 ? 1 : n > MAX_CORES ? MAX_CORES : (int)n;
}

static void pin_to(int core)
{
    (void)core;
}

#endif

static pthread_once_t cores_once = PTHREAD_ONCE_INIT;

int ut_physical_cores(void)
{
    pthread_once(&cores_once, detect_cores);
    return cores.n;
}

/* ---- Threads -------------------------------------------------------------------------------- */

struct ut_thread {
    pthread_t id;
    void (*fn)(void *);
    void *arg;
    int core;
};

static void *run_thread(void *p)
{
    ut_thread *t = p;
    if (t->core >= 0)
        pin_to(t->core);
    t->fn(t->arg);
    return NULL;
}

ut_thread *ut_thread_start(void (*fn)(void *), void *arg, int core)
{
    ut_thread *t = ut_malloc(sizeof *t);
    if (!t)
        return NULL;
    t->fn = fn;
    t->arg = arg;
    t->core = core < ut_physical_cores() ? core : -1;
    if (pthread_create(&t->id, NULL, run_thread, t) != 0) {
        ut_free(t);
        return NULL;
    }
    return t;
}

void ut_thread_join(ut_thread *t)
{
    if (!t)
        return;
    pthread_join(t->id, NULL);
    ut_free(t);
}

struct ut_mutex {
    pthread_mutex_t m;
};

struct ut_cond {
    pthread_cond_t c;
};

ut_mutex *ut_mutex_new(void)
{
    ut_mutex *m = ut_malloc(sizeof *m);
    if (m && pthread_mutex_init(&m->m, NULL) != 0) {
        ut_free(m);
        return NULL;
    }
    return m;
}

void ut_mutex_free(ut_mutex *m)
{
    if (!m)
        return;
    pthread_mutex_destroy(&m->m);
    ut_free(m);
}

void ut_mutex_lock(ut_mutex *m)
{
    pthread_mutex_lock(&m->m);
}

void ut_mutex_unlock(ut_mutex *m)
{
    pthread_mutex_unlock(&m->m);
}

ut_cond *ut_cond_new(void)
{
    ut_cond *c = ut_malloc(sizeof *c);
    if (c && pthread_cond_init(&c->c, NULL) != 0) {
        ut_free(c);
        return NULL;
    }
    return c;
}

void ut_cond_free(ut_cond *c)
{
    if (!c)
        return;
    pthread_cond_destroy(&c->c);
    ut_free(c);
}

void ut_cond_wait(ut_cond *c, ut_mutex *m)
{
    pthread_cond_wait(&c->c, &m->m);
}

void ut_cond_broadcast(ut_cond *c)
{
    pthread_cond_broadcast(&c->c);
}

/* ---- Programs ------------------------------------------------------------------------------- */

static struct {
    void (*stop)(void *);
    void *user;
} interrupt;

static void on_signal(int sig)
{
    signal(sig, SIG_DFL); /* the second time ends the program */
    interrupt.stop(interrupt.user);
}

void ut_on_interrupt(void (*stop)(void *), void *user)
{
    /* Without SA_RESTART: a read from a terminal or pipe ends, so that main can see the wish. */
    struct sigaction a = {.sa_handler = stop ? on_signal : SIG_DFL};
    sigemptyset(&a.sa_mask);
    if (stop) {
        interrupt.stop = stop;
        interrupt.user = user;
    }
    sigaction(SIGINT, &a, NULL);
    sigaction(SIGTERM, &a, NULL);
    sigaction(SIGHUP, &a, NULL);
    signal(SIGPIPE, stop ? SIG_IGN : SIG_DFL);
}

char *ut_find_program(const char *name)
{
    const char *path = getenv("PATH");
    for (const char *p = path ? path : ""; *p;) {
        size_t n = strcspn(p, ":");
        char *full = n ? ut_asprintf("%.*s/%s", (int)n, p, name) : NULL;
        if (full && ut_file_exists(full) && access(full, X_OK) == 0)
            return full;
        ut_free(full);
        p += n + (p[n] == ':');
    }
    return NULL;
}

utter_status ut_temp_file(char **path, const char *suffix, ut_err *err)
{
    const char *dir = getenv("TMPDIR");
    *path = ut_asprintf("%s/utter-XXXXXX%s", dir && dir[0] ? dir : "/tmp", suffix);
    if (!*path)
        return ut_fail(err, UTTER_ERR_NOMEM, "no memory for a path");
    int fd = mkstemps(*path, (int)strlen(suffix));
    if (fd >= 0) {
        close(fd);
        return UTTER_OK;
    }
    utter_status st = fail_errno(err, *path);
    ut_free(*path);
    *path = NULL;
    return st;
}

struct ut_process {
    pid_t id;
    int input; /* our end of its standard input */
};

/* Its standard input is pipe[0], its output nothing, and signals are as in a new program. */
static int spawn(pid_t *id, const char *const *argv, const int pipe_ends[2])
{
    extern char **environ;
    posix_spawn_file_actions_t files;
    posix_spawnattr_t attributes;
    sigset_t defaults;
    sigemptyset(&defaults);
    sigaddset(&defaults, SIGPIPE);
    int e = posix_spawn_file_actions_init(&files);
    if (e != 0)
        return e;
    e = posix_spawnattr_init(&attributes);
    if (e == 0) {
        posix_spawn_file_actions_adddup2(&files, pipe_ends[0], 0);
        posix_spawn_file_actions_addopen(&files, 1, "/dev/null", O_WRONLY, 0);
        posix_spawnattr_setsigdefault(&attributes, &defaults);
        posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGDEF);
        e = posix_spawn(id, argv[0], &files, &attributes, (char *const *)(uintptr_t)argv, environ);
        posix_spawnattr_destroy(&attributes);
    }
    posix_spawn_file_actions_destroy(&files);
    return e;
}

utter_status ut_process_start(ut_process **out, const char *const *argv, ut_err *err)
{
    int ends[2];
    *out = NULL;
    ut_process *p = ut_malloc(sizeof *p);
    if (!p)
        return ut_fail(err, UTTER_ERR_NOMEM, "%s: no memory", argv[0]);
    if (pipe(ends) != 0) {
        utter_status failed = fail_errno(err, argv[0]);
        ut_free(p);
        return failed;
    }
    fcntl(ends[0], F_SETFD, FD_CLOEXEC);
    fcntl(ends[1], F_SETFD, FD_CLOEXEC);
    errno = spawn(&p->id, argv, ends);
    utter_status st = errno ? fail_errno(err, argv[0]) : UTTER_OK;
    close(ends[0]);
    if (st != UTTER_OK) {
        close(ends[1]);
        ut_free(p);
        return st;
    }
    p->input = ends[1];
    *out = p;
    return UTTER_OK;
}

bool ut_process_write(ut_process *p, const void *data, size_t n)
{
    const char *at = data;
    while (n > 0) {
        ssize_t done = write(p->input, at, n);
        if (done < 0 && errno == EINTR)
            continue;
        if (done <= 0)
            return false;
        at += done;
        n -= (size_t)done;
    }
    return true;
}

int ut_process_wait(ut_process *p)
{
    int status = 0;
    close(p->input);
    while (waitpid(p->id, &status, 0) < 0 && errno == EINTR) {
    }
    ut_free(p);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

void ut_process_kill(ut_process *p)
{
    kill(p->id, SIGTERM);
}
