/* sound.c - runs of the codec, which make sound of the frames of a batch's sessions. Sessions with
 * as many frames waiting share a run, where their slots lie so that a plan has them.
 *
 * The slots of a run are neighbours, and a session that is in the middle of its speech may only be
 * among them if the run is for it. So sessions are kept in step: one that has more frames waiting
 * than another gives the difference to the codec first, and then all have the same number, whenever
 * they began. Slots of nobody run along with any codes, since a reset precedes their use.
 *
 * A run begins when enough frames wait for it: one at first, so that the first samples come as
 * early as they can, later half as many as the session has decoded: a listener then never waits as
 * long as the work takes up to 2/3 of the time that its sound lasts. Where frames are made faster
 * than that, a run waits for more of them, since long runs cost less a frame: until a listener who
 * began with the first samples would have heard half of what was decoded. The session with the
 * fewest decides for all. A row of a plan's result does not depend on how many rows or slots there
 * are, so this changes no sample. Sound for a session that did not ask for it waits in its buffer;
 * while that is full, the session is left out. */
#include "engine/batch.h"
#include <string.h>

static uint64_t bit(int slot)
{
    return UINT64_C(1) << slot;
}

/* In the middle of its speech: what its slot remembers is needed. */
static bool speaks(const ut_session *s)
{
    return s->taken && (s->live || s->n_decoded < s->n_frames);
}

static bool gets_frames(const ut_session *s)
{
    return s->live && s->n_frames < s->now.pause;
}

static int32_t min_i32(int32_t a, int32_t b)
{
    return a < b ? a : b;
}

/* Frames that are enough for a run: one at first, later half as many as were decoded. */
static int32_t patience(const ut_session *s)
{
    return s->n_decoded < 2 ? 1 : s->n_decoded / 2;
}

/* Would one who listens since the first samples have more than half of them yet to hear? */
static bool has_time(const ut_session *s)
{
    const ut_model *m = s->engine->model;
    const double made = (double)s->n_decoded * m->codec.hop_samples / m->info.sample_rate;
    return s->heard_since > 0 && s->engine->clock() - s->heard_since < made / 2;
}

/* Longest run of a plan for as many sessions as speak. */
static int32_t longest_run(const ut_batch *b)
{
    const utter_engine *e = b->engine;
    int n = 0, k = 0;
    for (int i = 0; i < b->n_slots; i++)
        n += speaks(b->sessions[i]);
    while (e->frame_slots[k] < n)
        k++;
    return e->decode_max_t[k];
}

/* ---- What to run ----------------------------------------------------------------------------- */

/* What a run is to be: n_t frames of these slots. */
typedef struct wanted {
    uint64_t slots;
    int32_t n_t;
} wanted;

/* Frames that the session waits to hear, if its buffer has room for them. */
static void add(wanted *w, const ut_session *s, int32_t n, int32_t longest)
{
    const ut_codec *c = &s->engine->model->codec;
    const size_t made = s->n_sound / (size_t)c->hop_samples;
    n = min_i32(n, longest);
    if (n <= 0 || made + (size_t)n > UT_SOUND_RUNS * (size_t)s->engine->sound_frames)
        return;
    w->slots |= bit(s->slot);
    w->n_t = w->n_t ? min_i32(w->n_t, n) : n;
}

/* The first frames of sessions that were not heard yet. */
static wanted first_frames(const ut_batch *b)
{
    wanted w = {0};
    for (int i = 0; i < b->n_slots; i++) {
        const ut_session *s = b->sessions[i];
        if (speaks(s) && s->n_decoded == 0)
            add(&w, s, min_i32(s->n_frames, 1), 1);
    }
    return w;
}

/* Frames by which sessions are ahead of the others, or that are their last. *least: waiting
 * everywhere else. */
static wanted surplus(const ut_batch *b, int32_t longest, int32_t *least)
{
    wanted w = {0};
    *least = INT32_MAX;
    for (int i = 0; i < b->n_slots; i++) {
        const ut_session *s = b->sessions[i];
        if (speaks(s) && gets_frames(s))
            *least = min_i32(*least, s->n_frames - s->n_decoded);
    }
    for (int i = 0; i < b->n_slots; i++) {
        const ut_session *s = b->sessions[i];
        if (speaks(s))
            add(&w, s, s->n_frames - s->n_decoded - (gets_frames(s) ? *least : 0), longest);
    }
    return w;
}

/* All of what waits, as many frames of each session, if that is enough for one of them. */
static wanted all_waiting(const ut_batch *b, int32_t longest, int32_t least)
{
    wanted w = {0};
    bool enough = false;
    for (int i = 0; i < b->n_slots; i++) {
        const ut_session *s = b->sessions[i];
        const wanted before = w;
        if (speaks(s) && gets_frames(s) && s->n_frames - s->n_decoded == least)
            add(&w, s, least, longest);
        if (w.slots != before.slots)
            enough = enough || least >= longest || (least >= patience(s) && !has_time(s));
    }
    return enough ? w : (wanted){0};
}

static wanted choose(const ut_session *s)
{
    const ut_batch *b = s->batch;
    if (s->n_decoded == 0 && s->n_frames > 0)
        return first_frames(b);
    const int32_t longest = longest_run(b);
    int32_t least;
    wanted w = surplus(b, longest, &least);
    return w.slots ? w : all_waiting(b, longest, least);
}

/* ---- Where to run it ------------------------------------------------------------------------- */

static int count_bits(uint64_t x)
{
    int n = 0;
    for (; x; x &= x - 1)
        n++;
    return n;
}

/* The plan and the first slot by which most of the wanted slots have their run: the smallest such
 * plan, on slots that are wanted or nobody's. */
static void place(ut_batch *b, const wanted *w)
{
    const utter_engine *e = b->engine;
    uint64_t allowed = w->slots;
    int most = 0;
    for (int i = 0; i < b->n_slots; i++)
        if (!speaks(b->sessions[i]))
            allowed |= bit(i);
    for (int k = 0; k < e->n_frames; k++) {
        const int n = e->frame_slots[k];
        for (int first = 0; first + n <= b->n_slots && w->n_t <= e->decode_max_t[k]; first += n) {
            const uint64_t slots = (bit(n) - 1) << first;
            const int here = count_bits(slots & w->slots);
            if ((slots & ~allowed) || here <= most)
                continue;
            most = here;
            b->sound.plan = k;
            b->sound.first_slot = first;
            b->sound.slots = slots & w->slots;
        }
    }
    b->sound.n_t = w->n_t;
}

/* ---- Runs ------------------------------------------------------------------------------------ */

utter_status ut_sound_start(ut_session *asking, bool *started, ut_err *err)
{
    ut_batch *b = asking->batch;
    const utter_engine *e = b->engine;
    const ut_backend_ops *ops = e->backend->ops;
    const wanted w = choose(asking);
    *started = w.slots != 0;
    if (!w.slots)
        return UTTER_OK;
    place(b, &w);
    ut_exec *x = e->decode[b->sound.plan];
    const size_t n_codes = (size_t)w.n_t * (size_t)e->model->codec.n_codebooks;
    int32_t *codes = ops->input(x, e->codes, w.n_t); /* [slots, n_t, n_codebooks] */
    for (int i = 0; i < e->frame_slots[b->sound.plan]; i++, codes += n_codes) {
        const ut_session *s = b->sessions[b->sound.first_slot + i];
        if (b->sound.slots & bit(s->slot))
            memcpy(codes, s->codes + (size_t)s->n_decoded * (size_t)e->model->codec.n_codebooks,
                   n_codes * sizeof *codes);
        else
            memset(codes, 0, n_codes * sizeof *codes);
    }
    const utter_status st = ops->run(x, b->codec, b->sound.first_slot, w.n_t, err);
    for (int i = 0; i < b->n_slots && st == UTTER_OK; i++)
        if (b->sound.slots & bit(i)) {
            b->sessions[i]->n_speaking = w.n_t;
            b->sessions[i]->n_decoded += w.n_t;
            b->sessions[i]->n_codec_frames += w.n_t;
        }
    if (st != UTTER_OK)
        b->sound.slots = 0;
    return st;
}

bool ut_sound_ready(const ut_batch *b)
{
    return b->sound.slots && b->engine->backend->ops->done(b->engine->decode[b->sound.plan]);
}

utter_status ut_sound_fetch(ut_batch *b, ut_err *err)
{
    const utter_engine *e = b->engine;
    if (!b->sound.slots)
        return UTTER_OK;
    const float *pcm = e->backend->ops->output(e->decode[b->sound.plan], e->pcm, err);
    const size_t n = (size_t)b->sound.n_t * (size_t)e->model->codec.hop_samples;
    for (int i = 0; i < b->n_slots; i++)
        if (b->sound.slots & bit(i))
            ut_session_hear(b->sessions[i],
                            pcm ? pcm + (size_t)(i - b->sound.first_slot) * n : NULL);
    b->sound.slots = 0;
    return pcm ? UTTER_OK : err->status;
}
