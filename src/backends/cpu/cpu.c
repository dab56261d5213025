/* cpu.c - the CPU backend's table: opening, states, and running compiled plans. Runs are
 * synchronous: everything is done when run() returns. */
#include "backends/cpu/cpu.h"
#include "backends/cpu/exec.h"
#include "base/alloc.h"
#include "base/cpu.h"
#include "base/os.h"
#include <stdio.h>
#include <string.h>

#define SOUND_FRAMES     16 /* more need memory, and are no faster */
#define ALL_SOUND_FRAMES 64 /* of all slots of a run */

static bool probe(int device, char *text, size_t size)
{
    char features[96];
    if (device != 0) {
        snprintf(text, size, "there is no device %d, only 0", device);
        return false;
    }
    ut_cpu_describe(features, sizeof features);
    const int n = ut_physical_cores();
    snprintf(text, size, "%d core%s, %s", n, n == 1 ? "" : "s", features);
    return true;
}

static int count(void)
{
    return 1;
}

/* ---- The device ----------------------------------------------------------------------------- */

static void close_backend(ut_backend *backend)
{
    if (!backend)
        return;
    cpu_backend *b = (cpu_backend *)backend;
    ut_pool_free(b->pool);
    ut_packed_set_free(&b->packed);
    ut_free(b);
}

static utter_status open_backend(ut_backend **out, const ut_backend_params *params, ut_err *err)
{
    *out = NULL;
    if (params->attention != UT_ATTENTION_AUTO)
        return ut_fail(err, UTTER_ERR_UNSUPPORTED,
                       "backend cpu has one kind of attention, expected auto");
    cpu_backend *b = ut_calloc(1, sizeof *b);
    if (!b)
        return ut_fail(err, UTTER_ERR_NOMEM, "cpu backend: no memory");
    b->head.ops = &ut_backend_cpu;
    b->head.max_ahead = 1;
    b->head.sound_frames = SOUND_FRAMES;
    b->head.all_sound_frames = ALL_SOUND_FRAMES;
    b->precision = params->precision;
    ut_kernels_init(&b->k, ut_cpu_flags() & ~params->cpu_flags_off);
    const int threads = params->threads > 0 ? params->threads : ut_physical_cores();
    const utter_status st = ut_pool_new(&b->pool, threads, err);
    if (st != UTTER_OK) {
        close_backend(&b->head);
        return st;
    }
    *out = &b->head;
    return UTTER_OK;
}

static void describe(const ut_backend *backend, char *text, size_t size)
{
    const cpu_backend *b = (const cpu_backend *)backend;
    const int n = ut_pool_size(b->pool);
    snprintf(text, size, "cpu: %d thread%s, %s kernels", n, n == 1 ? "" : "s", b->k.name);
}

static size_t weight_bytes(const ut_backend *backend)
{
    return ((const cpu_backend *)backend)->packed.bytes;
}

static bool memory(const ut_backend *b, size_t *free_bytes, size_t *total)
{
    (void)b;
    *free_bytes = *total = 0;
    return false;
}

/* ---- States --------------------------------------------------------------------------------- */

static void state_free(ut_state *state)
{
    if (!state)
        return;
    cpu_state *s = (cpu_state *)state;
    ut_free_aligned(s->memory);
    ut_free(s);
}

/* The memory of large caches is zero pages of the system, which cost nothing until written. */
static utter_status state_new(ut_backend *b, const ut_state_set *set, int n_slots, ut_state **out,
                              ut_err *err)
{
    *out = NULL;
    if (n_slots < 1)
        return ut_fail(err, UTTER_ERR_ARG, "%d slots, expected 1 or more", n_slots);
    cpu_state *s = ut_calloc(1, sizeof *s);
    if (!s)
        return ut_fail(err, UTTER_ERR_NOMEM, "state: no memory");
    s->head = (ut_state){b, set, n_slots};
    size_t offset[UT_STATE_MAX], total = 0, bytes;
    for (int i = 0; i < set->n; i++) {
        const ut_state_def *d = &set->def[i];
        offset[i] = total;
        if (!ut_size_mul((size_t)d->rows, (size_t)d->cols, &bytes) ||
            !ut_size_mul(bytes, ut_dtype_size(d->dtype), &bytes) || !ut_size_add(bytes, 63, &bytes))
            goto too_large;
        s->slot[i] = bytes / 64 * 64;
        if (!ut_size_mul(s->slot[i], (size_t)n_slots, &bytes) || !ut_size_add(total, bytes, &total))
            goto too_large;
    }
    s->memory = ut_alloc_aligned(total);
    if (!s->memory) {
        ut_fail(err, UTTER_ERR_NOMEM, "state: no memory for %zu bytes", total);
        state_free(&s->head);
        return UTTER_ERR_NOMEM;
    }
    for (int i = 0; i < set->n; i++)
        s->data[i] = s->memory + offset[i];
    *out = &s->head;
    return UTTER_OK;
too_large:
    state_free(&s->head);
    return ut_fail(err, UTTER_ERR_LIMIT, "state: its size does not fit into memory");
}

static size_t row_bytes(const ut_state_def *d)
{
    return (size_t)d->cols * ut_dtype_size(d->dtype);
}

static void state_reset(ut_state *state, int slot)
{
    cpu_state *s = (cpu_state *)state;
    for (int i = 0; i < state->set->n; i++) {
        const ut_state_def *d = &state->set->def[i];
        if (!d->keep)
            memset(s->data[i] + (size_t)slot * s->slot[i], 0, (size_t)d->rows * row_bytes(d));
    }
}

static char *state_rows(const cpu_state *s, int index, int slot, int32_t row)
{
    return s->data[index] + (size_t)slot * s->slot[index] +
           (size_t)row * row_bytes(&s->head.set->def[index]);
}

static void state_write(ut_state *state, int index, int slot, int32_t row, int32_t n_rows,
                        const void *src)
{
    memcpy(state_rows((cpu_state *)state, index, slot, row), src,
           (size_t)n_rows * row_bytes(&state->set->def[index]));
}

static void state_read(ut_state *state, int index, int slot, int32_t row, int32_t n_rows, void *dst)
{
    memcpy(dst, state_rows((cpu_state *)state, index, slot, row),
           (size_t)n_rows * row_bytes(&state->set->def[index]));
}

/* ---- Rows put aside ------------------------------------------------------------------------- */

static int32_t saved_rows(const ut_saved *x, const ut_state_def *d)
{
    return x->n_rows < d->rows ? x->n_rows : d->rows;
}

static void saved_free(ut_saved *saved)
{
    if (!saved)
        return;
    cpu_saved *x = (cpu_saved *)saved;
    ut_free(x->memory);
    ut_free(x);
}

static utter_status save(ut_state *state, int slot, int first, int n, int32_t n_rows,
                         ut_saved **out, ut_err *err)
{
    *out = NULL;
    cpu_saved *x = ut_calloc(1, sizeof *x);
    if (!x)
        return ut_fail(err, UTTER_ERR_NOMEM, "no memory to save states");
    x->head = (ut_saved){state->backend, first, n, n_rows, 0};
    const ut_state_def *def = state->set->def;
    for (int i = first; i < first + n; i++) /* all of them are in memory, so it fits */
        x->head.bytes += (size_t)saved_rows(&x->head, &def[i]) * row_bytes(&def[i]);
    x->memory = ut_malloc(x->head.bytes);
    if (!x->memory) {
        ut_fail(err, UTTER_ERR_NOMEM, "no memory to save %zu bytes of states", x->head.bytes);
        saved_free(&x->head);
        return UTTER_ERR_NOMEM;
    }
    char *at = x->memory;
    for (int i = first; i < first + n; i++) {
        const int32_t rows = saved_rows(&x->head, &def[i]);
        state_read(state, i, slot, 0, rows, at);
        at += (size_t)rows * row_bytes(&def[i]);
    }
    *out = &x->head;
    return UTTER_OK;
}

static void load(ut_state *state, int slot, ut_saved *saved)
{
    const char *at = ((const cpu_saved *)saved)->memory;
    for (int i = saved->first; i < saved->first + saved->n; i++) {
        const ut_state_def *d = &state->set->def[i];
        const int32_t rows = saved_rows(saved, d);
        state_write(state, i, slot, 0, rows, at);
        at += (size_t)rows * row_bytes(d);
    }
}

static utter_status ring_wait(ut_state *state, int index, int slot, int64_t frame, int32_t *dst,
                              ut_err *err)
{
    const ut_state_def *d = &state->set->def[index];
    if (frame < 0)
        return ut_fail(err, UTTER_ERR_ARG, "frame %lld of ring %s", (long long)frame, d->name);
    state_read(state, index, slot, (int32_t)(frame % d->rows), 1, dst);
    return UTTER_OK;
}

static bool ring_ready(ut_state *s, int index, int slot, int64_t frame)
{
    (void)s, (void)index, (void)slot, (void)frame;
    return true;
}

/* ---- Runs ----------------------------------------------------------------------------------- */

static size_t exec_bytes(const ut_exec *exec)
{
    const cpu_exec *e = (const cpu_exec *)exec;
    const cpu_backend *b = (const cpu_backend *)exec->backend;
    return e->arena_bytes + e->scratch_bytes * (size_t)ut_pool_size(b->pool);
}

static void *input(ut_exec *exec, ut_tid t, int32_t n_t)
{
    const cpu_exec *e = (const cpu_exec *)exec;
    (void)n_t; /* inputs have no rows before row 0: slots lie together at every T */
    return e->places[t].base;
}

static utter_status run(ut_exec *exec, ut_state *state, int first_slot, int32_t n_t, ut_err *err)
{
    cpu_exec *e = (cpu_exec *)exec;
    const ut_plan *p = exec->plan;
    if (n_t < 1 || n_t > e->max_t)
        return ut_fail(err, UTTER_ERR_ARG, "plan %s: a run of %d steps, expected 1..%d", p->name,
                       (int)n_t, (int)e->max_t);
    if (p->states && (!state || state->set != p->states || state->backend != exec->backend))
        return ut_fail(err, UTTER_ERR_ARG, "plan %s: run with a state of another set", p->name);
    if (state && (first_slot < 0 || first_slot > state->n_slots - e->n_slots))
        return ut_fail(err, UTTER_ERR_ARG, "plan %s: slots %d..%d of a state of %d", p->name,
                       first_slot, first_slot + e->n_slots - 1, state->n_slots);
    const cpu_run r = {(cpu_backend *)exec->backend, e, (cpu_state *)state, first_slot, n_t};
    for (int32_t i = 0; i < e->n_steps; i++)
        e->steps[i].fn(&r, &e->steps[i]);
    e->last_t = n_t;
    return UTTER_OK;
}

static bool done(ut_exec *e)
{
    (void)e;
    return true;
}

static const void *output(ut_exec *exec, ut_tid t, ut_err *err)
{
    (void)err;
    const cpu_exec *e = (const cpu_exec *)exec;
    const cpu_run r = {.e = (cpu_exec *)exec, .n_t = e->last_t};
    const cpu_place *p = &e->places[t];
    if (place_joined(&r, p))
        return place_row0(&r, p, 0);
    const size_t bytes = 4 * (size_t)place_rows(p, e->last_t) * (size_t)p->cols;
    for (int slot = 0; slot < e->n_slots; slot++)
        memcpy(e->gathered + (size_t)slot * bytes, place_row0(&r, p, slot), bytes);
    return e->gathered;
}

const ut_backend_ops ut_backend_cpu = {
    .name = "cpu",
    .probe = probe,
    .count = count,
    .open = open_backend,
    .close = close_backend,
    .describe = describe,
    .weight_bytes = weight_bytes,
    .memory = memory,
    .compile = cpu_compile,
    .exec_free = cpu_exec_free,
    .exec_bytes = exec_bytes,
    .state_new = state_new,
    .state_free = state_free,
    .state_reset = state_reset,
    .state_write = state_write,
    .state_read = state_read,
    .save = save,
    .load = load,
    .saved_free = saved_free,
    .input = input,
    .run = run,
    .done = done,
    .output = output,
    .ring_wait = ring_wait,
    .ring_ready = ring_ready,
};
