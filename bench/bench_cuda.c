/* bench_cuda.c - a model on a GPU, end to end: the figures that docs/performance.md reports.
 *
 *     bench_cuda MODEL_DIR [--device N] [--precision auto|f32|bf16|f16] [--frames N] [--prompt N]
 *                [--slots N,N,...] [--profile] [--json FILE]
 *
 * End-of-speech is ignored; figures are medians of ROUNDS after one round of warming up. --slots:
 * after one slot, also this many at a time, for MANY_FRAMES frames. --profile also times every
 * operation of a frame and of a codec run by itself. --json appends every figure to a file. */
#include "backends/backend.h"
#include "backends/cuda/exec.h"
#include "base/alloc.h"
#include "base/os.h"
#include "cuda_profile.h"
#include "figures.h"
#include "models/model.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { ROUNDS = 5, AHEAD = 8, CODEC_CHUNK = 8, MAX_COLUMNS = 64, MANY_FRAMES = 100, MAX_SIZES = 8 };

typedef struct options {
    const char *dir;
    ut_backend_params backend;
    int32_t frames, prompt;
    int sizes[MAX_SIZES], n_sizes; /* --slots */
    const char *json;
    bool profile;
} options;

typedef struct bench {
    options o;
    ut_model *m;
    const ut_backend_ops *ops;
    ut_backend *b;
    ut_exec *prefill, *frame, *decode; /* of `slots` slots; prefill always of one */
    ut_state *ar, *codec;
    int slots;
    int32_t max_prompt;
    int32_t frames;  /* of a generation, beyond the prompt's */
    double frame_ms; /* of audio */
    figures figures;
    ut_err err;
} bench;

/* ---- Pieces of a generation ------------------------------------------------------------------ */

static utter_status open_plans(bench *x, int slots, int32_t max_prompt)
{
    const ut_ar *ar = &x->m->ar;
    const ut_codec *c = &x->m->codec;
    x->slots = slots;
    x->max_prompt = max_prompt;
    utter_status st = x->ops->compile(x->b, ar->frame, slots, 1, &x->frame, &x->err);
    if (st == UTTER_OK)
        st = x->ops->compile(x->b, ar->prefill, 1, max_prompt, &x->prefill, &x->err);
    if (st == UTTER_OK)
        st = x->ops->compile(x->b, c->decode, slots, CODEC_CHUNK, &x->decode, &x->err);
    if (st == UTTER_OK)
        st = x->ops->state_new(x->b, &ar->states, slots, &x->ar, &x->err);
    if (st == UTTER_OK)
        st = x->ops->state_new(x->b, &c->decode_states, slots, &x->codec, &x->err);
    return st;
}

static void close_plans(bench *x)
{
    x->ops->state_free(x->ar);
    x->ops->state_free(x->codec);
    x->ops->exec_free(x->frame);
    x->ops->exec_free(x->prefill);
    x->ops->exec_free(x->decode);
    x->ar = x->codec = NULL;
    x->frame = x->prefill = x->decode = NULL;
}

/* The model's own parameters, rows of ar.params. */
static void write_sampling(bench *x, int slot)
{
    const ut_model_defaults *d = &x->m->defaults;
    const float rows[2][UT_SP_COUNT] = {{[UT_SP_TEMPERATURE] = d->temperature,
                                         [UT_SP_TOP_P] = d->top_p,
                                         [UT_SP_REPETITION_PENALTY] = d->repetition_penalty,
                                         [UT_SP_TOP_K] = (float)d->top_k},
                                        {[UT_SP_TEMPERATURE] = d->sub_temperature,
                                         [UT_SP_TOP_P] = d->sub_top_p,
                                         [UT_SP_REPETITION_PENALTY] = 1,
                                         [UT_SP_TOP_K] = (float)d->sub_top_k}};
    const int params = x->m->ar.params;
    x->ops->state_write(x->ar, params, slot, 0, x->m->ar.states.def[params].rows, rows);
}

/* Every slot reads a prompt of n tokens; frame 0 of all is in the ring afterwards. */
static utter_status read_prompts(bench *x, int32_t n)
{
    const ut_ar *ar = &x->m->ar;
    utter_status st = UTTER_OK;
    int32_t column[MAX_COLUMNS];
    for (int slot = 0; slot < x->slots && st == UTTER_OK; slot++) {
        const int32_t rng[UT_RNG_COUNT] = {slot + 1, 0};
        x->ops->state_reset(x->ar, slot);
        x->ops->state_reset(x->codec, slot);
        write_sampling(x, slot);
        x->ops->state_write(x->ar, ar->rng, slot, 0, 1, rng);
        int32_t *ids = x->ops->input(x->prefill, ut_plan_find(ar->prefill, "tokens"), n);
        for (int32_t i = 0; i < n * ar->columns; i++)
            ids[i] = i % ar->columns ? 0 : 100 + 37 * (i / ar->columns) % 1000;
        st = x->ops->run(x->prefill, x->ar, slot, n, &x->err);
    }
    for (int slot = 0; slot < x->slots && st == UTTER_OK; slot++)
        st = x->ops->ring_wait(x->ar, ar->ring, slot, 0, column, &x->err);
    return st;
}

static utter_status take_frame(bench *x, int32_t f, int32_t *codes)
{
    const ut_ar *ar = &x->m->ar;
    const ut_codec *c = &x->m->codec;
    int32_t column[MAX_COLUMNS];
    utter_status st = UTTER_OK;
    for (int slot = 0; slot < x->slots && st == UTTER_OK; slot++) {
        st = x->ops->ring_wait(x->ar, ar->ring, slot, f, column, &x->err);
        int32_t *row = codes + ((int64_t)slot * CODEC_CHUNK + f % CODEC_CHUNK) * c->n_codebooks;
        memcpy(row, column + ar->first_code_col, (size_t)c->n_codebooks * sizeof *row);
    }
    return st;
}

/* n frames of the codec from codes [slots, CODEC_CHUNK, n_codebooks]; the last run's sound is
 * fetched by the next call, so that the codec runs beside the AR loop. */
static utter_status speak(bench *x, const int32_t *codes, int32_t n)
{
    const ut_codec *c = &x->m->codec;
    int32_t *in = x->ops->input(x->decode, ut_plan_find(c->decode, "codes"), n);
    if (!in)
        return ut_fail(&x->err, UTTER_ERR_INTERNAL, "no input");
    for (int slot = 0; slot < x->slots; slot++)
        memcpy(in + (int64_t)slot * n * c->n_codebooks,
               codes + (int64_t)slot * CODEC_CHUNK * c->n_codebooks,
               (size_t)n * (size_t)c->n_codebooks * sizeof *in);
    return x->ops->run(x->decode, x->codec, 0, n, &x->err);
}

static utter_status fetch_sound(bench *x)
{
    const void *pcm = x->ops->output(x->decode, ut_plan_find(x->m->codec.decode, "pcm"), &x->err);
    return pcm ? UTTER_OK : x->err.status;
}

/* x->frames frames, started AHEAD of the one being read; with the codec beside them or not. Seconds
 * of the whole. */
static utter_status generate(bench *x, bool with_codec, double *seconds)
{
    int32_t *codes = ut_calloc((size_t)x->slots * CODEC_CHUNK * MAX_COLUMNS, sizeof *codes);
    utter_status st =
        codes ? read_prompts(x, x->o.prompt) : ut_fail(&x->err, UTTER_ERR_NOMEM, "no memory");
    const double start = ut_time_now();
    int32_t started = 0;
    bool speaking = false;
    for (int32_t f = 1; st == UTTER_OK && f <= x->frames; f++) {
        for (; st == UTTER_OK && started < x->frames && started < f + AHEAD; started++)
            st = x->ops->run(x->frame, x->ar, 0, 1, &x->err);
        if (st == UTTER_OK)
            st = take_frame(x, f, codes);
        if (st != UTTER_OK || !with_codec || (f + 1) % CODEC_CHUNK)
            continue;
        if (speaking)
            st = fetch_sound(x);
        if (st == UTTER_OK)
            st = speak(x, codes, CODEC_CHUNK);
        speaking = true;
    }
    if (st == UTTER_OK && speaking)
        st = fetch_sound(x);
    *seconds = ut_time_now() - start;
    ut_free(codes);
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

static utter_status report_prefill(bench *x, int32_t n)
{
    double s[ROUNDS + 1];
    utter_status st = UTTER_OK;
    for (int i = 0; i <= ROUNDS && st == UTTER_OK; i++) {
        const double start = ut_time_now();
        st = read_prompts(x, n);
        s[i] = ut_time_now() - start;
    }
    if (st != UTTER_OK)
        return st;
    const double ms = figures_median(s + 1, ROUNDS) * 1e3;
    char name[32];
    snprintf(name, sizeof name, "prefill_%d_ms", (int)n);
    printf("prefill %5d tokens, to frame 0   %8.3f ms\n", (int)n, ms);
    figures_put(&x->figures, name, 1, ms);
    return UTTER_OK;
}

/* From the prompt's ids to the first samples. */
static utter_status report_first_sound(bench *x)
{
    double s[ROUNDS + 1];
    int32_t *codes = ut_calloc(CODEC_CHUNK * MAX_COLUMNS, sizeof *codes);
    utter_status st = codes ? UTTER_OK : ut_fail(&x->err, UTTER_ERR_NOMEM, "no memory");
    for (int i = 0; i <= ROUNDS && st == UTTER_OK; i++) {
        const double start = ut_time_now();
        st = read_prompts(x, x->o.prompt);
        if (st == UTTER_OK)
            st = take_frame(x, 0, codes);
        if (st == UTTER_OK)
            st = speak(x, codes, 1);
        if (st == UTTER_OK)
            st = fetch_sound(x);
        s[i] = ut_time_now() - start;
    }
    if (st == UTTER_OK) {
        const double ms = figures_median(s + 1, ROUNDS) * 1e3;
        printf("first sound, prompt of %d tokens  %8.3f ms\n", (int)x->o.prompt, ms);
        figures_put(&x->figures, "first_pcm_ms", 1, ms);
    }
    ut_free(codes);
    return st;
}

static utter_status report_codec(bench *x, int32_t n)
{
    double s[ROUNDS + 1];
    int32_t *codes = ut_calloc((size_t)x->slots * CODEC_CHUNK * MAX_COLUMNS, sizeof *codes);
    utter_status st = codes ? UTTER_OK : ut_fail(&x->err, UTTER_ERR_NOMEM, "no memory");
    for (int i = 0; i <= ROUNDS && st == UTTER_OK; i++) {
        const double start = ut_time_now();
        for (int k = 0; k < 10 && st == UTTER_OK; k++)
            st = speak(x, codes, n);
        if (st == UTTER_OK)
            st = fetch_sound(x);
        s[i] = (ut_time_now() - start) / 10;
    }
    if (st == UTTER_OK) {
        const double ms = figures_median(s + 1, ROUNDS) * 1e3;
        printf("codec, %d frame%s of %d slot%s at a time  %8.3f ms\n", (int)n, n == 1 ? "" : "s",
               x->slots, x->slots == 1 ? "" : "s", ms);
        figures_put(&x->figures, n == 1 ? "codec_1_ms" : "codec_8_ms", x->slots, ms);
    }
    ut_free(codes);
    return st;
}

static void report_memory(const bench *x)
{
    const cu_backend *b = (const cu_backend *)x->b;
    size_t free_bytes = 0, total = 0;
    b->d.mem_info(&free_bytes, &total);
    const size_t weights = x->ops->weight_bytes(x->b);
    const size_t states = ((cu_state *)x->ar)->bytes + ((cu_state *)x->codec)->bytes;
    const size_t plans = x->ops->exec_bytes(x->frame) + x->ops->exec_bytes(x->prefill) +
                         x->ops->exec_bytes(x->decode);
    printf("memory: %.0f MB in use on the device; %.0f MB of weights, states %.0f MB, plans %.0f "
           "MB (%d slots)\n",
           (double)(total - free_bytes) / 1e6, (double)weights / 1e6, (double)states / 1e6,
           (double)plans / 1e6, x->slots);
    figures_put(&x->figures, "memory_mb", x->slots, (double)(total - free_bytes) / 1e6);
    figures_put(&x->figures, "weights_mb", x->slots, (double)weights / 1e6);
    figures_put(&x->figures, "states_mb", x->slots, (double)states / 1e6);
    figures_put(&x->figures, "plans_mb", x->slots, (double)plans / 1e6);
}

/* ---- All ------------------------------------------------------------------------------------- */

static utter_status bench_one(bench *x)
{
    const int32_t longest = x->m->ar.max_prompt < 1000 ? x->m->ar.max_prompt : 1000;
    utter_status st = open_plans(x, 1, longest);
    if (st == UTTER_OK)
        st = report_first_sound(x);
    if (st == UTTER_OK)
        st = report_prefill(x, x->o.prompt);
    if (st == UTTER_OK)
        st = report_prefill(x, longest);
    for (int32_t n = 1; n <= CODEC_CHUNK && st == UTTER_OK; n *= 8)
        st = report_codec(x, n);
    if (st == UTTER_OK)
        st = report_generation(x);
    if (st == UTTER_OK)
        report_memory(x);
    if (st == UTTER_OK && x->o.profile)
        st = cuda_profile("frame", x->frame, x->ar, 1, &x->err);
    if (st == UTTER_OK && x->o.profile)
        st = cuda_profile("prefill", x->prefill, x->ar, longest, &x->err);
    if (st == UTTER_OK && x->o.profile)
        st = cuda_profile("codec, 1 frame", x->decode, x->codec, 1, &x->err);
    if (st == UTTER_OK && x->o.profile)
        st = cuda_profile("codec, 8 frames", x->decode, x->codec, CODEC_CHUNK, &x->err);
    close_plans(x);
    return st;
}

static utter_status bench_many(bench *x, int slots)
{
    x->frames = x->o.frames < MANY_FRAMES ? x->o.frames : MANY_FRAMES;
    utter_status st = open_plans(x, slots, x->o.prompt);
    if (st == UTTER_OK)
        st = report_codec(x, CODEC_CHUNK);
    if (st == UTTER_OK)
        st = report_generation(x);
    if (st == UTTER_OK)
        report_memory(x);
    if (st == UTTER_OK && x->o.profile)
        st = cuda_profile("frame", x->frame, x->ar, 1, &x->err);
    close_plans(x);
    return st;
}

/* From opening the model to its first samples: whatever a user waits for but the process itself. */
static utter_status open_and_speak(bench *x)
{
    const double start = ut_time_now();
    const ut_model_options model_options = {.max_positions = 2048};
    utter_status st = ut_model_open(&x->m, x->o.dir, &model_options, &x->err);
    if (st == UTTER_OK && x->m->ar.columns > MAX_COLUMNS)
        st = ut_fail(&x->err, UTTER_ERR_UNSUPPORTED, "more than %d columns", MAX_COLUMNS);
    if (st == UTTER_OK)
        st = ut_backend_open(&x->b, "cuda", &x->o.backend, &x->err);
    if (st != UTTER_OK)
        return st;
    char text[256];
    x->ops = x->b->ops;
    x->frames = x->o.frames;
    x->frame_ms = 1e3 * x->m->codec.hop_samples / x->m->info.sample_rate;
    x->ops->describe(x->b, text, sizeof text);
    printf("%s\n%s\n", text, x->m->info.summary);
    int32_t codes[CODEC_CHUNK * MAX_COLUMNS] = {0};
    st = open_plans(x, 1, x->o.prompt);
    const double loaded = (ut_time_now() - start) * 1e3;
    if (st == UTTER_OK)
        st = read_prompts(x, x->o.prompt);
    if (st == UTTER_OK)
        st = take_frame(x, 0, codes);
    if (st == UTTER_OK)
        st = speak(x, codes, 1);
    if (st == UTTER_OK)
        st = fetch_sound(x);
    const double spoken = (ut_time_now() - start) * 1e3;
    close_plans(x);
    if (st != UTTER_OK)
        return st;
    printf("loaded in %.0f ms; to the first sound %.0f ms\n", loaded, spoken);
    figures_put(&x->figures, "load_ms", 1, loaded);
    figures_put(&x->figures, "load_to_first_pcm_ms", 1, spoken);
    return UTTER_OK;
}

/* "2,4,8" */
static bool parse_sizes(options *o, const char *text)
{
    o->n_sizes = 0;
    for (const char *at = text; *at;) {
        char *end;
        const long n = strtol(at, &end, 10);
        if (end == at || n < 1 || n > 1024 || o->n_sizes == MAX_SIZES || (*end && *end != ','))
            return false;
        if (n > 1) /* one slot is always measured */
            o->sizes[o->n_sizes++] = (int)n;
        at = *end ? end + 1 : end;
    }
    return *text;
}

static bool parse(options *o, int argc, char **argv)
{
    static const char *const precisions[] = {"auto", "f32", "bf16", "f16"};
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
        if (strcmp(argv[i], "--device") == 0)
            o->backend.device = atoi(value);
        else if (strcmp(argv[i], "--frames") == 0)
            o->frames = atoi(value);
        else if (strcmp(argv[i], "--prompt") == 0)
            o->prompt = atoi(value);
        else if (strcmp(argv[i], "--json") == 0)
            o->json = value;
        else if (strcmp(argv[i], "--slots") == 0) {
            if (!parse_sizes(o, value))
                return false;
        } else if (strcmp(argv[i], "--precision") == 0) {
            for (int k = 0; k < 4; k++)
                if (strcmp(value, precisions[k]) == 0)
                    o->backend.precision = (ut_precision)k;
        } else {
            return false;
        }
        i++;
    }
    return o->dir && o->frames > 0 && o->prompt > 0;
}

int main(int argc, char **argv)
{
    bench x = {0};
    if (!parse(&x.o, argc, argv)) {
        fprintf(stderr, "usage: bench_cuda MODEL_DIR [--device N] [--precision P] [--frames N] "
                        "[--prompt N] [--slots N,N,...] [--profile] [--json FILE]\n");
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
    utter_status st = open_and_speak(&x);
    if (st == UTTER_OK)
        st = bench_one(&x);
    for (int i = 0; i < x.o.n_sizes && st == UTTER_OK; i++)
        st = bench_many(&x, x.o.sizes[i]);
    if (st != UTTER_OK)
        fprintf(stderr, "bench_cuda: %s\n", x.err.msg);
    if (x.b)
        x.ops->close(x.b);
    ut_model_free(x.m);
    figures_close(&x.figures);
    return st == UTTER_OK ? 0 : 1;
}
