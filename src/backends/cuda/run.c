/* run.c - running compiled plans. A run returns when its work is on the stream of its state. Runs
 * that come again - the same state, slots and length - are captured as one graph and launched
 * whole: at once for plans of one step (decoding), at the second run for others. Prompts have many
 * lengths: where a plan allows it, a run is made as long as the next of few lengths, and what is
 * asked for is a number on the device. */
#include "backends/cuda/exec.h"
#include <string.h>

/* ---- Launching ------------------------------------------------------------------------------- */

cu_view cu_view_of(const cu_run *r, const cu_place *p)
{
    if (!p->set)
        return (cu_view){0};
    const int32_t rows = cu_rows(p, r->n_t);
    if (p->state >= 0) {
        const size_t stride = r->s->slot[p->state];
        return (cu_view){.p = r->s->data[p->state] + (size_t)r->first_slot * stride,
                         .slot = (int64_t)(stride / ut_dtype_size(p->dtype)),
                         .rows = rows,
                         .cols = p->cols};
    }
    return (cu_view){.p = r->e->arena->memory + p->offset +
                          ut_dtype_size(p->dtype) * (uint64_t)p->lead,
                     .slot = p->lead + (int64_t)rows * p->cols,
                     .rows = rows,
                     .cols = p->cols};
}

static void launch(cu_run *r, int kernel, int threads, int64_t grid_x, int64_t grid_y,
                   int64_t grid_z, size_t shared_bytes, bool cluster, const void *args)
{
    static const size_t args_size[] = {
#define X(name, args_type, file) sizeof(args_type),
        CU_KERNELS(X)
#undef X
    };
    void *parameters[] = {(void *)(uintptr_t)args};
    if (r->record) {
        const size_t size = args_size[kernel], most = sizeof r->record->args;
        r->record->kernel = kernel;
        memcpy(r->record->args, args, size < most ? size : most);
        return;
    }
    /* it may start while the one in front of it ends: see device.cuh */
    cu_launch_attribute how[2];
    unsigned n = 0;
    if (cluster)
        how[n++] = (cu_launch_attribute){.id = CU_LAUNCH_CLUSTER, .value = {1, (int)grid_y, 1}};
    if (r->b->hopper && !r->in_order)
        how[n++] = (cu_launch_attribute){.id = CU_LAUNCH_PROGRAMMATIC, .value = {1}};
    r->in_order = false;
    const cu_launch_config config = {.grid = {(unsigned)grid_x, (unsigned)grid_y, (unsigned)grid_z},
                                     .block = {(unsigned)threads, 1, 1},
                                     .shared_bytes = (unsigned)shared_bytes,
                                     .stream = r->stream,
                                     .attributes = how,
                                     .n_attributes = n};
    if (r->result == CU_OK)
        r->result = r->b->d.launch_with(&config, r->b->kernels[kernel], parameters, NULL);
}

void cu_launch(cu_run *r, int kernel, int64_t grid_x, int64_t grid_y, int64_t grid_z,
               size_t shared_bytes, const void *args)
{
    launch(r, kernel, CU_THREADS, grid_x, grid_y, grid_z, shared_bytes, false, args);
}

void cu_launch_threads(cu_run *r, int kernel, int threads, int64_t grid_x, int64_t grid_y,
                       int64_t grid_z, size_t shared_bytes, const void *args)
{
    launch(r, kernel, threads, grid_x, grid_y, grid_z, shared_bytes, false, args);
}

void cu_launch_cluster(cu_run *r, int kernel, int64_t grid_x, int64_t grid_y, int64_t grid_z,
                       size_t shared_bytes, const void *args)
{
    launch(r, kernel, CU_THREADS, grid_x, grid_y, grid_z, shared_bytes, true, args);
}

int cu_arguments_of(cu_run *r, const cu_step *s, void *args, size_t size)
{
    cu_record record = {.kernel = -1}, *const before = r->record;
    r->record = &record;
    s->launch(r, s);
    r->record = before;
    memcpy(args, record.args, size < sizeof record.args ? size : sizeof record.args);
    return record.kernel;
}

void cu_launch_step(cu_run *r, int32_t i)
{
    const cu_step *s = &r->e->steps[i];
    if (s->links.group > 0)
        cu_launch_slot_ops(r, s);
    else if (!s->links.merged)
        s->launch(r, s);
}

/* All that a graph can have: a kernel for all phases is launched by itself. */
static void launch_all(cu_run *r, const cu_captured *c)
{
    const int32_t end = r->e->frames == CU_FRAMES_STEPS ? r->e->n_steps : r->e->tail;
    for (int32_t i = 0; i < end; i++)
        cu_launch_step(r, i);
    if (r->e->frames == CU_FRAMES_PHASES)
        cu_frame_launch_phases(r, c);
}

/* ---- Captured runs --------------------------------------------------------------------------- */

static void forget(cu_backend *b, cu_captured *c)
{
    if (c->graph)
        b->d.graph_exec_free(c->graph);
    *c = (cu_captured){.tables = c->tables};
}

void cu_exec_forget(cu_exec *e)
{
    cu_backend *b = (cu_backend *)e->head.backend;
    for (int i = 0; i < CU_GRAPHS; i++) {
        forget(b, &e->graphs[i]);
        cu_free(b, e->graphs[i].tables);
        e->graphs[i].tables = 0;
    }
}

/* The entry of this run, or the one longest unused, emptied. */
static cu_captured *find_captured(const cu_run *r, bool *known)
{
    cu_exec *e = r->e;
    const uint64_t state = r->s ? r->s->id : 0;
    cu_captured *oldest = &e->graphs[0];
    for (int i = 0; i < CU_GRAPHS; i++) {
        cu_captured *c = &e->graphs[i];
        if (c->used && c->state == state && c->first_slot == r->first_slot && c->n_t == r->n_t) {
            *known = true;
            return c;
        }
        if (c->used < oldest->used)
            oldest = c;
    }
    forget(r->b, oldest);
    oldest->state = state;
    oldest->first_slot = r->first_slot;
    oldest->n_t = r->n_t;
    *known = false;
    return oldest;
}

static void capture(cu_run *r, cu_captured *c)
{
    const cu_driver *d = &r->b->d;
    cu_graph graph = NULL;
    r->result = d->capture_begin(r->stream, CU_CAPTURE_THREAD_LOCAL);
    if (r->result != CU_OK)
        return;
    r->in_graph = true;
    launch_all(r, c);
    r->in_graph = false;
    const cu_result ended = d->capture_end(r->stream, &graph);
    if (r->result == CU_OK)
        r->result = ended;
    if (r->result == CU_OK)
        r->result = d->graph_instantiate(&c->graph, graph, 0);
    if (r->result != CU_OK)
        c->graph = NULL;
    if (graph)
        d->graph_free(graph);
}

/* ---- Lengths ----------------------------------------------------------------------------------
 */

enum { SHORT = 16, USUAL = 64, LONG = 256, LONG_FROM = 1024 };

/* The next length that runs are made of: multiples of 16, from 64 on of 64, later of 256. */
static int32_t graph_length(const cu_exec *e, int32_t n_t)
{
    const int32_t step = n_t <= USUAL ? SHORT : n_t <= LONG_FROM ? USUAL : LONG;
    const int32_t n = (n_t + step - 1) / step * step;
    return !e->n_t ? n_t : n < e->max_t ? n : e->max_t;
}

/* Rows of inputs past the end are zeros: ids that there are. */
static void set_length(cu_run *r, int32_t n_t)
{
    const cu_exec *e = r->e;
    const cu_driver *d = &r->b->d;
    if (!e->n_t || r->result != CU_OK)
        return;
    r->result = d->set32(e->n_t, (unsigned)n_t, 1, r->stream);
    for (int i = 0; i < e->n_inputs && r->result == CU_OK; i++) {
        const cu_place *p = &e->places[e->inputs[i].tensor];
        const size_t from = 4 * (size_t)cu_rows(p, n_t) * (size_t)p->cols;
        const size_t to = 4 * (size_t)cu_rows(p, r->n_t) * (size_t)p->cols;
        if (to > from)
            r->result = d->set8(e->arena->memory + p->offset + from, 0, to - from, r->stream);
    }
}

/* ---- Runs ------------------------------------------------------------------------------------ */

void *cu_input(ut_exec *exec, ut_tid t, int32_t n_t)
{
    cu_exec *e = (cu_exec *)exec;
    cu_backend *b = (cu_backend *)exec->backend;
    (void)n_t; /* inputs have no rows before row 0: slots lie together at every T */
    cu_enter(b);
    if (e->stream && cu_wait(b, e->copied, "copying inputs", NULL) != UTTER_OK)
        cu_note(b, CU_NOT_READY, "copying inputs");
    for (int i = 0; i < e->n_inputs; i++)
        if (e->inputs[i].tensor == t)
            return e->inputs[i].data;
    return NULL;
}

static void copy_inputs(cu_run *r, int32_t n_t)
{
    cu_exec *e = r->e;
    for (int i = 0; i < e->n_inputs && r->result == CU_OK; i++) {
        const cu_place *p = &e->places[e->inputs[i].tensor];
        const size_t bytes = 4 * (size_t)cu_rows(p, n_t) * (size_t)p->cols * (size_t)e->n_slots;
        r->result =
            r->b->d.to_device(e->arena->memory + p->offset, e->inputs[i].data, bytes, r->stream);
    }
    if (r->result == CU_OK)
        r->result = r->b->d.event_record(e->copied, r->stream);
}

static utter_status check_run(const cu_exec *e, const ut_state *state, int first_slot, int32_t n_t,
                              ut_err *err)
{
    const ut_plan *p = e->head.plan;
    if (n_t < 1 || n_t > e->max_t)
        return ut_fail(err, UTTER_ERR_ARG, "plan %s: a run of %d steps, expected 1..%d", p->name,
                       (int)n_t, (int)e->max_t);
    if (p->states && (!state || state->set != p->states || state->backend != e->head.backend))
        return ut_fail(err, UTTER_ERR_ARG, "plan %s: run with a state of another set", p->name);
    if (state && (first_slot < 0 || first_slot > state->n_slots - e->n_slots))
        return ut_fail(err, UTTER_ERR_ARG, "plan %s: slots %d..%d of a state of %d", p->name,
                       first_slot, first_slot + e->n_slots - 1, state->n_slots);
    return UTTER_OK;
}

static bool takes_all(const cu_exec *e)
{
    return e->frames == CU_FRAMES_WHOLE;
}

/* What is started from here on comes after the last run of an exec, or NULL. */
static void wait_for_run(cu_run *r, const cu_exec *last)
{
    if (r->result == CU_OK && last && last->stream && last->stream != r->stream)
        r->result = r->b->d.stream_wait(r->stream, last->done, 0);
}

/* Check a run, order its stream behind the exec's last run, and copy the inputs. */
static utter_status begin_run(cu_run *r, ut_exec *exec, ut_state *state, int first_slot,
                              int32_t n_t, ut_err *err)
{
    cu_exec *e = (cu_exec *)exec;
    cu_backend *b = (cu_backend *)exec->backend;
    utter_status st = check_run(e, state, first_slot, n_t, err);
    if (st == UTTER_OK)
        st = cu_check(b, err);
    if (st != UTTER_OK)
        return st;
    cu_enter(b);
    *r = (cu_run){.b = b,
                  .e = e,
                  .s = (cu_state *)state,
                  .first_slot = first_slot,
                  .n_t = graph_length(e, n_t),
                  .stream = b->stream};
    if (r->s)
        r->stream = r->s->stream;
    wait_for_run(r, e->arena->last); /* the arena is still that run's */
    /* A kernel for all phases needs all multiprocessors at once: beside others, one would wait for
     * the other at every turn. */
    if (b->last && (takes_all(e) || takes_all(b->last)))
        wait_for_run(r, b->last);
    copy_inputs(r, n_t);
    set_length(r, n_t);
    e->last_t = n_t;
    return UTTER_OK;
}

static utter_status end_run(cu_run *r, ut_err *err)
{
    if (r->result == CU_OK)
        r->result = r->b->d.event_record(r->e->done, r->stream);
    r->e->stream = r->stream;
    r->e->arena->last = r->b->last = r->e;
    if (r->result != CU_OK)
        return cu_fail(r->b, r->result, r->e->head.plan->name, err);
    return UTTER_OK;
}

utter_status cu_run_plan(ut_exec *exec, ut_state *state, int first_slot, int32_t n_t, ut_err *err)
{
    cu_exec *e = (cu_exec *)exec;
    cu_run r;
    utter_status st = begin_run(&r, exec, state, first_slot, n_t, err);
    if (st != UTTER_OK)
        return st;
    bool known = false;
    cu_captured *c = find_captured(&r, &known);
    c->used = ++e->n_runs;
    const bool whole = e->frames == CU_FRAMES_WHOLE;
    if (e->frames != CU_FRAMES_STEPS && !c->ready) {
        st = cu_frame_prepare(&r, c, err);
        if (st != UTTER_OK) { /* what has begun is a run, too: others come after it */
            end_run(&r, NULL);
            return st;
        }
    }
    const bool by_graph = !(whole && e->tail == 0) && (known || e->max_t == 1);
    if (r.result == CU_OK && !c->graph && by_graph)
        capture(&r, c);
    if (c->graph && r.result == CU_OK)
        r.result = r.b->d.graph_launch(c->graph, r.stream);
    else
        launch_all(&r, c);
    if (whole)
        cu_frame_launch_whole(&r, c);
    return end_run(&r, err);
}

utter_status cu_run_timed(ut_exec *exec, ut_state *state, int first_slot, int32_t n_t, float *ms,
                          ut_err *err)
{
    const cu_driver *d = &((cu_backend *)exec->backend)->d;
    cu_run r;
    utter_status st = begin_run(&r, exec, state, first_slot, n_t, err);
    if (st != UTTER_OK)
        return st;
    cu_event at[2] = {0};
    for (int i = 0; i < 2 && r.result == CU_OK; i++)
        r.result = d->event_new(&at[i], CU_EVENT_TIMING);
    for (int32_t i = 0; i < r.e->n_steps && r.result == CU_OK; i++) {
        r.result = d->event_record(at[0], r.stream);
        cu_launch_step(&r, i);
        if (r.result == CU_OK)
            r.result = d->event_record(at[1], r.stream);
        if (r.result == CU_OK && cu_wait(r.b, at[1], "timing a run", err) != UTTER_OK)
            r.result = CU_TIMED_OUT;
        if (r.result == CU_OK)
            r.result = d->event_elapsed(&ms[i], at[0], at[1]);
    }
    st = end_run(&r, err);
    for (int i = 0; i < 2; i++)
        if (at[i])
            d->event_free(at[i]);
    return st;
}

bool cu_done(ut_exec *exec)
{
    const cu_exec *e = (const cu_exec *)exec;
    cu_backend *b = (cu_backend *)exec->backend;
    cu_enter(b);
    return !e->stream || b->d.event_query(e->done) != CU_NOT_READY;
}

/* Rows of all slots, one after another, to the host. */
static cu_result fetch(cu_exec *e, const cu_place *p, uint8_t *dst)
{
    cu_backend *b = (cu_backend *)e->head.backend;
    const size_t rows = (size_t)cu_rows(p, e->last_t);
    const size_t bytes = 4 * rows * (size_t)p->cols, step = bytes + 4 * (size_t)p->lead;
    const cu_ptr src = e->arena->memory + p->offset + 4 * (uint64_t)p->lead;
    cu_result r = CU_OK;
    if (p->lead == 0)
        r = b->d.to_host(dst, src, bytes * (size_t)e->n_slots, b->stream);
    for (int i = 0; p->lead && i < e->n_slots && r == CU_OK; i++)
        r = b->d.to_host(dst + (size_t)i * bytes, src + (size_t)i * step, bytes, b->stream);
    return r == CU_OK ? cu_sync(b, b->stream) : r;
}

const void *cu_output(ut_exec *exec, ut_tid t, ut_err *err)
{
    cu_exec *e = (cu_exec *)exec;
    cu_backend *b = (cu_backend *)exec->backend;
    const ut_tid root = ut_plan_root(exec->plan, t);
    if (!e->stream) {
        ut_fail(err, UTTER_ERR_ARG, "plan %s: an output before the first run", exec->plan->name);
        return NULL;
    }
    cu_enter(b);
    if (cu_check(b, err) != UTTER_OK || cu_wait(b, e->done, exec->plan->name, err) != UTTER_OK)
        return NULL;
    for (int i = 0; i < e->n_outputs; i++) {
        if (e->outputs[i].tensor != root)
            continue;
        const cu_result r = fetch(e, &e->places[root], e->outputs[i].data);
        if (r == CU_OK)
            return e->outputs[i].data;
        cu_fail(b, r, exec->plan->name, err);
        return NULL;
    }
    ut_fail(err, UTTER_ERR_ARG, "plan %s: tensor %d is no output", exec->plan->name, (int)t);
    return NULL;
}
