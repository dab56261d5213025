/* bench_model.c - how fast a model's plans run, beside the floors that bound them: memory bandwidth
 * for a frame of the AR loop, multiply-adds for prefill and the codec.
 *
 *     bench_model MODEL_DIR [--threads N] [--precision P] [--frames N] [--prompt N]
 *
 * Bandwidth is measured in the same run: all threads read a buffer of the size of the weights, or
 * 1 GiB where those are smaller. Figures are medians. */
#include "backends/backend.h"
#include "base/alloc.h"
#include "base/os.h"
#include "models/model.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

typedef struct options {
    const char *dir;
    ut_backend_params backend;
    int32_t frames, prompt;
} options;

typedef struct bench {
    options o;
    ut_model *m;
    const ut_backend_ops *ops;
    ut_backend *b;
    ut_err err;
} bench;

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

/* ---- Bandwidth ------------------------------------------------------------------------------ */

typedef struct reader {
    const uint64_t *data;
    size_t n;
    uint64_t sum; /* so that the reads cannot be left out */
} reader;

static void read_all(void *arg)
{
    reader *r = arg;
    uint64_t s[8] = {0};
    for (size_t i = 0; i + 8 <= r->n; i += 8)
        for (size_t k = 0; k < 8; k++)
            s[k] += r->data[i + k];
    for (size_t k = 0; k < 8; k++)
        r->sum += s[k];
}

/* Bytes per second that `threads` threads read from memory together; 0: no memory. */
static double read_bandwidth(int threads, size_t bytes)
{
    enum { MAX_THREADS = 64, ROUNDS = 5 };
    if (threads > MAX_THREADS)
        threads = MAX_THREADS;
    uint64_t *data = ut_malloc(bytes);
    if (!data)
        return 0;
    memset(data, 1, bytes);
    double seconds[ROUNDS];
    for (int round = 0; round < ROUNDS; round++) {
        reader r[MAX_THREADS];
        ut_thread *t[MAX_THREADS];
        const size_t n = bytes / sizeof *data / (size_t)threads;
        const double start = ut_time_now();
        for (int i = 0; i < threads; i++) {
            r[i] = (reader){.data = data + (size_t)i * n, .n = n};
            t[i] = i ? ut_thread_start(read_all, &r[i], i) : NULL;
        }
        read_all(&r[0]);
        for (int i = 1; i < threads; i++)
            ut_thread_join(t[i]);
        seconds[round] = ut_time_now() - start;
    }
    ut_free(data);
    return (double)bytes / median(seconds, ROUNDS);
}

/* ---- The AR loop ---------------------------------------------------------------------------- */

/* cpu_ms: processor time of all threads per frame, which says more than time on a busy machine. */
static utter_status run_frames(bench *x, ut_exec *prefill, ut_exec *frame, ut_state *s, double *ms,
                               double *cpu_ms, double *prefill_ms)
{
    static const float params[UT_SP_COUNT] = {
        [UT_SP_TEMPERATURE] = 0.8f, [UT_SP_TOP_P] = 0.8f, [UT_SP_REPETITION_PENALTY] = 1.1f};
    const ut_ar *ar = &x->m->ar;
    int32_t *ids = x->ops->input(prefill, ut_plan_find(ar->prefill, "tokens"), x->o.prompt);
    memset(ids, 0, (size_t)x->o.prompt * (size_t)ar->columns * sizeof *ids);
    int32_t column[64];
    x->ops->state_reset(s, 0);
    x->ops->state_write(s, ar->params, 0, 0, 1, params);
    double start = ut_time_now();
    utter_status st = x->ops->run(prefill, s, 0, x->o.prompt, &x->err);
    if (st == UTTER_OK)
        st = x->ops->ring_wait(s, ar->ring, 0, 0, column, &x->err);
    *prefill_ms = (ut_time_now() - start) * 1e3;
    const clock_t cpu_start = clock();
    for (int32_t f = 0; st == UTTER_OK && f < x->o.frames; f++) {
        start = ut_time_now();
        st = x->ops->run(frame, s, 0, 1, &x->err);
        if (st == UTTER_OK)
            st = x->ops->ring_wait(s, ar->ring, 0, f + 1, column, &x->err);
        ms[f] = (ut_time_now() - start) * 1e3;
    }
    *cpu_ms = (double)(clock() - cpu_start) * 1e3 / CLOCKS_PER_SEC / x->o.frames;
    return st;
}

static utter_status bench_ar(bench *x, double bandwidth)
{
    const ut_ar *ar = &x->m->ar;
    ut_exec *prefill = NULL, *frame = NULL;
    ut_state *s = NULL;
    double *ms = ut_calloc((size_t)x->o.frames, sizeof *ms), prefill_ms = 0, cpu_ms = 0;
    utter_status st = ms ? UTTER_OK : ut_fail(&x->err, UTTER_ERR_NOMEM, "no memory");
    const double start = ut_time_now();
    if (st == UTTER_OK)
        st = x->ops->compile(x->b, ar->prefill, 1, x->o.prompt, &prefill, &x->err);
    if (st == UTTER_OK)
        st = x->ops->compile(x->b, ar->frame, 1, 1, &frame, &x->err);
    if (st == UTTER_OK)
        st = x->ops->state_new(x->b, &ar->states, 1, &s, &x->err);
    if (st == UTTER_OK)
        printf("pack             %8.1f ms for %.0f MB\n", (ut_time_now() - start) * 1e3,
               (double)x->ops->weight_bytes(x->b) / 1e6);
    if (st == UTTER_OK)
        st = run_frames(x, prefill, frame, s, ms, &cpu_ms, &prefill_ms);
    if (st == UTTER_OK) {
        const double each = median(ms, x->o.frames);
        const double bytes = (double)ut_plan_matrix_bytes(ar->frame, x->o.backend.precision);
        const double floor_ms = bytes / bandwidth * 1e3;
        const double audio_ms = 1e3 * x->m->codec.hop_samples / x->m->info.sample_rate;
        printf("prefill          %8.1f ms for %d positions\n", prefill_ms, (int)x->o.prompt);
        printf("frame            %8.3f ms   RTF %.4f   %.3f ms of processor time\n", each,
               each / audio_ms, cpu_ms);
        printf(
            "  floor          %8.3f ms   %.1f MB of weights at %.1f GB/s; measured / floor %.2f\n",
            floor_ms, bytes / 1e6, bandwidth / 1e9, each / floor_ms);
    }
    if (s)
        x->ops->state_free(s);
    if (frame)
        x->ops->exec_free(frame);
    if (prefill)
        x->ops->exec_free(prefill);
    ut_free(ms);
    return st;
}

/* ---- The codec ------------------------------------------------------------------------------ */

/* Multiply-adds of the plan's linears for one codec frame (T = 1). */
static double linear_macs(const ut_plan *p)
{
    double n = 0;
    for (int32_t i = 0; i < p->n_ops; i++) {
        const ut_op *op = &p->ops[i];
        if (op->kind == UT_OP_LINEAR)
            n += (double)ut_tensor_rows(&p->tensors[op->out[0]], 1) * op->w[0]->rows *
                 op->w[0]->cols;
    }
    return n;
}

static utter_status bench_codec(bench *x, const char *name, const ut_plan *plan,
                                const ut_state_set *set, const char *input)
{
    enum { ROUNDS = 5 };
    const ut_codec *c = &x->m->codec;
    const double audio_ms = 1e3 * c->hop_samples / x->m->info.sample_rate;
    ut_exec *e = NULL;
    ut_state *s = NULL;
    utter_status st = x->ops->compile(x->b, plan, 1, c->max_frames, &e, &x->err);
    if (st == UTTER_OK)
        st = x->ops->state_new(x->b, set, 1, &s, &x->err);
    for (int32_t chunk = 1; st == UTTER_OK && chunk <= c->max_frames; chunk *= 4) {
        double ms[ROUNDS];
        const ut_tid t = ut_plan_find(plan, input);
        for (int round = 0; st == UTTER_OK && round < ROUNDS; round++) {
            void *in = x->ops->input(e, t, chunk);
            memset(in, 0,
                   (size_t)ut_tensor_rows(&plan->tensors[t], chunk) *
                       (size_t)plan->tensors[t].cols * 4);
            const double start = ut_time_now();
            st = x->ops->run(e, s, 0, chunk, &x->err);
            if (st == UTTER_OK)
                x->ops->output(e, ut_plan_find(plan, strcmp(input, "pcm") ? "pcm" : "codes"),
                               &x->err);
            ms[round] = (ut_time_now() - start) * 1e3;
        }
        const double each = median(ms, ROUNDS) / chunk;
        printf("%s x%-2d %8.3f ms per frame   RTF %.4f   %.1f G multiply-adds/s\n", name,
               (int)chunk, each, each / audio_ms, linear_macs(plan) / each / 1e6);
    }
    if (s)
        x->ops->state_free(s);
    if (e)
        x->ops->exec_free(e);
    return st;
}

/* ---- All of it ------------------------------------------------------------------------------ */

static bool parse(options *o, int argc, char **argv)
{
    static const char *const precisions[] = {"auto", "f32", "bf16", "f16", "int8", "int4"};
    *o = (options){.frames = 30, .prompt = 100};
    for (int i = 1; i < argc; i++) {
        const char *value = i + 1 < argc ? argv[i + 1] : "";
        if (strcmp(argv[i], "--threads") == 0)
            o->backend.threads = atoi(value);
        else if (strcmp(argv[i], "--frames") == 0)
            o->frames = atoi(value);
        else if (strcmp(argv[i], "--prompt") == 0)
            o->prompt = atoi(value);
        else if (strcmp(argv[i], "--precision") == 0) {
            for (size_t k = 0; k < sizeof precisions / sizeof precisions[0]; k++)
                if (strcmp(value, precisions[k]) == 0)
                    o->backend.precision = (ut_precision)k;
        } else if (argv[i][0] != '-' && !o->dir) {
            o->dir = argv[i];
            continue;
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
        fprintf(stderr, "usage: bench_model MODEL_DIR [--threads N] [--precision P] [--frames N] "
                        "[--prompt N]\n");
        return 2;
    }
    const double start = ut_time_now();
    utter_status st = ut_model_open(&x.m, x.o.dir, NULL, &x.err);
    const double open_ms = (ut_time_now() - start) * 1e3;
    if (st == UTTER_OK)
        st = ut_backend_open(&x.b, "cpu", &x.o.backend, &x.err);
    if (st == UTTER_OK) {
        char text[256];
        x.ops = x.b->ops;
        x.ops->describe(x.b, text, sizeof text);
        printf("%s, %s\n%s\nopen             %8.1f ms\n", x.o.dir, x.m->info.summary, text,
               open_ms);
        const int threads = x.o.backend.threads ? x.o.backend.threads : ut_physical_cores();
        const size_t least = (size_t)1 << 30;
        const size_t weights = (size_t)ut_plan_matrix_bytes(x.m->ar.frame, x.o.backend.precision);
        st = bench_ar(&x, read_bandwidth(threads, weights > least ? weights : least));
    }
    if (st == UTTER_OK)
        st = bench_codec(&x, "codec decode", x.m->codec.decode, &x.m->codec.decode_states, "codes");
    if (st == UTTER_OK)
        st = bench_codec(&x, "codec encode", x.m->codec.encode, &x.m->codec.encode_states, "pcm");
    if (st != UTTER_OK)
        fprintf(stderr, "bench_model: %s\n", x.err.msg);
    if (x.b)
        x.ops->close(x.b);
    ut_model_free(x.m);
    return st == UTTER_OK ? 0 : 1;
}
