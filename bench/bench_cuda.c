/* bench_cuda.c - a model on a GPU through the engine: the figures that docs/performance.md reports.
 *
 *     bench_cuda MODEL_DIR [--device N] [--precision P] [--frames N] [--prompt N]
 *                [--frames-as auto|steps|phases|whole] [--slots N,N,...] [--profile] [--json FILE]
 *                [--soak N]
 *
 * End-of-speech is ignored; figures are medians of ROUNDS after one round of warming up. --slots:
 * after one slot, also this many at a time, for MANY_FRAMES frames. --profile also times every
 * operation of a frame and of a codec run by itself. --json appends every figure to a file. --soak
 * speaks N utterances of many lengths instead, and fails unless memory stays as it is. */
#include "backends/cuda/exec.h"
#include "base/os.h"
#include "cuda_profile.h"
#include "engine/batch.h"
#include "figures.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { ROUNDS = 5, MANY_FRAMES = 100, MAX_SIZES = 8 };
enum { MAX_POSITIONS = 2048, LONG_PROMPT = 1000, SOAK_LENGTHS = 400 };

typedef struct options {
    const char *dir;
    ut_backend_params backend;
    int32_t frames, prompt, soak;
    int sizes[MAX_SIZES], n_sizes; /* --slots, one aside */
    const char *json;
    bool profile;
    cu_frames frame_kernel;
} options;

typedef struct bench {
    options o;
    utter_engine *e;
    const ut_model *m;
    const ut_backend_ops *ops;
    ut_session *sessions[UT_MAX_SLOTS];
    int slots;
    ut_prompt prompt;
    int32_t frames;  /* of a generation, after frame 0 */
    double frame_ms; /* of audio */
    figures figures;
    ut_err err;
} bench;

/* ---- Pieces of a generation ------------------------------------------------------------------ */

/* start: when the program began to load. */
static utter_status open_engine(bench *x, int slots, double *start)
{
    ut_model *m;
    ut_backend *b;
    const ut_model_options bounds = {.max_positions = MAX_POSITIONS};
    *start = ut_time_now();
    utter_status st = ut_model_open(&m, x->o.dir, &bounds, &x->err);
    if (st != UTTER_OK)
        return st;
    st = ut_backend_open(&b, "cuda", &x->o.backend, &x->err);
    if (st != UTTER_OK) {
        ut_model_free(m);
        return st;
    }
    ((cu_backend *)b)->frames = x->o.frame_kernel;
    st = ut_engine_new(m, b, x->o.dir, slots, &x->e, &x->err);
    if (st != UTTER_OK)
        return st;
    x->m = m;
    x->ops = b->ops;
    x->slots = slots;
    x->frame_ms = 1e3 * m->codec.hop_samples / m->info.sample_rate;
    for (int i = 0; i < slots && st == UTTER_OK; i++)
        st = ut_session_take(x->e, &x->sessions[i], &x->err);
    printf("%s, %d slot%s, loaded in %.2f s\n", x->e->backend_text, slots, slots == 1 ? "" : "s",
           ut_time_now() - *start);
    return st;
}

static void close_engine(bench *x)
{
    for (int i = 0; x->e && i < x->slots; i++)
        ut_session_give(x->sessions[i]);
    utter_engine_close(x->e);
    x->e = NULL;
}

static bool never(void *user)
{
    (void)user;
    return false;
}

/* Session i reads a prompt of n tokens and makes frame 0; `frames` more are to come. */
static utter_status read_prompt(bench *x, int i, int32_t n, int32_t frames)
{
    const int32_t columns = x->m->ar.columns;
    ut_generation g = {.prompt = &x->prompt,
                       .limit = 1 + frames,
                       .seed = (uint64_t)i + 1,
                       .ignore_eos = true,
                       .pause = INT32_MAX};
    const ut_model_defaults *d = &x->m->defaults;
    const float sampling[2][UT_SP_COUNT] = {{[UT_SP_TEMPERATURE] = d->temperature,
                                             [UT_SP_TOP_P] = d->top_p,
                                             [UT_SP_REPETITION_PENALTY] = d->repetition_penalty,
                                             [UT_SP_TOP_K] = (float)d->top_k},
                                            {[UT_SP_TEMPERATURE] = d->sub_temperature,
                                             [UT_SP_TOP_P] = d->sub_top_p,
                                             [UT_SP_REPETITION_PENALTY] = 1,
                                             [UT_SP_TOP_K] = (float)d->sub_top_k}};
    memcpy(g.params, sampling, sizeof g.params);
    ut_prompt_clear(&x->prompt);
    for (int32_t k = 0; k < n * columns; k++)
        if (!ut_buf_push_i32(&x->prompt.columns, k % columns ? 0 : 100 + 37 * (k / columns) % 1000))
            return ut_fail(&x->err, UTTER_ERR_NOMEM, "no memory for a prompt");
    return ut_session_begin(x->sessions[i], &g, &x->err);
}

/* All frames of all sessions, without a codec. */
static utter_status make_frames(bench *x)
{
    utter_status st = UTTER_OK;
    for (int i = 0; i < x->slots && st == UTTER_OK; i++)
        while (!x->sessions[i]->ar_done && st == UTTER_OK) {
            st = ut_batch_start(x->e->batches, &x->err);
            if (st == UTTER_OK)
                st = ut_batch_take(x->e->batches, &x->err);
        }
    return st;
}

/* All sound of all sessions, read in turns. */
static utter_status speak(bench *x)
{
    for (bool any = true; any;) {
        any = false;
        for (int i = 0; i < x->slots; i++) {
            const utter_status st = ut_session_more(x->sessions[i], never, NULL, &x->err);
            if (st != UTTER_OK)
                return st;
            any = any || x->sessions[i]->n_pcm > 0;
        }
    }
    return UTTER_OK;
}

/* Prompts, then x->frames frames of every session, with sound or not; seconds of the latter. */
static utter_status generate(bench *x, bool with_codec, double *seconds)
{
    utter_status st = UTTER_OK;
    for (int i = 0; i < x->slots && st == UTTER_OK; i++)
        st = read_prompt(x, i, x->o.prompt, x->frames);
    const double start = ut_time_now();
    if (st == UTTER_OK)
        st = with_codec ? speak(x) : make_frames(x);
    *seconds = ut_time_now() - start;
    return st;
}

/* ---- Figures --------------------------------------------------------------------------------- */

static utter_status report_generation(bench *x)
{
    double s[2][ROUNDS + 1];
    utter_status st = UTTER_OK;
    for (int codec = 0; codec < 2; codec++)
        for (int i = 0; i <= ROUNDS && st == UTTER_OK; i++)
            st = generate(x, codec, &s[codec][i]);
    if (st != UTTER_OK)
        return st;
    double ms[2];
    for (int codec = 0; codec < 2; codec++)
        ms[codec] = figures_median(s[codec] + 1, ROUNDS) * 1e3 / x->frames;
    printf("%2d slot%s  frame %8.3f ms, RTF %.4f; with the codec %8.3f ms, RTF %.4f (%+.1f %%); "
           "%.1f s of audio per s\n",
           x->slots, x->slots == 1 ? " " : "s", ms[0], ms[0] / x->frame_ms, ms[1],
           ms[1] / x->frame_ms, 100 * (ms[1] / ms[0] - 1), x->slots * x->frame_ms / ms[1]);
    figures_put(&x->figures, "frame_ms", x->slots, ms[0]);
    figures_put(&x->figures, "frame_with_codec_ms", x->slots, ms[1]);
    figures_put(&x->figures, "audio_s_per_s", x->slots, x->slots * x->frame_ms / ms[1]);
    return UTTER_OK;
}

/* From the prompt's ids to frame 0, or to the first samples. */
static utter_status report_start(bench *x, int32_t n, bool sound)
{
    double s[ROUNDS + 2]; /* of the first two, one compiles and one makes a graph */
    utter_status st = UTTER_OK;
    for (int i = 0; i < ROUNDS + 2 && st == UTTER_OK; i++) {
        const double start = ut_time_now();
        st = read_prompt(x, 0, n, 20);
        if (st == UTTER_OK && sound)
            st = ut_session_more(x->sessions[0], never, NULL, &x->err);
        s[i] = ut_time_now() - start;
    }
    if (st != UTTER_OK)
        return st;
    const double ms = figures_median(s + 2, ROUNDS) * 1e3;
    char name[32];
    snprintf(name, sizeof name, sound ? "first_pcm_ms" : "prefill_%d_ms", (int)n);
    printf("prompt of %5d tokens, to %s  %8.3f ms\n", (int)n,
           sound ? "the first sound" : "frame 0        ", ms);
    figures_put(&x->figures, name, x->slots, ms);
    return UTTER_OK;
}

/* Of the plan for all slots. */
static utter_status report_codec(bench *x, int32_t n)
{
    double s[ROUNDS + 1];
    utter_status st = UTTER_OK;
    ut_state *state = x->e->batches->codec;
    ut_exec *e = x->e->decode[x->e->n_frames - 1];
    const size_t n_codes = (size_t)n * (size_t)x->m->codec.n_codebooks * (size_t)x->slots;
    for (int i = 0; i <= ROUNDS && st == UTTER_OK; i++) {
        const double start = ut_time_now();
        for (int k = 0; k < 10 && st == UTTER_OK; k++) {
            int32_t *codes = x->ops->input(e, x->e->codes, n);
            memset(codes, 0, n_codes * sizeof *codes);
            st = x->ops->run(e, state, 0, n, &x->err);
        }
        if (st == UTTER_OK && !x->ops->output(e, x->e->pcm, &x->err))
            st = x->err.status;
        s[i] = (ut_time_now() - start) / 10;
    }
    if (st != UTTER_OK)
        return st;
    const double ms = figures_median(s + 1, ROUNDS) * 1e3;
    char name[32];
    printf("codec, %d frame%s of %d slot%s at a time  %8.3f ms\n", (int)n, n == 1 ? "" : "s",
           x->slots, x->slots == 1 ? "" : "s", ms);
    snprintf(name, sizeof name, "codec_%d_ms", (int)n);
    figures_put(&x->figures, name, x->slots, ms);
    return UTTER_OK;
}

static void report_memory(bench *x)
{
    utter_engine_info i;
    utter_engine_info_init(&i);
    if (utter_engine_get_info(x->e, &i) != UTTER_OK)
        return;
    const size_t states = ((const cu_state *)x->e->batches->ar)->bytes +
                          ((const cu_state *)x->e->batches->codec)->bytes;
    const double used = (double)(i.device_total - i.device_free) / 1e6;
    const double prefill = (double)x->ops->exec_bytes(x->e->prefill) / 1e6;
    double frames = 0, codec = 0;
    for (int k = 0; k < x->e->n_frames; k++) {
        frames += (double)x->ops->exec_bytes(x->e->frames[k]) / 1e6;
        codec += (double)x->ops->exec_bytes(x->e->decode[k]) / 1e6;
    }
    const double plans = prefill + frames + codec;
    printf("memory: %.0f MB in use on the device; %.0f MB of weights, states %.0f MB, plans %.0f "
           "MB (frames %.0f, prefill %.0f, codec %.0f; %d slots)\n",
           used, (double)i.weight_bytes / 1e6, (double)states / 1e6, plans, frames, prefill, codec,
           x->slots);
    figures_put(&x->figures, "memory_mb", x->slots, used);
    figures_put(&x->figures, "weights_mb", x->slots, (double)i.weight_bytes / 1e6);
    figures_put(&x->figures, "states_mb", x->slots, (double)states / 1e6);
    figures_put(&x->figures, "plans_mb", x->slots, plans);
}

/* ---- Soak ------------------------------------------------------------------------------------ */

/* Utterance number i: prompts and frames of many lengths, every third one given up. */
static utter_status soak_one(bench *x, int32_t i)
{
    utter_status st = read_prompt(x, 0, 20 + 37 * i % SOAK_LENGTHS, 4 + i % 13);
    if (st == UTTER_OK && i % 3)
        return speak(x);
    return st == UTTER_OK ? ut_session_more(x->sessions[0], never, NULL, &x->err) : st;
}

static utter_status soak(bench *x)
{
    const int32_t warm = SOAK_LENGTHS; /* until graphs of all lengths have been made */
    size_t device[2] = {0}, host[2] = {0}, total;
    const double start = ut_time_now();
    utter_status st = UTTER_OK;
    for (int32_t i = 0; i < warm + x->o.soak && st == UTTER_OK; i++) {
        st = soak_one(x, i);
        if (i == warm - 1 || i == warm + x->o.soak - 1) {
            const int at = i >= warm;
            x->ops->memory(x->e->backend, &device[at], &total);
            host[at] = ut_current_rss();
        }
    }
    if (st != UTTER_OK)
        return st;
    printf("%d utterances in %.1f s; free on the device %.1f MB, then %.1f MB; of the process %.1f "
           "MB, then %.1f MB\n",
           (int)x->o.soak, ut_time_now() - start, (double)device[0] / 1e6, (double)device[1] / 1e6,
           (double)host[0] / 1e6, (double)host[1] / 1e6);
    if (device[1] < device[0] || host[1] > host[0] + (2 << 20))
        return ut_fail(&x->err, UTTER_ERR_INTERNAL, "memory is not flat");
    return UTTER_OK;
}

/* ---- All ------------------------------------------------------------------------------------- */

static int32_t longest_prompt(const bench *x)
{
    return x->m->ar.max_prompt < LONG_PROMPT ? x->m->ar.max_prompt : LONG_PROMPT;
}

static utter_status profile_all(bench *x)
{
    const ut_batch *b = x->e->batches;
    utter_status st = read_prompt(x, 0, x->o.prompt, 20);
    if (st == UTTER_OK)
        st = cuda_profile("frame", x->e->frames[x->e->n_frames - 1], b->ar, 1, &x->err);
    if (st == UTTER_OK)
        st = cuda_profile_phases(x->e->frames[x->e->n_frames - 1], b->ar, &x->err);
    const int last = x->e->n_frames - 1;
    const int32_t longest = x->e->decode_max_t[last];
    if (st == UTTER_OK)
        st = cuda_profile("codec, 1 frame", x->e->decode[last], b->codec, 1, &x->err);
    if (st == UTTER_OK && longest > 1)
        st = cuda_profile("codec, frames of a long run", x->e->decode[last], b->codec, longest,
                          &x->err);
    if (x->slots > 1 || st != UTTER_OK)
        return st;
    x->ops->state_reset(b->ar, 0);
    st = cuda_profile("prefill", x->e->prefill, b->ar, longest_prompt(x) / 2, &x->err);
    return st;
}

static utter_status bench_slots(bench *x, int slots)
{
    double start;
    x->frames = slots > 1 && x->o.frames > MANY_FRAMES ? MANY_FRAMES : x->o.frames;
    utter_status st = open_engine(x, slots, &start);
    if (st == UTTER_OK && slots == 1) {
        st = read_prompt(x, 0, x->o.prompt, 1);
        if (st == UTTER_OK)
            st = ut_session_more(x->sessions[0], never, NULL, &x->err);
        const double loaded = ut_time_now() - start;
        if (st == UTTER_OK)
            printf("from the start of loading to the first sound  %.2f s\n", loaded);
        if (st == UTTER_OK)
            figures_put(&x->figures, "load_to_first_pcm_ms", 1, loaded * 1e3);
        if (st == UTTER_OK)
            st = report_start(x, x->o.prompt, true);
        if (st == UTTER_OK)
            st = report_start(x, x->o.prompt, false);
        if (st == UTTER_OK)
            st = report_start(x, longest_prompt(x), false);
    }
    const int32_t longest = st == UTTER_OK ? x->e->decode_max_t[x->e->n_frames - 1] : 0;
    static const int32_t frames[] = {1, 4, 8, 16, 64, 128};
    for (int i = 0; i < 6 && st == UTTER_OK; i++)
        if (frames[i] <= longest)
            st = report_codec(x, frames[i]);
    if (st == UTTER_OK)
        st = report_generation(x);
    if (st == UTTER_OK)
        report_memory(x);
    if (st == UTTER_OK && x->o.profile)
        st = profile_all(x);
    close_engine(x);
    return st;
}

/* "2,4,8" */
static bool parse_sizes(options *o, const char *text)
{
    o->n_sizes = 0;
    for (const char *at = text; *at;) {
        char *end;
        const long n = strtol(at, &end, 10);
        if (end == at || n < 1 || n > UT_MAX_SLOTS || o->n_sizes == MAX_SIZES ||
            (*end && *end != ','))
            return false;
        if (n > 1) /* one slot is always measured */
            o->sizes[o->n_sizes++] = (int)n;
        at = *end ? end + 1 : end;
    }
    return *text;
}

static bool number(const char *name, const char *value, const char *option, int32_t *out)
{
    if (strcmp(name, option) != 0)
        return false;
    *out = (int32_t)atoi(value);
    return true;
}

static bool parse(options *o, int argc, char **argv)
{
    static const char *const precisions[] = {"auto", "f32", "bf16", "f16", "int8", "int4"};
    static const char *const frames_as[] = {"auto", "steps", "phases", "whole"};
    int32_t device = 0;
    *o = (options){.frames = 400, .prompt = 100};
    for (int i = 1; i < argc; i++) {
        const char *value = i + 1 < argc ? argv[i + 1] : "";
        if (strcmp(argv[i], "--profile") == 0) {
            o->profile = true;
            continue;
        }
        if (argv[i][0] != '-' && !o->dir) {
            o->dir = argv[i];
            continue;
        }
        if (strcmp(argv[i], "--frames-as") == 0) {
            for (int k = 0; k < 4; k++)
                if (strcmp(value, frames_as[k]) == 0)
                    o->frame_kernel = (cu_frames)k;
        } else if (strcmp(argv[i], "--precision") == 0) {
            for (size_t k = 0; k < sizeof precisions / sizeof precisions[0]; k++)
                if (strcmp(value, precisions[k]) == 0)
                    o->backend.precision = (ut_precision)k;
        } else if (strcmp(argv[i], "--slots") == 0) {
            if (!parse_sizes(o, value))
                return false;
        } else if (strcmp(argv[i], "--json") == 0) {
            o->json = value;
        } else if (!number(argv[i], value, "--device", &device) &&
                   !number(argv[i], value, "--frames", &o->frames) &&
                   !number(argv[i], value, "--prompt", &o->prompt) &&
                   !number(argv[i], value, "--soak", &o->soak)) {
            return false;
        }
        i++;
    }
    o->backend.device = device;
    return o->dir && o->frames > 0 && o->prompt > 0 && o->soak >= 0;
}

int main(int argc, char **argv)
{
    bench x = {0};
    if (!parse(&x.o, argc, argv)) {
        fprintf(stderr, "usage: bench_cuda MODEL_DIR [--device N] [--precision P] [--frames N] "
                        "[--prompt N] [--slots N,N,...] [--profile] [--json FILE] [--soak N]\n");
        return 2;
    }
    setvbuf(stdout, NULL, _IOLBF, BUFSIZ); /* what was measured shows even if time runs out */
    char text[256];
    if (!cu_probe(x.o.backend.device, text, sizeof text)) {
        printf("skipped: no CUDA device: %s\n", text);
        return 0;
    }
    if (!figures_open(&x.figures, x.o.json, "utter", x.o.dir)) {
        fprintf(stderr, "bench_cuda: cannot write %s\n", x.o.json);
        return 1;
    }
    ut_prompt_init(&x.prompt);
    utter_status st = UTTER_OK;
    if (x.o.soak > 0) {
        double start;
        st = open_engine(&x, 1, &start);
        if (st == UTTER_OK)
            st = soak(&x);
        close_engine(&x);
    } else {
        st = bench_slots(&x, 1);
        for (int i = 0; i < x.o.n_sizes && st == UTTER_OK; i++)
            st = bench_slots(&x, x.o.sizes[i]);
    }
    ut_prompt_free(&x.prompt);
    figures_close(&x.figures);
    if (st == UTTER_OK)
        return 0;
    fprintf(stderr, "bench_cuda: %s\n", x.err.msg);
    return 1;
}
