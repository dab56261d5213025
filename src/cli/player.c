/* player.c - a queue in front of a playing program, so that speech goes on being made while it is
 * heard; or a temporary file for programs that cannot read a pipe. */
#include "cli/player.h"
#include "audio/audio.h"
#include "base/alloc.h"
#include "base/os.h"
#include <string.h>

#define QUEUE_SECONDS 60
#define PIECE         4096 /* samples that are passed on at once */
#define MAX_ARGS      12

/* In arguments, {rate} is the sample rate and {file} the file to play; without {file} the program
 * reads 16-bit mono samples from its standard input. */
typedef struct program {
    const char *name;
    const char *args[MAX_ARGS];
} program;

static const program programs[] = {
    {"paplay", {"--raw", "--rate={rate}", "--channels=1", "--format=s16le"}},
    {"aplay", {"-q", "-t", "raw", "-f", "S16_LE", "-c", "1", "-r", "{rate}", "-"}},
    {"ffplay",
     {"-loglevel", "quiet", "-nodisp", "-autoexit", "-f", "s16le", "-sample_rate", "{rate}", "-i",
      "-"}},
    {"pw-play", {"{file}"}},
    {"afplay", {"{file}"}},
    {"powershell",
     {"-NoProfile", "-Command", "(New-Object System.Media.SoundPlayer '{file}').PlaySync()"}},
};
#define N_PROGRAMS (sizeof programs / sizeof programs[0])

struct ut_player {
    const program *program;
    char *path;               /* of the program */
    char *args[MAX_ARGS + 2]; /* its arguments, owned; [0] is path, borrowed */
    char *file;               /* for programs that play files, else NULL */
    ut_audio_writer *writer;  /* ... which it is written with */
    ut_process *process;
    /* For programs that read a pipe: a ring of samples, and the thread that empties it. */
    ut_thread *thread;
    ut_mutex *mutex;
    ut_cond *changed;
    int16_t *queue;
    size_t room, first, count;
    bool complete; /* no more samples will come */
    bool deaf;     /* the program no longer reads */
};

static bool plays_files(const program *p)
{
    for (int i = 0; i < MAX_ARGS && p->args[i]; i++)
        if (strstr(p->args[i], "{file}"))
            return true;
    return false;
}

/* s with the first `{name}` replaced, newly allocated. */
static char *expand(const char *s, int sample_rate, const char *file)
{
    const char *rate = strstr(s, "{rate}"), *f = strstr(s, "{file}");
    if (rate)
        return ut_asprintf("%.*s%d%s", (int)(rate - s), s, sample_rate, rate + 6);
    if (f)
        return ut_asprintf("%.*s%s%s", (int)(f - s), s, file ? file : "", f + 6);
    return ut_strdup(s);
}

/* The first program that is there, and its path, newly allocated. */
static utter_status find_program(const program **out, char **path, ut_err *err)
{
    char names[128] = "";
    size_t used = 0;
    *path = NULL;
    for (size_t i = 0; i < N_PROGRAMS && !*path; i++) {
        *out = &programs[i];
        *path = ut_find_program(programs[i].name);
        used += (size_t)snprintf(names + used, sizeof names - used, "%s%s", used ? ", " : "",
                                 programs[i].name);
    }
    if (*path)
        return UTTER_OK;
    return ut_fail(err, UTTER_ERR_NOT_FOUND, "no program to play sound (%s); write it with -o FILE",
                   names);
}

utter_status ut_player_check(ut_err *err)
{
    const program *found;
    char *path;
    utter_status st = find_program(&found, &path, err);
    ut_free(path);
    return st;
}

static utter_status start_program(ut_player *p, int sample_rate, ut_err *err)
{
    p->args[0] = p->path;
    for (int i = 0; i < MAX_ARGS && p->program->args[i]; i++) {
        p->args[i + 1] = expand(p->program->args[i], sample_rate, p->file);
        if (!p->args[i + 1])
            return ut_fail(err, UTTER_ERR_NOMEM, "%s: no memory", p->path);
    }
    return ut_process_start(&p->process, (const char *const *)p->args, err);
}

/* The thread: pass samples on until there are no more, or nobody listens. */
static void pump(void *arg)
{
    ut_player *p = arg;
    int16_t piece[PIECE];
    ut_mutex_lock(p->mutex);
    for (;;) {
        while (p->count == 0 && !p->complete && !p->deaf)
            ut_cond_wait(p->changed, p->mutex);
        if (p->count == 0 || p->deaf)
            break;
        size_t n = p->count < PIECE ? p->count : PIECE;
        if (n > p->room - p->first)
            n = p->room - p->first;
        memcpy(piece, p->queue + p->first, n * sizeof *piece);
        p->first = (p->first + n) % p->room;
        p->count -= n;
        ut_cond_broadcast(p->changed);
        ut_mutex_unlock(p->mutex);
        bool heard = ut_process_write(p->process, piece, n * sizeof *piece);
        ut_mutex_lock(p->mutex);
        if (!heard) {
            p->deaf = true;
            ut_cond_broadcast(p->changed);
        }
    }
    ut_mutex_unlock(p->mutex);
}

static utter_status start_queue(ut_player *p, int sample_rate, ut_err *err)
{
    p->room = (size_t)sample_rate * QUEUE_SECONDS;
    p->queue = ut_calloc(p->room, sizeof *p->queue);
    p->mutex = ut_mutex_new();
    p->changed = ut_cond_new();
    if (!p->queue || !p->mutex || !p->changed)
        return ut_fail(err, UTTER_ERR_NOMEM, "no memory to play sound");
    p->thread = ut_thread_start(pump, p, -1);
    return p->thread ? UTTER_OK : ut_fail(err, UTTER_ERR_NOMEM, "no thread to play sound");
}

utter_status ut_player_open(ut_player **out, int sample_rate, ut_err *err)
{
    *out = NULL;
    ut_player *p = ut_calloc(1, sizeof *p);
    if (!p)
        return ut_fail(err, UTTER_ERR_NOMEM, "no memory to play sound");
    utter_status st = find_program(&p->program, &p->path, err);
    if (st == UTTER_OK && plays_files(p->program)) {
        st = ut_temp_file(&p->file, ".wav", err);
        if (st == UTTER_OK)
            st = ut_audio_writer_open(&p->writer, p->file, UT_AUDIO_WAV, sample_rate, err);
    } else if (st == UTTER_OK) {
        st = start_program(p, sample_rate, err);
        if (st == UTTER_OK)
            st = start_queue(p, sample_rate, err);
    }
    if (st != UTTER_OK) {
        ut_player_close(p, true, NULL);
        return st;
    }
    *out = p;
    return UTTER_OK;
}

utter_status ut_player_write(ut_player *p, const float *x, size_t n, ut_err *err)
{
    if (p->writer)
        return ut_audio_writer_write(p->writer, x, n, err);
    ut_mutex_lock(p->mutex);
    while (n > 0 && !p->deaf) {
        while (p->count == p->room && !p->deaf)
            ut_cond_wait(p->changed, p->mutex);
        size_t at = (p->first + p->count) % p->room, k = p->room - p->count;
        if (k > p->room - at)
            k = p->room - at;
        if (k > n)
            k = n;
        ut_pcm_to_s16(x, k, p->queue + at);
        p->count += k;
        x += k;
        n -= k;
        ut_cond_broadcast(p->changed);
    }
    bool deaf = p->deaf;
    ut_mutex_unlock(p->mutex);
    return deaf ? ut_fail(err, UTTER_ERR_IO, "%s ended before the sound did", p->path) : UTTER_OK;
}

/* Play the finished file. */
static utter_status play_file(ut_player *p, ut_err *err)
{
    utter_status st = ut_audio_writer_close(p->writer, err);
    p->writer = NULL;
    return st == UTTER_OK ? start_program(p, 0, err) : st;
}

utter_status ut_player_close(ut_player *p, bool abort, ut_err *err)
{
    utter_status st = UTTER_OK;
    if (!p)
        return st;
    if (p->process && abort)
        ut_process_kill(p->process); /* also frees a thread that waits for it to read */
    if (p->thread) {
        ut_mutex_lock(p->mutex);
        p->complete = true;
        p->deaf |= abort;
        ut_cond_broadcast(p->changed);
        ut_mutex_unlock(p->mutex);
        ut_thread_join(p->thread);
    }
    if (p->writer && abort)
        ut_audio_writer_close(p->writer, NULL);
    else if (p->writer)
        st = play_file(p, err);
    if (p->process) {
        int code = ut_process_wait(p->process);
        if (code != 0 && !abort)
            st = ut_fail(err, UTTER_ERR_IO, "%s failed (exit code %d)", p->path, code);
    }
    if (p->file)
        ut_remove(p->file, NULL);
    for (int i = 1; i < MAX_ARGS + 2; i++)
        ut_free(p->args[i]);
    ut_free(p->path);
    ut_free(p->file);
    ut_free(p->queue);
    ut_cond_free(p->changed);
    ut_mutex_free(p->mutex);
    ut_free(p);
    return st;
}
