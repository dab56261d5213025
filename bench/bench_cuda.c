/* bench_cuda.c - a model on a GPU, end to end: the figures that docs/performance.md reports.
 *
 *     bench_cuda MODEL_DIR [--device N] [--precision auto|f32|bf16|f16] [--frames N] [--prompt N]
 *                [--slots N] [--frames-as auto|steps|phases|whole] [--profile]
 *
 * End-of-speech is ignored; figures are medians of ROUNDS after one round of warming up. --profile
 * also times every operation of a frame and of a codec run by itself. */
#include "backends/backend.h"
#include "backends/cuda/exec.h"
#include "backends/cuda/frame.h"
#include "base/alloc.h"
#include "base/os.h"
#include "models/model.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { ROUNDS = 5, AHEAD = 8, CODEC_CHUNK = 8, MAX_COLUMNS = 64 };

typedef struct options {
    const char *dir;
    ut_backend_params backend;
    int32_t frames, prompt, slots;
    bool profile;
    cu_frames frame_kernel;
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
    double frame_ms; /* of audio */
    ut_err err;
} bench;

static const float sampling[UT_SP_COUNT] = {
    [UT_SP_TEMPERATURE] = 0.8f, [UT_SP_TOP_P] = 0.8f, [UT_SP_REPETITION_PENALTY] = 1.1f};

static int by_value(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double median(double *v, int n)
{
    qsort(v, (size_t)n, sizeof *v, by_value);
    return v[n / 2];
}

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
        x->ops->state_write(x->ar, ar->params, slot, 0, 1, sampling);
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

/* o.frames frames, started AHEAD of the one being read; with the codec beside them or not. Seconds
 * of the whole. */
static utter_status generate(bench *x, bool with_codec, double *seconds)
{
    int32_t *codes = ut_calloc((size_t)x->slots * CODEC_CHUNK * MAX_COLUMNS, sizeof *codes);
    utter_status st =
        codes ? read_prompts(x, x->o.prompt) : ut_fail(&x->err, UTTER_ERR_NOMEM, "no memory");
    const double start = ut_time_now();
    int32_t started = 0;
    bool speaking = false;
    for (int32_t f = 1; st == UTTER_OK && f <= x->o.frames; f++) {
        for (; st == UTTER_OK && started < x->o.frames && started < f + AHEAD; started++)
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
        ms[codec] = median(s[codec] + 1, ROUNDS) * 1e3 / x->o.frames;
    printf("%2d slot%s  frame %8.3f ms, RTF %.4f; with the codec %8.3f ms, RTF %.4f (%+.1f %%); "
           "%.1f s of audio per s\n",
           x->slots, x->slots == 1 ? " " : "s", ms[0], ms[0] / x->frame_ms, ms[1],
           ms[1] / x->frame_ms, 100 * (ms[1] / ms[0] - 1), x->slots * x->frame_ms / ms[1]);
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
    if (st == UTTER_OK)
        printf("prefill %5d tokens, to frame 0   %8.3f ms\n", (int)n, median(s + 1, ROUNDS) * 1e3);
    return st;
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
    if (st == UTTER_OK)
        printf("first sound, prompt of %d tokens  %8.3f ms\n", (int)x->o.prompt,
               median(s + 1, ROUNDS) * 1e3);
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
    if (st == UTTER_OK)
        printf("codec, %d frame%s of %d slot%s at a time  %8.3f ms\n", (int)n, n == 1 ? "" : "s",
               x->slots, x->slots == 1 ? "" : "s", median(s + 1, ROUNDS) * 1e3);
    ut_free(codes);
    return st;
}

static void report_memory(const bench *x)
{
    const cu_backend *b = (const cu_backend *)x->b;
    size_t free_bytes = 0, total = 0;
    b->d.mem_info(&free_bytes, &total);
    printf(
        "memory: %.0f MB in use on the device; %.0f MB of weights, states %.0f MB, plans %.0f MB "
        "(%d slots)\n",
        (double)(total - free_bytes) / 1e6, (double)x->ops->weight_bytes(x->b) / 1e6,
        (double)(((cu_state *)x->ar)->bytes + ((cu_state *)x->codec)->bytes) / 1e6,
        (double)(x->ops->exec_bytes(x->frame) + x->ops->exec_bytes(x->prefill) +
                 x->ops->exec_bytes(x->decode)) /
            1e6,
        x->slots);
}

/* ---- Profile --------------------------------------------------------------------------------- */

typedef struct line {
    char name[64];
    double us, part[5];
    int n;
} line;

static void name_op(const ut_plan *p, const ut_op *op, char *text, size_t size)
{
    if (op->kind == UT_OP_LINEAR)
        snprintf(text, size, "linear %dx%d rows %d*T+%d", (int)op->w[0]->rows, (int)op->w[0]->cols,
                 (int)p->tensors[op->in[0]].rows_per_t, (int)p->tensors[op->in[0]].rows_fixed);
    else if (op->kind == UT_OP_ATTENTION || op->kind == UT_OP_SAMPLE || op->kind == UT_OP_SNAKE)
        snprintf(text, size, "%s of %d columns, rows %d*T+%d", ut_op_name(op->kind),
                 (int)p->tensors[op->in[0]].cols, (int)p->tensors[op->in[0]].rows_per_t,
                 (int)p->tensors[op->in[0]].rows_fixed);
    else
        snprintf(text, size, "%s", ut_op_name(op->kind));
}

static int by_time(const void *a, const void *b)
{
    const double x = ((const line *)a)->us, y = ((const line *)b)->us;
    return (x < y) - (x > y);
}

static utter_status profile(bench *x, const char *title, ut_exec *e, ut_state *s, int32_t n_t)
{
    const ut_plan *p = e->plan;
    float *ms = ut_calloc((size_t)p->n_ops, sizeof *ms);
    line *lines = ut_calloc((size_t)p->n_ops, sizeof *lines);
    utter_status st = ms && lines ? UTTER_OK : ut_fail(&x->err, UTTER_ERR_NOMEM, "no memory");
    for (int i = 0; i < 2 && st == UTTER_OK; i++) /* the first one warms up */
        st = cu_run_timed(e, s, 0, n_t, ms, &x->err);
    int n = 0;
    double total = 0;
    for (int32_t i = 0; i < p->n_ops && st == UTTER_OK; i++) {
        char name[64];
        name_op(p, &p->ops[i], name, sizeof name);
        int k = 0;
        while (k < n && strcmp(lines[k].name, name) != 0)
            k++;
        if (k == n)
            snprintf(lines[n++].name, sizeof lines[0].name, "%s", name);
        lines[k].us += (double)ms[i] * 1e3;
        lines[k].n++;
        total += (double)ms[i] * 1e3;
    }
    if (st == UTTER_OK) {
        qsort(lines, (size_t)n, sizeof *lines, by_time);
        printf("%s, operations one by one: %.0f us\n", title, total);
        for (int k = 0; k < n && k < 16; k++)
            printf("  %7.1f us %4d x %6.2f  %s\n", lines[k].us, lines[k].n,
                   lines[k].us / lines[k].n, lines[k].name);
    }
    ut_free(ms);
    ut_free(lines);
    return st;
}

/* The phases of a whole frame on one block: ticks by what a phase does. */
static utter_status trace_frame(bench *x)
{
    const cu_exec *e = (const cu_exec *)x->frame;
    if (!e->frame || e->frames != CU_FRAMES_WHOLE)
        return UTTER_OK;
    const int32_t n = e->frame->n_phases;
    uint64_t *t = ut_calloc((size_t)n * CU_TRACE, sizeof *t);
    utter_status st = t ? UTTER_OK : ut_fail(&x->err, UTTER_ERR_NOMEM, "no memory");
    for (int i = 0; i < 3 && st == UTTER_OK; i++)
        st = cu_frame_traced(x->frame, x->ar, t, &x->err);
    line lines[64] = {0};
    int n_lines = 0;
    for (int32_t i = 0; i + 1 < n && st == UTTER_OK; i++) {
        const cu_fused *f = &e->frame->phases[i];
        const uint64_t *at = t + (size_t)i * CU_TRACE;
        char name[64];
        if (f->kind == CU_PHASE_SLOTS)
            snprintf(name, sizeof name, "%d of slots, first %s", (int)f->count,
                     ut_op_name(e->head.plan->ops[e->frame->slot_ops[f->first]].kind));
        else
            name_op(e->head.plan, &e->head.plan->ops[f->linear >= 0 ? f->linear : f->attention],
                    name, sizeof name);
        int k = 0;
        while (k < n_lines && strcmp(lines[k].name, name) != 0)
            k++;
        if (k == n_lines && n_lines++ < 63)
            snprintf(lines[k].name, sizeof lines[k].name, "%s", name);
        const uint64_t stamp[6] = {at[0], at[1], at[2], at[3], at[4], at[CU_TRACE]};
        for (int j = 0; j < 5; j++) {
            int next = j + 1;
            while (!stamp[next])
                next++;
            if (stamp[j])
                lines[k].part[j] += (double)(stamp[next] - stamp[j]);
        }
        lines[k].us += (double)(at[CU_TRACE] - at[0]);
        lines[k].n++;
    }
    if (st == UTTER_OK) {
        qsort(lines, (size_t)n_lines, sizeof *lines, by_time);
        printf("frame of %d phases, %.0f ticks; a phase: x there, sums there, end, arrived, all "
               "there\n",
               (int)n, (double)(t[(size_t)(n - 1) * CU_TRACE + 3] - t[0]));
        for (int k = 0; k < n_lines; k++) {
            printf("  %9.0f %4d x %7.0f  (", lines[k].us, lines[k].n, lines[k].us / lines[k].n);
            for (int j = 0; j < 5; j++)
                printf(" %6.0f", lines[k].part[j] / lines[k].n);
            printf(" )  %s\n", lines[k].name);
        }
    }
    ut_free(t);
    return st;
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
        st = profile(x, "frame", x->frame, x->ar, 1);
    if (st == UTTER_OK && x->o.profile)
        st = trace_frame(x);
    if (st == UTTER_OK && x->o.profile)
        st = profile(x, "prefill", x->prefill, x->ar, longest);
    if (st == UTTER_OK && x->o.profile)
        st = profile(x, "codec, 1 frame", x->decode, x->codec, 1);
    if (st == UTTER_OK && x->o.profile)
        st = profile(x, "codec, 8 frames", x->decode, x->codec, CODEC_CHUNK);
    close_plans(x);
    return st;
}

static utter_status bench_many(bench *x)
{
    if (x->o.slots < 2)
        return UTTER_OK;
    utter_status st = open_plans(x, x->o.slots, x->o.prompt);
    if (st == UTTER_OK)
        st = report_codec(x, CODEC_CHUNK);
    if (st == UTTER_OK)
        st = report_generation(x);
    if (st == UTTER_OK)
        report_memory(x);
    if (st == UTTER_OK && x->o.profile)
        st = profile(x, "frame", x->frame, x->ar, 1);
    close_plans(x);
    return st;
}

static bool parse(options *o, int argc, char **argv)
{
    static const char *const precisions[] = {"auto", "f32", "bf16", "f16"};
    static const char *const frames_as[] = {"auto", "steps", "phases", "whole"};
    *o = (options){.frames = 400, .prompt = 100, .slots = 1};
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
        else if (strcmp(argv[i], "--slots") == 0)
            o->slots = atoi(value);
        else if (strcmp(argv[i], "--frames-as") == 0) {
            for (int k = 0; k < 4; k++)
                if (strcmp(value, frames_as[k]) == 0)
                    o->frame_kernel = (cu_frames)k;
        } else if (strcmp(argv[i], "--precision") == 0) {
            for (int k = 0; k < 4; k++)
                if (strcmp(value, precisions[k]) == 0)
                    o->backend.precision = (ut_precision)k;
        } else {
            return false;
        }
        i++;
    }
    return o->dir && o->frames > 0 && o->prompt > 0 && o->slots > 0;
}

int main(int argc, char **argv)
{
    bench x = {0};
    if (!parse(&x.o, argc, argv)) {
        fprintf(stderr, "usage: bench_cuda MODEL_DIR [--device N] [--precision P] [--frames N] "
                        "[--prompt N] [--slots N] [--profile]\n");
        return 2;
    }
    char text[256];
    if (!cu_probe(text, sizeof text)) {
        printf("skipped: no CUDA device: %s\n", text);
        return 0;
    }
    const double start = ut_time_now();
    const ut_model_options model_options = {.max_positions = 2048};
    utter_status st = ut_model_open(&x.m, x.o.dir, &model_options, &x.err);
    if (st == UTTER_OK && x.m->ar.columns > MAX_COLUMNS)
        st = ut_fail(&x.err, UTTER_ERR_UNSUPPORTED, "more than %d columns", MAX_COLUMNS);
    if (st == UTTER_OK)
        st = ut_backend_open(&x.b, "cuda", &x.o.backend, &x.err);
    if (st == UTTER_OK) {
        ((cu_backend *)x.b)->frames = x.o.frame_kernel;
        x.ops = x.b->ops;
        x.frame_ms = 1e3 * x.m->codec.hop_samples / x.m->info.sample_rate;
        x.ops->describe(x.b, text, sizeof text);
        printf("%s\n%s\n", text, x.m->info.summary);
        st = open_plans(&x, 1, x.o.prompt);
    }
    if (st == UTTER_OK) {
        printf("loaded in %.0f ms; ", (ut_time_now() - start) * 1e3);
        int32_t *codes = ut_calloc(CODEC_CHUNK * MAX_COLUMNS, sizeof *codes);
        st = codes ? read_prompts(&x, x.o.prompt) : UTTER_ERR_NOMEM;
        if (st == UTTER_OK)
            st = speak(&x, codes, 1);
        if (st == UTTER_OK)
            st = fetch_sound(&x);
        printf("to the first sound %.0f ms\n", (ut_time_now() - start) * 1e3);
        ut_free(codes);
        close_plans(&x);
    }
    if (st == UTTER_OK)
        st = bench_one(&x);
    if (st == UTTER_OK)
        st = bench_many(&x);
    if (st != UTTER_OK)
        fprintf(stderr, "bench_cuda: %s\n", x.err.msg);
    if (x.b)
        x.ops->close(x.b);
    ut_model_free(x.m);
    return st == UTTER_OK ? 0 : 1;
}
