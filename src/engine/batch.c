/* batch.c - sessions whose frames are made together: every run of the frame plan makes a frame of
 * every slot, so sessions join and leave between runs, and a slot without a session, or one whose
 * session waits for text, makes frames for nobody.
 *
 * Such a frame advances the slot's position, and may do so as far as the caches reach. A slot of no
 * session is therefore reset now and then. Of a session that waits the small states are saved; its
 * caches are only written at positions that are written again before they are read (no cache of an
 * AR loop is windowed). It goes on from what was saved.
 *
 * Runs are started ahead of the one whose frames are read, as many as the backend finds worth it: a
 * session that stops wastes those of them that are its own. */
#include "engine/batch.h"
#include "base/alloc.h"
#include <string.h>

#define NOT_CLEAR INT32_MAX /* of n_unused: contents unknown */

utter_status ut_batch_new(utter_engine *e, ut_batch **out, ut_err *err)
{
    *out = NULL;
    ut_batch *b = ut_calloc(1, sizeof *b);
    if (!b)
        return ut_fail(err, UTTER_ERR_NOMEM, "no memory for sessions");
    const ut_ar *ar = &e->model->ar;
    const int32_t ring_rows = ar->states.def[ar->ring].rows;
    b->engine = e;
    b->n_slots = e->n_slots;
    b->ahead = e->backend->max_ahead;
    if (b->ahead > UT_MAX_AHEAD)
        b->ahead = UT_MAX_AHEAD;
    if (b->ahead > ring_rows)
        b->ahead = ring_rows;
    const ut_backend_ops *ops = e->backend->ops;
    utter_status st = ops->state_new(e->backend, &ar->states, b->n_slots, &b->ar, err);
    if (st == UTTER_OK)
        st = ops->state_new(e->backend, &e->model->codec.decode_states, b->n_slots, &b->codec, err);
    for (int i = 0; i < b->n_slots && st == UTTER_OK; i++) {
        b->n_unused[i] = NOT_CLEAR;
        st = ut_session_new(b, i, &b->sessions[i], err);
    }
    if (st != UTTER_OK)
        ut_batch_free(b);
    else
        *out = b;
    return st;
}

void ut_batch_free(ut_batch *b)
{
    if (!b)
        return;
    for (int i = 0; i < b->n_slots; i++)
        ut_session_free(b->sessions[i]);
    b->engine->backend->ops->state_free(b->ar);
    b->engine->backend->ops->state_free(b->codec);
    ut_free(b);
}

/* ---- Slots that make frames for nobody ------------------------------------------------------- */

/* All small states of the session's slot, one after another: saved, or brought back. Caches stay.
 */
static utter_status copy_small_states(ut_session *s, bool save, ut_err *err)
{
    const ut_backend_ops *ops = s->engine->backend->ops;
    const ut_state_set *set = &s->engine->model->ar.states;
    size_t bytes = 0;
    for (int i = 0; i < set->n; i++)
        if (!set->def[i].keep)
            bytes += ut_state_def_bytes(&set->def[i]);
    if (!s->saved)
        s->saved = ut_malloc(bytes);
    if (!s->saved)
        return ut_fail(err, UTTER_ERR_NOMEM, "no memory for a session that waits");
    if (!save)
        ops->state_reset(s->batch->ar, s->slot);
    char *at = s->saved;
    for (int i = 0; i < set->n; i++) {
        const ut_state_def *d = &set->def[i];
        if (d->keep)
            continue;
        if (save)
            ops->state_read(s->batch->ar, i, s->slot, 0, d->rows, at);
        else
            ops->state_write(s->batch->ar, i, s->slot, 0, d->rows, at);
        at += ut_state_def_bytes(d);
    }
    return UTTER_OK;
}

/* Slot i of no session, as new, with parameters that make numbers of all frames. */
static void clear_slot(ut_batch *b, int i)
{
    static const float neutral[UT_SP_COUNT] = {
        [UT_SP_TOP_P] = 1.0f, [UT_SP_REPETITION_PENALTY] = 1.0f};
    const ut_ar *ar = &b->engine->model->ar;
    const ut_backend_ops *ops = b->engine->backend->ops;
    ops->state_reset(b->ar, i);
    for (int32_t row = 0; row < ar->states.def[ar->params].rows; row++)
        ops->state_write(b->ar, ar->params, i, row, 1, neutral);
    b->n_unused[i] = 0;
}

/* Before a run whose frame of slot i is for nobody. */
static utter_status prepare_unused(ut_batch *b, int i, ut_err *err)
{
    ut_session *s = b->sessions[i];
    const int32_t capacity = b->engine->model->ar.capacity;
    utter_status st = UTTER_OK;
    if (!s->live) {
        if (b->n_unused[i] >= capacity)
            clear_slot(b, i);
    } else if (!s->waits) {
        st = copy_small_states(s, true, err);
        s->waits = st == UTTER_OK;
        b->n_unused[i] = 0;
    } else if (s->n_prompt + s->n_started - 1 + b->n_unused[i] >= capacity) {
        st = copy_small_states(s, false, err);
        b->n_unused[i] = 0;
    }
    b->n_unused[i]++;
    return st;
}

utter_status ut_batch_wake(ut_session *s, ut_err *err)
{
    if (!s->waits)
        return UTTER_OK;
    s->waits = false;
    return copy_small_states(s, false, err);
}

void ut_batch_leave(ut_session *s)
{
    ut_batch *b = s->batch;
    s->live = s->waits = false;
    b->n_unused[s->slot] = NOT_CLEAR;
    for (int i = 0; i < b->n_flying; i++)
        b->flying[i] &= ~(UINT64_C(1) << s->slot);
}

/* ---- Runs ------------------------------------------------------------------------------------ */

static bool wants_frame(const ut_session *s)
{
    return s->live && s->n_started < s->now.limit && s->n_started < s->now.pause;
}

/* Slots that the next run is for; none when it has to wait: a session whose last frame has been
 * started takes it before its slot makes others. */
static uint64_t next_run(const ut_batch *b)
{
    uint64_t wanted = 0;
    for (int i = 0; i < b->n_slots; i++) {
        const ut_session *s = b->sessions[i];
        if (wants_frame(s))
            wanted |= UINT64_C(1) << i;
        else if (s->live && s->n_frames < s->n_started)
            return 0;
    }
    return wanted;
}

/* Forget runs that nobody waits for any more. */
static void drop_unwanted(ut_batch *b)
{
    int n = 0;
    while (n < b->n_flying && b->flying[n] == 0)
        n++;
    b->n_flying -= n;
    memmove(b->flying, b->flying + n, (size_t)b->n_flying * sizeof *b->flying);
}

utter_status ut_batch_start(ut_batch *b, ut_err *err)
{
    const utter_engine *e = b->engine;
    drop_unwanted(b);
    while (b->n_flying < b->ahead) {
        const uint64_t wanted = next_run(b);
        if (!wanted)
            return UTTER_OK;
        int k = 0; /* the smallest plan that has all of them */
        while (k + 1 < e->n_frames && wanted >> e->frame_slots[k])
            k++;
        utter_status st = UTTER_OK;
        for (int i = 0; i < e->frame_slots[k] && st == UTTER_OK; i++)
            if (!(wanted >> i & 1))
                st = prepare_unused(b, i, err);
        if (st == UTTER_OK)
            st = e->backend->ops->run(e->frames[k], b->ar, 0, 1, err);
        if (st != UTTER_OK)
            return st;
        for (int i = 0; i < b->n_slots; i++)
            b->sessions[i]->n_started += (int32_t)(wanted >> i & 1);
        b->flying[b->n_flying++] = wanted;
    }
    return UTTER_OK;
}

bool ut_batch_ready(ut_batch *b)
{
    drop_unwanted(b);
    if (b->n_flying == 0)
        return false;
    for (int i = 0; i < b->n_slots; i++)
        if (b->flying[0] >> i & 1 &&
            !b->engine->backend->ops->ring_ready(b->ar, b->engine->model->ar.ring, i,
                                                 b->sessions[i]->n_frames))
            return false;
    return true;
}

utter_status ut_batch_take(ut_batch *b, ut_err *err)
{
    drop_unwanted(b);
    if (b->n_flying == 0)
        return ut_fail(err, UTTER_ERR_INTERNAL, "a session waits for a frame that nobody makes");
    utter_status st = UTTER_OK;
    for (int i = 0; i < b->n_slots && st == UTTER_OK; i++)
        if (b->flying[0] >> i & 1)
            st = ut_session_take_frame(b->sessions[i], err);
    if (b->n_flying > 0)
        b->flying[0] = 0;
    drop_unwanted(b);
    return st;
}
