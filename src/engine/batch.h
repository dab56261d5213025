/* batch.h - sessions that share the runs of one frame plan, a slot each; see batch.c. */
#ifndef UT_ENGINE_BATCH_H
#define UT_ENGINE_BATCH_H

#include "engine/engine.h"

enum { UT_MAX_AHEAD = 16 }; /* runs */

struct ut_batch {
    utter_engine *engine;
    ut_batch *next;  /* of the engine */
    ut_state *ar;    /* [n_slots] */
    ut_state *codec; /* [n_slots] */
    int n_slots;
    int ahead;                          /* runs that may be flying */
    ut_session *sessions[UT_MAX_SLOTS]; /* by slot, used or not; owned */
    int32_t n_unused[UT_MAX_SLOTS]; /* frames that a slot made for nobody since it was in order */
    uint64_t flying[UT_MAX_AHEAD];  /* runs started and not taken, oldest first: bit i: it makes
                                       the next frame of slot i's session */
    int n_flying;
    struct {
        uint64_t slots; /* bit i: it speaks for slot i's session; 0: there is none */
        int plan;       /* number of the engine's decode plan */
        int first_slot;
        int32_t n_t;
    } sound; /* a run of the codec whose sound was not fetched; none between calls of sessions */
};

/* States and sessions for the slots of the engine. */
utter_status ut_batch_new(utter_engine *e, ut_batch **out, ut_err *err);
void ut_batch_free(ut_batch *b); /* NULL is fine */

/* Start the runs that may be started now. */
utter_status ut_batch_start(ut_batch *b, ut_err *err);
/* Would ut_batch_take return at once? */
bool ut_batch_ready(ut_batch *b);
/* Wait for the oldest run and give its frames to their sessions. */
utter_status ut_batch_take(ut_batch *b, ut_err *err);
/* The session wants no more frames, those that were started included. */
void ut_batch_leave(ut_session *s);
/* Before the slot of a session that may have waited is written to. */
utter_status ut_batch_wake(ut_session *s, ut_err *err);

/* ---- Sound (sound.c) ------------------------------------------------------------------------- */

/* Start the codec, if it is time: for the session, or for another one that comes first. There is no
 * run to be fetched. */
utter_status ut_sound_start(ut_session *asking, bool *started, ut_err *err);
/* Is there a run, and over? */
bool ut_sound_ready(const ut_batch *b);
/* Wait for the run, if there is one, and give all sessions their part. */
utter_status ut_sound_fetch(ut_batch *b, ut_err *err);

#endif
