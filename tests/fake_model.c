/* fake_model.c - see fake_model.h. States and inputs are plain arrays; a "run" calls the function
 * of its plan. */
#include "fake_model.h"
#include "base/alloc.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- The model ------------------------------------------------------------------------------ */

typedef struct fake_model {
    ut_model head;
    fake *control;
} fake_model;

static const int32_t codebook_sizes[FAKE_CODEBOOKS] = {64, 16, 16};

/* State tensors of the AR loop and of the codec. The cache stands for keys and values: row p is
 * written by position p, and every frame reads all rows before its own. */
enum { AR_RING, AR_PARAMS, AR_RNG, AR_LOOP, AR_CACHE, N_AR };
enum { LOOP_DIGEST, LOOP_LENGTH, LOOP_FRAME, LOOP_FLAGS, LOOP_POS, N_LOOP };
enum { RING_ROWS = 4 };

/* Characters of a text that mean something, see fake_model.h: bit 0, 1, ... of LOOP_FLAGS. */
static const char flags[] = "~!=_";

static uint32_t mix(uint32_t h, uint32_t v)
{
    h = (h ^ v) * 0x9e3779b1u;
    return h ^ (h >> 15);
}

/* Frame f of a sequence. stop: it says that the speech is over. */
static void fake_column(uint32_t digest, uint64_t seed, int f, bool stop, int32_t *column)
{
    uint32_t h = mix(mix(mix(digest, (uint32_t)seed), (uint32_t)(seed >> 32)), (uint32_t)f);
    for (int q = 0; q < FAKE_CODEBOOKS; q++) {
        h = mix(h, (uint32_t)q);
        column[1 + q] = (int32_t)(h % (uint32_t)codebook_sizes[q]);
    }
    column[0] = stop ? FAKE_STOP : FAKE_SPEECH + column[1];
}

static uint32_t digest_of(const int32_t *prompt, int n)
{
    uint32_t h = 1;
    for (int i = 0; i < n * FAKE_COLUMNS; i++)
        h = mix(h, (uint32_t)prompt[i]);
    return h;
}

/* The codec: every sample depends on all codes so far. */
static void fake_decode(uint32_t *acc, const int32_t *codes, int n_frames, float *pcm)
{
    for (int t = 0; t < n_frames; t++) {
        for (int q = 0; q < FAKE_CODEBOOKS; q++)
            *acc = mix(*acc, (uint32_t)codes[t * FAKE_CODEBOOKS + q]);
        const bool silent =
            codes[t * FAKE_CODEBOOKS + 1] == 0 && codes[t * FAKE_CODEBOOKS + 2] == 0;
        for (int i = 0; i < FAKE_HOP; i++)
            pcm[t * FAKE_HOP + i] =
                silent ? 0.0f : (float)((*acc >> (3 * i)) & 255u) / 256.0f - 0.5f;
    }
}

static bool put(ut_buf *out, int32_t token, const int32_t *codes)
{
    bool ok = ut_buf_push_i32(out, token);
    for (int q = 0; q < FAKE_CODEBOOKS; q++)
        ok = ok && ut_buf_push_i32(out, codes ? codes[q] : 0);
    return ok;
}

static bool put_text(ut_buf *out, const char *text)
{
    bool ok = true;
    for (; *text && ok; text++)
        ok = put(out, FAKE_TEXT + (unsigned char)*text, NULL);
    return ok;
}

static utter_status fake_prompt(const ut_model *m, const ut_request *request, ut_prompt *prompt,
                                ut_err *err)
{
    const ut_reference *refs = request->refs;
    const int n_refs = request->n_refs;
    ut_buf *out = &prompt->columns;
    bool ok = put(out, FAKE_OPEN, NULL);
    for (int i = 0; i < n_refs && ok; i++) {
        ok = put_text(out, refs[i].text);
        for (int32_t t = 0; t < refs[i].n_frames && ok; t++) {
            const int32_t *codes = refs[i].codes + (size_t)t * FAKE_CODEBOOKS;
            ok = put(out, FAKE_SPEECH + codes[0], codes);
        }
        ok = ok && put(out, FAKE_CLOSE, NULL);
    }
    ok = ok && put_text(out, request->text);
    if (!ok)
        return ut_fail(err, UTTER_ERR_NOMEM, "no memory for a prompt");
    size_t n = ut_buf_n_i32(out) / FAKE_COLUMNS;
    if (n > (size_t)m->ar.max_prompt)
        return ut_fail(err, UTTER_ERR_LIMIT, "the prompt has %zu positions, expected at most %d", n,
                       (int)m->ar.max_prompt);
    return UTTER_OK;
}

static void fake_free(ut_model *m)
{
    ut_plan_free(m->ar.prefill);
    ut_plan_free(m->ar.frame);
    ut_plan_free(m->codec.decode);
    ut_plan_free(m->codec.encode);
    ut_free(m);
}

static void fake_release_pages(const ut_model *m)
{
    (void)m;
}

static const ut_model_ops model_ops = {.family = "fake",
                                       .free = fake_free,
                                       .release_pages = fake_release_pages,
                                       .prompt = fake_prompt};

/* Plans of inputs and outputs only: the backend knows the rest by name. */
static ut_plan *make_plan(const char *name, const ut_state_set *states, const char *in,
                          ut_dtype in_type, int in_rows, int in_cols, const char *out,
                          ut_dtype out_type, int out_rows, int out_cols)
{
    ut_plan *p = ut_plan_new(name, states, NULL);
    if (!p)
        return NULL;
    if (in)
        ut_plan_input(p, in, in_type, in_rows, 0, in_cols);
    if (out) /* an input for the builder: nothing is computed; the backend hands it out */
        ut_plan_input(p, out, out_type, out_rows, 0, out_cols);
    return p;
}

static ut_model *make_model(fake *f)
{
    fake_model *m = ut_calloc(1, sizeof *m);
    if (!m)
        return NULL;
    m->control = f;
    ut_model *h = &m->head;
    h->ops = &model_ops;
    h->info.family = "fake";
    h->voices = UT_VOICE_REFERENCE | UT_VOICE_NONE;
    h->ar.text = -1;
    h->info.sample_rate = FAKE_RATE;
    h->defaults = (ut_model_defaults){.temperature = 0.7f,
                                      .top_p = 0.9f,
                                      .repetition_penalty = 1.1f,
                                      .max_chunk_chars = FAKE_CHUNK_CHARS,
                                      .frames_per_char_limit = f->frames_per_char_limit};
    ut_state_set_add(&h->ar.states, "ring", UT_I32, RING_ROWS, FAKE_COLUMNS);
    ut_state_set_add(&h->ar.states, "params", UT_F32, 1, UT_SP_COUNT);
    ut_state_set_add(&h->ar.states, "rng", UT_I32, 1, UT_RNG_COUNT);
    ut_state_set_add(&h->ar.states, "loop", UT_I32, 1, N_LOOP);
    ut_state_set_add(&h->ar.states, "cache", UT_I32, FAKE_CAPACITY, 1);
    h->ar.states.def[AR_CACHE].keep = true;
    ut_state_set_add(&h->codec.decode_states, "acc", UT_I32, 1, 1);
    ut_state_set_add(&h->codec.encode_states, "acc", UT_I32, 1, 1);
    h->ar.columns = FAKE_COLUMNS;
    h->ar.capacity = FAKE_CAPACITY;
    h->ar.max_prompt = FAKE_MAX_PROMPT;
    h->ar.ring = AR_RING;
    h->ar.params = AR_PARAMS;
    h->ar.rng = AR_RNG;
    h->ar.stop_id = FAKE_STOP;
    h->ar.stop_from_frame = 1;
    h->ar.first_code_col = 1;
    h->codec.n_codebooks = FAKE_CODEBOOKS;
    h->codec.codebook_sizes = codebook_sizes;
    h->codec.hop_samples = FAKE_HOP;
    h->codec.max_frames = FAKE_MAX_FRAMES;
    h->ar.prefill =
        make_plan("prefill", &h->ar.states, "tokens", UT_I32, 1, FAKE_COLUMNS, NULL, UT_I32, 0, 0);
    h->ar.frame = make_plan("frame", &h->ar.states, NULL, UT_I32, 0, 0, NULL, UT_I32, 0, 0);
    h->codec.decode = make_plan("decode", &h->codec.decode_states, "codes", UT_I32, 1,
                                FAKE_CODEBOOKS, "pcm", UT_F32, FAKE_HOP, 1);
    if (!f->no_encoder)
        h->codec.encode = make_plan("encode", &h->codec.encode_states, "pcm", UT_F32, FAKE_HOP, 1,
                                    "codes", UT_I32, 1, FAKE_CODEBOOKS);
    if (!h->ar.prefill || !h->ar.frame || !h->codec.decode ||
        (!f->no_encoder && !h->codec.encode)) {
        fake_free(h);
        return NULL;
    }
    return h;
}

/* ---- The backend ---------------------------------------------------------------------------- */

typedef struct fake_backend {
    ut_backend head;
    fake *control;
} fake_backend;

typedef struct fake_exec {
    ut_exec head;
    int n_slots;
    int32_t max_t;
    void *memory[2]; /* of the plan's tensors, which are inputs or outputs */
    int until_done;  /* questions until the last run is over */
} fake_exec;

enum { MAX_QUEUE = 64 };

typedef struct fake_state {
    ut_state head;
    int32_t *memory[N_AR]; /* [n_slots, rows, cols]; every element has four bytes */
    int queue[MAX_QUEUE];  /* runs of the frame plan that did not happen yet: how many slots */
    int n_queue;
} fake_state;

/* A tensor of a slot. */
static int32_t *of_slot(const fake_state *s, int index, int slot)
{
    const ut_state_def *d = &s->head.set->def[index];
    return s->memory[index] + (size_t)(slot * d->rows * d->cols);
}

static fake *control_of(const ut_backend *b)
{
    return ((const fake_backend *)(const void *)b)->control;
}

static void backend_close(ut_backend *b)
{
    ut_free(b);
}

static void backend_describe(const ut_backend *b, char *text, size_t size)
{
    (void)b;
    snprintf(text, size, "nothing real");
}

static size_t backend_weight_bytes(const ut_backend *b)
{
    (void)b;
    return 1000;
}

static void exec_free(ut_exec *e)
{
    fake_exec *x = (fake_exec *)e;
    if (!x)
        return;
    control_of(e->backend)->n_execs--;
    ut_free(x->memory[0]);
    ut_free(x->memory[1]);
    ut_free(x);
}

static utter_status compile(ut_backend *b, const ut_plan *plan, int n_slots, int32_t max_t,
                            ut_exec **out, ut_err *err)
{
    *out = NULL;
    fake *f = control_of(b);
    fake_exec *x = ut_calloc(1, sizeof *x);
    if (!x)
        return ut_fail(err, UTTER_ERR_NOMEM, "no memory for plan %s", plan->name);
    x->head = (ut_exec){.backend = b, .plan = plan};
    x->n_slots = n_slots;
    x->max_t = max_t;
    f->n_execs++;
    f->n_compiles++;
    for (int32_t i = 0; i < plan->n_tensors; i++) {
        const ut_tensor *t = &plan->tensors[i];
        x->memory[i] = ut_calloc((size_t)(n_slots * t->rows_per_t * max_t * t->cols), 4);
        if (!x->memory[i]) {
            exec_free(&x->head);
            return ut_fail(err, UTTER_ERR_NOMEM, "no memory for plan %s", plan->name);
        }
    }
    if (strcmp(plan->name, "prefill") == 0)
        f->largest_prefill = max_t;
    *out = &x->head;
    return UTTER_OK;
}

static size_t exec_bytes(const ut_exec *e)
{
    (void)e;
    return 10;
}

static void state_free(ut_state *s)
{
    fake_state *x = (fake_state *)s;
    if (!x)
        return;
    control_of(s->backend)->n_states--;
    for (int i = 0; i < N_AR; i++)
        ut_free(x->memory[i]);
    ut_free(x);
}

static utter_status state_new(ut_backend *b, const ut_state_set *set, int n_slots, ut_state **out,
                              ut_err *err)
{
    *out = NULL;
    fake_state *x = ut_calloc(1, sizeof *x);
    if (!x)
        return ut_fail(err, UTTER_ERR_NOMEM, "no memory for a state");
    x->head = (ut_state){.backend = b, .set = set, .n_slots = n_slots};
    control_of(b)->n_states++;
    for (int i = 0; i < set->n; i++) {
        x->memory[i] = ut_calloc((size_t)(n_slots * set->def[i].rows * set->def[i].cols), 4);
        if (!x->memory[i]) {
            state_free(&x->head);
            return ut_fail(err, UTTER_ERR_NOMEM, "no memory for a state");
        }
    }
    *out = &x->head;
    return UTTER_OK;
}

/* The next frame of a slot's loop into the ring. */
/* Of speech that repeats itself, or that is silent. */
static void make_special(int32_t *column, int frame, int32_t flagged)
{
    if (flagged & 4)
        column[1] = frame % 2;
    if (flagged & 8)
        column[2] = column[3] = 0;
}

static void make_frame(fake *f, fake_state *s, int slot)
{
    int32_t *loop = of_slot(s, AR_LOOP, slot);
    const int32_t *rng = of_slot(s, AR_RNG, slot), *cache = of_slot(s, AR_CACHE, slot);
    uint64_t seed = (uint32_t)rng[UT_RNG_SEED_LO] | (uint64_t)(uint32_t)rng[UT_RNG_SEED_HI] << 32;
    int frame = loop[LOOP_FRAME]++;
    bool endless = loop[LOOP_FLAGS] & 1, early = loop[LOOP_FLAGS] & 2;
    bool stop = (!endless && frame == loop[LOOP_LENGTH]) || (early && frame == 0);
    for (int p = 0; p < loop[LOOP_POS]; p++)
        f->broken |= cache[p] != (int32_t)mix((uint32_t)loop[LOOP_DIGEST], (uint32_t)p);
    fake_column((uint32_t)loop[LOOP_DIGEST], seed, frame, stop,
                of_slot(s, AR_RING, slot) + (frame % RING_ROWS) * FAKE_COLUMNS);
    make_special(of_slot(s, AR_RING, slot) + (frame % RING_ROWS) * FAKE_COLUMNS, frame,
                 loop[LOOP_FLAGS]);
    memcpy(f->last_params, of_slot(s, AR_PARAMS, slot), sizeof f->last_params);
    f->last_seed = seed;
}

static void fill_cache(fake *f, fake_state *s, int slot, int32_t n)
{
    int32_t *loop = of_slot(s, AR_LOOP, slot);
    f->broken |= loop[LOOP_POS] + n > FAKE_CAPACITY;
    for (int32_t i = 0; i < n && loop[LOOP_POS] < FAKE_CAPACITY; i++, loop[LOOP_POS]++)
        of_slot(s, AR_CACHE, slot)[loop[LOOP_POS]] =
            (int32_t)mix((uint32_t)loop[LOOP_DIGEST], (uint32_t)loop[LOOP_POS]);
}

static void run_frame(fake_state *s, int n_slots)
{
    fake *f = control_of(s->head.backend);
    for (int slot = 0; slot < n_slots; slot++) {
        fill_cache(f, s, slot, 1);
        make_frame(f, s, slot);
    }
}

static void run_queued(fake_state *s)
{
    run_frame(s, s->queue[0]);
    s->n_queue--;
    memmove(s->queue, s->queue + 1, (size_t)s->n_queue * sizeof *s->queue);
}

static void catch_up(fake_state *s)
{
    while (s->n_queue > 0)
        run_queued(s);
}

static void run_prefill(fake *f, fake_exec *x, fake_state *s, int slot, int32_t n_t)
{
    int32_t *loop = of_slot(s, AR_LOOP, slot);
    const int32_t *prompt = x->memory[0];
    memcpy(f->prompt, prompt, (size_t)n_t * FAKE_COLUMNS * sizeof *prompt);
    f->n_prompt = n_t;
    f->n_prefills++;
    loop[LOOP_DIGEST] = (int32_t)digest_of(prompt, n_t);
    for (int32_t t = n_t - 1; t > 0 && prompt[t * FAKE_COLUMNS] != FAKE_CLOSE; t--) {
        int32_t token = prompt[t * FAKE_COLUMNS];
        loop[LOOP_LENGTH]++;
        const char *flag = strchr(flags, token - FAKE_TEXT);
        if (token > FAKE_TEXT && token < FAKE_TEXT + 128 && flag)
            loop[LOOP_FLAGS] |= 1 << (flag - flags);
    }
    fill_cache(f, s, slot, n_t);
    make_frame(f, s, slot);
}

static void state_reset(ut_state *s, int slot)
{
    catch_up((fake_state *)s);
    for (int i = 0; i < s->set->n; i++)
        if (!s->set->def[i].keep)
            memset(of_slot((fake_state *)s, i, slot), 0, ut_state_def_bytes(&s->set->def[i]));
}

static void state_write(ut_state *s, int index, int slot, int32_t row, int32_t n_rows,
                        const void *src)
{
    size_t cols = (size_t)s->set->def[index].cols;
    catch_up((fake_state *)s);
    memcpy(of_slot((fake_state *)s, index, slot) + (size_t)row * cols, src,
           (size_t)n_rows * cols * 4);
}

static void state_read(ut_state *s, int index, int slot, int32_t row, int32_t n_rows, void *dst)
{
    size_t cols = (size_t)s->set->def[index].cols;
    catch_up((fake_state *)s);
    memcpy(dst, of_slot((fake_state *)s, index, slot) + (size_t)row * cols,
           (size_t)n_rows * cols * 4);
}

static void *exec_input(ut_exec *e, ut_tid t, int32_t n_t)
{
    (void)n_t;
    return ((fake_exec *)e)->memory[t];
}

static void run_encode(fake *f, fake_exec *x, fake_state *s, int32_t n_t)
{
    const float *pcm = x->memory[0];
    int32_t *codes = x->memory[1];
    f->n_encode_runs++;
    for (int32_t t = 0; t < n_t; t++)
        for (int q = 0; q < FAKE_CODEBOOKS; q++) {
            uint32_t bits;
            memcpy(&bits, &pcm[t * FAKE_HOP + q], sizeof bits);
            s->memory[0][0] = (int32_t)mix((uint32_t)s->memory[0][0], bits);
            codes[t * FAKE_CODEBOOKS + q] =
                (int32_t)((uint32_t)s->memory[0][0] % (uint32_t)codebook_sizes[q]);
        }
}

static utter_status run(ut_exec *e, ut_state *state, int first_slot, int32_t n_t, ut_err *err)
{
    fake *f = control_of(e->backend);
    fake_exec *x = (fake_exec *)e;
    fake_state *s = (fake_state *)state;
    if (f->fail_run && --f->fail_run == 0)
        return ut_fail(err, UTTER_ERR_BACKEND, "the fake device is gone");
    if (n_t < 1 || n_t > x->max_t)
        return ut_fail(err, UTTER_ERR_INTERNAL, "%s: T is %d of %d", e->plan->name, (int)n_t,
                       (int)x->max_t);
    if (s)
        f->broken |= first_slot < 0 || first_slot + x->n_slots > s->head.n_slots;
    if (strcmp(e->plan->name, "prefill") == 0) {
        catch_up(s);
        run_prefill(f, x, s, first_slot, n_t);
    } else if (strcmp(e->plan->name, "frame") == 0) {
        if (f->on_frame)
            f->on_frame(f->user, of_slot(s, AR_LOOP, 0)[LOOP_FRAME]);
        f->n_frame_runs++;
        f->n_slots_run += x->n_slots;
        if (s->n_queue == MAX_QUEUE)
            return ut_fail(err, UTTER_ERR_INTERNAL, "too many runs at once");
        s->queue[s->n_queue++] = x->n_slots;
        if (s->n_queue > f->most_ahead)
            f->most_ahead = s->n_queue;
        if (f->ahead == 0)
            catch_up(s);
    } else if (strcmp(e->plan->name, "decode") == 0) {
        f->n_decode_runs++;
        f->n_slots_decoded += x->n_slots;
        x->until_done = f->ahead;
        for (int i = 0; i < x->n_slots; i++)
            fake_decode((uint32_t *)of_slot(s, 0, first_slot + i),
                        (int32_t *)x->memory[0] + i * n_t * FAKE_CODEBOOKS, n_t,
                        (float *)x->memory[1] + i * n_t * FAKE_HOP);
    } else {
        run_encode(f, x, s, n_t);
    }
    return UTTER_OK;
}

static const void *exec_output(ut_exec *e, ut_tid t, ut_err *err)
{
    fake *f = control_of(e->backend);
    if (f->fail_output && --f->fail_output == 0) {
        ut_fail(err, UTTER_ERR_BACKEND, "the fake device is gone");
        return NULL;
    }
    return ((fake_exec *)e)->memory[t];
}

/* Has the frame been made, and not been overwritten? */
static bool in_ring(const fake_state *s, int slot, int64_t frame)
{
    const int32_t made = of_slot(s, AR_LOOP, slot)[LOOP_FRAME];
    return frame < made && made - frame <= RING_ROWS;
}

static utter_status ring_wait(ut_state *state, int index, int slot, int64_t frame, int32_t *dst,
                              ut_err *err)
{
    fake_state *s = (fake_state *)state;
    while (s->n_queue > 0 && of_slot(s, AR_LOOP, slot)[LOOP_FRAME] <= frame)
        run_queued(s);
    if (!in_ring(s, slot, frame))
        return ut_fail(err, UTTER_ERR_INTERNAL, "frame %d of slot %d is not there", (int)frame,
                       slot);
    memcpy(dst, of_slot(s, index, slot) + (frame % RING_ROWS) * FAKE_COLUMNS,
           FAKE_COLUMNS * sizeof *dst);
    return UTTER_OK;
}

/* Time goes by with every question: a run happens after a no. */
static bool ring_ready(ut_state *state, int index, int slot, int64_t frame)
{
    (void)index;
    fake_state *s = (fake_state *)state;
    if (in_ring(s, slot, frame))
        return true;
    if (s->n_queue > 0)
        run_queued(s);
    return false;
}

static bool exec_done(ut_exec *e)
{
    fake_exec *x = (fake_exec *)e;
    return x->until_done == 0 || --x->until_done == 0;
}

static bool backend_memory(const ut_backend *b, size_t *free_bytes, size_t *total)
{
    (void)b;
    *free_bytes = *total = 0;
    return false;
}

static const ut_backend_ops backend_ops = {.name = "fake",
                                           .close = backend_close,
                                           .describe = backend_describe,
                                           .weight_bytes = backend_weight_bytes,
                                           .memory = backend_memory,
                                           .compile = compile,
                                           .exec_free = exec_free,
                                           .exec_bytes = exec_bytes,
                                           .state_new = state_new,
                                           .state_free = state_free,
                                           .state_reset = state_reset,
                                           .state_write = state_write,
                                           .state_read = state_read,
                                           .input = exec_input,
                                           .run = run,
                                           .done = exec_done,
                                           .output = exec_output,
                                           .ring_wait = ring_wait,
                                           .ring_ready = ring_ready};

/* ---- For tests ------------------------------------------------------------------------------ */

void fake_parts(fake *f, ut_model **m, ut_backend **b)
{
    fake_backend *x = ut_calloc(1, sizeof *x);
    *m = make_model(f);
    if (!*m || !x)
        abort();
    x->head.ops = &backend_ops;
    x->head.max_ahead = f->ahead ? f->ahead : 1;
    x->head.sound_frames = FAKE_MAX_FRAMES;
    x->head.all_sound_frames = 4 * FAKE_MAX_FRAMES;
    x->control = f;
    *b = &x->head;
}

/* Whoever listens has heard everything. */
static double late(void)
{
    static double now;
    return now += 1e6;
}

utter_engine *fake_engine(fake *f, const char *model_dir)
{
    ut_err err = {0};
    utter_engine *e;
    ut_model *m;
    ut_backend *b;
    fake_parts(f, &m, &b);
    if (ut_engine_new(m, b, model_dir, f->n_slots ? f->n_slots : 1, &e, &err) != UTTER_OK)
        fprintf(stderr, "fake_engine: %s\n", err.msg);
    else
        e->clock = late;
    return e;
}

size_t fake_speech(const char *text, const ut_reference *ref, uint64_t seed, int n_frames,
                   float *pcm, size_t max)
{
    ut_model m = {.ar = {.max_prompt = FAKE_MAX_PROMPT}};
    ut_prompt prompt;
    ut_prompt_init(&prompt);
    const ut_request request = {.text = text, .refs = ref, .n_refs = ref ? 1 : 0};
    if (fake_prompt(&m, &request, &prompt, NULL) != UTTER_OK)
        abort();
    uint32_t digest =
        digest_of(ut_buf_i32(&prompt.columns), (int)(ut_buf_n_i32(&prompt.columns) / FAKE_COLUMNS));
    uint32_t acc = 0;
    size_t n = 0;
    for (int f = 0; f < n_frames; f++, n += FAKE_HOP) {
        int32_t column[FAKE_COLUMNS];
        float frame[FAKE_HOP];
        fake_column(digest, seed, f, false, column);
        fake_decode(&acc, column + 1, 1, frame);
        for (size_t i = 0; i < FAKE_HOP && n + i < max; i++)
            pcm[n + i] = frame[i];
    }
    ut_prompt_free(&prompt);
    return n;
}
